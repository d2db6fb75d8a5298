"""The objects of a SavedModel: which values each has in its checkpoint, and which of them only training needs.

A SavedModel says more than a checkpoint: what kind each object is, and which objects its functions read. An optimizer
is known by its kind or its form, and goes but for what inference reads; nothing goes for its name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from tfstrip_core.codecs import object_graph
from tfstrip_core.codecs.object_graph import Attribute, Child, Graph, Slot, reachable
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.saved_model import SavedModel, concrete_names
from tfstrip_core.codecs.tensor_bundle import Entry
from tfstrip_core.containers.checkpoints import object_state
from tfstrip_core.containers.checkpoints.object_state import State
from tfstrip_core.errors import Refused, Unreadable
from tfstrip_core.inventory import Finding, Role, Scope, Tensor

OPTIMIZERS = frozenset({"optimizer", "experimentalOptimizer"})
METRIC = "_tf_keras_metric"
ROWS = frozenset({"trackable_list_wrapper", "trackable_tuple_wrapper"})
GENERIC = "_generic_user_object"
KEPT = "_kept"  # what the root calls the variables that nothing but functions leads to
SIGNATURES = "signatures"
_VALUE, _TABLE = "VARIABLE_VALUE", "table"
_ENDINGS = ("", "-keys", "-values", "_STATE")
_LONGEST_PATH = 300


@dataclass(frozen=True, slots=True)
class Objects:
    """The objects by number, as `graph`: children, slots, and the values that the checkpoint has of each.

    `needs` are what each cannot do without besides: what functions read, dependencies, functions that save and restore.
    """

    message: pb.ObjectGraph = field(repr=False)
    graph: Graph = field(repr=False)
    needs: Sequence[tuple[int, ...]] = field(repr=False)

    def keys(self) -> dict[int, tuple[str, ...]]:
        """Return the keys of the objects that are variables, and of those that are tables."""
        found: dict[int, tuple[str, ...]] = {}
        for number, node in enumerate(self.graph.nodes):
            for item in node.attributes:
                if item.name == _VALUE:
                    found[number] = (item.key,)
                elif item.name == _TABLE:
                    found[number] = (f"{item.key}-keys", f"{item.key}-values")
        return found

    def identifier(self, number: int) -> str:
        """Return the kind of object that its writer said it is; "" for variables, functions and the like."""
        return str(self.message.nodes[number].user_object.identifier)

    def linked(self, *, through_functions: bool = True) -> Graph:
        """Return the graph with what objects need as further children, whose names begin with NUL."""
        nodes = tuple(
            replace(node, children=(*node.children, *(Child(n, f"\0{at}") for at, n in enumerate(self.needs[number]))))
            if self.needs[number] and (through_functions or not self.is_function(number))
            else node
            for number, node in enumerate(self.graph.nodes)
        )
        return Graph(nodes, b"")

    def is_function(self, number: int) -> bool:
        """Return whether an object is a function."""
        return bool(next(concrete_names(self.message.nodes[number]), ""))


def objects(model: SavedModel, message: pb.ObjectGraph) -> Objects:
    """Return the objects of a model with their values.

    Raises Refused where its two object graphs contradict each other, Unreadable where the checkpoint lacks a value.
    """
    bound = {entry.key: tuple(entry.value.bound_inputs) for entry in message.concrete_functions}
    values = _values(model, message)
    nodes, needs = [], []
    for number, node in enumerate(message.nodes):
        nodes.append(
            object_graph.Node(
                tuple(Child(child.node_id, child.local_name) for child in node.children),
                values.get(number, ()),
                tuple(
                    Slot(slot.original_variable_node_id, slot.slot_name, slot.slot_variable_node_id)
                    for slot in node.slot_variables
                ),
            )
        )
        read = [n for name in concrete_names(node) for n in bound[name]]
        read += [reference.node_id for reference in node.dependencies]
        for item in node.saveable_objects:
            read += [item.value.save_function, item.value.restore_function]
        needs.append(tuple(dict.fromkeys(read)))
    return Objects(message, Graph(tuple(nodes), b""), needs)


def _values(model: SavedModel, message: pb.ObjectGraph) -> dict[int, tuple[Attribute, ...]]:
    """Return the values of each object, found as a loader finds them: by the names of children, from the root on."""
    if model.objects is None:
        if any(node.HasField("variable") for node in message.nodes):
            raise Unreadable("the SavedModel's variables are missing", "get a complete copy, with its folder variables")
        return {}
    if model.bundle is None:
        raise Unreadable("the SavedModel's variables are missing", "get a complete copy, with its folder variables")
    stored = model.objects.nodes
    partner = _partners(message, stored)
    values = {mine: stored[its].attributes for mine, its in partner.items() if stored[its].attributes}
    _check_values(message, values, model.bundle.entries)
    return values


def _partners(message: pb.ObjectGraph, stored: Sequence[object_graph.Node]) -> dict[int, int]:
    """Return for each object its number in the checkpoint's object graph, as far as it is there."""
    if any(node.saver is not None for node in stored):
        raise Refused("the SavedModel has an object that is saved by code of its own", "strip it where that is")
    partner = {0: 0}
    todo = [0]
    # Slots whose variable is still to be met: by that, the object's number in the checkpoint and the slot.
    waiting: dict[int, list[tuple[int, pb.Slot]]] = {}
    theirs = {number: {(s.original, s.name): s.slot for s in node.slots} for number, node in enumerate(stored)}
    while todo:
        mine = todo.pop()
        its = partner[mine]
        pairs = list(_alike(message.nodes[mine], stored[its]))
        ready = waiting.pop(mine, [])
        for slot in message.nodes[mine].slot_variables:
            if slot.original_variable_node_id in partner:
                ready.append((its, slot))
            else:
                waiting.setdefault(slot.original_variable_node_id, []).append((its, slot))
        for holder, slot in ready:
            other = theirs[holder].get((partner[slot.original_variable_node_id], slot.slot_name))
            if other is not None:
                pairs.append((slot.slot_variable_node_id, other))
        todo += _met(partner, pairs)
    held: dict[int, int] = {}
    for mine, its in partner.items():
        if held.setdefault(its, mine) != mine and stored[its].attributes:
            raise _contradiction()
    return partner


