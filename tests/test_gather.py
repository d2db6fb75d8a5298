"""Publishing what earlier jobs made: one manifest over all of it, and nothing believed that comes along."""

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from action_run import COMMIT, Step, run
from attaching import stored
from conftest import one
from github_server import GitHub

from tfstrip_core.release import checksums

MODELS = {
    "a.keras": one("keras3.15.1", "sequential.keras"),
    "b.h5": one("tf2.15", "sequential.h5"),
    "c.keras": one("keras3.15.1", "gan.keras"),
}
SOURCES = "\n".join(f"models/{name}" for name in MODELS)


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with GitHub() as server:
        server.branches["main"] = COMMIT  # of which all that these jobs made is
        yield server
        assert server.unknown == []


@pytest.fixture(scope="module")
def stripped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A work tree with three models, and what three jobs made of them: parts/1 to parts/3."""
    work = tmp_path_factory.mktemp("gather") / "work"
    (work / "models").mkdir(parents=True)
    for name, model in MODELS.items():
        shutil.copy(model.path, work / "models" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(work)
        for number, name in enumerate(MODELS, 1):
            assert run(models=f"models/{name}", output_dir=f"parts/{number}").code == 0
        assert run(models="models/*", output_dir="whole").code == 0
    return work


@pytest.fixture
def work(stripped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The job that publishes: no models, what was downloaded, the test standing in it."""
    folder = tmp_path / "work"
    folder.mkdir()
    for name in ("parts", "whole"):
        shutil.copytree(stripped / name, folder / name)
    monkeypatch.chdir(folder)
    return folder


def refused(step: Step, *words: str) -> None:
    """Assert one sentence with these words, exit code 2, and nothing made."""
    assert step.code == 2
    assert len(step.stderr.splitlines()) == 1, step.stderr
    assert all(word in step.stderr for word in words), step.stderr
    assert not Path("dist").exists() or os.listdir("dist") == []


def entry(part: str) -> tuple[dict, dict]:
    """Return a part's manifest, and the one artifact in it."""
    value = json.loads(Path(part, "manifest.json").read_text())
    return value, value["artifacts"][0]


def call(artifact: dict, name: str) -> None:
    """Give an artifact another name, wherever its entry says it."""
    artifact["load"] = artifact["load"].replace(f'"{artifact["path"]}"', f'"{name}"')
    artifact["path"] = name


def write(part: str, value: dict) -> None:
    Path(part, "manifest.json").write_text(json.dumps(value, indent=1) + "\n")


def test_names_and_parts_are_of_the_job_that_publishes(work: Path, hub: GitHub) -> None:
    """As one job alone would have called and cut them; joined they are the files of the earlier jobs."""
    step = run(hub, artifacts="parts", models=SOURCES, tag="v1", asset_name="{stem}-{tag}{ext}", max_part_size="20000")
    assert step.code == 0, step.stdout + step.stderr
    held = stored(hub)
    for name in MODELS:
        whole, called = Path("whole", name).read_bytes(), "-v1.".join(name.split("."))
        parts = sorted(part for part in held if part.startswith(f"{called}.part-"))
        assert (called in held) == (len(whole) <= 20_000)
        assert b"".join(held[part] for part in parts or [called]) == whole
    assert any(".part-002-of-" in name for name in held)


def test_what_many_jobs_made_is_what_one_would_have_made(work: Path, hub: GitHub) -> None:
    """Every byte that is published, manifest.json and SHA256SUMS included; outputs and summary as of one job."""
    step = run(hub, artifacts="parts", models=SOURCES, tag="v1")
    assert step.code == 0, step.stdout + step.stderr
    assert not hub.releases[0].draft
    held = stored(hub)
    assert held == {path.name: path.read_bytes() for path in Path("whole").iterdir()}
    assert {path.name: path.read_bytes() for path in Path("dist").iterdir()} == held
    described = {item["path"]: item for item in json.loads(step.outputs["artifacts"])}
    assert {path: item["source"] for path, item in described.items()} == {
        f"dist/{name}": f"models/{name}" for name in MODELS
    }
    assert int(step.outputs["bytes-before"]) == sum(os.path.getsize(model.path) for model in MODELS.values())
    assert int(step.outputs["bytes-after"]) == sum(item["bytes_after"] for item in described.values())
    assert "TFS101 optimizer-state" in step.summary
    assert step.summary.count("TFS107") == 2
    for name in MODELS:
        assert checksums.sha256(f"dist/{name}") in step.summary
        assert os.stat(f"parts/{[*MODELS].index(name) + 1}/{name}").st_nlink == 1


