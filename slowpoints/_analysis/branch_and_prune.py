"""Divide a box of states until each part is proven to hold no fixed point, or exactly one.

Networks that contract, and those that are piecewise linear, are decided without that.
"""

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from slowpoints._analysis.contracting import by_contraction
from slowpoints._analysis.piecewise_linear import by_regions
from slowpoints._certificates.balls import Ball, from_bounds, matmul
from slowpoints._certificates.interpreter import Program
from slowpoints._certificates.krawczyk import boxes_around
from slowpoints._core.arrays import power_of_two
from slowpoints._points.signs import inverses
from slowpoints._transition.base import Transition

_AT_A_TIME = 2**19
"""Boxes are looked at together as long as their Jacobians have no more entries than this."""

_INFLATION = 1.1
"""A box is looked at together with a margin of a tenth, so that a fixed point on the edge between
two boxes is inside of one. The margin is at least as large as `_SMALLEST`, for boxes that have been
cut down to little more than a point."""

_NARROWINGS = 8
"""So often is a box with one fixed point replaced by its image, each of which is a good part
smaller, before Newton's method starts from its middle."""

_SMALLEST = 1e-10
"""Boxes of this size, relative to the one that is searched, are given up: I - J is singular there
as far as float64 can tell, or a unit is at a kink."""


class _Boxes(NamedTuple):
    """Boxes by their ends, `[k, n_states]` each."""

    low: Float[np.ndarray, "k n_states"]
    high: Float[np.ndarray, "k n_states"]

    def where(self, mask: Any) -> "_Boxes":
        return _Boxes(self.low[mask], self.high[mask])


class Found:
    """Parts of the box that are settled, and those that are not."""

    def __init__(
        self,
        F: Transition,
        u: Float[np.ndarray, " n_inputs"],
        side: Float[np.ndarray, " n_states"],
    ):
        self._F, self._u, self._programs = F, u, {}
        self.n_states = side.size
        self.smallest = _SMALLEST * np.where(side > 0, side, 1.0)
        self.single: list[_Boxes] = []
        """Boxes that hold exactly one fixed point each."""
        self.given_up: list[_Boxes] = []
        """Boxes too small to be divided further."""
        self.left: list[_Boxes] = []
        """Boxes that were not looked at."""
        self.points: Float[np.ndarray, "n n_states"] | None = None
        """All fixed points, if they are known without any of these boxes."""

    def program(self, size: int) -> Program:
        """Return the network as a program for so many boxes."""
        if size not in self._programs:
            x = np.zeros((size, self.n_states), self._u.dtype)
            self._programs[size] = Program(self._F, x, np.tile(self._u, (size, 1)))
        return self._programs[size]

    def refined(
        self, low: Any, high: Any
    ) -> tuple[Float[np.ndarray, "n n_states"], Float[np.ndarray, "n n_states"], bool]:
        """Return the fixed points and their images, and whether none got lost on the way."""
        if self.points is not None:
            return self.points, self._images_of(self.points), True
        empty = np.zeros((0, self.n_states))
        if not self.single:
            return empty, empty, True
        boxes = _Boxes(*(np.concatenate(ends) for ends in zip(*self.single, strict=True)))
        program = self.program(len(boxes.low))
        precise = boxes_around(program, _narrowed(program, boxes))
        radius = precise.inner[:, None]
        with np.errstate(invalid="ignore"):
            inside = (precise.centre - radius >= boxes.low) & (
                precise.centre + radius <= boxes.high
            )
        proven = precise.exists & inside.all(axis=1)
        kept: list[int] = []
        is_all = bool(proven.all())
        for i in np.flatnonzero(proven):
            centre, reach = precise.centre[i], 2 * radius[i]  # twice, to cover all rounding
            if np.any((centre + reach < low) | (centre - reach > high)):
                continue
            # The fixed point of another box is this one if it is surely within this box.
            others, theirs = precise.centre[kept], 2 * precise.inner[kept][:, None]
            same = (others - theirs >= boxes.low[i]) & (others + theirs <= boxes.high[i])
            if same.all(axis=1).any():
                continue
            apart = np.abs(others - centre) > theirs + reach
            if apart.any(axis=1).all():
                kept.append(int(i))
            else:  # at the edge of this box: it is not known whether there are one or two
                is_all = False
        x = precise.centre[kept]
        return x, self._images_of(x), is_all

    def _images_of(self, x: Float[np.ndarray, "n n_states"]) -> Float[np.ndarray, "n n_states"]:
        size = power_of_two(max(len(x), 1))
        padded = np.concatenate([x, np.zeros((size - len(x), self.n_states))])
        return self.program(size).value(Ball(padded)).mid[: len(x)]

    def what_is_left(self, low: Any, high: Any) -> str:
        """Say why the search is not complete."""
        side = np.where(high > low, high - low, 1.0)

        def share(parts: list[_Boxes]) -> float:
            return sum(float(np.prod((p.high - p.low) / side, axis=1).sum()) for p in parts)

        count = sum(len(part.low) for part in self.left)
        small = sum(len(part.low) for part in self.given_up)
        parts = []
        if count:
            parts.append(
                f"`max_boxes` boxes were looked at, and {count}, {100 * share(self.left):.2g} % of "
                "the whole, were not. A higher `max_boxes` goes on"
            )
        if small:
            where = 0.5 * (self.given_up[0].low[0] + self.given_up[0].high[0])
            parts.append(
                f"{small} boxes around states such as {np.array2string(where, precision=4)} are "
                "too small to be divided, and undecided: I - J is singular there, as at a fold or "
                "on a line of fixed points, or a unit is at a kink"
            )
        if not parts:
            parts.append("not every fixed point could be computed precisely")
        return f"the fixed points that were found may not be all. {'. '.join(parts)}."


