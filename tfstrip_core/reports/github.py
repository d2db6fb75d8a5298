"""Results as GitHub's workflow commands: an annotation on the file for each finding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tfstrip_core import rules
from tfstrip_core.errors import printable
from tfstrip_core.inventory import Finding, Inventory, StripResult
from tfstrip_core.reports import text
from tfstrip_core.rules import RULES


def _data(value: str) -> str:
    return printable(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def command(level: str, title: str, message: str) -> str:
    """Return a workflow command about no file; nothing in its words can end it or begin another."""
    return f"::{level} title={_property(title)}::{_data(message)}"


def annotation(level: str, path: str, title: str, message: str) -> str:
    """Return one workflow command; nothing in a file's name or content can end it or begin another."""
    return f"::{level} file={_property(path)},title={_property(title)}::{_data(message)}"


def problems(inventories: Iterable[Inventory]) -> Iterator[str]:
    """Yield an error for each file that cannot be stripped."""
    for inventory in inventories:
        if inventory.message:
            yield annotation("error", inventory.path, f"tfstrip {inventory.verdict}", inventory.message)


def kept(results: Iterable[StripResult]) -> Iterator[str]:
    """Yield a warning, on its source, for each finding that a result still carries and that is no mere note."""
    for result in results:
        for found in result.kept:
            if not RULES[found.rule].note:
                remedy = f"if it is training state, add {found.subject} to the input also"
                yield _finding("warning", result.source, found, remedy)


def not_run(models: Mapping[str, str]) -> Iterator[str]:
    """Yield a notice on each model, by its path, that could not be run beside what was made of it, and why."""
    for path, reason in models.items():
        message = f"not proven by running it, only by its bytes: {reason}"
        yield annotation("notice", path, "tfstrip not run", message)


def lines(inventories: Iterable[Inventory], *, pointers_fail: bool = False) -> Iterator[str]:
    """Yield an error for what fails, a warning for what asks, a notice for what is only said."""
    for inventory in inventories:
        path = inventory.path
        if inventory.verdict in ("unreadable", "refused") or (pointers_fail and inventory.verdict == "pointer"):
            yield annotation("error", path, f"tfstrip {inventory.verdict}", inventory.message)
        elif inventory.verdict in ("unsupported", "pointer"):
            yield annotation("notice", path, f"tfstrip {inventory.verdict}", inventory.message)
        refused = rules.refused(inventory)
        for found in inventory.findings:
            rule = RULES[found.rule]
            if not rule.note:
                level = "error" if found in refused else "warning"
                yield _finding(level, path, found, text.remedy(inventory, found))


def _finding(level: str, path: str, found: Finding, remedy: str) -> str:
    message = f"{found.subject}: {text.size(found.bytes)}: {found.message}; {remedy}"
    return annotation(level, path, f"{found.rule} {RULES[found.rule].name}", message)
