"""What fills what the outputs read, though they do not depend on it: initial values, queues, tables, iterators."""

from pathlib import Path

import pytest
from hostile import run
from test_graph_heads import name, put
from test_graph_hostile import node

import tfstrip_core
from tfstrip_core.codecs import graph_file
from tfstrip_core.errors import UsageError

X, C = node("x", "Placeholder"), put(1, name("c"), put(2, "Const"), put(5, name("value"), put(2, put(8, b"\x08\x01"))))
APPLY = node("train", "ApplyGradientDescent", "w", "c", "c")


def shared(text: str, op: str, said: str) -> bytes:
    return put(1, name(text), put(2, op), put(5, name("shared_name"), put(2, put(2, said))))


def left(tmp_path: Path, *parts: bytes) -> set[str]:
    """Return the nodes that a strip for y leaves."""
    path, target = tmp_path / "graph.pb", tmp_path / "small.pb"
    path.write_bytes(b"".join(parts))
    tfstrip_core.strip(str(path), str(target), output_names=["y"])
    assert tfstrip_core.verify(str(path), str(target)).equal
    return {found.name for found in graph_file.read(str(target)).meta.graph_def.node}


def test_a_variable_keeps_its_first_value_and_not_its_updates(tmp_path: Path) -> None:
    """The value in the file may be the only one that there is; what training or the old value makes of it is none."""
    graph = [
        X, C, node("w", "VariableV2"), node("w/Assign", "Assign", "w", "c"), node("r", "Identity", "w"),
        node("decay", "Mul", "r", "c"), node("w/Decay", "Assign", "w", "decay"), APPLY,
        node("after", "Assign", "w", "c", "^train"), node("fed", "Assign", "w", "x"),
        node("init", "NoOp", "^w/Assign"), node("y", "MatMul", "x", "r"),
    ]  # fmt: skip
    assert left(tmp_path, *graph) == {"x", "c", "w", "w/Assign", "r", "init", "y"}


def test_a_variable_that_is_only_fed_keeps_how(tmp_path: Path) -> None:
    """An initial value that is a placeholder is how the weights come into the graph."""
    graph = [
        X, C, node("given", "Placeholder"), node("w", "VariableV2"), node("w/Assign", "Assign", "w", "given"),
        APPLY, node("y", "MatMul", "x", "w"),
    ]  # fmt: skip
    assert left(tmp_path, *graph) == {"x", "given", "w", "w/Assign", "y"}


@pytest.mark.parametrize(
    ("holder", "fill", "read"),
    [
        ("HashTableV2", "LookupTableImportV2", "LookupTableFindV2"),
        ("MutableHashTableV2", "LookupTableInsertV2", "LookupTableFindV2"),
        ("FIFOQueueV2", "QueueEnqueueV2", "QueueDequeueV2"),
        ("IteratorV2", "MakeIterator", "IteratorGetNext"),
        ("StackV2", "StackPushV2", "StackPopV2"),
    ],
)
def test_what_is_filled_through_another_handle_is_kept(holder: str, fill: str, read: str, tmp_path: Path) -> None:
    """Two handles of one name are one thing, wherever a handle is handed on; another name is another."""
    graph = [
        X, C, node("w", "VariableV2"), APPLY,
        shared("one", holder, "T"), shared("two", holder, "T"), shared("other", holder, "U"),
        node("on", "Identity", "one"), node("fill", fill, "on", "c"), node("no", fill, "other", "c"),
        node("late", fill, "two", "c", "^train"), node("r", read, "two", "x"), node("y", "Mul", "r", "x"),
    ]  # fmt: skip
    assert left(tmp_path, *graph) == {"x", "c", "one", "two", "on", "fill", "r", "y"}


def test_what_only_training_fills_stays_with_it(tmp_path: Path) -> None:
    """Without it the output would have nothing to read: nothing that is not proven useless is removed."""
    graph = [
        X, C, node("w", "VariableV2"), APPLY, node("loss", "Neg", "x"), shared("q", "FIFOQueueV2", ""),
        node("fill", "QueueEnqueueV2", "q", "c", "^train"), node("y", "QueueDequeueV2", "q"),
    ]  # fmt: skip
    assert left(tmp_path, *graph) == {"c", "w", "train", "q", "fill", "y"}


