"""What the runner hands over and takes back: inputs, outputs, summary, annotations, ownership."""

import os
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from action_run import read_outputs, run
from conftest import one
from markdown_it import MarkdownIt

from tfstrip_core import runner
from tfstrip_core.errors import UsageError
from tfstrip_core.inventory import Artifact
from tfstrip_core.release import artifacts
from tfstrip_core.reports import github, summary

KERAS, HDF5 = one("keras3.15.1", "sequential.keras"), one("tf2.15", "sequential.h5")
HOSTILE = "<img src=x onerror=alert(1)> | **b** `c` [d](http://e) @f #1 &amp; __g__ $h$ ~~i~~\n::error::j"


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Artifact]:
    """The artifacts of two models."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(KERAS.path, "a.keras")
    shutil.copy(HDF5.path, "b.h5")
    return list(artifacts.make(artifacts.plan(artifacts.survey(["a.keras", "b.h5"], "dist")), "dist").artifacts)


class Page(HTMLParser):
    """The tags and the texts of a rendered summary."""

    def __init__(self, markdown: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.codes: list[str] = []
        self.inside = False
        self.feed(MarkdownIt("gfm-like", {"html": True, "linkify": False}).render(markdown))

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)
        self.inside = tag == "code"
        self.codes += [""] if self.inside else []

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.codes[-1] += data


def test_the_summary_says_what_was_done(made: list[Artifact]) -> None:
    """Sizes before and after, a pie of where the bytes went, digests, and how each artifact is loaded."""
    text = summary.published(made, "https://example.org/r/1")
    page = Page(text)
    before = sum(os.path.getsize(name) for name in ("a.keras", "b.h5"))
    after = sum(os.path.getsize(f"dist/{name}") for name in ("a.keras", "b.h5"))
    assert f"{before:,} bytes before, {after:,} bytes after" in text
    assert {"a.keras", "b.h5"} <= set(page.codes)
    assert 'href="https://example.org/r/1"' in MarkdownIt("gfm-like", {"linkify": False}).render(text)
    assert {artifact.sha256 for artifact in made} <= set(page.codes)
    assert 'keras.models.load_model("a.keras")' in page.codes
    slices = dict(re.findall(r'^    "(.*)" : (\d+)$', text, re.MULTILINE))
    assert int(slices["kept"]) == after
    optimizer = sum(item.bytes for artifact in made for item in artifact.result.removed if item.rule == "TFS101")
    assert int(slices["TFS101 optimizer-state"]) == optimizer > 0
    assert sum(map(int, slices.values())) == before


def test_no_name_means_anything_in_a_summary(made: list[Artifact]) -> None:
    """Rendered as GitHub renders it, a hostile name is text in a code element and makes no tag of its own."""
    plain = Page(summary.published(made))
    results = [replace(item.result, source=HOSTILE) for item in made]
    hostile = Page(summary.published([replace(item, result=new) for item, new in zip(made, results, strict=True)]))
    assert hostile.tags == plain.tags
    assert hostile.codes.count(HOSTILE.replace("\n", "\\n")) == len(made)
    assert Page(summary.published(made, f"https://x/{HOSTILE}")).tags == plain.tags
    checked = [replace(item.result.inventory, path=HOSTILE) for item in made]
    page = Page(summary.checked(checked))
    assert page.tags <= plain.tags
    assert HOSTILE.replace("\n", "\\n") in page.codes


def test_what_is_left_is_in_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Suspected state that stays in an artifact is listed with its KEY."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(one("keras3.15.1", "gan.keras").path, "gan.keras")
    bundle = artifacts.make(artifacts.plan(artifacts.survey(["gan.keras"], "dist")), "dist")
    assert {"g_optimizer", "d_optimizer"} <= set(Page(summary.published(bundle.artifacts)).codes)


def test_a_summary_is_cut_where_the_runner_would_cut_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most 1 MiB, whole lines, and a line says that there was more."""
    path = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    runner.put_summary("".join(f"| {number:0100d} |\n" for number in range(20_000)))
    text = path.read_text()
    assert len(text.encode()) <= 1 << 20
    lines = text.splitlines()
    assert "cut off" in lines[-1]
    assert all(len(line) == 104 for line in lines[:-2])


