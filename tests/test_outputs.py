"""The proof by running both models: it holds for every form, it fails for another model, and claims nothing unrun."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import keras_run
import numpy as np
import pytest
import saved_model_run as sr
from checkpoints import REAL
from conftest import E2E, FIXTURES, one
from hostile import run as command
from saved_model_fixtures import Models, models

import tfstrip_core
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.errors import CannotRun, UsageError
from tfstrip_core.inventory import Call, Outputs
from tfstrip_core.verbs.outputs import compare_outputs

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("framework_once")]

KERAS_2 = keras_run.major() == 2
WRITER = "tf2.15" if KERAS_2 else "keras3.15.1"
FORMS = [
    "functional.keras",
    "mixed_precision.h5",
    "text_vectorization.keras",
    "subclassed.keras",
    "custom_momentum.keras",
]
FORMS += [] if KERAS_2 else ["sequential.unzipped"]

# Models of every kind of input, and what else the tests need, written in a process of its own.
WRITE = """
import os, sys
import numpy as np, tensorflow as tf
keras, S, tf1 = tf.keras, tf.TensorSpec, tf.compat.v1
os.chdir(sys.argv[1])
keras.utils.set_random_seed(1)

class Module(tf.Module):
    def __init__(self):
        self.w, self.n = tf.Variable([[1., 2.], [3., 4.], [5., 6.], [7., 8.]]), tf.Variable(0)
    @tf.function(input_signature=[tf.RaggedTensorSpec([None, None], tf.string)])
    def ragged(self, x): return tf.strings.reduce_join(x, axis=1), x
    @tf.function(input_signature=[tf.SparseTensorSpec([None, 4], tf.float32)])
    def sparse(self, x): return tf.sparse.sparse_dense_matmul(x, self.w)
    @tf.function(input_signature=[S([None, None, None, 3], tf.float32)])
    def conv(self, x): return tf.nn.conv2d(x, tf.ones([20, 20, 3, 2]), 1, "VALID")
    @tf.function(input_signature=[S(None, tf.float32)])
    def rank(self, x): return tf.linalg.matmul(x, tf.transpose(x))
    @tf.function(input_signature=[S([None], d) for d in ("bool", "int8", "uint8", "complex64", "float16", "bfloat16")])
    def kinds(self, a, b, c, d, e, f): return a, b + 1, c + 1, d * 2, e * 2, f * 2
    @tf.function(input_signature=[S([None, 4], tf.float32)])
    def random(self, x): return x + tf.raw_ops.RandomUniform(shape=tf.shape(x), dtype=tf.float32)  # without a seed
    @tf.function(input_signature=[S([], tf.int32)])
    def count(self, x):
        self.n.assign_add(1)
        return self.n + x
    @tf.function(input_signature=[S([None], tf.string)])
    def number(self, x): return tf.strings.to_number(x)
    @tf.function(input_signature=[S([None], tf.int32)])
    def embed(self, x): return tf.nn.embedding_lookup(self.w, x)

class Writer(tf.Module):
    @tf.function(input_signature=[S([], tf.string)])
    def write(self, x):
        tf.io.write_file("written", x)
        return x

def counted(data):
    return {"n": data.reduce(tf.constant(0, tf.int64), lambda a, b: a + 1)}
def texts():
    return tf.data.Dataset.from_tensors(tf.constant(["words"]))
DOES = {
    "reads": lambda: {"text": tf.io.read_file("mine.py")},
    "caches": lambda: counted(texts().cache("written")),
    "snapshots": lambda: counted(texts().snapshot("written")),
    "remembers": lambda: counted(texts().cache()),
}
def does(name):
    made = tf.Module()
    made.f = tf.function(DOES[name], input_signature=[])
    tf.saved_model.save(made, name, made.f.get_concrete_function())

module, writer = Module(), Writer()
names = ["conv", "kinds", "random", "count", "number", "rank", "embed"]
tf.saved_model.save(module, "kinds", {n: getattr(module, n).get_concrete_function() for n in names})
tf.saved_model.save(writer, "writes", writer.write.get_concrete_function())
for name in DOES:
    does(name)
with tf.Graph().as_default(), tf1.Session() as session:
    x, w = tf1.sparse_placeholder(tf.float32, [None, 4]), tf1.get_variable("w", [4, 2])
    session.run(tf1.global_variables_initializer())
    tf1.saved_model.simple_save(session, "sparse1", {"x": x}, {"y": tf.sparse.sparse_dense_matmul(x, w)})

