"""Checkpoints read from their index and written by copying: bytes that stay the same, and lies that are refused."""

import contextlib
import csv
import os
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest
from checkpoints import REAL, Tensor, bundle, index, masked, real_indexes, simple, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from tfstrip_core.codecs import slice_keys, sstable, tensor_sums
from tfstrip_core.codecs import tensor_bundle as tb
from tfstrip_core.codecs import tensor_bundle_write as tw
from tfstrip_core.codecs.protos import bundle_pb2
from tfstrip_core.errors import Refused, Unreadable, Unsupported

needs_real = pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")
FLOAT, INT8 = 1, 6
Stored = dict[str, tuple[int, tuple[int, ...], bytes]]


def contents(found: tb.Bundle) -> Stored:
    """Every stored tensor's type, shape and bytes, read with its checksum."""
    with tb.opened(found) as data:
        return {
            part.key: (part.dtype, part.shape, b"".join(data.blocks(part)))
            for entry in found.entries.values()
            for part in entry.stored
        }


tensors = st.one_of(
    st.tuples(st.just(INT8), st.binary(max_size=50)).map(lambda item: (item[0], (len(item[1]),), item[1])),
    st.binary(min_size=4, max_size=4).map(lambda data: (FLOAT, (), data)),
    st.just((FLOAT, (3, 0, 2), b"")),
    st.binary(min_size=24, max_size=24).map(lambda data: (9, (1, 3), data)),
)
keys = st.text(min_size=1, max_size=6).map(lambda text: text.replace("\0", "0").encode())
bundles = st.dictionaries(keys, tensors, min_size=1, max_size=12)


@settings(deadline=None)
@given(bundles, st.integers(1, 3), st.data())
def test_what_stays_has_its_bytes(made: dict[bytes, Tensor], shards: int, data: st.DataObject) -> None:
    """Any bundle of any number of shards, any part of it dropped: the rest is there bit for bit, twice the same."""
    with tempfile.TemporaryDirectory() as folder:
        bundle(f"{folder}/a", made, shards)
        source = tb.read(f"{folder}/a")
        expected = {key.decode(): tensor for key, tensor in made.items()}
        assert contents(source) == expected
        kept = data.draw(st.sets(st.sampled_from(sorted(expected))))
        for name in ("b", "c"):
            plan = {key: source.entries[key] for key in (sorted(kept) if name == "b" else kept)}
            tw.write(source, f"{folder}/{name}", plan)
        result = tb.read(f"{folder}/b")
        assert contents(result) == {key: expected[key] for key in kept}
        assert result.shards == 1
        assert Path(result.files[0]) == Path(folder, "b.index")
        payload = Path(folder, "b.data-00000-of-00001").read_bytes()
        assert len(payload) == sum(len(expected[key][2]) for key in kept)
        assert Path(folder, "b.index").read_bytes() == Path(folder, "c.index").read_bytes()
        assert payload == Path(folder, "c.data-00000-of-00001").read_bytes()


THREE = {b"a": (INT8, (3,), b"123"), b"b": (INT8, (3,), b"456"), b"c": (INT8, (2,), b"78")}


@pytest.fixture
def three(tmp_path: Path) -> tb.Bundle:
    """A bundle of three small tensors in two shards."""
    bundle(tmp_path / "three", THREE, shards=2)
    return tb.read(str(tmp_path / "three"))


def test_a_key_takes_the_bytes_of_another(three: tb.Bundle, tmp_path: Path) -> None:
    """An average applied: the weight's key has the average's bytes and checksum, the average itself is gone."""
    tw.write(three, str(tmp_path / "out"), {"a": three.entries["b"], "new name": three.entries["c"]})
    result = tb.read(str(tmp_path / "out"))
    assert contents(result) == {"a": THREE[b"b"], "new name": THREE[b"c"]}


def test_a_key_never_takes_another_shape(three: tb.Bundle, tmp_path: Path) -> None:
    """A loader would restore garbage into the variable."""
    with pytest.raises(ValueError, match="another type or shape"):
        tw.write(three, str(tmp_path / "out"), {"a": three.entries["c"]})


def test_keys_that_no_tensor_can_have_are_not_written(three: tb.Bundle, tmp_path: Path) -> None:
    """The empty key is the header's, a zero begins a part's, and two spellings of one key's bytes are one key."""
    twice = {"é": three.entries["a"], "\udcc3\udca9": three.entries["b"]}
    for plan in ({"": three.entries["a"]}, {"\0a": three.entries["a"]}, twice):
        with pytest.raises(ValueError, match="no key"):
            tw.write(three, str(tmp_path / "out"), plan)


