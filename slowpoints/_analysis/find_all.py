"""`find_all`: every fixed point in a box, proven, by branching and pruning."""

import warnings
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.core import Tracer
from jaxtyping import Float

from slowpoints._analysis.piecewise_linear import by_regions
from slowpoints._certificates.balls import Ball, from_bounds, matmul
from slowpoints._certificates.enclosure import NotCovered
from slowpoints._certificates.interpreter import Program
from slowpoints._certificates.krawczyk import boxes_around
from slowpoints._core import arguments
from slowpoints._core.arrays import power_of_two
from slowpoints._core.status import Status
from slowpoints._core.types import Number, RealArray
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.signs import inverses
from slowpoints._transition.base import Transition
from slowpoints._transition.check import check_transition
from slowpoints._transition.convert import as_transition

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


def find_all(
    F: Any,
    box: tuple[Any, Any],
    inputs: Float[RealArray, " n_inputs"] | None = None,
    *,
    max_boxes: Number = 2**18,
) -> tuple[FixedPoints, bool]:
    """Find every fixed point in a box of states, and prove that there are no others.

    The box is divided until Krawczyk's test (see [`certify`][slowpoints.certify]) proves of each
    part that it holds no fixed point, or exactly one. Parts are first cut down to what `F` and
    Newton's method leave of them (Neumaier 1990, "Interval methods for systems of equations"). The
    number of parts grows quickly with the number of units, so this is for networks of up to six or
    eight units, or for small boxes. Networks that are piecewise linear, as with `relu` units, with
    up to 16 kinks are solved region by region instead, of which there are up to 2^16.

    The proof is about the network in real arithmetic with the weights as they are stored, as for
    `certify`, and needs the same operations to be known.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        box: `(low, high)`, the lowest and the highest state, `[n_states]` each; or numbers, if the
            network says how many states it has. The states of `tanh` units are from -1 to 1.
        inputs: `[n_inputs]` the constant input; none or zeros by default.
        max_boxes: look at no more parts than this.

    Returns:
        The fixed points, backed by NumPy and in float64, with `xstar`, `F_xstar`, `inputs`, `qstar`
        and `status`; and whether they are proven to be all that there are in the box. Each point is
        proven to be one, and to differ from the others, even if the search is not complete.

    Raises:
        TypeError: if `F` is of no known kind, or an argument is of the wrong kind or traced.
        ValueError: if the box is empty or not finite, or `F` does not map such states to states, or
            has an operation that is not covered.

    Warns:
        UserWarning: if the search is not complete. The warning says how much of the box is left,
            and why.
    """
    F = as_transition(F)
    low, high, u = _checked(F, box, inputs)
    most = arguments.whole("find_all", "max_boxes", max_boxes, least=1, or_infinite=True)
    try:
        found = _search(F, low, high, u, most)
    except NotCovered as operation:
        raise ValueError(
            f"find_all: `F` has an operation, {operation}, that proofs do not cover; expected what "
            "`certify` covers."
        ) from operation
    x, fx, is_all = found.refined(low, high)
    if found.left or found.given_up or not is_all:
        warnings.warn(f"find_all: {found.what_is_left(low, high)}", stacklevel=2)
    fps = FixedPoints(
        xstar=x,
        F_xstar=fx,
        inputs=np.broadcast_to(u.astype(np.float64), (len(x), u.size)),
        qstar=0.5 * np.sum((x - fx) ** 2, axis=1),
        status=np.full(len(x), Status.FIXED_POINT, np.int8),
        dtype=np.float64,
    )
    return fps, bool(is_all and not found.left and not found.given_up)


def _checked(F: Transition, box: Any, inputs: Any) -> tuple[Any, Any, Any]:
    caller = "find_all"
    if any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves((F, box, inputs))):
        arguments.refuse(caller, "F", "is traced", "to be called outside of `jit`", TypeError)
    if not isinstance(box, (tuple, list)) or len(box) != 2:
        expected = "a pair (low, high) of states"
        arguments.refuse(caller, "box", arguments.found(box), expected, TypeError)
    ends = [np.asarray(end) for end in box]
    size = max((end.shape[0] for end in ends if end.ndim), default=F.n_states)
    if size == 0:
        arguments.refuse(caller, "box", "has no states", "at least one state", ValueError)
    if size is None:
        expected = "states [n_states], since the network does not say how many states it has"
        arguments.refuse(caller, "box", "holds two numbers", expected, ValueError)
    named = zip(("box[0]", "box[1]"), ends, strict=True)
    ends = [
        arguments.array(
            caller, name, np.broadcast_to(end, (size,)) if end.ndim == 0 else end, (size,)
        )
        for name, end in named
    ]
    dtype = jax.dtypes.canonicalize_dtype(np.result_type(*ends, np.float32))
    low, high = (np.asarray(end, np.float64) for end in ends)
    if not (np.isfinite(low).all() and np.isfinite(high).all() and np.all(low <= high)):
        arguments.refuse(
            caller, "box", f"is from {low} to {high}", "finite states, low <= high", ValueError
        )
    if inputs is None:
        inputs = np.zeros(F.n_inputs or 0, dtype)
    u = np.asarray(arguments.array(caller, "inputs", inputs, ("n_inputs",), finite=True), dtype)
    check_transition(caller, F, size, u.size, dtype, states="box", inputs="inputs")
    return low, high, u


class _Boxes(NamedTuple):
    """Boxes by their ends, `[k, n_states]` each."""

    low: Float[np.ndarray, "k n_states"]
    high: Float[np.ndarray, "k n_states"]

    def where(self, mask: Any) -> "_Boxes":
        return _Boxes(self.low[mask], self.high[mask])


class _Found:
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
        for i in np.flatnonzero(proven):
            # The fixed point of another box is this one if it is surely within this box.
            others = precise.centre[kept], precise.inner[kept][:, None]
            same = (others[0] - others[1] >= boxes.low[i]) & (
                others[0] + others[1] <= boxes.high[i]
            )
            away = (precise.centre[i] + radius[i] < low) | (precise.centre[i] - radius[i] > high)
            if not same.all(axis=1).any() and not away.any():
                kept.append(int(i))
        x = precise.centre[kept]
        size = power_of_two(max(len(x), 1))
        padded = np.concatenate([x, np.zeros((size - len(x), self.n_states))])
        return x, self.program(size).value(Ball(padded)).mid[: len(x)], bool(proven.all())

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


def _search(F: Transition, low: Any, high: Any, u: Any, most: Any) -> _Found:
    found = _Found(F, u, high - low)
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


def _look_at(found: _Found, boxes: _Boxes) -> tuple[_Boxes, _Boxes, Any]:
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
    single = np.all((image.low > outer.low) & (image.high < outer.high), axis=1)
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
