"""The default solver: quick Newton-Krylov steps, and a trust region for rows that need more."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core.types import Number
from slowpoints._network.base import Transition
from slowpoints._solvers.base import (
    AbstractRowSolver,
    AbstractSolver,
    Found,
    Stopping,
    check_settings,
    run_stages,
)
from slowpoints._solvers.kinks.kink_newton import KinkNewton
from slowpoints._solvers.minimum_newton import MinimumNewton
from slowpoints._solvers.newton_krylov import NewtonKrylov
from slowpoints._solvers.report import Report
from slowpoints._solvers.subspace_trust_region import DENSE_LIMIT, WHOLE, SubspaceTrustRegion

_LEAVE_AFTER = 5
"""After this many consecutive iterations with little gain, a row leaves the Krylov space."""

_NEGLIGIBLE = 1e-8
"""A row ends in the Krylov space if its step is below this fraction of the state's size. Along slow
directions, that space may hold only a tenth of Newton's step, which is compared with 5e-7 when the
row is judged."""

_ALONE_FROM = 64
"""From this many states on, as long as Jacobians are factorised, exact steps are taken for one row
at a time: a loop adds less time than a factorisation takes, and no lane is left idle."""


_LANES, _LANES_OF_CPU, _FEW_STATES = 64, 16, 32
"""How many rows are in work at a time. A CPU is no faster with more (measured from 100 to 256
states), and 16 lanes without a row take little time; with few states, a step takes about as long
for 64 rows as for 16."""


class KrylovTrustRegion(AbstractSolver):
    """Newton-Krylov steps of bounded length, then exact trust-region steps: the default solver.

    1. Each row takes Newton steps in the Krylov space of `I - J` and the residual (Brown & Saad
       1990), within a radius of its own. No Jacobian is formed. Most rows end here, at fixed
       points.
    2. Rows for which this space is not enough, at slow points or in curved valleys, continue with
       steps that minimise a model of `q` exactly within a radius (Conn, Gould & Toint 2000, ch. 7).
       Up to 16 states, the model covers all directions; up to 1,024, the network's slow directions
       and Newton's step, from a factorised Jacobian; above that, it covers a larger Krylov space
       with the gradient of `q`. If `q` falls slowly, the model is given the exact curvature of `q`,
       with which rows approach slow points as quickly as fixed points. Steps are corrected for what
       the model missed, as geodesic acceleration does (Transtrum & Sethna 2012), so that rows
       follow curved valleys.
    3. From 17 to 1,024 states, rows at slow points end with Newton's method for a minimum of `q`,
       so that those at one slow point agree on where it is.
    4. Up to 1,024 states, rows that get no further in a network with kinks, as of ReLU units, go
       along these, to where `q` is lowest on them. Kinks are read from the network's program.

    In networks of more than `n_vectors` states, about half of the rows start with a step of the
    network itself, if that lowers `q`.

    How far the first steps may go decides which points are found: long steps leave the basins of
    saddles. This length differs from row to row, and is computed from the row's own state, so
    neither the order of rows nor their number matters. `q` never rises.

    Attributes:
        n_vectors: the dimension of the Krylov space of the first steps.
        radius: the first radius, as a fraction of the square root of `n_states`; each row has its
            own, which is larger or smaller by a factor of up to `e`.
        patience: a row is abandoned if so many iterations do not lower `q` by half, nor the last
            one by a tenth. Outside `jit`, if it is in a valley, as on a ring that is nearly even,
            the search then follows this to its end.
        polish: whether a row continues below `tol_q`, until it is at a fixed point or a slow point.
            If not, it ends as soon as `q` is below `tol_q`: with `tol_q=1e-5`, say, rows stay
            spread along a slow manifold.
        dtype: the precision of the linear algebra; the state is in float64 if the network computes
            in it.
        lanes: how many rows are in work at a time, in the first steps; by default 64, or 16 in
            networks of more than 32 states on a CPU, whose caches hold no more.
    """

    n_vectors: int = 10
    radius: Number = 0.15
    patience: int = 50
    polish: bool = True
    dtype: Any = eqx.field(static=True, default=np.float32)
    lanes: int | None = None

    def __check_init__(self):
        counts = ("n_vectors", "patience", *(() if self.lanes is None else ("lanes",)))
        check_settings(self, numbers=("radius",), counts=counts, flags=("polish",))

    @property
    def refines(self) -> bool:
        """The residual in float64 makes up for linear algebra in lower precision."""
        return True

    @property
    def rescales(self) -> bool:
        """Lengths of steps are compared with 1."""
        return True

    @property
    def follows_valleys(self) -> bool:
        """Steps are straight, and short where a valley bends."""
        return True

    @property
    def needs_forward_mode(self) -> bool:
        """Steps are made of products with the Jacobian."""
        return True

    @property
    def may_run_side_by_side(self) -> bool:
        """Matrices are decomposed one at a time."""
        return True

    def bytes_to_work(self, n_rows: int, n_states: int) -> int:
        """Return about how many bytes all kinds of steps take, as for all solvers."""
        return sum(stage.bytes_to_work(n_rows, n_states) for stage in self.stages(n_states))

    def run(
        self,
        F: Transition,
        x_init: Float[Array, "n n_states"],
        inputs: Float[Array, "n n_inputs"],
        stopping: Stopping,
        report: Report | None = None,
    ) -> Found:
        """Take every row to its end, by other steps where the quick ones do not get there."""
        stages = self.stages(x_init.shape[1])
        return run_stages(stages, F, x_init, inputs, stopping, report)

    def stages(self, n_states: int) -> tuple[AbstractRowSolver, ...]:
        """Return the solvers of quick steps, of exact ones, and of the last at minima and kinks."""
        same: dict[str, Any] = {"radius": self.radius, "polish": self.polish, "dtype": self.dtype}
        leave_after = min(_LEAVE_AFTER, self.patience)
        quick = NewtonKrylov(
            n_vectors=self.n_vectors,
            patience=leave_after,
            xtol=_NEGLIGIBLE,
            lanes=self._quick_lanes(n_states) if self.lanes is None else self.lanes,
            **same,
        )
        lanes = 1 if _ALONE_FROM <= n_states <= DENSE_LIMIT else 4
        exact = SubspaceTrustRegion(patience=self.patience, lanes=lanes, **same)
        # Up to `WHOLE` states, exact steps are Newton's steps for the minimum themselves.
        if n_states > DENSE_LIMIT:
            return quick, exact
        at_kinks = KinkNewton(polish=self.polish, lanes=lanes)
        if n_states <= WHOLE:
            return quick, exact, at_kinks
        return quick, exact, MinimumNewton(polish=self.polish, lanes=lanes), at_kinks

    def _quick_lanes(self, n_states: int) -> int:
        in_caches = jax.default_backend() == "cpu" and n_states > _FEW_STATES
        return _LANES_OF_CPU if in_caches else _LANES
