"""What lies in and beside saved_model.pb apart from variables: code, paths of the writer's machine, assets, others."""

import os
from pathlib import Path
from typing import Any

import pytest
from saved_made import Made, attr, files, places, strings
from test_saved_model import graph, rules

from tfstrip_core import UsageError, check, inspect, strip, verify
from tfstrip_core.codecs import saved_model, tensor_bundle
from tfstrip_core.codecs.protos import saved_model_pb2 as pb


def code(path: str) -> dict[str, str]:
    return {found.subject: found.message for found in inspect(path).findings if found.rule == "TFS501"}


def test_operations_that_do_more_than_compute(tmp_path: Path) -> None:
    """In the graph, in functions, and in what the saver runs: told by kind, and as they were in the result."""
    made = Made()
    nodes = made.meta.graph_def.node
    nodes.add(name="read", op="ReadFile", input=["x"])
    next(node for node in nodes if node.name == "y").input.append("^read")
    body = made.meta.graph_def.library.function[1].node_def
    for op in ("WriteFile", "EagerPyFunc", "DataServiceDatasetV4", "Addons>Odd", "SaveV2", "PrintV2", "RestoreV2"):
        body.add(name=op.replace(">", "_"), op=op)
    body[-2].attr.append(attr("output_stream", s=b"file:///tmp/x"))
    body.add(name="again", op="WriteFile")
    body.add(name="debug", op="DebugIdentityV2", attr=[attr("debug_urls", list=places("grpc://host:1"))])
    body.add(name="print", op="PrintV2", attr=[attr("output_stream", s=b"stderr")])
    nodes.add(name="late", op="MatchingFiles", input=["x"])
    next(node for node in nodes if node.name == "save/all").input.append("^late")
    nodes.add(name="unused", op="TFRecordReaderV2")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    found = code(path)
    assert found.keys() == {
        "ReadFile", "WriteFile", "EagerPyFunc", "DataServiceDatasetV4", "Addons>Odd", "SaveV2", "PrintV2", "RestoreV2",
        "DebugIdentityV2", "MatchingFiles",
    }  # fmt: skip
    assert found["WriteFile"] == "the operation WriteFile in 2 places writes files"
    assert found["PrintV2"].endswith("writes files")
    assert found["DebugIdentityV2"].endswith("speaks to other machines")
    strip(path, target)
    assert code(target).keys() == found.keys() - {"MatchingFiles"}  # the saver is another one
    assert inspect(target).verdict == "clean"
    assert check([target]).exit_code == 0


def test_a_plain_saver_is_no_code(tmp_path: Path) -> None:
    """Every model's saver restores from files; ours too."""
    path = Made().write(tmp_path / "model")
    strip(path, str(tmp_path / "small"))
    assert not code(path)
    assert not code(str(tmp_path / "small"))


def test_layers_that_keras_makes_from_code(tmp_path: Path) -> None:
    """A Lambda, and a class of another module, each told once however often it is written down."""
    path = Made().write(tmp_path / "model")
    message = pb.KerasMetadata()
    layer = '{"class_name": "Lambda", "config": {"name": "odd"}}'
    other = '{"class_name": "Own", "module": "mine.layers", "config": {"name": "own"}}'
    root = f'{{"class_name": "Sequential", "config": {{"layers": [{layer}, {other}]}}}}'
    for number, metadata in enumerate((root, layer, other, "no json", "[]")):
        message.nodes.add(node_id=number, node_path=f"root.{number}", metadata=metadata)
    Path(path, saved_model.KERAS).write_bytes(message.SerializeToString())
    found = code(path)
    assert found.keys() == {"odd", "own"}
    assert "Python code that is stored" in found["odd"]
    assert "mine.layers" in found["own"]


def test_debug_information_in_the_graph_goes(tmp_path: Path) -> None:
    """GraphDef's own, with the paths of source files; nothing else of the graph is touched by that."""
    made = Made()
    made.meta.graph_def.debug_info = b"\n\x11/home/me/train.py"
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert ("TFS401", "saved_model.pb") in [(found.rule, found.subject) for found in inspect(path).findings]
    strip(path, target)
    assert b"/home/me" not in Path(target, "saved_model.pb").read_bytes()
    assert rules(target) == []
    assert verify(path, target).equal


