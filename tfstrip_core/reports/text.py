"""Results as plain lines: path, code and bytes, one finding a line, every name escaped."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterator, Sequence

from tfstrip_core import rules
from tfstrip_core.errors import printable
from tfstrip_core.inventory import Comparison, ExportResult, Finding, Inventory, Outputs, Plan, StripResult
from tfstrip_core.plan import ema_ways, leaves_a_weight
from tfstrip_core.rules import RULES

# So many models get a command of their own; more of them get one for all.
_COMMANDS = 10
_NAMED = 20  # so many outputs of a graph are named
_READ = ("residue", "undecided", "clean", "not-a-model")


def shown(path: str) -> str:
    """Return a path as it may begin a line: escaped, and never taken for a workflow command by GitHub's log."""
    text = printable(path)
    return f"./{text}" if text.lstrip().startswith("::") else text


def size(count: int) -> str:
    """Return a number of bytes as people read it, exact."""
    return f"{count:,} byte{'' if count == 1 else 's'}"


def finding(path: str, found: Finding) -> str:
    """Return one finding as a line."""
    return f"{shown(path)}: {_rule(found)}: {printable(found.subject)}: {_what(found)}"


def _rule(found: Finding) -> str:
    return f"{found.rule} {RULES[found.rule].name}"


def _what(found: Finding) -> str:
    return f"{size(found.bytes)}: {printable(found.message)}"


def problem(inventory: Inventory) -> str:
    """Return the sentence about a file that could not be read, or was not."""
    return f"{shown(inventory.path)}: {inventory.verdict}: {inventory.message}"


def notes(inventory: Inventory) -> Iterator[str]:
    """Yield what the user should know of a model besides its findings."""
    for note in inventory.notes:
        yield f"{shown(inventory.path)}: {printable(note)}"


def read(inventory: Inventory) -> str:
    """Return one line about a model that was read, or the sentence about one that could not be."""
    if inventory.message:
        return problem(inventory)
    residue = f", {inventory.residue_bytes:,} of them residue" if inventory.residue_bytes else ""
    return f"{shown(inventory.path)}: {inventory.verdict}: {inventory.format}, {size(inventory.bytes)}{residue}"


def less(before: int, after: int) -> str:
    """Return how much smaller something became, in percent of what it was."""
    return f"{(before - after) * 100 / before:.1f} %" if before else "0 %"


def fix(inventory: Inventory, ema: str = "") -> str:
    """Return the command that strips the model, with every KEY, and with what `ema` decides.

    Return "" where no weight would be left then, so that strip would refuse.
    """
    gone = [found for found in inventory.findings if RULES[found.rule].stripped or found.rule == "TFS107"]
    if not leaves_a_weight(inventory, Plan(drop=tuple(gone))):
        return ""
    keys = [found.subject for found in inventory.findings if found.rule == "TFS107"]
    words = ["tfstrip", "strip", "--in-place", *(word for key in keys for word in ("--also", key))]
    words += ["--ema", ema] if ema else []
    words += ["--output-names", "NAME"] if inventory.guessed and rules.fails(inventory) else []
    return _command(words, inventory.path)


def way_out(inventory: Inventory) -> str:
    """Return the fix, or why there is none."""
    command = fix(inventory)
    if command and inventory.guessed:
        return f"fix: {command}, with the NAMEs of what you serve{_such_as(inventory)}"
    return f"fix: {command}" if command else no_fix(inventory)


def _such_as(inventory: Inventory) -> str:
    return f", such as {', '.join(map(printable, inventory.outputs[:3]))}" if inventory.outputs else ""


def no_fix(inventory: Inventory) -> str:
    """Return what to tell where no command would help."""
    what = _command(["tfstrip", "inspect"], inventory.path)
    return f"no fix: no weight would be left without all that; {what} shows what there is"


def _command(words: Sequence[str], path: str) -> str:
    return " ".join(map(quoted, [*words, *(["--"] if path.startswith("-") else []), path]))


def remedy(inventory: Inventory, found: Finding) -> str:
    """Return what to do about one finding."""
    if found in rules.refused(inventory):
        return way_out(inventory)
    return f"run tfstrip strip with {ema_ways([found])}" if found.rule == "TFS106" else RULES[found.rule].remedy


def quoted(word: str) -> str:
    """Return a word as a shell takes it back, on one visible line whatever is in it."""
    if printable(word) == word:
        return shlex.quote(word)
    escaped = (
        chr(byte) if 32 <= byte < 127 and byte not in b"'\\[" else f"\\x{byte:02x}" for byte in os.fsencode(word)
    )
    return f"$'{''.join(escaped)}'"


