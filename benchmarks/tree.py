"""A work tree as repositories have them: 1,900 files that are no models, of many kinds, and 100 that are."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path

OTHERS, MODELS, LARGE = 1_900, 100, 8 << 20
_POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:{:064x}\nsize 123456\n"


def _archive(chance: random.Random) -> bytes:
    """Return a zip archive as data sets, wheels and office documents are."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number in range(chance.randrange(1, 40)):
            archive.writestr(f"part/{number}.txt", f"{chance.random()}\n" * 50)
    return out.getvalue()


def _text(chance: random.Random) -> bytes:
    return b"".join(b"%d,%f\n" % (number, chance.random()) for number in range(chance.randrange(1, 800)))


# How often each kind of file comes, what its name ends in, and what is in it.
_KINDS: Sequence[tuple[int, str, Callable[[random.Random], bytes]]] = (
    (30, "py", lambda chance: b"import os\n" + _text(chance)),
    (20, "js", lambda chance: b"'use strict';\n" + _text(chance)),
    (10, "md", lambda chance: b"# Title\n" + _text(chance)),
    (10, "json", lambda chance: json.dumps({"rows": [chance.random() for _ in range(100)]}).encode()),
    (10, "csv", _text),
    (6, "png", lambda chance: b"\x89PNG\r\n\x1a\n" + chance.randbytes(chance.randrange(100, 60_000))),
    (3, "zip", _archive),
    (3, "npy", lambda chance: b"\x93NUMPY\x01\0v\0" + chance.randbytes(40_000)),
    (3, "pb", lambda chance: b"\x0a\x10" + chance.randbytes(5_000)),
    (2, "bin", lambda chance: bytes(2) + chance.randbytes(5_000)),
    (1, "tfrecord", lambda chance: chance.randbytes(5_000)),
    (1, "txt", lambda _: b""),
    (1, "keras", lambda chance: _POINTER.format(chance.getrandbits(256)).encode()),
)


def plant(folder: Path, models: Sequence[Path]) -> int:
    """Make the work tree `folder`; `models` are copied in turn. Return how many files are in it, .git left out."""
    chance = random.Random(0)
    folder.mkdir()
    for number in range(MODELS):
        model = models[number % len(models)]
        _copy(model, folder / "models" / f"run{number:02}")
    kinds = [kind for kind in _KINDS for _ in range(kind[0])]
    for number in range(OTHERS):
        _, ending, content = kinds[number % len(kinds)]
        deep = Path("web", "node_modules", *(f"package{number % 7}/lib" for _ in range(number % 6)))
        place = folder / (deep if ending == "js" else Path(("src", "data", "docs")[number % 3], f"part{number % 23}"))
        place.mkdir(parents=True, exist_ok=True)
        (place / f"file{number}.{ending}").write_bytes(content(chance))
    for number in range(5):
        with (folder / "data" / f"large{number}.{'csv' if number % 2 else 'zip'}").open("wb") as file:
            file.truncate(LARGE)
    (folder / "data" / "latest").symlink_to("part1")
    (folder / "models" / "best").symlink_to("run00")
    for number in range(2_000):  # what git keeps: not looked at
        place = folder / ".git" / "objects" / f"{number % 256:02x}"
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number:038x}").write_bytes(b"x\x9c" + chance.randbytes(100))
    return sum(path.is_file() for path in folder.rglob("*") if ".git" not in path.relative_to(folder).parts)


def _copy(model: Path, place: Path) -> None:
    """Copy a model: a file, a directory, or the files of a checkpoint's prefix."""
    if model.is_dir():
        shutil.copytree(model, place)
        return
    place.mkdir(parents=True)
    for file in [model] if model.is_file() else model.parent.glob(f"{model.name}.*"):
        shutil.copy(file, place)
