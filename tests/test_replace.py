"""Putting in place: what is kept, what is refused, and what git gives back."""

import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from pathlib import Path

import pytest
from conftest import need, one
from hostile import assert_one_sentence, listing
from hostile import run as run_command

from tfstrip_core import replace
from tfstrip_core.containers.keras import keras_hdf5, keras_zip

DIRTY = one("keras3.8.0", "sequential.keras")
DIRTY_H5 = one("keras3.8.0", "sequential.h5")
ROOT_USER = hasattr(os, "geteuid") and os.geteuid() == 0
NOBODY = 65534

both_forms = pytest.mark.parametrize("model", [DIRTY, DIRTY_H5], ids=["keras", "h5"])


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """Return a function that runs the command in the test's directory: exit code, stdout and stderr."""
    monkeypatch.chdir(tmp_path)
    return lambda *words: run_command(capsys, *words)


def assert_says_no(run, *words: str, about: str, folder: str = ".") -> str:
    """Assert exit code 2, one sentence on stderr that names the file, nothing on stdout, nothing written."""
    before = listing(folder)
    code, out, err = run(*words)
    assert (code, out) == (2, ""), err
    assert_one_sentence(err, about)
    assert listing(folder) == before
    return err


@both_forms
@pytest.mark.parametrize("mode", [0o644, 0o600, 0o664, 0o755, 0o444, 0o400], ids=oct)
def test_the_mode_is_kept(model, mode: int, run, copy) -> None:
    """A private model stays private, a read-only one read-only, whatever the umask is."""
    copy(model, "m")
    os.chmod("m", mode)
    assert run("strip", "--in-place", "m")[0] == 0
    assert stat.S_IMODE(os.stat("m").st_mode) == mode
    assert os.listdir() == ["m"]
    assert run("check", "m")[0] == 0


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002], ids=oct)
def test_a_new_file_has_the_mode_that_the_umask_asks_for(umask: int, run, copy) -> None:
    """Not the temporary file's private one, and not the source's."""
    copy(DIRTY, "m")
    os.chmod("m", 0o400)
    before = os.umask(umask)
    try:
        assert run("strip", "m", "-o", "t")[0] == 0
    finally:
        os.umask(before)
    assert stat.S_IMODE(os.stat("t").st_mode) == 0o666 & ~umask
    assert stat.S_IMODE(os.stat("m").st_mode) == 0o400


def test_the_owner_is_kept(run, copy) -> None:
    """Root strips a user's file (a container does): it stays the user's, set-user-id bits included."""
    copy(DIRTY, "m")
    owner = (NOBODY, NOBODY) if ROOT_USER else (os.geteuid(), os.stat("m").st_gid)
    os.chown("m", *owner)
    os.chmod("m", 0o4640)
    assert run("strip", "--in-place", "m")[0] == 0
    status = os.stat("m")
    assert (status.st_uid, status.st_gid) == owner
    assert stat.S_IMODE(status.st_mode) == 0o4640


@pytest.fixture
def unprivileged():
    """A directory that everybody can reach, and for root a step down to nobody once `become` is called."""
    folder = tempfile.mkdtemp()
    os.chmod(folder, 0o755)
    uid, gid = os.geteuid(), os.getegid()

    def become() -> None:
        if ROOT_USER:
            os.setegid(NOBODY)
            os.seteuid(NOBODY)

    yield folder, become
    os.seteuid(uid)
    os.setegid(gid)
    os.chmod(folder, 0o755)
    shutil.rmtree(folder)


@both_forms
def test_a_directory_that_cannot_be_written_is_one_sentence(model, unprivileged, run, copy) -> None:
    """Neither in place nor beside it: the sentence names the cause and -o, and the way out works."""
    folder, become = unprivileged
    path = shutil.copy(model.path, os.path.join(folder, "m"))
    run("strip", path, "-o", "warm")  # whatever is imported on the way is imported before root steps down
    os.chmod(folder, 0o555)
    become()
    before = listing(folder)
    err = assert_says_no(run, "strip", "--in-place", path, about="m", folder=folder)
    assert "Permission denied" in err
    assert "-o" in err
    err = assert_says_no(run, "strip", path, "-o", os.path.join(folder, "t"), about="m", folder=folder)
    assert "Permission denied" in err
    assert listing(folder) == before


