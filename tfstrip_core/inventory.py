"""The vocabulary: what a model holds, what was found in it, and what a strip did (plain data, no work)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["weight", "optimizer", "metric", "counter", "duplicate", "average", "pipeline", "undecided"]
Verdict = Literal["residue", "undecided", "clean", "not-a-model", "pointer", "unsupported", "unreadable", "refused"]


Profile = Literal["inference", "serving"]
Form = Literal["saved_model", "frozen", "tflite"]


@dataclass(frozen=True, slots=True)
class Scope:
    """How much of a model counts as inference: of a SavedModel what its code can call, or what its signatures reach.

    `without` are functions, by the paths that lead to them, that do not count. Of a graph `outputs` are the nodes whose
    values are wanted.
    """

    profile: Profile = "inference"
    without: frozenset[str] = frozenset()
    outputs: tuple[str, ...] = ()


INFERENCE = Scope()


@dataclass(frozen=True, slots=True)
class Tensor:
    """One stored array: `shape` in elements, `bytes` of payload, `name` as its container spells it."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    bytes: int
    role: Role = "weight"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule has to say about a model.

    `subject` is the KEY of `--also`; `tensors` are the names that it covers (a tensor is in one finding at
    most), `bytes` their payload. `roots` are the containers' inner nodes that go with the tensors when nothing
    else is left under them. `pairs` holds (weight, average) where the pairing is certain. `opaque` marks state of
    an optimizer class that is not the framework's own, whose slots only their values can explain.
    """

    rule: str
    subject: str
    bytes: int
    message: str
    tensors: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()
    opaque: bool = False


@dataclass(frozen=True, slots=True)
class Inventory:
    """What one model holds. Sizes are in bytes; `bytes` is the file's, `tensor_bytes` the payload's.

    `message` says why it could not be read; `notes` are what the user should know of one that was. `outputs` are the
    nodes whose values a graph is for; where they are `guessed`, nothing says so and others may be.
    """

    path: str
    format: str
    verdict: Verdict
    writer: str = ""
    message: str = ""
    bytes: int = 0
    tensors: tuple[Tensor, ...] = ()
    findings: tuple[Finding, ...] = ()
    residue_bytes: int = 0
    notes: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    guessed: bool = False

    @property
    def tensor_bytes(self) -> int:
        """Payload of all tensors, in bytes."""
        return sum(tensor.bytes for tensor in self.tensors)


Blocks = Callable[[], Iterator[bytes]]


@dataclass(frozen=True, slots=True)
class Part:
    """One comparable thing in a model: `kind` describes it (dtype and shape, say), `blocks` reads its `bytes`.

    `values` reads a tensor's elements in little-endian C order where `blocks` reads them as something else.
    """

    kind: str
    blocks: Blocks
    bytes: int = 0
    values: Blocks | None = None


# A part's address: ("tensor", name), ("attribute", name), ("group", name), ("member", name) or ("config", pointer).
Key = tuple[str, str]
Contents = Mapping[Key, Part]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a strip does: the findings whose subjects go, and the weights that take their average's value."""

    drop: tuple[Finding, ...] = ()
    apply: tuple[tuple[str, str], ...] = ()
    kept: tuple[Finding, ...] = field(default=())
    scope: Scope = INFERENCE

    @property
    def tensors(self) -> frozenset[str]:
        """Names of the tensors that go."""
        return frozenset(name for finding in self.drop for name in finding.tensors)

    @property
    def roots(self) -> frozenset[str]:
        """Inner nodes that go as far as no kept tensor lies under them."""
        return frozenset(root for finding in self.drop for root in finding.roots)

    @property
    def configs(self) -> frozenset[str]:
        """Subjects of the training configurations that go."""
        return frozenset(finding.subject for finding in self.drop if finding.rule == "TFS201")


@dataclass(frozen=True, slots=True)
class Removed:
    """One tensor or configuration that a strip took away, and the rule that allowed it."""

    name: str
    rule: str
    subject: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Proof:
    """What the re-read of a result compared: every kept tensor, byte for byte."""

    kept_tensors: int
    kept_bytes: int


@dataclass(frozen=True, slots=True)
class StripResult:
    """A finished strip. `bytes_before` and `bytes_after` are file sizes; `target` equals `source` in place.

    `averaged` says that weights have their averages' values now, `notes` what else became of the model's files.
    """

    inventory: Inventory
    source: str
    target: str
    bytes_before: int
    bytes_after: int
    removed: tuple[Removed, ...]
    kept: tuple[Finding, ...]
    proof: Proof
    changed: bool
    averaged: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Slice:
    """One of the files that an artifact is published in: base name, size in bytes, SHA-256 in hex."""

    name: str
    bytes: int
    sha256: str


