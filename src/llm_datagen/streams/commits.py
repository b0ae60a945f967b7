r"""The commit log: what makes a row done.

Beside an unfinished stream ``out.jsonl`` lies ``out.jsonl.commits``: text, one record a line,

    <crc32 of the rest, 8 hex digits> <JSON>\n

The first line is the header: format, and the URI of the source. Every further line is a commit, written after the
data it speaks of. It says how many rows and bytes the stream has now, the running CRC-32 of those bytes, where this
flush began, and which source rows are covered now. A commit is valid if and only if its line is whole and its checksum
is right.

Recovery: take the last valid commit, compare the checksum of all bytes that it speaks of, and cut the stream to its
length. A last line that is torn was never promised to anyone: it is dropped. Anything else that does not fit, such as
a stream that is shorter than its commit says, is an error.

When it is opened, and from time to time after that, the log is replaced, atomically, by a header and one commit that
holds the whole coverage, so that its length follows the rows in flight, not the rows written. So there is no log
without these two lines. This commit is the start record: it alone says ``"start": true``.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import orjson

from llm_datagen.errors import StreamChangedError, StreamCorruptError
from llm_datagen.ids import Id
from llm_datagen.streams.disk import AppendFile, Disk
from llm_datagen.streams.spans import Coverage, Span

FORMAT = 1
COMPACT_BYTES = 256 * 1024
"""A log that has grown by so many bytes is compacted."""

_CHECK_BYTES = 1 << 20

CHECK_WHOLE_BYTES = 64 * 1024 * 1024
"""Streams up to this size are checked from their first byte when they are opened; of longer ones, the last flush."""


@dataclass(slots=True)
class Position:
    """How far a stream has come: totals since its beginning, also over resumes.

    Attributes:
        rows: rows in the stream.
        bytes: bytes in the stream.
        crc: running CRC-32 of these bytes.
        last_bytes: bytes before the last flush that added any.
        last_crc: running CRC-32 before that flush.
        filtered: source rows that gave no row.
        skipped: source rows that failed and were left out.
        dead: source rows that failed and are dead-lettered.
        errors_bytes: bytes of the dead letters beside the stream.
        first_id: the id of the first row, if any.
        last_id: the id of the last row, if any.
        marks: what else the writer wants to know again after a crash (plain JSON).
        coverage: the source rows that are done.
    """

    rows: int = 0
    bytes: int = 0
    crc: int = 0
    last_bytes: int = 0
    last_crc: int = 0
    filtered: int = 0
    skipped: int = 0
    dead: int = 0
    errors_bytes: int = 0
    first_id: Id | None = None
    last_id: Id | None = None
    marks: dict[str, Any] = field(default_factory=dict)
    coverage: Coverage = field(default_factory=Coverage)

    def as_record(self, spans: Iterable[Span]) -> dict[str, Any]:
        """Return the position as a commit that adds `spans` to the coverage."""
        record: dict[str, Any] = {
            "rows": self.rows,
            "bytes": self.bytes,
            "crc": self.crc,
            "last": [self.last_bytes, self.last_crc],
            "filtered": self.filtered,
            "failed": [self.skipped, self.dead, self.errors_bytes],
            "ids": [self.first_id, self.last_id],
            "cover": [list(span) for span in spans],
        }
        if self.marks:
            record["marks"] = self.marks
        return record

    def apply(self, record: dict[str, Any]) -> None:
        """Move on to what `record`, made by `as_record`, says.

        Raises:
            KeyError, TypeError, ValueError: when it is no such record.
        """
        if not all(self.coverage.add(Span(*span)) for span in record["cover"]):
            raise ValueError("a source row is covered twice")
        self.rows, self.bytes, self.crc = record["rows"], record["bytes"], record["crc"]
        self.last_bytes, self.last_crc = record["last"]
        self.filtered = record["filtered"]
        self.skipped, self.dead, self.errors_bytes = record["failed"]
        self.first_id, self.last_id = record["ids"]
        self.marks = record.get("marks", {})


def _line(value: dict[str, Any]) -> bytes:
    text = orjson.dumps(value)
    return b"%08x %s\n" % (zlib.crc32(text), text)


def _parse(line: bytes) -> dict[str, Any] | None:
    """Return the value of a line, or None when the line is not valid."""
    crc, _, text = line.partition(b" ")
    if crc != b"%08x" % zlib.crc32(text):
        return None
    try:
        value = orjson.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


class CommitLog:
    """The commit log of one stream, open for writing.

    Args:
        disk: where it lies.
        path: its path.
        source: the URI of what the stream is made from.
        sync: whether every commit is put on the medium.
    """

    def __init__(self, disk: Disk, path: str, source: str, *, sync: bool) -> None:
        self._disk = disk
        self._path = path
        self._source = source
        self._sync = sync
        self._file: AppendFile | None = None
        self._grown = 0

    def start(self, position: Position) -> None:
        """Make the log anew, atomically: the header, and `position` with its whole coverage."""
        self.close()
        header = {"format": FORMAT, "source": self._source}
        data = _line(header) + _line({"start": True, **position.as_record(position.coverage)})
        self._disk.replace(self._path, data, sync=self._sync)
        self._grown = 0

    def append(self, position: Position, spans: Iterable[Span]) -> None:
        """Commit: `spans` are covered now, and `position` is where the stream is with them."""
        if self._grown > COMPACT_BYTES:
            self.start(position)  # says it all
            return
        if self._file is None:
            self._file = self._disk.open_append(self._path)
        line = _line(position.as_record(spans))
        self._file.append(line)
        if self._sync:
            self._file.sync()
        self._grown += len(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
            self._file = None


def read_log(disk: Disk, path: str) -> tuple[str, Position] | None:
    """Return the source URI and the position that the log at `path` holds; None when there is no log.

    A torn last line is passed over; the log itself is not changed. The first commit need not be a start record: logs
    of older versions have none. `flaws_of` says so.

    Raises:
        StreamCorruptError: when any other line is not valid, the first two are not there, or a start record is there
            twice.
    """
    data = disk.read_all(path)
    if data is None:
        return None
    lines = data.split(b"\n")
    lines.pop()  # what follows the last newline: nothing, or a torn line
    if len(lines) < 2:
        raise StreamCorruptError(
            f"{path} ends at byte {len(data)}, before its first commit: it was cut. Rows cannot be accounted for; "
            "restore the file, or start afresh with if_exists='overwrite'"
        )
    position = Position()
    offset = 0
    source = ""
    for number, line in enumerate(lines):
        record = _parse(line)
        if record is None and number == len(lines) - 1 and number > 1:
            break  # the last flush before a loss of power: its commit never became whole
        try:
            if record is None:
                raise ValueError("the checksum differs")
            if number == 0:
                if record["format"] != FORMAT:
                    raise ValueError(f"format {record['format']} is not {FORMAT}")
                source = record["source"]
            elif number > 1 and "start" in record:
                raise ValueError("the start record is there twice")
            else:
                position.apply(record)
        except (KeyError, TypeError, ValueError) as error:
            raise StreamCorruptError(
                f"{path} cannot be read at byte {offset} (line {number + 1}): {error}. Rows below it cannot be "
                "accounted for; restore the file, or start afresh with if_exists='overwrite'"
            ) from error
        offset += len(line) + 1
    return source, position


def flaws_of(disk: Disk, path: str) -> list[str]:
    """Return what is wrong with a log that `read_log` can read: a sentence each, with the place."""
    lines = (disk.read_all(path) or b"").split(b"\n")[:-1]
    flaws = []
    if len(lines) > 1 and "start" not in (_parse(lines[1]) or {}):
        flaws.append(
            f"{path}, line 2 is no start record: a line before it was removed, or an older version wrote the log (a "
            "resume writes it anew)"
        )
    if len(lines) > 1 and _parse(lines[-1]) is None:
        flaws.append(
            f"{path}, line {len(lines)}: the checksum of this last line differs: it is passed over, and the rows that "
            "it covered are done again by a resume (a loss of power may leave that behind)"
        )
    return flaws


def check_data(disk: Disk, path: str, position: Position, *, whole: bool) -> None:
    """Compare the bytes of a stream with the checksums of its position (S3, M22).

    Args:
        disk: where it lies.
        path: its path.
        position: what was committed.
        whole: whether to read a long stream from its first byte, too, and not only what the last flush added.

    Raises:
        StreamChangedError: when the stream is too short.
        StreamCorruptError: when a checksum differs; the message says where.
    """
    if disk.size(path) is None:
        if not position.bytes:
            return
        raise StreamChangedError(
            f"{path} is gone, but {position.bytes} bytes of it were committed; restore it, or start afresh with "
            "if_exists='overwrite'"
        )
    file = disk.open_read(path)
    try:
        if file.size() < position.bytes:
            raise StreamChangedError(
                f"{path} has {file.size()} bytes, but {position.bytes} were committed: it was shortened or deleted "
                "after the run was interrupted; restore it, or start afresh with if_exists='overwrite'"
            )
        crc = at = 0
        if not whole and position.bytes > CHECK_WHOLE_BYTES:
            crc, at = position.last_crc, position.last_bytes
        for end, expected in ((position.last_bytes, position.last_crc), (position.bytes, position.crc)):
            begin = at
            while at < end:
                crc = zlib.crc32(file.read_at(at, min(_CHECK_BYTES, end - at)), crc)
                at += _CHECK_BYTES
            at = end
            if crc != expected:
                raise StreamCorruptError(
                    f"{path}, bytes {begin} to {end}: the checksum is {crc:08x}, {expected:08x} was committed: the "
                    "file was changed after the run was interrupted; restore it, or start afresh with "
                    "if_exists='overwrite'"
                )
    finally:
        file.close()
