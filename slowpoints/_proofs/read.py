"""Networks whose nonlinear operations read few directions of the states."""

import dataclasses

import numpy as np
from jaxtyping import Float

from slowpoints._intervals.balls import Ball, matmul
from slowpoints._intervals.enclosure import Enclosure
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._proofs.lifting import (
    REST,
    SolvedStates,
    leading_directions,
    operands,
    returned,
)

_UNREAD = 1e-30
"""An operand that reads less than this of the states, relative to the one that reads most, depends
on what is returned alone: its `C` is zero, but for what the arithmetic adds for underflow."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What nonlinear operations read of a fixed point `x`, as said in `operands`.

    From the middle of the box `c`, it differs by `along z`, but for `rest`, with `z` a product of
    `x - c`. And `x` follows from what the operations return.

    Attributes:
        solved: where the fixed points are, given what is returned.
        along: `[n_operands, k]`.
        rest: `[n_operands]` by how much what is read may differ from that.
        gather: `[k, n_returned]` by which `z` follows from what is returned.
        shift: `[k]` what is added to that.
        z: `[k]` what `z` can be over the box.
        smallest: `[k]` how far apart in `z` two states are that are not told apart.
    """

    solved: SolvedStates
    along: Float[np.ndarray, "n_operands k"]
    rest: Float[np.ndarray, " n_operands"]
    gather: Ball
    shift: Ball
    z: Ball
    smallest: Float[np.ndarray, " k"]

    @property
    def n_slopes(self) -> int:
        """How many slopes a box has, by what is returned and by what is read."""
        return (self.along.shape[0] + self.gather.shape[1]) * self.along.shape[1]

    def returned(self, program: EnclosedProgram, z: Ball) -> Enclosure:
        """Return what the nonlinear operations return for `z` `[n, k]`, with slopes by `z`."""
        n, n_states = z.shape[0], self.solved.rest.size
        more = matmul(z, Ball(self.along.T)) + Ball(np.zeros_like(self.rest), self.rest)
        added = Enclosure(more, Ball(np.broadcast_to(self.along, (n, *self.along.shape))))
        middle = Ball(np.repeat(self.solved.box.mid, n, axis=0))
        return returned(program, Enclosure(middle, Ball(np.zeros((n, n_states, 1)))), added)

    def gathered(self, y: Ball) -> Ball:
        """Return `z` `[n, k]` from what is returned."""
        return matmul(y - self.solved.y_centre, self.gather.map(np.transpose)) + self.shift

    def slopes(self, slope: Ball) -> Ball:
        """Return the slopes of `gathered`."""
        return matmul(self.gather, slope)

    def states(self, z: Ball, y: Ball) -> Ball:
        """Return where fixed points can be, `[n, n_states]`, if `y` is returned."""
        x = matmul(y - self.solved.y_centre, self.solved.M.map(np.transpose)) + self.solved.origin
        return x + Ball(np.zeros_like(self.solved.rest), self.solved.rest)


def reading(program: EnclosedProgram, solved: SolvedStates) -> Reading | None:
    """Return what is read of the states of a box, or `None` if that is not of low rank.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    off_x, C = solved.box.rad[0], operands(program, solved.box, solved.M.shape[1])
    scale = C.magnitude @ off_x
    largest = np.max(scale, initial=0.0) or 1.0
    scale = np.where(scale > _UNREAD * largest, scale, largest)
    with np.errstate(all="ignore"):
        leading = leading_directions(C.mid * off_x / scale[:, None], off_x.size)
    if leading is None:
        return None
    U, s, Vt = leading
    along = scale[:, None] * U
    project = np.divide(s[:, None] * Vt, off_x, out=np.zeros_like(Vt), where=off_x > 0)
    rest = (C - matmul(Ball(along), Ball(project))).magnitude @ off_x * (1 + 2.0**-30)
    unsolved = solved.rest + solved.origin.radius
    unknown = np.abs(project) @ unsolved * (1 + 2.0**-30)
    if not (np.all(rest <= REST * scale) and np.all(unsolved <= REST * np.max(off_x))):
        return None
    away = (solved.origin - Ball(solved.box.mid[0])).map(lambda a: a[:, None])
    shift = matmul(Ball(project), away).map(lambda a: a[:, 0])
    return Reading(
        solved,
        along,
        rest,
        matmul(Ball(project), solved.M),
        shift + Ball(np.zeros_like(unknown), unknown),
        Ball(np.zeros(s.size), np.abs(project) @ off_x * (1 + 2.0**-30)),
        4 * (np.abs(U.T / scale) @ rest + unknown),
    )
