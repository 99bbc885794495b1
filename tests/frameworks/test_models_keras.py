"""Recurrent layers and cells of Keras 3 as transitions, on its JAX backend.

The files in `cases/keras/` were written by TensorFlow, which also took the steps in `steps.npz`.
"""

import os
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import check_fixed_points, check_rows
from model_checks import fast_compilation as fast_compilation
from networks import case, compilations

from slowpoints import (
    FixedPointFinder,
    Status,
    as_transition,
    find_fixed_points,
    optimize_batch,
    unique,
)

os.environ["KERAS_BACKEND"] = "jax"
keras = pytest.importorskip("keras", reason="Keras is not installed (the extra `keras`)")
layers, ops = keras.layers, keras.ops

# Of Keras' own variables, when NumPy makes arrays of them.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

FILES = Path(__file__).parents[1] / "cases" / "keras"
N_IN, N = 3, 5


class Leaky(keras.Layer):
    """A cell of one's own, whose state is a single array."""

    def __init__(self, units, **settings):
        super().__init__(**settings)
        self.units = self.state_size = units

    def build(self, input_shape):
        self.W = self.add_weight(shape=(self.units, self.units), name="W")
        self.B = self.add_weight(shape=(input_shape[-1], self.units), name="B")
        self.mask = self.add_weight(shape=(self.units,), name="mask", trainable=False)

    def call(self, inputs, states):
        (h,) = states
        drive = ops.matmul(ops.tanh(h) * self.mask, self.W) + ops.matmul(inputs, self.B)
        h = 0.9 * h + 0.1 * drive
        return ops.tanh(h), [h]


class Adapting(keras.Layer):
    """A cell with two arrays of different sizes, and with layers and dropout inside."""

    def __init__(self, units, **settings):
        super().__init__(**settings)
        self.state_size = [units, 2]
        self.dense, self.slow = layers.Dense(units, activation="tanh"), layers.Dense(2)
        self.dropout = layers.Dropout(0.5)

    def build(self, input_shape):
        units, slow = self.state_size
        self.dense.build((None, units + slow + input_shape[-1]))
        self.slow.build((None, units))

    def call(self, inputs, states, training=False):
        h, a = states
        h = self.dense(self.dropout(ops.concatenate([h, a, inputs], axis=-1), training=training))
        return h, [h, 0.8 * a + 0.2 * self.slow(h)]


CELLS = {
    "SimpleRNNCell": lambda: layers.SimpleRNNCell(N),
    "relu": lambda: layers.SimpleRNNCell(N, activation="relu", use_bias=False),
    "GRUCell": lambda: layers.GRUCell(N),
    "GRUCell, reset before": lambda: layers.GRUCell(N, reset_after=False),
    "LSTMCell": lambda: layers.LSTMCell(N),
    "stacked": lambda: layers.StackedRNNCells([layers.LSTMCell(4), layers.GRUCell(N), Leaky(2)]),
    "one in a stack": lambda: layers.StackedRNNCells([layers.LSTMCell(N)]),
    "dropout": lambda: layers.SimpleRNNCell(N, dropout=0.5, recurrent_dropout=0.5),
    "dropout in a stack": lambda: layers.StackedRNNCells(
        [layers.GRUCell(4, dropout=0.2), layers.LSTMCell(N, recurrent_dropout=0.2)]
    ),
    "Leaky": lambda: Leaky(N),
    "Adapting": lambda: Adapting(N),
}


def drawn(layer, seed=0, scale=0.7):
    """Give all variables of a layer random values."""
    rng = np.random.default_rng(seed)
    for variable in layer.weights:
        if variable.dtype == "float32":
            variable.assign(scale * rng.standard_normal(variable.shape))
    return layer


def cell_of(kind, seed=0):
    cell = CELLS[kind]()
    cell.build((None, N_IN))
    return drawn(cell, seed)


def own_step(cell):
    """The cell's own step of one state, called as Keras calls it."""

    def batched(state):
        if not isinstance(state, list):
            return [state[None]]
        return [s[None] if not isinstance(s, list) else [a[None] for a in s] for s in state]

    def step(x, u, F):
        states = batched(F.unflatten(x))
        if isinstance(cell, layers.StackedRNNCells) and len(cell.cells) == 1:
            states = [states]
        new = cell(u[None], states, training=False)[1] if takes_training(cell) else None
        new = cell(u[None], states)[1] if new is None else new
        return jnp.concatenate([jnp.asarray(a)[0] for a in jax.tree.leaves(new)])

    return step


