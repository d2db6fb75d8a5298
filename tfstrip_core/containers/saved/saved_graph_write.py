"""A MetaGraph with what inference reaches and nothing else, and with a saver that restores just that."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from google.protobuf.message import DecodeError

from tfstrip_core.codecs import meta_graph
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.containers.saved import saved_saver_write
from tfstrip_core.containers.saved.saved_closure import (
    ASSETS_COLLECTION,
    INIT_COLLECTIONS,
    TRAIN,
    Graph,
    local_paths,
    source,
)
from tfstrip_core.containers.saved.saved_objects_write import keep
from tfstrip_core.containers.saved.saved_saver import Handle

_LISTS = frozenset({*INIT_COLLECTIONS, "table_initializer", "asset_filepaths"})
_PLACES = "_class"


def snapshots(held: Graph, nodes: Collection[str]) -> frozenset[str]:
    """Return the nodes by which TensorFlow 1's lists of variables read those among `nodes`."""
    found = set()
    for entry in held.meta.collection_def:
        for item in _variables(entry, held):
            name = source(item.snapshot_name)
            if source(item.variable_name) in nodes and name in held.nodes:
                found.add(name)
    return frozenset(found)


def _variables(entry: meta_graph_pb2.Collection, held: Graph) -> list[meta_graph_pb2.Variable]:
    """Return a collection's variables; empty where it holds something else."""
    found = []
    for item in entry.value.bytes_list.value:
        try:
            variable = meta_graph_pb2.Variable.FromString(item)
        except DecodeError:
            return []
        node = held.nodes.get(source(variable.variable_name))
        if node is None or node.op not in meta_graph.VARIABLES:
            return []
        found.append(variable)
    return found


def reduced(
    held: Graph, nodes: Collection[str], functions: Collection[str], handles: tuple[Handle, ...],
    objects: pb.ObjectGraph | None, *, stored: bool,
) -> pb.MetaGraph:  # fmt: skip
    """Return the MetaGraph with just these nodes and functions, and a saver of the handles where it has variables.

    `objects` is the object graph that it is to have; `stored` says whether there is a checkpoint.
    """
    meta = pb.MetaGraph()
    meta.CopyFrom(held.meta)
    graph = meta.graph_def
    graph.ClearField("debug_info")  # the writer's source files, with their paths
    keep(graph.node, [node.name in nodes for node in graph.node])
    local = local_paths(held)
    for node in graph.node:
        for attr in node.attr:
            if attr.key == _PLACES:
                places = attr.value.list.s
                keep(places, [place.removeprefix(b"loc:@").decode("utf-8", "replace") in nodes for place in places])
            elif attr.key == "value" and node.name in local:
                attr.value.tensor.string_val[0] = re.split(r"[/\\]", local[node.name])[-1].encode()
        keep(node.attr, [attr.key != _PLACES or bool(attr.value.list.s) for attr in node.attr])
    library = graph.library
    keep(library.function, [item.signature.name in functions for item in library.function])
    keep(library.gradient, [item.function_name in functions for item in library.gradient])
    keep(library.registered_gradients, [item.gradient_func in functions for item in library.registered_gradients])
    keep(meta.signature_def, [item.key != TRAIN for item in meta.signature_def])
    aliases = meta.meta_info_def.function_aliases
    keep(aliases, [item.key in functions for item in aliases])
    if objects is not None:
        meta.object_graph_def.CopyFrom(objects)
    assigns: Mapping[str, str] = {}
    meta.saver_def.Clear()
    meta.ClearField("saver_def")
    if stored:
        assigns = saved_saver_write.write(meta, handles, nodes)
    _collections(meta, held, nodes, assigns)
    return meta


def _collections(meta: pb.MetaGraph, held: Graph, nodes: Collection[str], assigns: Mapping[str, str]) -> None:
    """Keep the lists that a loader uses, without what is gone; whatever else is listed, training put there."""
    wanted = []
    for entry in meta.collection_def:
        kind = entry.value.WhichOneof("kind")
        if kind == "node_list" and entry.key in _LISTS:
            names = entry.value.node_list.value
            keep(names, [source(text) in nodes for text in names])
            wanted.append(bool(names))
        elif kind == "bytes_list":
            variables = [item for item in _variables(entry, held) if source(item.variable_name) in nodes]
            variables = [item for item in variables if source(item.variable_name) in assigns]
            for item in variables:
                item.initializer_name = assigns[source(item.variable_name)]
                item.ClearField("initial_value_name")
            del entry.value.bytes_list.value[:]
            entry.value.bytes_list.value.extend(item.SerializeToString(deterministic=True) for item in variables)
            wanted.append(bool(variables))
        else:
            wanted.append(entry.key == ASSETS_COLLECTION)
    keep(meta.collection_def, wanted)
