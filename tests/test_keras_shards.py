"""Keras weights in several files (`save_weights("x.weights.json", max_shard_size=...)`): one model, one strip."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import one
from hostile import assert_one_sentence, judge, run
from independent import tensors
from keras_made import LAYER_SPANS, OPTIMIZER_SPANS, groups, mapped, shards, union
from test_hook_checkpoint import command, fixed, git  # noqa: F401
from test_pack import made as packed
from test_pack import work  # noqa: F401
from test_saved_place import everything, left

from tfstrip_core import discover, hook, inspect, strip, verify

every_writer = pytest.mark.parametrize("source", [LAYER_SPANS, OPTIMIZER_SPANS], ids=["3.15.1", "3.10.0"])


def names(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return shards(tmp_path / "model", LAYER_SPANS, "x")


@every_writer
def test_the_union_of_the_files_is_one_model(source: Path, capsys) -> None:
    """Every dataset of every file, with the optimizer told from the weights; also files that Keras 3.10's map lacks."""
    model = inspect(f"{source}.weights.json")
    held = union(f"{source}.weights.json")
    assert (model.format, model.verdict) == ("keras-shards", "residue")
    assert {tensor.name: tensor.bytes for tensor in model.tensors} == {
        name: len(value) for name, (_, _, value) in held.items()
    }
    assert {t.name for t in model.tensors if t.role == "optimizer"} == {n for n in held if n.startswith("optimizer/")}
    assert model.bytes == sum(p.stat().st_size for p in source.parent.glob(f"{source.name}[_.]*[h5json]"))
    (found,) = model.findings
    assert (found.rule, found.subject, found.bytes) == ("TFS101", "optimizer", 676)


@every_writer
@pytest.mark.parametrize("way", ["other", "same", "in-place"])
def test_what_stays_is_equal_to_the_byte(source: Path, way: str, tmp_path: Path) -> None:
    """An independent reader finds each weight where it was, the map names them, and nothing of the optimizer."""
    path = shards(tmp_path / "in", source, "x")
    before, old, had = union(path), mapped(path), groups(path)
    target = {"other": f"{tmp_path}/y.weights.json", "same": f"{tmp_path}/x.weights.json", "in-place": path}[way]
    result = strip(path, None if way == "in-place" else target, in_place=way == "in-place")
    stays = {name: value for name, value in before.items() if not name.startswith("optimizer/")}
    assert union(target) == stays
    assert {item.name for item in result.removed} == before.keys() - stays.keys()
    assert {name for _, name in groups(target)} == {name for _, name in had if "optimizer" not in name}
    base = Path(target).name.removesuffix(".weights.json")
    kept = {key: value for key, value in old["weight_map"].items() if "optimizer" not in key}
    assert mapped(target)["weight_map"] == json.loads(json.dumps(kept).replace('"x_', f'"{base}_'))
    assert mapped(target)["metadata"] == {"total_size": float(sum(len(value) for _, _, value in stays.values()))}
    assert list(mapped(target)) == ["metadata", "weight_map"]
    there = {ending for ending, _ in groups(target)}
    assert {name for name in names(Path(target).parent) if name.startswith(f"{base}_")} == {base + e for e in there}
    assert f"{base}_00000.weights.h5" in names(Path(target).parent)
    assert b"optimizer" not in b"".join(p.read_bytes() for p in Path(target).parent.glob(f"{base}_*"))
    assert inspect(target).verdict == "clean"
    assert result.bytes_after == sum(p.stat().st_size for p in Path(target).parent.glob(f"{base}[_.]*"))
    assert verify(f"{source}.weights.json", target).equal
    assert left(tmp_path) == []


