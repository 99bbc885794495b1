"""Modules of PyTorch with steps of their own, as laboratories write them."""

import copy
import pickle
import random
import subprocess
import sys
import threading
from collections import OrderedDict, deque

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import check_gradients, check_rows
from model_checks import fast_compilation as fast_compilation

from slowpoints import FixedPointFinder, as_transition, find_fixed_points, simulate
from slowpoints._network.base import ModelError

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn, nnF = torch.nn, torch.nn.functional
parametrizations = nn.utils.parametrizations

N_IN, N = 3, 8


class Base(nn.Module):
    """The parts that most steps below are made of."""

    def __init__(self, n_in=N_IN, n=N, **parts):
        super().__init__()
        self.W = nn.Linear(n, n)
        self.B = nn.Linear(n_in, n)
        self.alpha = 0.2
        for name, part in parts.items():
            setattr(self, name, part)


class Leaky(Base):
    def forward(self, u, x):
        return (1 - self.alpha) * x + self.alpha * (self.W(torch.tanh(x)) + self.B(u))


class Dale(Base):
    """Excitatory and inhibitory units: the signs of a unit's outgoing weights are all the same."""

    def __init__(self, n_in=N_IN, n=N):
        super().__init__(n_in, n)
        self.register_buffer("sign", torch.where(torch.arange(n) < 0.75 * n, 1.0, -1.0))
        self.register_buffer("no_self", 1 - torch.eye(n))

    def forward(self, u, x):
        weight = self.W.weight.abs() * self.sign * self.no_self
        drive = nnF.linear(torch.relu(x), weight, self.W.bias) + self.B(u)
        return (1 - self.alpha) * x + self.alpha * drive


class Golub(nn.Module):
    """An encoder, a recurrent layer and a readout, called as by Golub & Sussillo's finder."""

    def __init__(self, n_in=N_IN, n=N):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(n_in, 5), nn.ReLU())
        self.rnn = nn.GRU(5, n, batch_first=True)
        self.readout = nn.Linear(n, 2)

    def forward(self, inputs, hidden=None):
        states, hidden = self.rnn(self.encoder(inputs), hidden)
        return self.readout(states), hidden


class Vectors(Base):
    """A step that takes no axis of a batch."""

    def forward(self, x, u):
        return torch.tanh(self.W.weight @ x + self.B.weight @ u + self.W.bias)


class ShortTermPlasticity(Base):
    """Mongillo, Barak & Tsodyks (2008): rates, with facilitation u and depression x."""

    def forward(self, state, inputs):
        h, u, x = state["h"], state["u"], state["x"]
        rates = torch.sigmoid(h)
        return {
            "h": h + self.alpha * (self.W(u * x * rates) + self.B(inputs) - h),
            "u": (u + self.alpha * (0.2 - u) / 1.5 + 0.04 * (1 - u) * rates).clamp(0, 1),
            "x": (x + self.alpha * (1 - x) / 0.2 - 0.2 * u * x * rates).clamp(0, 1),
        }


class LayerNormLSTM(Base):
    def __init__(self):
        super().__init__(n=N)
        self.gates, self.norm = nn.Linear(N_IN + N, 4 * N), nn.LayerNorm(N)

    def forward(self, u, state):
        h, c = state
        i, f, g, o = self.gates(torch.cat([u, h], -1)).chunk(4, -1)
        c = torch.sigmoid(f + 1) * c + torch.sigmoid(i) * torch.tanh(g)
        return torch.sigmoid(o) * torch.tanh(self.norm(c)), c


