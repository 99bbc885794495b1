"""Tests of `trapping_box`: which states a network never leaves, by its program alone."""

import itertools

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from jax.nn import hard_sigmoid, relu, relu6, sigmoid
from networks import case, trained

import slowpoints
from slowpoints import Adam, ContinuousTime, Status, account, find_fixed_points, optimize_batch
from slowpoints._network.as_transition import as_transition
from slowpoints._network.trace import traced
from slowpoints._network.trapping.trapping_box import MARGIN, Box, is_outside, trapping_box
from slowpoints._network.units import InUnits

N, M = 6, 2


def box_of(F, n_states=N, n_inputs=M) -> Box | None:
    return trapping_box(traced("test", as_transition(F), n_states, n_inputs, np.float32))


def weights(*shape, scale=1.0, seed=0):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape) * scale, jnp.float32)


class Gru(eqx.Module):
    """A GRU with strong random weights, in which searches go astray."""

    W: jax.Array
    b: jax.Array
    unit: float = eqx.field(static=True, default=1.0)

    def __call__(self, x, u):
        h = x / self.unit
        z = sigmoid(self.W[0] @ h + self.b[0])
        r = sigmoid(self.W[1] @ h + self.b[1])
        n = jnp.tanh(self.W[2] @ (r * h) + self.b[2] + u.sum())
        return self.unit * ((1 - z) * n + z * h)


def gru(n_states, seed=0, **kwargs):
    W = weights(3, n_states, n_states, scale=2.5 / np.sqrt(n_states), seed=seed)
    return Gru(W, weights(3, n_states, scale=0.5, seed=seed + 1), **kwargs)


W, B = weights(4, N, N), weights(M, N)
a, b, c = (lambda x, u, k=k: W[k] @ x + u @ B for k in range(3))


def lstm(x, u):
    h, cell = x[:3], x[3:]
    V = W[:, :3, :3]
    cell = sigmoid(V[0] @ h) * cell + sigmoid(V[1] @ h) * jnp.tanh(V[2] @ h + u @ B[:, :3])
    return jnp.concatenate([sigmoid(V[3] @ h) * jnp.tanh(cell), cell])


GATED = {
    "GRU": (gru(N), -1, 1),
    "towards": (lambda x, u: x + sigmoid(a(x, u)) * (jnp.tanh(b(x, u)) - x), -1, 1),
    "a leak beside": (lambda x, u: 0.3 * x + 0.7 * gru(N)(x, u), -1, 1),
    "clipped": (lambda x, u: x + sigmoid(a(x, u)) * (jnp.clip(b(x, u), -2, 3) - x), -2, 3),
    "a ReLU with a limit": (lambda x, u: x + sigmoid(a(x, u)) * (relu6(b(x, u)) - x), 0, 6),
    "two gates": (
        lambda x, u: x + sigmoid(a(x, u)) * sigmoid(b(x, u)) * (4 * sigmoid(c(x, u)) - x),
        *(0, 4),
    ),
    "continuous": (
        ContinuousTime(lambda x, u: 5 * sigmoid(a(x, u)) * (jnp.tanh(b(x, u)) - x)),
        *(-1, 1),
    ),
    "squared sine": (
        lambda x, u: x + sigmoid(a(x, u)) * (2 * jnp.sin(b(x, u)) ** 2 + 1 - x),
        *(1, 3),
    ),
    "written by hand": (
        lambda x, u: (
            (1 - 1 / (1 + jnp.exp(-a(x, u)))) * x + jnp.tanh(b(x, u)) / (1 + jnp.exp(-a(x, u)))
        ),
        *(-1, 1),
    ),
    "a gate that is computed twice": (
        lambda x, u: (1 - sigmoid(a(x, u))) * x + sigmoid(a(x, u)) * jnp.tanh(b(x, u)),
        *(-1, 1),
    ),
    "hardly closed": (
        lambda x, u: x + sigmoid(jnp.clip(a(x, u), -80, 80)) * (jnp.tanh(b(x, u)) - x),
        *(-1, 1),
    ),
    "narrow": (
        lambda x, u: x + sigmoid(a(x, u)) * (1000 + 1e-4 * jnp.tanh(b(x, u)) - x),
        999.9999,
        1000.0001,
    ),
    "weights of one sign": (
        lambda x, u: x + sigmoid(jnp.abs(W[0]) @ x) * (jnp.tanh(relu(W[1]) @ x + u @ B) - x),
        *(-1, 1),
    ),
    "equinox": (eqx.nn.GRUCell(M, N, key=jax.random.key(0)), -1, 1),
}


