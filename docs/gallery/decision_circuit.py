"""A decision circuit in continuous time.

Two populations of neurons excite themselves and inhibit each other. The state is the share of NMDA
channels that are open in each, and follows the differential equations of Wong & Wang (2006), with
their published parameters. `slowpoints.ContinuousTime` turns the equations into a transition that
every function of the package takes. Eigenvalues are then rates, and a point is stable if all of
them have negative real parts.

**What to look at.** Without a stimulus (left) there are five fixed points: a state of low activity
in which the circuit waits, two memories of a decision, and a saddle on the way to each of them. A
stimulus that favours neither side (right) takes the waiting state away. It merges with the saddles,
and what remains is one saddle on the diagonal. States come to it along the diagonal, which is the
boundary between the two choices, and leave it with a time constant of 230 ms. This is more than
twice that of the slowest synapses, and it is how long the circuit can integrate evidence.

**Source.** Wong & Wang (2006). A recurrent network mechanism of time integration in perceptual
decisions. *Journal of Neuroscience* 26:1314–1328.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

TAU = 100.0  # ms, the time constant of NMDA channels, and the unit of time below
COUPLING = jnp.array([[0.2609, -0.0497], [-0.0497, 0.2609]])  # nA


def rate_of_change(s, u):  # s: [2] open channels; u: [2] stimulus in Hz
    drive = 270 * (COUPLING @ s + 0.3255 + 0.00052 * u) - 108
    firing = drive / (1 - jnp.exp(-0.154 * drive))  # Hz
    return -s + (1 - s) * 0.641 * firing * TAU / 1000


F = slowpoints.ContinuousTime(rate_of_change)
starts = jax.random.uniform(jax.random.key(0), (400, 2))
plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, axes = plt.subplots(1, 2, figsize=(5.6, 2.6))
found = []
for ax, hz, title in zip(axes, (0.0, 30.0), ("no stimulus", "stimulus of 30 Hz to both")):
    u = jnp.full(2, hz)
    fps, _ = slowpoints.find_fixed_points(F, starts, u)
    found.append(fps)
    corners = slowpoints.FixedPoints(xstar=np.array([[0.0, 0.0], [0.8, 0.8]]))
    config = slowpoints.PlotConfig(title=title, xlabel="$s_1$", ylabel="$s_2$", show_legend=False)
    slowpoints.plot_flow_field(F, corners, u, config, ax=ax, fixed_points=fps, margin=0)
limits = np.array([ax.images[0].get_clim() for ax in axes])
for ax in axes:  # one scale of colours
    ax.images[0].set_clim(limits.min(), limits.max())
handles, labels = axes[0].get_legend_handles_labels()
labels = [label.split(";")[0].split(" (")[0] for label in labels]
fig.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False)

assert [fps.n for fps in found] == [5, 3]
assert [int(fps.is_stable.sum()) for fps in found] == [3, 2]
saddle = found[1][~found[1].is_stable]
assert abs(saddle.xstar[0, 0] - saddle.xstar[0, 1]) < 1e-4  # on the diagonal
leaving, coming = saddle.time_constants(dt=TAU)[0]
print(f"States leave the saddle with {-leaving:.0f} ms, and come to it with {coming:.0f} ms.")

path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=180, bbox_inches="tight")
