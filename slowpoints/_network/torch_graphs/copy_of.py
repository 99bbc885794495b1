"""`copy_of`: a copy of a module, and all tensors in it by their names."""

import copy
from typing import Any

import torch
from torch import nn

from slowpoints._core.contents import objects_in


def copy_of(module: nn.Module) -> nn.Module:
    """Return a copy; what cannot be copied, such as an open file, is shared with the module."""
    memo: dict[int, Any] = {}
    held = [value for part in module.modules() for value in vars(part).values()]
    for value in objects_in(module):
        if isinstance(value, torch.Tensor) and not value.is_leaf:  # a result that is kept
            memo[id(value)] = value.detach().clone()
    try:
        return copy.deepcopy(module, dict(memo))
    except Exception:  # an object may refuse to be copied with any error
        for value in held:
            if isinstance(value, (dict, nn.Module)):  # of which all modules have some
                continue
            try:
                copy.deepcopy(value, dict(memo))
            except Exception:
                memo[id(value)] = value
        return copy.deepcopy(module, memo)


def tensors_of(module: nn.Module) -> dict[str, torch.Tensor]:
    """Return parameters, buffers, and tensors that are mere attributes, with all their names."""
    tensors = dict(module.named_parameters(remove_duplicate=False))
    tensors |= dict(module.named_buffers(remove_duplicate=False))
    for path, part in module.named_modules(remove_duplicate=False):
        for name, value in vars(part).items():
            if isinstance(value, torch.Tensor):
                tensors[f"{path}.{name}".lstrip(".")] = value
    return tensors
