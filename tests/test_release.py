"""Artifacts for a release: all of them or none, with names, manifest and checksums that hold."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import one

import tfstrip_core
from tfstrip_core.release import artifacts, names

ROOT = Path(__file__).parents[1]
KERAS, HDF5 = one("keras3.15.1", "sequential.keras"), one("tf2.15", "sequential.h5")
CLEAN, SUSPECT = one("keras3.15.1", "sequential_uncompiled.keras"), one("keras3.15.1", "gan.keras")
AVERAGES = one("keras3.15.1", "ema_mid_fit.keras")


@pytest.fixture
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A work tree with two models to strip and a clean one, and the test standing in it."""
    (tmp_path / "models" / "deep").mkdir(parents=True)
    shutil.copy(KERAS.path, tmp_path / "models" / "a.keras")
    shutil.copy(HDF5.path, tmp_path / "models" / "deep" / "b.h5")
    shutil.copy(CLEAN.path, tmp_path / "models" / "clean.keras")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def entrypoint(**inputs: str) -> subprocess.CompletedProcess[str]:
    """Run the Action's entry point as the runner does: INPUT_ in capitals, dashes kept."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("INPUT_")}
    environment |= {"INPUT_PROVE": "bytes"}  # most of these tests run where no TensorFlow is
    environment |= {f"INPUT_{name.replace('_', '-').upper()}": value for name, value in inputs.items()}
    command = [sys.executable, str(ROOT / "entrypoint.py")]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that a run said one sentence with these words and wrote nothing."""
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert not Path("dist").exists() or not list(Path("dist").iterdir())


def test_everything_that_matches_is_stripped_proven_and_listed(tree: Path) -> None:
    """The artifacts, the manifest and the checksums agree with each other and with what strip alone would write."""
    done = entrypoint(models="models/**/*.keras\nmodels/**/*.h5\n")
    assert done.returncode == 0, done.stderr
    assert sorted(os.listdir("dist")) == ["SHA256SUMS", "a.keras", "b.h5", "clean.keras", "manifest.json"]
    check = subprocess.run(
        ["sha256sum", "--check", "SHA256SUMS"], cwd="dist", capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stdout
    manifest = json.loads(Path("dist/manifest.json").read_text())
    assert [entry["path"] for entry in manifest["artifacts"]] == ["a.keras", "b.h5", "clean.keras"]
    for entry in manifest["artifacts"]:
        artifact, source = Path("dist", entry["path"]), Path(entry["source"])
        assert entry["sha256"] == hashlib.sha256(artifact.read_bytes()).hexdigest()
        digest = hashlib.sha256(source.read_bytes()).hexdigest()
        assert entry["sources"] == [{"path": entry["source"], "sha256": digest}]
        assert (entry["bytes_before"], entry["bytes_after"]) == (source.stat().st_size, artifact.stat().st_size)
        assert entry["proof"]["kept_tensors"] == len(tfstrip_core.inspect(str(artifact)).tensors)
        assert tfstrip_core.verify(str(source), str(artifact)).equal
    assert tfstrip_core.check(["dist"]).exit_code == 0
    assert Path("dist/clean.keras").read_bytes() == Path("models/clean.keras").read_bytes()
    assert "before" in done.stdout
    assert "a.keras" in done.stdout


def test_two_runs_write_the_same_bytes(tree: Path) -> None:
    """The manifest has no time stamp and no path of the machine, so a second run changes nothing."""
    inputs = {"models": "**/*.keras"}
    assert entrypoint(**inputs, output_dir="one").returncode == 0
    assert entrypoint(**inputs, output_dir="one").returncode == 0
    assert entrypoint(models="models/*.keras", output_dir="two").returncode == 0
    for name in os.listdir("one"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    assert str(tree) not in Path("one/manifest.json").read_text()


def test_artifacts_of_an_earlier_run_are_no_models_to_strip(tree: Path) -> None:
    """A glob that reaches into the output directory leaves it out."""
    assert artifacts.match(["**/*.keras"], "dist") == ["models/a.keras", "models/clean.keras"]
    entrypoint(models="**/*.keras")
    assert artifacts.match(["**/*.keras"], "dist") == ["models/a.keras", "models/clean.keras"]


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"models": ""}, ["models", "empty"]),
        ({"models": "nothing/*.keras"}, ["nothing/*.keras", "matches no file"]),
        ({"models": "models/*.keras", "profile": "both"}, ["profile", "both"]),
        ({"models": "models/*.keras", "ema": "maybe"}, ["ema", "maybe"]),
        ({"models": "models/*.keras", "also": "ghost"}, ["also", "ghost"]),
        ({"models": "models/*.keras", "tag": "v1"}, ["tag"]),
        ({"models": "models/*.keras", "output_dir": "models/a.keras"}, ["models/a.keras"]),
        ({"models": "models/*.keras", "output_dir": "../out"}, ["../out", "outside of the workspace"]),
        ({"models": "models/*.keras", "output_dir": "models"}, ["only what lies in output-dir"]),
        ({"models": "/etc/*"}, ["/etc/*", "leads out of the workspace"]),
        ({"models": "../*"}, ["../*", "leads out of the workspace"]),
        ({"models": "models/*.keras, models/*.h5"}, ["without commas"]),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_a_mistake_in_the_inputs_is_one_sentence(inputs: dict[str, str], words: list[str], tree: Path) -> None:
    """Each wrong input is named, exit code 2, nothing written."""
    refused(entrypoint(**inputs), *words)


