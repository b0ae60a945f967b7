"""Whole runs, with operators that raise, and stops, failures and cancels at random moments, over tiny mailboxes.

Each run ends soon, leaves nothing behind, and seals nothing that is not finished; and a resume completes it with
exactly the right rows (M7, M21, F1, F2, S2, R2). `DATAGEN_RUNS` sets how many runs there are (default 60); a failure
says its seed, and `DATAGEN_SEED` runs that one alone.
"""

from __future__ import annotations

import asyncio
import contextlib
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

from llm_datagen import (
    BaseOperator,
    DefaultPipelineHooks,
    MemoryStream,
    StreamFactory,
    UnifiedNode,
    UnifiedNodePipeline,
    UnifiedPipeline,
)
from llm_datagen.errors import ConfigError, DatagenError, NodeFailedError
from llm_datagen.executors import event_loop
from llm_datagen.messages import Cancel, Pause, Reconfigure, Subscribe, Unpause
from llm_datagen.pipeline.base import BasePipeline
from llm_datagen.runs.run_report import RunReport
from llm_datagen.runs.status import Status
from llm_datagen.streams.commit_log import CommitLog
from llm_datagen.streams.dead_letters import read_dead_letters

from ..kit.actors import DiskFullError
from ..kit.support import bag, eventually, nothing_left, stored, write_jsonl

pytestmark = [pytest.mark.usefixtures("restless"), pytest.mark.timeout(300)]

RUNS = int(os.environ.get("DATAGEN_RUNS", "60"))
SEEDS = [int(os.environ["DATAGEN_SEED"])] if "DATAGEN_SEED" in os.environ else list(range(RUNS))
CHUNKS = 10
BY_DEFAULT = 1
"""How many of them are part of the default suite; the others are `slow`."""
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


class PoisonError(ValueError):
    """A row that fails whenever it is tried."""


def poisoned(model: Model) -> Model:
    """Return a model that fails at some rows."""

    def act(item: Row) -> Any:
        if item["v"] % 7 == 5:
            raise PoisonError(f"row {item['_i']} is bad")
        return model(item)

    return act


def expected(
    rows: list[Row], models: list[Model], parents: list[int]
) -> tuple[list[list[Row]], list[list[dict[str, Any]]]]:
    """Return what each node's stream must hold, in input order, and which rows fail in it.

    `parents` says which stream each node reads (-1: the input).
    """
    streams: list[list[Row]] = []
    failed: list[list[dict[str, Any]]] = []
    for model, parent in zip(models, parents, strict=True):
        before = [{**row, "_i": number} for number, row in enumerate(rows)] if parent < 0 else streams[parent]
        after: list[Row] = []
        failed.append([])
        for row in before:
            try:
                result = model(dict(row))
            except PoisonError:
                failed[-1].append({"_i": row["_i"], "v": row["v"]})
                continue
            if isinstance(result, list):
                after += [{**child, "_i": f"{row['_i']}_{k}"} for k, child in enumerate(result) if child is not None]
            elif result is not None:
                after.append({**result, "_i": row["_i"]})
        streams.append(after)
    return streams, failed


# --- what goes wrong -----------------------------------------------------------------------------------------------


QUIET = ["nothing", "cancel", "tell cancel", "stick"]
CAUSES: dict[str, type[BaseException]] = {"raise": ValueError, "exit": SystemExit, "fill disk": DiskFullError}
RAISING = {"raise", "exit"}
BAD_THINGS = [*QUIET, *CAUSES, "stop one", "stop one", "stop some", "stop all", "be rude", "twice"]


class Rude:
    """A subscriber that cannot be told anything."""

    def tell(self, message: Any) -> None:
        raise SystemExit(message)


class Chaos:
    """Does one bad thing, when the operators have been called often enough."""

    def __init__(self, rng: random.Random, calls: int, *, may_raise: bool) -> None:
        self._rng = rng
        self._lock = threading.Lock()
        self._left = rng.randint(0, max(1, calls))
        self.what = rng.choice(BAD_THINGS if may_raise else [what for what in BAD_THINGS if what not in RAISING])
        self.is_disk_full = False
        self.let_go = threading.Event()
        self.pipeline: BasePipeline
        self.ref: pykka.ActorRef[Any]

    def at_start(self) -> None:
        """The run has just begun."""
        if self._left == 0 and self.what not in {*RAISING, "stick"}:
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
            case "stick":  # a call that does not come back, until long after it was given up
                self.pipeline.cancel("chaos")
                self.let_go.wait(END_SECONDS)
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
                self._tell(self._someone(), self._rng.choice([Cancel("rude"), {"row": 1}, Subscribe(Rude())]))
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


