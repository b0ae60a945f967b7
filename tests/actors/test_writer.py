"""The writer: when it flushes, when it seals, and what becomes of everyone when it cannot (S1, S2, M20, H4, H12)."""

from __future__ import annotations

import contextlib
import random
import threading
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pykka
import pytest

from llm_datagen.actors.backpressure_meter import BACKPRESSURE_LOG_SECONDS, BackpressureMeter
from llm_datagen.actors.delivery import Delivery
from llm_datagen.actors.mailbox import Mailbox
from llm_datagen.actors.stage import join, tell
from llm_datagen.actors.writer import REPORT_SECONDS, WriterActor
from llm_datagen.config import WriterConfig
from llm_datagen.errors import IdError, StreamCorruptError, UnknownMessageError
from llm_datagen.messages import (
    Attach,
    Committed,
    Drain,
    Finish,
    RowsCommitted,
    Sealed,
    StageEnded,
    StageOutcome,
    TaskDone,
    Write,
)
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.runs.logs import events
from llm_datagen.streams import Span, spill

from ..kit.actors import Desk, DiskFullError, FailingStorage, Log, SteppingClock, aside, error_of, result_of, stream_on
from ..kit.support import PATIENCE_SECONDS


def write(start: int, end: int | None = None, *, ack: Future[None] | None = None, **changes: Any) -> Write:
    """Return the results of source rows: a row each."""
    end = start + 1 if end is None else end
    fields: dict[str, Any] = {
        "rows": end - start,
        "data": b"".join(b'{"_i":%d}\n' % row for row in range(start, end)),
        "span": Span(start, end, 10 * start, 10 * end),
        "ids": (start, end - 1),
        **changes,
    }
    return Write(BlockResult(**fields), ack)


class Bench:
    """A writer over a disk that can be made to fail."""

    def __init__(self, clock: SteppingClock | None) -> None:
        self.clock = clock
        self.storage = FailingStorage()
        self.stream = stream_on(self.storage)
        self.supervisor, self.log = Desk(), Log()
        self.ref: pykka.ActorRef[WriterActor]

    def start(self, *, seal: bool = True, **config: Any) -> None:
        """Start the writer."""
        sink = self.stream.sink(source="memory://in", fsync="never")
        settings = WriterConfig(**{"fsync": "never", **config})
        self.ref = WriterActor.start("n", self.supervisor, sink, settings, seal=seal, log=self.log)

    @property
    def inbox(self) -> Mailbox:
        """The writer's mailbox."""
        inbox = self.ref.actor_inbox
        assert isinstance(inbox, Mailbox)
        return inbox

    def tell(self, *messages: Any) -> None:
        """Tell the writer things, and wait until it is done with them."""
        for message in messages:
            self.ref.tell(message)
        assert self.clock is not None
        self.clock.settle(self.ref)

    def hold(self) -> None:
        """Hold the writer in the flush of row 0, so that what comes next waits in the mailbox."""
        self.storage.gate = threading.Event()
        self.ref.tell(write(0))
        assert self.storage.at_gate.wait(PATIENCE_SECONDS)

    def let_go(self) -> None:
        """Let the writer go on."""
        assert self.storage.gate is not None
        self.storage.gate.set()

    def flushes(self) -> int:
        """Return how many flushes there were: each appends data, and a commit."""
        return self.storage.appended // 2

    def ended(self) -> StageEnded:
        """Wait for the end."""
        (ended,) = self.supervisor.wait_for(StageEnded)
        assert join(self.ref, PATIENCE_SECONDS)
        return ended

    def rows(self) -> int:
        """Return how many source rows are committed, as the next run will find them."""
        sink = self.stream.sink(source="memory://in", fsync="never")
        sink.close()
        return sink.position.coverage.rows


@pytest.fixture
def bench(clock: SteppingClock) -> Bench:
    return Bench(clock)


# --- flushing ------------------------------------------------------------------------------------------------------


