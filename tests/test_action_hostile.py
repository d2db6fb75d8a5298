"""The Action's doors where names, folders, signals and streams are not what they should be."""

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from action_run import ROOT, read_outputs, run
from conftest import one

from tfstrip_core import process, replace, runner, signals
from tfstrip_core.errors import UsageError
from tfstrip_core.globs import expand
from tfstrip_core.inventory import Finding
from tfstrip_core.release import artifacts, names, retries
from tfstrip_core.reports import github, summary, text

KERAS = one("keras3.15.1", "sequential.keras")
DOORS = ["entrypoint.py", "check/gate.py"]
# What actions/runner knows as commands (src/Runner.Worker/ActionCommandManager.cs).
COMMANDS = (
    "set-env|set-output|save-state|add-path|add-mask|add-matcher|remove-matcher|warning|error|notice|debug|"
    "group|endgroup|echo|stop-commands"
)
needs_root = pytest.mark.skipif(
    os.name == "nt" or os.geteuid() != 0, reason="needs root, as the container of an action has it"
)


def commands(log: str) -> list[str]:
    """Names of what the runner takes for commands: `::` where a line begins, blanks aside, and `##[` anywhere in it."""
    new, old = rf"\s*::({COMMANDS})(?: [^\n]*?)?::", rf".*?##\[({COMMANDS})(?: [^\]]*)?\]"
    return [match[1] for line in re.split(r"[\r\n]", log) if (match := re.match(new, line) or re.match(old, line))]


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with one model, and the test standing in it."""
    work = tmp_path / "work"
    (work / "models").mkdir(parents=True)
    shutil.copy(KERAS.path, work / "models" / "a.keras")
    monkeypatch.chdir(work)
    return work


def make(*patterns: str) -> artifacts.Bundle:
    """Make the artifacts of what these globs match in dist, in this process."""
    return artifacts.make(artifacts.plan(artifacts.survey(artifacts.match(patterns, "dist"), "dist")), "dist")


def start(door: str, redirect: str = "", *, models: str, output: str = "") -> subprocess.CompletedProcess[str]:
    """Run a door as a shell does, with its streams as they are redirected, and not for ever."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("GITHUB_", "INPUT_"))}
    environment |= {
        "INPUT_MODELS": models,
        "INPUT_PROVE": "bytes",
        "GITHUB_OUTPUT": output,
        "GITHUB_STEP_SUMMARY": output,
    }
    command = ["sh", "-c", f'exec "$0" "$1" {redirect}', sys.executable, str(ROOT / door)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


# Names in the log.


@pytest.mark.parametrize("name", ["x##[add-mask]e.keras", "  ::add-mask::e.keras", "##[stop-commands]x.keras"])
@pytest.mark.parametrize("door", DOORS)
def test_a_file_s_name_is_no_command(door: str, name: str, tree: Path) -> None:
    """The runner trims lines, and finds commands of the old style anywhere in one."""
    Path("models/a.keras").rename(name)
    step = run(door=door, models="*.keras")
    assert step.code == (0 if door == "entrypoint.py" else 1), step.stderr
    assert set(commands(f"{step.stdout}\n{step.stderr}")) <= {"error", "group", "endgroup"}
    assert "##[" not in step.stdout + step.stderr


def test_commands_are_found_as_the_runner_finds_them() -> None:
    """What the tests here assert with is tested too."""
    log = "a ##[add-mask]b\n \t::error file=x::y\n::group::z\r##[stop-commands]x\n::debug::"
    assert commands(log) == ["add-mask", "error", "group", "stop-commands", "debug"]
    assert commands("x::error::y\n::unknown::\n##[section]Starting\n##\\x5badd-mask]\n::error") == []


@pytest.mark.parametrize("words", ["##[stop-commands]x", "a ##[add-mask]b", "\n::add-mask::b", "\r::add-mask::b"])
def test_names_from_inside_a_file_are_no_commands(words: str) -> None:
    """A layer's name, the message about it, and a sentence about a file."""
    found = Finding("TFS107", words, 1, f"state {words}")
    lines = [
        text.finding("a.keras", found),
        str(UsageError(f"{words} is wrong", f"correct {words}")),
        f"fix: {text.quoted(words)}",
        github._finding("warning", words, found, words),
        github.command("error", words, words),
    ]
    assert commands("\n".join(lines)) == ["warning", "error"]
    assert "##[" not in "".join(lines)


@pytest.mark.parametrize("value", ["\udcff", "\ud800 x"])
def test_outputs_and_summary_take_any_name(value: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The runner reads UTF-8: what cannot be said in it is escaped, and the step does not end with a traceback."""
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.setenv(name, str(tmp_path / name))
    runner.put_outputs({"one": value})
    runner.put_summary(value)
    escaped = value.encode(errors="backslashreplace").decode()
    assert read_outputs((tmp_path / "GITHUB_OUTPUT").read_text(encoding="utf-8")) == {"one": escaped}
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text(encoding="utf-8") == escaped


# Names in the summary and in the release.


@pytest.mark.parametrize(
    "name", ["see www.example.com a.keras", "joe@example.com.keras", "https://x.example/a", "a@b@example.com", "#1 @me"]
)
def test_a_name_in_the_summary_is_no_link(name: str) -> None:
    """GitHub makes links inside of code elements too.

    It looks for `www.` and `:` in the source, for addresses of mail in the text: so every mark is an entity, and no
    text with an @ goes on behind it.
    """
    shown = summary._name(name).removeprefix("<code>").removesuffix("</code>")
    assert re.fullmatch(r"(?:[A-Za-z0-9 /-]|&#(?!64;)[0-9]+;|&#64;<!-- -->)+", shown)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("\u6a21\u578b.keras", "model.keras"),
        (".keras", "model.keras"),
        ("(\u6700\u7ec8).h5", "model.h5"),
        ("\u6a21\u578b.tar.gz", "model.tar.gz"),
        (".a.keras", "a.keras"),
        ("a.b.tar.gz", "a.b.tar.gz"),
        ("models/-", "model"),
        ("...", "model"),
        ("a.", "a"),
    ],
)
def test_an_asset_keeps_its_extension(path: str, name: str) -> None:
    """Loaders go by it, and a release shows it; `-` would be standard input to `sha256sum --check`."""
    assert names.asset_name(path) == name


# Folders.


def test_the_output_folder_is_never_a_source(tree: Path) -> None:
    """Nor where a folder above it is named: what an earlier step or run left there is no model of the repository."""
    assert [artifact.name for artifact in make(".").artifacts] == ["a.keras"]
    shutil.copy(KERAS.path, "dist/old.keras")
    assert [artifact.name for artifact in make(".").artifacts] == ["a.keras"]
    assert Path("dist/old.keras").read_bytes() == Path(KERAS.path).read_bytes()


@pytest.mark.parametrize("path", ["/model.keras", "/", "/a/b"])
def test_the_root_is_above_everything(path: str) -> None:
    """As an output folder it would be written over its own sources."""
    assert artifacts._is_within(path, "/")
    assert not artifacts._is_within("/ab", "/a")
    with pytest.raises(UsageError, match="outside of the workspace"):
        artifacts.match(["x"], "/")


def test_a_directory_in_the_way_leaves_nothing(tree: Path) -> None:
    """Not even the artifacts that it does not stand in the way of."""
    Path("dist/manifest.json").mkdir(parents=True)
    with pytest.raises(UsageError, match=r"dist/manifest\.json is a directory"):
        make("models/*.keras")
    assert os.listdir("dist") == ["manifest.json"]


@pytest.mark.parametrize("output", ["x" * 300, "models/a.keras/x"])
def test_the_cause_is_told_where_the_output_folder_cannot_be_made(output: str, tree: Path) -> None:
    """Handing over what is not there does not take its place."""
    step = run(models="models/*.keras", output_dir=output)
    assert step.code == 2
    assert len(step.stderr.splitlines()) == 1
    assert "output-dir" in step.stderr
    assert "::error title=tfstrip::output-dir" in step.stdout


@needs_root
def test_what_a_failed_run_leaves_belongs_to_the_owner_of_the_work_tree(tree: Path) -> None:
    """The output folder of root could not be removed by the next step."""
    content = bytearray(Path(KERAS.path).read_bytes())
    content[len(content) * 2 // 5] ^= 1  # in a weight: noticed when it is stripped, not before
    Path("models/z.keras").write_bytes(content)
    for path in (tree, *tree.rglob("*")):
        os.chown(path, 1234, 1234)
    assert run(models="models/*.keras", output_dir="new/dist").code == 2
    assert os.listdir("new/dist") == []
    assert {path.lstat().st_uid for path in tree.rglob("*")} == {1234}


def test_the_workshop_of_a_killed_run_goes_with_the_next(tree: Path) -> None:
    """It holds artifacts of any name, is root's, and nobody else would remove it."""
    code = (
        "import os\nfrom tfstrip_core.release import artifacts\n"
        "real = artifacts.strip\n"
        "artifacts.strip = lambda *a, **k: (real(*a, **k), os.kill(os.getpid(), 9))\n"
        "artifacts.make(artifacts.plan(artifacts.survey(['models'], 'dist')), 'dist')\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert killed.returncode == -9
    (left,) = Path("dist").glob(".tfstrip-*")
    assert list(left.rglob("a.keras"))
    then = left.stat().st_mtime - 2 * replace.GRACE
    os.utime(left, (then, then))
    make("models/*.keras")
    assert sorted(os.listdir("dist")) == ["SHA256SUMS", "a.keras", "manifest.json"]


@pytest.mark.parametrize("door", DOORS)
def test_links_in_circles_come_to_an_end(door: str, tree: Path) -> None:
    """Two links that lead to their own folder are 2**40 paths to whoever follows them."""
    for name in "xy":
        os.symlink(".", f"models/{name}")
    done = start(door, models="models/**/*.keras")
    assert done.returncode == (0 if door == "entrypoint.py" else 1)
    assert list(expand(["models/**/*.keras"])) == [("models/**/*.keras", ["models/a.keras"])]


# What was proven is what is published.


def test_the_digests_are_of_everything_in_the_folder(tree: Path) -> None:
    """They are taken before anything is moved to where others can write."""
    digests = dict(make("models/*.keras").digests)
    assert {name: hashlib.sha256(Path("dist", name).read_bytes()).hexdigest() for name in os.listdir("dist")} == digests


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_source_that_changes_meanwhile_is_refused(moment: str, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest's digest of a source is of what was stripped."""
    real = artifacts.strip

    def strip(source: str, *rest: Any, **more: Any) -> Any:
        result = real(source, *rest, **more) if moment == "after" else None
        content = Path(source).read_bytes()
        Path(source).write_bytes(content + (b"more" if moment == "after" else b""))
        return result or real(source, *rest, **more)

    monkeypatch.setattr(artifacts, "strip", strip)
    with pytest.raises(UsageError, match=r"models/a\.keras: it changed"):
        make("models/*.keras")
    assert os.listdir("dist") == []


# Signals and streams.


class Callback:
    """Asks to stop in a place where Python ignores exceptions, as h5py's own callbacks are."""

    def __del__(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("place", ["strip", "last", "rest", "sleep", "end"])
def test_a_signal_is_never_lost(place: str, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The run ends with 143 before the next step that others would see."""
    done: list[str] = []

    def interrupted(work: Callable[..., Any]) -> Callable[..., Any]:
        def both(*rest: Any, **more: Any) -> Any:
            result = work(*rest, **more)
            Callback()
            done.append(place)
            return result

        return both

    def work() -> int:
        if place in ("strip", "last"):
            shutil.copy("models/a.keras", "models/b.keras")
            make("models/*.keras")
        if place != "sleep":
            Callback()
        done.append(place)
        if place in ("rest", "sleep"):
            retries.rest(30)
            done.append("more")
        return 0

    monkeypatch.setattr(retries.time, "sleep", lambda seconds: Callback() if place == "sleep" else done.append("slept"))
    if place == "strip":
        monkeypatch.setattr(artifacts, "strip", interrupted(artifacts.strip))
    elif place == "last":
        monkeypatch.setattr(artifacts.manifest, "dumps", interrupted(artifacts.manifest.dumps))
    with pytest.raises(SystemExit) as raised:
        process.guarded(work)
    assert raised.value.code == 128 + signal.SIGTERM
    assert done == [place]
    assert not Path("dist").exists() or os.listdir("dist") == []


def test_a_block_that_ended_well_is_not_asked_to_stop_by_an_earlier_signal() -> None:
    """What was asked of one block is not asked of the next."""
    signals._asked.append(signal.SIGTERM)
    with signals.heard():
        signals.obey()


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize(
    ("redirect", "output"), [("2>&-", ""), (">&-", "/nonexistent/x"), (">&- 2>&-", "/nonexistent/x"), (">&-", "")]
)
def test_closed_streams_leave_no_traceback(redirect: str, output: str, door: str, tree: Path) -> None:
    """Nor outputs that cannot be written."""
    done = start(door, redirect, models="models/*.keras", output=output)
    assert "Traceback" not in done.stdout + done.stderr
    assert done.returncode == (2 if output else 0 if door == "entrypoint.py" else 1), done.stderr
