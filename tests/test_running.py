"""A process of its own for what runs a model: what it learns, what it may use, and that nothing of it is left.

No TensorFlow: the tasks are a few lines of Python, put in place of what loads a model.
"""

import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tfstrip_core.errors import CannotRun, UsageError
from tfstrip_core.inventory import Call
from tfstrip_core.running import child, inputs, replies, values
from tfstrip_core.running.child import Limits, ask, room
from tfstrip_core.running.inputs import Misfit, Want
from tfstrip_core.running.replies import Ran
from tfstrip_core.verbs import outputs
from tfstrip_core.verbs.output_values import judged

ROOT = Path(__file__).parents[1]
INSTALL = """
import types
module = sys.modules["tfstrip_core.running.models"] = types.ModuleType("tfstrip_core.running.models")
exec({source!r}, module.__dict__)
"""
SECRETS = (
    "GITHUB_TOKEN",
    "INPUT_TOKEN",
    "ACTIONS_RUNTIME_TOKEN",
    "GITHUB_OUTPUT",
    "AWS_SECRET_ACCESS_KEY",
    "PYTHONPATH",
)
linux = pytest.mark.skipif(sys.platform != "linux", reason="what a process may use is Linux's to limit")


def start(source: str) -> str:
    """Return the first lines of a process in which this source stands for what loads a model."""
    first, last = child._START.rstrip().rsplit("\n", 1)
    return first + INSTALL.format(source=source) + last + "\n"


@pytest.fixture
def task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs lines of Python as `answer(request)`, in a folder of its own."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)

    def run(body: str, limits: Limits | None = None, **request: Any) -> dict[str, Any]:
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        monkeypatch.setattr(child, "_START", start(f"import os, sys, json, time\ndef answer(request):\n{lines}\n"))
        try:
            with room() as folder:
                return ask("models", request, folder, limits)
        finally:
            assert list(tmp_path.iterdir()) == []  # nothing left in TMPDIR

    return run


def test_the_answer_comes_back(task) -> None:
    """What is asked reaches the process, and what it gives comes back."""
    assert task("return {'twice': request['n'] * 2}", n=21) == {"twice": 42}


def test_no_secret_is_in_its_environment(task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the surroundings only what a framework needs is there: no token, no input of the Action, no file command."""
    for name in SECRETS:
        monkeypatch.setenv(name, "=-secret-=")
    found = task(
        "return {'env': dict(os.environ), 'argv': sys.argv, 'home': os.path.expanduser('~'), 'path': sys.path}"
    )
    assert set(found["env"]) <= {*child._KEPT, *child._SET, "HOME", "TMPDIR", "LC_CTYPE"}
    assert "=-secret-=" not in json.dumps(found)
    assert found["env"]["HOME"] == found["env"]["TMPDIR"] == found["home"]
    alone = [sys.executable, "-I", "-c", "import json, sys; print(json.dumps(sys.path))"]
    assert set(found["path"]) <= set(json.loads(subprocess.run(alone, capture_output=True, check=True).stdout))


def test_it_hears_nothing_and_says_nothing(task, capfd) -> None:
    """Its input is empty and what it prints stays in its log, or models could write to a workflow's commands."""
    source = "print('::add-mask::x'); os.write(2, b'noise')\nreturn {'in': sys.stdin.read()}"
    assert task(source) == {"in": ""}
    assert capfd.readouterr() == ("", "")


def test_it_is_ended_when_its_time_is_over(task) -> None:
    """A model that never ends does not keep the command, and what it started ends with it."""
    begun = time.monotonic()
    body = "import subprocess\nsubprocess.Popen(['sleep', '987'])\ntime.sleep(60)"
    with pytest.raises(CannotRun, match="longer than 1 seconds"):
        task(body, Limits(seconds=1))
    assert time.monotonic() - begun < 20
    assert b"987" not in subprocess.run(["ps", "-eo", "args"], capture_output=True, check=True).stdout.split()


@linux
def test_it_has_no_more_memory_than_it_may(task) -> None:
    """A model that asks for all memory is told no, and the machine lives."""
    with pytest.raises(CannotRun, match="more memory than it may"):
        task("bytearray(1 << 32)", Limits(memory=1 << 30))


@linux
def test_it_writes_no_more_than_it_may(task) -> None:
    """A model that gives without end does not fill the disk."""
    with pytest.raises(CannotRun, match="File too large"):
        task("open('values', 'wb').write(bytes(1 << 24))", Limits(file=1 << 20))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("os.kill(os.getpid(), 11)", "ended by SIGSEGV"),
        ("print('the last word'); sys.stdout.flush(); os._exit(7)", "ended with code 7: the last word"),
        ("raise ValueError('one\\ntwo')", "ValueError: one;"),
        ("return 7", "gave no answer"),
        ("open('reply.json', 'w').write('{'); os._exit(0)", "ended with code 0"),
        ("open('reply.json', 'w').write('[1]'); os._exit(0)", "ended with code 0"),
        ("open('reply.json', 'w').write('[' * 9999); os._exit(0)", "ended with code 0"),
        ("open('reply.json', 'w').write('{\"a\": 1, \"a\": 2}'); os._exit(0)", "ended with code 0"),
        ("f = open('reply.json', 'w'); f.truncate(1 << 30); os._exit(0)", "ended with code 0"),
        ("os.symlink('/etc/passwd', 'reply.json'); os._exit(0)", "ended with code 0"),
        ("os.mkdir('reply.json'); os._exit(0)", "ended with code 0"),
        ("os.mkfifo('reply.json'); os._exit(0)", "ended with code 0"),
        ("os.unlink('log'); os.mkfifo('log'); os._exit(0)", "ended with code 0"),
    ],
)  # fmt: skip
def test_whatever_it_does_is_one_sentence(body: str, words: str, task) -> None:
    """A crash, garbage, a huge or a false reply: each is a cause that is told, never a traceback or a hang."""
    with pytest.raises(CannotRun) as caught:
        task(body, Limits(seconds=30))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_the_user_did_wrong_stays_that(task) -> None:
    """A module that cannot be imported is a mistake of the call, not a model that fails."""
    with pytest.raises(UsageError, match="no such module; mend it"):
        task("from tfstrip_core.errors import UsageError\nraise UsageError('no such module', 'mend it')")


