"""TensorFlow loads what is left: the graph that was rewritten, the checkpoint without slots, the same answers."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import E2E
from graphs import Named, named_checkpoints

from tfstrip_core.codecs import tensor_bundle as tb
from tfstrip_core.codecs import tensor_bundle_write as tw
from tfstrip_core.codecs.meta_graph_write import without
from tfstrip_core.containers.checkpoints.named_state import judge

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]

GRAPHS = [n for n in named_checkpoints() if n.facts["kind"] == "name" and n.facts["meta"] and "tensors" in n.facts]

FIRST = [n for n in named_checkpoints() if n.facts["kind"] == "v1" and n.facts["meta"]]


@pytest.fixture(scope="module")
def tf1() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    return tf.compat.v1


def strip(named: Named, prefix: str) -> set[str]:
    """Write the checkpoint and its graph without what is certain, and say what that was."""
    tensors, parts = named.tensors()
    graph = named.graph()
    assert graph is not None
    findings = judge(tensors, graph, parts)[1]
    gone = {name for finding in findings if finding.rule == "TFS101" for name in finding.tensors}
    source = tb.read(named.prefix)
    tw.write(source, prefix, {key: entry for key, entry in source.entries.items() if key not in gone})
    Path(f"{prefix}.meta").write_bytes(without(graph, gone))
    return gone


def config(tf1: Any) -> Any:
    """The writer's own: a graph in two shards is made for two devices."""
    return tf1.ConfigProto(device_count={"CPU": 2}, intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)


def answers(tf1: Any, named: Named, prefix: str, initialize: bool = False) -> np.ndarray:
    """Import the graph, restore, and run it on the writer's inputs."""
    x = np.load(named.io)["x0"]
    with tf1.Graph().as_default(), tf1.Session(config=config(tf1)) as session:
        saver = tf1.train.import_meta_graph(f"{prefix}.meta")
        if initialize:
            session.run("init")
        saver.restore(session, prefix)
        return np.asarray(session.run(named.facts["tensors"]["y"], {named.facts["tensors"]["x"]: x}))


def readable(named: Named, folder: Path) -> str:
    """A prefix that TensorFlow restores from; an empty one it takes for a folder."""
    if not named.prefix.endswith("/"):
        return named.prefix
    for path in Path(named.prefix).glob(".*"):
        (folder / f"copy{path.name}").write_bytes(path.read_bytes())
    return str(folder / "copy")


@pytest.mark.parametrize("named", GRAPHS, ids=lambda named: named.id)
def test_the_answers_are_bit_for_bit_the_same(tf1: Any, named: Named, tmp_path: Path) -> None:
    """Before and after in one TensorFlow, and near to what the writer's own answered."""
    prefix = str(tmp_path / "out")
    gone = strip(named, prefix)
    assert gone or named.facts["scenario"] in ("graph_inference", "graph_descent", "graph_traces")
    before = answers(tf1, named, readable(named, tmp_path))
    after = answers(tf1, named, prefix)
    assert after.tobytes() == before.tobytes()
    np.testing.assert_allclose(after, np.load(named.io)["y0"], atol=1e-5)


@pytest.mark.parametrize(
    "named",
    [n for n in GRAPHS if n.facts["scenario"] in ("graph_adam", "graph_partitioned")],
    ids=lambda named: named.id,
)
def test_who_trains_on_starts_with_a_fresh_optimizer(tf1: Any, named: Named, tmp_path: Path) -> None:
    """After its own initializer the graph trains; saved anew it is complete; a Saver of all variables fits as well."""
    prefix = str(tmp_path / "out")
    gone = strip(named, prefix)
    with np.load(named.io) as numbers:
        feed = {named.facts["tensors"]["x"]: numbers["x0"]}
        labels = {named.facts["tensors"]["labels"]: numbers["y0"] + 1}
    with tf1.Graph().as_default(), tf1.Session(config=config(tf1)) as session:
        saver = tf1.train.import_meta_graph(f"{prefix}.meta")
        session.run("init")
        tf1.train.Saver().restore(session, prefix)
        before = session.run(named.facts["tensors"]["y"], feed)
        session.run(tf1.get_collection("train_op"), {**feed, **labels})
        assert not np.array_equal(session.run(named.facts["tensors"]["y"], feed), before)
        saver.save(session, str(tmp_path / "again"))
    again = tb.read(str(tmp_path / "again"))
    assert set(again.entries) == set(tb.read(named.prefix).entries) - gone
    assert {key: entry.shape for key, entry in again.entries.items()} == {
        key: entry.shape for key, entry in tb.read(prefix).entries.items()
    }


@pytest.mark.parametrize("named", FIRST, ids=lambda named: named.id)
def test_a_graph_of_the_first_version_is_rewritten_too(tf1: Any, named: Named, tmp_path: Path) -> None:
    """It restores what is left, here from the whole file, and saves no more than that."""
    prefix = str(tmp_path / "out")
    tensors, _ = named.tensors()
    graph = named.graph()
    assert graph is not None
    gone = {name for f in judge(tensors, graph)[1] if f.rule == "TFS101" for name in f.tensors}
    Path(prefix).write_bytes(Path(named.prefix).read_bytes())
    Path(f"{prefix}.meta").write_bytes(without(graph, gone))
    assert answers(tf1, named, prefix).tobytes() == answers(tf1, named, named.prefix).tobytes()
    with tf1.Graph().as_default(), tf1.Session() as session:
        saver = tf1.train.import_meta_graph(f"{prefix}.meta")
        saver.restore(session, prefix)
        saver.save(session, str(tmp_path / "again"))
    reader = tf1.train.NewCheckpointReader(str(tmp_path / "again"))
    assert set(reader.get_variable_to_shape_map()) == set(named.roles) - gone


@pytest.mark.skipif(not GRAPHS, reason="set TFSTRIP_CHECKPOINTS to the checkpoints that TensorFlow wrote")
def test_without_the_rewriting_the_graph_does_not_load(tf1: Any, tmp_path: Path) -> None:
    """What the rewriting is for."""
    named = next(named for named in GRAPHS if named.facts["scenario"] == "graph_adam")
    prefix = str(tmp_path / "out")
    strip(named, prefix)
    Path(f"{prefix}.meta").write_bytes(Path(f"{named.prefix}.meta").read_bytes())
    with pytest.raises(Exception, match="not found in checkpoint"):
        answers(tf1, named, prefix)
