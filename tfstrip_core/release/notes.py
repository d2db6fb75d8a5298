"""What a release says about its models: a table between two marks in its notes, and nothing of the author's words."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tfstrip_core.inventory import Artifact
from tfstrip_core.release.parts import join
from tfstrip_core.reports.artifacts import ran, sums, tensors
from tfstrip_core.reports.text import less

BEGIN, END = "<!-- tfstrip: what was stripped, written anew by each run -->", "<!-- tfstrip: end -->"
# A mark that the author left without its other half is the author's.
_BLOCK = re.compile(rf"{re.escape(BEGIN)}(?:(?!{re.escape(BEGIN)}).)*?{re.escape(END)}", re.DOTALL)
LIMIT = 125_000  # characters that GitHub takes


def table(artifacts: Sequence[Artifact], room: int = LIMIT) -> str:
    """Return the block with its marks, in at most `room` characters, or "" where not even a line has room.

    Names of artifacts, numbers and digests are all that is in it: nothing of it can be a mark or a link.
    """
    joins = [line for artifact in artifacts if artifact.parts for line in _joining(artifact)]
    head = [
        BEGIN,
        "## Models without their training state",
        "",
        *sums(artifacts),
        "`manifest.json` says what was removed.",
        "",
        *joins,
        "| artifact | before | after | less | tensors proven | run | SHA-256 |",
        "| --- | ---: | ---: | ---: | ---: | --- | --- |",
    ]
    rows = [_row(artifact) for artifact in artifacts]
    for count in range(len(rows), -1, -1):
        more = [] if count == len(rows) else ["", f"And {len(rows) - count} more: see `manifest.json`."]
        block = "\n".join([*head, *rows[:count], *more, END])
        if len(block) <= room:
            return block
    return ""


def _row(artifact: Artifact) -> str:
    result = artifact.result
    sizes = f"{result.bytes_before:,} | {result.bytes_after:,} | {less(result.bytes_before, result.bytes_after)}"
    return f"| `{artifact.name}` | {sizes} | {tensors(artifact)} | {ran(artifact)} | `{artifact.sha256}` |"


def _joining(artifact: Artifact) -> list[str]:
    how = join(artifact.name, len(artifact.parts))
    return [f"`{artifact.name}` is in {len(artifact.parts)} parts, which this joins and checks: `{how}`.", ""]


def merged(body: str, artifacts: Sequence[Artifact]) -> str:
    """Return the notes with the table in them, where an earlier one was or at the end; unchanged if it has no room.

    What counts are UTF-16 units, of which a character has one or two: GitHub does not say what it counts.
    """
    found = _BLOCK.search(body)
    if found:
        before, after = body[: found.start()], body[found.end() :]
    else:
        before, after = body + ("\n\n" if body.strip() else ""), ""
    used = sum(len(words.encode("utf-16-le", "surrogatepass")) // 2 for words in (before, after))
    block = table(artifacts, LIMIT - used)
    return before + block + after if block else body
