"""Trains one network in the processes that torchrun starts, by DistributedDataParallel over gloo."""

import time

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(1)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
network = DistributedDataParallel(nn.Sequential(nn.Linear(256, 256), nn.Tanh(), nn.Linear(256, 1)))
optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.9)
generator = torch.Generator().manual_seed(rank)
for step in range(200):
    inputs = torch.randn(64, 256, generator=generator)
    loss = nn.functional.mse_loss(network(inputs).squeeze(1), inputs.sum(dim=1).sin())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    total = loss.detach().clone()
    dist.all_reduce(total)
    if rank == 0:
        print("step", step, total.item().hex(), flush=True)
    time.sleep(0.03)
dist.destroy_process_group()
