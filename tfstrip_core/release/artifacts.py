"""From models in a work tree to a directory of artifacts: all of them, or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from dataclasses import replace as with_values

from tfstrip_core import replace, signals
from tfstrip_core.containers import average_values, layout
from tfstrip_core.discover import discover, expand
from tfstrip_core.errors import CannotReplace, TfstripError, UsageError, printable
from tfstrip_core.inventory import Artifact, Inventory, Profile
from tfstrip_core.plan import Choices, Ema
from tfstrip_core.release import checksums, manifest
from tfstrip_core.release.names import asset_names
from tfstrip_core.release.pack import SUFFIX, pack
from tfstrip_core.verbs.inspect import examine
from tfstrip_core.verbs.strip import files, settled, strip

MANIFEST, CHECKSUMS = "manifest.json", "SHA256SUMS"
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class Bundle:
    """A finished directory of artifacts, with manifest.json and SHA256SUMS beside them.

    `digests` are (base name, SHA-256 in hex) of everything that is published.
    """

    folder: str
    artifacts: tuple[Artifact, ...]
    digests: tuple[tuple[str, str], ...]

    @property
    def manifest(self) -> str:
        """Path of the manifest."""
        return os.path.join(self.folder, MANIFEST)

    @property
    def checksums(self) -> str:
        """Path of the checksums file, in the form that `sha256sum --check` reads."""
        return os.path.join(self.folder, CHECKSUMS)


def match(patterns: Iterable[str], output: str) -> list[str]:
    """Return what the globs match (`**` reaches into folders), sorted, none of it under `output`.

    Raises UsageError for a glob without a match, for one that leads out of the current directory, which on a runner
    is the checkout, and for such an `output`.
    """
    if not os.listdir("."):
        raise UsageError("the workspace is empty", "put actions/checkout before this step")
    if not _is_within(output, "."):
        raise UsageError(
            f"output-dir: {printable(output)} is outside of the workspace, where later steps cannot see it",
            "name a folder in it, such as dist",
        )
    matched: set[str] = set()
    for pattern, paths in expand(patterns):
        named = [pattern, *(os.path.dirname(path) for path in paths)]  # a link in the workspace may be a model
        if os.path.isabs(pattern) or not all(_is_within(path or ".", ".") for path in named):
            raise UsageError(
                f"models: {printable(pattern)} leads out of the workspace", "globs are relative to the repository"
            )
        outside = {path for path in paths if not _is_within(path, output)}
        if not outside:
            what = f"only what lies in output-dir ({printable(output)})" if paths else "no file"
            remedy = "name another output-dir" if paths else "correct it: one glob a line, without commas, quotes or !"
            raise UsageError(f"models: {printable(pattern)} matches {what}", remedy)
        matched |= outside
    return sorted(matched)


def _is_within(path: str, folder: str) -> bool:
    outer = os.path.realpath(folder)
    return os.path.commonpath([os.path.realpath(path), outer]) == outer


def survey(paths: Sequence[str], output: str) -> list[Inventory]:
    """Return the inventory of each model that was matched, or lies in a folder that was, none of it under `output`.

    One that cannot be stripped says why in its message.
    """
    found = [examine(item) for item in discover(paths) if not _is_within(item.path, output)]
    folders = [item.path for item in found if layout(item.format)]
    return [item for item in found if not (item.verdict == "not-a-model" and _lies_in(item.path, folders))]


def _lies_in(path: str, folders: Iterable[str]) -> bool:
    """Return whether a file is one of those that come along with a model in its own directory."""
    return any(_is_within(path, folder) for folder in folders)


@dataclass(frozen=True, slots=True)
class Job:
    """One model to strip, the name of its artifact, and the user's choices as far as they concern it."""

    inventory: Inventory
    name: str
    choices: Choices
    packed: bool = False


