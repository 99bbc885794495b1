"""BrainPy models as pure transitions: used as they are, and left as they were."""

import gc

import brainpy as bp
import brainpy.math as bm
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.core import Tracer
from model_checks import fast_compilation as fast_compilation
from networks import CELLS, FlipFlop, case, compilations, trained

from slowpoints import Adam, FixedPointFinder, as_transition, optimize_batch
from slowpoints._network.trace import traced


class Leaky(bp.DynamicalSystem):
    """`gain * h W + u`: the fixed point of `W = w I` is `u / (1 - gain w)`."""

    def __init__(self, w=0.5, **attributes):
        super().__init__()
        self.w = bm.Variable(w * jnp.eye(2))
        self.gain = 1.0
        for name, value in attributes.items():
            setattr(self, name, value)

    def advance(self, x, h):
        return self.gain * h @ self.w.value + x

    def __call__(self, inputs, hidden):
        h_next = self.advance(inputs[:, 0, :], hidden)
        return h_next[:, None, :], h_next


STATES = np.random.default_rng(0).normal(size=(2, 4, 2)).astype(np.float32)
ONES = np.ones((1, 2), np.float32)


def search(model, solver="levenberg_marquardt", **settings):
    finder = FixedPointFinder(model, solver=solver, verbose=False, **settings)
    return finder.find_fixed_points(STATES, ONES, n_inits=8)


def found(model, **settings):
    """Return the first element of the one fixed point of a linear model."""
    fps, _ = search(model, **settings)
    assert fps.n == 1
    return float(fps.xstar[0, 0])


@jax.jit
def step(F, h, u):
    return F(h, u)


def step_of(model, h=1.0):
    """Return what a compiled function makes of the model: `h` times its one weight, elementwise."""
    out = step(as_transition(model), jnp.full(2, h), jnp.zeros(2))
    assert out[0] == out[1]
    return float(out[0])


def contents(obj, seen=None):
    """Return all that hangs on a model: the objects' identities and the arrays' bytes."""
    seen = {} if seen is None else seen
    if id(obj) in seen:
        return seen
    if isinstance(obj, (jax.Array, np.ndarray)):
        assert not isinstance(obj, Tracer)
        seen[id(obj)] = (type(obj), obj.dtype, np.asarray(obj).tobytes())
        return seen
    seen[id(obj)] = (type(obj), repr(obj) if isinstance(obj, (str, int, float)) else None)
    if isinstance(obj, bm.Variable):
        contents(obj.value, seen)
    elif isinstance(obj, dict):
        seen[id(obj)] = (dict, tuple(obj), tuple(id(value) for value in obj.values()))
        for value in obj.values():
            contents(value, seen)
    elif isinstance(obj, (list, tuple)):
        seen[id(obj)] = (type(obj), tuple(id(value) for value in obj))
        for value in obj:
            contents(value, seen)
    elif isinstance(obj, bp.DynamicalSystem):
        contents(obj.__dict__, seen)
    return seen


def random_key():
    return np.asarray(jax.random.key_data(bm.random.DEFAULT.value))


# ---- what is computed --------------------------------------------------------------------------


@pytest.mark.slow_cases
@pytest.mark.parametrize("cell", CELLS)
def test_the_transition_is_the_model(cell):
    """Against the same trained network written in JAX."""
    F, expected = as_transition(FlipFlop(cell)), trained(cell)
    states = case(cell)["traj"][3, ::9]
    u = jnp.array([0.5, -1.0, 0.0])
    np.testing.assert_allclose(
        jax.vmap(F, (0, None))(states, u), jax.vmap(expected, (0, None))(states, u), atol=1e-6
    )


def test_the_leaves_are_the_variables():
    leaves = jax.tree.leaves(as_transition(FlipFlop("tanh")))
    assert sorted(leaf.shape for leaf in leaves) == [(1, 3, 16), (1, 16), (1, 16, 16)]


