"""What is wrong with a model is said before the search, in words that name the way out."""

import itertools
from typing import NamedTuple

import brainpy as bp
import brainpy.math as bm
import brainstate
import equinox as eqx
import equinox.internal as eqxi
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation

from slowpoints import (
    ContinuousTime,
    FixedPointFinder,
    FixedPoints,
    NewtonKrylov,
    Search,
    Transition,
    as_transition,
    cycles,
    decompose,
    find_cycles,
    find_fixed_points,
    iterate,
    jacobians,
    optimize_batch,
    q_fn,
    sample_states,
    unique,
)
from slowpoints._network.trace import traced

pytestmark = pytest.mark.checks_input

N, N_IN = 4, 3
RNG = np.random.default_rng(0)
W = (0.3 * RNG.normal(size=(N, N))).astype("f")
B = RNG.normal(size=(N, N_IN)).astype("f")
X, U = RNG.normal(size=(5, N)).astype("f"), np.zeros(N_IN, "f")


def net(x, u):
    return jnp.tanh(W @ x + B @ u)


def points(F=net, x=X, u=U):
    return FixedPoints(xstar=x, inputs=np.tile(u, (len(x), 1)), qstar=np.zeros(len(x)))


class Call(NamedTuple):
    """A public function, called with a model, states and inputs, and what it calls the two."""

    function: object
    states: str = "x_init"
    inputs: str = "inputs"


def search_of(tmp_path, F, x, u):
    return Search(F, x[None], u, directory=tmp_path / "search", n_inits=8)


CALLS = {
    "optimize_batch": Call(lambda F, x, u, _: optimize_batch(F, x, u)),
    "find_fixed_points": Call(lambda F, x, u, _: find_fixed_points(F, x, u)),
    "find_cycles": Call(lambda F, x, u, _: find_cycles(F, np.stack([x, x], axis=1), u)),
    "FixedPointFinder": Call(
        lambda F, x, u, _: FixedPointFinder(F, verbose=False).find_fixed_points(x[None], u, 8),
        "state_traj",
    ),
    "Search": Call(lambda F, x, u, path: search_of(path, F, x, u), "state_traj"),
    "jacobians": Call(lambda F, x, u, _: jacobians(F, points(F, x, u)), "fps.xstar", "fps.inputs"),
    "cycles": Call(lambda F, x, u, _: cycles(F, points(F, x, u), 2), "fps.xstar", "fps.inputs"),
    "decompose": Call(
        lambda F, x, u, _: decompose(points(F, x, u), k=1, F=F), "fps.xstar", "fps.inputs"
    ),
}


def words_missing(caught, *words):
    message = " ".join(str(caught.value).split())
    return [word for word in words if word not in message]


def refused(F, *words, error=ValueError, x=X, u=U):
    """Check that a search refuses `F` in these words; return the error."""
    with pytest.raises(error) as caught:
        find_fixed_points(F, x, u)
    assert words_missing(caught, "find_fixed_points: ", *words) == []
    return caught.value


# ---- shapes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", CALLS)
def test_inputs_that_do_not_fit_a_function(name, tmp_path):
    call = CALLS[name]
    with pytest.raises(ValueError) as caught:
        call.function(net, X, np.zeros(7, "f"), tmp_path)
    shapes = "a state of shape (4,) and an input of shape (7,)"
    missing = words_missing(
        caught,
        f"{name}",
        f"the model could not be evaluated for {shapes}: TypeError: dot_general",
        f"`{call.inputs}` must have as many columns as the model has inputs",
        f"`{call.states}` as many as it has states",
    )
    assert missing == []
    assert isinstance(caught.value.__cause__, TypeError)


@pytest.mark.parametrize("name", CALLS)
def test_inputs_and_states_that_do_not_fit_a_cell(name, tmp_path):
    call, cell = CALLS[name], eqx.nn.GRUCell(N_IN, N, key=jax.random.key(0))
    with pytest.raises(ValueError) as caught:
        call.function(cell, X, np.zeros(7, "f"), tmp_path)
    assert (
        words_missing(
            caught, name, f"`{call.inputs}` has 7 columns; expected 3, since GRUCell takes 3 inputs"
        )
        == []
    )
    with pytest.raises(ValueError) as caught:
        call.function(cell, np.ones((5, 6), "f"), U, tmp_path)
    assert (
        words_missing(
            caught, name, f"`{call.states}` has 6 columns; expected 4, since GRUCell has 4 states"
        )
        == []
    )


