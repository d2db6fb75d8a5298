"""save() and StrippedCheckpoint without a framework: what they ask of a model, what they say no to, what they leave.

The model here has the class names of Keras 3 and hands out what Keras wrote; real ones are in test_live_models.py.
"""

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import one

import tfstrip_core
from tfstrip_core import CannotReplace, NeedsChoice, StrippedCheckpoint, TfstripError, UsageError

SEQUENTIAL, AVERAGED = one("keras3.15.1", "sequential.keras").path, one("keras3.15.1", "ema_mid_fit.keras").path


class Optimizer:
    use_ema = False
    iterations = 3


class Model:
    """What save() may use of a Keras model."""

    built = True
    weights = (1,)
    source = SEQUENTIAL
    error: Exception | None = None

    def __init__(self) -> None:
        self.optimizer = Optimizer()

    def save(self, path: str) -> None:
        Path(path).write_bytes(b"half of it")
        if self.error:
            raise self.error
        shutil.copy(self.source, path)


Model.__module__ = "keras.src.models.model"


class Mine(Model):
    """A user's subclass, as most models are."""


def left(folder: Path) -> list[str]:
    return sorted(os.listdir(folder))


def test_what_is_written_is_what_strip_makes_of_the_models_own_file(tmp_path: Path) -> None:
    """The bytes are strip's, the result names the path that was asked for, and nothing else is left there."""
    expected = tfstrip_core.strip(SEQUENTIAL, str(tmp_path / "expected.keras"))
    result = tfstrip_core.save(Mine(), tmp_path / "model.keras")
    assert (tmp_path / "model.keras").read_bytes() == (tmp_path / "expected.keras").read_bytes()
    assert left(tmp_path) == ["expected.keras", "model.keras"]
    path = str(tmp_path / "model.keras")
    assert (result.source, result.target, result.inventory.path) == (path, path, path)
    assert (result.removed, result.bytes_before) == (expected.removed, os.path.getsize(SEQUENTIAL))
    assert tfstrip_core.inspect(path).verdict == "clean"


def test_an_older_file_stays_unless_force_is_given(tmp_path: Path) -> None:
    """It is said before the model is asked to write anything."""
    (tmp_path / "model.keras").write_bytes(b"older")
    model = Mine()
    model.error = AssertionError("it was asked to write")
    with pytest.raises(UsageError, match=r"model\.keras exists; name another one, or say force=True$"):
        tfstrip_core.save(model, tmp_path / "model.keras")
    assert (tmp_path / "model.keras").read_bytes() == b"older"
    tfstrip_core.save(Mine(), tmp_path / "model.keras", force=True)
    assert tfstrip_core.inspect(str(tmp_path / "model.keras")).verdict == "clean"


@pytest.mark.parametrize("error", [NotImplementedError("no get_config. See the guide.\nMore."), OSError(28, "Full")])
def test_a_failure_of_keras_is_one_sentence_and_leaves_the_older_file(error: Exception, tmp_path: Path) -> None:
    """Half a file is never put in place, the form that works is named, and Keras's own error is the cause."""
    (tmp_path / "model.keras").write_bytes(b"older")
    model = Mine()
    model.error = error
    with pytest.raises((UsageError, CannotReplace)) as caught:
        tfstrip_core.save(model, tmp_path / "model.keras", force=True)
    assert str(caught.value) in (
        "Keras cannot write this model as .keras (no get_config); save it as a SavedModel",
        "Keras cannot write it (Full); make room where it goes",
    )
    assert caught.value.__cause__ is error
    assert left(tmp_path) == ["model.keras"]
    assert (tmp_path / "model.keras").read_bytes() == b"older"


