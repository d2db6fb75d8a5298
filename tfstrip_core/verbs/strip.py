"""strip: a new file without what only training needs, proven before it is put in place."""

from __future__ import annotations

import difflib
import errno
import os
import shutil
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace as with_values
from typing import TYPE_CHECKING

from tfstrip_core import containers, replace, signals
from tfstrip_core.codecs.window import blocks, same
from tfstrip_core.containers import average_values
from tfstrip_core.discover import Found, look
from tfstrip_core.errors import (
    CannotReplace,
    NotAModel,
    Pointer,
    ProofFailed,
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
from tfstrip_core.plan import Choices, Ema, check_ema, plan
from tfstrip_core.rules import RULES, residue_bytes
from tfstrip_core.verbs import targets
from tfstrip_core.verbs.verify import compare, may_go

if TYPE_CHECKING:
    from tfstrip_core.codecs.layouts import Layout
    from tfstrip_core.containers import Container

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)


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
    output_names: Collection[str] = (),
) -> StripResult:
    """Write the model at `source` without its training state to `target`, or over itself with `in_place`.

    `profile` says what of a SavedModel stays: what code that infers can call, or what its signatures reach; and
    `drop_functions` which functions it is to lose besides. Other models have no functions to choose from. Of a graph
    `output_names` are the nodes, or their outputs as NAME:0, whose values it is kept for. A model in which the choices
    leave nothing to do is copied byte for byte, in place left untouched. Raises UsageError, NeedsChoice for averages
    and for a graph whose outputs nothing says, NothingLeft, CannotReplace, ProofFailed, and what inspect raises;
    nothing is written then.
    """
    if target is not None and in_place:
        raise UsageError("-o and --in-place exclude each other", "give one of them")
    if target is None and not in_place:
        raise UsageError("nothing says where the result goes", "name a target with -o, or say --in-place")
    if profile not in ("inference", "serving"):
        raise UsageError(f"there is no profile {profile!r}", "say inference or serving")
    check_ema(ema)
    recover(source)
    found = _found(source)
    try:
        scope = Scope(profile, frozenset(drop_functions), tuple(dict.fromkeys(output_names)))
        _check_outputs(found, scope)
        return _strip(found, target, Choices(ema, also, drop_training_config, scope), force)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise CannotReplace(f"its result cannot be written ({error.strerror})", "make room where it goes") from None
        raise Unreadable(
            f"cannot be read or written ({error.strerror or error})", "check space and permissions"
        ) from None


def _strip(found: Found, target: str | None, choices: Choices, force: bool) -> StripResult:
    source, container, layout = found.file, containers.container(found.kind), containers.layout(found.kind)
    every, named = container.endings(source), containers.map_ending(found.kind)
    if target is not None:
        targets.check_name(found, target)
    destination = source if target is None else target.removesuffix(named)
    # What stands before the endings, here and there.
    here, there = containers.place(found.kind, source), containers.place(found.kind, destination)
    size = replace.total(replace.stamps(here, every))
    endings = _replaced(layout, every) if target is None else every
    if target is None:
        replace.check_in_place(replace.every(here, endings))
        targets.check_others(found, every)
    else:
        targets.check_folder(found, destination, every)
        replace.check_target(here, there, targets.renamed(found, destination, endings), layout, force)
    seen = replace.stamps(here, endings)
    # Before any value is judged or copied: damage is told as what it is, and HDF5's library can crash on it.
    container.check_whole(source)
    inventory = settled(found, choices.also, choices.scope)
    _check_functions(inventory, choices.scope)
    planned = plan(inventory, choices)
    if target is None and not planned.drop:
        proof = _prove(found, found, planned)
        result = _result(inventory, planned, found.path, found.path, size, size, proof, changed=False)
        return with_values(result, notes=found.notes)
    others = target is not None or layout is None
    # A directory's result in place is built in it, so that it is on the same disk whatever is mounted where.
    place = destination if others and layout else there + endings[0]
    with replace.workshop(place) as folder, ThreadPoolExecutor() as meanwhile:
        own_names = named or here != source
        built = replace.built(folder, os.path.basename(destination) if own_names else None)
        made, notes = _build(found, planned, built, others=others)
        result_place = containers.place(found.kind, built)
        flushed = [meanwhile.submit(replace.flush, file) for file in replace.every(result_place, made)]
        whole = meanwhile.submit(container.check_whole, built)
        try:
            proof = _prove(found, look(built + named), planned, others=others)
        except ProofFailed:
            _check_unchanged(found, seen, others=others)
            raise
        for done in (whole, *flushed):
            done.result()
        _check_unchanged(found, seen, others=others)
        signals.obey()
        after = size - replace.total(seen) + sum(os.path.getsize(result_place + ending) for ending in made)
        gathered = replace.gathered(folder, result_place, made)
        if target is None:
            replace.put_in_place(gathered, here, seen, made)
        else:
            replace.check_target(here, there, made, layout, force)
            replace.put(gathered, there, made, targets.old_endings(container, destination))
    notes += _write_beside(container, source, destination, new=target is not None)
    shown = found.path if target is None else target
    notes += targets.misnamed(inventory.format, target) if target else []
    result = _result(inventory, planned, found.path, shown, size, after, proof, changed=True)
    return with_values(result, notes=(*found.notes, *notes))


