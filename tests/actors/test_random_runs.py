"""Whole runs, with operators that raise, and stops, failures and cancels at random moments, over tiny mailboxes.

Each run ends soon, leaves nothing behind, and seals nothing that is not finished; and a resume completes it with
exactly the right rows (M7, M21, F1, F2, S2, R2). `DATAGEN_RUNS` sets how many runs there are (default 200); a failure
says its seed, and `DATAGEN_SEED` runs that one alone.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pykka
import pytest

from llm_datagen import BaseOperator, MemoryStream, StreamFactory, UnifiedPipeline
from llm_datagen.errors import DatagenError, NodeFailedError
from llm_datagen.messages import Cancel, Subscribe
from llm_datagen.report import RunReport, Status
from llm_datagen.streams.commits import CommitLog

from ..support import bag, nothing_left, stored, write_jsonl
from .helpers import DiskFullError

pytestmark = [pytest.mark.usefixtures("restless"), pytest.mark.timeout(300)]

RUNS = int(os.environ.get("DATAGEN_RUNS", "200"))
SEEDS = [int(os.environ["DATAGEN_SEED"])] if "DATAGEN_SEED" in os.environ else list(range(RUNS))
CHUNKS = 10
END_SECONDS = 30.0
"""A run that has not ended by then hangs. (They take hundredths of a second.)"""

Row = dict[str, Any]


# --- what operators do, as a plain function of one item ------------------------------------------------------------


def plus(item: Row) -> Any:
    return {**item, "v": item["v"] + 1}


def in_place(item: Row) -> Any:
    item["v"] += 1
    return item


def drop(item: Row) -> Any:
    return None if item["v"] % 3 == 0 else item


def split(item: Row) -> Any:
    return [
        None if (item["v"] + k) % 4 == 0 else {"v": item["v"] + k, "from": item["_i"]} for k in range(item["v"] % 4)
    ]


Model = Callable[[Row], Any]

MODELS: list[Model] = [plus, in_place, drop, split]


def expected(rows: list[Row], models: list[Model]) -> list[list[Row]]:
    """Return what each node's stream must hold, in input order."""
    streams, before = [], [{**row, "_i": number} for number, row in enumerate(rows)]
    for model in models:
        after: list[Row] = []
        for row in before:
            result = model(dict(row))
            if isinstance(result, list):
                after += [{**child, "_i": f"{row['_i']}_{k}"} for k, child in enumerate(result) if child is not None]
            elif result is not None:
                after.append({**result, "_i": row["_i"]})
        streams.append(after)
        before = after
    return streams


# --- what goes wrong -----------------------------------------------------------------------------------------------


QUIET = ["nothing", "cancel", "tell cancel"]
CAUSES: dict[str, type[BaseException]] = {"raise": ValueError, "exit": SystemExit, "fill disk": DiskFullError}
BAD_THINGS = [*QUIET, *CAUSES, "stop one", "stop one", "stop some", "stop all", "be rude", "twice"]


class Chaos:
    """Does one bad thing, when the operators have been called often enough."""

    def __init__(self, rng: random.Random, calls: int) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._left = rng.randint(0, max(1, calls))
        self.what = rng.choice(
            [
                "nothing",
                "raise",
                "exit",
                "cancel",
                "tell cancel",
                "stop one",
                "stop some",
                "stop all",
                "be rude",
                "twice",
            ]
        )
        self.is_disk_full = False
        self.pipeline: UnifiedPipeline
        self.ref: pykka.ActorRef[Any]

    def at_start(self) -> None:
        """The run has just begun."""
        if self._left == 0 and self.what not in {"raise", "exit"}:
            self.strike()

    def on_call(self) -> None:
        """An operator is called; it may be told to raise."""
        with self._lock:
            self._left -= 1
            is_time = self._left == 0
        if is_time:
            self.strike()

    def strike(self) -> None:
        """Do it."""
        match self.what:
            case "raise":
                raise ValueError("chaos")
            case "exit":
                raise SystemExit("chaos")
            case "fill disk":
                self.is_disk_full = True
            case "cancel":
                self.pipeline.cancel("chaos")
            case "tell cancel":
                self._tell(self.ref, Cancel("chaos"))
            case "stop one":
                self._stop(1)
            case "stop some":
                self._stop(3)
            case "stop all":
                pykka.ActorRegistry.stop_all(block=False)
            case "be rude":
                self._tell(self._someone(), self._rng.choice([Cancel("rude"), {"row": 1}, Subscribe(object())]))
            case "twice":
                self.pipeline.cancel("chaos")
                self._stop(1)
                self.pipeline.cancel("chaos")

    def _someone(self) -> pykka.ActorRef[Any] | None:
        everyone = sorted(pykka.ActorRegistry.get_all(), key=lambda ref: ref.actor_class.__name__)
        return self._rng.choice(everyone) if everyone else None

    def _stop(self, count: int) -> None:
        for _ in range(count):
            ref = self._someone()
            if ref is not None:
                ref.stop(block=False)

    @staticmethod
    def _tell(ref: pykka.ActorRef[Any] | None, message: Any) -> None:
        try:
            if ref is not None:
                ref.tell(message)
        except pykka.ActorDeadError:
            pass


