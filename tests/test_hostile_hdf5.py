"""An HDF5 file that could hurt a loader, or lead it elsewhere, is refused (odd but honest ones: test_odd_hdf5.py)."""

import json
import os
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from conftest import one
from h5py import h5a, h5d, h5g, h5p, h5s, h5t
from hostile import (
    MIB,
    WEIGHTS,
    assert_one_sentence,
    assert_refused,
    assert_strips,
    edited,
    in_child,
    judge,
    listing,
    pack,
    run,
    unpacked,
)

LEGACY, ARCHIVE = one("tf2.15", "sequential.h5"), one("keras3.15.1", "sequential.keras")
BOTH = pytest.mark.parametrize("model", [LEGACY, ARCHIVE], ids=["h5", "keras"])
ESCAPES = {"ansi": "\x1b[2J\x07", "newline": "a\nb", "return": "a\rb", "bidi": "a\u202eb"}


def soft_link(file: h5py.File, home: h5py.Group) -> None:
    home["evil"] = h5py.SoftLink(next(iter(home.values())).name)


def dangling_link(file: h5py.File, home: h5py.Group) -> None:
    home["evil"] = h5py.SoftLink("/nowhere")


def soft_link_at_root(file: h5py.File, home: h5py.Group) -> None:
    file["evil"] = h5py.SoftLink("/")


def external_link(file: h5py.File, home: h5py.Group) -> None:
    home["evil"] = h5py.ExternalLink("/etc/passwd", "/")


def external_link_beside(file: h5py.File, home: h5py.Group) -> None:
    home["evil"] = h5py.ExternalLink("other.h5", "/model_weights")


def external_storage(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (10,), "f4", external=[("/etc/passwd", 0, 40)])


def virtual_dataset(file: h5py.File, home: h5py.Group) -> None:
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource("other.h5", "x", (4,))
    home.create_virtual_dataset("evil", layout)


def references(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (2,), h5py.ref_dtype)[0] = file.ref


def region_references(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (2,), h5py.regionref_dtype)


def sequences(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (2,), h5py.vlen_dtype(np.int32))[0] = [1, 2]


def texts(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (2,), h5py.string_dtype())[0] = "text"


def sequences_in_compound(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (2,), np.dtype([("a", "f4"), ("b", h5py.vlen_dtype(np.int32))]))


def two_names_of_a_dataset(file: h5py.File, home: h5py.Group) -> None:
    found: list[str] = []
    home.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    home["again"] = home[found[0]]


def two_names_of_a_group(file: h5py.File, home: h5py.Group) -> None:
    home["again"] = next(iter(home.values()))


def weights_are_the_optimizer(file: h5py.File, home: h5py.Group) -> None:
    for name in ("optimizer", "optimizer_weights"):
        if name in file:
            home["shared"] = file[name]


def cycle(file: h5py.File, home: h5py.Group) -> None:
    home.create_group("loop")["back"] = home


def cycle_to_root(file: h5py.File, home: h5py.Group) -> None:
    home["loop"] = file["/"]


def name_that_is_not_utf8(file: h5py.File, home: h5py.Group) -> None:
    h5g.create(home.id, b"\xff\xfe")


def chunks_never_written(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (1 << 40,), "f4", chunks=(1024,))


def contiguous_never_written(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (1 << 38,), "f4")


def beyond_64_bits(file: h5py.File, home: h5py.Group) -> None:
    home.create_dataset("evil", (1 << 20, 1 << 20, 1 << 20), "f8", chunks=(1, 1, 1024))


def many_never_written(file: h5py.File, home: h5py.Group) -> None:
    for place in range(5):
        home.create_dataset(f"evil{place}", (4 * MIB,), "f4", chunks=(1024,))


def packed_zeros(file: h5py.File, home: h5py.Group) -> None:
    made = home.create_dataset("evil", (72 * MIB,), "i1", chunks=(4 * MIB,), compression="gzip")
    chunk = zlib.compress(bytes(4 * MIB))
    for place in range(18):
        made.id.write_direct_chunk((place * 4 * MIB,), chunk)