def _write_beside(container: Container, source: str, destination: str, *, new: bool) -> list[str]:
    """Write the files beside the result that name it; return what became of them."""
    notes = []
    for file, content in container.beside(source, destination).items():
        name = os.path.basename(file)
        if content is None:
            notes.append(f"the file {name} beside it was left alone: it names other checkpoints")
        else:
            replace.put_text(content, file)
            now = "was written and names it" if new else "names only what is here now, without local paths"
            notes.append(f"the file {name} beside it {now}")
    return notes


def _check_unchanged(found: Found, seen: replace.Stamps, *, others: bool) -> None:
    """Raise CannotReplace where the model's files are not those that were `seen` any more, neither fewer nor more."""
    if replace.stamps(containers.place(found.kind, found.file), seen) == seen:
        now = containers.container(found.kind).endings(found.file)
        if (now if others else _replaced(containers.layout(found.kind), now)) == tuple(seen):
            return
    raise CannotReplace("it changed while it was being stripped", "run it again")


def _replaced(layout: Layout | None, endings: Collection[str]) -> tuple[str, ...]:
    """Return those of a model's files that a strip in place replaces: of a directory, the model's own."""
    return tuple(ending for ending in endings if layout is None or layout.is_own(ending[len(os.sep) :]))


def recover(source: str) -> None:
    """Finish what a killed run began beside the model, or in its directory, so that it is whole when it is read."""
    with suppress(OSError, ValueError):  # what is the matter with the path is told when it is read
        replace.recover(source)
        found = look(source)
        if containers.layout(found.kind):
            replace.recover(found.file)
            replace.recover(os.path.join(found.file, "any"))
        elif found.kind == containers.CHECKPOINT:
            replace.recover(f"{found.file}.index")  # a prefix may be empty


def files(path: str) -> list[str]:
    """Return the paths of the files that are the model at `path`; raises what inspect raises."""
    found = _found(path)
    here = containers.place(found.kind, found.file)
    return [here + ending for ending in containers.container(found.kind).endings(found.file)]


def replaced(path: str) -> list[str]:
    """Return the files that a strip in place of the model at `path` replaces or removes, and those that name it."""
    found = _found(path)
    container = containers.container(found.kind)
    own = _replaced(containers.layout(found.kind), container.endings(found.file))
    here = containers.place(found.kind, found.file)
    return [*(here + ending for ending in own), *container.beside(found.file, found.file)]


def _found(source: str) -> Found:
    found = look(source)
    if found.stored:
        raise Pointer("this is a Git LFS pointer", "run git lfs pull first")
    if found.error:
        raise found.error
    if not found.kind:
        raise NotAModel("this is no TensorFlow or Keras model", "name a model file")
    return found


def _check_outputs(found: Found, scope: Scope) -> None:
    """Raise UsageError where outputs are named of what is no graph."""
    if scope.outputs and found.kind not in containers.GRAPHS:
        several = found.kind in (containers.CHECKPOINT, containers.TABLE)
        remedy = "leave it out" + (", or strip a copy of the .meta file alone" if several else "")
        raise UsageError("--output-names is for a graph in a file of its own, and this is another model", remedy)


def _check_functions(inventory: Inventory, scope: Scope) -> None:
    """Raise UsageError where the user names a function that is not there."""
    known = {finding.subject for finding in inventory.findings if finding.rule == "TFS202"}
    train = sorted({finding.subject for finding in inventory.findings if finding.rule == "TFS203"})
    for name in sorted(scope.without):
        if name.startswith("signatures/"):
            raise UsageError(f"{printable(name)} is a signature, which stays", "save the model without that signature")
    for name in sorted(scope.without - known):
        near = difflib.get_close_matches(name, train, 1) or train[:3]
        remedy = f"did you mean {', '.join(map(printable, near))}?" if near else "see tfstrip inspect"
        raise UsageError(f"--drop-function {printable(name)} names no function of this model", remedy)