def test_folders_can_be_named_one_by_one_and_the_release_left_out(work: Path) -> None:
    """One a line, the part itself or any folder above; a folder named twice counts once; without a tag no release."""
    step = run(artifacts="parts/1\nparts/2/\n\nparts/3\nparts/3", tag="")
    assert step.code == 0, step.stderr
    assert Path("dist/manifest.json").read_bytes() == Path("whole/manifest.json").read_bytes()
    again = run(artifacts="parts", tag="")
    assert again.code == 0
    assert again.outputs == step.outputs


def test_where_there_is_one_job_alone_its_files_lie_in_the_folder_itself(work: Path) -> None:
    """So download-artifact lays them where a pattern meets one artifact only."""
    step = run(artifacts="whole", models=SOURCES, tag="")
    assert step.code == 0, step.stderr
    assert sorted(os.listdir("dist")) == sorted(os.listdir("whole"))


@pytest.mark.parametrize(
    ("sources", "words"),
    [
        (SOURCES + "\nmodels/d.keras", ["models/d.keras", "were not stripped", "run all jobs again"]),
        ("models/a.keras\nmodels/b.h5", ["models/c.keras", "were not asked for"]),
    ],
)
def test_what_is_there_must_be_what_was_planned(sources: str, words: list[str], work: Path) -> None:
    """A job's artifacts that have expired or belong to something else never make half a release."""
    refused(run(artifacts="parts", models=sources, tag=""), *words)


@pytest.mark.parametrize(
    "name", ["../x.keras", "/etc/passwd", "deep/a.keras", "..", ".", "", "manifest.json", "sha256sums", "a b", "-\n"]
)
def test_a_manifest_names_nothing_but_assets(name: str, work: Path) -> None:
    """No path, no name that leads out, none that GitHub would change, none of ours: refused before anything is read."""
    value, artifact = entry("parts/1")
    call(artifact, name)
    write("parts/1", value)
    os.remove("parts/1/a.keras")
    Path("x.keras").write_text("x")
    refused(run(artifacts="parts", tag=""), "artifacts:" if name not in ("manifest.json", "sha256sums") else "attached")


@pytest.mark.parametrize("kind", ["digest", "size", "bytes", "absent", "link", "folder", "pipe"])
def test_a_file_is_what_its_manifest_says_or_nothing_is_published(kind: str, work: Path, hub: GitHub) -> None:
    """Another digest or size, other bytes, no file, a link, a folder, a pipe: it is named, GitHub not written to."""
    path = Path("parts/2/b.h5")
    value, artifact = entry("parts/2")
    if kind in ("digest", "size"):
        artifact["sha256" if kind == "digest" else "bytes"] = "0" * 64 if kind == "digest" else 1
        write("parts/2", value)
    elif kind == "bytes":
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    else:
        moved = path.rename(work / "elsewhere")
        if kind == "link":
            path.symlink_to(moved)
        elif kind == "folder":
            path.mkdir()
        elif kind == "pipe":
            os.mkfifo(path)
    refused(run(hub, artifacts="parts", tag="v1"), "parts/2/b.h5")
    assert hub.releases == []
    assert all(method == "GET" for method, _, _ in hub.requests)


