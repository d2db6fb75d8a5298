"""Graphs in files of their own: what is found in them, what a strip for named outputs leaves, and how it is proven."""

import json
import os
import shutil
from pathlib import Path

import pytest
from graph_fixtures import ALL, FORMATS, Graph, every_form, every_graph, one
from hostile import assert_one_sentence, assert_strip_fails, assert_strips, judge, listing, run

import tfstrip_core
from tfstrip_core import hook
from tfstrip_core.codecs import graph_file, meta_graph
from tfstrip_core.codecs.meta_graph import APPLIES
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.discover import look
from tfstrip_core.errors import NeedsChoice, UsageError

FILLS = ("LookupTableImportV2", "Assign", "AssignVariableOp", "NoOp")
ADAM, LABELS, LOOP = (one("tf1.15", name) for name in ("adam_batchnorm", "label_needed", "loop"))
FUNCTIONS, CALLS, TABLE = one("tf1.15", "functions"), one("tf2.21", "calls"), one("tf1.15", "table")


def nodes(path: str) -> dict[str, meta_graph_pb2.Node]:
    return {node.name: node for node in graph_file.read(path).meta.graph_def.node}


def of(path: str) -> pb.MetaGraph:
    return graph_file.read(path).meta


def needed(path: str, outputs: list[str]) -> set[str]:
    """Return what outputs depend on: a search of our own, over every input."""
    there, found, todo = nodes(path), set(), list(outputs)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += [text.lstrip("^").partition(":")[0] for text in there[name].input]
    return found


def stripped(graph: Graph, ending: str, folder: Path) -> str:
    target = str(folder / f"small{ending}")
    tfstrip_core.strip(graph.path(ending), target, output_names=graph.outputs)
    return target


@every_graph
@every_form
def test_a_training_graph_is_refused_and_reduced(graph: Graph, ending: str, tmp_path: Path, capsys) -> None:
    """Check refuses a graph that trains; what is left for its outputs is just what they need, equal, and clean."""
    path = graph.copy(tmp_path, ending)
    code, model = judge(capsys, path)
    (found,) = [item for item in model["findings"] if item["rule"] == "TFS202"]
    assert (code, model["format"], model["verdict"]) == (1, FORMATS[ending], "residue")
    assert 0 < found["bytes"] < model["bytes"]
    result = assert_strips(capsys, path, *graph.named)
    after = nodes(result)
    wanted = needed(path, graph.outputs)
    assert wanted <= after.keys()
    assert not [node.op for node in after.values() if APPLIES.fullmatch(node.op)]
    assert not set(graph.facts["gone"]) & after.keys()
    assert set(graph.facts["needs"]) <= after.keys()
    fills = {name for name, node in after.items() if node.op in FILLS}
    if ending != ".meta":
        assert after.keys() == wanted | needed(path, sorted(fills))
    assert os.path.getsize(result) < os.path.getsize(path) / 2


@every_graph
def test_what_stays_of_a_binary_graph_keeps_its_bytes(graph: Graph, tmp_path: Path) -> None:
    """Every node is one that was stored so, but for where it should lie, which a removed node cannot say any more."""
    content = Path(graph.path(".pb")).read_bytes()
    target = stripped(graph, ".pb", tmp_path)
    left = Path(target).read_bytes()
    places = 0
    for field in graph_file.read(target).graph:
        if field.kind == "node" and left[field.begin : field.end] not in content:
            (old,), (new,) = (
                [n for n in of(p).graph_def.node if n.name == field.name] for p in (graph.path(".pb"), target)
            )
            keys = [{attr.key for attr in node.attr} for node in (old, new)]
            assert keys[0] - keys[1] <= {"_class"}
            places += 1
    assert places < len(nodes(target)) / 2


@pytest.mark.parametrize("graph", [ADAM, CALLS], ids=["tf1.15", "tf2.21"])
def test_a_text_keeps_the_words_of_what_stays(graph: Graph, tmp_path: Path) -> None:
    """Each line of the result is one of the original's, in its order: nothing is written anew."""
    old = iter(Path(graph.path(".pbtxt")).read_text().splitlines())
    for line in Path(stripped(graph, ".pbtxt", tmp_path)).read_text().splitlines():
        assert line in old or "_class" in line, line


