"""Train a Sequential model and save it without its optimizer."""

import numpy as np
from tensorflow import keras

import tfstrip_core

x = np.random.default_rng(0).normal(size=(512, 20)).astype("float32")
y = (x.sum(axis=1) > 0).astype("float32")

model = keras.Sequential(
    [keras.Input((20,)), keras.layers.Dense(64, activation="relu"), keras.layers.Dense(1, activation="sigmoid")]
)
model.compile(optimizer="adam", loss="binary_crossentropy", metrics=["accuracy"])
model.fit(x, y, epochs=3, verbose=0)

result = tfstrip_core.save(model, "classifier.keras", force=True)
print(f"{result.bytes_before:,} -> {result.bytes_after:,} bytes")