def takes_training(cell):
    return not isinstance(cell, Leaky)


def points(F, n=6):
    rng = np.random.default_rng(1)
    x, u = rng.normal(size=(n, F.n_states)), rng.normal(size=(n, N_IN))
    return jnp.asarray(x, jnp.float32), jnp.asarray(u, jnp.float32)


# ---- a step ------------------------------------------------------------------------------------


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("kind", CELLS)
def test_a_step_and_its_jacobian_are_those_of_keras(kind):
    cell = cell_of(kind)
    F, own = as_transition(cell), own_step(cell)
    assert F.n_inputs == N_IN
    for x, u in zip(*points(F), strict=True):
        np.testing.assert_allclose(F(x, u), own(x, u, F), rtol=0, atol=1e-6)
        for which in (0, 1):
            expected = jax.jacfwd(own, which)(x, u, F)
            np.testing.assert_allclose(jax.jacfwd(F, which)(x, u), expected, rtol=0, atol=1e-6)


@pytest.mark.slow_cases
@pytest.mark.parametrize("kind", CELLS)
def test_rows_are_those_of_single_steps(kind):
    check_rows(as_transition(cell_of(kind)), N_IN)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (lambda: layers.SimpleRNN(N, return_sequences=True), "SimpleRNNCell"),
        (lambda: layers.GRU(N, return_state=True), "GRUCell"),
        (lambda: layers.LSTM(N, stateful=True), "LSTMCell"),
        (lambda: layers.RNN(Leaky(N)), "Leaky"),
        (lambda: layers.RNN([layers.LSTMCell(4), layers.GRUCell(N), Leaky(2)]), "stacked"),
    ],
)
def test_a_layer_makes_the_steps_of_its_cell(make, kind):
    layer = make()
    layer(np.zeros((2, 4, N_IN), np.float32))
    drawn(layer)
    F, cell = as_transition(layer), as_transition(cell_of(kind))
    assert F.n_inputs == N_IN and F.name == type(layer).__name__
    for x, u in zip(*points(F), strict=True):
        np.testing.assert_allclose(F(x, u), cell(x, u), atol=1e-6)


def test_states_are_keras_own_without_lists_of_one():
    gru, lstm = as_transition(cell_of("GRUCell")), as_transition(cell_of("LSTMCell"))
    x = np.arange(10.0)
    assert gru.unflatten(x[:5]).shape == (5,)
    h, c = lstm.unflatten(x)
    np.testing.assert_array_equal(h, x[:5])
    np.testing.assert_array_equal(lstm.flatten([h, c]), x)
    (h, c), second, leaky = as_transition(cell_of("stacked")).unflatten(np.arange(15.0))
    assert (h.shape, c.shape, second.shape, leaky.shape) == ((4,), (4,), (5,), (2,))
    adapting = as_transition(cell_of("Adapting"))
    assert [a.shape for a in adapting.unflatten(np.arange(7.0))] == [(5,), (2,)]


def test_a_whole_sequence_of_keras_is_the_steps_of_the_transition():
    layer = layers.LSTM(N, return_sequences=True, return_state=True)
    u = np.float32(np.random.default_rng(0).normal(size=(1, 12, N_IN)))
    layer(u)
    drawn(layer)
    outputs, h, c = layer(u)
    F = as_transition(layer)
    x = jnp.zeros(2 * N)
    for k in range(12):
        x = F(x, jnp.asarray(u[0, k]))
        np.testing.assert_allclose(x[:N], np.asarray(outputs)[0, k], atol=1e-6)
    np.testing.assert_allclose(x, np.concatenate([h[0], c[0]]), atol=1e-6)


def test_weights_are_leaves_by_name():
    F = as_transition(cell_of("GRUCell"))
    variables = F.model.held.variables
    assert set(variables["trainable"]) == {"kernel", "recurrent_kernel", "bias"}
    assert set(as_transition(cell_of("Leaky")).model.held.variables["others"]) == {"mask"}
    names = set(as_transition(cell_of("stacked")).model.held.variables["trainable"])
    assert len(names) == 8 and any(name.endswith("/recurrent_kernel") for name in names)


