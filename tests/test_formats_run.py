"""prove: outputs and formats with real models: what runs, what cannot and is said so, what must not be published."""

import json
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest
from action_run import ROOT, run
from conftest import one
from jsonschema import Draft202012Validator

from tfstrip_core.errors import UsageError
from tfstrip_core.inventory import Artifact, StripResult
from tfstrip_core.release import artifacts, proving

pytestmark = [pytest.mark.keras, pytest.mark.usefixtures("framework_once")]

CHECK = Draft202012Validator(json.loads((ROOT / "docs" / "manifest.schema.json").read_text()))
CHECKPOINTS = ROOT / "tests" / "fixtures" / "data" / "checkpoints"
MODEL = one("keras3.15.1", "sequential.keras")
# Models that cannot be run, and a word of the reason that is told.
NOT_RUN = {
    "w.weights.h5": (one("keras3.15.1", "sequential.weights.h5"), "weights"),
    "own.keras": (one("keras3.15.1", "subclassed.keras"), "Mlp of the module zoo"),
}


@pytest.fixture(autouse=True)
def _keras_3() -> None:
    if not int(pytest.importorskip("keras").__version__[0]) >= 3:
        pytest.skip("the Action's image has Keras 3")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with one model, the test standing in it."""
    folder = tmp_path / "work"
    (folder / "models").mkdir(parents=True)
    shutil.copy(MODEL.path, folder / "models" / "a.keras")
    monkeypatch.chdir(folder)
    return folder


def entries() -> dict[str, dict[str, Any]]:
    value = json.loads(Path("dist/manifest.json").read_text())
    CHECK.validate(value)
    return {entry["path"]: entry for entry in value["artifacts"]}


@pytest.mark.filterwarnings("ignore:[^.]*tf.lite.Interpreter is deprecated")
def test_every_format_is_made_proven_and_loaded_as_the_manifest_says(work: Path) -> None:
    """Through the Action's door with its own defaults: the three other forms answer as the model does."""
    import keras
    import numpy as np
    import tensorflow as tf

    step = run(models="models/*.keras", formats="same, saved_model\nfrozen tflite", prove="", tag="")
    assert step.code == 0, step.stderr
    made = entries()
    assert sorted(made) == ["a.frozen.tar.gz", "a.keras", "a.saved_model.tar.gz", "a.tflite"]
    for entry in made.values():
        calls = entry["proof"]["outputs"]["calls"]
        assert {call["state"] for call in calls} <= {"equal", "close"}, entry
        assert sum(call["bytes"] for call in calls) > 0
    assert [call["state"] for call in made["a.keras"]["proof"]["outputs"]["calls"]] == ["equal"]
    x = np.load(MODEL.io)["x0"].astype("float32")
    expected = np.asarray(keras.models.load_model("models/a.keras", compile=False)(x))
    for name, entry in made.items():
        place = Path("loaded", entry["form"])
        place.mkdir(parents=True)
        if "inside" in entry:
            with tarfile.open(f"dist/{name}") as archive:
                archive.extractall(place, filter="data")
            assert os.listdir(place) == [entry["inside"]] == [f"a.{entry['form']}"]
        else:
            shutil.copy(f"dist/{name}", place)
        os.chdir(place)
        loaded = eval(entry["load"], {"keras": keras, "tf": tf})
        os.chdir(work)
        assert np.allclose(expected, answered(loaded, entry["form"], x), rtol=1e-4, atol=1e-4), name
    assert not list(Path("loaded/frozen/a.frozen").glob("variables/*.index"))


def answered(loaded: Any, form: str, x: Any) -> Any:
    if form == "same":
        return loaded(x)
    if form == "tflite":
        call = loaded.get_signature_runner("serving_default")
        (name,) = call.get_input_details()
    else:
        call = loaded.signatures["serving_default"]
        (name,) = call.structured_input_signature[1]
    (found,) = call(**{name: x}).values()
    return found


def made(models: str, *formats: str) -> tuple[Artifact, ...]:
    jobs = artifacts.plan(artifacts.survey([models], "dist"), formats=formats or ("same",))
    return artifacts.make(jobs, "dist", prove="outputs").artifacts


