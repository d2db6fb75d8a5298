"""The inputs that say how a release is made: what is replaced, what is marked, which tag, and who may not write."""

import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from action_run import ROOT, run
from attaching import attach, stored, two_files, writes
from conftest import one
from github_server import Fault, GitHub

from tfstrip_core import runner
from tfstrip_core.errors import CannotPublish
from tfstrip_core.release.github import Wishes

KERAS, HDF5 = one("keras3.15.1", "sequential.keras"), one("tf2.15", "sequential.h5")
OTHER = "f" * 40


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server
        assert server.unknown == []


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with a model, and the test standing in it."""
    work = tmp_path / "work"
    (work / "models").mkdir(parents=True)
    shutil.copy(KERAS.path, work / "models" / "a.keras")
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two small files to attach; nobody waits between tries."""
    return two_files(tmp_path, monkeypatch)


def test_every_input_is_described_and_has_the_default_that_the_door_has() -> None:
    """action.yml, the entry point and the README's table agree."""
    inputs = yaml.safe_load((ROOT / "action.yml").read_text())["inputs"]
    readme, door = (ROOT / "README.md").read_text(), (ROOT / "entrypoint.py").read_text()
    for name, about in inputs.items():
        assert f'"{name}"' in door
        row = re.search(rf"^\| `{name}` \| (.*?) \|", readme, re.MULTILINE)
        assert row, name
        default = about.get("default", "")
        if default and "${{" not in default:
            shown = "2 GiB - 1" if name == "max-part-size" else f"`{default}`"
            assert row[1] == shown


# on-existing.


@pytest.mark.parametrize("draft", [True, False], ids=["draft", "published"])
def test_replacing_keeps_what_is_not_ours(draft: bool, hub: GitHub, files: list[str]) -> None:
    """Other bytes under our names give way, the author's own stay; the old ones go last of all."""
    hub.add_release("v1", draft=draft, assets={"a.bin": b"old", "mine.txt": b"x"})
    attach(hub, files, wishes=Wishes(existing="replace"))
    assert stored(hub) == {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000, "mine.txt": b"x"}
    assert len(hub.releases[0].assets) == 3
    methods = [method for method, _ in writes(hub)]
    assert "DELETE" in methods
    assert "POST" not in methods[methods.index("DELETE") :]


def test_a_label_comes_back_with_its_file(hub: GitHub, files: list[str]) -> None:
    """A replacement that fails in its last step leaves the old file as its author had it."""
    release = hub.add_release("v1", assets={"a.bin": b"old"})
    release.assets[0].label = "The old one"
    hub.faults.append(Fault("PATCH", "/assets/", "status", status=422, skip=1))
    with pytest.raises(CannotPublish):
        attach(hub, files, wishes=Wishes(existing="replace"))
    assert [(asset.name, asset.label, asset.content) for asset in release.assets] == [("a.bin", "The old one", b"old")]


@pytest.mark.parametrize("content", [b"a" * 3000, b"other"], ids=["same", "other"])
def test_fail_stops_at_any_file_of_the_name(content: bytes, hub: GitHub, files: list[str]) -> None:
    """Even at one with the same bytes; nothing is written."""
    hub.add_release("v1", assets={"a.bin": content})
    with pytest.raises(CannotPublish, match=r"holds a a\.bin"):
        attach(hub, files, wishes=Wishes(existing="fail"))
    assert writes(hub) == []


def test_an_immutable_release_is_not_replaced_in(files: list[str]) -> None:
    """One clear sentence, nothing is tried; the same bytes are no reason to fail."""
    with GitHub(immutable=True) as hub:
        hub.add_release("v1", immutable=True, assets={"a.bin": b"old", "b.bin": b"b" * 70000})
        with pytest.raises(CannotPublish, match="published and immutable"):
            attach(hub, files, wishes=Wishes(existing="replace"))
        assert writes(hub) == []
        assert attach(hub, files[1:]).skipped == ("b.bin",)


def test_the_burnt_tag_of_an_immutable_release_is_told(files: list[str]) -> None:
    """It was deleted, and GitHub says so when the draft is to be published."""
    with GitHub(immutable=True) as hub:
        hub.burnt.add("v1")
        with pytest.raises(CannotPublish, match="another tag"):
            attach(hub, files)
        assert [release.draft for release in hub.releases] == [True]


def test_what_a_run_of_other_bytes_left_goes_and_what_others_left_stays_for_an_hour(
    hub: GitHub, files: list[str]
) -> None:
    """Names for the way of our files at once; of other files once nobody can be sending them; a last copy never."""
    left = {f"a.bin.tfstrip-{'0' * 16}": b"1", "c.bin": b"2", "c.bin.tfstrip-old": b"3", "d.bin.tfstrip-old": b"4"}
    hub.add_release("v1", assets=left)
    attach(hub, files)
    assert set(stored(hub)) == {"a.bin", "b.bin", "c.bin", "d.bin.tfstrip-old"}


