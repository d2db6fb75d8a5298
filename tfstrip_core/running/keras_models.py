"""Whole Keras models in a process of their own: loaded with safe_mode on, their own call run as inference."""

from __future__ import annotations

import importlib
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tfstrip_core.codecs import jsontext
from tfstrip_core.containers.keras import keras_config
from tfstrip_core.containers.saved import saved_code
from tfstrip_core.errors import CannotRun, UsageError
from tfstrip_core.running import tensors
from tfstrip_core.running.functions import Function, Given
from tfstrip_core.running.inputs import Want

CALL = "model"
_UNKNOWN = "the file does not say what it takes: give it with --inputs"


def whole(request: Mapping[str, Any]) -> Iterator[Function]:
    """Yield the one call of a model; see `load` for what it raises."""
    model = load(request["path"], request["imports"], request["folder"])
    wants, structure, unknown = _takes(model, request.get("arrays") or (request.get("calls") or [{}])[0].get("inputs"))

    def run(given: Given) -> dict[str, Any]:
        import tensorflow as tf

        specs = tf.nest.flatten(structure)
        made = [tensors.tensor(given[w.name], w.dtype, spec) for w, spec in zip(wants, specs, strict=True)]
        found = model(tf.nest.pack_sequence_as(structure, made), training=False)
        flat = tf.nest.flatten(found, expand_composites=True)
        return {name: tensors.array(one) for name, one in zip(_names(model, found, len(flat)), flat, strict=True)}

    yield Function(CALL, wants, run, unknown=unknown)


def load(path: str, imports: Sequence[str], folder: str) -> Any:
    """Return the model at `path`, not compiled, with the classes of the modules `imports`, found from `folder` on.

    Of the modules that the file names none is imported but Keras's own and those. Raises CannotRun where a class is
    absent or the file brings code of its own, UsageError where a module cannot be imported.
    """
    custom = classes(imports, folder)
    _check_code(path, imports, custom)
    import tensorflow as tf

    try:
        return tf.keras.models.load_model(_alias(path), custom_objects=custom, compile=False, safe_mode=True)
    except (TypeError, ValueError) as error:
        said = str(error)
        for before in ("Could not locate class ", "Could not locate function ", "Unknown layer: ", "Unknown object: "):
            _, found, rest = said.partition(before)
            if found:
                raise _absent(rest.split()[0].strip("'\".,")) from None
        raise


def _absent(name: str) -> CannotRun:
    return CannotRun(f"the code of {name} is not in the file", "name its module: --import MODULE")


def classes(imports: Sequence[str], folder: str) -> dict[str, Any]:
    """Import modules from `folder` or the environment; return the classes and functions of their own, by name."""
    if not imports:
        return {}
    sys.path.insert(0, folder)
    found: dict[str, Any] = {}
    for name in imports:
        try:
            module = importlib.import_module(name)
        except ImportError as error:
            raise UsageError(f"--import {name}: {error}", "run where it can be imported") from None
        mine = {key: value for key, value in vars(module).items() if callable(value)}
        found |= {key: value for key, value in mine.items() if getattr(value, "__module__", None) == module.__name__}
    return found


def config_of(path: str) -> Any:
    """Return the configuration of a whole Keras model."""
    if os.path.isdir(path):
        with open(os.path.join(path, "config.json"), "rb") as file:
            return jsontext.parse(file.read(), "config.json")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return jsontext.parse(archive.read("config.json"), "config.json")
    import h5py

    with h5py.File(path, "r") as file:
        return jsontext.parse(file.attrs["model_config"], "model_config")


