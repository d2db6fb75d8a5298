"""SavedModel directories end to end, on models made by hand: what is found, what goes, what stays, what is refused."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from saved_made import VALUES, Made, W, bundle, files, keys, saver, signature, variable

from tfstrip_core import CannotReplace, NeedsChoice, Pointer, Refused, Unreadable, UsageError, inspect, strip, verify
from tfstrip_core.cli import main
from tfstrip_core.codecs import saved_model
from tfstrip_core.codecs.protos import meta_graph_pb2 as mg
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.containers.saved import saved_saver_write
from tfstrip_core.containers.saved.saved_saver import Handle
from tfstrip_core.discover import discover, look
from tfstrip_core.errors import ProofFailed

KEY = "{}/.ATTRIBUTES/VARIABLE_VALUE"


def rules(path: str) -> list[str]:
    return [finding.rule for finding in inspect(path).findings]


def roles(path: str) -> dict[str, str]:
    return {tensor.name.split("/")[0]: tensor.role for tensor in inspect(path).tensors}


def graph(path: str) -> pb.MetaGraph:
    (meta,) = saved_model.read(path).message.meta_graphs
    return meta


def nodes(path: str) -> set[str]:
    return {node.name for node in graph(path).graph_def.node}


def test_what_is_found(tmp_path: Path) -> None:
    """An optimizer by its form and a metric by its kind, each with what it holds; the weight is no finding's."""
    path = Made().write(tmp_path / "model")
    assert rules(path) == ["TFS101", "TFS102"]
    assert roles(path) == {"w": "weight", "m": "optimizer", "iterations": "optimizer", "total": "metric"}
    found = inspect(path)
    assert (found.format, found.verdict, found.writer) == ("saved-model", "residue", "TensorFlow 2.99")
    assert found.residue_bytes == W.nbytes + 8 + 4


def test_strip_leaves_what_inference_reaches(tmp_path: Path) -> None:
    """The weight stays, with the functions that read it, the assets, and a saver of its own; nothing else does."""
    path, target = Made().write(tmp_path / "model"), str(tmp_path / "small")
    result = strip(path, target)
    assert keys(target) == {KEY.format("w")}
    assert set(files(target)) == {
        "assets/words.txt",
        "saved_model.pb",
        "variables/variables.data-00000-of-00001",
        "variables/variables.index",
    }
    assert inspect(target).verdict == "clean"
    assert result.bytes_after == sum(map(len, files(target).values()))
    assert {name.split("/")[0] for name in nodes(target)} == {"x", "y", "call", "w", "saver"}
    assert not any(attr.key == "_class" for node in graph(target).graph_def.node for attr in node.attr)
    assert verify(path, target).equal
    assert not verify(target, path).equal
    assert not list(tmp_path.glob(".tfstrip-*"))


def test_the_same_bytes_every_time_and_a_second_strip_copies(tmp_path: Path) -> None:
    """Output is reproducible, and what is clean is copied byte for byte."""
    path = Made().write(tmp_path / "model")
    for name in ("a", "b"):
        strip(path, str(tmp_path / name))
    assert files(str(tmp_path / "a")) == files(str(tmp_path / "b"))
    strip(str(tmp_path / "a"), str(tmp_path / "c"))
    assert files(str(tmp_path / "a")) == files(str(tmp_path / "c"))


@pytest.mark.parametrize("identifier", ["optimizer", "experimentalOptimizer"])
def test_an_optimizer_is_known_by_its_kind(tmp_path: Path, identifier: str) -> None:
    """Keras 2 says what an optimizer is, so that its form does not matter."""
    made = Made(optimizer=identifier)
    del made.objects.nodes[made.names["optimizer"]].children[:]
    made.child("optimizer", iter="iterations", m="m")
    assert roles(made.write(tmp_path / "model"))["iterations"] == "optimizer"


def test_an_optimizers_form_without_the_name_of_its_steps_is_no_proof(tmp_path: Path) -> None:
    """A program may keep its own variables in a list that begins with a count: the frameworks call theirs by a name."""
    made = Made()
    made.full_names.clear()
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert rules(path) == ["TFS107", "TFS102"]
    strip(path, target)
    assert KEY.format("m") in keys(target)


