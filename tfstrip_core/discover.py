"""From what a user names (files, directories, staged file names) to models, each with what it was recognised as.

Imports nothing beyond os: the hook runs this on every staged file.
"""

from __future__ import annotations

import os
import stat

from tfstrip_core import beside, containers
from tfstrip_core.beside import Listed
from tfstrip_core.errors import NotAModel, Pointer, Refused, TfstripError, Unreadable, Unsupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


# What has several files that each name it.
_SEVERAL = (
    containers.CHECKPOINT,
    containers.TABLE,
    containers.SAVED_MODEL,
    containers.KERAS_DIRECTORY,
    containers.KERAS_SHARDS,
    containers.TFJS,
    containers.POINTER,
)


class Found:
    """One candidate: `path` as the user knows it, `file` where its bytes are, `kind` from containers.recognise.

    A checkpoint's `file` is its prefix, and its `path` too unless that has no name. `stored` says that the bytes are
    an LFS object's. `error` says why there is nothing to read (absent, pointer, unsupported); kind "" is no model.
    `notes` are what the user should know besides.
    """

    __slots__ = ("error", "file", "kind", "notes", "path", "stored")

    def __init__(
        self,
        path: str,
        kind: str,
        file: str | None = None,
        error: TfstripError | None = None,
        stored: bool = False,
        notes: tuple[str, ...] = (),
    ) -> None:
        self.path = path
        self.kind = kind
        self.file = path if file is None else file
        self.error = error
        self.stored = stored
        self.notes = notes


def discover(paths: Iterable[str]) -> Iterator[Found]:
    """Yield what each path names: itself, or for a directory that is no model every model below it.

    A directory is walked in sorted order, without .git and without following symlinks; what is no model in it is
    left out, and a directory without any model is one candidate of kind "". A directory that is one may hold others.
    """
    seen: set[str] = set()  # one checkpoint may be named by each of its files
    listed = Listed()
    for path in paths:
        if is_plain_directory(path):
            several = list(_walk(path, listed)) or [Found(path, "")]
        else:
            several = _of_state_file(path, listed)[0] or [look(path, listed)]
            several += [twin for found in several for twin in _twins(found, listed)]
            if containers.layout(several[0].kind) and os.path.isdir(path):
                several += _walk(path, listed)
        for found in several:
            once = os.path.normpath(f"{found.file}.index" if found.kind == containers.CHECKPOINT else found.path)
            if found.kind not in _SEVERAL or once not in seen:
                yield found
            seen.add(once)


def is_plain_directory(path: str) -> bool:
    """Return whether this is a directory that is no model itself, and may hold any number."""
    try:
        return os.path.isdir(path) and not containers.recognise_directory(path, _files(path))
    except (OSError, ValueError):
        return False  # look says why it cannot be read


def _files(folder: str) -> list[str]:
    with os.scandir(folder) as entries:
        return [entry.name for entry in entries if entry.is_file()]


def look(path: str, listed: Listed | None = None) -> Found:
    """Return what one path is, never raising for what the path turns out to be."""
    listed = Listed() if listed is None else listed
    try:
        if os.path.isdir(path):
            kind = containers.recognise_directory(path, _files(path))
            return _directory(path, kind, listed) if kind else Found(path, "", error=_no_single_model(path, listed))
        if not os.path.lexists(path) and os.path.isfile(f"{path}.index"):
            return _look_into(f"{path}.index", listed)
        folder, base = os.path.split(path)
        if not os.path.lexists(path) and base in listed[folder].data:
            return _without_index(folder, base)
        if not stat.S_ISREG(os.stat(path).st_mode):
            return Found(path, "", error=Refused("this is no regular file", "name a file or a directory"))
    except FileNotFoundError as error:
        near = [] if os.path.lexists(path) else beside.near(path)
        meant = f"did you mean {beside.some(near)}?" if near else ""
        return Found(path, "", error=_unreadable(error, meant))
    except (OSError, ValueError) as error:
        return Found(path, "", error=_unreadable(error))
    named, absent = _of_state_file(path, listed)
    if len(named) == 1:
        return named[0]
    found = _look_into(path, listed)
    if found.kind or not (named or absent):
        return found
    if named:
        cause = f"this state file names {len(named)} checkpoints: {beside.some([item.path for item in named])}"
        return Found(path, "", error=NotAModel(cause, "name one of them"))
    cause = f"this state file names {beside.are_not_here(absent)}"
    return Found(path, "", error=NotAModel(cause, "name a checkpoint that is here"), notes=(cause,))