def net():
    a, b = keras.Input((4,), name="b"), keras.Input((4,), name="a")
    h = keras.layers.Concatenate()([a, keras.layers.Dense(3)(b)])
    return keras.Model([a, b], [keras.layers.Dense(2, name="zz")(h), keras.layers.Dense(2, name="aa")(h)])

model, other = net(), net()
model.save("net.keras"); other.save("other.keras")
model.export("net"); other.export("other")
class Served(tf.Module):
    def __init__(self): self.model = model
    @tf.function(input_signature=[S([None, 4], tf.float32, name="b"), S([None, 4], tf.float32, name="a")])
    def serve(self, b, a):
        one, two = self.model([b, a])
        return {"output_0": one, "output_1": two}
served = Served()
both = served.serve.get_concrete_function()
tf.saved_model.save(served, "served", {"serve": both, "serving_default": both})
open("net.tflite", "wb").write(tf.lite.TFLiteConverter.from_saved_model("net").convert())
t, p = keras.Input((None,), dtype="int32", name="t"), keras.Input((None, None, 3), name="p")
s = keras.Input((4,), sparse=True, name="s")
h = keras.layers.Concatenate()([keras.layers.GlobalAveragePooling1D()(keras.layers.Embedding(2, 3)(t)),
    keras.layers.GlobalAveragePooling2D()(keras.layers.Conv2D(2, 9)(p)), keras.layers.Dense(2)(s)])
