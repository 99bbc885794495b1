"""Divide a box until each part is proven to hold no fixed point, or exactly one."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from slowpoints._core.arrays import power_of_two
from slowpoints._intervals.balls import Ball, from_bounds, matmul
from slowpoints._intervals.enclosure import Enclosing
from slowpoints._intervals.krawczyk import boxes_around
from slowpoints._linear_algebra.signs import inverses

_AT_A_TIME = 2**19
"""Parts are looked at together as long as they have no more slopes than this."""

_INFLATION = 1.1
"""A box is looked at together with a margin of a tenth, so that a fixed point on the edge between
two boxes is inside of one. The margin is at least as large as `SMALLEST`, for boxes that have been
cut down to little more than a point."""

_NARROWINGS = 8
"""So often is a box with one fixed point replaced by its image, each of which is a good part
smaller, before Newton's method starts from its middle."""

_NARROWER = 0.99
"""Images that are hardly smaller than the boxes are as small as rounding leaves them."""

SMALLEST = 1e-10
"""Parts of this size, relative to the one that is searched, are given up: I - J is singular there
as far as float64 can tell, or a unit is at a kink."""


class Parts(NamedTuple):
    """Boxes by their ends, `[k, n_states]` each."""

    low: Float[np.ndarray, "k n_states"]
    high: Float[np.ndarray, "k n_states"]

    def where(self, mask: Any) -> "Parts":
        return Parts(self.low[mask], self.high[mask])


def joined(parts: list[Parts], n_states: int) -> Parts:
    """Return all boxes of a list, which may be empty."""
    empty = np.zeros((0, n_states))
    ends = zip(*[Parts(empty, empty), *parts], strict=True)
    return Parts(*(np.concatenate(end) for end in ends))


