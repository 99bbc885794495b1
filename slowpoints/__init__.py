"""Fixed points and slow points of recurrent networks, and the linearised dynamics around them.

The core is a pipeline of pure functions, in the order of these imports. Analyses, the class that
BrainPy's users know, plots and checkpoints are below; they and what they need (BrainPy,
matplotlib, scikit-learn) load at first use.
"""

# ruff: noqa: I001
import sys as _sys
from importlib import import_module as _import_module
from typing import TYPE_CHECKING as _TYPE_CHECKING, Any as _Any

from slowpoints._core.version import __version__ as __version__

# The pipeline.
from slowpoints._network.base import Transition as Transition
from slowpoints._network.as_transition import as_transition as as_transition
from slowpoints._network.continuous_time import ContinuousTime as ContinuousTime
from slowpoints._network.iterate import iterate as iterate
from slowpoints._network.along import along as along
from slowpoints._network.q_fn import q_fn as q_fn
from slowpoints._search.sample import sample_inputs_and_states as sample_inputs_and_states
from slowpoints._search.sample import sample_states as sample_states
from slowpoints._search.sample import input_grid as input_grid
from slowpoints._points.status import Status as Status
from slowpoints._points.fixed_points import FixedPoints as FixedPoints
from slowpoints._search.optimize_batch import optimize_batch as optimize_batch
from slowpoints._proofs.certify import Certificates as Certificates, certify as certify
from slowpoints._points.unique import unique as unique
from slowpoints._pipeline.select import select as select
from slowpoints._points.jacobians import jacobians as jacobians
from slowpoints._points.decompose import decompose as decompose
from slowpoints._pipeline.parts import Part as Part
from slowpoints._pipeline.account import Account as Account, account as account
from slowpoints._pipeline.find_fixed_points import find_fixed_points as find_fixed_points

# Strategies for `optimize_batch`.
from slowpoints._solvers.base import AbstractSolver as AbstractSolver
from slowpoints._solvers.bounded_newton import BoundedNewton as BoundedNewton
from slowpoints._solvers.krylov_trust_region import KrylovTrustRegion as KrylovTrustRegion
from slowpoints._solvers.newton_krylov import NewtonKrylov as NewtonKrylov
from slowpoints._solvers.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from slowpoints._solvers.adam import Adam as Adam

# Where compiled programs are kept.
from slowpoints._core.programs import cache_programs as cache_programs

# What solvers of one's own are made of.
from slowpoints import solvers as solvers

# What follows loads at first use: importing all of it takes a quarter as long as importing JAX
# does, and a program needs little of it. It is listed here for readers and type checkers, and once
# more in `_LATER`, by modules.
if _TYPE_CHECKING:
    # What is read from a network and its points, and searches that take long.
    from slowpoints._cycles.cycles import cycles as cycles
    from slowpoints._cycles.find_cycles import find_cycles as find_cycles
    from slowpoints._completeness.degree import degree as degree
    from slowpoints._completeness.coverage import Coverage as Coverage, coverage as coverage
    from slowpoints._proofs.find_all import find_all as find_all
    from slowpoints._completeness.search_until import Rounds as Rounds, search_until as search_until
    from slowpoints._continuation.branches import (
        Branch as Branch,
        Branches as Branches,
        Event as Event,
        Unproven as Unproven,
    )
    from slowpoints._continuation.continuation import continuation as continuation
    from slowpoints._connections.outcome import Outcome as Outcome
    from slowpoints._connections.connections import Connections as Connections, Edges as Edges
    from slowpoints._connections.connections import connections as connections
    from slowpoints._connections.basin_boundary import BasinBoundary as BasinBoundary
    from slowpoints._connections.basin_boundary import basin_boundary as basin_boundary
    from slowpoints._connections.smallest_kick import Smallest as Smallest
    from slowpoints._connections.smallest_kick import smallest_kick as smallest_kick
    from slowpoints._connections.smallest_kick import smallest_pulse as smallest_pulse
    from slowpoints._modes.passage_time import (
        PassageTimes as PassageTimes,
        passage_time as passage_time,
    )
    from slowpoints._modes.low_rank import LowRank as LowRank, low_rank as low_rank
    from slowpoints._modes.low_rank import ReducedNetwork as ReducedNetwork
    from slowpoints._modes.rank_needed import (
        RankNeeded as RankNeeded,
        rank_needed as rank_needed,
    )
    from slowpoints._modes.linear_modes import LinearModes as LinearModes
    from slowpoints._modes.linear_modes import linear_modes as linear_modes
    from slowpoints._modes.slow_manifold import SlowManifold as SlowManifold
    from slowpoints._modes.slow_manifold import slow_manifold as slow_manifold
    from slowpoints._modes.line_attractor import LineAttractor as LineAttractor
    from slowpoints._modes.line_attractor import line_attractor as line_attractor
    from slowpoints._storage.search import Search as Search

    # The documented class, and what goes with it.
    from slowpoints._finder import FixedPointFinder as FixedPointFinder
    from slowpoints._drawing.config import PlotConfig as PlotConfig
    from slowpoints._plots.fixed_points import plot_fixed_points_2d as plot_fixed_points_2d
    from slowpoints._plots.fixed_points import plot_fixed_points_3d as plot_fixed_points_3d
    from slowpoints._plots.animation import animate_fixed_points as animate_fixed_points
    from slowpoints._plots.branches import plot_branches as plot_branches
    from slowpoints._plots.connections import plot_connections as plot_connections
    from slowpoints._plots.eigenvalues import plot_eigenvalues as plot_eigenvalues
    from slowpoints._plots.flow_field import plot_flow_field as plot_flow_field
    from slowpoints._plots.search_account import plot_account as plot_account
    from slowpoints._plots.line_attractor import plot_line_attractor as plot_line_attractor
    from slowpoints._storage.checkpoints import load_checkpoint as load_checkpoint
    from slowpoints._storage.checkpoints import save_checkpoint as save_checkpoint

