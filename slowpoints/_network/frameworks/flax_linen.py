"""Modules of `flax.linen`, with their variables, as transitions."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from flax import linen

from slowpoints._network.base import Signature
from slowpoints._network.frameworks.calling import (
    CallableTransition,
    carry_layout,
    is_single_or_half,
)


def from_module(model: Any, signature: Signature | None, example_state: Any) -> CallableTransition:
    """Take a bound module, or the pair of a module and its variables.

    A cell's carry is the state; an `RNN` stands for its cell. The module must be deterministic
    as it is: Flax itself refuses to draw random numbers, or to change variables, without being
    told to.

    Raises:
        TypeError: if `model` has no variables, if it is not a cell and `signature` does not say how
            to call it, or if its inputs are not vectors.
    """
    if isinstance(model, linen.Module):
        if model.scope is None:
            raise TypeError(
                f"as_transition: the module {type(model).__name__} has no variables. Bind them, "
                "`as_transition(module.bind(variables))`, or pass both, "
                "`as_transition((module, variables))`."
            )
    else:
        module, variables = model
        model = module.bind(variables)
    if isinstance(model, linen.RNN):  # whose cell may have its variables elsewhere
        model = model.cell
    module, variables = model.unbind()
    name = type(module).__name__
    if is_single_or_half(getattr(module, "dtype", None)):
        module = module.clone(dtype=None)  # Flax then takes the precision of the arguments
    is_cell = isinstance(module, linen.RNNCellBase)
    layout = carry_layout(
        name,
        module if is_cell else None,
        lambda: module.initialize_carry(jax.random.key(0), (1,)),
        signature,
        example_state,
    )
    variables = jax.tree.map(jnp.asarray, variables)
    return CallableTransition(BoundModule(variables, module), signature or "scan", layout, name)


class BoundModule(eqx.Module):
    """A module and its variables."""

    variables: Any
    module: linen.Module = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        """Return what the module returns."""
        return self.module.apply(self.variables, *args)
