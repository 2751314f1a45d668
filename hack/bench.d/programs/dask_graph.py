"""Computes graphs with Dask's distributed scheduler and two worker processes, all on one machine."""

import dask.array
from distributed import Client, LocalCluster


def main():
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, memory_limit=0, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        for step in range(60):
            matrix = dask.array.random.default_rng(step).normal(size=(600, 600), chunks=200)
            print("step", step, float(client.compute((matrix @ matrix.T).std()).result()).hex(), flush=True)


if __name__ == "__main__":
    main()
