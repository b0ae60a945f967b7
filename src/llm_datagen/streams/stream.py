"""Streams: durable, append-only logs of rows with a seal.

Beside the data ``out.jsonl`` lie ``out.jsonl.commits`` while it is unfinished (see `commits`), and
``out.jsonl.done`` once it has ended (see `manifest`). How far a stream may be read:

* sealed: to its end;
* with a commit log: to the last valid commit, and no further;
* neither (another program writes it): to its last whole line.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from llm_datagen.config import Fsync
from llm_datagen.errors import RowFormatError, StreamChangedError, StreamIdleError, StreamMissingError
from llm_datagen.ids import DATA_FIELD, ID_FIELD, Id
from llm_datagen.streams.codec import Codec
from llm_datagen.streams.commits import CommitLog, read_log
from llm_datagen.streams.cursor import Cursor
from llm_datagen.streams.disk import Disk
from llm_datagen.streams.manifest import Manifest
from llm_datagen.streams.rows import as_row, item_of
from llm_datagen.streams.sink import Sink
from llm_datagen.streams.spans import START, Segment

EOF_RETRIES = 5
"""How often an empty read is tried again, and said so, before a reader settles down to wait (M18)."""

EOF_RETRY_SECONDS = 0.1


class Readable(NamedTuple):
    """How far a stream may be read now.

    Attributes:
        limit: bytes that may be read.
        ended: whether there will never be more.
    """

    limit: int
    ended: bool


class Stream:
    """A stream. Subclasses say where it lies (`path`, `disk`) and how it is written (`codec`).

    Attributes:
        uri: its URI, as given.
        disk: the files it is made of.
        codec: its format.
    """

    disk: Disk
    codec: Codec

    def __init__(self, uri: str) -> None:
        self.uri = uri

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    @property
    def path(self) -> str:
        """Where the data lies."""
        _, _, rest = self.uri.partition("://")
        return rest or self.uri

    @property
    def done_path(self) -> str:
        """Where the seal lies."""
        return f"{self.path}.done"

    @property
    def commits_path(self) -> str:
        """Where the commit log lies."""
        return f"{self.path}.commits"

    def exists(self) -> bool:
        """Return whether there is anything of this stream: data, a commit log or a seal."""
        return any(
            self.disk.size(path) is not None for path in (self.path, self.commits_path, self.done_path)
        )

    def is_sealed(self) -> bool:
        """Return whether the stream has ended."""
        return self.disk.size(self.done_path) is not None

    def manifest(self) -> Manifest | None:
        """Return what the seal says; None when there is none, or another program made it."""
        data = self.disk.read_all(self.done_path)
        return None if data is None else Manifest.parse(data)

    def seal(self) -> None:
        """Say that this stream has ended.

        Raises:
            StreamMissingError: when there is no such stream.
        """
        if self.is_sealed():
            return
        size = self.disk.size(self.path)
        if size is None:
            raise StreamMissingError(f"{self.path} does not exist, so it cannot be sealed; check the path")
        logged = read_log(self.disk, self.commits_path)
        if logged is None:
            manifest = Manifest(bytes=size)
        else:
            source, position = logged
            manifest = Manifest.of(position, source)
        self.write_seal(manifest, sync=True)

    def write_seal(self, manifest: Manifest, *, sync: bool) -> None:
        """Put the seal in place, atomically; the commit log is not needed after that."""
        self.disk.replace(self.done_path, manifest.dump(), sync=sync)
        self.disk.remove(self.commits_path)

    def unseal(self) -> None:
        """Take the seal away, so that the stream can be continued. What was committed stays accounted for."""
        manifest = self.manifest()
        if manifest is not None and manifest.rows is not None and self.disk.size(self.commits_path) is None:
            CommitLog(self.disk, self.commits_path, manifest.source, sync=True).start(manifest.position())
        self.disk.remove(self.done_path)

    def delete(self) -> None:
        """Remove the stream with all that belongs to it. The seal goes first, the data last."""
        for path in (self.done_path, self.commits_path, self.path):
            self.disk.remove(path)

    def readable(self, *, follow: bool = True) -> Readable | None:
        """Return how far the stream may be read now; None when there is nothing of it yet.

        Args:
            follow: False takes a stream that nobody accounts for as ended.

        Raises:
            StreamChangedError: when the data is not as long as the seal says.
        """
        # The seal is looked for before the size is taken: after it, the size cannot change.
        done = self.disk.read_all(self.done_path)
        logged = None if done is not None else read_log(self.disk, self.commits_path)
        size = self.disk.size(self.path)
        if size is None:
            return None
        if done is not None:
            manifest = Manifest.parse(done)
            if manifest is not None and manifest.bytes != size:
                raise StreamChangedError(
                    f"{self.path} has {size} bytes, but {manifest.bytes} when it was sealed: it was changed since; "
                    f"restore it, or unseal() it (remove {self.done_path}) if the change is meant"
                )
            return Readable(size, ended=True)
        if logged is not None:
            return Readable(logged[1].bytes, ended=False)
        if self.is_sealed():  # sealed between the two looks
            return self.readable(follow=follow)
        return Readable(size, ended=not follow)

    def cursor(self, segments: Sequence[Segment] = (START,), *, follow: bool = True) -> Cursor:
        """Return a cursor over some segments; with `follow`, it goes on until the seal."""
        return Cursor(self, segments, follow=follow)

    def sink(self, *, source: str = "", fsync: Fsync = "close") -> Sink:
        """Open the stream for writing, recovering it first. See `Sink`."""
        return Sink(self, source=source, fsync=fsync)

    def line_number(self, offset: int) -> int:
        """Return the number, from 1, of the line that begins at byte `offset`."""
        file = self.disk.open_read(self.path)
        try:
            lines, at = 1, 0
            while at < offset:
                data = file.read_at(at, min(1 << 20, offset - at))
                if not data:
                    break
                lines += data.count(b"\n")
                at += len(data)
        finally:
            file.close()
        return lines

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line cannot be parsed, and why."""
        return RowFormatError(
            f"{self.path}, line {self.line_number(offset)}: this is not a row: {error}. Mend or remove the line"
        )

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


