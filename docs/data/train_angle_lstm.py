"""Train the LSTM of "A figure for a paper" to remember an angle, and store it.

    python docs/data/train_angle_lstm.py

takes a minute and writes `angle_lstm.pt` beside this file: the weights of a module with a
`torch.nn.LSTM(3, 48)` as `lstm` and a `torch.nn.Linear(48, 2)` as `readout`. An angle is shown for
a few steps by its cosine and sine, and has to be reported, in the same way, until the trial ends. A
third input says that it is to be held.
"""

import math
from pathlib import Path

import torch

N_UPDATES = 2500


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = torch.nn.LSTM(3, 48, batch_first=True)
        self.readout = torch.nn.Linear(48, 2)

    def forward(self, inputs):
        return self.readout(self.lstm(inputs)[0])


def trials(n, before=5, delay=100):
    """Return inputs `[n, time, 3]`, what is to be reported `[n, time, 2]`, and angles."""
    angle = 2 * math.pi * torch.rand(n)
    shown = torch.stack([angle.cos(), angle.sin()], -1)[:, None]
    inputs = torch.zeros(n, before + 5 + delay, 3)
    inputs[:, before : before + 5, :2] = shown
    inputs[:, before:, 2] = 1
    wanted = torch.zeros(n, before + 5 + delay, 2)
    wanted[:, before:] = shown
    return inputs + 0.05 * torch.randn(inputs.shape), wanted, angle


def main():
    """Train, and say by how many degrees the last reports in new trials are wrong."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_UPDATES, 1e-5)
    for i in range(N_UPDATES):
        before = int(torch.randint(1, 9, ()))
        delay = int(torch.randint(10, 21 + min(80, i // 12), ()))
        inputs, wanted, _ = trials(64, before, delay)
        error = (network(inputs) - wanted) ** 2
        error[:, before : before + 2] = 0  # time to see the angle
        loss = error.mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        inputs, _, angle = trials(512)
        last = network(inputs)[:, -1]
        off = torch.atan2(last[:, 1], last[:, 0]) - angle
        off = torch.atan2(off.sin(), off.cos()).square().mean().sqrt().item()
    print(f"root mean square error after the delay: {math.degrees(off):.1f} degrees")
    torch.save(network.state_dict(), Path(__file__).with_name("angle_lstm.pt"))


if __name__ == "__main__":
    main()
