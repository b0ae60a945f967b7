"""An operator that lets an exception out: the run fails, says of what, saves all that is done, and can be resumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pykka
import pytest

from llm_datagen import BaseOperator, DefaultPipelineHooks, INodeContext, NodeFailedError, Status
from llm_datagen.streams.storage.local import LocalStorage

from ..kit.support import PATIENCE_SECONDS, Bench, Calls, bag, lines, numbered, pairwise

ROWS = 200
BAD = 50


class Trouble(Exception):
    """What the operators of these tests raise."""


class Recorder(DefaultPipelineHooks):
    """Hooks that remember what they were told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def on_pipeline_end(self, cid: str, success: bool, error: BaseException | None) -> None:
        self.told.append(("pipeline_end", cid, success, error))

    def on_node_end(self, cid: str, nid: str, success: bool, error: BaseException | None) -> None:
        self.told.append(("node_end", nid, success, error))

    def on_node_finish(self, cid: str, nid: str) -> None:
        self.told.append(("node_finish", nid))

    def on_node_error(self, cid: str, nid: str, error: BaseException, items: list[Any]) -> None:
        self.told.append(("node_error", nid, error, items))

    def on_node_progress(self, cid: str, nid: str, curr: int, total: int | None, meta: Mapping[str, Any]) -> None:
        pass

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [entry[1:] for entry in self.told if entry[0] == kind]


def through(item: Any) -> Any:
    return {"n": int(item["n"]), "seen": True}


class Item(BaseOperator):
    """Raises `trouble` at row `BAD`, if there is any; counts its calls."""

    name = "work"

    def __init__(self, calls: Calls, trouble: BaseException | None) -> None:
        self.calls = calls
        self.trouble = trouble

    def do(self, item: Any) -> Any:
        self.calls.note(item["_i"])
        if int(item["n"]) == BAD and self.trouble is not None:
            raise self.trouble
        return [through(item)] * (int(item["n"]) % 3)

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return self.do(item)


class AsyncItem(Item):
    name = "work"

    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return self.do(item)


class Batch(Item):
    name = "work"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [self.do(item) for item in items]


class AsyncBatch(Item):
    name = "work"

    async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        return [self.do(item) for item in items]


KINDS: dict[str, Callable[[Calls, BaseException | None], Item]] = {
    "item": Item,
    "async item": AsyncItem,
    "batch": Batch,
    "async batch": AsyncBatch,
}
EXPECTED = [{**through({"n": n}), "_i": f"{n}_{k}"} for n in range(ROWS) for k in range(n % 3)]


def copier() -> Callable[[Any], Any]:
    def copy(item: Any) -> Any:
        return item

    return copy


def operators(bad: Item, node: int) -> list[Any]:
    """Return two operators, of which the one at `node` is `bad`."""
    return [bad, copier()] if node == 0 else [copier(), bad]


def settings(streaming: bool, async_mode: bool, parallel_size: int, ordered: bool) -> dict[str, Any]:
    return {
        "streaming": streaming,
        "parallel_size": parallel_size,
        "batch_size": 5,
        "ordered": ordered,
        "writer_config": {"async_mode": async_mode, "queue_size": 40, "flush_batch_size": 10},
    }


