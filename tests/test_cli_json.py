"""The JSON contract: one object on stdout whatever happens, with every path in it and every key in each model."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
from conftest import one
from hostile import run as run_command

DIRTY = one("keras3.8.0", "sequential.keras")
CLEAN = one("keras3.8.0", "sequential_uncompiled.keras")
GAN = one("keras3.8.0", "gan.keras")
MID_FIT = one("keras3.8.0", "ema_mid_fit.keras")

MODEL: dict[str, type | tuple[type, ...]] = {
    "path": str, "format": str, "writer": str, "verdict": str, "message": str, "bytes": int, "tensor_bytes": int,
    "residue_bytes": int, "findings": list, "tensors": list,
}  # fmt: skip
FINDING = {"rule": str, "name": str, "subject": str, "bytes": int, "message": str}
TENSOR = {"name": str, "dtype": str, "shape": list, "bytes": int, "role": str}
STRIPPED = {"source": str, "target": str, "bytes_before": int, "bytes_after": int, "removed": list, "proof": dict}


@pytest.fixture
def run(tmp_path: Path, monkeypatch, capsys):
    """Return a function that runs the command in the test's directory: exit code, the object, stderr."""
    monkeypatch.chdir(tmp_path)

    def call(*words: str) -> tuple[int, dict[str, Any], str]:
        code, out, err = run_command(capsys, *words)
        assert out.isascii()
        document = json.loads(out)
        assert document["schema"] == "tfstrip/1"
        assert document["command"] == next((word for word in words if not word.startswith("-")), "")
        for model in document["models"]:
            assert_has(model, MODEL)
            for finding in model["findings"]:
                assert_has(finding, FINDING)
            for tensor in model["tensors"]:
                assert_has(tensor, TENSOR)
        return code, document, err

    return call


def assert_has(entry: dict[str, Any], keys: dict[str, Any]) -> None:
    """Assert that the keys are there and hold what they are to hold; more keys may be."""
    assert {name: type(entry[name]) for name in keys if not isinstance(entry[name], keys[name])} == {}


def paths(document: dict[str, Any]) -> list[str]:
    return [model["path"] for model in document["models"]]


def pointer(name: str) -> None:
    Path(name).write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 9\n")


def one_of_each(copy) -> dict[str, str]:
    """Write one file for each verdict to the working directory; return verdict -> name."""
    copy(DIRTY, "residue")
    copy(CLEAN, "clean")
    Path("not-a-model").write_text("text\n")
    pointer("pointer")
    Path("unsupported").write_bytes(b"\x1c\0\0\0TFL3" + bytes(600))
    Path("unreadable").write_bytes(Path(DIRTY.path).read_bytes()[:9000])
    copy(one("keras3.8.0", "sequential.h5"), "refused")
    with h5py.File("refused", "r+") as file:
        del file["optimizer_weights"]
        file["optimizer_weights"] = [1.0]
    return {name: name for name in os.listdir()}


@pytest.mark.parametrize("words", [["check", "--json"], ["check", "--output-format", "json"], ["inspect", "--json"]])
def test_every_verdict_has_every_key(words: list[str], run, copy) -> None:
    """A reader of the JSON needs no case for files that could not be read; the exit code is 2 and all are there."""
    names = one_of_each(copy)
    run("strip", "--json", str(copy(GAN, "gan")), "-o", "undecided")
    os.remove("gan")
    names["undecided"] = "undecided"
    code, document, _ = run(*words, *names, "absent")
    assert code == 2
    assert paths(document) == [*names, "absent"]
    verdicts = {model["path"]: model["verdict"] for model in document["models"]}
    assert verdicts == names | {"absent": "unreadable"}
    for model in document["models"]:
        readable = model["verdict"] in ("residue", "clean", "undecided")
        assert bool(model["tensors"]) is readable
        assert bool(model["message"]) is not readable
        assert (model["residue_bytes"] > 0) is (model["verdict"] == "residue")


