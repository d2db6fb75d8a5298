"""GraphDefs in a process of their own: from the placeholders that the outputs need to these outputs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tfstrip_core.running.functions import Function, Given
from tfstrip_core.running.inputs import Want

_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_FEEDS = frozenset({"Placeholder", "PlaceholderV2"})
_FILLS = frozenset({"InitializeTable", "InitializeTableV2", "LookupTableImport", "LookupTableImportV2"})
_RANDOM_SEED = 11


def outputs(request: Mapping[str, Any]) -> Iterator[Function]:
    """Yield the one function of the GraphDef at `path`, to the nodes named in `outputs`; `text` is its text form."""
    import tensorflow as tf

    tf1 = tf.compat.v1
    definition = _read(request)
    names = {node.name for node in definition.node}
    asked = [name for name in request["outputs"] if name in names]
    needed = {node.name: node.op for node in tf1.graph_util.extract_sub_graph(definition, asked).node}
    with tf.Graph().as_default() as whole:
        tf1.set_random_seed(_RANDOM_SEED)
        tf.import_graph_def(definition, name="")
    fed = [op.outputs[0] for op in whole.get_operations() if op.name in needed and op.type in _FEEDS]
    wants = tuple(
        Want(one.op.name, one.dtype.base_dtype.name, None if one.shape.rank is None else tuple(one.shape.as_list()))
        for one in fed
    )
    fetched = {one.name: one for name in asked for one in whole.get_operation_by_name(name).outputs}
    fills = [op for op in whole.get_operations() if op.type in _FILLS]
    variables = next((name for name, op in needed.items() if op in _VARIABLES), "")

    def run(given: Given) -> dict[str, Any]:
        with tf1.Session(graph=whole) as session:
            session.run(fills)
            found = session.run(list(fetched.values()), {f"{name}:0": array for name, array in given.items()})
            return dict(zip(fetched, found, strict=True))

    yield Function(
        "graph",
        wants,
        run,
        error=f"it reads variables, such as {variables}, and a graph has no values for them" if variables else "",
    )


def _read(request: Mapping[str, Any]) -> Any:
    from google.protobuf import text_format
    from tensorflow.core.framework import graph_pb2

    with open(request["path"], "rb") as file:
        content = file.read()
    if request["text"]:
        return text_format.Parse(content, graph_pb2.GraphDef())
    return graph_pb2.GraphDef.FromString(content)