class StreamWriter:
    """Writes rows to a stream. One thread at a time may use it; `close()` seals."""

    def __init__(self, sink: Sink) -> None:
        self._sink = sink

    def write(self, rows: Iterable[Any]) -> None:
        """Append rows and commit them. A row without an id gets its number in the stream."""
        encoded: list[bytes] = []
        ids: list[Id] = []
        for row in rows:
            known = row.get(ID_FIELD) if isinstance(row, dict) else None
            row_id: Id = self._sink.position.rows + len(encoded) if known is None else known
            ids.append(row_id)
            encoded.append(self._sink.encoder.encode(as_row(row, row_id)))
        if encoded:
            self._sink.append(b"".join(encoded), rows=len(encoded), ids=(ids[0], ids[-1]))

    def close(self) -> None:
        """Seal the stream."""
        self._sink.seal()

    def __enter__(self) -> StreamWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self.close()
        else:  # what was written stays, unsealed: it can be continued
            self._sink.close()


class StreamReader:
    """Reads rows from a stream. One thread at a time may use it."""

    def __init__(
        self,
        stream: Stream,
        follow: bool,
        retry_interval: float,
        idle_timeout: float | None,
        on_retry: Callable[[int], None] | None,
    ) -> None:
        self._stream = stream
        self._follow = follow
        self._retry_interval = retry_interval
        self._idle_timeout = idle_timeout
        self._on_retry = on_retry

    def read(self, batch_size: int = 1) -> Iterator[tuple[list[Any], list[Id]]]:
        """Yield ``(rows, ids)``, `batch_size` rows at a time, until the stream ends.

        Raises:
            StreamIdleError: when nothing new came for `idle_timeout` seconds.
            RowFormatError: on a line that is not a row.
        """
        cursor = self._stream.cursor(follow=self._follow)
        try:
            while True:
                block = cursor.read(batch_size)
                if block is not None:
                    rows: list[Any] = []
                    ids: list[Id] = []
                    for number, record in enumerate(block.records):
                        try:
                            value = block.decode(record)
                        except ValueError as error:
                            raise self._stream.row_error(error, block.offset_after(number)) from error
                        row_id, item = item_of(value, block.start + number)
                        rows.append(item)
                        ids.append(row_id)
                    yield rows, ids
                elif cursor.ended():
                    return
                else:
                    self._wait_for_more(cursor)
        finally:
            cursor.close()

    def _wait_for_more(self, cursor: Cursor) -> None:
        started = time.monotonic()
        tries = 0
        before = cursor.offset
        while True:
            tries += 1
            if tries <= EOF_RETRIES and self._on_retry is not None:
                self._on_retry(tries)
            waited = time.monotonic() - started
            if self._idle_timeout is not None and waited >= self._idle_timeout:
                raise StreamIdleError(
                    f"{self._stream.path} gave nothing new for {waited:.1f} s and is not sealed "
                    f"({self._stream.done_path} is missing); seal() it if it has ended"
                )
            time.sleep(EOF_RETRY_SECONDS if tries <= EOF_RETRIES else self._retry_interval)
            state = self._stream.readable(follow=self._follow)
            if state is not None and (state.ended or state.limit > before):
                return


__all__ = [
    "DATA_FIELD",
    "EOF_RETRIES",
    "EOF_RETRY_SECONDS",
    "Readable",
    "Stream",
    "StreamReader",
    "StreamWriter",
]
