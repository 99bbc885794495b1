"""Figures of the results."""

import statistics
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_OURS, _GREY = "#c0392b", "#5d6d7e"
_PEERS = ("#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#7f7f7f", "#17becf")
_MARKERS = "sD^vP*X"


def draw_all(results: dict[str, Any], folder: Path) -> dict[str, Path]:
    """Draw a figure for each experiment that has one, into a folder.

    Returns:
        The files, by experiment.
    """
    files = {}
    with matplotlib.rc_context({"axes.spines.top": False, "axes.spines.right": False}):
        for name, draw in _FIGURES.items():
            if name in results:
                files[name] = folder / f"benchmark-{name}.png"
                draw(results).savefig(files[name], dpi=130, bbox_inches="tight")
    return files


def _recall(results: dict[str, Any]) -> Figure:
    """Points found against time: one panel per network, a mark per tool."""
    rows = [row for row in results["compare"]["result"] if "seconds" in row]
    curves = {row["network"]: row for row in results.get("full-recall", {}).get("result", [])}
    networks = list(dict.fromkeys(row["network"] for row in rows))
    tools = list(dict.fromkeys(row["tool"] for row in rows if not row["ours"]))
    fig = Figure(figsize=(3.1 * len(networks) + 0.5, 3.6))
    for i, network in enumerate(networks):
        ax = fig.add_subplot(1, len(networks), i + 1)
        for row in (row for row in rows if row["network"] == network):
            ax.plot(row["seconds"], _percent(row), **_mark(row, tools))
        if network in curves:
            seconds, found = _curve(curves[network])
            label = "slowpoints, from more and more states"
            ax.plot(seconds, found, "-", color=_OURS, alpha=0.5, zorder=1, label=label)
        ax.set(xscale="log", ylim=(-4, 104), title=network, xlabel="time (s)")
        ax.grid(alpha=0.3)
        if i == 0:
            ax.set_ylabel("known fixed points found (%)")
    handles = {
        label: handle
        for ax in fig.axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    fig.tight_layout()
    fig.legend(
        handles.values(), handles.keys(), loc="upper center", bbox_to_anchor=(0.5, 0), ncol=4
    )
    return fig


def _percent(row: dict[str, Any]) -> float:
    return 100 * row["found"] / row["known"]


def _mark(row: dict[str, Any], tools: list[str]) -> dict[str, Any]:
    label = row["tool"]
    if row["ours"]:
        filled = _OURS if label == "slowpoints" else "white"
        return {"marker": "o", "ms": 9, "color": _OURS, "mfc": filled, "label": label, "ls": ""}
    i = tools.index(label) % len(_PEERS)
    filled = _PEERS[i] if row["complete"] else "white"
    return {"marker": _MARKERS[i], "ms": 7, "color": _PEERS[i], "mfc": filled, "label": label} | {
        "ls": ""
    }


def _curve(row: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return median times and percentages of the searches from each number of states."""
    by_count: dict[int, list[tuple[float, float]]] = {}
    for run in row["runs"]:
        for n, found, seconds in run["recall"]:
            by_count.setdefault(n, []).append((seconds, 100 * found / row["known"]))
    medians = [[statistics.median(v) for v in zip(*p, strict=True)] for p in by_count.values()]
    return [m[0] for m in medians], [m[1] for m in medians]


def _field(results: dict[str, Any]) -> Figure:
    """Time a row on each field network; filled marks found every known point."""
    rows = results["field"]["result"]
    networks = list(dict.fromkeys(row["network"] for row in rows))
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    fig = Figure(figsize=(9, 4.2))
    ax = fig.add_subplot()
    for i, tool in enumerate(tools):
        ours = tool == "slowpoints"
        color, marker = (_OURS, "o") if ours else (_PEERS[i % 7], _MARKERS[i % 7])
        ax.plot([], [], marker, color=color, label=tool)
        for row in (row for row in rows if row["tool"] == tool):
            filled = color if row["found"] == row["known"] else "white"
            milliseconds = 1e3 * row["seconds_per_row"]
            position = networks.index(row["network"])
            ax.plot(position, milliseconds, marker, ms=9 if ours else 7, color=color, mfc=filled)
    ax.set_xticks(range(len(networks)), labels=networks, rotation=25, ha="right")
    ax.set(yscale="log", ylabel="time a row (ms)")
    ax.set_title("open marks: not every known point found", fontsize="small")
    ax.grid(alpha=0.3)
    ax.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return fig


def _size(results: dict[str, Any]) -> Figure:
    result = results["size"]["result"]
    sizes = [row["n_units"] for row in result["rows"]]
    fig = Figure(figsize=(9, 3.8))
    times = [1e3 * row["seconds_per_row"] for row in result["rows"]]
    ax = _log_log(fig, 1, sizes, times, "units", "time a row (ms)")
    _fit(ax, sizes, times, result["fitted_from"], result["time_exponent"])
    memory = [row["peak_memory"] / 1e6 for row in result["rows"]]
    ax = _log_log(fig, 2, sizes, memory, "units", "peak memory of the process (MB)")
    _fit(ax, sizes, memory, result["fitted_from"], result["memory_exponent"])
    baseline = result["baseline_memory"] / 1e6
    ax.axhline(baseline, ls=":", color=_GREY, label="with 16 units")
    ax.set_ylim(bottom=baseline / 2)
    ax.legend(frameon=False)
    fig.tight_layout()
    return fig


def _inits(results: dict[str, Any]) -> Figure:
    result = results["inits"]["result"]
    counts = [row["n_inits"] for row in result["rows"]]
    fig = Figure(figsize=(9, 3.8))
    times = [row["seconds"] for row in result["rows"]]
    ax = _log_log(fig, 1, counts, times, "initial states", "time (s)")
    _fit(ax, counts, times, counts[0], result["time_exponent"])
    memory = [row["peak_memory"] / 1e6 for row in result["rows"]]
    _log_log(fig, 2, counts, memory, "initial states", "peak memory of the process (MB)")
    fig.tight_layout()
    return fig


def _log_log(fig: Figure, i: int, x: Any, y: Any, xlabel: str, ylabel: str) -> Axes:
    ax = fig.add_subplot(1, 2, i)
    ax.plot(x, y, "o", color=_OURS, label="measured")
    ax.set(xscale="log", yscale="log", xlabel=xlabel, ylabel=ylabel)
    if max(x) <= 10_000:
        ax.set_xticks(x, labels=[str(value) for value in x])
        ax.minorticks_off()
    ax.grid(alpha=0.3)
    return ax


def _fit(ax: Axes, x: Any, y: Any, first: float, exponent: float | None) -> None:
    """Draw the power law that was fitted to the points from `first` on."""
    used = [(a, b) for a, b in zip(x, y, strict=True) if a >= first and b > 0]
    if exponent is None or len(used) < 2:
        return
    a, b = np.array(used).T
    level = np.exp(np.mean(np.log(b) - exponent * np.log(a)))
    ax.plot(a, level * a**exponent, "-", color=_GREY, label=f"power {exponent:.2f}")
    ax.legend(frameon=False)


_FIGURES = {"compare": _recall, "field": _field, "size": _size, "inits": _inits}
