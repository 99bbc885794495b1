"""The one fixed point of a network that contracts over a box, or a proof that there is none."""

from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._intervals.balls import Ball, from_bounds
from slowpoints._intervals.enclosure import NotCovered
from slowpoints._intervals.interpreter import EnclosedProgram
from slowpoints._linear_algebra.signs import inverses
from slowpoints._network.base import Transition
from slowpoints._proofs.lipschitz_bound import euclidean_norm, lipschitz_bound

_MARGIN = 1e-6
"""The box is looked at with this margin, relative to its sides, so that a fixed point on its edge
is inside, with all that is not known of it. The margin is small, since the contraction has to hold
there as well."""

_PRECISE = 1e-9
"""A state is returned as the fixed point if `F` moves it by less, relative to the size of the box,
which is that of its farthest state. Rounding makes up for a hundredth of this in networks of 512
units."""

_STEPS = 100
"""Newton's method takes a handful of steps, and some more while it finds the edges of the box on
which it ends. The fallback contracts in each step, and a hundred are enough for all but
contractions near 1."""


def by_contraction(
    F: Transition, u: Float[np.ndarray, " n_inputs"], low: Any, high: Any
) -> Float[np.ndarray, "n n_states"] | None:
    """Find all fixed points in a box, of which there is at most one, if the network contracts.

    Where `|F(a) - F(b)| <= L |a - b|` with `L < 1`, each fixed point in the box is within
    `r = |c - F(c)| / (1 - L)` of every state `c` of the box; and if all states within `r` of `c`
    are in the box, `F` maps this ball into itself, so that it holds one (Banach 1922).

    There is none if `c` proves it as follows. With `g(x) = x - F(x)`, a fixed point `x*` would have
    `g(c) (c - x*) >= (1 - L) |c - x*|^2` and `|g(c)| <= (1 + L) |c - x*|`. So there is none where
    `g(c) (c - y) < (1 - L) |g(c)|^2 / (1 + L)^2` for all `y` of the box. If a network has its fixed
    point elsewhere, the state that is mapped to itself when what `F` leads out of the box is moved
    back to its edge is such a `c`: there, the left side is at most 0.

    Args:
        F: the network.
        u: `[n_inputs]` the input.
        low: `[n_states]` the lowest state.
        high: `[n_states]` the highest.

    Returns:
        The fixed point, `[1, n_states]`, or `[0, n_states]` if there is none; `None` if it is not
        proven that the network contracts, or which of the two holds.
    """
    program = EnclosedProgram(F, np.zeros((1, low.size), u.dtype), u[None])
    # A box without extent along a state is as wide as its widest side, or as the states are large.
    extent = np.max(high - low, initial=0.0) or np.max(np.abs(high), initial=0.0) or 1.0
    margin = _MARGIN * np.where(high > low, high - low, extent)
    outer_low, outer_high = low - margin, high + margin
    try:
        L = lipschitz_bound(program, from_bounds(outer_low[None], outer_high[None]))
    except NotCovered:
        return None
    if not L < 1:
        return None
    c = _state_kept_inside(program, outer_low, outer_high)
    speed = Ball(c) - program.value(Ball(c))
    size = np.linalg.norm(np.maximum(np.abs(low), np.abs(high)))
    is_precise = euclidean_norm(speed) <= _PRECISE * size
    gap = (1 - L) * (1 - 2.0**-50)
    reach = np.full(c.shape, euclidean_norm(speed) / gap * (1 + 2.0**-40))
    lowest, highest = Ball(c, reach).bounds()
    if is_precise and np.all((lowest >= outer_low) & (highest <= outer_high)):
        return c[:0] if np.any((highest < low) | (lowest > high)) else c
    ends = (speed * (Ball(c) - Ball(end)) for end in (outer_low, outer_high))
    most = np.maximum(*(end.bounds()[1] for end in ends))
    least = np.maximum(np.abs(speed.mid) - speed.radius, 0.0)
    needed = gap * np.sum(least**2) / (1 + L) ** 2 * (1 - 2.0**-30)
    return c[:0] if Ball(most).sum((0, 1)).bounds()[1] < needed else None


def _state_kept_inside(
    program: EnclosedProgram, low: Any, high: Any
) -> Float[np.ndarray, "1 n_states"]:
    """Return the state that is mapped to itself if what leads out of the box is moved to its edge.

    This is a contraction as well. Newton's method takes its steps where they lead further than the
    map itself does, which is nearly always.
    """
    eye = np.eye(low.size)
    x = (0.5 * low + 0.5 * high)[None]
    image = _image(program, x)
    far = np.linalg.norm(np.clip(image, low, high) - x)
    for _ in range(_STEPS):
        is_free = (image > low) & (image < high)
        towards = np.clip(image, low, high)
        _, slope = program.linearised(Ball(x))
        inverse = inverses(eye - is_free[..., None] * np.nan_to_num(slope.mid))
        newton = x + np.einsum("nij,nj->ni", inverse, towards - x)
        tried = [towards, np.clip(np.nan_to_num(newton), low, high)]
        images = [_image(program, state) for state in tried]
        left = [
            np.linalg.norm(np.clip(y, low, high) - state)
            for y, state in zip(images, tried, strict=True)
        ]
        best = int(np.argmin(left))
        if not left[best] < far:
            break
        x, image, far = tried[best], images[best], left[best]
    return x


def _image(program: EnclosedProgram, x: Float[np.ndarray, "1 n_states"]) -> Any:
    return program.value(Ball(x)).mid
