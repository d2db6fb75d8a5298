"""Live models of the Keras at hand: what save() and StrippedCheckpoint write is theirs, and they never notice.

Every claim is made by a twin, of the same seed and the same steps, that was never saved.
"""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras_run
import numpy as np
import pytest
from conftest import E2E

import tfstrip_core

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]

keras = keras_run.framework()
layers = keras.layers
X = np.random.default_rng(0).normal(size=(48, 4)).astype("float32")
Y = X.sum(axis=1, keepdims=True)
FORMS = ("model.keras", "model.h5", "model")
EMA = {"use_ema": True, "ema_momentum": 0.9}


@keras_run.framework().utils.register_keras_serializable(package="live")
class Subclassed(keras.Model):
    """Layers wired in code, dropout among them."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.hidden = layers.Dense(16, activation="relu")
        self.dropout = layers.Dropout(0.5)
        self.out = layers.Dense(1)

    def call(self, x: Any, training: bool = False) -> Any:
        return self.out(self.dropout(self.hidden(x), training=training))


def sequential() -> Any:
    # Batch normalisation has weights that are not trained and that training changes.
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(16, activation="relu"), layers.BatchNormalization(), layers.Dense(1)]
    )


def functional() -> Any:
    given = keras.Input((4,))
    hidden = layers.Dropout(0.5)(layers.Dense(16, activation="relu")(given))
    return keras.Model(given, layers.Dense(1)(hidden))


KINDS: dict[str, Callable[[], Any]] = {"sequential": sequential, "functional": functional, "subclassed": Subclassed}


def trained(kind: str, run_eagerly: bool = True, **optimizer: Any) -> Any:
    """Return a compiled model after some steps, the same each time; averages are not applied, as in mid-training."""
    keras.utils.set_random_seed(1)
    model = KINDS[kind]()
    model.compile(
        optimizer=keras.optimizers.Adam(0.01, **optimizer), loss="mse", metrics=["mae"], run_eagerly=run_eagerly
    )
    for _ in range(2):
        model.train_on_batch(X, Y)
    return model


def state(model: Any) -> list[bytes]:
    """The bytes of all weights, of all that the optimizer holds, and of all that the metrics do."""
    held = model.optimizer.variables
    held = [*model.weights, *(held() if callable(held) else held)]
    held += [variable for metric in model.metrics for variable in metric.variables]
    return [variable.numpy().tobytes() for variable in held]


def predicted(model: Any) -> np.ndarray:
    return np.asarray(model(X, training=False))


def served(path: Path, loader: str) -> bytes:
    """The output of a SavedModel's signature under one of TensorFlow's loaders."""
    import tensorflow as tf

    if loader == "v2":
        (output,) = tf.saved_model.load(str(path)).signatures["serving_default"](tf.constant(X)).values()
        return np.asarray(output).tobytes()
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        meta = tf.compat.v1.saved_model.load(session, ["serve"], str(path))
        signature = meta.signature_def["serving_default"]
        (given,), (output,) = signature.inputs.values(), signature.outputs.values()
        return np.asarray(session.run(output.name, {given.name: X})).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_trains_on_as_if_nothing_was(kind: str, tmp_path: Path) -> None:
    """Weights, optimizer, metrics and the next steps' losses are bit-equal to those of a twin that was never saved."""
    model, twin = trained(kind, run_eagerly=False), trained(kind, run_eagerly=False)
    assert state(model) == state(twin)
    before = state(model)
    for form in FORMS:
        if (kind, form, keras_run.major()) == ("subclassed", "model.h5", 2):
            continue  # Keras 2 cannot: see the test of it
        tfstrip_core.save(model, tmp_path / form)
        assert state(model) == before, form
    losses = []
    for one in (model, twin):
        keras.utils.set_random_seed(2)
        losses.append([one.train_on_batch(X, Y) for _ in range(2)])
    assert losses[0] == losses[1]
    assert state(model) == state(twin)
    assert state(model) != before


