"""Models that hold NumPy's arrays of double precision: every precision, in any order.

NumPy's default precision is double, so that `np.linspace` and `np.random` make such arrays.
"""

import contextlib
import copy
import pickle
import threading
from functools import partial, wraps

import brainpy as bp
import brainpy.math as bm
import brainstate
import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import slowpoints
from slowpoints import FixedPointFinder, as_transition
from slowpoints._transition import wide_arrays
from slowpoints._transition.wide_arrays import WideArrays

N = 4
ANGLES = np.linspace(-3, 3, N)
TABLE = {"angles": (np.linspace(-3, 3, N),)}


def step(x, u, angles):
    return jnp.tanh(0.5 * x + u[0] * jnp.cos(angles) + 0.1 * angles)


def helper(x, u):
    return jnp.tanh(0.5 * x + u[0] * jnp.cos(ANGLES) + 0.1 * ANGLES)


@jax.jit
def compiled_helper(x, u):
    return helper(x, u)


class WithState(bp.DynamicalSystem):
    """Called with its state, as most models of canns are."""

    of_class = np.linspace(-3, 3, N)

    def __init__(self, where):
        super().__init__()
        self.where = where
        self.angles = np.linspace(-3, 3, N)
        self.parts = [np.linspace(-3, 3, N), {"inner": (np.linspace(-3, 3, N), 1)}]

    def update(self, inputs, hidden):
        found = {
            "attribute": lambda: self.angles,
            "list": lambda: self.parts[0],
            "tuple": lambda: self.parts[1]["inner"][0],
            "class": lambda: self.of_class,
            "module": lambda: ANGLES,
            "table": lambda: TABLE["angles"][0],
        }
        hidden = step(hidden[0], inputs[0, 0], found[self.where]())[None]
        return hidden, hidden


class WithHelper(bp.DynamicalSystem):
    def update(self, inputs, hidden):
        hidden = compiled_helper(hidden[0], inputs[0, 0])[None]
        return hidden, hidden


class InVariables(bp.DynamicalSystem):
    def __init__(self):
        super().__init__()
        self.angles, self.r = np.linspace(-3, 3, N), bm.Variable(bm.zeros(N))

    def update(self, u):
        self.r.value = step(self.r.value, u, self.angles)


class OfBrainState(brainstate.nn.Module):
    def __init__(self):
        super().__init__()
        self.angles = np.linspace(-3, 3, N)

    def init_state(self, *args, **keywords):
        self.h = brainstate.HiddenState(jnp.zeros(N))

    def update(self, u):
        self.h.value = step(self.h.value, u, self.angles)


class OfEquinox(eqx.Module):
    def __call__(self, x, u):
        return step(x, u, ANGLES)


class OwnTransition(slowpoints.Transition):
    def __call__(self, x, u):
        return step(x, u, ANGLES)


class Plain:
    def __init__(self):
        self.angles = np.linspace(-3, 3, N)

    def __call__(self, x, u):
        return step(x, u, self.angles)

    def method(self, x, u):
        return self(x, u)


def decorated(method):
    @wraps(method)
    def call(*args):
        return method(*args)

    return call


class Decorated(Plain):
    @decorated
    def method(self, x, u):
        return self(x, u)

    @staticmethod
    @jax.jit
    def compiled(x, u):
        return step(x, u, ANGLES)


def of_no_module():
    """As code that a notebook's extension or a documentation runs."""
    scope = {"jnp": jnp, "angles": np.linspace(-3, 3, N), "step": step}
    exec("def F(x, u): return step(x, u, angles)", scope)
    return scope["F"]


def closure():
    plain = Plain()
    return lambda x, u: plain(x, u)


def with_default():
    return lambda x, u, plain=Plain(): plain(x, u)  # noqa: B008


MAKERS = {
    **{place: partial(WithState, place) for place in ("attribute", "list", "tuple", "class")},
    **{f"a {place}": partial(WithState, place) for place in ("module", "table")},
    "helper": WithHelper,
    "variables": InVariables,
    "BrainState": OfBrainState,
    "Equinox": OfEquinox,
    "transition": OwnTransition,
    "callable": Plain,
    "method": lambda: Plain().method,
    "decorated method": lambda: Decorated().method,
    "compiled": lambda: Decorated().compiled,
    "closure": closure,
    "no module": of_no_module,
    "default": with_default,
    "partial": lambda: partial(step, angles=np.linspace(-3, 3, N)),
}


@pytest.fixture(autouse=True)
def _new_arrays(monkeypatch):
    """What an earlier test has traced must not matter."""
    monkeypatch.setitem(globals(), "ANGLES", np.linspace(-3, 3, N))
    monkeypatch.setitem(TABLE, "angles", (np.linspace(-3, 3, N),))


def traced(F, wide, alive):
    """Trace, compile and call. JAX fails if what it has traced before is still `alive`."""
    with jax.enable_x64(wide):
        x = jnp.full(N, 0.3, float)
        alive.append(jax.jit(lambda x: F(x, jnp.ones(1, float))).trace(x))
        return np.asarray(alive[-1].lower().compile()(x))


