"""Cancelling: from any thread, by Ctrl+C and by SIGTERM. What was begun ends and is saved; a resume goes on."""

from __future__ import annotations

import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import llm_datagen.pipeline.run as run_module
from llm_datagen import BaseOperator, INodeContext, JsonlStream, Status, UnifiedPipeline
from llm_datagen.pipeline import runners
from llm_datagen.runs import RunFolder

from ..kit import programs
from ..kit.programs import Program
from ..kit.support import (
    PATIENCE_SECONDS,
    Bench,
    Calls,
    bag,
    eventually,
    lines,
    numbered,
    pairwise,
    until_cancelled,
    write_jsonl,
)
from .left_by_jobs import JOB, calls_of, check_rows, committed, output_of, said

ROWS = 200


class Item(BaseOperator):
    """Tells when it has come to row `signal_at`; from then on, its calls last until the run is cancelled (`holds`)."""

    name = "work"

    def __init__(
        self,
        calls: Calls,
        here: threading.Event | None = None,
        signal_at: int = 50,
        *,
        nap: float = 0.0005,
        holds: bool = True,
    ) -> None:
        self.calls = calls
        self.nap = nap
        self.here = here
        self.signal_at = signal_at
        self.holds = holds

    def do(self, item: Any, ctx: INodeContext) -> Any:
        self.calls.note(item["_i"])
        if self.here and item["n"] >= self.signal_at:
            self.here.set()
            if self.holds:
                until_cancelled(ctx)
        return {"n": item["n"]}

    def process_item(self, item: Any, ctx: INodeContext) -> Any:
        time.sleep(self.nap)
        return self.do(item, ctx)


class AsyncItem(Item):
    name = "work"

    async def process_item(self, item: Any, ctx: INodeContext) -> Any:
        return self.do(item, ctx)


class Batch(Item):
    name = "work"

    def process_batch(self, items: Sequence[Any], ctx: INodeContext) -> Any:
        time.sleep(0.001)
        return [self.do(item, ctx) for item in items]


KINDS: dict[str, Callable[..., Item]] = {"item": Item, "async item": AsyncItem, "batch": Batch}
EXPECTED = [{"n": n, "_i": n} for n in range(ROWS)]


def copy(item: Any) -> Any:
    return item


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("kind", "streaming", "async_mode", "parallel_size", "ordered"),
    [
        (*case, *order)
        for *case, order in pairwise(list(KINDS), [True, False], [True, False], [(1, False), (4, False), (4, True)])
    ],
)
def test_cancel_from_another_thread_saves_what_was_begun_and_a_resume_goes_on(
    bench: Bench, kind: str, streaming: bool, async_mode: bool, parallel_size: int, ordered: bool
) -> None:
    """M7, M5, M6, S2: run() returns a report, nothing is sealed, and no call that ended is made again."""
    bench.give(numbered(ROWS))
    calls, here = Calls(bench.folder / "calls"), threading.Event()
    pipeline = bench.pipeline(
        [KINDS[kind](calls, here), copy],
        streaming=streaming,
        parallel_size=parallel_size,
        batch_size=3,
        ordered=ordered,
        writer_config={"async_mode": async_mode, "queue_size": 30, "flush_batch_size": 7},
    ).create("a")

    def cancel() -> None:
        here.wait(PATIENCE_SECONDS)
        pipeline.cancel("had enough")

    other = threading.Thread(target=cancel)
    other.start()
    report = pipeline.run()
    other.join()
    assert report.status == Status.CANCELED == pipeline.status
    assert report.reason == "had enough"
    run_state = bench.run_state("a")
    assert (run_state["status"], run_state["reason"], run_state["error"]) == ("canceled", "had enough", None)
    assert {node["status"] for node in run_state["nodes"]} == {"canceled"}
    assert not bench.is_sealed()
    assert not Path(f"{bench.between('a')}.done").exists()
    made = lines(bench.between("a"))
    assert 0 < len(made) < ROWS
    if not ordered:  # M7: what was dispatched has ended, and is on disk
        assert calls.all() == {str(row["_i"]): 1 for row in made}

    resumed = bench.pipeline([KINDS[kind](calls), copy]).resume("a")
    assert resumed.run().status == Status.COMPLETED
    found = lines(bench.output)
    assert bag(found) == bag(EXPECTED)
    again = sum(calls.all().values()) - ROWS
    if ordered:  # finished rows that wait for an unfinished one before them are lost
        assert found == EXPECTED
        assert again <= 4 * 3 * 10
    else:
        assert again == 0


