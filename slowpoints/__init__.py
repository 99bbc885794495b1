"""Fixed points and slow points of recurrent networks, and the linearised dynamics around them.

The core is a pipeline of pure functions, in the order of these imports. The class that BrainPy's
users know, plots and checkpoints are below; they load what they need (BrainPy, matplotlib,
scikit-learn) at first use.
"""

# The pipeline.
from slowpoints._account import Account as Account
from slowpoints._account import Part as Part
from slowpoints._account import account as account
from slowpoints._analysis.cycles import cycles as cycles
from slowpoints._analysis.find_cycles import find_cycles as find_cycles
from slowpoints._checkpoints.checkpoints import load_checkpoint as load_checkpoint
from slowpoints._checkpoints.checkpoints import save_checkpoint as save_checkpoint
from slowpoints._core.status import Status as Status
from slowpoints._decompose import decompose as decompose

# The documented class, and what goes with it.
from slowpoints._finder import FixedPointFinder as FixedPointFinder
from slowpoints._input_grid import input_grid as input_grid
from slowpoints._jacobians import jacobians as jacobians
from slowpoints._pipeline import find_fixed_points as find_fixed_points
from slowpoints._plots.plots import PlotConfig as PlotConfig
from slowpoints._plots.plots import plot_fixed_points_2d as plot_fixed_points_2d
from slowpoints._plots.plots import plot_fixed_points_3d as plot_fixed_points_3d
from slowpoints._points.fixed_points import FixedPoints as FixedPoints
from slowpoints._sample import sample_inputs_and_states as sample_inputs_and_states
from slowpoints._sample import sample_states as sample_states
from slowpoints._scale.long_search import Search as Search
from slowpoints._search import optimize_batch as optimize_batch
from slowpoints._transition.base import Transition as Transition
from slowpoints._transition.continuous_time import ContinuousTime as ContinuousTime
from slowpoints._transition.convert import as_transition as as_transition
from slowpoints._transition.iterate import iterate as iterate
from slowpoints._transition.speed import q_fn as q_fn
from slowpoints._unique import unique as unique

# Strategies for `optimize_batch`.
from slowpoints.solvers import AbstractSolver as AbstractSolver
from slowpoints.solvers import Adam as Adam
from slowpoints.solvers import KrylovTrustRegion as KrylovTrustRegion
from slowpoints.solvers import LevenbergMarquardt as LevenbergMarquardt
from slowpoints.solvers import NewtonKrylov as NewtonKrylov

__version__ = "0.1.0"