CallState = Literal["equal", "close", "different", "missing", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Call:
    """What came of one function under one loader, run on the same inputs in the original and in the result.

    `state`: "equal" (the same bytes), "close" (other bytes within the stated tolerance), "different", "missing" (the
    result has it not), "failed" (the original ran and the result did not), or "skipped": it could not be compared, and
    `message` says why, as when the original itself does not run. `outputs` and `bytes` count what was compared,
    `difference` is the largest one between two numbers.
    """

    loader: str
    function: str
    state: CallState
    message: str = ""
    outputs: int = 0
    bytes: int = 0
    difference: float = 0.0


@dataclass(frozen=True, slots=True)
class Outputs:
    """Two models run on the same inputs: each call that either has.

    `tolerance` is the share of an output's greatest number that numbers may be apart; 0 where bytes must be equal.
    """

    calls: tuple[Call, ...]
    tolerance: float = 0.0

    @property
    def ran(self) -> tuple[Call, ...]:
        """The calls that ran in both."""
        return tuple(call for call in self.calls if call.state in ("equal", "close", "different"))

    @property
    def wrong(self) -> tuple[Call, ...]:
        """The calls that show the result to be another model."""
        return tuple(call for call in self.calls if call.state in ("different", "missing", "failed"))

    @property
    def why_not(self) -> str:
        """Why nothing ran: what the first call says."""
        return next((call.message for call in self.calls if call.message), "the original has nothing to run")

    @property
    def proven(self) -> bool:
        """Whether something ran, and all that the original can do gave the same in the result."""
        return bool(self.ran) and not self.wrong


@dataclass(frozen=True, slots=True)
class ExportResult:
    """A finished export of the model at `source` to the form `to` at `target`; sizes are of all files, in bytes.

    `proof` is what ran in both; where nothing could, because the original itself does not run, `proof.ran` is empty.
    `load` is the Python that loads the result, `notes` are what the user should know of it.
    """

    inventory: Inventory
    source: str
    target: str
    to: Form
    bytes_before: int
    bytes_after: int
    proof: Outputs
    load: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """A finished verify: `differences` is empty exactly when the bytes are equal in DESIGN's sense.

    Of two formats bytes are not compared where both were run. `outputs` is None where that was not asked for.
    """

    original: Inventory
    stripped: Inventory
    differences: tuple[str, ...]
    notes: tuple[str, ...]
    proof: Proof
    outputs: Outputs | None = None

    @property
    def equal(self) -> bool:
        """Whether every kept tensor has the original's bytes, everything gone was removable, and runs showed the same.

        Where they were asked for and nothing could be run, the two are not shown to be equal.
        """
        return not self.differences and (self.outputs is None or self.outputs.proven)

    @property
    def undecided(self) -> bool:
        """Whether nothing speaks against the two, but nothing that was to be run could be."""
        return not self.differences and self.outputs is not None and not (self.outputs.ran or self.outputs.wrong)


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one model: its bytes `before`, None for a new one, and `after`, None for one that is gone."""

    path: str
    before: int | None
    after: int | None
    residue_bytes: int


@dataclass(frozen=True, slots=True)
class Artifact:
    """A strip's result, or an export, as it is published: `name` is its base name, the digests are SHA-256 in hex.

    `sources` are the files that it was made from, `bytes` the size of what is published: packed, where it is several
    files. `weights_digest` is that of the model in it, None where that has no weights. `parts` are what is published in
    its place where it is too big for one file, `inside` is what the model is called in an archive, "" without one.
    `to` is the form of an export ("saved_model", "frozen" or "tflite"), "" where the model kept its own; of an export
    the `result` has no proof and nothing removed. `outputs` is what running it beside the original gave, None where
    that was not asked for; `not_run` says why nothing of it ran.
    """

    name: str
    bytes: int
    sha256: str
    sources: tuple[tuple[str, str], ...]
    result: StripResult
    weights_digest: str | None = None
    parts: tuple[Slice, ...] = ()
    inside: str = ""
    to: str = ""
    outputs: Outputs | None = None
    not_run: str = ""

    @property
    def format(self) -> str:
        """The format of what is published, as inspect calls it; "frozen" is a SavedModel without variables."""
        return {"": self.result.inventory.format, "saved_model": "saved-model"}.get(self.to, self.to)

    @property
    def origin(self) -> str:
        """What it is, in words that tell it from all others: its model, and the form where that is another one."""
        return origin(self.result.source, self.to)


def origin(source: str, to: str) -> str:
    """Return the words for what is made of the model at `source` in the form `to`."""
    return f"{source} as {to}" if to else source
