"""BrainState's cells, and networks of them, as transitions."""

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

from slowpoints import FixedPointFinder, as_transition, find_fixed_points

brainstate = pytest.importorskip("brainstate", reason="BrainState comes with BrainPy")
nn = brainstate.nn

N_IN, N = 3, 5
RNG = np.random.default_rng(0)


def drawn(shape):
    return jnp.asarray(RNG.normal(size=shape) / np.sqrt(shape[0]), jnp.float32)


def cell(kind, n_in=N_IN, **settings):
    """A cell with random weights, and positive biases so that relu units are alive."""
    settings = {"w_init": drawn} | settings
    if kind != "URLSTMCell":
        settings = {"b_init": lambda shape: 1 + 0.1 * drawn(shape)} | settings
    return getattr(nn, kind)(n_in, N, **settings)


class TwoLayers(nn.Module):
    def __init__(self, dropout=0.5):
        super().__init__()
        self.cells = [cell("GRUCell"), cell("GRUCell", N)]
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Linear(N, 2)

    def update(self, u):
        h = self.dropout(self.cells[0](u))
        return self.readout(self.cells[1](h))


CELLS = {
    "ValinaRNNCell": lambda: cell("ValinaRNNCell"),
    "ValinaRNNCell, tanh": lambda: cell("ValinaRNNCell", activation="tanh"),
    "GRUCell": lambda: cell("GRUCell"),
    "MGUCell": lambda: cell("MGUCell"),
    "LSTMCell": lambda: cell("LSTMCell"),
    "URLSTMCell": lambda: cell("URLSTMCell"),
    "sequential": lambda: nn.Sequential(cell("LSTMCell"), cell("GRUCell", N)),
}
NETWORKS = CELLS | {"two layers": TwoLayers}


def own_step(module, dtype):
    """The module's own step on a dictionary of states. Leaves them in the module."""
    nn.init_all_states(module)
    boxes = module.states(brainstate.HiddenState)

    def step(state, u):
        for box in module.states().values():
            box.value = jax.tree.map(lambda a: jnp.asarray(a, dtype), box.value)
        for path, box in boxes.items():
            box.value = state[".".join(map(str, path))]
        with brainstate.environ.context(fit=False):
            module(u)
        return {".".join(map(str, path)): box.value for path, box in boxes.items()}

    return step


@pytest.mark.slow_cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", NETWORKS.values(), ids=NETWORKS)
def test_a_step_is_the_modules_own(make, dtype):
    module = make()
    check_steps(as_transition(module), own_step(module, dtype), N_IN, dtype)


@pytest.mark.slow_cases
@pytest.mark.parametrize("make", CELLS.values(), ids=CELLS)
def test_rows_gradients_and_compilations(make):
    first, second = make(), make()
    check_rows(as_transition(first), N_IN)
    check_gradients(as_transition(first), N_IN)
    nn.init_all_states(second, 7)  # as after training with batches of seven
    check_one_compilation(as_transition(first), as_transition(second), N_IN)


def test_two_networks_share_a_compilation():
    check_one_compilation(as_transition(TwoLayers()), as_transition(TwoLayers()), N_IN)


def test_states_have_the_names_of_their_places():
    F = as_transition(TwoLayers())
    state = F.unflatten(np.arange(20.0).reshape(2, 10))
    assert {name: value.shape for name, value in state.items()} == {
        "cells.0.h": (2, N),
        "cells.1.h": (2, N),
    }
    lstm = as_transition(cell("LSTMCell"))
    np.testing.assert_array_equal(lstm.unflatten(np.arange(10.0))["c"], np.arange(5.0))


