"""Streams: durable, append-only logs of rows with a seal."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import copy
from typing import Any, Self
from warnings import warn

from llm_datagen.config import DataConfig, Fsync
from llm_datagen.errors import StreamChangedError, StreamCorruptError, StreamMissingError
from llm_datagen.streams.checksums import is_unaltered
from llm_datagen.streams.commit_log import CommitLog, read_log
from llm_datagen.streams.coverage import START, Coverage, FromRowZero, Segment, Span
from llm_datagen.streams.cursor import Cursor
from llm_datagen.streams.fingerprint import Fingerprint
from llm_datagen.streams.ids import Id
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.read_limit import ReadLimit, readable
from llm_datagen.streams.reader_writer import EOF_RETRY_SECONDS, StreamReader, StreamWriter
from llm_datagen.streams.recovery import check_data, position_of
from llm_datagen.streams.resume_point import check_resumable
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.sink import Sink
from llm_datagen.streams.source_column import Origin, SourceColumnCursor, name_of
from llm_datagen.streams.source_cursor import SourceCursor
from llm_datagen.streams.storage.base import KeepsTimes, Place, Storage

_BLOCK_ROWS = 4096
_DEFAULTS = DataConfig()  # made once: a set of files asks for each of them


class Stream(StreamFiles, FromRowZero):
    """A stream: its files, and what is done with them.

    Subclasses say where it lies (`path`, `storage`) and how it is written (`codec`).
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "disk" in cls.__dict__:
            warn(f"{cls.__name__}.disk is called `storage` now; rename it", DeprecationWarning, stacklevel=2)
            cls.storage = cls.__dict__["disk"]

    @property
    def disk(self) -> Storage:
        """The name of `storage` in version 0.1, for one release."""
        warn("Stream.disk is called `storage` now", DeprecationWarning, stacklevel=2)
        return self.storage

    @disk.setter
    def disk(self, storage: Storage) -> None:
        warn("Stream.disk is called `storage` now", DeprecationWarning, stacklevel=2)
        self.storage = storage

    def with_data(self, data: DataConfig) -> Self:
        """Return the stream as it is read and written by other settings than the defaults."""
        of_codec = getattr(self.codec, "with_data", None)
        if data == _DEFAULTS or of_codec is None:
            return self
        stream = copy(self)
        stream.codec = of_codec(data)
        return stream

    source_column: str | None = None
    """The column that says where each row comes from, as `{"file": name, "row": number from 0}`; None: none does."""

    def with_source(self, column: str | None) -> Self:
        """Return the stream, read with a column that says where each row comes from."""
        if column == self.source_column:
            return self
        stream = copy(self)
        stream.source_column = column
        return stream

    def origin(self, offset: int) -> Origin:
        """Return the file in which the row at `offset` lies: its own."""
        return Origin(name_of(self.shown), 0)

    def rows_before(self, offset: int) -> int:
        """Return how many rows begin before `offset`. They are read, undecoded."""
        cursor = self.open_cursor(follow=False)
        try:
            while (block := cursor.read(_BLOCK_ROWS)) is not None:
                if block.offset_end >= offset:
                    return block.start + block.rows_before(offset)
            return cursor.start
        finally:
            cursor.close()

    def pin(self, known: Any) -> None:
        """Read what a run has noted of it (`fingerprint`), where that may no longer be what is there now."""

    def anchor(self) -> None:
        """Make its path absolute: from here on, the program may change its working directory."""

    @property
    def places(self) -> list[Place]:
        """The places of the streams that are read when this one is: its own."""
        return [self.place]

    def parts(self, coverage: Coverage) -> list[tuple[Stream, Coverage]]:
        """Return the streams that are read when this one is, and what of each is covered by what is covered of it."""
        return [(self, coverage)]

    @property
    def data(self) -> Stream:
        """The stream whose data is read when this one is: itself, or the one that it is made of."""
        return self

    def read_as_is(self, *, follow: bool) -> list[Stream]:
        """Return those of these streams that are not followed until they are sealed."""
        return [] if follow else [self]

    is_foreign: bool = False
    """Whether only other programs make it, so that it is there or not, and never unfinished."""

    @property
    def is_endless(self) -> bool:
        """Whether it has no last row: its rows are computed, and whoever reads it stops by himself."""
        return False

    has_tails: bool = True
    """Whether commits hold checksums of what was read of it last; see `Tails`."""

    has_seek_marks: bool = False
    """Whether commits hold what helps to find a row again; see `seek_mark`."""

    def size_after(self, done: Coverage) -> int:
        """Return the bytes that the stream has, or had where these rows were read."""
        return max(self.size() or 0, done.end()[1])

    def has_grown(self, done: Coverage, size: int) -> bool:
        """Return whether there is more than these rows, which were all that it had when it had so many bytes."""
        return self.size_after(done) > size

    def fingerprint(self, *, follow: bool) -> Any:
        """Return what tells later whether the stream was changed, as plain data; None when it is followed."""
        return Fingerprint.of(self) if self.read_as_is(follow=follow) else None

    def check_fingerprint(self, known: Any, done: Iterable[Span], *, follow: bool) -> None:
        """Check that what was read of the stream is still what it was, unless it is followed.

        Raises:
            StreamChangedError: when it is not.
        """
        if self.read_as_is(follow=follow):
            Fingerprint.check(self, known, done)

    def what_changed(self, known: Any, done: Iterable[Span], *, follow: bool) -> list[str]:
        """Return what of it is not what it was when these rows were read, for people: nothing when all is."""
        try:
            self.check_fingerprint(known, done, follow=follow)
        except StreamChangedError:
            return [f"{self.shown} was edited or shortened since its rows were done"]
        return []

    def exact_fingerprint(self) -> Any:
        """Return what differs once a single byte was written since, as plain data; None when nothing tells that.

        The stream stays as it is, whatever `fingerprint` notes.
        """
        storage = self.storage
        if not isinstance(storage, KeepsTimes):
            return None
        times = [storage.modified_at(path) for path in self.files_read]
        return [copy(self).fingerprint(follow=False), times]

    def check_resumable(self, done: Coverage) -> None:
        """Check that the rows which were read before are still there (M22).

        Raises:
            StreamChangedError: when they are not.
        """
        check_resumable(self, done)

    def check_seal(self) -> None:
        """Check that a seal that this package wrote is as it was written.

        Raises:
            StreamCorruptError: when it was edited.
        """
        data = self.storage.read_all(self.done_path) or b""
        if Seal.parse(data) is not None and not is_unaltered(data):
            raise StreamCorruptError(
                f"{self.done_path}: the checksum of the seal differs: it was edited; restore it, or start afresh with "
                "if_exists='overwrite'"
            )

    def seal(self) -> None:
        """Say that this stream has ended. A stream with a commit log ends with its last commit.

        Raises:
            StreamMissingError: when there is no such stream.
            StreamBusyError: when a writer has it open.
            StreamChangedError, StreamCorruptError: when it is not what its commit log says.
        """
        if self.is_sealed():
            return
        size = self.storage.size(self.path)
        if size is None:
            raise StreamMissingError(f"{self.path} does not exist, so it cannot be sealed; check the path")
        logged = read_log(self.storage, self.commits_path)
        if logged is None:
            self.write_seal(Seal(size=size), sync=True)
            return
        sink = self.sink(source=logged[0])  # recovers it: what was never committed is not part of it
        try:
            sink.seal(complete=False)
        finally:
            sink.close()

    def unseal(self) -> None:
        """Take the seal away, so that the stream can be continued.

        What was committed stays accounted for; but when the data was changed after it was sealed, it no longer is,
        and the stream is as one that another program writes.
        """
        seal = self.read_seal()
        if (
            seal is not None
            and seal.rows is not None
            and seal.size == self.storage.size(self.path)
            and self.storage.size(self.commits_path) is None
        ):
            CommitLog(self.storage, self.commits_path, seal.source, sync=True).start(seal.position())
        self.storage.remove(self.done_path)

    def verify(self, *, whole: bool = True) -> None:
        """Compare what was committed or sealed with its checksum (S3, M22).

        A stream that nobody accounts for is not checked.

        Args:
            whole: False reads of a stream of more than 64 MiB only what the last flush added.

        Raises:
            StreamMissingError: when the data is gone.
            StreamChangedError: when it is not as long as it was.
            StreamCorruptError: when it is not what it was.
        """
        if self.readable() is not None and (found := position_of(self)) is not None:
            check_data(self.storage, self.path, found[1], whole=whole)

    def delete(self) -> None:
        """Remove the stream with all that belongs to it. The seal goes first, the data last.

        Raises:
            StreamBusyError: when it is being written.
        """
        self.check_free()
        for path in self.files:
            self.storage.remove(path)

    def check_path(self) -> None:
        """Check that the stream can be written where it lies."""

    def check_source(self) -> None:
        """Check that what is there can be read as rows."""

    def check_free(self) -> None:
        """Check that the stream can be written where it lies, and that nobody is writing it.

        Raises:
            StreamBusyError: when it is being written.
            StreamError: when it cannot be written.
        """
        self.check_path()
        if self.storage.size(self.path) is not None:
            self.storage.open_append(self.path).close()

    def readable(self, *, follow: bool = True) -> ReadLimit | None:
        """Return how far the stream may be read now; None when there is nothing of it yet.

        Args:
            follow: False takes what is there now as all there is.

        Raises:
            StreamMissingError: when there is a seal or a commit log, but no data.
            StreamChangedError: when the data is not as long as the seal says.
            StreamCorruptError: when the commit log cannot be read.
        """
        return readable(self, follow=follow)

    def cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> SourceCursor:
        """Return a cursor over some segments; with `follow`, it goes on until the seal.

        Subclasses have an `open_cursor`.
        """
        cursor = self.open_cursor(segments, follow=follow)
        return cursor if self.source_column is None else SourceColumnCursor(self, cursor, self.source_column)

    def open_cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> SourceCursor:
        """Return a cursor that adds no column; see `cursor`."""
        return Cursor(self, segments, follow=follow)

    def sink(self, *, source: str = "", fsync: Fsync = "close", keeps_state: bool = False) -> Sink:
        """Open the stream for writing, recovering it first. See `Sink`.

        Raises:
            StreamError: when it cannot be written where it lies.
        """
        self.check_path()
        return Sink(self, source=source, fsync=fsync, keeps_state=keeps_state)

    def unparsed_id(self, number: int) -> Id:
        """Return the id of a record that is no row, by its number."""
        return number

    def get_writer(self, *, fsync: Fsync = "close") -> StreamWriter:
        """Return a writer for use without a pipeline. Rows that it is given are on disk when write() returns."""
        return StreamWriter(self.sink(fsync=fsync))

    def get_reader(
        self,
        *,
        follow: bool = True,
        retry_interval: float = EOF_RETRY_SECONDS,
        idle_timeout: float | None = None,
        on_retry: Callable[[int], None] | None = None,
    ) -> StreamReader:
        """Return a reader for use without a pipeline.

        Args:
            follow: wait for more rows until the stream is sealed; False takes what is there now.
            retry_interval: seconds between two looks at a stream that has nothing new.
            idle_timeout: seconds without a new row after which reading raises; None waits forever.
            on_retry: called with 1, 2, … 5 for the first looks that found nothing.
        """
        return StreamReader(self, follow, retry_interval, idle_timeout, on_retry)
