"""The equations of a family of points, and how many rows of points to compute at a time."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Shaped

from slowpoints._core.arrays import in_chunks, power_of_two
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._network.base import Transition
from slowpoints._network.units import errors_of_flows

_ROUNDINGS = 8
"""What is left after so many units in the last place, relative to `1 + |y|`, is rounding."""

_ROWS_AT_A_TIME = {17: 64, 65: 16, 257: 4}
"""Curves in up to so many dimensions are computed for so many rows at a time, however many there
are: rows that only fill up take some milliseconds, and compiling a program for another number of
rows takes a second. In more dimensions a row takes longer than that."""


class Curve(eqx.Module):
    """The equations `H(y) = 0` of a family of points.

    Attributes:
        G: the transition of the states `[d]` and of `s`, or `f` of a flow. The states are in units
            of about their size, and so are all thresholds here: where sizes are `1 + |y|`, the 1 is
            such a unit, and the length of the span.
        origin: the `s` at `sigma = 0`.
        length: by how much `s` is greater at `sigma = 1`.
        rate: the unit of a flow's rates, about as large as they are; 1 for maps.
        is_flow: whether `G` is the `f` of a flow.
        without_matrices: whether to solve linear systems by products with Jacobians alone.
    """

    G: Transition
    origin: Float[Array, ""]
    length: Float[Array, ""]
    rate: Float[Array, ""]
    is_flow: bool = eqx.field(static=True)
    without_matrices: bool = eqx.field(static=True)

    def __call__(self, y: Float[Array, " d1"]) -> Float[Array, " d"]:
        """Return `H(y)`."""
        x = y[:-1]
        out = self.G(x, self.origin + self.length * y[-1:]).astype(x.dtype)
        return out / self.rate if self.is_flow else out - x

    def rounding(self, y: Float[RealArray, " d1"]) -> Any:
        """Return how long `H(y)` may be at a point of the curve: by rounding, or errors of flows.

        Such errors are measured in the largest unit of a state.
        """
        longest = _ROUNDINGS * float(jnp.finfo(y.dtype).eps) * (1 + (y @ y) ** 0.5)
        return longest + errors_of_flows(self.G, y[:-1])


@CompiledOnce
def values(curve: Curve, y: Float[Array, "n d1"]) -> Float[Array, "n d"]:
    """Return `H(y)` of each row."""
    return jax.vmap(curve)(y)


# ---- how many rows at a time ---------------------------------------------------------------------


def rows_at_a_time(n: int, d1: int) -> int:
    """Return how many of `n` rows to compute at a time, in `d1` dimensions."""
    sizes = [rows for most, rows in _ROWS_AT_A_TIME.items() if d1 <= most]
    return sizes[0] if sizes else power_of_two(max(n, 1))


def n_computed(n: int, d1: int) -> int:
    """Return for how many rows to compute something where `n` are needed, all at a time."""
    return max(rows_at_a_time(n, d1), power_of_two(max(n, 1)))


def of_rows(program: Callable[..., Any], curve: Curve, *rows: Shaped[np.ndarray, "n ..."]) -> Any:
    """Return on the host what a function of a curve and rows makes of any number of rows."""
    n, d1 = rows[0].shape
    return jax.device_get(in_chunks(program, curve, rows_at_a_time(n, d1), *rows))
