"""Containers: the file formats that hold a model, recognised by content and never by name.

Recognising reads a few bytes and imports nothing, so that files that are no models cost next to nothing; the
module of a container is imported when its first file comes along.
"""

from __future__ import annotations

import importlib
import os

from tfstrip_core.codecs import layouts

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from contextlib import AbstractContextManager
    from typing import BinaryIO, Protocol

    from tfstrip_core.codecs.layouts import Layout
    from tfstrip_core.inventory import Contents, Inventory, Plan, Scope

    class Container(Protocol):
        """What each container module offers."""

        def inventory(self, path: str, scope: Scope = ..., /) -> Inventory:
            """Return what the model holds, from metadata alone; `scope` says what of a SavedModel is for inference."""

        def contents(self, path: str) -> AbstractContextManager[Contents]:
            """Open the model as comparable parts."""

        def endings(self, path: str, /) -> tuple[str, ...]:
            """Return what follows `path` in the names of the files that are the model: ("",) where it is one file.

            They begin with a separator where the model is a directory, and are all that comes along to another place.
            Where files have names of their own they are those, and what stands before them is the function `place`'s.
            """

        def check_whole(self, path: str) -> None:
            """Read every byte against the checksums that the file itself carries; raise Unreadable if it is damaged."""

        def beside(self, path: str, target: str, /) -> Mapping[str, bytes | None]:
            """Return files beside the result that name it, with what they must say once it is in place.

            None is for one that might name it and belongs to others.
            """

        def rewrite(self, path: str, plan: Plan, target: str) -> list[str]:
            """Write the model without what the plan drops to `target`, new; return what the user should know.

            Of a directory only the model's own files: others need no change.
            """


KERAS_ZIP, HDF5, CHECKPOINT, POINTER = "keras-zip", "hdf5", "checkpoint", "lfs-pointer"
SAVED_MODEL, KERAS_DIRECTORY, KERAS_SHARDS = "saved-model", "keras-directory", "keras-shards"
TFJS = "tfjs"
TABLE = "checkpoint-v1"  # or, where its name says so, the index of a CHECKPOINT
GRAPH, GRAPH_TEXT, META_GRAPH = "graph-def", "graph-def-text", "meta-graph"
GRAPHS = (GRAPH, GRAPH_TEXT, META_GRAPH)
CUT_TABLE = "cut-table"  # perhaps such a file, cut off: it has the beginning and no end, or nothing at all
_MODULES = {
    KERAS_ZIP: "keras.keras_zip",
    HDF5: "keras.keras_hdf5",
    CHECKPOINT: "checkpoints.checkpoint",
    TABLE: "checkpoints.checkpoint_v1",
    SAVED_MODEL: "saved.saved_model",
    KERAS_DIRECTORY: "keras.keras_directory",
    KERAS_SHARDS: "keras.keras_shards",
    TFJS: "tfjs.tfjs_model",
    **dict.fromkeys(GRAPHS, "graphs.graph"),
}
# The ending of the file that names a model's other files, and so says what they are called. Users name it for all.
_MAPS = {KERAS_SHARDS: ".weights.json"}
LAYOUTS = {SAVED_MODEL: layouts.SAVED_MODEL, KERAS_DIRECTORY: layouts.KERAS}

# What is recognised and not handled: its name, and the way out.
UNSUPPORTED = {
    "tflite": ("a TFLite model", "convert it from a stripped model"),
    "orbax": ("an Orbax checkpoint", "restore the model from it in Keras, save that as .keras and strip it"),
}

