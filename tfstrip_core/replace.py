"""Putting a result in place: the only code that does. After a crash there is a whole old or a whole new file."""

from __future__ import annotations

import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

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


def stamp(path: str) -> Stamp:
    """Return the stamp of the file at `path` (symlinks followed)."""
    status = os.stat(path)
    return Stamp(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


@contextmanager
def workshop(target: str) -> Iterator[str]:
    """Make a private directory beside `target`, on the same disk, and remove it with all that is left in it.

    It is locked while it is in use: one that a killed run left behind is not, and goes first.
    """
    folder = os.path.dirname(os.path.abspath(target))
    try:
        _sweep(folder)
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
        shutil.rmtree(made, ignore_errors=True)
        if lock is not None:
            os.close(lock)


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


def _sweep(folder: str) -> None:
    """Remove workshops whose process is gone; a minute's grace is for one that is not locked yet."""
    for name in os.listdir(folder):
        left = os.path.join(folder, name)
        with suppress(OSError):  # another run was quicker
            status = os.lstat(left)
            if not name.startswith(PREFIX) or not stat.S_ISDIR(status.st_mode) or time.time() - status.st_mtime < GRACE:
                continue
            if not re.fullmatch(r"[a-z0-9_]{8}", name[len(PREFIX) :]) or any(
                not inner.startswith("result") for inner in os.listdir(left)
            ):
                continue  # somebody else's
            lock = _lock(left)
            if lock is not None:
                shutil.rmtree(left, ignore_errors=True)
                os.close(lock)


def check_in_place(source: str) -> None:
    """Raise UsageError where `source` must not be replaced: a symlink, or a platform without safe renames."""
    if sys.platform == "win32":
        raise UsageError("--in-place is not available on Windows", "write to another file with -o")
    if os.path.islink(source):
        raise UsageError(
            "this is a symlink, perhaps into a store that others share",
            "write to another file with -o, or name its target",
        )


def check_target(source: str, target: str, force: bool) -> None:
    """Raise UsageError where the result must not be written to `target`."""
    if os.path.isdir(target):
        raise UsageError(f"the target {target} is a directory", "name the file to write")
    if os.path.lexists(target):
        if os.path.exists(target) and os.path.samefile(source, target):
            raise UsageError("source and target are the same file", "use --in-place")
        if os.path.exists(target) and not os.path.isfile(target):
            raise UsageError(f"the target {target} is no regular file", "name the file to write")
        if not force:
            raise UsageError(f"the target {target} exists", "name another one, or say --force")
    if not os.path.isdir(os.path.dirname(os.path.abspath(target))):
        raise UsageError(f"the directory of the target {target} does not exist", "make it first")


def put(built: str, target: str) -> None:
    """Rename the finished and flushed file `built` to `target`, durably."""
    os.replace(built, target)
    _sync_directory(target)


def put_in_place(built: str, source: str, seen: Stamp) -> None:
    """Rename the flushed file `built` over `source`, with the source's mode and owner.

    Raises CannotReplace where the source is not what was read any more, or where its owner cannot be kept.
    """
    status = os.lstat(source)
    os.chmod(built, status.st_mode & 0o7777)
    mine = os.stat(built)
    if (mine.st_uid, mine.st_gid) != (status.st_uid, status.st_gid):
        try:
            os.chown(built, status.st_uid, status.st_gid)
            os.chmod(built, status.st_mode & 0o7777)
        except OSError:
            raise CannotReplace("its owner cannot be kept", "run as its owner, or write elsewhere with -o") from None
    if os.path.islink(source) or stamp(source) != seen:
        raise CannotReplace("it changed while it was being stripped", "nothing was replaced: run it again")
    os.replace(built, source)
    _sync_directory(source)


def open_mode(built: str) -> None:
    """Give a new file the mode that the user's umask asks for; private directories make private files."""
    mask = os.umask(0)
    os.umask(mask)
    os.chmod(built, 0o666 & ~mask)


def flush(path: str) -> None:
    """Return when the file's bytes are on disk."""
    with open(path, "rb+" if sys.platform == "win32" else "rb") as file:
        os.fsync(file.fileno())


def _sync_directory(path: str) -> None:
    if sys.platform == "win32":
        return
    folder = os.open(os.path.dirname(os.path.abspath(path)), os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


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
