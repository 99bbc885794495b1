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
        robust: the second one; by default `LevenbergMarquardt` up to 256 states, where Jacobians
            are cheap, and `TrustRegion`, which forms none, beyond.
        close: rows with `q` below this, or below `tol_q`, that do not settle have escaped.
    """

    fast: AbstractRowSolver | None = None
    robust: AbstractRowSolver | None = None
    close: Number = 1e-8

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
        default_fast, default_robust = _defaults(x_init.shape[1])
        fast, robust = self.fast or default_fast, self.robust or default_robust
        exactly = stopping._replace(tol_q=jnp.zeros(()), tol_dq=jnp.zeros(()))
        found = fast.run(F, x_init, inputs, _at_most(20, exactly), report)
        left = jnp.isfinite(found.q) & ~found.settled
        found = robust.resume(F, found, inputs, _at_most(100, exactly), left, report)
        close = found.q < jnp.maximum(stopping.tol_q, self.close)
        return found._replace(escaped=left & close & ~found.settled)


def _defaults(n_states: int) -> tuple[AbstractRowSolver, AbstractRowSolver]:
    fast = NewtonKrylov(lanes=128 if n_states <= 64 else 64)
    # Towards a slow point convergence is linear: stopped early, rows on one would seem to be many.
    if n_states <= 256:
        return fast, LevenbergMarquardt(rtol=1e-8, lanes=16)
    return fast, TrustRegion(rtol=1e-7, n_vectors=16, forcing=0.1, lanes=16)


def _at_most(max_iters: int, stopping: Stopping) -> Stopping:
    return stopping._replace(max_iters=jnp.minimum(stopping.max_iters, max_iters))