def test_nothing_is_overwritten(three: tb.Bundle, tmp_path: Path) -> None:
    """Writing onto a checkpoint that is there, the source itself above all, fails before a byte of it changes."""
    bundle(tmp_path / "one", THREE)
    before = (tmp_path / "one.data-00000-of-00001").read_bytes()
    with pytest.raises(FileExistsError):
        tw.write(three, str(tmp_path / "one"), three.entries)
    assert (tmp_path / "one.data-00000-of-00001").read_bytes() == before


def test_new_tensors_are_read_back(three: tb.Bundle, tmp_path: Path) -> None:
    """A string of any length and plain numbers, written anew, pass their own checksums."""
    for content in (b"", b"graph", bytes(300), b"x" * 3_000_000):
        prefix = str(tmp_path / str(len(content)))
        made = {"graph": tw.fresh_string(content), "n": tw.fresh(9, (2,), bytes(16)), "b": three.entries["b"]}
        tw.write(three, prefix, made)
        result = tb.read(prefix)
        tb.check_whole(result)
        with tb.opened(result) as data:
            assert data.string(result.entries["graph"], 4_000_000) == content
        assert (result.entries["n"].dtype, result.entries["n"].shape) == (9, (2,))
    with pytest.raises(ValueError, match="are no"):
        tw.fresh(9, (2,), bytes(15))


def test_only_a_single_string_of_bounded_size_is_read_whole(three: tb.Bundle, tmp_path: Path) -> None:
    """A checkpoint whose object graph is a gigabyte, or is no string, is refused and not loaded."""
    tw.write(three, str(tmp_path / "out"), {"graph": tw.fresh_string(bytes(2000)), "a": three.entries["a"]})
    result = tb.read(str(tmp_path / "out"))
    with tb.opened(result) as data:
        for key, limit in (("graph", 1999), ("a", 1999)):
            with pytest.raises(Refused):
                data.string(result.entries[key], limit)


def test_fields_that_are_not_known_survive(tmp_path: Path) -> None:
    """What a later TensorFlow adds to header and entries is still there after a rewrite."""
    unknown = b"\xa2\x06\x05later"
    header = bundle_pb2.Header(num_shards=1).SerializeToString() + unknown
    entries = bundle(tmp_path / "a", THREE, header=header)
    odd = {key: bundle_pb2.Entry.FromString(entry.SerializeToString() + unknown) for key, entry in entries.items()}
    index(tmp_path / "a", odd, header=header)
    source = tb.read(str(tmp_path / "a"))
    tw.write(source, str(tmp_path / "b"), {"c": source.entries["c"]})
    with (tmp_path / "b.index").open("rb") as file:
        assert all(unknown in value for _, value in sstable.entries(file))


def test_damage_is_found_while_copying(tmp_path: Path) -> None:
    """A flipped bit in a kept tensor stops the copy; in a dropped one it is not even read."""
    bundle(tmp_path / "a", THREE)
    path = tmp_path / "a.data-00000-of-00001"
    path.write_bytes(path.read_bytes().replace(b"456", b"457"))
    source = tb.read(str(tmp_path / "a"))
    with pytest.raises(Unreadable, match="'b' is damaged"):
        tw.write(source, str(tmp_path / "b"), source.entries)
    with pytest.raises(Unreadable, match="'b' is damaged"):
        tb.check_whole(source)
    tb.check_whole(source, [source.entries["a"]])
    tw.write(source, str(tmp_path / "c"), {"a": source.entries["a"]})


def test_a_missing_or_short_shard_is_named(tmp_path: Path) -> None:
    """The user learns which file to get, also where only one of several is gone."""
    bundle(tmp_path / "a", THREE, shards=2)
    path = tmp_path / "a.data-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Unreadable, match=r"a\.data-00001-of-00002 is cut off"):
        tb.read(str(tmp_path / "a"))
    path.unlink()
    with pytest.raises(Unreadable, match=r"a\.data-00001-of-00002 is missing"):
        tb.read(str(tmp_path / "a"))
    with pytest.raises(OSError, match=r"nothing\.index"):
        tb.read(str(tmp_path / "nothing"))


