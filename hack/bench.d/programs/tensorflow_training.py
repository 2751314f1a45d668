"""Trains a Keras network with TensorFlow, its input pipeline and its compiled graph; prints each loss."""

import numpy as np
import tensorflow as tf

tf.keras.utils.set_random_seed(1)
tf.config.experimental.enable_op_determinism()
tf.config.threading.set_intra_op_parallelism_threads(2)
generator = np.random.default_rng(1)
inputs = generator.normal(size=(4096, 64)).astype("float32")
targets = np.sin(inputs.sum(axis=1))
data = tf.data.Dataset.from_tensor_slices((inputs, targets)).shuffle(4096, seed=1).batch(64).prefetch(2)
network = tf.keras.Sequential(
    [
        tf.keras.layers.Dense(128, activation="tanh"),
        tf.keras.layers.Dropout(0.1),
        tf.keras.layers.Dense(1),
    ]
)
network.compile(optimizer="adam", loss="mse")


class Telling(tf.keras.callbacks.Callback):
    """Says what a batch has come to."""

    step = 0

    def on_train_batch_end(self, batch, logs=None):
        """Say it."""
        print("step", self.step, float(logs["loss"]).hex(), flush=True)
        self.step += 1


network.fit(data, epochs=60, verbose=0, callbacks=[Telling()])
