"""Globs to paths, as the Action's inputs have them: one a line, `**` reaching into folders."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Iterable, Iterator

from tfstrip_core.discover import is_plain_directory


def expand(patterns: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield each glob (`**` reaches into folders) with the paths that it matches; an existing path matches itself.

    A folder that a glob matches counts only if it is a model: what lies in it is for `**` to match. `**` follows no
    symlinks, which can lead anywhere and in circles. As in a shell, only a dot matches a leading dot.
    """
    for pattern in patterns:
        if os.path.lexists(pattern):
            yield pattern, [os.path.normpath(pattern)]
            continue
        hits = _deep(pattern) if "**" in pattern.split("/") else glob.iglob(pattern)
        yield pattern, sorted({os.path.normpath(path) for path in hits if not is_plain_directory(path)})


def reaches(path: str, patterns: Iterable[str]) -> bool:
    """Return whether expand() would lead to a path that is not there any more, by itself or by a folder of its."""
    names = os.path.normpath(path).split(os.sep)
    for pattern in patterns:
        words = os.path.normpath(pattern).split(os.sep)
        if words == ["."] or names[: len(words)] == words or _fits(names, words):
            return True
    return False


def _deep(pattern: str) -> Iterator[str]:
    """Yield what a glob with `**` in it matches."""
    words = [word for word in pattern.split("/") if word not in ("", ".")]
    fixed = next(place for place, word in enumerate(words) if glob.has_magic(word))
    top = ("/" if pattern.startswith("/") else "") + "/".join(words[:fixed])
    for folder, folders, files in os.walk(top or "."):
        folders[:] = sorted(name for name in folders if name != ".git")
        inside = [] if folder == (top or ".") else os.path.relpath(folder, top or ".").split(os.sep)
        for name in (*folders, *files):
            if _fits([*inside, name], words[fixed:]):
                yield os.path.join(folder, name)


def _fits(names: list[str], words: list[str]) -> bool:
    """Return whether the parts of a path fit those of a glob."""
    reached = {0}  # how many of the words may have been used up by the names so far
    for name in names:
        now = set()
        for place in _beyond(reached, words):
            if place < len(words) and (not name.startswith(".") or words[place].startswith(".")):
                if words[place] == "**":
                    now.add(place)
                elif fnmatch.fnmatchcase(name, words[place]):
                    now.add(place + 1)
        reached = now
    return len(words) in _beyond(reached, words)


def _beyond(places: set[int], words: list[str]) -> set[int]:
    """Return the places with those behind each `**`, which may match no folder at all."""
    found = set(places)
    for place in places:
        while place < len(words) and words[place] == "**":
            place += 1  # noqa: PLW2901
            found.add(place)
    return found
