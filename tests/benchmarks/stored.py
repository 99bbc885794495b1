"""The results that the documentation's page holds in its tables, as far as figures need them."""

import re
from pathlib import Path
from typing import Any

from . import tables

_OURS = ("slowpoints", "slowpoints, whole pipeline", "LevenbergMarquardt", "NewtonKrylov")
"""The library's own searches; whatever else the tables name is a peer's."""

_NO_PACKAGE = ("dense Newton",)

_CELL = re.compile(r"(≈ )?([\d.]+ m?s), (\d+)/(\d+)(?: \((\d+)\))?")
"""Such as "≈ 60.6 s, 27/27": a time, points found of those known, and how many rows."""


def read(page: Path) -> tables.Results:
    """Return what a page says, rounded as it is there, in the form of `results.json`.

    Only the experiments that have figures, and of these only what the figures show.
    """
    text = page.read_text()
    sections = tables.sections(text.partition(tables.START)[2].partition(tables.END)[0])
    found = {}
    for name, read_section in _READERS.items():
        title = tables.SECTIONS[name][0]
        if title in sections:
            found[name] = {"result": read_section(sections[title])}
    rows = found.get("compare", {}).get("result", [])
    if any(row["n_rows"] is None for row in rows):
        (n_inits,) = re.findall(r"every tool gets the same ([\d,]+)", text)
        for row in rows:
            row["n_rows"] = row["n_rows"] or int(n_inits.replace(",", ""))
    return found


def _tables(text: str) -> list[list[dict[str, str]]]:
    """Return each table of a section: for each row, its cells by column."""
    grids = re.findall(r"(?:^\|.*\|\n?)+", text, flags=re.MULTILINE)
    out = []
    for grid in grids:
        lines = [
            [c.strip() for c in line.strip().strip("|").split("|")] for line in grid.splitlines()
        ]
        out.append([dict(zip(lines[0], cells, strict=True)) for cells in lines[2:]])
    return out


def _seconds(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"s": 1.0, "ms": 1e-3}[unit]


def _bytes(text: str) -> float:
    number, unit = text.split()
    return float(number) * {"MB": 1e6, "GB": 1e9}[unit]


def _cells(row: dict[str, str], first: str) -> list[dict[str, Any]]:
    """Return the results of one network, one for each tool."""
    out = []
    for tool, cell in row.items():
        match = _CELL.fullmatch(cell)
        if match is None or tool == first:
            continue
        about, time, n_found, known, n_rows = match.groups()
        result = {"network": row[first], "tool": tool, "seconds": _seconds(time)}
        result |= {"found": int(n_found), "known": int(known), "complete": about is None}
        result |= {"ours": tool in _OURS, "package": tool not in _NO_PACKAGE}
        out.append(result | {"n_rows": None if n_rows is None else int(n_rows)})
    return out


def _compare(text: str) -> list[dict[str, Any]]:
    return [cell for row in _tables(text)[0] for cell in _cells(row, "network")]


def _field(text: str) -> list[dict[str, Any]]:
    first = "network, input"
    (most,) = re.findall(r"of the (\d+) starts", text)
    cells = [cell for row in _tables(text)[0] for cell in _cells(row, first)]
    all_starts = {"n_rows": int(most)}
    cells = [cell | ({} if cell["n_rows"] else all_starts) for cell in cells]
    return [cell | {"seconds_per_row": cell["seconds"]} for cell in cells]


def _full_recall(text: str) -> list[dict[str, Any]]:
    return [
        {"network": row["network"], "known": int(row["points"]), "seconds": _seconds(row["time"])}
        | {"runs": []}
        for row in _tables(text)[0]
        if row["time"] != tables.NONE
    ]


def _size(text: str) -> dict[str, Any]:
    rows = [
        {"n_units": int(row["units"]), "seconds_per_row": _seconds(row["time per row"])}
        | {"peak_memory": _bytes(row["peak memory"])}
        for row in _tables(text)[0]
    ]
    (baseline,) = re.findall(r"Of the memory, ([\d.]+ [MG]B) is", text)
    return {"rows": rows, "baseline_memory": _bytes(baseline)}


def _inits(text: str) -> dict[str, Any]:
    rows = [
        {"n_inits": int(row["initial states"].replace(",", "")), "seconds": _seconds(row["time"])}
        | {"peak_memory": _bytes(row["peak memory"])}
        for row in _tables(text)[0]
    ]
    return {"rows": rows}


_READERS = {
    "compare": _compare,
    "field": _field,
    "full-recall": _full_recall,
    "size": _size,
    "inits": _inits,
}
