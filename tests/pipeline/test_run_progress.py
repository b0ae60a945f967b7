"""How far a run is as a whole, and what limits it: the one model of all that show runs."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen import NodeFailedError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.display.node_view import tokens_in
from llm_datagen.runs.limit import PAUSED, limit_of
from llm_datagen.runs.run_progress import RunProgress
from llm_datagen.runs.seen import see
from llm_datagen.runs.usage import tokens_of

from ..kit.support import Bench, numbered


def entry(node_id: str, **changes: Any) -> dict[str, Any]:
    """Return the entry of a node that runs for 10 s with 2 workers, which were busy all the time."""
    times = {"busy_s": 20.0, "held_back_s": 0.0, "rate_limited_s": 0.0, "lead_limited_s": 0.0, "starved_s": 0.0}
    known = {"status": "running", "seconds": 10.0, "workers": 2, "rows_per_second": 5.0, "rows_in": 50, "total": 100}
    return {"node_id": node_id, "operator": node_id, "rate": None, **times, **known, **changes}


def state(*nodes: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a run state with a line of some nodes."""
    line = [{"input_uri": f"{at}.jsonl", "output_uri": f"{at + 1}.jsonl", **node} for at, node in enumerate(nodes)]
    return {"pipeline_id": "a", "config": {"streaming": True}, "nodes": line, **changes}


BUSY = "b limits: its workers were busy 100 % of the time; a waited for rows 90 %"
IDLE = {"busy_s": 2.0, "starved_s": 9.0}


@pytest.mark.parametrize(
    ("run_state", "is_live", "sentence"),
    [
        (state(entry("a", **IDLE), entry("b")), True, BUSY),
        (state(entry("a", **IDLE, status="completed"), entry("b", status="completed")), False, BUSY),
        # Both have rows all the time; the second takes longer.
        (
            state(entry("a", rows_per_second=20.0), entry("b", rows_per_second=2.0)),
            True,
            "b limits: its workers were busy 100 % of the time",
        ),
        # It says nothing in the first seconds, nor before a call has ended, nor when nobody knows.
        (state(entry("a", seconds=2.9)), True, ""),
        (state(entry("a", busy_s=0.0)), True, ""),
        (state(entry("a")), False, ""),
        (state(entry("a", seconds=0.0, status="completed")), False, ""),
        (state(), False, ""),
        ({}, False, ""),
        (state(entry("a"), paused=True), True, PAUSED),
        (
            state(entry("a"), entry("b", stalled="nothing has moved for 300 s; waits on operator; 1 rows")),
            True,
            "b is stalled: nothing has moved for 300 s; waits on operator; 1 rows",
        ),
        (
            state(entry("a", stalled="nothing has moved", outage={"endpoints": [{"endpoint": "m at b"}], "calls": 1})),
            True,
            "a limits: no endpoint answers its calls (m at b)",
        ),
        (
            state(entry("a", rate=5.0, rate_limited_s=9.0, busy_s=1.0)),
            True,
            "a limits by its rate (5 rows per second): it held rows back 90 % of the time",
        ),
        (
            state(entry("a", held_back_s=18.0, busy_s=2.0)),
            True,
            "a limits: its workers waited for its writer 90 % of the time",
        ),
        # One after the other: what the first did says nothing of what the second does.
        (
            state(
                entry("a", seconds=90.0, busy_s=180.0, status="completed"), entry("b"), config={"streaming": False}
            ),
            True,
            "b limits: its workers were busy 100 % of the time",
        ),
        # Of shards, times are sums: 4 shards of 10 s with 2 workers each, of which each waited 5 s for rows.
        (
            {
                **state(entry("a", workers=8, busy_s=40.0, starved_s=20.0)),
                "shards": {"count": 8, "each": [{"run": "s"}] * 4 + [{"run": None}] * 4},
            },
            True,
            "a limits: it had rows to work on for 20.0 s, though of its workers (2) only 1.0 were busy on average",
        ),
    ],
)  # fmt: skip
def test_what_limits_a_run_in_a_sentence(run_state: dict[str, Any], is_live: bool, sentence: str) -> None:
    assert limit_of(run_state, is_live=is_live) == sentence


