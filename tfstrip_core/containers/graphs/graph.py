"""Graphs in files of their own, GraphDefs and MetaGraphDefs: what they hold, compared, reduced to their outputs."""

from __future__ import annotations

import difflib
import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import BinaryIO

from tfstrip_core import rules
from tfstrip_core.codecs import graph_file, graph_heads, meta_graph
from tfstrip_core.codecs.graph_file import GraphFile
from tfstrip_core.codecs.window import blocks
from tfstrip_core.containers.graphs import graph_parts, graph_reach, graph_write
from tfstrip_core.containers.graphs.graph_reach import Kept
from tfstrip_core.containers.saved import saved_closure, saved_code
from tfstrip_core.containers.saved.saved_closure import Graph, source
from tfstrip_core.errors import UsageError, printable
from tfstrip_core.inventory import INFERENCE, Contents, Finding, Inventory, Key, Part, Plan, Scope

_DEBUG = "debug_info"
_INPUTS = frozenset({"Placeholder", "PlaceholderV2", "PlaceholderWithDefault"})
_NEAR = 3
_CARRIED = ("", "meta_info_def", "asset_file_def", "object_graph_def")  # fields that stay as they are


@dataclass(frozen=True, slots=True)
class _Model:
    """A graph, with what it is for: nodes whose values are `outputs`, and `roots`, what has to stay for them.

    Where they are `guessed`, nothing says so; `train` are the nodes that apply gradients.
    """

    file: GraphFile = field(repr=False)
    held: Graph = field(repr=False)
    outputs: tuple[str, ...]
    roots: frozenset[str]
    guessed: bool
    train: frozenset[str]

    @property
    def meta(self) -> bool:
        return self.file.form == graph_heads.META

    def kept(self) -> Kept:
        return graph_reach.kept(self.held, self.roots, self.train, meta=self.meta, sure=not self.guessed)


def _read(path: str, scope: Scope = INFERENCE) -> _Model:
    file = graph_file.read(path)
    held = saved_closure.graph(file.meta)
    held.ancestors(held.nodes)  # all that it names is there
    train = graph_reach.training(held)
    if scope.outputs:
        outputs = tuple(dict.fromkeys(_named(held, name) for name in scope.outputs))
        return _Model(file, held, outputs, frozenset(outputs), False, train)
    signed = [item for item in saved_closure.signatures(file.meta) if item.key != saved_closure.INIT]
    named = [tensor.value for item in signed for tensor in item.value.outputs]
    outputs = tuple(dict.fromkeys(node for tensor in named for node in saved_closure.tensors_of(tensor)))
    if outputs:
        return _Model(file, held, outputs, saved_closure.served(file.meta), False, train)
    outputs = graph_reach.candidates(held, train)
    return _Model(file, held, outputs, frozenset(outputs), True, train)


def _named(held: Graph, name: str) -> str:
    """Return the node that a user calls by its name or by one of its outputs'."""
    node, number = (name, 0) if name in held.nodes else meta_graph.output(name)
    if node not in held.nodes:
        near = difflib.get_close_matches(name, held.nodes, _NEAR, 0.6)
        remedy = f"did you mean {', '.join(map(printable, near))}?" if near else "see tfstrip inspect"
        raise UsageError(f"--output-names {printable(name)} names no node of this graph", remedy)
    if number and not any(
        meta_graph.output(text) == (node, number) for one in held.nodes.values() for text in one.input
    ):
        cause = f"--output-names {printable(name)}: whether {printable(node)} has an output {number} cannot be told"
        raise UsageError(cause, f"name {printable(node)}: all of its outputs stay")
    return node


def endings(_path: str) -> tuple[str, ...]:
    """Return what follows the path in the names of the graph's files: nothing."""
    return ("",)


def beside(_path: str, _target: str) -> dict[str, bytes]:
    """Return nothing: no file beside a graph names it."""
    return {}


def check_whole(_path: str) -> None:
    """Do nothing: a graph has no checksums."""


