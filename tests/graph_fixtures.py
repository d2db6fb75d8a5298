"""The graphs that fixtures/graphs.py wrote, unpacked from the archive of each writer."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packed
import pytest
from conftest import CACHE, FIXTURES

GRAPHS = FIXTURES / "data" / "graphs"
ENDINGS = (".pb", ".pbtxt", ".meta")
FORMATS = {".pb": "graph-def", ".pbtxt": "graph-def-text", ".meta": "meta-graph"}


@dataclass(frozen=True)
class Graph:
    """One scenario of one writer; `folder` holds SCENARIO.pb, .pbtxt, .meta, .frozen.pb, .npz and values/SCENARIO."""

    writer: str
    folder: Path
    facts: dict[str, Any]

    @property
    def scenario(self) -> str:
        return str(self.facts["scenario"])

    @property
    def outputs(self) -> list[str]:
        return list(self.facts["outputs"])

    @property
    def named(self) -> list[str]:
        """The words of a strip that name the outputs."""
        return ["--output-names", ",".join(self.outputs)]

    def path(self, ending: str) -> str:
        return str(self.folder / (self.scenario + ending))

    def copy(self, folder: Path, ending: str) -> str:
        """Copy one of the files into a folder, without what lies beside it; return its path."""
        return str(shutil.copy(self.path(ending), folder))


def _all() -> list[Graph]:
    return [
        Graph(index.parent.name, packed.unpacked(index.parent / packed.NAME, CACHE / "graphs"), facts)
        for index in sorted(GRAPHS.glob("*/index.json"))
        for facts in json.loads(index.read_text())
    ]


ALL = _all()
every_graph = pytest.mark.parametrize("graph", ALL, ids=lambda graph: f"{graph.writer}-{graph.scenario}")
every_form = pytest.mark.parametrize("ending", ENDINGS)


def one(writer: str, scenario: str) -> Graph:
    """Return the graph of that writer and scenario."""
    return next(graph for graph in ALL if (graph.writer, graph.scenario) == (writer, scenario))
