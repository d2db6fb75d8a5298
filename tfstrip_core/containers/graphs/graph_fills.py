"""What gives the variables, tables, queues and iterators of a graph their values: no output depends on it.

Each is told by its handle, which several operations can give; what takes that and is not known to read it, fills it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tfstrip_core.codecs.meta_graph import APPLIES, RESTORES, SAVES, VARIABLES
from tfstrip_core.containers.checkpoints.graph_slots import WRITES
from tfstrip_core.containers.saved import saved_closure
from tfstrip_core.containers.saved.saved_closure import Graph, Node, source

_HOLDERS = re.compile(
    r"(Variable|VariableV2|VarHandleOp|TemporaryVariable|\w*HandleOp|Anonymous\w+|(OneShot|Multi\w+)?Iterator\w*"
    r"|\w*(Queue|HashTable|HashTableOf\w+|Stack|Barrier|Accumulator|Reader|Mutex|TensorArray|Writer)(V\d)?)"
)
_NAMES = ("shared_name", "stack_name", "tensor_array_name", "var_name")
# They hand on a handle. Those of variables of the old kind are handed on as references, else as values.
_PASS = frozenset({"Identity", "Switch", "Merge", "Enter", "Exit", "NextIteration"})
_PASS_REF = frozenset({"Switch", "Enter", *(f"Ref{name}" for name in _PASS)})
_READS = re.compile(
    r"ReadVariableOp|ResourceGather(Nd)?|VariableShape|Var(iable)?IsInitializedOp|DisableCopyOnRead|Is\w+|\w*Size(V\d)?"
    r"|\w*Dequeue\w*|LookupTable(Find|Export)(V2)?|Iterator(GetNext\w*|ToStringHandle)|SerializeIterator|TensorArrayRead\w*"
    r"|Shape|Rank|NoOp|Reader(Num|Serialize)\w*"
)
_STRINGS = re.compile(r"IteratorFromStringHandle\w*")  # which iterator it is, is only told when it runs
_STAGED, _STAGES = re.compile(r"\w*(Unstage|StagePeek)\w*"), re.compile(r"(Ordered)?(Map)?Stage")
_GIVEN = frozenset({"Placeholder", "PlaceholderV2"})
_MAX_STEPS = 20_000_000  # of all searches for what a value is made from


@dataclass(frozen=True, slots=True)
class Fills:
    """Which group each node that gives a handle belongs to, and what fills each group; `beside` are pairs of more."""

    groups: Mapping[str, str] = field(repr=False)
    fills: Mapping[str, tuple[str, ...]] = field(repr=False)
    beside: Mapping[str, tuple[str, ...]] = field(repr=False)

    @property
    def every(self) -> frozenset[str]:
        """All that fills something."""
        return frozenset(name for names in self.fills.values() for name in names)

    def closure(self, held: Graph, roots: Iterable[str], saver: Collection[str] = ()) -> frozenset[str]:
        """Return these nodes, all that they depend on, and what gives these their values, in the same way.

        What those of a `saver` depend on is not searched for: it is among them, in a graph of its own.
        """
        found: set[str] = set()
        done: set[str] = set()
        todo = [*roots, *saver]
        while todo:
            name = todo.pop()
            if name in found:
                continue
            found.add(name)
            todo += [source(text) for text in held.nodes[name].input] if name not in saver else ()
            todo += self.beside.get(name, ())
            group = self.groups.get(name)
            if group is not None and group not in done:
                done.add(group)
                todo += self.fills.get(group, ())
        every = self.every & found
        for name, node in held.nodes.items():  # in a writer's order groups of groups come last
            inputs = {source(text) for text in node.input} if node.op == "NoOp" else set()
            if inputs and inputs <= found and not every.isdisjoint(inputs):
                found.add(name)
                every |= {name}
        return frozenset(found)


def fills(held: Graph, train: Collection[str], more: Iterable[tuple[str, tuple[str, ...]]] = ()) -> Fills:
    """Return what fills what in a graph of which `train` are the nodes that train; `more` says more of some nodes.

    What a Saver restores, and what training writes, fills nothing, unless there is nothing else that would.
    """
    search = _Search(held, train)
    groups: dict[str, str] = {}
    members: dict[str, list[str]] = {}
    for name, node in held.nodes.items():
        if _holds(node):
            groups[name] = _identity(node)
            members.setdefault(groups[name], []).append(name)
    staged: dict[str, list[str]] = {}
    for name, node in held.nodes.items():
        if _STAGES.fullmatch(node.op):
            staged.setdefault(_identity(node), []).append(name)
    found = {group: search.of(names) for group, names in members.items()}
    beside: dict[str, tuple[str, ...]] = {}
    strings = tuple(name for name, node in held.nodes.items() if node.op == "IteratorToStringHandle")
    for name, node in held.nodes.items():
        if _STRINGS.fullmatch(node.op):
            beside[name] = strings
        elif _STAGED.fullmatch(node.op):
            beside[name] = tuple(staged.get(_identity(node), ()))
    for name, names in more:
        beside[name] = (*beside.get(name, ()), *(other for other in names if other in held.nodes))
    return Fills(groups, found, beside)


def _holds(node: Node) -> bool:
    if _STAGES.fullmatch(node.op) or _STAGED.fullmatch(node.op):
        return False
    return bool(_HOLDERS.fullmatch(node.op)) or any(attr.key in _NAMES for attr in node.attr)


def _identity(node: Node) -> str:
    """Return what two operations have in common that give a handle of the same thing."""
    said = {
        attr.key: attr.value.s.decode("utf-8", "replace") for attr in node.attr if attr.key in (*_NAMES, "container")
    }
    name = next((said[key] for key in _NAMES if said.get(key)), "" if node.op == "VarHandleOp" else node.name)
    return f"{said.get('container') or 'localhost'}/{name}"


class _Search:
    """The graph, and what its nodes depend on."""

    def __init__(self, held: Graph, train: Collection[str]) -> None:
        self.held = held
        self.after: dict[str, list[str]] = {}
        self.data: dict[str, list[str]] = {}
        for node in held.nodes.values():
            for text in node.input:
                self.after.setdefault(source(text), []).append(node.name)
                if not text.startswith("^"):
                    self.data.setdefault(source(text), []).append(node.name)
        nodes = held.nodes.items()
        self.trained = self._following(train)
        self.restored = self._following(name for name, node in nodes if node.op in RESTORES)
        self.given = self._following(name for name, node in nodes if node.op in _GIVEN)
        self.left = _MAX_STEPS
        self.writing = self._writing()

    def _following(self, roots: Iterable[str]) -> set[str]:
        found, todo = set(), list(roots)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.after.get(name, ())
        return found

    def _writing(self) -> set[str]:
        """Return the functions that write to a variable, themselves or through what they call."""
        functions = self.held.functions
        found = {
            name for name, function in functions.items() if any(WRITES.fullmatch(node.op) for node in function.node_def)
        }
        callers: dict[str, list[str]] = {}
        for name, called in self.held.calls.items():
            for other in called:
                callers.setdefault(other, []).append(name)
        todo = list(found)
        while todo:
            more = set(callers.get(todo.pop(), ())) - found
            found |= more
            todo += more
        return found

    def of(self, holders: list[str]) -> tuple[str, ...]:
        """Return what fills the one thing that all of these nodes give a handle of."""
        variable = any(self.held.nodes[name].op in VARIABLES for name in holders)
        takers = list(self._takers(holders))
        if variable:
            writers = [name for name in takers if self._writes(self.held.nodes[name])]
            own = [name for name in writers if name not in self.trained and name not in self.restored]
            own = [name for name in own if not self._made_from(name, holders)]
            return tuple([name for name in own if name not in self.given] or own)
        writers = [name for name in takers if not self._only_reads(self.held.nodes[name])]
        writers = [name for name in writers if name not in self.restored]
        return tuple([name for name in writers if name not in self.trained] or writers)

    def _takers(self, holders: list[str]) -> Iterator[str]:
        """Yield the nodes that take the handle, for whatever."""
        seen, todo = set(holders), list(holders)
        old = any(self.held.nodes[name].op in VARIABLES - {"VarHandleOp"} for name in holders)
        while todo:
            for name in self.data.get(todo.pop(), ()):
                if name not in seen:
                    seen.add(name)
                    if self.held.nodes[name].op in (_PASS_REF if old else _PASS | _PASS_REF):
                        todo.append(name)
                    else:
                        yield name

    def _writes(self, node: Node) -> bool:
        """Return whether an operation that takes a variable writes to one."""
        if node.op in self.held.functions or not APPLIES.fullmatch(node.op):
            called = saved_closure.references(node, self.held)
            return bool(WRITES.fullmatch(node.op)) or not self.writing.isdisjoint(called)
        return False

    def _only_reads(self, node: Node) -> bool:
        return bool(_READS.fullmatch(node.op)) or node.op in SAVES

    def _made_from(self, name: str, holders: list[str]) -> bool:
        """Return whether what is written is made from what was there before."""
        node = self.held.nodes[name]
        if not WRITES.fullmatch(node.op):
            return False
        stop = set(holders)
        seen: set[str] = set()
        todo = [source(text) for text in node.input[1:]]
        while todo and self.left > 0:
            self.left -= 1
            found = todo.pop()
            if found in stop:
                return True
            if found not in seen:
                seen.add(found)
                todo += [source(text) for text in self.held.nodes[found].input]
        return False