_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_TABLE_MAGIC = 0xDB4775248B80FB57.to_bytes(8, "little")
_POINTER_START = b"version https://git-lfs.github.com/spec/v1"
_BOM = b"\xef\xbb\xbf"
_TFJS = (b'"modelTopology"', b'"weightsManifest"', b'"format": "graph-model"')
_TFJS_FIRST = (b'"signature"', b'"userDefinedMetadata"', b'"trainingConfig"', b'"convertedBy"', b'"generatedBy"')
_HEAD = 512
_END = 22  # an archive's last record, where it ends without a comment
_TAIL = _END + 0xFFFF
_END_64 = 76  # what zip64 puts before it
_MAX_DIRECTORY = 64 << 20
_NAMES = (b"metadata.json", b"config.json", b"model.weights.")
_MAX_USERBLOCK = 1 << 20
_MAX_JSON_HEAD = 64 << 10
_ORBAX = "_CHECKPOINT_METADATA"
_MARKS = (layouts.PB, layouts.TEXT, layouts.CONFIG, layouts.METADATA, layouts.WEIGHTS, layouts.NPZ, _ORBAX)


def container(kind: str) -> Container:
    """Return the module that handles a recognised `kind`."""
    module: Container = importlib.import_module(f"tfstrip_core.containers.{_MODULES[kind]}")
    return module


def layout(kind: str) -> Layout | None:
    """Return how the files of a model lie in the directory that it is; None for one that is no directory."""
    return LAYOUTS.get(kind)


def map_ending(kind: str) -> str:
    """Return the ending of the file that names the others of a model of several files, "" where none does."""
    return _MAPS.get(kind, "")


def place(kind: str, path: str) -> str:
    """Return what stands before the endings in the paths of the files of the model at `path`.

    That is the path, or its folder where the files have names of their own.
    """
    return os.path.join(os.path.dirname(path), "") if kind == TFJS else path


def recognise_directory(path: str, names: Collection[str] | None = None) -> str:
    """Return the kind of the directory at `path`, which holds files of these `names`, if it is one model, else ""."""
    there = {name for name in _MARKS if (name in names if names is not None else os.path.isfile(f"{path}/{name}"))}
    if there & {layouts.PB, layouts.TEXT}:
        return SAVED_MODEL
    if (
        layouts.CONFIG in there
        and there & {layouts.WEIGHTS, layouts.NPZ, layouts.METADATA}
        and _is_keras_directory(path)
    ):
        return KERAS_DIRECTORY
    return "orbax" if _ORBAX in there else ""


def _is_keras_directory(path: str) -> bool:
    """Whether config.json begins as a Keras object's and the weights are HDF5, or numpy's: others use the names too.

    Where they are missing, metadata.json says that there were some.
    """
    config, weights, pickled = (os.path.join(path, name) for name in (layouts.CONFIG, layouts.WEIGHTS, layouts.NPZ))
    try:
        if not os.path.isfile(config):
            return False
        with open(config, "rb", buffering=0) as file:
            head = file.read(_MAX_JSON_HEAD)
        if head.lstrip()[:1] != b"{" or b'"class_name"' not in head:
            return False
        if os.path.lexists(weights):
            return os.path.isfile(weights) and recognise(weights) == HDF5
        if os.path.lexists(pickled):
            return os.path.isfile(pickled)
        with open(os.path.join(path, layouts.METADATA), "rb", buffering=0) as file:
            return b'"keras_version"' in file.read(_HEAD)
    except OSError:
        return False


def recognise(path: str) -> str:
    """Return what the regular file at `path` looks like: a key of _MODULES or UNSUPPORTED, POINTER, CUT_TABLE, or "".

    Reads the first 512 bytes, and the end of what may be an archive or a table. Raises OSError.
    """
    with open(path, "rb", buffering=0) as file:
        head = file.read(_HEAD)
        if _is_keras_zip(file, head):
            return KERAS_ZIP
        if head.startswith(_HDF5_MAGIC) or (len(head) == _HEAD and _has_userblock(file)):
            return HDF5
        if head.startswith(_POINTER_START):
            return POINTER
        if head[4:8] == b"TFL3":
            return "tflite"
        # A table whose first key is empty: LevelDB's own have no such key. A compressed one does not show it.
        if (head.startswith(b"\0\0") or path.endswith(".index")) and _end(file, 8) == _TABLE_MAGIC:
            return TABLE
        if not head or (head.startswith(b"\0\0") and _is_description(head[2:])):
            return CUT_TABLE
        if head.startswith(b"\x08\x01\x12") and os.path.basename(path) == "saved_model.pb":
            return SAVED_MODEL
        if head.removeprefix(_BOM).lstrip()[:1] != b"{":
            return _graph_form(file, head)
        if _is_tfjs(file, head):
            return TFJS
        return KERAS_SHARDS if _is_shard_map(file, head) else ""


