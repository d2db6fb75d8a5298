"""A model of several files as one asset: a .tar.gz that is the same, byte for byte, wherever it is made."""

from __future__ import annotations

import gzip
import os
import tarfile
from collections.abc import Sequence

SUFFIX = ".tar.gz"


def pack(files: Sequence[str], target: str, top: str) -> None:
    """Write files under their paths below `top` to the archive `target`: sorted, no owner, no times, mode 644."""
    names = {os.path.relpath(file, top).replace(os.sep, "/"): file for file in files}
    with (
        open(target, "xb") as out,
        gzip.GzipFile("", "wb", 6, out, mtime=0) as squeezed,
        tarfile.open(fileobj=squeezed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, file in sorted(names.items()):
            entry = tarfile.TarInfo(name)
            entry.size = os.path.getsize(file)
            with open(file, "rb") as content:
                archive.addfile(entry, content)