def test_a_weight_that_looks_like_an_optimizers_is_kept_for_its_reader(tmp_path: Path) -> None:
    """What a function of inference reads stays, wherever it lies, and a loader finds it at the root."""
    made = Made()
    made.function("refine", ["m"])
    made.child("root", refine="refine")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert rules(path) == ["TFS101", "TFS102", "TFS203"]
    strip(path, target)
    assert keys(target) == {KEY.format("w"), KEY.format("m")}
    objects = graph(target).object_graph_def
    (holder,) = [child.node_id for child in objects.nodes[0].children if child.local_name == "_kept"]
    assert [(child.local_name, child.node_id) for child in objects.nodes[holder].children] == [("v0", made.names["m"])]
    assert verify(path, target).equal


def test_what_held_nothing_but_an_optimizer_stays_empty(tmp_path: Path) -> None:
    """An object that held only training state says nothing any more and is still there, at any depth."""
    made = Made()
    root = made.objects.nodes[0]
    held = [child for child in root.children if child.local_name != "optimizer"]
    del root.children[:]
    root.children.extend(held)
    for name in ("outer", "inner"):
        made.object(name)
    made.child("root", outer="outer")
    made.child("outer", inner="inner")
    made.child("inner", optimizer="optimizer")
    path, target, again = made.write(tmp_path / "model"), str(tmp_path / "small"), str(tmp_path / "again")
    strip(path, target)
    assert keys(target) == {KEY.format("w")}
    nodes = graph(target).object_graph_def.nodes
    assert [child.local_name for child in nodes[made.names["outer"]].children] == ["inner"]
    assert verify(path, target).equal
    strip(target, again)
    assert files(again) == files(target)


def test_scalars_called_like_an_optimizers_are_undecided_where_a_function_reads_one(tmp_path: Path) -> None:
    """A model may count and decay by itself: what it reads of that proves no optimizer."""
    made = Made()
    made.object("solver")
    for name in ("iter", "decay", "learning_rate", "momentum"):
        made.variable(name, np.array(1, "<f4" if name != "iter" else "<i8"))
        made.child("solver", **{name: name})
    made.child("root", solver="solver")
    assert "TFS108" not in rules(made.write(tmp_path / "unread"))
    made.function("refine", ["decay"])
    made.child("root", refine="refine")
    path, target = made.write(tmp_path / "read"), str(tmp_path / "small")
    assert "TFS108" in rules(path)
    strip(path, target)
    assert keys(target) >= {KEY.format(name) for name in ("iter", "decay", "momentum")}


def test_a_function_that_hangs_on_an_optimizer_stays_callable(tmp_path: Path) -> None:
    """An optimizer's state goes, and what somebody hung on it is called as before."""
    made = Made()
    made.function("predict", ["w"])
    made.child("optimizer", predict="predict")
    path, target, again = made.write(tmp_path / "model"), str(tmp_path / "small"), str(tmp_path / "again")
    strip(path, target)
    assert keys(target) == {KEY.format("w")}
    held = graph(target).object_graph_def.nodes
    assert "optimizer" in [child.local_name for child in held[0].children]
    assert [child.local_name for child in held[made.names["optimizer"]].children][-1] == "predict"
    assert verify(path, target).equal
    strip(target, again)
    assert files(again) == files(target)


