"""What the JSON of a TensorFlow.js model says, read as nobody trusts it: its kind, its weights, and the files of them.

The weights of a group lie one behind the other in the group's files together, in the order of their specs; only of
strings do the bytes themselves say how many they are.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tfstrip_core.codecs import jsontext
from tfstrip_core.codecs.joined import Joined
from tfstrip_core.errors import NotAModel, Pointer, Refused, Unreadable, Unsupported

LAYERS, GRAPH = "tfjs-layers", "tfjs-graph"
OPTIMIZER = "optimizer"  # the group that TensorFlow.js gives the specs of an optimizer's weights, and no others
SPECS, PATHS = "weights", "paths"

# Bytes of one element, as TensorFlow.js counts them.
_SIZES = {"float32": 4, "float16": 2, "int32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8}
_QUANTIZED = ("uint8", "uint16", "float16")
_STRING = "string"
_LENGTH = 4  # bytes before each string that say how long it is
_MOST_STRINGS = 1 << 22
_MOST = 1 << 53  # beyond it JavaScript counts no more
_LISTED = b'"weightsManifest"'
_POINTER = b"version https://git-lfs.github.com/spec/v1"
_POINTER_BYTES = 1024
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_HOSTILE = "no framework writes that; do not load this model"
_COPY = "get a complete copy of all its files"


@dataclass(frozen=True, slots=True)
class Spec:
    """One weight: `stored` is the type of its elements in the file, `count` how many there are, `said` its JSON."""

    name: str
    dtype: str
    stored: str
    shape: tuple[int, ...]
    count: int
    said: Mapping[str, Any]

    @property
    def is_optimizer(self) -> bool:
        """Whether it is marked as an optimizer's."""
        return self.said.get("group") == OPTIMIZER

    @property
    def bytes(self) -> int | None:
        """How many bytes it has, None for strings, which say it themselves."""
        return None if self.stored == _STRING else self.count * _SIZES[self.stored]


@dataclass(frozen=True, slots=True)
class Group:
    """One group of the manifest: its files, as paths from the model's folder, and its weights."""

    files: tuple[str, ...]
    specs: tuple[Spec, ...]
    said: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Manifest:
    """A model's JSON: its `text`, what that says, which `kind` of model it is and its groups of weights."""

    path: str
    text: str
    said: Mapping[str, Any]
    kind: str
    groups: tuple[Group, ...]

    @property
    def folder(self) -> str:
        """Path of the folder that the files are in, as it stands before their names."""
        return os.path.join(os.path.dirname(self.path), "")

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of all files of weights from the model's folder, in the order in which loaders read them."""
        return tuple(name for group in self.groups for name in group.files)

    def absent(self) -> list[str]:
        """Return the files that are not there."""
        return [name for name in self.files if not os.path.lexists(self.folder + name)]

    def weights_are_elsewhere(self) -> bool:
        """Whether none of its files is here: loaders can be told another place, so that the JSON comes alone."""
        return bool(self.files) and len(self.absent()) == len(self.files)


def read(path: str) -> Manifest:
    """Return what the JSON at `path` says; no weight is read, and its files are only named.

    Raises NotAModel where it is none of TensorFlow.js, Unsupported for weights without a model, Unreadable where it
    is damaged, and Refused for what no writer writes.
    """
    with open(path, "rb", buffering=0) as file:
        data = file.read(jsontext.MAX_BYTES + 1)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise Unreadable("its JSON is not UTF-8, as loaders read it", "save the model again") from None
    said = jsontext.parse(text.removeprefix("\ufeff"), "its JSON")
    if not isinstance(said, dict):
        raise NotAModel("the JSON file is no TensorFlow.js model", "nothing to do")
    topology, listed = said.get("modelTopology"), said.get("weightsManifest")
    groups = tuple(_groups(listed, os.path.basename(path))) if listed is not None else ()
    if isinstance(topology, dict):
        if "class_name" in topology or "model_config" in topology:
            return Manifest(path, text, said, LAYERS, groups)
        if "node" in topology or said.get("format") == "graph-model":
            return Manifest(path, text, said, GRAPH, groups)
    if groups:
        raise Unsupported("this is a TensorFlow.js list of weights without a model", "name the model that they are of")
    raise NotAModel("the JSON file is no TensorFlow.js model", "nothing to do")


def _groups(listed: object, name: str) -> Iterator[Group]:
    if not isinstance(listed, list):
        raise Unreadable("its weightsManifest is no list", "save the model again")
    names: set[str] = set()
    taken = {name}
    for said in listed:
        files, specs = (said.get(PATHS), said.get(SPECS)) if isinstance(said, dict) else (None, None)
        if not isinstance(files, list) or not isinstance(specs, list):
            raise Unreadable("its weightsManifest has a group without paths or weights", "save the model again")
        group = Group(tuple(map(_file, files)), tuple(map(_spec, specs)), said)
        for spec in group.specs:
            if spec.name in names:
                cause = f"two of its weights are called {spec.name!r}, and loaders take one for the other"
                raise Refused(cause, _HOSTILE)
            names.add(spec.name)
        for file in group.files:
            if file in taken:
                raise Refused(f"its weightsManifest names the file {file!r} twice", _HOSTILE)
            taken.add(file)
        yield group


