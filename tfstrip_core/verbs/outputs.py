"""Whether two models give the same on the same inputs: the proof by running both, each in processes of its own."""

from __future__ import annotations

import os
import re
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

from tfstrip_core import containers
from tfstrip_core.discover import look
from tfstrip_core.errors import CannotRun, UsageError, printable
from tfstrip_core.inventory import Call, Finding, Inventory, Outputs
from tfstrip_core.running import child, replies, values
from tfstrip_core.running.child import Limits
from tfstrip_core.running.inputs import wanted
from tfstrip_core.running.replies import Answer, Ran
from tfstrip_core.verbs import output_values
from tfstrip_core.verbs.inspect import read

_TFLITE = "tflite"
# The form that a kind has where it is run, and the loaders for it.
_FORMS = {
    containers.SAVED_MODEL: ("SavedModel", ("v2", "session")),
    containers.KERAS_ZIP: ("Keras model", ("keras",)),
    containers.KERAS_DIRECTORY: ("Keras model", ("keras",)),
    containers.HDF5: ("Keras model", ("keras",)),
    containers.GRAPH: ("graph", ("graph",)),
    containers.GRAPH_TEXT: ("graph", ("graph",)),
    _TFLITE: ("TFLite model", ("tflite",)),
}
_MAX_INPUTS = 4 << 30
_NO_GRAPH = ("holds weights and no graph, so there is nothing to run", "name a whole model")
# What numpy makes of files that are none of its own.
_NO_ARRAYS = (
    OSError, ValueError, AttributeError, TypeError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_NEVER = (
    "reads files", "writes files", "speaks to other machines", "calls Python code that is not in the model",
    "runs a graph that is stored as data",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Side:
    """One of the two models: `never` says why it must not be run, `more` is what else its loader has to know."""

    path: str
    form: str
    loaders: tuple[str, ...]
    never: str = ""
    more: Mapping[str, Any] = field(default_factory=dict)


def compare_outputs(
    original: str,
    result: str,
    *,
    inputs: str = "",
    imports: Sequence[str] = (),
    tolerance: float = 0.0,
    limits: Limits | None = None,
) -> Outputs:
    """Run both models on the same inputs, each in a process of its own for each loader, and compare what they give.

    Two models of one form (SavedModels, whole Keras models) are run by the same loaders, and what they give has the
    same names, dtypes, shapes and bytes. Of two forms, such as a .keras and the SavedModel or .tflite made from it, the
    original's call is compared with what the other serves by default, or alone, paired by name or by the only way that
    fits. Where bytes differ, numbers a of the original and b of the result are "close" if |a - b| <= tolerance * the
    greatest finite |a| of that output, NaN equals NaN. Else they are "different", as integers, bools and strings are.

    `inputs` is an .npz of arrays named by input, by FUNCTION/INPUT, or arr_0, arr_1 and so on in their order; without
    it inputs are made from what the original says that it takes. `imports` are modules with the code of custom
    classes, from the current directory or the environment. `limits` hold for each process.

    What the original cannot do, or must not (read or write files, speak to other machines, call Python code), is
    "skipped".
    Raises UsageError without TensorFlow, for a module that cannot be imported or inputs that do not fit, CannotRun
    where the original has no graph, and what inspect raises.
    """
    child.check_framework()
    before, after = _side(original), _side(result)
    if before.more and after.more:  # two graphs: what is left of the original's outputs
        before = replace(before, more={**before.more, "outputs": after.more["outputs"]})
    with child.room() as room, ExitStack() as stack:
        task = _Task(room, stack, tuple(imports), limits, tolerance, *_arrays(inputs, room))
        why = before.never or after.never
        if why:
            calls = [Call(loader, "", "skipped", why) for loader in before.loaders]
        elif before.form == after.form:
            calls = [call for loader in before.loaders for call in task.same(loader, before, after)]
        else:
            calls = list(task.cross(before, after))
    return Outputs(tuple(calls), tolerance)


def _side(path: str) -> _Side:
    try:
        return _looked(path)
    except CannotRun as error:
        error.path = path
        raise


def _looked(path: str) -> _Side:
    found = look(path)
    if found.kind == _TFLITE:
        return _Side(os.path.abspath(found.file), *_FORMS[_TFLITE], never=output_values.flex_never(found.file))
    inventory = read(found)
    if found.kind == containers.META_GRAPH:
        raise CannotRun("holds a graph whose variables are in no file beside it", "name a SavedModel or a GraphDef")
    if found.kind == containers.TFJS:
        raise CannotRun("a TensorFlow.js model is not run here", "name the model that it was made from")
    if found.kind not in _FORMS or "weights" in inventory.format:
        raise CannotRun(*_NO_GRAPH)
    more = {"outputs": inventory.outputs, "text": found.kind == containers.GRAPH_TEXT}
    form, loaders = _FORMS[found.kind]
    return _Side(os.path.abspath(found.file), form, loaders, never(inventory), more if form == "graph" else {})


def never(inventory: Inventory) -> str:
    """Return why a model must not be run, "" where it may: it reads or writes files, speaks to others, calls code."""
    why = next((printable(one.message) for one in inventory.findings if _is_never(one)), "")
    return why and f"{why}, so it is not run"


def _is_never(finding: Finding) -> bool:
    return finding.rule == "TFS501" and finding.message.endswith(_NEVER)


def _arrays(path: str, room: str) -> tuple[str, tuple[values.Value, ...]]:
    """Write the user's arrays where a process finds them; return the file and what is in it. Raises UsageError."""
    if not path:
        return "", ()
    import numpy as np

    file = os.path.join(room, "inputs")
    try:
        _check_sizes(path)
        with open(path, "rb") as raw, np.load(raw, allow_pickle=False) as stored, open(file, "w+b") as out:
            found = tuple(values.add(out, name, stored[name]) for name in stored.files)
    except _NO_ARRAYS as error:
        raise UsageError(f"--inputs {path}: this is no .npz of arrays ({error})", "write it with numpy.savez") from None
    for value in found:
        if not values.known(value):
            raise UsageError(f"--inputs {path}: {value.name} is of {value.dtype}", "give numbers, bools or strings")
    if not found:
        raise UsageError(f"--inputs {path}: there are no arrays in it", "write it with numpy.savez")
    return file, found


def _check_sizes(path: str) -> None:
    """Raise UsageError for arrays that are too big, or bigger than what is stored of them; else what reading raises."""
    import numpy as np

    form = np.lib.format
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > _MAX_INPUTS:
            raise UsageError(f"--inputs {path}: its arrays are over {_MAX_INPUTS >> 30} GiB", "give smaller ones")
        for member in members:
            with archive.open(member) as raw:
                version = form.read_magic(raw)
                shape, _, dtype = (form.read_array_header_1_0 if version == (1, 0) else form.read_array_header_2_0)(raw)
            if prod(shape) * dtype.itemsize > member.file_size or min(shape, default=0) < 0:
                raise UsageError(f"--inputs {path}: {member.filename} is not all there", "write it with numpy.savez")


@dataclass(frozen=True, slots=True)
class _Task:
    """What holds for every process of one comparison."""

    room: str
    stack: ExitStack
    imports: tuple[str, ...]
    limits: Limits | None
    tolerance: float
    file: str
    arrays: tuple[values.Value, ...]

    def ask(self, side: _Side, loader: str, name: str, **more: Any) -> Answer:
        """Let a process of the name run one side."""
        request = {"path": side.path, "loader": loader, "imports": self.imports, "folder": os.getcwd(), **side.more}
        answer = replies.ask(request | more, os.path.join(self.room, name), self.limits)
        self.stack.callback(answer.file.close)
        return answer

    def original(self, side: _Side, loader: str, **more: Any) -> Answer:
        """Run all that the original can do. Raises UsageError where the user's arrays do not fit."""
        said = [value.said() for value in self.arrays]
        answer = self.ask(side, loader, f"original-{loader}", values=self.file, arrays=said, **more)
        self.check_arrays(answer)
        return answer

    def check_arrays(self, answer: Answer) -> None:
        """Raise UsageError for an array that no function takes."""
        misfit = next((ran.misfit for ran in answer.calls if ran.misfit), "")
        if misfit:
            raise UsageError(f"--inputs does not fit: {misfit}", "give arrays of these names, dtypes and shapes")
        known = {
            name for ran in answer.calls for want in ran.wants for name in (want.name, f"{ran.function}/{want.name}")
        }
        for value in self.arrays:
            if value.name not in known and not re.fullmatch(r"arr_\d+", value.name):
                takes = "; ".join(f"{ran.function} takes {wanted(ran.wants)}" for ran in answer.calls if ran.signature)
                raise UsageError(f"--inputs has {value.name}, which nothing takes", takes or "leave it out")

    def again(self, side: _Side, loader: str, before: Answer, calls: Sequence[Ran], **more: Any) -> Answer:
        """Run the result on what the original took."""
        name = f"result-{loader}"
        path = os.path.join(self.room, f"{name}-inputs")
        asked = []
        with open(path, "wb") as file:
            for ran in calls:
                taken = [values.copy(before.file, value, file).said() for value in ran.inputs]
                asked.append({"function": ran.function, "inputs": taken, "steady": ran.steady})
        return self.ask(side, loader, name, values=path, calls=asked, **more)

    def same(self, loader: str, before: _Side, after: _Side) -> Iterator[Call]:
        """Compare two models of one form under one loader."""
        try:
            answer = self.original(before, loader)
        except CannotRun as error:
            yield Call(loader, "", "skipped", str(error))
            return
        yield from self.compared(loader, after, answer, cross=False)

    def cross(self, before: _Side, after: _Side) -> Iterator[Call]:
        """Compare the original under the first loader that runs it with a model of another form under all of its."""
        reason, fixed = "", {}
        if _TFLITE in after.loaders:  # it may have fixed what is open in the original
            told = self.ask(after, _TFLITE, "sizes", wants=True)
            fixed = {
                ran.function: [{"name": want.name, "shape": want.shape} for want in ran.wants] for ran in told.calls
            }
        for loader in before.loaders:
            try:
                answer = self.original(before, loader, fixed=fixed)
            except CannotRun as error:
                reason = reason or str(error)
                continue
            if any(ran.outputs for ran in answer.calls) or loader == before.loaders[-1]:
                mine = tuple(ran for ran in answer.calls if ran.signature)
                for other in after.loaders:
                    yield from self.compared(other, after, replace(answer, calls=mine), cross=True)
                return
        for loader in after.loaders:
            yield Call(loader, "", "skipped", reason)

    def compared(self, loader: str, after: _Side, answer: Answer, *, cross: bool) -> Iterator[Call]:
        """Run the result on what ran in the original; yield what came of each call."""
        ran = [one for one in answer.calls if not one.error]
        others: Mapping[str, Ran] = {}
        failed = ""
        if ran:
            try:
                other = self.again(after, loader, answer, ran, cross=cross)
                others = {one.function: one for one in other.calls}
            except CannotRun as error:
                failed = str(error)
        if not answer.calls:
            yield Call(loader, "", "skipped", "the original has no function that it runs")
        for one in answer.calls:
            call = Call(loader, one.function, "skipped", one.error)
            if one.error:
                yield call
            elif failed:
                yield replace(call, state="failed", message=failed)
            elif one.function not in others:
                yield replace(call, state="failed", message="the process that ran it did not say what came of it")
            else:
                pair = (answer.file, one), (other.file, others[one.function])
                yield output_values.judged(call, *pair, cross=cross, tolerance=self.tolerance)
