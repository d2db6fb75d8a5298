"""The hooks on checkpoints, which are several files: one model in one report, all of them told to git."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from checkpoint_fixtures import Checkpoint, one
from conftest import need
from test_hook_e2e import Repository, made  # noqa: F401

from tfstrip_core import hook
from tfstrip_core.verbs.check import check

SHARDED = one("tf1.15", "keras_tf1_optimizer")  # two data files become one
NAMED, STATED, CLEAN = one("tf1.15", "graph_adam"), one("tf2.15", "state_absolute"), one("tf2.15", "no_optimizer")
EMPTY, DASH = one("tf2.15", "prefix_empty"), one("tf1.15", "graph_custom_name")
every_kind = pytest.mark.parametrize(
    "checkpoint", [SHARDED, NAMED, STATED, EMPTY, DASH], ids=["shards", "meta", "state", "empty", "dash"]
)


def put(checkpoint: Checkpoint, folder: Path) -> list[str]:
    """Copy a checkpoint with its state file; return the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in checkpoint.files:
        shutil.copy(file, folder)
    return sorted(file.name for file in checkpoint.files)


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


@pytest.fixture
def git(tmp_path: Path, monkeypatch):
    """Make a repository, with the test standing in it; return a function that runs git there."""
    need("git")
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name, value in {"HOME": str(tmp_path), "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")

    def call(*words: str) -> str:
        return subprocess.run(["git", *words], check=True, capture_output=True, text=True).stdout

    call("init", "-q")
    return call


def fixed(capsys, *names: str) -> str:
    """Let the hook fix these files; return what it said."""
    assert hook.main(["fix", "--", *names]) == 1
    said = capsys.readouterr()
    assert said.err == ""
    return said.out


def command(out: str, start: str) -> list[str]:
    """Return the words of the command that follows `start` in a line."""
    return shlex.split(out.partition(start)[2].splitlines()[0].partition(", and commit")[0])


@every_kind
def test_the_files_of_a_checkpoint_are_one_model(checkpoint, git, capsys) -> None:
    names = put(checkpoint, Path())
    assert hook.main(["check", "--", *names]) == 1
    out = capsys.readouterr().out
    assert out.count("TFS101") == 1
    assert "1 model checked: 1 with residue" in out
    assert out.count("fix: ") == 1


@every_kind
def test_what_is_said_to_be_restored_comes_back(checkpoint, git, capsys) -> None:
    """The command names every file that was replaced or removed, the state file included where it was."""
    names = put(checkpoint, Path())
    before = content(Path())
    git("add", "--", *names)
    out = fixed(capsys, *names)
    assert content(Path()) != before
    subprocess.run(command(out, "comes back with "), check=True, capture_output=True)
    assert {name: data for name, data in content(Path()).items() if name in before} == before


@every_kind
def test_what_is_said_to_be_added_is_all_of_it(checkpoint, git, capsys) -> None:
    """New files and those that are gone: afterwards the index is what lies there."""
    names = put(checkpoint, Path())
    git("add", "--", *names)
    out = fixed(capsys, *names)
    subprocess.run(command(out, "now: "), check=True, capture_output=True)
    assert set(git("ls-files").splitlines()) == set(os.listdir()) - {".git"}
    assert git("diff", "--name-only") == ""
    assert hook.main(["check", "--", *os.listdir()]) == 0


def test_files_that_git_never_had_are_not_promised(git, capsys) -> None:
    """One ignored data file: nothing is said to come back, and the command to add does not stop at what is gone."""
    names = put(SHARDED, Path())
    git("add", "model.ckpt.index")
    out = fixed(capsys, *names)
    assert "git restore" not in out
    subprocess.run(command(out, "now: "), check=True, capture_output=True)
    assert git("ls-files").splitlines() == ["model.ckpt.data-00000-of-00001", "model.ckpt.index"]


@pytest.fixture
def repository(made, tmp_path: Path) -> Repository:  # noqa: F811
    return Repository(tmp_path / "repository", *made)


@pytest.mark.e2e
@pytest.mark.parametrize("checkpoint", [SHARDED, STATED], ids=["shards", "state"])
def test_a_commit_under_pre_commit(checkpoint, repository: Repository) -> None:
    """Refused, fixed, added as the message says, and then committed whole."""
    repository.configure("tfstrip-check", "tfstrip-fix")
    names = put(checkpoint, repository.path / "models")
    put(CLEAN, repository.path / "clean")
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 1, out
    assert len(re.findall(r"^models/model\S*: TFS101", out, re.MULTILINE)) == 1
    assert "2 models checked: 1 with residue" in out
    assert re.search(r"comes back with git -C models restore -- (\S+ ?)+$", out, re.MULTILINE)
    assert check([str(repository.path / "models")]).exit_code == 0
    assert repository.run(*command(out, "now: "))[0] == 0
    assert repository.git("diff", "--name-only") == ""
    code, out = repository.commit()
    assert code == 0, out
    assert repository.git("status", "--porcelain") == ""
    tracked = set(repository.git("ls-files", "models").split())
    assert tracked == {f"models/{name}" for name in os.listdir(repository.path / "models")}
    assert len(tracked) <= len(names)
