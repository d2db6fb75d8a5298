"""Models in other forms, by the TensorFlow at hand: they give what the fixtures' writers saw, and are small."""

import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import keras_run
import numpy as np
import pytest
from conftest import E2E, FIXTURES, Fixture, one
from saved_model_fixtures import Models, models

import tfstrip_core
from tfstrip_core.inventory import ExportResult, Form
from tfstrip_core.verbs import export as verb

pytestmark = [
    pytest.mark.keras,
    pytest.mark.filterwarnings("ignore"),  # of the framework
    pytest.mark.usefixtures("framework_once"),
]

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

import tensorflow as tf  # noqa: E402 - where it is installed

KERAS = keras_run.major()
WRITER = "keras3.15.1" if KERAS == 3 else "tf2.15"
FLEX = KERAS == 2  # the interpreter of TensorFlow 2.21 has no such delegate
STATE = {"VarHandleOp", "Variable", "VariableV2", "ReadVariableOp", "AssignVariableOp", "Assign"}


@pytest.fixture(autouse=True)
def _where_the_users_modules_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(FIXTURES)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return models(tmp_path_factory)


def source(scenario: str, ending: str = ".keras") -> Fixture:
    return one(WRITER, scenario + ending)


def made(path: str, target: Path, to: Form, **more: Any) -> ExportResult:
    """Export a model; nothing but the target is there then."""
    before = set(os.listdir(target.parent)) | {target.name}
    result = tfstrip_core.export(path, str(target), to, **more)
    assert set(os.listdir(target.parent)) == before
    return result


def signature(target: Path, inputs: list[Any], name: str = "serving_default") -> list[np.ndarray]:
    """Run a signature of a SavedModel as TensorFlow 2 loads it, its inputs in the order of their names."""
    function = tf.saved_model.load(str(target)).signatures[name]
    given = dict(zip(sorted(function.structured_input_signature[1]), map(tf.constant, inputs), strict=True))
    return [value.numpy() for _, value in sorted(function(**given).items())]


def session(target: Path, inputs: list[Any], name: str = "serving_default") -> list[np.ndarray]:
    """Run a signature of a SavedModel as TensorFlow 1 and servers do."""
    with tf.compat.v1.Session(graph=tf.Graph()) as opened:
        meta = tf.compat.v1.saved_model.load(opened, ["serve"], str(target))
        said = meta.signature_def[name]
        feed = {info.name: np.asarray(x) for (_, info), x in zip(sorted(said.inputs.items()), inputs, strict=True)}
        return list(opened.run([info.name for _, info in sorted(said.outputs.items())], feed))


def graph(target: Path, inputs: list[Any], name: str = "frozen_graph.pb") -> list[np.ndarray]:
    """Run the GraphDef beside a frozen SavedModel, by the names that its signature has."""
    definition = tf.compat.v1.GraphDef.FromString((target / name).read_bytes())
    assert not STATE & {node.op for node in every_node(definition)}
    said = tf.compat.v1.saved_model.load(tf.compat.v1.Session(graph=tf.Graph()), ["serve"], str(target))
    info = said.signature_def["serving_default"]
    with tf.Graph().as_default() as whole, tf.compat.v1.Session(graph=whole) as opened:
        tf.import_graph_def(definition, name="")
        if any("Table" in node.op for node in every_node(definition)):
            opened.run("NoOp")  # as the note says
        feed = {item.name: np.asarray(x) for (_, item), x in zip(sorted(info.inputs.items()), inputs, strict=True)}
        return list(opened.run([item.name for _, item in sorted(info.outputs.items())], feed))


def every_node(definition: Any) -> list[Any]:
    return [*definition.node, *(node for one in definition.library.function for node in one.node_def)]


def lite(target: Path, inputs: list[Any], name: str = "serving_default") -> list[np.ndarray]:
    """Run a signature of a TFLite model."""
    runner = tf.lite.Interpreter(str(target)).get_signature_runner(name)
    given = dict(zip(sorted(runner.get_input_details()), [np.asarray(x) for x in inputs], strict=True))
    return [value for _, value in sorted(runner(**given).items())]


