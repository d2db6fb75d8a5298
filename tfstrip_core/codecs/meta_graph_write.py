"""A .meta file whose Saver neither asks for nor saves keys that a checkpoint no longer has.

What changes: the Saver that saver_def names loses the keys, in the constants and in the operations; what assigned them
goes; the collections lose their variables, so that a new Saver over all variables fits the checkpoint too. What stays:
the variables' own nodes, their initializers and the training operations that use them. Nothing of inference depends on
them, the operation that initializes all variables goes on working, and whoever trains on starts with a fresh optimizer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

from tfstrip_core.codecs import meta_graph
from tfstrip_core.codecs.meta_graph import ASSIGNS, SAVES, MetaGraph
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.errors import Unsupported

_TYPES = {"SaveV2": "dtypes", "SaveSlices": "T", "RestoreV2": "dtypes"}
_ON_THE_WAY = frozenset({"Identity", "Reshape"})


def without(graph: MetaGraph, gone: Collection[str]) -> bytes:
    """Return the graph, serialized, whose Saver leaves out the keys `gone`; all else as it was, unknown fields too.

    The same call gives the same bytes; where the Saver has none of the keys, they are those that were read. Raises
    Unsupported where it is not certain what the Saver does: the .meta file is to be left out then.
    """
    keys = frozenset(key.encode("utf-8", "surrogateescape") for key in gone)
    edit = _Edit(graph)
    restores, saves = edit.saver()
    changed = [edit.drop(name, keys) for name in (*restores, *saves)]
    if not any(changed):
        return graph.proto
    edit.remove_assigns()
    edit.clean_collections()
    result = bytes(edit.message.SerializeToString(deterministic=True))
    again = _Edit(meta_graph.parse(result))
    if any(keys & set(again.keys(name)) for names in again.saver() for name in names):
        raise _unsure("names a removed tensor in two ways")
    return result


def _unsure(what: str) -> Unsupported:
    return Unsupported(f"the graph's Saver {what}", "leave its .meta file out")


class _Edit:
    """A copy of a graph's message that is being changed."""

    def __init__(self, graph: MetaGraph) -> None:
        self.graph = graph
        self.message = meta_graph.message_of(graph.proto)
        self.nodes = {node.name: node for node in self.message.graph_def.node}
        self.readers = meta_graph.consumers(graph)
        self.removed: dict[str, str] = {}  # what assigned a dropped key -> the variable
        self.filtered: dict[str, str] = {}  # an edited constant -> the operation that it was edited for

    def saver(self) -> tuple[list[str], list[str]]:
        """Return the operations that the Saver restores and saves with."""
        saver = self.message.saver_def
        start = saver.restore_op_name
        tensor, _ = meta_graph.output(saver.save_tensor_name)
        if start not in self.nodes or tensor not in self.nodes:
            raise _unsure("is not in the graph")
        restores = [name for name in self._ancestors(start) if self.nodes[name].op in meta_graph.RESTORES]
        saves = [name for name in self._ancestors(tensor) if self.nodes[name].op in SAVES]
        if not restores or not saves:
            raise _unsure("does not restore or save in a known way")
        if any(self.nodes[name].op not in _TYPES for name in restores + saves):
            raise _unsure("is of TensorFlow's first versions")
        return restores, saves

    def _ancestors(self, start: str) -> list[str]:
        """Return `start` and the nodes that it depends on, as far as the operations that read and write files."""
        found = {start: True}
        todo = [start]
        while todo:
            name = todo.pop()
            node = self.graph.nodes[name]
            if name != start and (node.op in meta_graph.RESTORES or node.op in SAVES):
                continue
            for source in (*(source for source, _ in node.inputs), *node.controls):
                if source not in found and source in self.graph.nodes:
                    found[source] = True
                    todo.append(source)
        return sorted(found)

    def keys(self, name: str) -> list[bytes]:
        """Return the keys that an operation of the Saver restores or saves."""
        return meta_graph.strings(self._constant(name, 1))

    def _constant(self, name: str, place: int) -> Any:
        """Return the constant at input number `place` of a node, as a message."""
        inputs = self.graph.nodes[name].inputs
        constant = self.nodes.get(inputs[place][0]) if len(inputs) > place else None
        if constant is None or constant.op != "Const":
            raise _unsure("has names that are no constants")
        for attr in constant.attr:
            if attr.key == "value":
                return attr.value.tensor
        raise _unsure("has names without a value")

    def drop(self, name: str, gone: frozenset[bytes]) -> bool:
        """Leave the keys `gone` out of one operation; return whether it had any."""
        stored = self.keys(name)
        kept = [number for number, key in enumerate(stored) if key not in gone]
        if len(kept) == len(stored):
            return False
        if not kept:
            raise _unsure("would have nothing left to do in one of its operations")
        node = self.nodes[name]
        types = [attr for attr in node.attr if attr.key == _TYPES[node.op]]
        slices = meta_graph.strings(self._constant(name, 2))
        if len(types) != 1 or not len(types[0].value.list.type) == len(slices) == len(stored):
            raise _unsure("has other numbers of names and of tensors")
        _refill(types[0].value.list.type, kept)
        for place, values in ((1, stored), (2, slices)):
            self._filter(name, place, [values[number] for number in kept])
        _forget_shapes(node)
        if node.op in SAVES:
            self._drop_inputs(name, kept, len(stored))
        else:
            self._renumber(name, kept)
        return True

    def _filter(self, name: str, place: int, values: Sequence[bytes]) -> None:
        constant = self.graph.nodes[name].inputs[place][0]
        if len(self.readers[constant]) > 1 or constant in self.filtered:
            raise _unsure("shares its names with another operation")
        self.filtered[constant] = name
        tensor = self._constant(name, place)
        del tensor.string_val[:]
        tensor.string_val.extend(values)
        tensor.tensor_shape.dim[0].size = len(values)
        _forget_shapes(self.nodes[constant])

    def _drop_inputs(self, name: str, kept: Sequence[int], count: int) -> None:
        node = self.nodes[name]
        data = [text for text in node.input if not text.startswith("^")]
        rest = [text for text in node.input if text.startswith("^")]
        first = SAVES[node.op]
        if len(data) != first + count:
            raise _unsure("has other numbers of names and of tensors")
        del node.input[:]
        node.input.extend([*data[:first], *(data[first + number] for number in kept), *rest])

    def _renumber(self, name: str, kept: Sequence[int]) -> None:
        """Point what reads an operation's outputs to their new numbers, and note what read the dropped ones."""
        new = {old: at for at, old in enumerate(kept)}
        for reader, number in self.readers.get(name, ()):
            if number not in new:
                self._remove(reader)
        for reader in {reader for reader, _ in self.readers.get(name, ())} - set(self.removed):
            inputs = self.nodes[reader].input
            for at, text in enumerate(inputs):
                source, number = meta_graph.output(text)
                if source == name and not text.startswith("^"):
                    inputs[at] = f"{name}:{new[number]}" if new[number] else name

    def _remove(self, name: str) -> None:
        """Note a node that a dropped key flows into, and all that it flows on to, for removal."""
        todo = [name]
        while todo:
            node = self.graph.nodes[todo.pop()]
            if node.name in self.removed:
                continue
            variable = self.graph.variable(node.inputs[0][0]) if node.op in ASSIGNS else ""
            if node.op in ASSIGNS and (not variable or self.readers.get(node.name)):
                raise _unsure("does something unknown with a removed tensor")
            if node.op not in ASSIGNS and node.op not in _ON_THE_WAY:
                raise _unsure("does something unknown with a removed tensor")
            self.removed[node.name] = variable
            todo += [reader for reader, _ in self.readers.get(node.name, ())]

    def remove_assigns(self) -> None:
        """Take the noted nodes out of the graph, with the control edges and the colocations that name them."""
        names = self.removed
        # A tensor that flows into one of them and comes from a node that is no Saver's (a shape) stays where it is.
        graph = self.message.graph_def
        _keep(graph.node, [node.name not in names for node in graph.node])
        for node in graph.node:
            _keep(node.input, [not (text.startswith("^") and text[1:] in names) for text in node.input])
            for attr in node.attr:
                if attr.key == "_class":
                    places = attr.value.list.s
                    _keep(
                        places,
                        [place.removeprefix(b"loc:@").decode("utf-8", "replace") not in names for place in places],
                    )

    def clean_collections(self) -> None:
        """Drop the variables that are no longer restored from the collections, and the removed nodes' names."""
        kept = {variable for name, variable in self._assigned() if name not in self.removed}
        variables = set(self.removed.values()) - kept - {""}
        collections = self.message.collection_def
        for entry in collections:
            kind = entry.value.WhichOneof("kind")
            if kind == "node_list":
                names = entry.value.node_list.value
                _keep(names, [meta_graph.output(name)[0] not in self.removed for name in names])
            elif kind == "bytes_list":
                items = entry.value.bytes_list.value
                found = [meta_graph.variable_of(item) for item in items]
                _keep(items, [item is None or item.node not in variables for item in found])
        before = meta_graph.message_of(self.graph.proto).collection_def
        full = [_size(entry) for entry in before]
        _keep(collections, [bool(_size(entry)) or not size for entry, size in zip(collections, full, strict=True)])

    def _assigned(self) -> Iterable[tuple[str, str]]:
        """Yield the nodes that the Saver assigns variables with, each with its variable."""
        for name in self._ancestors(self.message.saver_def.restore_op_name) if self.removed else ():
            node = self.graph.nodes[name]
            if node.op in ASSIGNS and node.inputs:
                yield name, self.graph.variable(node.inputs[0][0])


def _size(entry: Any) -> int:
    """Return the number of elements of a collection; 0 for kinds that are left alone."""
    kind = entry.value.WhichOneof("kind")
    return len(getattr(entry.value, kind).value) if kind else 0


def _keep(items: Any, wanted: Sequence[bool]) -> None:
    if not all(wanted):
        _refill(items, [number for number, stays in enumerate(wanted) if stays])


def _refill(items: Any, numbers: Sequence[int]) -> None:
    """Leave the items of these numbers, in place: what stays keeps its unknown fields."""
    kept = [items[number] for number in numbers]
    del items[:]
    items.extend(kept)


def _forget_shapes(node: meta_graph_pb2.Node) -> None:
    """Drop what an exporter noted of a node's output shapes: they are others now, and TensorFlow infers them."""
    _keep(node.attr, [attr.key != "_output_shapes" for attr in node.attr])
