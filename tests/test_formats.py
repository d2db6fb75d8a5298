"""The Action's inputs formats and prove: what is refused before anything is made, what is published of what ran."""

import ctypes
import json
import math
import os
import shutil
import subprocess
import sys
import tarfile
import types
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from action_run import COMMIT, PARENT, ROOT, run
from conftest import one
from jsonschema import Draft202012Validator
from saved_made import Made

from tfstrip_core import runner
from tfstrip_core.errors import CannotRun, ProofFailed, UsageError
from tfstrip_core.inventory import Artifact, Call, ExportResult, Inventory, Outputs
from tfstrip_core.release import artifacts, exporting, manifest, names, notes, proving
from tfstrip_core.reports import github, summary
from tfstrip_core.verbs.inspect import inspect

CHECK = Draft202012Validator(json.loads((ROOT / "docs" / "manifest.schema.json").read_text()))
MODELS = {
    "a.keras": one("keras3.15.1", "sequential.keras"),
    "b.h5": one("tf2.15", "sequential.h5"),
    "mean.keras": one("keras3.15.1", "ema_mid_fit.keras"),
}
RAN = Call("v2", "serving_default", "equal", "", 2, 80)
CLOSE = Call("tflite", "serving_default", "close", "", 1, 40, 1.5e-7)
SKIPPED = Call("session", "other", "skipped", "it draws random numbers")
HOSTILE = "<b>|`x`\n::error::y\r \x1b[31m ##[group] /tmp/tfstrip-run-ab12/reply at 0x7f00deadbeef\u202e" + "z" * 1000


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with models and a checkpoint, the test standing in it."""
    folder = tmp_path / "work"
    (folder / "models").mkdir(parents=True)
    for name, model in MODELS.items():
        shutil.copy(model.path, folder / "models" / name)
    stored = ROOT / "tests" / "fixtures" / "data" / "checkpoints" / "keras3.15.1" / "adam_batchnorm"
    shutil.copytree(stored, folder / "checkpoints")
    monkeypatch.chdir(folder)
    return folder


def module(monkeypatch: pytest.MonkeyPatch, verb: str, work: Callable[..., Any]) -> None:
    """Put a verb that needs TensorFlow where the release looks for it."""
    name = {"outputs": "compare_outputs"}.get(verb, verb)
    made = types.ModuleType(verb)
    setattr(made, name, work)
    monkeypatch.setitem(sys.modules, f"tfstrip_core.verbs.{verb}", made)


def compared(monkeypatch: pytest.MonkeyPatch, *calls: Call, error: Exception | None = None) -> list[tuple[str, str]]:
    """Let comparing outputs give these calls; return what it is asked about, as it is."""
    asked = []

    def compare(original: str, result: str) -> Outputs:
        assert Path(result).exists()
        asked.append((original, os.path.basename(result)))
        if error:
            raise error
        return Outputs(calls)

    module(monkeypatch, "outputs", compare)
    return asked


def exports(monkeypatch: pytest.MonkeyPatch, *calls: Call) -> list[tuple[str, ...]]:
    """Let an export write a few bytes, proven by these calls; return what it is asked for, as it is."""
    asked = []

    def export(source: str, target: str, to: str, *, ema: str, also: object) -> ExportResult:
        asked.append((source, os.path.basename(target), to, ema, *also))
        path = Path(target)
        if to != "tflite":
            path.mkdir()
            (path / "assets").mkdir()
            (path / "assets" / "words.txt").write_text("a\n")
            path /= "saved_model.pb"
        path.write_bytes(b"made of " + source.encode() + to.encode())
        read = inspect(source)
        return ExportResult(read, source, target, to, read.bytes, path.stat().st_size, Outputs(calls, 1e-4), "")

    module(monkeypatch, "export", export)
    monkeypatch.setattr(artifacts, "weights_digest", lambda path: None)  # no SavedModel is in what was written above
    return asked


def made(*formats: str, prove: str = "bytes", models: str = "models/a.keras", **more: Any) -> tuple[Artifact, ...]:
    jobs = artifacts.plan(artifacts.survey([models], "dist"), formats=formats or ("same",), **more)
    return artifacts.make(jobs, "dist", commit=COMMIT, prove=prove).artifacts


def written() -> list[dict[str, Any]]:
    """Return the manifest's entries; it is valid, and what is read back of it is what was written."""
    text = Path("dist/manifest.json").read_bytes()
    value = json.loads(text)
    CHECK.validate(value)
    commit, items = manifest.loads(text)
    assert manifest.dumps(items, commit).encode() == text
    entries: list[dict[str, Any]] = value["artifacts"]
    return entries


