"""The networks that are searched: trained ones from `tests/cases`, and larger ones."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

import slowpoints

from .one_process import next_state

N_BITS = 3
_CASES = Path(__file__).parents[1] / "cases"


class Cell(slowpoints.Transition):
    """A recurrent layer, by its weights; see `next_state`.

    With `alpha`, a part of that size of the state is replaced in each step.
    """

    Wi: jax.Array
    Wh: jax.Array
    b: jax.Array
    cell: str = eqx.field(static=True)
    alpha: jax.Array | None = None

    def __call__(self, x: jax.Array, u: jax.Array) -> jax.Array:
        """Return the state that follows `x` under the input `u`."""
        weights = (self.Wi, self.Wh, self.b)
        following = next_state(jnp, jax.nn.sigmoid, self.cell, *weights, x, u)
        return following if self.alpha is None else (1 - self.alpha) * x + self.alpha * following


class Autonomous(slowpoints.Transition):
    """`tanh(W x)`."""

    W: jax.Array

    def __call__(self, x: jax.Array, u: jax.Array) -> jax.Array:
        """Return the state that follows `x`; there is no input."""
        return jnp.tanh(self.W @ x)


@dataclass(frozen=True)
class Network:
    """A network to search under a constant input.

    Attributes:
        name: what it is called in tables.
        F: its transition, in float32.
        states: `[m, n_states]` states that it visits.
        n_inputs: the length of its input.
        constant: `[n_inputs]` the input; zero by default.
    """

    name: str
    F: slowpoints.Transition
    states: np.ndarray
    n_inputs: int = N_BITS
    constant: np.ndarray | None = None

    def draw(self, n: int, seed: int, noise: float = 0.5) -> np.ndarray:
        """Return `n` states to search from: visited ones with Gaussian noise, in float32."""
        rng = np.random.default_rng(seed)
        rows = rng.choice(len(self.states), n, replace=n > len(self.states))
        noise = noise * rng.standard_normal((n, self.states.shape[1]))
        return (self.states[rows] + noise).astype(np.float32)

    @property
    def u(self) -> np.ndarray:
        """The input, `[n_inputs]`."""
        return np.zeros(self.n_inputs, np.float32) if self.constant is None else self.constant


_FILES = {
    "tanh 16": "flipflop3_tanh_16_s0.npz",
    "GRU 16": "flipflop3_gru_16_s1.npz",
    "LSTM 16": "flipflop3_lstm_16_s2.npz",
}
_TO_TRAIN = {"GRU 64": ("gru", 64, 4000), "tanh 128": ("tanh", 128, 3000)}
NAMES = (*_FILES, *_TO_TRAIN)


def load(name: str, folder: Path) -> Network:
    """Return a network by its name; one that has to be trained is kept in `folder`."""
    if name in _FILES:
        path = _CASES / _FILES[name]
    else:
        path = folder / f"network-{name.replace(' ', '-').lower()}.npz"
        if not path.exists():
            cell, n_units, n_steps = _TO_TRAIN[name]
            np.savez(path, **train(cell, n_units, n_steps))
    with np.load(path) as arrays:
        weights = (jnp.asarray(arrays[key]) for key in ("Wi", "Wh", "b"))
        traj = arrays["traj"]
        F = Cell(*weights, cell={1: "tanh", 3: "gru", 4: "lstm"}[arrays["Wi"].shape[0]])
    return Network(name, F, traj.reshape(-1, traj.shape[-1]))


def field(name: str, i: int) -> tuple[Network, np.ndarray]:
    """Return a network of `tests/cases/field` under its input `i`, and the 128 starts for it.

    The starts are those of `tests/cases/README.md`, for which the known points are given.
    """
    with np.load(_CASES / "field" / f"{name}.npz") as archive:
        arrays = dict(archive)
    cell = str(arrays["cell"])
    weights = (jnp.asarray(arrays[key]) for key in ("Wi", "Wh", "b"))
    if cell == "leaky":
        F = Cell(*weights, cell="tanh", alpha=jnp.asarray(arrays["alpha"]))
    else:
        F = Cell(*weights, cell=cell)
    states, u = arrays["traj"].reshape(-1, arrays["traj"].shape[-1]), arrays["inputs"][i]
    rng = np.random.RandomState(0)
    chosen = states[rng.choice(len(states), 128, replace=False)]
    x = np.float32(chosen + 0.1 * rng.randn(*chosen.shape))
    return Network(f"{name}, {i}", F, states, len(u), np.float32(u)), x


def canns_example(name: str) -> tuple[Network, np.ndarray]:
    """Return a network trained in the flip-flop example of `canns`, and all its fixed points."""
    with np.load(_CASES / f"{name}.npz") as arrays:
        F = Cell(*(jnp.asarray(arrays[key]) for key in ("Wi", "Wh", "b")), cell="tanh")
        traj, known = arrays["traj"], arrays["xstar"]
    states = traj.reshape(-1, traj.shape[-1])
    return Network(name, F, states, F.Wi.shape[1]), known


def hopfield(n_units: int, seed: int = 0) -> Network:
    """Return `tanh(W x)` with 8 stored patterns `xi` and noise: `W = 2/N xi^T xi + 0.3/sqrt(N)`.

    Its `states` are near mixtures of patterns, where its fixed points are.
    """
    rng = np.random.default_rng(seed)
    patterns = rng.choice([-1.0, 1.0], (8, n_units))
    noise = rng.standard_normal((n_units, n_units))
    W = 2 * patterns.T @ patterns / n_units + 0.3 * noise / np.sqrt(n_units)
    mixtures = np.tanh(0.7 * rng.integers(-1, 2, (1024, 8)) @ patterns)
    F = Autonomous(jnp.asarray(W, jnp.float32))
    return Network(f"Hopfield {n_units}", F, mixtures, n_inputs=1)


# ---- training ----------------------------------------------------------------------------------

_STEPS_PER_CALL = 100


def train(
    cell: str, n_units: int, n_steps: int, *, seed: int = 0, n_trials: int = 128, n_time: int = 64
) -> dict[str, np.ndarray]:
    """Train a network on the 3-bit flip-flop task (Sussillo & Barak 2013), on the CPU in a minute.

    Adam on the mean squared error, with gradients clipped to norm 1 and a learning rate that falls
    from 3e-3 to zero along a cosine.

    Returns:
        The weights; `traj`, the states of 64 trials; and `loss`, the last error: as in the files
        of `tests/cases`.
    """
    n_gates = {"tanh": 1, "gru": 3, "lstm": 4}[cell]
    k_in, k_rec, k_out, k_trials = jax.random.split(jax.random.key(seed), 4)
    root = np.sqrt(n_units)
    parameters = {
        "Wi": 0.5 * jax.random.normal(k_in, (n_gates, N_BITS, n_units)),
        "Wh": jax.random.normal(k_rec, (n_gates, n_units, n_units)) / root,
        "b": jnp.zeros((n_gates, n_units)),
        "Wo": jax.random.normal(k_out, (n_units, N_BITS)) / root,
        "bo": jnp.zeros(N_BITS),
    }

    def loss(parameters: dict[str, Any], key: Any) -> Any:
        pulses, bits = _trials(key, n_trials, n_time)
        hidden = _states(cell, parameters, pulses)[..., :n_units]
        return jnp.mean((hidden @ parameters["Wo"] + parameters["bo"] - bits) ** 2)

    def step(carry: Any, i: Any) -> Any:
        parameters, mean, square = carry
        error, gradient = jax.value_and_grad(loss)(parameters, jax.random.fold_in(k_trials, i))
        rate = 1.5e-3 * (1 + jnp.cos(jnp.pi * i / n_steps))
        return _adam(parameters, gradient, mean, square, i + 1, rate), error

    zeros = jax.tree.map(jnp.zeros_like, parameters)
    carry, run = (parameters, zeros, zeros), jax.jit(partial(jax.lax.scan, step))
    for start in range(0, n_steps, _STEPS_PER_CALL):
        carry, errors = run(carry, jnp.arange(start, min(start + _STEPS_PER_CALL, n_steps)))
    parameters = carry[0]
    pulses, _ = _trials(jax.random.key(99), 64, n_time)
    traj = _states(cell, parameters, pulses).swapaxes(0, 1)
    return jax.tree.map(np.asarray, {**parameters, "traj": traj, "loss": errors[-1]})


def _adam(parameters: Any, gradient: Any, mean: Any, square: Any, n: Any, rate: Any) -> Any:
    norm = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
    gradient = jax.tree.map(lambda g: g / jnp.maximum(norm, 1), gradient)
    mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
    square = jax.tree.map(lambda s, g: 0.999 * s + 0.001 * g**2, square, gradient)

    def moved(p: Any, m: Any, s: Any) -> Any:
        return p - rate * m / (1 - 0.9**n) / (jnp.sqrt(s / (1 - 0.999**n)) + 1e-8)

    return jax.tree.map(moved, parameters, mean, square), mean, square


def _trials(key: Any, n_trials: int, n_time: int) -> tuple[Any, Any]:
    """Draw pulses, and the bits that they set; every bit is set by the first pulse."""
    k_when, k_sign = jax.random.split(key)
    shape = (n_time, n_trials, N_BITS)
    when = jax.random.bernoulli(k_when, 0.25, shape).at[0].set(True)
    pulses = when * jax.random.rademacher(k_sign, shape, dtype=jnp.float32)

    def hold(bits: Any, pulse: Any) -> Any:
        bits = jnp.where(pulse == 0, bits, pulse)
        return bits, bits

    return pulses, jax.lax.scan(hold, jnp.zeros(shape[1:]), pulses)[1]


def _states(cell: str, parameters: dict[str, Any], pulses: Any) -> Any:
    F = Cell(*(parameters[key] for key in ("Wi", "Wh", "b")), cell=cell)
    n_states = F.Wh.shape[-1] * (2 if cell == "lstm" else 1)

    def step(x: Any, u: Any) -> Any:
        x = jax.vmap(F)(x, u)
        return x, x

    return jax.lax.scan(step, jnp.zeros((pulses.shape[1], n_states)), pulses)[1]
