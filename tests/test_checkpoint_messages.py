"""What the command says of a checkpoint: no command that would fail, nothing odd, and every file of it."""

import os
import subprocess
from pathlib import Path

import pytest
from checkpoint_fixtures import one
from hostile import run
from test_checkpoint_discover import put as copied
from test_checkpoint_discover import state
from test_hook_checkpoint import EMPTY, NAMED, SHARDED, STATED, command, content, git, put  # noqa: F401

from tfstrip_core import hook
from tfstrip_core.reports import github, summary
from tfstrip_core.verbs.inspect import inspect

ALL_IN_DOUBT = one("tf2.15", "module_like_optimizer")  # a model with the form of an optimizer, and nothing else
UNCERTAIN, CERTAIN = one("tf2.15", "ema_mid_fit"), one("tf1.15", "graph_ema")
CLEAN = one("tf2.15", "no_optimizer")


def test_no_command_is_offered_that_would_leave_no_weight(tmp_path: Path, capsys) -> None:
    """Strip refuses that; whichever door is used, the user is sent to inspect."""
    prefix = copied(ALL_IN_DOUBT, tmp_path)
    code, out, _ = run(capsys, "check", prefix)
    assert (code, "no fix: no weight would be left" in out, "--also" in out) == (1, True, False)
    assert f"tfstrip inspect {prefix} shows" in out
    assert "--also" not in run(capsys, "check", "--output-format", "github", prefix)[1]
    assert "no fix" in next(github.lines([inspect(prefix)]))
    assert "also" not in summary.checked([inspect(prefix)])
    assert hook.main(["fix", f"{prefix}.index"]) == 1
    assert "no weight would be left" in capsys.readouterr().err


@pytest.mark.parametrize(("checkpoint", "certain"), [(UNCERTAIN, False), (CERTAIN, True)], ids=["uncertain", "certain"])
def test_averages_are_offered_only_where_they_can_be_applied(checkpoint, certain: bool, tmp_path: Path, capsys) -> None:
    """Where it is not certain whose averages they are, --ema apply is refused."""
    prefix = copied(checkpoint, tmp_path)
    _, out, _ = run(capsys, "check", prefix)
    assert ("--ema drop serves" in out, "--ema apply" in out) == (True, certain)
    code, _, err = run(capsys, "strip", prefix, "-o", str(tmp_path / "out"))
    assert (code, "--ema drop" in err, "--ema apply" in err) == (2, True, certain)
    said = "\n".join(github.lines([inspect(prefix)]))
    assert ("--ema drop" in said, "--ema apply" in said) == (True, certain)
    both = [copied(UNCERTAIN, tmp_path / "both", "a"), copied(CERTAIN, tmp_path / "both", "b")]
    assert "--ema apply the averages, where it is certain" in run(capsys, "check", *both)[1]


def test_local_paths_alone_are_no_residue(tmp_path: Path, capsys) -> None:
    """They are in the file beside the checkpoint: no bytes of it go, and the check does not fail."""
    prefix = copied(CLEAN, tmp_path, "x")
    state(tmp_path, 'model_checkpoint_path: "/home/author/x"')
    code, out, _ = run(capsys, "check", prefix)
    line = "1 model checked: 1 with local paths, which strip removes"
    assert (code, out.splitlines()[-1]) == (0, line)
    code, out, _ = run(capsys, "strip", prefix, "--in-place")
    assert (code, "  removed TFS401 local-path: checkpoint\n" in out) == (0, True)
    assert run(capsys, "check", prefix)[1] == "1 model checked: no residue\n"


def test_the_meta_file_is_said_to_have_changed(tmp_path: Path, capsys) -> None:
    """In words that say what it is good for."""
    err = run(capsys, "strip", NAMED.prefix, "-o", str(tmp_path / "out"))[2]
    assert "its .meta file has changed with it, so that import_meta_graph restores what is left" in err


@pytest.mark.parametrize("checkpoint", [SHARDED, NAMED, STATED, EMPTY], ids=["shards", "meta", "state", "empty"])
def test_in_place_says_how_to_go_back_and_how_to_go_on(checkpoint, git, capsys) -> None:  # noqa: F811
    """The one command brings every old file back; the other tells git of the new ones and of those that are gone."""
    names = put(checkpoint, Path())
    before = content(Path())
    git("add", "--", *names)
    base = os.path.basename(checkpoint.prefix) or ".index"
    code, _, err = run(capsys, "strip", "--in-place", base)
    assert code == 0
    after = content(Path())
    subprocess.run(command(err, "comes back with "), check=True, capture_output=True)
    assert {name: data for name, data in content(Path()).items() if name in before} == before
    for name in os.listdir():
        if name != ".git":
            os.remove(name)
    for name, data in after.items():
        Path(name).write_bytes(data)
    subprocess.run(command(err, "to keep the new one: "), check=True, capture_output=True)
    assert set(git("ls-files").splitlines()) == set(after)
    assert git("diff", "--name-only") == ""


def test_what_git_lacks_of_the_old_one_is_named(git, capsys) -> None:  # noqa: F811
    """Some of its files come back, which is no checkpoint."""
    put(SHARDED, Path())
    git("add", "model.ckpt.index", "model.ckpt.data-00000-of-00002")
    err = run(capsys, "strip", "--in-place", "model.ckpt")[2]
    assert "git does not have all of the old one: model.ckpt.data-00001-of-00002 cannot come back" in err
    assert "restore" not in err
