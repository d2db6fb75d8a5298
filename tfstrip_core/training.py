"""The door for training loops: a Keras callback that saves stripped and proven models."""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Mapping
from typing import Any, Literal

from tfstrip_core.errors import CannotReplace, NeedsChoice, UsageError
from tfstrip_core.inventory import StripResult
from tfstrip_core.plan import Ema, check_ema
from tfstrip_core.reports import text
from tfstrip_core.verbs.save import Format, averaging, check_model, form_of, save

# Of which metrics the name says which way is better; of others the user does.
_HIGH, _LOW = ("acc", "auc"), ("loss", "error", "mse", "mae")


class StrippedCheckpoint:
    """What keras.callbacks.ModelCheckpoint does at the end of epochs, without training state in what it writes.

    `filepath` may hold {epoch} and the names of metrics, such as {val_loss:.2f}; its directory is made, and an older
    file there is replaced. `monitor`, `mode`, `save_best_only`, `initial_value_threshold` and `verbose` are those of
    ModelCheckpoint; `mode="auto"` knows losses, errors, accuracies and AUC, and asks about others. `format`, `ema` and
    `also` are those of `save`: an optimizer that averages the weights needs `ema` before training starts.
    `best` is the best value so far, `result` the StripResult of the last file written.

    What cannot be saved stops `fit` with the TfstripError of `save`, as ModelCheckpoint's errors do; the model keeps
    what it has learnt, and whatever was saved before stays.

    It works in any Keras because it has all the methods that their `fit` calls; it is not a subclass of anybody's
    Callback, as only the model says which Keras it belongs to.
    """

    async_safe = True  # nothing is done between batches

    def __init__(
        self,
        filepath: str | os.PathLike[str],
        monitor: str = "val_loss",
        verbose: int = 0,
        save_best_only: bool = False,
        mode: Literal["auto", "min", "max"] = "auto",
        save_freq: Literal["epoch"] = "epoch",
        initial_value_threshold: float | None = None,
        *,
        format: Format = "",  # noqa: A002 - as Keras calls it
        ema: Ema = "",
        also: Collection[str] = (),
    ) -> None:
        """Raise UsageError for what can be told to be wrong before training starts."""
        self.filepath = os.fsdecode(filepath)
        self.format = form_of(self.filepath, format)
        if save_freq != "epoch":
            raise UsageError(f"it cannot save every {save_freq!r}", 'it saves at the end of epochs: save_freq="epoch"')
        if mode not in ("auto", "min", "max"):
            raise UsageError(f"there is no mode {mode!r}", "say min, max or auto")
        check_ema(ema)
        self.monitor, self.verbose, self.save_best_only = monitor, verbose, save_best_only
        self.sign = _sign(monitor, mode) if save_best_only else 1
        self.best = self.sign * math.inf if initial_value_threshold is None else initial_value_threshold
        self.ema, self.also = ema, also
        self.model: Any = None
        self.params: Mapping[str, Any] = {}
        self.result: StripResult | None = None

    def set_model(self, model: Any) -> None:
        """Take the model that is trained."""
        self.model = model

    def set_params(self, params: Mapping[str, Any]) -> None:
        """Take what fit says of itself."""
        self.params = params

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:  # noqa: ARG002
        """Raise UsageError or NeedsChoice for what the first save would fail on."""
        check_model(self.model)
        if averaging(self.model) and not self.ema:
            raise NeedsChoice(
                "the optimizer averages the weights, and the two differ during training",
                'pass ema="drop" to save the weights as they are, or ema="apply" to save the averages',
            )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Save the model where it is to be saved; `epoch` counts from 0, and from 1 in the path."""
        logs = logs or {}
        value = self._value(logs) if self.save_best_only else self.best
        if self.save_best_only and not self.sign * value < self.sign * self.best:
            if self.verbose:
                print(f"\nEpoch {epoch + 1}: {self.monitor} did not improve from {self.best:.5f}")
            return
        path = self._path(epoch, logs)
        folder = os.path.dirname(os.path.abspath(path))
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise CannotReplace(f"{folder} cannot be made ({error.strerror})", "name another path") from None
        self.result = save(self.model, path, format=self.format, force=True, ema=self.ema, also=self.also)
        if self.verbose:
            better = f" {self.monitor} improved from {self.best:.5f} to {value:.5f}," if self.save_best_only else ""
            print(f"\nEpoch {epoch + 1}:{better} saved {next(text.strip_lines(self.result))}")
        self.best = value

    def _value(self, logs: Mapping[str, Any]) -> float:
        if self.monitor not in logs:
            known = ", ".join(sorted(logs)) or "nothing"
            raise UsageError(f"there is no {self.monitor} to tell the best model by", f"monitor what there is: {known}")
        return float(logs[self.monitor])

    def _path(self, epoch: int, logs: Mapping[str, Any]) -> str:
        try:
            return self.filepath.format(**{**logs, "epoch": epoch + 1})
        except (LookupError, ValueError, TypeError, AttributeError) as error:
            known = ", ".join(["epoch", *sorted(logs)])
            raise UsageError(
                f"the path {self.filepath} cannot be filled in ({error})", f"what there is: {known}"
            ) from None

    def _nothing(self, *_: Any, **__: Any) -> None:
        """Nothing is to be done here."""

    on_batch_begin = on_train_batch_begin = on_test_batch_begin = on_predict_batch_begin = _nothing
    on_batch_end = on_train_batch_end = on_test_batch_end = on_predict_batch_end = _nothing
    on_epoch_begin = on_train_end = _nothing
    on_test_begin = on_test_end = on_predict_begin = on_predict_end = _nothing

    def _no(self) -> bool:
        """Tell Keras 2 that nothing is to be done between batches."""
        return False

    _implements_train_batch_hooks = _implements_test_batch_hooks = _implements_predict_batch_hooks = _no


def _sign(monitor: str, mode: str) -> int:
    """Return 1 where a lower value is better and -1 where a higher one is."""
    if mode == "auto":
        name = monitor.removeprefix("val_")
        mode = "max" if any(word in name for word in _HIGH) else "min" if any(word in name for word in _LOW) else ""
    if not mode:
        raise UsageError(f"whether a higher {monitor} is better is not known", 'say mode="min" or mode="max"')
    return 1 if mode == "min" else -1
