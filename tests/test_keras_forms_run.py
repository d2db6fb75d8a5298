"""Stripped weights, Windows's archives and Theano's files in the framework at hand: what they predict is unchanged."""

import ntpath
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import forms
import h5py
import keras_run
import numpy as np
import pytest
from conftest import E2E, RUN, Fixture

import tfstrip_core

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]

KERAS_2 = keras_run.major() == 2
MINE = [
    model
    for model in RUN
    if model.facts["container"] == "keras-zip" and model.facts["loads"] and model.keras == keras_run.major()
]
WEIGHTS = [found for found in forms.names(".weights.h5") if not found[1].startswith("windows")]
# Neither reads the lists of layers of 2.13, which counts every layer twice, nor Keras 2 the files of Keras 3.
READ = [found for found in WEIGHTS if found[0] == "tf2.15" or (found[0].startswith("keras3") and not KERAS_2)]
each = pytest.mark.parametrize(("writer", "name"), READ)


def forget(model: Any) -> None:
    """Give every weight another value, so that what it predicts afterwards is what was loaded."""
    for weight in model.weights:
        if hasattr(weight, "shape"):  # tf.keras counts a vocabulary among the weights
            weight.assign(np.full_like(weight.numpy(), 7))


def loaded(model: Any, path: str, io: Any) -> tuple[list[np.ndarray], list[str]]:
    """Return what an uncompiled model predicts with the weights of a file, and what was said while it was loaded."""
    forget(model)
    with keras_run.said() as heard:
        model.load_weights(path)
    return keras_run.predict(model, io), heard


def regressor() -> Any:
    keras_run.framework()
    import zoo

    model = zoo.regressor()
    model(np.zeros((1, 4), "float32"))
    return model


def flipped(path: str) -> str:
    """Flip one bit in the greatest weight of a file."""
    with h5py.File(path, "r+") as file:
        found: list[h5py.Dataset] = []
        file.visititems(
            lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) and item.ndim > 1 else None
        )
        values = found[0][()]
        values.view("u4").reshape(-1)[0] ^= 1 << 22
        found[0][...] = values
    return path


def test_there_are_files_for_this_framework() -> None:
    """The tests below are parametrized by what is there, and would pass with nothing."""
    assert len(READ) == (5 if KERAS_2 else 10)
    assert len(MINE) > 20


@each
def test_stripped_weights_load_and_predict_the_same_bytes(writer: str, name: str, tmp_path: Path) -> None:
    """An uncompiled model takes the stripped weights in silence and predicts what it did; one bit would show."""
    path, target = forms.unpack(tmp_path, writer, name), str(tmp_path / "stripped.weights.h5")
    tfstrip_core.strip(path, target, ema="drop")
    io = np.load(f"{path}.npz")
    before, _ = loaded(regressor(), path, io)
    after, heard = loaded(regressor(), target, io)
    assert heard == []
    assert keras_run.same_bytes(before, after)
    np.testing.assert_allclose(after[0], io["y0"], rtol=1e-4, atol=1e-5)
    changed, _ = loaded(regressor(), flipped(target), io)
    assert not keras_run.same_bytes(before, changed)


@pytest.mark.parametrize("model", MINE, ids=lambda model: model.id)
def test_weights_of_every_fixture_load_into_an_uncompiled_model(model: Fixture, tmp_path: Path) -> None:
    """Nested, subclassed, frozen, quantising or named like optimizers: what is left is all that inference reads."""
    path = forms.inner_weights(model.path, tmp_path / "m.weights.h5")
    target = str(tmp_path / "stripped.weights.h5")
    tfstrip_core.strip(path, target, ema="drop")
    io = np.load(model.io)
    whole, _ = keras_run.load(model.path, compile=False)
    before = keras_run.predict(whole, io)
    reference, _ = loaded(whole, path, io)
    assert keras_run.same_bytes(before, reference)
    after, _ = loaded(whole, target, io)
    assert keras_run.same_bytes(before, after)


@contextmanager
def windows() -> Iterator[None]:
    """Let Keras 2 join the parts of object paths as it does on Windows."""
    import tensorflow as tf

    gfile = tf.compat.v2.io.gfile
    kept = gfile.join
    gfile.join = lambda path, *more: kept(path, *more) if os.path.isabs(path) else ntpath.join(path, *more)
    try:
        yield
    finally:
        gfile.join = kept


@pytest.mark.skipif(not KERAS_2, reason="Keras 3 spells object paths alike on every system, and reads no others")
@pytest.mark.parametrize("name", ["windows.keras", "windows.weights.h5", "windows_ema.keras", "windows_scaled.keras"])
def test_files_of_windows_load_where_the_original_does(name: str, tmp_path: Path) -> None:
    """Read with Windows's own paths, by Keras 2.15 as a whole model or into one, they predict the same bytes."""
    path = forms.unpack(tmp_path, "tf2.15", name)
    target = str(tmp_path / f"stripped-{name}")
    tfstrip_core.strip(path, target, ema="drop")
    io = np.load(f"{path}.npz")
    with windows():
        if name.endswith(".keras"):
            before, after = (keras_run.predict(keras_run.load(p, compile=False)[0], io) for p in (path, target))
            _, heard = keras_run.load(target, compile=True)
            assert heard <= keras_run.load(path, compile=True)[1]
        else:
            whole = forms.unpack(tmp_path, "tf2.15", "windows.keras")
            model, _ = keras_run.load(whole, compile=False)
            before, after = (loaded(model, p, io)[0] for p in (path, target))
            changed, _ = loaded(model, flipped(target), io)
            assert not keras_run.same_bytes(before, changed)
    assert keras_run.same_bytes(before, after)
    np.testing.assert_allclose(after[0], io["y0"], rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="variables"):  # nor does the original load here as it is
        keras_run.load(path, compile=False) if name.endswith(".keras") else loaded(regressor(), path, io)


@pytest.mark.skipif(not KERAS_2, reason="Keras 3 reads no model of Keras 1 and 2.0")
@pytest.mark.parametrize("writer", ["theano-keras1.2.2", "theano-keras2.0.5"])
def test_files_of_theano_load_as_the_original_does(writer: str, tmp_path: Path) -> None:
    """Keras 2.15 takes the weights of Keras 1 and 2.0 on Theano, and predicts the same bytes from the stripped file."""
    path, target = forms.unpack(tmp_path, writer, "theano.h5"), str(tmp_path / "stripped.h5")
    tfstrip_core.strip(path, target)
    io = np.load(f"{path}.npz")
    (before, _), (after, _) = (loaded(regressor(), file, io) for file in (path, target))
    assert keras_run.same_bytes(before, after)
    np.testing.assert_allclose(after[0], io["y0"], rtol=1e-4, atol=1e-5)
    changed, _ = loaded(regressor(), flipped(target), io)
    assert not keras_run.same_bytes(before, changed)