def what_lacks(path: str) -> str | None:
    """Return the model that is there and of which a file that is not was, by its name; None where there is none."""
    folder, name = os.path.split(path)
    listed = Listed()
    whole = _whole(path, listed) or _of_shard(path, listed)
    base = beside.of_data_file(name)
    if not whole and base is not None and os.path.isfile(os.path.join(folder, f"{base}.index")):
        whole = _checkpoint(os.path.join(folder, base), listed)
    return whole.path if whole else beside.model_that_had(path, listed)


def _no_single_model(path: str, listed: Listed) -> Unsupported:
    """Return the error where one model is wanted and a directory is named that may hold any number."""
    inside = [found.path for found in _walk(path, listed) if found.kind]
    if not inside:
        return Unsupported("this is a directory without any model", "name a model")
    if len(inside) == 1:
        return Unsupported("this is a directory that holds one model", f"run the command on {inside[0]}")
    return Unsupported(
        f"this is a directory that holds {len(inside)} models: {beside.some(inside)}", "name one of them"
    )


def _look_into(path: str, listed: Listed) -> Found:
    """Return what a regular file is."""
    whole = _whole(path, listed) or _of_shard(path, listed)
    if whole:
        return whole
    try:
        kind = containers.recognise(path)
    except OSError as error:
        base = path.removesuffix(".index")
        if base != path and os.path.basename(base) in listed[os.path.dirname(path)].data:
            return Found(base, containers.CHECKPOINT, file=base, error=_unreadable(error))
        return Found(path, "", error=_unreadable(error))
    if kind in (containers.KERAS_SHARDS, containers.TFJS):
        return _shards(path, listed) if kind == containers.KERAS_SHARDS else _tfjs(path, listed)
    if kind == containers.TABLE and path.endswith(".index"):
        return _checkpoint(path.removesuffix(".index"), listed)
    if kind in ("", containers.POINTER, containers.META_GRAPH):
        of_another = _of_prefix(path, kind, listed)
        if of_another:
            return of_another
    if kind in ("", containers.CUT_TABLE, containers.POINTER):
        return _by_what_is_beside(path, kind, listed)
    return _unsupported(path, kind) if kind in containers.UNSUPPORTED else Found(path, kind)


def _of_prefix(path: str, kind: str, listed: Listed) -> Found | None:
    """Return the checkpoint that a file belongs to by its name, though a .meta file's may lack its index."""
    prefix = _prefix_of(path)
    if prefix is not None and os.path.isfile(f"{prefix}.index"):
        found = _look_into(f"{prefix}.index", listed)
        if found.kind:
            return found
    if kind == containers.POINTER or not path.endswith(".meta"):
        return None
    first = path.removesuffix(".meta")
    folder, base = os.path.split(first)
    if _is_table(first):
        return Found(first, containers.TABLE)
    if kind and base in listed[folder].data:
        return _without_index(folder, base)
    return _damaged(path, "", listed)


def _by_what_is_beside(path: str, kind: str, listed: Listed) -> Found:
    """Return what a file is whose own bytes are no model's: an asset, a pointer, a damaged file, or nothing."""
    whole = _whole(path, listed, assets=True)
    if whole:
        return whole
    model = beside.model_of_weights(path, listed)
    if model:
        return _look_into(model, listed)
    if kind == containers.POINTER:
        return _follow(path)
    return _damaged(path, kind, listed) or Found(path, "")


