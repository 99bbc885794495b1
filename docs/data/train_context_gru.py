"""Train the network of two layers of "A figure for a paper" to decide by context, and store it.

    python docs/data/train_context_gru.py

takes two minutes and writes `context_gru.pt` beside this file: the weights of a module with an
encoder, `torch.nn.Linear(4, 24)` and ReLU, a `torch.nn.GRU(24, 32, num_layers=2)` as `rnn` and a
`torch.nn.Linear(32, 2)` as `readout`. The task is that of Mante et al. (2013): two inputs carry
noisy evidence on motion and on colour, two more say which of them counts, and the network says
whether the sum of that evidence is positive.
"""

from pathlib import Path

import torch

COHERENCES = torch.tensor([-0.2, -0.1, -0.05, 0.05, 0.1, 0.2])
N_STEPS, EVIDENCE, N_UPDATES = 60, slice(8, 50), 1400


class Network(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = torch.nn.Sequential(torch.nn.Linear(4, 24), torch.nn.ReLU())
        self.rnn = torch.nn.GRU(24, 32, num_layers=2, batch_first=True)
        self.readout = torch.nn.Linear(32, 2)

    def forward(self, inputs):
        return self.readout(self.rnn(self.encoder(inputs))[0])


def trials(n):
    """Return inputs `[n, time, 4]`, contexts, coherences `[n, 2]` and right choices, 0 or 1."""
    coherence = COHERENCES[torch.randint(6, (n, 2))]
    context = torch.randint(2, (n,))
    inputs = torch.zeros(n, N_STEPS, 4)
    shape = inputs[:, EVIDENCE, :2].shape
    inputs[:, EVIDENCE, :2] = coherence[:, None] + 0.5 * torch.randn(shape)
    inputs[torch.arange(n), :, 2 + context] = 1
    sums = inputs[:, EVIDENCE, :2].sum(1)[torch.arange(n), context]
    return inputs, context, coherence, (sums > 0).long()


def main():
    """Train, and say how often the choices in new trials are right."""
    torch.manual_seed(0)
    network = Network()
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, N_UPDATES)
    for _ in range(N_UPDATES):
        inputs, _, _, right = trials(128)
        out = network(inputs)[:, -10:]
        loss = torch.nn.functional.cross_entropy(
            out.reshape(-1, 2), right.repeat_interleave(out.shape[1])
        )
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        inputs, _, _, right = trials(3000)
        share = (network(inputs)[:, -1].argmax(-1) == right).float().mean().item()
    print(f"right choices in new trials: {share:.1%}")
    torch.save(network.state_dict(), Path(__file__).with_name("context_gru.pt"))


if __name__ == "__main__":
    main()
