"""Reading models without tfstrip: plain h5py and zipfile, so that the tests see with other eyes than the code."""

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py


def tensors(path: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return dtype, shape and bytes of every dataset, by path."""
    found = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            assert name not in found, f"{name} is in two files"
            found[name] = (item.dtype.str, item.shape, item[()].tobytes())

    for file in _hdf5(path):
        file.visititems(visit)
    return found


def attributes(path: str) -> dict[tuple[str, str], Any]:
    """Return every attribute of every object by (path, name), as comparable values."""
    found = {}

    def visit(name: str, item: Any) -> None:
        for key, value in item.attrs.items():
            found[name, key] = value.tolist() if hasattr(value, "tolist") else value

    for file in _hdf5(path):
        visit("", file)
        file.visititems(visit)
    return found


def groups(path: str) -> set[str]:
    """Return the paths of all groups, empty ones included."""
    found: set[str] = set()
    for file in _hdf5(path):
        file.visititems(lambda name, item: found.add(name) if isinstance(item, h5py.Group) else None)
    return found


def config(path: str) -> Any:
    """Return the parsed config.json of an archive or a directory."""
    return json.loads(members(path)["config.json"])


def members(path: str) -> dict[str, bytes]:
    """Return every member of an archive, every file of a directory, every file of sharded weights, or the one file."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    here = Path(path)
    if here.is_dir():
        return {
            file.relative_to(here).as_posix(): file.read_bytes() for file in sorted(here.rglob("*")) if file.is_file()
        }
    shards = sorted(here.parent.glob(here.name.replace(".weights.json", "_[0-9]*.weights.h5"))) if _is_map(path) else []
    return {file.name: file.read_bytes() for file in [here, *shards]}


def weights(path: str) -> bytes:
    """Return the bytes of the HDF5 files, out of the archive if they lie in one."""
    return b"".join(_weights(path))


def _is_map(path: str) -> bool:
    return path.endswith(".weights.json")


def _weights(path: str) -> list[bytes]:
    if zipfile.is_zipfile(path) or Path(path).is_dir():
        return [members(path)["model.weights.h5"]]
    return [content for name, content in members(path).items() if not _is_map(name)]


def _hdf5(path: str) -> Iterator[h5py.File]:
    for content in _weights(path):
        with h5py.File(io.BytesIO(content), "r") as file:
            yield file