@pytest.mark.parametrize("form", ["model.keras", "model.h5"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_keras_file_is_stripped_and_predicts_the_models_bytes(kind: str, form: str, tmp_path: Path) -> None:
    """The optimizer is gone, every weight of the live model is there, and what loads computes the same bytes."""
    if (kind, form, keras_run.major()) == ("subclassed", "model.h5", 2):
        with pytest.raises(
            tfstrip_core.UsageError, match=r"^Keras cannot write this model as HDF5 \(Saving the .* model"
        ):
            tfstrip_core.save(trained(kind), tmp_path / form)
        assert not list(tmp_path.iterdir())
        return
    model = trained(kind)
    result = tfstrip_core.save(model, tmp_path / form)
    # Four weights, or eight with a layer's statistics; Adam has two slots for each that is trained.
    slots = sum(2 * int(np.prod(weight.shape)) * 4 for weight in model.trainable_weights)
    assert sum(item.bytes for item in result.removed if item.rule == "TFS101") >= slots
    assert result.proof.kept_tensors >= len(model.weights)
    assert tfstrip_core.inspect(str(tmp_path / form)).verdict == "clean"
    if (kind, form) == ("subclassed", "model.h5"):  # Keras 3 reads its weights only: it does not know the input's shape
        loaded = Subclassed()
        loaded(X)
        loaded.load_weights(str(tmp_path / form))
    else:
        classes = {"Subclassed": Subclassed}
        loaded = keras.models.load_model(str(tmp_path / form), compile=False, custom_objects=classes)
    assert predicted(loaded).tobytes() == predicted(model).tobytes()
    assert [w.numpy().tobytes() for w in loaded.weights] == [w.numpy().tobytes() for w in model.weights]


@pytest.mark.parametrize("kind", KINDS)
def test_the_weights_alone_are_stripped_of_the_optimizer(kind: str, tmp_path: Path) -> None:
    """A fresh model that loads them predicts the same bytes."""
    model = trained(kind)
    tfstrip_core.save(model, tmp_path / "model.weights.h5")
    fresh = KINDS[kind]()
    assert predicted(fresh).tobytes() != predicted(model).tobytes()
    fresh.load_weights(str(tmp_path / "model.weights.h5"))
    assert predicted(fresh).tobytes() == predicted(model).tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_serves_the_models_outputs_under_both_loaders(kind: str, tmp_path: Path) -> None:
    """Stripped it is clean and much smaller, and gives the bytes of what Keras wrote and the live model's outputs."""
    model = trained(kind)
    original = tmp_path / "original"
    if keras_run.major() == 2:
        model.save(str(original), save_format="tf")
    else:
        model.export(str(original), verbose=False)
    result = tfstrip_core.save(model, tmp_path / "model")
    assert result.removed
    assert result.bytes_after < 0.6 * result.bytes_before
    assert tfstrip_core.inspect(str(tmp_path / "model")).verdict == "clean"
    for loader in ("v2", "session"):
        output = served(tmp_path / "model", loader)
        assert output == served(original, loader)
        np.testing.assert_allclose(
            np.frombuffer(output, "float32").reshape(-1, 1), predicted(model), rtol=1e-5, atol=1e-6
        )
    if keras_run.major() == 2:
        loaded = keras.models.load_model(str(tmp_path / "model"), compile=False)
        assert predicted(loaded).tobytes() == predicted(model).tobytes()


def test_a_saved_model_replaces_an_older_one_when_it_may(tmp_path: Path) -> None:
    """As everywhere: not without force."""
    model = trained("functional")
    tfstrip_core.save(model, tmp_path / "model")
    with pytest.raises(tfstrip_core.UsageError, match="exists; name another one, or say force=True"):
        tfstrip_core.save(model, tmp_path / "model")
    model.train_on_batch(X, Y)
    before = served(tmp_path / "model", "v2")
    tfstrip_core.save(model, tmp_path / "model", force=True)
    assert served(tmp_path / "model", "v2") != before
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("form", FORMS)
def test_averages_that_differ_are_asked_about_and_can_be_applied(form: str, tmp_path: Path) -> None:
    """In mid-training the optimizer's averages are other weights: nothing is written before somebody chose."""
    model = trained("functional", **EMA)
    with pytest.raises(tfstrip_core.NeedsChoice, match='ema="drop"'):
        tfstrip_core.save(model, tmp_path / form)
    assert not list(tmp_path.iterdir())
    tfstrip_core.save(model, tmp_path / form, ema="drop")
    if form == "model":
        np.testing.assert_allclose(
            np.frombuffer(served(tmp_path / form, "v2"), "float32").reshape(-1, 1),
            predicted(model),
            rtol=1e-5,
            atol=1e-6,
        )
        return
    loaded = keras.models.load_model(str(tmp_path / form), compile=False)
    assert predicted(loaded).tobytes() == predicted(model).tobytes()
    before = state(model)
    result = tfstrip_core.save(model, tmp_path / form, ema="apply", force=True)
    assert result.averaged
    assert state(model) == before
    averaged = keras.models.load_model(str(tmp_path / form), compile=False)
    model.optimizer.finalize_variable_values(model.trainable_variables)  # what fit does at its end
    assert predicted(averaged).tobytes() == predicted(model).tobytes() != predicted(loaded).tobytes()
    tfstrip_core.save(model, tmp_path / form, force=True)  # they are the weights now: nothing to ask


@pytest.mark.parametrize("make", [Subclassed, lambda: keras.Sequential([layers.Dense(2)])])
@pytest.mark.parametrize("form", FORMS)
def test_a_model_that_was_never_called_is_one_sentence(make: Any, form: str, tmp_path: Path) -> None:
    """It has no weights that could be saved."""
    with pytest.raises(tfstrip_core.UsageError, match=r"^this model has no weights yet; call it on data or build"):
        tfstrip_core.save(make(), tmp_path / form)
    assert not list(tmp_path.iterdir())


def test_what_is_no_model_is_one_sentence(tmp_path: Path) -> None:
    """A layer has weights too, and no save()."""
    layer = layers.Dense(2)
    layer.build((None, 3))
    with pytest.raises(tfstrip_core.UsageError, match=r"^a Dense is no Keras model; pass a keras\.Model"):
        tfstrip_core.save(layer, tmp_path / "model.keras")


def test_a_model_of_half_precision_is_saved_like_any_other(tmp_path: Path) -> None:
    """Its optimizer is wrapped for loss scaling, whose counters go too."""
    keras.utils.set_random_seed(1)
    given = keras.Input((4,))
    model = keras.Model(given, layers.Dense(1, dtype="mixed_float16")(given))
    optimizer = keras.mixed_precision.LossScaleOptimizer(keras.optimizers.Adam(0.01, **EMA), initial_scale=8.0)
    model.compile(optimizer=optimizer, loss="mse", run_eagerly=True)
    model.train_on_batch(X, Y)
    with pytest.raises(tfstrip_core.NeedsChoice, match="ema="):
        tfstrip_core.save(model, tmp_path / "model")
    result = tfstrip_core.save(model, tmp_path / "model.keras", ema="drop")
    assert result.proof.kept_tensors >= 2
    assert not result.kept
    loaded = keras.models.load_model(str(tmp_path / "model.keras"), compile=False)
    assert predicted(loaded).tobytes() == predicted(model).tobytes()


# ---------------------------------------------------------------------------------------------------------------------
# The callback


class Heard(keras.callbacks.Callback):
    """What the model predicted at the end of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.outputs: list[bytes] = []

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.outputs.append(predicted(self.model).tobytes())


def test_each_epochs_model_is_saved_and_training_never_notices(tmp_path: Path) -> None:
    """Three epochs give three clean files that predict what the model did then, and the history of a fit without it."""
    histories, heard = [], Heard()
    models = [trained("subclassed", run_eagerly=False) for _ in range(2)]
    checkpoint = tfstrip_core.StrippedCheckpoint(tmp_path / "{epoch}-{val_loss:.3f}.keras")
    for model, callbacks in zip(models, ([heard, checkpoint], []), strict=True):
        keras.utils.set_random_seed(3)
        fit = {"epochs": 3, "batch_size": 16, "validation_split": 0.25, "verbose": 0}
        histories.append(model.fit(X, Y, callbacks=callbacks, **fit).history)
    assert histories[0] == histories[1]
    assert state(models[0]) == state(models[1])
    names = [f"{epoch}-{value:.3f}.keras" for epoch, value in enumerate(histories[0]["val_loss"], 1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    for name, output in zip(names, heard.outputs, strict=True):
        assert tfstrip_core.inspect(str(tmp_path / name)).verdict == "clean"
        loaded = keras.models.load_model(str(tmp_path / name), compile=False, custom_objects={"Subclassed": Subclassed})
        assert predicted(loaded).tobytes() == output
    assert len(set(heard.outputs)) == 3


def test_it_is_called_in_evaluate_and_predict_too(tmp_path: Path) -> None:
    """Keras calls all of a callback's methods there; nothing is saved."""
    model, checkpoint = trained("functional"), tfstrip_core.StrippedCheckpoint(tmp_path / "model.keras")
    model.evaluate(X, Y, verbose=0, callbacks=[checkpoint])
    model.predict(X, verbose=0, callbacks=[checkpoint])
    assert not list(tmp_path.iterdir())
    keras.callbacks.CallbackList([checkpoint], model=model).on_epoch_end(0, {"loss": 1.0})  # a training loop by hand
    assert [path.name for path in tmp_path.iterdir()] == ["model.keras"]


def test_its_averages_are_chosen_before_training(tmp_path: Path) -> None:
    """Without a choice not one step is made; with one the averages of each epoch are what is saved."""
    model = trained("functional", **EMA)
    before = state(model)
    path = tmp_path / "{epoch}.keras"
    with pytest.raises(tfstrip_core.NeedsChoice, match="pass ema="):
        model.fit(X, Y, verbose=0, callbacks=[tfstrip_core.StrippedCheckpoint(path)])
    assert state(model) == before
    checkpoint = tfstrip_core.StrippedCheckpoint(path, ema="apply")
    heard = Heard()
    model.fit(X, Y, epochs=2, shuffle=False, verbose=0, callbacks=[heard, checkpoint])
    outputs = [predicted(keras.models.load_model(str(tmp_path / f"{n}.keras"), compile=False)) for n in (1, 2)]
    assert outputs[0].tobytes() != heard.outputs[0]
    assert outputs[1].tobytes() == predicted(model).tobytes()  # fit has put the averages into the weights at its end


def test_a_failure_stops_fit_and_the_model_keeps_what_it_learnt(tmp_path: Path) -> None:
    """The error is ours and reaches who called fit; the model can be trained on and saved elsewhere."""
    model = trained("functional")
    before = state(model)
    (tmp_path / "taken.keras").mkdir()
    with pytest.raises(tfstrip_core.UsageError, match="is a directory"):
        model.fit(X, Y, epochs=2, verbose=0, callbacks=[tfstrip_core.StrippedCheckpoint(tmp_path / "taken.keras")])
    assert state(model) != before
    tfstrip_core.save(model, tmp_path / "elsewhere.keras")
    loaded = keras.models.load_model(str(tmp_path / "elsewhere.keras"), compile=False)
    assert predicted(loaded).tobytes() == predicted(model).tobytes()
