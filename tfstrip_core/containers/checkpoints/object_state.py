"""Finding optimizers, averages, metrics and counters in a checkpoint's object graph, by structure and never by key.

Keras 3 keys a model's own kernels `optimizer/_trainable_variables/0`, and for layers held in a plain list that is the
only place which leads to them. So what an optimizer trains stays, wherever it is named; what goes are the variables
that only an optimizer holds: its slots, its own lists of variables, its scalars.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tfstrip_core.codecs.components import components
from tfstrip_core.codecs.object_graph import Graph, reachable
from tfstrip_core.errors import Refused
from tfstrip_core.inventory import Finding, Role, Tensor

TRAINED = "_trainable_variables"
_AVERAGES = "_model_variables_moving_average"
_STEPS = ("_iterations", "iterations")  # the latter is Keras 3.4's
# Lists of slots that the frameworks' own optimizers keep; others may be averages, which only their values can tell.
_SLOT_LISTS = re.compile(
    r"_?(momentums?|velocit(y|ies)(_hats?)?|accumulators?|linears?|m|v|u|r|c|vhats?|rms|average_gradients?"
    r"|accumulated_(grads|delta_vars|gradients))"
)
_SLOT_NAMES = re.compile(
    r"m|v|vhat|momentum|rms|mg|accumulator|accum_grad|accum_var|linear|gradient_accumulator"
    r"|(Adam|AdaMax|Adagrad|Momentum|RMSProp|Ftrl|Adadelta)(_\d+)?"
)
# What the frameworks call the step and the rates of their optimizers, the optimizer's own name before it or not. A
# program's own variable has whatever name it was given: `Variable`, if none.
_FULL_STEP = re.compile(r"(.*/)?iter(ation)?(_\d+)?", re.DOTALL)
_FULL_RATE = re.compile(r"(.*/)?(learning_rate|decay)(_\d+)?", re.DOTALL)
_HYPER = re.compile(r"iter|decay|learning_rate|beta_[12]|momentum|rho|epsilon|weight_decay|loss_scale")
# Scalars that optimizers hold under these names; another one may be the user's own, and stays.
_SCALARS = re.compile(
    r"_?(iter|iterations?|decay|learning_rate|lr|(initial_)?beta_?[12](_power)?|momentum(_cache)?|rho|epsilon"
    r"|weight_decay|u_product|m_cache|loss_scale|dynamic_scale|step_counter|current_loss_scale|good_steps|global_clipnorm"
    r"|l[12]_regularization_strength|l2_shrinkage_regularization_strength|learning_rate_power|beta|clipnorm|clipvalue|ema_momentum|sync_period|slow_step_size)"
)
_AVERAGE_NAMES = re.compile(r"average|slow")
_AVERAGE_FULL = re.compile(r"/average(_\d+)?/|_average(_\d+)?$")
# What a key of the graph may end in where it is a table's or an iterator's.
ENDINGS = ("", "-keys", "-values", "_STATE")
_MOST_OPTIMIZERS = 1000
_LONGEST_PATH = 1000
_UNSEEN = "averages of the weights, which may differ from them: strip compares the two, and asks if they do"


@dataclass(frozen=True, slots=True)
class State:
    """What a graph says: each key's role, and findings, whose roots are the nodes that go, "#N", and their edges."""

    roles: Mapping[str, Role]
    findings: tuple[Finding, ...]


def judge(
    graph: Graph,
    tensors: Sequence[Tensor],
    known: Collection[int] = (),
    *,
    free: bool = False,
    called: Collection[int] = (),
) -> State:
    """Return the roles and findings of an object-based checkpoint whose tensors are named by their keys.

    `known` are nodes that are optimizers by what is known beyond the graph. With `free`, what an optimizer trains need
    not be found through it, but functions must, the nodes `called`. Edges whose names begin with NUL lead to what a
    node needs, and are no way to name it.
    """
    return _Judge(graph, tensors, known, free, called).state()


def edges(graph: Graph, holders: Iterable[int]) -> Iterator[str]:
    """Yield a name for each edge that leads from one of the nodes to another, beginning with where it leads."""
    for holder in holders:
        for child in graph.nodes[holder].children:
            yield f"#{child.node}/held by {holder} as {child.name}"