def test_an_interrupted_save_leaves_nothing(tmp_path: Path) -> None:
    """Ctrl-C while Keras writes goes through, and the private place goes with it."""
    model = Mine()
    model.error = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        tfstrip_core.save(model, tmp_path / "model.keras")
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("model", "path", "words", "sentence"),
    [
        ("model.keras", "x.keras", {}, "a str is no Keras model; pass a keras.Model, and then the path"),
        (Mine, "x.tflite", {}, "x.tflite does not say what to write; end it in .keras, .h5 or"),
        (Mine, "x", {"format": "tf"}, "there is no format 'tf'; say one of keras, h5, weights, saved_model"),
        (Mine, "gone/x.keras", {}, "x.keras does not exist; make it first"),
        (Mine, "gone/x", {}, "x does not exist; make it first"),
        (Mine, "a\0b.keras", {}, "is no path; name one without NUL"),
        (Mine, "", {"format": "keras"}, "is a directory; name the file to write in it"),
        (Mine, "x.keras", {"ema": "maybe"}, "there is no ema 'maybe'; say drop or apply"),
        (Mine, "x.keras", {"profile": "all"}, "there is no profile 'all'; say inference or serving"),
        (Mine, "x.keras", {"also": ["k"]}, "also=k names nothing undecided in this model; see tfstrip inspect"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    model: Any, path: str, words: dict[str, Any], sentence: str, tmp_path: Path
) -> None:
    """Each names what is wrong and the way out, in Python's words, and nothing is written."""
    made = model() if isinstance(model, type) else model
    with pytest.raises(UsageError) as caught:
        tfstrip_core.save(made, tmp_path / path, **words)
    assert sentence in str(caught.value)
    assert left(tmp_path) == []


def test_a_model_without_weights_yet_is_not_saved(tmp_path: Path) -> None:
    """Keras would write a file that loads as an untrained model."""
    model = Mine()
    model.built, model.weights = False, ()  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"^this model has no weights yet; call it on data or build\(\) it"):
        tfstrip_core.save(model, tmp_path / "model.keras")
    model.weights = (1,)  # type: ignore[assignment]  # a GAN is never called itself
    tfstrip_core.save(model, tmp_path / "model.keras")


def test_values_that_jax_holds_are_fetched_first(tmp_path: Path) -> None:
    """In the middle of an epoch the model's own variables are an older state."""
    model: Any = Mine()
    model.source = "not yet"
    model.jax_state_sync = lambda: setattr(model, "source", SEQUENTIAL)
    tfstrip_core.save(model, tmp_path / "model.keras")


def test_averages_are_asked_about_in_pythons_words(tmp_path: Path) -> None:
    """The file has averages that differ: the way out is a keyword, and each of them gives other bytes."""
    model = Mine()
    model.source, model.optimizer.use_ema = AVERAGED, True
    with pytest.raises(NeedsChoice, match=r'say ema="drop" to serve the weights .* or ema="apply" to serve'):
        tfstrip_core.save(model, tmp_path / "model.keras")
    assert left(tmp_path) == []
    tfstrip_core.save(model, tmp_path / "drop.keras", ema="drop")
    assert tfstrip_core.save(model, tmp_path / "apply.keras", ema="apply").averaged
    assert (tmp_path / "drop.keras").read_bytes() != (tmp_path / "apply.keras").read_bytes()


@pytest.mark.parametrize("ema", ["", "apply"])
def test_averages_that_the_file_lacks_are_asked_about_too(ema: Any, tmp_path: Path) -> None:
    """Where Keras leaves the optimizer out, a file cannot tell that the live model has averages: the model can."""
    model = Mine()
    model.source = one("keras3.15.1", "sequential_uncompiled.keras").path
    model.optimizer.use_ema = True
    with pytest.raises(NeedsChoice, match=r"leaves the averages out of \.keras; pass ema=\"drop\""):
        tfstrip_core.save(model, tmp_path / "model.keras", ema=ema)
    assert left(tmp_path) == []
    tfstrip_core.save(model, tmp_path / "model.keras", ema="drop")
    model.optimizer.iterations = 0  # nothing has been averaged yet
    tfstrip_core.save(model, tmp_path / "fresh.keras", ema=ema)


