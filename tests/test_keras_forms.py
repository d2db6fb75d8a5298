"""Weights by object path, the names that Windows gives, Theano's files: found, stripped, and nothing else changed."""

import os
import zipfile
from pathlib import Path

import forms
import h5py
import numpy as np
import pytest
from conftest import MODELS, Fixture, one
from hostile import run
from independent import attributes, groups, tensors

import tfstrip_core

KERAS = [model for model in MODELS if model.facts["container"] == "keras-zip"]
MID_FIT = [found for found in forms.names() if "mid_fit" in found[1] or "windows_ema" in found[1]]
EVERY = [found for found in forms.names() if "npz" not in found[1]]
ORDINARY = [found for found in EVERY if found not in MID_FIT]
STATE = ("optimizer", "metrics", "optimizer_weights", "iterations")

each = pytest.mark.parametrize(("writer", "name"), EVERY)
ordinary = pytest.mark.parametrize(("writer", "name"), ORDINARY)
mid_fit = pytest.mark.parametrize(("writer", "name"), MID_FIT)


def is_state(name: str) -> bool:
    """Tell training state by its names, as whoever wrote these files knows them to be."""
    return not set(STATE).isdisjoint(name.replace("\\", "/").split("/"))


def rules(path: str) -> set[str]:
    return {finding.rule for finding in tfstrip_core.inspect(path).findings}


def test_every_writer_is_there() -> None:
    """All the tests below are parametrized by what the archives hold, and would pass with none."""
    assert len(forms.WRITERS) == 5
    assert (len(EVERY), len(MID_FIT)) == (29, 8)


@each
def test_form_is_told_by_content(writer: str, name: str, tmp_path: Path) -> None:
    """A file is what it holds, whatever it is called; old writers name themselves, weights by object path cannot."""
    path = forms.unpack(tmp_path, writer, name)
    os.rename(path, tmp_path / "any.bin")
    inventory = tfstrip_core.inspect(str(tmp_path / "any.bin"))
    by_ending = {".weights.h5": "keras-weights", ".keras": "keras-zip", "by_name.h5": "keras-hdf5-weights"}
    expected = next((form for ending, form in by_ending.items() if name.endswith(ending)), "keras-hdf5")
    assert inventory.format == expected
    assert inventory.verdict == ("residue" if any(map(is_state, tensors(str(tmp_path / "any.bin")))) else "clean")


@each
def test_stripped_is_the_original_without_the_state(writer: str, name: str, tmp_path: Path) -> None:
    """Read by h5py: what is left are all weights, bytes and attributes and empty groups as they were, and no state."""
    path, target = forms.unpack(tmp_path, writer, name), str(tmp_path / "out")
    tfstrip_core.strip(path, target, ema="drop")
    assert tensors(target) == {key: value for key, value in tensors(path).items() if not is_state(key)}
    assert groups(target) == {key for key in groups(path) if not is_state(key)}
    kept = {key: value for key, value in attributes(path).items() if not is_state(key[0])}
    assert attributes(target) == kept
    assert tfstrip_core.verify(path, target).equal
    assert tfstrip_core.inspect(target).verdict == "clean"


@each
def test_one_flipped_bit_is_a_difference(writer: str, name: str, tmp_path: Path) -> None:
    """The negative control: one bit of one weight, and the two are not equal any more."""
    path, target = forms.unpack(tmp_path, writer, name), tmp_path / "out"
    tfstrip_core.strip(path, str(target), ema="drop")
    weight = max(tensors(str(target)).values(), key=lambda value: len(value[2]))[2]
    content = bytearray(target.read_bytes())
    assert content.count(weight) == 1
    content[content.index(weight)] ^= 1
    if name.endswith(".keras"):
        content = rebuilt(bytes(content), str(target))
    target.write_bytes(content)
    comparison = tfstrip_core.verify(path, str(target))
    assert [difference.endswith("has other bytes") for difference in comparison.differences] == [True]