@pytest.mark.slow
def test_a_run_that_is_cancelled_again_and_again_calls_every_row_once(bench: Bench) -> None:
    """M7, R2: fifteen cancels at random moments cost no call and no row."""
    bench.give(numbered(1000))
    calls = Calls(bench.folder / "calls")
    chance = random.Random(11)

    def work(item: Any) -> Any:
        calls.note(item["_i"])
        return [item] * (item["n"] % 3)

    pipeline = bench.pipeline([work, copy], streaming=True, parallel_size=3, batch_size=2).create("a")
    for _ in range(15):
        ref = pipeline.start()
        time.sleep(chance.random() * 0.03)
        pipeline.cancel()
        report = pipeline.wait(PATIENCE_SECONDS)
        assert not ref.is_alive()
        if report.status == Status.COMPLETED:
            break
        pipeline.resume("a")
    if pipeline.status != Status.COMPLETED:
        pipeline.run()
    assert bag(lines(bench.output)) == bag({"n": n, "_i": f"{n}_{k}"} for n in range(1000) for k in range(n % 3))
    assert calls.all() == {str(n): 1 for n in range(1000)}


def test_a_cancel_between_two_sequential_nodes_keeps_the_first(bench: Bench) -> None:
    """M5, M7: the first node stays completed and sealed; the resume runs the second alone."""
    bench.give(numbered(100))
    calls, here = Calls(bench.folder / "calls"), threading.Event()
    second = Item(calls, here, 30)
    pipeline = bench.pipeline([Item(calls), second], streaming=False).create("a")
    pipeline.start()
    here.wait(PATIENCE_SECONDS)
    pipeline.cancel()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert [node.status for node in report.nodes] == [Status.COMPLETED, Status.CANCELED]
    assert Path(f"{bench.between('a')}.done").exists()
    assert not bench.is_sealed()
    second.here = None
    pipeline.resume("a").run()
    assert calls.all() == {str(n): 2 for n in range(100)}  # once in each node


def test_a_long_call_can_see_that_it_is_cancelled(bench: Bench) -> None:
    """M13, M7: `ctx.is_cancelled()`; a call that gives up by raising does not turn the cancel into a failure."""
    bench.give(numbered(10))
    here = threading.Event()

    def patient(item: Any, ctx: INodeContext) -> Any:
        here.set()
        eventually(ctx.is_cancelled)
        raise TimeoutError("gave up")

    pipeline = bench.pipeline([patient], parallel_size=2).create("a")
    pipeline.start()
    here.wait(PATIENCE_SECONDS)
    pipeline.cancel("no patience")
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status == Status.CANCELED
    assert report.error is None
    assert lines(bench.output) == []


def test_a_cancel_ends_a_run_that_waits_for_its_input(bench: Bench) -> None:
    """M7, M17: a reader that waits for a seal hears of the cancel at once."""
    bench.give(numbered(10))
    pipeline = bench.pipeline([copy, copy], streaming=True, follow_input=True).create("a")
    pipeline.start()
    eventually(lambda: bench.output.exists() and len(bench.output.read_bytes().splitlines()) == 10)
    pipeline.cancel()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status == Status.CANCELED
    assert not bench.is_sealed()
    JsonlStream(f"jsonl://{bench.input}").seal()
    assert pipeline.resume("a").run().status == Status.COMPLETED
    assert lines(bench.output) == [{"n": n, "_i": n} for n in range(10)]


def test_a_cancel_during_setup_calls_nothing(bench: Bench) -> None:
    """M7: no work is dispatched after a cancel, not even the first."""
    bench.give(numbered(10))
    here, go_on = threading.Event(), threading.Event()
    called: list[Any] = []

    class Slow(BaseOperator):
        def setup(self) -> None:
            here.set()
            go_on.wait(PATIENCE_SECONDS)

        def process_item(self, item: Any, ctx: INodeContext) -> Any:
            called.append(item)

    pipeline = bench.pipeline([Slow()]).create("a")
    pipeline.start()
    here.wait(PATIENCE_SECONDS)
    pipeline.cancel()
    eventually(lambda: bench.run_state("a")["status"] == "canceling")
    go_on.set()
    report = pipeline.wait(PATIENCE_SECONDS)
    assert report.status == Status.CANCELED
    assert not called


