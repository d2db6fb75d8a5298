"""Restoring the fixtures' checkpoints into fresh live objects, in the TensorFlow at hand.

The scenarios of fixtures/checkpoints.py build the objects, as their writer's own check has them built: here what is
restored is any prefix, so that a checkpoint and what is left of it can be compared.
"""

import importlib.util
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from checkpoint_fixtures import Checkpoint

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

# Scenarios that the Keras at hand cannot write any more, and others with the same model, tracked by the same names.
STAND_INS = {"modern_optimizer": "adam_batchnorm", "addons_": "slots_momentum"}
# Keras 3 finds what is held in a plain list by way of the optimizer alone.
LISTS = ("subclassed_list", "wrapper_optimizer", "wrapper_optimizer_bare")


@cache
def writer() -> ModuleType:
    """Return fixtures/checkpoints.py as a module; a test module has its name."""
    path = Path(__file__).parent / "fixtures" / "checkpoints.py"
    spec = importlib.util.spec_from_file_location("checkpoint_writer", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def scenario_of(checkpoint: Checkpoint) -> Callable[[Any], None] | None:
    """Return the function that builds the checkpoint's objects, None where this framework has it not."""
    for start, other in STAND_INS.items():
        if checkpoint.scenario.startswith(start):
            return writer().SCENARIOS.get(other)
    return writer().SCENARIOS.get(checkpoint.scenario)


def needs_optimizer(checkpoint: Checkpoint) -> bool:
    return checkpoint.scenario in LISTS and bool(writer().KERAS_3)


def is_mine(checkpoint: Checkpoint) -> bool:
    """Whether the checkpoint is one of objects, of the generation of Keras that is at hand."""
    three = checkpoint.writer.startswith("keras")
    return checkpoint.kind == "object" and three == writer().KERAS_3 and scenario_of(checkpoint) is not None


@dataclass
class Live:
    """Objects as they were built, not restored."""

    track: dict[str, Any]
    root: Any
    predict: Callable[[Any], Any]
    weights: list[Any]
    how: str
    tables: list[Any] = field(default_factory=list)

    @property
    def model(self) -> Any:
        return self.track.get("model", self.track.get("generator"))

    def restore(self, prefix: str) -> Any:
        """Restore as a user would, and return the status, which can be asked whether all was there and was used."""
        if self.how == "weights":
            return self.model.load_weights(prefix)
        counted = "save_counter/.ATTRIBUTES/VARIABLE_VALUE" in dict(writer().tf.train.list_variables(prefix))
        return self.root.restore(prefix) if counted else self.root.read(prefix)

    def train(self) -> float:
        """Take one step with a fresh optimizer; return the loss."""
        x, y = writer().X, writer().Y
        optimizer = writer().keras.optimizers.SGD(0.05)
        if hasattr(self.model, "fit"):
            self.model.compile(optimizer=optimizer, loss="mse", run_eagerly=True)
            return float(self.model.fit(x, y, epochs=1, verbose=0).history["loss"][0])
        tf = writer().tf
        with tf.GradientTape() as tape:
            loss = writer().mean_square(self.model(x) - y)
        weights = self.model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights, strict=True))
        return float(loss)

    def values(self) -> list[tuple[Any, ...]]:
        """Return type, shape and bytes of every weight, and what is in the tables."""
        arrays = [np.asarray(writer().to_array(weight)) for weight in self.weights]
        tables = [sorted(zip(*(part.numpy().tolist() for part in one.export()), strict=True)) for one in self.tables]
        return [
            (str(a.dtype), a.shape, a.tolist() if a.dtype == object else a.tobytes()) for a in arrays
        ] + [tuple(table) for table in tables]  # fmt: skip


class Fresh(writer().Case):  # type: ignore[misc]
    """A case that is neither written nor checked: `live` is what the scenario built for one of its checkpoints."""

    def __init__(self, folder: Path, checkpoint: Checkpoint, bare: bool) -> None:
        super().__init__(folder, checkpoint.scenario, True, [])
        self.checkpoint = checkpoint
        self.bare = bare  # without optimizers
        self.live: Live | None = None
        self.within: Callable[[Any, dict[str, Any]], None] | None = None

    def is_wanted(self) -> bool:
        self.count += 1
        io = self.name + (f"-{self.count}" if self.count > 1 else "") + ".npz"
        return bool(io == self.checkpoint.facts["io"])

    def fit(self, model: Any, optimizer: Any, x: Any = None, mid: Callable[[], None] | None = None, **rest: Any) -> Any:
        if not self.bare:
            return super().fit(model, optimizer, x, mid, **rest)
        model((writer().X if x is None else x)[:1])
        vars(model)["optimizer"] = None  # the scenarios name it
        if mid:
            mid()
        return model

    def build(self, optimizer: Any, weights: list[Any]) -> None:
        if not self.bare:
            super().build(optimizer, weights)

    def objects(
        self,
        track: dict[str, Any],
        predict: Callable[[Any], Any],
        weights: list[Any],
        optimizers: Iterable[Any] = (),
        roles: Iterable[tuple[Iterable[Any], str, str]] = (),
        how: str = "save",
        root: Any = None,
        **rest: Any,
    ) -> None:
        if not self.is_wanted():
            return
        mine = [one for members, role, _ in roles if role == "weight" for one in members]
        tables = [one for one in mine if hasattr(one, "export")]
        weights = [*weights, *(one for one in mine if not hasattr(one, "export"))]
        if self.bare:
            left_out = [None, *optimizers]
            track = {name: one for name, one in track.items() if not any(one is other for other in left_out)}
            track = {name: one for name, one in track.items() if not hasattr(one, "__next__")}
        if self.bare or root is None:
            root = writer().tf.train.Checkpoint(**track)
        self.live = Live(track, root, predict, weights, how, tables)

    def graph(self, build: Callable[[], dict[str, Any]], **rest: Any) -> None:
        if self.is_wanted() and self.within:
            tf = writer().tf
            with tf.Graph().as_default(), tf.compat.v1.Session() as session:
                tf.compat.v1.set_random_seed(23)
                self.within(session, build())


def build(
    checkpoint: Checkpoint, bare: bool = False, within: Callable[[Any, dict[str, Any]], None] | None = None
) -> Live | None:
    """Run the checkpoint's scenario with other seeds than its writer; a graph is given to `within`."""
    function = scenario_of(checkpoint)
    assert function is not None
    random.seed(23)
    np.random.seed(23)
    writer().tf.random.set_seed(23)
    if writer().KERAS_3:
        writer().keras.utils.set_random_seed(23)
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(checkpoint.folder, f"{folder}/{checkpoint.scenario}")
        case = Fresh(Path(folder), checkpoint, bare)
        case.within = within
        function(case)
    return case.live


def fresh(checkpoint: Checkpoint, bare: bool = False) -> Live:
    """Return objects of the checkpoint's scenario that know nothing of it; `bare` of optimizers and iterators."""
    live = build(checkpoint, bare)
    assert live is not None
    return live


def readable(prefix: str, folder: Path) -> str:
    """Return a prefix that TensorFlow restores from: an empty one it takes for a folder."""
    if not prefix.endswith("/"):
        return prefix
    folder.mkdir()
    for path in Path(prefix).glob(".*"):
        shutil.copy(path, f"{folder}/model{path.name}")
    return f"{folder}/model"
