"""The account in report, runtime.json, seal and `status`: the same counts, whatever a run is doing (C1)."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import NodeFailedError, NodeReport, UnifiedPipeline
from llm_datagen.cli.run_view import run_lines
from llm_datagen.runs import RunFolder
from llm_datagen.runs.status import Status
from llm_datagen.shards.run_view import read_run

from ..kit.support import Bench, eventually, numbered
from .helpers import PoisonError, accounts_of, no_fifths, poisoned, some_children

PARTS = ("kept", "filtered", "skipped", "dead_letters", "pending")


def parts(node: NodeReport | dict[str, Any]) -> tuple[int | None, ...]:
    """Return what the source rows of a node have become."""
    values = node if isinstance(node, dict) else node.as_dict()
    found = tuple(values[name] for name in PARTS)
    if found[-1] is not None:
        assert sum(found) == values["total"]
    assert sum(found[:-1]) == values["rows_in"]
    return found


def of_run_state(bench: Bench, number: int = 0) -> tuple[int | None, ...]:
    return parts(bench.run_state("a")["nodes"][number])


def seal_of(path: Path) -> dict[str, Any]:
    seal: dict[str, Any] = json.loads(Path(f"{path}.done").read_bytes())
    return seal


@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("protocol", ["jsonl", "csv"])
def test_a_run_that_is_completed_has_no_pending_rows_in_report_run_state_and_seal(
    bench: Bench, streaming: bool, protocol: str
) -> None:
    """C1: each row of a source is one of five things."""
    bench.give(numbered(50))
    pipeline = bench.pipeline(
        [no_fifths, poisoned({1, 2, 3}, some_children)],
        streaming=streaming,
        on_error="dead_letter",
        default_protocol=f"{protocol}://",
    ).create("a")
    assert of_run_state(bench) == of_run_state(bench, 1) == (0, 0, 0, 0, None), "nobody has counted the source"
    report = pipeline.run()
    first, second = (40, 10, 0, 0, 0), (27, 10, 0, 3, 0)
    assert (parts(report.nodes[0]), parts(report.nodes[1])) == (first, second)
    assert (of_run_state(bench), of_run_state(bench, 1)) == (first, second)
    assert [parts(node) for node in pipeline.progress] == [first, second]
    assert tuple(seal_of(bench.between("a", extension=protocol))["ledger"].values()) == first
    assert seal_of(bench.output)["ledger"] == dict(zip(PARTS, second, strict=True))
    assert [(one.kept, one.pending) for one in accounts_of(bench)] == [(40, 0), (27, 0)]


def test_pending_rows_are_counted_while_a_node_runs_as_soon_as_its_source_is(bench: Bench) -> None:
    """C1: of a source that is sealed at once; of one that nobody has counted, None is said."""
    bench.give(numbered(40))
    goes_on = threading.Event()

    def waits(row: Any) -> Any:
        if row["n"] == 31:
            goes_on.wait(30)
        return row

    pipeline = bench.pipeline([no_fifths, waits], writer_config={"async_mode": False}).create("a")
    pipeline.start()
    try:
        eventually(lambda: bench.run_state("a")["nodes"][1]["status"] == "running")
        eventually(lambda: bench.run_state("a")["nodes"][1]["pending"] is not None)
        assert of_run_state(bench) == (32, 8, 0, 0, 0)
        kept, *_, pending = of_run_state(bench, 1)
        assert kept is not None
        assert pending == 32 - kept
    finally:
        goes_on.set()
        pipeline.wait(30)
    assert of_run_state(bench, 1) == (32, 0, 0, 0, 0)


def _run_until_it_fails(bench: Bench, pipeline: UnifiedPipeline) -> None:
    with pytest.raises(NodeFailedError) as failure:
        pipeline.run()
    assert isinstance(failure.value.__cause__, PoisonError)


def test_a_run_that_failed_has_pending_rows_and_a_resume_none(bench: Bench) -> None:
    """C1: the node that failed reads a sealed stream, so its pending rows are known; status says so."""
    bench.give(numbered(50))
    bad = {31}
    pipeline = bench.pipeline([no_fifths, poisoned(bad)], writer_config={"async_mode": False}).create("a")
    _run_until_it_fails(bench, pipeline)
    assert of_run_state(bench) == (40, 10, 0, 0, 0)
    kept, *_, pending = of_run_state(bench, 1)
    assert (kept, pending) == (24, 16)
    assert [one.pending for one in accounts_of(bench)] == [0, 16]
    lines = run_lines(read_run(RunFolder(bench.results, "a")))
    assert "16 pending" in lines[2]
    bad.clear()
    assert parts(pipeline.resume("a").run().nodes[1]) == (40, 0, 0, 0, 0)
    assert of_run_state(bench, 1) == (40, 0, 0, 0, 0)


@pytest.mark.slow
def test_a_source_that_nobody_has_read_to_its_end_has_no_number_of_pending_rows(bench: Bench) -> None:
    """C1: then None is said, status shows a question mark, and verify counts."""
    bench.give(numbered(200_000))
    pipeline = bench.pipeline([poisoned({31})], writer_config={"async_mode": False}).create("a")
    _run_until_it_fails(bench, pipeline)
    (node,) = pipeline.progress
    assert (node.status, node.total_is_exact, node.pending) == (Status.FAILED, False, None)
    assert of_run_state(bench)[-1] is None
    assert run_lines(read_run(RunFolder(bench.results, "a")))[1].endswith("1 error, ? pending")
    (account,) = accounts_of(bench)
    assert account.pending == 200_000 - node.rows_in


@pytest.mark.parametrize("streaming", [True, False])
def test_a_run_that_was_cancelled_accounts_for_what_it_has_read(bench: Bench, streaming: bool) -> None:
    """C1, M7: kept + filtered + … = rows_in, at every cancel and at the end of the last resume."""
    bench.give(numbered(300))
    calls: list[int] = []

    def noted(row: Any) -> Any:
        calls.append(row["n"])
        return no_fifths(row)

    pipeline = bench.pipeline([noted, some_children], streaming=streaming, parallel_size=2).create("a")
    for wanted in (20, 90):
        pipeline.start()
        eventually(lambda wanted=wanted: len(calls) >= wanted)  # type: ignore[misc]
        pipeline.cancel()
        report = pipeline.wait(30)
        for number, node in enumerate(report.nodes):
            assert parts(node) == of_run_state(bench, number)
        accounts_of(bench)
        pipeline.resume("a")
    report = pipeline.run()
    assert parts(report.nodes[0]) == (240, 60, 0, 0, 0)
    assert [parts(node)[-1] for node in report.nodes] == [0, 0]


def test_a_streaming_node_whose_source_is_followed_knows_nothing_of_what_is_to_come(bench: Bench) -> None:
    """C1, M17: until the seal, `total` and `pending` are None; with it, they are counted."""
    bench.give(numbered(10))
    pipeline = bench.pipeline([no_fifths], follow_input=True).create("a")
    pipeline.start()
    eventually(lambda: bench.run_state("a")["nodes"][0]["rows_in"] == 10)
    assert of_run_state(bench) == (8, 2, 0, 0, None)
    with bench.input.open("a") as file:
        file.write('{"n": 11}\n')
    Path(f"{bench.input}.done").touch()
    report = pipeline.wait(30)
    assert parts(report.nodes[0]) == of_run_state(bench) == (9, 2, 0, 0, 0)
