"""The text file `checkpoint` beside checkpoints: which there are, which is the latest, often whose machine it was."""

from __future__ import annotations

import ntpath
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tfstrip_core import containers
from tfstrip_core.inventory import Finding

NAME = "checkpoint"
_LIMIT = 1 << 20
_LINE = re.compile(rb'^([a-z_]+): ("(?:[^"\\\n]|\\.)*"|[-+.0-9a-z]+)\r?$', re.MULTILINE)
_ESCAPE = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_LETTERS = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}


@dataclass(frozen=True, slots=True)
class State:
    """A state file: `latest` and `all` as they are written, `times` (one for each of `all`, or none)."""

    latest: str
    all: tuple[str, ...]
    times: tuple[str, ...] = ()
    saved: str = ""


def read(folder: str) -> State | None:
    """Return the state file of a folder; None where there is none, or it is something else."""
    path = os.path.join(folder, NAME)
    try:
        if os.path.islink(path) or not os.path.isfile(path) or os.path.getsize(path) > _LIMIT:
            return None
        with open(path, "rb") as file:
            text = file.read()
    except OSError:
        return None
    said: dict[bytes, list[bytes]] = {}
    for name, value in _LINE.findall(text):
        said.setdefault(name, []).append(value)
    latest = said.get(b"model_checkpoint_path", [])
    if len(latest) != 1 or not latest[0].startswith(b'"'):
        return None
    every = [item for item in said.get(b"all_model_checkpoint_paths", []) if item.startswith(b'"')]
    times = [item.decode("ascii") for item in said.get(b"all_model_checkpoint_timestamps", [])]
    saved = [item.decode("ascii") for item in said.get(b"last_preserved_timestamp", [])]
    return State(
        _unquoted(latest[0]),
        tuple(map(_unquoted, every)),
        tuple(times) if len(times) == len(every) else (),
        saved[0] if saved else "",
    )


def _unquoted(value: bytes) -> str:
    def plain(match: re.Match[bytes]) -> bytes:
        code = match.group(1)
        if code[:1].isdigit():
            return bytes([int(code, 8) & 255])
        return bytes([int(code[1:], 16)]) if len(code) > 1 else _LETTERS.get(code, code)

    return os.fsdecode(_ESCAPE.sub(plain, value[1:-1]))


def _quoted(name: str) -> bytes:
    return b'"' + re.sub(rb'[\x00-\x1f"\\]', lambda m: b"\\%03o" % ord(m.group()), os.fsencode(name)) + b'"'


def base(name: str) -> str:
    """Return the last part of a name in a state file, which may be an absolute path of any system."""
    return os.path.basename(ntpath.basename(name) if ntpath.splitdrive(name)[0] else name)


def is_local(name: str) -> bool:
    """Return whether a name in a state file is an absolute path, of some machine or other."""
    return name.startswith("/") or bool(ntpath.splitdrive(name)[0])


def names(state: State) -> Iterator[str]:
    """Yield every checkpoint that the state file names, once."""
    yield from dict.fromkeys((state.latest, *state.all))


def is_here(folder: str, name: str) -> bool:
    """Return whether the checkpoint that a state file calls `name` lies in `folder`, of either version."""
    path = os.path.join(folder, base(name))
    if os.path.isfile(f"{path}.index"):
        return True
    try:
        return os.path.isfile(path) and containers.recognise(path) in (containers.TABLE, containers.CUT_TABLE)
    except OSError:
        return False


def local_paths(path: str) -> Iterator[Finding]:
    """Yield a finding where the state file beside the checkpoint `path` names it by an absolute path."""
    folder, own = os.path.split(path)
    state = read(folder)
    for name in names(state) if state else ():
        if is_local(name) and base(name) == own:
            yield Finding("TFS401", NAME, 0, f"the file checkpoint beside it holds the absolute path {name}")
            return


def beside(path: str, target: str) -> dict[str, bytes | None]:
    """Return the state file that must change once the result is in place, by its path: its content, None as it is.

    In place it loses absolute paths and names of what is not there. Beside another target it is made where the source
    has one and there is none; one that belongs to other models is left alone.
    """
    state = read(os.path.dirname(path))
    folder, own = os.path.split(target)
    place = os.path.join(folder, NAME)
    named = list(names(state)) if state else []
    if state is None or not any(base(name) == os.path.basename(path) for name in named):
        return {}
    if path != target:
        if not os.path.lexists(place):
            return {place: alone(own)}
        there = read(folder)
        return {place: None} if there and own not in map(base, names(there)) else {}
    if all(is_here(folder, name) for name in named) and not any(map(is_local, named)):
        return {}
    content = cleaned(state, folder)
    return {place: content} if content else {}


def cleaned(state: State, folder: str) -> bytes | None:
    """Return a state file of base names only, of those that are in `folder`; None where none is."""
    place = range(len(state.all))
    here = [at for at in place if is_here(folder, state.all[at])]
    latest = base(state.latest)
    if not is_here(folder, latest):
        if not here:
            return None
        latest = base(state.all[here[-1]])
    lines = [b"model_checkpoint_path: " + _quoted(latest)]
    lines += [b"all_model_checkpoint_paths: " + _quoted(base(state.all[at])) for at in here]
    lines += [b"all_model_checkpoint_timestamps: " + state.times[at].encode() for at in here if state.times]
    if state.saved:
        lines.append(b"last_preserved_timestamp: " + state.saved.encode())
    return b"\n".join(lines) + b"\n"


def alone(name: str) -> bytes:
    """Return a state file that names one checkpoint, which lies beside it."""
    return b"model_checkpoint_path: %b\nall_model_checkpoint_paths: %b\n" % (_quoted(name), _quoted(name))
