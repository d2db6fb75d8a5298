"""inspect: what a model holds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

from tfstrip_core import containers
from tfstrip_core.discover import Found, discover, look
from tfstrip_core.errors import NotAModel, TfstripError, Unreadable
from tfstrip_core.inventory import Inventory, Verdict


def inspect(path: str) -> Inventory:
    """Return the inventory of the one model at `path`, without loading it and without reading a tensor.

    Raises Unreadable, Refused, Unsupported, Pointer or NotAModel.
    """
    return read(look(path))


def survey(paths: Iterable[str]) -> Iterator[Inventory]:
    """Yield an inventory for each model that the paths name or lead to; a bad file is one with its verdict."""
    for found in discover(paths):
        yield examine(found)


def examine(found: Found) -> Inventory:
    """Return the inventory of one candidate; where there is none, one with the verdict and what to tell the user."""
    try:
        return read(found)
    except TfstripError as error:
        format_ = found.kind if error.verdict != "not-a-model" else ""
        return Inventory(
            found.path,
            format_,
            cast("Verdict", error.verdict),
            message=str(error),
            bytes=_size(found.file),
            notes=found.notes,
        )


def read(found: Found) -> Inventory:
    """Return the inventory of one candidate; raises why there is none."""
    if found.error:
        raise found.error
    if not found.kind:
        raise NotAModel("this is no TensorFlow or Keras model", "name a model, a checkpoint by its prefix, or a folder")
    try:
        inventory = containers.container(found.kind).inventory(found.file)
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})", "check its permissions") from None
    return replace(inventory, path=found.path, notes=(*inventory.notes, *found.notes))


def _size(path: str) -> int:
    try:
        return os.stat(path).st_size if os.path.isfile(path) else 0
    except (OSError, ValueError):
        return 0