class _Judge:
    """The graph with what is asked of it again and again worked out once."""

    def __init__(
        self, graph: Graph, tensors: Sequence[Tensor], known: Collection[int], free: bool, called: Collection[int]
    ) -> None:
        self.graph, self.nodes = graph, graph.nodes
        self.known, self.free, self.called = known, free, frozenset(called)
        self.tensors = {tensor.name: tensor for tensor in tensors}
        self.children = [{child.name: child.node for child in node.children} for node in self.nodes]
        self.holders = self._holders()
        self.owners: dict[str, set[int]] = {}
        for number in range(len(self.nodes)):
            for key in self._keys(number):
                self.owners.setdefault(key, set()).add(number)
        self.read = {child.node for node in self.nodes for child in node.children if child.name.startswith("\0")}
        rated = {number: self._certainty(number) for number in range(len(self.nodes))}
        self.proven = [number for number, rule in rated.items() if rule == "TFS101"]
        if len(self.proven) > _MOST_OPTIMIZERS:
            raise Refused(f"the checkpoint's object graph has {len(self.proven):,} optimizers", "do not load this file")
        self.averaged = self._averaged()
        self.listed = {n for inner in self.proven for n in self._listed_averages(inner)}
        self.suspects = [(number, rule) for number, rule in rated.items() if rule in ("TFS107", "TFS108")]
        lists = [self.children[n][TRAINED] for n, rule in rated.items() if rule and TRAINED in self.children[n]]
        originals = [slot.original for node in self.nodes for slot in node.slots]
        self.trained = reachable(self.nodes, [*lists, *originals], self.proven)
        self.kept = reachable(self.nodes, (0,), self.proven) | self.trained

    def _holders(self) -> dict[int, tuple[int, str]]:
        """Return for each node that the root leads to by whom and as what the shortest way enters it."""
        found, todo = {0: (0, "")}, deque([0])
        while todo:
            number = todo.popleft()
            for child in self.nodes[number].children:
                if child.node not in found and not child.name.startswith("\0"):
                    found[child.node] = number, child.name
                    todo.append(child.node)
        return found

    def _path(self, number: int) -> str:
        """Return the shortest way from the root to a node, "" for the root; its number where it is too long."""
        if number not in self.holders:
            return f"#{number}"
        words: list[str] = []
        at, length = number, 0
        while at:
            at, word = self.holders[at]
            words.append(word)
            length += len(word) + 1
            if length > _LONGEST_PATH:
                return f"#{number}"
        return "/".join(reversed(words))

    # What a node is.

    def _keys(self, number: int) -> list[str]:
        """Return the keys of a node's values: tables and iterators have more than the one that the graph names."""
        named = [item.key for item in self.nodes[number].attributes]
        return [key + ending for key in named for ending in ENDINGS if key + ending in self.tensors]

    def _scalar(self, number: int) -> bool:
        """Whether a node is a variable of no dimensions and nothing else."""
        return not self.nodes[number].children and self._values(number) == [()]

    def _values(self, number: int) -> list[tuple[int, ...]]:
        return [self.tensors[key].shape for key in self._keys(number)]

    def _array(self, number: int) -> bool:
        return any(shape for shape in self._values(number))

    def _certainty(self, number: int) -> str:
        """Return the rule that a node fires as an optimizer: TFS101 proven, TFS107 and TFS108 not, "" for none."""
        node, children = self.nodes[number], self.children[number]
        if number in self.known:
            return "TFS101"
        if node.slots:
            return "TFS101" if number else "TFS107"
        steps = {children[name] for name in _STEPS if name in children}
        variables = self.children[children["_variables"]] if "_variables" in children else {}
        if variables.get("0") in steps:
            whole = all(map(self._is_step, steps))
            own = any(self._array(child) for child in children.values())
            known = bool(children.keys() & {TRAINED, "_index_dict", "_learning_rate"})
            return "TFS101" if whole and number and known and not own else "TFS107"
        if steps and "_index_dict" in children and variables:  # TensorFlow 2.10's new optimizers: steps apart
            whole = all(map(self._is_step, steps))
            listed = set(variables.values()) <= self._slots(number) | self._listed_averages(number)
            return "TFS101" if whole and number and listed else "TFS107"
        if "iter" in children and children.keys() & {"decay", "learning_rate"}:
            leaves = all(self._scalar(child) or not self._holds_values(child) for child in children.values())
            named = all(_HYPER.fullmatch(name) or not self._scalar(child) for name, child in children.items())
            # All three are in each of the frameworks' own. A solver that infers may have a step count and a rate too,
            # and a function that reads one of them.
            rates = {"decay", "learning_rate"} <= children.keys()
            named &= rates and all(self._called(children[name], _FULL_RATE) for name in ("decay", "learning_rate"))
            named &= self.read.isdisjoint(children.values())
            return "TFS101" if number and leaves and named and self._is_step(children["iter"]) else "TFS108"
        return ""

    def _is_step(self, number: int) -> bool:
        """Whether a node is a count of steps under the name that the frameworks give theirs."""
        return self._scalar(number) and self._is_integer(number) and self._called(number, _FULL_STEP)

    def _called(self, number: int, name: re.Pattern[str]) -> bool:
        """Whether a variable has such a full name."""
        return all(name.fullmatch(item.full_name) for item in self.nodes[number].attributes)

    def _is_integer(self, number: int) -> bool:
        return all(self.tensors[key].dtype.startswith(("int", "uint")) for key in self._keys(number))

    def _slots(self, number: int) -> set[int]:
        """Return the nodes that the frameworks' own names say are an optimizer's slots, and no averages."""
        found = {slot.slot for slot in self.nodes[number].slots if _SLOT_NAMES.fullmatch(slot.name)}
        for name, child in self.children[number].items():
            if _SLOT_LISTS.fullmatch(name):
                found |= set(self.children[child].values())
        return found

    def _listed_averages(self, number: int) -> set[int]:
        members = self.children[number].get(_AVERAGES)
        return set() if members is None else set(self.children[members].values())

    def _holds_values(self, number: int) -> bool:
        return any(self._keys(inner) for inner in reachable(self.nodes, (number,)))

    # What an optimizer holds.

    def _own(self, number: int) -> tuple[set[int], set[int]]:
        """Return the nodes that go with a proven optimizer, and those under it that have another form and stay.

        What goes: slots, scalars and lists of variables under the names that optimizers have for them; the same of
        the optimizers that it wraps. Whatever else hangs on an optimizer is a guest, and stays with all that it holds.
        """
        inside = reachable(self.nodes, (number,), self.trained)
        optimizers = [inner for inner in inside if inner == number or inner in self.proven]
        guests = reachable(self.nodes, [guest for inner in optimizers for guest in self._guests(inner)], self.proven)
        goes = {inner for inner in inside if not self._array(inner)}
        for optimizer in optimizers:
            goes |= {slot.slot for slot in self.nodes[optimizer].slots}
            goes |= {node for child in self._lists(optimizer) for node in self.children[child].values()}
        goes = {inner for inner in goes if self.nodes[inner].saver is None} - self.kept - guests
        stays = (set(inside) - goes) | self.trained
        if self.free:
            # A function that somebody hung on an optimizer is called by the way to it. But a loader builds an optimizer
            # of a kind that it knows with a step counter, and fails without its value: that one goes nevertheless.
            way = self._leading((self.called & guests) - self.kept, inside)
            goes -= way if way.isdisjoint(self.known) else set()
            return goes, set(inside) - goes - self.kept
        # The way to what stays must stay: a loader finds those weights through it.
        bridges = {inner for inner in goes if stays & reachable(self.nodes, (inner,))}
        return goes - bridges, set(inside) - goes - self.kept

    def _leading(self, targets: Collection[int], inside: Collection[int]) -> set[int]:
        """Return the nodes among `inside` from which children lead to one of the targets, and these."""
        parents: dict[int, list[int]] = {}
        for number in inside if targets else ():
            for child in self.nodes[number].children:
                if not child.name.startswith("\0"):
                    parents.setdefault(child.node, []).append(number)
        found, todo = set(targets), list(targets)
        while todo:
            new = set(parents.get(todo.pop(), ())) - found
            found |= new
            todo += new
        return found

    def _lists(self, optimizer: int) -> set[int]:
        """Return an optimizer's own lists of variables: by name, flat, and of arrays that `_variables` has too."""
        children = self.children[optimizer]
        variables = set(self.children[children["_variables"]].values()) if "_variables" in children else set()
        own = {child for name, child in children.items() if name in ("_variables", _AVERAGES)}
        for name, child in children.items():
            if _SLOT_LISTS.fullmatch(name) and variables.issuperset(
                n for n in self.children[child].values() if self._array(n)
            ):
                own.add(child)
        return {
            child
            for child in own
            if all(key.isdigit() and not self.nodes[node].children for key, node in self.children[child].items())
        }

    def _guests(self, optimizer: int) -> set[int]:
        """Return the children of an optimizer that are neither optimizers nor state of one by their names."""
        lists = self._lists(optimizer)
        listed = {node for child in lists for node in self.children[child].values()}
        own = lists | listed | set(self.proven) | self.trained
        return {
            child
            for name, child in self.children[optimizer].items()
            if child not in own and self._holds_values(child) and not self._repeats(child, listed)
            if not _SCALARS.fullmatch(name) or any(map(self._array, reachable(self.nodes, (child,))))
        }

    def _repeats(self, number: int, listed: set[int]) -> bool:
        """Return whether a node is a list of what is in the optimizer's own lists: a class's own name for its slots."""
        members = self.children[number]
        return bool(members) and all(key.isdigit() and node in listed for key, node in members.items())

    def state(self) -> State:
        """Return the roles and findings."""
        findings = list(self._pipelines())
        claimed = {name for finding in findings for name in finding.tensors}
        inner = self._inner()
        outer = [number for number in self.proven if number not in inner]
        for number in sorted(outer, key=self._path):
            for finding in self._of_optimizer(number, claimed):
                claimed |= set(finding.tensors)
                findings.append(finding)
        findings += self._suspected(claimed)
        claimed = {name for finding in findings for name in finding.tensors}
        findings += self._counters(claimed)
        roles: dict[str, Role] = {name: _ROLES[found.rule] for found in findings for name in found.tensors}
        return State({name: roles.get(name, "weight") for name in self.tensors}, tuple(findings))

    def _inner(self) -> set[int]:
        """Return the optimizers that another one holds, at any depth; of those that hold each other, all but one."""
        after = [[c.node for c in node.children if c.node not in self.trained] for node in self.nodes]
        groups = components(self.proven, after.__getitem__)
        held: set[int] = set()
        below: set[int] = set()
        proven = set(self.proven)
        for group in reversed(groups):  # whoever holds comes before what it holds
            optimizers = sorted(proven.intersection(group))
            under = not below.isdisjoint(group)
            held |= set(optimizers if under else optimizers[1:])
            if under or optimizers:
                below |= {other for number in group for other in after[number]} - set(group)
        return held

    def _finding(
        self, rule: str, subject: str, nodes: Iterable[int], message: str, claimed: set[str], **more: object
    ) -> Iterator[Finding]:
        nodes = sorted(set(nodes))
        mine = set(nodes)
        names = tuple(key for n in nodes for key in self._keys(n) if key not in claimed and self.owners[key] <= mine)
        names = tuple(dict.fromkeys(names))
        if names:
            size = sum(self.tensors[name].bytes for name in names)
            roots = (*(f"#{n}" for n in nodes), *edges(self.graph, nodes))
            yield Finding(rule, subject, size, message, names, roots, **more)  # type: ignore[arg-type]

    def _of_optimizer(self, number: int, claimed: set[str]) -> Iterator[Finding]:
        subject = self._path(number)
        goes, strange = self._own(number)
        optimizers = {number, *goes} & set(self.proven)
        known = {slot for inner in optimizers for slot in self._slots(inner)}
        averages, pairs = self._averages(goes, known)
        yield from self._finding("TFS106", subject, averages, _UNSEEN, claimed, pairs=pairs)
        arrays = [n for n in goes - averages if self._array(n)]
        scalars = sum(len(self._values(n)) for n in goes - averages) - len(arrays)
        message = f"{len(arrays)} slots and {scalars} scalars of the optimizer"
        opaque = not known >= set(arrays)
        yield from self._finding("TFS101", subject, goes - averages, message, claimed, opaque=opaque)
        held = {n for n in strange if self._array(n)}
        message = "hangs on an optimizer and has another form than its state"
        yield from self._finding("TFS107", f"{subject}/*", held, message, claimed)

    def _averages(self, goes: set[int], known: set[int]) -> tuple[set[int], tuple[tuple[str, str], ...]]:
        """Return the averages among the nodes, and (weight, average) by key if every one has a certain weight."""
        pairs = self.averaged
        named = {n for n in goes if any(_AVERAGE_FULL.search(item.full_name) for item in self.nodes[n].attributes)}
        found = named - known | {n for n in goes if n in pairs or n in self.listed}
        found = {n for n in found if self._array(n) or n in pairs}
        keys = [(self._keys(pairs[n]), self._keys(n)) for n in sorted(found) if n in pairs]
        alike = all(
            len(left) == len(right) == 1 and self._kind(left[0]) == self._kind(right[0]) is not None
            for left, right in keys
        )
        certain = alike and len(keys) == len(found)
        return found, tuple((left[0], right[0]) for left, right in keys) if certain else ()

    def _averaged(self) -> dict[int, int]:
        """Return for each average its weight, as far as optimizers say."""
        pairs: dict[int, int] = {}
        for inner in self.proven:
            for slot in self.nodes[inner].slots:
                if _AVERAGE_NAMES.fullmatch(slot.name):
                    pairs[slot.slot] = slot.original
            children = self.children[inner]
            averages = self.children[children[_AVERAGES]] if _AVERAGES in children else {}
            trained = self.children[children[TRAINED]] if TRAINED in children else {}
            if averages.keys() == trained.keys():
                pairs |= {averages[index]: trained[index] for index in averages}
        return pairs

    def _kind(self, key: str) -> tuple[str, tuple[int, ...]] | None:
        tensor = self.tensors.get(key)
        return (tensor.dtype, tensor.shape) if tensor else None

    def _suspected(self, claimed: set[str]) -> Iterator[Finding]:
        for number, rule in self.suspects:
            without = reachable(self.nodes, (0,), [number, *self.proven]) | self.trained
            nodes = reachable(self.nodes, (number,), self.proven) - without if number else self._direct(number)
            message = "has the form of an optimizer" + ("" if rule == "TFS108" else ", and variables of its own")
            for finding in self._finding(rule, self._path(number) or "/", nodes, message, claimed):
                claimed |= set(finding.tensors)
                yield finding

    def _direct(self, number: int) -> set[int]:
        """Return the scalars directly under a root that looks like an optimizer; what else it holds is the model."""
        names = {*_STEPS, "iter", "decay", "learning_rate", "_learning_rate"}
        return {node for name, node in self.children[number].items() if name in names and self._scalar(node)}

    def _pipelines(self) -> Iterator[Finding]:
        """Yield what saved iterators hold: the position in the training data."""
        for number, node in enumerate(self.nodes):
            if any(item.name in ("ITERATOR", "ITERATOR_STATE") for item in node.attributes):
                yield from self._finding(
                    "TFS105", self._path(number) or "/", (number,), "the state of a tf.data iterator", set()
                )

    def _counters(self, claimed: set[str]) -> Iterator[Finding]:
        counter = self.children[0].get("save_counter")
        if counter is not None and self._scalar(counter) and self._is_integer(counter):
            yield from self._finding("TFS103", "save_counter", (counter,), "how often this was saved", claimed)


_ROLES: Mapping[str, Role] = {
    "TFS101": "optimizer",
    "TFS102": "metric",
    "TFS103": "counter",
    "TFS105": "pipeline",
    "TFS106": "average",
    "TFS107": "undecided",
    "TFS108": "undecided",
}
