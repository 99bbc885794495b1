"""The default solver: cheap first, robust where that fails, precise at the end."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints.precision import computes_in_float64
from slowpoints.solvers.base import AbstractRowSolver, AbstractSolver, Found, Report, Stopping
from slowpoints.solvers.levenberg_marquardt import LevenbergMarquardt
from slowpoints.solvers.newton_krylov import NewtonKrylov
from slowpoints.solvers.trust_region import TrustRegion
from slowpoints.transition import Transition, with_precision
from slowpoints.types import Number


class Cascade(AbstractSolver):
    """Newton-Krylov for all rows, a robust method for what is left, to float64's last digits.

    1. `fast` takes every row as far as it can, without forming a Jacobian.
    2. `robust` takes over the rows that did not settle: those in the reach of a slow point, those
       that need a shorter step, and those where a few Krylov vectors do not resolve `I - J`. A row
       that comes to `q < tol_q` there without settling is marked `escaped`: its `q` falls without
       end, as in the tails of saturating units.

    States and residuals are in float64, whatever the precision of the search, so that rows on one
    point agree on it.

    Attributes:
        fast: the first solver; by default `NewtonKrylov`, with 128 lanes up to 64 states, and 64
            beyond, where the vectors of more would not stay in the processor's cache.
        robust: the second one; by default `LevenbergMarquardt` up to 64 states, where Jacobians are
            cheap, and `TrustRegion`, which forms none, beyond. Up to 256 states, rows that run out
            of iterations there go on with `LevenbergMarquardt`, whatever that costs.
        close: rows with `q` below this, or below `tol_q`, that do not settle have escaped.
    """

    fast: AbstractRowSolver | None = None
    robust: AbstractRowSolver | None = None
    close: Number = 1e-8

    @property
    def needs_forward_mode(self) -> bool:
        """The phases' steps are made of products with the Jacobian."""
        return True

    def uses_float64(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
    ) -> bool:
        """Whether `F` can be evaluated in float64."""
        return computes_in_float64(F, x_init, inputs)

    def run(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None = None,
    ) -> Found:
        """Take every row through the phases."""
        if not self.uses_float64(F, x_init, inputs):
            return self._phases(F, x_init, inputs, stopping, report)
        dtypes = jax.tree.map(lambda a: a.dtype, Found.nothing(x_init[:0]))
        with jax.enable_x64(True):
            x, u = x_init.astype(np.float64), inputs.astype(np.float64)
            found = self._phases(with_precision(F, np.float64), x, u, stopping, report)
            return jax.tree.map(lambda a, dtype: a.astype(dtype), found, dtypes)

    def _phases(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None,
    ) -> Found:
        n_states = x_init.shape[1]
        fast = self.fast or NewtonKrylov(lanes=128 if n_states <= 64 else 64)
        robust = (self.robust,) if self.robust else _robust(n_states)
        exactly = stopping._replace(tol_q=jnp.zeros(()), tol_dq=jnp.zeros(()))
        found = fast.run(F, x_init, inputs, _at_most(20, exactly), report)
        left = unsettled = jnp.isfinite(found.q) & ~found.settled
        for place, solver in enumerate(robust, start=1):
            limits = _at_most(100 if place == len(robust) else 60, exactly)
            before = found.n_iters
            found = solver.resume(F, found, inputs, limits, left, report)
            out_of_time = found.n_iters - before >= limits.max_iters
            left = left & (~found.settled | out_of_time)
        close = found.q < jnp.maximum(stopping.tol_q, self.close)
        return found._replace(escaped=unsettled & close & ~found.settled)


def _robust(n_states: int) -> tuple[AbstractRowSolver, ...]:
    # Towards a slow point convergence is linear: stopped early, rows on one would seem to be many.
    dense = LevenbergMarquardt(rtol=1e-8, lanes=16)
    matrix_free = TrustRegion(rtol=1e-7, n_vectors=16, forcing=0.1, lanes=16)
    if n_states <= 64:
        return (dense,)
    return (matrix_free, dense) if n_states <= 256 else (matrix_free,)


def _at_most(max_iters: int, stopping: Stopping) -> Stopping:
    return stopping._replace(max_iters=jnp.minimum(stopping.max_iters, max_iters))
