"""`meta=True`: a row says where its answers come from."""

from __future__ import annotations

import asyncio
import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import orjson
import pytest

from llm_datagen import StreamFactory, UnifiedNode, UnifiedNodePipeline
from llm_datagen.llm import PromptError
from llm_datagen.llm.answers.provenance import all_together, prompt_hash, provenance
from llm_datagen.llm.cache.response_cache import _as_stored
from llm_datagen.llm.types import ChatAnswer, ChatRequest, Parsed

from .chat_server import ChatServer, Context, Reply, completion, run_rows

SCHEMA = {"type": "object", "properties": {"mood": {"type": "string"}}, "required": ["mood"]}


def test_each_node_says_where_its_answer_comes_from_also_through_csv(server: ChatServer, tmp_path: Path) -> None:
    answers = iter(["no json", '{"mood": "good"}', "fine"])
    server.reply = lambda seen: Reply(completion(next(answers)))
    (tmp_path / "in.jsonl").write_text('{"q": "how"}\n')
    source, middle, output = tmp_path / "in.jsonl", tmp_path / "middle.csv", tmp_path / "out.jsonl"
    ask = UnifiedNode("ask").bind_io(f"jsonl://{source}", f"csv://{middle}")
    ask.set_operator(server.operator(output=SCHEMA, meta=True))
    judge = UnifiedNode("judge").bind_io(f"csv://{middle}", f"jsonl://{output}")
    judge.set_operator(server.operator("{{ mood }}", meta=True))
    StreamFactory.create(f"jsonl://{source}").seal()
    pipeline = UnifiedNodePipeline([ask, judge], results_dir=str(tmp_path), log_file=None)
    pipeline.create("p").run()
    (row,) = [json.loads(line) for line in output.read_text().splitlines()]
    first, second = row["_meta"].values()
    with middle.open(newline="") as file:
        assert json.loads(next(csv.DictReader(file))["_meta"]) == {"ask": first}
    assert list(row["_meta"]) == ["ask", "judge"]
    seconds = first.pop("seconds"), second.pop("seconds")
    assert all(0 < each < 60 for each in seconds)
    request = ChatRequest(messages=[{"role": "user", "content": "good"}], params={}, model="tiny")
    assert second == {
        "model": "tiny",
        "response_model": None,
        "endpoint": f"{server.base_url}/chat/completions",
        "prompt_tokens": 7,
        "completion_tokens": 3,
        "cost": None,
        "calls": 1,
        "attempts": 1,
        "is_cached": False,
        "repaired": None,
        "rows": 1,
        "prompt_hash": prompt_hash(request),
    }
    assert (first["prompt_tokens"], first["completion_tokens"], first["calls"]) == (14, 6, 2)
    assert len(first["prompt_hash"]) == 16
    assert first["prompt_hash"] != second["prompt_hash"]


def test_what_came_from_the_cache_says_so_and_every_sample_has_its_own(server: ChatServer, tmp_path: Path) -> None:
    operator = server.operator(meta=True, n=2, cache=str(tmp_path / "cache"))
    row = {"_i": 0, "q": "x", "_meta": {"earlier": {"model": "other"}}}
    (fresh, kept) = asyncio.run(run_rows(operator, [row, row]))
    for found, is_cached in ((fresh, False), (kept, True)):
        assert [list(one["_meta"]) for one in found] == [["earlier", "node_0"]] * 2
        assert [one["_meta"]["node_0"]["is_cached"] for one in found] == [is_cached] * 2
    assert [one["_meta"]["node_0"]["cost"] for one in kept] == [0.0, 0.0]
    assert row["_meta"] == {"earlier": {"model": "other"}}


