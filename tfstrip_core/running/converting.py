"""One form of a model from another, by TensorFlow's own converters, in a process of its own."""

from __future__ import annotations

import inspect
from typing import Any

from tfstrip_core.errors import CannotRun, TfstripError
from tfstrip_core.running import frozen, keras_models, tflite
from tfstrip_core.running.worker import first_line

NEEDS = ("tensorflow", "keras")


def answer(request: dict[str, Any]) -> dict[str, Any]:
    """Write the model at `source` to `target` in the form `to`; answer with `notes`.

    Raises CannotRun where the model cannot be loaded, or not be converted.
    """
    convert = {"saved_model": _saved_model, "frozen": frozen.freeze, "tflite": tflite.convert}[request["to"]]
    return {"notes": convert(request)}


def _saved_model(request: dict[str, Any]) -> list[str]:
    """Write a whole Keras model as the SavedModel that its Keras exports, with `serve` and its signature."""
    try:
        model = keras_models.load(request["source"], request["imports"], request["folder"])
    except TfstripError:
        raise
    except Exception as error:
        raise CannotRun(f"Keras cannot load it ({first_line(error)})", "see that it loads there by itself") from error
    try:
        _export(model, request["target"])
    except Exception as error:
        raise CannotRun(
            f"Keras cannot export it ({first_line(error)})", "call the model on data once before you save it"
        ) from error
    return []


def _export(model: Any, target: str) -> None:
    _call(model)
    if "verbose" in inspect.signature(model.export).parameters:
        model.export(target, verbose=False)
    else:
        model.export(target)


def _call(model: Any) -> None:
    """Call a model of a class of its own on its stored input shapes: only what was called can be exported."""
    if getattr(model, "inputs", None) or not hasattr(model, "get_build_config"):
        return  # it knows them
    import tensorflow as tf

    built = model.get_build_config() or {}
    shapes = built.get("shapes_dict") or ({"": built["input_shape"]} if built.get("input_shape") else {})
    given = {name.removesuffix("_shape"): _inputs(shape, tf.keras.Input) for name, shape in shapes.items()}
    if list(given) == [""] or list(given) == ["input"]:
        model(*given.values())
    elif given:
        model(**given)


def _inputs(shape: Any, make: Any) -> Any:
    if isinstance(shape, dict):
        return {name: _inputs(inner, make) for name, inner in shape.items()}
    if all(size is None or isinstance(size, int) for size in shape):
        return make(batch_shape=(None, *shape[1:]))
    return [_inputs(inner, make) for inner in shape]