@pytest.mark.parametrize("local", ["/home/me/words.txt", "C:\\Users\\me\\words.txt"])
def test_the_path_that_an_asset_had_goes(tmp_path: Path, local: str) -> None:
    """A loader puts the copy's path there: the file's name says enough."""
    made = Made()
    made.meta.graph_def.node.append(strings("asset", [local]))
    made.meta.asset_file_def.add(tensor_info=pb.TensorInfo(name="asset:0"), filename="words.txt")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert ("TFS401", "asset") in [(found.rule, found.subject) for found in inspect(path).findings]
    strip(path, target)
    (value,) = [item.value.tensor for node in graph(target).graph_def.node if node.name == "asset"
                for item in node.attr if item.key == "value"]  # fmt: skip
    assert list(value.string_val) == [b"words.txt"]
    assert rules(target) == []
    assert verify(path, target).equal


def test_other_constants_keep_their_paths(tmp_path: Path) -> None:
    """A path that is no asset's is the model's own business."""
    made = Made()
    made.meta.graph_def.node.append(strings("there", ["/etc/hosts"]))
    next(node for node in made.meta.graph_def.node if node.name == "y").input.append("^there")
    path, target = made.write(tmp_path / "model"), str(tmp_path / "small")
    assert "TFS401" not in rules(path)
    strip(path, target)
    assert b"/etc/hosts" in Path(target, "saved_model.pb").read_bytes()


@pytest.mark.parametrize("profile", ["inference", "serving"])
def test_what_lies_in_the_directory(tmp_path: Path, profile: Any) -> None:
    """Assets and unknown files are copied to the byte, at any depth and if empty; what is left out is said."""
    path, target = Made().write(tmp_path / "model"), str(tmp_path / "small")
    stays = {
        "assets/words.txt": b"one\n", "assets/deep/er/a.bin": bytes(range(256)), "assets/empty": b"",
        "assets.extra/tf_serving_warmup_requests": b"\0\1", "README.md": b"# hello\n", "signature.json": b"{}",
    }  # fmt: skip
    goes = {"variables/variables.data-00007-of-00008": b"x", "saved_model.pbtxt": b"x", "variables/notes.txt": b"mine"}
    for name, content in {**stays, **goes}.items():
        os.makedirs(os.path.dirname(f"{path}/{name}"), exist_ok=True)
        Path(path, name).write_bytes(content)
    result = strip(path, target, profile=profile)
    found = files(target)
    assert {name: found.get(name) for name in stays} == stays
    assert not goes.keys() & found.keys()
    assert saved_model.FINGERPRINT not in found
    assert sorted(note.split()[2] for note in result.notes) == sorted(goes)
    assert verify(path, target).equal
    Path(target, "assets/deep/er/a.bin").write_bytes(b"other")
    assert not verify(path, target).equal
    os.remove(f"{target}/assets/deep/er/a.bin")
    assert not verify(path, target).equal


def test_check_reads_no_weight(tmp_path: Path) -> None:
    """What the data file holds is not looked at: here it is nothing, for gigabytes."""
    path = Made().write(tmp_path / "model")
    bundle = tensor_bundle.read(f"{path}/variables/variables")
    data = Path(f"{path}/variables/variables.data-00000-of-00001")
    kept = bundle.entries["_CHECKPOINTABLE_OBJECT_GRAPH"]
    content = data.read_bytes()[kept.offset : kept.offset + kept.size]
    with data.open("wb") as file:
        file.seek(kept.offset)
        file.write(content)
        file.truncate(8 << 30)
    assert rules(path) == ["TFS101", "TFS102"]
    assert check([path]).exit_code == 1


def test_a_function_that_is_not_there(tmp_path: Path) -> None:
    """Its near names are told."""
    path = Made(train=True).write(tmp_path / "model")
    with pytest.raises(UsageError, match=r"tarin names no function.*did you mean train"):
        strip(path, str(tmp_path / "small"), drop_functions=["tarin"])
    assert not (tmp_path / "small").exists()
