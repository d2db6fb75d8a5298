"""A checkpoint as one asset of a release: an archive that is the same everywhere, and unpacks to what was proven."""

import hashlib
import json
import os
import shutil
import tarfile
from pathlib import Path

import pytest
from action_run import run
from checkpoint_fixtures import Checkpoint, one

import tfstrip_core
from tfstrip_core.release.pack import pack

SHARDED, NAMED, STATED = (
    one("tf1.15", "keras_tf1_optimizer"),
    one("tf1.15", "graph_adam"),
    one("tf2.15", "state_absolute"),
)
EMPTY = one("tf2.15", "prefix_empty")
every_kind = pytest.mark.parametrize("checkpoint", [SHARDED, NAMED, STATED], ids=["shards", "meta", "state"])


def put(checkpoint: Checkpoint, folder: Path) -> str:
    """Copy a checkpoint with its state file; return its prefix there."""
    folder.mkdir(parents=True)
    for file in checkpoint.files:
        shutil.copy(file, folder)
    return os.path.join(folder, os.path.basename(checkpoint.prefix))


@pytest.fixture
def work(tmp_path: Path, monkeypatch) -> Path:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def made(**inputs: str) -> dict:
    """Run the Action in this folder; return its manifest's artifacts by name."""
    step = run(tag="", **inputs)
    assert step.code == 0, step.everything
    manifest = json.loads(Path(inputs.get("output_dir", "dist"), "manifest.json").read_text())
    return {entry["path"]: entry for entry in manifest["artifacts"]}


def test_the_bytes_depend_on_names_and_contents_alone(tmp_path: Path) -> None:
    """Not on times, modes, owners, places, or the order in which the files are given."""
    packed = []
    for number, mode in enumerate((0o644, 0o600, 0o755)):
        prefix = put(SHARDED, tmp_path / str(number))
        files = sorted(str(path) for path in Path(prefix).parent.iterdir())
        for path in files:
            os.chmod(path, mode)
            os.utime(path, (number * 1e9, number * 1e9))
            if os.geteuid() == 0:
                os.chown(path, number, number)
        target = tmp_path / f"{number}.tar.gz"
        pack(files[::-1] if number else files, str(target), str(tmp_path / str(number)))
        packed.append(target.read_bytes())
    assert len(set(packed)) == 1
    with tarfile.open(tmp_path / "0.tar.gz") as archive:
        entries = archive.getmembers()
    assert [entry.name for entry in entries] == sorted(os.listdir(tmp_path / "0"))
    assert {(e.mtime, e.uid, e.gid, e.uname, e.gname, e.mode) for e in entries} == {(0, 0, 0, "", "", 0o644)}
    with pytest.raises(FileExistsError):
        pack([], str(tmp_path / "0.tar.gz"), str(tmp_path))


@every_kind
def test_the_asset_unpacks_to_the_proven_checkpoint(checkpoint, work: Path) -> None:
    """It passes check, equals its source, has a state file that names it, and the manifest says where it came from."""
    prefix = put(checkpoint, work / "models")
    base = os.path.basename(prefix)
    ((name, entry),) = made(models="models/*.index").items()
    assert name == f"{base}.tar.gz"
    assert sorted(os.listdir("dist")) == sorted([name, "manifest.json", "SHA256SUMS"])
    assert entry["sha256"] == hashlib.sha256(Path("dist", name).read_bytes()).hexdigest()
    assert entry["bytes"] == os.path.getsize(f"dist/{name}")
    sources = {source["path"]: source["sha256"] for source in entry["sources"]}
    files = [path for path in Path("models").iterdir() if path.name != "checkpoint"]
    assert sources == {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    with tarfile.open(f"dist/{name}") as archive:
        archive.extractall("out", filter="data")
    assert tfstrip_core.check(["out"]).exit_code == 0
    assert len(tfstrip_core.check(["out"]).inventories) == 1
    assert tfstrip_core.verify(f"models/{base}", f"out/{base}").equal
    assert [item.path for item in tfstrip_core.check(["out/checkpoint"]).inventories] == [f"out/{base}"]
    assert b'"/' not in Path("out/checkpoint").read_bytes()
    assert os.path.exists(f"out/{base}.meta") == (checkpoint is NAMED)


def test_two_runs_make_the_same_bytes(work: Path) -> None:
    """Whatever glob, folder and time: one prefix, some of its files, or the whole folder are the same model."""
    prefix = put(SHARDED, work / "models")
    for output, models in (
        ("a", "models/*"),
        ("b", "models/*.index"),
        ("c", "models/*.data-*"),
        ("d", "models/check*"),
    ):
        assert list(made(models=models, output_dir=output)) == ["model.ckpt.tar.gz"]
        for path in Path(prefix).parent.iterdir():
            os.utime(path, (ord(output), ord(output)))
    for output in "bcd":
        for name in os.listdir("a"):
            assert Path("a", name).read_bytes() == Path(output, name).read_bytes()
    assert str(work) not in Path("a/manifest.json").read_text()


def test_an_empty_prefix_is_called_after_its_folder(work: Path) -> None:
    put(EMPTY, work / "models" / "digits")
    (name,) = made(models="models/**/.index")
    assert name == "digits.tar.gz"
    with tarfile.open(f"dist/{name}") as archive:
        archive.extractall("out", filter="data")
    (inventory,) = tfstrip_core.check(["out"]).inventories
    assert inventory.verdict == "clean"
    assert tfstrip_core.verify("models/digits/.index", inventory.path).equal
