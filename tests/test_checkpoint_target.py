"""What lies at the target of a checkpoint's strip: kept without --force, gone with it, whole afterwards."""

import os
import shutil
from pathlib import Path

import pytest
from checkpoint_fixtures import one

import tfstrip_core

SHARDED, NAMED, PLAIN = one("tf1.15", "keras_tf1_optimizer"), one("tf1.15", "graph_adam"), one("tf2.15", "manager")


@pytest.mark.parametrize("ending", [".index", ".data-00000-of-00001"])
def test_no_file_is_overwritten_unasked(ending: str, tmp_path: Path) -> None:
    """Also one that only the result has: a source of two shards becomes one."""
    (tmp_path / f"t{ending}").write_text("mine")
    with pytest.raises(tfstrip_core.UsageError, match="exists"):
        tfstrip_core.strip(SHARDED.prefix, str(tmp_path / "t"))
    assert os.listdir(tmp_path) == [f"t{ending}"]
    assert (tmp_path / f"t{ending}").read_text() == "mine"


def test_with_force_nothing_of_the_old_checkpoint_stays(tmp_path: Path) -> None:
    """Neither its .meta file nor a shard more than the new one has."""
    for source in (SHARDED, NAMED, PLAIN):
        for old in (SHARDED, NAMED, PLAIN):
            target = tmp_path / f"{source.scenario}-{old.scenario}"
            target.mkdir()
            for file in old.files:
                if file.name != "checkpoint":
                    shutil.copy(file, target / file.name.replace(Path(old.prefix).name, "t", 1))
            tfstrip_core.strip(source.prefix, str(target / "t"), force=True)
            tfstrip_core.strip(source.prefix, str(target / "fresh"), force=True)
            names = sorted(name.removeprefix("fresh") for name in os.listdir(target) if name.startswith("fresh"))
            assert sorted(name.removeprefix("t") for name in os.listdir(target) if name.startswith("t")) == names
            for name in names:
                assert (target / f"t{name}").read_bytes() == (target / f"fresh{name}").read_bytes()


def test_damage_is_told_before_averages_are(tmp_path: Path) -> None:
    """A flipped bit in a weight is no reason to ask which weights to serve."""
    source = one("keras3.15.1", "ema_after_fit")
    for file in source.files:
        shutil.copy(file, tmp_path)
    path = tmp_path / Path(source.prefix).name
    data = Path(f"{path}.data-00000-of-00001")
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(content)
    with pytest.raises(tfstrip_core.Unreadable):
        tfstrip_core.strip(str(path), str(tmp_path / "out"))
