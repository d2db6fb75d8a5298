"""manifest.json: what lies beside it, where each artifact came from, what was taken out, and the proof.

No time stamps and no machine's paths: the same models give the same manifest, byte for byte. What it says is
described by docs/manifest.schema.json. Keys are only ever added.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from tfstrip_core import __version__
from tfstrip_core.codecs import jsontext
from tfstrip_core.errors import TfstripError, UsageError
from tfstrip_core.inventory import Artifact, Call, CallState, Finding, Inventory, Outputs, Proof, Removed, StripResult
from tfstrip_core.release.exporting import FORMATS, SAME
from tfstrip_core.release.parts import join
from tfstrip_core.release.proving import MOST_CALLS, told
from tfstrip_core.reports.artifacts import load
from tfstrip_core.rules import RULES, verdict

SCHEMA = "tfstrip-manifest/1"
TOOL = f"tfstrip {__version__}"
MOST_BYTES = 64 << 20  # of a manifest that is read; one artifact's entry is about a kilobyte
_MOST = 1 << 63  # of what is counted: numbers beyond are no size of a file, and no float
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9._+-]+")
_WEIGHTS = ("as trained", "averages")
# Of what is published; with any other state nothing is.
_STATES: tuple[CallState, ...] = ("equal", "close", "skipped")

_T = TypeVar("_T")


def _entry(artifact: Artifact) -> dict[str, Any]:
    result = artifact.result
    return {
        "path": artifact.name,
        "source": result.source,
        "form": artifact.to or SAME,
        "format": artifact.format,
        "writer": result.inventory.writer,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "sources": [{"path": path, "sha256": digest} for path, digest in artifact.sources],
        "bytes": artifact.bytes,
        "sha256": artifact.sha256,
        "findings": [_found(finding) for finding in result.inventory.findings],
        "weights_digest": artifact.weights_digest,
        "removed": _by_rule(result),
        "kept": [_found(finding) for finding in result.kept],
        "weights": _WEIGHTS[result.averaged],
        "proof": {
            "kept_tensors": result.proof.kept_tensors,
            "kept_bytes": result.proof.kept_bytes,
            **({"outputs": _ran(artifact.outputs, artifact.not_run)} if artifact.outputs else {}),
        },
        **({"inside": artifact.inside} if artifact.inside else {}),
        "load": load(artifact),
        **({"parts": _parts(artifact), "join": join(artifact.name, len(artifact.parts))} if artifact.parts else {}),
    }


def _found(finding: Finding) -> dict[str, Any]:
    return {"rule": finding.rule, "subject": finding.subject, "bytes": finding.bytes}


def _ran(outputs: Outputs, not_run: str) -> dict[str, Any]:
    calls = [{field: getattr(call, field) for field in Call.__slots__} for call in outputs.calls]
    return {"tolerance": outputs.tolerance, **({"not_run": not_run} if not_run else {}), "calls": calls}


def _parts(artifact: Artifact) -> list[dict[str, Any]]:
    return [{"path": part.name, "bytes": part.bytes, "sha256": part.sha256} for part in artifact.parts]


def _by_rule(result: StripResult) -> list[dict[str, Any]]:
    found: dict[tuple[str, str], int] = {}
    for item in result.removed:
        found[item.rule, item.subject] = found.get((item.rule, item.subject), 0) + item.bytes
    return [{"rule": rule, "subject": subject, "bytes": size} for (rule, subject), size in sorted(found.items())]


def dumps(artifacts: Iterable[Artifact], commit: str = "") -> str:
    """Return the manifest of these artifacts as JSON, sorted by name; sizes are in bytes, digests SHA-256 in hex.

    `commit` is what the models were checked out of, "" outside of a job.
    """
    listed = [_entry(artifact) for artifact in sorted(artifacts, key=lambda item: item.name)]
    return json.dumps({"schema": SCHEMA, "tool": TOOL, "commit": known(commit), "artifacts": listed}, indent=1) + "\n"


def known(commit: str) -> str:
    """Return the commit, "" for what is no commit's name."""
    return commit if _COMMIT.fullmatch(commit) else ""


