"""manifest.json: valid by its published schema for every kind of artifact, and the same for the same models."""

import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from action_run import COMMIT, run
from conftest import one
from jsonschema import Draft202012Validator, ValidationError
from saved_made import Made

import tfstrip_core
from tfstrip_core.errors import UsageError
from tfstrip_core.inventory import Artifact
from tfstrip_core.release import artifacts, manifest

ROOT = Path(__file__).parents[1]
CHECKPOINTS = ROOT / "tests" / "fixtures" / "data" / "checkpoints"
SCHEMA = json.loads((ROOT / "docs" / "manifest.schema.json").read_text())
CHECK = Draft202012Validator(SCHEMA)
FILES = {
    "a.keras": one("keras3.15.1", "sequential.keras"),
    "clean.keras": one("keras3.15.1", "sequential_uncompiled.keras"),
    "suspect.keras": one("keras3.15.1", "gan.keras"),
    "averages.keras": one("keras3.15.1", "ema_mid_fit.keras"),
    "b.h5": one("tf2.15", "sequential.h5"),
}


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with a model of every kind, the test standing in it."""
    folder = tmp_path / "work"
    (folder / "models").mkdir(parents=True)
    for name, model in FILES.items():
        shutil.copy(model.path, folder / "models" / name)
    shutil.copytree(CHECKPOINTS / "keras3.15.1" / "adam_batchnorm", folder / "models" / "objects")
    shutil.copytree(CHECKPOINTS / "keras3.15.1" / "graph_adam", folder / "models" / "names")
    shutil.copytree(CHECKPOINTS / "keras3.15.1" / "v1_adam", folder / "models" / "first")
    Made().write(folder / "models" / "export")
    monkeypatch.chdir(folder)
    return folder


def made(commit: str = COMMIT) -> list[Artifact]:
    """Strip all of them; return the artifacts."""
    jobs = artifacts.plan(artifacts.survey(["models"], "dist"), ema="apply")
    return list(artifacts.make(jobs, "dist", commit=commit).artifacts)


def test_an_artifact_in_parts_says_so(work: Path) -> None:
    """Names, sizes and digests of the parts, and the line that joins them, as the schema has it."""
    jobs = artifacts.plan(artifacts.survey(["models/a.keras"], "dist"))
    artifacts.make(jobs, "dist", form=artifacts.Form(part_size=10_000))
    (entry,) = said()["artifacts"]
    CHECK.validate(said())
    assert set(entry) == dict(described(SCHEMA))["artifact"] - {"inside"}
    assert sum(part["bytes"] for part in entry["parts"]) == entry["bytes"]
    for part in entry["parts"]:
        assert Path("dist", part["path"]).stat().st_size == part["bytes"] <= 10_000
    del entry["parts"][1:]
    with pytest.raises(ValidationError):
        CHECK.validate({**said(), "artifacts": [entry]})


def said() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(Path("dist/manifest.json").read_text())
    return value


def described(schema: dict[str, Any]) -> Iterator[tuple[str, set[str]]]:
    """Yield each object of the schema by its place, with the keys that it describes."""
    for place, part in [("", schema), *SCHEMA["$defs"].items()]:
        yield place, set(part.get("properties", ()))


def test_the_schema_is_one() -> None:
    """By the rules of JSON Schema itself."""
    Draft202012Validator.check_schema(SCHEMA)


def test_every_kind_of_artifact_is_valid_and_every_key_described(work: Path) -> None:
    """Keras zip, HDF5, three forms of checkpoints, SavedModel; stripped, clean, averaged, with suspected state."""
    made()
    value = said()
    CHECK.validate(value)
    entries = {entry["path"]: entry for entry in value["artifacts"]}
    assert {entry["format"] for entry in entries.values()} == {
        "keras-zip", "keras-hdf5", "tf-checkpoint", "tf-checkpoint-names", "tf-checkpoint-v1", "saved-model",
    }  # fmt: skip
    assert (value["commit"], value["tool"]) == (COMMIT, f"tfstrip {tfstrip_core.__version__}")
    keys = dict(described(SCHEMA))
    assert set(value) == keys[""]
    for entry in entries.values():
        packed = {"inside"} if entry["path"].endswith(".tar.gz") else set()
        assert set(entry) == keys["artifact"] - {"parts", "join", "inside"} | packed
        for item in (*entry["findings"], *entry["removed"], *entry["kept"]):
            assert set(item) == keys["finding"]
    assert {item["rule"] for item in entries["a.keras"]["findings"]} == {"TFS101", "TFS201"}
    assert [item["rule"] for item in entries["clean.keras"]["findings"]] == ["TFS201"]
    assert entries["clean.keras"]["removed"] == []
    assert {item["rule"] for item in entries["suspect.keras"]["kept"]} == {"TFS107"}
    assert [path for path, entry in entries.items() if entry["weights"] == "averages"] == ["averages.keras"]


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("schema",), "tfstrip-manifest/2"),
        (("commit",), "HEAD"),
        (("artifacts", 0, "sha256"), "0"),
        (("artifacts", 0, "path"), "../a.keras"),
        (("artifacts", 0, "bytes"), 0),
        (("artifacts", 0, "weights"), "best"),
        (("artifacts", 0, "sources"), []),
        (("artifacts", 0, "proof"), {}),
        (("artifacts", 0, "removed"), [{"rule": "101", "subject": "", "bytes": 1}]),
    ],
    ids=lambda value: ".".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_the_schema_refuses_what_is_no_manifest(place: tuple[str | int, ...], value: object, work: Path) -> None:
    """A negative control for each thing that it promises."""
    made()
    document: Any = said()
    CHECK.validate(document)
    inner = document
    for key in place[:-1]:
        inner = inner[key]
    inner[place[-1]] = value
    assert not CHECK.is_valid(document)


def test_a_job_s_commit_is_named_and_nothing_that_is_none(work: Path) -> None:
    """GITHUB_SHA of the job; empty where it is no commit's name. Nothing of the time or of the machine."""
    assert run(models="models/a.keras", tag="").code == 0
    text = Path("dist/manifest.json").read_text()
    assert json.loads(text)["commit"] == COMMIT
    assert str(work) not in text
    assert not re.search(r"20\d\d-\d\d", text)
    for commit in ("", "main", COMMIT.upper(), COMMIT + "\n"):
        made(commit)
        CHECK.validate(said())
        assert said()["commit"] == ""


