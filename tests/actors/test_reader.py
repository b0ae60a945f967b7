"""The reader: what was demanded, when it is there; patience with a source that has nothing new (M18, H6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pykka
import pytest

from llm_datagen.actors.reader import ReaderActor
from llm_datagen.actors.stage import join
from llm_datagen.errors import StreamChangedError, StreamIdleError, UnknownMessageError
from llm_datagen.messages import (
    Batch,
    Cancel,
    Committed,
    Demand,
    EndOfSource,
    PauseCalls,
    Sealed,
    SourceQuiet,
    SourceSized,
    StageEnded,
    StageOutcome,
    UnpauseCalls,
)
from llm_datagen.runs.logs import events
from llm_datagen.streams import Segment, Sink, Source, Span, Stream, StreamFactory
from llm_datagen.streams import cursor as cursor_module
from llm_datagen.streams.merged import MergedStream
from llm_datagen.streams.read_limit import ReadLimit, readable
from llm_datagen.streams.storage.memory import MemoryStorage

from ..kit.actors import Desk, Log, SteppingClock, stream_on
from ..kit.support import PATIENCE_SECONDS

RETRY = 10.0
"""The reader's retry interval in these tests, in seconds of a clock that is stepped."""


class Bench:
    """A reader between a stream and two desks."""

    def __init__(self, clock: SteppingClock) -> None:
        self.clock = clock
        self.source = stream_on(MemoryStorage(), "in.jsonl")
        self.supervisor, self.node, self.log = Desk(), Desk(), Log()
        self.ref: pykka.ActorRef[ReaderActor]

    def start(self, segments: list[Segment] | None = None, *, idle_timeout: float | None = None) -> None:
        """Start the reader."""
        self.start_over(self.source, segments, idle_timeout=idle_timeout)

    def start_over(
        self,
        source: Source,
        segments: list[Segment] | None = None,
        *,
        idle_timeout: float | None = None,
        inputs: int = 1,
    ) -> None:
        """Start the reader of another source."""
        self.ref = ReaderActor.start(
            "n",
            self.supervisor,
            self.node,
            source.cursor(segments or [Segment(0, 0)]),
            retry_interval=RETRY,
            idle_timeout=idle_timeout,
            log=self.log,
            inputs=inputs,
        )

    def tell(self, message: Any) -> None:
        """Tell the reader something and wait until it is done with it."""
        self.ref.tell(message)
        self.clock.settle(self.ref)

    def write(self, *rows: Any) -> None:
        """Let another program write rows."""
        self.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in rows))

    def write_bytes(self, data: bytes) -> None:
        """Let another program write at the end, which asks nobody."""
        storage = self.source.storage
        assert isinstance(storage, MemoryStorage)
        storage._files.setdefault("in.jsonl", bytearray()).extend(data)

    def tell_committed(self) -> None:
        """Tell the reader, as a node of the run does, how much of the stream is committed."""
        self.tell(Committed(self.source.storage.size(self.source.path) or 0))

    def sent(self) -> list[Any]:
        """Return the rows that the node was sent, decoded."""
        return [message.block.decode(record) for message in self.node.of(Batch) for record in message.block.records]

    def ended(self) -> StageEnded:
        """Wait for the reader's end."""
        (ended,) = self.supervisor.wait_for(StageEnded)
        assert join(self.ref, PATIENCE_SECONDS)
        return ended

    def end(self) -> None:
        """Cancel the reader."""
        self.ref.tell(Cancel())
        assert self.ended().outcome is StageOutcome.STOPPED


@pytest.fixture
def bench(clock: SteppingClock) -> Bench:
    return Bench(clock)


def committed_stream(source: Stream) -> Sink:
    """Open the stream as a node's writer does."""
    return source.sink(source="memory://before", fsync="never")


def commit(sink: Sink, *rows: Any) -> int:
    """Commit rows; return how many bytes may be read."""
    start = sink.position.coverage.rows
    data = b"".join(orjson.dumps(row) + b"\n" for row in rows)
    sink.append(data, rows=len(rows), spans=[Span(start, start + len(rows), start, start + len(rows))])
    return sink.position.bytes