def test_gradients_reach_the_variables():
    """`F = h W + u`, so `d sum(F) / dW` is `h` in every column."""
    h = jnp.array([2.0, 3.0])
    gradient = jax.grad(lambda F: F(h, jnp.zeros(2)).sum())(as_transition(Leaky()))
    np.testing.assert_allclose(jax.tree.leaves(gradient)[0], [[2, 2], [3, 3]])


class WithArrays(Leaky):
    """Weights as plain JAX, BrainPy and NumPy arrays, in attributes, lists and dictionaries."""

    def __init__(self, jax_weight=0.5, numpy_weight=0.0):
        super().__init__(w=0.0)
        self.plain = jax_weight / 4 * jnp.eye(2)
        self.brainpy = bm.asarray(jax_weight / 4 * np.eye(2, dtype=np.float32))
        self.nested = {"layers": [jax_weight / 4 * jnp.eye(2), {"w": jax_weight / 4 * jnp.eye(2)}]}
        self.numpy = numpy_weight * np.eye(2, dtype=np.float32)

    def advance(self, x, h):
        inner = self.nested["layers"]
        total = self.plain + bm.as_jax(self.brainpy) + inner[0] + inner[1]["w"] + self.numpy
        return h @ total + x


@pytest.mark.slow
def test_arrays_held_as_attributes_are_used():
    assert found(WithArrays(0.5)) == pytest.approx(2.0, rel=1e-5)
    assert step_of(WithArrays(0.75)) == 0.75
    assert step_of(WithArrays(0.5, 0.125)) == 0.625


def test_jax_arrays_held_as_attributes_are_leaves():
    leaves = jax.tree.leaves(as_transition(WithArrays()))
    assert len(leaves) == 5  # these and the Variable; NumPy's is a constant


@pytest.mark.slow
def test_models_made_of_brainpys_own_layers():
    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.recurrent = bp.dnn.Dense(2, 2, mode=bm.training_mode)
            self.input = bp.dnn.Dense(2, 2, b_initializer=None, mode=bm.training_mode)

        def __call__(self, inputs, hidden):
            h_next = bm.tanh(self.recurrent(hidden) + self.input(inputs[:, 0, :]))
            return h_next, h_next

    net = Net()
    fps, _ = search(net)
    weights = (net.recurrent.W.value, net.recurrent.b.value, net.input.W.value)
    W, b, V = (np.asarray(weight) for weight in weights)
    assert fps.n >= 1
    np.testing.assert_allclose(fps.xstar, np.tanh(fps.xstar @ W + b + ONES @ V), atol=1e-5)


@pytest.mark.slow
def test_float64_works_though_variables_are_float32():
    model = Leaky()
    fps, _ = search(model, dtype="float64", tol_q=0.0)
    assert fps.xstar.dtype == fps.J_xstar.dtype == np.float64
    assert np.abs(fps.xstar - 2.0).max() < 1e-8  # out of the reach of float32
    assert model.w.value.dtype == np.float32


# ---- changes between searches ------------------------------------------------------------------


def test_retraining_is_seen():
    model = Leaky(0.5)
    finder = FixedPointFinder(model, solver="levenberg_marquardt", verbose=False)
    points = []
    for w in (0.5, 0.75, 0.5):
        model.w.value = w * jnp.eye(2)
        points.append(float(finder.find_fixed_points(STATES, ONES, 8)[0].xstar[0, 0]))
    assert points == pytest.approx([2.0, 4.0, 2.0], rel=1e-5)


def test_changes_of_other_attributes_are_seen():
    model = WithArrays(0.5)
    assert step_of(model) == 0.5
    model.plain = 0.5 * jnp.eye(2)
    assert step_of(model) == 0.875
    model.nested["layers"][1]["w"] = jnp.zeros((2, 2))
    assert step_of(model) == 0.75
    model.numpy[...] = np.eye(2)
    assert step_of(model) == 1.75
    leaky = Leaky(0.5)
    assert step_of(leaky) == 0.5
    leaky.gain = 3.0
    assert step_of(leaky) == 1.5


