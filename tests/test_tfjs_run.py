"""What is left of TensorFlow.js models runs in TensorFlow.js, and predicts to the bit what it predicted."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import need
from tfjs_made import ALL, CONVERTED, QUANTIZED, SAVED, copied, said

from tfstrip_core import strip

pytestmark = pytest.mark.e2e
HERE = Path(__file__).parent / "tfjs"


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install TensorFlow.js as package-lock.json pins it; return the folder."""
    need("node", "npm")
    folder = tmp_path_factory.mktemp("tfjs")
    for name in ("package.json", "package-lock.json"):
        shutil.copy(HERE / name, folder)
    words = ["npm", "ci", "--no-audit", "--no-fund", "--silent", "--prefix", str(folder)]
    subprocess.run(words, check=True, capture_output=True)
    return folder


def predicted(library: Path, paths: list[str]) -> list[dict[str, Any]]:
    words = ["node", str(HERE / "predict.mjs"), str(library), *paths]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.split("\n") if line]


def test_predictions_are_equal_to_the_bit_and_nothing_is_said(library: Path, tmp_path: Path) -> None:
    """Every model, its strip in place and into another folder: loaded without a warning, compiled no longer."""
    sources = [str(SAVED / name / "model.json") for name in ALL]
    sources += [str(CONVERTED / name / "model.json") for name in ("converted", "split", *QUANTIZED)]
    before = predicted(library, sources)
    targets = []
    for number, source in enumerate(sources):
        folder = tmp_path / str(number)
        folder.mkdir()
        targets += [str(folder / "small.json"), copied(tmp_path / f"{number}-in-place", Path(source).parent.name)]
        strip(source, targets[-2])
        strip(targets[-1], in_place=True)
    after = predicted(library, targets)
    assert len(after) == 2 * len(before)
    for number, one in enumerate(before):
        assert len(one["bytes"]) > 60, one
        for other in after[2 * number : 2 * number + 2]:
            assert (other["bytes"], other["metadata"], other["said"]) == (one["bytes"], one["metadata"], [])
            assert other["compiled"] is False
    assert [one["compiled"] for one in before[: len(ALL)]] == [name != "plain" for name in ALL]


def test_one_changed_bit_is_seen(library: Path, tmp_path: Path) -> None:
    """The negative control: a bit of a weight, a weight that is gone, and bytes in another order."""
    target = copied(tmp_path / "model")
    strip(target, in_place=True)
    file = tmp_path / "model" / "group1-shard1of2.bin"
    data = file.read_bytes()
    (whole,) = predicted(library, [target])
    file.write_bytes(data[:2] + bytes([data[2] ^ 64]) + data[3:])
    (other,) = predicted(library, [target])
    assert other["bytes"] != whole["bytes"]
    file.write_bytes(data[4:] + data[:4])
    assert predicted(library, [target])[0].get("bytes") != whole["bytes"]
    file.write_bytes(data[512:])
    value = said(target)
    del value["weightsManifest"][0]["weights"][0]
    Path(target).write_text(json.dumps(value))
    assert "error" in predicted(library, [target])[0]
