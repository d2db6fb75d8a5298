"""manifest.json: what lies beside it, where each artifact came from, what was taken out, and the proof.

No time stamps and no machine's paths: the same models give the same manifest, byte for byte.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tfstrip_core import __version__
from tfstrip_core.inventory import Artifact, StripResult
from tfstrip_core.release.parts import join

SCHEMA = "tfstrip-manifest/1"


def _entry(artifact: Artifact) -> dict[str, Any]:
    result = artifact.result
    return {
        "path": artifact.name,
        "source": result.source,
        "format": result.inventory.format,
        "writer": result.inventory.writer,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "sources": [{"path": path, "sha256": digest} for path, digest in artifact.sources],
        "bytes": artifact.bytes,
        "sha256": artifact.sha256,
        "removed": _by_rule(result),
        "kept": [{"rule": finding.rule, "subject": finding.subject, "bytes": finding.bytes} for finding in result.kept],
        "weights": "averages" if result.averaged else "as trained",
        "proof": {"kept_tensors": result.proof.kept_tensors, "kept_bytes": result.proof.kept_bytes},
        **({"parts": _parts(artifact), "join": join(artifact.name)} if artifact.parts else {}),
    }


def _parts(artifact: Artifact) -> list[dict[str, Any]]:
    return [{"path": part.name, "bytes": part.bytes, "sha256": part.sha256} for part in artifact.parts]


def _by_rule(result: StripResult) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], int] = {}
    for item in result.removed:
        found[item.rule, item.subject] = found.get((item.rule, item.subject), 0) + item.bytes
    return [{"rule": rule, "subject": subject, "bytes": size} for (rule, subject), size in sorted(found.items())]


def dumps(artifacts: Iterable[Artifact]) -> str:
    """Return the manifest of these artifacts as JSON, sorted by name; sizes are in bytes, digests SHA-256 in hex."""
    listed = [_entry(artifact) for artifact in sorted(artifacts, key=lambda item: item.name)]
    return json.dumps({"schema": SCHEMA, "tool": f"tfstrip {__version__}", "artifacts": listed}, indent=1) + "\n"