def test_nothing_is_sent_before_it_is_demanded(bench: Bench) -> None:
    """The protocol: the reader sends what was demanded, and reads nothing ahead of it."""
    bench.write(1, 2, 3)
    bench.start()
    bench.tell(Committed(0))
    bench.tell(Sealed())
    assert bench.node.messages == []
    bench.end()


def test_never_more_than_was_demanded_and_one_batch_for_a_demand(bench: Bench) -> None:
    """The protocol: a reader MUST NOT send more rows than were demanded, in at most one Batch."""
    bench.write(*range(10))
    bench.start()
    for demanded, sent in ((3, 3), (1, 4), (100, 10)):
        bench.tell(Demand(demanded))
        assert bench.sent() == list(range(sent))
    assert len(bench.node.of(Batch)) == 3
    bench.source.seal()
    bench.tell(Sealed())
    assert len(bench.node.messages) == 3, "not even the end is told before it is asked for"
    bench.end()


def test_a_source_that_has_ended_is_told_once_behind_its_rows(bench: Bench) -> None:
    """The protocol: EndOfSource, once, when every row was sent; then the reader ends."""
    bench.write("a", "b")
    bench.source.seal()
    bench.start()
    bench.tell(Demand(100))
    bench.ref.tell(Demand(100))
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert bench.sent() == ["a", "b"]
    assert bench.node.messages[1:] == [EndOfSource(2, len(b'"a"\n"b"\n'))]
    assert SourceSized("n", 2, is_exact=True) in bench.supervisor.messages


def test_an_empty_source_has_an_end_too(bench: Bench) -> None:
    """The protocol: of no rows."""
    bench.write()
    bench.source.seal()
    bench.start()
    bench.ref.tell(Demand(1))
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert bench.node.messages == [EndOfSource(0, 0)]


def test_only_what_is_not_done_is_read(bench: Bench) -> None:
    """R2: after a crash, holes are read by a seek; the total counts all rows."""
    bench.write(*range(6))
    bench.source.seal()
    bench.start([Segment(1, 2, 2, 4), Segment(4, 8)])
    for _ in range(2):
        bench.tell(Demand(100))
    bench.ref.tell(Demand(100))
    bench.ended()
    assert bench.sent() == [1, 4, 5]
    assert bench.node.messages[-1] == EndOfSource(6, len(b"0\n1\n2\n3\n4\n5\n"))


def test_five_retries_a_tenth_of_a_second_apart_and_then_patience(bench: Bench) -> None:
    """M18: each retry is a line `[EOF Retry]`; the fifth says that the input is not sealed; then polling."""
    bench.write()
    bench.start()
    bench.tell(Demand(5))
    assert bench.log.lines == []
    for attempt in range(1, 6):
        due = bench.clock.settle(bench.ref) or 0
        assert due == pytest.approx(attempt * 0.1)
        bench.clock.step(bench.ref, due - bench.clock.monotonic())
        lines = bench.log.of(events.EOF_RETRY)
        assert [line["attempt"] for line in lines] == list(range(1, attempt + 1))
        assert lines[-1]["waited_s"] == pytest.approx(attempt * 0.1)
    assert len(bench.log.of(events.EOF_WAITING)) == 1
    for _ in range(3):
        assert bench.clock.settle(bench.ref) == pytest.approx(bench.clock.monotonic() + RETRY)
        bench.clock.step(bench.ref, RETRY)
    assert len(bench.log.of(events.EOF_RETRY)) == 5
    assert len(bench.log.of(events.EOF_WAITING)) == 1
    bench.end()


