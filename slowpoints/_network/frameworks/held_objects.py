"""Models of BrainPy and BrainState, which keep their numbers in mutable objects, as functions.

A model's objects are walked once: every array that can be exchanged (in a `State` or a `Variable`,
or a floating JAX array held as an attribute, where BrainPy keeps the weights of a model that is not
in training mode) becomes a value. A call puts the values in place, runs the model, and then puts
everything back as it was.

`brainstate.graph` could do this for BrainState's modules, but it does not know BrainPy's objects.
"""

import contextlib
import functools
import re
import threading
import types
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import brainstate
import jax
import jax.numpy as jnp
import numpy as np

from slowpoints._core.contents import put_back
from slowpoints._network.base import ModelError

_lock = threading.RLock()
"""Held by whoever runs a model: its objects hold the numbers of one call at a time."""


class HeldObjects:
    """A model whose arrays can be exchanged; it is equal only to itself.

    Args:
        model: the object to walk.
        box_types: the mutable objects that hold one value, in `_value`.
        is_state: which of them hold the network's state; the others hold parameters.
        also: other objects that a step may write to.
    """

    def __init__(
        self,
        model: Any,
        box_types: tuple[type, ...] = (brainstate.State,),
        is_state: Callable[[Any], bool] = lambda box: False,
        also: tuple[Any, ...] = (),
    ):
        self._box_types, self._is_state = box_types, is_state
        walk = self._walked(model)
        self.states: dict[str, Any] = walk.states
        """The boxes of the state, by their place in the model."""
        self._model, self._also = model, also
        self._slots = walk.slots
        self._random_states = walk.random_states

    puts_back = True
    """For who looks at what a model holds: that is not needed here."""

    def __repr__(self) -> str:
        return f"HeldObjects({type(self._model).__name__})"

    def _walked(self, model: Any) -> "_Walk":
        walk = _Walk(self._box_types, self._is_state)
        walk.visit(model)
        return walk

    def call(self, values: Sequence[Any], *args: Any, n_calls: int) -> Any:
        """Call a model that takes its state, and return what it returns.

        Args:
            values: the parameters.
            args: what to call it with.
            n_calls: how often to call it, each time as the last call has left it.
        """
        out = None
        with self.holding(values) as model:
            for _ in range(n_calls):
                out = model(*args)
        return out

    def read(self) -> tuple[Any, ...]:
        """Return the current values of the parameters, in the fixed order of the walk."""
        return tuple(jax.tree.map(jnp.asarray, slot.get()) for slot in self._slots)

    def step(
        self,
        values: Sequence[Any],
        state: dict[str, Any],
        *inputs: Any,
        n_calls: int,
        find_states: Callable[[Any], dict[str, Any]] | None = None,
    ) -> dict[str, Any]:
        """Call a model that keeps its state in boxes, and return the state that follows.

        Args:
            values: the parameters.
            state: what to put into the boxes of the state, by place.
            inputs: what to call the model with.
            n_calls: how often to call it, each time with the same state, and otherwise as the last
                call has left it.
            find_states: returns the model's boxes of the state, if they are not those of the walk.

        Raises:
            ModelError: if the step does not set a part of the state, or changes anything else.
        """
        with self.holding(values) as model:
            boxes = self.states if find_states is None else find_states(model)
            next_state: dict[str, Any] = {}
            for _ in range(n_calls):
                next_state = self._one_step(model, boxes, state, inputs)
            return next_state

    def _one_step(self, model: Any, boxes: Any, state: Any, inputs: Any) -> dict[str, Any]:
        for path, box in boxes.items():
            _BoxSlot(box).set(state[path])
        # Boxes that are no state, those that were made with the states included.
        others = [slot for slot in self._walked(model).slots if slot.box is not None]
        before = [slot.get() for slot in others]
        model(*inputs)
        next_state = {path: box._value for path, box in boxes.items()}
        name = type(model).__name__
        if unchanged := [path for path in state if next_state[path] is state[path]]:
            raise ModelError(
                f"{name}: a step does not set {unchanged}, which count as its state. "
                "Parameters belong into a TrainVar (BrainPy) or a ParamState (BrainState)."
            )
        pairs = zip(others, before, strict=True)
        if changed := [(s.path, value) for s, value in pairs if s.get() is not value]:
            spikes = any(jnp.issubdtype(jnp.result_type(value), jnp.bool_) for _, value in changed)
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
        random_states = [*map(_BoxSlot, (brainstate.random.DEFAULT, *self._random_states))]
        with _lock, put_back((self._model, *self._also), all_of_it=True):
            keys = [slot.get() for slot in random_states]
            try:
                for slot, value in zip(self._slots, values, strict=True):
                    slot.set(value)
                try:
                    # Only where it keeps a record may traced values be written to states.
                    with brainstate.environ.context(fit=False), brainstate.StateTraceStack():
                        yield self._model
                except (
                    Exception
                ) as error:  # BrainState lets nobody write a traced value into its key
                    if "RandomState" in str(error) and not isinstance(error, ModelError):
                        raise ModelError(self._is_random()) from error
                    raise
                if any(
                    slot.get() is not key for slot, key in zip(random_states, keys, strict=True)
                ):
                    raise ModelError(self._is_random())
            finally:
                for slot, key in zip(random_states, keys, strict=True):
                    slot.set(key)

    def _is_random(self) -> str:
        return (
            f"{type(self._model).__name__} draws random numbers in a step, and has no fixed points "
            "then. Switch its noise off."
        )


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
    """One pass over a model's objects, in a fixed order."""

    def __init__(self, box_types: tuple[type, ...], is_state: Callable[[Any], bool]) -> None:
        self.slots: list[_ItemSlot | _BoxSlot] = []
        self.states: dict[str, Any] = {}
        self.random_states: list[brainstate.random.RandomState] = []
        self._box_types, self._is_state = box_types, is_state
        self._path: list[str] = []
        self._seen: dict[int, Any] = {}  # with the objects, so that no id is used again meanwhile

    def visit(self, obj: Any, slot: _ItemSlot | None = None) -> None:
        """Look at `obj`; `slot` says where it can be replaced, if it can."""
        if isinstance(obj, jax.Array) and slot is not None:
            if jnp.issubdtype(obj.dtype, jnp.floating):
                self.slots.append(slot)
            return
        if isinstance(obj, _ATOMS) or id(obj) in self._seen:
            return
        self._seen[id(obj)] = obj
        if isinstance(obj, self._box_types):
            self._visit_box(obj)
        elif isinstance(obj, dict):
            self._visit_items(obj)
        elif isinstance(obj, list):
            for i, item in enumerate(obj):
                self._visit_at(i, item, _ItemSlot(obj, i))
        elif isinstance(obj, tuple):
            for i, item in enumerate(obj):
                self._visit_at(i, item)
        elif isinstance(obj, types.MethodType):
            self.visit(obj.__self__)
        elif isinstance(obj, functools.partial):
            for part in (obj.args, obj.keywords):
                self.visit(part)
        elif isinstance(obj, types.FunctionType):
            for cell in obj.__closure__ or ():
                with contextlib.suppress(ValueError):  # a cell that is not filled yet
                    self.visit(cell.cell_contents)
        elif isinstance(held := getattr(obj, "__dict__", None), dict):
            self._visit_items(held)

    def _visit_at(self, key: Any, obj: Any, slot: _ItemSlot | None = None) -> None:
        self._path.append(str(key))
        self.visit(obj, slot)
        self._path.pop()

    def _visit_box(self, box: Any) -> None:
        if isinstance(box, brainstate.random.RandomState):
            self.random_states.append(box)
        elif all(isinstance(leaf, _ARRAYS) for leaf in jax.tree.leaves(box._value)):
            path = ".".join(self._path)
            if self._is_state(box):
                self.states[path] = box
            else:
                self.slots.append(_BoxSlot(box, path))

    def _visit_items(self, mapping: dict[Any, Any]) -> None:
        for i, (key, item) in enumerate(mapping.items()):
            # Initializers may hold the very arrays that the parameters started from.
            if not str(key).endswith("_initializer"):
                name = i if _is_numbered(key, item) else key
                self._visit_at(name, item, _ItemSlot(mapping, key))


_ARRAYS = (np.ndarray, np.generic, jax.Array)
_ATOMS = (str, bytes, int, float, complex, type, types.ModuleType, type(None), *_ARRAYS)


def _is_numbered(key: Any, item: Any) -> bool:
    """Whether `key` is a name that BrainPy made by counting instances (`GRUCell0`, `GRUCell1`)."""
    return isinstance(key, str) and bool(
        re.fullmatch(rf"({re.escape(type(item).__name__)}|ContainerElem|var)\d+", key)
    )
