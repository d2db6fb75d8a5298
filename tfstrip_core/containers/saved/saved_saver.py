"""Which variable of a SavedModel's graph has which tensor of its checkpoint, and a fresh saver that says just that.

Nothing of the traced functions that saved and restored the original is edited. What a handle in the graph restores is
derived from the objects that the functions are bound to, and again from the old saver's own operations; where both
speak of a handle, they must agree. The new saver is a handful of plain operations, which every loader runs alike.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass

from tfstrip_core.codecs import meta_graph
from tfstrip_core.codecs.tensor_bundle import Entry
from tfstrip_core.containers.saved.saved_closure import Graph, Node
from tfstrip_core.errors import Refused, Unreadable, Unsupported

CALLS = frozenset({"StatefulPartitionedCall", "PartitionedCall"})
MUTABLE_TABLES = frozenset({"MutableHashTableV2", "MutableHashTableOfTensorsV2", "MutableDenseHashTableV2"})
_IMPORT = "LookupTableImportV2"
_PASSING = frozenset({"Identity", "Reshape", "ReadVariableOp", "DisableCopyOnRead", "RefIdentity"})
_SAVES = frozenset({"SaveV2", "SaveSlices"})
_DEPTH = 8
_STEPS = 2_000_000

# A node's output, followed to where it comes from: ("node", its name, "") or ("saved", key, slice).
Value = tuple[str, str, str]
# What a handle restores: keys (a table has two) and the slice of a partitioned variable.
Restores = tuple[tuple[str, ...], str]


@dataclass(frozen=True, slots=True)
class Handle:
    """A variable or table in the graph: `node`, TensorFlow's type numbers, what it restores."""

    node: str
    op: str
    types: tuple[int, ...]
    keys: tuple[str, ...]
    cut: str = ""


@dataclass(frozen=True, slots=True)
class Bindings:
    """What was derived of the handles in a graph, in the order of their names.

    `duplicates` are keys that the old saver restores into a handle whose object has another key, which is kept: old
    key -> kept key. `broken` are the handles that the old saver never restores.
    """

    handles: tuple[Handle, ...]
    duplicates: Mapping[str, str]
    broken: tuple[str, ...]


def _lie(what: str) -> Refused:
    return Refused(f"the SavedModel {what}", "nothing is certain about its variables; strip what it was exported from")


