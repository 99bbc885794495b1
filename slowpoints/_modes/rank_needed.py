"""`rank_needed`: how much of a trained network's weights its fixed points take."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float, Int, PRNGKeyArray

from slowpoints._completeness.degree import counted_rows
from slowpoints._core import arguments
from slowpoints._core.arrays import power_of_two
from slowpoints._core.types import Number, RealArray, Scalar
from slowpoints._linear_algebra.linear_dynamics import count_unstable
from slowpoints._modes.low_rank import (
    LowRank,
    ReducedNetwork,
    check_units,
    check_weights,
    low_rank,
)
from slowpoints._network.base import Transition
from slowpoints._points.decompose import decompose
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.jacobians import jacobians
from slowpoints._points.unique import unique
from slowpoints._search.optimize_batch import optimize_batch

_NOT_OF_THIS_NETWORK = 1e-2
"""Known points at which `phi(W x + B u + b)` differs from `x` by more than this share of the length
of the states belong to another network: most often, `W` has to be transposed. A state that any
search calls a fixed point is closer by orders of magnitude."""

_LEAST_COMPILED = 16
"""Networks of fewer variables are filled up to so many: searching in 16 takes less time than
compiling programs for still fewer."""

_WIDEST_NOISE = 2.0
"""Starts are spread around known points by noise of up to this many times their typical size, that
of an entry of the points and of the states that their search started from, with the scale drawn
uniformly: some starts stay near, as points that move little have to be found, and some lead far
away, to points that are extra."""


@dataclasses.dataclass(frozen=True, eq=False)
class RankNeeded:
    """Which fixed points are there at which rank: see [`rank_needed`][slowpoints.rank_needed].

    Attributes:
        rank: the smallest rank at which all known points are there; `None` if there is none.
        ranks: `[k]` the ranks that were tried, rising.
        n_known: how many points were looked for.
        n_there: `[k]` how many of these are there.
        n_extra: `[k]` how many other fixed points were found.
        distance: `[k, n]` how far each known point has moved; infinite if it is not there, NaN for
            rows of `fps` that are no fixed points.
        error: `[k]` the 2-norm of the weights that are cut off.
        kept: `[k]` the share of the sum of all squared weights that is kept.
    """

    rank: int | None
    ranks: Int[np.ndarray, " k"]
    n_known: int
    n_there: Int[np.ndarray, " k"]
    n_extra: Int[np.ndarray, " k"]
    distance: Float[np.ndarray, "k n"] = dataclasses.field(repr=False)
    error: Float[np.ndarray, " k"]
    kept: Float[np.ndarray, " k"]

    def __str__(self) -> str:
        lines = ["rank  points there  extra  error    weights kept"]
        for row in zip(self.ranks, self.n_there, self.n_extra, self.error, self.kept, strict=True):
            rank, there, extra, error, kept = row
            of = f"{there} of {self.n_known}"
            lines.append(f"{rank:4}  {of:>12}  {extra:5}  {error:<7.2g}  {kept:.1%}")
        higher = self.n_there[self.ranks > (self.rank or 0)]
        end = "at none of these ranks" if self.rank is None else f"at rank {self.rank}"
        if self.rank is not None and higher.size:
            all_there = (higher == self.n_known).all()
            end += f" and {'' if all_there else 'not '}at all higher ones that were tried"
        lines.append(f"All points are there {end}.")
        return "\n".join(lines)


def rank_needed(
    W: Float[RealArray, "n_units n_units"],
    fps: FixedPoints,
    phi: Callable[[Array], Array],
    *,
    B: Float[RealArray, "n_units n_inputs"] | None = None,
    b: Float[RealArray, " n_units"] | None = None,
    leak: Scalar = 1.0,
    ranks: Sequence[int] | None = None,
    tol: Number | None = None,
    n_starts: int = 1024,
    key: PRNGKeyArray | int,
) -> RankNeeded:
    """Truncate the weights at increasing ranks, until all known fixed points are there.

    At each rank, the network `x' = (1 - leak) x + leak phi(W x + B u + b)` is reduced to as many
    variables as [`low_rank`][slowpoints.low_rank] describes, and these are searched for fixed
    points, from the known points and from states around them. What is found is lifted to all units
    and compared with the known points. A point is there if a fixed point under the same input lies
    within `tol` of it and has the same index, the number of eigenvalues outside the unit circle (of
    this map, even if the points are those of a network in continuous time). No two known points are
    matched to the same one.

    If a point is there, that is certain. That it is not there, and how many others there are, is
    only as certain as a search can be: with more starts, more may be found.

    Args:
        W: `[n_units, n_units]` the recurrent weights, as in `W @ x`; for `x @ W` pass `W.T`.
        fps: the known points with `xstar` `[n, n_units]` and `inputs`. Rows that are invalid, and
            rows whose `status` is not that of a fixed point, are not looked for, nor are copies:
            rows within `fps.tol_unique` of another.
        phi: the units' nonlinearity, applied to each unit by itself.
        B: `[n_units, n_inputs]` the input weights; if inputs have length 0, `None`.
        b: `[n_units]` the bias; by default none.
        leak: the share of a state that is replaced in each step, above 0 and at most 1.
        ranks: which ranks to try, whole numbers from 1 to `n_units`. By default 1, 2 and so on, up
            to the first at which all points are there, or to `n_units`.
        tol: how far a point may move, as a Euclidean distance of states. By default half the
            distance to the nearest other known point under the same input, and any distance if
            there is no other.
        n_starts: from how many states to search at each rank; at least from one per known point.
        key: a JAX random key, or a whole number as its seed.

    Returns:
        For each rank, which points are there and how many others, and the rank at which all are.

    Raises:
        TypeError: if an argument is of the wrong kind, or traced.
        ValueError: if an argument has the wrong shape or range; if `fps` has no fixed points; or if
            these are not fixed points of this network, as when `W` should be `W.T`.
    """
    caller = "rank_needed"
    arguments.fields(caller, fps, FixedPoints, "xstar", "inputs")
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((W, B, b, leak, fps.xstar))):
        arguments.refuse(caller, "W", "is traced", "to be called outside of `jit`", TypeError)
    W = check_weights(caller, W)
    tried = _ranks(caller, ranks, W.shape[0])
    if tol is not None:
        tol = float(arguments.number(caller, "tol", tol))
    n_starts = arguments.whole(caller, "n_starts", n_starts, least=1)
    key = arguments.random_key(caller, key)
    dtype = jax.dtypes.canonicalize_dtype(W.dtype)
    units = check_units(caller, W.shape[0], dtype, phi, B, b, leak)
    weights = low_rank(W, W.shape[0])
    net = ReducedNetwork(weights.M, weights.N, *units)
    known = np.flatnonzero(counted_rows(fps))
    points = _known_points(caller, net, fps, known)
    distinct = np.asarray(unique(points).valid)
    points, known = points[distinct], known[distinct]
    reach = _reach(points, tol)
    starts, inputs = _starts(key, points, _size_of_states(fps[known]), max(n_starts, points.n))

    index = _index(net.full(), points)
    there, extra, distance = [], [], []
    for rank in tried:
        found = _search(_padded(net, rank), starts, inputs, points.tol_unique)
        moved = _matched(points, index, *found, reach)
        distance.append(np.full(fps.n, np.nan))
        distance[-1][known] = moved
        there.append(int(np.isfinite(moved).sum()))
        extra.append(found[0].n - there[-1])
        if ranks is None and there[-1] == points.n:
            break
    done = tried[: len(there)]
    cut = [
        LowRank(weights.M[:, :rank], weights.N[:, :rank], weights.singular_values) for rank in done
    ]
    return RankNeeded(
        rank=next((r for r, n in zip(done, there, strict=True) if n == points.n), None),
        ranks=np.array(done, int),
        n_known=points.n,
        n_there=np.array(there, int),
        n_extra=np.array(extra, int),
        distance=np.array(distance),
        error=np.array([float(part.error) for part in cut]),
        kept=np.array([float(part.kept) for part in cut]),
    )


def _ranks(caller: str, ranks: Any, n_units: int) -> list[int]:
    if ranks is None:
        return list(range(1, n_units + 1))
    expected = f"whole numbers from 1 to {n_units}, at least one"
    if isinstance(ranks, str) or not isinstance(ranks, (Sequence, np.ndarray)) or len(ranks) == 0:
        arguments.refuse(caller, "ranks", arguments.found(ranks), expected, TypeError)
    numbers = arguments.array(caller, "ranks", ranks, ("k",)).tolist()
    if any(rank not in range(1, n_units + 1) for rank in numbers):
        arguments.refuse(caller, "ranks", f"is {list(ranks)}", expected, ValueError)
    return sorted({int(rank) for rank in numbers})


def _known_points(caller: str, net: ReducedNetwork, fps: FixedPoints, known: Any) -> FixedPoints:
    """Return the points to look for, `xstar` and `inputs` alone."""
    arguments.array(caller, "fps.xstar", fps.xstar, ("n", len(net.b)), floating=True)
    arguments.array(caller, "fps.inputs", fps.inputs, ("n", net.n_inputs), finite=True)
    arguments.check_precision(caller, "fps.xstar", fps.xstar.dtype)
    if known.size == 0:
        arguments.refuse(caller, "fps", "has no fixed points", "at least one", ValueError)
    x, u = (np.asarray(a)[known] for a in (fps.xstar, fps.inputs))
    arguments.check_finite(caller, "fps.xstar", x)
    points = FixedPoints(xstar=x, inputs=u, tol_unique=fps.tol_unique, dtype=x.dtype)
    x, u = jnp.asarray(x), jnp.asarray(u)
    apart = jnp.linalg.norm(jax.vmap(net.full())(x, u) - x, axis=1)
    share = float(jnp.max(apart) / (np.sqrt(net.M.shape[0]) * _size_of_states(fps[known])))
    if not share <= _NOT_OF_THIS_NETWORK:
        was = f"are not fixed points of this network: a step moves one by {share:.2g} of its length"
        expected = (
            "fixed points of x' = (1 - leak) x + leak phi(W @ x + B @ u + b); for a network that "
            "computes x @ W, pass W.T"
        )
        arguments.refuse(caller, "fps", was, expected, ValueError)
    return points


def _size_of_states(fps: FixedPoints) -> float:
    """Return the root mean square of an entry of the points and of where their search started.

    It is 1 if all of them are at the origin, as far as points are told apart: a network whose only
    fixed point this is does not say there how large its states are.
    """
    states = [np.asarray(x, np.float64) for x in (fps.xstar, fps.x_init) if x is not None]
    squares = [np.mean(np.square(x), where=np.isfinite(x)) for x in states if np.isfinite(x).any()]
    size = float(np.sqrt(max(squares)))
    return size if size > fps.tol_unique else 1.0


def _reach(points: FixedPoints, tol: float | None) -> Float[np.ndarray, " n"]:
    """Return how far each known point may move."""
    if tol is not None:
        return np.full(points.n, float(tol))
    distance = _distances(points, points)
    np.fill_diagonal(distance, np.inf)
    return distance.min(axis=1) / 2


def _distances(a: FixedPoints, b: FixedPoints) -> Float[np.ndarray, "n m"]:
    """Return the distances of states; infinite between those under different inputs."""
    (x, u), (y, v) = ((np.asarray(p.xstar, float), np.asarray(p.inputs)) for p in (a, b))
    # One row at a time, as all differences together can take much memory.
    apart = [np.linalg.norm(y - row, axis=1) for row in x]
    same = [(v == row).all(axis=1) for row in u]
    shape = (a.n, b.n)
    return np.where(np.reshape(same, shape), np.reshape(apart, shape), np.inf)


def _starts(key: Any, points: FixedPoints, size: float, n: int) -> tuple[Array, Array]:
    """Return states of all units, the known points first, and the input of each.

    `size` is that of a typical entry of the states.
    """
    rows = np.arange(n) % points.n
    x = jnp.asarray(points.xstar)
    far, noise = jax.random.split(key)
    scale = jax.random.uniform(far, (n, 1), x.dtype, maxval=_WIDEST_NOISE)
    scale = jnp.where(jnp.arange(n)[:, None] < points.n, 0, size * scale)
    starts = x[rows] + scale * jax.random.normal(noise, (n, x.shape[1]), x.dtype)
    return starts, jnp.asarray(points.inputs, x.dtype)[rows]


def _padded(net: ReducedNetwork, rank: int) -> ReducedNetwork:
    """Return the network of a rank, filled up to one of few numbers of variables.

    So few programs are compiled, one for each power of two. The variables beyond the rank neither
    drive units nor read them, so they decay to 0 with the eigenvalue `1 - leak`, and change neither
    points nor indices.
    """
    n = min(max(power_of_two(rank), _LEAST_COMPILED), net.n_states)
    used = jnp.arange(n) < rank
    M, N = (jnp.where(used, weights[:, :n], 0) for weights in (net.M, net.N))
    return dataclasses.replace(net, M=M, N=N)


def _search(
    net: ReducedNetwork, starts: Array, inputs: Array, tol_unique: float
) -> tuple[FixedPoints, Int[np.ndarray, " n"]]:
    """Return the fixed points of a reduced network, lifted to all units, and their indices."""
    rows = unique(optimize_batch(net, net.project(starts), inputs), tol_unique)
    fps = rows[np.flatnonzero(counted_rows(rows))]
    fps = FixedPoints(xstar=fps.xstar, inputs=fps.inputs, dtype=fps.dtype)
    return net.lift(fps), _index(net, fps)


def _index(F: Transition, fps: FixedPoints) -> Int[np.ndarray, " n"]:
    done = decompose(jacobians(F, fps))
    return np.asarray(count_unstable(done.eigval_J_xstar, continuous_time=False))


def _matched(
    known: FixedPoints,
    index: Int[np.ndarray, " n"],
    found: FixedPoints,
    found_index: Int[np.ndarray, " m"],
    reach: Float[np.ndarray, " n"],
) -> Float[np.ndarray, " n"]:
    """Return how far each known point is from the found one that it is matched to.

    The closest pairs are matched first.
    """
    distance = _distances(known, found)
    able = (distance <= reach[:, None]) & np.isfinite(distance)
    able &= index[:, None] == found_index
    moved, taken = np.full(known.n, np.inf), np.zeros(found.n, bool)
    row, column = np.nonzero(able)
    for k in np.argsort(distance[row, column], kind="stable"):
        i, j = row[k], column[k]
        if np.isinf(moved[i]) and not taken[j]:
            moved[i], taken[j] = distance[i, j], True
    return moved
