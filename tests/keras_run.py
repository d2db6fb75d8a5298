"""Loading and running models in the Keras at hand: what a user of the stripped file would see."""

import os
import warnings
from typing import Any

import conftest  # noqa: F401 - which makes what lies in fixtures/ importable
import numpy as np
from loading import said, shape_of

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")


def framework() -> Any:
    """Return the keras module that tf.keras is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow as tf

        return tf.keras


def major() -> int:
    """Return the major version of the Keras at hand, 2 or 3."""
    framework()
    import keras

    return int(keras.__version__.split(".")[0])


def load(path: str, *, compile: bool) -> tuple[Any, set[str]]:
    """Load a model; return it and the warnings that its loading gave, without the numbers in them."""
    keras = framework()
    import zoo

    with said() as heard:
        model = keras.models.load_model(path, compile=compile, custom_objects=zoo.CLASSES, safe_mode=False)
    return model, {shape_of(text) for text in heard}


def inputs(io: Any) -> list[Any]:
    """Return the inputs x0, x1, ... of a fixture as tensors."""
    import tensorflow as tf

    names = sorted(name for name in io.files if name.startswith("x"))
    return [tf.constant(io[name].tolist() if io[name].dtype.kind == "U" else io[name]) for name in names]


def predict(model: Any, io: Any) -> list[np.ndarray]:
    """Return the model's outputs for a fixture's inputs, run as inference."""
    given = inputs(io)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        outputs = model(given[0] if len(given) == 1 else given, training=False)
    flat = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    return [np.asarray(output) for output in flat]


def same_bytes(left: list[np.ndarray], right: list[np.ndarray]) -> bool:
    """Return whether two lists of arrays agree in number, dtype, shape and every byte."""
    return [(a.dtype, a.shape, a.tobytes()) for a in left] == [(b.dtype, b.shape, b.tobytes()) for b in right]
