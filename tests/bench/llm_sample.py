"""The process that is measured by the benchmark of model calls: one run of one side, after a small one."""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from .llm_sides import bare, lost_and_twice, pipeline_of, write_questions

_WARM_UP_ROWS = 100


def run(side: str, base_url: str, *, rows: int, at_once: int, stages: int) -> dict[str, float]:
    """Return the seconds of a run of a side: wall, and CPU of this process.

    Raises:
        RuntimeError: when not every row is there once.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_questions(folder, rows)
        began, cpu = time.perf_counter(), time.process_time()
        if side == "bare":
            asyncio.run(bare(base_url, folder, at_once=at_once, stages=stages))
        else:
            pipeline_of(base_url, folder, at_once=at_once, stages=stages).run(progress=False)
        found = {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}
        if (wrong := lost_and_twice(folder, rows)) != (0, 0):
            raise RuntimeError(f"{wrong[0]} rows of {rows} are lost, {wrong[1]} are there twice")
    return found


def main(side: str, warm_up_url: str, base_url: str, rows: str, at_once: str, stages: str) -> None:
    """Run a side twice: what is imported by the first calls is no cost of a call."""
    few = min(_WARM_UP_ROWS, int(rows))
    run(side, warm_up_url, rows=few, at_once=int(at_once), stages=int(stages))
    print(json.dumps(run(side, base_url, rows=int(rows), at_once=int(at_once), stages=int(stages))))


if __name__ == "__main__":
    main(*sys.argv[1:])
