"""The .keras archive unzipped (Keras 3.4 to 3.15, and on model hubs): the same files in a directory.

The path of the model is that directory; its files are that path with endings.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from tfstrip_core.codecs import hdf5, hdf5_open, jsontext, layouts
from tfstrip_core.codecs.layouts import CONFIG, METADATA, WEIGHTS
from tfstrip_core.codecs.window import file_part
from tfstrip_core.containers.keras import keras_parts
from tfstrip_core.containers.keras.keras_parts import Model
from tfstrip_core.errors import Unreadable
from tfstrip_core.inventory import INFERENCE, Contents, Inventory, Plan, Scope

FORMAT = "keras-directory"


@contextmanager
def _open(path: str) -> Iterator[Model]:
    names = list(layouts.KERAS.files(path))  # first of all: it raises for links that lead out
    if WEIGHTS not in names:
        if layouts.NPZ in names:
            raise keras_parts.pickled()
        raise Unreadable(f"its file {WEIGHTS} is missing", "get a complete copy of the directory")
    config = keras_parts.parse_config(_text(path, CONFIG))
    version = keras_parts.version(_text(path, METADATA)) if METADATA in names else ""
    with ExitStack() as stack:
        file: Any = stack.enter_context(open(os.path.join(path, WEIGHTS), "rb", buffering=0))
        fid = stack.enter_context(hdf5_open.open_file(file))
        yield Model(config, version, file, os.fstat(file.fileno()).st_size, fid, hdf5.scan(fid))


def _text(path: str, name: str) -> bytes:
    with open(os.path.join(path, name), "rb", buffering=0) as file:
        return file.read(jsontext.MAX_BYTES + 1)


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the directory holds, from its metadata alone: no tensor is read.

    Raises Unsupported, Unreadable or Refused.
    """
    with _open(path) as model:
        size = sum(os.stat(path + ending).st_size for ending in endings(path))
        return keras_parts.inventory(path, FORMAT, size, model)


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the directory as comparable parts, valid inside the `with`."""
    with _open(path) as model:
        found = keras_parts.parts(model)
        for name in filter(layouts.KERAS.comes_along, layouts.KERAS.files(path)):
            found["member", name] = file_part(os.path.join(path, name))
        yield found


def endings(path: str) -> tuple[str, ...]:
    """Return what follows the directory in the paths of the model's files, config.json first."""
    return layouts.KERAS.endings(path)


def beside(_path: str, _target: str) -> dict[str, bytes]:
    """Return {}: nothing beside a Keras model names it."""
    return {}


def check_whole(path: str) -> None:
    """Do nothing: the files that Keras writes carry no checksums."""


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write config.json and the weights without what the plan drops to the new directory `target`."""
    os.makedirs(target)
    with _open(path) as model:
        config = keras_parts.rewrite(model, plan, os.path.join(target, WEIGHTS))
    if config is None:
        shutil.copyfile(os.path.join(path, CONFIG), os.path.join(target, CONFIG))
    else:
        with open(os.path.join(target, CONFIG), "xb") as file:
            file.write(config)
    return []
