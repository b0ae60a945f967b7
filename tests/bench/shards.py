"""``python -m tests.bench.shards``: an operator that takes processor time, in one process, in shards, and by others.

Each turn makes one sample of each side, one after the other, in processes of their own: one run without shards, one
local shard, two of them, and with ``--peer-python`` Ray Data and datatrove with two tasks. Figures are medians of the
turns' ratios; seconds are of a clock, so the machine should have two cores to give. The rows of all sides are compared.
The others get the file as two halves, since they do not split a file of lines; to make these is not counted, nor what
Ray needs to start.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from .data import Data
from .scrub import scrub

ENGINE = {"no shards": 0, "1 shard": 1, "2 shards": 2}
PEERS = ("ray", "datatrove")


def child(side: str, folder: Path) -> float:
    """Run a side of the engine; return what it took, in seconds."""
    from llm_datagen import UnifiedPipeline

    began = time.monotonic()
    pipeline: Any = UnifiedPipeline(
        [scrub],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/made/out.jsonl",
        base_path=folder / "made" / "between",
        results_dir=folder / "made" / "results",
        log_file=None,
    )
    if ENGINE[side]:
        from llm_datagen.shards.pipeline import ShardedPipeline

        pipeline = ShardedPipeline(pipeline, shards=ENGINE[side], executor="local", workers=ENGINE[side])
    pipeline.create("bench").run(progress=False)
    return time.monotonic() - began


def halve(source: Path, folder: Path) -> None:
    """Write a file as two."""
    with source.open("rb") as file:
        rows = sum(1 for _ in file)
        file.seek(0)
        for number, count in enumerate((rows // 2, rows - rows // 2)):
            with (folder / f"{number}.jsonl").open("wb") as half:
                half.writelines(islice(file, count))


def texts(folder: Path) -> list[tuple[int, str]]:
    """Return number and text of each row that a side has made, in order."""
    found = []
    made = [*folder.glob("out*.jsonl"), *folder.glob("out/*.json*")]
    for path in made or folder.glob("results/bench/shards/*/node_0.jsonl"):  # the shards' own, before they are merged
        for line in path.read_bytes().splitlines():
            row = json.loads(line)
            found.append((row["n"] if "n" in row else row["metadata"]["n"], row["text"]))
    return sorted(found)


def sample(side: str, folder: Path, peer_python: str | None) -> tuple[float, list[tuple[int, str]]]:
    """Return the seconds that a side took, and the rows that it made."""
    made = folder / "made"
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir()
    if side in PEERS:
        command = [str(peer_python), "-m", f"{__package__}.shard_peers", side, str(folder / "halves"), str(made)]
    else:
        command = [sys.executable, "-m", f"{__package__}.shards", "--child", side, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{side}: {done.stderr}")
    return float(done.stdout.splitlines()[-1]), texts(made)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5)
    parser.add_argument("--peer-python", metavar="PYTHON", help="where datatrove and Ray are installed")
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args(arguments)
    if given.child:
        print(child(given.child[0], Path(given.child[1])))
        return
    sides = [*ENGINE, *(PEERS if given.peer_python else ())]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Data("500b", given.rows).file(folder).rename(folder / "in.jsonl")
        (folder / "halves").mkdir()
        halve(folder / "in.jsonl", folder / "halves")
        turns = []
        for _ in range(given.repeat):
            taken = {}
            expected = None
            for side in sides:
                taken[side], rows = sample(side, folder, given.peer_python)
                expected = expected or rows
                if rows != expected or len(rows) != given.rows:
                    raise RuntimeError(f"{side} has made {len(rows)} rows, which are not those of {sides[0]}")
            turns.append(taken)
    for side in sides:
        seconds = statistics.median(turn[side] for turn in turns)
        ratio = statistics.median(turn["1 shard"] / turn[side] for turn in turns)
        print(f"{side:12} {seconds:7.1f} s   {ratio:.2f} times as fast as 1 shard")


if __name__ == "__main__":
    main()
