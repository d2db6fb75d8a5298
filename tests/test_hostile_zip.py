"""A .keras archive that lies, bombs or confuses is refused in one sentence (odd but honest ones: test_odd_zip.py)."""

import itertools
import json
import os
import pickle
import struct
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import one
from hostile import (
    MIB,
    Entry,
    assert_refused,
    assert_strip_fails,
    assert_strips,
    bomb,
    both,
    deflated,
    judge,
    pack,
    run,
    unpacked,
    zeros,
    zip64_end,
)

MODEL = one("keras3.15.1", "sequential.keras")
META, CONFIG, WEIGHTS = unpacked(MODEL.path)
BASE = [META, CONFIG, WEIGHTS]
VOCABULARY = Entry("assets/layers/text/vocabulary.txt", b"one\ntwo\n")
ESCAPES = {"ansi": "\x1b[2J\x1b]0;owned\x07", "newline": "a\nb", "return": "a\rb", "bidi": "a\u202eb", "c1": "a\x9bb"}


@pytest.fixture
def archive(tmp_path):
    """Return a function that writes an archive of entries, or raw bytes, and gives its path."""

    def make(entries, **more) -> str:
        path = tmp_path / "model.keras"
        path.write_bytes(entries if isinstance(entries, bytes) else pack(entries, **more))
        return str(path)

    return make


def with_config(text: str | bytes) -> list[Entry]:
    return [META, Entry("config.json", text if isinstance(text, bytes) else text.encode()), WEIGHTS]


def lying(entry: Entry, **fields) -> Entry:
    """Return the entry with other fields in its local header than in the directory."""
    return replace(entry, local=fields)


def overlapping() -> list[Entry]:
    """Return members of which the last one names the header and data of the one before."""
    note = Entry("note.txt", b"x" * 64)
    end = len(pack([*BASE, note])) - 22 - sum(46 + len(entry.name) for entry in [*BASE, note])
    inner = Entry("note.txt", note.data, local={"name": b"", "bytes": b""})
    place = end - 30 - len(note.name) - len(note.data)
    return [*BASE, note, replace(inner, name="copy.txt", central={"offset": place})]


def quoted(data: bytes = b"payload") -> bytes:
    """Return an archive in which one member's header and data lie inside another member's data."""
    inner = pack([Entry("assets/inner", data)])[: 30 + len("assets/inner") + len(data)]
    outer = Entry("assets/outer", b"-" * 10 + inner + b"-" * 10)
    start = len(pack([*BASE, outer])) - 22 - sum(46 + len(entry.name) for entry in [*BASE, outer]) - len(outer.data)
    return pack([*BASE, outer, Entry("assets/inner", data, central={"offset": start + 10})])


def header_inside() -> bytes:
    """Return an archive in which a member's header, but not its data, lies inside another member's data."""
    head = pack([Entry("assets/inner", b"DATA")])[: 30 + len("assets/inner")]
    outer, size = Entry("assets/outer", b"-" * 10 + head), len("assets/outer") + 46
    start = len(pack([*BASE, outer])) - 22 - sum(46 + len(entry.name) for entry in BASE) - size - len(outer.data)
    return pack([*BASE, outer, Entry("assets/inner", b"DATA", local={"name": b"DATA"}, central={"offset": start + 10})])


def into_directory() -> bytes:
    """Return an archive whose last member's data reach over the archive's own directory."""
    return pack([*BASE, Entry("tail.bin", b"x" * 40, local={"packed": 90, "size": 90},
                              central={"packed": 90, "size": 90})])  # fmt: skip


