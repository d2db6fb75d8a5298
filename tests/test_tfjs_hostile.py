"""TensorFlow.js models that are damaged, incomplete or made to harm: one sentence, and nothing is touched."""

import json
import os
import time
from pathlib import Path

import pytest
from hostile import assert_one_sentence, in_child, judge, run
from test_saved_place import everything
from tfjs_made import change, copied, graph, said

from tfstrip_core import discover, inspect

GROUP = "weightsManifest"


@pytest.fixture
def path(tmp_path: Path) -> str:
    return copied(tmp_path / "model")


def assert_says_no(capsys, path: str, verdict: str, sentence: str) -> None:
    """Assert that no verb does anything with the model, and that each says why in one sentence."""
    top = Path(path).parent.parent
    before = everything(top)
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (2, verdict), model["message"]
    (top / "out").mkdir(exist_ok=True)
    (top / "out" / ".keep").touch()
    before = everything(top)
    for words in (["check", path], ["strip", path, "--in-place"], ["strip", path, "-o", f"{top}/out/model.json"]):
        code, out, err = run(capsys, *words)
        assert (code, out if words[0] == "strip" else "") == (2, ""), err
        assert_one_sentence(err, path)
        assert sentence in err
    assert everything(top) == before


def manifest(**more):
    return lambda value: value[GROUP][0].update(more)


def spec(**more):
    return lambda value: value[GROUP][0]["weights"][2].update(more)


def paths(*names):
    return lambda value: value[GROUP][0].update(paths=list(names))


