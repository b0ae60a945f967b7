"""``python -m tests.bench.llm``: LLMOperator against a bare asyncio client, both against a fake server.

Each sample is a process of its own, and so is its server; the sides take turns. The *bare* side is a loop of aiohttp
calls behind a semaphore, which parses the answers and writes a line for each row: no prompt, no retry, nothing durable.
Its window says what the server and this machine allow. The *window* is from the first call to the last answer, as the
server sees it; the *ideal* is how long the latencies of the calls take, in the order in which they came, if nothing but
them cost time. Ratios are medians of those of each turn; CPU is processor time of the process, without its imports.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

from .llm_kill import figures as kill_figures
from .llm_sides import served, told
from .measure import ROOT, Side
from .revisions import checked_out
from .schedule import ideal_seconds


@dataclass(frozen=True)
class Case:
    """A case.

    Attributes:
        about: what the server does.
        settings: of the server.
        stages: operators that call it, one after the other, each with its own calls at once.
        seconds: of a call.
        at_once: calls at once, of a stage.
        cpu_goal: the CPU of the engine by that of the bare loop, at most.
        window_goal: the window of the bare loop by that of the engine, at least.
    """

    about: str
    settings: dict[str, float] = field(default_factory=dict)
    stages: int = 1
    seconds: float = 0.1
    at_once: int = 50
    cpu_goal: float | None = None
    window_goal: float | None = None


CASES = {
    "fixed": Case("100 ms a call", cpu_goal=1.5, window_goal=0.93),
    "stages": Case("100 ms a call, two stages at once", stages=2, cpu_goal=1.5, window_goal=0.93),
    "thousand": Case("2 s a call, 1,000 at once", seconds=2.0, at_once=1000, cpu_goal=1.5, window_goal=0.93),
    "tail": Case("5 % of the calls take 1 s", {"slow-share": 0.05}),
    "faults": Case(
        "4 % of the calls fail", {"rate-limit": 0.02, "server-error": 0.01, "reset": 0.005, "malformed": 0.005}
    ),
}


def sample(side: str, source: Side, case: Case, rows: int, warm_up_url: str) -> dict[str, float]:
    """Return the seconds of one run of a side: wall, CPU, window, ideal."""
    with served(latency=case.seconds, **case.settings) as base_url:
        numbers = map(str, (rows, case.at_once, case.stages))
        words = [source.python, "-m", "tests.bench.llm_sample", side, warm_up_url, base_url, *numbers]
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT, env=source.environment)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        if case.stages > 1:  # a stage is a call behind the one before it
            ideal = ideal_seconds([case.seconds] * rows, case.at_once) + (case.stages - 1) * case.seconds
        else:
            ideal = ideal_seconds(told(base_url, "latencies"), case.at_once)
        return {**found, "window": told(base_url, "stats")["window_s"], "ideal": ideal}


def measured(
    name: str, sources: dict[str, Side], *, rows: int, repeat: int, at_once: int | None = None
) -> dict[str, Any]:
    """Return medians of `repeat` turns.

    Args:
        name: of the case.
        sources: the sides, the bare loop among them, and the code that they run.
        rows: of a run.
        repeat: turns.
        at_once: calls at once, in place of what the case says.
    """
    case = CASES[name] if at_once is None else replace(CASES[name], at_once=at_once)
    with served() as warm_up_url:
        turns = [
            {side: sample(side, source, case, rows, warm_up_url) for side, source in sources.items()}
            for _ in range(repeat)
        ]

    def median(side: str, what: str, by: str = "") -> float:
        return round(statistics.median(turn[side][what] / (turn[side][by] if by else 1) for turn in turns), 3)

    def ratio(what: str, side: str, by: str) -> float:
        return round(statistics.median(turn[side][what] / turn[by][what] for turn in turns), 3)

    found: dict[str, Any] = {"case": name, "rows": rows, "at_once": case.at_once, "stages": case.stages}
    for side in sources:
        found |= {
            f"{side}_ideal_s": median(side, "ideal"),
            f"{side}_window_s": median(side, "window"),
            f"{side}_wall_s": median(side, "wall"),
            f"{side}_ideal_by_window": median(side, "ideal", by="window"),
            f"{side}_cpu_ms_a_call": round(median(side, "cpu") / rows / case.stages * 1000, 3),
        }
        if side != "bare":
            found |= {
                f"{side}_cpu_by_bare": ratio("cpu", side, "bare"),
                f"bare_window_by_{side}": ratio("window", "bare", side),
            }
    if case.cpu_goal is not None:
        found["cpu_goal"] = f"{found['engine_cpu_by_bare']} of at most {case.cpu_goal}"
    if case.window_goal is not None:
        found["window_goal"] = f"{found['bare_window_by_engine']} of at least {case.window_goal}"
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.llm", description=__doc__)
    names = [*CASES, "kill"]
    parser.add_argument(
        "cases", nargs="*", default="all", choices=[*names, "all"], metavar="CASE", help=", ".join(names)
    )
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--at-once", type=int, help="calls at once, in place of what the case says")
    parser.add_argument("--repeat", type=int, default=5, help="turns")
    parser.add_argument("--vs", metavar="REVISION", help="also measure the engine as it was in this revision")
    given = parser.parse_args(arguments)
    os.environ.pop("OPENAI_BASE_URL", None)
    with ExitStack() as stack:
        sources = {"bare": Side(), "engine": Side()}
        if given.vs is not None:
            sources["before"] = Side(source=stack.enter_context(checked_out(given.vs)))
            sources["before"].compile()
        for case in names if given.cases == "all" else given.cases:
            if case == "kill":
                kill_figures(given.rows, given.at_once or 50, given.repeat)
                continue
            figures = measured(case, sources, rows=given.rows, repeat=given.repeat, at_once=given.at_once)
            print(json.dumps(figures | {"load": round(os.getloadavg()[0], 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