def plan(inventories: Sequence[Inventory], *, ema: Ema = "", also: Collection[str] = ()) -> list[Job]:
    """Return what is to be made, before anything is: names that collide and files that cannot be stripped are errors.

    KEYs of `also` apply to the models that have them. Raises UsageError.
    """
    bad = [f"{printable(item.path)} ({_matter(item)})" for item in inventories if item.message]
    if bad:
        more = [f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        listed = ", ".join([*bad[:_SHOWN], *more])
        raise UsageError(f"not every match can be stripped: {listed}", "nothing was written")
    packed = {item.path for item in inventories if layout(item.format) or len(files(item.path)) > 1}
    names = asset_names({item.path: _title(item.path) + SUFFIX * (item.path in packed) for item in inventories})
    jobs = [Job(item, names[item.path], Choices(ema, _keys(item, also)), item.path in packed) for item in inventories]
    for key in set(also) - {key for job in jobs for key in job.choices.also}:
        known = sorted({subject for item in inventories for subject in _undecided(item)})
        there = f"they have {', '.join(map(printable, known))}" if known else "leave it out"
        raise UsageError(f"also: {printable(key)} names nothing undecided in these models", there)
    asked = [] if ema else [printable(item.path) for item in inventories if _asks(item, also)]
    if asked:
        raise UsageError(
            f"{', '.join(asked)}: averages of the weights that differ, or may differ, from the weights",
            "set the input ema to drop (serve the weights as they are) or apply (serve the averages)",
        )
    return jobs


def _title(path: str) -> str:
    """Return what a model is called: for a checkpoint without a name of its own, its folder's name."""
    return os.path.basename(os.path.abspath(os.path.dirname(path) if os.path.basename(path) == ".index" else path))


def _matter(inventory: Inventory) -> str:
    if inventory.verdict == "not-a-model":
        return "this is no TensorFlow or Keras model; narrow the glob so that it does not match"
    return inventory.message


def _undecided(inventory: Inventory) -> set[str]:
    return {finding.subject for finding in inventory.findings if finding.rule in ("TFS107", "TFS108")}


def _keys(inventory: Inventory, also: Collection[str]) -> list[str]:
    undecided = _undecided(inventory)
    return [key for key in also if key in undecided]


def _asks(inventory: Inventory, also: Collection[str]) -> bool:
    """Whether the model holds averages that only the user can decide about, by their values where need be."""
    if not any(average_values.needs_values(finding, also) for finding in inventory.findings):
        return False
    return any(finding.rule == "TFS106" for finding in settled(inventory.path, _keys(inventory, also)).findings)


def make(jobs: Sequence[Job], output: str, profile: Profile = "inference") -> Bundle:
    """Strip and prove each model into the directory `output`, with manifest.json and SHA256SUMS beside them.

    Clean models are copied. Everything is built in a sibling directory first: on any error nothing of it appears
    in `output`. Raises what strip raises, with the file named.
    """
    for path in outputs(jobs, output):
        if os.path.isdir(path):
            raise UsageError(f"output-dir: {printable(path)} is a directory", "remove it, or name another output-dir")
    for job in jobs:
        if layout(job.inventory.format) and _is_within(output, job.inventory.path):
            raise UsageError(
                f"output-dir: {printable(output)} lies in the model {printable(job.inventory.path)}",
                "move the model into a folder of its own",
            )
    try:
        os.makedirs(output, exist_ok=True)
        return _make(jobs, output, profile)
    except OSError as error:
        raise UsageError(
            f"output-dir: {printable(output)} cannot be written ({error.strerror})", "name another"
        ) from None


def outputs(jobs: Sequence[Job], output: str) -> list[str]:
    """Return the paths of all files that make() writes, SHA256SUMS last."""
    return [os.path.join(output, name) for name in (*sorted(job.name for job in jobs), MANIFEST, CHECKSUMS)]


def _make(jobs: Sequence[Job], output: str, profile: Profile) -> Bundle:
    with replace.workshop(os.path.join(output, "artifacts")) as shop:
        folder = os.path.join(shop, "result")  # a workshop that a killed run leaves is known by this name
        os.mkdir(folder)
        made = [_one(job, folder, output, profile) for job in jobs]
        text = manifest.dumps(made)
        _write(folder, MANIFEST, text)
        digests = [*((item.name, item.sha256) for item in made), (MANIFEST, checksums.sha256_of(text.encode()))]
        listed = checksums.lines(digests)
        _write(folder, CHECKSUMS, listed)
        targets = outputs(jobs, output)
        for path in targets:
            replace.flush(os.path.join(folder, os.path.basename(path)))
        signals.obey()
        for path in targets:
            replace.put(os.path.join(folder, os.path.basename(path)), path)
    return Bundle(output, tuple(made), (*digests, (CHECKSUMS, checksums.sha256_of(listed.encode()))))


def _one(job: Job, folder: str, output: str, profile: Profile) -> Artifact:
    """Make one artifact in `folder`, from files that do not change meanwhile."""
    signals.obey()
    source, built = job.inventory.path, os.path.join(folder, job.name)
    try:
        sources = files(source)
        seen = replace.stamps("", sources)
        digests = tuple((path, checksums.sha256(path)) for path in sources)
        # A folder of its own: the state file beside a checkpoint is neither an artifact nor the next checkpoint's.
        with tempfile.TemporaryDirectory(prefix="result-", dir=os.path.dirname(folder)) as alone:
            model = os.path.join(alone, job.name.removesuffix(SUFFIX) if job.packed else job.name)
            result = strip(source, model, profile=profile, ema=job.choices.ema, also=job.choices.also)
            if job.packed:
                _pack(model, built)
            else:
                os.rename(model, built)
        if replace.stamps("", sources) != seen:
            raise CannotReplace("it changed while it was being stripped", "run it again")
    except TfstripError as error:
        raise UsageError(f"{printable(source)}: {error.cause}", error.remedy) from None
    result = with_values(result, target=os.path.join(output, job.name))
    return Artifact(job.name, os.path.getsize(built), checksums.sha256(built), digests, result)


def _pack(model: str, target: str) -> None:
    """Pack a model of several files: a directory in a folder of its name, a checkpoint with its state file."""
    folder = os.path.dirname(model)
    beside = os.path.join(folder, "checkpoint")
    made = [*files(model), *([beside] if os.path.isfile(beside) else [])]
    pack(made, target, folder)
    replace.open_mode(target)


def _write(folder: str, name: str, text: str) -> None:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    replace.open_mode(path)
