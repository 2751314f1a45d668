"""Frameworks that train models."""

from __future__ import annotations

import re

from catalogue.describing import SAME_OUTPUT, Check, Group, Seen, Verdict, Workload, same

PYTHON = "/opt/frameworks/bin/python"

TORCH = ("torch", "numpy", "lightning", "transformers", "accelerate", "tokenizers")
JAX = ("jax",)
TENSORFLOW = ("tensorflow-cpu",)
LEARNING = ("scikit-learn", "xgboost-cpu", "lightgbm", "optuna")

# What a container has of its machine's cores differs, and the sums of floating point with it.
_THREADS = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2", "MKL_NUM_THREADS": "2"}

_RANKS = (
    "--nnodes=1", "--nproc-per-node=2", "--master-addr=127.0.0.1", "--master-port=29500",
    "/opt/programs/torch_ranks.py",
)  # fmt: skip


def _fault_said(seen: Seen) -> str:
    said = re.search(r"^fault: (.*)", seen.second, re.MULTILINE)
    return said[1] if said else SAME_OUTPUT.fault(seen)


_SAID_NO_FAULT = Check(_fault_said, Verdict.EXACT)

GROUP = Group(
    title="Training",
    workloads=(
        Workload(
            name="torch",
            program="PyTorch",
            does="trains a convolutional network in one process of two threads",
            python=TORCH,
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/torch_training.py"),
            progress=r"^step 40 ",
        ),
        Workload(
            name="torch-fork",
            program="PyTorch",
            does="trains on what two worker processes of a DataLoader read, started by fork",
            python=TORCH,
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/torch_workers.py", "fork"),
            progress=r"^step 40 ",
        ),
        Workload(
            name="torch-spawn",
            program="PyTorch",
            does="the same, its workers started by spawn",
            python=TORCH,
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/torch_workers.py", "spawn"),
            progress=r"^step 40 ",
        ),
        Workload(
            name="torch-compile",
            program="PyTorch",
            does="trains what torch.compile makes of a network, by inductor and g++",
            python=TORCH,
            packages=("g++", "python3-dev"),
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/torch_compiled.py"),
            progress=r"^step 40 ",
            timeout_s=300,
        ),
        Workload(
            name="torch-saving",
            program="PyTorch",
            does="trains, and saves to disk after each step in a thread beside it",
            python=TORCH,
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/torch_saving.py"),
            progress=r"^step 60 ",
        ),
        Workload(
            name="torchrun-gloo",
            program="PyTorch",
            does="torchrun with two ranks in one container, DistributedDataParallel over gloo",
            python=TORCH,
            environment={**_THREADS, "GLOO_SOCKET_IFNAME": "lo"},
            words=(PYTHON, "-m", "torch.distributed.run", *_RANKS),
            progress=r"^step 60 ",
        ),
        Workload(
            name="lightning",
            program="Lightning",
            does="trains and validates with a worker process, saving to disk and logging to CSV",
            python=TORCH,
            versioned="lightning",
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/lightning_training.py"),
            progress=r"^step 80 ",
        ),
        Workload(
            name="transformers",
            program="Transformers",
            does="its Trainer on a tiny GPT-2, with two worker processes, saving to disk",
            python=TORCH,
            versioned="transformers",
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/transformers_trainer.py"),
            progress=r"^step 15 ",
            check=same(r"^(?:step|weights) .*"),
            timeout_s=300,
        ),
        Workload(
            name="tokenizers",
            program="Tokenizers",
            does="trains byte-pair tokenizers in threads of Rust",
            python=TORCH,
            versioned="tokenizers",
            words=(PYTHON, "/opt/programs/tokenizers_training.py"),
            progress=r"^step 15 ",
        ),
        Workload(
            name="jax",
            program="JAX",
            does="trains a network that XLA has compiled, and compiles another one",
            python=JAX,
            words=(PYTHON, "/opt/programs/jax_training.py"),
            progress=r"^step 50 ",
        ),
        Workload(
            name="tensorflow",
            program="TensorFlow",
            does="trains a Keras network on a pipeline of tf.data",
            python=TENSORFLOW,
            environment={**_THREADS, "TF_CPP_MIN_LOG_LEVEL": "2"},
            words=(PYTHON, "/opt/programs/tensorflow_training.py"),
            progress=r"^step 200 ",
        ),
        Workload(
            name="scikit-learn",
            program="scikit-learn",
            does="cross-validates forests in the processes of joblib (loky)",
            python=LEARNING,
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/sklearn_search.py"),
            progress=r"^depth 5 ",
        ),
        Workload(
            name="xgboost",
            program="XGBoost",
            does="boosts trees in two threads",
            python=LEARNING,
            versioned="xgboost-cpu",
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/xgboost_training.py"),
            progress=r"^round 20 ",
        ),
        Workload(
            name="lightgbm",
            program="LightGBM",
            does="boosts trees in two threads",
            python=LEARNING,
            packages=("libgomp1",),
            versioned="lightgbm",
            environment=_THREADS,
            words=(PYTHON, "/opt/programs/lightgbm_training.py"),
            progress=r"^round 20 ",
        ),
        Workload(
            name="optuna",
            program="Optuna",
            does="searches parameters, its trials in an SQLite database",
            python=LEARNING,
            versioned="optuna",
            words=(PYTHON, "/opt/programs/optuna_study.py", "delete"),
            progress=r"^trial 20 ",
            check=_SAID_NO_FAULT,
            expected=Verdict.LOST,
            note="SQLite refuses to write a database outside of WAL mode once the file has another inode; the pod"
            " hears of it beforehand (`MoveMayBreak`)",
        ),
        Workload(
            name="optuna-wal",
            program="Optuna",
            does="the same, the database in WAL mode",
            python=LEARNING,
            versioned="optuna",
            words=(PYTHON, "/opt/programs/optuna_study.py", "wal"),
            progress=r"^trial 20 ",
        ),
    ),
)
