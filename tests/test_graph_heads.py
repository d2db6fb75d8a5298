"""Which files are graphs: by how they begin, and none of the many others that are called .pb, .pbtxt or .meta."""

import timeit
from pathlib import Path

import pytest
from graph_fixtures import ALL, ENDINGS, FORMATS, one
from hostile import judge, run

from tfstrip_core import containers


def put(tag: int, *parts: bytes | str) -> bytes:
    """Return a field with a length: parts are texts or messages."""
    content = b"".join(part.encode() if isinstance(part, str) else part for part in parts)
    size, head = len(content), b""
    while size > 127:
        head, size = head + bytes([size & 127 | 128]), size >> 7
    return bytes([tag << 3 | 2]) + head + bytes([size]) + content


def name(text: str) -> bytes:
    return put(1, text)


ATTR = put(5, name("T"), put(2, b"\x30\x01"))
NODE = put(1, name("x"), put(2, "Placeholder"), ATTR)
ONNX_NODE = put(
    1, name("in"), put(2, "out"), put(3, "node"), put(4, "Conv"), put(5, name("alpha"), b"\x15abcd\xa0\x01\x01")
)
NOT = {
    "onnx model": b"\x08\x07" + put(2, "pytorch") + put(7, ONNX_NODE * 9),
    "onnx graph": ONNX_NODE * 9,
    "onnx graph whose nodes have no attributes": put(1, name("in"), put(2, "out"), put(3, "n"), put(4, "Relu")) * 40,
    "onnx tensor": b"\x08\x03\x08\x04\x10\x01" + put(9, bytes(48)) + put(8, "w"),
    "onnx packed tensor": put(1, b"\x0a\x04") + b"\x10\x01" + put(9, bytes(160)),
    "caffe2 net": name("predict") + put(2, put(1, "data"), put(2, "conv1"), put(3, ""), put(4, "Conv")) * 9,
    "caffe2 net of one name": name("Net") + put(2, "Conv") * 90,
    "caffe2 tensors": put(1, put(1, "w"), put(2, b"\x08\x02\x10\x01" + bytes(90))) * 3,
    "profile": put(1, b"\x08\x01\x10\x02") + put(2, b"\x0a\x01\x01\x12\x01\x05") * 90,
    "operations": put(1, name("Abort"), put(4, name("error_msg"), put(2, "string"))) * 30,
    "operations with arguments": put(1, name("Abs"), put(2, name("x"), put(4, "T")), put(3, name("y"))) * 30,
    "example": put(1, put(1, name("feature"), put(2, put(1, put(1, "value"))))) * 9,
    "sentences": put(1, name("<unk>"), b"\x15\0\0\0\0\x18\x02") * 90,
    "mindspore": put(1, name("conv.weight"), put(2, b"\x08\x40" + put(2, "Float32") + put(3, bytes(90)))) * 3,
    "mediapipe": put(1, name("limit"), put(2, "FlowLimiterCalculator"), put(3, "image"), put(4, "throttled")) * 9,
    "mediapipe with side packets": put(1, name("a"), put(2, "TfLite"), put(3, "i"), put(4, "o"), put(5, "model")) * 9,
    "paddle": put(1, b"\x08\x00\x10\x01" + put(3, name("feed"))) * 3,
    "saved model": b"\x08\x01" + put(2, put(1, put(4, "serve")), put(2, NODE * 9)),
    "functions": put(1, put(1, name("f"), put(2, name("x"))), put(3, name("n"), put(2, "Add"))) * 9,
    "a node without an attribute": put(1, name("x"), put(2, "Placeholder")),
    "cut names": b"\n\xff\x01\n\xff\x01" + b"a" * 600,
    "lines": b"\n" * 600,
    "text after a line": b"\nnode\nname\nop\n" * 60,
    "unity": b"fileFormatVersion: 2\nguid: 0123456789abcdef\nNativeFormatImporter:\n" * 9,
    "unity after a line": b"\nfileFormatVersion: 2\nguid: 0123\n" * 9,
    "label map": b'item {\n  name: "cat"\n  id: 1\n}\n' * 30,
    "pipeline": b"model {\n  ssd {\n    num_classes: 90\n  }\n}\ntrain_config {\n  batch_size: 24\n}\n" * 9,
    "text of a saved model": b'saved_model_schema_version: 1\nmeta_graphs {\n  graph_def {\n node {\n name: "x"' * 9,
    "text of a meta graph": b'meta_info_def {\n  stripped_op_list {\n    op {\n      name: "Add"\n' * 9,
    "text of onnx": b'node {\n  input: "x"\n  output: "y"\n  name: "n"\n  op_type: "Conv"\n}\n' * 9,
    "text of mediapipe": b'node {\n  calculator: "Pass"\n  input_stream: "in"\n}\n' * 9,
    "text of mediapipe with names": b'node {\n  name: "a"\n  calculator: "Pass"\n}\n' * 9,
    "text of caffe": b'name: "net"\nlayer {\n  name: "data"\n  type: "Input"\n}\n' * 9,
    "text of caffe2": b'name: "net"\nop {\n  input: "x"\n  type: "Conv"\n}\n' * 9,
    "dot": b"node [shape=box];\nnode { a -> b }\n" * 9,
    "checkpoints": b'model_checkpoint_path: "model.ckpt-1"\nall_model_checkpoint_paths: "model.ckpt-1"\n',
    "javascript": b'node { name: op, "x": 1 }\n' * 9,
    "javascript after a comment": b"# node\nnode.name = 'op';\n" * 9,
    "a word": b"node",
    "an open node": b'node { name: "x',
}  # fmt: skip


