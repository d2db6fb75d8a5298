"""A process of its own for work that runs a model: no secrets in its environment, limits on its time and memory.

What comes back is data that the process wrote, as hostile as the model: callers check it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, BinaryIO

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
worker.main(sys.argv[2])
"""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a process may use: wall-clock `seconds`, `memory` in bytes beyond what a framework takes.

    `file` is the size in bytes of any file that it writes: outputs, the log, a model in another form.
    """

    seconds: float = 600
    memory: int = 16 << 30
    file: int = 4 << 30


def check_framework() -> None:
    """Raise UsageError where TensorFlow is not installed."""
    if importlib.util.find_spec("tensorflow") is None:
        raise UsageError("this needs TensorFlow, which is not installed", "pip install 'tfstrip[tensorflow]'")


@contextmanager
def room() -> Iterator[str]:
    """Yield a private folder for what processes leave each other."""
    with tempfile.TemporaryDirectory(prefix="tfstrip-run-", ignore_cleanup_errors=True) as folder:
        yield folder


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
        asked = {"task": task, "memory": limits.memory, "file": limits.file, "parent": os.getpid()}
        json.dump(asked | {"request": dict(request)}, file)
    with open(os.path.join(folder, LOG), "w+b") as log:
        code = _wait(folder, limits.seconds, log)
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


def _wait(folder: str, seconds: float, log: BinaryIO) -> int:
    """Run the process to its end, or to that of its time; nothing of its group is left."""
    home = os.path.abspath(folder)
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    package = os.path.dirname(os.path.abspath(signals.__file__))
    process = subprocess.Popen(  # noqa: S603 - this Python, and no shell
        [sys.executable, "-I", "-B", "-c", _START, package, home],
        cwd=home,
        env={**kept, **_SET, "HOME": home, "TMPDIR": home},
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        start_new_session=True,
    )
    try:
        end = time.monotonic() + seconds
        while True:
            try:
                return process.wait(min(_STEP, max(end - time.monotonic(), 0.001)))
            except subprocess.TimeoutExpired:
                signals.obey()
                if time.monotonic() >= end:
                    raise CannotRun(f"it ran longer than {seconds:g} seconds", "try a smaller input") from None
    finally:
        with suppress(OSError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


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
