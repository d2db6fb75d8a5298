"""Two runs of one function, tensor by tensor: equal bytes, close numbers, or another model."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import BinaryIO

from tfstrip_core.inventory import Call
from tfstrip_core.running import values
from tfstrip_core.running.replies import Ran
from tfstrip_core.running.values import Value

_Run = tuple[BinaryIO, Ran]
_UNSTEADY = "it gives something else when it is run again, so that bytes cannot be compared: dtypes and shapes agree"
_INF, _TINY = float("inf"), sys.float_info.min


def judged(call: Call, original: _Run, result: _Run, *, cross: bool, tolerance: float) -> Call:
    """Return what came of a call that the original ran. `cross`: the two are of different forms."""
    (left, one), (right, other) = original, result
    if other.missing and not one.signature:
        return replace(call, message="the result does not have it, and serving has no use for it")
    if other.missing:
        return replace(call, state="missing", message="the result does not have it")
    if other.misfit:
        return replace(call, state="skipped" if cross else "different", message=other.misfit)
    if other.error:
        return replace(call, state="failed", message=other.error)
    call = replace(call, outputs=len(one.outputs), bytes=sum(value.bytes for value in one.outputs))
    if len(one.outputs) != len(other.outputs):
        return replace(call, state="different", message=f"{len(other.outputs)} outputs instead of {len(one.outputs)}")
    if not one.outputs:
        return replace(call, message="it gives nothing")
    if not one.steady and _kinds(one.outputs) == _kinds(other.outputs) and not _alike(left, one, right, other):
        return replace(call, message=_UNSTEADY)
    pairs = _paired(left, one.outputs, right, other.outputs, tolerance) if cross else None
    if pairs is None:
        wrong = [] if cross else _misnamed(one.outputs, other.outputs)
        if wrong:
            return replace(call, state="different", message=wrong[0])
        pairs = list(zip(one.outputs, other.outputs, strict=True))
    return _compared(call, left, right, pairs, tolerance)


def _compared(
    call: Call, left: BinaryIO, right: BinaryIO, pairs: Sequence[tuple[Value, Value]], tolerance: float
) -> Call:
    worst, beyond, equal = 0.0, "", True
    for mine, theirs in pairs:
        far, relative = _distance(left, mine, right, theirs)
        if far is None:
            continue
        equal = False
        worst = max(worst, far)
        if relative > tolerance and not beyond:
            beyond = f"output {mine.name} differs" + (f" by {far:g}" if far < _INF else "")
    if equal:
        return replace(call, state="equal")
    if beyond:
        return replace(call, state="different", message=beyond, difference=worst)
    return replace(call, state="close", difference=worst)


def _kinds(found: Sequence[Value]) -> list[tuple[str, str, tuple[int, ...]]]:
    return [(value.name, value.dtype, value.shape) for value in found]


def _alike(left: BinaryIO, one: Ran, right: BinaryIO, other: Ran) -> bool:
    """Whether both runs of an unsteady function gave the same in both models: then it counts, and draws nothing."""
    mine, theirs = (*one.outputs, *one.again), (*other.outputs, *other.again)
    return _kinds(mine) == _kinds(theirs) and all(_same(left, a, right, b) for a, b in zip(mine, theirs, strict=True))


def _same(left: BinaryIO, one: Value, right: BinaryIO, other: Value) -> bool:
    return (one.dtype, one.shape, one.bytes) == (other.dtype, other.shape, other.bytes) and values.same(
        left, one, right, other
    )


def _misnamed(mine: Sequence[Value], theirs: Sequence[Value]) -> list[str]:
    return [
        f"output {b.name} {b.dtype}{list(b.shape)} instead of {a.name} {a.dtype}{list(a.shape)}"
        for a, b in zip(mine, theirs, strict=True)
        if (a.name, a.dtype, a.shape) != (b.name, b.dtype, b.shape)
    ]


def _paired(
    left: BinaryIO, mine: Sequence[Value], right: BinaryIO, theirs: Sequence[Value], tolerance: float
) -> list[tuple[Value, Value]] | None:
    """Pair the outputs of two forms: by name, else each with the first one left that is like it; None: in their order.

    A name that only one of them has says nothing, and what is like it is what is to be shown.
    """
    by_name = {value.name: value for value in theirs}
    if by_name.keys() == {value.name for value in mine}:
        return [(value, by_name[value.name]) for value in mine]
    rest = sorted(theirs, key=lambda value: _natural(value.name))
    pairs = []
    for value in mine:
        for other in rest:
            if _distance(left, value, right, other)[1] <= tolerance:
                pairs.append((value, other))
                rest.remove(other)
                break
        else:
            return None
    return pairs


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (0, part) for part in re.findall(r"\d{1,18}|\D+", name)]


def _distance(left: BinaryIO, one: Value, right: BinaryIO, other: Value) -> tuple[float | None, float]:
    """Return the greatest |a - b|, None where the bytes are the same, and what share of the greatest |a| that is.

    Of a only what is finite counts. The share is infinite where numbers cannot be close: other bytes in integers, bools
    and strings, other shapes, a NaN or an infinity in one of them only, an integer in place of a float. It is above 0
    for other bytes of one number, such as -0.0 for 0.0, so that within a tolerance of 0 nothing but equal bytes is.
    """
    if _same(left, one, right, other):
        return None, 0.0
    import numpy as np

    if one.shape != other.shape or "string" in (one.dtype, other.dtype):
        return _INF, _INF
    a, b = values.read(left, one), values.read(right, other)
    if "V" in (a.dtype.kind, b.dtype.kind) and "bfloat16" not in (one.dtype, other.dtype):
        return _INF, _INF
    floats = [("complex" in value.dtype, "float" in value.dtype) for value in (one, other)]
    kind = np.complex128 if floats[0][0] else np.float64
    exact = not any(floats[0])
    whole = {a.dtype.kind, b.dtype.kind} <= {"i", "u"} and np.result_type(a, b).kind != "f"
    if one.dtype != other.dtype and whole and np.array_equal(a, b):
        return 0.0, _TINY  # the same numbers in another dtype
    with np.errstate(all="ignore"):
        a, b = a.astype(kind), b.astype(kind)
        far = np.where((a == b) | (np.isnan(a) & np.isnan(b)), 0.0, np.abs(a - b))
        worst = _INF if np.isnan(far).any() else float(far.max(initial=0.0))
        if exact or floats[0] != floats[1]:
            return worst, _INF
        most = float(np.abs(a[np.isfinite(a)]).max(initial=0.0))
    if not worst:
        return 0.0, _TINY
    return worst, max(worst / most, _TINY) if most else _INF


def flex_never(path: str) -> str:
    """Return why a TFLite model must not be run, "" where it may: what it has of TensorFlow reads or writes."""
    from tfstrip_core.containers.saved import saved_code

    with open(path, "rb") as file:
        held = file.read()
    for op, does in saved_code.never_run().items():
        name = op.encode()
        if b"Flex" + name + b"\0" in held or b"\x12" + bytes([len(name)]) + name in held:
            return f"the operation {op} {does}, so it is not run"
    if b"PrintV2" in held and b"file:" in held:
        return "the operation PrintV2 writes files, so it is not run"
    return ""
