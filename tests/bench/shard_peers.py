"""``PYTHON -m tests.bench.shard_peers PEER FOLDER TARGET``: the work of `tests.bench.shards` by Ray Data or datatrove.

Two tasks read the files of the folder, give each row to the operator, and write files. Printed is what that took, in
seconds; what Ray needs to start is not counted.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .scrub import scrub


def _datatrove(source: Path, target: Path) -> float:
    from datatrove.data import Document  # type: ignore[import-not-found]
    from datatrove.executor import LocalPipelineExecutor  # type: ignore[import-not-found]
    from datatrove.pipeline.readers import JsonlReader  # type: ignore[import-not-found]
    from datatrove.pipeline.writers import JsonlWriter  # type: ignore[import-not-found]

    def clean(data: Any, rank: int = 0, world_size: int = 1) -> Iterator[Any]:
        for document in data:
            row = scrub({"n": document.metadata["n"], "text": document.text})
            yield Document(text=row.pop("text"), id=document.id, metadata=row)

    began = time.monotonic()
    LocalPipelineExecutor(
        pipeline=[
            JsonlReader(str(source), glob_pattern="*.jsonl", compression=None),
            clean,
            JsonlWriter(str(target / "out"), output_filename="${rank}.jsonl", compression=None),
        ],
        tasks=2,
        workers=2,
        logging_dir=str(target / "logs"),
    ).run()
    return time.monotonic() - began


def _ray(source: Path, target: Path) -> float:
    import ray

    def clean(batch: dict[str, Any]) -> dict[str, Any]:
        rows = [scrub({"n": n, "text": text}) for n, text in zip(batch["n"].tolist(), batch["text"], strict=True)]
        return {name: [row[name] for row in rows] for name in rows[0]}

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, object_store_memory=1 << 30)
    began = time.monotonic()
    ray.data.read_json(str(source)).map_batches(clean).write_json(str(target / "out"))
    return time.monotonic() - began


PEERS = {"datatrove": _datatrove, "ray": _ray}


def main() -> None:
    """Do the work, and print what it took."""
    peer, source, target = sys.argv[1:]
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"
    print(PEERS[peer](Path(source), Path(target)))


if __name__ == "__main__":
    main()