def _file(path: object) -> str:
    """Return a path of the manifest without what means nothing; raises Refused for one that leads elsewhere."""
    if not isinstance(path, str):
        raise Unreadable("its weightsManifest names a file that is no name", "save the model again")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    plain = path.isprintable() and "\\" not in path and not path.startswith("/") and not _URL.match(path)
    if not plain or not parts or path.endswith("/") or any(part.startswith(".") for part in parts):
        raise Refused(f"its weightsManifest names {path[:200]!r}, which is no file beside it", "do not load this model")
    return "/".join(parts)


def _spec(said: object) -> Spec:
    name = said.get("name") if isinstance(said, dict) else None
    if not isinstance(said, dict) or not isinstance(name, str):
        raise Unreadable("its weightsManifest has a weight without a name", "save the model again")
    shape, dtype = said.get("shape"), said.get("dtype")
    if not isinstance(shape, list) or not all(type(size) is int for size in shape):
        raise Unreadable(f"its weight {name!r} has no shape", "save the model again")
    stored = dtype
    if "quantization" in said:
        quantization = said["quantization"]
        stored = quantization.get("dtype") if isinstance(quantization, dict) else None
        stored = stored if stored in _QUANTIZED else None
    if not isinstance(dtype, str) or (stored not in _SIZES and stored != _STRING):
        raise Unreadable(f"its weight {name!r} has a dtype that no loader knows", "save the model again")
    return Spec(name, dtype, str(stored), tuple(shape), _count(name, shape), said)


def _count(name: str, shape: Collection[int]) -> int:
    """Return the number of elements, in bounds: a hostile shape must not cost more than a look."""
    count = 0 if 0 in shape else 1
    for size in shape:
        if not 0 <= size <= _MOST:
            raise Refused(f"its weight {name!r} has a dimension of {size}", _HOSTILE)
        count *= size
        if count > _MOST:
            raise Refused(f"its weight {name!r} has more elements than any file holds", _HOSTILE)
    return count


def check_files(manifest: Manifest) -> None:
    """Raise Unreadable where a file is missing, Pointer for one in Git LFS, Refused for one that lies elsewhere."""
    folder = os.path.realpath(manifest.folder or ".")
    cached = os.path.islink(manifest.path)  # caches keep all contents elsewhere
    for name in manifest.files:
        path = manifest.folder + name
        if not os.path.isfile(path):
            what = "no regular file" if os.path.lexists(path) else "missing"
            raise Unreadable(f"its file {name} is {what}", _COPY)
        inside = os.path.realpath(os.path.dirname(path)) if cached else os.path.realpath(path)
        if os.path.commonpath([inside, folder]) != folder:
            raise Refused(f"its file {name} is a link that leads out of its folder", "put a copy there")
        if os.stat(path).st_size <= _POINTER_BYTES:
            with open(path, "rb", buffering=0) as file:
                if file.read(len(_POINTER)) == _POINTER:
                    cause = f"its file {name} is a Git LFS pointer and its object is not here"
                    raise Pointer(cause, "run git lfs pull, in CI check out with lfs: true")


def joined(manifest: Manifest, group: Group) -> Joined:
    """Open the files of a group as one."""
    return Joined([manifest.folder + name for name in group.files])


def sizes(manifest: Manifest, group: Group) -> tuple[int, ...]:
    """Return the bytes of each weight of a group whose files are there.

    Raises Unreadable where the files have not exactly as many as that.
    """
    with joined(manifest, group) as file:
        found: list[int] = []
        at = 0
        strings = sum(spec.count for spec in group.specs if spec.bytes is None)
        if strings > _MOST_STRINGS:
            raise Refused(f"it has {strings:,} strings", _HOSTILE)
        for spec in group.specs:
            size = spec.bytes
            found.append(_string_bytes(file, at, spec) if size is None else size)
            at += found[-1]
        if at != file.size:
            names = ", ".join(group.files[:3])
            cause = f"its files of weights ({names}) have {file.size:,} bytes, and its specs say {at:,}"
            raise Unreadable(cause, _COPY)
        return tuple(found)


def _string_bytes(file: Joined, begin: int, spec: Spec) -> int:
    if spec.count * _LENGTH > file.size - begin:
        raise Unreadable(f"its files of weights end in the middle of {spec.name!r}", _COPY)
    at = begin
    reader = io.BufferedReader(file)
    for _ in range(spec.count):
        reader.seek(at)
        length = reader.read(_LENGTH)
        at += _LENGTH + int.from_bytes(length, "little")
        if len(length) < _LENGTH or at > file.size:
            reader.detach()
            raise Unreadable(f"its files of weights end in the middle of {spec.name!r}", _COPY)
    reader.detach()
    return at - begin


def dtype(spec: Spec) -> str:
    """Return the type of a weight's elements, with what turns them into numbers where they are quantized in steps."""
    quantization = spec.said.get("quantization")
    if not isinstance(quantization, dict) or spec.stored == "float16":
        return spec.stored
    return f"{spec.stored}*{json.dumps(quantization.get('scale'))}+{json.dumps(quantization.get('min'))}"
