"""A phase memory: three oscillations under one periodic input.

A network of 32 units was trained to keep which of three items it was shown in the *phase* of its
output, relative to a sine wave that it receives all the time. No state is a fixed point, since that
input never rests. But `slowpoints.stroboscopic` makes a period of the input one step, and of this
map each oscillation that follows the input is a fixed point. (`docs/data/train_phase_memory.py`
trains the network and stores its weights.)

**What to look at.** On the right are the outputs in the three memories, a third of a period apart,
and the input (grey). On the left, the memories are circles, in the plane through them, at the
beginning of a period. `slowpoints.attractors` has run the states of this plane forward, and
`slowpoints.plot_basins` colours each by the memory that it comes to. The triangles are saddles
beside the plane: oscillations as well, each between two memories. B has one towards each of the
others, and none is found between A and C.

The eigenvalues are Floquet multipliers, by which deviations are multiplied in one period. Those of
the memories are below 0.2: less than a fifth of a disturbance is left after a period. The leading
one of each saddle is 4 or 5. Of 1,000 random states, all end in a memory, and more than half in the
same one. Without the input, this network comes to rest, whereas the paper describes its networks as
oscillators of their own, which are coupled to the input.

**Source.** Pals, Macke & Barak (2024). Trained recurrent neural networks develop phase-locked limit
cycles in a working memory task. *PLoS Computational Biology* 20(2):e1011852.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

PERIOD, SHOWN_FOR = 20, 10
weights = np.load("docs/data/phase_memory.npz")


class Network(slowpoints.Transition):
    W: jax.Array
    B: jax.Array
    b: jax.Array

    def __call__(self, x, u):
        return 0.8 * x + 0.2 * (self.W @ jnp.tanh(x) + self.B @ u + self.b)


F = Network(*(jnp.asarray(weights[name]) for name in ("W", "B", "b")))
one_period = np.zeros((PERIOD, 4), np.float32)
one_period[:, 0] = np.sin(2 * np.pi * np.arange(PERIOD) / PERIOD)


@jax.jit
@jax.vmap
def outputs(x, u):
    states = jax.lax.scan(lambda x, u: (F(x, u),) * 2, x, u)[1]
    return jnp.tanh(states) @ weights["readout"]


def item_of(y):
    """Tell the item from the phase of the output in the last period."""
    turns = np.exp(-2j * np.pi * np.arange(PERIOD) / PERIOD)
    phase = np.angle(1j * np.asarray(y)[:, -PERIOD:] @ turns)
    return np.round(phase / (2 * np.pi / 3)).astype(int) % 3


rng = np.random.default_rng(0)
shown, u = rng.integers(3, size=600), np.tile(one_period, (600, 10, 1))
for trial, begin in enumerate(rng.integers(10, 40, size=600)):
    u[trial, begin : begin + SHOWN_FOR, 1 + shown[trial]] = 1
recalled = np.mean(item_of(outputs(np.zeros((600, 32)), u)) == shown)
print(f"The phase tells {recalled:.1%} of the items, six periods or more after they were shown.")

G = slowpoints.stroboscopic(F, one_period)
starts = jax.random.normal(jax.random.key(0), (1000, 32))
fps, _ = slowpoints.find_fixed_points(G, starts[:200], jnp.zeros(0), search_between=True)
fps.print_summary()
y = outputs(fps.xstar, np.tile(one_period, (fps.n, 2, 1)))
item = np.where(fps.is_stable, item_of(y), -1)
edges = slowpoints.connections(G, fps).edges
joined = {
    "".join(sorted("ABC"[item[k]] for k in edges.attractor[edges.saddle == s]))
    for s in edges.saddle
}
print("There is a saddle between", " and ".join(sorted(joined)))
found = slowpoints.attractors(G, starts, jnp.zeros(0))
found.print_summary()
resting = slowpoints.attractors(F, starts, jnp.zeros(4))
assert recalled > 0.99 and sorted(item) == [-1, -1, 0, 1, 2]
assert slowpoints.degree(G, fps) == 1 and joined == {"AB", "BC"}
assert np.abs(fps.eigval_J_xstar[fps.is_stable]).max() < 0.2
assert len(found) == 3 and found.share[0] > 0.5
for each in (found, resting):
    assert (each.kind == slowpoints.AttractorKind.FIXED_POINT).all()

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, (left, right) = plt.subplots(1, 2, figsize=(5.8, 2.9))
plane = slowpoints.plane_grid(fps.xstar[fps.is_stable], 120, margin=0.6)
in_plane = slowpoints.attractors(G, plane.reshape(-1, 32), jnp.zeros(0), n_exponents=1)
config = slowpoints.PlotConfig(show_legend=False, title="basins in a plane")
slowpoints.plot_basins(in_plane, plane, config, ax=left, fixed_points=fps)
circles, triangles = left.collections[-2:]
right.plot(np.tile(one_period[:, 0], 2), color="0.6", lw=3, label="input")
rows = np.linalg.norm(fps.xstar[:, None] - in_plane.x, axis=2).argmin(axis=0)
places = dict(zip(np.flatnonzero(fps.is_stable), circles.get_offsets()))
looks = zip(rows, ("#0072B2", "#D55E00", "#E69F00"), ("-", "--", "-."))
for row, color, dashes in sorted(looks, key=lambda look: item[look[0]]):
    name = "ABC"[item[row]]
    right.plot(y[row], dashes, color=color, label=f"memory {name}")
    left.annotate(name, places[row], xytext=(6, 4), textcoords="offset points", weight="bold")
right.set(title="outputs in the memories", xlabel="step", ylabel="output")
handles = [*right.lines, triangles]
names = [*(line.get_label() for line in right.lines), "saddle"]
fig.legend(handles, names, loc="outside lower center", ncols=5, frameon=False, handlelength=2.6)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=180, bbox_inches="tight")
