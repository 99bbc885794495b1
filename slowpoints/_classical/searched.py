"""What the figures of classical results share: a network, its states, and searches from these."""

import warnings
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from slowpoints._core import arguments
from slowpoints._drawing.config import PlotConfig
from slowpoints._drawing.scene import states_of
from slowpoints._finder.fixed_point_finder import FixedPointFinder
from slowpoints._modes.line_attractor import LineAttractor, line_attractor
from slowpoints._modes.slow_manifold import slow_manifold
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import q_fn
from slowpoints._network.trace import traced
from slowpoints._points.fixed_points import FixedPoints

N_STARTS = 1024
"""So many states are searched from at once: enough for the 27 points of three bits."""

N_ON_LINES = 256
"""From so many states, points on lines are searched for, of which there are few."""

COVERAGE = 0.99
"""The search goes on until further starts would find nothing new with this probability."""

NOISE = 0.5
"""Starts are displaced by this part of the spread of the states: saddles are between these."""

_FASTER = 2.0
"""A line is sought among states that move up to this many times as far in a step as half of those
that are held. Where it drifts the fastest, it is left out with less, and with the fastest of those
that are held, states count that have not come to it."""

_LEAST_Q, _MOST_Q = 1e-7, 1e-2
"""The speed `q` that is taken for it is within these bounds."""


class Visited(NamedTuple):
    """A network, and states that it visits, as vectors."""

    F: Transition
    states: Float[np.ndarray, "trials time n_states"]


def visited(caller: str, model: Any, state_traj: Any, n_inputs: int) -> Visited:
    """Check a model and its states, and return them as the searches take them."""
    F = as_transition(model)
    states = states_of(caller, state_traj, F.n_states, "the model")
    arguments.check_finite(caller, "state_traj", states)
    dtype = jax.dtypes.canonicalize_dtype(np.result_type(np.float32, states.dtype))
    states = states.astype(dtype)
    network = traced(caller, F, states.shape[2], n_inputs, dtype, states="state_traj")
    return Visited(network, states)


_FITS = 2.0
"""Under the input that states were visited under, a step from one of them leads to the next one, or
as near to it as noise allows: not so many times as far from it as the states moved."""


def warn_if_not_visited_under(
    caller: str,
    where: Visited,
    u: Float[np.ndarray, " n_inputs"],
    is_held: Any = None,
) -> None:
    """Warn if steps under an input do not lead from states to those that follow them."""
    before, after = where.states[:, :-1], where.states[:, 1:]
    if is_held is not None:
        both = is_held[:, :-1] & is_held[:, 1:]
        before, after = before[both], after[both]
    before, after = (x.reshape(-1, where.states.shape[2]) for x in (before, after))
    if len(before) == 0:
        return
    some = np.linspace(0, len(before) - 1, min(len(before), N_STARTS)).round().astype(int)
    step = jax.vmap(where.F, (0, None))
    stepped = np.asarray(step(jnp.asarray(before[some]), jnp.asarray(u, before.dtype)))
    missed = np.median(np.linalg.norm(stepped - after[some], axis=1))
    moved = np.median(np.linalg.norm(after[some] - before[some], axis=1))
    rounding = 1e-5 * float(np.abs(before).max())
    if missed > _FITS * moved + rounding:
        warnings.warn(
            f"{caller}: under `inputs` = {np.asarray(u).tolist()}, a step from a state of "
            f"`state_traj` ends {missed:.2g} from the next one (median), while the states move by "
            f"{moved:.2g} only. Is it the input under which they were visited?",
            stacklevel=3,
        )


def checked_input(caller: str, name: str, given: Any) -> Float[np.ndarray, " n_inputs"]:
    """Return one constant input."""
    u = arguments.array(caller, name, given, ("n_inputs",), (1, "n_inputs"), finite=True)
    return np.asarray(u, np.float32).reshape(-1)


def for_paper(
    caller: str,
    config: PlotConfig | None,
    width: float,
    height: float,
    columns: tuple[int, ...] = (1, 2),
) -> PlotConfig:
    """Return the looks: unless they are given, for a paper, without a title.

    `PlotConfig.for_column` does not know the figure: its own size becomes one of the same width,
    for as many columns as the figure has no size of its own for.
    """
    if config is None:
        return PlotConfig.for_column(title=None, figsize=(width, height))
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    if config.figsize in [PlotConfig.for_column(each).figsize for each in columns]:
        wide = config.figsize[0]
        return replace(config, figsize=(wide, height * min(1.0, wide / width)))
    return config


def searched(
    where: Visited, u: Float[np.ndarray, " n_inputs"], seed: int, n_starts: int | None = None
) -> FixedPoints:
    """Return the fixed points that a search from the states finds under an input.

    It goes on until it has all of them, as far as can be told, or is from `n_starts` states.
    """
    states = where.states
    noise = NOISE * float(np.sqrt(states.reshape(-1, states.shape[2]).var(axis=0).mean()))
    coverage = COVERAGE if n_starts is None else None
    finder = FixedPointFinder(
        where.F, verbose=False, coverage=coverage, random_seed=seed, dtype=str(states.dtype)
    )
    n_inits = n_starts or N_STARTS
    fps, _ = finder.find_fixed_points(states, u[None], n_inits=n_inits, noise_scale=noise)
    return fps


def line_through(
    where: Visited,
    held: Float[np.ndarray, "n n_states"],
    u: Float[np.ndarray, " n_inputs"],
    toward: Any,
    q_max: float | None,
) -> LineAttractor:
    """Return the line of slow points near states that a network holds under an input."""
    u = u.astype(held.dtype)
    some = held[np.linspace(0, len(held) - 1, min(len(held), N_STARTS)).round().astype(int)]
    if q_max is None:
        speed = _FASTER**2 * np.median(np.asarray(q_fn(where.F, some, u)))
        q_max = float(np.clip(speed, _LEAST_Q, _MOST_Q))
    return line_attractor(slow_manifold(where.F, some, u, q_max).points, toward=toward)


def given_points(
    caller: str, name: str, given: Any, n_states: int, *, line: bool = False
) -> FixedPoints | LineAttractor:
    """Check what an earlier call returned, to be drawn again."""
    kind = LineAttractor if line else FixedPoints
    arguments.instance(caller, name, given, kind, f"a slowpoints.{kind.__name__}")
    found = (given.points if isinstance(given, LineAttractor) else given).n_states
    if found != n_states:
        was, expected = f"has {found} states", f"{n_states}, as `state_traj` has"
        arguments.refuse(caller, name, was, expected, ValueError)
    return given


def points_near(fps: FixedPoints, line: LineAttractor) -> FixedPoints:
    """Return the points within the extent of a line or ring, which others would shrink to a dot."""
    if fps.n == 0:
        return fps
    middle = line.curve.mean(axis=0)
    reach = np.linalg.norm(line.curve - middle, axis=1).max()
    return fps[np.linalg.norm(np.asarray(fps.xstar) - middle, axis=1) <= 1.5 * reach]
