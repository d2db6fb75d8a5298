"""Averages of the weights (EMA, SWA, Lookahead) in Keras's files: told from slots by names, and by the config."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from tfstrip_core.codecs.hdf5 import Dataset, Tree
from tfstrip_core.containers.keras import keras_config
from tfstrip_core.containers.keras.optimizer_groups import Group, groups, state
from tfstrip_core.containers.keras.trainables import trainables
from tfstrip_core.inventory import Finding

_NAMED = re.compile(r"/(average|slow)(_\d+)?(:0)?(/|$)|_average(_\d+)?(:0)?$")
_UNSEEN = "averages of the weights, which may differ from them: strip compares the two, and asks if they do"

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
