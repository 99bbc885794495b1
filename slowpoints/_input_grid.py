"""`input_grid`: every initial state under every input."""

import jax.numpy as jnp
from jaxtyping import Array, Int, Real

from slowpoints._core import arguments
from slowpoints._core.types import RealArray


def input_grid(
    x_init: Real[RealArray, "n_inits n_states"], inputs: Real[RealArray, "k n_inputs"]
) -> tuple[Real[Array, "rows n_states"], Real[Array, "rows n_inputs"], Int[Array, " rows"]]:
    """Pair each of `n_inits` states with each of `k` inputs, to search under all of them at once.

    Args:
        x_init: `[n_inits, n_states]` the states to start from.
        inputs: `[k, n_inputs]` one constant input per condition.

    Returns:
        The states, the inputs and the condition numbers of `k * n_inits` rows, those of the first
        input first: what [`find_fixed_points`][slowpoints.find_fixed_points] and
        [`optimize_batch`][slowpoints.optimize_batch] take as `x_init`, `inputs` and `cond_id`.

    Raises:
        TypeError: if an argument does not hold real numbers.
        ValueError: if an argument does not have two axes, or an input is not finite.
    """
    x_init = arguments.array("input_grid", "x_init", x_init, ("n_inits", "n_states"))
    inputs = arguments.array("input_grid", "inputs", inputs, ("k", "n_inputs"), finite=True)
    n_inits, k = x_init.shape[0], inputs.shape[0]
    x = jnp.tile(jnp.asarray(x_init), (k, 1))
    u = jnp.repeat(jnp.asarray(inputs), n_inits, axis=0)
    return x, u, jnp.repeat(jnp.arange(k), n_inits)
