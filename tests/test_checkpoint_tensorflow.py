"""TensorFlow and we read what the other wrote: random bundles, partitioned variables, shards, variants, graphs."""

import os
import tempfile
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import E2E
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tfstrip_core.codecs import object_graph as og
from tfstrip_core.codecs import sstable
from tfstrip_core.codecs import tensor_bundle as tb
from tfstrip_core.codecs import tensor_bundle_write as tw

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]

quick = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
DTYPES = [
    "float32",
    "float64",
    "float16",
    "int8",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "bool",
    "complex64",
    "complex128",
]


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    return tf


shapes = st.lists(st.integers(0, 5), max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """An array of any type and shape, strings among them."""
    shape = draw(shapes)
    count = int(np.prod(shape))
    dtype = draw(st.sampled_from([*DTYPES, "string"]))
    if dtype == "string":
        texts = st.binary(max_size=6) | st.sampled_from([100, 127, 128, 20_000]).map(bytes)
        flat = np.empty(count, object)
        flat[:] = draw(st.lists(texts, min_size=count, max_size=count)) if count < 30 else [b"x"] * count
        return flat.reshape(shape)
    return np.random.default_rng(draw(st.integers(0, 9))).integers(0, 2, shape).astype(dtype)


names = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=8)
bundles = st.dictionaries(names, arrays(), min_size=1, max_size=10)


def save(tf: Any, prefix: str, arrays: dict[str, np.ndarray]) -> None:
    """Save with TensorFlow's own operation, in the order given."""
    tensors = [tf.constant(a, tf.string if a.dtype == object else a.dtype, shape=a.shape) for a in arrays.values()]
    tf.raw_ops.SaveV2(prefix=prefix, tensor_names=list(arrays), shape_and_slices=[""] * len(arrays), tensors=tensors)


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype and a.tolist() == b.tolist()


@quick
@given(bundles, st.data())
def test_random_bundles_go_both_ways(tf: Any, arrays: dict[str, np.ndarray], data: st.DataObject) -> None:
    """TensorFlow's bundle is read with its checksums and rewritten byte for byte; TensorFlow reads ours, of a part."""
    with tempfile.TemporaryDirectory() as folder:
        save(tf, f"{folder}/a", arrays)
        source = tb.read(f"{folder}/a")
        tb.check_whole(source)
        assert {key: entry.shape for key, entry in source.entries.items()} == {k: a.shape for k, a in arrays.items()}
        with tb.opened(source) as files:
            for key, array in arrays.items():
                entry = source.entries[key]
                if array.dtype != object:
                    assert entry.type_name == array.dtype.name
                    assert b"".join(files.blocks(entry)) == array.tobytes()
        tw.write(source, f"{folder}/b", source.entries)
        for end in (".index", ".data-00000-of-00001"):
            assert Path(f"{folder}/b{end}").read_bytes() == Path(f"{folder}/a{end}").read_bytes()
        kept = data.draw(st.sets(st.sampled_from(sorted(arrays))))
        content = data.draw(st.sampled_from([b"", b"graph", bytes(200), bytes(70_000)]))
        plan = {key: source.entries[key] for key in kept} | {"\U0001f600 new": tw.fresh_string(content)}
        tw.write(source, f"{folder}/c", plan)
        reader = tf.train.load_checkpoint(f"{folder}/c")
        assert set(reader.get_variable_to_shape_map()) == set(plan)
        assert reader.get_tensor("\U0001f600 new") == content
        for key in kept:
            assert same(np.asarray(reader.get_tensor(key), arrays[key].dtype), arrays[key])


