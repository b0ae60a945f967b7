"""``python -m llm_datagen.web.beside_run RESULTS_DIR ID``: the page beside a run, started by it.

It prints its address, and serves the folder of the run. It ends when for half a minute neither the run has had a
process, nor a page was open.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys

from llm_datagen.errors import DatagenError
from llm_datagen.runs import RunFolder
from llm_datagen.shards.run_view import read_run
from llm_datagen.web.server import Server

LINGER_SECONDS = 30.0
_LOOK_SECONDS = 1.0


def main() -> int:
    """Serve; return the exit status. Called on the main thread."""
    parser = argparse.ArgumentParser(prog="python -m llm_datagen.web.beside_run", description=__doc__)
    parser.add_argument("results_dir")
    parser.add_argument("pipeline_id")
    parser.add_argument("--linger", type=float, default=LINGER_SECONDS, metavar="SECONDS")
    given = parser.parse_args()
    folder = RunFolder(given.results_dir, given.pipeline_id)
    try:
        server = Server([given.results_dir], token=os.environ.get("LLM_DATAGEN_UI_TOKEN") or None)
    except DatagenError as error:
        print(error, file=sys.stderr)
        return 2
    server.serve(on_ready=lambda: _tell(server.url), until=lambda: _until_nobody_looks(server, folder, given.linger))
    return 0


def _tell(url: str) -> None:
    """Print the address, and nothing from then on: who has started this reads one line."""
    print(url, flush=True)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for number in (1, 2):
        os.dup2(nowhere, number)
    os.close(nowhere)


async def _until_nobody_looks(server: Server, folder: RunFolder, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    last = loop.time()
    while loop.time() - last < seconds:
        await asyncio.sleep(min(_LOOK_SECONDS, seconds))
        if server.is_looked_at or await asyncio.to_thread(_is_live, folder):
            last = loop.time()


def _is_live(folder: RunFolder) -> bool:
    try:
        return folder.lock.is_held() or read_run(folder).is_live
    except (DatagenError, OSError):
        return False


if __name__ == "__main__":
    sys.exit(main())
