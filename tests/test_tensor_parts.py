"""Partitioned variables and the checksums of tensors whose elements differ in length."""

import contextlib
from itertools import pairwise
from pathlib import Path

import pytest
from checkpoints import INT8, THREE, bundle, contents, index, masked, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from tfstrip_core.codecs import slice_keys, sstable, tensor_sums
from tfstrip_core.codecs import tensor_bundle as tb
from tfstrip_core.codecs import tensor_bundle_write as tw
from tfstrip_core.codecs.protos import bundle_pb2
from tfstrip_core.errors import Refused, Unreadable

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
