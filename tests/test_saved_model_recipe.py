"""What people do to get rid of an optimizer in Keras 3: build the model anew, set its weights, save that."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import E2E
from saved_model_run import Ran, Runner

from tfstrip_core import inspect, strip
from tfstrip_core.codecs import saved_model

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

import keras

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("default"),
    pytest.mark.skipif(not keras.__version__.startswith("3"), reason="Keras 2 saves what every loader can run"),
]

KINDS = ("sequential", "functional", "subclassed")
UNITS = 128
ROWS = 3


@dataclass(frozen=True)
class Saved:
    """One model in four directories."""

    original: str  # with its optimizer
    rebuilt: str  # by the recipe
    exported: str  # by Model.export
    stripped: dict[str, str]  # of each of these


def subclass() -> Any:
    class Net(keras.Model):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.hidden = [keras.layers.Dense(UNITS, activation="relu") for _ in range(2)]
            self.head = keras.layers.Dense(2)

        def call(self, x: Any) -> Any:
            for layer in self.hidden:
                x = layer(x)
            return self.head(x)

    return Net()


def build(kind: str) -> Any:
    """Make a model that is not trained."""
    layers = keras.layers
    if kind == "subclassed":
        return subclass()
    dense = [layers.Dense(UNITS, activation="relu"), layers.BatchNormalization(), layers.Dense(UNITS), layers.Dense(2)]
    if kind == "sequential":
        return keras.Sequential([keras.Input((4,)), *dense])
    start = keras.Input((4,))
    y = start
    for layer in dense[:-1]:
        y = layer(y)
    return keras.Model(start, dense[-1](layers.Concatenate()([y, start])))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Saved]:
    """Train, save, build anew, save that; in this process, which knows the subclass."""
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    x = tf.constant(np.random.default_rng(5).standard_normal((ROWS, 4)).astype("float32"))
    found = {}
    for kind in KINDS:
        folder = tmp_path_factory.mktemp(kind)
        model = build(kind)
        model.compile("adam", "mse")
        model.fit(x, x[:, :2], verbose=0)
        rebuilt = build(kind)
        rebuilt(x)
        rebuilt.set_weights(model.get_weights())
        paths = {name: str(folder / name) for name in ("original", "rebuilt", "exported")}
        tf.saved_model.save(model, paths["original"])
        tf.saved_model.save(rebuilt, paths["rebuilt"])
        model.export(paths["exported"], verbose=False)
        stripped = {name: path + "-stripped" for name, path in paths.items()}
        for name, path in paths.items():
            strip(path, stripped[name])
        found[kind] = Saved(**paths, stripped=stripped)
    return found


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as started:
        yield started


def gives(runner: Runner, path: str, loader: str) -> Ran:
    """Run a model on the same numbers, whatever its input is called."""
    (meta,) = saved_model.read(path).message.meta_graphs
    (signature,) = [item.value for item in meta.signature_def if item.key == "serving_default"]
    (name,) = [item.key for item in signature.inputs]
    examples = path + ".npz"
    np.savez(examples, **{f"serving_default/x/{name}": np.linspace(-1, 1, ROWS * 4, dtype="f4").reshape(ROWS, 4)})
    return runner.run(path, loader, examples)


def size(directory: str) -> int:
    return sum(path.stat().st_size for path in Path(directory).rglob("*") if path.is_file())


def numbers(ran: Ran) -> list[bytes] | None:
    """What the default signature gave; the loaders name its outputs in two ways, an export has another one."""
    found = ran.outputs.get("serving_default")
    return found and [output.data for output in found]


@pytest.mark.parametrize("kind", KINDS)
def test_its_result_fails_in_a_session_and_ours_runs(kind: str, saved: dict[str, Saved], runner: Runner) -> None:
    """Nothing fills the variables that a rebuilt model's signature reads; what strip makes of it runs."""
    models = saved[kind]
    expected = numbers(gives(runner, models.original, "v2"))
    assert expected
    assert numbers(gives(runner, models.rebuilt, "v2")) == expected
    assert [finding.rule for finding in inspect(models.rebuilt).findings] == ["TFS402"]
    for loader in ("session", "c++"):
        broken = gives(runner, models.rebuilt, loader)
        assert not broken.ran
        assert "Could not find variable" in broken.why_not() or "uninitialized" in broken.why_not(), broken.why_not()
        for name in ("original", "rebuilt", "exported"):
            assert numbers(gives(runner, models.stripped[name], loader)) == expected, (loader, name)


@pytest.mark.parametrize("kind", KINDS)
def test_ours_is_no_larger_and_half_of_an_export(kind: str, saved: dict[str, Saved]) -> None:
    """File by file: the variables of the one, and half of those that Model.export writes twice."""
    models = saved[kind]
    assert size(models.stripped["original"]) <= size(models.rebuilt)
    assert size(models.stripped["rebuilt"]) <= size(models.rebuilt)
    exported, ours = (
        sum(tensor.bytes for tensor in inspect(path).tensors) for path in (models.exported, models.stripped["exported"])
    )
    assert ours == exported / 2
    for name in ("original", "exported"):
        assert size(models.stripped[name]) <= 0.6 * size(models.exported)
