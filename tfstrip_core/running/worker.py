"""The other side of `child`: the first thing that runs in a process of its own."""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import sys
import traceback

from tfstrip_core.errors import TfstripError, UsageError
from tfstrip_core.running.child import REPLY, REQUEST

_PR_SET_PDEATHSIG, _SIGKILL = 1, 9
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


def main(folder: str) -> None:
    """Read the request in `folder`, bind this process to its limits, do the work, and write the reply."""
    with open(os.path.join(folder, REQUEST), encoding="utf-8") as file:
        asked = json.load(file)
    _bind(asked["memory"], asked["file"], asked["parent"])
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


def _bind(memory: int, file: int, parent: int) -> None:
    """Limit the process's memory and each file that it writes, in bytes; let it end when the one that asked ends.

    As far as the system can.
    """
    if sys.platform != "linux":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (file, file))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, _SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
