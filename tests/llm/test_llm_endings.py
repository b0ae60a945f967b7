"""Only an answer that came to its own end is data: in rows, in the cache, and from cassettes."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import orjson
import pytest

from llm_datagen.llm import CacheError, LLMAnswerError, LLMOperator, LLMRequestError, OpenAIAdapter
from llm_datagen.llm.finish_reasons import Ending
from llm_datagen.testing import cassette

from .chat_server import ChatServer, Context, Reply, completion, run_rows

ROW = {"_i": 4, "q": "x"}
USED = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}


class Local(OpenAIAdapter):
    """A server that has a word of its own."""

    finished_words = ("fini",)


def run(operator: LLMOperator, *rows: Any, ctx: Context | None = None) -> list[Any]:
    return asyncio.run(run_rows(operator, list(rows or [ROW]), ctx))


@pytest.mark.parametrize(
    "word", ["stop", "STOP", "stop_sequence", "end_turn", "eos", "eos_token", "COMPLETE", "stop ", None]
)
def test_an_answer_that_came_to_its_end_is_data_and_kept(server: ChatServer, tmp_path: Path, word: Any) -> None:
    server.always(completion("whole", finish_reason=word))
    for _ in range(2):
        assert run(server.operator(cache=str(tmp_path / "cache"))) == [{**ROW, "answer": "whole"}]
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("word", "message"),
    [
        *((word, "cut off at the token limit: raise max_tokens") for word in ("length", "max_tokens", "MAX_TOKENS")),
        *((word, "cut off at the token limit") for word in ("model_length", "model_context_window_exceeded")),
        *((word, "withheld by the content filter") for word in ("content_filter", "SAFETY", "RECITATION")),
        ("refusal", "is a refusal by the model"),
        *((word, "ended with finish_reason .*finished_words") for word in ("", "OTHER", "unheard_of", 7)),
        ("tool_calls", "ended by calling a tool that nobody offered"),
    ],
)
def test_any_other_ending_is_a_failure_that_names_it_and_is_not_kept(
    server: ChatServer, tmp_path: Path, word: Any, message: str
) -> None:
    server.always(completion("half of", finish_reason=word))
    ctx = Context()
    for calls in (1, 2):
        with pytest.raises(LLMAnswerError, match=message) as caught:
            run(server.operator(cache=str(tmp_path / "cache")), ctx=ctx)
        assert (caught.value.finish_reason, caught.value.answer) == (str(word), "half of")
        assert "row 4" in str(caught.value)
        assert len(server.seen) == calls
    assert [entry["total_tokens"] for entry in ctx.usage] == [10, 10]


@pytest.mark.parametrize(
    "choice",
    [
        *({"finish_reason": word} for word in ("error", "abort", "insufficient_system_resource", "network_error")),
        {"finish_reason": "stop", "error": {"message": "overloaded", "code": 502}},
        {"finish_reason": None, "error": "it broke"},
    ],
)
def test_an_answer_that_broke_off_is_asked_for_again_and_both_count(
    server: ChatServer, tmp_path: Path, choice: dict[str, Any]
) -> None:
    broken: dict[str, Any] = completion("half of")
    broken["choices"][0].update(choice)
    replies = [Reply(broken), Reply(completion("whole"))]
    server.reply = lambda seen: replies[len(server.seen) - 1]
    ctx = Context()
    operator = server.operator(max_retries=1, retry_wait=0.001, cache=str(tmp_path / "cache"))
    assert run(operator, ctx=ctx) == [{**ROW, "answer": "whole"}]
    assert ctx.usage == [{"provider": "127.0.0.1", "model": "tiny", "requests": 1, **USED}] * 2


def test_an_endpoint_that_only_breaks_off_is_no_outage_for_it_answers(server: ChatServer) -> None:
    server.always(completion("half of", finish_reason="error"))
    with pytest.raises(LLMRequestError, match="failed while it answered") as caught:
        run(server.operator(max_retries=6, retry_wait=0.0001, outage_after=60))
    assert type(caught.value) is LLMRequestError
    assert len(server.seen) == 7


def test_a_word_of_ones_own_can_be_allowed_by_the_adapter(server: ChatServer) -> None:
    server.always(completion("whole", finish_reason="fini"))
    assert run(server.operator(adapter=Local)) == [{**ROW, "answer": "whole"}]


def test_the_choice_of_index_0_is_the_answer_wherever_it_stands(server: ChatServer) -> None:
    body = completion("first")
    body["choices"].insert(0, {**completion("second")["choices"][0], "index": 1})
    server.always(body)
    assert run(server.operator()) == [{**ROW, "answer": "first"}]


def test_no_content_is_asked_for_again_as_an_empty_one_is(server: ChatServer) -> None:
    replies = [Reply(completion(None)), Reply(completion("whole"))]
    server.reply = lambda seen: replies[len(server.seen) - 1]
    assert run(server.operator()) == [{**ROW, "answer": "whole"}]
    server.always(completion(None))
    with pytest.raises(LLMAnswerError, match="after 2 answers: it is empty"):
        run(server.operator())


def test_without_a_word_an_answer_as_long_as_it_may_be_counts_as_cut_off(server: ChatServer) -> None:
    body = completion("half of")
    del body["choices"][0]["finish_reason"]
    server.always(body)
    with pytest.raises(LLMAnswerError, match="cut off"):
        run(server.operator(params={"max_tokens": 3}))
    assert run(server.operator(params={"max_tokens": 4})) == [{**ROW, "answer": "half of"}]


@pytest.mark.parametrize("word", ["max_tokens", "error", "OTHER", "tool_calls"])
def test_an_answer_that_an_earlier_version_kept_is_judged_anew(server: ChatServer, tmp_path: Path, word: str) -> None:
    path = tmp_path / "cache"
    run(server.operator(cache=str(path)))
    with sqlite3.connect(path) as file:
        (kept,) = file.execute("SELECT answer FROM answers").fetchone()
        earlier = orjson.loads(kept[8:])
        del earlier["ending"], earlier["extras"]
        old = orjson.dumps({**earlier, "text": "old", "finish_reason": word})
        file.execute("UPDATE answers SET answer = ?", (old,))
        file.execute("PRAGMA user_version = 1")
    server.always(completion("new"))
    for _ in range(2):
        assert run(server.operator(cache=str(path))) == [{**ROW, "answer": "new"}]
    assert len(server.seen) == 2
    with sqlite3.connect(path) as file:
        assert file.execute("PRAGMA user_version").fetchone() == (2,), "a version that would trust it is kept out"
        file.execute("UPDATE answers SET answer = ?", (orjson.dumps({**earlier, "text": "good"}),))
    assert run(server.operator(cache=str(path))) == [{**ROW, "answer": "good"}], "what came to its end stays"


def test_a_cache_of_a_later_format_is_refused(server: ChatServer, tmp_path: Path) -> None:
    run(server.operator(cache=str(tmp_path / "cache")))
    with sqlite3.connect(tmp_path / "cache") as file:
        file.execute("PRAGMA user_version = 3")
    with pytest.raises(CacheError, match="format 3, this version of llm-datagen knows 2"):
        run(server.operator(cache=str(tmp_path / "cache")))


def test_a_cassette_of_an_earlier_version_is_judged_anew(server: ChatServer, tmp_path: Path) -> None:
    path = tmp_path / "tape.jsonl"
    with cassette(path, "once"):
        run(server.operator())
    call = orjson.loads(path.read_bytes())
    assert call["answer"].pop("ending") == Ending.FINISHED
    call["answer"]["finish_reason"] = "abort"
    path.write_bytes(orjson.dumps(call) + b"\n")
    with cassette(path), pytest.raises(LLMAnswerError, match="broke off"):
        run(server.operator())


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}, "ab"),
        ({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}, "a"]}, "a"),
        ({"content": [{"type": "reasoning", "text": "hm"}, {"type": "output_text", "text": "a"}]}, "a"),
    ],
)
def test_a_content_in_parts_is_the_text_of_its_texts(server: ChatServer, message: Any, text: str) -> None:
    body = completion("")
    body["choices"][0]["message"] = message
    server.always(body)
    assert run(server.operator()) == [{**ROW, "answer": text}]


@pytest.mark.parametrize(
    "message",
    [{"content": None, "refusal": "I will not."}, {"content": [{"type": "refusal", "refusal": "I will not."}]}],
)
def test_a_refusal_is_told_as_a_refusal_and_not_repaired(server: ChatServer, message: Any) -> None:
    body = completion("")
    body["choices"][0]["message"] = message
    server.always(body)
    schema = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
    with pytest.raises(LLMAnswerError, match=r"row 4 is a refusal by the model .*: I will not\.; change or drop"):
        run(server.operator(output=schema, max_repairs=3))
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"choices": [{"message": {"content": "good"}, "finish_reason": "stop"}], "usage": %s}', None),
        ("\ufeff" + '{"choices": [{"message": {"content": "good"}, "finish_reason": "stop"}], "x": %s}', None),
        ('{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}]}', "a\nb"),
        ('{"choices": [{"message": {"content": "%s"}, "finish_reason": "stop"}]}', "cut \\ud83d"),
    ],
)
@pytest.mark.parametrize(
    "beside", ['"no"', "NaN", "7" * 5000, "[]", '{"prompt_tokens_details": 5, "prompt_tokens": "7"}']
)
def test_a_good_answer_is_not_thrown_away_for_what_stands_beside_it(
    server: ChatServer, text: str, value: str | None, beside: str
) -> None:
    server.always(text % (value or beside))
    (row,) = run(server.operator())
    assert row["answer"] == {None: "good", "a\nb": "a\nb"}.get(value, "cut \ufffd")


def test_a_rate_limit_that_comes_as_403_is_on_the_cassette_and_a_refused_key_is_not(
    server: ChatServer, tmp_path: Path
) -> None:
    path = tmp_path / "tape.jsonl"
    replies = [Reply({"error": {"message": "rate limit"}}, 403), Reply(completion("yes"))]
    server.reply = lambda seen: replies[len(server.seen) - 1]
    with cassette(path, "once"):
        row = run(server.operator(max_retries=1, retry_wait=0.001))
    with cassette(path):
        assert run(server.operator(max_retries=1, retry_wait=0.001)) == row
    assert len(path.read_bytes().splitlines()) == len(server.seen) == 2
