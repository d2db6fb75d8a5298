"""Averages of the weights: never lost silently, applied only where the pairing is certain."""

from pathlib import Path

import pytest
from conftest import MODELS, Fixture, one
from independent import tensors

import tfstrip_core
from tfstrip_core.containers import average_values

TOLD = [m for m in MODELS if m.scenario == "ema_mid_fit"]
MID_FIT = [m for m in TOLD if m.configured or not m.by_objects]
# Only the values show what these are: the class is the user's own, or there are weights alone, without a config.
CUSTOM = [m for m in MODELS if m.scenario == "custom_ema" or (m in TOLD and m not in MID_FIT)]
# The names in the one lack the layers' own; the others list each layer twice, by which no order of weights is certain.
UNPAIRED = [("keras3.0.5", ".h5"), ("tf2.12", ".keras"), ("tf2.13", ".keras")]
AFTER_FIT = [m for m in MODELS if m.scenario == "ema_after_fit"]


@pytest.mark.parametrize("model", MID_FIT + CUSTOM, ids=lambda m: m.id)
def test_averages_that_differ_stop_the_strip(model: Fixture, tmp_path: Path) -> None:
    """A file saved in mid-fit, also by an optimizer class of the user's own, is not stripped without a word."""
    with pytest.raises(tfstrip_core.NeedsChoice, match="--ema drop"):
        tfstrip_core.strip(model.path, str(tmp_path / Path(model.path).name))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", MID_FIT, ids=lambda m: m.id)
def test_averages_are_reported_without_reading_them(model: Fixture) -> None:
    """The finding names exactly the arrays that the writer knows to be averages, from names and config alone."""
    inventory = tfstrip_core.inspect(model.path)
    found = {name for finding in inventory.findings if finding.rule == "TFS106" for name in finding.tensors}
    assert found == set(model.facts["labels"]["averages"])


@pytest.mark.parametrize("model", AFTER_FIT, ids=lambda m: m.id)
def test_averages_that_fit_applied_already_go_unasked(model: Fixture, tmp_path: Path) -> None:
    """After fit() the averages equal the weights bit for bit: optimizer state, and nobody is asked."""
    result = tfstrip_core.strip(model.path, str(tmp_path / Path(model.path).name))
    assert {item.rule for item in result.removed} <= {"TFS101", "TFS102", "TFS201"}
    assert set(model.facts["labels"]["averages"]) <= {item.name for item in result.removed}


@pytest.mark.parametrize("model", MID_FIT + CUSTOM, ids=lambda m: m.id)
def test_drop_keeps_the_weights(model: Fixture, tmp_path: Path) -> None:
    """--ema drop keeps every weight as it is, verifies, and leaves no average."""
    target = str(tmp_path / Path(model.path).name)
    tfstrip_core.strip(model.path, target, ema="drop")
    before, after = tensors(model.path), tensors(target)
    assert all(before[name] == value for name, value in after.items())
    assert not set(model.facts["labels"]["averages"]) & set(after)
    comparison = tfstrip_core.verify(model.path, target)
    assert comparison.equal
    assert comparison.notes or model in CUSTOM


@pytest.mark.parametrize("model", MID_FIT, ids=lambda m: m.id)
def test_apply_puts_each_average_into_its_weight(model: Fixture, tmp_path: Path) -> None:
    """--ema apply gives each weight the bytes of the average that the writer paired with it, or refuses to guess."""
    target = str(tmp_path / Path(model.path).name)
    if not any(finding.pairs for finding in tfstrip_core.inspect(model.path).findings):
        assert (model.writer, Path(model.path).suffix) in UNPAIRED
        with pytest.raises(tfstrip_core.NeedsChoice, match="not certain"):
            tfstrip_core.strip(model.path, target, ema="apply")
        return
    tfstrip_core.strip(model.path, target, ema="apply")
    before, after = tensors(model.path), tensors(target)
    pairs = model.facts["labels"]["averages"]
    assert pairs
    for average, weight in pairs.items():
        assert after[weight] == before[average]
        assert after[weight] != before[weight]
    assert tfstrip_core.verify(model.path, target, ema="apply").equal
    assert not tfstrip_core.verify(model.path, target).equal


@pytest.mark.parametrize("model", CUSTOM, ids=lambda m: m.id)
def test_apply_refuses_to_guess(model: Fixture, tmp_path: Path) -> None:
    """Averages that only their values give away have no certain pairing: refused, nothing written."""
    with pytest.raises(tfstrip_core.NeedsChoice, match="not certain"):
        tfstrip_core.strip(model.path, str(tmp_path / Path(model.path).name), ema="apply")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", [m for m in MODELS if m.scenario == "custom_momentum"], ids=lambda m: m.id)
def test_a_custom_momentum_is_no_average(model: Fixture, tmp_path: Path) -> None:
    """Values that point another way do not stop the strip of a custom optimizer."""
    assert tfstrip_core.strip(model.path, str(tmp_path / Path(model.path).name)).removed


def test_state_taken_by_also_is_looked_at_too(tmp_path: Path) -> None:
    """Suspected state that --also names is sampled for averages before it goes."""
    inventory = tfstrip_core.inspect(one("keras3.15.1", "gan.keras").path)
    suspected = [finding for finding in inventory.findings if finding.rule == "TFS107"]
    assert suspected
    assert all(average_values.needs_values(finding, [finding.subject]) for finding in suspected)
    assert not any(average_values.needs_values(finding, []) for finding in suspected)
