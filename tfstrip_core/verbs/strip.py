"""strip: a new file without what only training needs, proven before it is put in place."""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace as with_values
from typing import TYPE_CHECKING

from tfstrip_core import containers, replace, signals
from tfstrip_core.codecs.window import blocks, same
from tfstrip_core.containers import averages
from tfstrip_core.discover import Found, look
from tfstrip_core.errors import (
    CannotReplace,
    NotAModel,
    Pointer,
    ProofFailed,
    TfstripError,
    Unreadable,
    UsageError,
    printable,
)
from tfstrip_core.inventory import (
    INFERENCE,
    Finding,
    Inventory,
    Plan,
    Profile,
    Proof,
    Removed,
    Role,
    Scope,
    StripResult,
)
from tfstrip_core.plan import Choices, Ema, plan
from tfstrip_core.rules import RULES, residue_bytes
from tfstrip_core.verbs.verify import compare, may_go

if TYPE_CHECKING:
    from tfstrip_core.containers import Container


def strip(
    source: str,
    target: str | None = None,
    *,
    in_place: bool = False,
    force: bool = False,
    profile: Profile = "inference",
    ema: Ema = "",
    also: Collection[str] = (),
    drop_training_config: bool = False,
    drop_functions: Collection[str] = (),
) -> StripResult:
    """Write the model at `source` without its training state to `target`, or over itself with `in_place`.

    `profile` says what of a SavedModel stays: what code that infers can call, or what its signatures reach; and
    `drop_functions` which functions it is to lose besides. Other models have no functions to choose from. A model in
    which the choices leave nothing to do is copied byte for byte, in place left untouched. Raises UsageError,
    NeedsChoice for averages, NothingLeft, CannotReplace, ProofFailed, and what inspect raises; nothing is written then.
    """
    if target is not None and in_place:
        raise UsageError("-o and --in-place exclude each other", "give one of them")
    if target is None and not in_place:
        raise UsageError("nothing says where the result goes", "name a target with -o, or say --in-place")
    if profile not in ("inference", "serving"):
        raise UsageError(f"there is no profile {profile!r}", "say inference or serving")
    recover(source)
    found = _found(source)
    try:
        scope = Scope(profile, frozenset(drop_functions))
        return _strip(found, target, Choices(ema, also, drop_training_config, scope), force)
    except OSError as error:
        raise Unreadable(
            f"cannot be read or written ({error.strerror or error})", "check space and permissions"
        ) from None


def _strip(found: Found, target: str | None, choices: Choices, force: bool) -> StripResult:
    source, container = found.file, containers.container(found.kind)
    endings = container.endings(source)
    if target is None and replace.is_directory(endings):
        raise UsageError("--in-place does not replace directories yet", "write to another one with -o")
    if target is None:
        replace.check_in_place(source + ending for ending in endings)
    else:
        replace.check_target(source, target, endings, force)
    seen = replace.stamps(source, endings)
    size = replace.total(seen)
    # Before any value is judged or copied: damage is told as what it is, and HDF5's library can crash on it.
    container.check_whole(source)
    inventory = settled(found, choices.also, choices.scope)
    _check_functions(inventory, choices.scope)
    planned = plan(inventory, choices)
    if target is None and not planned.drop:
        proof = _prove(found, found, planned)
        return _result(inventory, planned, found.path, found.path, size, size, proof, changed=False)
    destination = source if target is None else target
    with replace.workshop(replace.beside(destination, endings)) as folder, ThreadPoolExecutor() as meanwhile:
        built = os.path.join(folder, "result")
        made, notes = _build(found, planned, built)
        flushed = [meanwhile.submit(replace.flush, file) for file in replace.every(built, made)]
        whole = meanwhile.submit(container.check_whole, built)
        proof = _prove(found, look(built), planned)
        for done in (whole, *flushed):
            done.result()
        if replace.stamps(source, seen) != seen:
            raise CannotReplace("it changed while it was being stripped", "run it again")
        signals.obey()
        after = sum(os.path.getsize(built + ending) for ending in made)
        if target is None:
            replace.put_in_place(built, source, seen, made)
        else:
            replace.check_target(source, target, made, force)
            replace.put(built, target, made, _there(container, target))
    for file, content in container.beside(source, destination).items():
        replace.put_text(content, file)
    shown = found.path if target is None else target
    result = _result(inventory, planned, found.path, shown, size, after, proof, changed=True)
    return with_values(result, notes=tuple(notes))


def _there(container: Container, target: str) -> tuple[str, ...]:
    """Return the endings of an older model at the target, whose files must not stay beside the new ones."""
    try:
        return container.endings(target)
    except (TfstripError, OSError):
        return ()


def recover(source: str) -> None:
    """Finish what a killed run began beside the model, so that it is whole when it is read."""
    with suppress(OSError, ValueError):  # what is the matter with the path is told when it is read
        replace.recover(source)


