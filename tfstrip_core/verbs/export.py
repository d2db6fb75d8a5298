"""export: a model in another form, without its training state, run beside the original before it is put in place."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tfstrip_core import containers, replace, signals
from tfstrip_core.codecs import saved_model
from tfstrip_core.codecs.protos import saved_model_pb2
from tfstrip_core.containers import HDF5, KERAS_DIRECTORY, KERAS_ZIP, SAVED_MODEL
from tfstrip_core.discover import Found, look
from tfstrip_core.errors import CannotReplace, CannotRun, ProofFailed, Unreadable, UsageError
from tfstrip_core.inventory import ExportResult, Form, Inventory, Outputs
from tfstrip_core.plan import Ema, check_ema
from tfstrip_core.running import child
from tfstrip_core.verbs.inspect import read
from tfstrip_core.verbs.outputs import compare_outputs, never
from tfstrip_core.verbs.strip import NO_ROOM, files, recover, strip

if TYPE_CHECKING:
    from tfstrip_core.codecs.layouts import Layout

# Sums that are taken in another order differ in their last bits; TFLite's kernels take other orders than TensorFlow's.
_TOLERANCES: dict[Form, float] = {"saved_model": 1e-5, "frozen": 1e-5, "tflite": 1e-4}
FORMS = tuple(_TOLERANCES)
_LOADS: dict[Form, str] = {
    "saved_model": "tf.saved_model.load({})",
    "frozen": "tf.saved_model.load({})",
    "tflite": "tf.lite.Interpreter({})",
}
_ENDINGS = (f"{os.sep}saved_model.pb",)
_STRIP = "to strip it nothing of the kind is needed"
_SOURCES = {KERAS_ZIP: ".keras", KERAS_DIRECTORY: ".keras", HDF5: ".h5", SAVED_MODEL: ""}


@dataclass(frozen=True, slots=True)
class _Job:
    """What one export works with: private folders, the user's modules, the source's `size` in bytes."""

    folder: str
    room: str
    imports: tuple[str, ...]
    size: int

    def convert(self, to: Form, source: str, target: str) -> list[str]:
        """Write the form `to` of the model at `source` in a process of its own; return what the user should know."""
        request = {"to": to, "source": source, "target": target, "imports": self.imports, "folder": os.getcwd()}
        limits = child.Limits(seconds=3600, file=(4 << 30) + 4 * self.size)  # Keras 3 stores each weight twice
        said = child.ask("converting", request, self.room, limits)
        notes = said.get("notes")
        return [str(note) for note in notes] if isinstance(notes, list) else []


def export(
    source: str,
    target: str,
    to: Form,
    *,
    imports: Sequence[str] = (),
    force: bool = False,
    ema: Ema = "",
    also: Collection[str] = (),
) -> ExportResult:
    """Write the model at `source` without its training state in the form `to` to `target`, proven by running both.

    "saved_model" is a directory with `serve` and the signatures, "frozen" one with constants in place of variables and
    the graph of its signature in `frozen_graph.pb` besides, "tflite" a file. `imports` are modules with the model's own
    classes, imported in another process, from the current directory or the environment. `ema` and `also` are those of
    `strip`, `force` replaces an older model of the same form. Numbers of the result and of the original may differ by
    the proof's tolerance, relative to the greatest one of the output; integers and texts must be equal.

    Raises UsageError, also without TensorFlow; CannotRun for a model that cannot be loaded or converted; ProofFailed
    where the result gives anything else than the original; and what strip raises. Nothing is written then.
    """
    if to not in _TOLERANCES:
        raise UsageError(f"there is no form {to!r}", f"say one of {', '.join(FORMS)}")
    check_ema(ema)
    recover(source)
    found = look(source)
    inventory = read(found)
    _check_source(found, inventory, to)
    layout = None if to == "tflite" else containers.layout(SAVED_MODEL)
    check_target(found.file, target, layout, ("",) if layout is None else _ENDINGS, force=force)
    child.check_framework()
    try:
        return _export(found, inventory, target, to, tuple(imports), force, ema, also)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise CannotReplace(f"its result cannot be written ({error.strerror})", "make room where it goes") from None
        raise Unreadable(
            f"cannot be read or written ({error.strerror or error})", "check space and permissions"
        ) from None


def _check_source(found: Found, inventory: Inventory, to: Form) -> None:
    """Raise CannotRun for what holds no graph, and for what must not be loaded, as TensorFlow's converters do."""
    if found.kind in (containers.GRAPH, containers.GRAPH_TEXT, containers.META_GRAPH):
        raise CannotRun("a graph without signatures cannot be exported", "export the SavedModel or the Keras file")
    if found.kind == containers.TFJS:
        raise CannotRun("a TensorFlow.js model is not exported here", "export the model that it was made from")
    if found.kind not in _SOURCES or inventory.format in ("keras-weights", "keras-hdf5-weights"):
        raise CannotRun("it holds weights and no graph, so there is nothing to export", "name the whole model")
    why = never(inventory)
    if why and to != "saved_model":
        raise CannotRun(why, "strip it as it is, or export it as saved_model, which is not run then either")