def settled(source: str | Found, also: Collection[str] = (), scope: Scope = INFERENCE) -> Inventory:
    """Return what the model holds, with averages told apart by their values: what inspect says and a look inside."""
    found = _found(source) if isinstance(source, str) else source
    container = containers.container(found.kind)
    inventory = with_values(container.inventory(found.file, scope), path=found.path, notes=found.notes)
    if not any(average_values.needs_values(finding, also) for finding in inventory.findings):
        return inventory
    with container.contents(found.file) as parts:
        findings = tuple(average_values.settle(inventory, parts, also))
    roles: dict[str, Role] = {
        name: "average" if found.rule == "TFS106" else "optimizer" for found in findings for name in found.tensors
    }
    tensors = tuple(
        with_values(tensor, role=roles[tensor.name] if tensor.role in ("optimizer", "average") else tensor.role)
        for tensor in inventory.tensors
    )
    return with_values(inventory, findings=findings, tensors=tensors, residue_bytes=residue_bytes(findings))


def _build(found: Found, planned: Plan, built: str, *, others: bool) -> tuple[tuple[str, ...], list[str]]:
    """Write the result to `built`; return the endings of its files, and what to tell.

    `others` says that the files in a model's directory that are not its own come along.
    """
    container, layout = containers.container(found.kind), containers.layout(found.kind)
    notes: list[str] = []
    copied = container.endings(found.file)
    place = containers.place(found.kind, built)
    if planned.drop or containers.map_ending(found.kind) or place != built:  # which may name them anew
        more = set(copied) - set(_replaced(layout, copied)) if others else set()
        notes = container.rewrite(found.file, planned, built)
        copied = tuple(sorted(ending for ending in more if layout and layout.comes_along(ending[len(os.sep) :])))
        for ending in sorted(more - set(copied)):
            notes.append(f"its file {ending[len(os.sep) :]} is left out: no loader reads it")
    for ending in copied:
        os.makedirs(os.path.dirname(built + ending), exist_ok=True)
        shutil.copyfile(found.file + ending, built + ending)
    if others and layout:
        for name in layout.asset_folders(found.file):
            os.makedirs(os.path.join(built, name), exist_ok=True)
        for name in layout.links(found.file):
            notes.append(f"the link {name} in its directory is left out: it leads elsewhere")
    endings = container.endings(built)
    for file in replace.every(place, endings):
        replace.open_mode(file)
    return endings, notes


def _prove(found: Found, built: Found, planned: Plan, *, others: bool = True) -> Proof:
    """Re-read both with fresh eyes: kept parts byte for byte, and nothing left of what was to go.

    Without `others` the result is the model's own files, and what else is in its directory is not touched.
    """
    if built.kind != found.kind:
        raise ProofFailed("the result is not recognised as what it is", "nothing was written; please report this")
    container = containers.container(found.kind)
    may = may_go(planned.drop)
    may_be_absent = may if others else lambda key: key[0] == "member" or may(key)
    differences, proof = compare(found, built, may_be_absent, dict(planned.apply))
    after = container.inventory(built.file, planned.scope)
    left = planned.tensors & {tensor.name for tensor in after.tensors}
    differences += [f"{name} is still there" for name in sorted(left)]
    acted = {finding.rule for finding in planned.drop if RULES[finding.rule].stripped}
    acted |= {"TFS402"} if planned.drop else set()  # whatever the original's saver was like
    differences += [f"{finding.rule} still fires" for finding in after.findings if finding.rule in acted]
    if not planned.drop and not _is_copy(found, built):
        differences.append("the copy has other bytes")
    if differences:
        raise ProofFailed(f"the result failed its proof ({differences[0]})", "nothing was written; please report this")
    return proof


def _is_copy(found: Found, built: Found) -> bool:
    """Return whether all files of two models have the same bytes, but for a map that names them anew."""
    same_name = os.path.basename(found.file) == os.path.basename(built.file)
    named = "" if same_name else containers.map_ending(found.kind)
    both = [
        [
            containers.place(model.kind, model.file) + ending
            for ending in containers.container(model.kind).endings(model.file)
            if ending != named or not named
        ]
        for model in (found, built)
    ]
    return len(both[0]) == len(both[1]) and all(map(_identical, *both))


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
