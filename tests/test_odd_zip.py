"""An oddly packed but honest .keras archive is the same model: found, stripped and proven as any other."""

import struct
import time
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import one
from hostile import Entry, assert_strips, both, contents, facts, judge, pack, unpacked, zip64_end

MODEL = one("keras3.15.1", "sequential.keras")
META, CONFIG, WEIGHTS = BASE = unpacked(MODEL.path)
VOCABULARY = Entry("assets/layers/text/vocabulary.txt", b"one\ntwo\n")


@pytest.fixture
def archive(tmp_path):
    """Return a function that writes an archive and gives its path."""

    def make(content: bytes) -> str:
        path = tmp_path / "model.keras"
        path.write_bytes(content)
        return str(path)

    return make


def zip64(entry: Entry) -> Entry:
    """Return the entry with its sizes in 64-bit extra fields, as streaming writers make them."""
    sizes = {"packed": 0xFFFFFFFF, "size": 0xFFFFFFFF}
    extra = struct.pack("<2H2Q", 1, 16, len(entry.data), len(entry.data))
    return replace(entry, local={**sizes, "extra": extra, "version": 45}, central={**sizes, "extra": extra})


def long_names() -> list[Entry]:
    """Return assets whose names fill more of the directory than the last MiB of the file."""
    return [Entry(f"assets/{i}/" + "n" * 60_000, b"1") for i in range(20)]


def with_zip64_end() -> bytes:
    """Return an archive whose end record leaves everything to the 64-bit one before it."""
    body = pack(BASE)[:-22]
    at = len(body) - sum(46 + len(entry.name) for entry in BASE)
    marks = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    return body + zip64_end(len(body) - at, at, 3, len(body)) + marks


def with_units(text: bytes) -> bytes:
    """Return the archive with something else instead of a layer's `units` in its config."""
    assert b'"units": 6' in CONFIG.data
    return pack([META, Entry("config.json", CONFIG.data.replace(b'"units": 6', text)), WEIGHTS])


NESTED = b"[" * 150 + b"]" * 150
ODD = {
    "as_written": pack(BASE),
    "deflated": pack([replace(entry, deflate=True) for entry in BASE]),
    "deflated_weights": pack([META, CONFIG, replace(WEIGHTS, deflate=True)]),
    "reversed": pack(reversed(BASE)),
    "extra_note": pack([*BASE, Entry("note.txt", b"hello")]),
    "note_first": pack([Entry("note.txt", b"hello"), *BASE]),
    "assets": pack([*BASE, VOCABULARY, Entry("assets/empty.txt")]),
    "folder_entries": pack([*BASE, Entry("assets/"), VOCABULARY]),
    "name_of_umlauts": pack([*BASE, both(Entry("assets/wörter.txt", b"1"), flags=0x800)]),
    "name_in_cp437": pack([*BASE, Entry("assets/w\u00f6rter.txt".encode("cp437"), b"1")]),
    "zip64_fields": pack([zip64(entry) for entry in BASE]),
    "data_descriptors": pack([replace(entry, described=True) for entry in BASE]),
    "deflated_descriptors": pack([replace(entry, described=True, deflate=True) for entry in BASE]),
    "comment": pack(BASE, comment=b"made by hand"),
    "longest_comment": pack(BASE, comment=b"c" * 0xFFFF),
    "preamble": pack(BASE, preamble=b"#!/bin/sh\nexit 1\n"),
    "preamble_of_zeros": pack(BASE, preamble=bytes(5000)),
    "preamble_that_is_in_the_offsets": pack(
        [replace(entry, central={"offset": at}) for entry, at in zip(BASE, (100, 207, 3054), strict=True)],
        preamble=bytes(100),
        end={"at": 100 + len(pack(BASE)) - 22 - sum(46 + len(entry.name) for entry in BASE)},
    ),
    "end_record_of_64_bits": with_zip64_end(),
    "long_directory": pack([Entry("note.txt", b"1"), *BASE, *long_names()]),
    "not_a_number_in_config": with_units(b'"units": 6, "mask": NaN'),
    "deep_enough": with_units(b'"units": 6, "d": ' + NESTED),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_but_honest_archive_is_the_same_model(name, archive, tmp_path, capsys):
    """Else residue hides behind an unusual packing that Keras loads, or a repacked model cannot be stripped."""
    code, model = judge(capsys, path := archive(ODD[name]))
    assert (code, facts(model)) == (1, facts(judge(capsys, MODEL.path)[1]))
    before, after = contents(path), contents(assert_strips(capsys, path))
    assert list(before) == list(after)
    changed = {entry for entry in before if before[entry] != after[entry]}
    assert changed == {"config.json", "model.weights.h5"}
    plain = tmp_path / "plain"
    plain.mkdir()
    (plain / "model.keras").write_bytes(pack(BASE))
    assert contents(assert_strips(capsys, str(plain / "model.keras")))["model.weights.h5"] == after["model.weights.h5"]


def test_archive_without_metadata_is_the_same_model(archive, capsys):
    """Else a model that Keras loads is unreadable, or passes as clean, for want of a member that nobody needs."""
    code, model = judge(capsys, path := archive(pack([CONFIG, WEIGHTS])))
    assert (code, facts(model)) == (1, facts(judge(capsys, MODEL.path)[1]))
    assert model["writer"] == "Keras"
    assert list(contents(assert_strips(capsys, path))) == ["config.json", "model.weights.h5"]


def test_the_same_input_gives_the_same_bytes_a_second_later(archive, capsys):
    """Else the time of the strip is in its result, and digests of two builds of one release differ."""
    path = archive(pack(BASE))
    first = Path(assert_strips(capsys, path)).read_bytes()
    time.sleep(1.1)
    assert Path(assert_strips(capsys, path)).read_bytes() == first
