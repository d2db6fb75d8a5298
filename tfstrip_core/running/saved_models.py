"""SavedModels in a process of their own: the loader of TensorFlow 2, and the one of sessions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from tfstrip_core.running import tensors
from tfstrip_core.running.functions import Function, Given
from tfstrip_core.running.inputs import Shape, Want

_SPECIAL = ("__saved_model_init_op", "__saved_model_train_op")
_DEEP = 2  # how far below the root functions are looked for
_INNER = ("signatures", "keras_api", "variables", "trainable_variables")
# How operations begin that change what a later call reads.
_CHANGES = ("Assign", "ResourceApply", "ResourceScatter", "ResourceSparse", "LookupTableI", "LookupTableR", "Mutable")
_RANDOM_SEED = 11


def objects(request: Mapping[str, Any]) -> Iterator[Function]:
    """Yield the signatures of a SavedModel as tf.saved_model.load restores them, then its other functions."""
    every = _tag_sets(request["path"])
    for tags in every:
        loaded = _loaded(request["path"], tags)
        for name, function in sorted(loaded.signatures.items()):
            yield Function(_named(tags, name), *_restored(function), signature=_serves(tags, every))
        if tags == ["serve"]:
            yield from _others(loaded)


def _loaded(path: str, tags: list[str]) -> Any:
    """Load a SavedModel as an object; Keras 2 says how to restore what it wrote once it is imported itself."""
    import tensorflow as tf

    try:
        return tf.saved_model.load(path, tags)
    except AttributeError:
        if not str(getattr(tf.keras, "__version__", "2.")).startswith("2."):
            raise
        return tf.saved_model.load(path, tags)


def _tag_sets(path: str) -> list[list[str]]:
    return [sorted(one.meta_info_def.tags) for one in _meta_graphs(path)]


def _meta_graphs(path: str) -> list[Any]:
    from tensorflow.python.saved_model import loader_impl

    return list(loader_impl.parse_saved_model(path).meta_graphs)


def _serves(tags: list[str], every: list[list[str]]) -> bool:
    """Whether the signatures of a MetaGraph are there to be served: the others are for training and evaluation."""
    return "serve" in tags if any("serve" in one for one in every) else "train" not in tags


def _named(tags: list[str], name: str) -> str:
    """Name a signature: with the tags of its MetaGraph, unless that is the one that serves."""
    return name if tags == ["serve"] else f"{'+'.join(tags)}:{name}"


def _shape(shape: Any) -> Shape | None:
    return None if shape.rank is None else tuple(shape.as_list())


def _restored(function: Any) -> tuple[tuple[Want, ...], Any]:
    specs = dict(sorted(function.structured_input_signature[1].items()))
    wants = tuple(tensors.want(name, spec) for name, spec in specs.items())

    def run(given: Given) -> dict[str, Any]:
        found = function(
            **{want.name: tensors.tensor(given[want.name], want.dtype, specs[want.name]) for want in wants}
        )
        return _flat(dict(sorted(found.items())))

    return wants, run


def _flat(found: dict[str, Any]) -> dict[str, Any]:
    """Return outputs as arrays; what is ragged or sparse as its parts."""
    import tensorflow as tf

    parts = {name: tf.nest.flatten(value, expand_composites=True) for name, value in found.items()}
    return {
        name if len(several) == 1 else f"{name}/{number}": tensors.array(one)
        for name, several in parts.items()
        for number, one in enumerate(several)
    }


def _others(loaded: Any) -> Iterator[Function]:
    """Yield the functions that are attributes of the loaded objects, near the root."""
    seen = {id(loaded)}
    queue = [("", loaded, 0)]
    names: dict[str, int] = {}
    while queue:
        path, thing, depth = queue.pop(0)
        for name, child in sorted(vars(thing).items()):
            if name in _INNER or id(child) in seen:
                continue
            where = f"{path}.{name}" if path else name
            if hasattr(child, "concrete_functions"):
                seen.add(id(child))
                for concrete in child.concrete_functions:
                    found = _other(where, child, concrete, loaded)
                    names[found.name] = count = names.get(found.name, 0) + 1
                    yield replace(found, name=f"{found.name} #{count}") if count > 1 else found
            elif depth < _DEEP and type(child).__module__.startswith("tensorflow.python.saved_model.load"):
                seen.add(id(child))
                queue.append((where, child, depth + 1))


def _other(path: str, function: Any, concrete: Any, loaded: Any) -> Function:
    """Return one of the traces of a function: its tensors are arguments, all else is as it was when it was traced.

    The variables live as long as what was loaded does.
    """
    import tensorflow as tf

    structure = concrete.structured_input_signature
    leaves = tf.nest.flatten(structure)
    said = ", ".join(_leaf(leaf) for leaf in leaves)
    name = f"{path}({said})"
    specs = [leaf for leaf in leaves if isinstance(leaf, tf.TypeSpec)]
    if not all(map(tensors.takes_tensor, specs)):
        return Function(name, (), _never, signature=False, error="it takes something else than tensors")
    if any(op.startswith(_CHANGES) for op in _ops(concrete)):
        return Function(name, (), _never, signature=False, error="it changes variables, so it is not run")
    wants = tuple(tensors.want(f"x{number}", spec) for number, spec in enumerate(specs))

    def run(given: Given, _kept: Any = loaded) -> dict[str, Any]:
        made = iter([tensors.tensor(given[w.name], w.dtype, spec) for w, spec in zip(wants, specs, strict=True)])
        filled = [next(made) if isinstance(leaf, tf.TypeSpec) else leaf for leaf in leaves]
        args, kwargs = tf.nest.pack_sequence_as(structure, filled)
        found = tf.nest.flatten(function(*args, **kwargs), expand_composites=True)
        return {str(number): tensors.array(value) for number, value in enumerate(found) if value is not None}

    return Function(name, wants, run, signature=False)


def _leaf(leaf: Any) -> str:
    """Return an argument of a trace for its name."""
    if not hasattr(leaf, "dtype") or not hasattr(leaf, "shape"):
        return repr(leaf)[:40]
    return str(tensors.want("", leaf)).removeprefix(": ")


def _ops(concrete: Any) -> set[str]:
    graph = concrete.graph.as_graph_def()
    nodes = [graph.node, *(function.node_def for function in graph.library.function)]
    return {node.op for several in nodes for node in several}


def _never(_: Given) -> dict[str, Any]:
    raise NotImplementedError


def signatures(request: Mapping[str, Any]) -> Iterator[Function]:
    """Yield the signatures of a SavedModel as a session of TensorFlow 1 runs them, each in a session of its own."""
    graphs = _meta_graphs(request["path"])
    every = [list(graph.meta_info_def.tags) for graph in graphs]
    for graph in graphs:
        tags = sorted(graph.meta_info_def.tags)
        placeholders = {
            node.name: node.attr["shape"].shape for node in graph.graph_def.node if node.op.startswith("Placeholder")
        }
        for name, signature in sorted(graph.signature_def.items()):
            if name not in _SPECIAL:
                found = _of_session(request["path"], tags, name, signature, placeholders)
                yield replace(found, signature=_serves(tags, every))


def _of_session(path: str, tags: list[str], name: str, signature: Any, placeholders: Mapping[str, Any]) -> Function:
    import tensorflow as tf

    infos = dict(sorted(signature.inputs.items()))
    odd = any(info.HasField("composite_tensor") for info in infos.values())
    wants = tuple(
        Want(key, tf.as_dtype(info.dtype).base_dtype.name, _fed(info, placeholders)) for key, info in infos.items()
    )
    opened: list[Any] = []

    def run(given: Given) -> dict[str, Any]:
        tf1 = tf.compat.v1
        if not opened:
            with tf.Graph().as_default() as graph:
                tf1.set_random_seed(_RANDOM_SEED)
                session = tf1.Session(graph=graph)
                tf1.saved_model.load(session, tags, path)
            opened.append(session)
        (session,) = opened
        get = session.graph.get_tensor_by_name
        feed = {get(name): one for key, array in given.items() for name, one in _feed(infos[key], array)}
        parts = {
            (key if len(several) == 1 else f"{key}/{number}"): get(one)
            for key, info in sorted(signature.outputs.items())
            for several in [_fetched(info)]
            for number, one in enumerate(several)
        }
        return dict(zip(parts, session.run(list(parts.values()), feed), strict=True))

    return Function(_named(tags, name), wants, run, error="it takes something else than tensors" if odd else "")


def _fed(info: Any, placeholders: Mapping[str, Any]) -> Shape | None:
    """Return the shape of an input: the placeholder's own where that says more, as signatures may leave it out."""
    import tensorflow as tf

    said = placeholders.get(info.name.partition(":")[0])
    if said is not None and said.dim and not info.tensor_shape.dim:
        return _shape(tf.TensorShape(said))
    return _shape(tf.TensorShape(info.tensor_shape))


def _feed(info: Any, array: Any) -> list[tuple[str, Any]]:
    """Return the names of the tensors behind an input, each with what it gets."""
    import numpy as np

    if not info.HasField("coo_sparse"):
        return [(info.name, array)] if info.name else []
    sparse, at = info.coo_sparse, np.argwhere(array != array.dtype.type())
    return [
        (sparse.values_tensor_name, array[tuple(at.T)]),
        (sparse.indices_tensor_name, at),
        (sparse.dense_shape_tensor_name, np.array(array.shape)),
    ]


def _fetched(info: Any) -> list[str]:
    """Return the names of the tensors behind a TensorInfo."""
    if info.HasField("coo_sparse"):
        sparse = info.coo_sparse
        return [sparse.values_tensor_name, sparse.indices_tensor_name, sparse.dense_shape_tensor_name]
    if info.HasField("composite_tensor"):
        return [one.name for one in info.composite_tensor.components]
    return [info.name]
