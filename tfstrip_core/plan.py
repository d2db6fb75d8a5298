"""From what was found and what the user asked to what goes and what stays."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from tfstrip_core.errors import NeedsChoice, NothingLeft, UsageError, printable
from tfstrip_core.inventory import INFERENCE, Finding, Inventory, Plan, Scope
from tfstrip_core.rules import RULES

Ema = Literal["", "drop", "apply"]


@dataclass(frozen=True, slots=True)
class Choices:
    """What the user decided: averages, undecided subjects (KEYs), and whether compile()'s arguments go too."""

    ema: Ema = ""
    also: Collection[str] = ()
    drop_training_config: bool = False
    scope: Scope = INFERENCE


# What stays unless the user names it, and is told.
_NAMED = 10  # so many of what may be a graph's outputs are named
_ON_REQUEST = ("TFS107", "TFS108", "TFS203")


def check_ema(ema: str) -> None:
    """Raise UsageError for a word that is no choice: taken for one, it would drop averages that somebody wants."""
    if ema not in ("", "drop", "apply"):
        raise UsageError(f"there is no ema {ema!r}", "say drop or apply")


def plan(inventory: Inventory, choices: Choices) -> Plan:
    """Return what a strip of the model takes away, given an inventory whose averages are settled.

    Raises NeedsChoice for averages without a choice or with an uncertain pairing, and for a graph whose outputs nothing
    says; UsageError for a KEY that names nothing, NothingLeft where no weight would remain.
    """
    findings = inventory.findings
    if inventory.guessed and any(finding.rule == "TFS202" for finding in findings):
        raise NeedsChoice(*outputs_ways(inventory))
    _check_keys(findings, choices)
    averages = [finding for finding in findings if finding.rule == "TFS106"]
    if averages and not choices.ema:
        raise NeedsChoice(f"{printable(averages[0].subject)} holds {averages[0].message}", f"say {ema_ways(averages)}")
    unsure = next((finding for finding in averages if not finding.pairs), None)
    if choices.ema == "apply" and unsure:
        raise NeedsChoice(
            f"which average of {printable(unsure.subject)} belongs to which weight is not certain",
            "load the model in Keras and assign them there, or say --ema drop",
        )
    drop = [finding for finding in findings if _goes(finding, choices)]
    rewrites = any(finding.tensors or finding.rule in ("TFS202", "TFS301") for finding in drop)
    configs = [finding for finding in findings if finding.rule == "TFS201"]
    drop += [finding for finding in configs if choices.drop_training_config or (rewrites and _in_archive(finding))]
    made = Plan(
        drop=tuple(drop),
        apply=tuple(pair for finding in averages for pair in finding.pairs) if choices.ema == "apply" else (),
        kept=tuple(finding for finding in findings if finding.rule in _ON_REQUEST and finding not in drop),
        scope=choices.scope,
    )
    if not leaves_a_weight(inventory, made):
        raise NothingLeft("it holds training state only and no weight", "keep it as a checkpoint, or delete it")
    return made


def outputs_ways(inventory: Inventory) -> tuple[str, str]:
    """Return why a strip of a graph needs to be told its outputs, and how it is."""
    names = [printable(name) for name in inventory.outputs[:_NAMED]]
    more = f" and {len(inventory.outputs) - _NAMED} more" if len(inventory.outputs) > _NAMED else ""
    may = f"; they may be {', '.join(names)}{more}, or what these are made from" if names else ""
    return f"nothing in the graph says which outputs you serve{may}", "say --output-names NAME[,NAME...]"


def ema_ways(findings: Collection[Finding]) -> str:
    """Return what can be said of averages: they can only be applied where it is certain which weights they are of."""
    drop = "--ema drop to serve the weights as they are"
    if all(finding.pairs for finding in findings if finding.rule == "TFS106"):
        return f"{drop}, or --ema apply to serve the averages"
    return f"{drop}: which average belongs to which weight is not certain, so that they cannot be applied"


def leaves_a_weight(inventory: Inventory, planned: Plan) -> bool:
    """Return whether a model is left where anything is taken from it."""
    kept = (tensor.role for tensor in inventory.tensors if tensor.name not in planned.tensors)
    return not planned.tensors or any(role in ("weight", "undecided") for role in kept)


def _goes(finding: Finding, choices: Choices) -> bool:
    if finding.rule == "TFS106":
        return bool(choices.ema)
    return RULES[finding.rule].stripped or (finding.rule in ("TFS107", "TFS108") and finding.subject in choices.also)


def _in_archive(finding: Finding) -> bool:
    """Return whether the config is a .keras file's, which must go with the optimizer; an .h5 file's need not."""
    return "#" in finding.subject


def _check_keys(findings: Collection[Finding], choices: Choices) -> None:
    known = sorted({finding.subject for finding in findings if finding.rule in ("TFS107", "TFS108")})
    for key in choices.also:
        if key not in known:
            there = f"; it has {', '.join(map(printable, known))}" if known else ""
            raise UsageError(
                f"--also {printable(key)} names nothing undecided in this model{there}", "see tfstrip inspect"
            )
