"""Checkpoints of TensorFlow's first version, one table with the tensors in it: judged and stripped as others are."""

import io
import json
import os
import shutil
import struct
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from checkpoint_fixtures import ALL, Checkpoint, one
from checkpoints import REAL, footer, simple, stored, table, varint
from hostile import assert_one_sentence, judge, listing, run

from tfstrip_core import containers, hook, journal
from tfstrip_core.codecs import meta_graph, meta_graph_write, sstable, sstable_records, v1_table
from tfstrip_core.containers.checkpoints import checkpoint_v1
from tfstrip_core.errors import Refused, TfstripError, Unreadable, Unsupported
from tfstrip_core.inventory import Plan
from tfstrip_core.release import artifacts

FIRST = [checkpoint for checkpoint in ALL if checkpoint.kind == "v1"]
WITH_META = [checkpoint for checkpoint in FIRST if checkpoint.has_meta]
every = pytest.mark.parametrize("checkpoint", FIRST, ids=lambda checkpoint: checkpoint.id)
with_meta = pytest.mark.parametrize("checkpoint", WITH_META, ids=lambda checkpoint: checkpoint.id)
FLOAT, DOUBLE, INT32, UINT8, STRING, INT64, BOOL, HALF, VARIANT = 1, 2, 3, 4, 7, 9, 10, 19, 21
Extents = Sequence[tuple[int, int]]


def copied(checkpoint: Checkpoint, folder: Path) -> str:
    """A copy of the checkpoint with what lies beside it; its path."""
    shutil.copytree(checkpoint.folder, folder)
    return str(folder / os.path.basename(checkpoint.prefix))


def values(path: str) -> dict[str, tuple[str, bytes]]:
    with checkpoint_v1.contents(path) as parts:
        return {name: (part.kind, b"".join(part.blocks())) for (_, name), part in parts.items()}


# -- what TensorFlow wrote


@every
def test_roles_are_those_of_the_live_model(checkpoint: Checkpoint) -> None:
    """Every name, type, shape, size and role as the writer's own objects had them."""
    found = checkpoint_v1.inventory(checkpoint.prefix)
    assert (found.format, found.verdict, found.writer) == ("tf-checkpoint-v1", "residue", "tf.train.Saver")
    assert {(t.name, t.dtype, t.shape, t.bytes, t.role) for t in found.tensors} == {
        (key.name, key.dtype, key.shape, key.bytes, key.role) for key in checkpoint.keys
    }
    assert found.residue_bytes == checkpoint.bytes_of("optimizer")
    assert found.bytes == sum(path.stat().st_size for path in checkpoint.files if path.name != "checkpoint")


@every
def test_stripped_beside(checkpoint: Checkpoint, tmp_path: Path, capsys) -> None:
    """The result has the kept tensors' bytes, verifies, is clean, and a second strip is a copy."""
    target, again = str(tmp_path / "out"), str(tmp_path / "again")
    before = listing(str(checkpoint.folder))
    code, out, err = run(capsys, "strip", checkpoint.prefix, "-o", target, "--json")
    assert code == 0, err
    (model,) = json.loads(out)["models"]
    assert {item["name"] for item in model["removed"]} == checkpoint.of_role("optimizer")
    assert listing(str(checkpoint.folder)) == before
    old, new = values(checkpoint.prefix), values(target)
    assert new == {name: old[name] for name in checkpoint.of_role("weight", "counter")}
    assert os.path.lexists(f"{target}.meta") == checkpoint.has_meta
    assert run(capsys, "check", target)[0] == 0
    assert run(capsys, "verify", checkpoint.prefix, target)[0] == 0
    assert run(capsys, "verify", target, checkpoint.prefix)[0] == 1
    assert run(capsys, "strip", target, "-o", again)[0] == 0
    for ending in checkpoint_v1.endings(target):
        assert Path(again + ending).read_bytes() == Path(target + ending).read_bytes()
    assert (tmp_path / "checkpoint").read_text().count('"out"') == 2


