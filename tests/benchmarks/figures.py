"""Figures of the results.

All of them show measurements, and no curves that were fitted to them. They are narrow, so that
their letters are still legible on a phone.
"""

import itertools
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

# Okabe & Ito's colours, which colour-blind readers tell apart; each tool has its own shape as well.
_OURS = ("o", "#0072B2")
_TOOLS = {
    "slowpoints": _OURS,
    "slowpoints, whole pipeline": ("<", "#56B4E9"),
    "LevenbergMarquardt": ("p", "#56B4E9"),
    "NewtonKrylov": ("d", "#7F7F7F"),
    "SciPy hybr": ("s", "#E69F00"),
    "Optimistix LM": ("^", "#009E73"),
    "BrainPy BFGS": ("D", "#CC79A7"),
    "canns": ("v", "#D55E00"),
    "FixedPointFinder (PyTorch)": ("P", "#000000"),
    "dense Newton": ("X", "#7F7F7F"),
}
_OTHER = ("*", "#7F7F7F")
_TASKS = {
    "context": "context",
    "integrate": "integrator",
    "pwm": "working memory",
    "ring": "ring",
    "sine": "sine wave",
}
_NEAR, _ASIDE = 2.2, 0.16
"""Marks whose times differ by less than this factor are drawn so far above and below their line."""

_ROOM = 3.4
"""The words beside a mark take up this factor of the axis of time, or less."""

_COVERED, _APART = 1.25, 7
"""Where two tools found about as much, within so many percent, in times that differ by less than
this factor, one mark would cover the other: that of the slower one is small, on top of it."""

_LARGE, _SMALL = 7, 4.5  # points

_LOOKS = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "font.size": 9,
    "legend.frameon": False,
}


def draw_all(
    results: dict[str, Any], folder: Path, only: Sequence[str] | None = None
) -> dict[str, Path]:
    """Draw the figures for which there are results, into a folder.

    Args:
        results: what `results.json` holds, or `stored.read` returns.
        folder: where the files go.
        only: the names of some figures; by default all.

    Returns:
        The files, by name.
    """
    files = {}
    with matplotlib.rc_context(_LOOKS):
        for name, (needed, draw) in _FIGURES.items():
            if all(part in results for part in needed) and (only is None or name in only):
                files[name] = folder / f"benchmark-{name}.png"
                draw(results).savefig(files[name], dpi=150, bbox_inches="tight")
    return files


# ---- a row for each network ----------------------------------------------------------------------


def _front(results: dict[str, Any]) -> Figure:
    """Draw the time for each state on all networks: the library's default and other packages'."""
    flip_flops = _for_each_state(results["compare"]["result"])
    field = _for_each_state(results["field"]["result"])
    both = [
        [row for row in rows if row["tool"] == "slowpoints" or (row["package"] and not row["ours"])]
        for rows in (flip_flops, field)
    ]
    counts = [len(_networks(rows)) for rows in both]
    fig = Figure(figsize=(5.6, 1.4 + 0.37 * sum(counts)), layout="constrained")
    axes = fig.subplots(2, 1, sharex=True, height_ratios=[n + 0.5 for n in counts])
    titles = ("Flip-flops of three bits", "Networks as laboratories train them")
    for ax, rows, title in zip(axes, both, titles, strict=True):
        _draw_networks(ax, rows)
        ax.set_title(title, loc="left", fontsize="medium")
    axes[0].tick_params(labelbottom=False)
    axes[1].set_xlabel("time for each initial state (ms)")
    _legend(fig, [row for rows in both for row in rows])
    return fig


def _field(results: dict[str, Any]) -> Figure:
    """Draw the time for each state on the field networks, the library's other solvers included."""
    rows = _for_each_state(results["field"]["result"])
    fig = Figure(figsize=(5.6, 1.2 + 0.37 * len(_networks(rows))), layout="constrained")
    ax = fig.subplots()
    _draw_networks(ax, rows)
    ax.set_xlabel("time for each initial state (ms)")
    _legend(fig, rows)
    return fig


