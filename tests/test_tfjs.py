"""TensorFlow.js models: what `save` with includeOptimizer marked goes, to the byte, and nothing else."""

import json
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hostile import judge, run
from test_pack import made as packed_by_the_action
from test_pack import work  # noqa: F401
from test_saved_place import everything, left
from tfjs_made import ALL, CONVERTED, QUANTIZED, SAVED, TRAINED, change, content, copied, graph, kept, said, weights

from tfstrip_core import discover, hook, inspect, strip, verify, weights_digest

every_saved = pytest.mark.parametrize("name", ALL)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return copied(tmp_path / "model")


@every_saved
def test_what_the_library_marked_is_the_optimizer(name: str) -> None:
    """Every spec is a tensor of its bytes, also of layers called momentum, Adam and iter; the mark alone decides."""
    source = str(SAVED / name / "model.json")
    model, held = inspect(source), weights(source)
    assert (model.format, model.writer) == ("tfjs-layers", "TensorFlow.js tfjs-layers v4.22.0")
    assert {tensor.name: tensor.bytes for tensor in model.tensors} == {
        key: len(data) for key, (_, data) in held.items()
    }
    gone = held.keys() - kept(source).keys()
    assert {tensor.name for tensor in model.tensors if tensor.role == "optimizer"} == gone
    assert model.bytes == sum(map(len, content(SAVED / name).values()))
    found = {finding.rule: finding for finding in model.findings}
    assert found.keys() == (set() if name == "plain" else {"TFS101", "TFS201"})
    assert model.verdict == ("clean" if name == "plain" else "residue")
    if name != "plain":
        assert found["TFS101"].bytes == sum(len(held[key][1]) for key in gone) == model.residue_bytes


@every_saved
@pytest.mark.parametrize("way", ["other", "renamed", "in-place"])
def test_what_stays_is_equal_to_the_byte(name: str, way: str, tmp_path: Path) -> None:
    """Weights, order, names of files, and the text of all else in the JSON, in every way of writing it."""
    source = copied(tmp_path / "in", name)
    before, text, was = kept(source), Path(source).read_text(), said(source)
    target = {"other": f"{tmp_path}/out/model.json", "renamed": f"{tmp_path}/out/small.json", "in-place": source}[way]
    (tmp_path / "out").mkdir()
    result = strip(source, None if way == "in-place" else target, in_place=way == "in-place")
    assert weights(target) == before
    assert list(weights(target)) == list(before)
    now = said(target)
    assert "trainingConfig" not in now
    for key in was.keys() - {"trainingConfig", "weightsManifest"}:
        assert json.dumps(now[key]) == json.dumps(was[key])
    assert list(now) == [key for key in was if key != "trainingConfig"]
    head = text[: text.index('"weightsManifest"')]
    assert Path(target).read_text().startswith(head)
    assert {*now["weightsManifest"][0]["paths"]} <= {*was["weightsManifest"][0]["paths"]}
    files = {os.path.normpath(file) for file in now["weightsManifest"][0]["paths"]} | {Path(target).name}
    assert set(os.listdir(Path(target).parent)) == files
    assert result.bytes_after == sum(map(len, content(Path(target).parent).values()))
    assert inspect(target).verdict == "clean"
    assert verify(str(SAVED / name / "model.json"), target).equal
    assert left(tmp_path) == []


def test_a_file_that_holds_an_optimizer_alone_goes(tmp_path: Path) -> None:
    """A strip in place removes it, and one onto an older model leaves none of the old one's."""
    path = copied(tmp_path / "model", "functional_adam")
    other = copied(tmp_path / "other", "functional_adam")
    strip(path, in_place=True)
    assert sorted(content(tmp_path / "model")) == ["group1-shard1of3.bin", "model.json"]
    strip(str(SAVED / "functional_adam" / "model.json"), other, force=True)
    assert content(tmp_path / "other") == content(tmp_path / "model")


