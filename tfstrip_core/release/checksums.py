"""Checksums of what is published, in the form that `sha256sum --check` reads."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tfstrip_core.codecs.window import BLOCK


def sha256(path: str) -> str:
    """Return the SHA-256 of the file at `path`, in hex."""
    digest = hashlib.sha256()
    with open(path, "rb", buffering=0) as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def lines(digests: Iterable[tuple[str, str]]) -> str:
    """Return one line for each (asset name, hex digest), sorted by name; names are base names."""
    return "".join(f"{digest}  {name}\n" for name, digest in sorted(digests))


def sha256_of(content: bytes) -> str:
    """Return the SHA-256 of bytes at hand, in hex."""
    return hashlib.sha256(content).hexdigest()
