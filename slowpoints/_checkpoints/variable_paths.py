"""The Variables of a BrainPy model by paths that are the same in all instances of its class."""

import re
from collections import deque
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainpy import DynamicalSystem
    from brainpy.math import Variable
else:  # BrainPy takes seconds to import, so only the function below imports it
    DynamicalSystem = Variable = Any

__all__ = ["variables_by_path"]


def variables_by_path(caller: str, model: DynamicalSystem) -> dict[str, Variable]:
    """Return the Variables of `model` by their paths, such as `encoder.children[#0].W`.

    A Variable in several places goes by the object that has it as an attribute rather than by a
    collection such as `model.train_vars()`, and then by the shortest path.

    Raises:
        TypeError: `model` is not a `brainpy.DynamicalSystem`.
        ValueError: `model` has no Variables.
    """
    import brainpy
    import brainpy.math as bm

    if not isinstance(model, brainpy.DynamicalSystem):
        kind = type(model).__name__
        raise TypeError(f"{caller}: `model` is a {kind}; expected a brainpy.DynamicalSystem.")
    direct = (bm.Variable, bm.BrainPyObject, bm.NodeDict, bm.NodeList)
    collections = (dict, list, tuple)
    found: list[tuple[list[Any], Variable]] = []
    views: list[tuple[list[Any], Any]] = []
    instance_names: set[str] = set()
    seen: set[int] = set()
    queue: deque[tuple[list[Any], Any]] = deque([([], model)])
    later: deque[tuple[list[Any], Any]] = deque()
    while queue or later:
        steps, value = queue.popleft() if queue else later.popleft()
        if id(value) in seen:
            continue
        seen.add(id(value))
        # A step is an attribute's name, a position, or a position and a key.
        children: list[tuple[Any, Any]] = []
        if isinstance(value, bm.Variable):
            if isinstance(value, bm.VariableView):
                views.append((steps, value))
            else:
                found.append((steps, value))
        elif isinstance(value, bm.BrainPyObject):
            instance_names.add(str(value.name))
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
    # A view shows a part of a Variable, which is usually held by another object.
    for steps, target in views:
        while isinstance(target, bm.VariableView):
            target = target._value
        if id(target) not in seen:
            seen.add(id(target))
            found.append(([*steps, "target"], target))
    if not found:
        raise ValueError(
            f"{caller}: `model` has no Variables; expected at least one. BrainPy's cells and "
            "layers hold their weights in Variables if created with `mode=bm.training_mode`."
        )

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

    return {"".join(map(label, steps)).removeprefix("."): variable for steps, variable in found}
