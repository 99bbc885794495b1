"""Where along a line the end of a trajectory changes: a scan, then sections of the first change."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

SECTIONS = 17
"""Into how many parts a section divides. All are followed side by side, which takes about as long
as one of them would. The number is odd because symmetry often puts the change exactly half way."""

UNKNOWN = -1
"""The label of a place whose trajectory is still moving."""


class Crossing(NamedTuple):
    """Between which places on each line the label changes."""

    low: Float[np.ndarray, " n"]
    """The last place with label 0."""
    high: Float[np.ndarray, " n"]
    """The next place with another label."""
    label: Int[np.ndarray, " n"]
    """That label."""
    n_changes: Int[np.ndarray, " n"]
    """How often the label changed along the line, in the first scan."""


LabelsOf = Callable[[Float[np.ndarray, "n k"]], Int[np.ndarray, "n k"]]
"""From places on each of `n` lines to labels: 0 at the lower end, 1 for what is looked for."""


def crossing(
    labels_of: LabelsOf,
    low: Float[np.ndarray, " n"],
    high: Float[np.ndarray, " n"],
    label: Int[np.ndarray, " n"],
    width: float,
    n_scan: int = SECTIONS,
) -> Crossing:
    """Find on each line the first change from label 0 to 1, or else to another label.

    Changes between neighbouring places of the scan, to and fro, are not seen.

    Args:
        labels_of: tells the labels of places.
        low: the lower ends, whose label is 0.
        high: the upper ends.
        label: the labels of the upper ends.
        width: how close, at least, the two places are to be, as a part of the line's length.
        n_scan: into how many parts to divide the line at first.
    """
    found = _section(labels_of, low, high, label, n_scan)
    n_changes, length = found.n_changes, high - low
    for _ in range(int(np.ceil(np.log(1 / (width * n_scan)) / np.log(SECTIONS)))):
        if (found.high - found.low <= width * length).all():
            break
        found = _section(labels_of, found.low, found.high, found.label, SECTIONS)
    return found._replace(n_changes=n_changes)


def _section(labels_of: LabelsOf, low: Any, high: Any, label: Any, n_parts: int) -> Crossing:
    places = np.linspace(low, high, n_parts + 1, axis=1)
    inner = labels_of(places[:, 1:-1])
    labels = np.concatenate([0 * label[:, None], inner, label[:, None]], axis=1)
    known = labels != UNKNOWN
    known[:, -1] = True  # so that there is an upper end
    # The last known label before each place.
    column = np.where(known, np.arange(n_parts + 1), 0)
    before = np.maximum.accumulate(column, axis=1)[:, :-1]
    changes = known[:, 1:] & (np.take_along_axis(labels, before, axis=1) != labels[:, 1:])
    from_low = changes & (np.take_along_axis(labels, before, axis=1) == 0)
    at = _first(from_low & (labels[:, 1:] == 1), from_low)
    row = np.arange(len(places))
    return Crossing(
        low=places[row, before[row, at]],
        high=places[row, at + 1],
        label=labels[row, at + 1],
        n_changes=changes.sum(axis=1),
    )


def _first(
    preferred: Bool[np.ndarray, "n k"], others: Bool[np.ndarray, "n k"]
) -> Int[np.ndarray, " n"]:
    """Return the first column of each row that is preferred, or else among the others."""
    chosen = np.where(preferred.any(axis=1, keepdims=True), preferred, others)
    return chosen.argmax(axis=1)
