"""What GitHub's runner hands to an action, and what it takes back: inputs, log groups, outputs, the step summary."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from tfstrip_core.errors import UsageError

# The runner cuts a step's summary off at 1 MiB, so it is cut here, where a line says so.
SUMMARY_LIMIT = 1 << 20


def option(name: str, default: str = "") -> str:
    """Return an input as the runner passes it: the name in capitals, dashes kept; empty is the default."""
    return os.environ.get(f"INPUT_{name.upper()}", "").strip() or default


def lines(name: str) -> list[str]:
    """Return an input that holds one thing a line."""
    return [line.strip() for line in option(name).splitlines() if line.strip()]


def choice(name: str, *allowed: str) -> str:
    """Return an input that is one of a few words, the first being its default; raises UsageError."""
    value = option(name, allowed[0])
    if value not in allowed:
        raise UsageError(f"the input {name} is {value!r}", f"say {' or '.join(word for word in allowed if word)}")
    return value


def switch(name: str) -> bool:
    """Return an input that is true or false, in the spellings of YAML; false by default."""
    value = option(name, "false").lower()
    if value not in ("true", "false"):
        raise UsageError(f"the input {name} is {value!r}", "say true or false")
    return value == "true"


@contextmanager
def group(title: str) -> Iterator[None]:
    """Fold what is printed meanwhile into one line of the job's log."""
    folds = os.environ.get("GITHUB_ACTIONS") == "true"
    print(f"::group::{title}" if folds else f"{title}:", flush=True)
    try:
        yield
    finally:
        if sys.stderr is not None:
            sys.stderr.flush()
        if folds:
            print("::endgroup::", flush=True)


def put_outputs(values: Mapping[str, str]) -> None:
    """Set the step's outputs; no value can end itself, because the delimiter is drawn at random."""
    path = os.environ.get("GITHUB_OUTPUT")
    if path:
        with open(path, "a", encoding="utf-8", errors="backslashreplace") as file:
            for name, value in values.items():
                delimiter = f"tfstrip-{secrets.token_hex(16)}"
                file.write(f"{name}<<{delimiter}\n{value}\n{delimiter}\n")


def put_summary(markdown: str) -> None:
    """Append to the step's summary, whole lines of it as far as the runner shows them."""
    path = os.environ.get("GITHUB_STEP_SUMMARY")
    if path:
        content = markdown.encode(errors="backslashreplace")
        if len(content) > SUMMARY_LIMIT - 100:
            content = (
                content[: SUMMARY_LIMIT - 100].rpartition(b"\n")[0] + b"\n\n(cut off here: GitHub shows no more)\n"
            )
        with open(path, "ab") as file:
            file.write(content)


def hand_over(paths: Iterable[str]) -> None:
    """Give what root made to the owner of the work tree: later steps of a job run as that user.

    Each path, and its parents that root owns, as far as they lie below the current directory.
    """
    if sys.platform == "win32" or os.geteuid() != 0:
        return
    top = os.path.realpath(".")
    owner = os.stat(top)
    made = set()
    for path in map(os.path.realpath, paths):
        inside = path
        while inside.startswith(top + os.sep):
            made.add(inside)
            inside = os.path.dirname(inside)
    for path in made:
        with suppress(OSError):  # no root, or a file system without owners
            if os.lstat(path).st_uid == 0:
                os.lchown(path, owner.st_uid, owner.st_gid)
