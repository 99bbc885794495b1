"""Strategies that take a state to a fixed point or a slow point."""

from slowpoints.solvers.adam import Adam as Adam
from slowpoints.solvers.base import AbstractRowSolver as AbstractRowSolver
from slowpoints.solvers.base import AbstractSolver as AbstractSolver
from slowpoints.solvers.base import Found as Found
from slowpoints.solvers.base import Report as Report
from slowpoints.solvers.base import Stopping as Stopping
from slowpoints.solvers.krylov_trust_region import KrylovTrustRegion as KrylovTrustRegion
from slowpoints.solvers.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from slowpoints.solvers.newton_krylov import NewtonKrylov as NewtonKrylov
