"""BrainPy models that keep their state inside, or handle whole sequences; see `test_brainpy.py`."""

import brainpy as bp
import brainpy.math as bm
import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brainpy.math.defaults import env as brainpy_environment
from model_checks import (
    check_fixed_points,
    check_gradients,
    check_one_compilation,
    check_rows,
    check_steps,
)
from model_checks import fast_compilation as fast_compilation
from networks import case, trained

from slowpoints import FixedPointFinder, as_transition, find_fixed_points

N_IN, N = 3, 5
MODES = {"training": bm.training_mode, "nonbatching": bm.nonbatching_mode}
UNITS = {"RNNCell": N, "GRUCell": N, "LSTMCell": 2 * N}


RNG = np.random.default_rng(0)
GATES = {"RNNCell": 1, "GRUCell": 3, "LSTMCell": 4}


def random_array(*shape):
    return jnp.asarray(RNG.normal(size=shape) / np.sqrt(shape[0]), jnp.float32)


def cell_of(kind, mode="nonbatching", n_in=N_IN, **settings):
    """A cell with random weights and biases. BrainPy's own way to draw them takes seconds."""
    width = GATES[kind] * N
    settings = {
        "Wi_initializer": random_array(n_in, width),
        "Wh_initializer": random_array(N, width),
        "b_initializer": 1.0 + 0.1 * random_array(width),
        "mode": MODES[mode],
    } | settings
    return getattr(bp.dyn, kind)(n_in, N, **settings)


class TwoLayers(bp.DynSysGroup):
    """Two GRUs and a readout, which may be a dropout layer away."""

    def __init__(self, mode="nonbatching", dropout=False):
        super().__init__(mode=MODES[mode])
        self.first = cell_of("GRUCell", mode)
        self.dropout = bp.dnn.Dropout(0.5, mode=MODES[mode]) if dropout else None
        self.second = cell_of("GRUCell", mode, N)
        self.readout = bp.dnn.Dense(N, 2, random_array(N, 2), mode=MODES[mode])

    def update(self, x):
        h = self.first(x)
        h = h if self.dropout is None else self.dropout(h)
        return self.readout(self.second(h))


def sequential(mode="nonbatching"):
    return bp.Sequential(
        cell_of("LSTMCell", mode), bm.tanh, cell_of("RNNCell", mode, N), mode=MODES[mode]
    )


MODELS = {
    **{
        f"{kind}, {mode}": lambda kind=kind, mode=mode: cell_of(kind, mode)
        for kind in UNITS
        for mode in MODES
    },
    "RNNCell, tanh": lambda: cell_of("RNNCell", activation="tanh"),
    "GRUCell, no bias": lambda: cell_of("GRUCell", b_initializer=None),
    "two layers": TwoLayers,
    "two layers, training": lambda: TwoLayers("training"),
    "sequential": sequential,
    "sequential, training": lambda: sequential("training"),
}


def set_precision(model, dtype):
    """Cast every number of a model in place, which BrainPy itself does not do."""
    for node in model.nodes().unique().values():
        for name, value in vars(node).items():
            if isinstance(value, bm.Array):
                object.__setattr__(value, "_value", jnp.asarray(value._value, dtype))
            elif isinstance(value, jax.Array):
                setattr(node, name, jnp.asarray(value, dtype))


def states(model):
    found = model.vars("relative").unique()
    return {k: v for k, v in found.items() if not isinstance(v, bm.TrainVar)}


def own_step(model):
    """The model's own step on a dictionary of states. Leaves them in the model."""
    variables = list(states(model).values())

    def step(state, u):
        set_precision(model, u.dtype)
        for variable, value in zip(variables, state.values(), strict=True):
            variable.value = value[None] if variable.batch_axis == 0 else value
        model(u[None] if variables[0].batch_axis == 0 else u)
        values = [v.value[0] if v.batch_axis == 0 else v.value for v in variables]
        return dict(zip(state, values, strict=True))

    return step


