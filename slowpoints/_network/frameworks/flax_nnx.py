"""Modules of `flax.nnx` as transitions."""

import operator
from typing import Any

import equinox as eqx
import jax
from flax import nnx

from slowpoints._network.base import ModelError, Signature
from slowpoints._network.frameworks.calling import (
    CallableTransition,
    HeldModel,
    carry_layout,
    is_single_or_half,
)


def from_module(
    module: nnx.Module, signature: Signature | None, example_state: Any
) -> CallableTransition:
    """Copy the variables of a module; if it is a cell, its carry is the state.

    The copy is in evaluation mode, and computes in the precision of the state if the original
    insists on float32 or less.

    Raises:
        TypeError: if `module` is not a cell and `signature` does not say how to call it, or if its
            inputs are not vectors.
    """
    if isinstance(module, nnx.RNN):
        module = module.cell
    name = type(module).__name__
    module = nnx.clone(module)
    nnx.Module.eval(module)  # the class may have an `eval` of its own
    for _, part in nnx.iter_modules(module):
        insists = is_single_or_half(getattr(part, "dtype", None))  # `SimpleCell` does by default
        if type(part).__module__.startswith("flax.") and insists:
            setattr(part, "dtype", None)  # noqa: B010  # Flax then takes that of the arguments
    graphdef, variables = nnx.split(module)

    def initial_carry() -> Any:
        cell: Any = nnx.merge(graphdef, variables, copy=True)
        return cell.initialize_carry((getattr(cell, "in_features", 1),), nnx.Rngs(0))

    is_cell = isinstance(module, nnx.RNNCellBase)
    layout = carry_layout(
        name, module if is_cell else None, initial_carry, signature, example_state
    )
    held = HeldModule(variables, graphdef)
    n_inputs = getattr(module, "in_features", None) if is_cell else None
    return CallableTransition(held, signature or "scan", layout, name, n_inputs)


class HeldModule(HeldModel):
    """A module's variables, and how to call it with them."""

    variables: Any
    graphdef: Any = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        """Return what the module returns.

        Raises:
            ModelError: if it draws random numbers.
        """
        module: Any = nnx.merge(self.graphdef, self.variables, copy=True)
        out = None
        for _ in range(self.n_calls):
            graphdef, before = _parts_of(module)
            counts = jax.tree.leaves(nnx.state(module, nnx.RngCount))
            out = module(*args)
            if not _are_same(counts, jax.tree.leaves(nnx.state(module, nnx.RngCount))):
                raise ModelError(
                    f"{type(module).__name__} draws random numbers in a step, and has no fixed "
                    "points then. Switch its noise off."
                )
            left, after = _parts_of(module)
            if left == graphdef and _are_same(before, after):
                break
        return out


def _parts_of(module: Any) -> tuple[Any, list[Any]]:
    """Return what a module is made of: all but its variables, and the values of these."""
    graphdef, state = nnx.split(module)
    return graphdef, jax.tree.leaves(state)


def _are_same(first: list[Any], second: list[Any]) -> bool:
    return len(first) == len(second) and all(map(operator.is_, first, second))
