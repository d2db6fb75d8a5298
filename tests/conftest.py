"""What the tests share: the fixtures that real frameworks wrote, and the rule for tests that need more than Python."""

import json
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

FIXTURES = Path(__file__).parent / "fixtures"
E2E = os.environ.get("TFSTRIP_E2E") == "1"

sys.path.insert(0, str(FIXTURES))  # the models' own classes, as a user's code would have them: `import zoo`
sys.path.insert(0, str(Path(__file__).parent))  # for `from conftest import ...` in import mode importlib

import packed  # noqa: E402 - found in FIXTURES

from tfstrip_core.running.child import room  # noqa: E402 - after the paths

CACHE = Path(__file__).parents[1] / ".cache" / "fixtures"


@dataclass(frozen=True)
class Fixture:
    """One model file of the fixtures, with what its writer said about it."""

    path: str
    writer: str
    facts: dict[str, Any]

    @property
    def scenario(self) -> str:
        return str(self.facts["scenario"])

    @property
    def io(self) -> Path:
        """The .npz with the inputs x0, x1, ... and the writer's own predictions y0, y1, ..."""
        return Path(self.path).parent / self.facts["io"]

    @property
    def keras(self) -> int:
        """The major version of the Keras that wrote it."""
        return int(str(self.facts["keras_version"])[0])

    @property
    def files(self) -> list[str]:
        """Paths of all its files: one, or those of a directory or of sharded weights."""
        return [str(Path(self.path).parent / name) for name in self.facts.get("files", [self.facts["file"]])]

    @property
    def by_objects(self) -> bool:
        """Whether it is stored by object paths, as Keras does since 2.12, in whatever it is stored."""
        return not str(self.facts["container"]).startswith("hdf5")

    @property
    def configured(self) -> bool:
        """Whether it is stored so with its config.json: not the weights alone."""
        return self.facts["container"] in ("keras-zip", "keras-directory")

    @property
    def id(self) -> str:
        return f"{self.writer}-{self.facts['file']}"


def fixture_models() -> list[Fixture]:
    """Return every model file of the fixtures, unpacked where they all are read and none is written."""
    return [
        Fixture(str(folder / facts["file"]), index.parent.name, facts)
        for index in sorted(FIXTURES.glob("data/*/index.json"))
        for folder in [packed.unpacked(index.parent / packed.NAME, CACHE)]
        for facts in json.loads(index.read_text())
    ]


MODELS = fixture_models()
FILES = [model for model in MODELS if len(model.files) == 1]
# Those that the tests run in the TensorFlow at hand; make matrix runs every one in that of its writer.
RUN = [m for m in MODELS if m.writer in ("tf2.10", "tf2.15", "keras3.0.5", "keras3.15.1")]
every_model = pytest.mark.parametrize("model", MODELS, ids=lambda model: model.id)


@pytest.fixture(autouse=True, scope="session")
def _nothing_is_written_among_the_fixtures() -> Iterator[None]:
    """The unpacked files serve later runs too, so a run that wrote among them fails and says where."""
    yield
    folders = {Path(model.path).parent for model in MODELS}
    written = [path for folder in sorted(folders) for path in packed.touched(folder)]
    assert not written, f"written to: {written}; remove {CACHE}"


def one(writer: str, file: str) -> Fixture:
    """Return the fixture of that writer and file name."""
    return next(model for model in MODELS if (model.writer, model.facts["file"]) == (writer, file))


def need(*tools: str) -> None:
    """Skip a test whose tools are absent, saying so; where TFSTRIP_E2E=1 they must be there."""
    missing = [tool for tool in tools if shutil.which(tool) is None]
    if missing and E2E:
        pytest.fail(f"TFSTRIP_E2E=1 and {', '.join(missing)} is not installed")
    if missing:
        pytest.skip(f"needs {', '.join(missing)}")


@pytest.fixture(scope="module")
def framework_once() -> Iterator[None]:
    """Let all tests of a file start processes from one that has imported TensorFlow, which takes seconds."""
    with room():
        yield


@pytest.fixture
def copy(tmp_path: Path):
    """Return a function that copies a fixture into the test's own directory and gives the copy's path."""

    def make(model: Fixture, name: str = "") -> str:
        return str(shutil.copy(model.path, tmp_path / (name or os.path.basename(model.path))))

    return make
