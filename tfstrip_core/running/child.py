"""A process of its own for work that runs a model: no secrets in its environment, limits on its time and memory.

What comes back is data that the process wrote, as hostile as the model: callers check it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import select
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from tfstrip_core import signals
from tfstrip_core.codecs import jsontext
from tfstrip_core.errors import CannotRun, Refused, Unreadable, UsageError, printable

REQUEST, REPLY, LOG = "request.json", "reply.json", "log"
_MAX_REPLY = 64 << 20
_MAX_LOG = 4096  # of what a process said last
_STEP = 0.1  # seconds between two looks at whether the user wants to stop
# All that a process learns of its surroundings. What a framework or a loader needs is here, nothing else is asked for.
_KEPT = (
    "PATH", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "LD_LIBRARY_PATH", "SYSTEMROOT", "TF_USE_LEGACY_KERAS",
)  # fmt: skip
_SET = {
    "CUDA_VISIBLE_DEVICES": "-1",  # the same sums in the same order
    "KERAS_BACKEND": "tensorflow",
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "TF_ENABLE_ONEDNN_OPTS": "0",
}
# The package is loaded from where this one is, whatever else is installed and whatever the work tree holds.
_START = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("tfstrip_core", sys.argv[1] + "/__init__.py",
                                              submodule_search_locations=[sys.argv[1]])
sys.modules["tfstrip_core"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
from tfstrip_core.running import worker
worker.serve(int(sys.argv[2]))
"""
_rooms: list[str] = []  # that are open, each in the one before
_servers: list[subprocess.Popen[bytes]] = []  # what starts processes while any is: a framework takes seconds to import


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use: wall-clock `seconds`, `memory` in bytes beyond what a framework takes.

    `file` is the size in bytes of any file that it writes: outputs, the log, a model in another form.
    """

    seconds: float = 600
    memory: int = 16 << 30
    file: int = 4 << 30


def check_framework() -> None:
    """Raise UsageError where TensorFlow is not installed, or processes cannot be started as they have to be."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UsageError("this needs TensorFlow, which is not installed", "pip install 'tfstrip[tensorflow]'")
    if not hasattr(os, "fork"):
        raise UsageError("this runs models, which it can on Linux and macOS alone", "run it there")


@contextmanager
def room() -> Iterator[str]:
    """Yield a private folder for what processes leave each other; as long as it is open they start quickly."""
    with tempfile.TemporaryDirectory(prefix="tfstrip-run-", ignore_cleanup_errors=True) as folder:
        _rooms.append(folder)
        try:
            yield folder
        finally:
            _rooms.pop()
            if not _rooms:
                _end()


def ask(task: str, request: Mapping[str, Any], folder: str, limits: Limits | None = None) -> dict[str, Any]:
    """Return what `answer(request)` of the module `tfstrip_core.running.TASK` gives in a process of its own.

    `folder` is a private one: the process has it for its home and for what is temporary. Paths in the request are
    absolute. Raises CannotRun with what that module raised as TfstripError, and where the process takes longer or more
    memory than it may, dies, or answers nothing.
    """
    limits = limits or Limits()
    for name in (REQUEST, REPLY):
        with suppress(FileNotFoundError):
            os.unlink(os.path.join(folder, name))
    with open(os.path.join(folder, REQUEST), "w", encoding="utf-8") as file:
        json.dump({"task": task, "memory": limits.memory, "file": limits.file, "request": dict(request)}, file)
    with open(os.path.join(folder, LOG), "w+b") as log:
        try:
            code = _wait(os.path.abspath(folder), limits.seconds)
        finally:
            if not _rooms:
                _end()
        log.seek(max(0, log.seek(0, os.SEEK_END) - _MAX_LOG))  # not by its name, which may lead elsewhere by now
        lines = log.read(_MAX_LOG).decode("utf-8", "replace").strip().splitlines()
    said = _reply(folder)
    if said is None:
        how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
        last = f": {printable(lines[-1])[:300]}" if lines else ""
        raise CannotRun(f"the process that ran it {how}{last}", "see that it runs in TensorFlow by itself")
    if "cause" in said:
        kind = UsageError if said.get("usage") is True else CannotRun
        raise kind(str(said["cause"]), str(said.get("remedy", "")))
    answer = said.get("answer")
    if not isinstance(answer, dict):
        raise CannotRun("the process that ran it gave no answer", "see that it runs in TensorFlow by itself")
    return answer


def _wait(folder: str, seconds: float) -> int:
    """Run a process in the folder to its end, or to that of its time; return its code. Nothing of its group is left."""
    begun: list[int] = []
    try:
        return _run(folder, seconds, begun)
    except BaseException:
        _end()
        for process in begun:
            with suppress(OSError):
                os.killpg(process, signal.SIGKILL)
        raise


def _run(folder: str, seconds: float, begun: list[int]) -> int:
    """Have a process run in the folder; note its number in `begun`, and return its code."""
    end = time.monotonic() + seconds
    server = _server(folder)
    to, back = cast("BinaryIO", server.stdin), cast("BinaryIO", server.stdout)
    with suppress(BrokenPipeError):  # what comes back tells
        to.write(json.dumps(folder).encode() + b"\n")
    while True:
        if select.select([back], [], [], min(_STEP, max(end - time.monotonic(), 0.001)))[0]:
            word, _, number = back.readline().partition(b" ")
            if word == b"ended":
                return int(number)
            if word != b"begun":
                raise CannotRun("Python cannot be started, or not its TensorFlow", "see that it can be imported")
            begun.append(int(number))
        signals.obey()
        if time.monotonic() >= end:
            raise CannotRun(f"it ran longer than {seconds:g} seconds", "try a smaller input")


def _server(folder: str) -> subprocess.Popen[bytes]:
    """Return the process that starts others: it imports what they need, runs nothing, and knows as little as they."""
    if not _servers:
        home = _rooms[0] if _rooms else folder
        kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
        package = os.path.dirname(os.path.abspath(signals.__file__))
        server = subprocess.Popen(  # noqa: S603 - this Python, and no shell
            [sys.executable, "-I", "-B", "-c", _START, package, str(os.getpid())],
            bufsize=0,
            cwd=home,
            env={**kept, **_SET, "HOME": home, "TMPDIR": home},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        _servers.append(server)
    return _servers[0]


def _end() -> None:
    """End the process that starts others, and with it the one that runs."""
    for server in _servers:
        with suppress(OSError):
            os.killpg(server.pid, signal.SIGKILL)
        with server:  # which closes its pipes and waits for it
            pass
    _servers.clear()


def opened(path: str) -> BinaryIO | None:
    """Open the regular file that a process left at a path; None where it left none, or something else."""
    flags = (getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY"))
    try:
        number = os.open(path, os.O_RDONLY | sum(flags))
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(number).st_mode):
        return os.fdopen(number, "rb")
    os.close(number)
    return None


def _reply(folder: str) -> dict[str, Any] | None:
    file = opened(os.path.join(folder, REPLY))
    if file is None:
        return None
    with file:
        text = file.read(_MAX_REPLY + 1)
    try:
        said = jsontext.parse(text, "the answer") if len(text) <= _MAX_REPLY else None
    except (Unreadable, Refused):
        return None
    return said if isinstance(said, dict) else None
