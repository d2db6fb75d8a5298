"""Properties of the codecs, on inputs that hypothesis makes up."""

import io
import json
import tempfile
from itertools import pairwise
from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tfstrip_core.codecs import hdf5, hdf5_copy, hdf5_open, jsontext, window
from tfstrip_core.codecs import zip as archive
from tfstrip_core.errors import Refused, Unreadable, printable
from tfstrip_core.reports import github

DTYPES = ["<f4", ">f8", "<f2", "<i8", "|i1", "|b1", "<c8", "|S7", "|V2"]
Tree = dict[str, tuple[str, tuple[int, ...], bool]]  # path: dtype, shape, whether it is chunked
names = st.text("abcdefgh_:0", min_size=1, max_size=6)
shapes = st.lists(st.integers(0, 7), max_size=4).map(tuple)


def pieces(content: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at the given places, empty pieces left out."""
    edges = sorted({0, len(content), *(cut % (len(content) + 1) for cut in cuts)})
    return [content[a:b] for a, b in pairwise(edges) if a < b]


@given(st.binary(max_size=60), st.binary(max_size=60), st.lists(st.integers(0, 60)), st.lists(st.integers(0, 60)))
def test_same_compares_content_however_it_is_cut(a: bytes, b: bytes, x: list[int], y: list[int]) -> None:
    """Two streams are the same exactly when their bytes are, wherever their blocks end."""
    assert window.same(iter(pieces(a, x)), iter(pieces(a, y)))
    assert window.same(iter(pieces(a, x)), iter(pieces(b, y))) == (a == b)


@given(st.binary(max_size=100), st.integers(0, 100), st.integers(0, 100), st.integers(0, 120))
def test_a_window_reads_its_stretch_and_no_more(content: bytes, offset: int, size: int, position: int) -> None:
    """Reading from any position gives the stretch's bytes, also beyond the end of window and file."""
    with window.Window(io.BytesIO(content), offset, size) as view:
        view.seek(position)
        assert view.read() == content[offset : offset + size][position:]


def test_a_file_that_ends_early_is_no_end_of_data() -> None:
    """Blocks of a stretch that the file does not have are an error, never fewer bytes."""
    with pytest.raises(Unreadable):
        list(window.blocks(io.BytesIO(b"abc"), 1, 3))


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    """Paths of datasets, none of which is a group of another, with dtype, shape and whether they are chunked."""
    paths = draw(st.lists(st.lists(names, min_size=1, max_size=3).map("/".join), min_size=1, max_size=8, unique=True))
    leaves = [path for path in paths if not any(other.startswith(f"{path}/") for other in paths)]
    kinds = st.tuples(st.sampled_from(DTYPES), shapes, st.booleans())
    return {path: draw(kinds) for path in leaves}


def write(path: Path, tree: Tree) -> dict[str, bytes]:
    """Write a random file and return each dataset's bytes."""
    random = np.random.default_rng(len(tree))
    stored = {}
    with h5py.File(path, "w") as file:
        file.create_group("empty/vars").attrs["name"] = "nobody"
        file.attrs["list"] = [b"a", b"bc"]
        for name, (dtype, shape, chunked) in tree.items():
            raw = random.integers(0, 2, int(np.prod(shape)) * np.dtype(dtype).itemsize, dtype="u1").tobytes()
            value = np.frombuffer(raw, dtype).reshape(shape)
            chunks = chunked and all(shape) and shape != ()
            item = file.create_dataset(name, data=value, **({"chunks": True, "compression": "gzip"} if chunks else {}))
            item.attrs["unit"] = "µ"
            stored[name] = value.tobytes()
    return stored


@settings(max_examples=60, deadline=None)
@given(trees(), st.data())
def test_a_copy_has_every_byte_of_what_stays(tree: Tree, data: st.DataObject) -> None:
    """Any tree, any part of it dropped: the rest is there bit for bit with its attributes, twice the same file."""
    with tempfile.TemporaryDirectory() as folder:
        source, first, second = (Path(folder, name) for name in ("source", "first", "second"))
        stored = write(source, tree)
        dropped = data.draw(st.sets(st.sampled_from(sorted(tree))))
        for target in (first, second):
            with open(source, "rb", buffering=0) as file, hdf5_open.open_file(file) as fid:
                found = hdf5.scan(fid)
                assert set(found.datasets) == set(tree)
                hdf5_copy.copy(fid, found, str(target), drop=dropped.__contains__)
        assert first.read_bytes() == second.read_bytes()
        with h5py.File(first) as file, h5py.File(source) as original:
            for name in tree:
                assert (name in file) == (name not in dropped)
                if name not in dropped:
                    assert np.asarray(file[name][()], file[name].dtype).tobytes() == stored[name]
                    assert file[name].dtype == original[name].dtype
                    assert dict(file[name].attrs) == dict(original[name].attrs)
            assert file["empty/vars"].attrs["name"] == "nobody"
            assert list(file.attrs["list"]) == list(original.attrs["list"])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(DTYPES), shapes, st.booleans())
