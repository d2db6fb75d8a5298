"""Which SavedModel a file belongs to: any of its files leads to its directory, and is reported once."""

import json
import os
import shutil
from pathlib import Path

import pytest
from conftest import one
from hostile import assert_one_sentence, judge, run
from saved_made import Made
from test_saved_place import DATA, OWN, SECOND, made

from tfstrip_core import hook
from tfstrip_core.discover import discover, look

KERAS = one("keras3.8.0", "sequential.keras")
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"
FILES = [*sorted(OWN), "keras_metadata.pb", "fingerprint.pb", "assets/words.txt", "assets.extra/deep/er"]
FILES += ["debug/saved_model_debug_info.pb", SECOND]


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A model with each file that one may have."""
    path = made(tmp_path / "work" / "model")
    for name in FILES:
        Path(path, name).parent.mkdir(parents=True, exist_ok=True)
        Path(path, name).touch()
    Path(path, "keras_metadata.pb").unlink()
    return path


def models(capsys, *paths: str) -> list[tuple[str, str]]:
    """Return path and verdict of each model that a check lists."""
    out = run(capsys, "check", "--json", *paths)[1]
    return [(model["path"], model["verdict"]) for model in json.loads(out)["models"]]


def test_every_file_leads_to_the_model_from_everywhere(path: str, tmp_path: Path, monkeypatch) -> None:
    """Absolute, relative, standing in it, or in one of its folders."""
    names = [name for name in FILES if name != "keras_metadata.pb"]
    for name in names:
        assert look(os.path.join(path, name)).path == path
        assert look(os.path.join(path, name)).kind == "saved-model"
    for place in ("work", "work/model", "work/model/variables", "work/model/assets.extra/deep"):
        monkeypatch.chdir(tmp_path / place)
        expected = os.path.relpath(path)
        assert {look(os.path.relpath(os.path.join(path, name))).path for name in names} == {expected}


def test_it_is_one_model_however_often_it_is_named(path: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """By its directory, by all of its files, by the folder above, by all of these at once."""
    monkeypatch.chdir(tmp_path)
    names = [str(Path("work/model", name)) for name in FILES if name != "keras_metadata.pb"]
    for words in (["work/model"], names, names[::-1], ["work"], ["."], ["work", "work/model/", *names]):
        assert models(capsys, *words) == [("work/model", "residue")]
    assert hook.main(["check", "--", *names]) == 1
    out = capsys.readouterr().out
    assert out.count("TFS101") == 1
    assert "fix: tfstrip strip --in-place work/model\n" in out


def test_names_alone_do_not_make_it_a_file_of_a_model(tmp_path: Path) -> None:
    """A site has assets, a project variables: without a saved_model.pb above them they are what they were."""
    for name in ("assets/logo", "variables/variables.txt", "fingerprint.pb", "keras_metadata.pb", "debug/x"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
        assert look(str(tmp_path / name)).kind == ""
    path = made(tmp_path / "model")
    for name in ("README.md", "variables.txt", "variables/notes.txt", "src/main.py"):
        (tmp_path / "model" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / name).touch()
        assert look(os.path.join(path, name)).kind == ""


def test_other_models_in_its_directory_are_models_of_their_own(tmp_path: Path, capsys, monkeypatch) -> None:
    """A repository whose top is a SavedModel hides nothing of what else is in it; no link is followed."""
    monkeypatch.chdir(Path(made(tmp_path / "model")))
    for name in ("more", "assets", "outputs"):
        Path(name).mkdir(exist_ok=True)
        shutil.copy(KERAS.path, f"{name}/m.keras")
    Made().write(Path("more/nested"))
    os.symlink("more", "again")
    expected = [".", "assets/m.keras", "more/m.keras", "more/nested", "outputs/m.keras"]
    assert models(capsys, ".") == [(name, "residue") for name in expected]
    assert models(capsys, "more/nested/saved_model.pb") == [("more/nested", "residue")]
    assert models(capsys, "assets/m.keras") == [("assets/m.keras", "residue")]
    os.chdir("..")
    expected = [os.path.normpath(os.path.join("model", name)) for name in expected]
    assert models(capsys, ".") == models(capsys, "model") == [(name, "residue") for name in expected]


def test_variables_without_saved_model_are_a_checkpoint(path: str, capsys) -> None:
    """As they are elsewhere."""
    Path(path, "saved_model.pb").unlink()
    prefix = os.path.join(path, "variables", "variables")
    assert models(capsys, f"{prefix}.index")[0][0] == prefix
    assert look(f"{prefix}.data-00000-of-00001").kind == "checkpoint"


def text(path: Path) -> None:
    path.rename(path.with_name("saved_model.pbtxt"))


def pointer(path: Path) -> None:
    path.write_bytes(POINTER)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def empty(path: Path) -> None:
    path.write_bytes(b"")


STATES = [
    ("saved_model.pb", pointer, "pointer", "its file saved_model.pb is a Git LFS pointer"),
    ("variables/variables.index", pointer, "pointer", "its file variables/variables.index is a Git LFS pointer"),
    (DATA, pointer, "pointer", f"its file {DATA} is a Git LFS pointer"),
    ("saved_model.pb", truncated, "unreadable", "its file saved_model.pb is damaged"),
    ("saved_model.pb", empty, "unreadable", "its file saved_model.pb"),
    ("saved_model.pb", text, "unsupported", "written as text"),
    ("variables/variables.index", truncated, "unreadable", "variables.index"),
    ("variables/variables.index", empty, "unreadable", "variables.index"),
    ("variables/variables.index", os.remove, "unreadable", "variables are missing"),
    (DATA, os.remove, "unreadable", "variables.data-00000-of-00001"),
]


@pytest.mark.parametrize(("name", "change", "verdict", "sentence"), STATES)
def test_what_is_the_matter_is_said_whichever_file_is_named(name, change, verdict, sentence, tmp_path, capsys) -> None:
    """The directory, a folder above, or the file itself: one model, one verdict, one sentence."""
    path = made(tmp_path / "work" / "model")
    change(Path(path, name))
    there = [file for file in OWN | {"saved_model.pbtxt", "fingerprint.pb"} if Path(path, file).exists()]
    for word in (path, str(tmp_path), *(os.path.join(path, file) for file in there)):
        code, model = judge(capsys, word)
        assert (model["path"], model["verdict"], model["format"]) == (path, verdict, "saved-model")
        assert sentence in model["message"]
        assert code == (2 if verdict == "unreadable" else 0)
    for words in (["--in-place"], ["-o", str(tmp_path / "out")]):
        code, out, err = run(capsys, "strip", path, *words)
        assert (code, out) == (2, "")
        assert_one_sentence(err, path)
        assert sentence in err
    assert hook.main(["fix", os.path.join(path, there[0])]) == (2 if verdict == "unreadable" else 0)
    assert sentence in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["work"]


def test_a_pointer_among_assets_is_of_the_model(path: str, capsys) -> None:
    """A vocabulary that is not here is no weight: what the model carries is said all the same."""
    Path(path, "assets", "words.txt").write_bytes(POINTER)
    assert models(capsys, path) == models(capsys, f"{path}/assets/words.txt") == [(path, "residue")]


def test_a_graph_alone_is_a_model(tmp_path: Path, capsys) -> None:
    """Without variables there is nothing to miss where none are read."""
    folder = tmp_path / "model"
    path, message = Made().write(folder), Made()
    del message.objects.nodes[:]
    del message.objects.concrete_functions[:]
    del message.meta.graph_def.node[:]
    message.meta.graph_def.node.add(name="x", op="Placeholder")
    message.meta.graph_def.node.add(name="y", op="Identity", input=["x"])
    message.meta.saver_def.Clear()
    shutil.rmtree(folder / "variables")
    (folder / "saved_model.pb").write_bytes(message.message.SerializeToString())
    assert models(capsys, f"{path}/saved_model.pb") == [(path, "clean")]
    before = (folder / "saved_model.pb").read_bytes()
    assert run(capsys, "strip", "--in-place", path)[0] == 0
    assert (folder / "saved_model.pb").read_bytes() == before
    target = tmp_path / "out"
    assert run(capsys, "strip", path, "-o", str(target))[0] == 0
    assert (target / "saved_model.pb").read_bytes() == before


def test_the_hook_skips_links(path: str, tmp_path: Path, capsys) -> None:
    """A link to a model leads into a store that others share."""
    os.symlink(path, tmp_path / "link")
    for command in ("check", "fix"):
        assert hook.main([command, str(tmp_path / "link")]) == 0
        assert "a symlink, skipped" in capsys.readouterr().err
    assert next(discover([str(tmp_path / "link")])).kind == "saved-model"
