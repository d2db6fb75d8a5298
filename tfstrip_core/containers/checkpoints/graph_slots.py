"""What a graph of TensorFlow 1 proves about the variables of a checkpoint: which ones its optimizers keep.

The operations that apply gradients take an optimizer's slots at fixed places. A sparse Adam has no such operation; its
slots lie beside their variables, which averages and hand-made copies do too, so that counts with a slot's name only.
And whatever a prediction could read is no slot, whoever says so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tfstrip_core.codecs.meta_graph import APPLIES, ASSIGNS, SAVES, VARIABLES, MetaGraph, Node, consumers
from tfstrip_core.containers.checkpoints.slot_names import (
    BETA_POWER,
    SLOTS,
    WITH_POWERS,
    any_power,
    base_of,
    beneath,
    known,
    relation,
)
from tfstrip_core.inventory import Tensor

# How many slots follow the variable among the inputs, and how many powers of beta follow the slots.
_SLOTS: Mapping[str, tuple[int, int]] = {
    "GradientDescent": (0, 0), "ProximalGradientDescent": (0, 0), "Adagrad": (1, 0), "AdagradV2": (1, 0),
    "ProximalAdagrad": (1, 0), "Momentum": (1, 0), "KerasMomentum": (1, 0), "AddSign": (1, 0), "PowerSign": (1, 0),
    "Adam": (2, 2), "AdaMax": (2, 1), "Adadelta": (2, 0), "RMSProp": (2, 0), "Ftrl": (2, 0), "FtrlV2": (2, 0),
    "AdagradDA": (2, 0), "CenteredRMSProp": (3, 0), "AdamWithAmsgrad": (3, 2),
}  # fmt: skip
WRITES = re.compile(
    r"Assign.*|(Resource)?(Sparse)?Apply\w+|ResourceScatter\w+|Scatter(Nd)?(Add|Sub|Update|Mul|Div|Min|Max)"
)
# What tells nothing of a variable's values.
STOPS = frozenset(
    {"VarIsInitializedOp", "IsVariableInitialized", "DisableCopyOnRead", "Shape", "VariableShape", "Size", "Rank"}
)
ENDS = STOPS | VARIABLES | {"NoOp", "Assert", "Print", "PrintV2", *SAVES}


@dataclass(frozen=True, slots=True)
class Proof:
    """What the graph says of a checkpoint's keys.

    `slots` and `scalars` are an optimizer's: key -> (scope, optimizer's name). `beside` are copies that lie beside a
    variable, which nothing explains: key -> the variable's key; `averaged` the variables whose averages are kept.
    """

    known: frozenset[str] = frozenset()
    trained: frozenset[str] = frozenset()
    counters: frozenset[str] = frozenset()
    slots: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    scalars: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    beside: Mapping[str, str] = field(default_factory=dict)
    averaged: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class _Apply:
    """One operation that applies gradients: the nodes of its variable and slots, and all inputs that follow."""

    variable: str
    slots: tuple[str, ...]
    rest: tuple[str, ...]
    powers: int


def prove(graph: MetaGraph, tensors: Mapping[str, Tensor]) -> Proof:
    """Return what `graph` proves of the keys of a checkpoint with `tensors`."""
    applies = list(_applies(graph))
    leaks = _with_aliases(graph, _leaking(graph))
    trained = _with_aliases(graph, frozenset(apply.variable for apply in applies))
    owners = {key: nodes for key in tensors if (nodes := graph.saved.get(key)) and "" not in nodes}
    key_of = {node: key for key, nodes in sorted(owners.items()) for node in nodes}
    held: dict[str, _Apply] = {slot: apply for apply in applies for slot in apply.slots}
    hidden = {key: nodes for key, nodes in owners.items() if not nodes & leaks and not nodes & trained}
    slots: dict[str, tuple[str, str]] = {}
    for key, nodes in hidden.items():
        if all(node in held for node in nodes):
            primary = key_of.get(held[min(nodes)].variable, "")
            if primary and tensors[primary].shape == tensors[key].shape:
                slots[key] = _family(key, primary, held[min(nodes)], key_of)
    primaries = {key: key_of[held[min(owners[key])].variable] for key in slots}
    suffixes = {relation(key, primary)[1]: slots[key] for key, primary in primaries.items() if beneath(key, primary)}
    beside = {key: primary for key, primary in _beside(graph, owners, key_of, tensors) if key not in slots}
    # An Adam of sparse gradients has no operation that tells; it keeps two, where an average of that name has one.
    sets: dict[tuple[str, tuple[str, str]], list[str]] = {}
    for key, primary in beside.items():
        scope, suffix = relation(key, primary)
        if key in hidden and beneath(key, primary) and (suffix in suffixes or known(suffix)):
            name = suffixes[suffix][1] if suffix in suffixes else base_of(suffix)
            sets.setdefault((primary, (scope, name)), []).append(key)
    powers = any_power(tensors)
    for (_, family), keys in sets.items():
        if len(keys) > 1 and (powers or family[1] not in WITH_POWERS):
            for key in keys:
                slots[key] = family
                del beside[key]
    return Proof(
        known=frozenset(owners),
        trained=frozenset(key for key, nodes in owners.items() if nodes & trained),
        counters=frozenset(key_of[item.node] for item in graph.variables.get("global_step", ()) if item.node in key_of),
        slots=slots,
        scalars=dict(_scalars(graph, applies, hidden, key_of, slots, tensors)),
        beside={key: primary for key, primary in beside.items() if key not in slots},
        averaged=frozenset(
            key_of[item.node] for item in graph.variables.get("moving_average_variables", ()) if item.node in key_of
        ),
    )


def _with_aliases(graph: MetaGraph, nodes: frozenset[str]) -> frozenset[str]:
    """Return `nodes` with those that are the same variable under another node's name."""
    shared = {graph.nodes[node].shared for node in nodes} - {""}
    return nodes | {node.name for node in graph.nodes.values() if node.shared in shared}