def test_a_stage_has_no_handle(tmp_path: Path) -> None:
    """What is staged under a name is what is taken from under it."""
    graph = [
        X, C, node("w", "VariableV2"), APPLY, shared("put", "Stage", "S"), shared("no", "Stage", "R"),
        shared("y", "Unstage", "S"),
    ]  # fmt: skip
    assert left(tmp_path, *graph) == {"put", "y"}


def test_one_bit_of_a_large_value_is_seen_in_any_operation(tmp_path: Path) -> None:
    """Whatever has a tensor as its value is compared whole: its type, its version, its field's mark, its bytes."""
    tensor = b"\x08\x01" + put(2, put(2, b"\x08\x80\x80\x02")) + b"\x18\x00" + put(4, b"\x00" * (32768 * 4))
    for op in ("HostConst", "Const"):
        attr = put(5, name("value"), put(2, put(8, tensor)))
        whole = X + put(1, name("w"), put(2, op), attr) + node("y", "Mul", "x", "w")
        first, other = tmp_path / f"{op}.pb", tmp_path / f"{op}_other.pb"
        first.write_bytes(whole)
        assert tfstrip_core.verify(str(first), str(first)).equal
        at = whole.index(b"\x18\x00\x22")
        for place, value in ((at + 1, 7), (at + 2, 0x6A), (at + 5000, 1)):
            changed = bytearray(whole)
            changed[place] = value
            other.write_bytes(changed)
            assert not tfstrip_core.verify(str(first), str(other)).equal, (op, place)


def test_a_group_that_is_gone_is_told(tmp_path: Path, capsys) -> None:
    """Who ran it has to run what is left of it."""
    path = tmp_path / "graph.pb"
    graph = [
        X, C, node("w", "VariableV2"), node("w/Assign", "Assign", "w", "c"), APPLY, node("m", "VariableV2"),
        node("m/Assign", "Assign", "m", "c"), node("init", "NoOp", "^w/Assign", "^m/Assign"),
        node("y", "Mul", "x", "w"),
    ]  # fmt: skip
    path.write_bytes(b"".join(graph))
    code, _, err = run(capsys, "strip", str(path), "-o", str(tmp_path / "small.pb"), "--output-names", "y")
    assert (code, "init initialized what is gone too, and went: run w/Assign\n" in err) == (0, True)


def test_an_input_is_no_output(tmp_path: Path) -> None:
    """A graph of nothing but what it is given is no model."""
    path = tmp_path / "graph.pb"
    path.write_bytes(X + C + node("w", "VariableV2") + APPLY + node("y", "Mul", "x", "w"))
    with pytest.raises(UsageError, match="x is an input"):
        tfstrip_core.strip(str(path), str(tmp_path / "small.pb"), output_names=["x"])
    assert not (tmp_path / "small.pb").exists()
    (tmp_path / "inputs.pb").write_bytes(X)
    assert not tfstrip_core.verify(str(path), str(tmp_path / "inputs.pb")).equal


def test_a_list_of_attributes_is_one_sentence(tmp_path: Path, capsys) -> None:
    """Text format allows it, and no framework writes it."""
    path = tmp_path / "list.pbtxt"
    dtype, shape = '{ key: "dtype" value { type: DT_FLOAT } }', '{ key: "shape" value { shape { } } }'
    path.write_text('node { name: "x" op: "Placeholder" attr [ ' + f"{dtype}, {shape} ] }}")
    code, _, err = run(capsys, "verify", str(path), str(path))
    assert (code, "lists of blocks" in err, len(err.splitlines())) == (2, True, 1)


def test_a_separated_place_goes_with_its_separator(tmp_path: Path) -> None:
    """A semicolon that nothing precedes makes a text unreadable."""
    path, target = tmp_path / "semi.pbtxt", tmp_path / "small.pbtxt"
    place = 'attr { key: "_class" value { list { s: "loc:@z" } } };'
    path.write_text(
        'node { name: "x"; op: "Placeholder"; };\n'
        f'node {{ name: "y"; op: "Neg"; input: "x"; {place} }};\nnode {{ name: "z" op: "Neg" input: "y" }}\n'
    )
    tfstrip_core.strip(str(path), str(target), output_names=["y"])
    assert "_class" not in target.read_text()
    assert tfstrip_core.verify(str(path), str(target)).equal
