"""`Transition`: a network as one pure function from a state and an input to the next state."""

import abc
import sys
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float


class Transition(eqx.Module):
    """A network's step `x_{t+1} = F(x_t, u)`, for one state.

    A pytree whose leaves are the network's parameters: it passes through `jit`, `vmap` and `grad`,
    and a second network of the same structure does not recompile.
    """

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state that follows `x` under the input `u`."""


class FunctionTransition(Transition):
    """A plain function `F(x, u) -> next x`.

    The function is compared by identity, so arrays that it closes over become constants of the
    compiled search. Use an `equinox.Module` with a `__call__(x, u)` to keep them parameters.
    """

    fn: Callable[..., Any] = eqx.field(static=True)

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return `fn(x, u)`."""
        return self.fn(x, u)


class PytreeTransition(Transition):
    """A callable that is itself a pytree, such as an `equinox.Module` with `__call__(x, u)`."""

    fn: Any

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return `fn(x, u)`."""
        return self.fn(x, u)


def as_transition(model: Any) -> Transition:
    """Turn a model into a pure [`Transition`][slowpoints.Transition].

    Args:
        model: one of

            - a `Transition`, returned as it is;
            - a `brainpy.DynamicalSystem` with `outputs, h_next = model(inputs, hidden)`, where
              `inputs` is `[n, 1, n_inputs]` and `hidden`, `h_next` are `[n, n_states]`. Its current
              values are copied: training the model later does not change the transition;
            - an `equinox.Module`, or another callable pytree, with `model(x, u) -> next x`;
            - a function `F(x, u) -> next x`, for `x` of shape `[n_states]` and `u` of `[n_inputs]`.

    Returns:
        The transition. Its leaves are the model's parameters.

    Raises:
        TypeError: if `model` is none of these.
    """
    if isinstance(model, Transition):
        return model
    brainpy = sys.modules.get("brainpy")  # a BrainPy model cannot exist before BrainPy is loaded
    if brainpy is not None and isinstance(model, brainpy.DynamicalSystem):
        from slowpoints.models.brainpy import BrainPyTransition

        return BrainPyTransition.from_model(model)
    if callable(model):
        leaves = jax.tree.leaves(model)
        is_leaf = len(leaves) == 1 and leaves[0] is model
        return FunctionTransition(model) if is_leaf else PytreeTransition(model)
    raise TypeError(
        f"as_transition: `model` is a {type(model).__module__}.{type(model).__qualname__}; "
        "expected a brainpy.DynamicalSystem, an equinox.Module or a function F(x, u) -> next x. "
        "To use any other model, wrap one step of it:\n"
        "    def F(x, u):  # x: [n_states], u: [n_inputs]\n"
        "        return ...  # the next state, [n_states]"
    )


def check_transition(F: Transition, n_states: int, n_inputs: int, dtype: Any) -> None:
    """Check, without computing anything, that `F` maps a state to a state.

    Raises:
        ValueError: if the next state has another shape than the state, or is not real.
    """
    x = jax.ShapeDtypeStruct((n_states,), dtype)
    u = jax.ShapeDtypeStruct((n_inputs,), dtype)
    out = eqx.filter_eval_shape(F, x, u)
    shape = getattr(out, "shape", None)
    if shape != (n_states,):
        found = f"shape {shape}" if shape is not None else f"a {type(out).__name__}"
        raise ValueError(
            f"The model maps a state of shape ({n_states},) and an input of shape ({n_inputs},) to "
            f"{found}; expected the next state, of shape ({n_states},)."
        )
    if not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"The model's next state has dtype {out.dtype}; expected a real one.")


def with_precision(F: Transition, dtype: Any) -> Transition:
    """Return `F` with its real-valued leaves cast to `dtype`."""

    def cast(leaf: Any) -> Any:
        # Keys and integers (such as a counter) are no parameters and keep their type.
        real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, np.floating)
        return jnp.asarray(leaf, dtype) if real else leaf

    return jax.tree.map(cast, F)
