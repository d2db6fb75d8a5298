"""What the keys of name-based checkpoints are: proven by the graph, by all of a family's names, or left to the user."""

import os
from pathlib import Path

import pytest
from graphs import Builder, Named, named_checkpoints, of_bundle, tensors_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tfstrip_core.codecs import meta_graph
from tfstrip_core.containers.checkpoints.named_state import judge
from tfstrip_core.inventory import Finding, Role, Tensor
from tfstrip_core.rules import RULES

REAL = os.environ.get("TFSTRIP_REAL_MODELS", "")
NAMED = named_checkpoints()
# Where the rules demand less than what the writer knows: the rule that has the keys, or "" where none has.
LESS = {
    "graph_colocated_twin": "TFS107",
    "graph_colocated_twin_no_meta": "TFS107",
    "graph_ema_called_avg_no_meta": "TFS107",
    "graph_traces": "TFS108",
    "graph_contrib_optimize_loss": "",  # its learning rate is in no operation at all
}


def rules_of(findings: list[Finding]) -> dict[str, str]:
    """Key -> the rule of the finding that has it; no key is in two, no subject is used twice, and sizes add up."""
    found = {name: finding.rule for finding in findings for name in finding.tensors}
    assert len(found) == sum(len(finding.tensors) for finding in findings)
    assert len({finding.subject for finding in findings}) == len(findings)
    assert all(finding.rule in RULES and finding.message for finding in findings)
    return found


def judged(builder: Builder, shape: tuple[int, ...] = (3, 4)) -> tuple[dict[str, str], list[Finding]]:
    """The rules of a built graph's checkpoint, and the findings."""
    findings = judge(list(tensors_of(builder.saved, shape)), builder.graph())[1]
    return rules_of(findings), findings


def without_graph(*names: str) -> dict[str, str]:
    return rules_of(judge(list(tensors_of(names)), None)[1])


def subjects(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.rule, finding.subject) for finding in findings]


@pytest.mark.parametrize("named", NAMED, ids=lambda named: named.id)
def test_roles_are_those_of_the_live_model(named: Named) -> None:
    """What TensorFlow's own objects said when it was written; and a weight or an average is never called optimizer."""
    tensors, parts = named.tensors()
    roles, findings = judge(tensors, named.graph(), parts)
    rules = rules_of(findings)
    live = named.roles
    assert set(roles) == set(live)
    assert {key for key, rule in rules.items() if rule == "TFS101"} <= {
        k for k, role in live.items() if role == "optimizer"
    }
    wrong = {key for key in live if roles[key] != live[key]}
    less = LESS.get(named.facts["scenario"])
    assert {rules.get(key, "") for key in wrong} <= set() if less is None else {less}
    sizes = {tensor.name: tensor.bytes for tensor in tensors}
    assert all(finding.bytes == sum(sizes[name] for name in finding.tensors) for finding in findings)
    if not wrong:
        assert sum(f.bytes for f in findings if f.rule == "TFS101") == named.facts["bytes"].get("optimizer", 0)
    pairs = {average: weight for finding in findings for weight, average in finding.pairs}
    assert pairs == {key: live_of(named, key) for key, rule in rules.items() if rule == "TFS106"}


def live_of(named: Named, key: str) -> str:
    return str(named.facts["keys"][key]["of"])


@pytest.mark.skipif(not REAL, reason="set TFSTRIP_REAL_MODELS to a directory of real models")
@pytest.mark.parametrize(
    ("prefix", "optimizer", "count"),
    [
        ("carpedm20__NTM-tensorflow/checkpoint/copy_10/NTM-copy_copy.model-3402", 550200, 94),
        ("onnx__tensorflow-onnx/tests/models/regression/checkpoint/model", 0, 0),
        ("tobegit3hub__simple_tensorflow_serving/models/deep_image_model/1/variables/variables", 712336, 14),
    ],
)
def test_real_models_lose_what_the_manifest_says(prefix: str, optimizer: int, count: int) -> None:
    """Slots behind a scope of another name; a model with nothing to lose; Adam's slots with no .meta beside them."""
    path = Path(REAL) / prefix
    meta = Path(f"{path}.meta")
    tensors, parts = of_bundle(str(path))
    findings = judge(tensors, meta_graph.read(str(meta)) if meta.exists() else None, parts)[1]
    assert sum(f.bytes for f in findings if f.rule == "TFS101") == optimizer
    assert sum(len(f.tensors) for f in findings if f.rule == "TFS101") == count


