"""Trains with PyTorch and saves to disk after each step, in a thread beside the training; reads it back."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import nn

torch.manual_seed(1)
torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
folder = Path("/var/tmp/training")
folder.mkdir()


def save(step, state):
    part = folder / "last.pt.part"
    torch.save(state, part)
    part.replace(folder / f"step-{step % 4}.pt")


def digest(state):
    return hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in state.values())).hexdigest()


network = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1))
optimizer = torch.optim.SGD(network.parameters(), lr=1e-2, momentum=0.9)
with ThreadPoolExecutor(max_workers=1) as saving:
    pending = None
    for step in range(200):
        inputs = torch.randn(256, 512)
        loss = nn.functional.mse_loss(network(inputs).squeeze(1), inputs.norm(dim=1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if pending is not None:
            pending.result()
        state = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        pending = saving.submit(save, step, state)
        print("step", step, loss.item().hex(), flush=True)
    pending.result()
for path in sorted(folder.iterdir()):
    print(path.name, digest(torch.load(path)))
