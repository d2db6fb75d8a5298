"""An odd but honest HDF5 file is the same model: stripped, proven, and byte for byte what it was."""

import io
import os
from dataclasses import replace
from pathlib import Path

import h5py
import independent
import numpy as np
import pytest
from conftest import one
from h5py import h5d, h5p
from hostile import WEIGHTS, assert_strips, edited, facts, judge, pack, run, unpacked

LEGACY, ARCHIVE = one("tf2.15", "sequential.h5"), one("keras3.15.1", "sequential.keras")
BOTH = pytest.mark.parametrize("model", [LEGACY, ARCHIVE], ids=["h5", "keras"])
STATE = ("optimizer", "optimizer_weights")


def is_state(name: str) -> bool:
    return name.split("/", maxsplit=1)[0] in STATE


def compact(item: h5py.Dataset) -> dict:
    create = h5p.create(h5p.DATASET_CREATE)
    create.set_layout(h5d.COMPACT)
    return {"dcpl": create}


def chunked(item: h5py.Dataset, **more) -> dict:
    return {"chunks": tuple(min(2, length) for length in item.shape), **more} if item.shape else {}


def as_type(dtype: object):
    def convert(item: h5py.Dataset) -> dict:
        value = item[()]
        return {"data": value.astype(dtype) if item.dtype.kind == "f" else value}

    return convert


FILES = {
    "userblock_512": {"userblock_size": 512},
    "userblock_4096": {"userblock_size": 4096},
    "userblock_256k": {"userblock_size": 1 << 18},
    "latest": {"libver": "latest"},
    "v108": {"libver": ("earliest", "v108")},
    "tracked_order": {"track_order": True, "groups": {"track_order": True}},
    "tracked_order_latest": {"track_order": True, "groups": {"track_order": True}, "libver": "latest"},
    "pages": {"fs_strategy": "page", "fs_page_size": 4096, "fs_persist": True},
    "small_metadata": {"meta_block_size": 512},
}
DATASETS = {
    "chunked": chunked,
    "gzip_shuffle": lambda item: chunked(item, compression="gzip", shuffle=True),
    "checksums": lambda item: chunked(item, fletcher32=True),
    "lzf": lambda item: chunked(item, compression="lzf"),
    "resizable": lambda item: {"maxshape": (None,) * len(item.shape)} if item.shape else {},
    "compact": compact,
    "times": lambda item: {"track_times": True},
    "big_endian": as_type(">f4"),
    "float16": as_type("f2"),
    "float64": as_type("f8"),
    "int8": as_type("i1"),
    "bool": as_type("?"),
    "complex": as_type("c8"),
}


def rewritten(model, folder: Path, **more) -> str:
    return edited(model, folder, lambda file, home: None, **more)


def assert_same_model(capsys, path: str) -> str:
    """Strip; assert with plain h5py that all but the optimizer is there as it was, and return the result."""
    code, model = judge(capsys, path)
    assert (code, [found["rule"] for found in model["findings"] if found["rule"] != "TFS201"]) == (1, ["TFS101"])
    result = assert_strips(capsys, path)
    kept = {name: value for name, value in independent.tensors(path).items() if not is_state(name)}
    assert kept
    assert independent.tensors(result) == kept
    attributes = {key: value for key, value in independent.attributes(path).items() if not is_state(key[0])}
    assert repr(independent.attributes(result)) == repr(attributes)
    assert independent.groups(result) == {name for name in independent.groups(path) if not is_state(name)}
    return result


@BOTH
@pytest.mark.parametrize("name", FILES)
def test_file_of_another_form(name, model, tmp_path, capsys):
    """Else a model that another version or option of HDF5 wrote is refused, or loses what makes it what it is."""
    assert_same_model(capsys, rewritten(model, tmp_path, **FILES[name]))


@BOTH
@pytest.mark.parametrize("name", DATASETS)
def test_datasets_of_another_form(name, model, tmp_path, capsys):
    """Else weights of another layout or type are refused, decoded, or compared as something that they are not."""
    path = rewritten(model, tmp_path, datasets=DATASETS[name])
    result = assert_same_model(capsys, path)
    before, after = forms(path), forms(result)
    assert after == {key: value for key, value in before.items() if not is_state(key)}


def forms(path: str) -> dict[str, tuple]:
    """Return layout, filters, type and limits of every dataset."""
    found = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            create = item.id.get_create_plist()
            filters = [create.get_filter(i)[:3] for i in range(create.get_nfilters())]
            found[name] = (create.get_layout(), filters, item.dtype.str, item.maxshape, item.chunks)

    with h5py.File(io.BytesIO(independent.weights(path)), "r") as file:
        file.visititems(visit)
    return found


