"""Checkpoints in place: a whole old or a whole new one, and never a mixture that passes for a model."""

import json
import os
import resource
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_fixtures import Checkpoint, one
from conftest import one as keras
from hostile import assert_one_sentence, judge, run

import tfstrip_core
from tfstrip_core import hook, journal, replace
from tfstrip_core.containers.checkpoints import checkpoint as container

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
OTHER = keras("keras3.15.1", "sequential.keras")
SHARDED = one("tf1.15", "keras_tf1_optimizer")  # two data files become one
NAMED = one("tf1.15", "graph_adam")  # with a .meta file
STATED = one("tf2.15", "state_absolute")  # the file checkpoint beside it changes too
EMPTY = one("tf1.15", "graph_prefix_empty")
every_kind = pytest.mark.parametrize("checkpoint", [SHARDED, NAMED, STATED], ids=["shards", "meta", "state"])
STATE, SHOP = "checkpoint", ".tfstrip-abcdefgh"

# Strips copies of the checkpoint in children. The first run is sent a signal at a later line each time (a line of the
# journal counts three times, others once), the second is killed too if "again" says so; then `tfstrip check` looks at
# it, and the last run is the one that is to make it whole.
KILLED = """
import json, os, shutil, sys
from tfstrip_core import cli
from tfstrip_core.containers.checkpoints import checkpoint
from tfstrip_core.containers.keras import keras_directory, keras_shards, keras_zip
from tfstrip_core.containers.saved import saved_model
from tfstrip_core.containers.tfjs import tfjs_model
from tfstrip_core.reports import document, text
said = json.load(sys.stdin)
folder, out, lines, seen = said["folder"], said["folder"] + ".out", 0, {}
os.fsync = lambda handle: None  # a process is killed here, not the machine

def run(words, signal=0, last=0):
    def count(frame, event, arg):
        global lines
        if not frame.f_code.co_filename.endswith(("/journal.py", "/replace.py")):
            return None
        place = frame.f_code.co_filename, frame.f_lineno
        seen[place] = seen.get(place, 0) + 1
        if event == "line" and seen[place] <= (3 if place[0].endswith("journal.py") else 1):
            lines += 1
            if lines == last:
                os.kill(os.getpid(), signal)
        return count

    sys.stdout.flush()  # or the child would write it again
    pid = os.fork()
    if not pid:
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        if signal:
            sys.settrace(count)
        os._exit(cli.main(words))
    ended = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    with open(out) as file:
        return ended, file.read()

def now():
    found = {}
    for inner, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".tfstrip-")]
        for name in names:
            if name != "other.keras":
                path = os.path.join(inner, name)
                found[os.path.relpath(path, folder)] = open(path, "rb").read().hex()
    return found

last, ended = 1, None
while ended != 0:
    shutil.rmtree(folder)
    shutil.copytree(said["source"], folder)
    ended, _ = run(said["first"], said["signal"], last)
    killed = now()
    if said["again"]:
        run(said["first"], 9, said["again"] * last % 101 + 1)
    met, checked = now(), run(said["check"])
    for name in os.listdir(folder):
        if name.startswith(".tfstrip-"):
            os.utime(os.path.join(folder, name), (0, 0))
    after = run(said["last"])
    left = [name for name in os.listdir(folder) if name.startswith(".tfstrip-")]
    print(json.dumps([ended, killed, met, now(), checked, after, left]))
    last += said["step"]
"""


def copied(checkpoint: Checkpoint, folder: Path) -> str:
    """Copy the checkpoint with its state file into a new folder; return its prefix there."""
    folder.mkdir()
    for file in checkpoint.files:
        shutil.copy(file, folder)
    return f"{folder}/{os.path.basename(checkpoint.prefix)}"


def named(prefix: str) -> str:
    """Return the prefix as a user writes it."""
    return prefix if os.path.basename(prefix) else f"{prefix}.index"


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