@pytest.mark.parametrize("is_fed", [False, True])
def test_a_file_that_nobody_seals_is_told_of_once_unless_a_node_feeds_it(
    bench: Bench, caplog: pytest.LogCaptureFixture, is_fed: bool
) -> None:
    """M18: the manual's first gotcha is not seen in a log file that nobody looks at."""
    bench.write()
    bench.start()
    if is_fed:
        bench.tell(Committed(0))
    for row in range(2):
        bench.tell(Demand(5))
        for _ in range(6):
            bench.clock.step(bench.ref, 0.1)
        bench.clock.step(bench.ref, RETRY)
        bench.write(row)
        bench.clock.step(bench.ref, RETRY)
    assert bench.sent() == [0, 1]
    quiet = bench.supervisor.of(SourceQuiet)
    assert [(report.node_id, report.text) for report in quiet] == [
        ("n", record.getMessage()) for record in caplog.records
    ]
    assert len(quiet) == (0 if is_fed else 1)
    for report in quiet:
        assert "in.jsonl" in report.text
        assert "in.jsonl.done is missing" in report.text
        assert "seal()" in report.text
        assert "follow_input=False" in report.text
    assert {(record.name, record.levelname) for record in caplog.records} <= {("llm_datagen", "WARNING")}
    bench.end()


def test_a_reader_that_starves_again_and_again_does_not_fill_the_log(bench: Bench) -> None:
    """M18, M28: it says so again only after some seconds."""
    bench.write()
    bench.start()
    for row in range(30):  # nine seconds in all
        bench.tell(Demand(1))
        for _ in range(3):
            bench.clock.step(bench.ref, 0.1)
        bench.write(row)
        bench.tell_committed()
        assert bench.sent() == list(range(row + 1))
    starved = len(bench.log.of(events.EOF_RETRY))
    assert 3 <= starved <= 9
    bench.end()