# prerelease, and what is there.


@pytest.mark.parametrize("draft", [True, False])
def test_a_prerelease_is_one_from_its_first_moment(draft: bool, hub: GitHub, files: list[str]) -> None:
    """Also where it stays a draft; GitHub never makes it the latest."""
    attach(hub, files, wishes=Wishes(prerelease=True, draft=draft))
    (release,) = hub.releases
    assert (release.prerelease, release.draft) == (True, draft)


def test_a_published_release_stays_what_it_is(hub: GitHub, files: list[str]) -> None:
    """The mark is for what this job publishes; a draft that a person marked keeps its mark."""
    published, draft = hub.add_release("v1"), hub.add_release("v2", draft=True)
    draft.prerelease = True
    attach(hub, files, wishes=Wishes(prerelease=True))
    attach(hub, files, "v2")
    assert (published.prerelease, draft.prerelease, draft.draft) == (False, True, False)


# The tag, and what was checked out.


def test_a_tag_that_names_another_commit_is_refused_before_any_work(hub: GitHub, tree: Path) -> None:
    """Who downloads models of a tag takes them for those of its commit."""
    hub.tags["v1"] = OTHER
    step = run(hub, models="models/*.keras", tag="v1")
    assert step.code == 2
    assert f"tag v1 names commit {OTHER[:12]}" in step.stderr
    assert not Path("dist").exists()
    assert writes(hub) == []


def test_a_tag_that_moves_meanwhile_is_refused(hub: GitHub, files: list[str]) -> None:
    """It is looked at again before anything is created."""
    hub.tags["v1"] = hub.branches["main"]
    hub.faults.append(Fault("GET", "/git/ref/", "status", status=503))
    take = hub.take_fault

    def move(method: str, path: str) -> Any:
        found = take(method, path)
        if "/git/ref/" in path and found is None:
            hub.tags["v1"] = OTHER if moved else hub.tags["v1"]
            moved.append(path)
        return found

    moved: list[str] = []
    hub.take_fault = move  # type: ignore[method-assign]
    with pytest.raises(CannotPublish, match="names commit"):
        attach(hub, files)
    assert hub.releases == []


def test_a_tag_that_another_commit_gets_while_files_are_sent_is_not_published(hub: GitHub, files: list[str]) -> None:
    """Sending takes hours: what is complete then stays a draft, and says why."""
    take = hub.take_fault

    def push(method: str, path: str) -> Any:
        if method == "POST" and "/assets" in path:
            hub.tags["v1"] = OTHER
        return take(method, path)

    hub.take_fault = push  # type: ignore[method-assign]
    with pytest.raises(CannotPublish, match="names commit"):
        attach(hub, files)
    assert [release.draft for release in hub.releases] == [True]


@pytest.mark.parametrize("draft", [False, True], ids=["published", "left a draft"])
def test_a_draft_of_an_earlier_commit_does_not_tag_it(draft: bool, hub: GitHub, files: list[str]) -> None:
    """A run at one commit broke off, the next at another completes its draft: the tag is of the models' commit."""
    before = hub.add_release("v1", draft=True)
    before.target_commitish = hub.branches["main"]
    hub.branches["main"] = OTHER
    attach(hub, files, wishes=Wishes(draft=draft))
    (release,) = hub.releases
    assert release.target_commitish == OTHER
    assert hub.tags == ({} if draft else {"v1": OTHER})


def test_a_draft_of_a_tag_that_is_there_is_moved_nowhere(hub: GitHub, files: list[str]) -> None:
    """Its tag says which commit it is of: what its author wrote stays."""
    hub.tags["v1"] = hub.branches["main"]
    hub.add_release("v1", draft=True)
    attach(hub, files)
    assert [release.target_commitish for release in hub.releases] == ["main"]


def test_an_annotated_tag_names_its_commit(hub: GitHub, files: list[str]) -> None:
    """The tag object is asked what it names."""
    hub.tags["v1"], hub.annotated["e" * 40] = "e" * 40, hub.branches["main"]
    attach(hub, files)
    hub.tags["v2"], hub.annotated["d" * 40], hub.annotated["a" * 40] = "d" * 40, "a" * 40, OTHER
    with pytest.raises(CannotPublish, match="names commit"):
        attach(hub, files, "v2")


