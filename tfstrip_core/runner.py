"""What GitHub's runner hands to an action, and what it takes back: inputs, log groups, outputs, the step summary."""

from __future__ import annotations

import ctypes
import json
import os
import re
import secrets
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from tfstrip_core.errors import UsageError

_PR_SET_DUMPABLE = 4

# The runner cuts a step's summary off at 1 MiB, so it is cut here, where a line says so.
SUMMARY_LIMIT = 1 << 20


def shut() -> None:
    """Keep the environment and the memory of this process, the token in them, from what it starts; on Linux only.

    Processes of the same user can read neither then. Root's can with CAP_SYS_PTRACE (or CAP_SYS_ADMIN or CAP_PERFMON),
    none of which Docker gives to a container.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)


def option(name: str, default: str = "") -> str:
    """Return an input as the runner passes it: the name in capitals, dashes kept; empty is the default."""
    return os.environ.get(f"INPUT_{name.upper()}", "").strip() or default


def size(name: str, default: int, word: str) -> int:
    """Return an input that is a number of bytes, or of KiB, MiB or GiB; 0 for `word`. Raises UsageError."""
    value = option(name, str(default))
    match = re.fullmatch(r"([0-9]{1,12}) ?(|KiB|MiB|GiB)", value)
    if value == word:
        return 0
    if match is None or int(match[1]) == 0:
        raise UsageError(f"the input {name} is {value!r}", f"give bytes, or KiB, MiB or GiB such as 500MiB, or {word}")
    return int(match[1]) << {"": 0, "KiB": 10, "MiB": 20, "GiB": 30}[match[2]]


def lines(name: str) -> list[str]:
    """Return an input that holds one thing a line."""
    return [line.strip() for line in option(name).splitlines() if line.strip()]


def choice(name: str, *allowed: str) -> str:
    """Return an input that is one of a few words, the first being its default; raises UsageError."""
    value = option(name, allowed[0])
    if value not in allowed:
        raise UsageError(f"the input {name} is {value!r}", f"say {' or '.join(word for word in allowed if word)}")
    return value


def words(name: str, *allowed: str) -> list[str]:
    """Return an input that is some of a few words, each once; without any the first; raises UsageError."""
    found = dict.fromkeys(word for word in re.split(r"[\s,]+", option(name)) if word)
    for word in found:
        if word not in allowed:
            raise UsageError(f"the input {name} has {word!r}", f"say some of {', '.join(allowed)}")
    return list(found) or [allowed[0]]


def switch(name: str, default: str = "false") -> bool:
    """Return an input that is true or false, in the spellings of YAML."""
    value = option(name, default).lower()
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


def check_outputs() -> None:
    """Raise UsageError where the step's outputs or summary could not be written: told before anything is published."""
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        path = os.environ.get(name)
        try:
            if path:
                with open(path, "ab"):
                    pass
        except OSError as error:
            raise UsageError(f"{name} cannot be written ({error.strerror})", "nothing was published") from None


def comes_from_a_fork() -> bool:
    """Whether the job runs for a pull request from another repository: its token can only read, whatever it asks for.

    Where the event says nothing of this, it does not.
    """
    if os.environ.get("GITHUB_EVENT_NAME") != "pull_request":
        return False
    try:
        with open(os.environ.get("GITHUB_EVENT_PATH", ""), encoding="utf-8") as file:
            head = json.load(file)["pull_request"]["head"]["repo"]
        return bool(head is None or head["full_name"] != os.environ.get("GITHUB_REPOSITORY"))  # None: it was deleted
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return False


def checkout() -> str:
    """Return the commit that is checked out in the current directory, "" where that cannot be told."""

    def line(name: str) -> str:
        try:
            with open(os.path.join(".git", name), "rb") as file:
                return file.read(4096).decode("ascii", "replace").strip()
        except OSError:
            return ""

    head = line("HEAD")
    reference = head.removeprefix("ref: ")
    if reference != head and re.fullmatch(r"refs/heads/[\w./-]+", reference) and ".." not in reference:
        head = line(reference)
    return head if re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", head) else ""


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
