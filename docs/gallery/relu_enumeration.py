"""A ReLU network, against the enumeration of all its fixed points.

In each of its 2¹² regions, a network of 12 rectified units is linear. So all its fixed points can
be enumerated: for each set of active units, solve the linear equations, and keep the solution if
exactly these units are active in it. `slowpoints.find_all` gives the same points, with a proof that
there are no others, and a search from random states is compared with both.

**What to look at.** Each column is a fixed point, and each row a unit; the darker, the more active.
The bars count how many of 2000 starts ended at each point. The search finds most of the points, but
not all (crosses). The signs of `det(I - J)` at the points that it found sum to 3. For all points of
a network with bounded states they sum to 1, so some are missing. Rectified units are hard to
search: three in four starts end at slow points instead, where a unit is just at its threshold and
`q` has a kink. For a network of this size, enumerate.

The network is a combinatorial threshold-linear network, whose weights follow from a graph. Here its
stable points are the cliques of the graph from which no unit receives edges of all members.

**Sources.** Morrison, Degeratu, Itskov & Curto (2024). Diversity of emergent dynamics in
competitive threshold-linear networks. *SIAM Journal on Applied Dynamical Systems* 23:855–884,
arXiv:1605.04463. Curto, Geneson & Morrison (2019). Stable fixed points of combinatorial
threshold-linear networks. arXiv:1909.02947.
"""

import itertools
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N = 12
rng = np.random.default_rng(1)
edge = (rng.random((N, N)) < 0.25) & ~np.eye(N, dtype=bool)  # [i, j]: from unit j to unit i
W = np.where(edge, -0.75, -1.5) * ~np.eye(N, dtype=bool)

subsets = [np.array(s) for s in itertools.product((0.0, 1.0), repeat=N)]
solutions = [np.linalg.solve(np.eye(N) - s[:, None] * W, s) for s in subsets]
exact = np.array([x for x, s in zip(solutions, subsets) if np.array_equal(W @ x + 1 > 0, s > 0)])


def rate_of_change(x, u):
    return -x + jax.nn.relu(jnp.asarray(W, x.dtype) @ x + u)


F, u = slowpoints.ContinuousTime(rate_of_change), jnp.ones(1)
proven, complete = slowpoints.find_all(F, (np.zeros(N), np.ones(N)), u)
proven = slowpoints.decompose(slowpoints.jacobians(F, proven)).to_numpy()
starts = jax.random.uniform(jax.random.key(0), (2000, N))
ends, rows = slowpoints.find_fixed_points(F, starts, u, final_q_threshold=None)
fps = ends[ends.status == slowpoints.Status.FIXED_POINT]  # without the slow points

distance = np.linalg.norm(proven.xstar[:, None] - exact, axis=2)
assert complete and proven.n == len(exact) == len(np.unique(distance.argmin(axis=1)))
assert distance.min(axis=1).max() < 1e-9
hits = np.zeros(proven.n, int)
for x, count in zip(fps.xstar, fps.hits):
    nearest = np.linalg.norm(proven.xstar - x, axis=1).argmin()
    assert np.linalg.norm(proven.xstar[nearest] - x) < 1e-4
    hits[nearest] = count
signs = slowpoints.degree(F, proven), slowpoints.degree(F, fps)
print(f"{proven.n} fixed points, with signs that sum to {signs[0]}; ", end="")
print(f"the search finds {fps.n} of them, which sum to {signs[1]}.")
assert signs[0] == 1

supports = {tuple(np.flatnonzero(x > 0)) for x in proven.xstar[proven.is_stable]}
cliques = set()
for s in subsets[1:]:
    members = np.flatnonzero(s)
    is_clique = all(edge[i, j] for i in members for j in members if i != j)
    targets = edge[:, members].all(axis=1) & (s == 0)
    if is_clique and not targets.any():
        cliques.add(tuple(members))
assert supports == cliques

found = rows.status == slowpoints.Status.FIXED_POINT
from_threshold = np.abs(rows.xstar @ W.T + 1).min(axis=1)
assert np.median(from_threshold[~found]) < 1e-6 < 1e-2 < from_threshold[found].min()

index = proven.n_unstable()
order = np.lexsort([-hits, index])
plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
fig, axes = plt.subplots(3, 1, figsize=(5.2, 3.6), sharex=True, height_ratios=(2.2, 1, 1.2))
image = axes[0].imshow(proven.xstar[order].T, cmap="Blues", aspect="auto", vmin=0, vmax=0.6)
axes[0].set(ylabel="unit", yticks=(0, 11), yticklabels=(1, 12))
fig.colorbar(image, ax=axes[0], label="activity", pad=0.01)
axes[1].plot(index[order], ".", color="black")
axes[1].set(ylabel="unstable\ndirections", ylim=(-0.5, None))
axes[2].bar(np.arange(proven.n), hits[order], color="#0072B2")
missed = np.flatnonzero(hits[order] == 0)
axes[2].plot(
    missed, np.full(missed.size, 0.7), "x", color="#D55E00", ms=5, label="missed by the search"
)
axes[2].set(yscale="log", ylim=(0.4, 500), ylabel="starts", xlabel="fixed point")
axes[2].legend(frameon=False, loc="upper right")
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=190, bbox_inches="tight")