@pytest.mark.skipif(not ROOT_USER, reason="only root can make a file that belongs to somebody else")
def test_an_owner_that_cannot_be_kept_stops_it(unprivileged, run) -> None:
    """In a shared directory others may replace a file, but not give it to its owner: nothing is replaced."""
    folder, become = unprivileged
    path = shutil.copy(DIRTY.path, os.path.join(folder, "m"))
    os.chmod(path, 0o644)
    run("strip", path, "-o", "warm")
    os.chmod(folder, 0o777)
    become()
    err = assert_says_no(run, "strip", "--in-place", path, about="m", folder=folder)
    assert "owner" in err


@pytest.mark.parametrize("where", ["relative", "absolute", "chain", "dangling"])
def test_a_symlink_is_refused_in_place(where: str, run, copy) -> None:
    """dvc, git-annex and hub caches are symlinks into stores that others share: neither link nor store changes."""
    copy(DIRTY, "store")
    target = {"relative": "store", "absolute": os.path.abspath("store"), "chain": "other", "dangling": "no"}[where]
    os.symlink("store", "other")
    os.symlink(target, "m")
    before = Path("store").read_bytes(), os.lstat("store").st_mtime_ns, os.lstat("store").st_ino
    err = assert_says_no(run, "strip", "--in-place", "m", about="m")
    assert os.readlink("m") == target
    assert (Path("store").read_bytes(), os.lstat("store").st_mtime_ns, os.lstat("store").st_ino) == before
    if where != "dangling":
        assert "symlink" in err
        assert run("strip", "m", "-o", "t")[0] == 0  # reading through it is fine


def test_a_symlinked_directory_is_none_of_our_business(run, copy, tmp_path: Path) -> None:
    """Only the file itself must be no link: a linked project folder is everyday."""
    (tmp_path / "real").mkdir()
    copy(DIRTY, "real/m")
    os.symlink("real", "link")
    assert run("strip", "--in-place", "link/m")[0] == 0
    assert run("check", "real/m")[0] == 0
    assert os.listdir("real") == ["m"]


def grown(path: str) -> None:
    """Append, as a writer that had not finished does."""
    with open(path, "ab") as file:
        file.write(b"more")


def saved_again(path: str) -> None:
    """Replace it by rename, with the same size and time: only the inode tells."""
    status = os.stat(path)
    shutil.copy(path, f"{path}.new")
    os.utime(f"{path}.new", ns=(status.st_atime_ns, status.st_mtime_ns))
    os.replace(f"{path}.new", path)


def overwritten(path: str) -> None:
    """Write other bytes of the same number into the same inode: only the time tells."""
    data = Path(path).read_bytes()
    Path(path).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def linked(path: str) -> None:
    """Move it into a store, and leave a symlink."""
    os.replace(path, f"{path}.store")
    os.symlink(f"{os.path.basename(path)}.store", path)


CHANGES = [grown, saved_again, overwritten, linked, os.remove]


@both_forms
@pytest.mark.parametrize("moment", ["written", "proven"])
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_a_source_that_changes_meanwhile_is_not_replaced(model, moment: str, change, run, copy, monkeypatch) -> None:
    """Training saved a new checkpoint while the old one was being stripped: the new one must survive."""
    copy(model, "m")
    container = keras_zip if model is DIRTY else keras_hdf5
    original = container.rewrite if moment == "written" else replace.put_in_place
    after: list[bytes | None] = []

    def changing(*words, **more):
        if moment == "written":
            original(*words, **more)
        change("m")
        after.append(Path("m").read_bytes() if os.path.exists("m") else None)
        if moment == "proven":
            original(*words, **more)

    monkeypatch.setattr(*((container, "rewrite") if moment == "written" else (replace, "put_in_place")), changing)
    code, out, err = run("strip", "--in-place", "m")
    assert (code, out) == (2, "")
    assert_one_sentence(err, "m")
    assert [Path("m").read_bytes() if os.path.exists("m") else None] == after
    assert not [name for name in os.listdir() if name not in ("m", "m.store")]
    assert os.path.islink("m") is (change is linked)


def test_a_change_of_mode_meanwhile_is_kept(run, copy, monkeypatch) -> None:
    """Somebody made it private while we worked: the result is private too."""
    copy(DIRTY, "m")
    original = keras_zip.rewrite

    def changing(*words) -> list[str]:
        notes = original(*words)
        os.chmod("m", 0o600)
        return notes

    monkeypatch.setattr(keras_zip, "rewrite", changing)
    assert run("strip", "--in-place", "m")[0] == 0
    assert stat.S_IMODE(os.stat("m").st_mode) == 0o600


