"""`Rerank`: the documents of a row in the order of their scores, and nothing of a server that lies."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, NodeFailedError, RunReport, UnifiedPipeline
from llm_datagen.llm import LLMRequestError, OpenAIAdapter, OutageError, PromptError, Rerank
from llm_datagen.testing import FakeLLMServer, LLMFaults, cassette

from ..kit.support import lines, write_jsonl
from .chat_server import ChatServer, Reply, run_rows

DOCUMENTS = ["birch", "amber and cedar", "nothing of it", "amber birch cedar", "amber"]
QUERY = "amber birch cedar delta"
SCORES = [0.25, 0.5, 0.0, 0.75, 0.25]
"""What the fake endpoint gives them."""
BEST = [3, 1, 0, 4, 2]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with an input, and an environment without anybody's key."""
    monkeypatch.chdir(tmp_path)
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "JINA_BASE_URL", "COHERE_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    write_jsonl(tmp_path / "in.jsonl", [{"q": f"{QUERY} {n}", "docs": DOCUMENTS} for n in range(12)])
    return tmp_path


def rerank(base_url: str, query: str = "{{ q }}", **options: Any) -> Rerank:
    given = {"documents": "docs", "model": "m", "base_url": base_url, "max_retries": 0, "outage_after": 0, **options}
    return Rerank(query, **given)


def run(operator: Any, **settings: Any) -> RunReport:
    given: dict[str, Any] = {"parallel_size": 8, "on_error": "dead_letter", **settings}
    pipeline = UnifiedPipeline([operator], "jsonl://in.jsonl", "jsonl://out.jsonl", **given)
    return pipeline.create("job", if_exists="overwrite").run()


def rows_of(operator: Any, *rows: Any) -> list[Any]:
    return asyncio.run(run_rows(operator, list(rows)))


def _reply(body: Any) -> Reply:
    return Reply(body if isinstance(body, dict) else json.dumps(body))


def results(*scores: Any, **more: Any) -> dict[str, Any]:
    """Return the body of an answer with these scores, the last document first."""
    found = [{"index": index, "relevance_score": score} for index, score in enumerate(scores)]
    return {"results": found[::-1], "usage": {"total_tokens": 9}, **more}


def test_documents_come_in_the_order_of_their_scores_with_their_places() -> None:
    with FakeLLMServer() as server:
        operator = rerank(server.base_url, indices="places", meta=True, prices={"input": 2.0})
        (row,) = rows_of(operator, {"q": QUERY, "docs": DOCUMENTS})
        (best,) = rows_of(rerank(server.base_url, top_n=2), {"q": QUERY, "docs": DOCUMENTS})
        tokens = server.tokens // 2
    assert row["places"] == BEST
    assert row["ranked"] == [DOCUMENTS[index] for index in BEST]
    assert row["relevance"] == [SCORES[index] for index in BEST]
    meta = row["_meta"]["node_0"]
    assert (meta["prompt_tokens"], meta["cost"]) == (tokens, pytest.approx(tokens * 2e-6))
    assert (best["ranked"], best["relevance"]) == (["amber birch cedar", "amber and cedar"], [0.75, 0.5])


def test_documents_may_be_columns_or_objects_and_a_row_without_any_makes_no_request() -> None:
    with FakeLLMServer() as server:
        columns = rerank(server.base_url, documents=["a", "b"])
        assert rows_of(columns, {"q": "amber", "a": "birch", "b": "amber"})[0]["ranked"] == ["amber", "birch"]
        objects = rerank(server.base_url, document="{{ title }} {{ text }}")
        docs = [{"title": "x", "text": "birch"}, {"title": "y", "text": "amber"}]
        assert rows_of(objects, {"q": "amber", "docs": docs})[0]["ranked"] == docs[::-1]
        assert server.calls == 2
        assert rows_of(rerank(server.base_url), {"q": "amber", "docs": []})[0]["ranked"] == []
        assert server.calls == 2


