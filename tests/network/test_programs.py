"""A network is one program: traced once, equal for one architecture, computed in any precision."""

import gc
import threading

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import compilations

from slowpoints import ContinuousTime, Status, Transition, as_transition, jacobians, optimize_batch
from slowpoints._network.network import digest_of_network, finest
from slowpoints._network.precision import with_precision
from slowpoints._network.trace import traced

N = 4
rng = np.random.default_rng(0)
W = jnp.asarray(rng.normal(size=(N, N)), jnp.float32)
X = jnp.asarray(rng.normal(size=N), jnp.float32)
U = jnp.ones(2)


@jax.custom_jvp
def scaled(x, y):
    return jnp.sin(x) * y


@scaled.defjvp
def _(primals, tangents):
    """Twice the true derivative, so that it is seen whether this rule is used."""
    (x, y), (dx, dy) = primals, tangents
    value = scaled(x, y)
    return value, 2 * (jnp.cos(x) * y * dx + scaled(x, dy)) + 0 * W[0, 0] * value


def in_a_scan(x, u):
    def body(h, t):
        h = jnp.tanh(W @ h + t)
        return h, h.sum()

    h, sums = jax.lax.scan(body, x, jnp.arange(5.0), reverse=True)
    return h * sums.sum()


def nested(x, u):
    def body(h, _):
        return jax.lax.cond(h[0] > 0, lambda h: jax.nn.relu(W @ h), jax.nn.silu, h), None

    return jax.lax.scan(body, x, None, length=3)[0]


def with_indices(x, u):
    x = x.at[1].add(2.0).at[0].max(0.1).at[jnp.array([2, 3])].set(x[:2])
    return x[jnp.array([3, 1, 2, 0])] * x[::-1]


def filtered(x, u):
    return jnp.fft.irfft(jnp.fft.rfft(x) * jnp.exp(1j * jnp.arange(3)), n=N)


def implicit(x, u):
    return jnp.linalg.solve(3 * jnp.eye(N) + 0.1 * W + 0.01 * jnp.outer(x, x), x)


def reduced(x, u):
    return x * jax.lax.reduce(x, jnp.float32(1), lambda a, b: a * b, (0,)) + jnp.max(x)


def pooled(x, u):
    return jax.lax.reduce_window(x, 0.0, jax.lax.add, (2,), (1,), "SAME")


def noisy_by_a_fixed_key(x, u):
    return x + jax.random.normal(jax.random.key(3), (N,))


def sum_of_bits(x, u):
    return x * jnp.argmax(W @ x) + jnp.round(3 * x).astype(int) + jnp.mod(x, 0.3)


STEPS = {
    "linear": lambda x, u: W @ x + u.sum(),
    "relu": lambda x, u: jax.nn.relu(W @ x) + jax.nn.relu(0 * x),
    "activations": lambda x, u: jax.nn.silu(W @ x) + jax.nn.softplus(x) + jax.nn.gelu(x),
    "rule": lambda x, u: scaled(x, W @ x),
    "rule, same argument": lambda x, u: scaled(x, x),
    "rule, numbers": lambda x, u: scaled(x, 2.0) + scaled(1.0, x),
    "rule in a loop": lambda x, u: jax.lax.fori_loop(0, 3, lambda _, h: scaled(h, W @ h), x),
    "scan": in_a_scan,
    "while": lambda x, u: jax.lax.while_loop(
        lambda c: c[1] < 3, lambda c: (jnp.sin(W @ c[0]), c[1] + 1), (x, 0)
    )[0],
    "nested": nested,
    "switch": lambda x, u: jax.lax.switch(2, [jnp.sin, jnp.cos, jnp.tanh], x),
    "indices": with_indices,
    "complex numbers": filtered,
    "implicit": implicit,
    "reduce": reduced,
    "pool": pooled,
    "key": noisy_by_a_fixed_key,
    "whole numbers": sum_of_bits,
    "compiled": jax.jit(lambda x, u: jnp.tanh(W @ x) * 1.5),
    "checkpoint": lambda x, u: jax.checkpoint(lambda x: jnp.tanh(W @ x))(x),
    "derivative inside": lambda x, u: jax.jacfwd(lambda x: jnp.tanh(W @ x))(x) @ x,
    "batch inside": lambda x, u: jax.vmap(lambda w: jnp.tanh(w @ x))(W),
    "error_if": lambda x, u: eqx.error_if(jnp.tanh(W @ x), jnp.any(x > 1e9), "large"),
    "print": lambda x, u: (jax.debug.callback(lambda v: None, x.sum()), jnp.tanh(x))[1],
}


