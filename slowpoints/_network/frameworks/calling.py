"""`CallableTransition`: anything that can be called, and in which order it takes its arguments."""

import inspect
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._network.base import ModelError, Signature, Transition, is_instance
from slowpoints._network.frameworks.layout import StateLayout
from slowpoints._network.structure import leaves_in_order_of


class CallableTransition(Transition):
    """A callable pytree, how it is called, and how its state is laid out in a vector.

    Attributes:
        model: the callable. Its leaves are the parameters.
        signature: see [`as_transition`][slowpoints.as_transition].
        layout: how a state is laid out in a vector; `None` if it is itself a vector, of any length.
        name: what error messages call the model.
        n_inputs: the length of an input, or `None` if it is not known.
        hint: for error messages, what to know of states that do not fit.
    """

    model: Any
    signature: Signature = eqx.field(static=True)
    layout: StateLayout | None = eqx.field(static=True)
    name: str = eqx.field(static=True)
    n_inputs: int | None = eqx.field(static=True, default=None)
    hint: str = eqx.field(static=True, default="")

    @property
    def n_states(self) -> int | None:
        """The length of a state, or `None` if it is not known."""
        return None if self.layout is None else self.layout.n_states

    def flatten(self, state: Any) -> Any:
        """Return states, given in the model's own form, as vectors `[..., n_states]`."""
        return state if self.layout is None else self.layout.flatten(state)

    def unflatten(self, x: Any) -> Any:
        """Return `x`, `[..., n_states]`, as states in the model's own form."""
        return x if self.layout is None else self.layout.unflatten(x)

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Call the model once.

        Raises:
            ModelError: if it does not return what its signature says.
        """
        state = self.unflatten(x)
        if self.signature == "state_input":
            return self.flatten(self.model(state, u))
        if self.signature == "input_state":
            return self.flatten(self.model(u, state))
        if self.signature == "scan":
            return self.flatten(self._pair(self.model(state, u), "(next state, output)")[0])
        return self.flatten(self._call_on_batch(state, u))

    def _call_on_batch(self, state: Any, u: Float[Array, " n_inputs"]) -> Any:
        in_sequence = self.signature == "batched_sequence"
        inputs = u[None, None] if in_sequence else u[None]
        out = self.model(inputs, jax.tree.map(lambda a: a[None], state))
        only_states = in_sequence and hasattr(out, "shape") and out.ndim > 2
        h_next = out if only_states else self._pair(out, "(outputs, h_next)")[1]
        leaves = leaves_in_order_of(jax.tree.structure(state), h_next)
        if leaves is None:
            raise ModelError(
                f"{self.name}(inputs, hidden): h_next is {jax.tree.structure(h_next)}; expected "
                f"{jax.tree.structure(state)}, as hidden."
            )

        def only_row(new: Any, old: Any) -> Any:
            expected, shape = (1, *old.shape), jnp.shape(new)
            if shape != expected and not (in_sequence and shape == (1, *expected)):
                raise ModelError(
                    f"{self.name}(inputs, hidden): for inputs of shape {inputs.shape} and hidden "
                    f"of shape {expected}, h_next has shape {shape}; expected {expected}"
                    + (f", or with a time axis {(1, *expected)}." if in_sequence else ".")
                )
            return jnp.reshape(new, old.shape)

        return jax.tree.map(only_row, jax.tree.unflatten(jax.tree.structure(state), leaves), state)

    def _pair(self, out: Any, expected: str) -> Any:
        if isinstance(out, (tuple, list)) and len(out) == 2:
            return out
        found = f"a {type(out).__name__}"
        if isinstance(out, (tuple, list)):
            found = f"{len(out)} values"
        elif hasattr(out, "shape"):
            found = f"an array of shape {out.shape}"
        raise ModelError(f"{self.name} returned {found}; expected the pair {expected}.")


class HeldModel(eqx.Module):
    """A framework's object that takes a state. What a call writes to it is undone after the last.

    Attributes:
        n_calls: how often it is called, at most; not again after a call that changes nothing.
    """

    n_calls: int = eqx.field(static=True, default=1, kw_only=True)


class Function(eqx.Module):
    """A function or another callable object, whose arrays are found when it is traced."""

    fn: Any = eqx.field(static=True)

    def __call__(self, *args: Any) -> Any:
        """Return `fn(*args)`."""
        return self.fn(*args)


def from_callable(
    model: Any, signature: Signature | None, example_state: Any, n_inputs: int | None = None
) -> CallableTransition:
    """Take a function, or a callable that is itself a pytree, such as an `equinox.Module`.

    Raises:
        TypeError: if it cannot be called with two arguments.
    """
    name = getattr(model, "__name__", type(model).__name__)
    _check_n_arguments(model, name, signature or "state_input")
    while isinstance(model, _JITTED) or is_instance(model, *_JITTED_BY_FLAX):
        # The search compiles it anyway, and `jit` would hide what it closes over.
        model = model.__wrapped__
    leaves = jax.tree.leaves(model)
    is_leaf = len(leaves) == 1 and leaves[0] is model
    layout = None if example_state is None else StateLayout.like(example_state)
    return CallableTransition(
        Function(model) if is_leaf else model,
        signature or "state_input",
        layout,
        name,
        n_inputs,
    )


_JITTED: Any = type(jax.jit(lambda: None))
_JITTED_BY_FLAX = ("flax.nnx.transforms.compilation", "JitWrapped")

_ARGUMENTS = {
    "state_input": "(x, u)",
    "input_state": "(u, x)",
    "scan": "(x, u)",
    "batched": "(inputs, hidden)",
    "batched_sequence": "(inputs, hidden)",
}


def _check_n_arguments(model: Any, name: str, signature: Signature) -> None:
    try:
        own = inspect.signature(model)
    except (TypeError, ValueError):  # it is not known for compiled code
        return
    try:
        own.bind(None, None)
    except TypeError as error:
        parameters = [p.replace(annotation=p.empty) for p in own.parameters.values()]
        n = sum(p.kind != p.KEYWORD_ONLY or p.default is p.empty for p in parameters)
        raise TypeError(
            f"as_transition: `model` is {name}{inspect.Signature(parameters)}, which takes {n} "
            f"argument{'s' * (n != 1)}; expected {name}{_ARGUMENTS[signature]}, of a state and an "
            "input. Wrap it in a function of these two: `lambda x, u: ...`."
        ) from error


def carry_layout(
    name: str,
    cell: Any,
    initial_carry: Callable[[], Any],
    signature: Signature | None,
    example_state: Any,
) -> StateLayout | None:
    """Return how the carry of a Flax cell, or the caller's example state, is laid out in a vector.

    Args:
        name: what error messages call the module.
        cell: the module, if it is a cell.
        initial_carry: returns a carry without a batch axis.
        signature: the signature that the caller gave, if any.
        example_state: the example state that the caller gave, if any.

    Raises:
        TypeError: if it is not known how to call the module, or its inputs have several axes.
    """
    if example_state is not None:
        return StateLayout.like(example_state)
    if cell is None:
        if signature is None:
            raise TypeError(
                f"as_transition: {name} is no cell of Flax, a subclass of RNNCellBase. Say how it "
                'is called: `as_transition(module, signature="scan")`, or another signature.'
            )
        return None
    try:
        n_axes = cell.num_feature_axes
    except NotImplementedError:  # a user's own cell need not define it
        n_axes = 1
    if n_axes != 1:
        raise TypeError(
            f"as_transition: the inputs of {name} have {n_axes} axes besides the batch; expected "
            "a vector. Wrap a step of it in a function F(x, u)."
        )
    return StateLayout.like(jax.eval_shape(initial_carry))


def is_single_or_half(dtype: Any) -> bool:
    """Return whether a module's `dtype` insists on float32 or on a half precision."""
    return dtype is not None and jnp.dtype(dtype) in _SINGLE_OR_HALF


_SINGLE_OR_HALF = {jnp.dtype(dtype) for dtype in (jnp.float32, jnp.float16, jnp.bfloat16)}


def positional_parameters(model: Any, base: Any) -> list[inspect.Parameter]:
    """Return what a call of a model takes by position, any number of further ones as one.

    That is what its class's own `__call__` takes, or `update` if `__call__` is that of `base`.
    """
    cls = type(model)  # on an instance, BrainPy wraps `update`
    method = cls.update if cls.__call__ is base.__call__ else cls.__call__
    _, *parameters = inspect.signature(method).parameters.values()
    kinds = inspect.Parameter
    by_position = kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.VAR_POSITIONAL
    return [p for p in parameters if p.kind in by_position]


def needs_an_input(parameters: list[inspect.Parameter]) -> bool:
    """Return whether a model that takes these has to be called with an input."""
    return bool(parameters) and parameters[0].default is inspect.Parameter.empty
