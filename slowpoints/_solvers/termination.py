"""Why a row ends, and how near it is to a point: what solvers and verdicts measure alike.

Solvers end a row by rules of their own, and say by which kind of rule (`End`). What the row ended
at is judged in `verdict`.
"""

import enum
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints._core.types import RealArray

NEWTON_TOLERANCE = 5e-7
"""At a fixed point, Newton's step is at most this fraction of the square root of `n_states`, or of
the state's norm if that is larger. This is a little above the rounding of a float32 state, which is
6e-8 of its norm."""

ESCAPE_Q = 1e-8
"""A row is in a tail if its `q` is below this (or below `tol_q`), it is far from its start, and
there is no point: at a fixed point, so low a `q` would mean a short Newton step."""

JUDGED_DENSELY = 1024
"""Up to this many states, Newton's step is computed with the dense Jacobian. Above that, the
solvers' own Newton steps have to do, which are only as exact as their Krylov spaces."""

SINGULAR = 1e-10
"""A pivot of `I - J` this small, relative to the largest and to 1, the size of `I`, is rounding."""


class End(enum.IntEnum):
    """By which kind of rule a solver ended a row."""

    NONE = 0
    """No rule: the row is still in work, or `max_iters` ended it."""
    ROOT = 1
    """The solver's Newton step is negligible."""
    MINIMUM = 2
    """The solver's model of `q`, with its curvature, predicts no decrease."""
    TOLERANCE = 3
    """`q` or its change fell below what the caller asked for."""
    STUCK = 4
    """The solver finds no better step, or its patience has run out."""
    KINK = 5
    """Kinks hold the row: `q` rises to both sides of each, and has no slope along them."""


def rounding_floor(x: Float[RealArray, "*lanes n_states"]) -> Float[Any, "*lanes"]:
    """Return the `q` below which `x - F(x)` is only the rounding of its terms."""
    eps = 2 * float(jnp.finfo(x.dtype).eps)
    xp = np if isinstance(x, np.ndarray) else jnp
    return 0.5 * eps**2 * (1 + xp.sum(xp.square(x), axis=-1))


def rounding_of_q(
    q: Float[Array, "*lanes"], x: Float[Array, "*lanes n_states"]
) -> Float[Array, "*lanes"]:
    """Return by how much rounding of `x - F(x)` may change a `q` at `x`."""
    return 4 * jnp.finfo(q.dtype).eps * jnp.sqrt(2 * q) * (1 + jnp.linalg.norm(x, axis=-1))


def is_far(
    x: Float[Array, "lanes n_states"], x_init: Float[Array, "lanes n_states"]
) -> Bool[Array, " lanes"]:
    """Return whether rows are further from their starts than these from the origin, plus 1."""
    return jnp.linalg.norm(x - x_init, axis=1) > 1 + jnp.linalg.norm(x_init, axis=1)


def step_is_negligible(
    length: Float[Array, " lanes"], x: Float[Array, "lanes n_states"]
) -> Bool[Array, " lanes"]:
    """Return whether a solver's Newton step of that length is too short to be worth another.

    Each of the last steps is shorter than the one before by orders of magnitude, so what is left
    after such a step is rounding.
    """
    part = max(1e-8, 10 * float(jnp.finfo(x.dtype).eps))
    return length <= part * (1 + jnp.linalg.norm(x, axis=-1))
