"""The real images: run by act against the strict server, and once in the runner's own layout."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
import yaml
from action_run import COMMIT, PARENT, read_outputs
from conftest import E2E, need, one
from github_server import GitHub
from jsonschema import Draft202012Validator

pytestmark = pytest.mark.e2e

ROOT = Path(__file__).parents[1]
BASE = "python:3.12-slim-bookworm"
KERAS, HDF5 = one("keras3.15.1", "sequential.keras"), one("keras3.15.1", "sequential.h5")
# The names that act gives to the images of the actions below; it builds none that is there already.
ACTION = "act-tfstrip-tfstrip-v0-1-0-dockeraction"
CHECK = "act-tfstrip-tfstrip-check-v0-1-0-check-dockeraction"
PLAN = "act-tfstrip-tfstrip-plan-v0-1-0-plan-dockeraction"
SOURCES = ("action.yml", "check", "plan", "docs", "Dockerfile", "Dockerfile.check", "entrypoint.py", "tfstrip_core")
AFTERWARDS = """
      - name: What the next step of a job can do
        run: |
          echo "outputs: $URL $BEFORE $AFTER $CHECKSUMS $MANIFEST"
          echo "artifacts: $ARTIFACTS"
          cd dist && sha256sum --check SHA256SUMS
        env:
          URL: ${{ steps.strip.outputs.release-url }}
          BEFORE: ${{ steps.strip.outputs.bytes-before }}
          AFTER: ${{ steps.strip.outputs.bytes-after }}
          CHECKSUMS: ${{ steps.strip.outputs.checksums-file }}
          MANIFEST: ${{ steps.strip.outputs.manifest }}
          ARTIFACTS: ${{ steps.strip.outputs.artifacts }}
