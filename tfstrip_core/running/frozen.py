"""A SavedModel whose variables are constants: any loader takes it, and each signature's graph is a file of its own."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator
from typing import Any

from tfstrip_core.codecs.layouts import PB
from tfstrip_core.errors import CannotRun
from tfstrip_core.running.worker import first_line

GRAPH = "frozen_graph.pb"
_DEFAULT, _INIT = "serving_default", "__saved_model_init_op"
_KEPT = ("saved_model_main_op", "legacy_init_op", "saved_model_assets")
_MAX = (1 << 31) - (1 << 20)  # of a protobuf message, with room for what is no weight
_VARIABLES = frozenset({"Variable", "VariableV2", "VarHandleOp"})
_ASSIGNS = frozenset({"Assign", "AssignVariableOp"})
_STATE = _VARIABLES | _ASSIGNS | {
    "AssignAdd", "AssignSub", "AssignAddVariableOp", "AssignSubVariableOp", "ReadVariableOp", "ResourceGather",
    "ScatterUpdate", "ResourceScatterUpdate", "ResourceScatterAdd", "ResourceStridedSliceAssign",
}  # fmt: skip
_TABLES = frozenset({"HashTable", "HashTableV2"})
_CHANGING = frozenset({
    "MutableHashTable", "MutableHashTableV2", "MutableHashTableOfTensors", "MutableHashTableOfTensorsV2",
    "MutableDenseHashTable", "MutableDenseHashTableV2",
})  # fmt: skip


def freeze(request: dict[str, Any]) -> list[str]:
    """Write the SavedModel at `source` with constants for variables to `target`; return what the user should know.

    Signatures, and the names of their inputs and outputs, stay. The graph of `serving_default`, or of the only
    signature, goes into `frozen_graph.pb` there, those of others into `frozen_graph.NAME.pb`.
    """
    source, target = request["source"], request["target"]
    variables = os.path.join(source, "variables")
    size = sum(os.path.getsize(os.path.join(variables, name)) for name in _names(variables))
    if size > _MAX:
        raise CannotRun(
            f"its weights are {size:,} bytes, and one file of constants holds 2 GiB at most", "export it as saved_model"
        )
    message = parsed(os.path.join(source, PB))
    meta = message.meta_graphs[0]
    graph = _constants(source, meta)
    _check(graph)
    _set_initial(meta, graph)
    meta.graph_def.CopyFrom(graph)
    meta.meta_info_def.ClearField("function_aliases")
    for field in ("object_graph_def", "saver_def"):
        meta.ClearField(field)
    for name in [name for name in meta.collection_def if name not in _KEPT]:
        del meta.collection_def[name]
    os.makedirs(target)
    _write(os.path.join(target, PB), message)
    for folder in ("assets", "assets.extra"):
        if os.path.isdir(os.path.join(source, folder)):
            shutil.copytree(os.path.join(source, folder), os.path.join(target, folder))
    return list(_write_graphs(target, meta))


def _names(folder: str) -> list[str]:
    return os.listdir(folder) if os.path.isdir(folder) else []


def parsed(path: str) -> Any:
    """Return the message of a saved_model.pb with one graph; raises CannotRun for more of them."""
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel()
    with open(path, "rb") as file:
        message.ParseFromString(file.read())
    if len(message.meta_graphs) != 1:
        raise CannotRun(
            f"it holds {len(message.meta_graphs)} graphs, of which one can be frozen", "save it with one set of tags"
        )
    return message


def _write(path: str, message: Any) -> None:
    try:
        content = message.SerializeToString(deterministic=True)
    except Exception as error:
        raise CannotRun("it is too big for one file of constants", "export it as saved_model") from error
    with open(path, "wb") as file:
        file.write(content)


def _constants(source: str, meta: Any) -> Any:
    """Return the graph of all signatures with the variables' values, as TensorFlow's own converter makes it."""
    import tensorflow as tf

    v1 = tf.compat.v1
    asked = type(meta.graph_def)()
    asked.CopyFrom(meta.graph_def)
    kept = _outputs(meta)
    _drop_assigns(asked, _initial(meta))
    with v1.Graph().as_default() as graph, v1.Session(graph=graph) as session:
        v1.saved_model.load(session, list(meta.meta_info_def.tags), source)
        there = {operation.name for operation in graph.get_operations()}
        for node in asked.node:  # where the converter looks for values
            read = f"{node.name}/Read/ReadVariableOp"
            if node.op == "VarHandleOp" and read not in there:
                with graph.name_scope(""):
                    handle = graph.get_tensor_by_name(f"{node.name}:0")
                    tf.raw_ops.ReadVariableOp(resource=handle, dtype=node.attr["dtype"].type, name=read)
        try:
            frozen = v1.graph_util.convert_variables_to_constants(session, asked, sorted(kept))
        except Exception as error:
            raise CannotRun(f"TensorFlow cannot freeze it ({first_line(error)})", "export it as saved_model") from error
    for node in _nodes(frozen):
        node.attr.pop("_output_shapes", None)  # which were those of handles
    for node in frozen.node:
        node.attr.pop("_class", None)  # places of nodes that may be gone
    for function in frozen.library.function:
        _gather(function)
    _prune(frozen)
    frozen.ClearField("debug_info")
    return frozen


def _gather(function: Any) -> None:
    """Let a function take rows of what is a constant now, which TensorFlow's converter sees to outside of functions."""
    import tensorflow as tf

    values = {one.name for one in function.signature.input_arg if one.type != tf.resource.as_datatype_enum}
    for node in [node for node in function.node_def if node.op == "ResourceGather" and node.input[0] in values]:
        batch = node.attr["batch_dims"].i if "batch_dims" in node.attr else 0  # asking a map would add it
        axis = function.node_def.add(name=f"{node.name}/axis", op="Const")
        axis.attr["dtype"].type = tf.int32.as_datatype_enum
        axis.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(batch, tf.int32))
        data, indices, *controls = node.input
        del node.input[:]
        node.input.extend([data, indices, f"{axis.name}:output:0", *controls])
        node.op = "GatherV2"
        node.attr["Tparams"].CopyFrom(node.attr["dtype"])
        node.attr["Taxis"].type = tf.int32.as_datatype_enum
        for name in set(node.attr) - {"Tparams", "Tindices", "Taxis", "batch_dims"}:
            del node.attr[name]


