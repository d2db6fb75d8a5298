"""The command and the hook as processes: terminals, closed pipes, full devices, signals."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import one

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DIRTY = one("keras3.8.0", "sequential.keras")
DIRTY_H5 = one("keras3.8.0", "sequential.h5")

COMMAND, HOOK = "tfstrip_core", "tfstrip_core.hook"
CALLS = {
    "inspect": ([COMMAND, "inspect", "m.keras"], 0),
    "check": ([COMMAND, "check", "m.keras"], 1),
    "check-json": ([COMMAND, "check", "--json", "m.keras"], 1),
    "strip": ([COMMAND, "strip", "m.keras", "-o", "out.keras"], 0),
    "verify": ([COMMAND, "verify", "m.keras", "m.keras"], 0),
    "hook-check": ([HOOK, "check", "m.keras"], 1),
    "hook-fix": ([HOOK, "fix", "m.keras"], 1),
}


def calls(*names: str):
    """Parametrize over these calls: words, and the exit code that they have when nothing is wrong."""
    return pytest.mark.parametrize(("words", "usual"), [CALLS[name] for name in names], ids=names)


buffering = pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])


def child(words: list[str], folder: Path, environment: dict[str, str] | None = None, **streams):
    """Run Python in a process of its own, in that folder, its streams and locale as the test says, not as ours."""
    kept = ("PYTHONPATH", "PYTHONDONTWRITEBYTECODE")
    inherited = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("PYTHON", "LC_", "LANG"))
    }
    env = inherited | {"PYTHONPATH": os.pathsep.join([ROOT, os.environ.get("PYTHONPATH", "")])} | (environment or {})
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run([sys.executable, *words], env=env, cwd=folder, check=False, **streams)


@pytest.mark.parametrize("words", [["check"], ["strip", "--in-place"]], ids=" ".join)
@pytest.mark.parametrize(
    "environment",
    [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"PYTHONIOENCODING": "ascii"}],
    ids=["C", "C-strict", "ascii"],
)
def test_any_locale_shows_any_name(words: list[str], environment: dict[str, str], copy, tmp_path: Path) -> None:
    """Build machines run with LANG=C: names beyond ASCII are shown in some form, and nothing fails over them."""
    copy(DIRTY, "é-日本.keras")
    done = child(["-m", COMMAND, *words, "é-日本.keras"], tmp_path, environment)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == (1 if words == ["check"] else 0)
    assert b".keras: " in done.stdout


@pytest.mark.parametrize("command", ["check", "fix"])
def test_names_that_the_terminal_cannot_show_do_not_stop_the_hook(command: str, copy, tmp_path: Path) -> None:
    """In an ASCII terminal a Japanese name is shown escaped; a traceback would also leave the next files unfixed."""
    copy(DIRTY, "日本.keras")
    copy(DIRTY, "z.keras")
    done = child(["-m", HOOK, command, "日本.keras", "z.keras"], tmp_path, {"PYTHONIOENCODING": "ascii"})
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == 1
    assert rb"\u65e5\u672c.keras: " in done.stdout
    assert b"z.keras: " in done.stdout


def assert_not_written(done: subprocess.CompletedProcess[bytes], folder: Path) -> None:
    """Assert exit code 2, none of Python's complaints, and no temporary copy."""
    for complaint in (b"Traceback", b"Exception ignored", b"BrokenPipeError"):
        assert complaint not in done.stderr, done.stderr.decode()
    assert done.returncode == 2
    assert not [name for name in os.listdir(folder) if name.startswith(".tfstrip")]


@buffering
@calls("check-json", "strip", "hook-fix")
def test_a_reader_that_went_away_is_no_crash(
    words: list[str], usual: int, unbuffered: str, copy, tmp_path: Path
) -> None:
    """`tfstrip inspect m.keras | head -1` ends with exit code 2 and without Python's complaints."""
    copy(DIRTY, "m.keras")
    reader, writer = os.pipe()
    os.close(reader)
    done = child(["-m", *words], tmp_path, {"PYTHONUNBUFFERED": unbuffered}, stdout=writer)
    os.close(writer)
    assert_not_written(done, tmp_path)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@buffering
@calls("check", "hook-check")
def test_output_that_cannot_be_written_is_one_sentence(
    words: list[str], usual: int, unbuffered: str, copy, tmp_path: Path
) -> None:
    """A log on a full disk: exit code 2 and the reason, no traceback."""
    copy(DIRTY, "m.keras")
    with open("/dev/full", "wb") as full:
        done = child(["-m", *words], tmp_path, {"PYTHONUNBUFFERED": unbuffered}, stdout=full)
    assert_not_written(done, tmp_path)
    assert b"No space left" in done.stderr


def closed(*numbers: int):
    """Return a function for preexec_fn that closes these standard streams, as `2>&-` in a shell does."""

    def close() -> None:
        for number in numbers:
            os.close(number)

    return close


def test_closed_standard_error_keeps_the_document_clean(copy, tmp_path: Path) -> None:
    """With `2>&-` the sentences are lost; they must not land in the JSON on stdout."""
    copy(DIRTY, "m.keras")
    words = ["-m", COMMAND, "check", "--json", "absent.keras", "m.keras"]
    done = child(words, tmp_path, preexec_fn=closed(2), stderr=None)
    assert done.returncode == 2
    assert [model["path"] for model in json.loads(done.stdout)["models"]] == ["absent.keras", "m.keras"]