def test_damage_is_told_of_the_model_that_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A byte that is not what it was is told with the path of the model that it is in."""
    path, target = Made().write(tmp_path / "model"), str(tmp_path / "small")
    strip(path, target)
    data = Path(target, "variables", "variables.data-00000-of-00001")
    data.write_bytes(bytes([data.read_bytes()[0] ^ 1]) + data.read_bytes()[1:])
    assert main(["verify", path, target]) == 2
    assert capsys.readouterr().err.startswith(f"tfstrip: {target}: ")


def test_a_training_function_keeps_its_state_until_it_is_to_go(tmp_path: Path) -> None:
    """TFS203 names it; without it the state that it reads goes."""
    path = Made(train=True).write(tmp_path / "model")
    (found,) = [finding for finding in inspect(path).findings if finding.rule == "TFS203"]
    assert (found.subject, found.bytes) == ("train", W.nbytes)
    strip(path, str(tmp_path / "kept"))
    assert KEY.format("m") in keys(str(tmp_path / "kept"))
    target = str(tmp_path / "small")
    strip(path, target, drop_functions=["train"])
    assert keys(target) == {KEY.format("w")}
    assert {item.signature.name for item in graph(target).graph_def.library.function} == {"f_serve", "f___call__"}
    assert not verify(path, target).equal
    assert verify(path, target, also=["train"]).equal
    with pytest.raises(UsageError, match="names no function"):
        strip(path, str(tmp_path / "none"), drop_functions=["tarin"])
    with pytest.raises(UsageError, match="names nothing"):
        verify(path, target, also=["tarin"])


def test_a_signature_that_reads_an_optimizers_state_stays(tmp_path: Path, capsys) -> None:
    """A signature is what a server calls: another function of the same may go, and what it reads stays for it."""
    made = Made(train=True)
    made.function("served", ["w", "m"])
    made.child("signatures", train="served")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert [item.subject for item in inspect(path).findings if item.rule == "TFS203"] == ["train"]
    with pytest.raises(UsageError, match="signatures/train is a signature, which stays"):
        strip(path, target, drop_functions=["train", "signatures/train"])
    assert main(["strip", path, "-o", target, "--drop-function", "train"]) == 0
    assert "signatures/train" in capsys.readouterr().err
    assert KEY.format("m") in keys(target)


def test_serving_keeps_what_signatures_reach(tmp_path: Path) -> None:
    """Other functions go, with all that only they read; a verify knows the result for what it is."""
    made = Made(train=True)
    made.variable("other", W)
    made.function("encode", ["other"])
    made.child("root", encode="encode", other="other")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    strip(path, target, profile="serving")
    assert keys(target) == {KEY.format("w")}
    meta = graph(target)
    assert [item.key for item in meta.object_graph_def.concrete_functions] == ["f_serve"]
    assert {child.local_name for child in meta.object_graph_def.nodes[0].children} == {"signatures", "_kept"}
    assert verify(path, target).equal
    again = str(tmp_path / "again")
    strip(target, again, profile="serving")
    assert files(again) == files(target)


def test_serving_needs_signatures(tmp_path: Path) -> None:
    """Without any there is nothing to serve."""
    made = Made()
    del made.objects.nodes[made.names["signatures"]].children[:]
    with pytest.raises(UsageError, match="no signatures"):
        strip(made.write(tmp_path / "model"), str(tmp_path / "small"), profile="serving")


def duplicated(value: np.ndarray = W) -> Made:
    """As Keras 3 exports: the session's copy of the weight is another variable than the functions'."""
    made = Made()
    made.object("_all", "trackable_list_wrapper")
    made.variable("copy", value)
    made.child("root", _all_variables="_all")
    made.child("_all", **{"0": "copy"})
    del made.meta.graph_def.node[-9:]
    made.meta.graph_def.node.append(variable("Variable_1", W))
    others = {name: KEY.format(name) for name in VALUES if name != "w"}
    saver(made.meta, {"w": KEY.format("copy"), "Variable_1": KEY.format("w"), **others})
    return made


def test_a_variable_that_is_stored_twice(tmp_path: Path) -> None:
    """The copy goes, and the saver restores the one that is left."""
    path, target = duplicated().write(tmp_path / "model"), str(tmp_path / "small")
    assert "TFS104" in rules(path)
    assert roles(path)["copy"] == "duplicate"
    strip(path, target)
    assert keys(target) == {KEY.format("w")}
    assert verify(path, target).equal


def test_two_contents_of_one_variable_are_refused(tmp_path: Path) -> None:
    """Two loaders would run two models: nobody can say which one is meant."""
    with pytest.raises(Refused, match="two different tensors"):
        inspect(duplicated(W + 1).write(tmp_path / "model"))


def test_a_saver_that_forgets_is_repaired(tmp_path: Path) -> None:
    """What the signature reads is restored from where the object has it."""
    made = Made()
    del made.meta.graph_def.node[-9:]
    saver(made.meta, {name: KEY.format(name) for name in VALUES if name != "w"})
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert "TFS402" in rules(path)
    result = strip(path, target)
    assert "restores every variable" in result.notes[0]
    assert "TFS402" not in rules(target)
    assert verify(path, target).equal


def test_sources_that_contradict_each_other(tmp_path: Path) -> None:
    """A variable without a value, or with another type or shape than its tensor, is not guessed at."""
    made = Made()
    made.meta.graph_def.node.append(variable("stray", W))
    made.meta.graph_def.node.append(mg.Node(name="z", op="ReadVariableOp", input=["stray"]))
    signature(made.meta, "x", "z", "other")
    with pytest.raises(Refused, match="reads the variable 'stray'"):
        inspect(made.write(tmp_path / "stray"))
    made = Made()
    made.meta.graph_def.node[1].CopyFrom(variable("w", W[:2]))
    with pytest.raises(Refused, match="another shape"):
        inspect(made.write(tmp_path / "shape"))
    made = Made()
    made.meta.graph_def.node[1].CopyFrom(variable("w", W.astype("<i8")))
    with pytest.raises(Refused, match="another type"):
        inspect(made.write(tmp_path / "type"))


def test_averages_are_asked_for(tmp_path: Path) -> None:
    """An average that differs from the weight is no residue until the user says so."""
    made = Made()
    made.object("averages", "trackable_list_wrapper")
    made.child("optimizer", _model_variables_moving_average="averages")
    made.child("averages", **{"0": "m"})
    path = made.write(tmp_path / "model")
    assert roles(path)["m"] == "average"
    with pytest.raises(NeedsChoice):
        strip(path, str(tmp_path / "asked"))
    strip(path, str(tmp_path / "dropped"), ema="drop")
    assert verify(path, str(tmp_path / "dropped")).equal
    strip(path, str(tmp_path / "applied"), ema="apply")
    assert verify(path, str(tmp_path / "applied"), ema="apply").equal
    assert not verify(path, str(tmp_path / "applied")).equal


def test_a_saved_iterator_goes(tmp_path: Path) -> None:
    """Where it was in the training data is of no use to inference: TFS105, which fails a check."""
    made = Made()
    number = made.object("data")
    made.child("root", data="data")
    made.values["data"], made.keys[number] = np.array(1, "<f4"), "data/.ATTRIBUTES/ITERATOR_STATE"
    stored = made.stored()
    stored.nodes[number].attributes[0].name = "ITERATOR_STATE"
    made.stored = lambda: stored  # type: ignore[method-assign]
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert ("TFS105", "data") in [(found.rule, found.subject) for found in inspect(path).findings]
    assert main(["check", path]) == 1
    strip(path, target)
    assert keys(target) == {KEY.format("w")}
    assert verify(path, target).equal


def test_averages_by_slot_are_asked_for(tmp_path: Path) -> None:
    """The moving averages of Keras 2's addons are slots by name, beside those of the inner optimizer."""
    made = Made(optimizer="optimizer")
    made.objects.nodes[made.names["optimizer"]].slot_variables.add(
        original_variable_node_id=made.names["w"], slot_name="average", slot_variable_node_id=made.names["m"]
    )
    stored = made.stored()
    stored.nodes[made.names["optimizer"]].slot_variables.add(
        original_variable_node_id=made.names["w"], slot_name="average", slot_variable_node_id=made.names["m"]
    )
    made.stored = lambda: stored  # type: ignore[method-assign]
    path = made.write(tmp_path / "model")
    assert roles(path)["m"] == "average"
    with pytest.raises(NeedsChoice):
        strip(path, str(tmp_path / "asked"), profile="serving")
    strip(path, str(tmp_path / "applied"), ema="apply")
    assert verify(path, str(tmp_path / "applied"), ema="apply").equal


