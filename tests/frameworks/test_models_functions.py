"""Functions and callable pytrees as transitions: how they are called, and states of any form."""

import subprocess
import sys
from collections import OrderedDict
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation
from networks import case, in_float64, newton_polish, trained

from slowpoints import FixedPointFinder, Transition, as_transition, find_fixed_points

W = jnp.array([[0.5, -0.2], [0.1, 0.3]])
X, U = jnp.array([1.0, 2.0]), jnp.array([0.5, -1.0])
NEXT = X @ W + U


def step(x, u):
    return x @ W + u


class Pair(NamedTuple):
    v: jax.Array
    w: jax.Array


# ---- signatures --------------------------------------------------------------------------------


def one_step_of_batch(inputs, hidden):
    assert inputs.shape == (1, 2) and hidden.shape == (1, 2)
    h = step(hidden, inputs)
    return 3 * h, h


def sequence(inputs, hidden):
    assert inputs.shape == (1, 1, 2) and hidden.shape == (1, 2)
    h = step(hidden, inputs[:, 0])
    return 3 * h[:, None], h


CALLS = {
    "default": (None, step),
    "state_input": ("state_input", step),
    "input_state": ("input_state", lambda u, x: step(x, u)),
    "scan": ("scan", lambda x, u: (step(x, u), 7.0)),
    "batched": ("batched", one_step_of_batch),
    "sequence": ("batched_sequence", sequence),
    "sequence, list": ("batched_sequence", lambda u, x: list(sequence(u, x))),
    "all states, [n, T, N]": ("batched_sequence", lambda u, x: (0, sequence(u, x)[1][:, None])),
    "all states, [T, n, N]": ("batched_sequence", lambda u, x: (0, sequence(u, x)[1][None])),
    "nothing but states": ("batched_sequence", lambda u, x: sequence(u, x)[1][:, None]),
}


@pytest.mark.parametrize(("signature", "fn"), CALLS.values(), ids=CALLS)
def test_each_signature_gives_the_next_state(signature, fn):
    F = as_transition(fn, signature=signature)
    np.testing.assert_array_equal(jax.jit(F)(X, U), NEXT)
    np.testing.assert_array_equal(jax.vmap(F, (0, None))(jnp.stack([X, X]), U), [NEXT] * 2)


PAIR_CALLS = {
    "state_input": ("state_input", lambda s, u: Pair(s.v + u[0], s.w * 2)),
    "input_state": ("input_state", lambda u, s: Pair(s.v + u[0], s.w * 2)),
    "scan": ("scan", lambda s, u: (Pair(s.v + u[0], s.w * 2), None)),
    "batched": ("batched", lambda u, s: (None, Pair(s.v + u[:, :1], s.w * 2))),
    "sequence": ("batched_sequence", lambda u, s: (None, Pair(s.v + u[:, 0, :1], s.w * 2))),
}


@pytest.mark.parametrize(("signature", "fn"), PAIR_CALLS.values(), ids=PAIR_CALLS)
def test_states_may_be_pytrees(signature, fn):
    F = as_transition(fn, signature=signature, example_state=Pair(jnp.zeros(2), jnp.zeros((1, 2))))
    assert F.n_states == 4
    next_x = F(jnp.arange(4.0), U)
    np.testing.assert_allclose(next_x, [0.5, 1.5, 4.0, 6.0])


def test_the_parameters_of_a_callable_pytree_are_leaves():
    linear = eqx.nn.Linear(2, 2, key=jax.random.key(0))

    class Net(eqx.Module):
        linear: eqx.nn.Linear

        def step(self, u, x):
            return jnp.tanh(self.linear(x) + u)

    F = as_transition(Net(linear).step, signature="input_state")
    gradient = jax.grad(lambda F: F(X, U)[0])(F)
    assert sorted(leaf.shape for leaf in jax.tree.leaves(gradient)) == [(2,), (2, 2)]
    np.testing.assert_allclose(F(X, U), jnp.tanh(linear(X) + U), rtol=1e-6)


@pytest.mark.slow
def test_a_network_with_a_pytree_state_has_the_same_fixed_points():
    """The trained LSTM with its state as a pair, against the same network on vectors."""
    plain = trained("lstm")

    def lstm(carry, u):
        h, c = jnp.split(plain(jnp.concatenate(carry), u), 2)
        return (h, c), h

    F = as_transition(lstm, signature="scan", example_state=(jnp.zeros(16), jnp.zeros(16)))
    pair = tuple(np.split(case("lstm")["traj"], 2, axis=-1))
    finder = FixedPointFinder(F, verbose=False, dtype="float64", do_compute_jacobians=False)
    fps, _ = finder.find_fixed_points(pair, np.zeros((1, 3)), n_inits=512, noise_scale=0.5)
    assert fps.n == 27
    polished, _ = newton_polish(plain, fps.xstar, np.zeros((27, 3)))
    np.testing.assert_allclose(fps.xstar, polished, atol=1e-7)
    h, c = F.unflatten(fps.xstar)
    assert h.shape == c.shape == (27, 16) and h.dtype == np.float64
    np.testing.assert_array_equal(F.flatten((h, c)), fps.xstar)


