"""Damaging model files and watching what tfstrip makes of them, in a process of its own: HDF5 may crash on them.

`run_batch` starts this file as a program that reads cases as JSON from its stdin and answers each with a line.
"""

import contextlib
import faulthandler
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from hostile import WEIGHTS, pack, unpacked

SECONDS = 30  # one case takes a few hundredths; this long, and it hangs
MEMORY = 4 << 30
MEMORY_DISK = "/dev/shm" if os.path.isdir("/dev/shm") else None  # waiting for a disk teaches nothing here

# A case: {"path": model, "inside": whether the weights in the archive are meant, their checksum made right again,
# "edits": [[offset, xor], ...], "cut": length or None, "fill": [offset, length, byte] or None}
Case = dict[str, Any]


def case(path: str, *, inside: bool = False, edits: Sequence = (), cut: int | None = None, fill: Sequence = ()) -> Case:
    return {"path": path, "inside": inside, "edits": list(edits), "cut": cut, "fill": list(fill)}


def flip(path: str, size: int, dice: random.Random, inside: bool = False) -> Case:
    """Return the case of one random bit flipped in a file of that size."""
    return case(path, inside=inside, edits=[[dice.randrange(size), 1 << dice.randrange(8)]])


def damaged(wanted: Case) -> bytes:
    """Return the bytes of the damaged file."""
    if not wanted["inside"]:
        return _damaged(Path(wanted["path"]).read_bytes(), wanted)
    entries = unpacked(wanted["path"])
    for entry in entries:
        if entry.name == WEIGHTS:
            entry.data = _damaged(entry.data, wanted)
    return pack(entries)


def _damaged(data: bytes, wanted: Case) -> bytes:
    out = bytearray(data)
    for offset, mask in wanted["edits"]:
        out[offset] ^= mask
    if wanted["fill"]:
        offset, length, byte = wanted["fill"]
        out[offset : offset + length] = bytes([byte]) * len(out[offset : offset + length])
    return bytes(out[: wanted["cut"]])


def _main(*words: str) -> tuple[int, str, str]:
    from tfstrip_core.cli import main

    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(list(words))
    return code, out.getvalue(), err.getvalue()


def probe(path: str) -> tuple[int, str, int, list[str]]:
    """Check, inspect and strip the file; return both exit codes, check's verdict and every broken promise."""
    source, problems = Path(path).read_bytes(), []
    checked, out, err = _main("check", "--json", path)
    (model,) = json.loads(out)["models"]
    verdict, message = model["verdict"], model["message"]
    if (checked == 2) is not (verdict in ("unreadable", "refused")) or len(err.splitlines()) > 1:
        problems.append(f"check: exit {checked}, {verdict}, {err!r}")
    if not message.isprintable() or _is_internal(message):
        problems.append(f"check: {message!r}")
    inspected = _main("inspect", path)[0]
    stripped, problem = _strip(path, checked)
    # inspect reads every byte for the weights digest, as strip does, and check does not.
    if inspected not in (0, 2) or (checked == 2 and inspected != 2) or (inspected == 2 and stripped != 2):
        problems.append(f"inspect: exit {inspected}, check {checked}, strip {stripped}")
    problems += [problem] * bool(problem)
    if Path(path).read_bytes() != source:
        problems.append("the source has changed")
    return checked, verdict, stripped, problems


def _strip(path: str, checked: int) -> tuple[int, str]:
    """Strip to a new file; return the exit code, and the promise that was broken if any."""
    folder, name = os.path.split(path)
    result = os.path.join(folder, "result")
    stripped, out, err = _main("strip", path, "-o", result)
    left = sorted(os.listdir(folder))
    if stripped == 0:
        verified, said, error = _main("verify", path, result)
        fine = not verified and checked != 2 and left == [name, "result"]
        return 0, "" if fine else f"strip: exit 0, check {checked}, verify {verified}: {said}{error}"
    fine = stripped == 2 and not out and len(err.splitlines()) == 1 and name in err and not _is_internal(err)
    return stripped, "" if fine and left == [name] else f"strip: exit {stripped}, left {left}: {err!r}"


def _is_internal(message: str) -> bool:
    """Return whether the words are a program's and not for a user, or say that the proof had to stop a strip."""
    return any(word in message for word in ("Traceback", "cyfunction", " object at 0x", "failed its proof"))


def run_batch(cases: Sequence[Case], seconds: float = 600) -> Iterator[tuple[Case, list]]:
    """Yield each case with [check's exit code, verdict, strip's exit code, broken promises].

    A case at which the process died has exit codes of -1, and the rest goes on in a new process.
    """
    todo = list(cases)
    while todo:
        with tempfile.TemporaryDirectory(prefix="damage-", dir=MEMORY_DISK) as folder:  # a crash leaves things in it
            done = subprocess.run(
                [sys.executable, "-X", "faulthandler", __file__], env=os.environ | {"TMPDIR": folder},
                input=json.dumps(todo), capture_output=True, text=True, timeout=seconds, check=False,
            )  # fmt: skip
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        yield from zip(todo, answers, strict=False)
        if done.returncode == 0:
            assert len(answers) == len(todo), done.stderr
            return
        where = [line for line in done.stderr.splitlines() if "rror" in line or line.startswith("  File")][:8]
        yield todo[len(answers)], [-1, "crash", -1, [f"exit code {done.returncode}: {' '.join(where)}"]]
        todo = todo[len(answers) + 1 :]


def serve() -> None:
    """Answer the cases on stdin."""
    if sys.platform == "linux":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    for wanted in json.load(sys.stdin):
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        folder = tempfile.mkdtemp()
        try:
            path = os.path.join(folder, "model")
            Path(path).write_bytes(damaged(wanted))
            print(json.dumps(probe(path)), flush=True)
        finally:
            shutil.rmtree(folder)
    faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    serve()
