"""What a start costs: files that are no models must not pay for what models need."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import one
from saved_made import Made

# Each of these takes longer to import than a bare Python takes to start with a handful of files.
HEAVY = {"argparse", "dataclasses", "github", "h5py", "inspect", "json", "keras", "logging", "numpy", "re", "rich"} | {
    "shutil", "signal", "subprocess", "tempfile", "tensorflow", "typing", "zipfile",
}  # fmt: skip

HOOK = {
    "tfstrip_core",
    "tfstrip_core.errors",
    "tfstrip_core.discover",
    "tfstrip_core.beside",
    "tfstrip_core.containers",
    "tfstrip_core.codecs",
    "tfstrip_core.codecs.layouts",
}


def imported(folder: Path, *words: str) -> set[str]:
    """Run Python in a child with these words; return the modules that it imported beyond an empty module's."""

    def times(*words: str) -> set[str]:
        root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
        paths = os.pathsep.join([str(folder), root, os.environ.get("PYTHONPATH", "")])
        child = subprocess.run(
            [sys.executable, "-X", "importtime", *words],
            env=os.environ | {"PYTHONPATH": paths}, cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert child.returncode in (0, 1), child.stderr
        lines = [line for line in child.stderr.splitlines() if line.startswith("import time:")]
        return {line.rpartition("|")[2].strip() for line in lines[1:]}

    (folder / "empty_module.py").touch()
    found = times(*words)
    assert found  # the child did report
    return found - times("-m", "empty_module")


@pytest.fixture
def no_models(tmp_path: Path) -> list[str]:
    """Write what a commit without models holds: text, pictures, archives, other zips and an empty file."""
    contents = {
        "main.py": b"import os\n" * 200,
        "picture.png": b"\x89PNG\r\n\x1a\n" + os.urandom(4096),
        "package.zip": b"PK\x03\x04" + bytes(26) + b"setup.py" + os.urandom(4096),
        "zeros": bytes(8192),
        "empty": b"",
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    return sorted(contents)


@pytest.mark.parametrize("command", ["check", "fix"])
def test_a_hook_run_without_models_imports_next_to_nothing(command: str, no_models: list[str], tmp_path: Path) -> None:
    """Every commit in a repository pays for whatever is imported here, though it touches no model."""
    found = imported(tmp_path, "-m", "tfstrip_core.hook", command, *no_models)
    assert {name for name in found if name.startswith("tfstrip_core")} == HOOK
    assert not HEAVY & {name.partition(".")[0] for name in found}
    assert len(found) <= len(HOOK) + 3, found  # and importlib, with which a container would be fetched


def test_the_package_itself_imports_next_to_nothing(tmp_path: Path) -> None:
    """`import tfstrip_core` in somebody's program costs nothing until a verb is used."""
    found = imported(tmp_path, "-c", "import tfstrip_core")
    assert {name for name in found if name.startswith("tfstrip_core")} == {"tfstrip_core", "tfstrip_core.errors"}
    assert not HEAVY & {name.partition(".")[0] for name in found}


@pytest.mark.parametrize("module", ["tfstrip_core", "tfstrip_core.hook"])
@pytest.mark.parametrize("file", ["sequential.keras", "sequential.h5"])
def test_checking_a_model_draws_nothing_and_needs_no_framework(module: str, file: str, tmp_path: Path) -> None:
    """A check reads metadata: rich, a framework or the network would double its time."""
    shutil.copy(one("keras3.8.0", file).path, tmp_path)
    found = {name.partition(".")[0] for name in imported(tmp_path, "-m", module, "check", file)}
    assert "h5py" in found
    assert not {"github", "keras", "rich", "tensorflow", "urllib3"} & found


@pytest.mark.parametrize("form", ["checkpoint", "saved model"])
def test_a_strip_without_averages_needs_no_arrays(form: str, tmp_path: Path) -> None:
    """Both numpy and h5py are half of a start; a strip of what TensorFlow wrote has use for neither."""
    model = Made()
    model.object("_momentums", "trackable_list_wrapper")
    model.child("optimizer", _momentums="_momentums")
    model.child("_momentums", **{"0": "m"})
    made = model.write(tmp_path / "model")
    source = made if form == "saved model" else f"{made}/variables/variables"
    if form == "checkpoint":
        os.remove(f"{made}/saved_model.pb")
    found = imported(tmp_path, "-m", "tfstrip_core", "strip", source, "-o", "small")
    assert list(tmp_path.glob("small*"))
    assert "google.protobuf" in found
    assert not {"h5py", "numpy", "rich"} & {name.partition(".")[0] for name in found}


def test_comparing_bytes_starts_no_process(tmp_path: Path) -> None:
    """What runs models costs a verify that does not run them nothing."""
    shutil.copy(one("keras3.8.0", "sequential.keras").path, tmp_path / "m")
    found = imported(tmp_path, "-m", "tfstrip_core", "verify", "m", "m")
    assert "tfstrip_core.verbs.verify" in found
    assert not {"tempfile", "tensorflow"} & found  # subprocess comes with h5py
    assert not any(name.startswith(("tfstrip_core.running", "tfstrip_core.verbs.outputs")) for name in found)


def test_the_verbs_are_there_by_name() -> None:
    """What __all__ promises is importable, and what it does not is an AttributeError, not a surprise."""
    import tfstrip_core

    for name in tfstrip_core.__all__:
        assert callable(getattr(tfstrip_core, name))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        tfstrip_core.nonsense  # noqa: B018