def _for_each_state(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows that ran, with the milliseconds that each initial state took."""
    ran = [row for row in rows if "skipped" not in row]
    out = []
    for row in ran:
        per_state = row.get("seconds_per_row")
        if per_state is None:  # the time is that of as many states as the largest search had
            n_inits = max(r["n_rows"] for r in ran if r["network"] == row["network"])
            per_state = row["seconds"] / n_inits
        out.append({"package": True} | row | {"milliseconds": 1e3 * per_state})
    return out


def _draw_networks(ax: Axes, rows: list[dict[str, Any]]) -> None:
    """Draw a line for each network and on it a mark for each tool; hollow if points are missing."""
    networks = _networks(rows)
    for place, network in enumerate(networks):
        there = [row for row in rows if row["network"] == network]
        there = sorted(there, key=lambda row: row["milliseconds"])
        times = [row["milliseconds"] for row in there]
        ax.plot([times[0], times[-1]], [place, place], "-", color="0.85", lw=1, zorder=1)
        offsets = _aside(times)
        for k, (row, off) in enumerate(zip(there, offsets, strict=True)):
            marker, color = _TOOLS.get(row["tool"], _OTHER)
            look = {"mfc": color, "mec": "black", "mew": 0.5, "ms": _mark_size(marker)}
            if row["found"] < row["known"]:
                look |= {"mfc": "white", "mec": color, "mew": 1.2}
                next_to = [
                    t for t, o in zip(times[k + 1 :], offsets[k + 1 :], strict=True) if o == off
                ]
                is_free = not next_to or next_to[0] > _ROOM * times[k]
                _write_found(ax, row, place + off, 1 if is_free else -1)
            ax.plot(row["milliseconds"], place + off, marker, zorder=2 + row["ours"], **look)
    ax.set_yticks(range(len(networks)), [_name(network, networks) for network in networks])
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set(xscale="log", ylim=(len(networks) - 0.4, -0.7))
    ax.xaxis.set_major_formatter("{x:g}")
    ax.grid(axis="x", alpha=0.3)
    ax.set_axisbelow(True)


def _aside(times: list[float]) -> list[float]:
    """Return how far above or below its line each mark is drawn, so that neighbours are seen."""
    offsets = [0.0] * len(times)
    for k in range(1, len(times)):
        if times[k] < _NEAR * times[k - 1]:
            offsets[k - 1] = offsets[k - 1] or -_ASIDE
            offsets[k] = -offsets[k - 1]
    return offsets


def _write_found(ax: Axes, row: dict[str, Any], place: float, side: int) -> None:
    """Write how many points were found, to the right of a mark or to its left."""
    ax.annotate(
        f"{row['found']}/{row['known']}",
        (row["milliseconds"], place),
        (5 * side, 0),
        textcoords="offset points",
        ha="left" if side > 0 else "right",
        va="center",
        fontsize=7,
        color="0.3",
        path_effects=[withStroke(linewidth=1.5, foreground="white")],
    )


def _mark_size(marker: str) -> int:
    return 8 if marker == _OURS[0] else 6


def _legend(fig: Figure, rows: list[dict[str, Any]]) -> None:
    """Draw a legend of the tools, and of what a hollow mark says."""
    handles = []
    for tool in dict.fromkeys(row["tool"] for row in rows):
        of_tool = [row for row in rows if row["tool"] == tool]
        marker, color = _TOOLS.get(tool, _OTHER)
        is_solver = of_tool[0]["ours"] and not tool.startswith("slowpoints")
        label = ("slowpoints, " if is_solver else "") + tool
        if not all(row.get("complete", True) for row in of_tool):
            label += ", time extrapolated"
        look = {"mfc": color, "mec": "black", "mew": 0.5, "ms": _mark_size(marker)}
        handles.append(Line2D([], [], marker=marker, ls="", label=label, **look))
    hollow = "not all known points found"
    handles.append(Line2D([], [], marker="o", ls="", mfc="white", mec="0.3", ms=6, label=hollow))
    fig.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=8, columnspacing=1)


def _networks(rows: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(row["network"] for row in rows))


def _name(network: str, networks: list[str]) -> str:
    """Write "ring_gru_128_s14, 0" as "ring, GRU 128"; and the input if there are several."""
    case, _, number = network.partition(", ")
    task, *rest = case.split("_")
    if task not in _TASKS or len(rest) < 2:
        return network
    cell = rest[0].upper() if rest[0] in ("gru", "lstm") else rest[0]
    several = sum(name.startswith(case) for name in networks) > 1
    return f"{_TASKS[task]}, {cell} {rest[1]}" + (f", input {number}" if several else "")


# ---- a panel for each network --------------------------------------------------------------------


def _recall(results: dict[str, Any]) -> Figure:
    """Draw points found against time: one panel for each network, a mark for each tool."""
    rows = [row for row in results["compare"]["result"] if "seconds" in row]
    until_all = {row["network"]: row for row in results.get("full-recall", {}).get("result", [])}
    networks = _networks(rows)
    n_rows = -(-(len(networks) + 1) // 2)  # and one for the legend
    fig = Figure(figsize=(6.2, 2.2 * n_rows), layout="constrained")
    axes = fig.subplots(n_rows, 2, sharex=True, sharey=True, squeeze=False).ravel()
    for ax, network in zip(axes, networks, strict=False):
        there = [row for row in rows if row["network"] == network]
        for row, size in zip(there, _sizes(there), strict=True):
            percent = 100 * row["found"] / row["known"]
            marker, color = _TOOLS.get(row["tool"], _OTHER)
            look = {"ms": size, "color": color, "label": row["tool"], "ls": ""}
            if size == _SMALL:
                look |= {"mec": "white", "mew": 0.6, "zorder": 3}
            ax.plot(row["seconds"], percent, marker, **look)
            if not row["complete"]:
                beside = {"textcoords": "offset points", "ha": "right", "va": "center"}
                ax.annotate("≈", (row["seconds"], percent), (-5, 0), **beside)
        if network in until_all:
            seconds, found = _curve(until_all[network])
            label = "slowpoints, until all are found"
            ax.plot(seconds, found, ".-", color=_OURS[1], lw=1, zorder=1, label=label)
        ax.set(xscale="log", ylim=(-8, 108))
        ax.set_title(network, fontsize="medium")
        ax.grid(alpha=0.3)
        ax.tick_params(labelbottom=True)
    for ax in axes[len(networks) :]:
        ax.axis("off")
    fig.supxlabel("time of the search (s)", fontsize="medium")
    fig.supylabel("known fixed points found (%)", fontsize="medium")
    handles = {
        label: handle
        for ax in axes
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)
    }
    handles["time extrapolated"] = Line2D([], [], marker="$≈$", ls="", color="black", ms=7)
    legend = axes[-1].legend(handles.values(), handles.keys(), loc="center", fontsize=8)
    for handle in legend.legend_handles:
        if handle.get_markersize() == _SMALL:
            handle.set(markersize=_LARGE)
    return fig


def _sizes(rows: list[dict[str, Any]]) -> list[float]:
    """Return how large the marks of a network are: small where they would cover another."""
    sizes: list[float] = [_LARGE] * len(rows)
    order = sorted(range(len(rows)), key=lambda k: rows[k]["seconds"])
    for first, second in itertools.combinations(order, 2):
        percents = [100 * rows[k]["found"] / rows[k]["known"] for k in (first, second)]
        is_close = rows[second]["seconds"] < _COVERED * rows[first]["seconds"]
        if is_close and abs(percents[0] - percents[1]) < _APART:
            sizes[second] = _SMALL
    return sizes


def _curve(row: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return median times and percentages of the searches from each number of states.

    Where these were not kept, there is only the last search, which finds all.
    """
    by_count: dict[int, list[tuple[float, float]]] = {}
    for run in row["runs"]:
        for n, found, seconds in run["recall"]:
            by_count.setdefault(n, []).append((seconds, 100 * found / row["known"]))
    if not by_count:
        return [row["seconds"]], [100.0]
    medians = [[statistics.median(v) for v in zip(*p, strict=True)] for p in by_count.values()]
    return [m[0] for m in medians], [m[1] for m in medians]


# ---- time and memory -----------------------------------------------------------------------------


def _size(results: dict[str, Any]) -> Figure:
    result = results["size"]["result"]
    rows = result["rows"]
    sizes = [row["n_units"] for row in rows]
    times = [1e3 * row["seconds_per_row"] for row in rows]
    baseline = result["baseline_memory"] / 1e6
    return _time_and_memory(
        sizes,
        times,
        [row["peak_memory"] / 1e6 for row in rows],
        "units",
        "time per initial state (ms)",
        baseline,
    )


def _inits(results: dict[str, Any]) -> Figure:
    rows = results["inits"]["result"]["rows"]
    counts = [row["n_inits"] for row in rows]
    memory = [row["peak_memory"] / 1e6 for row in rows]
    times = [row["seconds"] for row in rows]
    return _time_and_memory(counts, times, memory, "initial states", "time (s)", None)


def _time_and_memory(
    x: list[int],
    times: list[float],
    memory: list[float],
    xlabel: str,
    ylabel: str,
    baseline: float | None,
) -> Figure:
    """Draw the measurements, joined by thin lines: times on a logarithmic axis, memory from 0."""
    fig = Figure(figsize=(6.2, 2.8), layout="constrained")
    left, right = fig.subplots(1, 2)
    for ax, values, label in (
        (left, times, ylabel),
        (right, memory, "peak memory of the process (MB)"),
    ):
        ax.plot(x, values, _OURS[0] + "-", color=_OURS[1], lw=0.8, ms=6, label="measured")
        ax.set(xscale="log", xlabel=xlabel, ylabel=label)
        ax.set_xticks(x, [f"{value:,}" for value in x], rotation=40 if max(x) > 1000 else 0)
        ax.minorticks_off()
        ax.grid(alpha=0.3)
    left.set_yscale("log")
    left.yaxis.set_major_formatter("{x:g}")
    right.set_ylim(0, 1.1 * max(*memory, baseline or 0))
    if baseline is not None:
        right.axhline(baseline, ls=":", color="0.4", label="with 16 units")
        right.legend(loc="lower right", fontsize=8)
    return fig


_FIGURES = {
    "front": (("compare", "field"), _front),
    "compare": (("compare",), _recall),
    "field": (("field",), _field),
    "size": (("size",), _size),
    "inits": (("inits",), _inits),
}
"""For each figure, the experiments that it needs, and the function that draws it."""
