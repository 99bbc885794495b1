"""The panels of `plot_context_integration`."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._drawing.coloring import MOST_LABELS, Scale, coloring_of
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import (
    draw_points,
    draw_trajectories,
    finish,
    new_figure,
    scale_of_marks,
    style,
)
from slowpoints._drawing.layout import color_bar_beside, draw_names_below, named_in_panels
from slowpoints._drawing.marks import groups_of
from slowpoints._modes.line_attractor import LineAttractor
from slowpoints._modes.linear_modes import linear_modes
from slowpoints._plots.along_the_line import rows_of
from slowpoints._points.fixed_points import FixedPoints

_ARROW = 0.7
"""The length of an arrow of norm 1 in the plane, in inches for text of 10 points."""

_LEAST_TRIALS = 20
"""Averages are of so many trials or more: of fewer, they show noise."""

_PARTS = 8
"""Evidence of many values is divided into so many parts, of about as many trials."""

_MOST_SETTLED = 300
"""So many single states show where trials end; more would hide the line."""

_LINE, _SELECTION, _INPUT = "black", "#00573F", "#C2428B"
_KINDS = ("#C2428B", "#0072B2", "#E69F00", "#56B4E9")
"""Colours of the effects of several kinds of evidence."""


@dataclass(frozen=True)
class Trials:
    """What each trial was.

    Attributes:
        context: `[trials]` its context, a name.
        evidence: by name, `[trials]`.
        choice: `[trials]`.
    """

    context: Any
    evidence: dict[str, Any]
    choice: Any


def draw_contexts(
    states: Float[np.ndarray, "trials time n_states"],
    settled: Float[np.ndarray, "trials n_states"],
    trials: Trials,
    points: dict[Any, FixedPoints],
    lines: dict[Any, LineAttractor],
    axes: dict[str, Any],
    pulses: dict[str, Any],
    config: PlotConfig,
) -> Any:
    """Draw a panel for each context and each kind of evidence, and what lines read below them."""
    from matplotlib.cbook import normalize_kwargs
    from matplotlib.lines import Line2D

    given = normalize_kwargs(config.to_matplotlib_kwargs(), Line2D)  # "lw" is "linewidth"
    bare = replace(config, kwargs={"linewidth": 1.0, "alpha": 1.0} | given)
    with style(config):
        fig: Any = new_figure(config)
        heights = [1.0] * len(pulses) + [0.6]
        grid = fig.subplots(
            len(heights),
            len(lines),
            sharex=True,
            sharey="row",
            squeeze=False,
            height_ratios=heights,
        )
        for row, (kind, pulse) in zip(grid[:-1], pulses.items(), strict=True):
            plane, scale = np.stack([axes["choice"], axes[kind]], axis=1), None
            for ax, (name, line) in zip(row, lines.items(), strict=True):
                own = trials.context == str(name)
                scale = _draw_averages(ax, states[own] @ plane, trials, own, kind, bare)
                _draw_settled(ax, settled[own] @ plane)
                _draw_line(ax, line, plane)
                if points[name].n:
                    there = points[name].xstar.astype(np.float64) @ plane
                    draw_points(ax, there, groups_of(points[name]))
                _draw_vectors(ax, line, plane, pulse, kind)
            row[0].set_ylabel(config.ylabel or f"{kind} axis")
            if config.show_legend and scale is not None:
                color_bar_beside(fig, row.tolist(), scale)
        for k, (ax, (name, line)) in enumerate(zip(grid[-1], lines.items(), strict=True)):
            grid[0][k].set_title(f"{name} context")
            _draw_what_is_read(ax, line, axes["choice"], pulses)
            ax.set_xlabel(config.xlabel or "choice axis")
        grid[-1][0].set_ylabel("moved along the line\nper unit of a small pulse")
        for ax in grid.ravel():
            ax.spines[["top", "right"]].set_visible(False)
        if config.title:
            fig.suptitle(config.title)
        if config.show_legend:
            is_negative = any((values < 0).any() for values in trials.evidence.values())
            draw_names_below(fig, _named(grid, is_negative and "linestyle" not in given))
        finish(fig, config)
    return fig


def _draw_averages(
    ax: Any,
    there: Float[np.ndarray, "trials time 2"],
    trials: Trials,
    own: Any,
    kind: str,
    config: PlotConfig,
) -> Scale | None:
    """Draw average trajectories by evidence and choice, and return the scale of their colours."""
    values = trials.evidence[kind]
    levels = np.unique(values)
    if len(levels) > MOST_LABELS:
        edges = np.quantile(values, np.linspace(0, 1, _PARTS + 1))
        place = np.clip(np.searchsorted(edges, values, "right") - 1, 0, _PARTS - 1)
        parts = [place == k for k in range(_PARTS)]
        values = np.select(parts, [values[part].mean() if part.any() else 0.0 for part in parts])
        levels = np.unique(values)
    means, shown = [], []
    for level in levels:
        for choice in np.unique(trials.choice):
            rows = (values[own] == level) & (trials.choice[own] == choice)
            if rows.sum() >= _LEAST_TRIALS:
                means.append(there[rows].mean(axis=0))
                shown.append(level)
    end = float(np.abs(values).max()) or 1.0
    norm = (0.0 if values.min() >= 0 else -end, end) if config.norm is None else config.norm
    looks = replace(config, norm=norm, clabel=kind)
    paths = np.array(means).reshape(len(shown), *there.shape[1:])
    strength, scale = np.array(shown, float), None
    # A scale with two ends is the same in grey at both.
    for part, line in ((strength >= 0, "-"), (strength < 0, (0, (4, 1.5)))):
        if not part.any():
            continue
        every = np.arange(part.sum())
        coloring = coloring_of(
            "plot_context_integration",
            strength[part],
            None,
            (len(every), paths.shape[1]),
            every,
            0,
            every[:0],
            0,
            None,
            looks,
        )
        dashes = replace(looks, kwargs={"linestyle": line} | (looks.kwargs or {}))
        draw_trajectories(ax, paths[part], coloring, dashes)
        scale = coloring.scale or scale
    return scale


def _draw_settled(ax: Any, there: Float[np.ndarray, "trials 2"]) -> None:
    """Draw single states that are held, on which averages need not be."""
    there = there[np.isfinite(there).all(axis=1)]
    some = np.linspace(0, len(there) - 1, min(len(there), _MOST_SETTLED)).round().astype(int)
    look: dict[str, Any] = {"linestyle": "none", "marker": ".", "color": "0.7", "zorder": 2.1}
    ax.plot(*there[some].T, markersize=2.0 * scale_of_marks(), label="ends of trials", **look)


def _draw_line(ax: Any, line: LineAttractor, plane: Float[np.ndarray, "d 2"]) -> None:
    curve, scale = (line.curve @ plane)[rows_of(line)], scale_of_marks()
    if line.is_closed:
        curve = np.concatenate([curve, curve[:1]])
    look: dict[str, Any] = {"color": _LINE, "linewidth": 1.5 * scale, "zorder": 2}
    ax.plot(*curve.T, marker=".", markersize=4 * scale, label="slow points", **look)


def _units(line: LineAttractor, pulse: Any) -> Float[np.ndarray, "2 n d"]:
    """Return the selection vectors and the effects of a pulse along a line, of norm 1."""
    effect = line.points.dFdu @ pulse
    both = np.stack([line.selection, np.broadcast_to(effect, line.selection.shape)])
    with np.errstate(invalid="ignore"):
        return both / np.linalg.norm(both, axis=2, keepdims=True)


def _draw_vectors(
    ax: Any, line: LineAttractor, plane: Float[np.ndarray, "d 2"], pulse: Any, kind: str
) -> None:
    """Draw the selection vector and the effect of a pulse at the middle of a line."""
    unit, middle, scale = _units(line, pulse), line.points.n // 2, scale_of_marks()
    start = line.curve[middle] @ plane
    isometric = plane / np.linalg.norm(plane, axis=0)
    # One wide and one narrow: where a context reads evidence, they may lie on each other.
    looks = ((_SELECTION, 0.035, "selection vector"), (_INPUT, 0.014, "effect of evidence"))
    for vector, (color, width, name) in zip(unit[:, middle], looks, strict=True):
        if np.isfinite(vector).all():
            look: dict[str, Any] = {"angles": "uv", "scale_units": "inches", "zorder": 4}
            look |= {"scale": 1 / (_ARROW * scale), "units": "inches", "width": width * scale}
            look |= {"headwidth": 2.5, "headlength": 2.5, "headaxislength": 2.2}  # a shaft is left
            ax.quiver(*start, *(vector @ isometric), color=color, **look)
            ax.plot([], [], color=color, linewidth=72 * width * scale, label=name)
    known = linear_modes(line.points).is_real & np.isfinite(unit).all(axis=(0, 2))
    if known.any():
        cosine = np.clip(np.sum(unit[0] * unit[1], axis=1)[known], -1, 1)
        angle = f"{np.degrees(np.median(np.arccos(cosine))):.0f}°"
        place = {"xy": (0.98, 1.0), "xycoords": "axes fraction", "ha": "right", "va": "top"}
        ax.annotate(f"selection and {kind}: {angle}", fontsize="small", **place)


def _draw_what_is_read(
    ax: Any, line: LineAttractor, choice: Float[np.ndarray, " d"], pulses: dict[str, Any]
) -> None:
    """Draw how far a pulse of each kind of evidence moves the state along a line."""
    scale, on = scale_of_marks(), rows_of(line)
    ax.axhline(0, color="0.6", linewidth=0.8 * scale, zorder=1)
    for k, (kind, pulse) in enumerate(pulses.items()):
        effect = np.broadcast_to(line.points.dFdu @ pulse, line.selection.shape)
        read = np.einsum("nd,nd->n", line.selection, effect)
        look: dict[str, Any] = {"color": _KINDS[k % len(_KINDS)], "linewidth": 1.5 * scale}
        look["linestyle"] = ("-", (0, (4, 1.5)), (0, (1, 1)))[k % 3]
        ax.plot((line.curve @ choice)[on], read[on], label=f"pulse of {kind}", **look)


def _named(grid: Any, are_dashed: bool) -> dict[str, Any]:
    """Return the lines and marks of all panels by name."""
    found = named_in_panels(grid.ravel())
    words = "averages (dashed: negative)" if are_dashed else "averages"
    return {words if name == "trajectories" else name: each for name, each in found.items()}