# -- proof by the graph


def test_custom_names_are_proven_by_the_operations() -> None:
    """`AdamOptimizer(name="ada")`: half of a real file was called /ada_1 and /ada_2."""
    builder = Builder()
    builder.adam(builder.variable("w"), builder.variable("b"), name="ada")
    rules, findings = judged(builder.saver())
    assert subjects(findings) == [("TFS101", "ada")]
    assert set(rules) == {"w/ada", "w/ada_1", "b/ada", "b/ada_1", "beta1_power", "beta2_power"}


@pytest.mark.parametrize("prefix", ["Apply", "ResourceApply", "SparseApply", "ResourceSparseApply"])
@pytest.mark.parametrize(("kind", "count"), [("GradientDescent", 0), ("Momentum", 1), ("FtrlV2", 2), ("AdaMax", 2),
                                             ("AdamWithAmsgrad", 3), ("CenteredRMSProp", 3)])  # fmt: skip
def test_the_leading_inputs_are_the_slots(prefix: str, kind: str, count: int) -> None:
    """All of them and no input behind them, for every form of the operation."""
    builder = Builder()
    names = [builder.variable(name) for name in ("w", "a", "b", "c", "behind")]
    builder.node("update", f"{prefix}{kind}", [*names[: count + 1], "behind/read", "gradient"])
    assert set(judged(builder.saver())[0]) == set(names[1 : count + 1])


def test_slots_that_a_prediction_may_read_stay() -> None:
    """An operation says that it is a slot, and something else reads its values: it may be a weight used as a slot."""
    builder = Builder()
    builder.adam(builder.variable("w"))
    builder.predict("w", "w/Adam")
    rules, _ = judged(builder.saver())
    assert rules.pop("w/Adam") == "TFS107"
    assert "w" not in rules
    assert rules["w/Adam_1"] == "TFS101"


def test_a_slot_that_is_copied_into_what_a_prediction_reads_stays() -> None:
    """A copy runs before the prediction by a control edge only: the value goes by way of the variable."""
    builder = Builder()
    builder.apply("Momentum", builder.variable("w"), builder.variable("w/Momentum", "w"))
    builder.variable("local")
    builder.node("copy", "Assign", ["local", "w/Momentum/read"])
    assert judged(builder.saver())[0] == {"w/Momentum": "TFS101"}  # nothing reads the copy
    builder.node("prediction", "Exp", ["local/read", "^copy"])
    assert judged(builder)[0] == {"w/Momentum": "TFS107"}


def test_a_slot_that_only_changes_a_weight_is_a_slot() -> None:
    """What an assignment hands on is the weight, which anything may read."""
    builder = Builder()
    builder.apply("Momentum", builder.variable("w"), builder.variable("w/Momentum", "w"))
    builder.node("change", "AssignSub", ["w", "w/Momentum/read"])
    builder.node("prediction", "Exp", ["change"])
    assert judged(builder.saver())[0] == {"w/Momentum": "TFS101"}
    builder.node("other", "AssignSub", ["w/Momentum", "gradient"])
    builder.node("more", "Exp", ["other"])
    assert judged(builder)[0] == {"w/Momentum": "TFS107"}


def test_a_slot_has_its_variables_shape() -> None:
    """An operation that takes something else is no framework's."""
    builder = Builder()
    builder.apply("Momentum", builder.variable("w"), builder.variable("v"))
    tensors = [*tensors_of(["w"]), Tensor("v", "float32", (12,), 48)]
    assert judge(tensors, builder.saver().graph())[1] == []


