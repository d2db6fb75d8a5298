"""Names of release assets: what GitHub will call a file, decided before anything is uploaded."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tfstrip_core.errors import UsageError, printable

RESERVED = ("manifest.json", "SHA256SUMS")
ON_THE_WAY = re.compile(r"\.tfstrip-(?:old|[0-9a-f]{16})\Z")  # names that only a run under way gives
_ODD = re.compile(r"[^A-Za-z0-9._+-]+")
_LONGEST = 200  # characters; with what parts and uploads add, a name is never longer than file systems take
_FIELD = re.compile(r"\{([a-z0-9]+)(?::([0-9]{1,2}))?\}")


def asset_name(path: str) -> str:
    """Return the asset name of the file at `path`: its base name without accents, odd characters turned into dots.

    So GitHub would not change it again. The extension stays one, because loaders go by it.
    """
    plain = "".join(c for c in unicodedata.normalize("NFKD", os.path.basename(path)) if not unicodedata.combining(c))
    parts = _halves(plain)
    clean, ending = (re.sub(r"\.{2,}", ".", _ODD.sub(".", part)).strip(".") for part in parts)
    return ("model" if clean in ("", "-") else clean) + (f".{ending}" if ending else "")


def _halves(name: str) -> tuple[str, str]:
    stem = re.sub(r"(\.tar)?\.[^.]*\Z", "", name)
    return stem, name[len(stem) :]


@dataclass(frozen=True, slots=True)
class Naming:
    """How artifacts are called: a template with the fields {name}, {stem}, {ext}, {tag} and {sha256:N}."""

    template: str = "{name}"
    tag: str = ""

    @property
    def needs_digest(self) -> bool:
        """Whether a name is known only once the artifact is there."""
        return "{sha256:" in self.template

    def check(self) -> None:
        """Raise UsageError for a template that makes no name."""
        for field, digits in _FIELD.findall(self.template):
            known = field in ("name", "stem", "ext", "tag") and not digits
            if not known and not (field == "sha256" and digits and 6 <= int(digits) <= 64):
                raise UsageError(
                    f"asset-name: {{{field}{digits and ':' + digits}}} is no field",
                    "use {name}, {stem}, {ext}, {tag} and {sha256:8}, or another number of digits from 6 to 64",
                )
        if "{tag}" in self.template and not self.tag:
            raise UsageError("asset-name: {tag} is empty, because there is no release", "leave it out, or set tag")
        rest = _FIELD.sub("", self.template)
        if rest and not re.fullmatch(r"[A-Za-z0-9._+-]+", rest):
            raise UsageError(
                f"asset-name: {printable(self.template)} has characters that GitHub would change",
                "use letters, digits and . _ + - around the fields",
            )
        if not _FIELD.search(self.template):
            raise UsageError("asset-name names no field", "begin with {name}, or with {stem} and end with {ext}")

    def name(self, base: str, sha256: str) -> str:
        """Return the name of an artifact whose own is `base`; raises UsageError for one that cannot be."""
        stem, ending = _halves(base)
        fields = {"name": base, "stem": stem, "ext": ending, "tag": _ODD.sub(".", self.tag)}
        name = _FIELD.sub(
            lambda match: sha256[: int(match[2])] if match[1] == "sha256" else fields[match[1]], self.template
        )
        if ON_THE_WAY.search(name):
            raise UsageError(
                f"{printable(base)} would be attached as {printable(name[:300])}, and no such name can be kept: "
                "files have such names while they are being replaced",
                "rename it, or let asset-name end otherwise",
            )
        if name != asset_name(name) or len(name) > _LONGEST:
            raise UsageError(
                f"{printable(base)} would be attached as {printable(name[:300])}, and GitHub keeps no such name",
                f"names begin and end with a letter or digit and have at most {_LONGEST} characters",
            )
        return name


def asset_names(titles: Mapping[str, str], naming: Naming | None = None) -> dict[str, str]:
    """Return the asset name of each path, made of its title; raises UsageError where two would share one.

    A template with digests tells them apart once they are known.
    """
    bases = {path: asset_name(title) for path, title in titles.items()}
    naming = naming or Naming()
    naming.check()
    made = {path: naming.name(base, "0" * 64) for path, base in bases.items()}
    if not naming.needs_digest:
        distinct(made.items())
    return bases


def distinct(names: Iterable[tuple[str, str]]) -> None:
    """Raise UsageError where two of these (path, name) share a name, or one has a reserved one.

    Names that differ in case alone are one name to many file systems.
    """
    taken = {name.lower(): f"tfstrip's own {name}" for name in RESERVED}
    for path, name in names:
        other = taken.setdefault(name.lower(), path)
        if other != path:
            raise UsageError(
                f"{printable(path)} and {printable(other)} would both be attached as {name}",
                "rename one of them, or release them in steps of their own",
            )
