"""Fixed points and slow points of recurrent networks, and the linearised dynamics around them.

The core is a pipeline of pure functions, in the order of these imports. The class that BrainPy's
users know, plots and checkpoints are below; they load what they need (BrainPy, matplotlib,
scikit-learn) at first use.
"""

# ruff: noqa: I001
from slowpoints._core.version import __version__ as __version__

# The pipeline.
from slowpoints._transition.base import Transition as Transition
from slowpoints._transition.convert import as_transition as as_transition
from slowpoints._transition.continuous_time import ContinuousTime as ContinuousTime
from slowpoints._transition.iterates import iterate as iterate
from slowpoints._transition.along import along as along
from slowpoints._transition.speed import q_fn as q_fn
from slowpoints._sample import sample_inputs_and_states as sample_inputs_and_states
from slowpoints._sample import sample_states as sample_states
from slowpoints._sample import input_grid as input_grid
from slowpoints._core.status import Status as Status
from slowpoints._points.fixed_points import FixedPoints as FixedPoints
from slowpoints._search import optimize_batch as optimize_batch
from slowpoints._certificates.certify import Certificates as Certificates, certify as certify
from slowpoints._unique import unique as unique
from slowpoints._select import select as select
from slowpoints._jacobians import jacobians as jacobians
from slowpoints._decompose import decompose as decompose
from slowpoints._points.parts import Part as Part
from slowpoints._account import Account as Account, account as account
from slowpoints._pipeline import find_fixed_points as find_fixed_points

# Strategies for `optimize_batch`.
from slowpoints._solvers.base import AbstractSolver as AbstractSolver
from slowpoints._solvers.krylov_trust_region import KrylovTrustRegion as KrylovTrustRegion
from slowpoints._solvers.newton_krylov import NewtonKrylov as NewtonKrylov
from slowpoints._solvers.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from slowpoints._solvers.adam import Adam as Adam

# What solvers of one's own are made of.
from slowpoints import solvers as solvers

# What is read from a network and its points, and searches that take long.
from slowpoints._analysis.cycles import cycles as cycles
from slowpoints._analysis.find_cycles import find_cycles as find_cycles
from slowpoints._analysis.degree import degree as degree
from slowpoints._analysis.coverage import Coverage as Coverage, coverage as coverage
from slowpoints._analysis.find_all import find_all as find_all
from slowpoints._analysis.search_until import Rounds as Rounds, search_until as search_until
from slowpoints._analysis.branches import Branch as Branch, Branches as Branches, Event as Event
from slowpoints._analysis.continuation import continuation as continuation
from slowpoints._analysis.endings import Outcome as Outcome
from slowpoints._analysis.connections import Connections as Connections, Edges as Edges
from slowpoints._analysis.connections import connections as connections
from slowpoints._analysis.basin_boundary import BasinBoundary as BasinBoundary
from slowpoints._analysis.basin_boundary import basin_boundary as basin_boundary
from slowpoints._analysis.smallest import Smallest as Smallest
from slowpoints._analysis.smallest import smallest_kick as smallest_kick
from slowpoints._analysis.smallest import smallest_pulse as smallest_pulse
from slowpoints._analysis.ghosts import PassageTimes as PassageTimes, passage_time as passage_time
from slowpoints._analysis.low_rank import LowRank as LowRank, low_rank as low_rank
from slowpoints._analysis.low_rank import ReducedNetwork as ReducedNetwork
from slowpoints._analysis.rank_needed import RankNeeded as RankNeeded, rank_needed as rank_needed
from slowpoints._analysis.linear_modes import LinearModes as LinearModes
from slowpoints._analysis.linear_modes import linear_modes as linear_modes
from slowpoints._analysis.slow_manifold import SlowManifold as SlowManifold
from slowpoints._analysis.slow_manifold import slow_manifold as slow_manifold
from slowpoints._analysis.line_attractor import LineAttractor as LineAttractor
from slowpoints._analysis.line_attractor import line_attractor as line_attractor
from slowpoints._scale.long_search import Search as Search

# The documented class, and what goes with it.
from slowpoints._finder import FixedPointFinder as FixedPointFinder
from slowpoints._plots.config import PlotConfig as PlotConfig
from slowpoints._plots.fixed_points import plot_fixed_points_2d as plot_fixed_points_2d
from slowpoints._plots.fixed_points import plot_fixed_points_3d as plot_fixed_points_3d
from slowpoints._plots.branches import plot_branches as plot_branches
from slowpoints._plots.connections import plot_connections as plot_connections
from slowpoints._checkpoints.checkpoints import load_checkpoint as load_checkpoint
from slowpoints._checkpoints.checkpoints import save_checkpoint as save_checkpoint

# Help and pickles call public objects by the names that users import them by. (The price is that
# `inspect.getsource` does not find the source of classes.)
for _public in list(globals().values()):
    if getattr(_public, "__module__", "").startswith("slowpoints._"):
        _public.__module__ = "slowpoints"
del _public  # pyright: ignore[reportPossiblyUnboundVariable]
