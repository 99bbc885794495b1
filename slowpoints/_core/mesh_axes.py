"""`alike`: arrays that vary along the same axes of a mesh."""

from collections.abc import Sequence
from typing import Any

import jax


def alike(operands: Sequence[Any]) -> list[Any]:
    """Return arrays that all vary along the same axes of a mesh, inside of `jax.shard_map`.

    Functions of JAX see to that; an operation by itself refuses others.
    """
    own = [_axes_of(a) for a in operands]
    axes = frozenset[Any]().union(*own)
    pairs = zip(operands, own, strict=True)
    return [a if of_a == axes else _varying(a, tuple(axes - of_a)) for a, of_a in pairs]


def _axes_of(a: Any) -> frozenset[Any]:
    kind: Any = jax.typeof(a)
    if hasattr(kind, "manual_axis_type"):
        return kind.manual_axis_type.varying
    return kind.vma  # its name before JAX 0.10


def _varying(a: Any, axes: tuple[Any, ...]) -> Any:
    lax: Any = jax.lax
    if hasattr(lax, "pcast"):
        return lax.pcast(a, axes, to="varying")
    return lax.pvary(a, axes)  # its name before JAX 0.9
