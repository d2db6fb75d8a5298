"""Crashes and full disks: at any moment there is a whole old or a whole new model."""

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import E2E, one
from hostile import assert_one_sentence, run

DIRTY = one("keras3.8.0", "sequential.keras")
DIRTY_H5 = one("keras3.8.0", "sequential.h5")
both_forms = pytest.mark.parametrize("model", [DIRTY, DIRTY_H5], ids=["keras", "h5"])

# Strips a copy of the model again and again, each time in a process that is killed at a later line of the given
# files; prints for each what the file then was, and what lay beside it.
KILLED = """
import json, os, shutil, sys
source, folder, step, *files = sys.argv[1:]
from tfstrip_core import cli, hook
from tfstrip_core.containers.keras import keras_hdf5, keras_zip
from tfstrip_core.reports import document, text

path, files, lines = os.path.join(folder, "m"), tuple(files), 0

def count(frame, event, arg):
    global lines
    if not frame.f_code.co_filename.endswith(files):
        return None
    if event == "line":
        lines += 1
        if lines == last:
            os.kill(os.getpid(), 9)
    return count

last, ended = 1, None
while ended != 0:
    shutil.rmtree(folder)
    os.mkdir(folder)
    shutil.copy(source, path)
    pid = os.fork()
    if not pid:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.dup2(1, 2)
        sys.settrace(count)
        os._exit(cli.main(["strip", "--in-place", path]))
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(path, "rb") as file:
        now = file.read()
    print(json.dumps([ended, now.hex(), sorted(set(os.listdir(folder)) - {"m"})]))
    last += int(step)
"""


PLACING, WRITING = ("/replace.py",), ("/verbs/strip.py", "/zip.py", "/hdf5_copy.py")


@pytest.mark.parametrize(
    ("model", "step", "files"),
    [(DIRTY, 2, PLACING), (DIRTY_H5, 3, PLACING), (DIRTY, 60, WRITING), (DIRTY_H5, 25, WRITING)],
    ids=["keras-placing", "h5-placing", "keras-writing", "h5-writing"],
)
def test_killed_at_any_line_leaves_a_whole_file(model, step: int, files, tmp_path: Path, capsys) -> None:
    """SIGKILL, the machine's power, the out-of-memory killer: never a half-written model under the model's name."""
    stripped = str(tmp_path / "stripped")
    assert run(capsys, "strip", model.path, "-o", stripped)[0] == 0
    (tmp_path / "work").mkdir()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-c", KILLED, model.path, str(tmp_path / "work"), str(step), *files],
        env=os.environ | {"PYTHONPATH": root, "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    old, new = (Path(path).read_bytes().hex() for path in (model.path, stripped))
    assert {ended for ended, _, _ in outcomes[:-1]} == {-9}
    assert [now in (old, new) for _, now, _ in outcomes] == [True] * len(outcomes)
    assert len(outcomes) > 8
    assert outcomes[0][1] == old
    assert outcomes[-1][1:] == [new, []]
    assert all(name.startswith(".tfstrip-") for _, _, beside in outcomes for name in beside)
    if files == PLACING:
        assert [now for _, now, _ in outcomes].count(new) > 2  # the moments after the rename were met too


def test_what_a_killed_strip_left_is_no_model_of_the_repository(copy, tmp_path: Path, capsys) -> None:
    """The next `tfstrip check .` must not judge the half-written copy that a crash left beside the model."""
    copy(DIRTY, "m.keras")
    left = tmp_path / ".tfstrip-abcdefgh"
    left.mkdir()
    (left / "result").write_bytes(Path(DIRTY.path).read_bytes()[:9000])
    code, out, err = run(capsys, "check", str(tmp_path))
    assert code == 1, err
    assert "1 model checked" in out


def assert_no_room(capsys, path: str, *words: str) -> None:
    """Assert exit code 2, one sentence, the source as it was and nothing beside it."""
    folder = os.path.dirname(path)
    before, source = sorted(os.listdir(folder)), Path(path).read_bytes()
    code, out, err = run(capsys, "strip", path, *words)
    assert (code, out) == (2, ""), err
    assert_one_sentence(err, path)
    assert Path(path).read_bytes() == source
    assert sorted(os.listdir(folder)) == before


@both_forms
@pytest.mark.parametrize("words", [("--in-place",), ("-o", "t")], ids=["in-place", "out"])
def test_a_write_that_fails_anywhere_leaves_nothing(model, words: tuple[str, ...], copy, tmp_path, capsys) -> None:
    """A limit on file sizes stops the writing at many places, as a full disk or a quota does."""
    path = copy(model, "m")
    words = tuple(str(tmp_path / word) if word == "t" else word for word in words)
    result = str(tmp_path / "result")
    assert run(capsys, "strip", path, "-o", result)[0] == 0
    size = os.path.getsize(result)
    os.remove(result)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in [0, 1, *range(100, size, size // 12), size - 1]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            assert_no_room(capsys, path, *words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert run(capsys, "strip", path, *words)[0] == 0


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 64 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = shutil.which("mount") and os.geteuid() == 0
    if mounted:
        command = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=32", "none", str(folder)]
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    if not mounted and E2E and os.geteuid() == 0:
        pytest.fail("TFSTRIP_E2E=1 and root cannot mount a small disk here")
    if not mounted:
        pytest.skip("needs a root that may mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.e2e
@both_forms
def test_a_full_disk_is_one_sentence(model, small_disk: Path, capsys) -> None:
    """Whatever little room is left, too little is said in one sentence, and enough is enough."""
    path = str(shutil.copy(model.path, small_disk / "m"))
    filler = small_disk / "filler"
    with open(filler, "wb", buffering=0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            size = file.tell()
    codes = []
    for pages in range(size // 4096 + 1):
        os.truncate(filler, size - pages * 4096)
        beside = sorted(os.listdir(small_disk))
        source = Path(path).read_bytes()
        code, _, err = run(capsys, "strip", "--in-place", path)
        codes.append(code)
        assert sorted(os.listdir(small_disk)) == beside
        if code:
            assert_one_sentence(err, path)
            assert "No space left" in err
            assert Path(path).read_bytes() == source
        else:
            break
    assert codes == [2] * (len(codes) - 1) + [0]
    assert len(codes) > 2
    assert run(capsys, "check", path)[0] == 0


def test_only_our_own_leftovers_are_swept(copy, tmp_path: Path, capsys) -> None:
    """A folder of the user's that happens to be called .tfstrip-something is not thrown away with what is in it."""
    path = copy(DIRTY, "m.keras")
    for name in (".tfstrip-notes", ".tfstrip-abcdefgh"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mine.txt").write_text("precious")
        os.utime(tmp_path / name, (0, 0))
    assert run(capsys, "strip", "--in-place", path)[0] == 0
    for name in (".tfstrip-notes", ".tfstrip-abcdefgh"):
        assert (tmp_path / name / "mine.txt").read_text() == "precious"
