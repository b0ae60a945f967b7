"""Operators on single rows: what they make of them, and what they refuse."""

from __future__ import annotations

import pickle
from collections import Counter
from typing import Any

import pytest

from llm_datagen import ConfigError, RowDataError, ops

from ..kit.support import Bench, lines
from .calls import bare, outcome

ROWS = [{"a": n, "b": [n] * n, "c": "x"} for n in range(4)]


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (ops.Keep("a > 1"), ROWS[2:]),
        (pickle.loads(pickle.dumps(ops.Keep("a > 1"))), ROWS[2:]),
        (ops.Select(["c", "a"]), [{"c": "x", "a": n} for n in range(4)]),
        (ops.Select(["c", "no"], missing="ignore"), [{"c": "x"}] * 4),
        (ops.Drop("b"), [{"a": n, "c": "x"} for n in range(4)]),
        (ops.Drop(["b", "no"], missing="ignore"), [{"a": n, "c": "x"} for n in range(4)]),
        (ops.Rename({"a": "c", "c": "a"}), [{"c": n, "b": [n] * n, "a": "x"} for n in range(4)]),
        (ops.Rename({"no": "z"}, missing="ignore"), ROWS),
        (ops.Explode("b"), [{"a": n, "b": n, "c": "x"} for n in range(4) for _ in range(n)]),
        (ops.Cross(d=[1, 2], e=["x"]), [{**row, "d": d, "e": "x"} for row in ROWS for d in (1, 2)]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_row_becomes(operator: Any, expected: list[Any]) -> None:
    assert bare(outcome(operator, ROWS)) == expected


def test_columns_stay_in_their_places() -> None:
    [row] = bare(outcome(ops.Rename({"a": "z"}), [{"a": 1, "b": 2}]))
    assert list(row) == ["z", "b"]
    [row] = bare(outcome(ops.Select(["b", "a"]), [{"a": 1, "b": 2}]))
    assert list(row) == ["b", "a"]


@pytest.mark.parametrize(
    ("operator", "row", "why"),
    [
        (ops.Keep("aa > 1"), {"a": 1}, "no column 'aa'; known are a|did you mean 'a'"),
        (ops.Select(["no"]), {"a": 1}, "no column 'no'"),
        (ops.Drop(["no"]), {"a": 1}, "no column 'no'"),
        (ops.Rename({"no": "z"}), {"a": 1}, "no column 'no'"),
        (ops.Rename({"a": "b"}), {"a": 1, "b": 2}, "a column 'b' already"),
        (ops.Explode("a"), {"a": "text"}, "column 'a' must hold a list, and holds a str"),
        (ops.Explode("a"), {"a": None}, "holds null"),
        (ops.Cross(a=[1]), {"a": 1}, "a column 'a' already"),
        (ops.Choose("a", {"x": 1}), {"a": 1}, "a column 'a' already"),
        (ops.Split({"x": 1}, by="no"), {"a": 1}, "no column 'no'"),
        (ops.ToChat(), {"prompt": "a", "response": 3}, "'response' must hold text, and holds an int"),
        (ops.ToChat(turns="t"), {"t": [{"role": "boss", "content": "a"}]}, "turn 0: it must be a text, or have a role"),
        (ops.ToChat(turns="t"), {"t": []}, "a list of turns"),
        (ops.ToPreference(), {"prompt": "a", "chosen": "b"}, "no column 'rejected'"),
        (
            ops.ToPreference(answers="x", scores="y"),
            {"prompt": "p", "x": ["a"], "y": [1, 2]},
            "has 1 answers, and 'y' 2 scores",
        ),
        *(
            (
                ops.ToPreference(answers="x", scores="y"),
                {"prompt": "p", "x": ["a", "b"], "y": [1, score]},
                rf"column 'y' must hold a list of numbers, and element 1 \(counted from 0\) is {kind}",
            )
            for score, kind in [(None, "null"), ("4", "a str"), (True, "a bool"), (float("nan"), "nan")]
        ),
        (
            ops.ToPreference(answers="x", scores="y"),
            {"prompt": "p", "x": [["a"], "b"], "y": [1, 2]},
            r"column 'x' must hold a list of texts, and element 0 \(counted from 0\) is a list",
        ),
        (
            ops.ToPreference(answers="x", scores="y"),
            {"prompt": "p", "x": "a", "y": []},
            "a list of texts, and holds a str",
        ),
    ],
)
def test_a_row_that_does_not_fit_is_refused_by_name(operator: Any, row: Any, why: str) -> None:
    with pytest.raises(RowDataError, match=why):
        outcome(operator, [row])


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: ops.Select([]), "columns must be"),
        (lambda: ops.Select(["a", "a"]), "names a column twice"),
        (lambda: ops.Drop("_i"), "cannot be dropped"),
        (lambda: ops.Rename({"_i": "a"}), "cannot be renamed"),
        (lambda: ops.Rename({"a": "_i"}), "other than '_i'"),
        (lambda: ops.Rename({"a": "c", "b": "c"}), "twice"),
        (lambda: ops.Drop("a", missing="no"), "missing must be one of"),  # type: ignore[arg-type]
        (ops.Cross, "needs a column with a list"),
        (lambda: ops.Cross(a=[]), "must be a list of values"),
        (lambda: ops.Choose("a", {}), "values must be"),
        (lambda: ops.Choose("a", {"x": 0}), "all weights are 0"),
        (lambda: ops.Choose("a", {"x": -1}), "the weight of 'x'"),
        (lambda: ops.Choose("a", {1: 2}), "list of"),  # type: ignore[dict-item]
        (lambda: ops.Split({"train": 0.9, "test": 0.2}), "whose sum is 1; it is 1.1"),
        (ops.Sample, "one of the two"),
        (lambda: ops.Sample(share=1, n=1), "one of the two"),
        (lambda: ops.Sample(share=1.5), "from 0 to 1"),
        (lambda: ops.Limit(0), "n must be a whole number from 1"),
        (lambda: ops.ToPreference(answers="a"), "belong together"),
        (lambda: ops.Dedupe("a", key=str), "not both"),
        (lambda: ops.Dedupe(key=lambda row: row), "at the top level of a module"),
        (lambda: ops.Dedupe(key="json:nothing"), "json has no 'nothing'"),
        (lambda: ops.Dedupe("a", normalize="lower"), "normalize must be a list"),
        (lambda: ops.Dedupe("a", normalize=["upper"]), "normalize must be one of"),
    ],
)
def test_an_operator_that_cannot_work_is_refused_at_once(make: Any, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        make()


def test_a_choice_has_its_weights_and_is_the_same_again() -> None:
    rows = [{"n": n} for n in range(4000)]
    chosen = [row["x"] for row in outcome(ops.Choose("x", {"a": 3, "b": 1, "never": 0}), rows)]
    assert chosen == [row["x"] for row in outcome(ops.Choose("x", {"a": 3, "b": 1, "never": 0}), rows)]
    count = Counter(chosen)
    assert set(count) == {"a", "b"}
    assert 2850 < count["a"] < 3150
    other = [row["y"] for row in outcome(ops.Choose("y", {"a": 3, "b": 1, "never": 0}), rows)]
    assert other != chosen
    assert {row["x"] for row in outcome(ops.Choose("x", [[1, 1], [None, 1], [[2], 0]]), rows)} == {1, None}


def test_a_split_has_its_shares_and_keeps_what_is_equal_together() -> None:
    rows = [{"user": n % 900} for n in range(4000)]
    split = ops.Split({"train": 0.8, "test": 0.2})
    assert 3100 < Counter(row["split"] for row in outcome(split, rows))["train"] < 3300
    by_user: dict[int, set[str]] = {}
    for row in outcome(ops.Split({"train": 0.8, "test": 0.2}, by="user", column="part"), rows):
        by_user.setdefault(row["user"], set()).add(row["part"])
    assert all(len(parts) == 1 for parts in by_user.values())
    assert 650 < sum(parts == {"train"} for parts in by_user.values()) < 790


def test_equal_numbers_are_in_one_part() -> None:
    parts = {"a": 0.25, "b": 0.25, "c": 0.25, "d": 0.25}
    rows = outcome(ops.Split(parts, by="n"), [{"n": kind(n)} for n in range(20) for kind in (int, float)])
    assert [row["split"] for row in rows[::2]] == [row["split"] for row in rows[1::2]]
    assert {row["split"] for row in rows} == set(parts)


def test_a_share_and_a_split_of_one_seed_do_not_go_together() -> None:
    kept = outcome(ops.Sample(share=0.5), [{}] * 4000)
    assert 1850 < len(kept) < 2150
    train = [row for row in outcome(ops.Split({"train": 0.5, "test": 0.5}), kept) if row["split"] == "train"]
    assert 0.4 < len(train) / len(kept) < 0.6
    assert outcome(ops.Sample(share=0.0), [{}] * 9) == []
    assert len(outcome(ops.Sample(share=1), [{}] * 9)) == 9


MESSAGES = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]


