"""plan: models to the jobs of a matrix, balanced, the same every time, and nothing that the jobs would refuse."""

import itertools
import json
import os
import random
import shutil
from fnmatch import fnmatch
from pathlib import Path

import pytest
from action_run import Step, run
from conftest import one
from hostile import run as run_command
from saved_made import Made

from tfstrip_core.errors import UsageError
from tfstrip_core.inventory import Inventory
from tfstrip_core.plan import Choices
from tfstrip_core.release import artifacts, matrix

CHECKPOINTS = Path(__file__).parent / "fixtures/data/checkpoints/keras3.15.1"
KERAS, HDF5 = one("keras3.15.1", "sequential.keras"), one("tf2.15", "sequential.h5")
SUSPECT, AVERAGES = one("keras3.15.1", "gan.keras"), one("keras3.15.1", "ema_mid_fit.keras")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with two models, the test standing in it."""
    folder = tmp_path / "work"
    (folder / "models").mkdir(parents=True)
    shutil.copy(KERAS.path, folder / "models" / "a.keras")
    shutil.copy(HDF5.path, folder / "models" / "b.h5")
    monkeypatch.chdir(folder)
    return folder


def job(path: str, size: int = 1) -> artifacts.Job:
    return artifacts.Job(Inventory(path, "keras-zip", "clean", bytes=size), os.path.basename(path), Choices())


def sized(*sizes: int) -> list[artifacts.Job]:
    """Return models of these sizes."""
    return [job(f"m/{number}.keras", size) for number, size in enumerate(sizes)]


def loads(bins: list[matrix.Bin]) -> list[int]:
    return [share.bytes for share in bins]


def door(**inputs: str) -> Step:
    """Run the plan's door as the runner does."""
    return run(door="plan/plan.py", **inputs)


def test_the_longest_come_first_to_whoever_has_least() -> None:
    """A known case: 7 6 5 4 3 on two jobs is 7+4+3 and 6+5, in whatever order the models come."""
    models = sized(3, 5, 7, 4, 6)
    expected = matrix.divide(models, 2)
    assert loads(expected) == [14, 11]
    for seed in range(5):
        mixed = random.Random(seed).sample(models, len(models))
        assert matrix.divide(mixed, 2) == expected


@pytest.mark.parametrize("count", [1, 2, 7, 30, 256])
def test_shares_are_balanced_and_none_is_empty(count: int) -> None:
    """No share exceeds the mean by more than the largest model; each model is in one; empty models count as well."""
    draw = random.Random(count)
    models = sized(*(draw.choice([0, draw.randrange(1000), draw.randrange(10**9)]) for _ in range(100)))
    bins = matrix.divide(models, count)
    assert len(bins) == min(count, 100)
    assert sorted(model.path for share in bins for model in share.models) == sorted(
        one.inventory.path for one in models
    )
    assert all(share.models for share in bins)
    sizes = [one.inventory.bytes for one in models]
    assert max(loads(bins)) <= sum(sizes) / len(bins) + max(sizes)
    assert len({share.name for share in bins}) == len(bins)


def test_there_is_a_job_for_each_model_and_never_more_than_github_takes() -> None:
    """Without a number: as many jobs as models, at most 256."""
    assert len(matrix.divide(sized(5, 6, 7))) == 3
    assert len(matrix.divide(sized(*range(300)))) == 256
    for count in (-1, 0, 257):
        with pytest.raises(UsageError, match="1 to 256"):
            matrix.divide(sized(1), count)


def test_a_label_sets_names_apart() -> None:
    """Two plans of one run must not write over each other's artifacts; the same label gives the same names."""
    names = {label: [share.name for share in matrix.divide(sized(1, 2), label=label)] for label in ("", "v1", "v2")}
    assert names[""] == ["strip-1", "strip-2"]
    assert len({name for label in names.values() for name in label}) == 6
    assert [share.name for share in matrix.divide(sized(3, 4), label="v1")] == names["v1"]


