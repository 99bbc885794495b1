"""`leaves_in_order_of`: the arrays of a state in the order of another one's structure."""

from collections.abc import Iterator
from typing import Any

import jax


def leaves_in_order_of(treedef: Any, state: Any) -> list[Any] | None:
    """Return the leaves of a state in the order of a structure, or `None` if it has another one.

    Lists and tuples are alike, and so are dictionaries of all types, whatever their order.
    """
    n = treedef.num_leaves
    leaves = dict(_placed(state, jax.tree.unflatten(treedef, range(n))))
    return [leaves[place] for place in range(n)] if len(leaves) == n else None


def _placed(state: Any, places: Any) -> Iterator[tuple[int, Any]]:
    """Yield the leaves with their places, as far as the structures agree."""
    if isinstance(places, dict) and isinstance(state, dict) and places.keys() == state.keys():
        for key, place in places.items():
            yield from _placed(state[key], place)
    elif all(isinstance(a, (list, tuple)) for a in (places, state)) and len(places) == len(state):
        for part, place in zip(state, places, strict=True):
            yield from _placed(part, place)
    elif jax.tree.structure(state) == jax.tree.structure(places):
        yield from zip(jax.tree.leaves(places), jax.tree.leaves(state), strict=True)
