"""What a graph says, as comparable statements: the proof that a reduced one says the same of all that it kept.

Each is about a node, a function, a key of the Saver or an entry of a collection, and goes with that.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

from tfstrip_core.codecs import graph_heads, meta_graph
from tfstrip_core.codecs.graph_file import Constant, Field, GraphFile
from tfstrip_core.codecs.meta_graph import RESTORES, SAVES
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.tensor_bundle import DTYPES, STRING
from tfstrip_core.codecs.wire import fields
from tfstrip_core.containers.graphs.graph_reach import Kept, described
from tfstrip_core.containers.saved import saved_closure
from tfstrip_core.containers.saved.saved_closure import Graph, source
from tfstrip_core.errors import Unreadable, Unsupported
from tfstrip_core.inventory import Tensor

Statement = tuple[str, str]  # OWNER@WHAT, value
_PLACES = "_class"
_DEPTH = 16


def tensors(file: GraphFile, nodes: Collection[str]) -> Iterator[Tensor]:
    """Yield the constants among these nodes that are arrays; the bytes are those stored."""
    for name, constant in file.constants.items():
        if name in nodes and is_array(constant):
            dtype, _ = DTYPES.get(constant.dtype, (f"type {constant.dtype}", 0))
            yield Tensor(name, dtype, constant.shape, stored_bytes(file, constant))


def is_array(constant: Constant) -> bool:
    """Return whether a constant is numbers, and several; others are settings, or names."""
    count = 1
    for size in constant.shape:
        count *= size
    return constant.dtype != STRING and bool(constant.shape) and count > 1


def stored_bytes(file: GraphFile, constant: Constant) -> int:
    """Return how many bytes of payload are stored of a constant, which may repeat its last element."""
    if file.form != graph_heads.TEXT:
        return sum(end - begin for _, begin, end in constant.values)
    size, whole = DTYPES.get(constant.dtype, ("", 1))[1] or 1, 1
    for count in constant.shape:
        whole *= count
    content = any(name == "tensor_content" for name, _, _ in constant.values)
    return size * (whole if content else min(whole, len(constant.values)))


def of_graph(file: GraphFile, held: Graph, blocks: Mapping[str, bytes]) -> Iterator[Statement]:
    """Yield what a graph says. `blocks` are the nodes and functions of a text as they stand there, by their owners."""
    saver = _Saver(held) if file.form == graph_heads.META else None
    for name, node in held.nodes.items():
        if saver and name in saver.names:
            continue
        owner = f"node {name}"
        value = _digest([blocks[owner]]) if blocks else _message(saver.plainly(node) if saver else node)
        yield f"{owner}@definition", value
    for place, beside in _places(held):
        yield f"{place} {beside}@beside each other", ""
    for name, function in held.functions.items():
        owner = f"function {name}"
        yield f"{owner}@definition", _digest([blocks[owner]]) if blocks else _message(function)
    library = held.meta.graph_def.library
    for gradient in library.gradient:
        yield f"function {gradient.function_name}@gradient", gradient.gradient_func
    for gradient in library.registered_gradients:
        yield f"function {gradient.gradient_func}@gradient of {_plainly(gradient.registered_op_type)}", ""
    if saver:
        yield from saver.statements()
    yield from _of_collections(held)
    for item in held.meta.signature_def:
        yield f"signature {item.key}@definition", _message(item)


def gone(file: GraphFile, held: Graph, kept: Kept) -> Iterator[str]:
    """Yield the owners of all that does not stay."""
    yield from (f"node {name}" for name in held.nodes.keys() - kept.nodes)
    yield from (f"function {name}" for name in functions_of(file) - kept.functions)
    yield from (f"key {key}" for key in kept.gone)
    if kept.saver is not None and not kept.saves:
        yield "saver"
    yield from (f"{place} {beside}" for place, beside in _places(held) if not {place, beside} <= kept.nodes)
    for entry in held.meta.collection_def:
        for owner, stays in _entries(entry, held, kept.nodes):
            if not stays:
                yield owner
    for item in held.meta.signature_def:
        if not signature_stays(item, kept.nodes):
            yield f"signature {item.key}"


def functions_of(file: GraphFile) -> set[str]:
    """Return the functions that a graph has, or has gradients for."""
    return {entry.name for item in file.graph if item.kind == "library" for entry in item.inner if entry.kind}


def signature_stays(item: Any, nodes: Collection[str]) -> bool:
    """Return whether all is there that a signature names."""
    named = (*item.value.inputs, *item.value.outputs)
    return all(name in nodes for tensor in named for name in saved_closure.tensors_of(tensor.value))


def _of_collections(held: Graph) -> Iterator[Statement]:
    for entry in held.meta.collection_def:
        seen: dict[str, int] = {}
        for owner, _ in _entries(entry, held, held.nodes):
            seen[owner] = seen.get(owner, 0) + 1
        items = dict.fromkeys(seen, "")
        for item in entry.value.bytes_list.value:
            found = described(item, held)
            if found is not None:
                items[f"node {source(found.variable_name)}"] += _digest([item])
        for owner, value in items.items():
            yield f"{owner}@in {_plainly(entry.key)}", f"{seen[owner]} {value}"


def stays(entry: meta_graph_pb2.Collection, held: Graph, nodes: Collection[str]) -> list[bool]:
    """Return which of a collection's elements stay where only these nodes do; empty for one that names no nodes."""
    return [stays for _, stays in _entries(entry, held, nodes)]