@pytest.mark.parametrize("graph", [FUNCTIONS, CALLS], ids=["tf1.15", "tf2.21"])
@every_form
def test_functions_stay_with_what_calls_them(graph: Graph, ending: str, tmp_path: Path) -> None:
    """A function that only the loss or a gradient calls goes; one that the prediction calls stays, with its own."""
    before = {item.signature.name for item in of(graph.path(ending)).graph_def.library.function}
    library = of(stripped(graph, ending, tmp_path)).graph_def.library
    after = {item.signature.name for item in library.function}
    assert after < before
    assert {gradient.function_name for gradient in library.gradient} <= after
    words = ("wave", "backwards") if graph is FUNCTIONS else ("inner", "outer")
    assert {word for word in words if any(word in name for name in after)} == set(words)
    assert not [name for name in after if "squared" in name or "__backward" in name]


@every_form
def test_a_label_that_the_prediction_needs_stays_and_is_told(ending: str, tmp_path: Path, capsys) -> None:
    """Who serves the model has to feed it, though its name says that it is a label."""
    path = LABELS.copy(tmp_path, ending)
    code, _, err = run(capsys, "strip", path, "-o", str(tmp_path / "out"), *LABELS.named)
    assert code == 0
    assert "it must be given x, labels" in err
    _, _, err = run(capsys, "strip", ADAM.path(ending), "-o", str(tmp_path / "other"), *ADAM.named)
    assert "it must be given x\n" in err
    assert "no longer takes labels" in err
    assert "may still be given keep_prob, training" in err


@every_form
def test_without_names_strip_asks_and_changes_nothing(ending: str, tmp_path: Path, capsys) -> None:
    """Which of a training graph's ends is served only its user knows; they are told what there is to choose from."""
    path = ADAM.copy(tmp_path, ending)
    said = assert_strip_fails(capsys, path)
    assert "they may be probabilities, loss, accuracy, or" in said
    assert "--output-names NAME" in said
    _, out, _ = run(capsys, "inspect", path)
    assert "  what may be its outputs: probabilities, loss, accuracy\n" in out
    with pytest.raises(NeedsChoice):
        tfstrip_core.strip(path, str(tmp_path / "x"))


def test_check_and_hook_say_how_to_go_on(tmp_path: Path, capsys) -> None:
    """A refusal ends with the command that helps; the hook that fixes leaves what needs a choice, and says so."""
    path = ADAM.copy(tmp_path, ".pb")
    code, out, _ = run(capsys, "check", path)
    assert code == 1
    assert f"fix: tfstrip strip --in-place --output-names NAME {path}, with the NAMEs of what you serve" in out
    before = listing(str(tmp_path))
    assert hook.main(["check", path]) == 1
    assert hook.main(["fix", path]) == 1
    err = capsys.readouterr().err
    assert "left as it is: nothing in the graph says which outputs you serve" in err
    assert "--ema" not in err
    assert listing(str(tmp_path)) == before
    assert "::error" in run(capsys, "check", "--output-format", "github", path)[1]


def test_names_that_are_not_there_are_told_with_those_that_are(tmp_path: Path, capsys) -> None:
    """A slip of the pen is no reason to search a graph of thousands of nodes."""
    path = ADAM.copy(tmp_path, ".pb")
    assert "did you mean probabilities" in assert_strip_fails(capsys, path, "--output-names", "probabilites")
    assert_strip_fails(capsys, path, "--output-names", "probabilities,nothing_like_it")
    assert "name probabilities: all of its outputs" in assert_strip_fails(
        capsys, path, "--output-names", "probabilities:3"
    )
    keras = Path(__file__).parents[1] / "examples" / "digits" / "digits.h5"
    shutil.copy(keras, tmp_path / "d.h5")
    os.remove(path)
    assert "is for a graph" in assert_strip_fails(capsys, str(tmp_path / "d.h5"), "--output-names", "x")
    with pytest.raises(UsageError, match="is for a graph"):
        tfstrip_core.strip(str(tmp_path / "d.h5"), str(tmp_path / "x"), output_names=["x"])