def summary(inventories: Sequence[Inventory]) -> str:
    """Return what a check comes to, in one line."""
    models = [inventory for inventory in inventories if inventory.format and not inventory.message]
    unread = len([inventory for inventory in inventories if inventory.verdict not in _READ])
    residue = [inventory for inventory in models if _holds_residue(inventory)]
    lost, whole = sum(inventory.residue_bytes for inventory in residue), sum(inventory.bytes for inventory in models)
    share = f"{lost * 100 // whole}" if whole and lost * 100 >= whole else "<1"
    parts = [f"{len(residue)} with residue, {lost:,} of {whole:,} bytes ({share} %)"] if residue else []
    paths = sum(any(found.rule == "TFS401" for found in inventory.findings) for inventory in models)
    parts += [f"{paths} with local paths, which strip removes"] if paths else []
    undecided = sum(any(found.rule in ("TFS107", "TFS108") for found in inventory.findings) for inventory in models)
    parts += [f"{undecided} with suspected or undecided state"] if undecided else []
    parts = parts or (["no residue"] if models else [])
    parts += [f"{unread} not read"] if unread else []
    checked = f"{len(models)} model{'' if len(models) == 1 else 's'} checked" if models else "no model found"
    return ": ".join([checked, "; ".join(parts)]) if parts else checked


def _holds_residue(inventory: Inventory) -> bool:
    """Return whether strip takes anything out of the model but the paths of a machine, which are no tensors'."""
    stripped = [found for found in inventory.findings if RULES[found.rule].stripped]
    return any(found.rule != "TFS401" or found.bytes for found in stripped)


def check_lines(inventories: Sequence[Inventory], paths: Sequence[str] = ()) -> Iterator[str]:
    """Yield what a check of `paths` found, then what it comes to and the commands that fix it, one for all if many."""
    models = [inventory for inventory in inventories if inventory.format and not inventory.message]
    for inventory in models:
        for found in inventory.findings:
            if not RULES[found.rule].note:
                yield finding(inventory.path, found)
    yield summary(inventories)
    failing = [inventory for inventory in models if rules.fails(inventory)]
    yield from about_averages(failing)
    if len(failing) <= _COMMANDS:
        yield from map(way_out, failing)
    else:
        named = list(paths) or [inventory.path for inventory in failing]
        dashed = ["--"] if any(path.startswith("-") for path in named) else []
        yield f"fix all {len(failing)}: {' '.join(map(quoted, ['tfstrip-hook', 'fix', *dashed, *named]))}"


def about_averages(inventories: Sequence[Inventory]) -> Iterator[str]:
    """Yield what to add to the commands above where a model may hold averages."""
    averages = [found for inventory in inventories for found in inventory.findings if found.rule == "TFS106"]
    sure = sum(bool(found.pairs) for found in averages)
    if averages:
        apply = ", --ema apply the averages" + (
            ", where it is certain of which weights" if sure < len(averages) else ""
        )
        yield f"if strip asks about averages: --ema drop serves the weights as they are{apply if sure else ''}"


def inspect_lines(inventory: Inventory, digest: str | None = None) -> Iterator[str]:
    """Yield what a model holds: format, verdict, weights digest, findings with their KEYs, tensors with their roles."""
    if inventory.message:
        yield problem(inventory)
        return
    path = shown(inventory.path)
    yield f"{path}: {inventory.format}, {printable(inventory.writer)}, {size(inventory.bytes)}: {inventory.verdict}"
    if digest:
        yield f"  weights digest: sha256 {digest}"
    if inventory.outputs:
        names = ", ".join(map(printable, inventory.outputs[:_NAMED]))
        more = f" and {len(inventory.outputs) - _NAMED} more" if len(inventory.outputs) > _NAMED else ""
        yield f"  {'what may be its outputs' if inventory.guessed else 'its outputs'}: {names}{more}"
    roles = {tensor.role for tensor in inventory.tensors}
    for role in sorted(roles, key=lambda name: (name != "weight", name)):
        mine = [tensor.bytes for tensor in inventory.tensors if tensor.role == role]
        yield f"  {role:<10} {len(mine):>5} tensors {sum(mine):>15,} bytes"
    for found in inventory.findings:
        yield f"  {_rule(found)}: KEY {printable(found.subject)}: {_what(found)}"
    for tensor in inventory.tensors:
        shape = "x".join(map(str, tensor.shape)) or "scalar"
        columns = f"{tensor.role:<10} {tensor.bytes:>13,} {printable(tensor.dtype):<9} {shape:<14}"
        yield f"    {columns} {printable(tensor.name)}"


def strip_lines(result: StripResult) -> Iterator[str]:
    """Yield what a strip did: sizes, what went by rule, and what its proof compared."""
    target = shown(result.target)
    if not result.removed:
        yield f"{target}: nothing to remove, {size(result.bytes_after)}" + ("" if result.changed else ", untouched")
        return
    yield f"{target}: {result.bytes_before:,} -> {size(result.bytes_after)}"
    for rule in sorted({item.rule for item in result.removed}):
        items = [item for item in result.removed if item.rule == rule]
        subjects = ", ".join(sorted({printable(item.subject) for item in items}))
        total = sum(item.bytes for item in items)
        gone = f": {size(total)}" if total or rule != "TFS401" else ""  # paths in a file beside the model
        yield f"  removed {rule} {RULES[rule].name}: {subjects}{gone}"
    yield f"  proof: {result.proof.kept_tensors} tensors kept, {size(result.proof.kept_bytes)} equal"


