"""The reader: from a stream to a node, as many rows as were demanded, when they are there."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

from llm_datagen.actors.metrics import SourceMetrics
from llm_datagen.actors.stage import Recipient, Stage, refuse_unknown, tell
from llm_datagen.errors import StreamIdleError
from llm_datagen.messages import (
    Batch,
    Cancel,
    Committed,
    Demand,
    EndNoted,
    EndOfSource,
    EndSooner,
    EndsSooner,
    PauseCalls,
    ReaderMessage,
    Sealed,
    SourceQuiet,
    SourceSized,
    StageOutcome,
    UnpauseCalls,
)
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.streams.inputs.part import PartStream
from llm_datagen.streams.reader_writer import EOF_RETRIES, EOF_RETRY_SECONDS
from llm_datagen.streams.source_cursor import SourceCursor
from llm_datagen.streams.storage.base import Place

LOG_AGAIN_SECONDS = 5.0
"""A reader that starves again and again says so at most once in this time."""

ESTIMATE_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class _Retry:
    """Timer: check whether the source has grown."""


class ReaderActor(Stage):
    """Reads a stream for a node.

    Args:
        node_id: the node's id.
        supervisor: the supervisor.
        node: the node that is fed.
        cursor: the source, at the place where reading goes on; the reader closes it.
        retry_interval: seconds between two checks of a source that has nothing new.
        idle_timeout: seconds without a new row after which an unsealed source is an error; None waits forever.
        log: the platform log.
        inputs: how many streams are read.
    """

    def __init__(
        self,
        node_id: str,
        supervisor: Recipient,
        node: Recipient,
        cursor: SourceCursor,
        *,
        retry_interval: float,
        idle_timeout: float | None,
        log: PlatformLog,
        inputs: int = 1,
    ) -> None:
        super().__init__("reader", node_id, supervisor)
        self._node = node
        self._cursor = cursor
        self._retry_interval = retry_interval
        self._idle_timeout = idle_timeout
        self._log = log.bind(node_id=node_id, stream=cursor.stream.uri)
        self._supervisor = supervisor
        self._wanted = 0
        self._waiting_since: float | None = None
        self._metrics = SourceMetrics(node_id, supervisor)
        self._tries = 0
        self._last_logged = float("-inf")
        self._is_logged = False
        self._last_sized = float("-inf")
        self._is_paused = False
        self._inputs = inputs
        self._fed: set[Place | None] = set()  # those that nodes of the run write, who seal them themselves
        self._has_sealed = False  # whether one of these did
        self._has_warned = False
        self._unnoted = 0  # how many new ends are not in the run state yet

    def handle(self, message: ReaderMessage | _Retry) -> None:
        """Handle a message."""
        match message:
            case Demand(rows=rows):
                self._wanted = rows
                self._serve(looks=self._must_look())
            case Committed(limit=limit, place=place):
                self._fed.add(place)
                self._cursor.extend(limit, place)
                self._serve(looks=self._must_look())
            case Sealed():
                self._has_sealed = True
                self._serve()
            case _Retry():
                self._serve()
            case EndSooner():
                self._end_sooner(message)
            case EndNoted():
                self._unnoted -= 1
                self._serve()
            case PauseCalls():
                self._is_paused = True
            case UnpauseCalls():
                self._is_paused = False
                if self._waiting_since is not None:
                    self._waiting_since = self.clock.monotonic()
            case Cancel():
                self.end(StageOutcome.STOPPED)
            case _:
                refuse_unknown(message)

    def drop(self, message: Any) -> None:
        """Answer that it is too late to end sooner."""
        if isinstance(message, EndSooner):
            message.answer.set_result(False)

    def release(self) -> None:
        """Close the source."""
        self._stop_waiting()
        self._metrics.tell()
        self._cursor.close()

    def _must_look(self) -> bool:
        """Return whether there may be news that no node of the run tells: rows of another program, or an end."""
        return self._has_sealed or len(self._fed) < self._inputs

    def _serve(self, *, looks: bool = True) -> None:
        """Send the rows that are wanted, if there are any; else wait.

        Args:
            looks: whether the files are looked at for what may be read, by reading a commit log. There is no need
                where a node of the run tells of each commit.
        """
        if not self._wanted:
            return
        block = self._cursor.read(self._wanted) if looks or self._cursor.has_more else None
        if block is not None:
            self._wanted = 0
            self._stop_waiting()
            tell(self._node, Batch(len(block.records), block))
            self._estimate()
        elif self._cursor.ended():
            if self._unnoted:
                return
            self._stop_waiting()
            tell(self._supervisor, SourceSized(self.node_id, self._cursor.start, is_exact=True))
            tell(self._node, EndOfSource(self._cursor.start, self._cursor.limit))
            self.end(StageOutcome.FINISHED)
        elif looks or self._waiting_since is None:  # else it waits already: its next look is not put off
            self._wait()

    def _end_sooner(self, message: EndSooner) -> None:
        """End before a row of a part, if it was not read. Not at once: nothing may be sealed before that is noted."""
        stream = self._cursor.stream
        if not isinstance(stream, PartStream) or not stream.shorten((message.row, message.at)):
            message.answer.set_result(False)
            return
        self._unnoted += 1
        tell(self._supervisor, SourceSized(self.node_id, stream.rows, is_exact=True))
        told = EndsSooner(self.node_id, message.row, message.at, message.answer)
        if not tell(self._supervisor, told):
            message.answer.set_result(False)

    def _estimate(self) -> None:
        """Report, once per second, about how many rows a source has whose end is known."""
        now = self.clock.monotonic()
        if now - self._last_sized >= ESTIMATE_SECONDS and (total := self._cursor.estimate()) is not None:
            self._last_sized = now
            tell(self._supervisor, SourceSized(self.node_id, total, is_exact=False))

    # Waiting for a source that has nothing new: five quick checks, then slow ones.

    def _wait(self) -> None:
        now = self.clock.monotonic()
        if self._waiting_since is None or self._is_paused:  # while the run is paused, who feeds the source may be, too
            self._waiting_since = now
            self._tries = 0
            self._is_logged = now - self._last_logged >= LOG_AGAIN_SECONDS
        waited = now - self._waiting_since
        if self._idle_timeout is not None and waited >= self._idle_timeout:
            raise StreamIdleError(
                f"node {self.node_id}: {self._cursor.stream.path} gave nothing new for {waited:.1f} s and is not "
                f"sealed ({self._cursor.stream.done_path} is missing); seal() it if it has ended"
            )
        due = self._waiting_since + self._tries * EOF_RETRY_SECONDS
        if self._tries <= EOF_RETRIES and now >= due:
            self._log_retry(waited)
            self._tries += 1
        pause = EOF_RETRY_SECONDS if self._tries <= EOF_RETRIES else self._retry_interval
        if self._idle_timeout is not None:
            pause = min(pause, self._idle_timeout - waited)
        self.mailbox.wake_after(pause, _Retry())

    def _log_retry(self, waited: float) -> None:
        if not self._is_logged or self._tries == 0:
            return
        self._last_logged = self.clock.monotonic()
        self._log.info(events.EOF_RETRY, attempt=self._tries, waited_s=round(waited, 3), offset=self._cursor.offset)
        if self._tries == EOF_RETRIES:
            self._log.warning(
                events.EOF_WAITING,
                waited_s=round(waited, 3),
                offset=self._cursor.offset,
                hint="the input is not sealed; call seal() on it if it has ended",
            )

            self._warn()

    def _warn(self) -> None:
        """Warn on the console, too, once: a file that is never sealed is waited for without end."""
        if self._fed or self._has_warned:
            return
        self._has_warned = True
        source = self._cursor.stream
        text = (
            f"node {self.node_id} waits for more rows of {source.path}, which is not sealed ({source.done_path} is "
            "missing); seal() it if it has ended, or give follow_input=False to take it as it is"
        )
        logging.getLogger("llm_datagen").warning(text)
        tell(self._supervisor, SourceQuiet(self.node_id, text))

    def _stop_waiting(self) -> None:
        if self._waiting_since is not None:
            now = self.clock.monotonic()
            self._metrics.add(now - self._waiting_since, now)
        self._waiting_since = None
        self.mailbox.cancel_wake()
