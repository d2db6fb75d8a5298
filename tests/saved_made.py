"""A SavedModel made by hand, part by part: a model with one weight, an Adam, a metric, and functions that read them."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tfstrip_core.codecs import saved_model, tensor_bundle, tensor_bundle_write
from tfstrip_core.codecs.object_graph import KEY
from tfstrip_core.codecs.protos import bundle_pb2, object_graph_pb2
from tfstrip_core.codecs.protos import meta_graph_pb2 as mg
from tfstrip_core.codecs.protos import saved_model_pb2 as pb
from tfstrip_core.codecs.tensor_bundle import Bundle

FLOAT, STRING, INT64, RESOURCE = 1, 7, 9, 20
W = np.arange(12, dtype="<f4").reshape(3, 4)
VALUES = {"w": W, "m": np.where(W % 2, W, -W), "iterations": np.array(5, "<i8"), "total": np.array(1, "<f4")}


def attr(key: str, **value: object) -> mg.Attribute:
    return mg.Attribute(key=key, value=mg.Value(**value))  # type: ignore[arg-type]


def shape(sizes: Sequence[int]) -> mg.Shape:
    return mg.Shape(dim=[mg.Dim(size=size) for size in sizes])


def strings(name: str, values: Sequence[str]) -> mg.Node:
    tensor = mg.Tensor(dtype=STRING, string_val=[value.encode() for value in values], tensor_shape=shape([len(values)]))
    return mg.Node(name=name, op="Const", attr=[attr("dtype", type=STRING), attr("value", tensor=tensor)])


def variable(name: str, value: np.ndarray, op: str = "VarHandleOp") -> mg.Node:
    dtype = INT64 if value.dtype == "<i8" else FLOAT
    attrs = [attr("dtype", type=dtype), attr("shape", shape=shape(value.shape)), attr("shared_name", s=name.encode())]
    return mg.Node(name=name, op=op, attr=attrs)


def call(name: str, function: str, inputs: Iterable[str]) -> mg.Node:
    return mg.Node(name=name, op="StatefulPartitionedCall", input=inputs, attr=[attr("f", func=mg.Func(name=function))])


def function(name: str, arguments: Sequence[str], nodes: Iterable[mg.Node] = ()) -> pb.Function:
    signature = pb.Operation(name=name, input_arg=[pb.Argument(name=argument) for argument in arguments])
    return pb.Function(signature=signature, node_def=nodes)


def saver(meta: pb.MetaGraph, keys: Mapping[str, str]) -> None:
    """Add operations that restore handles from keys."""
    names, slices = strings("save/names", list(keys.values())), strings("save/slices", [""] * len(keys))
    restore = mg.Node(name="save/restore", op="RestoreV2", input=["save/file", "save/names", "save/slices"])
    meta.graph_def.node.extend([mg.Node(name="save/file", op="Placeholder"), names, slices, restore])
    for at, handle in enumerate(keys):
        meta.graph_def.node.add(
            name=f"save/set_{at}", op="AssignVariableOp", input=[handle, f"save/restore:{at}" if at else "save/restore"]
        )
    meta.graph_def.node.add(name="save/all", op="NoOp", input=[f"^save/set_{at}" for at in range(len(keys))])
    meta.saver_def.filename_tensor_name, meta.saver_def.restore_op_name = "save/file:0", "save/all"


def signature(meta: pb.MetaGraph, inputs: str, outputs: str, key: str = "serving_default") -> None:
    info = pb.SignatureDef()
    info.inputs.add(key="x", value=pb.TensorInfo(name=f"{inputs}:0"))
    info.outputs.add(key="y", value=pb.TensorInfo(name=f"{outputs}:0"))
    meta.signature_def.add(key=key, value=info)


class Made:
    """The SavedModel, to be changed by a test before it is written: `meta`, `objects` and `stored` are messages."""

    def __init__(self, *, train: bool = False, optimizer: str = "_generic_user_object") -> None:
        self.message = pb.SavedModel(saved_model_schema_version=1)
        self.meta = self.message.meta_graphs.add()
        self.meta.meta_info_def.tags.append("serve")
        self.meta.meta_info_def.tensorflow_version = "2.99"
        self.objects = self.meta.object_graph_def
        self.values = dict(VALUES)
        self.keys: dict[int, str] = {}
        self.names: dict[str, int] = {}
        self.full_names = {"iterations": "adam/iteration"}
        root = self.object("root")
        for name, value in VALUES.items():
            self.variable(name, value)
        self.object("optimizer", optimizer)
        self.object("_variables", "trackable_list_wrapper")
        self.object("_trainable_variables", "trackable_list_wrapper")
        self.object("metric", "_tf_keras_metric")
        self.object("metrics", "trackable_list_wrapper")
        self.object("signatures", "signature_map")
        for name, bound in {"__call__": ["w"], "serve": ["w"], **({"train": ["w", "m"]} if train else {})}.items():
            self.function(name, bound)
        assert root == 0
        self.child("root", w="w", optimizer="optimizer", metrics="metrics", signatures="signatures", call="__call__")
        self.child("optimizer", _variables="_variables", _iterations="iterations")
        self.child("optimizer", _trainable_variables="_trainable_variables")
        self.child("_trainable_variables", **{"0": "w"})
        self.child("_variables", **{"0": "iterations", "1": "m"})
        self.child("metrics", **{"0": "metric"})
        self.child("metric", total="total")
        self.child("signatures", serving_default="serve")
        if train:
            self.child("root", train="train")
        graph = self.meta.graph_def
        graph.node.add(name="x", op="Placeholder")
        graph.node.extend(variable(name, value) for name, value in VALUES.items())
        graph.node.append(call("call", "f_serve", ["x", "w"]))
        graph.node.add(name="y", op="Identity", input=["call", "^x"], attr=[attr("_class", list=places("loc:@m"))])
        signature(self.meta, "x", "y")
        saver(self.meta, {name: self.keys[self.names[name]] for name in VALUES})

    def object(self, name: str, identifier: str = "_generic_user_object") -> int:
        self.names[name] = len(self.objects.nodes)
        made = self.objects.nodes.add().user_object
        made.identifier = identifier
        made.MergeFromString(b"\x12\x04\x08\x01\x10\x01")  # its version, which TensorFlow always writes
        return self.names[name]

    def variable(self, name: str, value: np.ndarray) -> None:
        number = self.names[name] = len(self.objects.nodes)
        made = self.objects.nodes.add().variable
        made.dtype, made.name = INT64 if value.dtype == "<i8" else FLOAT, name
        self.values[name] = value
        self.keys[number] = f"{name}/.ATTRIBUTES/VARIABLE_VALUE"

    def function(self, name: str, bound: Sequence[str]) -> None:
        self.names[name] = len(self.objects.nodes)
        self.objects.nodes.add().function.concrete_functions.append(f"f_{name}")
        described = pb.ConcreteFunction(bound_inputs=[self.names[item] for item in bound])
        self.objects.concrete_functions.add(key=f"f_{name}", value=described)
        body = [mg.Node(name="out", op="MatMul", input=["x", *bound])]
        self.meta.graph_def.library.function.append(function(f"f_{name}", ["x", *bound], body))

    def child(self, _holder: str, /, **children: str) -> None:
        for name, child in children.items():
            self.objects.nodes[self.names[_holder]].children.add(node_id=self.names[child], local_name=name)

    def stored(self) -> object_graph_pb2.Graph:
        graph = object_graph_pb2.Graph()
        for number, node in enumerate(self.objects.nodes):
            made = graph.nodes.add()
            for child in node.children:
                made.children.add(node_id=child.node_id, local_name=child.local_name)
            if number in self.keys:
                called = self.full_names.get(node.variable.name, node.variable.name)
                made.attributes.add(name="VARIABLE_VALUE", full_name=called, checkpoint_key=self.keys[number])
        return graph

    def parsed(self) -> pb.SavedModel:
        return saved_model.parse(self.message.SerializeToString())

    def write(self, folder: Path) -> str:
        """Write the model to a directory that is not there yet; return its path."""
        (folder / "variables").mkdir(parents=True)
        (folder / "assets").mkdir()
        (folder / "assets" / "words.txt").write_text("one\n")
        (folder / saved_model.FINGERPRINT).write_bytes(b"stale")
        (folder / saved_model.PB).write_bytes(self.message.SerializeToString(deterministic=True))
        values = {self.keys[self.names[name]]: value for name, value in self.values.items() if name in self.names}
        graph = self.stored().SerializeToString() if self.objects.nodes else None
        bundle(folder / "variables" / "variables", values, graph)
        return str(folder)


def places(*names: str) -> mg.List:
    return mg.List(s=[name.encode() for name in names])


def bundle(prefix: Path, values: Mapping[str, np.ndarray], graph: bytes | None = None) -> None:
    header = bundle_pb2.Header(num_shards=1, version=bundle_pb2.Version(producer=1)).SerializeToString()
    tensors = {
        key: tensor_bundle_write.fresh(INT64 if value.dtype == "<i8" else FLOAT, value.shape, value.tobytes())
        for key, value in values.items()
    }
    if graph is not None:
        tensors[KEY] = tensor_bundle_write.fresh_string(graph)
    tensor_bundle_write.write(Bundle(str(prefix), 1, header, {}), str(prefix), tensors)


def keys(path: str) -> set[str]:
    return set(tensor_bundle.read(f"{path}/variables/variables").entries) - {KEY}


def files(path: str) -> dict[str, bytes]:
    return {str(item.relative_to(path)): item.read_bytes() for item in sorted(Path(path).rglob("*")) if item.is_file()}
