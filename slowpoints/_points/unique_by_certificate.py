"""Which rows are at the same fixed point, as their certificates prove it."""

from typing import Any

import numpy as np
from jaxtyping import Int, Shaped

from slowpoints._intervals.certificates import Certificates, certificates_of
from slowpoints._network.base import Transition
from slowpoints._points.covering import cover
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.neighbours import nearest

_SCATTER = 1e-5
"""Rows at one fixed point agree in each state to `1e-6` or so. Rows this close are certified
together: one of them, and the others lie in the box in which its fixed point is the only one."""


def one_row_per_point(
    F: Transition, fps: FixedPoints, tol: float, condition: Shaped[np.ndarray, " n"] | None
) -> Int[np.ndarray, " n"]:
    """Choose one row per point, the lowest `q` first.

    Two rows are the same point if that is proven, and two points if that is; if neither is, they
    are the same point if they are at most `tol` apart.

    Args:
        F: the network.
        fps: rows with `xstar` and `inputs`; one at least.
        tol: the largest distance at which two rows count as one point if nothing is proven.
        condition: `[n]` labels; rows with different labels never count as one point.

    Returns:
        `[n]` the row that stands for each row: itself if it is chosen, and -1 for a row that takes
        no part.
    """
    fps = fps.to_numpy()
    labels = np.zeros(fps.n, int) if condition is None else np.asarray(condition)
    fine = min(tol, _SCATTER * np.sqrt(fps.n_states))
    usable = np.isfinite(fps.xstar).all(axis=1) & np.isfinite(fps.inputs).all(axis=1)
    usable &= np.isfinite(_q(fps))
    if fps.valid is not None:
        usable &= fps.valid
    leader_of, *_ = cover(fps.xstar, fps.inputs, fps.qstar, fps.valid, fine, condition)
    rows, leaders = np.flatnonzero(usable), np.flatnonzero(leader_of == np.arange(fps.n))
    place, _ = nearest(
        [fps.xstar[rows], fps.inputs[rows]],
        [fps.xstar[leaders], fps.inputs[leaders]],
        fine * (1 + 1e-9),
        (labels[rows], labels[leaders]),
    )

    def proven_at(rows: Int[np.ndarray, " k"]) -> Certificates:
        inputs = fps.inputs[rows].astype(fps.xstar.dtype)
        return certificates_of(F, fps.xstar[rows], inputs, fps.tol_unique)

    first = proven_at(leaders)
    leader = np.where(place < 0, 0, place)
    same_input = (fps.inputs[rows] == fps.inputs[leaders][leader]).all(axis=1)
    alone = place < 0
    if leaders.size:
        beside = first.excludes(fps.xstar[rows], leader) | ~same_input
        alone |= first.is_certified[leader] & beside

    # The rows that speak for others or for themselves, by rising `q`.
    speakers = np.concatenate([leaders, rows[alone]])
    order = np.argsort(_q(fps)[speakers], kind="stable")
    speakers = speakers[order]
    proven = first
    if alone.any():
        proven = Certificates.concatenate([first, proven_at(rows[alone])])
    chosen_of = _choose(proven[order], fps[speakers], tol, labels[speakers])
    point_of = np.full(fps.n, -1)
    point_of[speakers] = speakers[chosen_of]
    follow = ~alone
    point_of[rows[follow]] = point_of[leaders[place[follow]]]
    return point_of


def _choose(
    proven: Certificates, fps: FixedPoints, tol: float, labels: Shaped[np.ndarray, " m"]
) -> Int[np.ndarray, " m"]:
    """Return for each row the row that stands for it."""
    alike = labels[:, None] == labels
    same = proven.are_same() & alike
    open_to_distance = ~(same | proven.are_distinct()) & alike
    joint = np.concatenate([fps.xstar, fps.inputs], axis=1).astype(np.float64)
    stands = np.arange(fps.n)
    kept: list[int] = []
    for row in range(fps.n):
        others = np.array(kept, int)
        near = np.linalg.norm(joint[others] - joint[row], axis=1) <= tol
        merged = others[same[row, others] | (open_to_distance[row, others] & near)]
        if merged.size:
            # What is proven goes before what is merely near.
            stands[row] = next((k for k in merged if same[row, k]), merged[0])
        else:
            kept.append(row)
    return stands


def _q(fps: FixedPoints) -> Any:
    return np.zeros(fps.n) if fps.qstar is None else fps.qstar.astype(np.float64)