def test_a_shard_that_no_tensor_is_in_may_be_missing(tmp_path: Path) -> None:
    """TensorFlow opens the shards that it needs, and no other."""
    bundle(tmp_path / "a", THREE, shards=4)
    (tmp_path / "a.data-00003-of-00004").unlink()
    found = tb.read(str(tmp_path / "a"))
    assert len(contents(found)) == 3
    assert [os.path.basename(path) for path in found.files] == [
        "a.index",
        *(f"a.data-0000{n}-of-00004" for n in range(3)),
    ]


def test_a_data_file_that_is_no_file_is_refused(tmp_path: Path) -> None:
    """Reading a pipe would wait for ever."""
    bundle(tmp_path / "a", THREE)
    path = tmp_path / "a.data-00000-of-00001"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(Refused):
        tb.read(str(tmp_path / "a"))


def test_padding_between_tensors_is_no_damage(tmp_path: Path) -> None:
    """TensorFlow can align tensors in the file; a rewrite leaves the padding out."""
    entries = bundle(tmp_path / "a", THREE)
    (tmp_path / "a.data-00000-of-00001").write_bytes(b"123" + bytes(61) + b"456" + bytes(61) + b"78")
    for number, key in enumerate(THREE):
        entries[key].offset = 64 * number
    index(tmp_path / "a", entries)
    source = tb.read(str(tmp_path / "a"))
    tw.write(source, str(tmp_path / "b"), source.entries)
    assert (tmp_path / "b.data-00000-of-00001").read_bytes() == b"12345678"


LIES = {
    "a byte of another": {"offset": 2},
    "all bytes of another": {"offset": 0},
    "a negative offset": {"offset": -1},
    "a negative size": {"size": -3},
    "a size that is not the shape's": {"size": 4},
    "a shape that is not the size's": {"shape": bundle_pb2.Shape(dim=[bundle_pb2.Dim(size=1 << 62)] * 200)},
    "a negative dimension": {"shape": bundle_pb2.Shape(dim=[bundle_pb2.Dim(size=-1), bundle_pb2.Dim(size=-3)])},
    "too many dimensions": {"shape": bundle_pb2.Shape(dim=[*[bundle_pb2.Dim(size=1)] * 300, bundle_pb2.Dim(size=3)])},
    "no rank": {"shape": bundle_pb2.Shape(dim=[bundle_pb2.Dim(size=3)], unknown_rank=True)},
    "a shard that there is not": {"shard_id": 1},
    "a negative shard": {"shard_id": -1},
    "strings in no bytes": {"dtype": tb.STRING, "shape": bundle_pb2.Shape(dim=[bundle_pb2.Dim(size=1 << 40)])},
    "variants in no bytes": {"dtype": tb.VARIANT, "shape": bundle_pb2.Shape(dim=[bundle_pb2.Dim(size=1 << 40)])},
    "slices and bytes": {"slices": [bundle_pb2.Slice(extent=[bundle_pb2.Extent()])]},
}


@pytest.mark.parametrize("lie", LIES)
def test_an_entry_that_lies_is_refused(lie: str, tmp_path: Path) -> None:
    """No TensorFlow writes such an entry, and what reads it would read, or write, beyond measure."""
    entries = bundle(tmp_path / "a", THREE)
    odd = bundle_pb2.Entry()
    for field, _ in entries[b"b"].ListFields():
        if field.name not in LIES[lie]:
            odd.MergeFrom(_only(entries[b"b"], field.name))
    odd.MergeFrom(bundle_pb2.Entry(**LIES[lie]))
    index(tmp_path / "a", entries | {b"b": odd})
    with pytest.raises(Refused):
        tb.read(str(tmp_path / "a"))


def _only(entry: bundle_pb2.Entry, field: str) -> bundle_pb2.Entry:
    return bundle_pb2.Entry(**{field: getattr(entry, field)})


def test_an_entry_of_a_megabyte_is_refused(tmp_path: Path) -> None:
    """A parser would make a hundred megabytes of it before anybody sees what is in it."""
    entries = bundle(tmp_path / "a", THREE)
    entries[b"b"].MergeFrom(bundle_pb2.Entry.FromString(b"\xa2\x06" + varint(1 << 20) + bytes(1 << 20)))
    index(tmp_path / "a", entries)
    with pytest.raises(Refused, match="in 1,048,"):
        tb.read(str(tmp_path / "a"))