def close(found: list[np.ndarray], wanted: list[np.ndarray], tolerance: float = 1e-5) -> None:
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(mine, "f8"), np.asarray(theirs, "f8"), rtol=tolerance, atol=tolerance)


def io(model: Fixture) -> tuple[list[Any], list[np.ndarray]]:
    """Return a fixture's inputs, and what its writer's model gave for them."""
    held = np.load(model.io)
    return keras_run.inputs(held), [held[name] for name in sorted(held.files) if name.startswith("y")]


SAVED = ["functional", "subclassed", "text_vectorization", "mixed_precision", "nested_compiled"]


@pytest.mark.parametrize("scenario", SAVED)
def test_a_keras_model_becomes_a_saved_model_for_every_loader(scenario: str, tmp_path: Path) -> None:
    """Several inputs, a class of its own, strings and a table, half floats, models in models: equal in both loaders."""
    model, target = source(scenario), tmp_path / "export"
    result = made(model.path, target, "saved_model", imports=["zoo"])
    assert {call.loader for call in result.proof.calls} == {"v2", "session"}
    # A graph adds in another order than Keras calls its layers, in some versions.
    assert all(call.state == "equal" or 0 < call.difference < 1e-6 for call in result.proof.calls)
    inputs, wanted = io(model)
    for run in (signature, session):
        close(run(target, inputs), wanted, 1e-2 if scenario == "mixed_precision" else 1e-5)
    assert hasattr(tf.saved_model.load(str(target)), "serve")
    assert tfstrip_core.inspect(str(target)).verdict == "clean"
    assert result.load == f'tf.saved_model.load("{target}")'


@pytest.mark.parametrize("scenario", ["functional", "text_vectorization", "vq"])
def test_a_frozen_model_has_no_variables(scenario: str, tmp_path: Path) -> None:
    """Constants for variables, also for those whose rows are gathered in functions; in both loaders and as a graph."""
    model, target = source(scenario), tmp_path / "frozen"
    result = made(model.path, target, "frozen", imports=["zoo"])
    assert result.proof.proven
    assert not (target / "variables").exists()
    from tensorflow.core.protobuf import saved_model_pb2

    message = saved_model_pb2.SavedModel.FromString((target / "saved_model.pb").read_bytes())
    pb = message.meta_graphs[0].graph_def
    assert not STATE & {node.op for node in every_node(pb)}
    inputs, wanted = io(model)
    for run in (signature, session, graph):
        close(run(target, inputs), wanted)
    assert tfstrip_core.inspect(str(target)).verdict == "clean"


@pytest.mark.parametrize("scenario", ["functional", "nested_compiled"])
def test_a_tflite_model_gives_the_same_numbers(scenario: str, tmp_path: Path) -> None:
    """No NaN, as TFLite gives from what Keras 3 saves; within the stated tolerance."""
    model, target = source(scenario), tmp_path / "model.tflite"
    result = made(model.path, target, "tflite", imports=["zoo"])
    assert result.proof.proven
    assert result.proof.tolerance == 1e-4
    inputs, wanted = io(model)
    close(lite(target, inputs), wanted, 1e-4)


@pytest.fixture(scope="module")
def recurrent(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, np.ndarray, np.ndarray]:
    """Write a model of integers: an embedding, an LSTM, batch normalisation; trained a little, with Adam's slots."""
    keras, folder = keras_run.framework(), tmp_path_factory.mktemp("recurrent")
    keras.utils.set_random_seed(7)
    model = keras.Sequential([
        keras.layers.Input((6,), dtype="int32"), keras.layers.Embedding(500, 64), keras.layers.LSTM(32),
        keras.layers.BatchNormalization(), keras.layers.Dense(1000), keras.layers.Dense(2),
    ])  # fmt: skip
    model.compile("adam", "mse")
    x = np.arange(24, dtype="i4").reshape(4, 6)
    model.fit(x, np.ones((4, 2)), epochs=1, verbose=0)
    path = str(folder / "recurrent.keras")
    model.save(path)
    exported = str(folder / "by_keras")
    model.export(exported)
    return path, x, model(x, training=False).numpy()


