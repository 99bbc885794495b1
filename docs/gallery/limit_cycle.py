"""A limit cycle around an unstable spiral.

A network of 100 units oscillates. Its weights are a rotation in two directions, and random
otherwise. Every state runs to the same closed orbit, a limit cycle, which is not a fixed point and
which a search does not find. What it finds is the fixed point inside.

**What to look at.** The fixed point is a spiral with one complex pair of eigenvalues outside the
unit circle (right), so states beside it turn and move away (left, orange). States far outside come
in (left, blue). Between the two is the cycle. The angle of the pair tells the period near the fixed
point, and roughly that of the cycle, which is longer since the units saturate. In networks that
were trained to generate sine waves, this is how fixed points explain the oscillation. On the right,
the numbers at the dotted lines are time constants in steps, negative where deviations grow, and
those at the unit circle are frequencies in cycles per step.

**Source.** Sussillo & Barak (2013). Opening the black box: low-dimensional dynamics in
high-dimensional recurrent neural networks. *Neural Computation* 25:626–649.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N, LEAK, TURN = 100, 0.2, 0.8
rng = np.random.default_rng(0)
m, _ = np.linalg.qr(rng.normal(size=(N, 2)))
rotation = np.array([[np.cos(TURN), -np.sin(TURN)], [np.sin(TURN), np.cos(TURN)]])
W = 2.0 * m @ rotation @ m.T + 0.6 * rng.normal(size=(N, N)) / np.sqrt(N)


class Network(slowpoints.Transition):
    W: jax.Array

    def __call__(self, x, u):
        return (1 - LEAK) * x + LEAK * self.W @ jnp.tanh(x)


F = Network(jnp.asarray(W, jnp.float32))
starts = jax.random.normal(jax.random.key(0), (200, N))
fps, _ = slowpoints.find_fixed_points(F, starts, jnp.zeros(1))
assert fps.n == 1 and fps.n_unstable().tolist() == [2]

run = jax.jit(lambda x: jax.lax.scan(lambda x, _: (F(x, jnp.zeros(1)),) * 2, x, None, 400)[1])
inside = run(fps.xstar[0] + 0.02 * jnp.asarray(fps.eigvec_J_xstar[0, :, 0].real)) @ m
outside = run(jnp.asarray(15 * m[:, 0] + 15 * m[:, 1], jnp.float32)) @ m
cycle = outside[-200:]
phase = np.unwrap(np.arctan2(cycle[:, 1], cycle[:, 0]))
period = 2 * np.pi * (len(cycle) - 1) / abs(phase[-1] - phase[0])
near = 1 / np.abs(fps.frequencies()[0, 0])
print(f"Period: {near:.1f} steps near the fixed point, {period:.1f} on the cycle.")
assert near < period < 2 * near
distance = np.linalg.norm(inside[-200:, None] - outside[None, -200:], axis=2).min(axis=1)
assert distance.max() < 0.1 * np.ptp(cycle)  # both end on one orbit

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, (left, right) = plt.subplots(1, 2, figsize=(5.6, 2.8))
left.plot(*outside.T, "--", color="#0072B2", lw=1, label="from outside")
left.plot(*inside.T, color="#E69F00", lw=1, label="from inside")
left.plot(*cycle[-40:].T, color="black", lw=2.5, label="limit cycle")
config = slowpoints.PlotConfig(
    show_legend=False, xlabel="first direction", ylabel="second direction"
)
config.title = "state space"
slowpoints.plot_fixed_points_2d(fps, None, config, ax=left, projection=m)
left.set_aspect("equal")
config = slowpoints.PlotConfig(show_legend=False, title="eigenvalues at the fixed point")
slowpoints.plot_eigenvalues(fps, config, ax=right)
handles, labels = left.get_legend_handles_labels()
fig.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=180, bbox_inches="tight")
