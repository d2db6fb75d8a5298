"""Graphs of TensorFlow 1, made node by node, and the name-based checkpoints that real TensorFlow wrote."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tfstrip_core.codecs import meta_graph, tensor_bundle
from tfstrip_core.codecs.protos import meta_graph_pb2 as pb
from tfstrip_core.inventory import Tensor

HERE = Path(__file__).parent / "fixtures" / "data" / "checkpoints"
FOLDER = Path(os.environ.get("TFSTRIP_CHECKPOINTS") or HERE)
FLOAT, STRING = 1, 7


@dataclass(frozen=True)
class Named:
    """A name-based checkpoint (or one of the first version) of the fixtures, with what its writer said about it."""

    writer: str
    facts: Mapping[str, Any]

    @property
    def id(self) -> str:
        return f"{self.writer}-{self.facts['scenario']}"

    @property
    def prefix(self) -> str:
        return f"{FOLDER}/{self.writer}/{self.facts['prefix']}"

    @property
    def io(self) -> str:
        return f"{FOLDER}/{self.writer}/{self.facts['io']}"

    @property
    def roles(self) -> dict[str, str]:
        return {key: facts["role"] for key, facts in self.facts["keys"].items()}

    def graph(self) -> meta_graph.MetaGraph | None:
        return meta_graph.read(f"{self.prefix}.meta") if self.facts["meta"] else None

    def tensors(self) -> tuple[list[Tensor], dict[str, tuple[object, ...]]]:
        """What judge() is to be given; of the first version as the writer tells it."""
        if self.facts["kind"] == "v1":
            keys = self.facts["keys"].items()
            return [Tensor(key, fact["dtype"], tuple(fact["shape"]), fact["bytes"]) for key, fact in keys], {}
        return of_bundle(self.prefix)


def of_bundle(prefix: str) -> tuple[list[Tensor], dict[str, tuple[object, ...]]]:
    """The tensors and the slices of a checkpoint."""
    entries = tensor_bundle.read(prefix).entries
    tensors = [Tensor(key, entry.type_name, entry.shape, entry.bytes) for key, entry in entries.items()]
    return tensors, {key: entry.slices for key, entry in entries.items() if entry.slices}


def named_checkpoints() -> list[Named]:
    return [
        Named(index.parent.name, facts)
        for index in sorted(FOLDER.glob("*/index.json"))
        for facts in json.loads(index.read_text())
        if facts["kind"] in ("name", "v1")
    ]


def strings(values: Iterable[str], shape: Sequence[int] | None = None) -> pb.Attribute:
    values = [value.encode() for value in values]
    tensor = pb.Tensor(dtype=STRING, string_val=values)
    tensor.tensor_shape.dim.extend(pb.Dim(size=size) for size in ([len(values)] if shape is None else shape))
    return pb.Attribute(key="value", value=pb.Value(tensor=tensor))


def types(count: int, key: str = "dtypes") -> pb.Attribute:
    return pb.Attribute(key=key, value=pb.Value(list=pb.List(type=[FLOAT] * count)))


def beside(name: str) -> pb.Attribute:
    return pb.Attribute(key="_class", value=pb.Value(list=pb.List(s=[f"loc:@{name}".encode()])))


class Builder:
    """A graph that grows by variables, optimizers and a Saver."""

    def __init__(self) -> None:
        self.message = pb.MetaGraph()
        self.saved: dict[str, str] = {}  # key -> variable

    def node(self, name: str, op: str, inputs: Iterable[str] = (), attrs: Iterable[pb.Attribute] = ()) -> str:
        self.message.graph_def.node.add(name=name, op=op, input=inputs, attr=attrs)
        return name

    def variable(self, name: str, place: str = "", key: str = "", collection: str = "variables") -> str:
        self.node(name, "VariableV2", attrs=[beside(place)] if place else [])
        self.node(f"{name}/read", "Identity", [name])
        self.collect(collection, name)
        self.saved[key or name] = name
        return name

    def collect(self, collection: str, name: str) -> None:
        entry = next((item for item in self.message.collection_def if item.key == collection), None)
        entry = entry or self.message.collection_def.add(key=collection)
        entry.value.bytes_list.value.append(pb.Variable(variable_name=f"{name}:0").SerializeToString())

    def apply(self, kind: str, variable: str, *slots: str, rest: Iterable[str] = ()) -> str:
        return self.node(f"update_{variable}", f"Apply{kind}", [variable, *slots, *rest, "gradient"])

    def adam(self, *variables: str, name: str = "Adam") -> None:
        """Slots of an Adam for each variable, as TensorFlow makes and uses them."""
        powers = [self.variable(f"beta{n}_power", variables[0]) for n in (1, 2)]
        for variable in variables:
            slots = [self.variable(f"{variable}/{name}{end}", variable) for end in ("", "_1")]
            self.apply("Adam", variable, *slots, rest=[f"{power}/read" for power in powers])

    def saver(self, scope: str = "save") -> "Builder":
        keys, names = list(self.saved), list(self.saved.values())
        self.node(f"{scope}/Const", "Const", attrs=[strings(["model"], [])])
        for op in ("SaveV2", "RestoreV2"):
            self.node(f"{scope}/{op}/tensor_names", "Const", attrs=[strings(keys)])
            self.node(f"{scope}/{op}/shape_and_slices", "Const", attrs=[strings([""] * len(keys))])
        three = {op: [f"{scope}/Const", f"{scope}/{op}/tensor_names", f"{scope}/{op}/shape_and_slices"]
                 for op in ("SaveV2", "RestoreV2")}  # fmt: skip
        self.node(f"{scope}/SaveV2", "SaveV2", [*three["SaveV2"], *names], [types(len(keys))])
        self.node(f"{scope}/control_dependency", "Identity", [f"{scope}/Const", f"^{scope}/SaveV2"])
        self.node(f"{scope}/RestoreV2", "RestoreV2", three["RestoreV2"], [types(len(keys))])
        for at, name in enumerate(names):
            source = f"{scope}/RestoreV2:{at}" if at else f"{scope}/RestoreV2"
            self.node(f"{scope}/Assign_{at}", "Assign", [name, source], [beside(name)])
        self.node(f"{scope}/restore_all", "NoOp", [f"^{scope}/Assign_{at}" for at in range(len(names))])
        self.message.saver_def.save_tensor_name = f"{scope}/control_dependency:0"
        self.message.saver_def.restore_op_name = f"{scope}/restore_all"
        return self

    def predict(self, *inputs: str) -> None:
        """Something that could be a prediction: nothing reads it."""
        self.node("prediction", "AddN", [f"{name}/read" for name in inputs])

    def proto(self) -> bytes:
        return bytes(self.message.SerializeToString(deterministic=True))

    def graph(self) -> meta_graph.MetaGraph:
        return meta_graph.parse(self.proto())


def tensors_of(names: Iterable[str], shape: tuple[int, ...] = (3, 4)) -> Iterator[Tensor]:
    """Weights of one shape; powers and steps are scalars."""
    for name in names:
        last = name.rpartition("/")[2]
        if last == "global_step":
            yield Tensor(name, "int64", (), 8)
        elif "power" in last or last == "rate":
            yield Tensor(name, "float32", (), 4)
        else:
            yield Tensor(name, "float32", shape, 48)
