"""The demo's job: a neural network trained by several processes that share its memory.

The main process keeps the network and takes a step when both workers of a multiprocessing pool have put their
half of the gradient into shared memory. Everything follows from one seed, the order of all sums included, so
that two runs agree in every bit. Nothing here knows about crikpy.
"""

from __future__ import annotations

import argparse
import multiprocessing
from multiprocessing.shared_memory import SharedMemory

import numpy as np

from diary import Diary

SEED = 20260501
WORKERS = 2
ROWS, INPUTS, HIDDEN = 65_536, 512, 128
BATCH = 1024
WEIGHTS = INPUTS * HIDDEN + HIDDEN
RATE, DECAY, DECAY_OF_SQUARES, TINY = 2e-3, 0.9, 0.999, 1e-8


class Shared:
    """An array in shared memory, which the processes that come from this one find by its name."""

    def __init__(self, shape: tuple[int, ...], name: str | None = None) -> None:
        size = int(np.prod(shape)) * np.dtype(np.float32).itemsize
        self.memory = SharedMemory(name, create=name is None, size=size)
        self.array = np.ndarray(shape, dtype=np.float32, buffer=self.memory.buf)

    def remove(self) -> None:
        """Give the memory back to the machine."""
        del self.array
        self.memory.close()
        self.memory.unlink()


class Problem:
    """Data, weights and gradients in shared memory; either made here, or found by the names in `places`."""

    def __init__(self, places: tuple[str | None, ...] = (None,) * 4) -> None:
        shapes = (ROWS, INPUTS), (ROWS,), (WEIGHTS,), (WORKERS, WEIGHTS)
        self.parts = [Shared(shape, name) for shape, name in zip(shapes, places, strict=True)]
        self.inputs, self.targets, self.weights, self.gradients = (part.array for part in self.parts)

    @property
    def places(self) -> tuple[str, ...]:
        """The names by which another process finds all of it."""
        return tuple(part.memory.name for part in self.parts)

    def fill(self, random: np.random.Generator) -> None:
        """Make data that a network can learn: what another, random network says about random inputs."""
        random.standard_normal(dtype=np.float32, out=self.inputs)
        teacher = random.standard_normal(INPUTS, dtype=np.float32) / np.float32(INPUTS**0.5)
        self.targets[:] = np.sin(2 * (self.inputs @ teacher))
        first = random.standard_normal(INPUTS * HIDDEN, dtype=np.float32) / np.float32(INPUTS**0.5)
        self.weights[:] = np.concatenate([first, np.zeros(HIDDEN, dtype=np.float32)])

    def remove(self) -> None:
        """Give all of it back."""
        del self.inputs, self.targets, self.weights, self.gradients
        for part in self.parts:
            part.remove()


problem: Problem


def attend(places: tuple[str, ...]) -> None:
    """Make this process a worker."""
    global problem  # noqa: PLW0603  # how a pool's workers keep what they were given
    problem = Problem(places)


def differentiate(share: tuple[int, int]) -> float:
    """Put one worker's half of a step's gradient into its place; return its half of the loss."""
    step, half = share
    size = BATCH // WORKERS
    begin = (step * BATCH + half * size) % ROWS
    inputs, targets = problem.inputs[begin : begin + size], problem.targets[begin : begin + size]
    first = problem.weights[: INPUTS * HIDDEN].reshape(INPUTS, HIDDEN)
    second = problem.weights[INPUTS * HIDDEN :]
    hidden = np.tanh(inputs @ first)
    error = hidden @ second - targets
    back = (error[:, None] * second) * (1 - hidden**2)
    gradient = problem.gradients[half]
    gradient[: INPUTS * HIDDEN] = (inputs.T @ back).ravel() / BATCH
    gradient[INPUTS * HIDDEN :] = hidden.T @ error / BATCH
    return float(np.square(error).sum()) / BATCH


def main() -> None:
    """Train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--pace", type=float, default=0.0, metavar="SECONDS", help="least time of a step")
    arguments = parser.parse_args()
    shared = Problem()
    shared.fill(np.random.default_rng(SEED))
    momentum, squares = np.zeros(WEIGHTS, dtype=np.float32), np.zeros(WEIGHTS, dtype=np.float32)
    diary = Diary(arguments.pace)
    with multiprocessing.Pool(WORKERS, attend, (shared.places,)) as pool:
        for step in range(arguments.steps):
            losses = pool.map(differentiate, [(step, half) for half in range(WORKERS)], chunksize=1)
            gradient = shared.gradients.sum(axis=0)
            momentum += (1 - DECAY) * (gradient - momentum)
            squares += (1 - DECAY_OF_SQUARES) * (gradient**2 - squares)
            unbiased = momentum / (1 - DECAY ** (step + 1)), squares / (1 - DECAY_OF_SQUARES ** (step + 1))
            shared.weights -= RATE * unbiased[0] / (np.sqrt(unbiased[1]) + TINY)
            diary.write(sum(losses))
        pool.close()
        pool.join()
    shared.remove()


if __name__ == "__main__":
    main()
