"""Save the Variables of a BrainPy model to a file, and load them into any instance of its class.

BrainPy names its instances by counting them (`GRUCell0`, `GRUCell1`), and its state dictionaries
carry these names. Files written here hold such a dictionary, which BrainPy can load. Next to it
they hold the path from the model to each Variable, which is used when they are loaded here, and a
checksum.
"""

import os
import warnings
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from slowpoints._storage.checkpoint_files import (
    UnusableFileError,
    digest_of_tree,
    read_tree,
    write_tree,
)
from slowpoints._storage.variable_paths import plain_arrays_by_path, variables_by_path

if TYPE_CHECKING:
    from brainpy import DynamicalSystem
    from brainpy.math import Variable
else:  # BrainPy takes seconds to import, so only the functions below import it
    DynamicalSystem = Variable = Any

__all__ = ["load_checkpoint", "save_checkpoint"]

# Our entry among those of BrainPy's objects; BrainPy's loader passes over it. Because of the space
# it can be neither the name of such an object nor a path, which are the keys in files of earlier
# versions.
OWN_ENTRY = "slowpoints checkpoint"


def save_checkpoint(model: DynamicalSystem, filepath: str | os.PathLike[str]) -> None:
    """Save every Variable of `model` to one file in BrainPy's msgpack format.

    A Variable counts when it can be reached from `model` through attributes of BrainPy objects and
    through lists, tuples and dictionaries; one that is reachable in several ways is loaded as one.
    Plain arrays are not Variables and are not saved: BrainPy's cells and layers hold their weights
    as plain arrays unless they are created with `mode=bm.training_mode`.

    The file carries a checksum, by which `load_checkpoint` recognises damage. BrainPy loads it too,
    with `brainpy.load_state(model, brainpy.checkpoints.load_pytree(filepath))`, as far as
    `brainpy.save_state` covers the model. BrainPy goes by the names of the instances, so this sets
    the Variables of the model that was saved, and of one whose instances have the same names: those
    that were given one, or were created in the same order in a new process.

    An older file is replaced only when the new one is complete. Parent folders are created. If
    `brainpy.save_state` gives values that belong to no Variable, because a class of the model
    overrides `save_state`, a `UserWarning` says that they are left out.

    Args:
        model: the `brainpy.DynamicalSystem` to save.
        filepath: where to save it.

    Raises:
        TypeError: `model` is not a `brainpy.DynamicalSystem`, `filepath` is not a path, or a
            Variable holds something other than numbers (a typed PRNG key).
        ValueError: `model` has no Variables.
        OSError: the file cannot be written; an older one is still there.
    """
    variables = variables_by_path("save_checkpoint", model)
    path = _path("save_checkpoint", filepath)
    values = {name: _to_numpy(name, variable) for name, variable in variables.items()}
    tree, left_out = _to_tree(model, variables, values)
    write_tree(path, tree)
    if left_out:
        message = (
            f"save_checkpoint: {path!r} lacks what `brainpy.save_state` adds to the Variables of "
            f"the model: {_listed(left_out)}"
        )
        warnings.warn(message, UserWarning, stacklevel=2)


def load_checkpoint(model: DynamicalSystem, filepath: str | os.PathLike[str]) -> bool:
    """Load a file of `save_checkpoint` into `model`, either all of it or none of it.

    The instance that was saved and `model` may be two instances of one class. Files that hold
    `brainpy.save_state(...)` are loaded too; the numbers that BrainPy gave to the instances may
    differ, but what remains of the names, and their order, must agree. They have no checksum, so
    damage to the values of such a file remains unnoticed.

    Shapes must agree but for the size of a Variable's own `batch_axis`, and dtypes must be equal.
    If the file is missing, damaged, or cannot be used for another reason, a `UserWarning` says so;
    it is never an error, whatever the file contains. Reading it executes nothing.

    Args:
        model: the `brainpy.DynamicalSystem` whose Variables are set.
        filepath: the file to load.

    Returns:
        True if every Variable of `model` now has the file's value, to the last bit; False if the
        file is missing or cannot be used, and then `model` is what it was before.

    Raises:
        TypeError: `model` is not a `brainpy.DynamicalSystem`, or `filepath` is not a path.
        ValueError: `model` has no Variables.
    """
    variables = variables_by_path("load_checkpoint", model)
    path = _path("load_checkpoint", filepath)
    try:
        saved = read_tree(path)
        if OWN_ENTRY in saved:
            saved = _from_tree(saved)
        elif all(isinstance(value, dict) for value in saved.values()):
            saved = _from_save_state(saved, model, variables)
        _check(saved, variables, model)
        _assign(saved, variables)
    except UnusableFileError as reason:
        message = f"cannot load the checkpoint {path!r}, the model is unchanged: {reason}"
        warnings.warn(message, UserWarning, stacklevel=2)
        return False
    return True


def _path(caller: str, filepath: str | os.PathLike[str]) -> str:
    path = os.fspath(filepath) if isinstance(filepath, os.PathLike) else filepath
    if not isinstance(path, str):
        raise TypeError(f"{caller}: `filepath` is {filepath!r}; expected a str or a pathlib.Path.")
    return path


def _to_numpy(name: str, variable: Variable) -> np.ndarray:
    try:
        return np.asarray(variable.value)
    except TypeError as error:
        raise TypeError(
            f"save_checkpoint: `model` has a Variable {name} of dtype {variable.value.dtype}; "
            "expected numbers."
        ) from error