@pytest.mark.parametrize("name", GATED)
def test_intervals_follow_from_the_program(name):
    F, low, high = GATED[name]
    box = box_of(F)
    np.testing.assert_allclose(box.low, low, rtol=1e-6)
    np.testing.assert_allclose(box.high, high, rtol=1e-6)


OTHERS = {
    "identity": lambda x, u: x,
    "drift": lambda x, u: x + 1e-7,
    "a drift where the gate is closed": lambda x, u: (
        x + sigmoid(a(x, u)) * (jnp.tanh(b(x, u)) - x) + (1 - sigmoid(a(x, u))) * 1e-7
    ),
    "slow growth": lambda x, u: (
        x + sigmoid(a(x, u)) * (jnp.tanh(b(x, u)) - x) + 5e-7 * (1 - sigmoid(a(x, u))) * x
    ),
    "slow growth in time": ContinuousTime(
        lambda x, u: 1e-6 * (sigmoid(a(x, u)) * (1 - x) + 0.5 * (1 - sigmoid(a(x, u))) * x)
    ),
    "a step that is a little too long": lambda x, u: (
        x + (1 + 9e-7) * sigmoid(a(x, u)) * (jnp.tanh(b(x, u)) - x)
    ),
    "coarse": lambda x, u: (
        (1 - sigmoid(a(x, u))) * jax.lax.reduce_precision(x, 8, 3)
        + sigmoid(a(x, u)) * jnp.tanh(b(x, u))
    ),
    "currents": lambda x, u: 0.9 * x + 0.1 * a(jnp.tanh(x), u),
    "ReLU": lambda x, u: relu(a(x, u)),
    "gated ReLU": lambda x, u: x + sigmoid(a(x, u)) * (relu(b(x, u)) - x),
    "a gate that may close": lambda x, u: x + hard_sigmoid(a(x, u)) * (jnp.tanh(b(x, u)) - x),
    "a sum of gates": lambda x, u: sigmoid(a(x, u)) * x + sigmoid(b(x, u)) * jnp.tanh(c(x, u)),
    "another unit": lambda x, u: x + sigmoid(a(x, u)) * (jnp.roll(x, 1) - x),
    "growth": lambda x, u: x * (1 + sigmoid(a(x, u))),
    "a step that is too long": lambda x, u: x + 2.5 * sigmoid(a(x, u)) * (jnp.tanh(b(x, u)) - x),
    "steps": lambda x, u: jax.lax.fori_loop(0, 2, lambda _, x: jnp.tanh(a(x, u)), x),
    "LSTM": lstm,
    # These never leave an interval either, but `q` is high outside.
    "tanh": lambda x, u: jnp.tanh(a(x, u)),
    "leaky": lambda x, u: 0.9 * x + 0.1 * (jnp.tanh(a(x, u)) + 2),
    "never closed": lambda x, u: x + (0.1 + 0.8 * sigmoid(a(x, u))) * (jnp.tanh(b(x, u)) - x),
}


@pytest.mark.parametrize("name", OTHERS)
def test_other_units_have_no_interval(name):
    assert box_of(OTHERS[name]) is None


def test_units_have_intervals_of_their_own():
    def F(x, u):
        return jnp.concatenate([gru(N)(x, u)[:2], jnp.tanh(a(x, u))[2:4], 3 * gru(N)(x / 3, u)[4:]])

    box = box_of(F)
    np.testing.assert_allclose(box.high, [1, 1, np.inf, np.inf, 3, 3], rtol=1e-6)
    np.testing.assert_allclose(box.low, -box.high)


