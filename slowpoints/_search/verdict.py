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
from slowpoints._linear_algebra.loops import of_first_rows, varying
from slowpoints._network.base import Transition
from slowpoints._network.precision import with_precision
from slowpoints._points.status import Status
from slowpoints._search.questions import (
    Question,
    falls,
    in_a_tail,
    is_minimum,
    is_on_a_line,
    newton,
    shortest,
)
from slowpoints._search.seen_at_first import Rows
from slowpoints._solvers.termination import JUDGED_DENSELY, NEWTON_TOLERANCE, End
from slowpoints._valleys.tails import VECTORS

CONTRACTION = 0.25
"""The largest ratio of a second step to the first. Newton's steps from near a root shrink at once;
from a ghost, where `I - J` is close to singular, they may be short but do not shrink."""

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

_MATRICES = 10
"""How many matrices of `n_states` x `n_states` float64 a row holds while it is judged densely."""


def bytes_to_judge(n_rows: int, n_states: int) -> int:
    """Return about how many bytes it takes to judge rows, besides these and their statuses."""
    if n_states > JUDGED_DENSELY:
        return min(n_rows, _PRODUCTS_AT_A_TIME) * 8 * VECTORS * n_states
    return 8 * _MATRICES * n_states**2 if n_rows else 0


_Ask = Callable[..., Any]
"""From a question, the rows that it is about and whatever else is known of them, to the answers;
those for other rows mean nothing."""


# ---- verdicts from the answers -----------------------------------------------------------------


def _verdicts(rows: Rows, ask: _Ask, xp: Any) -> Any:
    """Return the statuses `[n]` of rows, all of them finite and none within a tolerance."""
    taken = ask(newton, xp.ones_like(rows.seen.finite))
    first, second, third = (taken.steps[:, k] for k in range(3))
    size, singular = taken.size, taken.singular
    rounding = 100 * np.finfo(rows.x.dtype).eps * size
    contracts = (second <= CONTRACTION * first) | (first <= rounding)
    # The second may be short only because it is past a kink, where steps stay as long.
    contracts &= (third <= CONTRACTION * second) | (second <= rounding) | taken.is_rounding
    # Along a line of fixed points `I - J` is singular; beside a curve, nearly so. At such a point,
    # the shortest step that solves for the residual is zero or negligible.
    is_small = taken.residual <= NEWTON_TOLERANCE * size
    is_flat = singular | (is_small & ~((first <= NEWTON_TOLERANCE * size) & contracts))
    flat_step = ask(shortest, is_flat)
    is_flat &= singular | (flat_step <= NEWTON_TOLERANCE * size)
    first = xp.where(is_flat, flat_step, first)
    root = (first <= NEWTON_TOLERANCE * size) & (contracts | is_flat) | taken.at_floor

    at_end = rows.seen.end == End.MINIMUM
    near = singular & ~rows.seen.far & is_small
    at_kink = rows.seen.end == End.KINK
    minimum = ~root & ~at_end & ~at_kink
    minimum &= ask(is_minimum, minimum, near, size)
    minimum |= ~root & at_end
    minimum &= ~ask(falls, minimum)
    minimum |= ~root & at_kink

    # In a tail, as at the end of a line of fixed points, `I - J` is singular.
    on_a_line = root & singular
    on_a_line &= ask(is_on_a_line, on_a_line)
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
    escaped = asked & ask(in_a_tail, asked)
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

    def ask(of: Rows, question: Question, asked: Any, *known: Any) -> Any:
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
    F: Transition,
    question: Question,
    forward_mode: bool,
    rows: tuple[Any, ...],
    asked: Any,
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


@partial(CompiledOnce, runs="briefly")
def _answer(
    F: Transition,
    question: Question,
    forward_mode: bool,
    n_rows: Any,
    rows: tuple[Any, ...],
) -> Any:
    F = with_precision(F, rows[0].dtype)

    def one(*row: Array) -> Any:
        return question(F, forward_mode, *row)

    if question is in_a_tail:
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

    def of_large(question: Question, asked: Array) -> Array:
        return _some_at_a_time(F, question, forward_mode, asked, rows)

    if n_states > JUDGED_DENSELY:
        return _verdicts_of_large(rows, of_large, jnp)
    order, coordinate, radius = _by_place(rows.x, jnp)
    by_place = _ByPlace(order, coordinate[order], radius)

    def body(status: Array) -> Array:
        judged, status = _judge_some(F, forward_mode, rows, by_place, status)
        share = partial(_share, rows, by_place, judged)
        return jax.lax.fori_loop(0, judged.row.size, share, status)

    start = _with_known(rows, np.zeros(n, np.int8), jnp)[order]
    start = varying(start, (F, rows.x, rows.u))
    status = jax.lax.while_loop(lambda status: jnp.any(status == 0), body, start)
    return jnp.zeros_like(status).at[order].set(status)