def rebuilt(content: bytes, path: str) -> bytearray:
    """Return the archive at `path` with the members of `content` and checksums that fit them."""
    with zipfile.ZipFile(path) as archive:
        places = [(info, info.header_offset + 30 + len(info.filename)) for info in archive.infolist()]
    with zipfile.ZipFile(path, "w") as archive:
        for info, place in places:
            archive.writestr(info.filename, content[place : place + info.file_size])
    return bytearray(Path(path).read_bytes())


@mid_fit
def test_averages_that_differ_stop_the_strip(writer: str, name: str, tmp_path: Path, capsys) -> None:
    """Where no config says that there are averages their values do: exit 2, one sentence, and nothing is written."""
    path = forms.unpack(tmp_path, writer, name)
    before = sorted(os.listdir(tmp_path))
    code, out, err = run(capsys, "strip", path, "-o", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert "--ema drop" in err
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir(tmp_path)) == before


@ordinary
def test_ordinary_slots_are_not_taken_for_averages(writer: str, name: str, tmp_path: Path) -> None:
    """Adam, momentum, and averages that fit() has put in place of the weights already go unasked."""
    path = forms.unpack(tmp_path, writer, name)
    result = tfstrip_core.strip(path, str(tmp_path / "out"))
    assert {item.name for item in result.removed if item.rule != "TFS201"} == set(filter(is_state, tensors(path)))


@pytest.mark.parametrize("name", ["sgd_ema_mid_fit.weights.h5", "adam_ema_mid_fit.weights.h5"])
def test_averages_are_not_applied_on_a_guess(name: str, tmp_path: Path) -> None:
    """Which average belongs to which weight is written nowhere: --ema apply says so, and writes nothing."""
    path = forms.unpack(tmp_path, "keras3.15.1", name)
    with pytest.raises(tfstrip_core.NeedsChoice, match="not certain"):
        tfstrip_core.strip(path, str(tmp_path / "out"), ema="apply")
    assert not (tmp_path / "out").exists()


@each
def test_in_place_gives_the_same_file(writer: str, name: str, tmp_path: Path) -> None:
    """Stripped in place a file is what -o makes of it, and a second strip leaves it untouched."""
    path, target = forms.unpack(tmp_path, writer, name), tmp_path / "out"
    tfstrip_core.strip(path, str(target), ema="drop")
    tfstrip_core.strip(path, in_place=True, ema="drop")
    assert Path(path).read_bytes() == target.read_bytes()
    assert not tfstrip_core.strip(path, in_place=True).changed


def test_averages_of_windows_are_applied_to_their_weights(tmp_path: Path) -> None:
    """With a config that leaves no doubt each weight takes its average's bytes, under the names of the file."""
    path, target = forms.unpack(tmp_path, "tf2.15", "windows_ema.keras"), str(tmp_path / "out")
    tfstrip_core.strip(path, target, ema="apply")
    before, after = tensors(path), tensors(target)
    pairs = dict(zip(sorted(after), (f"optimizer/vars/{place}" for place in range(1, 5)), strict=True))
    assert {name: value[2] for name, value in after.items()} == {name: before[pairs[name]][2] for name in after}
    assert set(after) == {rf"layers\dense{last}/vars/{place}" for last in ("", "_1") for place in (0, 1)}


@pytest.mark.parametrize("model", KERAS, ids=lambda model: model.id)
def test_weights_alone_lose_no_more_than_in_their_archive(model: Fixture, tmp_path: Path) -> None:
    """What save_weights writes is the archive's own weights: without its config less is proven, and nothing more.

    But for nested models of Keras 2.12, whose settings it leaves out: there the config raises doubts.
    """
    path = forms.inner_weights(model.path, tmp_path / "m.weights.h5")
    assert tfstrip_core.inspect(path).format == "keras-weights"
    result = tfstrip_core.strip(path, str(tmp_path / "out"), ema="drop")
    removed = {item.name for item in result.removed}
    archived = tfstrip_core.strip(model.path, str(tmp_path / "out.keras"), ema="drop")
    doubtful = {name for found in archived.kept if model.writer == "tf2.12" for name in found.tensors}
    assert removed <= {item.name for item in archived.removed} | doubtful
    labels = model.facts["labels"]
    state = (*labels.get("optimizer_groups", ()), *labels.get("metrics_groups", ()))
    assert all(any(name.startswith(f"{group}/") for group in state) for name in removed)
    assert tensors(str(tmp_path / "out")) == {n: v for n, v in tensors(path).items() if n not in removed}
    assert tfstrip_core.verify(path, str(tmp_path / "out")).equal
    missed = {item.name for item in archived.removed if item.rule != "TFS201"} - removed
    undecided = {n for f in tfstrip_core.inspect(path).findings if f.rule in ("TFS107", "TFS108") for n in f.tensors}
    assert missed <= undecided  # and is named


