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
    """A local minimum of `q` with `q > 0`: the gradient of `q` vanishes to rounding and `F(x) - x`
    does not, however small it is."""
    WITHIN_TOLERANCE = 3
    """The row stopped at `q < tol_q`, as asked, before it was known to be either."""
    UNFINISHED = 4
    """`max_iters` or the solver's patience ran out while `q` was falling. Finite, and valid."""
    ESCAPED = 5
    """`q` falls without end and no point is there, as in the tails of saturated units. Not valid.
    """
    NOT_FINITE = 6
    """NaN or infinite. Not valid."""

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)


def words(codes: Int[np.ndarray, " n"]) -> list[str]:
    """Return each code's status in words; "unknown" for other numbers, as in blank rows."""
    known = {int(status): str(status) for status in Status}
    return [known.get(code, "unknown") for code in codes.tolist()]
