"""strip on every checkpoint that real TensorFlow wrote, judged by a reader of its own and by what the writers said.

The writers told each key's role from their live objects; nothing of the package is asked what a key is.
"""

import shutil
from pathlib import Path

import pytest
from checkpoint_fixtures import ALL, Checkpoint, Key, one
from independent_checkpoint import GRAPH, entries, flip, name_of, shards, tensors

import tfstrip_core
from tfstrip_core.inventory import StripResult

BUNDLES = [checkpoint for checkpoint in ALL if checkpoint.kind != "v1"]
every_bundle = pytest.mark.parametrize("checkpoint", BUNDLES, ids=lambda checkpoint: checkpoint.id)
# One of each scenario, and each of those that have several: what the writers' versions make no difference to.
DISTINCT = list({(c.scenario, c.facts["prefix"].rpartition("/")[2]): c for c in BUNDLES}.values())
every_scenario = pytest.mark.parametrize("checkpoint", DISTINCT, ids=lambda checkpoint: checkpoint.id)

# The keys that tfstrip sees otherwise than their writer: (scenario, the writer's role) -> role, and why.
OTHERWISE = {
    # Only their values tell that the slots of somebody's own optimizer are averages: strip looks, inspect does not.
    ("custom_average", "average"): "optimizer",
    # Twins of the weights that no Apply op knows and no collection: perhaps averages, perhaps targets (TFS107).
    ("graph_colocated_twin", "average"): "undecided",
    ("graph_colocated_twin_no_meta", "average"): "undecided",
    ("graph_ema_called_avg_no_meta", "average"): "undecided",
    # A second model, as far as anybody can see: its layers are ordinary.
    ("teacher", "average"): "weight",
    # Training state by hand. Traces have the weights' names under a scope (TFS108); in objects nothing tells at all.
    ("graph_traces", "optimizer"): "undecided",
    ("module_hand_made", "optimizer"): "weight",
    # Models with the form of an optimizer: in doubt, so they stay (TFS107, TFS108).
    ("module_like_optimizer", "weight"): "undecided",
    ("root_like_optimizer", "counter"): "undecided",
    # Counters and metrics that a user tracks are variables like others: TFS102 is of .keras files.
    ("manager", "counter"): "weight",
    ("keras_tf1_optimizer", "counter"): "weight",
    ("metric_tracked", "metric"): "weight",
}
# Scalars that stay, though their writer calls them the optimizer's: no structure ties them to one. TF 1.15's loss
# scaling is a wrapper without slots and without a counter; the rate of contrib's optimize_loss is an ordinary variable.
SCALARS = {
    ("tf1.15", "loss_scale", "loss_scale"): 2,
    ("tf1.15", "graph_contrib_optimize_loss", "hyperparameter"): 1,
}
# Averages whose weights are not certain, so that --ema apply says no: lists of Keras 2 that no checkpoint holds, and
# somebody's own.
UNCERTAIN = {(writer, f"ema_{when}") for writer in ("tf2.10", "tf2.12", "tf2.15", "tf_keras2.21")
             for when in ("mid_fit", "sgd_mid_fit")}  # fmt: skip


def role(checkpoint: Checkpoint, key: Key) -> str:
    """Return the role that inspect is to give a key."""
    if (checkpoint.writer, checkpoint.scenario, key.part) in SCALARS or key.role == "config":
        return "weight"
    if key.part == "save_counter":
        return "counter"
    return OTHERWISE.get((checkpoint.scenario, key.role), key.role)


def roles(checkpoint: Checkpoint) -> dict[str, str]:
    return {key.name: role(checkpoint, key) for key in checkpoint.keys if key.role != "structure"}


def asks(checkpoint: Checkpoint) -> bool:
    """Whether strip wants to know what is to be served."""
    return bool(checkpoint.facts["labels"].get("averages_differ")) and (
        checkpoint.scenario == "custom_average" or "average" in roles(checkpoint).values()
    )


ASKING = [checkpoint for checkpoint in BUNDLES if asks(checkpoint)]
APPLYING = [c for c in ASKING if c.scenario != "custom_average" and (c.writer, c.scenario) not in UNCERTAIN]


def gone(checkpoint: Checkpoint) -> set[str]:
    """Return the keys that a strip with --ema drop takes away."""
    return {name for name, role in roles(checkpoint).items() if role in ("optimizer", "average", "pipeline")}