def tree(path: Path, **arrays: np.ndarray) -> str:
    """Write a file of weights by object path, made by hand."""
    with h5py.File(path, "w") as file:
        file.create_group("vars")
        for name, value in arrays.items():
            file[name] = value
    return str(path)


FLOAT = np.float32
QUANTIZER = {
    "optimizer/vars/0": np.int64(3),
    "optimizer/vars/1": FLOAT(0.5),
    "optimizer/vars/2": np.eye(8, dtype=FLOAT),
    "dense/vars/0": np.eye(8, dtype=FLOAT),
    "dense/vars/1": np.ones(8, FLOAT),
}


@pytest.mark.parametrize("title", ["", "vector_quantizer", "optimizer", "my_optimizer"])
def test_a_layer_in_an_attribute_called_optimizer_stays(title: str, tmp_path: Path) -> None:
    """A quantizer has an optimizer's form and a weight's shape; its place alone must not cost its codebook."""
    path = tree(tmp_path / "m.weights.h5", **QUANTIZER)
    if title:
        with h5py.File(path, "r+") as file:
            file["optimizer/vars"].attrs["name"] = title
    assert rules(path) <= {"TFS107", "TFS108"}
    result = tfstrip_core.strip(path, str(tmp_path / "out"))
    assert result.removed == ()
    assert tensors(str(tmp_path / "out")) == tensors(path)


@pytest.mark.parametrize(("place", "title"), [("", ""), ("block/", ""), ("block/", "teacher"), ("block/", "optimizer")])
def test_a_teacher_of_all_weights_stays(place: str, title: str, tmp_path: Path) -> None:
    """A copy of each weight behind a step counter is momentum's form too: seen lost from Keras 2.15 and 3.15."""
    shapes = [(4, 8), (8,), (8, 1), (1,)]
    student = {f"dense/vars/{at}": np.ones(shape, FLOAT) for at, shape in enumerate(shapes)}
    teacher = {f"{place}optimizer/vars/{at}": np.zeros(shape, FLOAT) for at, shape in enumerate(shapes, 1)}
    inner = {f"{place}layers/dense/vars/0": np.ones((2, 2), FLOAT)}
    path = tree(tmp_path / "m.weights.h5", **student, **teacher, **inner, **{f"{place}optimizer/vars/0": np.int64(3)})
    if title:
        with h5py.File(path, "r+") as file:
            file[f"{place}optimizer/vars"].attrs["name"] = title
    assert rules(path) <= {"TFS107", "TFS108"}
    with h5py.File(path, "r+") as file:  # and of a compiled model the same is its optimizer
        file[f"{place}metrics/mean/vars/0"] = FLOAT(0)
        if title:
            file[f"{place}optimizer/vars"].attrs["name"] = "sgd_1"
    assert "TFS101" in rules(path)


def test_an_optimizers_own_name_is_proof_with_its_form(tmp_path: Path) -> None:
    """Keras 3.6 and later name it, so that plain SGD without any slot is found as well."""
    plain = {name: value for name, value in QUANTIZER.items() if name != "optimizer/vars/2"}
    path = tree(tmp_path / "m.weights.h5", **plain)
    assert rules(path) == {"TFS108"}
    with h5py.File(path, "r+") as file:
        file["optimizer/vars"].attrs["name"] = "SGD"
    assert rules(path) == {"TFS101"}