@linux
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_the_one_that_asked(number: signal.Signals, tmp_path: Path) -> None:
    """Killed, stopped or interrupted: no process goes on, and but for a kill nothing is left in TMPDIR."""
    body = (
        "import os, time\ndef answer(request):\n    open(request['path'], 'w').write(str(os.getpid())); time.sleep(100)"
    )
    script = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
from tfstrip_core import process
from tfstrip_core.running import child
child._START = {start(body)!r}
def work():
    with child.room() as folder:
        child.ask("models", {{"path": {str(tmp_path / "pid")!r}}}, folder)
sys.exit(process.guarded(work))
"""
    home = tmp_path / "tmp"
    home.mkdir()
    parent = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(home)})
    pid = _when_there(tmp_path / "pid")
    parent.send_signal(number)
    assert parent.wait(20) == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    end = time.monotonic() + 10
    while _runs(pid) and time.monotonic() < end:
        time.sleep(0.05)
    assert not _runs(pid)
    if number != signal.SIGKILL:
        assert list(home.iterdir()) == []


def _when_there(path: Path) -> int:
    end = time.monotonic() + 20
    while not (path.exists() and path.read_text()):
        assert time.monotonic() < end, "the process did not start"
        time.sleep(0.05)
    return int(path.read_text())


def _runs(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------------------------------------------------------
# Tensors that come back


WANTS = (
    "want = {{'name': 'x', 'dtype': 'int8', 'shape': [1] * {rank}}}\n"
    "return {{'calls': [{{'function': 'f', 'wants': [want] * {count}}}]}}"
)
GOOD = {"name": "y", "dtype": "float32", "shape": [2, 2], "at": 0, "bytes": 16}


def test_tensors_are_what_was_written(tmp_path: Path) -> None:
    """Every dtype, the empty and the scalar come back with the bytes that they had; so do strings with zeros."""
    arrays = {
        "f": np.array([[1.5, np.nan]], "f4"), "s": np.array(-0.0), "e": np.zeros((0, 3), "i8"), "b": np.array([True]),
        "big": np.arange(3, dtype=">i2"), "c": np.array([1 + 2j], "c8"),
        "t": np.array([b"a\0", b"", "é".encode()], object).reshape(3, 1), "u": np.array(["x", "yz"]),
    }  # fmt: skip
    with (tmp_path / "values").open("w+b") as file:
        written = {name: values.add(file, name, array) for name, array in arrays.items()}
        size = file.tell()
        parsed = values.parse(json.loads(json.dumps([one.said() for one in written.values()])), size)
        assert parsed == tuple(written.values())
        back = {one.name: values.read(file, one) for one in parsed}
        for name in "fsebc":
            assert back[name].tobytes() == arrays[name].tobytes()
            assert back[name].shape == arrays[name].shape
        assert back["big"].tolist() == [0, 1, 2]
        assert back["t"].ravel().tolist() == [b"a\0", b"", "é".encode()]
        assert back["u"].tolist() == [b"x", b"yz"]
        assert values.same(file, written["f"], file, written["f"])
        assert not values.same(file, written["t"], file, written["f"])


@pytest.mark.parametrize(
    "change",
    [
        {"bytes": 17}, {"at": 1}, {"at": -1}, {"bytes": -16}, {"shape": [2, 2, 2]}, {"shape": [1 << 40, 1 << 40]},
        {"shape": [2, 2, *[1] * 31]},
        {"shape": [(1 << 61) + 1] * 60_000}, {"shape": [-2, -2]}, {"shape": 4}, {"shape": [2.0, 2]},
        {"shape": [True, 4]}, {"dtype": "object"}, {"dtype": 4},
        {"dtype": "float64"}, {"dtype": "string"}, {"name": None}, {"at": 1 << 70}, {"bytes": None},
    ],
    ids=lambda change: str(change)[:40],
)  # fmt: skip
def test_a_tensor_that_cannot_be_is_not_believed(change: dict[str, Any]) -> None:
    """Sizes and places beyond the file, dtypes that run code, numbers that are none: all of it is refused."""
    assert values.parse([GOOD], 16)
    with pytest.raises(CannotRun, match="no run gives"):
        values.parse([{**GOOD, **change}], 16)


def test_strings_that_lie_about_their_length_are_not_believed(tmp_path: Path) -> None:
    """A length beyond the tensor would read what belongs to another."""
    with (tmp_path / "values").open("w+b") as file:
        file.write((5).to_bytes(8, "little") + b"abc" + bytes(8))
        value = values.Value("t", "string", (1,), 0, 11)
        with pytest.raises(CannotRun, match="no run gives"):
            values.read(file, value)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ("return {'calls': []}", "no run gives"),  # and no file
        ("os.symlink('/etc/passwd', 'values')\nreturn {'calls': []}", "no run gives"),
        ("os.mkfifo('values')\nreturn {'calls': []}", "no run gives"),
        ("os.mkdir('values')\nreturn {'calls': []}", "no run gives"),
        ("open('values', 'w')\nreturn {'calls': 4}", "no run gives"),
        ("open('values', 'w')\nreturn {'calls': [4]}", "no run gives"),
        ("open('values', 'w')\nreturn {'calls': [{'function': 4}]}", "no run gives"),
        ("open('values', 'w')\nreturn {'calls': [{'function': 'f', 'steady': 'yes'}]}", "no run gives"),
        ("open('values', 'w')\nreturn {'calls': [{'function': 'f', 'wants': [{'name': 'x'}]}]}", "no run gives"),
        ("open('values', 'w')\n" + WANTS.format(rank=33, count=1), "no run gives"),
        ("open('values', 'w')\n" + WANTS.format(rank=0, count=120_000), "no run gives"),
        (f"open('values', 'w')\nreturn {{'calls': [{{'function': 'f', 'outputs': [{GOOD!r}]}}]}}", "no run gives"),
    ],
)
def test_a_false_answer_is_not_believed(body: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process says of its tensors is checked against the file that it wrote, which is a file of its own."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    monkeypatch.setattr(child, "_START", start(f"import os\ndef answer(request):\n{lines}\n"))
    with pytest.raises(CannotRun, match=words):
        replies.ask({}, str(tmp_path / "run"), Limits(seconds=30))


def test_what_one_process_wrote_no_other_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The original's outputs have no name any more when the result runs, which could write its own over them."""
    body = f"open('values', 'wb').write(bytes(16))\nreturn {{'calls': [{{'function': 'f', 'outputs': [{GOOD!r}]}}]}}"
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    monkeypatch.setattr(child, "_START", start(f"import os\ndef answer(request):\n{lines}\n"))
    found = replies.ask({}, str(tmp_path / "run"), None)
    assert [value.name for value in found.calls[0].outputs] == ["y"]
    assert not (tmp_path / "run" / "values").exists()
    assert values.read(found.file, found.calls[0].outputs[0]).tolist() == [[0, 0], [0, 0]]
    found.file.close()


