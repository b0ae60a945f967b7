"""A pipeline of `llm_datagen.ops` to be killed: ``ops_job.py '{…}'``.

The job is a JSON object: `folder` (with `in.jsonl`), `streaming`, `ordered`, `last` (the last step), `size` (bytes of
state in memory).
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from llm_datagen import UnifiedPipeline, ops
from llm_datagen.streams.state import store


def slowly(row: Any) -> Any:
    """Return the row, after a while."""
    time.sleep(0.001)
    return row


LAST: dict[str, Any] = {
    "group": ops.GroupBy("part"),
    "shuffle": ops.Shuffle(seed=1),
    "best": ops.Best(2, by="n", of="part"),
    "sample": ops.Sample(n=100),
}


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    store.APPLY_BYTES, store.SHORTEN_BYTES = job["size"], 4 * job["size"]
    folder = Path(job["folder"])
    pipeline = UnifiedPipeline(
        [ops.Dedupe("key"), slowly, ops.Split({"a": 0.7, "b": 0.3}, column="part"), LAST[job["last"]]],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/out.jsonl",
        streaming=job["streaming"],
        ordered=job["ordered"],
        base_path=folder / "between",
        results_dir=folder / "results",
        log_file=folder / "platform.log",
        writer_config={"flush_batch_size": 20, "queue_size": 20},
    )
    pipeline.create("job", if_exists="resume")
    pipeline.run(progress=False)


if __name__ == "__main__":
    main()