@pytest.mark.parametrize("fault", ["too_few", "too_many", "twice", "not_a_number"])
def test_an_endpoint_that_lies_is_not_believed(fault: str) -> None:
    with FakeLLMServer(faults=LLMFaults(**{fault: 0.5}), seed=2) as server:
        run(rerank(server.base_url, max_retries=20, retry_wait=0.001))
        assert server.faults_met[fault]
    rows = lines(Path("out.jsonl"))
    assert len(rows) == 12
    assert all(row["ranked"][0] == "amber birch cedar" and row["ranked"][-1] == "nothing of it" for row in rows)
    refused = pytest.raises(LLMRequestError, match=r"sent \d scores for 5|did not send scores but|are no numbers")
    with FakeLLMServer(faults=LLMFaults(**{fault: 1.0})) as server, refused:
        rows_of(rerank(server.base_url), {"q": QUERY, "docs": DOCUMENTS})


@pytest.mark.parametrize(
    "broken",
    [
        {"results": [{"relevance_score": 0.5}]},
        {"results": [{"index": 0, "relevance_score": "0.5"}]},
        {"results": [{"index": True, "relevance_score": 0.5}]},
        {"results": [{"index": 1, "relevance_score": 0.5}]},
        {"results": {}},
        {"data": []},
        [],
    ],
)
def test_what_is_no_score_is_refused(server: ChatServer, broken: Any) -> None:
    server.reply = lambda seen: _reply(broken)
    with pytest.raises(LLMRequestError, match=r"did not send scores but|sent 0 scores for 1 documents") as caught:
        rows_of(rerank(server.base_url), {"q": "a", "docs": ["b"]})
    # What has results, however bad, is there: its calls do not wait for it to come back.
    is_there = isinstance(broken, dict) and any(isinstance(value, list | dict) for value in broken.values())
    assert isinstance(caught.value, OutageError) == (not is_there)


@pytest.mark.slow
def test_equal_requests_are_paid_for_once_and_a_cassette_plays_them() -> None:
    with FakeLLMServer() as server:
        with cassette("tape.jsonl", record_mode="once"):
            run(rerank(server.base_url, cache="kept"))
        report = run(rerank(server.base_url, cache="kept"))
        assert server.calls == 12
        assert report.usage[0]["cached"] == 12
    with cassette("tape.jsonl"):
        assert run(rerank(server.base_url)).rows_out == 12


def test_searches_are_paid_for_where_an_api_counts_these_and_a_budget_holds_them(server: ChatServer) -> None:
    many = ["b"] * 150
    billed = {"meta": {"billed_units": {"search_units": 2}}}
    server.always({"results": results(*[0.5] * 150)["results"], **billed})
    base_url = server.base_url.removesuffix("/v1")
    operator = rerank(base_url, adapter="cohere", meta=True, prices={"requests": 2.0}, budget={"usd": 0.5})
    (row,) = rows_of(operator, {"q": "a", "docs": many})
    assert row["_meta"]["node_0"]["cost"] == pytest.approx(0.004)
    write_jsonl(Path("in.jsonl"), [{"q": str(n), "docs": many} for n in range(9)])
    report = run(rerank(base_url, adapter="cohere", prices={"requests": 2.0}, budget={"usd": 0.01}), parallel_size=1)
    assert (report.status, report.rows_out) == ("stopped", 2), "a third may cost 0.004 again, and 0.002 are left"