def test_what_a_node_of_the_run_tells_is_read_without_a_look_at_the_files(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """M18: a look reads the whole commit log; the end is found by one."""
    looks: list[bool] = []

    def look(stream: Stream, *, follow: bool) -> ReadLimit | None:
        looks.append(follow)
        return readable(stream, follow=follow)

    monkeypatch.setattr(cursor_module, "readable", look)
    sink = committed_stream(bench.source)
    bench.start()
    bench.tell(Demand(1))
    assert len(looks) == 1, "nobody has told anything yet"
    for row in range(50):
        bench.tell(Committed(commit(sink, row)))
        bench.tell(Demand(1))
    assert bench.sent() == list(range(50))
    assert len(looks) == 1
    sink.seal()
    bench.ref.tell(Sealed())
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert len(bench.node.of(EndOfSource)) == 1
    assert len(looks) == 2
    sink.close()


def test_an_end_that_is_told_between_two_demands_is_found_at_once(bench: Bench) -> None:
    """M18: the node was busy when its source was sealed; the clock does not move in this test."""
    sink = committed_stream(bench.source)
    bench.start()
    bench.tell(Demand(1))
    bench.tell(Committed(limit := commit(sink, "a")))
    sink.seal()
    bench.tell(Sealed())
    bench.ref.tell(Demand(1))
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert bench.node.messages[-1] == EndOfSource(1, limit)


def test_commits_of_no_rows_do_not_put_off_the_next_look(bench: Bench) -> None:
    """M18: such as those of a node that drops most rows."""
    sink = committed_stream(bench.source)
    bench.start()
    bench.tell(Committed(0))
    bench.tell(Demand(5))
    commit(sink, "a")  # and tell nobody
    bench.clock.step(bench.ref, 0.06)
    bench.tell(Committed(0))
    assert bench.sent() == []
    bench.clock.step(bench.ref, 0.06)
    assert bench.sent() == ["a"]
    bench.end()
    sink.close()


def test_a_source_is_not_called_idle_before_a_look(bench: Bench) -> None:
    """M18: when the time is over, a commit of no rows comes before the timer."""
    sink = committed_stream(bench.source)
    bench.start(idle_timeout=0.1)
    bench.tell(Committed(0))
    bench.tell(Demand(5))
    commit(sink, "a")
    bench.clock.advance(0.1)
    bench.tell(Committed(0))
    assert bench.sent() == ["a"]
    bench.end()
    sink.close()


def test_rows_of_another_program_beside_a_node_that_commits_often_are_found(bench: Bench, tmp_path: Path) -> None:
    """M18, M26: what a node of the run tells says nothing of an input that it does not write."""
    uris = {name: f"jsonl://{tmp_path}/{name}.jsonl" for name in ("node", "program")}
    place = StreamFactory.create(uris["node"]).place
    theirs = tmp_path / "program.jsonl"
    theirs.write_bytes(b"")
    bench.start_over(StreamFactory.source(MergedStream.uri_of("named", uris)), inputs=2)
    bench.tell(Demand(5))
    bench.tell(Committed(0, place))
    theirs.write_bytes(b'"a"\n')
    bench.tell(Committed(0, place))
    assert [row.value for row in bench.sent()] == ["a"]
    theirs.write_bytes(b'"a"\n"b"\n')
    bench.tell(Demand(5))
    assert [row.value for row in bench.sent()] == ["a", "b"]
    bench.end()


def test_all_that_is_committed_of_a_compressed_stream_is_sent_without_waiting(bench: Bench, tmp_path: Path) -> None:
    """M18: it is unpacked some flushes at a time; the clock does not move in this test."""
    stream = StreamFactory.create(f"jsonl://{tmp_path}/in.jsonl.gz")
    rows = ["x" * 100_000] * 7
    sink = committed_stream(stream)
    bench.start_over(stream)
    for _ in range(4):
        commit(sink, *rows)
    bench.tell(Committed(sink.position.bytes, stream.place))
    for _ in range(28):
        bench.tell(Demand(1))
    assert bench.sent() == rows * 4
    bench.end()
    sink.close()


def test_rows_that_another_program_writes_are_found_by_looking(bench: Bench) -> None:
    """M18: polling; a line is a row when its newline has come."""
    bench.write("a")
    bench.start()
    bench.tell(Demand(5))
    bench.tell(Demand(5))
    bench.write_bytes(b'"half')
    bench.clock.step(bench.ref, 0.1)
    assert bench.sent() == ["a"]
    bench.write_bytes(b' a line"\n')
    bench.clock.step(bench.ref, 0.1)
    assert bench.sent() == ["a", "half a line"]
    bench.end()


def test_a_source_that_is_not_there_yet_is_waited_for(bench: Bench) -> None:
    """M18: a node may be started before the one that feeds it."""
    bench.start()
    bench.tell(Demand(5))
    assert bench.node.messages == []
    bench.write("late")
    bench.clock.step(bench.ref, 0.1)
    assert bench.sent() == ["late"]
    bench.end()


def test_a_writer_in_the_same_process_wakes_the_reader_at_once(bench: Bench) -> None:
    """M18: no polling then: the clock does not move in this test."""
    sink = committed_stream(bench.source)
    bench.start()
    bench.tell(Demand(5))
    bench.tell(Committed(commit(sink, "a", "b")))
    assert bench.sent() == ["a", "b"]
    assert bench.clock.settle(bench.ref) is None, "a reader from which nothing is demanded has no timer"
    limit = commit(sink, "c")
    bench.tell(Committed(limit))
    assert bench.sent() == ["a", "b"]
    bench.tell(Demand(5))
    assert bench.sent() == ["a", "b", "c"]
    bench.tell(Demand(5))
    sink.seal()
    bench.ref.tell(Sealed())
    assert bench.ended().outcome is StageOutcome.FINISHED
    assert bench.node.messages[-1] == EndOfSource(3, limit)


def test_nobody_reads_past_what_is_committed(bench: Bench) -> None:
    """S1: bytes that no commit speaks of are not there, though they are in the file."""
    sink = committed_stream(bench.source)
    commit(sink, "a")
    bench.write("not committed")
    bench.start()
    bench.tell(Demand(5))
    bench.tell(Demand(5))
    bench.clock.step(bench.ref, 0.1)
    assert bench.sent() == ["a"]
    bench.end()
    sink.close()


@pytest.mark.parametrize("timeout", [0.25, 3.0])
def test_a_source_that_gives_nothing_for_too_long_is_an_error(bench: Bench, timeout: float) -> None:
    """M18: with `idle_timeout`, when it is due; not only at the next look, which may be a while."""
    bench.write("a")
    bench.start(idle_timeout=timeout)
    bench.clock.step(bench.ref, 100)  # nothing was demanded: this does not count
    bench.tell(Demand(5))
    bench.clock.step(bench.ref, 100)
    bench.ref.tell(Demand(5))
    began = bench.clock.monotonic()
    while (due := bench.clock.settle(bench.ref) or 0) < began + timeout - 1e-9:
        bench.clock.step(bench.ref, due - bench.clock.monotonic())
    assert due == pytest.approx(began + timeout)
    assert bench.supervisor.of(StageEnded) == []
    bench.clock.advance(due - bench.clock.monotonic())
    ended = bench.ended()
    assert isinstance(ended.error, StreamIdleError)
    assert "in.jsonl.done" in str(ended.error)


def test_a_new_row_begins_the_idle_time_anew(bench: Bench) -> None:
    """M18: seconds without a new row, not seconds in all."""
    bench.write("a")
    bench.start(idle_timeout=1.0)
    bench.tell(Demand(1))
    for row in range(5):
        bench.tell(Demand(1))
        bench.clock.step(bench.ref, 0.9)
        bench.write(row)
        bench.tell_committed()
        assert bench.sent()[-1] == row
    bench.end()


def test_a_source_is_not_idle_while_the_run_is_paused(bench: Bench) -> None:
    """M18, M30: who feeds it may be paused, too; the idle time begins anew when the run goes on."""
    bench.write()
    bench.start(idle_timeout=1.0)
    bench.tell(Demand(1))
    bench.clock.step(bench.ref, 0.9)
    bench.tell(PauseCalls())
    for _ in range(20):
        bench.clock.step(bench.ref, 0.5)
    bench.tell(UnpauseCalls())
    bench.clock.step(bench.ref, 0.9)
    assert bench.supervisor.of(StageEnded) == []
    bench.ref.tell(Demand(1))
    bench.clock.advance(0.2)
    assert isinstance(bench.ended().error, StreamIdleError)


def test_cancel_is_heard_while_waiting(bench: Bench) -> None:
    """H6: no sleep makes a reader deaf."""
    bench.write()
    bench.start()
    bench.tell(Demand(1))
    bench.end()
    assert bench.node.messages == []


def test_a_source_that_was_shortened_fails_the_reader(bench: Bench) -> None:
    """M22, H7: by a report, not by silence."""
    bench.write(*range(5))
    bench.start([Segment(3, 6)])
    bench.source.storage.replace("in.jsonl", b"0\n", sync=False)
    bench.ref.tell(Demand(1))
    ended = bench.ended()
    assert ended.outcome is StageOutcome.FAILED
    assert isinstance(ended.error, StreamChangedError)


def test_an_unexpected_message_is_refused_without_showing_it(bench: Bench) -> None:
    """H15, H18: it may be a row."""
    bench.start()
    with pytest.raises(UnknownMessageError, match="dict") as caught:
        bench.ref.ask({"text": "secret"}, timeout=PATIENCE_SECONDS)
    assert "secret" not in str(caught.value) + bench.log.text
    bench.end()


def test_the_size_of_a_sealed_source_is_estimated_once_a_second(bench: Bench) -> None:
    """M27: from bytes; exactly at the end."""
    bench.write(*[0] * 100)
    bench.source.seal()
    bench.start()
    for _ in range(4):
        bench.tell(Demand(10))
        bench.clock.step(bench.ref, 0.4)
    assert bench.supervisor.of(SourceSized) == [SourceSized("n", 100, is_exact=False)] * 2
    bench.end()