def test_beside_two_variables_is_beside_none() -> None:
    builder = Builder()
    for name in ("a", "b"):
        builder.variable(name)
    builder.variable("a/Adagrad", "a")
    node = builder.message.graph_def.node
    next(item for item in node if item.name == "a/Adagrad").attr[0].value.list.s.append(b"loc:@b")
    assert judged(builder.saver())[0] == {"a/Adagrad": "TFS108"}


def test_a_variable_read_under_another_nodes_name_stays() -> None:
    """Two handles with one shared name are one variable."""
    builder = Builder()
    builder.adam(builder.variable("w"))
    for name in ("other", "w/Adam"):
        node = next((node for node in builder.message.graph_def.node if node.name == name), None)
        node = node or builder.message.graph_def.node.add(name=name)
        node.op = "VarHandleOp"
        node.attr.add(key="shared_name").value.s = b"w/Adam"
    builder.node("prediction", "ReadVariableOp", ["other"])
    builder.node("more", "Exp", ["prediction"])
    assert judged(builder.saver())[0]["w/Adam"] == "TFS107"


def test_what_is_trained_is_no_slot() -> None:
    """A weight called like a slot (`bias/RMSProp`), in the place of a slot, too: the optimizer trains it."""
    builder = Builder()
    for name in ("w", "w/Momentum"):
        builder.apply("Momentum", builder.variable(name), builder.variable(f"{name}/Slot", name))
    rules, _ = judged(builder.saver())
    assert set(rules) == {"w/Slot", "w/Momentum/Slot"}
    builder = Builder()
    builder.apply("Momentum", builder.variable("w"), builder.variable("v"))
    builder.apply("Momentum", "v", builder.variable("u"))
    assert set(judged(builder.saver())[0]) == {"u"}


def test_a_keys_own_name_does_not_matter() -> None:
    """Saver({"x": v}): the keys are the user's, and the Saver says whose they are."""
    builder = Builder()
    builder.apply("Momentum", builder.variable("w", key="Momentum"), builder.variable("m", key="kernel"))
    assert set(judged(builder.saver())[0]) == {"kernel"}


def test_a_key_of_two_variables_is_a_slot_only_if_both_are() -> None:
    """A second Saver restores the key into a weight (as exporters do with averages)."""
    builder = Builder()
    builder.apply("Momentum", builder.variable("w"), builder.variable("w/Momentum", "w"))
    builder.saver("one")
    builder.saved = {"w": "w", "w/Momentum": builder.variable("other")}
    builder.saver("two")
    assert "TFS101" not in judged(builder)[0].values()


def test_colocation_counts_with_a_proven_name_only() -> None:
    """A sparse Adam has no Apply operation; averages, targets and hand-made copies lie beside their variables too."""
    builder = Builder()
    builder.adam(builder.variable("w"), name="ada")
    builder.variable("embedding")
    for twin in ("ada", "ada_1", "Adagrad", "avg", "target"):
        builder.variable(f"embedding/{twin}", "embedding")
    rules, _ = judged(builder.saver())
    assert {name: rules[f"embedding/{name}"] for name in ("ada", "ada_1", "Adagrad", "avg", "target")} == {
        "ada": "TFS101", "ada_1": "TFS101", "Adagrad": "TFS107", "avg": "TFS107", "target": "TFS107",
    }  # fmt: skip
    assert "embedding" not in rules


def test_a_sparse_adam_alone_has_no_operation_and_known_names() -> None:
    """Embeddings only: slots by colocation and the usual name, powers beside the same variable."""
    builder = Builder()
    builder.variable("embedding")
    for name in ("embedding/Adam", "embedding/Adam_1", "beta1_power", "beta2_power"):
        builder.variable(name, "embedding")
    builder.variable("other/beta1_power")
    rules, findings = judged(builder.saver())
    assert subjects(findings) == [("TFS101", "Adam")]
    assert set(rules) == {"embedding/Adam", "embedding/Adam_1", "beta1_power", "beta2_power"}


