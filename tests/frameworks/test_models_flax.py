"""Cells of `flax.nnx` and `flax.linen`, and modules made of them, as transitions.

Flax's GRU applies the reset gate after the product with the recurrent weights, so the trained GRU
of `cases/` has no form in it. An LSTM's carry is `(c, h)`.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import (
    check_fixed_points,
    check_gradients,
    check_one_compilation,
    check_rows,
    check_steps,
)
from model_checks import fast_compilation as fast_compilation
from networks import case

from slowpoints import FixedPointFinder, as_transition, find_fixed_points, iterate

pytest.importorskip("flax", reason="Flax is not installed (the extra `flax`)")
from flax import linen, nnx

N_IN, N = 3, 5


# ---- flax.nnx ----------------------------------------------------------------------------------


class TwoLayersNNX(nnx.RNNCellBase):
    """Two GRUs with dropout between them, as a cell of one's own."""

    def __init__(self, in_features, n_units, *, rngs):
        self.first = nnx.GRUCell(in_features, n_units, rngs=rngs)
        self.second = nnx.GRUCell(n_units, n_units, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def initialize_carry(self, input_shape, rngs=None, carry_init=None):
        cells = (self.first, self.second)
        return {
            name: c.initialize_carry(input_shape, rngs) for name, c in zip("ab", cells, strict=True)
        }

    def __call__(self, carry, u):
        a, h = self.first(carry["a"], u)
        b, h = self.second(carry["b"], self.dropout(h))
        return {"a": a, "b": b}, h


NNX = {
    "SimpleCell": nnx.SimpleCell,
    "GRUCell": nnx.GRUCell,
    "LSTMCell": nnx.LSTMCell,
    "OptimizedLSTMCell": nnx.OptimizedLSTMCell,
    "two layers": TwoLayersNNX,
}


def nnx_cell(kind, seed=0):
    """A cell with random weights and biases, which Flax itself starts at zero."""
    cell = NNX[kind](N_IN, N, rngs=nnx.Rngs(seed))
    keys = iter(jax.random.split(jax.random.key(seed), 99))

    def drawn(leaf):
        real = jnp.issubdtype(leaf.dtype, jnp.floating)
        return 0.5 * jax.random.normal(next(keys), leaf.shape) if real else leaf

    nnx.update(cell, jax.tree.map(drawn, nnx.state(cell)))
    return cell


def nnx_step(cell, dtype):
    """The cell's own step, of a copy in evaluation mode and in the given precision."""
    copy = nnx.clone(cell)
    copy.eval()
    for _, part in nnx.iter_modules(copy):
        if getattr(part, "dtype", None) is not None:
            part.dtype = np.dtype(dtype)

    def step(carry, u):
        cast = lambda a: a.astype(dtype) if jnp.issubdtype(a.dtype, jnp.floating) else a  # noqa: E731
        nnx.update(copy, jax.tree.map(cast, nnx.state(copy)))
        return copy(carry, u)[0]

    return step


@pytest.mark.slow_cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", NNX)
def test_a_step_of_nnx_is_the_cells_own(kind, dtype):
    cell = nnx_cell(kind)
    check_steps(as_transition(cell), nnx_step(cell, dtype), N_IN, dtype)


@pytest.mark.slow_cases
@pytest.mark.parametrize("kind", NNX)
def test_rows_gradients_and_compilations_of_nnx(kind):
    first, second = as_transition(nnx_cell(kind)), as_transition(nnx_cell(kind, 1))
    check_rows(first, N_IN)
    check_gradients(first, N_IN)
    check_one_compilation(first, second, N_IN)


def test_an_nnx_rnn_is_its_cell():
    cell = nnx_cell("GRUCell")
    x, u = jnp.ones(N), jnp.ones(N_IN)
    np.testing.assert_array_equal(as_transition(nnx.RNN(cell))(x, u), as_transition(cell)(x, u))


def test_an_nnx_module_of_another_kind_needs_a_signature():
    class Leaky(nnx.Module):
        def __init__(self):
            self.w = nnx.Param(jnp.float32(0.5))

        def __call__(self, x, u):
            return self.w[...] * x + u

    with pytest.raises(TypeError, match="Leaky is no cell of Flax"):
        as_transition(Leaky())
    F = as_transition(Leaky(), signature="state_input")
    np.testing.assert_allclose(F(jnp.ones(2), jnp.ones(2)), 1.5)
    assert len(jax.tree.leaves(F)) == 1


def test_an_nnx_module_is_left_as_it_was():
    cell = nnx_cell("two layers")
    cell.train()
    graphdef, before = nnx.split(cell)
    F = as_transition(cell)
    jax.jit(jax.jacfwd(F))(jnp.ones(F.n_states), jnp.ones(N_IN))
    graphdef_after, after = nnx.split(cell)
    assert graphdef_after == graphdef and cell.dropout.deterministic is False
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert old is new
    first = F(jnp.ones(F.n_states), jnp.ones(N_IN))
    nnx.update(cell, jax.tree.map(jnp.zeros_like, nnx.state(cell, nnx.Param)))
    np.testing.assert_array_equal(F(jnp.ones(F.n_states), jnp.ones(N_IN)), first)


def test_noise_in_nnx_is_refused():
    class Noisy(nnx.RNNCellBase):
        def __init__(self):
            self.rngs = nnx.Rngs(noise=0)

        def initialize_carry(self, input_shape, rngs=None, carry_init=None):
            return jnp.zeros(2)

        def __call__(self, carry, u):
            return carry + jax.random.normal(self.rngs.noise(), (2,)), None

    with pytest.raises(ValueError, match="Noisy draws random numbers"):
        as_transition(Noisy())(jnp.ones(2), jnp.ones(2))


@pytest.mark.slow
def test_an_nnx_cell_in_the_finder():
    cell = nnx_cell("two layers")
    rng = np.random.default_rng(0)
    traj = {"a": rng.normal(size=(2, 4, N)), "b": rng.normal(size=(2, 4, N))}
    finder = FixedPointFinder(cell, solver="newton_krylov", verbose=False)
    fps, _ = finder.find_fixed_points(traj, np.zeros((1, N_IN)), n_inits=8)
    carry = as_transition(cell).unflatten(jnp.asarray(fps.xstar))
    expected = nnx_step(cell, "float32")(carry, jnp.zeros((fps.n, N_IN)))
    assert fps.n > 0
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), carry, expected)


