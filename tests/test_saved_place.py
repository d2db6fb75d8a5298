"""SavedModels in place: their own files are replaced under a journal, and all else in the directory stays as it is."""

import json
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hostile import assert_one_sentence, judge, run
from saved_made import Made, files
from test_journal import KILLED, OTHER, ROOT

from tfstrip_core import CannotReplace, UsageError, inspect, journal, replace, strip, verify
from tfstrip_core.containers.saved import saved_model as container

DATA = "variables/variables.data-00000-of-00001"
SECOND = "variables/variables.data-00001-of-00002"
OWN = {"saved_model.pb", "variables/variables.index", DATA}
SHOP = ".tfstrip-abcdefgh"


def made(folder: Path) -> str:
    """Write a model with stale and debug files, as TensorFlow 2.15 does; return its path."""
    path = Made().write(folder)
    (folder / "debug").mkdir()
    (folder / "debug" / "saved_model_debug_info.pb").write_bytes(b"\n\x10/home/me/train.py")
    return path


def everything(folder: Path) -> dict[str, tuple[int, int, int, bytes | str]]:
    """Return what lies in a directory: mode, owner, and content, or where a symlink points to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        said = os.readlink(path) if path.is_symlink() else b"" if path.is_dir() else path.read_bytes()
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_uid, status.st_gid, said)
    return found


def left(folder: Path) -> list[str]:
    return [str(path) for path in folder.rglob(".tfstrip-*")]


def test_in_place_is_what_another_place_gets(tmp_path: Path, capsys) -> None:
    """The same bytes; fingerprint and debug information go, with the folder that is empty then."""
    path = made(tmp_path / "model")
    strip(path, str(tmp_path / "small"))
    size = sum(map(len, files(path).values()))
    code, out, err = run(capsys, "strip", "--in-place", path)
    assert code == 0, err
    assert files(path) == files(str(tmp_path / "small"))
    assert f"{size:,} -> {sum(map(len, files(path).values())):,} bytes" in out
    assert "git does not have the old one, it is gone" in err
    assert set(os.listdir(path)) == {"saved_model.pb", "variables", "assets"}
    assert (inspect(path).verdict, left(tmp_path)) == ("clean", [])
    before = everything(tmp_path / "model")
    assert "nothing to remove" in run(capsys, "strip", "--in-place", path)[1]
    assert everything(tmp_path / "model") == before


def test_what_is_not_the_models_own_stays(tmp_path: Path) -> None:
    """Texts, git's files, symlinks, other models, empty folders: byte for byte, with their modes and owners."""
    path, folder = made(tmp_path / "model"), tmp_path / "model"
    for name in ("README.md", ".gitattributes", "labels.txt", "variables/notes.txt", "debug/mine", "assets.extra/a"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
        (folder / name).chmod(0o640)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("x")
    (folder / "empty").mkdir(mode=0o700)
    (folder / "assets" / "words.txt").unlink()  # TensorFlow leaves the folder empty where there are none
    os.symlink("nowhere", folder / "link")
    nested = Made().write(folder / "nested")
    if os.geteuid() == 0:
        os.chown(folder / "labels.txt", 1234, 1234)
    before = everything(folder)
    strip(path, in_place=True)
    after = everything(folder)
    gone = {"fingerprint.pb", "debug/saved_model_debug_info.pb"}
    assert before.keys() - after.keys() == gone
    assert {name for name in after if after[name] != before.get(name)} == OWN
    assert inspect(nested).verdict == "residue"


def test_another_place_gets_the_users_files_too(tmp_path: Path) -> None:
    """What serves the model may need them; .git, and SavedModels of their own, are not a part of it."""
    path, folder, target = made(tmp_path / "model"), tmp_path / "model", tmp_path / "small"
    for name in ("labels.txt", "assets.extra/tf_serving_warmup_requests", "variables/notes.txt", ".git/config"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name)
    Made().write(folder / "nested")
    (folder / "module").mkdir()
    (folder / "module" / ".git").write_text("gitdir: elsewhere")  # a submodule's
    (folder / "assets" / "inner").mkdir()
    (folder / "assets" / "inner" / "saved_model.pb").write_text("what a function reads")
    more = {"labels.txt", "assets.extra/tf_serving_warmup_requests", "assets/words.txt"}
    more |= {"assets/inner/saved_model.pb"}
    for source, name in ((path, "small"), (str(target), "copy")):
        strip(source, str(tmp_path / name))
        assert set(files(str(tmp_path / name))) == OWN | more
    assert (target / "labels.txt").read_text() == "labels.txt"
    assert verify(path, str(target)).equal
    (target / "labels.txt").write_text("labels.txt?")
    assert not verify(path, str(target)).equal


def test_modes_and_owners_are_kept(tmp_path: Path) -> None:
    """Of files and of directories, private and group-writable ones; another shard's where two become one."""
    path, folder = made(tmp_path / "model"), tmp_path / "model"
    modes = {"": 0o2750, "variables": 0o700, "saved_model.pb": 0o640, DATA: 0o400, "variables/variables.index": 0o664}
    for name, mode in modes.items():
        if os.geteuid() == 0:
            os.chown(folder / name, 1234, 65534)
        os.chmod(folder / name, mode)
    strip(path, in_place=True)
    for name, mode in modes.items():
        status = os.stat(folder / name)
        assert stat.S_IMODE(status.st_mode) == mode, name
        assert os.geteuid() or (status.st_uid, status.st_gid) == (1234, 65534)


@pytest.mark.parametrize("name", [*sorted(OWN), "fingerprint.pb", "variables", "debug", ""])
def test_symlinks_are_refused(name: str, tmp_path: Path, capsys) -> None:
    """One file, one folder or the whole in a store that others share: neither the link nor the store changes."""
    path, place = made(tmp_path / "model"), tmp_path / "model" / name
    os.replace(place, tmp_path / "store")
    os.symlink(tmp_path / "store", place)
    before = everything(tmp_path)
    for word in (path, f"{path}/", f"{path}/saved_model.pb"):
        code, out, err = run(capsys, "strip", "--in-place", word)
        assert (code, out) == (2, "")
        assert_one_sentence(err, path)
        assert "symlink" in err or "symbolic link" in err or "leads out of its directory" in err
    assert everything(tmp_path) == before
    if name in ("", "saved_model.pb"):  # a cache, in which all files are links
        strip(path, str(tmp_path / "out"))
        assert inspect(str(tmp_path / "out")).verdict == "clean"


@pytest.mark.parametrize("name", sorted(OWN))
def test_links_within_the_directory_are_refused(name: str, tmp_path: Path, capsys) -> None:
    """They lead nowhere that others share, but a rename would put a file in their place."""
    path, place = made(tmp_path / "model"), tmp_path / "model" / name
    os.replace(place, tmp_path / "model" / "elsewhere")
    os.symlink(tmp_path / "model" / "elsewhere", place)
    before = everything(tmp_path)
    code, out, err = run(capsys, "strip", "--in-place", path)
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    assert "this is a symlink" in err
    assert everything(tmp_path) == before


def grown(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def written_anew(path: Path) -> None:
    shutil.copy2(path, f"{path}.new")
    os.replace(f"{path}.new", path)


def linked(path: Path) -> None:
    os.replace(path, path.parent.parent / "store")
    os.symlink(path.parent.parent / "store", path)


def added(path: Path) -> None:
    """A shard that was not there is a sign of somebody who saves."""
    (path.parent / "variables.data-00007-of-00009" if path.parent.name == "variables" else path).touch()


@pytest.mark.parametrize("name", [*sorted(OWN), "fingerprint.pb"])
@pytest.mark.parametrize("change", [grown, written_anew, linked, os.remove, added], ids=lambda change: change.__name__)
def test_what_changes_meanwhile_stops_it(change, name: str, tmp_path: Path, capsys, monkeypatch) -> None:
    """Somebody saves the model again while the strip is under way: nothing of that is replaced or removed."""
    path, after = made(tmp_path / "model"), []
    original = container.rewrite

    def changing(*words):
        notes = original(*words)
        if (tmp_path / "model" / name).exists():
            change(tmp_path / "model" / name)
        after.append({k: v for k, v in everything(tmp_path).items() if ".tfstrip-" not in k})
        return notes

    monkeypatch.setattr(container, "rewrite", changing)
    code, out, err = run(capsys, "strip", "--in-place", path)
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    assert everything(tmp_path) == after[0]
    assert left(tmp_path) == []


def test_a_file_of_the_users_that_comes_meanwhile_stays(tmp_path: Path, monkeypatch) -> None:
    """Nothing is replaced but what was read, so that it cannot get lost; another place would lack it."""
    path, original = made(tmp_path / "model"), container.rewrite

    def adding(*words):
        (tmp_path / "model" / "README.md").write_text(words[2])
        return original(*words)

    monkeypatch.setattr(container, "rewrite", adding)
    with pytest.raises(CannotReplace, match="changed"):
        strip(path, str(tmp_path / "small"))
    (tmp_path / "model" / "README.md").unlink()
    strip(path, in_place=True)
    assert (tmp_path / "model" / "README.md").exists()
    assert inspect(path).verdict == "clean"


def test_the_current_directory(tmp_path: Path, monkeypatch, capsys) -> None:
    """Whoever stands in it goes on standing in it."""
    path = made(tmp_path / "model")
    monkeypatch.chdir(path)
    for word in (".", "saved_model.pb"):
        assert run(capsys, "strip", "--in-place", word)[0] == 0
        assert os.listdir(".") == os.listdir(path)
        assert judge(capsys, ".")[1]["verdict"] == "clean"
    shutil.rmtree(tmp_path / "model" / "variables")
    monkeypatch.chdir(tmp_path)
    made(tmp_path / "again")
    monkeypatch.chdir(tmp_path / "again" / "variables")
    assert run(capsys, "strip", "--in-place", "variables.index")[0] == 0
    assert judge(capsys, "..")[1]["verdict"] == "clean"


def test_a_folder_on_another_disk_is_refused_before_anything_moves(tmp_path: Path, capsys, monkeypatch) -> None:
    """Renames do not reach it, and half of them must not have happened when that comes out."""
    path = made(tmp_path / "model")
    before, real = everything(tmp_path), os.stat

    def elsewhere(name, *words, **more):
        status = real(name, *words, **more)
        if str(name).endswith("model/variables"):
            return os.stat_result([*status[:2], 77, *status[3:]])
        return status

    monkeypatch.setattr(replace.os, "stat", elsewhere)
    code, _, err = run(capsys, "strip", "--in-place", path)
    monkeypatch.undo()
    assert code == 2
    assert_one_sentence(err, path)
    assert "another disk" in err
    assert everything(tmp_path) == before


@pytest.mark.e2e
def test_a_mount_point(tmp_path: Path, capsys) -> None:
    """Nothing is built beside it, where another disk is."""
    folder = tmp_path / "model"
    folder.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount")
    words = ["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(folder)]
    if not mounted or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("needs a root that may mount")
    try:
        shutil.copytree(made(tmp_path / "source"), folder, dirs_exist_ok=True)
        assert run(capsys, "strip", "--in-place", str(folder))[0] == 0
        assert judge(capsys, str(folder))[1]["verdict"] == "clean"
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def content(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in files(str(folder)).items() if ".tfstrip-" not in name}


@pytest.mark.parametrize(
    ("signal", "again", "last", "step"),
    [(9, 0, "same", 7), (9, 0, "other", 31), (9, 7, "same", 31), (15, 0, "same", 23)],
    ids=["killed", "killed-other", "killed-twice", "terminated"],
)
def test_at_any_line_in_place_it_is_whole_or_known_to_be_unfinished(signal, again, last, step, tmp_path) -> None:
    """No check judges a mixture, and the next run makes it whole and tidies up."""
    step = int(os.environ.get("TFSTRIP_CRASH_STEP", step))
    source, folder = tmp_path / "source", tmp_path / "folder"
    made(source)
    (source / "labels.txt").write_text("mine")
    shutil.copytree(source, tmp_path / "whole")
    old = content(tmp_path / "whole")
    strip(str(tmp_path / "whole"), in_place=True)
    new = content(tmp_path / "whole")
    shutil.copy(OTHER.path, source / "other.keras")
    folder.mkdir()
    first = ["strip", "--in-place", str(folder)]
    outcomes = killed(source, folder, signal, again, step, first, [*first[:-1], str(folder / "other.keras")], last)
    met_mixture = 0
    for ended, before, met, after, (code, said), (last_code, last_said), leftover in outcomes:
        assert ended in (0, {9: -9, 15: 143}[signal])
        mixed = met not in (old, new)
        met_mixture += mixed
        if signal == 15:
            assert before in (old, new)
        if mixed or "interrupted" in said:
            assert code == 2, said
            assert "interrupted strip" in said
        assert last_code == 0, last_said
        assert leftover == []
        if last == "same":
            assert after == new
        else:
            assert after in (old, new)
            assert mixed <= (after == new)
    assert not met_mixture if signal == 15 else met_mixture or step > 10
    assert outcomes[0][1] == old


def killed(source, folder, signal, again, step, first, other, last, check=None):
    """Run the strip again and again, killed at a later line each time; return what was there after each."""
    words = {
        "source": str(source), "folder": str(folder), "signal": signal, "again": again, "step": step, "first": first,
        "check": ["check", check or str(folder)], "last": first if last == "same" else other,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", KILLED], input=json.dumps(words), env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = []
    for line in done.stdout.splitlines():
        ended, *listed, checked, after, leftover = json.loads(line)
        found = [{name: bytes.fromhex(data) for name, data in items.items()} for items in listed]
        outcomes.append((ended, *found, checked, after, leftover))
    assert len(outcomes) > 10
    return outcomes


def half(folder: Path, new: str, moved: int) -> Path:
    """Leave the model at `folder` as a run does that is killed after so many renames; return its workshop."""
    shop = folder / SHOP
    shutil.copytree(new, shop / "result")
    own = sorted(OWN, reverse=True)
    journal.commit(str(shop), "", [f"/{name}" for name in own], ["/fingerprint.pb", "/debug/saved_model_debug_info.pb"])
    for name in own[:moved]:
        os.replace(shop / "result" / name, folder / name)
    return shop


@pytest.fixture
def halves(tmp_path: Path) -> tuple[str, str]:
    """A model of whose files one is new, and the new one."""
    path, new = made(tmp_path / "model"), str(tmp_path / "new")
    strip(path, new)
    half(tmp_path / "model", new, 1)
    return path, new


@pytest.mark.parametrize("name", ["", "saved_model.pb", "variables/variables.index", DATA])
def test_a_half_replaced_model_is_unreadable_and_the_next_strip_completes_it(name: str, halves, capsys) -> None:
    """Whichever of its files is named; inspect and check change nothing."""
    path, new = halves
    word = os.path.join(path, name)
    before = everything(Path(path))
    for words in (["check"], ["inspect"], ["verify", new]):
        code, _, err = run(capsys, *words, word)
        assert code == 2
        assert "an interrupted strip left it half replaced; run tfstrip strip --in-place on it again" in err
    assert everything(Path(path)) == before
    assert run(capsys, "strip", "--in-place", word)[0] == 0
    assert files(path) == files(new)
    assert left(Path(path)) == []


def test_what_was_saved_since_is_never_overwritten(halves, tmp_path: Path) -> None:
    """After the crash somebody saved a model there: the journal is void."""
    path, _ = halves
    again = made(tmp_path / "again")
    shutil.copytree(again, path, dirs_exist_ok=True)
    assert inspect(path).verdict == "residue"
    strip(str(tmp_path / "model"), str(tmp_path / "out"))
    assert files(path) == files(again)
    assert left(tmp_path) == []


FOREIGN = ["README.md", "assets/words.txt", "variables/notes.txt", "../victim", "variables/../../victim", ".git/config"]


@pytest.mark.parametrize("name", FOREIGN)
@pytest.mark.parametrize("key", ["moves", "removes"])
def test_a_journal_about_other_files_is_not_obeyed(key: str, name: str, tmp_path: Path) -> None:
    """Whatever wrote it: a journal in a model's directory reaches the model's own files, and none besides."""
    path = made(tmp_path / "model")
    (tmp_path / "victim").write_text("precious")
    for victim in FOREIGN:
        (tmp_path / "model" / victim).parent.mkdir(exist_ok=True)
        (tmp_path / "model" / victim).write_text("precious")
    before = everything(tmp_path)
    shop = tmp_path / "model" / SHOP
    (shop / "result" / "variables").mkdir(parents=True)
    (shop / os.path.normpath(f"result/{name}")).parent.mkdir(parents=True, exist_ok=True)
    (shop / os.path.normpath(f"result/{name}")).write_text("evil")
    moves, removes = ([f"/{name}"], []) if key == "moves" else ([], [f"/{name}"])
    journal.commit(str(shop), "", moves, removes)
    assert not journal.is_unfinished(str(shop), "")
    replace.recover(os.path.join(path, "any"))
    assert {place: what for place, what in everything(tmp_path).items() if SHOP not in place} == before


def test_a_journal_in_a_model_does_not_move_all_of_it(tmp_path: Path) -> None:
    """That is for one beside it: here it would move the directory into its own workshop."""
    path, new = made(tmp_path / "model"), str(tmp_path / "new")
    strip(path, new)
    shop = tmp_path / "model" / SHOP
    shutil.copytree(new, shop / "result")
    journal.commit(str(shop), "", [""], [])
    assert not journal.is_unfinished(str(shop), "")
    assert not journal.finish(str(shop))


def test_a_read_only_folder_is_refused_before_anything_moves(tmp_path: Path, capsys, monkeypatch) -> None:
    """Half a replaced model would be the price of finding out later."""
    path = made(tmp_path / "model")
    before, real = everything(tmp_path), os.access
    monkeypatch.setattr(
        replace.os, "access", lambda name, mode: not str(name).endswith("variables") and real(name, mode)
    )
    code, _, err = run(capsys, "strip", "--in-place", path)
    assert code == 2
    assert_one_sentence(err, path)
    assert "not writable" in err
    assert everything(tmp_path) == before


def test_every_own_file_may_be_journaled(tmp_path: Path) -> None:
    """What a strip in place replaces is what the journal's rule lets through, whatever shards there are."""
    for name in (*OWN, SECOND, "keras_metadata.pb", "fingerprint.pb", "debug/saved_model_debug_info.pb"):
        assert journal.owns(f"/{name}")
    for name in (*FOREIGN, "variables", "variables/variables.data-1-of-2", f"{DATA}.bak", f"./{DATA}", ""):
        assert not journal.owns(f"/{name}")
    assert not journal.owns("saved_model.pb")


def test_serving_in_place_removes_what_only_keras_reads(tmp_path: Path) -> None:
    """keras_metadata.pb has no successor."""
    path = made(tmp_path / "model")
    (tmp_path / "model" / "keras_metadata.pb").touch()
    assert strip(path, in_place=True, profile="serving").changed
    assert "keras_metadata.pb" not in os.listdir(path)
    with pytest.raises(UsageError, match="exclude"):
        strip(path, path, in_place=True)
