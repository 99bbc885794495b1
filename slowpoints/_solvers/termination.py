"""Why a row ends, and what it ends at: the one place where this is decided, for every solver.

Solvers end a row by rules of their own, and say by which kind of rule (`End`). What the row ended
at is judged here (`judge`), by Newton's step in float64 and not by `q`, in the same way for every
solver.
"""

import enum
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.status import Status
from slowpoints._solvers import lapack
from slowpoints._solvers.loops import varying
from slowpoints._solvers.tails import VECTORS, is_in_a_tail
from slowpoints._transition.base import Transition
from slowpoints._transition.precision import computes_in_float64, with_precision
from slowpoints._transition.speed import half_squared_norm

NEWTON_TOLERANCE = 5e-7
"""At a fixed point, Newton's step is at most this fraction of the square root of `n_states`, or of
the state's norm if that is larger. This is a little above the rounding of a float32 state, which is
6e-8 of its norm."""

CONTRACTION = 0.25
"""The largest ratio of a second step to the first. Newton's steps from near a root shrink at once;
from a ghost, where `I - J` is close to singular, they may be short but do not shrink."""

RELATIVE_DECREASE = 1e-3
"""At a slow point, a step of Newton's method for the minimum of `q` is predicted to lower `q` by
less than this fraction: a tenth of what 200 steps of another method may lower it by."""

ESCAPE_Q = 1e-8
"""A row is in a tail if its `q` is below this (or below `tol_q`), it is far from its start, and
there is no point: at a fixed point, so low a `q` would mean a short Newton step."""

JUDGED_DENSELY = 1024
"""Up to this many states, Newton's step is computed with the dense Jacobian. Above that, the
solvers' own Newton steps have to do, which are only as exact as their Krylov spaces."""

SINGULAR = 1e-10
"""A pivot of `I - J` this small, relative to the largest and to 1, the size of `I`, is rounding."""

_AT_A_TIME = 4
"""How many rows are judged at a time. Rows at the place of one that was judged take its status."""

_PRODUCTS_AT_A_TIME = 16
"""How many rows are looked at together where this takes products with the Jacobian only."""

_COMPARED_AT_A_TIME = 128
"""How many neighbours of a row are compared with it at a time."""

_SAME_PLACE = 1e-7
"""Rows closer than this fraction of the state's size ended at the same place."""


_MATRICES = 7
"""How many matrices of `n_states` x `n_states` float64 a row holds while it is judged densely."""


class End(enum.IntEnum):
    """By which kind of rule a solver ended a row."""

    NONE = 0
    """No rule: the row is still in work, or `max_iters` ended it."""
    ROOT = 1
    """The solver's Newton step is negligible."""
    MINIMUM = 2
    """The solver's model of `q`, with its curvature, predicts no decrease."""
    TOLERANCE = 3
    """`q` or its change fell below what the caller asked for."""
    STUCK = 4
    """The solver finds no better step, or its patience has run out."""


def rounding_floor(x: Float[Array | np.ndarray, "*lanes n_states"]) -> Float[Array, "*lanes"]:
    """Return the `q` below which `x - F(x)` is only the rounding of its terms."""
    eps = 2 * jnp.finfo(x.dtype).eps
    return 0.5 * eps**2 * (1 + jnp.sum(jnp.square(x), axis=-1))


def is_far(
    x: Float[Array, "lanes n_states"], x_init: Float[Array, "lanes n_states"]
) -> Bool[Array, " lanes"]:
    """Return whether rows are further from their starts than these from the origin, plus 1."""
    return jnp.linalg.norm(x - x_init, axis=1) > 1 + jnp.linalg.norm(x_init, axis=1)


def step_is_negligible(
    length: Float[Array, " lanes"], x: Float[Array, "lanes n_states"]
) -> Bool[Array, " lanes"]:
    """Return whether a solver's Newton step of that length is too short to be worth another.

    Each of the last steps is shorter than the one before by orders of magnitude, so what is left
    after such a step is rounding.
    """
    part = max(1e-8, 10 * float(jnp.finfo(x.dtype).eps))
    return length <= part * (1 + jnp.linalg.norm(x, axis=-1))