def _check_values(
    message: pb.ObjectGraph, values: Mapping[int, tuple[Attribute, ...]], entries: Mapping[str, Entry]
) -> None:
    """Raise Unreadable where a variable has no value, or one that is named is not there."""
    for number, node in enumerate(message.nodes):
        items = values.get(number, ())
        if node.HasField("variable") and not any(item.name == _VALUE and item.key in entries for item in items):
            raise Unreadable(f"the SavedModel's variable {node.variable.name!r} has no value", "get a complete copy")
        for item in items:
            if not any(item.key + ending in entries for ending in _ENDINGS):
                raise Unreadable(f"the SavedModel's variables lack {item.key!r}", "get a complete copy")


def _alike(node: pb.Object, other: object_graph.Node) -> Iterator[tuple[int, int]]:
    """Yield the children that an object has under one name in both graphs, by their numbers in each."""
    theirs = {child.name: child.node for child in other.children}
    for child in node.children:
        if child.local_name in theirs:
            yield child.node_id, theirs[child.local_name]


def _met(partner: dict[int, int], pairs: Iterable[tuple[int, int]]) -> list[int]:
    """Note pairs of objects that are one; return those that are new."""
    new = []
    for mine, its in pairs:
        if mine not in partner:
            partner[mine] = its
            new.append(mine)
        elif partner[mine] != its:
            raise _contradiction()
    return new


def _contradiction() -> Refused:
    return Refused("the SavedModel and its checkpoint name different objects alike", "do not load this model")


def judge(
    held: Objects, tensors: Sequence[Tensor], scope: Scope, duplicates: Mapping[str, str], kept: frozenset[int] | None
) -> State:
    """Return the roles of the tensors, by key, and the findings, whose roots are objects that go and their edges.

    `duplicates` are keys whose content another key has, too: key -> the one that is read. `kept` are the objects that
    a narrower scope than all functions leaves.
    """
    return _Judge(held, tensors, scope, duplicates, kept).state()


def signed(held: Objects) -> frozenset[int]:
    """Return the root and the objects that the signatures need; empty where there are no signatures."""
    start = [child.node for child in held.graph.nodes[0].children if child.name == SIGNATURES]
    found = reachable(held.linked().nodes, start)
    return found | {0} if any(map(held.is_function, found)) else frozenset()


