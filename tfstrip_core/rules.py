"""The rule table: stable codes, what each means, and what check and strip do about it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tfstrip_core.inventory import Finding, Verdict


@dataclass(frozen=True, slots=True)
class Rule:
    """One row of the table. `fails`: check exits 1; `stripped`: strip removes it unasked; `note`: no verdict."""

    code: str
    name: str
    fails: bool
    stripped: bool
    note: bool
    meaning: str
    remedy: str


_STRIP = "run tfstrip strip"
_ALSO = "if it is training state, run tfstrip strip with --also KEY"

RULES: dict[str, Rule] = {
    rule.code: rule
    for rule in (
        Rule("TFS101", "optimizer-state", True, True, False, "slots and counters of an optimizer", _STRIP),
        Rule("TFS102", "metric-state", False, True, False, "accumulators of metrics", _STRIP),
        Rule(
            "TFS103", "training-counter", False, False, True, "how many steps were trained or saved",
            "nothing: loaders ask for it, and it is a few bytes",
        ),
        Rule(
            "TFS106", "weight-average", False, False, False,
            "averages of the weights that differ, or may differ, from the weights",
            "run tfstrip strip with --ema drop to keep the weights, or --ema apply to keep the averages",
        ),
        Rule("TFS107", "suspected-optimizer-state", True, False, False, "strong evidence, no proof", _ALSO),
        Rule("TFS108", "undecided-state", False, False, False, "a pattern of optimizer state, nothing more", _ALSO),
        Rule(
            "TFS201", "training-config", False, False, True, "the arguments of compile()",
            "goes with the optimizer state from a .keras file, with --drop-training-config from an .h5 file",
        ),
        Rule("TFS301", "dead-space", True, True, False, "bytes that a fresh rewrite would not have", _STRIP),
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


def fails(findings: Iterable[Finding]) -> bool:
    """Return whether check refuses a model with these findings."""
    return any(RULES[finding.rule].fails for finding in findings)
