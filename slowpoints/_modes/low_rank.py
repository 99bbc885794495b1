"""`low_rank`: a network with weights of low rank, in as few variables as its rank."""

import contextlib
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.arrays import filled_up, first_rows
from slowpoints._core.programs import CompiledOnce
from slowpoints._core.types import RealArray, Scalar
from slowpoints._linear_algebra import lapack
from slowpoints._network.base import Transition
from slowpoints._network.q_fn import half_squared_norm
from slowpoints._points.fixed_points import FixedPoints
from slowpoints._points.status import Status


class ReducedNetwork(Transition):
    """A network of low rank in the variables `kappa = N^T x`, one for each rank.

    The network is `x' = (1 - leak) x + leak phi(M N^T x + B u + b)`, of which `full` is the
    transition. Its units are driven through `kappa` alone, so that `kappa` follows a map of its
    own, `kappa' = (1 - leak) kappa + leak N^T phi(M kappa + B u + b)`: this transition. Made by
    [`LowRank.reduced`][slowpoints.LowRank].

    Fixed points correspond one to one: `kappa = N^T x` and `x = phi(M kappa + B u + b)`. At
    corresponding points, both Jacobians have the same eigenvalues, except that the full network has
    `1 - leak` for each of the `n_units - rank` other directions.

    Attributes:
        M: `[n_units, rank]` how the variables drive the units.
        N: `[n_units, rank]` how the units are read.
        B: `[n_units, n_inputs]` the input weights.
        b: `[n_units]` the bias.
        leak: the share of a state that is replaced in each step; 1 for units that do not leak.
        phi: the units' elementwise nonlinearity.
    """

    M: Float[Array, "n_units rank"]
    N: Float[Array, "n_units rank"]
    B: Float[Array, "n_units n_inputs"]
    b: Float[Array, " n_units"]
    leak: Float[Array, ""]
    phi: Callable[[Array], Array]

    @property
    def n_states(self) -> int:
        """The rank."""
        return self.M.shape[1]

    @property
    def n_inputs(self) -> int:
        """The length of an input."""
        return self.B.shape[1]

    def __call__(
        self, x: Float[Array, " rank"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " rank"]:
        """Return the `kappa` that follows `x` under the input `u`."""
        return (1 - self.leak) * x + self.leak * (self.N.T @ self.activity(x, u))

    def activity(
        self, kappa: Float[Array, " rank"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_units"]:
        """Return `phi(M kappa + B u + b)`, the state of the units at a fixed point `kappa`."""
        return self.phi(self.M @ kappa + self.B @ u + self.b)

    def full(self) -> Transition:
        """Return the network of all units, with the weights `M N^T`."""
        return _Full(self)

    def project(self, x: Float[RealArray, "*b n_units"]) -> Float[Array, "*b rank"]:
        """Return `kappa = N^T x` of states `[..., n_units]`, as `[..., rank]`.

        Raises:
            TypeError: if `x` does not hold real numbers.
            ValueError: if its last axis is not as long as there are units.
        """
        n_units = self.N.shape[0]
        expected = f"(..., {n_units})"
        x = arguments.as_array("project", "x", x, floating=False, expected=f"states {expected}")
        if x.shape[-1:] != (n_units,):
            arguments.refuse("project", "x", f"has shape {tuple(x.shape)}", expected, ValueError)
        return jnp.asarray(x) @ jnp.asarray(self.N)

    def lift(self, fps: FixedPoints) -> FixedPoints:
        """Return the fixed points of the full network that belong to points of the reduced one.

        The correspondence is exact for fixed points. A slow point of the reduced network leads to a
        state at which the full network is slow, but not to a minimum of its `q`: its status becomes
        `UNFINISHED`, as a search of the full network would go on from there.

        Args:
            fps: `n` points of the reduced network with `xstar` `[n, rank]` and `inputs`.

        Returns:
            The same rows with `xstar` and `F_xstar` `[n, n_units]` and `qstar` of the full network.
            `inputs`, `n_iters`, `cond_id`, `valid`, `status` and `hits` are passed on. Jacobians
            are not; `jacobians(network.full(), lifted)` computes those of the full network.

        Raises:
            TypeError: if `fps` is not a `FixedPoints`.
            ValueError: if it has no `xstar` or no `inputs`, or they do not fit the network.
        """
        arguments.fields("lift", fps, FixedPoints, "xstar", "inputs")
        shapes = {"fps.xstar": self.n_states, "fps.inputs": self.n_inputs}
        for name, value in (("fps.xstar", fps.xstar), ("fps.inputs", fps.inputs)):
            arguments.array("lift", name, value, ("n", shapes[name]))
        wide = np.dtype(fps.xstar.dtype) == np.float64  # which JAX would narrow
        with jax.enable_x64(True) if wide else contextlib.nullcontext():
            kappa = jnp.asarray(fps.xstar)
            u = jnp.asarray(fps.inputs, kappa.dtype)
            rows = filled_up(2 * self.M.size, kappa, u)
            x, F_x, q = (first_rows(a, fps.n) for a in _lifted(self, *rows))
        status = fps.status
        if status is not None:
            xp = np if isinstance(status, np.ndarray) else jnp
            slow = status == Status.SLOW_POINT
            status = xp.where(slow, np.int8(Status.UNFINISHED), status)
        return FixedPoints(
            xstar=x,
            F_xstar=F_x,
            inputs=fps.inputs,
            qstar=q,
            n_iters=fps.n_iters,
            cond_id=fps.cond_id,
            tol_unique=fps.tol_unique,
            dtype=fps.dtype,
            valid=fps.valid,
            status=status,
            hits=fps.hits,
        )


class _Full(Transition):
    """The network of all units that a reduced network stands for."""

    reduced: ReducedNetwork

    @property
    def n_states(self) -> int:
        """The number of units."""
        return self.reduced.M.shape[0]

    @property
    def n_inputs(self) -> int:
        """The length of an input."""
        return self.reduced.n_inputs

    def __call__(
        self, x: Float[Array, " n_units"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_units"]:
        """Return the state that follows `x` under the input `u`."""
        net = self.reduced
        return (1 - net.leak) * x + net.leak * net.activity(net.N.T @ x, u)


@CompiledOnce
def _lifted(
    net: ReducedNetwork, kappa: Float[Array, "n rank"], u: Float[Array, "n n_inputs"]
) -> tuple[Float[Array, "n n_units"], Float[Array, "n n_units"], Float[Array, " n"]]:
    x = jax.vmap(net.activity)(kappa, u).astype(kappa.dtype)
    F_x = jax.vmap(net.full())(x, u).astype(kappa.dtype)
    return x, F_x, half_squared_norm(x - F_x)


class LowRank(eqx.Module):
    """Recurrent weights, truncated at a rank: see [`low_rank`][slowpoints.low_rank].

    Attributes:
        M: `[n_units, rank]` the left singular vectors, times the singular values.
        N: `[n_units, rank]` the right singular vectors, orthonormal. `M @ N.T` is the matrix of
            this rank that is closest to the weights.
        singular_values: `[n_units]` those of the weights, all of them, falling.
    """

    M: Float[Array, "n_units rank"]
    N: Float[Array, "n_units rank"]
    singular_values: Float[Array, " n_units"]

    @property
    def rank(self) -> int:
        """The rank."""
        return self.M.shape[1]

    @property
    def error(self) -> Float[Array, ""]:
        """The 2-norm of what is cut off, which is the largest singular value of that."""
        rest = self.singular_values[self.rank :]
        return rest[0] if rest.size else jnp.zeros_like(self.singular_values[0])

    @property
    def kept(self) -> Float[Array, ""]:
        """The share of the squared Frobenius norm, the sum of all squared weights, that is kept.

        It is 1 for weights that are all zero, and NaN for those that are not finite.
        """
        # Relative to the largest, whose square may be too large or too small for the precision.
        largest = self.singular_values[0]
        squares = (self.singular_values / jnp.where(largest > 0, largest, 1)) ** 2
        share = squares[: self.rank].sum() / jnp.maximum(squares.sum(), 1)
        return jnp.where(largest == 0, 1, share)

    def reduced(
        self,
        phi: Callable[[Array], Array],
        *,
        B: Float[RealArray, "n_units n_inputs"] | None = None,
        b: Float[RealArray, " n_units"] | None = None,
        leak: Scalar = 1.0,
    ) -> ReducedNetwork:
        """Return the network of these weights in `rank` variables.

        It belongs to `x' = (1 - leak) x + leak phi(M N^T x + B u + b)`.

        Args:
            phi: the units' nonlinearity, such as `jnp.tanh`, applied to each unit by itself.
            B: `[n_units, n_inputs]` the input weights; by default inputs are of length 0. For an
                input to each unit pass `jnp.eye(n_units)`.
            b: `[n_units]` the bias; by default none.
            leak: the share of a state that is replaced in each step, above 0 and at most 1.

        Returns:
            The transition of `kappa`.

        Raises:
            TypeError: if `phi` cannot be called, or another argument does not hold real numbers.
            ValueError: if an argument has the wrong shape, is not finite or out of range.
        """
        units = check_units("LowRank.reduced", self.M.shape[0], self.M.dtype, phi, B, b, leak)
        return ReducedNetwork(self.M, self.N, *units)


def low_rank(W: Float[RealArray, "n_units n_units"], rank: int) -> LowRank:
    """Truncate recurrent weights at a rank, and return them as the product of two thin matrices.

    The dynamics of a network `x' = phi(W x + B u + b)` with `W = M N^T` are those of as many
    variables `kappa = N^T x` as the rank (Mastrogiuseppe & Ostojic 2018, "Linking connectivity,
    dynamics, and computations in low-rank recurrent neural networks"; Dubreuil et al. 2022, "The
    role of population structure in computations through neural dynamics"): see
    [`LowRank.reduced`][slowpoints.LowRank]. The reduction is exact for weights of this rank. For
    other weights, the part that is cut off is as small as possible (Eckart & Young 1936), but the
    dynamics may still change a lot: use [`rank_needed`][slowpoints.rank_needed] to find out.

    Weights multiply states from the left here, `W @ x`, so `W[i, j]` is the weight from unit `j` to
    unit `i`. For a network that computes `x @ W`, pass `W.T`. Networks with gates, such as GRUs and
    LSTMs, are not covered, as they have several matrices, whose products with the state multiply
    each other.

    Runs inside `jit` and `vmap`.

    Args:
        W: `[n_units, n_units]` the recurrent weights.
        rank: how many singular values to keep, from 1 to `n_units`.

    Returns:
        The factors, all singular values, and how large the part is that is cut off.

    Raises:
        TypeError: if `W` does not hold real numbers, or `rank` is not a whole number.
        ValueError: if `W` is not a square matrix or not finite, or `rank` is out of range.
    """
    W = check_weights("low_rank", W)
    rank = arguments.whole("low_rank", "rank", rank, least=1, most=W.shape[0])
    U, S, Vt = lapack.svd(jnp.asarray(W))
    return LowRank((U * S)[:, :rank], Vt[:rank].T, S)


def check_weights(caller: str, W: Any) -> Any:
    """Return recurrent weights `[n_units, n_units]`.

    Raises:
        TypeError: if they are not real numbers, or in half precision.
        ValueError: if they are not a square matrix, or not finite.
    """
    shape = ("n_units", "n_units")
    W = arguments.array(caller, "W", W, shape, floating=True, finite=True, nonempty=True)
    arguments.check_precision(caller, "W", W.dtype)
    if W.shape[0] != W.shape[1]:
        arguments.refuse(caller, "W", f"has shape {W.shape}", "a square matrix", ValueError)
    return W


def check_units(
    caller: str, n_units: int, dtype: Any, phi: Any, B: Any, b: Any, leak: Any
) -> tuple[Array, Array, Array, Any]:
    """Return `B`, `b`, `leak` and `phi` as a `ReducedNetwork` has them: see `LowRank.reduced`."""
    if not callable(phi):
        expected = "an elementwise function such as jnp.tanh"
        arguments.refuse(caller, "phi", arguments.found(phi), expected, TypeError)
    B = np.zeros((n_units, 0)) if B is None else B
    b = np.zeros(n_units) if b is None else b
    B = arguments.array(caller, "B", B, (n_units, "n_inputs"), finite=True)
    b = arguments.array(caller, "b", b, (n_units,), finite=True)
    leak = arguments.number(caller, "leak", leak, finite=True)
    if not isinstance(leak, Tracer) and not 0 < leak <= 1:
        arguments.refuse(caller, "leak", f"is {leak}", "above 0 and at most 1", ValueError)
    # A function alone is no part of a pytree that passes through `jax.jit`.
    phi = phi if isinstance(phi, eqx.Module) else jax.tree_util.Partial(phi)
    _check_nonlinearity(caller, phi, n_units, dtype)
    B, b, leak = (jnp.asarray(a, dtype) for a in (B, b, leak))
    return B, b, leak, phi


def _check_nonlinearity(caller: str, phi: Any, n_units: int, dtype: Any) -> None:
    expected = f"an elementwise function, from shape ({n_units},) to the same shape"
    try:
        out = eqx.filter_eval_shape(phi, jax.ShapeDtypeStruct((n_units,), dtype))
    except Exception as error:  # of the user's code
        was = f"fails on an array of JAX with a {type(error).__name__}"
        arguments.refuse(caller, "phi", was, f"{expected}, such as jnp.tanh", TypeError)
    shape = getattr(out, "shape", None)
    if shape != (n_units,):
        arguments.refuse(caller, "phi", f"returns shape {shape}", expected, ValueError)
