"""A box of states that holds all fixed points, for all parameters of a span."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._arclength.curve import Curve
from slowpoints._branch_proofs.tubes import Prover
from slowpoints._core.arrays import power_of_two
from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._network.base import Transition
from slowpoints._proofs.branch_and_prune import Parts, known_ends
from slowpoints._proofs.lifting import solved_states

_FARTHEST = 2.0**10
"""The box is at most so many times as large as the known states. What bounded units, such as those
of `tanh`, leave of it does not depend on this."""

_MOST_SOLUTIONS, _LESS = 8, 0.9
"""So often are the states solved for, each time in the box that the last time left, and as long as
it is smaller by a tenth."""

_SLICES = 0.5, 2.0**-3, 2.0**-5, 2.0**-7
"""Slices of the box as thick as these parts of it are cut off in turn, first coarsely."""

_MOST_CUTS = 500
"""So often at most."""


def box_of_points(prover: Prover, y: Float[np.ndarray, "n d1"]) -> Parts:
    """Return a box of states that holds all fixed points around known ones, as far as can be told.

    It is what bounded nonlinear operations leave, which are linear in the states but for what these
    return. Then slices at its sides are cut off as long as there is no fixed point in them.

    Args:
        prover: the equations.
        y: known points.
    """
    d = y.shape[1] - 1
    size = np.abs(y[:, :-1]).max(initial=1.0)
    low, high = _solved(prover.curve, np.full(d, -_FARTHEST * size), np.full(d, _FARTHEST * size))
    program = prover.program(power_of_two(2 * d), d + 1)
    rows = np.minimum(np.arange(power_of_two(2 * d)), 2 * d - 1)
    i, thickness = np.arange(d), 0
    for _ in range(_MOST_CUTS):
        cut = _SLICES[thickness] * (high - low)
        lows, highs = np.tile(low, (2 * d, 1)), np.tile(high, (2 * d, 1))
        highs[i, i], lows[d + i, i] = low + cut, high - cut
        ends = (np.insert(end, d, sigma, axis=1) for end, sigma in ((lows, 0.0), (highs, 1.0)))
        with np.errstate(all="ignore"):
            value = known_ends(program.value(from_bounds(*(end[rows] for end in ends))))
        empty = np.any((value.low > 0) | (value.high < 0), axis=1)[: 2 * d]
        low, high = np.where(empty[:d], low + cut, low), np.where(empty[d:], high - cut, high)
        if not empty.any():
            thickness += 1
            if thickness == len(_SLICES):
                break
    return Parts(low, high)


class _OfAllParameters(Transition):
    """A map whose fixed points are those of the curve at all parameters of the span."""

    curve: Curve

    def __call__(self, y: Float[Array, " d1"], u: Float[Array, " 0"]) -> Float[Array, " d1"]:
        """Return the next states, and the parameter, as the next last one."""
        y = jnp.append(y[:-1], jnp.clip(y[-1], 0, 1))
        return jnp.append(y[:-1] + self.curve(y), y[-1])


def _solved(curve: Curve, low: np.ndarray, high: np.ndarray) -> Parts:
    """Return what is left of a box where states follow from what nonlinear operations return."""
    d, dtype = low.size, curve.origin.dtype
    program = EnclosedProgram(
        _OfAllParameters(curve), np.zeros((1, d + 1), dtype), np.zeros((1, 0), dtype)
    )
    for _ in range(_MOST_SOLUTIONS):
        with np.errstate(all="ignore"):
            # The parameter may be anything, so that its range is known from the program alone.
            solved = solved_states(program, np.append(low, -1.0), np.append(high, 2.0))
            if solved is None:
                break
            moved = matmul(solved.M, (solved.y - solved.y_centre).map(lambda a: a[:, None]))
            x = solved.origin + moved.map(lambda a: a[:, 0]) + Ball(np.zeros(d + 1), solved.rest)
            ends = known_ends(x)
        before = np.max(high - low)
        low, high = np.maximum(low, ends.low[:d]), np.minimum(high, ends.high[:d])
        if np.any(low > high) or np.max(high - low) > _LESS * before:
            break
    return Parts(low, np.maximum(low, high))
