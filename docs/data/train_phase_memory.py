"""Train the network of the gallery's phase memory, and store it.

    python docs/data/train_phase_memory.py

takes half a minute and writes `phase_memory.npz` beside this file. The task is that of Pals, Macke
& Barak (2024), with three items: a sine wave arrives all the time, and some time after an item has
been shown, the output must be a sine wave whose phase relative to it tells the item.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

N_UNITS, N_ITEMS, PERIOD, N_TRIALS, N_STEPS, N_UPDATES = 32, 3, 20, 64, 160, 600
LEAK, NOISE = 0.2, 0.05
SHOWN_FOR, ANSWER_AFTER = 10, 20


def trials(key, n_trials=N_TRIALS):
    """Return inputs `[trials, time, 1 + items]`, targets and where these count `[trials, time]`."""
    of_item, of_start, of_phase = jax.random.split(key, 3)
    item = jax.random.randint(of_item, (n_trials, 1), 0, N_ITEMS)
    start = jax.random.randint(of_start, (n_trials, 1), 10, 40)
    time = jnp.arange(N_STEPS)
    phase = 2 * jnp.pi * (time + jax.random.randint(of_phase, (n_trials, 1), 0, PERIOD)) / PERIOD
    is_shown = (time >= start) & (time < start + SHOWN_FOR)
    shown = is_shown[:, :, None] * jax.nn.one_hot(item, N_ITEMS)
    inputs = jnp.concatenate([jnp.sin(phase)[:, :, None], shown], axis=2)
    return inputs, jnp.sin(phase + 2 * jnp.pi * item / N_ITEMS), time >= start + ANSWER_AFTER


def outputs(weights, inputs, x, noise):
    """Return the outputs `[trials, time]`; `noise`, `[time, trials, units]`, is added to states."""

    def step(x, now):
        u, e = now
        drive = jnp.tanh(x) @ weights["W"].T + u @ weights["B"].T + weights["b"]
        x = (1 - LEAK) * x + LEAK * drive + e
        return x, jnp.tanh(x) @ weights["readout"]

    return jax.lax.scan(step, x, (inputs.swapaxes(0, 1), noise))[1].T


def error_of(weights, key):
    """Return the mean squared error on new trials, from random states and with noise."""
    of_trials, of_x, of_noise = jax.random.split(key, 3)
    inputs, targets, counts = trials(of_trials)
    x = jax.random.normal(of_x, (N_TRIALS, N_UNITS))
    noise = NOISE * jax.random.normal(of_noise, (N_STEPS, N_TRIALS, N_UNITS))
    errors = (outputs(weights, inputs, x, noise) - targets) ** 2
    return jnp.sum(counts * errors) / jnp.sum(counts)


def main():
    """Train, and say how well the outputs follow the targets of new trials."""
    of_W, of_B, of_readout, of_training, of_test = jax.random.split(jax.random.key(0), 5)
    weights = {
        "W": 1.2 * jax.random.normal(of_W, (N_UNITS, N_UNITS)) / np.sqrt(N_UNITS),
        "B": jax.random.normal(of_B, (N_UNITS, 1 + N_ITEMS)),
        "b": jnp.zeros(N_UNITS),
        "readout": jax.random.normal(of_readout, (N_UNITS,)) / N_UNITS,
    }
    adam = optax.adam(optax.cosine_decay_schedule(0.01, N_UPDATES))
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), adam)

    @jax.jit
    def update(weights, state, key):
        steps, state = optimizer.update(jax.grad(error_of)(weights, key), state)
        return optax.apply_updates(weights, steps), state

    state = optimizer.init(weights)
    for key in jax.random.split(of_training, N_UPDATES):
        weights, state = update(weights, state, key)
    print(f"mean squared error on new trials, with noise: {error_of(weights, of_test):.1e}")
    np.savez(Path(__file__).with_name("phase_memory.npz"), **weights)


if __name__ == "__main__":
    main()
