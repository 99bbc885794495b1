"""A network of low rank, drawn in the two variables that it computes with.

500 units are connected by weights of rank two, `W = M Nᵀ`. All that the units do to each other goes
through the two numbers `κ = Nᵀ x`, and these follow a map of their own, which
`slowpoints.low_rank` finds from the weights alone. What is drawn on the left is therefore not a
projection in which something is hidden, but all there is.

**What to look at.** The arrows are the flow of the two variables, and the points were found in two
dimensions. The lines are states of all 500 units, run from random states and then reduced: they
follow the arrows. On the right are the eigenvalues at the saddle marked by a ring, of the Jacobian
of all units (triangles) and of the two variables (rings). Those of the two variables are among the
others, and the remaining 498 are all equal to `1 - leak`, here 0.8. The numbers at the dotted lines
are time constants in steps, negative where deviations grow, and those at the unit circle are
frequencies in cycles per step.

**Source.** Mastrogiuseppe & Ostojic (2018). Linking connectivity, dynamics, and computations in
low-rank recurrent neural networks. *Neuron* 99:609–623.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N, LEAK = 500, 0.2
rng = np.random.default_rng(0)
m = rng.normal(size=(N, 2))
n = m * [2.2, 1.8] + rng.normal(size=(N, 2))
W = m @ n.T / N

reduced = slowpoints.low_rank(np.float32(W), rank=2).reduced(jnp.tanh, leak=LEAK)
network = reduced.full()
starts = jax.random.uniform(jax.random.key(0), (300, 2), minval=-25, maxval=25)
fps, _ = slowpoints.find_fixed_points(reduced, starts, jnp.zeros(0))
lifted = reduced.lift(fps)  # the same points, as states of all units
lifted = slowpoints.decompose(slowpoints.jacobians(network, lifted)).to_numpy()
assert fps.n == 5 and lifted.qstar.max() < 1e-10
assert (lifted.n_unstable() == fps.n_unstable()).all()
assert np.allclose(lifted.eigval_J_xstar[:, 2:], 1 - LEAK, atol=1e-3)
assert np.allclose(lifted.eigval_J_xstar[:, :2], fps.eigval_J_xstar, atol=1e-3)

around = 2 * np.pi * (np.arange(10) + 0.5) / 10
x0 = 0.6 * np.stack([np.cos(around), np.sin(around)], axis=1) @ m.T + rng.normal(size=(10, N))
states = [jnp.asarray(np.tanh(x0) * np.tile([[0.1], [1.0]], (5, 1)), jnp.float32)]
for _ in range(300):
    states.append(jax.vmap(network, (0, None))(states[-1], jnp.zeros(0)))
kappa = reduced.project(jnp.stack(states, axis=1))  # [trials, time, 2]

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, (left, right) = plt.subplots(1, 2, figsize=(5.8, 3.0), width_ratios=(1.3, 1))
fig.get_layout_engine().set(wspace=0.08)
corners = slowpoints.FixedPoints(xstar=np.array([[-22.0, -22.0], [22.0, 22.0]], np.float32))
config = slowpoints.PlotConfig(title="500 units in two variables", show_legend=False)
config.xlabel, config.ylabel = r"$\kappa_1$", r"$\kappa_2$"
for k, path in enumerate(kappa):
    left.plot(*path.T, color="black", lw=1.8, label=None if k else "states of all units")
slowpoints.plot_flow_field(
    reduced, corners, jnp.zeros(0), config, ax=left, fixed_points=fps, margin=0
)
saddle = np.flatnonzero(fps.n_unstable() == 1)[0]
left.plot(*fps.xstar[saddle], "o", ms=11, mfc="none", mec="black")
config = slowpoints.PlotConfig(title="eigenvalues at the ringed saddle", show_legend=False)
slowpoints.plot_eigenvalues(lifted[int(saddle)], config, ax=right)
values = fps.eigval_J_xstar[saddle]
right.plot(values.real, values.imag, "o", ms=11, mfc="none", mec="black")
handles, labels = left.get_legend_handles_labels()
labels = [label.split(";")[0] for label in labels]  # all of the flow is in this plane
fig.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=175, bbox_inches="tight")
