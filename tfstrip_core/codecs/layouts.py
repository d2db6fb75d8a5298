"""Where the files of a model lie in the directory that it is, which other files may share: names, nothing is read.

Imports nothing beyond os: the hook asks this of every staged file.
"""

from __future__ import annotations

import os

from tfstrip_core.errors import Refused, Unreadable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

PB, TEXT, FINGERPRINT, KERAS_METADATA = "saved_model.pb", "saved_model.pbtxt", "fingerprint.pb", "keras_metadata.pb"
VARIABLES = os.path.join("variables", "variables")
DEBUG = os.path.join("debug", "saved_model_debug_info.pb")
CONFIG, METADATA, WEIGHTS, NPZ = "config.json", "metadata.json", "model.weights.h5", "model.weights.npz"
_TOP = frozenset({PB, TEXT, FINGERPRINT, KERAS_METADATA})
_FOREIGN = (".git", ".tfstrip-")  # what lies in a work tree's top, and what a strip in place builds in


class Layout:
    """One kind of directory that is a model, called `what`.

    `marks` are the files without which it is none; the first of them is written whenever the model is, and put in
    place last. `own(name)` says whether a file is one that a strip writes anew, `top` are the files beside those that
    are the model's too, `inside` (folder, how a name begins) what lies in its folders. Of `folders` no loader reads
    more than that; files in `assets` are the model's, whatever they are called.
    """

    __slots__ = ("assets", "folders", "inside", "is_own", "marks", "top", "what")

    def __init__(
        self,
        what: str,
        marks: tuple[str, ...],
        own: Callable[[str], bool],
        top: Collection[str],
        inside: tuple[tuple[str, str], ...],
        assets: tuple[str, ...],
    ) -> None:
        self.what = what
        self.marks = marks
        self.is_own = own
        self.top = frozenset(top)
        self.inside = inside
        self.folders = frozenset(folder for folder, _ in inside)
        self.assets = frozenset(assets)

    def is_part(self, name: str) -> bool:
        """Return whether a file with this path in the directory can only be the model's."""
        return self.is_own(name) or name in self.top or name.split(os.sep, 1)[0] in self.assets | self.folders

    def comes_along(self, name: str) -> bool:
        """Return whether a file with this path goes with the model as it is: one of no use to a loader does not."""
        return not self.is_own(name) and name.split(os.sep, 1)[0] not in self.folders

    def is_there(self, path: str) -> bool:
        """Return whether a directory has the files without which it is no such model."""
        return all(os.path.isfile(os.path.join(path, name)) for name in self.marks)

    def files(self, path: str) -> Iterator[str]:
        """Yield the paths of the files in the model's directory, relative to it, in a fixed order.

        Folders that are models of their own are left out, .git, and the user's own links that lead elsewhere. Raises
        Unreadable for a folder of the model that is a link, and Refused for a file of it that is a link out of the
        directory, unless the first of its marks is one too, as in caches that keep all contents elsewhere.
        """
        for name, leads_elsewhere in self._entries(path):
            if not leads_elsewhere:
                yield name
            elif self.is_part(name) and os.path.isdir(os.path.join(path, name)):
                raise Unreadable(f"its folder {name} is a symbolic link", "put the folder itself there")
            elif self.is_part(name):
                raise Refused(f"its file {name} is a link that leads out of its directory", "put a copy there")

    def endings(self, path: str) -> tuple[str, ...]:
        """Return what follows the directory in the paths of its files, the first mark first; raises as `files`."""
        names = sorted(self.files(path), key=lambda name: (name != self.marks[0], name))
        return tuple(f"{os.sep}{name}" for name in names)

    def links(self, path: str) -> Iterator[str]:
        """Yield the links that `files` leaves out."""
        for name, leads_elsewhere in self._entries(path):
            if leads_elsewhere:
                yield name

    def asset_folders(self, path: str) -> Iterator[str]:
        """Yield the folders of assets, relative to the directory; Keras reads an empty one otherwise than none."""
        for name in sorted(self.assets):
            for folder, _, _ in os.walk(os.path.join(path, name)):
                yield os.path.relpath(folder, path)

    def _entries(self, path: str) -> Iterator[tuple[str, bool]]:
        """Yield each file's path, and whether it is a link that is not followed: to a folder, or out."""
        top = os.path.realpath(path)
        cached = os.path.islink(os.path.join(path, self.marks[0]))
        for folder, folders, names in os.walk(path):
            inside = os.path.relpath(folder, path)
            if inside.split(os.sep, 1)[0] not in {os.curdir, *self.assets} and _is_model(names):
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

    def place(self, path: str, *, assets: bool = False) -> str | None:
        """Return the directory of the model that a file may belong to by its name, or with `assets` as one of them."""
        folder, name = os.path.split(os.path.abspath(path))
        levels = -1
        if assets:
            parts = folder.split(os.sep)
            levels = next((at for at, part in enumerate(reversed(parts), 1) if part in self.assets), -1)
        elif name in self.top:
            levels = 0
        elif any(os.path.basename(folder) == inner and name.startswith(begin) for inner, begin in self.inside):
            levels = 1
        return None if levels < 0 else os.path.normpath(os.path.join(os.path.dirname(path), *[os.pardir] * levels))


def _is_of_saved_model(name: str) -> bool:
    """Return whether TensorFlow wrote a file with this path in the directory and reads it again; assets are not meant.

    A strip leaves those as they are, as it leaves what the user keeps beside the model.
    """
    folder, base = os.path.split(name)
    if name in (DEBUG, f"{VARIABLES}.index") or (not folder and base in _TOP):
        return True
    if folder != "variables" or not base.startswith("variables.data-"):
        return False
    numbers = base.removeprefix("variables.data-").split("-of-")
    return len(numbers) == 2 and all(len(text) >= 5 and text.isascii() and text.isdecimal() for text in numbers)


SAVED_MODEL = Layout(
    "SavedModel",
    (PB,),
    _is_of_saved_model,
    _TOP,
    (("variables", "variables."), ("debug", "saved_model_debug_info.pb")),
    ("assets", "assets.extra"),
)
KERAS = Layout(
    "Keras directory",
    (CONFIG, WEIGHTS),
    (CONFIG, WEIGHTS).__contains__,
    (CONFIG, METADATA, WEIGHTS, NPZ),
    (),
    ("assets",),
)
ALL = (SAVED_MODEL, KERAS)


def _is_model(names: Collection[str]) -> bool:
    return any(set(layout.marks) <= set(names) for layout in ALL)


def _is_within(path: str, folder: str) -> bool:
    return os.path.commonpath([path, folder]) == folder


def _is_foreign(name: str) -> bool:
    return name == _FOREIGN[0] or name.startswith(_FOREIGN[1])
