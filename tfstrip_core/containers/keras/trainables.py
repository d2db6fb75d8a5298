"""Which stored arrays are a Keras model's trainable weights, and in which order, where its config leaves no doubt.

Only Sequential and Functional models of layers whose variables are known by class qualify. A guess here would put
one weight's average into another.
"""

from __future__ import annotations

from typing import Any

from tfstrip_core.codecs.hdf5 import Tree
from tfstrip_core.containers.keras import keras_config
from tfstrip_core.containers.keras.keras_config import Json
from tfstrip_core.containers.keras.optimizer_groups import variables

_MODELS = ("Sequential", "Functional", "Model")
_RECURRENT = ("LSTM", "GRU", "SimpleRNN")
_BIASED = {
    "Dense": 1, "Conv1D": 1, "Conv2D": 1, "Conv3D": 1, "Conv1DTranspose": 1, "Conv2DTranspose": 1,
    "Conv3DTranspose": 1, "DepthwiseConv1D": 1, "DepthwiseConv2D": 1, "SeparableConv1D": 2, "SeparableConv2D": 2,
}  # fmt: skip
_NORMALIZATIONS = ("BatchNormalization", "LayerNormalization", "GroupNormalization")


def trainables(tree: Tree, model: Json, prefix: str) -> list[str] | None:
    """Return the dataset names of the trainable weights of `model`, stored under `prefix`, in the model's order.

    None where a layer with variables is not one that is known here, or its variables are not the expected ones.
    """
    if keras_config.own_name(model) not in _MODELS or not keras_config.is_framework_class(model):
        return None
    found: list[str] = []
    held = variables(tree)
    for name, layer in keras_config.named_layers(model):
        path = f"{prefix}layers/{name}"
        inner: list[str] | None
        if not any(stored.startswith(f"{path}/") for stored in tree.datasets):
            inner = []
        elif keras_config.own_name(layer) in _MODELS:
            inner = trainables(tree, layer, f"{path}/")
        else:
            inner = _of_layer(layer, path, {owner: [d.name for d in found_] for owner, found_ in held.items()})
        if inner is None:
            return None
        if layer["config"].get("trainable", True) is True:
            found += inner
    return found


def _of_layer(layer: Json, path: str, held: dict[str, list[str]]) -> list[str] | None:
    if not keras_config.is_framework_class(layer):
        return None
    config, kind = layer["config"], keras_config.own_name(layer)
    place = f"{path}/cell" if kind in _RECURRENT else path
    owners = [owner for owner in held if owner == path or owner.startswith(f"{path}/")]
    count, stored = _counts(kind, config)
    if owners != [place] or count is None or len(held[place]) != stored or config.get("lora_rank"):
        return None
    return held[place][:count]


def _counts(kind: str, config: dict[str, Any]) -> tuple[int | None, int]:
    """Return how many of a layer's variables are trainable, and how many there are; (None, 0) if unknown."""
    if kind in _BIASED:
        count = _BIASED[kind] + bool(config.get("use_bias", True))
        return count, count
    if kind in _RECURRENT:
        count = 2 + bool(config.get("use_bias", True))
        return count, count
    if kind == "Embedding":
        return 1, 1
    if kind in _NORMALIZATIONS:
        count = bool(config.get("scale", True)) + bool(config.get("center", True))
        return count, count + (2 if kind == "BatchNormalization" else 0)
    return None, 0
