"""The .meta file beside a checkpoint of TensorFlow 1, the same for both versions of the format: read and rewritten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

from tfstrip_core.codecs import meta_graph, meta_graph_write
from tfstrip_core.codecs.meta_graph import MetaGraph
from tfstrip_core.errors import Pointer, ProofFailed, Refused, TfstripError
from tfstrip_core.inventory import Plan

META = ".meta"
_POINTER = b"version https://git-lfs"


def is_there(path: str) -> bool:
    """Return whether there is a .meta file beside the checkpoint `path`; raises Refused where that is no file.

    To open a pipe is to wait for whoever writes to it.
    """
    if os.path.lexists(path + META) and not os.path.isfile(path + META):
        raise Refused(f"its {os.path.basename(path + META)} is no file", "remove that, or get a good copy")
    return os.path.lexists(path + META)


def read(path: str) -> MetaGraph | None:
    """Return the graph beside the checkpoint `path`; None where there is none."""
    if not is_there(path):
        return None
    try:
        return meta_graph.read(path + META)
    except TfstripError:
        if is_pointer(path + META):
            raise pointer(path + META) from None
        raise


def is_pointer(path: str) -> bool:
    """Return whether a file is what Git LFS leaves where the object is not there."""
    with open(path, "rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def pointer(path: str) -> Pointer:
    """Return the error for a checkpoint of which this file is not there."""
    return Pointer(
        f"its file {os.path.basename(path)} is a Git LFS pointer and its object is not here",
        "run git lfs pull, in CI check out with lfs: true",
    )


def rewrite(path: str, plan: Plan, target: str) -> Iterator[str]:
    """Write the .meta file, if there is one, beside `target` with a Saver that leaves out what the plan drops.

    Yields what is to be told: that it has changed, or that it is left out itself.
    """
    if not is_there(path):
        return
    if not plan.tensors:
        shutil.copyfile(path + META, target + META)
        return
    try:
        graph = meta_graph.read(path + META)
        text = meta_graph_write.without(graph, plan.tensors)
    except TfstripError as error:
        yield f"its .meta file is left out: it would ask for what is gone, and {error.cause}"
        return
    missing = graph.saved.keys() - plan.tensors - meta_graph.parse(text).saved.keys()
    if missing:  # a bug of ours: the file must ask for all that is kept
        raise ProofFailed(f"the .meta file lost {min(missing)}", "nothing was written; please report this")
    with open(target + META, "xb") as file:
        file.write(text)
    if text != graph.proto:
        yield "its .meta file has changed with it, so that import_meta_graph restores what is left"
