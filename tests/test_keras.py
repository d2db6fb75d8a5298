"""Stripped fixtures in the framework of their writer's family: they load in silence, predict the same bytes, train on.

Keras 2 fixtures run where TensorFlow is older than 2.16, Keras 3 fixtures elsewhere; .ci/run has both.
"""

import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import keras_run
import numpy as np
import pytest
from conftest import E2E, RUN, Fixture, one

import tfstrip_core

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("default"),  # the frameworks' own; what loading says is compared in the tests
]

DIFFERING_AVERAGES = ("ema_mid_fit", "custom_ema")
# Keras 3.15 puts Nadam's scalar elsewhere than 3.8 wrote it, and fails to load the original; it loads the stripped one.
UNLOADABLE_HERE = ("keras3.0.5-multi_slot_nadam.keras", "keras3.8.0-multi_slot_nadam.keras")
LOADABLE = [
    model
    for model in RUN
    if model.facts["loads"]
    and "weights" not in model.facts["container"]
    # Keras 2.10 stores a lambda as bytecode of its own CPython, 3.8, which no other can read.
    and not (model.writer == "tf2.10" and model.scenario.startswith("lambda"))
]
MINE = [model for model in LOADABLE if model.keras == keras_run.major()]
every_loadable = pytest.mark.parametrize("model", MINE, ids=lambda model: model.id)


def strip(model: Fixture, tmp_path: Path, **choices: object) -> str:
    """Strip a fixture to a file of the same name, as the frameworks choose their reader by it."""
    target = str(tmp_path / Path(model.path).name)
    if model.scenario in DIFFERING_AVERAGES:
        choices.setdefault("ema", "drop")
    tfstrip_core.strip(model.path, target, **choices)  # type: ignore[arg-type]
    return target


def test_there_are_models_for_this_framework() -> None:
    """The fixtures of this family are there, so that the tests below have run."""
    assert len(MINE) > 30


@every_loadable
def test_loads_without_a_new_warning_and_predicts_the_same_bytes(model: Fixture, tmp_path: Path) -> None:
    """Compiled or not, the stripped file says nothing that the original did not say, and computes the same bytes."""
    target = strip(model, tmp_path)
    io = np.load(model.io)
    for compile in (False, True):
        if compile and model.id in UNLOADABLE_HERE:
            with pytest.raises(ValueError, match="could not be loaded"):
                keras_run.load(model.path, compile=True)
            original, said_before = keras_run.load(model.path, compile=False)
        else:
            original, said_before = keras_run.load(model.path, compile=compile)
        stripped, said_after = keras_run.load(target, compile=compile)
        assert said_after <= said_before
        before, after = keras_run.predict(original, io), keras_run.predict(stripped, io)
        assert keras_run.same_bytes(before, after)
        for name, value in zip(sorted(n for n in io.files if n[0] == "y" and n[1:].isdigit()), after, strict=True):
            # Writer and reader are different programs: half precision differs in its last bits.
            slack = 2e-2 if value.dtype.itemsize == 2 or model.scenario == "mixed_precision" else 1e-4
            np.testing.assert_allclose(value.astype("float32"), io[name].astype("float32"), rtol=1e-3, atol=slack)
    # A subclassed model's layers may be named anew at each loading; their order is what tells them apart.
    assert [layer.trainable for layer in stripped.layers] == [flag for _, flag in model.facts["trainable"]]


# A GAN has a training loop of its own, which plain compile() does not serve.
@pytest.mark.parametrize("model", [m for m in MINE if m.scenario != "gan"], ids=lambda model: model.id)
def test_a_stripped_model_compiles_and_trains_on(model: Fixture, tmp_path: Path) -> None:
    """Training goes on from the stripped weights with a fresh optimizer, and changes only what is trainable."""
    loaded, _ = keras_run.load(strip(model, tmp_path), compile=False)
    io = np.load(model.io)
    outputs = keras_run.predict(loaded, io)
    frozen = [weight.numpy().copy() for layer in loaded.layers if not layer.trainable for weight in layer.weights]
    loaded.compile(optimizer="sgd", loss="mse")
    given = keras_run.inputs(io)
    random = np.random.default_rng(0)
    targets = [random.normal(size=output.shape).astype("float32") for output in outputs]
    loss = loaded.train_on_batch(given if len(given) > 1 else given[0], targets if len(targets) > 1 else targets[0])
    assert np.all(np.isfinite(loss))
    after = [weight.numpy() for layer in loaded.layers if not layer.trainable for weight in layer.weights]
    assert keras_run.same_bytes(frozen, after)
    if loaded.trainable_weights:
        assert not keras_run.same_bytes(outputs, keras_run.predict(loaded, io))


@pytest.mark.parametrize("model", [m for m in MINE if m.scenario == "ema_mid_fit"], ids=lambda m: m.id)
def test_applied_averages_predict_what_the_writer_predicted_with_them(model: Fixture, tmp_path: Path) -> None:
    """--ema apply serves the averages: the outputs are those of the writer's model after they were applied."""
    if not any(finding.pairs for finding in tfstrip_core.inspect(model.path).findings):
        assert model.id == "keras3.0.5-ema_mid_fit.h5"
        return
    io = np.load(model.io)
    dropped, _ = keras_run.load(strip(model, tmp_path), compile=False)
    (tmp_path / "applied").mkdir()
    applied, _ = keras_run.load(strip(model, tmp_path / "applied", ema="apply"), compile=False)
    np.testing.assert_allclose(keras_run.predict(applied, io)[0], io["yavg0"], rtol=1e-5, atol=1e-6)
    assert not np.allclose(keras_run.predict(dropped, io)[0], io["yavg0"], rtol=1e-5, atol=1e-6)


def test_stripping_never_needs_the_models_own_code(tmp_path: Path) -> None:
    """A subclassed model whose class is nowhere to be found is stripped, and TensorFlow is not imported for it."""
    writer = "keras3.15.1" if keras_run.major() == 3 else "tf2.15"
    source = shutil.copy(one(writer, "subclassed.keras").path, tmp_path / "model.keras")
    code = (
        "import sys, tfstrip_core\n"
        f"tfstrip_core.strip({str(source)!r}, {str(tmp_path / 'out.keras')!r})\n"
        "assert not {'tensorflow', 'keras', 'zoo'} & set(sys.modules), 'imported a framework'\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path)
    loaded, _ = keras_run.load(str(tmp_path / "out.keras"), compile=False)
    io = np.load(one(writer, "subclassed.keras").io)
    original, _ = keras_run.load(str(source), compile=False)
    assert keras_run.same_bytes(keras_run.predict(original, io), keras_run.predict(loaded, io))


def test_one_flipped_bit_changes_the_prediction(tmp_path: Path) -> None:
    """The negative control of these tests: they would notice one bit."""
    import h5py

    writer = "keras3.15.1" if keras_run.major() == 3 else "tf2.15"
    model = one(writer, "sequential.h5")
    target = strip(model, tmp_path)
    with h5py.File(target, "r+") as file:
        kernels = []
        file.visititems(lambda name, item: kernels.append(item) if "kernel" in name.split("/")[-1] else None)
        values = kernels[0][()]
        values.view("u4")[0, 0] ^= 1 << 20
        kernels[0][...] = values
    io = np.load(model.io)
    before, _ = keras_run.load(model.path, compile=False)
    after, _ = keras_run.load(target, compile=False)
    assert not keras_run.same_bytes(keras_run.predict(before, io), keras_run.predict(after, io))
