"""Train the BrainPy network of README to remember three bits, and store it.

    python docs/data/train_flipflop_brainpy.py

takes a minute or two and writes `flipflop_brainpy.msgpack` beside this file. The task is that of
Sussillo & Barak (2013): each of three inputs carries occasional pulses of +1 and -1, and each
output must hold the sign of the last pulse on its input.
"""

from pathlib import Path

import brainpy as bp
import brainpy.math as bm
import jax
import jax.numpy as jnp

import slowpoints
from slowpoints.flipflop import trials

N_BITS, N_UNITS, N_TRIALS, N_STEPS, N_UPDATES = 3, 32, 64, 60, 3000
WEIGHT_COST = 1e-4


class Network(bp.DynSysGroup):
    """The network as README defines it."""

    def __init__(self):
        super().__init__()
        self.rnn = bp.dyn.GRUCell(N_BITS, N_UNITS)
        self.readout = bp.dnn.Dense(N_UNITS, N_BITS)

    def update(self, u):
        """Return the outputs of one step."""
        return self.readout(self.rnn(u))


def main():
    """Train, and say how well the outputs follow the bits of new trials."""
    bm.random.seed(0)
    with bm.training_environment():
        network = Network()
    network.rnn.reset_state(N_TRIALS)
    weights = (network.rnn.Wi, network.rnn.Wh, network.readout.W)
    schedule = bp.optim.CosineAnnealingLR(0.01, T_max=N_UPDATES)
    optimizer = bp.optim.Adam(schedule, train_vars=network.train_vars().unique())

    def error(key, weight_cost):
        pulses, bits = trials(key, N_TRIALS, N_STEPS, N_BITS)
        network.rnn.state.value = jnp.zeros((N_TRIALS, N_UNITS))

        def step(u):
            return bm.as_jax(network(u))

        outputs = bm.for_loop(step, pulses.swapaxes(0, 1))
        mismatch = jnp.mean((outputs - bits.swapaxes(0, 1)) ** 2)
        # Small weights keep the network from remembering with closed gates, which hold any state.
        return mismatch + weight_cost * sum(jnp.sum(w.value**2) for w in weights)

    gradients_of = bm.grad(error, grad_vars=network.train_vars().unique())

    def update(i):
        gradients = gradients_of(jax.random.fold_in(jax.random.key(0), i), WEIGHT_COST)
        norm = jnp.sqrt(sum(jnp.sum(g**2) for g in gradients.values()))
        optimizer.update({name: g / jnp.maximum(norm, 1.0) for name, g in gradients.items()})
        schedule.step_epoch()

    bm.jit(lambda numbers: bm.for_loop(update, numbers))(jnp.arange(N_UPDATES))
    print(f"mean squared error on new trials: {float(error(jax.random.key(1), 0.0)):.1e}")
    network.rnn.reset_state(1)
    slowpoints.save_checkpoint(network, Path(__file__).with_name("flipflop_brainpy.msgpack"))


if __name__ == "__main__":
    main()
