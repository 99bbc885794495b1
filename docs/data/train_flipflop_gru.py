"""Train the PyTorch network of the front page and of README to remember three bits, and store it.

    python docs/data/train_flipflop_gru.py

takes a minute or two and writes `flipflop_gru.pt` beside this file: the weights of a module with a
`torch.nn.GRU(3, 24, batch_first=True)` as `gru` and a `torch.nn.Linear(24, 3)` as `readout`. The
task is that of Sussillo & Barak (2013): each of three inputs carries occasional pulses of +1 and
-1, and each output must hold the sign of the last pulse on its input.
"""

from pathlib import Path

import torch

N_BITS, N_UNITS, N_TRIALS, N_STEPS, N_UPDATES = 3, 24, 64, 60, 2500
P_PULSE = 0.06


def trials(n_trials=N_TRIALS):
    """Return pulses and the bits to hold, `[trials, time, bits]`; each bit begins with a pulse."""
    there = torch.bernoulli(torch.full((n_trials, N_STEPS, N_BITS), P_PULSE))
    there[:, 0] = 1
    pulses = there * torch.randn_like(there).sign()
    bits = torch.zeros_like(pulses)
    for t in range(N_STEPS):
        bits[:, t] = torch.where(there[:, t] > 0, pulses[:, t], bits[:, t - 1])
    return pulses, bits


def main():
    """Train, and say how well the outputs follow the bits of new trials."""
    torch.manual_seed(0)
    gru = torch.nn.GRU(N_BITS, N_UNITS, batch_first=True)
    readout = torch.nn.Linear(N_UNITS, N_BITS)
    parameters = [*gru.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_UPDATES)
    for _ in range(N_UPDATES):
        pulses, bits = trials()
        states, _ = gru(pulses)
        loss = torch.mean((readout(states) - bits) ** 2) + 1e-3 * torch.mean(states**2)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        pulses, bits = trials(256)
        error = torch.mean((readout(gru(pulses)[0]) - bits) ** 2).item()
    print(f"mean squared error on new trials: {error:.1e}")
    module = torch.nn.ModuleDict({"gru": gru, "readout": readout})
    torch.save(module.state_dict(), Path(__file__).with_name("flipflop_gru.pt"))


if __name__ == "__main__":
    main()
