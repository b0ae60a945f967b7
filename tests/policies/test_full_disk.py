"""A disk that fills while rows are dead-lettered, or handed out for good: nothing lost, a resume mends it (M24)."""

from __future__ import annotations

from typing import Any

import pytest

from llm_datagen import DatagenError
from llm_datagen.testing import Fault, inject

from ..kit.support import Bench, bag, lines, nothing_left, numbered, pairwise
from .helpers import accounts_of, dead_letters_of, poisoned

BAD = {3, 10, 11, 24, 38}


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("operation", "path", "hit", "delivery"),
    [
        (*file, hit, delivery)
        for file, hit, delivery in pairwise(
            [
                ("write", "*/out.jsonl"),
                ("write", "*/out.jsonl.commits"),
                ("write", "*/out.jsonl.errors.jsonl"),
                ("write", "*/out.jsonl.commits.tmp"),
                ("write", "*/out.jsonl.done.tmp"),
                ("write", "*/out.jsonl.dispatched"),
                ("write", "*/runtime.json.tmp"),
                ("write", "*/owner.json.tmp"),
                ("rename", "*/out.jsonl.done*"),
            ],
            [1, 3],
            ["exactly_once", "at_most_once"],
        )
    ],
)
def test_a_disk_that_is_full_for_good_at_any_file_fails_the_run_and_a_resume_finishes_it(
    bench: Bench, operation: Any, path: str, hit: int, delivery: Any
) -> None:
    """M24, C1, F2: dead letters and rows handed out included. Each row is in the output or a dead letter, once."""
    bench.give(numbered(40))
    pipeline = bench.pipeline(
        [poisoned(BAD)],
        on_error="dead_letter",
        delivery=delivery,
        parallel_size=2,
        writer_config={"queue_size": 4, "flush_batch_size": 2},
    )
    fault = Fault(operation=operation, path=path, hit=hit, action="raise", error="ENOSPC", times=None)
    raised: DatagenError | None = None
    with nothing_left(), inject(fault) as storage:
        try:
            pipeline.create("a").run()
        except DatagenError as error:
            raised = error
    if (path, hit) == ("*/owner.json.tmp", 3):  # the note of the control socket: a run can do without
        assert raised is None
    elif storage.fired:
        assert raised is not None
        assert "No space left" in str(raised)
    elif raised is not None:
        raise raised
    if (bench.results / "a" / "runtime.json").exists():
        (account,) = accounts_of(bench)
        assert account.complete == bench.is_sealed()
        assert not account.complete or account.pending == 0
    with nothing_left():
        report = pipeline.create("a", if_exists="resume").run()
    assert report.status == "completed"
    (account,) = accounts_of(bench)
    assert (account.pending, account.rows_in) == (0, 40)
    rows, dead_letters = lines(bench.output), dead_letters_of(bench.output)
    lost = [dead_letter["_i"] for dead_letter in dead_letters if dead_letter["error"]["kind"] == "Abandoned"]
    if delivery == "exactly_once":
        assert lost == []
    assert bag(rows) == bag({"n": 2 * n, "_i": n} for n in range(40) if n not in BAD and n not in lost)
    assert {dead_letter["_i"] for dead_letter in dead_letters} == BAD | set(lost)
