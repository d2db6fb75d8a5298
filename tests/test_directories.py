"""A check of a whole work tree ends with one line that fixes what it found, however much that is."""

import shlex
import shutil
import sys
from pathlib import Path

import pytest
from conftest import one

from tfstrip_core import cli, hook

sys.path.insert(0, str(Path(__file__).parent.parent / "benchmarks"))

DIRTY, MID_FIT = one("keras3.15.1", "sequential.keras").path, one("keras3.15.1", "ema_mid_fit.keras").path


def last(capsys: pytest.CaptureFixture[str]) -> str:
    return capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize("name", ["models", "-models of mine"])
def test_many_models_get_one_command_that_fixes_them_all(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Eleven commands are too many to copy; the one is run here as it is printed, and nothing is left to fix."""
    monkeypatch.chdir(tmp_path)
    for number in range(11):
        place = tmp_path / name / f"run{number}"
        place.mkdir(parents=True)
        shutil.copy(DIRTY, place / "model.keras")
    assert cli.main(["check", "--", name]) == 1
    line = last(capsys)
    assert line.startswith("fix all 11: tfstrip-hook fix ")
    assert hook.main(shlex.split(line.partition(": ")[2])[1:]) == 1
    assert cli.main(["check", "--", name]) == 0


def test_the_hook_names_the_models_that_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was given staged files: only those among them that fail belong in the command."""
    monkeypatch.chdir(tmp_path)
    for number in range(11):
        shutil.copy(DIRTY, tmp_path / f"{number}.keras")
    Path("other.py").touch()
    assert hook.main(["check", "other.py", *(f"{number}.keras" for number in range(11))]) == 1
    line = last(capsys)
    assert line.startswith("fix all 11: tfstrip-hook fix ")
    assert "other.py" not in line
    assert hook.main(shlex.split(line.partition(": ")[2])[1:]) == 1
    assert hook.main(["check", *(f"{number}.keras" for number in range(11))]) == 0


def test_the_last_line_is_a_command_where_averages_are_told_of_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is to be known of averages comes before the commands, which end the output."""
    for number, source in enumerate((MID_FIT, DIRTY)):
        shutil.copy(source, tmp_path / f"{number}.keras")
    assert cli.main(["check", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("fix: tfstrip strip --in-place ")
    assert any("--ema drop" in line for line in lines[:-2])


def test_a_work_tree_is_walked_and_summed_up(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The tree that is measured: 1,900 files of other kinds are no models and no errors, .git is not looked at."""
    from tree import plant

    assert plant(tmp_path / "tree", [Path(DIRTY)]) >= 2000
    shutil.copy(DIRTY, tmp_path / "tree" / ".git" / "model.keras")
    assert cli.main(["check", str(tmp_path / "tree")]) == 1
    told = capsys.readouterr()
    assert "100 models checked: 100 with residue" in told.out
    assert told.out.splitlines()[-1].startswith("fix all 100: tfstrip-hook fix ")
    assert told.err
    assert all(": pointer: " in line for line in told.err.splitlines())