REFUSED = "refused"
HOSTILE = {
    "absolute": (paths("/etc/passwd"), REFUSED, "no file beside it"),
    "climbing": (paths("../model/group1-shard1of2.bin"), REFUSED, "no file beside it"),
    "climbing_inside": (paths("a/../group1-shard1of2.bin"), REFUSED, "no file beside it"),
    "windows": (paths("..\\group1-shard1of2.bin"), REFUSED, "no file beside it"),
    "url": (paths("https://example.com/x.bin"), REFUSED, "no file beside it"),
    "scheme": (paths("file:x.bin"), REFUSED, "no file beside it"),
    "nul": (paths("x\0.bin"), REFUSED, "no file beside it"),
    "escape": (paths("\x1b[2J.bin"), REFUSED, "no file beside it"),
    "hidden": (paths(".git/config"), REFUSED, "no file beside it"),
    "dot": (paths("."), REFUSED, "no file beside it"),
    "empty": (paths(""), REFUSED, "no file beside it"),
    "folder": (paths("group1-shard1of2.bin/"), REFUSED, "no file beside it"),
    "number": (paths(1), "unreadable", "that is no name"),
    "itself": (paths("model.json"), REFUSED, "twice"),
    "twice": (paths("group1-shard1of2.bin", "./group1-shard1of2.bin"), REFUSED, "twice"),
    "shared": (lambda value: value[GROUP].append({"paths": value[GROUP][0]["paths"], "weights": []}), REFUSED, "twice"),
    "missing": (paths("group1-shard1of2.bin", "group1-shard7of2.bin"), "unreadable", "shard7of2.bin is missing"),
    "too_few": (paths("group1-shard1of2.bin"), "unreadable", "have 1,500 bytes, and its specs say 2,856"),
    "too_many": (spec(shape=[15]), "unreadable", "have 2,856 bytes, and its specs say 2,852"),
    "no_paths": (lambda value: value[GROUP][0].pop("paths"), "unreadable", "without paths or weights"),
    "no_list": (lambda value: value.update({GROUP: {}}), "unreadable", "no list"),
    "no_group": (lambda value: value.update({GROUP: [None]}), "unreadable", "without paths or weights"),
    "no_name": (spec(name=None), "unreadable", "without a name"),
    "no_spec": (manifest(weights=["x"]), "unreadable", "without a name"),
    "no_shape": (spec(shape=None), "unreadable", "has no shape"),
    "fraction": (spec(shape=[16.5]), "unreadable", "has no shape"),
    "truth": (spec(shape=[True, 16]), "unreadable", "has no shape"),
    "negative": (spec(shape=[-16]), REFUSED, "has a dimension of -16"),
    "huge": (spec(shape=[1 << 60]), REFUSED, "has a dimension of"),
    "huge_product": (spec(shape=[1 << 50] * 5000), REFUSED, "more elements than any file holds"),
    "huge_nothing": (spec(shape=[1 << 60, 0]), REFUSED, "has a dimension of"),
    "dtype": (spec(dtype="float64"), "unreadable", "a dtype that no loader knows"),
    "dtype_list": (spec(dtype=["float32"]), "unreadable", "a dtype that no loader knows"),
    "steps": (spec(quantization={"dtype": "int4"}), "unreadable", "a dtype that no loader knows"),
    "steps_list": (spec(quantization={"dtype": []}), "unreadable", "a dtype that no loader knows"),
    "steps_null": (spec(quantization=None), "unreadable", "a dtype that no loader knows"),
    "strings": (spec(dtype="string", shape=[1 << 40]), REFUSED, "strings"),
    "strings_long": (spec(dtype="string", shape=[700]), "unreadable", "end in the middle of"),
    "strings_cut": (spec(dtype="string", shape=[3]), "unreadable", "end in the middle of"),
    "name_twice": (spec(name="hidden/kernel"), REFUSED, "two of its weights are called 'hidden/kernel'"),
    "name_state": (spec(name="iter"), REFUSED, "two of its weights are called 'iter'"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_manifest_is_one_sentence(name: str, path: str, capsys) -> None:
    """Nothing outside of the folder is opened, nothing is written, and the user learns what it is about."""
    how, verdict, sentence = HOSTILE[name]
    assert_says_no(capsys, change(path, how), verdict, sentence)


TEXTS = {
    "cut": (lambda text: text[:1500], "unreadable", "not valid JSON"),
    "deep": (lambda text: text[:-1] + ',"x":' + "[" * 500 + "]" * 500 + "}", REFUSED, "nested"),
    "deepest": (lambda text: text[:-1] + ',"x":' + "[" * 500000, REFUSED, "nested"),
    "key_twice": (lambda text: text[:-1] + ',"weightsManifest":[]}', REFUSED, "one key twice"),
    "latin": (lambda text: text.replace("classifier", "caf\udce9"), "unreadable", "not UTF-8"),
    "digits": (lambda text: text.replace("[8,16]", "[" + "9" * 5000 + "]"), "unreadable", "not valid JSON"),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_damaged_json_is_one_sentence(name: str, path: str, capsys) -> None:
    """Cut off, too deep for a parser, or with two meanings."""
    how, verdict, sentence = TEXTS[name]
    Path(path).write_bytes(how(Path(path).read_text()).encode("utf-8", "surrogateescape"))
    assert_says_no(capsys, path, verdict, sentence)


@pytest.mark.parametrize("name", ["group1-shard1of2.bin", "group1-shard2of2.bin"])
@pytest.mark.parametrize("what", ["missing", "cut", "longer", "folder", "pipe", "pointer"])
def test_a_damaged_file_is_named(what: str, name: str, path: str, capsys) -> None:
    """Of two files it is one: the sentence says which, and nothing waits for a pipe."""
    file = Path(path).parent / name
    data = file.read_bytes()
    file.unlink()
    if what == "folder":
        file.mkdir()
    elif what == "pipe":
        os.mkfifo(file)
    elif what != "missing":
        pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1500\n"
        file.write_bytes({"cut": data[:-1], "longer": data + b"\0", "pointer": pointer}[what])
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == ((0, "pointer") if what == "pointer" else (2, "unreadable"))
    assert name in model["message"]
    before = {entry.name: entry.lstat().st_mtime_ns for entry in Path(path).parent.iterdir()}  # who reads a pipe waits
    code, out, err = run(capsys, "strip", "--in-place", path)
    assert (code, out, name in err) == (2, "", True)
    assert {entry.name: entry.lstat().st_mtime_ns for entry in Path(path).parent.iterdir()} == before


def test_links_are_never_replaced_and_none_leads_out(path: str, tmp_path: Path, capsys) -> None:
    """A link in the folder is read; one that leaves it is refused, unless the model is such links as in a cache."""
    file = Path(path).parent / "group1-shard1of2.bin"
    file.rename(tmp_path / "model" / "real")
    file.symlink_to("real")
    before = everything(tmp_path)
    assert "symlink" in run(capsys, "strip", "--in-place", path)[2]
    assert everything(tmp_path) == before
    (tmp_path / "model" / "real").rename(tmp_path / "real")
    file.unlink()
    file.symlink_to("../real")
    assert_says_no(capsys, path, "refused", "leads out of its folder")
    Path(path).rename(tmp_path / "blob")
    Path(path).symlink_to("../blob")
    assert inspect(path).verdict == "residue"
    assert run(capsys, "strip", path, "-o", f"{tmp_path}/out/model.json")[0] == 0
    assert inspect(f"{tmp_path}/out/model.json").verdict == "clean"


def test_a_json_that_comes_alone_is_judged_by_itself(tmp_path: Path, capsys) -> None:
    """Pages fetch the weights from elsewhere: what its specs say is found, with a note, and nothing is stripped."""
    path = copied(tmp_path / "model")
    for file in (tmp_path / "model").glob("*.bin"):
        file.unlink()
    code, model = judge(capsys, path)
    assert (code, model["verdict"], model["residue_bytes"]) == (1, "residue", 1820)
    assert "its weights are not here (group1-shard1of2.bin, group1-shard2of2.bin)" in run(capsys, "check", path)[2]
    for words in (["strip", "--in-place", path], ["verify", path, path]):
        code, _, err = run(capsys, *words)
        assert (code, "group1-shard1of2.bin is missing" in err) == (2, True)
    path = graph(tmp_path / "graph")
    (tmp_path / "graph" / "group1-shard1of1.bin").unlink()
    assert judge(capsys, path)[1]["verdict"] == "unreadable"  # of strings the JSON says no lengths
    change(path, lambda value: value[GROUP][0]["weights"].pop(1))
    assert judge(capsys, path)[1]["verdict"] == "clean"


OTHERS = {
    "weights": ({GROUP: [{"paths": ["w.bin"], "weights": []}]}, "unsupported"),
    "list": ([{"paths": ["w.bin"], "weights": []}], "not-a-model"),
    "nothing": ({GROUP: []}, "not-a-model"),
    "no_topology": ({"format": "graph-model", "modelTopology": None}, "not-a-model"),
    "text": ({"modelTopology": "x", "why": "no object"}, "not-a-model"),
    "other": ({"modelTopology": {"rooms": 3}}, "not-a-model"),
    "topology": ({"modelTopology": {"class_name": "Sequential", "config": {}}}, "clean"),
}  # fmt: skip


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_whole_model(name: str, tmp_path: Path, capsys) -> None:
    """A list of weights without a model is left alone, with a notice where it is certain to be one; none is refused."""
    value, verdict = OTHERS[name]
    path = tmp_path / "some.json"
    path.write_text(json.dumps(value))
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"]) == (0, verdict)


@pytest.mark.parametrize("first", ["signature", "userDefinedMetadata", "trainingConfig", "generatedBy"])
def test_what_it_says_of_itself_may_come_first(first: str, path: str) -> None:
    """The beginning of the file shows then that it may be a model, and more of it that it is."""
    value = {first: {"words": "x" * 3000}} | {key: item for key, item in said(path).items() if key != first}
    Path(path).write_text(json.dumps(value))
    assert inspect(path).verdict == "residue"


def test_a_folder_of_other_json_costs_next_to_nothing(tmp_path: Path) -> None:
    """Binary files among them ask once for a model that they may be of, whatever their number: no second walk each."""

    def seconds() -> float:
        took = []
        for _ in range(5):
            start = time.perf_counter()
            assert [found for found in discover.discover([str(tmp_path)]) if found.kind] == []
            took.append(time.perf_counter() - start)
        return min(took)

    for number in range(1000):
        (tmp_path / f"{number}.json").write_text(json.dumps({"labels": ["a"] * 200, "metadata": number}))
    alone = seconds()
    for number in range(50):
        (tmp_path / f"{number}.bin").write_bytes(bytes([255, 0, number]) * 1000)
    assert seconds() < 3 * alone


def test_hostile_models_take_little_memory(tmp_path: Path) -> None:
    """A megabyte of lengths, shapes and specs is refused in the time and space of a look."""
    calls = []
    for name, how in {
        "dimensions": lambda value: value[GROUP][0]["weights"][0].update(shape=[1] * 300_000 + [1 << 53, 1 << 53]),
        "specs": lambda value: value[GROUP][0].update(
            weights=[{"name": str(n), "shape": [1 << 40], "dtype": "float32"} for n in range(20_000)]
        ),
        "groups": lambda value: value.update({GROUP: [{"paths": [f"{n}"], "weights": []} for n in range(50_000)]}),
    }.items():
        calls.append(["check", change(copied(tmp_path / name), how)])
    start = time.monotonic()
    for code, _, err in in_child(calls, memory=1 << 30):
        assert code in (0, 2), err
        assert "Traceback" not in err
    assert time.monotonic() - start < 30
