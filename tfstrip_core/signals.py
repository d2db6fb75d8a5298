"""Being asked to stop: remembered, because an exception that a signal raises can be lost where Python ignores them.

Work that must not go on after a request to stop calls obey() before each step that others will see.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_asked: list[int] = []
_tidying: list[None] = []


@contextmanager
def heard() -> Iterator[None]:
    """Take SIGTERM and SIGINT as requests to stop: they unwind the work in the block, so that leftovers are removed."""
    _asked.clear()
    previous = {number: signal.signal(number, _ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _ask(number: int, _frame: FrameType | None) -> None:
    _asked.append(number)
    if not _tidying:
        raise SystemExit(128 + number)


@contextmanager
def held() -> Iterator[None]:
    """Let requests to stop wait for the end of the block, which removes what a first one would leave behind."""
    _tidying.append(None)
    try:
        yield
    finally:
        _tidying.pop()


def obey() -> None:
    """Stop here if a signal asked for it and its exception was lost, or waited for the end of a block."""
    if _asked and not _tidying:
        raise SystemExit(128 + _asked[0])