class LSTMOfTwoLayers(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(N_IN, N, num_layers=2, batch_first=True, dropout=0.5)

    def forward(self, inputs, hidden):
        return self.lstm(inputs, hidden)


class ConvMemory(nn.Module):
    """A sheet of units with local connections, and batch norm as it was after training."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2)
        self.norm.running_mean.uniform_(-1, 1)
        self.norm.running_var.uniform_(0.5, 2)
        self.enter = nn.Linear(N_IN, 2 * 3 * 4)

    def forward(self, x, u):
        return torch.tanh(self.norm(self.conv(x)) + self.enter(u).reshape(-1, 2, 3, 4))


class LowRank(Base):
    """Mastrogiuseppe & Ostojic (2018), with a part of the connections missing."""

    def __init__(self):
        super().__init__()
        self.m, self.n = nn.Parameter(torch.randn(N, 2)), nn.Parameter(torch.randn(N, 2))
        self.mask = torch.rand(N, N) < 0.7  # neither a parameter nor a buffer

    def forward(self, u, x):
        weight = (self.m @ self.n.T / N).masked_fill(~self.mask, 0)
        return x + self.alpha * (-x + torch.tanh(x) @ weight.T + self.B(u))


class Populations(Base):
    """Two populations, which a mask of booleans selects, with an activity of their own each."""

    def __init__(self):
        super().__init__()
        self.register_buffer("inhibits", torch.arange(N) >= 6)

    def forward(self, u, x):
        new = torch.empty_like(x)
        new[:, ~self.inhibits] = nnF.softplus(x[:, ~self.inhibits])
        new[:, self.inhibits] = torch.relu(x[:, self.inhibits])
        return torch.tanh(self.W(new) + self.B(u))


class Attention(Base):
    """A recurrent memory of four slots that attend to each other and to the input."""

    def __init__(self):
        super().__init__(n=N)
        self.attend = nn.MultiheadAttention(N, 2, batch_first=True)
        self.norm = nn.LayerNorm(N)

    def forward(self, x, u):
        queries = x + self.B(u)[:, None]
        return self.norm(x + self.attend(queries, queries, queries)[0])


class TiedSubsteps(Base):
    """Several steps of Euler's method in one, and a readout with the same weights."""

    def __init__(self):
        super().__init__()
        self.V = nn.Linear(N, N)
        self.V.weight = self.W.weight

    def forward(self, u, x):
        for _ in range(5):
            x = x + 0.1 * (-x + torch.tanh(self.W(x) + self.V(x).sin() + self.B(u)))
        return x


class Plain(Base):
    def __init__(self, activity):
        super().__init__()
        self.activity = activity

    def forward(self, u, x):
        return self.activity(self.W(x) + self.B(u))


class Spiking(torch.autograd.Function):
    """The identity, with a backward pass of its own."""

    @staticmethod
    def forward(ctx, x):
        return 2 * x.sin()

    @staticmethod
    def backward(ctx, g):
        raise AssertionError("not used")


def with_weight(parametrization, **options):
    def make():
        module = Leaky()
        module.W = parametrization(module.W, **options)
        for _ in range(5):  # of spectral norm, which learns while it trains
            module(torch.zeros(1, N_IN), torch.zeros(1, N))
        return module

    return make


def hooked():
    module = nn.GRUCell(N_IN, N)
    module.register_forward_hook(lambda module, inputs, h: 0.5 * h)
    return module


def functional():
    class Functional(Base):
        def forward(self, u, x):
            weights = {"weight": self.W.weight.clamp(min=0), "bias": self.W.bias}
            out = torch.func.functional_call(self.W, weights, (torch.tanh(x),))
            return torch.vmap(lambda a: a / (1 + a @ a))(out + self.B(u))

    return Functional()


def ensemble():
    class Ensemble(nn.Module):
        def __init__(self):
            super().__init__()
            self.W = nn.Parameter(torch.randn(4, N, N) / 3)
            self.norm = nn.GroupNorm(2, N)

        def forward(self, x, u):
            return self.norm(torch.einsum("eij,bj->bi", self.W, torch.tanh(x))) + u.sum(-1, True)

    return Ensemble()


def dictionary(shapes):
    return {name: np.zeros(shape) for name, shape in shapes.items()}


H = np.zeros(N)
# Each: how to make it, its signature, and an example of its state.
MODULES = {
    "leaky": (Leaky, "input_state", None),
    "Dale": (Dale, "input_state", None),
    "Golub": (Golub, None, None),
    "Golub, layers": (Golub, None, np.zeros((1, N))),
    "vectors": (Vectors, "state_input", None),
    "plasticity": (ShortTermPlasticity, "state_input", dictionary({"h": N, "u": N, "x": N})),
    "layer norm LSTM": (LayerNormLSTM, "input_state", (H, H)),
    "LSTM of two layers": (LSTMOfTwoLayers, None, (np.zeros((2, N)), np.zeros((2, N)))),
    "convolution": (ConvMemory, "state_input", np.zeros((2, 3, 4))),
    "low rank": (LowRank, "input_state", None),
    "populations": (Populations, "input_state", None),
    "attention": (Attention, "state_input", np.zeros((4, N))),
    "tied, substeps": (TiedSubsteps, "input_state", None),
    "softplus": (lambda: Plain(nn.Softplus(beta=3)), "input_state", None),
    "own derivative": (lambda: Plain(Spiking.apply), "input_state", None),
    "weight norm": (with_weight(parametrizations.weight_norm), "input_state", None),
    "old weight norm": (with_weight(nn.utils.weight_norm), "input_state", None),
    "spectral norm": (with_weight(parametrizations.spectral_norm), "input_state", None),
    "orthogonal": (with_weight(parametrizations.orthogonal), "input_state", None),
    "orthogonal, Cayley": (
        with_weight(parametrizations.orthogonal, orthogonal_map="cayley"),
        "input_state",
        None,
    ),
    "orthogonal, Householder": (
        with_weight(parametrizations.orthogonal, orthogonal_map="householder"),
        "input_state",
        None,
    ),
    "functional": (functional, "input_state", None),
    "ensemble": (ensemble, "state_input", None),
    "a hook": (hooked, None, None),
    "scripted": (lambda: torch.jit.script(Leaky()), "input_state", None),
    "compiled": (lambda: torch.compile(Leaky()), "input_state", None),
}
pytestmark = pytest.mark.filterwarnings(
    "ignore:.*weight_norm.*:FutureWarning",
    "ignore:.*torch.jit.*:DeprecationWarning",
    "ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning",
)


def made(name):
    make, signature, example = MODULES[name]
    torch.manual_seed(0)
    module = make().eval()
    F = as_transition(module, signature=signature, example_state=example)
    return module, F, F.n_states or N


def own_step(name, module, F):
    """Return the module's own step on tensors `[n_states]` and `[n_inputs]`."""
    _, signature, _ = MODULES[name]

    def step(x, u):
        batch = not isinstance(module, Vectors)
        state = x
        if F.layout is not None:
            parts = torch.split(x, [int(np.prod(shape)) for shape in F.layout.shapes])
            parts = [a.reshape(shape) for a, shape in zip(parts, F.layout.shapes, strict=True)]
            state = jax.tree.unflatten(F.layout.treedef, parts)
        if signature is None and not isinstance(module, nn.RNNCellBase):
            state = jax.tree.map(lambda a: a.reshape(-1, 1, a.shape[-1]), state)
            new = module(u[None, None], state)[1]
        else:
            state = jax.tree.map(lambda a: a[None] if batch else a, state)
            u = u[None] if batch else u
            new = module(state, u) if signature == "state_input" else module(u, state)
        return torch.cat([a.reshape(-1) for a in jax.tree.leaves(new)])

    return step


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", MODULES)
def test_a_step_and_its_jacobian_are_the_modules_own(name, dtype):
    module, F, n = made(name)
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=n).astype(dtype), rng.normal(size=N_IN).astype(dtype)
    if dtype == "float64":
        module = module.double()
        _, signature, example = MODULES[name]
        # Without x64 weights keep their digits, too.
        F = as_transition(module, signature=signature, example_state=example)
        names = dict([*module.named_parameters(), *module.named_buffers()])
        leaves = [weight for name, weight in F.model.weights.items() if name in names]
        assert all(leaf.dtype == np.float64 for leaf in leaves)
    step = own_step(name, getattr(module, "_orig_mod", module), F)
    with jax.enable_x64(dtype == "float64"):
        points = jnp.asarray(x), jnp.asarray(u)
        found = eqx.filter_jit(F)(*points)
        J, B = eqx.filter_jit(lambda F, *points: jax.jacfwd(F, argnums=(0, 1))(*points))(F, *points)
    assert found.dtype == J.dtype == dtype
    tolerance = {"float32": 1e-6, "float64": 1e-13}[dtype]
    with torch.no_grad():
        np.testing.assert_allclose(found, step(torch.tensor(x), torch.tensor(u)), atol=tolerance)
    if name == "own derivative":
        return  # the map has one, whatever its backward pass says
    points = torch.tensor(x), torch.tensor(u)
    expected = torch.autograd.functional.jacobian(step, points)
    for found, jacobian in zip((J, B), expected, strict=True):
        np.testing.assert_allclose(found, jacobian, atol=4 * tolerance, rtol=tolerance)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["Dale", "Golub", "plasticity", "convolution", "tied, substeps"])
def test_rows_and_gradients(name):
    module, F, _ = made(name)
    if F.n_states is None:
        F = as_transition(
            module,
            signature=MODULES[name][1],
            example_state=np.zeros((1, N) if name == "Golub" else N),
        )
    check_rows(F, N_IN)
    used = {
        key: weight
        for key, weight in F.model.weights.items()
        if not key.startswith(("readout", "W.bias" if name == "Dale" else "-"))
    }
    if name == "Golub":
        return
    if used.keys() == F.model.weights.keys():
        check_gradients(F, N_IN)


@pytest.mark.slow
def test_the_leaves_are_the_weights_by_name():
    torch.manual_seed(0)
    module = TiedSubsteps()
    F = as_transition(module, signature="input_state")
    names = {"W.weight", "W.bias", "B.weight", "B.bias", "V.bias"}  # the tied one is there once
    assert F.model.weights.keys() == names
    for name, weight in F.model.weights.items():
        np.testing.assert_array_equal(weight, module.get_parameter(name).detach())
    x, u = torch.randn(N), torch.randn(N_IN)
    gradient = jax.grad(lambda F: jnp.sum(F(jnp.asarray(x), jnp.asarray(u)) ** 2))(F)
    (module(u[None], x[None]) ** 2).sum().backward()
    for name, slope in gradient.model.weights.items():
        np.testing.assert_allclose(slope, module.get_parameter(name).grad, atol=2e-5, err_msg=name)


def test_masks_and_indices_are_no_leaves():
    F = as_transition(LowRank(), signature="input_state")
    assert "mask" not in F.model.weights
    assert as_transition(Dale(), signature="input_state").model.weights.keys() >= {"sign"}


def searched(F, n=N, n_rows=128):
    x = jax.random.normal(jax.random.key(0), (n_rows, n)) * 2
    fps, _ = find_fixed_points(F, x, np.zeros(N_IN, np.float32))
    return fps


@pytest.fixture(scope="module")
def strong():
    torch.manual_seed(3)
    module = Dale(n=12)
    with torch.no_grad():
        module.W.weight.normal_(std=1.5)
        module.W.bias.normal_(std=2)
    return module