def test_an_idle_writer_commits_at_once(bench: Bench) -> None:
    """M20: rows that come slowly are on disk at once: the clock does not move in this test."""
    bench.start()
    for row in range(3):
        bench.tell(write(row))
        assert bench.flushes() == row + 1
        assert bench.inbox.outstanding == 0
    bench.ref.stop()
    bench.ended()


def test_rows_that_come_fast_share_a_flush(bench: Bench) -> None:
    """M20: a flush is made when enough rows wait, and when no further write is waiting."""
    bench.start(flush_batch_size=4)
    bench.hold()
    for row in range(1, 8, 2):
        bench.ref.tell(write(row, row + 2))
    bench.let_go()
    bench.tell()
    assert bench.flushes() == 1 + 2
    assert bench.inbox.outstanding == 0
    bench.ref.stop()
    bench.ended()


def test_data_that_never_ends_does_not_hold_up_a_flush(monkeypatch: pytest.MonkeyPatch, bench: Bench) -> None:
    """M20: a row waits for `flush_interval` at most."""
    ticks = iter(range(10_000))
    monkeypatch.setattr(bench.clock, "monotonic", lambda: next(ticks) * 0.1)  # time passes as the writer works
    bench.start(flush_batch_size=1000, flush_interval=1.0)
    bench.hold()
    for row in range(1, 100):
        bench.ref.tell(write(row))
    bench.ref.tell(Drain())
    bench.let_go()
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert bench.flushes() > 4
    assert bench.rows() == 100


def test_a_queue_that_is_smaller_than_a_flush_does_not_stop_the_writer(bench: Bench) -> None:
    """M20: rows that wait for a flush count as held; the writer must not wait for rows that cannot come."""
    bench.start(queue_size=2, flush_batch_size=1000, flush_interval=1000.0)
    bench.hold()
    workers = [aside(bench.ref.tell, write(row)) for row in range(1, 20)]
    bench.let_go()
    for worker in workers:
        result_of(worker)
    bench.tell()
    assert bench.inbox.outstanding == 0
    bench.ref.tell(Finish(20, 200))
    assert bench.ended().outcome is StageOutcome.FINISHED


def test_an_acknowledgement_comes_with_the_commit(bench: Bench) -> None:
    """H12: group commit: not when the message is handled, but when the rows are there."""
    bench.start()
    bench.hold()
    acks: list[Future[None]] = [Future(), Future()]
    bench.ref.tell(write(1, ack=acks[0]))
    bench.ref.tell(write(2, ack=acks[1]))
    assert not acks[0].done()
    bench.let_go()
    for ack in acks:
        result_of(ack)
    bench.ref.stop()
    bench.ended()
    assert bench.rows() == 3


def test_an_acknowledgement_that_nobody_waits_for_any_more_is_no_failure(bench: Bench) -> None:
    """H12: whoever waited, such as a worker wired by hand, may have given up."""
    bench.start()
    ack: Future[None] = Future()
    ack.cancel()
    bench.tell(write(0, ack=ack))
    bench.ref.tell(Finish(1, 10))
    assert bench.ended().outcome is StageOutcome.FINISHED


def test_readers_hear_of_what_is_committed_and_of_nothing_else(bench: Bench) -> None:
    """S1: at once when they are attached, then at each flush, then of the seal, which is there by then."""
    reader = Desk()
    seen: list[bool] = []
    bench.start()
    bench.tell(write(0))
    size = bench.storage.size("out.jsonl")
    bench.tell(Attach(reader))
    place = bench.stream.place
    assert reader.messages == [Committed(size or 0, place)]
    bench.tell(write(1))
    assert reader.messages[1:] == [Committed(bench.storage.size("out.jsonl") or 0, place)]

    class Looking(Desk):
        def tell(self, message: Any) -> None:
            if isinstance(message, Sealed):
                seen.append(bench.stream.is_sealed())

    bench.tell(Attach(Looking()))
    bench.ref.tell(Finish(2, 20))
    bench.ended()
    assert reader.messages[2:] == [Sealed()]
    assert seen == [True]


