"""A worker process, as the engine sees it. What runs in it is `worker`."""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import replace
from typing import Any

from llm_datagen.errors import WorkerDiedError
from llm_datagen.executors.error_allowance import ErrorAllowance
from llm_datagen.executors.process.channel import Channel
from llm_datagen.executors.process.crash_isolation import failed_items
from llm_datagen.executors.process.pickling import pack_plain, unpack_error
from llm_datagen.executors.process.setup import WorkerSetup
from llm_datagen.executors.process.spawn import PATIENCE_SECONDS, how_it_ended, start
from llm_datagen.executors.processing import Processing
from llm_datagen.messages.block_result import BlockResult, OperatorFailure
from llm_datagen.streams import Block
from llm_datagen.streams.block import decode_own

POLL_SECONDS = 0.05
"""How often a thread that waits for a process checks for a cancel, and whether the process is alive."""


class WorkerProcess:
    """A process that does one task at a time. One thread at a time may use it; any thread may `kill` it.

    It is killed by the system when the thread that made it ends: that thread must outlive it.

    Args:
        setup: what it needs to know.
        processing: whose context and streams it is given.
    """

    def __init__(self, setup: WorkerSetup, processing: Processing) -> None:
        self._setup = setup
        self._processing = processing
        self._decode: Any = None
        self._is_told = False
        self._failed = 0  # rows of the task, of those that may fail
        self._channel, theirs = Channel.pipes()
        try:
            self._process = start("llm_datagen.executors.process.worker", theirs)
        except BaseException:
            self._channel.close()
            raise

    def get_ready(self) -> None:
        """Wait until it has loaded the operator and called its `setup`.

        Raises:
            WorkerDiedError: when it has died of that.
            BaseException: what that raised.
        """
        self._send(self._setup)
        match self._answer("while the operator was loaded, or in its setup"):
            case "failed", record, packed:
                raise unpack_error(packed, record)

    def run(self, block: Block) -> BlockResult:
        """Return what becomes of a block.

        Raises:
            WorkerDiedError: when the process has died meanwhile.
        """
        decode, self._decode = self._decode, block.decode
        is_new = decode is not block.decode
        records: list[bytes] | bytes = block.records
        if block.decode is decode_own:
            records = pack_plain(records)  # with a decoder each
        bare = (records, block.start, block.offset, block.offset_end, block.ends)
        self._send(("task", bare, pack_plain(block.decode) if is_new else None))
        self._failed = 0
        try:
            _, result, is_unfinished, failures = self._answer("in a call")
        except WorkerDiedError:
            if isinstance(self._processing.allowance, ErrorAllowance):
                self._processing.allowance.give_back(self._failed)
            raise
        return self._completed(result, block, failures, is_unfinished=is_unfinished)

    def end(self) -> None:
        """Tell it that there is nothing more to do; its `teardown` runs."""
        with contextlib.suppress(OSError):
            self._channel.send(("end",))

    def wait_for_end(self) -> None:
        """Wait for its end, after `end`.

        Raises:
            BaseException: what its `teardown` raised.
        """
        _, record, packed = self._answer("in its teardown")
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(PATIENCE_SECONDS)
        if record is not None:
            raise unpack_error(packed, record)

    def is_alive(self) -> bool:
        """Return whether the process lives."""
        return self._process.poll() is None

    def kill(self) -> None:
        """Kill the process. Whoever waits for it gets a WorkerDiedError."""
        self._process.kill()

    def close(self) -> None:
        """Leave nothing of it: neither process nor pipes."""
        self._process.kill()
        self._process.wait()
        self._channel.close()

    def _send(self, message: Any) -> None:
        with contextlib.suppress(BrokenPipeError):  # it has died: `_answer` will say so
            self._channel.send(message)

    def _answer(self, when: str) -> Any:
        """Return the next answer; do meanwhile what the process asks for."""
        ctx = self._processing.ctx
        is_paused = False
        while True:
            if not self._is_told and ctx.is_cancelled():
                self._is_told = True
                self._send(("cancel",))
            if is_paused != self._processing.gate.is_paused:
                is_paused = not is_paused
                self._send(("pause", is_paused))  # with the next task it goes on anyway
            if not self._channel.is_readable(POLL_SECONDS):
                # Not left to the end of the pipe: a process that the operator has forked may hold it open.
                if self.is_alive() or self._channel.is_readable(0):
                    continue
                raise self._death(when)
            try:
                message = self._channel.receive()
            except EOFError:
                raise self._death(when) from None
            match message:
                case "usage", usage:
                    ctx.report_usage(usage)
                case "log", text, fields:
                    ctx.log(text, **fields)
                case "row_error", text, offset:
                    self._send(("answer", self._row_error(text, offset)))
                case "may_fail", rows, settled:
                    self._send(("answer", self._may_fail(rows, settled)))
                case "first_row", row:
                    with contextlib.suppress(Exception):  # the process gets the same error, for its row
                        self._processing.encoder.encode(row)
                    self._send(("answer", self._processing.encoder.preamble()))
                case answer:
                    return answer

    def _may_fail(self, rows: int, settled: int) -> bool:
        may_fail = self._processing.survives(rows, settled)
        if may_fail:
            self._failed += rows
        return may_fail

    def _row_error(self, text: str, offset: int) -> str:
        try:
            return str(self._processing.source.row_error(ValueError(text), offset))
        except Exception as error:  # noqa: BLE001 - the source has gone meanwhile
            return f"this is not a row: {text} (and which line it is cannot be said: {error})"

    def _completed(
        self, result: BlockResult, block: Block, failures: list[tuple[Any, ...]], *, is_unfinished: bool
    ) -> BlockResult:
        """Return a result with what was not sent: the rest, and the items that failed."""
        if is_unfinished:
            result.rest = block.split_at(result.span.end - block.start)[1]
        known = [self._failure(block, *failure) for failure in failures]
        if result.failure is not None:
            result.failure = known.pop()
        result.survived = tuple(known)
        return result

    def _failure(self, block: Block, told: OperatorFailure, packed: bytes | None, is_called: bool) -> OperatorFailure:
        first = told.row - block.start
        items = failed_items(self._processing, block, range(first, first + told.rows)) if is_called else []
        return replace(told, error=unpack_error(packed, told.record), items=items)

    def _death(self, when: str) -> WorkerDiedError:
        how = how_it_ended(self._process)
        return WorkerDiedError(f"the worker process of {self._processing.ctx.node_id} {how}, {when}")
