"""save: a live Keras model to a file without what only training needs.

Keras writes it into a private place beside the target, as it would for its user, and `strip` makes the proven result of
that. Everything is asked of the model itself, so that its own Keras answers, whichever others are installed: nothing
here imports a framework.
"""

from __future__ import annotations

import inspect as signatures
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass
from dataclasses import replace as with_values
from typing import Any, Literal, cast

from tfstrip_core import containers, replace
from tfstrip_core.errors import CannotReplace, NeedsChoice, TfstripError, UsageError
from tfstrip_core.inventory import Profile, StripResult
from tfstrip_core.plan import Ema
from tfstrip_core.verbs.inspect import inspect
from tfstrip_core.verbs.strip import strip

Format = Literal["", "keras", "h5", "weights", "saved_model"]


@dataclass(frozen=True, slots=True)
class _Form:
    """A form of file: `ending` is how Keras tells what to write, `instead` the way out where it cannot write it."""

    what: str
    ending: str
    write: Callable[[Any, str], None]
    instead: str


def _write_model(model: Any, path: str) -> None:
    model.save(path)


def _write_weights(model: Any, path: str) -> None:
    model.save_weights(path)


def _write_saved_model(model: Any, path: str) -> None:
    """Write what TensorFlow Serving takes: Keras 3 has `export` for that, and Keras 2 loads what its `save` writes."""
    if _keras(model) == 2:
        model.save(path, save_format="tf")
    elif "verbose" in signatures.signature(model.export).parameters:
        model.export(path, verbose=False)  # it would name the private place
    else:
        model.export(path)


_FORMS = {
    "keras": _Form(".keras", ".keras", _write_model, "save it as a SavedModel"),
    "h5": _Form("HDF5", ".h5", _write_model, "save it as .keras"),
    "weights": _Form("weights", ".weights.h5", _write_weights, "save it as .keras"),
    "saved_model": _Form(
        "a SavedModel", "", _write_saved_model, "save it as .keras, or call it on data first if it never was"
    ),
}

# What the command calls things, and what it is here.
_WORDS = {
    "--ema drop": 'ema="drop"',
    "--ema apply": 'ema="apply"',
    "--force": "force=True",
    "--also ": "also=",
    " with -o": "",
}


def save(
    model: Any,
    path: str | os.PathLike[str],
    *,
    format: Format = "",  # noqa: A002 - as Keras calls it
    force: bool = False,
    profile: Profile = "inference",
    ema: Ema = "",
    also: Collection[str] = (),
) -> StripResult:
    """Write a built Keras model without its training state to `path`; the live model trains on as if nothing was.

    The form follows from the path: `.keras`, `.h5` or `.hdf5`, `.weights.h5` for the weights alone, and a SavedModel
    directory where there is no extension; or from `format`: "keras", "h5", "weights" or "saved_model". A SavedModel is
    what Keras 3 writes with `export`, for inference, and Keras 2 with `save`, so that its `load_model` takes it.
    An older result stays unless `force` is given. `ema`, `also` and `profile` are those of `strip`: where the optimizer
    averages the weights, `ema` says which of the two are served. Sizes in the result are in bytes; its `bytes_before`
    is what Keras alone would have written.

    Raises UsageError for what is no built Keras model, for a path that is taken or lies nowhere, and where Keras cannot
    write the form (its own error is the cause); NeedsChoice for averages, CannotReplace, ProofFailed, and what strip
    raises. Nothing is written then.
    """
    target = os.fsdecode(path)
    form = _FORMS[form_of(target, format)]
    check_model(model)
    if hasattr(model, "jax_state_sync"):
        model.jax_state_sync()  # within fit JAX's values are elsewhere: as Keras's own callbacks ask for them
    if not model.built and not _has_weights(model):
        raise UsageError("this model has no weights yet", "call it on data or build() it with an input shape first")
    try:
        # Before Keras writes gigabytes; strip looks again.
        beside = os.path.join(os.path.dirname(os.path.abspath(target)), replace.PREFIX)
        endings = ("",) if form.ending else (f"{os.sep}saved_model.pb",)
        layout = None if form.ending else containers.layout(containers.SAVED_MODEL)
        replace.check_target(beside, target, endings, layout, force)
        with replace.workshop(target) as folder:
            built = os.path.join(folder, f"result{form.ending}")
            _write(model, form, built)
            _check_averages(model, form, built, ema)
            result = strip(built, target, force=force, profile=profile, ema=ema, also=also)
    except TfstripError as error:
        for word, here in _WORDS.items():
            error.cause, error.remedy = error.cause.replace(word, here), error.remedy.replace(word, here)
        raise
    inventory = with_values(result.inventory, path=target)
    return with_values(result, inventory=inventory, source=target, target=target)


