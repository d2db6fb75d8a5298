"""What a job did, as Markdown for GitHub's step summary. Names are untrusted: every mark in them is an entity."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from tfstrip_core import rules
from tfstrip_core.errors import printable
from tfstrip_core.inventory import Artifact, Change, Inventory
from tfstrip_core.reports import text
from tfstrip_core.reports.artifacts import load, ran, sums, tensors
from tfstrip_core.rules import RULES


def published(artifacts: Sequence[Artifact], url: str = "", *, draft: bool = False) -> str:
    """Return what was stripped: sizes before and after, where the bytes went, digests, how to load each artifact."""
    return "\n".join([*_published(artifacts, url, draft), ""])


def _published(artifacts: Sequence[Artifact], url: str, draft: bool) -> Iterator[str]:
    yield "## Models without their training state"
    yield ""
    yield from sums(artifacts)
    if url:
        yield f"{'Draft of the release' if draft else 'Release'}: {_link(url)}."
    averaged = [artifact.name for artifact in artifacts if artifact.result.averaged]
    if averaged:
        yield f"The weights are the averages now in {', '.join(map(_name, averaged))}."
    yield ""
    yield "| artifact | from | before | after | less | tensors proven | run beside the original |"
    yield "| --- | --- | ---: | ---: | ---: | ---: | --- |"
    for artifact in artifacts:
        result = artifact.result
        sizes = (
            f"{result.bytes_before:,} | {result.bytes_after:,} | {text.less(result.bytes_before, result.bytes_after)}"
        )
        proof = f"{tensors(artifact)} | {ran(artifact)}"
        yield f"| {_name(artifact.name)} | {_name(result.source)} | {sizes} | {proof} |"
    yield from _pie([artifact for artifact in artifacts if not artifact.to])
    yield from _kept(artifacts)
    yield from _not_run(artifacts)
    yield "<details><summary>SHA-256 digests, and how to load each artifact</summary>"
    yield ""
    yield "| artifact | SHA-256 | load it with |"
    yield "| --- | --- | --- |"
    for artifact in artifacts:
        unpack = f"{_name(f'tar -xzf {artifact.name}')}, then " if artifact.inside else ""
        yield f"| {_name(artifact.name)} | `{artifact.sha256}` | {unpack}{_name(load(artifact))} |"
    yield ""
    yield "</details>"


def _pie(artifacts: Sequence[Artifact]) -> Iterator[str]:
    """Yield where the bytes of all models together went; its labels are the rules' own names."""
    parts: dict[str, int] = {}
    for artifact in artifacts:
        for item in artifact.result.removed:
            label = f"{item.rule} {RULES[item.rule].name}"
            parts[label] = parts.get(label, 0) + item.bytes
    results = [artifact.result for artifact in artifacts]
    rest = sum(item.bytes_before - item.bytes_after for item in results) - sum(parts.values())
    parts = {label: size for label, size in sorted(parts.items()) if size}
    if rest > 0:
        parts["around the tensors"] = rest
    if parts:
        yield from ("", "```mermaid", "pie showData title Where the bytes went")
        yield f'    "kept" : {sum(item.bytes_after for item in results)}'
        for label, size in parts.items():
            yield f'    "{label}" : {size}'
        yield "```"
    yield ""


def _kept(artifacts: Iterable[Artifact]) -> Iterator[str]:
    left = [(artifact, found) for artifact in artifacts for found in artifact.result.kept if not RULES[found.rule].note]
    if left:
        yield "Still in the artifacts, because only you can know what it is:"
        yield ""
        for artifact, found in left:
            what = f"{found.rule} {RULES[found.rule].name}"
            yield f"- {_name(artifact.name)}: {what}: {_name(found.subject)}, {text.size(found.bytes)}"
        yield ""


def _not_run(artifacts: Iterable[Artifact]) -> Iterator[str]:
    left = [artifact for artifact in artifacts if artifact.not_run]
    if left:
        yield "Not run beside the original:"
        yield ""
        for artifact in left:
            yield f"- {_name(artifact.name)}: {_name(artifact.not_run)}"
        yield ""


def checked(inventories: Sequence[Inventory]) -> str:
    """Return what a check found: what fails it, with the command that fixes each, and what it comes to."""
    return "\n".join([*_checked(inventories), ""])


def _checked(inventories: Sequence[Inventory]) -> Iterator[str]:
    yield "## Models checked for training state"
    yield ""
    yield text.summary(inventories)
    yield ""
    failing = [inventory for inventory in inventories if rules.fails(inventory)]
    if failing:
        yield "| model | bytes | of them residue | fix |"
        yield "| --- | ---: | ---: | --- |"
        for item in failing:
            sizes = f"{item.bytes:,} | {item.residue_bytes:,}"
            yield f"| {_name(item.path)} | {sizes} | {_name(text.fix(item) or text.no_fix(item))} |"
        yield ""
        for line in text.about_averages(failing):
            yield from (line, "")
    for item in inventories:
        if item.message and item.verdict != "not-a-model":
            yield f"- {_name(item.path)}: {item.verdict}: {_name(item.message)}"


def changed(changes: Sequence[Change], note: str = "") -> str:
    """Return what a pull request does to the bytes of the models: each that differs, before and after, and the sum."""
    return "\n".join([*_changed(changes, note), ""])


def _changed(changes: Sequence[Change], note: str) -> Iterator[str]:
    yield "## Models that this pull request changes"
    yield ""
    if changes:
        before, after = (sum(size or 0 for size in sizes) for sizes in zip(*map(_sizes, changes), strict=True))
        residue = sum(change.residue_bytes for change in changes)
        yield "| model | before | after | change | of it residue now |"
        yield "| --- | ---: | ---: | ---: | ---: |"
        for change in changes:
            was, now = _sizes(change)
            shown = f"{_bytes(was, 'new')} | {_bytes(now, 'removed')} | {(now or 0) - (was or 0):+,}"
            yield f"| {_name(change.path)} | {shown} | {_bytes(change.residue_bytes)} |"
        yield f"| all of them | {before:,} | {after:,} | {after - before:+,} | {residue:,} |"
    elif not note:
        yield "None."
    if note:
        yield ""
        yield f"{note[0].upper()}{note[1:]}."
    yield ""


def _sizes(change: Change) -> tuple[int | None, int | None]:
    return change.before, change.after


def _bytes(size: int | None, otherwise: str = "") -> str:
    return otherwise if size is None else f"{size:,}"


def _link(url: str) -> str:
    """Return an address of GitHub's as a link, if there is nothing in it but an address."""
    return f"<{url}>" if re.fullmatch(r"https?://[\w.:/%+~-]+", url, re.ASCII) else _name(url)


def _name(untrusted: str) -> str:
    """Return text that came from a file or a file's name as code: no mark in it means anything to Markdown or HTML."""
    marked = re.sub(r"[^A-Za-z0-9 /-]", lambda mark: f"&#{ord(mark.group())};", printable(untrusted))
    return f"<code>{marked.replace('&#64;', '&#64;<!-- -->')}</code>"  # a comment in an address keeps it from being one
