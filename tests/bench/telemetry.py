"""``python -m tests.bench.telemetry``: what telemetry costs, switched off against the code before, and switched on.

Each turn makes one sample of each side, one after the other, each in a process of its own: a run of calls to a fake
server in another process. What is compared is the processor time of the run's process for each call, which other
programs on the machine disturb less than its duration. Figures are medians of turns; a *ratio* is taken within a turn.
Before that, the layer that tells of calls is measured by itself (*layer*): with nobody listening, on a transport that
answers at once, against that transport alone.

    before      another revision (--vs), without telemetry
    off         this tree, nobody listens
    hooks       hooks that do nothing: what being told of events costs
    on          spans of all calls, sent by OTLP over HTTP to a sink in another process
    share       spans of one call in a hundred
"""

from __future__ import annotations

import argparse
import asyncio
import http.server
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from llm_datagen import DefaultPipelineHooks
from llm_datagen.llm.types import ChatAnswer, ChatRequest

from .llm_sides import pipeline_of, served, write_questions
from .measure import ROOT
from .revisions import checked_out

SIDES = {"before": "", "off": "", "hooks": "hooks", "on": "1.0", "share": "0.01"}
"""The sides, and the share of calls that get a span; "hooks": hooks without telemetry; empty: neither."""


class _Sink(http.server.BaseHTTPRequestHandler):
    """Takes everything, and keeps nothing."""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def _serve_sink(port: Any) -> None:
    sink = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Sink)
    port.send(sink.server_address[1])
    sink.serve_forever()


def sample(base_url: str, calls: int, share: str) -> dict[str, float]:
    """Return the microseconds of processor time for each call of a run, in this process.

    Raises:
        RuntimeError: when not all rows are there.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_questions(folder, calls)
        pipeline = pipeline_of(base_url, folder, at_once=50)
        close: Callable[[], object] = bool
        if share == "hooks":
            pipeline.hooks = DefaultPipelineHooks()
        elif share:
            from llm_datagen.telemetry import OpenTelemetry

            pipeline.hooks = told = OpenTelemetry(calls=float(share))
            close = partial(told.close, 60)
        pipeline.create("telemetry")
        began, cpu = time.perf_counter(), time.process_time()
        report = pipeline.run(progress=False)
        close()
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    if report.rows_out != calls:
        raise RuntimeError(f"{report.rows_out} of {calls} rows are there")
    return {"cpu_us": cpu / calls * 1e6, "calls_per_s": calls / seconds}


def _in_a_process(side: str, source: Path, base_url: str, calls: int, sink: int) -> dict[str, float]:
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(source), str(ROOT)]),
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{sink}",
        "OTEL_BSP_MAX_QUEUE_SIZE": "100000",
    }
    words = [sys.executable, "-m", "tests.bench.telemetry", "--sample", base_url, str(calls), SIDES[side]]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measured(revision: str | None, calls: int, repeat: int) -> dict[str, dict[str, float]]:
    """Return medians of `repeat` turns, by side.

    Args:
        revision: what is before; None: there is no such side.
        calls: calls of a run.
        repeat: turns.
    """
    names = [name for name in SIDES if revision is not None or name != "before"]
    ours, theirs = multiprocessing.Pipe()
    sink = multiprocessing.Process(target=_serve_sink, args=(theirs,), daemon=True)
    sink.start()
    port = ours.recv()
    turns = []
    try:
        with served() as base_url, checked_out(revision) if revision else nullcontext(ROOT / "src") as before:
            for number in range(repeat + 1):
                order = names if number % 2 else names[::-1]
                turn = {
                    name: _in_a_process(name, before if name == "before" else ROOT / "src", base_url, calls, port)
                    for name in order
                }
                if number:  # the first turn pays for caches
                    turns.append(turn)
    finally:
        sink.kill()
        sink.join()
    first = names[0]
    return {
        name: {
            "cpu_us": round(statistics.median(turn[name]["cpu_us"] for turn in turns), 1),
            "calls_per_s": round(statistics.median(turn[name]["calls_per_s"] for turn in turns)),
            "cpu_ratio": round(statistics.median(turn[name]["cpu_us"] / turn[first]["cpu_us"] for turn in turns), 3),
            "more_us": round(statistics.median(turn[name]["cpu_us"] - turn[first]["cpu_us"] for turn in turns), 1),
        }
        for name in names
    }


class _Answers:
    """A transport that answers at once."""

    async def open(self) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""

    async def complete(self, request: ChatRequest) -> ChatAnswer:
        """Return an answer."""
        return ChatAnswer(text="yes")


def layer_us(calls: int, repeat: int) -> float:
    """Return the microseconds that the layer adds to a call that nobody listens to: the median of `repeat` pairs."""
    from llm_datagen.llm.http.address import Address
    from llm_datagen.llm.listened import ListenedLayer  # the revision before has none

    bare = _Answers()
    listened = ListenedLayer(bare, Address("http://127.0.0.1:1/v1"))
    context: Any = SimpleNamespace(pipeline_id="a", node_id="node_0")
    request = ChatRequest(messages=[], params={}, model="m", ctx=context)

    async def seconds(transport: Any) -> float:
        began = time.process_time()
        for _ in range(calls):
            await transport.complete(request)
        return time.process_time() - began

    pairs = [asyncio.run(seconds(listened)) - asyncio.run(seconds(bare)) for _ in range(repeat)]
    return round(statistics.median(pairs) / calls * 1e6, 2)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.telemetry", description=__doc__)
    parser.add_argument("--vs", metavar="REV", help="the revision that is before; none, unless given")
    parser.add_argument("--calls", type=int, default=3000)
    parser.add_argument("--repeat", type=int, default=7, help="turns")
    parser.add_argument("--sample", nargs=3, metavar=("URL", "CALLS", "SHARE"), help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.sample is not None:
        base_url, calls, share = given.sample
        print(json.dumps(sample(base_url, int(calls), share)))
        return 0
    print(json.dumps({"side": "layer", "more_us": layer_us(100_000, given.repeat)}), flush=True)
    for name, figures in measured(given.vs, given.calls, given.repeat).items():
        print(json.dumps({"side": name, **figures, "load": round(os.getloadavg()[0], 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
