"""What of a SavedModel runs code of its own, or reads and writes files, or speaks to others, when it is loaded or run.

Operations are known by TensorFlow's own registry; what is not on the list below only computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from tfstrip_core.codecs import jsontext, saved_model
from tfstrip_core.codecs.saved_model import SavedModel
from tfstrip_core.containers.keras import keras_config
from tfstrip_core.containers.saved import saved_closure
from tfstrip_core.containers.saved.saved_closure import Graph, Node
from tfstrip_core.errors import Unreadable
from tfstrip_core.inventory import Finding

_PYTHON = "calls Python code that is not in the model"
_READS, _WRITES, _SPEAKS = "reads files", "writes files", "speaks to other machines"
_DOES: Mapping[str, tuple[str, ...]] = {
    _PYTHON: ("PyFunc", "PyFuncStateless", "EagerPyFunc"),
    _READS: (
        "ReadFile", "MatchingFiles", "MatchingFilesDataset", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "IdentityReader", "LMDBDataset", "LMDBReader",
        "LoadDataset", "LoadDatasetV2", "SqlDataset", "TextLineDataset", "TextLineReader", "TextLineReaderV2",
        "TFRecordDataset", "TFRecordDatasetV2", "TFRecordReader", "TFRecordReaderV2", "WholeFileReader",
        "WholeFileReaderV2", "Restore", "RestoreSlice", "RestoreV2", "CheckpointHasTensor",
    ),
    _WRITES: (
        "WriteFile", "CreateSummaryDbWriter", "CreateSummaryFileWriter", "DatasetToTFRecord", "MergeV2Checkpoints",
        "Save", "SaveDataset", "SaveDatasetV2", "SaveSlices", "SaveV2", "DistributedSave",
    ),
    _SPEAKS: (
        "Rpc", "TryRpc", "RpcCall", "RpcClient", "RpcServer", "RpcServerStart", "DataServiceDataset",
        "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4", "RegisterDataset", "RegisterDatasetV2",
        "BigQueryReader", "KafkaDataset",
    ),
}  # fmt: skip
_OPS = {op: does for does, ops in _DOES.items() for op in ops}
# Where an attribute says whether an operation writes somewhere: the attribute, and what its values begin with.
_PLACES: Mapping[str, tuple[str, ...]] = {
    "PrintV2": ("output_stream",),
    "DebugIdentity": ("debug_urls",),
    "DebugIdentityV2": ("debug_urls",),
    "DebugIdentityV3": ("debug_urls",),
    "DebugNanCount": ("debug_urls",),
    "DebugNumericSummary": ("debug_urls",),
}
_FILE, _REMOTE = (b"file:",), (b"grpc:",)
_SAVERS = frozenset({"SaveV2", "SaveSlices", "Save", "RestoreV2", "RestoreSlice", "Restore", "MergeV2Checkpoints"})


def of_graph(held: Graph) -> Iterator[Finding]:
    """Yield what the operations do that loading, serving or calling the model runs, one finding for each kind."""
    every = range(len(held.meta.object_graph_def.nodes))
    nodes = saved_closure.main(held, every)
    yield from of_nodes(held, nodes, saved_closure.functions(held, nodes, every))


def of_nodes(held: Graph, nodes: frozenset[str], functions: frozenset[str]) -> Iterator[Finding]:
    """Yield what these nodes and functions do, and with them the saver, one finding for each kind of operation."""
    found = Counter(_told(held, nodes, functions))
    saver = held.meta.saver_def
    ends = {saved_closure.source(name) for name in (saver.save_tensor_name, saver.restore_op_name) if name}
    saving = held.ancestors(ends & held.nodes.keys()) - nodes
    found += Counter(item for item in _told(held, saving, held.library(saving)) if item[0] not in _SAVERS)
    for (op, does), count in sorted(found.items()):
        more = f" in {count} places" if count > 1 else ""
        yield Finding("TFS501", op, 0, f"the operation {op}{more} {does}")


def _told(held: Graph, nodes: frozenset[str], functions: frozenset[str]) -> Iterator[tuple[str, str]]:
    for name in nodes:
        yield from _does(held.nodes[name], held)
    for name in functions:
        for node in held.functions[name].node_def:
            yield from _does(node, held)


def _does(node: Node, held: Graph) -> Iterator[tuple[str, str]]:
    """Yield an operation and what it does, where that is more than to compute."""
    if node.op in _OPS:
        yield node.op, _OPS[node.op]
    elif node.op in _PLACES:
        said = [place for attr in node.attr if attr.key in _PLACES[node.op]
                for place in (attr.value.s, *attr.value.list.s)]  # fmt: skip
        for does, beginning in ((_WRITES, _FILE), (_SPEAKS, _REMOTE)):
            if any(place.startswith(beginning) for place in said):
                yield node.op, does
    elif ">" in node.op and node.op not in held.functions:  # how libraries name theirs, and TensorFlow none
        yield node.op, "comes from a library beside TensorFlow"


def of_keras(model: SavedModel) -> Iterator[Finding]:
    """Yield the layers that Keras makes from code of their own."""
    told: dict[tuple[str, str], None] = {}
    for node in model.keras.nodes if model.keras else ():
        try:
            said = jsontext.parse(node.metadata, f"{saved_model.KERAS}'s entry {node.node_path}")
        except Unreadable:
            continue  # Keras alone reads it
        told.update(dict.fromkeys(keras_config.code(keras_config.entries(said))))
    for subject, what in told:
        yield Finding("TFS501", subject, 0, what)


def never_run() -> dict[str, str]:
    """Return the operations that must not be run for a comparison, each with what it does; reading is harmless."""
    return {op: does for op, does in _OPS.items() if does != _READS}
