"""`Transition`: a network as one pure function from a state and an input to the next state."""

import abc
import sys
from collections.abc import Callable
from functools import partial, wraps
from typing import Any, Literal, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._transition.wide_arrays import WideArrays

Signature = Literal["state_input", "input_state", "scan", "batched", "batched_sequence"]
"""How a model is called: see [`as_transition`][slowpoints.as_transition]."""


class ModelError(ValueError):
    """The model does not map a state and an input to the next state; the message says why."""


class Transition(eqx.Module):
    """A network's step `x_{t+1} = F(x_t, u)`, for one state.

    A pytree whose leaves are the network's parameters: it passes through `jit`, `vmap` and `grad`,
    and a second network of the same structure does not recompile.

    Attributes:
        n_states: the length of a state, or `None` if it is not known before the network is called.
        n_inputs: the length of an input, or `None` likewise.
    """

    # These carry no annotation, so they are not fields, and a subclass may define fields of these
    # names anywhere.
    n_states = cast("int | None", None)
    n_inputs = cast("int | None", None)

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        is_ours = cls.__module__.split(".")[0] == __name__.split(".")[0]
        if "__call__" in vars(cls) and not is_ours:
            cls.__call__ = _with_views(vars(cls)["__call__"])

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows `x` under the input `u`."""

    def flatten(self, state: Any) -> Any:
        """Turn states from the model's own form into vectors.

        Args:
            state: states as the model has them, such as a pair `(h, c)` of arrays `[..., n_units]`.

        Returns:
            `[..., n_states]`. By default a state is a vector, and `state` is returned as it is.
        """
        return state

    def unflatten(self, x: Any) -> Any:
        """Turn vectors into states in the model's own form: the inverse of `flatten`.

        Args:
            x: `[..., n_states]`, such as `fps.xstar`.

        Returns:
            States as the model has them, with the same leading axes.
        """
        return x


def _with_views(call: Callable[..., Any]) -> Callable[..., Any]:
    """Let the step of a user's class find new views of NumPy's arrays: see `WideArrays`."""

    @wraps(call)
    def step(self: Transition, *args: Any, **keywords: Any) -> Any:
        with WideArrays(self).renewed():
            return call(self, *args, **keywords)

    return step


def is_instance(value: Any, module: str, name: str) -> bool:
    """Return whether `value` is an instance of a framework's class; do not import the framework.

    If the framework has not been imported, no such value can exist.
    """
    loaded = sys.modules.get(module)
    return isinstance(value, getattr(loaded, name, ()))


def shape_of_step(
    F: Transition, n_states: int, n_inputs: int, dtype: Any, *, weights_too: bool = False
) -> Any:
    """Return the shape and type of the next state, without computing anything.

    Asking again about a network of the same structure costs next to nothing.

    Args:
        F: the network.
        n_states: the length of a state.
        n_inputs: the length of an input.
        dtype: the type of states and inputs.
        weights_too: whether to take the real-valued leaves of `F` as being of this type too.
    """
    return _step.eval_shape(*abstract_step(F, n_states, n_inputs, dtype, weights_too=weights_too))


@partial(jax.jit, static_argnums=0)
def _step(structure: "Structure", arrays: list[Any], x: Array, u: Array) -> Any:
    out = transition_of(structure, arrays)(x, u)
    for leaf in jax.tree.leaves(out):
        if not eqx.is_array_like(leaf):
            raise TypeError(f"the model returned a {type(leaf).__module__}.{type(leaf).__name__}")
    return out


Structure = tuple[Any, tuple[Any, ...]]
"""A transition without its arrays: the structure of its pytree, and its other leaves."""


def abstract_step(
    F: Transition, n_states: int, n_inputs: int, dtype: Any, *, weights_too: bool = False
) -> tuple[Structure, list[Any], jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Return the structure of `F`, and the shapes and types of its arrays, of `x` and of `u`.

    The arguments are those of `shape_of_step`. A function that is traced with these values is
    traced only once for all networks of the same structure.
    """
    leaves, treedef = jax.tree.flatten(F)
    others = tuple(None if isinstance(leaf, ARRAYS) else leaf for leaf in leaves)

    def spec(leaf: Any) -> jax.ShapeDtypeStruct | None:
        if not isinstance(leaf, ARRAYS):
            return None
        real = jnp.issubdtype(leaf.dtype, np.floating)
        return jax.ShapeDtypeStruct(leaf.shape, dtype if weights_too and real else leaf.dtype)

    x, u = (jax.ShapeDtypeStruct((length,), dtype) for length in (n_states, n_inputs))
    return (treedef, others), [spec(leaf) for leaf in leaves], x, u


ARRAYS = (np.ndarray, np.generic, jax.Array)
"""The types of array that a leaf can be."""


def transition_of(structure: Structure, arrays: list[Any]) -> Transition:
    """Return the transition of a structure with these arrays."""
    treedef, others = structure
    leaves = [b if a is None else a for a, b in zip(arrays, others, strict=True)]
    return treedef.unflatten(leaves)