def test_the_numbers_are_the_files(run, copy) -> None:
    """Sizes are what the file system and the tensors say, in bytes; each tensor has its finding's role."""
    copy(DIRTY, "m.keras")
    _, document, _ = run("inspect", "--json", "m.keras")
    (model,) = document["models"]
    assert model["bytes"] == os.path.getsize("m.keras")
    assert model["format"] == "keras-zip"
    assert model["writer"] == "Keras 3.8.0"
    assert model["tensor_bytes"] == sum(tensor["bytes"] for tensor in model["tensors"]) == 204 + 420
    assert model["residue_bytes"] == 420
    roles = {role: sum(t["bytes"] for t in model["tensors"] if t["role"] == role) for role in ("weight", "optimizer")}
    assert roles == {"weight": 204, "optimizer": 420}
    assert [(finding["rule"], finding["name"], finding["bytes"]) for finding in model["findings"]] == [
        ("TFS101", "optimizer-state", 420),
        ("TFS201", "training-config", 0),
    ]


def test_a_directory_is_walked(run, copy, tmp_path: Path) -> None:
    """Without .git, without following symlinks, in sorted order; what holds no model is an entry of its own."""
    for folder in ("d/b", "d/.git", "empty"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("d/c.keras", "d/b/a.keras", "d/.git/x.keras"):
        copy(DIRTY, name)
    Path("d/text").write_text("text\n")
    os.symlink("c.keras", "d/link.keras")
    os.symlink(".", "d/loop")
    code, document, err = run("check", "--json", "d", "empty")
    assert (code, err) == (1, "")
    found = {model["path"]: model["verdict"] for model in document["models"]}
    assert found == {"d/b/a.keras": "residue", "d/c.keras": "residue", "empty": "not-a-model"}


def test_a_name_that_is_no_text_comes_back_as_it_went_in(run, copy) -> None:
    """Bytes that are not UTF-8 travel as Python's surrogate escapes, so that a script can open the file."""
    for name in (os.fsdecode(b"caf\xe9"), "new\nline", "\x1b[31m", "日本"):
        copy(DIRTY, name)
        _, document, _ = run("check", "--json", name)
        assert paths(document) == [name]


@pytest.mark.parametrize("where", [("-o", "t"), ("--in-place",)], ids=["out", "in-place"])
def test_strip_says_what_went_and_what_was_proven(where: tuple[str, ...], run, copy) -> None:
    """Enough to write a release note from, and to check it against the files."""
    copy(DIRTY, "m")
    before = os.path.getsize("m")
    code, document, _ = run("strip", "--json", "m", *where)
    assert code == 0
    (model,) = document["models"]
    assert_has(model, STRIPPED)
    target = "t" if "-o" in where else "m"
    assert (model["path"], model["source"], model["target"]) == ("m", "m", target)
    assert (model["bytes_before"], model["bytes_after"]) == (before, os.path.getsize(target))
    assert sum(item["bytes"] for item in model["removed"] if item["rule"] == "TFS101") == 420
    assert model["proof"] == {"kept_tensors": 4, "kept_bytes": 204}
    assert model["verdict"] == "residue"  # the source's, as it was found


def test_a_strip_with_nothing_to_do_says_so(run, copy) -> None:
    """The same keys; nothing removed; before and after the same."""
    copy(CLEAN, "m")
    code, document, err = run("strip", "--json", "m", "--in-place")
    assert (code, err) == (0, "")
    (model,) = document["models"]
    assert model["removed"] == []
    assert model["bytes_before"] == model["bytes_after"] == os.path.getsize("m")
    assert model["proof"]["kept_tensors"] > 0


@pytest.mark.parametrize(
    "words",
    [
        ("absent", "-o", "t"), ("refused", "-o", "t"), ("unreadable", "--in-place"), ("not-a-model", "-o", "t"),
        ("pointer", "--in-place"), ("unsupported", "-o", "t"), ("residue",), ("residue", "-o", "t", "--in-place"),
        ("residue", "-o", "clean"), ("residue", "-o", "t", "--also", "x"), ("ema", "--in-place"),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_strip_that_did_not_happen_has_the_same_keys(words: tuple[str, ...], run, copy) -> None:
    """Exit 2, the path, why not; `proof` and `bytes_after` are null because there is no result."""
    one_of_each(copy)
    copy(MID_FIT, "ema")
    before = sorted(os.listdir())
    code, document, err = run("strip", "--json", *words)
    assert code == 2
    (model,) = document["models"]
    assert set(STRIPPED) <= set(model)
    assert (model["path"], model["source"]) == (words[0], words[0])
    assert (model["removed"], model["proof"], model["bytes_after"]) == ([], None, None)
    assert model["message"]
    assert model["message"] in err
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir()) == before


def test_verify_says_equal_and_every_difference(run, copy) -> None:
    """Both models are in it, and the verdict on the pair beside them."""
    copy(DIRTY, "m")
    run("strip", "--json", "m", "-o", "t")
    code, document, _ = run("verify", "--json", "m", "t")
    assert (code, document["equal"], document["differences"]) == (0, True, [])
    assert paths(document) == ["m", "t"]
    code, document, _ = run("verify", "--json", "t", "m")
    assert (code, document["equal"]) == (1, False)
    assert any("optimizer/vars/0" in difference for difference in document["differences"])
    assert paths(document) == ["t", "m"]


@pytest.mark.parametrize("pair", [("m", "absent"), ("absent", "m"), ("text", "m"), ("m", "p"), ("absent", "missing")])
def test_a_verify_that_cannot_compare_has_both_paths(pair: tuple[str, str], run, copy) -> None:
    """Exit 2 is not `equal`, whoever reads only the object."""
    copy(DIRTY, "m")
    Path("text").write_text("text\n")
    pointer("p")
    code, document, err = run("verify", "--json", *pair)
    assert code == 2
    assert paths(document) == list(pair)
    assert document["equal"] is False
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("check", "--json", "--nonsense", "m", "absent"), ["m", "absent"]),
        (("check", "--output-format", "json", "--nonsense", "m"), ["m"]),
        (("check", "--output-format=json", "--nonsense", "m"), ["m"]),
        (("check", "--json", "--output-format", "xml", "m"), ["m"]),
        (("inspect", "m", "--json", "--require-lfs", "absent"), ["m", "absent"]),
        (("strip", "m", "--ema", "x", "-o", "t", "--json"), ["m"]),
        (("strip", "m", "--json", "-o"), ["m"]),
        (("verify", "--json", "m"), ["m"]),
        (("check", "--json"), []),
    ],
    ids=" ".join,
)  # fmt: skip
def test_a_mistake_in_the_words_still_gives_the_object(words: tuple[str, ...], named: list[str], run, copy) -> None:
    """A pipeline that parses stdout gets its object with every path that was named, also where nothing was read."""
    copy(DIRTY, "m")
    before = sorted(os.listdir())
    code, document, err = run(*words)
    assert code == 2
    assert paths(document) == named
    assert len(err.splitlines()) == 1
    assert sorted(os.listdir()) == before


def test_a_file_called_json_is_no_wish_for_json(tmp_path: Path, monkeypatch, capsys) -> None:
    """Behind `--` it is a file: a mistake before it is told on stderr alone."""
    monkeypatch.chdir(tmp_path)
    code, out, err = run_command(capsys, "check", "--nonsense", "--", "--json")
    assert (code, out) == (2, "")
    assert "--nonsense" in err


def test_json_on_a_real_pipe_is_one_object_and_nothing_else(copy, tmp_path: Path) -> None:
    """What a script reads from the process, with the sentences on the other stream."""
    copy(DIRTY, "m")
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run(
        [sys.executable, "-m", "tfstrip_core", "strip", "m", "--in-place", "--json"],
        cwd=tmp_path, env=os.environ | {"PYTHONPATH": root}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout)["models"][0]["target"] == "m"
    assert "compile()" in done.stderr