def nothing() -> bool:
    return not Path("dist").exists() or os.listdir("dist") == []


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"formats": "same onnx"}, ["formats", "'onnx'", "same, saved_model, frozen, tflite"]),
        ({"formats": "TFLITE"}, ["formats", "'TFLITE'"]),
        ({"prove": "nothing"}, ["prove", "'nothing'", "outputs or bytes"]),
        ({"models": "", "artifacts": "models", "formats": "tflite"}, ["artifacts and formats exclude each other"]),
    ],
)
def test_a_word_that_is_no_choice_is_refused(inputs: dict[str, str], words: list[str], work: Path) -> None:
    """One sentence with the words that there are, and nothing made."""
    step = run(**{"models": "models/*.keras", "tag": "", **inputs})
    assert step.code == 2
    assert all(word in step.stderr for word in words), step.stderr
    assert len(step.stderr.splitlines()) == 1
    assert nothing()


@pytest.mark.parametrize(("text", "found"), [
    ("", ["same"]), (" , \n", ["same"]), ("tflite", ["tflite"]),
    ("same, tflite\nfrozen same", ["same", "tflite", "frozen"]),
])  # fmt: skip
def test_words_are_parted_by_lines_blanks_or_commas(
    text: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each counts once, in its order; none of them is the default."""
    monkeypatch.setenv("INPUT_FORMATS", text)
    assert runner.words("formats", *exporting.FORMATS) == found


WITHOUT = """
import runpy, sys
sys.modules["tensorflow"] = None  # as if it were not installed
sys.path.insert(0, sys.argv[1])
runpy.run_path(sys.argv[1] + "/entrypoint.py", run_name="__main__")
"""


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({}, ["prove is outputs", "set prove to bytes"]),
        ({"PROVE": "outputs"}, ["set prove to bytes"]),
        ({"PROVE": "bytes", "FORMATS": "same tflite"}, ["formats needs TensorFlow", "set formats to same"]),
        ({"PROVE": "bytes"}, []),
        ({"PROVE": "bytes", "FORMATS": "same"}, []),
    ],
)
def test_without_tensorflow_it_says_what_to_set(inputs: dict[str, str], words: list[str], work: Path) -> None:
    """The default runs models, so that it is one sentence and nothing is made; by bytes alone it works."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("INPUT_", "GITHUB_"))}
    environment |= {"INPUT_MODELS": "models/a.keras"} | {f"INPUT_{name}": value for name, value in inputs.items()}
    command = [sys.executable, "-c", WITHOUT, str(ROOT)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if words:
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1, done.stderr
        assert all(word in done.stderr for word in words), done.stderr
        assert nothing()
    else:
        assert done.returncode == 0, done.stderr
        assert Path("dist/a.keras").exists()


def test_weights_alone_are_exported_as_nothing(work: Path) -> None:
    """A checkpoint among the models: named before anything is made; as it is, it is stripped as ever."""
    inventories = artifacts.survey(["models", "checkpoints"], "dist")
    names_ = {job.name for job in artifacts.plan(inventories, ema="drop")}
    assert {"a.keras", "b.h5"} < names_
    for formats in (("tflite",), ("same", "saved_model", "frozen")):
        with pytest.raises(UsageError, match=r"formats: checkpoints/\S+ hold weights and no graph"):
            artifacts.plan(inventories, ema="drop", formats=formats)
    assert nothing()


def test_the_plan_of_a_matrix_refuses_what_its_jobs_would(work: Path) -> None:
    """The same sentence before any job starts; and a model in three forms is one job's."""
    step = run(door="plan/plan.py", models="checkpoints", formats="same tflite")
    assert step.code == 2
    assert "hold weights and no graph" in step.stderr
    step = run(door="plan/plan.py", models="models/[ab].*", formats="same saved_model tflite")
    assert step.code == 0, step.stderr
    assert sorted(step.outputs["sources"].splitlines()) == ["models/a.keras", "models/b.h5"]
    include = json.loads(step.outputs["matrix"])["include"]
    assert sorted(job["models"] for job in include) == ["models/a.keras", "models/b.h5"]
    assert {job["bytes"] for job in include} == {os.path.getsize(model.path) for model in list(MODELS.values())[:2]}


@pytest.mark.parametrize(
    ("name", "to", "folder", "title"),
    [
        ("a.keras", "saved_model", False, "a.saved_model.tar.gz"),
        ("a.keras", "frozen", False, "a.frozen.tar.gz"),
        ("a.b.h5", "tflite", False, "a.b.tflite"),
        ("export.v1", "tflite", True, "export.v1.tflite"),
    ],
)
def test_an_export_is_called_after_its_model(name: str, to: str, folder: bool, title: str) -> None:
    """Without the extension of a file, with that of the form; a directory keeps its whole name."""
    assert exporting.title(name, to, folder=folder) == title


def test_exports_that_would_share_a_name_are_refused(work: Path) -> None:
    """Of two models, and of two forms of one model under a template that does not tell them apart."""
    shutil.copy("models/a.keras", "models/a.h5")
    inventories = artifacts.survey(["models/a.keras", "models/a.h5"], "dist")
    artifacts.plan(inventories)
    with pytest.raises(
        UsageError, match=r"a\.\w+ as tflite and models/a\.\w+ as tflite would both be attached as a\.tfl"
    ):
        artifacts.plan(inventories, formats=("same", "tflite"))
    naming = names.Naming("{stem}")
    with pytest.raises(
        UsageError, match=r"models/a\.keras as tflite would both be attached as a;|both be attached as a"
    ):
        artifacts.plan(inventories[:1], naming=naming, formats=("same", "tflite"))


def test_names_that_digests_make_are_compared_too(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two forms of one model whose names are known only once they are there never overwrite each other."""
    exports(monkeypatch, RAN)
    monkeypatch.setattr(artifacts.checksums, "sha256", lambda path: "0" * 64)
    inventories = artifacts.survey(["models/a.keras"], "dist")
    naming = names.Naming("{sha256:8}")
    jobs = artifacts.plan(inventories, naming=naming, formats=("tflite", "frozen"))
    with pytest.raises(UsageError, match="both be attached as 00000000"):
        artifacts.make(jobs, "dist", form=artifacts.Form(naming))
    assert nothing()


def test_exports_are_artifacts_like_any_other(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Packed in a folder of the model's name, listed, hashed, described: form, format, what ran, how to load it."""
    asked = exports(monkeypatch, RAN, CLOSE, SKIPPED)
    items = made("same", "saved_model", "frozen", "tflite")
    assert asked == [("models/a.keras", name, form, "") for name, form in
                     (("a.saved_model", "saved_model"), ("a.frozen", "frozen"), ("a.tflite", "tflite"))]  # fmt: skip
    assert sorted(os.listdir("dist")) == [
        "SHA256SUMS", "a.frozen.tar.gz", "a.keras", "a.saved_model.tar.gz", "a.tflite", "manifest.json",
    ]  # fmt: skip
    with tarfile.open("dist/a.frozen.tar.gz") as archive:
        assert archive.getnames() == ["a.frozen/assets/words.txt", "a.frozen/saved_model.pb"]
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd="dist", check=True)
    entries = {entry["form"]: entry for entry in written()}
    assert {form: (entry["path"], entry["format"], entry["load"]) for form, entry in entries.items()} == {
        "same": ("a.keras", "keras-zip", 'keras.models.load_model("a.keras")'),
        "saved_model": ("a.saved_model.tar.gz", "saved-model", 'tf.saved_model.load("a.saved_model")'),
        "frozen": ("a.frozen.tar.gz", "frozen", 'tf.saved_model.load("a.frozen")'),
        "tflite": ("a.tflite", "tflite", 'tf.lite.Interpreter(model_path="a.tflite")'),
    }
    assert "outputs" not in entries["same"]["proof"]
    for form in ("saved_model", "frozen", "tflite"):
        proof = entries[form]["proof"]
        assert (proof["kept_tensors"], proof["kept_bytes"], entries[form]["removed"]) == (0, 0, [])
        assert proof["outputs"]["tolerance"] == 1e-4
        assert [call["state"] for call in proof["outputs"]["calls"]] == ["equal", "close", "skipped"]
        assert "not_run" not in proof["outputs"]
    told = summary.published(items)
    before, after = os.path.getsize("models/a.keras"), os.path.getsize("dist/a.keras")
    assert f"{before:,} bytes before, {after:,} bytes after" in told
    assert "Exported as frozen, saved-model, tflite" in told
    assert "with the same results: 3 of 4" in told
    assert f'"kept" : {after}\n' in told
    assert "3 outputs: at most 1.5e-07 apart" in told
    assert "| 3 outputs: at most 1.5e-07 apart |" in notes.table(items)


def test_exports_get_what_the_user_decided(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Averages and KEYs reach the export, and the manifest says of it too that its weights are averages."""
    asked = exports(monkeypatch, RAN)
    with pytest.raises(UsageError, match="set ema to drop"):
        made("tflite", models="models/mean.keras")
    made("same", "tflite", models="models/mean.keras", ema="apply")
    assert asked == [("models/mean.keras", "mean.tflite", "tflite", "apply")]
    assert [entry["weights"] for entry in written()] == ["averages", "averages"]
    made("same", "tflite", models="models/mean.keras", ema="drop")
    assert [entry["weights"] for entry in written()] == ["as trained", "as trained"]


def test_an_export_in_parts_is_joined_as_any(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Names, sizes and the line that joins them."""
    exports(monkeypatch, RAN)
    jobs = artifacts.plan(artifacts.survey(["models/a.keras"], "dist"), formats=("tflite",))
    artifacts.make(jobs, "dist", form=artifacts.Form(part_size=10))
    (entry,) = json.loads(Path("dist/manifest.json").read_text())["artifacts"]
    subprocess.run(["sh", "-euc", f"rm a.tflite; {entry['join']}"], cwd="dist", check=True, capture_output=True)


def test_results_are_run_beside_their_originals(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With prove: outputs each stripped model is compared with its source before it is packed; with bytes none is."""
    asked = compared(monkeypatch, RAN, SKIPPED)
    made(prove="bytes")
    assert asked == []
    made(prove="outputs")
    assert asked == [("models/a.keras", "a.keras")]
    (entry,) = written()
    assert entry["proof"]["kept_tensors"] > 0
    assert entry["proof"]["outputs"] == {
        "tolerance": 0.0,
        "calls": [
            {"loader": "v2", "function": "serving_default", "state": "equal", "message": "", "outputs": 2, "bytes": 80,
             "difference": 0.0},
            {"loader": "session", "function": "other", "state": "skipped", "message": "it draws random numbers",
             "outputs": 0, "bytes": 0, "difference": 0.0},
        ],
    }  # fmt: skip


def test_what_running_a_result_does_to_it_is_never_published(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that writes beside it changes nothing of what was proven, and one that writes to it fails the job."""

    def beside(original: str, result: str) -> Outputs:
        Path(result, "more.txt").write_text("x")
        return Outputs((RAN,))

    def into(original: str, result: str) -> Outputs:
        with open(result, "ab") as file:
            file.write(b"x")
        return Outputs((RAN,))

    Made().write(work / "models" / "export")
    module(monkeypatch, "outputs", beside)
    made(prove="outputs", models="models/export")
    with tarfile.open("dist/export.tar.gz") as archive:
        assert "export/more.txt" not in archive.getnames()
        assert "export/saved_model.pb" in archive.getnames()
    shutil.rmtree("dist")
    module(monkeypatch, "outputs", into)
    with pytest.raises(UsageError, match="running the result changed it"):
        made(prove="outputs")
    assert nothing()


@pytest.mark.parametrize("state", ["different", "missing", "failed"])
@pytest.mark.parametrize("to", ["same", "tflite"])
def test_another_model_is_never_published(state: Any, to: str, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One call that differs, lacks or fails among those that agree stops everything; the model is named."""
    bad = replace(RAN, function="f", state=state, message="why")
    compared(monkeypatch, RAN, bad)
    exports(monkeypatch, RAN, bad)
    with pytest.raises(UsageError, match=rf"models/a\.keras: .*another model.*{state} in f \(v2\): why"):
        made("same", to, prove="outputs") if to != "same" else made(prove="outputs")
    assert nothing()


@pytest.mark.parametrize("difference", [math.nan, math.inf])
def test_a_difference_that_is_no_number_is_wrong(difference: float) -> None:
    """It is within no tolerance, and no JSON."""
    with pytest.raises(ProofFailed):
        proving.settled(Outputs((replace(CLOSE, difference=difference),), 1e-4))


def test_what_cannot_be_run_is_published_and_said_to_be_so(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest and the summary say why nothing ran, and never that it did; one notice a model."""
    calls = {"models/a.keras": [], "models/b.h5": [replace(SKIPPED, message="its code is absent"), SKIPPED]}

    def compare(original: str, result: str) -> Outputs:
        if not calls[original]:
            raise CannotRun("it holds weights and no graph", "no way")
        return Outputs(tuple(calls[original]))

    module(monkeypatch, "outputs", compare)
    os.remove("models/mean.keras")
    items = made(prove="outputs", models="models")
    said = [entry["proof"]["outputs"] for entry in written()]
    assert said[0] == {"tolerance": 0.0, "not_run": "it holds weights and no graph", "calls": []}
    assert (said[1]["not_run"], len(said[1]["calls"])) == ("its code is absent", 2)
    told = summary.published(items)
    assert told.count("| not run |") == 2
    assert "with the same results: 0 of 2" in told
    assert notes.table(items).count("| not run |") == 2
    first, second = github.not_run(proving.not_run(items))
    assert first.startswith("::notice file=models/a.keras,title=tfstrip not run::not proven by running it")
    assert "its code is absent" in second


def test_an_export_that_nothing_proves_is_not_published(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has no bytes to compare: what could not be run stops the job, with the reason and the way out."""
    exports(monkeypatch, replace(SKIPPED, message="it draws random numbers"))
    with pytest.raises(UsageError, match=r"models/a\.keras: nothing proves its export as tflite.*random.*leave that"):
        made("same", "tflite")
    assert nothing()


def test_averages_are_not_compared_with_what_they_replaced(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Applied averages give something else than the original, as they should: not run, and why."""
    asked = compared(monkeypatch, replace(RAN, state="different"))
    made(prove="outputs", models="models/mean.keras", ema="apply")
    assert asked == []
    assert "averages" in written()[0]["proof"]["outputs"]["not_run"]


def test_words_of_a_framework_mean_nothing_and_are_the_same_everywhere(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut to 300 visible characters, no paths of a machine, no addresses, no marks; in every place where they are."""
    compared(monkeypatch, Call(HOSTILE, HOSTILE, "skipped", HOSTILE))
    items = made(prove="outputs")
    (entry,) = written()
    outputs = entry["proof"]["outputs"]
    for words in (outputs["not_run"], *(outputs["calls"][0][key] for key in ("loader", "function", "message"))):
        assert words.isprintable()
        assert len(words) == 300
        assert "tfstrip-run" not in words
        assert "7f00" not in words
        assert "##[" not in words
    page = summary.published(items) + notes.table(items)
    assert "<b>" not in page
    assert "\n::error" not in page
    assert all("\n" not in line for line in github.not_run(proving.not_run(items)))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("the code of Odd is not in the file", "the code of Odd is not in the file"),
        ("no file '/home/me/x/y.keras' here", "no file '...' here"),
        ("{{node model/dense/MatMul}} 3/4 a/b/c", "{{node model/dense/MatMul}} 3/4 a/b/c"),
        ("<obj at 0x7f3a5c0011d0>", "<obj at 0x...>"),
        ("at /tmp/a.b/c-d_e/saved_model.pb: NotFound", "at ...: NotFound"),
    ],
)
def test_what_is_of_one_machine_alone_is_left_out(words: str, told: str) -> None:
    """Absolute paths and addresses go, names of operations and layers stay."""
    assert proving.told(words) == told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("InvalidArgumentError: assertion failed: [c2VjcmV0]", "InvalidArgumentError"),
        ("Keras cannot load it (ValueError: c2VjcmV0)", "Keras cannot load it (ValueError)"),
        ("_NotOkStatusException: c2VjcmV0; see that it runs", "_NotOkStatusException"),
        ("error: c2VjcmV0", "error"),
        ("the process that ran it was ended by SIGABRT: c2VjcmV0", "the process that ran it was ended by SIGABRT"),
        ("the process that ran it ended with code 1: c2VjcmV0", "the process that ran it ended with code 1"),
        ("output y differs by 0.5", "output y differs by 0.5"),
    ],
)
def test_what_a_framework_says_is_not_published(words: str, told: str) -> None:
    """Of an error its kind stays, of our sentences all: the text can hold what a hostile model read."""
    assert proving.told(words) == told
    assert proving.told(told) == told


def test_many_calls_are_summed(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred thousand functions make a line for each loader and state, of which nothing is lost."""
    calls = [replace(RAN, function=f"f{number}") for number in range(100_000)]
    compared(monkeypatch, *calls, replace(CLOSE, loader="v2"), SKIPPED)
    made(prove="outputs")
    (entry,) = written()
    listed = entry["proof"]["outputs"]["calls"]
    assert [(call["function"], call["state"], call["outputs"]) for call in listed] == [
        ("100000 functions", "equal", 200_000), ("1 functions", "close", 1), ("1 functions", "skipped", 0),
    ]  # fmt: skip


def reads(text: bytes) -> bool:
    try:
        manifest.loads(text)
    except UsageError as error:
        return "no manifest" not in str(error)
    return True


def entry_with(**changes: Any) -> bytes:
    value = json.loads(Path("dist/manifest.json").read_text())
    value["artifacts"][0] |= changes
    return (json.dumps(value, indent=1) + "\n").encode()


def test_a_manifest_with_a_proof_that_would_not_be_published_is_none(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What shows another model, what ran and did not at once, what is no number: refused by the one that publishes."""
    exports(monkeypatch, CLOSE)
    made("tflite")
    good = written()[0]
    proof = good["proof"]
    (call,) = proof["outputs"]["calls"]
    assert reads(entry_with())

    def outputs(**changes: Any) -> dict[str, Any]:
        return {"proof": proof | {"outputs": proof["outputs"] | changes}}

    bad: list[dict[str, Any]] = [
        {"form": "onnx"}, {"format": "frozen"}, {"load": "os.system()"}, {"inside": "../x"},
        {"inside": ""}, {"proof": {"kept_tensors": 0, "kept_bytes": 0}}, outputs(calls=[]), outputs(calls=None),
        outputs(not_run="x"), outputs(tolerance=1), outputs(tolerance=-1.0), outputs(tolerance=math.nan),
        outputs(calls=[call] * 201), outputs(more=1),
        *(outputs(calls=[call | {"state": state}]) for state in ("different", "missing", "failed", "skipped", "x", 1)),
        *(outputs(calls=[call | {key: value}]) for key in ("loader", "function", "message")
          for value in ("a\nb", "x" * 301, None, "##[group]")),
        *(outputs(calls=[call | {"difference": value}]) for value in (math.inf, math.nan, -0.1, 0, True, "0")),
        *(outputs(calls=[call | {key: value}]) for key in ("outputs", "bytes") for value in (1.0, -1, None)),
    ]  # fmt: skip
    skipped = {"tolerance": 1e-4, "not_run": "x", "calls": [call | {"state": "skipped"}]}
    bad.append({"proof": proof | {"outputs": skipped}})
    assert [changes for changes in bad if reads(entry_with(**changes))] == []


def test_jobs_that_exported_are_published_together(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every form of every model, with other names; one form twice, or of two jobs, is refused."""
    exports(monkeypatch, RAN)
    for number, name in enumerate(("a.keras", "b.h5"), 1):
        jobs = artifacts.plan(artifacts.survey([f"models/{name}"], "parts"), formats=("same", "frozen", "tflite"))
        artifacts.make(jobs, f"parts/{number}", commit=COMMIT)
    step = run(artifacts="parts", models="models/a.keras\nmodels/b.h5", tag="", asset_name="x-{name}")
    assert step.code == 0, step.stderr
    entries = {entry["path"]: entry for entry in written()}
    assert sorted(entries) == [
        "x-a.frozen.tar.gz", "x-a.keras", "x-a.tflite", "x-b.frozen.tar.gz", "x-b.h5", "x-b.tflite",
    ]  # fmt: skip
    assert entries["x-a.frozen.tar.gz"]["load"] == 'tf.saved_model.load("a.frozen")'
    assert entries["x-a.tflite"]["load"] == 'tf.lite.Interpreter(model_path="x-a.tflite")'
    described = json.loads(step.outputs["artifacts"])
    assert sorted({item["format"] for item in described}) == ["frozen", "keras-hdf5", "keras-zip", "tflite"]
    sizes = [os.path.getsize(f"models/{name}") for name in ("a.keras", "b.h5")]
    assert int(step.outputs["bytes-before"]) == sum(sizes)
    assert int(step.outputs["bytes-after"]) == sum(item["bytes_after"] for item in described)
    jobs = artifacts.plan(artifacts.survey(["models/a.keras"], "parts"), formats=("tflite",))
    artifacts.make(jobs, "parts/3", commit=COMMIT, form=artifacts.Form(names.Naming("y-{name}")))
    step = run(artifacts="parts", tag="", output_dir="other")
    assert step.code == 2
    assert "models/a.keras as tflite was stripped in two jobs" in step.stderr


def test_every_format_says_how_it_is_loaded(work: Path) -> None:
    """No format that an artifact can have is without a line."""
    formats = [
        "keras-zip", "keras-directory", "keras-hdf5", "keras-hdf5-weights", "keras-weights", "keras-shards",
        "tf-checkpoint", "tf-checkpoint-names", "tf-checkpoint-v1", "saved-model",
    ]  # fmt: skip
    (item,) = made()
    for format_ in formats:
        inventory = Inventory("x", format_, "clean")
        line = summary.load(replace(item, result=replace(item.result, inventory=inventory), inside="stored"))
        assert '"stored"' in line, format_


def test_the_fan_out_passes_both_on() -> None:
    """strip-release.yml tells its jobs the formats and the proof, its plan the formats, by the Action's defaults."""
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "strip-release.yml").read_text())
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    asked = flow[True]["workflow_call"]["inputs"]
    for name in ("formats", "prove"):
        assert asked[name]["default"] == action["inputs"][name]["default"]
    steps = {step["name"]: step["with"] for job in flow["jobs"].values() for step in job["steps"] if "with" in step}
    assert steps["Strip and prove"]["formats"] == steps["Divide the models among jobs"]["formats"]
    assert (steps["Strip and prove"]["formats"], steps["Strip and prove"]["prove"]) == (
        "${{ inputs.formats }}", "${{ inputs.prove }}",
    )  # fmt: skip


_CAPBSET_DROP, _RIGHTS = 24, (19, 21, 38)  # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has /proc and what shuts it")
@pytest.mark.parametrize(("how", "seen"), [("open", "True"), ("shut", "no")])
def test_no_process_that_it_starts_reads_the_token(how: str, seen: str) -> None:
    """What runs a model cannot read the environment of what started it; without runner.shut it could."""

    def drop() -> None:
        if os.geteuid() == 0:  # with any of these root reads everything; Docker gives none of them to a container
            for right in _RIGHTS:
                ctypes.CDLL(None).prctl(_CAPBSET_DROP, right, 0, 0, 0)

    command = [sys.executable, "-c", PARENT, how]
    environment = {**os.environ, "INPUT_TOKEN": "token", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, preexec_fn=drop, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == seen, done.stderr


def test_the_entry_point_shuts_itself_first() -> None:
    """Before anything is read, and so before anything is started."""
    main = (ROOT / "entrypoint.py").read_text().partition("def main() -> int:")[2]
    assert main.splitlines()[2].strip() == "runner.shut()"
