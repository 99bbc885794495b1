"""What `find` writes beside the points, and what `find` and `show` print as JSON."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import jax
import numpy as np

from slowpoints._core.version import __version__
from slowpoints._pipeline.account import Account
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.points_file import read_record
from slowpoints._points.summary import columns

_FORMAT = 1


def record_of_search(account: Account, **facts: Any) -> dict[str, Any]:
    """Return what is to be known of a search beside its points, of the types that JSON has.

    Args:
        account: what became of the rows.
        **facts: what else is to be known, such as the settings.
    """
    told = {
        "n_rows": account.n_rows,
        "parts": [
            dataclasses.asdict(part) | {"status": str(part.status)} for part in account.parts
        ],
        "n_merged": account.n_merged,
        "n_near": account.n_near,
        "lines": list(account.lines),
    }
    versions = {"slowpoints": __version__, "jax": jax.__version__}
    return plain({"format": _FORMAT, **facts, "account": told, "versions": versions})


def save_with_record(fps: FixedPoints, file: Path, record: dict[str, Any]) -> None:
    """Write the points as `FixedPoints.save` does, and the record with them.

    Raises:
        OSError: if the file cannot be written.
    """
    fps._save(file, as_json(record))


def load_record(file: Path) -> dict[str, Any] | None:
    """Return the record in a file of points; `None` if it has none.

    Raises:
        ValueError: if the record is damaged, or of a later version.
    """
    text = read_record(file)
    if text is None:
        return None
    try:
        record = json.loads(text)
        if record["format"] != _FORMAT:
            raise ValueError(
                f"its format is {record['format']!r}, and this version reads {_FORMAT}"
            )
        account, settings, versions = (record[k] for k in ("account", "settings", "versions"))
        parts = [account["n_rows"], settings["n_inits"], record["interrupted"], record["seconds"]]
        texts = [*account["lines"], versions["slowpoints"], versions["jax"], record["command"]]
        wrong = [part for part in parts if not isinstance(part, (int, float))]
        wrong += [each for each in texts if not isinstance(each, str)]
        if wrong:
            raise ValueError(f"{wrong[0]!r} is of another type than `find` writes")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{str(file)!r} has a record of its search that cannot be read: {error}."
        ) from error
    return record


def points_as_json(fps: FixedPoints, dt: float = 1.0) -> list[dict[str, Any]]:
    """Return one dictionary for each valid point, of the types that JSON has.

    These are the columns of `FixedPoints.to_pandas`, the state, the input and the eigenvalues. A
    step takes `dt`, in the unit of times and of the inverse of frequencies.
    """
    fps = fps.to_numpy().compact()
    table = {name: values for name, values in columns(fps).items() if name != "valid"}
    for name in table:
        if name.endswith("time_constant"):
            table[name] = table[name] * dt
        elif name.endswith("frequency"):
            table[name] = table[name] / dt
    table["xstar"], table["inputs"] = fps.xstar, fps.inputs
    table["eigenvalues"] = fps.eigval_J_xstar
    known = {name: plain(values) for name, values in table.items() if values is not None}
    return [{name: values[row] for name, values in known.items()} for row in range(fps.n)]


def plain(value: Any) -> Any:
    """Return a value made of what JSON has: numbers that are not finite become `None`.

    Complex numbers become pairs `[real, imaginary]`, and what JSON has nothing for its text.
    """
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(each) for each in value]
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist())
    if isinstance(value, complex):
        return [plain(value.real), plain(value.imag)]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def as_json(value: Any) -> str:
    """Return the text, of ASCII characters, which every reader of JSON takes."""
    return json.dumps(value, allow_nan=False)