def inventory(path: str, scope: Scope = INFERENCE) -> Inventory:
    """Return what the graph holds; with `scope.outputs` what these need, else what is recorded or may be its outputs.

    Raises UsageError for an output that is not there.
    """
    model = _read(path, scope)
    kept = model.kept() if scope.outputs or model.train else None
    if kept and not model.outputs:  # all depends on training, or is nothing that could be told
        rest = model.held.nodes.keys() - graph_reach.following(model.train, graph_reach.readers(model.held))
        kept = Kept(frozenset(rest), frozenset(model.held.functions))
    nodes = kept.nodes if kept else frozenset(model.held.nodes)
    findings = (*_training(model, kept, scope), *_paths(model), *_code(model))
    return Inventory(
        path=path,
        format=model.file.form,
        verdict=rules.verdict(findings),
        writer=f"TensorFlow {model.held.meta.meta_info_def.tensorflow_version}".strip(),
        bytes=os.stat(path).st_size,
        tensors=tuple(graph_parts.tensors(model.file, nodes)),
        findings=findings,
        residue_bytes=rules.residue_bytes(findings),
        outputs=model.outputs,
        guessed=model.guessed,
    )


def _training(model: _Model, kept: Kept | None, scope: Scope) -> Iterator[Finding]:
    """Yield what the outputs do not need: where they are asked for all of it, else only if anything trains."""
    if kept is None:
        return
    size = _bytes(model.file, kept)
    if size or kept.gone:
        roots = () if model.guessed else tuple(graph_parts.gone(model.file, model.held, kept))
        applies = len(model.train - kept.nodes)
        what = f"{applies} operations that apply gradients, and what only they need: " if applies else ""
        count = f"{len(model.held.nodes) - len(kept.nodes)} of {len(model.held.nodes)} nodes"
        if not scope.outputs and not model.outputs:
            count += ", at least"
        yield Finding("TFS202", "/", size, what + count, roots=roots)


def _bytes(file: GraphFile, kept: Kept) -> int:
    """Return the bytes of the nodes and functions that do not stay."""
    every = [*file.graph, *(entry for item in file.graph for entry in item.inner if entry.kind)]
    names = {"node": kept.nodes}
    return sum(
        item.end - item.begin
        for item in every
        if item.kind not in ("", "library", _DEBUG) and item.name not in names.get(item.kind, kept.functions)
    )


def _paths(model: _Model) -> Iterator[Finding]:
    found = [item for item in model.file.graph if item.kind == _DEBUG]
    if found:
        size = sum(item.end - item.begin for item in found)
        message = "debug information with the absolute paths of the writer's source files"
        yield Finding("TFS401", _DEBUG, size, message, roots=(_DEBUG,))


def _code(model: _Model) -> Iterator[Finding]:
    nodes = model.held.ancestors(model.roots)
    yield from saved_code.of_nodes(model.held, nodes, model.held.library(nodes))


@contextmanager
def contents(path: str) -> Iterator[Contents]:
    """Open the graph as comparable parts: its constants that are arrays, and all that it says."""
    model = _read(path)
    texts = graph_parts.blocks(model.file) if model.file.form == graph_heads.TEXT else {}
    parts: dict[Key, Part] = {
        ("graph", name): Part(value, _none) for name, value in graph_parts.of_graph(model.file, model.held, texts)
    }
    others = []
    with open(path, "rb", buffering=0) as stored:
        for item in (*model.file.fields, *model.file.graph):
            if item.kind == _DEBUG:
                parts["graph", f"{_DEBUG}@content"] = Part("", _none)
            elif item.kind in _CARRIED:
                others.append(item)
        for number, item in enumerate(others):
            parts["graph", f"graph@part {number}"] = Part(
                "", partial(blocks, stored, item.begin, item.end - item.begin)
            )
        arrays = tuple(graph_parts.tensors(model.file, model.held.nodes.keys()))
        values = {tensor.name: model.file.constants[tensor.name].values for tensor in arrays}
        parts.update(_large(model.file, stored, values))
        for tensor in arrays:
            stretches = model.file.constants[tensor.name].values

            def read(stretches: tuple[tuple[str, int, int], ...] = stretches) -> Iterator[bytes]:
                for _, begin, end in stretches:
                    yield from blocks(stored, begin, end - begin)

            parts["tensor", tensor.name] = Part(f"{tensor.dtype} {list(tensor.shape)}", read, tensor.bytes)
        yield parts