@pytest.mark.parametrize(
    ("changes", "load"),
    [
        ({}, (5, 50)),
        ({"rows": 9, "data": b"x" * 90}, (9, 90)),
        ({"rows": 0, "data": b""}, (5, 0)),
        ({"rows": 1, "data": b"x", "dead_letters": b"y" * 70}, (5, 71)),
        ({"rows": 0, "data": b"", "span": Span(3, 3, 0, 0)}, (0, 0)),
    ],
)
def test_a_write_counts_for_the_rows_that_went_in_or_came_out_and_for_its_bytes(
    changes: dict[str, Any], load: tuple[int, int]
) -> None:
    """M20, M29: a node that filters everything, or dead-letters it, waits for a slow disk like any other."""
    assert write(0, 5, **{"data": b"x" * 50, **changes}).load == load


def test_of_a_spill_only_what_is_in_memory_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """M29: else a row that became very many would never get into the queue beside others."""
    monkeypatch.setattr(spill, "SPILL_BYTES", 1000)
    with contextlib.closing(spill.Spill(str(tmp_path))) as records:
        records.append([b"x" * 99] * 30, may_file=True)
        records.append([b"x" * 99] * 2, may_file=True)
        assert write(0, 1, data=records, rows=32).load == (32, 200)


def test_what_has_waited_is_given_free_when_it_is_committed(bench: Bench) -> None:
    """M20: rows and bytes, or the next worker would wait for ever."""
    bench.start(flush_batch_size=7)
    for round_ in range(20):
        bench.tell(write(3 * round_, 3 * round_ + 3, dead_letters=b"{}\n", dead=0))
    assert bench.inbox._outstanding == (0, 0)
    bench.ref.stop()
    bench.ended()


def test_rows_that_were_all_filtered_are_committed(bench: Bench) -> None:
    """S1, C1: a flush without bytes covers its source rows."""
    bench.start()
    bench.tell(write(0, 5, rows=0, data=b"", filtered=5, ids=(None, None)))
    bench.ref.tell(Finish(5, 50))
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert (bench.supervisor.of(RowsCommitted)[-1].done, bench.supervisor.of(RowsCommitted)[-1].filtered) == (5, 5)


# --- the end -------------------------------------------------------------------------------------------------------


def test_finish_commits_seals_and_ends(bench: Bench) -> None:
    """S2: data, then commit, then seal, then the report."""
    sealed: list[bool] = []
    bench.storage.on_close = lambda: sealed.append(bench.stream.is_sealed())
    bench.start()
    bench.hold()
    bench.ref.tell(write(1))
    bench.ref.tell(Finish(2, 20))
    bench.let_go()
    assert bench.ended().outcome is StageOutcome.FINISHED
    seal = bench.stream.read_seal()
    assert seal is not None
    assert seal.rows == 2
    assert sealed[-1], "no other writer may have the stream before it is sealed"


@pytest.mark.parametrize("total", [1, 3])
def test_a_stream_that_is_not_complete_is_never_sealed(bench: Bench, total: int) -> None:
    """S2: whatever the node believes."""
    bench.start()
    bench.tell(write(0), write(1))
    bench.ref.tell(Finish(total, 10 * total))
    ended = bench.ended()
    assert isinstance(ended.error, StreamCorruptError)
    assert not bench.stream.is_sealed()


def test_a_stream_with_a_hole_is_never_sealed(bench: Bench) -> None:
    """S2: the counts may agree, and a row be missing all the same."""
    bench.start()
    bench.tell(write(0), write(2))
    bench.ref.tell(Finish(2, 20))
    assert bench.ended().outcome is StageOutcome.FAILED
    assert not bench.stream.is_sealed()


