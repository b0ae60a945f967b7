"""What may be chosen of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_datagen.config import check_choice, check_count, check_text
from llm_datagen.errors import ConfigError
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD
from llm_datagen.streams.outputs.column_types import LongInts, Mixed

DEFAULT_SHARD_BYTES = 512 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How rows are exported.

    Attributes:
        rows_per_shard: source rows in a shard, of a target with ``{shard}``.
        bytes_per_shard: bytes of JSON in a shard, at least; 512 MiB, unless rows are given.
        keep_ids: whether rows keep their ids.
        id_column: the column of the ids; None is `_i`.
        schema: the columns of Parquet, Arrow and CSV: ``{column: type name}`` or a pyarrow schema; None: as the
            rows have them.
        schema_rows: how many rows are looked at to find them; None: all, which is one more pass.
        mixed: what becomes of a column with values of types that do not go together: "fail": rows that do not fit the
            type found first are failed rows; "json": it holds JSON text.
        long_ints: how whole numbers of more than 63 bits are written: "fail": as uint64 where these are enough;
            "text"; "decimal": with 38 digits.
        prompt, answer, system: of chatml, the columns of the messages, for rows that have no `messages`.

    Raises:
        ConfigError: on a wrong value.
    """

    rows_per_shard: int | None = None
    bytes_per_shard: int | None = None
    keep_ids: bool = True
    id_column: str | None = None
    schema: Any = None
    schema_rows: int | None = None
    mixed: Mixed = "fail"
    long_ints: LongInts = "fail"
    prompt: str = "prompt"
    answer: str = "answer"
    system: str | None = None

    def __post_init__(self) -> None:
        for name in ("rows_per_shard", "bytes_per_shard", "schema_rows"):
            if getattr(self, name) is not None:
                check_count(name, getattr(self, name))
        if self.rows_per_shard is not None and self.bytes_per_shard is not None:
            raise ConfigError("rows_per_shard and bytes_per_shard both say how large a shard is; give one of them")
        if not isinstance(self.keep_ids, bool):
            raise ConfigError(f"keep_ids must be True or False, not {self.keep_ids!r}")
        if self.id_column is not None:
            check_text("id_column", self.id_column)
            if not self.keep_ids:
                raise ConfigError(f"id_column={self.id_column!r} says where ids stand, and keep_ids=False that none do")
            if self.id_column == DATA_FIELD:
                raise ConfigError(f"id_column cannot be {DATA_FIELD!r}, which the engine uses itself; choose another")
        check_choice("mixed", self.mixed, Mixed)
        check_choice("long_ints", self.long_ints, LongInts)
        for name in ("prompt", "answer"):
            check_text(name, getattr(self, name))

    @property
    def ids(self) -> str | None:
        """The column of the ids; None when there is none."""
        return (self.id_column or ID_FIELD) if self.keep_ids else None

    def as_plain(self) -> dict[str, Any]:
        """Return the options as plain data, without the schema."""
        names = [name for name in self.__dataclass_fields__ if name != "schema"]
        return {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ExportOptions:
        """Return the options that are named.

        Raises:
            ConfigError: when one is not known.
        """
        unknown = [name for name in given if name not in cls.__dataclass_fields__]
        if unknown:
            raise ConfigError(
                f"{unknown[0]!r} is no option of an export; known are {', '.join(cls.__dataclass_fields__)}"
            )
        return cls(**given)
