"""What files that lie beside each other say of the checkpoints among them; a folder is listed once for all of them.

Imports nothing beyond os: the hook runs this on every staged file.
"""

from __future__ import annotations

import os

from tfstrip_core import containers
from tfstrip_core.errors import TfstripError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

STATE = "checkpoint"  # what TensorFlow calls the file that names the checkpoints beside it
WORKSHOP = ".tfstrip-"  # how the names of the directories begin in which results are built
_HEAD = 512
_NAMED = 3  # so many of several are named in a sentence


class Beside:
    """What a folder's listing says of the models in it: `workshops` of strips, `data` files by checkpoint, `shards`.

    `unused` are the shards, by what they are called after, that the map there does not use; filled where that is asked.
    So are `weights`: the files that TensorFlow.js models there name, each with the JSON files that do. `texts` may be
    such models.
    """

    __slots__ = ("data", "shards", "texts", "unused", "weights", "workshops")

    def __init__(self, folder: str) -> None:
        try:
            names = sorted(os.listdir(folder or "."))
        except OSError:  # a directory may be open to who knows its names
            names = []
        self.workshops = [name for name in names if name.startswith(WORKSHOP)]
        self.data: dict[str, list[str]] = {}
        self.shards: dict[str, list[str]] = {}
        self.unused: dict[str, list[str]] = {}
        self.texts = [name for name in names if name.endswith(".json")]
        self.weights: dict[str, list[str]] | None = None
        for name in names:
            base = of_data_file(name)
            if base is not None:
                self.data.setdefault(base, []).append(name)
            base = of_shard(name)
            if base is not None:
                self.shards.setdefault(base, []).append(name)


class Listed(dict[str, Beside]):
    """Folders listed already: once for all the checkpoints in them."""

    def __missing__(self, folder: str) -> Beside:
        self[folder] = Beside(folder)
        return self[folder]


def some(names: Sequence[str]) -> str:
    """Return the first of several names, and how many more there are."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def are_not_here(names: Sequence[str]) -> str:
    """Return several names as the beginning of a sentence that says so."""
    return f"{some(names)}, which {'is' if len(names) == 1 else 'are'} not here"


def near(path: str) -> list[str]:
    """Return what may have been meant by a path that does not exist: the checkpoints or files called most like it."""
    import difflib

    folder, name = os.path.split(path)
    try:
        names = os.listdir(folder or ".")
    except OSError:
        return []
    prefixes = {without_ending(other) for other in names if other.endswith(".index")} - {""}
    files = {other for other in names if without_ending(other) == other}
    base = without_ending(name)
    found = sorted(prefix for prefix in prefixes if base and prefix.startswith(base))
    found = found or difflib.get_close_matches(base, sorted(prefixes | files), _NAMED, 0.8)
    return [os.path.join(folder, other) for other in found]


def without_ending(name: str) -> str:
    """Return the name of the checkpoint that a file belongs to by its name, or that name."""
    base = of_data_file(name)
    return name.removesuffix(".index").removesuffix(".meta") if base is None else base


def is_graph(path: str) -> bool:
    """Return whether this may be a .meta file of TensorFlow's: Unity has text files of such names."""
    if not os.path.isfile(path):
        return False
    with open(path, "rb") as file:
        head = file.read(512)
    return head.startswith(b"\n") and b"\0" in head


def is_named(path: str) -> bool:
    """Return whether the state file beside it names this file."""
    folder, name = os.path.split(path)
    if name == STATE or not os.path.isfile(os.path.join(folder, STATE)):
        return False
    from tfstrip_core.containers.checkpoints import checkpoint_state

    state = checkpoint_state.read(folder)
    return state is not None and name in map(checkpoint_state.base, checkpoint_state.names(state))


def of_data_file(name: str) -> str | None:
    """Return the name of the checkpoint whose data file is called `name`, if that is one."""
    base, mark, numbers = name.rpartition(".data-")
    parts = numbers.split("-of-")
    whole = mark and len(parts) == 2 and all(len(part) >= 5 and part.isascii() and part.isdigit() for part in parts)
    return base if whole else None