def form_of(path: str, format: str) -> Format:  # noqa: A002 - as above
    """Return the form that a path or the word for it asks for; raises UsageError where that is none."""
    if format:
        if format not in _FORMS:
            raise UsageError(f"there is no format {format!r}", f"say one of {', '.join(_FORMS)}")
        return cast("Format", format)
    name = os.path.basename(path.rstrip(os.sep)).lower()
    extension = os.path.splitext(name)[1]
    known: dict[str, Format] = {"": "saved_model", ".keras": "keras", ".h5": "h5", ".hdf5": "h5"}
    if name.endswith(".weights.h5"):
        return "weights"
    if extension not in known:
        raise UsageError(
            f"{path} does not say what to write",
            "end it in .keras, .h5 or .weights.h5, or in nothing for a SavedModel, or say format=",
        )
    return known[extension]


def check_model(model: object) -> None:
    """Raise UsageError for what is no Keras model."""
    if not _keras(model):
        raise UsageError(f"a {type(model).__name__} is no Keras model", "pass a keras.Model, and then the path")


def averaging(model: Any) -> list[Any]:
    """Return the model's optimizers that average its weights (use_ema=True): its own, or what that one wraps."""
    optimizer = getattr(model, "optimizer", None)
    return [one for one in (optimizer, getattr(optimizer, "inner_optimizer", None)) if getattr(one, "use_ema", False)]


def _keras(model: object) -> int:
    """Return the generation of Keras, 2 or 3, that a model's class comes from; 0 for what is no model."""
    for kind in type(model).__mro__:
        root, _, rest = kind.__module__.partition(".")
        if kind.__name__ == "Model" and root in ("keras", "tf_keras", "tensorflow"):
            return 2 if rest.endswith("engine.training") else 3
    return 0


def _has_weights(model: Any) -> bool:
    with suppress(ValueError):  # a Sequential model of Keras 2 that does not know its input
        return bool(model.weights)
    return False


def _write(model: Any, form: _Form, built: str) -> None:
    try:
        form.write(model, built)
    except OSError as error:
        reason = error.strerror or str(error)
        raise CannotReplace(f"Keras cannot write it ({reason})", "make room where it goes") from error
    except Exception as error:
        # Keras explains at length; all of it is in the cause.
        reason = str(error).strip().partition("\n")[0].partition(". ")[0].rstrip(".") or type(error).__name__
        raise UsageError(f"Keras cannot write this model as {form.what} ({reason})", form.instead) from error


def _check_averages(model: Any, form: _Form, built: str, ema: Ema) -> None:
    """Raise NeedsChoice where the optimizer averages and Keras leaves its state out of the form: strip cannot ask."""
    if ema == "drop" or not any(int(one.iterations) for one in averaging(model)):
        return
    if not any(finding.rule in ("TFS101", "TFS106", "TFS107", "TFS108") for finding in inspect(built).findings):
        raise NeedsChoice(
            f"its optimizer averages the weights, and Keras leaves the averages out of {form.what}",
            'pass ema="drop" to serve the weights as they are, or save it as .keras',
        )
