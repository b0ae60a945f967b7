"""``python -m tests.bench.llm``: LLMOperator against a bare asyncio client, both against a fake server.

The server is a process of its own, started anew for each sample; the two sides take turns. The *bare* side is a loop of
aiohttp calls behind a semaphore: no prompt, no retry, no row written. Its window says what the server and this machine
allow. The *window* is from the first call to the last answer, as the server sees it; the *ideal* is how long the
latencies of the calls take, in the order in which they came, if nothing but them cost time.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .llm_kill import figures as kill_figures
from .llm_sides import bare, lost_and_twice, pipeline_of, served, told, write_questions
from .schedule import ideal_seconds

SECONDS = 0.1


@dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
        about: what the server does.
        settings: of the server.
        stages: operators that call it, one after the other, each with its own calls at once.
    """

    about: str
    settings: dict[str, float] = field(default_factory=dict)
    stages: int = 1


CASES = {
    "fixed": Case("100 ms a call"),
    "tail": Case("5 % of the calls take 1 s", {"slow-share": 0.05}),
    "faults": Case(
        "4 % of the calls fail", {"rate-limit": 0.02, "server-error": 0.01, "reset": 0.005, "malformed": 0.005}
    ),
    "stages": Case("100 ms a call, two stages at once", stages=2),
}


def sample(side: str, case: Case, rows: int, at_once: int) -> dict[str, float]:
    """Return the seconds of one run of a side, without its imports: wall, CPU, window, ideal."""
    with served(latency=SECONDS, **case.settings) as base_url, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_questions(folder, rows)
        began, cpu = time.perf_counter(), time.process_time()
        if side == "bare":
            asyncio.run(bare(base_url, rows, at_once, case.stages))
        else:
            pipeline_of(base_url, folder, at_once=at_once, stages=case.stages).run()
        wall, cpu = time.perf_counter() - began, time.process_time() - cpu
        if side == "engine" and (found := lost_and_twice(folder, rows)) != (0, 0):
            raise RuntimeError(f"{found[0]} rows of {rows} are lost, {found[1]} are there twice")
        if case.stages > 1:  # a stage is a call behind the one before it
            ideal = ideal_seconds([SECONDS] * rows, at_once) + (case.stages - 1) * SECONDS
        else:
            ideal = ideal_seconds(told(base_url, "latencies"), at_once)
        return {"wall": wall, "cpu": cpu, "window": told(base_url, "stats")["window_s"], "ideal": ideal}


def measured(name: str, *, rows: int, at_once: int, repeat: int) -> dict[str, Any]:
    """Return medians of `repeat` pairs of samples."""
    samples = [{side: sample(side, CASES[name], rows, at_once) for side in ("bare", "engine")} for _ in range(repeat)]

    def median(side: str, what: str, by: str = "") -> float:
        return statistics.median(pair[side][what] / (pair[side][by] if by else 1) for pair in samples)

    of_sides = {
        f"{side}_{what}": round(figure, 3)
        for side in ("bare", "engine")
        for what, figure in {
            "ideal_s": median(side, "ideal"),
            "window_s": median(side, "window"),
            "wall_s": median(side, "wall"),
            "ideal_by_window": median(side, "ideal", by="window"),
        }.items()
    }
    windows = [pair["bare"]["window"] / pair["engine"]["window"] for pair in samples]
    return {
        "case": name,
        "rows": rows,
        "at_once": at_once,
        **of_sides,
        "bare_window_by_engine_window": round(statistics.median(windows), 3),
        "engine_cpu_ms_a_row": round(median("engine", "cpu") / rows * 1000, 3),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.llm", description=__doc__)
    names = [*CASES, "kill"]
    parser.add_argument(
        "cases", nargs="*", default="all", choices=[*names, "all"], metavar="CASE", help=", ".join(names)
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3, help="pairs of samples")
    given = parser.parse_args(arguments)
    os.environ.pop("OPENAI_BASE_URL", None)
    for case in names if given.cases == "all" else given.cases:
        if case == "kill":
            kill_figures(given.rows, given.at_once, given.repeat)
            continue
        figures = measured(case, rows=given.rows, at_once=given.at_once, repeat=given.repeat)
        print(json.dumps(figures | {"load": round(os.getloadavg()[0], 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
