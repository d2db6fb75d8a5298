"""The door of plan/action.yml: inputs from INPUT_* variables, then the plan, and the matrix as the step's output."""

import json
import sys
from typing import TYPE_CHECKING, cast

from tfstrip_core import runner
from tfstrip_core.errors import TfstripError, UsageError
from tfstrip_core.process import guarded, say
from tfstrip_core.release import artifacts, matrix
from tfstrip_core.release.exporting import FORMATS
from tfstrip_core.reports import github, text

if TYPE_CHECKING:
    from tfstrip_core.plan import Ema

OUTPUT = "tfstrip-dist"  # where strip-release.yml has its artifacts
MOST = 128_000  # bytes of an input: it becomes one variable, of which Linux takes 128 KiB


def main() -> int:
    """Plan what the inputs name; return 0, or 2 with one sentence."""
    try:
        outputs = _run()
    except TfstripError as error:
        print(github.command("error", "tfstrip", str(error)))
        say(str(error))
        return 2
    runner.put_outputs(outputs)
    return 0


def _run() -> dict[str, str]:
    patterns, ema = runner.lines("models"), cast("Ema", runner.choice("ema", "", "drop", "apply"))
    formats, jobs = runner.words("formats", *FORMATS), runner.option("jobs")
    if not patterns:
        raise UsageError("the input models is empty", "name your models, one glob a line")
    if jobs and not (jobs.isascii() and jobs.isdigit() and len(jobs) < 6):
        raise UsageError(f"the input jobs is {jobs!r}", f"say a number, 1 to {matrix.MOST_JOBS}, or leave it out")
    inventories = artifacts.survey(artifacts.match(patterns, OUTPUT), OUTPUT)
    for line in github.problems(inventories):
        print(line)
    planned = artifacts.plan(inventories, ema=ema, also=runner.lines("also"), formats=formats)
    bins = matrix.divide(planned, int(jobs) if jobs else None, label=runner.option("label"))
    for one in bins:
        for line in text.share(one.name, one.models):
            print(line)
    sources = "\n".join(model.path for one in bins for model in one.models)
    told = [sources, *("\n".join(one.lines) for one in bins)]
    if max(len(paths.encode()) for paths in told) > MOST:
        raise UsageError(
            f"the paths of {len(sources.splitlines()):,} models are longer than what a job can be told",
            "release them in several workflows, or from folders with shorter names",
        )
    pattern = f"{bins[0].name.rpartition('-')[0]}-*"
    return {"matrix": json.dumps(matrix.document(bins)), "pattern": pattern, "sources": sources}


if __name__ == "__main__":
    sys.exit(guarded(main))
