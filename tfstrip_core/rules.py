"""The rule table: stable codes, what each means, and what check and strip do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tfstrip_core.inventory import Finding, Inventory, Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. `fails`: check exits 1; `stripped`: strip removes it unasked; `note`: no verdict.

    `alone`: check exits 1 where the file is a graph and nothing else.
    """

    code: str
    name: str
    fails: bool
    stripped: bool
    note: bool
    meaning: str
    remedy: str
    alone: bool = False


GRAPHS = frozenset({"graph-def", "graph-def-text", "meta-graph"})  # the formats that are a graph and nothing else

_STRIP = "run tfstrip strip"
_ALSO = "if it is training state, run tfstrip strip with --also KEY"

RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule("TFS101", "optimizer-state", True, True, False, "slots and counters of an optimizer", _STRIP),
        Rule("TFS102", "metric-state", False, True, False, "accumulators of metrics", _STRIP),
        Rule(
            "TFS103", "training-counter", False, False, True, "how often or how far the model was trained",
            "stays: loaders want it, and its bytes are negligible",
        ),
        Rule(
            "TFS104", "duplicate-variable", False, True, False, "variables that are stored twice and read once", _STRIP,
        ),
        Rule("TFS105", "pipeline-state", True, True, False, "where a saved tf.data iterator was in its data", _STRIP),
        Rule(
            "TFS106", "weight-average", False, False, False,
            "averages of the weights that differ, or may differ, from the weights",
            "run tfstrip strip with --ema drop to keep the weights, or --ema apply to keep the averages",
        ),
        Rule("TFS107", "suspected-optimizer-state", True, False, False, "strong evidence, no proof", _ALSO),
        Rule("TFS108", "undecided-state", False, False, False, "a pattern of optimizer state, nothing more", _ALSO),
        Rule(
            "TFS201", "training-config", False, False, True, "the arguments of compile()",
            "goes with the optimizer state; from an .h5 file, or as one's copy, with --drop-training-config",
        ),
        Rule(
            "TFS202", "training-graph", False, True, False, "gradients, losses, what only training runs", _STRIP,
            alone=True,
        ),
        Rule(
            "TFS203", "training-function", False, False, True, "a function that reads or writes optimizer state",
            "if nobody calls it, run tfstrip strip with --drop-function NAME: the state goes with it",
        ),
        Rule("TFS301", "dead-space", True, True, False, "bytes that a fresh rewrite would not have", _STRIP),
        Rule(
            "TFS401", "local-path", False, True, False,
            "absolute paths of the machine that the model was made on", _STRIP,
        ),
        Rule(
            "TFS402", "broken-saver", True, True, False,
            "signatures read variables that the model's saver never restores: it loads, and fails or answers NaN",
            "run tfstrip strip, which repairs it",
        ),
        Rule(
            "TFS501", "code-in-model", False, False, True, "loading the model runs or needs code of its own",
            "review it before you load the model; tfstrip never runs it",
        ),
    )
}  # fmt: skip


def residue_bytes(findings: Iterable[Finding]) -> int:
    """Return the bytes that strip removes by default."""
    return sum(finding.bytes for finding in findings if RULES[finding.rule].stripped)


def verdict(findings: Iterable[Finding]) -> Verdict:
    """Return the verdict of a readable model from what fired in it."""
    rules = [RULES[finding.rule] for finding in findings]
    if any(rule.stripped for rule in rules):
        return "residue"
    if any(not rule.note for rule in rules):
        return "undecided"
    return "clean"


def refused(inventory: Inventory) -> list[Finding]:
    """Return the findings for which check refuses a model."""
    alone = inventory.format in GRAPHS
    return [found for found in inventory.findings if RULES[found.rule].fails or (alone and RULES[found.rule].alone)]


def fails(inventory: Inventory) -> bool:
    """Return whether check refuses a model."""
    return bool(refused(inventory))