def bytes_to_judge(n_rows: int, n_states: int) -> int:
    """Return about how many bytes `judge` takes, besides the rows and their statuses."""
    if n_states > JUDGED_DENSELY:
        return min(n_rows, _PRODUCTS_AT_A_TIME) * 8 * VECTORS * n_states
    return min(n_rows, _AT_A_TIME) * 8 * _MATRICES * n_states**2


def judge(
    F: Transition,
    x: Float[Array, "n n_states"],
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    end: Int[Array, " n"],
    tol_q: Float[Array, ""],
    low_q: Float[Array, ""],
    *,
    forward_mode: bool = True,
) -> Int[Array, " n"]:
    """Return each row's `Status`.

    Rows are judged in float64 if the network computes in it; the caller must have enabled x64. Rows
    that ended at the same place are judged once.

    Args:
        F: the transition.
        x: `[n, n_states]` where the rows ended.
        x_init: `[n, n_states]` where they started.
        inputs: `[n, n_inputs]` their inputs.
        end: `[n]` how the solver ended them, as `End`.
        tol_q: the `q` that was asked for.
        low_q: rows in tails have a `q` below this, or below `ESCAPE_Q`.
        forward_mode: whether the network has forward-mode derivatives, which take less time.
    """
    stored = half_squared_norm(jax.vmap(F)(x, inputs) - x)
    # The solver ended such a row before anything was known about it, and that stays its status. The
    # solver may have rounded its `q` differently.
    within = (end == End.TOLERANCE) & (stored < 1.01 * tol_q + rounding_floor(x))
    finite = jnp.isfinite(stored) & jnp.all(jnp.isfinite(x), axis=1)
    dtype = np.dtype(np.float64) if computes_in_float64(F) else x.dtype
    F = with_precision(F, dtype)
    x, x_init, u, low_q = (a.astype(dtype) for a in (x, x_init, inputs, low_q))
    n, n_states = x.shape
    q = half_squared_norm(jax.vmap(F)(x, u).astype(dtype) - x)
    finite &= jnp.isfinite(q)
    far = is_far(x, x_init)
    low = q < jnp.maximum(low_q, ESCAPE_Q)

    if n == 0:
        return jnp.zeros(0, np.int8)

    if n_states > JUDGED_DENSELY:
        verdict = jnp.where(end == End.MINIMUM, Status.SLOW_POINT, Status.UNFINISHED)
        verdict = jnp.where(end == End.ROOT, Status.FIXED_POINT, verdict)
        asked = finite & low & far & ~within
        escaped = _some_at_a_time(partial(is_in_a_tail, F), asked, (x, x_init, u))
        verdict = jnp.where(escaped, Status.ESCAPED, verdict)
        verdict = jnp.where(within, Status.WITHIN_TOLERANCE, verdict)
        return jnp.where(finite, verdict, Status.NOT_FINITE).astype(np.int8)

    # Rows in the order of one coordinate. Those at one place are next to each other, and only they.
    radius = _SAME_PLACE * (1 + jnp.linalg.norm(x, axis=1))
    coordinate = x @ _unit_vector(n_states, dtype)
    order = jnp.argsort(coordinate)
    coordinate = coordinate[order]
    size = min(_COMPARED_AT_A_TIME, n)

    def body(status: Array) -> Array:
        left = jnp.cumsum(status == 0)
        places = jnp.arange(min(_AT_A_TIME, n)) * left[-1] // min(_AT_A_TIME, n)  # at many places
        places = jnp.searchsorted(left, places + 1)
        here = order[places]
        found = _what_is_at(F, x[here], x_init[here], u[here], end[here], forward_mode)
        is_root, is_minimum, runs_flat, newton = found
        runs = ~(newton <= 1e-2 * (1 + jnp.linalg.norm(x[here], axis=1)))
        escaped = low[here] & far[here] & jnp.where(is_root, runs_flat, ~is_minimum & runs)
        verdict = jnp.where(is_minimum, np.int8(Status.SLOW_POINT), np.int8(Status.UNFINISHED))
        verdict = jnp.where(is_root, np.int8(Status.FIXED_POINT), verdict)
        verdict = jnp.where(escaped, np.int8(Status.ESCAPED), verdict)
        status = status.at[places].set(verdict)

        def share(j: Array, status: Array) -> Array:
            row, known = here[j], verdict[j] <= Status.SLOW_POINT
            reach = 2 * radius[row]  # the coordinate is rounded
            first = jnp.searchsorted(coordinate, coordinate[places[j]] - reach)
            last = jnp.searchsorted(coordinate, coordinate[places[j]] + reach, side="right")

            def compare(carry: tuple[Array, Array]) -> tuple[Array, Array]:
                start, status = carry
                some = jnp.minimum(start, n - size) + jnp.arange(size)
                rows = order[some]
                near = jnp.linalg.norm(x[rows] - x[row], axis=1) <= jnp.minimum(
                    radius[rows], radius[row]
                )
                near &= jnp.all(u[rows] == u[row], axis=1) & (status[some] == 0)
                return start + size, status.at[some].set(jnp.where(near, verdict[j], status[some]))

            last = jnp.where(known, last, first)
            return jax.lax.while_loop(lambda carry: carry[0] < last, compare, (first, status))[1]

        return jax.lax.fori_loop(0, here.size, share, status)

    start = jnp.where(within, np.int8(Status.WITHIN_TOLERANCE), np.int8(0))
    start = jnp.where(finite, start, np.int8(Status.NOT_FINITE))[order]
    start = varying(start, (F, x, u))
    status = jax.lax.while_loop(lambda status: jnp.any(status == 0), body, start)
    return jnp.zeros_like(status).at[order].set(status)


