"""tfstrip: save a TensorFlow or Keras model without what only training needs, and prove that nothing else changed.

The verbs are imported when they are first used: importing the package costs nothing.
"""

from __future__ import annotations

from tfstrip_core.errors import (
    CannotReplace,
    CannotRun,
    NeedsChoice,
    NotAModel,
    NothingLeft,
    Pointer,
    ProofFailed,
    Refused,
    TfstripError,
    Unreadable,
    Unsupported,
    UsageError,
)

__version__ = "0.1.0"

__all__ = [
    "CannotReplace",
    "CannotRun",
    "NeedsChoice",
    "NotAModel",
    "NothingLeft",
    "Pointer",
    "ProofFailed",
    "Refused",
    "StrippedCheckpoint",
    "TfstripError",
    "Unreadable",
    "Unsupported",
    "UsageError",
    "check",
    "export",
    "inspect",
    "save",
    "strip",
    "verify",
    "weights_digest",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from tfstrip_core.training import StrippedCheckpoint
    from tfstrip_core.verbs.check import check
    from tfstrip_core.verbs.export import export
    from tfstrip_core.verbs.inspect import inspect
    from tfstrip_core.verbs.save import save
    from tfstrip_core.verbs.strip import strip
    from tfstrip_core.verbs.verify import verify
    from tfstrip_core.verbs.weights_digest import weights_digest


def __getattr__(name: str) -> object:
    if name not in ("StrippedCheckpoint", "check", "export", "inspect", "save", "strip", "verify", "weights_digest"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    home = "training" if name == "StrippedCheckpoint" else f"verbs.{name}"
    return getattr(importlib.import_module(f"tfstrip_core.{home}"), name)