@every
def test_stripped_in_place(checkpoint: Checkpoint, tmp_path: Path, capsys) -> None:
    """The same bytes as beside, nothing left over, and a second run touches nothing."""
    target = str(tmp_path / "out")
    assert run(capsys, "strip", checkpoint.prefix, "-o", target)[0] == 0
    path = copied(checkpoint, tmp_path / "copy")
    names = set(os.listdir(tmp_path / "copy"))
    os.chmod(path, 0o640)
    assert run(capsys, "strip", path, "--in-place")[0] == 0
    assert set(os.listdir(tmp_path / "copy")) == names
    assert os.stat(path).st_mode & 0o777 == 0o640
    for ending in checkpoint_v1.endings(path):
        assert Path(path + ending).read_bytes() == Path(target + ending).read_bytes()
    stamp = os.stat(path)
    assert run(capsys, "strip", path, "--in-place")[0] == 0
    assert os.stat(path) == stamp


@every
def test_an_unchanged_rewrite_is_byte_for_byte_what_it_was(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Without anything to drop the writer gives what TensorFlow wrote, the .meta included."""
    assert checkpoint_v1.rewrite(checkpoint.prefix, Plan(), str(tmp_path / "out")) == []
    for ending in checkpoint_v1.endings(checkpoint.prefix):
        assert (tmp_path / f"out{ending}").read_bytes() == Path(checkpoint.prefix + ending).read_bytes()


@with_meta
def test_the_graph_beside_asks_for_what_is_left(checkpoint: Checkpoint, tmp_path: Path, capsys) -> None:
    target = str(tmp_path / "out")
    code, _, err = run(capsys, "strip", checkpoint.prefix, "-o", target)
    assert code == 0
    assert "import_meta_graph restores what is left" in err
    assert set(meta_graph.read(f"{target}.meta").saved) == checkpoint.of_role("weight", "counter")


@with_meta
def test_a_graph_that_cannot_be_rewritten_is_left_out(checkpoint: Checkpoint, tmp_path: Path, capsys, monkeypatch):
    """In place its old one goes with the old checkpoint, or it would ask for what is gone."""

    def without(*args: object) -> bytes:
        raise Unsupported("it is odd", "leave it")

    monkeypatch.setattr(meta_graph_write, "without", without)
    path = copied(checkpoint, tmp_path / "copy")
    code, _, err = run(capsys, "strip", path, "--in-place")
    assert code == 0
    assert "its .meta file is left out" in err
    assert sorted(os.listdir(tmp_path / "copy")) == ["checkpoint", os.path.basename(path)]
    assert judge(capsys, path)[1]["verdict"] == "clean"


@with_meta
def test_a_crash_between_the_two_files_is_finished_by_the_next_run(checkpoint, tmp_path, capsys) -> None:
    """The journal says what is to happen, and the next run on the checkpoint completes it."""
    target = str(tmp_path / "out")
    assert run(capsys, "strip", checkpoint.prefix, "-o", target)[0] == 0
    path = copied(checkpoint, tmp_path / "copy")
    code = (
        "import os, sys\n"
        "from tfstrip_core import journal, strip\n"
        "replace, moved = os.replace, []\n"
        "def once(source, place):\n"
        "    if os.path.basename(source).startswith('result') and moved:\n"
        "        os.kill(os.getpid(), 9)\n"
        "    moved.append(place)\n"
        "    replace(source, place)\n"
        "journal.os.replace = once\n"
        f"strip({path!r}, in_place=True)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    assert Path(path).read_bytes() == Path(checkpoint.prefix).read_bytes()
    assert Path(f"{path}.meta").read_bytes() == Path(f"{target}.meta").read_bytes()
    assert run(capsys, "strip", path, "--in-place")[0] == 0
    assert sorted(os.listdir(tmp_path / "copy")) == ["checkpoint", "model", "model.meta"]
    assert Path(path).read_bytes() == Path(target).read_bytes()


@pytest.mark.parametrize(
    ("moves", "removes", "fine"),
    [
        (["", ".meta"], [], True), ([""], [".meta"], True), ([".index", ".meta"], [], True),
        ([""], [], True), ([], [""], False), ([".meta"], [""], False), (["", ".index"], [], False),
        (["", ".meta"], [".index"], False), ([".meta", ""], [], True), (["", ".meta", "x"], [], False),
        ("", [], True), (["", ""], [".meta"], False),
    ],
)  # fmt: skip
def test_a_journal_moves_a_checkpoints_files_only(moves, removes, fine: bool) -> None:
    """A name without an ending may be any file's: it counts with .meta only, or alone for a SavedModel as a whole."""
    assert journal._are_plain("model", list(moves), removes) is fine


# -- found by its names


@with_meta
def test_every_name_leads_to_it_once(checkpoint: Checkpoint, tmp_path: Path, capsys) -> None:
    path = copied(checkpoint, tmp_path / "copy")
    folder = str(tmp_path / "copy")
    for words in ([folder], [f"{path}.meta"], [f"{folder}/checkpoint"], [path, f"{path}.meta", f"{folder}/checkpoint"]):
        code, out, _ = run(capsys, "check", "--json", *words)
        assert (code, [model["path"] for model in json.loads(out)["models"]]) == (1, [path])


def test_a_meta_file_of_something_else_is_no_checkpoint(tmp_path: Path, capsys) -> None:
    """Unity's .meta files lie beside anything."""
    (tmp_path / "cube.fbx").write_bytes(b"\0\0 no table")
    (tmp_path / "cube.fbx.meta").write_text("fileFormatVersion: 2\n")
    assert judge(capsys, str(tmp_path / "cube.fbx.meta"))[1]["verdict"] == "not-a-model"


def test_the_state_file_is_cleaned_in_place(tmp_path: Path, capsys) -> None:
    """Absolute paths of the author's machine go; a checkpoint of either version that is there stays."""
    path = copied(FIRST[0], tmp_path / "copy")
    state = tmp_path / "copy" / "checkpoint"
    state.write_text(
        'model_checkpoint_path: "/far/model"\nall_model_checkpoint_paths: "/far/gone"\n'
        'all_model_checkpoint_paths: "/far/model"\n'
    )
    _, model = judge(capsys, path)
    assert [f["rule"] for f in model["findings"] if f["rule"] == "TFS401"] == ["TFS401"]
    assert run(capsys, "strip", path, "--in-place")[0] == 0
    assert state.read_text() == 'model_checkpoint_path: "model"\nall_model_checkpoint_paths: "model"\n'
    assert judge(capsys, path)[1]["verdict"] == "clean"


@with_meta
def test_a_graph_that_is_a_pointer_says_so(checkpoint: Checkpoint, tmp_path: Path, capsys) -> None:
    path = copied(checkpoint, tmp_path / "copy")
    Path(f"{path}.meta").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n")
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (0, "pointer")
    assert "model.meta" in model["message"]


def test_one_of_several_files_is_not_handled(tmp_path: Path, capsys) -> None:
    """A sharded one: whether a name is a slot's depends on what the other files hold."""
    path = str(tmp_path / "model-00000-of-00002")
    shutil.copy(FIRST[0].prefix, path)
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (0, "unsupported")


# -- the other doors


@every
def test_the_hook_refuses_and_fixes_it(checkpoint: Checkpoint, tmp_path: Path, capsys) -> None:
    """Staged as all of its files, it is told of once."""
    path = copied(checkpoint, tmp_path / "copy")
    staged = [path + ending for ending in checkpoint_v1.endings(path)]
    assert hook.main(["check", *staged]) == 1
    assert capsys.readouterr().out.count("TFS101") == 1
    assert hook.main(["fix", *staged]) == 1
    assert hook.main(["check", *staged]) == 0


@every
def test_an_artifact_is_packed_where_it_is_several_files(checkpoint, tmp_path: Path, monkeypatch) -> None:
    copied(checkpoint, tmp_path / "copy")
    monkeypatch.chdir(tmp_path)
    inventories = artifacts.survey(artifacts.match(["copy/*"], "dist"), "dist")
    (made,) = artifacts.make(artifacts.plan(inventories), "dist").artifacts
    if checkpoint.has_meta:
        assert made.name == "model.tar.gz"
        with tarfile.open(f"dist/{made.name}") as archive:
            assert sorted(archive.getnames()) == ["checkpoint", "model", "model.meta"]
    else:
        assert made.name == "model"
        assert judge_of(tmp_path / "dist" / "model") == "clean"


def test_the_state_file_of_one_artifact_is_not_packed_with_the_next(tmp_path: Path, monkeypatch) -> None:
    """A checkpoint of one file is published without it; the next one's archive names what is in it."""
    for base in ("a", "b"):
        shutil.copy(one("tf1.15", "v1_no_meta").prefix, tmp_path / base)
        (tmp_path / "checkpoint").write_text('model_checkpoint_path: "a"\nall_model_checkpoint_paths: "b"\n')
    shutil.copy(one("tf1.15", "v1_adam").prefix, tmp_path / "b")
    shutil.copy(f"{one('tf1.15', 'v1_adam').prefix}.meta", tmp_path / "b.meta")
    monkeypatch.chdir(tmp_path)
    inventories = artifacts.survey(artifacts.match(["*"], "dist"), "dist")
    made = artifacts.make(artifacts.plan(inventories), "dist").artifacts
    assert [item.name for item in made] == ["a", "b.tar.gz"]
    with tarfile.open("dist/b.tar.gz") as archive:
        content = archive.extractfile("checkpoint")
        assert content is not None
        assert b'"b"' in (text := content.read())
        assert b'"a"' not in text


def judge_of(path: Path) -> str:
    return checkpoint_v1.inventory(str(path)).verdict


# -- tables made by hand


def put(number: int, content: bytes) -> bytes:
    """A field of bytes of a message."""
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def cut(extents: Extents) -> bytes:
    return b"".join(put(1, (number(1, a) if a else b"") + (number(2, n) if n >= 0 else b"")) for a, n in extents)


def meta(*tensors: tuple[bytes, int, Sequence[int], Sequence[Extents]], more: bytes = b"") -> tuple[bytes, bytes]:
    """The first record: name, type, shape and slices of each tensor."""
    content = b"".join(
        put(1, put(1, name) + put(2, b"".join(put(2, number(1, size)) for size in shape)) + number(3, dtype)
            + b"".join(put(4, cut(extents)) for extents in slices))
        for name, dtype, shape, slices in tensors
    )  # fmt: skip
    return b"", put(1, content + more)


def key(name: bytes, extents: Extents) -> bytes:
    """A slice's key; numbers up to 63."""
    coded = b"".join(bytes([0x80 + a, 0x80 + n if n >= 0 else 0x7F]) for a, n in extents)
    return b"\0" + name + b"\0\x01" + (bytes([1, len(extents)]) if extents else b"\0") + coded


def piece(name: bytes, extents: Extents, proto: bytes) -> tuple[bytes, bytes]:
    return key(name, extents), put(2, put(1, name) + put(2, cut(extents)) + put(3, proto))


FULL = (0, -1)
FOUR = struct.pack("<4f", 1, 2, 3, 4)
FLOATS = put(5, FOUR)
HONEST = [meta((b"a", FLOAT, [4], [[FULL]])), piece(b"a", [FULL], FLOATS)]


def made(folder: Path, items: Sequence[tuple[bytes, bytes]]) -> str:
    path = folder / "made"
    path.write_bytes(simple(items))
    return str(path)


def whole(path: str) -> list[tuple[str, str, tuple[int, ...], int]]:
    found = v1_table.read(path)
    v1_table.check_whole(found)
    return [(v.name, v.type_name, v.shape, v.bytes) for v in found.variables.values()]


@pytest.mark.parametrize(
    ("dtype", "shape", "proto", "size"),
    [
        (FLOAT, [2, 2], FLOATS, 16),
        (FLOAT, [], put(5, FOUR[:4]), 4),
        (FLOAT, [0, 3], b"", 0),
        (DOUBLE, [2], put(6, FOUR), 16),
        (INT32, [2], put(7, varint(300) + b"\xff" * 9 + b"\1"), 8),
        (UINT8, [2], put(7, b"\1\xff\1"), 2),
        (INT64, [], put(10, varint(1 << 60)), 8),
        (BOOL, [3], put(11, b"\0\1\1"), 3),
        (HALF, [2], put(13, varint(15360) + varint(0)), 4),
        (23, [1], put(17, varint(7)), 8),
        (STRING, [2], put(8, b"abc") + put(8, b""), 7),
    ],
)
def test_every_type_is_read_with_its_size(dtype: int, shape: list[int], proto: bytes, size: int, tmp_path: Path):
    extents = [FULL] * len(shape)
    path = made(tmp_path, [meta((b"a", dtype, shape, [extents])), piece(b"a", extents, proto)])
    assert whole(path) == [("a", v1_table.DTYPES[dtype][0], tuple(shape), size)]
    v1_table.write(v1_table.read(path), path + "2", ())
    assert values(path + "2") == values(path)


def test_a_variable_in_parts_is_one(tmp_path: Path) -> None:
    """Its slices go together, and stay as they were."""
    parts = [[(0, 2), FULL], [(2, 1), FULL]]
    items = [meta((b"a", FLOAT, [3, 2], parts), (b"b", FLOAT, [4], [[FULL]]))]
    items += [piece(b"a", parts[0], FLOATS), piece(b"a", parts[1], put(5, FOUR[:8])), piece(b"b", [FULL], FLOATS)]
    path = made(tmp_path, items)
    assert whole(path) == [("a", "float32", (3, 2), 24), ("b", "float32", (4,), 16)]
    assert values(path)["a"][1] == FOUR + FOUR[:8]
    v1_table.write(v1_table.read(path), f"{path}.a", {"a"})
    v1_table.write(v1_table.read(path), f"{path}.b", {"b"})
    assert whole(f"{path}.a") == [("b", "float32", (4,), 16)]
    assert values(f"{path}.b") == {"a": values(path)["a"]}
    with open(f"{path}.b", "rb") as file:
        assert list(sstable.entries(file)) == [meta((b"a", FLOAT, [3, 2], parts)), *items[1:3]]


def test_an_average_takes_the_weights_place(tmp_path: Path) -> None:
    """Its numbers under the weight's name and slice."""
    other = struct.pack("<4f", 5, 6, 7, 8)
    names = (b"w", b"w/ExponentialMovingAverage")
    items = [meta(*((name, FLOAT, [4], [[FULL]]) for name in names))]
    items += [piece(names[0], [FULL], FLOATS), piece(names[1], [FULL], put(5, other))]
    path = made(tmp_path, items)
    average = names[1].decode()
    v1_table.write(v1_table.read(path), f"{path}.new", {average}, {"w": average})
    with open(f"{path}.new", "rb") as file:
        assert list(sstable.entries(file)) == [meta((b"w", FLOAT, [4], [[FULL]])), piece(b"w", [FULL], put(5, other))]


def test_averages_are_applied_through_the_command(tmp_path: Path, capsys) -> None:
    names = (b"w", b"w/ExponentialMovingAverage")
    items = [meta(*((name, FLOAT, [4], [[FULL]]) for name in names)), piece(names[0], [FULL], FLOATS)]
    path = made(tmp_path, [*items, piece(names[1], [FULL], put(5, FOUR[::-1]))])
    target = str(tmp_path / "out")
    assert run(capsys, "strip", path, "-o", target)[0] == 2
    assert run(capsys, "strip", path, "-o", target, "--ema", "apply")[0] == 0
    assert values(target)["w"][1] == FOUR[::-1]
    assert run(capsys, "verify", path, target, "--ema", "apply")[0] == 0


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    name = b"a\xf7b"
    path = made(tmp_path, [meta((name, FLOAT, [4], [[FULL]])), piece(name, [FULL], FLOATS)])
    ((shown, *_),) = whole(path)
    assert shown.encode("utf-8", "surrogateescape") == name


A = (b"a", FLOAT, [4], [[FULL]])
LIES: dict[str, list[tuple[bytes, bytes]]] = {
    "two tensors of one name": [meta(A, A), HONEST[1]],
    "no name": [meta((b"", *A[1:])), piece(b"", [FULL], FLOATS)],
    "a tensor that is not described": [meta(A), HONEST[1], piece(b"b", [FULL], FLOATS)],
    "fewer numbers than the shape": [meta((b"a", FLOAT, [5], [[FULL]])), HONEST[1]],
    "more numbers than the shape": [meta((b"a", FLOAT, [3], [[FULL]])), HONEST[1]],
    "a petabyte of strings": [meta((b"a", STRING, [1 << 50], [[FULL]])), piece(b"a", [FULL], put(8, b"abc"))],
    "no numbers": [meta(A), piece(b"a", [FULL], b"")],
    "another type's numbers": [meta(A), piece(b"a", [FULL], put(6, FOUR))],
    "numbers with something behind": [meta(A), piece(b"a", [FULL], FLOATS + put(8, b"x"))],
    "too few varints": [meta((b"a", INT64, [2], [[FULL]])), piece(b"a", [FULL], put(10, b"\xff\1"))],
    "too many varints": [meta((b"a", INT64, [2], [[FULL]])), piece(b"a", [FULL], put(10, b"\1\1\1"))],
    "an unfinished varint": [meta((b"a", INT64, [2], [[FULL]])), piece(b"a", [FULL], put(10, b"\1\1\xff"))],
    "too few strings": [meta((b"a", STRING, [2], [[FULL]])), piece(b"a", [FULL], put(8, b"abcdef"))],
    "something among strings": [meta((b"a", STRING, [2], [[FULL]])), piece(b"a", [FULL], put(8, b"a") + put(5, b""))],
    "strings beyond the end": [meta((b"a", STRING, [1], [[FULL]])), piece(b"a", [FULL], varint(66) + b"\x09abc")],
    "another name in the record": [meta(A), (HONEST[1][0], piece(b"b", [FULL], FLOATS)[1])],
    "another slice in the record": [meta(A), (HONEST[1][0], piece(b"a", [(0, 4)], FLOATS)[1])],
    "a record of something else": [meta(A), (HONEST[1][0], put(1, b"abc"))],
    "a record with something behind": [meta(A), (HONEST[1][0], HONEST[1][1] + put(9, b""))],
    "a slice beyond the tensor": [meta((b"a", FLOAT, [4], [[(2, 4)]])), piece(b"a", [(2, 4)], FLOATS)],
    "a slice of another rank": [meta((b"a", FLOAT, [4], [[FULL, FULL]])), piece(b"a", [FULL, FULL], FLOATS)],
    "a slice twice": [meta((b"a", FLOAT, [4], [[FULL], [FULL]])), HONEST[1]],
    "slices over each other": [
        meta((b"a", FLOAT, [4], [[FULL], [(0, 4)]])), piece(b"a", [FULL], FLOATS), piece(b"a", [(0, 4)], FLOATS)
    ],
    "a negative size": [meta((b"a", FLOAT, [(1 << 64) - 4], [[FULL]])), HONEST[1]],
    "an unknown type": [meta((b"a", 99, [4], [[FULL]])), HONEST[1]],
    "variants": [meta((b"a", VARIANT, [4], [[FULL]])), HONEST[1]],
    "dimensions without end": [meta((b"a", FLOAT, [1] * 300, [[FULL] * 300])), HONEST[1]],
    "two descriptions": [(b"", meta(A)[1] * 2), HONEST[1]],
    "a description that is none": [(b"", put(2, b"")), HONEST[1]],
}  # fmt: skip


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_under_good_checksums_is_refused(lie: str, tmp_path: Path, capsys) -> None:
    path = made(tmp_path, sorted(LIES[lie]))
    with pytest.raises(Refused):
        whole(path)
    code, _, err = run(capsys, "strip", path, "-o", str(tmp_path / "out"))
    assert code == 2
    assert_one_sentence(err, path)
    assert os.listdir(tmp_path) == ["made"]


@pytest.mark.parametrize(
    ("items", "error"),
    [
        ([HONEST[1]], Unreadable),
        ([meta(A)], Unreadable),
        ([(b"", b"\x0a\xff")], Unreadable),
        ([(b"", put(1, put(1, b"\x0b"))), HONEST[1]], Unreadable),
        ([meta(A, more=put(2, b"\x0b")), HONEST[1]], Unreadable),
        ([meta(A, more=put(2, number(1, 1) + number(2, 2))), HONEST[1]], Unsupported),
        ([meta((b"a", FLOAT, [8], [[(0, 4)]])), piece(b"a", [(0, 4)], FLOATS)], Unsupported),
        ([meta((b"a", FLOAT, [4], []))], Unsupported),
    ],
)
def test_what_is_not_there_or_not_known_says_so(items, error, tmp_path: Path) -> None:
    with pytest.raises(error):
        v1_table.read(made(tmp_path, items))
    assert whole(made(tmp_path, [meta(A, more=put(2, number(1, 1))), HONEST[1]]))


def test_tables_that_deceive_are_refused(tmp_path: Path) -> None:
    """What sstable refuses in an index is refused here too, whose blocks are not read but sought through."""
    path = tmp_path / "made"
    entries = b"".join(b"\0" + varint(len(k)) + varint(len(v)) + k + v for k, v in HONEST)
    good = entries + struct.pack("<2I", 0, 1)
    assert good
    for content, limit in [
        (entries + struct.pack("<2I", 4, 1), b"\xff"),
        (entries + struct.pack("<3I", 0, 4, 2), b"\xff"),
        (entries + struct.pack("<2I", 0, 1000), b"\xff"),
        (entries + struct.pack("<2I", 0, 0), b"\xff"),
        (entries[:-1] + struct.pack("<2I", 0, 1), b"\xff"),
        (entries + entries + struct.pack("<2I", 0, 1), b"\xff"),
        (good, b"\0"),
        (b"abc", b"\xff"),
    ]:
        path.write_bytes(table([(limit, content)]))
        with pytest.raises((Refused, Unreadable)):
            v1_table.read(str(path))
    path.write_bytes(table([(b"\xff", good)]))
    assert whole(str(path))
    path.write_bytes(table([(b"\xff", good)], compression=1))
    with pytest.raises(Refused):
        v1_table.read(str(path))


def test_keys_and_entries_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = [(f"k{at:03}".encode() * 10, b"") for at in range(100)]
    for bound, value in (("MAX_ENTRIES", 99), ("MAX_TABLE", 3999)):
        assert len(list(sstable_records.records(io.BytesIO(simple(items))))) == 100
        with monkeypatch.context() as patch:
            patch.setattr(sstable_records, bound, value)
            with pytest.raises(Refused, match="too many or too long"):
                list(sstable_records.records(io.BytesIO(simple(items))))


def test_an_index_beyond_measure_is_not_read(tmp_path: Path) -> None:
    """A sparse file whose footer promises a terabyte of index."""
    path = tmp_path / "made"
    empty = stored(struct.pack("<2I", 0, 1))
    with path.open("wb") as file:
        file.write(empty)
        file.truncate(1 << 40)
        file.seek(0, os.SEEK_END)
        file.write(footer((0, 8), (len(empty), (1 << 40) - len(empty) - 5)))
    with pytest.raises(TfstripError):
        v1_table.read(str(path))


# -- damage


def outcome(path: str, act: Callable[[str], object]) -> str:
    """What the container makes of the file: the name of its error, which is one of ours, or ""."""
    try:
        act(path)
    except TfstripError as error:
        return type(error).__name__
    return ""


def test_cut_off_anywhere_it_is_unreadable(tmp_path: Path) -> None:
    data = Path(FIRST[0].prefix).read_bytes()
    path = tmp_path / "cut"
    for size in (*range(80), *range(80, len(data) - 80, 9), *range(len(data) - 80, len(data))):
        path.write_bytes(data[:size])
        assert outcome(str(path), checkpoint_v1.inventory) == "Unreadable", size


def test_every_flipped_bit_is_noticed(tmp_path: Path) -> None:
    """At the latest when all is read against the checksums, which every strip does first; and never as a lie."""
    path = tmp_path / "flipped"
    data = bytearray(Path(made(tmp_path, HONEST)).read_bytes())
    for place in range(len(data)):
        for bit in range(8):
            data[place] ^= 1 << bit
            path.write_bytes(data)
            data[place] ^= 1 << bit
            assert outcome(str(path), checkpoint_v1.check_whole) == "Unreadable", (place, bit)
            assert outcome(str(path), checkpoint_v1.inventory) == "Unreadable", (place, bit)


def test_damage_beyond_the_first_block_is_noticed(tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    """There an inventory reads no tensor; a strip reads them all before it writes."""
    monkeypatch.setattr(sstable_records, "SMALL", 0)
    path = tmp_path / "flipped"
    data = bytearray(Path(FIRST[0].prefix).read_bytes())
    seen = set()
    for place in range(0, len(data), 7):
        data[place] ^= 16
        path.write_bytes(data)
        data[place] ^= 16
        seen.add(outcome(str(path), checkpoint_v1.inventory))
        assert outcome(str(path), checkpoint_v1.check_whole) == "Unreadable", place
    assert seen == {"", "Unreadable"}
    data[-400] ^= 16
    data[data.index(b"net/d1/kernel\x12\x04\n\0") + 40] ^= 1
    path.write_bytes(data)
    code, _, err = run(capsys, "strip", str(path), "-o", str(tmp_path / "out"))
    assert (code, os.listdir(tmp_path)) == (2, ["flipped"])
    assert_one_sentence(err, str(path))


def test_verify_notices_another_value(tmp_path: Path, capsys) -> None:
    path, other = made(tmp_path, HONEST), tmp_path / "other"
    other.write_bytes(simple([HONEST[0], piece(b"a", [FULL], put(5, FOUR[::-1]))]))
    code, out, _ = run(capsys, "verify", path, str(other))
    assert code == 1
    assert "tensor a has other bytes" in out


# -- size


def test_a_large_tensor_costs_no_memory(tmp_path: Path) -> None:
    """Held, checked, and rewritten, with the memory of a few blocks; and an inventory reads next to nothing of it."""
    size = 48 << 20
    number = size // 4
    shape = put(2, put(2, varint(8) + varint(number)))
    first = put(1, put(1, put(1, b"w") + shape + b"\x18\1" + put(4, cut([FULL]))))
    inner = put(1, b"w") + put(2, cut([FULL])) + b"\x1a" + varint(size + 5) + b"\x2a" + varint(size)
    start = b"\x12" + varint(len(inner) + size) + inner
    path, target = tmp_path / "large", tmp_path / "out"
    block = bytes(range(256)) * 4096

    def parts():
        yield start
        for _ in range(size >> 20):
            yield block

    with path.open("wb") as out:
        items = [(b"", len(first), [first]), (key(b"w", [FULL]), len(start) + size, parts())]
        sstable.write_long(out, items)
    tracemalloc.start()
    found = v1_table.read(str(path))
    assert found.variables["w"].bytes == size
    v1_table.check_whole(found)
    v1_table.write(found, str(target), ())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 << 20
    assert target.read_bytes() == path.read_bytes()


def test_values_come_in_pieces_of_their_size() -> None:
    """A table of long values is the table of the same values at once; a value of another length is a bug of ours."""
    items = [(bytes([65 + at]), os.urandom(size)) for at, size in enumerate([3, 300_000, 0, 700_000, 5, 262_144])]
    plain, pieces = io.BytesIO(), io.BytesIO()
    sstable.write(plain, items)
    sstable.write_long(pieces, ((k, len(v), [v[at : at + 999] for at in range(0, len(v), 999)]) for k, v in items))
    assert pieces.getvalue() == plain.getvalue()
    assert list(sstable.entries(pieces)) == items
    with io.BytesIO(plain.getvalue()) as file:
        found = [
            (record.key, plain.getvalue()[record.offset :][: record.size]) for record in sstable_records.records(file)
        ]
    assert found == items
    with pytest.raises(ValueError, match="length"):
        sstable.write_long(io.BytesIO(), [(b"a", 3, [b"ab"])])


@pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")
def test_a_real_one_is_clean_and_rewritten_byte_for_byte(tmp_path: Path) -> None:
    """Nothing was trained with slots that its Saver saved; its graph's RMSProp is not in the file."""
    path = f"{REAL}/Mostafa-Samir__DNC-tensorflow/tasks/copy/checkpoints/model-series-2/model.ckpt"
    found = checkpoint_v1.inventory(path)
    assert (found.verdict, found.tensor_bytes, len(found.tensors)) == ("clean", 196336, 7)
    assert containers.recognise(path) == containers.TABLE
    assert checkpoint_v1.rewrite(path, Plan(), str(tmp_path / "out")) == []
    for ending in ("", ".meta"):
        assert (tmp_path / f"out{ending}").read_bytes() == Path(path + ending).read_bytes()
