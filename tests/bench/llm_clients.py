"""``python -m tests.bench.llm_clients``: the CPU of a call by HttpTransport and by the SDK (``pip install openai``).

Both ask the fake server, a process of its own, 100 ms a call, 50 at once; they take turns.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from llm_datagen.llm.http.address import Address, checked_key
from llm_datagen.llm.http.client import HttpTransport
from llm_datagen.llm.types import ChatRequest

from .llm_sides import served

ROWS, AT_ONCE, PAIRS = 2000, 50, 5


async def all_rows(call: Callable[[list[Any]], Awaitable[str | None]]) -> None:
    """Make the calls; every one must bring a text."""
    free = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> None:
        async with free:
            if not await call([{"role": "user", "content": f"question {number}"}]):
                raise RuntimeError("a call brought no text")

    await asyncio.gather(*(one(number) for number in range(ROWS)))


async def ours(base_url: str) -> None:
    """Ask by HttpTransport."""
    caller = HttpTransport(Address(base_url), checked_key("none"), 60)
    await caller.open()

    async def call(messages: list[Any]) -> str | None:
        return (await caller.complete(ChatRequest(messages=messages, params={}, model="m"))).text

    await all_rows(call)
    await caller.close()


async def sdk(base_url: str) -> None:
    """Ask by the SDK."""
    async with importlib.import_module("openai").AsyncOpenAI(base_url=base_url, api_key="none") as client:

        async def call(messages: list[Any]) -> str | None:
            found = await client.chat.completions.create(model="m", messages=messages)
            text: str | None = found.choices[0].message.content
            return text

        await all_rows(call)


def cpu_ms(side: Callable[[str], Any]) -> float:
    """Return the CPU of a call, in milliseconds."""
    with served(latency=0.1) as base_url:
        began = time.process_time()
        asyncio.run(side(base_url))
        return (time.process_time() - began) / ROWS * 1000


def main() -> int:
    """Run the command. The first pair is not counted: it imports."""
    pairs = [(cpu_ms(ours), cpu_ms(sdk)) for _ in range(PAIRS + 1)][1:]
    medians = [round(statistics.median(side), 3) for side in zip(*pairs, strict=True)]
    print(json.dumps({"rows": ROWS, "at_once": AT_ONCE, "ours_cpu_ms": medians[0], "sdk_cpu_ms": medians[1]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
