"""What a path leads to: recognised by content, never by name, without hanging, following or shouting."""

import io
import json
import os
import pickle
import shutil
import socket
import tempfile
import zipfile
from pathlib import Path

import h5py
import pytest
from conftest import one
from hostile import Entry, assert_one_sentence, assert_strip_fails, assert_strips, both, judge, listing, pack, run

from tfstrip_core.discover import discover, look

KERAS, LEGACY = one("keras3.15.1", "sequential.keras"), one("tf2.15", "sequential.h5")
TABLE_END = 0xDB4775248B80FB57.to_bytes(8, "little")
CUT_INDEX = b"\0\0\x08\x08\x01\x1a\x02\x08\x01" + bytes(90) + TABLE_END
UNSUPPORTED = {
    "tflite": b"\x1c\0\0\0TFL3" + bytes(500),
    "tfjs-weights": b'{"weightsManifest": [{"paths": ["w.bin"], "weights": []}]}',
}


def zipped(**members: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/"), content)
    return out.getvalue()


def hdf5() -> bytes:
    out = io.BytesIO()
    with h5py.File(out, "w") as file:
        file["measurements"] = [1.0, 2.0]
    return out.getvalue()


NO_MODELS = {
    "empty": b"",
    "one_byte": b"\0",
    "source_called_keras": b"import keras\nmodel = keras.Sequential()\n" * 40,
    "pickle_called_h5": pickle.dumps({"optimizer_weights": list(range(1000))}),
    "pytorch": zipped(**{"archive__data.pkl": b"1", "archive__data__0": b"2" * 900, "archive__version": b"3"}),
    "npz": zipped(**{"arr_0.npy": b"\x93NUMPY" + bytes(900), "model.npy": b"1"}),
    "wheel": zipped(**{"pkg____init__.py": b"", "pkg-1.dist-info__METADATA": b"1", "pkg-1.dist-info__RECORD": b"1"}),
    "document": zipped(**{"[Content_Types].xml": b"<x/>", "word__document.xml": b"<x/>" * 300}),
    "config_alone": zipped(**{"config.json": b"{}", "tokenizer.json": b"{}"}),
    "metadata_alone": zipped(**{"metadata.json": b"[1", "data.csv": b"1"}),
    "config_of_another": zipped(**{"metadata.json": b'{"author": 1}', "config.json": b"no json", "data.csv": b"1"}),
    "bzip2_zip": pack([Entry("metadata.json", b"{}"), both(Entry("data.csv", b"1"), method=12)]),
    "twice_zip": pack([Entry("config.json", b"{}"), Entry("a", b"1"), Entry("a", b"2")]),
    "cut_zip": zipped(**{"data.csv": b"1" * 5000})[:-30],
    "empty_zip": zipped(),
    "onnx": b"\x08\x07\x12\x07pytorch" + bytes(600),
    "leveldb": b"\0\x05\x03hello123" + bytes(90) + TABLE_END,
    "protobuf": b"\x08\x01\x12\x04abcd" * 100,
    "package_json": b'{"name": "x", "version": "1"}',
    "json": b'{"format": "something else"}' * 50,
    "zeros": bytes(70_000),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(600),
    "measurements": hdf5(),
    "almost_hdf5": b"\x89HDF\r\n\x1a" + bytes(600),
}


def found(capsys, *paths: str) -> tuple[int, list[tuple[str, str]]]:
    """Return check's exit code and (path, verdict) of all that it lists."""
    code, out, _ = run(capsys, "check", "--json", *paths)
    return code, [(model["path"], model["verdict"]) for model in json.loads(out)["models"]]


def assert_silent(capsys, path: str) -> None:
    """Assert that check passes without a word about the path."""
    assert run(capsys, "check", path) == (0, "no model found\n", "")


@pytest.mark.parametrize("name", NO_MODELS)
@pytest.mark.parametrize("extension", ["keras", "bin"])
def test_what_is_no_model_is_passed_silently(extension, name, tmp_path, capsys):
    """Else every commit of pictures, archives and other people's formats is full of complaints."""
    path = tmp_path / f"file.{extension}"
    path.write_bytes(NO_MODELS[name])
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"], model["format"], model["findings"]) == (0, "not-a-model", "", [])
    assert_silent(capsys, str(path))
    assert_silent(capsys, str(tmp_path))
    assert_strip_fails(capsys, str(path))


@pytest.mark.parametrize("name", UNSUPPORTED)
def test_model_of_a_kind_not_handled_is_said_to_be_one(name, tmp_path, capsys):
    """Else a user believes that a model was checked, which nobody looked into."""
    path = tmp_path / "model.keras"
    path.write_bytes(UNSUPPORTED[name])
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"], model["format"]) == (0, "unsupported", name.partition("-")[0])
    code, out, err = run(capsys, "check", str(path))
    assert (code, out) == (0, "no model found: 1 not read\n")
    assert_one_sentence(err, str(path))
    assert_strip_fails(capsys, str(path))


@pytest.mark.parametrize("name", ["model", "model.h5", "variables.keras"])
@pytest.mark.parametrize("file", ["saved_model.pb", "saved_model.pbtxt", "_CHECKPOINT_METADATA"])
def test_directory_that_is_one_model(file, name, tmp_path, capsys):
    """Else it is taken apart into files, or reported once for each; what lies in a SavedModel is a model of its own."""
    folder = tmp_path / "work" / name
    folder.mkdir(parents=True)
    (folder / file).write_bytes(b"\x08\x01\x12\x04abcd")
    shutil.copy(KERAS.path, folder / "inside.keras")
    expected = (2, "unreadable") if file == "saved_model.pb" else (0, "unsupported")
    kind = "orbax" if file.startswith("_") else "saved-model"
    for path in (folder, tmp_path):
        code, out, err = run(capsys, "check", "--json", str(path))
        model, *others = json.loads(out)["models"]
        assert (model["format"], model["path"]) == (kind, str(folder))
        assert model["verdict"] == expected[1]
        assert code == (expected[0] or (1 if others else 0))
        assert [other["path"] for other in others] == ([] if kind == "orbax" else [str(folder / "inside.keras")])
        assert_one_sentence(err, str(folder))
    code, out, err = run(capsys, "strip", str(folder), "-o", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert_one_sentence(err, str(folder))


@pytest.mark.parametrize("name", ["saved_model.pb", "_CHECKPOINT_METADATA"])
def test_folder_that_is_only_called_like_a_models_file(name, tmp_path, capsys):
    """Else a folder called saved_model.pb hides everything beside it."""
    (tmp_path / name).mkdir()
    path = shutil.copy(KERAS.path, tmp_path / "model.keras")
    assert found(capsys, str(tmp_path)) == (1, [(str(path), "residue")])


def test_saved_model_file_alone(tmp_path, capsys):
    """Else the one file of a SavedModel that is staged passes for no model."""
    path = tmp_path / "saved_model.pb"
    path.write_bytes(b"\x08\x01\x12\x04abcd")
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"], model["format"]) == (2, "unreadable", "saved-model")
    assert model["path"] == str(tmp_path)


def repository(tmp_path: Path) -> dict[str, Path]:
    """Make a tree with models in odd places and things that must not be touched."""
    top = tmp_path / "repo"
    places = {
        "git": top / ".git" / "model.keras",
        "nested_git": top / "a" / ".git" / "model.h5",
        "deep": top / "a" / "b" / "model.txt",
        "hidden": top / ".hidden" / "x",
        "first": top / "A.keras",
    }
    for path in places.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(KERAS.path, path)
    (tmp_path / "outside").mkdir()
    shutil.copy(LEGACY.path, tmp_path / "outside" / "model.h5")
    (top / "link.h5").symlink_to(tmp_path / "outside" / "model.h5")
    (top / "folder").symlink_to(tmp_path / "outside")
    (top / "loop").symlink_to(top)
    (top / "dangling").symlink_to(top / "nowhere")
    os.mkfifo(top / "fifo.keras")
    (top / "notes.md").write_text("notes")
    return places | {"top": top}


def test_walk_takes_every_model_once_and_nothing_else(tmp_path, capsys):
    """Else git's own objects are reported, links lead in circles or out of the tree, or the order changes."""
    places = repository(tmp_path)
    expected = [(str(places[name]), "residue") for name in ("first", "hidden", "deep")]
    assert found(capsys, str(places["top"])) == (1, expected)
    assert found(capsys, f"{places['top']}/") == (1, expected)
    assert found(capsys, str(places["top"]), str(places["first"])) == (1, [*expected, expected[0]])


def test_walk_of_the_current_directory_gives_plain_paths(tmp_path, capsys, monkeypatch):
    """Else the paths of `tfstrip check .` cannot be pasted into another command as git spells them."""
    monkeypatch.chdir(repository(tmp_path)["top"])
    assert found(capsys, ".")[1] == [(name, "residue") for name in ("A.keras", ".hidden/x", "a/b/model.txt")]
    assert found(capsys, ".git/model.keras") == (1, [(".git/model.keras", "residue")])


def test_named_symlinks_are_followed(tmp_path, capsys):
    """Else a model that the user names is not looked at because it is a link."""
    top = repository(tmp_path)["top"]
    assert found(capsys, str(top / "link.h5")) == (1, [(str(top / "link.h5"), "residue")])
    assert found(capsys, str(top / "folder")) == (1, [(str(top / "folder" / "model.h5"), "residue")])
    before = listing(str(top))
    code, _, err = run(capsys, "strip", "--in-place", str(top / "link.h5"))
    assert code == 2
    assert_one_sentence(err, str(top / "link.h5"))
    assert listing(str(top)) == before


@pytest.mark.parametrize(
    "name", ["dangling", "circle", "missing", "missing/inside", "file/inside", "nul\0inside", "x" * 300]
)
def test_path_that_leads_nowhere_is_one_sentence(name, tmp_path, capsys):
    """Else a typing error is a traceback, or passes as checked."""
    (tmp_path / "dangling").symlink_to(tmp_path / "gone")
    (tmp_path / "circle").symlink_to(tmp_path / "circle")
    (tmp_path / "file").touch()
    path = str(tmp_path / name)
    before = listing(str(tmp_path))
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (2, "unreadable")
    shown = path.replace("\0", "\\x00")
    for words in (["check", path], ["inspect", path], ["strip", path, "--in-place"], ["verify", path, path]):
        code, out, err = run(capsys, *words)
        assert code == 2
        assert len(err.splitlines()) == 1, err
        assert shown in err
        assert "Traceback" not in out + err
    assert run(capsys, "strip", LEGACY.path, "-o", str(tmp_path / "no" / "where"))[0] == 2
    assert listing(str(tmp_path)) == before


@pytest.mark.parametrize("kind", ["fifo", "socket", "null", "zero"])
def test_what_is_no_file_is_refused_without_waiting(kind, tmp_path, capsys):
    """Else a named pipe in a repository makes the hook wait for ever."""
    path = str(tmp_path / kind)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(path)
    else:
        path = f"/dev/{kind}"
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (2, "refused")
    code, out, err = run(capsys, "strip", path, "-o", str(tmp_path / "out"))
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    assert not os.path.exists(tmp_path / "out")
    if kind in ("fifo", "socket"):
        assert_silent(capsys, str(tmp_path))


@pytest.fixture
def locked():
    """Give a directory of somebody else's, and let the test be nobody in particular while it runs."""
    folder = tempfile.mkdtemp(dir="/tmp")
    user = os.geteuid()
    yield Path(folder)
    if user == 0:
        os.seteuid(0)
    for path, _, _ in os.walk(folder):
        os.chmod(path, 0o700)
    shutil.rmtree(folder)


def test_what_may_not_be_read_is_one_sentence_and_not_passed(locked, capsys):
    """Else a model that the hook's user cannot read passes as checked."""
    judge(capsys, KERAS.path)
    assert run(capsys, "strip", KERAS.path, "-o", str(locked / "warm"))[0] == 0  # imports all that nobody cannot read
    shutil.copy(KERAS.path, locked / "model.keras")
    os.chmod(locked / "model.keras", 0)
    (locked / "folder").mkdir(mode=0)
    os.chmod(locked, 0o755)
    if os.geteuid() == 0:
        os.seteuid(65534)
    for name in ("model.keras", "folder", "folder/model.keras"):
        path = str(locked / name)
        code, model = judge(capsys, path)
        assert (code, model["verdict"]) == (2, "unreadable"), name
        assert_one_sentence(run(capsys, "check", path)[2], path)
        code, out, err = run(capsys, "strip", path, "--in-place")
        assert (code, out) == (2, "")
        assert_one_sentence(err, path)
    assert found(capsys, str(locked))[0] == 2


NAMES = {
    "not_utf8": b"mod\xff\xfeel.keras",
    "ansi": b"a\x1b[2Jb.h5",
    "newline": b"a\n::error::b.keras",
    "bidi": "a\u202eb".encode(),
    "blanks": b" a  b ",
    "percent": b"100%s%0A.h5",
    "quotes": b"a'b\"c;$(touch x)`touch y`.h5",
}


@pytest.mark.parametrize("name", NAMES)
def test_odd_names_of_files_work_and_are_shown_escaped(name, tmp_path, capsys):
    """Else a file's name crashes the report, forges a line of it, or cannot be stripped at all."""
    path = os.path.join(str(tmp_path), os.fsdecode(NAMES[name]))
    shutil.copy(KERAS.path, path)
    code, model = judge(capsys, path)
    assert (code, model["verdict"], model["path"]) == (1, "residue", path)
    assert found(capsys, str(tmp_path)) == (1, [(path, "residue")])
    for words in (["check"], ["check", "--output-format", "github"], ["inspect"], ["check", "--json"]):
        code, out, err = run(capsys, *words, path)
        assert all(line.isprintable() for line in (out + err).splitlines())
        assert not any(line.startswith("::error::b") for line in out.splitlines())
    assert_strips(capsys, path)
    os.remove(tmp_path / "stripped-result")
    assert run(capsys, "strip", "--in-place", path)[0] == 0
    assert found(capsys, path) == (0, [(path, "clean")])


def test_path_that_begins_with_a_dash(tmp_path, capsys, monkeypatch):
    """Else a file called like an option cannot be checked, or changes what the command does."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(KERAS.path, "--json")
    code, out, _ = run(capsys, "check", "--", "--json")
    assert (code, out.splitlines()[0].partition(":")[0]) == (1, "--json")
    assert "fix: tfstrip strip --in-place -- --json" in out.splitlines()


def test_directory_without_models_is_fine(tmp_path, capsys):
    """Else the first run in a repository without models fails."""
    (tmp_path / "empty").mkdir()
    assert_silent(capsys, str(tmp_path))
    assert [(item.path, item.kind) for item in discover([str(tmp_path)])] == [(str(tmp_path), "")]
    assert look(KERAS.path).kind == "keras-zip"
    assert look(LEGACY.path).kind == "hdf5"
