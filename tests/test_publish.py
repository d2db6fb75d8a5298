"""Attaching artifacts to a release, against a server that is as strict as GitHub."""

import hashlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from action_run import run
from attaching import attach, stored, two_files, writes
from conftest import one
from github_server import Fault, GitHub

from tfstrip_core.errors import CannotPublish, UsageError
from tfstrip_core.release import retries

KERAS, CLEAN = one("keras3.15.1", "sequential.keras"), one("keras3.15.1", "sequential_uncompiled.keras")
EXPECTED = {"a.keras", "clean.keras", "manifest.json", "SHA256SUMS"}


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server
        assert server.unknown == []


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with a model to strip and a clean one, and the test standing in it."""
    work = tmp_path / "work"
    (work / "models").mkdir(parents=True)
    shutil.copy(KERAS.path, work / "models" / "a.keras")
    shutil.copy(CLEAN.path, work / "models" / "clean.keras")
    monkeypatch.chdir(work)
    return work


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Two small files to attach; nobody waits between tries."""
    return two_files(tmp_path, monkeypatch)


# The whole way: inputs to release.


def test_a_pushed_tag_becomes_a_release_with_the_right_bytes(hub: GitHub, tree: Path) -> None:
    """Created as a draft, filled, compared, published last; outputs and summary agree with what is stored."""
    step = run(hub, ref="refs/tags/v1", models="models/*.keras", tag="v1")
    assert step.code == 0, step.stdout + step.stderr
    (release,) = hub.releases
    assert (release.tag_name, release.draft, release.make_latest) == ("v1", False, "legacy")
    held = stored(hub)
    assert set(held) == EXPECTED
    for name, content in held.items():
        assert Path("dist", name).read_bytes() == content
    for line in held["SHA256SUMS"].decode().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256(held[name]).hexdigest() == digest
    described = json.loads(step.outputs["artifacts"])
    assert {item["path"]: item["sha256"] for item in described} == {
        f"dist/{name}": hashlib.sha256(held[name]).hexdigest() for name in ("a.keras", "clean.keras")
    }
    assert step.outputs["release-url"].endswith("/v1")
    assert step.outputs["checksums-file"] == "dist/SHA256SUMS"
    assert step.outputs["manifest"] == "dist/manifest.json"
    assert int(step.outputs["bytes-before"]) == sum(path.stat().st_size for path in Path("models").iterdir())
    assert int(step.outputs["bytes-after"]) == sum(len(held[name]) for name in ("a.keras", "clean.keras"))
    assert "```mermaid" in step.summary
    assert all(item["sha256"] in step.summary for item in described)
    assert writes(hub)[0] == ("POST", "releases")
    assert writes(hub)[-1][0] == "PATCH"
    assert hub.token not in step.everything


def test_a_tag_that_does_not_exist_is_made_at_the_job_s_commit(hub: GitHub, tree: Path) -> None:
    """workflow_dispatch with a new tag: the release's tag names what was checked out."""
    hub.tags["v0"] = "1" * 40
    assert run(hub, models="models/*.keras", tag="v1").code == 0
    assert hub.releases[0].target_commitish == hub.branches["main"]


def test_a_second_run_changes_nothing(hub: GitHub, tree: Path) -> None:
    """Everything is there with the same digest: skipped, no write at all."""
    assert run(hub, models="models/*.keras", tag="v1").code == 0
    before = len(writes(hub))
    step = run(hub, models="models/*.keras", tag="v1")
    assert step.code == 0, step.stderr
    assert len(writes(hub)) == before
    assert step.stdout.count("there already") == len(EXPECTED)


def test_a_draft_stays_a_draft_when_asked(hub: GitHub, tree: Path) -> None:
    """The input draft leaves publishing to a person, and the next run finds the draft and publishes it."""
    assert run(hub, models="models/*.keras", tag="v1", draft="true").code == 0
    assert [release.draft for release in hub.releases] == [True]
    assert run(hub, models="models/*.keras", tag="v1").code == 0
    assert [release.draft for release in hub.releases] == [False]
    assert set(stored(hub)) == EXPECTED