def test_copies_called_like_a_sparse_adams_are_in_doubt_without_powers_of_beta() -> None:
    """Two averages of an embedding, called Adam and Adam_1: no Adam is saved without its powers of beta."""
    builder = Builder()
    builder.variable("embedding")
    for name in ("embedding/Adam", "embedding/Adam_1"):
        builder.variable(name, "embedding")
    assert set(judged(builder.saver())[0].values()) == {"TFS107"}


def test_a_known_name_that_is_not_the_variables_own_proves_nothing() -> None:
    """Beside a variable, and called Adam somewhere else."""
    builder = Builder()
    builder.variable("w")
    builder.variable("elsewhere/Adam", "w")
    assert set(judged(builder.saver())[0].values()) == {"TFS107"}


def test_a_known_name_beside_nothing_proves_nothing() -> None:
    """With a graph, names alone are no proof: every optimizer puts its slots beside their variables."""
    builder = Builder()
    for name in ("a", "b", "a/Momentum", "b/Momentum"):
        builder.variable(name)
    assert judged(builder.saver())[0] == {"a/Momentum": "TFS107", "b/Momentum": "TFS107"}


def test_keys_that_the_graph_does_not_know_are_judged_by_their_names() -> None:
    """A graph that was exported for inference beside a checkpoint that still has the slots."""
    builder = Builder()
    builder.predict(builder.variable("a"), builder.variable("b"))
    graph = builder.saver().graph()
    names = ["a", "b", "a/Adam", "a/Adam_1", "b/Adam", "b/Adam_1", "beta1_power"]
    findings = judge(list(tensors_of(names)), graph)[1]
    assert [(finding.subject, set(finding.tensors)) for finding in findings] == [("Adam", set(names[2:]))]


def test_keras_in_a_graph_names_its_slots_otherwise() -> None:
    """training/Adam/<variable>/m and v, no powers: still one KEY, the optimizer's name."""
    builder = Builder()
    for name in ("a", "b"):
        builder.variable(name)
        slots = [builder.variable(f"training/Adam/{name}/{slot}", name) for slot in ("m", "v")]
        builder.apply("Adam", name, *slots)
    assert subjects(judged(builder.saver())[1]) == [("TFS101", "Adam")]


def test_the_step_is_known_by_its_collection() -> None:
    """Whatever it is called: a note, and it stays."""
    builder = Builder()
    builder.variable("w")
    builder.collect("global_step", builder.variable("steps"))
    tensors = [*tensors_of(["w"]), Tensor("steps", "int64", (), 8)]
    roles, findings = judge(tensors, builder.saver().graph())
    assert (roles["steps"], subjects(findings)) == ("counter", [("TFS103", "steps")])
    assert RULES["TFS103"].note
    assert not RULES["TFS103"].fails
    assert not RULES["TFS103"].stripped


def test_averages_are_known_by_the_collection_of_their_primaries() -> None:
    """Whatever they are called: TFS106 with the pair. A twin by that class's name needs no collection."""
    builder = Builder()
    for name, twin in (("w", "shadow"), ("b", "shadow"), ("c", "ExponentialMovingAverage")):
        builder.variable(f"{builder.variable(name)}/{twin}", name)
    for name in ("w", "b"):
        builder.collect("moving_average_variables", name)
    rules, findings = judged(builder.saver())
    assert set(rules.values()) == {"TFS106"}
    assert {pair for finding in findings for pair in finding.pairs} == {
        ("w", "w/shadow"), ("b", "b/shadow"), ("c", "c/ExponentialMovingAverage"),
    }  # fmt: skip


def test_two_averages_of_one_weight_are_no_certain_pair() -> None:
    """Which of them is served, only the user knows."""
    builder = Builder()
    builder.variable("w")
    for twin in ("fast", "slow"):
        builder.variable(f"w/{twin}", "w")
    builder.collect("moving_average_variables", "w")
    findings = judged(builder.saver())[1]
    assert [(f.rule, f.pairs) for f in findings] == [("TFS106", ()), ("TFS106", ())]


