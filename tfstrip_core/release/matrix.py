"""plan: models to the jobs of a workflow's matrix, so that many runners strip what one release will hold.

What each job is told is what the Action reads: globs that name one file each, and the KEYs that concern its models.
"""

from __future__ import annotations

import hashlib
import heapq
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tfstrip_core.containers import SAVED_MODEL
from tfstrip_core.errors import UsageError, printable
from tfstrip_core.inventory import Inventory
from tfstrip_core.release import artifacts

MOST_JOBS = 256  # of one matrix, as GitHub allows
_FIRST_VERSION = "tf-checkpoint-v1"


@dataclass(frozen=True, slots=True)
class Bin:
    """One job's share: its name, the models, and what names each for the Action; `bytes` are the models' sizes."""

    name: str
    models: tuple[Inventory, ...]
    lines: tuple[str, ...]
    also: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Size of all its models, in bytes."""
        return sum(model.bytes for model in self.models)


@dataclass(frozen=True, slots=True)
class _Unit:
    """What one line for the Action leads to: one model, or two checkpoints of one name."""

    line: str
    jobs: tuple[artifacts.Job, ...]

    @property
    def bytes(self) -> int:
        return sum(job.inventory.bytes for job in self.jobs)


def divide(jobs: Sequence[artifacts.Job], count: int | None = None, *, label: str = "") -> list[Bin]:
    """Return the models in at most `count` shares of about equal size, one for each model by default, none empty.

    The longest comes first, always to the job that has least; the same models give the same shares. `label` sets
    the names apart from those of other plans in one run. Raises UsageError.
    """
    if count is not None and not 1 <= count <= MOST_JOBS:
        raise UsageError(f"{count} jobs cannot be planned", f"say 1 to {MOST_JOBS}, which is what a matrix may have")
    units = list(_units(jobs))
    shares: list[list[_Unit]] = [[] for _ in range(min(count or MOST_JOBS, len(units)))]
    least = [(0, index) for index in range(len(shares))]
    for unit in sorted(units, key=lambda unit: (-unit.bytes, unit.line)):
        size, index = heapq.heappop(least)
        shares[index].append(unit)
        heapq.heappush(least, (size + max(unit.bytes, 1), index))
    prefix = f"strip-{hashlib.sha256(label.encode(errors='surrogateescape')).hexdigest()[:8]}" if label else "strip"
    return [_bin(f"{prefix}-{number}", share) for number, share in enumerate(shares, 1)]


def _units(jobs: Iterable[artifacts.Job]) -> Iterable[_Unit]:
    by_path = {job.inventory.path: job for job in jobs}
    for path, job in by_path.items():
        first = path.removesuffix(".index")
        if first != path and first in by_path and by_path[first].inventory.format == _FIRST_VERSION:
            continue  # the line of the other one leads here too
        twin = by_path.get(f"{path}.index") if job.inventory.format == _FIRST_VERSION else None
        yield _Unit(_line(job.inventory), (job, twin) if twin else (job,))


def _line(inventory: Inventory) -> str:
    """Return the path of a file that leads to this model and to no other, as one line of the input models."""
    path = inventory.path
    if inventory.format == SAVED_MODEL:
        path = os.path.join(path, "saved_model.pb")  # its directory would lead to the models inside too
    elif inventory.format != _FIRST_VERSION and os.path.isfile(f"{path}.index"):
        path = f"{path}.index"
    for told in (path, inventory.path):
        if told != told.strip() or len(told.splitlines()) != 1 or not _is_text(told):
            raise UsageError(
                f"{printable(told)} cannot be told to a job of a workflow, where a path is one line of text",
                "rename it",
            )
    return path


def _is_text(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _bin(name: str, share: Sequence[_Unit]) -> Bin:
    share = sorted(share, key=lambda unit: unit.line)
    jobs = [job for unit in share for job in unit.jobs]
    keys = dict.fromkeys(key for job in jobs for key in job.choices.also)
    return Bin(name, tuple(job.inventory for job in jobs), tuple(unit.line for unit in share), tuple(keys))


def document(bins: Sequence[Bin]) -> dict[str, list[dict[str, str | int]]]:
    """Return the matrix as a workflow takes it: `models` and `also` hold one thing a line, `bytes` is a size."""
    return {
        "include": [
            {"name": one.name, "models": "\n".join(one.lines), "also": "\n".join(one.also), "bytes": one.bytes}
            for one in bins
        ]
    }
