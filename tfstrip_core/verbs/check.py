"""check: whether any of these models carries what only training needs."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tfstrip_core import rules
from tfstrip_core.inventory import Inventory
from tfstrip_core.verbs.inspect import survey


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What a check saw. `exit_code`: 2 if a file was unreadable or refused, else 1 if a failing rule fired, else 0."""

    inventories: tuple[Inventory, ...]
    exit_code: int

    @property
    def failing(self) -> tuple[Inventory, ...]:
        """The models in which a rule fired that check refuses."""
        return tuple(inventory for inventory in self.inventories if rules.fails(inventory))


def check(paths: Iterable[str], *, require_lfs: bool = False) -> CheckResult:
    """Check every model that the paths name or lead to; `require_lfs` makes an absent LFS object an error."""
    return judge(tuple(survey(paths)), require_lfs=require_lfs)


def judge(inventories: tuple[Inventory, ...], *, require_lfs: bool) -> CheckResult:
    """Return the result of a check whose files have been read."""
    bad = {"unreadable", "refused", "pointer"} if require_lfs else {"unreadable", "refused"}
    if any(inventory.verdict in bad for inventory in inventories):
        return CheckResult(inventories, 2)
    return CheckResult(inventories, int(any(rules.fails(inventory) for inventory in inventories)))
