"""Tables of checkpoints: what TensorFlow writes comes out byte for byte, what nobody writes is refused."""

import contextlib
import io
import os
import time
import tracemalloc
from pathlib import Path

import pytest
from checkpoints import REAL, block, entry, footer, plain, real_indexes, simple, stored, table, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from tfstrip_core.codecs import sstable, wire
from tfstrip_core.errors import Refused, Unreadable

Items = list[tuple[bytes, bytes]]
SNAPPY = "half_plus_two_cpu"


def read(data: bytes) -> Items:
    return list(sstable.entries(io.BytesIO(data)))


def written(items: Items) -> bytes:
    out = io.BytesIO()
    sstable.write(out, items)
    return out.getvalue()


keys = st.binary(max_size=12) | st.lists(st.sampled_from([b"\0", b"a", b"b", b"/", b"\xff"]), max_size=6).map(b"".join)
tables = st.dictionaries(keys, st.binary(max_size=40), max_size=60).map(lambda found: sorted(found.items()))


@settings(deadline=None)
@given(tables, st.sampled_from([1, 64, 400, 300_000]))
def test_what_is_written_is_read(items: Items, size: int) -> None:
    """Any keys and values come back, in one block or in many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sstable, "_BLOCK", size)
        assert read(written(items)) == items


@settings(deadline=None)
@given(tables.filter(bool))
def test_tables_of_another_writer_are_read(items: Items) -> None:
    """Entries that share nothing, a long key in the index: another way to write the same."""
    assert read(simple(items)) == items


def test_only_ascending_keys_are_written() -> None:
    """A table with a key twice, or out of order, is a bug of the caller's."""
    for items in ([(b"a", b""), (b"a", b"")], [(b"b", b""), (b"a", b"")], [(b"a", b""), (b"", b"")]):
        with pytest.raises(ValueError, match="ascend"):
            written(items)


@pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")
def test_real_indexes_are_written_byte_for_byte() -> None:
    """What TensorFlow wrote and we read comes out as the very same file; a compressed one comes out plain."""
    paths = list(real_indexes())
    assert len(paths) > 10
    for path in paths:
        data = path.read_bytes()
        again = written(read(data))
        assert (again == data) != (SNAPPY in str(path)), path
        assert read(again) == read(data)


SMALL = written([(b"", b"head"), (b"layer/bias", b"1234"), (b"layer/kernel", b"5678"), (b"\xff\xff", b"9")])


def test_every_flipped_bit_is_found() -> None:
    """Damage anywhere is an error: in blocks, in checksums, in the footer, which has no checksum."""
    for at in range(len(SMALL)):
        for bit in range(8):
            damaged = bytearray(SMALL)
            damaged[at] ^= 1 << bit
            with pytest.raises(Unreadable):
                read(bytes(damaged))


def test_every_cut_is_found() -> None:
    """A table cut off anywhere is unreadable, also when it is empty."""
    for length in range(len(SMALL)):
        with pytest.raises(Unreadable):
            read(SMALL[:length])


@given(st.binary(max_size=80))
def test_noise_with_a_good_checksum_is_an_error_or_a_table(noise: bytes) -> None:
    """A block of anything ends in entries or in one of our errors, never in another exception."""
    with contextlib.suppress(Unreadable, Refused):
        read(table([(b"\xff" * 90, noise)]))


TWO = plain([(b"b", b"1"), (b"d", b"2")])