def trained_cell(kind):
    """A cell with a trained network's weights, which multiply the input and the state at once."""
    W = np.concatenate([case(kind)["Wi"], case(kind)["Wh"]], axis=1)  # [G, inputs + units, units]
    b = case(kind)["b"]

    def set_weights(linear, gates, signs):
        for name, array in (("weight", W), ("bias", b)):
            parts = [sign * array[gate] for gate, sign in zip(gates, signs, strict=True)]
            linear.weight.value = linear.weight.value | {
                name: jnp.concatenate([jnp.asarray(part) for part in parts], axis=-1)
            }

    if kind == "tanh":
        module = nn.ValinaRNNCell(3, 16, activation="tanh")
        set_weights(module.W, [0], [1])
    elif kind == "gru":  # its z is the share of the new state: 1 - z of the case
        module = nn.GRUCell(3, 16)
        set_weights(module.Wrz, [0, 1], [1, -1])
        set_weights(module.Wh, [2], [1])
    else:  # i, g, f, o; it adds 1 to the forget gate as the case does
        module = nn.LSTMCell(3, 16)
        set_weights(module.W, [0, 2, 1, 3], [1, 1, 1, 1])
    return module


def swap(x):
    """From `[h, c]` to `[c, h]`, the alphabetical order, or back."""
    return np.concatenate(np.split(np.asarray(x), 2, axis=-1)[::-1], axis=-1)


_TRAINED = ["tanh", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gru", "lstm"))]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", _TRAINED)
@pytest.mark.slow
def test_trained_cells_have_the_same_27_fixed_points(kind):
    check_fixed_points(trained_cell(kind), kind, *([swap] * 2 if kind == "lstm" else []))


@pytest.mark.slow
def test_two_layers_in_the_finder():
    module = TwoLayers()
    rng = np.random.default_rng(0)
    traj = {name: rng.normal(size=(2, 4, N)) for name in ("cells.0.h", "cells.1.h")}
    finder = FixedPointFinder(module, solver="newton_krylov", verbose=False)
    fps, _ = finder.find_fixed_points(traj, np.zeros((1, N_IN)), n_inits=8)
    assert fps.n > 0
    state = as_transition(module).unflatten(jnp.asarray(fps.xstar[0]))
    after = own_step(module, "float32")(state, jnp.zeros(N_IN))
    for name, value in state.items():
        np.testing.assert_allclose(value, after[name], atol=1e-5)


# ---- the module afterwards ---------------------------------------------------------------------


@pytest.mark.parametrize("batch_size", [None, 7])
def test_a_module_is_left_as_it_was(batch_size):
    module = TwoLayers()
    nn.init_all_states(module, batch_size)
    states = module.states()
    before = {path: (box, jax.tree.leaves(box.value)) for path, box in states.items()}
    key = brainstate.random.DEFAULT.value
    F = as_transition(module)
    jax.jit(jax.jacfwd(F))(jnp.ones(F.n_states), jnp.ones(N_IN))
    assert brainstate.random.DEFAULT.value is key
    assert list(module.states()) == list(states)
    for path, box in module.states().items():
        old_box, old_leaves = before[path]
        assert box is old_box
        for new, old in zip(jax.tree.leaves(box.value), old_leaves, strict=True):
            assert new is old


def test_a_module_that_was_never_initialised_still_is_not():
    module = cell("GRUCell")
    F = as_transition(module)
    F(jnp.ones(N), jnp.ones(N_IN))
    assert not module.states(brainstate.HiddenState)


def test_dropout_is_off():
    module = TwoLayers()
    F, x, u = as_transition(module), jnp.ones(2 * N), jnp.ones(N_IN)
    with brainstate.environ.context(fit=True):
        inside = F(x, u)
    module.dropout = lambda h: h
    np.testing.assert_allclose(inside, as_transition(module)(x, u), atol=1e-6)


class Driven(nn.Module):
    """A leaky unit, whose input may be left out."""

    def __init__(self):
        super().__init__()
        self.x = brainstate.HiddenState(jnp.ones(2))

    def update(self, current=None):
        self.x.value = 0.9 * self.x.value + (0 if current is None else current)


class Alone(Driven):
    """Takes no input at all."""

    def update(self):
        super().update()


@pytest.mark.parametrize(("module", "u"), [(Alone, []), (Driven, []), (Driven, [0.1, 0.2])])
def test_modules_that_need_no_input_keep_their_state(module, u):
    u = np.float32(u)
    fps, _ = find_fixed_points(as_transition(module()), np.ones((3, 2), np.float32), u)
    np.testing.assert_allclose(fps.xstar, [10 * u if u.size else [0, 0]], atol=1e-5)


# ---- what is refused ---------------------------------------------------------------------------


