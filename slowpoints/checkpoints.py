"""Save the Variables of a BrainPy model to a file, and load them into any instance of its class.

BrainPy names its instances by counting them (`GRUCell0`, `GRUCell1`), and its state dictionaries
carry these names. Files written here carry the path from the model to each Variable instead.
"""

import os
import re
import tempfile
import warnings
from collections import Counter, deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

if TYPE_CHECKING:
    from brainpy import DynamicalSystem
    from brainpy.math import Variable
else:  # BrainPy takes seconds to import, so only the functions below import it
    DynamicalSystem = Variable = Any

__all__ = ["load_checkpoint", "save_checkpoint"]


def save_checkpoint(model: DynamicalSystem, filepath: str | os.PathLike[str]) -> None:
    """Save every Variable of `model` to one file in BrainPy's msgpack format.

    A Variable counts when it can be reached from `model` through attributes of BrainPy objects and
    through lists, tuples and dictionaries; one that is reachable in several ways is saved once.
    Plain arrays are no Variables and are not saved: BrainPy's cells and layers hold their weights
    as such unless they are created with `mode=bm.training_mode`.

    An older file is replaced only when the new one is complete. Parent folders are created.

    Args:
        model: the `brainpy.DynamicalSystem` to save.
        filepath: where to save it.

    Raises:
        TypeError: `model` is no `brainpy.DynamicalSystem`, `filepath` is no path, or a Variable
            holds something other than numbers (a typed PRNG key).
        ValueError: `model` has no Variables.
        OSError: the file cannot be written; an older one is still there.
    """
    variables, path = _variables(model), _path(filepath)
    import brainpy

    values = {name: _to_numpy(name, variable) for name, variable in variables.items()}
    folder = os.path.dirname(path) or os.curdir
    os.makedirs(folder, exist_ok=True)
    # BrainPy falls back to deleting the old file where it cannot rename, hence a folder of our own.
    with tempfile.TemporaryDirectory(prefix=".checkpoint-", dir=folder) as temporary_folder:
        temporary = os.path.join(temporary_folder, "checkpoint")
        brainpy.checkpoints.save_pytree(temporary, values, verbose=False)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())  # else a power cut can leave the new name with no content
        os.replace(temporary, path)


def load_checkpoint(model: DynamicalSystem, filepath: str | os.PathLike[str]) -> bool:
    """Load a file of `save_checkpoint` into `model`, either all of it or none of it.

    The instance that was saved and `model` may be two instances of one class. Files that hold
    `brainpy.save_state(...)` are loaded too; the numbers that BrainPy gave to the instances may
    differ, but what remains of the names, and their order, must agree.

    Shapes must agree but for the size of a Variable's own `batch_axis`, and dtypes must be equal.
    Where the file cannot be used, whatever it contains, a `UserWarning` says why.

    Args:
        model: the `brainpy.DynamicalSystem` whose Variables are set.
        filepath: the file to load.

    Returns:
        True if every Variable of `model` now has the file's value, to the last bit; False if the
        file cannot be used, and then `model` is what it was before.

    Raises:
        TypeError: `model` is no `brainpy.DynamicalSystem`, or `filepath` is no path.
        ValueError: `model` has no Variables.
    """
    variables, path = _variables(model), _path(filepath)
    try:
        saved = _read(path)
        if all(isinstance(value, dict) for value in saved.values()):
            saved = _from_save_state(saved, model, variables)
        _check(saved, variables)
        _assign(saved, variables)
    except _UnusableFileError as reason:
        message = f"cannot load the checkpoint {path!r}, the model is unchanged: {reason}"
        warnings.warn(message, UserWarning, stacklevel=2)
        return False
    return True


class _UnusableFileError(Exception):
    """Why a file cannot be loaded."""


def _path(filepath: str | os.PathLike[str]) -> str:
    path = os.fspath(filepath) if isinstance(filepath, os.PathLike) else filepath
    if not isinstance(path, str):
        raise TypeError(f"filepath must be a str or an os.PathLike of str, got {filepath!r}")
    return path


def _variables(model: DynamicalSystem) -> dict[str, Variable]:
    """Return the Variables of `model` by their paths, such as `encoder.children[#0].W`.

    A Variable in several places goes by the object that has it as an attribute rather than by a
    collection such as `model.train_vars()`, and then by the shortest path.
    """
    import brainpy
    import brainpy.math as bm

    if not isinstance(model, brainpy.DynamicalSystem):
        raise TypeError(f"model must be a brainpy.DynamicalSystem, got {type(model).__name__}")
    direct = (bm.Variable, bm.BrainPyObject, bm.NodeDict, bm.NodeList)
    collections = (dict, list, tuple)
    found: list[tuple[list[Any], Variable]] = []
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
            # A view shows a part of a Variable that some other object holds.
            if not isinstance(value, bm.VariableView):
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
    if not found:
        raise ValueError(f"model has no Variables: {model}")

    # BrainPy makes keys from names of instances, ids (`var140235`) and representations. Where they
    # differ from instance to instance, the position in the dictionary stands for them.
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


def _to_numpy(name: str, variable: Variable) -> np.ndarray:
    try:
        return np.asarray(variable.value)
    except TypeError as error:
        raise TypeError(f"model: the Variable {name} cannot be saved: {error}") from error


