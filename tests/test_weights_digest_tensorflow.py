"""The weights digest of models that the TensorFlow at hand writes in every form, against that of the live model."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from keras_run import framework, major
from test_weights_digest import program

from tfstrip_core import strip, weights_digest

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("ignore")]  # Keras warns of its own ways

SHAPE, IMAGE = (4,), (8, 8, 1)


def dense(keras: Any) -> list[Any]:
    return [
        keras.layers.Dense(5, activation="relu"),
        keras.layers.Dense(4),
        keras.layers.Dense(4),
        keras.layers.Dense(2),
    ]


def batchnorm(keras: Any) -> list[Any]:
    layers = keras.layers
    return [layers.Conv2D(3, 3), layers.BatchNormalization(), layers.Flatten(), layers.Dense(2)]


def normalization(keras: Any) -> list[Any]:
    layer = keras.layers.Normalization()
    layer.adapt(np.random.default_rng(0).random((20, 4), "float32"))
    return [layer, keras.layers.Dense(2)]


def random(keras: Any) -> list[Any]:
    layers = keras.layers
    return [layers.Dense(5), layers.Dropout(0.5), layers.GaussianNoise(0.1), layers.Dense(2)]


def recurrent(keras: Any) -> list[Any]:
    layers = keras.layers
    return [layers.Embedding(10, 4), layers.LSTM(5), layers.Dense(2)]


def nested(keras: Any) -> list[Any]:
    inner = keras.Sequential([keras.Input(SHAPE), keras.layers.Dense(3)], name="inner")
    inner.compile("adam", "mse")
    inner.train_on_batch(np.ones((2, 4)), np.ones((2, 3)))
    return [inner, keras.layers.Dense(2)]


def bfloat16(keras: Any) -> list[Any]:
    return [keras.layers.Dense(5, dtype="bfloat16"), keras.layers.Dense(2)]


def mixed(keras: Any) -> list[Any]:
    return [keras.layers.Dense(5, dtype="mixed_float16"), keras.layers.Dense(2, dtype="float32")]


def augmented(keras: Any) -> list[Any]:
    layers = keras.layers
    return [layers.RandomFlip(), layers.RandomRotation(0.1), layers.Flatten(), layers.Dense(2)]


def subclassed(keras: Any) -> Any:
    class Own(keras.Model):
        def __init__(self, **more: Any) -> None:
            super().__init__(**more)
            self.one, self.two = keras.layers.Dense(3), keras.layers.Dense(2)
            self.drop = keras.layers.Dropout(0.2)

        def call(self, x: Any, training: bool = False) -> Any:
            return self.two(self.drop(self.one(x), training=training))

    return Own()


def table(keras: Any) -> Any:
    words = keras.layers.StringLookup()
    words.adapt(["a", "b", "c"])
    inputs = keras.Input((3,), dtype="string")
    embedded = keras.layers.Embedding(5, 3)(words(inputs))
    return keras.Model(inputs, keras.layers.Dense(2)(embedded))


MADE: list[tuple[Callable[[Any], Any], tuple[int, ...]]] = [
    (dense, SHAPE), (batchnorm, IMAGE), (normalization, SHAPE), (random, SHAPE), (recurrent, SHAPE), (nested, SHAPE),
    (bfloat16, SHAPE), (mixed, SHAPE), (augmented, IMAGE), (subclassed, SHAPE), (table, ()),
]  # fmt: skip


def model_of(make: Callable[[Any], Any], shape: tuple[int, ...]) -> Any:
    keras = framework()
    made = make(keras)
    model = keras.Sequential([keras.Input(shape), *made]) if isinstance(made, list) else made
    model.compile("adam", "mse", metrics=["mae"])
    if shape:
        model.fit(np.ones((4, *shape), "float32"), np.ones((4, 2)), epochs=2, verbose=0)
    return model


def written(model: Any, make: Callable[[Any], Any], folder: str) -> Iterator[str]:
    """Write the model in every form that this framework has for it; yield the paths."""
    import tensorflow as tf

    keras2 = major() == 2
    model.save(f"{folder}/m.keras")
    yield f"{folder}/m.keras"
    if not keras2 or make not in (subclassed, table):  # which Keras 2 cannot write
        model.save(f"{folder}/m.h5")
        yield f"{folder}/m.h5"
    tf.train.Checkpoint(model=model, optimizer=model.optimizer).write(f"{folder}/both")
    tf.train.Checkpoint(model).save(f"{folder}/numbered")
    yield from (f"{folder}/both", f"{folder}/numbered-1")
    model.export(f"{folder}/export")
    yield f"{folder}/export"
    if keras2:
        model.save(f"{folder}/keras2", save_format="tf")
        model.save_weights(f"{folder}/weights", save_format="tf")
        yield from (f"{folder}/keras2", f"{folder}/weights")
    if keras2 or make is not augmented:  # which TensorFlow cannot save so
        tf.saved_model.save(model, f"{folder}/saved")
        yield f"{folder}/saved"


@pytest.mark.parametrize(("make", "shape"), MADE, ids=lambda one: getattr(one, "__name__", ""))
def test_every_form_has_the_live_models_digest(
    make: Callable[[Any], Any], shape: tuple[int, ...], tmp_path: Path
) -> None:
    """The page's own program says which; each form, and each form stripped, is the same."""
    model = model_of(make, shape)
    space: dict[str, Any] = {}
    exec(program(), space)
    if make is table and major() == 2:  # its vocabulary is among them, which is no array
        weights = [weight for weight in model.weights if hasattr(weight, "shape")]
        live = space["digest"](type("Weights", (), {"weights": weights}))
    else:
        live = space["digest"](model)
    paths = list(written(model, make, str(tmp_path)))
    assert len(paths) >= 5
    assert {os.path.basename(path): weights_digest(path) for path in paths} == {
        os.path.basename(path): live for path in paths
    }
    for number, path in enumerate(paths):
        strip(path, str(tmp_path / f"small{number}"))
        assert weights_digest(str(tmp_path / f"small{number}")) == live