# ---------------------------------------------------------------------------------------------------------------------
# Inputs


def test_inputs_are_the_same_every_time() -> None:
    """Both models, and every run, get the same numbers; another name or dtype has others."""
    one, two = (next(inputs.attempts([Want("x", "float32", (None, 3))])) for _ in range(2))
    other = next(inputs.attempts([Want("y", "float32", (None, 3))]))
    assert one["x"].tobytes() == two["x"].tobytes() != other["y"].tobytes()


@pytest.mark.parametrize(
    "dtype",
    ["bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64"],
)
def test_inputs_are_what_is_wanted(dtype: str) -> None:
    """Each attempt has the dtype and the known sizes, eight rows first, and all open sizes of one attempt are one."""
    want = Want("x", dtype, (None, None, 3, None))
    tried = [one["x"] for one in inputs.attempts([want])]
    assert tried[0].shape == (8, 8, 3, 8)
    assert len({array.shape for array in tried}) > 4
    assert all(want.takes(array) and array.shape[1] == array.shape[3] for array in tried)
    if "float" in dtype:
        assert 0 <= tried[0][::2].min() < tried[0][::2].max() < 1
        assert tried[0][1::2].min() < -1 < 1 < tried[0][1::2].max()  # a unit that is idle in the others shows in these
    if dtype == "int32":
        assert set(np.unique(tried[0])) == set(range(10))
        assert any(set(np.unique(array)) == {0, 1} for array in tried)
        assert any(not array.any() for array in tried)


