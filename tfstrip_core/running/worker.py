"""The other side of `child`: the first thing that runs in a process of its own."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import tempfile
import traceback
from contextlib import suppress
from typing import Any

from tfstrip_core.errors import TfstripError, UsageError
from tfstrip_core.running.child import LOG, REPLY, REQUEST

_PR_SET_PDEATHSIG = 1
# How lines begin with which TensorFlow opens what it has to say.
_EMPTY = (
    "Graph execution error",
    "Detected at node",
    "<stack traces",
    "  File ",
    "    ",
    "Node: ",
    "Exception encountered",
)


def serve(parent: int) -> None:
    """Start a process for each line of the input, a folder with a request, and tell its number and how it ended.

    What the requests need is imported here, once. `parent` is the process that asks, with which this one ends.
    """
    _end_with(parent)
    told, null, mine = os.dup(1), os.open(os.devnull, os.O_RDWR), os.getpid()
    os.dup2(null, 1)  # whatever libraries print
    while line := sys.stdin.buffer.readline():
        folder = json.loads(line)
        asked = _asked(folder)
        if sys.platform == "linux":  # elsewhere a framework does not survive to be forked
            _import(asked["task"])
        process = os.fork()
        if not process:
            try:
                os.close(told)
                _move(folder, null)
                _end_with(mine)
                main(folder)
            finally:
                os._exit(1)
        os.write(told, f"begun {process}\n".encode())
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        with suppress(OSError):
            os.killpg(process, signal.SIGKILL)
        os.write(told, f"ended {code}\n".encode())


def _asked(folder: str) -> dict[str, Any]:
    with open(os.path.join(folder, REQUEST), encoding="utf-8") as file:
        found: dict[str, Any] = json.load(file)
    return found


def _import(task: str) -> None:
    """Import what a task says that it needs; what is the matter with it is told by the process that needs it."""
    for name in getattr(importlib.import_module(f"tfstrip_core.running.{task}"), "NEEDS", ()):
        with suppress(Exception):
            importlib.import_module(name)


def _move(folder: str, null: int) -> None:
    """Make the folder this process's home, its session its own, its input nothing, its output the log."""
    os.setsid()
    log = os.open(os.path.join(folder, LOG), os.O_WRONLY | os.O_APPEND)
    for number, file in enumerate((null, log, log)):
        os.dup2(file, number)
    os.close(log)
    os.close(null)
    os.chdir(folder)
    os.environ.update(HOME=folder, TMPDIR=folder)
    tempfile.tempdir = None


def main(folder: str) -> None:
    """Do the work of the request in `folder` within its limits, and write the reply."""
    asked = _asked(folder)
    _bind(asked["memory"], asked["file"])
    try:
        said = {"answer": importlib.import_module(f"tfstrip_core.running.{asked['task']}").answer(asked["request"])}
    except TfstripError as error:
        said = {"cause": error.cause, "remedy": error.remedy, "usage": isinstance(error, UsageError)}
    except MemoryError:
        said = {"cause": "it needs more memory than it may have", "remedy": "try a smaller input"}
    except Exception as error:  # noqa: BLE001 - a framework can raise anything
        traceback.print_exc()
        said = {"cause": first_line(error), "remedy": "see that it runs in TensorFlow by itself"}
    whole = os.path.join(folder, REPLY)
    with open(f"{whole}.part", "w", encoding="utf-8") as file:
        json.dump(said, file)
    os.replace(f"{whole}.part", whole)
    sys.stdout.flush()
    os._exit(0)  # what a framework does at the end can hang, and nothing is left to do


def first_line(error: BaseException) -> str:
    """Return what kind of error this is and the first line of what it says, which frameworks follow with pages."""
    lines = [line for line in str(error).splitlines() if line.strip() and not line.startswith(_EMPTY)]
    return f"{type(error).__name__}: {lines[0].strip()[:300]}" if lines else type(error).__name__


def _end_with(parent: int) -> None:
    """Let this process end when the one that started it does, as far as the system can."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def _bind(memory: int, file: int) -> None:
    """Limit the process's memory and each file that it writes, in bytes, as far as the system can."""
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
