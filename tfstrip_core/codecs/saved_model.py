"""SavedModel directories: saved_model.pb, the checkpoint under variables/, and what Keras 2 writes beside them.

What is read here is checked as far as its own parts name each other by number or name; what it means is not known here.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

from google.protobuf.message import DecodeError
from google.protobuf.unknown_fields import UnknownFieldSet

from tfstrip_core.codecs import layouts, object_graph, tensor_bundle
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.tensor_bundle import Bundle
from tfstrip_core.codecs.wire import check_parts
from tfstrip_core.errors import Pointer, Refused, Unreadable, Unsupported

PB, TEXT, FINGERPRINT, KERAS = layouts.PB, layouts.TEXT, layouts.FINGERPRINT, layouts.KERAS_METADATA
VARIABLES, DEBUG = layouts.VARIABLES, layouts.DEBUG
SERVE, TRAIN = "serve", "train"
MAX_BYTES = (1 << 31) - 1  # protocol buffers have no larger messages
MAX_PARTS = 8_000_000
_POINTER = b"version https://git-lfs"

_Message = TypeVar("_Message")


@dataclass(frozen=True, slots=True)
class SavedModel:
    """A SavedModel: `message` is saved_model.pb, which nobody is to change; `bundle` its variables, if it has any.

    `objects` is the checkpoint's own object graph; `keras` what keras_metadata.pb says.
    """

    path: str
    message: pb.SavedModel = field(repr=False)
    bundle: Bundle | None = field(repr=False)
    objects: object_graph.Graph | None = field(repr=False)
    keras: pb.KerasMetadata | None = field(repr=False)

    @property
    def with_objects(self) -> pb.MetaGraph | None:
        """The MetaGraph that has an object graph, None for models of TensorFlow 1."""
        return next((meta for meta in self.message.meta_graphs if meta.object_graph_def.nodes), None)


def read(path: str) -> SavedModel:
    """Return the SavedModel in the directory `path`, of which only metadata is read.

    Raises OSError where saved_model.pb cannot be read, Unreadable where a file is damaged or missing, Pointer where one
    is a Git LFS pointer, Unsupported for a text SavedModel, and Refused for parts that point to nothing, for unknown
    parts where nodes are named by number, and for more of anything than a model has.
    """
    if not os.path.isfile(os.path.join(path, PB)) and os.path.isfile(os.path.join(path, TEXT)):
        raise Unsupported("the SavedModel is written as text", "load and save it again in TensorFlow")
    message = parse(_content(path, PB))
    bundle = variables(path)
    graph = None
    if bundle is not None and object_graph.KEY in bundle.entries:
        with tensor_bundle.opened(bundle) as data:
            proto = data.string(bundle.entries[object_graph.KEY], object_graph.MAX_BYTES)
        graph = object_graph.parse(proto)
    keras = None
    if os.path.isfile(os.path.join(path, KERAS)):
        keras = _parsed(pb.KerasMetadata, _content(path, KERAS), KERAS)
        count = max(len(meta.object_graph_def.nodes) for meta in message.meta_graphs)
        if not all(0 <= node.node_id < count for node in keras.nodes):
            raise _lie("has a keras_metadata.pb about an object that it does not have")
    return SavedModel(path, message, bundle, graph, keras)


def _content(path: str, name: str) -> bytes:
    with open(os.path.join(path, name), "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise Refused(f"its file {name} is {size:,} bytes", "no framework reads that much; do not load this file")
        content = file.read(size) if size else b""
    if content.startswith(_POINTER):
        raise _pointer(name)
    if len(content) < size:
        raise Unreadable(f"its file {name} is cut off", "get a complete copy")
    return content


def _pointer(name: str) -> Pointer:
    return Pointer(
        f"its file {name} is a Git LFS pointer and its object is not here",
        "run git lfs pull, in CI check out with lfs: true",
    )


def variables(path: str) -> Bundle | None:
    """Return the variables of the SavedModel in the directory `path`, None without any; raises as `read` does."""
    prefix = os.path.join(path, VARIABLES)
    if not os.path.lexists(f"{prefix}.index"):
        if os.path.isfile(os.path.join(path, "variables.index")):
            raise Unreadable(
                "its variables lie beside saved_model.pb, where TensorFlow does not look for them",
                "move them into a folder called variables",
            )
        return None
    folder = os.path.dirname(prefix)
    for name in sorted(os.listdir(folder)):
        with open(os.path.join(folder, name), "rb", buffering=0) as file:
            if name.startswith("variables.") and file.read(len(_POINTER)) == _POINTER:
                raise _pointer(f"variables/{name}")
    try:
        return tensor_bundle.read(prefix)
    except Unreadable as error:
        if "variables." in error.cause:  # it names a file already
            raise
        raise Unreadable(f"its file {VARIABLES}.index cannot be read: {error.cause}", error.remedy) from None


def _parsed(kind: Callable[[], _Message], proto: bytes, name: str) -> _Message:
    message: Any = kind()
    if len(proto) > 2 * MAX_PARTS:  # a part is two bytes at least
        check_parts(proto, message.DESCRIPTOR, MAX_PARTS, f"its file {name}")
    try:
        message.ParseFromString(proto)
    except DecodeError:
        hint = "get a good copy (git may have changed its line ends: mark it as binary in .gitattributes)"
        raise Unreadable(f"its file {name} is damaged", hint) from None
    found: _Message = message
    return found


def parse(proto: bytes) -> pb.SavedModel:
    """Return the message in a saved_model.pb, checked; raises Unreadable and Refused as `read` does."""
    message = _parsed(pb.SavedModel, proto, PB)
    if not message.meta_graphs:
        raise Unreadable("its file saved_model.pb holds no graph", "get a good copy")
    if len({frozenset(meta.meta_info_def.tags) for meta in message.meta_graphs}) < len(message.meta_graphs):
        raise Refused("the SavedModel has two graphs of the same tags", "save it again, each with tags of its own")
    for meta in message.meta_graphs:
        _unique((node.name for node in meta.graph_def.node), "nodes")
        _unique((function.signature.name for function in meta.graph_def.library.function), "functions")
        _unique((item.key for item in meta.signature_def), "signatures")
        _check_maps(meta)
        if meta.object_graph_def.nodes:
            _check_objects(meta)
    with_objects = [meta for meta in message.meta_graphs if meta.object_graph_def.nodes]
    if with_objects and len(message.meta_graphs) > 1:
        raise Refused("the SavedModel has several graphs, and objects in one", "save it again with one graph")
    return message


def _lie(what: str) -> Refused:
    return Refused(f"the SavedModel {what}", "no framework writes that; do not load this model")


def _unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or not name:
            raise _lie(f"has two {what} called {name!r}")
        seen.add(name)


def _check_maps(meta: pb.MetaGraph) -> None:
    """Raise Refused where a key or a node of a function is there twice: of two readers, one takes the first."""
    bodies = [function.node_def for function in meta.graph_def.library.function]
    for body in bodies:
        _unique((node.name for node in body), "nodes of a function")
    for node in chain(meta.graph_def.node, *bodies):
        if len({attr.key for attr in node.attr}) < len(node.attr):
            raise _lie(f"gives the node {node.name!r} two attributes of one name")
    _unique((entry.key for entry in meta.collection_def), "collections")
    for item in meta.signature_def:
        for tensors in (item.value.inputs, item.value.outputs):
            if len({tensor.key for tensor in tensors}) < len(tensors):
                raise _lie(f"gives two tensors of the signature {item.key!r} one name")


def _check_objects(meta: pb.MetaGraph) -> None:
    graph = meta.object_graph_def
    count = len(graph.nodes)
    _known(graph)
    _unique((entry.key for entry in graph.concrete_functions), "concrete functions")
    functions = {function.signature.name for function in meta.graph_def.library.function}
    concrete = {entry.key for entry in graph.concrete_functions}
    constants = {node.name for node in meta.graph_def.node if node.op == "Const"}
    for entry in graph.concrete_functions:
        _known(entry.value)
        if not all(0 <= number < count for number in entry.value.bound_inputs):
            raise _lie(f"has a function {entry.key!r} that reads an object that it does not have")
        if entry.key not in functions:
            raise Unreadable(f"the SavedModel lacks the function {entry.key!r}", "get a good copy")
    for node in graph.nodes:
        _check_kind(node)
        ids = list(ids_of(node))
        if ids and not 0 <= min(ids) <= max(ids) < count:
            raise _lie("points to an object that it does not have")
        keys = [item.key for item in node.saveable_objects]
        names = [child.local_name for child in node.children]
        if len(set(keys)) < len(keys):
            raise _lie("gives an object two values of one name")
        if len(set(names)) < len(names) or any(name.startswith("\0") for name in names):
            raise _lie("gives two objects one name")
        for name in concrete_names(node):
            if name not in concrete:
                raise _lie(f"names a function {name!r} that it does not have")
        _check_content(node, constants, len(meta.asset_file_def))


def _check_content(node: pb.Object, constants: Collection[str], assets: int) -> None:
    if node.HasField("constant") and node.constant.operation not in constants:
        raise Unreadable(f"the SavedModel lacks the constant {node.constant.operation!r}", "get a good copy")
    if node.HasField("asset") and not 0 <= node.asset.asset_file_def_index < assets:
        raise _lie("points to an asset that it does not have")


def _check_kind(node: pb.Object) -> None:
    _known(node)
    if not node.WhichOneof("kind"):
        raise Refused("the SavedModel has an object of an unknown kind", "update tfstrip")
    if node.registered_saver:
        raise Refused("the SavedModel has an object that is saved by code of its own", "strip it where that is")
    if node.variable.experimental_distributed_variable_components:
        raise Refused("the SavedModel has variables that are spread over devices", "save it again on one device")


def _known(message: Any) -> None:
    """Raise Refused where fields are unknown in a message that names nodes by number: one of them might too."""
    parts = [message]
    if isinstance(message, pb.Object):
        kind = message.WhichOneof("kind")
        if kind in ("function", "bare_concrete_function", "constant", "captured_tensor", "asset"):
            parts.append(getattr(message, kind))
        parts += [item.value for item in message.saveable_objects]
    if any(len(UnknownFieldSet(part)) for part in parts):
        raise Refused("the SavedModel has objects with parts that are not known", "update tfstrip")


def ids_of(node: pb.Object) -> Iterator[int]:
    """Yield every number by which an object names another one."""
    for reference in (*node.children, *node.dependencies):
        yield reference.node_id
    for slot in node.slot_variables:
        yield slot.original_variable_node_id
        yield slot.slot_variable_node_id
    for saveable in node.saveable_objects:
        yield saveable.value.save_function
        yield saveable.value.restore_function


def concrete_names(node: pb.Object) -> Iterator[str]:
    """Yield the concrete functions that an object is."""
    if node.HasField("function"):
        yield from node.function.concrete_functions
    elif node.HasField("bare_concrete_function"):
        yield node.bare_concrete_function.concrete_function_name
    elif node.HasField("captured_tensor"):
        yield node.captured_tensor.concrete_function
