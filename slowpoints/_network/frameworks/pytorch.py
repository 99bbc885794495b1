"""PyTorch's modules, computed by JAX. PyTorch is needed to read the weights and the step.

A module with a step of its own is exported: see `torch_graphs`. PyTorch's layers and cells are
written down here. Every layer computes `a = W_ih @ input + b_ih` and `b = W_hh @ h + b_hh`, and
from these

- RNN: `h' = tanh(a + b)`, or `relu`;
- GRU: `r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)`; `n = tanh(a_n + r * b_n)`;
  `h' = (1 - z) * n + z * h`: the reset gate acts after the product with `W_hh`;
- LSTM: with the gates `i, f, g, o` of `a + b`, `c' = sigmoid(f) * c + sigmoid(i) * tanh(g)`;
  `h' = sigmoid(o) * tanh(c')`, or with `proj_size` the product of `W_hr` with that.
"""

import contextlib
import inspect
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from slowpoints._core.without_torch import without_torch
from slowpoints._network.base import Signature
from slowpoints._network.frameworks.calling import CallableTransition
from slowpoints._network.frameworks.layout import StateLayout
from slowpoints._network.torch_graphs.program import Programs, TorchStep

Kind = Literal["tanh", "relu", "gru", "lstm"]


class Layer(eqx.Module):
    """One layer's weights, under PyTorch's names. Missing ones are `None`."""

    weight_ih: Float[Array, "gates n_inputs"]
    weight_hh: Float[Array, "gates n_outputs"]
    bias_ih: Float[Array, " gates"] | None
    bias_hh: Float[Array, " gates"] | None
    weight_hr: Float[Array, "n_outputs n_units"] | None
    kind: Kind = eqx.field(static=True)

    def __call__(
        self, u: Float[Array, " n_inputs"], h: Float[Array, " n_outputs"], c: Any
    ) -> tuple[Float[Array, " n_outputs"], Any]:
        """Return the layer's next `h` and `c`; only an LSTM has a `c`."""
        a, b = self.weight_ih @ u, self.weight_hh @ h
        a = a if self.bias_ih is None else a + self.bias_ih
        b = b if self.bias_hh is None else b + self.bias_hh
        if self.kind == "tanh":
            return jnp.tanh(a + b), None
        if self.kind == "relu":
            return jax.nn.relu(a + b), None
        if self.kind == "gru":
            (a_r, a_z, a_n), (b_r, b_z, b_n) = jnp.split(a, 3), jnp.split(b, 3)
            r, z = jax.nn.sigmoid(a_r + b_r), jax.nn.sigmoid(a_z + b_z)
            return (1 - z) * jnp.tanh(a_n + r * b_n) + z * h, None
        i, f, g, o = jnp.split(a + b, 4)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        h = jax.nn.sigmoid(o) * jnp.tanh(c)
        return h if self.weight_hr is None else self.weight_hr @ h, c


class Stack(eqx.Module):
    """Layers that each take the `h` of the one below."""

    layers: tuple[Layer, ...]
    is_cell: bool = eqx.field(static=True)

    def __call__(self, u: Float[Array, " n_inputs"], state: Any) -> Any:
        """Return the next state in PyTorch's form: `h` or `(h, c)`, without layers for a cell."""
        has_c = self.layers[0].kind == "lstm"
        if self.is_cell:
            state = jax.tree.map(lambda a: a[None], state)
        hs, cs = state if has_c else (state, [None] * len(self.layers))
        next_hs, next_cs = [], []
        for layer, h, c in zip(self.layers, hs, cs, strict=True):
            u, c = layer(u, h, c)
            next_hs.append(u)
            next_cs.append(c)
        stacked = (jnp.stack(next_hs), jnp.stack(next_cs)) if has_c else jnp.stack(next_hs)
        return jax.tree.map(lambda a: a[0], stacked) if self.is_cell else stacked


