"""What is seen at first sight of the rows that a search has ended."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.types import RealArray
from slowpoints._linear_algebra.loops import of_first_rows
from slowpoints._network.base import Transition
from slowpoints._network.precision import computes_in_float64, with_precision
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.trapping.trapping_box import is_outside
from slowpoints._solvers.termination import ESCAPE_Q, End, is_far, rounding_floor


class Seen(NamedTuple):
    """What is seen of rows at first sight.

    Attributes:
        end: `[n]` how the solver ended them, as `End`.
        within: `[n]` which ones the solver ended at a tolerance, as it should.
        finite: `[n]` at which ones all is finite.
        far: `[n]` which ones are far from their starts.
        low: `[n]` of which ones `q` is as low as in a tail.
        outside: `[n]` which ones are where no trajectory stays: see `trapping_box`.
    """

    end: Int[RealArray, " n"]
    within: Bool[RealArray, " n"]
    finite: Bool[RealArray, " n"]
    far: Bool[RealArray, " n"]
    low: Bool[RealArray, " n"]
    outside: Bool[RealArray, " n"]


class Rows(NamedTuple):
    """Rows that a search has ended, in the precision in which they are judged.

    Attributes:
        x: `[n, n_states]` where they ended.
        x_init: `[n, n_states]` where they started.
        u: `[n, n_inputs]` their inputs.
        seen: what is seen of them at first sight.
    """

    x: Float[RealArray, "n n_states"]
    x_init: Float[RealArray, "n n_states"]
    u: Float[RealArray, "n n_inputs"]
    seen: Seen

    def of(self, index: Any) -> "Rows":
        """Return some of the rows."""
        return jax.tree.map(lambda a: a[index], self)


def seen_at_first(
    F: Transition,
    x: Float[Array, "n n_states"],
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    end: Int[Array, " n"],
    tol_q: Float[Array, ""],
    low_q: Float[Array, ""],
    n_rows: Int[Array, ""] | None = None,
) -> tuple[Float[Array, "n n_states"], Seen]:
    """Return the states that follow where rows ended, and what is seen of them at first sight.

    They are judged in float64 if the network computes in it; the caller must have enabled x64.

    Args:
        F: the transition.
        x: `[n, n_states]` where the rows ended.
        x_init: `[n, n_states]` where they started.
        inputs: `[n, n_inputs]` their inputs.
        end: `[n]` how the solver ended them, as `End`.
        tol_q: the `q` that was asked for.
        low_q: rows in tails have a `q` below this, or below `ESCAPE_Q`.
        n_rows: how many rows are asked about, if not all; what is said of the others, at the end,
            means nothing.
    """
    dtype = np.dtype(np.float64) if computes_in_float64(F) else x.dtype
    network = with_precision(F, dtype)

    def step(x: Array, u: Array) -> tuple[Array, Array]:
        y, v = x.astype(dtype), u.astype(dtype)
        return F(x, u), half_squared_norm(network(y, v).astype(dtype) - y)

    steps = jax.vmap(step)
    F_x, q = steps(x, inputs) if n_rows is None else of_first_rows(steps, n_rows, (x, inputs))
    stored = half_squared_norm(F_x - x)
    # The solver ended such a row before anything was known about it, and that stays its status. The
    # solver may have rounded its `q` differently.
    within = (end == End.TOLERANCE) & (stored < 1.01 * tol_q + rounding_floor(x))
    finite = jnp.isfinite(stored) & jnp.isfinite(q) & jnp.all(jnp.isfinite(x), axis=1)
    low = q < jnp.maximum(low_q.astype(dtype), ESCAPE_Q)
    far = is_far(x.astype(dtype), x_init.astype(dtype))
    return F_x, Seen(end, within, finite, far, low, is_outside(F, x))
