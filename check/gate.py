"""The gate's door: inputs from INPUT_* variables, then check, annotations on the files, and the job's summary."""

import os
import sys

from tfstrip_core import pull_request, runner
from tfstrip_core.errors import TfstripError, UsageError, printable
from tfstrip_core.globs import expand
from tfstrip_core.process import guarded, say
from tfstrip_core.reports import github, summary, text
from tfstrip_core.verbs.check import check


def main() -> int:
    """Check what the inputs name; return the exit code of `tfstrip check`."""
    try:
        paths: list[str] = []
        if not os.listdir("."):
            raise UsageError("the workspace is empty", "put actions/checkout before this step")
        patterns = runner.lines("models") or ["."]
        for pattern, found in expand(patterns):
            if not found:
                raise UsageError(f"models: {printable(pattern)} matches nothing", "correct the pattern or leave it out")
            paths += found
        require_lfs = runner.switch("require-lfs")
        result = check(dict.fromkeys(paths), require_lfs=require_lfs)
    except TfstripError as error:
        print(github.command("error", "tfstrip", str(error)))
        say(str(error))
        return 2
    for line in github.lines(result.inventories, pointers_fail=require_lfs):
        print(line)
    for line in text.check_lines(result.inventories):
        print(line)
    report = summary.checked(result.inventories)
    if pull_request.is_one(os.environ):
        compared = pull_request.compare(result.inventories, patterns, os.environ)
        report = summary.changed(compared.changes, compared.note) + report
    runner.put_summary(report)
    return result.exit_code


if __name__ == "__main__":
    sys.exit(guarded(main))
