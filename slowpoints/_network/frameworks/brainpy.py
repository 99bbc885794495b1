"""BrainPy models as pure transitions."""

import contextlib
import inspect
from collections.abc import Callable
from typing import Any

import brainpy as bp
import brainpy.math as bm
import brainstate
import equinox as eqx
import jax
import jax.numpy as jnp
from brainpy.dyn import GRUCell, LSTMCell, NeuDyn, RNNCell
from brainpy.math.defaults import env as brainpy_environment
from jaxtyping import Array, Float

from slowpoints._network.base import Signature
from slowpoints._network.frameworks.calling import (
    CallableTransition,
    HeldModel,
    needs_an_input,
    positional_parameters,
)
from slowpoints._network.frameworks.held_objects import HeldObjects
from slowpoints._network.frameworks.layout import StateLayout

_BOXES = (brainstate.State, bm.Array)
_SHARED = (brainpy_environment,)
_CELLS = (RNNCell, GRUCell, LSTMCell)


def from_model(
    model: bp.DynamicalSystem, signature: Signature | None, example_state: Any
) -> CallableTransition:
    """Copy the current values of a model that takes its state, or keeps it in Variables.

    Raises:
        TypeError: if the model does neither, or adds up its inputs in Variables.
    """
    if isinstance(model, NeuDyn) and getattr(model, "input_var", None) is True:
        raise TypeError(
            f"as_transition: {type(model).__name__} adds its inputs to Variables, which "
            "`clear_input()` clears between two steps; expected a step whose input is its own "
            "argument. Make the model with `input_var=False`."
        )
    told = signature is not None or example_state is not None
    name = type(model).__name__
    taken = positional_parameters(model, bp.DynamicalSystem)
    takes_state = (
        len(taken) > 1
        and taken[1].default in (inspect.Parameter.empty, None)
        and taken[1].kind is not inspect.Parameter.VAR_POSITIONAL
    )
    needs_input = needs_an_input(taken)
    if not told and not (takes_state and needs_input):
        structure = HeldObjects(model, _BOXES, _holds_state, also=_SHARED)
        if structure.states:
            n_inputs = model.num_in if isinstance(model, _CELLS) else None if taken else 0
            return _with_state_in_variables(structure, name, n_inputs, needs_input)
        if not takes_state:
            raise TypeError(
                f"as_transition: {name} takes no hidden state, and has none in a Variable of real "
                "numbers that is neither a TrainVar nor a Parameter. If `model.reset_state()` "
                "makes the state, call it first; if it is a plain array, make it a `bm.Variable`."
            )
    structure = HeldObjects(model, _BOXES, also=_SHARED)
    layout = None if example_state is None else StateLayout.like(example_state)
    held = HeldBrainPyModel(structure.read(), structure)
    return CallableTransition(held, signature or "batched_sequence", layout, name)


def _with_state_in_variables(
    structure: HeldObjects, name: str, n_inputs: int | None, needs_input: bool
) -> CallableTransition:
    boxes = structure.states.items()
    example = {path: jax.ShapeDtypeStruct(box.size_without_batch, box.dtype) for path, box in boxes}
    axes = tuple((path, box.batch_axis) for path, box in boxes if box.batch_axis is not None)
    held = HeldModelWithState(structure.read(), structure, axes, needs_input)
    layout = StateLayout.like(example)
    listed = ", ".join(f"{path} {tuple(part.shape)}" for path, part in example.items())
    hint = f"Its state is what its Variables of real numbers hold, which are {listed}."
    if not axes:
        hint += (
            " An axis of trials is left out if it is named, as by "
            "`bm.Variable(..., batch_axis=0)`; parameters are left out in a `bm.TrainVar`."
        )
    return CallableTransition(held, "input_state", layout, name, n_inputs, hint)


def _holds_state(box: Any) -> bool:
    return (
        isinstance(box, bm.Variable)
        and not isinstance(box, (bm.TrainVar, bm.Parameter))
        and bool(jnp.issubdtype(box.dtype, jnp.floating))
    )


class HeldBrainPyModel(HeldModel):
    """The values of a model that is called with its state, and how to call it with them."""

    values: tuple[Any, ...]
    structure: HeldObjects = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        """Return what the model returns, as JAX arrays."""
        with _evaluation():
            out = self.structure.call(self.values, *args, n_calls=self.n_calls)
            return jax.tree.map(bm.as_jax, out, is_leaf=_is_array)


class HeldModelWithState(HeldModel):
    """The values of a model that keeps its state in Variables, and takes an input at most.

    The state is a dictionary from each Variable's place in the model to its value, without a batch
    axis.
    """

    values: tuple[Any, ...]
    structure: HeldObjects = eqx.field(static=True)
    batch_axes: tuple[tuple[str, int], ...] = eqx.field(static=True)
    needs_input: bool = eqx.field(static=True)

    def __call__(self, u: Float[Array, " n_inputs"], state: dict[str, Array]) -> dict[str, Array]:
        """Return the state that follows."""
        axes = dict(self.batch_axes)

        def on_batch_axis(change: Callable[..., Array], state: dict[str, Array]) -> Any:
            return {
                path: change(value, axes[path]) if path in axes else value
                for path, value in state.items()
            }

        one_row = on_batch_axis(jnp.expand_dims, state)
        with _evaluation():
            inputs = () if u.size == 0 and not self.needs_input else (u[None] if axes else u,)
            next_row = self.structure.step(self.values, one_row, *inputs, n_calls=self.n_calls)
        return on_batch_axis(jnp.squeeze, next_row)


def _evaluation() -> contextlib.AbstractContextManager[Any]:
    """Switch dropout off, in BrainPy's environment. Whoever calls the model restores it."""
    return brainstate.environ.context(env=brainpy_environment, fit=False)


def _is_array(obj: Any) -> bool:
    return isinstance(obj, bm.Array)
