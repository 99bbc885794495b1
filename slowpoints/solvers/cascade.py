"""The default solver: cheap first, robust where that fails, precise at the end."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from slowpoints.solvers.base import AbstractSolver, Found, Report, Stopping
from slowpoints.solvers.levenberg_marquardt import LevenbergMarquardt
from slowpoints.solvers.newton_krylov import NewtonKrylov
from slowpoints.solvers.refinement import Refinement, computes_in_float64
from slowpoints.transition import Transition, with_precision


class Cascade(AbstractSolver):
    """Newton-Krylov for all rows, Levenberg-Marquardt for the rest, float64 for the last digits.

    1. `fast` takes every row as far as it can. In networks of up to `dense_up_to` states, where
       dense algebra is cheaper, `dense` takes them all the way.
    2. `robust` takes over the rows that are left, down to fixed points and slow points.
    3. `Refinement` sharpens the rows that came close to a fixed point.
    4. `rescue` decides, in float64, about the few rows with a small `q` for which that failed. They
       reach a point that float32 could not resolve, or a slow point, or else their `q` falls
       without end, as in the tails of saturating units: such a row is marked `escaped`.

    Networks of more than `dense_limit` states have no phase with dense algebra.

    Attributes:
        dense: the only solver for small networks.
        fast: the first solver.
        robust: the second one.
        rescue: the last one.
        dense_up_to: up to this many states `fast` is left out.
        dense_limit: above this many states `robust` and `rescue` are.
        close: rows with `q` below this, or below `tol_q`, are refined.
    """

    dense: LevenbergMarquardt = LevenbergMarquardt()
    fast: NewtonKrylov = NewtonKrylov()
    robust: LevenbergMarquardt = LevenbergMarquardt(lanes=32)
    rescue: LevenbergMarquardt = LevenbergMarquardt(lanes=16, damping=1e-12)
    dense_up_to: int = eqx.field(static=True, default=32)
    dense_limit: int = eqx.field(static=True, default=512)
    close: float = 1e-8

    def run(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None = None,
    ) -> Found:
        """Take every row through the phases."""
        n_states = x_init.shape[1]
        if n_states <= self.dense_up_to:
            found = self.dense.run(F, x_init, inputs, _at_most(100, stopping), report)
        else:
            found = self.fast.run(F, x_init, inputs, _at_most(50, stopping), report)
            if n_states <= self.dense_limit:
                left = jnp.isfinite(found.q) & ~found.settled
                most = _at_most(100, stopping)
                found = self.robust.resume(F, found, inputs, most, left, report)
        close = found.q < jnp.maximum(stopping.tol_q, self.close)
        return self._sharpen(F, found, inputs, stopping, close)

    def _sharpen(
        self,
        F: Transition,
        found: Found,
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        close: Bool[Array, " n"],
    ) -> Found:
        dtypes = jax.tree.map(lambda a: a.dtype, found)
        dtype, n_states = found.x.dtype, found.x.shape[1]
        with jax.enable_x64(True):
            F_fine = with_precision(F, np.float64)
            if not computes_in_float64(F_fine, n_states, inputs.shape[1]):
                return found
            fine = Found(*(_widen(a) for a in found))
            u = inputs.astype(np.float64)
            exactly = Stopping(stopping.max_iters, jnp.zeros(()), jnp.zeros(()))
            refinement = Refinement(coarse=F, dtype=dtype)
            fine = refinement.resume(F_fine, fine, u, _at_most(10, exactly), close)
            if n_states <= self.dense_limit:
                unclear = close & ~fine.settled
                fine = self.rescue.resume(F_fine, fine, u, _at_most(40, exactly), unclear)
                fine = fine._replace(escaped=unclear & ~fine.settled)
            return jax.tree.map(lambda a, dtype: a.astype(dtype), fine, dtypes)


def _at_most(max_iters: int, stopping: Stopping) -> Stopping:
    return stopping._replace(max_iters=jnp.minimum(stopping.max_iters, max_iters))


def _widen(a: Array) -> Array:
    kinds = {"f": np.float64, "i": np.int64}
    return a.astype(kinds.get(a.dtype.kind, a.dtype))