def _to_tree(
    model: DynamicalSystem, variables: dict[str, Variable], values: dict[str, np.ndarray]
) -> tuple[dict[str, Any], list[str]]:
    """Return what the file holds, and the names in `brainpy.save_state` that it leaves out.

    Our entry has the paths of what `brainpy.save_state` gives, and the values that it leaves out.
    """
    import brainpy
    from brainpy.math import VariableView

    held = _held(model)
    paths_by_id = {id(variable): path for path, variable in variables.items()}
    state: dict[str, Any] = {}
    paths: dict[str, dict[str, str]] = {}
    left_out: list[str] = []
    for node, given in brainpy.save_state(model).items():
        state[node], paths[node] = {}, {}
        for key, value in given.items():
            variable = held.get(node, {}).get(key)
            path = paths_by_id.get(id(variable))
            is_array = isinstance(value, np.ndarray | jax.Array)
            if path is not None and is_array and _same(np.asarray(value), values[path]):
                state[node][key], paths[node][key] = values[path], path
            elif isinstance(variable, VariableView):
                state[node][key] = np.asarray(value)  # for BrainPy, as its target has a path
            else:
                left_out.append(f"{node}: {key}")
    known = {path for paths_here in paths.values() for path in paths_here.values()}
    rest = {path: value for path, value in values.items() if path not in known}
    tree = {OWN_ENTRY: {"paths": paths, "values": rest}, **state}
    tree[OWN_ENTRY]["sha256"] = digest_of_tree(tree)
    return tree, left_out


def _from_tree(tree: dict[str, Any]) -> dict[str, Any]:
    """Return the values by path from a tree of `_to_tree`, if it is undamaged."""
    try:
        digest = tree[OWN_ENTRY].pop("sha256")
        if digest != digest_of_tree(tree):
            raise UnusableFileError("it is damaged: its checksum does not match its content")
        by_path = dict(tree[OWN_ENTRY]["values"])
        for node, paths in tree[OWN_ENTRY]["paths"].items():
            for key, path in paths.items():
                if not isinstance(path, str):
                    raise TypeError("a path is not a string")
                by_path[path] = tree[node][key]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise UnusableFileError(f"it is damaged: {type(error).__name__}: {error}") from error
    return by_path


def _held(model: DynamicalSystem) -> dict[str, Any]:
    """Return the Variables by object and name, in the order of `brainpy.save_state`."""
    import brainpy
    from brainpy.dynsys import DynView

    nodes = model.nodes().subset(brainpy.DynamicalSystem).not_subset(DynView).unique()
    return {name: node.vars(level=0).unique() for name, node in nodes.items()}


def _from_save_state(
    saved: dict[str, dict[str, Any]], model: DynamicalSystem, variables: dict[str, Variable]
) -> dict[str, Any]:
    """Turn what `brainpy.save_state` returns, `{node: {node.name: value}}`, into paths and values.

    Args:
        saved: the file's content.
        model: the model to load it into.
        variables: the model's Variables by path.

    Returns:
        The file's values by path.
    """
    from brainpy.math import VariableView

    # Objects without Variables do not matter, unless they hold in plain arrays what the file has.
    plain = {name: path for path, name in plain_arrays_by_path(model).items()}
    plain_owners = {name.rpartition(".")[0] for name in plain}
    all_held = _held(model)
    held = {name: variables_here for name, variables_here in all_held.items() if variables_here}
    saved = {name: values for name, values in saved.items() if values}
    if not all(isinstance(key, str) for values in saved.values() for key in values):
        raise UnusableFileError("it does not hold named values")
    if _renumbered(saved) != _renumbered(held):
        with_arrays = {
            name: variables_here
            for name, variables_here in all_held.items()
            if variables_here or name in plain_owners
        }
        if _renumbered(saved) == _renumbered(with_arrays):
            held = with_arrays
    if saved.keys() != held.keys():
        if _renumbered(saved) != _renumbered(held):
            raise UnusableFileError(
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
            variable = held[node].get(key)
            if isinstance(variable, VariableView):
                continue  # a part of a Variable, which has a value of its own
            # A name that the model lacks stays as it is; `_check` then finds that it is one too
            # many.
            path = paths.get(id(variable), plain.get(key, key))
            if path in by_path and not _same(by_path[path], value):
                raise UnusableFileError(f"it holds two values for the shared Variable {path}")
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


def _check(saved: dict[str, Any], variables: dict[str, Variable], model: DynamicalSystem) -> None:
    """Raise `UnusableFileError` unless `saved` fits the Variables of the model."""
    if plain := saved.keys() & plain_arrays_by_path(model).keys():
        raise UnusableFileError(
            f"the model holds {_listed(sorted(plain))} in plain arrays, and only Variables can be "
            "loaded. BrainPy's cells and layers have Variables if they are created in training "
            "mode: create the model under `with brainpy.math.training_environment():`"
        )
    if missing := variables.keys() - saved.keys():
        raise UnusableFileError(f"it lacks {_listed(sorted(missing))}")
    if extra := saved.keys() - variables.keys():
        raise UnusableFileError(f"the model lacks {_listed(sorted(extra))}")
    for path, variable in variables.items():
        value, current = saved[path], variable.value
        if not isinstance(value, np.ndarray):
            raise UnusableFileError(f"{path} is not an array but a {type(value).__name__}")
        shape, batch_axis = list(value.shape), variable.batch_axis
        if batch_axis is not None and batch_axis < len(shape):
            shape[batch_axis] = current.shape[batch_axis]  # BrainPy lets this size vary
        if tuple(shape) != current.shape:
            raise UnusableFileError(
                f"{path} has shape {value.shape} in the file and {current.shape} in the model"
            )
        if current.dtype != value.dtype:
            raise UnusableFileError(
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
        raise UnusableFileError(f"{type(error).__name__}: {error}") from error


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
