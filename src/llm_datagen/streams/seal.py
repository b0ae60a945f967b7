"""The seal: what a `.done` file says. It ends a stream: after it, no row comes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any, Self

from llm_datagen.streams.checksums import CHECK_FIELD, with_check
from llm_datagen.streams.coverage import Span
from llm_datagen.streams.formats.json_text import dumps, loads_exactly
from llm_datagen.streams.ids import Id
from llm_datagen.streams.position import Position
from llm_datagen.streams.target_mark import TargetMark

FORMAT = 1
"""The version of the format of a seal."""

ACCOUNT_FIELD = "ledger"

NUMBERED = "numbered"
"""A mark that a writer sets: every row got its number in the stream as its id, so that none is the user's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seal:
    """The content of a seal that this package wrote.

    Attributes:
        size: bytes in the stream.
        rows: rows in the stream; None when it was sealed by hand and never counted.
        crc: CRC-32 of the bytes; None when it was sealed by hand.
        last: bytes and running CRC-32 before the last flush.
        source: the URI of what it was made from.
        cover: the source rows that it covers, as spans.
        filtered: source rows that gave no row.
        failed: source rows that were skipped, those that are dead-lettered, and the dead letters' bytes.
        ids: the ids of the first and the last row.
        marks: what the writer remembered.
        source_size: bytes that the source had when it ended; None when there is no source, or it is not known.
        complete: whether its writer sealed it, after all that there was to write.
        sealed_at: when, in UTC.
        format: the version of this format.
    """

    size: int
    rows: int | None = None
    crc: int | None = None
    last: tuple[int, int] = (0, 0)
    source: str = ""
    cover: tuple[Span, ...] = ()
    filtered: int = 0
    failed: tuple[int, int, int] = (0, 0, 0)
    ids: tuple[Id | None, Id | None] = (None, None)
    marks: dict[str, Any] | None = None
    source_size: int | None = None
    complete: bool = False
    sealed_at: str = ""
    format: int = FORMAT

    @classmethod
    def of(cls, position: Position, source: str, *, complete: bool, source_size: int | None = None) -> Self:
        """Return the seal of a stream that ends at `position`."""
        value = {**position.as_record(position.coverage), "size": position.bytes, "source": source}
        del value["bytes"]
        value |= {"source_size": source_size, "complete": complete}
        return cls._of({**value, "sealed_at": datetime.now(UTC).isoformat(timespec="seconds")})

    @classmethod
    def parse(cls, data: bytes) -> Self | None:
        """Return what a `.done` file says, or None when another program made it (with `touch`, say)."""
        try:
            value = loads_exactly(data)
            if not isinstance(value, dict) or value.get("format") != FORMAT:
                return None
            for derived in (ACCOUNT_FIELD, CHECK_FIELD):
                value.pop(derived, None)
            return cls._of(value)
        except (ValueError, KeyError, TypeError):
            return None

    @classmethod
    def _of(cls, value: dict[str, Any]) -> Self:
        """Return a seal of plain data, whose lists become tuples."""
        tuples = {name: tuple(value[name]) for name in ("failed", "ids", "last")}
        return cls(**{**value, **tuples, "cover": tuple(Span(*span) for span in value["cover"])})

    def dump(self) -> bytes:
        """Return the seal as the text of a `.done` file."""
        value = {**asdict(self), "cover": [list(span) for span in self.cover]}  # orjson knows no named tuples
        return with_check(dumps({**value, ACCOUNT_FIELD: self.account()}))

    def says_the_same(self, other: Self | None) -> bool:
        """Return whether another seal is of the same stream, whenever it was put."""
        return other is not None and replace(other, sealed_at=self.sealed_at).dump() == self.dump()

    def is_numbered(self) -> bool:
        """Return whether the ids in the stream are those that a writer gave to rows which had none."""
        return bool((self.marks or {}).get(NUMBERED))

    def account(self) -> dict[str, int | None] | None:
        """Return what became of the source rows (C1), for people and tools; None when nobody counted them.

        Of a stream whose writer has sealed it, no row is pending: that is what the seal means (S2); unless its node
        has met its target: then nobody knows how many are.
        """
        if self.rows is None:
            return None
        done = sum(span.end - span.start for span in self.cover)
        skipped, dead, _ = self.failed
        target = TargetMark.of(self.marks)
        has_all = self.complete and target.rows is None
        account = {
            "kept": done - self.filtered - skipped - dead,
            "filtered": self.filtered,
            "skipped": skipped,
            "dead_letters": dead,
            "pending": 0 if has_all else None,
        }
        return account if target == TargetMark() else {**account, "target": target.rows, **target.losses()}

    def position(self) -> Position:
        """Return where the stream stands, to go on writing after it was unsealed."""
        position = Position()
        counts = {"bytes": self.size, "rows": self.rows or 0, "crc": self.crc or 0}
        position.apply({**asdict(self), **counts, "marks": self.marks or {}})
        return position
