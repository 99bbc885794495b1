"""Branches of fixed points, followed by the library and by Newton's method point by point."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import slowpoints

from . import networks
from .networks import Network
from .timing import in_turn

if TYPE_CHECKING:
    from .experiments import Settings

Rows = list[dict[str, Any]]
Residual = Callable[[np.ndarray], np.ndarray]
"""From `[d + 1]` the state and `s`, to `[d]` the rest `G(x, s) - x`, or to its derivatives."""

_PULSE = 0.3
"""Between pulses of this size on its first bit, the flip-flop's branches have 18 folds."""

_PRECISE = 1e-7
"""Loops end after a correction that is shorter than this, which leaves about its square."""


def along_inputs(settings: Settings, say: Callable[[str], None] = print) -> Rows:
    """Time `continuation`, and loops over the same steps in NumPy and SciPy.

    A loop is given the branches, so that none of its steps fails: it predicts each point along the
    tangent at the one before, by as much as the library went, and corrects it with Newton's method.
    It computes tangents, but neither eigenvalues nor events, and the library does both.
    """
    out = []
    for network, path, start in _paths(settings):
        G = slowpoints.along(network.F, path)
        x, s = jnp.asarray(network.draw(settings.n_inits, 0, 0.3)), jnp.full((1, 1), start)
        fps, _ = slowpoints.find_fixed_points(G, x, s)

        def follow(G: Any = G, fps: Any = fps) -> slowpoints.Branches:
            return slowpoints.continuation(G, fps, (0.0, 1.0))

        branches = follow()
        searches = {"slowpoints": follow}
        for name, loop in _loops(network, path).items():
            searches[name] = lambda loop=loop, branches=branches: _over_steps(loop, branches)
        turns = in_turn(searches, n_runs=settings.n_runs, limit=settings.field_limit)
        n_points = sum(map(len, branches.branches))
        for name, turn in turns.items():
            row = {"network": network.name, "tool": name, "n_points": n_points}
            row |= {"n_branches": len(branches.branches), "n_events": len(branches.events)}
            out.append(row | {"seconds_per_point": turn.seconds / n_points})
            say(f"  {network.name}, {name}: {1e6 * turn.seconds / n_points:.0f} us a point")
    return out


def _paths(settings: Settings) -> list[tuple[Network, np.ndarray, float]]:
    """Return networks, paths `[2, n_inputs]` of their inputs, and where on these to search."""
    flip_flop = networks.load("tanh 16", settings.folder)
    pulse = np.zeros(networks.N_BITS, np.float32)
    pulse[0] = _PULSE
    context, _ = networks.field("context_gru_128_s12", 0)
    other, _ = networks.field("context_gru_128_s12", 1)
    contexts = np.stack([context.u, other.u])
    return [(flip_flop, np.stack([-pulse, pulse]), 0.5), (context, contexts, 0.0)]


# ---- loops ---------------------------------------------------------------------------------------

Step = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""From a guess and a normal, `[d + 1]` each, to the point in the plane through the guess."""


def _loops(network: Network, path: np.ndarray) -> dict[str, tuple[Step, Residual]]:
    """Return ways to correct a guess, by name, and the derivatives `[d, d + 1]` for tangents."""
    import scipy.optimize

    with jax.enable_x64(True):
        F = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), network.F)
        u = jnp.asarray(path, jnp.float64)

        def rest(y: Any) -> Any:
            return F(y[:-1], u[0] + y[-1] * (u[1] - u[0])) - y[:-1]

        # The weights are constants of these functions, which is fastest.
        H, J = _outside(jax.jit(rest)), _outside(jax.jit(jax.jacfwd(rest)))

    def by_scipy(guess: np.ndarray, normal: np.ndarray) -> np.ndarray:
        found = scipy.optimize.root(
            lambda y: np.append(H(y), normal @ (y - guess)),
            guess,
            jac=lambda y: np.vstack([J(y), normal]),
            method="hybr",
        )
        return found.x

    loops = {
        "NumPy, functions by JAX": (_by_numpy(H, J), J),
        "SciPy, functions by JAX": (by_scipy, J),
    }
    if network.F.cell == "tanh":
        by_hand = _tanh_by_hand(network.F, path)
        loops["NumPy, functions by hand"] = (_by_numpy(*by_hand), by_hand[1])
    return loops


def _outside(f: Callable[[Any], Any]) -> Residual:
    """Return a compiled function from NumPy's float64 to NumPy's float64."""

    def at(y: np.ndarray) -> np.ndarray:
        with jax.enable_x64(True):
            return np.asarray(f(y))

    return at


def _tanh_by_hand(F: Any, path: np.ndarray) -> tuple[Residual, Residual]:
    """Return the rest and its derivatives of a `tanh` network, as somebody with pen and paper."""
    Wi, Wh, b = (np.asarray(part[0], np.float64) for part in (F.Wi, F.Wh, F.b))
    constant = np.float64(path[0]) @ Wi + b
    slope = (np.float64(path[1]) - np.float64(path[0])) @ Wi
    transposed, identity = Wh.T.copy(), np.eye(len(b))

    def H(y: np.ndarray) -> np.ndarray:
        return np.tanh(constant + y[-1] * slope + y[:-1] @ Wh) - y[:-1]

    def J(y: np.ndarray) -> np.ndarray:
        gain = 1 - np.tanh(constant + y[-1] * slope + y[:-1] @ Wh) ** 2
        return np.column_stack([gain[:, None] * transposed - identity, gain * slope])

    return H, J


def _by_numpy(H: Residual, J: Residual) -> Step:
    def corrected(guess: np.ndarray, normal: np.ndarray) -> np.ndarray:
        y = guess
        for _ in range(10):
            rest = np.append(-H(y), normal @ (guess - y))
            step = np.linalg.solve(np.vstack([J(y), normal]), rest)
            y = y + step
            if np.linalg.norm(step) < _PRECISE:
                break
        return y

    return corrected


def _over_steps(loop: tuple[Step, Residual], branches: slowpoints.Branches) -> list[np.ndarray]:
    """Correct a guess for each point of some branches, one after another, and take its tangent."""
    corrected, derivatives = loop
    found = []
    for branch in branches.branches:
        known = np.concatenate([branch.xstar, branch.s[:, None]], axis=1)
        y, tangent = known[0], branch.tangent[0]
        found.append(y)
        for following in known[1:]:
            length = tangent @ (following - y)
            y = corrected(y + length * tangent, tangent)
            upwards = np.append(np.zeros(len(y) - 1), 1.0)
            next_one = np.linalg.solve(np.vstack([derivatives(y), tangent]), upwards)
            tangent = next_one / np.linalg.norm(next_one)
            found.append(y)
    return found
