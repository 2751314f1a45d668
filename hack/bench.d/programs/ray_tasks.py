"""Runs tasks and an actor on Ray, on one node that it starts for itself."""

import time

import ray


@ray.remote
def collatz(start):
    length = 0
    while start != 1:
        start = start // 2 if start % 2 == 0 else 3 * start + 1
        length += 1
    time.sleep(0.05)
    return length


@ray.remote
class Total:
    """Adds up."""

    def __init__(self):
        self.value = 0

    def add(self, number):
        """Return the sum so far."""
        self.value += number
        return self.value


ray.init(num_cpus=2, include_dashboard=False, object_store_memory=80_000_000, log_to_driver=False)
total = Total.remote()
for step in range(100):
    lengths = ray.get([collatz.remote(1000 + 4 * step + one) for one in range(4)])
    print("step", step, ray.get(total.add.remote(sum(lengths))), flush=True)
