"""The parts of SavedModels one by one: reading and its limits, closures, what handles restore, the new saver."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from saved_made import FLOAT, VALUES, Made, attr, call, function, saver, strings, variable

from tfstrip_core.codecs import object_graph, saved_model, tensor_bundle, wire
from tfstrip_core.codecs.protos import meta_graph_pb2 as mg
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.tensor_bundle import Entry
from tfstrip_core.containers.saved import (
    saved_closure,
    saved_objects,
    saved_objects_write,
    saved_saver,
    saved_saver_write,
)
from tfstrip_core.containers.saved.saved_saver import Handle
from tfstrip_core.errors import Refused, Unreadable, Unsupported

UNKNOWN = b"\xa2\x06\x05later"


def changed(change: Callable[[Made], object]) -> Made:
    made = Made()
    change(made)
    return made


def node(made: Made, name: str) -> pb.Object:
    return made.objects.nodes[made.names[name]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda made: made.meta.graph_def.node.add(name="x"), "two nodes called 'x'"),
        (lambda made: made.meta.graph_def.library.function.add(), "two functions"),
        (lambda made: made.meta.signature_def.add(key="serving_default"), "two signatures"),
        (lambda made: made.message.meta_graphs.add(), "several graphs"),
        (lambda made: made.objects.nodes.add(), "unknown kind"),
        (lambda made: made.objects.nodes[0].children.add(node_id=99, local_name="z"), "object that it does not have"),
        (lambda made: made.objects.nodes[0].children.add(node_id=-1, local_name="z"), "object that it does not have"),
        (lambda made: made.objects.nodes[0].dependencies.add(node_id=99), "object that it does not have"),
        (lambda made: made.objects.nodes[0].children.add(node_id=1, local_name="w"), "two objects one name"),
        (lambda made: made.objects.nodes[0].children.add(node_id=1, local_name="\0"), "two objects one name"),
        (lambda made: made.objects.concrete_functions[0].value.bound_inputs.append(99), "object that it does not have"),
        (lambda made: node(made, "serve").function.concrete_functions.append("f_none"), "function 'f_none'"),
        (lambda made: made.objects.nodes[0].MergeFromString(UNKNOWN), "not known"),
        (lambda made: node(made, "serve").function.MergeFromString(UNKNOWN), "not known"),
        (lambda made: made.objects.concrete_functions[0].value.MergeFromString(UNKNOWN), "not known"),
        (lambda made: setattr(made.objects.nodes[0], "registered_saver", "s"), "code of its own"),
        (
            lambda made: node(made, "w").variable.experimental_distributed_variable_components.append(b""),
            "over devices",
        ),
        (lambda made: setattr(node(made, "metric").asset, "asset_file_def_index", 3), "asset"),
    ],
)
def test_what_names_nothing_or_is_not_known_is_refused(change: Callable[[Made], object], message: str) -> None:
    """Numbers and names must lead somewhere, and unknown parts could hold more of them."""
    with pytest.raises(Refused, match=message):
        changed(change).parsed()


def test_what_is_damaged() -> None:
    """An empty file, cut-off bytes, a function that is not there."""
    whole = Made().message.SerializeToString()
    for proto in (b"", whole[:-3], b"\xff" + whole):
        with pytest.raises(Unreadable):
            saved_model.parse(proto)
    made = Made()
    del made.meta.graph_def.library.function[:]
    with pytest.raises(Unreadable, match="lacks the function"):
        made.parsed()


def test_a_bomb_of_empty_messages_is_refused_before_it_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two bytes in a file are fifty in memory."""
    monkeypatch.setattr(saved_model, "MAX_PARTS", 100_000)
    body = b"\x0a\x00" * 600_000
    graph = b"\x12" + wire.put_varint(len(body)) + body
    with pytest.raises(Refused, match="over 100,000 parts"):
        saved_model.parse(b"\x12" + wire.put_varint(len(graph)) + graph)


def test_a_text_model_is_not_handled(tmp_path: Path) -> None:
    """Recognised, and the way out named."""
    (tmp_path / "saved_model.pbtxt").write_text("saved_model_schema_version: 1\n")
    with pytest.raises(Unsupported, match="as text"):
        saved_model.read(str(tmp_path))


# Closures.


