"""The hooks on SavedModels: any staged file of one leads to it, and all that changed is told to git."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from test_hook_checkpoint import command, content, fixed, git, repository  # noqa: F401
from test_hook_e2e import Repository, made  # noqa: F401
from test_saved_discover import DATA, OWN
from test_saved_place import made as model

from tfstrip_core import hook
from tfstrip_core.verbs.check import check

FILES = [*sorted(OWN), "fingerprint.pb", "debug/saved_model_debug_info.pb", "assets/words.txt"]


def staged(folder: str) -> list[str]:
    model(Path(folder))
    Path(folder, "labels.txt").write_text("mine")
    return [os.path.normpath(os.path.join(folder, name)) for name in FILES]


@pytest.mark.parametrize("name", FILES)
def test_one_staged_file_is_enough(name: str, git, capsys) -> None:  # noqa: F811
    """Whichever of the files a commit changes, it is the model that is judged."""
    staged("models/m")
    assert hook.main(["check", "--", f"models/m/{name}"]) == 1
    out = capsys.readouterr().out
    assert out.count("models/m: TFS101") == 1
    assert "1 model checked: 1 with residue" in out


@pytest.mark.parametrize("folder", ["models/m", ".", "-x/*m"])
def test_what_is_said_to_be_restored_comes_back(folder: str, git, capsys) -> None:  # noqa: F811
    """Removed files too; in the top of a work tree, whose .git stays what it is; and the user's files are not named."""
    if folder != ".":
        Path(folder).parent.mkdir()
    names = staged(folder)
    git("add", ".")
    before = {name: Path(name).read_bytes() for name in names}
    out = fixed(capsys, *names)
    assert not Path(folder, "fingerprint.pb").exists()
    assert "labels.txt" not in out
    assert "words.txt" not in out
    subprocess.run(command(out, "comes back with "), check=True, capture_output=True)
    assert {name: Path(name).read_bytes() for name in names} == before
    assert git("status", "--porcelain").count("\n") == git("status", "--porcelain").count("A ")


@pytest.mark.parametrize("folder", ["models/m", ".", "-x/*m"])
def test_what_is_said_to_be_added_is_all_of_it(folder: str, git, capsys) -> None:  # noqa: F811
    """New files and those that are gone: afterwards the index is what lies there."""
    if folder != ".":
        Path(folder).parent.mkdir()
    names = staged(folder)
    git("add", "--", *names)
    out = fixed(capsys, *names)
    subprocess.run(command(out, "now: "), check=True, capture_output=True)
    assert git("diff", "--name-only") == ""
    tracked = {os.path.relpath(name, folder) for name in git("ls-files", "-z").split("\0") if name}
    assert tracked == OWN | {"assets/words.txt"}
    assert hook.main(["check", "--", *(name for name in names if os.path.exists(name))]) == 0


def test_files_that_git_never_had_are_not_promised(git, capsys) -> None:  # noqa: F811
    """An ignored data file: nothing is said to come back, and git add does not stop at what is gone."""
    names = staged("m")
    git("add", "--", *(name for name in names if not name.endswith(DATA) and "fingerprint" not in name))
    out = fixed(capsys, *names)
    assert "git restore" not in out
    subprocess.run(command(out, "now: "), check=True, capture_output=True)
    assert git("diff", "--name-only") == ""


def test_the_command_says_how_to_get_the_old_one_back(git, capsys) -> None:  # noqa: F811
    """`strip --in-place` where git has all of it, and where it does not."""
    from tfstrip_core.cli import main

    staged("m")
    git("add", ".")
    before = content(Path("m")) | content(Path("m/variables"))
    assert main(["strip", "--in-place", "m"]) == 0
    err = capsys.readouterr().err
    assert "until you git add it, the old one comes back with git -C m restore -- saved_model.pb" in err
    assert "to keep the new one: git add -- m/saved_model.pb" in err
    subprocess.run(command(err, "comes back with "), check=True, capture_output=True)
    assert content(Path("m")) | content(Path("m/variables")) == before
    Path("m/fingerprint.pb").write_bytes(b"changed")
    assert main(["strip", "--in-place", "m"]) == 0
    assert "git does not have all of the old one: fingerprint.pb cannot come back" in capsys.readouterr().err


@pytest.mark.e2e
def test_a_commit_under_pre_commit(repository: Repository) -> None:  # noqa: F811
    """Refused, fixed, added as the message says, and then committed whole."""
    repository.configure("tfstrip-check", "tfstrip-fix")
    model(repository.path / "models" / "m")
    repository.git("add", ".")
    code, out = repository.commit()
    assert code == 1, out
    assert len(re.findall(r"^models/m: TFS101", out, re.MULTILINE)) == 1
    assert "1 model checked: 1 with residue" in out
    assert re.search(r"comes back with git -C models/m restore -- (\S+ ?)+$", out, re.MULTILINE)
    assert check([str(repository.path / "models")]).exit_code == 0
    assert repository.run(*command(out, "now: "))[0] == 0
    assert repository.git("diff", "--name-only") == ""
    code, out = repository.commit()
    assert code == 0, out
    assert repository.git("status", "--porcelain") == ""
    tracked = set(repository.git("ls-files", "models").split())
    assert tracked == {f"models/m/{name}" for name in OWN | {"assets/words.txt"}}
