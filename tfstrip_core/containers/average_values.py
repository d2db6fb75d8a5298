"""Averages of the weights told by their values: never thrown away unseen, for they may be what is to be served.

`fit()` copies an exponential moving average into the weights at its end, so that after it the two are equal bit
for bit; a file saved in the middle of training holds two different models.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tfstrip_core.codecs.window import same
from tfstrip_core.inventory import Contents, Finding, Inventory, Part, Tensor

if TYPE_CHECKING:
    import numpy as np

_DIFFERS = "averages of the weights that differ from the weights"
_ALIKE = "slots whose values point the same way as the weights: they may be averages of them"
_APPLIED = "averages of the weights, equal to the weights bit for bit"

# A slot counts as alike from this cosine on, over this many leading elements; smaller arrays prove nothing.
_COSINE, _SAMPLE, _LEAST = 0.9, 16_384, 8


def needs_values(finding: Finding, also: Collection[str]) -> bool:
    """Return whether what happens to the finding depends on the values of its tensors."""
    leaves = finding.rule == "TFS101" or finding.subject in also
    return finding.rule == "TFS106" or (finding.opaque and leaves and bool(finding.tensors))


def settle(inventory: Inventory, parts: Contents, also: Collection[str]) -> Iterator[Finding]:
    """Yield the findings with averages told apart by their values, which may only protect.

    Averages that equal the weights bit for bit were applied already: optimizer state. State of an optimizer
    class that is not the framework's own is sampled: where most weights have a slot that points the same way as
    they do, those slots may be averages (TFS106).
    """
    for finding in inventory.findings:
        if finding.rule == "TFS106" and _applied(finding, inventory, parts):
            yield replace(finding, rule="TFS101", message=_APPLIED)
        elif finding.rule == "TFS106":
            yield replace(finding, message=_DIFFERS)
        elif needs_values(finding, also):
            yield from _sampled(finding, inventory, parts)
        else:
            yield finding


def _sampled(finding: Finding, inventory: Inventory, parts: Contents) -> Iterator[Finding]:
    alike = _alike(finding, inventory, parts)
    sizes = {tensor.name: tensor.bytes for tensor in inventory.tensors}
    total = sum(sizes[name] for name in alike)
    averages = replace(finding, rule="TFS106", tensors=tuple(sorted(alike)), bytes=total, message=_ALIKE)
    if not alike or _applied(averages, inventory, parts):
        yield finding
        return
    yield replace(
        finding, tensors=tuple(name for name in finding.tensors if name not in alike), bytes=finding.bytes - total
    )
    yield averages


def _applied(finding: Finding, inventory: Inventory, parts: Contents) -> bool:
    if finding.pairs:
        return all(same(parts["tensor", a].blocks(), parts["tensor", b].blocks()) for a, b in finding.pairs)
    weights = [tensor for tensor in inventory.tensors if tensor.role == "weight"]
    held = Counter(_digest(parts["tensor", tensor.name]) for tensor in weights)
    return Counter(_digest(parts["tensor", name]) for name in finding.tensors) <= held


def _digest(part: Part) -> bytes:
    from hashlib import blake2b  # loads OpenSSL, which check has no use for

    digest = blake2b(part.kind.encode())
    for block in part.blocks():
        digest.update(block)
    return digest.digest()


def _alike(finding: Finding, inventory: Inventory, parts: Contents) -> set[str]:
    """Return the finding's tensors that look like averages, if most of the weights have such a twin.

    Matrices are judged where there are any: biases start at zero, so that a momentum points their way too.
    """
    mine = set(finding.tensors)
    slots = [(t, _sample(t, parts)) for t in inventory.tensors if t.name in mine and t.shape]
    shapes = {slot.shape for slot, _ in slots}
    weights = [t for t in inventory.tensors if t.role == "weight" and t.shape in shapes]
    twins: set[str] = set()
    judged = found = 0
    for tensor in [t for t in weights if len(t.shape) > 1] or weights:
        values = _sample(tensor, parts)
        if values is None or not values.any():
            continue
        judged += 1
        near = {s.name for s, other in slots if s.shape == tensor.shape and _cosine(values, other) >= _COSINE}
        twins |= near
        found += bool(near)
    return twins if judged and found * 2 >= judged else set()


def _sample(tensor: Tensor, parts: Contents) -> np.ndarray[Any, Any] | None:
    """Return the tensor's leading elements as float64, None where they are too few or no real numbers."""
    import numpy as np  # a tenth of a second, for which most strips have no use

    raw = next(parts["tensor", tensor.name].blocks(), b"")
    if tensor.dtype == "bfloat16":
        values = (np.frombuffer(raw[: len(raw) // 2 * 2], "<u2").astype("<u4") << 16).view("<f4")
    elif tensor.dtype in ("float16", "float32", "float64"):
        width = int(tensor.dtype[5:]) // 8
        values = np.frombuffer(raw[: len(raw) // width * width], f"<f{width}")
    else:
        return None
    values = values[:_SAMPLE].astype(np.float64)
    return values if len(values) >= _LEAST and np.isfinite(values).all() else None


def _cosine(left: np.ndarray[Any, Any], right: np.ndarray[Any, Any] | None) -> float:
    if right is None:
        return 0.0
    scale = math.sqrt(float(left @ left) * float(right @ right))
    return float(left @ right) / scale if scale else 0.0