@pytest.mark.slow
def test_frameworks_have_the_same_intervals():
    torch = pytest.importorskip("torch")
    for model in (torch.nn.GRU(M, N), torch.nn.GRUCell(M, N)):
        box = box_of(model)
        assert (box.low == -1).all() and (box.high == 1).all()
    assert (box_of(torch.nn.GRU(M, N, num_layers=2), 2 * N).high == 1).all()
    assert box_of(torch.nn.RNN(M, N)) is None


def test_entries_may_be_taken_apart_and_put_together():
    def F(x, u):
        entries = list(x)
        n = jnp.tanh(sum(entries) + u.sum())
        z = sigmoid(entries[0] - 2 * entries[1])
        moved = [y + z * (n - y) for y in entries[:3]]
        return jnp.stack([*moved, jnp.tanh(entries[3]), entries[5], entries[4]])

    box = box_of(F)
    np.testing.assert_allclose(box.high, [1, 1, 1, np.inf, np.inf, np.inf])


def test_large_powers_are_no_error():
    def F(x, u):
        e = jnp.exp(jnp.clip(a(x, u), -80.0, 80.0))
        return x + sigmoid(b(x, u)) * (1 / (1 + jnp.tanh(e) ** 2 + 1 / (1 + e**10)) - x)

    with np.errstate(all="raise"):
        box = box_of(F)
    np.testing.assert_allclose([box.low, box.high], np.repeat([[1 / 3], [1]], N, axis=1))


@pytest.mark.slow
def test_long_programs_are_read_in_part():
    def network(n_steps):
        def F(x, u):
            y = x
            for _ in range(n_steps):
                y = jnp.tanh(a(y, u)) + jnp.sin(y)
            return x + sigmoid(20 * y) * (jnp.tanh(b(x, u)) - x)

        return F

    assert (box_of(network(10)).high == 1).all()
    assert box_of(network(100)) is None


def test_intervals_are_in_the_units_of_the_states():
    F = traced("test", as_transition(gru(N, unit=1e-6)), N, M, np.float32)
    box = trapping_box(F)
    np.testing.assert_allclose(box.high, 1e-6, rtol=1e-6)
    box = trapping_box(InUnits(F, np.array(2.0**-20)))
    np.testing.assert_allclose(box.high, 1e-6 * 2**20, rtol=1e-5)


def test_states_within_the_margin_are_not_outside():
    F = traced("test", as_transition(gru(N)), N, M, np.float32)
    beyond = np.array([0, 0.4 * MARGIN * 2, 0.6 * MARGIN * 2, 5, np.inf])
    x = np.zeros((5, N), np.float32)
    x[:, 2] = 1 + beyond
    for sign in (1, -1):
        np.testing.assert_array_equal(is_outside(F, sign * x), [0, 0, 1, 1, 1])


def test_rounding_of_large_states_is_not_outside_of_a_narrow_interval():
    F, *_ = GATED["narrow"]
    x = np.float32([[999.9999] * N, [1000.0001] * N, [1000.0002] * N])
    F = traced("test", as_transition(F), N, M, np.float32)
    assert not is_outside(F, x).any() and is_outside(F, x + 1).all()


# ---- programs at random ------------------------------------------------------------------------