def test_two_strips_are_the_same_bytes_and_a_clean_one_is_a_copy(path: str, tmp_path: Path, capsys) -> None:
    """Also under another name, but for the names in the map."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        strip(path, f"{tmp_path}/{name}/y.weights.json")
    assert content(tmp_path / "a") == content(tmp_path / "b")
    (tmp_path / "c").mkdir()
    strip(f"{tmp_path}/a/y.weights.json", f"{tmp_path}/c/y.weights.json")
    assert content(tmp_path / "c") == content(tmp_path / "a")
    strip(f"{tmp_path}/a/y.weights.json", f"{tmp_path}/c/zz.weights.json")
    renamed = {name.replace("zz", "y"): data.replace(b'"zz_', b'"y_') for name, data in content(tmp_path / "c").items()}
    assert renamed == content(tmp_path / "a")
    before = everything(tmp_path)
    assert "nothing to remove" in run(capsys, "strip", "--in-place", f"{tmp_path}/a/y.weights.json")[1]
    assert everything(tmp_path) == before


@pytest.mark.parametrize("name", ["x.weights.json", *(f"x_0000{number}.weights.h5" for number in range(6))])
def test_each_of_its_files_leads_to_it(name: str, path: str, tmp_path: Path, capsys) -> None:
    """The hook is given the binary ones alone; a walk finds one model."""
    word = f"{tmp_path}/model/{name}"
    code, model = judge(capsys, word)
    assert (code, model["path"], model["format"], model["verdict"]) == (1, path, "keras-shards", "residue")
    assert [found.path for found in discover.discover([str(tmp_path), word])] == [path]
    assert hook.main(["check", word]) == 1
    capsys.readouterr()
    assert run(capsys, "strip", "--in-place", word)[0] == 0
    assert inspect(path).verdict == "clean"


def test_a_target_is_called_as_keras_wants_it(path: str, tmp_path: Path, capsys) -> None:
    """Keras finds the first file by the map's name; a directory of the same stem is in nobody's way."""
    before = everything(tmp_path)
    for name in ("y", "y.weights.h5", "y.json"):
        code, _, err = run(capsys, "strip", path, "-o", f"{tmp_path}/{name}")
        assert code == 2
        assert "is not called NAME.weights.json" in err
    assert "say --force" in run(capsys, "strip", str(LAYER_SPANS) + ".weights.json", "-o", path)[2]
    assert "use --in-place" in run(capsys, "strip", path, "-o", path)[2]
    assert everything(tmp_path) == before
    (tmp_path / "y").mkdir()
    assert run(capsys, "strip", path, "-o", f"{tmp_path}/y.weights.json")[0] == 0
    assert not any((tmp_path / "y").iterdir())


def test_an_older_model_at_the_target_leaves_nothing_behind(path: str, tmp_path: Path) -> None:
    """Of its files that the new one has not: they would lie beside it with an optimizer in them."""
    target = shards(tmp_path / "out", LAYER_SPANS, "y")
    strip(path, target, force=True)
    assert names(tmp_path / "out") == ["y.weights.json", "y_00000.weights.h5", "y_00001.weights.h5"]
    assert verify(path, target).equal


def test_files_that_the_map_does_not_use_are_named_and_stay(path: str, tmp_path: Path, capsys) -> None:
    """Of an older save with more files, or something else of that name: never read as weights, never removed."""
    folder = tmp_path / "model"
    (folder / "x_00007.weights.h5").write_bytes(b"something else")
    shutil.copy(folder / "x_00001.weights.h5", folder / "x_00008.weights.h5")  # holds what another holds
    with h5py.File(folder / "x_00009.weights.h5", "w") as file:
        file["layers/other/vars/0"] = np.ones(3)  # in no group of the map's
    with h5py.File(folder / "x_00010.weights.h5", "w") as file:
        file["layers/dense/vars/7"] = np.ones(3)  # does not go on where the others end
    before = {name: data for name, data in content(folder).items() if name > "x_00006"}
    expected = "its map does not use x_00007.weights.h5, x_00008.weights.h5, x_00009.weights.h5 and 1 more"
    assert expected in run(capsys, "check", path)[2]
    strip(path, in_place=True)
    assert {name: data for name, data in content(folder).items() if name > "x_00006"} == before
    assert names(folder)[:3] == ["x.weights.json", "x_00000.weights.h5", "x_00001.weights.h5"]
    assert verify(f"{LAYER_SPANS}.weights.json", path).equal


def test_a_file_of_an_optimizer_alone_is_refused_without_its_map(path: str, tmp_path: Path, capsys) -> None:
    """A commit may hold one that the map lacks, or no map: suspected state, which no command can strip alone."""
    folder = tmp_path / "model"
    alone = max(name for name in names(folder) if name.endswith(".h5"))
    data = (folder / alone).read_bytes()
    assert all(name.startswith("optimizer/vars/") for name in held(folder / alone))
    strip(path, in_place=True)
    (folder / alone).write_bytes(data)
    assert inspect(str(folder / alone)).verdict == "undecided"
    assert hook.main(["check", str(folder / alone)]) == 1
    code, out, _ = run(capsys, "check", str(folder))
    assert code == 1
    assert f"{folder / alone}: TFS107" in out
    assert run(capsys, "strip", "--also", "optimizer", str(folder / alone), "-o", str(tmp_path / "out"))[0] == 2
    os.unlink(path)
    assert hook.main(["check", str(folder / alone)]) == 1


def test_files_that_the_hook_before_removed_lead_to_their_model(path: str) -> None:
    """pre-commit names all that is staged to both hooks: the second one finds a whole model and nothing to say."""
    staged = [str(file) for file in Path(path).parent.iterdir()]
    assert hook.main(["fix", *staged]) == 1
    assert not all(os.path.exists(file) for file in staged)
    assert hook.main(["check", *staged]) == 0


def held(path: Path) -> list[str]:
    """Return the names of the datasets in a file."""
    found: list[str] = []
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def rewritten(path: str, change) -> None:
    said = mapped(path)
    change(said)
    Path(path).write_text(json.dumps(said, indent=4))


HOSTILE = {
    "absolute": (lambda s: s["weight_map"].update({"/layers/dense/vars": "/etc/x_00000.weights.h5"}), "no file beside"),
    "climbing": (lambda s: s["weight_map"].update({"/layers/dense/vars": "../x_00000.weights.h5"}), "no file beside"),
    "windows": (lambda s: s["weight_map"].update({"/layers/dense/vars": "..\\x_00000.weights.h5"}), "no file beside"),
    "nul": (lambda s: s["weight_map"].update({"/layers/dense/vars": "x\0_00000.weights.h5"}), "no file beside"),
    "twice": (lambda s: s["weight_map"].update({"/optimizer/vars": ["x_00001.weights.h5"] * 2}), "no list of files"),
    "nothing": (lambda s: s["weight_map"].update({"/optimizer/vars": []}), "no list of files"),
    "number": (lambda s: s["weight_map"].update({"/optimizer/vars": 1}), "no list of files"),
    "other_name": (lambda s: s["weight_map"].update({"/optimizer/vars": "model.h5"}), "no file of weights"),
    "other_stem": (lambda s: s["weight_map"].update({"/optimizer/vars": "z_00001.weights.h5"}), "call it z.w"),
    "missing": (lambda s: s["weight_map"].update({"/optimizer/vars": "x_00077.weights.h5"}), "weights.h5 is missing"),
    "no_group": (lambda s: s["weight_map"].update({"/gone/vars": "x_00001.weights.h5"}), "has no such group"),
    "other_file": (lambda s: s["weight_map"].update({"/layers/dense/vars": "x_00004.weights.h5"}), "has no such group"),
    "key": (lambda s: s["weight_map"].update({"../vars": "x_00001.weights.h5"}), "is no group of variables"),
    "key_empty": (lambda s: s["weight_map"].update({"": "x_00001.weights.h5"}), "is no group of variables"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_map_is_one_sentence(name: str, path: str, tmp_path: Path, capsys) -> None:
    """Nothing outside of the folder is opened, nothing is written, and the user learns what it is about."""
    change, sentence = HOSTILE[name]
    rewritten(path, change)
    before = everything(tmp_path)
    code, _, err = run(capsys, "check", path)
    assert code == 2
    assert_one_sentence(err, path)
    assert sentence in err
    for words in (["--in-place"], ["-o", f"{tmp_path}/out.weights.json"]):
        code, out, err = run(capsys, "strip", path, *words)
        assert (code, out) == (2, "")
        assert sentence in err
    assert everything(tmp_path) == before


@pytest.mark.parametrize("number", range(6))
def test_a_missing_file_is_named(number: int, path: str, tmp_path: Path, capsys) -> None:
    """Whichever it is; the first is opened by Keras even where the map does not name it."""
    os.remove(tmp_path / "model" / f"x_0000{number}.weights.h5")
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (2, "unreadable")
    assert f"its file x_0000{number}.weights.h5 is missing" in run(capsys, "check", path)[2]
    rewritten(path, lambda said: said["weight_map"].update({"/layers/dense/vars": "x_00001.weights.h5"}))
    assert judge(capsys, path)[1]["verdict"] == "unreadable"


def cut(data: bytes) -> bytes:
    return data[:3000]


FILES = {
    "cut": (cut, "unreadable", "damaged or cut off"),
    "empty": (lambda _: b"", "unreadable", "x_00002.weights.h5"),
    "text": (lambda _: b"no hdf5 at all" * 99, "unreadable", "x_00002.weights.h5"),
    "pointer": (lambda _: b"version https://git-lfs.github.com/spec/v1\noid", "pointer", "git lfs pull"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_named(name: str, path: str, tmp_path: Path, capsys) -> None:
    """Of six files it is one: the sentence says which."""
    change, verdict, sentence = FILES[name]
    place = tmp_path / "model" / "x_00002.weights.h5"
    place.write_bytes(change(place.read_bytes()))
    assert judge(capsys, path)[1]["verdict"] == verdict
    err = run(capsys, "check", path)[2]
    assert "x_00002.weights.h5" in err
    assert sentence in err


def test_pipes_links_and_folders_in_the_place_of_a_file(path: str, tmp_path: Path, capsys) -> None:
    """Nothing waits for a pipe; a link is never replaced."""
    place = tmp_path / "model" / "x_00003.weights.h5"
    data = place.read_bytes()
    place.unlink()
    os.mkfifo(place)
    assert "is no regular file" in run(capsys, "check", path)[2]
    place.unlink()
    place.mkdir()
    assert "is no regular file" in run(capsys, "check", path)[2]
    place.rmdir()
    (tmp_path / "store").write_bytes(data)
    place.symlink_to(tmp_path / "store")
    before = everything(tmp_path)
    assert "symlink" in run(capsys, "strip", "--in-place", path)[2]
    assert everything(tmp_path) == before
    strip(path, f"{tmp_path}/y.weights.json")
    assert inspect(f"{tmp_path}/y.weights.json").verdict == "clean"


def test_a_pipe_called_like_one_more_file_is_not_opened(path: str, tmp_path: Path) -> None:
    """Opening it would wait for ever; files beyond the map's are looked into, since Keras 3.10 forgets some."""
    os.mkfifo(tmp_path / "model" / "x_00090.weights.h5")
    words = [sys.executable, "-m", "tfstrip_core", "check", path]
    assert subprocess.run(words, timeout=60, capture_output=True, check=False).returncode == 1


