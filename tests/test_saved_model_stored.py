"""SavedModels of TensorFlow 1.15, 2.10 and 2.12, stripped without a framework: what goes is what their writers said."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from saved_model_fixtures import Model, Models, models, stored_models
from saved_model_proof import PROFILES, Proof, contents

from tfstrip_core import inspect
from tfstrip_core.inventory import Profile

every = pytest.mark.parametrize("model", stored_models(), ids=lambda model: model.id)
both = pytest.mark.parametrize("profile", PROFILES)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    return models(tmp_path_factory)


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


@every
@both
def test_what_goes_is_what_the_live_objects_were(
    model: Model, profile: Profile, stored: Models, tmp_path: Path
) -> None:
    """Every tensor of an optimizer, a metric or an average goes, and every other stays with its content."""
    proof = Proof(stored.stored(model.writer, model.scenario), profile, tmp_path / "small")
    proof.strip()
    assert proof.wrong_keys() == []
    assert proof.equal()
    if profile == "inference" and any(proof.may_go(key) for key in proof.roles()):
        assert len(contents(proof.target)) < len(contents(proof.source))
        assert inspect(str(proof.target)).residue_bytes == 0


@every
def test_the_bytes_of_each_role_are_what_the_live_objects_had(model: Model, stored: Models, tmp_path: Path) -> None:
    """What inspect calls a weight, an optimizer's, a metric's, an average or a counter was one when it was saved."""
    proof = Proof(stored.stored(model.writer, model.scenario), "inference", tmp_path / "small")
    assert proof.wrong_roles() == []


@every
@both
def test_the_same_bytes_each_time_and_from_what_is_stripped(
    model: Model, profile: Profile, stored: Models, tmp_path: Path
) -> None:
    """A second run writes the same files, and a strip of the result changes nothing."""
    proof = Proof(stored.stored(model.writer, model.scenario), profile, tmp_path / "small")
    proof.strip()
    proof.strip(tmp_path / "again")
    assert files(tmp_path / "again") == files(proof.target)
    Proof(model, profile, tmp_path / "twice").strip_of(proof.target)
    assert files(tmp_path / "twice") == files(proof.target)
