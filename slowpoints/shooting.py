"""`find_cycles`: cycles as fixed points of a map of all their points at once."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from slowpoints import arguments
from slowpoints.diagnosis import check_transition
from slowpoints.fixed_points import FixedPoints
from slowpoints.iteration import iterate
from slowpoints.linearization import jacobians
from slowpoints.objective import half_squared_norm
from slowpoints.periodicity import grouped
from slowpoints.pipeline import find_fixed_points
from slowpoints.spectra import decompose
from slowpoints.transition import Transition, as_transition
from slowpoints.types import Number, RealArray
from slowpoints.uniqueness import unique


class Loop(Transition):
    """A map of `k` states in one vector: each is replaced by the image of the one before it.

    Its fixed points are the cycles of `k` steps. Newton's method on it is multiple shooting: no
    error is carried through `k` steps, as it is in `iterate`, and the `k` states that it starts
    from may be anywhere.
    """

    F: Transition
    k: int = eqx.field(static=True)

    def __call__(self, x: Float[Array, " d"], u: Float[Array, " n_inputs"]) -> Float[Array, " d"]:
        """Return the images, of which the last state's comes first."""
        images = jax.vmap(self.F, in_axes=(0, None))(x.reshape(self.k, -1), u)
        return jnp.roll(images, 1, axis=0).reshape(-1)


def find_cycles(
    F: Any,
    x_init: Float[RealArray, "n k n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"],
    *,
    tol_unique: Number = 1e-3,
    compute_jacobians: bool = True,
    decompose_jacobians: bool = True,
    **settings: Any,
) -> FixedPoints:
    """Search for the cycles of `k` steps, and of the numbers of steps that divide `k`.

    Searches for all points of a cycle at once (multiple shooting), from `k` states for each row.
    From as many starts it finds more than a search for fixed points of `iterate(F, k)`, most so
    for large `k` and strongly unstable cycles, where the `k`-th iterate is steep and the states
    from which Newton's method gets to its fixed points are few.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes.
        x_init: `[n, k, n_states]` where the `k` points of each row start. They need not follow one
            another: states drawn independently try more combinations than parts of trajectories.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n, n_inputs]` the constant inputs.
        tol_unique: points at most this far apart, in the joint `(x, u)` space, are one.
        compute_jacobians: whether to fill `J_xstar` and `dFdu`.
        decompose_jacobians: whether to fill the eigenvalues, eigenvectors and `is_stable` as well.
        settings: other keywords of [`find_fixed_points`][slowpoints.find_fixed_points]. Thresholds
            for `q` and distances of outliers are about all `k` points of a row together.

    Returns:
        One row per point of each cycle, with `period` and `cycle_id` as
        [`cycles`][slowpoints.cycles] gives them. All else is about `k` steps, as for
        [`iterate`][slowpoints.iterate]: `F_xstar`, `qstar`, and Jacobians with their eigenvalues,
        which are the multipliers of the cycle over `k` steps. Inside `jit` the points are the
        `valid` rows of as many as there are states in `x_init`, or `k` times `max_n_unique`.

    Raises:
        ValueError: if an argument has the wrong shape or range.
        TypeError: if `F` is of no known kind, or in continuous time.
    """
    F = as_transition(F)
    caller = "find_cycles"
    x_init = arguments.array(caller, "x_init", x_init, ("n", "k", "n_states"), floating=True)
    arguments.check_precision(caller, "x_init", x_init.dtype)
    arguments.number(caller, "tol_unique", tol_unique)
    arguments.flag(caller, "compute_jacobians", compute_jacobians)
    arguments.flag(caller, "decompose_jacobians", decompose_jacobians)
    n, k, n_states = x_init.shape
    dtype = jax.dtypes.canonicalize_dtype(x_init.dtype)
    inputs = arguments.inputs_of_rows(caller, inputs, n, "row of `x_init`", dtype)
    check_transition(caller, F, n_states, inputs.shape[1], dtype)
    over_k = iterate(F, k)
    loops, _ = find_fixed_points(
        Loop(F, k),
        x_init.reshape(n, k * n_states),
        inputs,
        tol_unique=tol_unique,
        compute_jacobians=False,
        **settings,
    )
    fps = _points(over_k, loops, k, n_states)
    fps = unique(fps, tol_unique, within_conditions=settings.get("within_conditions", False))
    if not isinstance(fps.valid, Tracer):
        fps = fps.compact()
        numbers = np.unique(np.asarray(fps.cycle_id), return_inverse=True)[1]
        fps = fps.replace(cycle_id=jnp.asarray(numbers, np.int32))
    if compute_jacobians:
        fps = jacobians(over_k, fps)
        fps = decompose(fps) if decompose_jacobians else fps
    return fps


def _points(over_k: Transition, loops: FixedPoints, k: int, n_states: int) -> FixedPoints:
    """Return the points of all loops, one row each, those of the first loop first."""
    orbit = loops.xstar.reshape(-1, k, n_states)
    valid = jnp.ones(loops.n, bool) if loops.valid is None else loops.valid
    period, cycle_id = grouped(
        orbit[:, 0],
        loops.inputs,
        jnp.moveaxis(jnp.roll(orbit, -1, axis=1), 1, 0),
        valid,
        jnp.asarray(loops.tol_unique, orbit.dtype),
    )
    row = np.repeat(np.arange(loops.n), k)
    x, u = orbit.reshape(-1, n_states), loops.inputs[row]
    F_x, q = _after_steps(over_k, x, u)
    return FixedPoints(
        xstar=x,
        F_xstar=F_x,
        inputs=u,
        qstar=q,
        dq=loops.dq[row],
        n_iters=loops.n_iters[row],
        cond_id=None if loops.cond_id is None else loops.cond_id[row],
        valid=valid[row],
        period=period[row],
        cycle_id=cycle_id[row],
        dtype=loops.dtype,
    )


@eqx.filter_jit
def _after_steps(
    over_k: Transition, x: Float[Array, "n n_states"], u: Float[Array, "n n_inputs"]
) -> tuple[Float[Array, "n n_states"], Float[Array, " n"]]:
    F_x = jax.vmap(over_k)(x, u).astype(x.dtype)
    return F_x, half_squared_norm(x - F_x)
