"""From models in a work tree to a directory of artifacts: all of them, or none."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from dataclasses import replace as with_values

from tfstrip_core import replace, signals
from tfstrip_core.containers import average_values, layout
from tfstrip_core.discover import discover
from tfstrip_core.errors import CannotReplace, TfstripError, UsageError, printable
from tfstrip_core.globs import expand
from tfstrip_core.inventory import Artifact, Inventory, Profile, origin
from tfstrip_core.plan import Choices, Ema
from tfstrip_core.release import checksums, manifest, proving
from tfstrip_core.release.exporting import SAME, check_formats, exported, title
from tfstrip_core.release.names import Naming, asset_names, distinct
from tfstrip_core.release.pack import SUFFIX, pack
from tfstrip_core.release.parts import split
from tfstrip_core.verbs.inspect import examine
from tfstrip_core.verbs.strip import files, settled, strip
from tfstrip_core.verbs.weights_digest import weights_digest

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
    """One artifact to make: its model, the name that it has by itself, the user's choices that concern it.

    `to` is the form that it is exported to, "" where the model keeps its own.
    """

    inventory: Inventory
    name: str
    choices: Choices
    packed: bool = False
    to: str = ""

    @property
    def inside(self) -> str:
        """What the model is called in the archive, "" without one."""
        return self.name.removesuffix(SUFFIX) if self.packed else ""


@dataclass(frozen=True, slots=True)
class Form:
    """How artifacts are published: their names, and the bytes of one file at most (0: whatever they have)."""

    naming: Naming = field(default_factory=Naming)
    part_size: int = 0


def plan(
    inventories: Sequence[Inventory],
    *,
    ema: Ema = "",
    also: Collection[str] = (),
    naming: Naming | None = None,
    formats: Sequence[str] = (SAME,),
) -> list[Job]:
    """Return what is to be made, before anything is: names that collide and files that cannot be stripped are errors.

    KEYs of `also` apply to the models that have them. `formats` are the forms that each model is published in. Raises
    UsageError.
    """
    bad = [f"{printable(item.path)} ({_matter(item)})" for item in inventories if item.message]
    if bad:
        more = [f"and {len(bad) - _SHOWN} more"] if len(bad) > _SHOWN else []
        listed = ", ".join([*bad[:_SHOWN], *more])
        raise UsageError(f"not every match can be stripped: {listed}", "nothing was written")
    check_formats(inventories, formats)
    wanted = [
        (item, "" if form == SAME else form, _title(item.path), bool(layout(item.format)) or len(files(item.path)) > 1)
        for item in inventories
        for form in formats
    ]
    titles = {
        origin(item.path, to): title(name, to, folder=bool(layout(item.format))) if to else name + SUFFIX * packed
        for item, to, name, packed in wanted
    }
    names = asset_names(titles, naming)
    jobs = [
        Job(
            item,
            names[origin(item.path, to)],
            Choices(ema, _keys(item, also)),
            packed if not to else to != "tflite",
            to,
        )
        for item, to, _, packed in wanted
    ]
    for key in set(also) - {key for job in jobs for key in job.choices.also}:
        known = sorted({subject for item in inventories for subject in _undecided(item)})
        there = f"they have {', '.join(map(printable, known))}" if known else "leave it out"
        raise UsageError(f"also: {printable(key)} names nothing undecided in these models", there)
    asked = [] if ema else [printable(item.path) for item in inventories if _asks(item, also)]
    if asked:
        raise UsageError(
            f"{', '.join(asked)}: averages of the weights that differ, or may differ, from the weights",
            "set ema to drop (serve the weights as they are) or apply (serve the averages)",
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


def make(
    jobs: Sequence[Job],
    output: str,
    profile: Profile = "inference",
    commit: str = "",
    form: Form | None = None,
    prove: proving.Prove = "bytes",
) -> Bundle:
    """Strip and prove each model into the directory `output`, with manifest.json and SHA256SUMS beside them.

    Clean models are copied. What is too big for one file is there in parts as well, with a checksum of the whole.
    Everything is built in a sibling directory first: on any error nothing of it appears in `output`. The manifest
    names the `commit`. `prove` says whether results are run beside their originals too; exports always are. Raises
    what strip and export raise, with the file named.
    """
    for job in jobs:
        if layout(job.inventory.format) and _is_within(output, job.inventory.path):
            raise UsageError(
                f"output-dir: {printable(output)} lies in the model {printable(job.inventory.path)}",
                "move the model into a folder of its own",
            )
    try:
        os.makedirs(output, exist_ok=True)
        return _make(jobs, output, profile, commit, form or Form(), prove)
    except OSError as error:
        raise UsageError(
            f"output-dir: {printable(output)} cannot be written ({error.strerror})", "name another"
        ) from None


def files_in(output: str) -> list[str]:
    """Return the paths of what lies in the directory `output`, if there is one."""
    try:
        return [os.path.join(output, name) for name in os.listdir(output)]
    except OSError:
        return []


def _make(jobs: Sequence[Job], output: str, profile: Profile, commit: str, form: Form, prove: proving.Prove) -> Bundle:
    with replace.workshop(os.path.join(output, "artifacts")) as shop:
        folder = os.path.join(shop, "result")  # a workshop that a killed run leaves is known by this name
        os.mkdir(folder)
        _check_free(output, [job.name for job in jobs])
        made: list[Artifact] = []
        for job in jobs:
            with _alone(job, folder) as alone:
                built, item = _one(job, alone, profile, prove)
                made.append(place(built, item, folder, output, form, made))
        return finish(made, folder, output, commit)


def finish(made: Sequence[Artifact], folder: str, output: str, commit: str) -> Bundle:
    """Write manifest.json and SHA256SUMS of what was made in `folder`, and put all of it into `output`, them last."""
    digests = [entry for item in made for entry in _published(folder, item)]
    text = manifest.dumps(made, commit)
    _write(folder, MANIFEST, text)
    digests.append((MANIFEST, checksums.sha256_of(text.encode())))
    listed = checksums.lines(digests)
    _write(folder, CHECKSUMS, listed)
    names = [*sorted(name for item in made for name in _file_names(item)), MANIFEST, CHECKSUMS]
    _check_free(output, names)
    for name in names:
        replace.flush(os.path.join(folder, name))
    signals.obey()
    for name in names:
        replace.put(os.path.join(folder, name), os.path.join(output, name))
    return Bundle(output, tuple(made), (*digests, (CHECKSUMS, checksums.sha256_of(listed.encode()))))


def _published(folder: str, item: Artifact) -> list[tuple[str, str]]:
    """Return the name and digest of each file that is published of an artifact: of one in parts not the whole."""
    if not item.parts:
        return [(item.name, item.sha256)]
    whole = f"{item.name}.sha256"
    return [*((part.name, part.sha256) for part in item.parts), (whole, checksums.sha256(os.path.join(folder, whole)))]


def _check_free(output: str, names: Iterable[str]) -> None:
    for path in [os.path.join(output, name) for name in (*names, MANIFEST, CHECKSUMS)]:
        if os.path.isdir(path):
            raise UsageError(f"output-dir: {printable(path)} is a directory", "remove it, or name another output-dir")


def _file_names(item: Artifact) -> list[str]:
    """Return the names of all files that an artifact puts into the folder."""
    return [item.name, *(part.name for part in item.parts), *([f"{item.name}.sha256"] if item.parts else [])]


@contextmanager
def _alone(job: Job, folder: str) -> Iterator[str]:
    """Yield a folder for one artifact beside `folder`; what goes wrong names its model.

    So the state file beside a checkpoint is neither an artifact nor the next checkpoint's.
    """
    signals.obey()
    try:
        with tempfile.TemporaryDirectory(prefix="result-", dir=os.path.dirname(folder)) as alone:
            yield alone
    except TfstripError as error:
        raise UsageError(f"{printable(job.inventory.path)}: {error.cause}", _here(error.remedy)) from None


def _here(remedy: str) -> str:
    """Return what to do in a workflow, where the command has a word for it that the Action has not."""
    for word, instead in (
        ("--import", "the Action has no code of yours: run tfstrip export where that is installed"),
        ("--output-names", "run tfstrip strip with --output-names on it and commit the result, or leave it out"),
    ):
        if word in remedy:
            return instead
    return remedy


def _one(job: Job, alone: str, profile: Profile, prove: proving.Prove) -> tuple[str, Artifact]:
    """Make one artifact in the folder `alone`, from files that do not change meanwhile; return its path too."""
    source, ema, also = job.inventory.path, job.choices.ema, job.choices.also
    sources = files(source)
    seen = replace.stamps("", sources)
    digests = tuple((path, checksums.sha256(path)) for path in sources)
    model, outputs, not_run = os.path.join(alone, job.inside or job.name), None, ""
    if job.to:
        result, outputs = exported(source, model, job.to, ema=ema, also=also)
    else:
        result = strip(source, model, profile=profile, ema=ema, also=also)
    weights = weights_digest(model) if job.to in ("", "saved_model") else None
    built = _pack(model, os.path.join(alone, f"packed{SUFFIX}")) if job.packed else model
    size, digest = os.path.getsize(built), checksums.sha256(built)
    if prove == "outputs" and not job.to:
        outputs, not_run = proving.run(result, model)
        if checksums.sha256(built) != digest:
            raise CannotReplace("running the result changed it", "set prove to bytes, which runs nothing")
    if replace.stamps("", sources) != seen:
        raise CannotReplace("it changed while it was being stripped", "run it again")
    return built, Artifact(job.name, size, digest, digests, result, weights, (), job.inside, job.to, outputs, not_run)


def place(built: str, item: Artifact, folder: str, output: str, form: Form, others: Sequence[Artifact]) -> Artifact:
    """Move the file `built` into `folder` under the name that the form gives it, in parts too where it is too big.

    Raises UsageError where that is the name of a file of one of the `others`.
    """
    source, name = item.origin, form.naming.name(item.name, item.sha256)
    taken = [(other.origin, file) for other in others for file in _file_names(other)]
    distinct([*taken, (source, name)])
    os.rename(built, os.path.join(folder, name))
    parts = split(os.path.join(folder, name), form.part_size) if form.part_size else ()
    if parts:
        distinct([*taken, *((source, file) for file in (name, f"{name}.sha256", *(part.name for part in parts)))])
        _write(folder, f"{name}.sha256", checksums.lines([(name, item.sha256)]))
        for part in parts:
            replace.open_mode(os.path.join(folder, part.name))
    result = with_values(item.result, target=os.path.join(output, name))
    return with_values(item, name=name, result=result, parts=parts)


def _pack(model: str, target: str) -> str:
    """Pack a model of several files: a directory in a folder of its name, a checkpoint with its state file."""
    folder = os.path.dirname(model)
    made = [os.path.join(inner, name) for inner, _, names in os.walk(folder) for name in names]
    pack(made, target, folder)
    replace.open_mode(target)
    return target


def _write(folder: str, name: str, text: str) -> None:
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    replace.open_mode(path)
