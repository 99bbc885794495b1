"""All public names, in the order of the pipeline, and after it what is built on its results."""

# ruff: noqa: I001
from ._core.version import __version__ as __version__

# The pipeline.
from ._network.base import Transition as Transition
from ._network.as_transition import as_transition as as_transition
from ._network.continuous_time import ContinuousTime as ContinuousTime
from ._network.iterate import iterate as iterate
from ._network.along import along as along
from ._network.flow import flow as flow
from ._network.stroboscopic import stroboscopic as stroboscopic
from ._network.q_fn import q_fn as q_fn
from ._search.simulate import simulate as simulate
from ._search.sample import sample_inputs_and_states as sample_inputs_and_states
from ._search.sample import sample_states as sample_states
from ._search.sample import sample_ball as sample_ball
from ._search.sample import input_grid as input_grid
from ._points.status import Status as Status
from ._points.fixed_points import FixedPoints as FixedPoints
from ._search.optimize_batch import optimize_batch as optimize_batch
from ._intervals.certificates import Certificates as Certificates
from ._proofs.certify import certify as certify
from ._points.unique import unique as unique
from ._pipeline.select import select as select
from ._points.jacobians import jacobians as jacobians
from ._points.decompose import decompose as decompose
from ._pipeline.parts import Part as Part
from ._pipeline.account import Account as Account, account as account
from ._pipeline.find_fixed_points import find_fixed_points as find_fixed_points

# Strategies for `optimize_batch`.
from ._solvers.base import AbstractSolver as AbstractSolver
from ._solvers.bounded_newton import BoundedNewton as BoundedNewton
from ._solvers.krylov_trust_region import KrylovTrustRegion as KrylovTrustRegion
from ._solvers.newton_krylov import NewtonKrylov as NewtonKrylov
from ._solvers.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from ._solvers.adam import Adam as Adam

# Where compiled programs are kept.
from ._core.program_folder import cache_programs as cache_programs

# What solvers of one's own are made of.
from . import solvers as solvers

# What is read from a network and its points, and searches that take long.
from ._cycles.cycles import cycles as cycles
from ._cycles.find_cycles import find_cycles as find_cycles
from ._completeness.degree import degree as degree
from ._completeness.coverage import Coverage as Coverage, coverage as coverage
from ._proofs.find_all import find_all as find_all
from ._completeness.search_until import Rounds as Rounds, search_until as search_until
from ._continuation.branches import (
    Branch as Branch,
    Branches as Branches,
    Event as Event,
    Unproven as Unproven,
)
from ._continuation.continuation import continuation as continuation
from ._connections.outcome import Outcome as Outcome
from ._connections.connections import Connections as Connections, Edges as Edges
from ._connections.connections import connections as connections
from ._connections.basin_boundary import BasinBoundary as BasinBoundary
from ._connections.basin_boundary import basin_boundary as basin_boundary
from ._connections.smallest_kick import Smallest as Smallest
from ._connections.smallest_kick import smallest_kick as smallest_kick
from ._connections.smallest_kick import smallest_pulse as smallest_pulse
from ._attractors.kinds import AttractorKind as AttractorKind
from ._attractors.attractors import Attractors as Attractors, attractors as attractors
from ._attractors.lyapunov import LyapunovExponents as LyapunovExponents
from ._attractors.lyapunov import lyapunov as lyapunov
from ._closed_orbits.orbits import ClosedOrbits as ClosedOrbits
from ._closed_orbits.closed_orbits import closed_orbits as closed_orbits
from ._closed_orbits.orbit_branches import (
    OrbitBranch as OrbitBranch,
    OrbitBranches as OrbitBranches,
    OrbitEvent as OrbitEvent,
)
from ._modes.passage_time import (
    PassageTimes as PassageTimes,
    passage_time as passage_time,
)
from ._modes.low_rank import LowRank as LowRank, low_rank as low_rank
from ._modes.low_rank import ReducedNetwork as ReducedNetwork
from ._modes.rank_needed import (
    RankNeeded as RankNeeded,
    rank_needed as rank_needed,
)
from ._modes.linear_modes import LinearModes as LinearModes
from ._modes.linear_modes import linear_modes as linear_modes
from ._modes.slow_manifold import SlowManifold as SlowManifold
from ._modes.slow_manifold import slow_manifold as slow_manifold
from ._modes.line_attractor import LineAttractor as LineAttractor
from ._modes.line_attractor import line_attractor as line_attractor
from ._storage.search import Search as Search

# The documented class, and what goes with it.
from ._finder.fixed_point_finder import FixedPointFinder as FixedPointFinder
from ._drawing.config import PlotConfig as PlotConfig
from ._plots.fixed_points import plot_fixed_points_2d as plot_fixed_points_2d
from ._plots.fixed_points import plot_fixed_points_3d as plot_fixed_points_3d
from ._plots.panels import plot_panels as plot_panels
from ._plots.task_axes import task_axes as task_axes
from ._plots.animation import animate_fixed_points as animate_fixed_points
from ._phase_portraits.attractors import plot_attractors as plot_attractors
from ._phase_portraits.attractors import plot_lyapunov as plot_lyapunov
from ._phase_portraits.basins import plane_grid as plane_grid
from ._phase_portraits.basins import plot_basins as plot_basins
from ._phase_portraits.closed_orbits import plot_closed_orbits as plot_closed_orbits
from ._plots.branches import plot_branches as plot_branches
from ._phase_portraits.connections import plot_connections as plot_connections
from ._plots.eigenvalues import plot_eigenvalues as plot_eigenvalues
from ._phase_portraits.flow_field import plot_flow_field as plot_flow_field
from ._plots.search_account import plot_account as plot_account
from ._plots.line_attractor import plot_line_attractor as plot_line_attractor
from ._classical.flip_flop import plot_flip_flop as plot_flip_flop
from ._classical.context_integration import plot_context_integration as plot_context_integration
from ._classical.ring_attractor import plot_ring_attractor as plot_ring_attractor
from ._storage.checkpoints import load_checkpoint as load_checkpoint
from ._storage.checkpoints import save_checkpoint as save_checkpoint
