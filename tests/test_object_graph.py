"""Object graphs of checkpoints: read with care, written with nodes emptied and every number as it was."""

import contextlib
import tracemalloc

import pytest
from checkpoints import real_indexes
from hypothesis import given
from hypothesis import strategies as st

from tfstrip_core.codecs import object_graph as og
from tfstrip_core.codecs import tensor_bundle as tb
from tfstrip_core.codecs import wire
from tfstrip_core.codecs.protos import object_graph_pb2 as pb
from tfstrip_core.errors import Refused, Unreadable

UNKNOWN = b"\xa2\x06\x05later"


def attribute(key: str) -> pb.Attribute:
    return pb.Attribute(name="VARIABLE_VALUE", full_name=f"full/{key}", checkpoint_key=key)


def graph(flags: bool = True) -> pb.Graph:
    """A model (1) with a kernel (2), an optimizer (3) with a slot (4) for it, and a holder (5) of nothing else."""
    made = pb.Graph(
        nodes=[
            pb.Node(children=[pb.Child(node_id=1, local_name="model"), pb.Child(node_id=5, local_name="holder")]),
            pb.Node(children=[pb.Child(node_id=2, local_name="kernel"), pb.Child(node_id=0, local_name="up")]),
            pb.Node(attributes=[attribute("model/kernel")]),
            pb.Node(
                children=[pb.Child(node_id=6, local_name="iter"), pb.Child(node_id=3, local_name="itself")],
                slot_variables=[pb.Slot(original_variable_node_id=2, slot_name="m", slot_variable_node_id=4)],
            ),
            pb.Node(attributes=[attribute("model/kernel/m")]),
            pb.Node(children=[pb.Child(node_id=3, local_name="optimizer")]),
            pb.Node(attributes=[attribute("optimizer/iter"), attribute("optimizer/other")]),
        ]
    )
    if flags:
        for node in made.nodes:
            node.has_checkpoint_values.value = True
    return made


def parsed(flags: bool = True) -> og.Graph:
    return og.parse(graph(flags).SerializeToString())


def test_a_graph_is_read() -> None:
    """Children, attributes, slots and flags arrive where they belong."""
    nodes = parsed().nodes
    assert nodes[0] == og.Node((og.Child(1, "model"), og.Child(5, "holder")), has_values=True)
    assert nodes[2].attributes == (og.Attribute("VARIABLE_VALUE", "full/model/kernel", "model/kernel"),)
    assert nodes[3].slots == (og.Slot(2, "m", 4),)
    assert parsed(flags=False).nodes[0].has_values is None
    saver = pb.Graph(nodes=[pb.Node(registered_saver=pb.Saver(name="S", object_name="o"))])
    assert og.parse(saver.SerializeToString()).nodes[0].saver == ("S", "o")


def test_dropped_nodes_are_empty_and_every_number_stays() -> None:
    """Nodes, edges to them and slots go; the holder of nothing says that it holds nothing; the rest is untouched."""
    source = parsed()
    result = og.parse(og.without(source, {3, 4, 6})).nodes
    assert len(result) == len(source.nodes)
    assert result[:3] == source.nodes[:3]
    assert {result[number] for number in (3, 4, 6)} == {og.Node(has_values=False)}
    assert result[5] == og.Node(has_values=False)


def test_a_graph_of_an_older_writer_gets_no_flags() -> None:
    """TensorFlow 1.15 has no such field, and decides by what a node holds."""
    result = og.parse(og.without(parsed(flags=False), {3, 4, 6})).nodes
    assert {node.has_values for node in result} == {None}
    assert not result[5].children


def test_slots_go_with_either_of_their_nodes() -> None:
    """An optimizer that stays must not point at an emptied slot, or at an emptied variable."""
    for number in (2, 4):
        assert not og.parse(og.without(parsed(), {number})).nodes[3].slots


def test_single_attributes_go_by_their_key() -> None:
    """A key that is dropped from the bundle is asked for no more; the node and its other values stay."""
    result = og.parse(og.without(parsed(), (), {"optimizer/iter", "model/kernel"})).nodes
    assert [item.key for item in result[6].attributes] == ["optimizer/other"]
    assert not result[2].attributes
    assert result[2].has_values is False
    assert result[6].has_values


def test_nothing_dropped_is_the_same_bytes() -> None:
    """A graph as our parser's library writes it comes out as it was, and so does every real one."""
    for proto in (graph().SerializeToString(), graph(flags=False).SerializeToString()):
        assert og.without(og.parse(proto), ()) == proto
    for path in real_indexes():
        bundle = tb.read(str(path)[: -len(".index")])
        if og.KEY in bundle.entries:
            with tb.opened(bundle) as data:
                proto = data.string(bundle.entries[og.KEY], og.MAX_BYTES)
            found = og.parse(proto)
            assert og.without(found, ()) == proto
            keys = {item.key for node in found.nodes for item in node.attributes}
            assert keys <= set(bundle.entries)


def with_unknown(message: pb.Node | pb.Child | pb.Slot | pb.Attribute | pb.Graph) -> None:
    message.MergeFrom(type(message).FromString(UNKNOWN))