def _whole(path: str, listed: Listed, *, assets: bool = False) -> Found | None:
    """Return the directory that is a model and that the file is of, by its name, or with `assets` as one of them."""
    for kind, layout in containers.LAYOUTS.items():
        top = layout.place(path, assets=assets)
        if top is not None and containers.recognise_directory(top) == kind:
            return _directory(top, kind, listed)
    return None


def _of_shard(path: str, listed: Listed) -> Found | None:
    """Return the sharded weights that a file belongs to by its name."""
    folder, name = os.path.split(path)
    base = beside.of_shard(name)
    if base is None:
        return None
    named = os.path.join(folder, base + containers.map_ending(containers.KERAS_SHARDS))
    try:
        there = os.path.isfile(named) and containers.recognise(named) == containers.KERAS_SHARDS
    except OSError:
        return None
    # One that the map does not use is looked at for itself: a commit may bring an optimizer back in it.
    return _shards(named, listed) if there and name not in beside.left_shards(folder, base, listed) else None


def _shards(path: str, listed: Listed) -> Found:
    """Return the sharded weights whose map is at `path`."""
    folder, name = os.path.split(path)
    ending = containers.map_ending(containers.KERAS_SHARDS)
    if not name.endswith(ending):
        cause = f"it maps the files of Keras weights, and is not called NAME{ending}"
        error = Unreadable(cause, "call it so, with the NAME that its files have before _00000")
        return Found(path, containers.KERAS_SHARDS, error=error)
    base = name.removesuffix(ending)
    half = _half_replaced(folder, base, listed)
    prefix = os.path.join(folder, base)
    notes = () if half else beside.not_used("map", beside.left_shards(folder, base, listed))
    return Found(path, containers.KERAS_SHARDS, file=prefix, error=half, notes=notes)


def _tfjs(path: str, listed: Listed) -> Found:
    """Return the TensorFlow.js model whose JSON is at `path`."""
    return Found(path, containers.TFJS, error=_half_replaced(os.path.dirname(path), "", listed))


def _damaged(path: str, kind: str, listed: Listed) -> Found | None:
    """Return the checkpoint that lacks a file, or whose bytes do not show it any more, where files beside it vouch."""
    folder, name = os.path.split(path)
    base = name.removesuffix(".index") if name.endswith(".index") else beside.of_data_file(name)
    if base is not None and base in listed[folder].data:
        return _without_index(folder, base)
    first = path.removesuffix(".meta")
    if first != path and kind == "" and os.path.isfile(first):
        with open(first, "rb") as file:
            cut = not file.read(1)
        kind = containers.CUT_TABLE if cut else containers.recognise(first)
    if kind == containers.CUT_TABLE and (beside.is_graph(f"{first}.meta") or beside.is_named(first)):
        return Found(first, containers.TABLE)  # whoever reads it will say what is wrong with it
    return None


def _without_index(folder: str, base: str) -> Found:
    """Return the checkpoint of which there are data files and no index that could be read."""
    prefix = os.path.join(folder, base)
    index = f"{prefix}.index"
    what = "damaged: it is no index" if os.path.isfile(index) else "missing"
    what = what if os.path.isfile(index) or not os.path.lexists(index) else "no regular file"
    error = Unreadable(f"its file {base}.index is {what}", "get a complete copy of all its files")
    return Found(prefix if base else f"{prefix}.index", containers.CHECKPOINT, file=prefix, error=error)


def _prefix_of(path: str) -> str | None:
    """Return the prefix of the checkpoint that a file belongs to by its name, if there is one."""
    folder, name = os.path.split(path)
    stem, dot, ending = name.rpartition(".")
    if dot and (ending == "meta" or ending.startswith("data-")):
        return os.path.join(folder, stem)
    return path if name == beside.STATE else None  # the prefix may be called like a state file


