"""`without_torch`: tensors of PyTorch become arrays, whether or not PyTorch is installed."""

import sys
from typing import Any

import jax.numpy as jnp


def without_torch(value: Any) -> Any:
    """Return a tensor of PyTorch as a NumPy array of the same type, and anything else as it is.

    The tensor may be part of a graph, which is left behind, and on any device.
    """
    loaded = sys.modules.get("torch")  # without which there can be no tensor
    if not isinstance(value, getattr(loaded, "Tensor", ())):
        return value
    tensor = value.detach().cpu().resolve_conj().resolve_neg()
    if str(tensor.dtype) == "torch.bfloat16":  # which NumPy itself does not have
        return tensor.float().numpy().astype(jnp.bfloat16)
    return tensor.numpy()