class SettledParts:
    """Parts of the box that are settled, and those that are not."""

    def __init__(
        self,
        program: Callable[[int], Enclosing],
        smallest: Float[np.ndarray, " n_states"],
        n_slopes: int,
    ):
        self.program = program
        """Returns the map for so many boxes, and the same one when it is asked again."""
        self.at_a_time = max(1, _AT_A_TIME // max(1, n_slopes))
        """How many boxes are looked at together, each of which has `n_slopes` slopes."""
        self.n_states, self.smallest = smallest.size, smallest
        self.single: list[Parts] = []
        """Parts that hold exactly one fixed point each."""
        self.given_up: list[Parts] = []
        """Parts too small to be divided further, or the first of them."""
        self.n_more_given_up = 0
        """How many of them are not in `given_up`."""
        self.n_left, self.share_left = 0, 0.0
        """How many boxes were not looked at, and what share of the whole they are."""
        self.points: Float[np.ndarray, "n n_states"] | None = None
        """All fixed points, if they are known without any of these boxes."""

    @property
    def n_undecided(self) -> int:
        """How many boxes were given up."""
        return sum(len(part.low) for part in self.given_up) + self.n_more_given_up

    def refined(
        self, low: Any, high: Any
    ) -> tuple[Float[np.ndarray, "n n_states"], Float[np.ndarray, "n n_states"], bool]:
        """Return the fixed points and their images, and whether none got lost on the way."""
        if self.points is not None:
            return self.points, self._images_of(self.points), True
        empty = np.zeros((0, self.n_states))
        if not self.single:
            return empty, empty, True
        boxes = joined(self.single, self.n_states)
        program = self.program(len(boxes.low))
        near = narrowed(program, boxes)
        precise = boxes_around(program, 0.5 * (near.low + near.high))
        radius = precise.inner[:, None]
        with np.errstate(invalid="ignore"):
            inside = (precise.centre - radius >= boxes.low) & (
                precise.centre + radius <= boxes.high
            )
        proven = precise.exists & inside.all(axis=1)
        x = precise.centre[proven]
        kept, doubtful = distinct(x, precise.inner[proven], boxes.where(proven), low, high)
        return x[kept], self._images_of(x[kept]), bool(proven.all()) and not doubtful

    def _images_of(self, x: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, "n n_states"]:
        size = power_of_two(max(len(x), 1))
        padded = np.concatenate([x, np.zeros((size - len(x), self.n_states))])
        return self.program(size).value(Ball(padded)).mid[: len(x)]

    def what_is_left(self, unit: Float[np.ndarray, " n_states"]) -> str:
        """Say why the search is not complete; `unit` is that of the boxes' states."""
        parts = []
        if self.n_left:
            parts.append(
                f"`max_boxes` boxes were looked at, and {self.n_left}, {100 * self.share_left:.2g} "
                "% of the whole, were not. A higher `max_boxes` goes on"
            )
        if self.n_undecided:
            where = "boxes"
            if self.given_up:
                first = 0.5 * unit * (self.given_up[0].low[0] + self.given_up[0].high[0])
                where += (
                    f" around states such as {np.array2string(first, precision=4, threshold=16)}"
                )
            parts.append(
                f"{self.n_undecided} {where} are too small to be divided, and undecided: I - J is "
                "singular there, as at a fold or on a line of fixed points, or a unit is at a kink"
            )
        if not parts:
            parts.append("not every fixed point could be computed precisely")
        return f"the fixed points that were found may not be all. {'. '.join(parts)}."


def branch(found: SettledParts, low: Any, high: Any, most: Any) -> None:
    """Divide the box from `low` to `high`, looking at no more than `most` parts.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    stack = [Parts(low[None], high[None])]
    n_seen, batch = 0, 1
    while stack:
        boxes = joined(stack, low.size)
        batch = min(found.at_a_time, len(boxes.low))
        if n_seen + batch > most:
            side = np.where(high > low, high - low, 1.0)
            found.n_left = len(boxes.low)
            found.share_left = float(np.prod((boxes.high - boxes.low) / side, axis=1).sum())
            break
        n_seen += batch
        now = Parts(boxes.low[-batch:], boxes.high[-batch:])
        stack = [Parts(boxes.low[:-batch], boxes.high[:-batch])] if len(boxes.low) > batch else []
        single, rest, slope = _look_at(found, now)
        found.single += [single] if len(single.low) else []
        tiny = (rest.high - rest.low <= found.smallest).all(axis=1)
        found.given_up += [rest.where(tiny)] if tiny.any() else []
        stack += [part for part in divided(rest.where(~tiny), slope[~tiny]) if len(part.low)]


def distinct(
    centre: Float[np.ndarray, "k n_states"],
    radius: Float[np.ndarray, " k"],
    boxes: Parts,
    low: Any,
    high: Any,
) -> tuple[list[int], list[int]]:
    """Return which rows are fixed points that differ, and which may or may not be one of these.

    Args:
        centre: `[k, n_states]` where the fixed points are.
        radius: `[k]` by how much their entries may differ from that.
        boxes: what holds no other fixed point than that of its row.
        low: `[n_states]` fixed points that are surely lower are left out.
        high: `[n_states]` as those that are surely higher.
    """
    kept: list[int] = []
    doubtful: list[int] = []
    reach = 2 * radius[:, None]  # twice, to cover all rounding
    for i in range(len(centre)):
        if np.any((centre[i] + reach[i] < low) | (centre[i] - reach[i] > high)):
            continue
        # The fixed point of another box is this one if it is surely within this box.
        others, theirs = centre[kept], reach[kept]
        same = (others - theirs >= boxes.low[i]) & (others + theirs <= boxes.high[i])
        if same.all(axis=1).any():
            continue
        apart = (np.abs(others - centre[i]) > theirs + reach[i]).any(axis=1)
        # At the edge of a box, it is not known whether there are one or two.
        (kept if apart.all() else doubtful).append(i)
    return kept, doubtful


def _look_at(found: SettledParts, boxes: Parts) -> tuple[Parts, Parts, Any]:
    """Return boxes with exactly one fixed point, what is open, and how slopes vary over the latter.

    What is open has been cut down to where fixed points can be.
    """
    count = len(boxes.low)
    rows = np.minimum(np.arange(power_of_two(count)), count - 1)
    boxes = Parts(boxes.low[rows], boxes.high[rows])
    exact = from_bounds(boxes.low, boxes.high)
    margin = Ball(exact.mid, exact.rad * _INFLATION + found.smallest)
    outer = Parts(*margin.bounds())
    values, image, slope = _images(found.program(rows.size), margin)
    # `outer` is rounded outwards, by less than what two steps to the next number undo.
    inner_low = np.nextafter(np.nextafter(outer.low, np.inf), np.inf)
    inner_high = np.nextafter(np.nextafter(outer.high, -np.inf), -np.inf)
    single = np.all((image.low > inner_low) & (image.high < inner_high), axis=1)
    low = np.maximum(boxes.low, np.maximum(values.low, image.low))
    high = np.minimum(boxes.high, np.minimum(values.high, image.high))
    is_open = np.all(low <= high, axis=1) & ~single
    first = np.arange(rows.size) < count
    radius = np.broadcast_to(slope.radius, slope.shape)
    spread = np.where(np.isfinite(radius), radius, 1e300)
    return (
        outer.where(first & single),
        Parts(low, high).where(first & is_open),
        np.max(spread, axis=1)[first & is_open],
    )


def _images(program: Enclosing, box: Ball) -> tuple[Parts, Parts, Ball]:
    """Return what `F` makes of boxes, what Krawczyk's operator makes of them, and the slopes.

    Every fixed point in a box is in both.
    """
    value, slope = program.linearised(box)
    centre, eye = Ball(box.mid), Ball(np.eye(box.shape[1]))
    inverse = Ball(np.nan_to_num(inverses(np.nan_to_num(eye.mid - slope.mid))))
    step = matmul(inverse, (centre - program.value(centre)).map(column))
    reach = Ball(np.zeros(box.shape), box.rad).map(column)
    rest = matmul(eye - matmul(inverse, eye - slope), reach)
    image = centre - (step - rest).map(lambda a: a[..., 0])
    return known_ends(value), known_ends(image), slope


def narrowed(program: Enclosing, boxes: Parts, most: int = _NARROWINGS) -> Parts:
    """Return what of each box can hold its one fixed point, after `most` images or fewer."""
    low, high = boxes
    for _ in range(most):
        before = high - low
        _, image, _ = _images(program, from_bounds(low, high))
        # Where rounding leaves nothing, the box is as narrow as it gets.
        narrow, wide = np.maximum(low, image.low), np.minimum(high, image.high)
        ok = (narrow <= wide).all(axis=1, keepdims=True)
        low, high = np.where(ok, narrow, low), np.where(ok, wide, high)
        if (high - low >= _NARROWER * before).all():
            break
    return Parts(low, high)


def known_ends(ball: Ball) -> Parts:
    """Return the ends of a ball; those that are not known are infinite."""
    low, high = ball.bounds()
    return Parts(np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high))


def divided(boxes: Parts, spread: Float[np.ndarray, "k n_states"]) -> list[Parts]:
    """Halve each box where its side, times how much the slopes vary along it, is largest."""
    if len(boxes.low) == 0:
        return []
    width = boxes.high - boxes.low
    axis = np.argmax(width * np.maximum(spread, 1e-12), axis=1)
    here = np.arange(len(axis)), axis
    middle = 0.5 * (boxes.low[here] + boxes.high[here])
    left, right = boxes.high.copy(), boxes.low.copy()
    left[here], right[here] = middle, middle
    return [Parts(boxes.low, left), Parts(right, boxes.high)]


def column(a: np.ndarray) -> np.ndarray:
    """Return vectors as columns, `[..., 1]`."""
    return np.asarray(a)[..., None]