LIES = {
    "pickle_beside_weights": [*BASE, Entry("model.weights.h5", pickle.dumps({"a": 1}))],
    "pickle_before_weights": [META, CONFIG, Entry("model.weights.h5", pickle.dumps({"a": 1})), WEIGHTS],
    "two_configs": [META, CONFIG, CONFIG, WEIGHTS],
    "two_notes": [*BASE, Entry("note.txt", b"1"), Entry("note.txt", b"2")],
    "absolute": [*BASE, Entry("/etc/cron.d/x", b"1")],
    "climbing": [*BASE, Entry("../../x", b"1")],
    "climbing_inside": [*BASE, Entry("assets/../../x", b"1")],
    "climbing_last": [*BASE, Entry("assets/..", b"1")],
    "backslash_climbing": [*BASE, Entry("assets\\..\\..\\x", b"1")],
    "backslash_absolute": [*BASE, Entry("\\x", b"1")],
    "drive": [*BASE, Entry("C:\\x", b"1")],
    "drive_relative": [*BASE, Entry("c:x", b"1")],
    "symlink": [*BASE, Entry("assets/link", b"/etc/passwd", central={"external": 0o120777 << 16})],
    "nul_in_name": [META, CONFIG, Entry(b"model.weights.h5\0.txt", WEIGHTS.data)],
    "encrypted": [META, CONFIG, both(WEIGHTS, flags=0x01)],
    "strongly_encrypted": [META, CONFIG, both(WEIGHTS, flags=0x41)],
    "masked_directory": [META, CONFIG, both(WEIGHTS, flags=0x2000)],
    "bzip2": [META, CONFIG, both(WEIGHTS, method=12)],
    "lzma": [META, CONFIG, both(WEIGHTS, method=14)],
    "zstandard": [*BASE, both(VOCABULARY, method=93)],
    "method_99": [*BASE, both(VOCABULARY, method=99)],
    "other_size": [META, CONFIG, lying(WEIGHTS, size=17)],
    "other_packed_size": [META, CONFIG, lying(WEIGHTS, packed=17)],
    "no_size_without_descriptor": [META, CONFIG, lying(WEIGHTS, size=0)],
    "other_crc": [META, CONFIG, lying(WEIGHTS, crc=17)],
    "other_name": [META, CONFIG, lying(WEIGHTS, name=b"model.weights.h6")],
    "other_method": [META, CONFIG, lying(WEIGHTS, method=8)],
    "two_sizes_of_stored": [META, CONFIG, both(WEIGHTS, size=len(WEIGHTS.data) - 1)],
    "one_place_two_names": overlapping(),
    "quoted": quoted(),
    "header_inside_another": header_inside(),
    "data_over_directory": into_directory(),
    "pickled_npz_and_duplicate": [META, CONFIG, *[Entry("model.weights.npz", pickle.dumps({}))] * 2],
    "bomb_in_weights": [META, CONFIG, bomb("model.weights.h5", 65)],
    "bomb_in_config": [META, bomb("config.json", 65), WEIGHTS],
    "bomb_in_asset": [*BASE, bomb("assets/x", 65)],
    "hdf5_in_front": pack(BASE, preamble=Path(one("keras3.15.1", "sequential_uncompiled.h5").path).read_bytes()),
    "many_small_bombs": [*BASE, *(bomb(f"assets/{i}", 17) for i in range(4))],
    "config_of_300_mib": [
        META, both(Entry("config.json"), size=300 * MIB, packed=4 * MIB, method=8, bytes=bytes(4 * MIB)), WEIGHTS,
    ],
    "nested_json": with_config("[" * 100_000 + "]" * 100_000),
    "nested_objects": with_config('{"a":' * 100_000 + "1" + "}" * 100_000),
    "nested_beyond_keras": with_config('{"a":' * 300 + "1" + "}" * 300),
    "duplicated_keys": with_config(CONFIG.data.replace(b'"compile_config"', b'"compile_config": {}, "compile_config"')),
    "nested_metadata": [Entry("metadata.json", b"[" * 100_000), CONFIG, WEIGHTS],
}  # fmt: skip

DAMAGED = {
    "beyond_the_end": [META, CONFIG, both(WEIGHTS, packed=1 << 30, size=1 << 30)],
    "header_beyond_the_end": [META, CONFIG, replace(WEIGHTS, central={"offset": 1 << 30})],
    "header_that_is_none": [META, CONFIG, replace(WEIGHTS, central={"offset": 3})],
    "deflate_that_is_none": [META, CONFIG, both(WEIGHTS, method=8)],
    "version_of_the_future": [META, CONFIG, both(WEIGHTS, version=99)],
    "more_entries_than_said": pack(BASE, end={"size": 20}),
    "directory_elsewhere": pack(BASE, end={"at": 1 << 31}),
    "no_end": pack(BASE)[:-22],
    "long_integer": with_config('{"class_name": ' + "9" * 10_000 + "}"),
    "not_utf8": with_config(CONFIG.data.replace(b"Sequential", b"Sequenti\xff\xfe")),
    "a_list": with_config("[1, 2]"),
    "a_number": with_config("1"),
    "no_json": with_config("model"),
    "empty_config": with_config(""),
    "broken_metadata": [Entry("metadata.json", b"{"), CONFIG, WEIGHTS],
    "metadata_not_utf8": [Entry("metadata.json", b'{"keras_version": "\xff"}'), CONFIG, WEIGHTS],
    "weights_are_no_hdf5": [META, CONFIG, Entry("model.weights.h5", pickle.dumps({"a": 1}))],
    "weights_are_empty": [META, CONFIG, Entry("model.weights.h5")],
    "no_weights": [META, CONFIG],
    "no_config": [META, WEIGHTS],
}


