"""A run on a part of an input: interrupted, changed under its hands, looked at."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from llm_datagen.errors import ConfigError, DatagenError, StreamChangedError
from llm_datagen.pipeline.preview import first_rows, random_rows, rows_at
from llm_datagen.runs.trace import trace
from llm_datagen.runs.verify import verify
from llm_datagen.shards.plan import ShardPlan, plan_shards
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.ids import RootNames

from ..kit.programs import run
from ..kit.support import Bench, Stopping, lines


def planned(uri: str, shards: int) -> ShardPlan:
    source = StreamFactory.source(uri)
    assert isinstance(source, Stream)
    return plan_shards(source, shards)


def numbers(bench: Bench) -> list[tuple[int, int]]:
    return [(row["_i"], row["n"]) for row in lines(bench.output)]


def of_middle(bench: Bench, text: str, shards: int = 3) -> tuple[str, int, int]:
    """Write an input; return the URI of its second part, with the numbers of its first row and of the one behind it."""
    bench.input.write_text(text)
    plan = planned(str(bench.input), shards)
    return plan.part_uri(plan.ranges[1]), plan.ranges[1].first.row, plan.ranges[1].last.row


NUMBERED = "".join(f'{{"n": {n}}}\n' for n in range(300))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("after", [0, 1, 40, 99])
def test_a_part_that_was_stopped_goes_on_where_it_was(bench: Bench, after: int, ordered: bool) -> None:
    """S1, S2: also with rows in flight, and rows that wait for those before them."""
    uri, first, last = of_middle(bench, NUMBERED)
    settings: dict[str, Any] = {"input_uri": uri, "parallel_size": 3, "ordered": ordered}
    bench.pipeline([Stopping(first + after)], **settings).create("a").run()
    point = json.loads((bench.results / "a" / "checkpoint.json").read_bytes())["node_0"]["input"]
    assert first <= point["row"] <= first + after
    assert 0 <= point["rows_done_beyond"] == len(lines(bench.output)) - (point["row"] - first)
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]
    report = bench.pipeline([Stopping()], **settings).resume("a").run()
    assert (report.status, report.rows_out) == ("completed", last - first)
    assert sorted(numbers(bench)) == [(n, n) for n in range(first, last)]
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]


_KILLED = """
import json, os, sys
from llm_datagen import UnifiedPipeline
def half_way(row):
    if row["n"] == {dies}:
        os.kill(os.getpid(), 9)
    return row
