"""The `.npz` files of `FixedPoints`: what they contain, and how they are written and read."""

import os
import re
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from slowpoints._core.files import replaced
from slowpoints._core.npz import read_npz
from slowpoints._points.status import Status

_FORMAT_VERSION = 4

# The values of `dtype.kind` that each field may have; text, for example, is not a fixed point.
_KINDS = {
    **dict.fromkeys(("xstar", "F_xstar", "x_init", "inputs", "qstar", "dq"), "fiu"),
    **dict.fromkeys(("J_xstar", "dFdu"), "fiu"),
    **dict.fromkeys(("eigval_J_xstar", "eigvec_J_xstar"), "fciu"),
    **dict.fromkeys(("n_iters", "period", "cycle_id"), "iuf"),
    **dict.fromkeys(("is_stable", "valid", "at_kink"), "biu"),
    **dict.fromkeys(("status", "hits"), "iu"),
    "cond_id": "biufUSMm",
}
_SETTING_KINDS = {"tol_unique": "fiu", "dtype": "U", "continuous_time": "b", "n_modes": "iu"}
_RECORD = "record"
_LIST_KINDS = "Uf"  # NumPy takes an empty list of names for numbers
_FLOATING = re.compile(r"(b?float|longdouble)\w*")


def write_points(
    path: Path, fields: dict[str, np.ndarray], settings: dict[str, Any], record: str | None = None
) -> None:
    """Write the fields and the settings of `FixedPoints`.

    Args:
        path: the file.
        fields: the arrays, by name.
        settings: the values that all rows share, by name.
        record: a text about the search that the points come from, for `read_record`.

    Raises:
        ValueError: if `read_points` would refuse one of the values.
    """
    for name, value in fields.items():
        if value.dtype.kind not in _KINDS[name]:
            raise ValueError(f"`{name}` is of type {value.dtype}, which these files do not hold")
    settings = settings | {"dtype": np.dtype(settings["dtype"]).name}
    _check_settings(settings)
    notes = {} if record is None else {_RECORD: np.array(record)}
    path.parent.mkdir(parents=True, exist_ok=True)
    with replaced(path) as file:
        np.savez_compressed(
            file,
            slowpoints_format=np.array(_FORMAT_VERSION),
            fields=np.array(list(fields), dtype=str),
            allow_pickle=False,
            **{name: np.array(value) for name, value in settings.items()},
            **fields,
            **notes,
        )


def read_points(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the fields and the settings that `write_points` wrote.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged, was not written by `write_points`, or has a later
            format.
    """
    version = _version(path)
    data: dict[str, Any] = read_npz(path, {**_KINDS, **_SETTING_KINDS, "fields": _LIST_KINDS})
    try:
        listed = data.pop("fields")
        settings = {name: data.pop(name) for name in _SETTING_KINDS if name in data}
        # A damaged list of contents hides arrays that the archive still has.
        if listed.size > len(_KINDS) or sorted(listed.tolist()) != sorted(data):
            raise ValueError("some arrays are missing")
        settings = {name: value.item() for name, value in settings.items()}
        flags = {name: data[name].astype(bool) for name in ("is_stable", "valid") if name in data}
        if "status" in data:
            flags["status"] = _status(data["status"])
        if version == 1:
            settings["continuous_time"] = False  # the first format had no such setting
        settings.setdefault("n_modes", 0)  # as in files of before it was kept
        _check_settings(settings)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{os.fspath(path)!r} does not hold fixed points: {error}") from error
    return data | flags | settings


def read_record(path: str | os.PathLike[str]) -> str | None:
    """Return the text that was written with the points, or `None` if there is none.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the file is damaged.
    """
    record = read_npz(path, {_RECORD: "U"}).get(_RECORD)
    return None if record is None else str(record)


def _version(path: str | os.PathLike[str]) -> int:
    found = read_npz(path, {"slowpoints_format": "iu"})
    if not found:
        raise ValueError(f"{os.fspath(path)!r} was not written by FixedPoints.save.")
    version = found["slowpoints_format"]
    if version.shape != () or version < 1:
        raise ValueError(f"{os.fspath(path)!r} has no readable format number.")
    if version > _FORMAT_VERSION:
        raise ValueError(
            f"{os.fspath(path)!r} has format {version}; this version reads up to "
            f"{_FORMAT_VERSION}. Upgrade slowpoints."
        )
    return int(version)


def _status(codes: np.ndarray) -> np.ndarray:
    # Blank rows have the number 0, which is not a status.
    if codes.size and not 0 <= codes.min() <= codes.max() <= max(Status):
        raise ValueError(f"`status` is from {codes.min()} to {codes.max()}, which no search gives")
    return codes.astype(np.int8)


def _check_settings(settings: dict[str, Any]) -> None:
    if missing := set(_SETTING_KINDS) - set(settings):
        raise ValueError(f"{sorted(missing)} are missing")
    tol_unique, dtype = settings["tol_unique"], settings["dtype"]
    if not tol_unique >= 0:
        raise ValueError(f"`tol_unique` is {tol_unique}, but must be a number that is not negative")
    # Only these names are passed to NumPy, which would read others as types with several fields.
    if not _FLOATING.fullmatch(dtype) or not jnp.issubdtype(np.dtype(dtype), jnp.floating):
        raise ValueError(f"`dtype` is {dtype!r:.40}, which is not a floating-point type")
