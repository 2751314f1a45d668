"""Boosts trees with LightGBM and prints the error after each round; in the end, the model's digest."""

import hashlib

import lightgbm
import numpy as np

generator = np.random.default_rng(1)
inputs = generator.normal(size=(40_000, 30))
targets = (inputs[:, :5] ** 2).sum(axis=1) + inputs[:, 5] * inputs[:, 6]
settings = {
    "objective": "regression",
    "num_leaves": 63,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "num_threads": 2,
    "deterministic": True,
    "force_row_wise": True,
    "seed": 1,
    "verbose": -1,
}
data = lightgbm.Dataset(inputs, label=targets)


def tell(env):
    print("round", env.iteration, float(env.evaluation_result_list[0][2]).hex(), flush=True)


model = lightgbm.train(settings, data, 70, valid_sets=[data], callbacks=[tell])
print("model", hashlib.sha256(model.model_to_string().encode()).hexdigest())
