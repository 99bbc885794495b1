"""A chaotic network: fixed points everywhere.

A network of random weights, `dx/dt = -x + g J tanh(x)`, has a single fixed point while the gain `g`
is small. A large network becomes chaotic at `g = 1`, and from there on the number of its fixed
points grows with the gain, and exponentially with the number of units.

**What to look at.** On the left is the number of fixed points that 1000 starts find in one network
of 100 units. At high gains many of them are found only once, so there must be more: the bars reach
up to the least number that `slowpoints.coverage` estimates. On the right are the points of the
highest gain. None of them is stable. The farther a point is from the origin, the fewer unstable
directions it has: those at the distances of the network's trajectories (grey) repel along a dozen
of the 100 directions or less, and attract along all others. In large networks, most points lie
farther out than the trajectories (Stubenrauch et al. 2022).

**Sources.** Sompolinsky, Crisanti & Sommers (1988). Chaos in random neural networks. *Physical
Review Letters* 61:259–262. Wainrib & Touboul (2013). Topological and dynamical complexity of random
neural networks. *Physical Review Letters* 110:118101. Stubenrauch, Keup, Kurth, Helias & van Meegen
(2022). The distribution of unstable fixed points in chaotic neural networks. arXiv:2210.07877.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N, GAINS = 100, (0.75, 1.0, 1.5, 2.0, 2.5, 3.0)
J = jax.random.normal(jax.random.key(0), (N, N)) / np.sqrt(N)
starts = 0.6 * jax.random.normal(jax.random.key(1), (1000, N))


class Network(slowpoints.Transition):
    W: jax.Array

    def __call__(self, x, u):
        return -x + self.W @ jnp.tanh(x)


counts, unseen = [], []
for g in GAINS:
    F = slowpoints.ContinuousTime(Network(g * J))
    fps = slowpoints.unique(slowpoints.optimize_batch(F, g * starts, jnp.zeros(1))).compact()
    fps = fps[fps.status == slowpoints.Status.FIXED_POINT]  # the others are slow points
    fps = slowpoints.decompose(slowpoints.jacobians(F, fps)).to_numpy()
    told = slowpoints.coverage(fps)
    counts.append(fps.n)
    unseen.append(told.n_unseen)
    index = np.asarray(fps.n_unstable())
    print(f"g = {g}: {fps.n} points, about {told.n_unseen:.0f} or more unseen; ", end="")
    print(f"{index.min()} to {index.max()} unstable directions")
assert counts[0] == 1 and np.all(np.diff(counts) >= 0) and counts[-1] > 20
assert index.min() > 0  # none is stable

x, norms = jax.random.normal(jax.random.key(2), (20, N)), []
step = jax.jit(jax.vmap(lambda x: x + 0.1 * F.f(x, jnp.zeros(1))))
for k in range(1500):
    x = step(x)
    norms += [np.linalg.norm(x, axis=1)] if k > 500 else []

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
fig, (left, right) = plt.subplots(1, 2, figsize=(5.6, 2.6))
left.errorbar(GAINS, counts, [np.zeros(len(GAINS)), unseen], fmt="none", ecolor="0.5", capsize=3)
left.plot(GAINS, counts, "o-", color="#0072B2", ms=5)
left.axvline(1, color="0.7", ls="--", lw=0.8, zorder=0)
left.text(1.04, 60, "chaos", color="0.4")
left.set(yscale="log", xlabel="gain $g$", ylabel="fixed points", title=f"{N} units")
low, high = np.percentile(norms, [2.5, 97.5])
right.axvspan(low, high, color="0.85", label="trajectories")
distance = np.linalg.norm(fps.xstar, axis=1)
assert index[distance > low].max() <= 12 < index[distance < 10].min()
right.plot(distance, index, "^", color="#E69F00", mec="black", mew=0.5, ms=5, label="fixed points")
right.set(xlabel="distance from the origin", ylabel="unstable directions", title=f"$g$ = {g:g}")
right.legend(frameon=False)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=180, bbox_inches="tight")