_LATER = {
    "slowpoints._cycles.cycles": ("cycles",),
    "slowpoints._cycles.find_cycles": ("find_cycles",),
    "slowpoints._completeness.degree": ("degree",),
    "slowpoints._completeness.coverage": ("Coverage", "coverage"),
    "slowpoints._proofs.find_all": ("find_all",),
    "slowpoints._completeness.search_until": ("Rounds", "search_until"),
    "slowpoints._continuation.branches": ("Branch", "Branches", "Event", "Unproven"),
    "slowpoints._continuation.continuation": ("continuation",),
    "slowpoints._connections.outcome": ("Outcome",),
    "slowpoints._connections.connections": ("Connections", "Edges", "connections"),
    "slowpoints._connections.basin_boundary": ("BasinBoundary", "basin_boundary"),
    "slowpoints._connections.smallest_kick": ("Smallest", "smallest_kick", "smallest_pulse"),
    "slowpoints._modes.passage_time": ("PassageTimes", "passage_time"),
    "slowpoints._modes.low_rank": ("LowRank", "low_rank", "ReducedNetwork"),
    "slowpoints._modes.rank_needed": ("RankNeeded", "rank_needed"),
    "slowpoints._modes.linear_modes": ("LinearModes", "linear_modes"),
    "slowpoints._modes.slow_manifold": ("SlowManifold", "slow_manifold"),
    "slowpoints._modes.line_attractor": ("LineAttractor", "line_attractor"),
    "slowpoints._storage.search": ("Search",),
    "slowpoints._finder": ("FixedPointFinder",),
    "slowpoints._drawing.config": ("PlotConfig",),
    "slowpoints._plots.fixed_points": ("plot_fixed_points_2d", "plot_fixed_points_3d"),
    "slowpoints._plots.animation": ("animate_fixed_points",),
    "slowpoints._plots.branches": ("plot_branches",),
    "slowpoints._plots.connections": ("plot_connections",),
    "slowpoints._plots.eigenvalues": ("plot_eigenvalues",),
    "slowpoints._plots.flow_field": ("plot_flow_field",),
    "slowpoints._plots.search_account": ("plot_account",),
    "slowpoints._plots.line_attractor": ("plot_line_attractor",),
    "slowpoints._storage.checkpoints": ("load_checkpoint", "save_checkpoint"),
}
_MODULES = {name: module for module, names in _LATER.items() for name in names}
__all__ = [name for name in (*globals(), *_MODULES) if not name.startswith("_")]  # pyright: ignore[reportUnsupportedDunderAll]


def _call_by_public_names() -> None:
    """Let help and pickles call public objects by the names that users import them by.

    The price is that `inspect.getsource` does not find the source of classes.
    """
    for public in list(globals().values()):
        if getattr(public, "__module__", "").startswith("slowpoints._"):
            public.__module__ = "slowpoints"


def __getattr__(name: str) -> _Any:
    """Load the module that defines a public name, and keep all public names that came with it."""
    if name not in _MODULES:
        raise AttributeError(f"module 'slowpoints' has no attribute {name!r}")
    _import_module(_MODULES[name])
    for module, names in _LATER.items():
        loaded = vars(_sys.modules[module]) if module in _sys.modules else {}
        globals().update({each: loaded[each] for each in names if each in loaded})
    _call_by_public_names()
    return globals()[name]


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))


_call_by_public_names()
