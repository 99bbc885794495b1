"""The flip-flop task of Sussillo & Barak (2013), and BrainPy networks that learn it.

Each input carries rare pulses of +1 and -1, and the output of the same channel holds the sign of
the last one. A network that has learned this has a fixed point for each combination of what a bit
can be: +, -, or on the ridge between the two, so 3^bits in all. It is stable if no bit is on a
ridge, and otherwise a saddle with one unstable direction for each bit that is.

Imports BrainPy, so nothing that the package imports may import this.
"""

from collections.abc import Callable, Iterator
from math import comb
from typing import Any, NamedTuple

import brainpy as bp
import brainpy.math as bm
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

_STEPS_PER_CALL = 50  # training steps in one compiled call, and between two reports


class Cell(NamedTuple):
    """A kind of recurrent unit.

    Attributes:
        n_gates: pre-activations per unit.
        states_per_unit: state variables per unit.
        step: the next states from the states, from what inputs and biases add to the
            pre-activations, and from the recurrent weights.
    """

    n_gates: int
    states_per_unit: int
    step: Callable[[Array, Array, Array], Array]


def _tanh(x: Array, drive: Array, w_rec: Array) -> Array:
    return jnp.tanh(drive + x @ w_rec)


def _gru(x: Array, drive: Array, w_rec: Array) -> Array:
    drive_r, drive_z, drive_n = jnp.split(drive, 3, axis=-1)
    rec_r, rec_z, rec_n = jnp.split(x @ w_rec, 3, axis=-1)
    reset, keep = jax.nn.sigmoid(drive_r + rec_r), jax.nn.sigmoid(drive_z + rec_z)
    return (1 - keep) * jnp.tanh(drive_n + reset * rec_n) + keep * x


def _lstm(x: Array, drive: Array, w_rec: Array) -> Array:
    h, c = jnp.split(x, 2, axis=-1)
    write, keep, new, read = jnp.split(drive + h @ w_rec, 4, axis=-1)
    # Gates that keep most of the state at first let gradients through.
    c = jax.nn.sigmoid(keep + 1) * c + jax.nn.sigmoid(write) * jnp.tanh(new)
    return jnp.concatenate([jax.nn.sigmoid(read) * jnp.tanh(c), c], axis=-1)


CELLS = {"tanh": Cell(1, 1, _tanh), "gru": Cell(3, 1, _gru), "lstm": Cell(4, 2, _lstm)}


class FlipFlopNetwork(bp.DynamicalSystem):
    """A recurrent layer with a linear readout, one input and one output per bit.

    Called as `FixedPointFinder` calls its models: `outputs, h_next = model(inputs, hidden)`.

    Args:
        cell: `'tanh'`, `'gru'` or `'lstm'`; the state of an LSTM is `[h, c]`.
        n_units: how many units the layer has.
        n_bits: how many bits there are to hold.
        key: draws the initial weights.
    """

    def __init__(self, cell: str, n_units: int, n_bits: int, key: Key[Array, ""]):
        super().__init__()
        self.cell = CELLS[cell]
        self.n_units, self.n_bits = n_units, n_bits
        self.n_states = self.cell.states_per_unit * n_units
        k_in, k_rec, k_out = jax.random.split(key, 3)
        width = self.cell.n_gates * n_units
        orthogonal = jax.nn.initializers.orthogonal()
        gates = [
            orthogonal(k, (n_units, n_units)) for k in jax.random.split(k_rec, self.cell.n_gates)
        ]
        self.w_in = bm.TrainVar(0.5 * jax.random.normal(k_in, (n_bits, width)))
        self.w_rec = bm.TrainVar(jnp.concatenate(gates, axis=1))
        self.b = bm.TrainVar(jnp.zeros(width))
        self.w_out = bm.TrainVar(jax.random.normal(k_out, (n_units, n_bits)) / np.sqrt(n_units))
        self.b_out = bm.TrainVar(jnp.zeros(n_bits))

    def update(
        self, inputs: Float[Array, "n time n_bits"], hidden: Float[Array, "n n_states"]
    ) -> tuple[Float[Array, "n time n_bits"], Float[Array, "n n_states"]]:
        """Run through the inputs.

        Args:
            inputs: `[n, time, n_bits]` the pulses.
            hidden: `[n, n_states]` the states to start from.

        Returns:
            `[n, time, n_bits]` the outputs, and `[n, n_states]` the last states.
        """
        states = self.states(inputs, hidden)
        return self.readout(states), states[:, -1]

    def states(
        self, inputs: Float[Array, "n time n_bits"], hidden: Float[Array, "n n_states"]
    ) -> Float[Array, "n time n_states"]:
        """Return the states after each of the inputs; arguments as in `update`."""
        drive = inputs @ self.w_in.value + self.b.value
        w_rec = self.w_rec.value

        def step(x: Array, drive_t: Array) -> tuple[Array, Array]:
            x = self.cell.step(x, drive_t, w_rec)
            return x, x

        _, states = jax.lax.scan(step, hidden, drive.swapaxes(0, 1))
        return states.swapaxes(0, 1)

    def readout(self, states: Float[Array, "*n n_states"]) -> Float[Array, "*n n_bits"]:
        """Return the outputs that go with states."""
        return states[..., : self.n_units] @ self.w_out.value + self.b_out.value

    def rest(self, n: int) -> Float[Array, "n n_states"]:
        """Return `n` states at zero, where trials start."""
        return jnp.zeros((n, self.n_states))