def test_nothing_is_made_for_what_is_no_tensor() -> None:
    """A resource has no values."""
    with pytest.raises(TypeError, match="no values can be made for x: resource"):
        next(inputs.attempts([Want("x", "resource", ())]))


def test_an_open_rank_is_tried_too() -> None:
    """Where not even the rank is said, vectors, matrices, scalars and pictures are tried."""
    assert {one["x"].ndim for one in inputs.attempts([Want("x", "float32", None)])} == {0, 1, 2, 4}


WANTS = (Want("a", "float32", (None, 2)), Want("b", "int32", (None,)))
A, B = np.ones((3, 2), "f4"), np.ones(3, "i4")


@pytest.mark.parametrize(
    "arrays", [{"a": A, "b": B}, {"f/a": A, "f/b": B}, {"arr_0": A, "arr_1": B}, {"f/a": A, "b": B, "a": B}]
)
def test_a_users_arrays_are_found_by_name_or_by_order(arrays: dict[str, Any]) -> None:
    """By the input's name, by the function's and its, or as numpy.savez names what has none."""
    found = inputs.given("f", WANTS, arrays)
    assert found is not None
    assert found["a"] is A
    assert found["b"] is B


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"a": A}, "there is no b"),
        ({"arr_0": A}, "takes 2 inputs"),
        ({"a": A, "b": B.astype("i8")}, r"not b: int64\[3\]"),
        ({"a": A[:, :1], "b": B}, r"not a: float32\[3,1\]"),
        ({"arr_0": B, "arr_1": A}, r"not a: int32\[3\]"),
    ],
)
def test_arrays_that_do_not_fit_are_told_with_what_would(arrays: dict[str, Any], words: str) -> None:
    """Nothing is cast or filled in; the sentence lists what the function takes."""
    with pytest.raises(Misfit, match=words) as caught:
        inputs.given("f", WANTS, arrays)
    assert "a: float32[?,2], b: int32[?]" in str(caught.value)
    assert inputs.given("f", WANTS, {"other": A}) is None


def test_another_forms_inputs_are_paired_in_the_only_way_or_not_at_all() -> None:
    """Renamed inputs are told by dtype and shape; two that are alike cannot be, and are never guessed."""
    renamed = (Want("x", "int32", (None,)), Want("y", "float32", (None, 2)))
    found = inputs.pair(renamed, {"a": A, "b": B})
    assert (found["y"] is A, found["x"] is B) == (True, True)
    alike = (Want("x", "float32", (None, 2)), Want("y", "float32", (None, 2)))
    with pytest.raises(Misfit, match="cannot be told"):
        inputs.pair(alike, {"a": A, "b": A})
    assert inputs.pair(alike, {"x": A, "b": A}).keys() == {"x", "y"}