def test_an_author_s_draft_keeps_its_words(hub: GitHub, tree: Path) -> None:
    """A draft with name, notes and the prerelease mark is filled and published as it was written."""
    draft = hub.add_release("v1", draft=True, name="One", body="Notes.\n", assets={"readme.txt": b"mine"})
    draft.prerelease = True
    assert run(hub, models="models/*.keras", tag="v1").code == 0
    (release,) = hub.releases
    assert (release.name, release.prerelease, release.draft) == ("One", True, False)
    assert release.body.startswith("Notes.\n\n\n<!-- tfstrip:")
    assert set(stored(hub)) == {"readme.txt", *EXPECTED}


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"tag": "refs/tags/v1"}, ["refs/tags/v1", "short name, v1"]),
        ({"tag": "v 1"}, ["v 1"]),
        ({"tag": "main"}, ["'main'", "branch"]),
        ({"tag": "v1", "token": ""}, ["token is empty"]),
        ({"tag": "v1", "draft": "perhaps"}, ["draft", "perhaps"]),
        ({"tag": "v1", "prove": "running"}, ["prove", "outputs"]),
        ({"tag": "v1", "models": "none/*.keras"}, ["none/*.keras"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_in_the_inputs_is_told_before_github_is_asked(
    inputs: dict[str, str], words: list[str], hub: GitHub, tree: Path
) -> None:
    """One sentence, exit code 2, an error annotation, no request, nothing written."""
    step = run(hub, **{"models": "models/*.keras", **inputs})
    assert step.code == 2
    assert len(step.stderr.splitlines()) == 1
    assert all(word in step.stderr for word in words), step.stderr
    assert step.stdout.splitlines()[-1].startswith("::error title=tfstrip::")
    assert not Path("dist").exists()
    assert hub.requests == []


def test_a_bad_model_fails_the_job_before_github_is_asked(hub: GitHub, tree: Path) -> None:
    """The file is annotated, nothing is created anywhere."""
    Path("models/z.keras").write_bytes(Path(KERAS.path).read_bytes()[:9000])
    step = run(hub, models="models/*.keras", tag="v1")
    assert step.code == 2
    assert "::error file=models/z.keras,title=tfstrip unreadable::" in step.stdout
    assert not Path("dist").exists()
    assert hub.requests == []


def test_suspected_state_is_a_warning_on_its_source(hub: GitHub, tree: Path) -> None:
    """TFS107 that stays in an artifact is annotated, and the summary says so."""
    shutil.copy(one("keras3.15.1", "gan.keras").path, "models/gan.keras")
    step = run(hub, models="models/gan.keras", tag="v1")
    assert step.code == 0
    assert step.stdout.count("::warning file=models/gan.keras,title=TFS107 suspected-optimizer-state::") == 2
    assert step.summary.count("TFS107") == 2


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (None, ["401", "token"]),
        (None, ["403", "contents: write"]),
        (Fault("GET", "/repos/", "status", status=404), ["404", "contents: write"]),
        (Fault("POST", "/releases", "status", status=422, message="Bad rule"), ["422", "Bad rule"]),
    ],
    ids=["401", "403", "404", "422"],
)
def test_what_github_refuses_is_one_sentence_with_the_way_out(
    fault: Fault | None, words: list[str], hub: GitHub, tree: Path
) -> None:
    """401, 403, 404 and 422 each say what to change in the workflow; nothing was created, no token is shown."""
    token = {"401": "ghs_wrong", "403": hub.read_token}.get(words[0], hub.token)
    if fault:
        hub.faults.append(fault)
    step = run(hub, models="models/*.keras", tag="v1", token=token)
    assert step.code == 2
    said = step.stderr.splitlines()[-1]
    assert said.startswith("tfstrip: ")
    assert all(word in said for word in words), said
    assert "Traceback" not in step.everything
    assert token not in step.everything
    assert hub.releases == []


def test_the_token_is_never_shown_even_if_the_server_says_it(hub: GitHub, tree: Path) -> None:
    """A message that echoes the token is printed without it."""
    message = f"you sent {hub.token}, which is odd"
    hub.faults.append(Fault("POST", "/releases", "status", status=422, message=message))
    step = run(hub, models="models/*.keras", tag="v1")
    assert step.code == 2
    assert "you sent ***" in step.stderr
    assert hub.token not in step.everything


# Attaching alone: what may be in the way.


