"""Graphs beside checkpoints: damage and lies found, and a Saver that no longer asks for what is gone."""

import contextlib
import os
from pathlib import Path

import pytest
from graphs import Builder, beside, named_checkpoints, strings

from tfstrip_core.codecs import meta_graph as mg
from tfstrip_core.codecs.meta_graph_write import without
from tfstrip_core.codecs.protos import meta_graph_pb2 as pb
from tfstrip_core.errors import Refused, TfstripError, Unreadable, Unsupported

REAL = os.environ.get("TFSTRIP_REAL_MODELS", "")
METAS = [named for named in named_checkpoints() if named.facts["meta"]]


@pytest.fixture
def small() -> Builder:
    builder = Builder()
    builder.adam(builder.variable("w"), builder.variable("b"))
    builder.predict("w", "b")
    return builder.saver()


GONE = {"w/Adam", "w/Adam_1", "b/Adam", "b/Adam_1", "beta1_power", "beta2_power"}


def asked(proto: bytes) -> dict[str, list[str]]:
    """The names that each operation of Savers has."""
    message = pb.MetaGraph.FromString(proto)
    constants = {node.name: node for node in message.graph_def.node if node.op == "Const"}
    return {
        node.name: [name.decode() for name in constants[node.input[1]].attr[0].value.tensor.string_val]
        for node in message.graph_def.node
        if node.op in ("SaveV2", "RestoreV2")
    }


def test_a_graph_is_read(small: Builder) -> None:
    graph = small.graph()
    assert graph.saved == {key: frozenset({name}) for key, name in small.saved.items()}
    assert graph.nodes["save/Assign_1"].inputs == (("b", 0), ("save/RestoreV2", 1))
    assert graph.nodes["save/control_dependency"].controls == ("save/SaveV2",)
    assert graph.nodes["w/Adam"].colocated == ("w",)
    assert {item.node for item in graph.variables["variables"]} == set(small.saved)


@pytest.mark.parametrize("named", METAS, ids=lambda named: named.id)
def test_a_savers_operations_know_every_key(named) -> None:
    """Real ones: all keys have their variables, partitioned ones all parts."""
    graph = mg.read(f"{named.prefix}.meta")
    for key, facts in named.facts["keys"].items():
        assert graph.saved[key] == set(facts.get("graph_names", [key]))


def test_a_variable_is_found_through_conditions_and_loops() -> None:
    builder = Builder()
    builder.variable("w")
    builder.node("switch", "Switch", ["w", "p"])
    builder.node("enter", "Enter", ["switch:1"])
    builder.node("read", "Identity", ["enter"])
    builder.node("loop", "Identity", ["loop"])
    graph = builder.graph()
    assert graph.variable("enter") == "w"
    assert (graph.variable("read"), graph.variable("read", through_reads=True)) == ("", "w")
    assert graph.variable("loop", through_reads=True) == graph.variable("nowhere") == ""


# -- rewriting


def test_the_saver_forgets_what_is_gone(small: Builder) -> None:
    """Names, types, inputs, outputs, assignments, control edges and collections; all other nodes as they were."""
    result = without(small.graph(), GONE)
    assert set(map(tuple, asked(result).values())) == {("w", "b")} or set(asked(result)["save/SaveV2"]) == {"w", "b"}
    message = pb.MetaGraph.FromString(result)
    nodes = {node.name: node for node in message.graph_def.node}
    at = {key: number for number, key in enumerate(asked(result)["save/RestoreV2"])}
    for node in nodes.values():
        if node.op == "Assign":
            name, number = mg.output(node.input[1])
            assert (name, number) == ("save/RestoreV2", at[node.input[0]])
    assert len(nodes["save/SaveV2"].input) == 5
    assert len(nodes["save/SaveV2"].attr[0].value.list.type) == 2
    assert [text[1:] in nodes for text in nodes["save/restore_all"].input] == [True, True]
    assert {item.node for item in mg.parse(result).variables["variables"]} == {"w", "b"}
    before = {node.name: node for node in small.message.graph_def.node}
    assert {name for name in before if name not in nodes} == {
        node.name for node in before.values() if node.op == "Assign" and node.input[0] in GONE
    }
    assert all(nodes[name] == before[name] for name in nodes if not name.startswith("save/"))


def test_the_same_bytes_come_out_twice_and_nothing_gone_is_nothing_changed(small: Builder) -> None:
    graph = small.graph()
    assert without(graph, GONE) == without(graph, sorted(GONE))
    assert without(graph, ()) == without(graph, {"nowhere"}) == small.proto()
    once = mg.parse(without(graph, {"w/Adam"}))
    assert asked(without(once, GONE)) == asked(without(graph, GONE))


