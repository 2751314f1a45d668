"""The demo's job where PyTorch is installed: a network fed by the worker processes of a DataLoader.

Everything follows from one seed, and each process computes with one thread, so that two runs agree in every bit.
Nothing here knows about crikpy.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from diary import Diary

SEED = 20260501
WORKERS = 2
ROWS, INPUTS, HIDDEN = 65_536, 512, 128
BATCH = 1024


def make_data() -> TensorDataset:
    """Make data that a network can learn: what another, random network says about random inputs."""
    inputs = torch.randn(ROWS, INPUTS)
    teacher = torch.randn(INPUTS) / INPUTS**0.5
    return TensorDataset(inputs, torch.sin(2 * (inputs @ teacher)))


def endless(data: TensorDataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield batches for ever, each epoch in an order of its own; the workers stay from epoch to epoch."""
    loader = DataLoader(
        data,
        batch_size=BATCH,
        shuffle=True,
        generator=torch.Generator().manual_seed(SEED),
        num_workers=WORKERS,
        persistent_workers=True,
    )
    while True:
        yield from loader


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--pace", type=float, default=0.0, metavar="SECONDS", help="least time of a step")
    arguments = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    network = nn.Sequential(nn.Linear(INPUTS, HIDDEN), nn.Tanh(), nn.Linear(HIDDEN, 1))
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    diary = Diary(arguments.pace)
    for _, (inputs, targets) in zip(range(arguments.steps), endless(make_data()), strict=False):
        loss = nn.functional.mse_loss(network(inputs).squeeze(1), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        diary.write(loss.item())


if __name__ == "__main__":
    main()
