"""TensorFlow checkpoints of the first version (one file, often without an ending): held, compared, rewritten."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import BinaryIO

from tfstrip_core import rules
from tfstrip_core.codecs import v1_table
from tfstrip_core.codecs.v1_table import Table, Variable
from tfstrip_core.codecs.window import blocks
from tfstrip_core.containers.checkpoints import checkpoint_meta, checkpoint_state, named_state
from tfstrip_core.containers.checkpoints.checkpoint_meta import META
from tfstrip_core.errors import Unsupported
from tfstrip_core.inventory import INFERENCE, Contents, Inventory, Part, Plan, Scope, Tensor

FORMAT = "tf-checkpoint-v1"
_SHARD = re.compile(r".*-\d{5}-of-(?!00001)\d{5}", re.DOTALL)


def endings(path: str) -> tuple[str, ...]:
    """Return what follows `path` in the names of the checkpoint's files: nothing, and .meta where that is there."""
    return ("", META) if checkpoint_meta.is_there(path) else ("",)


def _read(path: str) -> Table:
    if _SHARD.fullmatch(os.path.basename(path)):
        raise Unsupported(
            "this is one of several files of a checkpoint of TensorFlow's first format",
            "save it again with a newer TensorFlow",
        )
    return v1_table.read(path)


def inventory(path: str, _scope: Scope = INFERENCE) -> Inventory:
    """Return what the checkpoint holds, from its description of its tensors and the .meta file beside it."""
    variables = _read(path).variables
    tensors = [Tensor(name, item.type_name, item.shape, item.bytes) for name, item in variables.items()]
    slices = {name: item.slices for name, item in variables.items() if item.slices}
    roles, judged = named_state.judge(tensors, checkpoint_meta.read(path), slices)
    findings = (*judged, *checkpoint_state.local_paths(path))
    return Inventory(
        path=path,
        format=FORMAT,
        verdict=rules.verdict(findings),
        writer="tf.train.Saver",
        bytes=sum(os.stat(path + ending).st_size for ending in endings(path)),
        tensors=tuple(Tensor(t.name, t.dtype, t.shape, t.bytes, roles[t.name]) for t in tensors),
        findings=findings,
        residue_bytes=rules.residue_bytes(findings),
    )


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the checkpoint as comparable parts: its tensors."""
    table = _read(path)
    with open(path, "rb", buffering=0) as file:
        yield {("tensor", name): _part(variable, file) for name, variable in table.variables.items()}


def _part(variable: Variable, file: BinaryIO) -> Part:
    def parts() -> Iterator[bytes]:
        for piece in variable.pieces:
            yield from blocks(file, *piece.numbers)

    cut = f" in parts {variable.slices}" if variable.slices else ""
    values = partial(v1_table.values, file, variable)
    return Part(f"{variable.type_name} {list(variable.shape)}{cut}", parts, variable.bytes, values)


def check_whole(path: str) -> None:
    """Read every byte against the table's checksums; raises Unreadable where one is damaged."""
    v1_table.check_whole(_read(path))


def beside(path: str, target: str) -> dict[str, bytes | None]:
    """Return the state file that must change once the result is in place, by its path: its content, None as it is."""
    return checkpoint_state.beside(path, target)


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the checkpoint without what the plan drops to `target`, and the .meta file if its Saver can follow."""
    v1_table.write(_read(path), target, plan.tensors, dict(plan.apply))
    return list(checkpoint_meta.rewrite(path, plan, target))