def test_saving_imports_no_framework(tmp_path: Path) -> None:
    """Only the model's own Keras works, whatever else is installed: JAX's users need no TensorFlow."""
    code = (
        "import sys, test_save, tfstrip_core\n"
        f"tfstrip_core.save(test_save.Mine(), {str(tmp_path / 'model.keras')!r})\n"
        f"checkpoint = tfstrip_core.StrippedCheckpoint({str(tmp_path / '{epoch}.keras')!r})\n"
        "checkpoint.set_model(test_save.Mine())\n"
        "checkpoint.on_epoch_end(0)\n"
        "assert not {'tensorflow', 'keras', 'tf_keras', 'jax', 'torch'} & set(sys.modules)\n"
    )
    paths = [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(paths)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, cwd=tmp_path)
    assert left(tmp_path) == ["1.keras", "model.keras"]


# ---------------------------------------------------------------------------------------------------------------------
# The callback


def run(checkpoint: StrippedCheckpoint, values: list[float], name: str = "val_loss") -> list[int]:
    """Call it as fit does; return the epochs after which it had saved."""
    checkpoint.set_model(Mine())
    checkpoint.on_train_begin()
    saved, last = [], None
    for epoch, value in enumerate(values):
        checkpoint.on_epoch_end(epoch, {"loss": 1.0, name: value})
        if checkpoint.result is not last:
            saved.append(epoch)
            last = checkpoint.result
    return saved


NAN = float("nan")


@pytest.mark.parametrize(
    ("words", "values", "epochs"),
    [
        ({}, [3, 4, NAN], [0, 1, 2]),
        ({"save_best_only": True}, [3, 4, 3, 2, NAN, 1], [0, 3, 5]),
        ({"save_best_only": True}, [NAN, 4], [1]),
        ({"save_best_only": True, "mode": "max"}, [3, 4, 4, 2], [0, 1]),
        ({"save_best_only": True, "monitor": "val_accuracy"}, [0.5, 0.4, 0.6], [0, 2]),
        ({"save_best_only": True, "monitor": "val_mae"}, [0.5, 0.4, 0.6], [0, 1]),
        ({"save_best_only": True, "initial_value_threshold": 2.5}, [3, 2, 2.4], [1]),
        ({"save_best_only": True, "monitor": "auc", "initial_value_threshold": 0.5}, [0.4, 0.6], [1]),
    ],
)
def test_it_saves_what_model_checkpoint_would(
    words: dict[str, Any], values: list[float], epochs: list[int], tmp_path: Path
) -> None:
    """At each epoch, or where the monitored value is better than all before, in the direction that it has."""
    checkpoint = StrippedCheckpoint(tmp_path / "best.keras", **words)
    assert run(checkpoint, values, words.get("monitor", "val_loss")) == epochs
    assert left(tmp_path) == ["best.keras"]
    if "save_best_only" in words:
        assert checkpoint.best == values[epochs[-1]]


def test_the_path_is_filled_in_and_its_directory_made(tmp_path: Path) -> None:
    """Epochs count from one there, as ModelCheckpoint has them."""
    run(StrippedCheckpoint(tmp_path / "runs" / "{epoch:02d}-{val_loss:.2f}.keras"), [0.5, 0.25])
    assert left(tmp_path / "runs") == ["01-0.50.keras", "02-0.25.keras"]