@pytest.mark.sampled(4)
@pytest.mark.parametrize(
    ("kind", "node", "streaming", "async_mode", "parallel_size", "ordered"),
    [
        (*case, 1, True) if ordered else (*case, 4, False)
        for *case, ordered in pairwise(list(KINDS), [0, 1], [True, False], [True, False], [True, False])
    ],
)
def test_an_operator_that_raises_fails_the_run_and_a_resume_mends_it(
    bench: Bench, kind: str, streaming: bool, async_mode: bool, parallel_size: int, ordered: bool, node: int
) -> None:
    """M5, M6, M24, F1, R2, S2: the exception is the cause; what is done is saved; the resume gives the same rows."""
    bench.give(numbered(ROWS))
    calls = Calls(bench.folder / "calls")
    hooks = Recorder()
    trouble = Trouble("row 50")
    mode = settings(streaming, async_mode, parallel_size, ordered)
    pipeline = bench.pipeline(operators(KINDS[kind](calls, trouble), node), hooks=hooks, **mode).create("a")
    with pytest.raises(NodeFailedError, match=f"node_{node} failed: Trouble: row 50") as caught:
        pipeline.run()

    assert caught.value.__cause__ is trouble
    assert caught.value.node_id == f"node_{node}"
    run_state = bench.run_state("a")
    assert run_state["status"] == "failed" == pipeline.status
    assert "Trouble: row 50" in run_state["error"]
    first_is_done = node == 1 and bench.between("a").with_name("node_0.jsonl.done").exists()
    other = {("completed" if first_is_done else "canceled")} if node == 1 else {"canceled", "pending"}
    assert run_state["nodes"][node]["status"] == "failed"
    assert run_state["nodes"][1 - node]["status"] in other
    assert streaming or node == 0 or first_is_done
    assert not bench.is_sealed()
    assert node == 1 or not Path(f"{bench.between('a')}.done").exists()

    (error,) = hooks.of("node_error")
    assert error[:2] == (f"node_{node}", trouble)
    assert BAD in [int(item["n"]) for item in error[2]]
    assert hooks.of("pipeline_end") == [("a", False, trouble)]
    assert (f"node_{node}", False, trouble) in hooks.of("node_end")
    assert (f"node_{node}",) not in hooks.of("node_finish")

    mended = bench.pipeline(operators(KINDS[kind](calls, None), node)).resume("a")
    assert mended.status == Status.RESUMING
    report = mended.run()
    assert report.status == Status.COMPLETED
    found = lines(bench.output)
    assert bag(found) == bag(EXPECTED)
    if ordered:
        assert found == EXPECTED
    # R2: again only what was in flight: a task of each worker, and what the writer had not committed.
    again = sum(calls.all().values()) - ROWS
    assert 1 <= again <= 4 * 5 * 10 + 40


@pytest.mark.sampled(4)
@pytest.mark.parametrize("async_mode", [True, False])
@pytest.mark.parametrize("kind", KINDS)
def test_calls_that_were_begun_are_saved_when_another_fails(bench: Bench, kind: str, async_mode: bool) -> None:
    """M24 (14.1 of the manual): tasks that were handed out end, and what they give is on disk; nothing new begins."""
    bench.give(numbered(40))
    others_in = threading.Barrier(4, timeout=PATIENCE_SECONDS)
    failed = threading.Event()
    done: list[int] = []

    def work(item: Any) -> Any:
        if item["n"] < 4:
            others_in.wait()
            if item["n"] == 1:
                failed.set()
                raise Trouble
            failed.wait(PATIENCE_SECONDS)
        done.append(item["n"])
        return item

    class Batches(BaseOperator):
        name = "work"

        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            return [work(item) for item in items]

    operator = Batches() if "batch" in kind else work
    pipeline = bench.pipeline([operator], parallel_size=4, writer_config={"async_mode": async_mode})
    with pytest.raises(NodeFailedError):
        pipeline.run()
    assert {0, 2, 3} <= {row["n"] for row in lines(bench.output)} == set(done)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("node", [0, 1])
@pytest.mark.parametrize("is_async", [True, False])
def test_a_setup_that_raises_fails_the_run_before_any_call(
    bench: Bench, streaming: bool, node: int, is_async: bool
) -> None:
    """M24: `setup()` is the operator's, and so is what it raises; `teardown()` is not called after it."""
    bench.give(numbered(20))
    trouble = Trouble("no model")
    called: list[str] = []

    class Sync(BaseOperator):
        name = "op"

        def setup(self) -> None:
            raise trouble

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            called.append("call")

        def teardown(self) -> None:
            called.append("teardown")

    class Async(BaseOperator):
        name = "op"

        async def setup(self) -> None:
            raise trouble

        async def process_item(self, item: Any, ctx: INodeContext) -> Any:
            called.append("call")

        async def teardown(self) -> None:
            called.append("teardown")

    class Fine(BaseOperator):
        name = "op"

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            return item

    def pair(bad: Any) -> list[Any]:
        return [bad, copier()] if node == 0 else [copier(), bad]

    hooks = Recorder()
    with pytest.raises(NodeFailedError, match="no model") as caught:
        bench.pipeline(pair(Async() if is_async else Sync()), streaming=streaming, hooks=hooks).create("a").run()
    assert caught.value.__cause__ is trouble
    assert not called
    assert bench.run_state("a")["status"] == "failed"
    assert hooks.of("pipeline_end") == [("a", False, trouble)]
    assert [entry[:2] for entry in hooks.of("node_error")] == [(f"node_{node}", trouble)]
    assert not bench.is_sealed()
    bench.pipeline(pair(Fine())).resume("a").run()
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(20))


