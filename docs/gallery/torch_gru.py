"""A PyTorch GRU: which memories are next to each other?

A GRU is trained to remember which of four items, A to D, it was shown last. It is handed over as it
is: `slowpoints.FixedPointFinder(gru)` reads the weights, and JAX does the computing.

**What to look at.** Each item has a stable point (circle) that holds it while nothing is shown.
Between them are saddles (triangles). The lines are the two trajectories that leave each saddle, and
they show which memories are next to each other, so that a disturbance can turn one into the other.
The task treats all items alike, and all six pairs could be neighbours. In this network only three
are, and B belongs to each of them: the task does not say what should lie between the memories, and
training settles it one way or another.

**Sources.** Cho et al. (2014). Learning phrase representations using RNN encoder-decoder for
statistical machine translation. arXiv:1406.1078. Maheswaranathan, Williams, Golub, Ganguli &
Sussillo (2019). Universality and individuality in neural dynamics across large populations of
recurrent networks. *Advances in Neural Information Processing Systems* 32.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch.nn.functional import mse_loss, one_hot

import slowpoints

torch.manual_seed(0)
torch.set_num_threads(1)  # faster, for a network of this size
gru, readout = torch.nn.GRU(4, 24, batch_first=True), torch.nn.Linear(24, 4)
optimizer = torch.optim.Adam([*gru.parameters(), *readout.parameters()], lr=0.01)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 500)


def trials(n, n_steps=40):
    is_shown = torch.rand(n, n_steps) < 0.15
    is_shown[:, 0] = True
    items = torch.randint(4, (n, n_steps))
    latest = torch.where(is_shown, torch.arange(n_steps), 0).cummax(1).values
    return one_hot(items, 4) * is_shown[..., None].float(), items.gather(1, latest)


for _ in range(500):
    shown, last = trials(64)
    states, _ = gru(shown)
    weight_cost = sum((p**2).sum() for p in gru.parameters())
    loss = mse_loss(readout(states), one_hot(last, 4).float()) + 3e-5 * weight_cost
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(gru.parameters(), 1.0)
    optimizer.step()
    schedule.step()

with torch.no_grad():
    shown, last = trials(200)
    states, _ = gru(shown)
    correct = (readout(states).argmax(-1) == last).float().mean().item()
print(f"The network remembers the last item in {correct:.1%} of the steps.")

finder = slowpoints.FixedPointFinder(gru, verbose=False, final_q_threshold=np.inf)
fps, _ = finder.find_fixed_points(states.numpy(), np.zeros((1, 4)), n_inits=1024, noise_scale=0.3)
fps.print_summary()
fps = fps[fps.status == slowpoints.Status.FIXED_POINT]
stable = fps.xstar[fps.is_stable]
item = readout(torch.tensor(stable)).argmax(-1).tolist()
assert correct > 0.98 and sorted(item) == [0, 1, 2, 3]
assert slowpoints.degree(slowpoints.as_transition(gru), fps) == 1

found = slowpoints.connections(slowpoints.as_transition(gru), fps, n_directions=0)
plt.rcParams.update({"font.size": 8, "figure.constrained_layout.use": True})
fig, ax = plt.subplots(figsize=(4.6, 3.6))
slowpoints.plot_connections(found, slowpoints.PlotConfig(), ax=ax)
circles = next(c for c in ax.collections if c.get_label().startswith("stable"))
ax.set_title("A to D: the item that the network remembers there", fontsize="medium")
for place, k in zip(circles.get_offsets(), item):
    ax.annotate("ABCD"[k], place, xytext=(7, 5), textcoords="offset points", weight="bold")
path = sys.argv[1] if sys.argv[1:] else Path(__file__).with_suffix(".png")
fig.savefig(path, dpi=210, bbox_inches="tight")