def test_calls_are_summed_and_one_unknown_cost_makes_the_sum_unknown() -> None:
    request = ChatRequest(messages=[], params={}, model="m")
    paid = ChatAnswer(text="a", model="m", seconds=0.5, attempts=3, cost=0.25, usage={"prompt_tokens": 2})
    kept = ChatAnswer(text="a", model="n", seconds=0.25, cost=0.0, is_cached=True, usage={"completion_tokens": 4})
    found = provenance(request, [paid, kept], Parsed([{}]))
    assert (found["model"], found["seconds"], found["attempts"], found["is_cached"]) == ("n", 0.75, 4, False)
    assert (found["prompt_tokens"], found["completion_tokens"], found["cost"]) == (2, 4, 0.25)
    assert provenance(request, [paid, ChatAnswer(text="a")], Parsed([{}]))["cost"] is None


def test_costs_are_added_up_to_the_picodollar() -> None:
    """As floats, these are 0.0013830000000000001."""
    request = ChatRequest(messages=[], params={}, model="m")
    answers = [ChatAnswer(text="a", model="m", cost=cost) for cost in (0.0004425, 0.0004545, 0.000486)]
    assert provenance(request, answers, Parsed([{}]))["cost"] == 0.001383
    each = [provenance(request, [answer], Parsed([{}])) for answer in answers]
    assert all_together(each)["cost"] == 0.001383


@pytest.mark.parametrize("meta", ["mine", "[1]", 3, ["a"]])
def test_a_column_meta_of_the_user_is_not_overwritten(server: ChatServer, meta: Any) -> None:
    with pytest.raises(PromptError, match="row 4 has a _meta of its own"):
        asyncio.run(run_rows(server.operator(meta=True), [{"_i": 4, "q": "x", "_meta": meta}], Context()))
    assert server.seen == []
    row = {"_i": 4, "q": "x", "_meta": meta}
    assert asyncio.run(run_rows(server.operator(), [row])) == [{**row, "answer": "yes"}]


@pytest.mark.parametrize(
    ("said", "known"),
    [("tiny-2026-01-31", "tiny-2026-01-31"), ("tiny", None), ("", None), (None, None), (7, None), ("a\n b" * 200, ...)],
)
def test_the_model_that_answered_is_told_where_it_is_another_also_from_the_cache(
    server: ChatServer, tmp_path: Path, said: Any, known: Any
) -> None:
    server.always({**completion("yes"), "model": said})
    operator = server.operator(meta=True, cache=str(tmp_path / "cache"))
    for _ in range(2):
        (row,) = asyncio.run(run_rows(operator, [{"_i": 0, "q": "x"}]))
        found = row["_meta"]["node_0"]
        assert found["model"] == "tiny"
        if known is ...:
            assert len(found["response_model"]) < 400
            assert found["response_model"].startswith("a ba b")
        else:
            assert found["response_model"] == known
    assert len(server.seen) == 1


def test_the_anthropic_adapter_tells_it_too(server: ChatServer) -> None:
    usage = {"input_tokens": 1, "output_tokens": 1}
    content = [{"type": "text", "text": "yes"}]
    server.always({"content": content, "stop_reason": "end_turn", "model": "tiny-1", "usage": usage})
    operator = server.operator(adapter="anthropic", api_key="k", params={"max_tokens": 9}, meta=True)
    (row,) = asyncio.run(run_rows(operator, [{"_i": 0, "q": "x"}]))
    assert row["_meta"]["node_0"]["response_model"] == "tiny-1"


def test_an_answer_that_an_earlier_version_kept_can_be_discarded() -> None:
    """It had fewer fields, and what is discarded is found by its bytes."""
    request = ChatRequest(messages=[], params={}, model="m")
    answer = ChatAnswer(text="é", model="m", usage={"total_tokens": 2})
    later = ("response_model", "others")
    fields = {name: value for name, value in dataclasses.asdict(answer).items() if name not in later}
    (written,) = _as_stored([(request, answer)]).values()
    assert written[8:] == orjson.dumps(fields)
    (other,) = _as_stored([(request, dataclasses.replace(answer, response_model="n"))]).values()
    assert orjson.loads(other[8:])["response_model"] == "n"