def relaid(path: str, cuts: list[int], last: bool = True) -> None:
    """Lay the weights of a model anew: the optimizer's in turn with the others, in two groups and files of `cuts`."""
    held = list(weights(path).values())
    model = [item for item in held if item[0].get("group") != "optimizer"]
    state = [item for item in held if item[0].get("group") == "optimizer"]
    mixed = [item for pair in zip(state, model, strict=False) for item in pair]
    rest = state[len(model) :]
    for name in said(path)["weightsManifest"][0]["paths"]:
        (Path(path).parent / name).unlink()
    manifest = []
    for number, items in enumerate((mixed, rest) if last else (rest, mixed)):
        data, files = b"".join(data for _, data in items), []
        for cut in [*cuts, len(data)]:
            if data:
                files.append(f"part-{number}-{len(files)}")
                (Path(path).parent / files[-1]).write_bytes(data[:cut])
                data = data[cut:]
        manifest.append({"weights": [spec for spec, _ in items], "note": "mine", "paths": files})
    change(path, lambda value: value.update(weightsManifest=manifest))


@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("cuts", [[], [1, 5, 100, 700], [7] * 60])
def test_an_optimizer_may_lie_anywhere(cuts: list[int], last: bool, path: str, tmp_path: Path) -> None:
    """Between weights, across the ends of files, in a group of its own: offsets are counted, never assumed."""
    relaid(path, cuts, last)
    before = kept(path)
    assert list(weights(path)) != list(before)
    (tmp_path / "out").mkdir()
    target = f"{tmp_path}/out/model.json"
    strip(path, target)
    assert weights(target) == before
    assert len(said(target)["weightsManifest"]) == 1
    assert said(target)["weightsManifest"][0]["note"] == "mine"
    assert verify(path, target).equal
    shutil.copytree(tmp_path / "model", tmp_path / "again")
    strip(path, in_place=True)
    assert content(tmp_path / "model") == content(tmp_path / "out")


KINDS = {
    "bool": ({"dtype": "bool", "shape": [3]}, b"\0\1\1"),
    "complex": ({"dtype": "complex64", "shape": [2]}, bytes(range(16))),
    "string": ({"dtype": "string", "shape": [2, 1]}, b"\1\0\0\0x" + b"\0\0\0\0"),
    "none": ({"dtype": "float32", "shape": [0, 4]}, b""),
    "scalar": ({"dtype": "int32", "shape": []}, b"\7\0\0\0"),
    "steps": ({"dtype": "int32", "shape": [3], "quantization": {"dtype": "uint8", "scale": 2, "min": -1}}, b"\1\2\3"),
    "half": ({"dtype": "float32", "shape": [2], "quantization": {"dtype": "float16"}}, b"\0\1\2\3"),
}


@pytest.mark.parametrize("state", [False, True])
def test_every_type_has_its_bytes(state: bool, path: str, tmp_path: Path) -> None:
    """Strings say their lengths themselves, quantized ones have those of their steps; on both sides of what goes."""
    group = said(path)["weightsManifest"][0]
    file = Path(path).parent / group["paths"][-1]
    more = {"group": "optimizer"} if state else {}
    specs = [{"name": f"extra/{name}", **spec, **more} for name, (spec, _) in KINDS.items()]
    data = b"".join(data for _, data in KINDS.values())
    first = Path(path).parent / group["paths"][0]
    first.write_bytes(data + first.read_bytes())
    file.write_bytes(file.read_bytes() + data)
    ends = [{**spec, "name": f"end/{spec['name']}"} for spec in specs]
    change(path, lambda value: value["weightsManifest"][0].update(weights=[*specs, *group["weights"], *ends]))
    before = kept(path)
    assert len(before) == 8 + (0 if state else 14)
    strip(path, in_place=True)
    assert weights(path) == before
    shown = {tensor.name: tensor.dtype for tensor in inspect(path).tensors}
    assert state or (shown["extra/steps"], shown["extra/half"]) == ("uint8*2+-1", "float16")


@pytest.mark.parametrize("name", QUANTIZED)
def test_quantized_weights_stay_what_they_are(name: str, tmp_path: Path) -> None:
    """The converter's own: with an optimizer beside them, each keeps its steps, scale and least value."""
    path = copied(tmp_path / "model", name)
    before = weights(path)
    group = said(path)["weightsManifest"][0]
    file = Path(path).parent / group["paths"][0]
    file.write_bytes(b"\1\0\0\0" + file.read_bytes())
    iterations = {"name": "iter", "shape": [], "dtype": "int32", "group": "optimizer"}
    change(path, lambda value: value["weightsManifest"][0]["weights"].insert(0, iterations))
    assert inspect(path).verdict == "residue"
    strip(path, in_place=True)
    assert weights(path) == before
    assert said(path)["weightsManifest"][0]["weights"] == group["weights"]


