"""Fixed points and slow points of recurrent networks, and the linearised dynamics around them.

The core is a pipeline of pure functions, in the order of these imports. The class that BrainPy's
users know, plots and checkpoints are below; they load what they need (BrainPy, matplotlib,
scikit-learn) at first use.
"""

# The pipeline.
from slowpoints.transition import Transition as Transition, as_transition as as_transition  # noqa: I001
from slowpoints.flow import ContinuousTime as ContinuousTime
from slowpoints.iteration import iterate as iterate
from slowpoints.objective import q_fn as q_fn
from slowpoints.sampling import sample_inputs_and_states as sample_inputs_and_states
from slowpoints.sampling import sample_states as sample_states
from slowpoints.conditions import input_grid as input_grid
from slowpoints.status import Status as Status
from slowpoints.fixed_points import FixedPoints as FixedPoints
from slowpoints.optimization import optimize_batch as optimize_batch
from slowpoints.uniqueness import unique as unique
from slowpoints.periodicity import cycles as cycles
from slowpoints.linearization import jacobians as jacobians
from slowpoints.spectra import decompose as decompose
from slowpoints.accounting import Account as Account, Part as Part, account as account
from slowpoints.pipeline import find_fixed_points as find_fixed_points
from slowpoints.shooting import find_cycles as find_cycles
from slowpoints.long_search import Search as Search

# Strategies for `optimize_batch`.
from slowpoints.solvers import AbstractSolver as AbstractSolver
from slowpoints.solvers import Adam as Adam
from slowpoints.solvers import KrylovTrustRegion as KrylovTrustRegion
from slowpoints.solvers import LevenbergMarquardt as LevenbergMarquardt
from slowpoints.solvers import NewtonKrylov as NewtonKrylov

# The documented class, and what goes with it.
from slowpoints.finder import FixedPointFinder as FixedPointFinder
from slowpoints.plots import PlotConfig as PlotConfig
from slowpoints.plots import plot_fixed_points_2d as plot_fixed_points_2d
from slowpoints.plots import plot_fixed_points_3d as plot_fixed_points_3d
from slowpoints.checkpoints import load_checkpoint as load_checkpoint
from slowpoints.checkpoints import save_checkpoint as save_checkpoint

__version__ = "0.1.0"
