"""Putting several files in place together: a journal says what is to happen, and any later run can finish it.

The new files lie in a workshop, a private directory beside the old ones, flushed and proven. Once the journal is
there, the change will happen: renames and removals that may be repeated. Before that, nothing has.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable
from contextlib import suppress

NAME = "result.journal"
_LIMIT = 1 << 20
# What may be moved or removed, whatever a journal says: a checkpoint's files. One of the first version is a file
# without an ending of its own, which needs a journal because of the .meta file beside it.
_ENDING = re.compile(r"\.(index|meta|data-\d{5}-of-\d{5})")
_FIRST_VERSION = (["", ".meta"], [""])


def commit(folder: str, base: str, moves: Iterable[str], removes: Iterable[str]) -> None:
    """Write the journal of the workshop `folder`: its files `result` + ending are to become `base` + ending beside it.

    `removes` are the endings of old files that have no successor. From here on the change will happen.
    """
    text = json.dumps(
        {"base": os.fsencode(base).hex(), "moves": list(moves), "removes": list(removes), "inode": _inode(folder)}
    )
    draft = os.path.join(folder, f"{NAME}.draft")
    with open(draft, "w", encoding="ascii") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(draft, os.path.join(folder, NAME))
    sync(folder)


def finish(folder: str) -> bool:
    """Do what the workshop's journal says as far as it is not done; return whether there is one that is its own."""
    found = _read(folder)
    if found is None:
        return False
    base, moves, removes = found
    beside = os.path.dirname(os.path.abspath(folder))
    for ending in moves:
        with suppress(FileNotFoundError):  # moved already
            os.replace(os.path.join(folder, f"result{ending}"), os.path.join(beside, base + ending))
    for ending in removes:
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(beside, base + ending))
    sync(beside)
    return True


def _read(folder: str) -> tuple[str, list[str], list[str]] | None:
    """Return base, moves and removes; None for a journal that this machine did not write here (a clone has it)."""
    try:
        with open(os.path.join(folder, NAME), encoding="ascii") as file:
            said = json.loads(file.read(_LIMIT))
        base, moves, removes = os.fsdecode(bytes.fromhex(said["base"])), said["moves"], said["removes"]
        own = said["inode"] == _inode(folder)
        plain = os.path.basename(base) == base and _are_plain(moves, removes)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return (base, moves, removes) if own and plain else None


def _are_plain(moves: list[str], removes: list[str]) -> bool:
    """Return whether these are the endings of one checkpoint's files."""
    if "" in moves:
        return moves in _FIRST_VERSION and moves + removes == ["", ".meta"]
    return all(_ENDING.fullmatch(ending) for ending in [*moves, *removes])


def _inode(folder: str) -> int:
    return os.stat(folder).st_ino


def sync(folder: str) -> None:
    """Return when the directory's names are on disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
