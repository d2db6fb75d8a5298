"""The negative controls: a proof that cannot fail proves nothing."""

import io
import shutil
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import one

import tfstrip_core
from tfstrip_core.discover import Found
from tfstrip_core.inventory import Plan
from tfstrip_core.verbs import strip as strip_verb

KERAS, HDF5 = one("keras3.15.1", "functional.keras"), one("keras3.15.1", "functional.h5")


def stripped(source: str, tmp_path: Path) -> str:
    target = str(tmp_path / "stripped")
    tfstrip_core.strip(source, target)
    return target


def rewrite(path: str, change) -> None:
    """Change the HDF5 file at `path`, inside its archive if it lies in one, and close everything properly."""
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r+") as file:
            change(file)
        return
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    buffer = io.BytesIO(content["model.weights.h5"])
    with h5py.File(buffer, "r+") as file:
        change(file)
    content["model.weights.h5"] = buffer.getvalue()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def first_weight(file: h5py.File) -> h5py.Dataset:
    """Return some kept dataset with more than one element."""
    found: list[h5py.Dataset] = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) and item.size > 1 else None)
    return found[0]


def flip(file: h5py.File, bit: int) -> None:
    item = first_weight(file)
    raw = bytearray(item[()].tobytes())
    raw[bit // 8 % len(raw)] ^= 1 << bit % 8
    item[...] = np.frombuffer(bytes(raw), item.dtype).reshape(item.shape)


@pytest.mark.parametrize("bit", [0, 7, 31, 100])
@pytest.mark.parametrize("model", [KERAS, HDF5], ids=lambda m: m.id)
def test_one_flipped_bit_is_noticed(model, bit: int, tmp_path: Path) -> None:
    """A single bit of a single kept weight makes the pair unequal, and the tensor is named."""
    target = stripped(model.path, tmp_path)
    rewrite(target, lambda file: flip(file, bit))
    comparison = tfstrip_core.verify(model.path, target)
    assert not comparison.equal
    assert len(comparison.differences) == 1
    assert "has other bytes" in comparison.differences[0]


def lose_weight(file: h5py.File) -> None:
    del file[first_weight(file).name]


def lose_empty_group(file: h5py.File) -> None:
    del file["vars" if "vars" in file else "model_weights/top_level_model_weights"]


def change_attribute(file: h5py.File) -> None:
    group = file["layers"] if "layers" in file else file["model_weights"]
    group.attrs["backend"] = "another"


def add_dataset(file: h5py.File) -> None:
    file.create_dataset("extra", data=[1.0])


def change_dtype(file: h5py.File) -> None:
    item = first_weight(file)
    name, value = item.name, item[()].view("<i4")
    del file[name]
    file.create_dataset(name, data=value)


def change_shape(file: h5py.File) -> None:
    item = first_weight(file)
    name, value = item.name, item[()].reshape(-1, 1)
    del file[name]
    file.create_dataset(name, data=value)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lose_weight, "is missing"),
        (lose_empty_group, "group"),
        (change_attribute, "attribute"),
        (add_dataset, "was added"),
        (change_dtype, "instead of"),
        (change_shape, "instead of"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
@pytest.mark.parametrize("model", [KERAS, HDF5], ids=lambda m: m.id)
def test_every_other_difference_is_noticed(model, change, words: str, tmp_path: Path) -> None:
    """Missing, added, retyped and reshaped tensors, lost groups and changed attributes are each a difference."""
    target = stripped(model.path, tmp_path)
    rewrite(target, change)
    comparison = tfstrip_core.verify(model.path, target)
    assert any(words in difference for difference in comparison.differences)


@pytest.mark.parametrize(
    ("member", "old", "new"),
    [("config.json", b'"activation": "relu"', b'"activation": "tanh"'), ("metadata.json", b"3.15.1", b"3.15.2")],
)
def test_changed_members_are_noticed(member: str, old: bytes, new: bytes, tmp_path: Path) -> None:
    """An argument changed in config.json, or another member's bytes, are differences."""
    target = stripped(KERAS.path, tmp_path)
    with zipfile.ZipFile(target) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    assert old in content[member]
    content[member] = content[member].replace(old, new)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    comparison = tfstrip_core.verify(KERAS.path, target)
    assert any(member in difference for difference in comparison.differences)


def test_two_formats_are_never_equal() -> None:
    """A .keras file and an .h5 file of one model are not compared, and not called equal."""
    assert not tfstrip_core.verify(KERAS.path, HDF5.path).equal


def test_the_original_equals_itself() -> None:
    """Keeping more than need be is no difference."""
    assert tfstrip_core.verify(KERAS.path, KERAS.path).equal


@pytest.mark.parametrize("model", [KERAS, HDF5], ids=lambda m: m.id)
def test_a_result_that_fails_its_proof_is_never_put_in_place(model, tmp_path: Path, monkeypatch) -> None:
    """If rewriting flipped one bit, there is no output and the source is untouched: the proof reads the real file."""
    source = str(shutil.copy(model.path, tmp_path / "model"))
    before = Path(source).read_bytes()
    build = strip_verb._build

    def sabotage(found: Found, planned: Plan, built: str, **more: bool) -> tuple[tuple[str, ...], list[str]]:
        made = build(found, planned, built, **more)
        rewrite(built, lambda file: flip(file, 5))
        return made

    monkeypatch.setattr(strip_verb, "_build", sabotage)
    for call in ({"target": str(tmp_path / "out")}, {"in_place": True}):
        with pytest.raises(tfstrip_core.ProofFailed, match="has other bytes"):
            tfstrip_core.strip(source, **call)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        assert Path(source).read_bytes() == before
