"""Rows that are on their way along a valley, as around a ring, come to its end."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from slowpoints import BoundedNewton, Status, optimize_batch
from slowpoints._core.programs import forget_programs
from slowpoints._network.as_transition import as_transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._search.search_in_stages import _run_stage
from slowpoints._solvers.base import Stopping
from slowpoints._valleys import valleys
from slowpoints._valleys.valleys import along_valleys, ends_of_valleys

NO_INPUT = np.zeros(0, np.float32)


def even_ring(n):
    angles = 2 * np.pi * np.arange(n) / n
    return angles, 3 / n * np.cos(angles[:, None] - angles)


def uneven_ring(n, unevenness, seed):
    angles, even = even_ring(n)
    W = even + unevenness * np.random.default_rng(seed).normal(size=(n, n)) / np.sqrt(n)
    return angles, np.float32(W)


def on_bumps(W, angles, n_rows):
    rng = np.random.default_rng(0)
    x = np.cos(angles - 2 * np.pi * rng.uniform(size=(n_rows, 1)))
    x = x + 0.1 * rng.normal(size=x.shape)
    for _ in range(2):
        x = np.tanh(x @ W.T)
    return np.float32(x)


def search(W, x, **settings):
    return optimize_batch(lambda x, u: jnp.tanh(jnp.asarray(W) @ x), x, NO_INPUT, **settings)


def minima_along(W, angles, n_places=2000):
    """Return the angles where the speed along the ring is smallest, by relaxation on it."""
    phase = 2 * np.pi * np.arange(n_places) / n_places
    x = np.cos(angles - phase[:, None])
    W = np.float64(W)
    for _ in range(200):  # each step shortens what is beside the ring by half and more
        x = np.tanh(x @ W.T)
    phase = np.unwrap(np.angle(x @ np.exp(1j * angles)))
    q = np.square(np.tanh(x @ W.T) - x).sum(axis=1)
    is_least = (q < np.roll(q, 1)) & (q < np.roll(q, -1))
    return phase[is_least]


@pytest.mark.slow
@pytest.mark.parametrize("unevenness", [0.004, 0.0005])
def test_on_a_nearly_even_ring_all_rows_come_to_one_of_its_few_points(unevenness):
    """Speeds along it are some 1e-4 of its size and less."""
    angles, W = uneven_ring(64, unevenness, 1)
    rows = search(W, on_bumps(W, angles, 96))
    assert (np.asarray(rows.status) <= Status.SLOW_POINT).all()
    phases = np.angle(np.asarray(rows.xstar) @ np.exp(1j * angles))
    # By symmetry, each point has its mirror image: two of them are stable, and two are saddles.
    assert np.unique(np.round(phases, 2)).size == 4
    apart = np.abs(np.exp(1j * phases[:, None]) - np.exp(1j * minima_along(W, angles)))
    assert apart.min(axis=1).max() < 0.02


@pytest.mark.slow
def test_a_search_goes_on_from_ends_of_valleys_with_the_programs_that_it_has():
    angles, W = uneven_ring(32, 0.004, 1)
    forget_programs()
    search(W, on_bumps(W, angles, 96))
    stages = [structure for structure, *_ in _run_stage._programs]
    assert len(stages) > 1 and len(set(stages)) == len(stages)


@pytest.mark.slow
@pytest.mark.parametrize("unevenness", [0.004, 0.0005])
def test_no_row_on_a_ring_that_started_at_its_middle_has_escaped(unevenness):
    """It comes far from there, and `q` is as low as in a tail, long before it is at a point."""
    _, W = uneven_ring(64, unevenness, 1)
    x = np.float32(0.5 * np.random.default_rng(2).normal(size=(128, 64)))
    status = np.asarray(search(W, x).status)
    assert (status == Status.FIXED_POINT).all()


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_rings_have_their_points_in_any_unit(scale):
    angles, W = uneven_ring(32, 0.001, 0)
    x = on_bumps(W, angles, 64)
    rows = optimize_batch(
        lambda x, u: scale * jnp.tanh(jnp.asarray(W) @ (x / scale)), scale * x, NO_INPUT
    )
    assert (np.asarray(rows.status) == Status.FIXED_POINT).all()


@pytest.mark.slow
def test_valleys_are_followed_for_other_solvers_and_within_the_number_of_iterations():
    angles, W = uneven_ring(32, 0.001, 0)
    x = on_bumps(W, angles, 64)
    rows = search(W, x, solver=BoundedNewton(patience=20), max_iters=200)
    assert (np.asarray(rows.status) <= Status.SLOW_POINT).all()
    assert np.asarray(rows.n_iters).max() <= 200
    cut = search(W, x, max_iters=30)
    assert np.asarray(cut.n_iters).max() <= 30
    assert np.any(np.asarray(cut.status) == Status.UNFINISHED)


# ---- where valleys end ---------------------------------------------------------------------------


def ring(speed):
    """A ring of radius 1 in two dimensions, along which states go round by `speed(angle)`."""

    def F(x, u):
        r, angle = jnp.linalg.norm(x), jnp.arctan2(x[1], x[0])
        r, angle = r + (1 - r) / 2, angle + speed(angle)
        return r * jnp.stack([jnp.cos(angle), jnp.sin(angle)])

    return F


def along_first(speed, bend=lambda a: 0 * a):
    """A valley on which states move along the first axis, and follow a bend in the second."""
    return lambda x, u: jnp.stack([x[0] + speed(x[0]), (x[1] + bend(x[0])) / 2])


def ends(F, x, x_init=(0.0, 0.0)):
    with jax.enable_x64(True):
        x, x_init = np.array([x]), np.array([x_init])
        found = ends_of_valleys(as_transition(F), x, x_init, np.zeros((1, 0)), np.array([1000]))
    return found


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "speed, start, end, at_minimum",
    [
        (lambda a: 1e-4 * jnp.sin(a), 2.0, np.pi, False),  # on to the stable fixed point
        (lambda a: 1e-4 * jnp.sin(a), 1.0, 0.0, False),  # back to the unstable one
        (lambda a: 1e-4 * (1.2 + jnp.cos(a)), 0.5, np.pi, True),  # or to where it is slowest
        (lambda a: 1e-8 * jnp.sin(a), 2.0, np.pi, False),
    ],
    ids=["stable", "unstable", "slowest", "slower"],
)
def test_a_ring_is_followed_to_where_states_rest_or_are_slowest(speed, start, end, at_minimum):
    found = ends(ring(speed), [np.cos(start), np.sin(start)])
    assert found.known and found.at_minimum == at_minimum
    np.testing.assert_allclose(found.x, [[np.cos(end), np.sin(end)]], atol=5e-3)
    with jax.enable_x64(True):
        q = float(half_squared_norm(ring(speed)(jnp.asarray(found.x[0]), None) - found.x[0]))
        first, last = (0.5 * float(speed(jnp.asarray(angle))) ** 2 for angle in (start, end))
    assert q <= 1.0002 * last if at_minimum else q < 1e-12 * first + 1e-24


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "F, x, known",
    [
        (along_first(lambda a: jnp.exp(-a)), [12.0, 0.0], False),
        (along_first(lambda a: jnp.exp(-a), jnp.tanh), [12.0, 1.0], False),
        (along_first(lambda a: jnp.exp(-a), jnp.sin), [12.0, np.sin(12)], False),
        (along_first(lambda a: 1 / (1 + a**2)), [60.0, 0.0], False),
        (along_first(lambda a: 1e-4 * (1 - a / 30)), [12.0, 0.0], True),
        (along_first(lambda a: 1e-4 * jnp.cos(a / 10), jnp.sin), [12.0, np.sin(12)], True),
        (along_first(lambda a: 0 * a), [12.0, 0.0], False),
        (along_first(lambda a: a + jnp.nan), [12.0, 0.0], False),
    ],
    ids=["exp", "exp with a limit", "exp along a bend", "1 / x**2", "point", "bend", "line", "NaN"],
)
def test_tails_have_no_end(F, x, known):
    assert ends(F, x).known == [known]


@pytest.mark.slow
def test_where_second_derivatives_are_nan_a_valley_is_left_at_once():
    def F(x, u):
        return jnp.stack([x[0] + 1e-4 + jnp.abs(x[1]) ** 1.5, x[1] / 2])

    found = ends(F, [1.0, 0.0])
    assert not found.known and found.n_steps[0] < 10


def test_as_many_ends_as_rows_are_told():
    starts = np.linspace(1.8, 2.8, 11)
    x = np.stack([np.cos(starts), np.sin(starts)], axis=1)
    with jax.enable_x64(True):
        F = as_transition(ring(lambda a: 1e-4 * jnp.sin(a)))
        found = ends_of_valleys(F, x, 0 * x, np.zeros((11, 0)), np.full(11, 1000))
    assert found.known.all()
    np.testing.assert_allclose(found.x, [[-1, 0]] * 11, atol=5e-4)


# ---- which rows are followed, and what becomes of them -------------------------------------------


def taken_on(
    F, x, status, q_again, x_again=None, *, q=1e-9, dq=1e-15, tol_dq=1e-20, unit=1.0, then=1
):
    """Return what `along_valleys` makes of rows that the solver takes to a `q` when asked again."""
    n, asked = len(x), []

    def search(x, u, max_iters):
        asked.append(max_iters)
        x = x if x_again is None else np.tile(x_again, (len(x), 1))
        rows = {"xstar": x, "qstar": np.full(len(x), q_again), "n_iters": np.full(len(x), 3)}
        return rows | {"status": np.full(len(x), np.int8(then)), "valid": np.full(len(x), True)}

    with jax.enable_x64(True):
        F = as_transition(F)
        x, u = jnp.asarray(x), jnp.zeros((n, 0))
        valid = jnp.full(n, status < Status.ESCAPED)
        found = {"xstar": x, "qstar": jnp.full(n, q), "dq": jnp.full(n, dq)}
        found |= {"n_iters": jnp.full(n, 7), "status": jnp.full(n, status, np.int8), "valid": valid}
        stopping = Stopping(jnp.asarray(1000), jnp.asarray(1e-12), jnp.asarray(tol_dq))
        told = along_valleys(search, F, 0 * x, u, jnp.full(x.shape[1], unit), stopping, found)
        return {name: np.asarray(value) for name, value in told.items()}, asked


@pytest.mark.slow_cases
@pytest.mark.parametrize("status", [Status.UNFINISHED, Status.ESCAPED])
def test_a_row_stays_where_it_is_if_the_solver_then_goes_elsewhere_but_has_not_escaped(status):
    F, x = ring(lambda a: 1e-4 * jnp.sin(a)), np.array([[np.cos(2), np.sin(2)]])
    told, asked = taken_on(F, x, status, q_again=1e-3, x_again=[5.0, 5.0])
    np.testing.assert_array_equal(told["xstar"], x)
    assert told["qstar"] == [1e-9] and told["n_iters"] == [7]
    assert told["status"] == [Status.UNFINISHED] and told["valid"].all()
    told, asked = taken_on(F, x, status, q_again=1e-12)
    np.testing.assert_allclose(told["xstar"], [[-1, 0]], atol=5e-4)
    assert told["status"] == [Status.FIXED_POINT] and told["valid"].all()
    n_steps = 1000 - 7 - asked[0]
    assert 5 < n_steps < 100 and told["n_iters"] == 7 + n_steps + 3


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "speed, x_again, status",
    [
        (lambda a: 1e-4 * (1.2 + jnp.cos(a)), [-1.001, 0.001], Status.SLOW_POINT),
        (lambda a: 1e-4 * (1.2 + jnp.cos(a)), [-1.0, 0.1], Status.UNFINISHED),  # moved on
        (lambda a: 1e-4 * jnp.sin(a), [-1.001, 0.001], Status.UNFINISHED),  # next to a root
    ],
)
def test_a_minimum_on_the_floor_is_one_though_rounding_leaves_the_row_beside_it(
    speed, x_again, status
):
    x = np.array([[np.cos(2), np.sin(2)]])
    told, _ = taken_on(ring(speed), x, Status.UNFINISHED, 2e-10, x_again, then=Status.UNFINISHED)
    assert told["status"] == [status]


@pytest.mark.slow
def test_a_row_on_a_line_of_points_is_not_followed():
    """Along which all that `q` does is rounding."""
    Q, _ = np.linalg.qr(np.random.default_rng(0).normal(size=(12, 12)))
    A = Q * np.append(1, np.full(11, 0.5)) @ Q.T
    for place in (3.0, -7.0, 20.0):
        found = ends(lambda x, u: jnp.asarray(A) @ x, place * Q[:, 0], np.zeros(12))
        assert not found.known and found.n_steps[0] <= 2


@pytest.mark.slow_cases
@pytest.mark.parametrize("n_left", [1, 4, 1000])
def test_a_valley_is_followed_for_as_many_steps_as_are_left(n_left):
    F, x = ring(lambda a: 1e-4 * jnp.sin(a)), np.array([[np.cos(1.6), np.sin(1.6)]])
    with jax.enable_x64(True):
        found = ends_of_valleys(as_transition(F), x, 0 * x, np.zeros((1, 0)), np.array([n_left]))
    assert found.known == [n_left == 1000] and found.n_steps[0] <= n_left - 1


def test_a_row_that_was_asked_to_end_where_q_hardly_falls_any_more_is_not_followed():
    F, x = ring(lambda a: 1e-4 * jnp.sin(a)), np.array([[np.cos(2), np.sin(2)]])
    told, asked = taken_on(F, x, Status.UNFINISHED, q_again=1e-12, tol_dq=1e-14)
    np.testing.assert_array_equal(told["xstar"], x)
    assert asked == [] and told["n_iters"] == [7] and told["status"] == [Status.UNFINISHED]
    _, asked = taken_on(F, x, Status.UNFINISHED, q_again=1e-12, tol_dq=1e-16)
    assert len(asked) == 1
    # Whoever leaves it as it is has not asked for that.
    _, asked = taken_on(F, x, Status.UNFINISHED, q_again=1e-12, dq=1e-21)
    assert len(asked) == 1


@pytest.mark.slow
def test_in_a_small_unit_tol_dq_ends_rows_at_as_small_a_part_of_it():
    def small(x, u):
        return 1e-3 * ring(lambda a: 1e-4 * jnp.sin(a))(1e3 * x, u)

    x = 1e-3 * np.array([[np.cos(2), np.sin(2)]])
    for tol_dq, is_asked in [(1e-10, True), (1e-8, False)]:  # for states of 1: 1e-16 and 1e-14
        _, asked = taken_on(small, x, Status.UNFINISHED, 0, tol_dq=tol_dq, unit=1e-3)
        assert bool(asked) == is_asked


@pytest.mark.slow_cases
@pytest.mark.parametrize("q_again, is_the_same", [(1.5e-30, True), (3e-30, False)])
def test_at_the_end_of_a_valley_q_may_be_larger_by_how_it_is_rounded(q_again, is_the_same):
    F, x = ring(lambda a: 1e-4 * jnp.sin(a)), np.array([[np.cos(2), np.sin(2)]])
    told, _ = taken_on(F, x, Status.UNFINISHED, q_again, q=1e-30)
    assert (told["status"] == [Status.FIXED_POINT]) == is_the_same


@pytest.mark.slow
def test_of_many_rows_in_a_tail_a_few_are_followed_and_of_those_on_a_ring_all(monkeypatch):
    followed = []

    def counted(F, x, *rest):
        followed.append(len(x))
        return ends_of_valleys(F, x, *rest)

    monkeypatch.setattr(valleys, "ends_of_valleys", counted)
    angles = np.linspace(0.5, 2.5, 40)
    on_ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    told, _ = taken_on(ring(lambda a: 1e-4 * jnp.sin(a)), on_ring, Status.ESCAPED, q_again=0)
    assert sum(followed) == 40 and (told["status"] == Status.FIXED_POINT).all()
    followed.clear()
    in_tail = np.stack([np.linspace(10, 14, 40), np.zeros(40)], axis=1)
    F = along_first(lambda a: jnp.exp(-a))
    told, asked = taken_on(F, in_tail, Status.ESCAPED, q_again=0)
    assert sum(followed) <= 16 and not asked
    assert (told["status"] == Status.ESCAPED).all() and not told["valid"].any()
