"""What export refuses before any framework is asked: no graph, no TensorFlow, targets that are not its to replace."""

import os
import shutil
from pathlib import Path

import pytest
from conftest import one
from saved_made import Made

import tfstrip_core
from tfstrip_core.running import child

MODEL = one("keras3.15.1", "sequential.keras").path


@pytest.fixture
def no_framework(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is installed, TensorFlow is not found."""
    monkeypatch.setattr(child.importlib.util, "find_spec", lambda name: None)


def test_without_tensorflow_one_sentence_names_the_extra(no_framework: None, tmp_path: Path) -> None:
    """It is an extra, which most users have not; nothing is written."""
    with pytest.raises(tfstrip_core.UsageError, match=r"TensorFlow.*tfstrip\[tensorflow\]"):
        tfstrip_core.export(MODEL, str(tmp_path / "out"), "saved_model")
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("file", ["sequential.weights.h5"])
def test_weights_alone_hold_no_graph(file: str, tmp_path: Path) -> None:
    """No form can be made of them, with TensorFlow or without."""
    with pytest.raises(tfstrip_core.CannotRun, match="weights and no graph"):
        tfstrip_core.export(one("keras3.15.1", file).path, str(tmp_path / "out"), "tflite")


def test_a_graph_has_no_signatures(tmp_path: Path) -> None:
    """It holds no variables and does not say what it takes: the way out is named."""
    graph = tmp_path / "g.pbtxt"
    graph.write_text('node { name: "x" op: "Placeholder" }\nnode { name: "y" op: "Identity" input: "x" }\n')
    with pytest.raises(tfstrip_core.CannotRun, match="a graph without signatures cannot be exported; export the Saved"):
        tfstrip_core.export(str(graph), str(tmp_path / "out"), "tflite")


def test_a_checkpoint_holds_no_graph(tmp_path: Path) -> None:
    """Neither do the variables of a SavedModel by themselves."""
    made = Made().write(tmp_path / "model")
    os.remove(f"{made}/saved_model.pb")
    with pytest.raises(tfstrip_core.CannotRun, match="weights and no graph"):
        tfstrip_core.export(f"{made}/variables/variables", str(tmp_path / "out"), "frozen")


@pytest.mark.parametrize(
    ("to", "target", "force", "words"),
    [
        ("onnx", "out", False, "no form 'onnx'"),
        ("saved_model", "", True, "current directory"),
        ("tflite", "", True, "no file"),
        ("tflite", "folder/", False, "no file|directory"),
        ("saved_model", "folder", True, "holds no SavedModel"),
        ("tflite", "folder", True, "is a directory"),
        ("tflite", "notes.txt", True, "no TFLite model"),
        ("tflite", "old.tflite", False, "--force"),
        ("frozen", "model/inner", True, "lies in the source"),
        ("tflite", "model/inner.tflite", True, "lies in the source"),
        ("saved_model", "model", True, "same directory"),
        ("tflite", "nowhere/out", False, "does not exist"),
    ],
)
def test_a_target_that_is_not_its_to_replace(
    to: str, target: str, force: bool, words: str, no_framework: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As strip refuses them, and before anything is run."""
    monkeypatch.chdir(tmp_path)
    made = Made().write(tmp_path / "model")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "mine.txt").write_text("mine")
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "old.tflite").write_bytes(b"\x1c\0\0\0TFL3" + bytes(64))
    with pytest.raises(tfstrip_core.UsageError, match=words):
        tfstrip_core.export(made, target, to, force=force)  # type: ignore[arg-type]
    assert (tmp_path / "folder" / "mine.txt").read_text() == (tmp_path / "notes.txt").read_text() == "mine"
    shutil.rmtree(made)
    assert sorted(os.listdir(tmp_path)) == ["folder", "notes.txt", "old.tflite"]


@pytest.mark.parametrize("to", ["frozen", "tflite"])
def test_what_must_not_be_run_is_not_loaded_either(to: str, no_framework: None, tmp_path: Path) -> None:
    """TensorFlow's converters load a model and run what initializes it: a file that it writes, say."""
    model = Made()
    model.meta.graph_def.node.add(name="write", op="WriteFile")
    next(node for node in model.meta.graph_def.node if node.name == "y").input.append("^write")
    with pytest.raises(tfstrip_core.CannotRun, match="writes files"):
        tfstrip_core.export(model.write(tmp_path / "model"), str(tmp_path / "out"), to)  # type: ignore[arg-type]
    assert os.listdir(tmp_path) == ["model"]
