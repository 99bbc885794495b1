"""A Hopfield network: memories, and what is between them.

Three random patterns ξ are stored in the weights of 400 units. At a fixed point, the state of the
units depends on their overlaps m with the patterns alone, `x = tanh(β Σ m_k ξ_k)`, so the search is
for fixed points of the three overlaps. Each is then checked as a state of all units.

**What to look at.** The axes are the overlaps. The network recalls a pattern, or its negative, at
six stable points (ringed), which are on the axes. But it has eight more that nobody stored, each of
them a mixture of all three patterns. The lines are the trajectories that leave the saddles of index
1, each of which leads to a memory on one side and to a mixture on the other. Together they are a
solid with 14 vertices, 24 edges and 12 faces, a rhombic dodecahedron: a saddle of index 2 is in the
middle of each face, between two memories and two mixtures. Inside is the silent state, of index 3.

The overlaps are those of the mean-field theory of Amit, Gutfreund & Sompolinsky: `m = tanh(β m)`
for a memory, and `m = (tanh(3 β m) + tanh(β m)) / 4` for a mixture.

**Sources.** Hopfield (1984). Neurons with graded response have collective computational properties
like those of two-state neurons. *PNAS* 81:3088–3092. Amit, Gutfreund & Sompolinsky (1985).
Spin-glass models of neural networks. *Physical Review A* 32:1007–1018.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N, BETA = 400, 4.0
patterns = jax.random.rademacher(jax.random.key(1), (3, N), dtype=jnp.float32)
W = patterns.T @ patterns / N


def overlaps(m, u):
    return patterns @ jnp.tanh(BETA * m @ patterns) / N


def network(x, u):
    return jnp.tanh(BETA * W @ x)


starts = jax.random.uniform(jax.random.key(2), (2000, 3), minval=-1, maxval=1)
fps, _ = slowpoints.find_fixed_points(overlaps, starts, jnp.zeros(1))

x = np.tanh(BETA * fps.xstar @ patterns)  # the same points as states of all units
assert np.max(slowpoints.q_fn(network, x, jnp.zeros(1))) < 1e-9
assert np.bincount(fps.n_unstable()).tolist() == [14, 24, 12, 1]
assert slowpoints.degree(overlaps, fps) == 1

largest = np.abs(fps.xstar[fps.is_stable]).max(axis=1)
theory = [1.0, 1.0]
for _ in range(200):
    memory, mixture = theory
    theory = [np.tanh(BETA * memory), (np.tanh(3 * BETA * mixture) + np.tanh(BETA * mixture)) / 4]
print("overlaps of memories", largest[largest > 0.8].mean(), "and in theory", theory[0])
print("overlaps of mixtures", np.abs(fps.xstar[fps.is_stable][largest < 0.8]).mean(), theory[1])
assert np.sum(largest > 0.8) == 6 and np.sum(largest < 0.8) == 8
assert np.allclose(largest[largest > 0.8], theory[0], atol=0.02)
assert np.allclose(np.abs(fps.xstar[fps.is_stable][largest < 0.8]).mean(), theory[1], atol=0.02)

found = slowpoints.connections(overlaps, fps, n_directions=0)
edges = found.edges
from_edges = fps.n_unstable()[edges.saddle] == 1
paths = edges.path[from_edges]  # from a saddle to an attractor
assert len(paths) == 2 * 24 and (edges.attractor[from_edges] >= 0).all()

plt.rcParams["font.size"] = 8
fig = plt.figure(figsize=(5, 4.2), layout="constrained")
ax = fig.add_subplot(projection="3d", computed_zorder=False)
for path in paths:
    ax.plot(*path.T, color="0.2", lw=1, zorder=1)
config = slowpoints.PlotConfig(xlabel="overlap 1", ylabel="overlap 2")
stored = fps.xstar[fps.is_stable][largest > 0.8]
look = {"s": 110, "facecolors": "none", "edgecolors": "black", "depthshade": False}
ax.scatter(*stored.T, label="stored pattern (6)", **look)
slowpoints.plot_fixed_points_3d(fps, None, config, ax=ax, projection=np.eye(3))
ax.set_zlabel("overlap 3")
ax.view_init(18, -62)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=300, bbox_inches="tight")
