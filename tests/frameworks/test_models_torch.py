"""PyTorch's recurrent layers and cells as transitions.

Its GRU applies the reset gate after the product with the recurrent weights, so the trained GRU of
`cases/` has no form in it.
"""

import pickle

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

from slowpoints import FixedPointFinder, as_transition, find_fixed_points, sample_states
from slowpoints._network.frameworks.pytorch import without_torch

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn = torch.nn
pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")

N_IN, N = 3, 5
MODELS = {
    "RNN": lambda: nn.RNN(N_IN, N),
    "RNN, relu": lambda: nn.RNN(N_IN, N, nonlinearity="relu"),
    "GRU": lambda: nn.GRU(N_IN, N, batch_first=True),
    "LSTM": lambda: nn.LSTM(N_IN, N),
    "LSTM, projected": lambda: nn.LSTM(N_IN, N, num_layers=2, proj_size=2),
    "RNN, no bias": lambda: nn.RNN(N_IN, N, bias=False),
    "GRU, no bias": lambda: nn.GRU(N_IN, N, bias=False),
    "RNN, 3 layers": lambda: nn.RNN(N_IN, N, num_layers=3),
    "GRU, 2 layers": lambda: nn.GRU(N_IN, N, num_layers=2, dropout=0.5),
    "LSTM, 2 layers": lambda: nn.LSTM(N_IN, N, num_layers=2),
    "RNNCell": lambda: nn.RNNCell(N_IN, N),
    "RNNCell, relu": lambda: nn.RNNCell(N_IN, N, nonlinearity="relu"),
    "GRUCell": lambda: nn.GRUCell(N_IN, N),
    "LSTMCell": lambda: nn.LSTMCell(N_IN, N),
    "LSTMCell, no bias": lambda: nn.LSTMCell(N_IN, N, bias=False),
}


def to_torch(a):
    return torch.from_numpy(np.array(a))


def own_step(module, dtype):
    module = getattr(module.eval(), {"float32": "float", "float64": "double"}[dtype])()

    def step(state, u):
        state = jax.tree.map(to_torch, state)
        with torch.no_grad():
            if isinstance(module, nn.RNNCellBase):
                out = module(to_torch(u), state)
            else:
                out = module(to_torch(u)[None], state)[1]
        return jax.tree.map(lambda tensor: jnp.asarray(tensor.numpy()), out)

    return step


@pytest.mark.slow_cases
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_a_step_is_the_modules_own(make, dtype):
    module = make()
    check_steps(as_transition(module), own_step(module, dtype), N_IN, dtype)


@pytest.mark.slow_cases
@pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)
def test_rows_gradients_and_compilations(make):
    torch.manual_seed(0)
    first, second = as_transition(make()), as_transition(make())
    check_rows(first, N_IN)
    check_gradients(first, N_IN)
    check_one_compilation(first, second, N_IN)


def test_gradients_are_pytorchs():
    module = nn.GRU(N_IN, N)
    rng = np.random.default_rng(0)
    h, u = rng.normal(size=(1, N)).astype("f"), rng.normal(size=N_IN).astype("f")
    gradient = jax.grad(lambda F: jnp.sum(F(jnp.asarray(h[0]), jnp.asarray(u)) ** 2))(
        as_transition(module)
    )
    (module(to_torch(u)[None], to_torch(h))[1] ** 2).sum().backward()
    layer = gradient.model.layers[0]
    for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"):
        expected = getattr(module, f"{name}_l0").grad
        np.testing.assert_allclose(getattr(layer, name), expected, atol=1e-6)


def test_the_leaves_are_the_weights():
    module = nn.LSTM(N_IN, N, num_layers=2)
    leaves = jax.tree.leaves(as_transition(module))
    for leaf, parameter in zip(leaves, module.parameters(), strict=True):
        np.testing.assert_array_equal(leaf, parameter.detach())


def test_states_have_the_modules_own_form():
    F = as_transition(nn.LSTM(N_IN, N, num_layers=2, proj_size=2))
    assert F.n_states == 14
    h, c = F.unflatten(np.zeros((7, 14)))
    assert h.shape == (7, 2, 2) and c.shape == (7, 2, N)
    assert as_transition(nn.GRUCell(N_IN, N)).unflatten(np.zeros((7, N))).shape == (7, N)


