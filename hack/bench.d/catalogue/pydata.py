"""Python's libraries for data, and what spreads its work over processes."""

from __future__ import annotations

from catalogue.describing import Group, Workload, same
from catalogue.training import PYTHON

DATA = (
    "numpy", "pandas", "pyarrow", "polars", "duckdb", "dask[distributed]", "ipykernel", "jupyter-client",
    "gunicorn", "uvicorn", "uvloop", "celery",
)  # fmt: skip
RAY = ("ray",)
_THREADS = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}

GROUP = Group(
    title="Data and processes in Python",
    workloads=(
        Workload(
            name="numpy",
            program="NumPy",
            does="multiplies and decomposes matrices in two threads of OpenBLAS",
            python=DATA,
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/numpy_algebra.py"),
            progress=r"^step 20 ",
        ),
        Workload(
            name="pandas",
            program="pandas",
            does="joins, groups, and writes CSV and Parquet",
            python=DATA,
            versioned="pandas",
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/pandas_frames.py"),
            progress=r"^step 25 ",
        ),
        Workload(
            name="polars",
            program="Polars",
            does="lazy queries in its threads, streamed to Parquet and back",
            python=DATA,
            versioned="polars",
            words=(PYTHON, "/opt/programs/polars_frames.py"),
            progress=r"^step 20 ",
        ),
        Workload(
            name="duckdb",
            program="DuckDB",
            does="loads and asks a database on disk in two threads",
            python=DATA,
            versioned="duckdb",
            words=(PYTHON, "/opt/programs/duckdb_queries.py"),
            progress=r"^step 30 ",
        ),
        Workload(
            name="multiprocessing",
            program="Python",
            does="spawned processes, shared memory, a manager, a pool, locks and semaphores",
            packages=("python3",),
            words=("python3", "/opt/programs/shared_work.py"),
            progress=r"^step 30 ",
        ),
        Workload(
            name="dask",
            program="Dask",
            does="its distributed scheduler and two worker processes in one container",
            python=DATA,
            versioned="distributed",
            words=(PYTHON, "/opt/programs/dask_graph.py"),
            progress=r"^step 20 ",
        ),
        Workload(
            name="ray",
            program="Ray",
            does="tasks and an actor on one node",
            python=RAY,
            words=(PYTHON, "/opt/programs/ray_tasks.py"),
            progress=r"^step 30 ",
        ),
        Workload(
            name="jupyter",
            program="ipykernel",
            does="a kernel driven cell by cell by jupyter_client in the same container",
            python=DATA,
            versioned="ipykernel",
            words=(PYTHON, "/opt/programs/jupyter_kernel.py"),
            progress=r"^cell 30 ",
            check=same(r"\b\d+ \d+$"),
            note="IPython keeps its history in SQLite outside of WAL mode: it is written no more, as it says once",
        ),
        Workload(
            name="gunicorn",
            program="Gunicorn",
            does="two worker processes, asked over and over by a client that tries again",
            python=DATA,
            versioned="gunicorn",
            words=(PYTHON, "/opt/programs/web_service.py", "gunicorn"),
            progress=r"^asked 60 ",
        ),
        Workload(
            name="uvicorn",
            program="Uvicorn",
            does="two worker processes on uvloop, asked over and over by a client that tries again",
            python=DATA,
            versioned="uvicorn",
            words=(PYTHON, "/opt/programs/web_service.py", "uvicorn"),
            progress=r"^asked 60 ",
        ),
        Workload(
            name="uvloop",
            program="uvloop",
            does="asyncio over Unix and TCP sockets, a child's pipes, timers and threads",
            python=DATA,
            versioned="uvloop",
            words=(PYTHON, "/opt/programs/uvloop_service.py"),
            progress=r"^step 40 ",
        ),
        Workload(
            name="celery",
            program="Celery",
            does="two worker processes, broker and results in files",
            python=DATA,
            versioned="celery",
            words=(PYTHON, "/opt/programs/celery_tasks.py"),
            progress=r"^task 20 ",
        ),
    ),
)