def test_an_average_without_a_weight_is_a_weight() -> None:
    """Old batch normalisation keeps averages of tensors under that name, which inference reads."""
    assert without_graph("w", "norm/moments/ExponentialMovingAverage") == {}


def test_a_hyperparameter_that_only_the_optimizer_reads_is_its_own() -> None:
    """With slots; the learning rate of plain gradient descent is no reason to fail a check."""
    builder = Builder()
    builder.apply("Momentum", builder.variable("w"), builder.variable("w/Momentum", "w"),
                  rest=[f"{builder.variable('rate')}/read"])  # fmt: skip
    assert set(judged(builder.saver())[0]) == {"w/Momentum", "rate"}
    builder = Builder()
    builder.apply("GradientDescent", builder.variable("w"), rest=[f"{builder.variable('rate')}/read"])
    assert judged(builder.saver())[0] == {}


def test_parts_are_judged_together() -> None:
    """A partitioned variable's slot is one only if every part of it is."""
    for proven in (2, 1):
        builder = Builder()
        parts: dict[str, list[str]] = {"w": [], "w/m": []}
        for number in range(2):
            builder.variable(f"w/part_{number}")
            builder.variable(f"w/part_{number}/m")
            if number < proven:
                builder.apply("Momentum", f"w/part_{number}", f"w/part_{number}/m")
            for key, end in (("w", ""), ("w/m", "/m")):
                parts[key].append(f"w/part_{number}{end}")
        builder.saved = {f"{key}{number}": name for key in parts for number, name in enumerate(parts[key])}
        builder.saver()
        for node in builder.message.graph_def.node:  # the names as a Saver of partitioned variables has them
            for attr in node.attr:
                names = attr.value.tensor.string_val
                if node.name.endswith("tensor_names"):
                    names[:] = [name[:-1] for name in names]
        tensors = list(tensors_of(parts))
        rules = rules_of(judge(tensors, builder.graph())[1])
        assert rules == ({"w/m": "TFS101"} if proven == 2 else {"w/m": "TFS108"})


# -- names alone


def test_a_whole_family_of_names_is_an_optimizers() -> None:
    """Every slot that the optimizer keeps, for most variables, in a scope or not; with it the powers of beta."""
    names = [f"net/{name}" for name in ("a", "b", "norm/mean")]
    slots = [f"train/net/{name}/Adam{end}" for name in ("a", "b") for end in ("", "_1")]
    powers = ["train/beta1_power", "train/beta2_power_1"]
    assert without_graph(*names, *slots, *powers, "train/global_step") == {
        **dict.fromkeys([*slots, *powers], "TFS101"), "train/global_step": "TFS103",
    }  # fmt: skip


def test_powers_of_beta_go_with_an_optimizer_of_their_scope_only() -> None:
    """Elsewhere they are in doubt: somebody may call a scalar so. Without an optimizer they are nothing."""
    slots = [f"train/{name}/Adam{end}" for name in ("a", "b") for end in ("", "_1")]
    own, other = ["train/beta1_power", "train/beta2_power"], ["beta1_power", "other/beta1_power"]
    assert without_graph("a", "b", *slots, *own, *other) == {
        **dict.fromkeys([*slots, *own], "TFS101"), **dict.fromkeys(other, "TFS108"),
    }  # fmt: skip
    assert without_graph("a", "b", *own, *other) == {}