def bytes_of(folder: Path | str) -> int:
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def test_an_export_is_half_of_what_keras_writes(recurrent: tuple[str, Any, Any], tmp_path: Path) -> None:
    """Keras 3's own export stores each weight twice; of Keras 2's it is never more. Two runs give the same weights."""
    path, x, wanted = recurrent
    result = made(path, tmp_path / "export", "saved_model")
    mine, theirs = bytes_of(tmp_path / "export"), bytes_of(Path(path).parent / "by_keras")
    assert result.bytes_after == mine
    assert mine <= (0.6 if KERAS == 3 else 1.001) * theirs  # names with numbers of other lengths
    data = "variables/variables.data-00000-of-00001"
    weights = [os.path.getsize(folder / data) for folder in (tmp_path / "export", Path(path).parent / "by_keras")]
    assert weights[0] <= (0.51 if KERAS == 3 else 1.0) * weights[1]
    for run in (signature, session):
        close(run(tmp_path / "export", [x]), [wanted])


def test_a_recurrent_model_is_frozen(recurrent: tuple[str, Any, Any], tmp_path: Path) -> None:
    """Loops and the rows of an embedding are in functions, where the converter leaves variables behind."""
    path, x, wanted = recurrent
    made(path, tmp_path / "frozen", "frozen")
    for run in (signature, session, graph):
        close(run(tmp_path / "frozen", [x]), [wanted])


def test_what_needs_the_flex_delegate_is_named_or_refused(recurrent: tuple[str, Any, Any], tmp_path: Path) -> None:
    """An LSTM of any batch size needs it: where the interpreter has it, it is run; where not, nothing is written."""
    path, x, wanted = recurrent
    target = tmp_path / "model.tflite"
    if FLEX:
        result = made(path, target, "tflite")
        assert any("Flex delegate" in note and "TensorList" in note for note in result.notes)
        close(lite(target, [x]), [wanted], 1e-4)
    else:
        with pytest.raises(tfstrip_core.CannotRun, match="Flex delegate"):
            tfstrip_core.export(path, str(target), "tflite")
        assert not os.listdir(tmp_path)


FROM_SAVED: list[tuple[str, str, Form]] = [
    ("tf1.15", "graph_adam", "frozen"),
    ("tf1.15", "graph_assets", "frozen"),
    ("tf1.15", "graph_resource_variables", "tflite"),
    ("tf2.12", "module_train_step", "saved_model"),
    ("tf2.10", "text_tf", "frozen"),
    ("tf2.10", "legacy_optimizer_tf", "tflite"),
]


@pytest.mark.parametrize(("writer", "scenario", "to"), FROM_SAVED)
def test_a_saved_model_takes_another_form(writer: str, scenario: str, to: Form, stored: Models, tmp_path: Path) -> None:
    """Of TensorFlow 1.15 to 2.12, with optimizers, tables in files and in the graph: what runs agrees."""
    target = tmp_path / "target"
    result = made(str(stored.stored(writer, scenario).directory), target, to)
    assert result.proof.proven
    assert "serving_default" in {call.function for call in result.proof.ran} or scenario == "module_train_step"
    if to == "saved_model":
        assert {call.state for call in result.proof.ran} == {"equal"}
        assert result.proof.tolerance == 0
    if to == "frozen":
        assert (target / "frozen_graph.pb").exists() == (scenario != "graph_assets")
        assert not (target / "variables").exists()


REAL = os.environ.get("TFSTRIP_REAL_MODELS", "")


@pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")
@pytest.mark.parametrize(
    ("path", "to"),
    [
        ("Tron404__NN_Group25/GRU", "frozen"),
        ("tensorflow__tfjs/tfjs-node-gpu/test_objects/saved_model/module_with_multiple_signatures", "tflite"),
        ("yoeo__guesslang/guesslang/data/model", "frozen"),
    ],
)
def test_a_real_model_takes_another_form(path: str, to: Form, tmp_path: Path) -> None:
    """A GRU with Adam, two signatures in one file, an estimator that reads tables."""
    result = made(f"{REAL}/{path}", tmp_path / "target", to)
    assert result.proof.proven
    functions = {call.function for call in result.proof.ran}
    assert len(functions) == {"tflite": 2}.get(to, len(functions))


