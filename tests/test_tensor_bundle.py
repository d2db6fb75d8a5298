"""Checkpoints read from their index and written by copying: bytes that stay the same, and lies that are refused."""

import csv
import os
import tempfile
from pathlib import Path

import pytest
from checkpoints import FLOAT, INT8, REAL, THREE, Tensor, bundle, contents, index, real_indexes, simple, varint
from hypothesis import given, settings
from hypothesis import strategies as st

from tfstrip_core.codecs import sstable
from tfstrip_core.codecs import tensor_bundle as tb
from tfstrip_core.codecs import tensor_bundle_write as tw
from tfstrip_core.codecs.protos import bundle_pb2
from tfstrip_core.errors import Refused, Unreadable, Unsupported

needs_real = pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")


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
