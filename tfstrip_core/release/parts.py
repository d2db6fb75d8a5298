"""An artifact that is too big for one asset: numbered parts, and how to join and check them."""

from __future__ import annotations

import hashlib
import os

from tfstrip_core.codecs.window import BLOCK
from tfstrip_core.errors import UsageError, printable
from tfstrip_core.inventory import Slice

MOST = 999


def split(path: str, size: int) -> tuple[Slice, ...]:
    """Write the file at `path` in parts of `size` bytes beside it; return them, or nothing where it fits into one.

    A block is held at a time. Raises UsageError for more parts than a release can hold.
    """
    whole = os.path.getsize(path)
    count = -(-whole // size)
    if count <= 1:
        return ()
    if count > MOST:
        raise UsageError(
            f"{printable(os.path.basename(path))} has {whole:,} bytes, which are {count:,} parts of {size:,}",
            "set max-part-size to more",
        )
    found = []
    with open(path, "rb", buffering=0) as source:
        for number in range(1, count + 1):
            part = f"{path}.part-{number:03}-of-{count:03}"
            if os.path.lexists(part):
                raise UsageError(f"{printable(os.path.basename(part))} is another model's name", "rename that model")
            digest, left = hashlib.sha256(), size
            with open(part, "xb") as target:
                while left and (block := source.read(min(BLOCK, left))):
                    target.write(block)
                    digest.update(block)
                    left -= len(block)
            found.append(Slice(os.path.basename(part), size - left, digest.hexdigest()))
    return tuple(found)


def join(name: str, count: int) -> str:
    """Return the command that makes the whole of its parts and checks it; asset names mean nothing to a shell.

    What a run with parts of another size left in the release is none of these.
    """
    name = f"./{name}" if name.startswith("-") else name
    return f"cat {name}.part-???-of-{count:03} > {name} && sha256sum --check {name}.sha256"
