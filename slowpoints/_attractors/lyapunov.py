"""`lyapunov`: how fast neighbouring trajectories part, for each of the leading directions."""

import functools
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from slowpoints._connections.outcome import check_steps
from slowpoints._connections.refined_points import enabled, working_dtype
from slowpoints._core import arguments
from slowpoints._core.arrays import power_of_two
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._core.units import units_of
from slowpoints._linear_algebra import lapack
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.flow import Flow
from slowpoints._network.precision import with_precision
from slowpoints._network.time_scale import in_steps, length_of_step
from slowpoints._network.trace import traced
from slowpoints._network.units import in_units

N_BLOCKS = 16
"""The steps are measured in so many blocks, whose means tell the errors. More and shorter ones
would mostly tell how a single state differs from the mean, which does not grow with time."""

_FEWEST_BLOCKS = 8
"""Blocks are joined until these are left. With fewer, a standard deviation means little."""

_REGULAR = 1e-2
"""If weighted averages of both halves and of all steps are so much closer to each other, for all
exponents, than the means of blocks suggest, the motion is regular, and they converge faster than
any power of time. By chance, those of chaos are so close in about one of ten thousand cases."""

_ALIGNING = 0.125
"""This part of the measured steps is run before them, for directions to turn to where they stay."""

_RESOLVED = 1e3
"""What shrinks in one step of a flow to so many of its relative errors, or less, is lost."""

_ONE_BY_ONE = 8
"""So many directions are orthogonalised one by one, in a batch. More go to LAPACK."""

_NUMBERS_AT_A_TIME = 2**24
"""The entries of directions that are held at a time: 128 MB in float64."""


class LyapunovExponents(eqx.Module):
    """Lyapunov exponents: see [`lyapunov`][slowpoints.lyapunov].

    Attributes:
        exponents: `[..., n]` the leading exponents, falling, in logarithms per step, or in
            continuous time per unit of time. An exponent of minus infinity belongs to a direction
            that is lost, as where a unit is silent, or in continuous time to one that shrinks a
            hundred times as fast as the motion.
        errors: `[..., n]` half the widths of their 95 % confidence intervals.
        x: `[..., n_states]` the state after the last step.
        n_steps: how many steps were measured, or in continuous time, how much time.
    """

    exponents: Float[np.ndarray, "*rows n"]
    errors: Float[np.ndarray, "*rows n"]
    x: Float[np.ndarray, "*rows n_states"]
    n_steps: int | float = eqx.field(static=True)

    @property
    def dimension(self) -> Float[np.ndarray, "*rows"]:
        """The Kaplan-Yorke dimension; NaN if the sum of the known exponents is not negative."""
        known = np.asarray(self.exponents, np.float64)
        total = np.cumsum(known, axis=-1)
        n = known.shape[-1]
        below = (total < 0).argmax(axis=-1)[..., None]  # the first exponent that makes it negative
        before = np.where(
            below > 0, np.take_along_axis(total, np.maximum(below - 1, 0), axis=-1), 0.0
        )
        rate = np.take_along_axis(known, np.minimum(below, n - 1), axis=-1)
        dimension = below + before / np.abs(rate)
        is_known = (total < 0).any(axis=-1) & np.isfinite(known[..., 0])
        return np.where(is_known, dimension[..., 0], np.nan)

    def together(self) -> "LyapunovExponents":
        """Return the exponents of all rows together, which have to be on the same attractor.

        Their errors come from how the rows differ, which are independent of each other if chaos has
        driven them apart; from the rows' own errors if there are fewer than eight.

        Raises:
            ValueError: if there are no rows.
        """
        values = self.exponents.reshape(-1, self.exponents.shape[-1])
        errors = self.errors.reshape(values.shape)
        n = len(values)
        if n == 0:
            raise ValueError(
                "LyapunovExponents.together: there are no rows; expected at least one."
            )
        if n >= _FEWEST_BLOCKS:
            with np.errstate(invalid="ignore"):  # minus infinity in all rows is exact
                own = np.where(np.isneginf(values).any(axis=0), 0.0, _half_width(values))
            errors = np.maximum(own, errors.min(axis=0, initial=np.inf) / n)
        else:
            errors = np.sqrt(np.square(errors).sum(axis=0)) / n
        x = self.x.reshape(-1, self.x.shape[-1])[0]
        return LyapunovExponents(values.mean(axis=0), errors, x, n * self.n_steps)

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.exponents.shape))
        return f"LyapunovExponents({shape}, n_steps={self.n_steps})"

    def __str__(self) -> str:
        rows = np.atleast_2d(self.exponents), np.atleast_2d(self.errors)
        return "\n".join(
            ", ".join(f"{value:.6g} ± {error:.2g}" for value, error in zip(*row, strict=True))
            for row in zip(*rows, strict=True)
        )


