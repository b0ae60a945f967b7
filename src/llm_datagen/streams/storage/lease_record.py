"""What ``lease.json`` says: who has a place on a store, or had it last."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import orjson

from llm_datagen.streams.storage.owner import Owner

if TYPE_CHECKING:
    from llm_datagen.streams.storage.bucket import Version

LEASE = "lease.json"
"""The object of a lease, in the folder that it is about."""

_FORMAT = 1
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE


@dataclass(frozen=True, slots=True)
class LeaseRecord:
    """What the object says.

    Attributes:
        fence: the number of the holder, or of the last one.
        owner: the holder; None when it was given back.
        seconds: how long it is good.
        renewals: how often it was put, so that each version differs.
        renewed_at: when it was put last, by the clock of its holder: for those who only look.
    """

    fence: int
    owner: Owner | None
    seconds: float
    renewals: int = 0
    renewed_at: str = ""

    @classmethod
    def parse(cls, data: bytes) -> LeaseRecord:
        """Return what `dump` has written. Raises ValueError, KeyError or TypeError when it is something else."""
        content = orjson.loads(data)
        if content["format"] != _FORMAT:
            raise ValueError(f"it has format {content['format']}, and this version knows {_FORMAT}")
        owner = content["owner"]
        return cls(
            int(content["fence"]),
            None if owner is None else Owner(**owner),
            float(content["seconds"]),
            int(content["renewals"]),
            str(content["renewed_at"]),
        )

    def dump(self) -> bytes:
        """Return the bytes of the object."""
        return orjson.dumps({"format": _FORMAT, **asdict(self)}, option=_OPTIONS)


@dataclass(frozen=True, slots=True)
class FoundLease:
    """A lease as it lies on the store."""

    lease: LeaseRecord
    version: Version