def distance(dtype: str, mine: Any, theirs: Any, tolerance: float, *, other: str = "") -> Call:
    """Return what comes of two outputs of two forms."""
    files, runs = [], []
    for kind, numbers in ((dtype, mine), (other or dtype, theirs)):
        file = io.BytesIO()
        raw = numbers if isinstance(numbers, bytes) else np.array(numbers, kind).tobytes()
        file.write(raw)
        size = 1 if isinstance(numbers, bytes) else len(numbers)
        files.append(file)
        runs.append(Ran("f", outputs=(values.Value("y", kind, (size,), 0, len(raw)),)))
    pairs = zip(files, runs, strict=True)
    return judged(Call("v2", "f", "skipped"), *pairs, cross=tolerance > 0, tolerance=tolerance)


@pytest.mark.parametrize(
    ("dtype", "mine", "theirs", "state"),
    [
        ("float32", [1.0, 1e-6], [1.0, 9e-6], "close"),  # 8e-6 of 1
        ("float32", [1e-6, 9e-6], [9e-6, 1e-6], "different"),  # a softmax over many classes
        ("float32", [3e-7], [6e-7], "different"),  # a detector of rare events
        ("float32", [1e6, 0.0], [1e6, 1.0], "close"),
        ("float32", [0.0], [-0.0], "close"),
        ("float32", [0.0, 0.0], [0.0, 1e-30], "different"),
        ("float32", [np.inf, 1.0], [np.inf, 2.0], "different"),
        ("float32", [np.inf], [-np.inf], "different"),
        ("float32", [np.nan, 1.0], [1.0, 1.0], "different"),
        ("float32", [np.nan, 1.0], [np.nan, 1.000001], "close"),
        ("int32", [500_000], [500_001], "different"),
        ("int64", [2**60], [2**60 + 1], "different"),
        ("bool", b"\1", b"\2", "different"),
        ("uint8", [255], [0], "different"),
        ("complex64", [1j, 1.0], [1j + 1e-6, 1.0], "close"),
    ],
    ids=str,
)
def test_close_is_a_share_of_the_greatest_number(dtype: str, mine: Any, theirs: Any, state: str) -> None:
    """Of small numbers a small share too; what is counted or named is never close."""
    assert distance(dtype, mine, theirs, 1e-5).state == state


@pytest.mark.parametrize(
    ("dtype", "mine", "theirs"),
    [
        ("float32", [0.0], [-0.0]),
        ("float32", b"\0\0\xc0\x7f", b"\1\0\xc0\x7f"),
        ("bool", b"\1", b"\2"),
        ("int64", [2**60], [2**60 + 1]),
        ("float64", [1.0], [1.0 + 2**-52]),
    ],
    ids=str,
)
def test_without_a_tolerance_bytes_are_equal_or_different(dtype: str, mine: Any, theirs: Any) -> None:
    """Signs of zero, payloads of NaN, and what numbers of another kind would round away: nothing is close."""
    assert distance(dtype, mine, mine, 0.0).state == "equal"
    assert distance(dtype, mine, theirs, 0.0).state == "different"


def test_the_same_integers_in_another_dtype_are_close() -> None:
    """TFLite has int32 where TensorFlow has int64."""
    assert distance("int64", [1, 7], [1, 7], 1e-5, other="int32").state == "close"
    assert distance("int64", [1, 7], [1, 8], 1e-5, other="int32").state == "different"
    assert distance("int64", [1, 7], [1.0, 7.0], 1e-5, other="float32").state == "different"


@pytest.mark.parametrize(
    ("shape", "stored", "words"),
    [
        ((1 << 44,), 4, "x.npy is not all there"),
        ((1 << 62, 1 << 62), 4, "x.npy is not all there"),
        ((2048,), 8192, "over 0 GiB"),
        ((-4,), 4, "x.npy is not all there"),
    ],
    ids=str,
)
def test_arrays_that_lie_about_their_size_are_not_read(
    shape: tuple[int, ...], stored: int, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes are looked at before anything is expanded or made room for: one sentence, and no memory."""
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(stored))
    monkeypatch.setattr(outputs, "_MAX_INPUTS", 4096)
    with pytest.raises(UsageError, match=words):
        outputs._arrays(str(tmp_path / "x.npz"), str(tmp_path))


def test_arrays_as_numpy_writes_them_are_read(tmp_path: Path) -> None:
    """Scalars, empty ones, texts and fortran order are no lies."""
    arrays = {"a": np.float32(1), "b": np.zeros((0, 3)), "c": np.array(["x", "yz"]), "d": np.ones((2, 3), order="F")}
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    assert [value.name for value in outputs._arrays(str(tmp_path / "x.npz"), str(tmp_path))[1]] == [*"abcd"]
