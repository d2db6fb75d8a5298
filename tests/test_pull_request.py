"""What the gate says of a pull request: the models' bytes before and after, out of the checkout alone."""

import json
import os
import re
import shutil
import subprocess
import sys
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from action_run import Step, run
from conftest import need, one
from saved_made import Made
from test_git_store import git

from tfstrip_core import pull_request
from tfstrip_core.codecs import git_store
from tfstrip_core.globs import reaches
from tfstrip_core.verbs.check import check

KERAS, HDF5 = one("keras3.15.1", "sequential.keras"), one("tf2.15", "sequential.h5")
CLEAN = one("keras3.15.1", "sequential_uncompiled.keras")
CHECKPOINTS = Path(__file__).parent / "fixtures" / "data" / "checkpoints" / "keras3.15.1"


def pointer(size: int) -> str:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{size:064x}\nsize {size}\n"


def commit(folder: Path, words: str) -> str:
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", words)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def origin(tmp_path: Path) -> Path:
    """A repository whose branch main has models, and whose branch topic changes them, merged as GitHub merges it."""
    need("git")
    folder = tmp_path / "origin"
    models = folder / "models"
    models.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    shutil.copy(KERAS.path, models / "same.keras")
    shutil.copy(KERAS.path, models / "stripped.keras")
    shutil.copy(HDF5.path, models / "gone.h5")
    shutil.copytree(CHECKPOINTS / "adam_batchnorm", models / "ckpt")
    shutil.copytree(CHECKPOINTS / "adam_batchnorm", models / "lost")
    Made().write(models / "export")
    (models / "export" / "notes.txt").write_text("n" * 1000)
    for name, size in (("big.keras", 5_000_000), ("less.keras", 3_000_000), ("never.keras", 2_000_000)):
        (models / name).write_text(pointer(size))
    (folder / "readme.txt").write_text("text\n")
    (folder / "data.bin").write_bytes(bytes(range(256)))
    base = commit(folder, "base")
    git(folder, "checkout", "-q", "-b", "topic")
    command = [sys.executable, "-m", "tfstrip_core", "strip", "--in-place"]
    for name in ("stripped.keras", "ckpt/model.ckpt-1"):
        subprocess.run([*command, str(models / name)], check=True, capture_output=True)
    shutil.copy(KERAS.path, models / "new.keras")
    (models / "big.keras").write_text(pointer(6_000_000))
    os.remove(models / "less.keras")
    (models / "more.keras").write_text(pointer(1_000_000))
    os.remove(models / "gone.h5")
    shutil.rmtree(models / "lost")
    os.remove(models / "export" / "notes.txt")
    os.remove(folder / "data.bin")
    os.remove(folder / "readme.txt")
    head = commit(folder, "topic")
    git(folder, "checkout", "-q", "main")
    (folder / "other.txt").write_text("main went on\n")
    shutil.copy(CLEAN.path, models / "later.keras")
    commit(folder, "later")
    git(folder, "merge", "-q", "--no-ff", "-m", "Merge", "topic")
    git(folder, "update-ref", "refs/pull/1/merge", "HEAD")
    git(folder, "reset", "-q", "--hard", "HEAD^")
    event = {"pull_request": {"base": {"sha": base}, "head": {"sha": head, "repo": {"full_name": "stranger/models"}}}}
    (tmp_path / "event.json").write_text(json.dumps(event))
    return folder


def checkout(origin: Path, depth: int, ref: str = "refs/pull/1/merge") -> None:
    """Lay out the ref as actions/checkout does, and stand in it."""
    work = origin.parent / "work"
    work.mkdir()
    git(work, "init", "-q")
    deep = [f"--depth={depth}"] if depth else []
    git(work, "fetch", "-q", "--no-tags", *deep, f"file://{origin}", f"+{ref}:refs/remotes/pull/1/merge")
    git(work, "checkout", "-q", "--detach", "refs/remotes/pull/1/merge")
    os.chdir(work)