@pytest.mark.parametrize("what", NOT)
@pytest.mark.parametrize("file", ["file.pb", "file.pbtxt", "file.meta"])
def test_what_only_looks_like_a_graph_is_none(what: str, file: str, tmp_path: Path, capsys) -> None:
    """A hook that refuses other people's formats is one that is switched off."""
    path = tmp_path / file
    path.write_bytes(NOT[what])
    code, model = judge(capsys, str(path))
    assert (code, model["verdict"], model["format"]) == (0, "not-a-model", "")
    assert run(capsys, "check", str(tmp_path)) == (0, "no model found\n", "")


FOUND = {
    "one node": (NODE, "graph-def"),
    "first without an attribute": (put(1, name("init"), put(2, "NoOp")) + NODE, "graph-def"),
    "inputs and a device": (
        put(1, name("a/b"), put(2, "Add"), put(3, "x"), put(3, "^y"), put(4, "/cpu:0"), ATTR),
        "graph-def",
    ),
    "a large first node": (
        put(1, name("w"), put(2, "Const"), ATTR, put(5, name("value"), put(2, bytes(9000)))),
        "graph-def",
    ),
    "a function's operation": (put(1, name("f"), put(2, "__inference_f_12"), ATTR), "graph-def"),
    "a library's operation": (put(1, name("f"), put(2, "Addons>Op"), ATTR), "graph-def"),
    "a meta graph": (put(1, put(4, "train")) + put(2, NODE), "meta-graph"),
    "a meta graph with many operations": (put(1, put(2, bytes(9000))) + put(2, NODE), "meta-graph"),
    "a text": (b'node {\n  name: "x"\n  op: "Placeholder"\n}\n', "graph-def-text"),
    "a text in one line": (b"node:<op:'Add',name:'x'>", "graph-def-text"),
    "a text with comments": (b'# made by hand\n\nnode { # first\n name: "x" input: "y" op: "Neg" }', "graph-def-text"),
}


@pytest.mark.parametrize("what", FOUND)
def test_what_begins_as_a_graph_is_one(what: str, tmp_path: Path) -> None:
    """Whatever it is called, and however its first node is made."""
    content, kind = FOUND[what]
    for file in ("x", "x.pb", "saved.txt"):
        (tmp_path / file).write_bytes(content)
        assert containers.recognise(str(tmp_path / file)) == kind


def test_what_real_writers_wrote_is_recognised() -> None:
    """Graphs of TensorFlow 1.15 and 2.21, trained and frozen."""
    for graph in ALL:
        for ending in ENDINGS:
            assert containers.recognise(graph.path(ending)) == FORMATS[ending]
        assert containers.recognise(graph.path(".frozen.pb")) == "graph-def"


def test_no_prefix_of_a_graph_s_beginning_raises(tmp_path: Path) -> None:
    """A file may end anywhere; whoever looks at it must not."""
    path = tmp_path / "x"
    for ending in ENDINGS:
        content = Path(one("tf1.15", "adam_batchnorm").path(ending)).read_bytes()[:600]
        for size in range(0, 600, 7):
            path.write_bytes(content[:size])
            assert containers.recognise(str(path)) in ("", FORMATS[ending], containers.CUT_TABLE)


@pytest.mark.parametrize("what", ["onnx graph", "lines", "operations", "label map", "unity after a line", "cut names"])
def test_a_file_that_is_none_costs_next_to_nothing(what: str, tmp_path: Path) -> None:
    """The hook looks at every file of a commit: a tenth of a millisecond each."""
    path = tmp_path / "x.pb"
    path.write_bytes(NOT[what])
    containers.recognise(str(path))
    assert min(timeit.repeat(lambda: containers.recognise(str(path)), number=20, repeat=10)) / 20 < 1e-4