@pytest.fixture(autouse=True)
def _same_weights():
    """Whatever ran before: by chance a layer of rectified units may be silent."""
    bm.random.seed(0)


@pytest.mark.slow_cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_step_is_the_models_own(make, dtype):
    model = make()
    check_steps(as_transition(model), own_step(model), N_IN, dtype)


@pytest.mark.slow_cases
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_rows_and_gradients(make):
    F = as_transition(make())
    check_rows(F, N_IN)
    if not isinstance(make(), TwoLayers):  # the readout is no part of a step
        check_gradients(F, N_IN)


@pytest.mark.slow_cases
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_two_models_of_one_structure_share_a_compilation(make):
    first, second = make(), make()
    if first.mode.is_a(bm.TrainingMode):
        bp.reset_state(second, 7)  # as after training with batches of seven
    check_one_compilation(as_transition(first), as_transition(second), N_IN)


@pytest.mark.parametrize(("kind", "n_states"), UNITS.items())
@pytest.mark.parametrize("mode", MODES)
def test_the_leaves_are_the_weights(kind, n_states, mode):
    F = as_transition(cell_of(kind, mode))
    gates = GATES[kind]
    shapes = sorted(leaf.shape for leaf in jax.tree.leaves(F))
    assert shapes == sorted([(N_IN, gates * N), (N, gates * N), (gates * N,)])
    assert F.n_states == n_states


def test_states_have_the_names_of_their_places():
    F = as_transition(TwoLayers())
    state = F.unflatten(np.arange(20.0).reshape(2, 10))
    assert {name: value.shape for name, value in state.items()} == {
        "first.state": (2, N),
        "second.state": (2, N),
    }
    assert list(as_transition(sequential()).unflatten(np.zeros(15))) == [
        "children.0.state",
        "children.2.state",
    ]


def brainpy_cell(kind, weights):
    """A BrainPy cell with a trained network's weights."""
    Wi, Wh, b = (weights[name] for name in ("Wi", "Wh", "b"))
    if kind == "tanh":
        cell, order, sign = bp.dyn.RNNCell(3, 16, activation="tanh"), [0], [1]
    elif kind == "gru":  # z, r, n; its z is the share of the new state: 1 - z of the case
        cell, order, sign = bp.dyn.GRUCell(3, 16), [1, 0, 2], [-1, 1, 1]
    else:  # i, g, f, o; it adds 1 to the forget gate as the case does
        cell, order, sign = bp.dyn.LSTMCell(3, 16), [0, 2, 1, 3], [1, 1, 1, 1]
    for name, W in (("Wi", Wi), ("Wh", Wh), ("b", b)):
        value = jnp.concatenate([s * W[g] for g, s in zip(order, sign, strict=True)], axis=-1)
        setattr(cell, name, value)
    return cell


_TRAINED = ["tanh", *(pytest.param(kind, marks=pytest.mark.slow) for kind in ("gru", "lstm"))]


@pytest.mark.one_in(2)
@pytest.mark.parametrize("kind", _TRAINED)
@pytest.mark.slow
def test_trained_cells_have_the_same_27_fixed_points(kind):
    model = brainpy_cell(kind, case(kind))
    x, u = jnp.asarray(case(kind)["traj"][0, 9]), jnp.array([1.0, 0.0, -1.0])
    np.testing.assert_allclose(as_transition(model)(x, u), trained(kind)(x, u), atol=1e-6)
    check_fixed_points(model, kind)


@pytest.mark.slow
def test_trajectories_may_be_dictionaries():
    model = TwoLayers()
    rng = np.random.default_rng(0)
    traj = {name: rng.normal(size=(2, 6, N)) for name in ("first.state", "second.state")}
    finder = FixedPointFinder(model, solver="newton_krylov", verbose=False)
    fps, all_fps = finder.find_fixed_points(traj, np.zeros((1, N_IN)), n_inits=12)
    both = np.concatenate([traj["first.state"], traj["second.state"]], axis=-1).reshape(12, -1)
    np.testing.assert_allclose(np.sort(all_fps.x_init, axis=0), np.sort(both, axis=0), rtol=1e-6)
    assert fps.n > 0


