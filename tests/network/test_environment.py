"""What models read from the environments of BrainPy and BrainState, which belong to one thread."""

import copy
import pickle

import brainpy as bp
import brainpy.math as bm
import brainstate
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from brainpy.math.defaults import env as brainpy_environment
from model_checks import fast_compilation as fast_compilation
from networks import compilations

from slowpoints import Transition, as_transition, jacobians, optimize_batch
from slowpoints._linear_algebra import cores

N = 3
STARTS = np.random.default_rng(0).normal(size=(256, N)).astype(np.float32)
NO_INPUT = np.zeros(N, np.float32)


class Rate(bp.DynamicalSystem):
    """A network whose `update` calls a function of BrainPy, and reads its time step."""

    def __init__(self, function=bm.tanh, dt=bm.get_dt):
        super().__init__()
        self.function, self.dt = function, dt
        self.x = bm.Variable(bm.zeros(N))

    def update(self, u):
        self.x.value = self.x + self.dt() * (-self.x + 0.5 * self.function(self.x + u))


class RateOfBrainState(brainstate.nn.Module):
    def init_state(self, batch_size=None, **kwargs):
        shape = (N,) if batch_size is None else (batch_size, N)
        self.x = brainstate.HiddenState(jnp.zeros(shape))

    def update(self, u):
        x = self.x.value
        self.x.value = x + brainstate.environ.get_dt() * (-x + 0.5 * jnp.tanh(x + u))


class RateOfTransition(Transition):
    dt: float

    def __call__(self, x, u):
        return x + self.dt * (-x + 0.5 * bm.as_jax(bm.tanh(x + u)))


def rate_function(x, u):
    return x + bm.get_dt() * (-x + 0.5 * bm.as_jax(bm.tanh(x + u)))


def called_with_its_state(function=bm.tanh):
    class Called(bp.DynamicalSystem):
        def update(self, u, x):
            x = x + bm.get_dt() * (-x + 0.5 * function(x + u[:, 0]))
            return x[:, None], x

    return Called()


MODELS = {
    "tanh": Rate,
    "where": lambda: Rate(lambda a: bm.where(a > 0, a, 0.0)),
    "share": lambda: Rate(dt=lambda: bp.share["dt"]),
    "LSTMCell": lambda: bp.dyn.LSTMCell(N, N),
    "called with its state": called_with_its_state,
    "function": lambda: rate_function,
    "BrainState": RateOfBrainState,
    "transition": lambda: RateOfTransition(0.1),
}


@pytest.fixture(autouse=True)
def a_time_step():
    """Set the time step of both frameworks; afterwards, their environments are as they were."""
    environments = brainpy_environment, brainstate.environ._ENV_STATE
    held = [dict(env.settings) for env in environments]
    bm.set_dt(0.1)
    brainstate.environ.set(dt=0.1)
    yield
    for env, values in zip(environments, held, strict=True):
        env.settings.clear()
        env.settings.update(values)


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("tanh", "BrainState") else pytest.mark.slow)
        for name in MODELS
    ],
)
def test_searches_in_other_threads_find_what_one_thread_finds(name, monkeypatch):
    F = as_transition(MODELS[name]())
    x = np.random.default_rng(0).normal(size=(256, F.n_states or N)).astype(np.float32)
    found = []
    for n_cores in (1, 2):
        monkeypatch.setattr(cores.os, "sched_getaffinity", lambda _, n=n_cores: range(n))
        monkeypatch.setattr(cores.os, "cpu_count", lambda n=n_cores: n)
        jax.clear_caches()  # so that threads trace the model themselves
        found.append(np.asarray(optimize_batch(F, x, NO_INPUT).xstar))
    np.testing.assert_array_equal(*found)


def after(set_dt, make):
    def made(dt):
        set_dt(dt)
        return as_transition(make())

    return made


OF_BRAINSTATE = lambda dt: brainstate.environ.set(dt=dt)  # noqa: E731
GLOBAL_DT = 0.1


class RateOfAName(bp.DynamicalSystem):
    def __init__(self):
        super().__init__()
        self.x = bm.Variable(bm.zeros(N))

    def update(self, u):
        self.x.value = self.x + GLOBAL_DT * (-self.x + 0.5 * bm.tanh(self.x + u))


def function_of_a_name(x, u):
    return x + GLOBAL_DT * (-x + 0.5 * jnp.tanh(x + u))


def named(dt):
    globals()["GLOBAL_DT"] = dt


MADE = {
    "BrainPy": after(bm.set_dt, Rate),
    "BrainPy, share": after(bm.set_dt, MODELS["share"]),
    "BrainPy, called with its state": after(bm.set_dt, called_with_its_state),
    "function": after(bm.set_dt, MODELS["function"]),
    "BrainState": after(OF_BRAINSTATE, RateOfBrainState),
    "BrainPy, a name": after(named, RateOfAName),
    "function, a name": after(named, lambda: function_of_a_name),
    "closure, a name": after(named, lambda: lambda x, u, F=function_of_a_name: F(x, u)),
}


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", MADE)
def test_a_time_step_that_has_changed_is_seen(name):
    for dt in (0.1, 0.02):
        F = MADE[name](dt)
        fps = jacobians(F, optimize_batch(F, STARTS[:4], NO_INPUT))
        np.testing.assert_allclose(fps.J_xstar[0], (1 - dt / 2) * np.eye(N), atol=1e-5)


def test_a_transition_can_be_copied_and_pickled():
    F, x = as_transition(rate_function), jnp.asarray(STARTS[0])
    for again in (copy.deepcopy(F), pickle.loads(pickle.dumps(F))):
        np.testing.assert_array_equal(again(x, x), F(x, x))


@pytest.mark.slow
def test_settings_that_come_back_are_no_reason_to_compile_again():
    def search(dt):
        bm.set_dt(dt)
        return optimize_batch(Rate(), STARTS[:4], NO_INPUT)

    search(0.1), search(0.2)
    with compilations() as compiled:
        search(0.1)
    assert compiled == []
