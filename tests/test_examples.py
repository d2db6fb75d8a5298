"""The examples run as written, and what they leave behind is what they say."""

import runpy
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

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Return a function that runs an example in an empty folder and gives its variables."""
    keras_run.framework().utils.set_random_seed(0)
    monkeypatch.chdir(tmp_path)
    return lambda name: runpy.run_path(str(ROOT / "examples" / name), run_name="__main__")


def load(path: str) -> Any:
    assert tfstrip_core.inspect(path).verdict == "clean"
    return keras_run.framework().models.load_model(path)


def test_the_sequential_one_saves_what_it_trained(run: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """The file is clean, loads, and predicts the bytes of the model that was trained; the sizes are its own."""
    had = run("train_sequential.py")
    loaded = load("classifier.keras")
    assert loaded(had["x"]).numpy().tobytes() == had["model"](had["x"]).numpy().tobytes()
    after = Path("classifier.keras").stat().st_size
    assert capsys.readouterr().out.strip().endswith(f" -> {after:,} bytes")
    assert had["result"].bytes_before > 1.3 * after


def test_the_functional_one_keeps_its_best_epoch(run: Any) -> None:
    """It improves at each epoch, so that the file at its end is the model that was trained; the value is the best."""
    had = run("train_functional.py")
    assert had["checkpoint"].best == min(had["history"].history["val_loss"]) == had["history"].history["val_loss"][-1]
    loaded, given = load("best.keras"), [had["house"], had["street"]]
    assert loaded(given).numpy().tobytes() == had["model"](given).numpy().tobytes()


def test_the_subclassed_one_serves_what_it_trained(run: Any) -> None:
    """Without its class, the SavedModel gives the outputs of the model that was trained."""
    had = run("train_subclassed.py")
    assert tfstrip_core.inspect("regressor").verdict == "clean"
    (output,) = had["served"](had["tf"].constant(had["x"])).values()
    np.testing.assert_allclose(output.numpy(), had["model"](had["x"]).numpy(), rtol=1e-5, atol=1e-6)
    assert had["result"].bytes_before > 1.5 * had["result"].bytes_after


def test_an_example_runs_twice(run: Any) -> None:
    """Whoever tries it tries it again: what it wrote is replaced."""
    for _ in range(2):
        run("train_sequential.py")
