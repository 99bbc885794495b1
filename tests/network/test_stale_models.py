"""A model that has changed is searched as it is now, and nothing is compiled a second time."""

import functools
import os

import brainpy as bp
import brainpy.math as bm
import brainstate
import equinox as eqx
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from networks import compilations

import slowpoints
from slowpoints import (
    FixedPointFinder,
    along,
    certify,
    connections,
    continuation,
    find_fixed_points,
    plot_flow_field,
)

STARTS = np.random.default_rng(0).normal(size=(32, 2)).astype(np.float32)
NO_INPUT = np.zeros(1, np.float32)
OLD, NEW = 0.25, -0.5
"""The second coordinate of the three fixed points, before and after the change."""


def step(x, u, place):
    """Two attractors and a saddle at `x[0] = +-0.9575` and 0, all with `x[1] = place + 2 u`."""
    return jnp.stack([jnp.tanh(2 * x[0]), 0.5 * x[1] + u[0]]) + 0.5 * place


def vector(place):
    return jnp.asarray([0, place], jnp.float32)


class Plain:
    def __init__(self, place):
        self.place = place

    def __call__(self, x, u):
        return step(x, u, self.place)

    def method(self, x, u):
        return step(x, u, self.place)


def attribute():
    net = Plain(vector(OLD))
    return net, lambda: setattr(net, "place", vector(NEW))


def bound_method():
    net = Plain(vector(OLD))
    return net.method, lambda: setattr(net, "place", vector(NEW))


def scalar_of_jax():
    class Net(Plain):
        def __call__(self, x, u):
            return step(x, u, jnp.asarray([0, 1]) * self.place)

    net = Net(jnp.float32(OLD))
    return net, lambda: setattr(net, "place", jnp.float32(NEW))


def numpy_in_place():
    place = np.array([0, OLD])
    return Plain(place), lambda: place.__setitem__(1, NEW)


def nonlocal_name():
    place = vector(OLD)

    def change():
        nonlocal place
        place = vector(NEW)

    return lambda x, u: step(x, u, place), change


PLACE = vector(OLD)


def global_name():
    globals()["PLACE"] = vector(OLD)
    return lambda x, u: step(x, u, PLACE), lambda: globals().update(PLACE=vector(NEW))


def default_argument():
    def F(x, u, place=vector(OLD)):  # noqa: B008
        return step(x, u, place)

    return F, lambda: setattr(F, "__defaults__", (vector(NEW),))


def partial():
    place = np.array([0, OLD], np.float32)
    F = functools.partial(lambda x, u, place: step(x, u, place), place=place)
    return F, lambda: place.__setitem__(1, NEW)


def dictionary():
    weights = {"place": vector(OLD)}
    return lambda x, u: step(x, u, weights["place"]), lambda: weights.update(place=vector(NEW))


def compiled_function():
    net = Plain(vector(OLD))
    return jax.jit(lambda x, u: net(x, u)), lambda: setattr(net, "place", vector(NEW))


def loop_over_a_method():
    class Net(Plain):
        def half(self, x, _):
            return 0.5 * x + 0.5 * self.place, None

        def __call__(self, x, u):
            y, _ = jax.lax.scan(self.half, x, None, length=1)
            return jnp.stack([jnp.tanh(2 * x[0]), y[1] + u[0]])

    net = Net(vector(OLD))
    return net, lambda: setattr(net, "place", vector(NEW))


def brainpy_variable():
    class Net(bp.DynamicalSystem):
        def __init__(self):
            super().__init__()
            self.place = bm.TrainVar(bm.asarray(vector(OLD)))

        def update(self, u, x):
            x = jax.vmap(step, (0, 0, None))(x, u[:, 0], self.place.value)
            return x[:, None], x

    net = Net()
    return net, lambda: setattr(net.place, "value", vector(NEW))


def brainstate_parameter():
    class Net(brainstate.nn.Module):
        def __init__(self):
            super().__init__()
            self.place = brainstate.ParamState(vector(OLD))

        def init_state(self, batch_size=None, **kwargs):
            self.x = brainstate.HiddenState(jnp.zeros(2))

        def update(self, u):
            self.x.value = step(self.x.value, u, self.place.value)

    net = Net()
    return net, lambda: setattr(net.place, "value", vector(NEW))


def flax_parameter():
    nnx = pytest.importorskip("flax.nnx")

    class Cell(nnx.RNNCellBase):
        num_feature_axes = 1
        in_features = 1

        def __init__(self):
            self.place = nnx.Param(vector(OLD))

        def initialize_carry(self, input_shape, rngs=None):
            return jnp.zeros(2)

        def __call__(self, x, u):
            x = step(x, u, self.place[...])
            return x, x

    cell = Cell()
    return cell, lambda: setattr(cell, "place", nnx.Param(vector(NEW)))