class _ByPlace(NamedTuple):
    """Rows in an order in which those at one place are next to each other: see `_by_place`."""

    order: Int[Array, " n"]
    coordinate: Float[Array, " n"]  # in this order
    radius: Float[Array, " n"]


class _Judged(NamedTuple):
    """Rows that were judged, where they are in the order of places, and what they ended at."""

    row: Int[Array, " some"]
    place: Int[Array, " some"]
    verdict: Int[Array, " some"]


def _judge_some(
    F: Transition,
    forward_mode: bool,
    rows: Rows,
    by_place: _ByPlace,
    status: Int[Array, " n"],
) -> tuple[_Judged, Int[Array, " n"]]:
    """Judge a few rows whose status is not known; return them, and the statuses by place."""
    some = min(_AT_A_TIME, status.size)
    left = jnp.cumsum(status == 0)
    places = jnp.arange(some) * left[-1] // some  # at many places
    places = jnp.searchsorted(left, places + 1)
    here = by_place.order[places]
    part = rows.of(here)
    verdict = _verdicts(part, partial(_asked_in_turn, F, forward_mode, part), jnp)
    return _Judged(here, places, verdict), status.at[places].set(verdict)


def _asked_in_turn(
    F: Transition, forward_mode: bool, rows: Rows, question: Question, asked: Array, *known: Array
) -> Any:
    """Return the answers for all of the rows, or zero if none of them is asked about."""
    given = (rows.x, rows.x_init, rows.u, *known)

    # One after another, as in `_answer`.
    def answers() -> Any:
        return jax.lax.map(lambda row: question(F, forward_mode, *row), given)

    if question is newton:  # of every row
        return answers()
    like = jax.eval_shape(answers)
    nothing = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
    return jax.lax.cond(jnp.any(asked), answers, lambda: varying(nothing, (F, given, asked)))


def _share(
    rows: Rows, by_place: _ByPlace, judged: _Judged, j: Array, status: Int[Array, " n"]
) -> Int[Array, " n"]:
    """Give the rows at the place of the `j`-th that was judged the same status."""
    x, u, (order, coordinate, radius) = rows.x, rows.u, by_place
    here, places, verdict = judged
    n, size = order.size, min(_COMPARED_AT_A_TIME, order.size)
    row, known = here[j], verdict[j] <= Status.SLOW_POINT
    reach = 2 * radius[row]  # the coordinate is rounded
    first = jnp.searchsorted(coordinate, coordinate[places[j]] - reach)
    last = jnp.searchsorted(coordinate, coordinate[places[j]] + reach, side="right")

    def compare(carry: tuple[Array, Array]) -> tuple[Array, Array]:
        start, status = carry
        some = jnp.minimum(start, n - size) + jnp.arange(size)
        rows = order[some]
        near = jnp.linalg.norm(x[rows] - x[row], axis=1) <= jnp.minimum(radius[rows], radius[row])
        near &= jnp.all(u[rows] == u[row], axis=1) & (status[some] == 0)
        return start + size, status.at[some].set(jnp.where(near, verdict[j], status[some]))

    last = jnp.where(known, last, first)
    return jax.lax.while_loop(lambda carry: carry[0] < last, compare, (first, status))[1]


# ---- for both ----------------------------------------------------------------------------------


def _by_place(x: Any, xp: Any) -> tuple[Any, Any, Any]:
    """Return rows in the order of one coordinate, this coordinate, and how far a place reaches.

    In that order, rows at one place are next to each other, and only they.
    """
    v = np.cos(np.arange(1, x.shape[1] + 1, dtype=x.dtype) ** 2)
    coordinate = x @ (v / np.linalg.norm(v))
    return xp.argsort(coordinate), coordinate, _SAME_PLACE * (1 + xp.linalg.norm(x, axis=1))


def _some_at_a_time(
    F: Transition,
    question: Question,
    forward_mode: bool,
    asked: Bool[Array, " n"],
    rows: Rows,
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
