"""What lies where a stripped SavedModel is to go: an older model is replaced as a whole, nothing else ever."""

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hostile import assert_one_sentence, run
from saved_made import files
from test_journal import OTHER
from test_saved_place import SHOP, everything, killed, left, made

from tfstrip_core import inspect, journal, replace, strip


def refused(capsys, source: str, target: str, *words: str) -> str:
    """Let a strip refuse its target; return the sentence, once nothing has changed."""
    folder = Path(source).parent
    before = everything(folder)
    code, out, err = run(capsys, "strip", source, "-o", target, *words)
    assert (code, out) == (2, "")
    assert_one_sentence(err, source)
    assert everything(folder) == before
    return err


def test_an_empty_directory_is_as_good_as_none(tmp_path: Path, capsys) -> None:
    """Whoever made it first, with a mode and an owner, gets it filled."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    target.mkdir(mode=0o750)
    if os.geteuid() == 0:
        os.chown(target, 1234, 1234)
    assert run(capsys, "strip", path, "-o", f"{target}/")[0] == 0
    assert inspect(str(target)).verdict == "clean"
    status = target.stat()
    assert stat.S_IMODE(status.st_mode) == 0o750
    assert os.geteuid() or (status.st_uid, status.st_gid) == (1234, 1234)


def test_an_older_model_is_replaced_as_a_whole(tmp_path: Path, capsys) -> None:
    """With --force alone; assets and shards that the new one lacks go, and files that both have are renewed."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    (tmp_path / "model" / "labels.txt").write_text("new")
    strip(path, str(tmp_path / "fresh"))
    shutil.copytree(path, target)
    for name in ("labels.txt", "assets/old.txt", "assets.extra/old", "variables/variables.data-00001-of-00002"):
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("old")
    assert "exists; name another one, or say --force" in refused(capsys, path, str(target))
    for _ in range(2):
        code, _, err = run(capsys, "strip", path, "-o", str(target), "--force")
        assert code == 0, err
        assert everything(target) == everything(tmp_path / "fresh")
        assert left(tmp_path) == []


@pytest.mark.parametrize("name", ["train.py", "labels.txt", ".git/config", "nested/saved_model.pb", "link"])
def test_a_users_file_is_never_removed(name: str, tmp_path: Path, capsys) -> None:
    """A directory that holds a SavedModel and more is more than a SavedModel, whatever --force says."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    shutil.copytree(path, target)
    if name == "link":
        os.symlink("assets", target / name)
    else:
        (target / name).parent.mkdir(exist_ok=True)
        (target / name).write_text("mine")
    said = refused(capsys, path, str(target), "--force")
    assert f"holds {name}, which is no part of the SavedModel there and would be lost" in said


@pytest.mark.parametrize("words", [(), ("--force",)])
def test_what_is_no_model_is_never_replaced(words: tuple[str, ...], tmp_path: Path, capsys) -> None:
    """A folder of somebody's, a file, a symlink, dangling or to a model."""
    path = made(tmp_path / "model")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "precious").touch()
    (tmp_path / "file").touch()
    shutil.copytree(path, tmp_path / "old")
    os.symlink("old", tmp_path / "link")
    os.symlink("nowhere", tmp_path / "dangling")
    expected = {
        "folder": "is a directory that holds no SavedModel", "file": "is no directory", "link": "is no directory",
        "link/": "is no directory", "dangling": "is no directory",
    }  # fmt: skip
    for name, sentence in expected.items():
        assert sentence in refused(capsys, path, f"{tmp_path}/{name}", *words)


