"""Follow curves of fixed points from known points, and put together what was followed."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

from slowpoints._arclength.curve import Curve, of_rows
from slowpoints._arclength.joins import Join, joins
from slowpoints._arclength.on_curve import OnCurve, Trail, across, on_curve
from slowpoints._arclength.steps import Lanes, beyond_corner, hermite, take_steps
from slowpoints._core.arrays import put

_ATTEMPTS = 16
"""So many steps are tried before the host looks at where the lanes are."""

_FIRST_STEP = 0.01
"""Short enough for most networks; it doubles while the steps are easy."""

_BESIDE_CROSSINGS = {8: 5e-5, 4: 5e-2}
"""Points closer than this to where another curve crosses, which are there because steps are short,
are left out: the equations are nearly singular there, and eigenvalues are no more than rounding (in
float64 and float32)."""

Side = int
"""In which direction a curve is followed from a point: 1 along its tangent, or -1."""


class Port(NamedTuple):
    """One of the two sides of a point that curves are followed from."""

    start: int
    side: Side


class Arc(NamedTuple):
    """A part of a curve, from one point that it was followed from.

    Attributes:
        y: `[k, d + 1]` its points, in order, the first included.
        tangent: `[k, d + 1]` unit tangents in the direction of the order.
        orientation: `[k]` see `Corrected`.
        ended_by: why it ends: see `Branch`; `"joined"` at another such point.
        joined: where it arrived then.
    """

    y: Float[np.ndarray, "k d1"]
    tangent: Float[np.ndarray, "k d1"]
    orientation: Float[np.ndarray, " k"]
    ended_by: str
    joined: Port | None = None

    def reversed(self, ended_by: str, joined: Port | None) -> "Arc":
        """Return the same points in the other order."""
        backwards = self.y[::-1], -self.tangent[::-1], -self.orientation[::-1]
        return Arc(*backwards, ended_by, joined)


class Chain(NamedTuple):
    """Arcs that are one curve: see `Branch`."""

    y: Float[np.ndarray, "k d1"]
    tangent: Float[np.ndarray, "k d1"]
    ended_by: tuple[str, str]
    starts: tuple[int, ...]


def arcs_from(
    curve: Curve,
    starts: OnCurve,
    longest: float,
    most_steps: int,
) -> dict[Port, Arc]:
    """Follow the curves through some points in both directions, until each is known.

    A curve that arrives at another of the points ends there, for it goes on from there anyway.

    Args:
        curve: the equations.
        starts: points on the curves, all different, with their tangents.
        longest: the longest step.
        most_steps: the most points of an arc.

    Returns:
        The arc from each side of each point.
    """
    progress = _Progress(starts, min(_FIRST_STEP, longest))
    live = progress.begin()
    while live.size:
        on_way, path = progress.advance(curve, live, longest)
        arrivals = joins(curve, progress.trails, live, path, starts)
        for place, lane in enumerate(live.tolist()):
            if progress.is_known(lane):  # the other end of one that arrived here
                continue
            taken, trail = path.is_on_curve[:, place], progress.trails[lane]
            new = path.y[taken, place], path.tangent[taken, place], path.orientation[taken, place]
            if place in arrivals:
                progress.arrive(lane, new, arrivals[place], starts)
                continue
            trail.extend(*new)
            if not on_way[place] or len(trail.y) >= most_steps:
                progress.end_or_turn(curve, lane, most_steps)
        live = np.array([lane for lane in live.tolist() if not progress.is_known(lane)], int)
    left_span = progress.left_span
    cut = _cut(curve, [progress.arcs[port] for port in left_span])
    return progress.arcs | dict(zip(left_span, cut, strict=True))


class _Progress:
    """How far curves are followed. From each start, there are two lanes, one on each side.

    Attributes:
        trails: what each lane has passed so far.
        arcs: what is known of the curves, from each side of each start.
        left_span: the sides from which the last step leads out of the span.
    """

    def __init__(self, starts: OnCurve, first_step: float) -> None:
        n, y = len(starts.y), np.concatenate([starts.y, starts.y])
        tangent = np.concatenate([starts.tangent, -starts.tangent])
        orientation = np.concatenate([starts.orientation, -starts.orientation])
        self._first_step = first_step
        self._ports = [Port(start, side) for side in (1, -1) for start in range(n)]
        # The parts of `Lanes`, all but `running`.
        self._y, self._tangent, self._step = y, tangent, np.full(2 * n, first_step, y.dtype)
        self._orientation, self._wary = orientation, np.zeros(2 * n, int)
        self._corners = np.zeros(2 * n, int)  # how long each trail was at its last corner
        self.trails = [
            Trail([y[i].copy()], [tangent[i].copy()], [orientation[i]]) for i in range(2 * n)
        ]
        self.arcs: dict[Port, Arc] = {}
        self.left_span: list[Port] = []

    def begin(self) -> Int[np.ndarray, " lanes"]:
        """Return the lanes that are to be followed, all but those that leave the span at once."""
        inside = _goes_inside(self._y, self._tangent)
        for lane in np.flatnonzero(~inside):
            self.arcs[self._ports[lane]] = _arc(self.trails[lane], "span")
        return np.flatnonzero(inside)

    def is_known(self, lane: int) -> bool:
        """Return whether the arc of a lane is known, so that it need not be followed further."""
        return self._ports[lane] in self.arcs

    def advance(
        self, curve: Curve, live: Int[np.ndarray, " lanes"], longest: float
    ) -> tuple[Bool[np.ndarray, " lanes"], OnCurve]:
        """Try some steps along some lanes; return which may go on, and what they tried to reach."""
        moving = (self._y, self._tangent, self._step, self._orientation, self._wary)
        (*moved, on_way), path = _followed(curve, [part[live] for part in moving], longest)
        for part, new in zip(moving, moved, strict=True):
            part[live] = new
        return on_way, path

    def arrive(self, lane: int, new: tuple[Any, Any, Any], join: Join, starts: OnCurve) -> None:
        """Let a lane end where it arrives at a start, and so also the lane that comes from there.

        Args:
            lane: its number.
            new: its new points, also those after the arrival, with tangents and orientations.
            join: where it arrives.
            starts: the points from which curves are followed.
        """
        side = 1 if join.tangent @ starts.tangent[join.start] < 0 else -1
        end = join.y, join.tangent, -side * starts.orientation[join.start]
        trail, port, other = self.trails[lane], self._ports[lane], Port(join.start, side)
        trail.extend(*([*more[: join.n_before], last] for more, last in zip(new, end, strict=True)))
        self.arcs[port] = _arc(trail, "joined", other)
        self.arcs[other] = self.arcs[port].reversed("joined", port)

    def end_or_turn(self, curve: Curve, lane: int, most_steps: int) -> None:
        """Let a lane end that cannot go on, unless it is at a corner behind which it goes on."""
        port, trail = self._ports[lane], self.trails[lane]
        if not 0 <= self._y[lane, -1] <= 1:
            self.arcs[port] = _arc(trail, "span")
            self.left_span.append(port)
        elif len(trail.y) >= most_steps:
            self.arcs[port] = _arc(trail, "max_steps")
        else:
            beyond = _beyond_corner(curve, self._y[lane], self._tangent[lane])
            if beyond is None or len(trail.y) == self._corners[lane]:
                self.arcs[port] = _arc(trail, "stuck")
                return
            y, tangent = beyond
            self._y[lane], self._tangent[lane] = y, tangent
            self._orientation[lane], self._wary[lane] = 0, 0
            self._step[lane] = self._first_step
            trail.extend([y], [tangent], [0.0])
            self._corners[lane] = len(trail.y)


def _followed(
    curve: Curve, moving: list[np.ndarray], longest: float
) -> tuple[tuple[np.ndarray, ...], OnCurve]:
    """Return what `take_steps` makes of any number of lanes, all of them running."""
    most = put(longest, moving[0].dtype)

    def swapped(path: Any) -> Any:
        return jax.tree.map(lambda part: np.swapaxes(part, 0, 1), path)

    def some(curve: Curve, *moving: np.ndarray) -> Any:
        lanes = Lanes(*map(put, moving), running=put(np.ones(len(moving[0]), bool)))
        ends, path = jax.device_get(take_steps(curve, lanes, most, _ATTEMPTS))
        return ends, swapped(path)

    ends, path = of_rows(some, curve, *moving)
    return ends, OnCurve(*swapped(path))


def chains_of(arcs: dict[Port, Arc]) -> list[Chain]:
    """Put arcs together to curves, each of which is there once."""
    left = sorted({port.start for port in arcs})
    chains = []
    while left:
        first = left[0]
        forward, end, on_it = _walk(arcs, Port(first, 1))
        if end == "closed":
            y, tangent = _joined(forward)
            chains.append(Chain(y, tangent, (end, end), tuple(on_it)))
        else:
            backward, other_end, more = _walk(arcs, Port(first, -1))
            parts = [arc.reversed("", None) for arc in reversed(backward)] + forward
            y, tangent = _joined(parts)
            on_it = [*reversed(more[1:]), *on_it]
            chains.append(Chain(y, tangent, (other_end, end), tuple(on_it)))
        left = [start for start in left if start not in on_it]
    return chains


def _walk(arcs: dict[Port, Arc], port: Port) -> tuple[list[Arc], str, list[int]]:
    parts, starts = [], [port.start]
    while True:
        arc = arcs[port]
        parts.append(arc)
        if arc.joined is None:
            return parts, arc.ended_by, starts
        if arc.joined.start in starts:
            return parts, "closed", starts
        starts.append(arc.joined.start)
        port = Port(arc.joined.start, -arc.joined.side)


def _joined(
    parts: list[Arc],
) -> tuple[Float[np.ndarray, "k d1"], Float[np.ndarray, "k d1"]]:
    first, *others = parts  # the others begin where the ones before them end
    y, tangent, orientation = (
        np.concatenate([getattr(first, name), *(getattr(arc, name)[1:] for arc in others)])
        for name in ("y", "tangent", "orientation")
    )
    kept = _away_from_crossings(y, orientation)
    return y[kept], tangent[kept]


def _away_from_crossings(
    y: Float[np.ndarray, "k d1"], orientation: Float[np.ndarray, " k"]
) -> Bool[np.ndarray, " k"]:
    """Return which points of a curve are not right beside where another crosses it."""
    kept = np.ones(len(y), bool)
    beside = _BESIDE_CROSSINGS[y.dtype.itemsize]
    for k in np.flatnonzero(orientation[:-1] * orientation[1:] < 0):
        # In each direction up to the first point that is farther away.
        before = np.linalg.norm(y[1 : k + 1] - y[k], axis=1) > beside
        after = np.linalg.norm(y[k + 1 : -1] - y[k + 1], axis=1) > beside
        first = 1 + (np.flatnonzero(before)[-1] + 1 if before.any() else 0)
        last = k + 1 + (np.flatnonzero(after)[0] if after.any() else len(after))
        kept[first:last] = False
    return kept


# ---- where curves pass a given s -----------------------------------------------------------------

_FINE = np.linspace(0, 1, 65)[:, None]
"""Places at which a step that contains a fold is looked at."""


def crossings(
    paths: Sequence[tuple[np.ndarray, np.ndarray]], sigma: float
) -> tuple[Float[np.ndarray, "n d1"], Int[np.ndarray, " n"]]:
    """Return points at a `sigma` that are near where curves pass it, and the numbers of the curves.

    Args:
        paths: for each curve its points and tangents, `[k, d + 1]` each.
        sigma: from 0 to 1.
    """
    rows, numbers = [], []
    for number, (y, tangent) in enumerate(paths):
        left, right = y[:-1, -1], y[1:, -1]
        rounding = 8 * np.finfo(y.dtype).eps
        passes = np.minimum(left, right) - rounding <= sigma
        passes &= sigma <= np.maximum(left, right) + rounding
        if len(y) == 1 and abs(y[0, -1] - sigma) <= rounding:
            rows.append(np.append(y[:, :-1], [[sigma]], axis=1).astype(y.dtype))
        rows.append(_passing(y, tangent, np.flatnonzero(passes), sigma))
        # A step that contains a fold may reach beyond both of its ends.
        turns = (tangent[:-1, -1] >= 0) != (tangent[1:, -1] >= 0)
        for k in np.flatnonzero(turns & ~passes):
            ends = (y[k], y[k + 1]), (tangent[k], tangent[k + 1])
            cubic = hermite(_FINE, *ends)
            side = cubic[:, -1] - sigma
            near = cubic[:-1][side[:-1] * side[1:] <= 0].astype(y.dtype)
            near[:, -1] = sigma
            rows.append(near)
        numbers += [number] * (sum(map(len, rows)) - len(numbers))
    if not rows:
        return np.zeros((0, 1)), np.zeros(0, np.int32)
    return np.concatenate(rows), np.array(numbers, np.int32)


def _passing(
    y: Float[np.ndarray, "k d1"],
    tangent: Float[np.ndarray, "k d1"],
    steps: Int[np.ndarray, " m"],
    sigma: float,
) -> Float[np.ndarray, "m d1"]:
    """Return, by bisection, where the cubics through some steps pass `sigma`."""
    ends = (y[steps], y[steps + 1]), (tangent[steps], tangent[steps + 1])
    low, high = np.zeros((len(steps), 1)), np.ones((len(steps), 1))
    rises = y[steps + 1, -1:] >= y[steps, -1:]
    for _ in range(50):
        middle = 0.5 * (low + high)
        before = (hermite(middle, *ends)[:, -1:] < sigma) == rises
        low, high = np.where(before, middle, low), np.where(before, high, middle)
    guess = hermite(0.5 * (low + high), *ends).astype(y.dtype)
    guess[:, -1] = sigma
    return guess


# ---- what the host looks at ----------------------------------------------------------------------


def _goes_inside(
    y: Float[np.ndarray, "lanes d1"], tangent: Float[np.ndarray, "lanes d1"]
) -> Bool[np.ndarray, " lanes"]:
    """Return which lanes do not leave the span at once, as from its ends."""
    outwards = ((y[:, -1] <= 0) & (tangent[:, -1] < 0)) | ((y[:, -1] >= 1) & (tangent[:, -1] > 0))
    return ~outwards


def _arc(trail: Trail, ended_by: str, joined: Port | None = None) -> Arc:
    y, tangent, orientation = map(np.array, trail)
    return Arc(y, tangent, orientation, ended_by, joined)


def _beyond_corner(
    curve: Curve, y: np.ndarray, tangent: np.ndarray
) -> tuple[np.ndarray, np.ndarray] | None:
    found = beyond_corner(curve, put(y[None]), put(tangent[None]))
    if not found.is_on_curve[0]:
        return None
    return np.asarray(found.y)[0], np.asarray(found.tangent)[0]


def _cut(curve: Curve, arcs: list[Arc]) -> list[Arc]:
    """Let arcs that left the span in their last steps end where they do so."""
    if not arcs:
        return []
    left, right = (np.array([arc.y[k] for arc in arcs]) for k in (-2, -1))
    along_left, along_right = (np.array([arc.tangent[k] for arc in arcs]) for k in (-2, -1))
    end = np.clip(right[:, -1:], 0, 1)
    theta = (end - left[:, -1:]) / (right[:, -1:] - left[:, -1:])
    guess = hermite(theta, (left, right), (along_left, along_right))
    guess[:, -1:] = end
    last = on_curve(curve, guess, across(guess))
    cut = []
    for k, arc in enumerate(arcs):
        y, tangent, orientation = arc.y[:-1], arc.tangent[:-1], arc.orientation[:-1]
        if last.is_on_curve[k]:  # it is not where there is a fold right at the end
            along = last.tangent[k] * np.sign(last.tangent[k] @ arc.tangent[-1])
            y, tangent = np.concatenate([y, last.y[[k]]]), np.concatenate([tangent, along[None]])
            orientation = arc.orientation
        cut.append(Arc(y, tangent, orientation, arc.ended_by))
    return cut