def test_the_command_prints_one_object(work: Path, capsys) -> None:
    """One document of schema tfstrip/1, every model as check has it, and a matrix whose lines the Action takes."""
    code, out, err = run_command(capsys, "plan", "--json", "models", "--jobs", "2")
    assert (code, err) == (0, "")
    document = json.loads(out)
    assert (document["schema"], document["command"]) == ("tfstrip/1", "plan")
    assert [model["path"] for model in document["models"]] == ["models/a.keras", "models/b.h5"]
    entries = document["matrix"]["include"]
    assert {entry["models"]: entry["bytes"] for entry in entries} == {
        path: os.path.getsize(path) for path in ("models/a.keras", "models/b.h5")
    }
    assert [entry["bytes"] for entry in entries] == sorted((entry["bytes"] for entry in entries), reverse=True)
    assert (
        run_command(capsys, "plan", "--json", "models/b.h5", "models", "--jobs=2")[1].split('"matrix"')[1]
        == (out.split('"matrix"')[1])
    )


def test_the_text_says_who_gets_what(work: Path, capsys) -> None:
    """One line for each job with its bytes, one for each of its models."""
    code, out, _ = run_command(capsys, "plan", "models", "--jobs", "1")
    sizes = [os.path.getsize(path) for path in ("models/a.keras", "models/b.h5")]
    assert code == 0
    assert out.splitlines()[0] == f"strip-1: 2 models, {sum(sizes):,} bytes"
    assert out.splitlines()[1].startswith(f"  models/a.keras: residue: keras-zip, {sizes[0]:,} bytes")


@pytest.mark.parametrize("kind", ["collision", "cut", "text", "averages", "key", "pointer", "jobs"])
def test_what_the_jobs_would_refuse_is_refused_at_once(kind: str, work: Path, capsys) -> None:
    """Exit 2 and one sentence; as JSON with every model and an empty matrix."""
    words = ["plan", "--json", "models"]
    if kind == "collision":
        (work / "models" / "deep").mkdir()
        shutil.copy(KERAS.path, "models/deep/a.keras")
    elif kind == "cut":
        Path("models/c.keras").write_bytes(Path(KERAS.path).read_bytes()[:9000])
    elif kind == "text":
        Path("models/c.keras").write_text("x\n")
        words.append("models/c.keras")
    elif kind == "averages":
        shutil.copy(AVERAGES.path, "models/c.keras")
    elif kind == "pointer":
        oid = "0" * 64
        Path("models/c.keras").write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 9\n")
    else:
        words += {"key": ["--also", "ghost"], "jobs": ["--jobs", "1000"]}[kind]
    code, out, err = run_command(capsys, *words)
    assert code == 2
    assert len(err.splitlines()) == 1
    document = json.loads(out)
    assert document["matrix"] == {"include": []}
    assert document["message"] in err
    assert len(document["models"]) >= 2


def test_a_job_is_told_the_keys_of_its_own_models_only(work: Path) -> None:
    """The Action refuses a KEY that names nothing in its models, so a KEY must not go to every job."""
    shutil.copy(SUSPECT.path, "models/gan.keras")
    step = door(models="models/*", also="g_optimizer\nd_optimizer")
    assert step.code == 0, step.stderr
    entries = {entry["models"]: entry for entry in json.loads(step.outputs["matrix"])["include"]}
    assert {path: entry["also"] for path, entry in entries.items()} == {
        "models/a.keras": "",
        "models/b.h5": "",
        "models/gan.keras": "g_optimizer\nd_optimizer",
    }
    for entry in entries.values():
        assert run(models=entry["models"], also=entry["also"]).code == 0