keras.Model({"t": t, "p": p, "s": s}, {"z": keras.layers.Dense(2)(h), "a": keras.layers.Dense(1)(h)}).save("open.keras")
sys.path.insert(0, "."); import mine
x = keras.Input((4,)); keras.Model(x, mine.Mine("well")(keras.layers.Dense(2)(x))).save("mine.keras")
x = keras.Input((4,)); keras.Model(x, keras.layers.Lambda(lambda v: v + 1)(keras.layers.Dense(2)(x))).save("lambda.h5")
"""
MINE = """
import os, tensorflow as tf
class Mine(tf.keras.layers.Layer):
    def __init__(self, how, **more):
        super().__init__(**more)
        self.how = how
    def call(self, x):
        if self.how == "crash":
            os.kill(os.getpid(), 11)
        return x
    def get_config(self): return {**super().get_config(), "how": self.how}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with what WRITE writes."""
    folder = tmp_path_factory.mktemp("made")
    (folder / "mine.py").write_text(MINE)
    env = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    words = [sys.executable, "-W", "ignore", "-c", WRITE, str(folder)]
    done = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    return models(tmp_path_factory)


def states(found: Outputs) -> dict[str, str]:
    """Return what came of each call."""
    return {f"{call.loader} {call.function}".strip(): call.state for call in found.calls}


def named(found: Outputs, name: str) -> Call:
    return next(call for call in found.calls if f"{call.loader} {call.function}".strip() == name)


def stripped(source: Any, tmp_path: Path, **more: Any) -> str:
    target = str(tmp_path / "small")
    tfstrip_core.strip(str(source), target, **more)
    return target


@pytest.mark.parametrize("file", FORMS)
def test_a_stripped_keras_model_gives_the_same_bytes(file: str, tmp_path: Path, monkeypatch) -> None:
    """Zip, directory and HDF5, nested, mixed, of strings and of custom classes, which are found by --import."""
    monkeypatch.chdir(FIXTURES)
    model = one(WRITER, file)
    found = compare_outputs(model.path, stripped(model.path, tmp_path), imports=["zoo"])
    assert states(found) == {"keras model": "equal"}
    assert found.proven
    assert found.calls[0].bytes > 0


@pytest.mark.parametrize(
    ("writer", "scenario"),
    [
        ("tf1.15", "graph_assets"),
        ("tf1.15", "graph_train_and_serve"),
        ("tf2.10", "text_tf"),
        ("tf2.12", "module_train_step"),
    ],
)
def test_a_stripped_saved_model_gives_the_same_bytes(
    writer: str, scenario: str, stored: Models, tmp_path: Path
) -> None:
    """Under every loader that runs the original, and what no signature calls too, as far as it changes nothing."""
    model = stored.stored(writer, scenario)
    also = ["train_step"] if scenario == "module_train_step" else []
    target = stripped(model.directory, tmp_path, drop_functions=also)
    found = compare_outputs(str(model.directory), target)
    assert found.proven, found
    assert named(found, "session serving_default").state == "equal"
    assert {call.state for call in found.calls} <= {"equal", "skipped"}
    if scenario == "module_train_step":
        changing = next(call for call in found.calls if call.function.startswith("train_step("))
        assert (changing.state, changing.message) == ("skipped", "it changes variables, so it is not run")
        assert states(found)["v2 serve(float32[?,4])"] == "equal"


@pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")
@pytest.mark.parametrize(
    "name", ["onnx__tensorflow-onnx/tests/models/regression/saved_model", "yoeo__guesslang/guesslang/data/model"]
)
def test_a_real_saved_model_gives_the_same_bytes(name: str, tmp_path: Path) -> None:
    """Models of TensorFlow 1.11 and 2.5 as people publish them, one with strings in and out."""
    source = os.path.join(REAL, name)
    found = compare_outputs(source, stripped(source, tmp_path, profile="serving"))
    assert set(states(found).values()) == {"equal"}


def test_inputs_of_every_kind_are_made(made: Path) -> None:
    """Open sizes and ranks, ragged and sparse, every dtype; what draws is skipped and says so, what counts is equal."""
    found = compare_outputs(str(made / "kinds"), str(made / "kinds"))
    said = states(found)
    for loader in ("v2", "session"):
        assert {said.pop(f"{loader} {name}") for name in ("conv", "kinds", "number", "rank", "embed")} == {"equal"}
        assert said.pop(f"{loader} count") == "equal"
        assert said.pop(f"{loader} random") == "skipped"
        assert "run again" in named(found, f"{loader} random").message
    assert said["v2 ragged(string[?,?])"] == said["v2 sparse(float32[?,4])"] == "equal"
    assert named(found, "v2 conv").bytes == 8 * 13 * 13 * 2 * 4


def test_sparse_and_open_inputs_of_keras_and_of_sessions(made: Path) -> None:
    """Keras's sparse inputs and open sizes, and TensorFlow 1's sparse placeholders, are filled from dense arrays."""
    found = compare_outputs(str(made / "open.keras"), str(made / "open.keras"))
    assert (found.calls[0].state, found.calls[0].outputs, found.calls[0].bytes) == ("equal", 2, 96)
    assert states(compare_outputs(str(made / "sparse1"), str(made / "sparse1")))["session serving_default"] == "equal"


# ---------------------------------------------------------------------------------------------------------------------
# Where it must fail


def flip(path: Path) -> None:
    """Flip one bit of one weight of a .keras file."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    inner = path.with_suffix(".inner")
    inner.write_bytes(content["model.weights.h5"])
    with h5py.File(inner, "r+") as file:
        kernels: list[h5py.Dataset] = []
        file.visititems(
            lambda _, item: kernels.append(item) if isinstance(item, h5py.Dataset) and item.ndim == 2 else None
        )
        value = kernels[-1][()]
        value.view("u4").reshape(-1)[0] ^= 1 << 20
        kernels[-1][...] = value
    content["model.weights.h5"] = inner.read_bytes()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)


def test_one_flipped_bit_of_a_keras_weight_is_another_model(made: Path, tmp_path: Path) -> None:
    """The same file but for a bit of one weight: what it gives differs, by how much is said."""
    target = Path(shutil.copy(made / "net.keras", tmp_path))
    flip(target)
    found = compare_outputs(str(made / "net.keras"), str(target))
    assert not found.proven
    assert found.calls[0].state == "different"
    assert "differs by" in found.calls[0].message
    assert found.calls[0].difference > 0


def test_one_flipped_bit_of_a_saved_weight_is_another_model(made: Path, tmp_path: Path) -> None:
    """Under both loaders, in the signature that reads it; the signatures that do not are equal still."""
    key = next(key for key in sr.entries(made / "kinds") if key.startswith("w/"))
    said = states(compare_outputs(str(made / "kinds"), sr.flipped(made / "kinds", tmp_path / "flipped", key)))
    assert said["v2 embed"] == said["session embed"] == said["v2 sparse(float32[?,4])"] == "different"
    assert said["v2 number"] == said["session number"] == "equal"