def of_shard(name: str) -> str | None:
    """Return the name of the sharded weights of which a file called `name` is one, if that is one."""
    base, mark, number = name.removesuffix(".weights.h5").rpartition("_")
    whole = mark and name.endswith(".weights.h5") and len(number) >= 5 and number.isascii() and number.isdigit()
    return base if whole else None


def is_half_replaced(folder: str, base: str, listed: Listed) -> bool:
    """Return whether an interrupted strip left something to do to the checkpoint `base`."""
    for name in listed[folder].workshops:
        from tfstrip_core import journal

        if journal.is_unfinished(os.path.join(folder, name), base):
            return True
    return False


def left_over(folder: str, base: str, listed: Listed) -> tuple[str, ...]:
    """Return what to say of data files of the checkpoint's name that its index does not use."""
    names = listed[folder].data.get(base, [])
    if all(name.endswith(f"-of-{len(names):05d}") for name in names):
        return ()
    return not_used("index", _unused(containers.CHECKPOINT, os.path.join(folder, base), names))


def model_of_weights(path: str, listed: Listed) -> str | None:
    """Return the JSON of the TensorFlow.js model that has the file of weights at `path`, beside it or one folder up."""
    folder, name = os.path.split(path)
    if not listed[folder].texts and not listed[os.path.dirname(folder)].texts:
        return None
    if not _is_binary(path):
        return None
    named = models_with(folder, name, listed)
    if named:
        return os.path.join(folder, named[0])
    above, inner = os.path.split(folder)
    named = models_with(above, f"{inner}/{name}", listed) if inner else []
    return os.path.join(above, named[0]) if named else None


def _is_binary(path: str) -> bool:
    """Return whether a file may hold numbers: text does not, whatever lies beside it."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return path.endswith(".bin") or b"\0" in head or not head.isascii()


def models_with(folder: str, name: str, listed: Listed) -> list[str]:
    """Return the names of the TensorFlow.js models in a folder that have the file of weights `name`."""
    return _weights(folder, listed).get(name, [])


def model_that_had(path: str, listed: Listed) -> str | None:
    """Return the JSON beside a file that is gone, of the TensorFlow.js model whose files are called most like it."""
    folder, name = os.path.split(path)
    weights = _weights(folder, listed) if name.endswith(".bin") else {}
    nearest = max(weights, key=lambda file: _alike(file, name), default=None)
    return None if nearest is None else os.path.join(folder, weights[nearest][0])


def _alike(one: str, other: str) -> int:
    """Return how many characters two names begin with alike."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (left, right) in pairs if left != right), min(len(one), len(other)))


def _weights(folder: str, listed: Listed) -> dict[str, list[str]]:
    """Return the files that the TensorFlow.js models in a folder name, each with the names of the JSON that do."""
    there = listed[folder]
    if there.weights is None:
        there.weights = {}
        for text in there.texts:
            path = os.path.join(folder, text)
            try:
                if not os.path.isfile(path) or containers.recognise(path) != containers.TFJS:
                    continue
                from tfstrip_core.containers.tfjs import manifest

                for file in manifest.read(path).files:
                    there.weights.setdefault(file, []).append(text)
            except (TfstripError, OSError):
                continue  # whoever reads it will say so
    return there.weights


def left_shards(folder: str, base: str, listed: Listed) -> list[str]:
    """Return the files that are called like those of the sharded weights `base`, and that their map does not use."""
    there = listed[folder]
    if base not in there.unused:
        names = there.shards.get(base, [])
        there.unused[base] = _unused(containers.KERAS_SHARDS, os.path.join(folder, base), names)
    return there.unused[base]


def _unused(kind: str, path: str, names: Sequence[str]) -> list[str]:
    base = os.path.basename(path)
    try:
        used = {base + ending for ending in containers.container(kind).endings(path)}
    except (TfstripError, OSError):
        return []  # whoever reads it will say so
    return [name for name in names if name not in used]


def not_used(what: str, left: Sequence[str]) -> tuple[str, ...]:
    """Return what to say of files that are called like a model's, and that its index or map (`what`) does not use."""
    verb = "is no part of it and stays as it is" if len(left) == 1 else "are no part of it and stay as they are"
    return (f"its {what} does not use {some(left)}, which {verb}",) if left else ()