def test_a_type_that_is_not_known_is_copied_raw(tmp_path: Path) -> None:
    """A number type of a later TensorFlow: its bytes and checksum are as good as any."""
    bundle(tmp_path / "a", {b"a": (77, (5,), b"xyz")})
    source = tb.read(str(tmp_path / "a"))
    assert source.entries["a"].type_name == "type 77"
    tw.write(source, str(tmp_path / "b"), source.entries)
    assert contents(tb.read(str(tmp_path / "b"))) == {"a": (77, (5,), b"xyz")}


HEADERS = {
    "big-endian": (bundle_pb2.Header(num_shards=1, endianness=1), Unsupported),
    "for later readers": (bundle_pb2.Header(num_shards=1, version=bundle_pb2.Version(min_consumer=2)), Unsupported),
    "without shards": (bundle_pb2.Header(), Refused),
    "with too many shards": (bundle_pb2.Header(num_shards=1 << 30), Refused),
}


@pytest.mark.parametrize("kind", HEADERS)
def test_a_header_that_cannot_be_handled_says_so(kind: str, tmp_path: Path) -> None:
    """Numbers of a big-endian machine copied as they are would be other numbers."""
    header, error = HEADERS[kind]
    bundle(tmp_path / "a", THREE, header=header.SerializeToString() or b"\x12\0")
    with pytest.raises(error):
        tb.read(str(tmp_path / "a"))


def test_what_is_no_bundle_is_told_apart(tmp_path: Path) -> None:
    """The first format has the same table around it; a table without a header, or with a damaged one, is unreadable."""
    for items, error in (
        ([(b"", b"\x0a\x02\x0a\0")], Unsupported),
        ([(b"a", b"")], Unreadable),
        ([(b"", b"\x08\xff")], Unreadable),
        ([(b"", b"\x08\x01"), (b"a", b"\x0b")], Unreadable),
    ):
        (tmp_path / "a.index").write_bytes(simple(items))
        with pytest.raises(error):
            tb.read(str(tmp_path / "a"))


WHOLE = bundle_pb2.Extent()


def cut(start: int, length: int) -> bundle_pb2.Slice:
    return bundle_pb2.Slice(extent=[bundle_pb2.Extent(start=start, length=length), WHOLE])


def part_key(start: int, length: int) -> bytes:
    """The key of rows of `v`, two columns wide, for small numbers: by the definition of the ordered code."""
    return b"\0v\0\x01\x01\x02" + bytes([0x80 + start, 0x80 + length]) + b"\x80\x7f"


def partitioned(prefix: Path, **changes: object) -> None:
    """Write a variable `v` of 3 x 2 bytes in two parts, and a tensor `w` beside it."""
    parts = {part_key(0, 2): (INT8, (2, 2), b"abcd"), part_key(2, 1): (INT8, (1, 2), b"ef"), b"w": (INT8, (1,), b"!")}
    entries = bundle(prefix, parts)
    entries[b"v"] = bundle_pb2.Entry(dtype=INT8, slices=[cut(0, 2), cut(2, 1)])
    entries[b"v"].shape.dim.extend([bundle_pb2.Dim(size=3), bundle_pb2.Dim(size=2)])
    for key, change in changes.items():
        change(entries) if callable(change) else entries.pop(part_key(2, 1) if key == "lacking" else key.encode())
    index(prefix, entries)


def test_a_partitioned_variable_is_one_tensor(tmp_path: Path) -> None:
    """Its parts are found by their keys, stay with it, go with it, and follow it to another name."""
    partitioned(tmp_path / "a")
    source = tb.read(str(tmp_path / "a"))
    assert list(source.entries) == ["v", "w"]
    assert (source.entries["v"].shape, source.entries["v"].bytes) == ((3, 2), 6)
    assert source.entries["v"].slices == (((0, 2), (0, -1)), ((2, 1), (0, -1)))
    tw.write(source, str(tmp_path / "b"), {"w": source.entries["w"]})
    assert contents(tb.read(str(tmp_path / "b"))) == {"w": (INT8, (1,), b"!")}
    assert (tmp_path / "b.data-00000-of-00001").read_bytes() == b"!"
    tw.write(source, str(tmp_path / "c"), source.entries)
    with (tmp_path / "a.index").open("rb") as old, (tmp_path / "c.index").open("rb") as new:
        assert list(sstable.entries(old)) == list(sstable.entries(new))
    assert contents(tb.read(str(tmp_path / "c"))) == contents(source)
    tw.write(source, str(tmp_path / "d"), {"other": source.entries["v"]})
    renamed = tb.read(str(tmp_path / "d"))
    assert [value for _, value in sorted(contents(renamed).items())] == [
        (INT8, (2, 2), b"abcd"),
        (INT8, (1, 2), b"ef"),
    ]
    with tb.opened(source) as data, pytest.raises(ValueError, match="part by part"):
        list(data.blocks(source.entries["v"]))


