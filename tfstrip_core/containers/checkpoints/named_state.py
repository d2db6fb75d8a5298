"""What the tensors of a name-based checkpoint are: weights, an optimizer's slots, averages, or nobody knows.

With the graph (.meta), its operations say which variables are slots: see graph_slots. Without it there are names only.
A slot has its variable's name and shape and one of the optimizers' own names behind it; a weight can have that too. So
names count only where all of it fits: every slot that the optimizer keeps of a variable, for most of the variables.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tfstrip_core.codecs.meta_graph import MetaGraph
from tfstrip_core.containers.checkpoints import graph_slots
from tfstrip_core.containers.checkpoints.slot_names import (
    AVERAGE,
    BETA_POWER,
    SLOTS,
    WITH_POWERS,
    any_power,
    base_of,
    known,
    number_of,
    relation,
)
from tfstrip_core.inventory import Finding, Role, Tensor

Parts = Mapping[str, tuple[object, ...]]
Family = tuple[str, str]  # the scope before the variables' names, the optimizer's name behind them
_ROLES: Mapping[str, Role] = {
    "TFS101": "optimizer", "TFS103": "counter", "TFS106": "average", "TFS107": "undecided", "TFS108": "undecided",
}  # fmt: skip


_POWERS = "beta_power"  # the subject of powers of beta that are in doubt
_LONGEST = 4096  # a longer key is nobody's slot


def judge(
    tensors: Sequence[Tensor], graph: MetaGraph | None, parts: Parts | None = None
) -> tuple[dict[str, Role], list[Finding]]:
    """Return the role of each key and the findings of a checkpoint's `tensors`, whose names are its keys.

    `graph` is that of its .meta file. `parts` has the slices of each partitioned variable, which a tensor of another
    division is no copy of. No key is in two findings, and no two findings have one subject.
    """
    judged = {tensor.name: tensor for tensor in tensors if len(tensor.name) <= _LONGEST}
    found = _Judgement(judged, graph, parts or {})
    found.counters()
    found.proven()
    found.families()
    found.averages()
    found.twins()
    found.shadows()
    findings = found.findings()
    roles: dict[str, Role] = {tensor.name: "weight" for tensor in tensors}
    roles.update((name, _ROLES[finding.rule]) for finding in findings for name in finding.tensors)
    return roles, findings


class _Judgement:
    """What is known so far: `covered` are the keys that a finding has."""

    def __init__(self, tensors: Mapping[str, Tensor], graph: MetaGraph | None, parts: Parts) -> None:
        self.tensors = tensors
        self.parts = parts
        self.proof = graph_slots.prove(graph, tensors) if graph else graph_slots.Proof()
        self.covered: dict[str, tuple[str, Family]] = {}  # key -> rule, family
        self.pairs: dict[str, str] = {}  # average -> weight
        self.owners: set[str] = set()  # keys that have slots: trained, whatever they are called
        self.copies = dict(self._copies())

    def _copies(self) -> Iterator[tuple[str, tuple[str, str, str]]]:
        """Yield the keys that are called [scope/]X/S where X is a key of the same shape: key, (X, scope, S)."""
        for key, tensor in self.tensors.items():
            if key in self.proof.trained or not tensor.shape or not tensor.dtype.startswith(("float", "bfloat")):
                continue
            primary = self._primary(key, tensor)
            if primary:
                yield key, (primary, *relation(key, primary))

    def _primary(self, key: str, tensor: Tensor) -> str:
        words = key.split("/")
        ends = [len(words) - 1]
        if len(words) > 2 and words[-2].startswith("t_") and words[-2][2:].isdigit():
            ends.append(len(words) - 2)
        for start in range(min(len(words) - 1, 32)):
            for end in ends:
                primary = "/".join(words[start:end])
                if primary and primary in self.tensors and self._alike(tensor, self.tensors[primary]):
                    return primary
        return ""

    def _alike(self, one: Tensor, other: Tensor) -> bool:
        same = (one.shape, one.dtype) == (other.shape, other.dtype)
        return same and self.parts.get(one.name, ()) == self.parts.get(other.name, ())

    def _cover(self, keys: Iterable[str], rule: str, family: Family) -> None:
        for key in keys:
            self.covered.setdefault(key, (rule, family))

    def counters(self) -> None:
        """Find the global steps: whole numbers, called so or collected as such by the graph."""
        for key, tensor in self.tensors.items():
            named = key.rpartition("/")[2] == "global_step"
            if not tensor.shape and tensor.dtype.startswith(("int", "uint")) and (named or key in self.proof.counters):
                self._cover([key], "TFS103", ("", key))

    def proven(self) -> None:
        """Take over what the graph proves."""
        for key, family in (*self.proof.slots.items(), *self.proof.scalars.items()):
            self._cover([key], "TFS101", family)

    def families(self) -> None:
        """Find the slots that no graph speaks of: those that fit an optimizer in number, shape and name."""
        free = {
            key: copy for key, copy in self.copies.items() if key not in self.covered and key not in self.proof.known
        }
        held: dict[tuple[str, str, str], set[str]] = defaultdict(set)
        for key, (primary, scope, suffix) in free.items():
            if known(suffix):
                held[primary, scope, base_of(suffix)].add(key)
        whole = {owner: keys for owner, keys in held.items() if self._is_whole(owner[2], keys)}
        # What has slots itself is trained. Then its own name says nothing, and what is beside it is in doubt.
        self.owners |= {primary for primary, _, _ in whole}
        whole = {owner: keys for owner, keys in whole.items() if not keys & self.owners}
        slots = {key for keys in whole.values() for key in keys}
        others = [
            key
            for key, tensor in self.tensors.items()
            if tensor.shape and tensor.dtype.startswith(("float", "bfloat")) and key not in slots
            and (key not in self.copies or key in self.owners) and key not in self.covered
        ]  # fmt: skip
        fits = 2 * sum(key in self.owners or key in self.proof.trained for key in others) >= len(others)
        families: dict[Family, list[str]] = defaultdict(list)
        for (_, scope, base), keys in whole.items():
            families[scope, base] += sorted(keys)
        powers = any_power(self.tensors)
        for family, slots_of in families.items():
            fits_powers = powers or family[1] not in WITH_POWERS
            sure = fits and fits_powers and others and (len(slots_of) > 1 or len(others) == 1)
            self._cover(slots_of, "TFS101" if sure else "TFS107", family)
        self._powers(families)

    @staticmethod
    def _is_whole(base: str, keys: Iterable[str]) -> bool:
        """Return whether these are all the slots that one or more optimizers of a name keep of one variable."""
        numbers = sorted(number_of(key) for key in keys)
        return numbers == list(range(len(numbers))) and any(len(numbers) % count == 0 for count in SLOTS[base])

    def _powers(self, families: Iterable[Family]) -> None:
        """Give the powers of beta to an optimizer of their scope that has any; without one they prove nothing."""
        having = {family[0]: family for family in sorted(families, reverse=True) if family[1] in WITH_POWERS}
        rules = {family: rule for rule, family in self.covered.values()}
        for key in self._loose_powers():
            family = having.get(key.rpartition("/")[0])
            if family:
                self._cover([key], rules[family], family)

    def _loose_powers(self) -> list[str]:
        return [
            key
            for key, tensor in self.tensors.items()
            if BETA_POWER.fullmatch(key.rpartition("/")[2]) and not tensor.shape
            and tensor.dtype.startswith(("float", "bfloat"))
            and key not in self.covered and key not in self.proof.known
        ]  # fmt: skip

    def averages(self) -> None:
        """Find the averages of weights: by the graph's collection, or by the name that their class gives them."""
        found = {
            key: primary
            for key, primary in self.proof.beside.items()
            if primary in self.proof.averaged and not known(relation(key, primary)[1])
        }
        found |= {key: primary for key, (primary, _, suffix) in self.copies.items() if AVERAGE.fullmatch(suffix)}
        for key, primary in found.items():
            if key not in self.covered and primary not in self.covered:
                scope, suffix = relation(key, primary)
                self._cover([key], "TFS106", (scope, base_of(suffix)))
                self.pairs[key] = primary

    def twins(self) -> None:
        """Find the other copies of weights, which may be anything: targets, averages, slots of an unknown optimizer."""
        families: dict[Family, dict[str, str]] = defaultdict(dict)
        for key, (primary, scope, suffix) in self.copies.items():
            if not (key in self.covered or key in self.owners or primary in self.covered):
                families[scope, base_of(suffix)][key] = primary
        for key, primary in self.proof.beside.items():
            if key not in self.covered and key not in self.proof.trained and primary not in self.covered:
                scope, suffix = relation(key, primary)
                families[scope, base_of(suffix)][key] = primary
        copies = {key for keys in families.values() for key in keys}
        weights = self._weights() - copies
        strong = []
        for family, keys in sorted(families.items()):
            most = len(keys) > 1 and 2 * len(set(keys.values())) >= len(weights) and family[1] != "biased"
            if most or any(key in self.proof.beside for key in keys):
                strong.append(family)
            self._cover(sorted(keys), "TFS107" if family in strong[-1:] else "TFS108", family)
        if strong and not any(rule == "TFS101" and family[1] in WITH_POWERS for rule, family in self.covered.values()):
            self._cover(self._loose_powers(), "TFS107", strong[0])
        # Beside an optimizer that has such, those of another scope may be its own: a name_scope is not in slots' names.
        if any(rule == "TFS101" and family[1] in WITH_POWERS for rule, family in self.covered.values()):
            for key in self._loose_powers():
                self._cover([key], "TFS108", (key.rpartition("/")[0], _POWERS))

    def shadows(self) -> None:
        """Find a second set of all weights under a scope: traces, targets, an abandoned copy; or the model itself."""
        weights = self._weights() - self.proof.trained - self.owners
        scopes: dict[str, list[str]] = defaultdict(list)
        for key in sorted(weights):
            words = key.split("/")
            for start in range(1, min(len(words), 32)):
                other = "/".join(words[start:])
                if other in self.tensors and self._alike(self.tensors[key], self.tensors[other]):
                    scopes["/".join(words[:start])].append(key)
                    break
        rest = self._weights() - {key for keys in scopes.values() for key in keys}
        inside = Counter(scope for key in rest for scope in self._scopes(key))
        for scope, keys in sorted(scopes.items()):
            if len(keys) > 1 and len(keys) == len(rest) - inside[scope]:
                self._cover(keys, "TFS108", ("", scope))

    @staticmethod
    def _scopes(key: str) -> list[str]:
        words = key.split("/")
        return ["/".join(words[:start]) for start in range(1, min(len(words), 32))]

    def _weights(self) -> set[str]:
        """Return the keys with at least one dimension that no finding has."""
        return {key for key, tensor in self.tensors.items() if tensor.shape and key not in self.covered}

    def findings(self) -> list[Finding]:
        """Return what was found, one finding for each rule and optimizer."""
        groups: dict[tuple[str, Family], list[str]] = defaultdict(list)
        for key, (rule, family) in self.covered.items():
            groups[rule, family].append(key)
        names = Counter(name for _, (_, name) in groups)
        taken: set[str] = set()
        found = []
        for (rule, (scope, name)), keys in sorted(groups.items()):
            keys.sort()
            alone = names[name] == 1
            choices = [name if alone else f"{scope}/{name}".removeprefix("/"), f"{scope}/{name}", keys[0]]
            subject = next(choice for choice in (*choices, f"{rule} {name}") if choice not in taken)
            taken.add(subject)
            size = sum(self.tensors[key].bytes for key in keys)
            message = self._message(rule, name, keys)
            found.append(Finding(rule, subject, size, message, tensors=tuple(keys), pairs=self._paired(rule, keys)))
        return found

    def _paired(self, rule: str, keys: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Return the weights with their averages, where each has one and can take it."""
        if rule != "TFS106":
            return ()
        every = Counter(self.pairs.values())
        sure = all(
            every[self.pairs[key]] == 1 and self._alike(self.tensors[key], self.tensors[self.pairs[key]])
            for key in keys
        )
        return tuple((self.pairs[key], key) for key in keys) if sure else ()

    def _message(self, rule: str, name: str, keys: Sequence[str]) -> str:
        if name == _POWERS:
            return f"{len(keys)} scalars called like an optimizer's, in a scope in which there is none"
        scalars = sum(not self.tensors[key].shape for key in keys)
        counts = [(len(keys) - scalars, "slot"), (scalars, "scalar")]
        said = " and ".join(f"{count} {word}{'' if count == 1 else 's'}" for count, word in counts if count)
        return {
            "TFS101": f"{said} of the optimizer {name}",
            "TFS103": "counts training steps",
            "TFS106": f"averages of {len(keys)} weights",
            "TFS107": f"{len(keys)} copies beside weights, as an optimizer keeps them",
            "TFS108": f"{len(keys)} tensors like weights, which may be one's own training state or needed",
        }[rule]