LIES = {
    "keys out of order": simple([(b"b", b""), (b"a", b"")]),
    "a key twice": simple([(b"a", b"1"), (b"a", b"2")]),
    "a key that shares more than there is": table([(b"z", block(entry(b"a") + entry(b"b", shared=9)))]),
    "a first key that shares": table([(b"z", block(entry(b"a", shared=1)))]),
    "a restart within an entry": table([(b"z", block(entry(b"a") + entry(b"b"), restarts=(0, 1)))]),
    "a restart at a key that shares": table([(b"z", block(entry(b"a") + entry(b"b", shared=1), restarts=(0, 4)))]),
    "a restart beyond the entries": table([(b"z", block(entry(b"a"), restarts=(0, 400)))]),
    "a first entry that is no restart": table([(b"z", block(entry(b"a") + entry(b"b"), restarts=(4,)))]),
    "no restart": table([(b"z", entry(b"a") + bytes(4))]),
    "more restarts than fit": table([(b"z", entry(b"a") + b"\xff\xff\xff\xff")]),
    "a value longer than its block": table([(b"z", block(b"\0\1\x40a"))]),
    "an empty block": table([(b"z", block(b""))]),
    "one block twice": table([(b"d", TWO), (b"e", TWO)], handles=[(0, len(TWO)), (0, len(TWO))]),
    "blocks that overlap": table([(b"d", TWO), (b"e", TWO)], handles=[(0, len(TWO)), (3, len(TWO))]),
    "a block in the index's place": table([(b"d", TWO)], handles=[(len(TWO) + 5, 8)]),
    "an index key below its block": table([(b"c", TWO)]),
    "an index key above the next block": table([(b"f", TWO), (b"z", plain([(b"e", b"")]))]),
    "a handle with something behind it": stored(TWO)
    + stored(block(b""))
    + stored(plain([(b"e", varint(0) + varint(len(TWO)) + b"\0")]))
    + footer((len(TWO) + 5, 8), (len(TWO) + 18, 3 + 1 + 3 + 8)),
    "a compression that nobody uses": table([(b"e", TWO)], compression=2),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_table_that_lies_under_good_checksums_is_refused(lie: str) -> None:
    """A loader that seeks would find other tensors in such a table than a reader in order does."""
    with pytest.raises(Refused):
        read(LIES[lie])


def within(seconds: float, memory: int, data: bytes) -> None:
    """Check that a table is refused, and that finding that out is cheap; sizes in bytes."""
    tracemalloc.start()
    begin = time.process_time()
    with pytest.raises(Refused):
        read(data)
    assert time.process_time() - begin < seconds
    assert tracemalloc.get_traced_memory()[1] < memory + 3 * len(data)
    tracemalloc.stop()


def test_keys_that_grow_by_sharing_are_bounded() -> None:
    """A megabyte that a hundred thousand keys share would be a hundred gigabytes."""
    long = b"a" * (1 << 20)
    tails = b"".join(entry(number.to_bytes(3, "big"), shared=len(long)) for number in range(90_000))
    within(20, 100 << 20, table([(b"b", block(entry(long) + tails))]))


def test_keys_are_bounded_over_all_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each block within the limit, many of them beyond it: the sum counts."""
    monkeypatch.setattr(sstable, "MAX_TABLE", 5000)
    blocks = []
    for name in (b"a", b"b", b"c"):
        key = name * 1000
        blocks.append((name + b"\xff", block(entry(key) + entry(b"x", shared=1000))))
    assert len(read(table(blocks[:2]))) == 4
    with pytest.raises(Refused, match="too long"):
        read(table(blocks))


def test_entries_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five bytes of a file for each entry must not become hundreds in memory without end, in one block or in many."""
    monkeypatch.setattr(sstable, "MAX_ENTRIES", 100)
    items = [(number.to_bytes(3, "big"), b"") for number in range(101)]
    assert read(simple(items[:100])) == items[:100]
    for data in (simple(items), table([(key, plain([(key, value)])) for key, value in items])):
        with pytest.raises(Refused):
            read(data)
    blocks = [(items[at + 39][0], plain(items[at : at + 40])) for at in (0, 40)]
    assert len(read(table(blocks))) == 80
    with pytest.raises(Refused):
        read(table([*blocks, (items[100][0], plain(items[80:]))]))


def test_a_file_too_large_is_not_read(tmp_path: Path) -> None:
    """A sparse file of a terabyte costs nothing to refuse."""
    path = tmp_path / "index"
    with path.open("wb") as file:
        os.truncate(file.fileno(), 1 << 40)
    with path.open("rb") as file, pytest.raises(Refused):
        list(sstable.entries(file))


def test_handles_beyond_the_file_allocate_nothing() -> None:
    """A size of 2**63 in the footer or the index is seen before it is asked for."""
    with pytest.raises(Unreadable):
        read(SMALL[:-48] + footer((0, 8), (1, 1 << 63)))
    with pytest.raises(Refused):
        read(table([(b"e", TWO)], handles=[(0, 1 << 63)]))


def test_one_block_is_not_index_and_metaindex() -> None:
    """The footer has no checksum: handles that point to one block, or to the footer itself, are damage."""
    index = sstable._footer(io.BytesIO(SMALL), len(SMALL))[1]
    assert read(SMALL[:-48] + footer((index[0] - 13, 8), index)) == read(SMALL)
    for metaindex in (index, (len(SMALL) - 48, 8)):
        with pytest.raises(Unreadable, match="outside its place"):
            read(SMALL[:-48] + footer(metaindex, index))


def literal(data: bytes) -> bytes:
    """Bytes as they are, in Snappy's four ways to give their number."""
    size = len(data) - 1
    if size < 60:
        return bytes([size << 2]) + data
    width = (size.bit_length() + 7) // 8
    return bytes([(59 + width) << 2]) + size.to_bytes(width, "little") + data


def compressed(content: bytes) -> bytes:
    """Snappy of literals alone."""
    return varint(len(content)) + b"".join(literal(content[at : at + 300]) for at in range(0, len(content), 300))


@settings(deadline=None)
@given(tables.filter(bool))
def test_compressed_tables_are_read(items: Items) -> None:
    """TensorFlow 1.0 and 1.1 compressed the blocks."""
    assert read(table([(b"\xff" * 13, compressed(plain(items)))], compression=1)) == items


def test_every_kind_of_copy_is_unpacked() -> None:
    """Copies with one, two and four bytes of distance, onto themselves too, give what Snappy's format says."""
    one = bytes([1 | (7 - 4) << 2 | 0, 3])  # 7 bytes from 3 back: they repeat
    two = bytes([2 | (4 - 1) << 2]) + (10).to_bytes(2, "little")
    four = bytes([3 | (64 - 1) << 2]) + (1).to_bytes(4, "little")
    far = bytes([1 | 1 << 5, 0])  # 4 bytes from 256 back
    packed = literal(b"abc") + one + two + four + literal(b"-" * 300) + far
    expected = b"abcabcabca" + b"abca" + b"a" * 64 + b"-" * 300 + b"-" * 4
    assert sstable._unsnap(varint(len(expected)) + packed, 1000) == expected


@pytest.mark.parametrize(
    "packed",
    [
        varint(1 << 40) + literal(b"a"),
        varint(4) + literal(b"abc"),
        varint(2) + literal(b"abc"),
        varint(8) + bytes([1, 1]),
        varint(8) + literal(b"a") + bytes([1, 2]),
        varint(8) + literal(b"a") + bytes([1, 0]),
        varint(3) + literal(b"abc")[:-1],
        varint(3) + bytes([63 << 2, 0xFF]),
    ],
    ids=["a bomb", "too little", "too much", "from nothing", "from before", "from nowhere", "cut", "half a number"],
)
def test_compression_that_lies_is_refused(packed: bytes) -> None:
    """A compressed block that expands beyond measure or points outside itself is refused."""
    with pytest.raises(Refused):
        read(table([(b"e", packed)], compression=1))


def test_compressed_blocks_are_bounded_together() -> None:
    """Each block within the limit, a thousand of them beyond it: the sum counts."""
    value = bytes(1 << 20)
    blocks = []
    for number in range(6):
        key = bytes([number])
        rest = len(plain([(key, value)])) - len(plain([(key, b"\0" * 16)]))
        head, tail = plain([(key, value)])[:32], plain([(key, value)])[32 + rest - rest % 64 :]
        middle = len(plain([(key, value)])) - len(head) - len(tail)
        copies = (bytes([2 | 63 << 2]) + (1).to_bytes(2, "little")) * (middle // 64)
        blocks.append((key, varint(len(head) + middle // 64 * 64 + len(tail)) + literal(head) + copies + literal(tail)))
    assert len(read(table(blocks[:3], compression=1))) == 3
    with pytest.raises(Refused, match="beyond measure"):
        read(table(blocks, compression=1))


@given(st.integers(0, (1 << 64) - 1))
def test_varints_come_back(value: int) -> None:
    """Any number of 64 bits is read as it was written, and its place is known."""
    assert wire.varint(b"x" + wire.put_varint(value) + b"y", 1) == (value, 1 + len(wire.put_varint(value)))
    assert wire.put_varint(value) == varint(value)


def test_varints_without_end_are_damage() -> None:
    """A number that does not end, or has more than 64 bits, is no number."""
    for data in (b"", b"\x80", b"\x80" * 20, b"\xff" * 9 + b"\x02"):
        with pytest.raises(Unreadable):
            wire.varint(data, 0)
