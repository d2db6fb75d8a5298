"""What a loader finds in a model: functions with what they take, and the means to run them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from tfstrip_core.running.inputs import Want

Given = Mapping[str, Any]  # arrays by the names of inputs
Run = Callable[[Given], Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Function:
    """One function of a loaded model: `run` takes an array for each of its `wants`, and returns arrays by name.

    `signature` says that the model is served by that name; any other is for code that loads the model, or for training.
    `error` says why it cannot be run at all, `unknown` why not on inputs of our own making.
    """

    name: str
    wants: tuple[Want, ...]
    run: Run
    signature: bool = True
    error: str = ""
    unknown: str = ""
