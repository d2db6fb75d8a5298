"""verify: whether one model has all that another has, but for what only training needs.

The same comparison is the proof of every strip.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace

from tfstrip_core import containers
from tfstrip_core.codecs.window import same
from tfstrip_core.discover import Found, look
from tfstrip_core.errors import CannotRun, TfstripError, Unreadable, UsageError, printable
from tfstrip_core.inventory import (
    INFERENCE,
    Call,
    Comparison,
    Contents,
    Finding,
    Inventory,
    Key,
    Outputs,
    Proof,
    Scope,
)
from tfstrip_core.plan import Ema
from tfstrip_core.rules import RULES
from tfstrip_core.verbs.inspect import examine, inspect

_NAMED = 10  # so many outputs are named
_WHAT = {
    "tensor": "tensor",
    "attribute": "attribute",
    "group": "group",
    "member": "file",
    "config": "configuration",
    "graph": "the graph's",
}
# How far numbers may be apart where two formats are compared by running them.
_TOLERANCE, _TOLERANCE_TFLITE = 1e-5, 1e-4
_TFLITE = "tflite"


def verify(
    original: str,
    stripped: str,
    *,
    ema: Ema = "",
    also: Collection[str] = (),
    outputs: bool = False,
    inputs: str = "",
    imports: Sequence[str] = (),
) -> Comparison:
    """Compare two models byte for byte: every tensor kept, every attribute, configuration and asset.

    With `outputs` both are run on the same inputs as well, see outputs.compare_outputs for those, `inputs` and
    `imports`: two models of one format must give the same bytes. Of two formats only what they give is compared, within
    1e-5 of the greatest number of each output, of a TFLite model within 1e-4; integers must be equal.

    What is gone must be removable by the rules or named in `also` (KEYs, and functions of a SavedModel); of that, all
    that no signature reaches may be gone together, as the profile serving has it. With `ema` "apply" the weights must
    have their averages' bytes. Raises what inspect raises, and UsageError for a KEY that names nothing.
    """
    if not outputs:
        if inputs or imports:
            raise UsageError("--inputs and --import say how models are run", "ask for that too, by --outputs")
        return _by_bytes(original, stripped, ema, also)
    if ema:
        raise UsageError("averages give other outputs than the weights", "verify --ema apply without --outputs")
    from tfstrip_core.running.child import check_framework

    check_framework()
    before, after = inspect(original), _inspect_any(stripped)
    tolerance = _TOLERANCE_TFLITE if after.format == _TFLITE else _TOLERANCE
    if before.format == after.format:
        tolerance = 0.0
        done = _by_bytes(original, stripped, ema, also)
    else:
        note = (
            f"the formats differ, {before.format} and {after.format}, so bytes are not compared: what they give is, "
            f"within {tolerance:g} of the greatest number of each output"
        )
        done = Comparison(before, after, (), (note,), Proof(0, 0))
    return replace(done, outputs=_run(original, stripped, inputs, imports, tolerance))


def _inspect_any(path: str) -> Inventory:
    """Return the inventory of a model, or of a TFLite one, of which nothing more is known."""
    found = look(path)
    return examine(found) if found.kind == _TFLITE else inspect(path)


def _run(original: str, stripped: str, inputs: str, imports: Sequence[str], tolerance: float) -> Outputs:
    from tfstrip_core.verbs.outputs import compare_outputs

    try:
        return compare_outputs(original, stripped, inputs=inputs, imports=imports, tolerance=tolerance)
    except CannotRun as error:
        which = f"{printable(error.path)}: " if error.path else ""
        return Outputs((Call("", "", "skipped", f"{which}{error}"),), tolerance)


def _by_bytes(original: str, stripped: str, ema: Ema, also: Collection[str]) -> Comparison:
    before, after = inspect(original), inspect(stripped)
    if before.format != after.format:
        return Comparison(before, after, (f"the formats differ: {before.format} and {after.format}",), (), Proof(0, 0))
    both = look(original), look(stripped)
    scope = Scope(without=frozenset(also), outputs=_common(*both))
    found = before.findings if scope == INFERENCE else _within(both[0], scope)
    for key in also:
        if not any(finding.subject == key for finding in (*before.findings, *found)):
            raise UsageError(f"--also {printable(key)} names nothing in the original", "see tfstrip inspect")
    averages = [finding for finding in before.findings if finding.rule == "TFS106"]
    pairs = _pairs(averages) if ema == "apply" else {}
    once = (both[0].kind, os.path.realpath(both[0].file)) == (both[1].kind, os.path.realpath(both[1].file))
    for model, asked in zip(both, (original, stripped), strict=True):
        _check_whole(model, asked)
    differences, proof = compare(*both, may_go([item for item in found if _removable(item, also)]), pairs)
    if differences and both[0].kind == containers.SAVED_MODEL:
        with suppress(UsageError):  # it may be what only serves
            served, left = (_within(model, Scope("serving", frozenset(also))) for model in both)
            if not any(finding.rule == "TFS202" for finding in left):
                again, shown = compare(*both, may_go([item for item in served if _removable(item, also)]), pairs)
                differences, proof = (differences, proof) if again else (again, shown)
    differences += _emptied(*both)
    notes = list(_notes(before, after, averages, bool(differences), applied=ema == "apply"))
    if once:
        notes.append("both paths name the same model, so this compares nothing: name the original and the stripped one")
    return Comparison(before, after, tuple(differences), tuple(notes), proof)


def _emptied(original: Found, stripped: Found) -> list[str]:
    """Return the difference that a graph is nothing but inputs any more: all that they need is there."""
    if original.kind not in containers.GRAPHS:
        return []
    from tfstrip_core.containers.graphs import graph

    return ["nothing is left but inputs"] if graph.computes(original.file) > graph.computes(stripped.file) else []


def _notes(
    before: Inventory, after: Inventory, averages: Collection[Finding], different: bool, *, applied: bool
) -> Iterator[str]:
    """Yield what is to be told of a comparison besides its result."""
    gone = {tensor.name for tensor in before.tensors} - {tensor.name for tensor in after.tensors}
    for finding in averages:
        if not applied and not gone.isdisjoint(finding.tensors):
            yield f"{printable(finding.subject)}: averages of the weights are gone"
    if after.outputs and len(after.outputs) <= _NAMED:
        yield f"compared as a graph for {', '.join(map(printable, after.outputs))}"
    if different and not gone and len(after.tensors) > len(before.tensors):
        yield "the second model holds all tensors of the first and more: name the original first"


def _check_whole(model: Found, asked: str) -> None:
    """Raise Unreadable where a model is damaged, with the path by which it was asked for."""
    try:
        containers.container(model.kind).check_whole(model.file)
    except TfstripError as error:
        error.path = asked
        raise


def _pairs(averages: Collection[Finding]) -> dict[str, str]:
    """Return (weight, average) of all averages; raises UsageError where one has no certain weight."""
    if any(not finding.pairs for finding in averages):
        raise UsageError("which average belongs to which weight is not certain", "verify without --ema apply")
    return {weight: average for finding in averages for weight, average in finding.pairs}


def _common(original: Found, stripped: Found) -> tuple[str, ...]:
    """Return the nodes that two graphs have in common: what one of them needs may not be gone."""
    if original.kind not in containers.GRAPHS:
        return ()
    from tfstrip_core.containers.graphs import graph

    return graph.common(original.file, stripped.file)


def _within(model: Found, scope: Scope) -> tuple[Finding, ...]:
    """Return what is found in a model of which less counts as inference."""
    return containers.container(model.kind).inventory(model.file, scope).findings


def _removable(finding: Finding, also: Collection[str]) -> bool:
    return RULES[finding.rule].stripped or finding.rule in ("TFS106", "TFS201") or finding.subject in also


def may_go(findings: Collection[Finding]) -> Callable[[Key], bool]:
    """Return whether a part may be missing, given the findings that may go."""
    tensors = {name for finding in findings for name in finding.tensors}
    configs = {finding.subject for finding in findings if finding.rule == "TFS201"}
    roots = {root for finding in findings for root in finding.roots}

    def under(name: str) -> bool:
        while name and name not in roots:
            name = name.rpartition("/")[0]
        return bool(name)

    def removable(key: Key) -> bool:
        kind, name = key
        if kind == "tensor":
            return name in tensors or f"node {name}" in roots
        if kind == "graph":
            return name.rpartition("@")[0] in roots
        if kind == "config":
            return name in configs
        if kind == "attribute":
            name = name.rpartition("@")[0]
        return kind in ("attribute", "group") and under(name)

    return removable


def compare(
    original: Found, stripped: Found, removable: Callable[[Key], bool], pairs: Mapping[str, str]
) -> tuple[list[str], Proof]:
    """Read both models afresh; return every difference that is not allowed, and what was found equal.

    `pairs` maps a weight to the original's tensor whose bytes it must have.
    """
    with ExitStack() as stack:
        try:
            left, right = (
                stack.enter_context(containers.container(found.kind).contents(found.file))
                for found in (original, stripped)
            )
        except OSError as error:
            raise Unreadable(f"cannot be read ({error.strerror or error})", "check its permissions") from None
        return _compare(left, right, removable, pairs)


def _compare(
    left: Contents, right: Contents, removable: Callable[[Key], bool], pairs: Mapping[str, str]
) -> tuple[list[str], Proof]:
    differences = []
    tensors = size = 0
    for key, part in left.items():
        kind, name = key
        what = f"{_WHAT[kind]} {printable(name) or '(root)'}"
        other = right.get(key)
        if other is None:
            if not removable(key):
                differences.append(f"{what} is missing")
            continue
        expected = left["tensor", pairs[name]] if kind == "tensor" and name in pairs else part
        if expected.kind != other.kind:
            differences.append(f"{what} is {printable(other.kind)} instead of {printable(expected.kind)}")
        elif not same(expected.blocks(), other.blocks()):
            differences.append(f"{what} has other bytes")
        elif kind == "tensor":
            tensors += 1
            size += part.bytes
    differences += [f"{_WHAT[kind]} {printable(name)} was added" for kind, name in right if (kind, name) not in left]
    return differences, Proof(tensors, size)