def strip_notices(result: StripResult) -> Iterator[str]:
    """Yield what a strip left in the result and the user should know."""
    for found in result.kept:
        remedy = RULES[found.rule].remedy
        for word in ("KEY", "NAME"):
            remedy = remedy.replace(f" {word}", f" {quoted(found.subject)}")
        yield f"{finding(result.target, found)}; kept: {remedy}"
    target = shown(result.target)
    for note in result.notes:
        yield f"{target}: {printable(note)}"
    if result.averaged:
        yield f"{target}: its weights are the averages now"
    if any(item.rule == "TFS201" for item in result.removed):
        yield f"{target}: loss, metrics and optimizer settings are gone: call compile() before evaluate()"


def export_lines(result: ExportResult) -> Iterator[str]:
    """Yield what an export did: sizes, what came of each call of original and result, and how to load the result."""
    yield f"{shown(result.target)}: {result.bytes_before:,} -> {size(result.bytes_after)}"
    for line in ran(result.proof):
        yield f"  {line}"
    yield f"  load: {printable(result.load)}"


def export_notices(result: ExportResult) -> Iterator[str]:
    """Yield what the user should know of an export's result, first that nothing proves it where that is so."""
    target = shown(result.target)
    if not result.proof.ran:
        yield f"{target}: not proven: nothing that the original gives could be compared, so see for yourself"
    for note in result.notes:
        yield f"{target}: {printable(note)}"


def attached(uploaded: Sequence[str], skipped: Sequence[str]) -> Iterator[str]:
    """Yield what was sent to a release and what was there already."""
    for name in uploaded:
        yield f"{printable(name)}: uploaded, its digest compared"
    for name in skipped:
        yield f"{printable(name)}: there already with the same digest"


def share(name: str, inventories: Sequence[Inventory]) -> Iterator[str]:
    """Yield what one job of a matrix has to strip."""
    count, total = len(inventories), sum(inventory.bytes for inventory in inventories)
    yield f"{name}: {count} model{'' if count == 1 else 's'}, {size(total)}"
    for inventory in inventories:
        yield f"  {read(inventory)}"


def verify_lines(result: Comparison) -> Iterator[str]:
    """Yield whether two models are equal, and every difference."""
    paths = f"{shown(result.original.path)}, {printable(result.stripped.path)}"
    if not result.differences and result.original.format == result.stripped.format:
        yield f"{paths}: equal, {result.proof.kept_tensors} tensors, {size(result.proof.kept_bytes)} compared"
    for difference in result.differences:
        yield f"{paths}: {difference}"
    if result.outputs is not None:
        for line in ran(result.outputs):
            yield f"{paths}: {line}"


def ran(outputs: Outputs) -> Iterator[str]:
    """Yield what came of each call of two models that were run."""
    for call in outputs.calls:
        what = " ".join(printable(word) for word in (call.loader, call.function) if word) or "run"
        said = f"{what}: {call.state}"
        if call.state in ("equal", "close", "different") and call.outputs:
            said += f", {call.outputs} output{'' if call.outputs == 1 else 's'}, {size(call.bytes)} on these inputs"
        if call.state == "close":
            said += f", at most {call.difference:.3g} apart"
        yield f"{said}: {printable(call.message)}" if call.message else said


def replaced(old: Sequence[str], known: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Yield how the `old` files of a model come back that were replaced by `new` ones; git had the `known` ones."""
    if known == old:
        yield f"until you git add it, the old one comes back with {restore(*old)}"
    elif known:
        gone = ", ".join(printable(os.path.basename(file)) for file in old if file not in known)
        yield f"git does not have all of the old one: {gone} cannot come back"
    else:
        yield "git does not have the old one, it is gone"
    if known and len(old) > 1:
        yield f"to keep the new one: {add(*changed(old, known, new))}"


def changed(old: Sequence[str], known: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """Yield the files to tell git of: the new ones, and of the old ones those that are there or that git had."""
    # git add knows of no file that is gone and that git never had
    yield from dict.fromkeys([*new, *(file for file in old if os.path.lexists(file) or file in known)])


def restore(*paths: str) -> str:
    """Return the command that brings replaced files, which lie beside the first or below, back out of git."""
    folder = os.path.dirname(paths[0])
    names = [os.path.relpath(path, folder or ".") for path in paths]
    return _git(["-C", folder] if folder else [], "restore", names)


def add(*paths: str) -> str:
    """Return the command that tells git of what became of these files, those that are gone included."""
    return _git([], "add", paths)


def _git(where: Sequence[str], verb: str, names: Sequence[str]) -> str:
    literal = ["--literal-pathspecs"] if any(re.search(r"^:|[*?[\\]", name) for name in names) else []
    return " ".join(map(quoted, ["git", *where, *literal, verb, "--", *names]))