def test_rows_that_are_delivered_twice_fail_the_writer(bench: Bench) -> None:
    """R2: exactly once, or not at all."""
    bench.start()
    bench.tell(write(0, 2))
    bench.ref.tell(write(1, 3))
    assert isinstance(bench.ended().error, StreamCorruptError)
    assert bench.rows() == 2


def test_drain_commits_what_there_is_and_does_not_seal(bench: Bench) -> None:
    """S2, M7: it travels behind the rows."""
    bench.start()
    bench.hold()
    for row in range(1, 5):
        bench.ref.tell(write(row))
    bench.ref.tell(Drain())
    bench.let_go()
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert not bench.stream.is_sealed()
    assert bench.rows() == 5


def test_a_stop_from_outside_aborts_without_a_seal(bench: Bench) -> None:
    """S2, H2, H4: it overtakes the rows and the Finish behind it; who waits for a commit is told that none comes."""
    bench.start(queue_size=2)
    bench.hold()
    acks: list[Future[None]] = [Future() for _ in range(4)]
    bench.ref.tell(write(1, ack=acks[0]))
    workers = [aside(bench.ref.tell, write(2 + number, ack=ack)) for number, ack in enumerate(acks[1:])]
    bench.ref.tell(Finish(5, 50))
    stopped = bench.ref.stop(block=False)
    bench.let_go()
    assert stopped.get(timeout=PATIENCE_SECONDS)
    assert bench.ended().outcome is StageOutcome.STOPPED
    assert not bench.stream.is_sealed()
    accepted = [error_of(worker) is None for worker in workers]
    assert isinstance(error_of(acks[0]), pykka.ActorDeadError)
    for is_accepted, ack in zip(accepted, acks[1:], strict=True):
        assert ack.done() == is_accepted
    assert bench.rows() == 1


def test_a_writer_may_be_told_not_to_seal(bench: Bench) -> None:
    """M9: between open() and close(), it is close() that seals."""
    bench.start(seal=False)
    bench.tell(write(0))
    bench.ref.tell(Finish(1, 10))
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert not bench.stream.is_sealed()
    assert bench.rows() == 1


# --- failure -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_waited_for", [False, True])
def test_a_disk_that_fails_is_reported_and_everyone_is_freed(bench: Bench, is_waited_for: bool) -> None:
    """S2, H3, H4: a dead background writer that loses rows, and seals, is what this engine must never have."""
    bench.start(queue_size=1)
    bench.tell(write(0))
    bench.storage.is_full = True
    bench.storage.gate = threading.Event()
    acks: list[Future[None] | None] = [Future() if is_waited_for else None for _ in range(5)]
    bench.ref.tell(write(1, ack=acks[0]))
    assert bench.storage.at_gate.wait(PATIENCE_SECONDS)
    workers = [aside(bench.ref.tell, write(2 + number, ack=ack)) for number, ack in enumerate(acks[1:])]
    bench.ref.tell(Finish(6, 60))
    bench.let_go()

    ended = bench.ended()
    assert ended.outcome is StageOutcome.FAILED
    assert isinstance(ended.error, DiskFullError)
    for worker, ack in zip(workers, acks[1:], strict=True):
        is_refused = isinstance(error_of(worker), pykka.ActorDeadError)
        assert is_refused or ack is None or isinstance(error_of(ack), pykka.ActorDeadError)
    if acks[0] is not None:
        assert isinstance(error_of(acks[0]), pykka.ActorDeadError)
    assert not bench.stream.is_sealed()
    assert bench.supervisor.of(RowsCommitted)[-1].done == 1, "what is told is what is committed"
    bench.storage.is_full = False
    assert bench.rows() == 1


def test_ids_that_would_collide_fail_the_writer(bench: Bench) -> None:
    """M14: kept and made ids of one node must not meet, in whatever order the workers come."""
    bench.start()
    bench.tell(write(0, marks={"made": [0, 9]}), write(1, marks=None))
    bench.ref.tell(write(2, marks={"kept": [2, 2]}))
    assert isinstance(bench.ended().error, IdError)
    assert bench.rows() == 2


