"""What the figures of classical results share: a network, its states, and searches from these."""

from typing import Any, NamedTuple

import jax
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

COVERAGE = 0.99
"""The search goes on until further starts would lead to known points with this probability."""

NOISE = 0.5
"""Starts are displaced by this part of the spread of the states: saddles are between these."""

_LEAST_Q, _MOST_Q = 1e-7, 1e-2
"""A line is sought among states of the typical speed of those that are held, within reason."""


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
    names: dict[str, Any] = {"states": "state_traj", "inputs": "inputs"}
    return Visited(traced(caller, F, states.shape[2], n_inputs, dtype, **names), states)


def checked_input(caller: str, name: str, given: Any) -> Float[np.ndarray, " n_inputs"]:
    """Return one constant input."""
    u = arguments.array(caller, name, given, ("n_inputs",), (1, "n_inputs"), finite=True)
    return np.asarray(u, np.float32).reshape(-1)


def for_paper(caller: str, config: PlotConfig | None, width: float, height: float) -> PlotConfig:
    """Return the looks: unless they are given, for a paper, without a title."""
    if config is None:
        return PlotConfig(
            title=None, figsize=(width, height), font_size=8, save_bbox_inches=None, show=True
        )
    arguments.instance(caller, "config", config, PlotConfig, "a slowpoints.PlotConfig or None")
    return config


def searched(where: Visited, u: Float[np.ndarray, " n_inputs"], seed: int) -> FixedPoints:
    """Return the fixed points that a search from the states finds under an input."""
    states = where.states
    noise = NOISE * float(np.sqrt(states.reshape(-1, states.shape[2]).var(axis=0).mean()))
    finder = FixedPointFinder(
        where.F, verbose=False, coverage=COVERAGE, random_seed=seed, dtype=str(states.dtype)
    )
    fps, _ = finder.find_fixed_points(states, u[None], n_inits=N_STARTS, noise_scale=noise)
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
        speed = np.median(np.asarray(q_fn(where.F, some, u)))
        q_max = float(np.clip(speed, _LEAST_Q, _MOST_Q))
    return line_attractor(slow_manifold(where.F, some, u, q_max).points, toward=toward)
