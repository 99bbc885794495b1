"""`flow`: a network in continuous time, for a while, as one step of a map."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from slowpoints._core import arguments
from slowpoints._core.integration import until_one
from slowpoints._core.types import Number, RealArray
from slowpoints._network.as_transition import as_transition
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime, linearised_part

_RTOL = {"float64": 1e-10, "float32": 2e-6}
"""Errors of one flow that count as none, by the precision: a few digits above rounding. In float64,
trajectories then have the digits that exponents, periods and boundaries are given in."""

_RTOL_STIFF = 1e-7
"""The same for the implicit method, which in stiff networks has an order far below 5."""

_BLOWN_UP = 1e3
"""A state that has grown to so many times its size when the integrator gives up is infinite. What
is stiff or undefined does not grow, and what grows to infinity does so by far more."""


class Flow(Transition):
    """The map from a state to the state some time later.

    Attributes:
        f: `dx/dt`.
        duration: how much later.
        atol: `[n_states]` absolute errors that count as none; `None` for `rtol` times the largest
            entry of the state.
        rtol: relative errors that count as none; `None` for those of the precision.
        stiff: whether an implicit method integrates.
    """

    f: Transition
    duration: Float[RealArray, ""]
    atol: Float[RealArray, " n_states"] | None = None
    rtol: float | None = eqx.field(static=True, default=None)
    stiff: bool = eqx.field(static=True, default=False)

    @property
    def n_states(self) -> int | None:
        """The length of a state, or `None` if it is not known."""
        return self.f.n_states

    @property
    def n_inputs(self) -> int | None:
        """The length of an input, or `None` if it is not known."""
        return self.f.n_inputs

    def flatten(self, state: Any) -> Any:
        """Return states, given in the model's own form, as vectors `[..., n_states]`."""
        return self.f.flatten(state)

    def unflatten(self, x: Any) -> Any:
        """Return `x`, `[..., n_states]`, as states in the model's own form."""
        return self.f.unflatten(x)

    def __call__(
        self, x: Float[Array, " n_states"], u: Float[Array, " n_inputs"]
    ) -> Float[Array, " n_states"]:
        """Return the state `duration` after `x` under the constant input `u`."""
        if self.atol is not None and self.atol.shape not in ((1,), x.shape):
            expected = f"a number, or one for each of {x.size} states"
            arguments.refuse("flow", "atol", f"has shape {self.atol.shape}", expected, ValueError)
        return _end(x, u, self)

    def relative_error(self, dtype: Any) -> float:
        """Return up to which relative error of a flow counts as none."""
        least = _RTOL_STIFF if self.stiff else 0.0
        return self.rtol or max(_RTOL[np.dtype(dtype).name], least)

    def error(self, x: Float[RealArray, "*n n_states"]) -> Any:
        """Return `[*n]` how long the error of the state after each `x` may be, where that is."""
        rtol, size = self.relative_error(x.dtype), abs(x)
        largest = size.max(axis=-1, keepdims=True)
        atol = rtol * largest if self.atol is None else self.atol.astype(x.dtype)
        return ((rtol * size + atol) ** 2).sum(axis=-1) ** 0.5

    def pushed(
        self,
        x: Float[Array, " n_states"],
        u: Float[Array, " n_inputs"],
        Q: Float[Array, "n_states k"],
    ) -> tuple[Float[Array, " n_states"], Float[Array, "n_states k"]]:
        """Return the later state, and what becomes of small deviations, the columns of `Q`."""
        both = _integrated(self, _WithDeviations(self.f), jnp.vstack([x, Q.T]), u)
        return both[0], both[1:].T