@both_forms
def test_other_names_of_the_file_keep_the_old_bytes(model, run, copy) -> None:
    """A hard link may be somebody's backup (or a store): the rename leaves it as it was."""
    copy(model, "m")
    os.link("m", "backup")
    old = Path("backup").read_bytes()
    assert run("strip", "--in-place", "m")[0] == 0
    assert Path("backup").read_bytes() == old
    assert Path("m").read_bytes() != old
    assert sorted(os.listdir()) == ["backup", "m"]


@pytest.fixture
def git(tmp_path: Path, monkeypatch):
    """Make the test's directory a git repository of its own; return a function that runs git in it."""
    need("git")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in {
        "HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org",
        "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org",
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)

    def call(*words: str, folder: str = ".") -> None:
        subprocess.run(["git", "-C", folder, *words], check=True, capture_output=True)

    call("init", "-q")
    return call


NAMES = ["m.keras", "two words", "-dash", "*.keras", ":(top)x", "[m]", "new\nline", os.fsdecode(b"caf\xe9"), "日本"]


@pytest.mark.parametrize("name", NAMES)
def test_git_has_what_its_index_holds_as_it_is_now(name: str, git, copy) -> None:
    """Only then does a restore bring back these very bytes; names are names, whatever git reads into them."""
    copy(DIRTY, name)
    assert not replace.git_has(name)
    git("add", "-N", "--", f":(literal){name}")
    assert not replace.git_has(name)
    git("add", "--", f":(literal){name}")
    assert replace.git_has(name)
    assert replace.git_has(os.path.abspath(name))
    git("commit", "-qm", "one")
    assert replace.git_has(name)
    with open(name, "ab") as file:
        file.write(b"more")
    assert not replace.git_has(name)


def test_git_has_nothing_where_there_is_no_git(git, copy, tmp_path: Path, monkeypatch) -> None:
    """Ignored, outside of any repository, in a directory that is gone, without git installed: no promise."""
    copy(DIRTY, "m.keras")
    Path(".gitignore").write_text("m.keras\n")
    assert not replace.git_has("m.keras")
    git("add", "-f", "m.keras")
    assert replace.git_has("m.keras")
    assert not replace.git_has("gone/m.keras")
    assert not replace.git_has(DIRTY.path + ".gone")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    (tmp_path / "bare").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bare"))
    assert not replace.git_has("m.keras")


@pytest.mark.parametrize("name", ["m.keras", "two words", "-dash", "it's", "日本", "[m]", ":(top)x"])
def test_the_restore_command_brings_the_old_one_back(name: str, git, run, copy) -> None:
    """What is printed can be pasted, and the bytes are the old ones."""
    copy(DIRTY, name)
    git("add", "--", f":(literal){name}")
    git("commit", "-qm", "one")
    old = Path(name).read_bytes()
    code, _, err = run("strip", "--in-place", "--", name)
    assert code == 0
    command = err.partition("comes back with ")[2].splitlines()[0]
    assert Path(name).read_bytes() != old
    assert command.startswith("git ")
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert Path(name).read_bytes() == old


def test_the_restore_command_touches_no_other_file(git, run, copy) -> None:
    """A file called *.keras: its restore must not throw away somebody's uncommitted work in the next file."""
    for name in ("*.keras", "other.keras"):
        copy(DIRTY, name)
        git("add", "--", f":(literal){name}")
    git("commit", "-qm", "one")
    Path("other.keras").write_bytes(b"uncommitted work")
    _, _, err = run("strip", "--in-place", "*.keras")
    command = err.partition("comes back with ")[2].splitlines()[0]
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert Path("other.keras").read_bytes() == b"uncommitted work"
    assert Path("*.keras").read_bytes() == Path(DIRTY.path).read_bytes()


def test_the_restore_command_works_where_it_is_printed(git, run, copy, tmp_path: Path, monkeypatch) -> None:
    """Also outside of the repository that holds the file."""
    (tmp_path / "repository").mkdir()
    git("init", "-q", folder="repository")
    copy(DIRTY, "repository/m")
    git("add", "m", folder="repository")
    old = Path("repository/m").read_bytes()
    _, _, err = run("strip", "--in-place", "repository/m")
    command = err.partition("comes back with ")[2].splitlines()[0]
    subprocess.run(shlex.split(command), check=True, capture_output=True)
    assert Path("repository/m").read_bytes() == old


def test_no_restore_is_promised_for_what_git_does_not_have(git, run, copy) -> None:
    """An unsaved change, or a file that git never saw, cannot be got back."""
    copy(DIRTY, "m")
    code, out, err = run("strip", "--in-place", "m")
    assert code == 0
    assert "git restore" not in out + err
