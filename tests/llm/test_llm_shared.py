"""Which rows share a cached answer, and that no column of a row is overwritten unseen."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import UnifiedPipeline
from llm_datagen.errors import ConfigError
from llm_datagen.llm import ColumnExistsError

from .chat_server import ChatServer, Context, Reply, completion, run_rows

ROWS = [{"_i": number, "q": "a joke"} for number in range(5)]
OPEN = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


def numbered(server: ChatServer) -> ChatServer:
    numbers = itertools.count()
    server.reply = lambda seen: Reply(completion(f"joke {next(numbers)}"))
    return server


def test_rows_of_one_prompt_share_an_answer_and_the_log_says_so_once(server: ChatServer, tmp_path: Path) -> None:
    ctx = Context()
    rows = asyncio.run(run_rows(numbered(server).operator(cache=str(tmp_path / "cache")), ROWS, ctx))
    assert {row["answer"] for row in rows} == {"joke 0"}
    (line,) = [line for line in ctx.lines if "cached answer" in line]
    assert "row 1 got the cached answer of row 0" in line
    assert "cache_by='row'" in line


@pytest.mark.parametrize(
    ("options", "rows"),
    [({"params": {"temperature": 0}}, ROWS), ({"cache_by": "row"}, ROWS), ({"n": 3}, ROWS[:1] * 2)],
    ids=["temperature 0", "by the row", "the same row again"],
)
def test_nothing_is_said_where_nobody_wants_another_answer(
    server: ChatServer, tmp_path: Path, options: Any, rows: Any
) -> None:
    ctx = Context()
    asyncio.run(run_rows(server.operator(cache=str(tmp_path / "cache"), **options), rows, ctx))
    assert not [line for line in ctx.lines if "cached answer" in line]


@pytest.mark.parametrize("n", [1, 2])
def test_by_the_row_every_row_and_sample_has_its_own_answer_and_gets_it_again(
    server: ChatServer, tmp_path: Path, n: int
) -> None:
    operator = numbered(server).operator(cache=str(tmp_path / "cache"), cache_by="row", n=n)
    first = asyncio.run(run_rows(operator, ROWS))
    with_meta = [{**row, "_meta": {"a": {"seconds": 1.5}}} for row in reversed(ROWS)]
    again = asyncio.run(run_rows(operator, with_meta))
    flat = [row for rows in first for row in (rows if n > 1 else [rows])]
    assert len({row["answer"] for row in flat}) == len(server.seen) == 5 * n
    answers = [[row["answer"] for row in (rows if n > 1 else [rows])] for rows in first]
    assert [[row["answer"] for row in (rows if n > 1 else [rows])] for rows in again] == answers[::-1]


def test_by_the_row_another_input_with_the_same_ids_has_its_own_answers(server: ChatServer, tmp_path: Path) -> None:
    operator = numbered(server).operator(cache=str(tmp_path / "cache"), cache_by="row")
    rows = asyncio.run(run_rows(operator, [*ROWS, *({**row, "shard": 2} for row in ROWS)]))
    assert len({row["answer"] for row in rows}) == 10


def test_by_the_row_a_second_run_over_the_same_input_pays_for_nothing(server: ChatServer, tmp_path: Path) -> None:
    source = tmp_path / "in.jsonl"
    source.write_text('{"q": "a joke"}\n' * 20, encoding="utf-8")
    found = []
    for name in ("one", "two"):
        operator = numbered(server).operator(cache=str(tmp_path / "cache"), cache_by="row")
        output = tmp_path / f"{name}.jsonl"
        pipeline = UnifiedPipeline([operator], f"jsonl://{source}", f"jsonl://{output}", log_file=None)
        pipeline.create(name, results_dir=str(tmp_path / "results")).run()
        found.append([json.loads(line)["answer"] for line in output.read_text(encoding="utf-8").splitlines()])
    assert len(set(found[0])) == len(server.seen) == 20
    assert found[1] == found[0]


def test_what_an_answer_is_kept_by_is_checked(server: ChatServer) -> None:
    with pytest.raises(ConfigError, match="cache_by must be one of 'request', 'row', not 'rows'"):
        server.operator(cache_by="rows")


@pytest.mark.parametrize(
    ("options", "row", "column"),
    [
        ({}, {"q": "x", "answer": "mine"}, "answer"),
        ({"output": OPEN}, {"q": "x", "n": None}, "n"),
        ({"extra_columns": {"reasoning": "why"}}, {"q": "x", "why": ""}, "why"),
        ({"output": "data", "prompt": "{{ data }}"}, "x", "data"),
    ],
)
def test_a_column_of_the_row_is_not_overwritten_and_no_call_is_made(
    server: ChatServer, options: Any, row: Any, column: str
) -> None:
    with pytest.raises(ColumnExistsError, match=f"has a column '{column}' already.*overwrite_columns=True"):
        asyncio.run(run_rows(server.operator(**options), [row]))
    assert server.seen == []
    server.always(completion('{"n": 1}'))
    (found,) = asyncio.run(run_rows(server.operator(overwrite_columns=True, **options), [row]))
    assert found[column] in (1, '{"n": 1}', None)


def test_a_column_that_the_schema_does_not_name_overwrites_nothing_either(server: ChatServer) -> None:
    server.always(completion('{"n": 1, "q": "changed"}'))
    with pytest.raises(ColumnExistsError, match="row 0 has a column 'q' already"):
        asyncio.run(run_rows(server.operator(output=OPEN), [{"_i": 0, "q": "x"}]))


def test_two_operators_in_a_line_that_write_one_column_are_told_by_name(
    server: ChatServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"q": "x"}\n', encoding="utf-8")
    operators = [server.operator(), server.operator("{{ answer }}")]
    pipeline = UnifiedPipeline(operators, f"jsonl://{source}", f"jsonl://{output}", log_file=None)
    with pytest.raises(Exception, match="has a column 'answer' already"):
        pipeline.create("p", results_dir=str(tmp_path / "results")).run()
    assert len(server.seen) == 1


def test_a_row_that_is_tried_again_trips_over_nothing(server: ChatServer, tmp_path: Path) -> None:
    replies = itertools.chain([Reply("no", 500)], itertools.repeat(Reply(completion("yes"))))
    server.reply = lambda seen: next(replies)
    source, output = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text('{"q": "x"}\n', encoding="utf-8")
    pipeline = UnifiedPipeline([server.operator()], f"jsonl://{source}", f"jsonl://{output}", log_file=None, retries=2)
    pipeline.create("p", results_dir=str(tmp_path / "results")).run()
    assert json.loads(output.read_text(encoding="utf-8"))["answer"] == "yes"
