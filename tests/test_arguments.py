"""Every public function, called with each kind of argument right and wrong.

A table of more than 500 calls, generated from the functions' arguments and their kinds. A wrong
argument is an error that names it, says what it was and what was expected, before anything is
compiled; a right one, however it is written, gives the answer of the plain call.
"""

import functools
import inspect
import reprlib
from dataclasses import dataclass, field
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.figure import Figure
from model_checks import fast_compilation as fast_compilation
from networks import compilations, leaves_close, leaves_equal

import slowpoints
from slowpoints import (
    Adam,
    BoundedNewton,
    Connections,
    ContinuousTime,
    Edges,
    FixedPointFinder,
    FixedPoints,
    KrylovTrustRegion,
    LevenbergMarquardt,
    NewtonKrylov,
    PlotConfig,
    Search,
    account,
    along,
    animate_fixed_points,
    as_transition,
    attractors,
    basin_boundary,
    certify,
    closed_orbits,
    connections,
    continuation,
    coverage,
    cycles,
    decompose,
    degree,
    find_all,
    find_cycles,
    find_fixed_points,
    flow,
    input_grid,
    iterate,
    jacobians,
    line_attractor,
    linear_modes,
    load_checkpoint,
    low_rank,
    lyapunov,
    optimize_batch,
    passage_time,
    plane_grid,
    plot_account,
    plot_attractors,
    plot_basins,
    plot_branches,
    plot_closed_orbits,
    plot_connections,
    plot_context_integration,
    plot_eigenvalues,
    plot_fixed_points_2d,
    plot_fixed_points_3d,
    plot_flip_flop,
    plot_flow_field,
    plot_line_attractor,
    plot_lyapunov,
    plot_panels,
    plot_ring_attractor,
    q_fn,
    rank_needed,
    sample_ball,
    sample_inputs_and_states,
    sample_states,
    save_checkpoint,
    search_until,
    select,
    simulate,
    slow_manifold,
    smallest_kick,
    smallest_pulse,
    stroboscopic,
    task_axes,
    unique,
)

pytestmark = pytest.mark.checks_input

# ---- right calls ---------------------------------------------------------------------------------

X = np.linspace(-1, 1, 8, dtype=np.float32).reshape(4, 2)
U = np.zeros((1, 1), np.float32)
CIRCLE = np.float32([[1, 0], [0.5, 0.9], [-0.5, 0.9], [-1, 0], [-0.5, -0.9], [0.5, -0.9]])
GRID = np.stack(np.meshgrid(X[:3, 0], X[:, 1]), axis=-1)
TRAJ = np.linspace(-1, 1, 20, dtype=np.float32).reshape(2, 5, 2)
KEY = jax.random.key(0)


def F(x, u):
    return jnp.tanh(1.5 * x + u[:1])


def points(**changes):
    fields = {"xstar": X, "inputs": np.zeros((4, 1), np.float32), "qstar": np.zeros(4, np.float32)}
    return FixedPoints(**(fields | changes))


def with_jacobians(**changes):
    return points(J_xstar=np.tile(0.5 * np.eye(2, dtype=np.float32), (4, 1, 1)), **changes)


def no_edges():
    """Return connections of points none of which is a saddle."""
    none = np.zeros(0, int)
    names = ("saddle", "side", "direction", "outcome", "attractor", "index", "n_steps", "period")
    edges = Edges(
        **dict.fromkeys(names, none),
        alternates=none.astype(bool),
        splits=none.astype(bool),
        end=np.zeros((0, 2)),
        path=np.zeros((0, 3, 2)),
    )
    return Connections(points(), np.zeros(4, int), np.ones(4, bool), edges)


def no_attractors():
    """Return attractors of no states."""
    return attractors(F, np.zeros((0, 2), np.float32), U)


def one_orbit():
    """Return the circle of a map that turns states and brings them to it."""
    turn = jnp.array([[0.8, -0.6], [0.6, 0.8]])
    return closed_orbits(lambda x, u: (1.5 - 0.5 * x @ x) * turn @ x, CIRCLE, U)


def no_branches():
    """Return branches of points none of which is a fixed point."""
    return continuation(F, points(), (-1, 1))


def not_square():
    fps = with_jacobians()
    fps.J_xstar = np.ones((4, 2, 3))  # which the run-time type checker does not see
    return fps


def on_a_line(n=8, **changes):
    x = np.linspace([-1, 1], [1, -1], n)
    J = np.tile(0.5 * np.eye(2), (n, 1, 1))
    return FixedPoints(**({"xstar": x, "F_xstar": x, "J_xstar": J} | changes))


def finder(rnn_model=F, **settings):
    return FixedPointFinder(rnn_model, **({"verbose": False} | settings))


def solved_by(solver):
    """Return the solver's constructor, and what the solver finds instead of itself."""

    @functools.wraps(solver)
    def make(**settings):
        return optimize_batch(F, X, U, solver=solver(**settings), max_iters=50)

    return make


def find(**arguments):
    settings = {"solver": LevenbergMarquardt(), "do_compute_jacobians": False}
    return finder(**settings).find_fixed_points(**arguments)


def search(F=F, **arguments):
    return Search(F, **arguments)


# ---- wrong values, by kind of argument -----------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """What an argument may not be, and other ways to write what it may be."""

    wrong: tuple[Any, ...]
    same: tuple[Any, ...] = ()  # functions of the right value


