"""`plot_context_integration`: what a network reads in each context, and where it adds it up."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from slowpoints._classical.context_panels import Trials, draw_contexts
from slowpoints._classical.searched import (
    N_ON_LINES,
    checked_input,
    for_paper,
    given_points,
    line_through,
    points_near,
    searched,
    visited,
    warn_if_not_visited_under,
)
from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._modes.line_attractor import LineAttractor
from slowpoints._plots.task_axes import task_axes
from slowpoints._points.fixed_points import FixedPoints

_CALLER = "plot_context_integration"


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
    random_seed: int = 0,
    points: Any = None,
    lines: Any = None,
) -> tuple[Any, dict[Any, FixedPoints], dict[Any, LineAttractor]]:
    """Draw how a network adds up one of several inputs, and which one it reads in each context.

    The figure of Mante et al. (2013, fig. 5 and 6): a column for each context and a row for each
    kind of evidence, in the plane of the axis of choice and that of this evidence. Each panel has

    - the average trajectories by evidence and choice, coloured by the evidence and dashed where it
      is negative; of evidence with more than 12 values, in 8 parts. Averages of fewer than 20
      trials are left out. Where a line bends, an average of states on it is beside it;
    - the last state of each trial that is held, up to 300;
    - the line of slow points on which the network holds what it has added up under the input of
      this context, and the fixed points near it;
    - at the middle of the line, the selection vector, which the line reads, and the effect of a
      pulse of the evidence. Both are of norm 1 before they are projected on the two axes, at the
      same scale for both: of one that is short, most is outside the plane. Their angle in the space
      of all states, the median along the line, is written in the panel: at 90 degrees the evidence
      is not read.

    The panels below show the product of the two all along the line: how far a small pulse moves the
    state along it, per unit of the pulse. A pulse that is not small leaves the place whose modes
    these are, and may move the state by much less or more. Arrows do not say whether it is the
    selection vector that turns from context to context, or the effect of the evidence that changes,
    in length too: the guide divides the product among them (Pagan et al. 2025).

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
        held: `[trials, time]`, or `[time]` for all trials, where the network holds a sum, without
            evidence; by default the last fifth of each trial.
        evidence_inputs: by name, which input a kind of evidence is, or its direction `[n_inputs]`;
            by default the first inputs in their order.
        axes: by name, `[n_states]`, `"choice"` and the kinds of evidence, such as those of
            [`task_axes`][slowpoints.task_axes]. By default, the axis of choice is that of
            `task_axes`, and the axis of a kind of evidence is the effect of a pulse of it, at the
            middle of the lines, made orthogonal to that of choice: by regression, evidence that
            becomes a choice is hardly told from this.
        q_max: the speed `q`, half of the squared length of a step, below which a state counts as
            slow; by default 4 times the median `q` of the states that are held.
        random_seed: of the states that fixed points are searched from.
        points: the fixed points of each context that an earlier call returned, if they are not to
            be searched for again.
        lines: the line of each context that an earlier call returned, likewise.

    Returns:
        The figure, and by context, its fixed points and its line.

    Raises:
        TypeError: if an argument is of the wrong kind.
        ValueError: if an array has the wrong shape or is not finite, if a context or a kind of
            evidence is missing, or a context has no slow points.

    Warns:
        UserWarning: if a step under the input of a context ends farther from the state that follows
            a state that is held, in the median, than twice what states move in a step. Where the
            evidence is noise, that is as if it were not there.
    """
    arguments.instance(_CALLER, "inputs", inputs, Mapping, "a dict of contexts and inputs")
    cues = {name: checked_input(_CALLER, f"inputs[{name!r}]", cue) for name, cue in inputs.items()}
    n_inputs = {len(cue) for cue in cues.values()}
    if len(n_inputs) != 1:
        was, expected = f"has {len(cues)} inputs of lengths {sorted(n_inputs)}", "one length"
        arguments.refuse(_CALLER, "inputs", was, expected, ValueError)
    seed = arguments.whole(_CALLER, "random_seed", random_seed, least=0)
    q_max = None if q_max is None else float(arguments.positive(_CALLER, "q_max", q_max))
    arguments.instance(_CALLER, "evidence", evidence, Mapping, "a dict of names and values")
    n_rows = max(len(evidence), 1)
    config = for_paper(_CALLER, config, 7.09, 2.6 + 2.6 * n_rows)
    config = replace(config, cmap="coolwarm") if config.cmap is None else config
    where = visited(_CALLER, model, state_traj, n_inputs.pop())
    n_trials, n_time, _ = where.states.shape
    trials = _checked_trials(n_trials, [str(name) for name in cues], context, evidence, choice)
    pulses = _checked_pulses(evidence_inputs, list(evidence), len(next(iter(cues.values()))))
    points, lines = _checked_results(points, lines, cues, where.states.shape[2])
    is_held = _checked_held(held, n_trials, n_time)
    own = task_axes(where.states, {"choice": trials.choice}) if axes is None else axes
    names = ["choice"] if axes is None else ["choice", *trials.evidence]
    seen = _checked_axes(own, names, where.states.shape[2])
    for name, cue in cues.items():
        rows = trials.context == str(name)
        states = where.states[rows][is_held[rows]]
        if not len(states):
            was = f"has no held state in the context {name!r}"
            arguments.refuse(_CALLER, "held", was, "some in each context", ValueError)
        if name not in lines:
            lines[name] = line_through(where, states, cue, seen["choice"], q_max)
        own_states = where._replace(states=where.states[rows])
        warn_if_not_visited_under(_CALLER, own_states, cue, is_held[rows])
        if name not in points:
            points[name] = searched(own_states, cue, seed, N_ON_LINES)
    if axes is None:
        for name, pulse in pulses.items():
            seen[name] = _effect_beside(lines, pulse, seen["choice"])
    near = {name: points_near(points[name], line) for name, line in lines.items()}
    settled = _last(where.states, is_held)
    fig = draw_contexts(where.states, settled, trials, near, lines, seen, pulses, config)
    return fig, points, lines


def _last(
    states: Float[np.ndarray, "trials time d"], is_held: Bool[np.ndarray, "trials time"]
) -> Float[np.ndarray, "trials d"]:
    """Return the last state of each trial that is held, NaN if there is none."""
    last = is_held.shape[1] - 1 - np.argmax(is_held[:, ::-1], axis=1)
    found = states[np.arange(len(states)), last]
    return np.where(np.any(is_held, axis=1, keepdims=True), found, np.nan)


def _checked_trials(
    n_trials: int, contexts: list[str], context: Any, evidence: Mapping[str, Any], choice: Any
) -> Trials:
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
    return Trials(named, values, chosen.astype(np.float64))


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


def _checked_held(held: Any, n_trials: int, n_time: int) -> Bool[np.ndarray, "trials time"]:
    """Return where the network holds a sum."""
    if held is None:
        held = np.arange(n_time) >= n_time - max(1, n_time // 5)
    if np.shape(held) == (n_time,):
        held = np.broadcast_to(np.asarray(held), (n_trials, n_time))
    return np.asarray(arguments.mask(_CALLER, "held", held, (n_trials, n_time)))


def _checked_results(
    points: Any, lines: Any, cues: Mapping[Any, Any], n_states: int
) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Return what is not to be computed again."""
    checked = []
    for argument, given in (("points", points), ("lines", lines)):
        given = {} if given is None else given
        arguments.instance(_CALLER, argument, given, Mapping, "a dict by context, or None")
        own = {name: given[name] for name in cues if name in given}
        if given and len(own) < len(cues):
            was = f"has no {next(repr(name) for name in cues if name not in given)}"
            arguments.refuse(_CALLER, argument, was, "each context", ValueError)
        for name, each in own.items():
            which, is_line = f"{argument}[{name!r}]", argument == "lines"
            given_points(_CALLER, which, each, n_states, line=is_line)
        checked.append(own)
    return checked[0], checked[1]


def _effect_beside(
    lines: dict[Any, LineAttractor], pulse: Any, choice: Float[np.ndarray, " d"]
) -> Float[np.ndarray, " d"]:
    """Return the direction of the effect of a pulse at the middle of lines, beside a choice's."""
    effects = [line.points.dFdu[line.points.n // 2] @ pulse for line in lines.values()]
    effect = np.mean(effects, axis=0, dtype=np.float64)
    unit = choice / np.linalg.norm(choice)
    effect = effect - (effect @ unit) * unit
    return effect / max(float(np.linalg.norm(effect)), np.finfo(np.float64).tiny)