def chunk_beyond_shape(file: h5py.File, home: h5py.Group) -> None:
    made = home.create_dataset("evil", (10,), "i1", maxshape=(None,), chunks=(400 * MIB,), compression="gzip")
    packer = zlib.compressobj(1)
    made.id.write_direct_chunk((0,), b"".join(packer.compress(bytes(MIB)) for _ in range(400)) + packer.flush())


def nested(file: h5py.File, home: h5py.Group) -> None:
    for _ in range(200):
        home = home.create_group("g")


def named_type(file: h5py.File, home: h5py.Group) -> None:
    home["evil"] = np.dtype("f4")


def no_extent(file: h5py.File, home: h5py.Group) -> None:
    home["evil"] = h5py.Empty("f4")


ATTACKS = {
    made.__name__: made
    for made in (
        soft_link, dangling_link, soft_link_at_root, external_link, external_link_beside, external_storage,
        virtual_dataset, references, region_references, sequences, texts, sequences_in_compound,
        two_names_of_a_dataset, two_names_of_a_group, weights_are_the_optimizer, cycle, cycle_to_root,
        name_that_is_not_utf8, chunks_never_written, contiguous_never_written, beyond_64_bits, many_never_written,
        packed_zeros, chunk_beyond_shape, nested, named_type, no_extent,
    )
}  # fmt: skip


@BOTH
@pytest.mark.parametrize("name", ATTACKS)
def test_structure_that_no_framework_writes_is_refused(name, model, tmp_path, capsys):
    """Else the model reads other files, runs out of memory, or is another one than was proven."""
    assert_refused(capsys, edited(model, tmp_path, ATTACKS[name]))


@BOTH
@pytest.mark.parametrize("name", ESCAPES)
@pytest.mark.parametrize("kind", ["group", "dataset", "link"])
def test_names_cannot_write_to_the_terminal(kind, name, model, tmp_path, capsys):
    """Else a group's name clears the screen, forges a line of the report or hides what it is."""

    def edit(file: h5py.File, home: h5py.Group) -> None:
        text = ESCAPES[name]
        home[text] = {"group": np.dtype("f4"), "dataset": np.zeros(3), "link": h5py.SoftLink("/")}[kind]

    path = edited(model, tmp_path, edit)
    said = assert_refused(capsys, path)
    assert ascii(ESCAPES[name])[1:-1] in said
    for words in (["check", "--json"], ["check", "--output-format", "github"], ["inspect"]):
        _, out, err = run(capsys, *words, path)
        assert all(line.isprintable() for line in (out + err).splitlines())


def sequence() -> np.ndarray:
    """Return one sequence of numbers as h5py wants it for an attribute."""
    value = np.empty(1, "O")
    value[0] = np.arange(3, dtype=np.int32)
    return value


SEQUENCE = h5py.vlen_dtype(np.int32)
# What strip would have to copy and cannot: attributes that hold addresses of other bytes in the file.
ATTRIBUTES = {
    "reference": lambda item, file: item.attrs.create("evil", file.ref, dtype=h5py.ref_dtype),
    "references": lambda item, file: item.attrs.create("evil", np.array([file.ref] * 2, "O"), dtype=h5py.ref_dtype),
    "region": lambda item, file: h5a.create(item.id, b"evil", h5t.STD_REF_DSETREG, h5s.create_simple((1,))),
    "sequence": lambda item, file: item.attrs.create("evil", sequence(), dtype=SEQUENCE),
    "unwritten": lambda item, file: h5a.create(
        item.id, b"evil", h5t.py_create(SEQUENCE, logical=True), h5s.create_simple((2,))
    ),
    "in_compound": lambda item, file: h5a.create(
        item.id, b"evil", h5t.py_create(np.dtype([("a", h5py.ref_dtype)]), logical=True), h5s.create_simple((1,))
    ),
}


