"""What earlier runs made, on other machines even, as one directory of artifacts: nothing is stripped again.

Nothing that comes along is believed: each manifest must be one that this version writes, each file must be the one
that its manifest describes, byte for byte, and every file must be described, once.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections import Counter
from collections.abc import Collection, Iterator, Sequence

from tfstrip_core import replace, signals
from tfstrip_core.errors import UsageError, printable
from tfstrip_core.inventory import Artifact
from tfstrip_core.release import checksums, manifest
from tfstrip_core.release.artifacts import CHECKSUMS, MANIFEST, Bundle, Form, finish, place
from tfstrip_core.release.names import asset_names

_SHOWN = 5


def gather(
    folders: Sequence[str],
    output: str,
    *,
    sources: Collection[str] = (),
    commit: str = "",
    form: Form | None = None,
) -> Bundle:
    """Bring the artifacts that lie in or below these folders into the directory `output`, with one manifest for all.

    Each of them is the output of an earlier run, with its manifest.json. `sources` are the models that they must be
    made of, no more and no fewer, if any are given; `commit` is the one that all of them must have; names and parts
    are as the `form` has it. Everything is copied and compared first: on any error nothing of it appears in `output`.
    Raises UsageError.
    """
    commit, here = manifest.known(commit), os.path.realpath(".")
    for path in (output, *folders):
        real = os.path.realpath(path)
        if os.path.commonpath([real, here]) != here:
            raise UsageError(f"artifacts: {printable(path)} is outside of the workspace", "name a folder in it")
    for folder in folders:
        if os.path.commonpath([os.path.realpath(output), os.path.realpath(folder)]) == os.path.realpath(folder):
            raise UsageError(
                f"output-dir: {printable(output)} lies in {printable(folder)}, which artifacts names", "name another"
            )
    parts = [part for folder in folders for part in _parts(folder)]
    found = [(part, artifact) for part in dict.fromkeys(parts) for artifact in _read(part, commit)]
    if not found:
        raise UsageError("artifacts: the manifests name no artifact", "publish what was stripped")
    _check(found, sources)
    try:
        os.makedirs(output, exist_ok=True)
        return _gather(found, output, commit, form or Form())
    except OSError as error:
        raise UsageError(
            f"artifacts: they cannot be copied ({error.strerror})", "check space and permissions"
        ) from None


def _parts(folder: str) -> Iterator[str]:
    """Yield the directories that hold a manifest: this one, or those below it."""
    if not os.path.isdir(folder):
        raise UsageError(f"artifacts: there is no folder {printable(folder)}", "download what the earlier jobs made")
    any_part = False
    for inner, folders, names in os.walk(folder):
        folders.sort()
        if MANIFEST in names:
            any_part = True
            yield os.path.normpath(inner)
        elif names:
            strange = os.path.join(inner, min(names))
            raise UsageError(f"artifacts: {printable(strange)} has no {MANIFEST} beside it", "leave it out")
    if not any_part:
        raise UsageError(
            f"artifacts: {printable(folder)} holds no {MANIFEST}", "name what an earlier run of this Action made"
        )


def _read(part: str, commit: str) -> list[Artifact]:
    """Return what a part's manifest describes: exactly the files that are there."""
    path = os.path.join(part, MANIFEST)
    try:
        there = {entry.name for entry in os.scandir(part) if not entry.is_dir(follow_symlinks=False)}
        with open(_regular(path), "rb") as file:
            made_of, described = manifest.loads(file.read(manifest.MOST_BYTES + 1))
    except UsageError as error:
        raise UsageError(f"artifacts: {printable(path)}: {error.cause}", error.remedy) from None
    except OSError as error:
        raise UsageError(f"artifacts: {printable(path)} cannot be read ({error.strerror})", "check it") from None
    if made_of != commit:
        raise UsageError(
            f"artifacts: {printable(path)} is of commit {made_of or 'unknown'}, and this job is of {commit or 'none'}",
            "publish what was made in the same run",
        )
    names = {artifact.name for artifact in described}
    for name in sorted(there - names - {MANIFEST, CHECKSUMS}):
        raise UsageError(
            f"artifacts: {printable(os.path.join(part, name))} is in no manifest", "leave it out, or strip it too"
        )
    return described


def _regular(path: str) -> str:
    if not stat.S_ISREG(os.lstat(path).st_mode):
        raise UsageError("it is no regular file", "get what the earlier job uploaded again")
    return path


def _check(found: Sequence[tuple[str, Artifact]], sources: Collection[str]) -> None:
    """Raise UsageError unless the names are assets' names, no two alike, and the models those that were asked for."""
    titles = {}
    for part, artifact in found:
        path = os.path.join(part, artifact.name)
        if asset_names({path: artifact.name}) != {path: artifact.name}:
            raise UsageError(
                f"artifacts: the manifest in {printable(part)} names {printable(artifact.name)}, "
                "which is no artifact's name",
                "get what the earlier job uploaded again",
            )
        if path in titles:
            raise UsageError(f"artifacts: {printable(path)} is in its manifest twice", "get it again")
        titles[path] = artifact.name
    asset_names(titles)
    there = {artifact.result.source for _, artifact in found}
    counts = Counter(artifact.origin for _, artifact in found)
    twice = sorted(made for made, count in counts.items() if count > 1)
    if twice:
        raise UsageError(f"artifacts: {printable(twice[0])} was stripped in two jobs", "give each model to one")
    missing, more = sorted(set(sources) - there), sorted(there - set(sources))
    if sources and (missing or more):
        what, listed = ("were not stripped", missing) if missing else ("were not asked for", more)
        shown = ", ".join(map(printable, listed[:_SHOWN])) + (" and more" if len(listed) > _SHOWN else "")
        raise UsageError(f"artifacts: of these models {shown} {what}", "run all jobs again, not only those that failed")


def _gather(found: Sequence[tuple[str, Artifact]], output: str, commit: str, form: Form) -> Bundle:
    with replace.workshop(os.path.join(output, "artifacts")) as shop:
        folder, copied = os.path.join(shop, "result"), os.path.join(shop, "result-copied")
        os.mkdir(folder)
        made: list[Artifact] = []
        for part, artifact in found:
            signals.obey()
            _copy(os.path.join(part, artifact.name), copied, artifact)
            made.append(place(copied, artifact, folder, output, form, made))
        return finish(sorted(made, key=lambda item: item.name), folder, output, commit)


def _copy(source: str, target: str, artifact: Artifact) -> None:
    """Copy one artifact; raise UsageError unless the copy is what its manifest says."""
    try:
        shutil.copyfile(_regular(source), target, follow_symlinks=False)
        replace.open_mode(target)
        if (os.path.getsize(target), checksums.sha256(target)) == (artifact.bytes, artifact.sha256):
            return
        what = "has other bytes than its manifest says"
    except FileNotFoundError:
        what = "is not there, and its manifest names it"
    except UsageError as error:
        what = error.cause.replace("it is", "is")
    raise UsageError(f"artifacts: {printable(source)} {what}", "get what the earlier job uploaded again")