def network(F, n_states=N, **settings):
    return traced("test", as_transition(F), n_states, 2, np.float32, **settings)


def of(F, transform):
    return jax.jit(transform(lambda x: F(x, U)))(X)


@pytest.mark.one_in(2)
@pytest.mark.slow_cases
@pytest.mark.parametrize("name", STEPS)
def test_a_program_computes_what_the_model_computes(name):
    F, program = STEPS[name], network(STEPS[name])
    for transform in (lambda f: f, jax.jacfwd, lambda f: jax.jacfwd(jax.jacfwd(f))):
        expected = of(F, transform)
        np.testing.assert_allclose(of(program, transform), expected, rtol=1e-5, atol=1e-5)
    both = jax.vmap(program, (0, None))(jnp.stack([X, 2 * X]), U)
    np.testing.assert_allclose(both[1], F(2 * X, U), rtol=1e-5, atol=1e-5)


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", STEPS)
def test_equal_steps_are_equal_programs(name):
    first, second = network(STEPS[name]), network(STEPS[name])
    assert first.program is second.program
    assert digest_of_network(first) == digest_of_network(second)
    if name != "linear":
        assert first.program != network(STEPS["linear"]).program


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", sorted(STEPS.keys() - {"key", "whole numbers", "reduce"}))
def test_a_program_computes_in_double_precision(name):
    program, h, expected = network(STEPS[name]), 1e-5, STEPS[name](X, U)
    with jax.enable_x64(True):
        x, v = jnp.asarray(X, np.float64), jnp.cos(jnp.arange(N, dtype=np.float64))
        values = [program(x + k * h * v, U) for k in (-1, 0, 1)]
        assert values[1].dtype == np.float64
        np.testing.assert_allclose(values[1], expected, rtol=1e-4, atol=1e-5)
        _, slope = jax.jvp(lambda x: program(x, U), (x,), (v,))
        factor = 2**3 if name == "rule in a loop" else 2 if name.startswith("rule") else 1
        if factor < 8:  # differences in float32 would be 0.01 off
            difference = factor * (values[2] - values[0]) / (2 * h)
            np.testing.assert_allclose(slope, difference, rtol=1e-6, atol=1e-6)


def test_numbers_of_python_are_part_of_the_program_to_the_last_digit():
    def with_number(value):
        return network(lambda x, u: x * value).program

    one = np.float32(1)
    assert with_number(1.0) == with_number(1.0) != with_number(float(np.nextafter(one, 2 * one)))
    assert with_number(0.0) != with_number(-0.0)


def test_arrays_are_no_part_of_it():
    def with_array(value):
        return network(lambda x, u: x * value)

    first, second = with_array(jnp.float32(2)), with_array(jnp.float32(3))
    assert first.program is second.program
    assert digest_of_network(first) != digest_of_network(second)
    assert first.program is not with_array(jnp.ones(N)).program


def test_arrays_of_numpy_are_copied():
    W = np.eye(N, dtype=np.float32)
    F = network(lambda x, u: W @ x)
    W[:] = 0
    np.testing.assert_array_equal(F(X, U), X)


def test_functions_inside_a_step_are_compared_by_code_and_contents():
    def with_callback(value):
        def called(x):
            return np.asarray(value * x, np.float32)

        def F(x, u):
            return jax.pure_callback(called, jax.ShapeDtypeStruct((N,), np.float32), x)

        return network(F, forward_mode=False)

    first, second, other = map(with_callback, (2.0, 2.0, 3.0))
    assert first.program is second.program != other.program
    np.testing.assert_allclose(other(X, U), 3 * X)


@pytest.mark.slow
def test_code_outside_of_jax_limits_the_precision():
    @jax.custom_jvp
    def called(x):
        spec = jax.ShapeDtypeStruct(x.shape, np.float32)
        return jax.pure_callback(np.tanh, spec, x, vmap_method="broadcast_all")

    called.defjvp(lambda p, t: (called(*p), (1 - called(*p) ** 2) * t[0]))
    F = network(lambda x, u: called(W @ x))
    assert finest(F) == np.float32 and finest(ContinuousTime(F)) == np.float32
    assert finest(network(STEPS["key"])) is None  # looks at bits of whole numbers only
    with jax.enable_x64(True):
        assert F(jnp.asarray(X, np.float64), U).dtype == np.float64
    fps = optimize_batch(lambda x, u: 0.5 * called(x) + 0.1, jnp.ones((3, N)), U)
    assert (fps.status == Status.FIXED_POINT).all()