def test_tensors_may_be_flattened():
    F = as_transition(nn.LSTMCell(N_IN, N))
    h, c = torch.ones(4, N, requires_grad=True), torch.zeros(4, N, dtype=torch.float64)
    x = F.flatten((h, c))
    np.testing.assert_array_equal(x, [[1.0] * N + [0.0] * N] * 4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_tensors_keep_their_type_and_need_no_detaching(dtype):
    tensor = torch.tensor([0.5, 3.0], dtype=dtype, requires_grad=True)
    array = without_torch(tensor)
    assert isinstance(array, np.ndarray) and array.dtype.name == str(dtype).split(".")[1]
    np.testing.assert_array_equal(array, [0.5, 3.0])
    assert without_torch(torch.tensor([True])).dtype == bool
    assert without_torch(tensor.tolist()) == [0.5, 3.0]


def test_an_example_state_may_be_tensors():
    example = torch.zeros(2, 3, requires_grad=True)
    F = as_transition(lambda x, u: x, example_state=(example, example.detach()))
    assert F.n_states == 12
    np.testing.assert_array_equal(F.flatten((example, example)), np.zeros(12))


@pytest.mark.slow
def test_trajectories_may_be_tensors():
    torch.manual_seed(0)
    module = nn.GRU(N_IN, N, num_layers=2)
    with torch.no_grad():
        states, h = [], torch.randn(2, 4, N)  # [layers, trials, units]
        for u in torch.randn(6, 1, 4, N_IN):
            h = module(u, h)[1]
            states.append(h.transpose(0, 1))
    traj = torch.stack(states, dim=1)  # [trials, time, layers, units]
    finder = FixedPointFinder(module, solver="newton_krylov", verbose=False)
    fps, _ = finder.find_fixed_points(traj, np.zeros((1, N_IN)), n_inits=16)
    h = to_torch(as_transition(module).unflatten(fps.xstar)).transpose(0, 1).contiguous()
    with torch.no_grad():
        expected = module(torch.zeros(1, fps.n, N_IN), h)[1]
    assert fps.n > 0
    np.testing.assert_allclose(h, expected, atol=1e-5)


def steps_of(module, n_trials=4, n_steps=6):
    """Return the states of all steps, [trials, time, layers, units], and PyTorch's `output`."""
    inputs = torch.randn(n_trials, n_steps, N_IN)
    with torch.no_grad():
        output, state = module(inputs)
        state = jax.tree.map(torch.zeros_like, state)
        states = []
        for u in inputs.split(1, dim=1):
            state = module(u, state)[1]
            states.append(jax.tree.map(lambda a: a.transpose(0, 1), state))
    return jax.tree.map(lambda *steps: torch.stack(steps, dim=1), *states), output


@pytest.mark.slow
def test_the_axis_of_a_single_layer_may_be_left_out():
    torch.manual_seed(0)
    gru, lstm = nn.GRU(N_IN, N, batch_first=True), nn.LSTM(N_IN, N, batch_first=True)
    states, output = steps_of(gru)
    np.testing.assert_allclose(states[:, :, 0], output, atol=1e-6)
    F = as_transition(gru)
    np.testing.assert_array_equal(F.flatten(states), F.flatten(states[:, :, 0]))
    (h, c), output = steps_of(lstm)
    np.testing.assert_allclose(h[:, :, 0], output, atol=1e-6)
    F = as_transition(lstm)
    vectors = F.flatten((h, c))
    assert vectors.shape == (4, 6, 2 * N)
    np.testing.assert_array_equal(vectors, F.flatten((h[:, :, 0], c[:, :, 0])))
    np.testing.assert_array_equal(vectors[0, 0], F.flatten((h[0, 0, 0], c[0, 0, 0])))
    results = [
        FixedPointFinder(lstm, solver="newton_krylov", verbose=False).find_fixed_points(
            given, np.zeros((1, N_IN)), n_inits=16
        )[0]
        for given in (vectors, (h, c), (h[:, :, 0], c[:, :, 0]))
    ]
    assert results[0].n > 0
    for fps in results[1:]:
        np.testing.assert_array_equal(fps.xstar, results[0].xstar)


def test_axes_that_are_left_out_do_not_broadcast():
    """`output` of all time steps and `c_n` of the last one are no trajectory, for one trial either.

    With the axis of layers, leading axes broadcast as they always did.
    """
    F = as_transition(nn.LSTM(N_IN, N))
    for c_n in (np.zeros((1, 4, N)), np.zeros((4, 1, N)), np.zeros((1, N))):
        with pytest.raises(ValueError, match=r"The state is \(.*\); expected"):
            F.flatten((np.zeros((4, 6, N)), c_n))
    with pytest.raises(ValueError, match=r"The state is \(\[1, 6, 5\], \[1, 1, 5\]\); expected"):
        F.flatten((np.zeros((1, 6, N)), np.zeros((1, 1, N))))
    assert F.flatten((np.zeros((4, 6, 1, N)), np.zeros((1, N)))).shape == (4, 6, 2 * N)


LSTM_1 = "holds only h: collect (h, c) step by step, as in docs/models.md#pytorch"
LSTM_2 = "holds only h of the last layer: collect (h, c) of all layers step by step"
GRU_1 = "GRU returns (output, h_n); its states are `output`."
GRU_2 = "`output` of GRU holds only h of the last layer: collect h of all layers step by step"


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("module", "of", "words"),
    [
        (nn.GRU(N_IN, N), lambda out, end: out[..., :2], ["has 2 columns; expected 5", GRU_1]),
        (
            nn.GRU(N_IN, N),
            lambda out, end: (out, end),
            [
                "does not fit the model: The state is ([6, 4, 5], [1, 4, 5]); expected [..., 5].",
                GRU_1,
            ],
        ),
        (nn.LSTM(N_IN, N), lambda out, end: out, ["has 5 columns; expected 10", LSTM_1]),
        (
            nn.LSTM(N_IN, N),
            lambda out, end: (out, end),
            [
                "The state is ([6, 4, 5], ([1, 4, 5], [1, 4, 5])); expected ([..., 5], [..., 5])",
                LSTM_1,
            ],
        ),
        (nn.LSTM(N_IN, N), lambda out, end: (out, end[1]), [LSTM_1]),
        (nn.LSTM(N_IN, N, 2), lambda out, end: out, ["has 5 columns; expected 20", LSTM_2]),
        (
            nn.LSTM(N_IN, N, 2),
            lambda out, end: (out, out),
            ["expected ([..., 2, 5], [..., 2, 5])", LSTM_2],
        ),
        (nn.GRU(N_IN, N, 2), lambda out, end: out, ["has 5 columns; expected 10", GRU_2]),
        (
            nn.LSTMCell(N_IN, N),
            lambda out, end: out,
            ["has 5 columns; expected 10", "A state of LSTMCell is the pair (h, c)."],
        ),
    ],
)
def test_states_that_lack_something_are_refused_with_what_is_missing(module, of, words):
    layer = nn.LSTM(N_IN, N) if isinstance(module, nn.LSTMCell) else module
    finder = FixedPointFinder(module, verbose=False)
    with pytest.raises(ValueError) as caught:
        finder.find_fixed_points(of(*layer(torch.zeros(6, 4, N_IN))), np.zeros((1, N_IN)))
    assert [word for word in words if word not in str(caught.value)] == []