@pytest.mark.parametrize("name", LIES)
def test_archive_that_lies_is_refused(name, archive, capsys):
    """Else a loader that reads the archive another way loads other bytes than those that were proven, or is bombed."""
    assert_refused(capsys, archive(LIES[name]))


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_archive_is_unreadable(name, archive, capsys):
    """Else a damaged model passes for a clean one, or the user sees a traceback."""
    assert_refused(capsys, archive(DAMAGED[name]), "unreadable")


@pytest.mark.parametrize("name", ESCAPES)
def test_names_cannot_write_to_the_terminal(name, archive, capsys):
    """Else a member's name clears the screen, forges a line of the report or hides what it is."""
    path = archive([*BASE, Entry(f"assets/{ESCAPES[name]}", b"1", local={"flags": 0x800}, central={"flags": 0x800})])
    said = assert_refused(capsys, path)
    assert repr(ESCAPES[name])[1:-1] in said or ascii(ESCAPES[name])[1:-1] in said
    for words in (["check"], ["check", "--output-format", "github"], ["inspect"], ["check", "--json"]):
        _, out, err = run(capsys, *words, path)
        assert all(line.isprintable() for line in (out + err).splitlines())
        assert "\r" not in out + err


def test_surrogate_name_is_shown_escaped(archive, capsys):
    """Else a config that holds a lone surrogate crashes the report that prints it."""
    config = json.loads(CONFIG.data)
    config["config"]["layers"][1]["module"] = "evil\ud800\x1b[2J"
    code, out, err = run(capsys, "inspect", path := archive(with_config(json.dumps(config))))
    assert (code, err) == (0, "")
    assert all(line.isprintable() for line in out.splitlines())
    assert "evil\\ud800\\x1b[2J" in out
    assert_strips(capsys, path)


@pytest.mark.parametrize("declared", [10, MIB], ids=["shorter", "longer"])
@pytest.mark.parametrize("name", ["config.json", "model.weights.h5", "assets/x"])
def test_member_that_inflates_to_another_size_than_it_says(name, declared, archive, capsys):
    """Else a bomb need only understate its size to fill the disk."""
    real = {entry.name: entry.data for entry in BASE}.get(name, b"x" * 1000)
    lie = {"size": declared, "method": 8, "packed": len(deflated(real)), "bytes": deflated(real)}
    path = archive([*(entry for entry in BASE if entry.name != name), Entry(name, real, local=lie, central=lie)])
    if name == "assets/x":
        assert judge(capsys, path)[0] == 1
        assert_strip_fails(capsys, path)
    else:
        assert_refused(capsys, path, "refused" if declared == 10 else "unreadable")


def test_bomb_that_understates_its_size_stops_early(archive, capsys):
    """Else 64 MiB that call themselves 1 KiB are unpacked to the end before anybody counts."""
    stream = b"".join(zeros(64))
    lie = {"method": 8, "size": 1024, "packed": len(stream), "bytes": stream}
    path = archive([META, CONFIG, Entry("model.weights.h5", local=lie, central=lie)])
    start = time.process_time()
    assert_refused(capsys, path)
    assert time.process_time() - start < 2


def test_honest_compression_below_the_limit_is_no_bomb(archive, capsys):
    """Else a large vocabulary of much repetition could not be packed."""
    assert_strips(capsys, archive([*BASE, bomb("assets/zeros.txt", 60)]))


def test_more_entries_than_any_model_has(archive, capsys):
    """Else an archive of millions of empty entries takes minutes and memory."""
    entries = (Entry(str(i)) for i in range(100_001))
    code, model = judge(capsys, path := archive(itertools.chain(BASE, entries)))
    assert (code, model["verdict"]) == (2, "refused"), model["message"]
    assert_strip_fails(capsys, path)


