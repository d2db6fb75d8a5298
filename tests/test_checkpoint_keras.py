"""Stripped checkpoints in TensorFlow: fresh objects get the same bytes from them, predict the same bytes, train on.

The reference is what the original gives on the same loader. Objects of Keras 2 run where TensorFlow is older than 2.16,
those of Keras 3 elsewhere; checkpoints by name run everywhere.
"""

import os
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_fixtures import Checkpoint
from conftest import E2E
from independent_checkpoint import flip, tensors
from test_checkpoint_strip import APPLYING, BUNDLES, gone, path_of, strip

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

import checkpoint_run
from checkpoint_run import Live, fresh, is_mine, needs_optimizer, readable, writer

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]

OBJECTS = [checkpoint for checkpoint in BUNDLES if is_mine(checkpoint)]
# Those of the very framework that runs are restored with their optimizers too, and trained on.
OWN = [checkpoint for checkpoint in OBJECTS if checkpoint.writer == writer().WRITER]
BY_NAME = [checkpoint for checkpoint in BUNDLES if checkpoint.kind == "name"]
GRAPHS = [checkpoint for checkpoint in BY_NAME if checkpoint.has_meta]
# Without a graph beside it a checkpoint needs its writer's code; this framework's own writer has not all of that.
CODE = [c for c in BY_NAME if not c.has_meta and checkpoint_run.scenario_of(c) is not None]
# What assert_consumed() cannot say of a result: TF 1.15's scalars of loss scaling are kept, and nobody asks for them.
NOT_CONSUMED = {("tf1.15", "loss_scale")}


def each(checkpoints: list[Checkpoint]) -> Any:
    return pytest.mark.parametrize("checkpoint", checkpoints, ids=lambda checkpoint: checkpoint.id)


def io_of(checkpoint: Checkpoint) -> Any:
    return np.load(checkpoint.io)


def restored(checkpoint: Checkpoint, prefix: str, bare: bool) -> tuple[Live, Any, Any]:
    """Return fresh objects restored from a prefix, their status and their predictions, which were others before."""
    live, io = fresh(checkpoint, bare), io_of(checkpoint)
    assert not np.allclose(live.predict(io["x0"]), io["y0"], atol=1e-4)
    status = live.restore(prefix)
    return live, status, live.predict(io["x0"])


def test_there_are_checkpoints_for_this_framework() -> None:
    """Of this generation and of this very writer, so that the tests below have run."""
    assert len(OBJECTS) >= 85
    assert len({checkpoint.writer for checkpoint in OBJECTS}) >= 3
    assert writer().WRITER not in ("tf2.15", "keras3.15.1") or len(OWN) >= 40
    assert len(GRAPHS) >= 30
    assert CODE


@each(OBJECTS)
def test_fresh_objects_get_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Without an optimizer, as a model is served: all variables, the predictions, nothing left over or asked for."""
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    bare = not needs_optimizer(checkpoint)
    before, status, predicted = restored(checkpoint, readable(checkpoint.prefix, tmp_path / "copy"), bare)
    status.expect_partial()
    after, status, again = restored(checkpoint, target, bare)
    np.testing.assert_allclose(predicted, io_of(checkpoint)["y0"], atol=1e-5)
    assert (again.dtype, again.shape, again.tobytes()) == (predicted.dtype, predicted.shape, predicted.tobytes())
    assert after.values() == before.values()
    if not bare or (checkpoint.writer, checkpoint.scenario) in NOT_CONSUMED:
        with pytest.raises(AssertionError):
            status.assert_consumed()
        status.expect_partial()
    else:
        status.assert_consumed()


@each(OWN)
def test_training_goes_on_with_a_fresh_optimizer(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The whole training is restored: weights as from the original, and a step changes them."""
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    before, status, predicted = restored(checkpoint, readable(checkpoint.prefix, tmp_path / "copy"), bare=False)
    status.expect_partial()
    after, status, again = restored(checkpoint, target, bare=False)
    status.expect_partial()
    assert again.tobytes() == predicted.tobytes()
    values = after.values()
    assert values == before.values()
    assert np.isfinite(after.train())
    assert after.values() != values