def test_a_run_takes_as_long_as_the_node_that_takes_longest() -> None:
    progress = RunProgress.of(
        state(entry("a", total_is_exact=True), entry("b", rows_per_second=2.0, rows_out=40, failed=3)),
        "running",
        is_live=True,
    )
    assert [node.seconds_left for node in progress.nodes] == [10.0, 25.0]
    assert (progress.seconds_left, progress.rows_per_second) == (25.0, 2.0)
    assert (progress.rows_done, progress.rows_total, progress.total_is_exact) == (50, 100, True)
    assert (progress.out.total, progress.failed, progress.cost) == (40, 3, None)


@pytest.mark.parametrize(
    ("nodes", "streaming", "share"),
    [
        # The first node has read all, and the second has done a quarter: the run is not done.
        ([entry("a", rows_in=100, status="completed"), entry("b", rows_in=20, total=80)], True, 0.25),
        ([entry("a", rows_in=100, status="completed"), entry("b", rows_in=20, total=80)], False, 0.625),
        ([entry("a", rows_in=100), entry("b", status="pending", rows_in=0, total=None)], False, 0.5),
        ([entry("a", rows_in=30, rows_out=8, target_rows=10)], True, 0.8),  # rows 31 to 100 are not needed
        ([entry("a", rows_in=30, status="unneeded")], True, 1.0),
        ([entry("a", rows_in=0, total=0)], True, 0.0),
        ([entry("a"), entry("b", total=None)], True, None),
        ([], True, None),
    ],
)
def test_how_much_of_a_run_is_done(nodes: list[dict[str, Any]], streaming: bool, share: float | None) -> None:
    run_state = state(*nodes, config={"streaming": streaming})
    assert RunProgress.of(run_state, "running", is_live=True).share == share


@pytest.mark.parametrize(
    ("nodes", "changes", "is_live"),
    [
        ([entry("a"), entry("b", status="pending", seconds=0.0)], {}, True),  # nobody knows how long b will take
        ([entry("a", seconds=2.9)], {}, True),  # it has just begun
        ([entry("a")], {"paused": True}, True),
        ([entry("a", rows_per_second=0.0)], {}, True),
        ([entry("a", total=None)], {}, True),
        ([entry("a", status="completed")], {}, True),
        ([entry("a")], {}, False),
        ([], {}, False),
    ],
)
def test_how_long_a_run_takes_is_not_said_when_nobody_can_know(
    nodes: list[dict[str, Any]], changes: dict[str, Any], is_live: bool
) -> None:
    assert RunProgress.of(state(*nodes, **changes), "running", is_live=is_live).seconds_left is None


def test_a_run_that_ended_and_was_resumed_has_the_rate_of_the_time_in_which_it_worked(bench: Bench) -> None:
    """No node that is completed is shown with 0.0 rows per second."""

    def picky(row: dict[str, Any]) -> dict[str, Any]:
        if row["n"] == 30 and not (bench.folder / "mended").exists():
            raise ValueError(row)
        return row

    bench.give(numbered(50))
    pipeline = bench.pipeline([lambda row: row, picky]).create("a")
    with pytest.raises(NodeFailedError, match="30"):
        pipeline.run(progress=False)
    before = pipeline.progress[0].rows_per_second
    (bench.folder / "mended").touch()
    report = bench.pipeline([lambda row: row, picky]).resume("a").run(progress=False)
    assert before > 0
    assert (report.nodes[0].rows_per_second, report.nodes[1].rows_per_second > 0) == (before, True)
    seen = RunProgress.of(see(RunFolder(bench.results, "a")).state, "completed", is_live=False)
    assert [node.rate for node in seen.nodes] == [node.rows_per_second for node in report.nodes]


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 2}, (3, 2, 5)),
        ({"input_tokens": 3, "output_tokens": 2}, (3, 2, 5)),
        ({"prompt_tokens": 3, "total_tokens": 9}, (3, None, 9)),
        ({"requests": 1}, (None, None, 0)),
    ],
)
def test_tokens_are_counted_by_either_name(usage: dict[str, Any], tokens: tuple[int | None, int | None, int]) -> None:
    assert (tokens_of(usage, "input"), tokens_of(usage, "output"), tokens_in(usage)) == tokens
