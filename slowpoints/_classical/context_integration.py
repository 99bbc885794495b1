"""`plot_context_integration`: what a network reads in each context, and where it adds it up."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float

from slowpoints._classical.searched import checked_input, for_paper, line_through, visited
from slowpoints._core import arguments
from slowpoints._drawing.coloring import MOST_LABELS, Scale, coloring_of
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.drawing import (
    draw_trajectories,
    finish,
    new_figure,
    scale_of_marks,
    style,
)
from slowpoints._drawing.layout import color_bar_beside, draw_names_below
from slowpoints._modes.line_attractor import LineAttractor
from slowpoints._modes.linear_modes import linear_modes
from slowpoints._plots.task_axes import task_axes

_CALLER = "plot_context_integration"

_ARROW = 0.3
"""The length of an arrow, as a part of the extent of what is drawn."""

_LINE, _SELECTION, _INPUT = "black", "#00573F", "#C2428B"


@dataclass(frozen=True)
class _Trials:
    """What each trial was.

    Attributes:
        context: `[trials]` its context, a name.
        evidence: by name, `[trials]`.
        choice: `[trials]`.
    """

    context: Any
    evidence: dict[str, Any]
    choice: Any


def plot_context_integration(
    model: Any,
    state_traj: Any,
    inputs: Mapping[Any, Any],
    config: PlotConfig | None = None,
    *,
    context: Any,
    evidence: Mapping[str, Any],
    choice: Any,
    held: Any = None,
    evidence_inputs: Mapping[str, Any] | None = None,
    axes: Mapping[str, Any] | None = None,
    q_max: Any = None,
) -> tuple[Any, dict[Any, LineAttractor]]:
    """Draw how a network adds up one of several inputs, and which one it reads in each context.

    The figure of Mante et al. (2013, fig. 5 and 6): a column for each context and a row for each
    kind of evidence, in the plane of the axis of choice and that of this evidence. Each panel has
    the average trajectories by evidence, coloured by it; the line of slow points on which the
    network holds what it has added up under the input of this context; and at the middle of the
    line, the selection vector, which the line reads, and the effect of a pulse of the evidence.
    Their angle in the space of all states, the median along the line, is written in the panel: at
    90 degrees the evidence is not read.

    Args:
        model: the network: anything that [`as_transition`][slowpoints.as_transition] takes. Pulses
            are those of its inputs, such as before an encoder.
        state_traj: `[trials, time, n_states]` states of all trials, such as
            [`simulate`][slowpoints.simulate] returns, or a pair or layers of them.
        inputs: by the name of each context, `[n_inputs]` the input there without evidence.
        config: the looks; `None` for a figure of 180 mm in width with text of 8 points, which is
            shown. Its `cmap` is `"coolwarm"` then.
        context: `[trials]` the context of each trial, as `inputs` names it.
        evidence: by name, `[trials]` the strength of the evidence, such as `{"motion": coherence,
            "colour": coherence}`.
        choice: `[trials]` the choice, such as -1 or 1.
        held: `[trials, time]` where the network holds a sum, without evidence; by default the last
            fifth of each trial.
        evidence_inputs: by name, which input a kind of evidence is, or its direction `[n_inputs]`;
            by default the first inputs in their order.
        axes: by name, `[n_states]`, `"choice"` and the kinds of evidence, such as those of
            [`task_axes`][slowpoints.task_axes]. By default, the axis of choice is that of
            `task_axes`, and the axis of a kind of evidence is the effect of a pulse of it, at the
            middle of the lines, made orthogonal to that of choice: by regression, evidence that
            becomes a choice is hardly told from this.
        q_max: the speed below which a state counts as slow; by default the median of the states
            that are held.

    Returns:
        The figure, and the line of each context.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an array has the wrong shape or is not finite, if a context or a kind of
            evidence is missing, or a context has no slow points.
    """
    arguments.instance(_CALLER, "inputs", inputs, Mapping, "a dict of contexts and inputs")
    cues = {name: checked_input(_CALLER, f"inputs[{name!r}]", cue) for name, cue in inputs.items()}
    n_inputs = {len(cue) for cue in cues.values()}
    if len(n_inputs) != 1:
        was, expected = f"has {len(cues)} inputs of lengths {sorted(n_inputs)}", "one length"
        arguments.refuse(_CALLER, "inputs", was, expected, ValueError)
    q_max = None if q_max is None else float(arguments.positive(_CALLER, "q_max", q_max))
    arguments.instance(_CALLER, "evidence", evidence, Mapping, "a dict of names and values")
    n_rows = max(len(evidence), 1)
    config = for_paper(_CALLER, config, 7.09, 0.8 + 2.6 * n_rows)
    config = replace(config, cmap="coolwarm") if config.cmap is None else config
    where = visited(_CALLER, model, state_traj, n_inputs.pop())
    n_trials, n_time, _ = where.states.shape
    trials = _checked_trials(n_trials, [str(name) for name in cues], context, evidence, choice)
    pulses = _checked_pulses(evidence_inputs, list(evidence), len(next(iter(cues.values()))))
    is_held = np.zeros((n_trials, n_time), bool)
    is_held[:, -max(1, n_time // 5) :] = True
    if held is not None:
        is_held = np.asarray(arguments.mask(_CALLER, "held", held, (n_trials, n_time)))
    own = task_axes(where.states, {"choice": trials.choice}) if axes is None else axes
    names = ["choice"] if axes is None else ["choice", *trials.evidence]
    seen = _checked_axes(own, names, where.states.shape[2])
    lines = {}
    for name, cue in cues.items():
        rows = trials.context == str(name)
        states = where.states[rows][is_held[rows]]
        if not len(states):
            was = f"has no held state in the context {name!r}"
            arguments.refuse(_CALLER, "held", was, "some in each context", ValueError)
        lines[name] = line_through(where, states, cue, seen["choice"], q_max)
    if axes is None:
        for name, pulse in pulses.items():
            seen[name] = _effect_beside(lines, pulse, seen["choice"])
    return _figure(where.states, trials, lines, seen, pulses, config), lines


def _checked_trials(
    n_trials: int, contexts: list[str], context: Any, evidence: Mapping[str, Any], choice: Any
) -> _Trials:
    """Check what each trial was."""
    given = np.asarray(context)
    if given.shape != (n_trials,):
        was = f"has shape {given.shape}" if given.ndim else arguments.found(context)
        expected = f"a context for each trial, ({n_trials},)"
        arguments.refuse(_CALLER, "context", was, expected, ValueError)
    missing = sorted({str(name) for name in given.tolist()} - set(contexts))
    if missing:
        was = f"has {missing[0]!r}, which `inputs` does not have"
        arguments.refuse(_CALLER, "context", was, f"one of {', '.join(contexts)}", ValueError)
    named = np.array([str(name) for name in given.tolist()])
    values = {
        name: np.asarray(
            arguments.array(_CALLER, f"evidence[{name!r}]", each, (n_trials,), finite=True)
        ).astype(np.float64)
        for name, each in evidence.items()
    }
    if not values:
        arguments.refuse(_CALLER, "evidence", "is empty", "one kind or more", ValueError)
    chosen = np.asarray(arguments.array(_CALLER, "choice", choice, (n_trials,), finite=True))
    if np.unique(chosen).size < 2:
        was = f"holds {chosen[0]} in all trials"
        arguments.refuse(_CALLER, "choice", was, "two choices or more", ValueError)
    return _Trials(named, values, chosen.astype(np.float64))


def _checked_pulses(
    given: Mapping[str, Any] | None, names: list[str], n_inputs: int
) -> dict[str, Float[np.ndarray, " n_inputs"]]:
    """Return the direction of the inputs that each kind of evidence is."""
    given = dict(zip(names, range(n_inputs), strict=False)) if given is None else given
    expected = "a dict of names and inputs"
    arguments.instance(_CALLER, "evidence_inputs", given, Mapping, expected)
    found = {}
    for name in names:
        if name not in given:
            was = f"has no {name!r}"
            arguments.refuse(_CALLER, "evidence_inputs", was, "each kind of evidence", ValueError)
        if np.ndim(given[name]) == 0:
            which = f"evidence_inputs[{name!r}]"
            k = arguments.whole(_CALLER, which, given[name], least=0, most=n_inputs - 1)
            found[name] = np.eye(n_inputs)[k]
        else:
            axes = (n_inputs,)
            which = f"evidence_inputs[{name!r}]"
            pulse = arguments.array(_CALLER, which, given[name], axes, finite=True)
            found[name] = np.asarray(pulse, np.float64)
    return found


def _checked_axes(
    axes: Mapping[str, Any], names: list[str], n_states: int
) -> dict[str, Float[np.ndarray, " n_states"]]:
    found = {}
    arguments.instance(_CALLER, "axes", axes, Mapping, "a dict of names and directions")
    for name in names:
        if name not in axes:
            was = f"has no {name!r}"
            arguments.refuse(_CALLER, "axes", was, f"{', '.join(names)}", ValueError)
        axis = arguments.array(_CALLER, f"axes[{name!r}]", axes[name], (n_states,), finite=True)
        found[name] = np.asarray(axis, np.float64)
    return found


def _effect_beside(
    lines: dict[Any, LineAttractor], pulse: Any, choice: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"]:
    """Return the direction of the effect of a pulse at the middle of lines, beside a choice's."""
    effects = [line.points.dFdu[line.points.n // 2] @ pulse for line in lines.values()]
    effect = np.mean(effects, axis=0, dtype=np.float64)
    unit = choice / np.linalg.norm(choice)
    effect = effect - (effect @ unit) * unit
    return effect / max(float(np.linalg.norm(effect)), np.finfo(np.float64).tiny)


def _figure(
    states: Float[np.ndarray, "trials time n_states"],
    trials: _Trials,
    lines: dict[Any, LineAttractor],
    axes: dict[str, Any],
    pulses: dict[str, Any],
    config: PlotConfig,
) -> Any:
    """Draw a panel for each context and each kind of evidence."""
    bare = replace(config, kwargs={"linewidth": 1.2, "alpha": 1.0} | (config.kwargs or {}))
    with style(config):
        fig: Any = new_figure(config)
        grid = fig.subplots(len(pulses), len(lines), sharex=True, sharey="row", squeeze=False)
        for row, (kind, pulse) in zip(grid, pulses.items(), strict=True):
            plane = np.stack([axes["choice"], axes[kind]], axis=1)
            scale = None
            for ax, (name, line) in zip(row, lines.items(), strict=True):
                own = trials.context == str(name)
                scale = _draw_averages(ax, states[own] @ plane, trials, own, kind, bare)
                _draw_line(ax, line, plane)
                ax.spines[["top", "right"]].set_visible(False)
            corners = np.concatenate([ax.dataLim.get_points() for ax in row])
            extent = np.maximum(np.ptp(corners, axis=0), np.finfo(np.float64).tiny)
            for ax, line in zip(row, lines.values(), strict=True):
                _draw_vectors(ax, line, plane, extent, pulse, kind)
            row[0].set_ylabel(config.ylabel or f"{kind} axis")
            if config.show_legend and scale is not None:
                color_bar_beside(fig, row.tolist(), scale)
        for ax, name in zip(grid[0], lines, strict=True):
            ax.set_title(f"{name} context")
        for ax in grid[-1]:
            ax.set_xlabel(config.xlabel or "choice axis")
        if config.title:
            fig.suptitle(config.title)
        if config.show_legend:
            draw_names_below(fig, _named(grid))
        finish(fig, config)
    return fig


def _draw_averages(
    ax: Any,
    there: Float[np.ndarray, "trials time 2"],
    trials: _Trials,
    own: Any,
    kind: str,
    config: PlotConfig,
) -> Scale | None:
    """Draw the average trajectory of each strength of evidence, and return the scale of colours."""
    values = trials.evidence[kind]
    levels = np.unique(values)
    if len(levels) > MOST_LABELS:  # continuous evidence, in as many equal parts
        edges = np.quantile(values, np.linspace(0, 1, 9))
        place = np.clip(np.searchsorted(edges, values, "right") - 1, 0, 7)
        levels = np.array([values[place == k].mean() for k in range(8) if (place == k).any()])
        values = levels[np.minimum(place, len(levels) - 1)]
    shown = [level for level in levels if np.any(values[own] == level)]
    means = np.stack([there[values[own] == level].mean(axis=0) for level in shown])
    ends = np.abs(trials.evidence[kind]).max() * np.array([-1, 1])
    low = 0.0 if trials.evidence[kind].min() >= 0 else ends[0]
    norm = (low, ends[1] or 1.0) if config.norm is None else config.norm
    looks = replace(config, norm=norm, clabel=kind)
    every = np.arange(len(shown))
    coloring = coloring_of(
        _CALLER, np.array(shown), None, means.shape[:2], every, 0, every[:0], 0, None, looks
    )
    draw_trajectories(ax, means, coloring, looks)
    return coloring.scale


def _draw_line(ax: Any, line: LineAttractor, plane: Float[np.ndarray, "d 2"]) -> None:
    on = line.is_on_curve if line.is_on_curve.any() else np.ones(line.points.n, bool)
    curve, scale = (line.curve @ plane)[on], scale_of_marks()
    if line.is_closed:
        curve = np.concatenate([curve, curve[:1]])
    look: dict[str, Any] = {"color": _LINE, "linewidth": 1.5 * scale, "zorder": 2}
    ax.plot(*curve.T, marker=".", markersize=4 * scale, label="slow points", **look)


def _draw_vectors(
    ax: Any,
    line: LineAttractor,
    plane: Float[np.ndarray, "d 2"],
    extent: Float[np.ndarray, " 2"],
    pulse: Any,
    kind: str,
) -> None:
    """Draw the selection vector and the effect of a pulse at the middle of a line.

    They have their directions in the plane, and one length on the page: axes of choice and of
    evidence differ by far in what they range over.
    """
    modes, effect = linear_modes(line.points), line.points.dFdu @ pulse
    middle = line.points.n // 2
    # An input's effect has a direction and a sign, and so has the selection vector, by `toward`.
    both = np.stack([line.selection, np.broadcast_to(effect, line.selection.shape)])
    unit = both / np.linalg.norm(both, axis=2, keepdims=True)
    start = line.curve[middle] @ plane
    # One wide and one narrow: where a context reads evidence, they lie on each other.
    looks = ((_SELECTION, 3.0, "selection vector"), (_INPUT, 1.2, "effect of evidence"))
    for vector, (color, wide, name) in zip(unit[:, middle], looks, strict=True):
        if not np.isfinite(vector).all():
            continue
        way = vector @ plane
        length = np.linalg.norm(way / extent)
        if length == 0:
            continue
        look = {"arrowstyle": "-|>", "color": color, "linewidth": wide * scale_of_marks()}
        look |= {"shrinkA": 0, "shrinkB": 0, "mutation_scale": (7 + 2 * wide) * scale_of_marks()}
        tip = start + _ARROW / length * way
        ax.annotate("", tip, start, arrowprops=look, annotation_clip=False, zorder=4)
        ax.plot([], [], color=color, linewidth=wide * scale_of_marks(), label=name)
    known = modes.is_real & np.isfinite(unit).all(axis=(0, 2))
    if known.any():
        cosine = np.clip(np.sum(unit[0] * unit[1], axis=1)[known], -1, 1)
        angle = f"{np.degrees(np.median(np.arccos(cosine))):.0f}°"
        place = {"xy": (0.98, 1.0), "xycoords": "axes fraction", "ha": "right", "va": "top"}
        ax.annotate(f"selection and {kind}: {angle}", fontsize="small", **place)


def _named(grid: Any) -> dict[str, Any]:
    """Return the lines of all panels by name, without how many there are."""
    found: dict[str, Any] = {}
    for ax in grid.ravel():
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault("averages" if "traject" in label else label, handle)
    return found
