"""What a finder prints: the state of a search while it goes on, and what came of it."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from slowpoints._core.types import Number
from slowpoints._pipeline.parts import are
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status, counted

_NO_NOISE = (
    "stable. No noise was added to the starts, and saddles are rarely found without it "
    "(`noise_scale`)."
)


def print_update(iteration: Any, q: Any, dq: Any, lr: Any, phase: str) -> None:
    """Print a line on the rows in work, as the `report` of a solver."""
    q, dq = np.asarray(q), np.asarray(dq)
    # A row's first iteration has no `dq` yet, and a broken one and a lane without a row no `q`.
    q, dq = (a[np.isfinite(a)] if np.isfinite(a).any() else np.full(1, np.nan) for a in (q, dq))
    line = (
        f"\t{phase}, Iter: {int(iteration)}, q = {np.mean(q):.2e} +/- {np.std(q):.2e}, "
        f"dq = {np.mean(dq):.2e} +/- {np.std(dq):.2e}"
    )
    print(line if lr is None else f"{line}, lr = {float(lr):.2e}")


def line_on_rows(all_fps: FixedPoints, seconds: float, compiled: float) -> str:
    """Say how long the search of all rows took, and how far it came."""
    q, its = all_fps.qstar, all_fps.n_iters
    before = f"Compiled in {compiled:.2f} s and searched" if compiled > 0 else "Searched"
    return (
        f"\t{before} in {seconds - compiled:.2f} s: iterations median {np.median(its):.0f}, "
        f"most {its.max()}; q median {np.median(q):.2e}, highest {np.max(q):.2e}."
    )


def lines_on_points(fps: FixedPoints, threshold: Number | None) -> Iterator[str]:
    """Say how many points are kept, and how many of them are stable."""
    below = f" with q < {threshold:.1e}" if threshold else ""
    yield f"\tFound {counted(fps.status, 'distinct')}{below}."
    exact = fps.status == Status.FIXED_POINT
    if fps.is_stable is not None and exact.any():
        n_stable = int(fps.is_stable[exact].sum())
        n_neutral = int((~fps.is_stable & (fps.n_unstable() == 0))[exact].sum())
        them = "them" if exact.all() else "the fixed points"
        neutral = f", {n_neutral} neutral" if n_neutral else ""
        n_unstable = exact.sum() - n_stable - n_neutral
        verb = are(n_stable)
        yield f"\t{n_stable} of {them} {verb} stable, {n_unstable} unstable{neutral}."


def line_on_noise(fps: FixedPoints) -> str:
    """Say of points that are all stable that noise may lead to others."""
    return f"\t{'The point kept is' if fps.n == 1 else 'All points kept are'} {_NO_NOISE}"


def all_stable(fps: FixedPoints) -> bool:
    """Return whether there are points, and all of them are known to be stable."""
    return fps.n > 0 and fps.is_stable is not None and bool(np.all(fps.is_stable))
