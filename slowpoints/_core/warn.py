"""Warnings that point at the user's line, however deep in the package they arise."""

import sys
import warnings


def warn(message: str) -> None:
    """Warn, and give as the place the line that called into the package."""
    level, frame = 2, sys._getframe(1)
    while frame.f_back is not None and _is_skipped(frame.f_globals):
        level, frame = level + 1, frame.f_back
    warnings.warn(message, stacklevel=level)


def _is_skipped(names: dict[str, object]) -> bool:
    return str(names.get("__name__")).partition(".")[0] in _SKIPPED


_SKIPPED = ("slowpoints", "jaxtyping", "beartype")
"""The package, and what stands between its functions if their types are checked at run time."""