def cells():
    from flax import nnx
    from torch import nn

    for cls in (nn.RNN, nn.GRU, nn.LSTM, nn.RNNCell, nn.GRUCell, nn.LSTMCell):
        yield cls(N_IN, N)
    for cls in (eqx.nn.GRUCell, eqx.nn.LSTMCell):
        yield cls(N_IN, N, key=jax.random.key(0))
    for cls in (nnx.SimpleCell, nnx.GRUCell, nnx.LSTMCell):
        yield cls(N_IN, N, rngs=nnx.Rngs(0))
    for cls in (brainstate.nn.GRUCell, brainstate.nn.LSTMCell):
        yield cls(N_IN, N)
    gates = {bp.dyn.RNNCell: 1, bp.dyn.GRUCell: 3, bp.dyn.LSTMCell: 4}
    for cls, n in gates.items():
        weights = {
            "Wi_initializer": jnp.ones((N_IN, n * N)),
            "Wh_initializer": jnp.ones((N, n * N)),
        }
        yield cls(N_IN, N, **weights, mode=bm.nonbatching_mode)


@pytest.mark.slow
def test_cells_know_their_numbers_of_inputs():
    pytest.importorskip("torch")
    pytest.importorskip("flax")
    for cell in cells():
        F = as_transition(cell)
        assert F.n_inputs == ContinuousTime(F).n_inputs == iterate(F, 2).n_inputs == N_IN
        assert jax.eval_shape(F, X[0, :1].repeat(F.n_states), U).shape == (F.n_states,)
    assert as_transition(net).n_inputs is None


def test_models_for_sequences_are_told_of_the_time_axis():
    class Net(bp.DynamicalSystem):
        def update(self, inputs, hidden):
            h = jnp.tanh(hidden @ W.T + inputs.reshape(1, 2) @ B.T)
            return h, h

    refused(
        Net(),
        "a time axis of one step: [n, time, n_inputs], of shape (1, 1, 3)",
        'signature="batched"',
    )

    def no_batch(inputs, hidden):
        return None, hidden[0]

    F = as_transition(no_batch, signature="batched_sequence")
    refused(F, "h_next has shape (4,); expected (1, 4), or with a time axis (1, 1, 4).")


def test_results_of_other_shapes_or_types():
    refused(
        lambda x, u: x[:2], "maps a state of shape (4,) and an input of shape (3,) to shape (2,)"
    )
    refused(lambda x, u: (x, x), "to a tuple; expected the next state, of shape (4,)")
    refused(lambda x, u: x > 0, "next state has dtype bool")
    refused(lambda x, u: "x", "TypeError: the model returned a builtins.str")


@pytest.mark.slow
def test_rounding_to_half_precision_is_left_out():
    """It is coarser than any tolerance: what is searched is the program without it."""
    fps = optimize_batch(lambda x, u: net(x.astype("float16"), u).astype("bfloat16"), X, U)
    assert fps.F_xstar.dtype == np.float32
    np.testing.assert_allclose(fps.xstar, optimize_batch(net, X, U).xstar, atol=1e-6)


@pytest.mark.parametrize(
    ("F", "words"),
    [
        (lambda x: x, "is <lambda>(x), which takes 1 argument; expected <lambda>(x, u)"),
        (lambda x, u, t: x, "is <lambda>(x, u, t), which takes 3 arguments; expected"),
        (lambda x, u, *, key: x, "is <lambda>(x, u, *, key), which takes 3 arguments; expected"),
        (jax.jit(lambda x: x), "which takes 1 argument"),
        (
            eqx.nn.Linear(N, N, key=jax.random.key(0)),
            "is Linear(x, *, key=None), which takes 1 arg",
        ),
    ],
)
def test_functions_of_other_numbers_of_arguments(F, words):
    with pytest.raises(TypeError) as caught:
        as_transition(F)
    assert words_missing(caught, "as_transition: `model`", words, "`lambda x, u: ...`") == []


