"""A pipeline with state to be killed: ``state_job.py '{…}'``.

The job is a JSON object: `folder` (with `in.jsonl`), `streaming`, `ordered`, `size` (bytes of state in memory), and
`last`: the last of some steps of `llm_datagen.ops`; without it, the first row of each key is kept by operators of here;
`hold`: after so many new keys, it waits to be killed.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, UnifiedPipeline, ops
from llm_datagen.streams.state import store

LEFT: list[float] = [math.inf]
"""New keys that do not wait to be killed."""


def nap(seconds: float) -> None:
    """Take a nap, or wait to be killed."""
    LEFT[0] -= 1
    time.sleep(seconds if LEFT[0] >= 0 else 3600)


class First(BaseOperator):
    """Keeps the first row of each key, with the number of keys so far."""

    version = "1"  # it waits where it is told to
    keeps_state = True

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row, if its key is new."""
        key = "key", item["n"] % 400
        if key in ctx.state:
            return None
        ctx.state["keys"] = ctx.state.get("keys", 0) + 1
        ctx.state[key] = item["_i"]
        nap(0.002)
        return {"key": key[1], "nth": ctx.state["keys"]}


class Last(BaseOperator):
    """Passes rows on; gives all keys at the end, the largest first, and forgets them."""

    keeps_state = True

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Remember the key."""
        ctx.state["key", -item["key"]] = item["nth"]
        return item

    def finish(self, ctx: INodeContext) -> Iterator[Any]:
        """Yield the keys."""
        for key, nth in ctx.state.items("key"):
            assert isinstance(key, tuple)
            del ctx.state[key]
            yield {"last": -int(key[1]), "nth": nth}
            time.sleep(0.002)


class Slowly(BaseOperator):
    """Passes rows on, after a while."""

    version = "1"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        """Return the row."""
        nap(0.001)
        return item


LAST: dict[str, Any] = {
    "group": ops.GroupBy("part"),
    "shuffle": ops.Shuffle(seed=1),
    "best": ops.Best(2, by="n", of="part"),
    "sample": ops.Sample(n=100),
}


def steps(last: str | None) -> list[Any]:
    """Return the operators of a job."""
    if last is None:
        return [First(), Last()]
    return [ops.Dedupe("key"), Slowly(), ops.Split({"a": 0.7, "b": 0.3}, column="part"), LAST[last]]


def main() -> None:
    """Do the job."""
    job = json.loads(sys.argv[1])
    LEFT[0] = job.get("hold", math.inf)
    store.APPLY_BYTES, store.SHORTEN_BYTES = job["size"], 4 * job["size"]
    folder = Path(job["folder"])
    pipeline = UnifiedPipeline(
        steps(job.get("last")),
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
