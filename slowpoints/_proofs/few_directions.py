"""Few variables from which the states of a network follow where it is at rest.

Either the states are driven along few directions by what nonlinear operations return, or these
operations read few directions of the states.
"""

import abc
import dataclasses

import numpy as np
from jaxtyping import Float

from slowpoints._intervals.balls import Ball, matmul
from slowpoints._intervals.enclosure import Enclosure
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._proofs.lifting import (
    SolvedStates,
    depends_on_all,
    operands,
    returned,
)

_NEGLIGIBLE = 1e-5
"""Directions that are driven less than this, relative to the one that is driven most, are not
divided along: where they lead is bounded instead. Weights of low rank that are stored as one matrix
in float32 have directions of 1e-7 besides those of their rank."""

_REST = 1e-3
"""What the other directions hold is at most this share of the box. Otherwise, `I - A` is singular,
or nearly so, and the states are not known from what drives them."""

_UNREAD = 1e-30
"""An operand that reads less than this of the states, relative to the one that reads most, depends
on what is returned alone: its `C` is zero, but for what the arithmetic adds for underflow."""


@dataclasses.dataclass(frozen=True)
class FewDirections(abc.ABC):
    """Variables `z` `[k]`, which at a fixed point are `gather (y - y_centre) + shift`.

    With what the nonlinear operations return there, `y`.

    Attributes:
        solved: where the fixed points are, given what is returned.
        along: `[m, k]` by which the states, or what is read of them, follow from `z`.
        rest: `[m]` by how much they may differ from that.
        gather: `[k, n_returned]`.
        shift: `[k]`.
        z: `[k]` what `z` can be over the box.
        smallest: `[k]` how far apart in `z` two states are that are not told apart.
    """

    solved: SolvedStates
    along: Float[np.ndarray, "m k"]
    rest: Float[np.ndarray, " m"]
    gather: Ball
    shift: Ball
    z: Ball
    smallest: Float[np.ndarray, " k"]

    @property
    def n_slopes(self) -> int:
        """How many slopes a box has, by what is returned and by what follows from `z`."""
        return (self.along.shape[0] + self.gather.shape[1]) * self.along.shape[1]

    def gathered(self, y: Ball) -> Ball:
        """Return `z` `[n, k]` from what is returned, `[n, n_returned]`."""
        return matmul(y - self.solved.y_centre, self.gather.map(np.transpose)) + self.shift

    def followed(self, z: Ball) -> Ball:
        """Return what follows from `z` `[n, k]`, but for what does not depend on it."""
        return matmul(z, Ball(self.along.T)) + Ball(np.zeros_like(self.rest), self.rest)

    def slopes(self, n: int) -> Ball:
        """Return the slopes of `followed` for `n` rows."""
        return Ball(np.broadcast_to(self.along, (n, *self.along.shape)))

    @abc.abstractmethod
    def returned(self, program: EnclosedProgram, z: Ball, with_slopes: bool = True) -> Enclosure:
        """Return what the nonlinear operations return for `z` `[n, k]`, with slopes by `z`."""

    @abc.abstractmethod
    def states(self, program: EnclosedProgram, z: Ball) -> Ball:
        """Return where fixed points can be, `[n, n_states]`, for `z` `[n, k]`."""


class Driven(FewDirections):
    """States `origin + along z`, but for `rest`."""

    def returned(self, program: EnclosedProgram, z: Ball, with_slopes: bool = True) -> Enclosure:
        """Return what the nonlinear operations return for `z` `[n, k]`, with slopes by `z`."""
        x = self.states(program, z)
        slopes = self.slopes(z.shape[0])
        return returned(program, Enclosure(x, slopes) if with_slopes else depends_on_all(x))

    def states(self, program: EnclosedProgram, z: Ball) -> Ball:
        """Return where fixed points can be, `[n, n_states]`, for `z` `[n, k]`."""
        return self.followed(z) + Ball(self.solved.origin.mid)


