"""Operators that keep state: the same as a few lines of plain Python, and as themselves after a stop."""

from __future__ import annotations

import heapq
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import OperatorChangedError, RowDataError, UnifiedPipeline, ops
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.operators.references import operators_of

from ..kit.support import Bench, Stopping, lines, numbered
from .calls import bare, outcome

values = st.none() | st.booleans() | st.integers(-3, 3) | st.text("ab ", max_size=3) | st.lists(st.integers(0, 1))
rows = st.lists(st.fixed_dictionaries({"a": values, "b": st.integers(0, 2)}), max_size=30)


def canonical(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def first_letter(row: Any) -> str:
    """Return what a test groups by."""
    return str(row["text"])[:1].lower()


@settings(max_examples=40)
@given(rows)
def test_dedupe_is_a_dict_of_first_rows(given_rows: list[Any]) -> None:
    kept = bare(outcome(ops.Dedupe(), given_rows))
    assert kept == [json.loads(key) for key in dict.fromkeys(map(canonical, given_rows))]
    firsts: dict[str, Any] = {}
    for row in given_rows:
        firsts.setdefault(canonical(row["a"]), row)
    assert bare(outcome(ops.Dedupe("a"), given_rows)) == list(firsts.values())


@settings(max_examples=40)
@given(rows)
def test_a_marked_duplicate_names_its_original(given_rows: list[Any]) -> None:
    firsts: dict[str, int] = {}
    expected = []
    for number, row in enumerate(given_rows):
        first = firsts.setdefault(canonical([row["b"], row["a"]]), number)
        expected.append({**row, "of": None if first == number else first})
    assert bare(outcome(ops.Dedupe(["b", "a"], mark="of"), given_rows)) == expected


@pytest.mark.parametrize(
    ("arguments", "kept"),
    [
        ({}, [0, 1, 2, 3, 4]),
        ({"by": "text"}, [0, 1, 2, 3, 4]),
        ({"by": "text", "normalize": ["lower"]}, [0, 2, 3, 4]),
        ({"by": "text", "normalize": ["whitespace"]}, [0, 1, 3]),
        ({"normalize": ["whitespace", "lower"]}, [0, 3]),
        ({"key": first_letter}, [0, 2, 3]),
        ({"key": f"{__name__}:first_letter"}, [0, 2, 3]),
    ],
)
def test_texts_are_compared_as_it_is_said(arguments: Any, kept: list[int]) -> None:
    given_rows = [{"text": text} for text in ("A b", "a b", " A  b\n", "c", "a b ")]
    assert [row["_i"] for row in outcome(ops.Dedupe(**arguments), given_rows)] == kept


def test_equal_numbers_are_equal() -> None:
    given_rows = [{"a": [1, {"b": 2}]}, {"a": [1.0, {"b": 2.0}]}, {"a": [True, {"b": 2}]}, {"a": [1, {"b": 2.5}]}]
    assert [row["_i"] for row in outcome(ops.Dedupe(), given_rows)] == [0, 2, 3]
    assert len(outcome(ops.GroupBy("a"), [{"a": 1}, {"a": 1.0}])) == 1
    assert len(outcome(ops.GroupBy("a", sorted=True), [{"a": 1}, {"a": 1.0}])) == 1


@pytest.mark.parametrize("operator", [ops.Dedupe(), ops.Limit(9)])
def test_a_bare_list_or_null_is_refused_and_not_taken_for_several_rows_or_none(bench: Bench, operator: Any) -> None:
    bench.input.write_text("[1, 2]\n5\nnull\n[]\n")
    report = bench.pipeline([operator], on_error="dead_letter").run()
    assert [row["data"] for row in lines(bench.output)] == [5]
    assert (report.rows_out, report.failed) == (1, 3)


def test_where_a_row_comes_from_makes_no_difference() -> None:
    given_rows = [{"a": 1, "_sources": [n], "_source": n, "_meta": n} for n in range(3)]
    assert len(outcome(ops.Dedupe(), given_rows)) == 1
    assert len(outcome(ops.Dedupe(), [{"_id": n} for n in range(3)])) == 3


scores = st.lists(st.integers(-20, 20) | st.floats(-20, 20), max_size=60)


@settings(max_examples=40)
@given(scores, st.integers(1, 8), st.booleans())
def test_top_k_is_nlargest(given_scores: list[Any], k: int, largest: bool) -> None:
    given_rows = [{"s": score, "n": n} for n, score in enumerate(given_scores)]
    operator = ops.TopK(k, by="s", largest=largest)
    operator._best._most = k + 2  # so that it forgets rows all the time
    find = heapq.nlargest if largest else heapq.nsmallest
    assert bare(outcome(operator, given_rows)) == find(k, given_rows, key=lambda row: row["s"])


def test_top_k_forgets_rows() -> None:
    given_rows = [{"s": n * 37 % 10_007} for n in range(10_007)]
    operator = ops.TopK(5, by="s")
    assert [row["s"] for row in outcome(operator, given_rows)] == [10006, 10005, 10004, 10003, 10002]
    assert outcome(ops.TopK(2, by="s"), [{"s": "b"}, {"s": "c"}, {"s": "a"}])[0] == {"s": "c", "_sources": [1]}
    with pytest.raises(RowDataError, match="the score is 'a', and those before are numbers"):
        outcome(ops.TopK(2, by="s"), [{"s": 1}, {"s": "a"}])
    with pytest.raises(RowDataError, match="a number or a text, and holds null"):
        outcome(ops.TopK(2, by="s"), [{"s": None}])


@pytest.mark.parametrize("n", [1, 50, 3000])
def test_a_sample_has_exactly_n_rows_in_their_order(n: int) -> None:
    given_rows = [{"n": number} for number in range(2500)]
    kept = [row["n"] for row in outcome(ops.Sample(n=n), given_rows)]
    assert len(kept) == min(n, 2500)
    assert kept == sorted(set(kept))
    assert kept == [row["n"] for row in outcome(ops.Sample(n=n), given_rows)]
    if n == 50:
        assert kept != [row["n"] for row in outcome(ops.Sample(n=n, seed=1), given_rows)]
        assert 800 < sum(kept) / n < 1700


def test_the_settings_of_an_operator_are_compared_and_kept(bench: Bench) -> None:
    bench.give(numbered(5))
    bench.pipeline([ops.Dedupe("n", key=None), ops.Sample(share=0.5)]).create("run").run()
    made = operators_of(bench.run_state("run"))
    assert (made[0].by, made[1].share) == (["n"], 0.5)
    assert fingerprint_of(ops.Dedupe("n")) == fingerprint_of(ops.Dedupe(["n"], normalize=[]))
    assert fingerprint_of(ops.Cross(a=[1])) != fingerprint_of(ops.Cross(a=[2]))
    assert fingerprint_of(ops.Dedupe(key=first_letter)) != fingerprint_of(ops.Dedupe(key=canonical))


def test_a_setting_that_was_edited_is_named_on_a_resume(bench: Bench) -> None:
    def pipeline(share: float, stop: int | None) -> UnifiedPipeline:
        steps: list[Any] = [ops.Sample(share=share), Stopping(stop)]  # what stops has had a row of the sample
        return UnifiedPipeline(
            steps,
            f"jsonl://{bench.input}",
            f"jsonl://{bench.output}",
            base_path=bench.folder / "between",
            results_dir=bench.results,
            log_file=bench.log,
            streaming=True,
        )

    bench.give(numbered(5))
    first = pipeline(1, 3)
    first.create("run")
    first.run()
    with pytest.raises(OperatorChangedError, match=r"share 1 → 0\.5"):
        pipeline(0.5, None).resume("run")
