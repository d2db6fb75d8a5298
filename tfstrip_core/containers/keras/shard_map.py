"""Which files Keras 3.10 and later spread a model's weights over: NAME.weights.json, read as nobody trusts it.

Its weight_map gives the file, or the files, of each group of variables. Keras opens the first of all files whether it
is in the map or not, and up to 3.10 names only the first file of a group that goes on in others.
"""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from tfstrip_core.codecs import jsontext
from tfstrip_core.errors import NotAModel, Pointer, Refused, Unreadable

ENDING = ".weights.json"
FIRST = "_00000.weights.h5"
_SHARD = re.compile(r"(?s)(.*)(_[0-9]{5,}\.weights\.h5)")
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_EXACT = 1 << 53  # up to here every size is a float of its own


@dataclass(frozen=True, slots=True)
class ShardMap:
    """The map of the model whose files are called `path` + ending; `shards` are the endings of each group's files.

    `said` is the file's JSON. Groups are paths without a leading slash, as HDF5 trees have them here.
    """

    path: str
    said: Mapping[str, Any]
    shards: Mapping[str, tuple[str, ...]]

    @property
    def endings(self) -> tuple[str, ...]:
        """Endings of the files that a loader opens, in the order of their numbers."""
        return tuple(sorted({FIRST, *(ending for held in self.shards.values() for ending in held)}, key=number))

    def others(self) -> list[str]:
        """Return the endings of the regular files beside those that are called like more of them."""
        folder, base = os.path.split(self.path)
        matches = (_SHARD.fullmatch(name) for name in os.listdir(folder or "."))
        found = {match.group(2) for match in matches if match and match.group(1) == base}
        found = {ending for ending in found if os.path.isfile(self.path + ending)}
        return sorted(found - set(self.endings), key=number)


def number(ending: str) -> tuple[int, str]:
    """Return what orders endings by their numbers."""
    return len(ending), ending


def read(path: str) -> ShardMap:
    """Return the map of the model called `path`.

    Raises NotAModel where it is no Keras map, Unreadable where it is damaged or a file that it names is missing,
    Pointer where one is a Git LFS pointer, and Refused for what no framework writes.
    """
    with open(path + ENDING, "rb", buffering=0) as file:
        said = jsontext.parse(file.read(jsontext.MAX_BYTES + 1), "its map")
    weights = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(weights, dict) or not any(key.startswith("/") and _is_group(key) for key in weights):
        raise NotAModel("the JSON file maps no Keras weights", "nothing to do")
    base = os.path.basename(path)
    made = ShardMap(path, said, {key[1:]: tuple(_endings(key, value, base)) for key, value in weights.items()})
    for ending in made.endings:
        _check_there(path, ending)
    return made


def _is_group(key: str) -> bool:
    return key == "/vars" or key.endswith("/vars")


def _endings(key: str, value: object, base: str) -> Iterator[str]:
    names: list[Any] = value if isinstance(value, list) else [value]
    if not key.startswith("/") or not _is_group(key) or "//" in key:
        raise Refused(f"its map has the key {key!r}, which is no group of variables", "do not load this file")
    if not names or not all(isinstance(name, str) for name in names) or len(set(names)) < len(names):
        raise Refused(f"its map gives {key!r} no list of files", "no framework writes that; do not load this file")
    for name in names:
        yield _ending(name, base)


@lru_cache(maxsize=1000)  # a map names a file for each group that it holds
def _ending(name: str, base: str) -> str:
    if os.path.basename(name) != name or "\\" in name or not name.isprintable():
        raise Refused(f"its map names {name!r}, which is no file beside it", "do not load this file")
    match = _SHARD.fullmatch(name)
    if not match:
        raise Refused(f"its map names {name!r}, which is no file of weights", "do not load this file")
    if match.group(1) != base:
        # Keras finds the first file by the name of the map, and so would not load it either.
        remedy = f"call it {match.group(1)}{ENDING}, as its files are"
        raise Unreadable(f"its map names {name}, which is not called like the map", remedy)
    return match.group(2)


def _check_there(path: str, ending: str) -> None:
    name = os.path.basename(path) + ending
    if not os.path.isfile(path + ending):
        what = "no regular file" if os.path.exists(path + ending) else "missing"
        raise Unreadable(f"its file {name} is {what}", "get a complete copy of all its files")
    with open(path + ending, "rb", buffering=0) as file:
        if file.read(len(_POINTER)) == _POINTER:
            cause = f"its file {name} is a Git LFS pointer and its object is not here"
            raise Pointer(cause, "run git lfs pull, in CI check out with lfs: true")


def excess(shards: ShardMap, stored: float) -> object:
    """Return by how many bytes the map's total_size is off, or what it is if it is no number of bytes."""
    total = _total(shards)
    return total - stored if isinstance(total, float) else total


def _total(shards: ShardMap) -> object:
    metadata = shards.said.get("metadata")
    total = metadata.get("total_size") if isinstance(metadata, dict) else None
    number = isinstance(total, (int, float)) and not isinstance(total, bool) and abs(total) < _EXACT
    return float(total) if number and total is not None and math.isfinite(total) else total


def size(dtype: str, count: int) -> float:
    """Return the bytes that Keras adds to total_size for a tensor stored in so many: it counts a bool as one bit."""
    return count / 8 if dtype == "bool" else float(count)


def text(shards: ShardMap, base: str, gone: Collection[str], removed: float) -> bytes:
    """Return the map's JSON for files called `base` + ending, without groups that are `gone` and their bytes."""
    weights = {
        key: [base + ending for ending in shards.shards[key[1:]]] if isinstance(value, list) else base + first
        for key, value in shards.said["weight_map"].items()
        for first in shards.shards[key[1:]][:1]
        if key[1:] not in gone
    }
    said = dict(shards.said) | {"weight_map": weights}
    total = _total(shards)
    if isinstance(total, float):
        said["metadata"] = said["metadata"] | {"total_size": total - removed}
    return json.dumps(said, indent=4).encode("ascii")


def rest(shards: ShardMap) -> Iterable[tuple[str, bytes]]:
    """Yield what the map says besides: each other statement by its name."""
    metadata = shards.said.get("metadata")
    if isinstance(metadata, dict):
        yield "metadata", jsontext.dump({key: value for key, value in metadata.items() if key != "total_size"})
    for key, value in shards.said.items():
        if key not in ("metadata", "weight_map") or (key == "metadata" and not isinstance(value, dict)):
            yield key, jsontext.dump(value)
