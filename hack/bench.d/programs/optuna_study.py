"""Searches parameters with Optuna, whose trials are kept in an SQLite database on disk.

optuna_study.py delete|wal: the database's journal mode, of which `delete` is SQLite's own choice.
"""

import sqlite3
import sys
import time
from contextlib import closing

import optuna

DATABASE = "/var/tmp/study.db"


def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_int("y", -5, 5)
    kind = trial.suggest_categorical("kind", ["near", "far"])
    time.sleep(0.02)
    return (x - 1) ** 2 + (y + 2) ** 2 + (kind == "far")


def main():
    with closing(sqlite3.connect(DATABASE)) as database:
        database.execute(f"PRAGMA journal_mode={sys.argv[1]}")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(seed=1)
    study = optuna.create_study(storage=f"sqlite:///{DATABASE}", study_name="study", sampler=sampler)
    for step in range(80):
        study.optimize(objective, n_trials=1)
        last = study.trials[-1]
        print("trial", step, last.value.hex(), last.params, flush=True)
    print("best", study.best_trial.number, study.best_params)


try:
    main()
except Exception as fault:  # noqa: BLE001  it is told
    while fault.__context__ is not None:
        fault = fault.__context__
    print("fault:", fault, flush=True)
