"""Equinox modules as transitions: its cells, which take the input first, and all others."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp

from slowpoints._network.base import Signature
from slowpoints._network.frameworks.calling import CallableTransition, from_callable


def from_module(
    module: eqx.Module, signature: Signature | None, example_state: Any
) -> CallableTransition:
    """Take a module in inference mode; `GRUCell` and `LSTMCell` need no other arguments."""
    n_inputs = None
    if signature is None and example_state is None:
        if isinstance(module, (eqx.nn.GRUCell, eqx.nn.LSTMCell)):
            n_inputs = module.input_size
        if isinstance(module, eqx.nn.GRUCell):
            signature, example_state = "input_state", _units(module.hidden_size)
        elif isinstance(module, eqx.nn.LSTMCell):
            h = c = _units(module.hidden_size)
            signature, example_state = "input_state", (h, c)
    return from_callable(eqx.nn.inference_mode(module), signature, example_state, n_inputs)


def _units(n: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((n,), jnp.float32)
