"""A file beside a stream that grows with it: dead letters, rejected rows. What is committed of it, the log says.

Where nobody is kept out (see `GrowingFile`), nothing is removed when a writer begins: whoever succeeds this one
meanwhile may have committed some. There, the first append cuts, as it does with the data, and the seal removes what was
never committed.
"""

from __future__ import annotations

from llm_datagen.streams.commit_log import CommitLog
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.sidecars import check_beside
from llm_datagen.streams.storage.base import AppendFile, GrowingFile


class BesideFile:
    """A file of lines beside a stream. One thread at a time may use it.

    Args:
        stream: the stream.
        path: the file's path.
        what: what it holds, for messages.
        log: the stream's log, which says whether this writer may go on.
    """

    def __init__(self, stream: StreamFiles, path: str, what: str, log: CommitLog) -> None:
        self._stream = stream
        self._path = path
        self._what = what
        self._log = log
        self._file: AppendFile | None = None

    def cut(self, committed: int) -> None:
        """Cut it to the bytes that were committed: the rest is the torn tail of a flush."""
        storage, path = self._stream.storage, self._path
        size = storage.size(path)
        if size is not None and not committed:
            storage.remove(path)
        elif size is not None and size > committed:
            file = storage.open_append(path)
            try:
                file.truncate(committed)
            finally:
                file.close()

    def append(self, data: bytes, committed: int) -> None:
        """Append lines behind the bytes that were committed.

        Raises:
            StreamError: when something else has the place of the file.
            OSError: when the disk fails.
        """
        if self._file is None:
            check_beside(self._stream, self._path, self._what)
        self._opened(committed).append(data)

    def sync(self, committed: int) -> None:
        """Put all on the medium, also what a process before this one has written; do nothing when there is nothing."""
        if committed:
            self._opened(committed).sync()

    def finish(self, committed: int) -> None:
        """Have it in its last form, where a storage has another one for files that grow."""
        if committed and isinstance(file := self._opened(committed), GrowingFile):
            file.finish(None)

    def close(self) -> None:
        """Close it. May be called more than once."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _opened(self, committed: int) -> AppendFile:
        if self._file is None:
            file = self._file = self._stream.storage.open_append(self._path)
            if isinstance(file, GrowingFile):
                file.take(committed, self._log.confirm)
        return self._file