@pytest.mark.parametrize(
    "names",
    [
        ["a", "b", "a/RMSProp", "b/RMSProp"],  # that optimizer keeps two or three
        ["a", "b", "a/Adam_1", "b/Adam_1"],  # the first one is missing
        ["a", "b", "a/Adam_1", "a/Adam_2", "b/Adam_1", "b/Adam_2"],  # likewise
        ["a", "b", "a/Momentum"],  # one of two
        ["a", "b", "c", "d", "e", "a/Momentum"],  # one variable of many
        ["a", "b", "c", "d", "e", "a/Momentum", "b/Momentum"],  # fewer than half
        ["a", "b", "a/Momentum", "b/Momentum", "a/Momentum/Momentum", "b/Momentum/Momentum"],  # a slot with slots
        ["a", "b", "a/target", "b/target"],
        ["a", "b", "a/biased", "b/biased"],
        ["Adam/Momentum/kernel", "Adam/Momentum/bias", "Adam_1"],
        ["beta1_power", "beta2_power", "a"],  # powers without a family
        ["a", "a/Adam", "a/Adam_1"],  # an Adam without powers
    ],
    ids=lambda names: names[-1],
)
def test_anything_less_is_never_removed_unasked(names: list[str]) -> None:
    rules = without_graph(*names)
    assert set(rules.values()) <= {"TFS107", "TFS108"} or names[-1] == "b/Momentum/Momentum"
    assert not {"a", "b", "c", "d", "e", "a/Momentum"} & {key for key, rule in rules.items() if rule == "TFS101"}


def test_names_do_not_outvote_shapes_or_slices() -> None:
    """A slot has its variable's shape, type and division."""
    weights = list(tensors_of(["a", "b"]))
    for shape, dtype in (((4, 3), "float32"), ((3, 4), "float64"), ((3, 4), "int32")):
        others = [Tensor(f"{name}/Momentum", dtype, shape, 48) for name in ("a", "b")]
        assert judge([*weights, *others], None)[1] == []
    tensors = list(tensors_of(["a", "b", "a/Momentum", "b/Momentum"]))
    assert judge(tensors, None, {"a": ("x",), "b": ("x",)})[1] == []
    same = dict.fromkeys(("a", "b", "a/Momentum", "b/Momentum"), ("x",))
    assert subjects(judge(tensors, None, same)[1]) == [("TFS101", "Momentum")]


def test_several_optimizers_of_one_name_are_told_apart_by_their_scopes() -> None:
    """Each has a KEY of its own."""
    names = ["a", "b", *(f"{scope}/{name}/Momentum" for scope in ("g", "d") for name in ("a", "b"))]
    findings = judge(list(tensors_of(names)), None)[1]
    assert {finding.subject for finding in findings} == {"g/Momentum", "d/Momentum"}


def test_an_estimators_parts_are_called_otherwise_in_keys() -> None:
    """`<var>/t_0/Adagrad` beside `<var>`."""
    assert without_graph("a", "b", "a/t_0/Adagrad", "b/t_0/Adagrad") == {
        "a/t_0/Adagrad": "TFS101", "b/t_0/Adagrad": "TFS101",
    }  # fmt: skip


def test_a_second_set_of_all_weights_is_undecided() -> None:
    """Traces of TD(lambda), twins under a scope: no operation and no name explains them."""
    rules = without_graph("net/a", "net/b", "traces/net/a", "traces/net/b")
    assert rules == {"traces/net/a": "TFS108", "traces/net/b": "TFS108"}
    assert without_graph("net/a", "net/b", "traces/net/a") == {}
    assert len(without_graph(*(f"{scope}net/{name}" for scope in ("", "one/", "two/") for name in "ab"))) == 4


words = st.sampled_from(["a", "b", "Adam", "Adam_1", "Momentum", "t_0", "avg", "ExponentialMovingAverage", "scope"])


@settings(deadline=None)
@given(st.sets(st.lists(words, min_size=1, max_size=4).map("/".join), max_size=20))
def test_any_names_are_judged(names: set[str]) -> None:
    """Whatever they are: each key once, each subject once, and always something left that is called a weight."""
    roles, findings = judge(list(tensors_of(sorted(names))), None)
    rules_of(findings)
    assert set(roles) == names
    kept: set[Role] = {role for name, role in roles.items() if name not in rules_of(findings)}
    assert kept <= {"weight"}
    assert kept or not names