class WithEvaluation(TwoLayersNNX):
    """Its `eval` evaluates it on data, where that of Flax switches to evaluation."""

    def eval(self, data):
        raise AssertionError("this is the user's own")


def test_an_eval_method_of_the_users_own_is_not_called():
    cells = (kind(N_IN, N, rngs=nnx.Rngs(0)) for kind in (WithEvaluation, TwoLayersNNX))
    F, G = map(as_transition, cells)
    x, u = jnp.ones(F.n_states), jnp.ones(N_IN)
    np.testing.assert_array_equal(F(x, u), G(x, u))


class WithTraceNNX(nnx.Module):
    """Units that remember their state; whether that matters to the next step."""

    def __init__(self, adapts):
        self.adapts = adapts
        self.trace = nnx.Variable(jnp.zeros(2))

    def __call__(self, x, u):
        self.trace[...] = 0.9 * self.trace[...] + x
        return jnp.tanh(2 * x - 0.5 * self.adapts * self.trace[...])


@pytest.mark.parametrize("steps", [1, 2])
def test_what_a_step_keeps_is_refused_if_the_next_step_needs_it(steps):
    x, u = np.ones((1, 2)), np.zeros(0)
    F = as_transition(WithTraceNNX(1.0), signature="state_input")
    with pytest.raises(ValueError, match="keeps something from one call for the next"):
        find_fixed_points(iterate(F, steps) if steps > 1 else F, x, u)
    module = WithTraceNNX(0.0)
    fps, _ = find_fixed_points(as_transition(module, signature="state_input"), x, u)
    assert fps.n == 1 and np.asarray(module.trace[...]).sum() == 0


class FirstCallIsAnotherNNX(nnx.Module):
    def __init__(self):
        self.is_first = True

    def __call__(self, x, u):
        is_first, self.is_first = self.is_first, False
        return 0 * x if is_first else jnp.tanh(0.5 * x + 0.2)


def test_a_first_call_that_is_another_is_refused():
    F = as_transition(FirstCallIsAnotherNNX(), signature="state_input")
    with pytest.raises(ValueError, match="keeps something from one call for the next"):
        find_fixed_points(F, np.ones((1, 2)), np.zeros(0))


