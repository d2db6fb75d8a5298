"""Checkpoints by their prefix, any of their files, their state file or a folder: each counts once."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import pytest
from checkpoint_fixtures import Checkpoint, one
from hostile import assert_one_sentence, judge, run

NAMED, SHARDED = one("tf1.15", "graph_adam"), one("tf1.15", "keras_tf1_optimizer")
PLAIN = one("tf2.15", "prefix_dash")  # an index and one data file, without a state file
ENDINGS = (".index", ".data-00000-of-00001")


def put(checkpoint: Checkpoint, folder: Path, base: str | None = None) -> str:
    """Copy a checkpoint's files, under another prefix if one is given; return that in its new place."""
    folder.mkdir(exist_ok=True, parents=True)
    old = os.path.basename(checkpoint.prefix)
    for file in checkpoint.files:
        if file.name != "checkpoint" or base is None:
            name = file.name if base is None else base + file.name.removeprefix(old)
            shutil.copy(file, folder / name)
    return os.path.join(folder, old if base is None else base)


def found(capsys, *paths: str) -> list[tuple[str, str]]:
    """Return (path, verdict) of all that check lists."""
    models = json.loads(run(capsys, "check", "--json", "--", *paths)[1])["models"]
    return [(model["path"], model["verdict"]) for model in models]


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001", ".meta"])
def test_any_of_its_files_names_it(ending: str, tmp_path: Path, capsys) -> None:
    prefix = put(NAMED, tmp_path)
    code, model = judge(capsys, prefix + ending)
    assert (code, model["verdict"], model["format"], model["path"]) == (1, "residue", "tf-checkpoint-names", prefix)
    assert run(capsys, "inspect", prefix + ending)[0] == 0
    assert run(capsys, "strip", "--in-place", prefix + ending)[0] == 0
    assert found(capsys, prefix + ending) == [(prefix, "clean")]


def test_all_files_of_one_checkpoint_count_once(tmp_path: Path, capsys, monkeypatch) -> None:
    """A commit passes each file, and it is one model in the report, however its path is spelt."""
    prefix = put(SHARDED, tmp_path)
    files = [str(path) for path in sorted(tmp_path.iterdir())]
    assert len(files) == 4
    assert found(capsys, *files, prefix, str(tmp_path)) == [(prefix, "residue")]
    assert "1 model checked" in run(capsys, "check", *files)[1]
    monkeypatch.chdir(tmp_path)
    assert found(capsys, "./model.ckpt.index", "model.ckpt", ".") == [("./model.ckpt", "residue")]


def test_a_walk_counts_each_once_and_skips_nothing(tmp_path: Path, capsys) -> None:
    """x, x.ckpt and x.ckpt-100 side by side, dot files, a dash, and a prefix called like a state file or a folder."""
    names = ["-3801", "checkpoint", "sub", "x", "x.ckpt", "x.ckpt-100"]
    for name in names:
        put(PLAIN, tmp_path, name)
    put(PLAIN, tmp_path / "sub", "")
    put(NAMED, tmp_path / "sub", "deep.v1")
    expected = {str(tmp_path / name) for name in (*names, "sub/.index", "sub/deep.v1")}
    listed = found(capsys, str(tmp_path))
    assert len(listed) == len(expected)
    assert dict(listed) == dict.fromkeys(expected, "residue")
    for path in expected - {str(tmp_path / "sub")}:
        assert found(capsys, path) == [(path, "residue")]
    paths = sorted(str(path) for path in tmp_path.rglob("*") if path.is_file())
    assert dict(found(capsys, *paths)) == dict.fromkeys(expected, "residue")
    assert len(found(capsys, *paths)) == len(expected)
    assert run(capsys, "strip", "--in-place", str(tmp_path / "x"))[0] == 0
    assert {path for path, verdict in found(capsys, str(tmp_path)) if verdict == "clean"} == {str(tmp_path / "x")}


