"""Strip a SavedModel that a test describes, and say all that is wrong with the result, on every loader.

    wrong, states = Proof(model, "inference", folder).run(runner)

What the writer's live objects said is the measure of what may go; what the original gives under a loader, or, where it
cannot run there, gives elsewhere and gave when it lived, is the measure of what the result gives. A loader under which
neither runs says nothing, so that the caller has to know which these are: `states` has one for each loader.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import saved_model_run as sr
from saved_model_fixtures import Model
from saved_model_run import Output, Ran, Result, Runner

from tfstrip_core import inspect, strip, verify
from tfstrip_core.inventory import Profile, StripResult

GRAPH = "_CHECKPOINTABLE_OBJECT_GRAPH"
# What only serves has no functions but those of its signatures, and nothing that Keras could read.
LOADERS: dict[str, tuple[str, ...]] = {"inference": sr.LOADERS, "serving": ("v2", "session", "c++", "tflite")}
PROFILES: tuple[Profile, ...] = ("inference", "serving")

# What the reader calls otherwise than the writer: what a signature reads is a weight, whatever it was made as; what it
# does not read is none; and averages that nothing of Keras made are variables like others.
ROLES = {
    "graph_ema_read": {"average": "weight", "weight": "undecided"},
    "graph_train_signature": {"optimizer": "weight", "counter": "weight"},
    "module_average": {"average": "weight"},
}
GOES = ("optimizer", "metric", "average", "undecided")


@dataclass(frozen=True)
class Proof:
    """One model, stripped in one way."""

    model: Model
    profile: Profile
    target: Path

    @property
    def source(self) -> Path:
        return self.model.directory

    def strip(self, target: Path | None = None) -> StripResult:
        """Strip it. Averages that differ are a question to the user, whose answer here is to drop them."""
        ema: Any = "drop" if self.model.facts["labels"].get("averages_differ") else ""
        return strip(str(self.source), str(target or self.target), profile=self.profile, ema=ema)

    def strip_of(self, source: Path) -> StripResult:
        """Strip a model that was stripped."""
        return strip(str(source), str(self.target), profile=self.profile)

    # -- what is kept, and what goes

    def roles(self) -> dict[str, tuple[str, int]]:
        """Return role and size of each tensor, as they are to be told."""
        others = {"config": "weight", **ROLES.get(self.model.scenario, {})}
        return {
            key.name: (others.get(key.role, key.role), key.bytes) for key in self.model.keys if key.role != "structure"
        }

    def may_go(self, key: str) -> bool:
        """Whether a tensor is for training by what the live objects were."""
        if self.model.facts["labels"].get("trains"):  # a function that stays reads and writes them
            return False
        return self.roles()[base(key)][0] in GOES

    def weights(self) -> list[str]:
        """Return the tensors of the result, slices too, in which a flipped bit may be seen; the likeliest first."""
        floats = {key.name for key in self.model.keys if key.role == "weight" and "float" in key.dtype}
        return sorted((key for key in contents(self.target) if base(key) in floats), reverse=True)

    def wrong_keys(self) -> list[str]:
        """Compare keys, content and roles with what the writer's live objects said."""
        before, after = (contents(path) for path in (self.source, self.target))
        gone = before.keys() - after.keys()
        lost = {key for key in gone if not self.may_go(key)}
        said = [f"{key!a} is new" for key in after.keys() - before.keys()]
        said += [f"{key!a} has other content" for key in before.keys() & after.keys() if before[key] != after[key]]
        said += [f"{key!a} is still there" for key in sorted(after) if self.may_go(key)]
        if self.profile == "inference":  # what only serves loses all that no signature reads
            said += [f"{key!a} is lost" for key in sorted(lost - copies(lost, before, after))]
        return said

    def wrong_roles(self) -> list[str]:
        """Compare the bytes of each role with what the writer's live objects said."""
        wanted: Counter[str] = Counter()
        for role, size in self.roles().values():
            wanted[role] += size
        found: Counter[str] = Counter()
        for tensor in inspect(str(self.source)).tensors:
            found[tensor.role] += tensor.bytes
        found["weight"] += found.pop("duplicate", 0)
        return [
            f"{role}: {found[role]} bytes instead of {wanted[role]}"
            for role in sorted({*wanted, *found})
            if found[role] != wanted[role]
        ]

    # -- what it gives

    def results(self, runner: Runner, loaders: tuple[str, ...] = ()) -> dict[str, Result]:
        """Run original and result under each loader."""
        found = {}
        for loader in [one for one in LOADERS[self.profile] if not loaders or one in loaders]:
            result = runner.compare(self.source, self.target, loader, str(self.model.io), self.may_lack)
            if loader == "tflite" and result.state == "different" and self.was_wrong(result, runner):
                result = replace(result, state="repaired")
            found[loader] = result
        return found

    def was_wrong(self, result: Result, runner: Runner) -> bool:
        """Whether it is the original that gives other numbers: its saver restores nothing, and TFLite does not mind."""
        return all(
            self.against_live(call, outputs) or not alike(self.elsewhere(call, runner), outputs, 1e-3)
            for call, outputs in result.original.outputs.items()
            if call in result.different
        )

    def may_lack(self, call: str) -> bool:
        """Whether a signature is of a MetaGraph that does not serve."""
        tags, _, _ = call.rpartition(":")
        return tags == "train" or (tags == "eval" and self.profile == "serving")

    def wrong_outputs(self, result: Result, runner: Runner) -> list[str]:
        """Say what of a loader's outputs is wrong, though both gave the same: numbers that are none, or others."""
        said = []
        if result.state not in ("equal", "repaired", "original fails", "impossible"):
            said.append(f"{result.loader}: {result.state}: {result.why}")
        said += [f"{result.loader}: {call} gives no finite numbers" for call in result.stripped.not_finite()]
        if result.loader in ("callables", "load_model"):
            return said
        for call in sorted(set(result.stripped.outputs) - set(result.unsteady)):
            outputs = result.stripped.outputs[call]
            said += [f"{result.loader}: {call}: {what}" for what in self.against_live(call, outputs)]
            other = self.elsewhere(call, runner)
            if other and not alike(other, outputs, self.tolerance(result)):
                said.append(f"{result.loader}: {call} gives other numbers than the original elsewhere")
        return said

    def tolerance(self, result: Result) -> float:
        """Return how far numbers may be from those of another loader.

        TFLite has kernels of its own, which add in another order; a graph is optimized in another way than a function.
        """
        return float(self.model.facts["tolerance"]) if result.loader == "tflite" else 1e-6

    def elsewhere(self, call: str, runner: Runner) -> tuple[Output, ...]:
        """Return what the original gives under the first loader under which it runs."""
        examples = str(self.model.io)
        for loader in ("v2", "session"):
            ran: Ran = runner.once(self.source, loader, examples)
            if call in ran.outputs and call not in ran.unsteady and call not in ran.not_finite():
                return ran.outputs[call]
        return ()

    def against_live(self, call: str, outputs: tuple[Output, ...]) -> list[str]:
        """Compare numbers with those of the model that lived, as far as the writer noted them."""
        name, numbers = call.rpartition(":")[2], [one.array() for one in outputs if is_number(one)]
        with np.load(self.model.io) as noted:
            wanted = [noted[key] for key in noted.files if key.startswith(f"{name}/y/")]
        return [
            f"no output is number {at} of the live model's"
            for at, one in enumerate(wanted)
            if one.dtype.kind not in "SV"
            and not any(close(one, other, self.model.facts["tolerance"]) for other in numbers)
        ]

    def run(self, runner: Runner, loaders: tuple[str, ...] = ()) -> tuple[list[str], dict[str, str]]:
        """Strip and say all that is wrong, and what became of it under each loader."""
        self.strip()
        said = self.wrong_keys() + self.wrong_roles()
        if not self.equal():
            said.append("verify finds a difference")
        results = self.results(runner, loaders)
        for result in results.values():
            said += self.wrong_outputs(result, runner)
        return said, {loader: result.state for loader, result in results.items()}

    def unnoticed(self, runner: Runner, loaders: Iterable[str]) -> list[str]:
        """The negative control: loaders that give the same though one bit of a weight that stayed is another."""
        examples = str(self.model.io)
        key = runner.control(self.target, self.weights(), "session", examples)
        if key is None:
            return ["no weight of the result is read"]
        copy = sr.flipped(self.target, f"{self.target}-flipped", key)
        states = {loader: runner.compare(self.target, copy, loader, examples).state for loader in loaders}
        return [f"{loader}: {state}" for loader, state in states.items() if state != "different"]

    def equal(self) -> bool:
        return verify(str(self.source), str(self.target)).equal