def test_no_output_can_end_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values with lines, delimiters of earlier outputs and equals signs come out as they went in."""
    path = tmp_path / "outputs"
    monkeypatch.setenv("GITHUB_OUTPUT", str(path))
    runner.put_outputs({"one": "a\nb=c"})
    delimiter = path.read_text().partition("<<")[2].partition("\n")[0]
    runner.put_outputs({"two": f"{delimiter}\nevil<<x\n1\nx", "three": ""})
    assert read_outputs(path.read_text()) == {"one": "a\nb=c", "two": f"{delimiter}\nevil<<x\n1\nx", "three": ""}


def test_an_annotation_is_one_command_whatever_the_name() -> None:
    """Percent signs, colons, commas and line ends are escaped as the runner wants it."""
    line = github.annotation("error", "a%,b:c\n::warning::d", "t", "100 %\r\n::error::e")
    assert "\n" not in line
    assert "\r" not in line
    assert line.startswith("::error file=a%25%2Cb%3Ac")
    assert github.command("error", "x,y", "100 %") == "::error title=x%2Cy::100 %25"


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("True", True), ("false", False), ("", False)])
def test_switches_are_yaml_s(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Either word in any case; empty is false; anything else is a mistake."""
    monkeypatch.setenv("INPUT_DRAFT", value)
    assert runner.switch("draft") is expected
    monkeypatch.setenv("INPUT_DRAFT", "1")
    with pytest.raises(UsageError, match="draft"):
        runner.switch("draft")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, as the container of an action has it")
def test_what_root_wrote_belongs_to_the_owner_of_the_work_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The output folder, its new parents and the files; nothing that another user owns, nothing outside."""
    work = tmp_path / "work"
    (work / "theirs").mkdir(parents=True)
    os.chown(work, 1234, 1234)
    os.chown(work / "theirs", 4321, 4321)
    monkeypatch.chdir(work)
    shutil.copy(KERAS.path, tmp_path / "outside.keras")
    for folder in ("new/deep", "theirs"):
        (work / folder).mkdir(parents=True, exist_ok=True)
        (work / folder / "file").write_text("x")
        runner.hand_over([folder, f"{folder}/file", "../outside.keras"])
        assert (work / folder / "file").stat().st_uid == 1234
    assert [(work / name).stat().st_uid for name in ("new", "new/deep", "theirs")] == [1234, 1234, 4321]
    assert (tmp_path / "outside.keras").stat().st_uid == 0


# The gate's door.


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    work = tmp_path / "work"
    (work / "models").mkdir(parents=True)
    shutil.copy(one("keras3.15.1", "sequential_uncompiled.keras").path, work / "models" / "clean.keras")
    monkeypatch.chdir(work)
    return work


def test_the_gate_passes_a_clean_repository(tree: Path) -> None:
    """Without inputs it checks everything below the work tree."""
    step = run(door="check/gate.py")
    assert (step.code, step.stderr) == (0, "")
    assert "1 model checked: no residue" in step.summary


def test_the_gate_fails_and_annotates_the_file(tree: Path) -> None:
    """One error on the file, and the summary has the command that fixes it."""
    shutil.copy(KERAS.path, "models/a b.keras")
    step = run(door="check/gate.py", models="models/*.keras")
    assert step.code == 1
    assert step.stdout.count("::error file=models/a b.keras,title=TFS101 optimizer-state::") == 1
    assert "tfstrip strip --in-place 'models/a b.keras'" in Page(step.summary).codes


@pytest.mark.parametrize(
    ("inputs", "words"),
    [({"models": "none/*.keras"}, ["none/*.keras"]), ({"require_lfs": "no"}, ["require-lfs", "true or false"])],
)
def test_a_mistake_in_the_gate_s_inputs_is_one_sentence(inputs: dict[str, str], words: list[str], tree: Path) -> None:
    """Exit code 2; a glob that matches nothing would be a gate that checks nothing."""
    step = run(door="check/gate.py", **inputs)
    assert step.code == 2
    assert len(step.stderr.splitlines()) == 1
    assert all(word in step.stderr for word in words)


def test_a_pointer_is_a_notice_or_with_require_lfs_an_error(tree: Path) -> None:
    """A checkout without LFS objects passes with a notice, unless the workflow says otherwise."""
    Path("models/p.keras").write_text(
        f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12\n", encoding="utf-8"
    )
    step = run(door="check/gate.py")
    assert step.code == 0
    assert "::notice file=models/p.keras," in step.stdout
    step = run(door="check/gate.py", require_lfs="true")
    assert step.code == 2
    assert "::error file=models/p.keras," in step.stdout


def test_an_empty_workspace_is_a_forgotten_checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A gate that sees nothing must not be green."""
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    for door, inputs in (("check/gate.py", {}), ("entrypoint.py", {"models": "**/*.keras"})):
        step = run(door=door, **inputs)
        assert step.code == 2
        assert "actions/checkout" in step.stderr


def test_no_model_is_counted_twice(tree: Path) -> None:
    """A glob that reaches into folders matches them too; what lies in them counts once."""
    (tree / "models" / "deep").mkdir()
    shutil.copy(KERAS.path, "models/deep/b.keras")
    step = run(door="check/gate.py", models="models/**\n./models/*.keras")
    assert "2 models checked: 1 with residue" in step.stdout
    assert step.stdout.count("::error") == 1


def test_a_name_with_glob_characters_names_itself(tree: Path) -> None:
    """A path that exists is that path and no pattern."""
    shutil.copy(KERAS.path, "models/m[1].keras")
    step = run(door="check/gate.py", models="models/m[1].keras")
    assert step.code == 1
    assert "file=models/m[1].keras" in step.stdout
