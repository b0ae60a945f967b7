"""A run that is killed while children live that its operator has forked: they hold nothing of it (M6, M23)."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import LogFile
from llm_datagen.runs.verify import verify

from ..kit.programs import Program
from ..kit.support import Bench, eventually, lines, numbered

JOB = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from llm_datagen import LogFile, UnifiedPipeline

folder = Path(sys.argv[1])
class Pooled:
    name = "pooled"
    version = "an instrument"
    def setup(self):
        self.pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    def process_item(self, item, ctx):
        if item["n"] == 3:
            (folder / "pid.tmp").write_text(str(self.pool.submit(os.getpid).result()))
            (folder / "pid.tmp").rename(folder / "pid")
            self.pool.submit(time.sleep, 600)
            time.sleep(600)
        time.sleep(0.01)  # a slow call is handed out alone: no row waits for the one that is held up
        if item["n"] == 1:
            raise ValueError("not this one")
        return item
UnifiedPipeline(
    [Pooled()], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", results_dir=folder / "results",
    log_file=LogFile(folder / "platform.log", max_bytes=500), on_error="dead_letter", delivery=sys.argv[2],
    writer_config={"fsync": "never", "flush_batch_size": 1},
).create("a").run()
"""


class Same:
    name = "pooled"

    def process_item(self, item: Any, ctx: object) -> Any:
        return item


@pytest.mark.parametrize("delivery", ["exactly_once", "at_most_once"])
def test_a_run_that_was_killed_goes_on_at_once_though_a_forked_pool_of_its_operator_lives(
    bench: Bench, delivery: str
) -> None:
    bench.give(numbered(6))
    process = Program(["-W", "ignore", "-c", JOB, bench.folder, delivery])
    told = bench.folder / "pid"
    eventually(lambda: told.exists() or process.poll() is not None, "the pool is there")
    orphan = int(told.read_text())
    try:
        eventually(lambda: verify(bench.run_state("a"))[0].covered == 3, "all rows before it are committed")
        process.kill()
        process.wait()
        pipeline = bench.pipeline([Same()], log_file=LogFile(bench.log, max_bytes=500))
        report = pipeline.resume("a").run()
        assert Path(f"/proc/{orphan}").exists() or sys.platform != "linux"
    finally:
        with suppress(ProcessLookupError):
            os.kill(orphan, signal.SIGKILL)
    abandoned = delivery == "at_most_once"
    assert (report.status, report.rows_in, report.failed) == ("completed", 6, 1 + abandoned)
    assert [row["n"] for row in lines(bench.output)] == [0, 2, *([] if abandoned else [3]), 4, 5]
