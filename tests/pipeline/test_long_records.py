"""Records longer than one may be: refused of others' files; what the engine wrote itself, it reads."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen.runs.verify import verify

from ..kit.support import Bench, lines, stored

TABLE = "".join(f"{k},price {k},{1000 + k}\n" for k in range(40_000))  # its lines look like rows


def lengthen(row: dict[str, Any]) -> dict[str, Any]:
    return {"n": row["n"], "text": TABLE if row["n"] == 1 else "short"}


def same(row: dict[str, Any]) -> dict[str, Any]:
    return row


def wrong(bench: Bench, run: str) -> list[str]:
    return [finding for account in verify(bench.run_state(run)) for finding in account.findings]


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("on_error", ["fail", "dead_letter"])
@pytest.mark.parametrize("output", ["csv", "jsonl"])
def test_a_row_that_a_node_made_is_the_next_nodes_row_however_long_it_is(
    bench: Bench, on_error: str, output: str
) -> None:
    bench.give([{"n": n} for n in range(3)])
    uri = f"{output}://{bench.folder}/made.{output}"
    settings: dict[str, Any] = {
        "default_protocol": "csv://",
        "on_error": on_error,
        "data_config": {"max_record_bytes": 2000},
    }
    report = bench.pipeline([lengthen, same], output_uri=uri, **settings).create("a").run()
    assert (report.rows_out, report.failed) == (3, 0)
    assert sorted((str(row["n"]), row["text"]) for row in stored(uri)) == [("0", "short"), ("1", TABLE), ("2", "short")]
    assert wrong(bench, "a") == []
    again = bench.pipeline([same], input_uri=uri, **settings).create("b").run()  # as the input of another run
    assert (again.rows_in, again.rows_out, again.failed) == (3, 3, 0)
    assert {row["text"] for row in lines(bench.output)} == {TABLE, "short"}
    assert wrong(bench, "b") == []


def test_of_others_files_a_long_record_is_refused(bench: Bench) -> None:
    bench.input.write_text('{"n": 0}\n{"n": 1, "text": "' + "x" * 3000 + '"}\n{"n": 2}\n')
    settings: dict[str, Any] = {"on_error": "dead_letter", "data_config": {"max_record_bytes": 2000}}
    report = bench.pipeline([same], **settings).create("a").run()
    assert (report.rows_out, report.failed) == (2, 1)
    assert [row["n"] for row in lines(bench.output)] == [0, 2]