def test_a_missing_signature_is_no_equal_model(made: Path, tmp_path: Path) -> None:
    """A result without a signature of the original lacks it under both loaders."""
    target = shutil.copytree(made / "kinds", tmp_path / "lacking")
    message = pb.SavedModel.FromString((target / "saved_model.pb").read_bytes())
    (meta,) = message.meta_graphs
    kept = [entry for entry in meta.signature_def if entry.key != "number"]
    assert len(kept) == len(meta.signature_def) - 1
    del meta.signature_def[:]
    meta.signature_def.extend(kept)
    (target / "saved_model.pb").write_bytes(message.SerializeToString())
    found = compare_outputs(str(made / "kinds"), str(target))
    assert states(found)["session number"] == "missing"
    assert not found.proven
    assert {call.function for call in found.wrong} == {"number"}


def test_another_model_of_the_same_shape_is_different(made: Path) -> None:
    """As its own form, and as every form that it is exported to."""
    assert states(compare_outputs(str(made / "net.keras"), str(made / "other.keras"))) == {"keras model": "different"}
    found = compare_outputs(str(made / "other.keras"), str(made / "net"), tolerance=1e-5)
    assert states(found) == {"v2 model": "different", "session model": "different"}
    found = compare_outputs(str(made / "other.keras"), str(made / "net.tflite"), tolerance=1e-4)
    assert states(found) == {"tflite model": "different"}


@pytest.mark.skipif(KERAS_2, reason="what Keras 2 saves runs in sessions")
def test_a_result_that_one_loader_cannot_run_has_failed(made: Path) -> None:
    """Keras 3's tf.saved_model.save of the same weights: equal in TensorFlow 2, and of no use to a server."""
    found = compare_outputs(str(made / "net"), str(made / "served"))
    said = states(found)
    assert said["v2 serving_default"] == "equal"
    assert said["session serving_default"] == "failed"
    assert not found.proven


def test_a_result_that_crashes_has_failed(made: Path, tmp_path: Path, monkeypatch) -> None:
    """A crash ends the process of that model, and is told with its signal."""
    monkeypatch.chdir(made)
    target = Path(shutil.copy(made / "mine.keras", tmp_path))
    with zipfile.ZipFile(target) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    content["config.json"] = content["config.json"].replace(b'"well"', b'"crash"')
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    found = compare_outputs(str(made / "mine.keras"), str(target), imports=["mine"])
    assert [call.state for call in found.calls] == ["failed"]
    assert "SIGSEGV" in found.calls[0].message
    back = compare_outputs(str(target), str(made / "mine.keras"), imports=["mine"])
    assert [call.state for call in back.calls] == ["skipped"]


# ---------------------------------------------------------------------------------------------------------------------
# Other forms


def test_a_keras_model_and_what_is_exported_from_it(made: Path) -> None:
    """Inputs by name, outputs as they are called or in the only order that fits, under every loader of the form."""
    found = compare_outputs(str(made / "net.keras"), str(made / "net"), tolerance=1e-5)
    assert set(states(found)) == {"v2 model", "session model"}
    assert {call.state for call in found.calls} <= {"equal", "close"}
    assert found.proven
    found = compare_outputs(str(made / "net.keras"), str(made / "net.tflite"), tolerance=1e-4)
    assert states(found)["tflite model"] in ("equal", "close")
    found = compare_outputs(str(made / "net"), str(made / "net.tflite"), tolerance=1e-4)
    assert states(found)["tflite serving_default"] in ("equal", "close")


# ---------------------------------------------------------------------------------------------------------------------
# What is not run


def test_what_writes_files_is_never_run(made: Path, tmp_path: Path, monkeypatch) -> None:
    """A model with such an operation is skipped under every loader, as original and as result."""
    monkeypatch.chdir(tmp_path)
    for pair in ((made / "writes", made / "writes"), (made / "kinds", made / "writes")):
        found = compare_outputs(*map(str, pair))
        assert {call.state for call in found.calls} == {"skipped"}
        said = re.compile("the operation WriteFile.* writes files, so it is not run")
        assert all(said.fullmatch(call.message) for call in found.calls)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize(("name", "words"), [("reads", "reads"), ("caches", "writes"), ("snapshots", "writes")])
