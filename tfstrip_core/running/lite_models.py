"""TFLite models in a process of their own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfstrip_core.running.functions import Function, Given
from tfstrip_core.running.inputs import Want


def signatures(request: Mapping[str, Any]) -> Iterator[Function]:
    """Yield the signatures of a TFLite model; one without any as its only function."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=request["path"], num_threads=1)
    names = sorted(interpreter.get_signature_list())
    for name in names:
        runner = interpreter.get_signature_runner(name)
        details = runner.get_input_details()
        wants = tuple(_want(key, detail) for key, detail in sorted(details.items()))

        def run(given: Given, runner: Any = runner) -> dict[str, Any]:
            found = runner(**given)
            return {key: found[key].copy() for key in sorted(found)}

        yield Function(name, wants, run)
    if not names:
        yield _plain(interpreter)


def _want(name: str, detail: Mapping[str, Any]) -> Want:
    import tensorflow as tf

    shape = detail.get("shape_signature", detail["shape"])
    sizes = shape if len(shape) == len(detail["shape"]) else detail["shape"]
    return Want(name, tf.as_dtype(detail["dtype"]).name, tuple(None if size < 0 else int(size) for size in sizes))


def _plain(interpreter: Any) -> Function:
    inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
    wants = tuple(_want(detail["name"], detail) for detail in inputs)

    def run(given: Given) -> dict[str, Any]:
        for detail in inputs:
            interpreter.resize_tensor_input(detail["index"], given[detail["name"]].shape)
        interpreter.allocate_tensors()
        for detail in inputs:
            interpreter.set_tensor(detail["index"], given[detail["name"]])
        interpreter.invoke()
        return {detail["name"]: interpreter.get_tensor(detail["index"]) for detail in outputs}

    return Function("main", wants, run)
