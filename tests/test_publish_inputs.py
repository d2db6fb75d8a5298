"""The inputs that say how a release is made: what is replaced, how files are called, notes, parts, tags, forks."""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from action_run import ROOT, run
from attaching import attach, stored, two_files, writes
from conftest import one
from github_server import Fault, GitHub

from tfstrip_core import runner
from tfstrip_core.errors import CannotPublish, UsageError
from tfstrip_core.inventory import Artifact
from tfstrip_core.release import artifacts, names, notes
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> list[Artifact]:
    """The artifact of a real model."""
    folder, before = tmp_path_factory.mktemp("made"), Path.cwd()
    os.chdir(folder)
    try:
        shutil.copy(KERAS.path, "a.keras")
        return list(artifacts.make(artifacts.plan(artifacts.survey(["a.keras"], "dist")), "dist").artifacts)
    finally:
        os.chdir(before)


def checked(folder: str, *words: str) -> str:
    """Run sha256sum --check there; give what it says if it is content."""
    done = subprocess.run(["sha256sum", "--check", *words], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


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


# asset-name.


@pytest.mark.parametrize(
    ("template", "name"),
    [
        ("{name}", "a.b.keras"),
        ("{stem}-{tag}{ext}", "a.b-v1.2-rc.1.keras"),
        ("{tag}_{name}", "v1.2-rc.1_a.b.keras"),
        ("{stem}.{sha256:8}{ext}", "a.b.01234567.keras"),
        ("{sha256:64}", "0123456789abcdef" * 4),
    ],
)
def test_a_template_makes_names(template: str, name: str) -> None:
    """Stem, extension, tag and digest where the author wants them; a tag's odd characters are dots."""
    assert names.Naming(template, "v1.2/rc.1".replace("/", "-")).name("a.b.keras", "0123456789abcdef" * 4) == name
    assert names.Naming("{tag}{ext}", "a/b").name("x.tar.gz", "0") == "a.b.tar.gz"


@pytest.mark.parametrize(
    "template",
    [
        "model.keras",
        "{path}/{name}",
        "../{name}",
        "{name.__class__}",
        "{name!r}",
        "{name:8}",
        "{sha256}",
        "{sha256:1}",
        "{sha256:99}",
        "{stem} {ext}",
        "{stem}\n::error::{ext}",
        "{{name}}",
        "{name",
        "{}{name}",
        "{NAME}",
        "",
    ],
)
def test_a_template_that_makes_no_name_is_refused(template: str) -> None:
    """Before anything is done; nothing of Python's own format strings works."""
    with pytest.raises(UsageError, match="asset-name"):
        names.Naming(template, "v1").check()


@pytest.mark.parametrize(
    "template", ["{name}.", ".{name}", "{name}.tfstrip-old", "{stem}..{ext}", "x" * 200 + "{name}"]
)
def test_a_name_that_github_would_change_is_refused(template: str) -> None:
    """Nor one that only a run under way gives, nor one that is too long for a file."""
    with pytest.raises(UsageError, match="no such name"):
        names.asset_names({"a.keras": "a.keras"}, names.Naming(template, "v1"))


def test_names_of_a_template_go_everywhere(hub: GitHub, tree: Path) -> None:
    """Assets, files, manifest, checksums and outputs have the new name; two models of one name live side by side."""
    (tree / "models" / "deep").mkdir()
    shutil.copy(one("keras3.15.1", "sequential_uncompiled.keras").path, "models/deep/a.keras")
    step = run(hub, ref="refs/tags/v1", models="models/**/*.keras", tag="v1", asset_name="{stem}-{tag}-{sha256:8}{ext}")
    assert step.code == 0, step.stderr
    described = json.loads(step.outputs["artifacts"])
    found = {os.path.basename(item["path"]) for item in described}
    assert found == {f"a-v1-{item['sha256'][:8]}.keras" for item in described}
    assert len(found) == 2
    assert set(stored(hub)) == {*found, "manifest.json", "SHA256SUMS"} == set(os.listdir("dist"))
    assert {entry["path"] for entry in json.loads(Path("dist/manifest.json").read_text())["artifacts"]} == found
    assert checked("dist", "SHA256SUMS").count(": OK") == 3


@pytest.mark.parametrize("template", ["model{ext}", "{sha256:8}{ext}"])
def test_names_of_a_template_that_collide_are_refused_before_github_changes(
    template: str, hub: GitHub, tree: Path
) -> None:
    """At once, or with digests when the models are there: the same bytes twice."""
    shutil.copy("models/a.keras", "models/b.keras")
    step = run(hub, ref="refs/tags/v1", models="models/*.keras", tag="v1", asset_name=template)
    assert step.code == 2
    assert "would both be attached" in step.stderr
    assert not Path("dist").exists() or os.listdir("dist") == []
    assert writes(hub) == []


def test_a_packed_model_keeps_its_name_inside(made: list[Artifact]) -> None:
    """What one restores after unpacking is not called by the template."""
    from tfstrip_core.reports import summary

    inventory = replace(made[0].result.inventory, format="tf-checkpoint")
    packed = replace(made[0], name="x-v1.tar.gz", inside="ckpt-2", result=replace(made[0].result, inventory=inventory))
    assert "ckpt&#45;2" in summary.published([packed]) or "ckpt-2" in summary.published([packed])


# notes.


def test_the_notes_tell_what_was_stripped(hub: GitHub, tree: Path) -> None:
    """In the release that is made, between our marks; a second run writes nothing."""
    assert run(hub, models="models/*.keras", tag="v1").code == 0
    (release,) = hub.releases
    body = str(release.body)
    assert body.startswith(notes.BEGIN)
    assert body.endswith(notes.END)
    digest = hashlib.sha256(stored(hub)["a.keras"]).hexdigest()
    assert re.search(rf"^\| `a\.keras` \|.*\| `{digest}` \|$", body, re.MULTILINE)
    before = len(writes(hub))
    assert run(hub, models="models/*.keras", tag="v1").code == 0
    assert len(writes(hub)) == before


def test_notes_false_leaves_the_body_alone(hub: GitHub, tree: Path) -> None:
    """Not a character is written."""
    hub.add_release("v1", draft=True, body="Mine.\r\n")
    assert run(hub, models="models/*.keras", tag="v1", notes="false").code == 0
    assert hub.releases[0].body == "Mine.\r\n"


@pytest.mark.parametrize(
    "body",
    [
        "",
        "Words.\r\n\r\nMore <!-- a comment --> words.\n",
        f"Before {notes.BEGIN} never ended",
        f"{notes.END} and {notes.BEGIN}",
        "\u6a21\u578b " * 1000,
    ],
)
def test_the_author_s_words_stay_to_the_letter(body: str, made: list[Artifact]) -> None:
    """Whatever they are, also halves of our marks; a second table takes the first one's place and nothing else's."""
    once = notes.merged(body, made)
    assert once.startswith(body)
    assert once.count(notes.table(made)) == 1
    moved = f"{once}\nadded below"
    other = [replace(made[0], name="b.keras")]
    again = notes.merged(moved, other)
    assert again == moved.replace(notes.table(made), notes.table(other))
    assert notes.merged(again, other) == again


def test_the_notes_fit_into_what_github_takes(hub: GitHub, files: list[str], made: list[Artifact]) -> None:
    """Of a thousand artifacts as many rows as there is room for; where there is none the words stay as they are."""
    many = tuple(replace(made[0], name=f"{number}-{'n' * 100}.keras") for number in range(1000))
    for words, rows in (("", 300), ("w" * 100_000, 50), ("\U0001f600" * 50_000, 50), ("w" * 124_990, 0)):
        body = notes.merged(words, many)
        assert len(body.encode("utf-16-le")) // 2 <= notes.LIMIT
        assert body.count("\n| `") >= rows
        assert body.startswith(words)
        assert ("And " in body and "more: see `manifest.json`" in body) == bool(rows)
    hub.add_release("v1", draft=True, body="w" * 124_990)
    said: list[str] = []
    attach(hub, files, tell=said.append, wishes=Wishes(described=many))
    assert hub.releases[0].body == "w" * 124_990
    assert any("notes are full" in line for line in said)


def test_what_an_author_writes_meanwhile_is_kept(hub: GitHub, files: list[str], made: list[Artifact]) -> None:
    """The body is read again before it is written."""
    release = hub.add_release("v1", draft=True, body="Old words.")
    upload = hub.upload

    def slow(*rest: Any) -> Any:
        release.body = "New words."
        return upload(*rest)

    hub.upload = slow  # type: ignore[method-assign]
    attach(hub, files, wishes=Wishes(described=tuple(made)))
    assert str(release.body).startswith(f"New words.\n\n{notes.BEGIN}")


def test_an_immutable_release_gets_its_notes(files: list[str], made: list[Artifact]) -> None:
    """They are the one thing that may still change; files are not touched."""
    with GitHub(immutable=True) as hub:
        hub.add_release("v1", assets={"a.bin": b"a" * 3000, "b.bin": b"b" * 70000}, immutable=True)
        attach(hub, files, wishes=Wishes(described=tuple(made)))
        assert notes.BEGIN in str(hub.releases[0].body)
        assert hub.releases[0].make_latest is None  # which release is the latest is its author's to say


# Parts.


def test_an_artifact_over_the_limit_goes_in_parts(hub: GitHub, tree: Path, tmp_path: Path) -> None:
    """Every asset is within the limit; what is downloaded is joined and checked by the line in notes and manifest."""
    step = run(hub, models="models/*.keras", tag="v1", max_part_size="5000")
    assert step.code == 0, step.stderr
    held = stored(hub)
    whole = Path("dist/a.keras").read_bytes()
    count = -(-len(whole) // 5000)
    parts = [f"a.keras.part-{number:03}-of-{count:03}" for number in range(1, count + 1)]
    assert set(held) == {*parts, "a.keras.sha256", "manifest.json", "SHA256SUMS"}
    assert [len(held[name]) for name in parts] == [5000] * (count - 1) + [len(whole) - 5000 * (count - 1)]
    listed = {line.split("  ")[1] for line in held["SHA256SUMS"].decode().splitlines()}
    assert listed == set(held) - {"SHA256SUMS"}
    checked("dist", "SHA256SUMS")
    (entry,) = json.loads(held["manifest.json"])["artifacts"]
    assert entry["sha256"] == hashlib.sha256(whole).hexdigest()
    assert [part["path"] for part in entry["parts"]] == parts
    assert all(hashlib.sha256(held[part["path"]]).hexdigest() == part["sha256"] for part in entry["parts"])
    assert [os.path.basename(path) for path in json.loads(step.outputs["artifacts"])[0]["parts"]] == parts
    assert f"`{entry['join']}`" in str(hub.releases[0].body)
    download = tmp_path / "download"
    download.mkdir()
    for name, content in held.items():
        (download / name).write_bytes(content)
    assert checked(str(download), "SHA256SUMS").count(": OK") == count + 2
    done = subprocess.run(["sh", "-euc", entry["join"]], cwd=download, capture_output=True, text=True, check=True)
    assert done.stdout == "a.keras: OK\n"
    assert (download / "a.keras").read_bytes() == whole


def test_what_fits_is_not_split(hub: GitHub, tree: Path) -> None:
    """Neither exactly at the limit, nor where there is no release."""
    assert run(models="models/*.keras", max_part_size="10").code == 0
    assert sorted(os.listdir("dist")) == ["SHA256SUMS", "a.keras", "manifest.json"]
    size = os.path.getsize("dist/a.keras")
    assert run(hub, models="models/*.keras", tag="v1", max_part_size=str(size)).code == 0
    assert set(stored(hub)) == {"SHA256SUMS", "a.keras", "manifest.json"}


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("0", "max-part-size"),
        ("-1", "max-part-size"),
        ("2GB", "MiB"),
        ("2GiB", "2 GiB or more"),
        ("1", "parts"),
        ("never", "or refuse"),
    ],
)
def test_a_part_size_that_cannot_be_is_one_sentence(value: str, words: str, hub: GitHub, tree: Path) -> None:
    """Also one that would make more parts than a release holds; nothing was sent."""
    step = run(hub, models="models/*.keras", tag="v1", max_part_size=value)
    assert step.code == 2
    assert words in step.stderr.splitlines()[-1]
    assert writes(hub) == []


def test_a_part_size_in_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes, KiB, MiB, GiB, or the word."""
    for value, size in (("7", 7), ("7KiB", 7168), ("7 MiB", 7 << 20), ("1GiB", 1 << 30), ("refuse", 0), ("", 5)):
        monkeypatch.setenv("INPUT_X", value)
        assert runner.size("x", 5, "refuse") == size


def test_a_model_that_is_called_like_a_part_is_refused(tree: Path) -> None:
    """Two files cannot have one name, whichever comes first."""
    for name in ("a.keras.part-001-of-003", "a.keras.sha256"):
        shutil.copy(HDF5.path, f"models/{name}")
        size = -(-os.path.getsize("models/a.keras") // 3)
        jobs = artifacts.plan(artifacts.survey(artifacts.match(["models/*"], "dist"), "dist"))
        for order in (jobs, jobs[::-1]):
            with pytest.raises(UsageError, match=r"another model's name|both be attached"):
                artifacts.make(order, "dist", form=artifacts.Form(part_size=size))
            assert os.listdir("dist") == []
        os.remove(f"models/{name}")


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