def test_rules_of_functions_that_use_each_other_end():
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    @jax.custom_jvp
    def g(x):
        return jnp.cos(x)

    f.defjvp(lambda p, t: (f(*p), g(*p) * t[0]))
    g.defjvp(lambda p, t: (g(*p), -f(*p) * t[0]))
    F = network(lambda x, u: f(x))
    derivative = lambda x: F(x, U)[0]  # noqa: E731
    for _ in range(3):
        derivative = jax.grad(derivative)
        derivative = (lambda d: lambda x: d(x)[0])(derivative)
    np.testing.assert_allclose(derivative(X), -np.cos(X[0]), rtol=1e-5)


def test_arrays_reach_a_rule_inside_of_another():
    double = jnp.full(N, 2.0)

    @jax.jit
    def doubled(x):
        return double * x  # an array of the compiled function, rather than an argument

    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    @jax.custom_jvp
    def g(x):
        return jnp.cos(x)

    f.defjvp(lambda p, t: (f(*p), doubled(g(*p)) * t[0]))
    g.defjvp(lambda p, t: (g(*p), f(*p) * t[0]))
    F = network(lambda x, u: f(x))
    third = jax.jacfwd(jax.jacfwd(jax.jacfwd(lambda x: F(x, U))))(X)
    np.testing.assert_allclose(third[0, 0, 0, 0], 4 * np.cos(X[0]), rtol=1e-5)


def test_functions_that_compute_the_same_keep_their_own_rules():
    @jax.custom_jvp
    def f(x):
        return jnp.sin(x)

    @jax.custom_jvp
    def g(x):
        return jnp.sin(x)

    f.defjvp(lambda p, t: (f(*p), g(*p) * t[0]))
    g.defjvp(lambda p, t: (g(*p), 3 * t[0]))
    F = network(lambda x, u: f(x))
    second = jax.grad(jax.grad(lambda x: F(jnp.full(N, x), U)[0]))
    assert second(0.5) == 3


@pytest.mark.slow
def test_a_rule_with_arrays_of_its_own_is_that_of_the_model_as_it_is_now():
    held = [jnp.float32(2)]

    @jax.custom_jvp
    def f(x):
        return 0.5 * x

    f.defjvp(lambda p, t: (f(*p), held[0] * t[0]))
    slopes = []
    for value in (2, 3):
        held[0] = jnp.float32(value)
        fps = jacobians(lambda x, u: f(x), optimize_batch(lambda x, u: f(x), jnp.ones((1, 1)), U))
        slopes.append(float(fps.J_xstar[0, 0, 0]))
    assert slopes == [2, 3]


@pytest.mark.slow
def test_gradients_and_batches_reach_what_a_model_closes_over():
    def point(a):
        F = traced("test", as_transition(lambda x, u: a * x + 1), 1, 0, np.float32)
        return optimize_batch(F, jnp.ones((1, 1)), jnp.zeros(0)).xstar[0, 0]

    assert jax.grad(point)(0.5) == pytest.approx(4.0, rel=1e-5)
    np.testing.assert_allclose(jax.vmap(point)(jnp.array([0.5, 0.75])), [2, 4], rtol=1e-5)


@pytest.mark.slow
def test_the_model_is_traced_under_the_settings_of_the_caller():
    seen = []

    class Net(Transition):
        def __call__(self, x, u):
            seen.append((x.dtype, jax.config.jax_enable_x64, threading.get_ident()))
            return 0.5 * x

    net = Net()
    optimize_batch(net, np.ones((300, 2), np.float32), np.zeros(1, np.float32))
    here = np.dtype(np.float32), bool(jax.config.jax_enable_x64), threading.get_ident()
    assert set(seen) == {here} and len(seen) == 2  # the second call shows that it is a function
    seen.clear()
    optimize_batch(net, np.ones((300, 2), np.float32), np.zeros(1, np.float32))
    assert len(seen) == 1


class Untidy:
    """Writes to all that it holds; `fails` says whether a step fails in the end."""

    __slots__ = ("__dict__", "slot")

    def __init__(self, fails):
        self.fails, self.slot = fails, 1
        self.items, self.names, self.parts = [1, 2], {"a": 1}, ({"b": []},)

    def __call__(self, x, u):
        self.slot = self.last = x
        self.items.append(x)
        self.names["x"] = x
        self.parts[0]["b"].append(x)
        del self.names["a"]
        if self.fails:
            raise RuntimeError("in a step")
        self.names["a"] = 1
        return 0.5 * x