def keras_variable():
    pytest.importorskip("keras")
    os.environ["KERAS_BACKEND"] = "jax"
    import keras

    class Cell(keras.Layer):
        state_size = 2

        def build(self, shape):
            self.place = self.add_weight(shape=(2,), name="place")

        def call(self, inputs, states):
            x = jax.vmap(step, (0, 0, None))(states[0], inputs, self.place.value)
            return x, [x]

    cell = Cell()
    cell.build((None, 1))
    cell.place.assign(vector(OLD))
    return cell, lambda: cell.place.assign(vector(NEW))


def torch_parameter():
    torch = pytest.importorskip("torch")

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.place = torch.nn.Parameter(torch.tensor([0.0, OLD]))

        def forward(self, u, x):
            drive = torch.cat([torch.tanh(2 * x[..., :1]), 0.5 * x[..., 1:] + u[:, 0]], dim=-1)
            x = drive + 0.5 * self.place
            return x[:, None], x

    net = Net()

    def change():
        net.place[1].backward()
        torch.optim.SGD(net.parameters(), lr=OLD - NEW).step()

    return net, change


def equinox_module():
    class Net(eqx.Module):
        held: list

        def __call__(self, x, u):
            return step(x, u, self.held[0])

    net = Net([vector(OLD)])
    return net, lambda: net.held.__setitem__(0, vector(NEW))


MODELS = {
    make.__name__: make
    for make in (
        attribute,
        bound_method,
        scalar_of_jax,
        numpy_in_place,
        nonlocal_name,
        global_name,
        default_argument,
        partial,
        dictionary,
        compiled_function,
        loop_over_a_method,
        brainpy_variable,
        brainstate_parameter,
        flax_parameter,
        keras_variable,
        torch_parameter,
        equinox_module,
    )
}


def points_at(place):
    a = 0.9575040
    xstar = np.array([[-a, place], [0, place], [a, place]], np.float32)
    inputs = np.zeros((3, 1), np.float32)
    return slowpoints.FixedPoints(xstar=xstar, inputs=inputs, qstar=np.zeros(3, np.float32))


def sorted_states(fps):
    x = np.asarray(fps.xstar)
    return x[np.argsort(x[:, 0])]


def searched(F, finder, place):
    return sorted_states(find_fixed_points(F, STARTS, NO_INPUT)[0])


def found_by_the_class(F, finder, place):
    trajectories = STARTS.reshape(1, 32, 2)
    return sorted_states(finder.find_fixed_points(trajectories, NO_INPUT[None], n_inits=32)[0])


def certified(F, finder, place):
    return np.asarray([certify(F, points_at(p)).is_certified for p in (OLD, NEW)])


def continued(F, finder, place):
    branches = continuation(along(F, np.array([[0.0], [0.1]])), points_at(place), span=(0, 1))
    return sorted_states(branches.at(0.5))


def connected(F, finder, place):
    # At the old place the points of the new network are none, and nothing leads to them.
    found = connections(F, points_at(place))
    return np.asarray([found.edges.saddle, found.edges.side, found.edges.attractor])


def drawn(F, finder, place):
    figure = plot_flow_field(F, points_at(0.0), NO_INPUT, n_arrows=3, n_speed=9)
    axes = figure.axes[0]
    values = [image.get_array() for image in axes.images]
    values += [a for c in axes.collections if hasattr(c, "U") for a in (c.U, c.V)]
    plt.close(figure)
    return np.concatenate([np.ravel(value) for value in values])


ANALYSES = {
    each.__name__: each
    for each in (searched, found_by_the_class, certified, continued, connected, drawn)
}


def cases():
    for model in MODELS:
        for analysis in ANALYSES:
            is_quick = model == "attribute" or (model, analysis) == ("numpy_in_place", "searched")
            marks = () if is_quick else pytest.mark.slow
            yield pytest.param(analysis, model, marks=marks, id=f"{analysis}-{model}")


@pytest.mark.one_in(12)
@pytest.mark.slow
@pytest.mark.parametrize(("analysis", "model"), list(cases()))
def test_the_answer_is_that_of_the_model_as_it_is_now(analysis, model):
    F, change = MODELS[model]()
    finder = FixedPointFinder(F, verbose=False)
    run = ANALYSES[analysis]
    before = run(F, finder, OLD)
    change()
    with compilations() as compiled:
        after = run(F, finder, NEW)
    assert compiled == []

    again, change = MODELS[model]()
    change()
    expected = run(again, FixedPointFinder(again, verbose=False), NEW)
    np.testing.assert_allclose(after, expected, atol=2e-5)
    if run in (searched, found_by_the_class):
        np.testing.assert_allclose(after[:, 1], NEW, atol=1e-5)
    if analysis != "connected":
        assert not np.allclose(before, after, atol=1e-3)