def _unit_vector(n: int, dtype: Any) -> Float[Array, " n"]:
    v = jnp.cos(jnp.arange(1, n + 1, dtype=dtype) ** 2)
    return v / jnp.linalg.norm(v)


def _some_at_a_time(
    is_so: Callable[..., Bool[Array, " some"]], asked: Bool[Array, " n"], rows: tuple[Array, ...]
) -> Bool[Array, " n"]:
    """Return for which of the rows that are asked about something is so; the others are not."""
    n = asked.size

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        asked, found = carry
        (here,) = jnp.nonzero(asked, size=min(_PRODUCTS_AT_A_TIME, n), fill_value=n)
        # An index out of range stands for the last row, and is not written.
        said = is_so(*(a[jnp.minimum(here, n - 1)] for a in rows))
        return asked.at[here].set(False, mode="drop"), found.at[here].set(said, mode="drop")

    start = varying((asked, asked & False), rows)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[0]), body, start)[1]


def _what_is_at(
    F: Transition,
    x: Float[Array, "some n_states"],
    x_init: Float[Array, "some n_states"],
    u: Float[Array, "some n_inputs"],
    end: Int[Array, " some"],
    forward_mode: bool,
) -> tuple[Bool[Array, " some"], Bool[Array, " some"], Bool[Array, " some"], Float[Array, " some"]]:
    """Return which rows are at roots, at minima and in flat tails, and their Newton steps' lengths.

    In a tail, as at the end of a line of fixed points, `I - J` is singular: see `_is_on_a_line`.
    """
    n_states = x.shape[1]
    eye = jnp.eye(n_states, dtype=x.dtype)
    jacobian = jax.jacfwd if forward_mode else jax.jacrev

    # One after another: if several devices decompose batches at the same time, XLA's threads can
    # end up waiting for each other for ever.
    def newton(row: tuple[Array, Array]) -> tuple[Array, ...]:
        x, u = row
        A = eye - jacobian(F)(x, u)
        factors = lapack.lu_factor(A)
        pivots = jnp.abs(jnp.diagonal(factors[0]))
        singular = ~(jnp.min(pivots) > SINGULAR * jnp.maximum(1, jnp.max(pivots)))
        r = F(x, u) - x
        d = lapack.lu_solve(factors, r)
        parts = jnp.asarray(_PARTS, x.dtype)
        after = jax.vmap(lambda part: F(x + part * d, u) - (x + part * d))(parts)
        falls = jnp.any(half_squared_norm(after) <= (1 - 0.5 * parts) * half_squared_norm(r))
        again = lapack.lu_solve(factors, after[0])
        y = x + d + again
        left = F(y, u) - y
        third = lapack.lu_solve(factors, left)
        steps = jnp.linalg.norm(jnp.stack([d, again, third]), axis=1)
        return A, r, steps, singular, falls, half_squared_norm(left) <= rounded(y)

    A, r, steps, singular, falls, is_rounding = jax.lax.map(newton, (x, u))
    first, second, third = steps.T
    size = jnp.maximum(np.sqrt(n_states), jnp.linalg.norm(x, axis=1))
    q = half_squared_norm(r)
    rounding = 100 * jnp.finfo(x.dtype).eps * size
    contracts = (second <= CONTRACTION * first) | (first <= rounding)
    # The second may be short only because it is past a kink, where steps stay as long.
    contracts &= (third <= CONTRACTION * second) | (second <= rounding) | is_rounding
    # Along a line of fixed points `I - J` is singular; beside a curve, nearly so. At such a point,
    # the shortest step that solves for the residual is zero or negligible.
    is_small = jnp.linalg.norm(r, axis=1) <= NEWTON_TOLERANCE * size
    is_flat = singular | (is_small & ~((first <= NEWTON_TOLERANCE * size) & contracts))
    shortest = jax.lax.cond(
        jnp.any(is_flat),
        lambda: jax.lax.map(partial(shortest_step, F), (x, u, A, r)),
        lambda: varying(jnp.full_like(first, jnp.inf), first),
    )
    is_flat &= singular | (shortest <= NEWTON_TOLERANCE * size)
    first = jnp.where(is_flat, shortest, first)
    root = (first <= NEWTON_TOLERANCE * size) & (contracts | is_flat) | (q <= rounding_floor(x))

    g = jnp.einsum("lij,li->lj", A, r)
    square = jnp.sum(jnp.square(g), axis=1)

    def bend(x: Array, u: Array, r: Array, g: Array) -> Array:
        """Return `g S g`, where `S` is the part of `q`'s Hessian with second derivatives of `F`."""
        gradient = jax.grad(lambda x: jnp.dot(r, F(x, u)))
        if forward_mode:
            return jnp.dot(g, jax.jvp(gradient, (x,), (g,))[1])
        return jnp.dot(g, jax.grad(lambda x: jnp.dot(g, gradient(x)))(x))

    # What a step along the gradient gains is at most what the best step gains.
    curvature = jnp.sum(jnp.square(jnp.einsum("lij,lj->li", A, g)), axis=1)
    curvature += jax.vmap(bend)(x, u, r, g)
    gains = square**2 > 2 * RELATIVE_DECREASE * q * curvature
    # Where there is a drift along a line, what a step gains may be how the state is rounded.
    near = singular & ~is_far(x, x_init) & is_small
    level = ~root & (end != End.MINIMUM) & (~gains | near)

    def minimum() -> Array:
        def one(row: tuple[Array, ...]) -> Array:
            x, u, A, r, g, is_near, size = row
            gradient = jax.grad(lambda x: jnp.dot(r, F(x, u)))
            S = jacobian(gradient)(x)
            H = A.T @ A + (S + S.T) / 2
            # Along a line of slow points, the smallest eigenvalue is zero but for rounding.
            shift = jnp.where(is_near, jnp.finfo(x.dtype).eps * jnp.trace(H), 0)
            cholesky = lapack.cholesky(H + shift * eye)
            d = lapack.cholesky_solve(cholesky, g)
            short = is_near & (jnp.linalg.norm(d) <= NEWTON_TOLERANCE * size)
            return short | (0.5 * jnp.dot(g, d) < RELATIVE_DECREASE * half_squared_norm(r))

        found = jax.lax.map(one, (x, u, A, r, g, near, size))
        return level & (found | (jnp.max(jnp.abs(g), axis=1) == 0))

    at_minimum = jax.lax.cond(jnp.any(level), minimum, lambda: varying(level & False, level))

    def on_a_line() -> Array:
        return jax.lax.map(lambda row: _is_on_a_line(F, *row), (x, x_init, u, A))

    asked = root & singular
    lines = jax.lax.cond(jnp.any(asked), on_a_line, lambda: varying(asked & False, asked))
    is_minimum = ~root & (at_minimum | ((end == End.MINIMUM) & ~falls))
    return root, is_minimum, singular & ~lines, first


