"""The engine's side: pipelines with default settings, all that makes them durable included."""

from __future__ import annotations

import inspect
import threading
import time
from pathlib import Path
from typing import Any

import llm_datagen
from llm_datagen import UnifiedPipeline

from .job import Job, UnsupportedError
from .operators import BEGUN, ENDED, OPERATORS

PIPELINE = "bench"


def _pipeline(job: Job, operators: list[Any] | None = None) -> UnifiedPipeline:
    known = inspect.signature(UnifiedPipeline).parameters
    for name, value in job.settings.items():
        if name not in known:
            raise UnsupportedError(f"this revision of the engine has no setting {name}={value!r}")
    folder = Path(job.folder)
    protocol = job.output.suffix[1:]
    return UnifiedPipeline(
        operators or [_engine(name) for name in job.operators],
        f"{protocol}://{job.input}",
        f"{protocol}://{job.output}",
        base_path=folder / "between",
        results_dir=folder / "results",
        log_file=folder / "platform.log",
        **job.settings,
    )


def _engine(name: str) -> Any:
    if name == "dedupe":
        try:
            from llm_datagen import ops
        except ImportError:
            raise UnsupportedError("this revision of the engine has no ops") from None
        return ops.Dedupe("text")
    return OPERATORS[name].engine


def run(job: Job) -> dict[str, Any]:
    """Run a pipeline.

    Returns:
        `seconds`, the rows, and for operators that note their calls the `window`: from the first to the last of them.
    """
    BEGUN.clear()
    ENDED.clear()
    began = time.perf_counter()
    report = _pipeline(job).create(PIPELINE).run()
    seconds = time.perf_counter() - began
    result = {"seconds": seconds, "rows": report.rows_out, "source": llm_datagen.__file__}
    if BEGUN:
        result["window"] = max(ENDED) - min(BEGUN)
    return result


class _Until:
    """Returns rows as they are, and cancels its pipeline at one of them."""

    name, version = "until", "1"

    def __init__(self, row: int) -> None:
        self._row = row
        self.pipeline: UnifiedPipeline | None = None
        self.first_call: float | None = None

    def process_item(self, item: Any, ctx: Any) -> Any:
        """Return the row."""
        if self.first_call is None:
            self.first_call = time.perf_counter()
        if item["n"] == self._row:
            assert self.pipeline is not None
            self.pipeline.cancel()
            while not ctx.is_cancelled():
                time.sleep(0.001)
        return item


def begin(job: Job) -> dict[str, Any]:
    """Run a pipeline until row `stop_at`, where it is cancelled: what is done is committed, nothing is sealed."""
    operator = _Until(job.stop_at)
    operator.pipeline = _pipeline(job, [operator])
    report = operator.pipeline.create(PIPELINE).run()
    return {"seconds": report.seconds, "rows": report.rows_out, "source": llm_datagen.__file__}


def resume(job: Job) -> dict[str, Any]:
    """Resume what `begin` began, and run it to its end.

    Returns:
        `seconds` until the first new row is on disk and committed; `first_call`: until the operator is called;
        `all_seconds`: until `run()` returns. If nothing was left to do, all three are the same.
    """
    operator = _Until(-1)
    commits = Path(f"{job.output}.commits")
    size, log = _size(job.output), _size(commits)
    committed: list[float] = []
    is_over = threading.Event()

    def watch() -> None:
        while not is_over.is_set():
            if _size(job.output) > size and _size(commits) != log:
                committed.append(time.perf_counter())
                return
            time.sleep(0.0005)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    report = _pipeline(job, [operator]).resume(PIPELINE).run()
    seconds = time.perf_counter() - began
    is_over.set()
    watcher.join()
    assert operator.first_call is not None or job.stop_at < 0, "nothing was left to do"
    return {
        "seconds": committed[0] - began if committed else seconds,
        "first_call": operator.first_call - began if operator.first_call is not None else seconds,
        "all_seconds": seconds,
        "rows": report.rows_out,
        "source": llm_datagen.__file__,
    }


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
