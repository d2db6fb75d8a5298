"""What every door does around its work: streams that take any name, signals that leave nothing behind."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from tfstrip_core import signals


def guarded(work: Callable[[], int]) -> int:
    """Return what `work` returns; 2 where its output cannot be written, 130 after Ctrl-C; SIGTERM unwinds too."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        with signals.heard():
            code = work()
            if sys.stdout is not None:
                sys.stdout.flush()
            signals.obey()
    except BrokenPipeError:
        _mute()
        return 2
    except OSError as error:
        _mute()
        say(f"the output cannot be written ({error.strerror or error}); check space and permissions")
        return 2
    except SystemExit as end:
        if end.code == 128 + signal.SIGINT:
            return 128 + signal.SIGINT
        raise
    return code


def _mute() -> None:
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def say(line: str) -> None:
    """Tell the user on stderr; where that is closed print() would take stdout instead."""
    if sys.stderr is not None:
        print(f"tfstrip: {line}", file=sys.stderr)
