"""PyTorch's operations as JAX computes them: values and derivatives, at corners above all.

All operations of a test are parts of one state, so that one export serves them all.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from model_checks import fast_compilation as fast_compilation

from slowpoints import as_transition

torch = pytest.importorskip("torch", reason="PyTorch is not installed (the extra `torch`)")
nn, nnF = torch.nn, torch.nn.functional

# Kinks, ties, halves, thresholds, both zeros, and numbers of all sizes.
CORNERS = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1.5, 2.5, -2.5, 3.0, -3.0, 6.0, 20.0, 20.5, -20.0]
CORNERS += [0.3, -0.7, 2.0, -2.0, 1e-6, -1e-6, 1e-3, 90.0, -90.0]
ELEMENTWISE = {
    "relu": torch.relu,
    "relu6": nnF.relu6,
    "clamp": lambda x: x.clamp(-1, 1),
    "clamp below": lambda x: x.clamp(min=0),
    "clamp above": lambda x: x.clamp_max(0.5),
    "clamp tensors": lambda x: x.clamp(torch.tensor(-1.0), torch.tensor(1.0)),
    "hardtanh": nnF.hardtanh,
    "hardsigmoid": nnF.hardsigmoid,
    "hardswish": nnF.hardswish,
    "hardshrink": nnF.hardshrink,
    "softshrink": nnF.softshrink,
    "threshold": lambda x: nnF.threshold(x, 0.5, -1.0),
    "leaky_relu": nnF.leaky_relu,
    "prelu": lambda x: nnF.prelu(x, torch.full((1,), 0.25, dtype=x.dtype)),
    "elu": lambda x: nnF.elu(x, 0.7),
    "selu": nnF.selu,
    "celu": lambda x: nnF.celu(x, 0.7),
    "gelu": nnF.gelu,
    "gelu tanh": lambda x: nnF.gelu(x, approximate="tanh"),
    "silu": nnF.silu,
    "mish": nnF.mish,
    "sigmoid": torch.sigmoid,
    "log_sigmoid": nnF.logsigmoid,
    "softplus": nnF.softplus,
    "softplus beta": lambda x: nnF.softplus(x, beta=2.0, threshold=5.0),
    "softsign": nnF.softsign,
    "tanhshrink": nnF.tanhshrink,
    "abs": torch.abs,
    "sign": torch.sign,
    "round": torch.round,
    "round decimals": lambda x: torch.round(x, decimals=1),
    "floor": torch.floor,
    "ceil": torch.ceil,
    "trunc": torch.trunc,
    "frac": torch.frac,
    "heaviside": lambda x: torch.heaviside(x.detach(), torch.full_like(x, 0.5)) + 0 * x,
    "remainder": lambda x: torch.remainder(x, 0.75),
    "remainder negative": lambda x: x % -0.75,
    "fmod": lambda x: torch.fmod(x, 0.75),
    "floor division": lambda x: torch.div(x, 0.75, rounding_mode="floor") + 0 * x,
    "trunc division": lambda x: torch.div(x, 0.75, rounding_mode="trunc") + 0 * x,
    "maximum": lambda x: torch.maximum(x, torch.tensor(0.5)),
    "minimum": lambda x: torch.minimum(x, torch.tensor(0.5)),
    "square": lambda x: x**2,
    "cube": lambda x: x**3.0,
    "power 0": lambda x: x**0,
    "power": lambda x: (x.abs() + 1) ** 1.7,
    "power of 2": lambda x: 2 ** (x / 30),
    "power tensor": lambda x: (x.abs() + 1).pow(torch.tensor(0.3)),
    "exp": lambda x: torch.exp(x / 30),
    "expm1": lambda x: torch.expm1(x / 30),
    "log1p": lambda x: torch.log1p(x.abs()),
    "logaddexp": lambda x: torch.logaddexp(x, torch.zeros(())),
    "sqrt": lambda x: torch.sqrt(x.abs() + 0.1),
    "rsqrt": lambda x: torch.rsqrt(x.abs() + 0.1),
    "sin": torch.sin,
    "cos": torch.cos,
    "tanh": torch.tanh,
    "atan": torch.atan,
    "asinh": torch.asinh,
    "hypot": lambda x: torch.hypot(x, torch.ones_like(x)),
    "i1": lambda x: torch.special.i1(x / 30),
    "i1e": lambda x: torch.special.i1e(x / 30),
    "log_ndtr": lambda x: torch.special.log_ndtr(x / 10),
    "erf": torch.erf,
    "erfc": torch.erfc,
    "sinc": lambda x: torch.sinc(x + 0.1),
    "lerp": lambda x: torch.lerp(x, 2 * x, 0.3),
    "addcmul": lambda x: torch.addcmul(x, x, x, value=0.1),
    "where": lambda x: torch.where(x > 0, x, 0.1 * x),
    "masked_fill": lambda x: x.masked_fill(x < 0.5, -1.0),
    "rsub": lambda x: 1 - x,
    "scalars": lambda x: 2 * x / 3 + 1,
    "copysign": lambda x: torch.copysign(torch.ones(()), x) + x,
    "nan_to_num": torch.nan_to_num,
    "detach": lambda x: torch.tanh(x),
}


class Each(nn.Module):
    """A function for each part of the state."""

    def __init__(self, functions):
        super().__init__()
        self.functions = functions
        self.register_buffer("of_its_precision", torch.zeros(1))

    def forward(self, state, u):
        return {name: function(state[name]) for name, function in self.functions.items()}


def derivatives(functions, parts, dtype):
    """Return values and derivatives along a direction, of JAX and of PyTorch."""
    rng = np.random.default_rng(1)
    names = sorted(functions)
    with jax.enable_x64(dtype == "float64"):
        states = {name: np.asarray(parts[name], dtype) for name in names}
        ways = {name: rng.normal(size=states[name].shape).astype(dtype) for name in names}
        module = Each(functions).to(getattr(torch, dtype))
        # An example whose batch axis is left out.
        example = jax.tree.map(lambda a: np.zeros(a.shape[1:], dtype), states)
        F = as_transition(module, signature="state_input", example_state=example)
        x, dx = F.flatten(states)[0], F.flatten(ways)[0]
        step = jax.jit(lambda x: F(x, jnp.zeros(1, dtype)))
        own, slopes = jax.jvp(step, (jnp.asarray(x),), (jnp.asarray(dx),))
        assert own.dtype == slopes.dtype == dtype
        own, slopes = F.unflatten(np.asarray(own)), F.unflatten(np.asarray(slopes))
    torchs, torch_slopes = {}, {}
    for name in names:
        a = torch.from_numpy(states[name])
        torchs[name] = functions[name](a).numpy()[0]
        # Row by row backward, since not all have a forward mode.
        jacobian = torch.autograd.functional.jacobian(functions[name], a).numpy()
        slope = np.tensordot(jacobian, ways[name], ways[name].ndim)
        torch_slopes[name] = slope[0]
    return own, slopes, torchs, torch_slopes


# In float32 the slopes of rounded exponentials are no better; for a few operations PyTorch rounds
# constants of the slopes to float32.
TOLERANCES = {"float32": 1e-5, "float64": 1e-13}
ROUNDED_SLOPES = ("hardsigmoid", "celu", "selu", "elu")
# PyTorch's slope takes in the triangle that its value leaves out: central differences say ours.
WRONG_SLOPES_IN_PYTORCH = ("pinv, one triangle",)


def compare(functions, parts, dtype):
    own, slopes, torchs, torch_slopes = derivatives(functions, parts, dtype)
    wrong = {}
    for name in functions:
        for kind, a, b in (
            ("value", own[name], torchs[name]),
            ("slope", slopes[name], torch_slopes[name]),
        ):
            rounded = kind == "slope" and name in ROUNDED_SLOPES
            tolerance = TOLERANCES["float32" if rounded else dtype] * np.maximum(1, np.abs(b))
            if kind == "slope" and name in WRONG_SLOPES_IN_PYTORCH:
                continue
            bad = ~((np.abs(a - b) <= tolerance) | (np.isnan(a) & np.isnan(b)) | (a == b))
            if bad.any():
                at = parts[name][0][bad] if a.shape == parts[name][0].shape else bad
                wrong[name, kind] = at, a[bad], b[bad]
    assert not wrong, "\n".join(f"{key}: {value}" for key, value in wrong.items())


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_elementwise_operations_at_corners(dtype):
    parts = {name: np.array([CORNERS]) for name in ELEMENTWISE}
    compare(ELEMENTWISE, parts, dtype)


@pytest.mark.slow
def test_nan_infinities_and_the_sign_of_zero():
    functions = {
        name: function
        for name, function in ELEMENTWISE.items()
        if name not in ("nan_to_num", "heaviside", "hardsigmoid", "hardswish", "mish", "sinc")
    }
    functions |= {
        "cummax": lambda x: x.roll(2, 1).cummax(1)[0],
        "cummin": lambda x: x.roll(2, 1).cummin(1)[0],
        "median": lambda x: x * 0 + x.median(),
        "median of the finite": lambda x: x * 0 + x[:, 3:].median(1, keepdim=True)[0],
    }
    parts = {name: np.array([[np.nan, np.inf, -np.inf, 0.0, -0.0]]) for name in functions}
    own, _, torchs, _ = derivatives(functions, parts, "float64")
    for name in functions:
        np.testing.assert_allclose(own[name], torchs[name], atol=1e-13, err_msg=name)
    for name in ("abs", "tanh", "sin", "round", "clamp", "trunc", "square"):
        np.testing.assert_array_equal(np.signbit(own[name][3:]), np.signbit(torchs[name][3:]), name)


def conv(kind, x, weight, **keywords):
    return kind(
        x, torch.linspace(-1, 1, int(np.prod(weight)), dtype=x.dtype).reshape(weight), **keywords
    )


def indices(x, *values):
    return torch.tensor(values, device=x.device)


# Each from [1, 4, 6] to anything.
SHAPED = {
    "conv1d": lambda x: conv(nnF.conv1d, x, (3, 4, 3)),
    "conv1d, all options": lambda x: conv(
        nnF.conv1d, x, (6, 2, 2), stride=2, padding=3, dilation=2, groups=2
    ),
    "conv1d, same": lambda x: conv(nnF.conv1d, x, (4, 4, 3), padding="same"),
    "conv1d, bias": lambda x: nnF.conv1d(x, x.new_ones(2, 4, 1), x.new_ones(2)),
    "conv2d": lambda x: conv(nnF.conv2d, x[:, None], (4, 1, 3, 2), padding=(1, 0)),
    "conv2d, depthwise": lambda x: conv(
        nnF.conv2d, x[:, :, None], (8, 1, 1, 3), groups=4, stride=2
    ),
    "conv_transpose1d": lambda x: conv(
        nnF.conv_transpose1d, x, (4, 3, 3), stride=3, padding=1, output_padding=1, dilation=2
    ),
    "conv_transpose1d, groups": lambda x: conv(
        nnF.conv_transpose1d, x, (4, 3, 2), stride=2, groups=2
    ),
    "conv_transpose2d": lambda x: conv(
        nnF.conv_transpose2d, x[:, None], (1, 2, 2, 3), stride=(2, 1)
    ),
    "avg_pool": lambda x: nnF.avg_pool1d(x, 3, 2, 1),
    "avg_pool, all options": lambda x: nnF.avg_pool2d(
        x[:, None], (2, 3), (3, 2), (1, 0), ceil_mode=True, count_include_pad=False
    ),
    "avg_pool, ceil": lambda x: nnF.avg_pool2d(x[:, None], 3, 2, 1, ceil_mode=True),
    "avg_pool, divisor": lambda x: nnF.avg_pool2d(x[:, None], 2, divisor_override=3),
    "adaptive_avg_pool": lambda x: nnF.adaptive_avg_pool1d(x, 4),
    "max_pool": lambda x: nnF.max_pool1d(x, 2),
    "max_pool, all options": lambda x: nnF.max_pool2d(
        x[:, None], 2, (2, 3), 1, dilation=(1, 2), ceil_mode=True
    ),
    "unfold": lambda x: x.unfold(2, 3, 2),
    "batch_norm": lambda x: nnF.batch_norm(
        x, x.new_ones(4), x.new_full((4,), 2.0), x.new_full((4,), 3.0), x.new_ones(4)
    ),
    "group_norm": lambda x: nnF.group_norm(x, 2, x.new_full((4,), 2.0), x.new_ones(4)),
    "layer_norm": lambda x: nnF.layer_norm(x, (6,), x.new_full((6,), 2.0)),
    "instance_norm": nnF.instance_norm,
    "rms_norm": lambda x: nnF.rms_norm(x, (6,), eps=1e-6),
    "normalize": lambda x: nnF.normalize(x, dim=-1),
    "norm": lambda x: torch.linalg.vector_norm(x, dim=2),
    "norm of zeros": lambda x: torch.linalg.vector_norm(0 * x, dim=2),
    "norm 1": lambda x: torch.linalg.vector_norm(x, 1, dim=2),
    "norm inf": lambda x: torch.linalg.vector_norm(x, float("inf"), dim=2, keepdim=True),
    "norm 3": lambda x: torch.norm(x, p=3, dim=(1, 2)),
    "frobenius": lambda x: torch.linalg.matrix_norm(x),
    "matrix_exp": lambda x: torch.matrix_exp(x[:, :, :4] / 10),
    "solve": lambda x: torch.linalg.solve(
        x[:, :, :4] + 9 * torch.eye(4, dtype=x.dtype), x[:, :, 4:]
    ),
    "solve, right": lambda x: torch.linalg.solve(
        x[0, :, :4] + 9 * torch.eye(4, dtype=x.dtype), x[0, :2, 2:], left=False
    )[None],
    "solve, vector": lambda x: torch.linalg.solve(
        x[0, :, :4] + 9 * torch.eye(4, dtype=x.dtype), x[0, :, 5]
    )[None],
    "inv": lambda x: torch.linalg.inv(x[:, :, :4] + 9 * torch.eye(4, dtype=x.dtype)),
    "det": lambda x: torch.linalg.det(x[:, :, :4] / 3),
    "inv_ex": lambda x: torch.linalg.inv_ex(x[:, :, :4] + 9 * torch.eye(4, dtype=x.dtype))[0],
    "slogdet": lambda x: torch.linalg.slogdet(positive(x))[1] * x[:, 0, 0],
    "cholesky": lambda x: torch.linalg.cholesky(positive(x)),
    "cholesky, upper": lambda x: torch.linalg.cholesky(positive(x), upper=True),
    "one triangle": lambda x: torch.linalg.eigvalsh(positive(x) + torch.ones(4, 4).triu(1)),
    "cholesky_solve": lambda x: torch.cholesky_solve(x, torch.linalg.cholesky(positive(x))),
    "solve_triangular": lambda x: torch.linalg.solve_triangular(
        positive(x)[0].tril(), x, upper=False
    ),
    "qr": lambda x: torch.linalg.qr(x.mT)[0],
    "svd": lambda x: polar(*torch.linalg.svd(x, full_matrices=False)),
    "spectral norm": lambda x: x / torch.linalg.matrix_norm(x, 2),
    "eigh": lambda x: polar(*torch.linalg.eigh(positive(x))),
    "eigvalsh": lambda x: torch.linalg.eigvalsh(positive(x)),
    "pinv": torch.linalg.pinv,
    "pinv, absolute tolerance": lambda x: torch.linalg.pinv(x, atol=2.0),
    "pinv, relative tolerance": lambda x: torch.linalg.pinv(x, rtol=0.5),
    "pinv, symmetric": lambda x: torch.linalg.pinv(positive(x), hermitian=True),
    "pinv, one triangle": lambda x: torch.linalg.pinv(
        positive(x) + torch.ones(4, 4).triu(1), hermitian=True
    ),
    "einsum": lambda x: torch.einsum("bij,bkj->bik", x, x),
    "einsum, three": lambda x: torch.einsum("bij,bik,bjl->kl", x, x, x.transpose(1, 2) @ x)[None],
    "outer": lambda x: torch.outer(x[0, 0], x[0, 1])[None],
    "addbmm": lambda x: torch.addbmm(x[0] @ x[0].mT, x, x.mT, beta=0.5, alpha=2)[None],
    "bmm": lambda x: torch.baddbmm(x @ x.mT, x, x.mT, beta=0.5, alpha=2),
    "softmax": lambda x: x.softmax(-1),
    "log_softmax": lambda x: nnF.log_softmax(x, 1),
    "masked softmax": lambda x: x.masked_fill(
        torch.ones(4, 6, dtype=torch.bool).triu(1), -torch.inf
    ).softmax(-1),
    "attention": lambda x: nnF.scaled_dot_product_attention(x, x, x),
    "logsumexp": lambda x: torch.logsumexp(x, (1, 2)),
    "logsumexp, large": lambda x: torch.logsumexp(100 * x, 2),
    "sum": lambda x: x.sum((1, 2)),
    "mean": lambda x: x.mean(1, keepdim=True),
    "var": lambda x: x.var(2),
    "std": lambda x: x.std(2, correction=0),
    "std, all equal": lambda x: (0 * x).std(2),
    "prod": lambda x: x.prod(2),
    "amax": lambda x: x.amax((1, 2)),
    "max": lambda x: x.max(dim=2).values,
    "min": lambda x: x.min(dim=1, keepdim=True)[0],
    "argmax": lambda x: x.argmax(2) + 0 * x.sum(2),
    "sort": lambda x: x.sort(2, descending=True).values,
    "argsort": lambda x: x.gather(2, x.argsort(2)),
    "topk": lambda x: x.topk(3, 2)[0],
    "topk, lowest": lambda x: x.topk(2, 1, largest=False)[0],
    "k winners": lambda x: torch.zeros_like(x).scatter(2, *reversed(x.topk(2, 2))),
    "cummax": lambda x: x.cummax(2).values,
    "cummin": lambda x: x.cummin(1)[0],
    "logcumsumexp": lambda x: x.logcumsumexp(-1),
    "median": lambda x: x.median(2, keepdim=True)[0] + x.median(),
    "kthvalue": lambda x: x.kthvalue(2, 1).values,
    "bucketize": lambda x: x + torch.bucketize(x, indices(x, -1, 0, 1).to(x.dtype)),
    "bucketize, right": lambda x: x + torch.bucketize(x.round(), indices(x, -1, 0, 1), right=True),
    "searchsorted, one for all": lambda x: torch.searchsorted(indices(x, -1, 0, 1), x) * x,
    "searchsorted, sorter": lambda x: (
        x + torch.searchsorted(x.detach(), x, side="right", sorter=x.argsort(2))
    ),
    "searchsorted": lambda x: x + torch.searchsorted(x.sort(2).values.detach(), x, right=True),
    "cumsum": lambda x: x.cumsum(2),
    "cumprod": lambda x: x.cumprod(1),
    "any, all": lambda x: (x > 0).any(2) * x[..., 0] + (x > 0).all(2) * x[..., 1],
    "triu": lambda x: x.triu(1),
    "tril": lambda x: x.tril(-1),
    "diag": lambda x: torch.diag_embed(x[:, 0]) @ x.mT,
    "diagonal": lambda x: x.diagonal(1, 1, 2),
    "cat": lambda x: torch.cat([x[:, :2], x[:, 1:]], -2),
    "stack": lambda x: torch.stack([x, 2 * x], -1),
    "chunk": lambda x: torch.tanh(x.chunk(3, -1)[1]),
    "unbind": lambda x: x.unbind(1)[2] * x.unbind(2)[0].sum(),
    "slices": lambda x: x[:, -3:, ::2] + x[:, 1:4, 1:100:2],
    "slice backwards": lambda x: x.flip(2)[..., 4:2],
    "set a slice": lambda x: set_part(x),
    "roll": lambda x: x.roll(2, -1) + x.roll((1, -1), (1, 2)),
    "roll all": lambda x: x.roll(5),
    "pad": lambda x: nnF.pad(x, (1, 2, -1, 0), value=0.5),
    "pad around": lambda x: (
        nnF.pad(x, (2, 2), mode="circular") + nnF.pad(x, (2, 2), mode="reflect")
    ),
    "repeat": lambda x: x.repeat(2, 1, 1, 2)[:1],
    "expand": lambda x: x[:, :1].expand(-1, 3, -1) * 2,
    "repeat_interleave": lambda x: x.repeat_interleave(2, 1),
    "index": lambda x: x[:, indices(x, 3, 0, -1)] * 2,
    "two indices": lambda x: x[:, indices(x, 0, 1), indices(x, 5, 4)],
    "mask": lambda x: x[:, torch.tensor([True, False, True, True])],
    "opposite mask": lambda x: x[:, ~(torch.arange(4) < 3)],
    "index_select": lambda x: x.index_select(2, indices(x, 1, 1, 0)),
    "index_add": lambda x: x.index_add(2, indices(x, 0, 0), x[:, :, :2]),
    "index_put": lambda x: put(x),
    "gather": lambda x: x.gather(1, indices(x, [[0, 1, 2, 3, 0, 1]])),
    "scatter_add": lambda x: x.scatter_add(2, indices(x, [[0, 0, 2], [1, 1, 1]]), 2 * x[:, :2, :3]),
    "scatter value": lambda x: x.scatter(2, indices(x, [[0, 0, 2], [1, 1, 1]]), 1.5),
    "embedding": lambda x: nnF.embedding(indices(x, 1, 0), x[0])[None],
    "one_hot": lambda x: nnF.one_hot(indices(x, 1, 3, 0), 4).to(x.dtype) @ x,
    "meshgrid": lambda x: torch.meshgrid(x[0, 0], x[0, 1], indexing="ij")[0][None],
    "linspace": lambda x: x * torch.linspace(0, 1, 6, dtype=x.dtype),
    "vmap": lambda x: torch.func.vmap(lambda row: row @ row)(x[0])[None],
    "fft": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=2) * 2, n=6, dim=2),
    "fft, ortho": lambda x: torch.fft.fft(x, dim=1, norm="ortho").abs(),
    "fft2": lambda x: torch.fft.ifft2(torch.fft.fft2(x) ** 2).real,
    "complex": lambda x: (torch.polar(x[..., :3].abs(), x[..., 3:]) * 1j).real,
    "integers": lambda x: x * (torch.arange(-3, 3) // 2) + torch.arange(-3, 3) % 2,
    "integer division": lambda x: x + torch.div(torch.arange(-3, 3), 2, rounding_mode="trunc"),
    "integers with numbers": lambda x: x + torch.arange(6) / 4 + torch.arange(6) * 0.5,
    "booleans": lambda x: x * ((x > 0) & ~(x > 1) | (x < -1)) + (x > 0).sum(),
    "cosine": lambda x: nnF.cosine_similarity(x[:, :1], x[:, 1:], dim=-1),
    "cdist": lambda x: torch.cdist(x, x.flip(1)),
    "cdist-like": lambda x: (x[:, :, None] - x[:, None]).square().sum(-1),
    "glu": lambda x: nnF.glu(x, -1),
    "bilinear": lambda x: nnF.bilinear(x, x, x.new_ones(2, 6, 6)),
}


def positive(x):
    return x @ x.mT + torch.diag(torch.arange(1.0, 5.0).to(x.dtype))


def polar(*factors):
    """Return what does not depend on the signs of singular vectors or eigenvectors."""
    vectors = [factor for factor in factors if factor.ndim == 3]
    values = next(factor for factor in factors if factor.ndim == 2)
    last = vectors[1] if len(vectors) == 2 else vectors[0].mT
    return (vectors[0] * values.sqrt()[:, None]) @ last


def set_part(x):
    y = torch.zeros_like(x)
    y[:, 1:3] = 2 * x[:, :2]
    y[:, 0, 2] += x[:, 3, 3]
    return y


def put(x):
    y = x.clone()
    y[:, indices(x, 0, 2)] = 3 * x[:, 1:3]
    return y


@pytest.mark.one_in(2)
@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_operations_on_axes(dtype):
    rng = np.random.default_rng(0)

    def fitted(function):
        def call(x):
            value = function(x)
            return torch.cat([value.reshape(1, -1), x.reshape(1, -1)], 1)[:, :24].reshape(1, 4, 6)

        return call

    parts = {name: rng.normal(size=(1, 4, 6)) for name in SHAPED}
    compare({name: fitted(function) for name, function in SHAPED.items()}, parts, dtype)
