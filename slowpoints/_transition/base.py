"""`Transition`: a network as one pure function from a state and an input to the next state."""

import abc
import sys
from functools import partial
from typing import Any, Literal, cast, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core import arguments

Signature = Literal["state_input", "input_state", "scan", "batched", "batched_sequence"]
"""How a model is called: see [`as_transition`][slowpoints.as_transition]."""


class ModelError(ValueError):
    """A model that is no map from a state and an input to the next state; the message says why."""


class Transition(eqx.Module):
    """A network's step `x_{t+1} = F(x_t, u)`, for one state.

    A pytree whose leaves are the network's parameters: it passes through `jit`, `vmap` and `grad`,
    and a second network of the same structure does not recompile.

    Attributes:
        n_states: the length of a state, where it is known before the network is called.
        n_inputs: the length of an input, likewise.
    """

    # Not annotated, hence no fields, so that a subclass may have such names at any position.
    n_states = cast("int | None", None)
    n_inputs = cast("int | None", None)

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


def as_transition(
    model: Any, *, signature: Signature | None = None, example_state: Any = None
) -> Transition:
    """Turn a model into a pure [`Transition`][slowpoints.Transition].

    The model is left as it is, and its current parameters are copied: training it later does not
    change the transition. Where its state is a pytree, the transition's `flatten` and `unflatten`
    translate between that and a vector.

    Args:
        model: one of

            - a `Transition`, returned as it is, unless parameters are in half precision;
            - a `brainpy.DynamicalSystem` with `outputs, h_next = model(inputs, hidden)`, where
              `inputs` is `[n, 1, n_inputs]` and `hidden`, `h_next` are `[n, n_states]`; or one that
              takes an input only and keeps its state in `Variable`s;
            - a `brainstate.nn.Module` that keeps its state in `HiddenState`s;
            - a cell of Equinox, or another `equinox.Module` or callable pytree;
            - a cell of `flax.nnx`, or of `flax.linen` bound to its variables, or the pair
              `(cell, variables)`;
            - a `torch.nn.RNN`, `GRU` or `LSTM`, or one of their cells;
            - a function of JAX arrays.
        signature: how to call the model. Functions and `equinox.Module`s can be any of these, and
            are taken for the first unless told. Others are called in their framework's way, but
            BrainPy's and Flax's modules can be told as well.

            - `"state_input"`: `model(state, input) -> next state`, for one state and one input
              `[n_inputs]`;
            - `"input_state"`: `model(input, state) -> next state`, as Equinox's cells;
            - `"scan"`: `model(state, input) -> (next state, output)`, as the body of
              `jax.lax.scan`;
            - `"batched"`: `model(inputs, states) -> (outputs, next states)`, for a batch of states
              and inputs `[n, n_inputs]`;
            - `"batched_sequence"`: the same, for inputs `[n, 1, n_inputs]`: sequences of one step.
              The model may return the states of all steps, `[n, 1, ...]` or `[1, n, ...]`.
        example_state: one state in the model's form, without a batch axis, where states are
            anything else than vectors. Only its structure and its shapes are used.

    Returns:
        The transition. Its leaves are the model's parameters, those in half precision cast to
        float32.

    Raises:
        TypeError: if `model` is none of these, or cannot be called with a state and an input.
        ValueError: if `signature` is none of these.
    """
    if signature is not None:
        arguments.choice("as_transition", "signature", signature, get_args(Signature))
    return without_half_precision(_converted(model, signature, example_state))