def test_teardown_is_called_after_a_failure_and_its_own_failure_hides_nothing(bench: Bench) -> None:
    """F1: the first failure is the cause; what `teardown` raises after it is logged."""
    bench.give(numbered(20))
    trouble = Trouble("first")

    class Op(BaseOperator):
        torn_down = False

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            raise trouble

        def teardown(self) -> None:
            self.torn_down = True
            raise RuntimeError("second")

    op = Op()
    with pytest.raises(NodeFailedError) as caught:
        bench.pipeline([op]).run()
    assert caught.value.__cause__ is trouble
    assert op.torn_down
    assert "[Teardown Failed]" in [line["event"] for line in bench.log_lines()]


def test_a_teardown_that_raises_does_not_undo_a_run(bench: Bench) -> None:
    """S2: the rows are done and sealed; what `teardown` raises is logged."""
    bench.give(numbered(20))

    class Op(BaseOperator):
        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            return item

        def teardown(self) -> None:
            raise RuntimeError("second")

    assert bench.pipeline([Op()]).run().status == Status.COMPLETED
    assert bench.is_sealed()
    assert "[Teardown Failed]" in [line["event"] for line in bench.log_lines()]


class BadText(Exception):
    """An exception that cannot be printed."""

    def __str__(self) -> str:
        raise RuntimeError("and this one neither")


FATAL = [
    SystemExit(3),
    KeyboardInterrupt(),
    GeneratorExit(),
    MemoryError(),
    StopIteration(1),
    pykka.ActorDeadError("not ours"),
    ValueError("a file's name: \udcff"),
    OSError(28, "No space left"),
]


@pytest.mark.sampled(8)
@pytest.mark.parametrize("trouble", FATAL, ids=repr)
@pytest.mark.parametrize("is_async", [True, False])
def test_whatever_an_operator_raises_it_fails_the_run_and_nothing_hangs(
    bench: Bench, trouble: BaseException, is_async: bool
) -> None:
    """M24, H9: also what is no Exception ends the node, and only the node."""
    bench.give(numbered(100))

    def work(item: Any) -> Any:
        if item["n"] == 50:
            raise trouble
        return item

    async def awork(item: Any) -> Any:
        return work(item)

    pipeline = bench.pipeline([awork if is_async else work, copier()], streaming=True, parallel_size=3).create("a")
    with pytest.raises(NodeFailedError) as caught:
        pipeline.run()
    if isinstance(trouble, StopIteration) and is_async:  # which Python turns into a RuntimeError
        assert isinstance(caught.value.__cause__, RuntimeError)
    else:
        assert caught.value.__cause__ is trouble
    assert bench.run_state("a")["status"] == "failed"
    assert not bench.is_sealed()


@pytest.mark.parametrize("is_async", [True, False])
def test_an_exception_that_cannot_be_printed_fails_the_run(bench: Bench, is_async: bool) -> None:
    """M24: not even an exception whose `str()` raises may leave a run hanging."""
    bench.give(numbered(10))

    def work(item: Any) -> Any:
        raise BadText

    async def awork(item: Any) -> Any:
        raise BadText

    pipeline = bench.pipeline([awork if is_async else work]).create("a")
    pipeline.start()
    report = None
    with pytest.raises(NodeFailedError) as caught:
        report = pipeline.wait(PATIENCE_SECONDS)
    assert report is None
    assert isinstance(caught.value.__cause__, BadText)


