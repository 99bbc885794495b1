"""Newton's steps of bounded length, whether or not they lower `q`: as many points as there are."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from slowpoints._core.types import Number
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import one_by_one, varying
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._solvers.base import AbstractRowSolver, Found, Stopping, check_settings
from slowpoints._solvers.radius import typical_length
from slowpoints._solvers.termination import End, rounding_floor, step_is_negligible

_MATRICES = 4
"""How many matrices of `n_states` x `n_states` float64 each row in work holds."""


class _State(NamedTuple):
    x: Float[Array, "lanes n_states"]
    q: Float[Array, " lanes"]
    dq: Float[Array, " lanes"]
    n_iters: Int[Array, " lanes"]
    end: Int[Array, " lanes"]
    place: Float[Array, "lanes n_states"]


class BoundedNewton(AbstractRowSolver):
    """Newton's steps of bounded length, which may raise `q`: as many fixed points as there are.

    In networks with very many fixed points, such as chaotic ones, `q` has far more local minima,
    which are slow points. Solvers that lower `q` in each step end at these. A row of this solver
    goes on until it meets a fixed point, and ends at no slow point: where `I - J` is singular, its
    step is long, and takes it elsewhere. Rows that have met no fixed point after `patience` steps
    are `UNFINISHED`, at the state of the lowest `q` that they came to.

    Where a row ends says little of where it started. Up to some 500 units, since each step
    factorises a Jacobian.

    Attributes:
        longest: the longest step, as a fraction of the square root of `n_states`, or of the state's
            norm if that is larger.
        patience: how many steps a row may take.
        lanes: how many rows are in work at a time.
    """

    longest: Number = 0.25
    patience: int = 1000
    lanes: int = 16

    def __check_init__(self):
        check_settings(self, numbers=("longest",), counts=("patience", "lanes"))

    @property
    def refines(self) -> bool:
        """The last steps are shorter than float32 can tell."""
        return True

    @property
    def rescales(self) -> bool:
        """Lengths of steps are compared with 1."""
        return True

    @property
    def follows_valleys(self) -> bool:
        """Steps turn from side to side of a valley, and may leave it."""
        return True

    @property
    def needs_forward_mode(self) -> bool:
        """Jacobians are made of products with them."""
        return True

    @property
    def may_run_side_by_side(self) -> bool:
        """Matrices are decomposed one at a time."""
        return True

    def bytes_per_lane(self, n_states: int) -> int:
        """Return the bytes that the Jacobian and its factors take."""
        return super().bytes_per_lane(n_states) + 8 * _MATRICES * n_states**2

    def init(self, x: Float[Array, "lanes n_states"]) -> _State:
        """Start rows at `x`."""
        start = Found.nothing(x)
        return _State(x, start.q, start.dq, start.n_iters, start.end, place=x)

    def step(
        self,
        F: Transition,
        inputs: Float[Array, "lanes n_inputs"],
        state: _State,
        stopping: Stopping,
    ) -> _State:
        """Take one step from where each row is, and remember the state of the lowest `q`."""
        place = state.place
        eye = jnp.eye(place.shape[-1], dtype=place.dtype)

        def equations(x: Array, u: Array) -> tuple[Array, Array]:
            F_x, jvp = jax.linearize(lambda x: F(x, u), x)
            return F_x - x, eye - jax.vmap(jvp, out_axes=1)(varying(eye, F_x))

        def solved(lane: tuple[Array, Array]) -> Array:
            r, A = lane
            return lapack.lu_solve(lapack.lu_factor(A), r)

        r, A = jax.vmap(equations)(place, inputs)
        q = half_squared_norm(r)
        d = one_by_one(solved, (r, A))
        length = jnp.linalg.norm(d, axis=-1)
        lower = q < state.q
        x = jnp.where(lower[:, None], place, state.x)
        dq = jnp.where(lower & jnp.isfinite(state.q), state.q - q, state.dq)
        n_iters = state.n_iters + 1

        root = lower & (step_is_negligible(length, place) | (q <= rounding_floor(place)))
        stuck = ~jnp.isfinite(q) | ~jnp.isfinite(length) | (n_iters >= self.patience)
        end = jnp.where(root, End.ROOT, jnp.where(stuck, End.STUCK, End.NONE))
        longest = self.longest * typical_length(place)
        place = place + jnp.minimum(1, longest / length)[:, None] * d
        return _State(x, jnp.minimum(q, state.q), dq, n_iters, end, place)