@quick
@given(st.integers(1, 200), st.integers(0, 3), st.lists(st.integers(1, 200), max_size=5))
def test_partitioned_variables_go_both_ways(tf: Any, rows: int, columns: int, cuts: list[int]) -> None:
    """Parts that TensorFlow cut are found under their keys, and found by TensorFlow under ours, renamed too."""
    edges = sorted({0, rows, *(cut % rows for cut in cuts)})
    value = np.arange(rows * columns, dtype="float32").reshape(rows, columns)
    parts = list(pairwise(edges))
    with tempfile.TemporaryDirectory() as folder:
        tf.raw_ops.SaveV2(
            prefix=f"{folder}/a",
            tensor_names=["net/v\xff"] * len(parts) + ["w"],
            shape_and_slices=[f"{rows} {columns} {a},{b - a}:-" for a, b in parts] + [""],
            tensors=[tf.constant(value[a:b]) for a, b in parts] + [tf.constant(1.5)],
        )
        source = tb.read(f"{folder}/a")
        tb.check_whole(source)
        assert list(source.entries) == ["net/v\xff", "w"]
        assert source.entries["net/v\xff"].shape == value.shape
        assert source.entries["net/v\xff"].bytes == value.nbytes
        tw.write(source, f"{folder}/b", {"x\xff": source.entries["net/v\xff"], "w": source.entries["w"]})
        assert same(tf.train.load_checkpoint(f"{folder}/b").get_tensor("x\xff"), value)
        tw.write(source, f"{folder}/c", source.entries)
        assert Path(f"{folder}/c.index").read_bytes() == Path(f"{folder}/a.index").read_bytes()


def test_shards_become_one(tf: Any, tmp_path: Path) -> None:
    """Checkpoints that TensorFlow merged, parts of one variable in two shards: one data file, the same tensors."""
    for number in (0, 1):
        tf.raw_ops.SaveV2(
            prefix=f"{tmp_path}/{number}",
            tensor_names=["v", f"t{number}"],
            shape_and_slices=[f"4 2 {2 * number},2:-", ""],
            tensors=[tf.fill([2, 2], float(number)), tf.constant([number] * 5)],
        )
    tf.raw_ops.MergeV2Checkpoints(
        checkpoint_prefixes=[f"{tmp_path}/0", f"{tmp_path}/1"],
        destination_prefix=f"{tmp_path}/a",
        delete_old_dirs=False,
    )
    source = tb.read(f"{tmp_path}/a")
    assert source.shards == 2
    assert [part.shard for part in source.entries["v"].parts] == [0, 1]
    tw.write(source, f"{tmp_path}/b", source.entries)
    reader = tf.train.load_checkpoint(f"{tmp_path}/b")
    assert reader.get_tensor("v").tolist() == [[0, 0], [0, 0], [1, 1], [1, 1]]
    assert [reader.get_tensor(f"t{number}").tolist() for number in (0, 1)] == [[0] * 5, [1] * 5]


def test_an_index_of_many_blocks_is_written_as_tensorflow_writes_it(tf: Any, tmp_path: Path) -> None:
    """Twelve thousand tensors: where blocks end and how the index shortens keys is the table builder's choice."""
    random = np.random.default_rng(0)
    keys = {
        f"{'/'.join(map(str, random.integers(0, 40, 6)))}/layer-{n}/.ATTRIBUTES/VARIABLE_VALUE" for n in range(12_000)
    }
    zero = tf.constant(0)
    tf.raw_ops.SaveV2(
        prefix=f"{tmp_path}/a", tensor_names=sorted(keys), shape_and_slices=[""] * len(keys), tensors=[zero] * len(keys)
    )
    path = tmp_path / "a.index"
    assert path.stat().st_size > 2 * 262_144
    with path.open("rb") as file, (tmp_path / "b.index").open("wb") as out:
        sstable.write(out, sstable.entries(file))
    assert (tmp_path / "b.index").read_bytes() == path.read_bytes()


