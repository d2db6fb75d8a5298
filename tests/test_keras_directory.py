"""Keras models that are directories, as `save(zipped=False)` and model hubs have them: one model, like the archive."""

import json
import os
import shutil
import tarfile
import zipfile
from pathlib import Path

import pytest
from conftest import one
from hostile import assert_one_sentence, judge, run
from independent import attributes, groups, tensors
from keras_made import DIRECTORY, PLAIN, directory
from saved_made import files
from test_hook_checkpoint import command, fixed, git  # noqa: F401
from test_pack import made as packed
from test_pack import work  # noqa: F401
from test_saved_place import everything, left

from tfstrip_core import discover, hook, inspect, strip, verify

OWN = ("config.json", "model.weights.h5")
ASSET = "assets/layers/string_lookup/vocabulary.txt"
every_writer = pytest.mark.parametrize("source", [DIRECTORY, PLAIN], ids=["3.15.1", "3.4.1"])
META = {"config.json", "metadata.json", "model.weights.h5"}


@pytest.fixture
def path(tmp_path: Path) -> str:
    return directory(tmp_path / "model")


def zipped(source: str, target: Path) -> str:
    """Write the archive that Keras would have written of the same model."""
    with zipfile.ZipFile(target, "w") as archive:
        for name in ("metadata.json", *OWN, *([ASSET] if os.path.exists(f"{source}/{ASSET}") else [])):
            archive.write(f"{source}/{name}", name)
    return str(target)


@every_writer
def test_it_is_judged_as_its_archive_is(source: Path, tmp_path: Path) -> None:
    """The same findings, tensors and writer, whichever form a model has."""
    there, archive = inspect(str(source)), inspect(zipped(str(source), tmp_path / "m.keras"))
    assert (there.format, there.verdict, there.writer) == ("keras-directory", "residue", archive.writer)
    assert there.findings == archive.findings
    assert there.tensors == archive.tensors
    assert there.bytes == sum(map(len, files(str(source)).values()))


@every_writer
def test_what_stays_is_equal_to_the_byte(source: Path, tmp_path: Path) -> None:
    """An independent reader finds each dataset, attribute and group but the optimizer's; assets and metadata too."""
    target = tmp_path / "small"
    result = strip(str(source), str(target))
    weights, made = f"{source}/model.weights.h5", f"{target}/model.weights.h5"
    stays = {name: value for name, value in tensors(weights).items() if "optimizer/" not in name}
    assert tensors(made) == stays
    assert {item.name for item in result.removed if item.bytes} == tensors(weights).keys() - stays.keys()
    assert groups(made) == {name for name in groups(weights) if "optimizer" not in name}
    assert attributes(made) == {key: value for key, value in attributes(weights).items() if "optimizer" not in key[0]}
    before, after = (json.loads((Path(folder) / "config.json").read_text()) for folder in (source, target))
    assert after == without_compile(before)
    others = {name: data for name, data in files(str(source)).items() if name not in OWN}
    assert {name: data for name, data in files(str(target)).items() if name not in OWN} == others
    assert inspect(str(target)).verdict == "clean"
    assert verify(str(source), str(target)).equal


def without_compile(config: object) -> object:
    if isinstance(config, list):
        return [without_compile(item) for item in config]
    if not isinstance(config, dict):
        return config
    return {key: None if key == "compile_config" else without_compile(value) for key, value in config.items()}


