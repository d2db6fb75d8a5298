"""Train a Functional model with two inputs; the best one is saved at each epoch, without its optimizer."""

import numpy as np
from tensorflow import keras

import tfstrip_core

random = np.random.default_rng(0)
house, street = random.normal(size=(2, 512, 8)).astype("float32")
price = house.sum(axis=1) + street.mean(axis=1)

inputs = [keras.Input((8,), name="house"), keras.Input((8,), name="street")]
hidden = keras.layers.Dense(32, activation="relu")(keras.layers.Concatenate()(inputs))
model = keras.Model(inputs, keras.layers.Dense(1)(hidden))
model.compile(optimizer="adam", loss="mse")

checkpoint = tfstrip_core.StrippedCheckpoint("best.keras", monitor="val_loss", save_best_only=True, verbose=1)
history = model.fit([house, street], price, validation_split=0.25, epochs=3, verbose=0, callbacks=[checkpoint])
