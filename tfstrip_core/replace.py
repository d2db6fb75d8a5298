"""Putting a result in place: the only code that does. After a crash there is a whole old or a whole new file."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfstrip_core import journal, signals
from tfstrip_core.errors import CannotReplace, UsageError

if TYPE_CHECKING:
    from tfstrip_core.codecs.layouts import Layout

PREFIX = ".tfstrip-"
GRACE = 60.0
_NEW = "name a new directory"


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells that a file is still the one that was read."""

    device: int
    inode: int
    size: int
    changed: int


# The stamps of a model's files, by their endings.
Stamps = Mapping[str, Stamp]


def stamps(path: str, endings: Iterable[str]) -> dict[str, Stamp]:
    """Return the stamps of the files `path` + ending (symlinks followed)."""
    return {ending: _stamp(path + ending) for ending in endings}


def _stamp(path: str) -> Stamp:
    status = os.stat(path)
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


def total(seen: Stamps) -> int:
    """Return the bytes of all files."""
    return sum(stamp.size for stamp in seen.values())


@contextmanager
def workshop(target: str) -> Iterator[str]:
    """Make a private directory beside `target`, on the same disk, and remove it with all that is left in it.

    It is locked while it is in use: one that a killed run left behind is not, and is finished or goes first. What has
    a journal is finished here too, if an error or a signal came between, and stays for a later run where it cannot be.
    """
    folder = os.path.dirname(os.path.abspath(target))
    try:
        recover(target)
        made = tempfile.mkdtemp(prefix=PREFIX, dir=folder)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotReplace(
            f"nothing can be written to {folder} ({reason})", "name a place that can be written to with -o"
        ) from None
    lock = _lock(made)
    try:
        yield made
    finally:
        with signals.held(), suppress(OSError):
            _clear(made)
        if lock is not None:
            os.close(lock)


def built(folder: str, name: str | None = None) -> str:
    """Return where a workshop's result is built: under its final `name`, where its own files name each other."""
    place = os.path.join(folder, "result")
    if name is None:
        return place
    os.mkdir(f"{place}.named")
    return os.path.join(f"{place}.named", name)


def gathered(folder: str, made: str, endings: Iterable[str]) -> str:
    """Return the workshop's `result`, once the files `made` + ending are called so."""
    place = built(folder)
    for ending in endings if made != place else ():
        os.makedirs(os.path.dirname(place + ending), exist_ok=True)  # a file's own name may be in a folder
        os.rename(made + ending, place + ending)
    return place


def _clear(folder: str) -> None:
    """Finish what the workshop's journal says, if it has one, and remove the workshop with all that is left in it."""
    if not os.path.lexists(os.path.join(folder, journal.NAME)) or journal.finish(folder):
        shutil.rmtree(folder, ignore_errors=True)


def _lock(folder: str) -> int | None:
    """Lock a directory for as long as this process lives; return None where another has it."""
    if sys.platform == "win32":
        return None
    import fcntl

    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return handle


def recover(target: str) -> None:
    """Finish or remove what killed runs left beside `target`; a minute's grace is for one that is not locked yet."""
    folder = os.path.dirname(os.path.abspath(target))
    for name in os.listdir(folder):
        left = os.path.join(folder, name)
        with suppress(OSError):  # another run was quicker
            status = os.lstat(left)
            if not name.startswith(PREFIX) or not stat.S_ISDIR(status.st_mode):
                continue
            journaled = os.path.lexists(os.path.join(left, journal.NAME))
            if time.time() - status.st_mtime < GRACE and not journaled:
                continue
            if not re.fullmatch(r"[a-z0-9_]{8}", name[len(PREFIX) :]) or any(
                not inner.startswith("result") for inner in os.listdir(left)
            ):
                continue  # somebody else's
            lock = _lock(left)
            if lock is not None:
                try:
                    _clear(left)
                finally:
                    os.close(lock)


def is_directory(endings: Iterable[str]) -> bool:
    """Return whether the files with these endings are in a directory that is the model."""
    return all(ending.startswith(os.sep) for ending in endings)


def every(path: str, endings: Sequence[str]) -> Iterator[str]:
    """Yield the paths of a model's files, and of the directories that hold them where it is a directory."""
    for ending in endings:
        yield path + ending
    if is_directory(endings):
        yield from sorted({path, *(folder for ending in endings for folder in _folders(path, ending))}, reverse=True)


def _folders(path: str, ending: str) -> Iterator[str]:
    folder = os.path.dirname(ending)
    while folder not in ("", os.sep):
        yield path + folder
        folder = os.path.dirname(folder)


def check_in_place(files: Iterable[str]) -> None:
    """Raise UsageError where files must not be replaced: a symlink, or a platform without safe renames."""
    if sys.platform == "win32":
        raise UsageError("--in-place is not available on Windows", "write to another file with -o")
    for file in files:
        if os.path.islink(file.rstrip(os.sep)):
            raise UsageError(
                "this is a symlink, perhaps into a store that others share",
                "write to another file with -o, or name its target",
            )