def flow(
    F: Any,
    duration: Number,
    *,
    rtol: Number | None = None,
    atol: Number | Float[RealArray, " n_states"] | None = None,
    stiff: bool = False,
) -> Transition:
    """Return what a network in continuous time does in some time as a map.

    It maps the state `x(0)` to `x(duration)`, where `dx/dt = f(x, u)` under a constant input. All
    functions that take a map apply to it. Its fixed points are the equilibria, with the multipliers
    `exp(lambda * duration)`, and the limit cycles of which `duration` is the period, or a multiple
    of it. Functions that take a [`ContinuousTime`][slowpoints.ContinuousTime] need no such map:
    they choose a duration and give results in units of time. It is of use for an input that
    changes at intervals, `stroboscopic(flow(F, interval), inputs_of_one_period)`.

    diffrax (Kidger 2021) integrates with adaptive steps: the method of order 8 of Dormand & Prince
    (Hairer, Nørsett & Wanner 1993), or the implicit one of order 5 of Kværnø (2004). Each step
    keeps its estimated error in every entry below `atol + rtol * |x|`. Derivatives have their own
    errors, which are controlled in the same way: deviations are integrated together with the state,
    so that multipliers are right at an equilibrium, too, where the state itself does not move.

    The result is NaN where the integrator gives up: after 16,384 steps, or where no step is short
    enough, as where `f` is NaN. Where a state has grown to a thousand times its size by then,
    it is infinite.

    Args:
        F: `dx/dt`, as a [`ContinuousTime`][slowpoints.ContinuousTime], or as anything that this
            takes.
        duration: how much later, in the unit of time of `F`.
        rtol: the relative error of a step; by default 1e-10 in float64 and 2e-6 in float32,
            and at least 1e-7 with `stiff`.
        atol: the absolute error of a step, a number or `[n_states]`; by default `rtol` times the
            largest entry of the state, or at zero, of what it moves by at its first speed. If
            entries differ in size by orders of magnitude, give one for each.
        stiff: whether to integrate by the implicit method. It pays where the fastest time constant
            is some thousand times shorter than `duration`, or more: explicit steps cannot be longer
            than about six time constants. Its own steps are shorter, and each solves equations. It
            is for float64: in float32, rounding of `dx/dt` keeps its steps from their accuracy
            where the fastest time constant is more than some hundred times shorter, and the result
            is NaN.

    Returns:
        The transition. Its leaves are those of `F`, the duration and `atol`.

    Raises:
        TypeError: if `F` is not of a known kind, or a setting is of the wrong kind.
        ValueError: if a setting is out of range.
        ImportError: if diffrax is not installed.
    """
    caller = "flow"
    f = linearised_part(F) if isinstance(F, ContinuousTime) else as_transition(F)
    if isinstance(f, Flow):
        arguments.refuse(caller, "F", "is a flow already", "dx/dt, a ContinuousTime", TypeError)
    duration = float(arguments.positive(caller, "duration", duration))
    if rtol is not None:
        rtol = float(arguments.positive(caller, "rtol", rtol))
    stiff = arguments.flag(caller, "stiff", stiff)
    if getattr(atol, "ndim", 0):
        atol = np.asarray(arguments.array(caller, "atol", atol, ("n_states",), finite=True))
        if (atol <= 0).any():
            arguments.refuse(caller, "atol", f"holds {atol.min()}", "positive numbers", ValueError)
    elif atol is not None:
        atol = np.array([float(arguments.positive(caller, "atol", atol))])
    require_diffrax(caller)
    return Flow(f, np.array(duration), atol, rtol, stiff)


def flows_in(F: Transition) -> list[Flow]:
    """Return the flows that a network is made of."""
    parts = jax.tree.leaves(F, is_leaf=lambda part: isinstance(part, Flow))
    return [part for part in parts if isinstance(part, Flow)]


def require_diffrax(caller: str) -> None:
    """Check that diffrax is there.

    Raises:
        ImportError: if it is not.
    """
    try:
        import diffrax  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"{caller}: continuous time needs diffrax, which is not installed; `pip install "
            'diffrax`, or `pip install -e ".[flows]"` in the checkout of slowpoints.'
        ) from error


class _WithDeviations(Transition):
    """`dx/dt`, and how fast small deviations change: rows of states of which the first is `x`."""

    f: Transition

    def __call__(self, x: Float[Array, "k d"], u: Float[Array, " m"]) -> Float[Array, "k d"]:
        rate, push = jax.linearize(lambda x: self.f(x, u).astype(x.dtype), x[0])
        return jnp.vstack([rate, jax.vmap(push)(x[1:])])