def test_fields_that_are_not_known_survive_in_what_stays() -> None:
    """What a later TensorFlow adds to a node, its edges, attributes and slots is there after an edit of them."""
    made = graph()
    made.nodes[3].children.add(node_id=4, local_name="goes")
    made.nodes[3].slot_variables.add(original_variable_node_id=2, slot_name="v", slot_variable_node_id=6)
    kept = [
        made,
        made.nodes[3],
        made.nodes[3].children[1],
        made.nodes[3].slot_variables[1],
        made.nodes[6].attributes[1],
    ]
    for message in kept:
        with_unknown(message)
    result = og.without(og.parse(made.SerializeToString()), {4}, {"optimizer/iter"})
    assert result.count(UNKNOWN) == len(kept)
    assert og.parse(result).nodes[3].slots == (og.Slot(2, "v", 6),)


def test_the_root_and_numbers_of_no_node_cannot_go() -> None:
    """A checkpoint without a root is none."""
    for number in (0, -1, 7):
        with pytest.raises(ValueError, match="beyond the root"):
            og.without(parsed(), {number})


def test_reachability_follows_children_and_stops_where_told() -> None:
    """Cycles end, slots are no edges, and what only leads through an avoided node is not reached."""
    nodes = parsed().nodes
    assert og.reachable(nodes) == {0, 1, 2, 3, 5, 6}
    assert og.reachable(nodes, avoid={3}) == {0, 1, 2, 5}
    assert og.reachable(nodes, start=(3,)) == {3, 6}
    assert og.reachable(nodes, avoid={0}) == frozenset()


LIES = {
    "a child that there is not": pb.Graph(nodes=[pb.Node(children=[pb.Child(node_id=1)])]),
    "a child of negative number": pb.Graph(nodes=[pb.Node(children=[pb.Child(node_id=-1)])]),
    "a slot of no variable": pb.Graph(nodes=[pb.Node(slot_variables=[pb.Slot(original_variable_node_id=9)])]),
    "a slot that there is not": pb.Graph(nodes=[pb.Node(slot_variables=[pb.Slot(slot_variable_node_id=9)])]),
    "two children of one name": pb.Graph(
        nodes=[
            pb.Node(children=[pb.Child(node_id=1, local_name="a"), pb.Child(node_id=2, local_name="a")]),
            *[pb.Node()] * 2,
        ]
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_graph_that_leads_nowhere_is_refused(lie: str) -> None:
    """A loader would fail on it, or follow another edge than we did."""
    with pytest.raises(Refused):
        og.parse(LIES[lie].SerializeToString())


def test_what_is_no_graph_is_unreadable() -> None:
    """Nothing, noise, cut messages and names that are no text."""
    good = graph().SerializeToString()
    name = pb.Graph(nodes=[pb.Node(children=[pb.Child(local_name="abc")])]).SerializeToString()
    for proto in (b"", good[:-1], b"\x0f", b"\x0a\xff\x01", name.replace(b"abc", b"a\xffc")):
        with pytest.raises(Unreadable):
            og.parse(proto)


@given(st.data())
def test_damage_is_an_error_or_another_graph(data: st.DataObject) -> None:
    """Any byte changed: our errors or a graph, never another exception and never an edge to nowhere."""
    proto = bytearray(graph().SerializeToString())
    for _ in range(data.draw(st.integers(1, 3))):
        proto[data.draw(st.integers(0, len(proto) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(Unreadable, Refused):
        found = og.parse(bytes(proto))
        og.reachable(found.nodes)
        og.parse(og.without(found, set(range(1, len(found.nodes)))))


@pytest.mark.parametrize("inner", [False, True])
def test_empty_messages_without_number_are_refused_before_they_are_parsed(
    inner: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two bytes in the file, fifty and more in memory: sixty megabytes of nodes, or of one node's edges."""
    monkeypatch.setattr(og, "MAX_PARTS", 10_000)
    proto = b"\x0a\x00" * (30 << 20)
    if inner:
        proto = b"\x0a" + wire.put_varint(len(proto)) + proto
    tracemalloc.start()
    with pytest.raises(Refused):
        og.parse(proto)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_a_graph_too_large_is_refused() -> None:
    """Its size alone says that it is no model's."""
    with pytest.raises(Refused):
        og.parse(bytes(og.MAX_BYTES + 1))


def test_counting_walks_every_wire_type() -> None:
    """Numbers of every width and texts are stepped over as one part each, and a field cut short is damage."""
    whole = [b"\x08\x96\x01", b"\x11" + bytes(8), b"\x1d" + bytes(4), b"\x22\x02\xff\xff", b"\x0a\x04\x08\x01\x10\x01"]
    wire.check_count(b"".join(whole), 10, 7, "it")
    with pytest.raises(Refused):
        wire.check_count(b"".join(whole), 10, 6, "it")
    for field in whole:
        with pytest.raises(Unreadable):
            wire.check_count(field[:-1], 10, 100, "it")
    for damaged in (b"\x0b", b"\x0a\x02\x08\x80"):
        with pytest.raises(Unreadable):
            wire.check_count(damaged, 10, 100, "it")