class _Judge:
    """What object_state finds, and what a SavedModel alone can tell."""

    def __init__(
        self,
        held: Objects,
        tensors: Sequence[Tensor],
        scope: Scope,
        duplicates: Mapping[str, str],
        kept: frozenset[int] | None,
    ) -> None:
        self.held, self.duplicates, self.kept = held, duplicates, kept
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.nodes = held.graph.nodes
        self.named = {path: number for number, path in paths(held.graph).items() if held.is_function(number)}
        self.left_out = frozenset(self.named[name] for name in scope.without if name in self.named)
        self.optimizers = [n for n in range(1, len(self.nodes)) if held.identifier(n) in OPTIMIZERS]
        self.slots: dict[int, list[str]] = {}
        for number, node in enumerate(held.message.nodes):
            for slot in node.slot_variables:
                for end in {number, slot.original_variable_node_id}:
                    self.slots.setdefault(end, []).append(slot_edge(number, slot))
        self.metrics = [n for n in range(1, len(self.nodes)) if held.identifier(n) == METRIC]

    def _graph(self, *, through_functions: bool) -> Graph:
        """Return the objects, linked, without the functions that are to be left out."""
        graph = self.held.linked(through_functions=through_functions)
        if not self.left_out:
            return graph
        return Graph(
            tuple(
                replace(node, children=tuple(child for child in node.children if child.node not in self.left_out))
                for node in graph.nodes
            ),
            b"",
        )

    def _keys(self, number: int) -> list[str]:
        named = [item.key for item in self.nodes[number].attributes]
        return [key + ending for key in named for ending in _ENDINGS if key + ending in self.tensors]

    def _finding(self, rule: str, subject: str, nodes: Collection[int], message: str, names: Iterable[str]) -> Finding:
        names = tuple(names)
        roots = self._roots(nodes)
        return Finding(rule, subject, sum(self.tensors[name].bytes for name in names), message, names, roots)

    def _roots(self, nodes: Collection[int]) -> tuple[str, ...]:
        """Return what goes with objects: themselves, and the edges that lead from them."""
        leading = (edge(n, child.name, child.node) for n in sorted(nodes) for child in self.nodes[n].children)
        slots = (text for n in sorted(nodes) for text in self.slots.get(n, ()))
        return (*(f"#{n}" for n in sorted(nodes)), *leading, *slots)

    def state(self) -> State:
        """Return roles and findings."""
        tensors = list(self.tensors.values())
        graph = self._graph(through_functions=self.kept is None)
        called = [n for n in range(len(self.nodes)) if self.held.is_function(n)] if self.kept is None else []
        state = object_state.judge(graph, tensors, self.optimizers, free=True, called=called)
        proven = {n for found in state.findings for n in numbers(found.roots)}
        findings = [replace(found, roots=self._roots(numbers(found.roots))) for found in state.findings]
        claimed = {name for found in findings for name in found.tensors}
        for found in (*self._metrics(graph, proven), *self._copies(graph), *self._functions(state)):
            if claimed.isdisjoint(found.tensors):
                claimed |= set(found.tensors)
                findings.append(found)
        findings += self._dropped(proven)
        if self.kept is not None:
            findings = list(self._narrowed(findings, self.kept))
        roles: dict[str, Role] = dict.fromkeys(self.tensors, "weight")
        roles.update((name, _ROLES[found.rule]) for found in findings for name in found.tensors)
        return State(roles, tuple(findings))

    def _metrics(self, graph: Graph, proven: Collection[int]) -> Iterator[Finding]:
        stays = reachable(graph.nodes, (0,), {*self.metrics, *proven}) | (self.kept or frozenset())
        avoid = set(proven)
        way = paths(self.held.graph)
        for number in self.metrics:
            nodes = reachable(graph.nodes, (number,), avoid) - stays
            names = [key for n in sorted(nodes) for key in self._keys(n)]
            avoid |= nodes
            if names:
                yield self._finding("TFS102", way.get(number, f"#{number}"), nodes, "accumulators of a metric", names)

    def _copies(self, graph: Graph) -> Iterator[Finding]:
        """Yield the variables whose content another one has, too, where no function reads them."""
        owners = {key: n for n in range(len(self.nodes)) for key in self._keys(n)}
        read = {n for needs in self.held.needs for n in needs}
        copies = {key: owners[key] for key in self.duplicates if key in owners and owners[key] not in read}
        if copies:
            place = paths(self.held.graph).get(min(copies.values()), "").rpartition("/")[0]
            message = f"{len(copies)} variables that are stored a second time"
            nodes = [n for n in copies.values() if not graph.nodes[n].children]
            pairs = tuple((self.duplicates[key], key) for key in copies)
            yield replace(self._finding("TFS104", place or "/", nodes, message, copies), pairs=pairs)

    def _functions(self, state: State) -> Iterator[Finding]:
        """Yield the functions that read what would go as an optimizer's otherwise."""
        if self.kept is not None:
            return
        without = object_state.judge(self._graph(through_functions=False), list(self.tensors.values()),
                                     self.optimizers, free=True)  # fmt: skip
        would = {name for found in without.findings if found.rule == "TFS101" for name in found.tensors}
        stays = would - {name for found in state.findings for name in found.tensors}
        told: set[str] = set()
        # Signatures last: they stay, and are told of where no other function reads the same.
        for name, number in sorted(sorted(self.named.items()), key=_is_signature) if stays else ():
            read = {key for n in self.held.needs[number] for key in self._keys(n)} & stays
            inner = any(way in self.named for way in _leading(name))  # one of its traces
            if (
                read
                and not inner
                and number not in self.left_out
                and (read - told or not _is_signature((name, number)))
            ):
                message = f"reads or writes {len(read)} variables of an optimizer, which stay with it"
                yield self._finding("TFS203", name, (), message, sorted(read - told))
                told |= read

    def _dropped(self, proven: Collection[int]) -> Iterator[Finding]:
        """Yield the functions that the user wants gone, with what only they need besides variables."""
        if not self.left_out:
            return
        stays = reachable(self._graph(through_functions=True).nodes)
        for name, number in sorted(self.named.items()):
            if number in self.left_out:
                nodes = {n for n in reachable(self.held.linked().nodes, (number,)) - stays if not self._keys(n)}
                yield self._finding("TFS202", name, nodes - set(proven), "a function that is to go", ())

    def _narrowed(self, findings: Iterable[Finding], kept: frozenset[int]) -> Iterator[Finding]:
        """Yield the findings as far as they are about nothing that is kept, and one about all else that goes."""
        stays = {key for n in kept for key in self._keys(n)}
        claimed: set[str] = set()
        for found in findings:
            names = [name for name in found.tensors if name not in stays]
            nodes = numbers(found.roots) - kept
            if found.rule in ("TFS103", "TFS107", "TFS108") or not names:
                continue  # no proof of form is needed for what no signature reaches
            claimed |= set(names)
            made = self._finding(found.rule, found.subject, nodes, found.message, names)
            yield replace(made, pairs=found.pairs, opaque=False)
        message = self.held.message
        blank = places(message)
        gone = set(range(len(self.nodes))) - kept - blank
        rest = [name for name in self.tensors if name not in stays | claimed]
        if gone:
            found = self._finding("TFS202", "/", gone, "what no signature reaches", rest)
            held = tuple(
                edge(0, child.name, child.node)
                for child in self.nodes[0].children
                if child.name != SIGNATURES and child.node not in blank
            )
            told = tuple(f"#{n}/keras" for n in kept)
            yield replace(found, roots=(*found.roots, *held, *told))