def _large(
    file: GraphFile, stored: BinaryIO, values: Mapping[str, tuple[tuple[str, int, int], ...]]
) -> Iterator[tuple[Key, Part]]:
    """Yield what the outline lacks, but for the `values` compared as a tensor's: of these marks and lengths."""
    for name, (begin, end) in file.large.items():
        ends = [begin, *(place for _, at, to in values.get(name, ()) for place in (at, to)), end]

        def rest(ends: list[int] = ends) -> Iterator[bytes]:
            for at, to in zip(ends[::2], ends[1::2], strict=True):
                yield from blocks(stored, at, to - at)

        yield ("graph", f"node {name}@value"), Part("", rest)


def _none() -> Iterator[bytes]:
    return iter(())


def common(original: str, stripped: str) -> tuple[str, ...]:
    """Return the nodes that two graphs have in common, but for those that only save and restore.

    What these depend on in the original must be in the other one; raises what `inventory` raises.
    """
    before, after = _read(original), _read(stripped)
    files = [
        name for name, node in after.held.nodes.items() if node.op in meta_graph.RESTORES or node.op in meta_graph.SAVES
    ]
    never = graph_reach.following(files, graph_reach.readers(after.held)) if after.meta else frozenset()
    return tuple(name for name in after.held.nodes if name in before.held.nodes and name not in never)


def rewrite(path: str, plan: Plan, target: str) -> list[str]:
    """Write the graph without what the plan drops to `target`, new; return which outputs and placeholders it has."""
    model = _read(path, plan.scope)
    _check_outputs(model)
    reduced = any(finding.rule == "TFS202" for finding in plan.drop)
    every = Kept(frozenset(model.held.nodes), frozenset(graph_parts.functions_of(model.file)))
    kept = model.kept() if reduced else every
    graph_write.write(model.file, model.held, kept, target)
    return list(_notes(model, kept)) if reduced else []


def computes(path: str) -> bool:
    """Return whether the graph has a node that is no input."""
    return any(node.op not in _INPUTS for node in graph_file.read(path).meta.graph_def.node)


def _check_outputs(model: _Model) -> None:
    """Raise UsageError where what was asked for, or is recorded, as an output is an input."""
    for name in model.outputs if not model.guessed else ():
        if model.held.nodes[name].op in _INPUTS:
            raise UsageError(f"{printable(name)} is an input", "name what the model computes, see tfstrip inspect")


def _notes(model: _Model, kept: Kept) -> Iterator[str]:
    yield f"its outputs are {some(model.outputs)}: what they need was kept, {len(kept.nodes)} nodes, each compared"
    given = [name for name, node in model.held.nodes.items() if node.op in ("Placeholder", "PlaceholderV2")]
    needed = model.held.ancestors(model.roots)
    stays, goes = ([name for name in given if (name in needed) == wanted] for wanted in (True, False))
    if stays:
        yield f"to compute them it must be given {some(stays)}"
    if goes:
        yield f"it no longer takes {some(goes)}"
    defaults = [name for name in needed if model.held.nodes[name].op == "PlaceholderWithDefault"]
    if defaults:
        yield f"it may still be given {some(sorted(defaults))}: the defaults are the original's"
    broken = [
        name
        for name, node in model.held.nodes.items()
        if node.op == "NoOp" and name not in kept.nodes and not kept.fills.isdisjoint(map(source, node.input))
    ]
    if broken:
        yield f"{some(broken)} initialized what is gone too, and went: run {some(sorted(kept.fills))}"
    if not kept.nodes.isdisjoint(model.train):
        yield "its outputs depend on operations that apply gradients, which stay"


def some(names: Collection[str]) -> str:
    """Return the first of several names, and how many more there are."""
    shown = list(names)[:10]
    more = f" and {len(names) - len(shown)} more" if len(names) > len(shown) else ""
    return ", ".join(shown) + more
