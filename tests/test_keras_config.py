"""How Keras's config and its object paths fit together, on small configs that spring one trap each."""

from typing import Any

import pytest

from tfstrip_core.codecs.hdf5 import Dataset, Tree
from tfstrip_core.containers.keras import keras_config, optimizer_groups
from tfstrip_core.containers.keras.trainables import trainables
from tfstrip_core.inventory import Finding

ADAM = {"optimizer": {"module": "keras.optimizers", "class_name": "Adam", "config": {}, "registered_name": None}}


def model(*layers: dict[str, Any], compiled: bool = False, kind: str = "Sequential") -> dict[str, Any]:
    """A serialized model of serialized layers."""
    entry = {"module": "keras", "class_name": kind, "config": {"layers": list(layers)}, "registered_name": None}
    return {**entry, "compile_config": ADAM if compiled else None}


def layer(kind: str, **config: Any) -> dict[str, Any]:
    return {"module": "keras.layers", "class_name": kind, "config": config, "registered_name": None}


def tree(**stored: tuple[str, tuple[int, ...]]) -> Tree:
    """A tree of datasets given as path (with __ for /) = dtype, shape."""
    datasets = {}
    groups = {""}
    for name, (dtype, shape) in stored.items():
        path = name.replace("__", "/")
        size = 4
        for length in shape:
            size *= length
        datasets[path] = Dataset(path, dtype, shape, size, size, 0)
        parts = path.split("/")
        groups |= {"/".join(parts[:end]) for end in range(1, len(parts))}
    return Tree(datasets, frozenset(groups))


def optimizer_at(path: str) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Adam's state for one (4, 5) kernel under `path`."""
    kinds = [("int64", ()), ("float32", ()), ("float32", (4, 5)), ("float32", (4, 5))]
    return {f"{path}__vars__{place}": kind for place, kind in enumerate(kinds)}


def findings(stored: Tree, config: Any, title: str = "") -> list[tuple[str, str]]:
    found: list[Finding] = list(optimizer_groups.optimizer_findings(stored, config, lambda path: title))
    return [(finding.rule, finding.subject) for finding in found]


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("Dense", "dense"),
        ("MultiHeadAttention", "multi_head_attention"),
        ("LSTM", "lstm"),
        ("Conv2D", "conv2d"),
        ("MyVQLayer", "my_vq_layer"),
        ("TFOpLambda", "tf_op_lambda"),
        ("BatchNormalization", "batch_normalization"),
    ],
)
def test_snake_case_is_keras_own(name: str, path: str) -> None:
    """Paths are found under the names that Keras gives them."""
    assert keras_config.snake_case(name) == path


def test_a_nested_models_optimizer_is_proven_by_its_own_entry_alone() -> None:
    """Of two nested models only the compiled one proves an optimizer; the count in the path tells which is which."""
    config = model(model(), model(compiled=True))
    states = optimizer_at("layers__sequential__optimizer") | optimizer_at("layers__sequential_1__optimizer")
    stored = tree(**states, layers__sequential__layers__dense__vars__0=("float32", (4, 5)))
    assert sorted(findings(stored, config)) == [
        ("TFS101", "layers/sequential_1/optimizer"),
        ("TFS107", "layers/sequential/optimizer"),
    ]


def test_keras_2_12_counts_by_two() -> None:
    """In its paths the second nested model is number 2, because every layer with weights is listed twice."""
    config = model(model(), model(compiled=True))
    stored = tree(**optimizer_at("_layer_checkpoint_dependencies__sequential_2__optimizer"))
    assert findings(stored, config) == [("TFS101", "_layer_checkpoint_dependencies/sequential_2/optimizer")]
    assert keras_config.owner(config, "_layer_checkpoint_dependencies/sequential_1") is None
    assert keras_config.owner(config, "_layer_checkpoint_dependencies/sequential_4") is None


def test_operations_are_no_layers() -> None:
    """A functional model's bare operations stand among its layers in the config and are not counted in the paths."""
    operation = {"module": "keras.src.ops.numpy", "class_name": "Sequential", "config": {}, "registered_name": None}
    config = model(operation, model(compiled=True), kind="Functional")
    assert findings(tree(**optimizer_at("layers__sequential__optimizer")), config) == [
        ("TFS101", "layers/sequential/optimizer")
    ]


def test_an_element_of_layers_is_a_layer() -> None:
    """Whatever its weights look like: counter, scale and codebook in a `layers` list are never an optimizer."""
    assert findings(tree(**optimizer_at("layers__vector_quantizer")), model(compiled=True)) == []


def test_the_root_models_own_variables_are_no_optimizer() -> None:
    """A subclassed model with a counter and a table of its own keeps them."""
    assert findings(tree(**{name.strip("_"): kind for name, kind in optimizer_at("").items()}), model()) == []


@pytest.mark.parametrize(
    ("path", "title", "rule"),
    [
        ("g_optimizer", "", "TFS107"),
        ("optimizers__sgd", "", "TFS107"),
        ("teacher", "adam_4", "TFS107"),
        ("codebook", "", "TFS108"),
        ("codebook", "codebook", "TFS108"),
    ],
)
def test_names_raise_suspicion_and_prove_nothing(path: str, title: str, rule: str) -> None:
    """The form with a telling name is suspected, without one undecided; neither is ever proven."""
    stored = tree(**optimizer_at(path), layers__dense__vars__0=("float32", (4, 5)))
    assert findings(stored, model(compiled=True), title) == [(rule, path.replace("__", "/"))]


