"""The writing end of a stream: append with commit, recovery, seal."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

from llm_datagen.config import Fsync, check_choice
from llm_datagen.errors import (
    StreamChangedError,
    StreamCorruptError,
    StreamSealedError,
)
from llm_datagen.streams.beside_file import BesideFile
from llm_datagen.streams.commit_log import CommitLog
from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.formats.base import Encoder
from llm_datagen.streams.ids import Id
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.position import REJECTED, STATE, Position
from llm_datagen.streams.recovery import check_recoverable
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.sidecars import check_neighbours
from llm_datagen.streams.spill import Packed, Spill
from llm_datagen.streams.storage.base import AppendFile, GrowingFile
from llm_datagen.streams.storage.local import LocalStorage

if TYPE_CHECKING:
    from llm_datagen.streams.state.changes import StateChanges
    from llm_datagen.streams.state.store import StateStore


class CommitMarks(Protocol):
    """What adds to the marks of each commit."""

    def added_to(self, marks: dict[str, Any], coverage: Coverage) -> dict[str, Any]:
        """Return the marks of a commit after which `coverage` is done."""

    def close(self) -> None:
        """Close what is open. May be called more than once."""


_HEAD_BYTES = 1 << 20
_AHEAD_BYTES = 8 << 20


class Sink:
    """A stream open for writing, recovered to its last valid commit. One thread at a time may use it.

    Guarantees (S1, S2, S3): data is on its way to the disk before the commit that speaks of it; a stream is never
    sealed before its data is there; opening it again after a crash cuts it back to the last valid commit.

    Args:
        stream: the stream.
        source: the URI of what it is made from; an existing stream must have been made from the same.
        fsync: when data is put on the medium.
        keeps_state: whether the operator that makes the rows keeps state with them.

    Attributes:
        position: where the stream stands: what is committed.
        state: the state, recovered to the last commit; None unless it keeps one.

    Raises:
        StreamSealedError: when the stream has ended.
        StreamExistsError: when there are rows that no commit log speaks of.
        StreamChangedError: when the file is shorter than its log says, or made from another source.
        StreamCorruptError: when its bytes do not have the right checksum, or the log cannot be read.
        StreamBusyError: when another writer has it open.
    """

    def __init__(
        self, stream: StreamFiles, *, source: str = "", fsync: Fsync = "close", keeps_state: bool = False
    ) -> None:
        check_choice("fsync", fsync, Fsync)
        self.stream = stream
        self._refuse_sealed()
        check_neighbours(stream)
        self._source = source
        self._fsync = fsync
        self._broken = False
        self._begun = 0  # bytes that are on the medium, or on their way to it
        self.state: StateStore | None = None
        self.tails: CommitMarks | None = None
        """What adds the tails of the source to each commit; set by whoever reads a source as it is."""
        if stream.storage.size(stream.path) is None:  # what is refused makes no file
            check_recoverable(stream, source)
        elif isinstance(stream.storage, LocalStorage):
            stream.storage.own(stream.path)  # an earlier version of the run may have it, too
        # The log is opened first: where it lies in a storage that keeps nobody out, it notices who begins after that.
        self._log = CommitLog(stream.storage, stream.commits_path, source, sync=fsync == "flush")
        self._dead_letters = BesideFile(stream, stream.errors_path, "dead letters", self._log)
        self._rejected = BesideFile(stream, stream.rejected_path, "rejected rows", self._log)
        self._file: AppendFile | None = stream.storage.open_append(stream.path)
        try:
            self._refuse_sealed()  # again, now that nobody else can seal it
            self.position = check_recoverable(stream, source)
            self._begun = self.position.bytes
            if keeps_state:
                from llm_datagen.streams.state.store import StateStore

                self.state = StateStore(stream, self.position.marks.get(STATE))
            self._log.start(self.position)
            if isinstance(self._file, GrowingFile):
                self._refuse_sealed()  # whoever has sealed it has removed its log, so that a new one could be begun
            self._cut()  # from here on, it is this writer's
            self.encoder: Encoder = stream.codec.encoder(self._head())
        except BaseException:
            if self.state is not None:
                self.state.close()
            self._file.close()
            raise

    def _refuse_sealed(self) -> None:
        stream = self.stream
        if stream.is_sealed():
            raise StreamSealedError(f"{stream.uri} has ended ({stream.done_path} is there); unseal() it to write more")

    def _cut(self) -> None:
        """Cut the data and what grows beside it to what was committed: the rest is the torn tail of a flush."""
        stream, length = self.stream, self.position.bytes
        assert self._file is not None
        if isinstance(self._file, GrowingFile):  # there, nothing is removed yet: see `BesideFile`
            self._file.take(length, self._log.confirm)
            return
        if (stream.storage.size(stream.path) or 0) > length:
            self._file.truncate(length)
        self._dead_letters.cut(self.position.errors_bytes)
        self._rejected.cut(self.position.rejected_bytes)

    def _head(self) -> bytes:
        if not self.position.bytes:
            return b""
        file = self.stream.open_data()
        try:
            return file.read_at(0, _HEAD_BYTES)
        finally:
            file.close()

    def append(
        self,
        data: bytes | Spill | Packed,
        *,
        rows: int,
        spans: Sequence[Span] = (),
        filtered: int = 0,
        rejected: int = 0,
        rejections: bytes = b"",
        skipped: int = 0,
        dead: int = 0,
        dead_letters: bytes = b"",
        ids: tuple[Id | None, Id | None] = (None, None),
        marks: dict[str, Any] | None = None,
        state: StateChanges | None = None,
    ) -> None:
        """Write `data`, then commit it.

        Args:
            data: encoded rows; a spill file is written piece by piece, so that it is never all in memory; so is what is
                packed already.
            rows: how many they are.
            spans: the source rows that are done with this.
            filtered: how many of the source rows gave no row.
            rejected: for how many of these the operator gave a reason.
            rejections: these rows, encoded, if they are kept.
            skipped: how many of them failed and are left out.
            dead: how many of them failed and are dead-lettered.
            dead_letters: their dead letters, encoded.
            ids: the ids of the first and the last row in `data`.
            marks: what to remember, in place of what was remembered before.
            state: what the source rows have changed of the state.

        Raises:
            OSError: when the disk fails; what was not committed will be cut off when the stream is opened again.
            StreamCorruptError: when a source row is covered already.
        """
        if self._broken or self._file is None:
            raise StreamSealedError(f"{self.stream.uri} is closed, or failed before; open it again to recover it")
        before = self.position
        coverage = before.coverage.copy()
        for span in spans:
            if not coverage.add(span):
                raise StreamCorruptError(
                    f"{self.stream.uri}: source rows {span.start} to {span.end} were delivered twice; this is a bug"
                )
        position = replace(
            before,
            rows=before.rows + rows,
            filtered=before.filtered + filtered,
            skipped=before.skipped + skipped,
            dead=before.dead + dead,
            errors_bytes=before.errors_bytes + len(dead_letters),
            first_id=ids[0] if before.first_id is None else before.first_id,
            last_id=before.last_id if ids[1] is None else ids[1],
            marks=before.marks if marks is None else marks,
            coverage=coverage,
        )
        if rejected or REJECTED in before.marks:
            kept = before.rejected_bytes + len(rejections)
            position.marks = {**position.marks, REJECTED: [before.rejected + rejected, kept]}
        if self.tails is not None:
            position.marks = self.tails.added_to(position.marks, coverage)
        self._broken = True  # until both writes have come back
        if data:
            position.last_bytes, position.last_crc = before.bytes, before.crc
            for piece in self._packed(data, is_first=not before.bytes):
                self._write_packed(piece, position)
            if self._fsync == "flush":
                self._file.sync()
        if dead_letters:
            self._dead_letters.append(dead_letters, before.errors_bytes)
            if self._fsync == "flush":
                self._dead_letters.sync(position.errors_bytes)
        if rejections:
            self._rejected.append(rejections, before.rejected_bytes)
            if self._fsync == "flush":
                self._rejected.sync(position.rejected_bytes)
        if self.state is not None:
            if state is not None:
                self.state.append(state, sync=self._fsync == "flush")
            position.marks = {**position.marks, STATE: self.state.mark}
        self._log.append(position, spans)
        self.position = position  # what is said of the stream is never more than what is committed
        self._broken = False
        if self.state is not None and state is not None:
            self._state_committed(self.state, state)

    def _state_committed(self, store: StateStore, changes: StateChanges) -> None:
        """Tell the state what was committed; and, now and then, that it is on the medium: then it may leave memory."""
        store.committed(changes)
        if self._fsync == "close":
            if not store.is_sync_due:
                return
            assert self._file is not None
            self._file.sync()
            store.sync()
            self._log.sync()
        store.synced()

    def _packed(self, data: bytes | Spill | Packed, *, is_first: bool) -> Iterator[bytes]:
        """Yield the bytes as they are to lie on disk."""
        if not isinstance(data, bytes | Spill):
            yield from data.packed_pieces()
            return
        begin = self.encoder.preamble() if is_first else b""
        for piece in chain((begin,), (data,) if isinstance(data, bytes) else data):
            if piece:
                yield self.stream.pack(piece)

    def _write_packed(self, data: bytes, position: Position) -> None:
        assert self._file is not None
        if data:
            self._file.append(data)
            position.bytes += len(data)
            self._sync_by_and_by(position.bytes)
            position.crc = zlib.crc32(data, position.crc)

    def _sync_by_and_by(self, size: int) -> None:
        """Spare the end of a long stream a long wait: begin to put it on the medium while it is written."""
        if self._fsync == "close" and self._file is not None and size - self._begun >= _AHEAD_BYTES:
            self._file.begin_sync(self._begun, size - self._begun)
            self._begun = size

    def seal(
        self, *, complete: bool = True, source_size: int | None = None, marks: dict[str, Any] | None = None
    ) -> Seal:
        """End the stream: data, then (by `fsync`) onto the medium, then the seal, then the log goes.

        Args:
            complete: whether all that there was to write is written.
            source_size: bytes that the source had when it ended, to notice later that it has grown.
            marks: what to remember, in place of what was remembered before.
        """
        if self._broken or self._file is None:
            raise StreamSealedError(f"{self.stream.uri} is closed, or failed before; it cannot be sealed")
        found = None if isinstance(self._file, GrowingFile) else self.stream.storage.size(self.stream.path)
        if not isinstance(self._file, GrowingFile) and found != self.position.bytes:  # that one looks when it ends
            what = "is gone" if found is None else f"has {found} bytes"
            raise StreamChangedError(
                f"{self.stream.path} {what}, and {self.position.bytes} were written: somebody else has changed or "
                "moved it meanwhile, so it is not sealed; restore it, or start afresh with if_exists='overwrite'"
            )
        if not self.position.bytes:
            self._write_packed(self.stream.pack(b""), self.position)  # no rows, packed, may be some bytes
        if self._fsync != "never":
            self._file.sync()
            self._dead_letters.sync(self.position.errors_bytes)
            self._rejected.sync(self.position.rejected_bytes)
            if self.state is not None:
                self.state.sync()
        if isinstance(self._file, GrowingFile):
            self._file.finish(self.position.crc)
        self._dead_letters.finish(self.position.errors_bytes)
        self._rejected.finish(self.position.rejected_bytes)
        self._log.confirm()
        if isinstance(self._file, GrowingFile):  # what is there was never committed
            for path, size in (
                (self.stream.errors_path, self.position.errors_bytes),
                (self.stream.rejected_path, self.position.rejected_bytes),
            ):
                if not size:
                    self.stream.storage.remove(path)
        self._log.close()
        position = self.position if marks is None else replace(self.position, marks=marks)
        seal = Seal.of(position, self._source, complete=complete, source_size=source_size)
        self.stream.write_seal(seal, sync=self._fsync != "never")
        self.close()  # last: no other writer may have the stream before it is sealed
        return seal

    def close(self) -> None:
        """Close the files, without a seal. May be called more than once."""
        self._log.close()
        if self.state is not None:
            self.state.close()
        if self.tails is not None:
            self.tails.close()
        self._dead_letters.close()
        self._rejected.close()
        if self._file is not None:
            self._file.close()
            self._file = None