@pytest.mark.checks_input
def test_vectors_are_named_where_only_they_are_taken():
    module = nn.LSTM(N_IN, N)
    way = "`slowpoints.as_transition(model).flatten((h, c))` turns them into vectors"
    with pytest.raises(ValueError) as caught:
        find_fixed_points(module, np.zeros((4, N), "f"), np.zeros(N_IN))
    assert way in str(caught.value)
    with pytest.raises(ValueError) as caught:  # the number of inputs has nothing to do with it
        find_fixed_points(module, np.zeros((4, 2 * N), "f"), np.zeros(7))
    assert "`inputs` has 7 columns; expected 3" in str(caught.value)
    assert "output" not in str(caught.value)
    h = torch.zeros(4, 6, N)
    with pytest.raises(ValueError, match=r"`slowpoints.as_transition\(model\).flatten` makes"):
        sample_states(jax.random.key(0), (h, h), 3)
    with pytest.raises(
        ValueError, match=r"`x_init` .*; `slowpoints.as_transition\(model\).flatten`"
    ):
        find_fixed_points(module, [h.tolist(), h.tolist()], np.zeros(N_IN))
    draws = r"`x_init` has shape \(4, 6, 10\); .*; slowpoints.sample_states draws such states"
    with pytest.raises(ValueError, match=draws):
        find_fixed_points(module, np.zeros((4, 6, 2 * N), "f"), np.zeros(N_IN))


def torch_module(kind):
    """A PyTorch module with a trained network's weights, whose two biases add up to the case's."""
    module = {"tanh": nn.RNN, "lstm": nn.LSTM}[kind](3, 16)
    Wi, Wh, b = (case(kind)[name] for name in ("Wi", "Wh", "b"))
    if kind == "lstm":  # gates i, f, g, o as in the case, but nothing is added to the forget gate
        b = b + np.array([0, 1, 0, 0], np.float32)[:, None]
    values = {
        "weight_ih_l0": np.concatenate([w.T for w in Wi]),
        "weight_hh_l0": np.concatenate([w.T for w in Wh]),
        "bias_ih_l0": 0.25 * b.ravel(),
        "bias_hh_l0": 0.75 * b.ravel(),
    }
    module.load_state_dict({name: to_torch(value) for name, value in values.items()})
    return module


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tanh", "lstm"])
def test_trained_modules_have_the_same_27_fixed_points(kind):
    check_fixed_points(torch_module(kind), kind)


