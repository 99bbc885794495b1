"""How long a step of a network in continuous time is, if it is to be followed in steps."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Complex, Float

from slowpoints._core.arrays import power_of_two
from slowpoints._core.programs import CompiledOnce
from slowpoints._network.base import Transition
from slowpoints._network.continuous_time import ContinuousTime
from slowpoints._network.flow import Flow
from slowpoints._network.precision import computes_in_float64, with_precision

PART = 0.25
"""A step is this part of the time scale: 25 steps of a turn, or a factor of 1.3 in what grows."""

_STIFF = 1000.0
"""Where an eigenvalue is so many times the inverse of a step, the implicit method takes less time.
The explicit one takes more than a hundred steps by then."""

_MOST_ROWS = 64
"""The time scale is the median over so many states."""

_LONGER = 64
"""States are followed for so many time scales, after which the fast part of a motion is over."""

_SLOWER = 0.25
"""If the rate has fallen to this part by then, it was that of a fast part, which is over."""

_MOST_ROUNDS = 2
"""What slows down without end, as beside a bifurcation, has no time scale."""

_MOVES = 1e-6
"""States that move by less than this part of their size in a time scale are at rest."""


class TimeSteps(Flow):
    """A network in continuous time in steps of a length of its own."""

    @classmethod
    def of(cls, F: ContinuousTime, scale: float, fastest: float) -> "TimeSteps":
        """Return steps for a time scale, given the largest eigenvalue in magnitude."""
        duration = PART * scale
        return cls(F.f, np.array(duration), stiff=bool(fastest * duration > _STIFF))


def in_steps(
    F: Transition, x: Float[np.ndarray, "n n_states"], u: Float[np.ndarray, "n n_inputs"]
) -> Transition:
    """Return a network as a map: a flow of a duration of its own if it is in continuous time.

    The duration is a part of the time scale on which velocities change, `|f| / |J f|`, with the
    Jacobian `J`: the inverse of an eigenvalue where one direction rules, and of an angular
    frequency where states turn. It is the median over states once fast parts of the motion are
    over, to which a stiff network owes its stiffness. Where nothing moves, eigenvalues tell it.

    Args:
        F: the network, in units of its states.
        x: states that it is to be followed from.
        u: their inputs.
    """
    if not isinstance(F, ContinuousTime):
        return F
    dtype = np.dtype(np.float64 if computes_in_float64(F) else np.float32)
    chosen = np.unique(np.linspace(0, max(len(x) - 1, 0), _MOST_ROWS).astype(int))[: len(x)]
    chosen = np.resize(chosen, power_of_two(len(chosen)) if len(x) else 0)
    with jax.enable_x64(dtype == np.float64):
        f = with_precision(F.f, dtype)
        rows, own = jnp.asarray(x[chosen], dtype), jnp.asarray(u[chosen], dtype)
        if len(x) == 0:
            return TimeSteps.of(F, 1.0, 0.0)
        first = int(np.isfinite(_rates(f, rows, own)).all(axis=0).argmax())
        eigval = _eigenvalues(np.asarray(_slopes(f, rows[first], own[first])))
        scale = _time_scale(f, rows, own, _scale_near(eigval))
        for _ in range(_MOST_ROUNDS):
            rows = _later(Flow(f, np.array(_LONGER * scale, dtype)), rows, own)
            after = _time_scale(f, rows, own, scale)
            if not after > scale / _SLOWER:
                break
            scale = after
    return TimeSteps.of(F, scale, np.abs(eigval).max())


def steps_near(F: ContinuousTime, eigval: Complex[np.ndarray, "n k"]) -> TimeSteps:
    """Return steps that suit the motion near points with such eigenvalues.

    It is that of the direction that grows, or else decays, the fastest of all that rule: of each
    point, those that grow, or the one that decays last.
    """
    return TimeSteps.of(F, _scale_near(eigval), np.abs(eigval).max(initial=0))


def length_of_step(F: Transition) -> float | None:
    """Return how long a step is in units of time; `None` if `F` is a map."""
    return float(F.duration) if isinstance(F, TimeSteps) else None


def as_given(F: Transition) -> Transition:
    """Return the network of which `F` is the steps, whose points and Jacobians it has."""
    return ContinuousTime(F.f) if isinstance(F, TimeSteps) else F


def _time_scale(f: Transition, x: Any, u: Any, otherwise: float) -> float:
    """Return the median over the states that move; `otherwise` if none does."""
    size, speed, change = map(np.asarray, _rates(f, x, u))
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = speed / change
        moves = np.isfinite(scale) & (scale > 0) & (speed * scale > _MOVES * (1 + size))
    return float(np.median(scale[moves])) if moves.any() else otherwise


def _scale_near(eigval: Complex[np.ndarray, "n k"]) -> float:
    growth = np.real(eigval)
    rules = (growth > 0) | (growth == growth.max(axis=1, keepdims=True))
    fastest = float(np.abs(eigval)[rules].max(initial=0))
    return 1 / fastest if fastest > 0 else 1.0


def _eigenvalues(J: Float[np.ndarray, "d d"]) -> Complex[np.ndarray, "1 d"]:
    values = np.linalg.eigvals(J) if np.isfinite(J).all() else np.zeros(len(J))
    return values.astype(np.complex128)[None]


@CompiledOnce
def _rates(
    f: Transition, x: Float[Array, "n d"], u: Float[Array, "n m"]
) -> tuple[Float[Array, " n"], Float[Array, " n"], Float[Array, " n"]]:
    def one(x: Array, u: Array) -> tuple[Array, Array, Array]:
        rate = f(x, u).astype(x.dtype)
        change = jax.jvp(lambda x: f(x, u).astype(x.dtype), (x,), (rate,))[1]
        return jnp.linalg.norm(x), jnp.linalg.norm(rate), jnp.linalg.norm(change)

    return jax.vmap(one)(x, u)


@CompiledOnce
def _slopes(f: Transition, x: Float[Array, " d"], u: Float[Array, " m"]) -> Float[Array, "d d"]:
    return jax.jacfwd(lambda x: f(x, u).astype(x.dtype))(x)


@CompiledOnce
def _later(F: Flow, x: Float[Array, "n d"], u: Float[Array, "n m"]) -> Float[Array, "n d"]:
    return jax.vmap(F)(x, u)