def test_what_cannot_run_here_is_published_on_its_bytes(work: Path) -> None:
    """Weights alone, a checkpoint, absent code: each with its reason, none called run."""
    shutil.rmtree("models")
    os.mkdir("models")
    for name, (model, _) in NOT_RUN.items():
        shutil.copy(model.path, f"models/{name}")
    shutil.copytree(CHECKPOINTS / "keras3.15.1" / "adam_batchnorm", "models/objects")
    items = made("models")
    told = entries()
    reasons = {path: entry["proof"]["outputs"].get("not_run", "") for path, entry in told.items()}
    assert all(entry["proof"]["kept_tensors"] > 0 for entry in told.values())
    for name, (_, word) in NOT_RUN.items():
        assert word in reasons[name], reasons
    (checkpoint,) = [reason for path, reason in reasons.items() if path.endswith(".tar.gz")]
    assert "weights" in checkpoint
    assert all(str(work) not in reason for reason in reasons.values())
    assert proving.not_run(items).keys() >= {"models/w.weights.h5", "models/own.keras"}


def test_a_flipped_bit_in_each_weight_of_a_layer_fails_the_job(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Changed after its bytes were proven, it answers otherwise when it runs: nothing is published."""
    right = artifacts.strip

    def wrong(source: str, target: str, **choices: Any) -> StripResult:
        import h5py

        result = right(source, target, **choices)
        with h5py.File(target, "r+") as file:
            name: list[str] = []
            file["model_weights"].visit(lambda path: name.append(path) if path.endswith("kernel") else None)
            stored = file["model_weights"][name[0]]
            values = stored[()]
            values.view("uint32")[...] ^= 1 << 22
            stored[...] = values
        return result

    shutil.copy(one("keras3.15.1", "sequential.h5").path, "models/b.h5")
    monkeypatch.setattr(artifacts, "strip", wrong)
    with pytest.raises(UsageError, match=r"models/b\.h5: the result is another model than the original when both run"):
        made("models/b.h5")
    assert os.listdir("dist") == []


def test_an_export_that_cannot_be_made_fails_the_job(work: Path) -> None:
    """A model whose code is absent has no other format: named, and not even its own format is published."""
    shutil.copy(NOT_RUN["own.keras"][0].path, "models/own.keras")
    with pytest.raises(UsageError, match=r"models/own\.keras: .*Mlp of the module zoo"):
        made("models/own.keras", "same", "tflite")
    assert os.listdir("dist") == []


def test_what_a_model_reads_is_nowhere_published(work: Path) -> None:
    """A model that puts a file of this machine into its error is not run; one that says words has its kind of error."""
    import tensorflow as tf

    Path("secret").write_text("c2VjcmV0")

    class Says(tf.Module):
        def __init__(self, read: bool) -> None:
            super().__init__()
            self.v, self.read = tf.Variable(tf.ones([4, 3])), read

        @tf.function(input_signature=[tf.TensorSpec([None, 4], name="x")])
        def f(self, x: Any) -> Any:
            words = tf.io.read_file(str(work / "secret")) if self.read else tf.constant("c2VjcmV0")
            with tf.control_dependencies([tf.debugging.Assert(tf.constant(False), [words])]):
                return {"y": tf.matmul(x, self.v)}

    for name in ("reads", "says"):
        model = Says(name == "reads")
        tf.saved_model.save(model, f"models/{name}", {"serving_default": model.f})
    step = run(models="models/reads\nmodels/says", prove="", tag="")
    assert step.code == 0, step.stderr
    said = {name: entry["proof"]["outputs"]["not_run"] for name, entry in entries().items()}
    assert said == {
        "reads.tar.gz": "the operation ReadFile reads files, so it is not run",
        "says.tar.gz": "InvalidArgumentError",
    }
    everything = [step.stdout, step.stderr, *(path.read_text() for path in Path("dist").glob("*.json"))]
    assert not any("c2VjcmV0" in text for text in everything)