def test_several_failures_at_once_are_one(bench: Bench) -> None:
    """F1: of eight calls that fail at the same time, the first is the cause, and the hooks hear of one error."""
    bench.give(numbered(100))
    barrier = threading.Barrier(8, timeout=PATIENCE_SECONDS)
    hooks = Recorder()

    def work(item: Any) -> Any:
        barrier.wait()
        raise Trouble(f"row {item['n']}")

    with pytest.raises(NodeFailedError) as caught:
        bench.pipeline([work], parallel_size=8, hooks=hooks).create("a").run()
    assert isinstance(caught.value.__cause__, Trouble)
    (error,) = hooks.of("node_error")
    assert error[1] is caught.value.__cause__
    assert str(caught.value.__cause__) in bench.run_state("a")["error"]


@pytest.mark.slow
def test_the_caller_can_fail_again_and_again_and_get_there_in_the_end(bench: Bench) -> None:
    """M6, R2: twenty runs, each of which fails at another row, and the same object resumes itself."""
    bench.give(numbered(100))
    failed: set[int] = set()

    def work(item: Any) -> Any:
        if item["n"] % 5 == 3 and item["n"] not in failed:
            failed.add(item["n"])
            raise Trouble
        return item

    pipeline = bench.pipeline([work, copier()], streaming=True, parallel_size=3).create("a")
    tries = 0
    while pipeline.status != Status.COMPLETED:
        tries += 1
        assert tries < 25
        try:
            pipeline.run()
        except NodeFailedError:
            pipeline.resume("a")
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(100))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("async_mode", [True, False])
@pytest.mark.parametrize("streaming", [True, False])
@pytest.mark.parametrize("which", ["output", "commit log"])
def test_a_disk_that_fails_fails_the_run(bench: Bench, async_mode: bool, streaming: bool, which: str) -> None:
    """M24, S1, S2: a full disk is the cause, nobody hangs, nothing is sealed, and a resume finishes."""
    bench.give(numbered(200))
    full = OSError(28, "No space left on device")
    target = str(bench.output) + (".commits" if which == "commit log" else "")
    real = LocalStorage.open_append

    class FullFile:
        def __init__(self, file: Any) -> None:
            self._file = file
            self._room = 3

        def append(self, data: bytes) -> None:
            self._room -= 1
            if self._room < 0:
                self._file.append(data[: len(data) // 2])
                raise full
            self._file.append(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def open_append(self: LocalStorage, path: str) -> Any:
        file = real(self, path)
        return FullFile(file) if path == target else file

    def slow(item: Any) -> Any:
        return item

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "open_append", open_append)
        pipeline = bench.pipeline(
            [copier(), slow],
            streaming=streaming,
            parallel_size=3,
            writer_config={"async_mode": async_mode, "queue_size": 10, "flush_batch_size": 5},
        ).create("a")
        with pytest.raises(NodeFailedError, match="No space left") as caught:
            pipeline.run()
    assert caught.value.__cause__ is full
    assert bench.run_state("a")["status"] == "failed"
    assert not bench.is_sealed()
    pipeline.resume("a").run()
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(200))


def test_actors_that_somebody_else_stops_fail_the_run(bench: Bench) -> None:
    """H11, S2: a user's `pykka.ActorRegistry.stop_all()` is an abort: nothing is sealed, and a resume goes on."""
    bench.give(numbered(500))
    is_stopped = threading.Event()

    def stop_all() -> None:
        pykka.ActorRegistry.stop_all(block=False)
        is_stopped.set()

    def work(item: Any) -> Any:
        if item["n"] == 100 and not is_stopped.is_set():
            threading.Thread(target=stop_all).start()
            is_stopped.wait(PATIENCE_SECONDS)
        return item

    pipeline = bench.pipeline([work, copier()], streaming=True, parallel_size=2).create("a")
    with pytest.raises(NodeFailedError, match="stopped"):
        pipeline.run()
    assert not bench.is_sealed()
    assert pipeline.resume("a").run().status == Status.COMPLETED
    assert bag(lines(bench.output)) == bag({"n": n, "_i": n} for n in range(500))
