"""Results as GitHub's workflow commands: an annotation on the file for each finding."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tfstrip_core.errors import printable
from tfstrip_core.inventory import Inventory
from tfstrip_core.reports import text
from tfstrip_core.rules import RULES


def _data(value: str) -> str:
    return printable(value).replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(value: str) -> str:
    return _data(value).replace(":", "%3A").replace(",", "%2C")


def annotation(level: str, path: str, title: str, message: str) -> str:
    """Return one workflow command; nothing in a file's name or content can end it or begin another."""
    return f"::{level} file={_property(path)},title={_property(title)}::{_data(message)}"


def lines(inventories: Iterable[Inventory], *, pointers_fail: bool = False) -> Iterator[str]:
    """Yield an error for what fails, a warning for what asks, a notice for what is only said."""
    for inventory in inventories:
        path = inventory.path
        if inventory.verdict in ("unreadable", "refused") or (pointers_fail and inventory.verdict == "pointer"):
            yield annotation("error", path, f"tfstrip {inventory.verdict}", inventory.message)
        elif inventory.verdict in ("unsupported", "pointer"):
            yield annotation("notice", path, f"tfstrip {inventory.verdict}", inventory.message)
        for found in inventory.findings:
            rule = RULES[found.rule]
            if not rule.note:
                level = "error" if rule.fails else "warning"
                remedy = f"fix: {text.fix(inventory)}" if rule.fails else rule.remedy
                message = f"{found.subject}: {text.size(found.bytes)}: {found.message}; {remedy}"
                yield annotation(level, path, f"{rule.code} {rule.name}", message)