def check_target(source: str, target: str, endings: Sequence[str], layout: Layout | None, force: bool) -> None:
    """Raise UsageError where the result must not be written to `target` (with each of the model's endings)."""
    endings = tuple(endings)
    if "\0" in target:
        raise UsageError(f"the target {target} is no path", "name one without NUL")
    if layout:
        _check_directory(source, target, endings, layout, force)
        endings = ()
    elif os.path.isdir(target) and endings[0] in ("", ".index"):
        what = "file" if endings == ("",) else "file or the prefix"
        raise UsageError(f"the target {target} is a directory", f"name the {what} to write in it")
    for ending in endings:
        file = target + ending
        if os.path.lexists(file):
            sources = [source + known for known in endings if os.path.exists(source + known)]
            if os.path.exists(file) and any(os.path.samefile(one, file) for one in sources):
                raise UsageError("source and target are the same file", "use --in-place")
            if os.path.exists(file) and not os.path.isfile(file):
                raise UsageError(f"the target {file} is no regular file", "name the file to write")
            if not force:
                raise UsageError(f"the target {file} exists", "name another one, or say --force")
    if not os.path.isdir(os.path.dirname(os.path.abspath(target + "".join(endings[:1])))):
        raise UsageError(f"the directory of the target {target} does not exist", "make it first")


def _check_directory(source: str, named: str, endings: Sequence[str], layout: Layout, force: bool) -> None:
    """Raise UsageError where the directory `named` is not to be made, or holds what --force must not remove."""
    target = os.path.abspath(named)  # what is replaced: "" and "nowhere/.." are the current directory
    real, inner = os.path.realpath(source), os.path.realpath(target)
    if real == inner:
        raise UsageError("source and target are the same directory", "use --in-place")
    if os.path.lexists(target) and os.path.isdir(target) and os.path.samefile(target, "."):
        raise UsageError(f"the target {named} is the current directory, which cannot be replaced", _NEW)
    if os.path.commonpath([real, inner]) in (real, inner):
        one, other = ("target", "source") if inner.startswith(real) else ("source", "target")
        raise UsageError(f"the {one} lies in the {other}", "name a target elsewhere")
    if not os.path.lexists(target):
        return
    if os.path.islink(target) or not os.path.isdir(target):
        raise UsageError(f"the target {named} is no directory, which a {layout.what} is", "name another one")
    if os.path.ismount(target):
        raise UsageError(f"the target {named} is a mount point, which cannot be replaced", _NEW)
    if os.listdir(target):
        _check_replaceable(target, named, endings, layout, force)


def _check_replaceable(target: str, named: str, endings: Sequence[str], layout: Layout, force: bool) -> None:
    """Raise UsageError where the directory is not such a model alone, which the new one's files replace."""
    if not layout.is_there(target):
        raise UsageError(f"the target {named} is a directory that holds no {layout.what}", "name another one")
    if not force:
        raise UsageError(f"the target {named} exists", "name another one, or say --force")
    for name in _every_file(target):
        if not layout.is_part(name) and os.sep + name not in endings:
            raise UsageError(
                f"the target {named} holds {name}, which is no part of the {layout.what} there and would be lost",
                "move that away, or name another target",
            )


def _every_file(folder: str) -> Iterator[str]:
    """Yield the paths of all that lies below a folder, relative to it, but for folders; symlinks are not followed."""
    for inner, folders, names in os.walk(folder):
        links = [name for name in folders if os.path.islink(os.path.join(inner, name))]
        for name in sorted([*names, *links]):
            yield os.path.normpath(os.path.join(os.path.relpath(inner, folder), name))


def put(built: str, target: str, endings: Sequence[str] = ("",), old: Iterable[str] = ()) -> None:
    """Move the finished and flushed files `built` + ending to `target` + ending, durably.

    One file is renamed, and so is a directory, to a name that is free; several files are moved under a journal, and so
    is a directory in another one's place. `old` are endings of files that must not stay beside them.
    """
    gone = sorted(set(old) - set(endings))
    if is_directory(endings):
        _put_directory(built, os.path.abspath(target))
    elif list(endings) == [""] and not gone:
        os.replace(built, target)
        journal.sync(os.path.dirname(os.path.abspath(target)))
    else:
        _put_files(built, os.path.basename(target), endings, gone)


def _put_directory(built: str, target: str) -> None:
    folder = os.path.dirname(built)
    if os.path.isdir(target):
        _inherit(built, target)
    if not os.path.isdir(target) or not os.listdir(target):
        os.rename(built, target)
        journal.sync(os.path.dirname(target))
        return
    journal.sync(folder)
    journal.commit(folder, os.path.basename(target), [""], [])
    try:
        done = journal.finish(folder)
    except OSError:  # a busy mount point, say: then the old one stays
        journal.withdraw(folder)
        raise
    if not done or os.path.lexists(built):
        raise CannotReplace("the target changed while it was being written", "run it again")


