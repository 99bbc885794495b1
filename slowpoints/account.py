"""What became of the rows of a search, in words."""

from typing import Any

import numpy as np
from jaxtyping import Bool

from slowpoints.fixed_points import FixedPoints


def why_nothing(
    all_fps: FixedPoints,
    is_far: Bool[Any, " n"],
    final_q_threshold: Any,
) -> str:
    """Say why a search kept none of its rows: how many fell to which rule, and what to change.

    A row is counted at the first rule that drops it.

    Args:
        all_fps: all rows of the search.
        is_far: `[n]` which of them the distance rule drops.
        final_q_threshold: the `q` that kept points are below, `None` or 0 for any.
    """
    x, q = np.asarray(all_fps.xstar), np.asarray(all_fps.qstar)
    finite = np.isfinite(x).all(axis=1) & np.isfinite(q)
    valid = np.ones(all_fps.n, bool) if all_fps.valid is None else np.asarray(all_fps.valid)
    far = finite & valid & np.asarray(is_far)
    left = finite & valid & ~far
    slow = left & ~(q < final_q_threshold) if final_q_threshold else np.zeros_like(left)
    reasons = []
    if slow.any():
        reasons.append(
            f"{slow.sum()} ended with q >= `final_q_threshold` = {final_q_threshold:.1e}, the "
            f"lowest at q = {q[slow].min():.1e} (a higher threshold keeps slow points)"
        )
    if far.any():
        reasons.append(
            f"{far.sum()} ended far from the initial states (`outlier_distance_scale` says how far)"
        )
    if not finite.all():
        reasons.append(f"{(~finite).sum()} are NaN or infinite")
    escaped = (finite & ~valid) | (left & ~slow)
    if escaped.any():
        reasons.append(
            f"{escaped.sum()} lead nowhere: q falls without end on their way, as in the tails of "
            "saturated units (start closer to states that the network visits)"
        )
    return f"None of the {all_fps.n} rows is kept: {'; '.join(reasons)}."
