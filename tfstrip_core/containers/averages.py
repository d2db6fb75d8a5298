"""Averages of the weights (EMA, SWA, Lookahead): never thrown away unseen, for they may be what is to be served.

`fit()` copies an exponential moving average into the weights at its end, so that after it the two are equal bit
for bit; a file saved in the middle of training holds two different models.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tfstrip_core.codecs.hdf5 import Dataset, Tree
from tfstrip_core.codecs.window import same
from tfstrip_core.containers import keras_config
from tfstrip_core.containers.optimizer_groups import Group, groups, state
from tfstrip_core.containers.trainables import trainables
from tfstrip_core.inventory import Contents, Finding, Inventory, Part, Tensor

_NAMED = re.compile(r"/(average|slow)(_\d+)?(:0)?(/|$)|_average(_\d+)?(:0)?$")
_UNSEEN = "averages of the weights, which may differ from them: strip compares the two, and asks if they do"
_DIFFERS = "averages of the weights that differ from the weights"
_ALIKE = "slots whose values point the same way as the weights: they may be averages of them"
_APPLIED = "averages of the weights, equal to the weights bit for bit"

# A slot counts as alike from this cosine on, over this many leading elements; smaller arrays prove nothing.
_COSINE, _SAMPLE, _LEAST = 0.9, 16_384, 8

# Slots per weight that each class keeps besides its averages.
_SLOTS = {"adam": 2, "adamw": 2, "adamax": 2, "adadelta": 2, "adagrad": 1, "ftrl": 2, "lion": 1, "lamb": 2}


def split_by_name(finding: Finding, tree: Tree, averaging: bool) -> Iterator[Finding]:
    """Split an optimizer finding of a legacy HDF5 file into averages (TFS106) and the rest.

    Names may only protect: a slot called `average` or `slow` is an average, and where the config says that there
    are averages and no name tells which, every slot may be one.
    """
    arrays = [tree.datasets[name] for name in finding.tensors if tree.datasets[name].shape]
    named = [dataset for dataset in arrays if _NAMED.search(dataset.name)]
    yield from _split(finding, arrays, named or (arrays if averaging else []), _pairs_by_name(named, tree))


def _pairs_by_name(found: Sequence[Dataset], tree: Tree) -> tuple[tuple[str, str], ...]:
    """Return (weight, average) for all of `found`, or () unless every one has exactly one weight to its name."""
    weights: dict[str, set[str]] = {}
    for name in tree.datasets:
        parts = name.split("/")
        if parts[0] == "model_weights":
            for start in range(1, len(parts)):
                weights.setdefault(_flat("/".join(parts[start:])), set()).add(name)
    pairs = []
    for dataset in found:
        flat = _flat(dataset.name.split("/", 2)[-1])
        candidates = weights.get(re.sub(r"_(average|slow)(_\d+)?$", "", flat), set()) | weights.get(
            re.sub(r"^(average|slow)(_\d+)?_", "", flat), set()
        )
        if len(candidates) != 1:
            return ()
        weight = tree.datasets[next(iter(candidates))]
        if (weight.shape, weight.dtype) != (dataset.shape, dataset.dtype):
            return ()
        pairs.append((weight.name, dataset.name))
    return tuple(pairs) if len({weight for weight, _ in pairs}) == len(pairs) else ()


def _flat(name: str) -> str:
    return re.sub(r":0$", "", name).replace("/", "_")


def split_by_config(finding: Finding, tree: Tree, config: Any) -> Iterator[Finding]:
    """Split an optimizer finding of a .keras file into averages (TFS106) and the rest, as compile_config has it.

    With `use_ema` the averages come first among the slots, one for each trainable weight in order. They are told
    from the other slots where the optimizer's class says how many of those there are, and paired with weights
    where the model's config says which weights are trainable; else every slot may be an average.
    """
    if finding.rule != "TFS101":
        yield replace(finding, opaque=True)
        return
    prefix = finding.subject.removesuffix("optimizer")
    model = keras_config.owner(config, prefix.rstrip("/")) or {}
    compile_config = model.get("compile_config")
    named = list(keras_config.optimizers(compile_config))
    finding = replace(finding, opaque=keras_config.is_opaque(compile_config))
    if not keras_config.uses_averages(compile_config):
        yield finding
        return
    found = groups(tree)
    inner = [f"{finding.subject}/{name}" for name in ("inner_optimizer", "_optimizer")]
    group = next((found[path] for path in (*inner, finding.subject) if path in found), None)
    arrays = [tree.datasets[name] for name in finding.tensors if tree.datasets[name].shape]
    block = _block(group, named) if group and len(named) == 1 else None
    if block is None:
        yield from _split(finding, arrays, arrays, ())
        return
    weights = [tree.datasets[name] for name in trainables(tree, model, prefix) or ()]
    fits = [(d.shape, d.dtype) for d in weights] == [(d.shape, d.dtype) for d in block]
    pairs = tuple((w.name, a.name) for w, a in zip(weights, block, strict=True)) if fits else ()
    yield from _split(finding, arrays, block, pairs)


def _block(group: Group, named: Sequence[tuple[str, dict[str, Any], bool]]) -> tuple[Dataset, ...] | None:
    """Return the averages among a group's slots, or None where the class does not say how many there are."""
    name, config, own = named[0]
    if not own or config.get("gradient_accumulation_steps"):
        return None
    each = 1 + _slots(name.lower(), config)
    slots = [dataset for dataset in group.slots if dataset.shape]
    if each < 1 or len(slots) != len(group.slots) or len(slots) % each:
        return None
    return tuple(slots[: len(slots) // each])


def _slots(name: str, config: dict[str, Any]) -> int:
    """Return how many slots per weight an optimizer keeps; -9 where its class is not known well enough."""
    if name == "sgd":
        return int(bool(config.get("momentum")))
    if name == "rmsprop":
        return 1 + bool(config.get("momentum")) + bool(config.get("centered"))
    return _SLOTS.get(name, -9) + bool(config.get("amsgrad"))


def _split(
    finding: Finding, held: Sequence[Dataset], found: Sequence[Dataset], pairs: tuple[tuple[str, str], ...]
) -> Iterator[Finding]:
    """Yield the finding without the averages `found` among the arrays that it holds, and a TFS106 for these."""
    arrays = {dataset.name for dataset in held}
    names = tuple(dataset.name for dataset in found)
    sizes = sum(dataset.bytes for dataset in found)
    rest = tuple(name for name in finding.tensors if name not in set(names))
    if not names:
        yield finding
    elif rest:
        slots = sum(1 for name in rest if name in arrays)
        yield replace(finding, tensors=rest, bytes=finding.bytes - sizes, message=state(slots, len(rest) - slots))
    if names:
        yield replace(finding, rule="TFS106", tensors=names, bytes=sizes, message=_UNSEEN, pairs=pairs, opaque=False)


def needs_values(finding: Finding, also: Collection[str]) -> bool:
    """Return whether what happens to the finding depends on the values of its tensors."""
    leaves = finding.rule == "TFS101" or finding.subject in also
    return finding.rule == "TFS106" or (finding.opaque and leaves and bool(finding.tensors))


def settle(inventory: Inventory, parts: Contents, also: Collection[str]) -> Iterator[Finding]:
    """Yield the findings with averages told apart by their values, which may only protect.

    Averages that equal the weights bit for bit were applied already: optimizer state. State of an optimizer
    class that is not the framework's own is sampled: where most weights have a slot that points the same way as
    they do, those slots may be averages (TFS106).
    """
    for finding in inventory.findings:
        if finding.rule == "TFS106" and _applied(finding, inventory, parts):
            yield replace(finding, rule="TFS101", message=_APPLIED)
        elif finding.rule == "TFS106":
            yield replace(finding, message=_DIFFERS)
        elif needs_values(finding, also):
            alike = _alike(finding, inventory, parts)
            sizes = {tensor.name: tensor.bytes for tensor in inventory.tensors}
            rest = tuple(name for name in finding.tensors if name not in alike)
            yield replace(finding, tensors=rest, bytes=sum(sizes[name] for name in rest))
            if alike:
                total = sum(sizes[name] for name in alike)
                yield replace(finding, rule="TFS106", tensors=tuple(sorted(alike)), bytes=total, message=_ALIKE)
        else:
            yield finding


def _applied(finding: Finding, inventory: Inventory, parts: Contents) -> bool:
    if finding.pairs:
        return all(same(parts["tensor", a].blocks(), parts["tensor", b].blocks()) for a, b in finding.pairs)
    weights = [tensor for tensor in inventory.tensors if tensor.role == "weight"]
    held = Counter(_digest(parts["tensor", tensor.name]) for tensor in weights)
    return Counter(_digest(parts["tensor", name]) for name in finding.tensors) <= held


def _digest(part: Part) -> bytes:
    from hashlib import blake2b  # loads OpenSSL, which check has no use for

    digest = blake2b(part.kind.encode())
    for block in part.blocks():
        digest.update(block)
    return digest.digest()


def _alike(finding: Finding, inventory: Inventory, parts: Contents) -> set[str]:
    """Return the finding's tensors that look like averages, if most of the weights have such a twin.

    Matrices are judged where there are any: biases start at zero, so that a momentum points their way too.
    """
    mine = set(finding.tensors)
    slots = [(t, _sample(t, parts)) for t in inventory.tensors if t.name in mine and t.shape]
    shapes = {slot.shape for slot, _ in slots}
    weights = [t for t in inventory.tensors if t.role == "weight" and t.shape in shapes]
    twins: set[str] = set()
    judged = found = 0
    for tensor in [t for t in weights if len(t.shape) > 1] or weights:
        values = _sample(tensor, parts)
        if values is None or not values.any():
            continue
        judged += 1
        near = {s.name for s, other in slots if s.shape == tensor.shape and _cosine(values, other) >= _COSINE}
        twins |= near
        found += bool(near)
    return twins if judged and found * 2 >= judged else set()


def _sample(tensor: Tensor, parts: Contents) -> np.ndarray[Any, Any] | None:
    """Return the tensor's leading elements as float64, None where they are too few or no real numbers."""
    raw = next(parts["tensor", tensor.name].blocks(), b"")
    if tensor.dtype == "bfloat16":
        values = (np.frombuffer(raw[: len(raw) // 2 * 2], "<u2").astype("<u4") << 16).view("<f4")
    elif tensor.dtype in ("float16", "float32", "float64"):
        width = int(tensor.dtype[5:]) // 8
        values = np.frombuffer(raw[: len(raw) // width * width], f"<f{width}")
    else:
        return None
    values = values[:_SAMPLE].astype(np.float64)
    return values if len(values) >= _LEAST and np.isfinite(values).all() else None


def _cosine(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any] | None) -> float:
    if right is None:
        return 0.0
    scale = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right) / scale if scale else 0.0
