"""Modules that are called in other ways: `StatesOfLayers` by sequences only, `Method` by name."""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from slowpoints._network.torch_graphs.along_sequences import arrays_of, end_of, gap

CELLS = (nn.RNNCell, nn.GRUCell, nn.LSTMCell)


class StatesOfLayers(nn.Module):
    """A step of a module `forward(inputs)`, from and to the states of recurrent layers within it.

    The module is run on a sequence of one step, in which each of these layers starts from the state
    that is given, whatever the module gives it. So encoders before a layer and readouts behind it
    are as the module has them.

    Attributes:
        module: the module.
        layers: the names of the layers in it, in the order of their states.
    """

    def __init__(self, module: nn.Module, layers: list[str]):
        super().__init__()
        self.module, self.layers = module, tuple(layers)

    def forward(self, inputs: torch.Tensor, states: Any) -> tuple[Any, Any]:
        """Return what the module returns, and the next states.

        Raises:
            TypeError: if the module does not call each of the layers once.
        """
        given = [states] if len(self.layers) == 1 else states
        found: dict[str, Any] = {}
        hooks = []
        try:
            for name, state in zip(self.layers, given, strict=True):
                layer = self.module.get_submodule(name)
                before, after = _hooks(name, state, isinstance(layer, CELLS), found)
                hooks.append(layer.register_forward_pre_hook(before, with_kwargs=True))
                hooks.append(layer.register_forward_hook(after))
            out = self.module(inputs)
        finally:
            for hook in hooks:
                hook.remove()
        missing = [name for name in self.layers if name not in found]
        if missing:
            raise TypeError(f"its layer `{missing[0]}` was not called")
        following = [found[name] for name in self.layers]
        return out, following[0] if len(following) == 1 else tuple(following)

    def is_a_step_of_sequences(self, inputs: torch.Tensor, tolerance: float) -> bool:
        """Return whether the layers of the module come to the same states step by step.

        They do not if the module keeps something else from one step for the next, or looks at
        several steps at a time, as a convolution over time does.

        Args:
            inputs: `[time, n_inputs]`, which the module is given by trials first or by time first.
            tolerance: relative to the largest entry of the states.
        """
        for sequence in (inputs[None], inputs[:, None]):
            try:
                first, last = self._along(sequence)
                one_by_one = functools.partial(self._one_by_one, first)
                end, allowed = end_of(one_by_one, [inputs], tolerance)
                at_once = arrays_of(_tensors(last))
            except Exception:  # the user's code may raise any error if the axes are not its own
                continue
            same = [a.shape for a in at_once] == [a.shape for a in end]
            if same and gap(at_once, end, [inputs]) <= allowed:
                return True
        return False

    def _one_by_one(self, states: Any, inputs: torch.Tensor) -> list[np.ndarray]:
        for u in inputs:
            _, states = self.forward(u[None, None], states)
        return arrays_of(_tensors(states))

    def _along(self, sequence: torch.Tensor) -> tuple[Any, Any]:
        """Return the states of the layers before and after the module has run on a sequence."""
        first: dict[str, Any] = {}
        last: dict[str, Any] = {}
        hooks = []

        def record(name: str, layer: Any) -> None:
            def before(layer: Any, args: Any, kwargs: Any) -> None:
                first.setdefault(name, args[1] if len(args) > 1 else kwargs.get("hx"))

            def after(layer: Any, args: Any, out: Any) -> None:
                last[name] = out if isinstance(layer, CELLS) else out[1]

            hooks.append(layer.register_forward_pre_hook(before, with_kwargs=True))
            hooks.append(layer.register_forward_hook(after))

        try:
            for name in self.layers:
                record(name, self.module.get_submodule(name))
            self.module(sequence)
        finally:
            for hook in hooks:
                hook.remove()
        for name, state in last.items():
            if first[name] is None:  # PyTorch's default
                zeros = tuple(map(torch.zeros_like, _tensors(state)))
                first[name] = zeros if isinstance(state, tuple) else zeros[0]
        both = [tuple(by_name[name] for name in self.layers) for by_name in (first, last)]
        return (both[0][0], both[1][0]) if len(self.layers) == 1 else (both[0], both[1])


def _tensors(states: Any) -> list[torch.Tensor]:
    if isinstance(states, torch.Tensor):
        return [states]
    return [tensor for part in states for tensor in _tensors(part)]


def _hooks(name: str, state: Any, is_cell: bool, found: dict[str, Any]) -> tuple[Any, Any]:
    """Return what gives a layer its state, and what keeps its next one, in the same shapes."""
    parts = state if isinstance(state, tuple) else (state,)

    def before(layer: Any, args: Any, kwargs: Any) -> tuple[Any, Any]:
        if name in found:
            raise TypeError(f"its layer `{name}` was called twice in a step")
        found[name] = None
        own = tuple(part.reshape(1, -1) for part in parts) if is_cell else parts
        given = own if isinstance(state, tuple) else own[0]
        inputs = args[0] if args else kwargs["input"]
        return (inputs, given), {}

    def after(layer: Any, args: Any, out: Any) -> None:
        following = out if is_cell else out[1]
        following = following if isinstance(state, tuple) else (following,)
        shaped = tuple(a.reshape(b.shape) for a, b in zip(following, parts, strict=True))
        found[name] = shaped if isinstance(state, tuple) else shaped[0]

    return before, after


def takes_one(module: Any) -> bool:
    """Return whether a module can be called with a sequence alone."""
    try:
        inspect.signature(getattr(module, "_orig_mod", module).forward).bind(None)
    except (TypeError, ValueError):
        return False
    return getattr(module.forward, "__name__", "") != "_forward_unimplemented"


def layers_without_state(module: nn.Module, calls: Sequence[Callable[[], Any]]) -> list[str]:
    """Return the recurrent layers that are called, if all start from the same state in all calls.

    That is zero, mostly, whatever the module does with its second argument: this is no state of
    theirs, then, but a mask, say, or the lengths of sequences.

    Args:
        module: the module.
        calls: calls of it with different states.
    """
    starts: dict[str, list[list[torch.Tensor]]] = {}
    hooks = []

    def record(name: str) -> Any:
        def before(layer: Any, args: Any, kwargs: Any) -> None:
            given = args[1] if len(args) > 1 else kwargs.get("hx")
            starts.setdefault(name, []).append([] if given is None else _tensors(given))

        return before

    for name, layer in module.named_modules():
        if isinstance(layer, (nn.RNNBase, *CELLS)):
            hooks.append(layer.register_forward_pre_hook(record(name), with_kwargs=True))
    try:
        for call in calls if hooks else ():
            call()
    finally:
        for hook in hooks:
            hook.remove()
    same = [
        all(map(torch.equal, first, other))
        for first, *others in starts.values()
        for other in others
    ]
    return list(starts) if starts and all(same) else []


class Method(nn.Module):
    """A module that is called by another of its methods than `forward`."""

    def __init__(self, module: nn.Module, method: str):
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *arguments: Any) -> Any:
        """Call the method."""
        return getattr(self.module, self.method)(*arguments)
