"""Boosts trees with XGBoost and prints the error after each round; in the end, the model's digest."""

import hashlib

import numpy as np
import xgboost

generator = np.random.default_rng(1)
inputs = generator.normal(size=(30_000, 30)).astype(np.float32)
targets = (inputs[:, :5] ** 2).sum(axis=1) + inputs[:, 5] * inputs[:, 6]


class Telling(xgboost.callback.TrainingCallback):
    """Says what a round has come to."""

    def after_iteration(self, model, epoch, evals_log):
        """Say it, and go on."""
        print("round", epoch, evals_log["train"]["rmse"][-1], flush=True)
        return False


data = xgboost.QuantileDMatrix(inputs, label=targets)
settings = {"max_depth": 7, "eta": 0.1, "subsample": 0.8, "nthread": 2, "seed": 1, "tree_method": "hist"}
model = xgboost.train(settings, data, 60, evals=[(data, "train")], verbose_eval=False, callbacks=[Telling()])
print("model", hashlib.sha256(model.save_raw("json")).hexdigest())
