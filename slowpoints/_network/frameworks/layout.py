"""`StateLayout`: how a model's state, a pytree of arrays, is laid out in one vector."""

import dataclasses
import math
import textwrap
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from slowpoints._core.types import RealArray
from slowpoints._core.without_torch import without_torch
from slowpoints._network.structure import leaves_in_order_of


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
                raise TypeError(
                    f"The model's state must hold real arrays only; found {found}. For complex "
                    "numbers, write its step for real and imaginary parts side by side."
                )
        return cls(treedef, tuple(tuple(leaf.shape) for leaf in leaves))

    @property
    def n_states(self) -> int:
        """How many numbers make a state."""
        return sum(map(math.prod, self.shapes))

    def flatten(self, state: Any) -> RealArray:
        """Lay the arrays of a state, each in row-major order, one after another.

        Args:
            state: arrays `[..., *shape]` in the layout's structure, where lists and tuples are
                alike, and so are dictionaries of all types; leading axes broadcast. They may be
                tensors of PyTorch. For shapes `(1, n)`, as in a network of one layer, arrays
                `[..., n]` will do, if they all have the same leading axes.

        Returns:
            `[..., n_states]`, a NumPy array if all arrays are, else a JAX array.

        Raises:
            ValueError: if the structure or a shape differs from that of the layout.
        """
        state = jax.tree.map(without_torch, state)
        leaves = leaves_in_order_of(self.treedef, state)
        leads = None if leaves is None else self._leads([tuple(np.shape(a)) for a in leaves])
        if leaves is None or leads is None:
            others, treedef = jax.tree.flatten(state)
            found = [tuple(np.shape(leaf)) for leaf in others]
            shapes = [("...", *shape) for shape in self._without_layer()]
            expected = _in_words(self.treedef, shapes)
            raise ValueError(f"The state is {_in_words(treedef, found)}; expected {expected}.")
        xp: Any = np if all(isinstance(leaf, (np.ndarray, np.generic)) for leaf in leaves) else jnp
        lead = np.broadcast_shapes(*leads)
        rows = [
            xp.broadcast_to(xp.reshape(leaf, own_lead + shape), lead + shape).reshape(
                (*lead, math.prod(shape))
            )
            for leaf, own_lead, shape in zip(leaves, leads, self.shapes, strict=True)
        ]
        return xp.concatenate(rows, axis=-1)

    def _leads(self, found: list[tuple[int, ...]]) -> list[tuple[int, ...]] | None:
        """Return the axes before those of a state for arrays of these shapes, if they hold states.

        Without the axis of a single layer nothing broadcasts: PyTorch's `output` of all time steps
        and its `c_n` of the last one do not make a trajectory.
        """
        leads = _leads_of(found, self.shapes)
        if leads is not None:
            return leads
        leads = _leads_of(found, self._without_layer())
        return leads if leads is not None and len(set(leads)) == 1 else None

    def _without_layer(self) -> tuple[tuple[int, ...], ...]:
        """Return the shapes without the axis of a single layer, where they have it."""
        return tuple(
            shape[1:] if len(shape) == 2 and shape[0] == 1 else shape for shape in self.shapes
        )

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


def _leads_of(
    found: list[tuple[int, ...]], shapes: tuple[tuple[int, ...], ...]
) -> list[tuple[int, ...]] | None:
    """Return what comes before `shapes` in the shapes that were found, if these end in them."""
    n_leads = [len(whole) - len(shape) for whole, shape in zip(found, shapes, strict=True)]
    fits = [
        n >= 0 and whole[n:] == shape
        for n, whole, shape in zip(n_leads, found, shapes, strict=True)
    ]
    return [whole[:n] for n, whole in zip(n_leads, found, strict=True)] if all(fits) else None


class _Shape(tuple):
    """A shape that is written as in the documentation: `[..., 16]`."""

    def __repr__(self) -> str:
        return f"[{', '.join(map(str, self))}]"


def _in_words(treedef: Any, shapes: list[tuple[Any, ...]]) -> str:
    """Return the arrays of a state by their shapes, such as `([..., 16], [..., 16])`."""
    return textwrap.shorten(
        repr(jax.tree.unflatten(treedef, map(_Shape, shapes))), 200, placeholder=" ..."
    )
