"""Where a stream lies, and how it is written: all that a cursor and a sink need to know of it.

Beside the data ``out.jsonl`` lie ``out.jsonl.commits`` while it is unfinished (see `commit_log`), and
``out.jsonl.done`` once it has ended (see `seal`).
"""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.errors import RowFormatError, StreamTakenOverError
from llm_datagen.streams.formats.base import Codec
from llm_datagen.streams.line_numbers import LineCounter
from llm_datagen.streams.seal import Seal
from llm_datagen.streams.storage.base import Place, ReadFile, Storage
from llm_datagen.streams.storage.logs import PutsNew
from llm_datagen.streams.storage.memory import MemoryStorage

_SQLITE_ENDINGS = ("", "-wal", "-shm")


ERRORS_ENDING, REJECTED_ENDING = ".errors.jsonl", ".rejected.jsonl"
"""What is added to the path of a stream for that of its dead letters, and that of its rejected rows."""


class StreamFiles:
    """The files of a stream: their paths, their storage, and the format of the data.

    Attributes:
        uri: the URI of the stream, as given.
        storage: what keeps the files.
        codec: the format.
        compression: the ending that tells how the data is compressed; None when it is not.
    """

    storage: Storage
    codec: Codec
    compression: str | None = None
    flushes_at_once: bool = True
    """Whether rows that come slowly are written one by one; False: each write costs much, so they wait for others."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self._lines = LineCounter()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.uri!r})"

    @property
    def path(self) -> str:
        """Where the data lies."""
        return self.shown

    @property
    def shown(self) -> str:
        """Where the data lies, as it was given: for people."""
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

    @property
    def errors_path(self) -> str:
        """Where the dead letters lie: rows that failed while this stream was made."""
        return f"{self.path}{ERRORS_ENDING}"

    @property
    def rejected_path(self) -> str:
        """Where the rejected rows lie, of a node that keeps them; see `rejected`."""
        return f"{self.path}{REJECTED_ENDING}"

    @property
    def dispatched_path(self) -> str:
        """Where the dispatch log lies, with delivery="at_most_once"."""
        return f"{self.path}.dispatched"

    @property
    def state_path(self) -> str:
        """Where the state log lies, of an operator that keeps state; see `state.log`."""
        return f"{self.path}.state"

    @property
    def state_table_paths(self) -> tuple[str, ...]:
        """Where the table of the state lies, with what SQLite puts beside it; see `state.table`."""
        return tuple(f"{self.path}.state.sqlite{ending}" for ending in _SQLITE_ENDINGS)

    @property
    def files(self) -> tuple[str, ...]:
        """The paths of all files that may belong to the stream; the seal comes first, the data last."""
        beside = (self.errors_path, self.rejected_path, self.state_path, *self.state_table_paths)
        return self.done_path, self.commits_path, self.dispatched_path, *beside, self.path

    @property
    def files_read(self) -> Sequence[str]:
        """The paths of the data: of several files that are read as one, of each of them."""
        return (self.path,)

    @property
    def spill_folder(self) -> str | None:
        """Where to put what is too much for memory, before it is written; None: nowhere but in memory."""
        return None

    @property
    def place(self) -> Place:
        """What the stream is, however it is spelled: two streams of the same place are the same stream."""
        return self.place_of(self.path)

    def uri_beside(self, ending: str) -> str:
        """Return the URI of a stream beside it, with `ending` behind its name, for what a node keeps of its rows."""
        return f"memory://{self.path}.{ending}"

    def place_of(self, path: str) -> Place:
        """Return what the file at `path` is, however it is spelled."""
        return type(self.storage).__name__, path

    @property
    def is_in_memory(self) -> bool:
        """Whether the stream goes with the process."""
        return isinstance(self.storage, MemoryStorage)

    def size(self) -> int | None:
        """Return the bytes of data; None when there is no data."""
        return self.storage.size(self.path)

    def is_there(self) -> bool:
        """Return whether there is data."""
        return self.size() is not None

    def exists(self) -> bool:
        """Return whether there is anything of the stream: data, a commit log or a seal."""
        return any(self.storage.size(path) is not None for path in (self.path, self.commits_path, self.done_path))

    def is_sealed(self) -> bool:
        """Return whether the stream has ended."""
        return self.storage.size(self.done_path) is not None

    def read_seal(self) -> Seal | None:
        """Return what the seal says; None when there is none, or another program made it."""
        data = self.storage.read_all(self.done_path)
        return None if data is None else Seal.parse(data)

    def write_seal(self, seal: Seal, *, sync: bool) -> None:
        """Put the seal in place, atomically; the commit log is not needed after that.

        A writer that was stopped before its last request, and succeeded, may wake up and make it: its seal says the
        same, since nothing was left to do.

        Raises:
            StreamTakenOverError: when another writer has sealed it, otherwise, in a storage that keeps nobody out.
        """
        if not isinstance(self.storage, PutsNew):
            self.storage.replace(self.done_path, seal.dump(), sync=sync)
        elif not self.storage.put_new(self.done_path, seal.dump()) and not seal.says_the_same(self.read_seal()):
            raise StreamTakenOverError(
                f"{self.uri}: another writer has taken the stream over and ended it, so it is not sealed here; look at "
                "the run that did"
            )
        self.remove_leftovers()

    def remove_leftovers(self) -> None:
        """Remove what a sealed stream no longer needs. A kill between the seal and this leaves it behind."""
        for path in (self.commits_path, self.dispatched_path):
            if path in self.files:
                self.storage.remove(path)

    def line_place(self, offset: int) -> str:
        """Return the path and the line of the row that begins at byte `offset`, for messages.

        Raises:
            DiskError: when the file cannot be read.
        """
        number = self._lines.known(offset)
        if number is None:
            file = self.open_data()
            try:
                number = self._lines.number(file, offset)
            finally:
                file.close()
        return f"{self.shown}, line {number}"

    def seek_mark(self, offset: int) -> list[int] | None:
        """Return what helps to find the row at `offset` again, after a crash, without reading all before it."""
        return None

    def use_seek_mark(self, mark: list[int]) -> None:
        """Take what `seek_mark` of an earlier process has returned."""

    def pack(self, data: bytes) -> bytes:
        """Return what lies on disk of some bytes of rows."""
        return data

    def is_accounted_for(self) -> bool:
        """Return whether this package wrote it: there is a commit log, or a seal that has counted the rows."""
        if self.storage.size(self.commits_path) is not None:
            return True
        seal = self.read_seal()
        return seal is not None and seal.rows is not None

    def codec_to_read(self) -> Codec:
        """Return the format as it is read: of what this package wrote, no record is too long."""
        unbounded = getattr(self.codec, "unbounded", None)
        return unbounded() if unbounded is not None and self.is_accounted_for() else self.codec

    def open_data(self) -> ReadFile:
        """Open the data, to be read at the offsets that rows have.

        Raises:
            FileNotFoundError: when there is none.
        """
        return self.storage.open_read(self.path)

    def row_error(self, error: ValueError, offset: int) -> RowFormatError:
        """Return the error that says which line cannot be parsed, and why."""
        return RowFormatError(
            f"{self.line_place(offset)}: this is not a row: {error}. Mend the line; where rows behind it are done "
            "already, without changing its length in bytes"
        )