def test_a_module_is_left_as_it_was():
    module = nn.LSTM(N_IN, N, num_layers=2, dropout=0.5)
    before = {name: value.clone() for name, value in module.state_dict().items()}
    key = torch.get_rng_state()
    F = as_transition(module)
    x, u = jnp.ones(F.n_states), jnp.ones(N_IN)
    first = F(x, u)
    assert module.training
    assert torch.equal(torch.get_rng_state(), key)
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(F(x, u), first)  # the weights were copied


def test_weights_may_be_parametrized_or_of_other_precisions():
    module = torch.nn.utils.parametrizations.orthogonal(nn.RNN(N_IN, N), "weight_hh_l0")
    W = as_transition(module).model.layers[0].weight_hh
    np.testing.assert_allclose(W @ W.T, np.eye(N), atol=1e-5)
    with jax.enable_x64(True):
        F = as_transition(nn.GRU(N_IN, N).double())
        assert {leaf.dtype for leaf in jax.tree.leaves(F)} == {np.dtype("float64")}
    assert as_transition(nn.GRUCell(N_IN, N).bfloat16()).n_states == N


def test_a_transition_is_pickled_without_pytorch():
    F = as_transition(nn.GRU(N_IN, N))
    data = pickle.dumps(jax.tree.map(np.asarray, F.model))
    assert b"torch.nn" not in data


class Net(nn.Module):
    def __init__(self, **layers):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)


@pytest.mark.checks_input
@pytest.mark.parametrize(
    ("module", "words"),
    [
        (nn.GRU(2, 3, bidirectional=True), ["GRU is bidirectional", "end of a sequence"]),
        (
            nn.Linear(2, 2),
            ["Linear", "has `forward(input: torch.Tensor)", "Write its step as a method"],
        ),
        (
            Net(rnn=nn.GRU(2, 3), out=nn.Linear(3, 1)),
            ["Net", "has no `forward`", "Pass `model.rnn`, with", "or write its step as a method"],
        ),
        (Net(body=nn.Sequential(Net(rnn=nn.LSTM(2, 3)))), ["Pass `model.body[0].rnn`, with"]),
        (
            nn.Sequential(nn.Linear(2, 2), nn.GRU(2, 3, bidirectional=True)),
            ["Sequential, a torch.nn.Module that has `forward(", "Pass `model[1]`, with"],
        ),
        (
            Net(first=nn.GRU(2, 3), then=nn.GRUCell(3, 3), last=nn.Linear(3, 1)),
            ["Pass one of its layers, `model.first` and `model.then`, with"],
        ),
    ],
)
def test_other_modules_are_refused(module, words):
    with pytest.raises(TypeError) as caught:
        as_transition(module)
    message = " ".join(str(caught.value).split())
    assert [word for word in words if word not in message] == []


def test_keywords_are_refused():
    with pytest.raises(TypeError, match="a GRU takes no `signature`"):
        as_transition(nn.GRU(2, 3), signature="batched")


@pytest.mark.checks_input
@pytest.mark.slow
def test_a_forward_that_was_replaced_is_what_is_searched():
    """The fast path for PyTorch's own layers must not hide what the user put in its place."""
    torch.manual_seed(0)
    cell, layer = nn.GRUCell(2, 4), nn.GRU(2, 4, batch_first=True)
    own_cell, own_layer = cell.forward, layer.forward
    cell.forward = lambda u, h: own_cell(u, 0.5 * h)
    layer.forward = lambda u, h: own_layer(2 * u, h)
    x, u = torch.randn(1, 4), torch.randn(1, 2)
    with torch.no_grad():
        expected = cell(u, x)[0], layer(u[None], x[None])[1][0, 0]
    found = [
        as_transition(model, signature=signature)(*(jnp.asarray(a[0]) for a in (x, u)))
        for model, signature in ((cell, "input_state"), (layer, None))
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_alone_are_refused():
    with pytest.raises(TypeError, match=r"a state_dict of PyTorch.* pass the layer instead"):
        as_transition(nn.GRU(2, 3).state_dict())