# ---- the model afterwards ----------------------------------------------------------------------


def everything(model):
    random = np.asarray(jax.random.key_data(bm.random.DEFAULT.value))
    values = {
        (name, attribute): np.asarray(bm.as_jax(value))
        for name, node in model.nodes("relative").unique().items()
        for attribute, value in vars(node).items()
        if isinstance(value, (bm.Array, jax.Array))
    }
    return [("random", random), *values.items()]


@pytest.mark.slow_cases
@pytest.mark.parametrize("mode", MODES)
def test_a_model_is_left_as_it_was(mode):
    model = TwoLayers(mode)
    for variable in states(model).values():
        variable.value = jnp.full_like(variable.value, 0.25)
    before, variables = everything(model), states(model)
    shared = dict(bp.share.get_shargs())
    F = as_transition(model)
    with jax.enable_x64(True):
        jax.jit(jax.jacfwd(F))(jnp.ones(F.n_states), jnp.ones(N_IN))
    F(jnp.ones(F.n_states), jnp.ones(N_IN))
    after = everything(model)
    assert all(v is variables[name] for name, v in states(model).items())
    for (name, old), (name_after, new) in zip(before, after, strict=True):
        assert name == name_after
        np.testing.assert_array_equal(old, new)
    assert bp.share.get_shargs().keys() == shared.keys()
    assert bp.share.get_shargs().get("fit") == shared.get("fit")


def test_dropout_is_off():
    model = TwoLayers("training", dropout=True)
    assert model.dropout is not None
    bp.share.save(fit=True)
    try:
        F = as_transition(model)
        x, u = jnp.ones(F.n_states), jnp.ones(N_IN)
        model.dropout = None
        np.testing.assert_allclose(F(x, u), as_transition(model)(x, u), atol=1e-7)
        assert bp.share["fit"] is True
    finally:
        bp.share.save(fit=False)


# ---- models that are called with their state ---------------------------------------------------


class Scan(bp.DynamicalSystem):
    """A tanh network that scans over `[T, n, n_inputs]`, and returns what `result` makes of it."""

    def __init__(self, result, time_axis=0):
        super().__init__()
        self.W = bm.Variable(0.1 * jnp.arange(4.0).reshape(2, 2))
        self.result, self.time_axis = result, time_axis

    def update(self, inputs, hidden):
        def step(h, u):
            h = jnp.tanh(h @ self.W.value + u)
            return h, h

        last, states = jax.lax.scan(step, hidden, jnp.moveaxis(inputs, self.time_axis, 0))
        return self.result(last, jnp.moveaxis(states, 0, self.time_axis))


RESULTS = {
    "outputs and last state": lambda last, states: (states.sum(-1), last),
    "outputs and all states": lambda last, states: (states.sum(-1), states),
    "all states": lambda last, states: states,
}


@pytest.mark.parametrize("time_axis", [0, 1])
@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_models_of_whole_sequences(result, time_axis):
    F = as_transition(Scan(result, time_axis))
    h, u = jnp.array([1.0, -0.5]), jnp.array([0.3, 0.2])
    np.testing.assert_allclose(F(h, u), jnp.tanh(h @ (0.1 * jnp.arange(4.0).reshape(2, 2)) + u))


class TakesPair(bp.DynamicalSystem):
    def __init__(self):
        super().__init__()
        self.w = bm.TrainVar(jnp.float32(0.5))

    def update(self, inputs, hidden):
        h, c = hidden
        u = inputs[:, 0]
        return h, (self.w.value * h + u, 0.25 * c + h)


def test_a_hidden_state_may_be_a_pytree():
    F = as_transition(TakesPair(), example_state=(jnp.zeros(2), jnp.zeros(2)))
    x = F.flatten((jnp.ones(2), 2 * jnp.ones(2)))
    np.testing.assert_allclose(F(x, jnp.array([1.0, 2.0])), [1.5, 2.5, 1.5, 1.5])