def graph_of(nodes: list[mg.Node], functions: list[pb.Function] | None = None) -> pb.MetaGraph:
    meta = pb.MetaGraph()
    meta.graph_def.node.extend(nodes)
    meta.graph_def.library.function.extend(functions or [])
    return meta


def test_ancestors_follow_data_and_control_and_loops() -> None:
    """Loops of the first control flow end; a missing node is said by name."""
    held = saved_closure.graph(
        graph_of(
            [
                mg.Node(name="a", op="Const"),
                mg.Node(name="b", op="Merge", input=["a:0", "d"]),
                mg.Node(name="c", op="NoOp", input=["^a"]),
                mg.Node(name="d", op="NextIteration", input=["b:1", "^c"]),
                mg.Node(name="e", op="Sink", input=["d"]),
                mg.Node(name="f", op="Sink", input=["gone"]),
            ]
        )
    )
    assert held.ancestors(["d"]) == {"a", "b", "c", "d"}
    with pytest.raises(Unreadable, match="lacks the node 'gone'"):
        held.ancestors(["f"])


def test_functions_are_found_wherever_they_are_named() -> None:
    """As an operation, in attributes at any depth, as gradients, and by the interface that they share."""
    nested = mg.Value(list=mg.List(func=[mg.Func(name="listed", attr=[attr("g", func=mg.Func(name="nested"))])]))
    calls = [
        mg.Node(name="n", op="called"),
        mg.Node(name="m", op="If", attr=[mg.Attribute(key="branches", value=nested)]),
        mg.Node(name="o", op="Identity", attr=[attr("_gradient_op_type", s=b"Custom-1")]),
        call("p", "", []),
    ]
    rest = ["called", "listed", "nested", "registered", "gradient", "gpu", "lost"]
    meta = graph_of([call("main", "top", [])], [function("top", [], calls), *(function(name, []) for name in rest)])
    library = meta.graph_def.library
    library.registered_gradients.add(gradient_func="registered", registered_op_type="Custom-1")
    library.gradient.add(function_name="called", gradient_func="gradient")
    for name in ("called", "gpu"):
        found = next(item for item in library.function if item.signature.name == name)
        found.attr.append(attr("api_implements", s=b"lstm"))
    held = saved_closure.graph(meta)
    assert held.library(["main"]) == {"top", *rest} - {"lost"}


def test_the_roots_of_a_graph() -> None:
    """Signatures in all their forms, what initializes, assets in both lists; not what trains."""
    meta = graph_of([])
    info = pb.TensorInfo(coo_sparse=pb.CooSparse(values_tensor_name="v:0", indices_tensor_name="i:1"))
    made = pb.SignatureDef()
    made.inputs.add(key="s", value=info)
    parts = [pb.TensorInfo(name="c1:0"), pb.TensorInfo(name="c2:0")]
    made.outputs.add(key="c", value=pb.TensorInfo(composite_tensor=pb.Composite(components=parts)))
    meta.signature_def.add(key="serve", value=made)
    for key, name in (("__saved_model_init_op", "init"), ("__saved_model_train_op", "train")):
        op = pb.SignatureDef()
        op.outputs.add(key=key, value=pb.TensorInfo(name=name))
        meta.signature_def.add(key=key, value=op)
    meta.asset_file_def.add(tensor_info=pb.TensorInfo(name="asset:0"), filename="a")
    boxed = pb.AssetFile(tensor_info=pb.TensorInfo(name="old:0"), filename="b").SerializeToString()
    entry = meta.collection_def.add(key="saved_model_assets")
    entry.value.any_list.value.append(pb.Any(type_url="t", value=boxed).SerializeToString())
    meta.collection_def.add(key="legacy_init_op").value.node_list.value.append("legacy")
    assert saved_closure.served(meta) == {"v", "i", "c1", "c2"}
    assert saved_closure.initial(meta) == {"init", "asset", "old", "legacy"}


# What handles restore.


def entries(tmp_path: Path, made: Made) -> Mapping[str, Entry]:
    return tensor_bundle.read(f"{made.write(tmp_path / 'model')}/variables/variables").entries


