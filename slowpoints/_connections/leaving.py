"""From which states trajectories leave saddles: along which directions, and how far out."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float, Int

from slowpoints._connections.exact_points import ExactPoints
from slowpoints._connections.outcome import Starts

_START = 1 / 3
"""Trajectories start at `eps ** _START` of the way to the next point. What they miss of the
unstable manifold grows with the square of this distance, and what rounding does to their direction
with its inverse; this balances the two."""

_PER_DOUBLING = 4
"""On each side of a saddle of index 1, other trajectories start from so many distances for each
factor of 2 by which a deviation grows in a step. If it grows by less than a fifth, as in steps of a
simulation, none do: the states along one trajectory are then the whole side, as in a flow."""

_MOST_BETWEEN = 16
"""No more distances than these, however fast deviations grow."""


def leaving(exact: ExactPoints, n_directions: int) -> tuple[Starts, dict[str, Any]]:
    """Return the states from which trajectories leave all saddles, and what is known of each."""
    near = float(np.finfo(exact.x.dtype).eps) ** _START
    offsets, homes, numbers, alternates = [np.zeros((0, exact.x.shape[1]))], [], [], []
    for i in np.flatnonzero(exact.index):
        vectors, values = _unstable_directions(exact.eigval[i], exact.eigvec[i], exact.grows[i])
        weights = np.concatenate(
            [np.eye(len(vectors)), directions_all_around(len(vectors), n_directions)]
        )
        rates = np.real(values) if exact.continuous_time else np.log(np.abs(values))
        own = near * weights * _relative(rates, near) @ vectors
        # Along an eigenvector alone, there is nothing that could win.
        own[: len(vectors)] = near * vectors
        offsets.append(exact.spacing[i] * own)
        homes += [i] * len(own)
        numbers += range(len(own))
        flips = (np.imag(values) == 0) & (np.real(values) < 0)  # never where it is a rate
        alternates += ((weights != 0) & flips).any(axis=1).tolist()
    offset = np.concatenate(offsets)
    home = np.repeat(np.array(homes, int), 2)
    side = np.tile([1, -1], len(offset))
    x = exact.x[home] + side[:, None] * np.repeat(offset, 2, axis=0)
    whole = np.ones(len(home), exact.x.dtype)
    starts = Starts(x.astype(exact.x.dtype), exact.u[home], exact.group[home], home, whole)
    return starts, {
        "saddle": exact.rows[home],
        "side": side,
        "direction": np.repeat(np.array(numbers, int), 2),
        "alternates": np.repeat(np.array(alternates, bool), 2),
    }


def between(
    exact: ExactPoints, starts: Starts, alternates: Bool[np.ndarray, " m"]
) -> tuple[Int[np.ndarray, " b"], Starts]:
    """Return starts on the sides of saddles of index 1 that lie on no trajectory yet.

    On a side where deviations grow by a factor, every trajectory has one state among those of which
    the distances from the saddle differ by less than this factor. In continuous time, one
    trajectory is all of a side.

    Returns:
        The number of the edge that each of them is beside, and the starts.
    """
    largest = np.abs(exact.eigval).max(axis=1, initial=0.0)[starts.home]
    # One that changes sides is back on its own after two steps.
    by_steps = (exact.index[starts.home] == 1) & (not exact.continuous_time)
    growth = np.where(by_steps, largest ** (1 + alternates), 1.0)
    n = np.clip(np.ceil(_PER_DOUBLING * np.log2(growth)), 1, 1 + _MOST_BETWEEN).astype(int)
    edge = np.repeat(np.arange(len(n)), n - 1)
    number = np.concatenate([np.zeros(0), *(np.arange(1, k) for k in n)])
    nearer = growth[edge] ** (-number / n[edge])
    x, u, group, home, part = (column[edge] for column in starts)
    x = exact.x[home] + nearer[:, None] * (x - exact.x[home])
    return edge, Starts(x.astype(exact.x.dtype), u, group, home, part)


def _unstable_directions(
    eigval: Complex[np.ndarray, " d"], eigvec: Complex[np.ndarray, "d d"], grows: Any
) -> tuple[Float[np.ndarray, "k d"], Complex[np.ndarray, " k"]]:
    """Return real vectors of length 1 that span the unstable space, and their eigenvalues.

    The members of a complex pair follow each other. The first has the real part of the eigenvector,
    the second the imaginary part.
    """
    values = eigval[grows]
    vectors = eigvec[:, grows].T
    is_complex = np.imag(values) != 0
    is_second = is_complex & (np.cumsum(is_complex) % 2 == 0)
    parts = np.where(is_second[:, None], np.imag(vectors), np.real(vectors))
    parts = parts / np.linalg.norm(parts, axis=1, keepdims=True)
    largest = np.take_along_axis(parts, np.abs(parts).argmax(axis=1)[:, None], axis=1)
    return parts * np.sign(largest), values


def _relative(rate: Float[np.ndarray, " k"], near: float) -> Float[np.ndarray, " k"]:
    """Return how far from the saddle to start along each direction, the slowest one at 1.

    From `near ** a`, with `a` proportional to the rate of its growth, each direction takes the same
    time to leave. None starts closer than `near ** 2`: the curvature of the manifold would
    have more to say about it than its own start.
    """
    return near ** (np.minimum(rate / rate.min(), 2) - 1)


def directions_all_around(dimension: int, n: int) -> Float[np.ndarray, "n dimension"]:
    """Return `n` directions that, with their opposites, are spread over the sphere; none in 1-D.

    In the plane they are at equal angles. In more dimensions they are a low-discrepancy sequence
    (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences"), by way of the normal
    distribution.
    """
    if dimension < 2 or n == 0:
        return np.zeros((0, dimension))
    if dimension == 2:
        angle = np.pi * (np.arange(n) + 0.25) / n  # never along an axis
        return np.stack([np.cos(angle), np.sin(angle)], axis=1)
    base = 2.0
    for _ in range(50):  # the root of `x ** (dimension + 1) == x + 1`
        base = (1 + base) ** (1 / (dimension + 1))
    steps = base ** -np.arange(1.0, dimension + 1)
    uniform = (0.5 + np.arange(1, n + 1)[:, None] * steps) % 1
    normal = np.asarray(jax.scipy.special.ndtri(jnp.asarray(uniform)), float)
    return normal / np.linalg.norm(normal, axis=1, keepdims=True)