def test_fields_that_are_not_known_survive(small: Builder) -> None:
    unknown = b"\xa2\x06\x05later"
    message = pb.MetaGraph.FromString(small.proto() + unknown)
    message.graph_def.MergeFromString(unknown)
    for node in message.graph_def.node:
        node.MergeFromString(unknown)
        for attr in node.attr:
            attr.value.MergeFromString(b"\xa2\x06\x03val" if attr.key != "value" else b"")
    graph = mg.parse(message.SerializeToString())
    result = without(graph, GONE)
    removed = len(graph.nodes) - len(mg.parse(result).nodes)
    assert removed == len(GONE)
    assert result.count(unknown) == graph.proto.count(unknown) - removed


def test_a_second_saver_is_left_alone(small: Builder) -> None:
    """The one that saver_def names is the loader's; what another restores from is another file, maybe."""
    first = dict(asked(small.proto()))
    small.saver("save_1")
    result = asked(without(small.graph(), GONE))
    assert {name: result[name] for name in first} == first
    assert set(result["save_1/RestoreV2"]) == {"w", "b"}


def test_collections_of_all_kinds_are_cleaned(small: Builder) -> None:
    small.collect("moving_average_variables", "w/Adam")
    lists = small.message.collection_def.add(key="ops")
    lists.value.node_list.value.extend(["save/Assign_2", "w", "w/Adam:0"])
    empty = small.message.collection_def.add(key="empty")
    empty.value.node_list.SetInParent()
    small.message.collection_def.add(key="while").value.bytes_list.value.append(b"\x0a\x01w")
    graph = mg.parse(without(small.graph(), GONE))
    assert "moving_average_variables" not in graph.variables
    assert graph.lists == {"ops": ("w", "w/Adam:0"), "empty": ()}
    assert b"\x0a\x01w" in graph.proto


def test_a_variable_that_another_key_restores_stays_collected() -> None:
    builder = Builder()
    builder.variable("w")
    builder.saved["second"] = "w"
    graph = mg.parse(without(builder.saver().graph(), {"second"}))
    assert [item.node for item in graph.variables["variables"]] == ["w"]


def test_shapes_that_an_exporter_noted_are_forgotten(small: Builder) -> None:
    """Where they changed, and nowhere else."""
    for node in small.message.graph_def.node:
        node.attr.add(key="_output_shapes")
    message = pb.MetaGraph.FromString(without(small.graph(), GONE))
    changed = {node.name for node in message.graph_def.node if all(attr.key != "_output_shapes" for attr in node.attr)}
    operations = {"save/SaveV2", "save/RestoreV2"}
    assert changed == operations | {
        f"{name}/{end}" for name in operations for end in ("tensor_names", "shape_and_slices")
    }


def test_what_was_noted_beside_a_removed_node_is_forgotten(small: Builder) -> None:
    small.node("tail", "NoOp", attrs=[beside("save/Assign_2")])
    graph = mg.parse(without(small.graph(), GONE))
    assert graph.nodes["tail"].colocated == ()


def change(builder: Builder, name: str) -> pb.Node:
    return next(node for node in builder.message.graph_def.node if node.name == name)


def spoil_shared(builder: Builder) -> None:
    change(builder, "save/SaveV2").input[1] = "save/RestoreV2/tensor_names"


def spoil_reader(builder: Builder) -> None:
    builder.node("odd", "Exp", ["save/RestoreV2:2"])


def spoil_assigned(builder: Builder) -> None:
    builder.node("odd", "Exp", ["save/Assign_2"])


def spoil_target(builder: Builder) -> None:
    change(builder, "save/Assign_2").input[0] = "prediction"


def spoil_names(builder: Builder) -> None:
    change(builder, "save/RestoreV2/tensor_names").op = "Identity"


def spoil_types(builder: Builder) -> None:
    change(builder, "save/RestoreV2").attr[0].value.list.type.pop()


def spoil_inputs(builder: Builder) -> None:
    change(builder, "save/SaveV2").input.pop()


def spoil_slices(builder: Builder) -> None:
    change(builder, "save/RestoreV2/shape_and_slices").attr[0].CopyFrom(strings(["", ""]))


def spoil_saver(builder: Builder) -> None:
    builder.message.ClearField("saver_def")


def spoil_version(builder: Builder) -> None:
    change(builder, "save/RestoreV2").op = "RestoreSlice"


