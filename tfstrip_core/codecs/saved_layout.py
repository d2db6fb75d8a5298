"""Where the files of a SavedModel lie in its directory, which other files may share: names alone, nothing is read.

Imports nothing beyond os: the hook asks this of every staged file.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

PB, TEXT, FINGERPRINT, KERAS = "saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb"
VARIABLES = os.path.join("variables", "variables")
DEBUG = os.path.join("debug", "saved_model_debug_info.pb")
ASSETS = frozenset({"assets", "assets.extra"})
_TOP = frozenset({PB, TEXT, FINGERPRINT, KERAS})
_FOREIGN = (".git", ".tfstrip-")  # what lies in a work tree's top, and what a strip in place builds in


def is_own(name: str) -> bool:
    """Return whether a file with this path in the directory is one that TensorFlow wrote there and reads again.

    Assets are not meant: a strip leaves them as they are, as it leaves what the user keeps beside the model.
    """
    folder, base = os.path.split(name)
    if name in (DEBUG, f"{VARIABLES}.index") or (not folder and base in _TOP):
        return True
    if folder != "variables" or not base.startswith("variables.data-"):
        return False
    numbers = base.removeprefix("variables.data-").split("-of-")
    return len(numbers) == 2 and all(len(text) >= 5 and text.isascii() and text.isdecimal() for text in numbers)


def is_part(name: str) -> bool:
    """Return whether a file with this path in the directory can only be the model's: its own, or below its folders."""
    return is_own(name) or name.split(os.sep, 1)[0] in {*ASSETS, "variables", "debug"}


def files(path: str) -> Iterator[str]:
    """Yield the paths of the files in the model's directory, relative to it, in a fixed order.

    Folders that are SavedModels of their own are left out, and .git; symlinked folders are entered for the model's own
    files only.
    """
    for folder, folders, names in os.walk(path):
        inside = os.path.relpath(folder, path)
        if PB in names and inside != os.curdir and inside.split(os.sep)[0] not in ASSETS:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not _is_foreign(name))
        for link in (name for name in folders if os.path.islink(os.path.join(folder, name))):
            below = (
                os.path.normpath(os.path.join(inside, link, name)) for name in os.listdir(os.path.join(folder, link))
            )
            yield from sorted(name for name in below if is_own(name) and os.path.isfile(os.path.join(path, name)))
        for name in sorted(names):
            if os.path.isfile(os.path.join(folder, name)) and not _is_foreign(name):
                yield os.path.normpath(os.path.join(inside, name))


def linked_folder(path: str) -> str | None:
    """Return a folder of the user's that is a symlink, so that `files` leaves out what is in it; None for none."""
    for folder, folders, _ in os.walk(path):
        folders[:] = sorted(name for name in folders if not _is_foreign(name))
        for name in folders:
            inside = os.path.relpath(os.path.join(folder, name), path)
            if os.path.islink(os.path.join(path, inside)) and inside not in ("variables", "debug"):
                return inside
    return None


def _is_foreign(name: str) -> bool:
    return name == _FOREIGN[0] or name.startswith(_FOREIGN[1])


def owner(path: str, *, assets: bool = False) -> str | None:
    """Return the directory of the SavedModel that a file belongs to by its name, or with `assets` as one of them."""
    folder, name = os.path.split(os.path.abspath(path))
    above = os.path.basename(folder)
    levels = -1
    if assets:
        parts = folder.split(os.sep)
        levels = next((at for at, part in enumerate(reversed(parts), 1) if part in ASSETS), -1)
    elif name in _TOP:
        levels = 0
    elif (above == "variables" and name.startswith("variables.")) or os.path.join(above, name) == DEBUG:
        levels = 1
    if levels < 0:
        return None
    top = os.path.normpath(os.path.join(os.path.dirname(path), *[os.pardir] * levels))
    return top if any(os.path.isfile(os.path.join(top, known)) for known in (PB, TEXT)) else None