def test_the_expected_arguments_are_those_of_the_signature():
    for signature, expected in (("input_state", "(u, x)"), ("batched", "(inputs, hidden)")):
        with pytest.raises(TypeError) as caught:
            as_transition(lambda x: x, signature=signature)
        assert words_missing(caught, f"expected <lambda>{expected}") == []


@pytest.mark.parametrize(
    "F",
    [lambda x, u, t=0: x, lambda *args: args[0], lambda x, *rest: x, jnp.add, jax.jit(net), np.add],
)
def test_functions_that_take_two_arguments_or_do_not_say_are_taken(F):
    assert callable(as_transition(F))


# ---- what JAX cannot trace ---------------------------------------------------------------------


class Counter:
    def __init__(self):
        self.n = 0

    def __call__(self, x, u):
        self.n += 1
        return net(x, u) / self.n


class Keeper:
    def __init__(self):
        self.key = jax.random.key(0)

    def __call__(self, x, u):
        self.key, now = jax.random.split(self.key)
        return net(x, u) + jax.random.normal(now, x.shape)


class NoisyTransition(Transition):
    W: jax.Array

    def __call__(self, x, u):
        return self.W @ x + np.random.normal()  # noqa: NPY002


def array_noise(x, u):
    return net(x, u) + 1e-3 * np.random.normal(size=N).astype("f")  # noqa: NPY002


EVERY_OTHER = itertools.cycle([False, True])

RANDOM = {
    "array": array_noise,
    "number": lambda x, u: net(x, u) * float(np.random.rand()),  # noqa: NPY002
    "branch": lambda x, u: jnp.sin(x) if next(EVERY_OTHER) else jnp.cos(x),
    "in a loop": lambda x, u: jax.lax.fori_loop(0, 2, lambda _, x: array_noise(x, u), x),
    "compiled": jax.jit(array_noise),
    "counter": Counter(),
    "random key": Keeper(),
    "transition": NoisyTransition(jnp.asarray(W)),
    "equilibrium": ContinuousTime(array_noise),
    "two steps": iterate(array_noise, 2),
}


@pytest.mark.parametrize("name", RANDOM)
def test_models_that_change_from_call_to_call_have_no_fixed_points(name):
    np.random.seed(0)  # noqa: NPY002
    for _ in range(2):  # what was refused is not remembered as good
        refused(RANDOM[name], "the model is random", "two evaluations", "Switch its noise off")


@pytest.mark.slow
def test_noise_that_is_switched_on_after_a_search_is_seen():
    class Noisy:
        strength, draws = 0.0, np.random.default_rng(0)

        def __call__(self, x, u):
            return 0.5 * net(x, u) + self.strength * self.draws.normal(size=N).astype("f")

    model = Noisy()
    find_fixed_points(model, X, U)
    model.strength = 0.5
    refused(model, "the model is random")


def test_operations_that_are_numbered_anew_in_each_trace_are_not_random():
    def F(x, u):
        return eqxi.noinline(lambda x: jnp.tanh(0.5 * x))(x)

    def check(weights):
        traced("f", as_transition(lambda x, u: weights * F(x, u)), N, 0, np.float32)
        return weights

    check(jnp.ones(N))
    jax.jit(check)(jnp.ones(N))


@pytest.mark.slow
def test_frozen_noise_is_no_noise():
    frozen = np.random.default_rng(0).normal(size=N).astype("f")

    def F(x, u):
        own = np.random.default_rng(0).normal(size=N).astype("f")
        key = jax.random.normal(jax.random.key(0), (N,))
        return 0.1 * net(x, u) + frozen + own + key + jax.nn.relu(x) * 0.1

    fps, _ = find_fixed_points(F, X, U)
    assert fps.n == 1


def branch(x, u):
    return x if x[0] > 0 else -x


TRACING = {
    "numpy": (lambda x, u: np.tanh(x), "TracerArrayConversionError", "`jnp.tanh` for `np.tanh`"),
    "dot": (lambda x, u: np.dot(W, x), "TracerArrayConversionError", "uses NumPy on JAX arrays"),
    "if": (branch, "TracerBoolConversionError", "`jnp.where` or `jax.lax.cond` for `if`"),
    "float": (lambda x, u: x * float(x[0]), "ConcretizationTypeError", "`jnp.where`"),
    "index": (lambda x, u: x * [1, 2][x.astype(int)[0]], "TracerInteger", "an index"),
    "mask": (lambda x, u: x[x > 0], "NonConcreteBooleanIndexError", "`jnp.where`"),
}