"""


def readme(kind: str) -> str:
    """The workflow of the README that is marked so."""
    (block,) = re.findall(rf"<!-- test: {kind} -->\n```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    return str(block)


@pytest.fixture(scope="module")
def tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Action's repository as a release has it, without what lies about in a work tree; both images are built."""
    need("docker", "act", "git")
    if subprocess.run(["docker", "info"], capture_output=True, check=False).returncode:
        (pytest.fail if E2E else pytest.skip)("no Docker engine answers")
    folder = tmp_path_factory.mktemp("tool")
    for name in (*SOURCES, "README.md", "LICENSE", "pyproject.toml", ".github/requirements"):
        source, target = ROOT / name, folder / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    for tag, name in ((ACTION, "Dockerfile"), (CHECK, "Dockerfile.check"), (PLAN, "Dockerfile.check")):
        command = [
            "docker",
            "build",
            "--label",
            "tfstrip-test",
            "--tag",
            tag,
            "--file",
            str(folder / name),
            str(folder),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    old = ["docker", "image", "prune", "--force", "--filter", "label=tfstrip-test"]  # what the new ones replaced
    subprocess.run(old, capture_output=True, check=True)
    return folder


@pytest.fixture
def hub() -> Iterator[GitHub]:
    with GitHub() as server:
        yield server
        assert server.unknown == []


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A user's repository with two models, committed."""
    folder = tmp_path / "models-repository"
    (folder / "models" / "deep").mkdir(parents=True)
    shutil.copy(KERAS.path, folder / "models" / "a.keras")
    shutil.copy(HDF5.path, folder / "models" / "deep" / "b.h5")
    return folder


class Act:
    """Runs a workflow of the user's repository with the real runner's stand-in."""

    def __init__(self, repository: Path, tool: Path, hub: GitHub) -> None:
        self.repository, self.tool, self.hub = repository, tool, hub

    def __call__(self, workflow: str, event: str, payload: object, *more: str) -> tuple[int, str]:
        git = ["git", "-C", str(self.repository), "-c", "user.name=A", "-c", "user.email=a@example.org"]
        path = self.repository / ".github" / "workflows" / "models.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(workflow)
        for words in (["init", "-q", "-b", "main"], ["add", "-A"], ["commit", "-q", "--allow-empty", "-m", "Models"]):
            subprocess.run([*git, *words], check=True)
        subprocess.run([*git, "remote", "add", "origin", "https://github.com/acme/models.git"], check=False)
        done = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True)
        self.hub.tags.update(dict.fromkeys(self.hub.tags, done.stdout.strip()))  # a release's tag names that commit
        home = self.repository.parent / "home"
        home.mkdir(exist_ok=True)
        (home / "event.json").write_text(json.dumps(payload))
        command = ["act", event, "-W", str(path), "-P", f"ubuntu-latest={BASE}", "--pull=false", "--rm"]
        command += ["--rebuild=false", "--action-offline-mode", "--eventpath", str(home / "event.json")]
        command += ["--local-repository", f"tfstrip/tfstrip@v0.1.0={self.tool}"]
        command += ["--env", f"GITHUB_API_URL={self.hub.url}", "-s", f"GITHUB_TOKEN={self.hub.token}"]
        done = subprocess.run(
            [*command, *more],
            cwd=self.repository,
            env={**os.environ, "HOME": str(home)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        log = done.stdout + done.stderr
        assert "docker build" not in log  # the image under test is the one that was built above
        assert self.hub.token not in log
        return done.returncode, log


@pytest.fixture
def act(repository: Path, tool: Path, hub: GitHub) -> Act:
    return Act(repository, tool, hub)


def fetched(hub: GitHub) -> dict[str, bytes]:
    """What anybody can download from the one published release."""
    (release,) = hub.releases
    assert not release.draft
    base = f"{hub.root}/acme/models/releases/download/{release.tag_name}"
    answers = {asset.name: requests.get(f"{base}/{asset.name}", timeout=20) for asset in release.assets}
    assert all(answer.ok for answer in answers.values())
    return {name: answer.content for name, answer in answers.items()}


def check_release(hub: GitHub, log: str) -> dict[str, bytes]:
    """The release holds the right bytes, the same as in the job's folder and in its outputs."""
    held = fetched(hub)
    assert set(held) == {"a.keras", "b.h5", "manifest.json", "SHA256SUMS"}
    for line in held["SHA256SUMS"].decode().splitlines():
        digest, _, name = line.partition("  ")
        assert hashlib.sha256(held[name]).hexdigest() == digest
    for name in ("a.keras", "b.h5", "manifest.json"):
        assert f"{name}: OK" in log
    return held


def test_the_readme_s_release_workflow_on_a_pushed_tag(act: Act, hub: GitHub, tmp_path: Path) -> None:
    """Copied as it is: the release appears with the right bytes, which Keras loads; the next step has the outputs."""
    code, log = act(readme("release workflow") + AFTERWARDS, "push", {"ref": "refs/tags/v1.2.3"})
    assert code == 0, log
    held = check_release(hub, log)
    assert hub.releases[0].tag_name == "v1.2.3"
    described = json.loads(re.findall(r"\| artifacts: (\[.*\])", log)[0])
    assert {item["source"] for item in described} == {"models/a.keras", "models/deep/b.h5"}
    for item in described:
        assert item["sha256"] == hashlib.sha256(held[Path(item["path"]).name]).hexdigest()
    after = len(held["a.keras"]) + len(held["b.h5"])
    before = sum(os.path.getsize(model.path) for model in (KERAS, HDF5))
    assert f"{before} {after} dist/SHA256SUMS dist/manifest.json" in log
    load_and_predict(held, tmp_path)


def load_and_predict(held: dict[str, bytes], folder: Path) -> None:
    """What was downloaded predicts in Keras, bit for bit, what the original predicts."""
    if not E2E:
        pytest.importorskip("keras", minversion="3")
    for name, original in (("a.keras", KERAS), ("b.h5", HDF5)):
        (folder / name).write_bytes(held[name])
        code = (
            "import sys, keras, numpy as np\n"
            "models = [keras.models.load_model(path, compile=False) for path in sys.argv[1:3]]\n"
            "x = np.load(sys.argv[3])['x0']\n"
            "left, right = (np.asarray(model.predict(x, verbose=0)) for model in models)\n"
            "assert left.size and left.tobytes() == right.tobytes()\n"
            "weights = models[1].get_weights()\n"
            "weights[0].view(np.uint32).flat[0] ^= 1 << 22\n"
            "models[1].set_weights(weights)\n"
            "assert np.asarray(models[1].predict(x, verbose=0)).tobytes() != left.tobytes()\n"
        )
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
        command = [sys.executable, "-c", code, original.path, str(folder / name), str(original.io)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


FORMS = """
import json, sys
import keras, numpy as np, tensorflow as tf
original = keras.models.load_model(sys.argv[1], compile=False)
x = np.load(sys.argv[2])["x0"].astype("float32")
expected = np.asarray(original(x))
for entry in json.load(open("manifest.json"))["artifacts"]:
    loaded = eval(entry["load"])
    if entry["form"] == "same":
        found = np.asarray(loaded(x))
    elif entry["form"] == "tflite":
        run = loaded.get_signature_runner("serving_default")
        (name,) = run.get_input_details()
        (found,) = run(**{name: x}).values()
    else:
        call = loaded.signatures["serving_default"]
        (name,) = call.structured_input_signature[1]
        (found,) = call(**{name: tf.constant(x)}).values()
    assert np.allclose(expected, found, rtol=1e-4, atol=1e-4), entry["path"]
    assert not np.allclose(expected + 0.01, found, rtol=1e-4, atol=1e-4)
    print("ran", entry["form"])
"""


def python(code: str, *words: str, folder: Path) -> str:
    """Run code in this Python, with the framework that tests have; return what it prints."""
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    command = [sys.executable, "-c", code, *words]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def in_formats(words: str) -> str:
    """The README's workflow for .keras files alone, published in these formats."""
    workflow = readme("release workflow").replace("            models/**/*.h5\n", "")
    return workflow.replace("          models: |", f"          formats: {words}\n          models: |")


def test_a_release_in_three_formats(act: Act, hub: GitHub, tmp_path: Path) -> None:
    """Proven by running, as is the default: published, valid by the schema, and each is loaded as the manifest says."""
    if not E2E:
        pytest.importorskip("keras", minversion="3")
    (act.repository / "models" / "deep" / "b.h5").unlink()
    code, log = act(in_formats("same saved_model, tflite"), "push", {"ref": "refs/tags/v1"})
    assert code == 0, log
    held = fetched(hub)
    assert set(held) == {"a.keras", "a.saved_model.tar.gz", "a.tflite", "manifest.json", "SHA256SUMS"}
    manifest = json.loads(held["manifest.json"])
    Draft202012Validator(json.loads((ROOT / "docs" / "manifest.schema.json").read_text())).validate(manifest)
    for entry in manifest["artifacts"]:
        outputs = entry["proof"]["outputs"]
        assert "not_run" not in outputs, entry
        assert {call["state"] for call in outputs["calls"]} <= {"equal", "close"}, entry
        assert entry["sha256"] == hashlib.sha256(held[entry["path"]]).hexdigest()
    folder = tmp_path / "downloaded"
    folder.mkdir()
    for name, content in held.items():
        (folder / name).write_bytes(content)
    subprocess.run(["tar", "-xzf", "a.saved_model.tar.gz"], cwd=folder, check=True)
    said = python(FORMS, KERAS.path, str(KERAS.io), folder=folder)
    assert sorted(said.split()) == ["ran", "ran", "ran", "same", "saved_model", "tflite"]


# What is left when two ways to the same number are subtracted, made big: TFLite takes its sums in another order.
NOISE = """
import sys, keras, numpy as np
from keras import layers
x = keras.Input((512,))
mean = layers.Dense(1, use_bias=False, kernel_initializer=keras.initializers.Constant(1 / 512))(x)
other = layers.GlobalAveragePooling1D()(layers.Reshape((512, 1))(x))
model = keras.Model(x, layers.Rescaling(1e7)(layers.Subtract()([mean, other])))
model.compile(keras.optimizers.Adam(0.0), "mse")
model.fit(np.ones((8, 512)), np.zeros((8, 1)), verbose=0)
model.save(sys.argv[1])
"""


def test_a_model_that_another_format_changes_is_not_published(act: Act, hub: GitHub, tmp_path: Path) -> None:
    """Its TFLite form gives other numbers: the job is red and says so, and GitHub was not written to."""
    if not E2E:
        pytest.importorskip("keras", minversion="3")
    for name in ("a.keras", "deep/b.h5"):
        (act.repository / "models" / name).unlink()
    python(NOISE, str(act.repository / "models" / "noise.keras"), folder=tmp_path)
    code, log = act(in_formats("same tflite"), "push", {"ref": "refs/tags/v1"})
    assert code != 0
    assert "models/noise.keras: the result is another model" in log
    assert hub.releases == []
    assert all(method == "GET" for method, _, _ in hub.requests)


@pytest.mark.parametrize(("how", "seen"), [("open", "True"), ("shut", "no")])
def test_in_the_image_nothing_reads_the_token_of_what_started_it(how: str, seen: str, tool: Path) -> None:
    """Not even as root, which a container's processes are; without runner.shut it would."""
    command = ["docker", "run", "--rm", "--env", "INPUT_TOKEN=token", "--entrypoint", "/usr/local/bin/python", ACTION]
    done = subprocess.run([*command, "-I", "-c", PARENT, how], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == seen, done.stderr


def test_a_published_release_gets_its_artifacts(act: Act, hub: GitHub) -> None:
    """On the release event the tag is the release's, whose words stay."""
    hub.add_release("v2", name="Two", body="By hand.")
    workflow = readme("release workflow").replace('push:\n    tags: ["v*"]', "release:\n    types: [published]")
    assert "release:\n" in workflow
    code, log = act(workflow + AFTERWARDS, "release", {"action": "published", "release": {"tag_name": "v2"}})
    assert code == 0, log
    check_release(hub, log)
    assert hub.releases[0].name == "Two"
    assert str(hub.releases[0].body).startswith("By hand.\n\n<!-- tfstrip:")


def test_without_a_tag_there_are_artifacts_and_no_release(act: Act, hub: GitHub) -> None:
    """workflow_dispatch on a branch: the next step has the files, GitHub's API is never asked."""
    workflow = readme("release workflow").replace('push:\n    tags: ["v*"]', "workflow_dispatch:")
    code, log = act(workflow + AFTERWARDS, "workflow_dispatch", {"ref": "refs/heads/main"})
    assert code == 0, log
    assert "a.keras: OK" in log
    assert hub.requests == []


def test_the_readme_s_steps_without_a_release_on_a_pushed_tag(act: Act, hub: GitHub) -> None:
    """Copied as they are: an empty tag means artifacts only, the next step checks them, GitHub is never asked."""
    checkout = readme("release workflow").partition("      - uses: tfstrip/")[0]
    code, log = act(checkout + readme("artifacts steps"), "push", {"ref": "refs/tags/v1"})
    assert code == 0, log
    assert "a.keras: OK" in log
    assert '"source": "models/a.keras"' in log
    assert hub.requests == []


def test_the_readme_s_gate_fails_a_pull_request_and_annotates_it(act: Act, repository: Path, hub: GitHub) -> None:
    """Copied as it is, from a fork: red for models with optimizer state, named one by one; green once stripped."""
    head = {"ref": "x", "sha": "1" * 40, "repo": {"full_name": "stranger/models", "fork": True}}
    base = {"ref": "main", "sha": "2" * 40}
    payload = {"action": "opened", "pull_request": {"number": 1, "head": head, "base": base}}
    fork = ("-s", f"GITHUB_TOKEN={hub.read_token}")
    code, log = act(readme("gate workflow"), "pull_request", payload, *fork)
    assert code != 0
    for name in ("models/a.keras", "models/deep/b.h5"):
        assert f"::error file={name},title=TFS101 optimizer-state::" in log
    for name in ("a.keras", "deep/b.h5"):
        path = str(repository / "models" / name)
        subprocess.run([sys.executable, "-m", "tfstrip_core", "strip", "--in-place", path], check=True)
    code, log = act(readme("gate workflow"), "pull_request", payload, *fork)
    assert code == 0, log
    assert "2 models checked: no residue" in log
    assert hub.requests == []


def runner(folder: Path, image: str, **inputs: str) -> tuple[subprocess.CompletedProcess[str], dict[str, str], str]:
    """Run an image with the mounts, the variables and the user of GitHub's own runner."""
    mounts = {name: folder / name for name in ("home", "workflow", "file_commands", "workspace")}
    for path in mounts.values():
        path.mkdir(exist_ok=True)
    for name in ("output", "summary"):
        (mounts["file_commands"] / name).write_text("")
    variables = {
        "HOME": "/github/home",
        "PATH": "/home/runner/bin:/usr/bin",
        "PYTHONPATH": "/github/workspace",
        "GITHUB_ACTIONS": "true",
        "GITHUB_WORKSPACE": "/github/workspace",
        "GITHUB_OUTPUT": "/github/file_commands/output",
        "GITHUB_STEP_SUMMARY": "/github/file_commands/summary",
        "GITHUB_SHA": COMMIT,
        "GITHUB_EVENT_NAME": "pull_request",
        "GITHUB_EVENT_PATH": "/github/workflow/event.json",
        **{f"INPUT_{name.replace('_', '-').upper()}": value for name, value in inputs.items()},
    }
    command = ["docker", "run", "--rm", "--network", "none", "--workdir", "/github/workspace"]
    command += [word for name, path in mounts.items() for word in ("--volume", f"{path}:/github/{name}")]
    command += [word for name, value in variables.items() for word in ("--env", f"{name}={value}")]
    done = subprocess.run([*command, image], capture_output=True, text=True, check=False)
    outputs = read_outputs((mounts["file_commands"] / "output").read_text())
    return done, outputs, (mounts["file_commands"] / "summary").read_text()


@pytest.fixture
def workspace(tmp_path: Path, tool: Path) -> Path:
    """A work tree that belongs to the runner's user, with code in it that Python would import if it could."""
    folder = tmp_path / "workspace"
    (folder / "models").mkdir(parents=True)
    shutil.copy(KERAS.path, folder / "models" / "a.keras")
    for name in ("sitecustomize.py", "usercustomize.py", "json.py", "tfstrip_core.py"):
        (folder / name).write_text("raise SystemExit('the workspace was imported')\n")
    for path in (folder, *folder.rglob("*")):
        if os.geteuid() == 0:
            os.chown(path, 1001, 1001)
    return folder


def test_the_image_in_the_runner_s_layout(workspace: Path, tmp_path: Path) -> None:
    """File commands are written, nothing of the workspace is imported, and what is left belongs to its owner."""
    done, outputs, summary = runner(tmp_path, ACTION, models="models/*.keras", output_dir="out/dist")
    assert done.returncode == 0, done.stdout + done.stderr
    (described,) = json.loads(outputs["artifacts"])
    made = workspace / "out" / "dist" / "a.keras"
    assert described["sha256"] == hashlib.sha256(made.read_bytes()).hexdigest()
    assert described["sha256"] in summary
    owner = workspace.stat().st_uid
    assert {path.stat().st_uid for path in workspace.rglob("*")} == {owner}


def test_a_job_that_fails_leaves_nothing_of_root_s(workspace: Path, tmp_path: Path) -> None:
    """Neither the folder for the artifacts nor what was begun in it."""
    shutil.copy(one("keras3.15.1", "ema_mid_fit.keras").path, workspace / "models" / "e.keras")
    os.chown(workspace / "models" / "e.keras", workspace.stat().st_uid, -1)
    done, outputs, _ = runner(tmp_path, ACTION, models="models/*.keras")
    assert done.returncode == 2
    assert "set ema to drop" in done.stderr
    assert outputs == {}
    assert {path.stat().st_uid for path in workspace.rglob("*")} == {workspace.stat().st_uid}


def test_the_gate_s_image_says_what_a_pull_request_changes(workspace: Path, tmp_path: Path) -> None:
    """Without git in it and without a network, in a checkout that belongs to another user; nothing of it is changed."""
    names = ["-c", "user.name=A", "-c", "user.email=a@example.org", "-c", f"safe.directory={workspace}"]

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(workspace), *names, *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    model = workspace / "models" / "a.keras"
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "Base"]):
        git(*words)
    before = model.stat().st_size
    subprocess.run([sys.executable, "-m", "tfstrip_core", "strip", "--in-place", str(model)], check=True)
    git("commit", "-q", "-a", "-m", "Head")
    shas = [git("rev-parse", name) for name in ("HEAD^", "HEAD")]
    for path in workspace.rglob("*"):
        os.chown(path, workspace.stat().st_uid, -1)
    (tmp_path / "workflow").mkdir()
    event = {"pull_request": {"base": {"sha": shas[0]}, "head": {"sha": shas[1], "repo": {"fork": True}}}}
    (tmp_path / "workflow" / "event.json").write_text(json.dumps(event))
    done, _, summary = runner(tmp_path, CHECK)
    assert done.returncode == 0, done.stdout + done.stderr
    after = model.stat().st_size
    assert f"| {before:,} | {after:,} | {after - before:+,} | 0 |" in summary
    assert git("status", "--porcelain") == ""


def test_the_gate_s_image_holds_no_framework(tool: Path) -> None:
    """The gate is small: no TensorFlow, no Keras, nothing of the network."""
    command = ["docker", "run", "--rm", "--entrypoint", "/usr/local/bin/python", CHECK, "-c"]
    names = ("tensorflow", "keras", "github", "requests")
    code = f"import importlib.util; print([name for name in {names} if importlib.util.find_spec(name)])"
    assert subprocess.run([*command, code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
    size = subprocess.run(
        ["docker", "image", "inspect", "--format", "{{.Size}}", CHECK],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(size.stdout) < 300_000_000


def test_action_files_and_readme_agree() -> None:
    """Every input and output of action.yml is in the README, and the entry points read no others."""
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    text = (ROOT / "README.md").read_text()
    for name in (*action["inputs"], *action["outputs"]):
        assert f"`{name}`" in text, name
    read = re.findall(r'runner\.\w+\("([a-z-]+)"', (ROOT / "entrypoint.py").read_text())
    assert set(read) == set(action["inputs"])
    for folder, door in (("check", "gate.py"), ("plan", "plan.py")):
        other = yaml.safe_load((ROOT / folder / "action.yml").read_text())
        read = re.findall(r'runner\.\w+\("([a-z-]+)"', (ROOT / folder / door).read_text())
        assert set(read) == set(other["inputs"])