def test_every_kind_of_model_comes_back_by_its_line_alone(work: Path) -> None:
    """Whatever a line names, the Action finds that model by it and nothing else: together all, none twice."""
    shutil.copytree(CHECKPOINTS / "adam_batchnorm", "models/ckpt")
    export = Made().write(work.parent / "export")
    shutil.copytree(export, "models/outer")
    shutil.copytree(export, "models/outer/assets/inner")
    shutil.copy(KERAS.path, "models/m[1].keras")
    shutil.copytree(CHECKPOINTS / "adam_batchnorm", "models/twins")
    # Of the format's first version, and called as the other one's prefix: one line leads to both.
    shutil.copy(CHECKPOINTS / "v1_no_meta" / "model", "models/twins/model.ckpt-1")
    os.remove("models/ckpt/checkpoint")
    os.rename("models/ckpt/model.ckpt-1.index", "models/ckpt/other.index")
    os.rename("models/ckpt/model.ckpt-1.data-00000-of-00001", "models/ckpt/other.data-00000-of-00001")
    step = door(models="models/**")
    assert step.code == 0, step.stderr
    found = []
    for entry in json.loads(step.outputs["matrix"])["include"]:
        inventories = artifacts.survey(artifacts.match(entry["models"].split("\n"), "dist"), "dist")
        assert sum(model.bytes for model in inventories) == entry["bytes"]
        found += [model.path for model in inventories]
    assert sorted(found) == sorted(step.outputs["sources"].split("\n"))
    assert {"models/outer", "models/outer/assets/inner", "models/m[1].keras", "models/a.keras"} <= set(found)
    assert {"models/ckpt/other", "models/twins/model.ckpt-1", "models/twins/model.ckpt-1.index"} <= set(found)


@pytest.mark.parametrize("name", ["a\nb.keras", " a.keras", "a.keras ", "a\x85b.keras", os.fsdecode(b"\xff.keras")])
def test_a_name_that_is_no_line_is_refused(name: str) -> None:
    """A job could not be told of it, or would be told of another file."""
    assert matrix.divide([job("deep/ a b.keras")])
    with pytest.raises(UsageError, match="one line"):
        matrix.divide([job(name)])
    if "\n" not in name and name.startswith("a.keras"):  # as a directory it is no line's end
        export = artifacts.Job(Inventory(name, "saved-model", "clean"), "a.tar.gz", Choices(), packed=True)
        with pytest.raises(UsageError, match="one line"):
            matrix.divide([export])


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"models": ""}, ["models", "empty"]),
        ({"models": "none/*"}, ["none/*"]),
        ({"models": "models/*", "jobs": "many"}, ["jobs", "many"]),
        ({"models": "models/*", "jobs": "300"}, ["300", "256"]),
        ({"models": "models/*", "ema": "x"}, ["ema", "'x'"]),
        ({"models": "/etc/*"}, ["leads out of the workspace"]),
    ],
)
def test_a_mistake_in_the_door_s_inputs_is_one_sentence(inputs: dict[str, str], words: list[str], work: Path) -> None:
    """Exit code 2, an error annotation, no outputs."""
    step = door(**inputs)
    assert step.code == 2
    assert len(step.stderr.splitlines()) == 1
    assert all(word in step.stderr for word in words), step.stderr
    assert step.stdout.splitlines()[-1].startswith("::error title=tfstrip::")
    assert step.outputs == {}


def test_the_door_says_how_the_jobs_are_found_again(work: Path) -> None:
    """The pattern meets the names of this plan's jobs, and of no plan with another label."""
    names, patterns = {}, {}
    for label in ("", "v1", "v2"):
        step = door(models="models/*", label=label)
        patterns[label] = step.outputs["pattern"]
        names[label] = [entry["name"] for entry in json.loads(step.outputs["matrix"])["include"]]
        assert len(names[label]) == 2
    for label, other in itertools.product(("v1", "v2"), names):
        assert {fnmatch(name, patterns[label]) for name in names[other]} == {label == other}
    assert {fnmatch(name, patterns[""]) for name in names[""]} == {True}


def test_a_plan_too_long_to_be_told_is_refused(work: Path) -> None:
    """The last job could not be started, and would say nothing about models."""
    deep = "/".join(["models", *["x" * 250] * 8])
    os.makedirs(deep)
    for number in range(80):
        os.link("models/a.keras", f"{deep}/{number}.keras")
    step = door(models="models/**/*.keras", jobs="3")
    assert step.code == 2
    assert "81 models are longer than" in step.stderr
