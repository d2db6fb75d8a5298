"""Where the files of a SavedModel lie in its directory, which other files may share: names alone, nothing is read.

Imports nothing beyond os: the hook asks this of every staged file.
"""

from __future__ import annotations

import os

from tfstrip_core.errors import Refused, Unreadable

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


def comes_along(name: str) -> bool:
    """Return whether a file with this path goes with the model as it is: no loader reads more of the two folders."""
    return not is_own(name) and name.split(os.sep, 1)[0] not in ("variables", "debug")


def files(path: str) -> Iterator[str]:
    """Yield the paths of the files in the model's directory, relative to it, in a fixed order.

    Folders that are SavedModels of their own are left out, .git, and the user's own links that lead elsewhere. Raises
    Unreadable for a folder of the model that is a link, and Refused for a file of it that is a link out of the
    directory, unless saved_model.pb is one too, as in caches that keep all contents elsewhere.
    """
    for name, leads_elsewhere in _entries(path):
        if not leads_elsewhere:
            yield name
        elif is_part(name) and os.path.isdir(os.path.join(path, name)):
            raise Unreadable(f"its folder {name} is a symbolic link", "put the folder itself there")
        elif is_part(name):
            raise Refused(f"its file {name} is a link that leads out of its directory", "put a copy there")


def links(path: str) -> Iterator[str]:
    """Yield the links that `files` leaves out."""
    for name, leads_elsewhere in _entries(path):
        if leads_elsewhere:
            yield name


def _entries(path: str) -> Iterator[tuple[str, bool]]:
    """Yield each file's path, and whether it is a link that is not followed: to a folder, or out of the directory."""
    top = os.path.realpath(path)
    cached = os.path.islink(os.path.join(path, PB))
    for folder, folders, names in os.walk(path):
        inside = os.path.relpath(folder, path)
        if PB in names and inside != os.curdir and inside.split(os.sep, 1)[0] not in ASSETS:
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not _is_foreign(name))
        for name in (*folders, *sorted(names)):
            file, shown = os.path.join(folder, name), os.path.normpath(os.path.join(inside, name))
            linked = os.path.islink(file)
            if _is_foreign(name) or (os.path.isdir(file) and not linked):
                continue
            if linked and (os.path.isdir(file) or not (cached or _is_within(os.path.realpath(file), top))):
                yield shown, True
            elif os.path.isfile(file):
                yield shown, False


def _is_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


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
