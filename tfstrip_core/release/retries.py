"""Doing again what failed for a moment: when that helps, and how long to wait."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import TypeVar

import github
from requests import RequestException

from tfstrip_core import signals

PAUSES = (1.0, 4.0, 10.0)  # seconds between tries
LONGEST = 60.0  # what a server may ask for

_T = TypeVar("_T")


def insist(work: Callable[[], _T]) -> _T:
    """Do what may be done twice, again where GitHub or the network fails for the moment."""
    pauses = iter(PAUSES)
    while True:
        try:
            return work()
        except (github.GithubException, RequestException) as error:
            asked, pause = wait(error), next(pauses, None)
            if asked is None or pause is None:
                raise
            rest(max(pause, asked))


def wait(error: Exception) -> float | None:
    """Return the seconds that a failure asks to wait; None where waiting does not help."""
    if not isinstance(error, github.GithubException):
        return 0.0
    asked = str((error.headers or {}).get("retry-after", ""))
    if re.fullmatch("[0-9]{1,6}", asked):
        return float(asked) if float(asked) <= LONGEST else None
    limited = isinstance(error, github.RateLimitExceededException) or error.status == 429
    return 0.0 if error.status >= 500 and not limited else None


def rest(seconds: float) -> None:
    """Wait, unless a signal has asked to stop."""
    signals.obey()
    time.sleep(seconds)
    signals.obey()
