"""From models in a work tree to a directory of artifacts: all of them, or none."""

from __future__ import annotations

import glob
import os
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace as with_values

from tfstrip_core import replace
from tfstrip_core.discover import discover
from tfstrip_core.errors import TfstripError, UsageError, printable
from tfstrip_core.inventory import Inventory, StripResult
from tfstrip_core.plan import Choices, Ema
from tfstrip_core.release import checksums, manifest
from tfstrip_core.release.names import asset_names
from tfstrip_core.verbs.inspect import examine
from tfstrip_core.verbs.strip import Profile, strip


def match(patterns: Iterable[str], output: str) -> list[str]:
    """Return the files that the globs match (`**` reaches into folders), sorted, none of them under `output`.

    Raises UsageError for a glob without a match.
    """
    matched: set[str] = set()
    for pattern in patterns:
        hits = [path for path in glob.glob(pattern, recursive=True) if not _is_within(path, output)]
        files = {os.path.normpath(path) for path in hits if not os.path.isdir(path) or not glob.has_magic(pattern)}
        if not files:
            raise UsageError(
                f"models: {printable(pattern)} matches no file", "correct the pattern, or check the file out"
            )
        matched |= files
    return sorted(matched)


def _is_within(path: str, folder: str) -> bool:
    inner, outer = os.path.realpath(path), os.path.realpath(folder)
    return inner == outer or inner.startswith(outer + os.sep)


def survey(paths: Sequence[str]) -> list[Inventory]:
    """Return the inventories of the matched files; raises UsageError that names every one that cannot be stripped."""
    inventories = [examine(found) for found in discover(paths)]
    bad = [f"{printable(inventory.path)} ({inventory.message})" for inventory in inventories if inventory.message]
    if bad:
        raise UsageError("not every match can be stripped: " + ", ".join(bad), "nothing was written")
    return inventories


def make(
    inventories: Sequence[Inventory],
    output: str,
    *,
    profile: Profile = "inference",
    ema: Ema = "",
    also: Collection[str] = (),
) -> list[StripResult]:
    """Strip and prove each model into the directory `output`, with manifest.json and SHA256SUMS beside them.

    Clean models are copied. Everything is built in a sibling directory first: on any error nothing of it appears
    in `output`. KEYs of `also` apply to the models that have them. Raises what strip raises, with the file named.
    """
    names = asset_names(inventory.path for inventory in inventories)
    choices = {inventory.path: Choices(ema, _keys(inventory, also)) for inventory in inventories}
    for key in set(also) - {key for choice in choices.values() for key in choice.also}:
        raise UsageError(f"also: {printable(key)} names nothing undecided in these models", "see tfstrip inspect")
    try:
        os.makedirs(output, exist_ok=True)
        return _make(inventories, output, names, choices, profile)
    except OSError as error:
        raise UsageError(
            f"output-dir: {printable(output)} cannot be written ({error.strerror})", "name another"
        ) from None


def _make(
    inventories: Sequence[Inventory], output: str, names: dict[str, str], choices: dict[str, Choices], profile: Profile
) -> list[StripResult]:
    results = []
    with replace.workshop(os.path.join(output, "artifacts")) as folder:
        for inventory in inventories:
            choice = choices[inventory.path]
            built = os.path.join(folder, names[inventory.path])
            try:
                result = strip(inventory.path, built, profile=profile, ema=choice.ema, also=choice.also)
            except TfstripError as error:
                raise UsageError(f"{printable(inventory.path)}: {error.cause}", error.remedy) from None
            results.append(with_values(result, target=os.path.join(output, names[inventory.path])))
        for name, text in _papers(folder, results):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
                file.write(text)
            replace.open_mode(os.path.join(folder, name))
        for name in sorted(os.listdir(folder)):
            replace.flush(os.path.join(folder, name))
            replace.put(os.path.join(folder, name), os.path.join(output, name))
    return results


def _keys(inventory: Inventory, also: Collection[str]) -> list[str]:
    undecided = {finding.subject for finding in inventory.findings if finding.rule in ("TFS107", "TFS108")}
    return [key for key in also if key in undecided]


def _papers(folder: str, results: Sequence[StripResult]) -> Iterator[tuple[str, str]]:
    entries = []
    digests = []
    for result in results:
        name = os.path.basename(result.target)
        digest = checksums.sha256(os.path.join(folder, name))
        entries.append(manifest.entry(result, name, checksums.sha256(result.source), digest))
        digests.append((name, digest))
    text = manifest.dumps(entries)
    yield "manifest.json", text
    digests.append(("manifest.json", checksums.sha256_of(text.encode())))
    yield "SHA256SUMS", checksums.lines(digests)
