"""A GraphDef in protocol buffers' text format: read into the outline of a graph, with the places of its blocks.

What is not in our own messages is passed over, as a parser of binary messages does; a wrong word is damage.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from tfstrip_core.codecs import graph_heads
from tfstrip_core.codecs.graph_file import MAX_PARTS, VALUES, Constant, Field, GraphFile, entry_name, too_many
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.tensor_bundle import DTYPES
from tfstrip_core.errors import Refused, Unreadable, Unsupported

_MAX_DEPTH = 100  # as protocol buffers' own parser has it
_BLANKS = re.compile(rb"[ \t\r\n\v\f]+")
_KEY = re.compile(rb"[A-Za-z_]\w*")
_WORD = re.compile(rb"[-+]?[ \t]*[\w.][\w.+-]*")
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|[xX][0-9a-fA-F]{1,2}|[uU][0-9a-fA-F]+|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"a": b"\a", b"b": b"\b", b"f": b"\f", b"v": b"\v"}
_ODD_NAMES = {"float32": "FLOAT", "float64": "DOUBLE", "float16": "HALF"}
_TYPES = {f"DT_{_ODD_NAMES.get(name, name.upper())}".encode(): number for number, (name, _) in DTYPES.items()}
_TYPES |= {b"DT_INVALID": 0, b"DT_RESOURCE": 20}
_TYPES |= {name + b"_REF": number + 100 for name, number in _TYPES.items()}
_TENSOR = meta_graph_pb2.Tensor.DESCRIPTOR
_CLOSING = {b"{": b"}", b"<": b">"}


def parse(path: str, data: bytes) -> GraphFile:
    """Return the graph that a text describes; raises Unreadable and Refused as graph_file.read does."""
    text = _Text(data)
    meta = pb.MetaGraph()
    graph = meta.graph_def
    constants: dict[str, Constant] = {}
    fields = []
    for kind, begin in text.keys(b""):
        inner: list[Field] = []
        name = ""
        if kind == "node":
            node = graph.node.add()
            text.values = []
            text.block(node, 1)
            name = node.name
            if node.op == "Const":
                constants[name] = _constant(node, text.values)
        elif kind == "library":
            if graph.library.function:
                raise Refused("the graph has two libraries", "no framework writes that; do not load this file")
            inner = list(_library(text, graph.library))
        else:
            if kind == "debug_info":
                graph.debug_info = b"?"
            text.anything(None, 1)
        text.at = text.separated()
        known = kind if kind in ("node", "library", "debug_info") else ""
        fields.append(Field(known, name, begin, begin, text.at, tuple(inner)))
    return GraphFile(path, graph_heads.TEXT, meta, tuple(fields), constants)


def _library(text: _Text, library: Any) -> Iterator[Field]:
    for kind, begin in text.keys(text.open()):
        name = ""
        if kind in ("function", "gradient", "registered_gradients"):
            entry = getattr(library, kind).add()
            text.block(entry, 2)
            name = entry_name(kind, entry)
        else:
            text.anything(None, 2)
        text.at = text.separated()
        yield Field(kind if name else "", name, begin, begin, text.at)


def _constant(node: meta_graph_pb2.Node, values: list[tuple[str, int, int]]) -> Constant:
    tensors = [attr.value.tensor for attr in node.attr if attr.key == "value" and attr.value.HasField("tensor")]
    if len(tensors) != 1:
        raise Unreadable(f"the graph's constant {node.name!r} has no value", "get a good copy")
    return Constant(tensors[0].dtype, tuple(dim.size for dim in tensors[0].tensor_shape.dim), tuple(values))


def without_places(block: bytes, stays: Callable[[str], bool]) -> bytes:
    """Return the text of a node that lies only beside those nodes of which `stays` is true."""
    text, node = _Text(block), meta_graph_pb2.Node()
    text.key()
    attrs = [field for field in text.block(node, 1) if field.kind == "attr"]
    out, at = [], 0
    if len(node.attr) != len(attrs):
        raise Unsupported("the graph's text has lists of blocks", "write it again with TensorFlow")
    for attr, field in zip(node.attr, attrs, strict=True):
        if attr.key == "_class":
            kept = [
                place for place in attr.value.list.s if stays(place.removeprefix(b"loc:@").decode("utf-8", "replace"))
            ]
            if len(kept) < len(attr.value.list.s):
                places = b" ".join(b's: "%s"' % place for place in kept)
                made = b'attr { key: "_class" value { list { %s } } }' % places if kept else b""
                behind = field.end if kept else _line_end(block, _separated(block, field.end))
                out += [block[at : field.begin] if kept else _trimmed(block[at : field.begin]), made]
                at = behind
    return b"".join([*out, block[at:]])


def _trimmed(text: bytes) -> bytes:
    return text.rstrip(b" \t")


def _separated(block: bytes, at: int) -> int:
    """Return the place behind the sign that parts a field from the next one, if there is one."""
    match = re.compile(rb"[ \t\r\n]*[,;]").match(block, at)
    return match.end() if match else at


def _line_end(block: bytes, at: int) -> int:
    """Return the beginning of the next line where nothing else is on this one."""
    match = re.compile(rb"[ \t\r]*\n").match(block, at)
    return match.end() if match else at


def unescaped(stored: bytes) -> bytes:
    """Return what a text's string or strings, with their quotes, say."""
    text = _Text(stored)
    return b"".join(map(_unescaped, text.strings()))