@pytest.mark.parametrize("kind", ["pointer", "tflite", "text", "cut"])
def test_one_bad_match_fails_all_before_anything_is_written(kind: str, tree: Path) -> None:
    """A pointer, a foreign model, no model or a damaged one among the matches: the file is named, nothing is made."""
    content = {
        "pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 12\n",
        "tflite": b"\x1c\0\0\0TFL3" + bytes(100),
        "text": b"print('hello')\n",
        "cut": Path(KERAS.path).read_bytes()[:9000],
    }[kind]
    Path("models/z.keras").write_bytes(content)
    refused(entrypoint(models="models/*.keras"), "models/z.keras")


def test_averages_without_a_choice_fail_all(tree: Path) -> None:
    """A model saved in mid-fit stops the run and is named; with ema it goes through, for that model alone."""
    shutil.copy(AVERAGES.path, "models/z.keras")
    shutil.copy(AVERAGES.path, "models/y.keras")
    refused(entrypoint(models="models/*.keras"), "models/y.keras, models/z.keras", "set ema to drop")
    Path("models/y.keras").unlink()
    assert entrypoint(models="models/*.keras", ema="apply").returncode == 0
    assert tfstrip_core.verify("models/z.keras", "dist/z.keras", ema="apply").equal
    entries = json.loads(Path("dist/manifest.json").read_text())["artifacts"]
    assert {entry["path"]: entry["weights"] for entry in entries}["z.keras"] == "averages"
    assert entries[0]["weights"] == "as trained"


def test_keys_apply_to_the_models_that_have_them(tree: Path) -> None:
    """A KEY of also names state in one of the models and is no mistake for the others."""
    shutil.copy(SUSPECT.path, "models/z.keras")
    done = entrypoint(models="models/*.keras", also="g_optimizer\nd_optimizer\n")
    assert done.returncode == 0, done.stderr
    assert tfstrip_core.check(["dist/z.keras"]).exit_code == 0


def test_suspected_state_that_stays_is_said(tree: Path) -> None:
    """TFS107 that is left in an artifact is named on stderr and in the manifest."""
    shutil.copy(SUSPECT.path, "models/z.keras")
    done = entrypoint(models="models/z.keras")
    assert done.returncode == 0
    assert done.stderr.count("TFS107") == 2
    kept = json.loads(Path("dist/manifest.json").read_text())["artifacts"][0]["kept"]
    assert {item["subject"] for item in kept} == {"g_optimizer", "d_optimizer"}


def test_two_models_of_one_name_are_refused_before_anything_is_written(tree: Path) -> None:
    """Assets have base names: a/model.keras and b/model.keras cannot both be attached."""
    shutil.copy(KERAS.path, "models/deep/a.keras")
    refused(entrypoint(models="models/**/*.keras"), "models/a.keras", "models/deep/a.keras")


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("models/a.keras", "a.keras"),
        ("a b (1).keras", "a.b.1.keras"),
        ("m\u00f6del.h5", "model.h5"),
        ("..keras", "model.keras"),
        ("\u4e2d\u6587", "model"),
        ("-x\n::error::.keras", "-x.error.keras"),
    ],
)
def test_asset_names_are_what_github_will_make_of_them(path: str, name: str) -> None:
    """Odd characters become dots, so that the checksums name what the release will hold."""
    assert names.asset_name(path) == name


@pytest.mark.parametrize(
    "paths", [("a.keras", "b/a.keras"), ("a b.h5", "a.b.h5"), ("A.h5", "a.h5"), ("manifest.json",)]
)
def test_colliding_names_are_refused(paths: tuple[str, ...]) -> None:
    """Two assets of one name, also after cleaning, whatever their case, or of a reserved one, are a mistake."""
    with pytest.raises(tfstrip_core.UsageError, match="both be attached"):
        names.asset_names({path: path for path in paths})


def test_without_a_tag_nothing_of_github_is_imported(tree: Path) -> None:
    """PyGithub stays out of a run that makes artifacts only."""
    code = (
        "import runpy, sys\n"
        "try:\n"
        f"    runpy.run_path({str(ROOT / 'entrypoint.py')!r}, run_name='__main__')\n"
        "except SystemExit as end:\n"
        "    assert end.code == 0, end.code\n"
        "assert not {'github', 'requests', 'tensorflow'} & set(sys.modules)\n"
    )
    environment = {**os.environ, "INPUT_MODELS": "models/*.keras", "INPUT_PROVE": "bytes"}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)