def path_of(prefix: str) -> str:
    """Return what a user names: of a checkpoint whose prefix has no name, a file."""
    return f"{prefix}.index" if prefix.endswith("/") else prefix


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def strip(checkpoint: Checkpoint, target: str, **choices: object) -> StripResult:
    if asks(checkpoint):
        choices.setdefault("ema", "drop")
    return tfstrip_core.strip(path_of(checkpoint.prefix), target, **choices)  # type: ignore[arg-type]


def copied(checkpoint: Checkpoint, tmp_path: Path, name: str = "copy") -> str:
    """Copy the checkpoint's folder, and return the copy's prefix."""
    shutil.copytree(checkpoint.folder, tmp_path / name)
    return f"{tmp_path / name}/{checkpoint.prefix.rpartition('/')[2]}"


def test_there_are_checkpoints() -> None:
    """All writers and both kinds are there, so that the tests below have run; each exception still is one."""
    assert len(BUNDLES) > 240
    assert {checkpoint.kind for checkpoint in BUNDLES} == {"object", "name"}
    found = {(c.scenario, key.role) for c in BUNDLES for key in c.keys}
    assert found >= OTHERWISE.keys()
    assert {(c.writer, c.scenario) for c in BUNDLES} >= UNCERTAIN
    for (writer, scenario, part), count in SCALARS.items():
        keys = [key for key in one(writer, scenario).keys if key.part == part]
        assert [key.shape for key in keys] == [()] * count
    assert len(APPLYING) >= 10


@every_bundle
def test_inspect_says_what_the_writer_said(checkpoint: Checkpoint) -> None:
    """Each key's role, type, shape and size, the bytes that strip takes, and the verdict."""
    inventory = tfstrip_core.inspect(path_of(checkpoint.prefix))
    expected = roles(checkpoint)
    assert {tensor.name: tensor.role for tensor in inventory.tensors} == expected
    assert [(t.dtype, t.shape, t.bytes) for t in sorted(inventory.tensors, key=lambda t: t.name)] == [
        (key.dtype, key.shape, key.bytes)
        for key in sorted(checkpoint.keys, key=lambda k: k.name)
        if key.name in expected
    ]
    residue = {name for name, role in expected.items() if role in ("optimizer", "pipeline")}
    assert inventory.residue_bytes == sum(key.bytes for key in checkpoint.keys if key.name in residue)
    undecided = {"average", "undecided"} & set(expected.values())
    clean = "undecided" if undecided else "clean"
    assert inventory.verdict == ("residue" if residue else clean)
    assert inventory.format == {"object": "tf-checkpoint", "name": "tf-checkpoint-names"}[checkpoint.kind]
    assert inventory.bytes == sum(size for name, size in checkpoint.facts["files"].items() if name != "checkpoint")


@every_bundle
def test_every_weight_stays_to_the_byte_and_all_state_goes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """What is left has the source's bytes, types, shapes and slices; exactly what the writer calls state is gone."""
    before, seen = tensors(checkpoint.prefix), contents(checkpoint.folder)
    target = str(tmp_path / "out")
    result = strip(checkpoint, target)
    after = tensors(target)
    left = gone(checkpoint)
    assert after == {key: value for key, value in before.items() if name_of(key) not in left}
    assert {name_of(key) for key in after} >= checkpoint.of_role("weight", "counter", "metric", "undecided", "config")
    assert {item.name for item in result.removed if item.rule != "TFS401"} == left
    assert result.proof.kept_bytes == sum(len(value.data) for value in after.values())
    assert (GRAPH in entries(target)) == (checkpoint.kind == "object")
    assert len(shards(target)) == (1 if left else len(shards(checkpoint.prefix)))
    assert Path(f"{target}.meta").exists() == checkpoint.has_meta
    assert contents(checkpoint.folder) == seen


