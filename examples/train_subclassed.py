"""Train a subclassed model and save it as a SavedModel for serving, which needs neither this class nor Keras."""

import numpy as np
import tensorflow as tf
from tensorflow import keras

import tfstrip_core


class Regressor(keras.Model):
    """Two layers, wired in code."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = keras.layers.Dense(32, activation="relu")
        self.out = keras.layers.Dense(1)

    def call(self, x: tf.Tensor) -> tf.Tensor:
        """Return one number for each row."""
        return self.out(self.hidden(x))


x = np.random.default_rng(0).normal(size=(512, 8)).astype("float32")
y = x.sum(axis=1, keepdims=True)

model = Regressor()
model.compile(optimizer="adam", loss="mse")
model.fit(x, y, epochs=3, verbose=0)

result = tfstrip_core.save(model, "regressor", force=True)
print(f"{result.bytes_before:,} -> {result.bytes_after:,} bytes")

served = tf.saved_model.load("regressor").signatures["serving_default"]
print("predicted", next(iter(served(tf.constant(x[:1])).values())).numpy(), "of", y[0])