@every_form
def test_a_tensor_names_its_node(ending: str, tmp_path: Path) -> None:
    """NAME:0 is what TensorFlow prints, and names the same output."""
    targets = [str(tmp_path / name) for name in ("node", "tensor")]
    for target, end in zip(targets, ("", ":0"), strict=True):
        tfstrip_core.strip(ADAM.path(ending), target, output_names=[f"probabilities{end}"])
    assert Path(targets[0]).read_bytes() == Path(targets[1]).read_bytes()


@pytest.mark.parametrize("graph", ALL, ids=lambda graph: f"{graph.writer}-{graph.scenario}")
def test_a_frozen_graph_is_clean(graph: Graph, tmp_path: Path, capsys) -> None:
    """It holds what its outputs need and nothing else: a byte copy, whose weights are the constants in it."""
    path = shutil.copy(graph.path(".frozen.pb"), tmp_path)
    code, model = judge(capsys, path)
    assert (code, model["verdict"], model["findings"]) == (0, "clean", [])
    assert model["tensor_bytes"] == sum(tensor["bytes"] for tensor in model["tensors"]) > 0
    assert run(capsys, "strip", path, "-o", str(tmp_path / "out"))[0] == 0
    assert (tmp_path / "out").read_bytes() == Path(path).read_bytes()
    assert run(capsys, "strip", path, "--in-place")[0] == 0


def test_the_weights_of_a_frozen_graph_have_their_digest() -> None:
    """The weights that were frozen are those that the writer's variables held, by type, shape and bytes."""
    import numpy as np

    graph = one("tf1.15", "resources")
    values = np.load(graph.folder / "resources.npz")
    found = {(item.shape, item.dtype) for item in tfstrip_core.inspect(graph.path(".frozen.pb")).tensors}
    assert found == {(values[name].shape, str(values[name].dtype)) for name in values.files if name.count("/") == 1}
    first = tfstrip_core.weights_digest(graph.path(".frozen.pb"))
    assert first is not None
    assert first != tfstrip_core.weights_digest(one("tf2.21", "calls").path(".frozen.pb"))


def test_a_recorded_output_needs_no_name(tmp_path: Path, capsys) -> None:
    """A MetaGraphDef can say what it is for; its signature is taken at its word."""
    meta = of(ADAM.path(".meta"))
    value = pb.SignatureDef()
    value.inputs.add(key="x", value=pb.TensorInfo(name="x:0"))
    value.outputs.add(key="y", value=pb.TensorInfo(name="probabilities:0"))
    meta.signature_def.add(key="serving_default", value=value)
    path = str(tmp_path / "signed.meta")
    Path(path).write_bytes(meta.SerializeToString())
    code, model = judge(capsys, path)
    assert (code, model["outputs"]) == (1, ["probabilities"])
    result = assert_strips(capsys, path)
    assert nodes(result).keys() == nodes(stripped(ADAM, ".meta", tmp_path / "..")).keys()


def test_what_saves_and_restores_follows_what_stays(tmp_path: Path) -> None:
    """A Saver that asks for a removed variable fails; one that forgets a kept one leaves it without a value."""
    for graph in ALL:
        target = str(tmp_path / f"{graph.writer}-{graph.scenario}.meta")
        tfstrip_core.strip(graph.path(".meta"), target, output_names=graph.outputs)
        read = meta_graph.read(target)
        kept = {name for name in needed(target, graph.outputs) if read.nodes[name].op in meta_graph.VARIABLES}
        assert {name for owners in read.saved.values() for name in owners} == kept
        for key in ("variables", "trainable_variables"):
            assert {item.node for item in read.variables.get(key, ())} <= kept
        assert {item.node for item in read.variables["variables"]} == kept
        assert "train_op" not in read.lists