def test_blocks_of_any_dataset_are_its_bytes(dtype: str, shape: tuple[int, ...], chunked: bool) -> None:
    """Reading in blocks gives what h5py reads at once, for every dtype, shape and layout."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "file")
        stored = write(path, {"x": (dtype, shape, chunked)})
        with open(path, "rb", buffering=0) as file, hdf5_open.open_file(file) as fid:
            dataset = hdf5.scan(fid).datasets["x"]
            item = hdf5.open_object(fid, "x")
            assert b"".join(hdf5.read_blocks(item, dataset)) == stored["x"]
            assert dataset.bytes == len(stored["x"])
            if dataset.offset is not None:
                assert path.read_bytes()[dataset.offset :][: dataset.bytes] == stored["x"]


def test_blocks_of_a_large_dataset_are_cut_and_complete(tmp_path: Path) -> None:
    """Several megabytes in odd dimensions, compressed: many blocks, the same bytes."""
    value = np.arange(3 * 700 * 1001, dtype="<f4").reshape(3, 700, 1001)
    with h5py.File(tmp_path / "file", "w") as file:
        file.create_dataset("x", data=value, chunks=True, compression="gzip")
    with open(tmp_path / "file", "rb", buffering=0) as file, hdf5_open.open_file(file) as fid:
        found = list(hdf5.read_blocks(hdf5.open_object(fid, "x"), hdf5.scan(fid).datasets["x"]))
    assert len(found) > 5
    assert max(map(len, found)) <= window.BLOCK
    assert b"".join(found) == value.tobytes()


@settings(max_examples=50, deadline=None)
@given(st.dictionaries(st.text("abc_/", min_size=1).map("x".__add__), st.binary(max_size=300), min_size=1, max_size=5))
def test_archives_are_read_as_they_were_written(content: dict[str, bytes]) -> None:
    """What write makes, members lists and read_blocks returns, with no time of day in it."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(Path(folder, name)) for name in ("one", "two")]
        for path in paths:
            archive.write(path, [(name, iter((data,)), len(data)) for name, data in content.items()])
        assert Path(paths[0]).read_bytes() == Path(paths[1]).read_bytes()
        with open(paths[0], "rb") as file:
            found = archive.members(file)
            assert {m.name: b"".join(archive.read_blocks(file, m)) for m in found} == content
            assert all(member.stored for member in found)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_json_survives(value: object) -> None:
    """Parsing what was dumped gives the value that the loader would have had."""
    assert jsontext.parse(jsontext.dump(value), "x") == json.loads(json.dumps(value))


@pytest.mark.parametrize("depth", [201, 5_000, 200_000])
def test_json_beyond_reason_is_refused(depth: int) -> None:
    """Deep nesting is refused, whether Python's parser or we notice it."""
    with pytest.raises(Refused, match="nested deeper"):
        jsontext.parse("[" * depth + "]" * depth, "x")


@given(st.text(st.characters(codec=None)))
def test_printable_is_one_visible_line(text: str) -> None:
    """Whatever a name holds, what is printed of it is printable, on one line, and ASCII-safe for a stream."""
    shown = printable(text)
    assert shown.isprintable()
    assert printable(shown) == shown
    shown.encode()


@given(st.text(st.characters(codec=None)), st.text(st.characters(codec=None)))
def test_an_annotation_is_one_command(path: str, message: str) -> None:
    """No file name and no message can end a workflow command or begin another."""
    line = github.annotation("error", path, "title", message)
    assert len(line.splitlines()) == 1
    properties = line.removeprefix("::error file=").partition("::")[0]
    assert properties.count(",") == 1
    assert properties.endswith(",title=title")