_PARTS = (1.0, 1 / 8, 1 / 64)
"""Parts of Newton's step. Where `q` falls along one of them as it does near a root, there is no
minimum, whatever the solver made of it in lower precision."""

_ROUNDINGS = 50
"""On the way back along a line, the residual is at most so many roundings of a state, since a step
adds up as many terms. In tails of `exp` and `tanh`, it is 1e10 roundings and more."""


def rounded(y: Float[Array, " n_states"]) -> Float[Array, ""]:
    """Return the `q` that rounding may leave at a point on a line or curve."""
    return _ROUNDINGS**2 * rounding_floor(y)


def flattened(
    A: Float[Array, "n_states n_states"],
) -> tuple[Float[Array, "n_states n_states"], Float[Array, ""]]:
    """Return a Cholesky factor of `A.T @ A` with a shift, and the shift.

    A solution by it leaves out the directions that `A` takes to zero, and times the shift it is
    what a vector has of these.
    """
    gram = A.T @ A
    shift = SINGULAR * (1 + jnp.trace(gram) / len(A))
    return lapack.cholesky(gram + shift * jnp.eye(len(A), dtype=A.dtype)), shift


def _is_on_a_line(
    F: Transition,
    x: Float[Array, " n_states"],
    x_init: Float[Array, " n_states"],
    u: Float[Array, " n_inputs"],
    A: Float[Array, "n_states n_states"],
) -> Bool[Array, ""]:
    """Return whether a row at a singular root is on a straight line of roots, and in no tail.

    A row in a tail came there along the direction that `A`, which is `I - J`, takes to zero: on the
    way back along it, the residual rises. On a line it does not, and a row that came from the side
    has no such way.
    """
    factor, shift = flattened(A)
    flat = x - x_init
    for _ in range(3):  # each time, what is not flat shrinks by the factor `shift`
        flat = shift * lapack.cholesky_solve(factor, flat)

    def is_root(t: Array) -> Array:
        y = x - t * flat
        return half_squared_norm(F(y, u) - y) <= rounded(y)

    return jnp.all(jax.vmap(is_root)(jnp.linspace(0.25, 1, 4, dtype=x.dtype)))


def shortest_step(
    F: Transition,
    row: tuple[
        Float[Array, " n_states"],
        Float[Array, " n_inputs"],
        Float[Array, "n_states n_states"],
        Float[Array, " n_states"],
    ],
) -> Float[Array, ""]:
    """Return the length of the shortest solution of `A d = r`, or infinity if there is none.

    What is out of the reach of `A` has to be rounding, however large the rest of `r` is: there is
    no point where `x` drifts by `1e-9`. A second step takes away what the first left for the bends
    of `F`.
    """
    x, u, A, r = row
    factor, _ = flattened(A)
    d = lapack.cholesky_solve(factor, A.T @ r)
    y = x + d
    after = F(y, u) - y
    y = y + lapack.cholesky_solve(factor, A.T @ after)
    solved = half_squared_norm(F(y, u) - y) <= rounded(y)
    return jnp.where(solved, jnp.linalg.norm(d), jnp.inf)