@pytest.mark.slow
def test_a_search_finds_what_fsolve_finds_on_the_module(strong):
    optimize = pytest.importorskip("scipy.optimize")
    module = copy.deepcopy(strong).double()
    u = torch.zeros(1, N_IN, dtype=torch.float64)

    def residual(x):
        with torch.no_grad():
            return (module(u, torch.tensor(x)[None])[0] - torch.tensor(x)).numpy()

    roots = []
    for x in np.random.default_rng(0).normal(size=(128, 12)) * 2:
        root, _, ended, _ = optimize.fsolve(residual, x, full_output=True)
        new = all(np.linalg.norm(root - other) > 1e-3 for other in roots)
        if ended == 1 and np.abs(residual(root)).max() < 1e-9 and new:
            roots.append(root)
    fps = searched(as_transition(strong, signature="input_state"), 12)
    assert len(roots) >= 1
    for root in roots:
        assert np.linalg.norm(fps.xstar - root, axis=1).min() < 1e-4
    for point in np.asarray(fps.xstar):
        assert np.abs(residual(point.astype(float))).max() < 1e-5


@pytest.mark.slow
def test_gradients_of_a_fixed_point_are_pytorchs_by_implicit_differentiation(strong):
    with jax.enable_x64(True):
        module = copy.deepcopy(strong).double()
        F = as_transition(module, signature="input_state")
        x0 = np.asarray(searched(F, 12, 32).xstar, np.float64)[:1]

        def position(F):
            fps, _ = find_fixed_points(F, x0, np.zeros(N_IN))
            return jnp.sum(fps.xstar[0] ** 2)

        fps, _ = find_fixed_points(F, x0, np.zeros(N_IN))
        gradient = eqx.filter_grad(position)(F)
    x, u = torch.tensor(np.asarray(fps.xstar[0]))[None], torch.zeros(1, N_IN, dtype=torch.float64)
    J = torch.autograd.functional.jacobian(lambda x: module(u, x[None])[0], x[0])
    adjoint = torch.linalg.solve((torch.eye(12, dtype=torch.float64) - J).T, 2 * x[0])
    module(u, x)[0].backward(adjoint)
    for name, parameter in module.named_parameters():
        slope = gradient.model.weights[name]
        np.testing.assert_allclose(slope, parameter.grad, atol=1e-8, err_msg=name)


# ---- the module is left as it was ----------------------------------------------------------------


def everything(module):
    """All that a call could change, by value."""
    return (
        {k: (id(v), v.detach().clone()) for k, v in module.named_parameters()},
        {k: (id(v), v.clone()) for k, v in module.named_buffers()},
        {k: (p.requires_grad, p.grad, p.grad_fn) for k, p in module.named_parameters()},
        {k: m.training for k, m in module.named_modules()},
        {k: list(vars(m)) for k, m in module.named_modules()},
        {k: list(m._forward_hooks) for k, m in module.named_modules()},
        getattr(module, "kept", None),
        (torch.get_rng_state(), torch.is_grad_enabled(), torch.get_default_dtype()),
        (random.getstate(), np.random.get_state()),  # noqa: NPY002
    )


def same(a, b):
    if isinstance(a, (torch.Tensor, np.ndarray)):
        return bool((a == b).all())
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (tuple, list)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


class Keeps(Base):
    """Changes all that it can, in a step."""

    def __init__(self):
        super().__init__()
        self.kept = []
        self.register_buffer("count", torch.zeros(N))
        self.drop = nn.Dropout()

    def forward(self, u, x):
        self.kept.append(1)
        self.count += 1
        self.new = x
        np.random.normal()  # noqa: NPY002
        random.random()
        return self.drop(x) + torch.randn_like(x) + self.count


@pytest.mark.one_in(3)
@pytest.mark.slow
@pytest.mark.checks_input  # the checker of types draws Python's random numbers itself
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize(
    "name", ["Golub", "convolution", "spectral norm", "a hook", "LSTM of two layers", "keeps"]
)
def test_a_module_is_left_as_it_was(name, training):
    make, signature, example = MODULES.get(name, (Keeps, "input_state", None))
    module = make().train(training)
    first = next(module.parameters())
    first.requires_grad_(False)
    next(reversed(list(module.parameters()))).grad = torch.ones(1)[0].expand(
        next(reversed(list(module.parameters()))).shape
    )
    before = everything(module)
    F = as_transition(module, signature=signature, example_state=example)
    x, u = jnp.ones(F.n_states or N), jnp.ones(N_IN)
    if name == "keeps":
        with pytest.raises(ModelError, match="changes its buffer count in a step"):
            F(x, u)
    else:
        y = F(x, u)
        assert F(x, u).shape == x.shape
    for was, now in zip(before, everything(module), strict=True):
        assert same(was, now)
    if name != "keeps":
        with torch.no_grad():
            first.zero_()
        np.testing.assert_allclose(F(x, u), y, atol=1e-6)  # the weights were copied
        assert not np.allclose(
            as_transition(module, signature=signature, example_state=example)(x, u), y
        )


RECORDED = []


class Recorder:
    def __init__(self):
        self.n, self.last = 0, {}

    def __call__(self, layer, inputs, output):
        self.n += 1
        self.last["x"] = output


class Records(Leaky):
    """Keeps what passes in an attribute, in a list of its class, and in a global one."""

    of_class = []  # noqa: RUF012 - shared on purpose

    def __init__(self):
        super().__init__()
        self.kept, self.history = {"deep": [{}]}, deque(maxlen=2)

    def forward(self, u, x):
        y = super().forward(u, x)
        self.kept["deep"][0]["y"] = y
        for records in (RECORDED, self.of_class, self.history):
            records.append(y)
        return y


def test_what_a_module_and_its_hooks_record_is_the_users_calls_alone():
    module, by_hook, recorder = Records(), {}, Recorder()
    module.W.register_forward_hook(lambda layer, inputs, output: by_hook.update(w=output.detach()))
    module.W.register_forward_hook(recorder)
    module(torch.ones(1, N_IN), torch.ones(1, N))  # whose results have a gradient
    seen = [RECORDED, module.of_class, module.history, [recorder.n]]
    seen += [[module.kept["deep"][0]["y"]], [by_hook["w"]], [recorder.last["x"]]]
    before = [list(records) for records in seen]
    as_transition(module, signature="input_state")(jnp.ones(N), jnp.ones(N_IN))
    assert [list(map(id, records)) for records in seen[:3]] == [
        list(map(id, records)) for records in before[:3]
    ]
    now = [recorder.n, module.kept["deep"][0]["y"], by_hook["w"], recorder.last["x"]]
    assert all(new is old for new, (old,) in zip(now, before[3:], strict=True))
    RECORDED.clear()
    Records.of_class.clear()


@pytest.mark.slow
def test_a_module_may_hold_what_cannot_be_copied():
    module = Leaky()
    module.lock, module.kept = threading.Lock(), module.W.weight * 2
    assert as_transition(module, signature="input_state")(jnp.ones(N), jnp.ones(N_IN)).shape == (N,)


# ---- precision, copies, programs -----------------------------------------------------------------


@pytest.mark.slow
def test_half_precision_is_computed_in_float32():
    torch.manual_seed(0)
    module = Leaky().bfloat16()
    F = as_transition(module, signature="input_state")
    assert {leaf.dtype for leaf in jax.tree.leaves(F)} == {np.dtype("float32")}
    found = F(jnp.ones(N), jnp.ones(N_IN))
    expected = copy.deepcopy(module).float()(torch.ones(1, N_IN), torch.ones(1, N))[0]
    np.testing.assert_allclose(found, expected.detach(), atol=1e-6)


def test_casts_to_half_precision_are_left_out():
    class Casts(Base):
        def forward(self, u, x):
            with torch.autocast("cpu", dtype=torch.bfloat16):
                return torch.tanh(self.W(x) + self.B(u)).float()

    torch.manual_seed(0)
    module = Casts()
    found = as_transition(module, signature="input_state")(jnp.ones(N), jnp.ones(N_IN))
    expected = torch.tanh(module.W(torch.ones(N)) + module.B(torch.ones(N_IN)))
    np.testing.assert_allclose(found, expected.detach(), atol=1e-6)


