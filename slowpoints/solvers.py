"""What a solver is made of, and those that there are. For solvers of your own."""

from slowpoints._solvers.adam import Adam as Adam
from slowpoints._solvers.base import AbstractRowSolver as AbstractRowSolver
from slowpoints._solvers.base import AbstractSolver as AbstractSolver
from slowpoints._solvers.base import Found as Found
from slowpoints._solvers.base import Stopping as Stopping
from slowpoints._solvers.bounded_newton import BoundedNewton as BoundedNewton
from slowpoints._solvers.krylov_trust_region import KrylovTrustRegion as KrylovTrustRegion
from slowpoints._solvers.levenberg_marquardt import LevenbergMarquardt as LevenbergMarquardt
from slowpoints._solvers.newton_krylov import NewtonKrylov as NewtonKrylov
from slowpoints._solvers.report import Report as Report
from slowpoints._solvers.termination import End as End
