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

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]


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
