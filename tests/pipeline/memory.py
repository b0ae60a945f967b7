"""Runs a streaming pipeline over many rows, and says how much memory it took: ``memory.py FOLDER ROWS``."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline

PAGE = os.sysconf("SC_PAGE_SIZE")


def rss() -> float:
    """Return the memory that this process has now, in MB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE / 1e6


def peak() -> float:
    """Return the most memory that this process has had, in MB (`ru_maxrss` would count its parent's, too)."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024 / 1e6


def identity(item: Any) -> Any:
    return item


def other(item: Any) -> Any:
    return item


def main(folder: Path, rows: int) -> None:
    """Run, and print the figures as JSON."""
    given, output = folder / "in.jsonl", folder / "out.jsonl"
    with given.open("w") as file:
        text = "x" * 480
        for n in range(rows):
            file.write(f'{{"n":{n},"text":"{text}"}}\n')
    pipeline = UnifiedPipeline(
        [identity, other],
        f"jsonl://{given}",
        f"jsonl://{output}",
        streaming=True,
        parallel_size=2,
        base_path=folder,
        results_dir=folder / "results",
        log_file=None,
        writer_config={"fsync": "never"},
    )
    before = rss()
    samples: list[tuple[float, float]] = []
    is_over = threading.Event()
    size = given.stat().st_size

    def sample() -> None:
        while not is_over.wait(0.02):
            done = output.stat().st_size / size if output.exists() else 0.0
            samples.append((done, rss()))

    sampler = threading.Thread(target=sample)
    sampler.start()
    began = time.perf_counter()
    report = pipeline.run()
    seconds = time.perf_counter() - began
    is_over.set()
    sampler.join()
    early = [memory for done, memory in samples if 0.15 <= done <= 0.35]
    late = [memory for done, memory in samples if done >= 0.9]
    figures = {
        "rows": report.rows_out,
        "seconds": round(seconds, 2),
        "before": before,
        "early": sum(early) / max(1, len(early)),
        "late": sum(late) / max(1, len(late)),
        "peak": peak(),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
