"""What inspect says of every fixture, against what its writer knew of the live model."""

import os

import pytest
from conftest import MODELS, Fixture, every_model, one
from independent import tensors

import tfstrip_core
from tfstrip_core.inventory import Inventory

FORMATS = {
    "keras-zip": "keras-zip",
    "keras-directory": "keras-directory",
    "weights-v3": "keras-weights",
    "weights-shards": "keras-shards",
    "hdf5-whole": "keras-hdf5",
    "hdf5-weights": "keras-hdf5-weights",
}

# The optimizer groups in these hold what structure alone cannot prove.
SUSPECTED = {"gan": "TFS107", "wrapper_optimizer": "TFS107", "vq_attr": "TFS108"}


def by_role(inventory: Inventory, role: str) -> int:
    return sum(tensor.bytes for tensor in inventory.tensors if tensor.role == role)


def rules(inventory: Inventory) -> set[str]:
    return {finding.rule for finding in inventory.findings}


@every_model
def test_format_and_writer(model: Fixture) -> None:
    """The container is told by content, and its writer by its own word."""
    inventory = tfstrip_core.inspect(model.path)
    assert inventory.format == FORMATS[model.facts["container"]]
    if "weights" not in model.facts["container"]:  # alone, they do not say it
        assert model.facts["keras_version"].removesuffix("-tf") in inventory.writer
    assert inventory.bytes == sum(os.path.getsize(path) for path in model.files)


@every_model
def test_every_dataset_is_a_tensor_in_one_finding_at_most(model: Fixture) -> None:
    """Each stored array is listed once, with the dtype's size, and no finding counts a tensor of another."""
    inventory = tfstrip_core.inspect(model.path)
    stored = tensors(model.path)
    assert {t.name: (t.shape, t.bytes) for t in inventory.tensors} == {
        n: (s, len(b)) for n, (_, s, b) in stored.items()
    }
    covered = [name for finding in inventory.findings for name in finding.tensors]
    assert len(covered) == len(set(covered))
    sizes = {tensor.name: tensor.bytes for tensor in inventory.tensors}
    for finding in inventory.findings:
        if finding.tensors:
            assert finding.bytes == sum(sizes[name] for name in finding.tensors)


@every_model
def test_weights_are_exactly_the_live_models(model: Fixture) -> None:
    """The bytes that are kept by default are those of model.weights: no weight is taken for state, no state kept."""
    inventory = tfstrip_core.inspect(model.path)
    kept = by_role(inventory, "weight")
    if model.scenario == "vq_attr" and "TFS108" in rules(inventory):
        kept += by_role(inventory, "undecided")
    if model.scenario == "lora":
        assert kept <= model.facts["weights"]  # a and b were merged into the kernel on saving
    else:
        assert kept == model.facts["weights"]


@every_model
def test_optimizer_state_is_found_where_it_is(model: Fixture) -> None:
    """TFS101 (or TFS107 where only suspicion is possible) fires exactly in the files that hold optimizer arrays."""
    inventory = tfstrip_core.inspect(model.path)
    if model.facts["has_optimizer_state_in_file"] and model.scenario == "gan" and not model.configured:
        assert "TFS107" in rules(inventory)  # all that there is of the optimizer called so is a counter
        assert tfstrip_core.check([model.path]).exit_code == 1
    elif model.facts["has_optimizer_state_in_file"]:
        assert "TFS101" in rules(inventory)
        assert inventory.verdict == "residue"
    else:
        assert rules(inventory).isdisjoint({"TFS101", "TFS106", "TFS107"})


@pytest.mark.parametrize("model", [m for m in MODELS if m.scenario in SUSPECTED], ids=lambda m: m.id)
def test_what_structure_cannot_prove_is_not_called_proven(model: Fixture) -> None:
    """Optimizers under names of the user's own are suspected, a codebook that looks like one is only undecided."""
    inventory = tfstrip_core.inspect(model.path)
    proven = {f.subject for f in inventory.findings if f.rule == "TFS101"}
    assert proven <= {"optimizer", "optimizer_weights"}
    if model.scenario != "vq_attr" and model.by_objects:
        assert SUSPECTED[model.scenario] in rules(inventory)
    if model.scenario == "vq_attr":
        assert "TFS107" not in rules(inventory)


@pytest.mark.parametrize("writer", ["tf2.15", "keras3.0.5", "keras3.8.0", "keras3.15.1"])
def test_both_optimizers_of_a_gan_are_suspected(writer: str) -> None:
    """A GAN's two optimizers fail the check by name of their groups, whatever Keras wrote them."""
    inventory = tfstrip_core.inspect(one(writer, "gan.keras").path)
    assert {f.subject for f in inventory.findings if f.rule == "TFS107"} == {"g_optimizer", "d_optimizer"}


def test_loss_scaling_state_is_counted_twice_as_it_is_stored() -> None:
    """Mixed precision stores the inner optimizer a second time, and both copies are residue."""
    model = one("keras3.15.1", "mixed_precision.keras")
    inventory = tfstrip_core.inspect(model.path)
    paths = {name.rpartition("/vars/")[0] for f in inventory.findings if f.rule == "TFS101" for name in f.tensors}
    assert paths == {"optimizer", "optimizer/inner_optimizer"}


@pytest.mark.parametrize("writer", ["tf2.15", "keras3.0.5", "keras3.8.0", "keras3.15.1"])
def test_the_optimizer_of_a_nested_model_is_found_too(writer: str) -> None:
    """A compiled model inside a compiled model brings its own optimizer, its own config and its own metrics."""
    inventory = tfstrip_core.inspect(one(writer, "nested_compiled.keras").path)
    assert {f.subject for f in inventory.findings if f.rule == "TFS101"} == {"optimizer", "layers/sequential/optimizer"}
    configs = {f.subject for f in inventory.findings if f.rule == "TFS201"}
    assert len(configs) == 2
    assert "config.json#/compile_config" in configs


def test_metrics_are_found_without_an_optimizer() -> None:
    """Keras 2 leaves metric accumulators where the legacy optimizer left nothing: residue, and check passes it."""
    model = one("tf2.15", "metrics_only.keras")
    inventory = tfstrip_core.inspect(model.path)
    assert rules(inventory) == {"TFS102", "TFS201"}
    assert inventory.verdict == "residue"
    assert tfstrip_core.check([model.path]).exit_code == 0


def test_an_argument_called_compile_config_is_none_of_ours() -> None:
    """Only the compile_config beside class_name and config is the training configuration."""
    inventory = tfstrip_core.inspect(one("keras3.15.1", "compile_config_arg.keras").path)
    assert [f.subject for f in inventory.findings if f.rule == "TFS201"] == ["config.json#/compile_config"]


@pytest.mark.parametrize("file", ["lambda_layer.keras", "lambda_bytecode.keras", "lambda_layer.h5"])
def test_code_in_the_model_is_reported(file: str) -> None:
    """A Lambda layer is named, and is no reason to refuse."""
    inventory = tfstrip_core.inspect(one("keras3.15.1", file).path)
    assert any(f.rule == "TFS501" and "Lambda" in f.message for f in inventory.findings)


def test_scalar_only_state_says_how_little_it_is() -> None:
    """SGD without momentum leaves twelve bytes: optimizer state all the same."""
    inventory = tfstrip_core.inspect(one("keras3.15.1", "sgd_plain.keras").path)
    assert [(f.rule, f.bytes) for f in inventory.findings if f.rule == "TFS101"] == [("TFS101", 12)]
    assert tfstrip_core.check([inventory.path]).exit_code == 1