def _entries(entry: meta_graph_pb2.Collection, held: Graph, nodes: Collection[str]) -> Iterator[tuple[str, bool]]:
    """Yield for each element of a collection what it is about, and whether it stays where only these nodes do."""
    kind = entry.value.WhichOneof("kind")
    if kind == "node_list":
        for text in entry.value.node_list.value:
            yield f"node {source(text)}", source(text) in nodes
    elif kind == "bytes_list":
        for item in entry.value.bytes_list.value:
            found = described(item, held)
            if found is not None:
                yield f"node {source(found.variable_name)}", source(found.variable_name) in nodes
            else:
                there = all(name in nodes for name in _mentioned(item, held))
                yield f"collection {entry.key} {_digest([item])}", there
    else:
        yield f"collection {entry.key} {_message(entry)}", True


def _mentioned(proto: bytes, held: Graph, depth: int = 0) -> Iterator[str]:
    """Yield the nodes that a message of an unknown kind names, in whatever field."""
    try:
        found = list(fields(proto, 0, len(proto)))
    except Unreadable:
        return
    for tag, begin, end in found:
        if tag & 7 == 2:
            text = proto[begin:end].decode("utf-8", "replace")
            yield from {text, source(text)} & held.nodes.keys()
            if depth < _DEPTH:
                yield from _mentioned(proto[begin:end], held, depth + 1)


def _places(held: Graph) -> Iterator[tuple[str, str]]:
    """Yield each node beside which another is to lie, and that other one."""
    for name, node in held.nodes.items():
        for attr in node.attr:
            for place in attr.value.list.s if attr.key == _PLACES else ():
                yield place.decode("utf-8", "replace").removeprefix("loc:@"), name


