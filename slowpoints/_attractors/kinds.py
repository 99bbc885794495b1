"""`AttractorKind`: what states settle on."""

import enum


class AttractorKind(enum.IntEnum):
    """What states settle on. Printed, a kind is in words, such as "closed orbit"."""

    FIXED_POINT = 1
    """A fixed point: a stable one, or one at which states came to rest, to rounding."""
    CYCLE = 2
    """States that repeat after two or more steps."""
    CLOSED_ORBIT = 3
    """A closed curve that states go round without ever repeating exactly: the invariant circle of a
    map, which is what is left of a limit cycle where time moves in steps."""
    TORUS = 4
    """Quasi-periodic motion with two or more frequencies."""
    CHAOS = 5
    """The leading Lyapunov exponent is positive."""
    ESCAPE = 6
    """No attractor: states leave for infinity, or become NaN."""
    UNDECIDED = 7
    """Not known; the reason says why."""

    def __str__(self) -> str:
        return self.name.lower().replace("_", " ")

    def __format__(self, spec: str) -> str:
        return format(str(self), spec)
