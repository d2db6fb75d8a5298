"""TensorFlow reads what is left of a checkpoint of the first version, and writes tables as ours are."""

import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from checkpoint_fixtures import ALL, Checkpoint
from conftest import E2E

from tfstrip_core import check, strip, verify
from tfstrip_core.codecs import v1_table
from tfstrip_core.containers.checkpoints import checkpoint_v1

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]
FIRST = [checkpoint for checkpoint in ALL if checkpoint.kind == "v1"]


@pytest.fixture(scope="module")
def tf1() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    return tf.compat.v1


def held(tf1: Any, path: str) -> dict[str, np.ndarray]:
    """What TensorFlow's reader gives; of what it has no way to give (variables in parts, rare types) the shape."""
    reader = tf1.train.NewCheckpointReader(path)
    found = {}
    for name, shape in reader.get_variable_to_shape_map().items():
        try:
            found[name] = reader.get_tensor(name)
        except tf1.errors.UnimplementedError:
            found[name] = np.zeros(shape)
    return found


def restored(tf1: Any, path: str, names: list[str]) -> list[np.ndarray]:
    """What the graph beside a checkpoint gets from it."""
    with tf1.Graph().as_default(), tf1.Session() as session:
        tf1.train.import_meta_graph(f"{path}.meta").restore(session, path)
        return [np.asarray(value) for value in session.run([f"{name}/Read/ReadVariableOp:0" for name in names])]


def same(left: np.ndarray, right: np.ndarray) -> bool:
    left, right = np.asarray(left), np.asarray(right)
    if left.dtype == object:
        return bool(left.shape == right.shape and (left == right).all())
    return (left.dtype, left.shape, left.tobytes()) == (right.dtype, right.shape, right.tobytes())


@pytest.mark.parametrize("checkpoint", FIRST, ids=lambda checkpoint: checkpoint.id)
def test_every_kept_variable_is_bit_for_bit_the_same(tf1: Any, checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = str(tmp_path / "out")
    strip(checkpoint.prefix, path)
    before, after = held(tf1, checkpoint.prefix), held(tf1, path)
    assert set(after) == checkpoint.of_role("weight", "counter")
    assert all(same(before[name], value) for name, value in after.items())


@pytest.mark.parametrize("checkpoint", [c for c in FIRST if c.has_meta], ids=lambda checkpoint: checkpoint.id)
def test_the_answers_are_the_same(tf1: Any, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The graph beside it is imported and restored, before and after, and asked the writer's questions."""
    path = str(tmp_path / "out")
    strip(checkpoint.prefix, path)
    names, answers = checkpoint.facts["tensors"], []
    for prefix in (checkpoint.prefix, path):
        with tf1.Graph().as_default(), tf1.Session() as session, np.load(checkpoint.io) as numbers:
            tf1.train.import_meta_graph(f"{prefix}.meta").restore(session, prefix)
            answers.append(session.run(names["y"], {names["x"]: numbers["x0"]}))
    assert same(*answers)


def trained(tf1: Any, folder: Path, types: bool = True) -> str:
    """A checkpoint of every type, with a variable in parts and tensors of more than a block, trained with Adam."""
    folder.mkdir()
    with tf1.Graph().as_default(), tf1.Session() as session:
        parts = tf1.fixed_size_partitioner(3)
        random = tf1.random_normal_initializer(seed=1)
        wide = tf1.get_variable("wide", [300, 500], initializer=random)
        cut = tf1.get_variable("cut", [500, 70], initializer=random, partitioner=parts)
        loss = tf1.reduce_mean(tf1.matmul(wide, cut.as_tensor()))
        kept = {
            "float64": [0.5, -1e300], "int32": [-5, 300, 1 << 30], "uint8": [0, 255], "int16": [-300, 7],
            "int8": [-1, 1], "int64": [-(1 << 60), 3], "bool": [True, False], "complex64": [1 + 2j, -3j],
            "float16": [0.1, -2.0], "complex128": [1e-300 + 2j], "string": ["", "a", "b" * 300_000],
        }  # fmt: skip
        for name, value in kept.items() if types else ():
            tf1.get_variable(f"kept/{name}", initializer=tf1.constant(value, dtype=name), trainable=False)
        tf1.get_variable("kept/none", shape=[0, 3], trainable=False)
        train = tf1.train.AdamOptimizer().minimize(loss)
        session.run(tf1.global_variables_initializer())
        session.run(train)
        saver = tf1.train.Saver(write_version=tf1.train.SaverDef.V1)
        return str(saver.save(session, str(folder / "model")))


def test_every_type_and_parts_and_large_ones(tf1: Any, tmp_path: Path) -> None:
    """Made anew without changes it is byte for byte TensorFlow's; stripped, TensorFlow reads what is left of it."""
    path, target, plain = trained(tf1, tmp_path / "in"), str(tmp_path / "out"), str(tmp_path / "plain")
    table = v1_table.read(path)
    v1_table.check_whole(table)
    v1_table.write(table, plain, ())
    assert Path(plain).read_bytes() == Path(path).read_bytes()
    assert len(table.variables["cut"].slices) == 3
    before = held(tf1, path)
    assert {name: variable.shape for name, variable in table.variables.items()} == {
        name: np.shape(value) for name, value in before.items()
    }
    result = strip(path, target)
    gone = {item.name for item in result.removed if item.rule == "TFS101"}
    assert {"wide/Adam", "wide/Adam_1", "cut/Adam", "cut/Adam_1", "beta1_power", "beta2_power"} == gone
    after = held(tf1, target)
    assert set(after) == set(before) - gone
    assert all(same(before[name], value) for name, value in after.items())
    assert verify(path, target).equal
    assert check([target]).exit_code == 0
    assert [t.bytes for t in checkpoint_v1.inventory(target).tensors if t.name == "cut"] == [500 * 70 * 4]
    kept = [name for name in after if name.startswith("kept")]
    names = ["wide", *(f"cut/part_{part}" for part in range(3)), *kept]
    assert len(kept) == 12
    assert all(map(same, restored(tf1, path, names), restored(tf1, target, names)))


def test_without_the_graph_as_well(tf1: Any, tmp_path: Path) -> None:
    """The names alone say the same, and a partitioned variable's slots go with all their parts."""
    path, target = trained(tf1, tmp_path / "in", types=False), str(tmp_path / "out")
    os.unlink(f"{path}.meta")
    gone = {item.name for item in strip(path, target).removed if item.rule == "TFS101"}
    assert {"wide/Adam", "wide/Adam_1", "cut/Adam", "cut/Adam_1", "beta1_power", "beta2_power"} == gone
    assert set(held(tf1, target)) == set(held(tf1, path)) - gone
