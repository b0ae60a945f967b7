"""A pipeline to be killed: ``job.py '{…}'`` does a job, and ends.

The job is a JSON object: `folder` (with `in.jsonl`), `resume`, the pipeline's settings, and what the operators do.
What it says is appended to `folder/said`; the operators count their calls in `folder/calls`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from llm_datagen import BaseOperator, INodeContext, JsonlStream, UnifiedNode, UnifiedNodePipeline, UnifiedPipeline
from llm_datagen.messages import Pause
from llm_datagen.streams.storage.local import LocalStorage


class Work(BaseOperator):
    """Counts its calls durably, naps, and makes `n % 3` children of a row."""

    name = "work"
    version = "1"  # jobs nap and hang where they are told to

    def __init__(self, job: dict[str, Any], node: int) -> None:
        self.node = node
        self.nap = job.get("nap", 0.0)
        self.hang_at = job.get("hang_at", -1)
        self.path = str(Path(job["folder"], "calls"))
        self.calls = -1
        self.chance = random.Random(job.get("seed", 0))

    def note(self, item: Any) -> None:
        if self.calls < 0:  # not before: it may be sent to another process first
            self.calls = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.write(self.calls, f"{self.node}:{item['_i']}\n".encode())

    def seconds(self, item: Any) -> float:
        return 3600.0 if int(item["n"]) == self.hang_at else self.nap * 2 * self.chance.random()

    def made_of(self, item: Any) -> Any:
        n = int(item["n"])
        if self.node == 0:
            return {"n": n, "text": f'row {n}, with "quotes"\nand a line'}
        return [{"n": n, "k": k, "text": item["text"]} for k in range(n % 3)]


class ItemWork(Work):
    name = "work"

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.note(item)
        time.sleep(self.seconds(item))
        return self.made_of(item)


class AsyncWork(Work):
    name = "work"

    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        self.note(item)
        await asyncio.sleep(self.seconds(item))
        return self.made_of(item)


class BatchWork(Work):
    name = "work"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        for item in items:
            self.note(item)
        time.sleep(sum(map(self.seconds, items)))
        return [self.made_of(item) for item in items]


def expected(rows: int) -> list[dict[str, Any]]:
    """Return what a job makes of so many numbered rows."""
    return [
        {"n": n, "k": k, "text": f'row {n}, with "quotes"\nand a line', "_i": f"{n}_{k}"}
        for n in range(rows)
        for k in range(n % 3)
    ]


class Dying:
    """Lets a process die, by `kill -9` of itself, in the middle of its nth change of the disk.

    Args:
        at: the number of the change that is not survived.
        torn: whether the half of it is done.
    """

    def __init__(self, at: int, torn: bool) -> None:
        self.at = at
        self.torn = torn
        self.changes = 0

    def change(self, half: Callable[[], Any] | None = None) -> None:
        self.changes += 1
        if self.changes == self.at:
            if self.torn and half is not None:
                half()
            os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        dying = self
        append, replace, remove = LocalStorage.open_append, LocalStorage.replace, LocalStorage.remove

        class File:
            def __init__(self, file: Any) -> None:
                self._file = file

            def append(self, data: bytes) -> None:
                dying.change(lambda: self._file.append(data[: len(data) // 2]))
                self._file.append(data)

            def truncate(self, length: int) -> None:
                dying.change()
                self._file.truncate(length)

            def __getattr__(self, name: str) -> Any:
                return getattr(self._file, name)

        def dying_append(storage: LocalStorage, path: str) -> Any:
            dying.change()
            return File(append(storage, path))

        def dying_replace(storage: LocalStorage, path: str, data: bytes, *, sync: bool) -> None:
            dying.change(lambda: Path(f"{path}.tmp").write_bytes(data[: len(data) // 2]))
            replace(storage, path, data, sync=sync)

        def dying_remove(storage: LocalStorage, path: str) -> None:
            dying.change()
            remove(storage, path)

        for name, method in (("open_append", dying_append), ("replace", dying_replace), ("remove", dying_remove)):
            setattr(LocalStorage, name, method)


def fan_of(job: dict[str, Any]) -> UnifiedNodePipeline:
    """Return nodes that are wired by hand: one stream, which two nodes read at once."""
    folder = job["folder"]
    JsonlStream(f"jsonl://{folder}/in.jsonl").seal()
    nodes = [UnifiedNode(name, 2, 2, writer_config={"fsync": "never", "queue_size": 20}) for name in ("a", "b", "c")]
    nodes[0].bind_io(f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/middle.jsonl").set_operator(ItemWork(job, 0))
    nodes[1].bind_io(f"jsonl://{folder}/middle.jsonl", f"jsonl://{folder}/out.jsonl").set_operator(ItemWork(job, 1))
    nodes[2].bind_io(f"jsonl://{folder}/middle.jsonl", f"jsonl://{folder}/third.jsonl").set_operator(AsyncWork(job, 2))
    return UnifiedNodePipeline(
        nodes,
        streaming=job.get("streaming", True),
        results_dir=f"{folder}/results",
        log_file=f"{folder}/platform.log",
    )


def pipeline_of(job: dict[str, Any]) -> UnifiedPipeline | UnifiedNodePipeline:
    """Return the job's pipeline."""
    folder = job["folder"]
    if job.get("shape") == "fan":
        return fan_of(job)
    make = {"item": ItemWork, "async": AsyncWork, "batch": BatchWork}[job.get("kind", "item")]
    protocol = job.get("protocol", "jsonl")
    return UnifiedPipeline(
        [make(job, 0), make(job, 1)],
        f"jsonl://{folder}/in.jsonl",
        f"{protocol}://{folder}/out.{protocol}",
        streaming=job.get("streaming", True),
        parallel_size=job.get("parallel_size", 2),
        batch_size=job.get("batch_size", 2),
        writer_config={
            "async_mode": job.get("async_mode", True),
            "queue_size": job.get("queue_size", 20),
            "flush_batch_size": 10,
            "fsync": "never",
        },
        ordered=job.get("ordered", False),
        executor=job.get("executor", "auto"),
        base_path=f"{folder}/between",
        default_protocol=f"{protocol}://",
        results_dir=f"{folder}/results",
        log_file=f"{folder}/platform.log",
        keep_ids=job.get("keep_ids", True),
    )


def say(job: dict[str, Any], text: str) -> None:
    """Say something that outlives the process."""
    with Path(job["folder"], "said").open("a") as file:
        file.write(f"{text}\n")


def main(job: dict[str, Any]) -> None:
    """Do a job."""
    if "die" in job:
        Dying(**job["die"]).install()
    pipeline = pipeline_of(job)
    if job.get("resume"):
        pipeline.resume("job")
    else:
        pipeline.create("job", if_exists=job.get("if_exists", "error"))
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    if "pause_at" in job:
        run_until_paused(pipeline, job)
    try:
        report = pipeline.run()
        say(job, f"report {report.status}")
    finally:
        after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
        say(job, "handlers put back" if after == before else f"handlers are {after}")


def run_until_paused(pipeline: UnifiedPipeline | UnifiedNodePipeline, job: dict[str, Any]) -> None:
    """Run until so many calls were made; then pause, say so, and wait to be killed."""
    ref = pipeline.start()
    calls = Path(job["folder"], "calls")
    while len(calls.read_text().split()) < job["pause_at"]:
        time.sleep(0.002)
    ref.ask(Pause(), timeout=30)
    say(job, "paused")
    pipeline.wait()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