class _Tracer:
    """The graph with what flows where."""

    def __init__(self, held: Graph) -> None:
        self.held = held
        self.bodies: dict[str, dict[str, Node]] = {}
        self.steps = 0
        self.telling = _telling(held)
        self.constants: dict[tuple[str, str], tuple[str, ...]] = {}

    def identity(self, name: str) -> tuple[str, str]:
        """Return what tells a variable or table from others: its container and shared name."""
        attrs = {item.key: item.value.s.decode("utf-8", "replace") for item in self.held.nodes[name].attr}
        shared = attrs.get("shared_name", "")
        # An anonymous resource is of its node alone.
        return attrs.get("container", ""), shared or name

    def body(self, function: str) -> dict[str, Node]:
        if function not in self.bodies:
            self.bodies[function] = {node.name: node for node in self.held.functions[function].node_def}
        return self.bodies[function]

    def value(self, text: str, scope: str, given: Mapping[str, Value]) -> Value | None:
        """Return where the output that an input names comes from; `scope` is a function, "" the main graph."""
        nodes = self.body(scope) if scope else self.held.nodes
        for _ in range(64):
            name, number = _of_function(text) if scope else meta_graph.output(text)
            if scope and name in given:
                return given[name]
            node = nodes.get(name)
            if node is None:
                return None
            if node.op in _PASSING and node.input:
                text = node.input[0]
                continue
            if node.op == "RestoreV2":
                keys, cuts = self.names(node, 1, scope), self.names(node, 2, scope)
                return ("saved", keys[number], cuts[number]) if number < min(len(keys), len(cuts)) else None
            return ("node", name, "") if not scope else None
        return None

    def names(self, node: Node, place: int, scope: str) -> tuple[str, ...]:
        """Return the strings of the constant at an input of a node."""
        if len(node.input) <= place:
            return ()
        name = node.input[place].partition(":")[0]
        if (scope, name) not in self.constants:
            constant = (self.body(scope) if scope else self.held.nodes).get(name)
            found = [item.value.tensor for item in constant.attr if item.key == "value"] if constant else []
            values = meta_graph.strings(found[0]) if found else []
            self.constants[scope, name] = tuple(text.decode("utf-8", "surrogateescape") for text in values)
        return self.constants[scope, name]

    def reaching(self, name: str) -> frozenset[str]:
        return self.held.ancestors([meta_graph.output(name)[0]])

    def walk(
        self, nodes: Iterable[Node], scope: str, given: Mapping[str, Value], depth: int = 0
    ) -> Iterator[tuple[Node, str, Mapping[str, Value]]]:
        """Yield the nodes with those of the functions that they call, each with what its function is given."""
        if depth > _DEPTH:
            return
        for node in nodes:
            self.steps += 1
            if self.steps > _STEPS:
                raise _lie("has functions that call each other without end")
            yield node, scope, given
            called = function_of(node) if node.op in CALLS else ""
            if called in self.telling:
                inputs = [text for text in node.input if not text.startswith("^")]
                arguments = [item.name for item in self.held.functions[called].signature.input_arg]
                inner = {
                    argument: value
                    for argument, text in zip(arguments, inputs, strict=False)
                    if (value := self.value(text, scope, given))
                }
                yield from self.walk(self.body(called).values(), called, inner, depth + 1)


def _telling(held: Graph) -> frozenset[str]:
    """Return the functions in which, at any depth, a variable gets a value or is saved."""
    callers: dict[str, list[str]] = {}
    for name, called in held.calls.items():
        for other in called:
            callers.setdefault(other, []).append(name)
    ops = {*meta_graph.ASSIGNS, *_SAVES, _IMPORT}
    todo = [name for name, function in held.functions.items() if any(node.op in ops for node in function.node_def)]
    found = set(todo)
    while todo:
        for name in callers.get(todo.pop(), ()):
            if name not in found:
                found.add(name)
                todo.append(name)
    return frozenset(found)


def _of_function(text: str) -> tuple[str, int]:
    """Return node and number of an input in a function's body: argument, or node:output:number."""
    name, _, rest = text.partition(":")
    number = rest.rpartition(":")[2]
    return name, int(number) if number.isascii() and number.isdigit() and len(number) < 10 else 0


def function_of(node: Node) -> str:
    """Return the function that a call calls."""
    return next((item.value.func.name for item in node.attr if item.key == "f"), "")


def _restored(trace: _Tracer) -> Iterator[tuple[str, Restores]]:
    """Yield each handle that the old saver restores, as its node, with what it takes."""
    saver = trace.held.meta.saver_def
    if not saver.restore_op_name:
        return
    nodes = [trace.held.nodes[name] for name in sorted(trace.reaching(saver.restore_op_name))]
    for node, scope, given in trace.walk(nodes, "", {}):
        if node.op not in meta_graph.ASSIGNS and node.op != _IMPORT:
            continue
        count = 3 if node.op == _IMPORT else 2
        values = [trace.value(text, scope, given) for text in node.input[:count]]
        if len(values) == count and values[0] and all(value and value[0] == "saved" for value in values[1:]):
            keys = tuple(value[1] for value in values[1:] if value)
            yield values[0][1], (keys, values[1][2] if values[1] else "")


