"""A SavedModel as one asset of a release: whatever globs match of it, one archive, the same bytes everywhere."""

import hashlib
import json
import os
import tarfile
from pathlib import Path

import pytest
from action_run import run
from attaching import stored
from github_server import GitHub
from saved_made import Made, files
from test_pack import made as packed
from test_pack import work  # noqa: F401
from test_saved_place import OWN, made

import tfstrip_core

NAME = "export.tar.gz"
GLOBS = ["models/export", "models/export/", "**/saved_model.pb", "models/**", "models/*", "models/export/*"]


@pytest.fixture
def path(work: Path) -> str:  # noqa: F811
    """A model beside which the user keeps a file of his own."""
    (work / "models").mkdir()
    made(work / "models" / "export")
    (work / "models" / "export" / "labels.txt").write_text("mine")
    return "models/export"


@pytest.mark.parametrize("models", [*GLOBS, "\n".join(GLOBS)])
def test_any_glob_that_meets_it_makes_one_archive(models: str, path: str) -> None:
    """A directory, one of its files, all of them: one model, which unpacks into a folder of its name and is proven."""
    before = files(path)
    ((name, entry),) = packed(models=models).items()
    assert name == NAME
    assert sorted(os.listdir("dist")) == sorted([NAME, "manifest.json", "SHA256SUMS"])
    assert entry["sha256"] == hashlib.sha256(Path("dist", NAME).read_bytes()).hexdigest()
    assert {source["path"] for source in entry["sources"]} == {f"models/export/{file}" for file in before}
    assert files(path) == before
    with tarfile.open(f"dist/{NAME}") as archive:
        assert archive.getnames() == sorted(f"export/{file}" for file in OWN | {"assets/words.txt", "labels.txt"})
        archive.extractall("out", filter="data")
    assert tfstrip_core.inspect("out/export").verdict == "clean"
    assert tfstrip_core.verify(path, "out/export").equal


def test_two_runs_make_the_same_bytes(path: str) -> None:
    """Whatever times, modes and owners the files have, and whether git has left out an empty folder."""
    packed(models=path, output_dir="a")
    for number, file in enumerate(Path(path).rglob("*")):
        os.utime(file, (number, number))
        if file.is_file():
            file.chmod(0o600)
    Path(path, "empty").mkdir()
    packed(models="**/saved_model.pb", output_dir="b")
    for name in (NAME, "manifest.json", "SHA256SUMS"):
        assert Path("a", name).read_bytes() == Path("b", name).read_bytes()


def test_published_twice_it_is_there_already(path: str) -> None:
    """What is stored is the archive, and a second run of the job finds its digest and uploads nothing."""
    with GitHub() as hub:
        first = run(hub, ref="refs/tags/v1", models="models/**", tag="v1")
        assert first.code == 0, first.everything
        held = stored(hub)
        assert set(held) == {NAME, "manifest.json", "SHA256SUMS"}
        assert held[NAME] == Path("dist", NAME).read_bytes()
        (described,) = json.loads(first.outputs["artifacts"])
        assert (described["path"], described["source"], described["format"]) == (f"dist/{NAME}", path, "saved-model")
        second = run(hub, ref="refs/tags/v1", models="models/**", tag="v1")
        assert second.code == 0, second.everything
        assert "there already with the same digest" in second.stdout
        assert stored(hub) == held


def test_a_clean_model_and_a_graph_alone_are_packed_too(work: Path) -> None:  # noqa: F811
    """A directory is no asset, be it of one file."""
    tfstrip_core.strip(made(work / "source"), str(work / "clean"))
    alone = Made()
    del alone.objects.nodes[:], alone.objects.concrete_functions[:], alone.meta.graph_def.node[:]
    alone.meta.graph_def.node.add(name="x", op="Placeholder")
    alone.meta.graph_def.node.add(name="y", op="Identity", input=["x"])
    alone.meta.saver_def.Clear()
    (work / "alone").mkdir()
    (work / "alone" / "saved_model.pb").write_bytes(alone.message.SerializeToString())
    assert sorted(packed(models="clean\nalone")) == ["alone.tar.gz", "clean.tar.gz"]
    with tarfile.open("dist/alone.tar.gz") as archive:
        assert archive.getnames() == ["alone/saved_model.pb"]


def test_serving_concerns_it(path: str) -> None:
    """The Action's profile is strip's."""
    packed(models=path, profile="serving")
    with tarfile.open(f"dist/{NAME}") as archive:
        archive.extractall("out", filter="data")
    tfstrip_core.strip(path, "expected", profile="serving")
    assert files("out/export") == files("expected")


def test_a_model_that_holds_the_output_is_refused(work: Path) -> None:  # noqa: F811
    """A checkout whose top is the model: the artifacts would lie in it."""
    made(work / "top")
    for name in os.listdir("top"):
        os.rename(f"top/{name}", name)
    step = run(tag="", models="saved_model.pb")
    assert step.code == 2
    assert "output-dir: dist lies in the model .; move the model into a folder of its own" in step.stderr
    assert not Path("dist").exists()


def test_what_is_no_model_beside_it_is_still_an_error(path: str) -> None:
    """Only what lies in the model's own directory comes along; elsewhere a glob that is too wide is one."""
    Path("models/README.md").write_text("x")
    step = run(tag="", models="models/**")
    assert step.code == 2
    assert "models/README.md (this is no TensorFlow or Keras model" in step.stderr