@contextlib.contextmanager
def controlled(ref: pykka.ActorRef[Any], seed: int, nodes: int) -> Iterator[None]:
    """Have somebody pause, unpause and reconfigure a run, in random order; in the end it is not paused."""
    rng = random.Random(seed)
    commands: list[Any] = []
    for _ in range(rng.choice([0, 0, 5, 20])):
        node_id = f"node_{rng.randrange(nodes)}"
        commands.append(
            rng.choice(
                [
                    Pause(),
                    Pause(),
                    Unpause(),
                    Reconfigure(node_id, parallel_size=rng.randint(1, 5)),
                    Reconfigure(node_id, batch_size=rng.randint(1, 5)),
                ]
            )
        )

    def control() -> None:
        with contextlib.suppress(pykka.ActorDeadError):
            for command in [*commands, Unpause()]:
                if rng.random() < 0.5:
                    ref.tell(command)
                else:
                    with contextlib.suppress(ConfigError):
                        ref.ask(command, timeout=END_SECONDS)
                time.sleep(rng.choice([0.0, 0.001, 0.01]))

    thread = threading.Thread(target=control)
    thread.start()
    yield
    thread.join()


class Calm:
    """Does nothing bad."""

    def on_call(self) -> None:
        """Do nothing."""


class Worker:
    """What the operators of a run share: how they dawdle, and when they are struck."""

    version: str | None = "struck or not"  # the one that is resumed is calm

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


class Noisy(DefaultPipelineHooks):
    """Hooks that fail now and then."""

    def on_node_progress(self, *_: Any) -> None:
        raise ValueError("noise")

    def on_node_start(self, *_: Any) -> None:
        raise SystemExit("noise")