class _Saver:
    """The Saver of a MetaGraphDef: what its operations do for each key, whatever other keys there are."""

    def __init__(self, held: Graph) -> None:
        self.held = held
        saver = held.meta.saver_def
        ends = (saver.save_tensor_name, saver.restore_op_name, saver.filename_tensor_name)
        self.ends = [source(name) for name in ends if name and source(name) in held.nodes]
        self.restoring = held.ancestors({source(saver.restore_op_name)} & held.nodes.keys())
        every = held.ancestors(self.ends)
        self.files = [
            held.nodes[name] for name in every if held.nodes[name].op in RESTORES or held.nodes[name].op in SAVES
        ]
        constants = {source(text) for node in self.files for text in node.input[1:3]}
        self.names = {name for name in constants if held.nodes[name].op == "Const"} | {node.name for node in self.files}
        self.told = {node.name: self._lists(node) for node in self.files if node.op in RESTORES}

    def _lists(self, node: meta_graph_pb2.Node) -> list[tuple[str, ...]]:
        """Return the keys that an operation restores or saves, with what else it is told of each."""
        columns = []
        for text in node.input[1:3]:
            constant = self.held.nodes[source(text)]
            tensor = next((attr.value.tensor for attr in constant.attr if attr.key == "value"), None)
            try:
                found = meta_graph.strings(tensor) if tensor is not None else []
            except Unsupported:
                found = []
            columns.append([item.decode("utf-8", "backslashreplace") for item in found])
        types = [str(number) for attr in node.attr if attr.key in ("dtypes", "T") for number in attr.value.list.type]
        if len(columns) < 2 or not len(columns[0]) == len(columns[1]) == len(types):
            return []  # of the first format: it stays as it is
        return list(zip(*columns, types, strict=True))

    def plainly(self, node: meta_graph_pb2.Node) -> meta_graph_pb2.Node:
        """Return a node without numbers of outputs that differ with the other keys, and what a group waits for."""
        group = node.op == "NoOp" and node.name in self.restoring
        if not group and self.told.keys().isdisjoint(map(source, node.input)):
            return node
        made = meta_graph_pb2.Node()
        made.CopyFrom(node)
        del made.input[:]
        for text in node.input if not group else ():
            name, number = meta_graph.output(text)
            lists = self.told.get(name, [])
            made.input.append(f"{name} {lists[number]}" if number < len(lists) else text)
        return made

    def statements(self) -> Iterator[Statement]:
        """Yield what is restored and saved, and all that restoring waits for."""
        if self.ends:
            yield "saver@definition", _message(self.held.meta.saver_def)
        groups = [node for name in self.restoring if (node := self.held.nodes[name]).op == "NoOp"]
        for name in {source(text) for node in groups for text in node.input} - {node.name for node in groups}:
            yield f"node {name}@restored", ""
        for node in self.files:
            lists = self._lists(node)
            first = SAVES.get(node.op, 0)
            bare = meta_graph_pb2.Node()
            bare.CopyFrom(node)
            if lists:
                del bare.input[first or 3 :]
                del bare.attr[:]
            yield f"saver@node {_plainly(node.name)}", _message(bare)
            values = [text for text in node.input if not text.startswith("^")][first:] if first else []
            for number, said in enumerate(lists):
                value = values[number] if number < len(values) else ""
                yield f"key {said[0]}@{_plainly(node.name)} {_plainly(said[1])}", f"{said[2]} {value}"


def blocks(file: GraphFile) -> dict[str, bytes]:
    """Return the nodes and functions of a text as they stand there, without what says beside which they are to lie."""
    from tfstrip_core.codecs import graph_text

    with open(file.path, "rb") as stored:
        text = stored.read()
    found = {}
    for item in file.graph:
        if item.kind == "node":
            found[f"node {item.name}"] = graph_text.without_places(_of(text, item), lambda _: False).strip(b" \t\r\n,;")
        for entry in item.inner:
            if entry.kind == "function":
                found[f"function {entry.name}"] = _of(text, entry).strip(b" \t\r\n,;")
    return found


def _of(text: bytes, field: Field) -> bytes:
    return text[field.begin : field.end]


def _plainly(name: str) -> str:
    """Return a name without the sign that parts a statement from what it is about."""
    return name.replace("%", "%25").replace("@", "%40")


def _message(message: Any) -> str:
    """Return a digest of a message; of a node without where it is to lie."""
    if isinstance(message, meta_graph_pb2.Node) and any(attr.key == _PLACES for attr in message.attr):
        made = meta_graph_pb2.Node()
        made.CopyFrom(message)
        kept = [attr for attr in made.attr if attr.key != _PLACES]
        del made.attr[:]
        made.attr.extend(kept)
        message = made
    return _digest([message.SerializeToString(deterministic=True)])


def _digest(contents: Iterable[bytes]) -> str:
    from hashlib import blake2b  # loads OpenSSL, which check has no use for

    made = blake2b(digest_size=16)
    for content in contents:
        made.update(content)
    return made.hexdigest()