def test_a_saver_within_functions_is_followed(tmp_path: Path) -> None:
    """As TensorFlow 2 traces it: handles are arguments, a table is filled by a function that the function calls."""
    made = Made()
    found = entries(tmp_path, made)
    key = "w/.ATTRIBUTES/VARIABLE_VALUE"
    names, slices = strings("names", [key, "t-keys", "t-values"]), strings("slices", ["", "", ""])
    restore = mg.Node(name="read", op="RestoreV2", input=["file", "names:output:0", "slices:output:0"])
    body = [
        names,
        slices,
        restore,
        mg.Node(name="same", op="Identity", input=["read:tensors:0"]),
        mg.Node(name="set", op="AssignVariableOp", input=["handle", "same:output:0"]),
        call("fill", "import", ["read:tensors:1", "read:tensors:2", "table"]),
    ]
    inner = [mg.Node(name="set", op="LookupTableImportV2", input=["t", "k", "v"])]
    library = [function("restore", ["file", "handle", "table"], body), function("import", ["k", "v", "t"], inner)]
    types = [attr("key_dtype", type=FLOAT), attr("value_dtype", type=FLOAT)]
    nodes = [
        variable("w", VALUES["w"]),
        mg.Node(name="t", op="MutableHashTableV2", attr=types),
        mg.Node(name="file", op="Placeholder"),
        call("all", "restore", ["file", "w", "t"]),
    ]
    meta = graph_of(nodes, library)
    meta.saver_def.restore_op_name = "all"
    every = {**found, "t-keys": found[key], "t-values": found[key]}
    bound = saved_saver.bindings(saved_closure.graph(meta), ["w", "t"], {}, every)
    assert [(handle.node, handle.keys) for handle in bound.handles] == [("t", ("t-keys", "t-values")), ("w", (key,))]
    assert not bound.broken


def test_two_keys_for_one_handle_are_refused(tmp_path: Path) -> None:
    """Whether one saver says both, or saving and restoring disagree."""
    found = entries(tmp_path, Made())
    one, other = "w/.ATTRIBUTES/VARIABLE_VALUE", "m/.ATTRIBUTES/VARIABLE_VALUE"
    meta = graph_of([variable("w", VALUES["w"]), variable("w_1", VALUES["w"])])
    meta.graph_def.node[1].attr[2].value.s = b"w"  # the same resource by another node
    saver(meta, {"w": one, "w_1": other})
    with pytest.raises(Refused, match="two different tensors"):
        saved_saver.bindings(saved_closure.graph(meta), ["w"], {}, found)
    meta = graph_of([variable("w", VALUES["w"])])
    saver(meta, {"w": one})
    meta.graph_def.node.extend([strings("s/names", [other]), strings("s/slices", [""])])
    meta.graph_def.node.add(name="value", op="ReadVariableOp", input=["w"])
    meta.graph_def.node.add(name="s/save", op="SaveV2", input=["save/file", "s/names", "s/slices", "value"])
    meta.saver_def.save_tensor_name = "s/save:0"
    with pytest.raises(Refused, match="another name"):
        saved_saver.bindings(saved_closure.graph(meta), ["w"], {}, found)


def test_what_an_initial_operation_fills_needs_no_tensor() -> None:
    """The variable that holds an asset's path is set when the model is loaded."""
    nodes = [variable("path", VALUES["w"]), mg.Node(name="init", op="AssignVariableOp", input=["path", "c"])]
    held = saved_closure.graph(graph_of(nodes))
    assert not saved_saver.bindings(held, ["path", "init"], {}, {}).handles