GATES = {
    "sigmoid": sigmoid,
    "sigmoid of a ReLU": lambda y: sigmoid(relu(y)),
    "its square": lambda y: sigmoid(y) ** 2,
    "constant": lambda y: 0.3 + 0 * y,
    "hard": hard_sigmoid,
    "hard, never closed": lambda y: 0.2 + 0.5 * hard_sigmoid(y),
    "product": lambda y: sigmoid(y) * sigmoid(-3 * y),
    "sine": lambda y: 0.5 + 0.5 * jnp.sin(y),
    "exp": lambda y: jnp.exp(-relu(y)),
    "tanh": jnp.tanh,
}
TARGETS = {
    "tanh": jnp.tanh,
    "shifted": lambda y: 3 * jnp.tanh(y) + 1,
    "ReLU": relu,
    "limited": lambda y: jnp.minimum(relu(y), 2.0),
    "sine": jnp.sin,
    "sigmoid": sigmoid,
    "linear": lambda y: y,
    "softplus": jax.nn.softplus,
    "silu": jax.nn.silu,
}
FORMS = {
    "mean": lambda x, z, w, n: (1 - z) * x + z * n,
    "towards": lambda x, z, w, n: x + z * (n - x),
    "the other way": lambda x, z, w, n: z * x + (1 - z) * n,
    "a sum": lambda x, z, w, n: z * x + w * n,
    "further": lambda x, z, w, n: x + 1.7 * z * (n - x),
    "both": lambda x, z, w, n: (1 - z * w) * x + z * w * n,
    "one of two": lambda x, z, w, n: (1 - z) * x + w * n,
    "between": lambda x, z, w, n: (1 - z) * x + z * ((1 - w) * n + w * x),
    "away": lambda x, z, w, n: x - z * (n - x),
    "with a drift": lambda x, z, w, n: (1 - z) * x + z * n + 0.01 * (1 - z),
    "of one gate": lambda x, z, w, n: x + z * z * (n - x),
    "negative": lambda x, z, w, n: -z * x + (1 + z) * n,
}


def check_random_program(gate, other, target, form, seed):
    """Compare the intervals with what happens to states and inputs of many sizes, in float64."""
    rng = np.random.default_rng(seed)
    V = rng.normal(size=(3, N, N)) * 10 ** rng.uniform(-1, 2)

    def F(x, u):
        y = [v @ x + u.sum() for v in jnp.asarray(V, x.dtype)]
        return FORMS[form](x, GATES[gate](y[0]), GATES[other](y[1]), TARGETS[target](y[2]))

    box = box_of(F)
    if box is None:
        return False
    k = 400
    with jax.enable_x64(True):
        x = rng.uniform(box.low, box.high, (k, N))
        beyond = rng.random((k, N)) < 0.4
        away = 10.0 ** rng.uniform(-3, 3, (k, N)) * rng.choice([-1, 1], (k, N))
        x = np.where(beyond, np.where(away > 0, box.high, box.low) + away, x)
        u = rng.normal(size=(k, M)) * 10.0 ** rng.uniform(-2, 3, (k, 1))
        x_next = np.asarray(jax.vmap(F)(jnp.asarray(x), jnp.asarray(u)))
    slack = 1e-9 * (1 + np.abs(x))
    assert np.all(x_next <= np.maximum(x, box.high) + slack)
    assert np.all(x_next >= np.minimum(x, box.low) - slack)
    return True


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(list(GATES)),
    st.sampled_from(list(GATES)),
    st.sampled_from(list(TARGETS)),
    st.sampled_from(list(FORMS)),
    st.integers(0, 2**31),
)
def test_no_state_leaves_the_intervals_of_any_program(gate, other, target, form, seed):
    check_random_program(gate, other, target, form, seed)


@pytest.mark.slow
def test_all_forms_of_gated_units():
    cases = list(itertools.product(GATES, ("sigmoid", "hard"), TARGETS, FORMS))[::31]
    found = [case for i, case in enumerate(cases) if check_random_program(*case, seed=i)]
    assert len(found) >= 3  # else nothing has been tested


# ---- searches ------------------------------------------------------------------------------------


def starts(n_states, noise, n=256, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1, 1, (n, n_states)) + noise * rng.normal(size=(n, n_states))
    return jnp.asarray(x, jnp.float32)


@pytest.mark.parametrize("noise", [0.0, 1.0])
@pytest.mark.slow
def test_rows_of_a_strong_gru_come_to_points_or_have_escaped(noise):
    F, x = gru(8), starts(8, noise)
    fps, rows = find_fixed_points(F, x, jnp.zeros((1, 1)), final_q_threshold=None)
    ends = [Status.FIXED_POINT, Status.SLOW_POINT, Status.ESCAPED]
    assert np.isin(rows.status, ends).all()
    assert np.all(np.abs(fps.xstar) < 1 + MARGIN)
    outside = np.any(np.abs(rows.xstar) > 1 + MARGIN, axis=1)
    np.testing.assert_array_equal(np.asarray(rows.status) == Status.ESCAPED, outside)
    assert not np.asarray(rows.valid)[outside].any()
    np.testing.assert_array_equal(rows.x_init, x)  # as they were given, outside or not
    assert np.mean(np.asarray(rows.status) <= Status.SLOW_POINT) > 0.4
    told = str(account(fps, rows, F=F, final_q_threshold=None))
    assert f"{outside.sum()} escaped: they left the states that no trajectory leaves" in told