def test_an_existing_release_gets_what_it_lacks(hub: GitHub, files: list[str]) -> None:
    """One asset is there already, with our bytes; the other is sent; the author's own is left."""
    hub.add_release("v1", assets={"a.bin": b"a" * 3000, "other.txt": b"x"})
    attached = attach(hub, files)
    assert (attached.uploaded, attached.skipped, attached.draft) == (("b.bin",), ("a.bin",), False)
    assert stored(hub) == {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000, "other.txt": b"x"}
    assert [method for method, _ in writes(hub)] == ["POST", "PATCH"]  # sent under another name, and renamed


@pytest.mark.parametrize("content", [b"a" * 2999 + b"b", b"short"], ids=["one bit", "another size"])
def test_another_file_of_the_name_stops_everything(content: bytes, hub: GitHub, files: list[str]) -> None:
    """Nothing is uploaded, not even what has no clash, and the file is named."""
    hub.add_release("v1", assets={"a.bin": content})
    with pytest.raises(CannotPublish, match=r"another a\.bin"):
        attach(hub, files)
    assert stored(hub) == {"a.bin": content}
    assert writes(hub) == []


def test_an_immutable_release_is_refused_before_anything_is_sent(files: list[str]) -> None:
    """A published immutable release cannot take assets: the sentence says what to do instead."""
    with GitHub(immutable=True) as hub:
        hub.add_release("v1", immutable=True)
        with pytest.raises(CannotPublish, match="immutable"):
            attach(hub, files)
        assert writes(hub) == []


def test_a_new_immutable_release_is_complete_when_it_is_published(files: list[str]) -> None:
    """Where releases become immutable on publishing, all assets are there before, and a second run is content."""
    with GitHub(immutable=True) as hub:
        attach(hub, files)
        assert len(stored(hub)) == 2
        assert hub.releases[0].immutable
        assert attach(hub, files).uploaded == ()


def test_a_draft_behind_many_releases_is_found(hub: GitHub, files: list[str]) -> None:
    """Drafts are in the list only, which comes in pages."""
    draft = hub.add_release("v1", draft=True)
    for number in range(230):
        hub.add_release(f"old-{number}")
    attach(hub, files)
    assert len(hub.releases) == 231
    assert {asset.name for asset in draft.assets} == {"a.bin", "b.bin"}


def test_assets_behind_many_others_are_seen(hub: GitHub, files: list[str]) -> None:
    """The list of a release's assets comes in pages too."""
    hub.add_release("v1", assets={"a.bin": b"other", **{f"x{number}": b"x" for number in range(150)}})
    with pytest.raises(CannotPublish, match=r"another a\.bin"):
        attach(hub, files)


def test_a_full_release_is_refused_before_anything_is_sent(hub: GitHub, files: list[str]) -> None:
    """999 assets and two more are too many."""
    hub.add_release("v1", assets={f"x{number}": b"x" for number in range(999)})
    with pytest.raises(CannotPublish, match="1,001 assets"):
        attach(hub, files)
    assert writes(hub) == []


@pytest.mark.parametrize("size", [0, 2**31], ids=["empty", "2 GiB"])
def test_a_file_that_github_does_not_take_is_refused_before_anything_is_sent(
    size: int, hub: GitHub, files: list[str], tmp_path: Path
) -> None:
    """Empty files and those of 2 GiB and more; the limit is exact."""
    with (tmp_path / "odd.bin").open("wb") as file:
        file.truncate(size)
    with pytest.raises(UsageError, match=r"odd\.bin cannot be attached"):
        attach(hub, [*files, str(tmp_path / "odd.bin")])
    assert writes(hub) == []


def test_where_github_knows_no_digests_the_bytes_are_read_back(files: list[str]) -> None:
    """An older server: same bytes are skipped, other bytes of the same size are a clash, and uploads are compared."""
    with GitHub(digests=False) as hub:
        attach(hub, files)
        assert attach(hub, files).skipped == ("a.bin", "b.bin")
        hub.add_release("v2", assets={"a.bin": b"a" * 2999 + b"b"})
        with pytest.raises(CannotPublish, match=r"another a\.bin"):
            attach(hub, files, "v2")


# Faults on the way.


@pytest.mark.parametrize("kind", ["status", "status-after", "drop", "drop-after", "starter"])
@pytest.mark.parametrize("times", [1, 2])
def test_an_upload_that_breaks_is_sent_again(kind: str, times: int, hub: GitHub, files: list[str]) -> None:
    """502, lost connections and the remains of a broken upload: in the end the right bytes, once."""
    hub.faults.append(fault := Fault("POST", "/assets", kind, status=502, after=100, times=times))
    attach(hub, files)
    assert fault.times == 0
    assert stored(hub) == {"a.bin": b"a" * 3000, "b.bin": b"b" * 70000}
    assert len(hub.releases[0].assets) == 2
    assert not hub.releases[0].draft


