"""A SavedModel as a TFLite model, by TensorFlow's own converter."""

from __future__ import annotations

import os
import re
from typing import Any

from tfstrip_core.codecs.layouts import PB
from tfstrip_core.errors import CannotRun
from tfstrip_core.running.frozen import distinct, parsed
from tfstrip_core.running.worker import first_line

_FLEX = re.compile(rb"(..\x00\x00)Flex([A-Za-z0-9]+)\x00", re.DOTALL)  # how the file names such an operation
_CUSTOM = re.compile(r"Custom ops: ([\w, ]+)")


def convert(request: dict[str, Any]) -> list[str]:
    """Write the SavedModel at `source`, with every signature, to the file `target`; return what the user should know.

    TensorFlow's own operations come in where TFLite has none that does.
    """
    import tensorflow as tf

    ops = tf.lite.OpsSet
    try:
        content = _converted(request["source"], [ops.TFLITE_BUILTINS])
    except Exception:  # noqa: BLE001 - of a class that no two versions share
        try:
            content = _converted(request["source"], [ops.TFLITE_BUILTINS, ops.SELECT_TF_OPS])
        except Exception as error:
            raise _told(error) from error
    with open(request["target"], "wb") as file:
        file.write(content)
    flex = {
        name.decode()
        for size, name in _FLEX.findall(content)
        if int.from_bytes(size, "little") == len(name) + len("Flex")
    }
    return (
        [f"it needs the Flex delegate, for operations that TFLite has not: {', '.join(sorted(flex))}"] if flex else []
    )


def _converted(source: str, ops: list[Any]) -> bytes:
    import tensorflow as tf

    keys = distinct(parsed(os.path.join(source, PB)).meta_graphs[0])
    converter = tf.lite.TFLiteConverter.from_saved_model(source, signature_keys=keys)
    converter.target_spec.supported_ops = ops
    return bytes(converter.convert())


def _told(error: Exception) -> CannotRun:
    named = _CUSTOM.search(str(error))
    what = f"the operation {named[1].strip()} is unknown to it" if named else first_line(error)
    return CannotRun(f"TensorFlow cannot convert it to TFLite: {what}", "export it as saved_model or frozen")
