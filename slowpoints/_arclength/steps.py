"""Follow curves of fixed points by pseudo-arclength, all side by side.

A curve is the set of `y = (x, sigma)` with `H(y) = 0`, where `H` is `G(x, s) - x` and `sigma` runs
from 0 to 1 while `s` runs through the span. It is followed by its arclength, so folds, where it
turns back in `s`, are places like any other (Keller 1977; Allgower & Georg 1990, "Numerical
continuation methods: an introduction").
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from slowpoints._arclength.bordered_systems import solver_at, tangents
from slowpoints._arclength.curve import Curve
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray

MOST_CORRECTIONS = 8
"""From a good guess, four or five corrections leave only rounding. If it takes more than this, the
step along the curve was too long."""

_EASY_CORRECTIONS = 5
"""Steps that take no more than this may become longer."""

_LEAST_GAIN = 0.5
"""Each correction is shorter than the last by this factor, or the guess was too far off."""

_LEAST_COSINE = 0.94
"""A step may turn the tangent by no more than 20 degrees. Longer steps cut corners, and may land on
another curve."""

_EASY_COSINE = 0.985
"""Steps that turn it by less than 10 degrees may become longer."""

_MOST_CORRECTED = 0.3
"""The correction may be no longer than this part of the step, for the same reason."""

_LEAST_STEP = {8: 1e-9, 4: 1e-6}
"""If steps of this length fail, the curve has an end or a corner there (in float64 and float32)."""

_MOST_OF_SPAN = 0.05
"""No step passes more of the span than this, however long it may be otherwise."""

_BEYOND_SPAN = 1.1
"""The step that leaves the span is longer than the way to its end by this factor: networks need not
make sense far outside."""

_AT_CORNERS = {8: 1e-7, 4: 1e-4}
"""Steps below this length may turn by more, as where a piecewise linear unit has its kink."""

_AT_BRANCH_POINTS = {8: 2e-5, 4: 2e-2}
"""Steps below this length may change the orientation: where curves cross, it changes however short
the step is (in float64 and float32). Curves that only come close, after a small perturbation of
such a crossing, are told from those that cross if they are farther apart than this. Rounding alone
moves the curves of a pitchfork apart by its third root."""

_WARY = 2
"""A step that would change the orientation is halved. If so many in a row are then possible, the
crossing that seemed to be there is none, and steps may become longer again."""

_MOST_AT_CORNERS = 3.0
"""The correction is then at most so many steps long: it would be longer if the curve had a jump."""

_BEHIND = 1e-3
"""So far behind a corner the slope is that of the other side, and no further corner near by."""

_ASKEW = 0.4
"""The direction in which the curve behind a corner is sought is turned by so much along `s`."""

_BACK = 0.999
"""A curve that leads back in the direction it came from, to within three degrees, has an end."""


class Lanes(NamedTuple):
    """Where each lane is, and where it goes from there.

    Attributes:
        y: `[lanes, d + 1]` points of the curves.
        tangent: `[lanes, d + 1]` unit vectors along them.
        step: `[lanes]` the length of the next step.
        orientation: `[lanes]` the sign of the determinant of the slopes of `H` and the tangent; 0
            if it is not known.
        wary: `[lanes]` how many more steps are to be no longer than the last.
        running: `[lanes]` whether it is followed further: neither out of the span nor stuck.
    """

    y: Float[Array, "lanes d1"]
    tangent: Float[Array, "lanes d1"]
    step: Float[Array, " lanes"]
    orientation: Float[Array, " lanes"]
    wary: Int[Array, " lanes"]
    running: Bool[Array, " lanes"]


class Corrected(NamedTuple):
    """Points of curves, near those that were guessed.

    Attributes:
        y: `[..., lanes, d + 1]` the points.
        tangent: `[..., lanes, d + 1]` unit tangents there, on the side of the normal.
        orientation: `[..., lanes]` the sign of the determinant of the slopes of `H` and the
            tangent, from the guess, which is close by; 0 if it is not known.
        n_steps: `[..., lanes]` the steps of Newton's method that were taken.
        is_on_curve: `[..., lanes]` whether it converged.
    """

    y: Float[RealArray, "*steps lanes d1"]
    tangent: Float[RealArray, "*steps lanes d1"]
    orientation: Float[RealArray, "*steps lanes"]
    n_steps: Int[RealArray, "*steps lanes"]
    is_on_curve: Bool[RealArray, "*steps lanes"]


@CompiledOnce
def corrected(
    curve: Curve, guess: Float[Array, "lanes d1"], normal: Float[Array, "lanes d1"]
) -> Corrected:
    """Move each guess onto its curve, within the plane through it that has this normal.

    With matrices, that of the guess serves for all steps (the chord method): a good guess is so
    close that each step leaves a hundredth of the error or less, and a step costs no more than
    `H`. Without, each step is one of Newton's.
    """
    solve, orientation = solver_at(curve, guess, normal)

    class Carry(NamedTuple):
        y: Array
        size: Array
        n: Array
        done: Array
        failed: Array

    def step(c: Carry) -> Carry:
        H = jax.vmap(curve)(c.y)
        off_plane = jnp.sum(normal * (guess - c.y), axis=1, keepdims=True)
        delta = solve(curve, c.y, normal, jnp.concatenate([-H, off_plane], axis=1))
        rounding = jax.vmap(curve.rounding)(c.y)
        exact = jnp.linalg.norm(H, axis=1) <= rounding
        size = jnp.linalg.norm(delta, axis=1)
        active = ~c.done & ~c.failed
        diverges = ~exact & ~(size <= _LEAST_GAIN * c.size)  # NaN included
        moves = active & ~exact & ~diverges
        return Carry(
            jnp.where(moves[:, None], c.y + delta, c.y),
            jnp.where(active, size, c.size),
            c.n + active,
            c.done | (active & exact) | (moves & (size <= rounding)),
            c.failed | (active & diverges),
        )

    def goes_on(c: Carry) -> Array:
        return jnp.any(~c.done & ~c.failed & (c.n < MOST_CORRECTIONS))

    lanes = guess.shape[0]
    no = jnp.zeros(lanes, bool)
    size, n_steps = jnp.full(lanes, jnp.inf, guess.dtype), jnp.zeros(lanes, int)
    c = jax.lax.while_loop(goes_on, step, Carry(guess, size, n_steps, no, no))
    tangent = tangents(curve, c.y, normal, solve)
    is_on_curve = c.done & jnp.isfinite(tangent).all(axis=1)
    return Corrected(c.y, tangent, orientation, c.n, is_on_curve)


@CompiledOnce
def take_steps(
    curve: Curve, lanes: Lanes, longest: Float[Array, ""], n_attempts: int
) -> tuple[Lanes, Corrected]:
    """Try `n_attempts` steps along each curve.

    Args:
        curve: its equations.
        lanes: where to start.
        longest: the longest step.
        n_attempts: how many steps to try, those that fail included.

    Returns:
        Where the lanes are now, and `[n_attempts, lanes, ...]` the points that they reached, of
        which only those `is_on_curve` count.
    """

    def attempt_if_any(lanes: Lanes, _: None) -> tuple[Lanes, Corrected]:
        no, zero = jnp.zeros_like(lanes.running), jnp.zeros(lanes.step.shape, int)
        nothing = Corrected(lanes.y, lanes.tangent, lanes.orientation, zero, no)
        return jax.lax.cond(jnp.any(lanes.running), attempt, lambda lanes: (lanes, nothing), lanes)

    def attempt(lanes: Lanes) -> tuple[Lanes, Corrected]:
        y, tangent, step, orientation, wary, running = lanes
        # Not far out of the span.
        to_end = jnp.where(tangent[:, -1] >= 0, 1 - y[:, -1], y[:, -1])
        in_span = jnp.maximum(jnp.abs(tangent[:, -1]), tiny)
        step = jnp.minimum(step, jnp.maximum(_BEYOND_SPAN * to_end / in_span, least))
        guess = y + step[:, None] * tangent
        new = corrected(curve, guess, tangent)
        cosine = jnp.sum(new.tangent * tangent, axis=1)
        off = jnp.linalg.norm(new.y - guess, axis=1) / step
        straight = (cosine >= _LEAST_COSINE) & (off <= _MOST_CORRECTED)
        corner = (step <= _AT_CORNERS[size]) & (off <= _MOST_AT_CORNERS) & (wary == 0)
        crosses = new.orientation * orientation < 0
        too_far = crosses & (step > _AT_BRANCH_POINTS[size])
        good = running & new.is_on_curve & (straight | corner) & ~too_far
        easy = good & (new.n_steps <= _EASY_CORRECTIONS) & (cosine >= _EASY_COSINE)
        factor = jnp.where(easy & (wary == 0), 2.0, jnp.where(good, 1.0, 0.5))
        inside = (new.y[:, -1] >= 0) & (new.y[:, -1] <= 1)
        stuck = ~good & (step <= least)
        moved = good[:, None]
        # Of a step that fails, the tangent may be NaN.
        tangent = jnp.where(moved, new.tangent, tangent)
        in_span = jnp.maximum(jnp.abs(tangent[:, -1]), tiny)
        most = jnp.minimum(longest, _MOST_OF_SPAN / in_span)
        lanes = Lanes(
            jnp.where(moved, new.y, y),
            tangent,
            jnp.where(running, jnp.minimum(step * factor, most), step),
            jnp.where(good, new.orientation, orientation),
            jnp.where(too_far, _WARY, jnp.maximum(wary - good, 0)),
            running & ~stuck & (inside | ~good),
        )
        return lanes, new._replace(is_on_curve=good)

    size = lanes.y.dtype.itemsize
    least, tiny = _LEAST_STEP[size], jnp.finfo(lanes.y.dtype).tiny
    return jax.lax.scan(attempt_if_any, lanes, None, length=n_attempts)


def hermite(
    theta: Float[RealArray, "*#b 1"],
    y: tuple[Float[RealArray, "*#b d1"], Float[RealArray, "*#b d1"]],
    tangent: tuple[Float[RealArray, "*#b d1"], Float[RealArray, "*#b d1"]],
    length: Float[RealArray, "*#b 1"] | None = None,
) -> Any:
    """Return the cubic between two points with these tangents, at `theta` from 0 to 1.

    The result, `[..., d + 1]`, is backed like the points. If the points and unit tangents were
    projected to fewer dimensions, `length` is how far apart the points are in all of them.
    """
    left, right = y
    chord = ((right - left) ** 2).sum(axis=-1, keepdims=True) ** 0.5
    scale: Any = chord if length is None else length
    rest = 1 - theta
    bend_left = scale * tangent[0] - (right - left)
    bend_right = (right - left) - scale * tangent[1]
    return rest * left + theta * right + theta * rest * (rest * bend_left + theta * bend_right)


@CompiledOnce
def beyond_corner(
    curve: Curve, y: Float[Array, "lanes d1"], tangent: Float[Array, "lanes d1"]
) -> Corrected:
    """Return points of the curves beyond corners that turn back, where no step leads on.

    Where units are piecewise linear, a curve may turn by more than a right angle. Behind the corner
    the equations have another slope, and its null vector, one way or the other, leads on.

    Args:
        curve: the equations.
        y: `[lanes, d + 1]` the last points before the corners.
        tangent: `[lanes, d + 1]` the tangents there.

    Returns:
        Points close by, and tangents that lead away from the corners. Where none leads on, the row
        is not on the curve.
    """
    behind = y + _BEHIND * tangent
    # Not the tangent itself: symmetric corners turn by just a right angle.
    towards_end = jnp.where(tangent[:, -1] >= 0, _ASKEW, -_ASKEW)
    normal = tangent.at[:, -1].add(towards_end.astype(tangent.dtype))
    normal = normal / jnp.linalg.norm(normal, axis=1, keepdims=True)
    solve, _ = solver_at(curve, behind, normal)
    direction = tangents(curve, behind, normal, solve)
    found = []
    for way in (direction, -direction):
        new = corrected(curve, y + _BEHIND * way, way)
        step = (new.y - y) / jnp.linalg.norm(new.y - y, axis=1, keepdims=True)
        goes_back = jnp.sum(step * tangent, axis=1) < -_BACK
        away = jnp.sum(step * way, axis=1) > _LEAST_COSINE
        found.append(new._replace(is_on_curve=new.is_on_curve & away & ~goes_back))
    first, second = found
    use = first.is_on_curve

    def choose(a: Any, b: Any) -> Array:
        return jnp.where(use.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return Corrected(*map(choose, first, second))