def _check_code(path: str, imports: Sequence[str], custom: Mapping[str, Any]) -> None:
    """Raise CannotRun where a file holds code, or names a module that is not Keras's and was not asked for."""
    queue = [config_of(path)]
    while queue:
        value = queue.pop()
        if isinstance(value, list):
            queue += value
        if not isinstance(value, dict):
            continue
        queue += value.values()
        if value.get("class_name") == "__lambda__" or "lambda" in (
            value.get("function_type"), value.get("output_shape_type"), value.get("mask_type"),
        ):  # fmt: skip
            raise CannotRun(
                "a Lambda layer runs Python code that is stored in the model, which is never run",
                "compare the two models where you trust them",
            )
        does = _does(value)
        if does:
            raise CannotRun(f"its layer of {does}, so it is not run", "compare the two models where you trust them")
        module, name = value.get("module"), value.get("class_name")
        if (
            isinstance(module, str)
            and "class_name" in value
            and not keras_config.is_framework_class({"module": module})
        ):
            if name == "function" and isinstance(value.get("config"), str):
                name = value["config"]
            known = any(module == one or module.startswith(f"{one}.") for one in imports)
            if not known and name not in custom:
                raise CannotRun(
                    f"{name} of the module {module} is not in the file", f"name the module: --import {module}"
                )


def _does(layer: Mapping[str, Any]) -> str:
    """Return what a layer that Keras 2 made of an operation of TensorFlow does besides to compute, "" for nothing."""
    config = layer.get("config")
    if not isinstance(config, dict) or layer.get("class_name") not in ("TFOpLambda", "TensorFlowOpLayer"):
        return ""
    said = str(config.get("function", config.get("node_def", "")))
    words = set(re.findall(r"\w+", said))
    words |= {"".join(part.capitalize() for part in word.split("_")) for word in words}  # io.write_file is WriteFile
    if words & {"numpy_function", "py_function", "py_func"}:
        words.add("PyFunc")
    return next(
        (f"the operation {op} {does}" for op, does in sorted(saved_code.never_run().items()) if op in words), ""
    )


def _alias(path: str) -> str:
    """Return a path to the model as Keras wants to have it called, in a folder of ours: some write beside it."""
    if os.path.isdir(path):
        os.mkdir("model")
        for name in os.listdir(path):
            os.symlink(os.path.join(path, name), os.path.join("model", name))
        return os.path.abspath("model")
    alias = os.path.abspath("model.keras" if zipfile.is_zipfile(path) else "model.h5")
    os.symlink(path, alias)
    return alias


def _takes(model: Any, given: Any) -> tuple[tuple[Want, ...], Any, str]:
    """Return what a model takes, in the order of its flat inputs, their structure, and why that is not known."""
    import tensorflow as tf

    for attribute in ("_inputs_struct", "_nested_inputs"):  # of Keras 3, of Keras 2
        structure = getattr(model, attribute, None)
        if structure is not None:
            break
    else:
        structure = getattr(model, "inputs", None)
        if isinstance(structure, (list, tuple)) and len(structure) == 1:
            structure = structure[0]
    if structure is not None:
        flat = tf.nest.flatten(structure)
        names = [str(getattr(one, "name", "") or f"input_{number}") for number, one in enumerate(flat)]
        wants = tuple(tensors.want(n.partition(":")[0], one) for n, one in zip(names, flat, strict=True))
        return wants, structure, ""
    built = (model.get_build_config() or {}).get("input_shape") if hasattr(model, "get_build_config") else None
    one = isinstance(built, (list, tuple)) and all(size is None or isinstance(size, int) for size in built)
    if one and built and len(given or ()) < 2:  # for its weights, of one tensor: which kind of number is not said
        name, dtype = (given[0]["name"], given[0]["dtype"]) if given else ("inputs", "float32")
        return (Want(name, dtype, (None, *built[1:])),), 0, ""
    if given:
        wants = tuple(Want(one["name"], one["dtype"], None) for one in given)
        by_order = all(one.name.startswith("arr_") for one in wants)
        by_name: Any = {want.name: want.name for want in wants}
        return wants, (wants[0].name if len(wants) == 1 else [*by_name]) if by_order else by_name, ""
    return (), (), _UNKNOWN


def _names(model: Any, found: Any, count: int) -> list[str]:
    """Return names of the flat outputs: the keys of a dict, the model's own names, else their numbers."""
    if isinstance(found, dict) and len(found) == count:
        return [str(key) for key in sorted(found)]
    names = getattr(model, "output_names", None)
    if isinstance(names, (list, tuple)) and len(set(names)) == len(names) == count:
        return [str(name) for name in names]
    return [str(number) for number in range(count)]