def test_one_inside_the_other(tmp_path: Path, capsys, monkeypatch) -> None:
    """A result in its source would be a part of it next time; a source in its target would be replaced with it."""
    path = made(tmp_path / "out" / "model")
    target = shutil.copytree(path, tmp_path / "out", dirs_exist_ok=True)
    os.symlink("model", tmp_path / "out" / "link")
    for inner in ("small", "variables", "assets/small"):
        assert "the target lies in the source" in refused(capsys, path, f"{path}/{inner}", "--force")
    assert "the target lies in the source" in refused(capsys, path, f"{tmp_path}/out/link/small")
    assert "the source lies in the target" in refused(capsys, path, str(target), "--force")
    assert "same directory" in refused(capsys, path, f"{tmp_path}/out/link", "--force")
    monkeypatch.chdir(path)
    assert "the target lies in the source" in run(capsys, "strip", ".", "-o", "small")[2]
    assert run(capsys, "strip", ".", "-o", "../../small")[0] == 0  # a name that begins alike is elsewhere
    assert run(capsys, "strip", ".", "-o", "../model2")[0] == 0


def test_the_current_directory_is_not_pulled_away(tmp_path: Path, capsys, monkeypatch) -> None:
    """Whoever stands there would stand in a directory that is gone."""
    path = made(tmp_path / "model")
    shutil.copytree(path, tmp_path / "out")
    (tmp_path / "empty").mkdir()
    for name in ("out", "empty"):
        monkeypatch.chdir(tmp_path / name)
        for word in (".", str(tmp_path / name)):
            assert "is the current directory" in refused(capsys, path, word, "--force")


@pytest.mark.e2e
@pytest.mark.parametrize("target", ["", "nowhere/.."])
@pytest.mark.parametrize("words", [(), ("--force",)])
def test_other_names_of_the_current_directory(words: tuple[str, ...], target: str, tmp_path: Path, capsys, monkeypatch):
    """An unset variable in a script must not cost all that lies there."""
    path = made(tmp_path / "model")
    here = tmp_path / "here"
    here.mkdir()
    (here / "thesis.txt").write_text("mine")
    monkeypatch.chdir(here)
    assert "is the current directory" in refused(capsys, path, target, *words)


def test_a_mount_point_is_refused(tmp_path: Path, capsys) -> None:
    """Bound to a folder of the same disk it cannot be told beforehand: the rename fails, and all is as it was."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    shutil.copytree(path, tmp_path / "bound")
    target.mkdir()
    words = ["mount", "--bind", str(tmp_path / "bound"), str(target)]
    if os.geteuid() or not shutil.which("mount") or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs a root that may mount")
    try:
        said = refused(capsys, path, str(target), "--force")
        assert "mount point" in said or "busy" in said
        assert left(tmp_path) == []
    finally:
        subprocess.run(["umount", str(target)], check=True)


def test_a_rename_that_fails_leaves_the_old_one(tmp_path: Path, capsys, monkeypatch) -> None:
    """The old model cannot be moved: it stays, and no journal waits to move it some other day."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    shutil.copytree(path, target)
    real = os.rename

    def failing(source: str, to: str) -> None:
        if to.endswith("result.old"):
            raise OSError(16, "Device or resource busy")
        real(source, to)

    monkeypatch.setattr(journal.os, "rename", failing)
    assert "busy" in refused(capsys, path, str(target), "--force")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("signal", "last", "step"),
    [(9, "same", 7), (9, "other", 29), (15, "same", 19)],
    ids=["killed", "other", "terminated"],
)
def test_at_any_line_the_target_is_whole_or_is_made_so(signal: int, last: str, step: int, tmp_path: Path) -> None:
    """The old model is there, or the new one, or for a moment none, which the next run ends, whatever it strips."""
    step = int(os.environ.get("TFSTRIP_CRASH_STEP", step))
    source, folder = tmp_path / "source", tmp_path / "folder"
    made(source / "model")
    shutil.copytree(source / "model", source / "out")
    (source / "out" / "assets" / "old.txt").touch()
    shutil.copy(OTHER.path, source / "other.keras")
    folder.mkdir()
    strip(str(source / "model"), str(tmp_path / "new"))
    old, new = files(str(source / "out")), files(str(tmp_path / "new"))
    first = ["strip", f"{folder}/model", "-o", f"{folder}/out", "--force"]
    other = ["strip", "--in-place", f"{folder}/other.keras"]
    outcomes = killed(source, folder, signal, 0, step, first, other, last, check=f"{folder}/model")
    absent = 0
    for _, before, _, after, _, (code, said), leftover in outcomes:
        assert code == 0, said
        assert leftover == []
        there = {name[4:]: data for name, data in before.items() if name.startswith("out/")}
        assert there in (old, new, {})
        absent += not there
        there = {name[4:]: data for name, data in after.items() if name.startswith("out/")}
        assert there in ([new] if last == "same" else [old, new])
    assert not absent if signal == 15 else absent or step > 3


