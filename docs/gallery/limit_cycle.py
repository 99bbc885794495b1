"""A limit cycle around an unstable spiral.

A network of 100 units oscillates. Its weights are a rotation in two directions, and random
otherwise. Every state runs to the same closed orbit, a limit cycle, which is not a fixed point and
which a search for such points does not find. What it finds is the fixed point inside.

**What to look at.** The fixed point (square) is a spiral with one complex pair of eigenvalues
outside the unit circle (middle), so states beside it turn and move away (left, solid line). States
far outside come in (dashed). Between the two is the cycle, which `slowpoints.attractors` finds by
running 200 random states, and `slowpoints.closed_orbits` to all digits; the colour is its phase.
Its leading Lyapunov exponent is zero, since nothing grows or shrinks along it, and all others are
negative (right): in one turn, deviations across it fall to a fiftieth or less.

The angle of the pair tells the period near the fixed point, and roughly that of the cycle, which is
longer since the units saturate. In networks that were trained to generate sine waves, this is how
fixed points explain the oscillation. In the middle, the numbers at the dotted lines are time
constants in steps, negative where deviations grow, and those at the unit circle are frequencies in
cycles per step.

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
from slowpoints import PlotConfig

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
no_input = jnp.zeros(0)
starts = jax.random.normal(jax.random.key(0), (200, N))
fps, _ = slowpoints.find_fixed_points(F, starts, no_input)
assert fps.n == 1 and fps.n_unstable().tolist() == [2]

found = slowpoints.attractors(F, starts, no_input, n_exponents=12)
found.print_summary()
orbit = slowpoints.closed_orbits(F, found, no_input)
print(orbit)
near, period = 1 / np.abs(fps.frequencies()[0, 0]), orbit.period[0]
print(f"Period: {near:.1f} steps near the fixed point, {period:.4f} on the cycle.")
assert found.kind.tolist() == [slowpoints.AttractorKind.CLOSED_ORBIT] and orbit.is_stable.all()
assert near < period < 2 * near and abs(found.period[0] - period) < 1e-3
assert abs(orbit.exponents[0, 0]) < 1e-6 and np.exp(period * orbit.exponents[0, 1]) < 1 / 50

run = jax.jit(lambda x: jax.lax.scan(lambda x, _: (F(x, no_input),) * 2, x, None, 400)[1])
inside = run(fps.xstar[0] + 0.02 * jnp.asarray(fps.eigvec_J_xstar[0, :, 0].real)) @ m
outside = run(jnp.asarray(15 * m[:, 0] + 15 * m[:, 1], jnp.float32)) @ m

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, (left, middle, right) = plt.subplots(1, 3, figsize=(7.8, 2.5), width_ratios=(1.3, 1, 1))
left.plot(*outside[:40].T, "--", color="black", lw=1)
left.plot(*inside[:90].T, color="black", lw=1)
config = PlotConfig(show_legend=False, xlabel="first direction", ylabel="second direction")
config.title = "state space"
slowpoints.plot_closed_orbits(orbit, config, ax=left, projection=m)
slowpoints.plot_fixed_points_2d(fps, None, config, ax=left, projection=m)
left.set_aspect("equal")
leading = slowpoints.decompose(fps, k=12, F=F)
config = PlotConfig(show_legend=False, title="12 leading eigenvalues", xlabel=r"Re $\lambda$")
slowpoints.plot_eigenvalues(leading, config, ax=middle)
config = PlotConfig(show_legend=False, title="12 Lyapunov exponents", ylabel="per step")
slowpoints.plot_lyapunov(found, config, ax=right)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=160, bbox_inches="tight")