def _applies(graph: MetaGraph) -> Iterator[_Apply]:
    for node in graph.nodes.values():
        match = APPLIES.fullmatch(node.op)
        counts = _SLOTS.get(match[1]) if match else None
        if counts is None or len(node.inputs) <= counts[0]:
            continue
        held = [graph.variable(name) for name, _ in node.inputs[: counts[0] + 1]]
        if all(held) and len(set(held)) == len(held):
            yield _Apply(held[0], tuple(held[1:]), tuple(name for name, _ in node.inputs[len(held) :]), counts[1])


def _family(key: str, primary: str, apply: _Apply, key_of: Mapping[str, str]) -> tuple[str, str]:
    """Return the scope and the name of the optimizer that keeps `key`: how the user called it names its first slot."""
    scope, suffix = relation(key, primary)
    if known(suffix):
        return scope, base_of(suffix)
    place, _, last = scope.rpartition("/")
    if base_of(last) in SLOTS:  # Keras in a graph: training/Adam/<variable>/m
        return place, base_of(last)
    # FTRL, RMSProp and others name their slots in another order than the operation takes them.
    names = [relation(key_of[slot], primary)[1] for slot in apply.slots if slot in key_of]
    return scope, min(names, key=lambda name: (len(name), name), default=suffix)


def _beside(
    graph: MetaGraph, owners: Mapping[str, frozenset[str]], key_of: Mapping[str, str], tensors: Mapping[str, Tensor]
) -> Iterator[tuple[str, str]]:
    """Yield the keys whose variables are to lie beside another variable of their shape, with the other's key."""
    for key, nodes in owners.items():
        places = [_place(graph.nodes[node], key_of) for node in sorted(nodes)]
        primaries = {key_of[place] if place else "" for place in places}
        (primary, *others) = sorted(primaries)
        if others or primary in ("", key) or not tensors[key].shape:
            continue
        if (tensors[primary].shape, tensors[primary].dtype) == (tensors[key].shape, tensors[key].dtype):
            yield key, primary


def _place(node: Node, key_of: Mapping[str, str]) -> str:
    places = [name for name in node.colocated if name in key_of and name != node.name]
    return places[0] if len(places) == 1 else ""


def _scalars(
    graph: MetaGraph,
    applies: list[_Apply],
    hidden: Mapping[str, frozenset[str]],
    key_of: Mapping[str, str],
    slots: Mapping[str, tuple[str, str]],
    tensors: Mapping[str, Tensor],
) -> Iterator[tuple[str, tuple[str, str]]]:
    """Yield the scalars of the optimizers that have slots: powers of beta, and hyperparameters kept in variables."""
    trained: dict[str, tuple[str, str]] = {}  # a variable -> the optimizer that keeps slots of it
    given: dict[str, tuple[str, str]] = {}  # a variable that such an optimizer's operation reads
    for apply in applies:
        family = next((slots[key_of[slot]] for slot in apply.slots if key_of.get(slot) in slots), None)
        if family:
            trained.setdefault(apply.variable, family)
            given |= {graph.variable(name, through_reads=True): family for name in apply.rest}
    for key in sorted(slots):  # a sparse Adam's too
        trained |= {place: slots[key] for node in hidden[key] for place in graph.nodes[node].colocated}
    for key, nodes in sorted(hidden.items()):
        tensor = tensors[key]
        if tensor.shape or key in slots or not tensor.dtype.startswith(("float", "bfloat")):
            continue
        node = min(nodes)
        if node in given:
            yield key, given[node]
        elif BETA_POWER.fullmatch(key.rpartition("/")[2]):
            places = graph.nodes[node].colocated
            yield from ((key, trained[place]) for place in places[:1] if place in trained)


def _leaking(graph: MetaGraph) -> frozenset[str]:
    """Return the nodes whose values reach something that neither writes a variable nor only reports: a prediction, say.

    Outputs are not marked in such a graph, so everything that ends nowhere may be one.
    """
    readers = consumers(graph)
    writes = {
        node.name
        for node in graph.nodes.values()
        if WRITES.fullmatch(node.op) and node.inputs and (node.op in ASSIGNS or graph.variable(node.inputs[0][0]))
    }
    todo = [
        node.name
        for node in graph.nodes.values()
        if node.name not in readers
        and node.name not in writes
        and node.op not in ENDS
        and "Summary" not in node.op
        and not graph.variable(node.name, through_reads=True)
    ]
    # What is copied into a variable reaches all that reads the variable.
    copied: dict[str, list[str]] = {}
    for node in graph.nodes.values():
        if node.op in ASSIGNS and len(node.inputs) > 1:
            copied.setdefault(graph.variable(node.inputs[0][0]), []).append(node.inputs[1][0])
    found = set(todo)
    while todo:
        name = todo.pop()
        node = graph.nodes[name]
        for source in copied.get(name, ()):
            if source in graph.nodes and source not in found:
                found.add(source)
                todo.append(source)
        if node.op in STOPS:
            continue
        # What a write hands on is its variable, not the value written.
        for source, _ in node.inputs[:1] if node.name in writes else node.inputs:
            if source in graph.nodes and source not in found:
                found.add(source)
                todo.append(source)
    return frozenset(found)