def test_two_manifests_never_name_one_file(work: Path) -> None:
    """One name in two jobs, in any case, also where the bytes are the same; one model in two jobs; one entry twice."""
    shutil.copytree("parts/1", "parts/4")
    refused(run(artifacts="parts", tag=""), "parts/1/a.keras", "parts/4/a.keras", "both be attached")
    value, artifact = entry("parts/4")
    call(artifact, "A.keras")
    write("parts/4", value)
    os.rename("parts/4/a.keras", "parts/4/A.keras")
    refused(run(artifacts="parts", tag=""), "both be attached")
    call(artifact, "z.keras")
    write("parts/4", value)
    os.rename("parts/4/A.keras", "parts/4/z.keras")
    refused(run(artifacts="parts", tag=""), "models/a.keras was stripped in two jobs")
    shutil.rmtree("parts/4")
    value, artifact = entry("parts/1")
    value["artifacts"] *= 2
    write("parts/1", value)
    refused(run(artifacts="parts", tag=""), "a.keras", "twice")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"commit": "1" * 40}, ["is of commit 1111", COMMIT]),
        ({"commit": ""}, ["is of commit unknown"]),
        ({"tool": "tfstrip 99.0.0"}, ["made by tfstrip 99.0.0", "one version"]),
        ({"schema": "tfstrip-manifest/2"}, ["no manifest"]),
        ({"artifacts": None}, ["no manifest"]),
        ({"more": 1}, ["no manifest"]),
    ],
)
def test_only_manifests_of_this_run_s_commit_and_version_count(change: dict, words: list[str], work: Path) -> None:
    """What another run, another version or anybody else wrote is named and refused."""
    value, _ = entry("parts/1")
    write("parts/1", value | change)
    refused(run(artifacts="parts", tag=""), "parts/1/manifest.json", *words)


def test_manifests_of_nothing_publish_nothing(work: Path, hub: GitHub) -> None:
    """No job strips no model: a release without one is never made of such a folder."""
    value, _ = entry("parts/1")
    os.mkdir("none")
    write("none", value | {"artifacts": []})
    refused(run(hub, artifacts="none", tag="v1"), "name no artifact")
    assert hub.releases == []


def test_nothing_else_may_lie_there(work: Path) -> None:
    """A file that no manifest describes, beside one or in a folder without: named, not passed over."""
    Path("parts/1/more.keras").write_text("x")
    refused(run(artifacts="parts", tag=""), "parts/1/more.keras", "in no manifest")
    os.remove("parts/1/more.keras")
    (work / "parts" / "odd").mkdir()
    Path("parts/odd/x").write_text("x")
    refused(run(artifacts="parts", tag=""), "parts/odd/x", "no manifest.json beside it")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"artifacts": "none"}, ["no folder none"]),
        ({"artifacts": "empty"}, ["empty holds no manifest.json"]),
        ({"artifacts": "/tmp"}, ["/tmp is outside of the workspace"]),
        ({"artifacts": ".."}, ["outside of the workspace"]),
        ({"artifacts": "parts", "output_dir": "../out"}, ["outside of the workspace"]),
        ({"artifacts": "parts", "output_dir": "parts/1"}, ["parts/1 lies in parts"]),
        ({"artifacts": "parts", "ema": "drop"}, ["artifacts and ema exclude each other"]),
        ({"artifacts": "parts", "also": "x"}, ["artifacts and also exclude each other"]),
        ({"artifacts": "", "models": ""}, ["models is empty"]),
    ],
    ids=lambda value: "-".join(value.values()) if isinstance(value, dict) else "",
)
def test_a_mistake_in_the_inputs_is_one_sentence(inputs: dict[str, str], words: list[str], work: Path) -> None:
    """Each wrong input is named, exit code 2, nothing written."""
    (work / "empty").mkdir()
    before = sorted(work.rglob("*"))
    refused(run(tag="", **inputs), *words)
    assert sorted(work.rglob("*")) == before


def test_a_second_run_of_the_job_that_publishes_changes_nothing(work: Path, hub: GitHub) -> None:
    """Re-run alone, after a success or in mid-upload: one release with everything, each file once."""
    assert run(hub, artifacts="parts", models=SOURCES, tag="v1", draft="true").code == 0
    with hub.lock:
        hub.delete_asset(hub.releases[0], hub.releases[0].assets[0])  # as if the run had ended before it was sent
    shutil.rmtree("dist")
    assert run(hub, artifacts="parts", models=SOURCES, tag="v1").code == 0
    assert run(hub, artifacts="parts", models=SOURCES, tag="v1").code == 0
    assert [release.draft for release in hub.releases] == [False]
    assert set(stored(hub)) == {*MODELS, "manifest.json", "SHA256SUMS"}