def _outputs(meta: Any) -> set[str]:
    """Return the nodes that a loader asks for: outputs and inputs of signatures, what initializes, files' names."""
    from tensorflow.core.protobuf import meta_graph_pb2

    names = {_node(name) for key in meta.signature_def for name in _ends(meta.signature_def[key])}
    names |= {_node(asset.tensor_info.name) for asset in meta.asset_file_def}
    for item in meta.collection_def["saved_model_assets"].any_list.value if _has(meta, "saved_model_assets") else ():
        asset = meta_graph_pb2.AssetFileDef()
        item.Unpack(asset)
        names.add(_node(asset.tensor_info.name))
    return names | _initial(meta)


def _has(meta: Any, name: str) -> bool:
    return name in meta.collection_def  # asking a map for what it has not would add it


def _initial(meta: Any) -> set[str]:
    """Return the nodes that initialize the graph when it is loaded."""
    found = {_node(name) for name in _ends(meta.signature_def[_INIT])} if _INIT in meta.signature_def else set()
    for name in ("saved_model_main_op", "legacy_init_op"):
        if _has(meta, name):
            found |= {_node(value) for value in meta.collection_def[name].node_list.value}
    return found


def _set_initial(meta: Any, graph: Any) -> None:
    """Name what initializes the graph as every loader knows it, where it does anything yet."""
    initial = _initial(meta)
    nodes = {node.name: node for node in graph.node}
    meta.signature_def.pop(_INIT, None)  # a signature that users would see
    for name in ("saved_model_main_op", "legacy_init_op"):
        meta.collection_def.pop(name, None)
    for name in sorted(initial):
        if nodes[name].op != "NoOp" or nodes[name].input:
            meta.collection_def["saved_model_main_op"].node_list.value.append(name)