def test_what_only_looks_like_an_optimizer_stays(path: str, capsys) -> None:
    """Without the library's mark a weight is a weight, whatever it is called."""

    def unmark(value: dict) -> None:
        for spec in value["weightsManifest"][0]["weights"]:
            spec.pop("group", None)
            spec["name"] = "optimizer/" + spec["name"]

    change(path, unmark)
    assert judge(capsys, path)[1]["verdict"] == "clean"
    before = content(Path(path).parent)
    assert run(capsys, "strip", "--in-place", path)[0] == 0
    assert content(Path(path).parent) == before


def test_numbers_order_and_layout_of_the_json_are_kept(path: str, tmp_path: Path) -> None:
    """A number that Python would write otherwise, a byte order mark, spaces and escapes stay as the writer has them."""
    value = said(path)
    value = {"userDefinedMetadata": {"é": 1, "odd": "ODD"}, "trainingConfig": value.pop("trainingConfig"), **value}
    text = "\ufeff" + json.dumps(value, indent=3, ensure_ascii=True).replace(
        '"ODD"', '1E+02, "big": 1e999, "long": 0.10000'
    )
    Path(path).write_text(text, encoding="utf-8")
    assert inspect(path).verdict == "residue"
    strip(path, in_place=True)
    now = Path(path).read_text(encoding="utf-8")
    assert now.startswith(
        '\ufeff{\n   "userDefinedMetadata": {\n      "\\u00e9": 1,\n      "odd": 1E+02, "big": 1e999, "long": 0.10000'
    )
    assert "trainingConfig" not in now
    old = iter([line.rstrip(",") for line in text.splitlines()])
    assert all(line.rstrip(",") in old for line in now.splitlines())  # in that order, each as it was
    assert '"name": "iter"' not in now


def test_compile_arguments_without_an_optimizer_stay(path: str, tmp_path: Path) -> None:
    """Nothing of them is residue by itself; what the converter copied from an .h5 goes when it is asked for."""
    converted = copied(tmp_path / "converted", "converted")
    model = inspect(converted)
    assert [(found.rule, found.subject) for found in model.findings] == [("TFS201", "modelTopology/training_config")]
    assert model.verdict == "clean"
    before = content(tmp_path / "converted")
    strip(converted, in_place=True)
    assert content(tmp_path / "converted") == before
    strip(converted, in_place=True, drop_training_config=True)
    assert "training_config" not in said(converted)["modelTopology"]
    assert verify(str(CONVERTED / "converted" / "model.json"), converted).equal


def test_the_digest_is_that_of_the_model_in_keras(path: str, tmp_path: Path) -> None:
    """The converter keeps the bytes of weights, and a strip does; graphs and quantized weights are other numbers."""
    expected = weights_digest(str(CONVERTED / "source.h5"))
    assert expected
    for name in ("converted", "split"):
        assert weights_digest(str(CONVERTED / name / "model.json")) == expected
    assert len({weights_digest(str(CONVERTED / name / "model.json")) for name in (*QUANTIZED, "split")}) == 4
    before = weights_digest(path)
    strip(path, in_place=True)
    assert weights_digest(path) == before is not None
    assert weights_digest(graph(tmp_path / "graph")) is None


def test_a_graph_is_clean_and_listed(tmp_path: Path, capsys) -> None:
    """Its loader gives all weights to the graph, so that none is taken away, whatever it is marked as."""
    path = graph(tmp_path / "model")
    change(path, lambda value: value["weightsManifest"][0]["weights"][0].update(group="optimizer"))
    code, model = judge(capsys, path)
    assert (code, model["format"], model["verdict"]) == (0, "tfjs-graph", "clean")
    assert [(item["name"], item["dtype"], item["bytes"]) for item in model["tensors"]] == [
        ("w", "float32", 16), ("names", "string", 11), ("axis", "int32", 4),
    ]  # fmt: skip
    (tmp_path / "out").mkdir()
    strip(path, f"{tmp_path}/out/other.json")
    (tmp_path / "out" / "other.json").rename(tmp_path / "out" / "model.json")
    assert content(tmp_path / "out") == content(tmp_path / "model")


