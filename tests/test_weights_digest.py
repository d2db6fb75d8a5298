"""The weights digest: one for one model, whatever the container, the order, and what a strip took out."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import checkpoint_fixtures
import h5py
import independent
import numpy as np
import pytest
from conftest import MODELS, one
from independent_checkpoint import Stored, name_of, tensors
from saved_model_fixtures import Models, models, stored_models

from tfstrip_core import Unreadable, cli, containers, strip, verify, weights_digest
from tfstrip_core.codecs import v1_table
from tfstrip_core.codecs.wire import put_varint
from tfstrip_core.discover import look

ROOT = Path(__file__).parent.parent
W = {"a": np.arange(12, dtype="<f4").reshape(3, 4), "b": np.array([1, -2, 3], "<f4"), "n": np.array(7, "<i8")}


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    return models(tmp_path_factory)


def expected(values: Mapping[str, np.ndarray]) -> str:
    """Return the digest as docs/weights-digest.md defines it."""
    each = {
        hashlib.sha256(f"{value.dtype.name}\n{list(value.shape)}\n".encode() + value.tobytes()).digest()
        for value in values.values()
    }
    return hashlib.sha256(b"".join(sorted(each))).hexdigest()


def write(path: Path, values: Mapping[str, np.ndarray], **how: object) -> str:
    """Write by-name weights, in this order, each in a layer of its own."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [name.encode() for name in values]
        for name, value in values.items():
            file.create_dataset(f"{name}/{name}:0", data=value, **(how if value.shape else {}))
            file[name].attrs["weight_names"] = [f"{name}:0".encode()]
    return str(path)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)
def test_a_strip_of_a_keras_file_keeps_the_digest(model, tmp_path: Path) -> None:
    """A tensor that counts before a strip and not after it, or the other way round, would tell of a change."""
    target = str(tmp_path / ("small.weights.json" if model.path.endswith(".json") else "small"))
    strip(model.path, target, ema="drop")
    assert weights_digest(model.path) == weights_digest(target) is not None


@checkpoint_fixtures.every_checkpoint
def test_a_strip_of_a_checkpoint_keeps_the_digest(checkpoint, tmp_path: Path) -> None:
    """The same for checkpoints, where roles come from graphs and names."""
    source = checkpoint.prefix + ".index" * checkpoint.prefix.endswith("/")
    strip(source, str(tmp_path / "small"), ema="drop")
    assert weights_digest(source) == weights_digest(str(tmp_path / "small")) is not None


@pytest.mark.parametrize("model", stored_models(), ids=lambda model: model.id)
def test_a_strip_of_a_saved_model_keeps_the_digest(model, stored: Models, tmp_path: Path) -> None:
    """The same for SavedModels, where duplicates and what no signature reads go too."""
    source = str(stored.stored(model.writer, model.scenario).directory)
    strip(source, str(tmp_path / "small"), ema="drop")
    assert weights_digest(source) == weights_digest(str(tmp_path / "small")) is not None


def test_two_containers_of_one_model_have_one_digest() -> None:
    """The example's .keras and .h5 name and order their tensors in different ways."""
    found = [weights_digest(str(ROOT / "examples/digits" / name)) for name in ("digits.keras", "digits.h5")]
    assert found[0] == found[1] is not None


def test_it_is_what_the_page_says(tmp_path: Path) -> None:
    """Dtype, shape and bytes of each tensor, sorted, by the definition alone."""
    assert weights_digest(write(tmp_path / "a.h5", W)) == expected(W)


def test_order_names_and_layout_do_not_matter(tmp_path: Path) -> None:
    """Formats differ in all of them: order, how often a variable is stored, byte order, chunks and compression."""
    there = weights_digest(write(tmp_path / "a.h5", W))
    assert weights_digest(write(tmp_path / "b.h5", dict(reversed(W.items())))) == there
    assert weights_digest(write(tmp_path / "c.h5", W | {"again": W["a"]})) == there
    turned = {name: value.astype(value.dtype.newbyteorder(">")) for name, value in W.items()}
    assert weights_digest(write(tmp_path / "d.h5", turned)) == there
    assert weights_digest(write(tmp_path / "e.h5", turned, chunks=True, compression="gzip")) == there


@pytest.mark.parametrize(
    "change",
    [
        {"b": np.frombuffer(bytes([W["b"].tobytes()[0] ^ 1]) + W["b"].tobytes()[1:], "<f4")},
        {"b": W["b"].view("<i4")},
        {"a": W["a"].reshape(4, 3)},
        {"n": W["n"].reshape(1)},
        {"more": np.zeros((0, 3), "<f4")},
    ],
    ids=["bit", "dtype", "shape", "scalar", "empty"],
)
def test_any_other_weight_is_another_digest(change: dict[str, np.ndarray], tmp_path: Path) -> None:
    """One bit, one dtype, one shape, one tensor more, even an empty one."""
    assert weights_digest(write(tmp_path / "a.h5", W)) != weights_digest(write(tmp_path / "b.h5", W | change))


