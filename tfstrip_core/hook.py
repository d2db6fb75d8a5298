"""The pre-commit entry: `tfstrip-hook check FILE...` and `tfstrip-hook fix FILE...`.

Nothing is imported that the files at hand do not need: a commit without models costs a bare Python start, so
this module parses its few words itself. The first word that is no option begins the files, whatever they are
called; `--` may stand before them.
"""

import os
import sys

from tfstrip_core import discover
from tfstrip_core.errors import NeedsChoice, TfstripError, printable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from tfstrip_core.discover import Found
    from tfstrip_core.inventory import Inventory


def main(argv: "Sequence[str] | None" = None) -> int:
    """Check or fix the files; return 0 for nothing refused, 1 for refused or changed, 2 for unreadable."""
    words = list(sys.argv[1:] if argv is None else argv)
    if words[:1] in (["-h"], ["--help"]):
        print("usage: tfstrip-hook check|fix [--require-lfs] [--] PATH...")
        print("Refuse models with training state, or strip all of them in place: for pre-commit, and for many at once.")
        return 0
    command = words.pop(0) if words and words[0] in ("check", "fix") else "check"
    require_lfs = False
    also: list[str] = []  # pre-commit puts the names right behind our words: one of ours may be a file too
    while words and words[0] in ("--require-lfs", "--"):
        word = words.pop(0)
        also += [word] if os.path.lexists(word) else []
        require_lfs = require_lfs or word == "--require-lfs"
        if word == "--":
            break
    found = [item for item in _candidates([*also, *words]) if item.kind or item.error]
    if not found:
        return 0
    from tfstrip_core.process import guarded

    return guarded(lambda: _fix(found, require_lfs) if command == "fix" else _check(found, require_lfs))


def _candidates(paths: "Sequence[str]") -> "list[Found]":
    """Return what the paths lead to; symlinks lead into stores that are not the repository's, and are skipped."""
    kept = []
    for path in paths:
        if os.path.islink(path):
            _say(f"{printable(path)}: a symlink, skipped: check what it points to where that is stored")
        else:
            # The hook before this one may have stripped the model, of which fewer files are left then.
            kept.append(path if os.path.lexists(path) else discover.what_lacks(path) or path)
    return list(discover.discover(kept))


def _check(found: "list[Found]", require_lfs: bool) -> int:
    from tfstrip_core.reports import text
    from tfstrip_core.verbs.check import judge
    from tfstrip_core.verbs.inspect import examine

    result = judge(tuple(examine(item) for item in found), require_lfs=require_lfs)
    _tell(result.inventories)
    if result.failing:
        for line in text.check_lines(result.inventories):
            print(line)
    return result.exit_code


def _tell(inventories: "Sequence[Inventory]") -> None:
    from tfstrip_core.reports import text

    for inventory in inventories:
        if inventory.message and inventory.verdict != "not-a-model":
            _say(text.problem(inventory))
        for note in text.notes(inventory):
            _say(note)


def _fix(found: "list[Found]", require_lfs: bool) -> int:
    from tfstrip_core import rules
    from tfstrip_core.verbs.inspect import examine

    worst = 0
    for item in found:
        inventory = examine(item)
        _tell([inventory])
        if inventory.verdict in ("unreadable", "refused") or (require_lfs and inventory.verdict == "pointer"):
            worst = 2
        elif rules.fails(inventory):
            worst = max(worst, _fix_one(item, inventory))
    return worst


def _fix_one(item: "Found", inventory: "Inventory") -> int:
    """Strip one refused model in place, if that needs no decision of the user's."""
    from tfstrip_core.replace import git_has
    from tfstrip_core.reports import text
    from tfstrip_core.verbs.strip import replaced, strip

    path, fix = item.path, text.fix(inventory)
    if item.stored:
        _say(
            f"{printable(path)}: a Git LFS pointer to such a model; git lfs pull, then {fix or text.no_fix(inventory)}"
        )
        return 1
    if any(finding.rule == "TFS107" for finding in inventory.findings):
        for finding in inventory.findings:
            if finding.rule == "TFS107":
                print(text.finding(path, finding))
        way = f"if that is training state, run {fix}" if fix else text.no_fix(inventory)
        _say(f"{printable(path)}: left as it is; {way}")
        return 1
    try:
        old = replaced(path)
        known = [file for file in old if git_has(file)]
        result = strip(path, in_place=True)
    except TfstripError as error:
        averages = isinstance(error, NeedsChoice) and not inventory.guessed
        command = text.fix(inventory, "drop" if averages else "")
        remedy = f"; the command is {command}" if error.verdict == "" and command else ""
        _say(f"{printable(path)}: left as it is: {error}{remedy}")
        return 1 if error.verdict == "" else 2
    for line in text.strip_lines(result):
        print(line)
    for line in text.strip_notices(result):
        print(f"  {line}")
    if known == old:
        print(f"  before you git add it, the old one comes back with {text.restore(*old)}")
    print(f"  now: {text.add(*text.changed(old, known, replaced(path)))}, and commit again")
    return 1


def _say(line: str) -> None:
    from tfstrip_core.process import say

    say(line)


if __name__ == "__main__":
    sys.exit(main())