def test_one_tensor_in_two_files_is_refused(path: str, tmp_path: Path, capsys) -> None:
    """Which of them a loader reads depends on the order of a list."""
    with h5py.File(tmp_path / "model" / "x_00001.weights.h5", "r+") as file:
        file["layers/dense/vars/0"] = np.zeros((6, 8), "float32")
    assert judge(capsys, path)[1]["verdict"] == "refused"


@pytest.mark.parametrize("total", [None, "many", True, [], -5, 1e300, float("nan"), 10**40, {}])
def test_a_total_that_is_none_is_left_alone(total: object, path: str, tmp_path: Path) -> None:
    """No loader reads it; what is no number of bytes is not made one."""
    rewritten(path, lambda said: said["metadata"].update(total_size=total, author="me"))
    target = f"{tmp_path}/y.weights.json"
    strip(path, target)
    said = mapped(target)["metadata"]
    assert said["author"] == "me"
    expected = {-5: -681.0}.get(total, total) if isinstance(total, int) and not isinstance(total, bool) else total
    assert json.dumps(said["total_size"]) == json.dumps(expected)
    assert verify(path, target).equal
    rewritten(target, lambda said: said["metadata"].update(total_size=1.5))
    assert not verify(path, target).equal


def test_a_bool_counts_one_bit_as_keras_counts_it(path: str, tmp_path: Path) -> None:
    """Keras adds the size of the type it computes with, not of the one that HDF5 stores."""
    with h5py.File(tmp_path / "model" / "x_00001.weights.h5", "r+") as file:
        file["layers/dense/vars/2"] = np.ones(12, bool)
    rewritten(path, lambda said: said["metadata"].update(total_size=1009.5))
    strip(path, f"{tmp_path}/y.weights.json")
    assert mapped(f"{tmp_path}/y.weights.json")["metadata"]["total_size"] == 333.5
    assert shard_excess(f"{tmp_path}/y.weights.json") == 0


