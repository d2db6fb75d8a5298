"""A fresh saver for a graph: plain operations that restore its variables from a checkpoint, and save them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tfstrip_core.codecs.protos import meta_graph_pb2 as pb
from tfstrip_core.codecs.protos import saved_model_pb2
from tfstrip_core.containers.saved.saved_saver import Handle

_STRING = 7
_VERSION_2 = 2


class _Nodes:
    """Nodes under one scope, as they are made."""

    def __init__(self, scope: str) -> None:
        self.scope = scope
        self.made: list[pb.Node] = []

    def add(self, name: str, op: str, inputs: Sequence[str] = (), **attrs: pb.Value) -> str:
        """Add a node and return its name."""
        values = [pb.Attribute(key=key, value=value) for key, value in sorted(attrs.items())]
        self.made.append(pb.Node(name=f"{self.scope}/{name}", op=op, input=inputs, attr=values))
        return f"{self.scope}/{name}"

    def strings(self, name: str, values: Sequence[str]) -> str:
        """Add a constant vector of strings."""
        tensor = pb.Tensor(dtype=_STRING, string_val=[text.encode("utf-8", "surrogateescape") for text in values])
        tensor.tensor_shape.dim.add(size=len(values))
        return self.add(name, "Const", dtype=pb.Value(type=_STRING), value=pb.Value(tensor=tensor))


def _types(types: Sequence[int]) -> pb.Value:
    return pb.Value(list=pb.List(type=types))


def write(meta: saved_model_pb2.MetaGraph, handles: Sequence[Handle], taken: Collection[str]) -> dict[str, str]:
    """Add a saver of these handles to a MetaGraph, which then has no other; return what assigns each handle.

    `taken` are names of nodes, whose first part the saver must not have. The same call adds the same nodes.
    """
    first = {name.split("/", 1)[0] for name in taken}
    scope = next(name for name in ("saver", *(f"saver_{n}" for n in range(1, len(first) + 2))) if name not in first)
    nodes = _Nodes(scope)
    filename = nodes.add("filename", "Placeholder", dtype=pb.Value(type=_STRING), shape=pb.Value(shape=pb.Shape()))
    keys = [key for handle in handles for key in handle.keys]
    types = [dtype for handle in handles for dtype in handle.types]
    assigns: dict[str, str] = {}
    tensor = filename
    if handles:
        names = nodes.strings("names", keys)
        cuts = nodes.strings("slices", [handle.cut for handle in handles for _ in handle.keys])
        restored = nodes.add("restored", "RestoreV2", [filename, names, cuts], dtypes=_types(types))
        outputs = [f"{restored}:{number}" if number else restored for number in range(len(keys))]
        current: list[str] = []
        for number, handle in enumerate(handles):
            assigns[handle.node] = _assign(nodes, number, handle, [outputs.pop(0) for _ in handle.keys])
            current += _current(nodes, number, handle)
        saved = nodes.add("saved", "SaveV2", [filename, names, cuts, *current], dtypes=_types(types))
        tensor = nodes.add("path", "Identity", [filename, f"^{saved}"], T=pb.Value(type=_STRING))
    else:
        tensor = nodes.add("path", "Identity", [filename], T=pb.Value(type=_STRING))
    done = nodes.add("restore", "NoOp", [f"^{name}" for name in assigns.values()])
    meta.graph_def.node.extend(nodes.made)
    meta.saver_def.Clear()
    meta.saver_def.filename_tensor_name = f"{filename}:0"
    meta.saver_def.save_tensor_name = f"{tensor}:0"
    meta.saver_def.restore_op_name = done
    meta.saver_def.version = _VERSION_2
    return assigns


def _assign(nodes: _Nodes, number: int, handle: Handle, values: Sequence[str]) -> str:
    types = [pb.Value(type=dtype) for dtype in handle.types]
    if len(handle.keys) > 1:
        return nodes.add(f"set_{number}", "LookupTableImportV2", [handle.node, *values], Tin=types[0], Tout=types[1])
    if handle.op == "VarHandleOp":
        return nodes.add(f"set_{number}", "AssignVariableOp", [handle.node, *values], dtype=types[0])
    return nodes.add(f"set_{number}", "Assign", [handle.node, *values], T=types[0])


def _current(nodes: _Nodes, number: int, handle: Handle) -> list[str]:
    """Return the outputs that are the handle's value as it is."""
    types = [pb.Value(type=dtype) for dtype in handle.types]
    if len(handle.keys) > 1:
        read = nodes.add(f"get_{number}", "LookupTableExportV2", [handle.node], Tkeys=types[0], Tvalues=types[1])
        return [read, f"{read}:1"]
    if handle.op == "VarHandleOp":
        return [nodes.add(f"get_{number}", "ReadVariableOp", [handle.node], dtype=types[0])]
    return [handle.node]
