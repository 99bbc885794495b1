"""`Status`: how the search of a row ended."""

import enum

import numpy as np
from jaxtyping import Int


class Status(enum.IntEnum):
    """How the search of a row ended, with the same meaning for every solver.

    [`FixedPoints.status`][slowpoints.FixedPoints] holds these numbers. Printed, a status is in
    words, such as "fixed point".
    """

    FIXED_POINT = 1
    """A root of `F(x) - x`: Newton's step from `xstar`, computed to rounding, is negligible. A low
    `q` alone never earns this."""
    SLOW_POINT = 2
    """A local minimum of `q` with `q > 0`. Newton's method for the minimum is predicted to lower
    `q` by less than 0.1 %, on the floor of a valley as well if the row is in one; at a kink, a
    convex combination of the adjoining regions' gradients vanishes. `F(x) - x` does not vanish,
    however small it is."""
    WITHIN_TOLERANCE = 3
    """The row stopped at `q < tol_q`, as asked, before it was known to be either."""
    UNFINISHED = 4
    """None of these: `max_iters` cut the row off while `q` was falling, or the solver made no more
    progress, as in a flat valley. Finite, and valid."""
    ESCAPED = 5
    """`q` falls without end and no point is there, as in the tails of saturated units; or the row
    is where no trajectory stays or comes to, as beyond -1 and 1 in a GRU. Not valid."""
    NOT_FINITE = 6
    """NaN or infinite. Not valid."""

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


_NOUNS = {
    Status.FIXED_POINT: ("fixed point", "fixed points"),
    Status.SLOW_POINT: ("slow point", "slow points"),
    Status.WITHIN_TOLERANCE: ("point within tolerance", "points within tolerance"),
    Status.UNFINISHED: ("unfinished point", "unfinished points"),
    Status.ESCAPED: ("escaped row", "escaped rows"),
    Status.NOT_FINITE: ("row that is not finite", "rows that are not finite"),
}


def counted(codes: Int[np.ndarray, " n"], kind: str = "") -> str:
    """Count points by their status, such as "3 fixed points and 2 slow points".

    Args:
        codes: the statuses.
        kind: what is said of all of them, such as "distinct".
    """
    found = [(int(np.sum(codes == status)), names) for status, names in _NOUNS.items()]
    found.append((len(codes) - sum(n for n, _ in found), ("unknown row", "unknown rows")))
    parts = [f"{n} {names[n != 1]}" for n, names in found if n] or ["0 fixed points"]
    if kind:
        number, _, name = parts[0].partition(" ")
        parts[0] = f"{number} {kind} {name}"
    *most, last = parts
    return f"{', '.join(most)} and {last}" if most else last


def words(codes: Int[np.ndarray, " n"]) -> list[str]:
    """Return each code's status in words; "unknown" for other numbers, as in blank rows."""
    known = {int(status): str(status) for status in Status}
    return [known.get(code, "unknown") for code in codes.tolist()]
