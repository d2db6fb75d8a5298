"""Object graphs of honest but unusual programs: nothing that inference may need goes with an optimizer."""

from pathlib import Path
from typing import Any

import pytest

from tfstrip_core.codecs import object_graph
from tfstrip_core.codecs.protos import object_graph_pb2
from tfstrip_core.containers.checkpoints import object_state
from tfstrip_core.errors import Refused
from tfstrip_core.inventory import Tensor

Node = dict[str, Any]


def array(key: str) -> Node:
    return {"value": (key, (3,), "float32")}


def scalar(key: str) -> Node:
    return {"value": (key, (), "float32")}


def step(key: str = "it") -> Node:
    return {"value": (key, (), "int64")}


# What TensorFlow and Keras call the variables of their own optimizers; a program's own is a `Variable` unless it says.
FULL_NAMES = {"it": "adam/iteration", "iter": "iter", "rate": "learning_rate", "decay": "decay"}


def holder(slots: list[tuple[int, str, int]] | None = None, **children: int) -> Node:
    return {"children": dict(children), "slots": slots or []}


def items(*nodes: int) -> Node:
    return {"children": {str(place): node for place, node in enumerate(nodes)}}


def judged(*nodes: Node) -> tuple[dict[str, str], object_graph.Graph, object_state.State]:
    """Return the rule that fires for each key, "" for none."""
    message, tensors = object_graph_pb2.Graph(), {}
    for node in nodes:
        made = message.nodes.add()
        for name, child in node.get("children", {}).items():
            made.children.add(node_id=child, local_name=name)
        for original, name, slot in node.get("slots", []):
            made.slot_variables.add(original_variable_node_id=original, slot_name=name, slot_variable_node_id=slot)
        if "value" in node:
            key, shape, dtype = node["value"]
            made.attributes.add(name="VARIABLE_VALUE", full_name=FULL_NAMES.get(key, "Variable"), checkpoint_key=key)
            tensors[key] = Tensor(key, dtype, shape, 12 if shape else 8)
    graph = object_graph.parse(message.SerializeToString())
    state = object_state.judge(graph, list(tensors.values()))
    rules = {name: found.rule for found in state.findings for name in found.tensors}
    return {key: rules.get(key, "") for key in tensors}, graph, state