def _graph_form(file: BinaryIO, head: bytes) -> str:
    """Return which form of a graph a file begins as, "" for none."""
    if head[:1] != b"\n" and head.lstrip()[:1] not in (b"n", b"#"):
        return ""
    from tfstrip_core.codecs import graph_heads

    def read(at: int) -> bytes:
        file.seek(at)
        return file.read(_HEAD)

    return graph_heads.form(head, read)


def _is_tfjs(file: BinaryIO, head: bytes) -> bool:
    """Whether a JSON file begins as a TensorFlow.js model; what it says of itself may come first, at any length."""
    if any(mark in head for mark in _TFJS):
        return True
    if not any(mark in head for mark in _TFJS_FIRST):
        return False
    file.seek(0)
    text = file.read(_MAX_JSON_HEAD)
    return any(mark in text for mark in _TFJS)


def _is_shard_map(file: BinaryIO, head: bytes) -> bool:
    """Whether a JSON file begins as a map of Keras weights; those of other frameworks have other files."""
    if not (b'"metadata"' in head or b'"weight_map"' in head):
        return False
    file.seek(0)
    text = file.read(_MAX_JSON_HEAD)
    return all(mark in text for mark in (b'"weight_map"', b'/vars"', b'.weights.h5"'))


def _is_description(head: bytes) -> bool:
    """Return whether a table's first value begins as the description of tensors does: its length, a field, its length.

    The field is the value's only one. Its length is what is left of the value's.
    """
    numbers, at = [], 0
    for _ in range(2):
        number = shift = 0
        while at < len(head) and shift < 35:
            number |= (head[at] & 127) << shift
            shift += 7
            at += 1
            if head[at - 1] < 128:
                break
        numbers.append((number, at))
        if head[at : at + 1] != b"\n":
            return False
        at += 1
    (whole, begin), (inner, end) = numbers
    return inner == whole - (end - begin)


def _end(file: BinaryIO, count: int) -> bytes:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - count))
    return file.read(count)


def _is_keras_zip(file: BinaryIO, head: bytes) -> bool:
    """Whether an archive's directory, or in a cut-off one the first entry, has the names of a Keras model."""
    begins = head.startswith(b"PK\x03\x04")
    named = begins and head[30:].startswith(_NAMES)
    tail = _end(file, _TAIL if begins else _END)
    at = tail.rfind(b"PK\x05\x06")
    if at < 0 or len(tail) - at < _END:
        return named
    size = int.from_bytes(tail[at + 12 : at + 16], "little")
    if named and (size > _MAX_DIRECTORY or b"PK\x06\x06" in tail[max(0, at - _END_64) : at]):
        return True
    directory = _end(file, len(tail) - at + _END_64 + min(size, _MAX_DIRECTORY))
    return sum(name in directory for name in _NAMES) > 1


def _has_userblock(file: BinaryIO) -> bool:
    """HDF5 may begin at any doubling of 512 bytes, behind bytes that are the user's own."""
    place = _HEAD
    while place <= _MAX_USERBLOCK:
        file.seek(place)
        found = file.read(len(_HDF5_MAGIC))
        if found == _HDF5_MAGIC:
            return True
        if len(found) < len(_HDF5_MAGIC):
            return False
        place *= 2
    return False