def test_a_strip_of_archive_and_directory_are_the_same_weights(path: str, tmp_path: Path) -> None:
    """One way through the house: the members of the one are the files of the other."""
    strip(path, str(tmp_path / "small"))
    strip(zipped(path, tmp_path / "m.keras"), str(tmp_path / "small.keras"))
    with zipfile.ZipFile(tmp_path / "small.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    assert members == files(str(tmp_path / "small"))


def test_in_place_only_what_changes_is_replaced(tmp_path: Path, capsys) -> None:
    """A clone of a model hub: .git, README.md, .gitattributes, assets, metadata.json, links and folders stay."""
    path, folder = directory(tmp_path / "model"), tmp_path / "model"
    for name in ("README.md", ".gitattributes", ".git/config", "empty/", "assets/summary.png", "notes/config.json"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).mkdir() if name.endswith("/") else (folder / name).write_text(name)
    os.symlink("nowhere", folder / "link")
    before = everything(folder) | {"inode": {name: (folder / name).stat().st_ino for name in META}}
    size = sum(map(len, files(path).values())) - len(".git/config")
    code, out, err = run(capsys, "strip", "--in-place", path)
    assert code == 0, err
    after = everything(folder)
    assert after.keys() == before.keys() - {"inode"}
    assert {name for name in after if after[name] != before[name]} == set(OWN)
    assert (folder / "metadata.json").stat().st_ino == before["inode"]["metadata.json"]
    assert f"{size:,} -> " in out
    assert (inspect(path).verdict, left(tmp_path)) == ("clean", [])
    assert "nothing to remove" in run(capsys, "strip", "--in-place", path)[1]
    assert everything(folder) == after
    strip(str(DIRECTORY), str(tmp_path / "small"))
    assert {name: data for name, data in files(path).items() if name in OWN} == {
        name: data for name, data in files(str(tmp_path / "small")).items() if name in OWN
    }


def test_a_config_that_stays_as_it_is_is_not_touched(tmp_path: Path) -> None:
    """Without arguments of compile() in it, it is the weights alone that are replaced."""
    path, config = directory(tmp_path / "model", PLAIN), tmp_path / "model" / "config.json"
    said = json.loads(config.read_text())
    said["compile_config"] = None
    config.write_text(json.dumps(said, indent=1))
    inode = config.stat().st_ino
    assert inspect(path).verdict == "undecided" or inspect(path).verdict == "clean"
    strip(path, in_place=True, also=["optimizer"])
    assert config.stat().st_ino == inode
    assert json.loads(config.read_text()) == said
    assert inspect(path).verdict == "clean"


@pytest.mark.parametrize("name", ["", *sorted(META), ASSET])
def test_each_of_its_files_leads_to_it(name: str, path: str, capsys) -> None:
    """The hooks are given files: whichever it is, the model is judged, once."""
    word = os.path.normpath(os.path.join(path, name))
    code, model = judge(capsys, word)
    assert (code, model["path"], model["format"], model["verdict"]) == (1, path, "keras-directory", "residue")
    assert [found.path for found in discover.discover([word, path, f"{path}/config.json"])] == [path]
    assert hook.main(["check", word]) == 1
    assert capsys.readouterr().out.count("TFS101") == 2


def test_a_walk_finds_it_once_and_what_lies_beside(path: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """`check .`: the directory, another model kept in it, one in a folder below."""
    shutil.copy(one("keras3.15.1", "sequential.keras").path, tmp_path / "model" / "other.keras")
    directory(tmp_path / "model" / "inner" / "second")
    monkeypatch.chdir(tmp_path)
    _, out, _ = run(capsys, "check", "--json", ".")
    found = [(model["path"], model["format"]) for model in json.loads(out)["models"]]
    assert found == [
        ("model", "keras-directory"), ("model/other.keras", "keras-zip"), ("model/inner/second", "keras-directory"),
    ]  # fmt: skip
    monkeypatch.chdir(path)
    assert judge(capsys, "config.json")[1]["path"] in (".", "")


OTHERS = {
    "config.json": [b"", b"{}", b'{"model_type": "bert", "architectures": ["B"]}', b"[1]", b'"class_name"'],
    "model.weights.h5": [b"", b"PK\x03\x04", b"version https://git-lfs.github.com/spec/v1\n"],
}


@pytest.mark.parametrize(("name", "content"), [(name, text) for name in OTHERS for text in OTHERS[name]])
def test_names_alone_make_no_model(name: str, content: bytes, tmp_path: Path, capsys) -> None:
    """Others call their files so: a config that is not Keras's; the weights are judged as what they are then."""
    path = directory(tmp_path / "model")
    (tmp_path / "model" / name).write_bytes(content)
    _, out, _ = run(capsys, "check", "--json", path)
    found = {model["format"] for model in json.loads(out)["models"]} - {""}
    assert found == ({"keras-weights"} if name == "config.json" else {"lfs-pointer"} if b"lfs" in content else set())


def test_pickled_weights_are_never_loaded(path: str, tmp_path: Path, capsys) -> None:
    """Keras can write numpy's form, which is a pickle: recognised, and left alone."""
    os.rename(f"{path}/model.weights.h5", f"{path}/model.weights.npz")
    for word in (path, f"{path}/model.weights.npz"):
        code, model = judge(capsys, word)
        assert (code, model["path"], model["verdict"]) == (0, path, "unsupported")
    assert "pickled" in run(capsys, "strip", "--in-place", path)[2]


DAMAGES = {
    "config_cut": ("config.json", lambda data: data[:300], "unreadable"),
    "config_deep": ("config.json", lambda data: b'{"class_name": ' + b"[" * 5000 + b"]" * 5000 + b"}", "refused"),
    "config_twice": ("config.json", lambda data: b'{"class_name": 1, "class_name": 2}', "refused"),
    "weights_cut": ("model.weights.h5", lambda data: data[:9000], "unreadable"),
    "metadata": ("metadata.json", lambda data: b"{", "unreadable"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_one_sentence(name: str, path: str, tmp_path: Path, capsys) -> None:
    """Whatever is in the files: nothing is written, nothing changes."""
    file, change, verdict = DAMAGES[name]
    place = tmp_path / "model" / file
    place.write_bytes(change(place.read_bytes()))
    before = everything(tmp_path)
    assert judge(capsys, path)[1]["verdict"] == verdict
    for words in (["--in-place"], ["-o", str(tmp_path / "out")]):
        code, out, err = run(capsys, "strip", path, *words)
        assert (code, out) == (2, "")
        assert_one_sentence(err, path)
    assert everything(tmp_path) == before


def test_pipes_in_the_place_of_its_files_are_never_opened(tmp_path: Path, capsys) -> None:
    """Or the check waits for ever."""
    for name in sorted(META):
        directory(tmp_path / name / "model")
        place = tmp_path / name / "model" / name
        place.unlink()
        os.mkfifo(place)
        assert run(capsys, "check", str(tmp_path / name))[0] in (0, 1)


@pytest.mark.parametrize("name", ["", "config.json", "model.weights.h5", "metadata.json", "assets", ASSET])
def test_links_are_not_replaced(name: str, path: str, tmp_path: Path, capsys) -> None:
    """Into a store that others share: a strip in place says so, whatever is the link."""
    place = tmp_path / "model" / name
    os.replace(place, tmp_path / "store")
    os.symlink(tmp_path / "store", place)
    before = everything(tmp_path)
    code, out, err = run(capsys, "strip", "--in-place", path)
    if name == "config.json":  # as in caches, where all are
        assert "symlink" in err
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    assert everything(tmp_path) == before


def test_a_hubs_cache(tmp_path: Path, capsys) -> None:
    """Every file a link into blobs: judged, stripped elsewhere, never in place."""
    folder = tmp_path / "snapshots" / "abc"
    for number, (name, data) in enumerate(files(str(DIRECTORY)).items()):
        blob = tmp_path / "blobs" / str(number)
        blob.parent.mkdir(exist_ok=True)
        blob.write_bytes(data)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.symlink(os.path.relpath(blob, (folder / name).parent), folder / name)
    before = everything(tmp_path)
    assert judge(capsys, str(folder))[1]["verdict"] == "residue"
    assert judge(capsys, str(tmp_path / "snapshots"))[1]["path"] == str(folder)
    assert run(capsys, "strip", "--in-place", str(folder))[0] == 2
    assert everything(tmp_path) == before
    strip(str(folder), str(tmp_path / "small"))
    assert inspect(str(tmp_path / "small")).verdict == "clean"
    assert not any(item.is_symlink() for item in (tmp_path / "small").rglob("*"))


def test_targets(path: str, tmp_path: Path, capsys) -> None:
    """--force replaces an older model of the form, and nothing else."""
    target = tmp_path / "out"
    directory(target)
    (target / "assets" / "old.txt").write_text("old")
    assert "exists; name another one" in run(capsys, "strip", path, "-o", str(target))[2]
    assert run(capsys, "strip", path, "-o", str(target), "--force")[0] == 0
    assert not (target / "assets" / "old.txt").exists()
    (target / "train.py").write_text("mine")
    said = run(capsys, "strip", path, "-o", str(target), "--force")[2]
    assert "holds train.py, which is no part of the Keras directory there and would be lost" in said
    assert "Keras opens none of that name" in run(capsys, "strip", path, "-o", f"{tmp_path}/small.keras")[2]
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "x").touch()
    assert "holds no Keras directory" in run(capsys, "strip", path, "-o", str(tmp_path / "folder"), "--force")[2]


def test_empty_folders_of_assets_come_along(path: str, tmp_path: Path) -> None:
    """Keras writes them, and where they are absent does not ask a layer for its assets."""
    (tmp_path / "model" / "assets" / "layers" / "mine").mkdir()
    strip(path, str(tmp_path / "small"))
    strip(str(tmp_path / "small"), str(tmp_path / "copy"))
    for name in ("small", "copy"):
        assert (tmp_path / name / "assets" / "layers" / "mine").is_dir()


def test_one_flipped_bit_is_noticed(path: str, tmp_path: Path) -> None:
    """In the last weight, in the config, in an asset."""
    target = tmp_path / "small"
    strip(path, str(target))
    weight = next(value for _, shape, value in tensors(f"{target}/model.weights.h5").values() if shape)
    for name, around in (
        ("model.weights.h5", weight),
        ("config.json", b"inner"),
        ("metadata.json", b"3"),
        (ASSET, b"a"),
    ):
        content = (target / name).read_bytes()
        where = content.index(around)
        (target / name).write_bytes(content[:where] + bytes([content[where] ^ 1]) + content[where + 1 :])
        assert not verify(path, str(target)).equal, name
        (target / name).write_bytes(content)
    assert verify(path, str(target)).equal


def test_the_hook_fixes_it_and_says_how_to_undo(git, capsys) -> None:  # noqa: F811
    """In the top of a clone: the two files come back with git restore."""
    import subprocess

    directory(Path("m"))
    git("add", ".")
    before = files("m")
    out = fixed(capsys, "m/model.weights.h5")
    subprocess.run(command(out, "comes back with "), check=True, capture_output=True)
    assert files("m") == before
    out = fixed(capsys, "m/model.weights.h5", "m/config.json")
    subprocess.run(command(out, "now: "), check=True, capture_output=True)
    assert git("diff", "--name-only") == ""


def test_the_action_packs_it(work: Path) -> None:  # noqa: F811
    """One archive that unpacks into a folder of its name."""
    directory(Path("models") / "digits")
    ((name, _),) = packed(models="models/**").items()
    assert name == "digits.tar.gz"
    with tarfile.open(f"dist/{name}") as archive:
        assert archive.getnames() == sorted(f"digits/{file}" for file in META | {ASSET})
        archive.extractall("out", filter="data")
    assert verify("models/digits", "out/digits").equal


@pytest.mark.keras
@every_writer
def test_it_loads_and_predicts_the_same(source: Path, tmp_path: Path) -> None:
    """In the Keras at hand: no new warning, every output bit-equal, also to the writer's own."""
    pytest.importorskip("tensorflow")
    import numpy as np
    from keras_run import load, major, predict, same_bytes

    if major() < 3:
        pytest.skip("Keras 2 does not load directories")
    strip(str(source), str(tmp_path / "small"))
    io = np.load(f"{source}.npz")
    for compiled in (True, False):
        original, heard = load(str(source), compile=compiled)
        stripped, said = load(str(tmp_path / "small"), compile=compiled)
        assert said <= heard
        assert same_bytes(predict(original, io), predict(stripped, io))
    assert np.allclose(predict(stripped, io)[0], io["y0"], atol=1e-6)


def test_a_directory_without_its_weights_is_unreadable(path: str, capsys) -> None:
    """Its other files say what it was; a directory of another framework's config.json is none of ours."""
    (Path(path) / "model.weights.h5").unlink()
    for words in (["check", path], ["inspect", path], ["strip", path, "-o", f"{path}-out"]):
        code, _, err = run(capsys, *words)
        assert code == 2
        assert "its file model.weights.h5 is missing" in err
    (Path(path) / "metadata.json").write_text('{"format": "pt"}')
    assert run(capsys, "check", path)[0] == 0
