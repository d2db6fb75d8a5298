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

from tfstrip_core import journal
from tfstrip_core.errors import CannotReplace, UsageError

PREFIX = ".tfstrip-"
GRACE = 60.0


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
            f"the result cannot be written beside it ({reason})", "name a place to write to with -o"
        ) from None
    lock = _lock(made)
    try:
        yield made
    finally:
        with suppress(OSError):
            _clear(made)
        if lock is not None:
            os.close(lock)


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


def beside(path: str, endings: Sequence[str]) -> str:
    """Return a path in the directory in which a model lies: its own where it is a directory, else its first file's."""
    return path if is_directory(endings) else path + endings[0]


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
        if os.path.islink(file):
            raise UsageError(
                "this is a symlink, perhaps into a store that others share",
                "write to another file with -o, or name its target",
            )


def check_target(source: str, target: str, endings: Sequence[str], force: bool) -> None:
    """Raise UsageError where the result must not be written to `target` (with each of the model's endings)."""
    endings = tuple(endings)
    if is_directory(endings):
        _check_new_directory(source, target, force)
        endings = ()
    elif os.path.isdir(target):
        raise UsageError(f"the target {target} is a directory", "name the file to write")
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
    if not os.path.isdir(os.path.dirname(os.path.abspath(target))):
        raise UsageError(f"the directory of the target {target} does not exist", "make it first")


def _check_new_directory(source: str, target: str, force: bool) -> None:
    if not os.path.lexists(target):
        return
    if os.path.exists(target) and os.path.samefile(source, target):
        raise UsageError("source and target are the same directory", "use --in-place")
    if not force:
        raise UsageError(f"the target {target} exists", "name another one, or say --force")
    raise UsageError(f"the target {target} exists, and directories are not replaced yet", "name another one")


def put(built: str, target: str, endings: Sequence[str] = ("",), old: Iterable[str] = ()) -> None:
    """Move the finished and flushed files `built` + ending to `target` + ending, durably.

    One file is renamed, and so is a directory, to a name that is free; several files are moved under a journal. `old`
    are endings of files that must not stay beside them.
    """
    gone = sorted(set(old) - set(endings))
    if is_directory(endings):
        os.rename(built, target)
        journal.sync(os.path.dirname(os.path.abspath(target)))
        return
    if list(endings) == [""] and not gone:
        os.replace(built, target)
        journal.sync(os.path.dirname(os.path.abspath(target)))
        return
    folder = os.path.dirname(built)
    journal.sync(folder)
    # A checkpoint's index comes first among its files and goes last: it says which of the others are used.
    journal.commit(folder, os.path.basename(target), reversed(endings), gone)
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
        alike = (old for old in seen if old.partition("-")[0] == ending.partition("-")[0])  # another shard
        _inherit(built + ending, source + (ending if ending in seen else next(alike, next(iter(seen)))))
    linked = any(os.path.islink(source + ending) for ending in seen)
    if linked or stamps(source, seen) != seen:
        raise CannotReplace("it changed while it was being stripped", "nothing was replaced: run it again")
    put(built, source, endings, seen)


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