def between(tmp_path: Path, *, moved: bool) -> Path:
    """Leave a target as a run does that is killed once its journal is written, or once the old model is moved away."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    shutil.copytree(path, target)
    (tmp_path / SHOP).mkdir()
    strip(path, str(tmp_path / SHOP / "result"))
    journal.commit(str(tmp_path / SHOP), "out", [""], [])
    if moved:
        os.rename(target, tmp_path / SHOP / "result.old")
    return target


@pytest.mark.parametrize("moved", [False, True])
def test_the_next_run_puts_the_new_one_there(moved: bool, tmp_path: Path) -> None:
    """Also where for the moment there is none."""
    target = between(tmp_path, moved=moved)
    strip(str(tmp_path / "model"), str(tmp_path / "fresh"))
    assert files(str(target)) == files(str(tmp_path / "fresh"))
    assert left(tmp_path) == []


def test_whatever_came_there_since_stays(tmp_path: Path) -> None:
    """A folder of somebody's has the name now: it is neither replaced nor moved."""
    target = between(tmp_path, moved=True)
    target.mkdir()
    (target / "mine").touch()
    replace.recover(str(target))
    assert os.listdir(target) == ["mine"]


def test_a_target_that_was_saved_since_is_left_alone(tmp_path: Path) -> None:
    """Killed between journal and rename, and somebody saves a model there: the journal is void."""
    target = between(tmp_path, moved=False)
    made(tmp_path / "again")
    shutil.copytree(tmp_path / "again", target, dirs_exist_ok=True)
    before = files(str(target))
    replace.recover(str(target))
    assert files(str(target)) == before
    assert left(tmp_path) == []


def test_a_file_that_is_added_to_the_target_meanwhile_is_kept(tmp_path: Path, capsys, monkeypatch) -> None:
    """It is looked at again, right before the old one goes."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    shutil.copytree(path, target)
    real = replace.flush

    def flush(name: str) -> None:
        (target / "mine").touch()
        real(name)

    monkeypatch.setattr(replace, "flush", flush)
    code, _, err = run(capsys, "strip", path, "-o", str(target), "--force")
    assert code == 2
    assert "holds mine" in err
    assert (target / "mine").exists()


def test_what_is_left_out_is_not_lost_silently(tmp_path: Path, capsys) -> None:
    """The user's links that lead elsewhere: what they lead to is not published unasked; the model's own are refused."""
    path, target = made(tmp_path / "model"), tmp_path / "out"
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "key").touch()
    os.symlink("../secret", tmp_path / "model" / "data")
    os.symlink("../secret/key", tmp_path / "model" / "README.md")
    os.symlink("saved_model.pb", tmp_path / "model" / "same")
    code, _, err = run(capsys, "strip", path, "-o", str(target))
    assert code == 0, err
    for name in ("data", "README.md"):
        assert f"{target}: the link {name} in its directory is left out: it leads elsewhere" in err
    assert sorted(os.listdir(target)) == ["assets", "same", "saved_model.pb", "variables"]
    assert run(capsys, "strip", path, "--in-place")[2].count("left out") == 0
    os.symlink("../../secret/key", tmp_path / "model" / "assets" / "x")
    assert "its file assets/x is a link" in refused(capsys, path, str(tmp_path / "more"))
    (tmp_path / "model" / "assets" / "x").unlink()
    os.symlink("../../secret", tmp_path / "model" / "assets" / "x")
    assert "its folder assets/x is a symbolic link" in refused(capsys, path, str(tmp_path / "more"))
