"""What of a SavedModel runs code of its own, or reads and writes files, or speaks to others, when it is loaded or run.

Operations are known by TensorFlow's own registry; what is not on the list below only computes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping

from tfstrip_core.codecs import jsontext, saved_model
from tfstrip_core.codecs.protos import meta_graph_pb2
from tfstrip_core.codecs.saved_model import SavedModel
from tfstrip_core.containers.keras import keras_config
from tfstrip_core.containers.saved import saved_closure
from tfstrip_core.containers.saved.saved_closure import Graph, Node
from tfstrip_core.errors import Unreadable
from tfstrip_core.inventory import Finding

_PYTHON = "calls Python code that is not in the model"
_READS, _WRITES, _SPEAKS = "reads files", "writes files", "speaks to other machines"
_HIDES = "runs a graph that is stored as data"
_DOES: Mapping[str, tuple[str, ...]] = {
    _PYTHON: ("PyFunc", "PyFuncStateless", "EagerPyFunc"),
    _READS: (
        "ReadFile", "MatchingFiles", "MatchingFilesDataset", "ExperimentalMatchingFilesDataset", "CSVDataset",
        "CSVDatasetV2", "ExperimentalCSVDataset", "FixedLengthRecordDataset", "FixedLengthRecordDatasetV2",
        "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "IdentityReader", "IdentityReaderV2", "LMDBDataset",
        "ExperimentalLMDBDataset", "LMDBReader", "LoadDataset", "LoadDatasetV2", "SqlDataset", "ExperimentalSqlDataset",
        "TextLineDataset", "TextLineReader", "TextLineReaderV2", "TFRecordDataset", "TFRecordDatasetV2",
        "TFRecordReader", "TFRecordReaderV2", "WholeFileReader", "WholeFileReaderV2", "Restore", "RestoreSlice",
        "RestoreV2", "DTensorRestoreV2", "CheckpointHasTensor", "LoadAndRemapMatrix", "GenerateVocabRemapping",
        "ImmutableConst", "RecordInput", "Skipgram", "ListSnapshotChunksDataset", "SnapshotChunkDataset",
        "SnapshotDatasetReader", "SnapshotNestedDatasetReader", "InitializeTRTResource",
    ),
    _WRITES: (
        "WriteFile", "CacheDataset", "CacheDatasetV2", "CalibrationStatisticsSaver", "CreateSummaryDbWriter",
        "CreateSummaryFileWriter", "DatasetToTFRecord", "ExperimentalDatasetToTFRecord", "DumpTensor",
        "MergeV2Checkpoints", "Save", "SaveDataset", "SaveDatasetV2", "SaveSlices", "SaveV2", "DistributedSave",
        "SnapshotDataset", "SnapshotDatasetV2", "SerializeTRTResource",
    ),
    _SPEAKS: (
        "Rpc", "TryRpc", "RpcCall", "RpcClient", "RpcServer", "RpcServerStart", "DataServiceDataset",
        "DataServiceDatasetV2", "DataServiceDatasetV3", "DataServiceDatasetV4", "RegisterDataset", "RegisterDatasetV2",
        "BigQueryReader", "GenerateBigQueryReaderPartitions", "KafkaDataset", "FileSystemSetConfiguration",
        "GcsConfigureBlockCache", "GcsConfigureCredentials",
    ),
    _HIDES: ("DatasetFromGraph", "DeserializeIterator"),
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
# Where an attribute says which file is read: what stands for none.
_NAMED: Mapping[str, tuple[str, tuple[bytes, ...]]] = {
    "FixedUnigramCandidateSampler": ("vocab_file", ()),
    "DecodeProtoV2": ("descriptor_source", (b"local://", b"bytes://")),
    "EncodeProto": ("descriptor_source", (b"local://", b"bytes://")),
}
# The text of no characters, and no other field, which could hold another.
_EMPTY = tuple(
    meta_graph_pb2.Tensor(dtype=7, string_val=[b""], **more).SerializeToString()
    for more in ({}, {"tensor_shape": meta_graph_pb2.Shape()})
)
_CACHES = frozenset({"CacheDataset", "CacheDatasetV2"})
_TABLES = frozenset({"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"})
_RESTORERS = frozenset({"RestoreV2", "RestoreSlice", "Restore"})
_SAVERS = frozenset({"SaveV2", "SaveSlices", "Save", "MergeV2Checkpoints"}) | _RESTORERS


def of_graph(held: Graph) -> Iterator[Finding]:
    """Yield what the operations do that loading, serving or calling the model runs, one finding for each kind."""
    every = range(len(held.meta.object_graph_def.nodes))
    nodes = saved_closure.main(held, every)
    yield from of_nodes(held, nodes, saved_closure.functions(held, nodes, every))


def of_nodes(held: Graph, nodes: frozenset[str], functions: frozenset[str]) -> Iterator[Finding]:
    """Yield what these nodes and functions do, and with them the saver, one finding for each kind of operation."""
    found = Counter(_told(held, nodes, functions))
    saver = held.meta.saver_def
    # Loading restores, and must not write; only who asks for it saves.
    for name, own in ((saver.save_tensor_name, _SAVERS), (saver.restore_op_name, _RESTORERS)):
        saving = held.ancestors({saved_closure.source(name)} & held.nodes.keys()) - nodes
        told = Counter(item for item in _told(held, saving, held.library(saving) - functions) if item[0] not in own)
        found |= told
    for (op, does), count in sorted(found.items()):
        more = f" in {count} places" if count > 1 else ""
        yield Finding("TFS501", op, 0, f"the operation {op}{more} {does}")


def _told(held: Graph, nodes: frozenset[str], functions: frozenset[str]) -> Iterator[tuple[str, str]]:
    assets = {name for asset in saved_closure.assets(held.meta) for name in saved_closure.tensors_of(asset.tensor_info)}
    for name in nodes:
        yield from _does(held.nodes[name], held, held.nodes, assets)
    for name in functions:
        body = held.functions[name].node_def
        within = {node.name: node for node in body}
        for node in body:
            yield from _does(node, held, within, set())


def _does(node: Node, held: Graph, within: Mapping[str, Node], assets: Collection[str]) -> Iterator[tuple[str, str]]:
    """Yield an operation and what it does, where that is more than to compute."""
    if node.op in _OPS:
        if node.op not in _CACHES or _constant(node, within)[1] != b"":  # else in memory
            yield node.op, _OPS[node.op]
    elif node.op in _TABLES or node.op in _NAMED:
        if _reads(node, within, assets):
            yield node.op, _READS
    elif node.op in _PLACES:
        said = [place for attr in node.attr if attr.key in _PLACES[node.op]
                for place in (attr.value.s, *attr.value.list.s)]  # fmt: skip
        for does, beginning in ((_WRITES, _FILE), (_SPEAKS, _REMOTE)):
            if any(place.startswith(beginning) for place in said):
                yield node.op, does
    elif ">" in node.op and node.op not in held.functions:  # how libraries name theirs, and TensorFlow none
        yield node.op, "comes from a library beside TensorFlow"


def _reads(node: Node, within: Mapping[str, Node], assets: Collection[str]) -> bool:
    """Whether an operation reads a file that is none of the model's assets."""
    if node.op in _TABLES:
        name, text = _constant(node, within)
        return text is not None and name not in assets
    key, none = _NAMED[node.op]
    return any(attr.key == key and attr.value.s and not attr.value.s.startswith(none) for attr in node.attr)


def _constant(node: Node, within: Mapping[str, Node]) -> tuple[str, bytes | None]:
    """Return which node gives a node's second input, and its one text where that is a constant."""
    name = saved_closure.source(node.input[1]).partition(":")[0] if len(node.input) > 1 else ""
    given = within.get(name)
    if given is None or given.op != "Const":
        return name, None
    tensors = [attr.value.tensor for attr in given.attr if attr.key == "value"]
    if len(tensors) != 1 or len(tensors[0].string_val) != 1:
        return name, b"?"
    return name, tensors[0].string_val[0] or (b"" if tensors[0].SerializeToString() in _EMPTY else b"?")


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


def never_run() -> Mapping[str, str]:
    """Return the operations that must not be run for a comparison, each with what it does.

    Reading counts: what a hostile model reads of this machine it can show in what it gives or says.
    """
    return _OPS
