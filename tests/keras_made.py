"""Fixtures of Keras models that are several files, copied to where a test may change them, and read with other eyes."""

import json
import shutil
from pathlib import Path

import h5py
from conftest import FIXTURES
from independent import tensors as h5_tensors

DATA = FIXTURES / "data" / "keras_files"
DIRECTORY, PLAIN = DATA / "keras3.15.1" / "directory", DATA / "keras3.4.1" / "plain"
LAYER_SPANS, OPTIMIZER_SPANS = DATA / "keras3.15.1" / "layer_spans", DATA / "keras3.10.0" / "optimizer_spans"


def directory(to: Path, source: Path = DIRECTORY) -> str:
    """Copy an unzipped model; return its path."""
    return str(shutil.copytree(source, to))


def shards(folder: Path, source: Path = LAYER_SPANS, name: str = "") -> str:
    """Copy sharded weights, under another name if one is given; return the path of their map."""
    folder.mkdir(exist_ok=True)
    name = name or source.name
    for path in source.parent.glob(f"{source.name}_*.h5"):
        shutil.copy(path, folder / path.name.replace(source.name, name))
    text = Path(f"{source}.weights.json").read_text().replace(f"{source.name}_", f"{name}_")
    target = folder / f"{name}.weights.json"
    target.write_text(text)
    return str(target)


def mapped(path: str) -> dict:
    """Return what a map says."""
    return json.loads(Path(path).read_text())


def union(path: str) -> dict:
    """Return dtype, shape and bytes of every dataset of all files called like the map at `path`, by (path)."""
    stem = Path(path).name.removesuffix(".weights.json")
    found: dict = {}
    for file in sorted(Path(path).parent.glob(f"{stem}_*.weights.h5")):
        here = h5_tensors(str(file))
        assert not found.keys() & here.keys()
        found |= here
    return found


def groups(path: str) -> set[tuple[str, str]]:
    """Return the groups of all files called like the map at `path`, each with the ending of its file."""
    stem = Path(path).name.removesuffix(".weights.json")
    found: set[tuple[str, str]] = set()
    for file in Path(path).parent.glob(f"{stem}_*.weights.h5"):
        with h5py.File(file) as opened:
            opened.visititems(
                lambda name, item, file=file: (
                    found.add((file.name.removeprefix(stem), name)) if isinstance(item, h5py.Group) else None
                )
            )
    return found