UnifiedPipeline([half_way], input_uri={uri!r}, output_uri={output!r}, results_dir={results!r}).create(
    "a", if_exists="resume", on_change="accept"
).run()
"""


def test_a_part_that_was_killed_goes_on_where_it_was(bench: Bench) -> None:
    """S1: `kill -9`, twice; then the rest is done, and each row is there once."""
    uri, first, last = of_middle(bench, "".join(f'{{"n": {n}}}\n' for n in range(6000)))
    given = {"uri": uri, "output": str(bench.output), "results": str(bench.results)}
    assert run(["-c", _KILLED.format(dies=first + 900, **given)]).returncode == -9
    assert run(["-c", _KILLED.format(dies=last - 5, **given)]).returncode == -9
    assert run(["-c", _KILLED.format(dies=-1, **given)]).returncode == 0
    assert sorted(numbers(bench)) == [(n, n) for n in range(first, last)]
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]


def test_failures_and_traces_name_rows_as_in_the_whole_input(bench: Bench) -> None:
    bench.input.write_text(NUMBERED.replace('{"n": 150}', '{"n": 15'))
    uri, first, last = of_middle(bench, bench.input.read_text())

    def odd(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 160:
            raise ValueError("no")
        return row

    report = bench.pipeline([odd], input_uri=uri, on_error="dead_letter").create("a").run()
    assert (report.rows_out, report.status) == (last - first - 2, "completed")
    bad, failed = lines(Path(f"{bench.output}.errors.jsonl"))
    assert (bad["_i"], failed["_i"], failed["source"][0]) == (150, 160, 160)
    assert f"{bench.input}, line 151: this is not a row" in json.dumps(bad)
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]
    assert trace(bench.run_state("a"), 170) is not None
    with pytest.raises(DatagenError, match=r"line 151: this is not a row.*is read in parts must stay as it is"):
        bench.pipeline([Stopping()], input_uri=uri, output_uri=f"{bench.folder}/b.jsonl").create("b").run()


@pytest.mark.parametrize("done", [0, 10])
def test_an_input_that_was_changed_is_refused_also_before_a_row_was_read(bench: Bench, done: int) -> None:
    uri, first, last = of_middle(bench, NUMBERED)
    bench.pipeline([Stopping(first + done)], input_uri=uri).create("a").run()
    bench.input.write_text(NUMBERED.replace('{"n": 3}', '{"n": 4}'))
    with pytest.raises(StreamChangedError, match=r"in\.jsonl was edited: its rows were split into parts before that"):
        bench.pipeline([Stopping()], input_uri=uri).resume("a").run()
    bench.input.write_text(NUMBERED[:-5])
    with pytest.raises(StreamChangedError, match=r"in\.jsonl has \d+ bytes, and had \d+"):
        bench.pipeline([Stopping()], input_uri=uri).resume("a").run()
    bench.input.write_text(NUMBERED + '{"n": 300}\n')  # it has grown
    bench.pipeline([Stopping()], input_uri=uri).resume("a").run()
    assert numbers(bench) == [(n, n) for n in range(first, last)]


def test_of_many_files_a_part_reads_and_compares_those_of_its_plan_only(bench: Bench) -> None:
    """Files that come later shift no row; a change of other files is the business of other parts."""
    folder = bench.folder / "in"
    folder.mkdir()
    for number in range(9):
        (folder / f"{number}.jsonl").write_text("".join(f'{{"n": {100 + number * 10 + n}}}\n' for n in range(10)))
    source = StreamFactory.source(str(folder))
    assert isinstance(source, Stream)
    plan = plan_shards(source, 3, 3)
    middle = plan.ranges[1]
    assert (middle.first.row, middle.last.row) == (30, 60)
    settings = {"input_uri": plan.part_uri(middle), "source_column": "from"}
    pipeline = bench.pipeline([Stopping()], **settings).create("a")
    assert pipeline is not None
    run_state = bench.run_state("a")
    run_state["nodes"][0]["input_fingerprint"] = plan.fingerprint_of(middle)
    assert [name for name, *_ in plan.fingerprint_of(middle)["files"]] == ["3.jsonl", "4.jsonl", "5.jsonl"]
    bench.put_run_state("a", run_state)
    (folder / "0.jsonl").write_text("changed, and longer than it was, which is none of this part's business")
    (folder / "00.jsonl").write_text('{"n": -1}\n')
    (folder / "7.jsonl").unlink()
    (folder / "4.jsonl").rename(folder / "away")
    with pytest.raises(StreamChangedError, match=r"/in 4\.jsonl: gone: its rows were split into parts"):
        bench.pipeline([Stopping()], **settings).resume("a")
    (folder / "away").rename(folder / "4.jsonl")
    with (folder / "5.jsonl").open("a") as file:
        file.write('{"n": 160}\n')
    with pytest.raises(StreamChangedError, match=r"/in 5\.jsonl: not what it was"):
        bench.pipeline([Stopping()], **settings).resume("a")
    os.truncate(folder / "5.jsonl", (folder / "5.jsonl").stat().st_size - 11)
    bench.pipeline([Stopping()], **settings).resume("a").run()
    assert [row["_i"] for row in lines(bench.output)] == list(range(30, 60))
    assert lines(bench.output)[15]["from"] == {"file": "4.jsonl", "row": 5}
    assert [account.findings for account in verify(bench.run_state("a"))] == [[]]


def test_an_output_among_the_files_of_a_part_is_refused(bench: Bench) -> None:
    (bench.folder / "in").mkdir()
    (bench.folder / "in" / "1.jsonl").write_text('{"n": 1}\n')
    uri = f"part://{bench.folder}/in?rows=0-1&at=0-9"
    with pytest.raises(ConfigError, match="which is one of the files that it reads"):
        bench.pipeline([Stopping()], input_uri=uri, output_uri=f"{bench.folder}/in/out.jsonl").create("a")


def test_the_end_of_a_part_is_the_end_of_its_rows(bench: Bench) -> None:
    """Progress counts the rows of the part, and knows how many there are from the beginning."""
    uri, first, last = of_middle(bench, NUMBERED)
    report = bench.pipeline([Stopping(last - 1)], input_uri=uri).create("a").run()
    assert (report.nodes[0].rows_in, report.nodes[0].total) == (last - first - 1, last - first)
    report = bench.pipeline([Stopping()], input_uri=uri).resume("a").run()
    assert (report.nodes[0].rows_in, report.nodes[0].total) == (last - first, last - first)


def test_a_part_is_previewed_by_the_numbers_of_its_rows(bench: Bench) -> None:
    uri, first, last = of_middle(bench, NUMBERED)
    part = StreamFactory.create(uri)
    root = RootNames()
    assert [row_id for row_id, _ in first_rows(part, 2, root=root).rows] == [first, first + 1]
    assert [row_id for row_id, _ in rows_at(part, [last - 1], root=root).rows] == [last - 1]
    assert random_rows(part, 3, seed=1, root=root).count == last - first
    for number in (0, last):
        with pytest.raises(ConfigError, match=f"has no row {number}; its rows are numbered from {first}"):
            rows_at(part, [number], root=root)
