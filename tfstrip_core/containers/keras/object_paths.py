r"""Object paths as Keras means them, where a file spells them otherwise: Keras 2.12 to 2.15 on Windows.

There the parts of an object's path are joined by backslashes, so that `layers\dense` is one group at the root of the
file and not a group in a group. It is told apart by its object path, and kept or removed under its own name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from tfstrip_core.codecs import hdf5
from tfstrip_core.codecs.hdf5 import Tree
from tfstrip_core.inventory import Finding


@dataclass(frozen=True, slots=True)
class Paths:
    """A tree by object paths, and how the file spells each of them; nothing where it spells them all alike."""

    tree: Tree
    stored: Mapping[str, str]

    def titles(self, fid: Any) -> Callable[[str], str]:
        """Return what reads the `name` attribute of an object's variables: "" where it has none."""

        def title(path: str) -> str:
            place = f"{path}/vars"
            name = hdf5.attribute(hdf5.open_object(fid, self.stored.get(place, place)), "name")
            return name if isinstance(name, str) else ""

        return title

    def in_file(self, finding: Finding) -> Finding:
        """Return the finding with the names that the file has; its subject stays an object path."""
        if not self.stored:
            return finding
        roots = [
            name
            for path, name in self.stored.items()
            if path in self.tree.groups and any(f"{path}/".startswith(f"{root}/") for root in finding.roots)
        ]
        return replace(
            finding,
            tensors=tuple(self.stored[path] for path in finding.tensors),
            roots=tuple(sorted(roots)),
            pairs=tuple((self.stored[weight], self.stored[average]) for weight, average in finding.pairs),
        )


def paths(tree: Tree) -> Paths:
    """Return the tree by object paths. A file in which two objects would get one path stays as it is."""
    stored = {_path(name): name for name in (*tree.groups, *tree.datasets)}
    if len(stored) != len(tree.groups) + len(tree.datasets) or all(path == name for path, name in stored.items()):
        return Paths(tree, {})
    groups = {_path(name) for name in tree.groups}
    datasets = {_path(name): replace(dataset, name=_path(name)) for name, dataset in tree.datasets.items()}
    for path in [*groups, *datasets]:
        parts = path.split("/")
        groups |= {"/".join(parts[:depth]) for depth in range(1, len(parts))}
    if groups & set(datasets):
        return Paths(tree, {})
    return Paths(Tree(datasets, frozenset(groups)), stored)


def _path(name: str) -> str:
    top, slash, rest = name.partition("/")
    return top.replace("\\", "/") + slash + rest