@pytest.mark.slow
def test_trajectories_as_pytrees_or_as_vectors_are_the_same_search():
    F = as_transition(
        lambda s, u: {"a": 0.5 * s["a"] + u, "b": 0.25 * s["b"] + 1},
        example_state={"b": jnp.zeros(()), "a": jnp.zeros(2)},
    )
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 5, 2)), rng.normal(size=(2, 5))
    vectors = np.concatenate([a, b[..., None]], axis=-1)
    results = [
        FixedPointFinder(F, verbose=False).find_fixed_points(traj, np.ones((1, 2)), n_inits=4)
        for traj in ({"a": a, "b": b}, vectors)
    ]
    np.testing.assert_array_equal(results[0][1].x_init, results[1][1].x_init)
    np.testing.assert_allclose(results[0][0].xstar, [[2.0, 2.0, 4 / 3]], rtol=1e-5)


# ---- flatten and unflatten ---------------------------------------------------------------------


STATE = {"h": jnp.zeros(3), "grid": jnp.zeros((2, 2)), "rest": (jnp.zeros(()), None)}


def with_layout(state):
    return as_transition(lambda s, u: s, example_state=state)


@pytest.mark.parametrize("lead", [(), (5,), (2, 3)])
@pytest.mark.parametrize("xp", [np, jnp])
def test_flatten_and_unflatten_are_inverse(lead, xp):
    F = with_layout(STATE)
    assert F.n_states == 8
    x = xp.asarray(np.random.default_rng(0).normal(size=(*lead, 8)).astype(np.float32))
    state = F.unflatten(x)
    assert {name: value.shape for name, value in state.items() if name != "rest"} == {
        "h": (*lead, 3),
        "grid": (*lead, 2, 2),
    }
    assert state["rest"][0].shape == lead and state["rest"][1] is None
    back = F.flatten(state)
    np.testing.assert_array_equal(back, x)
    assert isinstance(back, np.ndarray) == isinstance(state["h"], np.ndarray) == (xp is np)


def test_numpy_states_keep_float64():
    x = np.full((3, 8), 1 / 3)
    F = with_layout(STATE)
    assert F.unflatten(x)["h"].dtype == F.flatten(F.unflatten(x)).dtype == np.float64


def test_leading_axes_broadcast():
    F = with_layout((jnp.zeros(2), jnp.zeros(1)))
    x = F.flatten((np.ones((4, 1, 2)), np.zeros((3, 1))))
    assert x.shape == (4, 3, 3)


def test_flatten_and_unflatten_work_inside_jit_and_vmap():
    F = with_layout(STATE)
    x = jnp.arange(16.0).reshape(2, 8)
    np.testing.assert_array_equal(jax.jit(lambda x: F.flatten(F.unflatten(x)))(x), x)
    np.testing.assert_array_equal(jax.vmap(lambda x: F.flatten(F.unflatten(x)))(x), x)


def test_an_example_state_needs_no_numbers():
    shapes = jax.eval_shape(lambda: STATE)
    assert with_layout(shapes).n_states == 8


def test_vectors_are_their_own_form():
    for F in (as_transition(step), trained("tanh")):
        assert F.n_states is None
        assert F.flatten(X) is X and F.unflatten(X) is X


def test_a_transition_of_ones_own_may_declare_its_states():
    class Cell(Transition):
        W: jax.Array
        n_states: int = eqx.field(static=True)

        def __call__(self, x, u):
            return self.W @ x

    assert as_transition(Cell(W, 2)).n_states == 2


def test_two_models_of_one_structure_share_a_compilation():
    class Cell(eqx.Module):
        W: jax.Array

        def __call__(self, u, state):
            traces.append(None)
            return (jnp.tanh(state[0] @ self.W + u),)

    traces, call = [], eqx.filter_jit(lambda F, x, u: F(x, u))
    for w in (W, 2 * W):
        F = as_transition(Cell(w), signature="input_state", example_state=(jnp.zeros(2),))
        np.testing.assert_allclose(call(F, X, U), jnp.tanh(X @ w + U), rtol=1e-6)
    assert len(traces) == 1


def test_float64_states_stay_float64():
    F = as_transition(lambda u, s: (s[0] @ W + u,), signature="input_state", example_state=(X,))
    with jax.enable_x64(True):
        assert in_float64(F)(jnp.zeros(2, np.float64), jnp.zeros(2, np.float64)).dtype == np.float64