def _read(path: str) -> dict[str, Any]:
    """Return what the file holds, a dictionary with string keys."""
    import brainpy
    from braintools.file import InvalidCheckpointPath

    if not os.path.isfile(path):
        raise _UnusableFileError(
            "it is a directory" if os.path.isdir(path) else "there is no such file"
        )
    try:
        saved = brainpy.checkpoints.load_pytree(path)
    except (
        OSError,
        InvalidCheckpointPath,
        # BrainPy wraps only some of the errors that damaged files lead to.
        LookupError,  # parts of a chunked array or of a complex number are missing
        MemoryError,
        OverflowError,
        RecursionError,  # deep nesting
        SyntaxError,  # NumPy parses the name of a dtype
        TypeError,
        ValueError,
        Warning,  # NumPy's, about names of dtypes, where warnings are errors
    ) as error:
        raise _UnusableFileError(f"cannot read it: {type(error).__name__}: {error}") from error
    if not isinstance(saved, dict) or not all(isinstance(key, str) for key in saved):
        raise _UnusableFileError("it does not hold named values")
    return saved


def _from_save_state(
    saved: dict[str, Any], model: DynamicalSystem, variables: dict[str, Variable]
) -> dict[str, Any]:
    """Turn what `brainpy.save_state` returns, `{node: {node.name: value}}`, into paths and values.

    Args:
        saved: the file's content.
        model: the model to load it into.
        variables: the model's Variables by path.

    Returns:
        The file's values by path.
    """
    import brainpy
    from brainpy.dynsys import DynView

    # The nodes, in the order of `brainpy.save_state`; without Variables they do not matter.
    nodes = model.nodes().subset(brainpy.DynamicalSystem).not_subset(DynView).unique()
    held = {name: node.vars(level=0).unique() for name, node in nodes.items()}
    held = {name: variables_here for name, variables_here in held.items() if variables_here}
    saved = {name: values for name, values in saved.items() if values}
    if not all(isinstance(key, str) for values in saved.values() for key in values):
        raise _UnusableFileError("it does not hold named values")
    if saved.keys() != held.keys():
        if _renumbered(saved) != _renumbered(held):
            raise _UnusableFileError(
                f"it is about {_listed(saved) or 'nothing'}, the model is about {_listed(held)}"
            )
        saved = {
            new: {new + key.removeprefix(old): value for key, value in values.items()}
            for (old, values), new in zip(saved.items(), held, strict=True)
        }

    paths = {id(variable): path for path, variable in variables.items()}
    by_path: dict[str, Any] = {}
    for node, values in saved.items():
        for key, value in values.items():
            # A name that the model lacks stays as it is, and is then found to be one too many.
            path = paths[id(held[node][key])] if key in held[node] else key
            if path in by_path and not _same(by_path[path], value):
                raise _UnusableFileError(f"it holds two values for the shared Variable {path}")
            by_path[path] = value
    return by_path


def _renumbered(names: dict[str, Any]) -> list[tuple[str, int]]:
    """Return each name as its stem and the rank of its number among the names of that stem.

    An instance's numbers depend on what was created before it, their ranks do not.
    """
    parts = [(stem := name.rstrip("0123456789"), name[len(stem) :]) for name in names]
    ranks: dict[tuple[str, str], int] = {}
    counts: Counter[str] = Counter()
    for stem, number in sorted(parts, key=lambda part: (len(part[1]), part[1])):
        ranks[stem, number] = counts[stem]
        counts[stem] += 1
    return [(stem, ranks[stem, number]) for stem, number in parts]


def _check(saved: dict[str, Any], variables: dict[str, Variable]) -> None:
    """Raise `_UnusableFileError` unless `saved` fits the Variables."""
    if missing := variables.keys() - saved.keys():
        raise _UnusableFileError(f"it lacks {_listed(sorted(missing))}")
    if extra := saved.keys() - variables.keys():
        raise _UnusableFileError(f"the model lacks {_listed(sorted(extra))}")
    for path, variable in variables.items():
        value, current = saved[path], variable.value
        if not isinstance(value, np.ndarray):
            raise _UnusableFileError(f"{path} is no array but {type(value).__name__}")
        shape, batch_axis = list(value.shape), variable.batch_axis
        if batch_axis is not None and batch_axis < len(shape):
            shape[batch_axis] = current.shape[batch_axis]  # BrainPy lets this size vary
        if tuple(shape) != current.shape:
            raise _UnusableFileError(
                f"{path} has shape {value.shape} in the file and {current.shape} in the model"
            )
        if current.dtype != value.dtype:
            raise _UnusableFileError(
                f"{path} has dtype {value.dtype} in the file and {current.dtype} in the model"
            )


def _assign(saved: dict[str, np.ndarray], variables: dict[str, Variable]) -> None:
    """Set all Variables, or none of them if that fails."""
    before = {path: variable.value for path, variable in variables.items()}
    try:
        for path, variable in variables.items():
            # Values stay where the current ones are, if these were put there on purpose.
            device = before[path].sharding if before[path].committed else None
            with jax.enable_x64(True):  # else 64-bit values shrink to 32 bits
                variable.value = jax.device_put(saved[path], device, may_alias=False)
            if not _same(np.asarray(variable.value), saved[path]):
                raise ValueError(f"{path} did not take the file's value")
    except BaseException as error:  # an interrupt must not leave half a checkpoint either
        for path, variable in variables.items():
            if variable.value is not before[path]:
                variable.value = before[path]
        if not isinstance(error, Exception):
            raise
        raise _UnusableFileError(f"{type(error).__name__}: {error}") from error


def _same(a: Any, b: Any) -> bool:
    """Say whether two arrays agree to the last bit: NaN is the same as NaN, 0. is not -0."""
    return (
        isinstance(a, np.ndarray)
        and isinstance(b, np.ndarray)
        and a.shape == b.shape
        and a.dtype == b.dtype
        and a.tobytes() == b.tobytes()
    )


def _listed(names: Iterable[str]) -> str:
    """Return the names for a message, at a length that can be read."""
    names = [name if len(name) < 80 else f"{name[:77]}..." for name in names]
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