def test_functions_that_call_each_other_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight levels of many calls each are more than there is time for."""
    monkeypatch.setattr(saved_saver, "_STEPS", 10_000)
    body = [mg.Node(name="set", op="AssignVariableOp"), *(call(f"c{at}", "f", []) for at in range(20))]
    meta = graph_of([call("top", "f", [])], [function("f", [], body)])
    meta.saver_def.restore_op_name = "top"
    with pytest.raises(Refused, match="without end"):
        saved_saver.bindings(saved_closure.graph(meta), [], {}, {})


def test_the_saver_that_is_made() -> None:
    """One restore and one save, for references, resources, parts and tables; its scope is nobody else's."""
    meta = graph_of([])
    handles = [
        Handle("ref", "VariableV2", (FLOAT,), ("a",), "6 4 0,3:0,4"),
        Handle("res", "VarHandleOp", (FLOAT,), ("b",)),
        Handle("table", "MutableHashTableV2", (7, 9), ("t-keys", "t-values")),
    ]
    assigns = saved_saver_write.write(meta, handles, ["saver/x", "saver_1"])
    nodes = {item.name: item for item in meta.graph_def.node}
    assert [nodes[name].op for name in assigns.values()] == ["Assign", "AssignVariableOp", "LookupTableImportV2"]
    assert list(nodes["saver_2/set_2"].input) == ["table", "saver_2/restored:2", "saver_2/restored:3"]
    assert list(nodes["saver_2/saved"].input)[3:] == ["ref", "saver_2/get_1", "saver_2/get_2", "saver_2/get_2:1"]
    (cuts,) = [item.value.tensor.string_val for item in nodes["saver_2/slices"].attr if item.key == "value"]
    assert list(cuts) == [b"6 4 0,3:0,4", b"", b"", b""]
    assert (meta.saver_def.restore_op_name, meta.saver_def.version) == ("saver_2/restore", 2)


# Objects.


def objects(tmp_path: Path, made: Made) -> saved_objects.Objects:
    model = saved_model.read(made.write(tmp_path / "model"))
    return saved_objects.objects(model, model.message.meta_graphs[0].object_graph_def)


def test_values_are_found_by_name_from_the_root(tmp_path: Path) -> None:
    """As a loader finds them: the two graphs need not have the same numbers."""
    made = Made()
    stored = made.stored()
    order = [0, *range(len(stored.nodes) - 1, 0, -1)]
    place = {old: new for new, old in enumerate(order)}
    moved = [stored.nodes[old] for old in order]
    for item in moved:
        for child in item.children:
            child.node_id = place[child.node_id]
    other = type(stored)(nodes=moved)
    made.stored = lambda: other  # type: ignore[method-assign]
    held = objects(tmp_path, made)
    assert {n: key for n, (key,) in held.keys().items()} == made.keys


def test_graphs_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    """One name leads to two objects."""
    made = Made()
    stored = made.stored()
    stored.nodes[0].children[0].node_id = made.names["total"]
    made.stored = lambda: stored  # type: ignore[method-assign]
    with pytest.raises(Refused, match="name different objects alike"):
        objects(tmp_path, made)


@pytest.mark.parametrize("kind", ["trackable_list_wrapper", "trackable_tuple_wrapper"])
def test_what_a_list_keeps_keeps_its_place(tmp_path: Path, kind: str) -> None:
    """`model.parts[2]` is the same part before and after: what went left an empty object."""
    made = Made()
    made.object("other")
    made.object("row", kind)
    made.child("root", row="row")
    made.child("row", **{"0": "metric", "1": "other", "2": "serve", "3": "metric"})
    held = objects(tmp_path, made)
    message = saved_objects_write.without(held, {made.names["metric"]}, (), ())
    children = {child.local_name: child.node_id for child in message.nodes[made.names["row"]].children}
    assert children == {str(at): made.names[name] for at, name in enumerate(("metric", "other", "serve", "metric"))}
    assert saved_objects.is_empty(message.nodes[made.names["metric"]])
    assert not message.nodes[made.names["metrics"]].children  # nothing is left of this one


def test_numbers_stay_and_the_end_is_cut_off(tmp_path: Path) -> None:
    """What goes leaves an empty place, but for the last ones; the checkpoint's graph has the same numbers."""
    made = Made()
    made.object("last")
    made.child("optimizer", last="last")
    held = objects(tmp_path, made)
    gone = {made.names[name] for name in ("optimizer", "_variables", "m", "iterations", "last")}
    message = saved_objects_write.without(held, gone, (), ())
    assert len(message.nodes) == made.names["last"]
    assert saved_objects.is_empty(message.nodes[made.names["optimizer"]])
    values = object_graph.parse(saved_objects_write.values(message, held, gone)).nodes
    assert len(values) == len(message.nodes)
    assert values[made.names["w"]].attributes == held.graph.nodes[made.names["w"]].attributes
    assert not values[made.names["m"]].attributes
    assert [values[made.names[name]].has_values for name in ("root", "w", "metric", "m", "serve")] == [
        True, True, True, False, False
    ]  # fmt: skip
