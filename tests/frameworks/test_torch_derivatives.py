"""Steps of PyTorch that take derivatives themselves, as those down the gradient of an energy do."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation

from slowpoints import as_transition, find_fixed_points
from slowpoints._network.base import ModelError

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn, func = torch.nn, torch.func
N_IN, N = 2, 4


class Energy(nn.Module):
    """The parts of each step below; `offset` is no parameter, and `scale` is made in each call."""

    def __init__(self):
        super().__init__()
        self.W, self.B = nn.Linear(N, N), nn.Linear(N_IN, N)
        self.offset = torch.linspace(-1, 1, N)

    def drive(self, u, x):
        scale = torch.tensor([0.5, 1.0, 1.5, 2.0], dtype=x.dtype)
        return scale * torch.tanh(self.W(x) + self.B(u)) + self.offset.to(x.dtype) * x

    def energy(self, u, x):
        return torch.log(torch.cosh(self.drive(u, x))).sum()


class Grad(Energy):
    def forward(self, u, x):
        return x - 0.1 * func.grad(lambda x: self.energy(u, x))(x)


class GradOfGrad(Energy):
    def forward(self, u, x):
        slope = func.grad(lambda x: self.energy(u, x))
        return x - 0.1 * func.grad(lambda x: slope(x).square().sum())(x)


class Vjp(Energy):
    def forward(self, u, x):
        y, pull = func.vjp(lambda x: self.drive(u, x), x)
        return y - 0.1 * pull(torch.cos(x))[0]


class Jvp(Energy):
    def forward(self, u, x):
        return x - 0.1 * func.jvp(lambda x: self.drive(u, x), (x,), (torch.cos(x),))[1]


class Jacrev(Energy):
    def forward(self, u, x):
        return x - 0.1 * (func.jacrev(lambda x: self.drive(u[0], x))(x[0]) @ x[0])[None]


class Jacfwd(Energy):
    def forward(self, u, x):
        return x - 0.1 * (func.jacfwd(lambda x: self.drive(u[0], x))(x[0]) @ x[0])[None]


class Hessian(Energy):
    def forward(self, u, x):
        return x - 0.1 * (func.hessian(lambda x: self.energy(u[0], x))(x[0]) @ x[0])[None]


class OfEachTrial(Energy):
    def forward(self, u, x):
        return x - 0.1 * func.vmap(func.grad(self.energy, argnums=1))(u, x)


class Mapped(Energy):
    """No derivative, but a constant of its own within `vmap`."""

    def forward(self, u, x):
        return func.vmap(self.drive)(u, x)


class Autograd(Energy):
    def forward(self, u, x):
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(self.energy(u, x), x, create_graph=True)
        return x - 0.1 * slope


class AutogradOfCaller(Energy):
    """It relies on derivatives being on, as they are by default."""

    def forward(self, u, x):
        x = x.clone().requires_grad_(True)
        return x - 0.1 * torch.autograd.grad(self.energy(u, x), x, create_graph=True)[0]


class InPlace(Energy):
    def forward(self, u, x):
        y = x.clone()
        y[:, 0] += 1
        y.mul_(0.5)
        return y - 0.1 * func.grad(lambda x: self.energy(u, x))(y)


STEPS = [
    Grad,
    GradOfGrad,
    Vjp,
    Jvp,
    Jacrev,
    Jacfwd,
    Hessian,
    OfEachTrial,
    Mapped,
    Autograd,
    AutogradOfCaller,
    InPlace,
]


def by_differences(step, x, h=1e-5):
    columns = [(step(x + h * e) - step(x - h * e)) / (2 * h) for e in torch.eye(N, dtype=x.dtype)]
    return torch.stack(columns, 1)


@pytest.mark.slow_cases
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.__name__)
def test_a_step_that_takes_derivatives_is_the_modules_own(step):
    torch.manual_seed(0)
    module = step().double()
    x, u = torch.randn(N, dtype=torch.float64), torch.randn(N_IN, dtype=torch.float64)

    def own(x):
        return module(u[None], x[None].clone()).detach()[0]

    F = as_transition(module, signature="input_state")
    with jax.enable_x64(True):
        point = jnp.asarray(x.numpy()), jnp.asarray(u.numpy())
        np.testing.assert_allclose(F(*point), own(x), atol=1e-13)
        np.testing.assert_allclose(jax.jacfwd(F)(*point), by_differences(own, x), atol=1e-8)
    # Its tensors are arguments of the program, and not constants in it.
    program = F.model.programs.of(jax.tree.structure(0), ((N,),), N_IN)
    assert set(program.weights) == {"W.weight", "W.bias", "B.weight", "B.bias", "offset"}
    # PyTorch's own transformations work afterwards, and no gradient is left.
    np.testing.assert_array_equal(func.grad(lambda x: (x**2).sum())(torch.ones(2)), [2, 2])
    assert all(parameter.grad is None for parameter in module.parameters())


@pytest.mark.slow
def test_a_search_down_an_energy_finds_its_minimum():
    torch.manual_seed(0)

    class Quadratic(nn.Module):
        def __init__(self):
            super().__init__()
            self.A = nn.Parameter(torch.randn(N, N))

        def forward(self, u, x):
            def energy(x):
                return 0.5 * ((x - 1) @ self.A).square().sum() + 0.1 * (x - 1).square().sum()

            return x - 0.05 * func.grad(energy)(x)

    module = Quadratic()
    F = as_transition(module, signature="input_state")
    fps, _ = find_fixed_points(F, np.zeros((8, N), np.float32), np.zeros(1, np.float32))
    np.testing.assert_allclose(fps.xstar, np.ones((1, N)), atol=1e-4)
    A = module.A.detach().numpy()
    expected = np.eye(N) - 0.05 * (A @ A.T + 0.2 * np.eye(N))
    np.testing.assert_allclose(fps.J_xstar[0], expected, atol=1e-5)


class Backward(Energy):
    def forward(self, u, x):
        x = x.detach().clone().requires_grad_(True)
        self.energy(u, x).backward()
        return x - 0.1 * x.grad


class Decides(Grad):
    def forward(self, u, x):
        y = super().forward(u, x)
        return y if y.sum() > 0 else x


@pytest.mark.slow
@pytest.mark.parametrize(
    ("step", "words"),
    [
        (Backward, r"such as the gradients to which `backward\(\)` adds.*`torch.autograd.grad`"),
        (Decides, r"cannot be exported by PyTorch.*`torch.where`"),
    ],
)
def test_what_has_no_program_is_refused_and_nothing_is_printed(step, words, capfd):
    module = step()
    with pytest.raises(ModelError, match=words):
        as_transition(module, signature="input_state")(jnp.ones(N), jnp.ones(N_IN))
    assert capfd.readouterr() == ("", "")
    assert all(parameter.grad is None for parameter in module.parameters())