class Calm:
    """Does nothing bad."""

    def on_call(self) -> None:
        """Do nothing."""


class Worker:
    """What the operators of a run share: how they dawdle, and when they are struck."""

    def __init__(self, rng: random.Random, model: Model, name: str) -> None:
        self.name = name
        self.chaos: Chaos | Calm = Calm()
        self._rng = rng
        self._model = model
        self._slow = rng.choice([0.0, 0.0, 1e-4, 1e-3])

    def nap(self) -> float:
        """How long a call takes."""
        return self._slow * self._rng.random()

    def one(self, item: Row) -> Any:
        """Process an item."""
        self.chaos.on_call()
        return self._model(item)


class Items(Worker, BaseOperator):
    def process_item(self, item: Any, ctx: Any) -> Any:
        time.sleep(self.nap())
        return self.one(item)


class Generated(Worker, BaseOperator):
    def process_item(self, item: Any, ctx: Any) -> Any:
        result = self.one(item)
        return (child for child in result) if isinstance(result, list) else result


class Batches(Worker, BaseOperator):
    def process_batch(self, items: Any, ctx: Any) -> Any:
        time.sleep(self.nap())
        return [self.one(item) for item in items]


class AsyncItems(Worker, BaseOperator):
    async def process_item(self, item: Any, ctx: Any) -> Any:
        await asyncio.sleep(self.nap())
        return self.one(item)


class AsyncBatches(Worker, BaseOperator):
    async def process_batch(self, items: Any, ctx: Any) -> Any:
        await asyncio.sleep(self.nap())
        return [self.one(item) for item in items]


KINDS = [Items, Generated, Batches, AsyncItems, AsyncBatches]


# --- a run -----------------------------------------------------------------------------------------------------------


