"""The reusable workflow on act: a plan, a matrix of jobs, one release; what GitHub keeps between jobs is a folder."""

import hashlib
import os
import re
import shutil
import subprocess
from pathlib import Path

import action_run
import pytest
import yaml
from conftest import need, one
from github_server import Fault, GitHub
from test_action_e2e import Act, fetched, hub, readme, tool  # noqa: F401

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]
WORKFLOW = ROOT / ".github" / "workflows" / "strip-release.yml"
MODELS = {
    "digits.keras": ROOT / "examples" / "digits" / "digits.keras",
    "a.keras": Path(one("keras3.15.1", "sequential.keras").path),
    "deep/b.h5": Path(one("keras3.15.1", "sequential.h5").path),
}
OURS = {"manifest.json", "SHA256SUMS"}
# What these two do on GitHub, as far as it matters: an artifact cannot be changed, only deleted and uploaded again;
# hidden files stay behind; a pattern that meets one artifact lays its files into the folder itself.
UPLOAD = """
import os, pathlib, shutil
store, source = pathlib.Path("/store", os.environ["NAME"]), pathlib.Path(os.environ["SOURCE"])
assert not set('":<>|*?\\\\/') & set(os.environ["NAME"]), os.environ["NAME"]
if store.exists():
    assert os.environ["OVERWRITE"] == "true", "an artifact of this name is there"
    shutil.rmtree(store)
files = [path for path in source.rglob("*") if path.is_file() and not any(p.startswith(".") for p in path.parts)]
assert files or os.environ["MISSING"] != "error", "no files were found"
for path in files:
    target = store / path.relative_to(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
print("kept", store.name, sorted(path.name for path in files))
"""
DOWNLOAD = """
import fnmatch, os, pathlib, shutil
met = [path for path in sorted(pathlib.Path("/store").iterdir()) if fnmatch.fnmatch(path.name, os.environ["PATTERN"])]
target = pathlib.Path(os.environ["TARGET"])
for path in met:
    shutil.copytree(path, target if len(met) == 1 else target / path.name, dirs_exist_ok=True)
print("got", [path.name for path in met])
"""
STAND_INS = {
    "upload-artifact": (
        UPLOAD,
        {"NAME": "name", "SOURCE": "path", "MISSING": "if-no-files-found", "OVERWRITE": "overwrite"},
        ["compression-level"],
    ),
    "download-artifact": (DOWNLOAD, {"PATTERN": "pattern", "TARGET": "path"}, []),
}


class Run:
    """Runs a workflow that calls strip-release.yml; `store` holds the artifacts of the run."""

    def __init__(self, act: Act, folder: Path) -> None:
        self.act, self.store = act, folder / "store"
        self.store.mkdir()
        text = WORKFLOW.read_text()
        # act knows no $/ yet: the names by which the README calls both actions.
        text, plans = re.subn(r"uses: \$/plan$", "uses: tfstrip/tfstrip/plan@v0.1.0", text, flags=re.MULTILINE)
        text, actions = re.subn(r"uses: \$/$", "uses: tfstrip/tfstrip@v0.1.0", text, flags=re.MULTILINE)
        assert (plans, actions) == (1, 2)
        called = act.repository / ".github" / "workflows" / "strip-release.yml"
        called.parent.mkdir(parents=True)
        called.write_text(text)
        self.words = ["--container-options", f"--volume {self.store}:/store"]
        for name, (code, variables, others) in STAND_INS.items():
            stand_in = folder / name
            stand_in.mkdir()
            step = {"shell": "python", "run": code, "env": {k: f"${{{{ inputs.{v} }}}}" for k, v in variables.items()}}
            inputs = {key: {"description": key} for key in (*variables.values(), *others)}
            action = {"name": name, "description": name, "inputs": inputs}
            action["runs"] = {"using": "composite", "steps": [step]}
            (stand_in / "action.yml").write_text(yaml.safe_dump(action))
            (pinned,) = re.findall(rf"uses: (actions/{name}@[0-9a-f]{{40}}) #", text)
            self.words += ["--local-repository", f"{pinned}={stand_in}"]

    def __call__(self, workflow: str, event: str, payload: object, *words: str) -> tuple[int, str]:
        here = re.sub(r"uses: tfstrip/tfstrip/(\.github/.*)@v0\.1\.0", r"uses: ./\1", workflow)
        assert here != workflow
        return self.act(here, event, payload, *self.words, *words)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with models of different sizes."""
    folder = tmp_path / "models-repository"
    for name, path in MODELS.items():
        (folder / "models" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder / "models" / name)
    return folder


@pytest.fixture
def run(repository: Path, tool: Path, hub: GitHub, tmp_path: Path) -> Run:  # noqa: F811
    return Run(Act(repository, tool, hub), tmp_path)


def caller(**inputs: str) -> str:
    """The README's workflow, with these inputs more."""
    workflow = readme("matrix workflow").replace(
        "models/**/*.keras", "|\n        models/**/*.keras\n        models/**/*.h5"
    )
    return workflow + "".join(f"      {name}: {value}\n" for name, value in inputs.items())


