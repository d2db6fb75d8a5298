"""From models in a work tree to a directory of artifacts: all of them, or none."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_values

from tfstrip_core import replace
from tfstrip_core.discover import discover, expand
from tfstrip_core.errors import TfstripError, UsageError, printable
from tfstrip_core.inventory import Artifact, Inventory
from tfstrip_core.plan import Choices, Ema
from tfstrip_core.release import checksums, manifest
from tfstrip_core.release.names import asset_names
from tfstrip_core.verbs.inspect import examine
from tfstrip_core.verbs.strip import Profile, strip

MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished directory of artifacts, with manifest.json and SHA256SUMS beside them."""

    folder: str
    artifacts: tuple[Artifact, ...]

    @property
    def manifest(self) -> str:
        """Path of the manifest."""
        return os.path.join(self.folder, MANIFEST)

    @property
    def checksums(self) -> str:
        """Path of the checksums file, in the form that `sha256sum --check` reads."""
        return os.path.join(self.folder, CHECKSUMS)

    @property
    def paths(self) -> list[str]:
        """Everything that is published: the artifacts and their two papers."""
        return [*(os.path.join(self.folder, item.name) for item in self.artifacts), self.manifest, self.checksums]


def match(patterns: Iterable[str], output: str) -> list[str]:
    """Return the files that the globs match (`**` reaches into folders), sorted, none of them under `output`.

    Raises UsageError for a glob without a match.
    """
    matched: set[str] = set()
    for pattern, paths in expand(patterns):
        named = [path for path in paths if not _is_within(path, output)]
        files = {path for path in named if not os.path.isdir(path) or os.path.lexists(pattern)}
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
    """Return the inventory of each matched file; one that cannot be stripped says why in its message."""
    return [examine(found) for found in discover(paths)]


@dataclass(frozen=True, slots=True)
class Job:
    """One model to strip, the name of its artifact, and the user's choices as far as they concern it."""

    inventory: Inventory
    name: str
    choices: Choices


def plan(inventories: Sequence[Inventory], *, ema: Ema = "", also: Collection[str] = ()) -> list[Job]:
    """Return what is to be made, before anything is: names that collide and files that cannot be stripped are errors.

    KEYs of `also` apply to the models that have them. Raises UsageError.
    """
    bad = [f"{printable(inventory.path)} ({inventory.message})" for inventory in inventories if inventory.message]
    if bad:
        raise UsageError("not every match can be stripped: " + ", ".join(bad), "nothing was written")
    names = asset_names(inventory.path for inventory in inventories)
    jobs = [Job(item, names[item.path], Choices(ema, _keys(item, also))) for item in inventories]
    for key in set(also) - {key for job in jobs for key in job.choices.also}:
        raise UsageError(f"also: {printable(key)} names nothing undecided in these models", "see tfstrip inspect")
    return jobs


def _keys(inventory: Inventory, also: Collection[str]) -> list[str]:
    undecided = {finding.subject for finding in inventory.findings if finding.rule in ("TFS107", "TFS108")}
    return [key for key in also if key in undecided]


def make(jobs: Sequence[Job], output: str, profile: Profile = "inference") -> Bundle:
    """Strip and prove each model into the directory `output`, with manifest.json and SHA256SUMS beside them.

    Clean models are copied. Everything is built in a sibling directory first: on any error nothing of it appears
    in `output`. Raises what strip raises, with the file named.
    """
    try:
        os.makedirs(output, exist_ok=True)
        return Bundle(output, tuple(_make(jobs, output, profile)))
    except OSError as error:
        raise UsageError(
            f"output-dir: {printable(output)} cannot be written ({error.strerror})", "name another"
        ) from None


def _make(jobs: Sequence[Job], output: str, profile: Profile) -> list[Artifact]:
    made = []
    with replace.workshop(os.path.join(output, "artifacts")) as folder:
        for job in jobs:
            source, built = job.inventory.path, os.path.join(folder, job.name)
            try:
                result = strip(source, built, profile=profile, ema=job.choices.ema, also=job.choices.also)
            except TfstripError as error:
                raise UsageError(f"{printable(source)}: {error.cause}", error.remedy) from None
            result = with_values(result, target=os.path.join(output, job.name))
            made.append(Artifact(job.name, checksums.sha256(built), checksums.sha256(source), result))
        text = manifest.dumps(made)
        _write(folder, MANIFEST, text)
        digests = [(item.name, item.sha256) for item in made]
        _write(folder, CHECKSUMS, checksums.lines([*digests, (MANIFEST, checksums.sha256_of(text.encode()))]))
        for name in sorted(os.listdir(folder)):
            replace.flush(os.path.join(folder, name))
            replace.put(os.path.join(folder, name), os.path.join(output, name))
    return made


def _write(folder: str, name: str, text: str) -> None:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    replace.open_mode(path)