@pytest.mark.parametrize(("F", "cause", "words"), TRACING.values(), ids=TRACING)
def test_models_that_jax_cannot_trace(F, cause, words):
    error = refused(F, cause, words)
    assert type(error.__cause__).__name__.startswith(cause)


def test_errors_of_the_models_own_stay_visible():
    def F(x, u):
        raise RuntimeError("no network today.\nCome back tomorrow.")

    error = refused(F, "RuntimeError: no network today.")
    assert "columns" not in str(error)  # which are not what it is about
    assert str(error.__cause__).endswith("tomorrow.")


def torch_functions():
    torch = pytest.importorskip("torch")
    gru, weights = torch.nn.GRU(N_IN, N), torch.nn.Parameter(torch.zeros(N, N))
    return {
        "layer": lambda x, u: gru(u, x),
        "function": lambda x, u: torch.tanh(x),
        "tensor": lambda x, u: torch.tensor(x),
        "as_tensor": lambda x, u: torch.as_tensor(x),
        "from_numpy": lambda x, u: torch.from_numpy(np.asarray(x)),
        "dlpack": lambda x, u: torch.from_dlpack(x),
        "returned": lambda x, u: torch.zeros(N),
        "parameter": lambda x, u: jnp.tanh(weights @ x),
        "handed to jnp": lambda x, u: jnp.dot(weights, x),
    }


def test_functions_around_pytorch():
    for F in torch_functions().values():
        words = "PyTorch cannot be traced by JAX", "`net.rnn`", "Step(net)", "the step with JAX"
        refused(F, *words)


def test_other_errors_are_not_blamed_on_pytorch():
    pytest.importorskip("torch")
    error = refused(net, "TypeError: dot_general", u=np.zeros(7, "f"))
    assert "PyTorch" not in str(error)


@jax.custom_vjp
def reverse_only(x):
    return jnp.tanh(x)


reverse_only.defvjp(lambda x: (jnp.tanh(x), x), lambda x, g: (g * (1 - jnp.tanh(x) ** 2),))


@pytest.mark.slow
def test_a_rule_for_reverse_mode_alone_is_left_out():
    """The program below it has derivatives of its own, in both modes."""

    def F(x, u):
        return reverse_only(W @ x)

    def without_rule(x, u):
        return jnp.tanh(W @ x)

    found, expected = (optimize_batch(network, X, U) for network in (F, without_rule))
    np.testing.assert_array_equal(found.xstar, expected.xstar)
    J, expected_J = (jacobians(network, points()).J_xstar for network in (F, without_rule))
    np.testing.assert_array_equal(J, expected_J)


def test_derivatives_must_exist():
    def F(x, u):
        return jax.pure_callback(lambda x: np.tanh(x), jax.ShapeDtypeStruct((N,), "float32"), W @ x)

    error = refused(F, "no forward-mode derivative: ValueError", "`jax.custom_jvp`")
    assert isinstance(error.__cause__, ValueError)
    with pytest.raises(ValueError, match="no forward-mode derivative"):
        jacobians(F, points())


@pytest.mark.slow
def test_checks_go_on_inside_transformations():
    @jax.jit
    def q(x, scale):
        return optimize_batch(lambda x, u: scale * net(x, u), x, U, max_iters=5).qstar

    assert q(X, 0.5).shape == (5,)
    assert jax.vmap(q, in_axes=(0, None))(np.stack([X, X]), 0.5).shape == (2, 5)
    with pytest.raises(ValueError, match="the model is random"):
        jax.jit(lambda x, s: optimize_batch(lambda x, u: s * array_noise(x, u), x, U).qstar)(X, 0.5)


# ---- half precision ----------------------------------------------------------------------------

HALF = ("float16", "bfloat16")


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.parametrize("name", [name for name in CALLS if name != "FixedPointFinder"])
def test_states_in_half_precision_are_refused(name, dtype, tmp_path):
    call = CALLS[name]
    for x in (jnp.asarray(X, dtype), np.asarray(jnp.asarray(X, dtype))):
        with pytest.raises(TypeError) as caught:
            call.function(net, x, U, tmp_path)
        found = f"`{call.states}` has dtype {dtype}; expected float32 or float64"
        way_out = f"pass `{call.states}.astype('float32')`"
        assert words_missing(caught, found, way_out) == []


