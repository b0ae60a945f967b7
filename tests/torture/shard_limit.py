"""A run in eight shards at an endpoint with a limit and a budget, killed, and how much of the limit it has used."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline, WriterConfig
from llm_datagen.llm import LLMOperator
from llm_datagen.llm.grants.service import GrantService
from llm_datagen.llm.limits import shared
from llm_datagen.runs import RunFolder
from llm_datagen.shards.pipeline import ShardedPipeline
from llm_datagen.testing import Latency, LLMFaults

from ..kit.support import worker_processes
from .forks import Child
from .shard_cases import CALL_SECONDS, CANARY, ID, PROMPT
from .shard_judge import most_within
from .tally import Tally
from .till import PRICES, TillProcess

SHARDS = 8
REQUESTS = 120
"""The limit, in a window."""

MINUTE = 60.0

USED_AT_LEAST = 0.9
"""Of the limit, after the first window, in which it is full at once."""

_TOKENS_A_CALL = 18
"""About."""


class Uneven:
    """Passes rows on; those of the first shards take longer, so that the load of shards differs.

    Args:
        rows: of the input.
        window: seconds that a minute has.
    """

    version = "1"

    def __init__(self, rows: int, window: float) -> None:
        self.rows, self.window = rows, window

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Be there in a worker process."""
        vars(self).update(state)
        shorten(self.window)

    def process_item(self, item: Any, ctx: Any) -> Any:
        """Return the row."""
        time.sleep(random.random() * (0.2 if int(item["k"]) * 4 < self.rows else 0.01))
        return item


def shorten(window: float) -> None:
    """Have the limits of this process, and of a service in it, count in such windows."""
    vars(shared)["WINDOW_SECONDS"] = window
    defaults = GrantService.__init__.__kwdefaults__
    assert defaults is not None
    defaults["window"] = window


class LimitedRun:
    """Runs it.

    Args:
        folder: where.
        window: seconds that a minute has; 60.1 leaves everything as it is.
        windows: how many are measured: those after the first, which is full at once, and before the last, when the
            budget comes to its end.
        requests: the limit in a window.
    """

    def __init__(self, folder: Path, window: float, windows: int, requests: int) -> None:
        self.folder, self.window, self.windows, self.requests = folder, window, windows, requests
        self.rows = requests * (windows + 3) * 4
        self.cap = requests * (windows + 2) * _TOKENS_A_CALL
        self.tally = Tally()
        self.used = 0.0
        self._till: TillProcess | None = None

    def run(self) -> Tally:
        """Run it until its budget is used up, and kill a driver and workers meanwhile; judge it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = [{"k": str(n), "v": f"{n:06}"} for n in range(self.rows)]
        (self.folder / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        till = self._till = TillProcess.start(
            0, latency=Latency(seconds=0.2), faults=LLMFaults(), seed=1, api_key=CANARY
        )
        try:
            self._strike()
            sold = till.sold()
        finally:
            till.stop()
        self.tally.runs += 1
        self.tally.findings += self._judged(sold)
        return self.tally

    def _strike(self) -> None:
        """Kill a worker in the first window, the driver in the second, a worker in the third."""
        began, number = time.monotonic(), 0
        child = Child(self._drive, self.folder / "said")
        while number < 3 and not child.is_over(max(0.0, began + self.window * (number + 0.5) - time.monotonic())):
            workers = worker_processes(child.pid)
            if number == 1:
                child.send(signal.SIGKILL)
                child.end()
                child = Child(self._drive, self.folder / "said")
                self.tally.kills += 1
            elif workers:
                os.kill(random.choice(workers), signal.SIGKILL)
                self.tally.kills += 1
            number += 1
        death = child.end(self.window * (self.windows + 5) + 60)
        if death.how != "done":
            self.tally.findings.append(f"the driver was {death.how}: {death.text}")

    def _drive(self) -> None:
        assert self._till is not None
        shorten(self.window)
        ask = LLMOperator(
            PROMPT,
            output="answer",
            model="m0",
            base_url=self._till.base_url,
            api_key=CANARY,
            prices=PRICES,
            params={"max_tokens": 20},
            budget={"tokens": self.cap},
            requests_per_minute=self.requests,
            timeout=CALL_SECONDS,
            name="ask",
        )
        operators: list[Any] = [Uneven(self.rows, self.window), ask]
        pipeline = UnifiedPipeline(
            operators,
            f"jsonl://{self.folder}/in.jsonl",
            f"jsonl://{self.folder}/out.jsonl",
            parallel_size=8,
            streaming=True,
            results_dir=self.folder / "results",
            log_file=self.folder / "platform.log",
            writer_config=WriterConfig(fsync="never"),
        )
        report = ShardedPipeline(pipeline, shards=SHARDS, workers=SHARDS).create(ID, if_exists="resume")
        report.run(progress=False)

    def _judged(self, sold: dict[str, Any]) -> list[str]:
        found = []
        state = RunFolder(self.folder / "results", ID).load()
        if state["status"] != "stopped" or "budget" not in state["reason"]:
            found.append(f"it is {state['status']} ({state['reason']}), and its budget should have stopped it")
        if sold["tokens"] > self.cap:
            found.append(f"{sold['tokens']} tokens are spent, and the cap is {self.cap}")
        came_at = sorted(sold["came_at"])
        most = most_within(came_at, min(MINUTE, self.window))
        if most > self.requests:
            found.append(f"{most} calls came within a window, and the limit is {self.requests}")
        begins = [came_at[0] + self.window * (number + 1) for number in range(self.windows)]
        used = [sum(begin <= moment < begin + self.window for moment in came_at) for begin in begins]
        self.used = sum(used) / (self.windows * self.requests)
        shown = f"{self.used:.1%} of the limit used ({used} of {self.requests})"
        print(f"{shown}, {sold['tokens'] / self.cap:.1%} of the budget", file=sys.stderr)
        return found


def shard_limit(folder: Path, *, window: float, windows: int) -> Tally:
    """Run it, and judge it. Of the limit, enough must be used when a window is as long as it is in earnest.

    Args:
        folder: where.
        window: seconds that a minute has; 60.1 leaves everything as it is.
        windows: for how many of them.
    """
    run = LimitedRun(folder / "limit", window, windows, REQUESTS)
    tally = run.run()
    if window >= MINUTE and run.used < USED_AT_LEAST:
        tally.findings.append(f"{run.used:.1%} of the limit were used")
    return tally
