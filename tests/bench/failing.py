"""``python -m tests.bench.failing``: rows that fail against rows that do not, on the same machine at the same time.

Each turn makes one sample of each side, one after the other, in this process: a run of one node over rows of a file,
with default settings, from the pipeline's constructor to the return of `run()`. The *ratio* of a side is its rows per
second by those of the rows that succeed, of the same turn; *cpu_ratio* is the same of processor time, which
other programs on the machine disturb less. Figures are medians. 0.1 is the goal: ten times the time.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from llm_datagen import UnifiedPipeline

from .data import Data, Kind
from .operators import IdentityBatch, identity


def fail(row: Any) -> Any:
    """Raise, with a text of its own for each row, as operators do."""
    raise ValueError(f"row {row['n']} has no answer")


@dataclass(frozen=True, slots=True)
class Side:
    """What is measured.

    Attributes:
        about: what fails.
        operator: the operator.
        on_error: what becomes of rows that fail.
        is_cut: whether the lines lack their last sign, so that they are no JSON.
        batch_size: rows a call.
    """

    about: str
    operator: Any
    on_error: Literal["fail", "skip", "dead_letter"] = "dead_letter"
    is_cut: bool = False
    batch_size: int = 1


SIDES = {
    "success": Side("nothing", identity, "fail"),
    "success-batch": Side("nothing, in batches of 500", IdentityBatch(), "fail", batch_size=500),
    "letter": Side("each call", fail),
    "skip": Side("each call; the rows are skipped", fail, "skip"),
    "unparsed": Side("each line", identity, is_cut=True),
    "unparsed-batch": Side("each line, in batches of 500", IdentityBatch(), is_cut=True, batch_size=500),
}
SUCCESS = "success"


def _inputs(folder: Path, kind: Kind, rows: int) -> dict[bool, Path]:
    """Return the file of the rows, and that of the same lines cut."""
    whole = Data(kind, rows).file(folder)
    cut = folder / "cut.jsonl"
    with whole.open("rb") as lines, cut.open("wb") as file:
        file.writelines(line[:-2] + b"\n" for line in lines)
    return {False: whole, True: cut}


def sample(side: Side, source: Path, rows: int) -> dict[str, float]:
    """Return the rows per second of one run, and its seconds of CPU.

    Raises:
        RuntimeError: when not all rows have become what they should.
    """
    with tempfile.TemporaryDirectory(dir=source.parent) as name:
        began, cpu = time.perf_counter(), time.process_time()
        pipeline = UnifiedPipeline(
            [side.operator],
            f"jsonl://{source}",
            f"jsonl://{name}/out.jsonl",
            results_dir=Path(name, "results"),
            log_file=Path(name, "log"),
            on_error=side.on_error,
            batch_size=side.batch_size,
        )
        [node] = pipeline.create("failing").run().nodes
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    told = {"fail": node.rows_out, "skip": node.skipped, "dead_letter": node.dead_letters}[side.on_error]
    if told != rows:
        raise RuntimeError(f"{side.about}: {told} of {rows} rows are there")
    return {"rows_per_s": rows / seconds, "cpu_us": cpu / rows * 1e6}


def measured(kind: Kind, rows: int, repeat: int, sides: Iterable[str] = SIDES) -> dict[str, dict[str, float]]:
    """Return medians of `repeat` turns, by side."""
    names = [SUCCESS, *(name for name in sides if name != SUCCESS)]
    with tempfile.TemporaryDirectory() as folder:
        inputs = _inputs(Path(folder), kind, rows)
        sample(SIDES[SUCCESS], inputs[False], rows)  # a process's first run pays for its imports
        turns = [{name: sample(SIDES[name], inputs[SIDES[name].is_cut], rows) for name in names} for _ in range(repeat)]
    return {
        name: {
            "rows_per_s": round(statistics.median(turn[name]["rows_per_s"] for turn in turns)),
            "cpu_us": round(statistics.median(turn[name]["cpu_us"] for turn in turns), 1),
            "ratio": round(statistics.median(t[name]["rows_per_s"] / t[SUCCESS]["rows_per_s"] for t in turns), 3),
            "cpu_ratio": round(statistics.median(t[SUCCESS]["cpu_us"] / t[name]["cpu_us"] for t in turns), 3),
        }
        for name in names
    }


def main(arguments: list[str] | None = None) -> int:
    """Run the command."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.failing", description=__doc__)
    parser.add_argument("--side", action="append", choices=list(SIDES), help="beside the success; all, unless given")
    parser.add_argument("--kind", default="500b", choices=["20b", "500b", "50kb"], help="the rows (%(default)s)")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=5, help="turns")
    given = parser.parse_args(arguments)
    for name, figures in measured(given.kind, given.rows, given.repeat, given.side or SIDES).items():
        print(json.dumps({"side": name, **figures, "load": round(os.getloadavg()[0], 1)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
