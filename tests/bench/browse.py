"""How quickly a page of a run's rows is there: ``python -m tests.bench.browse [--rows 1000000]``.

A run's output of JSON lines, of 50 bytes and of 1 KB a row: the first page; the first jump, which counts the rows
before it; a jump once they are counted; and a search through all of it.
Figures are medians of several tries. Memory is the most that the process has had, above what it had before.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from llm_datagen import StreamFactory
from llm_datagen.runs.browse.pages import Browser
from llm_datagen.runs.browse.run_streams import RunStream, find_stream, streams_of_run

_ROWS_AT_ONCE = 10_000
_TRIES = 5


def written(folder: Path, rows: int, size: int) -> RunStream:
    """Return a sealed stream of rows of about `size` bytes, as a node writes it."""
    output = StreamFactory.create(f"jsonl://{folder}/{size}.jsonl")
    text = "x" * max(0, size - 30)
    with output.get_writer(fsync="never") as writer:
        for begin in range(0, rows, _ROWS_AT_ONCE):
            writer.write([{"n": n, "text": text} for n in range(begin, min(begin + _ROWS_AT_ONCE, rows))])
    entry = {"node_id": "node_0", "input_uri": "jsonl:///nowhere.jsonl", "output_uri": output.uri, "is_root": False}
    return find_stream(streams_of_run({"nodes": [entry]}), "node_0")


def milliseconds(do: Callable[[], Any], tries: int = _TRIES) -> float:
    """Return how long something takes, as a median."""
    taken = []
    for _ in range(tries):
        begun = time.perf_counter()
        do()
        taken.append((time.perf_counter() - begun) * 1000)
    return median(taken)


def figures_of(stream: RunStream, browser: Browser, far: int) -> dict[str, float]:
    """Return how many milliseconds each look takes; `browser` has counted the rows already."""
    return {
        "first page": milliseconds(lambda: Browser().page(stream)),
        "first jump": milliseconds(lambda: Browser().page(stream, far)),
        "jump": milliseconds(lambda: browser.page(stream, far)),
        "search to the end": milliseconds(lambda: browser.search(stream, "no such", seconds=600), tries=1),
    }


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    rows = parser.parse_args().rows
    far = rows * 9 // 10
    for size in (50, 1000):
        with tempfile.TemporaryDirectory() as folder:
            stream = written(Path(folder), rows, size)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            browser = Browser()
            assert [row.item["n"] for row in browser.page(stream, far, 3).rows] == [far, far + 1, far + 2]
            figures = figures_of(stream, browser, far)
            memory = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        told = ", ".join(f"{name} {taken:.1f} ms" for name, taken in figures.items())
        print(f"{rows:,} rows of {size} bytes: {told}; {memory:.0f} MB more of memory")


if __name__ == "__main__":
    main()