class Odd(nn.Module):
    """A leaky unit with one thing wrong."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        self.h = brainstate.HiddenState(jnp.zeros(2))
        self.other = brainstate.HiddenState(jnp.ones(2)) if wrong == "idle" else None
        self.count = brainstate.ShortTermState(jnp.zeros(2)) if wrong == "counts" else None

    def update(self, u):
        h = 0.5 * self.h.value + u
        if self.wrong == "counts":
            self.count.value = self.count.value + 1
        if self.wrong == "noise":
            h = h + brainstate.random.normal(size=(2,))
        self.h.value = h


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("idle", ["Odd", "does not set ['other']", "ParamState"]),
        ("counts", ["Odd", "changes ['count']", "HiddenStates"]),
        ("noise", ["Odd", "random numbers", "Switch"]),
    ],
)
def test_steps_that_are_no_function_of_the_state_are_refused(wrong, words):
    F = as_transition(Odd(wrong))
    with pytest.raises(ValueError) as caught:
        F(jnp.ones(F.n_states), jnp.ones(2))
    assert [word for word in words if word not in str(caught.value)] == []


def test_modules_without_a_state_and_keywords_are_refused():
    with pytest.raises(TypeError, match=r"Linear has no brainstate\.HiddenState"):
        as_transition(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="a GRUCell takes no `example_state`"):
        as_transition(cell("GRUCell"), example_state=jnp.zeros(N))


class WithTrace(nn.Module):
    """Units that adapt; `made_in` says where the state, and the trace of it, are made."""

    def __init__(self, made_in="init_state", adapts=True):
        super().__init__()
        self.made_in, self.adapts = made_in, adapts
        if made_in == "__init__":
            self._make()

    def _make(self):
        self.h = brainstate.HiddenState(jnp.zeros(2))
        if self.adapts:
            self.trace = brainstate.ShortTermState(jnp.zeros(2))

    def init_state(self, batch_size=None):
        if self.made_in == "init_state":
            self._make()
        self.h.value = jnp.zeros(2)

    def update(self, u):
        trace = 0.0
        if self.adapts:
            self.trace.value = trace = 0.9 * self.trace.value + self.h.value
        self.h.value = jnp.tanh(2 * self.h.value - 0.5 * trace + u)


@pytest.mark.parametrize("made_in", ["__init__", "init_state"])
def test_what_a_step_keeps_beside_the_state_is_refused_wherever_it_is_made(made_in):
    with pytest.raises(ValueError, match=r"WithTrace: a step changes \['trace'\]"):
        find_fixed_points(WithTrace(made_in), np.ones((1, 2)), np.zeros(2))


@pytest.mark.slow_cases
@pytest.mark.parametrize("made_in", ["__init__", "init_state"])
def test_a_state_may_be_made_anywhere(made_in):
    module = WithTrace(made_in, adapts=False)
    fps, _ = find_fixed_points(module, np.ones((1, 2)), np.zeros(2))
    assert np.allclose(fps.xstar, np.tanh(2 * np.asarray(fps.xstar))) and fps.xstar[0, 0] > 0.9


class KeepsInAttributes(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.is_first, self.before = kind, True, jnp.zeros(2)
        self.h = brainstate.HiddenState(jnp.zeros(2))

    def update(self, u):
        (before, self.before), (is_first, self.is_first) = (
            (self.before, self.h.value),
            (self.is_first, False),
        )
        drive = 0.5 * before if self.kind == "before" else 0.0
        scale = 0.0 if is_first and self.kind == "first" else 1.0
        self.h.value = scale * jnp.tanh(0.5 * self.h.value + u + 0.2 + drive)


def test_what_a_step_keeps_in_attributes_is_refused_if_the_next_step_needs_it():
    for kind in ("before", "first"):
        with pytest.raises(ValueError, match="keeps something from one call for the next"):
            find_fixed_points(KeepsInAttributes(kind), np.ones((1, 2)), np.zeros(2))
    fps, _ = find_fixed_points(KeepsInAttributes("neither"), np.ones((1, 2)), np.zeros(2))
    np.testing.assert_allclose(fps.xstar, np.tanh(0.5 * np.asarray(fps.xstar) + 0.2), atol=1e-6)
