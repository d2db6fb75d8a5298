"""What artifacts are called in a release, what its notes say of them, and artifacts in parts."""

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
from action_run import run
from attaching import attach, stored, two_files, writes
from conftest import one
from github_server import GitHub

from tfstrip_core import runner
from tfstrip_core.errors import UsageError
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
    """Nor one that only a run under way gives, which is said as what it is, nor one that is too long for a file."""
    with pytest.raises(UsageError, match="no such name") as told:
        names.asset_names({"a.keras": "a.keras"}, names.Naming(template, "v1"))
    assert ("being replaced" in str(told.value)) == ("tfstrip-old" in template)
    assert ("letter or digit" in str(told.value)) == ("tfstrip-old" not in template)


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


def test_parts_of_an_earlier_run_are_not_joined_with_these(hub: GitHub, tree: Path, tmp_path: Path) -> None:
    """A second run with bigger parts leaves the first one's in the release: the line passes them over."""
    assert run(hub, models="models/*.keras", tag="v1", max_part_size="5000").code == 0
    assert run(hub, models="models/*.keras", tag="v1", max_part_size="9000", on_existing="replace").code == 0
    download = tmp_path / "download"
    download.mkdir()
    for name, content in stored(hub).items():
        (download / name).write_bytes(content)
    assert len(list(download.glob("*.part-001-of-*"))) == 2
    (entry,) = json.loads((download / "manifest.json").read_bytes())["artifacts"]
    subprocess.run(["sh", "-euc", entry["join"]], cwd=download, capture_output=True, check=True)
    assert (download / "a.keras").read_bytes() == Path("dist/a.keras").read_bytes()


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