@pytest.fixture(autouse=True)
def back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test may change where it stands."""
    monkeypatch.chdir(tmp_path)


def gate(monkeypatch: pytest.MonkeyPatch, event: str = "pull_request", **inputs: str) -> Step:
    """Run the gate in a job of a pull request; it has no token."""
    path = Path.cwd().parent / "event.json"
    original = os.environ.copy()
    wanted = {"GITHUB_EVENT_NAME": event, "GITHUB_EVENT_PATH": str(path)}

    def environment(*words: Any, env: dict[str, str], **more: Any) -> Any:
        assert "INPUT_TOKEN" not in env
        return start(*words, env=env | wanted, **more)

    start = subprocess.run
    monkeypatch.setattr("action_run.subprocess.run", environment)
    step = run(door="check/gate.py", **inputs)
    monkeypatch.setattr("action_run.subprocess.run", start)
    assert os.environ.copy() == original
    return step


def rows(step: Step) -> dict[str, list[str]]:
    """Return the table's rows by their models' names, as a reader sees them."""
    part = step.summary.partition("## Models checked")[0]
    table = [
        re.sub(r"<[^>]*>", "", unescape(line)).strip("| ").split(" | ") for line in part.splitlines() if "|" in line
    ]
    return {cells[0]: cells[1:] for cells in table[2:]}


def files_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def figures(origin: Path) -> dict[str, tuple[int | None, int | None]]:
    """Return what each model had in the base and has now, counted from the two work trees."""
    old = origin.parent / "old"
    git(origin, "worktree", "add", "-q", "--detach", str(old), "main")
    was, now = old / "models", Path("models")

    def ckpt(folder: Path) -> int:
        return sum(path.stat().st_size for path in folder.glob("model.ckpt-1.*"))

    return {
        "models/big.keras": (5_000_000, 6_000_000),
        "models/ckpt/model.ckpt-1": (ckpt(was / "ckpt"), ckpt(now / "ckpt")),
        "models/export": (files_of(was / "export"), files_of(now / "export")),
        "models/gone.h5": ((was / "gone.h5").stat().st_size, None),
        "models/less.keras": (3_000_000, None),
        "models/lost/model.ckpt-1": (ckpt(was / "lost"), None),
        "models/more.keras": (None, 1_000_000),
        "models/new.keras": (None, (now / "new.keras").stat().st_size),
        "models/stripped.keras": ((was / "stripped.keras").stat().st_size, (now / "stripped.keras").stat().st_size),
    }


@pytest.mark.parametrize("packed", [False, True])
def test_every_model_that_differs_is_told_with_its_bytes(
    packed: bool, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Added, changed and removed: files, checkpoints, SavedModels, LFS pointers by the size that they name; the sum.

    What main did meanwhile, what is the same, and what is no model, is not told. Depth 2 is enough.
    """
    checkout(origin, 2)
    if packed:
        git(Path(), "gc", "-q", "--prune=now")
    step = gate(monkeypatch)
    assert step.code == 1  # new.keras has an optimizer
    expected = figures(origin)
    found = rows(step)
    assert list(found) == [*sorted(expected), "all of them"]
    for path, (was, now) in expected.items():
        shown = ["new" if was is None else f"{was:,}", "removed" if now is None else f"{now:,}"]
        assert found[path][:3] == [*shown, f"{(now or 0) - (was or 0):+,}"]
    assert found["models/stripped.keras"][3] == "0"
    assert found["models/new.keras"][3] != "0"
    before, after = (sum(size or 0 for size in sizes) for sizes in zip(*expected.values(), strict=True))
    residue = sum(int(found[path][3]) for path in expected)
    assert found["all of them"] == [f"{before:,}", f"{after:,}", f"{after - before:+,}", str(residue)]
    assert step.summary.index("this pull request changes") < step.summary.index("Models checked")