@pytest.mark.parametrize("name", ["model.json", "group1-shard1of2.bin", "group1-shard2of2.bin"])
def test_each_of_its_files_leads_to_it(name: str, path: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """The hook is given the binary ones alone; a walk finds one model; in the current folder too."""
    word = f"{tmp_path}/model/{name}"
    code, model = judge(capsys, word)
    assert (code, model["path"], model["verdict"]) == (1, path, "residue")
    assert [found.path for found in discover.discover([str(tmp_path), word])] == [path]
    assert hook.main(["check", word]) == 1
    monkeypatch.chdir(tmp_path / "model")
    assert hook.main(["check", name]) == 1
    capsys.readouterr()
    assert run(capsys, "strip", "--in-place", name)[0] == 0
    assert inspect(path).verdict == "clean"
    assert left(tmp_path) == []


def test_files_that_the_hook_before_removed_lead_to_their_model(tmp_path: Path) -> None:
    """pre-commit names all that is staged to both hooks: the second one finds a whole model and nothing to say."""
    folder = tmp_path / "model"
    copied(folder, "functional_adam")
    staged = [str(file) for file in sorted(folder.glob("*.bin"))]
    assert hook.main(["fix", *staged]) == 1
    assert [os.path.exists(file) for file in staged] == [True, False, False]
    assert hook.main(["check", *staged]) == 0


def test_weights_in_a_folder_of_their_own(path: str, tmp_path: Path, capsys) -> None:
    """A manifest may name them so; each leads to the model, and comes out in such a folder."""
    folder = tmp_path / "model"
    (folder / "inner").mkdir()
    for file in folder.glob("*.bin"):
        file.rename(folder / "inner" / file.name)
    change(
        path, lambda v: v["weightsManifest"][0].update(paths=["inner/" + x for x in v["weightsManifest"][0]["paths"]])
    )
    before = kept(path)
    assert judge(capsys, f"{folder}/inner/group1-shard1of2.bin")[1]["path"] == path
    (tmp_path / "out").mkdir()
    strip(path, f"{tmp_path}/out/model.json")
    assert weights(f"{tmp_path}/out/model.json") == before
    strip(path, in_place=True)
    assert content(tmp_path / "out") == content(folder)
    assert left(tmp_path) == []


def test_where_it_may_be_written(path: str, tmp_path: Path, capsys) -> None:
    """Files of weights have names of their own: no target may take the place of another model's."""
    before = everything(tmp_path)
    folder = f"{tmp_path}/model"
    assert "name the JSON file to write, such as" in run(capsys, "strip", path, "-o", folder)[2]
    assert "use --in-place" in run(capsys, "strip", path, "-o", path)[2]
    for more in ([], ["--force"]):
        code, _, err = run(capsys, "strip", path, "-o", f"{folder}/small.json", *more)
        assert (code, "would take the place of the source's" in err) == (2, True)
    assert "does not exist" in run(capsys, "strip", path, "-o", f"{tmp_path}/nowhere/model.json")[2]
    assert everything(tmp_path) == before
    other = copied(tmp_path / "other", "functional_adam")
    (tmp_path / "other" / "group1-shard1of2.bin").write_bytes(b"another model's")
    before = everything(tmp_path)
    code, _, err = run(capsys, "strip", path, "-o", other, "--force")
    assert (code, "has a file group1-shard1of2.bin already" in err) == (2, True)
    (tmp_path / "other" / "group1-shard1of2.bin").unlink()
    assert "exists" in run(capsys, "strip", path, "-o", other)[2]
    assert run(capsys, "strip", path, "-o", other, "--force")[0] == 0
    assert verify(path, other).equal
    assert before


def test_two_models_may_share_files_and_neither_loses_any(path: str, tmp_path: Path, capsys) -> None:
    """A second JSON beside it names the same weights: in place, the strip of one would break the other."""
    shutil.copy(path, tmp_path / "model" / "copy.json")
    before = everything(tmp_path)
    code, _, err = run(capsys, "strip", "--in-place", path)
    assert (code, "copy.json beside it has the same files of weights" in err) == (2, True)
    assert everything(tmp_path) == before
    (tmp_path / "out").mkdir()
    assert run(capsys, "strip", path, "-o", f"{tmp_path}/out/model.json")[0] == 0
    target = copied(tmp_path / "target", "plain")
    shutil.copy(target, tmp_path / "target" / "copy.json")
    assert "copy.json beside it has" in run(capsys, "strip", path, "-o", target, "--force")[2]


def test_the_action_packs_it_with_its_files(work, monkeypatch) -> None:  # noqa: F811
    """JSON and weights at the top of one archive, stripped, as the loader wants them."""
    copied(work / "model", "functional_adam")
    shutil.copytree(work / "model", work.parent / "before")
    made = packed_by_the_action(models="model/*")  # whichever of its files
    assert list(made) == ["model.json.tar.gz"]
    with tarfile.open("dist/model.json.tar.gz") as archive:
        assert archive.getnames() == ["group1-shard1of3.bin", "model.json"]
        archive.extractall("unpacked", filter="data")
    assert weights("unpacked/model.json") == kept(str(work.parent / "before" / "model.json"))
    assert made["model.json.tar.gz"]["weights_digest"] == weights_digest("model/model.json")


def test_two_strips_are_the_same_bytes_and_a_clean_one_is_a_copy(path: str, tmp_path: Path, capsys) -> None:
    """The same in, the same out; a second strip changes not a byte."""
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
    strip(path, f"{tmp_path}/a/model.json")
    strip(path, f"{tmp_path}/b/model.json")
    strip(f"{tmp_path}/a/model.json", f"{tmp_path}/c/model.json")
    assert content(tmp_path / "a") == content(tmp_path / "b") == content(tmp_path / "c")
    before = everything(tmp_path)
    assert "nothing to remove" in run(capsys, "strip", "--in-place", f"{tmp_path}/a/model.json")[1]
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", TRAINED)
def test_verify_sees_one_changed_bit(name: str, tmp_path: Path) -> None:
    """In any byte of what is left, and in what the JSON says: the negative control of all the above."""
    source, target = str(SAVED / name / "model.json"), copied(tmp_path / "model", name)
    strip(target, in_place=True)
    file = next(Path(target).parent.glob("*.bin"))
    data = file.read_bytes()
    for at in np.linspace(0, len(data) - 1, 7).astype(int):
        file.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        assert not verify(source, target).equal
    file.write_bytes(data)
    assert verify(source, target).equal
    for how in (
        lambda value: value["modelTopology"].update(class_name="Other"),
        lambda value: value["weightsManifest"][0]["weights"].reverse(),
        lambda value: value.update(userDefinedMetadata={"a": 1}),
        lambda value: value["weightsManifest"][0]["weights"][0].update(trainable=True),
    ):
        text = Path(target).read_text()
        change(target, how)
        assert not verify(source, target).equal
        Path(target).write_text(text)
    assert not verify(target, source).equal


def test_onnx_is_no_model_and_tflite_a_notice(tmp_path: Path, capsys) -> None:
    """ONNX is silently left alone, whatever it holds; of TFLite there is a word, and both are no failure."""
    value = b'\x12\x07pytorch\x1a\x052.1.0:\x80\x20\n\x10\n\x01x\x12\x01y"\x04Gemm*\x00' + os.urandom(4096)
    (tmp_path / "model.onnx").write_bytes(b"\x08\x08" + value)
    assert hook.main(["check", f"{tmp_path}/model.onnx"]) == 0
    assert capsys.readouterr() == ("", "")
    assert judge(capsys, f"{tmp_path}/model.onnx")[1]["verdict"] == "not-a-model"
    (tmp_path / "model.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(600))
    code, _, err = run(capsys, "check", str(tmp_path))
    assert (code, "a TFLite model" in err, ".onnx" in err) == (0, True, False)
