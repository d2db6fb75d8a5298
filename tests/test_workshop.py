"""The private directory beside the target: gone after every run, also after one that was killed."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from conftest import one

import tfstrip_core
from tfstrip_core import replace

MODEL = one("keras3.15.1", "sequential.keras")


def age(path: Path, seconds: float) -> None:
    """Make a directory as old as a run that was killed a while ago."""
    then = os.stat(path).st_mtime - seconds
    os.utime(path, (then, then))


def test_what_a_killed_run_left_behind_goes_with_the_next(tmp_path: Path) -> None:
    """A workshop whose process is gone is removed with what lies in it, and is no model to a walk until then."""
    source = str(shutil.copy(MODEL.path, tmp_path / "model.keras"))
    code = (
        "import os, sys\nfrom tfstrip_core import replace\n"
        f"with replace.workshop({source!r}) as folder:\n"
        f"    os.link({source!r}, os.path.join(folder, 'result'))\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -9
    (left,) = tmp_path.glob(".tfstrip-*")
    assert len(tfstrip_core.check([str(tmp_path)]).inventories) == 1
    age(left, 2 * replace.GRACE)
    tfstrip_core.strip(source, in_place=True)
    assert os.listdir(tmp_path) == ["model.keras"]


def test_the_workshop_of_a_run_that_lives_is_left_alone(tmp_path: Path) -> None:
    """However old, a locked workshop belongs to somebody."""
    with replace.workshop(str(tmp_path / "a")) as mine:
        age(Path(mine), 2 * replace.GRACE)
        with replace.workshop(str(tmp_path / "b")):
            assert Path(mine).is_dir()


def test_a_young_workshop_is_left_alone(tmp_path: Path) -> None:
    """A directory that was made a moment ago may not be locked yet."""
    (tmp_path / ".tfstrip-young").mkdir()
    with replace.workshop(str(tmp_path / "a")):
        assert (tmp_path / ".tfstrip-young").is_dir()


def test_a_link_of_that_name_leads_nowhere(tmp_path: Path) -> None:
    """A symlink called like a workshop never makes the sweep remove what it points to."""
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    age(precious, 2 * replace.GRACE)
    (tmp_path / ".tfstrip-link").symlink_to(precious)
    with replace.workshop(str(tmp_path / "a")):
        assert (precious / "file").exists()
