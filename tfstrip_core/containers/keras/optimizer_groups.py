"""Finding optimizers and metrics in the object tree of a Keras 3 style HDF5 file, by structure.

The levels: A is certain (the model's own optimizer, and its config says that it was compiled), B has strong
evidence, C has only the pattern. The pattern alone is not safe: a vector-quantising layer whose weights are a
step counter, a scale and a codebook looks exactly like an optimizer, and inference needs it.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tfstrip_core.codecs.hdf5 import Dataset, Tree
from tfstrip_core.containers.keras import keras_config
from tfstrip_core.inventory import Finding

LAYER_LISTS = ("layers", "_layer_checkpoint_dependencies")
# Where a wrapper (loss scaling, several optimizers) keeps the optimizers that it wraps.
_INNER = re.compile(r"(/(inner_optimizer|_optimizer|optimizers/[^/]+))*")


@dataclass(frozen=True, slots=True)
class Group:
    """A path P whose `P/vars` holds datasets 0..n-1, the first one an integer scalar: the optimizer's pattern.

    `header` is how many scalars come before the slots: the step counter, and the learning rate in Keras 3.
    """

    path: str
    datasets: tuple[Dataset, ...]
    header: int

    @property
    def slots(self) -> tuple[Dataset, ...]:
        """What follows the header: slots and averages, in the optimizer's own order."""
        return self.datasets[self.header :]


def variables(tree: Tree) -> dict[str, tuple[Dataset, ...]]:
    """Return the datasets directly under `P/vars` for every P, in numeric order where all names are numbers."""
    by_owner: dict[str, list[Dataset]] = defaultdict(list)
    for name, dataset in tree.datasets.items():
        parent, _, _ = name.rpartition("/")
        head, _, last = parent.rpartition("/")
        if last == "vars":
            by_owner[head].append(dataset)
    return {path: tuple(sorted(found, key=_place)) for path, found in by_owner.items()}


def _place(dataset: Dataset) -> tuple[int, str]:
    last = dataset.name.rpartition("/")[2]
    return (int(last) if last.isascii() and last.isdigit() and len(last) < 10 else -1, last)


def pattern(path: str, datasets: tuple[Dataset, ...]) -> Group | None:
    """Return the Group at `path` if it has the optimizer's pattern and may be one at all."""
    parent = path.rpartition("/")[0].rpartition("/")[2]
    numbered = [dataset.name.rpartition("/")[2] for dataset in datasets] == [str(i) for i in range(len(datasets))]
    if not path or parent in LAYER_LISTS or not numbered:
        return None
    if datasets[0].shape != () or not datasets[0].dtype.startswith(("int", "uint")):
        return None
    rate = len(datasets) > 1 and datasets[1].shape == () and datasets[1].dtype.startswith(("float", "bfloat"))
    return Group(path, datasets, 2 if rate else 1)


def groups(tree: Tree) -> dict[str, Group]:
    """Return every group of the tree that has the optimizer's pattern, by path."""
    found = (pattern(path, datasets) for path, datasets in variables(tree).items())
    return {group.path: group for group in found if group}


def optimizer_findings(tree: Tree, config: object, title: Callable[[str], str]) -> Iterator[Finding]:
    """Yield TFS101, TFS107 and TFS108 for the tree of a model with `config`.

    `title(path)` reads the `name` attribute of `path/vars` (Keras 3.6 and later write it), "" if absent.
    """
    yield from findings(tree, sorted(path for path in tree.groups if _is_compiled_models(path, config)), title)


def findings(tree: Tree, owned: list[str], title: Callable[[str], str]) -> Iterator[Finding]:
    """Yield TFS101, TFS107 and TFS108 for a tree in which the paths `owned` are optimizers of compiled models."""
    found = groups(tree)
    for path in owned:
        yield from _of_compiled_model(path, tree, found)
    free = {path: group for path, group in found.items() if not any(f"{path}/".startswith(f"{own}/") for own in owned)}
    shapes = _weight_shapes(tree, found)
    for path in sorted(free):
        if any(path != other and is_member(other, path) for other in free):
            continue
        members = [group for group in free.values() if is_member(path, group.path)]
        state = [dataset for group in members for dataset in group.datasets]
        if _is_supported(members, shapes, title):
            yield _finding("TFS107", path, state, "has the form of an optimizer and its name or place says so too")
        else:
            yield _finding("TFS108", path, state, "has the form of an optimizer, which a layer can have too")