@pytest.mark.slow
def test_a_function_that_nnx_compiles_is_the_current_one():
    """The search must not be what fills its cache either."""
    layer, zeros = nnx.Linear(2, 2, rngs=nnx.Rngs(0)), np.zeros(2, np.float32)
    layer.kernel[...] = 0.5 * jnp.eye(2)
    step = nnx.jit(lambda x, u: layer(x) + u)
    for bias in (1.0, 3.0):
        layer.bias[...] = jnp.full(2, bias)
        fps, _ = find_fixed_points(step, np.zeros((4, 2), np.float32), zeros)
        np.testing.assert_allclose(fps.xstar, [[2 * bias, 2 * bias]], rtol=1e-5)
    np.testing.assert_allclose(step(zeros, zeros), [3, 3])


def test_an_error_of_flax_leaves_the_module_as_it_was():
    """Where NNX writes to a module from another trace, it leaves it without its variables."""
    cell = NNX["GRUCell"](N_IN, N, rngs=nnx.Rngs(0))
    step = nnx.jit(lambda module, x, u: module(x, u)[0])
    expected, names = step(cell, jnp.ones(N), jnp.ones(N_IN)), set(vars(cell))
    with pytest.raises(ValueError, match="Cannot mutate"):
        find_fixed_points(lambda x, u: step(cell, x, u), np.ones((2, N)), np.ones(N_IN))
    assert vars(cell).keys() == names
    np.testing.assert_array_equal(step(cell, jnp.ones(N), jnp.ones(N_IN)), expected)


# ---- flax.linen --------------------------------------------------------------------------------


class TwoLayersLinen(linen.RNNCellBase):
    """Two GRUs, as a cell of one's own."""

    features: int

    def setup(self):
        self.first, self.second = linen.GRUCell(self.features), linen.GRUCell(self.features)

    @linen.nowrap
    def initialize_carry(self, rng, input_shape):
        return [jnp.zeros((*input_shape[:-1], self.features))] * 2

    def __call__(self, carry, u):
        a, h = self.first(carry[0], u)
        b, h = self.second(carry[1], h)
        return [a, b], h


LINEN = {
    "SimpleCell": linen.SimpleCell(N),
    "SimpleCell, float32": linen.SimpleCell(N, dtype=jnp.float32),
    "GRUCell": linen.GRUCell(N),
    "MGUCell": linen.MGUCell(N),
    "LSTMCell": linen.LSTMCell(N),
    "OptimizedLSTMCell": linen.OptimizedLSTMCell(N),
    "two layers": TwoLayersLinen(N),
}


def linen_variables(cell, seed=0):
    """Random weights and biases for a cell."""
    carry = cell.initialize_carry(jax.random.key(0), (N_IN,))
    variables = jax.eval_shape(cell.init, jax.random.key(0), carry, jnp.ones(N_IN))
    keys = iter(jax.random.split(jax.random.key(seed), 99))
    return jax.tree.map(lambda a: 0.5 * jax.random.normal(next(keys), a.shape), variables)


def linen_step(cell, variables, dtype):
    def step(carry, u):
        cast = jax.tree.map(lambda a: a.astype(dtype), variables)
        own = cell.clone(dtype=np.dtype(dtype)) if hasattr(cell, "dtype") else cell
        return own.apply(cast, carry, u)[0]

    return step


@pytest.mark.slow_cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", LINEN.values(), ids=LINEN)
def test_a_step_of_linen_is_the_cells_own(cell, dtype):
    variables = linen_variables(cell)
    F = as_transition((cell, variables))
    check_steps(F, linen_step(cell, variables, dtype), N_IN, dtype)


@pytest.mark.slow_cases
@pytest.mark.parametrize("cell", LINEN.values(), ids=LINEN)
def test_rows_gradients_and_compilations_of_linen(cell):
    first, second = (as_transition((cell, linen_variables(cell, seed))) for seed in (0, 1))
    check_rows(first, N_IN)
    check_gradients(first, N_IN)
    check_one_compilation(first, second, N_IN)


def test_a_bound_module_is_the_pair():
    cell = linen.LSTMCell(N)
    variables = linen_variables(cell)
    x, u = jnp.ones(2 * N), jnp.ones(N_IN)
    np.testing.assert_array_equal(
        as_transition(cell.bind(variables))(x, u), as_transition((cell, variables))(x, u)
    )


def test_a_linen_rnn_is_its_cell():
    cell = linen.GRUCell(N)
    variables = linen_variables(cell)
    rnn = {"params": {"cell": variables["params"]}}
    x, u = jnp.ones(N), jnp.ones(N_IN)
    np.testing.assert_array_equal(
        as_transition((linen.RNN(cell), rnn))(x, u), as_transition((cell, variables))(x, u)
    )


