"""What a process that ran a model says it found, checked before it is believed: it may be the model that answers."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from tfstrip_core.errors import CannotRun
from tfstrip_core.running import child, values
from tfstrip_core.running.inputs import Want
from tfstrip_core.running.values import Value

_MAX_CALLS = 10_000
_MAX_PARTS = 100_000  # inputs that functions take, and tensors, of one process together
_TENSORS = ("inputs", "outputs", "again")


@dataclass(frozen=True, slots=True)
class Ran:
    """One function as one model ran it: `error` says why it did not, `misfit` what the user's arrays should be.

    `again` is what it gave when it was run once more, where that is something else: then it is not `steady`.
    """

    function: str
    signature: bool = True
    wants: tuple[Want, ...] = ()
    error: str = ""
    misfit: str = ""
    missing: bool = False
    steady: bool = True
    inputs: tuple[Value, ...] = ()
    outputs: tuple[Value, ...] = ()
    again: tuple[Value, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What a process ran, and the open file that holds the tensors; no name leads to it any more."""

    calls: tuple[Ran, ...]
    file: BinaryIO = field(repr=False)


def ask(request: Mapping[str, Any], folder: str, limits: child.Limits | None) -> Answer:
    """Run a request of `running.models` in the folder, made for it. Raises what child.ask raises."""
    os.mkdir(folder, 0o700)
    said = child.ask("models", request, folder, limits).get("calls")
    path = os.path.join(folder, values.NAME)
    file = child.opened(path)
    if file is None:
        raise _nonsense()
    os.unlink(path)  # what runs next finds nothing of it
    try:
        return Answer(_calls(said, os.fstat(file.fileno()).st_size), file)
    except BaseException:
        file.close()
        raise


def _calls(said: Any, size: int) -> tuple[Ran, ...]:
    if not isinstance(said, list) or len(said) > _MAX_CALLS:
        raise _nonsense()
    parts = [one[key] for one in said if isinstance(one, dict) for key in ("wants", *_TENSORS) if key in one]
    if sum(len(part) for part in parts if isinstance(part, list)) > _MAX_PARTS:
        raise _nonsense()
    return tuple(_ran(one, size) for one in said)


def _ran(said: Any, size: int) -> Ran:
    if not isinstance(said, dict):
        raise _nonsense()
    texts = [said.get(key, "") for key in ("function", "error", "misfit")]
    flags = [said.get(key, default) for key, default in (("signature", True), ("missing", False), ("steady", True))]
    if not all(isinstance(one, str) for one in texts) or not all(isinstance(one, bool) for one in flags):
        raise _nonsense()
    several = [values.parse(said.get(key, []), size) for key in _TENSORS]
    function, error, misfit = texts
    signature, missing, steady = flags
    return Ran(function, signature, _wants(said.get("wants", [])), error, misfit, missing, steady, *several)


def _wants(said: Any) -> tuple[Want, ...]:
    found = []
    for one in said if isinstance(said, list) else ():
        if not isinstance(one, dict) or not isinstance(one.get("name"), str) or not isinstance(one.get("dtype"), str):
            raise _nonsense()
        shape = one.get("shape")
        sizes = None if shape is None else tuple(shape) if isinstance(shape, list) else (-1,)
        if sizes is not None and (len(sizes) > values.MAX_RANK or not all(map(_is_size, sizes))):
            raise _nonsense()
        found.append(Want(one["name"], one["dtype"], sizes))
    return tuple(found)


def _is_size(size: Any) -> bool:
    return size is None or (type(size) is int and 0 <= size < 1 << 62)


def _nonsense() -> CannotRun:
    return CannotRun("the process that ran it answered what no run gives", "see that it runs in TensorFlow by itself")