class Trial:
    """One random run and its resume.

    Args:
        seed: decides everything but the timing.
        folder: an empty folder.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        rng = self.rng = random.Random(seed)
        self.folder = folder
        self.rows = [{"v": rng.randint(0, 50)} for _ in range(rng.choice([0, 1, 5, 30, 60]))]
        models = [rng.choice(MODELS) for _ in range(rng.randint(1, 3))]
        self.expected = expected(self.rows, models)
        self.operators = [rng.choice(KINDS)(rng, model, f"op{k}") for k, model in enumerate(models)]
        self.ordered = rng.random() < 0.3
        self.chaos = Chaos(rng, 1 + sum(map(len, self.expected)))
        scheme = rng.choice(["jsonl", "jsonl", "memory"])
        self.input, self.output = f"{scheme}://{folder}/in", f"{scheme}://{folder}/out"
        if scheme == "memory":
            MemoryStream(self.input, self.rows)
        else:
            write_jsonl(folder / "in", self.rows)
        self.settings: dict[str, Any] = {
            "streaming": rng.random() < 0.6,
            "parallel_size": rng.randint(1, 4),
            "batch_size": rng.randint(1, 4),
            "ordered": self.ordered,
            "writer_config": {
                "async_mode": rng.random() < 0.6,
                "queue_size": rng.randint(1, 5),
                "flush_batch_size": rng.randint(1, 5),
                "flush_interval": rng.choice([0.001, 1.0]),
                "retry_interval": 0.01,
                "fsync": "never",
            },
            "base_path": folder / "between",
            "default_protocol": rng.choice(["jsonl://", "memory://"]),
            "results_dir": folder / "results",
            "log_file": folder / "platform.log",
        }

    def run(self) -> None:
        """Run, be struck, and resume until it is done."""
        pipeline = UnifiedPipeline(self.operators, self.input, self.output, **self.settings).create("p")
        self.chaos.pipeline = pipeline
        for operator in self.operators:
            operator.chaos = self.chaos
        with nothing_left():
            with pytest.MonkeyPatch.context() as patch:
                self.fill_disks(patch)
                self.chaos.ref = pipeline.start()
                self.chaos.at_start()
                report = self.outcome(pipeline)
        self.check_seals(pipeline)
        if report is not None:
            is_complete = all(node.output.is_sealed() for node in pipeline.nodes)
            assert report.status in {Status.COMPLETED, Status.CANCELED}
            assert (report.status is Status.COMPLETED) == is_complete
        self.resume()

    def fill_disks(self, patch: pytest.MonkeyPatch) -> None:
        """Let no commit reach the disk when it is full; the data before it does."""
        append = CommitLog.append

        def append_if_there_is_room(log: CommitLog, *args: Any) -> None:
            if self.chaos.is_disk_full:
                raise DiskFullError("no space left on the device")
            append(log, *args)

        patch.setattr(CommitLog, "append", append_if_there_is_room)

    def resume(self) -> None:
        """Resume, and see to it that exactly the right rows are there."""
        for operator in self.operators:
            operator.chaos = Calm()
        pipeline = UnifiedPipeline(self.operators, self.input, self.output, **self.settings).resume("p")
        with nothing_left():
            pipeline.start()
            report = self.outcome(pipeline)
        assert report is not None
        assert report.status is Status.COMPLETED
        for node, rows, progress in zip(pipeline.nodes, self.expected, report.nodes, strict=True):
            found = stored(node.output.uri)
            assert bag(found) == bag(rows)
            assert progress.rows_out == len(rows)
        if self.ordered:
            assert stored(self.output) == self.expected[-1]

    def outcome(self, pipeline: UnifiedPipeline) -> RunReport | None:
        """Wait for the end; return the report, or None when the run has failed."""
        try:
            report = pipeline.wait(END_SECONDS)
        except NodeFailedError as error:
            assert self.chaos.what not in QUIET
            assert isinstance(error.__cause__, CAUSES.get(self.chaos.what, DatagenError | TypeError))  # F1
            return None
        if report is None:
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError(f"the run has not ended within {END_SECONDS} s; it was struck by {self.chaos.what!r}")
        return report

    def check_seals(self, pipeline: UnifiedPipeline) -> None:
        """What is sealed is finished: it holds all that it must, and nothing else (S2)."""
        for node, rows in zip(pipeline.nodes, self.expected, strict=True):
            if node.output.is_sealed():
                assert bag(stored(node.output.uri)) == bag(rows)
                assert not node.output.disk.size(node.output.commits_path)

    def delete(self) -> None:
        """Forget what lies in memory."""
        for uri in (self.input, self.output):
            StreamFactory.create(uri).delete()
        for number in range(3):
            MemoryStream(f"memory://{self.folder}/between/p/node_{number}.mem").delete()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """Where each run has its own folder."""
    return iter(tmp_path / str(number) for number in range(10**6))


@pytest.mark.parametrize("seeds", [SEEDS[chunk::CHUNKS] for chunk in range(min(CHUNKS, len(SEEDS)))])
def test_a_run_that_is_struck_ends_leaves_nothing_and_can_be_resumed(seeds: list[int], folders: Iterator[Path]) -> None:
    """M7, M21, F1, F2, S2, R2: whatever strikes it, and whenever."""
    for seed in seeds:
        folder = next(folders)
        folder.mkdir()
        trial = Trial(seed, folder)
        try:
            trial.run()
        except BaseException as error:
            error.add_note(f"DATAGEN_SEED={seed}: struck by {trial.chaos.what!r}, settings {trial.settings}")
            raise
        finally:
            trial.delete()
