"""weights_digest: one digest for a model's weights, whatever file they are in, before a strip and after it.

It is the SHA-256 over the sorted, distinct SHA-256s of the tensors, each taken over dtype, shape and bytes: see
docs/weights-digest.md. Names and order are no part of it, since each format has its own; nor is how often a variable is
stored, which depends on the format too.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import cast

from tfstrip_core import containers
from tfstrip_core.discover import Found, discover, look
from tfstrip_core.errors import TfstripError, Unreadable
from tfstrip_core.inventory import Inventory, Tensor, Verdict
from tfstrip_core.rules import RULES
from tfstrip_core.verbs.inspect import examine, read

# States of random number generators, which Keras keeps for some layers, and only some formats have.
_SEEDS = (("uint32", (2,)), ("int64", (2,)), ("int64", (3,)))
_DTYPES = {"|V2": "bfloat16"}  # the only one of two bytes that HDF5 has no type for; Keras does not always say so
_NO_NUMBERS = ("|S", "string", "variant")
_TABLE = re.compile(r".*/\.ATTRIBUTES/[^/]*-(keys|values)", re.DOTALL)  # how an object graph's keys end for a table


def weights_digest(path: str) -> str | None:
    """Return the digest of the weights of the model at `path`, in hex; None where it has no weights.

    Reads every weight, in constant memory. Raises what inspect raises, and Unreadable where a weight is damaged.
    """
    found = look(path)
    return of(found, read(found))


def survey(paths: Iterable[str]) -> Iterator[tuple[Inventory, str | None]]:
    """Yield an inventory and a weights digest for each model that the paths name or lead to.

    A model with a damaged weight is unreadable, though it can be said what is in it.
    """
    for found in discover(paths):
        inventory, digest = examine(found), None
        if not inventory.message:
            try:
                digest = of(found, inventory)
            except TfstripError as error:
                inventory = replace(inventory, verdict=cast("Verdict", error.verdict), message=str(error))
        yield inventory, digest


def of(found: Found, inventory: Inventory) -> str | None:
    """Return the digest of the weights of a model whose inventory is known; raises Unreadable where it is damaged."""
    container = containers.container(found.kind)
    digests = set()
    try:
        container.check_whole(found.file)  # HDF5's library can crash on damage
        with container.contents(found.file) as parts:
            for tensor in counted(inventory):
                part = parts["tensor", tensor.name]
                one = hashlib.sha256(f"{_DTYPES.get(tensor.dtype, tensor.dtype)}\n{list(tensor.shape)}\n".encode())
                for block in (part.values or part.blocks)():
                    one.update(block)
                digests.add(one.digest())
    except OSError as error:
        raise Unreadable(f"cannot be read ({error.strerror or error})", "check its permissions") from None
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest() if digests else None


def counted(inventory: Inventory) -> list[Tensor]:
    """Return the tensors that the digest covers: numbers that a strip without choices keeps and inference reads.

    A converted graph has none: its weights are folded into constants that no other form of the model has.
    """
    if inventory.format == "tfjs-graph":
        return []
    gone = {
        name
        for finding in inventory.findings
        if RULES[finding.rule].stripped or finding.rule == "TFS106"
        for name in finding.tensors
    }
    return [
        tensor
        for tensor in inventory.tensors
        if tensor.role in ("weight", "undecided")
        and tensor.name not in gone
        and not tensor.dtype.startswith(_NO_NUMBERS)
        and (tensor.dtype, tensor.shape) not in _SEEDS
        and not _TABLE.fullmatch(tensor.name)
    ]
