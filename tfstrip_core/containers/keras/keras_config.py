"""What a Keras config (config.json, model_config) says: which models are compiled, with what, and whose code it needs.

Configs are plain JSON and hostile; every step checks the type of what it finds.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

Json = dict[str, Any]

# Modules whose classes every TensorFlow installation brings.
_OWN_MODULES = ("keras", "tf_keras", "tensorflow", "builtins", "numpy")
_WORD_START = re.compile(r"(?<=.)(?=[A-Z][a-z])|(?<=[a-z])(?=[A-Z])")

# The classes that Keras and tf.keras have shipped, by their name in lower case.
OPTIMIZERS = frozenset(
    [
        "adadelta",
        "adafactor",
        "adagrad",
        "adam",
        "adamax",
        "adamw",
        "ftrl",
        "lamb",
        "lion",
        "lossscaleoptimizer",
        "lossscaleoptimizerv1",
        "lossscaleoptimizerv3",
        "multioptimizer",
        "muon",
        "nadam",
        "rmsprop",
        "schedulefreeadamw",
        "sgd",
    ]
)


def snake_case(name: str) -> str:
    """Return a class name as Keras spells it in object paths: `MultiHeadAttention` as `multi_head_attention`."""
    return _WORD_START.sub("_", re.sub(r"\W+", "", name)).lower()


def is_entry(value: Any) -> bool:
    """Return whether `value` is a serialized object: a class name beside its config."""
    return (
        isinstance(value, dict) and isinstance(value.get("class_name"), str) and isinstance(value.get("config"), dict)
    )


def entries(config: Any) -> Iterator[tuple[str, Json]]:
    """Yield every serialized object in `config`, a dict or list, with its JSON pointer, the outermost first."""
    if not isinstance(config, (dict, list)):
        return
    queue: list[tuple[tuple[Any, ...], Any]] = [((), config)]
    while queue:
        path, value = queue.pop()
        if is_entry(value):
            yield "".join(f"/{str(key).replace('~', '~0').replace('/', '~1')}" for key in path), value
        children = list(value.items() if isinstance(value, dict) else enumerate(value))
        queue += [((*path, key), child) for key, child in reversed(children) if isinstance(child, (dict, list))]


def compiled(found: Iterable[tuple[str, Json]]) -> Iterator[tuple[str, Json]]:
    """Yield each of the entries that is a model with a compile_config, with the pointer of that compile_config.

    A key of that name inside a `config` is a layer's own argument and none of ours; it is the one beside
    `class_name` and `config` that Keras compiles by.
    """
    for pointer, entry in found:
        if entry.get("compile_config") is not None:
            yield f"{pointer}/compile_config", entry


def own_name(entry: Json) -> str:
    """Return the entry's class name without the package it was registered under."""
    return str(entry["class_name"]).rpartition(">")[2]


def layers(entry: Json) -> list[Json]:
    """Return the serialized layers of a serialized Sequential or Functional model; [] for anything else."""
    found = entry["config"].get("layers")
    return [layer for layer in found if is_entry(layer)] if isinstance(found, list) else []


def named_layers(entry: Json) -> Iterator[tuple[str, Json]]:
    """Yield each layer with the name that Keras's object paths give it: class in snake case, counted per class."""
    seen: dict[str, int] = {}
    for layer in layers(entry):
        if ".ops" in str(layer.get("module")):
            continue  # an operation, not a layer: not an element of `layers`
        name = snake_case(own_name(layer))
        count = seen.get(name, 0)
        seen[name] = count + 1
        yield (f"{name}_{count}" if count else name), layer


def owner(config: Any, path: str) -> Json | None:
    """Return the serialized object at an object path such as `layers/sequential` ("" is the root), or None.

    Steps follow what Keras does: an element of `layers` by class and order, any other part an argument of that
    name that is itself a serialized object.
    """
    entry: Json | None = config if is_entry(config) else None
    parts = path.split("/") if path else []
    while entry is not None and parts:
        part = parts.pop(0)
        if part in ("layers", "_layer_checkpoint_dependencies") and parts:
            element = parts.pop(0)
            entry = dict(named_layers(entry)).get(element) if part == "layers" else _by_double_count(entry, element)
        else:
            inner = entry["config"].get(part)
            entry = inner if is_entry(inner) else None
    return entry


def _by_double_count(entry: Json, element: str) -> Json | None:
    """Keras 2.12 and 2.13 list every layer with weights twice, so that the counts in their paths go up by two."""
    name, _, count = element.rpartition("_")
    if not count.isdecimal():
        name, count = element, "0"
    alike = [layer for layer in layers(entry) if snake_case(own_name(layer)) == name]
    place, odd = divmod(int(count[:9]), 2)
    return alike[place] if not odd and place < len(alike) else None


def optimizers(value: Any) -> Iterator[tuple[str, Json, bool]]:
    """Yield (class, config, whether it is the framework's own) for every optimizer named in a compile config.

    `value` is a compile_config, a training_config or what lies under their `optimizer`: Keras writes the class
    as `adam`, as `Adam`, or as a serialized object; Keras 2.11 to 2.15 register theirs as `Custom>Adam`.
    """
    if not isinstance(value, dict):
        return
    for key in ("optimizer", "optimizer_config"):
        found = value.get(key)
        if isinstance(found, str):
            yield found, {}, found.lower() in OPTIMIZERS
    for _, entry in entries(value):
        module = str(entry.get("module"))
        if ("optimizer" in module and "schedule" not in module) or own_name(entry).lower() in OPTIMIZERS or entry in (
            value.get("optimizer"), value.get("optimizer_config"),
        ):  # fmt: skip
            yield own_name(entry), entry["config"], _is_own(entry)


def _is_own(entry: Json) -> bool:
    module, package = entry.get("module"), str(entry.get("registered_name") or entry["class_name"]).rpartition(">")[0]
    known = own_name(entry).lower() in OPTIMIZERS
    return known and package in ("", "Custom", "Addons") and (module is None or _is_own_module(module))


def _is_own_module(module: Any) -> bool:
    return isinstance(module, str) and module.split(".")[0] in _OWN_MODULES


def is_opaque(value: Any) -> bool:
    """Return whether a compile config leaves open what its optimizer keeps: it names none, or one not of Keras."""
    named = list(optimizers(value))
    return not named or any(not own for _, _, own in named)


def uses_averages(value: Any) -> bool:
    """Return whether any optimizer of a compile config keeps an exponential moving average of the weights."""
    return any(config.get("use_ema") is True for _, config, _ in optimizers(value))


def is_framework_class(entry: Json) -> bool:
    """Return whether the entry is a class of Keras itself, not a user's class of the same name."""
    module = entry.get("module")
    return (module is None or _is_own_module(module)) and ">" not in str(entry.get("registered_name") or "")


def code(found: Iterable[tuple[str, Json]]) -> Iterator[tuple[str, str]]:
    """Yield (layer's name, what it runs or imports) for each of the entries that needs code of its own."""
    for pointer, entry in found:
        name = entry["config"].get("name")
        subject = name if isinstance(name, str) else pointer.rpartition("/")[2] or own_name(entry)
        module = entry.get("module")
        if own_name(entry) in ("Lambda", "__lambda__"):
            yield subject, "a Lambda layer runs Python code that is stored in the model"
        elif isinstance(module, str) and not _is_own_module(module):
            yield subject, f"class {own_name(entry)} is imported from the module {module}"
