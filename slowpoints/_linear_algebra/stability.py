"""When a point counts as stable: which eigenvalues are neutral, as far as can be told."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Complex, Float

from slowpoints._core.arrays import with_library
from slowpoints._core.types import RealArray

NEUTRAL_ROUNDINGS = 8
"""Rounding moves the eigenvalue 1 of a line of fixed points by so many units in the last place."""

NEUTRAL_SPEEDS = 4
"""A state beside a line or ring of fixed points, with `|F(x) - x| = r`, is about `r` from it, and
its eigenvalue differs from 1 by some such multiple of `r`, relative to the size of the state."""

MOST_NEUTRAL = 1e-5
"""An eigenvalue that is farther from 1 than this is never taken for 1, however high the speed: what
decays in 100,000 steps or less, does decay."""


def are_stable(
    values: Complex[RealArray, "n k"],
    continuous_time: bool,
    speed: Float[RealArray, " n"] | None,
) -> Bool[RealArray, " n"]:
    """Return which rows are stable, by their eigenvalues, of which the leading one is the first.

    An eigenvalue that may be 1, as far as rounding and the `relative_speed` tell, is not below it.
    On a line of fixed points it would be on either side by chance.
    """
    xp, known, speed = with_library(values, speed)
    margin = neutral_margin(xp, values.shape[0], values.dtype, speed)
    leading = known[:, :1].real if continuous_time else xp.abs(known[:, :1])
    return (leading + margin[:, None] < (0 if continuous_time else 1)).all(axis=1)


def neutral_margin(
    xp: Any, n: int, dtype: Any, speed: Float[RealArray, " n"] | None
) -> Float[RealArray, " n"]:
    """Return how far from 1 eigenvalues of each row are that may be 1 (or 0 for a derivative).

    Args:
        xp: the library, NumPy or `jax.numpy`.
        n: the number of rows.
        dtype: the precision of the eigenvalues.
        speed: `[n]` the rows' `relative_speed`, if it is known.
    """
    info = jnp.finfo(dtype)
    margin = xp.full(n, NEUTRAL_ROUNDINGS * info.eps, info.dtype)
    if speed is not None:
        speed = speed.astype(margin.dtype)
        margin += xp.nan_to_num(xp.minimum(NEUTRAL_SPEEDS * speed, MOST_NEUTRAL))
    return margin


def relative_speed(
    qstar: Float[RealArray, " n"] | None, *states: Float[RealArray, "n d"] | None
) -> Float[RealArray, " n"] | None:
    """Return the speeds of rows, relative to the largest entries of their states that are known.

    Those are `xstar` and `x_init`: a point at the origin does not tell how large states are.
    """
    if qstar is None:
        return None
    known = [x for x in states if x is not None and x.shape[1] > 0]
    xp, q, *known = with_library(qstar, *known)
    with np.errstate(all="ignore"):  # of rows that are not finite
        speed = xp.sqrt(2 * q)
        if not known:
            return speed
        sizes = xp.stack([xp.max(xp.abs(x), axis=1).astype(speed.dtype) for x in known])
        return xp.where(speed > 0, speed / xp.max(sizes, axis=0), speed)
