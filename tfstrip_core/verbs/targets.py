"""Where a strip's result may go: what the target may be called, and whose files may be there already."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tfstrip_core import beside, containers, replace
from tfstrip_core.discover import Found, look
from tfstrip_core.errors import TfstripError, UsageError

if TYPE_CHECKING:
    from tfstrip_core.containers import Container

# What loaders expect in files of these names, the longest first.
_ENDINGS = {
    ".weights.h5": ("keras-weights", "keras-hdf5-weights", "keras-hdf5"),
    ".keras": ("keras-zip", "keras-hdf5"),
    ".hdf5": ("keras-hdf5", "keras-hdf5-weights", "keras-weights"),
    ".h5": ("keras-hdf5", "keras-hdf5-weights", "keras-weights"),
}


def check_name(found: Found, target: str) -> None:
    """Raise UsageError where a target is the name of no file, or of a checkpoint's files and not of the checkpoint."""
    named = containers.map_ending(found.kind)
    if found.kind == containers.TFJS and os.path.isdir(target):
        inside = os.path.join(target, os.path.basename(found.file))
        raise UsageError(f"the target {target} is a directory", f"name the JSON file to write, such as {inside}")
    if found.kind == containers.KERAS_DIRECTORY and target.rstrip(os.sep).endswith(".keras"):
        cause = f"the target {target} would be a directory, and Keras opens none of that name"
        raise UsageError(cause, "name it otherwise: nothing is converted")
    if containers.layout(found.kind):
        return  # a directory it is

    several = found.kind in (containers.CHECKPOINT, containers.TABLE)
    what = "prefix" if found.kind == containers.CHECKPOINT else "file"
    if target.endswith(("/", os.sep)):
        name = (os.path.basename(found.file) or "model") + named
        raise UsageError(f"the target {target} is a directory", f"name the {what} to write, such as {target}{name}")
    if not target.endswith(named):
        raise UsageError(f"the target {target} is not called NAME{named}, as it must be", f"say -o {target}{named}")
    prefix = beside.without_ending(target)
    if several and prefix != target and os.path.basename(target) != os.path.basename(found.file):
        raise UsageError(f"the target {target} is called like a file of a checkpoint", f"name its prefix: -o {prefix}")
    # They would hide each other. With --force too: what it replaces is of the source's own form.
    other = f"{target}.index" if found.kind == containers.TABLE else target
    if several and os.path.isfile(other) and containers.recognise(other) == containers.TABLE:
        version = "first" if found.kind == containers.CHECKPOINT else "second"
        raise UsageError(
            f"the target has the name of {other}, a checkpoint of the format's {version} version",
            "remove that first, or name another target",
        )


def renamed(found: Found, destination: str, endings: tuple[str, ...]) -> tuple[str, ...]:
    """Return the endings that a result may have: a file with a name of its own takes its name from the target."""
    own_names = containers.place(found.kind, found.file) != found.file
    return (os.path.basename(destination), *endings[1:]) if own_names else endings


def check_folder(found: Found, destination: str, every: Sequence[str]) -> None:
    """Raise UsageError where files with names of their own would take the place of some that are not the target's."""
    here, there = (containers.place(found.kind, file) for file in (found.file, destination))
    if here == found.file:
        return
    if os.path.realpath(here) == os.path.realpath(there) and not os.path.lexists(destination) and every[1:]:
        cause = "its files of weights would take the place of the source's"
        raise UsageError(cause, "name a target in another folder, or use --in-place")
    with suppress(OSError):  # what a killed run left to do there is done first, or its files look like somebody else's
        replace.recover(destination)
    old = old_endings(containers.container(found.kind), destination) if os.path.isfile(destination) else ()
    for ending in every[1:]:
        if os.path.lexists(there + ending) and ending not in old:
            cause = f"the target's folder has a file {ending} already, which is not of the model at the target"
            raise UsageError(cause, "name a target in another folder")
    if old:
        check_others(look(destination), old)


def check_others(found: Found, every: Sequence[str]) -> None:
    """Raise UsageError where another model beside this one has some of its files, and would lose what goes."""
    here = containers.place(found.kind, found.file)
    if here == found.file:
        return
    folder, name, listed = os.path.dirname(found.file), os.path.basename(found.file), beside.Listed()
    others = {other for file in every[1:] for other in beside.models_with(folder, file, listed)} - {name}
    if others:
        cause = f"{beside.some(sorted(others))} beside it has the same files of weights"
        raise UsageError(cause, "write to another folder with -o")


def misnamed(format_: str, target: str) -> list[str]:
    """Return what to say of a target with the name of another format: nothing is converted."""
    name = target.rstrip(os.sep).lower()
    ending = next((known for known in _ENDINGS if name.endswith(known)), "")
    if not ending or format_ in _ENDINGS[ending]:
        return []
    return [f"it is called {ending} and its format is {format_}, as the source's is: loaders may go by the name"]


def old_endings(container: Container, target: str) -> tuple[str, ...]:
    """Return the endings of an older model at the target, whose files must not stay beside the new ones."""
    try:
        return container.endings(target)
    except (TfstripError, OSError):
        return ()