def _put_files(built: str, base: str, endings: Sequence[str], gone: Sequence[str]) -> None:
    folder = os.path.dirname(built)
    for ending in endings if not base else ():
        os.makedirs(os.path.dirname(os.path.join(os.path.dirname(folder), "") + ending), exist_ok=True)
    journal.sync(folder)
    # The first among the files goes last: a checkpoint's index says which of the others are used, and without the
    # variables that its old saved_model.pb names no loader takes a SavedModel for whole.
    journal.commit(folder, base, reversed(endings), gone)
    if not journal.finish(folder) or any(os.path.lexists(built + ending) for ending in endings):
        raise CannotReplace("it changed while it was being stripped", "run it again")


def put_text(content: bytes, target: str) -> None:
    """Write a small file anew, durably: a sibling first, which takes its place."""
    with workshop(target) as folder:
        built = os.path.join(folder, "result")
        with open(built, "wb") as file:
            file.write(content)
        if os.path.isfile(target):
            _inherit(built, target)
        else:
            open_mode(built)
        flush(built)
        put(built, target)


def put_in_place(built: str, source: str, seen: Stamps, endings: Sequence[str]) -> None:
    """Move the flushed files `built` + ending over `source`'s, with the mode and owner of what they replace.

    Raises CannotReplace where the source is not what was read any more, or where its owner cannot be kept.
    """
    for ending in endings:
        if ending not in seen and os.path.lexists(source + ending) and not _is_same(built + ending, source + ending):
            name = os.path.basename(source + ending)
            raise CannotReplace(f"{name} is in its way, which its index does not use", "move that file elsewhere")
        alike = (old for old in seen if old.partition("-")[0] == ending.partition("-")[0])  # another shard
        _inherit(built + ending, source + (ending if ending in seen else next(alike, next(iter(seen)))))
    linked = any(os.path.islink(source + ending) for ending in seen)
    if linked or stamps(source, seen) != seen:
        raise CannotReplace("it changed while it was being stripped", "nothing was replaced: run it again")
    if is_directory(endings):
        gone = sorted(seen.keys() - set(endings))
        endings = [ending for ending in endings if not _is_same(built + ending, source + ending)]
        _check_folders(os.path.dirname(built), source, {*endings, *gone})
        _put_files(built, "", endings, gone)
    else:
        put(built, source, endings, seen)


def _check_folders(shop: str, source: str, endings: Iterable[str]) -> None:
    """Raise CannotReplace where a folder's files cannot be replaced by renames, before the first of them is."""
    for folder in sorted({os.path.dirname(source + ending) for ending in endings}):
        if os.stat(folder).st_dev != os.stat(shop).st_dev:
            raise CannotReplace(f"its folder {folder} is on another disk", "write to another directory with -o")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise CannotReplace(f"its folder {folder} is not writable", "write to another directory with -o")


def _is_same(built: str, there: str) -> bool:
    """Return whether a file is already what is to take its place: git brought the rest of an old checkpoint back."""
    import filecmp

    return os.path.isfile(there) and not os.path.islink(there) and filecmp.cmp(built, there, shallow=False)


def _inherit(built: str, source: str) -> None:
    status = os.lstat(source)
    os.chmod(built, status.st_mode & 0o7777)
    mine = os.stat(built)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.chown(built, status.st_uid, status.st_gid)
            os.chmod(built, status.st_mode & 0o7777)
        except OSError:
            raise CannotReplace("its owner cannot be kept", "run as its owner, or write elsewhere with -o") from None


def open_mode(built: str) -> None:
    """Give a new file the mode that the user's umask asks for; private directories make private files."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(built, (0o777 if os.path.isdir(built) else 0o666) & ~mask)


def flush(path: str) -> None:
    """Return when the file's bytes are on disk; a directory's names."""
    if os.path.isdir(path):
        if sys.platform != "win32":
            journal.sync(path)
        return
    with open(path, "rb+" if sys.platform == "win32" else "rb") as file:
        os.fsync(file.fileno())


def git_has(path: str) -> bool:
    """Return whether git's index holds the file as it is now, so that `git restore` brings it back."""
    import subprocess  # not needed where nothing is replaced

    folder, name = os.path.split(os.path.abspath(path))
    command = ["git", "--no-optional-locks", "-C", folder]
    with suppress(OSError, ValueError, subprocess.SubprocessError):
        for words in (
            ["ls-files", "--error-unmatch", "--", f":(literal){name}"],
            ["diff", "--quiet", "--", f":(literal){name}"],
        ):
            done = subprocess.run(
                [*command, *words], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False
            )
            if done.returncode:
                return False
        return True
    return False