@pytest.mark.slow
def test_copies_and_pickles():
    _, F, _ = made("Golub")
    x, u = jnp.ones(N), jnp.ones(N_IN)
    fresh = pickle.loads(pickle.dumps(F))
    y = F(x, u)
    for other in (fresh, pickle.loads(pickle.dumps(F)), copy.copy(F), copy.deepcopy(F)):
        np.testing.assert_array_equal(other(x, u), y)
    with pytest.raises(ModelError, match="comes from a file, with its program for the shapes"):
        pickle.loads(pickle.dumps(F))(x, jnp.ones(N_IN + 1))


@pytest.mark.slow
def test_a_program_needs_no_pytorch(tmp_path):
    _, F, _ = made("populations")
    y = F(jnp.ones(N), jnp.ones(N_IN))
    F = jax.tree.map(np.asarray, F)
    (tmp_path / "F.pickle").write_bytes(pickle.dumps((F, np.asarray(y))))
    code = (
        "import sys\n"
        "class NoTorch:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name.split('.')[0] == 'torch': raise ImportError(name)\n"
        "sys.meta_path.insert(0, NoTorch())\n"
        "import pickle, numpy as np, jax.numpy as jnp\n"
        f"F, y = pickle.load(open({str(tmp_path / 'F.pickle')!r}, 'rb'))\n"
        f"np.testing.assert_allclose(F(jnp.ones({N}), jnp.ones({N_IN})), y, atol=1e-6)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_programs_of_one_architecture_are_equal():
    x, u = jnp.ones(N), jnp.ones(N_IN)
    first, second = (as_transition(Dale(), signature="input_state") for _ in range(2))
    assert jax.tree.structure(first) != jax.tree.structure(second)  # not known yet
    first(x, u), second(x, u)
    assert jax.tree.structure(first) == jax.tree.structure(second)
    assert hash(jax.tree.structure(first)) == hash(jax.tree.structure(second))
    traces = []

    @eqx.filter_jit
    def step(F, x, u):
        traces.append(None)
        return F(x, u)

    assert not np.allclose(step(first, x, u), step(second, x, u))
    assert len(traces) == 1
    faster = Dale()
    faster.alpha = 0.3
    third = as_transition(faster, signature="input_state")
    third(x, u)
    assert jax.tree.structure(first) != jax.tree.structure(third)
    for number in (1, 1.0, True):
        program = second.model.programs.of(jax.tree.structure(0), ((N,),), N_IN)
        assert program == eqx.tree_at(lambda p: p, program, program)
        assert program != type(program)((), (), (("aten.neg", (number,), ()),), ())


def test_threads_share_an_export():
    F = as_transition(Leaky(), signature="input_state")
    found = []

    def run():
        found.append(np.asarray(F(jnp.ones(N), jnp.ones(N_IN))))

    threads = [threading.Thread(target=run) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert len(found) == 4 and all((y == found[0]).all() for y in found)


@pytest.mark.slow
def test_under_transformations():
    module, _, _ = made("leaky")
    x, u = jnp.ones((4, N)), jnp.ones(N_IN)

    def fresh():
        return as_transition(module, signature="input_state")

    rows = fresh()(x[0], u)
    for call in (
        lambda: jax.jit(lambda x: jax.vmap(fresh(), (0, None))(x, u))(x)[0],
        lambda: jax.pmap(lambda x: fresh()(x, u))(x[:1])[0],
        lambda: jax.shard_map(
            lambda x: jax.vmap(fresh(), (0, None))(x, u),
            mesh=jax.sharding.Mesh(np.array(jax.devices()[:1]), ("rows",)),
            in_specs=jax.sharding.PartitionSpec("rows"),
            out_specs=jax.sharding.PartitionSpec("rows"),
        )(x)[0],
        lambda: jax.vmap(fresh(), (0, None))(x, u)[0],
        lambda: eqx.filter_jit(eqx.filter_vmap(fresh(), in_axes=(0, None)))(x, u)[0],
        lambda: jax.jvp(lambda x: fresh()(x, u), (x[0],), (x[0],))[0],
        lambda: jax.vjp(lambda x: fresh()(x, u), x[0])[0],
        lambda: jax.lax.scan(lambda x, _: (fresh()(x, u), None), x[0], length=1)[0],
    ):
        np.testing.assert_allclose(call(), rows, atol=1e-6)


@pytest.mark.parametrize("n", [1, 512])
def test_sizes(n):
    module = Leaky(n=n)
    x = np.random.default_rng(0).normal(size=n).astype("f")
    found = as_transition(module, signature="input_state")(jnp.asarray(x), jnp.ones(N_IN))
    expected = module(torch.ones(1, N_IN), torch.tensor(x)[None])[0]
    np.testing.assert_allclose(found, expected.detach(), atol=2e-6)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_scales(scale):
    class Scaled(Leaky):
        def forward(self, u, x):
            return super().forward(u, x / scale) * scale

    module = Scaled()
    found = as_transition(module, signature="input_state")(scale * jnp.ones(N), jnp.ones(N_IN))
    expected = module(torch.ones(1, N_IN), scale * torch.ones(1, N))[0].detach()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


# ---- what is refused -----------------------------------------------------------------------------


def step_of(forward, **parts):
    cls = type("Own", (Base,), {"forward": forward})
    return cls(**parts)


def kept(self, u, x):
    self.last = 0.5 * getattr(self, "last", 0) + x.detach()
    return self.W(x) + self.last


def counted(self, u, x):
    self.n = getattr(self, "n", 0) + 1
    return self.W(x) * self.n


def written(self, u, x):
    self.trace.mul_(0.9).add_(x[0])
    return self.W(x) + self.trace


def decides(self, u, x):
    return self.W(x) if x.sum() > 0 else -x


EITHER = "is random, or keeps something from one call for the next"
REFUSED = {
    "noise": (lambda s, u, x: s.W(x) + torch.randn_like(x), [EITHER, "aten.randn_like", "eval()"]),
    "dropout": (lambda s, u, x: nnF.dropout(s.W(x)), [EITHER, "self.training", "noise-free"]),
    "NumPy's noise": (
        lambda s, u, x: s.W(x) + float(np.random.normal()),  # noqa: NPY002
        [EITHER, "noise-free step"],
    ),
    "Python's noise": (lambda s, u, x: s.W(x) * random.random(), [EITHER]),
    "kept": (kept, [EITHER, "a part of the state"]),
    "counted": (counted, [EITHER]),
    "buffer": (written, ["changes its buffer trace in a step", "a part of the state"]),
    "unknown operation": (
        lambda s, u, x: s.W(x) + torch.special.bessel_j0(x),
        ["no counterpart here: aten.special_bessel_j0.default", "docs/howto/own_model.md"],
    ),
    "NumPy": (lambda s, u, x: torch.from_numpy(x.numpy()) * 2, ["cannot be exported", "NumPy's"]),
    "decision": (decides, ["cannot be exported", "torch.where"]),
    "batch or not": (
        lambda s, u, x: torch.softmax(x, 0) + 0 * s.B(u),
        ["can be called with an input [1, 3] and a state [1, 8], and also with", "`dim=-1`"],
    ),
}


@pytest.mark.slow_cases
@pytest.mark.checks_input
@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_program_is_refused_with_what_to_do(name):
    forward, words = REFUSED[name]
    module = step_of(forward)
    module.register_buffer("trace", torch.zeros(N))
    before = everything(module)
    F = as_transition(module, signature="input_state")
    with pytest.raises(ModelError) as caught:
        find_fixed_points(F, np.ones((2, N), "f"), np.ones(N_IN, "f"))
    message = " ".join(str(caught.value).split())
    assert [word for word in words if word not in message] == []
    assert same(before, everything(module))


class Pair(nn.Module):
    """An LSTM cell that returns its states in another container than it takes them in."""

    def __init__(self, container):
        super().__init__()
        self.cell, self.container = nn.LSTMCell(N_IN, N), container

    def forward(self, u, state):
        h, c = self.cell(u, (state["h"], state["c"]) if isinstance(state, dict) else tuple(state))
        if issubclass(self.container, dict):
            return self.container([("c", c), ("h", h)])
        return self.container([h, c])


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("container", "given"), [(list, tuple), (tuple, list), (OrderedDict, dict), (dict, OrderedDict)]
)
def test_lists_and_tuples_are_alike_and_so_are_dictionaries(container, given):
    torch.manual_seed(0)
    module, h, c = Pair(container), np.full(N, 0.3, "f"), np.full(N, -0.5, "f")
    example = given([("h", h), ("c", c)]) if issubclass(given, dict) else given([h, c])
    F = as_transition(module, signature="input_state", example_state=example)
    found = F.unflatten(F(jnp.asarray(F.flatten(example)), jnp.ones(N_IN)))
    found = [found["h"], found["c"]] if issubclass(given, dict) else found
    with torch.no_grad():
        expected = module.cell(torch.ones(1, N_IN), (torch.tensor(h)[None], torch.tensor(c)[None]))
    np.testing.assert_allclose(found, [a[0] for a in expected], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("layer", [nn.GRU, nn.LSTM])
def test_a_scripted_layer_of_pytorch_is_told_to_be_passed_as_it_was(layer):
    scripted = torch.jit.script(layer(N_IN, N))
    with pytest.raises(TypeError, match=f"is {layer.__name__}, .*scripted.*Pass the layer itself"):
        as_transition(scripted)


@pytest.mark.slow
def test_a_scripted_decision_is_told_what_to_write(capfd):
    class Branch(Base):
        def forward(self, u, x):
            y = self.W(x) + self.B(u)
            if bool(y.sum() > 0):
                y = 2 * y
            return y

    F = as_transition(torch.jit.script(Branch()), signature="input_state")
    with pytest.raises(ModelError, match=r"Branch decides by the values.*`torch.where`"):
        F(jnp.ones(N), jnp.ones(N_IN))
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_noise_that_is_switched_off_is_none():
    def noisy(self, u, x):
        noise = nnF.dropout(torch.randn_like(x), 0.5, self.training)
        return self.W(x) + self.B(u) + self.sigma * noise

    module = step_of(noisy, sigma=0.0)
    F = as_transition(module, signature="input_state")
    expected = module(torch.ones(1, N_IN), torch.ones(1, N))[0]
    np.testing.assert_allclose(F(jnp.ones(N), jnp.ones(N_IN)), expected.detach(), atol=1e-6)
    module.sigma = 0.1
    with pytest.raises(ModelError, match=EITHER):
        as_transition(module, signature="input_state")(jnp.ones(N), jnp.ones(N_IN))


def test_another_way_to_call_it_is_named():
    F = as_transition(Leaky())
    with pytest.raises(ModelError) as caught:
        F(jnp.ones(N), jnp.ones(N_IN))
    message = " ".join(str(caught.value).split())
    for words in (
        'Leaky could not be called with signature="batched_sequence", the default',
        "an input [1, 1, 3] and a state [1, 8]: TypeError: it returned a tensor [1, 1, 8]",
        "an input [1, 1, 3] and a state [1, 1, 8]",
        'pass `as_transition(model, signature="input_state")`.',
    ):
        assert words in message
    with pytest.raises(ModelError) as caught:
        as_transition(Leaky(), signature="input_state")(jnp.ones(N), jnp.ones(N_IN + 1))
    assert "mat1 and mat2 shapes cannot be multiplied (1x4 and 3x8)" in str(caught.value)
    assert "inputs of the right number" in str(caught.value)


def test_weights_have_values():
    module = nn.Sequential(nn.LazyLinear(3))
    module.forward = lambda u, x: x
    with pytest.raises(TypeError, match="has been called once, which gives lazy layers"):
        as_transition(module)
    with pytest.raises(TypeError, match="Leaky has weights without values"):
        as_transition(Leaky().to("meta"))


# ---- scripts for Golub & Sussillo's finder -------------------------------------------------------

SCRIPT = """
import numpy as np, torch
torch.manual_seed(0)
model = Golub(3, 8)
hidden = torch.zeros(1, 16, 8)
trajectories = []
with torch.no_grad():
    for t in range(30):
        _, hidden = model(torch.randn(16, 1, 3), hidden)
        trajectories.append(hidden[0])
states = torch.stack(trajectories, dim=1).numpy()
fpf_hps = {
    'max_iters': 10000,
    'lr_init': 1.,
    'outlier_distance_scale': 10.0,
    'verbose': False,
    'super_verbose': False,
}
fpf = FixedPointFinderTorch(model, **fpf_hps)
inputs = np.zeros([1, 3])
initial_states = fpf.sample_states(states, n_inits=64, noise_scale=0.5)
unique_fps, all_fps = fpf.find_fixed_points(initial_states, inputs)
unique_fps.print_summary()
"""


@pytest.mark.slow
def test_a_script_for_the_pytorch_finder_runs(capsys):
    assert "import" in SCRIPT
    names = {"Golub": Golub}
    exec("from slowpoints import FixedPointFinder", names)
    exec(SCRIPT.replace("FixedPointFinderTorch", "FixedPointFinder"), names)
    fps, rows, starts = names["unique_fps"], names["all_fps"], names["initial_states"]
    assert fps.n >= 1 and rows.n == 64
    np.testing.assert_array_equal(rows.x_init, starts)  # each once, in their order
    assert len(np.unique(starts, axis=0)) == 64
    x = torch.tensor(np.asarray(fps.xstar))[None]
    with torch.no_grad():
        new = names["model"](torch.zeros(fps.n, 1, 3), x)[1]
    np.testing.assert_allclose(new, x, atol=1e-4)
    # Inputs for each state, and other states on each draw.
    finder, inputs = names["fpf"], np.linspace(-1, 1, 64 * 3).reshape(64, 3)
    assert not np.array_equal(finder.sample_states(names["states"], 64, None, 0.5), starts)
    _, rows = finder.find_fixed_points(starts, inputs, cond_ids=np.arange(64))
    np.testing.assert_allclose(rows.inputs, inputs, rtol=1e-6)
    np.testing.assert_array_equal(rows.cond_id, np.arange(64))


@pytest.mark.checks_input
def test_states_to_start_from_are_not_drawn_from():
    finder = FixedPointFinder(Golub(), verbose=False)
    for keywords in ({"noise_scale": 0.1}, {"n_inits": 7}, {"valid_bxt": np.ones((1, 4), bool)}):
        with pytest.raises(ValueError, match=r"`state_traj` has shape \(4, 8\)"):
            finder.find_fixed_points(np.zeros((4, N)), np.zeros((1, N_IN)), **keywords)


# ---- modules that take a sequence ----------------------------------------------------------------


class Encoded(nn.Module):
    """An encoder, layers and a readout; `forward` takes the inputs of all steps."""

    def __init__(self, rnn):
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(N_IN, 5), nn.ReLU())
        self.rnn, self.readout = rnn, nn.Linear(N, 2)

    def forward(self, inputs):
        return self.readout(self.rnn(self.encoder(inputs))[0])


class InALoop(Encoded):
    """A cell that is called at each step, and a state before the first that is no zero."""

    def forward(self, inputs):
        h = torch.full((inputs.shape[0], N), 0.3)
        c, outputs = 0.5 * h, []
        for u in self.encoder(inputs).unbind(1):
            h, c = self.rnn(u, (h, c))
            outputs.append(self.readout(h))
        return torch.stack(outputs, 1)


class Two(nn.Module):
    def __init__(self):
        super().__init__()
        self.low = nn.GRU(N_IN, N, batch_first=True)
        self.high = nn.LSTM(N, N, batch_first=True)
        self.readout = nn.Linear(N, 2)

    def forward(self, inputs):
        return self.readout(self.high(torch.tanh(self.low(inputs)[0]))[0])


class TimeFirst(Encoded):
    def forward(self, inputs):  # [time, trials, n_inputs], and a state of its own to start from
        start = torch.zeros(self.rnn.num_layers, inputs.shape[1], N)
        return self.readout(self.rnn(self.encoder(inputs), hx=start)[0])


WHOLE = {  # the module, the number of its states, and which of them its readout reads
    "GRU of two layers": (Encoded(nn.GRU(5, N, 2, batch_first=True)), 2 * N, slice(N, 2 * N)),
    "LSTM": (Encoded(nn.LSTM(5, N, batch_first=True)), 2 * N, slice(0, N)),
    "time first": (TimeFirst(nn.RNN(5, N, nonlinearity="relu")), N, slice(0, N)),
    "cell in a loop": (InALoop(nn.LSTMCell(5, N)), 2 * N, slice(0, N)),
    "two layers": (Two(), 3 * N, slice(N, 2 * N)),
}


@pytest.mark.slow_cases
@pytest.mark.parametrize("name", WHOLE)
def test_a_module_that_takes_a_sequence_has_the_states_of_its_layers(name):
    module, n_states, read = WHOLE[name]
    before = {name: value.clone() for name, value in module.state_dict().items()}
    F = as_transition(module)
    assert F.n_states == n_states
    inputs = torch.randn(4, 9, N_IN, generator=torch.Generator().manual_seed(0))
    x0 = None
    if name == "cell in a loop":
        x0 = (np.full((4, N), 0.3, np.float32), np.full((4, N), 0.15, np.float32))
    states = simulate(module, inputs, x0)
    assert states.shape == (4, 9, n_states) and isinstance(states, np.ndarray)
    with torch.no_grad():
        seen = module(inputs.swapaxes(0, 1)).swapaxes(0, 1) if "first" in name else module(inputs)
        outputs = module.readout(torch.tensor(states[..., read]))
    np.testing.assert_allclose(outputs, seen, atol=1e-6)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    again = pickle.loads(pickle.dumps(F))
    np.testing.assert_array_equal(simulate(again, inputs, x0), states)


@pytest.mark.slow
def test_points_of_such_a_module_are_those_of_its_layer_and_depend_on_inputs_before_the_encoder():
    torch.manual_seed(1)
    module = Encoded(nn.GRU(5, N, 2, batch_first=True))
    inputs = torch.randn(20, 15, N_IN)
    fps, _ = FixedPointFinder(module, verbose=False).find_fixed_points(
        simulate(module, inputs), np.ones((1, N_IN)), n_inits=64
    )
    assert fps.n >= 1 and fps.dFdu.shape[1:] == (2 * N, N_IN)
    x = torch.tensor(np.asarray(fps.xstar)).reshape(-1, 2, N).swapaxes(0, 1).contiguous()
    with torch.no_grad():
        _, h = module.rnn(module.encoder(torch.ones(fps.n, 1, N_IN)), x)
    np.testing.assert_allclose(h.swapaxes(0, 1).reshape(fps.n, -1), fps.xstar, atol=1e-5)


class WithLengths(Encoded):
    def forward(self, inputs, lengths=None):
        outputs, state = self.rnn(self.encoder(inputs))
        return self.readout(outputs), state


class WithMask(Encoded):
    def forward(self, inputs, mask=None):
        outputs, state = self.rnn(self.encoder(inputs))
        return outputs if mask is None else outputs * mask, state


class FromZero(Encoded):
    def forward(self, inputs, lengths=None):
        zero = torch.zeros(1, len(inputs), N)
        outputs, state = self.rnn(self.encoder(inputs), zero)
        return self.readout(outputs), state


class Masked(Encoded):
    def forward(self, inputs, mask):
        return self.rnn(self.encoder(inputs))[0] * mask


class OfItsOwn(Encoded):
    """A layer that starts anew in each step is on the way from the input to the state."""

    def forward(self, inputs, state):
        seen, _ = self.rnn(self.encoder(inputs))
        return seen, torch.tanh(0.5 * state + seen.swapaxes(0, 1))


@pytest.mark.slow
@pytest.mark.parametrize("model", [WithLengths, WithMask, FromZero])
def test_an_optional_argument_that_is_no_state_is_not_taken_for_one(model):
    torch.manual_seed(0)
    module = model(nn.GRU(5, N, batch_first=True))
    x, u = torch.randn(4, N), torch.randn(4, N_IN)
    F = as_transition(module)

    def step():
        with torch.no_grad():
            return module.rnn(module.encoder(u[:, None]), x[None])[1][0]

    np.testing.assert_allclose(jax.vmap(F)(*map(jnp.asarray, (x, u))), step(), atol=1e-6)
    # The weights are arguments of the program, and not constants in it.
    learned = [leaf for leaf in jax.tree.leaves(F) if eqx.is_inexact_array(leaf)]
    doubled = eqx.tree_at(jax.tree.leaves, F, [2 * leaf for leaf in learned])
    with torch.no_grad():
        for weight in module.parameters():
            weight *= 2
    np.testing.assert_allclose(jax.vmap(doubled)(*map(jnp.asarray, (x, u))), step(), atol=1e-6)


class EncodedByALayer(Encoded):
    """The layer starts anew at each step; the state is another one, and may be left out."""

    def __init__(self):
        super().__init__(nn.GRU(5, N, batch_first=True))
        self.W = nn.Linear(N, N)

    def forward(self, inputs, hidden=None):
        h = torch.zeros(len(inputs), N) if hidden is None else hidden
        for u in self.rnn(self.encoder(inputs))[0].unbind(1):
            h = torch.tanh(self.W(h) + u)
        return self.readout(h), h


def test_a_state_beside_that_of_a_layer_is_not_taken_for_the_layers():
    with pytest.raises(ModelError, match="layer `rnn` starts from zero in each call of Encoded"):
        as_transition(EncodedByALayer())(jnp.ones(N), jnp.ones(N_IN))


def test_a_layer_without_a_state_is_told_of_unless_a_signature_says_that_it_has_none():
    u, x = jnp.ones(N_IN), jnp.ones(N)
    with pytest.raises(ModelError, match="layer `rnn` starts from zero in each call of Masked"):
        as_transition(Masked(nn.GRU(5, N, batch_first=True)))(x, u)
    own = OfItsOwn(nn.GRU(5, N, batch_first=True))
    with pytest.raises(ModelError, match=r'say so: .*signature="batched_sequence"'):
        as_transition(own)(x, u)
    told = as_transition(own, signature="batched_sequence")
    with torch.no_grad():
        expected = own(torch.ones(1, 1, N_IN), torch.ones(1, 1, N))[1][0, 0]
    np.testing.assert_allclose(told(x, u), expected, atol=1e-6)


class OwnLoop(Base):
    """A loop over time of one's own, from zero, that returns outputs and states."""

    def following(self, u, h):
        return 0.5 * h + 0.5 * torch.tanh(self.B(u) + self.W(h))

    def forward(self, inputs, mask=None):
        h, states = torch.zeros(len(inputs), N), []
        for u in inputs.unbind(1):
            h = self.following(u, h)
            states.append(h)
        states = torch.stack(states, 1)
        return states if mask is None else states * mask[..., :1], h


class Context(OwnLoop):
    def forward(self, inputs, context):
        states = super().forward(inputs + 0.1 * context.mean())[0]
        return states, states


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    ("model", "words"),
    [(OwnLoop, "does not depend on its second argument"), (Context, "comes to another state")],
)
def test_an_argument_that_no_state_starts_from_is_not_taken_for_one(model, words):
    """Each is a map of an input and the argument, and its Jacobian zero, or next to it."""
    module = model()
    with pytest.raises(ModelError, match=words) as caught:
        as_transition(module)(jnp.ones(N), jnp.ones(N_IN))
    assert "docs/models.md#modules-that-take-a-sequence" in str(caught.value)
    assert 'signature="batched_sequence"' in str(caught.value)
    told = as_transition(module, signature="batched_sequence")  # by someone who knows
    with torch.no_grad():
        expected = module(torch.ones(1, 1, N_IN), torch.ones(1, N))[1].reshape(N)
    np.testing.assert_allclose(told(jnp.ones(N), jnp.ones(N_IN)), expected, atol=1e-6)


