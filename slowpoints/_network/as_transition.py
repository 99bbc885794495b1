"""`as_transition`: a network of any framework as a `Transition`."""

from typing import Any, NoReturn, get_args

import equinox as eqx

from slowpoints._core import arguments
from slowpoints._core.arguments.refusals import name_of
from slowpoints._network.base import Signature, Transition, is_instance
from slowpoints._network.precision import without_half_precision


def as_transition(
    model: Any, *, signature: Signature | None = None, example_state: Any = None
) -> Transition:
    """Turn a model into a pure [`Transition`][slowpoints.Transition].

    The model is not changed. Parameters that a framework keeps in objects of its own are copied, so
    that training the model later does not change the transition; a function, an object of your own
    and whatever they read are looked at anew by each function that is given the transition. If the
    model's state is a pytree, the transition's `flatten` and `unflatten` translate between that
    pytree and a vector.

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
            - a `torch.nn.Module` with a step of any kind, scripted ones too, or a method of one
              that is its step; of `torch.nn.RNN`, `GRU`, `LSTM` and their cells it is known how
              they are called; of a module with `forward(inputs)` only, such as an encoder, some of
              these layers and a readout, the states are those of the layers;
            - a recurrent layer or cell of Keras 3, on its JAX backend;
            - a function of JAX arrays.
        signature: how to call the model. Functions and `equinox.Module`s can have any of these
            signatures; the first is the default. Other models are called in their framework's way,
            but for BrainPy's, Flax's and Keras' modules a signature can be given as well, and for
            modules of PyTorch. The latter are called with a batch of one, inputs `[1, n_inputs]`
            and states `[1, n_states]`, or without the axis of the batch if they do not take that.
            Their default is the last, with `hidden` `[n, n_units]` or `[layers, n, n_units]`.

            - `"state_input"`: `model(state, input) -> next state`, for one state and one input
              `[n_inputs]`;
            - `"input_state"`: `model(input, state) -> next state`, as for Equinox's cells;
            - `"scan"`: `model(state, input) -> (next state, output)`, as for the body of
              `jax.lax.scan`;
            - `"batched"`: `model(inputs, states) -> (outputs, next states)`, for a batch of states
              and inputs `[n, n_inputs]`;
            - `"batched_sequence"`: the same, for inputs `[n, 1, n_inputs]`: sequences of one step.
              The model may return the states of all steps, `[n, 1, ...]` or `[1, n, ...]`.
        example_state: one state in the model's own form, without a batch axis, if states are
            anything other than vectors. Only its structure and its shapes are used.

    Returns:
        The transition. Its leaves are the model's parameters; those in half precision are cast to
        float32.

    Raises:
        TypeError: if `model` is none of these, or cannot be called with a state and an input.
        ValueError: if `signature` is none of these.

    A module of PyTorch is exported when its transition is first called, for only then the shapes
    are known. If it has no program, or is not the same on each call, that raises a `ModelError`.
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
        from slowpoints._network.frameworks.brainpy import from_model

        return from_model(model, signature, example_state)
    if is_instance(model, "brainstate.nn", "Module"):
        from slowpoints._network.frameworks.brainstate import from_module

        _refuse(model, signature=signature, example_state=example_state)
        return from_module(model)
    if is_instance(model, "flax.nnx", "Module"):
        from slowpoints._network.frameworks.flax_nnx import from_module

        return from_module(model, signature, example_state)
    is_pair = isinstance(model, tuple) and len(model) == 2
    if is_instance(model[0] if is_pair else model, "flax.linen", "Module"):
        from slowpoints._network.frameworks.flax_linen import from_module

        return from_module(model, signature, example_state)
    if is_instance(model, "torch.nn", "Module"):
        from slowpoints._network.frameworks.pytorch import from_module

        return from_module(model, signature, example_state)
    if is_instance(getattr(model, "__self__", None), "torch.nn", "Module"):
        from slowpoints._network.frameworks.pytorch import from_method

        return from_method(model, signature, example_state)
    if is_instance(model, "keras", "Layer"):
        from slowpoints._network.frameworks.keras_jax import from_module

        return from_module(model, signature, example_state)
    if isinstance(model, eqx.Module):
        from slowpoints._network.frameworks.equinox import from_module

        return from_module(model, signature, example_state)
    if callable(model):
        from slowpoints._network.frameworks.calling import from_callable

        return from_callable(model, signature, example_state)
    return _refuse_any_other(model)


def _refuse_any_other(model: Any) -> NoReturn:
    if isinstance(model, dict) and any(
        is_instance(value, "torch", "Tensor") for value in model.values()
    ):
        raise TypeError(
            "as_transition: `model` is a state_dict of PyTorch, which holds weights without the "
            "step that they belong to; pass the layer instead, such as `net.rnn`."
        )
    raise TypeError(
        f"as_transition: `model` is a {name_of(type(model))}; "
        "expected a brainpy.DynamicalSystem, a brainstate.nn.Module, an equinox.Module, a "
        "flax.nnx.Module, a flax.linen.Module with its variables, a torch.nn.Module, a recurrent "
        "layer or cell of Keras, or a function F(x, u) -> next x. To use any other model, wrap one "
        "step of it:\n"
        "    def F(x, u):  # x: [n_states], u: [n_inputs]\n"
        "        return ...  # the next state, [n_states]"
    )


def _refuse(model: Any, **keywords: Any) -> None:
    for name, value in keywords.items():
        if value is not None:
            raise TypeError(f"as_transition: a {type(model).__name__} takes no `{name}`.")
