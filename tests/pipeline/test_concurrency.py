"""How many calls are made at once: neither fewer nor more than was asked for (M10, M11, M20)."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Sequence
from typing import Any

import pytest

from llm_datagen import BaseOperator, INodeContext
from llm_datagen.streams.storage.local import LocalStorage

from ..kit.support import PATIENCE_SECONDS, Bench, eventually, lines, numbered


class Gauge:
    """Counts who is inside, and remembers the most."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.inside = 0
        self.most = 0

    def __enter__(self) -> None:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self.inside -= 1

    async def reaches(self, count: int) -> None:
        """Stay inside until so many have been there at once, and then a little longer, for one who is too many."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.most < count:
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.003)


@pytest.mark.sampled(4)
@pytest.mark.parametrize(("parallel_size", "batch_size"), [(1, 6), (3, 2), (6, 1), (2, 5)])
@pytest.mark.parametrize("streaming", [True, False])
def test_the_items_of_a_batch_are_processed_concurrently(
    bench: Bench, parallel_size: int, batch_size: int, streaming: bool
) -> None:
    """M11: `parallel_size * batch_size` calls of `process_item` meet at a barrier: they are all there at once."""
    at_once = parallel_size * batch_size
    bench.give(numbered(3 * at_once))
    barrier = threading.Barrier(at_once, timeout=PATIENCE_SECONDS)

    def meet(item: Any) -> Any:
        if item["n"] < at_once:
            barrier.wait()
        return item

    bench.pipeline([meet], parallel_size=parallel_size, batch_size=batch_size, streaming=streaming).run()
    assert len(lines(bench.output)) == 3 * at_once


def test_items_are_processed_concurrently_also_after_many_cheap_ones(bench: Bench) -> None:
    """M11: an operator that was fast and becomes slow has all its workers, at once."""
    bench.give(numbered(1000))
    barrier = threading.Barrier(6, timeout=PATIENCE_SECONDS)

    def meet(item: Any) -> Any:
        if item["n"] >= 994:
            barrier.wait()
        return item

    bench.pipeline([meet], parallel_size=3, batch_size=2).run()


def test_async_items_are_processed_concurrently_on_one_thread(bench: Bench) -> None:
    """M11: `async def process_item` needs no threads: 50 calls at once, all on the same one."""
    bench.give(numbered(100))
    threads: set[int] = set()

    class Meet(BaseOperator):
        def __init__(self) -> None:
            self.inside = 0

        async def setup(self) -> None:
            self.all_here = asyncio.Event()

        async def process_item(self, item: Any, ctx: INodeContext) -> Any:
            threads.add(threading.get_ident())
            self.inside += 1
            if self.inside == 50:
                self.all_here.set()
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self.all_here.wait()
            return item

    bench.pipeline([Meet()], parallel_size=10, batch_size=5).run()
    assert len(lines(bench.output)) == 100
    assert len(threads) == 1


@pytest.mark.parametrize("async_mode", [True, False])
@pytest.mark.parametrize("ordered", [True, False])
def test_at_most_parallel_size_batches_are_in_process_batch(bench: Bench, async_mode: bool, ordered: bool) -> None:
    """M10: never more batches than `parallel_size`, and that many when there is work; batches are `batch_size` long."""
    bench.give(numbered(95))
    gauge = Gauge()
    full = threading.Barrier(3, timeout=PATIENCE_SECONDS)
    sizes: list[int] = []

    class Batch(BaseOperator):
        def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            sizes.append(len(items))
            with gauge:
                if items[0]["n"] < 15:
                    full.wait()
                time.sleep(0.001)
            return list(items)

    bench.pipeline(
        [Batch()], parallel_size=3, batch_size=5, ordered=ordered, writer_config={"async_mode": async_mode}
    ).run()
    assert gauge.most == 3
    assert sizes == [5] * 19


@pytest.mark.parametrize("async_mode", [True, False])
def test_at_most_parallel_size_batches_are_in_an_async_process_batch(bench: Bench, async_mode: bool) -> None:
    """M10, M11: the same bound on the event loop."""
    bench.give(numbered(60))
    gauge = Gauge()

    class Batch(BaseOperator):
        async def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
            with gauge:
                await gauge.reaches(4)
            return list(items)

    bench.pipeline([Batch()], parallel_size=4, batch_size=3, writer_config={"async_mode": async_mode}).run()
    assert gauge.most == 4


@pytest.mark.parametrize("style", ["threads", "async"])
@pytest.mark.parametrize("cheap", [True, False])
def test_at_most_parallel_times_batch_items_are_in_process_item(bench: Bench, style: str, cheap: bool) -> None:
    """M10, M11: never more items than `parallel_size` batches hold, also when many cheap ones share a task."""
    bench.give(numbered(3000 if cheap else 60))
    gauge = Gauge()

    class Item(BaseOperator):
        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            with gauge:
                if not cheap:
                    eventually(lambda: gauge.most >= 6)
                    time.sleep(0.003)
            return item

    class AsyncItem(BaseOperator):
        async def process_item(self, item: Any, ctx: INodeContext) -> Any:
            with gauge:
                await asyncio.sleep(0)
                if not cheap:
                    await gauge.reaches(6)
            return item

    bench.pipeline([AsyncItem() if style == "async" else Item()], parallel_size=2, batch_size=3).run()
    assert gauge.most <= 6
    assert cheap or gauge.most == 6


def test_a_single_node_calls_one_at_a_time(bench: Bench) -> None:
    """M10: with parallel_size 1 and batch_size 1, an operator that is not thread-safe is safe."""
    bench.give(numbered(500))
    gauge = Gauge()

    def alone(item: Any) -> Any:
        with gauge:
            return item

    bench.pipeline([alone], streaming=True).run()
    assert gauge.most == 1


@pytest.mark.parametrize("streaming", [True, False])
def test_nodes_run_at_once_only_when_streaming(bench: Bench, streaming: bool) -> None:
    """M5: with `streaming=True` the second node works while the first one does; else after it."""
    bench.give(numbered(40))
    second_began = threading.Event()
    first_ended = threading.Event()

    def first(item: Any) -> Any:
        if item["n"] == 39:
            assert not streaming or second_began.wait(PATIENCE_SECONDS), "the second node waits for the first to end"
            first_ended.set()
        return item

    def second(item: Any) -> Any:
        second_began.set()
        assert streaming or first_ended.is_set(), "the second node began before the first had ended"
        return item

    # What the first node makes is on disk, and read, while row 39 is still in its operator.
    bench.pipeline([first, second], streaming=streaming, parallel_size=2).run()
    assert len(lines(bench.output)) == 40


def test_a_slow_row_does_not_hold_up_others(bench: Bench) -> None:
    """M10: rows leave a parallel node as they finish."""
    bench.give(numbered(2000))
    others_on_disk = threading.Event()

    def work(item: Any) -> Any:
        if item["n"] == 0:
            assert others_on_disk.wait(PATIENCE_SECONDS), "the other rows wait for row 0"
        return item

    def seen(item: Any) -> Any:
        if item["n"] == 1999:
            others_on_disk.set()
        return item

    bench.pipeline([work, seen], streaming=True, parallel_size=2).run()
    assert len(lines(bench.output)) == 2000


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("style", ["threads", "async"])
def test_what_waits_for_its_turn_in_an_ordered_node_is_bounded(bench: Bench, style: str) -> None:
    """M10, DESIGN: while row 0 is not done, the others go on through a window, not through the whole input."""
    bench.give(numbered(50_000))
    go_on = threading.Event()
    made = 0

    def work(item: Any) -> Any:
        nonlocal made
        if item["n"] == 0:
            go_on.wait(PATIENCE_SECONDS)
        made += 1
        return item

    async def awork(item: Any) -> Any:
        nonlocal made
        while item["n"] == 0 and not go_on.is_set():
            await asyncio.sleep(0.001)
        made += 1
        return item

    pipeline = bench.pipeline([awork if style == "async" else work], ordered=True, parallel_size=4).create("a")
    pipeline.start()
    try:
        seen = 0
        while seen < 3 or seen != made:  # until no more are made: all could be within a second
            seen = made
            time.sleep(0.2)
        assert made < 40_000
        assert lines(bench.output) == []
    finally:
        go_on.set()
        pipeline.wait(PATIENCE_SECONDS)
    assert [row["n"] for row in lines(bench.output)] == list(range(50_000))


@pytest.mark.parametrize("ordered", [True, False])
def test_setup_and_teardown_are_called_once(bench: Bench, ordered: bool) -> None:
    """Operators' contract: `setup` before the first call, `teardown` after the last, on threads of the node."""
    bench.give(numbered(50))
    story: list[str] = []

    class Told(BaseOperator):
        def setup(self) -> None:
            story.append("setup")

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            story.append("call")
            return item

        def teardown(self) -> None:
            story.append("teardown")

    bench.pipeline([Told()], parallel_size=3, ordered=ordered).run()
    assert story == ["setup", *["call"] * 50, "teardown"]