@pytest.mark.parametrize(
    ("operator", "row", "expected"),
    [
        (ops.ToChat(), {"prompt": "a", "response": "b"}, {"messages": MESSAGES}),
        (ops.ToChat(turns="t"), {"t": ["a", "b"]}, {"messages": MESSAGES}),
        (ops.ToChat(turns="t"), {"t": MESSAGES}, {"messages": MESSAGES}),
        (
            ops.ToChat(turns="t", keep=["n"]),
            {"t": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}], "n": 1},
            {"messages": MESSAGES, "n": 1},
        ),
        (
            ops.ToChat(system="s", layout="sharegpt"),
            {"prompt": "a", "response": "b", "s": "c"},
            {
                "conversations": [
                    {"from": "system", "value": "c"},
                    {"from": "human", "value": "a"},
                    {"from": "gpt", "value": "b"},
                ]
            },
        ),
        (ops.ToChat(system="s"), {"prompt": "a", "response": "b", "s": None}, {"messages": MESSAGES}),
        (
            ops.ToPreference(prompt="q"),
            {"q": "a", "chosen": "b", "rejected": "c", "z": 1},
            {"prompt": "a", "chosen": "b", "rejected": "c"},
        ),
        (
            ops.ToPreference(answers="x", scores="y", layout="messages", keep=["z"]),
            {"prompt": "a", "x": ["c", "b", "d"], "y": [1, 5.5, 1], "z": 1},
            {
                "prompt": [{"role": "user", "content": "a"}],
                "chosen": [{"role": "assistant", "content": "b"}],
                "rejected": [{"role": "assistant", "content": "c"}],
                "z": 1,
            },
        ),
    ],
)
def test_a_row_becomes_what_trainers_read(operator: Any, row: Any, expected: Any) -> None:
    assert bare(outcome(operator, [row])) == [expected]


