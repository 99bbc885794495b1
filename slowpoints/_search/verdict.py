"""What a row ended at: the one place where this is decided, for every solver.

It is decided by Newton's steps in float64 and not by `q`, in the same way for every solver. What
else there is to ask, of few rows, are questions of their own. Outside `jit`, each of them is a
program, which is compiled when a row first calls for it.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from slowpoints._core.arrays import first_rows
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray
from slowpoints._linear_algebra import lapack
from slowpoints._linear_algebra.loops import of_first_rows, varying
from slowpoints._network.base import Transition
from slowpoints._network.precision import computes_in_float64, with_precision
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._network.trapping import is_outside
from slowpoints._points.status import Status
from slowpoints._search.tails import VECTORS, is_in_a_tail
from slowpoints._solvers.termination import (
    ESCAPE_Q,
    JUDGED_DENSELY,
    NEWTON_TOLERANCE,
    SINGULAR,
    End,
    flattened,
    is_far,
    rounded,
    rounding_floor,
    shortest_step,
)

CONTRACTION = 0.25
"""The largest ratio of a second step to the first. Newton's steps from near a root shrink at once;
from a ghost, where `I - J` is close to singular, they may be short but do not shrink."""

RELATIVE_DECREASE = 1e-3
"""At a slow point, a step of Newton's method for the minimum of `q` is predicted to lower `q` by
less than this fraction: a tenth of what 200 steps of another method may lower it by."""

_PARTS = (1.0, 1 / 8, 1 / 64)
"""Parts of Newton's step. Where `q` falls along one of them as it does near a root, there is no
minimum, whatever the solver made of it in lower precision."""

_AT_A_TIME = 4
"""How many rows are judged at a time. Rows at the place of one that was judged take its status."""

_MOST_AT_A_TIME = 64
"""Outside `jit`, each time twice as many are judged as the time before, up to this many."""

_PRODUCTS_AT_A_TIME = 16
"""How many rows are looked at together where this takes products with the Jacobian only."""

_COMPARED_AT_A_TIME = 128
"""How many neighbours of a row are compared with it at a time."""

_SAME_PLACE = 1e-7
"""Rows closer than this fraction of the state's size ended at the same place."""

_MATRICES = 7
"""How many matrices of `n_states` x `n_states` float64 a row holds while it is judged densely."""


def bytes_to_judge(n_rows: int, n_states: int) -> int:
    """Return about how many bytes it takes to judge rows, besides these and their statuses."""
    if n_states > JUDGED_DENSELY:
        return min(n_rows, _PRODUCTS_AT_A_TIME) * 8 * VECTORS * n_states
    return 8 * _MATRICES * n_states**2 if n_rows else 0


class Seen(NamedTuple):
    """What is seen of rows at first sight.

    Attributes:
        end: `[n]` how the solver ended them, as `End`.
        within: `[n]` which ones the solver ended at a tolerance, as it should.
        finite: `[n]` at which ones all is finite.
        far: `[n]` which ones are far from their starts.
        low: `[n]` of which ones `q` is as low as in a tail.
        outside: `[n]` which ones are where no trajectory stays: see `trapping_box`.
    """

    end: Int[RealArray, " n"]
    within: Bool[RealArray, " n"]
    finite: Bool[RealArray, " n"]
    far: Bool[RealArray, " n"]
    low: Bool[RealArray, " n"]
    outside: Bool[RealArray, " n"]


class Rows(NamedTuple):
    """Rows that a search has ended, in the precision in which they are judged.

    Attributes:
        x: `[n, n_states]` where they ended.
        x_init: `[n, n_states]` where they started.
        u: `[n, n_inputs]` their inputs.
        seen: what is seen of them at first sight.
    """

    x: Float[RealArray, "n n_states"]
    x_init: Float[RealArray, "n n_states"]
    u: Float[RealArray, "n n_inputs"]
    seen: Seen

    def of(self, index: Any) -> "Rows":
        """Return some of the rows."""
        return jax.tree.map(lambda a: a[index], self)


