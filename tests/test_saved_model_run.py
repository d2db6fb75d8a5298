"""The harness that compares SavedModels tells equal from different, missing and broken, under every loader."""

import os
from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
import saved_model_run as sr
from conftest import E2E
from saved_model_fixtures import STORED, Model, Models, models, stored_models
from saved_model_run import Output, Ran, Runner, judge

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]

# One of each kind of writing; all signatures of these run under every loader that takes the model at all.
SCENARIOS = (
    "module_several_signatures",
    "module_file_table",
    "module_train_step",
    "graph_adam",
    "graph_train_and_serve",
)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Models:
    cache = models(tmp_path_factory)
    cache.written(*SCENARIOS, "module_plain", "sequential_tfsave")
    return cache


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as started:
        yield started


def loaders_of(model: Model) -> tuple[str, ...]:
    """The loaders that take the original."""
    if model.scenario == "module_train_step" and model.writer.startswith("keras3"):
        return "v2", "callables"  # variables of Keras 3: see the test of its broken saver
    return ("v2", "session", "c++", "callables") if model.kind == "object" else ("v2", "session", "c++")


# ---------------------------------------------------------------------------------------------------------------------
# What is judged, without TensorFlow


def ran(error: str = "", impossible: bool = False, failed: tuple[str, ...] = (), **outputs: str | None) -> Ran:
    """Calls and what they gave, by a word; "nan" is no finite number."""
    found = {call: (Output("y", "float32", (1,), str(word).encode(), word != "nan"),) for call, word in outputs.items()}
    return Ran("v2", error, impossible, found, dict.fromkeys(failed, "no"), ())


@pytest.mark.parametrize(
    ("original", "stripped", "state"),
    [
        (ran(a="1", b="2"), ran(a="1", b="2"), "equal"),
        (ran(a="1"), ran(a="1", b="2"), "equal"),
        (ran(a="1", b="2"), ran(a="1", b="3"), "different"),
        (ran(a="1", b="2"), ran(a="1"), "lacking"),
        (ran(a="1", b="2"), ran(a="1", failed=("b",)), "failed"),
        (ran(a="1", b="2"), ran(a="3", failed=("b",)), "failed"),
        (ran(a="1"), ran(error="no such thing"), "failed"),
        (ran(a="1", failed=("b",)), ran(a="1", failed=("b",)), "equal"),
        (ran(a="1", failed=("b",)), ran(a="1"), "lacking"),
        (ran(error="no such thing"), ran(error="no such thing"), "original fails"),
        (ran(failed=("a",)), ran(failed=("a",)), "original fails"),
        (ran(error="no such thing"), ran(a="1"), "repaired"),
        (ran(error="no such thing"), ran(a="nan"), "original fails"),
        (ran(failed=("a",)), ran(a="1"), "repaired"),
        (ran(a="nan"), ran(a="1"), "repaired"),
        (ran(a="nan"), ran(a="nan"), "equal"),
        (ran(a="1"), ran(a="nan"), "different"),
        (ran(error="not here", impossible=True), ran(error="not here", impossible=True), "impossible"),
    ],
)
def test_the_verdict(original: Ran, stripped: Ran, state: str) -> None:
    assert judge(original, stripped).state == state


def test_a_call_may_be_missing_where_it_is_said_so() -> None:
    found = judge(ran(a="1", train="2"), ran(a="1"), may_lack=lambda call: call == "train")
    assert (found.state, found.lacking) == ("equal", ())


def test_random_numbers_are_compared_by_type_and_shape() -> None:
    drawn = replace(ran(a="1"), unsteady=("a",))
    found = judge(drawn, ran(a="2"))
    assert (found.state, found.unsteady, found.same) == ("equal", ("a",), ())
    wider = replace(drawn, outputs={"a": (drawn.outputs["a"][0]._replace(shape=(2,)),)})
    assert judge(wider, ran(a="2")).state == "different"


# ---------------------------------------------------------------------------------------------------------------------
# With TensorFlow


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_model_equals_itself_under_every_loader(scenario: str, written: Models, runner: Runner) -> None:
    """All signatures, whatever they take and give, strings and training among them, give the same bytes twice."""
    (model,) = written.written(scenario)
    for loader in loaders_of(model):
        result = runner.compare(model.directory, model.directory, loader, str(model.io))
        assert result.state == "equal", (loader, result)
        assert not result.failing, (loader, result.original.failed)
        assert result.same, (loader, result)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_one_flipped_bit_is_noticed_by_every_loader(
    scenario: str, written: Models, runner: Runner, tmp_path: Path
) -> None:
    """The same copy, with one bit of one weight flipped and its checksum put right."""
    (model,) = written.written(scenario)
    key = runner.control(model.directory, model.weights(), "v2", str(model.io))
    assert key, "no weight is read"
    copy = sr.flipped(model.directory, tmp_path / "copy", key)
    before, after = sr.content(model.directory, key), sr.content(copy, key)
    assert (int.from_bytes(before, "big") ^ int.from_bytes(after, "big")).bit_count() == 1
    for loader in loaders_of(model):
        result = runner.compare(model.directory, copy, loader, str(model.io))
        assert result.state == "different", (loader, result)
        assert result.different, (loader, result)


@pytest.mark.parametrize("loader", ["v2", "session", "c++", "callables", "tflite"])
def test_a_missing_tensor_is_a_failure_that_names_it(
    loader: str, written: Models, runner: Runner, tmp_path: Path
) -> None:
    (model,) = written.written("module_plain")
    copy = sr.without(model.directory, tmp_path / "copy", "w/.ATTRIBUTES/VARIABLE_VALUE")
    result = runner.compare(model.directory, copy, loader, str(model.io))
    assert result.state == "failed", result
    assert "w/.ATTRIBUTES/VARIABLE_VALUE" in result.why, result.why
    turned = runner.compare(copy, copy, loader, str(model.io))
    assert turned.state == "original fails", turned
    runner.ran.clear()
    assert runner.compare(copy, model.directory, loader, str(model.io)).state == "repaired"


