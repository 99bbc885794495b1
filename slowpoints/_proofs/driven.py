"""Networks whose nonlinear operations drive the states along few directions."""

import dataclasses

import numpy as np
from jaxtyping import Float

from slowpoints._intervals.balls import Ball, matmul
from slowpoints._intervals.enclosure import Enclosure
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._proofs.lifting import REST, SolvedStates, leading_directions, returned


@dataclasses.dataclass(frozen=True)
class Drive:
    """Where the fixed points of a box are: at `origin + along z`, but for `rest`.

    There, `z = gather (y(x) - y_centre)`, where `y(x)` is what the network's nonlinear operations
    return.

    Attributes:
        origin: `[n_states]`.
        along: `[n_states, k]` the directions.
        rest: `[n_states]` by how much a fixed point may differ.
        gather: `[k, n_returned]`.
        y_centre: `[n_returned]` what is returned at the centre of the box.
        z: `[k]` what `z` can be over the box.
        smallest: `[k]` how far apart in `z` two states are that `rest` does not tell apart.
    """

    origin: Float[np.ndarray, " n_states"]
    along: Float[np.ndarray, "n_states k"]
    rest: Float[np.ndarray, " n_states"]
    gather: Float[np.ndarray, "k n_returned"]
    y_centre: Ball
    z: Ball
    smallest: Float[np.ndarray, " k"]

    @property
    def n_slopes(self) -> int:
        """How many slopes a box has, by what is returned and by the states."""
        return (self.along.shape[0] + self.gather.shape[1]) * self.along.shape[1]

    def returned(self, program: EnclosedProgram, z: Ball) -> Enclosure:
        """Return what the nonlinear operations return for `z` `[n, k]`, with slopes by `z`."""
        along = np.broadcast_to(self.along, (z.shape[0], *self.along.shape))
        return returned(program, Enclosure(self._states(z), Ball(along)))

    def gathered(self, y: Ball) -> Ball:
        """Return `z` `[n, k]` from what is returned."""
        return matmul(y - self.y_centre, Ball(self.gather.T))

    def slopes(self, slope: Ball) -> Ball:
        """Return the slopes of `gathered`."""
        return matmul(Ball(self.gather), slope)

    def states(self, z: Ball, y: Ball) -> Ball:
        """Return where fixed points can be, `[n, n_states]`, for `z` `[n, k]`."""
        return self._states(z)

    def _states(self, z: Ball) -> Ball:
        return matmul(z, Ball(self.along.T)) + Ball(self.origin, self.rest)


def drive(solved: SolvedStates) -> Drive | None:
    """Return what drives the states of a box, or `None` if that is not of low rank."""
    off_x, off_y = solved.box.rad[0], (solved.y - solved.y_centre).magnitude
    scale = np.where(off_x > 0, off_x, np.max(off_x, initial=0.0) or 1.0)
    with np.errstate(all="ignore"):
        leading = leading_directions(solved.M.mid * off_y / scale[:, None], scale.size)
    if leading is None:
        return None
    U, s, Vt = leading
    along = scale[:, None] * U * s
    gather = np.divide(Vt, off_y, out=np.zeros_like(Vt), where=off_y > 0)
    rest = (solved.M - matmul(Ball(along), Ball(gather))).magnitude @ off_y
    rest = (rest + solved.rest + solved.origin.radius) * (1 + 2.0**-30)
    if not np.all(rest <= REST * scale):
        return None  # as where I - A is singular
    y = (solved.y - solved.y_centre).map(lambda a: a[:, None])
    z = matmul(Ball(gather), y).map(lambda a: a[:, 0])
    blurred = np.abs(U.T / scale / s[:, None]) @ rest
    return Drive(solved.origin.mid, along, rest, gather, solved.y_centre, z, 4 * blurred)