def from_module(
    module: Any, signature: Signature | None = None, example_state: Any = None
) -> CallableTransition:
    """Take a copy of a module: of its weights, and of what `torch.export` makes of its step.

    The state of an `nn.RNN`, `nn.GRU`, `nn.LSTM` or one of their cells has the form of PyTorch's
    unbatched one: `h` of shape `[num_layers, n_units]`, or `(h, c)`. For a cell, `h` has the shape
    `[n_units]`. Dropout between layers is off. They have no other signature. Their own code above
    takes no time to convert, whereas an export takes a third of a second, and seconds the first
    time.

    Any other module is exported when the shapes are known, at the first call.

    Raises:
        TypeError: if `module` is bidirectional or takes no state, or a built-in one is given a
            signature or an example.
    """
    from torch import nn  # a transition works, and can be unpickled, without PyTorch

    cells = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)
    name = type(module).__name__
    base = _base_of(module)
    if base is None:
        return _exported(module, signature, example_state)
    for keyword, value in {"signature": signature, "example_state": example_state}.items():
        if value is not None:
            raise TypeError(f"as_transition: a {name} takes no `{keyword}`.")
    if getattr(module, "bidirectional", False):
        raise TypeError(
            f"as_transition: {name} is bidirectional. Its backward direction starts from the end "
            "of a sequence, so it is no map from a state to the next."
        )
    kind = "gru" if base in (nn.GRU, nn.GRUCell) else "lstm"
    if base in (nn.RNN, nn.RNNCell):
        kind = module.nonlinearity
    is_cell = base in cells
    n_layers: int = 1 if is_cell else getattr(module, "num_layers")  # noqa: B009
    suffixes = [""] if is_cell else [f"_l{i}" for i in range(n_layers)]
    stack = Stack(tuple(_layer(module, kind, suffix) for suffix in suffixes), is_cell)
    layout = StateLayout.like(_state_of(module))
    hint = _hint(name, has_c=kind == "lstm", n_layers=n_layers, is_cell=is_cell)
    if module._forward_hooks or module._forward_pre_hooks:  # which may change what it computes
        step, _ = _step(module, "input_state" if is_cell else "batched_sequence")
        return CallableTransition(step, "state_input", layout, name, module.input_size, hint)
    return CallableTransition(stack, "input_state", layout, name, module.input_size, hint)


def from_method(method: Any, signature: Signature | None, example_state: Any) -> CallableTransition:
    """Take a copy of a module that is called by a method of another name than `forward`.

    Raises:
        TypeError: if the method cannot be called with two arguments.
    """
    from slowpoints._network.torch_graphs.called_otherwise import Method

    own = inspect.signature(method)
    try:
        own.bind(None, None)
    except TypeError:
        name = f"{type(method.__self__).__name__}.{method.__name__}"
        call = f"self.model.{method.__name__}(...)  # with its other arguments as well"
        raise TypeError(
            f"as_transition: `model` is the method `{name}{own}`; expected one that is called with "
            f"an input and a state. Write a module that calls it, and pass that.\n{_step_of(call)}"
        ) from None
    _check_order(method, signature)
    step, name = _step(Method(method.__self__, method.__name__), signature)
    layout = None if example_state is None else StateLayout.like(example_state)
    return CallableTransition(step, "state_input", layout, name)


def _base_of(module: Any) -> Any:
    """Return which of PyTorch's recurrent layers and cells a module is, or `None`."""
    from torch import nn

    if "forward" in vars(module):  # one of its own in place of the layer's
        return None
    kinds = (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell)
    own = (cls for cls in kinds if isinstance(module, cls))
    return next((cls for cls in own if type(module).forward is cls.forward), None)


