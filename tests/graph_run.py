"""What a graph computes, in the TensorFlow at hand: in a session, with the variables that its training ended with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def graph_def(path: str) -> Any:
    """Read a GraphDef, binary or as text, with TensorFlow's own messages."""
    import tensorflow as tf
    from google.protobuf import text_format

    content, message = Path(path).read_bytes(), tf.compat.v1.GraphDef()
    if content.lstrip().startswith(b"node"):
        return text_format.Parse(content.decode(), message)
    message.ParseFromString(content)
    return message


def run_graph_def(
    path: str, feeds: Mapping[str, Any], outputs: Sequence[str], variables: Mapping[str, np.ndarray]
) -> list[np.ndarray]:
    """Import a GraphDef and compute outputs of it, its variables set to these values."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        tf.import_graph_def(graph_def(path), name="")
        names = {operation.name: operation for operation in graph.get_operations()}
        with graph.device(None):
            for name, value in sorted(variables.items()):
                if name not in names or names[name].type == "Const":
                    continue
                handle = names[name].outputs[0]
                constant = tf.constant(value)
                if names[name].type == "VarHandleOp":
                    session.run(tf.raw_ops.AssignVariableOp(resource=handle, value=constant))
                else:
                    session.run(tf.compat.v1.raw_ops.Assign(ref=handle, value=constant))
        _fill_tables(session, names.values())
        return session.run([f"{name}:0" for name in outputs], dict(feeds))


def run_meta_graph(path: str, feeds: Mapping[str, Any], outputs: Sequence[str], values: str) -> list[np.ndarray]:
    """Import a MetaGraphDef, restore its variables with its own Saver from the checkpoint `values`, and compute."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        saver = tf.compat.v1.train.import_meta_graph(path)
        saver.restore(session, values)
        session.run(tf.compat.v1.tables_initializer())
        return session.run([f"{name}:0" for name in outputs], dict(feeds))


def initialized(path: str, folder: Path) -> list[str]:
    """Import a MetaGraphDef, initialize and save its variables; return the keys of what was saved."""
    import tensorflow as tf

    with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
        saver = tf.compat.v1.train.import_meta_graph(path)
        session.run(tf.compat.v1.global_variables_initializer())
        prefix = saver.save(session, str(folder / "again"))
        return sorted(tf.train.load_checkpoint(prefix).get_variable_to_shape_map())


def _fill_tables(session: Any, operations: Iterable[Any]) -> None:
    for operation in operations:
        if operation.type in ("InitializeTableV2", "LookupTableImportV2"):
            session.run(operation)


def facts(folder: Path) -> dict[str, dict[str, Any]]:
    """Return what the writer of these graphs said of them, by scenario."""
    found = json.loads((folder / "index.json").read_text())
    return {one["scenario"]: one for one in found}


def feeds(one: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Return the inputs of a scenario by name."""
    kinds = {"labels:0": "int32", "words:0": "object"}
    return {name: np.array(value, kinds.get(name, "float32")) for name, value in one["inputs"].items()}
