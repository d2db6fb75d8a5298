"""SavedModels for the tests: those stored, of writers that are not at hand, and those that TensorFlow writes here."""

import json
import os
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from checkpoint_fixtures import Key

FIXTURES = Path(__file__).parent / "fixtures"
STORED = FIXTURES / "data" / "saved_models"
SCRIPT = FIXTURES / "saved_models.py"


@dataclass(frozen=True)
class Model:
    """One SavedModel, with what the live objects of its writer said about it."""

    directory: Path
    writer: str
    facts: dict[str, Any]
    io: Path  # inputs CALL/x/ARGUMENT and outputs of the live model CALL/y/NUMBER

    @property
    def scenario(self) -> str:
        return str(self.facts["scenario"])

    @property
    def id(self) -> str:
        return f"{self.writer}-{self.scenario}"

    @property
    def kind(self) -> str:
        """Return object or graph (of TF 1)."""
        return str(self.facts["kind"])

    @property
    def keys(self) -> tuple[Key, ...]:
        return tuple(
            Key(
                name=name,
                role=facts["role"],
                part=facts["part"],
                bytes=facts["bytes"],
                dtype=facts["dtype"],
                shape=tuple(facts["shape"]),
                of=facts.get("of"),
                shards=tuple(facts.get("shards", [0])),
                slices=facts.get("slices", 0),
                graph_names=(),
            )
            for name, facts in self.facts["keys"].items()
        )

    def of_role(self, *roles: str) -> frozenset[str]:
        """Return the keys with one of these roles: weight, optimizer, average, metric, counter, config, structure."""
        return frozenset(key.name for key in self.keys if key.role in roles)

    def weights(self) -> list[str]:
        """Return the keys of the weights that are floats, the last ones first: a flipped bit there is likely seen."""
        mine = [key.name for key in self.keys if key.role == "weight" and "float" in key.dtype and not key.slices]
        return sorted(mine, reverse=True)

    def loads(self, loader: str, version: str) -> str:
        """Return what a loader made of it when it was tried: ok, impossible, or what was wrong; "" is not tried."""
        return str(self.facts["loaders"].get(version, {}).get(loader, ""))


def read_models(folder: Path, unpacked: Path) -> list[Model]:
    """Describe the models of a folder with an index, unpacked or as they are."""
    index = folder / "index.json"
    entries = json.loads(index.read_text(encoding="utf-8")) if index.exists() else []
    return [Model(unpacked / one["scenario"], one["writer"], one, folder / one["io"]) for one in entries]


def stored_models(unpacked: Path = STORED) -> list[Model]:
    """Describe the stored models; their directories are there once they are unpacked."""
    return [
        model
        for index in sorted(STORED.glob("*/index.json"))
        for model in read_models(index.parent, unpacked / index.parent.name)
    ]


class Models:
    """The models of a test session: written or unpacked when they are first asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def stored(self, writer: str, scenario: str) -> Model:
        """Unpack a stored model."""
        model = next(one for one in stored_models(self.folder) if (one.writer, one.scenario) == (writer, scenario))
        if not model.directory.exists():
            with tarfile.open(STORED / writer / f"{scenario}.tar.gz") as packed:
                packed.extractall(model.directory.parent)
        return model

    def written(self, *scenarios: str) -> list[Model]:
        """Let the TensorFlow at hand write models; one process writes all that are not there yet."""
        here = self.folder / "here"
        missing = [name for name in scenarios if name not in {one.scenario for one in read_models(here, here)}]
        if missing:
            env = {
                **os.environ,
                "CUDA_VISIBLE_DEVICES": "-1",
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "TF_ENABLE_ONEDNN_OPTS": "0",
            }
            env["KERAS_HOME"] = str(self.folder / "keras-home")  # not the settings of whoever runs this
            command = [sys.executable, "-W", "ignore", str(SCRIPT), str(here), *missing]
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr[-3000:]
        return [next(one for one in read_models(here, here) if one.scenario == name) for name in scenarios]


def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    """Make the cache of a session: a folder of its own, or one that is kept, in TFSTRIP_SAVED_MODELS."""
    kept = os.environ.get("TFSTRIP_SAVED_MODELS")
    return Models(Path(kept) if kept else tmp_path_factory.mktemp("saved_models"))
