"""The checkpoints of the fixtures are what their indexes say, and no machine is to be seen in them."""

from pathlib import Path

import pytest
from checkpoint_fixtures import ALL, CHECKPOINTS, Checkpoint, every_checkpoint

ROLES = {"weight", "optimizer", "average", "metric", "counter", "pipeline", "undecided", "config", "structure"}


@every_checkpoint
def test_the_index_describes_the_files(checkpoint: Checkpoint) -> None:
    assert {path.name: path.stat().st_size for path in checkpoint.files} == checkpoint.facts["files"]
    assert checkpoint.facts["loads"], "its own writer restored it in a fresh process, to the recorded predictions"
    assert {key.role for key in checkpoint.keys} <= ROLES
    assert checkpoint.io.exists()
    assert all(key.of in checkpoint.of_role("weight") for key in checkpoint.keys if key.of)
    stored = sum(path.stat().st_size for path in checkpoint.files if ".data-" in path.name)
    assert checkpoint.kind == "v1" or sum(key.bytes for key in checkpoint.keys) == stored


def test_every_file_belongs_to_a_checkpoint() -> None:
    known = {path for checkpoint in ALL for path in (*checkpoint.files, checkpoint.io)}
    found = {path for path in CHECKPOINTS.rglob("*") if path.is_file() and path.name != "index.json"}
    assert found == known


@pytest.mark.parametrize(
    "path", sorted(CHECKPOINTS.rglob("checkpoint")), ids=lambda path: f"{path.parents[1].name}-{path.parent.name}"
)
def test_state_files_are_relative_but_for_one_author(path: Path) -> None:
    absolute = b'"/' in path.read_bytes()
    assert absolute == (path.parent.name == "state_absolute")
    assert not absolute or path.read_bytes().count(b'"/') == path.read_bytes().count(
        b'"/home/author/run1/model.ckpt-1"'
    )