def _of_compiled_model(path: str, tree: Tree, found: dict[str, Group]) -> Iterator[Finding]:
    """Yield TFS101 for what has an optimizer's form in a compiled model's optimizer, TFS107 for the rest in it."""
    members = [group for group in found.values() if is_member(path, group.path)]
    proven = [dataset for group in members for dataset in group.datasets]
    sure = {dataset.name for dataset in proven}
    rest = [d for name, d in tree.datasets.items() if name.startswith(f"{path}/") and name not in sure]
    if proven:
        yield _finding("TFS101", path, proven, _what(members))
    for place in sorted({dataset.name.removeprefix(f"{path}/").partition("/")[0] for dataset in rest}):
        inside = [dataset for dataset in rest if f"{dataset.name}/".startswith(f"{path}/{place}/")]
        yield _finding("TFS107", f"{path}/{place}", inside, "lies inside the optimizer and may be the model's")


def going_on(path: str, datasets: list[Dataset]) -> Finding:
    """Return TFS107 for a file that holds only what lies in the optimizer at `path`, and not where that begins."""
    return _finding("TFS107", path, datasets, "goes on from another file, in the place of an optimizer")


def is_member(root: str, path: str) -> bool:
    """Return whether `path` is the optimizer at `root` or one that it wraps."""
    return path.startswith(root) and _INNER.fullmatch(path[len(root) :]) is not None


def _is_compiled_models(path: str, config: object) -> bool:
    head, _, last = path.rpartition("/")
    if last != "optimizer" or head.rpartition("/")[2] in LAYER_LISTS:
        return False
    entry = keras_config.owner(config, head)
    return entry is not None and entry.get("compile_config") is not None


def _weight_shapes(tree: Tree, found: dict[str, Group]) -> set[tuple[int, ...]]:
    state = {dataset.name for group in found.values() for dataset in group.datasets}
    shapes = {dataset.shape for name, dataset in tree.datasets.items() if name not in state}
    # Adafactor keeps one mean per row and one per column instead of a whole slot.
    return (
        shapes | {shape[:-1] for shape in shapes} | {(*shape[:-2], shape[-1]) for shape in shapes if shape[1:]} | {()}
    )


def _is_supported(members: list[Group], shapes: set[tuple[int, ...]], title: Callable[[str], str]) -> bool:
    slots = [slot for group in members for slot in group.slots]
    if not slots or not all(slot.shape in shapes for slot in slots):
        return False
    # Names may raise a suspicion, never prove one: `g_optimizer`, `optimizers/sgd`, or the name Keras 3.6 keeps.
    words = {word for group in members for word in (*group.path.split("/"), title(group.path))}
    plain = map(class_word, words)
    return any(word in keras_config.OPTIMIZERS or word.endswith("optimizer") for word in plain)


def class_word(name: str) -> str:
    """Return the class that Keras would have named an object after: `adam_w_4` is of class adamw."""
    return re.sub(r"_\d+$", "", name).replace("_", "").lower()


def state(slots: int, scalars: int) -> str:
    """Return what an optimizer's state consists of, in words."""
    parts = [
        f"{count} {name}{'' if count == 1 else 's'}" for count, name in ((slots, "slot"), (scalars, "scalar")) if count
    ]
    return f"{' and '.join(parts) or 'nothing'} of the optimizer"


def _what(members: list[Group]) -> str:
    shapes = [dataset.shape for group in members for dataset in group.datasets]
    copies = ", stored twice by a wrapper" if len(members) > 1 else ""
    return state(sum(map(bool, shapes)), len(shapes) - sum(map(bool, shapes))) + copies


def _finding(rule: str, path: str, datasets: list[Dataset], message: str) -> Finding:
    return Finding(
        rule,
        path,
        sum(dataset.bytes for dataset in datasets),
        message,
        tensors=tuple(dataset.name for dataset in datasets),
        roots=(path,),
    )


def metric_findings(tree: Tree, config: object) -> Iterator[Finding]:
    """Yield TFS102 for the `metrics` of the root model and of nested models, as Keras 2.12 to 2.15 write them."""

    def is_model(path: str) -> bool:
        entry = keras_config.owner(config, path)
        return entry is not None and (not path or bool(keras_config.layers(entry)))

    yield from metric_lists(tree, is_model)


def metric_lists(tree: Tree, is_model: Callable[[str], bool]) -> Iterator[Finding]:
    """Yield TFS102 for the `metrics` of each path that `is_model`, as Keras 2.12 to 2.15 write them.

    There `metrics` is a property of every model and its group by construction the list of metrics; still it goes
    only where all that lies in it looks like accumulators: floating-point, of at most two dimensions.
    """
    held = variables(tree)
    lists = {path.rpartition("/")[0] for path in held if path.rpartition("/")[0].rpartition("/")[2] == "metrics"}
    for path in sorted(lists):
        below = [dataset for name, dataset in tree.datasets.items() if name.startswith(f"{path}/")]
        regular = all(
            re.fullmatch(r"/[^/]+/vars/\d+", dataset.name[len(path) :])
            and dataset.dtype.startswith("float")
            and len(dataset.shape) <= 2
            for dataset in below
        )
        if regular and is_model(path.rpartition("/")[0]):
            yield _finding("TFS102", path, below, f"{len(below)} accumulators of metrics")