@each([checkpoint for checkpoint in APPLYING if is_mine(checkpoint)])
def test_applied_averages_predict_what_the_writer_predicted_with_them(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """--ema apply serves the averages."""
    target = str(tmp_path / "out")
    strip(checkpoint, target, ema="apply")
    _, status, predicted = restored(checkpoint, target, bare=True)
    status.assert_consumed()
    io = io_of(checkpoint)
    np.testing.assert_allclose(predicted, io["yavg0"], atol=1e-5)
    # With accumulation they are one rounding away from the weights.
    assert np.allclose(predicted, io["y0"], atol=1e-5) == (checkpoint.scenario == "accumulation")


def test_some_averages_are_applied() -> None:
    """Keras 3 keeps lists that pair them; of Keras 2 there are slots of addons alone."""
    assert len([checkpoint for checkpoint in APPLYING if is_mine(checkpoint)]) >= 3


@each(BUNDLES)
def test_every_kept_key_reads_as_before(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """tf.train.load_checkpoint gives the same arrays; variants it reads from no checkpoint."""
    tf = writer().tf
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    before = tf.train.load_checkpoint(readable(checkpoint.prefix, tmp_path / "copy"))
    after = tf.train.load_checkpoint(target)
    shapes, types = after.get_variable_to_shape_map(), after.get_variable_to_dtype_map()
    kept = {key.name for key in checkpoint.keys} - gone(checkpoint)
    assert set(shapes) == kept
    for name in kept - {"_CHECKPOINTABLE_OBJECT_GRAPH"}:
        assert shapes[name] == before.get_variable_to_shape_map()[name]
        assert types[name] == before.get_variable_to_dtype_map()[name]
        old, new = np.asarray(before.get_tensor(name)), np.asarray(after.get_tensor(name))
        assert (new.dtype, new.shape) == (old.dtype, old.shape)
        assert new.tolist() == old.tolist() if old.dtype == object else new.tobytes() == old.tobytes()


# Checkpoints by name.


def in_graph(checkpoint: Checkpoint, prefix: str, work: Callable[[Any, Any], Any]) -> Any:
    """Import the graph beside a prefix, restore, and do the work on (session, answer)."""
    tf1 = writer().tf1
    # A graph in two shards is made for two devices.
    config = tf1.ConfigProto(device_count={"CPU": 2}, intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
    of = checkpoint.facts["tensors"]
    with writer().tf.Graph().as_default(), tf1.Session(config=config) as session:
        tf1.train.import_meta_graph(f"{prefix}.meta").restore(session, prefix)
        return work(session, lambda: np.asarray(session.run(of["y"], {of["x"]: io_of(checkpoint)["x0"]})))


def variables_in(checkpoint: Checkpoint, prefix: str) -> dict[str, bytes]:
    """Return the bytes of every variable that a graph restores from a prefix."""
    tf1 = writer().tf1

    def values(session: Any, _: Any) -> dict[str, bytes]:
        # What was never restored has no value, and says so.
        empty = {name.decode() for name in session.run(tf1.report_uninitialized_variables(tf1.global_variables()))}
        full = {one.op.name: one for one in tf1.global_variables() if one.op.name not in empty}
        return {name: np.asarray(value).tobytes() for name, value in session.run(full).items()}

    found: dict[str, bytes] = in_graph(checkpoint, prefix, values)
    return found


@each(GRAPHS)
def test_the_graph_beside_it_answers_with_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """import_meta_graph and restore: every variable that is left, and the prediction."""
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    source = readable(checkpoint.prefix, tmp_path / "copy")
    before = in_graph(checkpoint, source, lambda session, answer: answer())
    after = in_graph(checkpoint, target, lambda session, answer: answer())
    assert after.tobytes() == before.tobytes()
    np.testing.assert_allclose(after, io_of(checkpoint)["y0"], atol=1e-5)
    left = {name for key in checkpoint.keys if key.name not in gone(checkpoint) for name in key.graph_names}
    values = variables_in(checkpoint, source)
    assert variables_in(checkpoint, target) == {name: values[name] for name in left}


@each([checkpoint for checkpoint in APPLYING if checkpoint in GRAPHS])
def test_a_graph_serves_applied_averages(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The weights' own variables get the averages' values."""
    target = str(tmp_path / "out")
    strip(checkpoint, target, ema="apply")
    after = in_graph(checkpoint, target, lambda session, answer: answer())
    np.testing.assert_allclose(after, io_of(checkpoint)["yavg0"], atol=1e-5)
    assert not np.allclose(after, io_of(checkpoint)["y0"], atol=1e-5)


@each(CODE)
def test_the_writers_code_restores_what_is_left(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """A Saver of the variables that are left, in a graph that was built anew."""
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    kept = {name for key in checkpoint.keys if key.name not in gone(checkpoint) for name in key.graph_names}
    io, tf1 = io_of(checkpoint), writer().tf1
    answers = []

    def within(session: Any, net: dict[str, Any]) -> None:
        saver = tf1.train.Saver([one for one in tf1.global_variables() if one.op.name in kept])
        initialize = tf1.global_variables_initializer()
        for prefix in (checkpoint.prefix, target):
            session.run(initialize)
            assert not np.allclose(session.run(net["output"], {net["x"]: io["x0"]}), io["y0"], atol=1e-4)
            saver.restore(session, prefix)
            answers.append(np.asarray(session.run(net["output"], {net["x"]: io["x0"]})))

    checkpoint_run.build(checkpoint, within=within)
    before, after = answers
    assert after.tobytes() == before.tobytes()
    np.testing.assert_allclose(after, io["y0"], atol=1e-5)


# The negative controls.


def kernel_of(checkpoint: Checkpoint) -> str:
    return next(key.name for key in checkpoint.keys if key.role == "weight" and len(key.shape) == 2)


@each([c for c in OWN if c.scenario in ("adam_batchnorm", "subclassed_list", "module")])
def test_one_flipped_bit_in_objects_is_noticed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """With its sum mended TensorFlow restores it, and what the tests above compare is no longer equal."""
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    bare = not needs_optimizer(checkpoint)
    before, _, predicted = restored(checkpoint, target, bare)
    flip(target, kernel_of(checkpoint), mend=True)
    after, _, again = restored(checkpoint, target, bare)
    assert again.tobytes() != predicted.tobytes()
    pairs = zip(before.values(), after.values(), strict=True)
    assert sum(one != other for one, other in pairs) == 1


@each([c for c in GRAPHS if c.scenario in ("graph_adam", "graph_partitioned")])
def test_one_flipped_bit_in_a_graph_is_noticed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The same by name; with its sum not mended TensorFlow itself refuses."""
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    before = in_graph(checkpoint, target, lambda session, answer: answer())
    values, stored = variables_in(checkpoint, target), tensors(target)
    flip(target, kernel_of(checkpoint), mend=True)
    assert in_graph(checkpoint, target, lambda session, answer: answer()).tobytes() != before.tobytes()
    assert sum(value != values[name] for name, value in variables_in(checkpoint, target).items()) == 1
    assert sum(value != stored[key] for key, value in tensors(target).items()) == 1
    flip(target, kernel_of(checkpoint))
    with pytest.raises(writer().tf.errors.DataLossError):
        in_graph(checkpoint, target, lambda session, answer: answer())


def test_the_empty_prefix_is_named_by_a_file() -> None:
    """What the tests give to strip is what a user would."""
    empty = [checkpoint for checkpoint in BUNDLES if checkpoint.prefix.endswith("/")]
    assert empty
    assert all(os.path.isfile(path_of(checkpoint.prefix)) for checkpoint in empty)
