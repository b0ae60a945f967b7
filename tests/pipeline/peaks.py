"""Runs one node over much, and says how much memory it took at most: ``peaks.py FOLDER KIND COUNT SETTINGS``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from llm_datagen import FunctionOperator, UnifiedPipeline
from llm_datagen.testing import Fault, inject

TEXT = "x" * 480


def peak() -> float:
    """Return the most memory that this process has had, in MB (`ru_maxrss` would count its parent's, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def children(count: int) -> Iterator[Any]:
    """Yield very many rows."""
    for k in range(count):
        yield {"k": k, "text": TEXT[:100]}


def operator(kind: str, count: int) -> FunctionOperator:
    """Return what the node runs."""
    functions: dict[str, Callable[[Any], Any]] = {
        "items": lambda item: item,
        "batches": lambda items: items,
        "wide": lambda item: {"n": item["n"], "text": f"{item['n']:01000000}"},
        "children": lambda item: children(count),
    }
    return FunctionOperator(functions.get(kind, functions["items"]), batch=kind == "batches", name=kind)


def main(folder: Path, kind: str, count: int, settings: dict[str, Any]) -> None:
    """Run, and print the figures as JSON."""
    given = folder / ("in.csv" if kind == "quote" else "in.jsonl")
    if kind == "children":
        given.write_text('{"n":0}\n')
    elif kind == "wide":
        given.write_text("".join(f'{{"n":{n}}}\n' for n in range(count)))
    elif kind == "nul":
        with given.open("wb") as file:
            file.writelines(b"\0" * 9_999 + b"\n" for _ in range(count))
    elif kind == "quote":
        with given.open("w") as file:
            file.write('a,b\n"1,2\n')
            file.writelines(f"{n},{TEXT[:50]}\n" for n in range(1, count))
    elif not given.exists():
        with given.open("w") as file:
            file.writelines(f'{{"n":{n},"text":"{TEXT}"}}\n' for n in range(count))
    slow_disk = Fault(operation="write", path="*/out.jsonl", action="delay", seconds=0.02, times=None)
    pipeline = UnifiedPipeline(
        [operator(kind, count)],
        str(given),
        f"jsonl://{folder}/out.jsonl",
        base_path=folder,
        results_dir=folder / "results",
        log_file=None,
        writer_config={"fsync": "never"},
        **settings,
    )
    with inject(slow_disk if kind == "wide" else None):
        report = pipeline.run()
    print(json.dumps({"rows": report.rows_out + report.failed, "peak": peak()}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), json.loads(sys.argv[4]))
