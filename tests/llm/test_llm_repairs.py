"""Repairs: an answer that does not fit is asked for again, with what is wrong with it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMAnswerError

from .chat_server import ChatServer, Context, Reply, completion, run_rows

SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"], "additionalProperties": False}
ROW = {"_i": 3, "q": "x"}


def answers(server: ChatServer, *texts: str) -> None:
    left = iter(texts)
    server.reply = lambda seen: Reply(completion(next(left)))


def test_the_model_is_shown_its_answers_and_what_is_wrong_with_them(server: ChatServer) -> None:
    answers(server, '{"n": "seven"}', "", '{"n": 7}')
    ctx = Context()
    rows = asyncio.run(run_rows(server.operator(output=SCHEMA, max_repairs=2), [ROW], ctx))
    assert rows == [{**ROW, "n": 7}]
    messages: list[dict[str, Any]] = server.seen[2].body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "user"]
    assert messages[:3] == server.seen[1].body["messages"]
    assert messages[1]["content"] == '{"n": "seven"}'
    assert "$.n is not of type integer" in messages[2]["content"]
    assert "it is not JSON" in messages[3]["content"]
    assert sum(used["total_tokens"] for used in ctx.usage) == 30


@pytest.mark.parametrize("repairs", [0, 2])
def test_after_the_last_repair_the_error_has_the_answer(server: ChatServer, repairs: int) -> None:
    server.always(completion("so sorry " * 1000))
    with pytest.raises(LLMAnswerError, match=r"row 3 cannot be used.*: it is not JSON") as caught:
        asyncio.run(run_rows(server.operator(output=SCHEMA, max_repairs=repairs), [ROW]))
    assert len(server.seen) == repairs + 1
    assert ("after 3 answers" in str(caught.value)) == (repairs == 2)
    assert caught.value.answer == "so sorry " * 1000
    assert "sorry" not in str(caught.value)
    assert 4000 < len(caught.value.__notes__[0]) < 4100


def test_what_is_cut_off_is_not_repaired(server: ChatServer) -> None:
    server.always(completion('{"n": 7}', finish_reason="length"))
    with pytest.raises(LLMAnswerError, match="was cut off") as caught:
        asyncio.run(run_rows(server.operator(output=SCHEMA, max_repairs=3), [ROW]))
    assert len(server.seen) == 1
    assert caught.value.answer == '{"n": 7}'


def test_a_dead_letter_shows_the_answer_and_the_log_does_not(server: ChatServer, tmp_path: Path) -> None:
    server.always(completion("forty-two"))
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    log = tmp_path / "platform.log"
    source.write_text('{"q": "x"}\n', encoding="utf-8")
    operator = server.operator(output=SCHEMA)
    pipeline = UnifiedPipeline(
        [operator], f"jsonl://{source}", f"jsonl://{output}", on_error="dead_letter", log_file=str(log)
    )
    pipeline.create("p", results_dir=str(tmp_path / "results")).run()
    assert len(server.seen) == 2
    dead_letters = Path(f"{output}.errors.jsonl").read_text(encoding="utf-8").splitlines()
    assert "forty-two" in json.loads(dead_letters[0])["error"]["trace"]
    assert "forty-two" not in log.read_text(encoding="utf-8")
