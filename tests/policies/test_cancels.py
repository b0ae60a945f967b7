"""Cancels at random moments, with mailboxes as small as they can be: none hangs, nothing is left (M7, F2)."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

from ..kit.support import PATIENCE_SECONDS, Bench, bag, lines, nothing_left, numbered
from .helpers import accounts_of

ROWS = 300


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("cancels", [12, pytest.param(500, marks=pytest.mark.torture)])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_cancel_at_any_moment_ends_the_run_and_leaves_nothing(bench: Bench, streaming: bool, cancels: int) -> None:
    """M7, F2, C1: no actor, thread, lock or file is left, and in the end every row was called and written once.

    A cancel comes at a random call, or before the first one. The long form makes a thousand of them.
    """
    bench.give(numbered(ROWS))
    chance = random.Random(17 + streaming)
    calls: list[tuple[str, int]] = []
    now, due = threading.Event(), [0]

    def noted(name: str) -> Any:
        def work(row: Any) -> Any:
            calls.append((name, row["n"]))
            if len(calls) >= due[0]:
                now.set()
            return row if row["n"] % 9 else None

        work.__name__ = name
        return work

    cancelled = 0
    while cancelled < cancels:
        calls.clear()
        settings = {"queue_size": 1, "flush_batch_size": 1, "async_mode": chance.random() < 0.5}
        pipeline = bench.pipeline(
            [noted("a"), noted("b")], streaming=streaming, parallel_size=2, log_file=None, writer_config=settings
        ).create("a", if_exists="overwrite")
        status = ""
        while status != "completed":
            now.clear()
            due[0] = len(calls) + chance.randrange(12)
            with nothing_left():
                pipeline.start()
                if cancelled >= cancels:
                    pass
                elif chance.random() < 0.8:
                    now.wait(0.5)  # the last rows of a node may be fewer
                    pipeline.cancel()
                else:
                    pipeline.cancel()
                report = pipeline.wait(PATIENCE_SECONDS)
            assert report is not None, f"cancel number {cancelled} hangs"
            status = report.status
            assert status in {"completed", "canceled"}
            assert bench.is_sealed() == (status == "completed")
            accounts_of(bench)
            if status == "canceled":
                cancelled += 1
                pipeline.resume("a")
        assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(ROWS) if n % 9)
        assert len(calls) == len(set(calls)) == ROWS + len([n for n in range(ROWS) if n % 9])
