"""The JSON contract: one object on stdout, schema tfstrip/1. Keys are only ever added."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from tfstrip_core.inventory import Comparison, ExportResult, Inventory, Outputs, StripResult
from tfstrip_core.rules import RULES

SCHEMA = "tfstrip/1"


def dumps(command: str, models: Iterable[dict[str, Any]], **more: Any) -> str:
    """Return the whole document as ASCII JSON, so that no name in it can disturb a terminal."""
    text = json.dumps({"schema": SCHEMA, "command": command, "models": list(models), **more}, indent=1)
    return text.replace("##[", "##\\u005b")  # in strings only; in a log GitHub's runner takes it for a command


def model(inventory: Inventory) -> dict[str, Any]:
    """Return one model's entry: sizes in bytes, shapes in elements."""
    return {
        "path": inventory.path,
        "format": inventory.format,
        "writer": inventory.writer,
        "verdict": inventory.verdict,
        "message": inventory.message,
        "bytes": inventory.bytes,
        "tensor_bytes": inventory.tensor_bytes,
        "residue_bytes": inventory.residue_bytes,
        "findings": [
            {
                "rule": finding.rule,
                "name": RULES[finding.rule].name,
                "subject": finding.subject,
                "bytes": finding.bytes,
                "message": finding.message,
            }
            for finding in inventory.findings
        ],
        "tensors": [
            {"name": t.name, "dtype": t.dtype, "shape": list(t.shape), "bytes": t.bytes, "role": t.role}
            for t in inventory.tensors
        ],
        "notes": list(inventory.notes),
        "outputs": list(inventory.outputs),
    }


def inspected(inventory: Inventory, digest: str | None) -> dict[str, Any]:
    """Return the entry of a model whose weights were read: None is the digest of no weights."""
    return model(inventory) | {"weights_digest": digest}


def stripped(result: StripResult, digest: str | None) -> dict[str, Any]:
    """Return the entry of a finished strip: the source's model, what went, the proof, the result's weights digest."""
    return model(result.inventory) | {
        "source": result.source,
        "target": result.target,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "removed": [
            {"name": item.name, "rule": item.rule, "subject": item.subject, "bytes": item.bytes}
            for item in result.removed
        ],
        "proof": {"kept_tensors": result.proof.kept_tensors, "kept_bytes": result.proof.kept_bytes},
        "weights_digest": digest,
        "notes": list(result.notes),
    }


def not_stripped(inventory: Inventory, source: str, target: str, message: str) -> dict[str, Any]:
    """Return the entry of a strip that did not happen, with every key that a finished one has."""
    return model(inventory) | {
        "message": message,
        "source": source,
        "target": target,
        "bytes_before": inventory.bytes,
        "bytes_after": None,
        "removed": [],
        "proof": None,
        "weights_digest": None,
        "notes": [],
    }


def exported(result: ExportResult) -> dict[str, Any]:
    """Return the entry of a finished export: the source's model, the form, what ran with which result, how to load."""
    return model(result.inventory) | {
        "source": result.source,
        "target": result.target,
        "to": result.to,
        "bytes_before": result.bytes_before,
        "bytes_after": result.bytes_after,
        "load": result.load,
        **ran(result.proof),
        "notes": list(result.notes),
    }


def not_exported(inventory: Inventory, source: str, target: str, to: str, message: str) -> dict[str, Any]:
    """Return the entry of an export that did not happen, with every key that a finished one has."""
    return model(inventory) | {
        "message": message,
        "source": source,
        "target": target,
        "to": to,
        "bytes_before": inventory.bytes,
        "bytes_after": None,
        "load": None,
        "outputs": [],
        "tolerance": None,
        "notes": [],
    }


def compared(result: Comparison) -> list[dict[str, Any]]:
    """Return the entries of a finished verify; what was found is about the pair, so both carry it."""
    said = {"equal": result.equal, "differences": list(result.differences)}
    return [model(inventory) | said for inventory in (result.original, result.stripped)]


def verdict(result: Comparison) -> dict[str, Any]:
    """Return what a finished verify says of the pair: with what ran, where that was asked for."""
    said = {"equal": result.equal, "differences": list(result.differences)}
    return said if result.outputs is None else {**said, **ran(result.outputs)}


def ran(outputs: Outputs) -> dict[str, Any]:
    """Return what came of running two models: each call, and the tolerance; an infinite difference is null."""
    return {
        "tolerance": outputs.tolerance,
        "outputs": [
            {
                "loader": call.loader,
                "function": call.function,
                "state": call.state,
                "message": call.message,
                "outputs": call.outputs,
                "bytes": call.bytes,
                "difference": call.difference if call.difference < float("inf") else None,
            }
            for call in outputs.calls
        ],
    }