def test_variants_have_the_sum_that_tensorflow_gives_them(tf: Any, tmp_path: Path) -> None:
    """A saved iterator over data is checked like any tensor, and a flipped bit in it found."""
    iterator = iter(tf.data.Dataset.range(300).shuffle(200).batch(2))
    next(iterator)
    checkpoint = tf.train.Checkpoint(it=iterator, v=tf.Variable(1.0))
    prefix = checkpoint.write(f"{tmp_path}/a")
    source = tb.read(prefix)
    (variant,) = [entry for entry in source.entries.values() if entry.dtype == tb.VARIANT]
    assert variant.shape
    tb.check_whole(source)
    tw.write(source, f"{tmp_path}/b", source.entries)
    checkpoint.read(f"{tmp_path}/b").assert_consumed()
    path = tmp_path / "a.data-00000-of-00001"
    content = bytearray(path.read_bytes())
    for at in range(variant.offset, variant.offset + variant.size, 97):
        content[at] ^= 1
        path.write_bytes(content)
        with pytest.raises(tb.Unreadable):
            tb.check_whole(source, [variant])
        content[at] ^= 1


def test_flags_are_tensorflows(tf: Any, tmp_path: Path) -> None:
    """Which nodes have values under them: our rule gives what TensorFlow wrote, and the graph comes out as it was."""
    model = tf.keras.Sequential([tf.keras.layers.Input((3,)), tf.keras.layers.Dense(4), tf.keras.layers.Dense(2)])
    model.compile(optimizer="adam", loss="mse")
    model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
    checkpoint = tf.train.Checkpoint(model=model, optimizer=model.optimizer, empty=tf.Module())
    graph = graph_of(checkpoint.write(f"{tmp_path}/a"))
    valued = og.with_values(graph.nodes)
    assert [node.has_values for node in graph.nodes] == [number in valued for number in range(len(graph.nodes))]
    assert not all(node.has_values for node in graph.nodes)
    assert og.without(graph, ()) == graph.proto


def graph_of(prefix: str) -> og.Graph:
    source = tb.read(prefix)
    with tb.opened(source) as data:
        return og.parse(data.string(source.entries[og.KEY], og.MAX_BYTES))


def module(tf: Any, value: float, **children: Any) -> Any:
    """A module with a variable and children."""
    made = tf.Module()
    made.v = tf.Variable([value] * 3)
    for name, child in children.items():
        setattr(made, name, child)
    return made


def test_tensorflow_restores_a_checkpoint_with_emptied_nodes(tf: Any, tmp_path: Path) -> None:
    """All of the result is asked for, all that is asked for is there, and what was dropped is left alone."""
    holder = tf.Module()
    holder.training = module(tf, 3.0)
    root = tf.train.Checkpoint(model=module(tf, 1.0, inner=module(tf, 2.0)), holder=holder)
    source = tb.read(root.write(f"{tmp_path}/a"))
    graph = graph_of(source.prefix)
    at = {child.name: child.node for child in graph.nodes[0].children}
    training = next(child.node for child in graph.nodes[at["holder"]].children if child.name == "training")
    gone = og.reachable(graph.nodes, start=(training,))
    keys = {item.key for number in gone for item in graph.nodes[number].attributes}
    assert len(keys) == 1
    plan = {key: entry for key, entry in source.entries.items() if key not in keys}
    tw.write(source, f"{tmp_path}/b", plan | {og.KEY: tw.fresh_string(og.without(graph, gone))})
    assert len(tb.read(f"{tmp_path}/b").entries) == len(source.entries) - 1
    # The one who asks for no holder is not told that it was not restored: it has no values any more.
    model = module(tf, 0.0, inner=module(tf, 0.0))
    tf.train.Checkpoint(model=model).read(f"{tmp_path}/b").assert_consumed()
    assert model.v.numpy().tolist() == [1.0] * 3
    assert model.inner.v.numpy().tolist() == [2.0] * 3
    again = tf.Module()
    again.training = module(tf, 9.0)
    tf.train.Checkpoint(model=model, holder=again).read(f"{tmp_path}/b").expect_partial()
    assert again.training.v.numpy().tolist() == [9.0] * 3