def test_a_cancel_before_and_after_a_run_does_nothing(bench: Bench) -> None:
    """M7: any thread may call it at any time, also when nothing runs; twice is once."""
    bench.give(numbered(10))
    pipeline = bench.pipeline([copy])
    pipeline.cancel()
    assert pipeline.run().status == Status.COMPLETED
    pipeline.cancel("too late")
    pipeline.cancel("too late")
    assert pipeline.status == Status.COMPLETED


def test_a_cancel_reaches_the_nodes_before_anything_is_saved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M7: no new call is begun after a cancel, however slow the disk is that the run state lies on."""
    bench.give(numbered(ROWS))
    calls, here, saving = Calls(bench.folder / "calls"), threading.Event(), threading.Event()
    save = RunFolder.save

    def slow_save(folder: RunFolder, run_state: dict[str, Any], *, may_wait: bool = False) -> bool:
        if run_state["status"] == "canceling" and not saving.is_set():
            saving.set()
            made = -1
            while made != (made := sum(calls.all().values())):  # until no more calls are begun, or all are
                time.sleep(0.1)
        return save(folder, run_state, may_wait=may_wait)

    monkeypatch.setattr(RunFolder, "save", slow_save)
    pipeline = bench.pipeline([Item(calls, here, 10, nap=0.01, holds=False)], parallel_size=2).create("a")
    pipeline.start()
    here.wait(PATIENCE_SECONDS)
    pipeline.cancel()
    pipeline.wait(PATIENCE_SECONDS)
    assert saving.is_set()
    assert sum(calls.all().values()) < ROWS


# --- signals, in this process --------------------------------------------------------------------------------------


@pytest.fixture
def own_handlers() -> Iterator[list[int]]:
    """Handlers of the user's own, which must be put back, and not be called while a run has its own."""
    called: list[int] = []
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, lambda number, frame: called.append(number))
    yield called
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("number", "error"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, SystemExit)])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_signal_cancels_saves_and_is_raised_at_the_end(
    bench: Bench, own_handlers: list[int], number: signal.Signals, error: type[BaseException], streaming: bool
) -> None:
    """M25: as cancel(); run() raises when everything is saved, and the user's handlers are back."""
    bench.give(numbered(ROWS))
    calls, here = Calls(bench.folder / "calls"), threading.Event()
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)

    def interrupt() -> None:
        here.wait(PATIENCE_SECONDS)
        os.kill(os.getpid(), number)

    other = threading.Thread(target=interrupt)
    other.start()
    work = Item(calls, here, signal_at=10)
    pipeline = bench.pipeline([work, copy], streaming=streaming, parallel_size=2).create("a")
    with pytest.raises(error) as caught:
        pipeline.run()
    other.join()
    if isinstance(caught.value, SystemExit):
        assert caught.value.code == 143
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == handlers
    assert own_handlers == []
    assert bench.run_state("a")["status"] == "canceled"
    assert bench.run_state("a")["reason"] == number.name
    assert not bench.is_sealed()
    work.here = None
    pipeline.resume("a").run()
    assert bag(lines(bench.output)) == bag(EXPECTED)
    assert calls.all() == {str(n): 1 for n in range(ROWS)}


