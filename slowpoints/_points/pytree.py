"""`register_as_pytree`: lets JAX see the arrays in `FixedPoints`."""

from typing import Any

import jax


def register_as_pytree(kind: type, arrays: tuple[str, ...], settings: tuple[str, ...]) -> None:
    """Make a class a pytree: its arrays are the children, and its settings are static.

    Args:
        kind: the class.
        arrays: the names of its arrays, or of `None` in their place.
        settings: the names of the values that all rows share.
    """

    def flatten(fps: Any) -> tuple[tuple[Any, ...], Any]:
        children = tuple(getattr(fps, name) for name in arrays)
        return children, tuple(getattr(fps, name) for name in settings)

    def flatten_with_keys(fps: Any) -> tuple[tuple[Any, ...], Any]:
        children, static = flatten(fps)
        keyed = [(jax.tree_util.GetAttrKey(k), v) for k, v in zip(arrays, children, strict=True)]
        return tuple(keyed), static

    def unflatten(static: Any, children: Any) -> Any:
        # Bypasses the checks: transformations put tracers, batches and placeholders there.
        fps = object.__new__(kind)
        for name, value in zip(arrays, children, strict=True):
            setattr(fps, name, value)
        for name, value in zip(settings, static, strict=True):
            setattr(fps, name, value)
        return fps

    jax.tree_util.register_pytree_with_keys(kind, flatten_with_keys, unflatten, flatten)