def test_an_unexpected_message_is_refused_without_showing_it(bench: Bench) -> None:
    """H15, H18: it may be a row."""
    bench.start()
    with pytest.raises(UnknownMessageError, match="dict") as caught:
        bench.ref.ask({"text": "secret"}, timeout=PATIENCE_SECONDS)
    assert "secret" not in str(caught.value) + bench.log.text
    bench.ref.stop()
    assert bench.ended().outcome is StageOutcome.STOPPED


# --- what is said --------------------------------------------------------------------------------------------------


def blocked_writes(bench: Bench, count: int) -> list[Future[None]]:
    """Block `count` workers on the full writer."""
    first = 1 + sum(len(lane) for lane in (bench.inbox._data, bench.inbox._blocked))
    workers = []
    for number in range(count):
        before = len(bench.inbox._blocked)
        workers.append(aside(bench.ref.tell, write(first + number)))
        while len(bench.inbox._blocked) == before:
            pass
    return workers


def test_a_wait_is_one_line_when_it_begins_and_one_when_it_is_over(bench: Bench) -> None:
    """M20, M28: never a line a row, or a worker; the counts and the seconds are in the line."""
    bench.start(queue_size=1)
    bench.hold()
    workers = blocked_writes(bench, 5)
    (line,) = bench.log.lines
    assert line == (
        events.BACKPRESSURE,
        {"node_id": "n", "stream": "out.jsonl", "queue_rows": 1, "queue_size": 1, "waits": 1, "waited_total_s": 0.0},
    )
    assert bench.clock is not None
    bench.clock.advance(0.5)
    bench.let_go()
    for worker in workers:
        result_of(worker)
    bench.tell()
    assert [event for event, _ in bench.log.lines] == [events.BACKPRESSURE, events.BACKPRESSURE_OVER]
    over = bench.log.of(events.BACKPRESSURE_OVER)[0]
    assert over["waited_s"] == 0.5
    bench.ref.stop()
    bench.ended()


def test_a_wait_is_over_when_the_last_worker_goes_on() -> None:
    """M28: one of two that waited goes on, and the other still waits: that is no end."""
    log = Log()
    meter = BackpressureMeter(log, 1)
    meter.note(None, 1, 0.0)
    meter.note(None, 1, 0.1)
    meter.note(0.25, 1, 0.25)
    assert [event for event, _ in log.lines] == [events.BACKPRESSURE]
    meter.note(0.5, 0, 0.6)
    ((_, began), (event, over)) = log.lines
    assert (event, began["waits"], over["waits"], over["waited_total_s"]) == (events.BACKPRESSURE_OVER, 1, 2, 0.75)


@pytest.mark.usefixtures("restless")
def test_no_wait_is_lost_when_many_threads_wait_at_once() -> None:
    """M28: each thread notes its own waits, all at the same time."""
    log = Log()
    meter = BackpressureMeter(log, 1)

    def waits() -> None:
        for _ in range(500):
            meter.note(None, 1, 0.0)
            meter.note(1.0, 1, 0.0)

    for worker in [aside(waits) for _ in range(4)]:
        result_of(worker)
    meter.note(None, 1, 9.0)
    assert log.of(events.BACKPRESSURE)[-1]["waits"] == 2001
    assert log.of(events.BACKPRESSURE)[-1]["waited_total_s"] == 2000


