"""What of a graph trains, what may be its outputs, and what these need: all from data flow, nothing from names."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass

from tfstrip_core.codecs import meta_graph, meta_graph_write
from tfstrip_core.codecs.meta_graph import APPLIES, RESTORES, SAVES, VARIABLES, MetaGraph
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.containers.checkpoints.graph_slots import ENDS, WRITES
from tfstrip_core.containers.graphs import graph_fills
from tfstrip_core.containers.saved import saved_closure
from tfstrip_core.containers.saved.saved_closure import Graph, Node, source
from tfstrip_core.errors import Unsupported

# What fills a table.
_FILLS = frozenset(
    {"InitializeTable", "InitializeTableV2", "InitializeTableFromTextFile", "InitializeTableFromTextFileV2",
     "InitializeTableFromDataset", "LookupTableImport", "LookupTableImportV2"}
)  # fmt: skip
_GIVEN = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault", "Const"})
# What is the same whatever the values are that it is made from.
_FORMS = frozenset({"ZerosLike", "OnesLike", "Fill", "ShapeN", "BroadcastGradientArgs"})
_ASKS = frozenset({"VarIsInitializedOp", "IsVariableInitialized"})
_HANDS_ON = frozenset({"Identity", "ReadVariableOp", "NoOp", "ControlTrigger", "MakeIterator"})


@dataclass(frozen=True, slots=True)
class Kept:
    """What stays of a graph: nodes and functions by name, and the Saver's keys that go.

    `fills` are those nodes among them that only fill what others read. `saver` is the graph as a checkpoint's, for a
    .meta file whose Saver is known; `saves` says whether it has any left.
    """

    nodes: frozenset[str]
    functions: frozenset[str]
    gone: frozenset[str] = frozenset()
    saver: MetaGraph | None = None
    saves: bool = False
    fills: frozenset[str] = frozenset()


def training(held: Graph) -> frozenset[str]:
    """Return the nodes that apply gradients, themselves or in functions that they call, at any depth."""
    bodies = {
        name for name, function in held.functions.items() if any(_applies(node, held) for node in function.node_def)
    }
    callers: dict[str, list[str]] = {}
    for name, called in held.calls.items():
        for other in called:
            callers.setdefault(other, []).append(name)
    todo = list(bodies)
    while todo:
        more = set(callers.get(todo.pop(), ())) - bodies
        bodies |= more
        todo += more
    return frozenset(
        name
        for name, node in held.nodes.items()
        if _applies(node, held) or (bodies and not bodies.isdisjoint(saved_closure.references(node, held)))
    )


def _applies(node: Node, held: Graph) -> bool:
    return bool(APPLIES.fullmatch(node.op)) and node.op not in held.functions and len(node.input) > 1


def readers(held: Graph) -> dict[str, list[str]]:
    """Return for each node those that take a value of it, or wait for it."""
    found: dict[str, list[str]] = {}
    for node in held.nodes.values():
        for text in node.input:
            found.setdefault(source(text), []).append(node.name)
    return found


def following(roots: Iterable[str], after: dict[str, list[str]]) -> frozenset[str]:
    """Return these nodes and all that depend on them."""
    found, todo = set(roots), list(roots)
    while todo:
        more = set(after.get(todo.pop(), ())) - found
        found |= more
        todo += more
    return frozenset(found)


def candidates(held: Graph, train: Collection[str]) -> tuple[str, ...]:
    """Return the nodes that may be outputs, in the file's order: what nobody reads and what neither writes nor reports.

    Whatever depends on training, on what is saved or on whether a variable is there is none.
    """
    after = readers(held)
    roots = [name for name, node in held.nodes.items() if node.op in SAVES or node.op in _ASKS]
    never = following([*train, *roots], after)
    needed = held.ancestors(train)
    reports = {name for name, node in held.nodes.items() if "Summary" in node.op}
    found = [
        name
        for name, node in held.nodes.items()
        if name not in never
        and reports.issuperset(after.get(name, ()))
        and not _ends(node)
        and not _hands_on(node, held)
        and not _of_gradients(node, held, needed)
    ]
    # A loop that only training runs ends in values that nobody wants too.
    loops = {name for name in found if held.nodes[name].op == "Exit"}
    only = needed - held.ancestors(set(found) - loops) if loops else frozenset()
    return tuple(name for name in found if name not in loops or only.isdisjoint(held.ancestors([name])))


def _ends(node: Node) -> bool:
    """Return whether it is known of an operation that its value, if it has one, is no prediction."""
    op = node.op
    return bool(
        op in ENDS
        or op in _GIVEN
        or op in RESTORES
        or op in _FILLS
        or op in _FORMS
        or WRITES.fullmatch(op)
        or "Summary" in op
        or (op.startswith("Queue") and "Dequeue" not in op)
    )


def _hands_on(node: Node, held: Graph) -> bool:
    """Return whether a node gives nothing but the value of a variable, or nothing at all."""
    if node.op not in _HANDS_ON:
        return False
    first = held.nodes.get(source(node.input[0])) if node.input else None
    if node.op not in ("Identity", "ReadVariableOp") or first is None or first.op in VARIABLES:
        return True
    return first.op == "Switch" and len(set(first.input[:2])) == 1  # which branch of a condition it is


def _of_gradients(node: Node, held: Graph, needed: Collection[str]) -> bool:
    """Return whether this is a gradient that nobody wanted: it waits with those that training takes for all of them."""
    waits = [text[1:] for text in node.input if text.startswith("^")]
    return node.op == "Identity" and any(name in needed and held.nodes[name].op == "NoOp" for name in waits)


def kept(held: Graph, outputs: Iterable[str], train: Collection[str], *, meta: bool, sure: bool = True) -> Kept:
    """Return what stays of a graph for these outputs: all that they depend on, and what gives it its values.

    That is what fills variables, tables, queues and iterators, but for training (`train`), and of a MetaGraphDef
    (`meta`) its Saver, as far as it is about what stays.
    Raises Unsupported for a Saver of an unknown kind; unless that is to be `sure`, it stays then.
    """
    roots = set(outputs) | (saved_closure.initial(held.meta) if meta else set())
    gives = graph_fills.fills(held, train, _initializers(held) if meta else ())
    nodes = gives.closure(held, roots)
    if not meta or not held.meta.saver_def.restore_op_name:
        return Kept(nodes, held.library(nodes), fills=gives.every & nodes)
    ends = {source(name) for name in _saver_ends(held.meta.saver_def) if source(name) in held.nodes}
    try:
        whole = meta_graph.parse(held.meta.SerializeToString())
        while True:
            gone = frozenset(_gone(whole, nodes))
            saves = not gone or bool(whole.saved.keys() - gone)
            graph = meta_graph.parse(meta_graph_write.without(whole, gone)) if gone and saves else whole
            saver = frozenset(_ancestors(graph, ends & graph.nodes.keys())) if saves else frozenset()
            nodes = gives.closure(held, nodes - saver, saver)
            if gone == frozenset(_gone(whole, nodes)):  # else what initializes a variable reads another one
                return Kept(nodes, held.library(nodes), gone, graph, saves, gives.every & nodes)
    except Unsupported as error:
        if sure:
            raise Unsupported(error.cause, "freeze the graph, or save it again with a newer TensorFlow") from None
        nodes = gives.closure(held, nodes | ends)
        return Kept(nodes, held.library(nodes), fills=gives.every & nodes)


def _saver_ends(saver: meta_graph_pb2.Saver) -> Iterator[str]:
    yield from filter(None, (saver.filename_tensor_name, saver.save_tensor_name, saver.restore_op_name))


def _ancestors(graph: MetaGraph, roots: Iterable[str]) -> set[str]:
    found, todo = set(), list(roots)
    while todo:
        name = todo.pop()
        if name not in found and name in graph.nodes:
            found.add(name)
            todo += [*(text for text, _ in graph.nodes[name].inputs), *graph.nodes[name].controls]
    return found


def _gone(graph: MetaGraph, nodes: Collection[str]) -> Iterator[str]:
    """Yield the keys whose variables, under whatever node's name, are not among `nodes`."""
    shared = {graph.nodes[name].shared for name in nodes} - {""}
    for key, variables in graph.saved.items():
        if "" not in variables and not any(name in nodes or graph.nodes[name].shared in shared for name in variables):
            yield key


def _initializers(held: Graph) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield each variable that a collection describes, with the nodes by which it is initialized and read."""
    for entry in held.meta.collection_def:
        for item in entry.value.bytes_list.value:
            found = described(item, held)
            if found is not None:
                names = (found.initializer_name, found.snapshot_name, found.initial_value_name)
                yield source(found.variable_name), tuple(source(name) for name in names if name)


def described(item: bytes, held: Graph) -> meta_graph_pb2.Variable | None:
    """Return what an entry of a collection says of a variable of the graph; None where it is something else."""
    if meta_graph.variable_of(item) is None:
        return None
    variable = meta_graph_pb2.Variable.FromString(item)
    node = held.nodes.get(source(variable.variable_name))
    return variable if node is not None and node.op in VARIABLES else None