class FromState(OwnLoop):
    """The same with a state to start from."""

    def forward(self, inputs, h):
        states = []
        for u in inputs.unbind(1):
            h = self.following(u, h)
            states.append(h)
        return torch.stack(states, 1), h


class TimesFirst(FromState):
    def forward(self, inputs, h):
        states, last = super().forward(inputs.swapaxes(0, 1), h)
        return states.swapaxes(0, 1), last


class AllStates(FromState):
    def forward(self, inputs, h):
        states = super().forward(inputs, h)[0]
        return 2 * states, states


class AllStatesByTimes(FromState):
    def forward(self, inputs, h):
        states = super().forward(inputs.swapaxes(0, 1), h)[0].swapaxes(0, 1)
        return 2 * states, states


class FirstOfInputs(FromState):
    def forward(self, inputs, h):
        h = self.following(inputs[:, 0], h)
        return h[:, None], h


class LastOfInputs(FromState):
    def forward(self, inputs, h):
        h = self.following(inputs[-1], h)
        return h[None], h


class OneStepOnly(FromState):
    def forward(self, inputs, h):
        assert inputs.shape[:2] == (1, 1)
        h = self.following(inputs[0], h)
        return h[:, None], h


class Chaotic(FromState):
    """Rounding grows tenfold in a step, and is not the same for the inputs of all steps at once."""

    def following(self, u, h):
        return torch.sin(20 * h + self.B(u))

    def forward(self, inputs, h):
        mean, states = inputs.mean(1, keepdim=True), []
        for drive in (self.B(inputs - mean) + nnF.linear(mean, self.B.weight)).unbind(1):
            h = torch.sin(20 * h + drive)
            states.append(h)
        return torch.stack(states, 1), h


