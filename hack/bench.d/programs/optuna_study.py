"""Searches parameters with Optuna, whose trials are kept in an SQLite database on disk."""

import time

import optuna

optuna.logging.set_verbosity(optuna.logging.WARNING)


def objective(trial):
    x = trial.suggest_float("x", -5, 5)
    y = trial.suggest_int("y", -5, 5)
    kind = trial.suggest_categorical("kind", ["near", "far"])
    time.sleep(0.02)
    return (x - 1) ** 2 + (y + 2) ** 2 + (kind == "far")


study = optuna.create_study(
    storage="sqlite:////var/tmp/study.db", study_name="study", sampler=optuna.samplers.TPESampler(seed=1)
)
for step in range(120):
    study.optimize(objective, n_trials=1)
    last = study.trials[-1]
    print("trial", step, last.value.hex(), last.params, flush=True)
print("best", study.best_trial.number, study.best_params)