def spoil(**fields: object):
    """Return a change of the second part's entry."""

    def change(entries: dict[bytes, bundle_pb2.Entry]) -> None:
        entries[part_key(2, 1)].MergeFrom(bundle_pb2.Entry(**fields))

    return change


def reshape(entries: dict[bytes, bundle_pb2.Entry]) -> None:
    entries[part_key(2, 1)].shape.Clear()
    entries[part_key(2, 1)].shape.dim.extend([bundle_pb2.Dim(size=2), bundle_pb2.Dim(size=1)])


def outside(entries: dict[bytes, bundle_pb2.Entry]) -> None:
    entries[b"v"].shape.dim[0].size = 2


def flat(entries: dict[bytes, bundle_pb2.Entry]) -> None:
    del entries[b"v"].shape.dim[1]


def nested(entries: dict[bytes, bundle_pb2.Entry]) -> None:
    entries[part_key(2, 1)].size = 0
    entries[part_key(2, 1)].slices.append(cut(0, 1))


def doubled(entries: dict[bytes, bundle_pb2.Entry]) -> None:
    entries[b"v"].slices.append(cut(2, 1))


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"v": True}, Refused),
        ({"lacking": True}, Unreadable),
        ({"x": spoil(dtype=11)}, Refused),
        ({"x": reshape}, Refused),
        ({"x": outside}, Refused),
        ({"x": flat}, Refused),
        ({"x": doubled}, Unreadable),
        ({"x": nested}, Refused),
    ],
    ids=[
        "orphans",
        "a part lacking",
        "another type",
        "another shape",
        "outside",
        "another rank",
        "one part twice",
        "parts of a part",
    ],
)
def test_parts_that_do_not_fit_are_no_variable(
    change: dict[str, object], error: type[Exception], tmp_path: Path
) -> None:
    """A part that belongs to nothing, or differs from what its variable says, is never copied as if it fitted."""
    partitioned(tmp_path / "a", **change)
    with pytest.raises(error):
        tb.read(str(tmp_path / "a"))


def test_slices_are_bounded_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two bytes of a file for each slice must not become hundreds in memory without end."""
    monkeypatch.setattr(sstable, "MAX_ENTRIES", 5)
    entries = bundle(tmp_path / "a", THREE)
    for entry in entries.values():
        entry.size = 0
        entry.slices.extend([bundle_pb2.Slice()] * 2)
    index(tmp_path / "a", entries)
    with pytest.raises(Refused, match="more slices"):
        tb.read(str(tmp_path / "a"))


def signed(value: int) -> bytes:
    """The ordered code of a signed number, by its table of header bits."""
    if -64 <= value < 64:
        return bytes([0x80 ^ (value & 0xFF)])
    magnitude = value if value >= 0 else ~value
    size = next(n for n in range(2, 11) if magnitude < 1 << (7 * n - 1))
    out = bytearray((value & (1 << 80) - 1).to_bytes(10, "big")[-size:])
    header = [(0, 0), (0x80, 0), (0xC0, 0), (0xE0, 0), (0xF0, 0), (0xF8, 0), (0xFC, 0), (0xFE, 0), (0xFF, 0)]
    first, second = [*header, (0xFF, 0x80), (0xFF, 0xC0)][size]
    out[0] ^= first
    out[1] ^= second
    return bytes(out)


@given(st.binary(max_size=5), st.lists(st.tuples(st.integers(0, 2**63 - 1), st.integers(-1, 2**63 - 1)), max_size=3))
def test_keys_of_parts_are_the_ordered_code(name: bytes, extents: list[tuple[int, int]]) -> None:
    """For any name and any numbers: zero and 0xff escaped, numbers behind their header bits."""
    escaped = b"".join({0: b"\0\xff", 255: b"\xff\0"}.get(byte, bytes([byte])) for byte in name)
    numbers = b"".join(signed(number) for extent in extents for number in extent)
    dims = bytes([1, len(extents)]) if extents else b"\0"
    assert slice_keys.encode(name, tuple(extents)) == b"\0" + escaped + b"\0\x01" + dims + numbers


def test_the_shape_of_a_part_lies_in_the_variable() -> None:
    """Whole dimensions and pieces have their shape; what begins before, ends behind or has another rank has none."""
    assert slice_keys.shape_of(((1, 2), (0, -1)), (3, 5)) == (2, 5)
    assert slice_keys.shape_of((), ()) == ()
    for extents in (((-1, 2), (0, -1)), ((2, 2), (0, -1)), ((1, -2), (0, -1)), ((1, 2),), ((1, -1), (0, -1))):
        assert slice_keys.shape_of(extents, (3, 5)) is None


def strings(values: list[bytes]) -> bytes:
    """Strings as TensorFlow stores them."""
    words = b"".join(len(value).to_bytes(4, "little") for value in values)
    return b"".join(varint(len(v)) for v in values) + masked(words).to_bytes(4, "little") + b"".join(values)


def pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at the given places."""
    edges = sorted({0, len(content), *(place % (len(content) + 1) for place in cuts)})
    return [content[a:b] for a, b in pairwise(edges)]


