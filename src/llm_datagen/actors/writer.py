"""The writer: from the workers to a stream. It alone decides when rows are done."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import pykka

from llm_datagen.actors.backpressure_meter import BackpressureMeter
from llm_datagen.actors.lead_reports import LeadReports
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.actors.target_gate import TargetGate
from llm_datagen.config import WriterConfig
from llm_datagen.errors import StreamCorruptError
from llm_datagen.executors.id_ranges import merged_marks
from llm_datagen.executors.joined_results import joined
from llm_datagen.messages import (
    Attach,
    Committed,
    Drain,
    Dropped,
    Finish,
    Load,
    RowsCommitted,
    Sealed,
    StageOutcome,
    TargetMet,
    TellLead,
    Write,
    WriterMessage,
    Writes,
)
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.streams import Sink, Source
from llm_datagen.streams.coverage import FromRowZero
from llm_datagen.streams.position import END
from llm_datagen.streams.spill import Spill

REPORT_SECONDS = 0.1
"""How often progress is reported to the supervisor, at most."""

FLUSH_BYTES = 4 * 1024 * 1024
"""Results are flushed when they take so many bytes, however few rows they are."""

QUEUE_BYTES = 16 * 1024 * 1024
"""Results that wait for the writer take at most so many bytes, however few rows they are (but for a single one)."""


@dataclass(frozen=True, slots=True)
class _FlushNow:
    """Timer: the oldest row has waited long enough."""


@dataclass(frozen=True, slots=True)
class _ReportNow:
    """Timer: there is progress that was not reported."""


class WriterActor(Stage):
    """Writes the results of a node to its stream.

    A flush (one write of data, one commit) is made when `flush_batch_size` rows (or `FLUSH_BYTES`) wait, when the
    oldest has waited for `flush_interval`, and at once when no further write is waiting. So rows that come slowly are
    on disk at once, and rows that come fast share a flush. In an object store, where each flush costs two requests,
    rows that nobody waits for stay for `flush_interval`.

    Args:
        node_id: the node's id.
        supervisor: the supervisor.
        sink: the stream, open and recovered; the writer closes it.
        config: bounds and intervals.
        seal: whether to seal the stream on `Finish`, or when the target is met.
        target: rows that the stream gets, exactly; None: as many as there are.
        log: the platform log.
        source: what the rows come of; None: it begins with row 0, as all but parts do.
    """

    def __init__(
        self,
        node_id: str,
        supervisor: Recipient,
        sink: Sink,
        config: WriterConfig,
        *,
        seal: bool,
        log: PlatformLog,
        source: Source | None = None,
        target: int | None = None,
    ) -> None:
        super().__init__("writer", node_id, supervisor)
        self._supervisor = supervisor
        self._sink = sink
        self._source = FromRowZero() if source is None else source
        self._config = config
        self._seal = seal
        self._gate = TargetGate(target, sink)
        self._readers: list[Recipient] = []
        self._lead_reports = LeadReports(sink)
        self._waiting: list[Write] = []
        self._waiting_rows = 0
        self._waiting_load = Load(0, 0)
        self._last_report = float("-inf")
        self._is_report_due = False
        self._meter = BackpressureMeter(log.bind(node_id=node_id, stream=sink.stream.uri), config.queue_size)
        self.mailbox.bound(config.queue_size, self._on_wait, size=QUEUE_BYTES)

    def begin(self) -> None:
        """Tell of a target that an earlier run has met."""
        if self._gate.is_met():
            tell(self._supervisor, TargetMet(self.node_id))

    def handle(self, message: WriterMessage | _FlushNow | _ReportNow) -> None:
        """Handle a message."""
        match message:
            case Write():
                self._take(message)
            case Writes(writes=writes):
                for number, write in enumerate(writes, start=1):
                    self._take(write, is_last=number == len(writes))
            case _FlushNow():
                self._flush()
            case _ReportNow():
                self._is_report_due = False
                self._report_progress()
            case Attach(reader=reader):
                self._readers.append(reader)
                tell(reader, Committed(self._sink.position.bytes, self._sink.stream.place))
            case TellLead():
                self._lead_reports.add(message)
            case Finish(total=total, size=size):
                self._finish(total, size)
            case Dropped(rows=rows):
                self._gate.count_beyond(rows)
            case Drain():
                self._flush()
                if self._gate.is_met():
                    self._seal_and_end()
                else:
                    self.end(StageOutcome.STOPPED)
            case _:
                refuse_unknown(message)

    def interrupted(self) -> None:
        """End without what waits to be committed: a resume does it again."""
        if self._waiting:
            logging.getLogger("llm_datagen").warning(
                f"node {self.node_id}: the run was cancelled, and the store has not taken the last "
                f"{self._waiting_rows} rows in time; a resume does them again"
            )
        super().interrupted()

    def drop(self, message: Any) -> None:
        """Fail the acknowledgement of a write that will never be committed."""
        writes = (message,) if isinstance(message, Write) else message.writes if isinstance(message, Writes) else ()
        for write in writes:
            write.result.close()
            _acknowledge(write, pykka.ActorDeadError("the writer ended before the rows were committed"))

    def release(self) -> None:
        """Close the stream, and fail the acknowledgements of writes that will not be committed."""
        for write in self._waiting:
            self.drop(write)
        self._sink.close()
        self._lead_reports.tell(has_ended=True)
        self._report_progress()

    def _take(self, write: Write, *, is_last: bool = True) -> None:
        """Take a write; `is_last`: no other one came with it."""
        load = write.load
        admitted = self._gate.admit(write, self._waiting_rows)
        if admitted is None:
            write.result.close()
            _acknowledge(write)
            self.mailbox.release(*load)
            return
        write = admitted
        is_alone = write.result.is_end or isinstance(write.result.data, Spill)
        if is_alone:  # it is not joined with others
            self._flush()
        if not self._waiting:
            self.mailbox.wake_after(self._config.flush_interval, _FlushNow(), key="flush")
        self._waiting.append(write)
        self._waiting_rows += write.result.rows
        self._waiting_load = Load(self._waiting_load.rows + load.rows, self._waiting_load.bytes + load.bytes)
        is_large = self._waiting_load.bytes >= FLUSH_BYTES or is_alone
        is_met = self._gate.is_met(self._waiting_rows)
        is_due = is_large or is_met or self._waiting_rows >= self._config.flush_batch_size
        if is_due or (is_last and self._may_flush_now(write)):
            self._flush()
        if is_met:
            self._report_progress()
            tell(self._supervisor, TargetMet(self.node_id))

    def _may_flush_now(self, write: Write) -> bool:
        """Return whether nothing would be gained by waiting: no other write is there, and a flush costs little."""
        if self.mailbox.has_data:
            return False
        return self._sink.stream.flushes_at_once or write.ack is not None

    def _flush(self) -> None:
        self.mailbox.cancel_wake("flush")
        if not self._waiting:
            return
        writes = self._waiting
        whole = joined([write.result for write in writes])
        self._sink.append(
            whole.data,
            rows=whole.rows,
            spans=[] if whole.is_end else [write.result.span for write in writes],
            filtered=whole.filtered,
            rejected=whole.rejected,
            rejections=whole.rejections,
            skipped=whole.skipped,
            dead=whole.dead,
            dead_letters=whole.dead_letters,
            ids=whole.ids,
            marks=self._marks_with(whole),
            state=whole.state,
        )
        for write in writes:
            write.result.close()
            _acknowledge(write)
        self._waiting = []
        self.mailbox.release(*self._waiting_load)
        self._waiting_rows, self._waiting_load = 0, Load(0, 0)
        for reader in self._readers:
            tell(reader, Committed(self._sink.position.bytes, self._sink.stream.place))
        self._lead_reports.tell()
        self._progressed()

    def _marks_with(self, whole: BlockResult) -> dict[str, Any]:
        marks = self._sink.position.marks
        if whole.is_end:
            marks = {**marks, END: [whole.rows, whole.span.offset_end]}
        elif whole.marks:
            marks = merged_marks(marks, whole.marks)
        return self._gate.added_to(marks, whole.rows)

    def _finish(self, total: int, source_size: int) -> None:
        self._flush()
        if self._gate.is_met():
            self._seal_and_end(source_size)
            return
        coverage = self._sink.position.coverage
        if coverage.rows != total or self._source.holes(coverage):  # S2: never seal what is not complete
            raise StreamCorruptError(
                f"{self._sink.stream.uri}: {coverage.rows} of {total} source rows are covered at the end of the "
                "source, so it is not sealed; this is a bug"
            )
        self._seal_and_end(source_size)

    def _seal_and_end(self, source_size: int | None = None) -> None:
        if self._seal:
            self._sink.seal(source_size=source_size, marks=self._gate.added_to(self._sink.position.marks))
        for reader in self._readers:
            tell(reader, Sealed())
        self.end(StageOutcome.FINISHED)

    # Progress, off the data path: at most ten reports per second, and one at the end.

    def _progressed(self) -> None:
        if self._is_report_due:
            return
        since = self.clock.monotonic() - self._last_report
        if since >= REPORT_SECONDS:
            self._report_progress()
        else:
            self._is_report_due = True
            self.mailbox.wake_after(REPORT_SECONDS - since, _ReportNow(), key="report")

    def _report_progress(self) -> None:
        self._last_report = self.clock.monotonic()
        position = self._sink.position
        gap = self._source.gaps(position.coverage)[0]
        tell(
            self._supervisor,
            RowsCommitted(
                node_id=self.node_id,
                done=position.coverage.rows,
                rows_out=position.rows,
                bytes_out=position.bytes,
                filtered=position.filtered,
                rejected=position.rejected,
                skipped=position.skipped,
                dead=position.dead,
                resume_row=gap.start,
                resume_offset=gap.offset,
                done_beyond=position.coverage.rows - (gap.start - self._source.begins_at[0]),
                holes=self._source.holes(position.coverage),
                beyond=self._gate.losses.beyond,
                cut=self._gate.losses.cut,
            ),
        )

    def _on_wait(self, waited: float | None, queued: int) -> None:
        self._meter.note(waited, queued, self.clock.monotonic())


def _acknowledge(write: Write, error: Exception | None = None) -> None:
    """Resolve the acknowledgement of a write, if somebody waits for it (and has not given up)."""
    if write.ack is not None and write.ack.set_running_or_notify_cancel():
        if error is None:
            write.ack.set_result(None)
        else:
            write.ack.set_exception(error)