def _is_table(path: str) -> bool:
    """Return whether this is a checkpoint of the first version, which is one file beside its .meta file."""
    try:
        return os.path.isfile(path) and containers.recognise(path) == containers.TABLE
    except OSError:
        return False


def _checkpoint(prefix: str, listed: Listed) -> Found:
    folder, base = os.path.split(prefix)
    # One of the first version may lie at the prefix, which is called so too, or a state file that leads elsewhere.
    path = prefix if base and not _is_table(prefix) and not _leads_elsewhere(prefix) else f"{prefix}.index"
    error = _half_replaced(folder, base, listed)
    notes = () if error else beside.left_over(folder, base, listed)
    return Found(path, containers.CHECKPOINT, file=prefix, error=error, notes=notes)


def _half_replaced(folder: str, base: str, listed: Listed) -> Unreadable | None:
    """Return what to say of the files of `folder` called `base` + ending where a strip has not moved all of them."""
    if not beside.is_half_replaced(folder, base, listed):
        return None
    remedy = "run tfstrip strip --in-place on it again, which completes it"
    return Unreadable("an interrupted strip left it half replaced", remedy)


def _leads_elsewhere(path: str) -> bool:
    """Return whether this is a state file that names another checkpoint than the one of its own name."""
    folder, name = os.path.split(path)
    if name != beside.STATE or not os.path.isfile(path):
        return False
    from tfstrip_core.containers.checkpoints import checkpoint_state

    state = checkpoint_state.read(folder)
    for named in checkpoint_state.names(state) if state else ():
        inside = os.path.normpath(checkpoint_state.base(named) if checkpoint_state.is_local(named) else named)
        if inside != name and any(os.path.isfile(os.path.join(folder, inside + end)) for end in (".index", "")):
            return True
    return False


def _twins(found: Found, listed: Listed) -> Iterator[Found]:
    """Yield the checkpoint whose prefix is the name of one of the first version."""
    index = f"{found.file}.index"
    if found.kind == containers.TABLE and os.path.isfile(index):
        twin = _look_into(index, listed)
        if twin.kind == containers.CHECKPOINT:
            yield twin


def _of_state_file(path: str, listed: Listed) -> tuple[list[Found], list[str]]:
    """Return the checkpoints that a state file names, where `path` is one, and the names of those that are not here.

    An absolute name counts by its last part: it is of the author's machine, and leads nowhere else on this one.
    """
    folder, name = os.path.split(path)
    if name != beside.STATE or not os.path.isfile(path):
        return [], []
    from tfstrip_core.containers.checkpoints import checkpoint_state

    state = checkpoint_state.read(folder)
    there: list[Found] = []
    absent: list[str] = []
    for named in checkpoint_state.names(state) if state else ():
        inside = checkpoint_state.base(named) if checkpoint_state.is_local(named) else named
        found = _named(folder, inside, listed)
        if found:
            there.append(found)
        elif 0 < len(os.path.basename(inside)) < 256 and inside.isprintable():
            absent.append(inside)
    if there and absent:
        there[0].notes += (f"the file {beside.STATE} beside it names {beside.are_not_here(absent)}",)
    return there, absent


def _named(folder: str, inside: str, listed: Listed) -> Found | None:
    """Return the checkpoint that a state file in `folder` calls so, if it is there."""
    index = os.path.normpath(f"{inside}.index")
    if index.partition(os.sep)[0] == os.pardir:
        return None
    if os.path.isfile(os.path.join(folder, index)):
        return _look_into(os.path.join(folder, index), listed)
    first = os.path.join(folder, os.path.normpath(inside))
    if os.path.normpath(inside) == beside.STATE or not os.path.isfile(first):
        return None
    found = _look_into(first, listed)
    return found if found.kind in (containers.TABLE, containers.POINTER) else None


