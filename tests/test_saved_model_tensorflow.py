"""SavedModels that the TensorFlow at hand writes, stripped, and run by two of its loaders beside the original."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import E2E

from tfstrip_core import inspect, strip, verify

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]

X = np.linspace(-1, 1, 18, dtype="f4").reshape(3, 6)


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    return tf


def loaded(tf: Any, path: str) -> list[bytes]:
    """What the default signature gives, loaded as objects."""
    run = tf.saved_model.load(path).signatures["serving_default"]
    (name,) = run.structured_input_signature[1]
    return [np.asarray(value).tobytes() for _, value in sorted(run(**{name: tf.constant(X)}).items())]


def served(tf: Any, path: str) -> list[bytes] | str:
    """What it gives in a session, as servers run it; or what is wrong."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        signature = tf.compat.v1.saved_model.load(session, ["serve"], path).signature_def["serving_default"]
        (given,) = signature.inputs.values()
        names = [tensor.name for _, tensor in sorted(signature.outputs.items())]
        try:
            return [np.asarray(value).tobytes() for value in session.run(names, {given.name: X})]
        except tf.errors.FailedPreconditionError:
            return "uninitialized"


def trained(tf: Any) -> Any:
    tf.keras.utils.set_random_seed(1)
    layers = [
        tf.keras.layers.Dense(5, activation="relu"),
        tf.keras.layers.BatchNormalization(),
        tf.keras.layers.Dense(2),
    ]
    model = tf.keras.Sequential([tf.keras.Input((6,)), *layers])
    model.compile("adam", "mse")
    model.fit(X, X[:, :2], verbose=0)
    return model


@pytest.mark.parametrize("profile", ["inference", "serving"])
@pytest.mark.parametrize("way", ["save", "export"])
def test_a_keras_model(tf: Any, tmp_path: Path, way: str, profile: Any) -> None:
    """However it is saved: the same bytes out of both loaders, and the session loader runs what it did not before."""
    path, target = str(tmp_path / "model"), str(tmp_path / "small")
    model = trained(tf)
    if way == "save":
        tf.saved_model.save(model, path)
    else:
        model.export(path)
    strip(path, target, profile=profile)
    assert verify(path, target).equal
    weights = sum(tensor.bytes for tensor in inspect(target).tensors)
    assert weights == sum(int(np.prod(weight.shape)) * 4 for weight in model.weights)
    expected = loaded(tf, path)
    assert loaded(tf, target) == expected
    before, after = served(tf, path), served(tf, target)
    assert after == (expected if before == "uninitialized" else before)


def test_a_module_that_can_train(tf: Any, tmp_path: Path) -> None:
    """Its training function keeps what it reads, and runs; left out, its state goes."""

    class Module(tf.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.w = tf.Variable(tf.ones((6, 2)))
            self.optimizer = tf.keras.optimizers.Adam()
            self.optimizer.build([self.w])

        @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32)])  # type: ignore[untyped-decorator]
        def __call__(self, x: Any) -> Any:
            return {"y": x @ self.w}

        @tf.function(input_signature=[tf.TensorSpec((None, 6), tf.float32)])  # type: ignore[untyped-decorator]
        def train(self, x: Any) -> Any:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum((x @ self.w) ** 2)
            self.optimizer.apply_gradients([(tape.gradient(loss, self.w), self.w)])
            return loss

    module, path = Module(), str(tmp_path / "model")
    tf.saved_model.save(module, path, signatures={"serving_default": module.__call__})
    assert [finding.rule for finding in inspect(path).findings] == ["TFS203"]
    target = str(tmp_path / "small")
    strip(path, target, drop_functions=["train"])
    assert len(inspect(target).tensors) == 1
    assert verify(path, target, also=["train"]).equal
    assert loaded(tf, target) == loaded(tf, path)
    assert served(tf, target) == served(tf, path)
    assert not hasattr(tf.saved_model.load(target), "train")