def test_what_reads_or_writes_by_any_operation_is_never_run(
    name: str, words: str, made: Path, tmp_path: Path, monkeypatch
) -> None:
    """ReadFile, and data sets that write where they are cached; one that is cached in memory runs."""
    monkeypatch.chdir(tmp_path)
    found = compare_outputs(str(made / name), str(made / name))
    assert {call.state for call in found.calls} == {"skipped"}
    assert all(call.message.endswith(f" {words} files, so it is not run") for call in found.calls)
    assert list(tmp_path.iterdir()) == []
    assert compare_outputs(str(made / "remembers"), str(made / "remembers")).proven


@pytest.mark.parametrize("held", [b"FlexWriteFile\0", b"\x0a\1w\x12\x09WriteFile\x1a"], ids=["name", "node"])
def test_a_tflite_model_that_writes_files_is_never_run(held: bytes, made: Path, tmp_path: Path) -> None:
    """TFLite takes operations from TensorFlow, those too: by their name there, or by the node that they were."""
    target = tmp_path / "m.tflite"
    target.write_bytes((made / "net.tflite").read_bytes() + held)
    found = compare_outputs(str(made / "net.keras"), str(target))
    assert {(call.state, call.message) for call in found.calls} == {
        ("skipped", "the operation WriteFile writes files, so it is not run")
    }


def test_code_in_a_model_is_never_run(made: Path) -> None:
    """Keras 2 loads a Lambda layer of an HDF5 file whatever safe_mode says, so that we look ourselves."""
    found = compare_outputs(str(made / "lambda.h5"), str(made / "lambda.h5"))
    assert [call.state for call in found.calls] == ["skipped"]
    assert "a Lambda layer runs Python code" in found.calls[0].message


def test_absent_code_is_told_by_its_name(made: Path, tmp_path: Path, monkeypatch) -> None:
    """The class, and the way out; a module that is not there is the user's mistake."""
    monkeypatch.chdir(tmp_path)  # not where mine.py is
    found = compare_outputs(str(made / "mine.keras"), str(made / "mine.keras"))
    assert [call.state for call in found.calls] == ["skipped"]
    assert "Mine" in found.calls[0].message
    assert "--import" in found.calls[0].message
    with pytest.raises(UsageError, match="--import mine: No module named 'mine'"):
        compare_outputs(str(made / "mine.keras"), str(made / "mine.keras"), imports=["mine"])


@pytest.mark.parametrize("file", ["functional.weights.h5", "functional.weights.json"])
def test_weights_alone_cannot_be_run(file: str) -> None:
    """They hold no graph, and nothing is claimed of them."""
    if KERAS_2 and file.endswith(".json"):
        file = "weights_only.h5"
    path = one(WRITER, file).path
    with pytest.raises(CannotRun, match="holds weights and no graph, so there is nothing to run"):
        compare_outputs(path, path)


# ---------------------------------------------------------------------------------------------------------------------
# The user's inputs, and the command


def test_the_users_arrays_are_what_is_run_on(made: Path, tmp_path: Path) -> None:
    """By name or by order; what does not fit is told with what would, and nothing is unpickled."""
    file = str(tmp_path / "x.npz")
    a, b = np.full((3, 4), 0.5, "f4"), np.ones((3, 4), "f4")
    net = str(made / "net.keras")
    for arrays in ({"a": a, "b": b}, {"arr_0": b, "arr_1": a}):
        np.savez(file, **arrays)
        assert compare_outputs(net, net, inputs=file).calls[0].bytes == 2 * 3 * 2 * 4
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"a": a, "c": b}, "there is no b"), ({"a": a, "b": b, "c": b}, "c, which nothing takes"),
        ({"a": a, "b": b.astype("f8")}, "not b: float64"), ({"a": np.array([{}], object)}, "no .npz of arrays"),
        ({"a": np.array(["2020"], "M8")}, "give numbers"),
    ]  # fmt: skip
    for arrays, words in wrong:
        np.savez(file, **arrays)
        with pytest.raises(UsageError, match=words):
            compare_outputs(net, net, inputs=file)
    for content in (b"nothing", b"PK\3\4 and nothing"):
        Path(file).write_bytes(content)
        with pytest.raises(UsageError, match=r"no \.npz of arrays"):
            compare_outputs(net, net, inputs=file)