def test_gradients_reach_the_weights():
    cell = cell_of("GRUCell")
    x, u = (a[0] for a in points(as_transition(cell)))

    def total(F):
        return F(x, u).sum()

    found = eqx.filter_grad(total)(as_transition(cell)).model.held.variables["trainable"]
    kernel = np.asarray(cell.kernel.value)
    ones = np.zeros_like(kernel)
    ones[1, 2] = 1e-2
    cell.kernel.assign(kernel + ones)
    above = total(as_transition(cell))
    cell.kernel.assign(kernel - ones)
    difference = (above - total(as_transition(cell))) / 2e-2
    np.testing.assert_allclose(found["kernel"][1, 2], difference, atol=1e-4)


# ---- a module of another kind ------------------------------------------------------------------


def test_a_layer_that_is_no_cell_takes_a_signature():
    class Step(keras.Layer):
        def build(self, *shapes):
            self.W = self.add_weight(shape=(2, 2), name="W")

        def call(self, inputs, states):
            new = ops.tanh(ops.matmul(states, self.W) + inputs)
            return new, new

    layer = Step()
    layer(np.zeros((1, 2), np.float32), np.zeros((1, 2), np.float32))
    drawn(layer)
    F = as_transition(layer, signature="batched")
    x, u = jnp.array([0.3, -0.4]), jnp.array([0.1, 0.2])
    np.testing.assert_allclose(F(x, u), np.tanh(x @ np.asarray(layer.W) + u), atol=1e-6)
    with pytest.raises(TypeError, match=r'Step, a keras.Layer whose step .*"batched"'):
        as_transition(layer)


def test_an_example_state_says_what_a_cell_without_a_known_state_takes():
    cell = cell_of("LSTMCell")
    F = as_transition(cell, example_state=(np.zeros(N, np.float32), np.zeros(N, np.float32)))
    x, u = (a[0] for a in points(F))
    np.testing.assert_allclose(F(x, u), as_transition(cell)(x, u), atol=1e-6)
    assert isinstance(F.unflatten(x), tuple)


# ---- searches ----------------------------------------------------------------------------------


def flipflop_cell(kind):
    """A trained network of `cases/`."""
    weights = case(kind)
    makers = {
        "tanh": layers.SimpleRNNCell,
        "gru": lambda n: layers.GRUCell(n, reset_after=False),
        "lstm": layers.LSTMCell,
    }
    cell = makers[kind](16)
    cell.build((None, 3))
    order = {"tanh": [0], "gru": [1, 0, 2], "lstm": [0, 1, 2, 3]}[kind]
    b = weights["b"] + (np.array([[0], [1], [0], [0]]) if kind == "lstm" else 0)
    arrays = (np.concatenate(list(a[order]), -1) for a in (weights["Wi"], weights["Wh"], b))
    cell.set_weights([*arrays, *cell.get_weights()[3:]])
    return cell


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tanh", pytest.param("gru", marks=pytest.mark.slow), "lstm"])
def test_a_search_finds_the_points_of_the_trained_network(kind):
    check_fixed_points(flipflop_cell(kind), kind)