def test_waits_that_follow_one_another_are_told_once_a_second(bench: Bench) -> None:
    """M28: at full speed every write waits a little."""
    bench.start(queue_size=1)
    row = 0
    assert bench.clock is not None
    for _ in range(30):
        bench.storage.gate = threading.Event()
        bench.storage.at_gate.clear()
        bench.ref.tell(write(row))
        assert bench.storage.at_gate.wait(PATIENCE_SECONDS)
        worker = aside(bench.ref.tell, write(row + 1))
        while not bench.inbox._blocked:
            pass
        bench.let_go()
        result_of(worker)
        bench.tell()
        row += 2
        bench.clock.advance(BACKPRESSURE_LOG_SECONDS / 10)
    began, over = bench.log.of(events.BACKPRESSURE), bench.log.of(events.BACKPRESSURE_OVER)
    assert 2 <= len(began) <= 4
    assert len(over) == len(began)
    assert began[-1]["waits"] > len(began), "the waits that were not told are counted"
    bench.ref.stop()
    bench.ended()


def test_progress_is_told_ten_times_a_second_at_most_and_at_the_end(bench: Bench) -> None:
    """M27: it is never ahead of the disk, and the last word is exact."""
    bench.start()
    for row in range(10):
        bench.tell(write(row))
    assert [told.done for told in bench.supervisor.of(RowsCommitted)] == [1]
    assert bench.clock is not None
    bench.clock.step(bench.ref, REPORT_SECONDS)
    assert [told.done for told in bench.supervisor.of(RowsCommitted)] == [1, 10]
    bench.tell(write(12))
    bench.ref.stop()
    bench.ended()
    last = bench.supervisor.of(RowsCommitted)[-1]
    assert (last.done, last.rows_out, last.resume_row, last.resume_offset, last.holes) == (11, 11, 10, 100, 2)
    assert last.bytes_out == bench.storage.size("out.jsonl")


# --- at random -----------------------------------------------------------------------------------------------------


@pytest.mark.sampled(6)
@pytest.mark.usefixtures("restless")
@pytest.mark.parametrize("seed", range(16))
def test_whatever_ends_a_writer_no_row_is_promised_that_is_not_there(seed: int) -> None:
    """S1, S2, H3, H4: workers over a tiny queue, and a stop, a failing disk, a drain or a finish at some moment."""
    rng = random.Random(seed)
    bench, node = Bench(None), Desk()
    sync, count, workers = rng.random() < 0.5, 120, 4
    bench.start(queue_size=rng.randint(1, 5), flush_batch_size=rng.randint(1, 8), async_mode=not sync)
    delivery = Delivery(bench.ref, node, sync=sync)
    tasks = iter(range(count))
    how = ["stop", "fail", "drain", "finish"][seed % 4]
    moment = rng.randint(0, count // 2)

    def work() -> None:
        for row in tasks:
            if row == moment:
                end(how)
            span = Span(row, row + 1, 10 * row, 10 * row + 10)
            data = b'{"_i":%d}\n' % row
            done = BlockResult(span, 1, data, 0, (row, row), None, None, None, 1, 0.0)
            if row % 3 or not delivery.try_put([(row, done)]):
                delivery.put(row, done)

    def end(how: str) -> None:
        match how:
            case "stop":
                bench.ref.stop(block=False)
            case "fail":
                bench.storage.is_full = True
            case "drain":
                tell(bench.ref, Drain())

    for worker in [aside(work) for _ in range(workers)]:
        result_of(worker)
    tell(bench.ref, Finish(count, 10 * count))
    ended = bench.ended()

    told = node.wait_for(TaskDone, count)
    assert sorted(one.task for one in told) == list(range(count))
    promised = {one.task for one in told if not one.lost}
    assert bench.inbox.outstanding >= 0
    bench.storage.is_full = False
    if how == "finish":
        assert ended.outcome is StageOutcome.FINISHED
        assert promised == set(range(count))
        assert bench.stream.is_sealed()
        return
    assert ended.outcome is (StageOutcome.FAILED if how == "fail" else StageOutcome.STOPPED)
    assert not bench.stream.is_sealed()
    sink = bench.stream.sink(source="memory://in", fsync="never")
    sink.close()
    covered = {row for span in sink.position.coverage for row in range(span.start, span.end)}
    assert covered <= promised if not sync else covered == promised