def shard_excess(path: str) -> float:
    sizes = (len(value) / 8 if dtype == "|b1" else len(value) for dtype, _, value in union(path).values())
    return mapped(path)["metadata"]["total_size"] - sum(sizes)


def test_files_of_an_inner_models_optimizer_alone(tmp_path: Path) -> None:
    """They keep the empty group of that model and go out of the map, in the midst of the files' numbers."""
    held: list[dict[str, np.ndarray]] = [
        {"net/layers/dense/vars/0": np.ones((4, 4), "f4"), "net/optimizer/vars/0": np.int64(1)},
        *({f"net/optimizer/vars/{place}": np.zeros((4, 4), "f4")} for place in (1, 2, 3, 4)),
        {"net/vars/0": np.ones((4, 4), "f4"), "vars/0": np.ones(3, "f4")},
    ]
    weights: dict[str, list[str]] = {}
    for number, arrays in enumerate(held):
        name = f"x_{number:05}.weights.h5"
        with h5py.File(tmp_path / name, "w") as file:
            for place, value in arrays.items():
                file[place] = value
                weights.setdefault(f"/{place[:-2]}", []).append(name)
    path = tmp_path / "x.weights.json"
    path.write_text(json.dumps({"metadata": {"total_size": 0.0}, "weight_map": weights}))
    before = union(str(path))
    target = tmp_path / "out" / "x.weights.json"
    target.parent.mkdir()
    strip(str(path), str(target))
    assert union(str(target)) == {name: value for name, value in before.items() if "optimizer" not in name}