def flipped(target: Path, value: np.ndarray) -> None:
    """Change one number of a model's files, found by its bytes."""
    raw = value.astype("<f4").ravel()[:8].tobytes()
    files = [path for path in [target, *target.rglob("*")] if path.is_file() and raw in path.read_bytes()]
    assert files
    for path in files:
        held = bytearray(path.read_bytes())
        held[held.index(raw) + 3] ^= 0x40  # of the first one's exponent
        path.write_bytes(held)


@pytest.mark.parametrize("to", ["frozen", "tflite"])
def test_another_model_is_not_put_in_place(to: Form, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One wrong weight after the conversion: the proof by running says so, and there is no result."""
    model = source("sequential")
    keras, _ = keras_run.load(model.path, compile=False)
    kernel = np.asarray(keras.layers[-1].kernel)
    build = verb._build

    def wrong(*args: Any) -> list[str]:
        notes = build(*args)
        flipped(Path(args[3]), kernel.T if to == "tflite" else kernel)
        return notes

    monkeypatch.setattr(verb, "_build", wrong)
    with pytest.raises(tfstrip_core.ProofFailed, match="another model"):
        tfstrip_core.export(model.path, str(tmp_path / "target"), to)
    assert not os.listdir(tmp_path)


def test_absent_code_and_code_in_the_file_are_told_in_a_sentence(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The class is named, and --import; a Lambda layer is never run, in HDF5 neither, where Keras 2 would."""
    monkeypatch.chdir(tmp_path)
    for model, imports, words in (
        (source("subclassed"), [], "--import"),
        (source("sequential"), ["nowhere"], "nowhere"),
        (source("lambda_bytecode"), [], "Lambda"),
        (source("lambda_bytecode", ".h5"), [], "Lambda"),
    ):
        with pytest.raises((tfstrip_core.CannotRun, tfstrip_core.UsageError), match=words):
            tfstrip_core.export(model.path, "target", "saved_model", imports=imports)
    assert not os.listdir(tmp_path)


def test_the_command_says_what_ran_and_replaces_only_what_it_may(tmp_path: Path) -> None:
    """Text and JSON; an older export is replaced with --force, anything else is not; averages are asked about."""
    path, target = source("sequential").path, tmp_path / "model.tflite"
    assert command("export", path, "-o", str(target), "--to", "tflite", code=0)[0].startswith(f"{target}: ")
    _, said = command("export", path, "-o", str(target), "--to", "tflite", code=2)
    assert "--force" in said
    out, _ = command("export", path, "-o", str(target), "--to", "tflite", "--force", "--json", code=0)
    document = json.loads(out)
    assert (document["schema"], document["command"]) == ("tfstrip/1", "export")
    (model,) = document["models"]
    assert model["outputs"][0]["state"] in ("equal", "close")
    assert (model["to"], model["tolerance"], model["bytes_after"]) == ("tflite", 1e-4, target.stat().st_size)
    assert model["load"] == f'tf.lite.Interpreter("{target}")'
    _, said = command("export", source("ema_mid_fit").path, "-o", f"{target}2", "--to", "tflite", code=2)
    assert "--ema drop" in said
    assert os.listdir(tmp_path) == ["model.tflite"]


def command(*words: str, code: int) -> tuple[str, str]:
    done = subprocess.run([sys.executable, "-m", "tfstrip_core", *words], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout, done.stderr


def test_an_export_that_is_ended_leaves_nothing(tmp_path: Path) -> None:
    """SIGTERM while a process of its own converts: neither a result nor the private folder is left."""
    words = ["export", source("sequential").path, "-o", str(tmp_path / "export"), "--to", "saved_model"]
    process = subprocess.Popen([sys.executable, "-m", "tfstrip_core", *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not os.listdir(tmp_path):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) != 0
    assert not os.listdir(tmp_path)
