"""A model of several files as one asset: a .tar.gz that is the same, byte for byte, wherever it is made."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Sequence

SUFFIX = ".tar.gz"


def pack(files: Sequence[str], target: str) -> None:
    """Write the files under their base names to `target`: sorted, no owner, no times, mode 644."""
    with (
        open(target, "xb") as out,
        gzip.GzipFile("", "wb", 6, out, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for file in sorted(files, key=os.path.basename):
            entry = tarfile.TarInfo(os.path.basename(file))
            entry.size = os.path.getsize(file)
            with open(file, "rb") as content:
                archive.addfile(entry, content)
