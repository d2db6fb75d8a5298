"""What running a result beside its original proves of it, in words that can be published.

What a framework says, and what a process that ran a model hands back, is as hostile as the model.
"""

from __future__ import annotations

import importlib
import math
import re
from collections.abc import Iterable
from dataclasses import replace as with_values
from typing import Literal

from tfstrip_core.errors import CannotRun, ProofFailed, UsageError, printable
from tfstrip_core.inventory import Artifact, Call, Outputs, StripResult

Prove = Literal["outputs", "bytes"]
MOST_CALLS = 200  # told one by one; of more there is a sum
MOST_WORDS = 300
# What differs from one machine or one run to the next: absolute paths, and addresses in memory.
_PATH = re.compile(r"(?<![\w./{}])/(?:[\w.@+~-]+/)+[\w.@+~-]*")
_ADDRESS = re.compile(r"\b0x[0-9a-fA-F]{6,}")
# A way out that the command has and the Action has not.
_IMPORT = re.compile(r"name (?:its|the) module: --import [\w.]+")
# What a framework says, after the kind of its error, and what a process printed last: a model chooses these words.
_SAID = re.compile(r"(\b\w*[A-Z]\w*|\b(?:error|timeout)|ended (?:with code|by) [\w-]+): .*", re.DOTALL)
_AVERAGES = "its weights are their averages now, so that it has to give something else than the original"


def run(result: StripResult, built: str) -> tuple[Outputs, str]:
    """Return what the stripped model at `built` gives beside its original, and why nothing ran where nothing did.

    Raises ProofFailed where it shows another model, UsageError without TensorFlow.
    """
    if result.averaged:
        return Outputs(()), _AVERAGES
    try:
        # Imported where models are run only.
        outputs = importlib.import_module("tfstrip_core.verbs.outputs").compare_outputs(result.source, built)
    except CannotRun as error:
        return Outputs(()), told(error.cause)
    except UsageError as error:
        raise UsageError(told(error.cause), told(error.remedy)) from None
    return settled(outputs)


def settled(outputs: Outputs) -> tuple[Outputs, str]:
    """Return what ran, as it can be published, and why nothing did where nothing did; raise ProofFailed if it is wrong.

    A difference that is no number is wrong too.
    """
    wrong = [*outputs.wrong, *(call for call in outputs.ran if not math.isfinite(call.difference))]
    if wrong:
        first = _told(wrong[0])
        what = f"{first.state} in {first.function} ({first.loader})" + (f": {first.message}" if first.message else "")
        more = f", and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise ProofFailed(
            f"the result is another model than the original when both run: {what}{more}",
            "nothing was published; please report this",
        )
    calls = [_told(call) for call in outputs.calls]
    shown = Outputs(tuple(calls if len(calls) <= MOST_CALLS else _summed(calls)), outputs.tolerance)
    if shown.ran:
        return shown, ""
    return shown, next((call.message for call in calls if call.message), "nothing in it could be run")


def told(words: str) -> str:
    """Return words of ours as they can be published: at most 300 visible characters, nothing of this run or machine.

    Of a framework's, "InvalidArgumentError: text", the kind of error stays: the text can hold what the model read.
    """
    plain = _ADDRESS.sub("0x...", _PATH.sub("...", printable(words[: 10 * MOST_WORDS])))
    plain = _IMPORT.sub("the Action has no code of yours", plain)
    said = _SAID.search(plain)
    shown = plain[: said.end(1)] if said else plain
    return (shown + ")" * (said is not None and shown.count("(") > shown.count(")")))[:MOST_WORDS]


def _told(call: Call) -> Call:
    difference = call.difference if math.isfinite(call.difference) else 0.0
    loader, function, message = map(told, (call.loader, call.function, call.message))
    return with_values(call, loader=loader, function=function, message=message, difference=float(difference))


def _summed(calls: Iterable[Call]) -> list[Call]:
    """Return one call for all of a loader's that came out alike."""
    sums: dict[tuple[str, str], Call] = {}
    counts: dict[tuple[str, str], int] = {}
    for call in calls:
        key = call.loader, call.state
        before = sums.setdefault(key, with_values(call, outputs=0, bytes=0, difference=0.0))
        counts[key] = counts.get(key, 0) + 1
        sums[key] = with_values(
            before,
            function=f"{counts[key]} functions",
            outputs=before.outputs + call.outputs,
            bytes=before.bytes + call.bytes,
            difference=max(before.difference, call.difference),
        )
    return list(sums.values())[:MOST_CALLS]


def not_run(artifacts: Iterable[Artifact]) -> dict[str, str]:
    """Return each model that could not be run beside what was made of it, by its path, and why."""
    return {artifact.result.source: artifact.not_run for artifact in artifacts if artifact.not_run}