@pytest.mark.parametrize("ending", ["", *ENDINGS])
@pytest.mark.parametrize("base", ["-3801", "checkpoint", "two words", "caf\udce9", "x.index", "a.data-1"])
def test_odd_prefixes(base: str, ending: str, tmp_path: Path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    put(PLAIN, Path(), base)
    assert found(capsys, base + ending) == [(base, "residue")]
    assert run(capsys, "strip", "--in-place", "--", base + ending)[0] == 0
    assert found(capsys, base) == [(base, "clean")]
    assert sorted(os.listdir()) == sorted(base + ending for ending in ENDINGS)


@pytest.mark.parametrize("path", [".index", ".data-00000-of-00001", "."])
def test_an_empty_prefix(path: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """A wheel ships such dot files: the model is called after its index, from inside the folder and from outside."""
    put(PLAIN, tmp_path / "in", "")
    inside = os.path.normpath(str(tmp_path / "in" / path))
    assert found(capsys, inside) == [(str(tmp_path / "in" / ".index"), "residue")]
    monkeypatch.chdir(tmp_path / "in")
    assert found(capsys, path) == [(".index", "residue")]
    assert run(capsys, "strip", "--in-place", ".index")[0] == 0
    assert found(capsys, path) == [(".index", "clean")]


def test_a_file_in_a_folder_called_like_a_data_file(tmp_path: Path, capsys) -> None:
    """Only a file's own name says to which checkpoint it belongs."""
    put(PLAIN, tmp_path, "x")
    for name in ("x.data-1", "x.v1"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes").write_text("notes")
        (tmp_path / name / "checkpoint").write_text("notes")
    for path in ("x.data-1/notes", "x.data-1/checkpoint", "x.v1/checkpoint"):
        assert found(capsys, str(tmp_path / path)) == [(str(tmp_path / path), "not-a-model")]


def state(folder: Path, *lines: str | bytes) -> str:
    text = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines) + b"\n"
    (folder / "checkpoint").write_bytes(text)
    return str(folder / "checkpoint")


def test_the_state_file_names_its_checkpoints(tmp_path: Path, capsys) -> None:
    """One, several, in sub-folders, by octal escapes as TensorFlow writes them; what is not there is left out."""
    for name in ("a", "b", "sub/c", "caf\u00e9"):
        put(PLAIN, (tmp_path / name).parent, os.path.basename(name))
    path = state(tmp_path, 'model_checkpoint_path: "a"')
    assert found(capsys, path) == [(str(tmp_path / "a"), "residue")]
    every = [f'all_model_checkpoint_paths: "{name}"' for name in ("gone", "a", "./b", "sub/c", "caf\\303\\251")]
    path = state(tmp_path, 'model_checkpoint_path: "b"', *every)
    names = ("b", "a", "sub/c", "caf\u00e9")
    assert found(capsys, path) == [(str(tmp_path / name), "residue") for name in names]
    before = sorted(os.listdir(tmp_path))
    code, out, err = run(capsys, "strip", "--in-place", path)
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    assert sorted(os.listdir(tmp_path)) == before


def test_absolute_names_lead_nowhere_else(tmp_path: Path, capsys) -> None:
    """The author's /home/... may exist here too: what lies beside the state file is meant, and nothing outside."""
    outside = put(PLAIN, tmp_path / "outside", "a")
    (tmp_path / "work").mkdir()
    for name in (outside, "../outside/a", "x/../../outside/a"):
        path = state(tmp_path / "work", f'model_checkpoint_path: "{name}"')
        assert found(capsys, path) == [(path, "not-a-model")]
        assert run(capsys, "strip", "--in-place", path)[0] == 2
    assert found(capsys, outside) == [(outside, "residue")]
    put(PLAIN, tmp_path / "work", "a")
    for name in (outside, "/nowhere/a", "C:\\\\Users\\\\me\\\\a"):
        path = state(tmp_path / "work", f'model_checkpoint_path: "{name}"')
        assert found(capsys, path) == [(str(tmp_path / "work" / "a"), "residue")]


NO_STATES = {
    "empty": b"",
    "garbage": bytes(range(256)) * 4096,
    "long": b'model_checkpoint_path: "' + b"a" * (1 << 20),
    "not_utf8": b'model_checkpoint_path: "\xff\xfe"',
    "nul": b'model_checkpoint_path: "a\\000b"',
    "open": b'model_checkpoint_path: "a',
    "single": b"model_checkpoint_path: 'a'",
    "bare": b"model_checkpoint_path: a",
    "twice": b'model_checkpoint_path: "a"\nmodel_checkpoint_path: "b"',
    "far": b'model_checkpoint_path: "' + b"../" * 9000,
    "none": b'model_checkpoint_path: ""',
    "lines": b'all_model_checkpoint_paths: "\n' * 40_000,
}


@pytest.mark.parametrize("name", NO_STATES)
def test_what_names_nothing_is_no_model_and_hides_none(name: str, tmp_path: Path, capsys) -> None:
    """A file called checkpoint that says nothing is silent; a checkpoint of that very name is found beside it."""
    path = state(tmp_path, NO_STATES[name])
    assert found(capsys, path) == [(path, "not-a-model")]
    assert run(capsys, "check", path)[1:] == ("no model found\n", "")
    put(PLAIN, tmp_path, "checkpoint")
    assert found(capsys, path) == [(path, "residue")]
    assert found(capsys, str(tmp_path)) == [(path, "residue")]


def test_what_only_has_such_a_name_is_no_model(tmp_path: Path, capsys) -> None:
    """Indexes of faiss, Unity's .meta files; a graph alone says nothing of a checkpoint, and is a model of its own."""
    contents = {
        "faiss.index": b"IxF2" + bytes(500), "faiss.meta": b"x" * 90, "scene.unity.meta": b"fileFormatVersion: 2\n",
        "lone.data-1": bytes(500), "text.index": b"words", "empty.index": b"",
    }  # fmt: skip
    for name, data in contents.items():
        (tmp_path / name).write_bytes(data)
    (tmp_path / "folder.index").mkdir()
    for name in (*contents, "folder.index"):
        assert found(capsys, str(tmp_path / name)) == [(str(tmp_path / name), "not-a-model")]
    assert found(capsys, str(tmp_path)) == [(str(tmp_path), "not-a-model")]
    lone = str(tmp_path / "lone.meta")
    shutil.copy(f"{NAMED.prefix}.meta", lone)
    assert found(capsys, lone) == found(capsys, str(tmp_path)) == [(lone, "residue")]
    os.remove(lone)
    assert found(capsys, str(tmp_path / "folder")) == [(str(tmp_path / "folder"), "unreadable")]
    inside = put(PLAIN, tmp_path / "folder.index", "x")
    assert found(capsys, str(tmp_path)) == [(inside, "residue")]


def test_a_missing_shard_is_named(tmp_path: Path, capsys) -> None:
    prefix = put(SHARDED, tmp_path)
    os.remove(f"{prefix}.data-00001-of-00002")
    for path in (prefix, f"{prefix}.index", f"{prefix}.data-00000-of-00002", str(tmp_path), f"{tmp_path}/checkpoint"):
        code, model = judge(capsys, path)
        assert (code, model["verdict"], model["path"]) == (2, "unreadable", prefix)
        assert "model.ckpt.data-00001-of-00002 is missing" in model["message"]


def pointed(path: Path, git: Path | None) -> None:
    """Put a Git LFS pointer in the place of a file, and the file into the store of a git directory."""
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    path.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{digest}\nsize {len(data)}\n")
    if git:
        place = git / "lfs" / "objects" / digest[:2] / digest[2:4]
        place.mkdir(parents=True)
        (place / digest).write_bytes(data)


@pytest.mark.parametrize("stored", [False, True], ids=["absent", "stored"])
@pytest.mark.parametrize("endings", [(".index",), (".data-00000-of-00001",), ENDINGS], ids=["index", "data", "both"])
def test_pointers_among_its_files(endings: tuple[str, ...], stored: bool, tmp_path: Path, capsys) -> None:
    """A checkpoint is read beside its other files only: until all are fetched it is a pointer, once in the report."""
    (tmp_path / ".git").mkdir()
    prefix = put(PLAIN, tmp_path, "m")
    for ending in endings:
        pointed(Path(prefix + ending), tmp_path / ".git" if stored else None)
    paths = [prefix + ending for ending in ENDINGS]
    for named in (*([path] for path in paths), [prefix], paths, [str(tmp_path)]):
        ((path, verdict),) = found(capsys, *named)
        assert (path in (prefix, f"{prefix}.index"), verdict) == (True, "pointer"), named
        assert run(capsys, "check", *named)[0] == 0
        assert run(capsys, "check", "--require-lfs", *named)[0] == 2
    code, out, err = run(capsys, "strip", "--in-place", prefix)
    assert (code, out) == (2, "")
    assert "git lfs pull" in err