@pytest.mark.parametrize("order", [(True, False, True), (False, True, False)], ids=str)
@pytest.mark.parametrize("name", MAKERS)
def test_a_model_is_traced_in_both_precisions_in_any_order(name, order):
    F = as_transition(MAKERS[name]())
    angles = np.linspace(-3, 3, N)
    expected = np.tanh(0.15 + np.cos(angles) + 0.1 * angles)
    alive = []
    for wide in order:
        found = traced(F, wide, alive)
        assert found.dtype == (np.float64 if wide else np.float32)
        np.testing.assert_allclose(found, expected, rtol=1e-14 if wide else 1e-6)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda F: pickle.loads(pickle.dumps(F))])
def test_a_copy_of_a_transition_knows_its_own_arrays(copied):
    F = copied(as_transition(Plain()))
    alive = []
    for wide in (True, False, True):
        traced(F, wide, alive)
    own = F.model.fn.angles
    with F.wide_arrays.renewed():
        assert F.model.fn.angles is not own


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")], ids=str)
def test_a_model_is_searched_by_default_and_then_in_another_precision(dtypes):
    """The first search of such a model once failed with an error of `lax.mul`."""
    net, states = WithState("attribute"), np.zeros((1, 3, N))
    for dtype in dtypes:
        finder = FixedPointFinder(net, dtype=dtype, verbose=False)
        fps, _ = finder.find_fixed_points(states, np.ones((1, 1)), n_inits=4)
        x = np.asarray(fps.xstar, float)
        expected = np.tanh(0.5 * x + np.cos(net.angles) + 0.1 * net.angles)
        np.testing.assert_allclose(x, expected, atol=1e-14 if dtype == "float64" else 1e-6)


def test_every_array_is_back_in_its_place_also_after_an_error():
    net = WithState("module")
    own = net.angles, net.parts[0], net.parts[1]["inner"], WithState.of_class, ANGLES
    for error in (None, KeyError):
        expected = pytest.raises(error) if error else contextlib.nullcontext()
        with expected, WideArrays(net).renewed():
            assert net.angles is not own[0] and own[4] is not ANGLES
            np.testing.assert_array_equal(net.parts[1]["inner"][0], own[2][0])
            if error:
                raise error
        now = net.angles, net.parts[0], net.parts[1]["inner"], WithState.of_class, ANGLES
        assert all(a is b for a, b in zip(now, own, strict=True))


class Elsewhere:
    """Stands for an object of another installed package, such as a figure."""

    def __init__(self):
        self.angles = np.linspace(-3, 3, N)


Elsewhere.__module__ = "elsewhere.part"


@pytest.mark.parametrize("make", [partial(WithState, "attribute"), Plain, lambda: Plain().method])
def test_installed_models_are_walked_and_other_installed_packages_are_not(make, monkeypatch):
    monkeypatch.setattr(wide_arrays, "_is_installed", lambda root: True)
    model = make()
    net = getattr(model, "__self__", model)
    net.elsewhere = Elsewhere()
    own = net.angles, net.elsewhere.angles, ANGLES
    with as_transition(model).wide_arrays.renewed():
        assert net.angles is not own[0]
        if isinstance(net, WithState):  # which reads this array
            assert ANGLES is not own[2]
        else:  # of BrainPy's models everything is walked, to compare them
            assert net.elsewhere.angles is own[1]


UNUSED = {"data": np.zeros(3)}


def with_an_array(a):
    return lambda x, u: step(x, u, a)


@pytest.mark.parametrize("make", [lambda: helper, lambda: with_an_array(np.zeros(N))])
def test_names_that_a_function_does_not_use_are_left_alone(make):
    """In a notebook, they may be data of any size."""
    data = UNUSED["data"]
    with as_transition(make()).wide_arrays.renewed():
        assert UNUSED["data"] is data


def test_large_arrays_are_not_copied():
    net = Plain()
    own = net.angles
    with WideArrays(net).renewed():
        assert net.angles is not own and np.shares_memory(net.angles, own)


def test_threads_may_call_a_model_at_the_same_time():
    net, own = Plain(), []
    own.append(net.angles)
    inside, leave = threading.Barrier(2), threading.Barrier(2)

    def call(first):
        with WideArrays(net).renewed():
            inside.wait(10)
            if first:
                leave.wait(10)
        if not first:  # one has left, while the other is still inside
            assert net.angles is not own[0]
            leave.wait(10)

    threads = [threading.Thread(target=call, args=(first,)) for first in (True, False)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert net.angles is own[0]


def test_an_array_that_somebody_has_replaced_meanwhile_stays():
    net, new = Plain(), np.zeros(N)
    with WideArrays(net).renewed():
        net.angles = new
    assert net.angles is new


def test_arrays_that_jax_does_not_narrow_are_left_in_place():
    net = Plain()
    net.angles = net.angles.astype(np.float32)
    own = net.angles
    with WideArrays(net).renewed():
        assert net.angles is own


class Answering:
    """Answers to every name, as a stand-in for a remote object does."""

    def __init__(self):
        vars(self)["angles"] = np.linspace(-3, 3, N)

    def __getattr__(self, name):
        return self


def test_objects_that_answer_to_every_name_and_long_chains_are_walked():
    first = last = Answering()
    for _ in range(3000):
        vars(last)["next"] = Answering()
        last = vars(last)["next"]
    own = vars(last)["angles"]
    with WideArrays(first).renewed():
        assert vars(last)["angles"] is not own
    assert vars(last)["angles"] is own