def _directory(path: str, kind: str, listed: Listed) -> Found:
    if containers.layout(kind):
        return Found(path, kind, error=_half_replaced(path, "", listed))
    return _unsupported(path, kind)


def _unsupported(path: str, kind: str) -> Found:
    what, remedy = containers.UNSUPPORTED[kind]
    return Found(path, kind, error=Unsupported(f"this is {what}, which tfstrip does not read yet", remedy))


def _unreadable(error: Exception, remedy: str = "") -> Unreadable:
    reason = error.strerror if isinstance(error, OSError) else "a NUL in the path"
    return Unreadable(f"cannot be read ({reason})", remedy or "check the path and its permissions")


def _walk(top: str, listed: Listed) -> Iterator[Found]:
    locked: list[OSError] = []
    several: set[str] = set()  # each of their files leads to them
    for folder, folders, files in os.walk(top, onerror=locked.append):
        folders[:] = sorted(name for name in folders if name != ".git" and not name.startswith(beside.WORKSHOP))
        kind = containers.recognise_directory(folder, files)
        if kind:
            yield _directory(os.path.normpath(folder), kind, listed)
            several.add(os.path.normpath(folder))
        if kind and not containers.layout(kind):
            folders.clear()
            continue
        for name in sorted(files):
            path = os.path.normpath(os.path.join(folder, name))
            try:
                found = _look_into(path, listed) if stat.S_ISREG(os.lstat(path).st_mode) else None
            except OSError:
                continue  # gone since the directory was listed
            if found and (found.kind or found.error) and found.path not in several:
                if found.kind in _SEVERAL:
                    several.add(found.path)
                yield found
    for error in locked:
        yield Found(os.fsdecode(error.filename), "", error=_unreadable(error))


def _follow(path: str) -> Found:
    """Resolve a Git LFS pointer to its object in the repository's own store, if it is there in full."""
    import re

    with open(path, "rb") as file:
        text = file.read(1024).decode("utf-8", "replace")
    oid = re.search(r"^oid sha256:([0-9a-f]{64})$", text, re.MULTILINE)
    size = re.search(r"^size (\d{1,18})$", text, re.MULTILINE)
    if oid and size:
        digest = oid.group(1)
        for store in _git_directories(os.path.dirname(os.path.abspath(path))):
            stored = os.path.join(store, "lfs", "objects", digest[:2], digest[2:4], digest)
            if os.path.isfile(stored) and os.path.getsize(stored) == int(size.group(1)):
                kind = containers.recognise(stored)
                several = path.endswith(("saved_model.pb", ".index")) or os.path.lexists(f"{path}.meta")
                alone = kind in (containers.TABLE, containers.SAVED_MODEL) and several
                if kind in (containers.POINTER, containers.TFJS) or alone:
                    break  # the files of such a model must lie beside each other
                error = _unsupported(path, kind).error if kind in containers.UNSUPPORTED else None
                return Found(path, kind, file=stored, error=error, stored=True)
    cause = "this is a Git LFS pointer and its object is not here"
    missing = Pointer(cause, "run git lfs pull, in CI check out with lfs: true")
    return Found(path, containers.POINTER, error=missing)


def _git_directories(folder: str) -> Iterator[str]:
    """Yield the git directory that holds `folder`, and for a linked work tree the common one too."""
    while True:
        git = os.path.join(folder, ".git")
        if os.path.isfile(git):  # a submodule or a linked work tree names its git directory in a file
            with open(git, encoding="utf-8", errors="surrogateescape") as file:
                git = os.path.join(folder, file.read(4096).removeprefix("gitdir:").strip())
        if os.path.isdir(git):
            yield git
            common = os.path.join(git, "commondir")
            if os.path.isfile(common):
                with open(common, encoding="utf-8", errors="surrogateescape") as file:
                    yield os.path.join(git, file.read(4096).strip())
            return
        parent = os.path.dirname(folder)
        if parent == folder:
            return
        folder = parent