class _WithInputs(Transition):
    """The same for deviations of states, and then for a deviation of each input."""

    f: Transition

    def __call__(self, x: Float[Array, "k d"], u: Float[Array, " m"]) -> Float[Array, "k d"]:
        both = _WithDeviations(self.f)(x, u)
        of_u = jax.jacfwd(self.f, argnums=1)(x[0], u).T.astype(x.dtype)
        return both.at[len(both) - len(of_u) :].add(of_u)


class _WithNetwork(Transition):
    """The same for a deviation that comes from a change `df` of the network."""

    f: Transition
    df: Any

    def __call__(self, x: Float[Array, "2 d"], u: Float[Array, " m"]) -> Float[Array, "2 d"]:
        both = _WithDeviations(self.f)(x, u)
        shift = eqx.filter_jvp(lambda f: f(x[0], u), (self.f,), (self.df,))[1]
        return both.at[1].add(shift.astype(x.dtype))


@eqx.filter_custom_jvp
def _end(x: Float[Array, " d"], u: Float[Array, " m"], F: Flow) -> Float[Array, " d"]:
    return _integrated(F, _One(F.f), x[None], u)[0]


class _One(Transition):
    f: Transition

    def __call__(self, x: Float[Array, "1 d"], u: Float[Array, " m"]) -> Float[Array, "1 d"]:
        return self.f(x[0], u).astype(x.dtype)[None]


@_end.def_jvp
def _changes(primals: Any, tangents: Any) -> tuple[Array, Array]:
    """Return the later state, and how it changes with the state, the input and the network.

    By the matrix of all changes with the state and the input, so that this derivative goes both
    ways, forward and in reverse. That with the network's own numbers goes forward only.
    """
    (x, u, F), (dx, du, dF) = primals, tangents
    d, m = x.shape[0], u.shape[0]
    start = jnp.vstack([x, jnp.eye(d, dtype=x.dtype), jnp.zeros((m, d), x.dtype)])
    both = _integrated(F, _WithInputs(F.f), start, u)
    moved = jnp.zeros_like(x)
    if dx is not None:
        moved = moved + both[1 : d + 1].T @ dx
    if du is not None:
        moved = moved + both[d + 1 :].T @ du.astype(x.dtype)
    if jax.tree.leaves(dF.f):
        field = _WithNetwork(F.f, dF.f)
        moved = moved + _integrated(F, field, jnp.vstack([x, 0 * x]), u)[1]
    if dF.duration is not None:
        moved = moved + F.f(both[0], u).astype(x.dtype) * jnp.asarray(dF.duration, x.dtype)
    return both[0], moved


def _largest(x: Float[Array, "k d"], moved: Float[Array, "k d"]) -> Float[Array, "k 1"]:
    """Return the largest entry of each row, or where all are zero, of what it moves by."""
    own, then = (jnp.max(size, axis=1, keepdims=True) for size in (x, moved))
    return jnp.where(own > 0, own, then)


@eqx.filter_jit
def _integrated(
    F: Flow, field: Transition, x: Float[Array, "k d"], u: Float[Array, " m"]
) -> Float[Array, "k d"]:
    """Return rows of states, the first of which is the state itself, after the duration."""
    rtol = F.relative_error(x.dtype)
    duration = jnp.asarray(F.duration, x.dtype)
    finite = jnp.isfinite(x).all()
    sizes = jnp.abs(x), jnp.abs(duration * field(x, u))
    if F.atol is None:
        unit = jnp.broadcast_to(_largest(*sizes)[0], x.shape[1:])
    else:
        unit = jnp.broadcast_to(jnp.asarray(F.atol, x.dtype) / rtol, x.shape[1:])
    unit = jnp.where((unit > 0) & jnp.isfinite(unit), unit, 1)
    scale = _largest(*(size / unit for size in sizes)).at[0].set(1)
    unit = unit * jnp.where((scale > 0) & jnp.isfinite(scale), scale, 1)

    end, arrived = until_one(
        lambda y: duration * field(unit * y, u) / unit, x / unit, rtol, F.stiff
    )
    end = unit * end
    grown = jnp.max(jnp.abs(end[0])) > _BLOWN_UP * _largest(*sizes)[0, 0]
    lost = jnp.where(grown | jnp.isinf(x[0]).any(), jnp.inf, jnp.nan)
    return jnp.where(finite & arrived, end, lost)