@calls("check", "strip", "verify", "hook-fix")
def test_closed_standard_output_keeps_the_exit_code(words: list[str], usual: int, copy, tmp_path: Path) -> None:
    """With `>&-` nobody wants the text: the exit code still tells."""
    copy(DIRTY, "m.keras")
    done = child(["-m", *words], tmp_path, preexec_fn=closed(1), stdout=None)
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert done.returncode == usual


INTERRUPTED = """
import importlib, os, signal, sys

module, name, when, signal_name, entry, *words = sys.argv[1:]
signal.signal(signal.SIGINT, signal.default_int_handler)  # whatever started the tests may ignore it
owner = importlib.import_module(module)
original = getattr(owner, name)

def interrupted(*args, **more):
    if when == "before":
        os.kill(os.getpid(), getattr(signal, signal_name))
    result = original(*args, **more)
    os.kill(os.getpid(), getattr(signal, signal_name))
    return result

setattr(owner, name, interrupted)
sys.exit(importlib.import_module(f"tfstrip_core.{entry}").main(words))
"""

# A second request comes while what the first one left is being removed.
TWICE = """
import os, shutil, signal, sys
from tfstrip_core import cli, replace

remove = shutil.rmtree

def interrupted(*args, **more):
    os.kill(os.getpid(), signal.SIGTERM)
    remove(*args, **more)

shutil.rmtree = interrupted
flush = replace.flush
replace.flush = lambda file: (os.kill(os.getpid(), signal.SIGTERM), flush(file))
sys.exit(cli.main(sys.argv[1:]))
"""

MOMENTS = {
    "first-read": ("tfstrip_core.codecs.zip", "members", "before"),
    "weights-written": ("tfstrip_core.containers.keras.hdf5_parts", "rewrite", "after"),
    "archive-written": ("tfstrip_core.codecs.zip", "write", "after"),
    "proof": ("tfstrip_core.verbs.strip", "compare", "before"),
    "sync": ("os", "fsync", "before"),
    "rename": ("os", "replace", "before"),
}
CLI = ["cli", "strip", "m.keras"]


@pytest.mark.parametrize(
    ("words", "moment"),
    [
        *(pytest.param([*CLI, "--in-place"], moment, id=f"in-place-{moment}") for moment in MOMENTS),
        *(pytest.param([*CLI, "-o", "o"], moment, id=f"strip-{moment}") for moment in ("weights-written", "rename")),
        *(pytest.param(["hook", "fix", "m.keras"], moment, id=f"hook-{moment}") for moment in ("first-read", "sync")),
    ],
)
def test_a_terminated_strip_leaves_nothing(words: list[str], moment: str, copy, tmp_path: Path) -> None:
    """A cancelled job (SIGTERM) at any moment before the rename: the old model, no output, no temporary copy."""
    path = Path(copy(DIRTY, "m.keras"))
    before = path.read_bytes()
    done = child(["-c", INTERRUPTED, *MOMENTS[moment], "SIGTERM", *words], tmp_path)
    assert done.returncode in (-signal.SIGTERM, 128 + signal.SIGTERM), done.stderr.decode()
    assert b"Traceback" not in done.stderr
    assert os.listdir(tmp_path) == ["m.keras"]
    assert path.read_bytes() == before


def test_a_strip_that_is_terminated_twice_leaves_nothing(copy, tmp_path: Path) -> None:
    """Whoever is told to stop is often told again at once: what the first time began is finished."""
    path = Path(copy(DIRTY, "m.keras"))
    before = path.read_bytes()
    done = child(["-c", TWICE, "strip", "m.keras", "--in-place"], tmp_path)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr.decode()
    assert os.listdir(tmp_path) == ["m.keras"]
    assert path.read_bytes() == before


@pytest.mark.parametrize("words", [[*CLI, "--in-place"], ["hook", "fix", "m.keras"]], ids=["in-place", "hook"])
def test_an_interrupted_strip_leaves_nothing(words: list[str], copy, tmp_path: Path) -> None:
    """Ctrl-C in the middle of a strip likewise, and without a traceback."""
    path = Path(copy(DIRTY, "m.keras"))
    before = path.read_bytes()
    done = child(["-c", INTERRUPTED, *MOMENTS["archive-written"], "SIGINT", *words], tmp_path)
    assert done.returncode in (-signal.SIGINT, 128 + signal.SIGINT), done.stderr.decode()
    assert b"Traceback" not in done.stderr, done.stderr.decode()
    assert os.listdir(tmp_path) == ["m.keras"]
    assert path.read_bytes() == before


def test_a_terminated_strip_of_a_legacy_file_leaves_nothing(copy, tmp_path: Path) -> None:
    """HDF5's own open files do not keep the temporary copy alive."""
    path = Path(copy(DIRTY_H5, "m.keras"))
    before = path.read_bytes()
    done = child(["-c", INTERRUPTED, *MOMENTS["weights-written"], "SIGTERM", *CLI, "--in-place"], tmp_path)
    assert done.returncode == 128 + signal.SIGTERM, done.stderr.decode()
    assert os.listdir(tmp_path) == ["m.keras"]
    assert path.read_bytes() == before