class OptionalHidden(bp.DynamicalSystem):
    """As the examples of BrainPy's users are: the weights and a first state are Variables."""

    def __init__(self):
        super().__init__()
        self.W = bm.Variable(0.5 * jnp.eye(2))
        self.h0 = bm.Variable(jnp.zeros(2))

    def __call__(self, inputs, hidden=None):
        h = jnp.tile(self.h0.value, (inputs.shape[0], 1)) if hidden is None else hidden
        outputs = []
        for t in range(inputs.shape[1]):
            h = h @ self.W.value + inputs[:, t]
            outputs.append(h)
        return jnp.stack(outputs, axis=1), h


@pytest.mark.slow
def test_a_hidden_state_that_may_be_left_out_is_the_state():
    F = as_transition(OptionalHidden())
    np.testing.assert_allclose(F(jnp.ones(2), jnp.asarray([1.0, 2.0])), [1.5, 2.5])
    states = np.zeros((2, 4, 2), np.float32)
    finder = FixedPointFinder(OptionalHidden(), verbose=False)
    fps, _ = finder.find_fixed_points(states, np.asarray([[1.0, 2.0]]), n_inits=8, noise_scale=1.0)
    np.testing.assert_allclose(fps.xstar, [[2, 4]], rtol=1e-5)


class Driven(bp.DynamicalSystem):
    """A leaky unit; an input may be left out, as may a further one."""

    def __init__(self):
        super().__init__()
        self.x = bm.Variable(jnp.ones(2))

    def update(self, current=None, other=None):
        self.x.value = 0.9 * self.x.value + (0 if current is None else current)


class Alone(Driven):
    """Takes no input at all, as the models of BrainPy's own tests of its analyses do."""

    def update(self):
        super().update()


class WithMore(Driven):
    """Takes an input, and any number of others, none of which is a state."""

    def update(self, current, *others):
        super().update(current)


class OfNoLength(Driven):
    """Has to be given an input, of whatever length."""

    def update(self, current):
        super().update(jnp.sum(current))


CASES = [(Alone, []), (Driven, []), (OfNoLength, [])]
CASES += [(Driven, [0.1, 0.2]), (WithMore, [0.1, 0.2])]


@pytest.mark.slow_cases
@pytest.mark.parametrize(("model", "u"), CASES)
def test_models_that_need_no_input_keep_their_state(model, u):
    u = np.float32(u)
    fps, _ = find_fixed_points(as_transition(model()), np.ones((3, 2), np.float32), u)
    np.testing.assert_allclose(fps.xstar, [10 * u if u.size else [0, 0]], atol=1e-5)
    np.testing.assert_allclose(fps.J_xstar[0], 0.9 * np.eye(2), rtol=1e-6)


def test_a_model_that_takes_no_input_is_given_none():
    with pytest.raises(ValueError, match="`inputs` has 1 column; expected 0, since Alone takes 0"):
        find_fixed_points(as_transition(Alone()), np.ones((3, 2), np.float32), np.zeros(1))


# ---- what is refused ---------------------------------------------------------------------------


class Odd(bp.DynamicalSystem):
    """A leaky unit with one thing wrong."""

    def __init__(self, wrong):
        super().__init__()
        self.wrong = wrong
        self.h = bm.Variable(jnp.zeros(2))
        self.extra = bm.Variable(jnp.zeros(2, int)) if wrong == "counts" else None
        self.W = bm.Variable(jnp.eye(2)) if wrong == "weights" else None
        self.rng = bm.random.RandomState(0) if wrong == "own noise" else None

    def update(self, u):
        h = 0.5 * self.h.value + u
        if self.wrong == "weights":
            h = h @ self.W.value
        if self.wrong == "counts":
            self.extra.value = self.extra.value + 1
        if self.wrong == "noise":
            h = h + bm.as_jax(bm.random.normal(size=(2,)))
        if self.wrong == "own noise":
            h = h + bm.as_jax(self.rng.normal(size=(2,)))
        self.h.value = h


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ("weights", ["Odd", "does not set ['W']", "TrainVar"]),
        ("counts", ["Odd", "changes ['extra']", "real numbers"]),
        ("noise", ["Odd", "random numbers", "Switch"]),
        ("own noise", ["Odd", "random numbers"]),
    ],
)
def test_steps_that_are_no_function_of_the_state_are_refused(wrong, words):
    model = Odd(wrong)
    before = everything(model)
    F = as_transition(model)
    with pytest.raises(ValueError) as caught:
        F(jnp.ones(F.n_states), jnp.ones(2))
    assert [word for word in words if word not in str(caught.value)] == []
    for (_, old), (_, new) in zip(before, everything(model), strict=True):
        np.testing.assert_array_equal(old, new)