def test_a_full_queue_blocks_the_workers_and_says_so(bench: Bench) -> None:
    """M20: `queue_size` bounds what is computed ahead of a slow disk; `[Backpressure]` is logged, not once a row."""
    bench.give(numbered(400))
    calls = Gauge()
    ahead: list[int] = []
    made = 0

    def make(item: Any) -> Any:
        nonlocal made
        with calls:
            made += 1
        return item

    real_append = LocalStorage.open_append

    class SlowFile:
        def __init__(self, file: Any) -> None:
            self._file = file

        def append(self, data: bytes) -> None:
            time.sleep(0.002)
            before = len(lines(bench.output))
            ahead.append(made - before)
            self._file.append(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    def open_append(self: LocalStorage, path: str) -> Any:
        file = real_append(self, path)
        return SlowFile(file) if path == str(bench.output) else file

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(LocalStorage, "open_append", open_append)
        bench.pipeline([make], parallel_size=2, writer_config={"queue_size": 10, "flush_batch_size": 5}).run()
    assert len(lines(bench.output)) == 400
    # Held by the writer: 10. With each of two workers: a task, which is never larger than the queue.
    assert max(ahead) <= 10 + 2 * 10
    events = [line["event"] for line in bench.log_lines()]
    assert 1 <= events.count("[Backpressure]") < 400 / 10  # at most one a second, however long it takes
    assert events.count("[Backpressure Over]") == events.count("[Backpressure]")
