"""Draw the animation of the guide: states of a trained network settle on its fixed points.

    python docs/figures/settling.py

writes `settling.gif` beside this file.
"""

from pathlib import Path

import numpy as np
import torch

import slowpoints


class Bits(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = torch.nn.GRU(3, 24, batch_first=True)
        self.readout = torch.nn.Linear(24, 3)

    def forward(self, inputs):
        return self.readout(self.gru(inputs)[0])


HERE = Path(__file__).parent
N_TRIALS, N_STEPS = 24, 45
network = Bits()
network.load_state_dict(torch.load(HERE.parent / "data" / "flipflop_gru.pt"))
torch.manual_seed(0)
pulses = torch.randn(100, 60, 3).sign() * (torch.rand(100, 60, 3) < 0.06)
states = slowpoints.simulate(network, pulses)
finder = slowpoints.FixedPointFinder(network, verbose=False, coverage=0.99)
fps, _ = finder.find_fixed_points(states, np.zeros((1, 3)), noise_scale=0.3)

# From near the saddles, on which states linger before they fall to a memory.
rng = np.random.default_rng(2)
saddles = np.asarray(fps.xstar)[np.asarray(fps.n_unstable()) > 0]
starts = saddles[np.arange(N_TRIALS) % len(saddles)]
starts = starts + 0.15 * rng.standard_normal(starts.shape).astype(np.float32)
settling = slowpoints.simulate(network, np.zeros((N_TRIALS, N_STEPS, 3), np.float32), starts)
settling = np.concatenate([starts[:, None], settling], axis=1)

W = network.readout.weight.detach().numpy()
config = slowpoints.PlotConfig(
    title=None,
    figsize=(5.2, 4.4),
    font_size=9,
    fps=10,
    save_path=HERE / "settling.gif",
    save_dpi=80,
    show=False,
    show_progress_bar=False,
)
axes = {"bit 1": W[0], "bit 2": W[1]}
slowpoints.animate_fixed_points(fps, settling, config, range(N_TRIALS), projection=axes)
