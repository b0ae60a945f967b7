"""``python -m tests.bench.llm``: LLMOperator against a bare asyncio client, both against a fake server.

The server is a process of its own, started anew for each sample; the two sides take turns. The *bare* side is a loop of
aiohttp calls behind a semaphore: no prompt, no retry, no row written. Its window says what the server and this machine
allow.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

CASES: dict[str, dict[str, float]] = {
    "fixed": {"latency": 0.1},
    "tail": {"latency": 0.1, "slow-share": 0.05},
    "faults": {"latency": 0.1, "rate-limit": 0.02, "server-error": 0.01, "reset": 0.005, "malformed": 0.005},
}
"""Settings of the server: 100 ms a call; 5 % of the calls take 1 s; 4 % fail."""


@contextlib.contextmanager
def served(**settings: float) -> Iterator[str]:
    """Run a server while a block runs, which gets its base URL."""
    options = [part for name, value in settings.items() for part in (f"--{name}", str(value))]
    command = [sys.executable, "-m", "llm_datagen.testing.server", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().strip()
        finally:
            server.terminate()


async def bare(base_url: str, rows: int, at_once: int) -> None:
    """Make the calls and read the answers, whatever they are."""
    free = asyncio.Semaphore(at_once)

    async def call(session: aiohttp.ClientSession, number: int) -> None:
        body = {"model": "m", "messages": [{"role": "user", "content": f"question {number}"}]}
        async with free:
            with contextlib.suppress(aiohttp.ClientError):
                async with session.post(f"{base_url}/chat/completions", json=body) as response:
                    await response.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(call(session, number) for number in range(rows)))


def engine(base_url: str, rows: int, at_once: int) -> None:
    """Run a pipeline of one LLMOperator; every row must be there, once."""
    with tempfile.TemporaryDirectory() as folder:
        source, output = Path(folder, "in.jsonl"), Path(folder, "out.jsonl")
        source.write_text("".join(json.dumps({"q": f"question {number}"}) + "\n" for number in range(rows)))
        operator = LLMOperator("{{ q }}", model="m", base_url=base_url, api_key="none", max_retries=10)
        UnifiedPipeline(
            [operator], str(source), str(output), parallel_size=at_once, results_dir=folder, log_file=None
        ).run()
        found = sorted(json.loads(line)["_i"] for line in output.read_text().splitlines())
        if found != list(range(rows)):
            raise RuntimeError(f"{len(found)} rows came out, of {rows}")


def sample(side: str, case: str, rows: int, at_once: int) -> dict[str, float]:
    """Return wall and CPU seconds of one run of a side, without its imports."""
    with served(**CASES[case]) as base_url:
        began, cpu = time.perf_counter(), time.process_time()
        if side == "bare":
            asyncio.run(bare(base_url, rows, at_once))
        else:
            engine(base_url, rows, at_once)
        return {"wall": time.perf_counter() - began, "cpu": time.process_time() - cpu}


def measured(case: str, *, rows: int, at_once: int, repeat: int) -> dict[str, Any]:
    """Return medians of `repeat` pairs of samples."""
    samples = [{side: sample(side, case, rows, at_once) for side in ("bare", "engine")} for _ in range(repeat)]
    return {
        "case": case,
        "rows": rows,
        "at_once": at_once,
        "bare_wall_s": round(statistics.median(pair["bare"]["wall"] for pair in samples), 2),
        "engine_wall_s": round(statistics.median(pair["engine"]["wall"] for pair in samples), 2),
        "ratio": round(statistics.median(pair["bare"]["wall"] / pair["engine"]["wall"] for pair in samples), 3),
        "engine_cpu_ms_a_row": round(statistics.median(pair["engine"]["cpu"] for pair in samples) / rows * 1000, 3),
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.llm", description=__doc__)
    parser.add_argument("cases", nargs="*", default=list(CASES), metavar="CASE", help=", ".join(CASES))
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--at-once", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3, help="pairs of samples")
    given = parser.parse_args(arguments)
    os.environ.pop("OPENAI_BASE_URL", None)
    for case in given.cases:
        figures = measured(case, rows=given.rows, at_once=given.at_once, repeat=given.repeat)
        print(json.dumps(figures), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
