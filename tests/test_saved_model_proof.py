"""Stored SavedModels, stripped, give the same as their originals under every loader of the TensorFlow at hand.

A loader under which an original does not run proves nothing, so that these are listed: another one that stops to run
fails here, and so does one that begins to.
"""

import os
from collections.abc import Iterator
from importlib.metadata import packages_distributions, version
from importlib.util import find_spec
from pathlib import Path

import pytest
from conftest import E2E
from saved_model_fixtures import Model, Models, models, stored_models
from saved_model_proof import LOADERS, PROFILES, Proof
from saved_model_run import Runner

from tfstrip_core.inventory import Profile

if find_spec("tensorflow") is None and not E2E:
    pytest.skip("needs TensorFlow: make test installs it", allow_module_level=True)

pytestmark = [pytest.mark.keras, pytest.mark.filterwarnings("default")]


def tensorflow() -> tuple[int, ...]:
    """The version at hand, without an import."""
    (distribution, *_) = packages_distributions()["tensorflow"]
    return tuple(map(int, version(distribution).split(".")[:2]))


KERAS_3 = tensorflow() >= (2, 16) and os.environ.get("TF_USE_LEGACY_KERAS") != "1"

# Where the original does not run, and what becomes of it. Elsewhere it runs, and the result gives the same bytes.
STATES: dict[str, dict[str, str]] = {
    "graph_ema_swapped": {"tflite": "repaired"},  # TFLite: nothing may assign a ref variable
    "module_file_table": {"tflite": "original fails"},  # TFLite: nothing fills a table
}
# Slots need the Keras that made them; and without them TFLite still has no interpreter for float16 or for strings.
ADD_SLOT = {"v2": "repaired", "callables": "repaired", "tflite": "repaired"}
STATES_KERAS_3 = {
    **STATES,
    "addons_average_tf": ADD_SLOT,
    "legacy_optimizer_tf": ADD_SLOT,
    "mixed_precision_tf": {**ADD_SLOT, "tflite": "original fails"},
    "subclassed_tf": ADD_SLOT,
    "text_tf": {**ADD_SLOT, "tflite": "original fails"},
}


def expected(model: Model, loader: str) -> str:
    """Return what is to become of a model under a loader."""
    if loader == "callables" and model.kind == "graph":
        return "impossible"
    if loader == "load_model" and (KERAS_3 or not model.facts["keras"]):
        return "impossible"
    return (STATES_KERAS_3 if KERAS_3 else STATES).get(model.scenario, {}).get(loader, "equal")


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Models:
    return models(tmp_path_factory)


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with Runner() as started:
        yield started


every = pytest.mark.parametrize("model", stored_models(), ids=lambda model: model.id)


# What only serves runs as part of the other; the campaign (make savedmodels) tries every loader on it, and control.
TRIED: dict[Profile, tuple[str, ...]] = {"inference": LOADERS["inference"], "serving": ("v2", "c++")}
# One of each way to hold variables: resources and objects, refs, slices, a table from a file, float16, text.
CONTROLLED = (
    "graph_adam", "graph_partitioned", "graph_resource_variables", "mixed_precision_tf", "module_file_table", "text_tf",
)  # fmt: skip


@every
@pytest.mark.parametrize("profile", PROFILES)
def test_a_stripped_model_gives_the_same(
    model: Model, profile: Profile, stored: Models, runner: Runner, tmp_path: Path
) -> None:
    """The same bytes as the original under the same loader, and the live model's numbers; what fails is expected to."""
    proof = Proof(stored.stored(model.writer, model.scenario), profile, tmp_path / "small")
    wrong, states = proof.run(runner, TRIED[profile])
    assert wrong == []
    assert states == {loader: expected(model, loader) for loader in TRIED[profile]}


@pytest.mark.parametrize("scenario", CONTROLLED)
def test_one_flipped_bit_of_a_stripped_model_is_noticed(
    scenario: str, stored: Models, runner: Runner, tmp_path: Path
) -> None:
    """A bit of one weight that stayed: every loader under which the result runs gives something else."""
    model = next(one for one in stored_models() if one.scenario == scenario)
    proof = Proof(stored.stored(model.writer, model.scenario), "inference", tmp_path / "small")
    proof.strip()
    loaders = [one for one in LOADERS["inference"] if expected(model, one) in ("equal", "repaired")]
    assert proof.unnoticed(runner, loaders) == []