def _state_of(layer: Any) -> Any:
    """Return the shapes of a layer's or a cell's state, in PyTorch's unbatched form."""
    lead = (layer.num_layers,) if hasattr(layer, "num_layers") else ()
    n_outputs = getattr(layer, "proj_size", 0) or layer.hidden_size
    h = jax.ShapeDtypeStruct((*lead, n_outputs), jnp.float32)
    c = jax.ShapeDtypeStruct((*lead, layer.hidden_size), jnp.float32)
    return (h, c) if "LSTM" in _base_of(layer).__name__ else h


def _exported(module: Any, signature: Signature | None, example_state: Any) -> CallableTransition:
    """Return the transition of a module with a step of its own.

    Args:
        module: the module.
        signature: how it is called.
        example_state: one state, without a batch axis, if that is no vector.
    """
    inside = {path: part for path, part in module.named_modules() if _base_of(part)}
    why = _why_not_called(module)
    if why is None:
        _check_order(getattr(module, "_orig_mod", module).forward, signature)
        step, name = _step(module, signature)
        if example_state is None and signature in (None, "batched_sequence"):
            example_state = _state_of_only_layer(inside)
        layout = None if example_state is None else StateLayout.like(example_state)
        return CallableTransition(step, "state_input", layout, name)
    from slowpoints._network.torch_graphs.called_otherwise import StatesOfLayers, takes_one

    name = getattr(module, "original_name", type(module).__name__)  # the former of scripted ones
    one_way = all(not getattr(part, "bidirectional", False) for part in inside.values())
    if not (inside and one_way and takes_one(module)):
        raise TypeError(_refusal(name, why, inside))
    for keyword, value in {"signature": signature, "example_state": example_state}.items():
        if value is not None:
            was = f"{name} has `forward(inputs)`, and the states are those of its recurrent layers"
            raise TypeError(f"as_transition: {was}; expected no `{keyword}`.")
    step, _ = _step(StatesOfLayers(module, list(inside)), "batched_sequence")
    states = tuple(map(_state_of, inside.values()))
    layout = StateLayout.like(states[0] if len(states) == 1 else states)
    hint = f"The states of {name} are those of {_in_words(inside)}; slowpoints.simulate runs it."
    return CallableTransition(step, "state_input", layout, name, hint=hint)


def _state_of_only_layer(inside: dict[str, Any]) -> Any:
    """Return the form of the state of a module whose only recurrent layer has more than a vector.

    That is the form of what it passes on to the layer. If the module takes it as one vector all the
    same, it is called with that.
    """
    states = [_state_of(layer) for layer in inside.values()]
    leaves = jax.tree.leaves(states)
    is_vector = len(leaves) == 1 and (len(leaves[0].shape) == 1 or leaves[0].shape[0] == 1)
    return states[0] if len(states) == 1 and not is_vector else None


def _step(module: Any, signature: Signature | None) -> tuple[TorchStep, str]:
    from slowpoints._network.torch_graphs.snapshot import Snapshot

    snapshot = Snapshot(module, signature)
    # An array of JAX if that holds all digits: without x64, not for weights in float64.
    weights = {
        name: jnp.array(w) if jax.dtypes.canonicalize_dtype(w.dtype) == w.dtype else w
        for name, w in snapshot.weights.items()
    }
    return TorchStep(weights, Programs(snapshot.name, snapshot)), snapshot.name


def _why_not_called(module: Any) -> str | None:
    """Return why a module cannot be called with two arguments, if it cannot."""
    # The former of `torch.compile`; PyTorch's own layers have none if they are scripted.
    forward = getattr(getattr(module, "_orig_mod", module), "forward", None)
    if forward is None:
        return "was scripted without a `forward`, as PyTorch's own layers are"
    if getattr(forward, "__name__", "") == "_forward_unimplemented":
        return "has no `forward`"
    try:
        inspect.signature(forward).bind(None, None)
    except ValueError:  # it is not known for compiled code
        return None
    except TypeError:
        return f"has `forward{inspect.signature(forward)}`"
    return None


