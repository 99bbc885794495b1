"""Curves through points in any dimension: their order, and a smooth curve with its tangents.

Kernels on plain arrays, on the host. The graph that they work on is the minimum spanning tree of
the points, as SciPy finds it. On a line, its longest path is the line.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

CLOSING_GAPS = 2.0
"""A curve is closed if its ends are no farther apart than this many times its largest gap: the tree
leaves out a ring's largest gap, which is hardly larger than the next, and a line's ends are as far
apart as all its gaps together."""

CLOSING_SHARE = 1 / 3
"""The ends of a closed curve are at most this share of its length apart, as in a square, so that a
few points on a line are no ring."""

NEIGHBOURS = 2
"""The fit at a point is as wide as the way to its second nearest neighbour, so that it rests on two
or three points on either side: ten points are enough for a ring."""

LEAST_BANDWIDTH = 1e-3
"""The width of a fit is at least this share of the length: places may be close to one another."""

SAME_PLACE = 1e-9
"""Points are at one place if this share of the length or less is between them: rounding. These are
equal points, and those of a branch of the tree."""

LEAST_POINTS = 5
"""Through any few points there is a curve, which says nothing."""


class Order(NamedTuple):
    """Where points are along a curve.

    Attributes:
        place: `[n]` how far along the curve each point is.
        length: of the whole curve, with its closing gap if it has one.
        is_closed: whether the curve is a ring.
    """

    place: Float[np.ndarray, " n"]
    length: float
    is_closed: bool


def spanning_tree(x: Float[np.ndarray, "n d"]) -> Any:
    """Return the minimum spanning tree of points, a sparse matrix `[n, n]` of edge lengths."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import minimum_spanning_tree
    from scipy.spatial.distance import pdist

    tiny = np.finfo(float).tiny  # an edge of length 0 would be no edge
    # Of a matrix that is not sparse, SciPy would drop edges below 1e-8, whatever the unit.
    edges = coo_array((np.maximum(pdist(x), tiny), np.triu_indices(len(x), 1)), (len(x), len(x)))
    return minimum_spanning_tree(edges.tocsr())


def order_along(x: Float[np.ndarray, "n d"]) -> Order:
    """Order points along the longest path of their tree, onto which its branches are projected.

    Where a branch leaves the path is where its points are along it.
    """
    from scipy.sparse.csgraph import shortest_path

    tree = spanning_tree(x)

    def along_tree(start: int) -> Any:
        return shortest_path(tree, directed=False, indices=start, return_predecessors=True)

    first = int(np.argmax(along_tree(0)[0]))
    from_first, before = along_tree(first)
    last = int(np.argmax(from_first))
    from_last, _ = along_tree(last)
    length = float(from_first[last])
    place = (from_first + length - from_last) / 2
    closing = float(np.linalg.norm(x[first] - x[last]))
    path = [last]
    while path[-1] != first:
        path.append(int(before[path[-1]]))
    largest = np.linalg.norm(np.diff(x[path], axis=0), axis=1).max(initial=0.0)
    is_closed = closing <= CLOSING_GAPS * largest and closing <= CLOSING_SHARE * length
    return Order(place, length + closing if is_closed else length, bool(is_closed))


def same_side(
    x: Float[np.ndarray, "n d"], vectors: Float[np.ndarray, "n d"], first: int
) -> Int[np.ndarray, " n"]:
    """Return signs that turn each vector to the side of its neighbour's in the points' tree.

    Args:
        x: the points.
        vectors: a vector at each.
        first: the point whose vector stays as it is.
    """
    from scipy.sparse.csgraph import breadth_first_order

    order, before = breadth_first_order(spanning_tree(x), first, directed=False)
    signs = np.ones(len(x), int)
    for i in order[1:]:
        agree = vectors[i] @ vectors[before[i]]
        signs[i] = signs[before[i]] * (-1 if agree < 0 else 1)
    return signs


class Curve(NamedTuple):
    """A smooth curve near points.

    Attributes:
        position: `[n, d]` the curve's point for each point.
        tangent: `[n, d]` its direction there, of norm 1.
        own_weight: `[n]` how much a point draws the curve to itself, from 0 to 1.
    """

    position: Float[np.ndarray, "n d"]
    tangent: Float[np.ndarray, "n d"]
    own_weight: Float[np.ndarray, " n"]


def smooth(
    x: Float[np.ndarray, "n d"], order: Order, counts: Bool[np.ndarray, " n"] | None = None
) -> Curve:
    """Fit a parabola to the neighbours of each point along a curve, after Cleveland (1979).

    Neighbours weigh by a Gaussian of their distance along the curve. Only those in `counts` draw
    the curve; by default all do.
    """
    step = order.place - order.place[:, None]  # [n, n] from each point to all
    if order.is_closed:
        step = (step + order.length / 2) % order.length - order.length / 2
    # Of points at one place, only one counts: a curve through a single place has no direction.
    by_place = np.argsort(order.place, kind="stable")
    is_first = np.diff(order.place[by_place], prepend=-np.inf) > SAME_PLACE * order.length
    apart = np.abs(step[:, by_place[is_first]])
    reach = np.sort(apart, axis=1)[:, min(NEIGHBOURS, apart.shape[1] - 1)]
    width = np.maximum(reach, LEAST_BANDWIDTH * order.length)[:, None]
    root = np.exp(-((step / width) ** 2) / 4)  # of the weights
    root = root if counts is None else root * counts
    terms = root[:, :, None] * np.stack([np.ones_like(step), step / width, (step / width) ** 2], -1)
    fit = np.linalg.pinv(terms) * root[:, None, :]  # [n, 3, n] from points to a parabola
    slope = fit[:, 1] @ x
    size = np.linalg.norm(slope, axis=1, keepdims=True)
    tangent = slope / np.where(size > 0, size, np.nan)
    return Curve(fit[:, 0] @ x, tangent, np.diagonal(fit[:, 0]))


def projected(x: Float[np.ndarray, "n d"], curve: Curve, order: Order) -> Order:
    """Return the order in which points are along a smooth curve, if projected onto its tangents.

    This tells points apart that are at one place: those of a branch of the tree.
    """
    along = np.einsum("nd,nd->n", x - curve.position, curve.tangent)
    place = order.place + np.where(np.isfinite(along), along, 0)
    return order._replace(place=place - place.min())


def arclength(curve: Curve, order: Order) -> Order:
    """Return the order along a smooth curve, in its own length."""
    rows = np.argsort(order.place, kind="stable")
    gaps = np.linalg.norm(np.diff(curve.position[rows], axis=0), axis=1)
    place = np.empty(len(rows))
    place[rows] = np.concatenate([[0.0], np.cumsum(gaps)])
    length = float(gaps.sum())
    if order.is_closed:
        length += float(np.linalg.norm(curve.position[rows[0]] - curve.position[rows[-1]]))
    return Order(place, length, order.is_closed)