def test_an_optimizers_own_name_is_no_proof_where_a_layer_may_be(tmp_path: Path) -> None:
    """Inside a layer that has a list of layers, as a model has, another may be called adam."""
    arrays = {name.replace("optimizer", "block/optimizer"): value for name, value in QUANTIZER.items()}
    path = tree(tmp_path / "m.weights.h5", **arrays, **{"block/layers/dense/vars/0": np.eye(8, dtype=FLOAT)})
    with h5py.File(path, "r+") as file:
        file["block/optimizer/vars"].attrs["name"] = "adam"
    assert rules(path) == {"TFS107"}


@pytest.mark.parametrize("prefix", ["layers/optimizer", "layers/block/optimizer", "head/optimizer"])
def test_what_is_no_models_optimizer_is_not_taken_for_one(prefix: str, tmp_path: Path) -> None:
    """An element of a list of layers is a layer; and only a model has an optimizer of its own."""
    arrays = {name.replace("optimizer", prefix, 1): value for name, value in QUANTIZER.items()}
    many = {f"{prefix}/vars/{place}": np.eye(8, dtype=FLOAT) for place in range(3, 6)}
    more = {f"dense_{place}/vars/0": np.eye(8, dtype=FLOAT) for place in range(3)}
    path = tree(tmp_path / "m.weights.h5", **arrays, **many, **more)
    assert "TFS101" not in rules(path)


@pytest.mark.parametrize("kernel", [(2, 3), (3, 3)])
def test_metrics_that_hold_a_layer_stay(kernel: tuple[int, int], tmp_path: Path) -> None:
    """A class of the user's may call anything metrics: a kernel beside its bias is no accumulator."""
    path = tree(
        tmp_path / "m.weights.h5",
        **{"layers/dense/vars/0": np.ones(4, FLOAT), "metrics/dense/vars/0": np.ones(kernel, FLOAT)},
        **{"metrics/dense/vars/1": np.ones(3, FLOAT)},
    )
    assert rules(path) == set()


SCIENCE = {
    "free names": {"vars/temperature": np.ones(9), "vars/pressure": np.ones(9), "grid/x": np.ones(3)},
    "layers of soil": {"layers/soil/vars/temperature": np.ones(9)},
    "layers of numbers": {"layers/1": np.ones(9), "layers/2": np.ones(9)},
    "not from zero": {"layers/soil/vars/1": np.ones(9), "layers/soil/vars/2": np.ones(9)},
}


@pytest.mark.parametrize("arrays", SCIENCE.values(), ids=SCIENCE)
def test_science_is_passed_over_in_silence(arrays: dict[str, np.ndarray], tmp_path: Path, capsys) -> None:
    """Groups called vars and layers make no model, whatever links lie beside them: check says nothing, exit 0."""
    with h5py.File(tmp_path / "data.h5", "w") as file:
        for name, value in arrays.items():
            file[name] = value
        file["latest"] = h5py.SoftLink("/vars")
    assert run(capsys, "check", str(tmp_path))[0] == 0
    with pytest.raises(tfstrip_core.NotAModel):
        tfstrip_core.inspect(str(tmp_path / "data.h5"))


def test_links_in_weights_are_refused(tmp_path: Path) -> None:
    """What Keras wrote is recognised whatever was put beside it, and a link in it is hostile."""
    path = tree(tmp_path / "m.weights.h5", **QUANTIZER)
    with h5py.File(path, "r+") as file:
        file["dense/vars/2"] = h5py.ExternalLink("other.h5", "/x")
    assert run_verdict(path) == "refused"


def run_verdict(path: str) -> str:
    (inventory,) = tfstrip_core.check([path]).inventories
    return inventory.verdict


@pytest.mark.parametrize("file", ["functional.h5", "weights_only.h5"])
def test_other_layouts_under_this_name_are_told(file: str, copy) -> None:
    """Keras 3's model.save("x.weights.h5") writes a whole model, Keras 2.10's save_weights weights by name."""
    expected = "keras-hdf5" if file == "functional.h5" else "keras-hdf5-weights"
    assert tfstrip_core.inspect(copy(one("tf2.10", file), "x.weights.h5")).format == expected


