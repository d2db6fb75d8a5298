"""The GitHub Action's door: inputs from INPUT_* variables, then the core, then the artifacts of a release."""

import os
import sys

from tfstrip_core.errors import TfstripError, UsageError
from tfstrip_core.release import artifacts
from tfstrip_core.reports import table, text


def _input(name: str, default: str = "") -> str:
    """Return an input as the runner passes it: capitals, dashes kept."""
    return os.environ.get(f"INPUT_{name.upper()}", "").strip() or default


def _lines(name: str) -> list[str]:
    return [line.strip() for line in _input(name).splitlines() if line.strip()]


def _choice(name: str, allowed: tuple[str, ...]) -> str:
    value = _input(name, allowed[0])
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}", f"say {' or '.join(word for word in allowed if word)}")
    return value


def main() -> int:
    """Strip what the inputs name into output-dir; return 0, or 2 with one sentence for the user."""
    try:
        patterns, output = _lines("models"), _input("output-dir", "dist")
        if not patterns:
            raise UsageError("the input models is empty", "name your models, one glob a line")
        if _input("tag"):
            raise UsageError("this version writes artifacts only", "leave the input tag empty")
        profile = _choice("profile", ("inference", "serving"))
        ema = _choice("ema", ("", "drop", "apply"))
        inventories = artifacts.survey(artifacts.match(patterns, output))
        results = artifacts.make(inventories, output, profile=profile, ema=ema, also=_lines("also"))  # type: ignore[arg-type]
    except TfstripError as error:
        print(f"tfstrip: {error}", file=sys.stderr)
        return 2
    for result in results:
        for line in text.strip_notices(result):
            print(f"tfstrip: {line}", file=sys.stderr)
    table.before_and_after(results)
    print(f"{output}: {len(results)} artifact{'' if len(results) == 1 else 's'}, manifest.json, SHA256SUMS")
    return 0


if __name__ == "__main__":
    sys.exit(main())