def keras_metadata(folder: str) -> None:
    message = pb.KerasMetadata()
    message.nodes.add(node_id=0, node_path="root", metadata='{"name": "m", "training_config": {"loss": "mse"}}')
    message.nodes.add(node_id=8, node_path="root.metrics.0", identifier="_tf_keras_metric", metadata="{}")
    Path(folder, saved_model.KERAS).write_bytes(message.SerializeToString())


def test_what_keras_wrote_beside_it(tmp_path: Path) -> None:
    """compile()'s arguments go with what goes, and the entries of objects that are gone; for serving all of it."""
    made = Made()
    path = made.write(tmp_path / "model")
    keras_metadata(path)
    assert made.names["metric"] == 8
    assert "TFS201" in rules(path)
    strip(path, str(tmp_path / "small"))
    found = saved_model.read(str(tmp_path / "small")).keras
    assert found is not None
    assert [(node.node_id, node.metadata) for node in found.nodes] == [(0, '{"name": "m"}')]
    assert verify(path, str(tmp_path / "small")).equal
    strip(path, str(tmp_path / "serving"), profile="serving")
    assert saved_model.KERAS not in files(str(tmp_path / "serving"))
    assert verify(path, str(tmp_path / "serving")).equal


def test_debug_information_goes(tmp_path: Path) -> None:
    """It names the source files of whoever wrote the model."""
    path = Made().write(tmp_path / "model")
    Path(path, "debug").mkdir()
    Path(path, "debug", "saved_model_debug_info.pb").write_bytes(b"\n\x10/home/me/train.py")
    assert "TFS401" in rules(path)
    strip(path, str(tmp_path / "small"))
    assert not Path(tmp_path, "small", "debug").exists()


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """In the result by verify; in the source nothing is written."""
    path, target = Made().write(tmp_path / "model"), tmp_path / "small"
    strip(path, str(target))
    data = target / "variables" / "variables.data-00000-of-00001"
    raw = bytearray(data.read_bytes())
    raw[3] ^= 1
    data.write_bytes(raw)
    with pytest.raises(Unreadable, match="damaged"):
        verify(path, str(target))
    with pytest.raises(Unreadable, match="damaged"):
        strip(str(target), str(tmp_path / "next"))
    assert not (tmp_path / "next").exists()