def test_an_object_called_model_weights_is_no_whole_model(tmp_path: Path) -> None:
    """Else a model's own attributes called model_weights and optimizer_weights would be taken for Keras's groups."""
    arrays = {f"{name}/vars/0": np.ones(9, FLOAT) for name in ("model_weights", "optimizer_weights")}
    path = tree(tmp_path / "m.weights.h5", **arrays)
    assert tfstrip_core.inspect(path).format == "keras-weights"
    assert rules(path) == set()


def test_two_spellings_of_one_path_are_left_alone(tmp_path: Path) -> None:
    r"""A file with `layers\x` and `layers/x` is no writer's: neither is judged by the other's place."""
    arrays = {rf"layers\dense{place}/vars/0": np.ones((3, 4), FLOAT) for place in range(4)}
    slots = {rf"layers\net\optimizer/vars/{place + 1}": np.ones((3, 4), FLOAT) for place in range(8)}
    slots[r"layers\net\optimizer/vars/0"] = np.int64(1)
    own = {r"layers\net\layers\dense/vars/0": np.ones((3, 4), FLOAT)}
    path = tree(tmp_path / "m.weights.h5", **arrays, **slots, **own)
    assert rules(path) == {"TFS101"}
    with h5py.File(path, "r+") as file:
        file["layers/net/layers/dense/vars/0"] = np.ones((3, 4), FLOAT)
    assert "TFS101" not in rules(path)


# What Keras 2.0 on Theano leaves at the root, beside optimizer_weights.


def test_what_the_optimizer_names_at_the_root_goes_with_it(tmp_path: Path) -> None:
    """Keras 2.0.5 writes the step counter outside of the group; it goes, and what nobody names there stays."""
    path, target = forms.unpack(tmp_path, "theano-keras2.0.5", "theano.h5"), str(tmp_path / "out")
    with h5py.File(path, "r+") as file:
        file["epoch"] = 7
    result = tfstrip_core.strip(path, target)
    assert "iterations" in {item.name for item in result.removed}
    assert "epoch" in tensors(target)
    with h5py.File(path, "r+") as file:
        del file["optimizer_weights"]
    assert tfstrip_core.strip(path, target, force=True).removed == ()


def test_a_list_of_names_cannot_take_a_weight_away(tmp_path: Path) -> None:
    """The optimizer's list of names may name anything; a weight is not removed for it."""
    path, target = forms.unpack(tmp_path, "theano-keras2.0.5", "theano.h5"), str(tmp_path / "out")
    weights = {name for name in tensors(path) if name.startswith("model_weights/")}
    with h5py.File(path, "r+") as file:
        names = [f"/{name}" for name in weights] + ["/iterations", "/iterations", "/model_weights", "model_weights"]
        file["optimizer_weights"].attrs["weight_names"] = np.array(names, "S80")
    tfstrip_core.strip(path, target)
    assert set(tensors(target)) == weights


# What is recognised and not handled.


def test_what_is_not_handled_says_the_way_out(tmp_path: Path, capsys) -> None:
    """Weights as .npz and Orbax checkpoints are a notice for check and an error for strip, with what to do instead."""
    forms.unpack(tmp_path, "keras3.15.1", "npz_weights.keras")
    step = tmp_path / "checkpoints" / "3"
    step.mkdir(parents=True)
    for name in ("_CHECKPOINT_METADATA", "pytree"):
        (step / name).write_text("{}", encoding="ascii")
    for path, words in (
        ("npz_weights.keras", "load it in Keras and save it again"),
        ("checkpoints/3", "save that as .keras"),
    ):
        code, _, err = run(capsys, "check", str(tmp_path / path))
        assert code == 0
        assert words in err
        code, out, err = run(capsys, "strip", str(tmp_path / path), "-o", str(tmp_path / "out"))
        assert (code, out) == (2, "")
        assert words in err
        assert not (tmp_path / "out").exists()
    code, _, err = run(capsys, "check", str(tmp_path))
    assert code == 0
    assert len(err.splitlines()) == 2