@pytest.mark.parametrize("fails", [False, True])
def test_objects_are_put_back_as_they_were(fails):
    model = Untidy(fails)
    inner = model.parts[0]["b"]
    try:
        optimize_batch(model, jnp.ones((1, 2)), U)
    except ValueError as error:
        assert fails and "in a step" in str(error)
    assert (model.slot, model.items, model.names) == (1, [1, 2], {"a": 1})
    assert model.parts[0]["b"] is inner and inner == []
    assert not hasattr(model, "last")


def test_what_a_step_counts_stays_counted():
    calls = []

    def F(x, u):
        calls.append("a call")
        return 0.5 * x

    optimize_batch(F, jnp.ones((1, 2)), U)
    assert calls == ["a call"] * 2


@pytest.mark.slow
def test_memory_of_networks_is_freed():
    def search(W):
        optimize_batch(lambda x, u: 0.5 * jnp.tanh(W @ x), jnp.ones((1, 64)), jnp.zeros(0))

    search(jnp.eye(64))
    gc.collect()
    before = len(jax.live_arrays())
    for k in range(3):
        search((1 + k) * jnp.eye(64))
    gc.collect()
    assert len(jax.live_arrays()) <= before


@pytest.mark.slow
def test_two_threads_may_use_one_model_in_two_precisions():
    class Net:
        def __init__(self):
            self.W = np.array([[0.5, 0.2], [0.1, 0.4]])

        def __call__(self, x, u):
            return jnp.tanh(self.W @ x + 0.3)

    net, found = Net(), {}

    def search(dtype):
        with jax.enable_x64(dtype == np.float64):
            for _ in range(3):
                fps = optimize_batch(net, np.ones((4, 2), dtype), np.zeros(1, dtype))
            found[dtype] = np.asarray(fps.xstar)

    threads = [threading.Thread(target=search, args=(dtype,)) for dtype in (np.float32, np.float64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {a.dtype.type for a in found.values()} == {np.float32, np.float64}
    np.testing.assert_allclose(found[np.float32], found[np.float64], atol=1e-6)
    x = found[np.float64][0]
    np.testing.assert_allclose(np.tanh(net.W @ x + 0.3), x, atol=1e-14)


@pytest.mark.slow
def test_a_new_python_number_compiles_and_a_new_array_does_not():
    def search(number, array):
        optimize_batch(lambda x, u: number * x + array, jnp.ones((2, 2)), U)

    ones, zeros = jnp.ones(2), jnp.zeros(2)  # the first array of a shape is compiled as well
    search(0.5, ones)
    with compilations() as compiled:
        search(0.5, zeros)
    assert compiled == []
    with compilations() as compiled:
        search(0.25, zeros)
    assert compiled != []


@pytest.mark.slow
def test_a_search_does_not_list_the_networks_leaves(monkeypatch):
    """JAX asks for `str(F)` wherever it traces `F`; a list of leaves takes it most of the time."""
    asked = []
    listed = eqx.Module.__repr__
    monkeypatch.setattr(eqx.Module, "__repr__", lambda F: asked.append(type(F)) or listed(F))
    W = 1.5 * np.random.default_rng(0).normal(size=(5, 5)).astype(np.float32)

    class Net(Transition):
        W: jax.Array

        def __call__(self, x, u):
            return jnp.tanh(self.W @ x)

    F = Net(jnp.asarray(W))
    x = np.random.default_rng(1).normal(size=(8, 5)).astype(np.float32)
    fps = optimize_batch(F, x, np.zeros(0, np.float32))
    jacobians(F, fps)
    jax.vmap(F)(x, np.zeros((8, 0), np.float32))
    assert not asked
    assert str(F) == "Net" and repr(F).endswith("Net(W=f32[5,5])")


def test_other_precision_compiles_nothing_and_leaves_no_weak_types():
    class Net(Transition):
        w: jax.Array

        def __call__(self, x, u):
            return self.w * x

    F = Net(jnp.asarray(1.5))
    assert F.w.weak_type
    with compilations() as compiled, jax.enable_x64(True):
        leaves = [(with_precision(F, dtype).w, dtype) for dtype in (np.float32, np.float64)]
    assert not compiled
    for leaf, dtype in leaves:
        assert leaf.dtype == dtype and not leaf.weak_type and float(leaf) == 1.5


def test_a_transition_says_its_sizes_where_it_knows_them():
    F = traced("test", as_transition(lambda x, u: 0.5 * x + u), 3, 3, np.float32)
    assert str(F) == "Network(3 states, 3 inputs)"
    assert str(ContinuousTime(F)) == "ContinuousTime(3 states, 3 inputs)"
