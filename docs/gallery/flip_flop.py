"""Three bits: a cube of 27 fixed points.

A network of 24 `tanh` units is trained to hold three bits, each of which a pulse of +1 or -1 can
set. Each bit can be up, down, or on the ridge between the two, so 3³ = 27 fixed points are
expected, and 27 are found.

**What to look at.** The axes are the three readouts, so the eight memories (circles) are the
corners of a cube. The saddles with one unstable direction are on its 12 edges, those with two in
its 6 faces, and the one with three at its centre. Each bar is an unstable eigenvector. It points
along the bit that is undecided: a pulse carries the state past a saddle along an edge.

**Source.** Sussillo & Barak (2013). Opening the black box: low-dimensional dynamics in
high-dimensional recurrent neural networks. *Neural Computation* 25:626–649.
"""

import sys
from pathlib import Path

import jax
import numpy as np

from slowpoints import FixedPointFinder, PlotConfig, plot_fixed_points_3d
from slowpoints.flipflop import FlipFlopNetwork, train, trials

weights_key, train_key, test_key = jax.random.split(jax.random.key(0), 3)
model = FlipFlopNetwork("tanh", n_units=24, n_bits=3, key=weights_key)
for _ in train(model, train_key, n_steps=1000):
    pass
pulses, bits = trials(test_key, n_trials=64, n_steps=64, n_bits=3)
states = np.asarray(model.states(pulses, model.rest(64)))

finder = FixedPointFinder(model, verbose=False)
fps, _ = finder.find_fixed_points(states, np.zeros((1, 3)), n_inits=1024, noise_scale=0.5)

memory = np.round(model.readout(fps.xstar))  # -1 or 1 for each bit, or 0 if it is on a ridge
n_ridges = np.sum(memory == 0, axis=1)
assert np.bincount(fps.n_unstable()).tolist() == [8, 12, 6, 1]
assert (fps.n_unstable() == n_ridges).all()
assert len(np.unique(memory, axis=0)) == 27

readout = np.asarray(model.w_out.value)
config = PlotConfig(
    title=None, xlabel="bit 1", ylabel="bit 2", figsize=(5, 4.2), font_size=8, show=False
)
fig = plot_fixed_points_3d(
    fps, states, config, range(10), 8, projection=readout, eigenvectors="unstable"
)
fig.axes[0].set_zlabel("bit 3")
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=300, bbox_inches="tight")