class Diverges(FromState):
    def following(self, u, h):
        return 1e6 * h**3 + self.B(u)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "model",
    [
        FromState,
        TimesFirst,
        AllStates,
        AllStatesByTimes,
        FirstOfInputs,
        LastOfInputs,
        OneStepOnly,
        Chaotic,
        Diverges,
    ],
)
def test_a_loop_from_a_state_is_a_step(model):
    torch.manual_seed(0)
    module = model()
    x, u = torch.randn(N), torch.randn(N_IN)
    with torch.no_grad():
        expected = module.following(u[None], x[None])[0]
    found = as_transition(module)(jnp.asarray(x), jnp.asarray(u))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)


class FirstStepIsNone(FromState):
    """With one step, the state is the one that was given: an identity."""

    def forward(self, inputs, h):
        states = [h]
        for u in inputs.unbind(1)[:-1]:
            states.append(self.following(u, states[-1]))
        return torch.stack(states, 1), states[-1]


class FeedsBack(FromState):
    """An output that goes back in at the next step, and is zero before the first."""

    def forward(self, inputs, h):
        output = torch.zeros(len(inputs), N)
        for u in inputs.unbind(1):
            h = self.following(u, h + 0.3 * output)
            output = torch.relu(self.W(h))
        return output, h


class FeedsBackByTimes(FeedsBack):
    def forward(self, inputs, h):
        return super().forward(inputs.swapaxes(0, 1), h)


