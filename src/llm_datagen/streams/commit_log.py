r"""The commit log: what makes a row done.

Beside an unfinished stream ``out.jsonl`` lies ``out.jsonl.commits``: JSON objects, one per line, in a `ChecksumChain`.

The first line is the header: format, and the URI of the source. Every further line is a commit, written after the
data it speaks of. It says how many rows and bytes the stream has now, the running CRC-32 of those bytes, where this
flush began, and which source rows are covered now. A commit is valid if and only if its line is whole, its checksum is
right, it follows the line before it, and its flush began where the commit before it ended.

Recovery: take the last valid commit, compare the checksum of all bytes that it speaks of, and cut the stream to its
length. A last line that is torn was never promised to anyone: it is dropped. Anything else that does not fit, such as
a stream that is shorter than its commit says, is an error.

When it is opened, and from time to time after that, the log is replaced, atomically, by a header and one commit that
holds the whole coverage, so that its length follows the rows in flight, not the rows written. So there is no log
without these two lines. This commit is the start record: it alone says ``"start": true``.

In an object store, a log is one object, and the header also says ``"writer"``: a name of its own for whoever has put
it. There, the log is what keeps out a writer that another one has succeeded; see `ObjectLog`.

Logs of format 1, of older versions, are read, too: their lines have no checksum of the line before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from llm_datagen.errors import StreamCorruptError
from llm_datagen.streams.checksum_chain import ChecksumChain, TornLineError, reader_of
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.position import Position
from llm_datagen.streams.storage.base import Storage
from llm_datagen.streams.storage.logs import open_log

FORMAT = 2
COMPACT_BYTES = 256 * 1024
"""A log that has grown by so many bytes is compacted; a quarter of it where each line puts the whole log."""


class CommitLog:
    """The commit log of one stream, open for writing.

    Args:
        storage: where it lies.
        path: its path.
        source: the URI of what the stream is made from.
        sync: whether every commit is put on the medium.
    """

    def __init__(self, storage: Storage, path: str, source: str, *, sync: bool) -> None:
        self._log = open_log(storage, path)
        self._source = source
        self._sync = sync
        self._grown = 0
        self._chain = ChecksumChain()

    def start(self, position: Position) -> None:
        """Make the log anew, atomically: the header, and `position` with its whole coverage.

        Raises:
            StreamTakenOverError: when another writer has begun since this log was opened (in an object store).
        """
        header = {"format": FORMAT, "source": self._source}
        if self._log.writer:
            header["writer"] = self._log.writer
        record = {"start": True, **position.as_record(position.coverage)}
        self._chain = ChecksumChain()
        self._log.rewrite(self._chain.line(dumps(header)) + self._chain.line(dumps(record)), sync=self._sync)
        self._grown = 0

    def append(self, position: Position, spans: Iterable[Span]) -> None:
        """Commit: `spans` are covered now, and `position` is where the stream is with them.

        Raises:
            StreamTakenOverError: as `start`.
        """
        if self._grown > (COMPACT_BYTES // 4 if self._log.is_put_whole else COMPACT_BYTES):
            self.start(position)  # says it all
            return
        line = self._chain.line(dumps(position.as_record(spans)))
        self._log.append(line, sync=self._sync)
        self._grown += len(line)

    def sync(self) -> None:
        """Return when all commits are on the medium."""
        self._log.sync()

    def confirm(self) -> None:
        """Check that no other writer has begun since.

        Raises:
            StreamTakenOverError: as `start`.
        """
        self._log.confirm()

    def close(self) -> None:
        """Close the file."""
        self._log.close()


def read_log(storage: Storage, path: str) -> tuple[str, Position] | None:
    """Return the source URI and the position that the log at `path` holds; None when there is no log.

    A torn last line is passed over; the log itself is not changed. The first commit need not be a start record: logs
    of older versions have none. `flaws_of` says so.

    Raises:
        StreamCorruptError: when any other line is not valid, the first two are not there, or a start record is there
            twice.
    """
    data = storage.read_all(path)
    if data is None:
        return None
    lines = data.split(b"\n")
    lines.pop()  # what follows the last newline: nothing, or a torn line
    if len(lines) < 2:
        raise StreamCorruptError(
            f"{path} ends at byte {len(data)}, before its first commit: it was cut. Rows cannot be accounted for; "
            "restore the file, or start afresh with if_exists='overwrite'"
        )
    reader = reader_of(lines[0])
    position = Position()
    offset = 0
    source = ""
    for number, line in enumerate(lines):
        try:
            record = loads_exactly(reader.read(line))
            if number == 0:
                if record["format"] not in {1, FORMAT}:
                    raise ValueError(f"format {record['format']} is not {FORMAT}")
                source = record["source"]
            else:
                if number > 1:
                    _check_follows(record, position)
                position.apply(record)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, TornLineError) and number == len(lines) - 1 and number > 1:
                break  # the last flush before a loss of power: its commit never became whole
            raise StreamCorruptError(
                f"{path} cannot be read at byte {offset} (line {number + 1}): {error}. Rows below it cannot be "
                "accounted for; restore the file, or start afresh with if_exists='overwrite'"
            ) from error
        offset += len(line) + 1
    return source, position


def _check_follows(record: dict[str, Any], before: Position) -> None:
    """Check that a commit goes on where the one before it ended.

    Raises:
        ValueError: when it does not.
    """
    if "start" in record:
        raise ValueError("the start record is there twice")
    has_added = record["bytes"] != before.bytes
    expected = (before.bytes, before.crc) if has_added else (before.last_bytes, before.last_crc)
    if tuple(record["last"]) != expected:
        raise ValueError(
            f"its flush began at byte {record['last'][0]}, and the commit before it ended at byte {before.bytes}: a "
            "line was removed"
        )


def flaws_of(storage: Storage, path: str) -> list[str]:
    """Return what is wrong with a log that `read_log` can read: a sentence each, with the place."""
    lines = (storage.read_all(path) or b"").split(b"\n")[:-1]
    flaws: list[str] = []
    if not lines:
        return flaws
    reader = reader_of(lines[0])
    for number, line in enumerate(lines, start=1):
        try:
            payload = reader.read(line)
        except TornLineError:
            flaws.append(
                f"{path}, line {number}: the checksum of this last line differs: it is passed over, and the rows that "
                "it covered are done again by a resume (a loss of power may leave that behind)"
            )
            break
        if number == 2 and "start" not in loads_exactly(payload):
            flaws.append(
                f"{path}, line 2 is no start record: a line before it was removed, or an older version wrote the log "
                "(a resume writes it anew)"
            )
    return flaws