values = st.lists(st.binary(max_size=5) | st.integers(100, 40_000).map(bytes), max_size=12)


@settings(deadline=None)
@given(values, st.lists(st.integers(0, 50_000), max_size=6))
def test_sums_of_strings_do_not_depend_on_the_blocks(found: list[bytes], cuts: list[int]) -> None:
    """Wherever a block ends, within a length or its checksum too, the sum is that of the definition."""
    stored = strings(found)
    total = tensor_sums.of(tb.STRING, len(found))
    for piece in pieces(stored, cuts):
        total.update(piece)
    words = b"".join(len(value).to_bytes(4, "little") for value in found)
    assert total.masked() == masked(words + masked(words).to_bytes(4, "little") + b"".join(found))


@settings(deadline=None)
@given(values.filter(bool), st.data())
def test_damaged_strings_are_found(found: list[bytes], data: st.DataObject) -> None:
    """One bit flipped, bytes cut off or appended: an error or another sum."""
    stored = strings(found)
    at = data.draw(st.integers(0, len(stored) - 1))
    flipped = stored[:at] + bytes([stored[at] ^ 1 << data.draw(st.integers(0, 7))]) + stored[at + 1 :]
    good = tensor_sums.of(tb.STRING, len(found))
    good.update(stored)
    for damaged in (flipped, stored[:at], stored + b"\0", stored + bytes(30)):
        total = tensor_sums.of(tb.STRING, len(found))
        with contextlib.suppress(Unreadable):
            total.update(damaged)
            assert total.masked() != good.masked()


def test_lengths_without_end_are_not_gathered() -> None:
    """A stream of bytes that are never a length is an error at once, not a buffer that grows."""
    for dtype in (tb.STRING, tb.VARIANT):
        with pytest.raises(Unreadable):
            tensor_sums.of(dtype, 3).update(b"\xff" * 1000)


@needs_real
def test_real_checkpoints_are_rewritten_byte_for_byte(tmp_path: Path) -> None:
    """Keeping everything gives the index and the data that TensorFlow wrote (a compressed index comes out plain)."""
    for number, path in enumerate(real_indexes()):
        source = tb.read(str(path)[: -len(".index")])
        tb.check_whole(source)
        target = str(tmp_path / str(number))
        tw.write(source, target, source.entries)
        for old, new in zip(source.files, tb.read(target).files, strict=True):
            plain = old.endswith(".index") and "half_plus_two_cpu" in old
            assert (Path(old).read_bytes() == Path(new).read_bytes()) != plain, old


@needs_real
def test_real_checkpoints_hold_what_the_manifest_says() -> None:
    """Number of tensors and their bytes, the object graph's not counted among the latter."""
    with (Path(REAL) / "MANIFEST.tsv").open(newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    seen = 0
    for row in rows:
        if row["kind"] not in ("TF2 object-based checkpoint", "TF1 V2 name-based checkpoint"):
            continue
        found = tb.read(f"{REAL}/{row['path']}")
        sizes = {key: entry.bytes for key, entry in found.entries.items() if entry.dtype != tb.STRING}
        assert len(found.entries) == int(row["n_tensors"])
        assert sum(sizes.values()) == int(row["tensor_bytes"])
        seen += 1
    assert seen >= 3
