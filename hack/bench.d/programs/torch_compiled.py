"""Trains what torch.compile makes of a network, and has it compiled again for new shapes on the way."""

import torch
from torch import nn


class Block(nn.Module):
    """A little of everything that gets fused."""

    def __init__(self):
        super().__init__()
        self.first, self.norm, self.second = nn.Linear(64, 128), nn.LayerNorm(128), nn.Linear(128, 64)

    def forward(self, inputs):
        """Return what comes out."""
        return inputs + self.second(nn.functional.gelu(self.norm(self.first(inputs))))


def main():
    torch.manual_seed(1)
    torch.set_num_threads(2)
    torch.use_deterministic_algorithms(True)
    network = nn.Sequential(Block(), Block(), nn.Linear(64, 1))
    compiled = torch.compile(network, dynamic=False)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for step in range(160):
        inputs = torch.randn(32 + 32 * (step // 100), 64)
        loss = nn.functional.mse_loss(compiled(inputs).squeeze(1), inputs.sum(dim=1).tanh())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print("step", step, loss.item().hex(), flush=True)


if __name__ == "__main__":
    main()