def lyapunov(
    F: Any,
    x: Float[RealArray, " n_states"] | Float[RealArray, "n_rows n_states"],
    inputs: Float[RealArray, " n_inputs"] | Float[RealArray, "_ n_inputs"],
    n: int | None = None,
    *,
    n_steps: int = 10_000,
    transient: int = 1000,
) -> LyapunovExponents:
    """Return the Lyapunov exponents of the trajectories that start from given states.

    A small sphere of states around a trajectory becomes an ellipsoid, whose axes grow or shrink at
    these rates (Benettin et al. 1980). The leading exponent is positive for chaos, zero on a closed
    orbit that never repeats exactly, of which a torus has as many as it has dimensions, and
    negative at a stable fixed point or cycle.

    Only the leading directions are carried along, by Jacobian-vector products, and orthogonalised
    after each step. All trajectories run side by side. Everything is computed in float64 if the
    network can be evaluated in it.

    Errors come from the means over 16 blocks of steps, and over the 8 of twice the length. The
    wider of the two 95 % intervals is taken, since blocks that are too short depend on each other
    (Flyvbjerg & Petersen 1989). On regular motion, such as a closed orbit, weighted averages
    converge far faster (Das et al. 2016). If both halves of the steps agree on them, these are the
    exponents, and twice their difference is the error. Errors tell how well the mean over these
    steps is known, and not whether the trajectory has reached the attractor by then.

    In continuous time, [`flow`][slowpoints.flow] integrates states and directions together, in
    steps of a quarter of the time scale on which velocities change, `|f| / |J f|` with the Jacobian
    `J`: the median over trajectories from these states, once what is fast is over.

    Args:
        F: the transition, or anything that [`as_transition`][slowpoints.as_transition] takes, or a
            [`ContinuousTime`][slowpoints.ContinuousTime].
        x: `[n_states]` or `[n_rows, n_states]` where the trajectories start.
        inputs: `[n_inputs]`, `[1, n_inputs]` or `[n_rows, n_inputs]` their constant inputs.
        n: how many exponents; by default all, one for each entry of the state.
        n_steps: how many steps are measured, rounded up to a multiple of 16. An eighth as many are
            run before them, in which directions turn to where they stay.
        transient: how many steps are run first, to reach the attractor.

    Returns:
        The exponents, `[n]` for one state, and `[n_rows, n]` for rows. They are NaN for
        trajectories that do not stay finite.

    Raises:
        TypeError: if `F` is not of a known kind, or something is traced.
        ValueError: if `F` does not map such states to states, or a number is out of range.
        ImportError: if `F` is in continuous time, and diffrax is not installed.
    """
    caller = "lyapunov"
    F = as_transition(F)
    check_steps(caller, F, x=x, inputs=inputs)
    x = arguments.array(caller, "x", x, ("n_states",), ("n", "n_states"), floating=True)
    arguments.check_precision(caller, "x", x.dtype)
    arguments.check_finite(caller, "x", x)
    n_steps = arguments.whole(caller, "n_steps", n_steps, least=1)
    transient = arguments.whole(caller, "transient", transient)
    rows = np.atleast_2d(np.asarray(x))
    n_states = rows.shape[1]
    if n_states == 0:
        arguments.refuse(caller, "x", "has no entries", "at least one state", ValueError)
    n_kept = n_states if n is None else arguments.whole(caller, "n", n, least=1, most=n_states)
    dtype = jax.dtypes.canonicalize_dtype(rows.dtype)
    inputs = arguments.inputs_of_rows(caller, inputs, len(rows), "row of `x`", dtype)
    F = traced(caller, F, n_states, inputs.shape[1], dtype, states="x")
    dtype = working_dtype(F, rows, inputs)
    u = np.broadcast_to(np.asarray(inputs, dtype), (len(rows), inputs.shape[1]))
    unit = units_of(rows)
    start = (rows / unit).astype(dtype)
    F = in_steps(in_units(F, unit), start, u)
    values, errors, end, measured = spectrum(F, start, u, n_kept, n_steps, transient)
    end = (unit * end).astype(dtype)
    if (dt := length_of_step(F)) is not None:
        values, errors, measured = values / dt, errors / dt, measured * dt
    if x.ndim == 1:
        values, errors, end = values[0], errors[0], end[0]
    return LyapunovExponents(values, errors, end, measured)


