"""The Variables of a BrainPy model by paths that are the same in all instances of its class."""

import re
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np

if TYPE_CHECKING:
    from brainpy import DynamicalSystem
    from brainpy.math import Variable
else:  # BrainPy takes seconds to import, so only the function below imports it
    DynamicalSystem = Variable = Any

__all__ = ["plain_arrays_by_path", "variables_by_path"]


def variables_by_path(caller: str, model: DynamicalSystem) -> dict[str, Variable]:
    """Return the Variables of `model` by their paths, such as `encoder.children[#0].W`.

    A Variable in several places goes by the object that has it as an attribute rather than by a
    collection such as `model.train_vars()`, and then by the shortest path.

    Raises:
        TypeError: `model` is not a `brainpy.DynamicalSystem`.
        ValueError: `model` has no Variables.
    """
    import brainpy

    if not isinstance(model, brainpy.DynamicalSystem):
        kind = type(model).__name__
        raise TypeError(f"{caller}: `model` is a {kind}; expected a brainpy.DynamicalSystem.")
    variables, _ = _by_path(model)
    if not variables:
        raise ValueError(
            f"{caller}: `model` has no Variables; expected at least one. BrainPy's cells and "
            "layers hold their weights in Variables if created with `mode=bm.training_mode`."
        )
    return variables


def plain_arrays_by_path(model: DynamicalSystem) -> dict[str, str]:
    """Return the paths of arrays that are attributes but no Variables, with BrainPy's names.

    In BrainPy's cells and layers, such are the weights outside of training mode: `rnn.Wi`, which
    `brainpy.save_state` would call `GRUCell0.Wi` if it were a Variable.
    """
    return _by_path(model)[1]


def _by_path(model: DynamicalSystem) -> tuple[dict[str, Variable], dict[str, str]]:
    """Return the Variables by path, and what `plain_arrays_by_path` returns."""
    found = _found_in(model)
    path = _path_with(found.instance_names)
    variables = {path(steps): variable for steps, variable in found.variables}
    return variables, {path(steps): name for steps, name in found.plain}


class _Found(NamedTuple):
    """What a model holds, with the steps that lead there.

    A step is an attribute's name, a position, or a position and a key.
    """

    variables: list[tuple[list[Any], Variable]]
    plain: list[tuple[list[Any], str]]
    """Names of arrays that are no Variables."""
    instance_names: set[str]


def _found_in(model: DynamicalSystem) -> _Found:
    """Walk through a model: objects and their attributes first, then collections."""
    import brainpy.math as bm

    arrays = (bm.Array, jax.Array, np.ndarray)
    direct = (bm.Variable, bm.BrainPyObject, bm.NodeDict, bm.NodeList)
    collections = (dict, list, tuple)
    found = _Found([], [], set())
    views: list[tuple[list[Any], Any]] = []
    seen: set[int] = set()
    queue: deque[tuple[list[Any], Any]] = deque([([], model)])
    later: deque[tuple[list[Any], Any]] = deque()
    while queue or later:
        steps, value = queue.popleft() if queue else later.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        children: list[tuple[Any, Any]] = []
        if isinstance(value, bm.Variable):
            if isinstance(value, bm.VariableView):
                views.append((steps, value))
            else:
                found.variables.append((steps, value))
        elif isinstance(value, bm.BrainPyObject):
            found.instance_names.add(str(value.name))
            children = list(vars(value).items())
        elif isinstance(value, dict):
            children = [((i, key), child) for i, (key, child) in enumerate(value.items())]
        else:
            children = list(enumerate(value))
        for step, child in children:
            if isinstance(child, direct):
                queue.append(([*steps, step], child))
            elif isinstance(child, collections):
                later.append(([*steps, step], child))
            elif isinstance(child, arrays) and isinstance(value, bm.BrainPyObject):
                found.plain.append(([*steps, step], f"{value.name}.{step}"))
    # A view shows a part of a Variable, which is usually held by another object.
    for steps, target in views:
        while isinstance(target, bm.VariableView):
            target = target._value
        if id(target) not in seen:
            seen.add(id(target))
            found.variables.append(([*steps, "target"], target))
    return found


def _path_with(instance_names: set[str]) -> Callable[[list[Any]], str]:
    """Return a function from steps to paths, in which no names of instances occur."""
    # BrainPy makes keys from names of instances, ids (`var140235`) and representations. If they
    # differ from instance to instance, the position in the dictionary replaces them.
    names = "|".join(re.escape(name) for name in instance_names)
    unstable = re.compile(rf"(?<![A-Za-z0-9])(?:{names})(?![A-Za-z0-9])|^var\d{{7,}}| at 0x")

    def label(step: Any) -> str:
        if isinstance(step, str):
            return f".{step}" if step.isidentifier() else f".{step!r}"
        if isinstance(step, int):
            return f"[{step}]"
        position, key = step
        is_stable = isinstance(key, int) or (isinstance(key, str) and not unstable.search(key))
        return f"[{key!r}]" if is_stable else f"[#{position}]"

    def path(steps: list[Any]) -> str:
        return "".join(map(label, steps)).removeprefix(".")

    return path