@pytest.mark.parametrize("scores", [[], [3, 3], [1, 1.4]])
def test_answers_that_hardly_differ_make_no_pair(scores: list[float]) -> None:
    row = {"prompt": "a", "x": ["b", "c"][: len(scores)], "y": scores}
    assert outcome(ops.ToPreference(answers="x", scores="y", least_gap=0.5), [row]) == []


@pytest.mark.parametrize(
    ("answers", "scores", "chosen", "rejected"),
    [
        ("xxy", [9, 1, 2], "x", "y"),  # the worst is the best answer once more
        ("xxy", [9, 1, 8], "y", "x"),
        ("yxx", [5, 9, 3], "x", "y"),
        ("xyz", [1, 2, 3], "z", "x"),
        ("xxyy", [3, 3, 9, 9], "y", "x"),
    ],
)
def test_the_two_sides_of_a_pair_differ(answers: str, scores: list[int], chosen: str, rejected: str) -> None:
    row = {"prompt": "a", "x": list(answers), "y": scores}
    pair = {"prompt": "a", "chosen": chosen, "rejected": rejected}
    assert bare(outcome(ops.ToPreference(answers="x", scores="y"), [row])) == [pair]


def test_the_ids_of_rows_are_those_of_any_operator_and_a_row_that_fails_is_set_aside(bench: Bench) -> None:
    bench.give([{"a": [1, 2]}, {"a": 3}, {"b": 1}, {"a": []}])
    report = bench.pipeline([ops.Explode("a"), ops.Keep("a > 1")], on_error="dead_letter").run()
    assert lines(bench.output) == [{"a": 2, "_i": "0_1"}]
    assert (report.failed, report.filtered) == (2, 2)
