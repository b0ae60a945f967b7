"""Rules for nodes with several outputs: where they send a row, what they refuse, what a resume compares."""

from __future__ import annotations

import pickle
from typing import Any

import pytest

from llm_datagen import ConfigError, NodeFailedError, RowDataError, UnifiedNode, UnifiedNodePipeline, ops
from llm_datagen.operators.fingerprint import fingerprint_of

from ..kit.support import Bench, lines

WHEN = ops.RouteWhen({"high": "n > 2", "odd": "n % 2 == 1"}, otherwise="rest")


@pytest.mark.parametrize("rule", [WHEN, pickle.loads(pickle.dumps(WHEN))], ids=["as it is", "in a worker process"])
def test_the_first_condition_that_is_true_counts(rule: Any) -> None:
    assert [rule({"n": n}) for n in range(4)] == ["rest", "odd", "rest", "high"]
    assert rule.outputs == ("high", "odd", "rest")
    assert ops.RouteWhen({"odd": "n == 1"})({"n": 2}) is None


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ops.RouteBy(""), "column must be the name of a column"),
        (lambda: ops.RouteWhen({}), "conditions must hold a condition for each output, not {}"),
        (
            lambda: ops.RouteWhen(["n > 1"]),  # type: ignore[arg-type]
            "conditions must hold a condition for each output",
        ),
        (lambda: ops.RouteWhen({True: "n > 1"}), "the name of an output must be text, not True"),  # type: ignore[dict-item]
        (lambda: ops.RouteWhen({"a": "n >"}), "the condition 'n >' cannot be read"),
        (lambda: ops.RouteWhen({"a": "n > 1"}, otherwise=""), "the name of an output must be text, not ''"),
    ],
)
def test_what_is_no_rule_is_refused(make: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()


@pytest.mark.parametrize(
    ("rule", "row", "why"),
    [
        (ops.RouteBy("label"), {"lable": "a"}, "no column 'label'; did you mean 'lable'"),
        (ops.RouteBy("label"), {"label": 5}, "column 'label' must hold the name of an output, and holds an int"),
        (ops.RouteBy("label"), 5, "has no columns"),
        (WHEN, {"n": "x"}, "cannot be compared"),
    ],
)
def test_a_row_that_cannot_be_sent_fails(rule: Any, row: Any, why: str) -> None:
    with pytest.raises(RowDataError, match=why):
        rule(row)


def test_a_resume_compares_what_a_rule_says_and_not_its_code() -> None:
    assert fingerprint_of(ops.RouteBy("a")).keys() == {"column"}
    assert fingerprint_of(WHEN).keys() == {"condition of high", "condition of odd", "order", "otherwise"}
    turned = ops.RouteWhen({"odd": "n % 2 == 1", "high": "n > 2"}, otherwise="rest")
    assert {key for key, value in fingerprint_of(turned).items() if value != fingerprint_of(WHEN)[key]} == {"order"}


def test_rules_send_rows_and_a_rule_for_another_output_is_refused_before_anything_runs(bench: Bench) -> None:
    bench.give([{"n": 1, "to": "a"}, {"n": 2, "to": "b"}, {"n": 3, "to": "c"}])
    outputs = {name: f"jsonl://{bench.folder}/{name}.jsonl" for name in "ab"}

    def node(rule: Any, **settings: Any) -> UnifiedNode:
        made = UnifiedNode("sort", follow_input=False, **settings).set_operator(lambda row: row)
        return made.bind_io(f"jsonl://{bench.input}", outputs, route=rule)

    with pytest.raises(ConfigError, match="node sort: route sends rows to 'd'; the outputs are a, b"):
        node(ops.RouteWhen({"a": "n > 1", "d": "n > 2"}))
    options: dict[str, Any] = {"results_dir": bench.results, "log_file": bench.log}
    with pytest.raises(NodeFailedError, match=r"route sent a row of .* to 'c'; .* an output \(a, b\)"):
        UnifiedNodePipeline([node(ops.RouteBy("to"))], **options).create("a").run()
    dead = UnifiedNodePipeline([node(ops.RouteBy("to"), on_error="dead_letter")], **options)
    assert dead.create("a", if_exists="overwrite").run().failed == 1
    assert [lines(bench.folder / f"{name}.jsonl") for name in "ab"] == [
        [{"n": 1, "to": "a", "_i": 0}],
        [{"n": 2, "to": "b", "_i": 1}],
    ]