@BOTH
@pytest.mark.parametrize("place", ["root", "group", "dataset"])
def test_attribute_that_points_elsewhere_never_reaches_a_result(place, model, tmp_path):
    """Else the result holds an address of the old file, which leads to other bytes or crashes who follows it."""

    def edit(name: str):
        def apply(file: h5py.File, home: h5py.Group) -> None:
            found: list[h5py.Dataset] = []
            home.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
            ATTRIBUTES[name]({"root": file, "group": home, "dataset": found[0]}[place], file)

        return apply

    paths = [edited(model, tmp_path, edit(name), name=f"{name}.model") for name in ATTRIBUTES]
    before = listing(tmp_path)
    for path, (code, out, err) in zip(paths, in_child([["strip", path, "--in-place"] for path in paths]), strict=True):
        assert (code, out) == (2, ""), path
        assert_one_sentence(err, path)
        assert "'evil'" in err
    for path, (code, out, err) in zip(paths, in_child([["check", path] for path in paths]), strict=True):
        assert code in (1, 2), path
        assert "Traceback" not in out + err
    assert listing(tmp_path) == before


@BOTH
@pytest.mark.parametrize("place", ["root", "group"])
def test_name_of_an_attribute_that_is_not_utf8_is_refused(place, model, tmp_path):
    """Else a single damaged byte in an attribute's name is a traceback."""

    def edit(file: h5py.File, home: h5py.Group) -> None:
        item = {"root": file, "group": home}[place]
        h5a.create(item.id, b"\xff\xfe", h5t.IEEE_F32LE, h5s.create_simple((1,)))

    path = edited(model, tmp_path, edit)
    before = listing(tmp_path)
    ((checked, _, _), (code, out, err)) = in_child([["check", path], ["strip", path, "--in-place"]])
    assert checked in (1, 2)
    assert (code, out) == (2, "")
    assert_one_sentence(err, path)
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ["optimizer_weights", "model_weights"])
@pytest.mark.parametrize("kind", ["dataset", "soft_link", "named_type"])
def test_root_child_of_another_kind_is_refused(kind, name, tmp_path, capsys):
    """Else the state hides in a dataset of the group's name, or a crash shows a traceback."""

    def edit(file: h5py.File, home: h5py.Group) -> None:
        file.move(name, "model_weights/moved" if name != "model_weights" else "moved")
        file[name] = {"dataset": np.arange(6.0), "soft_link": h5py.SoftLink("/moved"), "named_type": np.dtype("f4")}[
            kind
        ]

    assert_refused(capsys, edited(LEGACY, tmp_path, edit))


def set_text(file: h5py.File, name: str, text: str) -> None:
    del file.attrs[name]
    file.attrs[name] = text


@pytest.mark.parametrize("name", ["model_config", "training_config"])
@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("[" * 100_000 + "]" * 100_000, "refused"),
        ('{"a":' * 300 + "1" + "}" * 300, "refused"),
        ('{"class_name": "A", "config": {}, "class_name": "B"}', "refused"),
        ("9" * 10_000, "unreadable"),
        ("{", "unreadable"),
        ("", "unreadable"),
    ],
    ids=["deep", "deep_objects", "duplicated_keys", "long_integer", "cut", "empty"],
)
def test_hostile_config_of_a_legacy_file(text, verdict, name, tmp_path, capsys):
    """Else a config that Keras cannot load, or loads another way, passes, or ends in a traceback."""
    assert_refused(capsys, edited(LEGACY, tmp_path, lambda file, _: set_text(file, name, text)), verdict)


def test_not_a_number_in_a_legacy_config_is_kept(tmp_path, capsys):
    """Else a model whose Masking layer masks NaN, which Keras writes as NaN, cannot be stripped."""
    config = one_config(LEGACY.path).replace('"units": 6', '"units": 6, "mask_value": NaN')
    assert "NaN" in config
    result = assert_strips(capsys, edited(LEGACY, tmp_path, lambda file, _: set_text(file, "model_config", config)))
    assert one_config(result) == config


def one_config(path: str) -> str:
    with h5py.File(path, "r") as file:
        return file.attrs["model_config"]