NO_NUMBERS = ("x", True, 1j, np.ones(2), [1.0], np.nan, -1.0, 10**400, {}, np.datetime64(0, "s"))
SAME_NUMBER = (np.float64, lambda v: np.asarray(v, np.float64))
NUMBER = Kind((*NO_NUMBERS, None), SAME_NUMBER)
NUMBER_OR_NONE = Kind(NO_NUMBERS, SAME_NUMBER)
POSITIVE = Kind((*NO_NUMBERS, None, np.inf, 0), SAME_NUMBER)
POSITIVE_OR_NONE = Kind((*NO_NUMBERS, np.inf, 0), SAME_NUMBER)
FINITE = Kind((*NO_NUMBERS, None, np.inf), SAME_NUMBER)
NO_COUNTS = ("x", True, 1j, np.ones(2), [1], np.nan, -1, 1.5, -np.inf, 2**70, 10**400, {})
SAME_COUNT = (np.int64, float, np.asarray)
COUNT = Kind((*NO_COUNTS, None, np.inf, 0), SAME_COUNT)
COUNT_OR_NONE = Kind((*NO_COUNTS, np.inf, 0), SAME_COUNT)
FROM_ZERO = Kind((*NO_COUNTS, None, np.inf), SAME_COUNT)
FROM_ZERO_OR_NONE = Kind((*NO_COUNTS, np.inf), SAME_COUNT)
FROM_ZERO_OR_INFINITY = Kind((*NO_COUNTS, None))
SEED = Kind(("x", 1.5, None, 2**64, True, np.ones(2)), SAME_COUNT)
FLAG = Kind(("no", 2, None, 0.5, np.ones(2), "True"), (np.bool_, int))
CALLBACK = Kind((1, "x", [print]))
MESH = Kind(("x", 1, jax.devices()))
SOLVER = Kind(("adams", 3, LevenbergMarquardt, F))
KEYS = Kind(
    (0.5, True, 2**70, None, "x", np.zeros(2), jnp.zeros(2), jax.random.split(KEY)),
    (lambda key: 0, lambda key: np.int64(0)),  # its seed
)
PATH = Kind((3, None, b"x", ["x"]))
MODEL = Kind((None, 3, "x", {"w": X}, [F]))
WORD = Kind(("x", None, 3, ["joint"], np.ones(2)))
NO_ARRAYS = (
    "x",
    None,
    {},
    np.full((4, 2), "a"),
    np.full((4, 2), None),
    np.array([["2020-01-01"]], "M8[D]"),
    [[1.0, 2.0], [3.0]],
    X + 1j,
    np.ma.masked_less(X, 0),
    X.astype(np.longdouble),
    X[0, 0],
)
SAME_ARRAY = (
    lambda a: a.astype(">f4"),
    lambda a: a.astype(np.float64),
    lambda a: np.asfortranarray(a),
    lambda a: a.tolist(),
    lambda a: np.ma.array(a),
    lambda a: a[::-1][::-1],
    jnp.asarray,
)
SAME_STATES = tuple(same for i, same in enumerate(SAME_ARRAY) if i != 1)
WHOLE = (X.astype(int), np.ones((4, 2), bool))
STATES = Kind((*NO_ARRAYS, *WHOLE, X[0], X[None], X[:, :0]), SAME_STATES)
STATES_OF_ANY_NUMBER = Kind(
    (*(value for value in NO_ARRAYS if value is not None), X[0], X[None], X[:, :1]), SAME_STATES
)
SQUARE = Kind((*NO_ARRAYS, X, X[0], X[None], X[:2] + np.nan, WHOLE[0][:2]), SAME_STATES)
LOOPS = Kind((*NO_ARRAYS, TRAJ.astype(int), X), SAME_STATES)
INPUTS = Kind(
    (*NO_ARRAYS, U + np.nan, U + np.inf, np.full((1, 1), 1e300), np.zeros((3, 1)), U[None]),
    (*SAME_ARRAY, lambda a: a.astype(int), lambda a: a[0]),
)
TRAJECTORIES = Kind((*NO_ARRAYS, X, TRAJ[:0], TRAJ[:, :0], TRAJ + np.nan, TRAJ[None]), SAME_STATES)
MASK = Kind(
    ("x", np.ones((5, 2), bool), np.zeros((2, 5), bool), np.full((2, 5), np.nan), np.ones(2)),
    (lambda m: m.astype(int), lambda m: m.astype(float), lambda m: m.tolist(), jnp.asarray),
)
LABELS = Kind((np.arange(3), np.zeros((4, 1)), 3), (lambda c: c.tolist(), jnp.asarray))
REAL = Kind(NO_ARRAYS[:-1])
POINTS = Kind((None, {}, X, "x", [points()]))
PROJECTION = Kind((*NO_ARRAYS, np.ones((3, 2))), SAME_ARRAY)


@dataclass(frozen=True)
class Call:
    """A right call, the kinds of its arguments, and wrong values that only it has."""

    function: Any
    right: dict[str, Any]
    kinds: dict[str, Kind]
    also_wrong: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)  # what a message may say instead