def test_the_command_says_what_ran(made: Path, tmp_path: Path, capsys) -> None:
    """Exit 0 where all that ran is equal; text and JSON have each call, and the bytes are compared first."""
    small = stripped(made / "net", tmp_path)
    code, out, err = command(capsys, "verify", str(made / "net"), small, "--outputs")
    assert (code, err) == (0, "")
    lines = [line.partition(f"{small}: ")[2] for line in out.splitlines()]
    assert lines[0].startswith("equal, ")
    assert "session serving_default: equal, 2 outputs, 128 bytes on these inputs" in lines
    code, out, err = command(capsys, "verify", str(made / "net.keras"), str(made / "net.tflite"), "--outputs", "--json")
    document = json.loads(out)
    assert code == 0
    assert "bytes are not compared" in err
    assert (document["equal"], document["tolerance"], document["differences"]) == (True, 1e-4, [])
    (call,) = document["outputs"]
    assert call.keys() == {"loader", "function", "state", "message", "outputs", "bytes", "difference"}
    assert [model["format"] for model in document["models"]] == ["keras-zip", "tflite"]


def test_the_command_tells_another_model(made: Path, capsys) -> None:
    """Exit 1, whatever the format, and the difference in the line."""
    code, out, _ = command(capsys, "verify", str(made / "other.keras"), str(made / "net.tflite"), "--outputs")
    assert code == 1
    assert "tflite model: different, 2 outputs, 128 bytes on these inputs: output" in out
    document = json.loads(
        command(capsys, "verify", str(made / "other.keras"), str(made / "net.keras"), "--outputs", "--json")[1]
    )
    assert document["equal"] is False
    assert document["differences"]
    assert document["outputs"][0]["state"] == "different"


def test_nothing_run_is_no_success(made: Path, capsys) -> None:
    """Exit 2 with the reason, though the bytes are equal: nothing was proven by running."""
    for path in (str(made / "lambda.h5"), one(WRITER, "functional.weights.h5").path):
        code, out, err = command(capsys, "verify", path, path, "--outputs", "--json")
        assert code == 2
        assert "nothing could be run: " in err
        document = json.loads(out)
        assert (document["equal"], document["differences"]) == (False, [])
        assert [call["state"] for call in document["outputs"]] == ["skipped"]


def test_words_that_do_not_fit(made: Path, capsys, monkeypatch) -> None:
    """--inputs and --import alone, averages, and no TensorFlow: exit 2 with a sentence, before anything is run."""
    path = str(made / "net.keras")
    for words in (["--inputs", "x.npz"], ["--import", "os"], ["--outputs", "--ema", "apply"]):
        code, out, err = command(capsys, "verify", path, path, *words)
        assert (code, out) == (2, "")
        assert "--outputs" in err
    monkeypatch.setattr("tfstrip_core.running.child.importlib.util.find_spec", lambda _: None)
    code, out, err = command(capsys, "verify", path, path, "--outputs")
    assert (code, out) == (2, "")
    assert "pip install 'tfstrip[tensorflow]'" in err


def test_nothing_is_written_beside_a_model(made: Path, tmp_path: Path, monkeypatch) -> None:
    """The original's folder holds the same files afterwards, and TMPDIR nothing."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = made / "net"
    before = sorted(path.relative_to(folder) for path in folder.rglob("*"))
    compare_outputs(str(made / "net.keras"), str(folder), tolerance=1e-5)
    assert sorted(path.relative_to(folder) for path in folder.rglob("*")) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not KERAS_2, reason="what Keras 2 makes of operations between its layers")
@pytest.mark.parametrize("ending", [".h5", ".keras"])
def test_an_operation_between_layers_that_reads_files_is_never_run(ending: str, tmp_path: Path) -> None:
    """Keras 2 keeps tf.io.matching_files(x) by its name; tf.math.sin beside it only computes, and runs."""
    keras = keras_run.framework()
    import tensorflow as tf

    text, number = keras.Input((), dtype=tf.string), keras.Input((4,))
    reads, sine = str(tmp_path / f"reads{ending}"), str(tmp_path / f"sine{ending}")
    keras.Model(text, tf.strings.length(tf.io.matching_files(text))).save(reads)
    keras.Model(number, keras.layers.Dense(2)(tf.math.sin(number))).save(sine)
    (call,) = compare_outputs(reads, reads).calls
    assert (call.state, "MatchingFiles reads files, so it is not run" in call.message) == ("skipped", True)
    assert [call.state for call in compare_outputs(sine, sine).calls] == ["equal"]