def test_a_signal_is_heard_at_once_and_not_at_the_next_look(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """M25: the main thread is woken by it; what it does every now and then by itself is not waited for."""
    for module in (run_module, runners):
        monkeypatch.setattr(module, "SLICE_SECONDS", 10 * PATIENCE_SECONDS)
    bench.give(numbered(3))

    def until_cancelled(item: Any, ctx: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        eventually(ctx.is_cancelled, "the run is cancelled")
        return item

    with pytest.raises(KeyboardInterrupt):
        bench.pipeline([until_cancelled]).create("a").run()
    assert bench.run_state("a")["reason"] == "SIGINT"
    assert len(lines(bench.output)) == 1


def test_a_run_in_another_thread_touches_no_handler(bench: Bench, own_handlers: list[int]) -> None:
    """M25: handlers are installed only by run() in the main thread."""
    bench.give(numbered(20))
    seen: list[Any] = []

    def look(item: Any) -> Any:
        seen.append((signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))
        return item

    mine = (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    thread = threading.Thread(target=bench.pipeline([look]).run)
    thread.start()
    thread.join(PATIENCE_SECONDS)
    assert set(seen) == {mine}
    bench.output.unlink()
    Path(f"{bench.output}.done").unlink()
    seen.clear()
    pipeline = bench.pipeline([look])
    pipeline.start()
    pipeline.wait()
    assert set(seen) == {mine}


# --- signals, from outside -----------------------------------------------------------------------------------------


def _start(folder: Path, **job: Any) -> tuple[dict[str, Any], Program]:
    write_jsonl(folder / "in.jsonl", numbered(ROWS))
    full = {"folder": str(folder), **job}
    with (folder / "stderr").open("wb") as err:
        return full, Program([JOB, json.dumps(full)], stderr=err)


@pytest.mark.sampled(2)
@pytest.mark.process
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, -2), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("streaming", [True, False])
def test_a_process_that_is_interrupted_saves_and_says_so(
    tmp_path: Path, number: signal.Signals, code: int, streaming: bool
) -> None:
    """M25, R2: a script ends there (status 143 after SIGTERM), and the resume repeats no call."""
    job, process = _start(tmp_path, streaming=streaming, nap=0.02)
    watched = output_of(job) if streaming else tmp_path / "between" / "job" / "node_0.jsonl"
    eventually(lambda: committed(watched) >= 20)
    process.send_signal(number)
    assert process.wait(PATIENCE_SECONDS) in (code, 128 + number)
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in (tmp_path / "stderr").read_text()
    assert said(job) == "handlers put back\n"
    run_state = json.loads((tmp_path / "results" / "job" / "runtime.json").read_bytes())
    assert (run_state["status"], run_state["reason"]) == ("canceled", number.name)
    assert not Path(f"{output_of(job)}.done").exists()
    _, process = _start(tmp_path, streaming=streaming, resume=True)
    assert process.wait(PATIENCE_SECONDS) == 0
    check_rows(job, ROWS)
    assert len(calls_of(job)) == len(set(calls_of(job))) == 2 * ROWS


@pytest.mark.sampled(1)
@pytest.mark.process
@pytest.mark.parametrize("kind", ["item", "async"])
def test_a_second_signal_ends_a_process_whose_operator_hangs(tmp_path: Path, kind: str) -> None:
    """M25: the first Ctrl+C waits for the call that hangs, the second one does not; what was saved is there."""
    job, process = _start(tmp_path, hang_at=100, kind=kind, nap=0.001)
    eventually(lambda: "0:100" in (tmp_path / "calls").read_text().split() if (tmp_path / "calls").exists() else False)
    process.send_signal(signal.SIGINT)
    runtime = tmp_path / "results" / "job" / "runtime.json"
    eventually(lambda: json.loads(runtime.read_bytes())["status"] == "canceling")
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    assert process.wait(PATIENCE_SECONDS) == -signal.SIGINT
    _, process = _start(tmp_path, resume=True, kind=kind)
    assert process.wait(PATIENCE_SECONDS) == 0
    check_rows(job, ROWS)
    assert len(calls_of(job)) - len(set(calls_of(job))) <= 2 * 4 * 8  # the task that hung, in each node


LEAVE = """
import sys
from llm_datagen import UnifiedPipeline
def work(item):
    return item
async def awork(item):
    return item
folder = sys.argv[1]
UnifiedPipeline([work, awork], f"jsonl://{folder}/in.jsonl", f"jsonl://{folder}/out.jsonl", results_dir=folder,
                base_path=folder, log_file=None, streaming=len(sys.argv) > 2, parallel_size=4).create("a").start()
"""


@pytest.mark.process
@pytest.mark.parametrize("streaming", [True, False])
def test_a_script_that_ends_without_waiting_ends_when_its_run_does(tmp_path: Path, streaming: bool) -> None:
    """M5, H13: the run's threads are no daemons: the rows are not lost when the main thread has nothing more to do."""
    write_jsonl(tmp_path / "in.jsonl", numbered(3000))
    arguments = [str(tmp_path), *["streaming"] * streaming]
    done = programs.run(["-W", "error", "-c", LEAVE, *arguments])
    assert (done.returncode, done.stderr) == (0, "")
    assert len(lines(tmp_path / "out.jsonl")) == 3000
    assert json.loads((tmp_path / "a" / "runtime.json").read_bytes())["status"] == "completed"


def test_cancelled_pipelines_know_it_from_their_run_state(bench: Bench) -> None:
    """M8, M27: another object, of another process perhaps, reads the status from runtime.json."""
    bench.give(numbered(10))
    pipeline = bench.pipeline([copy], follow_input=True).create("a")
    pipeline.start()
    pipeline.cancel("later")
    pipeline.wait()
    other = UnifiedPipeline([copy], results_dir=bench.results, log_file=None).resume("a")
    assert other.status == Status.RESUMING
