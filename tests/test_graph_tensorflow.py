"""Graphs in the TensorFlow at hand: what is left computes what the original does, to the last bit."""

import os
from importlib.util import find_spec
from pathlib import Path

import graph_run
import numpy as np
import pytest
from conftest import E2E
from graph_fixtures import ALL, Graph

import tfstrip_core
from tfstrip_core.codecs import graph_file
from tfstrip_core.verbs.outputs import compare_outputs

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default"), pytest.mark.usefixtures("framework_once")]


def readable() -> list[Graph]:
    """Return the graphs that this TensorFlow can read: older ones do not know the attributes of newer ones."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    mine = [int(part) for part in tf.__version__.split(".")[:2]]
    return [graph for graph in ALL if [int(part) for part in graph.writer.removeprefix("tf").split(".")] <= mine]


every_graph = pytest.mark.parametrize("graph", readable(), ids=lambda graph: f"{graph.writer}-{graph.scenario}")


def computed(graph: Graph, path: str, ending: str) -> list[bytes]:
    feeds = graph_run.feeds(graph.facts)
    if ending == ".meta":
        found = graph_run.run_meta_graph(path, feeds, graph.outputs, str(graph.folder / "values" / graph.scenario))
    else:
        values = dict(np.load(graph.folder / f"{graph.scenario}.npz"))
        found = graph_run.run_graph_def(path, feeds, graph.outputs, values)
    return [value.astype("<f4").tobytes() for value in found]


@every_graph
@pytest.mark.parametrize("ending", [".pb", ".pbtxt", ".meta"])
def test_what_is_left_computes_the_same(graph: Graph, ending: str, tmp_path: Path) -> None:
    """Imported, with the variables restored by what is left of its Saver, each output has the original's bytes."""
    target = str(tmp_path / f"small{ending}")
    tfstrip_core.strip(graph.path(ending), target, output_names=graph.outputs)
    assert computed(graph, target, ending) == computed(graph, graph.path(ending), ending)


@every_graph
def test_what_is_left_of_a_meta_file_can_be_saved_and_initialized(graph: Graph, tmp_path: Path) -> None:
    """A new start and a new checkpoint work too, of the variables that are left."""
    target = str(tmp_path / "small.meta")
    tfstrip_core.strip(graph.path(".meta"), target, output_names=graph.outputs)
    kept = graph_run.initialized(target, tmp_path)
    assert set(kept) < set(graph.facts["variables"])
    assert not [name for name in kept if "Adam" in name or name == "global_step"]


def test_a_flipped_bit_is_another_answer(tmp_path: Path) -> None:
    """The comparison above sees one bit of one weight."""
    graph = next(one for one in ALL if one.scenario == "resources" and one.writer == "tf1.15")
    ((_, begin, _),) = graph_file.read(graph.path(".frozen.pb")).constants["hidden/kernel"].values
    content = bytearray(Path(graph.path(".frozen.pb")).read_bytes())
    content[begin] ^= 1
    flipped = tmp_path / "flipped.pb"
    flipped.write_bytes(content)
    target = str(tmp_path / "small.pb")
    tfstrip_core.strip(str(flipped), target, output_names=graph.outputs)
    assert computed(graph, target, ".pb") == computed(graph, str(flipped), ".pb")
    assert computed(graph, target, ".pb") != computed(graph, graph.path(".frozen.pb"), ".pb")


@pytest.mark.parametrize("scenario", ["adam_batchnorm", "label_needed", "loop"])
def test_a_frozen_graph_is_run_beside_what_is_left_of_it(scenario: str, tmp_path: Path) -> None:
    """The proof by running takes the outputs that are left, from the placeholders that they need."""
    graph = next(graph for graph in readable() if graph.scenario == scenario)
    target = str(tmp_path / "small.pb")
    tfstrip_core.strip(graph.path(".frozen.pb"), target, output_names=graph.outputs)
    done = tfstrip_core.verify(graph.path(".frozen.pb"), target, outputs=True)
    assert done.equal
    assert done.outputs is not None
    assert [(call.loader, call.function, call.state) for call in done.outputs.calls] == [("graph", "graph", "equal")]
    assert done.outputs.calls[0].bytes > 0


def test_a_graph_with_one_other_weight_gives_something_else(tmp_path: Path) -> None:
    """Where a bit of a constant is flipped the run tells it, whatever the comparison of bytes says."""
    graph = next(graph for graph in readable() if graph.scenario == "adam_batchnorm")
    target = tmp_path / "other.pb"
    content = bytearray(Path(graph.path(".frozen.pb")).read_bytes())
    weight = np.load(graph.folder / f"{graph.scenario}.npz")["logits/kernel"].tobytes()
    content[content.index(weight) + 3] ^= 0x80  # a sign
    target.write_bytes(content)
    found = compare_outputs(graph.path(".frozen.pb"), str(target))
    assert [call.state for call in found.calls] == ["different"]


def test_variables_without_values_are_not_run(tmp_path: Path) -> None:
    """A graph that reads variables is no model by itself, and nothing is claimed of it."""
    graph = next(graph for graph in readable() if graph.scenario == "resources")
    target = str(tmp_path / "small.pb")
    tfstrip_core.strip(graph.path(".pb"), target, output_names=graph.outputs)
    (call,) = compare_outputs(graph.path(".pb"), target).calls
    assert (call.state, "has no values for them" in call.message) == ("skipped", True)
