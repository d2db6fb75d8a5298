"""A graph with what its outputs need and nothing else: what stays is copied as it is stored."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, TypeAlias

from tfstrip_core.codecs import graph_heads, graph_text, meta_graph
from tfstrip_core.codecs.graph_file import Bytes, Field, GraphFile
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.window import blocks
from tfstrip_core.codecs.wire import put_varint
from tfstrip_core.containers.graphs import graph_parts
from tfstrip_core.containers.graphs.graph_reach import Kept
from tfstrip_core.containers.saved.saved_closure import Graph
from tfstrip_core.containers.saved.saved_objects_write import keep

Piece: TypeAlias = "bytes | tuple[int, int]"  # new bytes, or a stretch of the source
_ATTR, _SMALL = 0x2A, 64 << 10
_PLACES = "_class"


def write(file: GraphFile, held: Graph, kept: Kept, target: str) -> None:
    """Write what is `kept` of a graph to `target`, new. Debug information, with its writer's paths, goes always."""
    with open(file.path, "rb", buffering=0) as source, open(target, "xb") as out:
        edit = _Edit(file, held, kept, source)
        pieces = edit.meta_graph() if file.form == graph_heads.META else edit.graph(file.fields)
        for piece in pieces:
            if isinstance(piece, bytes):
                out.write(piece)
            else:
                out.writelines(blocks(source, piece[0], piece[1] - piece[0]))


def _wrapped(tag: int, pieces: Sequence[Piece]) -> list[Piece]:
    size = sum(len(piece) if isinstance(piece, bytes) else piece[1] - piece[0] for piece in pieces)
    return [put_varint(tag) + put_varint(size), *pieces]


class _Edit:
    """A graph on its way to what is kept of it."""

    def __init__(self, file: GraphFile, held: Graph, kept: Kept, source: BinaryIO) -> None:
        self.file, self.held, self.kept = file, held, kept
        self.bytes = Bytes(source)
        self.text = file.form == graph_heads.TEXT
        self.edited: dict[str, meta_graph_pb2.Node] = {}
        self.saver: meta_graph_pb2.Saver | None = held.meta.saver_def
        if kept.saver is not None:
            message = meta_graph.message_of(kept.saver.proto)
            self.edited = {node.name: node for node in message.graph_def.node}
            self.saver = message.saver_def if kept.saves else None

    def meta_graph(self) -> Iterator[Piece]:
        collections = {entry.key: entry for entry in self.held.meta.collection_def}
        signatures = {item.key: item for item in self.held.meta.signature_def}
        for field in self.file.fields:
            if field.kind == "graph_def":
                yield from _wrapped(2 << 3 | 2, list(self.graph(field.inner)))
            elif field.kind == "collection_def":
                yield from self._collection(field, collections[field.name])
            elif field.kind == "signature_def":
                if graph_parts.signature_stays(signatures[field.name], self.kept.nodes):
                    yield field.begin, field.end
            elif field.kind != "saver_def" or self.saver is not None:
                yield field.begin, field.end

    def _collection(self, field: Field, entry: meta_graph_pb2.Collection) -> Iterator[Piece]:
        stays = graph_parts.stays(entry, self.held, self.kept.nodes)
        if all(stays):
            yield field.begin, field.end
        elif any(stays):
            made = meta_graph_pb2.Collection()
            made.CopyFrom(entry)
            keep(getattr(made.value, made.value.WhichOneof("kind")).value, stays)
            yield from _wrapped(4 << 3 | 2, [made.SerializeToString(deterministic=True)])

    def graph(self, fields: Iterable[Field]) -> Iterator[Piece]:
        at = 0
        for field in fields:
            if self.text:
                yield at, field.begin  # what comes before the first block
                at = field.end
            if field.kind == "node":
                yield from self._node(field)
            elif field.kind == "library":
                yield from self._library(field)
            elif field.kind != "debug_info":
                yield field.begin, field.end

    def _library(self, field: Field) -> Iterator[Piece]:
        stays = [entry for entry in field.inner if not entry.kind or entry.name in self.kept.functions]
        if len(stays) == len(field.inner):
            yield field.begin, field.end
        elif stays:
            pieces: list[Piece] = [(entry.begin, entry.end) for entry in stays]
            if self.text:
                yield field.begin, field.inner[0].begin
                yield from pieces
                yield field.inner[-1].end, field.end
            else:
                yield from _wrapped(2 << 3 | 2, pieces)

    def _node(self, field: Field) -> Iterator[Piece]:
        name = field.name
        if name not in self.kept.nodes:
            return
        node = self.held.nodes[name]
        edited = self.edited.get(name, node)
        if edited != node:
            made = meta_graph_pb2.Node()
            made.CopyFrom(edited)
            for attr in made.attr:
                if attr.key == _PLACES:
                    keep(attr.value.list.s, [self._stays(place) for place in attr.value.list.s])
            keep(made.attr, [attr.key != _PLACES or bool(attr.value.list.s) for attr in made.attr])
            yield from _wrapped(1 << 3 | 2, [made.SerializeToString(deterministic=True)])
        elif all(self._stays(place) for attr in node.attr if attr.key == _PLACES for place in attr.value.list.s):
            yield field.begin, field.end
        elif self.text:
            stays: Callable[[str], bool] = self.kept.nodes.__contains__
            yield graph_text.without_places(self.bytes.bytes(field.begin, field.end), stays)
        else:
            yield from _wrapped(1 << 3 | 2, list(self._elsewhere(field)))

    def _stays(self, place: bytes) -> bool:
        return place.removeprefix(b"loc:@").decode("utf-8", "replace") in self.kept.nodes

    def _elsewhere(self, field: Field) -> Iterator[Piece]:
        """Yield a node that lies beside none that is gone; all else of it as it is stored."""
        for tag, begin, start, end in self.bytes.fields(field.start, field.end):
            if tag == _ATTR and end - start < _SMALL:
                attr = meta_graph_pb2.Attribute.FromString(self.bytes.bytes(start, end))
                if attr.key == _PLACES:
                    keep(attr.value.list.s, [self._stays(place) for place in attr.value.list.s])
                    if attr.value.list.s:
                        yield from _wrapped(_ATTR, [attr.SerializeToString(deterministic=True)])
                    continue
            yield begin, end