def test_a_transition_keeps_the_values_of_its_making():
    model = Leaky(0.5)
    F = as_transition(model)
    model.w.value = jnp.zeros((2, 2))
    np.testing.assert_allclose(step(F, jnp.ones(2), jnp.zeros(2)), 0.5)


def test_a_second_model_of_the_same_structure_does_not_recompile():
    assert found(Leaky(0.5, tag="same")) == pytest.approx(2.0, rel=1e-5)
    with compilations() as compiled:
        assert found(Leaky(0.75, tag="same")) == pytest.approx(4.0, rel=1e-5)
    assert compiled == []
    with compilations() as compiled:  # what makes no difference to the step makes none here
        assert found(Leaky(0.5, tag="another")) == pytest.approx(2.0, rel=1e-5)
    assert compiled == []


class Activated(Leaky):
    def advance(self, x, h):
        activation = jnp.tanh if self.act == "tanh" else self.act
        return activation(h @ self.w.value + x)


def scaled(factor):
    return lambda z: factor * z


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("tanh", jax.nn.relu),
        (jnp.tanh, jax.nn.relu),
        (lambda z: 0.1 * z, lambda z: 0.2 * z),
        (scaled(0.1), scaled(0.2)),
        (scaled(jnp.float32(0.1)), scaled(jnp.float32(0.2))),
        (scaled(np.float32(0.1)), scaled(np.float32(0.2))),
    ],
    ids=["name", "function", "lambda", "closure", "closure over JAX", "closure over NumPy"],
)
def test_models_of_different_structure_are_not_confused(first, second):
    h, u = jnp.array([0.5, -0.3]), jnp.array([0.2, 1.0])
    for act in (first, second, first):
        fn = jnp.tanh if act == "tanh" else act
        expected = fn(0.5 * h + u)
        np.testing.assert_allclose(step(as_transition(Activated(act=act)), h, u), expected)


def test_equal_closures_do_not_recompile():
    models = [Activated(act=scaled(factor)) for factor in (0.3, 0.3, 0.4)]
    first, second, other = (
        traced("test", as_transition(model), 2, 2, np.float32).program for model in models
    )
    assert first == second != other


# ---- the model afterwards ----------------------------------------------------------------------


class Untidy(Leaky):
    """Writes to everything it can during a call."""

    def __init__(self, fails=False):
        super().__init__()
        self.fails = fails
        self.last = bm.Variable(jnp.zeros((1, 2)))
        self.history = [jnp.zeros(2)]
        self.table = {"steps": 0}
        self.inner, self.spare = Leaky(), "not needed"

    def advance(self, x, h):
        h = super().advance(x, h)
        self.last.value = h
        self.inner.w.value = self.inner.w.value * h.sum()
        self.inner.extra = h
        self.history.append(h)
        self.history[0] = h[0]
        self.table["steps"] += 1
        self.table["state"] = h
        self.new_variable = bm.Variable(h)
        self.w = bm.Variable(self.w.value)
        vars(self).pop("spare", None)
        if self.fails and len(self.history) > 1:
            raise RuntimeError("in the middle of a call")
        return h


@pytest.mark.slow
@pytest.mark.parametrize(("solver", "dtype"), [(None, "float32"), ("adam", "float64")])
def test_a_search_leaves_the_model_as_it_was(solver, dtype):
    model = Untidy()
    before, key = contents(model), random_key()
    fps, _ = search(model, solver=solver, dtype=dtype)
    assert fps.n >= 1
    assert contents(model) == before
    np.testing.assert_array_equal(random_key(), key)