def _saved(trace: _Tracer) -> Iterator[tuple[str, Restores]]:
    """Yield each variable that the old saver saves, as its node, with its key."""
    saver = trace.held.meta.saver_def
    if not saver.save_tensor_name:
        return
    nodes = [trace.held.nodes[name] for name in sorted(trace.reaching(saver.save_tensor_name))]
    for node, scope, given in trace.walk(nodes, "", {}):
        if node.op in _SAVES:
            keys, cuts = trace.names(node, 1, scope), trace.names(node, 2, scope)
            inputs = [text for text in node.input if not text.startswith("^")][3:]
            for key, cut, text in zip(keys, cuts, inputs, strict=False):
                value = trace.value(text, scope, given)
                if value and value[0] == "node" and trace.held.nodes[value[1]].op in meta_graph.VARIABLES:
                    yield value[1], ((key,), cut)


def _bound(
    trace: _Tracer, kept: Collection[str], keys: Mapping[int, tuple[str, ...]]
) -> Iterator[tuple[str, Restores]]:
    """Yield each handle that a call binds to an object, as its node, with the object's keys."""
    concrete = {entry.key: entry.value for entry in trace.held.meta.object_graph_def.concrete_functions}
    for name in sorted(kept):
        node = trace.held.nodes[name]
        called = concrete.get(function_of(node)) if node.op in CALLS else None
        if called is None:
            continue
        inputs = [text for text in node.input if not text.startswith("^")]
        bound = list(called.bound_inputs)
        if len(inputs) < len(bound):
            raise _lie("calls a function with fewer inputs than it is bound to")
        for number, text in zip(bound, inputs[len(inputs) - len(bound) :], strict=True):
            value = trace.value(text, "", {})
            if number in keys and value and value[0] == "node":
                yield value[1], (keys[number], "")


def _gather(trace: _Tracer, found: Iterable[tuple[str, Restores]]) -> dict[tuple[str, str], Restores]:
    """Return what was found by the handles' identities; raises Refused where one has two answers."""
    gathered: dict[tuple[str, str], Restores] = {}
    for name, restores in found:
        if gathered.setdefault(trace.identity(name), restores) != restores:
            raise _lie(f"has two tensors for the variable {name!r}")
    return gathered


def bindings(
    held: Graph, kept: Collection[str], keys: Mapping[int, tuple[str, ...]], entries: Mapping[str, Entry]
) -> Bindings:
    """Return what the handles among the nodes `kept` restore.

    `keys` are those of the objects that are variables or tables, by their numbers. Raises Refused where the sources
    contradict each other, where a handle has none, and where its type or shape is not its tensor's.
    """
    trace = _Tracer(held)
    restored = _gather(trace, _chosen(trace, list(_restored(trace)), {}, entries))
    bound = _gather(trace, _chosen(trace, list(_bound(trace, kept, keys)), restored, entries))
    saved = {} if held.meta.object_graph_def.nodes else _gather(trace, _saved(trace))
    assigned = _assigned(trace, kept)
    handles, broken = [], []
    duplicates: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    for name in sorted(kept):
        node = held.nodes[name]
        who = trace.identity(name)
        one, other = bound.get(who), restored.get(who)
        # A table may come out of a function that creates it.
        table = node.op in MUTABLE_TABLES or (one is not None and len(one[0]) > 1)
        if (node.op not in meta_graph.VARIABLES and not table) or who in seen:
            continue
        seen.add(who)
        if who in saved and other and saved[who] != other:
            raise _lie(f"saves the variable {name!r} under another name than it restores it from")
        if one and other and one != other:
            duplicates |= _duplicates(name, one, other, entries)
        chosen = one or other
        if chosen is None:
            if who in assigned or table:
                continue
            raise _lie(f"reads the variable {name!r}, which no checkpoint and nothing else gives a value")
        if not other:
            broken.append(name)
        handles.append(_handle(node, chosen, entries))
    return Bindings(tuple(handles), duplicates, tuple(broken))