def test_collections_about_what_is_gone_go(tmp_path: Path) -> None:
    """TensorFlow looks up every node that a loop's or a condition's entry names, and fails where one is missing."""
    target = stripped(LOOP, ".meta", tmp_path)
    before, after = ({entry.key: entry for entry in of(path).collection_def} for path in (LOOP.path(".meta"), target))
    assert "train_op" in before
    assert {"train_op", "summaries"}.isdisjoint(after)
    there = nodes(target)
    for entry in after.values():
        for text in entry.value.node_list.value:
            assert text.partition(":")[0] in there


@every_form
def test_stripping_again_changes_nothing(ending: str, tmp_path: Path, capsys) -> None:
    """What is left has nothing more to lose for the same outputs: not a byte."""
    first = stripped(ADAM, ending, tmp_path)
    again = str(tmp_path / "again")
    code, out, _ = run(capsys, "strip", first, "-o", again, *ADAM.named)
    assert (code, "nothing to remove" in out) == (0, True)
    assert Path(first).read_bytes() == Path(again).read_bytes()


@every_form
def test_strip_in_place(ending: str, tmp_path: Path, capsys) -> None:
    """The file itself is replaced by what a strip to another place writes."""
    path = ADAM.copy(tmp_path, ending)
    assert run(capsys, "strip", path, "--in-place", *ADAM.named)[0] == 0
    (tmp_path / "other").mkdir()
    assert Path(path).read_bytes() == Path(stripped(ADAM, ending, tmp_path / "other")).read_bytes()


def edit_of(ending: str, path: str, edit) -> None:
    """Change a stripped graph as no strip would: `edit` gets its nodes and library."""
    meta = of(path)
    if ending == ".meta":
        edit(meta.graph_def)
        Path(path).write_bytes(meta.SerializeToString(deterministic=True))
    else:
        graph = pb.Graph()
        graph.ParseFromString(Path(path).read_bytes())
        edit(graph)
        Path(path).write_bytes(graph.SerializeToString(deterministic=True))


def add(graph: pb.Graph) -> None:
    graph.node.add(name="more", op="NoOp")


def change(graph: pb.Graph) -> None:
    node = next(node for node in graph.node if node.op == "Softmax")
    node.op = "LogSoftmax"


def turn(graph: pb.Graph) -> None:
    node = next(node for node in graph.node if node.op == "MatMul")
    node.input[0], node.input[1] = node.input[1], node.input[0]


def forget(graph: pb.Graph) -> None:
    del graph.library.function[0]


def drop_control(graph: pb.Graph) -> None:
    """Take away a node that another only waits for, with the edge."""
    node = next(node for node in graph.node if any(text.startswith("^") for text in node.input))
    kept = [text for text in node.input if not text.startswith("^")]
    del node.input[:]
    node.input.extend(kept)


@pytest.mark.parametrize("ending", [".pb", ".meta"])
@pytest.mark.parametrize("edit", [add, change, turn])
def test_verify_sees_what_no_strip_does(edit, ending: str, tmp_path: Path, capsys) -> None:
    """A node added, changed or wired otherwise makes another model of it."""
    target = stripped(ADAM, ending, tmp_path)
    assert run(capsys, "verify", ADAM.path(ending), target)[0] == 0
    edit_of(ending, target, edit)
    assert run(capsys, "verify", ADAM.path(ending), target)[0] == 1


@pytest.mark.parametrize("graph", [FUNCTIONS, CALLS], ids=["tf1.15", "tf2.21"])
def test_verify_sees_a_function_that_is_gone(graph: Graph, tmp_path: Path, capsys) -> None:
    """An operation without its function cannot run; where it is a gradient's, the graph cannot even be read."""
    target = stripped(graph, ".pb", tmp_path)
    edit_of(".pb", target, forget)
    code, out, err = run(capsys, "verify", graph.path(".pb"), target)
    assert (code, "function" in out + err) == (2 if graph is FUNCTIONS else 1, True)


def test_verify_sees_a_control_edge_that_is_gone(tmp_path: Path, capsys) -> None:
    """What a node waits for may be what gives a value."""
    target = stripped(LOOP, ".pb", tmp_path)
    edit_of(".pb", target, drop_control)
    assert run(capsys, "verify", LOOP.path(".pb"), target)[0] == 1