def test_it_says_what_it_does_where_it_is_asked_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One line for each epoch with both sizes; nothing without verbose."""
    run(StrippedCheckpoint(tmp_path / "a.keras", save_best_only=True), [0.5])
    assert capsys.readouterr().out == ""
    run(StrippedCheckpoint(tmp_path / "best.keras", save_best_only=True, verbose=1), [0.5, 0.75, 0.25])
    first, second, third = capsys.readouterr().out.strip().split("\n\n")
    sizes = f"{tmp_path / 'best.keras'}: {os.path.getsize(SEQUENTIAL):,} -> "
    assert first.startswith(f"Epoch 1: val_loss improved from inf to 0.50000, saved {sizes}")
    assert second == "Epoch 2: val_loss did not improve from 0.50000"
    assert third.startswith(f"Epoch 3: val_loss improved from 0.50000 to 0.25000, saved {sizes}")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ({"filepath": "x.tflite"}, "does not say what to write"),
        ({"save_freq": 100}, "it cannot save every 100; it saves at the end of epochs"),
        ({"ema": "Apply"}, "there is no ema 'Apply'; say drop or apply"),
        ({"mode": "best"}, "there is no mode 'best'; say min, max or auto"),
        ({"monitor": "val_bleu", "save_best_only": True}, "higher val_bleu is better is not known; say mode="),
    ],
)
def test_what_can_be_told_before_training_is(words: dict[str, Any], sentence: str) -> None:
    """An epoch of training is not lost to a mistake in a word."""
    with pytest.raises(UsageError, match=sentence):
        StrippedCheckpoint(**{"filepath": "x.keras"} | words)


def test_averages_are_asked_about_before_training(tmp_path: Path) -> None:
    """During training averages always differ, so that the first save would ask."""
    checkpoint = StrippedCheckpoint(tmp_path / "x.keras")
    model = Mine()
    model.source, model.optimizer.use_ema = AVERAGED, True
    checkpoint.set_model(model)
    with pytest.raises(NeedsChoice, match="pass ema="):
        checkpoint.on_train_begin()
    checkpoint.ema = "apply"
    checkpoint.on_train_begin()
    checkpoint.on_epoch_end(0, {"loss": 1.0})
    assert checkpoint.result is not None
    assert checkpoint.result.averaged


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            {"save_best_only": True, "monitor": "val_acc"},
            "there is no val_acc .*; monitor what there is: loss, val_loss",
        ),
        ({"filepath": "{val_acc}.keras"}, "cannot be filled in .*; what there is: epoch, loss, val_loss"),
        ({"filepath": "{epoch.x}.keras"}, "cannot be filled in .*; what there is: epoch, loss, val_loss"),
        ({"filepath": "{epoch[0]}.keras"}, "cannot be filled in .*; what there is: epoch, loss, val_loss"),
    ],
)
def test_a_metric_that_is_not_there_stops_the_training(
    words: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ModelCheckpoint warns and saves at every epoch then: nobody's best model."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=sentence):
        run(StrippedCheckpoint(**{"filepath": "x.keras"} | words), [0.5])
    assert left(tmp_path) == []


def test_a_directory_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    """A file is where the directory is to be."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(TfstripError, match=r"runs cannot be made .*; name another path"):
        run(StrippedCheckpoint(tmp_path / "runs" / "x.keras"), [0.5])


def test_a_failure_in_saving_stops_the_training_and_keeps_the_best_so_far(tmp_path: Path) -> None:
    """It is not lost silently: the error goes through, and the last good file is whole."""
    checkpoint = StrippedCheckpoint(tmp_path / "best.keras", save_best_only=True)
    run(checkpoint, [0.5])
    before = (tmp_path / "best.keras").read_bytes()
    checkpoint.model.error = OSError(28, "No space left on device")
    with pytest.raises(TfstripError, match="No space left"):
        checkpoint.on_epoch_end(1, {"val_loss": 0.25})
    assert (tmp_path / "best.keras").read_bytes() == before
    assert checkpoint.best == 0.5


def test_every_argument_is_documented() -> None:
    """What a user can pass is in the docstring."""
    for thing in (tfstrip_core.save, StrippedCheckpoint):
        for name in inspect.signature(thing).parameters:
            assert f"`{name}`" in (thing.__doc__ or "") or name in ("model", "save_freq"), (thing, name)