def both(checkpoint: Checkpoint, tmp_path: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Return the files of the checkpoint and its state file, as they are and stripped."""
    prefix = copied(checkpoint, tmp_path / "whole")
    old = content(tmp_path / "whole")
    tfstrip_core.strip(named(prefix), in_place=True)
    new = content(tmp_path / "whole")
    assert old != new
    return old, new


def model(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name: data for name, data in files.items() if name != STATE}


@every_kind
@pytest.mark.parametrize(
    ("signal", "again", "last", "step"),
    [(9, 0, "same", 6), (9, 0, "other", 19), (9, 7, "same", 19), (15, 0, "same", 13)],
    ids=["killed", "killed-other", "killed-twice", "terminated"],
)
def test_at_any_line_it_is_whole_or_known_to_be_unfinished(checkpoint, signal, again, last, step, tmp_path) -> None:
    """No check judges a mixture, and the next run, of this or of another model there, makes it whole and tidies up."""
    step = int(os.environ.get("TFSTRIP_CRASH_STEP", step))  # 1 meets every line, which takes a quarter of an hour
    old, new = both(checkpoint, tmp_path)
    source, folder = tmp_path / "source", tmp_path / "folder"
    prefix = copied(checkpoint, source).replace(str(source), str(folder))
    shutil.copy(OTHER.path, source / "other.keras")
    folder.mkdir()
    first, then = (["strip", "--in-place", path] for path in (prefix, str(folder / "other.keras")))
    words = {
        "source": str(source), "folder": str(folder), "signal": signal, "again": again, "step": step, "first": first,
        "check": ["check", prefix], "last": first if last == "same" else then,
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", KILLED], input=json.dumps(words), env=os.environ | {"PYTHONPATH": ROOT},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    outcomes = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) > 10
    met_mixture = 0
    for ended, *listed, (code, said), (last_code, last_said), left in outcomes:
        killed, met, after = ({name: bytes.fromhex(data) for name, data in files.items()} for files in listed)
        assert ended in (0, {9: -9, 15: 143}[signal])
        mixed = model(met) not in (model(old), model(new))
        met_mixture += mixed
        if signal == 15:
            assert model(killed) in (model(old), model(new))
        if mixed or code == 2:
            assert code == 2, said
            assert "interrupted strip" in said
            assert len(said.splitlines()) == 2, said  # the sentence, and the sum
        assert last_code == 0, last_said
        assert left == []
        if last == "same":
            assert after == new
        else:
            assert model(after) in (model(old), model(new))
            assert mixed <= (model(after) == model(new))
            assert after.get(STATE) in (old.get(STATE), new.get(STATE))
    assert not met_mixture if signal == 15 else met_mixture or step > 2  # the moments between were met
    assert model({name: bytes.fromhex(data) for name, data in outcomes[0][1].items()}) == model(old)


def half(folder: Path, base: str, old: dict[str, bytes], new: dict[str, bytes], moved: int) -> Path:
    """Make the folder as a run leaves it that is killed after so many renames; return its workshop."""
    folder.mkdir(exist_ok=True)
    shop = folder / SHOP
    shop.mkdir()
    for name, data in old.items():
        (folder / name).write_bytes(data)
    endings = sorted((name.removeprefix(base) for name in model(new)), key=lambda ending: ending != ".index")
    for ending in endings:
        (shop / f"result{ending}").write_bytes(new[base + ending])
    gone = [name.removeprefix(base) for name in model(old) if name not in new]
    journal.commit(str(shop), base, endings, gone)
    for ending in endings[:moved]:
        os.replace(shop / f"result{ending}", folder / (base + ending))
    return shop


@pytest.fixture(params=[SHARDED, NAMED, EMPTY], ids=["shards", "meta", "empty"])
def halves(request, tmp_path: Path):
    """A checkpoint half of whose files are the new ones: the folder, its prefix, and the two sets of files."""
    old, new = both(request.param, tmp_path)
    base = os.path.basename(request.param.prefix)
    half(tmp_path / "work", base, old, new, 1)
    return tmp_path / "work", f"{tmp_path}/work/{base}", old, new


@pytest.mark.parametrize("words", [["check"], ["inspect"], ["check", "--json"], ["inspect", "--json"]], ids=" ".join)
def test_a_half_replaced_checkpoint_is_unreadable_in_one_sentence(words: list[str], halves, capsys) -> None:
    """Its index and its data do not belong together, though sizes may fit: nothing must be said about what it holds."""
    folder, prefix, _, _ = halves
    before = content(folder)
    for path in (named(prefix), f"{prefix}.index", str(folder)):
        code, out, err = run(capsys, *words, path)
        assert code == 2
        if "--json" in words:
            (found,) = json.loads(out)["models"]
            assert (found["path"], found["verdict"], found["format"]) == (named(prefix), "unreadable", "checkpoint")
            err = found["message"] if words[0] == "inspect" else err
        assert "an interrupted strip left it half replaced; run tfstrip strip --in-place on it again" in err
        assert len(err.splitlines()) == 1
    assert hook.main(["check", f"{prefix}.index"]) == 2
    assert hook.main(["fix", f"{prefix}.index"]) == 2
    assert run(capsys, "verify", named(prefix), named(prefix))[0] == 2
    assert content(folder) == before


@pytest.mark.parametrize("way", ["in-place", "out", "api", "state-elsewhere"])
def test_the_next_strip_completes_it(way: str, halves, tmp_path: Path, capsys) -> None:
    """The way out that the sentence names is one: whichever door is used, the new checkpoint is whole afterwards."""
    folder, prefix, _, new = halves
    path = named(prefix)
    if way == "api":
        tfstrip_core.strip(path, in_place=True)
    elif way == "out":
        assert run(capsys, "strip", path, "-o", str(tmp_path / "out"))[0] == 0
    elif way == "in-place":
        code, out, err = run(capsys, "strip", "--in-place", path)
        assert (code, err) == (0, "")
        assert "nothing to remove" in out
    else:
        (tmp_path / STATE).write_text(f'model_checkpoint_path: "work/{os.path.basename(prefix)}"\n')
        assert run(capsys, "strip", "--in-place", str(tmp_path / STATE))[0] == 0
    assert content(folder) == new
    assert not (folder / SHOP).exists()
    assert judge(capsys, path)[1]["verdict"] == "clean"


def test_neighbours_of_a_half_replaced_checkpoint_are_judged(tmp_path: Path, capsys) -> None:
    """Else one interrupted strip stops every check in the folder; x, x.ckpt and x.ckpt-100 are three checkpoints."""
    folder = tmp_path / "work"
    for number in range(3):
        neighbour = one("tf2.15", "prefix_neighbours", number)
        old, new = both(neighbour, tmp_path)
        shutil.rmtree(tmp_path / "whole")
        if os.path.basename(neighbour.prefix) == "x.ckpt":
            half(folder, "x.ckpt", old, new, 1)
        else:
            folder.mkdir(exist_ok=True)
            for name, data in old.items():
                (folder / name).write_bytes(data)
    verdicts = [judge(capsys, str(folder / name))[1]["verdict"] for name in ("x", "x.ckpt", "x.ckpt-100")]
    assert verdicts == ["residue", "unreadable", "residue"]
    assert run(capsys, "strip", "--in-place", str(folder / "x"))[0] == 0
    verdicts = [judge(capsys, str(folder / name))[1]["verdict"] for name in ("x", "x.ckpt", "x.ckpt-100")]
    assert verdicts == ["clean", "clean", "residue"]


def saved_again(folder: Path, files: dict[str, bytes]) -> None:
    """Put all the files there by rename, as TensorFlow does."""
    for path in folder.iterdir():
        if path.is_file():
            path.unlink()
    for name, data in files.items():
        (folder / "draft").write_bytes(data)
        os.replace(folder / "draft", folder / name)


def restored(folder: Path, files: dict[str, bytes]) -> None:
    """Bring back what differs, as git does: what does not is not touched."""
    now = content(folder)
    for name, data in files.items():
        if now.get(name) != data:
            (folder / name).unlink(missing_ok=True)
            (folder / name).write_bytes(data)


@pytest.mark.parametrize("moved", [0, 1, 9])
@pytest.mark.parametrize("change", [saved_again, restored], ids=["saved", "restored"])
@pytest.mark.parametrize("checkpoint", [SHARDED, NAMED], ids=["shards", "meta"])
def test_what_was_saved_since_is_never_overwritten(checkpoint, change, moved: int, tmp_path: Path, capsys) -> None:
    """After the crash training went on under the same name, or git brought the old one back: that is the model now."""
    old, new = both(checkpoint, tmp_path)
    folder, base = tmp_path / "work", os.path.basename(checkpoint.prefix)
    half(folder, base, old, new, moved)
    change(folder, old)
    shutil.copy(OTHER.path, folder / "other.keras")
    if change is saved_again or moved:
        assert judge(capsys, str(folder / base))[1]["verdict"] == "residue"
        assert run(capsys, "strip", "--in-place", str(folder / "other.keras"))[0] == 0
        assert {name: data for name, data in content(folder).items() if name in old} == old
        assert not (folder / SHOP).exists()
    assert run(capsys, "strip", "--in-place", str(folder / base))[0] == 0
    (folder / "other.keras").unlink()
    assert {name: data for name, data in content(folder).items() if name in new} == new
    assert not (folder / SHOP).exists()


def test_removing_it_after_a_crash_is_final(tmp_path: Path, capsys) -> None:
    """Else a checkpoint that the user has thrown away comes back with the next strip."""
    old, new = both(SHARDED, tmp_path)
    half(tmp_path / "work", "model.ckpt", old, new, 0)
    for path in (tmp_path / "work").glob("model.ckpt*"):
        path.unlink()
    other = shutil.copy(OTHER.path, tmp_path / "work" / "other.keras")
    assert run(capsys, "strip", "--in-place", str(other))[0] == 0
    assert sorted(os.listdir(tmp_path / "work")) == [STATE, "other.keras"]


FOREIGN = {
    "other_inode": {"inode": 1},
    "inode_true": {"inode": True},
    "slash": {"base": b"../victim".hex()},
    "absolute": {"base": b"/tmp/victim".hex()},
    "inside": {"base": b"folder/victim".hex()},
    "nul": {"base": b"vic\0tim".hex()},
    "no_hex": {"base": "victim"},
    "no_text": {"base": 5},
    "source_file": {"removes": {".py": None}},
    "no_ending": {"moves": {"": [None, None]}},
    "climbing": {"moves": {".index/../../victim.index": [None, None]}},
    "newline": {"removes": {".index\n": None}},
    "longer": {"removes": {".data-00000-of-00001.bak": None}},
    "list": {"removes": [".index"]},
    "numbers": {"moves": {".index": 5}},
    "text": {"moves": ".index"},
    "other_prefix": {"base": b"victim".hex()},
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_journal_that_is_not_ours_is_not_obeyed(name: str, tmp_path: Path, capsys) -> None:
    """A clone, an archive or somebody hostile brings a journal: no file of the user's is moved, replaced or removed."""
    old, new = both(SHARDED, tmp_path)
    folder = tmp_path / "work"
    shop = half(folder, "model.ckpt", old, new, 0)
    (folder / "folder").mkdir()
    for place in (tmp_path, folder, folder / "folder"):
        for ending in ("", ".py", ".index", ".data-00000-of-00001", ".data-00000-of-00001.bak"):
            (place / f"victim{ending}").write_bytes(b"precious")
    said = json.loads((shop / journal.NAME).read_text())
    (shop / journal.NAME).write_text(json.dumps(said | FOREIGN[name]))
    os.utime(shop, (0, 0))
    other = shutil.copy(OTHER.path, folder / "other.keras")
    before = {place: content(place) for place in (tmp_path, folder, folder / "folder")}
    assert judge(capsys, str(folder / "model.ckpt"))[1]["verdict"] == "residue"
    assert run(capsys, "strip", "--in-place", str(other))[0] == 0
    before[folder]["other.keras"] = Path(other).read_bytes()
    assert {place: content(place) for place in before} == before
    assert run(capsys, "strip", "--in-place", str(folder / "model.ckpt"))[0] == 0
    assert judge(capsys, str(folder / "model.ckpt"))[1]["verdict"] == "clean"


NO_JOURNALS = {
    "empty": b"", "no_json": b"{", "not_ascii": b'{"base": "\xff"}', "list": b"[]", "number": b"1", "null": b"null",
    "deep": b"[" * 500_000, "huge": b"1" * 100_000, "no_keys": b"{}", "nan": b'{"inode": NaN}',
}  # fmt: skip


@pytest.mark.parametrize("name", [*NO_JOURNALS, "fifo", "folder", "link", "dangling"])
def test_what_is_no_journal_is_passed_over(name: str, tmp_path: Path, capsys) -> None:
    """Whatever lies there under that name is no traceback, nothing to wait for, and not in the way."""
    prefix = copied(SHARDED, tmp_path / "work")
    shop = tmp_path / "work" / SHOP
    shop.mkdir()
    if name == "fifo":
        os.mkfifo(shop / journal.NAME)
    elif name == "folder":
        (shop / journal.NAME).mkdir()
    elif name in ("link", "dangling"):
        (shop / journal.NAME).symlink_to("/dev/zero" if name == "link" else "nowhere")
    else:
        (shop / journal.NAME).write_bytes(NO_JOURNALS[name])
    assert judge(capsys, prefix)[1]["verdict"] == "residue"
    assert run(capsys, "strip", "--in-place", prefix)[0] == 0
    assert judge(capsys, prefix)[1]["verdict"] == "clean"


def test_a_copy_of_a_workshop_is_not_obeyed(tmp_path: Path, capsys) -> None:
    """The folder went to another disk, or into a commit: the journal in it is about files that are not these."""
    old, new = both(SHARDED, tmp_path)
    half(tmp_path / "work", "model.ckpt", old, new, 0)
    shutil.copytree(tmp_path / "work", tmp_path / "clone")
    before = content(tmp_path / "clone")
    other = shutil.copy(OTHER.path, tmp_path / "clone" / "other.keras")
    assert run(capsys, "strip", "--in-place", str(other))[0] == 0
    os.remove(other)
    assert content(tmp_path / "clone") == before
    assert judge(capsys, str(tmp_path / "clone" / "model.ckpt"))[1]["verdict"] == "residue"


@every_kind
def test_several_runs_at_once_leave_one_whole_checkpoint(checkpoint, tmp_path: Path) -> None:
    """An editor and a terminal: one of them strips, the others find it done, or say in one sentence why not."""
    _, new = both(checkpoint, tmp_path)
    code = "import sys; from tfstrip_core.cli import main; sys.stdin.read(); sys.exit(main(sys.argv[1:]))"
    for number in range(2):
        folder = tmp_path / str(number)
        words = [sys.executable, "-c", code, "strip", "--in-place", copied(checkpoint, folder)]
        runs = [
            subprocess.Popen(
                words, env=os.environ | {"PYTHONPATH": ROOT}, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.PIPE, text=True,
            )
            for _ in range(3)
        ]  # fmt: skip
        for started in runs:
            started.stdin.close()
        for started in runs:
            said = started.stderr.read()
            assert started.wait(60) in (0, 2), said
            assert len(said.splitlines()) <= 1 + (started.returncode == 0), said
            started.stdout.close()
            started.stderr.close()
        assert 0 in {started.returncode for started in runs}
        assert content(folder) == new
        assert not [name for name in os.listdir(folder) if name.startswith(".")]


@every_kind
@pytest.mark.parametrize("way", ["in-place", "out"])
def test_a_write_that_fails_anywhere_leaves_nothing(checkpoint, way: str, tmp_path: Path, capsys) -> None:
    """A limit on file sizes stops the writing of any of the files, as a full disk or a quota does."""
    old, new = both(checkpoint, tmp_path)
    largest = max(map(len, new.values()))
    for limit in [0, 1, 50, *range(100, largest, max(largest // 15, 40)), largest - 1, largest + 4096]:
        folder = tmp_path / str(limit)
        prefix = copied(checkpoint, folder)
        words = ["--in-place"] if way == "in-place" else ["-o", str(folder / "out")]
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            code, out, err = run(capsys, "strip", prefix, *words)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert not [name for name in os.listdir(folder) if name.startswith(".")]
        if limit >= largest + 4096:
            assert code == 0, err
        if code == 0:
            assert content(folder) == (new if way == "in-place" else content(folder) | old)
        else:
            assert (code, out) == (2, "")
            assert_one_sentence(err, prefix)
            assert "its result cannot be written" in err
            assert content(folder) == old


def test_an_error_between_the_renames_is_made_good(tmp_path: Path, capsys, monkeypatch) -> None:
    """A rename that fails once: the run itself finishes what its journal says before it tidies up."""
    prefix = copied(SHARDED, tmp_path / "work")
    _, new = both(SHARDED, tmp_path)
    calls = []

    def failing(source: str, target: str) -> None:
        calls.append(target)
        if len(calls) == 2:
            raise OSError(5, "Input/output error")
        os.rename(source, target)

    monkeypatch.setattr(journal.os, "replace", failing)
    code, _, err = run(capsys, "strip", "--in-place", prefix)
    assert code == 2
    assert_one_sentence(err, prefix)
    assert content(tmp_path / "work") == new
    assert not [name for name in os.listdir(tmp_path / "work") if name.startswith(".")]


def test_an_error_that_stays_leaves_the_journal_for_a_later_run(tmp_path: Path, capsys, monkeypatch) -> None:
    """A rename that is not allowed: the half that is done is known as such, and nothing is lost."""
    prefix = copied(SHARDED, tmp_path / "work")
    _, new = both(SHARDED, tmp_path)

    def failing(source: str, target: str) -> None:
        if target.endswith(".index"):
            raise PermissionError(1, "Operation not permitted")
        os.rename(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(journal.os, "replace", failing)
        for _ in range(2):
            code, out, err = run(capsys, "strip", "--in-place", prefix)
            assert (code, out) == (2, "")
            assert_one_sentence(err, prefix)
            code, found = judge(capsys, prefix)
            assert (code, found["verdict"]) == (2, "unreadable")
            assert "interrupted strip" in found["message"]
    assert run(capsys, "strip", "--in-place", prefix)[0] == 0
    assert content(tmp_path / "work") == new
    assert not [name for name in os.listdir(tmp_path / "work") if name.startswith(".")]


def test_a_checkpoint_of_very_many_shards_fits_its_journal(tmp_path: Path) -> None:
    """Else the journal is too long to be read again, and nothing is moved while the run says that it was."""
    shop = tmp_path / SHOP
    shop.mkdir()
    gone = [f".data-{number:05d}-of-120000" for number in range(0, 120_000, 8)]
    for ending in gone:
        (tmp_path / f"m{ending}").touch()
    for ending in (".index", ".data-00000-of-00001"):
        (shop / f"result{ending}").write_bytes(b"new")
    replace.put(str(shop / "result"), str(tmp_path / "m"), [".index", ".data-00000-of-00001"], gone)
    assert content(tmp_path) == {"m.index": b"new", "m.data-00000-of-00001": b"new"}


def test_modes_and_owners_are_kept_file_by_file(tmp_path: Path, capsys) -> None:
    """A private data file stays private, also where two of them become one, and so does whose it is."""
    prefix = copied(SHARDED, tmp_path / "work")
    root = os.geteuid() == 0
    for ending, mode, owner in ((".index", 0o644, 1234), (".data-00000-of-00002", 0o600, 65534)):
        os.chmod(prefix + ending, mode)
        if root:
            os.chown(prefix + ending, owner, owner)
    assert run(capsys, "strip", "--in-place", prefix)[0] == 0
    for ending, mode, owner in ((".index", 0o644, 1234), (".data-00000-of-00001", 0o600, 65534)):
        status = os.stat(prefix + ending)
        assert stat.S_IMODE(status.st_mode) == mode
        assert not root or (status.st_uid, status.st_gid) == (owner, owner)


@pytest.mark.parametrize("mode", [0o400, 0o640, 0o755], ids=oct)
def test_every_file_and_the_state_file_keep_their_modes(mode: int, tmp_path: Path, capsys) -> None:
    """Read-only ones included; new files elsewhere have the umask's mode."""
    for checkpoint in (NAMED, STATED):
        prefix = copied(checkpoint, tmp_path / checkpoint.scenario)
        folder = tmp_path / checkpoint.scenario
        for path in folder.iterdir():
            path.chmod(mode)
        assert run(capsys, "strip", prefix, "-o", str(tmp_path / f"{checkpoint.scenario}-out"))[0] == 0
        assert run(capsys, "strip", "--in-place", prefix)[0] == 0
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {mode}
        mask = os.umask(0)
        os.umask(mask)
        made = list(tmp_path.glob(f"{checkpoint.scenario}-out*"))
        assert {stat.S_IMODE(path.stat().st_mode) for path in made} == {0o666 & ~mask}


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001", ".meta"])
def test_a_symlink_among_the_files_is_refused_in_place(ending: str, tmp_path: Path, capsys) -> None:
    """One data file in a store that others share is enough: neither the link nor the store changes."""
    prefix = copied(NAMED, tmp_path / "work")
    os.replace(prefix + ending, tmp_path / "store")
    os.symlink(tmp_path / "store", prefix + ending)
    before = content(tmp_path / "work")
    code, out, err = run(capsys, "strip", "--in-place", prefix)
    assert (code, out) == (2, "")
    assert_one_sentence(err, prefix)
    assert "symlink" in err
    assert os.path.islink(prefix + ending)
    assert content(tmp_path / "work") == before
    assert run(capsys, "strip", prefix, "-o", str(tmp_path / "out"))[0] == 0
    assert judge(capsys, str(tmp_path / "out"))[1]["verdict"] == "clean"


def grown(path: str) -> None:
    with open(path, "ab") as file:
        file.write(b"more")


def written_anew(path: str) -> None:
    shutil.copy2(path, f"{path}.new")
    os.replace(f"{path}.new", path)


def linked(path: str) -> None:
    os.replace(path, f"{path}.store")
    os.symlink(f"{path}.store", path)


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00002", ".data-00001-of-00002"])
@pytest.mark.parametrize("change", [grown, written_anew, linked, os.remove], ids=lambda change: change.__name__)
@pytest.mark.parametrize("moment", ["written", "proven"])
def test_a_file_that_changes_meanwhile_stops_it(
    moment: str, change, ending: str, tmp_path, capsys, monkeypatch
) -> None:
    """Training saves again while the strip is under way: nothing of that is replaced or removed."""
    prefix = copied(SHARDED, tmp_path / "work")
    place, name = (container, "rewrite") if moment == "written" else (replace, "put_in_place")
    original, after = getattr(place, name), []

    def changing(*words, **more):
        notes = original(*words, **more) if moment == "written" else None
        change(prefix + ending)
        after.append(content(tmp_path / "work"))
        return notes if moment == "written" else original(*words, **more)

    monkeypatch.setattr(place, name, changing)
    code, out, err = run(capsys, "strip", "--in-place", prefix)
    assert (code, out) == (2, "")
    assert_one_sentence(err, prefix)
    assert content(tmp_path / "work") == after[0]
    assert not [name for name in os.listdir(tmp_path / "work") if name.startswith(".")]
