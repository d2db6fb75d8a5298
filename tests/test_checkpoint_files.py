"""Checkpoints as files: the state file beside them, odd prefixes, what is missing or a pointer; what one asks for."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from checkpoint_fixtures import ALL, Checkpoint, one
from independent_checkpoint import name_of, shards, tensors
from test_checkpoint_strip import contents, copied, path_of

import tfstrip_core
from tfstrip_core.cli import main

WRITER = "keras3.15.1"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize 12345\n" % (b"a" * 64)


def state(folder: Path) -> list[tuple[str, str]]:
    """Return the lines of a state file."""
    return re.findall(r'^(\w+): "?(.*?)"?$', (folder / "checkpoint").read_text(), re.MULTILINE)


def names(folder: Path) -> list[str]:
    return [value for key, value in state(folder) if key.endswith(("_path", "_paths"))]


# The state file.


@pytest.mark.parametrize(
    "checkpoint", [c for c in ALL if c.scenario == "state_absolute"], ids=lambda checkpoint: checkpoint.id
)
def test_the_authors_paths_go(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """They are TFS401, which is gone after a strip in place; beside a new target the state file names the target."""
    prefix = copied(checkpoint, tmp_path)
    assert "TFS401" in {finding.rule for finding in tfstrip_core.inspect(prefix).findings}
    result = tfstrip_core.strip(prefix, in_place=True)
    assert ("TFS401", "checkpoint") in {(item.rule, item.name) for item in result.removed}
    assert set(names(tmp_path / "copy")) == {"model.ckpt-1"}
    assert tfstrip_core.inspect(prefix).verdict == "clean"
    (tmp_path / "out").mkdir()
    tfstrip_core.strip(checkpoint.prefix, f"{tmp_path}/out/small")
    assert state(tmp_path / "out") == [("model_checkpoint_path", "small"), ("all_model_checkpoint_paths", "small")]
    assert "/home/author" in (checkpoint.folder / "checkpoint").read_text()


def test_a_state_file_alone_is_reason_enough(tmp_path: Path) -> None:
    """In a checkpoint without training state the path is what strip takes away; the tensors stay the same files."""
    checkpoint = one(WRITER, "no_optimizer")
    prefix = copied(checkpoint, tmp_path)
    path = tmp_path / "copy" / "checkpoint"
    path.write_text(path.read_text().replace('"model', '"C:\\\\runs\\\\model'))
    before = tensors(prefix)
    assert tfstrip_core.inspect(prefix).verdict == "residue"
    assert tfstrip_core.check([prefix]).exit_code == 0
    tfstrip_core.strip(prefix, in_place=True)
    assert set(names(tmp_path / "copy")) == {"model.ckpt-1"}
    assert tensors(prefix) == before
    assert tfstrip_core.inspect(prefix).verdict == "clean"


def test_a_state_file_of_a_manager_stays_as_long_as_it_is_true(tmp_path: Path) -> None:
    """Two checkpoints with times: stripping one of them changes nothing in it, nor in the other one."""
    prefix = copied(one(WRITER, "manager"), tmp_path)
    folder = tmp_path / "copy"
    before = contents(folder)
    tfstrip_core.strip(prefix, in_place=True)
    after = contents(folder)
    changed = {name for name in before if before[name] != after[name]}
    assert {name.split(".")[0] for name in changed} == {os.path.basename(prefix)}
    assert before.keys() == after.keys()


def test_a_state_file_forgets_what_is_not_there(tmp_path: Path) -> None:
    """What was deleted goes from it with its time."""
    copied(one(WRITER, "manager"), tmp_path)
    folder = tmp_path / "copy"
    for path in folder.glob("ckpt-1.*"):
        path.unlink()
    latest = [value for key, value in state(folder) if key == "all_model_checkpoint_timestamps"][1]
    tfstrip_core.strip(f"{folder}/ckpt-2", in_place=True)
    assert names(folder) == ["ckpt-2", "ckpt-2"]
    assert [value for key, value in state(folder) if key == "all_model_checkpoint_timestamps"] == [latest]


def test_the_state_file_of_an_estimator_names_what_is_there(tmp_path: Path) -> None:
    """It names a first checkpoint that nobody shipped."""
    prefix = copied(one("tf1.15", "graph_estimator"), tmp_path)
    assert "model.ckpt-0" in names(tmp_path / "copy")
    tfstrip_core.strip(prefix, in_place=True)
    assert set(names(tmp_path / "copy")) == {"model.ckpt-3"}


@pytest.mark.parametrize("foreign", [b'model_checkpoint_path: "/srv/other"\n', b"a note of my own\n"])
def test_a_state_file_of_others_is_left_alone(foreign: bytes, tmp_path: Path) -> None:
    """Beside a target, and beside a source that it does not name."""
    (tmp_path / "checkpoint").write_bytes(foreign)
    tfstrip_core.strip(one(WRITER, "adam_batchnorm").prefix, f"{tmp_path}/out")
    assert (tmp_path / "checkpoint").read_bytes() == foreign
    prefix = copied(one(WRITER, "prefix_neighbours"), tmp_path)
    (tmp_path / "copy" / "checkpoint").write_bytes(foreign)
    tfstrip_core.strip(prefix, in_place=True)
    assert (tmp_path / "copy" / "checkpoint").read_bytes() == foreign
    assert not {finding.rule for finding in tfstrip_core.inspect(prefix).findings} & {"TFS401"}


# Prefixes.


@pytest.mark.parametrize("number", range(3))
def test_neighbours_do_not_touch_each_other(number: int, tmp_path: Path) -> None:
    """x, x.ckpt and x.ckpt-100 are three checkpoints."""
    checkpoint = one(WRITER, "prefix_neighbours", number)
    prefix = copied(checkpoint, tmp_path)
    before = contents(tmp_path / "copy")
    tfstrip_core.strip(prefix, in_place=True)
    after = contents(tmp_path / "copy")
    assert {name for name in before if before[name] != after.get(name)} == set(checkpoint.facts["files"])
    found = {os.path.basename(i.path): i.verdict for i in tfstrip_core.check([str(tmp_path / "copy")]).inventories}
    assert found == {n: "clean" if n == os.path.basename(prefix) else "residue" for n in ("x", "x.ckpt", "x.ckpt-100")}


@pytest.mark.parametrize("scenario", ["prefix_empty", "graph_prefix_empty"])
def test_an_empty_prefix_is_named_by_its_files(scenario: str, tmp_path: Path) -> None:
    """Its dot files are stripped in place, and to a prefix that has a name."""
    checkpoint = one(WRITER, scenario)
    prefix = copied(checkpoint, tmp_path)
    data = shards(prefix)[0]
    assert data.name == ".data-00000-of-00001"
    for path in (f"{prefix}.index", str(data)):
        assert tfstrip_core.inspect(path).verdict == "residue"
    tfstrip_core.strip(str(data), f"{tmp_path}/named")
    tfstrip_core.strip(f"{prefix}.index", in_place=True)
    assert tensors(prefix) == tensors(f"{tmp_path}/named")
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {path.name for path in checkpoint.files}
    assert tfstrip_core.verify(path_of(checkpoint.prefix), f"{prefix}.index").equal
    with pytest.raises(tfstrip_core.UsageError, match="is a directory"):
        tfstrip_core.strip(path_of(checkpoint.prefix), f"{tmp_path}/", force=True)


@pytest.mark.parametrize("scenario", ["prefix_dash", "graph_custom_name"])
def test_a_prefix_may_begin_with_a_dash(scenario: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """-3801 is no option, behind -- on the command line."""
    copied(one(WRITER, scenario), tmp_path)
    monkeypatch.chdir(tmp_path / "copy")
    command = [sys.executable, "-m", "tfstrip_core"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}

    def run(*words: str) -> int:
        return subprocess.run([*command, *words], env=env, capture_output=True, check=False).returncode

    assert run("check", "--", "-3801") == 1
    assert run("strip", "--in-place", "--", "-3801") == 0
    assert run("check", "--", "-3801") == 0
    assert run("verify", "--", one(WRITER, scenario).prefix, "-3801") == 0


def test_the_prefix_and_the_state_file_may_have_one_name(tmp_path: Path) -> None:
    """Keras Tuner's way: `checkpoint` is the text file, and what it names is stripped."""
    checkpoint = one("tf2.15", "prefix_checkpoint_weights")
    prefix = copied(checkpoint, tmp_path)
    before = (tmp_path / "copy" / "checkpoint").read_bytes()
    assert {i.verdict for i in tfstrip_core.check([prefix]).inventories} == {"residue"}
    tfstrip_core.strip(prefix, in_place=True)
    assert (tmp_path / "copy" / "checkpoint").read_bytes() == before
    assert {path.name for path in (tmp_path / "copy").iterdir()} == {path.name for path in checkpoint.files}
    (tmp_path / "out").mkdir()
    tfstrip_core.strip(checkpoint.prefix, f"{tmp_path}/out/checkpoint")
    assert contents(tmp_path / "out") == contents(tmp_path / "copy")
    assert tfstrip_core.verify(checkpoint.prefix, f"{tmp_path}/out/checkpoint").equal