def test_only_what_the_input_models_names_is_told(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the removed models too."""
    checkout(origin, 2)
    step = gate(monkeypatch, models="models/ckpt\nmodels/new.*")
    assert set(rows(step)) == {"models/ckpt/model.ckpt-1", "models/new.keras", "all of them"}


@pytest.mark.parametrize(
    ("path", "pattern", "expected"),
    [
        ("a/b.h5", ".", True), ("a/b.h5", "a", True), ("a/b.h5", "a/", True), ("a/b.h5", "a/*.h5", True),
        ("a/b.h5", "**/*.h5", True), ("a/b.h5", "./a/b.h5", True), ("a/b.h5", "*.h5", False),
        ("a/b.h5", "a/b", False), ("ab/c.h5", "a", False), ("a/.b/c.h5", "**/*.h5", False),
    ],
)  # fmt: skip
def test_a_path_that_is_gone_fits_what_would_have_led_to_it(path: str, pattern: str, expected: bool) -> None:
    """By a glob, a folder or itself, as a path that is there."""
    assert reaches(path, ["other", pattern]) is expected


@pytest.mark.parametrize(
    ("ref", "depth", "way_out"), [("refs/pull/1/merge", 1, "fetch-depth: 2"), ("refs/heads/topic", 1, "fetch-depth: 0")]
)
def test_without_the_base_one_line_says_how_to_get_it(
    ref: str, depth: int, way_out: str, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checkout's default depth: the gate judges as ever, the summary says what to add to the workflow."""
    checkout(origin, depth, ref)
    step = gate(monkeypatch)
    assert step.code == 1
    assert f"The base is not checked out: add {way_out} to the step actions/checkout.\n" in step.summary
    assert "## Models checked" in step.summary
    assert rows(step) == {}


def test_a_partial_clone_lacks_what_the_base_held(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is fetched for a summary: the line says what to change."""
    git(origin, "config", "uploadpack.allowFilter", "true")
    git(origin.parent, "init", "-q", "work")
    os.chdir(origin.parent / "work")
    git(Path(), "remote", "add", "origin", f"file://{origin}")
    git(Path(), "fetch", "-q", "--filter=blob:none", "--depth=2", "origin", "+refs/pull/1/merge:refs/remotes/x")
    git(Path(), "checkout", "-q", "--detach", "refs/remotes/x")
    step = gate(monkeypatch)
    assert step.code == 1
    assert "What the base held is not checked out: leave filter out" in step.summary


def test_more_removed_files_than_are_looked_into_are_said(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pull request that removes a great many files costs no more than some, and the summary says so."""
    checkout(origin, 2)
    environment = {"GITHUB_EVENT_PATH": "../event.json"}
    inventories = check(["."]).inventories
    whole = pull_request.compare(inventories, ["."], environment)
    assert (whole.note, len([change for change in whole.changes if change.after is None])) == ("", 3)
    for name, most in (("_MOST_REMOVED", 1), ("_MOST_BYTES", 300)):
        with monkeypatch.context() as patch:
            patch.setattr(pull_request, name, most)
            cut = pull_request.compare(inventories, ["."], environment)
        assert cut.note == "more files were removed than are looked into"
        assert {change.path for change in cut.changes if change.after is None} == set()
        assert [change for change in whole.changes if change.after is not None] == list(cut.changes)


def test_one_removed_file_that_is_too_big_hides_no_other(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is passed over and said so; everything else is told as ever, and the base is not called unreadable."""
    checkout(origin, 2)
    environment = {"GITHUB_EVENT_PATH": "../event.json"}
    inventories = check(["."]).inventories
    whole = pull_request.compare(inventories, ["."], environment)
    (gone,) = [change for change in whole.changes if change.path == "models/gone.h5"]
    assert gone.before
    for module in (pull_request, git_store):
        monkeypatch.setattr(module, "MOST_BYTES", gone.before - 1)
    cut = pull_request.compare(inventories, ["."], environment)
    assert cut.note == "more files were removed than are looked into"
    assert gone not in cut.changes
    assert set(cut.changes) >= {change for change in whole.changes if change.after is not None}


def test_a_head_that_is_no_merge_is_held_against_the_event_s_base(
    origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workflows that check out the pull request's own head, with all of its history."""
    checkout(origin, 0, "refs/heads/topic")
    step = gate(monkeypatch)
    found = rows(step)
    assert {"models/new.keras", "models/gone.h5", "models/stripped.keras"} <= set(found), step.summary
    assert "models/later.keras" not in found


def test_a_pull_request_that_touches_no_model_says_so(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, and no table."""
    git(origin, "checkout", "-q", "-b", "words", "main")
    (origin / "words.txt").write_text("words\n")
    head = commit(origin, "words")
    event = {"pull_request": {"base": {"sha": git(origin, "rev-parse", "main")}, "head": {"sha": head}}}
    checkout(origin, 0, "refs/heads/words")
    Path("../event.json").write_text(json.dumps(event))
    step = gate(monkeypatch)
    assert "## Models that this pull request changes\n\nNone.\n" in step.summary


@pytest.mark.parametrize(
    "event",
    [
        "", "[]", "{}", '{"pull_request": null}', '{"pull_request": {"base": 1, "head": 2}}',
        '{"pull_request": {"base": {"sha": "../../x"}, "head": {"sha": null}}}', "no file",
        pytest.param("[" * 100_000, id="deep"),
    ],
)  # fmt: skip
def test_no_event_fails_the_gate(event: str, origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the file says: a line in the summary, the verdict as without it."""
    checkout(origin, 0, "refs/heads/topic")
    Path("../event.json").write_text(event)
    if event == "no file":
        os.remove("../event.json")
    step = gate(monkeypatch)
    assert step.code == 1
    assert "The base cannot be read (" in step.summary
    assert "Traceback" not in step.everything


def test_no_repository_and_no_damage_fails_the_gate(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A checkout without .git, one whose packs are cut off: the same line."""
    checkout(origin, 2)
    git(Path(), "gc", "-q", "--prune=now")
    for path in Path(".git/objects/pack").glob("*.pack"):
        path.chmod(0o644)
        os.truncate(path, 100)
    for _ in range(2):
        step = gate(monkeypatch)
        assert step.code == 1
        assert "The base cannot be read (" in step.summary
        shutil.rmtree(".git", ignore_errors=True)


def test_other_events_say_nothing_of_it(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push has no base."""
    checkout(origin, 2)
    assert "pull request" not in gate(monkeypatch, event="push").summary


def test_no_name_of_a_model_means_anything_in_the_table(origin: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A removed model with a hostile name is text in one cell."""
    name = "models/<b>|`x`[y](z)@f\n::error::q.keras"
    git(origin, "checkout", "-q", "main")
    shutil.copy(KERAS.path, origin / name)
    base = commit(origin, "hostile")
    git(origin, "checkout", "-q", "-b", "away")
    os.remove(origin / name)
    head = commit(origin, "away")
    checkout(origin, 0, "refs/heads/away")
    Path("../event.json").write_text(json.dumps({"pull_request": {"base": {"sha": base}, "head": {"sha": head}}}))
    step = gate(monkeypatch)
    lines = [line for line in step.summary.splitlines() if "removed" in line]
    assert len(lines) == 1
    assert lines[0].count("|") == 6
    assert not set("<>`[]@") & set(re.sub(r"</?code>|<!-- -->", "", lines[0]))