def test_names_that_differ_from_the_maps(path: str, tmp_path: Path, capsys) -> None:
    """Keras does not load a renamed map either: it opens the first file by the map's own name."""
    os.rename(path, f"{tmp_path}/model/other.weights.json")
    assert "call it x.weights.json, as its files are" in run(capsys, "check", f"{tmp_path}/model/other.weights.json")[2]
    os.rename(f"{tmp_path}/model/other.weights.json", f"{tmp_path}/model/weights.json")
    assert "is not called NAME.weights.json; call it so" in run(capsys, "check", f"{tmp_path}/model/weights.json")[2]


def test_other_maps_are_no_models(tmp_path: Path, capsys) -> None:
    """Other libraries have a weight_map too."""
    for name, text in {
        "model.safetensors.index.json": '{"metadata": {}, "weight_map": {"a/vars": "m-00001-of-00002.safetensors"}}',
        "x.weights.json": '{"metadata": {"total_size": 1}, "weight_map": {}, "a": ["/vars", ".weights.h5"]}',
        "y.weights.json": '{"metadata": 0, "weight_map": ["/vars", "y_00000.weights.h5"]}',
    }.items():
        (tmp_path / name).write_text(text)
        assert run(capsys, "check", str(tmp_path / name))[0] == 0
    assert run(capsys, "check", str(tmp_path))[1] == "no model found\n"


@pytest.mark.parametrize("name", ["y_00001.weights.h5", "y.weights.json"])
def test_one_flipped_bit_is_noticed(name: str, path: str, tmp_path: Path) -> None:
    """In a weight, in what the map says of a group."""
    target = f"{tmp_path}/y.weights.json"
    strip(path, target)
    place = tmp_path / name
    content = place.read_bytes()
    around = tensors(str(place))["layers/dense/vars/1"][2] if name.endswith("h5") else b"dense_1/"
    where = content.index(around)
    place.write_bytes(content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :])
    if name.endswith("h5"):
        assert not verify(path, target).equal
    else:
        from tfstrip_core import Unreadable

        with pytest.raises(Unreadable, match="no such group"):
            verify(path, target)
    place.write_bytes(content)
    assert verify(path, target).equal
    if name.endswith("json"):
        first = '"/layers/dense_1/vars": [\n            "y_00001.weights.h5"\n        ]'
        assert first in content.decode()
        place.write_text(content.decode().replace(first, '"/layers/dense_1/vars": "y_00001.weights.h5"'))
        assert verify(path, target).equal  # the same, said otherwise


def test_averages_are_asked_about(tmp_path: Path, capsys) -> None:
    """Slots that point where the weights point may be averages, whichever file they lie in."""
    path = shards(tmp_path / "model", LAYER_SPANS, "x")
    held = union(path)
    place = {"2": "layers/dense/vars/0", "6": "layers/dense_1/vars/0"}
    for file in (tmp_path / "model").glob("*.h5"):
        with h5py.File(file, "r+") as opened:
            for slot, weight in place.items():
                if f"optimizer/vars/{slot}" in opened:
                    _, shape, data = held[weight]
                    opened[f"optimizer/vars/{slot}"][...] = np.frombuffer(data, "<f4").reshape(shape) * 1.01
    code, _, err = run(capsys, "strip", "--in-place", path)
    assert code == 2
    assert "--ema drop" in err
    strip(path, in_place=True, ema="drop")
    assert union(path) == {name: value for name, value in held.items() if not name.startswith("optimizer/")}