def loads(text: bytes) -> tuple[str, list[Artifact]]:
    """Return the commit and the artifacts of a manifest, as far as it says what they are.

    It must be this version's, byte for byte what dumps() makes of what it says: nothing is passed over. Raises
    UsageError. Whether the files are there, and are what it says, is not looked at.
    """
    if len(text) > MOST_BYTES:
        raise UsageError(f"it has {len(text):,} bytes", "no manifest of tfstrip's is so long")
    tool = TOOL
    try:
        said = jsontext.parse(text, "it")
        tool = _get(said, "tool", str) if _get(said, "schema", str) == SCHEMA else ""
        commit = _get(said, "commit", str)
        artifacts = [_artifact(entry) for entry in _get(said, "artifacts", list)]
        same = dumps(artifacts, commit).encode() == text
    except (TfstripError, AttributeError, LookupError, TypeError, ValueError):
        same = False
    if not same and tool != TOOL and tool.startswith("tfstrip "):
        raise UsageError(f"it was made by {tool}, and this is {TOOL}", "use one version in all jobs")
    if not same:
        raise UsageError("it is no manifest as this tfstrip writes it", "get what the earlier job uploaded again")
    return commit, artifacts


def _get(entry: Mapping[str, Any], key: str, kind: type[_T]) -> _T:
    value = entry[key]
    if type(value) is not kind or (isinstance(value, (int, float)) and not 0 <= value < _MOST):
        raise TypeError(key)
    return value


def _artifact(entry: Mapping[str, Any]) -> Artifact:
    """Return what an entry says; raises LookupError, TypeError or ValueError where it is none."""
    findings = tuple(_finding(item) for item in _get(entry, "findings", list))
    source, proof = _get(entry, "source", str), _get(entry, "proof", dict)
    to = FORMATS[FORMATS.index(_get(entry, "form", str))]
    outputs, not_run = _outputs(_get(proof, "outputs", dict)) if "outputs" in proof else (None, "")
    if to != SAME and (outputs is None or not_run):  # it is an export's only proof
        raise ValueError(to)
    inventory = Inventory(
        source,
        _get(entry, "format", str),
        verdict(findings),
        writer=_get(entry, "writer", str),
        bytes=_get(entry, "bytes_before", int),
        findings=findings,
    )
    removed = [_finding(item) for item in _get(entry, "removed", list)]
    result = StripResult(
        inventory=inventory,
        source=source,
        target="",
        bytes_before=inventory.bytes,
        bytes_after=_get(entry, "bytes_after", int),
        removed=tuple(Removed(item.subject, item.rule, item.subject, item.bytes) for item in removed),
        kept=tuple(_finding(item) for item in _get(entry, "kept", list)),
        proof=Proof(_get(proof, "kept_tensors", int), _get(proof, "kept_bytes", int)),
        changed=True,
        averaged=bool(_WEIGHTS.index(_get(entry, "weights", str))),
    )
    return Artifact(
        name=_get(entry, "path", str),
        bytes=_get(entry, "bytes", int),
        sha256=_digest(entry),
        sources=tuple((_get(item, "path", str), _digest(item)) for item in _get(entry, "sources", list)),
        result=result,
        weights_digest=None if entry["weights_digest"] is None else _digest(entry, "weights_digest"),
        inside=_name(_get(entry, "inside", str)) if "inside" in entry else "",
        to="" if to == SAME else to,
        outputs=outputs,
        not_run=not_run,
    )


def _outputs(said: Mapping[str, Any]) -> tuple[Outputs, str]:
    """Return what ran, and why nothing did; raises as _artifact does, also for a proof that would not be published."""
    listed = _get(said, "calls", list)
    outputs = Outputs(tuple(map(_call, listed)), _get(said, "tolerance", float))
    not_run = _words(said, "not_run") if "not_run" in said else ""
    if len(listed) > MOST_CALLS or bool(outputs.ran) == bool(not_run):
        raise ValueError(not_run)
    return outputs, not_run


def _call(item: Mapping[str, Any]) -> Call:
    state, difference = _get(item, "state", str), _get(item, "difference", float)
    return Call(
        _words(item, "loader"),
        _words(item, "function"),
        _STATES[_STATES.index(state)],
        _words(item, "message"),
        _get(item, "outputs", int),
        _get(item, "bytes", int),
        difference,
    )


def _words(item: Mapping[str, Any], key: str) -> str:
    words = _get(item, key, str)
    if told(words) != words:
        raise ValueError(key)
    return words


def _name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError(name)
    return name


def _finding(item: Mapping[str, Any]) -> Finding:
    return Finding(RULES[_get(item, "rule", str)].code, _get(item, "subject", str), _get(item, "bytes", int), "")


def _digest(item: Mapping[str, Any], key: str = "sha256") -> str:
    digest = _get(item, key, str)
    if not _SHA256.fullmatch(digest):
        raise ValueError(digest)
    return digest