def test_slots_that_fit_no_weight_raise_no_suspicion() -> None:
    """A name alone is no evidence: the slots' shapes must be those of weights."""
    stored = tree(**optimizer_at("g_optimizer"), layers__dense__vars__0=("float32", (7, 7)))
    assert findings(stored, model(compiled=True)) == [("TFS108", "g_optimizer")]


def test_a_compiled_models_optimizer_of_unknown_form_is_suspected() -> None:
    """A custom optimizer that saves itself in its own way is strong evidence and no proof."""
    stored = tree(optimizer__vars__momenta=("float32", (4, 5)), optimizer__vars__step=("int64", ()))
    assert findings(stored, model(compiled=True)) == [("TFS107", "optimizer/vars")]
    assert findings(stored, model()) == []


def test_what_else_lies_in_an_optimizer_is_not_taken_with_it() -> None:
    """Weights that an optimizer's own attribute holds stay, named, while its slots go."""
    stored = tree(**optimizer_at("optimizer"), optimizer__teacher__vars__0=("float32", (4, 5)))
    assert findings(stored, model(compiled=True)) == [("TFS101", "optimizer"), ("TFS107", "optimizer/teacher")]


@pytest.mark.parametrize(
    ("config", "opaque", "averages"),
    [
        ({"optimizer": "adam"}, False, False),
        ({"optimizer": "my_own"}, True, False),
        ({"optimizer": {**ADAM["optimizer"], "config": {"use_ema": True}}}, False, True),
        ({"optimizer": {**ADAM["optimizer"], "module": "me"}}, True, False),
        ({"optimizer": {**ADAM["optimizer"], "registered_name": "me>Adam"}}, True, False),
        ({"optimizer_config": {"class_name": "Custom>Adam", "config": {}}}, False, False),
        ({"optimizer_config": {"class_name": "Drift", "config": {}}}, True, False),
        ({"loss": "mse"}, True, False),
        (None, True, False),
    ],
)
def test_only_the_frameworks_own_optimizers_are_known(config: Any, opaque: bool, averages: bool) -> None:
    """Any other class may keep averages, and its values are looked at before its state goes."""
    assert keras_config.is_opaque(config) == opaque
    assert keras_config.uses_averages(config) == averages


def test_a_schedule_is_no_second_optimizer() -> None:
    """A learning-rate schedule in the optimizer's config leaves its class known."""
    schedule = {"module": "keras.optimizers.schedules", "class_name": "CosineDecay", "config": {}}
    config = {"optimizer": {**ADAM["optimizer"], "config": {"learning_rate": schedule}}}
    assert [name for name, _, _ in keras_config.optimizers(config)] == ["Adam"]


def test_trainable_weights_in_the_models_order() -> None:
    """Frozen layers, moving statistics and nested models: the list is Keras's trainable_variables."""
    config = model(
        layer("Dense", use_bias=True),
        layer("BatchNormalization", scale=True, center=True),
        layer("Dense", trainable=False),
        model(layer("LSTM"), layer("Dropout")),
    )
    f = "float32"
    stored = tree(
        layers__dense__vars__0=(f, (4, 5)), layers__dense__vars__1=(f, (5,)),
        layers__batch_normalization__vars__0=(f, (5,)), layers__batch_normalization__vars__1=(f, (5,)),
        layers__batch_normalization__vars__2=(f, (5,)), layers__batch_normalization__vars__3=(f, (5,)),
        layers__dense_1__vars__0=(f, (5, 5)), layers__dense_1__vars__1=(f, (5,)),
        layers__sequential__layers__lstm__cell__vars__0=(f, (5, 8)),
        layers__sequential__layers__lstm__cell__vars__1=(f, (2, 8)),
        layers__sequential__layers__lstm__cell__vars__2=(f, (8,)),
    )  # fmt: skip
    assert trainables(stored, config, "") == [
        "layers/dense/vars/0",
        "layers/dense/vars/1",
        "layers/batch_normalization/vars/0",
        "layers/batch_normalization/vars/1",
        "layers/sequential/layers/lstm/cell/vars/0",
        "layers/sequential/layers/lstm/cell/vars/1",
        "layers/sequential/layers/lstm/cell/vars/2",
    ]


@pytest.mark.parametrize(
    "other",
    [layer("MyDense"), layer("Dense", lora_rank=2), {**layer("Dense"), "module": "me"}, layer("Dense", use_bias=False)],
    ids=["unknown class", "lora", "foreign", "other variables"],
)
def test_where_the_order_is_not_certain_there_is_none(other: dict[str, Any]) -> None:
    """A layer that is not known, or does not hold what its class holds, leaves no order to pair averages by."""
    path = f"layers__{keras_config.snake_case(other['class_name'])}__vars__"
    stored = tree(**{f"{path}0": ("float32", (4, 5)), f"{path}1": ("float32", (5,))})
    assert trainables(stored, model(other), "") is None