@pytest.mark.parametrize("packed", [False, True])
def test_what_is_checked_out_counts_as_well(packed: bool, hub: GitHub, tree: Path) -> None:
    """A job of a branch that checks out the tag: its commit is that of the work tree."""
    hub.tags["v1"] = OTHER
    Path(".git/refs/heads").mkdir(parents=True)
    Path(".git/HEAD").write_text(f"{OTHER}\n" if packed else "ref: refs/heads/x\n")
    Path(".git/refs/heads/x").write_text(f"{OTHER}\n")
    assert run(hub, models="models/*.keras", tag="v1").code == 0
    assert hub.releases[0].target_commitish == "main"


def test_models_of_another_commit_than_the_tags_are_not_published(hub: GitHub, tree: Path) -> None:
    """A job of the tag that checks out a branch would ship what nobody tagged; a new tag names what is checked out."""
    hub.tags["v1"] = hub.branches["main"]
    Path(".git").mkdir()
    Path(".git/HEAD").write_text(f"{OTHER}\n")
    step = run(hub, models="models/*.keras", tag="v1")
    assert step.code == 2
    assert f"names commit {hub.branches['main'][:12]}, and these models are of {OTHER[:12]}" in step.stderr
    assert hub.releases == []
    hub.branches["release"] = OTHER
    assert run(hub, models="models/*.keras", tag="v2").code == 0
    assert hub.tags["v2"] == OTHER
    assert json.loads(Path("dist/manifest.json").read_text())["commit"] == OTHER


@pytest.mark.parametrize("head", ["", "ref: ../../x\n", "ref: refs/heads/../../HEAD\n", "zz", "\xff" * 5000])
def test_a_work_tree_that_says_nothing_of_its_commit(head: str, tree: Path) -> None:
    """No git, or nothing that could be a commit."""
    Path(".git").mkdir()
    Path(".git/HEAD").write_text(head, encoding="latin-1")
    assert runner.checkout() == ""


# Where the job may not write.


def event(folder: Path, repository: str | None) -> dict[str, str]:
    path = folder / "event.json"
    repo = None if repository is None else {"full_name": repository}
    path.write_text(json.dumps({"pull_request": {"head": {"repo": repo}}}))
    return {"GITHUB_EVENT_NAME": "pull_request", "GITHUB_EVENT_PATH": str(path)}


@pytest.mark.parametrize("repository", ["somebody/models", None])
def test_a_pull_request_from_a_fork_is_proven_and_not_attached(repository: str | None, hub: GitHub, tree: Path) -> None:
    """Green, with a notice; GitHub is not asked. A fork that was deleted is one too."""
    step = run(hub, models="models/*.keras", tag="v1", environment=event(tree.parent, repository))
    assert step.code == 0, step.stderr
    assert step.stdout.count("::notice title=tfstrip::a pull request from another repository") == 1
    assert step.outputs["release-url"] == ""
    assert Path("dist/a.keras").exists()
    assert hub.requests == []


def test_a_pull_request_of_the_repository_itself_is_attached(hub: GitHub, tree: Path) -> None:
    """Its token can write."""
    assert run(hub, models="models/*.keras", tag="v1", environment=event(tree.parent, "acme/models")).code == 0
    assert set(stored(hub)) == {"a.keras", "manifest.json", "SHA256SUMS"}


@pytest.mark.parametrize("variable", ["GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"])
def test_outputs_that_cannot_be_written_stop_the_job_before_anything_is_published(
    variable: str, hub: GitHub, tree: Path
) -> None:
    """The step's outputs are what the next step attests."""
    step = run(hub, models="models/*.keras", tag="v1", environment={variable: str(tree / "models")})
    assert step.code == 2
    assert f"{variable} cannot be written" in step.stderr
    assert hub.requests == []


def test_a_server_of_one_s_own_is_found_by_its_address(hub: GitHub, tree: Path) -> None:
    """GITHUB_API_URL leads to it, with a slash at its end too; uploads go where it says."""
    step = run(hub, models="models/*.keras", tag="v1", environment={"GITHUB_API_URL": f"{hub.url}/"})
    assert step.code == 0, step.stderr
    assert all(path.startswith(("/api/v3/", "/api/uploads/")) for _, path, _ in hub.requests)


def test_the_checksums_are_of_what_is_published(hub: GitHub, tree: Path) -> None:
    """After the last rename: base names and digests of all assets but the list itself, as attestations want them."""
    hub.add_release("v1", assets={"a.keras": b"old", "SHA256SUMS": b"old", "manifest.json": b"old"})
    hub.tags["v1"] = hub.branches["main"]
    step = run(hub, models="models/*.keras", tag="v1", on_existing="replace")
    assert step.code == 0, step.stderr
    held = stored(hub)
    listed = dict(reversed(line.split("  ")) for line in Path(step.outputs["checksums-file"]).read_text().splitlines())
    assert listed == {name: hashlib.sha256(held[name]).hexdigest() for name in held if name != "SHA256SUMS"}
    assert Path(step.outputs["checksums-file"]).read_bytes() == held["SHA256SUMS"]
