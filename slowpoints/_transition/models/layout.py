"""`StateLayout`: how a model's state, a pytree of arrays, is laid out in one vector."""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slowpoints._core.arguments import without_torch
from slowpoints._core.types import RealArray


@dataclasses.dataclass(frozen=True)
class StateLayout:
    """The structure of one state and the shapes of its arrays, in the order of `jax.tree.leaves`.

    Attributes:
        treedef: the structure of the pytree.
        shapes: the shape of each array.
    """

    treedef: Any
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def like(cls, state: Any) -> "StateLayout":
        """Read the layout of an example: arrays, or anything that has a shape and a dtype.

        Raises:
            ValueError: if `state` holds no array.
            TypeError: if it holds anything other than real arrays.
        """
        leaves, treedef = jax.tree.flatten(jax.tree.map(without_torch, state))
        if not leaves:
            raise ValueError(f"The model's state holds no array: it is {state!r}.")
        for leaf in leaves:
            if not (hasattr(leaf, "shape") and jnp.issubdtype(leaf.dtype, jnp.floating)):
                found = f"dtype {leaf.dtype}" if hasattr(leaf, "dtype") else type(leaf).__name__
                raise TypeError(f"The model's state must hold real arrays only; found {found}.")
        return cls(treedef, tuple(tuple(leaf.shape) for leaf in leaves))

    @property
    def n_states(self) -> int:
        """How many numbers make a state."""
        return sum(map(math.prod, self.shapes))

    def flatten(self, state: Any) -> RealArray:
        """Lay the arrays of a state, each in row-major order, one after another.

        Args:
            state: arrays `[..., *shape]` in the layout's structure; leading axes broadcast. They
                may be tensors of PyTorch.

        Returns:
            `[..., n_states]`, a NumPy array if all arrays are, else a JAX array.

        Raises:
            ValueError: if the structure or a shape differs from that of the layout.
        """
        leaves, treedef = jax.tree.flatten(jax.tree.map(without_torch, state))
        if treedef != self.treedef:
            raise ValueError(f"The state is {treedef}; expected {self.treedef}.")
        xp: Any = np if all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in leaves) else jnp
        leads = []
        for leaf, shape in zip(leaves, self.shapes, strict=True):
            n_lead = np.ndim(leaf) - len(shape)
            if n_lead < 0 or np.shape(leaf)[n_lead:] != shape:
                expected = ", ".join(("...", *map(str, shape)))
                raise ValueError(
                    f"An array of the state has shape {np.shape(leaf)}; expected ({expected}). "
                    f"The state's shapes are {self.shapes}."
                )
            leads.append(np.shape(leaf)[:n_lead])
        lead = np.broadcast_shapes(*leads)
        rows = [
            xp.broadcast_to(leaf, lead + shape).reshape((*lead, math.prod(shape)))
            for leaf, shape in zip(leaves, self.shapes, strict=True)
        ]
        return xp.concatenate(rows, axis=-1)

    def unflatten(self, x: RealArray) -> Any:
        """Turn vectors back into states made of the model's own arrays.

        Args:
            x: `[..., n_states]`.

        Returns:
            Arrays `[..., *shape]` in the layout's structure, of the kind and dtype of `x`.

        Raises:
            ValueError: if the last axis of `x` is not `n_states` long.
        """
        if np.ndim(x) < 1 or x.shape[-1] != self.n_states:
            raise ValueError(f"`x` has shape {np.shape(x)}; expected (..., {self.n_states}).")
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])
        leaves = [
            x[..., end - math.prod(shape) : end].reshape(x.shape[:-1] + shape)
            for end, shape in zip(ends, self.shapes, strict=True)
        ]
        return jax.tree.unflatten(self.treedef, leaves)
