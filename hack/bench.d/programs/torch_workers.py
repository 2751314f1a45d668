"""Trains with PyTorch on what the worker processes of a DataLoader read; prints each loss with all its bits.

torch_workers.py fork|spawn
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Waves(Dataset):
    """Samples that take a while to make."""

    def __len__(self):
        return 2048

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        noise = torch.rand(256, generator=generator)
        phase = noise[0] * 6
        return torch.sin(torch.arange(256) * 0.1 + phase) + noise, phase


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    loader = DataLoader(
        Waves(),
        batch_size=32,
        shuffle=True,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context=sys.argv[1],
    )
    network = nn.Sequential(nn.Linear(256, 128), nn.Tanh(), nn.Linear(128, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    for epoch in range(6):
        for step, (inputs, phases) in enumerate(loader):
            loss = nn.functional.mse_loss(network(inputs).squeeze(1), phases)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print("step", epoch * len(loader) + step, loss.item().hex(), flush=True)


if __name__ == "__main__":
    main()