_NAMES_OF_STATES = ("h", "h0", "hx", "hidden", "hidden_state", "h_prev", "state", "r", "rates")
_NAMES_OF_INPUTS = ("x", "u", "x_t", "u_t", "input", "inputs", "input_t", "stimulus")


def _check_order(call: Any, signature: Signature | None) -> None:
    """Check that a module is not taken for one whose input comes first if its state does, by name.

    Where there are as many inputs as states, the shapes would not tell.

    Raises:
        TypeError: if it may be.
    """
    with contextlib.suppress(ValueError):  # it is not known for compiled code
        first, second, *_ = inspect.signature(call).parameters
        if signature is None and first in _NAMES_OF_STATES and second in _NAMES_OF_INPUTS:
            raise TypeError(
                f"as_transition: the first argument of `{call.__qualname__}` is `{first}`, but by "
                "default a PyTorch module takes its input first; expected a `signature`: "
                '"batched_sequence" if it does, and "state_input" or "scan" if not.'
            )


def _hint(name: str, *, has_c: bool, n_layers: int, is_cell: bool) -> str:
    """Return what to know of states that do not fit, since PyTorch's `output` is seldom enough."""
    if is_cell:
        return f"A state of {name} is the pair (h, c)." if has_c else ""
    if not has_c and n_layers == 1:
        return f"{name} returns (output, h_n); its states are `output`."
    holds = "h" if n_layers == 1 else "h of the last layer"
    state = "(h, c)" if has_c else "h"
    all_of_it = state if n_layers == 1 else f"{state} of all layers"
    return (
        f"`output` of {name} holds only {holds}: collect {all_of_it} step by step, as in "
        f"docs/models.md#pytorch. `slowpoints.as_transition(model).flatten({state})` turns "
        f"{'them' if has_c else 'it'} into vectors."
    )


def _attribute(path: str) -> str:
    """Return how a submodule is written in Python: `encoder.0.rnn` is `model.encoder[0].rnn`."""
    parts = (f"[{part}]" if part.isdecimal() else f".{part}" for part in path.split("."))
    return f"`model{''.join(parts)}`"


def _in_words(inside: dict[str, Any]) -> str:
    *others, last = map(_attribute, inside)
    return f"{', '.join(others)} and {last}" if others else last


def _refusal(name: str, why: str, inside: dict[str, Any]) -> str:
    own = f"pass {_in_words(inside)}, with inputs of that layer, or " if len(inside) == 1 else ""
    if len(inside) > 1:
        own = f"pass one of its layers, {_in_words(inside)}, with inputs of that layer, or "
    if "scripted" in why:
        own = "pass the layer itself, as it was before, or a scripted module around it, or "
    way_out = f"{own}write its step as a method of it, or as a module, and pass that"
    return (
        f"as_transition: `model` is {name}, a torch.nn.Module that {why}; expected one that is "
        f"called with an input and a state. {way_out[0].upper()}{way_out[1:]}.\n"
        + _step_of("...  # the next state, by the parts of self.model")
    )


def _step_of(next_state: str) -> str:
    """Return the module to write around one that is called otherwise."""
    return (
        "    class Step(torch.nn.Module):\n"
        "        def __init__(self, model):\n"
        "            super().__init__()\n"
        "            self.model = model\n"
        "\n"
        "        def forward(self, input, state):  # [n, n_inputs] and [n, n_states]\n"
        f"            return {next_state}\n"
        "\n"
        '    as_transition(Step(model), signature="input_state")'
    )


def _layer(module: Any, kind: Any, suffix: str) -> Layer:
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh", "weight_hr")
    # Attributes rather than the state dictionary: a parametrized weight is computed from others.
    weights = [getattr(module, name + suffix, None) for name in names]
    # A copy, since JAX may share the memory of a NumPy array and PyTorch trains in place.
    arrays: list[Any] = [
        None if w is None else jnp.array(without_torch(w), copy=True) for w in weights
    ]
    return Layer(*arrays, kind=kind)