SHAPES: dict[str, tuple[str, dict[str, Any], Any]] = {
    "openai": ("/v1/rerank", {"model": "m", "query": "a", "documents": ["b", "c"]}, results(0.25, 0.5)),
    "jina": ("/v1/rerank", {"model": "m", "query": "a", "documents": ["b", "c"]}, results(0.25, 0.5)),
    "vllm": ("/v1/rerank", {"model": "m", "query": "a", "documents": ["b", "c"]}, results(0.25, 0.5)),
    "voyage": (
        "/v1/rerank",
        {"model": "m", "query": "a", "documents": ["b", "c"], "truncation": False},
        {"data": results(0.25, 0.5)["results"], "usage": {"total_tokens": 9}},
    ),
    "cohere": (
        "/v2/rerank",
        {"model": "m", "query": "a", "documents": ["b", "c"]},
        {"results": results(0.25, 0.5)["results"], "meta": {"billed_units": {"search_units": 1}}},
    ),
    "tei": (
        "/rerank",
        {"query": "a", "texts": ["b", "c"], "truncate": False},
        [{"index": 1, "score": 0.5}, {"index": 0, "score": 0.25}],
    ),
}


@pytest.mark.parametrize("name", SHAPES)
def test_each_api_is_spoken_in_its_own_words(server: ChatServer, name: str) -> None:
    path, body, answer = SHAPES[name]
    server.reply = lambda seen: _reply(answer)
    base_url = server.base_url if path.startswith("/v1/") else server.base_url.removesuffix("/v1")
    (row,) = rows_of(rerank(base_url, adapter=name, api_key="canary"), {"q": "a", "docs": ["b", "c"]})
    assert (row["ranked"], row["relevance"]) == (["c", "b"], [0.5, 0.25])
    assert (server.seen[0].path, server.seen[0].body) == (path, body)
    assert server.seen[0].headers["authorization"] == "Bearer canary"


def test_an_endpoint_that_is_down_is_pinged_with_a_query_and_a_document() -> None:
    with FakeLLMServer() as server:
        server.outage = True
        with pytest.raises(NodeFailedError, match="OutageError: nothing but errors"):
            run(rerank(server.base_url))
        assert server.prompts["ping"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"q": "a"}, "row 7 has no column 'docs', which holds its documents; it has: q, _i"),
        ({"q": "a", "docs": "b"}, "the documents of row 7, 'docs', are no list"),
        ({"q": "a", "docs": ["b", {"t": 1}]}, "a document of row 7 is no text, or blank: give document"),
        ({"q": "a", "docs": [" "]}, "a document of row 7 is no text, or blank"),
        ({"q": "", "docs": ["b"]}, "the query of row 7 is empty"),
    ],
)
def test_rows_without_a_query_or_documents_fail_before_a_request(
    server: ChatServer, row: dict[str, Any], message: str
) -> None:
    with pytest.raises(PromptError, match=message):
        rows_of(rerank(server.base_url), {**row, "_i": 7})
    assert not server.seen


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"adapter": "anthropic"}, "adapter must be 'openai', 'cohere', .* not 'anthropic'"),
        ({"adapter": OpenAIAdapter}, "OpenAIAdapter is an adapter for chat, and here one for rerank is needed"),
        ({"base_url": None}, "give base_url, or set the environment variable OPENAI_BASE_URL"),
        ({"base_url": "https://api.openai.com/v1"}, "OpenAI has no reranking"),
        ({"documents": []}, "documents must be a column, or a list of columns"),
        ({"relevance": "ranked"}, "columns of their own"),
        ({"top_n": 0}, "top_n"),
        ({"params": {"top_n": 3}}, "params may not hold 'top_n'"),
        ({"prices": {}}, "prices must have 'input'"),
        ({"prices": {"requests": -1}}, "US dollars per thousand requests"),
        ({"prices": {"inptu": 1}}, "inptu"),
    ],
)
def test_wrong_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        rerank(**{"base_url": "http://127.0.0.1:9/v1", **options})


def test_a_resume_with_another_query_is_refused_and_with_another_timeout_it_is_not() -> None:
    url = "http://127.0.0.1:9/v1"
    one = rerank(url).fingerprint()
    assert rerank(url, timeout=3, retry_wait=0.1).fingerprint() == one
    for options in ({"query": "{{ q }}!"}, {"top_n": 2}, {"document": "{{ data }}"}, {"documents": ["a", "b"]}):
        assert rerank(url, **options).fingerprint() != one