def _chosen(
    trace: _Tracer,
    found: list[tuple[str, Restores]],
    restored: Mapping[tuple[str, str], Restores],
    entries: Mapping[str, Entry],
) -> Iterator[tuple[str, Restores]]:
    """Yield each handle with one answer: Keras's mixed precision has two objects for one variable, of one content."""
    every: dict[tuple[str, str], dict[Restores, str]] = {}
    for name, restores in found:
        every.setdefault(trace.identity(name), {}).setdefault(restores, name)
    for who, answers in every.items():
        best = restored[who] if restored.get(who) in answers else next(iter(answers))
        for other, name in answers.items():
            if other != best:
                _duplicates(name, best, other, entries)
        yield next(iter(answers.values())), best


def _duplicates(name: str, one: Restores, other: Restores, entries: Mapping[str, Entry]) -> dict[str, str]:
    """Return the keys of the same content under two names, as far as the index tells; see TFS104."""
    if one[1] or other[1] or len(one[0]) != len(other[0]):
        raise _lie(f"restores the variable {name!r} in two ways")
    for left, right in zip(one[0], other[0], strict=True):
        a, b = entries.get(left), entries.get(right)
        if a is None or b is None:
            raise Unreadable(f"the SavedModel's variables lack {left if a is None else right!r}", "get a complete copy")
        if left != right and (a.slices or b.slices or (a.dtype, a.shape, a.crc) != (b.dtype, b.shape, b.crc)):
            raise _lie(f"has two different tensors for the variable {name!r}")
    return {right: left for left, right in zip(one[0], other[0], strict=True) if left != right}


def _assigned(trace: _Tracer, kept: Collection[str]) -> set[tuple[str, str]]:
    """Return the handles that an operation among the kept ones gives a value."""
    nodes = [trace.held.nodes[name] for name in sorted(kept)]
    found = set()
    for node, scope, given in trace.walk(nodes, "", {}):
        if node.op in meta_graph.ASSIGNS and node.input:
            value = trace.value(node.input[0], scope, given)
            if value and value[0] == "node":
                found.add(trace.identity(value[1]))
    return found


def _handle(node: Node, restores: Restores, entries: Mapping[str, Entry]) -> Handle:
    attrs = {item.key: item.value for item in node.attr}
    keys, cut = restores
    names = ("dtype",) if node.op in meta_graph.VARIABLES else ("key_dtype", "value_dtype")
    if node.op in meta_graph.VARIABLES or node.op in MUTABLE_TABLES:
        types = tuple(attrs[name].type for name in names if name in attrs)
    else:
        types = tuple(entries[key].dtype for key in keys if key in entries)
    if len(types) != len(names) or len(keys) != len(names):
        raise _lie(f"has a variable {node.name!r} of no known kind")
    for key, dtype in zip(keys, types, strict=True):
        entry = entries.get(key)
        if entry is None:
            raise Unreadable(f"the SavedModel's variables lack {key!r}", "get a complete copy")
        if entry.dtype != dtype:
            raise _lie(f"has a tensor of another type for the variable {node.name!r}")
    entry = entries[keys[0]]
    if "shape" in attrs and "dtype" in attrs and not attrs["shape"].shape.unknown_rank:
        shape = tuple(dim.size for dim in attrs["shape"].shape.dim)
        stored = _cut_shape(cut) if cut else entry.shape
        if len(shape) != len(stored) or any(a not in (-1, b) for a, b in zip(shape, stored, strict=True)):
            raise _lie(f"has a tensor of another shape for the variable {node.name!r}")
    return Handle(node.name, node.op, types, keys, cut)


def _cut_shape(cut: str) -> tuple[int, ...]:
    """Return the shape of a slice as a Saver writes it: the whole's sizes, then start,length for each dimension."""
    *sizes, parts = cut.split(" ")
    try:
        lengths = [
            part.split(",")[1] if part != "-" else size for size, part in zip(sizes, parts.split(":"), strict=True)
        ]
        return tuple(map(int, lengths))
    except (ValueError, IndexError):
        raise Unsupported("the SavedModel has a part of a variable of an unknown kind", "save it again") from None
