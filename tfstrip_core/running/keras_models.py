"""Whole Keras models, loaded by the Keras at hand in a process of its own: nothing in them is trusted."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from typing import Any

from tfstrip_core.errors import CannotRun


def load(path: str, imports: Sequence[str], folders: Sequence[str]) -> Any:
    """Return the whole Keras model at `path`, loaded in safe mode and not compiled.

    `imports` are the user's modules, which are imported first; `folders` are where they are looked for before the
    environment. Their classes and functions are found by name, registered or not. Raises CannotRun.
    """
    known = _imported(imports, folders)
    import tensorflow as tf

    keras = tf.keras
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True, custom_objects=known)
    except Exception as error:
        raise _told(error) from error


def _imported(imports: Sequence[str], folders: Sequence[str]) -> dict[str, Any]:
    known: dict[str, Any] = {}
    sys.path[:0] = folders
    for name in imports:
        try:
            module = importlib.import_module(name)
        except ModuleNotFoundError as error:
            remedy = "run from the directory that holds it, or install what it needs"
            raise CannotRun(f"the module {name} cannot be imported ({error})", remedy) from error
        except Exception as error:
            cause = f"the module {name} cannot be imported ({_first(error)})"
            raise CannotRun(cause, "see that it imports in Python by itself") from error
        package = name.partition(".")[0]
        known |= {
            key: value
            for key, value in vars(module).items()
            if callable(value) and str(getattr(value, "__module__", "")).partition(".")[0] == package
        }
    return known


def _told(error: Exception) -> CannotRun:
    """Return what is the matter with a model that Keras does not load, and the way out, in one sentence."""
    said = str(error)
    if "unsafe_deserialization" in said or "safe_mode=False" in said or "disallowed by default" in said:
        return CannotRun(
            "it holds a Lambda layer, whose code is in the file and is not run",
            "write the layer as a class in a module and save the model with that",
        )
    for before, after in (
        ("Could not locate class '", "'"),
        ("Could not locate function '", "'"),
        ("Unknown layer: '", "'"),
    ):
        if before in said:
            name = said.split(before, 1)[1].partition(after)[0]
            return CannotRun(f"its code is absent: {name} is no class of Keras", "name the module with --import MODULE")
    return CannotRun(f"Keras cannot load it ({_first(error)})", "see that it loads in Keras by itself")


def _first(error: Exception) -> str:
    from tfstrip_core.running.worker import first_line

    return first_line(error)
