"""n answers to a row."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMRequestError

from .chat_server import ChatServer, Context, Reply, completion, run_rows


def test_every_answer_becomes_a_row_with_an_id_of_its_own(server: ChatServer, tmp_path: Path) -> None:
    numbers = itertools.count()
    server.reply = lambda seen: Reply(completion(f"answer {next(numbers)}"))
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"q": "x"}\n{"q": "y"}\n', encoding="utf-8")
    pipeline = UnifiedPipeline([server.operator(n=3)], f"jsonl://{source}", f"jsonl://{output}", log_file=None)
    report = pipeline.create("p", results_dir=str(tmp_path / "results")).run()
    rows = [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]
    assert [row["q"] for row in sorted(rows, key=lambda row: row["_i"])] == ["x"] * 3 + ["y"] * 3
    assert {row["answer"] for row in rows} == {f"answer {k}" for k in range(6)}
    assert len({row["_i"] for row in rows}) == 6
    assert [used["requests"] for used in report.usage] == [6]


def test_when_one_answer_fails_the_row_fails_and_the_others_are_counted(server: ChatServer) -> None:
    answers = itertools.chain([Reply("no", 400)], itertools.repeat(Reply(completion("yes"))))
    server.reply = lambda seen: next(answers)
    ctx = Context()
    with pytest.raises(LLMRequestError, match="HTTP 400"):
        asyncio.run(run_rows(server.operator(n=3, seed=1), [{"_i": 0, "q": "x"}], ctx))
    assert sum(used["requests"] for used in ctx.usage) == 2
