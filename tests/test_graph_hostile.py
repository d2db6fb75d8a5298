"""Graphs that are damaged, or made to harm: one sentence and exit 2, soon, in little memory, and nothing written."""

import os
import time
from pathlib import Path

import pytest
from graph_fixtures import ENDINGS, Graph, every_form, one
from hostile import assert_refused, in_child, judge, run
from test_graph_heads import ATTR, NODE, name, put

from tfstrip_core import cli
from tfstrip_core.codecs import graph_file, graph_text

ADAM = one("tf1.15", "adam_batchnorm")
ENOUGH = 1500 << 20  # bytes of addresses for a child


def node(text: str, op: str, *inputs: str) -> bytes:
    return put(1, name(text), put(2, op), *(put(3, item) for item in inputs), ATTR)


def nested(depth: int, inner: bytes = b"") -> bytes:
    """Return an attribute that is a list of functions with an attribute that is one, and so on."""
    for _ in range(depth):
        inner = put(5, name("f"), put(2, put(10, name("g"), inner.replace(b"\x2a", b"\x12", 1))))
    return inner


BAD: dict[str, tuple[bytes, str, str]] = {
    "two nodes of one name": (NODE + NODE, "refused", "two nodes the name 'x'"),
    "a node without a name": (NODE + put(1, put(2, "Add")), "refused", "the name ''"),
    "two attributes of one name": (put(1, name("x"), put(2, "Add"), ATTR, ATTR), "refused", "two attributes"),
    "a missing input": (NODE + node("y", "Neg", "z"), "unreadable", "lacks the node 'z'"),
    "a missing control input": (NODE + node("y", "Neg", "^z"), "unreadable", "lacks the node 'z'"),
    "two libraries": (NODE + 2 * put(2, put(1, put(1, name("f")))), "refused", "two libraries"),
    "two functions of one name": (NODE + put(2, 2 * put(1, put(1, name("f")))), "refused", "two functions"),
    "two graphs": (put(1, put(4, "t")) + put(2, NODE) * 2, "refused", "two graphs"),
    "two collections": (
        put(1, put(4, "t")) + put(2, NODE) + 2 * put(4, name("c"), put(2, put(1, name("x")))), "refused", "collections",
    ),
    "garbage behind": (NODE + b"\xff" * 90, "unreadable", ""),
    "a group": (NODE + b"\x0b" * 9, "unreadable", "damaged"),
    "a name that is no text": (NODE + put(1, put(1, b"\xff\xfe"), put(2, "Add")), "unreadable", "damaged"),
    "a constant without a value": (NODE + put(1, name("c"), put(2, "Const"), ATTR), "unreadable", "has no value"),
    "deep nesting": (put(1, name("x"), put(2, "Add"), ATTR, nested(4000)), "unreadable", "damaged"),
    "a text: two nodes": (b'node { name: "x" op: "A" }' * 2, "refused", "two nodes the name 'x'"),
    "a text: a missing input": (b'node { name: "x" op: "A" input: "y" }', "unreadable", "lacks the node 'y'"),
    "a text: cut off": (b'node { name: "x" op: "A" attr { key: "T" value { typ', "unreadable", "damaged in line 1"),
    "a text: an open string": (b'node { name: "x" op: "A"\n\n device: "a', "unreadable", "damaged in line 3"),
    "a text: an unknown type": (
        b'node { name: "x" op: "A" attr { key: "T" value { type: DT_NO } } }', "unreadable", "damaged",
    ),
    "a text: deep nesting": (
        b'node { name: "x" op: "A" more ' + b"{ a " * 900 + b"{" + b"}" * 902, "refused", "nested over 100 deep",
    ),
    "a text: two names": (b'node { name: "x" op: "A" name: "y" }', "unreadable", "damaged"),
    "a text: a number for a name": (b'node { name: "x" op: "A" input: 5 }', "unreadable", "damaged"),
    "a text: no end": (b'node { name: "x" op: "A" ', "unreadable", "damaged"),
    "a text: zeros behind": (b'node { name: "x" op: "A" }' + bytes(600), "unreadable", "damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", BAD)
def test_a_bad_graph_is_one_sentence(what: str, tmp_path: Path, capsys) -> None:
    """It says what is wrong with which file, by every command, and nothing is written."""
    content, verdict, words = BAD[what]
    path = tmp_path / "bad.pb"
    path.write_bytes(content)
    assert words in assert_refused(capsys, str(path), verdict)


@pytest.mark.parametrize("ending", [".pb", ".meta"])
def test_a_cut_graph_is_unreadable_or_says_less(ending: str, tmp_path: Path, capsys) -> None:
    """Wherever a copy broke off: never a traceback. Between two nodes nothing shows that there were more."""
    content = Path(ADAM.path(ending)).read_bytes()
    path = tmp_path / f"cut{ending}"
    whole = 0
    for size in range(300, len(content) - 1, len(content) // 60):
        path.write_bytes(content[:size])
        code, model = judge(capsys, str(path))
        assert model["verdict"] in ("unreadable", "not-a-model", "residue", "clean"), model
        whole += model["verdict"] in ("residue", "clean")
        assert code == (2 if model["verdict"] == "unreadable" else int(model["verdict"] == "residue"))
    assert whole < 5


@every_form
def test_no_flipped_byte_ends_in_a_traceback(ending: str, tmp_path: Path, capsys) -> None:
    """Whatever a byte says, the answer is a verdict; and where strip says that it is done, verify agrees."""
    content = Path(ADAM.path(ending)).read_bytes()
    path, result = tmp_path / f"x{ending}", str(tmp_path / "result")
    for at in range(11, len(content), len(content) // 20):
        path.write_bytes(content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :])
        code, _, err = run(capsys, "strip", str(path), "-o", result, "--force", *ADAM.named)
        assert code in (0, 2)
        assert "report this" not in err
        assert len(err.splitlines()) == 1 or code == 0
        if code == 0:
            assert run(capsys, "verify", str(path), result)[0] == 0


def ring(count: int) -> bytes:
    return b"".join(node(f"n{at}", "Neg", f"n{(at + 1) % count}") for at in range(count))


def chain(count: int) -> bytes:
    return NODE + b"".join(node(f"n{at}", "Neg", f"n{at - 1}" if at else "x") for at in range(count))


def test_cycles_end(tmp_path: Path, capsys) -> None:
    """A ring has no end to begin with, and is gone around once."""
    path = tmp_path / "ring.pb"
    path.write_bytes(ring(3000))
    assert judge(capsys, str(path))[1]["verdict"] == "clean"
    assert run(capsys, "strip", str(path), "-o", str(tmp_path / "out"), "--output-names", "n7")[0] == 0
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def functions(count: int) -> bytes:
    """Return a graph of functions that each call the next one twice, and the last one the first."""

    def calls(at: int) -> bytes:
        other = f"f{(at + 1) % count}"
        return put(1, put(1, name(f"f{at}")), put(3, name("a"), put(2, other)), put(3, name("b"), put(2, other)))

    return node("call", "f0") + put(2, *(calls(at) for at in range(count)))


def test_functions_that_call_each_other_end(tmp_path: Path, capsys) -> None:
    """Twice each, that would be a number of calls without end."""
    path = tmp_path / "calls.pb"
    path.write_bytes(functions(200))
    assert judge(capsys, str(path))[1]["verdict"] == "clean"


def test_a_long_graph_is_read_in_time(tmp_path: Path) -> None:
    """A hundred thousand nodes, each behind the other, are more than any model has."""
    path = str(tmp_path / "long.pb")
    Path(path).write_bytes(chain(100_000))
    start = time.monotonic()
    ((code, _, err),) = in_child([["check", path]], memory=ENOUGH)
    assert (code, err) == (0, "")
    assert time.monotonic() - start < 30


def bombs(count: int) -> dict[str, bytes]:
    text = b'node { name: "x" op: "A" '
    return {
        "empty nodes": NODE + b"\n\0" * count,
        "inputs": NODE + put(1, name("y"), put(2, "A"), b"\x1a\0" * count),
        "empty functions": NODE + put(2, b"\n\0" * count),
        "a text of keys": text + b"}" + b"a:1 " * count,
        "a text of lists": text + b"input: [" + b'"",' * count + b'""] }',
        "a text of strings": text + b"device: " + b'""' * count + b" }",
    }


@pytest.mark.parametrize("what", bombs(0))
def test_a_bomb_is_refused(what: str, tmp_path: Path, monkeypatch, capsys) -> None:
    """A part of two bytes in a file is fifty in memory: they are counted before that."""
    monkeypatch.setattr(graph_file, "MAX_PARTS", 9_000)
    monkeypatch.setattr(graph_text, "MAX_PARTS", 9_000)
    path = tmp_path / "bomb.pb"
    path.write_bytes(bombs(10_000)[what])
    assert "over 9,000 parts" in assert_refused(capsys, str(path))


def test_a_real_bomb_costs_little(tmp_path: Path) -> None:
    """What is refused is refused before it has filled memory, and in seconds."""
    path = str(tmp_path / "bomb.pb")
    Path(path).write_bytes(bombs(9_000_000)["inputs"])
    start = time.monotonic()
    ((code, _, err),) = in_child([["check", path]], memory=ENOUGH)
    assert (code, "over 2,000,000 parts" in err, len(err.splitlines())) == (2, True, 1)
    assert time.monotonic() - start < 60


def test_a_huge_text_costs_its_size(tmp_path: Path) -> None:
    """A string of 60 MB with an escape for each byte is no work, and no memory, for each of them."""
    path = str(tmp_path / "huge.pbtxt")
    value = (
        b'attr { key: "value" value { tensor { dtype: DT_FLOAT tensor_shape { dim { size: 3750000 } } tensor_content: "'
    )
    Path(path).write_bytes(b'node { name: "w" op: "Const" ' + value + b"\\000" * 15_000_000 + b'" } } } }')
    start = time.monotonic()
    ((code, out, _),) = in_child([["check", "--json", path]], memory=ENOUGH)
    assert (code, '"tensor_bytes": 15000000' in out) == (0, True)
    assert time.monotonic() - start < 20


def test_a_large_frozen_graph_costs_little(tmp_path: Path) -> None:
    """Constants are passed over, and copied in blocks: less memory than one of them has bytes."""
    path, target = str(tmp_path / "large.pb"), str(tmp_path / "small.pb")
    size = 1 << 30
    with open(path, "wb") as file:
        file.write(NODE + constant("w", size))
        file.truncate(file.tell() + size)
        file.seek(0, os.SEEK_END)
        file.write(node("y", "Mul", "x", "w") + node("loss", "Neg", "y"))
    calls = [["check", "--json", path], ["strip", path, "-o", target, "--output-names", "y"]]
    results = in_child(calls, memory=900 << 20)
    assert [code for code, _, _ in results] == [0, 0], results
    assert f'"tensor_bytes": {size}' in results[0][1]
    assert os.path.getsize(target) < os.path.getsize(path)


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def constant(text: str, size: int) -> bytes:
    """Return a node with a constant of floats up to where the `size` bytes of its content follow."""
    tensor = b"\x08\x01" + put(2, put(2, b"\x08" + varint(size // 4))) + b"\x22" + varint(size)
    value = b"\x42" + varint(len(tensor) + size) + tensor
    entry = name("value") + b"\x12" + varint(len(value) + size) + value
    attr = ATTR + b"\x2a" + varint(len(entry) + size) + entry
    whole = name(text) + put(2, "Const") + attr
    return b"\n" + varint(len(whole) + size) + whole


@pytest.mark.parametrize("graph", [ADAM], ids=["adam"])
def test_a_file_that_is_too_large_is_refused(graph: Graph, tmp_path: Path, monkeypatch, capsys) -> None:
    """Nothing reads more than two gigabytes of one message, and of text no more than fits memory."""
    for ending in ENDINGS:
        path = graph.copy(tmp_path, ending)
        monkeypatch.setattr(graph_file, "MAX_BYTES" if ending != ".pbtxt" else "MAX_TEXT", 1000)
        code, model = judge(capsys, path)
        assert (code, model["verdict"]) == ((0, "unsupported") if ending == ".pbtxt" else (2, "refused"))
        os.remove(path)
        monkeypatch.undo()


def test_a_graph_that_is_gone_while_it_is_read_is_one_sentence(tmp_path: Path, capsys, monkeypatch) -> None:
    """A file that shrinks under the reader ends before what its own lengths say."""
    path = ADAM.copy(tmp_path, ".pb")
    real = graph_file._Reader.result

    def cut(self: graph_file._Reader) -> graph_file.GraphFile:
        os.truncate(path, 4000)
        return real(self)

    monkeypatch.setattr(graph_file._Reader, "result", cut)
    code = cli.main(["check", path])
    said = capsys.readouterr()
    assert (code, "cut off" in said.err) == (2, True)