def test_noise_in_a_model_that_is_called_with_its_state_is_refused():
    class Noisy(bp.DynamicalSystem):
        def update(self, inputs, hidden):
            return inputs, hidden + bm.as_jax(bm.random.normal(size=hidden.shape))

    with pytest.raises(ValueError, match="Noisy draws random numbers"):
        as_transition(Noisy())(jnp.ones(2), jnp.ones(2))


def test_a_model_without_a_state_is_refused():
    with pytest.raises(TypeError, match="Dense takes no hidden state, and has none"):
        as_transition(bp.dnn.Dense(2, 2))


@pytest.mark.parametrize("named", [False, True])
def test_states_of_another_length_are_told_which_variables_count(named):
    class Trials(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.x = bm.Variable(bm.zeros((16, 3)), batch_axis=0 if named else None)
            self.y = bm.Variable(bm.zeros(2))

        def update(self, u):
            self.x.value, self.y.value = bm.tanh(self.x + u), 0.5 * self.y

    with pytest.raises(ValueError, match="`x_init` has 4 columns") as error:
        find_fixed_points(Trials(), np.zeros((2, 4)), np.zeros(3))
    expected = "x (3,), y (2,)." if named else "x (16, 3), y (2,)."
    assert f"expected {5 if named else 50}, since" in str(error.value)
    assert f"which are {expected}" in str(error.value)
    assert ("`bm.Variable(..., batch_axis=0)`" in str(error.value)) is not named


class Drawing(bp.DynamicalSystem):
    """Draws noise from BrainPy's own random state, or from one of its own."""

    def __init__(self, own):
        super().__init__()
        self.x = bm.Variable(bm.zeros(3))
        self.random = bm.random.RandomState(0) if own else bm.random

    def update(self, u):
        self.x.value = bm.tanh(self.x + u + self.random.randn(3))


@pytest.mark.parametrize("own", [False, True])
def test_a_model_that_draws_random_numbers_is_refused_as_such(own):
    F = as_transition(Drawing(own))
    with pytest.raises(ValueError, match=r"Drawing draws random numbers in a step.* Switch its n"):
        find_fixed_points(F, np.zeros((2, 3)), np.zeros(3))


def test_a_network_that_spikes_is_refused_as_such():
    F = as_transition(bp.dyn.Lif(3))
    with pytest.raises(ValueError, match=r"changes \['spike'\].* A network that spikes has no fix"):
        find_fixed_points(F, np.zeros((2, F.n_states)), np.zeros(3))


def test_a_state_that_is_made_later_is_asked_for():
    class Later(bp.DynamicalSystem):
        def reset_state(self, batch_size=None):
            self.x = bm.Variable(bm.zeros(3))

        def update(self, u):
            self.x.value = bm.tanh(self.x + u)

    model = Later()
    with pytest.raises(TypeError, match=r"If `model.reset_state\(\)` makes the state, call it"):
        as_transition(model)
    model.reset_state()
    assert as_transition(model).n_states == 3


@pytest.mark.slow
def test_a_time_that_a_simulation_sets_is_asked_for():
    class Driven(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.x = bm.Variable(bm.zeros(3))

        def update(self, u):
            self.x.value = bm.tanh(self.x + u + (bp.share["t"] - 1.0))

    before = dict(bp.share.get_shargs())
    with pytest.raises(ValueError, match=r"`bp.share.save\(t=0.0\)`"):
        find_fixed_points(Driven(), np.zeros((2, 3)), np.zeros(3))
    try:
        bp.share.save(t=1.0)
        fps, _ = find_fixed_points(Driven(), 0.1 * np.ones((2, 3)), np.ones(3))
    finally:
        brainstate.environ.pop("t", env=brainpy_environment)
    assert fps.n == 1 and bp.share.get_shargs().keys() == before.keys()


class WithTrace(bp.DynamicalSystem):
    """Units whose state is passed, and which remember it; whether that matters to the next step."""

    def __init__(self, adapts):
        super().__init__()
        self.adapts = adapts
        self.trace = bm.Variable(bm.zeros(2))

    def update(self, inputs, hidden):
        self.trace.value = 0.9 * self.trace + hidden[0]
        h = bm.tanh(2 * hidden - 0.5 * self.adapts * self.trace)
        return h, h


@pytest.mark.slow
def test_what_a_step_keeps_is_refused_if_the_next_step_needs_it():
    x = np.ones((1, 2))
    with pytest.raises(ValueError, match="keeps something from one call for the next"):
        find_fixed_points(WithTrace(1.0), x, np.zeros(1))
    model = WithTrace(0.0)
    fps, _ = find_fixed_points(model, x, np.zeros(1))
    assert fps.n == 1 and np.asarray(model.trace).sum() == 0


class KeepsInAttributes(bp.DynamicalSystem):
    """Its state is a Variable; what it also keeps is none, or whether it is the first call."""

    def __init__(self, matters=True):
        super().__init__()
        self.matters, self.is_first, self.calls = matters, True, 0
        self.h, self.before = bm.Variable(bm.zeros(2)), jnp.zeros(2)

    def update(self, u):
        self.calls += 1
        before, self.before = self.before, self.h.value
        drive = 0.5 * before if self.matters else 0.0
        self.h.value = bm.tanh(0.5 * self.h.value + u + 0.2 + drive)


class FirstCallIsAnother(KeepsInAttributes):
    def update(self, u):
        is_first, self.is_first = self.is_first, False
        self.h.value = self.h.value * 0 if is_first else bm.tanh(0.5 * self.h.value + u + 0.2)


@pytest.mark.parametrize("model", [KeepsInAttributes, FirstCallIsAnother])
def test_what_a_step_keeps_in_attributes_is_refused_if_the_next_step_needs_it(model):
    with pytest.raises(ValueError, match="keeps something from one call for the next"):
        find_fixed_points(model(), np.ones((1, 2)), np.zeros(2))
    harmless = KeepsInAttributes(matters=False)
    fps, _ = find_fixed_points(harmless, np.ones((1, 2)), np.zeros(2))
    np.testing.assert_allclose(fps.xstar, np.tanh(0.5 * np.asarray(fps.xstar) + 0.2), atol=1e-6)
    assert harmless.calls == 0 and not isinstance(harmless.before, jax.core.Tracer)


@pytest.mark.slow
def test_models_that_add_up_inputs_are_refused_unless_they_take_them_as_arguments():
    with pytest.raises(TypeError, match=r"FHN adds its inputs.*`input_var=False`"):
        as_transition(bp.rates.FHN(1))
    model = bp.rates.FHN(1, input_var=False)
    try:
        bp.share.save(t=0.0)
        fps, _ = find_fixed_points(model, np.ones((8, 2)), 0.3 * np.ones(1))
    finally:
        brainstate.environ.pop("t", env=brainpy_environment)
    x, y = np.asarray(fps.xstar, np.float64).T
    np.testing.assert_allclose(
        model.beta * x**2 - model.alpha * x**3 + model.gamma * x - y, -0.3, atol=1e-5
    )
    np.testing.assert_allclose(x - model.delta, model.epsilon * y, atol=1e-5)
