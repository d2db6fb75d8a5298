"""Putting several files in place together: a journal says what is to happen, and any later run can finish it.

The new files lie in a workshop, a private directory beside the old ones, flushed and proven. Once the journal is
there, the change will happen: renames and removals that may be repeated. Before that, nothing has. Where somebody
replaced one of the files since, the journal is void: theirs stay.

A directory that is a model is in place files like a checkpoint's, so that all else in it stays as it is. Only as
somebody's target is it replaced as a whole: the old one moves into the workshop, the new one out.
"""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from tfstrip_core.codecs import layouts

NAME = "result.journal"
_LIMIT = 64 << 20
# What may be moved or removed, whatever a journal says: the files of a checkpoint or of sharded weights, a directory's
# own, and those of a TensorFlow.js model, which have names of their own: nothing hidden, and nothing outside.
_ENDING = re.compile(r"\.(index|meta|data-\d{5,}-of-\d{5,})|\.weights\.json|_\d{5,}\.weights\.h5")
_OWN_NAME = re.compile(r"[^./\\\0][^/\\\0]*(/[^./\\\0][^/\\\0]*)*")


class _Rest(NamedTuple):
    """What is still to be done: the endings to be moved and to be removed; neither where the journal is void."""

    base: str
    moves: list[str]
    removes: list[str]


# One of the first version is a file without an ending, which needs a journal because of the .meta file beside it.
_FIRST_VERSION: tuple[tuple[list[str], list[str]], ...] = ((["", ".meta"], []), ([""], [".meta"]))
_WHOLE: tuple[list[str], list[str]] = ([""], [])  # a directory


def owns(ending: str) -> bool:
    """Return whether the file with this ending is some directory model's own, so that a journal may replace it."""
    return ending.startswith(os.sep) and any(layout.is_own(ending[len(os.sep) :]) for layout in layouts.ALL)


def commit(folder: str, base: str, moves: Iterable[str], removes: Iterable[str]) -> None:
    """Write the journal of the workshop `folder`: its files `result` + ending are to become `base` + ending beside it.

    `removes` are the endings of old files that have no successor. Without a `base` the workshop lies in the directory
    that is the model. From here on the change will happen.
    """
    place = _place(folder, base)
    said = {
        "base": os.fsencode(base).hex(),
        "inode": os.stat(folder).st_ino,
        "moves": {ending: [_mark(place + ending), _mark(_built(folder, ending))] for ending in moves},
        "removes": {ending: _mark(place + ending) for ending in removes},
    }
    draft = os.path.join(folder, f"{NAME}.draft")
    with open(draft, "w", encoding="ascii") as file:
        json.dump(said, file)
        file.flush()
        os.fsync(file.fileno())
    os.rename(draft, os.path.join(folder, NAME))
    sync(folder)
    sync(os.path.dirname(place))


def finish(folder: str) -> bool:
    """Do what the workshop's journal says as far as it is not done; return whether there is one that is its own."""
    rest = _read(folder)
    if rest is None:
        return False
    place = _place(folder, rest.base)
    for ending in rest.moves:
        if os.path.isdir(_built(folder, ending)) and os.path.lexists(place):
            os.rename(place, _old(folder))
        os.replace(_built(folder, ending), place + ending)
    for ending in rest.removes:
        os.unlink(place + ending)
    _tidy(place, rest)
    return True


def _tidy(place: str, rest: _Rest) -> None:
    """Remove folders of which nothing is left, and return when all names are on disk."""
    folders = {os.path.normpath(os.path.dirname(place + ending)) for ending in ("", *rest.moves, *rest.removes)}
    for folder in folders if rest.removes else ():
        with suppress(OSError):  # something is in it
            os.rmdir(folder)
    for folder in filter(os.path.isdir, folders):
        sync(folder)


def withdraw(folder: str) -> None:
    """Make the workshop's journal void, where nothing has happened yet and nothing can."""
    if not os.path.lexists(_old(folder)):
        os.unlink(os.path.join(folder, NAME))


def is_unfinished(folder: str, base: str) -> bool:
    """Return whether `folder` is a workshop whose journal has something left to do to the files called `base`."""
    rest = _read(folder)
    return rest is not None and rest.base == base and bool(rest.moves or rest.removes)


def _read(folder: str) -> _Rest | None:
    """Return what is left to do; None for a journal that this machine did not write here (a clone has it)."""
    path = os.path.join(folder, NAME)
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        with open(path, encoding="ascii") as file:
            said = json.loads(file.read(_LIMIT))
        base, moves, removes = os.fsdecode(bytes.fromhex(said["base"])), said["moves"], said["removes"]
        plain = os.path.basename(base) == base and "\0" not in base and (base != "" or "" not in moves)
        if said["inode"] != os.stat(folder).st_ino or not plain or not _are_plain(base, [*moves], [*removes]):
            return None
        place = _place(folder, base)
        left = [ending for ending in moves if _mark(_built(folder, ending))]
        there = [ending for ending in removes if _mark(place + ending)]
        valid = all(
            _there(folder, place, ending) == (old if ending in left else new) for ending, (old, new) in moves.items()
        ) and all(_mark(place + ending) == removes[ending] for ending in there)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return _Rest(base, left, there) if valid else _Rest(base, [], [])


def _are_plain(base: str, moves: list[str], removes: list[str]) -> bool:
    """Return whether these are the endings of one checkpoint's files, of a directory's, or of one as a whole."""
    if not base and all(_OWN_NAME.fullmatch(ending) for ending in (*moves, *removes)):
        return True
    if (sorted(moves), removes) in (*_FIRST_VERSION, _WHOLE):
        return True
    return all(_ENDING.fullmatch(ending) or owns(ending) for ending in (*moves, *removes))


def _there(folder: str, place: str, ending: str) -> list[int] | None:
    """Return the mark of what is to be replaced, for a directory also when it is on its way out."""
    return _mark(place + ending) or (None if ending else _mark(_old(folder)))


def _place(folder: str, base: str) -> str:
    return os.path.join(os.path.dirname(os.path.abspath(folder)), base)


def _built(folder: str, ending: str) -> str:
    return os.path.join(folder, f"result{ending}")


def _old(folder: str) -> str:
    return os.path.join(folder, "result.old")


def _mark(path: str) -> list[int] | None:
    """Return what tells a file from every other that may take its place, and stays its own when it is renamed.

    A directory is told by a file of it that whoever saves another model there writes anew.
    """
    try:
        status = os.lstat(path)
        if stat.S_ISDIR(status.st_mode):
            marks = (_mark(os.path.join(path, layout.marks[0])) for layout in layouts.ALL)
            return next(filter(None, marks), [status.st_ino, 0, 0])
    except FileNotFoundError:
        return None
    return [status.st_ino, status.st_size, status.st_mtime_ns]


def sync(folder: str) -> None:
    """Return when the directory's names are on disk, where a platform can say so."""
    if sys.platform == "win32":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