def search(F: Transition, low: Any, high: Any, u: Any, most: Any) -> Found:
    """Divide the box from `low` to `high`, looking at no more than `most` parts.

    Raises:
        NotCovered: if the network has an operation that no rule covers.
    """
    found = Found(F, u, high - low)
    found.points = by_contraction(F, u, low, high)
    if found.points is not None:
        return found
    regions = by_regions(F, u, low, high, most, found.smallest)
    if regions is not None:
        parts = [
            [_Boxes(*(np.array(ends) for ends in zip(*boxes, strict=True)))] if boxes else []
            for boxes in regions
        ]
        found.single, found.given_up = parts
        return found
    at_a_time = max(1, _AT_A_TIME // max(1, low.size**2))
    stack = [_Boxes(low[None], high[None])]
    n_seen, batch = 0, 1
    while stack:
        boxes = _Boxes(*(np.concatenate(ends) for ends in zip(*stack, strict=True)))
        batch = min(at_a_time, len(boxes.low))
        if n_seen + batch > most:
            found.left.append(boxes)
            break
        n_seen += batch
        now = _Boxes(boxes.low[-batch:], boxes.high[-batch:])
        stack = [_Boxes(boxes.low[:-batch], boxes.high[:-batch])] if len(boxes.low) > batch else []
        single, rest, slope = _look_at(found, now)
        found.single += [single] if len(single.low) else []
        tiny = (rest.high - rest.low <= found.smallest).all(axis=1)
        found.given_up += [rest.where(tiny)] if tiny.any() else []
        stack += [part for part in _divided(rest.where(~tiny), slope[~tiny]) if len(part.low)]
    return found


def _look_at(found: Found, boxes: _Boxes) -> tuple[_Boxes, _Boxes, Any]:
    """Return boxes with exactly one fixed point, what is open, and how slopes vary over the latter.

    What is open has been cut down to where fixed points can be.
    """
    count = len(boxes.low)
    rows = np.minimum(np.arange(power_of_two(count)), count - 1)
    boxes = _Boxes(boxes.low[rows], boxes.high[rows])
    exact = from_bounds(boxes.low, boxes.high)
    margin = Ball(exact.mid, exact.rad * _INFLATION + found.smallest)
    outer = _Boxes(*margin.bounds())
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
        _Boxes(low, high).where(first & is_open),
        np.max(spread, axis=1)[first & is_open],
    )


def _images(program: Program, box: Ball) -> tuple[_Boxes, _Boxes, Ball]:
    """Return what `F` makes of boxes, what Krawczyk's operator makes of them, and the slopes.

    Every fixed point in a box is in both.
    """
    value, slope = program.linearised(box)
    centre, eye = Ball(box.mid), Ball(np.eye(box.shape[1]))
    inverse = Ball(np.nan_to_num(inverses(np.nan_to_num(eye.mid - slope.mid))))
    step = matmul(inverse, _column(centre - program.value(centre)))
    reach = _column(Ball(np.zeros(box.shape), box.rad))
    rest = matmul(eye - matmul(inverse, eye - slope), reach)
    image = centre - (step - rest).map(lambda a: a[..., 0])
    return _known(value), _known(image), slope


def _narrowed(program: Program, boxes: _Boxes) -> Float[np.ndarray, "k n_states"]:
    """Return states near the one fixed point of each box, from which Newton's method goes there."""
    low, high = boxes
    for _ in range(_NARROWINGS):
        _, image, _ = _images(program, from_bounds(low, high))
        # Where rounding leaves nothing, the box is as narrow as it gets.
        narrow, wide = np.maximum(low, image.low), np.minimum(high, image.high)
        ok = (narrow <= wide).all(axis=1, keepdims=True)
        low, high = np.where(ok, narrow, low), np.where(ok, wide, high)
    return 0.5 * (low + high)


def _known(ball: Ball) -> _Boxes:
    """Return the ends of a ball; those that are not known are infinite."""
    low, high = ball.bounds()
    return _Boxes(np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high))


def _divided(boxes: _Boxes, spread: Float[np.ndarray, "k n_states"]) -> list[_Boxes]:
    """Halve each box where its side, times how much the slopes vary along it, is largest."""
    if len(boxes.low) == 0:
        return []
    width = boxes.high - boxes.low
    axis = np.argmax(width * np.maximum(spread, 1e-12), axis=1)
    here = np.arange(len(axis)), axis
    middle = 0.5 * (boxes.low[here] + boxes.high[here])
    left, right = boxes.high.copy(), boxes.low.copy()
    left[here], right[here] = middle, middle
    return [_Boxes(boxes.low, left), _Boxes(right, boxes.high)]


def _column(ball: Ball) -> Ball:
    return ball.map(lambda a: np.asarray(a)[..., None])