def driven(solved: SolvedStates) -> Driven | None:
    """Return what drives the states of a box, or `None` if that is not of low rank."""
    off_x, off_y = solved.box.rad[0], (solved.y - solved.y_centre).magnitude
    scale = np.where(off_x > 0, off_x, np.max(off_x, initial=0.0) or 1.0)
    with np.errstate(all="ignore"):
        leading = _leading(solved.M.mid * off_y / scale[:, None], scale.size)
    if leading is None:
        return None
    U, s, Vt = leading
    along = scale[:, None] * U * s
    gather = Ball(np.divide(Vt, off_y, out=np.zeros_like(Vt), where=off_y > 0))
    rest = (solved.M - matmul(Ball(along), gather)).magnitude @ off_y
    rest = (rest + solved.rest + solved.origin.radius) * (1 + 2.0**-30)
    if not np.all(rest <= _REST * scale):
        return None  # as where I - A is singular
    y = (solved.y - solved.y_centre).map(lambda a: a[:, None])
    z = matmul(gather, y).map(lambda a: a[:, 0])
    blurred = np.abs(U.T / scale / s[:, None]) @ rest
    return Driven(solved, along, rest, gather, Ball(np.zeros(s.size)), z, 4 * blurred)


class Read(FewDirections):
    """What nonlinear operations read of the states, as said in `operands`.

    From what they read of the middle of the box, `c`, it differs by `along z`, but for `rest`, with
    `z` a product of `x - c`. And `x` follows from what the operations return.
    """

    def returned(self, program: EnclosedProgram, z: Ball, with_slopes: bool = True) -> Enclosure:
        """Return what the nonlinear operations return for `z` `[n, k]`, with slopes by `z`."""
        n, n_states = z.shape[0], self.solved.box.shape[1]
        added = Enclosure(self.followed(z), self.slopes(n) if with_slopes else None)
        middle = Ball(np.repeat(self.solved.box.mid, n, axis=0))
        return returned(program, Enclosure(middle, Ball(np.zeros((n, n_states, 1)))), added)

    def states(self, program: EnclosedProgram, z: Ball) -> Ball:
        """Return where fixed points can be, `[n, n_states]`, for `z` `[n, k]`."""
        solved, y = self.solved, self.returned(program, z, with_slopes=False).value
        x = matmul(y - solved.y_centre, solved.M.map(np.transpose)) + solved.origin
        return x + Ball(np.zeros_like(solved.rest), solved.rest)


def read(program: EnclosedProgram, solved: SolvedStates) -> Read | None:
    """Return what is read of the states of a box, or `None` if that is not of low rank.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    off_x, C = solved.box.rad[0], operands(program, solved.box, solved.M.shape[1])
    scale = C.magnitude @ off_x
    largest = np.max(scale, initial=0.0) or 1.0
    scale = np.where(scale > _UNREAD * largest, scale, largest)
    with np.errstate(all="ignore"):
        leading = _leading(C.mid * off_x / scale[:, None], off_x.size)
    if leading is None:
        return None
    U, s, Vt = leading
    along = scale[:, None] * U
    project = np.divide(s[:, None] * Vt, off_x, out=np.zeros_like(Vt), where=off_x > 0)
    rest = (C - matmul(Ball(along), Ball(project))).magnitude @ off_x * (1 + 2.0**-30)
    unsolved = solved.rest + solved.origin.radius
    unknown = np.abs(project) @ unsolved * (1 + 2.0**-30)
    if not (np.all(rest <= _REST * scale) and np.all(unsolved <= _REST * np.max(off_x))):
        return None
    away = (solved.origin - Ball(solved.box.mid[0])).map(lambda a: a[:, None])
    shift = matmul(Ball(project), away).map(lambda a: a[:, 0])
    return Read(
        solved,
        along,
        rest,
        matmul(Ball(project), solved.M),
        shift + Ball(np.zeros_like(unknown), unknown),
        Ball(np.zeros(s.size), np.abs(project) @ off_x * (1 + 2.0**-30)),
        4 * (np.abs(U.T / scale) @ rest + unknown),
    )


def _leading(
    matrix: Float[np.ndarray, "m n"], n_states: int
) -> tuple[Float[np.ndarray, "m k"], Float[np.ndarray, " k"], Float[np.ndarray, "k n"]] | None:
    """Return the singular vectors that count, or `None` if they are more than half of the states.

    The matrix is in units of what its rows and columns range over.
    """
    if not np.isfinite(matrix).all():
        return None
    U, s, Vt = np.linalg.svd(matrix, full_matrices=False)
    rank = int(np.sum(s > _NEGLIGIBLE * s[0]))
    return (U[:, :rank], s[:rank], Vt[:rank]) if 0 < 2 * rank <= n_states else None
