"""Load one model under one loader and run its functions: the child's side of comparing what two models give.

Of all that a model holds only functions, signatures and Keras's own call are run, and every tensor that comes out is
written as raw bytes. One process does this for one model, so that a crash ends that one alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, BinaryIO

from tfstrip_core.errors import CannotRun
from tfstrip_core.running import values
from tfstrip_core.running.functions import Function, Given, Run
from tfstrip_core.running.inputs import Misfit, Want, attempts, given, pair, wanted
from tfstrip_core.running.worker import first_line

NEEDS = ("tensorflow", "keras")  # imported once for many processes
_SEED = 11


def answer(request: Mapping[str, Any]) -> dict[str, Any]:
    """Run the functions of the model at `path` under `loader`; return what each was given and gave.

    Either `calls` says which, with inputs, as the original was run; or each is run on the user's `arrays`, else on what
    its specification asks for. `wants` runs nothing. Tensors are in the files VALUES of this folder and `values` of the
    request. Each call: {"function", "signature", "wants", "error", "misfit", "steady", "inputs", "outputs", "again"},
    `again` being what an unsteady one gave when it was run once more.
    """
    import tensorflow as tf

    tf.config.threading.set_inter_op_parallelism_threads(1)  # sums in one order
    tf.config.threading.set_intra_op_parallelism_threads(1)
    module, load = _LOADERS[request["loader"]]
    import importlib

    loader: Callable[[Mapping[str, Any]], Iterator[Function]]
    loader = getattr(importlib.import_module(f"tfstrip_core.running.{module}"), load)
    with open(values.NAME, "w+b") as out:
        found = list(loader(request))
        if request.get("wants"):
            return {"calls": [_told(function) for function in found]}
        arrays = _arrays(request.get("values", ""), request.get("arrays", ()))
        if request.get("calls") is None:
            calls = [_first(function, arrays, request.get("fixed") or {}, out) for function in found]
        else:
            calls = [_again(asked, found, request, out) for asked in request["calls"]]
    return {"calls": calls}


_LOADERS = {
    "v2": ("saved_models", "objects"),
    "session": ("saved_models", "signatures"),
    "keras": ("keras_models", "whole"),
    "tflite": ("lite_models", "signatures"),
    "graph": ("graphs", "outputs"),
}


def _arrays(path: str, said: Any) -> dict[str, Any]:
    if not said:
        return {}
    with open(path, "rb") as file:
        found = values.parse(said, os.fstat(file.fileno()).st_size)
        return {value.name: values.read(file, value) for value in found}


def _told(function: Function) -> dict[str, Any]:
    return {
        "function": function.name,
        "signature": function.signature,
        "wants": [{"name": want.name, "dtype": want.dtype, "shape": want.shape} for want in function.wants],
        "error": function.error,
        "misfit": "",
        "steady": True,
        "inputs": [],
        "outputs": [],
        "again": [],
    }


def _first(function: Function, arrays: Given, fixed: Mapping[str, Any], out: BinaryIO) -> dict[str, Any]:
    """Run a function of the original on the first inputs that it takes."""
    told = _told(function)
    if function.error:
        return told
    try:
        mine = given(function.name, function.wants, arrays)
    except Misfit as misfit:
        if function.signature:
            told["misfit"] = str(misfit)
            return told
        mine = None
    try:
        wants = _narrowed(function, fixed)
        for inputs in [mine] if mine is not None else attempts(wants):
            if mine is None and function.unknown:
                told["error"] = function.unknown
                return told
            try:
                return _run(function, inputs, told, out) | {"error": ""}
            except Exception as error:  # noqa: BLE001 - a framework can raise anything
                told["error"] = told["error"] or first_line(error)
    except TypeError as error:
        told["error"] = str(error)
    return told


def _narrowed(function: Function, fixed: Mapping[str, Any]) -> list[Want]:
    """Return what a function takes, with the sizes that it leaves open and another model of it does not."""
    theirs = fixed.get(function.name) or (next(iter(fixed.values())) if len(fixed) == 1 else ())
    found = []
    for want in function.wants:
        alike = [
            one["shape"]
            for one in theirs
            if one["shape"] is not None
            and want.shape is not None
            and len(one["shape"]) == len(want.shape)
            and (one["name"] == want.name or len(theirs) == 1)
        ]
        shape = want.shape
        if shape is not None and alike:
            shape = tuple(b if a is None else a for a, b in zip(shape, alike[0], strict=True))
        found.append(replace(want, shape=shape))
    return found


def _again(
    asked: Mapping[str, Any], found: list[Function], request: Mapping[str, Any], out: BinaryIO
) -> dict[str, Any]:
    """Run a function of the result on what the original took."""
    name = asked["function"]
    function = _counterpart(name, found) if request.get("cross") else next((f for f in found if f.name == name), None)
    if function is None:
        return {**_told(Function(name, (), _no_run)), "error": "", "missing": True}
    told = {**_told(function), "function": name}
    if function.error:
        return told
    try:
        arrays = _arrays(request["values"], asked["inputs"])
        if not request.get("cross") and arrays.keys() != {want.name for want in function.wants}:
            told["misfit"] = f"it takes {wanted(function.wants)} instead of {', '.join(arrays) or 'nothing'}"
            return told
        return _run(function, pair(function.wants, arrays), told, out, twice=not asked["steady"])
    except Misfit as misfit:
        told["misfit"] = str(misfit)
    except Exception as error:  # noqa: BLE001
        told["error"] = first_line(error)
    return told


def _counterpart(name: str, found: list[Function]) -> Function | None:
    """Return what a model of another form calls a function: its name, what it serves by default, or its only one."""
    by_name = {function.name: function for function in found}
    mine = [function for function in found if function.signature]
    if name in by_name or len(mine) == 1:
        return by_name.get(name) or mine[0]
    return by_name.get("serving_default") if name == "model" else None


def _no_run(_: Given) -> Mapping[str, Any]:
    raise CannotRun("there is no such function", "see tfstrip inspect")


def _run(
    function: Function, inputs: Given, told: dict[str, Any], out: BinaryIO, *, twice: bool = True
) -> dict[str, Any]:
    """Run a function, and once more to see whether it gives the same: it may draw random numbers, or count."""
    first = _written(function.run, inputs, out)
    again = _written(function.run, inputs, out) if twice else []
    steady = not twice or (
        [(one.name, one.dtype, one.shape) for one in first] == [(one.name, one.dtype, one.shape) for one in again]
        and all(values.same(out, one, out, other) for one, other in zip(first, again, strict=True))
    )
    if steady and again:
        out.truncate(again[0].at)
        again = []
    taken = [values.add(out, name, array).said() for name, array in inputs.items()]
    outputs, more = ([one.said() for one in several] for several in (first, again))
    return {**told, "steady": steady, "inputs": taken, "outputs": outputs, "again": more}


def _written(run: Run, inputs: Given, out: BinaryIO) -> list[values.Value]:
    import tensorflow as tf

    tf.random.set_seed(_SEED)
    found = run(inputs)
    return [values.add(out, name, array) for name, array in found.items()]