def test_another_function_or_edge_is_no_equal(tmp_path: Path) -> None:
    """The proof is of functions, nodes, signatures and objects too, not of tensors alone."""
    path = Made().write(tmp_path / "model")
    changes = {
        "function": lambda made: made.meta.graph_def.library.function[1].node_def[0].input.append("^x"),
        "node": lambda made: made.meta.graph_def.node[-10].input.append("^x"),
        "signature": lambda made: setattr(made.meta.signature_def[0].value.outputs[0], "key", "z"),
        "object": lambda made: made.child("root", again="w"),
        "bound": lambda made: made.objects.concrete_functions[0].value.bound_inputs.append(1),
    }
    for name, change in changes.items():
        made = Made()
        change(made)
        other = made.write(tmp_path / name)
        assert not verify(path, other).equal, name


def test_targets(tmp_path: Path) -> None:
    """A directory is made whole or not at all."""
    path = Made().write(tmp_path / "model")
    with pytest.raises(UsageError, match="same directory"):
        strip(path, path, force=True)
    with pytest.raises((UsageError, CannotReplace)):
        strip(path, str(tmp_path / "absent" / "small"))


def test_a_proof_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bug of ours in the saver, the closure or the objects is found by reading the result again."""
    path = Made().write(tmp_path / "model")
    saver_write, real = "tfstrip_core.containers.saved.saved_saver_write.write", saved_saver_write.write
    faults = {
        saver_write: lambda meta, handles, taken: {},
        "tfstrip_core.containers.saved.saved_closure.functions": lambda held, nodes, objects: frozenset({"f_serve"}),
        "tfstrip_core.containers.saved.saved_objects_write._lead_to_values": lambda message, held, gone: message.nodes[
            0
        ].children.add(node_id=1, local_name="more"),
    }
    for name, fault in faults.items():
        with monkeypatch.context() as patch:
            patch.setattr(name, fault)
            with pytest.raises((ProofFailed, Unreadable)):
                strip(path, str(tmp_path / "small"))
        assert os.listdir(tmp_path) == ["model"]

    def other(meta: pb.MetaGraph, handles: tuple[Handle, ...], taken: object) -> dict[str, str]:
        swapped = [replace(handle, cut="3 4 0,3:0,4") for handle in handles]
        return real(meta, swapped, ())

    monkeypatch.setattr(saver_write, other)
    with pytest.raises((ProofFailed, Refused)):
        strip(path, str(tmp_path / "small"))
    assert os.listdir(tmp_path) == ["model"]


def test_any_of_its_files_leads_to_the_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hook names files; a walk meets the directory; in both cases it is one model."""
    path = Made().write(tmp_path / "model")
    for name in (".", "saved_model.pb", "variables/variables.index"):
        found = look(os.path.join(path, name))
        assert (os.path.normpath(found.path), found.kind) == (path, "saved-model")
    assert [found.path for found in discover([str(tmp_path)])] == [path]
    monkeypatch.chdir(path)
    assert look("saved_model.pb").path == "."


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Check refuses it, strip mends it."""
    path = Made(train=True).write(tmp_path / "model")
    assert main(["check", path]) == 1
    assert main(["strip", path, "-o", str(tmp_path / "told")]) == 0
    assert "run tfstrip strip with --drop-function train:" in capsys.readouterr().err
    assert main(["strip", path, "-o", str(tmp_path / "small"), "--drop-function", "train"]) == 0
    assert main(["check", str(tmp_path / "small")]) == 0
    assert main(["verify", path, str(tmp_path / "small"), "--also", "train"]) == 0
    assert "TFS101" in capsys.readouterr().out


def test_pointers_and_missing_files(tmp_path: Path) -> None:
    """What is not here is said by name."""
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"
    for name in ("saved_model.pb", "variables/variables.data-00000-of-00001"):
        path = Made().write(tmp_path / name.replace("/", "_"))
        Path(path, name).write_bytes(pointer)
        with pytest.raises(Pointer, match=os.path.basename(name)):
            inspect(path)
    path = Made().write(tmp_path / "missing")
    Path(path, "variables/variables.data-00000-of-00001").unlink()
    with pytest.raises(Unreadable, match="is missing"):
        inspect(path)
    Path(path, "variables/variables.index").unlink()
    with pytest.raises(Unreadable, match="variables are missing"):
        inspect(path)
    Path(path, "variables.index").write_bytes(b"")
    with pytest.raises(Unreadable, match="lie beside"):
        inspect(path)


def test_a_model_of_tensorflow_1(tmp_path: Path) -> None:
    """No objects: what the signatures reach stays; Adam's slots, the labels and the graph for training go."""
    message = pb.SavedModel(saved_model_schema_version=1)
    values = {"w": W, "w/Adam": W, "w/Adam_1": W, "beta1_power": np.array(1, "<f4"), "beta2_power": np.array(1, "<f4")}
    for tag in ("train", "serve"):
        meta = message.meta_graphs.add()
        meta.meta_info_def.tags.append(tag)
        meta.graph_def.node.extend(variable(name, value) for name, value in values.items())
        meta.graph_def.node.add(name="x", op="Placeholder")
        meta.graph_def.node.add(name="labels", op="Placeholder")
        meta.graph_def.node.add(name="y", op="MatMul", input=["x", "w"])
        meta.graph_def.node.add(name="loss", op="Sub", input=["y", "labels"])
        slots = ["w", "w/Adam", "w/Adam_1", "beta1_power", "beta2_power"]
        meta.graph_def.node.add(name="train", op="ResourceApplyAdam", input=[*slots, "loss"])
        saver(meta, {name: name for name in values})
        item = mg.Variable(variable_name="w:0", initializer_name="w/init", initial_value_name="w/zeros:0")
        collection = meta.collection_def.add(key="variables")
        collection.value.bytes_list.value.append(item.SerializeToString())
        meta.collection_def.add(key="train_op").value.node_list.value.append("train")
    signature(message.meta_graphs[1], "x", "y")
    folder = tmp_path / "model"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(message.SerializeToString())
    bundle(folder / "variables" / "variables", values)
    assert rules(str(folder)) == ["TFS101", "TFS202"]
    target = str(tmp_path / "small")
    strip(str(folder), target)
    assert keys(target) == {"w"}
    assert {name for name in nodes(target) if not name.startswith("saver/")} == {"x", "w", "y"}
    (entry,) = graph(target).collection_def
    kept = mg.Variable.FromString(entry.value.bytes_list.value[0])
    assert (entry.key, kept.initializer_name, kept.initial_value_name) == ("variables", "saver/set_0", "")
    assert verify(str(folder), target).equal


def test_a_graph_without_signatures_is_refused(tmp_path: Path) -> None:
    """Nothing says what is for inference."""
    message = pb.SavedModel(saved_model_schema_version=1)
    message.meta_graphs.add().graph_def.node.add(name="x", op="Placeholder")
    (tmp_path / "saved_model.pb").write_bytes(message.SerializeToString())
    with pytest.raises(Refused, match="no signature"):
        inspect(str(tmp_path))