def test_verify_sees_every_bit_of_a_frozen_weight(tmp_path: Path, capsys) -> None:
    """One flipped bit in a constant is another model."""
    path = ADAM.path(".frozen.pb")
    target = tmp_path / "x.pb"
    found = graph_file.read(path).constants["hidden/kernel"]
    ((_, begin, end),) = found.values
    for at in (begin, end - 1):
        content = bytearray(Path(path).read_bytes())
        content[at] ^= 1
        target.write_bytes(content)
        code, out, _ = run(capsys, "verify", path, str(target))
        assert (code, "hidden/kernel" in out) == (1, True)


def test_verify_says_for_which_outputs(tmp_path: Path, capsys) -> None:
    """Equal is equal for some outputs, which a user should see."""
    target = stripped(one("tf1.15", "resources"), ".pb", tmp_path)
    code, out, err = run(capsys, "verify", one("tf1.15", "resources").path(".pb"), target)
    assert (code, "compared as a graph for probabilities" in err) == (0, True)
    assert " equal, " in out


def test_a_meta_file_leads_to_its_checkpoint(tmp_path: Path, capsys) -> None:
    """It is a graph of its own only where nothing of a checkpoint of its name lies beside it."""
    path = ADAM.copy(tmp_path, ".meta")
    prefix = path.removesuffix(".meta")
    assert look(path).kind == "meta-graph"
    for ending in (".index", ".data-00000-of-00001"):
        shutil.copy(ADAM.folder / "values" / f"adam_batchnorm{ending}", tmp_path)
        if ending == ".index":
            code, model = judge(capsys, path)
            assert (code, model["verdict"], model["path"]) == (2, "unreadable", prefix)
            assert ".data-00000-of-00001 is missing" in model["message"]
    assert judge(capsys, path)[1]["path"] == prefix
    os.remove(f"{prefix}.index")
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (2, "unreadable")
    assert "adam_batchnorm.index is missing" in model["message"]


def test_a_walk_finds_graphs_by_their_content(tmp_path: Path, capsys) -> None:
    """Whatever they are called: a text may be called .pb, and a GraphDef have no ending at all."""
    for ending, name in ((".pb", "graph"), (".pbtxt", "text.pb"), (".meta", "meta.bin")):
        shutil.copy(ADAM.path(ending), tmp_path / name)
    code, out, _ = run(capsys, "check", "--json", str(tmp_path))
    models = json.loads(out)["models"]
    assert (code, [model["format"] for model in models]) == (1, ["graph-def", "meta-graph", "graph-def-text"])


def test_operations_that_reach_out_are_told(tmp_path: Path) -> None:
    """Reading a file is code of the graph's, as in a SavedModel."""
    graph = pb.Graph()
    graph.node.add(name="name", op="Placeholder")
    graph.node.add(name="read", op="ReadFile", input=["name"])
    graph.node[0].attr.add(key="dtype").value.type = 7
    path = tmp_path / "reads.pb"
    path.write_bytes(graph.SerializeToString())
    (found,) = tfstrip_core.inspect(str(path)).findings
    assert (found.rule, found.subject) == ("TFS501", "ReadFile")


def test_debug_information_goes(tmp_path: Path, capsys) -> None:
    """It holds the paths of the writer's source files, which nobody needs."""
    path = tmp_path / "paths.pb"
    path.write_bytes(Path(ADAM.path(".frozen.pb")).read_bytes() + b"\x2a\x0d\x0a\x0b/home/me.py")
    code, model = judge(capsys, str(path))
    assert (code, [item["rule"] for item in model["findings"]]) == (0, ["TFS401"])
    result = assert_strips(capsys, str(path))
    assert Path(result).read_bytes() == Path(ADAM.path(".frozen.pb")).read_bytes()