def test_dead_space_of_one_file_is_its_own(path: str, tmp_path: Path) -> None:
    """Only that file is written anew for it; the others are copied."""
    strip(path, f"{tmp_path}/y.weights.json")
    with h5py.File(tmp_path / "y_00001.weights.h5", "r+") as file:
        file["big"] = np.ones(100_000, "float32")
        file["layers/dense/vars/2"] = np.ones(1)
        del file["big"]
    model = inspect(f"{tmp_path}/y.weights.json")
    assert [(found.rule, found.subject) for found in model.findings] == [("TFS301", "unused-space_00001.weights.h5")]
    first = (tmp_path / "y_00000.weights.h5").read_bytes()
    strip(f"{tmp_path}/y.weights.json", in_place=True)
    assert (tmp_path / "y_00000.weights.h5").read_bytes() == first
    assert (tmp_path / "y_00001.weights.h5").stat().st_size < 100_000


def test_the_hook_fixes_it_and_says_how_to_undo(git, capsys) -> None:  # noqa: F811
    """Files that are gone come back with git restore, and git add is told of them."""
    shards(Path("m"), LAYER_SPANS, "x")
    git("add", ".")
    before = content(Path("m"))
    out = fixed(capsys, "m/x_00001.weights.h5")
    subprocess.run(command(out, "comes back with "), check=True, capture_output=True)
    assert content(Path("m")) == before
    out = fixed(capsys, *(f"m/{name}" for name in before if name.endswith("h5")))
    subprocess.run(command(out, "now: "), check=True, capture_output=True)
    assert git("diff", "--name-only") == ""
    assert git("ls-files", "m").split() == ["m/x.weights.json", "m/x_00000.weights.h5", "m/x_00001.weights.h5"]


def test_the_action_packs_it(work: Path) -> None:  # noqa: F811
    """One archive with all its files, which say what they are called."""
    shards(Path("models"), LAYER_SPANS, "x")
    ((name, _),) = packed(models="models/*.weights.*").items()
    assert name == "x.weights.json.tar.gz"
    with tarfile.open(f"dist/{name}") as archive:
        assert archive.getnames() == ["x.weights.json", "x_00000.weights.h5", "x_00001.weights.h5"]
        archive.extractall("out", filter="data")
    assert verify("models/x.weights.json", "out/x.weights.json").equal


@pytest.mark.keras
@every_writer
def test_it_loads_and_predicts_the_same(source: Path, tmp_path: Path) -> None:
    """In the Keras at hand: no warning, every output bit-equal to what the original gives."""
    pytest.importorskip("tensorflow")
    from keras_run import major, predict, said, same_bytes

    if major() < 3:
        pytest.skip("Keras 2 has no such weights")
    from keras_files import layers

    strip(f"{source}.weights.json", f"{tmp_path}/y.weights.json")
    io = np.load(f"{source}.npz")
    outputs = []
    for path in (f"{source}.weights.json", f"{tmp_path}/y.weights.json"):
        model = layers()
        model.compiled = False
        model.optimizer = None
        with said() as heard:
            model.load_weights(path)
        assert not heard
        outputs.append(predict(model, io))
    assert same_bytes(*outputs)
    assert np.allclose(outputs[0][0], io["y0"], atol=1e-6)


def test_files_that_the_map_lacks_are_found_among_those_that_it_has(tmp_path: Path) -> None:
    """Keras 3.10 lets one optimizer begin amid another's files; a file of an older model beside them is not taken."""
    model = one("keras3.10.0", "mixed_precision.weights.json")
    assert len(model.facts["labels"]["unmapped_shards"]) == 4
    for file in model.files:
        shutil.copy(file, tmp_path)
    path = str(tmp_path / model.facts["file"])
    held = set(union(path))
    stale = tmp_path / "mixed_precision_00006.weights.h5"
    shutil.copy(tmp_path / "mixed_precision_00002.weights.h5", stale)
    assert {tensor.name for tensor in inspect(path).tensors} == held
    strip(path, in_place=True)
    assert set(union(path)) - set(tensors(str(stale))) == {name for name in held if name.startswith("layers/")}
    assert stale.exists()


def test_a_file_whose_groups_only_led_to_the_optimizer_goes_with_it(tmp_path: Path) -> None:
    """Of a nested model's optimizer nothing is left: no file with empty groups, which no map would name."""
    model = one("keras3.15.1", "nested_compiled.weights.json")
    target = tmp_path / model.facts["file"]
    strip(model.path, str(target))
    files = sorted(path.name for path in tmp_path.glob("*.h5"))
    assert files == [path.name for path in map(Path, model.files[1:]) if path.name in target.read_text()]
    assert len(files) < len(model.files) - 1
