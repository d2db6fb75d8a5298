"""Real models from public repositories, where TFSTRIP_REAL_MODELS names a directory with a MANIFEST.tsv of them."""

import csv
import hashlib
import io
import os
from pathlib import Path
from typing import Any

import h5py
import pytest
from independent import tensors, weights

import tfstrip_core
from tfstrip_core.codecs import object_graph, tensor_bundle

FOLDER = os.environ.get("TFSTRIP_REAL_MODELS", "")
SUPPORTED = ("Keras .keras zip", "Keras HDF5 full model", "Keras HDF5 weights-only (legacy)")
SAVED = ("SavedModel TF1", "SavedModel TF2", "SavedModel TF2 (Keras)")
TFJS = {"TF.js layers-model": "tfjs-layers", "TF.js graph-model": "tfjs-graph"}
OBJECTS, NAMES = "TF2 object-based checkpoint", "TF1 V2 name-based checkpoint"


def rows(*kinds: str) -> list[dict[str, str]]:
    if not FOLDER:
        return []
    with (Path(FOLDER) / "MANIFEST.tsv").open(newline="") as file:
        return [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["kind"] in kinds]


ROWS, CHECKPOINTS, DIRECTORIES = rows(*SUPPORTED), rows(OBJECTS, NAMES), rows(*SAVED)
if not FOLDER:
    pytest.skip("set TFSTRIP_REAL_MODELS to a directory of real models", allow_module_level=True)

every_real_checkpoint = pytest.mark.parametrize("row", CHECKPOINTS, ids=lambda row: row["path"])
every_real_model = pytest.mark.parametrize("row", ROWS, ids=lambda row: row["path"])


def path_of(row: dict[str, str]) -> str:
    return str(Path(FOLDER) / row["path"])


def test_there_are_real_models() -> None:
    """The directory holds models of the supported containers, so that the tests below have run."""
    assert len(ROWS) >= 9
    assert {row["kind"] for row in CHECKPOINTS} == {OBJECTS, NAMES}
    assert {row["kind"] for row in DIRECTORIES} == set(SAVED)


@pytest.mark.parametrize("row", rows("GraphDef .pb"), ids=lambda row: row["path"])
def test_a_frozen_graph_is_clean(row: dict[str, str], tmp_path: Path) -> None:
    """Nothing of it goes, and its weights are the bytes that the manifest counts."""
    inventory = tfstrip_core.inspect(path_of(row))
    assert (inventory.format, inventory.verdict, inventory.tensor_bytes) == (
        "graph-def", row["verdict"], int(row["tensor_bytes"]),
    )  # fmt: skip
    tfstrip_core.strip(path_of(row), str(tmp_path / "out"))
    assert (tmp_path / "out").read_bytes() == Path(path_of(row)).read_bytes()


def test_a_graph_beside_a_checkpoint_is_reduced(tmp_path: Path) -> None:
    """A real .meta file, alone: what it trains with is found, and goes for the output that it has."""
    source = next(path for path in Path(FOLDER).rglob("model.meta") if "regression" in str(path))
    path, target = tmp_path / "alone.meta", str(tmp_path / "out.meta")
    path.write_bytes(source.read_bytes())
    assert tfstrip_core.check([str(path)]).exit_code == 1
    result = tfstrip_core.strip(str(path), target, output_names=["truediv"])
    assert result.bytes_after < result.bytes_before / 3
    assert tfstrip_core.verify(str(path), target).equal
    assert tfstrip_core.check([target]).exit_code == 0


@pytest.mark.parametrize("row", ROWS + CHECKPOINTS, ids=lambda row: row["path"])
def test_the_verdict_is_the_manifests(row: dict[str, str]) -> None:
    """Dirty models are residue with exactly the optimizer's bytes, clean ones have no TFS101."""
    inventory = tfstrip_core.inspect(path_of(row))
    found = [finding for finding in inventory.findings if finding.rule == "TFS101"]
    assert len(inventory.tensors) == int(row["n_tensors"]) - (row["kind"] == OBJECTS)  # it counts the object graph
    assert inventory.tensor_bytes == int(row["tensor_bytes"])
    assert sum(finding.bytes for finding in found) == int(row["optimizer_bytes"])
    assert sum(len(finding.tensors) for finding in found) == int(row["n_optimizer_tensors"])
    assert (inventory.verdict == "residue") == (row["verdict"] == "dirty") or (not found and row["verdict"] == "clean")


