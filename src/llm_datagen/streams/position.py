"""How far a stream has come: what a commit and a seal say of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.ids import Id

STATE = "state"
"""A mark: what is committed of the state of the node's operator, ``[bytes of the state log, their CRC-32]``."""

END = "end"
"""A mark: ``[rows that the operator has given at the end of its source, bytes that this had]``; there once it has."""


REJECTED = "rejected"
"""A mark: ``[filtered rows that the operator gave a reason for, bytes of them that are kept beside the stream]``."""


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

    @property
    def rejected(self) -> int:
        """Of the filtered source rows, those for which the operator gave a reason."""
        return int(self.marks.get(REJECTED, (0, 0))[0])

    @property
    def rejected_bytes(self) -> int:
        """Bytes of the rejected rows beside the stream."""
        return int(self.marks.get(REJECTED, (0, 0))[1])

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