def test_no_name_decides(tmp_path: Path, capsys) -> None:
    """A layer called gradients/Adam is a layer, and a graph whose training is called something else is one."""
    content = Path(ADAM.path(".pbtxt")).read_text()
    renamed = content.replace('"gradients/', '"layers/').replace("^gradients/", "^layers/").replace('"Adam', '"Soup')
    path = tmp_path / "renamed.pbtxt"
    path.write_text(renamed.replace("hidden", "gradients/hidden_Adam").replace('"labels', '"inputs'))
    assert judge(capsys, str(path))[0] == 1
    result = assert_strips(capsys, str(path), *ADAM.named)
    assert len(nodes(result)) == len(nodes(stripped(ADAM, ".pbtxt", tmp_path / "..")))
    assert_one_sentence(
        run(capsys, "strip", str(path), "-o", str(tmp_path / "x"), "--output-names", "labels")[2], str(path)
    )


def swap_keys(meta: pb.MetaGraph) -> None:
    node = next(node for node in meta.graph_def.node if node.name == "save/RestoreV2/tensor_names")
    names = next(attr for attr in node.attr if attr.key == "value").value.tensor.string_val
    names[-1], names[-2] = names[-2], names[-1]


def swap_saved(meta: pb.MetaGraph) -> None:
    node = next(node for node in meta.graph_def.node if node.op == "SaveV2")
    node.input[-1], node.input[-2] = node.input[-2], node.input[-1]


def restore_less(meta: pb.MetaGraph) -> None:
    node = next(node for node in meta.graph_def.node if node.name == "save/restore_all")
    del node.input[0]


def assign_another(meta: pb.MetaGraph) -> None:
    one, other = [node for node in meta.graph_def.node if node.op == "Assign" and node.name.startswith("save/")][:2]
    one.input[1], other.input[1] = other.input[1], one.input[1]


def forget_variable(meta: pb.MetaGraph) -> None:
    entry = next(entry for entry in meta.collection_def if entry.key == "variables")
    del entry.value.bytes_list.value[0]


def forget_the_saver(meta: pb.MetaGraph) -> None:
    meta.ClearField("saver_def")


def forget_the_producer(meta: pb.MetaGraph) -> None:
    meta.meta_info_def.tensorflow_version = "9"


@pytest.mark.parametrize(
    "edit",
    [swap_keys, swap_saved, restore_less, assign_another, forget_variable, forget_the_saver, forget_the_producer],
)
def test_verify_sees_a_saver_that_gives_other_weights(edit, tmp_path: Path, capsys) -> None:
    """A weight restored from another's key, or not at all, is a lost weight."""
    target = stripped(ADAM, ".meta", tmp_path)
    meta = of(target)
    edit(meta)
    Path(target).write_bytes(meta.SerializeToString(deterministic=True))
    assert run(capsys, "verify", ADAM.path(".meta"), target)[0] == 1


def test_a_variable_of_two_handles_stays_in_the_saver(tmp_path: Path) -> None:
    """Two nodes can be one variable, by their shared name: what is read by the one is saved by the other."""
    graph = one("tf1.15", "resources")
    meta = of(graph.path(".meta"))
    old = next(node for node in meta.graph_def.node if node.name == "logits/bias")
    alias = meta.graph_def.node.add()
    alias.CopyFrom(old)
    alias.name = "alias"
    for node in meta.graph_def.node:
        if node.op == "ReadVariableOp" and node.input[0] == "logits/bias" and "save" not in node.name:
            node.input[0] = "alias"
    path, target = str(tmp_path / "x.meta"), str(tmp_path / "y.meta")
    Path(path).write_bytes(meta.SerializeToString())
    tfstrip_core.strip(path, target, output_names=graph.outputs)
    read = meta_graph.read(target)
    assert "logits/bias" in read.saved
    assert {item.node for item in read.variables["variables"]} >= {"logits/bias"}
    there = nodes(target)
    for entry in of(target).collection_def:
        for item in entry.value.bytes_list.value if entry.key == "variables" else ():
            described = meta_graph_pb2.Variable.FromString(item)
            assert {described.initializer_name, described.snapshot_name.partition(":")[0]} <= there.keys()
