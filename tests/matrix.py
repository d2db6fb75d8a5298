"""Every fixture, stripped, in the framework that wrote it: loads without a new warning, predicts the same bytes.

    python tests/matrix.py [WRITER...]

Run by `make matrix`. Strips here and loads there, in the environments of fixtures/writers.py, which it builds where
they are not. Prints a line for each writer, and fails where a stripped file does not do what its original does, or
where a writer ran nothing.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from conftest import FIXTURES, MODELS, Fixture, one
from writers import WRITERS, python_of

import tfstrip_core

DIFFERING_AVERAGES = ("ema_mid_fit", "custom_ema")


def job(model: Fixture, folder: Path) -> dict[str, Any]:
    """Strip a fixture into a folder of its own; return what fixtures/loading.py is to do."""
    target = folder / f"of {model.facts['file']}" / Path(model.path).name
    target.parent.mkdir(parents=True)
    choice = "drop" if model.scenario in DIFFERING_AVERAGES else ""
    tfstrip_core.strip(model.path, str(target), ema=choice)
    alone = "weights" in model.facts["container"]
    written = target.parent / "as written"  # some versions of Keras write beside what they load
    for file in model.files:
        copy = written / Path(file).relative_to(Path(model.path).parent)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, copy)
    said = {"original": str(written / Path(model.path).name), "stripped": str(target), "io": str(model.io)}
    if alone and model.by_objects:
        # Stripped, as a nested model that is compiled warns of weights without its optimizer's.
        said["whole"] = str(target.parent / "whole.keras")
        whole = one(model.writer, model.scenario + ".keras")
        tfstrip_core.strip(whole.path, said["whole"], ema=choice)
    return {**said, "ways": ["weights"] if alone else ["uncompiled", "compiled"]}


def run(writer: str, folder: Path) -> bool:
    """Run all models of a writer that itself could load them; return whether all is well."""
    models = [model for model in MODELS if model.writer == writer and model.facts["loads"]]
    jobs = [job(model, folder) for model in models]
    python, env = python_of(WRITERS[writer])
    asked, answered = folder / "jobs.json", folder / "answers.json"
    asked.write_text(json.dumps(jobs))
    command = [python, "-W", "ignore", str(FIXTURES / "loading.py"), str(asked), str(answered)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        print(f"{writer}: {done.stderr[-3000:]}")
        return False
    answers = json.loads(answered.read_text())
    told = [(model, answer) for model, several in zip(models, answers, strict=True) for answer in several]
    wrong = [(model, answer) for model, answer in told if "why" in answer or "new" in answer]
    both = [(model, answer) for model, answer in told if "original" in answer]
    good = {model.id for model, answer in told if "equal" in answer}
    ran, others = len(told) - len(wrong) - len(both), sum(model.writer == writer for model in MODELS) - len(models)
    line = f"{writer}: {len(good)} of {len(models)} files loaded and equal, in {ran} of {len(told)} ways"
    print(f"{line}; {others} more do not load as written", flush=True)
    for what, some in (("original does not load", both), ("WRONG", wrong)):
        for model, answer in some:
            print(f"  {what}: {model.facts['file']}, {answer}", flush=True)
    return bool(good) and not wrong and len(good) == len(models)


def main(chosen: list[str]) -> int:
    """Return how many writers failed."""
    failed = 0
    for writer in chosen or [name for name, how in WRITERS.items() if how.script == "write.py"]:
        with tempfile.TemporaryDirectory() as folder:
            failed += not run(writer, Path(folder))
    return failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
