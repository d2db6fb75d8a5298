"""Doing again what failed for a moment: when that helps, how long to wait, and when all of it must be over."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timezone
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from threading import Thread
from typing import TypeVar

import github
import requests

from tfstrip_core import signals

TIMEOUT = 120  # seconds for one request, and on top of that what its bytes need
SLOWEST = 512 << 10  # bytes in a second; a line that is slower than this is no line
PATIENCE = 20 * 60.0  # seconds for a whole publishing, and on top of that twice what its bytes need
PAUSES = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)  # seconds between tries
CROWDED = 60.0  # seconds that GitHub asks for where it has no time for us and names none
HEARTBEAT = 15.0  # seconds of silence, then the log says what is waited for
_DICE = random.SystemRandom()

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Bound:
    """When all of a publishing must be over, in seconds of the monotonic clock, and who is told what is waited for."""

    end: float
    tell: Callable[[str], None]

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.end - time.monotonic()


def bound(size: int, tell: Callable[[str], None]) -> Bound:
    """Return the one bound on sending `size` bytes, with all waiting and all that has to be sent again."""
    return Bound(time.monotonic() + PATIENCE + 2 * size / SLOWEST, tell)


def insist(limit: Bound, what: str, work: Callable[[], _T], size: int = 0) -> _T:
    """Do what may be done twice, again where GitHub or the network fails for the moment.

    `what` is told to the log; a request that moves `size` bytes has more time. Raises what `work` raises.
    """
    pauses = iter(PAUSES)
    while True:
        try:
            return within(limit, what, work, size)
        except (github.GithubException, requests.RequestException) as error:
            again(limit, what, error, next(pauses, None))


def again(limit: Bound, what: str, error: Exception, pause: float | None, *, helps: bool = False) -> None:
    """Wait before another try; raise the error again where none helps, none is left, or time would be over."""
    asked = 0.0 if helps else wait(error)
    if asked is None or pause is None:
        raise error
    seconds = max(pause, asked) * _DICE.uniform(1.0, 1.25)  # jobs that failed together do not come back together
    if seconds > limit.left:
        limit.tell(f"{what}: {brief(error)}; {seconds:,.0f} s to wait, and {max(limit.left, 0):,.0f} s left for all")
        raise error
    limit.tell(f"{what}: {brief(error)}; again in {seconds:.0f} s")
    rest(seconds)


def within(
    limit: Bound, what: str, work: Callable[[], _T], size: int = 0, progress: Callable[[], str] = lambda: ""
) -> _T:
    """Do one request, and leave it where it takes too long: a timeout of a socket knows of single bytes only.

    The request runs in a thread that is left to itself then, so that this one hears signals and tells the log what it
    waits for. Raises what `work` raises, and requests.Timeout.
    """
    answers: SimpleQueue[tuple[list[_T], BaseException | None]] = SimpleQueue()

    def answer() -> None:
        try:
            answers.put(([work()], None))
        except BaseException as error:  # noqa: BLE001 - it is raised again where it is waited for
            answers.put(([], error))

    signals.obey()
    begun, end = time.monotonic(), time.monotonic() + min(TIMEOUT + size / SLOWEST, limit.left)
    if end > begun:
        Thread(target=answer, name=what, daemon=True).start()
    while (left := end - time.monotonic()) > 0:
        try:
            found, error = answers.get(timeout=min(HEARTBEAT, left))
        except Empty:
            limit.tell(f"{what}: {progress() or 'no answer yet'} after {time.monotonic() - begun:.0f} s")
            continue
        if error is not None:
            raise error
        return found[0]
    raise requests.Timeout(f"no whole answer after {time.monotonic() - begun:.0f} s")


def wait(error: Exception) -> float | None:
    """Return the seconds that a failure asks to wait; None where waiting does not help."""
    if not isinstance(error, github.GithubException):
        return 0.0
    said = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
    limited = is_limit(error)
    if not (limited or error.status in (202, 408) or error.status >= 500):
        return None
    asked = _seconds(said.get("retry-after", ""), said)
    if asked is None and limited:
        over = said.get("x-ratelimit-remaining") == "0"
        asked = _until(said.get("x-ratelimit-reset", ""), said) if over else None
        return CROWDED if asked is None else asked
    return asked or 0.0


def is_limit(error: github.GithubException) -> bool:
    """Whether GitHub says that we ask too much: with 403 it has words or headers for that, which differ."""
    headers = {str(name).lower(): str(value) for name, value in (error.headers or {}).items()}
    words = str(error.data.get("message", "") if isinstance(error.data, dict) else "").lower()
    told = "rate limit" in words or "abuse" in words or "retry your request again later" in words
    return error.status == 429 or (
        error.status == 403 and (told or "retry-after" in headers or headers.get("x-ratelimit-remaining") == "0")
    )


def _seconds(asked: str, said: dict[str, str]) -> float | None:
    """Return the seconds of a Retry-After, which may be a number or a date."""
    if re.fullmatch("[0-9]{1,6}", asked):
        return float(asked)
    then, now = _epoch(asked), _epoch(said.get("date", ""))
    return None if then is None else max(then - (time.time() if now is None else now), 0.0)


def _until(reset: str, said: dict[str, str]) -> float | None:
    """Return the seconds until a time in seconds since 1970, by the server's own clock if it tells it, and one more."""
    now = _epoch(said.get("date", ""))
    if not re.fullmatch("[0-9]{1,11}", reset):
        return None
    return max(float(reset) - (time.time() if now is None else now), 0.0) + 1


def _epoch(date: str) -> float | None:
    try:
        return parsedate_to_datetime(date).replace(tzinfo=timezone.utc).timestamp() if len(date) < 60 else None
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def brief(error: Exception) -> str:
    """Return a failure without a word of the server's."""
    return f"answered {error.status}" if isinstance(error, github.GithubException) else type(error).__name__


def rest(seconds: float) -> None:
    """Wait, unless a signal has asked to stop."""
    signals.obey()
    time.sleep(seconds)
    signals.obey()