def seen_at_first(
    F: Transition,
    x: Float[Array, "n n_states"],
    x_init: Float[Array, "n n_states"],
    inputs: Float[Array, "n n_inputs"],
    end: Int[Array, " n"],
    tol_q: Float[Array, ""],
    low_q: Float[Array, ""],
    n_rows: Int[Array, ""] | None = None,
) -> tuple[Float[Array, "n n_states"], Seen]:
    """Return the states that follow where rows ended, and what is seen of them at first sight.

    They are judged in float64 if the network computes in it; the caller must have enabled x64.

    Args:
        F: the transition.
        x: `[n, n_states]` where the rows ended.
        x_init: `[n, n_states]` where they started.
        inputs: `[n, n_inputs]` their inputs.
        end: `[n]` how the solver ended them, as `End`.
        tol_q: the `q` that was asked for.
        low_q: rows in tails have a `q` below this, or below `ESCAPE_Q`.
        n_rows: how many rows are asked about, if not all; what is said of the others, at the end,
            means nothing.
    """
    dtype = np.dtype(np.float64) if computes_in_float64(F) else x.dtype
    network = with_precision(F, dtype)

    def step(x: Array, u: Array) -> tuple[Array, Array]:
        y, v = x.astype(dtype), u.astype(dtype)
        return F(x, u), half_squared_norm(network(y, v).astype(dtype) - y)

    steps = jax.vmap(step)
    F_x, q = steps(x, inputs) if n_rows is None else of_first_rows(steps, n_rows, (x, inputs))
    stored = half_squared_norm(F_x - x)
    # The solver ended such a row before anything was known about it, and that stays its status. The
    # solver may have rounded its `q` differently.
    within = (end == End.TOLERANCE) & (stored < 1.01 * tol_q + rounding_floor(x))
    finite = jnp.isfinite(stored) & jnp.isfinite(q) & jnp.all(jnp.isfinite(x), axis=1)
    low = q < jnp.maximum(low_q.astype(dtype), ESCAPE_Q)
    far = is_far(x.astype(dtype), x_init.astype(dtype))
    return F_x, Seen(end, within, finite, far, low, is_outside(F, x))


# ---- questions about a row ---------------------------------------------------------------------


class _Newton(NamedTuple):
    """What Newton's steps from a state tell."""

    steps: Float[RealArray, "*rows three"]  # the lengths of the first three
    residual: Float[RealArray, "*rows"]  # the length of `F(x) - x`
    size: Float[RealArray, "*rows"]  # of the state
    singular: Bool[RealArray, "*rows"]
    is_rounding: Bool[RealArray, "*rows"]  # the residual after two steps
    at_floor: Bool[RealArray, "*rows"]  # the residual before them


_Question = Callable[..., Any]
"""From a network, whether it has forward-mode derivatives, a state, where it started, its input and
whatever else is known, to an answer."""


def _linearised(F: Transition, forward_mode: bool, x: Array, u: Array) -> tuple[Array, Array]:
    """Return `I - J` and `F(x) - x`."""
    jacobian = jax.jacfwd if forward_mode else jax.jacrev
    return jnp.eye(x.size, dtype=x.dtype) - jacobian(F)(x, u), F(x, u) - x