def edge(holder: int, name: str, node: int) -> str:
    """Return what an edge between objects is called."""
    return f"#{node}/held by {holder} as {name}"


def slot_edge(holder: int, slot: pb.Slot) -> str:
    """Return what an optimizer's statement about a slot is called; it goes with any of the three."""
    return f"#{slot.slot_variable_node_id}/slot {holder} {slot.original_variable_node_id} {slot.slot_name}"


def _is_signature(function: tuple[str, int]) -> bool:
    return function[0].startswith(f"{SIGNATURES}/")


def _leading(path: str) -> Iterator[str]:
    """Yield the paths of what a path leads through."""
    while path := path.rpartition("/")[0]:
        yield path


def numbers(roots: Iterable[str]) -> set[int]:
    """Return the objects among a finding's roots."""
    return {int(root[1:]) for root in roots if root.startswith("#") and "/" not in root}


def paths(graph: Graph) -> dict[int, str]:
    """Return the shortest way to each object that the root leads to, from where its last part is not too long."""
    found, todo = {0: ""}, [0]
    for number in todo:
        way = found[number] if len(found[number]) < _LONGEST_PATH else f"#{number}"
        for child in graph.nodes[number].children:
            if child.node not in found:
                found[child.node] = f"{way}/{child.name}".lstrip("/")
                todo.append(child.node)
    return found


def places(message: pb.ObjectGraph) -> frozenset[int]:
    """Return the objects that say nothing, as a strip makes them: empty places, or only leading the way."""
    names: dict[int, list[str]] = {}
    for child in message.nodes[0].children:
        names.setdefault(child.node_id, []).append(child.local_name)
    held = [number for number, known in names.items() if len(known) == 1 and known[0].startswith(KEPT)]
    blank = {number for number, node in enumerate(message.nodes) if is_empty(node)}
    return frozenset(blank.union(number for number in held if _only_leads(message.nodes[number])))


def _only_leads(node: pb.Object) -> bool:
    return (
        node.user_object.identifier == GENERIC
        and not node.dependencies
        and [child.local_name for child in node.children] == [f"v{place}" for place in range(len(node.children))]
    )


def is_empty(node: pb.Object) -> bool:
    """Return whether an object is nothing but the place of one that went: TensorFlow gives all of its own a version."""
    return bool(node.SerializeToString() == empty().SerializeToString())


def empty() -> pb.Object:
    """Return what an object that goes leaves in its place."""
    return pb.Object(user_object=pb.UserObject(identifier=GENERIC))


_ROLES: Mapping[str, Role] = {
    "TFS101": "optimizer", "TFS102": "metric", "TFS103": "counter", "TFS104": "duplicate", "TFS105": "pipeline",
    "TFS106": "average", "TFS107": "undecided", "TFS108": "undecided", "TFS202": "undecided", "TFS203": "optimizer",
}  # fmt: skip
