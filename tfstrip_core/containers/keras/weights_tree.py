"""What Keras's `save_weights` writes since 2.12 (`.weights.h5`): the object tree of a `.keras` file, and no config.

Nothing in such a file says that a model was compiled. That `optimizer` of the whole model is one is proven by the form
of its state together with what Keras itself called it (3.6 and later write that), or with slots that mirror many
weights; further inside, where a layer can pass for a model, by both, as far as there are names.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from tfstrip_core.codecs.hdf5 import Dataset, Tree
from tfstrip_core.containers.keras import keras_config, optimizer_groups
from tfstrip_core.containers.keras.optimizer_groups import LAYER_LISTS, Group
from tfstrip_core.inventory import Finding

_OPTIMIZER = "optimizer"  # where a model keeps its own
# The most slots per weight that any optimizer keeps: Adam's two, amsgrad's, an average, an accumulator of gradients.
_MOST = 5
# A layer may look like an optimizer and have an array of a weight's shape, perhaps two; not four that mirror weights.
_ENOUGH = 4


def may_be(children: Iterable[str]) -> bool:
    """Return whether a file whose root has these children is worth a look at all its names."""
    found = list(children)
    return found == [_OPTIMIZER] or any(name == "vars" or _is_listed(name) for name in found)


def is_object_tree(names: Iterable[str]) -> bool:
    """Return whether a file with links of these names holds variables by object paths as Keras writes them.

    That is `P/vars/0..n-1` for an object P, beside `vars` at the root, or in one of Keras's lists of layers where the
    root has none; or it is one of several files, in which an optimizer goes on. A scientific file may well have a group
    `vars`, or `layers`.
    """
    owners: dict[str, set[str]] = defaultdict(set)
    rooted = False
    every = list(names)
    if _are_optimizers(every):
        return True
    for name in every:
        rooted |= name == "vars"
        path, found, variable = f"/{name}".rpartition("/vars/")
        if found:
            owners[path[1:]].add(variable)
    numbered = [path for path, held in owners.items() if held == {str(place) for place in range(len(held))}]
    if rooted:
        return bool(numbered) or any(_is_listed(path) for path in owners)
    return any(_is_listed(path) for path in numbered)


def _are_optimizers(names: list[str]) -> bool:
    """Return whether all names are of an optimizer at the root and of its variables, whichever of them."""
    held = re.compile(rf"{_OPTIMIZER}(/.+)?/vars/[0-9]+")
    return all(f"{name}/".startswith(f"{_OPTIMIZER}/") for name in names) and any(map(held.fullmatch, names))


def _is_listed(path: str) -> bool:
    return re.split(r"[/\\]", path)[0] in LAYER_LISTS


def writer(tree: Tree) -> str:
    """Return what is known of the Keras that wrote a tree: only Keras 2 keeps `metrics`, a property of every model."""
    return "Keras 2" if {"metrics", "_layer_checkpoint_dependencies"} & tree.groups else "Keras"


def findings(tree: Tree, title: Callable[[str], str]) -> Iterator[Finding]:
    """Yield TFS101, TFS102, TFS107 and TFS108 for a tree without any config.

    `title(path)` reads the `name` attribute of `path/vars`, "" if absent. What is found of optimizers is opaque:
    SGD that averages weights has the very slots of SGD with momentum, and only their values tell the two apart.
    """
    found = optimizer_groups.groups(tree)
    if not found and _are_optimizers([*(tree.groups - {""}), *tree.datasets]):
        yield optimizer_groups.going_on(_OPTIMIZER, list(tree.datasets.values()))
        return
    state = {dataset.name for group in found.values() for dataset in group.datasets}
    weights = Counter(d.shape for name, d in tree.datasets.items() if d.shape and name not in state and _is_real(d))
    owned = sorted(path for path in found if _is_models(tree, path) and _is_proven(tree, path, found, title, weights))
    for finding in optimizer_groups.findings(tree, owned, title):
        yield replace(finding, opaque=True)
    if writer(tree) == "Keras 2":
        yield from optimizer_groups.metric_lists(tree, lambda path: _is_model(tree, path) and _are_metrics(tree, path))


def _is_models(tree: Tree, path: str) -> bool:
    """Return whether `path` is where a model keeps its optimizer."""
    head, _, last = path.rpartition("/")
    return last == "optimizer" and _is_model(tree, head)


def _is_model(tree: Tree, path: str) -> bool:
    """Return whether the object at `path` is a model: the root, or an object with a list of layers of its own."""
    return not path or any(f"{path}/{name}" in tree.groups for name in LAYER_LISTS)


def _is_proven(
    tree: Tree, path: str, found: dict[str, Group], title: Callable[[str], str], weights: Counter[tuple[int, ...]]
) -> bool:
    name = title(path)
    named = optimizer_groups.class_word(name) in keras_config.OPTIMIZERS
    copies = max(_copies(group, weights) for group in found.values() if optimizer_groups.is_member(path, group.path))
    # One copy of each weight may be a teacher's, but for models that keep metrics: compile() has put its own there.
    compiled = copies > 1 or (copies > 0 and path.removesuffix("optimizer") + "metrics" in tree.groups)
    if path == "optimizer":
        # Keras that writes names (3.6) writes all layers of the whole model first, under `layers`; Keras 2 does not.
        return named or compiled or (copies > 0 and name != "")
    # Elsewhere a layer of the user's may pass for a model, with a list called layers.
    return copies > 0 and named if name else compiled


def _copies(group: Group, weights: Counter[tuple[int, ...]]) -> int:
    """Return how many arrays, the same for each, a group's slots have for some of the weights; 0 if others as well."""
    slots = Counter(slot.shape for slot in group.slots if slot.shape and _is_real(slot))
    if slots.total() < _ENOUGH or slots.total() != sum(1 for slot in group.slots if slot.shape):
        return 0
    fits = (
        all(count % each == 0 and count // each <= weights[shape] for shape, count in slots.items())
        for each in range(1, _MOST + 1)
    )
    return next((each for each, fit in enumerate(fits, 1) if fit), 0)


def _is_real(dataset: Dataset) -> bool:
    return dataset.dtype.startswith(("float", "bfloat"))


def _are_metrics(tree: Tree, path: str) -> bool:
    """Return whether every member of `path`/metrics keeps what metrics do: vectors, or one square matrix."""
    for owner, held in optimizer_groups.variables(tree).items():
        if owner.startswith(f"{path}/metrics/".lstrip("/")):
            wide = [dataset.shape for dataset in held if len(dataset.shape) > 1]
            if wide and (len(held) > 1 or len(set(wide[0])) > 1):
                return False
    return True