def _newton(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> _Newton:
    """Take three of Newton's steps with the same Jacobian."""
    factors = lapack.lu_factor(_linearised(F, forward_mode, x, u)[0])
    pivots = jnp.abs(jnp.diagonal(factors[0]))
    singular = ~(jnp.min(pivots) > SINGULAR * jnp.maximum(1, jnp.max(pivots)))

    def step(y: Array, _: None) -> tuple[Array, tuple[Array, Array, Array]]:
        r = F(y, u) - y
        d = lapack.lu_solve(factors, r)
        return y + d, (half_squared_norm(r), jnp.linalg.norm(d), rounded(y))

    # In a loop, the network is compiled once.
    _, (q, steps, rounding) = jax.lax.scan(step, varying(x, (F, x, u)), None, length=3)
    size = jnp.maximum(np.sqrt(x.size), jnp.linalg.norm(x))
    at_floor = q[0] <= rounding_floor(x)
    return _Newton(steps, jnp.sqrt(2 * q[0]), size, singular, q[2] <= rounding[2], at_floor)


def _shortest(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    """Return the length of the shortest step to a root."""
    return shortest_step(F, (x, u, *_linearised(F, forward_mode, x, u)))


def _falls(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    """Return whether `q` falls along Newton's step as it does near a root."""
    A, r = _linearised(F, forward_mode, x, u)
    d = lapack.lu_solve(lapack.lu_factor(A), r)
    parts = jnp.asarray(_PARTS, x.dtype)
    after = jax.vmap(lambda part: F(x + part * d, u) - (x + part * d))(parts)
    return jnp.any(half_squared_norm(after) <= (1 - 0.5 * parts) * half_squared_norm(r))


def _is_minimum(
    F: Transition,
    forward_mode: bool,
    x: Array,
    x_init: Array,
    u: Array,
    near: Array,
    size: Array,
) -> Array:
    """Return whether Newton's method for the minimum of `q` hardly lowers it.

    `near` says whether there is a drift along a line, where what a step gains may be how the state
    is rounded.
    """
    A, r = _linearised(F, forward_mode, x, u)
    g, q = r @ A, half_squared_norm(r)

    def gradient(x: Array) -> Array:
        # Its Jacobian is the part of the Hessian of `q` with second derivatives of `F`.
        return jax.grad(lambda x: jnp.dot(r, F(x, u)))(x)

    if forward_mode:
        bend = jnp.dot(g, jax.jvp(gradient, (x,), (g,))[1])
    else:
        bend = jnp.dot(g, jax.grad(lambda x: jnp.dot(g, gradient(x)))(x))
    # What a step along the gradient gains is at most what the best step gains.
    curvature = jnp.sum(jnp.square(A @ g)) + bend
    gains = jnp.sum(jnp.square(g)) ** 2 > 2 * RELATIVE_DECREASE * q * curvature

    def by_hessian() -> Array:
        S = (jax.jacfwd if forward_mode else jax.jacrev)(gradient)(x)
        H = A.T @ A + (S + S.T) / 2
        # Along a line of slow points, the smallest eigenvalue is zero but for rounding.
        shift = jnp.where(near, jnp.finfo(x.dtype).eps * jnp.trace(H), 0)
        cholesky = lapack.cholesky(H + shift * jnp.eye(x.size, dtype=x.dtype))
        d = lapack.cholesky_solve(cholesky, g)
        short = near & (jnp.linalg.norm(d) <= NEWTON_TOLERANCE * size)
        found = short | (0.5 * jnp.dot(g, d) < RELATIVE_DECREASE * q)
        return found | (jnp.max(jnp.abs(g)) == 0)

    level = ~gains | near
    return jax.lax.cond(level, by_hessian, lambda: varying(level & False, level))


def _is_on_a_line(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    """Return whether a row at a singular root is on a straight line of roots, and in no tail.

    A row in a tail came there along the direction that `I - J` takes to zero: on the way back along
    it, the residual rises. On a line it does not, and a row that came from the side has no such
    way.
    """
    factor, shift = flattened(_linearised(F, forward_mode, x, u)[0])
    flat = x - x_init
    for _ in range(3):  # each time, what is not flat shrinks by the factor `shift`
        flat = shift * lapack.cholesky_solve(factor, flat)

    def is_root(t: Array) -> Array:
        y = x - t * flat
        return half_squared_norm(F(y, u) - y) <= rounded(y)

    return jnp.all(jax.vmap(is_root)(jnp.linspace(0.25, 1, 4, dtype=x.dtype)))


def _is_in_a_tail(F: Transition, forward_mode: bool, x: Array, x_init: Array, u: Array) -> Array:
    return is_in_a_tail(F, x[None], x_init[None], u[None])[0]


_Ask = Callable[..., Any]
"""From a question, the rows that it is about and whatever else is known of them, to the answers;
those for other rows mean nothing."""


# ---- verdicts from the answers -----------------------------------------------------------------


def _verdicts(rows: Rows, ask: _Ask, xp: Any) -> Any:
    """Return the statuses `[n]` of rows, all of them finite and none within a tolerance."""
    newton = ask(_newton, xp.ones_like(rows.seen.finite))
    first, second, third = (newton.steps[:, k] for k in range(3))
    size, singular = newton.size, newton.singular
    rounding = 100 * np.finfo(rows.x.dtype).eps * size
    contracts = (second <= CONTRACTION * first) | (first <= rounding)
    # The second may be short only because it is past a kink, where steps stay as long.
    contracts &= (third <= CONTRACTION * second) | (second <= rounding) | newton.is_rounding
    # Along a line of fixed points `I - J` is singular; beside a curve, nearly so. At such a point,
    # the shortest step that solves for the residual is zero or negligible.
    is_small = newton.residual <= NEWTON_TOLERANCE * size
    is_flat = singular | (is_small & ~((first <= NEWTON_TOLERANCE * size) & contracts))
    shortest = ask(_shortest, is_flat)
    is_flat &= singular | (shortest <= NEWTON_TOLERANCE * size)
    first = xp.where(is_flat, shortest, first)
    root = (first <= NEWTON_TOLERANCE * size) & (contracts | is_flat) | newton.at_floor

    at_end = rows.seen.end == End.MINIMUM
    near = singular & ~rows.seen.far & is_small
    at_kink = rows.seen.end == End.KINK
    minimum = ~root & ~at_end & ~at_kink
    minimum &= ask(_is_minimum, minimum, near, size)
    settled = ~root & at_end
    minimum |= settled & ~ask(_falls, settled)
    minimum |= ~root & at_kink

    # In a tail, as at the end of a line of fixed points, `I - J` is singular.
    on_a_line = root & singular
    on_a_line &= ask(_is_on_a_line, on_a_line)
    runs = ~(first <= 1e-2 * (1 + xp.linalg.norm(rows.x, axis=1)))
    escaped = rows.seen.low & rows.seen.far & xp.where(root, singular & ~on_a_line, ~minimum & runs)
    verdict = xp.where(minimum, np.int8(Status.SLOW_POINT), np.int8(Status.UNFINISHED))
    verdict = xp.where(root, np.int8(Status.FIXED_POINT), verdict)
    return xp.where(escaped, np.int8(Status.ESCAPED), verdict)


def _verdicts_of_large(rows: Rows, ask: _Ask, xp: Any) -> Any:
    """Return the statuses `[n]` of rows of more states than are judged densely."""
    verdict = xp.where(
        rows.seen.end == End.MINIMUM, np.int8(Status.SLOW_POINT), np.int8(Status.UNFINISHED)
    )
    verdict = xp.where(rows.seen.end == End.ROOT, np.int8(Status.FIXED_POINT), verdict)
    asked = rows.seen.finite & rows.seen.low & rows.seen.far & ~rows.seen.within
    escaped = asked & ask(_is_in_a_tail, asked)
    return _with_known(rows, xp.where(escaped, np.int8(Status.ESCAPED), verdict), xp)


def _with_known(rows: Rows, verdict: Any, xp: Any) -> Any:
    """Return the verdicts, but for rows of which nothing has to be asked."""
    verdict = xp.where(rows.seen.within, np.int8(Status.WITHIN_TOLERANCE), verdict)
    verdict = xp.where(rows.seen.outside, np.int8(Status.ESCAPED), verdict)
    return xp.where(rows.seen.finite, verdict, np.int8(Status.NOT_FINITE)).astype(np.int8)


# ---- on the host: a program for each question --------------------------------------------------


@np.errstate(all="ignore")  # of rows that are not finite
def judge_on_host(F: Transition, rows: Rows, *, forward_mode: bool) -> Int[np.ndarray, " n"]:
    """Return each row's `Status`, as `judge` does, of rows in NumPy's arrays.

    Nothing is compiled for another number of rows, or for questions that no row calls for.
    """
    n, n_states = rows.x.shape

    def ask(of: Rows, question: _Question, asked: Any, *known: Any) -> Any:
        return _answered(F, question, forward_mode, (of.x, of.x_init, of.u, *known), asked)

    if n == 0:
        return np.zeros(0, np.int8)
    if n_states > JUDGED_DENSELY:
        return _verdicts_of_large(rows, lambda *asked: ask(rows, *asked), np)
    status = _with_known(rows, np.zeros(n, np.int8), np)
    order, coordinate, radius = _by_place(rows.x, np)
    at_a_time = _AT_A_TIME
    while np.any(status == 0):
        open_rows = order[status[order] == 0]
        some = min(at_a_time, len(open_rows))
        here = open_rows[np.arange(some) * len(open_rows) // some]  # at many places
        part = rows.of(here)
        status[here] = _verdicts(part, lambda *asked, part=part: ask(part, *asked), np)
        for row in here[status[here] <= Status.SLOW_POINT]:
            # The coordinate is rounded.
            reach = coordinate[row] + 2 * radius[row] * np.array([-1, 1])
            first, last = np.searchsorted(coordinate[order], reach, side="right")
            others = order[first:last]
            others = others[status[others] == 0]
            near = np.linalg.norm(rows.x[others] - rows.x[row], axis=1)
            near = near <= np.minimum(radius[others], radius[row])
            near &= np.all(rows.u[others] == rows.u[row], axis=1)
            status[others[near]] = status[row]
        at_a_time = min(2 * at_a_time, _MOST_AT_A_TIME)
    return status


def _answered(
    F: Transition, question: _Question, forward_mode: bool, rows: tuple[Any, ...], asked: Any
) -> Any:
    """Return the answers for the rows that are asked about, and zero for others."""
    which, parts = np.flatnonzero(asked), []
    for start in range(0, len(which), _MOST_AT_A_TIME):
        here = which[start : start + _MOST_AT_A_TIME]
        some = tuple(a[np.resize(here, _MOST_AT_A_TIME)] for a in rows)
        answers = _answer(F, question, forward_mode, np.array(here.size), some)
        parts.append(jax.tree.map(partial(first_rows, n=here.size), jax.device_get(answers)))
    if not parts:
        return np.zeros(asked.size, bool)

    def among_all(*parts: Any) -> Any:
        out = np.zeros((asked.size, *parts[0].shape[1:]), parts[0].dtype)
        out[which] = np.concatenate(parts)
        return out

    return jax.tree.map(among_all, *parts)


@CompiledOnce
def _answer(
    F: Transition,
    question: _Question,
    forward_mode: bool,
    n_rows: Any,
    rows: tuple[Any, ...],
) -> Any:
    F = with_precision(F, rows[0].dtype)

    def one(*row: Array) -> Any:
        return question(F, forward_mode, *row)

    if question is _is_in_a_tail:
        return of_first_rows(jax.vmap(one), n_rows, rows, _PRODUCTS_AT_A_TIME)

    # One after another: if several devices decompose batches at the same time, XLA's threads can
    # end up waiting for each other for ever.
    def alone(*row: Array) -> Any:
        return jax.tree.map(lambda a: a[None], one(*(a[0] for a in row)))

    return of_first_rows(alone, n_rows, rows, 1)


# ---- in one program ----------------------------------------------------------------------------


def judge(F: Transition, rows: Rows, *, forward_mode: bool = True) -> Int[Array, " n"]:
    """Return each row's `Status`.

    Rows that ended at the same place are judged once.

    Args:
        F: the transition.
        rows: what there is to know of the rows at first sight.
        forward_mode: whether the network has forward-mode derivatives, which take less time.
    """
    n, n_states = rows.x.shape
    F = with_precision(F, rows.x.dtype)
    if n == 0:
        return jnp.zeros(0, np.int8)

    def of_large(question: _Question, asked: Array) -> Array:
        return _some_at_a_time(F, question, forward_mode, asked, rows)

    if n_states > JUDGED_DENSELY:
        return _verdicts_of_large(rows, of_large, jnp)
    x, u = rows.x, rows.u
    order, coordinate, radius = _by_place(x, jnp)
    coordinate = coordinate[order]
    size = min(_COMPARED_AT_A_TIME, n)

    def body(status: Array) -> Array:
        left = jnp.cumsum(status == 0)
        places = jnp.arange(min(_AT_A_TIME, n)) * left[-1] // min(_AT_A_TIME, n)  # at many places
        places = jnp.searchsorted(left, places + 1)
        here = order[places]
        part = rows.of(here)

        def ask(question: _Question, asked: Array, *known: Array) -> Any:
            given = (part.x, part.x_init, part.u, *known)

            # One after another, as in `_answer`.
            def answers() -> Any:
                return jax.lax.map(lambda row: question(F, forward_mode, *row), given)

            if question is _newton:  # of every row
                return answers()
            like = jax.eval_shape(answers)
            nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
            return jax.lax.cond(
                jnp.any(asked), answers, lambda: varying(nothing, (F, given, asked))
            )

        verdict = _verdicts(part, ask, jnp)
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

    start = _with_known(rows, np.zeros(n, np.int8), jnp)[order]
    start = varying(start, (F, x, u))
    status = jax.lax.while_loop(lambda status: jnp.any(status == 0), body, start)
    return jnp.zeros_like(status).at[order].set(status)


def _by_place(x: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Return rows in the order of one coordinate, this coordinate, and how far a place reaches.

    In that order, rows at one place are next to each other, and only they.
    """
    v = np.cos(np.arange(1, x.shape[1] + 1, dtype=x.dtype) ** 2)
    coordinate = x @ (v / np.linalg.norm(v))
    return xp.argsort(coordinate), coordinate, _SAME_PLACE * (1 + xp.linalg.norm(x, axis=1))


def _some_at_a_time(
    F: Transition, question: _Question, forward_mode: bool, asked: Bool[Array, " n"], rows: Rows
) -> Bool[Array, " n"]:
    """Return for which of the rows that are asked about something is so; the others are not."""
    n = asked.size

    def body(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        asked, found = carry
        (here,) = jnp.nonzero(asked, size=min(_PRODUCTS_AT_A_TIME, n), fill_value=n)
        # An index out of range stands for the last row, and is not written.
        some = (a[jnp.minimum(here, n - 1)] for a in (rows.x, rows.x_init, rows.u))
        said = jax.vmap(lambda *row: question(F, forward_mode, *row))(*some)
        return asked.at[here].set(False, mode="drop"), found.at[here].set(said, mode="drop")

    start = varying((asked, asked & False), rows)
    return jax.lax.while_loop(lambda carry: jnp.any(carry[0]), body, start)[1]
