"""Graphs in files of their own, GraphDefs, binary or as text, and MetaGraphDefs (.meta), and where in the file what is.

What is read is an outline: nodes with their attributes, but of constants only what they say of themselves. Their
contents, which may be all weights of a model, stay in the file, where their places are known.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from google.protobuf.message import DecodeError

from tfstrip_core.codecs import graph_heads
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.tensor_bundle import STRING
from tfstrip_core.codecs.wire import check_parts, varint
from tfstrip_core.errors import Refused, Unreadable, Unsupported

MAX_BYTES = (1 << 31) - 1  # protocol buffers have no larger messages
MAX_TEXT = 256 << 20
MAX_PARTS = 2_000_000  # nodes, their inputs and attributes together
_SMALL = 64 << 10  # a node of so many bytes is parsed whole
_BLOCK = 256 << 10
_LENGTH = 2  # the wire type of what has a length


@dataclass(frozen=True, slots=True)
class Field:
    """A field of the file: `begin` to `end` with its own mark, from `start` on its content, of which `inner` are parts.

    `kind` is the field's name, "" for one that is carried along as it is; `name` that of a node, function or entry.
    """

    kind: str
    name: str
    begin: int
    start: int
    end: int
    inner: tuple[Field, ...] = ()


@dataclass(frozen=True, slots=True)
class Constant:
    """The value of a constant: TensorFlow's number of its type, its shape, and where what is stored of it lies.

    `values` are (field, begin, end): TensorProto's name of the field, and a stretch of the file.
    """

    dtype: int
    shape: tuple[int, ...]
    values: tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class GraphFile:
    """A graph: `meta` is its outline, `fields` are the file's, `constants` those of the main graph, by their nodes.

    `large` says where the attributes lie that the outline lacks, by their nodes.
    """

    path: str
    form: str
    meta: pb.MetaGraph = field(repr=False)
    fields: tuple[Field, ...] = field(repr=False)
    constants: Mapping[str, Constant] = field(repr=False)
    large: Mapping[str, tuple[int, int]] = field(repr=False, default_factory=dict)

    @property
    def graph(self) -> tuple[Field, ...]:
        """The fields of the graph itself."""
        if self.form != graph_heads.META:
            return self.fields
        return next((item.inner for item in self.fields if item.kind == "graph_def"), ())


def read(path: str) -> GraphFile:
    """Return the graph in the file at `path`. Raises OSError where it cannot be read.

    Raises Unreadable where it is damaged or names what it does not have, Unsupported for more text than can be handled,
    and Refused where it has more parts than any model, or two of one name.
    """
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise Refused(f"the graph is {size:,} bytes", "no framework reads that much; do not load this file")
        form = graph_heads.form(file.read(graph_heads.HEAD), lambda at: _at(file, at))
        if form == graph_heads.TEXT:
            if size > MAX_TEXT:
                raise Unsupported(f"the graph is {size:,} bytes of text", "write it as binary, and strip that")
            from tfstrip_core.codecs import graph_text

            file.seek(0)
            found = graph_text.parse(path, file.read(MAX_TEXT) if size else b"")
        else:
            found = _Reader(path, form, file, size).result()
    _check(found.meta)
    return found


def _at(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(graph_heads.HEAD)


def damaged() -> Unreadable:
    """Return the error for bytes that are no graph."""
    hint = "get a good copy (git may have changed its line ends: mark it as binary in .gitattributes)"
    return Unreadable("the graph is damaged", hint)


def too_many() -> Refused:
    """Return the error for a graph with more parts than any."""
    return Refused(f"the graph has over {MAX_PARTS:,} parts", "no model has that many; do not load this file")


class Bytes:
    """The bytes of a file and the fields of the messages in it, read in blocks; `left` is how many there may be."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.block, self.offset = b"", 0
        self.left = MAX_PARTS

    def bytes(self, begin: int, end: int) -> bytes:
        """Return a stretch of the file."""
        if not self.offset <= begin <= end <= self.offset + len(self.block):
            self.file.seek(begin)
            self.block, self.offset = self.file.read(max(_BLOCK, end - begin)), begin
            if len(self.block) < end - begin:
                raise Unreadable("the graph is cut off", "get a complete copy")
        return self.block[begin - self.offset : end - self.offset]

    def fields(self, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield of each field of the message in at..end its mark, where it begins, its content begins and ends."""
        while at < end:
            self.left -= 1
            if self.left < 0:
                raise too_many()
            head = self.bytes(at, min(at + 20, end))
            tag, behind = (head[0], 1) if head[0] < 0x80 else varint(head, 0)
            start = stop = at + behind
            kind = tag & 7
            if kind == _LENGTH:
                size, behind = varint(head, behind)
                start = at + behind
                stop = start + size
            elif kind == 0:
                stop = at + varint(head, behind)[1]
            elif kind in (1, 5):
                stop += 8 if kind == 1 else 4
            else:
                raise damaged()
            if stop > end:
                raise Unreadable("the graph is cut off", "get a complete copy")
            yield tag, at, start, stop
            at = stop


class _Reader(Bytes):
    """A binary graph, read field by field."""

    def __init__(self, path: str, form: str, file: BinaryIO, size: int) -> None:
        super().__init__(file)
        self.path, self.form, self.size = path, form, size
        self.meta = pb.MetaGraph()
        self.constants: dict[str, Constant] = {}
        self.large: dict[str, tuple[int, int]] = {}

    def result(self) -> GraphFile:
        fields = tuple(self._meta_graph()) if self.form == graph_heads.META else tuple(self._graph(0, self.size))
        return GraphFile(self.path, self.form or graph_heads.BINARY, self.meta, fields, self.constants, self.large)

    def _meta_graph(self) -> Iterator[Field]:
        names = {item.number << 3 | _LENGTH: name for name, item in pb.MetaGraph.DESCRIPTOR.fields_by_name.items()}
        for tag, begin, start, end in self.fields(0, self.size):
            kind = names.get(tag, "")
            if kind == "graph_def":
                if self.meta.graph_def.node:
                    raise Refused("the file has two graphs", "no framework writes that; do not load this file")
                yield Field(kind, "", begin, start, end, tuple(self._graph(start, end)))
                continue
            if end - begin > MAX_TEXT:
                raise Refused("the graph has more to say of itself than any", "do not load this file")
            content = self.bytes(begin, end)
            check_parts(content, pb.MetaGraph.DESCRIPTOR, MAX_PARTS, "the graph")
            if kind in ("collection_def", "signature_def"):
                entry = getattr(self.meta, kind).add()
                _merge(entry, content[start - begin :])
                yield Field(kind, entry.key, begin, start, end)
            else:
                _merge(self.meta, content)
                yield Field(kind, "", begin, start, end)

    def _graph(self, at: int, stop: int) -> Iterator[Field]:
        graph = self.meta.graph_def
        for tag, begin, start, end in self.fields(at, stop):
            if tag == 0x0A:
                yield Field("node", self._node(start, end), begin, start, end)
            elif tag == 0x12:
                if graph.library.function or graph.library.gradient:
                    raise Refused("the graph has two libraries", "no framework writes that; do not load this file")
                yield Field("library", "", begin, start, end, tuple(self._library(start, end)))
            elif tag == 0x2A:
                graph.debug_info = b"?"
                yield Field("debug_info", "", begin, start, end)
            else:
                yield Field("", "", begin, start, end)

    def _node(self, start: int, end: int) -> str:
        node = self.meta.graph_def.node.add()
        if end - start <= _SMALL:
            _merge(node, self.bytes(start, end))
            self.left -= len(node.input) + 2 * len(node.attr)
            if self.left < 0:
                raise too_many()
        else:
            self._large_node(node, start, end)
        if node.op == "Const":
            self._constant(node.name, start, end)
        return str(node.name)

    def _large_node(self, node: meta_graph_pb2.Node, start: int, end: int) -> None:
        """Read a node without the contents of its tensor, if that is of numbers."""
        stretches: list[tuple[int, int]] = []
        numbers = (0, 0)
        for tag, begin, inner, stop in self.fields(start, end):
            if tag == 0x2A and numbers == (0, 0) and self._numbers(inner, stop):  # a second one is refused later
                numbers = (begin, stop)
            elif stretches and stretches[-1][1] == begin:
                stretches[-1] = (stretches[-1][0], stop)
            else:
                stretches.append((begin, stop))
        for begin, stop in stretches:
            content = self.bytes(begin, stop)
            check_parts(content, node.DESCRIPTOR, MAX_PARTS, "a node of the graph")
            _merge(node, content)
        if numbers != (0, 0):
            self.large[node.name] = numbers
            node.attr.add(key="value").value.tensor.dtype = 0

    def _numbers(self, start: int, end: int) -> bool:
        """Return whether an attribute is a tensor of numbers, and large."""
        tensors = self._tensors(start, end) if end - start > _SMALL else []
        return bool(tensors) and self._described(*tensors[0])[0] != STRING

    def _tensors(self, start: int, end: int) -> list[tuple[int, int]]:
        """Return where the tensor lies that is the value of an attribute called `value`."""
        key, found = b"", []
        for tag, _, begin, stop in self.fields(start, end):
            if tag == 0x0A and stop - begin < _SMALL:
                key = self.bytes(begin, stop)
            elif tag == 0x12:
                found += [(at, to) for mark, _, at, to in self.fields(begin, stop) if mark == 0x42]
        return found if key == b"value" else []

    def _described(self, start: int, end: int) -> tuple[int, bytes, tuple[tuple[str, int, int], ...]]:
        """Return type, serialized shape and stored values of the tensor in start..end."""
        dtype, shape, values = 0, b"", []
        for tag, _, at, stop in self.fields(start, end):
            if tag == 0x08:
                dtype = varint(self.bytes(at, stop), 0)[0]
            elif tag == 0x12 and stop - at < _SMALL:
                shape = self.bytes(at, stop)
            elif tag >> 3 in _VALUES:
                values.append((_VALUES[tag >> 3], at, stop))
        return dtype, shape, tuple(values)

    def _constant(self, name: str, start: int, end: int) -> None:
        tensors = [
            found for tag, _, at, stop in self.fields(start, end) if tag == 0x2A for found in self._tensors(at, stop)
        ]
        if len(tensors) != 1:
            raise Unreadable(f"the graph's constant {name!r} has no value", "get a good copy")
        dtype, shape, values = self._described(*tensors[0])
        message = meta_graph_pb2.Shape()
        _merge(message, shape)
        self.constants[name] = Constant(dtype, tuple(dim.size for dim in message.dim), values)

    def _library(self, at: int, stop: int) -> Iterator[Field]:
        if stop - at > MAX_TEXT:
            raise Unsupported("the graph has functions of over 256 MiB", "freeze it without functions")
        library = self.meta.graph_def.library
        content = self.bytes(at, stop)
        check_parts(content, library.DESCRIPTOR, MAX_PARTS, "the graph")
        _merge(library, content)
        counts = dict.fromkeys(_LIBRARY.values(), 0)
        for tag, begin, start, end in self.fields(at, stop):
            kind = _LIBRARY.get(tag, "")
            name = ""
            if kind:
                name = entry_name(kind, getattr(library, kind)[counts[kind]])
                counts[kind] += 1
            yield Field(kind, name, begin, start, end)


_LIBRARY = {0x0A: "function", 0x12: "gradient", 0x1A: "registered_gradients"}
_VALUES = {
    4: "tensor_content", 5: "float_val", 6: "double_val", 7: "int_val", 8: "string_val", 9: "scomplex_val",
    10: "int64_val", 11: "bool_val", 12: "dcomplex_val", 13: "half_val", 14: "resource_handle_val", 15: "variant_val",
    16: "uint32_val", 17: "uint64_val", 18: "float8_val",
}  # fmt: skip
VALUES = frozenset(_VALUES.values())


def entry_name(kind: str, entry: Any) -> str:
    """Return the function that an entry of a graph's library is of: for gradients the one that is called for them."""
    if kind == "function":
        return str(entry.signature.name)
    return str(entry.function_name if kind == "gradient" else entry.gradient_func)


def _merge(message: Any, content: bytes) -> None:
    try:
        message.MergeFromString(content)
    except DecodeError:
        raise damaged() from None


def _check(meta: pb.MetaGraph) -> None:
    """Raise Refused where two things have one name: of two readers, one takes the first."""
    if not meta.graph_def.node:
        raise Unreadable("the graph has no nodes", "get a good copy")
    functions = meta.graph_def.library.function
    _unique((node.name for node in meta.graph_def.node), "nodes")
    _unique((function.signature.name for function in functions), "functions")
    _unique((entry.key for entry in meta.collection_def), "collections")
    _unique((item.key for item in meta.signature_def), "signatures")
    for function in functions:
        _unique((node.name for node in function.node_def), "nodes of a function")
    for nodes in (meta.graph_def.node, *(function.node_def for function in functions)):
        for node in nodes:
            if len({attr.key for attr in node.attr}) < len(node.attr):
                raise _lie(f"the node {node.name!r} two attributes of one name")


def _unique(names: Iterable[str], what: str) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen or not name:
            raise _lie(f"two {what} the name {name!r}")
        seen.add(name)


def _lie(what: str) -> Refused:
    return Refused(f"the graph gives {what}", "no framework writes that; do not load this file")