SETTINGS = {
    "solver": SOLVER,
    "max_iters": COUNT,
    "tol_q": NUMBER,
    "tol_dq": NUMBER,
}
RIGHT_SETTINGS = {
    "solver": LevenbergMarquardt(),
    "max_iters": 50,
    "tol_q": 1e-12,
    "tol_dq": 1e-20,
}
SELECTION = {
    "tol_unique": NUMBER,
    "final_q_threshold": NUMBER_OR_NONE,
}
CORNER = np.float32([0.8585596, 0.8585596])  # where both units of `F` are at rest
ATTRACTOR = Kind((*NO_ARRAYS, CORNER.astype(int), CORNER + np.nan, TRAJ))
DIRECTION = Kind((*NO_ARRAYS, np.full(3, 0.5), X))
KICK = {
    "F": F,
    "a": -CORNER,
    "inputs": U[0],
    "max_amplitude": 4.0,
    "n_grid": 8,
    "max_steps": 200,
}
KICK_KINDS = {
    "F": MODEL,
    "a": Kind((*ATTRACTOR.wrong, X)),
    "inputs": Kind(("x", U, U[0] + np.nan)),
    "max_amplitude": FINITE,
    "n_grid": Kind((*COUNT.wrong, 1), SAME_COUNT),
    "max_steps": COUNT,
}
MODEL_NAMES = {"F": "model", "G": "model", "f": "model", "rnn_model": "model"}
PLOT_2D = {
    "fixed_points": POINTS,
    "state_traj": Kind(tuple(value for value in TRAJECTORIES.wrong if value is not None)),
    "config": Kind(({}, "x", 3)),
    "plot_batch_idx": Kind((["x"], 0, [], [5], [0.5], [[0]])),
    "plot_start_time": Kind(("x", None, 5, 0.5, np.nan)),
    "ax": Kind((3, "x")),
    "projection": Kind(("x", 3, np.ones((3, 2)), np.ones((2, 4)), np.full((2, 2), np.nan))),
    "color_by": Kind(("x", 3, np.ones(3), np.full(2, np.nan), ["a"], "cond_id")),
    "color_points_by": Kind((3, np.ones(3), np.full(4, np.inf), ["a"], [[1.0], [2.0, 3.0]])),
    "eigenvectors": Kind(("x", True, "unstable")),
}
TRIALS = {
    "context": ["a", "b"],
    "evidence": {"motion": np.float32([-1, 1])},
    "choice": np.float32([-1, 1]),
}
ONE_INPUT = Kind(("x", None, {}, X, U[0] + np.nan, TRAJ))
STATES_OF_TRIALS = Kind((*NO_ARRAYS, X, TRAJ[:0], TRAJ[:, :0], TRAJ + np.nan, TRAJ[None]))
PLOT_3D = PLOT_2D | {"interactive": FLAG}
CALLS = {
    "q_fn": Call(q_fn, {"F": F, "x": X, "u": U}, {"F": Kind((None, 3, "x")), "x": REAL, "u": REAL}),
    "sample_states": Call(
        sample_states,
        {
            "key": KEY,
            "state_traj": TRAJ,
            "n_inits": 4,
            "noise_scale": 0.5,
            "valid_bxt": np.ones((2, 5), bool),
            "F": F,
            "inputs": U,
            "n_steps": 2,
        },
        {
            "key": KEYS,
            "state_traj": TRAJECTORIES,
            "n_inits": COUNT,
            "noise_scale": FINITE,
            "valid_bxt": MASK,
            "F": MODEL,
            "inputs": INPUTS,
            "n_steps": FROM_ZERO,
        },
    ),
    "sample_inputs_and_states": Call(
        sample_inputs_and_states,
        {"key": KEY, "inputs_traj": TRAJ[..., :1], "state_traj": TRAJ, "n_inits": 4},
        {
            "key": KEYS,
            "inputs_traj": TRAJECTORIES,
            "state_traj": TRAJECTORIES,
            "n_inits": COUNT,
            "noise_scale": FINITE,
            "valid_bxt": MASK,
        },
    ),
    "sample_ball": Call(
        sample_ball,
        {"key": KEY, "center": X[0], "radius": 0.5, "n": 3},
        {
            "key": KEYS,
            "center": Kind((*NO_ARRAYS, X, X[0] + np.nan, X[0].astype(int))),
            "radius": Kind(("x", True, 1j, np.nan, -1.0, np.inf, None, np.ones(3), -np.ones(2))),
            "n": COUNT,
        },
    ),
    "input_grid": Call(input_grid, {"x_init": X, "inputs": U}, {"x_init": REAL, "inputs": REAL}),
    "iterate": Call(iterate, {"F": F, "k": 2}, {"F": MODEL, "k": Kind(COUNT.wrong)}),
    "ContinuousTime": Call(ContinuousTime, {"f": F}, {"f": MODEL}),
    "as_transition": Call(
        as_transition,
        {"model": F, "signature": None},
        {"model": MODEL, "signature": Kind(("x", 3, ["scan"], np.ones(2)))},
    ),
    "optimize_batch": Call(
        optimize_batch,
        {
            "F": F,
            "x_init": X,
            "inputs": U,
            "cond_id": np.arange(4),
            "memory_limit": 10**9,
            "rows_at_a_time": 3,
            **RIGHT_SETTINGS,
        },
        {
            "F": MODEL,
            "x_init": STATES,
            "inputs": INPUTS,
            "cond_id": LABELS,
            "memory_limit": COUNT_OR_NONE,
            "rows_at_a_time": COUNT_OR_NONE,
            "progress": CALLBACK,
            "report": CALLBACK,
            "mesh": Kind((*MESH.wrong, "local")),
            **SETTINGS,
        },
    ),
    "find_fixed_points": Call(
        find_fixed_points,
        {
            "F": F,
            "x_init": X,
            "inputs": U,
            "cond_id": np.arange(4),
            "tol_unique": 1e-3,
            "final_q_threshold": 1e-8,
            "outlier_distance_scale": 10.0,
            "outlier_q_scale": 10.0,
            "memory_limit": 10**9,
            "rows_at_a_time": 3,
            "max_n_unique": 3,
            "within_conditions": False,
            "keep_unfinished": False,
            "search_between": True,
            "compute_jacobians": True,
            "decompose_jacobians": False,
            **RIGHT_SETTINGS,
        },
        {
            "F": MODEL,
            "x_init": STATES,
            "inputs": INPUTS,
            "cond_id": LABELS,
            "within_conditions": FLAG,
            "keep_unfinished": FLAG,
            "search_between": FLAG,
            "outlier_distance_scale": NUMBER_OR_NONE,
            "outlier_q_scale": NUMBER_OR_NONE,
            "max_n_unique": FROM_ZERO_OR_INFINITY,
            "compute_jacobians": FLAG,
            "decompose_jacobians": FLAG,
            "memory_limit": COUNT_OR_NONE,
            "rows_at_a_time": COUNT_OR_NONE,
            "progress": CALLBACK,
            "report": CALLBACK,
            "mesh": MESH,
            "across_processes": FLAG,
            **SETTINGS,
            **SELECTION,
        },
    ),
    "find_cycles": Call(
        find_cycles,
        {"F": F, "x_init": TRAJ[:, :2], "inputs": U, "solver": LevenbergMarquardt()},
        {
            "F": MODEL,
            "x_init": LOOPS,
            "inputs": INPUTS,
            "tol_unique": NUMBER,
            "compute_jacobians": FLAG,
            "decompose_jacobians": FLAG,
        },
    ),
    "unique": Call(
        unique,
        {"fps": points(), "tol": 1e-3, "size": 2, "within_conditions": False},
        {
            "fps": POINTS,
            "tol": NUMBER_OR_NONE,
            "size": FROM_ZERO_OR_NONE,
            "within_conditions": FLAG,
            "by": Kind(WORD.wrong),
        },
        {"fps": (points(xstar=None),)},
    ),
    "unique.by_certificate": Call(
        unique,
        {"fps": points(), "by": "certificate", "F": F},
        {"fps": POINTS, "F": MODEL},
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "certify": Call(
        certify,
        {"F": F, "fps": points()},
        {"F": MODEL, "fps": POINTS},
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "degree": Call(
        degree,
        {"F": F, "fps": points()},
        {"F": MODEL, "fps": POINTS},
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "passage_time": Call(
        passage_time,
        {"F": F, "fps": points(), "direction": U[0] + 1},
        {
            "F": MODEL,
            "fps": POINTS,
            "direction": Kind(("x", U, X, U[0] + np.nan), SAME_ARRAY),
        },
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "flow": Call(
        flow,
        {"F": F, "duration": 0.5},
        {
            "F": MODEL,
            "duration": POSITIVE,
            "rtol": POSITIVE_OR_NONE,
            "atol": Kind(("1", np.inf, 0, np.float32([0, 1])), SAME_NUMBER),
            "stiff": FLAG,
        },
    ),
    "stroboscopic": Call(
        stroboscopic,
        {"F": F, "inputs_of_one_period": X[:3, :1]},
        {"F": MODEL, "inputs_of_one_period": Kind((None, "x", {}, U[None], X + np.nan, X[0]))},
    ),
    "along": Call(
        along,
        {"F": F, "path": X[:2, :1]},
        {"F": MODEL, "path": Kind((None, "x", {}, U, X[:2] + np.nan, X[0]))},
    ),
    "continuation": Call(
        continuation,
        {
            "G": F,
            "fps": points(),
            "span": (-1, 1),
            "max_step": 0.5,
            "search_at": None,
            "n_starts": 4,
            "max_steps": 3,
            "n_eigvals": 1,
            "certify": False,
            "box": None,
        },
        {
            "G": MODEL,
            "fps": POINTS,
            "span": Kind((None, 3, "x", (1, 1), (0, np.inf), (0, 1, 2))),
            "max_step": Kind((*NO_NUMBERS, 0), SAME_NUMBER),
            "search_at": Kind(("x", [np.nan], [2.0], {})),
            "n_starts": COUNT,
            "max_steps": COUNT,
            "n_eigvals": COUNT_OR_NONE,
            "certify": FLAG,
            "box": Kind((3, "x", X, (X[0],), (X[0], X[0] + 1))),  # only with `certify`
            "key": Kind(tuple(key for key in KEYS.wrong if key is not None)),
        },
        {"fps": (points(xstar=None), points(inputs=None), points(inputs=X))},
    ),
    "plot_branches": Call(
        plot_branches,
        {"branches": no_branches(), "config": PlotConfig(show=False), "projection": None},
        {
            "branches": Kind((None, 3, points())),
            "config": Kind((3, {"show": False})),
            "ax": Kind((3, "x")),
            "projection": Kind(("x", np.ones(3), np.array([np.nan]))),
        },
    ),
    "coverage": Call(
        coverage,
        {"fps": points(hits=np.ones(4, np.int32))},
        {"fps": POINTS},
        {"fps": (points(),)},
    ),
    "low_rank": Call(
        low_rank,
        {"W": X[:2], "rank": 1},
        {
            "W": SQUARE,
            "rank": Kind((*NO_COUNTS, None, 0, 3), SAME_COUNT),
        },
    ),
    "LowRank.reduced": Call(
        low_rank(X[:2], 1).reduced,
        {"phi": jnp.tanh, "B": np.ones((2, 1), np.float32), "b": X[0], "leak": 0.5},
        {
            "phi": Kind((3, "x", None)),
            "B": Kind(("x", X, X[0], np.full((2, 1), np.nan)), SAME_ARRAY),
            "b": Kind(("x", X, X[0] + np.inf)),
            "leak": Kind((*FINITE.wrong, 0, 1.5), SAME_NUMBER),
        },
    ),
    "rank_needed": Call(
        rank_needed,
        {
            "W": X[:2],
            "fps": points(xstar=np.zeros((1, 2), np.float32), inputs=U[:, :0], qstar=None),
            "phi": jnp.tanh,
            "ranks": [1, 2],
            "tol": 0.5,
            "n_starts": 4,
            "leak": 0.5,
            "key": KEY,
        },
        {
            "W": Kind(SQUARE.wrong),
            "fps": POINTS,
            "phi": Kind((3, "x", None)),
            "B": Kind(("x", X, X[0])),
            "b": Kind(("x", X, X[0] + np.inf)),
            "leak": Kind((*FINITE.wrong, 0, 1.5)),
            "ranks": Kind(("x", 2, [], [0], [3], [1.5])),
            "tol": Kind(NO_NUMBERS),
            "n_starts": Kind(COUNT.wrong),
            "key": KEYS,
        },
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "linear_modes": Call(
        linear_modes,
        {
            "fps": with_jacobians(),
            "F": None,
            "readout": np.eye(2, dtype=np.float32),
            "toward": np.ones(2, np.float32),
            "slow": 20.0,
            "dt": 10.0,
        },
        {
            "fps": POINTS,
            "readout": Kind(
                (*(v for v in NO_ARRAYS if v is not None), np.ones((3, 2)), X[:2] + np.nan)
            ),
            "toward": Kind((*(v for v in NO_ARRAYS if v is not None), np.ones(3), X[0] + np.inf)),
            "slow": NUMBER_OR_NONE,
            "dt": POSITIVE,
        },
        {"fps": (points(), not_square())},
    ),
    "linear_modes.of_a_network": Call(
        linear_modes,
        {"fps": points(), "F": F},
        {"fps": POINTS, "F": Kind(MODEL.wrong[1:])},
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "slow_manifold": Call(
        slow_manifold,
        {"F": F, "x0": X, "u": U, "q_max": 1e-3, "spacing": 0.1, "max_iters": 50, "dt": 10.0},
        {
            "F": MODEL,
            "x0": STATES,
            "u": Kind((*NO_ARRAYS, U + np.nan, np.zeros((4, 1)), np.zeros((3, 1)), U[None])),
            "q_max": POSITIVE,
            "spacing": Kind((*NO_NUMBERS, np.inf)),
            "max_iters": COUNT,
            "dt": POSITIVE,
        },
    ),
    "line_attractor": Call(
        line_attractor,
        {"fps": on_a_line(), "toward": np.ones(2, np.float32), "dt": 10.0},
        {
            "fps": POINTS,
            "toward": Kind((*(v for v in NO_ARRAYS if v is not None), np.ones(3), X[0] + np.inf)),
            "dt": POSITIVE,
        },
        {
            "fps": (
                on_a_line(xstar=None),
                on_a_line(F_xstar=None),
                on_a_line(J_xstar=None),
                on_a_line(F_xstar=np.full((8, 2), np.inf)),
                on_a_line(4),
                on_a_line(valid=np.arange(8) < 4),
                on_a_line(xstar=np.ones((8, 2))),
                on_a_line(inputs=np.arange(8.0)[:, None]),
            )
        },
    ),
    "find_all": Call(
        find_all,
        {"F": F, "box": (X[0], X[0] + 1), "inputs": U[0], "max_boxes": 100},
        {
            "F": MODEL,
            "box": Kind((None, 3, "x", X, (X[0],))),
            "inputs": Kind(("x", U, U[0] + np.nan)),
            "max_boxes": Kind((*NO_COUNTS, None, 0)),
        },
    ),
    "search_until": Call(
        search_until,
        {
            "F": F,
            "state_traj": TRAJ,
            "inputs": U,
            "key": KEY,
            "noise_scale": 0.5,
            "valid_bxt": np.ones((2, 5), bool),
            "coverage": 0.5,
            "max_rows": 64,
            "rows_at_a_time": 32,
            "solver": LevenbergMarquardt(),
        },
        {
            "F": MODEL,
            "state_traj": TRAJECTORIES,
            "inputs": Kind((*INPUTS.wrong, np.zeros((2, 1)))),
            "key": KEYS,
            "noise_scale": FINITE,
            "valid_bxt": MASK,
            "coverage": Kind((*FINITE.wrong, 1.0)),
            "degree": Kind(("x", True, 1j, np.ones(2), [1], np.nan, 1.5, {})),
            "max_rows": COUNT,
            "rows_at_a_time": COUNT,
            "outlier_distance_scale": NUMBER_OR_NONE,
            "outlier_q_scale": NUMBER_OR_NONE,
            "max_n_unique": FROM_ZERO_OR_INFINITY,
            "keep_unfinished": FLAG,
            "compute_jacobians": FLAG,
            "decompose_jacobians": FLAG,
            "progress": CALLBACK,
            **SETTINGS,
            **SELECTION,
        },
    ),
    "select": Call(
        select,
        {
            "F": F,
            "fps": points(),
            "x_init": X,
            "outlier_distance_scale": 10.0,
            "outlier_q_scale": 10.0,
            "final_q_threshold": 1e-8,
            "max_n_unique": 3,
            "keep_unfinished": False,
            "within_conditions": False,
            **RIGHT_SETTINGS,
        },
        {
            "F": MODEL,
            "fps": POINTS,
            "x_init": STATES_OF_ANY_NUMBER,
            "outlier_distance_scale": NUMBER_OR_NONE,
            "outlier_q_scale": NUMBER_OR_NONE,
            "final_q_threshold": NUMBER_OR_NONE,
            "max_n_unique": FROM_ZERO_OR_INFINITY,
            "keep_unfinished": FLAG,
            "within_conditions": FLAG,
            **SETTINGS,
        },
        {"fps": (points(xstar=None), points(inputs=None), points(qstar=None))},
    ),
    "account": Call(
        account,
        {
            "unique_fps": points(),
            "all_fps": points(status=np.ones(4, np.int8)),
            "within_conditions": False,
            "outlier_distance_scale": 10.0,
            "outlier_q_scale": 10.0,
            "final_q_threshold": 1e-8,
            "max_n_unique": 3,
            "keep_unfinished": False,
            "max_iters": 5000,
            "F": F,
        },
        {
            "F": Kind((3, "x", {"w": X}, [F])),
            "unique_fps": POINTS,
            "all_fps": POINTS,
            "within_conditions": FLAG,
            "outlier_distance_scale": NUMBER_OR_NONE,
            "outlier_q_scale": NUMBER_OR_NONE,
            "final_q_threshold": NUMBER_OR_NONE,
            "max_n_unique": FROM_ZERO_OR_INFINITY,
            "keep_unfinished": FLAG,
            "max_iters": COUNT,
        },
        {"unique_fps": (points(xstar=None),), "all_fps": (points(),)},
    ),
    "cycles": Call(
        cycles,
        {"F": F, "fps": points(), "k": 2, "tol": 1e-3},
        {"F": MODEL, "fps": POINTS, "k": COUNT, "tol": NUMBER_OR_NONE},
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "lyapunov": Call(
        lyapunov,
        {"F": F, "x": X, "inputs": U, "n": 1, "n_steps": 16, "transient": 4},
        {
            "F": MODEL,
            "x": Kind((*NO_ARRAYS, *WHOLE, X + np.nan, TRAJ), SAME_STATES),
            "inputs": INPUTS,
            "n": Kind((*(v for v in COUNT.wrong if v is not None), 3), SAME_COUNT),
            "n_steps": COUNT,
            "transient": FROM_ZERO,
        },
    ),
    "attractors": Call(
        attractors,
        {
            "F": F,
            "states": X,
            "inputs": U,
            "max_steps": 200,
            "n_exponents": 1,
            "n_sample": 2,
            "certify": False,
        },
        {
            "F": MODEL,
            "states": Kind((*NO_ARRAYS, *WHOLE, X[0], X + np.nan, TRAJ), SAME_STATES),
            "inputs": INPUTS,
            "max_steps": COUNT,
            "n_exponents": COUNT,
            "n_sample": FROM_ZERO,
            "certify": FLAG,
        },
    ),
    "Attractors.print_summary": Call(
        no_attractors().print_summary, {"max_rows": 3}, {"max_rows": FROM_ZERO}
    ),
    "closed_orbits": Call(
        closed_orbits,
        {
            "F": F,
            "x0": CIRCLE,
            "inputs": U,
            "period": 6.0,
            "tol": 1e-6,
            "n_exponents": 1,
            "n_sample": 4,
        },
        {
            "F": MODEL,
            "x0": Kind((*NO_ARRAYS, *WHOLE, X[0], CIRCLE + np.nan, CIRCLE[:3])),
            "inputs": Kind((*INPUTS.wrong,)),
            "period": Kind(("x", True, 1j, np.nan, -1.0, 0.0, np.inf, np.ones(3), np.zeros(1))),
            "tol": FINITE,
            "n_exponents": COUNT,
            "n_sample": FROM_ZERO,
        },
    ),
    "plot_attractors": Call(
        plot_attractors,
        {"attractors": no_attractors(), "config": PlotConfig(show=False)},
        {
            "attractors": Kind((None, {}, X, points())),
            "config": Kind(({}, "x", 3)),
            "ax": Kind((3, "x", X)),
            "projection": PLOT_2D["projection"],
        },
    ),
    "plane_grid": Call(
        plane_grid,
        {"plane": X, "n": 4, "fixed_points": points(), "margin": 0.25},
        {
            "plane": Kind((*(v for v in NO_ARRAYS if v is not None), X[0], X[None], X + np.nan)),
            "n": Kind((*COUNT.wrong, 1, 2), SAME_COUNT),
            "fixed_points": Kind(tuple(value for value in POINTS.wrong if value is not None)),
            "margin": FINITE,
        },
        {"fixed_points": (points(xstar=None),)},
    ),
    "plot_basins": Call(
        plot_basins,
        {
            "attractors": attractors(F, GRID.reshape(-1, 2), U[0], max_steps=20),
            "states": GRID,
            "config": PlotConfig(show=False),
            "fixed_points": points(),
        },
        {
            "attractors": Kind((None, {}, X, points())),
            "states": Kind((*NO_ARRAYS, GRID[0], GRID[:1], GRID[..., :1], GRID + np.nan)),
            "config": Kind(({}, "x", 3)),
            "ax": Kind((3, "x", X)),
            "fixed_points": Kind(tuple(value for value in POINTS.wrong if value is not None)),
        },
        {"fixed_points": (points(xstar=None),)},
    ),
    "plot_lyapunov": Call(
        plot_lyapunov,
        {"exponents": no_attractors(), "config": PlotConfig(show=False)},
        {
            "exponents": Kind((None, {}, X, points())),
            "config": Kind(({}, "x", 3)),
            "ax": Kind((3, "x", X)),
        },
    ),
    "plot_closed_orbits": Call(
        plot_closed_orbits,
        {"orbits": one_orbit(), "config": PlotConfig(show=False)},
        {
            "orbits": Kind((None, {}, X, points())),
            "config": Kind(({}, "x", 3)),
            "ax": Kind((3, "x", X)),
            "projection": PLOT_2D["projection"],
        },
    ),
    "connections": Call(
        connections,
        {"F": F, "fps": points(), "n_directions": 1, "max_steps": 20, "n_path": 3},
        {
            "F": MODEL,
            "fps": POINTS,
            "n_directions": FROM_ZERO,
            "max_steps": COUNT,
            "n_path": FROM_ZERO,
        },
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "Connections.print_summary": Call(
        no_edges().print_summary,
        {"max_rows": 3},
        {"max_rows": FROM_ZERO},
    ),
    "plot_connections": Call(
        plot_connections,
        {"connections": no_edges(), "config": PlotConfig(show=False)},
        {
            "connections": Kind((None, {}, X, points())),
            "config": Kind(({}, "x", 3)),
            "ax": Kind((3, "x", X)),
        },
    ),
    "basin_boundary": Call(
        basin_boundary,
        {
            "F": F,
            "a": -CORNER,
            "b": CORNER * np.float32([-1, 1]),
            "inputs": U,
            "max_steps": 200,
            "max_rounds": 2,
        },
        {
            "F": MODEL,
            "a": Kind((*ATTRACTOR.wrong, X[:3, :1])),
            "b": Kind((*ATTRACTOR.wrong, CORNER[:1])),
            "inputs": Kind((*(v for v in INPUTS.wrong if v is not None), np.zeros((2, 1)))),
            "max_steps": COUNT,
            "max_rounds": FROM_ZERO,
        },
    ),
    "smallest_kick": Call(
        smallest_kick,
        {**KICK, "direction": np.float32([1, 0])},
        {**KICK_KINDS, "direction": DIRECTION},
    ),
    "smallest_pulse": Call(
        smallest_pulse,
        {**KICK, "direction": np.float32([1]), "duration": 3},
        {**KICK_KINDS, "direction": DIRECTION, "duration": COUNT_OR_NONE},
    ),
    "jacobians": Call(
        jacobians,
        {"F": F, "fps": points()},
        {"F": MODEL, "fps": POINTS},
        {"fps": (points(xstar=None), points(inputs=None))},
    ),
    "decompose": Call(
        decompose,
        {"fps": with_jacobians()},
        {"fps": POINTS, "k": COUNT_OR_NONE},
        {"fps": (points(), not_square())},
    ),
    "decompose.of_F": Call(
        decompose,
        {"fps": points(), "k": 1, "F": F},
        {"fps": POINTS, "F": Kind(MODEL.wrong[1:])},
        {"fps": (points(xstar=None), points(inputs=None)), "k": (3,)},
    ),
    "plot_eigenvalues": Call(
        plot_eigenvalues,
        {
            "fixed_points": with_jacobians().decompose_jacobians(),
            "config": PlotConfig(show=False),
            "dt": 10.0,
        },
        {
            "fixed_points": POINTS,
            "config": Kind((3, {"show": False})),
            "ax": Kind((3, "x")),
            "dt": POSITIVE_OR_NONE,
        },
        {"fixed_points": (points(),)},
    ),
    "plot_flow_field": Call(
        plot_flow_field,
        {
            "F": F,
            "plane": X,
            "inputs": U[0],
            "config": PlotConfig(show=False),
            "fixed_points": points(),
            "n_arrows": 4,
            "n_speed": 5,
            "margin": 0.25,
        },
        {
            "F": MODEL,
            "plane": Kind((*(v for v in NO_ARRAYS if v is not None), X[0], X[None], X + np.nan)),
            "inputs": Kind(("x", U[None], U[0] + np.nan)),
            "config": Kind((3, {"show": False})),
            "ax": Kind((3, "x")),
            "fixed_points": Kind(tuple(value for value in POINTS.wrong if value is not None)),
            "n_arrows": COUNT,
            "n_speed": Kind((*COUNT.wrong, 1), SAME_COUNT),
            "margin": FINITE,
        },
        {"fixed_points": (points(xstar=None),)},
    ),
    "plot_account": Call(
        plot_account,
        {
            "unique_fps": points(),
            "all_fps": points(status=np.ones(4, np.int8), n_iters=np.arange(4)),
            "config": PlotConfig(show=False),
            "final_q_threshold": 1e-8,
        },
        {
            "unique_fps": POINTS,
            "all_fps": POINTS,
            "config": Kind((3, {"show": False})),
            "final_q_threshold": NUMBER_OR_NONE,
        },
        {"unique_fps": (points(xstar=None),), "all_fps": (points(status=np.ones(4, np.int8)),)},
    ),
    "plot_line_attractor": Call(
        plot_line_attractor,
        {
            "line": line_attractor(on_a_line()),
            "config": PlotConfig(show=False),
            "projection": X[:2],
            "state_traj": TRAJ,
            "unit": "ms",
        },
        {
            "line": Kind((None, 3, points())),
            "unit": Kind((3, b"ms")),
            "fixed_points": Kind(POINTS.wrong[1:]),
            "vectors": FLAG,
            "ax": Kind((3, "x", X)),
            "config": Kind((3, {"show": False})),
            "projection": Kind((*(v for v in NO_ARRAYS if v is not None), np.ones((3, 2)))),
            "state_traj": Kind(
                (*(v for v in NO_ARRAYS if v is not None), X, TRAJ[..., :1], TRAJ + np.nan)
            ),
        },
    ),
    "plot_fixed_points_2d": Call(
        plot_fixed_points_2d,
        {"fixed_points": points(), "state_traj": TRAJ, "config": PlotConfig(show=False)},
        PLOT_2D,
    ),
    "plot_fixed_points_3d": Call(
        plot_fixed_points_3d,
        {"fixed_points": points(), "state_traj": TRAJ, "config": PlotConfig(show=False)},
        PLOT_3D,
    ),
    "plot_panels": Call(
        plot_panels,
        {
            "fixed_points": {"a": points(), "b": points()},
            "state_traj": TRAJ,
            "config": PlotConfig(show=False),
        },
        {
            **{k: v for k, v in PLOT_2D.items() if k not in ("ax", "fixed_points")},
            "fixed_points": Kind((None, {}, X, points(), {"a": X})),
        },
        {"state_traj": ({"a": TRAJ},), "color_by": ({"a": "time"},)},
    ),
    "task_axes": Call(
        task_axes,
        {
            "state_traj": TRAJ + np.float32([[[0.5]], [[-0.5]]]) * X[1],
            "variables": {"choice": [0, 1]},
            "orthogonal": True,
        },
        {
            "state_traj": STATES_OF_TRIALS,
            "variables": Kind((None, {}, "x", X, {"choice": [1, 1]})),
            "orthogonal": FLAG,
        },
    ),
    "simulate": Call(
        simulate,
        {"F": F, "inputs": TRAJ[..., :1], "x0": X[0]},
        {
            "F": MODEL,
            "inputs": Kind((*NO_ARRAYS, X, TRAJ + np.nan, TRAJ[None]), SAME_STATES),
            "x0": Kind((*NO_ARRAYS, X, X[0] + np.nan), SAME_STATES),
        },
    ),
    "plot_flip_flop": Call(
        plot_flip_flop,
        {"model": F, "state_traj": TRAJ, "inputs": U[0], "config": PlotConfig(show=False)},
        {
            "model": MODEL,
            "state_traj": STATES_OF_TRIALS,
            "inputs": ONE_INPUT,
            "config": Kind((3, {"show": False})),
            "dimensions": Kind(("x", None, True, 1, 4, 2.5)),
            "projection": Kind(("x", 3, np.ones((3, 2)), np.full((2, 3), np.nan))),
            "random_seed": SEED,
            "points": Kind((3, "x", X)),
        },
    ),
    "plot_ring_attractor": Call(
        plot_ring_attractor,
        {"model": F, "state_traj": TRAJ, "inputs": U[0], "config": PlotConfig(show=False)},
        {
            "model": MODEL,
            "state_traj": STATES_OF_TRIALS,
            "inputs": ONE_INPUT,
            "config": Kind((3, {"show": False})),
            "projection": Kind(("x", 3, np.ones((3, 2)), np.full((2, 2), np.nan))),
            "q_max": POSITIVE_OR_NONE,
            "unit": Kind((3, b"ms")),
            "random_seed": SEED,
            "points": Kind((3, "x", X)),
            "ring": Kind((3, "x", X)),
        },
    ),
    "plot_context_integration": Call(
        plot_context_integration,
        {
            "model": F,
            "state_traj": TRAJ,
            "inputs": {"a": U[0], "b": U[0] + 1},
            "config": PlotConfig(show=False),
            **TRIALS,
        },
        {
            "model": MODEL,
            "state_traj": STATES_OF_TRIALS,
            "inputs": Kind((None, {}, "x", X, {"a": U[0]}, {"a": U[0], "b": X[0]})),
            "config": Kind((3, {"show": False})),
            "context": Kind((None, "x", ["a"], X)),
            "evidence": Kind((None, {}, "x", X, {"motion": X})),
            "choice": Kind((None, "x", X, np.ones(2), np.full(2, np.nan))),
            "held": Kind(("x", X, np.full((2, 5), 0.5))),
            "evidence_inputs": Kind(("x", 3, {}, {"motion": 1}, {"motion": X})),
            "axes": Kind(("x", 3, {}, {"choice": X[0]}, {"choice": X[0], "motion": X})),
            "q_max": POSITIVE_OR_NONE,
            "random_seed": SEED,
            "points": Kind((3, "x", {"a": X})),
            "lines": Kind((3, "x", {"b": X})),
        },
    ),
    "animate_fixed_points": Call(
        animate_fixed_points,
        {"fixed_points": points(), "state_traj": TRAJ, "config": PlotConfig(show=False)},
        {
            **{k: v for k, v in PLOT_2D.items() if k not in ("ax", "eigenvectors")},
            "state_traj": Kind((*TRAJECTORIES.wrong, TRAJ[:, :1])),
            "color_by": Kind((*PLOT_2D["color_by"].wrong, "time")),
            "dimensions": Kind(("x", None, True, 1, 4, 2.5)),
        },
    ),
    "FixedPoints": Call(
        FixedPoints,
        {"xstar": X, "tol_unique": 1e-3, "continuous_time": False, "n_modes": 0},
        {
            "tol_unique": NUMBER,
            "continuous_time": FLAG,
            "n_modes": Kind((*NO_COUNTS, None, np.inf), SAME_COUNT),
        },
        {"xstar": (X[0], X[None]), "qstar": (X,), "J_xstar": (X,)},
    ),
    "FixedPoints.plot": Call(
        points().plot,
        {"state_traj": TRAJ, "config": PlotConfig(show=False), "dimensions": 2},
        {
            "dimensions": Kind(("x", None, True, 1, 4, 2.5)),
            "state_traj": PLOT_2D["state_traj"],
            "config": PLOT_2D["config"],
        },
    ),
    "FixedPoints.save": Call(points().save, {"path": "unused"}, {"path": PATH}),
    "FixedPoints.load": Call(FixedPoints.load, {"path": "unused"}, {"path": PATH}),
    "FixedPoints.transform": Call(
        points().transform,
        {"U": np.eye(2, dtype=np.float32), "offset": np.zeros(2, np.float32)},
        {"U": PROJECTION},
        {"offset": ("x", np.zeros(3), 1j)},
    ),
    "FixedPoints.types": Call(
        decompose(with_jacobians()).types, {"line_tol": 0.01}, {"line_tol": NUMBER}
    ),
    "FixedPoints.print_summary": Call(
        points().print_summary,
        {"max_rows": 3, "dt": None},
        {"max_rows": FROM_ZERO, "dt": Kind(POSITIVE_OR_NONE.wrong)},
    ),
    "FixedPointFinder": Call(
        finder,
        {"rnn_model": F},
        {
            "rnn_model": MODEL,
            "method": WORD,
            "dtype": Kind(("float16", None, np.float32, 32)),
            "do_compute_jacobians": FLAG,
            "do_decompose_jacobians": FLAG,
            "do_exclude_distance_outliers": FLAG,
            "do_rerun_q_outliers": FLAG,
            "verbose": FLAG,
            "super_verbose": FLAG,
            "across_processes": FLAG,
            "keep_unfinished": FLAG,
            "search_between": FLAG,
            "coverage": Kind((*NO_NUMBERS, 1.0, np.inf)),
            "lr_init": NUMBER_OR_NONE,
            "lr_factor": NUMBER,
            "lr_patience": FROM_ZERO_OR_INFINITY,
            "lr_cooldown": FROM_ZERO,
            "outlier_distance_scale": NUMBER_OR_NONE,
            "outlier_q_scale": NUMBER,
            "max_n_unique": FROM_ZERO_OR_INFINITY,
            "n_iters_per_print_update": COUNT,
            "random_seed": SEED,
            "memory_limit": COUNT_OR_NONE,
            "mesh": MESH,
            **SETTINGS,
            **SELECTION,
        },
    ),
    "FixedPointFinder.find_fixed_points": Call(
        find,
        {
            "state_traj": TRAJ,
            "inputs": U,
            "n_inits": 4,
            "noise_scale": 0.5,
            "valid_bxt": np.ones((2, 5), bool),
            "cond_ids": np.arange(4),
        },
        {
            "state_traj": Kind(TRAJECTORIES.wrong, SAME_ARRAY),
            "inputs": INPUTS,
            "n_inits": COUNT,
            "noise_scale": FINITE,
            "valid_bxt": MASK,
            "cond_ids": LABELS,
            "progress": CALLBACK,
        },
    ),
    "Search": Call(
        search,
        {
            "F": F,
            "state_traj": TRAJ,
            "inputs": U,
            "directory": "unused",
            "n_inits": 4,
            "chunk": 3,
            "noise_scale": 0.5,
            "valid_bxt": np.ones((2, 5), bool),
            "keep_rows": False,
            "random_seed": 3,
            "tol_unique": 1e-3,
            "final_q_threshold": 1e-8,
            **RIGHT_SETTINGS,
        },
        {
            "F": MODEL,
            "state_traj": TRAJECTORIES,
            "inputs": INPUTS,
            "directory": PATH,
            "n_inits": COUNT,
            "chunk": COUNT,
            "random_seed": SEED,
            "noise_scale": FINITE,
            "valid_bxt": MASK,
            "keep_rows": FLAG,
            "mesh": MESH,
            **SETTINGS,
            **SELECTION,
        },
    ),
    "Search.load": Call(Search.load, {"directory": "unused"}, {"directory": PATH}),
    "Search.load_rows": Call(
        Search.load_rows,
        {"directory": "unused", "chunk": 0},
        {"directory": PATH, "chunk": Kind(FROM_ZERO.wrong)},
    ),
    "Adam": Call(
        solved_by(Adam),
        {"lr_patience": 5, "lr_cooldown": 2, "lr_init": 0.5, "lanes": 2, "joint": False},
        {
            "joint": FLAG,
            "lr_init": NUMBER,
            "lr_factor": NUMBER,
            "lr_patience": FROM_ZERO_OR_INFINITY,
            "lr_cooldown": FROM_ZERO,
            "beta_1": NUMBER,
            "beta_2": NUMBER,
            "epsilon": NUMBER,
            "lanes": COUNT,
        },
    ),
    "BoundedNewton": Call(
        solved_by(BoundedNewton),
        {"longest": 0.25, "patience": 20, "lanes": 2},
        {"longest": NUMBER, "patience": COUNT, "lanes": COUNT},
    ),
    "LevenbergMarquardt": Call(
        solved_by(LevenbergMarquardt),
        {"rtol": 1e-5, "damping": 1e-2, "lanes": 2},
        {
            "rtol": NUMBER,
            "xtol": NUMBER,
            "damping": NUMBER,
            "max_step": NUMBER,
            "lanes": COUNT,
            "polish": FLAG,
        },
    ),
    "KrylovTrustRegion": Call(
        solved_by(KrylovTrustRegion),
        {"n_vectors": 2, "radius": 0.3, "patience": 20, "polish": True, "lanes": 2},
        {
            "n_vectors": COUNT,
            "radius": NUMBER,
            "patience": COUNT,
            "polish": FLAG,
            "lanes": COUNT_OR_NONE,
        },
    ),
    "NewtonKrylov": Call(
        solved_by(NewtonKrylov),
        {"n_vectors": 2, "n_lengths": 3, "shrink": 0.25, "lanes": 2},
        {
            "n_vectors": COUNT,
            "n_lengths": COUNT,
            "shrink": NUMBER,
            "radius": NUMBER,
            "xtol": NUMBER,
            "patience": COUNT,
            "lanes": COUNT,
            "polish": FLAG,
        },
    ),
    "save_checkpoint": Call(
        save_checkpoint, {"model": None, "filepath": "unused"}, {"model": MODEL, "filepath": PATH}
    ),
    "load_checkpoint": Call(
        load_checkpoint, {"model": None, "filepath": "unused"}, {"model": MODEL, "filepath": PATH}
    ),
}
# Arguments of which anything is taken, or that are checked elsewhere, with models and fields; and
# the wrappers' own.
ANYTHING = {
    "options",
    "example_state",
    "settings",
    "arguments",
    "rules",
    *FixedPoints.array_fields,
    "dtype",
}
WRONG = [
    (name, argument, value)
    for name, call in CALLS.items()
    for argument in call.kinds | call.also_wrong
    for value in (
        *(call.kinds[argument].wrong if argument in call.kinds else ()),
        *call.also_wrong.get(argument, ()),
    )
]
SAME = [
    (name, argument, same)
    for name, call in CALLS.items()
    for argument, kind in call.kinds.items()
    for same in kind.same
    if argument in call.right
]


# ---- wrong calls ---------------------------------------------------------------------------------


def what_it_was(value):
    """Return words of which a message about `value` has at least one."""
    words = {reprlib.repr(value), type(value).__name__}
    if isinstance(value, np.ma.MaskedArray):
        words |= {"masked entries"}
    elif getattr(value, "dtype", None) == KEY.dtype:
        words |= {f"dtype {value.dtype}"}
    elif isinstance(value, (np.ndarray, np.generic, jax.Array, list)):
        try:
            numbers = np.asarray(value)
        except ValueError:  # ragged
            return words | {"inhomogeneous"}
        words |= {str(numbers.shape), f"dtype {numbers.dtype}"}
        words |= {f"has {size} column" for size in numbers.shape[-1:]}
        if numbers.size and numbers.dtype.kind in "iufb":
            words |= {f"{numbers.size} values", f"holds {numbers.flat[0]}", "is False everywhere"}
            words |= {f"from {numbers.min()} to {numbers.max()}"}
    if isinstance(value, dict):
        words |= {"is empty", "has 0 inputs", "of lengths", "has no '", "are independent"}
        words |= {str(np.shape(each)) for each in value.values()}
        words |= {f"is {each!r}" for each in value.values()}
        words |= {"has 'b', which `inputs` does not have", f"has {len(value)} direction"}
    if isinstance(value, (str, bytes, int)):
        words |= {str(np.shape(value)), f"dtype {np.asarray(value).dtype}"}
    if isinstance(value, FixedPoints):
        words |= {"is None", "(4, 2, 3)", "4 valid rows", "at one place", "differ", "16 values"}
        words |= {"shape (4, 2)"}  # of inputs
    return words


def faults(error, call, argument, value):
    """Return what the message of `error` lacks."""
    text = str(error)
    names = {argument, MODEL_NAMES.get(argument, argument)}
    found = []
    if not isinstance(error, (TypeError, ValueError)):
        found.append("is of no right class")
    if not any(f"`{name}" in text or f".{name}`" in text for name in names):
        found.append("does not name the argument")
    if not any(word in text for word in what_it_was(value)):
        found.append("does not say what it was")
    if "expected" not in text:
        found.append("does not say what was expected")
    return found


def right_arguments(name, tmp_path):
    if name.endswith("checkpoint"):
        brainpy_math = pytest.importorskip("brainpy.math")
        brainpy = pytest.importorskip("brainpy")

        class Model(brainpy.DynamicalSystem):
            def __init__(self):
                super().__init__()
                self.w = brainpy_math.Variable(jnp.eye(2))

        return CALLS[name].right | {"model": Model()}
    return CALLS[name].right


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("name", "argument"), sorted({(name, argument) for name, argument, _ in WRONG})
)
def test_a_wrong_argument_is_named_before_anything_is_compiled(
    name, argument, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    call, complaints = CALLS[name], []
    right = right_arguments(name, tmp_path)
    for value in (v for n, a, v in WRONG if (n, a) == (name, argument)):
        with compilations() as compiled:
            try:
                call.function(**(right | {argument: value}))
                complaints.append((value, "was taken"))
            except Exception as error:
                found = faults(error, call, argument, value)
                if found:
                    complaints.append((value, found, repr(error)))
        if compiled:
            complaints.append((value, "was refused after a compilation"))
    assert complaints == []
    assert list(tmp_path.iterdir()) == []


# What these compile takes long, and the same rules stand behind the others' arguments.
TAKE_LONG = (
    "FixedPointFinder.find_fixed_points",
    "find_fixed_points",
    "find_cycles",
    "search_until",
    "Search",
)


@pytest.mark.one_in(3)
@pytest.mark.parametrize(
    ("name", "argument"),
    [
        pytest.param(*pair, marks=pytest.mark.slow if pair[0] in TAKE_LONG else ())
        for pair in sorted({(name, argument) for name, argument, _ in SAME})
    ],
)
@pytest.mark.slow
def test_an_argument_may_be_written_in_other_ways(name, argument, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    call = CALLS[name]
    expected = call.function(**call.right)
    for value in (same(call.right[argument]) for n, a, same in SAME if (n, a) == (name, argument)):
        result = call.function(**(call.right | {argument: value}))
        if isinstance(result, tuple) and isinstance(result[-1], slowpoints.Rounds):
            assert result[-1] == expected[-1] and leaves_close(result[:2], expected[:2]), value
        elif isinstance(result, slowpoints.BasinBoundary):
            assert str(result) == str(expected) and leaves_close(result.saddle, expected.saddle)
        elif isinstance(result, slowpoints.Branches):
            pairs = zip(result.branches, expected.branches, strict=True)
            assert all(np.allclose(a.xstar, b.xstar) for a, b in pairs)
        elif isinstance(result, (slowpoints.SlowManifold, slowpoints.LineAttractor)) or all(
            eqx.is_array(leaf) for leaf in jax.tree.leaves(result)
        ):
            # A NumPy number is an argument of the compiled program, a Python number a constant of
            # it, and the two programs may round apart, which Adam's 50 steps enlarge.
            assert leaves_close(result, expected, atol=1e-5), value
        elif isinstance(result, list):
            assert result == expected
        elif isinstance(result, slowpoints.RankNeeded):
            assert str(result) == str(expected)
        elif isinstance(result, slowpoints.Smallest):
            assert result.amplitude == pytest.approx(expected.amplitude, rel=1e-5)
        elif isinstance(result, slowpoints.PassageTimes):
            np.testing.assert_allclose(result.fold_distance, expected.fold_distance, rtol=1e-6)
            np.testing.assert_array_equal(result.time, expected.time)
        elif isinstance(result, slowpoints.Account):
            assert result == expected and result.lines == expected.lines
        else:  # a Search in the same folder compares the arguments by itself
            assert isinstance(result, (Search, FixedPointFinder, Figure))


def test_the_table_is_large_and_complete():
    assert len(WRONG) + len(SAME) >= 500
    public = {
        name
        for name in dir(slowpoints)
        if callable(getattr(slowpoints, name)) and not name.startswith("_")
    }
    not_called = {"AbstractSolver", "Transition", "PlotConfig"}  # classes to build upon, and looks
    not_called |= {"cache_programs"}  # see test_compiled_programs
    results = {"Account", "Part", "Status", "Certificates", "Coverage", "LinearModes", "Rounds"}
    results |= {"Branch", "Branches", "Event", "Unproven"}
    results |= {"OrbitBranch", "OrbitBranches", "OrbitEvent"}
    results |= {"PassageTimes", "RankNeeded", "ReducedNetwork"}
    results |= {"AttractorKind", "LyapunovExponents", "ClosedOrbits"}
    results |= {"Edges", "Outcome", "BasinBoundary", "Smallest"}
    results |= {"SlowManifold", "LineAttractor"}
    assert public - not_called - results == {name.split(".")[0] for name in CALLS}
    unchecked = set()
    for name, call in CALLS.items():
        known = inspect.signature(call.function).parameters
        unchecked |= {(name.split(".")[0], argument) for argument in known}
    unchecked -= {(n.split(".")[0], a) for n, c in CALLS.items() for a in c.kinds | c.also_wrong}
    assert {pair for pair in unchecked if pair[1] not in ANYTHING} == set()


@pytest.mark.slow
def test_traced_masks_old_keys_and_endless_patience_are_right():
    mask, old_key = np.ones((2, 5), int), np.asarray(jax.random.PRNGKey(0))
    drawn = jax.jit(lambda mask: sample_states(old_key, TRAJ, 4, 0.1, mask))(mask)
    np.testing.assert_allclose(drawn, sample_states(KEY, TRAJ, 4, 0.1, mask), rtol=1e-6)
    endless = Adam(lr_patience=np.inf, lr_init=1e-2)
    fps = optimize_batch(F, X, U, solver=endless, max_iters=20)
    same = optimize_batch(F, X, U, solver=Adam(lr_patience=1000, lr_init=1e-2), max_iters=20)
    assert leaves_equal(fps, same)


@pytest.mark.slow
def test_tensors_are_numbers_states_and_labels():
    torch = pytest.importorskip("torch")
    states = torch.tensor(X, requires_grad=True)
    right = {"F": F, "x_init": X, "inputs": U, "cond_id": np.arange(4.0, dtype=np.float32)}
    given = right | {
        "x_init": list(states),
        "cond_id": torch.arange(4.0).requires_grad_(),
        "tol_q": torch.tensor(1e-12, dtype=torch.float64),
    }
    assert leaves_equal(optimize_batch(**given), optimize_batch(**right))
    for bad in (torch.zeros(4, 2, device="meta"), torch.zeros(4, 2).to_sparse()):
        with pytest.raises(TypeError, match=r"`x_init` is a torch.Tensor, which is not an array"):
            optimize_batch(F, bad, U)


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (FixedPoints(np.zeros((1, 1))), "slowpoints.FixedPoints"),
        (slowpoints.solvers.Report(print), "slowpoints.solvers.Report"),
        (functools.partial(print), "functools.partial"),
    ],
)
def test_a_message_calls_a_class_by_the_name_that_users_import_it_by(value, name):
    with pytest.raises(TypeError, match=f"is a {name}; expected"):
        iterate(lambda x, u: x, value)
