"""TensorFlow.js models that its own library and converter wrote, copied to where a test may change them."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import packed
from conftest import CACHE, FIXTURES

DATA = FIXTURES / "data" / "tfjs"
SAVED = packed.unpacked(DATA / "tfjs4.22.0" / packed.NAME, CACHE)
CONVERTED = packed.unpacked(DATA / "converter4.22.0" / packed.NAME, CACHE)
TRAINED = ["sequential_adam", "functional_adam", "recurrent_rmsprop", "sgd", "momentum", "adagrad", "adadelta"]
ALL = [*TRAINED, "untrained", "plain"]
QUANTIZED = ["uint8", "uint16", "float16"]
_SIZES = {"float32": 4, "int32": 4, "bool": 1, "complex64": 8, "uint8": 1, "uint16": 2, "float16": 2}


def copied(folder: Path, name: str = "sequential_adam") -> str:
    """Copy a model; return the path of its JSON."""
    source = SAVED / name if (SAVED / name).is_dir() else CONVERTED / name
    shutil.copytree(source, folder, copy_function=shutil.copyfile)
    return str(folder / "model.json")


def said(path: str) -> dict[str, Any]:
    """Return what a model's JSON says."""
    return json.loads(Path(path).read_text())


def change(path: str, how: Callable[[dict[str, Any]], Any]) -> str:
    """Write the JSON anew as `how` leaves it; return its path."""
    value = said(path)
    how(value)
    Path(path).write_text(json.dumps(value))
    return path


def weights(path: str) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Return spec and bytes of each weight, read as the loader reads them, and check that nothing is left over."""
    found = {}
    for group in said(path)["weightsManifest"]:
        data = b"".join((Path(path).parent / name).read_bytes() for name in group["paths"])
        for spec in group["weights"]:
            size = length(spec, data)
            found[spec["name"]] = (spec, data[:size])
            data = data[size:]
        assert data == b""
    return found


def length(spec: dict[str, Any], data: bytes) -> int:
    """Return how many of these bytes are the spec's."""
    count = int(np.prod(spec["shape"], dtype=np.int64))
    if spec["dtype"] != "string":
        return count * _SIZES[spec.get("quantization", spec)["dtype"]]
    at = 0
    for _ in range(count):
        at += 4 + int.from_bytes(data[at : at + 4], "little")
    return at


def kept(path: str) -> dict[str, tuple[dict[str, Any], bytes]]:
    """Return the weights that a strip must leave."""
    return {name: item for name, item in weights(path).items() if item[0].get("group") != "optimizer"}


def content(folder: Path | str) -> dict[str, bytes]:
    """Return all files below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in sorted(Path(folder).rglob("*")) if path.is_file()
    }


def graph(folder: Path, **more: Any) -> str:
    """Write a small graph-model as the converter does; return the path of its JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    nodes = [{"name": "x", "op": "Placeholder"}, {"name": "w", "op": "Const"}]
    specs = [
        {"name": "w", "shape": [2, 2], "dtype": "float32"},
        {"name": "names", "shape": [2], "dtype": "string"},
        {"name": "axis", "shape": [], "dtype": "int32"},
    ]
    data = np.arange(4, dtype="<f4").tobytes() + b"\3\0\0\0abc" + b"\0\0\0\0" + b"\1\0\0\0"
    (folder / "group1-shard1of1.bin").write_bytes(data)
    model = {"format": "graph-model", "generatedBy": "2.15.0", "convertedBy": "TensorFlow.js Converter v4.22.0"}
    model |= {
        "modelTopology": {"node": nodes},
        "weightsManifest": [{"paths": ["group1-shard1of1.bin"], "weights": specs}],
    }
    (folder / "model.json").write_text(json.dumps(model | more))
    return str(folder / "model.json")