@pytest.mark.parametrize("dtype", HALF)
def test_what_needs_no_precision_takes_half_of_it(dtype):
    x = jnp.asarray(X, dtype)
    assert sample_states(jax.random.key(0), x[None], 3).dtype == dtype
    assert unique(points(x=jnp.concatenate([x, x]))).compact().xstar.dtype == dtype
    J = jnp.zeros((5, N, N), dtype)
    with pytest.raises(TypeError, match=f"has dtype {dtype}; expected float32 or float64"):
        decompose(points(x=x).replace(J_xstar=J))


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALF)
def test_the_finder_searches_in_its_own_precision(dtype):
    fps, _ = FixedPointFinder(net, verbose=False).find_fixed_points(
        np.asarray(jnp.asarray(X, dtype))[None], np.asarray(jnp.asarray(U, dtype))[None], len(X)
    )
    expected, _ = find_fixed_points(net, X, U)
    assert fps.xstar.dtype == np.float32
    np.testing.assert_allclose(fps.xstar, expected.xstar, atol=1e-5)


@pytest.mark.parametrize("dtype", HALF)
@pytest.mark.slow
def test_weights_in_half_precision(dtype):
    """They are cast to the precision of the states: results are those of the cast weights."""
    half = jax.tree.map(lambda w: jnp.asarray(w, dtype), (W, B, np.full(N, 0.3), np.full(N, 0.2)))
    single = jax.tree.map(lambda w: w.astype("float32"), half)

    class Net(Transition):
        weights: tuple

        def __call__(self, x, u):
            W, B, b, more = self.weights
            return jnp.tanh(W @ x + B @ (u / 3) + (b + more))  # which half precision rounds

    u = jnp.asarray(np.ones((1, N_IN)), dtype)
    fps, all_fps = find_fixed_points(Net(half), X, u)
    expected, _ = find_fixed_points(Net(single), X, np.ones(N_IN, "f"))
    for name in ("xstar", "F_xstar", "qstar", "J_xstar", "dFdu", "inputs"):
        np.testing.assert_allclose(getattr(fps, name), getattr(expected, name), atol=1e-6)
        assert getattr(fps, name).dtype == np.float32
    assert (fps.qstar < 1e-12).all() and all_fps.n == 5
    np.testing.assert_allclose(q_fn(Net(half), fps.xstar, fps.inputs), fps.qstar, atol=1e-13)
    looked_at = cycles(Net(half), jacobians(Net(half), fps.replace(inputs=u)), 1)
    np.testing.assert_array_equal(looked_at.period, [1])
    np.testing.assert_allclose(looked_at.J_xstar, expected.J_xstar, atol=1e-6)
    assert find_cycles(Net(half), np.stack([X, X], 1), u).xstar.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("dtype", HALF)
def test_cells_in_half_precision(dtype):
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    flax = pytest.importorskip("flax")
    pytest.importorskip("flax.nnx")
    linen = flax.linen.GRUCell(N, dtype=dtype)
    variables = linen.init(jax.random.key(0), jnp.zeros(N), jnp.zeros(N_IN))
    variables = jax.tree.map(lambda a: a.astype(dtype), variables)
    cells = [
        eqx.nn.GRUCell(N_IN, N, key=jax.random.key(0), dtype=jnp.dtype(dtype)),
        torch.nn.GRU(N_IN, N).to(getattr(torch, dtype)),
        flax.nnx.GRUCell(N_IN, N, dtype=dtype, rngs=flax.nnx.Rngs(0)),
        (linen, variables),
        brainpy_cell(dtype),
    ]
    for cell in cells:
        fps = optimize_batch(cell, X, U, solver=NewtonKrylov())
        assert fps.xstar.dtype == fps.F_xstar.dtype == np.float32
        assert (fps.qstar < 1e-12).all()


def brainpy_cell(dtype):
    weights = {
        "Wi_initializer": jnp.asarray(B.T, dtype),
        "Wh_initializer": jnp.asarray(W.T, dtype),
        "b_initializer": jnp.ones(N, dtype),
    }
    return bp.dyn.RNNCell(N_IN, N, **weights, mode=bm.nonbatching_mode)
