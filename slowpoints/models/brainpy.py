"""BrainPy models as pure transitions.

A BrainPy model keeps its numbers in mutable objects. Here the model's object graph is walked once:
every array that can be exchanged (a `Variable`, or a floating JAX array held as an attribute, where
BrainPy keeps the weights of a model that is not in training mode) becomes a leaf, and all else
becomes a fingerprint of the structure. A call puts the leaves in place, runs the model and restores
all that it found.
"""

import contextlib
import functools
import hashlib
import types
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import brainpy as bp
import brainpy.math as bm
import brainstate
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints.transition import Transition

_INSTANCE_NAMES = {"_name", "_source_info"}
"""Attributes that number or locate an instance; two models differ in them and are still alike."""


class BrainPyTransition(Transition):
    """A `brainpy.DynamicalSystem` with `outputs, h_next = model(inputs, hidden)`."""

    values: tuple[Array, ...]
    structure: "ModelStructure" = eqx.field(static=True)

    @classmethod
    def from_model(cls, model: bp.DynamicalSystem) -> "BrainPyTransition":
        """Copy the model's current values."""
        structure = ModelStructure(model)
        return cls(structure.read(), structure)

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Run the model on a batch of one."""
        with self.structure.holding(self.values) as model:
            out = model(u[None, None, :], x[None, :])
        if not (isinstance(out, tuple) and len(out) == 2):
            found = f"{len(out)} values" if isinstance(out, tuple) else f"a {type(out).__name__}"
            raise ValueError(
                f"{type(model).__name__}(inputs, hidden) returned {found}; "
                "expected the pair (outputs, h_next)."
            )
        h_next = bm.as_jax(out[1])
        if h_next.shape != (1, *x.shape):
            raise ValueError(
                f"{type(model).__name__}(inputs, hidden): for inputs of shape {(1, 1, *u.shape)} "
                f"and hidden of shape {(1, *x.shape)}, h_next has shape {h_next.shape}; "
                f"expected {(1, *x.shape)}."
            )
        return h_next[0]


class ModelStructure:
    """A model without its numbers: equal for two models that compute the same function of them."""

    def __init__(self, model: bp.DynamicalSystem):
        walk = _Walk()
        self.fingerprint = walk.visit(model)
        self._model = model
        self._slots = walk.slots
        self._holders = walk.holders
        self._hash = hash(self.fingerprint)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ModelStructure) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"ModelStructure({type(self._model).__name__})"

    def read(self) -> tuple[Array, ...]:
        """Return the current values, in the fixed order of the walk."""
        return tuple(jnp.asarray(slot.get()) for slot in self._slots)

    @contextlib.contextmanager
    def holding(self, values: Sequence[Array]) -> Iterator[bp.DynamicalSystem]:
        """Lend the model with `values` in place; afterwards it is exactly as it was."""
        random_state = bm.random.DEFAULT
        saved_key = random_state._value
        saved_values = [slot.get() for slot in self._slots]
        saved_contents = [_contents(holder) for holder in self._holders]
        try:
            for slot, value in zip(self._slots, values, strict=True):
                slot.set(value)
            yield self._model
        finally:
            for holder, contents in zip(self._holders, saved_contents, strict=True):
                _restore(holder, contents)
            for slot, value in zip(self._slots, saved_values, strict=True):
                slot.set(value)
            random_state._value = saved_key


class _Slot:
    """A place in the model that holds one array."""

    def __init__(self, get: Callable[[], Any], set: Callable[[Any], None]):
        self.get, self.set = get, set


def _value_slot(box: Any) -> _Slot:
    # The `value` setter would refuse another precision, and records writes.
    return _Slot(lambda: box._value, lambda value: object.__setattr__(box, "_value", value))


def _item_slot(holder: Any, key: Any) -> _Slot:
    return _Slot(lambda: holder[key], lambda value: holder.__setitem__(key, value))


class _Walk:
    """One pass over an object graph, in a fixed order: its slots, and its fingerprint."""

    def __init__(self) -> None:
        self.slots: list[_Slot] = []
        self.holders: list[Any] = []  # mutable objects whose contents a call may change
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # keeps ids from being used again during the walk

    def visit(self, obj: Any, slot: _Slot | None = None) -> Hashable:
        """Return the fingerprint of `obj`; `slot` says where to exchange it, if one can."""
        if obj is None or isinstance(obj, (str, bytes, bool, int, float, complex, type)):
            return (type(obj), obj)
        if isinstance(obj, (types.ModuleType, types.BuiltinFunctionType, np.dtype)):
            return _Identity(obj)
        if isinstance(obj, jax.Array) and slot is not None and _is_real(obj):
            self.slots.append(slot)
            return ("array", obj.shape, obj.dtype)
        if isinstance(obj, (np.ndarray, np.generic, jax.Array)):
            return ("constant", *_digest(obj))
        if id(obj) in self._seen:  # shared, or a cycle
            return ("seen", self._seen[id(obj)])
        self._seen[id(obj)] = len(self._seen)
        self._alive.append(obj)
        if isinstance(obj, (brainstate.State, bm.Array)):
            return self._visit_box(obj)
        if isinstance(obj, (list, dict)):
            return self._visit_container(obj)
        if isinstance(obj, (tuple, set, frozenset)):
            items = list(obj) if isinstance(obj, tuple) else sorted(obj, key=repr)
            return (type(obj), *(self.visit(item) for item in items))
        if isinstance(obj, (types.FunctionType, types.MethodType, functools.partial)):
            return self._visit_function(obj)
        if hasattr(obj, "__dict__"):
            return (type(obj), self._visit_mapping(obj.__dict__))
        return _Identity(obj)

    def _visit_box(self, box: Any) -> Hashable:
        leaves = jax.tree.leaves(box._value)
        if len(leaves) != 1 or leaves[0] is not box._value:  # a State may hold a whole pytree
            return _Identity(box)
        self.slots.append(_value_slot(box))
        return (type(box), jnp.shape(box._value), jnp.result_type(box._value))

    def _visit_container(self, obj: list | dict) -> Hashable:
        self.holders.append(obj)
        if isinstance(obj, dict):
            return (type(obj), self._visit_items(obj))
        items = (self.visit(item, _item_slot(obj, i)) for i, item in enumerate(obj))
        return (type(obj), *items)

    def _visit_mapping(self, attributes: dict[str, Any]) -> Hashable:
        self.holders.append(attributes)
        return self._visit_items(attributes)

    def _visit_items(self, mapping: dict[Any, Any]) -> Hashable:
        keys = [key for key in mapping if key not in _INSTANCE_NAMES]
        return tuple((key, self.visit(mapping[key], _item_slot(mapping, key))) for key in keys)

    def _visit_function(self, fn: Any) -> Hashable:
        if isinstance(fn, types.MethodType):
            return ("method", self.visit(fn.__func__), self.visit(fn.__self__))
        if isinstance(fn, functools.partial):
            return ("partial", *(self.visit(part) for part in (fn.func, fn.args, fn.keywords)))
        # A function defined inside another is made anew by every call of the outer one; it is the
        # same function if its code, its defaults and what it closes over are the same.
        cells = tuple(_cell_contents(cell) for cell in fn.__closure__ or ())
        parts = (fn.__defaults__, fn.__kwdefaults__, cells)
        return ("function", fn.__code__, fn.__module__, *(self.visit(part) for part in parts))


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


class _Identity:
    """Equal only to the same object, which it keeps alive."""

    def __init__(self, obj: Any):
        self._obj = obj

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, _Identity) and self._obj is other._obj

    def __hash__(self) -> int:
        return id(self._obj)


def _is_real(value: jax.Array) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.floating))


def _digest(value: Any) -> tuple[Hashable, ...]:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    value = np.asarray(value)
    if value.dtype == object:
        return (_Identity(value),)
    return value.shape, value.dtype.str, hashlib.blake2b(value.tobytes(), digest_size=16).digest()


def _contents(holder: list | dict) -> list | dict:
    return dict(holder) if isinstance(holder, dict) else list(holder)


def _restore(holder: list | dict, contents: list | dict) -> None:
    if isinstance(holder, dict):
        dict.clear(holder)
        dict.update(holder, contents)
    else:
        list.__setitem__(holder, slice(None), contents)