def spectrum(
    F: Transition,
    x: Float[np.ndarray, "n_rows n_states"],
    u: Float[np.ndarray, "n_rows n_inputs"],
    n: int,
    n_steps: int,
    transient: int,
) -> tuple[Float[Any, "n_rows n"], Float[Any, "n_rows n"], Float[Any, "n_rows n_states"], int]:
    """Return exponents, errors, last states, and how many steps were measured.

    Computes in the precision of `x`, for as many rows at a time as there is memory for.
    """
    per_block = -(-n_steps // N_BLOCKS)
    counts = transient, int(_ALIGNING * per_block * N_BLOCKS), per_block
    most = max(1, _NUMBERS_AT_A_TIME // (x.shape[1] * n))
    at_a_time = min(power_of_two(len(x)), 1 << (most.bit_length() - 1))
    sums, averages, ends = [], [], []
    with enabled(x.dtype):
        wide = with_precision(F, x.dtype)
        steps = tuple(jnp.asarray(count, np.int32) for count in counts)
        for start in range(0, len(x), at_a_time):
            here = np.arange(start, start + at_a_time) % len(x)
            found = _growth(wide, jnp.asarray(x[here]), jnp.asarray(u[here]), steps, n)
            for parts, part in zip((sums, averages, ends), found, strict=True):
                parts.append(np.asarray(part, x.dtype))
    means = np.concatenate([*sums, np.zeros((N_BLOCKS, 0, n))], axis=1)[:, : len(x)] / per_block
    smooth = np.concatenate([*averages, np.zeros((3, 0, n))], axis=1)[:, : len(x)]
    end = np.concatenate([*ends, x[:0]])[: len(x)]
    values, errors = _with_errors(means, smooth, float(np.finfo(x.dtype).eps))
    if isinstance(F, Flow):
        unresolved = values < np.log(_RESOLVED * F.relative_error(x.dtype))
        values[unresolved], errors[unresolved] = -np.inf, 0
    lost = ~np.isfinite(end).all(axis=1)
    values[lost], errors[lost] = np.nan, np.nan
    return values, errors, end, per_block * N_BLOCKS


def _with_errors(
    means: Float[np.ndarray, "n_blocks n_rows n"],
    smooth: Float[np.ndarray, "3 n_rows n"],
    rounding: float,
) -> tuple[Float[np.ndarray, "n_rows n"], Float[np.ndarray, "n_rows n"]]:
    """Return the exponents, falling, and half the widths of 95 % intervals.

    Args:
        means: of each block.
        smooth: the weighted averages of all steps, and of each half.
        rounding: the relative one of the numbers.
    """
    with np.errstate(invalid="ignore"):
        values = means.mean(axis=0)
        errors = np.zeros_like(values)
        while len(means) >= _FEWEST_BLOCKS:
            errors = np.fmax(errors, _half_width(means))
            means = means[0::2] / 2 + means[1::2] / 2
        apart = 2 * np.max([np.abs(smooth[i] - smooth[i - 1]) for i in range(3)], axis=0)
        regular = (apart <= _REGULAR * errors).all(axis=1, keepdims=True)
        values, errors = np.where(regular, smooth[0], values), np.where(regular, apart, errors)
        # Logarithms are rounded like numbers of their own size, and like those around 1.
        errors = errors + rounding * (1 + np.abs(values))
    errors = np.where(np.isneginf(values), 0.0, errors)
    order = np.argsort(-values, axis=1, kind="stable")
    return np.take_along_axis(values, order, 1), np.take_along_axis(errors, order, 1)


def _half_width(means: Float[np.ndarray, "k *rest"]) -> Float[np.ndarray, "*rest"]:
    """Return half the width of the 95 % interval of the mean of independent numbers (Student)."""
    from scipy.special import stdtrit  # only here, so that others load no SciPy

    k = len(means)
    return stdtrit(k - 1, 0.975) * means.std(axis=0, ddof=1) / np.sqrt(k)


@functools.partial(CompiledOnce, runs="long")
def _growth(
    F: Transition,
    x: Float[Array, "n_rows n_states"],
    u: Float[Array, "n_rows n_inputs"],
    counts: tuple[Int[Array, ""], Int[Array, ""], Int[Array, ""]],
    n: int,
) -> tuple[
    Float[Array, "n_blocks n_rows n"], Float[Array, "3 n_rows n"], Float[Array, "n_rows n_states"]
]:
    """Return the logarithms of how the directions grow, and the last states.

    They are summed over each block, and, with weights, averaged over all steps and each half.
    """
    transient, aligning, per_block = counts
    n_rows, n_states = x.shape

    def forward(_: Any, x: Array) -> Array:
        return jax.vmap(F)(x, u).astype(x.dtype)

    def with_directions(x: Array, u: Array, Q: Array) -> tuple[Array, Array, Array]:
        if isinstance(F, Flow):
            y, Q = F.pushed(x, u, Q)
            return y, *_orthonormal(Q)
        y, push = jax.linearize(lambda x: F(x, u).astype(x.dtype), x)
        Q, lengths = _orthonormal(jax.vmap(push, in_axes=1, out_axes=1)(Q))
        return y, Q, lengths

    def align(_: Any, carry: tuple[Array, Array]) -> tuple[Array, Array]:
        x, Q, _ = jax.vmap(with_directions)(carry[0], u, carry[1])
        return x, Q

    def step(_: Any, carry: tuple[Array, ...]) -> tuple[Array, ...]:
        x, Q, total, smooth, weight, number = carry
        x, Q, lengths = jax.vmap(with_directions)(x, u, Q)
        rates = jnp.log(lengths)
        part = (number + 0.5) / (N_BLOCKS * per_block)
        own = _weights(part.astype(x.dtype))
        # A direction that is lost has no rate outside of its window either.
        smooth = smooth + jnp.where(own[:, None, None] > 0, own[:, None, None] * rates, 0)
        return x, Q, total + rates, smooth, weight + own, number + 1

    def block(carry: tuple[Array, ...], _: None) -> tuple[tuple[Array, ...], Array]:
        x, Q, *sums = carry
        x, Q, total, *sums = jax.lax.fori_loop(0, per_block, step, (x, Q, none, *sums))
        return (x, Q, *sums), total

    none = jnp.zeros((n_rows, n), x.dtype)
    begun = (jnp.zeros((3, n_rows, n), x.dtype), jnp.zeros(3, x.dtype), jnp.zeros((), np.int32))
    # Any directions will do, but for some that the network treats in a special way.
    Q = jax.random.normal(jax.random.key(0), (n_states, n), x.dtype)
    Q = jnp.broadcast_to(lapack.basis(Q), (n_rows, n_states, n))
    x = jax.lax.fori_loop(0, transient, forward, x)
    x, Q = jax.lax.fori_loop(0, aligning, align, (x, Q))
    end, sums = jax.lax.scan(block, (x, Q, *begun), None, length=N_BLOCKS)
    x, _, smooth, weight, _ = end
    return sums, smooth / weight[:, None, None], x


def _weights(part: Float[Array, ""]) -> Float[Array, " 3"]:
    """Return the weights of a step in all steps, and in the first and the second half of them.

    They vanish at both ends of these with all their derivatives.

    Args:
        part: which part of the steps is behind it, from 0 to 1.
    """
    s = jnp.stack([part, 2 * part, 2 * part - 1])
    inside = s * (1 - s)
    return jnp.where(inside > 0, jnp.exp(4 - 1 / jnp.where(inside > 0, inside, 1)), 0)


def _orthonormal(A: Float[Array, "d n"]) -> tuple[Float[Array, "d n"], Float[Array, " n"]]:
    """Return orthonormal directions, and the diagonal of `R` in `A = Q R`, without signs."""
    if A.shape[1] > _ONE_BY_ONE:
        Q = lapack.basis(A)
        return Q, jnp.abs(jnp.sum(Q * A, axis=0))
    found, lengths = [], []
    for j in range(A.shape[1]):
        v = A[:, j]
        if found:
            Q = jnp.stack(found, axis=1)
            for _ in range(2):  # twice is enough (Giraud et al. 2005)
                v = v - Q @ (Q.T @ v)
        length = jnp.linalg.norm(v)
        found.append(v / jnp.where(length > 0, length, 1))
        lengths.append(length)
    return jnp.stack(found, axis=1), jnp.stack(lengths)
