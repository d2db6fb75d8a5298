"""Names of release assets: what GitHub will call a file, decided before anything is uploaded."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Mapping

from tfstrip_core.errors import UsageError, printable

RESERVED = ("manifest.json", "SHA256SUMS")
_ODD = re.compile(r"[^A-Za-z0-9._+-]+")


def asset_name(path: str) -> str:
    """Return the asset name of the file at `path`: its base name without accents, odd characters turned into dots.

    So GitHub would not change it again. The extension stays one, because loaders go by it.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", os.path.basename(path)) if not unicodedata.combining(c))
    stem = re.sub(r"(\.tar)?\.[^.]*\Z", "", plain)
    parts = (stem, plain[len(stem) :])
    clean, ending = (re.sub(r"\.{2,}", ".", _ODD.sub(".", part)).strip(".") for part in parts)
    return ("model" if clean in ("", "-") else clean) + (f".{ending}" if ending else "")


def asset_names(titles: Mapping[str, str]) -> dict[str, str]:
    """Return the asset name of each path, made of its title; raises UsageError where two would share one.

    Names that differ in case alone are one name to many file systems.
    """
    names: dict[str, str] = {}
    taken = {name.lower(): f"tfstrip's own {name}" for name in RESERVED}
    for path, title in titles.items():
        name = asset_name(title)
        other = taken.setdefault(name.lower(), path)
        if other != path:
            raise UsageError(
                f"{printable(path)} and {printable(other)} would both be attached as {name}",
                "rename one of them, or release them in steps of their own",
            )
        names[path] = name
    return names
