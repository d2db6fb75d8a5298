"""Run the Action's entry point as the runner does, and read back what it left for the runner."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from github_server import GitHub

ROOT = Path(__file__).parents[1]
COMMIT = "c0ffee" + "0" * 34

# A process that holds a token and starts another one, which says whether it can read it ("True") or may not ("no").
PARENT = """
import subprocess, sys
from tfstrip_core import runner
if sys.argv[1] == "shut":
    runner.shut()
code = "import os; print('token' in open(f'/proc/{os.getppid()}/environ').read())"
print(subprocess.run([sys.executable, "-I", "-c", code], env={}, capture_output=True, text=True).stdout.strip() or "no")
"""


@dataclass(frozen=True)
class Step:
    """A finished step: its exit code, its log, its outputs and its summary."""

    code: int
    stdout: str
    stderr: str
    outputs: dict[str, str]
    summary: str

    @property
    def everything(self) -> str:
        """All that a reader of the job can see."""
        return "\n".join([self.stdout, self.stderr, *self.outputs.values(), self.summary])


def read_outputs(text: str) -> dict[str, str]:
    """Read a GITHUB_OUTPUT file as the runner does: name<<delimiter, lines, delimiter."""
    outputs, lines = {}, iter(text.splitlines())
    for line in lines:
        name, mark, delimiter = line.partition("<<")
        assert mark, line
        value = []
        for content in lines:
            if content == delimiter:
                break
            value.append(content)
        outputs[name] = "\n".join(value)
    return outputs


def run(
    hub: GitHub | None = None,
    door: str = "entrypoint.py",
    ref: str = "refs/heads/main",
    environment: Mapping[str, str] | None = None,
    **inputs: str,
) -> Step:
    """Run a door in the current directory with these inputs (underscores stand for dashes)."""
    changes = environment or {}
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("INPUT_", "GITHUB_"))}
    folder = Path.cwd().parent
    files = {"GITHUB_OUTPUT": folder / "outputs.txt", "GITHUB_STEP_SUMMARY": folder / "summary.md"}
    for path in files.values():
        path.write_text("")
    environment |= {name: str(path) for name, path in files.items()}
    # Most tests are about other things, and run where no TensorFlow is.
    environment |= {"INPUT_PROVE": "bytes"} if door == "entrypoint.py" else {}
    environment |= {"GITHUB_ACTIONS": "true", "GITHUB_REF": ref, "GITHUB_SHA": COMMIT}
    if hub:
        environment |= {"GITHUB_API_URL": hub.url, "GITHUB_REPOSITORY": "acme/models", "INPUT_TOKEN": hub.token}
        environment |= {"GITHUB_SHA": hub.branches["main"]}
    environment |= {f"INPUT_{name.replace('_', '-').upper()}": value for name, value in inputs.items()}
    environment |= changes
    command = [sys.executable, str(ROOT / door)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    outputs = read_outputs(files["GITHUB_OUTPUT"].read_text())
    return Step(done.returncode, done.stdout, done.stderr, outputs, files["GITHUB_STEP_SUMMARY"].read_text())
