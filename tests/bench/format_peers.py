"""``PYTHON -m tests.bench.format_peers PEER CASE SOURCE FOLDER``: the same work by datatrove or Ray Data.

`python -m tests.bench.formats --peer-python PYTHON` starts it beside the engine, with a Python where they are
installed. It reads the file, gives each row to a function that returns it, and writes files, with one worker. Printed
are the processor seconds of all processes.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


def _datatrove(case: str, source: Path, target: Path) -> None:
    from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
    from datatrove.pipeline.readers import JsonlReader, ParquetReader  # type: ignore[import-not-found]
    from datatrove.pipeline.writers import JsonlWriter, ParquetWriter  # type: ignore[import-not-found]

    def same(data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        yield from data

    folder, pattern = str(source.parent), source.name
    if case == "zst":
        steps = [JsonlReader(folder, glob_pattern=pattern, compression="zstd"), same]
        steps.append(JsonlWriter(str(target), output_filename="out.jsonl.zst", compression="zstd"))
    else:
        steps = [ParquetReader(folder, glob_pattern=pattern), same]
        steps.append(ParquetWriter(str(target), output_filename="out.parquet", compression="zstd"))
    LocalPipelineExecutor(pipeline=steps, tasks=1, workers=1, logging_dir=str(target / "logs")).run()


def _ray(case: str, source: Path, target: Path) -> None:
    import ray

    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, object_store_memory=500 << 20)
    ray.data.read_parquet(str(source)).map(lambda row: row).write_parquet(str(target), compression="zstd")


PEERS = {"datatrove": _datatrove, "ray": _ray}


def main() -> None:
    """Do one job, and print what it took."""
    import psutil

    peer, case, source, target = sys.argv[1:]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    before = sum(psutil.Process().cpu_times()[:2])
    PEERS[peer](case, Path(source), Path(target))
    children = psutil.Process().children(recursive=True)
    found = psutil.Process().cpu_times()
    cpu = sum(found[:4]) - before + sum(sum(child.cpu_times()[:2]) for child in children)
    print(json.dumps({"cpu": cpu}))


if __name__ == "__main__":
    main()