def trained_a_little():
    """A model that has learned for a moment to hold the sign of the last pulse."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    u = np.float32(rng.choice([-1, 0, 1], p=[0.1, 0.8, 0.1], size=(64, 20, 1)))
    target, held = np.zeros_like(u), np.zeros((64, 1), np.float32)
    for k in range(20):
        held = np.where(u[:, k] != 0, u[:, k], held)
        target[:, k] = held
    rnn = layers.GRU(6, return_sequences=True)
    model = keras.Sequential([keras.Input((None, 1)), rnn, layers.Dense(1)])
    model.compile(keras.optimizers.Adam(0.03), "mse")
    return model, rnn, u, target


@pytest.mark.slow
def test_training_changes_the_answer_and_compiles_nothing_anew():
    model, rnn, u, target = trained_a_little()
    starts = np.asarray(rnn(u))[:, -1]
    zero = np.zeros(1, np.float32)
    before = optimize_batch(rnn, starts, zero)
    weights = rnn.get_weights()
    rnn.set_weights([8 * w for w in weights])
    optimize_batch(rnn, starts, zero)  # some rows need exact steps, as some do below
    rnn.set_weights(weights)
    F = as_transition(rnn)
    kernel = np.asarray(rnn.cell.kernel)
    model.fit(u, target, epochs=40, verbose=0)  # gives the memory of old values away
    assert not np.allclose(kernel, np.asarray(rnn.cell.kernel))
    assert np.isfinite(F(jnp.ones(6), jnp.zeros(1))).all()  # the old one's copies are still there

    with compilations() as compiled:
        after = optimize_batch(rnn, starts, zero)
    assert not compiled
    for fps in (before, after):
        assert np.all(np.asarray(fps.status) == Status.FIXED_POINT)
    for point in np.asarray(after.xstar):
        own = np.asarray(rnn.cell(zero[None], [point[None]])[1][0])[0]
        np.testing.assert_allclose(own, point, atol=1e-5)
    assert unique(after).compact().n == 3 > unique(before).compact().n
    finder = FixedPointFinder(rnn, verbose=False)
    fps, _ = finder.find_fixed_points(np.asarray(rnn(u)), zero[None], n_inits=64, noise_scale=0.1)
    assert fps.n == 3 and fps.is_stable.sum() == 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["GRUCell", "stacked"])
def test_a_search_in_float64_is_that_of_the_program_in_float64(kind):
    cell = cell_of(kind)
    finder = FixedPointFinder(cell, dtype="float64", verbose=False)
    x, u = points(as_transition(cell), 16)
    fps, rows = finder.find_fixed_points(np.asarray(x)[None], np.asarray(u)[:1], n_inits=16)
    assert fps.n >= 1 and fps.xstar.dtype == np.float64
    assert np.isin(rows.status, [Status.FIXED_POINT, Status.ESCAPED]).all()
    assert np.all(fps.status == Status.FIXED_POINT)


@pytest.mark.slow
def test_variables_and_attributes_of_the_cell_are_left_as_they_were():
    for kind in ("dropout", "dropout in a stack", "Adapting"):
        cell = cell_of(kind)
        values = [np.asarray(v) for v in cell.variables]
        attributes = [dict(vars(part)) for part in cell._flatten_layers()]
        F = as_transition(cell)
        find_fixed_points(F, points(F)[0], np.zeros(N_IN), compute_jacobians=False)
        for old, variable in zip(values, cell.variables, strict=True):
            np.testing.assert_array_equal(old, np.asarray(variable))
        for old, part in zip(attributes, cell._flatten_layers(), strict=True):
            assert old.keys() == vars(part).keys()
            assert all(old[name] is vars(part)[name] for name in old)


# ---- files -------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_files_that_tensorflow_wrote(suffix):
    model = keras.saving.load_model(FILES / f"tensorflow.{suffix}", compile=False)
    gru, lstm = model.layers[0], model.layers[1]
    with np.load(FILES / "steps.npz") as archive:
        steps = {name: jnp.asarray(archive[name]) for name in archive}
        np.testing.assert_allclose(
            as_transition(gru)(steps["h"], steps["u"]), steps["gru_next"], atol=1e-6
        )
        F = as_transition(lstm)
        x = F.flatten([steps["h2"], steps["c2"]])
        expected = jnp.concatenate([steps["lstm_h"], steps["lstm_c"]])
        np.testing.assert_allclose(F(x, steps["u2"]), expected, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Do not pass an `input_shape`:UserWarning")
def test_weights_of_a_whole_model_that_keras_2_wrote():
    """Keras 3 knows not all of its settings."""
    with pytest.raises(ValueError, match="time_major"):
        keras.saving.load_model(FILES / "keras_2.h5", compile=False)
    gru, lstm = layers.GRU(4, return_sequences=True), layers.LSTM(3, return_sequences=True)
    model = keras.Sequential([keras.Input((None, 2)), gru, lstm, layers.Dense(1)])
    model.load_weights(FILES / "keras_2.h5")
    with np.load(FILES / "keras_2_steps.npz") as steps:
        found = as_transition(gru)(jnp.asarray(steps["h"]), jnp.asarray(steps["u"]))
        np.testing.assert_allclose(found, steps["gru_next"], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", ["keras", "weights.h5"])
def test_files_that_were_written_here(suffix, tmp_path):
    model, rnn, *_ = trained_a_little()
    file = tmp_path / f"model.{suffix}"
    if suffix == "keras":
        model.save(file)
        other = keras.saving.load_model(file, compile=False).layers[0]
    else:
        model.save_weights(file)
        fresh, other, *_ = trained_a_little()
        drawn(other)
        fresh.load_weights(file)
    x, u = jnp.full(6, 0.3), jnp.ones(1)
    np.testing.assert_array_equal(as_transition(other)(x, u), as_transition(rnn)(x, u))


# ---- errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: layers.GRU(3), r"\(None, None, n_inputs\)"),
        (lambda: layers.GRUCell(3), r"\(None, n_inputs\)"),
        (lambda: Leaky(3), r"\(None, n_inputs\)"),
    ],
)
def test_an_unbuilt_layer_is_told_to_be_called_once(make, shape):
    with pytest.raises(ValueError, match=rf"has no variables yet. Call it once .* `build\({shape}"):
        as_transition(make())


@pytest.mark.slow
def test_a_whole_model_is_told_which_layer_to_pass():
    gru, lstm = layers.GRU(3, return_sequences=True), layers.LSTM(4)
    model = keras.Sequential([keras.Input((None, 2)), layers.Dense(2), gru, layers.Dense(1)])
    with pytest.raises(TypeError, match=r"Sequential, .* Pass `model.layers\[1\]`\."):
        as_transition(model)
    i = keras.Input((None, 2))
    inner = keras.Model(i, lstm(gru(i)))
    outer = keras.Sequential([keras.Input((None, 2)), inner, layers.Dense(1)])
    names = r"`model.layers\[0\].layers\[1\]`, `model.layers\[0\].layers\[2\]`"
    with pytest.raises(TypeError, match=rf"Pass one of its layers, {names}\."):
        as_transition(outer)
    np.testing.assert_array_equal(
        as_transition(outer.layers[0].layers[1])(jnp.ones(3), jnp.ones(2)),
        as_transition(gru)(jnp.ones(3), jnp.ones(2)),
    )


def test_a_layer_with_a_recurrent_one_inside_is_told_its_attribute():
    class Net(keras.Layer):
        def __init__(self):
            super().__init__()
            self.rnn = layers.GRU(3)

        def call(self, x):
            return self.rnn(x)

    with pytest.raises(TypeError, match=r"Pass `model\.rnn`\."):
        as_transition(Net())
    with pytest.raises(TypeError, match=r"Dense, a keras.Layer whose step is not known"):
        as_transition(layers.Dense(3))


def test_layers_in_two_directions_are_refused():
    both = layers.Bidirectional(layers.GRU(3))
    both(np.zeros((1, 4, 2), np.float32))
    with pytest.raises(TypeError, match=r"bidirectional.*Pass `layer.forward_layer`"):
        as_transition(both)
    assert as_transition(both.forward_layer).n_states == 3


def test_cells_of_images_are_refused():
    layer = layers.ConvLSTM1D(2, 3)
    layer(np.zeros((1, 4, 8, 2), np.float32))
    with pytest.raises(TypeError, match="have 2 axes besides the batch; expected a vector"):
        as_transition(layer)


class Noisy(Leaky):
    own_seed = True

    def __init__(self, units):
        super().__init__(units)
        if self.own_seed:
            self.seed = keras.random.SeedGenerator(0)

    def call(self, inputs, states):
        out, (h,) = super().call(inputs, states)
        seed = self.seed if self.own_seed else None
        return out, [h + 0.1 * keras.random.normal(ops.shape(h), seed=seed)]


class NoisyByAGlobalSeed(Noisy):
    own_seed = False


class Counting(Leaky):
    def build(self, input_shape):
        super().build(input_shape)
        self.count = self.add_weight(shape=(), name="count", trainable=False)

    def call(self, inputs, states):
        self.count.assign(self.count + 1)
        return super().call(inputs, states)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Noisy, "Noisy draws random numbers in a step, though .*`training=False`"),
        (
            NoisyByAGlobalSeed,
            "NoisyByAGlobalSeed could not be .* you should only use seeded random",
        ),
        (Counting, "Counting changes its variable `count` in a step"),
    ],
)
def test_cells_that_are_no_maps_are_refused(kind, words):
    cell = kind(3)
    cell.build((None, 2))
    with pytest.raises(ValueError, match=words):
        as_transition(cell)
    with pytest.raises(ValueError, match=words):
        as_transition(layers.StackedRNNCells([cell, layers.GRUCell(2)]).cells[0])


class Normalized(Leaky):
    """A layer inside has no variables before the first call."""

    def build(self, input_shape):
        super().build(input_shape)
        self.norm, self.unused = layers.LayerNormalization(), layers.Dense(3)

    def call(self, inputs, states):
        h = self.norm(super().call(inputs, states)[0])
        return h, [h]


@pytest.mark.parametrize("signature", [None, "batched"])
def test_a_layer_inside_that_is_not_built_is_told_to_be_called_once(signature):
    cell, x, u = Normalized(3), jnp.ones((1, 3)), jnp.ones((1, 2))
    cell.build((None, 2))
    before = {path: list(map(id, values)) for path, values in _variables_of(cell)}
    with pytest.raises(ValueError, match=r"variables of its layer `layer_norm.*Call it once on"):
        as_transition(cell, signature=signature)(x[0], u[0])
    assert before == {path: list(map(id, values)) for path, values in _variables_of(cell)}
    assert not cell.norm.built
    h, _ = cell(u, [x])
    F = as_transition(cell)
    np.testing.assert_allclose(F(x[0], u[0]), h[0], atol=1e-6)


def _variables_of(cell):
    return [(part.path, part.variables) for part in cell._flatten_layers()]


class Doubled(layers.GRU):
    def call(self, sequences, initial_state=None, mask=None, training=False):
        return super().call(2 * sequences, initial_state, mask, training)


class Renamed(layers.GRU):
    def get_config(self):
        return super().get_config() | {"kind": "renamed"}


def test_a_layer_with_a_call_of_its_own_is_not_taken_for_its_cell():
    own, renamed = Doubled(3), Renamed(3)
    for layer in (own, renamed):
        layer(np.zeros((1, 4, 2), np.float32))
    with pytest.raises(TypeError, match=r"Doubled has a `call` of its own.*Pass `layer.cell`"):
        as_transition(own)
    x, u = jnp.ones(3), jnp.ones(2)
    for taken in (own.cell, renamed):
        assert as_transition(taken)(x, u).shape == (3,)


DROPPING = layers.GRUCell(3, dropout=0.5)


def test_a_function_that_draws_by_a_cell_is_refused_and_leaves_the_cell_as_it_is():
    DROPPING.build((None, 2))
    before = [dict(vars(part)) for part in DROPPING._flatten_layers()]

    def step(x, u):
        return DROPPING(u[None], [x[None]], training=True)[1][0][0]

    with pytest.raises(ValueError, match="the model is random"):
        find_fixed_points(step, np.ones((2, 3)), np.ones(2))
    assert before == [dict(vars(part)) for part in DROPPING._flatten_layers()]
    held = jax.tree.leaves([[v.value for v in DROPPING.variables], DROPPING.seed_generator.state])
    assert not any(isinstance(value, jax.core.Tracer) for value in held)


class Wrong(Leaky):
    def call(self, inputs, states):
        return super().call(inputs, states)[0]


class WrongShape(Leaky):
    def call(self, inputs, states):
        return inputs, [inputs]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Wrong, r"returned a .*; expected the pair \(output, new states\)"),
        (WrongShape, r"the new states have the shapes \[\(1, 2\)\]; expected the same"),
    ],
)
def test_cells_that_return_something_else_are_refused(kind, words):
    cell = kind(3)
    cell.build((None, 2))
    with pytest.raises(ValueError, match=words):
        as_transition(cell)


def test_states_and_inputs_of_another_length_are_refused():
    F = as_transition(cell_of("LSTMCell"))
    with pytest.raises(ValueError, match="`x_init` has 5 columns; expected 10, since LSTMCell"):
        find_fixed_points(F, np.zeros((2, 5)), np.zeros(N_IN))
    with pytest.raises(ValueError, match="`inputs` has 2 columns; expected 3"):
        find_fixed_points(F, np.zeros((2, 10)), np.zeros(2))


@pytest.mark.slow
def test_another_backend_is_refused_with_what_to_do():
    code = (
        "import keras; from slowpoints import as_transition\n"
        "cell = keras.layers.GRUCell(2); cell.build((None, 1)); as_transition(cell)"
    )
    root = str(Path(__file__).parents[2])
    env = os.environ | {"KERAS_BACKEND": "numpy", "PYTHONPATH": root}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    last = done.stderr.strip().splitlines()[-1]
    assert "Keras computes with numpy here; expected JAX. Set the environment variable" in last
    assert 'os.environ["KERAS_BACKEND"] = "jax"' in last