def spoil_restore(builder: Builder) -> None:
    builder.message.saver_def.restore_op_name = "prediction"


SPOILT = [value for name, value in sorted(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILT, ids=lambda spoil: spoil.__name__)
def test_what_is_not_certain_is_not_rewritten(small: Builder, spoil) -> None:
    spoil(small)
    with pytest.raises(Unsupported, match=r"leave its \.meta file out"):
        without(small.graph(), GONE)


def test_a_saver_is_not_emptied(small: Builder) -> None:
    with pytest.raises(Unsupported, match="nothing left"):
        without(small.graph(), set(small.saved))


# -- damage


@pytest.mark.parametrize("proto", [b"", b"\x12\x00", b"\xff" * 40, b"{}", b"\x12\x05abc", b"meta_info_def {\n}\n"])
def test_what_is_no_graph_is_unreadable(proto: bytes) -> None:
    with pytest.raises(Unreadable):
        mg.parse(proto)


def test_any_damage_is_found_or_harmless(small: Builder) -> None:
    """No cut and no flipped bit makes anything but an answer or a refusal."""
    proto = small.proto()
    for at in range(0, len(proto), 7):
        for bad in (proto[:at], proto[:at] + bytes([proto[at] ^ 1 << at % 8]) + proto[at + 1 :]):
            with contextlib.suppress(TfstripError):
                without(mg.parse(bad), GONE)


def test_two_nodes_of_one_name_are_refused(small: Builder) -> None:
    small.node("w", "Const")
    with pytest.raises(Refused, match="two nodes"):
        small.graph()


def test_what_is_counted_is_counted_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch, small: Builder) -> None:
    monkeypatch.setattr(mg, "MAX_PARTS", 20)
    with pytest.raises(Refused, match="over"):
        small.graph()
    monkeypatch.setattr(mg, "MAX_BYTES", 100)
    with pytest.raises(Unsupported, match="bytes"):
        small.graph()


def test_a_constant_of_a_billion_names_is_not_made(small: Builder) -> None:
    """A shape that promises more than is there repeats the last one, as TensorFlow reads it; within bounds."""
    attr = change(small, "save/RestoreV2/tensor_names").attr[0]
    attr.CopyFrom(strings(["x"], [1 << 40]))
    with pytest.raises(Unsupported):
        without(small.graph(), GONE)
    assert mg.strings(strings(["x"], [3]).value.tensor) == [b"x"] * 3
    assert mg.strings(pb.Tensor(dtype=7)) == [b""]


def test_names_and_chains_are_bounded(monkeypatch: pytest.MonkeyPatch, small: Builder) -> None:
    """A constant that a thousand operations read, and a thousand outputs through one long way, take no longer."""
    for number in range(70):
        small.node(f"way{number}", "Identity", [f"way{number - 1}" if number else "save/RestoreV2:2"])
    assert small.graph().saved["w/Adam"] == {"w/Adam", ""} or "" in small.graph().saved["beta1_power"]
    monkeypatch.setattr(mg, "MAX_PARTS", 10 * small.proto().count(b"/"))
    small.node("many", "Const", attrs=[strings(["x"], [mg.MAX_PARTS // 2])])
    for number in range(3):
        small.node(f"save{number}", "SaveV2", ["save/Const", "many", "many"])
    with pytest.raises(Refused, match="names"):
        small.graph()


def test_a_collection_of_savers_is_no_collection_of_variables(small: Builder) -> None:
    """A SaverDef begins with a tensor's name, as a VariableDef does."""
    savers = small.message.collection_def.add(key="savers")
    savers.value.bytes_list.value.append(b"\x0a\x0csave/Const:0")
    assert small.graph().variables["savers"] == ()
    assert b"\x0a\x0csave/Const:0" in without(small.graph(), GONE)


def test_a_long_chain_and_a_cycle_end(small: Builder) -> None:
    for number in range(3000):
        small.node(f"chain{number}", "Identity", [f"chain{number - 1}" if number else "chain2999"])
    graph = small.graph()
    assert graph.variable("chain5", through_reads=True) == ""
    without(graph, GONE)


@pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")
def test_real_graphs_are_read_and_without_gone_keys_unchanged() -> None:
    paths = sorted(Path(REAL).rglob("*.meta"))
    assert paths
    for path in paths:
        graph = mg.read(str(path))
        assert graph.saved
        try:
            assert without(graph, ["nowhere"]) == graph.proto
        except Unsupported:
            assert any(node.op == "RestoreSlice" for node in graph.nodes.values())