def base(key: str) -> str:
    """Return the tensor that a slice is of: its key begins with the name of the whole."""
    return key.removeprefix("\0").partition("\0")[0]


def contents(path: Path) -> dict[str, bytes]:
    """Return the tensors of a SavedModel; none where it has no variables."""
    if not Path(path, "variables", "variables.index").exists():
        return {}
    return {key: sr.content(path, key) for key in sr.entries(path) if key != GRAPH}


def copies(gone: set[str], before: dict[str, bytes], after: dict[str, bytes]) -> set[str]:
    """Return the keys that went as a second copy: for each content as many as there are left."""
    left = Counter(after.values())
    found = set()
    for key in sorted(gone):
        if left[before[key]]:
            left[before[key]] -= 1
            found.add(key)
    return found


def is_number(one: Output) -> bool:
    return one.dtype not in ("string", "bfloat16")


def close(one: Any, other: Any, tolerance: float) -> bool:
    """Whether numbers are the same, as far as a signature that takes fewer rows than there were gives them."""
    one = one[: len(other)] if one.ndim and other.ndim else one
    return bool(one.shape == other.shape and np.allclose(one, other, atol=tolerance, equal_nan=False))


def alike(one: tuple[Output, ...], other: tuple[Output, ...], tolerance: float) -> bool:
    """Whether two loaders gave the same; TFLite names and orders the outputs of a signature by itself."""
    left, right = ([o for o in outputs if is_number(o)] for outputs in (one, other))
    return len(left) == len(right) and all(any(close(a.array(), b.array(), tolerance) for b in right) for a in left)
