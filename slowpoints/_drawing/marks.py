"""How kinds of points look, and which points look alike."""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool

from slowpoints._linear_algebra.linear_dynamics import decay
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status

# Every two of these colours can be told apart with normal vision and with each kind of colour
# blindness (a test simulates them), and every kind of point has its own shape, for print in grey.
_STABLE = ("o", "#0072B2")
_UNSTABLE = ("X", "#D55E00")
_UNKNOWN = ("d", "#7F7F7F")
# Points that are not known to be fixed points.
_OTHERS = {
    Status.SLOW_POINT: ("slow point", "*", "#56B4E9"),
    Status.WITHIN_TOLERANCE: ("point within tolerance", "p", "#B3B3B3"),
    Status.UNFINISHED: ("unfinished point", "h", "#4D4D4D"),
}
# By index, so that an index looks the same in every figure; the last one also stands for all above.
_BY_INDEX = (
    ("^", "#E69F00"),
    ("s", "#882255"),
    ("D", "#9DE3C8"),
    ("P", "#000000"),
    ("v", "#FFDD88"),
)
MARKS = (_STABLE, *_BY_INDEX)
"""Shape and colour of fixed points by index, from 0 on."""


@dataclass(frozen=True)
class Group:
    """Points that look the same."""

    rows: Bool[np.ndarray, " n"]
    name: str
    marker: str
    color: str

    @property
    def is_pale(self) -> bool:
        """Whether its marks are pale, small and behind the others, since they say the least.

        Unfinished points may be many, and no fixed point or slow point need be where they are.
        """
        return self.marker == _OTHERS[Status.UNFINISHED][1]


def groups_of(points: FixedPoints) -> list[Group]:
    """Sort fixed points by stability and index, as far as these are known, and others by status.

    Where there is no status, all count as fixed points.
    """
    if points.status is None:
        return _fixed_groups(points)
    exact = points.status == Status.FIXED_POINT
    groups = _fixed_groups(points[exact])
    for i, group in enumerate(groups):
        rows = np.zeros(points.n, bool)
        rows[exact] = group.rows
        groups[i] = replace(group, rows=rows)
    for status, style in _OTHERS.items():
        groups.append(Group(points.status == status, *style))
    rest = ~exact & ~np.isin(points.status, list(_OTHERS))
    groups.append(Group(rest, "point, status unknown", *_UNKNOWN))
    return [group for group in groups if group.rows.any()]


def _fixed_groups(points: FixedPoints) -> list[Group]:
    stable = points.is_stable
    if stable is None and points.has_decomposed_jacobians:
        stable = np.asarray(decay(points.eigval_J_xstar, points.continuous_time)).all(axis=1)
    if stable is None:
        everything = np.ones(points.n, dtype=bool)
        unknown = Group(everything, "fixed point, stability unknown", *_UNKNOWN)
        return [unknown] if points.n else []
    stable = stable.astype(bool)
    groups = [Group(stable, "stable fixed point", *_STABLE)]
    index = np.full(points.n, -1)  # unknown, as where a Jacobian was not finite
    if points.has_decomposed_jacobians:
        index = np.asarray(points.n_unstable())
    for k, style in enumerate(_BY_INDEX, start=1):
        is_last = k == len(_BY_INDEX)
        rows = ~stable & ((index >= k) if is_last else (index == k))
        if rows.any():
            name = _index_name(int(index[rows].min()), int(index[rows].max()), points.n_all_modes)
            groups.append(Group(rows, name, *style))
    # Neither stable nor unstable: on a line of fixed points, nothing grows and something stays.
    groups.append(Group(~stable & (index == 0), "neutral fixed point", *_UNKNOWN))
    groups.append(Group(~stable & (index < 0), "unstable fixed point", *_UNSTABLE))
    return [group for group in groups if group.rows.any()]


def _index_name(low: int, high: int, n_states: int) -> str:
    if low < high:
        return f"unstable, index {low} to {high}"
    return f"{'repeller' if low == n_states else 'saddle'}, index {low}"
