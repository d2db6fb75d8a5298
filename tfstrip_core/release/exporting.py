"""Models in other forms as artifacts: which there are, what they are called, and what can be made of which model."""

from __future__ import annotations

import importlib
import os
from collections.abc import Collection, Sequence

from tfstrip_core.errors import CannotRun, ProofFailed, UsageError, printable
from tfstrip_core.inventory import Inventory, Outputs, Proof, StripResult
from tfstrip_core.plan import Ema
from tfstrip_core.release import proving
from tfstrip_core.release.pack import SUFFIX
from tfstrip_core.verbs.strip import settled

SAME = "same"  # the form that the model has
FORMATS = (SAME, "saved_model", "frozen", "tflite")
# What holds a graph, or says how to build one; all others hold weights alone.
_EXPORTED = ("keras-zip", "keras-directory", "keras-hdf5", "saved-model")
_SHOWN = 5


def check_formats(inventories: Sequence[Inventory], formats: Sequence[str]) -> None:
    """Raise UsageError for models that cannot be had in all these forms."""
    others = [form for form in formats if form != SAME]
    bare = [printable(item.path) for item in inventories if item.format not in _EXPORTED] if others else []
    if bare:
        more = f" and {len(bare) - _SHOWN} more" if len(bare) > _SHOWN else ""
        raise UsageError(
            f"formats: {', '.join(bare[:_SHOWN])}{more} hold weights and no graph, so that nothing can be exported "
            f"as {' or '.join(others)}",
            "release them in a step of their own, with formats: same",
        )


def title(name: str, to: str, *, folder: bool) -> str:
    """Return what the export of a model called `name` is called: of a file its name without its extension counts."""
    stem = name if folder else os.path.splitext(name)[0]
    return f"{stem}.tflite" if to == "tflite" else f"{stem}.{to}{SUFFIX}"


def exported(
    source: str, built: str, to: str, *, ema: Ema = "", also: Collection[str] = ()
) -> tuple[StripResult, Outputs]:
    """Export the model at `source`, stripped, to `built`; return what came of it and what ran.

    Nothing of the result is compared byte by byte, so that what ran is its only proof: raises CannotRun where nothing
    did, and what export raises.
    """
    try:
        done = importlib.import_module("tfstrip_core.verbs.export").export(source, built, to, ema=ema, also=also)
    except (CannotRun, ProofFailed, UsageError) as error:
        raise type(error)(proving.told(error.cause), proving.told(error.remedy)) from None
    inventory = settled(source, also)
    averaged = ema == "apply" and any(finding.rule == "TFS106" for finding in inventory.findings)
    result = StripResult(
        inventory,
        source,
        built,
        done.bytes_before,
        done.bytes_after,
        removed=(),
        kept=(),
        proof=Proof(0, 0),
        changed=True,
        averaged=averaged,
        notes=done.notes,
    )
    outputs, not_run = proving.settled(done.proof)
    if not_run:
        raise CannotRun(
            f"nothing proves its export as {to}, for it could not be run: {not_run}", "leave that format out"
        )
    return result, outputs