def _ends(signature: Any) -> Iterator[str]:
    """Yield the tensors of a signature's inputs and outputs."""
    for info in (*signature.inputs.values(), *signature.outputs.values()):
        sparse = info.coo_sparse
        names = [info.name, sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
        yield from filter(None, names + [inner.name for inner in info.composite_tensor.components])


def _node(tensor: str) -> str:
    return tensor.removeprefix("^").partition(":")[0]


def _drop_assigns(graph: Any, initial: Iterable[str]) -> None:
    """Let what initializes the graph no longer set variables: they are constants."""
    nodes = {node.name: node for node in graph.node}
    todo, seen = list(initial), set(initial)
    while todo:
        node = nodes.get(todo.pop())
        if node is None or node.op != "NoOp":
            continue
        kept = [name for name in node.input if _node(name) not in nodes or nodes[_node(name)].op not in _ASSIGNS]
        del node.input[:]
        node.input.extend(kept)
        todo += [_node(name) for name in kept if _node(name) not in seen]
        seen |= {_node(name) for name in kept}


def _nodes(graph: Any) -> Iterator[Any]:
    yield from graph.node
    for function in graph.library.function:
        yield from function.node_def


def _check(graph: Any) -> None:
    """Raise CannotRun for what is no constant: a variable that is left, or a table that is changed or was restored."""
    for node in _nodes(graph):
        if node.op in _STATE:
            raise CannotRun(
                f"it changes variables when it runs (the operation {node.op}), which constants cannot",
                "export it as saved_model",
            )
        if node.op in _CHANGING:
            raise CannotRun(
                f"its table {node.name} ({node.op}) is filled from its variables, which constants cannot",
                "export it as saved_model",
            )


def _called(node: Any) -> Iterator[str]:
    """Yield the names of functions that a node may call."""
    yield node.op
    todo = list(node.attr.values())
    while todo:
        value = todo.pop()
        for called in (*value.list.func, *([value.func] if value.HasField("func") else [])):
            yield called.name
            todo += called.attr.values()


def _prune(graph: Any) -> None:
    """Leave the functions out that nothing calls any more, and all gradients."""
    functions = {function.signature.name: function for function in graph.library.function}
    todo = list(graph.node)
    kept: set[str] = set()
    while todo:
        for name in _called(todo.pop()):
            if name in functions and name not in kept:
                kept.add(name)
                todo += functions[name].node_def
    library = type(graph.library)()
    library.function.extend(functions[name] for name in sorted(kept))
    graph.library.CopyFrom(library)


def _write_graphs(target: str, meta: Any) -> Iterator[str]:
    """Write the graph of each signature to a file of its own; yield what the user should know of them."""
    if _assets(meta):
        yield f"no {GRAPH} is written: its tables are filled from files, which a graph alone cannot name"
        return
    for key in distinct(meta):
        if not re.fullmatch(r"[A-Za-z0-9_-]+", key):
            yield f"no graph of its own is written for the signature {key}, whose name is none for a file"
            continue
        name = GRAPH if key == _DEFAULT or len(meta.signature_def) == 1 else GRAPH.replace(".", f".{key}.")
        ends = set(map(_node, _ends(meta.signature_def[key])))
        graph, initial = _part(meta, ends), sorted(_initial(meta))
        if initial and any(node.op in _TABLES for node in _nodes(graph)):
            graph = _part(meta, ends.union(initial))
            yield f"in {name} the tables are empty until the operation {initial[0]} has run"
        _write(os.path.join(target, name), graph)


def distinct(meta: Any) -> list[str]:
    """Return the signatures in order: of Keras's two for one call only that which loaders look for."""
    keys = sorted(set(meta.signature_def) - {_INIT})
    two = [_spec(meta.signature_def[key]) for key in ("serve", _DEFAULT) if key in keys]
    twice = len(two) == 2 and two[0] == two[1]
    return [key for key in keys if key != "serve" or not twice]


def _spec(signature: Any) -> list[tuple[str, int, str]]:
    return sorted(
        (key, info.dtype, str(info.tensor_shape))
        for side in (signature.inputs, signature.outputs)
        for key, info in side.items()
    )


def _assets(meta: Any) -> bool:
    return bool(meta.asset_file_def) or _has(meta, "saved_model_assets")


def _part(meta: Any, ends: Collection[str]) -> Any:
    import tensorflow as tf

    graph = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, sorted(ends))
    _prune(graph)
    return graph