def _converted(model: Any, signature: Signature | None, example_state: Any) -> Transition:
    if isinstance(model, type):
        raise TypeError(
            f"as_transition: `model` is the class {model.__qualname__}; expected a model: an "
            "instance of such a class."
        )
    if isinstance(model, Transition):
        _refuse(model, signature=signature, example_state=example_state)
        return model
    if is_instance(model, "brainpy", "DynamicalSystem"):
        from slowpoints._transition.models.brainpy import from_model

        return from_model(model, signature, example_state)
    if is_instance(model, "brainstate.nn", "Module"):
        from slowpoints._transition.models.brainstate import from_module

        _refuse(model, signature=signature, example_state=example_state)
        return from_module(model)
    if is_instance(model, "flax.nnx", "Module"):
        from slowpoints._transition.models.flax_nnx import from_module

        return from_module(model, signature, example_state)
    is_pair = isinstance(model, tuple) and len(model) == 2
    if is_instance(model[0] if is_pair else model, "flax.linen", "Module"):
        from slowpoints._transition.models.flax_linen import from_module

        return from_module(model, signature, example_state)
    if is_instance(model, "torch.nn", "Module"):
        from slowpoints._transition.models.pytorch import from_module

        _refuse(model, signature=signature, example_state=example_state)
        return from_module(model)
    if isinstance(model, eqx.Module):
        from slowpoints._transition.models.equinox import from_module

        return from_module(model, signature, example_state)
    if callable(model):
        from slowpoints._transition.models.calling import from_callable

        return from_callable(model, signature, example_state)
    if isinstance(model, dict) and any(
        is_instance(value, "torch", "Tensor") for value in model.values()
    ):
        raise TypeError(
            "as_transition: `model` is a state_dict of PyTorch, which holds weights without the "
            "step that they belong to; pass the layer instead, such as `net.rnn`."
        )
    raise TypeError(
        f"as_transition: `model` is a {type(model).__module__}.{type(model).__qualname__}; "
        "expected a brainpy.DynamicalSystem, a brainstate.nn.Module, an equinox.Module, a "
        "flax.nnx.Module, a flax.linen.Module with its variables, a recurrent layer or cell of "
        "torch.nn, or a function F(x, u) -> next x. To use any other model, wrap one step of it:\n"
        "    def F(x, u):  # x: [n_states], u: [n_inputs]\n"
        "        return ...  # the next state, [n_states]"
    )


def _refuse(model: Any, **keywords: Any) -> None:
    for name, value in keywords.items():
        if value is not None:
            raise TypeError(f"as_transition: a {type(model).__name__} takes no `{name}`.")


def is_instance(value: Any, module: str, name: str) -> bool:
    """Return whether `value` is of a class of a framework, without loading the framework.

    Where the framework is not loaded there can be no such value.
    """
    loaded = sys.modules.get(module)
    return isinstance(value, getattr(loaded, name, ()))


def shape_of_step(
    F: Transition, n_states: int, n_inputs: int, dtype: Any, *, weights_too: bool = False
) -> Any:
    """Return the shape and type of the next state, without computing anything.

    A second question about a network of the same structure costs next to nothing.

    Args:
        F: the network.
        n_states: the length of a state.
        n_inputs: the length of an input.
        dtype: the type of states and inputs.
        weights_too: whether the real-valued leaves of `F` are of this type as well, whatever they
            are.
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
"""A transition without its arrays: its tree, and the other leaves."""


def abstract_step(
    F: Transition, n_states: int, n_inputs: int, dtype: Any, *, weights_too: bool = False
) -> tuple[Structure, list[Any], jax.ShapeDtypeStruct, jax.ShapeDtypeStruct]:
    """Return the structure of `F`, and the shapes and types of its arrays, of `x` and of `u`.

    See `shape_of_step` for the arguments. What is traced with these is traced once for all networks
    of one structure.
    """
    leaves, treedef = jax.tree.flatten(F)
    others = tuple(None if isinstance(leaf, _ARRAYS) else leaf for leaf in leaves)

    def spec(leaf: Any) -> jax.ShapeDtypeStruct | None:
        if not isinstance(leaf, _ARRAYS):
            return None
        real = jnp.issubdtype(leaf.dtype, np.floating)
        return jax.ShapeDtypeStruct(leaf.shape, dtype if weights_too and real else leaf.dtype)

    x, u = (jax.ShapeDtypeStruct((length,), dtype) for length in (n_states, n_inputs))
    return (treedef, others), [spec(leaf) for leaf in leaves], x, u


_ARRAYS = (np.ndarray, np.generic, jax.Array)


def transition_of(structure: Structure, arrays: list[Any]) -> Transition:
    """Return the transition of a structure with these arrays."""
    treedef, others = structure
    leaves = [b if a is None else a for a, b in zip(arrays, others, strict=True)]
    return treedef.unflatten(leaves)


def with_precision(F: Transition, dtype: Any) -> Transition:
    """Return `F` with its real-valued leaves cast to `dtype`."""

    def cast(leaf: Any) -> Any:
        # Keys and integers (such as a counter) are no parameters and keep their type.
        real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, np.floating)
        return jnp.asarray(leaf, dtype) if real else leaf

    return jax.tree.map(cast, F)


def without_half_precision(F: Transition) -> Transition:
    """Return `F` with its leaves that are coarser than float32 cast to float32.

    Sums and products of such leaves alone would be rounded to half precision, whatever that of the
    state is.
    """

    def is_half(leaf: Any) -> bool:
        real = isinstance(leaf, _ARRAYS) and jnp.issubdtype(leaf.dtype, np.floating)
        return real and jnp.finfo(leaf.dtype).bits < 32

    if not any(map(is_half, jax.tree.leaves(F))):
        return F
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, np.float32) if is_half(leaf) else leaf, F)
