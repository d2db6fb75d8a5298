"""Reading models without tfstrip: plain h5py and zipfile, so that the tests see with other eyes than the code."""

import io
import json
import zipfile
from typing import Any

import h5py


def tensors(path: str) -> dict[str, tuple[str, tuple[int, ...], bytes]]:
    """Return dtype, shape and bytes of every dataset, by path."""
    found = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = (item.dtype.str, item.shape, item[()].tobytes())

    with _hdf5(path) as file:
        file.visititems(visit)
    return found


def attributes(path: str) -> dict[tuple[str, str], Any]:
    """Return every attribute of every object by (path, name), as comparable values."""
    found = {}

    def visit(name: str, item: Any) -> None:
        for key, value in item.attrs.items():
            found[name, key] = value.tolist() if hasattr(value, "tolist") else value

    with _hdf5(path) as file:
        visit("", file)
        file.visititems(visit)
    return found


def groups(path: str) -> set[str]:
    """Return the paths of all groups, empty ones included."""
    found: set[str] = set()
    with _hdf5(path) as file:
        file.visititems(lambda name, item: found.add(name) if isinstance(item, h5py.Group) else None)
    return found


def config(path: str) -> Any:
    """Return the parsed config.json of an archive."""
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read("config.json"))


def members(path: str) -> dict[str, bytes]:
    """Return every member of an archive."""
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def weights(path: str) -> bytes:
    """Return the HDF5 file's bytes, out of the archive if it lies in one."""
    if zipfile.is_zipfile(path):
        return members(path)["model.weights.h5"]
    with open(path, "rb") as file:
        return file.read()


def _hdf5(path: str) -> h5py.File:
    return h5py.File(io.BytesIO(weights(path)), "r")
