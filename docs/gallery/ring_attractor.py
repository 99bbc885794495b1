"""A ring attractor, and what is left of it when its weights are not perfect.

64 units with preferred directions excite their neighbours and inhibit the others. A bump of
activity can stay at any direction: the network remembers an angle, as head-direction cells do. This
takes weights that depend on nothing but the difference between directions. Real weights are not
like that, so the second network has random ones added to them.

**What to look at.** With perfect weights (grey) every state on the ring is a fixed point. With
random weights of 5 percent added, eight fixed points are left: stable points and saddles, which
alternate. In between the bump drifts, and comes to rest at a stable point. The right panel shows
why: where the drift falls through zero is a stable point, and where it rises through zero a saddle.
The network still has a ring, on which it is slow, but as a memory for an angle it has only a
handful of states.

**Sources.** Zhang (1996). Representation of spatial orientation by the intrinsic dynamics of the
head-direction cell ensemble. *Journal of Neuroscience* 16:2112–2126. Renart, Song & Wang (2003).
Robust spatial working memory through homeostatic synaptic scaling in heterogeneous cortical
networks. *Neuron* 38:473–485.
"""

import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import slowpoints

N, LEAK, STEP = 64, 0.2, 10.0  # STEP: the duration of a step, in ms
preferred = 2 * np.pi * np.arange(N) / N
perfect = (12 * np.cos(preferred[:, None] - preferred) - 6) / N
random = np.random.default_rng(0).normal(size=(N, N)) / np.sqrt(N)


class Ring(slowpoints.Transition):
    W: jax.Array

    def __call__(self, x, u):
        return (1 - LEAK) * x + LEAK * jax.nn.sigmoid(4 * (self.W @ x + u))


def angle_of(x):  # of the bump, in degrees
    return np.degrees(np.angle(x @ np.exp(1j * preferred)))


bumps = jnp.exp(2 * np.cos(preferred - np.linspace(0, 2 * np.pi, 720)[:, None]) - 2)
rings, points, u = [], [], jnp.array([0.5])
for noise in (0.0, 0.05):
    F = Ring(jnp.asarray(perfect + noise * random, jnp.float32))
    x = bumps
    for _ in range(100):  # to the ring
        x = jax.vmap(F, (0, None))(x, u)
    slow = slowpoints.slow_manifold(F, x, u, q_max=1e-5, spacing=0.1, dt=STEP)
    rings.append(slowpoints.line_attractor(slow.points, dt=STEP))
    fps, _ = slowpoints.find_fixed_points(F, x, u, final_q_threshold=None)
    points.append(fps[fps.status == slowpoints.Status.FIXED_POINT])
    print(f"Noise of {noise}: {rings[-1]}")
assert all(ring.is_closed for ring in rings)

fps, x = points[1], rings[1].points.xstar
step = jax.vmap(F, (0, None))(x, u)
drift = (angle_of(step) - angle_of(x) + 180) % 360 - 180  # degrees in a step
angle = angle_of(x)
order, around = np.argsort(angle), np.argsort(angle_of(fps.xstar))
index = np.asarray(fps.n_unstable())[around]
assert set(index) == {0, 1} and (index != np.roll(index, 1)).all()  # they alternate
crossings = np.sum(np.diff(np.sign(drift[order]), append=np.sign(drift[order][0])) != 0)
assert crossings == fps.n
print(f"{fps.n} fixed points are left, at {np.sort(angle_of(fps.xstar)).round()} degrees.")

plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
plt.rcParams.update({"axes.spines.top": False, "axes.spines.right": False})
fig, (left, right) = plt.subplots(1, 2, figsize=(5.6, 2.7), width_ratios=(1, 1.3))
plane = np.stack([np.cos(preferred), np.sin(preferred)], axis=1) / N
for ring, look in zip(rings, ({"color": "0.75", "lw": 5}, {"color": "black", "lw": 1})):
    closed = np.append(ring.curve, ring.curve[:1], axis=0) @ plane
    left.plot(*closed.T, **look)
config = slowpoints.PlotConfig(title="state space", show_legend=False)
config.xlabel, config.ylabel = "cosine component", "sine component"
slowpoints.plot_fixed_points_2d(fps, None, config, ax=left, projection=plane)
left.set_aspect("equal")
right.axhline(0, color="0.75", lw=4, label="perfect weights")
right.plot(angle[order], 1000 / STEP * drift[order], color="black", lw=1, label="random ones added")
for k, (marker, color) in enumerate((("o", "#0072B2"), ("^", "#E69F00"))):
    at = angle_of(fps.xstar[fps.n_unstable() == k])
    look = {"color": color, "ms": 5, "mec": "black", "mew": 0.7, "label": ("stable", "saddle")[k]}
    right.plot(at, np.zeros(len(at)), marker, ls="none", **look)
right.set(xlabel="direction of the bump (degrees)", ylabel="drift (degrees per s)")
right.set(title="drift along the ring", xticks=np.arange(-180, 181, 90))
fig.legend(*right.get_legend_handles_labels(), loc="outside lower center", ncols=4, frameon=False)
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=180, bbox_inches="tight")
