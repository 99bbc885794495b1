"""PyTorch's core operations, those of its namespace `aten`, as functions of JAX arrays.

A value is computed by the same formula as in PyTorch. A derivative is PyTorch's too where a
function has several, as at a kink: `relu` has the slope 0 at 0, and `clamp` the slope 1 at its
bounds. Functions that PyTorch would express by others are here if those lose digits or derivatives:
`log1p(exp(x))`, for example, has none where `exp` overflows.
"""

import math
import operator
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax


def counterpart(name: str) -> Callable[..., Any] | None:
    """Return what computes an operation, such as `aten.add.Tensor`; `None` if there is nothing.

    An entry without the name of an overload holds for all of them.
    """
    return _TABLE.get(name) or _TABLE.get(name.rpartition(".")[0])


# ---- elements ------------------------------------------------------------------------------------


def _abs(a: Any) -> Any:
    # The slope at 0 is 0; that of `jnp.abs` is 1.
    return jnp.abs(a) if jnp.iscomplexobj(a) else a * jnp.sign(a)


def _clamp(a: Any, low: Any = None, high: Any = None) -> Any:
    a = a if low is None else jnp.where(a < low, low, a)
    return a if high is None else jnp.where(a > high, high, a)


def _hardtanh(a: Any, low: Any = -1.0, high: Any = 1.0) -> Any:
    # Other than that of `clamp`, its slope at the bounds is 0.
    return jnp.where(a <= low, low, jnp.where(a >= high, high, a))


def _hardsigmoid(a: Any) -> Any:
    return jnp.where(a <= -3, 0.0, jnp.where(a >= 3, 1.0, a / 6 + 0.5))


def _hardswish(a: Any) -> Any:
    return jnp.where(a <= -3, 0.0, jnp.where(a >= 3, a, a * (a + 3) / 6))


def _elu(a: Any, alpha: Any = 1.0, scale: Any = 1.0, input_scale: Any = 1.0) -> Any:
    below = alpha * jnp.expm1(jnp.where(a > 0, 0, a) * input_scale)
    return scale * jnp.where(a > 0, a, below)


def _softplus(a: Any, beta: Any = 1.0, threshold: Any = 20.0) -> Any:
    linear = a * beta > threshold
    return jnp.where(linear, a, jnp.log1p(jnp.exp(jnp.where(linear, 0, a * beta))) / beta)


def _log_sigmoid(a: Any) -> Any:
    return jnp.minimum(a, 0) - jnp.log1p(jnp.exp(-_abs(a)))


def _gelu(a: Any, approximate: str = "none") -> Any:
    if approximate == "tanh":
        return 0.5 * a * (1 + jnp.tanh(math.sqrt(2 / math.pi) * (a + 0.044715 * a**3)))
    return 0.5 * a * (1 + lax.erf(a * math.sqrt(0.5)))


def _power(a: Any, exponent: Any) -> Any:
    # A whole number, since `a**2.0` of a negative number has no derivative.
    whole = isinstance(exponent, float) and exponent.is_integer() and _is_inexact(a)
    return jnp.power(a, int(exponent) if whole else exponent)


def _divide(a: Any, b: Any, rounding_mode: str | None = None) -> Any:
    if rounding_mode is None:
        return jnp.true_divide(a, b)
    if rounding_mode == "floor":
        return jnp.round(jnp.floor_divide(a, b))  # which is whole, but has a derivative else
    if _is_inexact(a) or _is_inexact(b):
        return jnp.trunc(jnp.true_divide(a, b))
    return jnp.sign(a) * jnp.sign(b) * jnp.floor_divide(jnp.abs(a), jnp.abs(b))


def _is_inexact(a: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(a), jnp.inexact)


# ---- reductions ----------------------------------------------------------------------------------


def _axes(dims: Any) -> Any:
    if isinstance(dims, (list, tuple)):
        return tuple(dims) or None  # no axes mean all of them
    return dims