class Adapts(FromState):
    def forward(self, inputs, h):
        adaptation = 0
        for u in inputs.unbind(1):
            h = self.following(u, h) - 0.2 * adaptation
            adaptation = 0.9 * adaptation + 0.1 * h
        return h[:, None], h


class FiltersInputs(FromState):
    def __init__(self):
        super().__init__()
        self.filter = nn.Conv1d(N_IN, N_IN, 3, padding=1)

    def forward(self, inputs, h):
        return super().forward(self.filter(inputs.swapaxes(1, 2)).swapaxes(1, 2), h)


class AllStatesAdapt(Adapts):
    def forward(self, inputs, h):
        states = [
            super(AllStatesAdapt, self).forward(inputs[:, : k + 1], h)[1]
            for k in range(len(inputs[0]))
        ]
        return inputs, torch.stack(states, 1)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "model", [FirstStepIsNone, FeedsBack, FeedsBackByTimes, Adapts, FiltersInputs, AllStatesAdapt]
)
def test_a_module_that_keeps_more_than_its_state_is_refused(model):
    module = model()
    with pytest.raises(ModelError, match=r"12 steps at once, comes to another state than step"):
        as_transition(module)(jnp.ones(N), jnp.ones(N_IN))
    as_transition(module, signature="batched_sequence")(jnp.ones(N), jnp.ones(N_IN))


class Unused(Encoded):
    def forward(self, inputs):
        return self.readout(inputs[..., :1].expand(-1, -1, N))


class Twice(Encoded):
    def forward(self, inputs):
        states = self.rnn(self.encoder(inputs))[0]
        return self.readout(self.rnn(states[..., :5])[0])


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (Unused(nn.GRU(5, N)), "its layer `rnn` was not called"),
        (Twice(nn.GRU(5, N)), "its layer `rnn` was called twice in a step"),
    ],
)
def test_a_module_whose_layers_are_no_state_is_refused(module, words):
    with pytest.raises(ModelError, match=words) as caught:
        simulate(module, np.zeros((1, 2, N_IN)))
    assert "write its step as a module" in str(caught.value)
    with pytest.raises(TypeError, match="expected no `signature`"):
        as_transition(module, signature="batched")


class LooksBack(Encoded):
    """A convolution over time in its encoder: what one step takes is not its input alone."""

    def __init__(self):
        super().__init__(nn.GRU(5, N, batch_first=True))
        self.filter = nn.Conv1d(N_IN, N_IN, 3, padding=2)

    def forward(self, inputs):
        seen = self.filter(inputs.swapaxes(1, 2))[..., : inputs.shape[1]].swapaxes(1, 2)
        return super().forward(seen)


class KeepsATrace(InALoop):
    """A state of its own beside that of its cell."""

    def forward(self, inputs):
        h, c = torch.zeros(inputs.shape[0], N), torch.zeros(inputs.shape[0], N)
        trace, outputs = torch.zeros(inputs.shape[0], 5), []
        for u in self.encoder(inputs).unbind(1):
            trace = 0.5 * trace + u
            h, c = self.rnn(trace, (h, c))
            outputs.append(self.readout(h))
        return torch.stack(outputs, 1)


class CountsSteps(Encoded):
    def forward(self, inputs):
        steps = torch.linspace(0, 1, inputs.shape[1])[:, None]
        return super().forward(inputs + steps)