def test_what_only_some_formats_hold_is_left_out_and_no_more(tmp_path: Path) -> None:
    """States of random generators do not count; integers of other shapes do, and so do strings never."""
    there = weights_digest(write(tmp_path / "a.h5", W))
    for state in (np.array([1, 2], "<u4"), np.array([1, 2], "<i8"), np.array([1, 2, 3], "<i8"), np.array([b"x", b"y"])):
        assert weights_digest(write(tmp_path / "b.h5", W | {"state": state})) == there
    for weight in (np.array([1, 2, 3, 4], "<i8"), np.array([1, 2], "<i4"), np.array([1, 2], "<f4")):
        assert weights_digest(write(tmp_path / "b.h5", W | {"state": weight})) != there


def test_a_model_without_weights_has_none(tmp_path: Path) -> None:
    """A digest of nothing would be equal for all models that hold none."""
    assert weights_digest(write(tmp_path / "a.h5", {})) is None


@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_the_first_format_of_checkpoints_gives_integers_of_their_size(size: int) -> None:
    """There they are varints, negative ones of ten bytes, and a block may end anywhere in one."""
    top = 1 << 8 * size - 1
    numbers = [0, 1, 5, top - 1, -1, -top, 3, 4, *([300, -300] if size > 1 else [])] * 3
    data = b"".join(put_varint(number & (1 << 64) - 1) for number in numbers)
    for cut in range(len(data)):
        read = b"".join(v1_table._integers(iter((data[:cut], data[cut:])), size))
        assert read == np.array(numbers, f"<i{size}").tobytes()


def test_a_partitioned_variable_is_one_tensor() -> None:
    """Its parts are put in the order of their places, whatever order the entry has them in."""
    seen = 0
    for checkpoint in (found for found in checkpoint_fixtures.ALL if found.kind != "v1"):
        cut = [key for key in checkpoint.keys if key.slices]
        parts = _whole(tensors(checkpoint.prefix)) if cut else {}
        for key in cut:
            container = containers.container(look(f"{checkpoint.prefix}.index").kind)
            with container.contents(checkpoint.prefix) as found:
                values = found["tensor", key.name].values
                assert values is not None
                assert b"".join(values()) == parts[key.name]
                seen += 1
    assert seen


def _whole(found: Mapping[bytes, Stored]) -> dict[str, bytes]:
    """Return the parts of each variable one behind the other: in the order of their keys, which is their places'."""
    whole: dict[str, bytes] = {}
    for key, part in sorted(found.items()):
        if key[:1] == b"\0":
            whole[name_of(key)] = whole.get(name_of(key), b"") + part.data
    return whole


def test_inspect_and_strip_tell_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In text and in JSON, and the result's is the source's."""
    source = one("keras3.15.1", "sequential.keras").path
    there = weights_digest(source)
    assert cli.main(["inspect", source]) == 0
    assert f"\n  weights digest: sha256 {there}\n" in capsys.readouterr().out
    assert cli.main(["inspect", "--json", source, str(tmp_path)]) == 0
    assert [model["weights_digest"] for model in json.loads(capsys.readouterr().out)["models"]] == [there, None]
    assert cli.main(["strip", source, "-o", str(tmp_path / "small"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["models"][0]["weights_digest"] == there
    assert verify(source, str(tmp_path / "small")).equal


def test_a_damaged_weight_has_no_digest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Inspect reads every weight now, so it must not call a damaged model fine, nor keep back what it holds."""
    source = one("keras3.15.1", "sequential.keras").path
    content = bytearray(Path(source).read_bytes())
    content[content.index(max(data for _, _, data in independent.tensors(source).values()))] ^= 1
    path = tmp_path / "damaged.keras"
    path.write_bytes(content)
    with pytest.raises(Unreadable, match="CRC-32"):
        weights_digest(str(path))
    assert cli.main(["inspect", "--json", str(path)]) == 2
    (told,) = json.loads(capsys.readouterr().out)["models"]
    assert told["verdict"] == "unreadable"
    assert told["weights_digest"] is None
    assert told["tensors"]


def test_the_page_holds_one_program() -> None:
    """What the tests with TensorFlow run is there to be run."""
    assert len(program().splitlines()) <= 15
    compile(program(), "docs", "exec")


def program() -> str:
    """Return the program of docs/weights-digest.md."""
    text = (ROOT / "docs/weights-digest.md").read_text()
    (found,) = re.findall(r"<!-- test: weights digest -->\n```python\n(.*?)```", text, re.DOTALL)
    return str(found)
