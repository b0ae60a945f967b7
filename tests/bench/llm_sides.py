"""The sides of the benchmark of model calls, and the server that both call."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import httpx

from llm_datagen import UnifiedPipeline
from llm_datagen.llm import LLMOperator

PROMPTS = ("{{ q }}", "{{ q }}, after {{ answer_0 }}")


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


def told(base_url: str, what: str) -> Any:
    """Return ``stats`` or ``latencies`` of a server."""
    return httpx.get(f"{base_url.removesuffix('/v1')}/{what}", trust_env=False).json()


async def bare(base_url: str, folder: Path, *, at_once: int, stages: int = 1) -> None:
    """Make the calls, parse the answers and write a line for each row; a row goes through all stages.

    A call that fails leaves the row as it is: nothing is tried again.
    """
    free = [asyncio.Semaphore(at_once) for _ in range(stages)]

    async def answer(session: aiohttp.ClientSession, text: str) -> str:
        body = {"model": "m", "messages": [{"role": "user", "content": text}]}
        with contextlib.suppress(aiohttp.ClientError, ValueError, LookupError):
            async with session.post(f"{base_url}/chat/completions", json=body) as response:
                found: str = (await response.json())["choices"][0]["message"]["content"]
                return found
        return ""

    async def row(session: aiohttp.ClientSession, item: dict[str, Any]) -> None:
        text = item["q"]
        for stage in range(stages):
            async with free[stage]:
                item[f"answer_{stage}"] = await answer(session, text)
            text = f"{item['q']}, after {item[f'answer_{stage}']}"
        output.write(json.dumps(item) + "\n")

    items = map(json.loads, (folder / "in.jsonl").read_text().splitlines())
    with (folder / "out.jsonl").open("w") as output:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            await asyncio.gather(*(row(session, item) for item in items))


def pipeline_of(base_url: str, folder: Path, *, at_once: int, stages: int = 1, **options: Any) -> UnifiedPipeline:
    """Return a streaming pipeline of so many operators, on ``in.jsonl`` of a folder."""
    return UnifiedPipeline(
        [
            LLMOperator(
                PROMPTS[stage],
                model="m",
                base_url=base_url,
                api_key="none",
                output=f"answer_{stage}",
                max_retries=10,
                name=f"ask_{stage}",
                **options,
            )
            for stage in range(stages)
        ],
        str(folder / "in.jsonl"),
        str(folder / "out.jsonl"),
        parallel_size=at_once,
        streaming=stages > 1,
        base_path=folder / "between",
        results_dir=folder,
        log_file=None,
    )


def write_questions(folder: Path, rows: int) -> None:
    """Write the input of a pipeline."""
    text = "".join(json.dumps({"q": f"question {number}"}) + "\n" for number in range(rows))
    (folder / "in.jsonl").write_text(text)


def lost_and_twice(folder: Path, rows: int) -> tuple[int, int]:
    """Return how many rows are not in the output, and how many are there more than once."""
    found = [json.loads(line)["q"] for line in (folder / "out.jsonl").read_text().splitlines()]
    return len({f"question {number}" for number in range(rows)} - set(found)), len(found) - len(set(found))