def test_an_upload_that_keeps_breaking_leaves_a_draft(hub: GitHub, files: list[str]) -> None:
    """The number of tries is bounded; what is there is not published, and the next run completes it."""
    hub.faults.append(Fault("POST", "name=b.bin", "status", status=502, times=4))
    with pytest.raises(CannotPublish, match="502"):
        attach(hub, files)
    assert [release.draft for release in hub.releases] == [True]
    assert attach(hub, files).uploaded == ("b.bin",)
    assert [release.draft for release in hub.releases] == [False]


def test_a_broken_upload_of_an_earlier_run_is_no_obstacle(hub: GitHub, files: list[str]) -> None:
    """Its remains block the name on GitHub: they are removed first."""
    hub.faults.append(Fault("POST", "name=b.bin", "starter", after=100, times=4))
    with pytest.raises(CannotPublish):
        attach(hub, files)
    assert {asset.state for asset in hub.releases[0].assets} == {"uploaded", "starter"}
    attach(hub, files)
    assert len(stored(hub)) == 2


def test_one_flipped_bit_on_the_way_is_noticed(hub: GitHub, files: list[str]) -> None:
    """GitHub stored other bytes than ours: the job fails, nothing is published."""
    hub.faults.append(Fault("POST", "name=b.bin", "corrupt"))
    with pytest.raises(CannotPublish, match=r"b\.bin has other bytes"):
        attach(hub, files)
    assert hub.releases[0].draft


@pytest.mark.parametrize("kind", ["status-after", "drop-after"])
def test_a_create_whose_answer_is_lost_makes_no_second_release(kind: str, hub: GitHub, files: list[str]) -> None:
    """The draft that was made all the same is found and filled."""
    hub.faults.append(Fault("POST", "/releases$", kind, status=502))
    attach(hub, files)
    assert len(hub.releases) == 1
    assert len(stored(hub)) == 2


@pytest.mark.parametrize("method", ["GET", "PATCH"])
@pytest.mark.parametrize("kind", ["status", "drop-after"])
def test_any_other_request_is_repeated_too(method: str, kind: str, hub: GitHub, files: list[str]) -> None:
    """Reading and publishing survive a moment's failure."""
    hub.faults.append(fault := Fault(method, "/releases", kind, status=503))
    attach(hub, files)
    assert fault.times == 0
    assert not hub.releases[0].draft


def test_retry_after_is_obeyed(hub: GitHub, files: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A wait that the server names is waited; one that is beyond reason fails with the cause."""
    waits: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)
    hub.faults.append(Fault("POST", "/assets", "status", status=429, retry_after=7))
    attach(hub, files)
    assert 7 <= max(waits) < 10
    hub.faults.append(Fault("GET", "/releases", "status", status=429, retry_after=3600))
    with pytest.raises(CannotPublish, match="429"):
        attach(hub, files)


def test_two_drafts_at_once_become_one(hub: GitHub, files: list[str]) -> None:
    """Another job created its draft in the same moment: ours goes, the older one is filled."""
    create = hub.create_release

    def twice(sent: object) -> Any:
        if not hub.releases:
            hub.add_release("v1", draft=True)
        return create(sent)

    hub.create_release = twice  # type: ignore[method-assign]
    attach(hub, files)
    assert len(hub.releases) == 1
    assert len(stored(hub)) == 2


def test_a_release_that_another_job_published_meanwhile_is_used(hub: GitHub, files: list[str]) -> None:
    """The answer to create is already_exists: the release is read again and filled."""
    create = hub.create_release

    def late(sent: object) -> Any:
        hub.add_release("v1")
        return create({**sent, "draft": False})  # type: ignore[dict-item]

    hub.create_release = late  # type: ignore[method-assign]
    attach(hub, files)
    assert len(hub.releases) == 1
    assert len(stored(hub)) == 2


def test_a_server_that_is_not_there_is_one_sentence(hub: GitHub, files: list[str]) -> None:
    """A refused connection names the address and not a stack."""
    with pytest.raises(CannotPublish, match="cannot be reached"):
        attach(hub, files, GITHUB_API_URL="http://127.0.0.1:9/api/v3")