@pytest.mark.parametrize("row", DIRECTORIES, ids=lambda row: row["path"])
@pytest.mark.parametrize("profile", ["inference", "serving"])
def test_a_saved_model_is_reduced(row: dict[str, str], profile: Any, tmp_path: Path) -> None:
    """The optimizer's bytes are the manifest's; the result is proven, smaller where it says so, and clean."""
    source, target = path_of(row), str(tmp_path / "out")
    found = tfstrip_core.inspect(source)
    state = [finding for finding in found.findings if finding.rule == "TFS101"]
    assert (found.tensor_bytes, sum(finding.bytes for finding in state)) == (
        int(row["tensor_bytes"]), int(row["optimizer_bytes"]),
    )  # fmt: skip
    assert sum(len(finding.tensors) for finding in state) == int(row["n_optimizer_tensors"])
    assert (row["verdict"] == "dirty") == bool(state)
    result = tfstrip_core.strip(source, target, profile=profile)
    assert tfstrip_core.verify(source, target).equal
    assert tfstrip_core.inspect(target).verdict == "clean"
    assert result.bytes_after <= result.bytes_before - int(row["optimizer_bytes"])


@pytest.mark.parametrize("row", rows(*TFJS), ids=lambda row: row["path"])
def test_a_tfjs_model_is_clean_and_copied(row: dict[str, str], tmp_path: Path) -> None:
    """With the manifest's bytes, also where its weights were left out: that is said, and such a one is not copied."""
    source = Path(path_of(row))
    model = tfstrip_core.inspect(str(source))
    assert (model.format, model.verdict) == (TFJS[row["kind"]], row["verdict"])
    assert model.tensor_bytes == int(row["tensor_bytes"])
    if model.notes:
        assert "its weights are not here" in model.notes[0]
        assert os.listdir(source.parent) == [source.name]
        with pytest.raises(tfstrip_core.Unreadable, match="is missing"):
            tfstrip_core.strip(str(source), str(tmp_path / "model.json"))
        return
    assert model.bytes - source.stat().st_size == int(row["tensor_bytes"])
    tfstrip_core.strip(str(source), str(tmp_path / "model.json"))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {
        p.name: p.read_bytes() for p in source.parent.iterdir()
    }


@every_real_model
def test_the_strip_is_proven_and_small(row: dict[str, str], tmp_path: Path) -> None:
    """Kept tensors equal by h5py's eyes; the result is at most a fresh h5py copy of what stays plus 64 KB."""
    source, target = path_of(row), str(tmp_path / "out")
    before = hashlib.sha256(Path(source).read_bytes()).hexdigest()
    result = tfstrip_core.strip(source, target)
    assert hashlib.sha256(Path(source).read_bytes()).hexdigest() == before
    gone = {item.name for item in result.removed}
    kept = {name: value for name, value in tensors(source).items() if name not in gone}
    assert tensors(target) == kept
    assert tfstrip_core.verify(source, target).equal
    if row["verdict"] == "clean":
        assert Path(target).read_bytes() == Path(source).read_bytes()
        return
    assert len(weights(target)) <= fresh_copy(source, gone) + (64 << 10)
    assert tfstrip_core.inspect(target).verdict == "clean"


@every_real_checkpoint
def test_a_checkpoint_s_strip_is_proven_and_small(row: dict[str, str], tmp_path: Path) -> None:
    """Kept tensors have the bytes that lie in the source's data file; the rest of the file is gone."""
    source, target = path_of(row), str(tmp_path / "out")
    result = tfstrip_core.strip(source, target)
    assert tfstrip_core.verify(source, target).equal
    before, after = tensor_bundle.read(source), tensor_bundle.read(target)
    gone = {item.name for item in result.removed}
    assert before.entries.keys() - gone == after.entries.keys()
    data = {path: path.read_bytes() for path in [*Path(source).parent.iterdir(), *tmp_path.iterdir()]}
    for key, entry in after.entries.items():
        if key != object_graph.KEY:
            old = before.entries[key]
            left = data[Path(tensor_bundle.shard_path(source, old.shard, before.shards))]
            right = data[Path(tensor_bundle.shard_path(target, 0, 1))]
            kept = left[old.offset : old.offset + old.size]
            assert kept == right[entry.offset : entry.offset + entry.size]
    assert tfstrip_core.inspect(target).verdict == "clean"
    if gone:
        assert result.bytes_after < result.bytes_before - int(row["optimizer_bytes"])


def fresh_copy(source: str, gone: set[str]) -> int:
    """Return the size of an h5py copy of the datasets that stay, with their groups and attributes."""
    buffer = io.BytesIO()
    with h5py.File(io.BytesIO(weights(source)), "r") as old, h5py.File(buffer, "w") as new:
        new.attrs.update(old.attrs)

        def visit(name: str, item: h5py.Dataset | h5py.Group) -> None:
            if isinstance(item, h5py.Group):
                new.require_group(name).attrs.update(item.attrs)
            elif name not in gone:
                new.create_dataset(name, data=item[()]).attrs.update(item.attrs)

        old.visititems(visit)
    return len(buffer.getvalue())
