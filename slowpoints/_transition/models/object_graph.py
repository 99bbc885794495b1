"""Models of BrainPy and BrainState, which keep their numbers in mutable objects, as pure functions.

A model's object graph is walked once: every array that can be exchanged (in a `State` or a
`Variable`, or a floating JAX array held as an attribute, where BrainPy keeps the weights of a model
that is not in training mode) becomes a value, and everything else becomes part of a fingerprint of
the structure. A call puts the values in place, runs the model, and then restores everything as it
was.

`brainstate.graph` could do this for BrainState's modules, but it does not know BrainPy's objects.
"""

import contextlib
import functools
import hashlib
import re
import types
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from slowpoints._transition.base import ModelError
from slowpoints._transition.environment import Identity
from slowpoints._transition.models.closure import Names, names_taken

_INSTANCE_NAMES = {"_name", "_source_info"}
"""Attributes that number or locate an instance; two models that differ only in these are the same.

The same holds for initializers, which may hold the very arrays that the parameters started from.
"""

_REGISTRIES = {"_implicit_nodes", "_implicit_vars", "_before_updates", "_after_updates"}
_REGISTRIES |= {"_current_inputs", "_delta_inputs"}
"""Attributes that BrainPy fills in when they are first looked at: empty is the same as missing."""


class ModelStructure:
    """A model without its numbers: equal for two models that compute the same function of them.

    Args:
        model: the object to walk.
        box_types: the mutable objects that hold one value, in `_value`.
        is_state: which of them hold the network's state; the others hold parameters.
    """

    def __init__(
        self,
        model: Any,
        box_types: tuple[type, ...] = (brainstate.State,),
        is_state: Callable[[Any], bool] = lambda box: False,
    ):
        walk = _Walk(box_types, is_state)
        self.fingerprint = walk.visit(model)
        self.states: dict[str, Any] = walk.states
        """The boxes of the state, by their place in the model."""
        self._model = model
        self._slots = walk.slots
        self._random_states = walk.random_states
        self._holders = walk.holders
        self._hash = hash(self.fingerprint)

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ModelStructure) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return self._hash

    def __repr__(self) -> str:
        return f"ModelStructure({type(self._model).__name__})"

    def read(self) -> tuple[Any, ...]:
        """Return the current values of the parameters, in the fixed order of the walk."""
        return tuple(jax.tree.map(jnp.asarray, slot.get()) for slot in self._slots)

    def step(
        self,
        values: Sequence[Any],
        state: dict[str, Any],
        *inputs: Any,
        find_states: Callable[[Any], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Call a model that keeps its state in boxes, and return the state that follows.

        Args:
            values: the parameters.
            state: what to put into the boxes of the state, by place.
            inputs: what to call the model with.
            find_states: returns the model's boxes of the state, if they are not those of the walk.

        Raises:
            ModelError: if the step does not set a part of the state, or changes anything else.
        """
        with self.holding(values) as model:
            boxes = self.states if find_states is None else find_states(model)
            for path, box in boxes.items():
                _BoxSlot(box).set(state[path])
            model(*inputs)
            next_state = {path: box._value for path, box in boxes.items()}
            name = type(model).__name__
            if unchanged := [path for path in state if next_state[path] is state[path]]:
                raise ModelError(
                    f"{name}: a step does not set {unchanged}, which count as its state. "
                    "Parameters belong into a TrainVar (BrainPy) or a ParamState (BrainState)."
                )
            pairs = zip(self._slots, values, strict=True)
            if changed := [
                (s.path, value) for s, value in pairs if s.box is not None and s.get() is not value
            ]:
                spikes = any(
                    jnp.issubdtype(jnp.result_type(value), jnp.bool_) for _, value in changed
                )
                raise ModelError(
                    f"{name}: a step changes {[path for path, _ in changed]}, which do not count "
                    "as its state: only Variables of real numbers (BrainPy) and HiddenStates "
                    "(BrainState) do."
                    + " A network that spikes has no fixed points: search one of rates."
                    * spikes
                )
            return next_state

    @contextlib.contextmanager
    def holding(self, values: Sequence[Any]) -> Iterator[Any]:
        """Lend the model with `values` as parameters; afterwards it is exactly as it was.

        The model runs in its evaluation mode, without dropout.

        Raises:
            ModelError: if random numbers were drawn meanwhile.
        """
        slots = [*self._slots, *map(_BoxSlot, self.states.values())]
        random_states = [*map(_BoxSlot, (brainstate.random.DEFAULT, *self._random_states))]
        saved_values = [slot.get() for slot in (*slots, *random_states)]
        saved_contents = [_contents(holder) for holder in self._holders]
        try:
            for slot, value in zip(self._slots, values, strict=True):
                slot.set(value)
            is_random = (
                f"{type(self._model).__name__} draws random numbers in a step, and has no fixed "
                "points then. Switch its noise off."
            )
            try:
                with brainstate.environ.context(fit=False):
                    yield self._model
            except Exception as error:  # BrainState lets nobody write a traced value into its key
                if "RandomState" in str(error) and not isinstance(error, ModelError):
                    raise ModelError(is_random) from error
                raise
            keys = saved_values[len(slots) :]
            if any(slot.get() is not key for slot, key in zip(random_states, keys, strict=True)):
                raise ModelError(is_random)
        finally:
            for holder, contents in zip(self._holders, saved_contents, strict=True):
                _restore(holder, contents)
            for slot, value in zip((*slots, *random_states), saved_values, strict=True):
                slot.set(value)


class _ItemSlot:
    """An array in a list, a dictionary or an object's attributes."""

    box, path = None, ""

    def __init__(self, holder: Any, key: Any):
        self._holder, self._key = holder, key

    def get(self) -> Any:
        return self._holder[self._key]

    def set(self, value: Any) -> None:
        self._holder[self._key] = value


class _BoxSlot:
    """An array, or a pytree of arrays, in a `State` or a `Variable`."""

    def __init__(self, box: Any, path: str = ""):
        self.box, self.path = box, path

    def get(self) -> Any:
        return self.box._value

    def set(self, value: Any) -> None:
        # The `value` setter would refuse another precision, and records writes.
        object.__setattr__(self.box, "_value", value)


class _Walk:
    """One pass over an object graph, in a fixed order: its slots, and its fingerprint."""

    def __init__(self, box_types: tuple[type, ...], is_state: Callable[[Any], bool]) -> None:
        self.slots: list[_ItemSlot | _BoxSlot] = []
        self.states: dict[str, Any] = {}
        self.random_states: list[brainstate.random.RandomState] = []
        self.holders: list[Any] = []  # mutable objects whose contents a call may change
        self._box_types, self._is_state = box_types, is_state
        self._path: list[str] = []
        self._seen: dict[int, int] = {}
        self._alive: list[Any] = []  # keeps ids from being used again during the walk

    def visit(self, obj: Any, slot: _ItemSlot | None = None) -> Hashable:
        """Return the fingerprint of `obj`; `slot` says where it can be replaced, if it can."""
        if obj is None or isinstance(obj, (str, bytes, bool, int, float, complex, type)):
            return (type(obj), obj)
        if isinstance(obj, (types.ModuleType, types.BuiltinFunctionType, np.dtype)):
            return Identity(obj)
        if isinstance(obj, jax.Array) and slot is not None and _is_real(obj):
            self.slots.append(slot)
            return ("array", obj.shape, obj.dtype)
        if isinstance(obj, (np.ndarray, np.generic, jax.Array)):
            return ("constant", *_digest(obj))
        if id(obj) in self._seen:  # shared, or a cycle
            return ("seen", self._seen[id(obj)])
        self._seen[id(obj)] = len(self._seen)
        self._alive.append(obj)
        if isinstance(obj, self._box_types):
            return self._visit_box(obj)
        if isinstance(obj, (list, dict)):
            return self._visit_container(obj)
        if isinstance(obj, (tuple, set, frozenset)):
            items = enumerate(obj if isinstance(obj, tuple) else sorted(obj, key=repr))
            return (type(obj), *(self._visit_at(i, item) for i, item in items))
        if isinstance(obj, (types.FunctionType, types.MethodType, functools.partial)):
            return self._visit_function(obj)
        if not hasattr(obj, "__dict__"):
            slots = _in_slots(obj)
            return (type(obj), self._visit_items(slots)) if slots else Identity(obj)
        self.holders.append(obj.__dict__)
        of_class = tuple(self.visit(value) for value in _class_constants(type(obj)))
        taken = _names_taken_by(type(obj))
        return (type(obj), of_class, taken, self._visit_items(obj.__dict__))

    def _visit_at(self, key: Any, obj: Any, slot: _ItemSlot | None = None) -> Hashable:
        self._path.append(str(key))
        fingerprint = self.visit(obj, slot)
        self._path.pop()
        return fingerprint

    def _visit_box(self, box: Any) -> Hashable:
        if isinstance(box, brainstate.random.RandomState):
            self.random_states.append(box)
            return type(box)
        leaves, treedef = jax.tree.flatten(box._value)
        if not all(isinstance(leaf, (np.ndarray, np.generic, jax.Array)) for leaf in leaves):
            return Identity(box)
        if self._is_state(box):
            self.states[".".join(self._path)] = box
            return ("state", type(box))
        self.slots.append(_BoxSlot(box, ".".join(self._path)))
        return (type(box), treedef, *((jnp.shape(a), jnp.result_type(a)) for a in leaves))

    def _visit_container(self, obj: list | dict) -> Hashable:
        self.holders.append(obj)
        if isinstance(obj, dict):
            return (type(obj), self._visit_items(obj))
        items = (self._visit_at(i, item, _ItemSlot(obj, i)) for i, item in enumerate(obj))
        return (type(obj), *items)

    def _visit_items(self, mapping: dict[Any, Any]) -> Hashable:
        fingerprints = []
        for i, (key, item) in enumerate(mapping.items()):
            if key in _REGISTRIES and not item:
                self.holders += [] if item is None else [item]
            elif not (key in _INSTANCE_NAMES or str(key).endswith("_initializer")):
                name = i if _is_numbered(key, item) else key
                fingerprints.append((name, self._visit_at(name, item, _ItemSlot(mapping, key))))
        return tuple(fingerprints)

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


def _class_constants(cls: type) -> Iterator[Any]:
    """Yield the numbers, texts and arrays that a class and its bases define."""
    for base in cls.__mro__:
        for name, value in vars(base).items():
            if not name.startswith("__") and isinstance(value, _CONSTANTS):
                yield value


@functools.cache
def _methods_of(cls: type) -> tuple[types.FunctionType, ...]:
    """Return the methods that a class has from outside the frameworks."""
    own = [base for base in cls.__mro__ if base.__module__.split(".")[0] not in _FRAMEWORKS]
    values = [value for base in own for value in vars(base).values()]
    return tuple(value for value in values if isinstance(value, types.FunctionType))


def _names_taken_by(cls: type) -> tuple[Names, ...]:
    """Return what a user's class takes from its module by name, such as a time step."""
    return tuple(map(names_taken, _methods_of(cls)))


_FRAMEWORKS = {"builtins", "abc", "typing", "brainpy", "brainpy_state", "brainstate", "jax"}
_CONSTANTS = (bool, int, float, complex, str, np.ndarray, np.generic, jax.Array)


def _in_slots(obj: Any) -> dict[str, Any]:
    names = [name for base in type(obj).__mro__ for name in getattr(base, "__slots__", ())]
    return {name: getattr(obj, name) for name in names if hasattr(obj, name)}


def _is_numbered(key: Any, item: Any) -> bool:
    """Whether `key` is a name that BrainPy made by counting instances (`GRUCell0`, `GRUCell1`)."""
    return isinstance(key, str) and bool(
        re.fullmatch(rf"({re.escape(type(item).__name__)}|ContainerElem|var)\d+", key)
    )


def _cell_contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # not assigned yet
        return None


def _is_real(value: jax.Array) -> bool:
    return bool(jnp.issubdtype(value.dtype, jnp.floating))


def _digest(value: Any) -> tuple[Hashable, ...]:
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        value = jax.random.key_data(value)
    value = np.asarray(value)
    if value.dtype == object:
        return (Identity(value),)
    return value.shape, value.dtype.str, hashlib.blake2b(value.tobytes(), digest_size=16).digest()


def _contents(holder: list | dict) -> list | dict:
    return dict(holder) if isinstance(holder, dict) else list(holder)


def _restore(holder: list | dict, contents: list | dict) -> None:
    if isinstance(holder, dict):
        dict.clear(holder)
        dict.update(holder, contents)
    else:
        list.__setitem__(holder, slice(None), contents)
