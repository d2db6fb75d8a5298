"""SavedModels that lie, and those that are not handled: one sentence, exit code 2, nothing written."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hostile import assert_refused, judge, run
from saved_damage import probe
from saved_made import (
    VALUES,
    Made,
    W,
    attr,
    call,
    function,
    keys,
    saver,
    signature,
    strings,
    variable,
)

from tfstrip_core import inspect, strip, verify
from tfstrip_core.codecs import meta_graph, saved_model, sstable
from tfstrip_core.codecs.components import components
from tfstrip_core.codecs.protos import bundle_pb2, object_graph_pb2
from tfstrip_core.codecs.protos import meta_graph_pb2 as mg
from tfstrip_core.codecs.protos import saved_model_pb2 as pb

Change = Callable[[Made], object]


def node(made: Made, name: str) -> pb.Object:
    return made.objects.nodes[made.names[name]]


def graph_node(made: Made, name: str) -> mg.Node:
    return next(item for item in made.meta.graph_def.node if item.name == name)


def two_values(made: Made) -> None:
    made.meta.graph_def.node.append(variable("w_1", W))
    graph_node(made, "w_1").attr[2].value.s = b"w"
    del made.meta.graph_def.node[-10:-1]
    saver(made.meta, {"w": made.keys[1], "w_1": made.keys[2]})


def registered(made: Made) -> None:
    stored = made.stored()
    stored.nodes[1].registered_saver.name = "Custom>mine"
    made.stored = lambda: stored  # type: ignore[method-assign]


def renamed(made: Made) -> None:
    stored = made.stored()
    stored.nodes[1].attributes[0].name = "SOMETHING_ELSE"
    made.stored = lambda: stored  # type: ignore[method-assign]


def absent(made: Made) -> None:
    stored = made.stored()
    stored.nodes[1].attributes[0].checkpoint_key = "gone"
    made.stored = lambda: stored  # type: ignore[method-assign]


def no_outputs(made: Made) -> None:
    del made.objects.nodes[:], made.objects.concrete_functions[:], made.meta.signature_def[:]


def stray(made: Made) -> None:
    made.meta.graph_def.node.append(variable("stray", W))
    made.meta.graph_def.node.append(mg.Node(name="z", op="ReadVariableOp", input=["stray"]))
    signature(made.meta, "x", "z", "other")


def asset(name: str) -> Change:
    def change(made: Made) -> None:
        made.meta.graph_def.node.append(strings("asset", [name]))
        made.meta.asset_file_def.add(tensor_info=pb.TensorInfo(name="asset:0"), filename=name)

    return change


def doubled_attribute(made: Made) -> None:
    graph_node(made, "call").attr.append(attr("f", func=mg.Func(name="f_train")))


def unbound(made: Made) -> None:
    del graph_node(made, "call").input[:]


REFUSED: dict[str, tuple[Change, str]] = {
    "two graphs": (lambda made: made.message.meta_graphs.add(), "several graphs"),
    "two graphs of one tag": (lambda made: made.message.meta_graphs.add().CopyFrom(made.meta), "the same tags"),
    "an unknown kind": (lambda made: made.objects.nodes.add(), "unknown kind"),
    "unknown parts": (lambda made: made.objects.nodes[0].MergeFromString(b"\xa2\x06\x05later"), "not known"),
    "a registered saver": (lambda made: setattr(node(made, "w"), "registered_saver", "Custom>mine"), "code of its own"),
    "a registered saver in the checkpoint": (registered, "code of its own"),
    "variables over devices": (
        lambda made: node(made, "w").variable.experimental_distributed_variable_components.append(b""), "over devices",
    ),
    "two tensors of one variable": (two_values, "two different tensors|two tensors"),
    "a variable of nothing": (stray, "no checkpoint and nothing else gives a value"),
    "another type": (lambda made: graph_node(made, "w").CopyFrom(variable("w", W.astype("<i8"))), "another type"),
    "another shape": (lambda made: graph_node(made, "w").CopyFrom(variable("w", W[:2])), "another shape"),
    "an object that is not there": (lambda made: made.objects.nodes[0].children.add(node_id=99), "does not have"),
    "a function that reads nothing there": (
        lambda made: made.objects.concrete_functions[0].value.bound_inputs.append(-1), "does not have",
    ),
    "fewer inputs than bound": (unbound, "fewer inputs"),
    "nodes of one name": (lambda made: made.meta.graph_def.node.add(name="w", op="Const"), "two nodes"),
    "attributes of one name": (doubled_attribute, "two attributes of one name"),
    "an asset above": (asset("../../etc/passwd"), "outside its folder"),
    "an asset at the root": (asset("/etc/passwd"), "outside its folder"),
    "an asset of Windows": (asset("C:\\Windows\\win.ini"), "outside its folder"),
    "an asset on a share": (asset("\\\\host\\share"), "outside its folder"),
    "an asset cut by NUL": (asset("words.txt\0.png"), "outside its folder"),
    "nothing callable": (no_outputs, "no signature"),
}  # fmt: skip

UNREADABLE: dict[str, tuple[Change, str]] = {
    "a function that is gone": (lambda made: made.meta.graph_def.library.ClearField("function"), "lacks the function"),
    "a node that is gone": (lambda made: graph_node(made, "y").input.append("gone"), "lacks the node 'gone'"),
    "a signature of no node": (lambda made: signature(made.meta, "x", "gone", "more"), "lacks the node 'gone'"),
    "a constant that is gone": (
        lambda made: setattr(node(made, "metrics").constant, "operation", "gone"), "lacks the constant 'gone'",
    ),
    "a value that is not known": (renamed, "has no value"),
    "a tensor that is gone": (absent, "has no value|lacks"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command says no with one sentence, and writes nothing."""
    change, message = REFUSED[case]
    made = Made()
    change(made)
    said = assert_refused(capsys, made.write(tmp_path / "model"))
    assert_said(said, message)


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_damaged(case: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What is missing is named, by every command, and nothing is written."""
    change, message = UNREADABLE[case]
    made = Made()
    change(made)
    said = assert_refused(capsys, made.write(tmp_path / "model"), "unreadable")
    assert_said(said, message)


def assert_said(said: str, message: str) -> None:
    assert any(words in said for words in message.split("|")), said


def altered(path: str, change: Callable[[dict[bytes, bytes]], object]) -> str:
    """Write the index of a model anew, with right checksums, after `change` to its entries."""
    index = Path(path, "variables", "variables.index")
    with index.open("rb", buffering=0) as file:
        items = dict(sstable.entries(file))
    change(items)
    with index.open("wb") as out:
        sstable.write(out, sorted(items.items()))
    return path


def header(**fields: Any) -> Callable[[dict[bytes, bytes]], object]:
    def change(items: dict[bytes, bytes]) -> None:
        message = bundle_pb2.Header.FromString(items[b""])
        for name, value in fields.items():
            if name == "min_consumer":
                message.version.min_consumer = value
            else:
                setattr(message, name, value)
        items[b""] = message.SerializeToString()

    return change


@pytest.mark.parametrize("fields", [{"endianness": 1}, {"min_consumer": 9}])
def test_bundles_of_other_machines_are_not_handled(
    fields: dict[str, int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Big-endian ones, and those for later readers: told, no failure of a check, and no strip."""
    path = altered(Made().write(tmp_path / "model"), header(**fields))
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (0, "unsupported")
    code, out, err = run(capsys, "strip", path, "-o", str(tmp_path / "small"))
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert not (tmp_path / "small").exists()


def test_an_entry_or_a_shard_that_is_gone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The variable that lost its value is named; so is the file that is missing."""
    key = b"w/.ATTRIBUTES/VARIABLE_VALUE"
    path = altered(Made().write(tmp_path / "entry"), lambda items: items.pop(key))
    assert "has no value" in assert_refused(capsys, path, "unreadable")
    path = Made().write(tmp_path / "shard")
    os.remove(f"{path}/variables/variables.data-00000-of-00001")
    assert "variables.data-00000-of-00001 is missing" in assert_refused(capsys, path, "unreadable")


def test_a_file_that_is_no_message(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Line ends that git changed, half a file, and none at all."""
    for name, change in {
        "crlf": lambda data: data.replace(b"\n", b"\r\n"),
        "half": lambda data: data[: len(data) // 2],
        "empty": lambda data: b"",
    }.items():
        path = Made().write(tmp_path / name)
        file = Path(path, "saved_model.pb")
        file.write_bytes(change(file.read_bytes()))
        assert "saved_model.pb" in assert_refused(capsys, path, "unreadable")


def test_a_file_of_more_than_protocol_buffers_hold(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not read: its size alone says no."""
    path = Made().write(tmp_path / "model")
    os.truncate(f"{path}/saved_model.pb", 1 << 31)
    began = time.monotonic()
    assert "2,147,483,648 bytes" in assert_refused(capsys, path)
    assert time.monotonic() - began < 5


def nested(depth: int) -> bytes:
    """Return a signature's tensor that is made of a tensor, and so on."""
    content = pb.TensorInfo(name="x:0").SerializeToString()
    for _ in range(depth):
        inner = pb.Composite()
        inner.MergeFromString(b"")
        content = _field(2, content)
        content = _field(5, content)
    return content


def _field(number: int, content: bytes) -> bytes:
    from tfstrip_core.codecs.wire import put_varint

    return bytes([number << 3 | 2]) + put_varint(len(content)) + content


def test_messages_as_deep_as_parsers_go(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Beyond a hundred levels protocol buffers give up; just below, nothing of ours does."""
    for depth, verdict in ((40, "residue"), (3000, "unreadable")):
        made = Made()
        info = _field(1, b"deep") + _field(2, _field(2, _field(1, b"y") + _field(2, nested(depth))))
        raw = made.message.SerializeToString()
        meta = made.meta.SerializeToString() + _field(5, info)
        message = pb.SavedModel(saved_model_schema_version=1).SerializeToString() + _field(2, meta)
        path = made.write(tmp_path / str(depth))
        assert len(raw) < len(message)
        Path(path, "saved_model.pb").write_bytes(message)
        assert judge(capsys, path)[1]["verdict"] == verdict


def test_frozen_weights_may_be_larger_than_any_checkpoints_graph(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a constant holds says nothing about variables: a model of TensorFlow 1 has hundreds of megabytes of it."""
    made = Made()
    del made.objects.nodes[:], made.objects.concrete_functions[:]
    tensor = mg.Tensor(dtype=1)
    tensor.MergeFromString(_field(4, bytes(30_000)))
    made.meta.graph_def.node.add(name="frozen", op="Const", attr=[attr("value", tensor=tensor)])
    graph_node(made, "y").input.append("^frozen")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    monkeypatch.setattr(meta_graph, "MAX_BYTES", 20_000)
    strip(path, target)
    assert Path(target, "saved_model.pb").stat().st_size > 30_000
    assert verify(path, target).equal


NAMES = ("a\nb", "a\0b", "\x1b[2J", "../../x", "\u202egnp", "::error::x", "x" * 5000)


@pytest.mark.parametrize("name", NAMES)
def test_names_that_are_no_names(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of objects, functions and variables: they are shown escaped, lead nowhere, and come out as they went in."""
    made = Made(train=True)
    made.variable("odd", W)
    node(made, "odd").variable.name = name
    made.keys[made.names["odd"]] = f"k{name}"
    made.objects.nodes[0].children.add(node_id=made.names["odd"], local_name=f"n{name}")
    made.objects.nodes[0].children.add(node_id=made.names["train"], local_name=f"t{name}")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    for words in (["check", path], ["inspect", path], ["strip", path, "-o", target]):
        _, out, err = run(capsys, *words)
        assert "\x1b" not in out + err
        assert "\n::error::" not in out + err
        assert all(line.isprintable() for line in (out + err).splitlines())
    assert f"k{name}" in keys(target)
    assert verify(path, target).equal
    assert sorted(os.listdir(tmp_path)) == ["model", "small"]


def test_links_lead_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A link in the directory to a file of the machine would put its content into the result."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    path = Made().write(tmp_path / "model")
    os.symlink(secret, f"{path}/assets/key")
    assert "link that leads out" in assert_refused(capsys, path)
    os.remove(f"{path}/assets/key")
    os.symlink("words.txt", f"{path}/assets/key")
    strip(path, str(tmp_path / "inner"))
    assert Path(tmp_path, "inner", "assets", "key").read_text() == "one\n"
    os.symlink(tmp_path, f"{path}/assets.extra")
    assert "is a symbolic link" in assert_refused(capsys, path, "unreadable")


def test_a_cache_of_links_is_a_model(tmp_path: Path) -> None:
    """Hubs keep every file elsewhere, saved_model.pb too, and links to them."""
    path = Made().write(tmp_path / "blobs")
    os.makedirs(tmp_path / "model" / "variables")
    os.makedirs(tmp_path / "model" / "assets")
    for name in ("saved_model.pb", "assets/words.txt", *(f"variables/{n}" for n in os.listdir(f"{path}/variables"))):
        os.symlink(f"{path}/{name}", tmp_path / "model" / name)
    strip(str(tmp_path / "model"), str(tmp_path / "small"))
    assert not (tmp_path / "small" / "assets" / "words.txt").is_symlink()
    assert verify(path, str(tmp_path / "small")).equal


def test_metadata_of_keras_that_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """About an object that is not there, or deeper than any JSON."""
    for number, said, verdict in ((99, "{}", "refused"), (-1, "{}", "refused"), (0, "[" * 100_000, "refused")):
        path = Made().write(tmp_path / f"{number}")
        message = pb.KerasMetadata()
        message.nodes.add(node_id=number, node_path="root", metadata=f'{{"training_config": {said}}}')
        Path(path, saved_model.KERAS).write_bytes(message.SerializeToString())
        assert "keras_metadata.pb" in assert_refused(capsys, path, verdict)


# What grows: each of these took minutes or gigabytes once, or would if a step looked at all others.


def many_nodes(made: Made) -> None:
    name = "x"
    for at in range(20_000):
        made.meta.graph_def.node.add(name=f"n{at}", op="Identity", input=[name])
        name = f"n{at}"
    signature(made.meta, "x", name, "deep")


def deep_objects(made: Made) -> None:
    made.object("d0")
    made.child("root", deep="d0")
    for at in range(10_000):
        made.object(f"d{at + 1}")
        made.child(f"d{at}", c=f"d{at + 1}")


def many_functions(made: Made) -> None:
    for at in range(1000):
        made.function(f"g{at}", ["w"])
        made.child("root", **{f"g{at}": f"g{at}"})
        if at:
            made.meta.graph_def.library.function[-1].node_def.append(call("next", f"f_g{at - 1}", ["x", "w"]))


def alike_functions(made: Made) -> None:
    for at in range(5000):
        made.meta.graph_def.library.function.append(function(f"a{at}", []))
        made.meta.graph_def.library.function[-1].attr.append(attr("api_implements", s=b"lstm"))
    made.meta.graph_def.library.function[0].node_def.append(call("alike", "a0", []))


def many_variables(made: Made) -> None:
    names = [f"v{at}" for at in range(1500)]
    del made.meta.graph_def.node[-9:]
    for name in names:
        made.variable(name, W)
        made.meta.graph_def.node.append(variable(name, W))
        made.child("root", **{name: name})
    made.function("big", names)
    made.child("root", big="big")
    made.meta.graph_def.node.append(call("callb", "f_big", ["x", *names]))
    signature(made.meta, "x", "callb", "big")
    saver(made.meta, {name: made.keys[made.names[name]] for name in [*VALUES, *names]})


def many_optimizers(made: Made) -> None:
    for at in range(300):
        for kind in ("opt", "vars", "trained"):
            made.object(f"{kind}{at}", "_generic_user_object")
        made.variable(f"steps{at}", VALUES["iterations"])
        made.child(f"opt{at}", _variables=f"vars{at}", _iterations=f"steps{at}", _trainable_variables=f"trained{at}")
        made.child(f"vars{at}", **{"0": f"steps{at}"})
        made.child("root", **{f"opt{at}": f"opt{at}"})


def slots_of_slots(made: Made) -> None:
    """Each slot's variable is known only when the slot before it is."""
    last = "w"
    for at in range(3000):
        made.object(f"s{at}")
        node(made, "optimizer").slot_variables.add(
            original_variable_node_id=made.names[last], slot_name="m", slot_variable_node_id=made.names[f"s{at}"]
        )
        last = f"s{at}"
    plain = made.stored

    def stored() -> object_graph_pb2.Graph:
        graph = plain()
        for slot in reversed(node(made, "optimizer").slot_variables):
            graph.nodes[made.names["optimizer"]].slot_variables.add(
                original_variable_node_id=slot.original_variable_node_id, slot_name="m",
                slot_variable_node_id=slot.slot_variable_node_id,
            )  # fmt: skip
        return graph

    made.stored = stored  # type: ignore[method-assign]


def calls_of_calls(made: Made) -> None:
    """Eight levels of forty calls: twelve thousand million steps for who follows each."""
    library = made.meta.graph_def.library
    for level in range(8):
        body = [call(f"c{at}", f"l{level + 1}", []) for at in range(40)]
        library.function.append(function(f"l{level}", [], body))
    library.function.append(function("l8", []))
    made.meta.graph_def.node.append(call("calls", "l0", []))
    graph_node(made, "save/all").input.append("^calls")


GROWING = (many_nodes, deep_objects, many_functions, alike_functions, many_variables, many_optimizers, slots_of_slots,
           calls_of_calls)  # fmt: skip


@pytest.mark.parametrize("change", GROWING)
def test_time_and_memory_grow_with_the_model(change: Change, tmp_path: Path) -> None:
    """Inspecting and stripping what is merely large takes seconds."""
    made = Made()
    change(made)
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    began = time.process_time()
    inspect(path)
    strip(path, target)
    assert time.process_time() - began < 12
    assert verify(path, target).equal


def test_components_are_found_in_order_and_at_any_depth() -> None:
    """Nodes that lead to each other are one group, which comes behind what it leads to."""
    edges = {"a": "b", "b": "cd", "c": "a", "d": "e", "e": "", "f": "a"}
    found = [sorted(group) for group in components(edges, edges.__getitem__)]
    assert found == [["e"], ["d"], ["a", "b", "c"], ["f"]]
    assert len(components(range(50_000), lambda n: [n + 1] if n < 49_999 else [])) == 50_000
    assert len(components(range(50_000), lambda n: [(n + 1) % 50_000])) == 1


def test_a_slot_that_stays_when_its_optimizer_goes(tmp_path: Path) -> None:
    """A function of inference reads it: the optimizer's statement about it goes all the same."""
    made = Made(optimizer="optimizer")
    del node(made, "optimizer").children[:]
    made.child("optimizer", iter="iterations")
    node(made, "optimizer").slot_variables.add(
        original_variable_node_id=made.names["w"], slot_name="m", slot_variable_node_id=made.names["m"]
    )
    made.function("refine", ["m"])
    made.child("root", refine="refine", m="m")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    strip(path, target)
    assert any(key.startswith("m/") for key in keys(target))
    assert not any(
        item.slot_variables for item in saved_model.read(target).message.meta_graphs[0].object_graph_def.nodes
    )
    assert verify(path, target).equal


def test_an_at_sign_in_a_name(tmp_path: Path) -> None:
    """Parts a statement from what it is about, and in a name is a character like others."""
    made = Made()
    path = made.write(tmp_path / "model")
    message = pb.KerasMetadata()
    message.nodes.add(node_id=0, node_path="root@home", metadata="{}")
    Path(path, saved_model.KERAS).write_bytes(message.SerializeToString())
    for profile in ("inference", "serving"):
        strip(path, str(tmp_path / profile), profile=profile)
        assert verify(path, str(tmp_path / profile)).equal


def test_functions_that_call_themselves(tmp_path: Path) -> None:
    """Recursion, direct or not, is no reason to hang, and what it does is compared like everything else."""
    made = Made()
    library = made.meta.graph_def.library.function
    library[0].node_def.append(call("again", library[1].signature.name, ["x", "w"]))
    library[1].node_def.append(call("again", library[0].signature.name, ["x", "w"]))
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    strip(path, target)
    assert verify(path, target).equal
    library[1].node_def[0].input.append("^again")
    assert not verify(path, made.write(tmp_path / "other")).equal


def test_the_campaign_of_field_by_field_damage(tmp_path: Path) -> None:
    """A few dozen of its cases: no crash, no broken promise."""
    path = Made(train=True).write(tmp_path / "model")
    for seed in range(60):
        assert probe(path, f"test {seed}")[1] == [], seed