@pytest.mark.slow
def test_it_is_the_same_inside_jit():
    F, x, u = gru(8), starts(8, 0.5, n=64), jnp.zeros((1, 1))
    plain = optimize_batch(F, x, u)
    inside = jax.jit(optimize_batch)(F, x, u)
    np.testing.assert_array_equal(plain.status, inside.status)
    assert {Status.FIXED_POINT, Status.ESCAPED} <= set(np.asarray(plain.status).tolist())


@pytest.mark.slow
@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_it_is_the_same_in_other_units(unit):
    x, u = starts(8, 0.5, n=64), jnp.zeros((1, 1))
    usual = optimize_batch(gru(8), x, u)
    scaled = optimize_batch(gru(8, unit=unit), unit * x, u)
    is_point = np.asarray(usual.status) == Status.FIXED_POINT
    assert 0.2 < is_point.mean() < 0.9
    assert np.mean(is_point == (np.asarray(scaled.status) == Status.FIXED_POINT)) > 0.85
    assert np.isin(scaled.status, [1, 2, 5]).all()


@pytest.mark.slow
def test_rows_of_other_solvers_escape_too():
    """Gradient descent stops at `q < tol_q` far outside, where gates are closed."""
    x = jnp.full((8, N), 60.0) * jnp.asarray(np.sign(np.random.default_rng(1).normal(size=(8, N))))
    F = gru(N)
    rows = optimize_batch(F, x.astype(jnp.float32), jnp.zeros((1, 1)), solver=Adam(), tol_q=1e-5)
    outside = np.any(np.abs(rows.xstar) > 1 + MARGIN, axis=1)
    assert outside.any()
    np.testing.assert_array_equal(np.asarray(rows.status) == Status.ESCAPED, outside)
    # A unit without such an interval may be anywhere.
    free = optimize_batch(
        lambda x, u: x + hard_sigmoid(F.W[0] @ x) * (jnp.tanh(F.W[2] @ x) - x),
        *(x.astype(jnp.float32), jnp.zeros((1, 1))),
        solver=Adam(),
        tol_q=1e-5,
    )
    assert Status.ESCAPED not in np.asarray(free.status)


@pytest.mark.slow
def test_where_gates_are_closed_nothing_is_a_line_of_points():
    """To rounding, every state outside follows itself, and so do those on the way to it."""

    def F(x, u):
        return x + sigmoid(x - 40) * (jnp.tanh(x) - x)

    x = jnp.linspace(-3, 3, 8)[:, None]
    rows = optimize_batch(F, x, jnp.zeros((1, 0)), solver=Adam())
    outside = np.abs(rows.xstar[:, 0]) > 1.01
    assert outside.any() and not outside.all()
    np.testing.assert_array_equal(np.asarray(rows.status) == Status.ESCAPED, outside)


@pytest.mark.slow
def test_the_points_of_a_trained_gru_are_found_from_noisy_starts():
    """Before, four slow points of 31 were where no trajectory comes."""
    traj = case("gru")["traj"]
    key = jax.random.key(0)
    x = slowpoints.sample_states(key, traj, 512, noise_scale=1.0)
    fps, rows = find_fixed_points(trained("gru"), x, jnp.zeros((1, 3)), final_q_threshold=None)
    assert fps.n == 27 and np.all(np.asarray(fps.status) == Status.FIXED_POINT)
    assert np.isin(rows.status, [Status.FIXED_POINT, Status.ESCAPED]).all()
    assert np.mean(np.asarray(rows.status) == Status.FIXED_POINT) > 0.85