class Readout(linen.Module):
    """A trained network is more than its cell."""

    def setup(self):
        self.cell = linen.GRUCell(N)
        self.readout = linen.Dense(2)

    def __call__(self, carry, u):
        carry, h = self.cell(carry, u)
        return carry, self.readout(h)


def test_an_rnn_of_a_bound_network_may_share_its_cell():
    class Network(linen.Module):
        def setup(self):
            self.cell = linen.GRUCell(N)  # whose variables are the network's, and not the layer's
            self.rnn, self.readout = linen.RNN(self.cell), linen.Dense(2)

        def __call__(self, inputs):
            return self.readout(self.rnn(inputs))

    network = Network()
    variables = network.init(jax.random.key(0), jnp.ones((1, 4, N_IN)))
    bound, (x, u) = network.bind(variables), (jnp.full(N, 0.3), jnp.ones(N_IN))
    expected, _ = linen.GRUCell(N).apply({"params": variables["params"]["cell"]}, x, u)
    for part in (bound.rnn, bound.cell):
        np.testing.assert_allclose(as_transition(part)(x, u), expected, rtol=1e-6)


def test_the_cell_of_a_bound_network():
    network = Readout()
    variables = network.init(jax.random.key(0), jnp.zeros(N), jnp.ones(N_IN))
    x, u = jnp.linspace(-1, 1, N), jnp.ones(N_IN)
    expected = network.apply(variables, x, u)[0]
    np.testing.assert_allclose(as_transition(network.bind(variables).cell)(x, u), expected)
    whole = as_transition((network, variables), signature="scan")
    np.testing.assert_allclose(whole(x, u), expected)


def test_what_linen_cannot_do_is_refused():
    with pytest.raises(TypeError, match=r"GRUCell has no variables.*bind\(variables\)"):
        as_transition(linen.GRUCell(N))
    with pytest.raises(TypeError, match="Dense is no cell of Flax"):
        as_transition((linen.Dense(2), {}))
    with pytest.raises(TypeError, match="ConvLSTMCell have 3 axes"):
        as_transition((linen.ConvLSTMCell(2, (3, 3)), {}))


# ---- the trained networks ----------------------------------------------------------------------


def swap(x):
    """From `[h, c]` to `[c, h]`, or back."""
    return np.concatenate(np.split(np.asarray(x), 2, axis=-1)[::-1], axis=-1)


def linen_case(kind):
    """A linen cell with a trained network's weights."""
    Wi, Wh, b = (case(kind)[name] for name in ("Wi", "Wh", "b"))
    if kind == "tanh":
        params = {"i": {"kernel": Wi[0], "bias": b[0]}, "h": {"kernel": Wh[0]}}
        return linen.SimpleCell(16), {"params": params}
    # Nothing is added to the forget gate, to which the case adds 1.
    b = b + np.array([0, 1, 0, 0], np.float32)[:, None]
    params = {f"i{gate}": {"kernel": W} for gate, W in zip("ifgo", Wi, strict=True)}
    params |= {
        f"h{gate}": {"kernel": W, "bias": bias} for gate, W, bias in zip("ifgo", Wh, b, strict=True)
    }
    return linen.OptimizedLSTMCell(16), {"params": params}


def nnx_case(kind):
    """An nnx cell with a trained network's weights."""
    weights = linen_case(kind)[1]["params"]
    if kind == "tanh":
        cell = nnx.SimpleCell(3, 16, rngs=nnx.Rngs(0))
        cell.dense_i.kernel[...] = weights["i"]["kernel"]
        cell.dense_i.bias[...] = weights["i"]["bias"]
        cell.dense_h.kernel[...] = weights["h"]["kernel"]
        return cell
    cell = nnx.OptimizedLSTMCell(3, 16, rngs=nnx.Rngs(0))
    stacked = {
        (side, name): np.concatenate([weights[side + gate][name] for gate in "ifgo"], axis=-1)
        for side, name in (("i", "kernel"), ("h", "kernel"), ("h", "bias"))
    }
    cell.dense_i.kernel[...] = stacked["i", "kernel"]
    cell.dense_h.kernel[...] = stacked["h", "kernel"]
    cell.dense_h.bias[...] = stacked["h", "bias"]
    return cell


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tanh", "lstm"])
@pytest.mark.parametrize("make", [nnx_case, linen_case])
def test_trained_cells_have_the_same_27_fixed_points(make, kind):
    orders = (swap, swap) if kind == "lstm" else ()
    check_fixed_points(make(kind), kind, *orders)