def test_texts_that_all_name_the_same_bytes_end_in_a_sentence(tmp_path):
    """Else 3,000 texts that are one heap object of 1 MiB end in a traceback or a crash where memory runs out."""

    def edit(file: h5py.File, home: h5py.Group) -> None:
        del file.attrs["keras_version"]
        file.attrs["keras_version"] = ["x" * (MIB - 3), *["y"] * 2999]

    path = edited(LEGACY, tmp_path, edit)
    raw = bytearray(Path(path).read_bytes())
    at = raw.find(struct.pack("<L", MIB - 3))
    assert at > 0
    for place in range(1, 3000):
        assert raw[at + 16 * place] == 1
        raw[at + 16 * place : at + 16 * place + 16] = raw[at : at + 16]
    Path(path).write_bytes(raw)
    for code, out, err in in_child([["check", path], ["strip", path, "--in-place"]], memory=900 * MIB):
        assert code == 2, out
        assert_one_sentence(err, path)
    assert Path(path).read_bytes() == raw
    assert os.listdir(tmp_path) == [os.path.basename(path)]


@BOTH
@pytest.mark.parametrize("wraps", [False, True], ids=["plain", "behind_a_size_that_wraps"])
def test_heap_without_end_is_no_endless_loop(wraps, model, tmp_path):
    """Else one bit in a heap, a free object of no size, hangs HDF5 (1.14 and 2.0) and with it the hook, for ever."""

    def endless(data: bytes) -> bytes:
        out, at = bytearray(data), data.index(b"GCOL\x01\0\0\0") + 16
        if wraps:  # HDF5 adds in 64 bits: an object of this size is an empty one, and the next one is the free one
            struct.pack_into("<QQQ", out, at + 8, 2**64 - 1, 0, 0)
            return bytes(out)
        while out[at : at + 2] != b"\0\0":
            at += 16 + (struct.unpack_from("<Q", out, at + 8)[0] + 7) // 8 * 8
        struct.pack_into("<Q", out, at + 8, 0)
        return bytes(out)

    path = edited(model, tmp_path, lambda file, home: None)
    if model is LEGACY:
        Path(path).write_bytes(endless(Path(path).read_bytes()))
    else:
        entries = unpacked(path)
        Path(path).write_bytes(pack([replace(e, data=endless(e.data)) if e.name == WEIGHTS else e for e in entries]))
    before = listing(tmp_path)
    (checked, *_), (code, out, err) = in_child([["check", path], ["strip", path, "--in-place"]], seconds=20)
    assert checked == (2 if model is LEGACY else 1)  # an archive's check has no need of the heap
    assert code == 2, out
    assert_one_sentence(err, path)
    assert listing(tmp_path) == before


def test_attribute_of_absurd_size_is_not_read(tmp_path, capsys):
    """Else one attribute of hundreds of MiB is read into memory at every check."""

    def edit(file: h5py.File, home: h5py.Group) -> None:
        del file.attrs["keras_version"]
        h5a.create(file.id, b"keras_version", h5t.IEEE_F64LE, h5s.create_simple((33 * MIB,)))

    path = edited(LEGACY, tmp_path, edit, libver="latest")
    code, model = judge(capsys, path)
    assert (code, model["verdict"]) == (2, "refused"), model["message"]


def test_chunked_state_of_a_compact_type_still_needs_no_plugin(tmp_path, capsys):
    """Else a dataset of a filter that is not installed is called proven though its values were never read."""

    def edit(file: h5py.File, home: h5py.Group) -> None:
        create = h5p.create(h5p.DATASET_CREATE)
        create.set_chunk((10,))
        create.set_filter(32_001, h5py.h5z.FLAG_OPTIONAL, (1, 2))
        made = h5d.create(home.id, b"packed", h5t.IEEE_F32LE, h5s.create_simple((10,)), create)
        made.write_direct_chunk((0,), b"whatever this decodes to")

    path = edited(LEGACY, tmp_path, edit)
    assert judge(capsys, path)[0] in (1, 2)
    before = Path(path).read_bytes()
    code, out, err = run(capsys, "strip", path, "--in-place")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert Path(path).read_bytes() == before
    assert os.listdir(tmp_path) == [os.path.basename(path)]
    assert json.loads(run(capsys, "strip", path, "--in-place", "--json")[1])["models"][0]["proof"] is None