def test_a_model_that_raises_is_left_as_it_was():
    model = Untidy(fails=True)
    before, key = contents(model), random_key()
    with pytest.raises(ValueError, match="RuntimeError: in the middle"):
        search(model)
    assert contents(model) == before
    np.testing.assert_array_equal(random_key(), key)


def tracers():
    gc.collect()
    # By the type alone: `isinstance` asks the object, and deprecated ones of PyTorch answer.
    return {id(obj) for obj in gc.get_objects() if issubclass(type(obj), Tracer)}


@pytest.mark.slow
def test_no_tracer_outlives_a_search():
    before = tracers()
    search(Untidy(), solver="adam")
    assert tracers() <= before


@pytest.mark.slow
def test_transformations_leave_the_model_as_it_was():
    model = Untidy()
    F, before = as_transition(model), contents(model)
    jax.vmap(jax.jacfwd(F), (0, None))(jnp.ones((3, 2)), jnp.ones(2))
    optimize_batch(F, jnp.ones((3, 2)), jnp.ones(2), solver=Adam())
    assert contents(model) == before


def test_a_call_of_the_model_afterwards_uses_its_own_values():
    model = Leaky(0.5)
    search(model)
    _, h_next = model(jnp.ones((3, 1, 2)), jnp.ones((3, 2)))
    np.testing.assert_allclose(h_next, 1.5)


# ---- models that do not fit --------------------------------------------------------------------


class Returns(Leaky):
    def __call__(self, inputs, hidden):
        return self.result(hidden)


@pytest.mark.parametrize(
    ("result", "words"),
    [
        (lambda h: h, ["Returns", "pair (outputs, h_next)"]),
        (lambda h: (h, h, h), ["3 values", "pair (outputs, h_next)"]),
        (lambda h: (h, h[0]), ["h_next has shape (2,)", "expected (1, 2)"]),
        (lambda h: (h, h[:, :1]), ["h_next has shape (1, 1)", "hidden of shape (1, 2)"]),
    ],
)
def test_a_model_with_another_signature_is_refused(result, words):
    model = Returns(result=result)
    before = contents(model)
    with pytest.raises(ValueError) as caught:
        search(model)
    assert [word for word in words if word not in str(caught.value)] == []
    assert contents(model) == before


class Writer(Leaky):
    """Writes an array that it made itself, of the default precision, to a Variable."""

    def __init__(self):
        super().__init__()
        self.seen = bm.Variable(jnp.zeros(2))

    def advance(self, x, h):
        self.seen.value = jnp.ones(2) * h.sum()
        return super().advance(x, h)


@pytest.mark.slow
def test_float64_works_where_a_model_writes_arrays_of_its_own():
    fps, _ = search(Writer(), solver=None, dtype="float64")
    np.testing.assert_allclose(fps.xstar, [[2, 2]], atol=1e-6)


class Sharing(Leaky):
    def advance(self, x, h):
        bp.share.save(last_state=h)
        return super().advance(x, h)


@pytest.mark.slow
def test_nothing_is_left_in_brainpys_shared_context():
    search(Sharing(), solver="adam")
    assert bp.share.load("last_state", "nothing") == "nothing"


class ClassGain(Leaky):
    gain_of_all = 1.0

    def advance(self, x, h):
        return self.gain_of_all * super().advance(x, h)


def test_changes_of_class_attributes_are_seen(monkeypatch):
    model = ClassGain()
    assert step_of(model) == 0.5
    monkeypatch.setattr(ClassGain, "gain_of_all", 2.0)
    assert step_of(model) == 1.0


class Settings:
    __slots__ = ("gain",)


class Slotted(Leaky):
    def advance(self, x, h):
        return self.settings.gain * super().advance(x, h)


def test_changes_of_attributes_in_slots_are_seen():
    settings = Settings()
    settings.gain = 1.0
    model = Slotted(settings=settings)
    assert step_of(model) == 0.5
    settings.gain = 2.0
    assert step_of(model) == 1.0
