"""Trains a convolutional network with PyTorch in one process; prints each loss with all its bits."""

import hashlib

import torch
from torch import nn

torch.manual_seed(1)
torch.set_num_threads(2)
torch.use_deterministic_algorithms(True)

network = nn.Sequential(
    nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.1), nn.Flatten(), nn.Linear(16 * 13 * 13, 10)
)
optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 120)
for step in range(120):
    inputs = torch.randn(64, 1, 28, 28)
    targets = inputs.mean(dim=(1, 2, 3)).mul(140).add(5).clamp(0, 9).long()
    loss = nn.functional.cross_entropy(network(inputs), targets)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    schedule.step()
    print("step", step, loss.item().hex(), flush=True)
weights = b"".join(parameter.detach().numpy().tobytes() for parameter in network.parameters())
print("weights", hashlib.sha256(weights).hexdigest())
