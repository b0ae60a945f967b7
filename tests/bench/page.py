"""``python -m tests.bench.page``: what a run loses while its page is open.

Each turn makes one run without a page and one with it, one after the other, in processes of their own. With the page,
its server runs beside it, and a client listens to the events of the run as a browser does; the browser's own work is
not counted, since it may be on another machine. The figure is the median of the turns' ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import aiohttp

from .data import Data

_TOKEN = "a token of the benchmark"
_RUN = "bench"


def child(folder: Path) -> float:
    """Make a run; return what it took, in seconds."""
    from llm_datagen import UnifiedPipeline

    from .operators import identity

    began = time.monotonic()
    UnifiedPipeline(
        [identity, identity],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/made/out.jsonl",
        streaming=True,
        base_path=folder / "made" / "between",
        results_dir=folder / "made" / "results",
        log_file=None,
    ).create(_RUN).run(progress=False)
    return time.monotonic() - began


@contextmanager
def open_page(results: Path) -> Iterator[list[bytes]]:
    """Serve runs, and listen to one; what was heard is in the list."""
    results.mkdir(parents=True)
    server = subprocess.Popen(
        [sys.executable, "-m", "llm_datagen.cli", "ui", str(results)],
        stdout=subprocess.PIPE, text=True, env={**os.environ, "LLM_DATAGEN_UI_TOKEN": _TOKEN},
    )  # fmt: skip
    assert server.stdout is not None
    with server.stdout as said:
        address = said.readline().split("#")[0].removeprefix("page: ")
        heard: list[bytes] = []
        listener = threading.Thread(target=lambda: asyncio.run(_listen(address, heard)))
        listener.start()
        try:
            yield heard
        finally:
            server.terminate()
            listener.join()
            server.wait()


async def _listen(address: str, heard: list[bytes]) -> None:
    async with (
        aiohttp.ClientSession(headers={"Authorization": f"Bearer {_TOKEN}"}) as session,
        session.get(f"{address}api/events", params={"run": f"0.{_RUN}"}, timeout=None) as response,
    ):
        with suppress(aiohttp.ClientError):  # it ends with the server
            async for line in response.content:
                if line.startswith(b"data: "):
                    heard.append(line)  # noqa: PERF401 - what was heard before the end is kept


def sample(folder: Path, *, with_page: bool) -> float:
    """Return the seconds that a run took."""
    made = folder / f"made-{time.monotonic_ns()}"
    (folder / "made").unlink(missing_ok=True)
    made.mkdir()
    (folder / "made").symlink_to(made.name)

    def run() -> float:
        command = [sys.executable, "-m", f"{__package__}.page", "--child", str(folder)]
        return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

    if not with_page:
        return run()
    with open_page(made / "results") as heard:
        seconds = run()
    if len(heard) < seconds:
        raise RuntimeError(f"the page heard of the run {len(heard)} times in {seconds:.1f} s")
    return seconds


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--child", metavar="FOLDER", help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        print(child(Path(given.child)))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Data("500b", given.rows).file(folder).rename(folder / "in.jsonl")
        turns = []
        for number in range(given.repeat):
            order = (False, True) if number % 2 else (True, False)
            turns.append({with_page: sample(folder, with_page=with_page) for with_page in order})
    for with_page, side in ((False, "no page"), (True, "page open")):
        seconds = statistics.median(turn[with_page] for turn in turns)
        ratio = statistics.median(turn[False] / turn[with_page] for turn in turns)
        print(f"{side:10} {seconds:6.1f} s   {ratio:.3f} of the speed without a page")


if __name__ == "__main__":
    main()