@pytest.mark.parametrize("scenario", ["graph_adam", "adam_batchnorm", "v1_no_meta"])
@pytest.mark.parametrize("verb", [["check"], ["inspect"], ["strip", "--in-place"]], ids=lambda verb: verb[0])
def test_a_pipe_in_the_place_of_the_graph_is_refused(scenario: str, verb: list[str], tmp_path: Path) -> None:
    """Whoever opens it waits for ever, and nothing else of the checkpoint is touched."""
    prefix = copied(one("tf2.15", scenario), tmp_path)
    Path(f"{prefix}.meta").unlink(missing_ok=True)
    os.mkfifo(f"{prefix}.meta")
    before = {path.name: path.read_bytes() for path in Path(prefix).parent.iterdir() if path.is_file()}
    assert main([*verb, prefix]) == 2
    assert {path.name: path.read_bytes() for path in Path(prefix).parent.iterdir() if path.is_file()} == before


def test_a_prefix_called_like_a_state_file_of_others_is_named_by_its_index(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The name alone leads to what the state file names; the command that check offers must not strip that."""
    for name in ("checkpoint", "other"):
        copied(one("tf2.15", "prefix_checkpoint_weights"), tmp_path / name)
    folder = tmp_path / "checkpoint" / "copy"
    for file in (tmp_path / "other" / "copy").glob("checkpoint.*"):
        file.rename(folder / file.name.replace("checkpoint", "other"))
    (folder / "checkpoint").write_text('model_checkpoint_path: "other"\n')
    assert main(["check", str(folder)]) == 1
    assert f"fix: tfstrip strip --in-place {folder}/checkpoint.index\n" in capsys.readouterr().out
    assert main(["strip", "--in-place", f"{folder}/checkpoint.index"]) == 0
    assert [found.verdict for found in tfstrip_core.check([f"{folder}/checkpoint.index"]).inventories] == ["clean"]
    assert [found.verdict for found in tfstrip_core.check([f"{folder}/other"]).inventories] == ["residue"]


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00002", ".data-00001-of-00002", ".meta"])
def test_each_file_names_the_checkpoint(ending: str, tmp_path: Path) -> None:
    """And an existing target needs --force, which leaves nothing of it."""
    checkpoint = one(WRITER, "graph_sharded")
    prefix = copied(checkpoint, tmp_path)
    target = f"{tmp_path}/out"
    tfstrip_core.strip(prefix + ending, target)
    first = contents(tmp_path / "copy"), {path.name: path.read_bytes() for path in tmp_path.glob("out.*")}
    with pytest.raises(tfstrip_core.UsageError, match="exists"):
        tfstrip_core.strip(prefix + ending, target)
    tfstrip_core.strip(prefix + ending, target, force=True)
    assert (contents(tmp_path / "copy"), {path.name: path.read_bytes() for path in tmp_path.glob("out.*")}) == first


# What is not whole.

WHOLE = [one(WRITER, "adam_batchnorm"), one(WRITER, "graph_sharded"), one(WRITER, "prefix_empty")]
every_whole = pytest.mark.parametrize("checkpoint", WHOLE, ids=lambda checkpoint: checkpoint.id)


def verdicts(*paths: str) -> set[tuple[str, str]]:
    return {(found.verdict, found.message) for found in tfstrip_core.check(paths).inventories}


@every_whole
def test_a_missing_shard_is_named(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Or one that is cut off; the verdict is unreadable."""
    prefix = copied(checkpoint, tmp_path)
    lost = shards(prefix)[-1]
    content = lost.read_bytes()
    for damage, word in ((lambda: lost.write_bytes(content[:-3]), "is cut off"), (lost.unlink, "is missing")):
        damage()
        said = f"the checkpoint's data file {lost.name} {word}; get a complete copy"
        for path in (path_of(prefix), str(tmp_path / "copy")):
            assert verdicts(path) == {("unreadable", said)}
        assert tfstrip_core.check([path_of(prefix)]).exit_code == 2
        with pytest.raises(tfstrip_core.Unreadable, match=word):
            tfstrip_core.strip(path_of(prefix), f"{tmp_path}/out")
        assert not list(tmp_path.glob("out*"))


@every_whole
def test_without_its_index_it_is_unreadable(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """Its data files say by their names that there is a checkpoint, whatever is named: the prefix or one of them."""
    prefix = copied(checkpoint, tmp_path)
    data = str(shards(prefix)[0])
    Path(f"{prefix}.index").unlink()
    assert {verdict for verdict, _ in verdicts(path_of(prefix))} == {"unreadable"}
    assert {verdict for verdict, _ in verdicts(data)} == {"unreadable"}
    name = os.path.basename(f"{prefix}.index")
    for path in (data, prefix) if os.path.basename(prefix) else (data,):
        with pytest.raises(tfstrip_core.Unreadable, match=f"its file {re.escape(name)} is missing"):
            tfstrip_core.strip(path, f"{tmp_path}/out")


@every_whole
@pytest.mark.parametrize("file", ["shard", "index"])
def test_a_pointer_is_a_pointer(checkpoint: Checkpoint, file: str, tmp_path: Path) -> None:
    """Of a shard or of the index: that is what git lfs pull is for, and no failure unless asked for."""
    prefix = copied(checkpoint, tmp_path)
    path = shards(prefix)[-1] if file == "shard" else Path(f"{prefix}.index")
    path.write_bytes(POINTER)
    for name in (path_of(prefix), str(path), str(tmp_path / "copy")):
        found = verdicts(name)
        assert {verdict for verdict, _ in found} == {"pointer"}
        assert all("is a Git LFS pointer" in message and "git lfs pull" in message for _, message in found)
        assert tfstrip_core.check([name]).exit_code == 0
        assert tfstrip_core.check([name], require_lfs=True).exit_code == 2
    if file == "shard":
        ((_, message),) = verdicts(path_of(prefix))
        assert message.startswith(f"its file {path.name} is a Git LFS pointer")
    with pytest.raises(tfstrip_core.Pointer):
        tfstrip_core.strip(path_of(prefix), f"{tmp_path}/out")
    assert not list(tmp_path.glob("out*"))


# What the user decides.


@pytest.mark.parametrize(
    "checkpoint", [c for c in ALL if c.scenario == "iterator"], ids=lambda checkpoint: checkpoint.id
)
def test_a_saved_iterator_fails_the_check_and_goes(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """TFS105, of which the index knows the size."""
    (finding,) = [f for f in tfstrip_core.inspect(checkpoint.prefix).findings if f.rule == "TFS105"]
    assert finding.bytes == checkpoint.bytes_of("pipeline")
    result = tfstrip_core.strip(checkpoint.prefix, f"{tmp_path}/out")
    assert [item.name for item in result.removed if item.rule == "TFS105"] == list(checkpoint.of_role("pipeline"))
    assert not {f.rule for f in tfstrip_core.inspect(f"{tmp_path}/out").findings} & {"TFS101", "TFS105"}


@pytest.mark.parametrize(
    ("scenario", "rule", "role"),
    [
        ("graph_colocated_twin", "TFS107", "average"),
        ("graph_colocated_twin_no_meta", "TFS107", "average"),
        ("graph_ema_called_avg_no_meta", "TFS107", "average"),
        ("graph_traces", "TFS108", "optimizer"),
    ],
)
def test_doubtful_state_goes_on_the_users_word_only(scenario: str, rule: str, role: str, tmp_path: Path) -> None:
    """It is named and stays; with --also it goes, and verify wants the same word."""
    checkpoint = one(WRITER, scenario)
    result = tfstrip_core.strip(checkpoint.prefix, f"{tmp_path}/kept")
    (finding,) = result.kept
    assert finding.rule == rule
    assert set(finding.tensors) == checkpoint.of_role(role)
    assert tfstrip_core.check([checkpoint.prefix]).exit_code == int(scenario != "graph_traces")
    target = f"{tmp_path}/out"
    tfstrip_core.strip(checkpoint.prefix, target, also=[finding.subject])
    assert {name_of(key) for key in tensors(target)} == checkpoint.of_role("weight", "counter")
    assert not tfstrip_core.verify(checkpoint.prefix, target).equal
    assert tfstrip_core.verify(checkpoint.prefix, target, also=[finding.subject]).equal


def test_a_root_like_an_optimizer_gives_up_no_weight(tmp_path: Path) -> None:
    """--also takes the scalars in doubt; of a model in the form of an optimizer nothing would be left."""
    checkpoint = one(WRITER, "root_like_optimizer")
    (finding,) = [f for f in tfstrip_core.inspect(checkpoint.prefix).findings if f.rule == "TFS108"]
    tfstrip_core.strip(checkpoint.prefix, f"{tmp_path}/out", also=[finding.subject])
    left = {name_of(key) for key in tensors(f"{tmp_path}/out")}
    assert left == {key.name for key in checkpoint.keys if key.role == "weight" or key.part == "save_counter"}
    disguised = one(WRITER, "module_like_optimizer")
    (finding,) = [f for f in tfstrip_core.inspect(disguised.prefix).findings if f.rule == "TFS107"]
    with pytest.raises(tfstrip_core.NothingLeft):
        tfstrip_core.strip(disguised.prefix, f"{tmp_path}/never", also=[finding.subject])
    assert not list(tmp_path.glob("never*"))


@pytest.mark.parametrize("checkpoint", [c for c in ALL if c.scenario == "ema_after_fit"], ids=lambda c: c.id)
def test_applied_averages_go_unasked(checkpoint: Checkpoint, tmp_path: Path) -> None:
    """After fit() they equal the weights bit for bit: TFS106 until strip looks at them, TFS101 then."""
    assert "TFS106" in {finding.rule for finding in tfstrip_core.inspect(checkpoint.prefix).findings}
    result = tfstrip_core.strip(checkpoint.prefix, f"{tmp_path}/out")
    assert {item.name for item in result.removed if item.rule == "TFS101"} == checkpoint.of_role("optimizer", "average")
