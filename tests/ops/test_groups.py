"""Groups, the best of them, counts, profiles, and an order by chance: the same as a few lines of plain Python."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import (
    ConfigError,
    Derived,
    FatalError,
    NodeFailedError,
    Route,
    RowDataError,
    UnifiedNode,
    UnifiedNodePipeline,
    ops,
)

from ..kit.support import Bench, lines, numbered, write_jsonl
from .calls import bare, outcome

rows = st.lists(st.fixed_dictionaries({"k": st.integers(0, 4), "s": st.integers(-9, 9)}), max_size=30)


def total(group: list[Any]) -> Any:
    """Return a row for a group; None for one of a single row."""
    return {"k": group[0]["k"], "total": sum(row["s"] for row in group)} if len(group) > 1 else None


def both_ends(group: list[Any]) -> Any:
    return [group[0], group[-1]]


def parity(row: Any) -> Any:
    return (row["k"] % 2, "x")


def grouped(given_rows: list[Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for number, row in enumerate(given_rows):
        found.setdefault(row["k"], []).append({**row, "_i": number})
    return found


@settings(max_examples=25)
@given(rows)
def test_groups_are_those_of_plain_python(given_rows: list[Any]) -> None:
    expected = [
        {"k": key, "rows": bare(group), "_sources": [row["_i"] for row in group]}
        for key, group in grouped(given_rows).items()
    ]
    assert outcome(ops.GroupBy("k"), given_rows) == expected
    in_order = sorted(given_rows, key=lambda row: row["k"])
    expected = [
        {"k": key, "group": list(group)} for key, group in itertools.groupby(in_order, key=lambda row: row["k"])
    ]
    assert bare(outcome(ops.GroupBy("k", sorted=True, into="group"), in_order)) == expected


@settings(max_examples=40)
@given(rows)
def test_a_function_makes_the_rows_of_a_group(given_rows: list[Any]) -> None:
    expected = [row for group in grouped(given_rows).values() if (row := total(group))]
    assert bare(outcome(ops.GroupBy("k", reduce=total), given_rows)) == expected
    in_order = sorted(given_rows, key=lambda row: row["k"])
    expected = [row for group in grouped(in_order).values() for row in bare(both_ends(group))]
    assert bare(outcome(ops.GroupBy("k", reduce=both_ends, sorted=True), in_order)) == expected


def test_groups_by_a_function_have_its_value_as_key() -> None:
    given_rows = [{"k": k} for k in (0, 2, 1, 3)]
    assert bare(outcome(ops.GroupBy(key=parity), given_rows)) == [
        {"key": [0, "x"], "rows": [{"k": 0}, {"k": 2}]},
        {"key": [1, "x"], "rows": [{"k": 1}, {"k": 3}]},
    ]
    assert len(outcome(ops.GroupBy(key=parity, sorted=True), given_rows)) == 2


def test_columns_of_a_group_become_lists() -> None:
    given_rows: list[dict[str, Any]] = [
        {"k": 1, "s": 5, "t": "a"},
        {"k": 2, "s": 6, "t": "b"},
        {"k": 1, "s": 7, "t": None},
    ]
    expected = [{"k": 1, "s": [5, 7], "t": ["a", None]}, {"k": 2, "s": [6], "t": ["b"]}]
    assert bare(outcome(ops.GroupBy("k", collect=["s", "t"]), given_rows)) == expected
    in_order = sorted(given_rows, key=lambda row: str(row["k"]))
    assert bare(outcome(ops.GroupBy("k", collect=["s", "t"], sorted=True), in_order)) == expected
    with pytest.raises(RowDataError, match="no column 's'"):
        outcome(ops.GroupBy("k", collect="s"), [{"k": 1}])
    with pytest.raises(ConfigError, match="not both"):
        ops.GroupBy("k", collect="s", reduce=total)
    with pytest.raises(ConfigError, match="has one value: k"):
        ops.GroupBy("k", collect=["s", "k"])


@pytest.mark.parametrize("keys", [[1, 2, 1], [1, "a"], [None, 1]])
def test_input_that_is_not_sorted_ends_the_run(bench: Bench, keys: list[Any]) -> None:
    bench.give([{"k": key} for key in keys])
    with pytest.raises(NodeFailedError, match=r"GroupBy\(sorted=True\): the input is not in ascending order"):
        bench.pipeline([ops.GroupBy("k", sorted=True)], on_error="skip").run()


def test_sorted_groups_are_told_apart_as_others_are() -> None:
    """1 and 1.0 are one key; 1 and true are two, and neither comes before the other."""
    given_rows = [{"k": 1, "n": 0}, {"k": 1.0, "n": 1}, {"k": 2, "n": 2}]
    expected = [{"k": 1, "n": [0, 1]}, {"k": 2, "n": [2]}]
    for is_sorted in (False, True):
        assert bare(outcome(ops.GroupBy("k", collect="n", sorted=is_sorted), given_rows)) == expected
    mixed = [{"k": 1, "n": 0}, {"k": True, "n": 1}]
    assert bare(outcome(ops.GroupBy("k", collect="n"), mixed)) == [{"k": 1, "n": [0]}, {"k": True, "n": [1]}]
    with pytest.raises(FatalError, match="True comes after 1"):
        outcome(ops.GroupBy("k", collect="n", sorted=True), mixed)


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ops.Count("count"), "two columns 'count'"),
        (lambda: ops.Count(["a", "n"], into="n"), "two columns 'n'"),
        (lambda: ops.GroupBy("rows"), "two columns 'rows'"),
        (lambda: ops.GroupBy(key=parity, into="key"), "two columns 'key'"),
        (lambda: ops.Count("_i"), "'_i' of their own"),
        (lambda: ops.GroupBy(["a", "_sources"]), "'_sources' of their own"),
        (lambda: ops.GroupBy("a", into="_sources"), "'_sources' of their own"),
        (lambda: ops.GroupBy("a", collect=["_i"]), "'_i' of their own"),
    ],
)
def test_a_column_that_another_one_would_replace_is_refused(make: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()


def test_sorted_groups_hold_one_group() -> None:
    operator = ops.GroupBy("k", sorted=True)
    from .calls import Context

    ctx: Any = Context()
    for number in range(100):
        operator.process_item({"k": number // 10, "_i": number}, ctx)
        assert len(ctx.state) <= 11
    with pytest.raises(ConfigError, match="give columns"):
        ops.GroupBy()


@settings(max_examples=40)
@given(rows, st.integers(1, 3), st.booleans())
def test_the_best_of_each_group(given_rows: list[Any], n: int, largest: bool) -> None:
    expected = [
        row
        for group in grouped(given_rows).values()
        for row in bare(sorted(group, key=lambda row: row["s"], reverse=largest)[:n])
    ]
    assert bare(outcome(ops.Best(n, by="s", of="k", largest=largest), given_rows)) == expected


def test_scores_of_two_kinds_are_refused() -> None:
    with pytest.raises(RowDataError, match="the score is 'a', and the best of its group has 1"):
        outcome(ops.Best(by="s", of="k"), [{"k": 1, "s": 1}, {"k": 2, "s": "a"}, {"k": 1, "s": "a"}])


@settings(max_examples=40)
@given(rows)
def test_counts_are_those_of_a_counter(given_rows: list[Any]) -> None:
    assert outcome(ops.Count(), given_rows) == [{"count": len(given_rows)}]
    expected = [{"k": k, "n": n} for k, n in Counter(row["k"] for row in given_rows).items()]
    assert outcome(ops.Count("k", into="n"), given_rows) == expected


def test_a_shuffle_has_all_rows_in_another_order() -> None:
    given_rows = [{"n": n} for n in range(500)]
    orders = [[row["n"] for row in outcome(ops.Shuffle(seed=seed), given_rows)] for seed in (0, 0, 1)]
    assert all(sorted(order) == list(range(500)) for order in orders)
    assert orders[0] == orders[1] != orders[2]
    assert orders[0] != sorted(orders[0])
    assert sum(n < 250 for n in orders[0][:250]) < 160
    assert outcome(ops.Shuffle(), given_rows)[0]["_sources"] == [orders[0][0]]


def test_ids_of_more_than_64_bits_are_shuffled_with_the_others() -> None:
    ids = [2**63 - 1, 2**63, -(2**63) - 1, str(2**63), 5, "", "a"]
    made = outcome(ops.Shuffle(), [{"_i": row_id} for row_id in ids])
    assert {row["_sources"][0] for row in made} == {*ids}
    others = outcome(ops.Shuffle(), [{"_i": row_id} for row_id in (0, 1, 2, 3, 4)])
    assert [row["_sources"][0] for row in others] == [4, 2, 0, 3, 1], "the order of running runs is another one"


def test_a_profile_says_what_is_in_the_columns() -> None:
    given_rows: list[dict[str, Any]] = [
        {"text": text, "n": n, "mixed": mixed}
        for text, n, mixed in zip("aabbbc", [1, 2, 2.5, 4, 5, 6], [None, 1, "x", [1, 2], True, {"a": 1}], strict=True)
    ]
    del given_rows[0]["n"]
    profile = {row["column"]: row for row in outcome(ops.Stats(most_frequent=2), given_rows)}
    assert list(profile) == ["mixed", "n", "text"]
    assert profile["text"] == {
        "column": "text",
        "rows": 6,
        "missing": 0,
        "kinds": {"text": 6},
        "distinct": 3,
        "distinct_is_exact": True,
        "length_min": 1,
        "length_max": 1,
        "length_mean": 1.0,
        "most_frequent": [{"value": "b", "count": 3}, {"value": "a", "count": 2}],
    }
    assert (profile["n"]["missing"], profile["n"]["min"], profile["n"]["max"]) == (1, 2, 6)
    assert profile["n"]["mean"] == statistics.mean([2, 2.5, 4, 5, 6])
    assert profile["mixed"]["kinds"] == {"null": 1, "number": 1, "text": 1, "list": 1, "boolean": 1, "object": 1}
    assert profile["mixed"]["distinct"] == 5
    assert [row["column"] for row in outcome(ops.Stats(["text", "no"]), given_rows)] == ["text", "no"]


@pytest.mark.parametrize(
    ("values", "least", "most", "mean"),
    [
        ([10**400, 1], 1, 10**400, None),
        ([10**400, 2 - 10**400], 2 - 10**400, 10**400, 1.0),
        ([0.5, 10**400], 0.5, 10**400, None),
        ([10**400, 0.5, 2], 0.5, 10**400, None),
        ([1.7e308, 1.7e308, -1.7e308], -1.7e308, 1.7e308, None),
    ],
)
def test_a_profile_of_numbers_that_no_float_holds(values: list[Any], least: Any, most: Any, mean: Any) -> None:
    [profile] = bare(outcome(ops.Stats(), [{"n": value} for value in values]))
    assert [profile[name] for name in ("rows", "min", "max", "mean")] == [len(values), least, most, mean]


def test_many_different_values_are_estimated() -> None:
    given_rows = [{"n": n % 1500} for n in range(1600)]
    [profile] = outcome(ops.Stats(exact_distinct=50), given_rows)
    assert not profile["distinct_is_exact"]
    assert 1425 < profile["distinct"] < 1575
    [profile] = outcome(ops.Stats(exact_distinct=1500), given_rows)
    assert (profile["distinct"], profile["distinct_is_exact"]) == (1500, True)


@pytest.mark.parametrize("count", [1000, 2000, 3000, 4000, 6000])
def test_an_estimate_is_never_less_than_was_counted_nor_more_than_there_can_be(count: int) -> None:
    """Without these bounds, some of the counts are estimated too high, and others too low."""
    for exact in (50, count - 1):
        [profile] = outcome(ops.Stats(exact_distinct=exact), [{"n": None}, *numbered(count), {"n": 3}])
        assert not profile["distinct_is_exact"]
        assert 0.95 * count < profile["distinct"] <= count
    assert profile["distinct"] == count


def where(row: Any) -> str:
    return "even" if row["k"] == 0 else "odd"


def routed(item: Any) -> Any:
    return Route("even", Derived({"k": item["k"]}, sources=[item["_i"]]))


@pytest.mark.parametrize("operator", [ops.GroupBy("k"), routed], ids=["rule", "route"])
def test_rows_that_stand_for_others_go_to_several_outputs(tmp_path: Path, operator: Any) -> None:
    write_jsonl(tmp_path / "in.jsonl", [{"k": n % 2} for n in range(4)])
    node = UnifiedNode("group", follow_input=False).set_operator(operator)
    outputs = {name: f"jsonl://{tmp_path}/{name}.jsonl" for name in ("even", "odd")}
    node.bind_io(f"jsonl://{tmp_path}/in.jsonl", outputs, route=where)
    UnifiedNodePipeline([node], results_dir=tmp_path / "results").run()
    [first, *_] = lines(tmp_path / "even.jsonl")
    assert first["k"] == 0
    assert first["_sources"] == ([0] if operator is routed else [0, 2])