HONEST = {
    "a legacy optimizer that holds a network": (
        [holder(model=1, optimizer=3), holder(w=2), array("w"), holder([(2, "m", 8)], iter=4, teacher=5), step(),
         holder(kernel=6, scale=7), array("kernel"), scalar("scale"), array("m")],
        {"w", "kernel", "scale"}, {"it", "m"},
    ),
    "a Keras 3 optimizer that holds a network": (
        [holder(optimizer=1), holder(_variables=2, _iterations=3, _learning_rate=4, _trainable_variables=5, model=6),
         items(3, 4, 8), step(), scalar("lr"), items(7), holder(k=7, temperature=9, mean=10), array("k"), array("m"),
         scalar("temp"), array("mean")],
        {"k", "temp", "mean"}, {"it", "lr", "m"},
    ),
    "what a slot belongs to, held by the optimizer alone": (
        [holder(optimizer=1), holder([(4, "m", 5)], iter=2, var_list=3), step(), items(4), array("w"), array("m")],
        {"w"}, {"it", "m"},
    ),
    "a scalar that is trained, held by the optimizer alone": (
        [holder(optimizer=1), holder([(3, "m", 4)], iter=2, log_alpha=3), step(), scalar("alpha"), scalar("m")],
        {"alpha"}, {"it", "m"},
    ),
    "a scalar of the user's own on an optimizer": (
        [holder(optimizer=1, w=3), holder([(3, "m", 4)], iter=2, temperature=5), step(), array("w"), array("m"),
         scalar("t")],
        {"w", "t"}, {"it", "m"},
    ),
    "lists of the user's own on an optimizer, of arrays and of scalars": (
        [holder(optimizer=1, w=3), holder([(3, "m", 4)], iter=2, prototypes=5, temperatures=6), step(), array("w"),
         array("m"), items(7), items(8), array("p"), scalar("t")],
        {"w", "p", "t"}, {"it", "m"},
    ),
    "a layer called like a scalar of an optimizer": (
        [holder(optimizer=1, w=3), holder([(3, "m", 4)], iter=2, momentum=5), step(), array("w"), array("m"),
         holder(kernel=6, bias=7), array("k"), scalar("b")],
        {"w", "k", "b"}, {"it", "m"},
    ),
    "a linear model of two scalars with a learning rate": (
        [holder(model=1), holder(iter=2, learning_rate=3, w=4, b=5), step(), scalar("lr"), scalar("w"), scalar("b")],
        {"w", "b"}, set(),
    ),
    "a trainer with iterations and a list of its network's variables": (
        [holder(trainer=1), holder(iterations=2, _variables=3, net=4), step(), items(2, 5, 6), holder(w=5, b=6, t=7),
         array("w"), array("b"), scalar("t")],
        {"w", "b", "t"}, set(),
    ),
    "a trainer with a learning rate and a list of its network's variables": (
        [holder(trainer=1), holder(iterations=2, _learning_rate=8, _variables=3, net=4), step(), items(2, 5, 6),
         holder(w=5, b=6, t=7), array("w"), array("b"), scalar("t"), scalar("lr")],
        {"w", "b", "t"}, {"it", "lr"},
    ),
    "an optimizer that was never used": (
        [holder(model=1, optimizer=2), array("w"), holder(iter=3, learning_rate=4, decay=5, momentum=6), step("iter"),
         scalar("rate"), scalar("decay"), scalar("momentum")],
        {"w"}, {"iter", "rate", "decay", "momentum"},
    ),
    "a solver with a number of iterations and a rate, both so named": (
        [holder(model=1, solver=2), array("w"), holder(iter=3, learning_rate=4), step("iter"), scalar("rate")],
        {"w", "iter", "rate"}, set(),
    ),
    "a solver with all that an optimizer has, not so named": (
        [holder(model=1, solver=2), array("w"), holder(iter=3, learning_rate=4, decay=5), step("n"), scalar("a"),
         scalar("b")],
        {"w", "n", "a", "b"}, set(),
    ),
    "a network whose weights are in a list behind a count": (
        [holder(net=1, w=6), holder(_variables=2, _iterations=3, _learning_rate=4), items(3, 5), step("n"),
         scalar("lr"), array("k"), array("w")],
        {"w", "k", "n", "lr"}, set(),
    ),
    "a quantiser with a codebook beside what is trained": (
        [holder(vq=1), holder(_variables=2, iterations=3, _trainable_variables=4), items(3, 5), step("n"), items(6),
         array("codes"), array("w")],
        {"w", "codes", "n"}, set(),
    ),
    "arrays on an optimizer, in a list called like slots that has none of its variables": (
        [holder(optimizer=1, w=6), holder(_variables=2, _iterations=3, _learning_rate=4, _momentums=5, momentum=8),
         items(3, 4, 7), step(), scalar("lr"), items(7), array("w"), array("m"), items(9), array("mine")],
        {"w", "mine"}, {"it", "lr", "m"},
    ),
    "a root that has slots": (
        [holder([(3, "m", 4)], iter=1, model=2), step(), holder(w=3), array("w"), array("m")],
        {"w"}, set(),
    ),
    "one key that a kept and a removed node share": (
        [holder(model=1, optimizer=2), scalar("threshold"), holder([(1, "m", 5)], iter=3, decay=4), step(),
         scalar("threshold"), array("m")],
        {"threshold"}, {"it", "m"},
    ),
    "an optimizer in a circle with what holds it": (
        [holder(optimizer=1, w=3), holder([(3, "m", 4)], iter=2, model=0), step(), array("w"), array("m")],
        {"w"}, {"it", "m"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HONEST)
def test_nothing_that_is_not_the_optimizers_own_goes(name: str) -> None:
    """What is needed stays, what only the optimizer holds goes, and the way to what stays is still there."""
    nodes, needed, gone = HONEST[name]
    rules, graph, state = judged(*nodes)
    assert {key for key, rule in rules.items() if rule == "TFS101"} == gone
    assert not needed & gone
    dropped = {
        int(root[1:]) for found in state.findings if found.rule == "TFS101" for root in found.roots if "/" not in root
    }
    left = object_graph.parse(object_graph.without(graph, dropped))
    reached = object_graph.reachable(left.nodes)
    assert needed <= {item.key for number in reached for item in left.nodes[number].attributes}


def test_a_long_chain_of_long_names_costs_little() -> None:
    """The way to a node is spelt out for what is reported only, and not beyond reason."""
    deep = [holder(**{"x" * 30 + str(number): number + 1}) for number in range(30_000)]
    rules, _, state = judged(
        *deep, holder([(30_003, "m", 30_004)], iter=30_002), holder(), step(), array("w"), array("m")
    )
    assert rules["m"] == "TFS101"
    assert all(len(found.subject) < 2000 for found in state.findings)


def test_more_optimizers_than_any_program_has_are_refused() -> None:
    """Judging takes each with each: a file made of them would hang the hook."""
    count = 1500
    nodes = [items(*range(1, count + 1)), *[holder([(0, "m", 0)], iter=count + 1) for _ in range(count)], step()]
    with pytest.raises(Refused, match="1,500 optimizers"):
        judged(*nodes)


def test_the_proof_refuses_a_weight_that_nothing_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If judging emptied the way to a kept weight, there is no output."""
    from checkpoint_fixtures import one

    import tfstrip_core
    from tfstrip_core.containers.checkpoints import checkpoint

    source = one("tf2.15", "adam_batchnorm").prefix
    without = object_graph.without
    monkeypatch.setattr(checkpoint.object_graph, "without", lambda graph, gone: without(graph, {*gone, 4}))
    with pytest.raises(tfstrip_core.ProofFailed, match="nothing leads to"):
        tfstrip_core.strip(source, str(tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []
