"""A pipeline with a target to be killed: ``target_job.py '{…}'``. Each call of the last operator is noted in `calls`.

The job is a JSON object: `folder` (with `in.jsonl`), `target`, and settings of the pipeline: `streaming`, `ordered`,
`parallel_size`, `batch_size`; `shape`: "rows", "children" (some rows become up to four), "state" or "batches"; `hold`:
after so many calls of the last operator, it waits to be killed.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline


class First(BaseOperator):
    """Passes rows on, slowly."""

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row."""
        time.sleep(0.0002)
        return item


class Accept(BaseOperator):
    """Accepts two rows of three, and notes each call."""

    version = "1"  # it waits where it is told to

    def __init__(self, calls: str, shape: str) -> None:
        self.calls, self.shape = calls, shape
        self.left: float = math.inf  # calls that end

    def _noted(self, item: Any) -> Any:
        file = os.open(self.calls, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            os.write(file, b"%d\n" % item["n"])
        finally:
            os.close(file)
        self.left -= 1
        time.sleep(0.0005 if self.left >= 0 else 3600)
        if item["n"] % 3 == 1:
            return None
        return [{**item, "k": k} for k in range(item["n"] % 5)] if self.shape == "children" else item


class AcceptItems(Accept):
    """Takes rows."""

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, or its children, or nothing."""
        return self._noted(item)


class AcceptBatches(Accept):
    """Takes batches."""

    def process_batch(self, items: Any, ctx: INodeContext) -> Any:
        """Return the rows, and nothing for others."""
        return [self._noted(item) for item in items]


class AcceptWithState(Accept):
    """Takes rows, and adds their number among those that were accepted."""

    keeps_state = True

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row with its number, or nothing."""
        if self._noted(item) is None:
            return None
        ctx.state["rows"] = nth = ctx.state.get("rows", 0) + 1
        return {**item, "nth": nth}


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    folder = Path(job["folder"])
    kinds = {"batches": AcceptBatches, "state": AcceptWithState}
    accept = kinds.get(job["shape"], AcceptItems)(str(folder / "calls"), job["shape"])
    pipeline = UnifiedPipeline(
        [First(), accept],
        f"jsonl://{folder}/in.jsonl",
        f"jsonl://{folder}/out.jsonl",
        streaming=job["streaming"],
        ordered=job["ordered"],
        parallel_size=job["parallel_size"],
        batch_size=job["batch_size"],
        target=job["target"],
        base_path=folder / "between",
        results_dir=folder / "results",
        log_file=folder / "platform.log",
        writer_config={"flush_batch_size": 20, "queue_size": 20},
    )
    accept.left = job.get("hold", math.inf)
    pipeline.create("job", if_exists="resume")
    pipeline.run(progress=False)


if __name__ == "__main__":
    main()