@pytest.mark.parametrize(
    ("wide", "said"),
    [(False, 300 * MIB), (True, 0xFFFFFFFF), (True, 100)],
    ids=["32_bits", "64_bits", "64_bits_hidden"],
)
def test_directory_of_absurd_size_is_not_read(wide, said, tmp_path, capsys):
    """Else an end record makes us read gigabytes into memory; Python believes the 64-bit one, marked or not."""
    path = tmp_path / "model.keras"
    body, hole = pack(BASE)[:-22], 300 * MIB
    with open(path, "wb") as file:
        file.write(body)
        file.truncate(len(body) + hole)
        file.seek(len(body) + hole)
        if wide:
            file.write(zip64_end(hole, len(body), 3, len(body) + hole))
        at = 0xFFFFFFFF if wide else len(body)
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 3, 3, said, at, 0))
    assert_refused(capsys, str(path))


def test_pickled_weights_are_not_read(archive, capsys):
    """Else a pickle runs as code, or a model of a kind that is not handled passes as clean without a word."""
    path = archive([META, CONFIG, Entry("model.weights.npz", pickle.dumps({"a": 1}))])
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (0, "unsupported")
    _, _, err = run(capsys, "check", path)
    assert "npz" in err
    assert_strip_fails(capsys, path)


def test_deflated_archive_leaves_nothing_in_the_temporary_directory(archive, tmp_path, capsys, monkeypatch):
    """Else every check of a compressed model leaves its unpacked weights on the disk."""
    scratch = tmp_path.parent / f"{tmp_path.name}-scratch"
    scratch.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(scratch))
    path = archive([replace(entry, deflate=True) for entry in BASE])
    judge(capsys, path)
    assert_strips(capsys, path)
    assert_refused(capsys, archive([META, CONFIG, both(replace(WEIGHTS, deflate=True), crc=1)]), "unreadable")
    assert os.listdir(scratch) == []


def test_zip_that_holds_only_a_config_is_no_model(archive, capsys):
    """Else every zip with a config.json in it is complained about."""
    code, model = judge(capsys, archive([Entry("readme.txt", b"1"), Entry("config.json", b"{}")]))
    assert (code, model["verdict"], model["message"]) == (
        0,
        "not-a-model",
        "this is no TensorFlow or Keras model; name a model, a checkpoint by its prefix, or a folder",
    )


@pytest.mark.parametrize("deflate", [False, True], ids=["stored", "deflated"])
@pytest.mark.parametrize("place", range(4), ids=["metadata", "config", "weights", "asset"])
def test_bad_checksum_is_found_before_anything_is_written(place, deflate, archive, capsys):
    """Else a bit that rotted in the archive is copied into the result and called proven."""
    entries = [replace(entry, deflate=deflate) for entry in (*BASE, VOCABULARY)]
    crc = zlib.crc32(entries[place].data) ^ 1
    entries[place] = both(entries[place], crc=crc)
    path = archive(entries)
    code, model = judge(capsys, path)
    metadata_alone = place == 3 or (place == 2 and not deflate)
    assert (code, model["verdict"]) == ((1, "residue") if metadata_alone else (2, "unreadable"))
    assert "CRC" in assert_strip_fails(capsys, path)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(path).read(entries[place].name)


def test_check_reads_no_tensor_of_a_stored_model(archive, tmp_path, capsys):
    """Else checking a large model costs its size: here its tensors lie in a hole that was never read from disk."""
    path = archive(BASE)
    big = both(WEIGHTS, packed=len(WEIGHTS.data) + 3000 * MIB, size=len(WEIGHTS.data) + 3000 * MIB)
    head, tail = pack([META, CONFIG, big]), 22 + sum(46 + len(entry.name) for entry in BASE)
    with open(path, "wb") as file:
        file.write(head[:-tail])
        file.seek(3000 * MIB, os.SEEK_CUR)
        directory = bytearray(head[-tail:])
        directory[-6:-2] = struct.pack("<L", struct.unpack("<L", directory[-6:-2])[0] + 3000 * MIB)
        file.write(directory)
    start = time.process_time()
    code, model = judge(capsys, path)
    assert time.process_time() - start < 1
    assert (code, [found["rule"] for found in model["findings"]]) == (1, ["TFS101", "TFS201", "TFS301"])
    Path(path).unlink()