def test_tflite(written: Models, runner: Runner) -> None:
    (model,) = written.written("module_plain")
    result = runner.compare(model.directory, model.directory, "tflite", str(model.io))
    assert result.state == "equal", result
    assert not result.original.not_finite()
    assert runner.notices(model.directory, "b/.ATTRIBUTES/VARIABLE_VALUE", "tflite", str(model.io))


def test_the_outputs_are_those_of_the_live_model(written: Models, runner: Runner) -> None:
    """What every loader gives is what the model gave when it was saved; else two wrong answers could be equal."""
    import numpy as np

    (model,) = written.written("module_several_signatures")
    with np.load(model.io) as numbers:
        for loader in ("v2", "session", "c++"):
            outputs = runner.once(model.directory, loader, str(model.io)).outputs["scaled"]
            for number, found in enumerate(outputs):  # in the order of their names
                np.testing.assert_allclose(found.array(), numbers[f"scaled/y/{number}"], atol=1e-5)


def test_a_train_step_shows_in_the_variables_and_is_undone(written: Models, runner: Runner) -> None:
    """Its loss alone would not show another value in a slot; and the next function meets the weights of before."""
    (model,) = written.written("module_train_step")
    slot = min(key.name for key in model.keys if key.part == "slot" and key.shape)
    with_slot = runner.once(model.directory, "callables", str(model.io))
    train = [call for call in with_slot.outputs if call.startswith("train_step")]
    assert len(train) == 1
    assert train[0] not in with_slot.unsteady
    assert runner.notices(model.directory, slot, "callables", str(model.io))
    assert not runner.notices(model.directory, slot, "v2", str(model.io))
    found = runner.compare(model.directory, model.directory, "callables", str(model.io))
    assert set(found.same) == set(with_slot.outputs)


def test_a_function_that_is_gone_is_lacking(written: Models, runner: Runner) -> None:
    """The same weights, without the second signature and without its function."""
    several, plain = written.written("module_several_signatures", "module_plain")
    for loader, call in (("session", "scaled"), ("callables", "scaled")):
        result = judge(
            runner.once(several.directory, loader, str(several.io)),
            runner.once(plain.directory, loader, str(several.io)),
        )
        assert any(lacking.startswith(call) for lacking in result.lacking), result


def test_a_crash_ends_one_job_only(runner: Runner, tmp_path: Path) -> None:
    """A directory with nothing in it, and a loader that does not exist: each is said, and the next job runs."""
    empty = runner.run(tmp_path, "v2")
    assert empty.error
    assert not empty.ran
    killed = runner.run(tmp_path, "no such loader")
    assert killed.error
    assert runner.run(tmp_path, "session").error


@pytest.mark.skipif(os.environ.get("TF_USE_LEGACY_KERAS") == "1", reason="another Keras")
def test_the_broken_saver_of_keras_3_is_the_originals_failure(written: Models, runner: Runner) -> None:
    """Keras 3's tf.saved_model.save: its signature reads variables that nothing restores. Keras 2's is right.

    A TFLite model made of it has whatever lay in memory for its weights, which need not be NaN.
    """
    (model,) = written.written("sequential_tfsave")
    broken = model.writer.startswith("keras3")
    result = runner.compare(model.directory, model.directory, "session", str(model.io))
    assert result.state == ("original fails" if broken else "equal"), result
    if not broken:
        original = runner.once(model.directory, "tflite", str(model.io))
        assert original.ran
        assert not original.not_finite()


def test_load_model_is_for_keras_2_and_what_it_saved_itself(written: Models, runner: Runner, tmp_path: Path) -> None:
    """tf.saved_model.save writes none of the metadata that load_model reads."""
    (model,) = written.written("sequential_tfsave")
    assert not runner.once(model.directory, "load_model").ran
    keras_3 = model.writer.startswith("keras3")
    result = runner.compare(model.directory, model.directory, "load_model", str(model.io))
    assert result.state == ("impossible" if keras_3 else "original fails")
    if not keras_3:
        (model,) = written.written("sequential_tf")
        result = runner.compare(model.directory, model.directory, "load_model", str(model.io))
        assert (result.state, result.same) == ("equal", ("model", "weights"))
        copy = sr.flipped(model.directory, tmp_path / "copy", model.weights()[0])
        result = runner.compare(model.directory, copy, "load_model", str(model.io))
        assert (result.state, result.different) == ("different", ("model", "weights"))


STORED_MODELS = stored_models()


@pytest.mark.parametrize("model", STORED_MODELS, ids=lambda model: model.id)
def test_stored_models_are_as_described(model: Model, written: Models) -> None:
    unpacked = written.stored(model.writer, model.scenario)
    files = {
        path.relative_to(unpacked.directory).as_posix(): path.stat().st_size
        for path in unpacked.directory.rglob("*")
        if path.is_file()
    }
    assert files == model.facts["files"]
    assert model.io.exists()
    assert {role for role in model.facts["bytes"] if model.facts["bytes"][role]}
    for path in unpacked.directory.rglob("*.pb"):
        assert b"/home/" not in path.read_bytes()
        assert b".py" not in path.read_bytes().replace(b"zoo.py", b"")


def test_every_stored_file_belongs_to_a_model() -> None:
    known = {STORED / one.writer / name for one in STORED_MODELS for name in (f"{one.scenario}.tar.gz", one.io.name)}
    found = {path for path in STORED.rglob("*") if path.is_file() and path.name != "index.json"}
    assert found == known
