"""Writes much into a store and reads it back, then prints the most memory it ever used, in bytes."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path

from crikpy.aio.clock import Deadline
from crikpy.model.workload import Workload
from crikpy.settings import from_env
from crikpy.store.opening import open_store
from crikpy.store.reading import ChunkReader
from crikpy.store.writing import ChunkWriter

IMAGES = 4


def main() -> None:
    url, limit, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    settings = replace(from_env(os.environ).store, memory_bytes=limit)
    store = open_store(url, settings)
    workload = Workload(cluster="plain", namespace="default", name="large")
    deadline = Deadline.after(90)
    seed = os.urandom(1024 * 1024)
    with ChunkWriter(store, workload, settings=settings, known=(), deadline=deadline) as writer:
        opened = [writer.open(f"pages-{number}.img") for number in range(IMAGES)]
        written = 0
        while written < size:
            for image in opened:
                memory = image.buffer()[: len(seed)]
                memory[:] = seed[: len(memory)]
                memory[:8] = written.to_bytes(8, "little")
                image.advance(len(memory))
                written += len(memory)
        for image in opened:
            image.close()
        images = writer.finish().images
    assert sum(image.size for image in images) == written
    read = 0
    with ChunkReader(store, workload, images, settings=settings, deadline=deadline) as reader:
        for stored in images:
            with reader.file(stored.name) as file:
                while piece := file.read(1024 * 1024):
                    read += len(piece)
    assert read == written
    print(most_memory())


def most_memory() -> int:
    """Return the high-water mark of this program alone; ru_maxrss would include the parent's before exec."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM:")).split()[1]) * 1024


if __name__ == "__main__":
    main()