class RandomRun:
    """One random run, struck once or more often, and resumed until it is done.

    Args:
        seed: decides everything but the timing.
        folder: an empty folder.
    """

    def __init__(self, seed: int, folder: Path) -> None:
        rng = self.rng = random.Random(seed)
        self.folder = folder
        self.rows = [{"v": rng.randint(0, 50)} for _ in range(rng.choice([0, 1, 5, 30, 60]))]
        models = [rng.choice(MODELS) for _ in range(rng.randint(1, 4))]
        self.is_tree = rng.random() < 0.3
        self.parents = [rng.randint(-1, k - 1) if self.is_tree else k - 1 for k in range(len(models))]
        self.on_error = rng.choice(["fail", "fail", "skip", "dead_letter"])
        if self.on_error != "fail":
            models = [poisoned(model) for model in models]
        self.expected, self.failed = expected(self.rows, models, self.parents)
        self.operators = [rng.choice(KINDS)(rng, model, f"op{k}") for k, model in enumerate(models)]
        self.strikes = rng.choice([1, 1, 2, 4])
        self.chaos: Chaos
        self.ordered = rng.random() < 0.3
        scheme = rng.choice(["jsonl", "jsonl", "memory"])
        between = rng.choice(["jsonl", "memory"])
        self.uris = [f"{between}://{folder}/{k}" for k in range(len(models) - 1)] + [f"{scheme}://{folder}/out"]
        self.input = f"{scheme}://{folder}/in"
        if scheme == "memory":
            MemoryStream(self.input, self.rows)
        else:
            write_jsonl(folder / "in", self.rows)
        self.each: dict[str, Any] = {
            "parallel_size": rng.randint(1, 4),
            "batch_size": rng.randint(1, 4),
            "ordered": self.ordered,
            "on_error": self.on_error,
            "grace": 0.02,
            "retries": rng.choice([0, 0, 2]) if self.on_error != "fail" else 0,
            "retry_wait": 1e-4,
            "writer_config": {
                "async_mode": rng.random() < 0.6,
                "queue_size": rng.randint(1, 5),
                "flush_batch_size": rng.randint(1, 5),
                "flush_interval": rng.choice([0.001, 1.0]),
                "retry_interval": 0.01,
                "fsync": "never",
            },
        }
        self.all: dict[str, Any] = {
            "streaming": rng.random() < 0.6,
            "results_dir": folder / "results",
            "log_file": folder / "platform.log",
            "hooks": Noisy() if rng.random() < 0.2 else None,
        }

    def pipeline(self) -> BasePipeline:
        """Return a pipeline, as a program makes it that is started anew."""
        if not self.is_tree:
            return UnifiedPipeline(self.operators, self.input, self.uris[-1], **self.each, **self.all)
        nodes = []
        for k, parent in enumerate(self.parents):
            source = self.input if parent < 0 else self.uris[parent]
            node = UnifiedNode(f"node_{k}", **self.each, follow_input=parent >= 0)
            nodes.append(node.bind_io(source, self.uris[k]).set_operator(self.operators[k]))
        return UnifiedNodePipeline(nodes, **self.all)

    def create(self) -> BasePipeline:
        """Return the pipeline, created."""
        pipeline = self.pipeline()
        if isinstance(pipeline, UnifiedPipeline):
            return pipeline.create("p", node_configs=[{"output_uri": uri} for uri in self.uris])
        assert isinstance(pipeline, UnifiedNodePipeline)
        return pipeline.create("p")

    def run(self) -> None:
        """Run, be struck, and resume, until it is done."""
        pipeline = self.create()
        for _ in range(self.strikes):
            self.struck_run(pipeline)
            pipeline = self.pipeline().resume("p")
        self.calm_run(pipeline)

    def struck_run(self, pipeline: BasePipeline) -> None:
        """Run, and be struck: it ends soon, leaves nothing, and seals nothing that is not finished."""
        calls = 1 + sum(map(len, self.expected))
        self.chaos = Chaos(self.rng, calls, may_raise=self.on_error == "fail")
        self.chaos.pipeline = pipeline
        for operator in self.operators:
            operator.chaos = self.chaos
        with nothing_left(), pytest.MonkeyPatch.context() as patch:
            self.fill_disks(patch)
            self.chaos.ref = pipeline.start()
            self.chaos.at_start()
            with controlled(self.chaos.ref, self.rng.randrange(10**6), len(self.operators)):
                report = self.outcome(pipeline)
            self.chaos.let_go.set()
            eventually(lambda: not any(thread.name.startswith("datagen-") for thread in threading.enumerate()))
        self.check_seals(pipeline)
        if report is not None:
            is_complete = all(node.output.is_sealed() for node in pipeline.nodes)
            assert report.status in {Status.COMPLETED, Status.CANCELED}
            assert (report.status is Status.COMPLETED) == is_complete

    def calm_run(self, pipeline: BasePipeline) -> None:
        """Run to the end, and check that exactly the right rows are there."""
        for operator in self.operators:
            operator.chaos = Calm()
        with nothing_left(), controlled(pipeline.start(), self.rng.randrange(10**6), len(self.operators)):
            report = self.outcome(pipeline)
        assert report is not None
        assert report.status is Status.COMPLETED
        self.check_seals(pipeline)
        for node, progress in zip(pipeline.nodes, report.nodes, strict=True):
            assert node.output.is_sealed()
            failed = self.failed[int(node.node_id.removeprefix("node_"))]
            assert progress.rows_out == len(self.rows_of(node))
            assert progress.skipped == (len(failed) if self.on_error == "skip" else 0)
            assert progress.dead_letters == (len(failed) if self.on_error == "dead_letter" else 0)
            dead_letters = [
                {"_i": dead_letter["_i"], "v": dead_letter["input"]["v"]}
                for dead_letter in read_dead_letters(node.output)
            ]
            assert bag(dead_letters) == bag(failed if self.on_error == "dead_letter" else [])
            if self.ordered:
                assert stored(node.output.uri) == self.rows_of(node)

    def rows_of(self, node: UnifiedNode) -> list[Row]:
        """Return what a node's stream must hold."""
        return self.expected[int(node.node_id.removeprefix("node_"))]

    def fill_disks(self, patch: pytest.MonkeyPatch) -> None:
        """Let no commit reach the disk when it is full; the data before it does."""
        append = CommitLog.append

        def append_if_there_is_room(log: CommitLog, *args: Any) -> None:
            if self.chaos.is_disk_full:
                raise DiskFullError("no space left on the device")
            append(log, *args)

        patch.setattr(CommitLog, "append", append_if_there_is_room)
        patch.setattr(event_loop, "GIVE_UP_SECONDS", 0.02)

    def outcome(self, pipeline: BasePipeline) -> RunReport | None:
        """Wait for the end; return the report, or None when the run has failed."""
        try:
            report = pipeline.wait(END_SECONDS)
        except NodeFailedError as error:
            self.check_cause(error.__cause__)
            return None
        except TimeoutError:
            faulthandler.dump_traceback(all_threads=True)
            raise AssertionError(f"the run has not ended; it was struck by {self.chaos.what!r}") from None
        return report

    def check_cause(self, cause: BaseException | None) -> None:
        """What the run failed of is what has struck it, not what followed from that (F1)."""
        assert self.chaos.what not in QUIET
        assert isinstance(cause, CAUSES.get(self.chaos.what, DatagenError))

    def check_seals(self, pipeline: BasePipeline) -> None:
        """What is sealed is finished: it holds all that it must, and nothing else (S2)."""
        for node in pipeline.nodes:
            if node.output.is_sealed():
                assert bag(stored(node.output.uri)) == bag(self.rows_of(node))

    def delete(self) -> None:
        """Forget what lies in memory."""
        for uri in (self.input, *self.uris):
            StreamFactory.create(uri).delete()


@pytest.fixture
def folders(tmp_path: Path) -> Iterator[Path]:
    """Where each run has its own folder."""
    return iter(tmp_path / str(number) for number in range(10**6))


@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(SEEDS[chunk::CHUNKS], marks=() if chunk < BY_DEFAULT else pytest.mark.slow)
        for chunk in range(min(CHUNKS, len(SEEDS)))
    ],
)
def test_a_run_that_is_struck_ends_leaves_nothing_and_can_be_resumed(seeds: list[int], folders: Iterator[Path]) -> None:
    """M7, M21, F1, F2, S2, R2: whatever strikes it, and whenever."""
    for seed in seeds:
        folder = next(folders)
        folder.mkdir()
        run = RandomRun(seed, folder)
        try:
            run.run()
        except BaseException as error:
            error.add_note(f"DATAGEN_SEED={seed}: {vars(run)}")
            raise
        finally:
            run.delete()
