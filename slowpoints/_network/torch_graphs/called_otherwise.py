"""Modules that are called in other ways: `StatesOfLayers` by sequences only, `Method` by name."""

from typing import Any

import torch
from torch import nn

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


class Method(nn.Module):
    """A module that is called by another of its methods than `forward`."""

    def __init__(self, module: nn.Module, method: str):
        super().__init__()
        self.module, self.method = module, method

    def forward(self, *arguments: Any) -> Any:
        """Call the method."""
        return getattr(self.module, self.method)(*arguments)
