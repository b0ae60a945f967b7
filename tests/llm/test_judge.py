"""`Judge`: scores on a scale with their reasons, and which of two is better, whatever their order."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, UnifiedPipeline
from llm_datagen.llm import ColumnExistsError, Judge, LLMAnswerError, PromptError
from llm_datagen.operators import operators_within
from llm_datagen.testing import FakeLLMServer, LLMBatches

from ..kit.support import lines, write_jsonl
from .chat_server import run_rows

PROMPT = "Question: {{ q }}\nAnswer: {{ a }}"
RUBRIC = "Is it true? The right answer: {{ right }}"
ROW = {"q": "2 + 2?", "a": "4", "right": "4", "_i": 3}
PAIR = {"q": "2 + 2?", "one": "four", "two": "about five", "_i": 3}

Said = Callable[[str], dict[str, Any]]


class Bench:
    """A model that answers as it is told by what it is asked, and the prompts that it got."""

    def __init__(self) -> None:
        self.said: Said = lambda asked: {}
        self.asked: list[str] = []
        self.systems: list[str] = []
        self.server = FakeLLMServer(answer=self._answer)

    def _answer(self, messages: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        self.systems.append(messages[0]["content"])
        self.asked.append(messages[-1]["content"])
        return {"reason": f"reason {len(self.asked)}", **self.said(self.asked[-1])}

    def judge(self, prompt: str = PROMPT, **options: Any) -> Judge:
        given = {"rubric": RUBRIC, "model": "m", "base_url": self.server.base_url, "max_retries": 0, **options}
        return Judge(prompt, **given)

    def row(self, row: Mapping[str, Any] = ROW, **options: Any) -> dict[str, Any]:
        """Return what a judge adds to a row."""
        (found,) = asyncio.run(run_rows(self.judge(**options), [dict(row)]))
        return {name: value for name, value in found.items() if name not in row}


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    found = Bench()
    with found.server:
        yield found


def in_turn(*values: Any, name: str = "score") -> Said:
    """Return a model that says one value after the other."""
    left = iter(values)
    return lambda asked: {name: next(left)}


def first_of(asked: str) -> str:
    """Return the text that is shown as A."""
    (found,) = re.findall(r"---- A ----\n(.*)\n", asked)
    return str(found)


def test_one_judge_gives_a_score_and_its_reason_by_a_rubric_that_may_use_the_row(bench: Bench) -> None:
    bench.said = in_turn(4)
    assert bench.row() == {"score": 4, "reason": "reason 1"}
    assert bench.asked[0].endswith("\n----\nQuestion: 2 + 2?\nAnswer: 4")
    assert "Is it true? The right answer: 4\n" in bench.asked[0]
    assert "a whole number from 1 (the worst) to 5 (the best)" in bench.asked[0]
    assert "strict and fair judge" in bench.systems[0]


def test_criteria_have_columns_of_their_own_and_their_mean_is_the_score(bench: Bench) -> None:
    bench.said = lambda asked: {"truth": 5, "clarity": 2}
    rubric = {"truth": "Is it true?", "clarity": "Is it clear?"}
    assert bench.row(rubric=rubric) == {"truth": 5, "clarity": 2, "score": 3.5, "reason": "reason 1"}
    assert "- truth: Is it true?\n- clarity: Is it clear?" in bench.asked[0]
    assert "a score for each of truth, clarity" in bench.asked[0]


@pytest.mark.parametrize(("aggregate", "score"), [(None, 3.25), ("mean", 3.25), ("median", 3.5), ("majority", 4)])
def test_scores_of_several_samples_become_one(bench: Bench, aggregate: Any, score: float) -> None:
    bench.said = in_turn(4, 2, 4, 3)
    found = bench.row(samples=4, aggregate=aggregate)
    assert sorted(found["scores"]) == [2, 3, 4, 4]
    assert (found["score"], found["agreement"]) == (score, 0.5)
    assert sorted(found["reasons"]) == ["reason 1", "reason 2", "reason 3", "reason 4"]


def test_several_judges_are_each_asked_at_their_own_endpoint(bench: Bench) -> None:
    bench.said = in_turn(1, 5, 5)
    other = Bench()
    other.said = in_turn(2)
    with other.server:
        judges = [{"model": "x"}, {"model": "y", "params": {"temperature": 0.5}}, {"model": "z"}]
        judges.append({"model": "w", "base_url": other.server.base_url})
        found = bench.row(judges=judges, meta=True, prices={"input": 1.0, "output": 1.0})
    assert len(bench.asked) == 3
    assert len(other.asked) == 1
    assert sorted(found["scores"][:3]) == [1, 5, 5]
    assert found["scores"][3] == 2, "in the order of the judges"
    assert (found["score"], found["agreement"]) == (3.25, 0.5)
    meta = found["_meta"]["node_0"]
    assert (meta["model"], meta["calls"], meta["rows"]) == ("x | y | z | w", 4, 1)
    assert meta["cost"] == pytest.approx((meta["prompt_tokens"] + meta["completion_tokens"]) * 1e-6)
    assert meta["prompt_tokens"] + meta["completion_tokens"] == bench.server.tokens + other.server.tokens


def test_labels_are_voted_on_and_equal_votes_have_no_winner(bench: Bench) -> None:
    scale = ["wrong", "partial", "right"]
    bench.said = in_turn("right", "partial", "right", "wrong", "right")
    found = bench.row(scale=scale, samples=3, columns={"score": "label", "scores": "labels"})
    assert (found["label"], found["agreement"]) == ("right", 0.6667)
    assert Counter(found["labels"]) == {"right": 2, "partial": 1}
    assert bench.row(scale=scale, samples=2)["score"] is None
    assert "one of wrong, partial, right (from the worst to the best)" in bench.asked[0]


def test_two_texts_are_compared_in_both_orders(bench: Bench) -> None:
    bench.said = lambda asked: {"verdict": "A" if first_of(asked) == "four" else "B"}
    found = bench.row(PAIR, prompt="{{ q }}", rubric="truth", compare=["one", "two"])
    assert found.pop("reasons")
    assert found == {"winner": "one", "votes": ["one"], "agreement": 1.0, "consistent": 1.0}
    assert sorted(map(first_of, bench.asked)) == ["about five", "four"]


def test_a_judge_that_chooses_by_the_place_has_said_nothing(bench: Bench) -> None:
    bench.said = lambda asked: {"verdict": "A"}
    found = bench.row(PAIR, prompt="{{ q }}", rubric="truth", compare=["one", "two"])
    assert (found["winner"], found["votes"], found["consistent"]) == ("tie", ["tie"], 0.0)
    once = bench.row(PAIR, prompt="{{ q }}", rubric="truth", compare=["one", "two"], both_orders=False)
    assert (once["winner"], once["votes"], len(once["reasons"])) == ("one", ["one"], 1)
    assert "consistent" not in once


def test_most_votes_of_samples_and_judges_win_and_equal_votes_are_a_tie(bench: Bench) -> None:
    comparing: dict[str, Any] = {"prompt": "{{ q }}", "rubric": "truth", "compare": ["one", "two"]}
    bench.said = lambda asked: {"verdict": "tie"}
    assert bench.row(PAIR, **comparing, samples=2)["votes"] == ["tie", "tie"]
    second = lambda asked: {"verdict": "B" if first_of(asked) == "four" else "A"}  # noqa: E731
    other = Bench()
    other.said = second
    bench.said = lambda asked: {"verdict": "A" if first_of(asked) == "four" else "B"}
    with other.server:
        judges = [{"model": "x"}, {"model": "y", "base_url": other.server.base_url}]
        found = bench.row(PAIR, **comparing, judges=judges)
        assert (found["winner"], found["votes"], found["agreement"]) == ("tie", ["one", "two"], 0.5)
        found = bench.row(PAIR, **comparing, judges=[*judges, {"model": "z", "base_url": other.server.base_url}])
        assert (found["winner"], found["votes"], found["agreement"]) == ("two", ["one", "two", "two"], 0.6667)
    assert "verdict: A or B, or tie" in bench.asked[0]
    assert len(bench.asked) == 4 + 2 + 2


def test_an_answer_outside_the_scale_is_asked_for_again_and_fails_the_row_in_the_end(bench: Bench) -> None:
    bench.said = in_turn(7, 3)
    assert bench.row()["score"] == 3
    bench.said = in_turn(7, 8)
    with pytest.raises(LLMAnswerError, match="row 3 cannot be used after 2 answers"):
        bench.row()


def test_columns_that_are_there_are_not_overwritten_unless_that_is_said(bench: Bench) -> None:
    bench.said = in_turn(4, 5)
    with pytest.raises(ColumnExistsError, match="'score'"):
        bench.row({**ROW, "score": 1})
    assert not bench.asked
    (found,) = asyncio.run(run_rows(bench.judge(overwrite_columns=True), [{**ROW, "score": 1}]))
    assert found["score"] == 4
    assert bench.row({**ROW, "score": 1, "reason": "-"}, columns={"score": "quality", "reason": "why"})["quality"] == 5


@pytest.mark.slow
def test_a_run_judges_all_rows_within_its_budget_and_a_cache_pays_once(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"q": str(n), "a": str(n), "right": str(n)} for n in range(12)])
    bench.said = lambda asked: {"score": 3}
    for name in ("first", "second"):
        judge = bench.judge(cache="kept", params={"max_tokens": 50}, budget={"tokens": 90_000}, samples=2)
        line = UnifiedPipeline([judge], "jsonl://in.jsonl", f"jsonl://{name}.jsonl", parallel_size=4)
        assert line.create(name).run().status == "completed"
        assert [row["scores"] for row in lines(tmp_path / f"{name}.jsonl")] == [[3, 3]] * 12
    assert len(bench.asked) == 24
    judge = bench.judge(params={"max_tokens": 50}, budget={"tokens": 1500})
    line = UnifiedPipeline([judge], "jsonl://in.jsonl", "jsonl://third.jsonl", parallel_size=4)
    assert line.create("third").run().status == "stopped"


@pytest.mark.slow
def test_a_judge_may_be_asked_by_jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_jsonl(tmp_path / "in.jsonl", [{"q": str(n), "one": "x", "two": "y"} for n in range(10)])
    said = lambda messages: {"reason": "so", "verdict": "A" if "A ----\nx" in messages[-1]["content"] else "B"}  # noqa: E731
    with FakeLLMServer(answer=said, batches=LLMBatches()) as server:
        judge = Judge(
            "{{ q }}",
            rubric="truth",
            compare=["one", "two"],
            model="m",
            base_url=server.base_url,
            params={"max_tokens": 50},
            batch_api={"poll_wait": 0.05, "max_wait": 0.5},
        )
        assert UnifiedPipeline([judge], "jsonl://in.jsonl", "jsonl://out.jsonl").create("job").run().rows_out == 10
        rows = server.account()["rows"]
    assert len(rows) == 20
    assert set(rows.values()) == {1}
    found = lines(tmp_path / "out.jsonl")
    assert {(row["winner"], row["consistent"]) for row in found} == {("one", 1.0)}


def test_plans_and_limits_know_each_judge(bench: Bench) -> None:
    judge = bench.judge(judges=[{"model": "x", "requests_per_minute": 5}, {"model": "y"}])
    assert [each.model for each in operators_within(judge)] == ["x", "y"]


def test_a_resume_with_another_rubric_or_model_is_refused_and_with_another_timeout_it_is_not() -> None:
    def parts(**options: Any) -> Mapping[str, Any]:
        return Judge(PROMPT, **{"rubric": RUBRIC, "model": "m", **options}).fingerprint()

    one = parts()
    assert parts(timeout=3, retry_wait=0.1, max_retries=9) == one
    for options in (
        {"rubric": "x"},
        {"scale": [1, 10]},
        {"samples": 2},
        {"judges": [{"model": "m"}, {"model": "n"}]},
        {"model": "n"},
        {"params": {"temperature": 1}},
        {"system": "x"},
        {"compare": ["q", "a"]},
    ):
        assert parts(**options) != one, options


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rubric": ""}, "rubric must be a text, or a dict"),
        ({"rubric": "a\n{{ x"}, "rubric is not a Jinja2 template: line 2"),
        ({"rubric": {"truth": "{{ x"}}, r"rubric\['truth'\] is not a Jinja2 template"),
        ({"rubric": {"score": "x"}}, "no criterion 'score'"),
        ({"scale": [5, 1]}, "scale must be two whole numbers"),
        ({"scale": ["a", "a"]}, "scale must be two whole numbers"),
        ({"scale": ["a", "b"], "aggregate": "mean"}, "labels have no mean"),
        ({"scale": ["a", "b"], "rubric": {"x": "y"}}, "several criteria need a scale of numbers"),
        ({"compare": ["q"]}, "compare must be a list of two columns"),
        ({"compare": ["q", "tie"]}, "may not be called 'tie'"),
        ({"judges": []}, "judges must be a list of dicts"),
        ({"judges": [{"model": "m"}, {"model": "n"}, {"model": "m"}]}, r"judges\[2\] is asked the same as judges\[0\]"),
        ({"judges": [{"model": "m", "rubrik": "x"}]}, r"judges\[0\] has no setting 'rubrik'"),
        ({"columns": {"scores": "x"}}, "columns must be a dict with other names for score, reason"),
        ({"columns": {"score": "reason"}}, "names of their own"),
        ({"samples": 0}, "samples"),
        ({"judges": [{"model": "m"}, {"model": "n"}], "batch_api": True}, "batch_api is for one judge"),
        ({"model": None}, "give model"),
        ({"rubik": 1}, "Judge has no setting 'rubik'"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Judge(PROMPT, **{"rubric": RUBRIC, "model": "m", **options})


def test_a_row_without_what_is_compared_fails_before_a_call(bench: Bench) -> None:
    with pytest.raises(PromptError, match="row 3 has no column 'two', which is to be compared"):
        bench.row({"q": "x", "one": "y", "_i": 3}, prompt="{{ q }}", rubric="truth", compare=["one", "two"])
    assert not bench.asked