def _unescaped(text: bytes) -> bytes:
    if b"\\" not in text:
        return text

    def one(match: re.Match[bytes]) -> bytes:
        said = match[1]
        if said[0] in b"01234567":
            return bytes((int(said, 8) & 255,))
        if said[0] in b"xX" and len(said) > 1:
            return bytes((int(said[1:], 16),))
        if said[0] in b"uU" and len(said) > 1:
            raise Unreadable("the graph has a text of an unknown kind", "write it again with TensorFlow")
        return _PLAIN.get(said, said)

    return _ESCAPE.sub(one, text)


def _repeated(message: Any, field: Any) -> bool:
    """Return whether a field has several values: how its descriptor says so differs between protobuf's versions."""
    return hasattr(getattr(message, field.name), "extend")


class _Text:
    """A text that is being read: `at` is the place, `values` are the stored values of tensors met so far."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0
        self.left = MAX_PARTS
        self.values: list[tuple[str, int, int]] = []

    def damaged(self) -> Unreadable:
        line = self.data.count(b"\n", 0, self.at) + 1
        return Unreadable(f"the graph is damaged in line {line}", "get a good copy")

    def blanks(self) -> None:
        sign = self.data[self.at : self.at + 1]
        if sign > b" " and sign != b"#":
            return
        while True:
            match = _BLANKS.match(self.data, self.at)
            if match:
                self.at = match.end()
            if not self.data.startswith(b"#", self.at):
                return
            end = self.data.find(b"\n", self.at)
            self.at = len(self.data) if end < 0 else end

    def take(self, *words: bytes) -> bytes:
        """Pass over one of these signs, and return it; b"" where none of them is next."""
        self.blanks()
        sign = self.data[self.at : self.at + 1]
        if sign and sign in words:
            self.at += 1
            return sign
        return b""

    def key(self) -> bytes:
        self.blanks()
        match = _KEY.match(self.data, self.at)
        if not match:
            raise self.damaged()
        self.left -= 1
        if self.left < 0:
            raise too_many()
        self.at = match.end()
        return match[0]

    def open(self) -> bytes:
        """Pass over the beginning of a block, and return the sign that ends it."""
        self.take(b":")
        sign = self.take(b"{", b"<")
        if not sign:
            raise self.damaged()
        return _CLOSING[sign]

    def keys(self, closing: bytes) -> Iterator[tuple[str, int]]:
        """Yield the keys of a block up to the sign that ends it, each with its place; the caller passes over values."""
        while True:
            if closing and self.take(closing):
                return
            self.blanks()
            if self.at == len(self.data) and not closing:
                return
            begin = self.at
            yield self.key().decode(), begin

    def separated(self) -> int:
        """Return the place behind a value, and the sign that may part it from the next one."""
        self.take(b",", b";")
        return self.at

    def block(self, message: Any, depth: int) -> list[Field]:
        """Read a block into a message, None to pass over it; return its entries."""
        if depth > _MAX_DEPTH:
            raise Refused(f"the graph is nested over {_MAX_DEPTH} deep", "no model is; do not load this file")
        known = message.DESCRIPTOR.fields_by_name if message is not None else {}
        tensor = message is not None and message.DESCRIPTOR is _TENSOR
        entries, seen = [], set()
        for key, begin in self.keys(self.open()):
            field = known.get(key)
            if field is not None and not _repeated(message, field):
                if key in seen:
                    raise self.damaged()
                seen.add(key)
            self.anything((message, field) if field is not None else None, depth + 1, key if tensor else "")
            entries.append(Field(key, "", begin, begin, self.at))
            self.at = self.separated()
        return entries

    def anything(self, into: tuple[Any, Any] | None, depth: int, key: str = "") -> None:
        """Read a value: a block, a scalar, or a list of either."""
        self.take(b":")
        if not self.take(b"["):
            self._one(into, depth, key)
            return
        while not self.take(b"]"):
            self._one(into, depth, key)
            self.left -= 1
            if self.left < 0:
                raise too_many()
            if not self.take(b",") and self.data[self.at : self.at + 1] != b"]":
                raise self.damaged()

    def _one(self, into: tuple[Any, Any] | None, depth: int, key: str) -> None:
        self.blanks()
        sign, begin = self.data[self.at : self.at + 1], self.at
        if sign in (b"{", b"<"):
            inner = None
            if into is not None:
                message, field = into
                if not field.message_type:
                    raise self.damaged()
                inner = getattr(message, field.name)
                if _repeated(message, field):
                    inner = inner.add()
                else:
                    inner.SetInParent()
            self.block(inner, depth)
            return
        if sign in (b'"', b"'"):
            stored = list(self.strings())
            value: Any = b"".join(map(_unescaped, stored)) if into is not None else b""
        else:
            match = _WORD.match(self.data, self.at)
            if not match:
                raise self.damaged()
            self.at, value = match.end(), match[0]
        if key in VALUES:
            self.values.append((key, begin, self.at))
        if into is not None:
            self._set(*into, value, text=sign in (b'"', b"'"))

    def strings(self) -> Iterator[bytes]:
        """Yield the strings that follow each other, without quotes."""
        self.blanks()
        while self.data[self.at : self.at + 1] in (b'"', b"'"):
            quote, begin = self.data[self.at : self.at + 1], self.at + 1
            end = self.data.find(quote, begin)
            while end >= 0 and self._escaped(begin, end):
                end = self.data.find(quote, end + 1)
            if end < 0:
                raise self.damaged()
            yield self.data[begin:end]
            self.at = end + 1
            self.left -= 1
            if self.left < 0:
                raise too_many()
            behind = self.at
            self.blanks()
            if self.data[self.at : self.at + 1] not in (b'"', b"'"):
                self.at = behind

    def _escaped(self, begin: int, end: int) -> bool:
        """Return whether the sign at `end` is behind an odd number of backslashes."""
        at = end
        while at > begin and self.data[at - 1] == 0x5C:
            at -= 1
        return (end - at) % 2 == 1

    def _set(self, message: Any, field: Any, value: bytes, *, text: bool) -> None:
        kinds = (field.TYPE_STRING, field.TYPE_BYTES)
        if text != (field.type in kinds) or field.message_type:
            raise self.damaged()
        try:
            if field.type == field.TYPE_STRING:
                made: Any = value.decode()
            elif field.type == field.TYPE_BYTES:
                made = value
            elif field.type == field.TYPE_BOOL:
                made = {b"true": True, b"t": True, b"1": True}.get(value, False)
            else:
                made = _TYPES[value] if value in _TYPES else int(value.replace(b" ", b""), 0)
            if _repeated(message, field):
                getattr(message, field.name).append(made)
            else:
                setattr(message, field.name, made)
        except (ValueError, UnicodeDecodeError):
            raise self.damaged() from None
