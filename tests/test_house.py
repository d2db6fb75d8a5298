"""What the repository promises about itself: the wheel, the README, the hooks, the rule table."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import tfstrip_core
from tfstrip_core.rules import RULES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(kind: str) -> list[str]:
    """Return the README's code blocks that are marked for this test."""
    return re.findall(rf"<!-- test: {kind} -->\n```\w+\n(.*?)```", README, re.DOTALL)


def test_the_installed_package_is_under_test() -> None:
    """Where TFSTRIP_INSTALLED=1 the tests run on the built wheel, not on the source tree."""
    inside = Path(tfstrip_core.__file__).is_relative_to(ROOT / "tfstrip_core")
    assert not (os.environ.get("TFSTRIP_INSTALLED") == "1" and inside), tfstrip_core.__file__


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the README's commands need, so that they write nothing into the repository."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    return tmp_path


@pytest.mark.parametrize("kind", ["command line"])
def test_the_readmes_shell_blocks_run_as_written(kind: str, checkout: Path) -> None:
    """Copied and pasted, the commands of the README succeed."""
    (script,) = blocks(kind)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-euc", script],
        cwd=checkout,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_readmes_python_runs_as_written(checkout: Path) -> None:
    """The example of the Python API runs and its assertion holds."""
    (code,) = blocks("python")
    done = subprocess.run([sys.executable, "-c", code], cwd=checkout, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("residue 137,820 of")


def test_the_readme_shows_an_example_as_it_is() -> None:
    """Its code for a live model is an example's to the letter, which test_examples.py runs where TensorFlow is."""
    (shown,) = blocks("example")
    assert "tfstrip_core.save(" in shown
    assert shown in (ROOT / "examples" / "train_sequential.py").read_text()


def test_every_hook_is_in_the_readme_and_the_other_way_round() -> None:
    """The README's configuration names exactly the hooks that the manifest defines."""
    defined = {hook["id"] for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    (block,) = blocks("pre-commit")
    shown = {hook["id"] for repo in yaml.safe_load(block)["repos"] for hook in repo["hooks"]}
    assert shown == defined


def test_every_hook_starts_something_that_is_installed() -> None:
    """Each entry is a console script of the package."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    for hook in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text()):
        assert hook["entry"].split()[0] in scripts
        assert hook["types"] == ["binary"]
        assert hook["require_serial"] is True


def test_every_rule_is_in_the_readme() -> None:
    """A user who meets a code finds it in the README."""
    assert set(RULES) == set(re.findall(r"TFS\d{3}", README))


def test_the_version_is_in_the_changelog() -> None:
    """What is released is described."""
    assert f"## {tfstrip_core.__version__}" in (ROOT / "CHANGELOG.md").read_text()


def test_fixtures_are_small() -> None:
    """All fixtures together stay below 15 MB, so that a clone stays quick."""
    size = sum(path.stat().st_size for path in (ROOT / "tests" / "fixtures").rglob("*") if path.is_file())
    assert size < 15_000_000
