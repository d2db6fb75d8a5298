"""The files that fixtures/keras_forms.py wrote, unpacked from the archive of each writer."""

import zipfile
from pathlib import Path

from conftest import FIXTURES

FORMS = FIXTURES / "data" / "keras_forms"
WRITERS = sorted(path.parent.name for path in FORMS.glob("*/forms.zip"))


def names(ending: str = "") -> list[tuple[str, str]]:
    """Return (writer, file name) for every model file whose name ends so."""
    found = []
    for writer in WRITERS:
        with zipfile.ZipFile(FORMS / writer / "forms.zip") as archive:
            found += [(writer, name) for name in archive.namelist() if name.endswith(ending) and name[-4:] != ".npz"]
    return found


def unpack(folder: Path, writer: str, name: str) -> str:
    """Write one file of a writer, and its predictions as NAME.npz beside it, into a folder; return its path."""
    with zipfile.ZipFile(FORMS / writer / "forms.zip") as archive:
        for member in (name, f"{name}.npz"):
            archive.extract(member, folder)
    return str(folder / name)


def inner_weights(path: str, target: Path) -> str:
    """Write the weights in a .keras file to a file of their own: what save_weights would have written."""
    with zipfile.ZipFile(path) as archive:
        target.write_bytes(archive.read("model.weights.h5"))
    return str(target)