def test_what_is_read_back_is_what_was_written(work: Path) -> None:
    """loads() is the other way round, for every kind of artifact: names, sizes, digests, findings, proof."""
    before = made()
    text = Path("dist/manifest.json").read_bytes()
    commit, after = manifest.loads(text)
    assert commit == COMMIT
    assert manifest.dumps(after, commit).encode() == text
    facts = [
        [(item.name, item.sha256, item.sources, item.result.proof, item.result.averaged) for item in items]
        for items in (before, after)
    ]
    assert sorted(facts[0]) == sorted(facts[1])


def text(value: object) -> bytes:
    return (json.dumps(value, indent=1) + "\n").encode()


def reads(wrong: bytes) -> bool:
    """Whether it is read; if it is not, that is one sentence."""
    try:
        manifest.loads(wrong)
    except UsageError as error:
        return len(str(error).splitlines()) != 1
    return True


def test_nothing_but_a_manifest_of_this_version_is_read(work: Path) -> None:
    """Other keys, other types, other layouts, keys given twice, another version: one sentence, never a traceback."""
    made()
    good = Path("dist/manifest.json").read_bytes()
    assert manifest.loads(good)[1]
    value = json.loads(good)
    bad = [
        b"", b"{}", b"[]", b"null", b"\xff", b"[" * 100_000, good[:-1], good + b"\n", good.replace(b" ", b"  ", 1),
        good.replace(b'"commit"', b'"commit": "", "commit"', 1), good.replace(b'"tool"', b'"extra": 1, "tool"', 1),
        json.dumps(value).encode(),
    ]  # fmt: skip
    entry, anything = value["artifacts"][0], (None, -1, "x", [], {}, [1], 1.5, True, [{"rule": "TFS999"}])
    for key in value:
        bad += [text(value | {key: other}) for other in anything]
    for key in entry:
        others = [other for other in anything if other != "x" or key not in ("path", "source", "writer", "format")]
        bad += [text(value | {"artifacts": [entry | {key: other}]}) for other in others if other != entry[key]]
    accepted = [wrong for wrong in bad if reads(wrong)]
    # Lists may be empty, they say nothing then.
    assert {name for wrong in accepted for name in re.findall(rb'"(\w+)": \[\],?\n', wrong)} <= {
        b"artifacts", b"findings", b"kept", b"removed", b"sources",
    }  # fmt: skip
    assert all(b"[]" in wrong for wrong in accepted)
    assert accepted
    sizes = [key for key in entry if isinstance(entry[key], int)]
    assert len(sizes) == 3
    assert not any(reads(text(value | {"artifacts": [entry | {key: 1 << 63}]})) for key in sizes)
    older = good.replace(manifest.TOOL.encode(), b"tfstrip 0.0.9")
    with pytest.raises(UsageError, match=r"made by tfstrip 0\.0\.9"):
        manifest.loads(older)


@pytest.mark.skipif(os.environ.get("TFSTRIP_INSTALLED") != "1", reason="runs on the built wheel")
def test_the_schema_is_shipped() -> None:
    """The wheel holds it beside the module that writes manifests."""
    shipped = Path(manifest.__file__).with_name("manifest.schema.json")
    assert json.loads(shipped.read_text()) == SCHEMA
