"""A run as a task of an event loop, beside what the program does otherwise: here, a task that ticks.

Run it with ``python embed_in_asyncio.py [DIRECTORY]``; without a directory it works in a temporary one.
"""

import asyncio
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline

ROWS = 100


def slow(item: dict[str, Any]) -> dict[str, Any]:
    """Block its thread; the event loop goes on."""
    time.sleep(0.01)
    return {**item, "square": item["number"] ** 2}


async def tick(ticks: list[float]) -> None:
    """Stand for a web server."""
    while True:
        ticks.append(time.monotonic())
        await asyncio.sleep(0.01)


async def serve() -> None:
    ticks: list[float] = []
    server = asyncio.create_task(tick(ticks))
    pipeline = UnifiedPipeline([slow], "jsonl://numbers.jsonl", "jsonl://squares.jsonl", parallel_size=2)
    report = await pipeline.create("squares", if_exists="overwrite").run_async()
    server.cancel()
    print(f"{report.status}: {report.rows_out} rows; the loop ticked {len(ticks)} times meanwhile")
    assert report.rows_out == ROWS
    assert len(ticks) > 5


def main() -> None:
    lines = [json.dumps({"number": number}) + "\n" for number in range(ROWS)]
    Path("numbers.jsonl").write_text("".join(lines), encoding="utf-8")
    asyncio.run(serve())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary, contextlib.chdir(sys.argv[1] if sys.argv[1:] else temporary):
        main()
