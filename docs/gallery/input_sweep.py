"""An input is swept up and down: folds and hysteresis.

Three units excite themselves, and each other a little, and a common input `s` drives them. Each of
them has a threshold of its own. `slowpoints.continuation` follows all fixed points through `s`,
around the folds at which a stable point and a saddle meet.

**What to look at.** Solid lines are stable states, the others are saddles. Where `s` rises slowly
(green), the state follows a solid line until it ends at a fold, and jumps up to the next one. On
its way back (pink) it jumps at other folds: for each `s` in between, the state depends on where it
comes from. Such a stair of states holds a sum of inputs, step by step, and it is robust where a
line attractor has to be tuned. Two of the branches are closed (isolas). No sweep leads to them, but
a search at `s = 0` finds their points.

**Sources.** Koulakov, Raghavachari, Kepecs & Lisman (2002). Model for a robust neural integrator.
*Nature Neuroscience* 5:775–782. Strogatz (2015). *Nonlinear Dynamics and Chaos*, 2nd edition,
chapter 3.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

W = 1.54 * jnp.eye(3) + 0.06
thresholds = jnp.array([-0.25, 0.0, 0.25])


def G(x, s):
    return jnp.tanh(W @ x - thresholds + s)


starts = jax.random.uniform(jax.random.key(0), (500, 3), minval=-1, maxval=1)
fps, _ = slowpoints.find_fixed_points(G, starts, jnp.zeros(1))
branches = slowpoints.continuation(G, fps, (-0.6, 0.6))
branches.print_summary()

s = jnp.linspace(-0.6, 0.6, 6000)[:, None]  # slow: the state has time to settle at each value
sweep = jax.jit(lambda x, s: jax.lax.scan(lambda x, s: (G(x, s),) * 2, x, s)[1])
up = sweep(-jnp.ones(3), s)
down = sweep(jnp.ones(3), s[::-1])

folds = [event.s for event in branches.events if event.kind == "fold"]
sums = [branches.sum_of_signs(value) for value in np.linspace(-0.59, 0.59, 25)]
assert len(folds) == len(branches.events) and set(sums) == {1}
for path, inputs in ((up, s), (down, s[::-1])):  # jumps are just beyond folds of the main branch
    jumps = inputs[:-1, 0][np.abs(np.diff(path.mean(axis=1))) > 0.005]
    runs = jumps[np.append(True, np.abs(np.diff(jumps)) > 0.02)]
    print("jumps at", runs.round(3))
    assert len(runs) == 3
    assert all(np.min(np.abs(np.array(folds) - at)) < 0.02 for at in runs)

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, ax = plt.subplots(figsize=(4.8, 3.4))
look = {"lw": 4, "alpha": 0.5, "zorder": 0, "markevery": (300, 600), "mec": "black"}
ax.plot(s, up.mean(axis=1), color="#009E73", marker=">", label="input rises", **look)
ax.plot(s[::-1], down.mean(axis=1), color="#CC79A7", marker="<", label="input falls", **look)
config = slowpoints.PlotConfig(title="", xlabel="input $s$", ylabel="mean of the three units")
slowpoints.plot_branches(branches, config, ax=ax, projection=np.ones(3) / 3)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=210, bbox_inches="tight")