@every_bundle
def test_a_result_is_final_and_always_the_same(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Verify and check agree with it; the same source gives the same bytes; there is nothing to strip any more."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        strip(checkpoint, f"{tmp_path}/{name}/out")
    first = f"{tmp_path}/a/out"
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert tfstrip_core.verify(path_of(checkpoint.prefix), first).equal
    checked = tfstrip_core.check([first])
    doubtful = any(f.rule == "TFS107" for f in checked.inventories[0].findings)
    assert doubtful == (checkpoint.scenario in ("module_like_optimizer", "graph_ema_called_avg_no_meta") or
                        checkpoint.scenario.startswith("graph_colocated_twin"))  # fmt: skip
    assert checked.exit_code == int(doubtful)
    assert checked.inventories[0].residue_bytes == 0
    (tmp_path / "c").mkdir()
    assert not tfstrip_core.strip(first, f"{tmp_path}/c/out").removed
    assert contents(tmp_path / "c") == contents(tmp_path / "a")


@every_scenario
def test_in_place_gives_the_same_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The files of the prefix become those of -o, surplus shards go, and what lies beside them is left alone."""
    (tmp_path / "out").mkdir()
    prefix = copied(checkpoint, tmp_path)
    strip(checkpoint, f"{tmp_path}/out/x")
    before = contents(tmp_path / "copy")
    choices = {"ema": "drop"} if asks(checkpoint) else {}
    tfstrip_core.strip(path_of(prefix), in_place=True, **choices)  # type: ignore[arg-type]
    base = prefix.rpartition("/")[2]
    mine = {name for name in checkpoint.facts["files"] if name != "checkpoint"}
    made = {base + name.removeprefix("x"): data for name, data in contents(tmp_path / "out").items() if name[0] == "x"}
    others = {name: data for name, data in before.items() if name not in mine | {"checkpoint"}}
    after = contents(tmp_path / "copy")
    state = after.pop("checkpoint", None)
    assert after == made | others
    assert state == before.get("checkpoint") or checkpoint.scenario in ("state_absolute", "graph_estimator")


@pytest.mark.parametrize("checkpoint", ASKING, ids=lambda checkpoint: checkpoint.id)
def test_averages_that_differ_stop_a_strip(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Without a choice there is no result; apply is refused where the pairs are not certain."""
    with pytest.raises(tfstrip_core.NeedsChoice, match="--ema drop"):
        tfstrip_core.strip(path_of(checkpoint.prefix), str(tmp_path / "out"))
    if checkpoint not in APPLYING:
        with pytest.raises(tfstrip_core.NeedsChoice, match="not certain"):
            strip(checkpoint, str(tmp_path / "out"), ema="apply")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("checkpoint", APPLYING, ids=lambda checkpoint: checkpoint.id)
def test_applied_averages_are_the_weights_bytes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Each weight that has an average gets its bytes; all other weights keep their own."""
    target = str(tmp_path / "out")
    assert strip(checkpoint, target, ema="apply").averaged
    before, after = tensors(checkpoint.prefix), tensors(target)
    averages = {key.of: key.name for key in checkpoint.keys if key.role == "average"}
    assert averages
    assert None not in averages
    for key, value in after.items():
        assert value == before[averages.get(name_of(key), name_of(key)).encode()]
    assert {name_of(key) for key in before} - {name_of(key) for key in after} == gone(checkpoint)
    assert tfstrip_core.verify(checkpoint.prefix, target, ema="apply").equal
    assert not tfstrip_core.verify(checkpoint.prefix, target).equal


@every_scenario
def test_one_flipped_bit_is_noticed(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """In a source there is no result; in a result verify says so, even where the sums were mended."""
    weight = next(key.name for key in checkpoint.keys if key.role == "weight" and key.dtype != "string" and key.shape)
    target = str(tmp_path / "out")
    strip(checkpoint, target)
    for name in ("sum", "mended"):
        (tmp_path / name).mkdir()
        for path in tmp_path.glob("out.*"):
            shutil.copy(path, tmp_path / name)
    flip(f"{tmp_path}/mended/out", weight, mend=True)
    comparison = tfstrip_core.verify(path_of(checkpoint.prefix), f"{tmp_path}/mended/out")
    assert comparison.differences == (f"tensor {weight} has other bytes",)
    flip(f"{tmp_path}/sum/out", weight)
    with pytest.raises(tfstrip_core.Unreadable, match="is damaged"):
        tfstrip_core.verify(path_of(checkpoint.prefix), f"{tmp_path}/sum/out")
    damaged = copied(checkpoint, tmp_path)
    flip(damaged, weight)
    seen, there = contents(tmp_path / "copy"), sorted(tmp_path.iterdir())
    for way in ({"target": str(tmp_path / "never")}, {"in_place": True}):
        with pytest.raises(tfstrip_core.Unreadable, match="is damaged"):
            tfstrip_core.strip(path_of(damaged), **way, ema="drop")  # type: ignore[arg-type]
    assert contents(tmp_path / "copy") == seen
    assert sorted(tmp_path.iterdir()) == there
