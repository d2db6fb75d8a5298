"""What a pull request does to the bytes of a repository's models, against the branch that it is for.

It is told as far as it is known and stops nothing: no token, no network, no git, what lies in the checkout alone.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from tfstrip_core.beside import without_ending
from tfstrip_core.codecs.git_store import MOST_BYTES, Absent, Store
from tfstrip_core.errors import TfstripError
from tfstrip_core.globs import reaches
from tfstrip_core.inventory import Change, Inventory
from tfstrip_core.verbs.inspect import survey
from tfstrip_core.verbs.strip import files

_POINTER = re.compile(rb"version https://git-lfs\.github\.com/spec/v1\n.*?^size (\d{1,18})$", re.DOTALL | re.MULTILINE)
_POINTER_BYTES = 1024
_MOST_REMOVED, _MOST_BYTES = 10_000, 1 << 30  # of removed files that are looked into


@dataclass(frozen=True, slots=True)
class Compared:
    """The models that differ from the base commit, and what there is to say instead or besides."""

    changes: tuple[Change, ...]
    note: str = ""


def is_one(environment: Mapping[str, str]) -> bool:
    """Return whether the job whose environment this is runs for a pull request."""
    return environment.get("GITHUB_EVENT_NAME", "") in ("pull_request", "pull_request_target")


def compare(inventories: Sequence[Inventory], patterns: Sequence[str], environment: Mapping[str, str]) -> Compared:
    """Return what the pull request adds, changes and removes of the models that were checked, sizes in bytes.

    `patterns` are the globs, files and folders that were. A model in Git LFS counts by its own size, not its pointer's.
    """
    try:
        with open(environment.get("GITHUB_EVENT_PATH", ""), encoding="utf-8") as file:
            event = json.load(file)["pull_request"]
        store = Store(".git")
        head_tree, parents = store.commit(store.head())
        # What is checked out by default is the pull request merged into its base.
        merged = len(parents) == 2 and parents[1] == event["head"]["sha"]
        try:
            base_tree, _ = store.commit(parents[0] if merged else event["base"]["sha"])
        except Absent:
            depth = 2 if merged else 0
            return Compared((), f"the base is not checked out: add fetch-depth: {depth} to the step actions/checkout")
        changed = store.changes(base_tree, head_tree)
        return _compare(inventories, patterns, _Trees(store, changed))
    except Absent:
        return Compared((), "what the base held is not checked out: leave filter out of the step actions/checkout")
    except (
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
        OSError,
        zlib.error,
        TfstripError,
    ) as error:
        return Compared((), f"the base cannot be read ({type(error).__name__})")


@dataclass(frozen=True, slots=True)
class _Trees:
    """The files that differ, by path, with the names of their blobs in the base and in the head."""

    store: Store
    changed: Mapping[str, tuple[str, str]]

    def before(self, path: str) -> int | None:
        """Return the size that a file had, None where there was none."""
        if path not in self.changed:
            return _size(path)
        blob = self.changed[path][0]
        if not blob:
            return None
        size = self.store.size(blob)
        return (_named(self.store.read(blob)[1]) or size) if size <= _POINTER_BYTES else size


def _compare(inventories: Iterable[Inventory], patterns: Sequence[str], trees: _Trees) -> Compared:
    gone = {path for path, (old, new) in trees.changed.items() if old and not new}
    owners = _owners(gone)
    found = []
    for inventory in inventories:
        if inventory.verdict == "not-a-model" or not inventory.format:
            continue
        path = os.path.normpath(inventory.path)
        mine = _files(path)
        lost = owners.get(path, set()) & gone
        gone -= lost
        if lost or any(file in trees.changed for file in mine):
            sizes = [trees.before(file) for file in (*mine, *lost)]
            was = [size for size in sizes if size is not None]
            after = _size(path) or 0 if inventory.verdict == "pointer" else inventory.bytes
            found.append(Change(path, sum(was) if was else None, after, inventory.residue_bytes))
    removed, note = _removed(sorted(path for path in gone if reaches(path, patterns)), trees)
    return Compared(tuple(sorted([*found, *removed], key=lambda change: change.path)), note)


def _owners(paths: Iterable[str]) -> dict[str, set[str]]:
    """Return which of these files a model would have had by their names: a directory, or a checkpoint's prefix."""
    found: dict[str, set[str]] = {}
    for path in paths:
        found.setdefault(without_ending(path), set()).add(path)
        folder = os.path.dirname(path)
        while folder:
            found.setdefault(folder, set()).add(path)
            folder = os.path.dirname(folder)
    return found


def _files(path: str) -> list[str]:
    try:
        return [os.path.normpath(file) for file in files(path)]
    except TfstripError:
        return [path]


def _size(path: str) -> int | None:
    """Return the size of a file, of one in Git LFS the object's; None where there is none."""
    if not os.path.isfile(path):
        return None
    size = os.path.getsize(path)
    if size > _POINTER_BYTES:
        return size
    with open(path, "rb") as file:
        return _named(file.read()) or size


def _named(content: bytes) -> int | None:
    """Return the size that a Git LFS pointer names, None for what is none."""
    found = _POINTER.match(content)
    return int(found.group(1)) if found else None


def _removed(paths: Sequence[str], trees: _Trees) -> tuple[list[Change], str]:
    """Return the models among files that are gone; what is text is none of theirs."""
    left, too_big = _MOST_BYTES, False
    with tempfile.TemporaryDirectory() as top:
        for path in paths[:_MOST_REMOVED]:
            blob = trees.changed[path][0]
            size = trees.store.size(blob)
            if size > MOST_BYTES:
                too_big = True
                continue
            left -= size
            if left < 0:
                break
            content = trees.store.read(blob)[1]
            target = os.path.normpath(os.path.join(top, path))
            if (b"\0" in content[:8000] or _named(content) is not None) and target.startswith(top + os.sep):
                os.makedirs(os.path.dirname(target), exist_ok=True)
                with open(target, "wb") as file:
                    file.write(content)
        models = [item for item in survey([top]) if item.format]
        found = [
            Change(os.path.relpath(item.path, top), _size(item.path) or item.bytes, None, 0)
            for item in models
            if item.verdict not in ("not-a-model", "unreadable")
        ]
    cut = too_big or left < 0 or len(paths) > _MOST_REMOVED
    return found, "more files were removed than are looked into" if cut else ""