@pytest.mark.slow_cases
@pytest.mark.parametrize(
    "module",
    [LooksBack(), KeepsATrace(nn.LSTMCell(5, N)), CountsSteps(nn.GRU(5, N, batch_first=True))],
    ids=lambda module: type(module).__name__,
)
def test_a_module_that_is_more_than_its_layers_steps_is_refused(module):
    """Run on one step, each of these is a map of states; but not the one of its sequences."""
    with pytest.raises(ModelError, match=r"to other states than step by step\. It keeps"):
        simulate(module, np.zeros((1, 2, N_IN)))


@pytest.mark.parametrize("sign", [1, -1])
def test_a_module_that_looks_back_with_one_unit_is_refused(sign):
    """Of inputs that go in one direction alone, the unit would see nothing for one of the signs."""
    module = LooksBack()
    with torch.no_grad():
        for tensor in (*module.filter.parameters(), *module.encoder.parameters()):
            tensor.zero_()
        module.filter.weight[:, :, 1] = torch.eye(N_IN)
        module.encoder[0].weight[:, 0] = sign
    with pytest.raises(ModelError, match=r"to other states than step by step\. It keeps"):
        simulate(module, np.zeros((1, 2, N_IN)))


@pytest.mark.slow_cases
@pytest.mark.parametrize("n", [64, 256])
def test_chaos_is_no_reason_to_refuse(n):
    """Rounding grows a thousandfold in twelve steps, and is not the same for all at once."""

    class Smooth(Encoded):
        def forward(self, inputs):
            mean = inputs.mean(1, keepdim=True)
            return self.rnn(self.encoder((inputs - mean) + mean))[0]

    torch.manual_seed(0)
    module = Smooth(nn.RNN(5, n, batch_first=True))
    with torch.no_grad():
        module.rnn.weight_hh_l0.normal_(0, 20 / n**0.5)
    inputs = torch.randn(2, 1, N_IN)
    states = simulate(module, inputs)
    with torch.no_grad():
        np.testing.assert_allclose(states, module(inputs), atol=1e-5)


def test_a_state_to_start_from_that_was_learned_is_no_reason_to_refuse():
    class Learned(Encoded):
        def __init__(self):
            super().__init__(nn.GRU(5, N, batch_first=True))
            self.start = nn.Parameter(torch.randn(1, 1, N))

        def forward(self, inputs):
            start = self.start.expand(1, len(inputs), N).contiguous()
            return self.readout(self.rnn(self.encoder(inputs), start)[0])

    module, inputs = Learned(), torch.randn(1, 6, N_IN)
    states = simulate(module, inputs, module.start[0].detach().numpy())
    with torch.no_grad():
        np.testing.assert_allclose(module.readout(torch.tensor(states)), module(inputs), atol=1e-6)


class SplitsItsState(nn.Module):
    """Its state is one vector, though its layer's is a pair."""

    def __init__(self):
        super().__init__()
        self.rnn = nn.LSTM(N_IN, N, batch_first=True)

    def forward(self, inputs, state):
        h, c = (part[None].contiguous() for part in state.chunk(2, -1))
        outputs, (h, c) = self.rnn(inputs, (h, c))
        return outputs, torch.cat([h[0], c[0]], -1)


class Passes(SplitsItsState):
    def forward(self, inputs, state=None):
        return self.rnn(inputs, state)


@pytest.mark.parametrize("kind", [SplitsItsState, Passes])
def test_the_form_of_the_state_is_that_of_the_only_layer_or_one_vector(kind):
    module, inputs = kind(), torch.randn(3, 6, N_IN)
    states = simulate(module, inputs)
    with torch.no_grad():
        expected, (h, c) = module.rnn(inputs)
    np.testing.assert_allclose(states[..., :N], expected, atol=1e-6)
    np.testing.assert_allclose(states[:, -1], torch.cat([h[0], c[0]], -1), atol=1e-6)
    np.testing.assert_array_equal(as_transition(module).flatten((h[0], c[0]))[:, :N], h[0])


def test_a_method_of_a_module_may_be_its_step():
    class Rates(Base):
        def step(self, u, v):
            return (1 - self.alpha) * v + self.alpha * (self.W(torch.relu(v)) + self.B(u))

        def step_with(self, u, v, weight):
            return v

    module, inputs = Rates(), torch.randn(2, 5, N_IN)
    states = simulate(as_transition(module.step, signature="input_state"), inputs, np.zeros(N))
    v = torch.zeros(2, N)
    with torch.no_grad():
        for u in inputs.unbind(1):
            v = module.step(u, v)
    np.testing.assert_allclose(states[:, -1], v, atol=1e-6)
    with pytest.raises(TypeError, match=r"method `Rates.step_with\(u, v, weight\)`") as caught:
        as_transition(module.step_with, signature="input_state")
    assert "return self.model.step_with(...)" in str(caught.value)


# ---- numbers that are not taken ------------------------------------------------------------------


class Reservoir(nn.Module):
    def __init__(self, layout):
        super().__init__()
        W = torch.eye(3)
        self.register_buffer("W", {"csr": W.to_sparse_csr, "coo": W.to_sparse_coo}[layout]())

    def forward(self, x, u):
        return torch.tanh((self.W @ x.T).T)


@pytest.mark.checks_input
@pytest.mark.filterwarnings("ignore:Sparse:UserWarning")
@pytest.mark.parametrize("layout", ["csr", "coo"])
def test_sparse_weights_are_named(layout):
    with pytest.raises(TypeError, match=r"Reservoir holds `W`, a sparse tensor.*`tensor.to_dense"):
        as_transition(Reservoir(layout), signature="state_input")


class Rotates(nn.Module):
    def forward(self, x, u):
        return x * torch.polar(torch.tensor(0.9), torch.tensor(0.3))


@pytest.mark.checks_input
def test_a_complex_state_is_to_be_written_as_two_real_ones():
    F = as_transition(Rotates(), signature="state_input")
    with pytest.raises(ModelError, match=r"Rotates returns a state of complex.*view_as_real"):
        find_fixed_points(F, np.ones((1, 2), np.float32), np.zeros(0))
    example = np.zeros(2, np.complex64)
    with pytest.raises(TypeError, match=r"complex64\. For complex numbers, write its step"):
        as_transition(Rotates(), signature="state_input", example_state=example)


class WithTraining(torch.nn.Module):
    """Its `train` trains it, where that of PyTorch switches to training mode."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.RNN(2, 4, batch_first=True)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, inputs, hidden=None):
        return self.layer(self.dropout(inputs), hidden)

    def train(self, train_data=None, valid_data=None):
        self.layer.weight_hh_l0.data.zero_()


def test_a_train_method_of_the_users_own_is_not_called():
    module = WithTraining()
    before = module.layer.weight_hh_l0.detach().clone()
    rows = np.zeros((1, 4), np.float32), np.ones((1, 2), np.float32)
    F, alone = as_transition(module), as_transition(module.layer)
    x, u = (jnp.asarray(part[0]) for part in rows)
    np.testing.assert_allclose(jax.jacfwd(F)(x, u), jax.jacfwd(alone)(x, u), atol=1e-6)
    assert torch.equal(module.layer.weight_hh_l0, before) and module.training


def test_a_module_whose_state_comes_first_is_asked_for_its_signature():
    class StateFirst(nn.Module):
        def forward(self, hidden, inputs):
            new = torch.tanh(2 * hidden + inputs[0])
            return 0.5 * new, new

    class Method(StateFirst):
        def step(self, h, x):
            return self.forward(h, x)

    for model in (StateFirst(), Method().step):
        with pytest.raises(TypeError, match=r"(StateFirst.forward|step)` is `h(idden)?`.*scan"):
            as_transition(model)
    as_transition(StateFirst(), signature="batched_sequence")
