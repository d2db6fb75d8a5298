"""The checkpoints that real TensorFlow wrote, for the tests. fixtures/checkpoints.py wrote them and their indexes."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

CHECKPOINTS = Path(__file__).parent / "fixtures" / "data" / "checkpoints"


@dataclass(frozen=True)
class Key:
    """One tensor of a checkpoint, with what the live objects of its writer said about it."""

    name: str
    role: str  # weight, optimizer, average, metric, counter, pipeline, undecided; config and structure are no tensors
    part: str  # which part of its role: "slot m", iterations, hyperparameter, use_ema, ...
    bytes: int  # as stored, all slices
    dtype: str
    shape: tuple[int, ...]
    of: str | None  # the key of the weight that a slot or an average belongs to, where the writer knows it
    shards: tuple[int, ...]
    slices: int  # 0: not partitioned
    graph_names: tuple[str, ...]  # of the variables in the graph; one for each slice


@dataclass(frozen=True)
class Checkpoint:
    """One checkpoint of the fixtures."""

    prefix: str  # absolute; it ends with "/" where the prefix is empty
    writer: str
    facts: dict[str, Any]
    keys: tuple[Key, ...]

    @property
    def scenario(self) -> str:
        return str(self.facts["scenario"])

    @property
    def kind(self) -> str:
        """Return object, name or v1."""
        return str(self.facts["kind"])

    @property
    def folder(self) -> Path:
        """The folder of the scenario: it may hold other checkpoints, and the state file."""
        return CHECKPOINTS / self.writer / self.scenario

    @property
    def files(self) -> tuple[Path, ...]:
        """The files of this checkpoint and the state file, if there is one."""
        return tuple(self.folder / name for name in self.facts["files"])

    @property
    def has_meta(self) -> bool:
        return bool(self.facts["meta"])

    @property
    def io(self) -> Path:
        """The .npz with the inputs x0, the predictions y0 and, with the averages as weights, yavg0."""
        return CHECKPOINTS / self.writer / self.facts["io"]

    @property
    def id(self) -> str:
        return "{}-{}".format(self.writer, self.facts["prefix"].replace("/", "-"))

    def of_role(self, *roles: str) -> frozenset[str]:
        """Return the names of the keys with one of these roles."""
        return frozenset(key.name for key in self.keys if key.role in roles)

    def bytes_of(self, *roles: str) -> int:
        return sum(key.bytes for key in self.keys if key.role in roles)


def _key(name: str, facts: dict[str, Any]) -> Key:
    return Key(
        name=name,
        role=facts["role"],
        part=facts["part"],
        bytes=facts["bytes"],
        dtype=facts["dtype"],
        shape=tuple(facts["shape"]),
        of=facts.get("of"),
        shards=tuple(facts.get("shards", [0])),
        slices=facts.get("slices", 0),
        graph_names=tuple(facts.get("graph_names", [name])),
    )


def all_checkpoints() -> list[Checkpoint]:
    """Return every checkpoint of the fixtures."""
    return [
        Checkpoint(
            prefix=f"{index.parent}/{facts['prefix']}",
            writer=index.parent.name,
            facts=facts,
            keys=tuple(_key(name, of_key) for name, of_key in facts["keys"].items()),
        )
        for index in sorted(CHECKPOINTS.glob("*/index.json"))
        for facts in json.loads(index.read_text(encoding="utf-8"))
    ]


ALL = all_checkpoints()
every_checkpoint = pytest.mark.parametrize("checkpoint", ALL, ids=lambda checkpoint: checkpoint.id)


def one(writer: str, scenario: str, number: int = 0) -> Checkpoint:
    """Return the checkpoint of that writer and scenario; some scenarios have several."""
    return [found for found in ALL if (found.writer, found.scenario) == (writer, scenario)][number]