def files(path: str) -> list[str]:
    """Return the paths of the files that are the model at `path`; raises what inspect raises."""
    found = _found(path)
    return [found.file + ending for ending in containers.container(found.kind).endings(found.file)]


def _found(source: str) -> Found:
    found = look(source)
    if found.stored:
        raise Pointer("this is a Git LFS pointer", "run git lfs pull first")
    if found.error:
        raise found.error
    if not found.kind:
        raise NotAModel("this is no TensorFlow or Keras model", "name a model file")
    return found


def _check_functions(inventory: Inventory, scope: Scope) -> None:
    """Raise UsageError where the user names a function that is not there."""
    known = {finding.subject for finding in inventory.findings if finding.rule == "TFS202"}
    for name in sorted(scope.without - known):
        raise UsageError(f"--drop-function {printable(name)} names no function of this model", "see tfstrip inspect")


def settled(source: str | Found, also: Collection[str] = (), scope: Scope = INFERENCE) -> Inventory:
    """Return what the model holds, with averages told apart by their values: what inspect says and a look inside."""
    found = _found(source) if isinstance(source, str) else source
    container = containers.container(found.kind)
    inventory = with_values(container.inventory(found.file, scope), path=found.path)
    if not any(averages.needs_values(finding, also) for finding in inventory.findings):
        return inventory
    with container.contents(found.file) as parts:
        findings = tuple(averages.settle(inventory, parts, also))
    roles: dict[str, Role] = {
        name: "average" if found.rule == "TFS106" else "optimizer" for found in findings for name in found.tensors
    }
    tensors = tuple(
        with_values(tensor, role=roles[tensor.name] if tensor.role in ("optimizer", "average") else tensor.role)
        for tensor in inventory.tensors
    )
    return with_values(inventory, findings=findings, tensors=tensors, residue_bytes=residue_bytes(findings))


def _build(found: Found, planned: Plan, built: str) -> tuple[tuple[str, ...], list[str]]:
    """Write the result to `built`; return the endings of its files, and what to tell."""
    container = containers.container(found.kind)
    notes: list[str] = []
    if planned.drop:
        notes = container.rewrite(found.file, planned, built)
    else:
        for ending in container.endings(found.file):
            os.makedirs(os.path.dirname(built + ending), exist_ok=True)
            shutil.copyfile(found.file + ending, built + ending)
    endings = container.endings(built)
    for file in replace.every(built, endings):
        replace.open_mode(file)
    return endings, notes


def _prove(found: Found, built: Found, planned: Plan) -> Proof:
    """Re-read both with fresh eyes: kept parts byte for byte, and nothing left of what was to go."""
    if built.kind != found.kind:
        raise ProofFailed("the result is not recognised as what it is", "nothing was written; please report this")
    container = containers.container(found.kind)
    differences, proof = compare(found, built, may_go(planned.drop), dict(planned.apply))
    after = container.inventory(built.file, planned.scope)
    left = planned.tensors & {tensor.name for tensor in after.tensors}
    differences += [f"{name} is still there" for name in sorted(left)]
    acted = {finding.rule for finding in planned.drop if RULES[finding.rule].stripped}
    acted |= {"TFS402"} if planned.drop else set()  # whatever the original's saver was like
    differences += [f"{finding.rule} still fires" for finding in after.findings if finding.rule in acted]
    endings = container.endings(found.file) if not planned.drop else ()
    if not all(_identical(found.file + ending, built.file + ending) for ending in endings):
        differences.append("the copy has other bytes")
    if differences:
        raise ProofFailed(f"the result failed its proof ({differences[0]})", "nothing was written; please report this")
    return proof


def _identical(source: str, built: str) -> bool:
    with open(source, "rb", buffering=0) as left, open(built, "rb", buffering=0) as right:
        sizes = [os.fstat(file.fileno()).st_size for file in (left, right)]
        return sizes[0] == sizes[1] and same(blocks(left, 0, sizes[0]), blocks(right, 0, sizes[1]))


def _result(
    inventory: Inventory,
    planned: Plan,
    source: str,
    target: str,
    before: int,
    after: int,
    proof: Proof,
    *,
    changed: bool,
) -> StripResult:
    sizes = {tensor.name: tensor.bytes for tensor in inventory.tensors}
    removed = tuple(removed for finding in planned.drop for removed in _removed(finding, sizes))
    return StripResult(
        inventory, source, target, before, after, removed, planned.kept, proof, changed, bool(planned.apply)
    )


def _removed(finding: Finding, sizes: dict[str, int]) -> list[Removed]:
    if not finding.tensors:
        return [Removed(finding.subject, finding.rule, finding.subject, finding.bytes)]
    return [Removed(name, finding.rule, finding.subject, sizes[name]) for name in finding.tensors]