def _reduced(reduce: Any) -> Callable[..., Any]:
    """Return a reduction with PyTorch's arguments: axes, whether to keep them, and a type."""

    def call(a: Any, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
        a = a if dtype is None else a.astype(dtype)
        return reduce(a, _axes(dim), keepdims=keepdim)

    return call


def _variance(a: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    return jnp.var(a, _axes(dim), ddof=correction, keepdims=keepdim)


def _deviation(a: Any, dim: Any = None, correction: Any = 1, keepdim: bool = False) -> Any:
    variance = _variance(a, dim, correction, keepdim)
    # Where all entries are equal there is a kink; PyTorch has a derivative of 0 there.
    return jnp.where(variance == 0, 0, jnp.sqrt(jnp.where(variance == 0, 1, variance)))


def _norm(a: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, dtype: Any = None) -> Any:
    a, axes = _abs(a if dtype is None else a.astype(dtype)), _axes(dim)
    if math.isinf(ord):
        return (jnp.max if ord > 0 else jnp.min)(a, axes, keepdims=keepdim)
    if ord == 0:
        return jnp.sum(a != 0, axes, keepdims=keepdim).astype(a.dtype)
    if ord == 1:
        return jnp.sum(a, axes, keepdims=keepdim)
    total = jnp.sum(a**ord, axes, keepdims=keepdim)
    # The derivative at 0 is 0.
    is_zero = total == 0
    root = jnp.sqrt if ord == 2 else lambda t: t ** (1 / ord)
    return jnp.where(is_zero, 0, root(jnp.where(is_zero, 1, total)))


def _softmax(a: Any, dim: int, half_to_float: bool = False) -> Any:
    return jnp.exp(_log_softmax(a, dim))


def _log_softmax(a: Any, dim: int, half_to_float: bool = False) -> Any:
    shifted = a - lax.stop_gradient(jnp.max(a, dim, keepdims=True))
    return shifted - jnp.log(jnp.sum(jnp.exp(shifted), dim, keepdims=True))


def _logsumexp(a: Any, dim: Any, keepdim: bool = False) -> Any:
    return jax.scipy.special.logsumexp(a, axis=_axes(dim), keepdims=keepdim)


def _highest(order: Any) -> Callable[..., Any]:
    """Return `max` or `min` with the index, which the derivative follows."""

    def call(a: Any, dim: int, keepdim: bool = False) -> Any:
        index = order(a, dim, keepdims=True)
        value = jnp.take_along_axis(a, index, dim)
        return (value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim))

    return call


def _sort(a: Any, dim: int = -1, descending: bool = False, stable: Any = None) -> Any:
    order = jnp.argsort(a, dim, stable=True, descending=descending)
    return jnp.take_along_axis(a, order, dim), order


def _topk(a: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    return [lax.slice_in_dim(part, 0, k, axis=dim) for part in _sort(a, dim, largest)]


def _ranked(a: Any, rank: Any, dim: int, keepdim: bool = False) -> Any:
    """Return the entries of a rank, from 0 for the lowest, with their indices."""
    shape = [1 if axis == dim % a.ndim else n for axis, n in enumerate(a.shape)]
    index = jnp.take_along_axis(jnp.argsort(a, dim), jnp.broadcast_to(rank, shape), dim)
    value = jnp.take_along_axis(a, index, dim)
    return (value, index) if keepdim else (value.squeeze(dim), index.squeeze(dim))


def _median(a: Any, dim: Any = None, keepdim: bool = False) -> Any:
    if dim is None:
        return _median(a.ravel(), 0)[0]
    last = a.shape[dim] - 1
    has_nan = jnp.isnan(a).any(dim, keepdims=True)  # which comes last, and is the median
    return _ranked(a, jnp.where(has_nan, last, last // 2), dim, keepdim)


def _highest_so_far(running: Any) -> Callable[..., Any]:
    """Return `cummax` or `cummin` with the index of the last one, which the derivative follows."""

    def call(a: Any, dim: int) -> Any:
        axis = dim % a.ndim
        is_one = (a == running(a, axis)) | jnp.isnan(a)
        places = lax.broadcasted_iota(jnp.int32, a.shape, axis)
        index = lax.cummax(jnp.where(is_one, places, 0), axis)
        return jnp.take_along_axis(a, index, axis), index

    return call


# ---- normalisation and convolution ---------------------------------------------------------------


def _standardized(a: Any, axes: tuple[int, ...], eps: float) -> tuple[Any, Any, Any]:
    mean = jnp.mean(a, axes, keepdims=True)
    scale = lax.rsqrt(jnp.var(a, axes, keepdims=True) + eps)
    return (a - mean) * scale, mean, scale


def _affine(a: Any, weight: Any, bias: Any) -> Any:
    a = a if weight is None else a * weight
    return a if bias is None else a + bias


def _layer_norm(a: Any, shape: Any, weight: Any, bias: Any, eps: float) -> Any:
    standard, *rest = _standardized(a, tuple(range(a.ndim - len(shape), a.ndim)), eps)
    return _affine(standard, weight, bias), *rest


def _along_channels(weight: Any, a: Any) -> Any:
    return None if weight is None else weight.reshape(-1, *[1] * (a.ndim - 2))


def _batch_norm(
    a: Any, weight: Any, bias: Any, mean: Any, variance: Any, momentum: float, eps: float
) -> Any:
    weight, bias, mean, variance = (_along_channels(w, a) for w in (weight, bias, mean, variance))
    return _affine((a - mean) * lax.rsqrt(variance + eps), weight, bias), None, None


def _group_norm(
    a: Any, weight: Any, bias: Any, n: int, c: int, size: int, groups: int, eps: float
) -> Any:
    standard, *rest = _standardized(a.reshape(n, groups, -1), (2,), eps)
    weight, bias = _along_channels(weight, a), _along_channels(bias, a)
    return _affine(standard.reshape(a.shape), weight, bias), *rest


def _instance_norm(
    a: Any, weight: Any, bias: Any, training: bool, momentum: float, eps: float
) -> Any:
    standard, *rest = _standardized(a, (0, *range(2, a.ndim)), eps)
    return _affine(standard, _along_channels(weight, a), _along_channels(bias, a)), *rest


def _convolution(
    a: Any,
    weight: Any,
    bias: Any,
    stride: Any,
    padding: Any,
    dilation: Any,
    transposed: bool,
    output_padding: Any,
    groups: int,
) -> Any:
    dims = weight.ndim - 2
    stride, padding, dilation, more = (
        list(each) * (dims if len(each) == 1 else 1)
        for each in (stride, padding, dilation, output_padding)
    )
    pads, inner = [(p, p) for p in padding], None
    if transposed:  # a convolution of the stretched input with the flipped kernel
        inner, stride = stride, [1] * dims
        reach = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        pads = [(r - p, r - p + m) for r, p, m in zip(reach, padding, more, strict=True)]
        weight = jnp.flip(weight, tuple(range(2, weight.ndim)))
        weight = weight.reshape(groups, -1, *weight.shape[1:]).swapaxes(1, 2)
        weight = weight.reshape(-1, *weight.shape[2:])
    out = lax.conv_general_dilated(
        a, weight, stride, pads, inner, dilation, feature_group_count=groups
    )
    return _affine(out, None, _along_channels(bias, out))


def _windows(
    a: Any,
    start: Any,
    reduce: Any,
    kernel: Any,
    stride: Any,
    padding: Any,
    dilation: Any = (1,),
    ceil: bool = False,
) -> Any:
    """Reduce the windows on the last two axes."""
    kernel, stride, padding, dilation = (
        tuple(each) * (2 // len(each)) for each in (kernel, stride or kernel, padding, dilation)
    )
    pads = [(0, 0)] * (a.ndim - 2)
    for n, k, s, p, d in zip(a.shape[-2:], kernel, stride, padding, dilation, strict=True):
        rest = (n + 2 * p - d * (k - 1) - 1) % s
        # One more window, if it starts before what is padded on the right.
        steps = (n + 2 * p - d * (k - 1) - 1 - rest) // s + 1
        pads.append((p, p + (s - rest if ceil and rest and steps * s < n + p else 0)))
    lead = (1,) * (a.ndim - 2)
    return lax.reduce_window(
        a, start, reduce, lead + kernel, lead + stride, pads, window_dilation=lead + dilation
    )


def _max_pool(
    a: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0,),
    dilation: Any = (1,),
    ceil: bool = False,
) -> Any:
    return _windows(a, -jnp.inf, lax.max, kernel, stride, padding, dilation, ceil), None


def _mean_pool(
    a: Any,
    kernel: Any,
    stride: Any = (),
    padding: Any = (0,),
    ceil: bool = False,
    count_padding: bool = True,
    divisor: Any = None,
) -> Any:
    total = _windows(a, 0.0, lax.add, kernel, stride, padding, ceil=ceil)
    if divisor is not None:
        return total / divisor
    counted = jnp.ones(a.shape[-2:], a.dtype)
    if count_padding:
        high, wide = tuple(padding) * (2 // len(padding))
        counted, padding = jnp.pad(counted, ((high, high), (wide, wide)), constant_values=1), (0,)
    return total / _windows(counted, 0.0, lax.add, kernel, stride, padding, ceil=ceil)


def _mean_of_parts(a: Any, shape: Any) -> Any:
    """Return the means of so many parts of the last two axes, which may overlap."""
    for axis, parts in zip((a.ndim - 2, a.ndim - 1), shape, strict=True):
        n = a.shape[axis]
        ends = [(i * n // parts, -(-(i + 1) * n // parts)) for i in range(parts)]
        means = [lax.slice_in_dim(a, *end, axis=axis).mean(axis, keepdims=True) for end in ends]
        a = jnp.concatenate(means, axis)
    return a


# ---- matrices ------------------------------------------------------------------------------------


def _add_product(c: Any, a: Any, b: Any, beta: Any = 1, alpha: Any = 1) -> Any:
    product = a @ b if alpha == 1 else alpha * (a @ b)
    return product if beta == 0 else (c if beta == 1 else beta * c) + product


def _trilinear(
    factors: Any, first: Any, second: Any, third: Any, dims: Any, unroll: int = 1
) -> Any:
    new = zip(factors, (first, second, third), strict=True)
    a, b, c = (jnp.expand_dims(factor, tuple(axes)) for factor, axes in new)
    return jnp.sum(a * b * c, tuple(dims))


def _solve(a: Any, b: Any, left: bool = True) -> Any:
    if not left:
        return jnp.swapaxes(_solve(jnp.swapaxes(a, -1, -2), jnp.swapaxes(b, -1, -2)), -1, -2)
    is_vector = b.ndim == 1 or (b.ndim == a.ndim - 1 and b.shape == a.shape[:-1])
    return jnp.linalg.solve(a, b[..., None])[..., 0] if is_vector else jnp.linalg.solve(a, b)


def _solve_triangular(
    a: Any, b: Any, upper: bool, left: bool = True, unitriangular: bool = False
) -> Any:
    lead = jnp.broadcast_shapes(a.shape[:-2], b.shape[:-2])
    a, b = (jnp.broadcast_to(m, lead + m.shape[-2:]) for m in (a, b))
    return lax.linalg.triangular_solve(
        a, b, left_side=left, lower=not upper, unit_diagonal=unitriangular
    )


def _qr(a: Any, mode: str = "reduced") -> Any:
    return (None, jnp.linalg.qr(a, "r")) if mode == "r" else jnp.linalg.qr(a, mode)


# The signs of singular vectors and eigenvectors are arbitrary, here as in PyTorch.
def _svd(a: Any, full_matrices: bool = False, compute_uv: bool = True, driver: Any = None) -> Any:
    if not compute_uv:
        return None, jnp.linalg.svd(a, compute_uv=False), None
    return jnp.linalg.svd(a, full_matrices)


def _of_triangle(a: Any, is_upper: bool) -> Any:
    """Return the symmetric matrix of one triangle, all that PyTorch looks at."""
    half = jnp.triu(a, 1) if is_upper else jnp.tril(a, -1)
    diagonal = jnp.where(jnp.eye(a.shape[-1], dtype=bool), a, 0)
    return half + diagonal + jnp.swapaxes(half, -1, -2)


def _cholesky(a: Any, upper: bool = False, check_errors: bool = False) -> Any:
    return jnp.linalg.cholesky(_of_triangle(a, upper), upper=upper), None


def _eigh(a: Any, triangle: str = "L", compute_v: bool = True) -> Any:
    a = _of_triangle(a, triangle == "U")
    return jnp.linalg.eigh(a) if compute_v else (jnp.linalg.eigvalsh(a), None)


@jax.custom_jvp
def _inverse_of_large(a: Any, relative: Any, absolute: Any) -> Any:
    """Return the pseudoinverse that takes singular values up to a tolerance for 0."""
    u, values, v = jnp.linalg.svd(a, full_matrices=False)
    is_zero = values <= jnp.maximum(absolute[..., None], relative[..., None] * values[..., :1])
    inverses = jnp.where(is_zero, 0, 1 / jnp.where(is_zero, 1, values))
    return (jnp.swapaxes(v, -1, -2) * inverses[..., None, :]) @ jnp.swapaxes(u, -1, -2)


@_inverse_of_large.defjvp
def _derivative_of_inverse(primals: Any, tangents: Any) -> Any:
    # As in PyTorch, for a rank that stays (Golub and Pereyra, 1973, equation 4.12).
    a, da = primals[0], tangents[0]
    p = _inverse_of_large(*primals)
    p_t, da_t = (jnp.swapaxes(m, -1, -2) for m in (p, da))
    outside = p @ p_t @ da_t - (p @ p_t) @ (da_t @ a) @ p
    inside = da_t @ p_t @ p - p @ (a @ da_t) @ (p_t @ p)
    return p, outside + inside - p @ da @ p


def _pseudoinverse(a: Any, atol: Any = None, rtol: Any = None, hermitian: bool = False) -> Any:
    a = _of_triangle(a, is_upper=False) if hermitian else a
    rounding = max(a.shape[-2:]) * jnp.finfo(a.dtype).eps if atol is None else 0.0
    relative = jnp.asarray(rounding if rtol is None else rtol, a.dtype)
    return _inverse_of_large(a, relative, jnp.asarray(0.0 if atol is None else atol, a.dtype))


# ---- shapes and places ---------------------------------------------------------------------------


def _reshape(a: Any, shape: Any) -> Any:
    return jnp.reshape(a, tuple(shape))


def _expand(a: Any, shape: Any, implicit: bool = False) -> Any:
    lead = len(shape) - a.ndim
    return jnp.broadcast_to(a, [a.shape[i - lead] if n == -1 else n for i, n in enumerate(shape)])


def _squeeze(a: Any, dim: Any = None) -> Any:
    dims = range(a.ndim) if dim is None else dim if isinstance(dim, (list, tuple)) else [dim]
    return jnp.squeeze(a, tuple(d for d in dims if a.shape[d] == 1))


def _part(a: Any, dim: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * (dim % a.ndim) + (index,)


def _slice(a: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    start, end, step = slice(start, end, step).indices(a.shape[dim])
    return lax.slice_in_dim(a, start, max(start, end), step, dim)


def _slice_scatter(
    a: Any, source: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1
) -> Any:
    return a.at[_part(a, dim, slice(start, end, step))].set(source)


def _split(a: Any, sizes: Any, dim: int = 0) -> Any:
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    return [lax.slice_in_dim(a, e - n, e, axis=dim) for e, n in zip(ends, sizes, strict=True)]


def _unbind(a: Any, dim: int = 0) -> Any:
    return [lax.index_in_dim(a, i, dim, keepdims=False) for i in range(a.shape[dim])]


def _pad(a: Any, pads: Any, value: Any = 0) -> Any:
    pairs = [(low, high, 0) for low, high in zip(pads[::2], pads[1::2], strict=True)]
    whole = [(0, 0, 0)] * (a.ndim - len(pairs)) + pairs[::-1]  # the last axis comes first
    return lax.pad(a, jnp.asarray(value, a.dtype), whole)


def _places(indices: Any) -> tuple[Any, ...]:
    return tuple(slice(None) if index is None else index for index in indices)


def _unfold(a: Any, dim: int, size: int, step: int) -> Any:
    """Return the windows on an axis, with their entries on a new last one."""
    starts = jnp.arange(0, a.shape[dim] - size + 1, step)
    windows = jnp.take(a, starts[:, None] + jnp.arange(size), dim % a.ndim)
    return jnp.moveaxis(windows, dim % a.ndim + 1, -1)


def _bins(
    edges: Any,
    a: Any,
    out_int32: bool = False,
    right: bool = False,
    side: Any = None,
    sorter: Any = None,
) -> Any:
    edges = edges if sorter is None else jnp.take_along_axis(edges, sorter, -1)
    closed = "right" if right or side == "right" else "left"
    if edges.ndim == 1:
        return jnp.searchsorted(edges, a, closed)
    by_row = jnp.vectorize(jnp.searchsorted, excluded={2}, signature="(m),(n)->(n)")
    return by_row(edges, a, closed)


def _index_put(a: Any, indices: Any, values: Any, accumulate: bool = False) -> Any:
    at = a.at[_places(indices)]
    return at.add(values) if accumulate else at.set(values)


def _along(index: Any, dim: int) -> tuple[Any, ...]:
    """Return the places that `index` points to on one axis, and its own places on the others."""
    places = list(jnp.meshgrid(*map(jnp.arange, index.shape), indexing="ij"))
    places[dim] = index
    return tuple(places)


def _scatter(how: str) -> Callable[..., Any]:
    def call(a: Any, dim: int, index: Any, source: Any) -> Any:
        if jnp.ndim(source):
            source = source[tuple(slice(0, n) for n in index.shape)]
        return getattr(a.at[_along(index, dim)], how)(source)

    return call


# ---- making and converting -----------------------------------------------------------------------


def _cast(a: Any, dtype: Any = None) -> Any:
    return jnp.asarray(a, dtype)


def _full(shape: Any, value: Any, dtype: Any = None) -> Any:
    return jnp.full(tuple(shape), value, dtype)


def _arange(start: Any, end: Any, step: Any = 1, dtype: Any = None) -> Any:
    return jnp.arange(start, end, step, dtype)


# Of `jnp`, by the same name or by another one.
_OF_NUMPY = """
    exp exp2 expm1 log log1p log2 log10 sqrt sin cos tan sinh cosh tanh floor ceil trunc copysign
    isnan isinf logical_not logical_and logical_or logical_xor bitwise_not bitwise_and bitwise_or
    bitwise_xor reciprocal fmod remainder maximum minimum logaddexp where matmul flip real imag triu
    tril acos:arccos acosh:arccosh asin:arcsin asinh:arcsinh atan:arctan atan2:arctan2 atanh:arctanh
    eq:equal ne:not_equal lt:less le:less_equal gt:greater ge:greater_equal mul:multiply
    neg:negative _conj:conj bmm:matmul dot:matmul mm:matmul mv:matmul permute:transpose
    unsqueeze:expand_dims max.default:max min.default:min scalar_tensor:asarray hypot
"""
_OF_SCIPY = """
    erf erfc erfinv lgamma:gammaln xlogy special_i0e:i0e special_i1:i1 special_i1e:i1e
    special_log_ndtr:log_ndtr
"""

_TABLE: dict[str, Callable[..., Any]] = {}
for _module, _names in ((jnp, _OF_NUMPY), (jax.scipy.special, _OF_SCIPY)):
    for _name, _, _own in (pair.partition(":") for pair in _names.split()):
        _TABLE[f"aten.{_name}"] = getattr(_module, _own or _name)
_TABLE |= {
    f"aten.{name}": function
    for name, function in {
        # elements
        "abs": _abs,
        "add": lambda a, b, alpha=1: jnp.add(a, b if alpha == 1 else jnp.multiply(alpha, b)),
        "clamp": _clamp,
        "div": _divide,
        "elu": _elu,
        "floor_divide": lambda a, b: _divide(a, b, "floor"),
        "gelu": _gelu,
        "hardsigmoid": _hardsigmoid,
        "hardswish": _hardswish,
        "hardtanh": _hardtanh,
        "leaky_relu": lambda a, slope=0.01: jnp.where(a > 0, a, a * slope),
        "log_sigmoid_forward": lambda a: (_log_sigmoid(a), None),
        "mish": lambda a: a * jnp.tanh(_softplus(a)),
        "pow": _power,
        "relu": lambda a: jnp.where(a <= 0, jnp.zeros_like(a), a),
        "round": lambda a, decimals=0: jnp.round(a, decimals),
        "rsqrt": lax.rsqrt,
        "rsub": lambda a, b, alpha=1: jnp.subtract(b, a if alpha == 1 else alpha * a),
        "sigmoid": lax.logistic,
        "sign": lambda a: (a > 0).astype(a.dtype) - (a < 0).astype(a.dtype),  # of NaN: 0
        "silu": lambda a: a * lax.logistic(a),
        "softplus": _softplus,
        "sub": lambda a, b, alpha=1: jnp.subtract(a, b if alpha == 1 else jnp.multiply(alpha, b)),
        # reductions
        "_log_softmax": _log_softmax,
        "_softmax": _softmax,
        "all": _reduced(jnp.all),
        "amax": _reduced(jnp.max),
        "amin": _reduced(jnp.min),
        "any": _reduced(jnp.any),
        "argmax": _reduced(jnp.argmax),
        "argmin": _reduced(jnp.argmin),
        "cummax": _highest_so_far(lax.cummax),
        "cummin": _highest_so_far(lax.cummin),
        "cumprod": lambda a, dim, dtype=None: jnp.cumprod(a, dim, dtype),
        "cumsum": lambda a, dim, dtype=None: jnp.cumsum(a, dim, dtype),
        "kthvalue": lambda a, k, dim=-1, keepdim=False: _ranked(a, k - 1, dim, keepdim),
        "linalg_vector_norm": _norm,
        "logcumsumexp": lambda a, dim: lax.cumlogsumexp(a, dim % a.ndim),
        "logsumexp": _logsumexp,
        "max.dim": _highest(jnp.argmax),
        "mean": _reduced(jnp.mean),
        "median": _median,
        "min.dim": _highest(jnp.argmin),
        "prod": _reduced(jnp.prod),
        "sort": _sort,
        "sum": _reduced(jnp.sum),
        "topk": _topk,
        "std.correction": _deviation,
        "var.correction": _variance,
        "var_mean.correction": lambda a, dim=None, correction=1, keepdim=False: (
            _variance(a, dim, correction, keepdim),
            jnp.mean(a, _axes(dim), keepdims=keepdim),
        ),
        # normalisation and convolution
        "_adaptive_avg_pool2d": _mean_of_parts,
        "_native_batch_norm_legit_no_training": _batch_norm,
        "_native_batch_norm_legit.no_stats": _instance_norm,
        "avg_pool2d": _mean_pool,
        "convolution": _convolution,
        "max_pool2d_with_indices": _max_pool,
        "native_dropout": lambda a, p, train: (a, None),  # no difference, or two calls differ
        "native_group_norm": _group_norm,
        "native_layer_norm": _layer_norm,
        # matrices
        "_cdist_forward": lambda a, b, p, mode: _norm(a[..., None, :] - b[..., None, :, :], p, -1),
        "_linalg_eigh": _eigh,
        "_linalg_slogdet": lambda a: (*jnp.linalg.slogdet(a), None, None),
        "_linalg_svd": _svd,
        "_trilinear": lambda a, b, c, *expands_and_sum: _trilinear((a, b, c), *expands_and_sum),
        "addbmm": lambda c, a, b, beta=1, alpha=1: _add_product(
            c, jnp.concatenate([*a], 1), jnp.concatenate([*b], 0), beta, alpha
        ),
        "addmm": _add_product,
        "baddbmm": _add_product,
        "cholesky_solve": lambda b, factor, upper=False: jax.scipy.linalg.cho_solve(
            (factor, not upper), b
        ),
        "linalg_cholesky_ex": _cholesky,
        "linalg_det": jnp.linalg.det,
        "linalg_householder_product": lax.linalg.householder_product,
        "linalg_inv": jnp.linalg.inv,
        "linalg_inv_ex": lambda a, check_errors=False: (jnp.linalg.inv(a), None),
        "linalg_matrix_exp": jax.scipy.linalg.expm,
        "linalg_pinv": _pseudoinverse,
        "linalg_qr": _qr,
        "linalg_solve": _solve,
        "linalg_solve_triangular": _solve_triangular,
        # shapes and places
        "_unsafe_view": _reshape,
        "alias": lambda a: a,
        "bucketize": lambda a, edges, **how: _bins(edges, a, **how),
        "cat": lambda parts, dim=0: jnp.concatenate([p for p in parts if p.shape != (0,)], dim),
        "clone": lambda a: a,
        "constant_pad_nd": _pad,
        "copy": lambda a, b: jnp.broadcast_to(b, a.shape).astype(a.dtype),
        "diagonal": lambda a, offset=0, dim1=0, dim2=1: jnp.diagonal(a, offset, dim1, dim2),
        "detach": lambda a: a,  # the map's own derivative, whatever training leaves out of it
        "embedding": lambda weight, index, *_: weight[index],
        "expand": _expand,
        "gather": lambda a, dim, index, sparse_grad=False: a[_along(index, dim)],
        "index": lambda a, indices: a[_places(indices)],
        "index_put": _index_put,
        "index_select": lambda a, dim, index: jnp.take(a, index, dim),
        "repeat": lambda a, repeats: jnp.tile(a, tuple(repeats)),
        "reshape": _reshape,
        "roll": lambda a, shifts, dims=(): (
            jnp.roll(a, shifts, dims) if dims else jnp.roll(a, shifts[0])
        ),
        "scatter.src": _scatter("set"),
        "scatter.value": _scatter("set"),
        "scatter_add": _scatter("add"),
        "searchsorted": _bins,
        "select": lambda a, dim, index: lax.index_in_dim(a, index, dim, keepdims=False),
        "select_scatter": lambda a, source, dim, index: a.at[_part(a, dim, index)].set(source),
        "slice": _slice,
        "slice_scatter": _slice_scatter,
        "split_with_sizes": _split,
        "squeeze": _squeeze,
        "sym_size": lambda a, dim: a.shape[dim],
        "unbind": _unbind,
        "unfold": _unfold,
        "view.default": _reshape,
        # making and converting
        "_fft_c2c": lambda a, dim, norm, forward: (jnp.fft.fftn if forward else jnp.fft.ifftn)(
            a, axes=dim, norm=_FFT[forward][norm]
        ),
        "_fft_c2r": lambda a, dim, norm, n: jnp.fft.irfftn(
            a, [*(a.shape[d] for d in dim[:-1]), n], dim, _FFT[False][norm]
        ),
        "_fft_r2c": lambda a, dim, norm, half: (jnp.fft.rfftn if half else jnp.fft.fftn)(
            a, axes=dim, norm=_FFT[True][norm]
        ),
        "_to_copy": _cast,
        "arange.start_step": _arange,
        "complex": lax.complex,
        "empty": lambda shape, dtype=None: _full(shape, 0, dtype),
        "empty_permuted": lambda shape, order, dtype=None: _full(shape, 0, dtype),
        "full": _full,
        "full_like": lambda a, value, dtype=None: jnp.full_like(a, value, dtype),
        "polar": lambda radius, angle: lax.complex(
            radius * jnp.cos(angle), radius * jnp.sin(angle)
        ),
        "view_as_complex": lambda a: lax.complex(a[..., 0], a[..., 1]),
        "view_as_real": lambda a: jnp.stack([a.real, a.imag], -1),
    }.items()
}
_TABLE |= {f"operator.{name}": getattr(operator, name) for name in ("getitem", "ge", "le")}

# PyTorch's numbers for no factor, the root of the length and the length, by direction.
_FFT = {
    True: {0: "backward", 1: "ortho", 2: "forward"},
    False: {0: "forward", 1: "ortho", 2: "backward"},
}