def trials(
    key: Key[Array, ""], n_trials: int, n_steps: int, n_bits: int, p_pulse: float = 0.25
) -> tuple[Float[Array, "n_trials n_steps n_bits"], Float[Array, "n_trials n_steps n_bits"]]:
    """Draw trials of the task.

    Returns:
        The pulses, and the bits to be held: 0 before the first pulse of a channel, when any output
        will do.
    """
    k_when, k_sign = jax.random.split(key)
    shape = (n_trials, n_steps, n_bits)
    when = jax.random.bernoulli(k_when, p_pulse, shape)
    pulses = when * jax.random.rademacher(k_sign, shape, dtype=jnp.float32)

    def hold(bits: Array, pulse: Array) -> tuple[Array, Array]:
        bits = jnp.where(pulse == 0, bits, pulse)
        return bits, bits

    _, bits = jax.lax.scan(hold, jnp.zeros((n_trials, n_bits)), pulses.swapaxes(0, 1))
    return pulses, bits.swapaxes(0, 1)


def mean_squared_error(
    outputs: Float[Array, "n time n_bits"], bits: Float[Array, "n time n_bits"]
) -> Float[Array, ""]:
    """Return the mean squared error, from the first pulse of each channel on."""
    given = bits != 0
    return jnp.sum(given * (outputs - bits) ** 2) / jnp.maximum(1, jnp.sum(given))


def train(
    model: FlipFlopNetwork,
    key: Key[Array, ""],
    n_steps: int,
    *,
    learning_rate: float = 5e-3,
    n_trials: int = 64,
    n_time: int = 64,
    weight_cost: float = 3e-5,
    clip: float = 1.0,
) -> Iterator[tuple[int, float]]:
    """Train with Adam, at a learning rate that falls to zero along a cosine.

    The cost of large weights keeps the networks simple: without it, GRUs and LSTMs of this size
    often end up with fixed points that the task does not call for.

    Args:
        model: the network, which is changed.
        key: draws the trials.
        n_steps: how many steps to take.
        learning_rate: the first learning rate.
        n_trials: trials per step.
        n_time: time steps per trial.
        weight_cost: what the sum of the squared weights is multiplied by in the loss.
        clip: gradients with a norm above this are scaled down to it.

    Yields:
        After each compiled call, the steps it took and the error in the last of them.
    """
    parameters = model.train_vars().unique()
    weights = (model.w_in, model.w_rec, model.w_out)
    schedule = bp.optim.CosineAnnealingLR(learning_rate, T_max=n_steps)
    optimizer = bp.optim.Adam(schedule, train_vars=parameters)

    def loss(key: Array) -> tuple[Array, Array]:
        pulses, bits = trials(key, n_trials, n_time, model.n_bits)
        outputs, _ = model(pulses, model.rest(n_trials))
        mismatch = mean_squared_error(outputs, bits)
        return mismatch + weight_cost * sum(jnp.sum(w.value**2) for w in weights), mismatch

    gradients_of: Any = bm.grad(loss, grad_vars=parameters, has_aux=True)

    def step(i: Array) -> Array:
        gradients, mismatch = gradients_of(jax.random.fold_in(key, i))
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradients.values()))
        scale = clip / jnp.maximum(norm, clip)
        optimizer.update({name: scale * g for name, g in gradients.items()})
        schedule.step_epoch()
        return mismatch

    steps = bm.jit(lambda numbers: bm.for_loop(step, numbers))
    for start in range(0, n_steps, _STEPS_PER_CALL):
        numbers = jnp.arange(start, min(start + _STEPS_PER_CALL, n_steps))
        yield len(numbers), float(np.asarray(steps(numbers))[-1])


def expected_counts(n_bits: int) -> list[int]:
    """Return how many fixed points of index 0, 1, ..., `n_bits` the task calls for."""
    return [comb(n_bits, k) * 2 ** (n_bits - k) for k in range(n_bits + 1)]