@pytest.mark.parametrize("size", [512, 4096])
@pytest.mark.parametrize(
    "start",
    [b"MATLAB?", b"PK\3\4" + b"\0" * 40, b'{"modelTopology": 1}', b"    TFL3", b"\x08\x01\x12", b"\0" * 512,
     b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 1\n"],
    ids=["text", "zip", "tfjs", "tflite", "saved_model", "zeros", "lfs_pointer"],
)  # fmt: skip
def test_userblock_is_kept_and_hides_nothing(start, size, tmp_path, capsys):
    """Else residue hides behind the first bytes of some other format, or the user's own block is lost."""
    path = rewritten(LEGACY, tmp_path, userblock_size=size)
    block = (start + bytes(range(256)) * 16)[:size]
    with open(path, "r+b") as file:
        file.write(block)
    result = assert_same_model(capsys, path)
    assert Path(result).read_bytes()[:size] == block


def test_userblock_of_the_weights_in_an_archive_is_kept(tmp_path, capsys):
    """Else bytes that somebody put before the weights turn into zeros, and the proof does not see it."""
    path = rewritten(ARCHIVE, tmp_path, userblock_size=512)
    block = bytes(range(256)) * 2
    entries = unpacked(path)
    Path(path).write_bytes(pack([replace(e, data=block + e.data[512:]) if e.name == WEIGHTS else e for e in entries]))
    assert independent.weights(assert_same_model(capsys, path))[:512] == block


@BOTH
def test_user_data_beside_the_model_are_kept(model, tmp_path, capsys):
    """Else groups, datasets and attributes that users add to their models are lost or refused."""
    pair = np.dtype([("a", "<f4"), ("b", ">i2", (2,)), ("c", "S3")])

    def edit(file: h5py.File, home: h5py.Group) -> None:
        mine = file.create_group("notes of the user/deep\\er/äöü")
        mine["scalar"] = 1.5
        mine["nothing"] = np.zeros((0, 3), "f4")
        mine["half_nothing"] = np.zeros((4, 0, 2), "i2")
        mine["fixed_texts"] = np.array([b"one", b"two\0x"], "S5")
        mine["pairs"] = np.zeros(3, pair)
        mine["opaque"] = np.array([b"12345678"] * 2, "V8")
        mine["enum"] = np.array([0, 1], h5py.enum_dtype({"no": 0, "yes": 1}, "i1"))
        mine["odd_array"] = np.zeros(2, np.dtype(("f4", (2, 3))))
        mine.create_dataset("never_written", (100, 100), "f4")
        mine.create_dataset("filled", (10, 10), "f4", chunks=(5, 5), fillvalue=7)
        for item in (file, mine, mine["scalar"], home):
            item.attrs["array"] = np.arange(12, dtype=">f8").reshape(3, 4)
            item.attrs["pair"] = np.zeros((), pair)
            item.attrs["enum"] = np.array([0, 1], h5py.enum_dtype({"no": 0, "yes": 1}, "i1"))
            item.attrs["bool"] = True
            item.attrs["complex"] = 1j
            item.attrs["text"] = "äöü\n\x1b[2J"
            item.attrs["bytes"] = np.bytes_(b"fixed\xff")
            item.attrs["texts"] = ["a", "", "ccc"]
            item.attrs["empty"] = h5py.Empty("f4")
            item.attrs["empty_text"] = ""
            item.attrs["no_elements"] = np.zeros((0, 2))

    assert_same_model(capsys, edited(model, tmp_path, edit))


def test_order_of_links_is_kept(tmp_path, capsys):
    """Else a loader that goes by creation order reads the layers in another order."""
    path = edited(LEGACY, tmp_path, lambda file, home: None, track_order=True, groups={"track_order": True})
    with h5py.File(path, "r+") as file:
        for name in ("z", "a", "m"):
            file["model_weights"].create_group(name)
    result = assert_same_model(capsys, path)
    with h5py.File(path, "r") as before, h5py.File(result, "r") as after:
        assert list(after["model_weights"]) == list(before["model_weights"])
        assert list(after["model_weights"])[-3:] == ["z", "a", "m"]
        assert list(after) == [name for name in before if not is_state(name)]


@pytest.mark.parametrize("name", ["model.keras", "model.hd5f", "model", "model.h5.bak", "-model.h5", "optimizer"])
@BOTH
def test_name_of_the_file_says_nothing(model, name, tmp_path, capsys, monkeypatch):
    """Else residue hides behind an extension."""
    path = edited(model, tmp_path, lambda file, home: None, name=name)
    assert facts(judge(capsys, path)[1]) == facts(judge(capsys, model.path)[1])
    assert_same_model(capsys, path)


def with_deleted_state(model, folder: Path, kib: int, more: int = 0) -> tuple[str, bytes]:
    """Return a model from which the optimizer was deleted the way the recipe has it, and some of its bytes."""
    payload = np.random.default_rng(1).bytes(kib << 10)

    def fill(file: h5py.File, home: h5py.Group) -> None:
        state = file[next(name for name in STATE if name in file)]
        state["big"] = np.frombuffer(payload, "u1")
        home["behind"] = np.random.default_rng(2).integers(0, 255, (more or 4) << 10, "u1")

    path = edited(model, folder, fill)
    again = type(model)(path, model.writer, model.facts)
    edited(again, folder, lambda file, home: file.__delitem__(next(name for name in STATE if name in file)), name="new")
    os.replace(folder / "new", path)
    return path, payload[10_000:10_064]


@BOTH
def test_deleted_optimizer_is_found_and_its_bytes_are_gone(model, tmp_path, capsys):
    """Else the recipe that people copy, `del f["optimizer_weights"]`, ships the optimizer's bytes all the same."""
    path, needle = with_deleted_state(model, tmp_path, 200)
    assert needle in Path(path).read_bytes()
    code, found = judge(capsys, path)
    rules = {finding["rule"]: finding["bytes"] for finding in found["findings"]}
    assert (code, found["verdict"]) == (1, "residue")
    assert rules["TFS301"] > 190 << 10
    assert "TFS101" not in rules
    result = assert_strips(capsys, path)
    assert needle not in Path(result).read_bytes()
    assert os.path.getsize(path) - os.path.getsize(result) > 190 << 10


@BOTH
@pytest.mark.parametrize(("kib", "more", "fires"), [(50, 4, False), (90, 4, True), (90, 2000, False)])
def test_dead_space_counts_from_a_tenth_and_64_kib(kib, more, fires, model, tmp_path, capsys):
    """Else every file's slack is an error, or a file that is one third waste is none."""
    path, _ = with_deleted_state(model, tmp_path, kib, more)
    code, found = judge(capsys, path)
    assert ("TFS301" in [finding["rule"] for finding in found["findings"]], code) == (fires, int(fires))


def plain(folder: Path, name: str, **more) -> h5py.File:
    return h5py.File(folder / name, "w", **more)


def pandas_like(folder: Path) -> None:
    with plain(folder, "x") as file:
        file.attrs["CLASS"], file.attrs["TITLE"] = np.bytes_(b"GROUP"), h5py.Empty("S1")
        frame = file.create_group("df")
        frame.attrs["pandas_type"] = np.bytes_(b"frame")
        frame["block0_values"] = np.zeros((3, 2))
        frame.create_dataset("block1_values", (1,), h5py.vlen_dtype(np.uint8))
        frame["axis0"] = h5py.SoftLink("/df/block0_values")


def netcdf_like(folder: Path) -> None:
    with plain(folder, "x", track_order=True, libver="latest") as file:
        file["lat"], file["t"] = np.zeros(3), np.zeros((3, 2))
        file["lat"].make_scale("lat")
        file["t"].dims[0].attach_scale(file["lat"])
        file.create_group("group").create_dataset("names", (2,), h5py.string_dtype())


def matlab_like(folder: Path) -> None:
    with plain(folder, "x", userblock_size=512) as file:
        file.create_dataset("#refs#/a", (2,), h5py.ref_dtype)
        file["again"] = file["#refs#"]
    with open(folder / "x", "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file")


def linked(folder: Path) -> None:
    with plain(folder, "x") as file:
        file["elsewhere"], file["soft"] = h5py.ExternalLink("other.h5", "/"), h5py.SoftLink("/nowhere")
        file["cycle"] = file["/"]
        file["type"] = np.dtype("f4")
        file.create_dataset("huge", (1 << 40,), "f4", chunks=(1024,))
        file.create_group("a\nb").create_group("optimizer_weights")["x"] = 1
        file.create_group("optimizer_weights")["m"] = np.zeros(9)


def empty(folder: Path) -> None:
    plain(folder, "x").close()


@pytest.mark.parametrize("build", [pandas_like, netcdf_like, matlab_like, linked, empty])
def test_scientific_files_are_no_models_and_no_errors(build, tmp_path, capsys):
    """Else a repository of measurements cannot use the hook: HDF5 is mostly used for other things than models."""
    build(tmp_path)
    path = str(tmp_path / "x")
    code, model = judge(capsys, path)
    assert (code, model["verdict"], model["findings"]) == (0, "not-a-model", [])
    code, out, err = run(capsys, "check", path)
    assert (code, out, err) == (0, "no model found\n", "")
    assert run(capsys, "strip", path, "-o", str(tmp_path / "y"))[0] == 2
    assert os.listdir(tmp_path) == ["x"]


def test_windows_names_with_backslashes_are_kept(tmp_path, capsys):
    """Else models that Keras 2.13 to 2.15 wrote on Windows, with a backslash in `layers/dense`, cannot be handled."""

    def edit(file: h5py.File, home: h5py.Group) -> None:
        for name in list(home):
            file.move(f"layers/{name}", f"layers\\{name}")

    path = edited(one("tf2.15", "sequential.keras"), tmp_path, edit)
    result = assert_strips(capsys, path)
    assert any("\\" in name for name in independent.tensors(result))