def shares(run: Run) -> dict[str, set[str]]:
    """What each job of the matrix left for the last one."""
    return {path.name: {file.name for file in path.iterdir()} - OURS for path in run.store.iterdir()}


def test_a_matrix_makes_one_release_and_a_second_run_completes_it(
    run: Run,
    hub: GitHub,  # noqa: F811
    repository: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three models on two runners: the job that publishes fails in mid-upload, and run again it ends in one release.

    The release holds, byte for byte, what one job alone makes of the three.
    """
    hub.faults.append(Fault("POST", "/assets", "status", status=403, message="Not now", skip=2))
    code, log = run(caller(jobs='"2"'), "push", {"ref": "refs/tags/v1.2.3"})
    assert code != 0
    assert "403 Not now" in log
    assert [(release.draft, len(release.assets)) for release in hub.releases] == [(True, 2)]
    first = shares(run)
    assert sorted(map(sorted, first.values())) == [["a.keras", "b.h5"], ["digits.keras"]]  # by their sizes
    code, log = run(caller(jobs='"2"'), "push", {"ref": "refs/tags/v1.2.3"})
    assert code == 0, log
    assert shares(run) == first
    held = fetched(hub)
    assert set(held) == {*(Path(name).name for name in MODELS), *OURS}
    sent = [path for method, path, status in hub.requests if (method, status) == ("POST", 201) and "/assets?" in path]
    assert len(sent) == len(held)
    for line in held["SHA256SUMS"].decode().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256(held[name]).hexdigest() == digest
    monkeypatch.chdir(repository)
    assert action_run.run(models="models/**/*.keras\nmodels/**/*.h5", output_dir="whole", prove="outputs").code == 0
    head = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    for name in held.keys() - {"SHA256SUMS"}:
        assert Path("whole", name).read_bytes().replace(action_run.COMMIT.encode(), head.encode()) == held[name]


def test_a_fork_s_pull_request_strips_and_publishes_nothing(run: Run, hub: GitHub) -> None:  # noqa: F811
    """On one runner, with a token that may only read: everything is compared, a notice says so, GitHub is not asked."""
    head = {"ref": "x", "repo": {"full_name": "stranger/models", "fork": True}}
    payload = {"action": "opened", "pull_request": {"number": 1, "head": head, "base": {"ref": "main"}}}
    workflow = caller(jobs='"1"').replace('push:\n    tags: ["v*"]', "pull_request:")
    workflow = workflow.replace("${{ github.ref_name }}", "v9")
    code, log = run(workflow, "pull_request", payload, "-s", f"GITHUB_TOKEN={hub.read_token}")
    assert code == 0, log
    assert "::notice title=tfstrip::A pull request from a fork publishes nothing." in log
    assert "tfstrip-dist: 3 artifacts, manifest.json, SHA256SUMS" in log
    assert len(shares(run)) == 1
    assert hub.requests == []


def test_the_workflow_is_one_and_the_readme_names_its_inputs(tmp_path: Path) -> None:
    """By act's strict reading, as is the README's caller; every input of it is in the README."""
    need("act", "git")
    path = tmp_path / ".github" / "workflows" / "models.yml"
    path.parent.mkdir(parents=True)
    path.write_text(readme("matrix workflow"))
    for file in (path, WORKFLOW):
        command = ["act", "--validate", "--strict", "-W", str(file)]
        done = subprocess.run(command, env={**os.environ, "HOME": str(tmp_path)}, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
    workflow = yaml.safe_load(WORKFLOW.read_text())
    text = (ROOT / "README.md").read_text()
    for name in workflow[True]["workflow_call"]["inputs"]:  # YAML reads on as true
        assert f"`{name}`" in text, name
    writes = [name for name, job in workflow["jobs"].items() if "write" in job["permissions"].values()]
    assert (workflow["permissions"], writes) == ({}, ["publish"])
