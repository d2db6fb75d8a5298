"""Before and after, as a table on a terminal."""

from __future__ import annotations

import os
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tfstrip_core.errors import printable
from tfstrip_core.inventory import StripResult
from tfstrip_core.reports.text import less


def before_and_after(results: Sequence[StripResult], console: Console | None = None) -> None:
    """Print one row for each artifact, sizes in bytes; names are text, never markup."""
    table = Table(title="before and after")
    table.add_column("artifact", overflow="fold")
    for heading in ("before", "after", "less", "tensors proven"):
        table.add_column(heading, justify="right")
    for result in results:
        before, after = result.bytes_before, result.bytes_after
        table.add_row(
            Text(printable(os.path.basename(result.target))),
            f"{before:,}",
            f"{after:,}",
            less(before, after),
            str(result.proof.kept_tensors or ""),
        )
    (console or Console()).print(table)