# ---- what is refused ---------------------------------------------------------------------------


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("signature", "fn", "words"),
    [
        ("scan", step, ["<lambda>|step", "array of shape (2,)", "(next state, output)"]),
        ("scan", lambda x, u: (x, u, x), ["3 values", "(next state, output)"]),
        ("batched", lambda u, x: x, ["array of shape (1, 2)", "(outputs, h_next)"]),
        ("batched", lambda u, x: (x, x[:, None]), ["inputs of shape (1, 2)", "(1, 1, 2)"]),
        ("batched", lambda u, x: (x, (x, x)), ["h_next is PyTreeDef", "as hidden"]),
        ("batched_sequence", lambda u, x: (x, x[:, :1]), ["(1, 1)", "expected (1, 2)"]),
        ("batched_sequence", lambda u, x: None, ["NoneType"]),
    ],
)
def test_results_that_do_not_fit_the_signature_are_refused(signature, fn, words):
    with pytest.raises(ValueError) as caught:
        as_transition(fn, signature=signature)(X, U)
    for word in words:
        assert any(choice in str(caught.value) for choice in word.split("|"))


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda F: F.flatten((X, X)), ["The state is ([", "]); expected {"]),
        (
            lambda F: F.flatten({"h": X, "grid": jnp.eye(2), "rest": (X[0], None)}),
            ["[2]", "[..., 3]"],
        ),
        (lambda F: F.unflatten(jnp.zeros((4, 7))), ["(4, 7)", "(..., 8)"]),
        (lambda F: F.unflatten(jnp.float32(0)), ["()", "(..., 8)"]),
    ],
)
def test_states_of_another_form_are_refused(call, words):
    with pytest.raises(ValueError) as caught:
        call(with_layout(STATE))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("keywords", "error", "words"),
    [
        ({"signature": "cell"}, ValueError, ["'cell'", "input_state", "scan"]),
        ({"example_state": ()}, ValueError, ["no array"]),
        ({"example_state": (X, 1)}, TypeError, ["real arrays", "int"]),
        ({"example_state": jnp.zeros(2, int)}, TypeError, ["real arrays", "int32"]),
    ],
)
def test_wrong_keywords_are_refused(keywords, error, words):
    with pytest.raises(error) as caught:
        as_transition(step, **keywords)
    assert [word for word in words if word not in str(caught.value)] == []


def test_unknown_models_are_refused_with_a_way_out():
    with pytest.raises(TypeError) as caught:
        as_transition({"weights": 1})
    for word in ("builtins.dict", "brainpy", "equinox", "def F(x, u):", "return"):
        assert word in str(caught.value)


@pytest.mark.slow
def test_no_framework_is_loaded_for_a_function():
    code = """
import sys
import equinox as eqx, jax, slowpoints
slowpoints.as_transition(lambda x, u: x)(jax.numpy.ones(2), jax.numpy.ones(2))
slowpoints.as_transition(eqx.nn.GRUCell(2, 2, key=jax.random.key(0)))
try:
    slowpoints.as_transition({"an unknown": "model"})
except TypeError:
    print([name for name in ("brainpy", "brainstate", "flax", "torch") if name in sys.modules])
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.slow
def test_rows_of_a_pytree_state_are_what_find_fixed_points_takes():
    F = with_layout((jnp.zeros(1), jnp.zeros(1)))
    halved = as_transition(
        lambda s, u: (0.5 * s[0] + u, 0.5 * s[1]), example_state=(jnp.zeros(1), jnp.zeros(1))
    )
    x = F.flatten((np.ones((3, 1), np.float32), np.zeros((3, 1), np.float32)))
    fps, _ = find_fixed_points(halved, x, np.ones(1))
    np.testing.assert_allclose(fps.xstar, [[2.0, 0.0]], atol=1e-5)


@pytest.mark.parametrize("signature", ["state_input", "batched"])
@pytest.mark.parametrize(
    ("given", "returned"),
    [(tuple, list), (list, tuple), (dict, OrderedDict), (OrderedDict, dict), (Pair, tuple)],
)
def test_lists_and_tuples_are_alike_and_so_are_dictionaries(signature, given, returned):
    def contained(container, h, c):
        if issubclass(container, dict):
            return container([("c", c), ("h", h)])
        return container(h, c) if container is Pair else container([h, c])

    def step(x, u):
        h, c = (x["h"], x["c"]) if isinstance(x, dict) else x
        return contained(returned, jnp.tanh(c) + 1, 0.5 * h)

    def batched(inputs, states):
        return inputs, step(states, inputs)

    state = contained(given, jnp.full(2, 0.1), jnp.full(2, 0.2))
    model = step if signature == "state_input" else batched
    F = as_transition(model, signature=signature, example_state=state)
    following = F.unflatten(F(F.flatten(state), jnp.zeros(1)))
    assert jax.tree.structure(following) == jax.tree.structure(state)
    expected = F.flatten(contained(given, jnp.tanh(jnp.full(2, 0.2)) + 1, jnp.full(2, 0.05)))
    np.testing.assert_allclose(F.flatten(following), expected, rtol=1e-6)
    with pytest.raises(ValueError, match="The state is"):
        F.flatten((jnp.ones(2), (jnp.ones(2),)))