def _export(
    found: Found,
    inventory: Inventory,
    target: str,
    to: Form,
    imports: tuple[str, ...],
    force: bool,
    ema: Ema,
    also: Collection[str],
) -> ExportResult:
    layout = None if to == "tflite" else containers.layout(SAVED_MODEL)
    before = files(found.path)
    seen = replace.stamps("", before)
    place = os.path.abspath(target)
    with child.room() as room, replace.workshop(place) as folder:
        job = _Job(os.path.join(folder, "result.made"), room, imports, replace.total(seen))
        os.mkdir(job.folder)
        small = _stripped(found, job, ema, also)
        built = os.path.join(folder, "result")
        notes = _build(found, small, to, built, job)
        # With its averages for weights the result is another model than the original: what a strip proved is not.
        if to == "frozen":
            _check_graphs(built)
        original = small if ema == "apply" else found.path
        proof = _prove(original, built, imports, 0.0 if to == found.kind.replace("-", "_") else _TOLERANCES[to])
        shutil.rmtree(job.folder)
        if replace.stamps("", before) != seen:
            raise CannotReplace("it changed while it was being exported", "run it again")
        signals.obey()
        endings = ("",) if layout is None else tuple(layout.endings(built))
        for file in replace.every(built, endings):
            replace.open_mode(file)
            replace.flush(file)
        after = replace.total(replace.stamps(built, endings))
        check_target(found.file, target, layout, endings, force=force)
        replace.put(built, place, endings)
    return ExportResult(
        inventory,
        found.path,
        target,
        to,
        replace.total(seen),
        after,
        proof,
        _LOADS[to].format(json.dumps(target)),
        tuple(notes),
    )


def check_target(source: str, target: str, layout: Layout | None, endings: Sequence[str], *, force: bool) -> None:
    """Raise UsageError where an export of the model at `source` must not go to `target`."""
    if layout is None:
        if not os.path.basename(target):
            raise UsageError(f"the target {target} is no file", "name the file to write")
        if os.path.isdir(source) and _lies_in(target, source):
            raise UsageError("the target lies in the source", "name a target elsewhere")
        if os.path.isfile(target) and containers.recognise(target) != "tflite":
            raise UsageError(f"the target {target} exists and is no TFLite model", "name another one")
    replace.check_target(source, target, endings, layout, force)


def _lies_in(target: str, folder: str) -> bool:
    real, inner = os.path.realpath(folder), os.path.realpath(target)
    return os.path.commonpath([real, inner]) == real


def _stripped(found: Found, job: _Job, ema: Ema, also: Collection[str]) -> str:
    """Return the path of the model in the private folder without its training state: that never matters then."""
    if found.kind == SAVED_MODEL:
        small = os.path.join(job.folder, "source")
        strip(found.path, small, profile="serving", ema=ema, also=also)
    elif found.kind == KERAS_DIRECTORY:
        folder, small = os.path.join(job.folder, "unzipped"), os.path.join(job.folder, "source.keras")
        strip(found.path, folder, ema=ema, also=also)
        with zipfile.ZipFile(small, "w") as archive:  # which every Keras opens
            for file in files(folder):
                archive.write(file, os.path.relpath(file, folder))
        shutil.rmtree(folder)
    else:
        small = os.path.join(job.folder, f"source{_SOURCES[found.kind]}")
        strip(found.path, small, ema=ema, also=also)
    return small


def _build(found: Found, small: str, to: Form, built: str, job: _Job) -> list[str]:
    """Write the form `to` of the stripped model to `built`; return what the user should know."""
    saved, notes = small, list[str]()
    if found.kind != SAVED_MODEL:
        written, saved = os.path.join(job.folder, "exported"), os.path.join(job.folder, "saved")
        try:
            notes += job.convert("saved_model", small, written)
        except CannotRun as error:
            raise CannotRun(error.cause, f"{error.remedy}; {_STRIP}") from error
        strip(written, saved)  # which stores each variable once, and gives it a saver that servers can use
    if to == "saved_model":
        shutil.move(saved, built)
    else:
        notes += job.convert(to, saved, built)
    return notes


def _prove(original: str, built: str, imports: Sequence[str], tolerance: float) -> Outputs:
    """Return what ran in both: nothing where the original cannot be run, or draws random numbers; or raise why not."""
    proof = compare_outputs(original, built, imports=imports, tolerance=tolerance)
    if proof.wrong:
        bad = proof.wrong[0]
        if "Flex delegate" in bad.message and bad.state == "failed":  # not in the interpreters of all versions
            raise CannotRun(
                "TFLite has not all of its operations, and this TensorFlow cannot run what needs the Flex delegate, so "
                "that nothing proves the result",
                "export it as saved_model, or a model of Keras 2 with TensorFlow 2.15",
            )
        what = f"{bad.function} under {bad.loader} is {bad.state}" + (f": {bad.message}" if bad.message else "")
        raise ProofFailed(f"the result is another model ({what})", "nothing was written; please report this")
    # What draws random numbers ran, and no two runs of it can be compared: that is told.
    drawn = any(call.outputs for call in proof.calls)
    if not proof.ran and not drawn and compare_outputs(original, original, imports=imports).ran:
        why = next((call.message for call in proof.calls), "nothing was compared")
        raise ProofFailed(f"the original runs, and the result cannot be run beside it ({why})", "nothing was written")
    return proof


def _check_graphs(built: str) -> None:
    """Raise ProofFailed where a graph beside a frozen SavedModel has anything that is not in that, which was run."""
    whole = saved_model.read(built).message.meta_graphs[0].graph_def
    known = {item.SerializeToString(deterministic=True) for item in (*whole.node, *whole.library.function)}
    for name in os.listdir(built):
        if name.startswith("frozen_graph."):
            with open(os.path.join(built, name), "rb") as file:
                graph = saved_model_pb2.Graph.FromString(file.read())
            if not all(
                item.SerializeToString(deterministic=True) in known for item in (*graph.node, *graph.library.function)
            ):
                raise ProofFailed(f"its {name} is another graph", "nothing was written; please report this")
