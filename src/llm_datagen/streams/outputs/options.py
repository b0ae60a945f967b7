"""What may be chosen of an export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from llm_datagen.config import check_choice, check_count, check_flag, check_text
from llm_datagen.config.encoding_names import check_text_encoding
from llm_datagen.config.table_checks import check_sign
from llm_datagen.errors import ConfigError
from llm_datagen.errors.advice import did_you_mean
from llm_datagen.streams.ids import DATA_FIELD, ID_FIELD
from llm_datagen.streams.outputs.column_types import LongInts, Mixed

DEFAULT_SHARD_BYTES = 512 << 20

Quoting = Literal["needed", "text", "all"]

CSV_OPTIONS = frozenset(("separator", "quote", "quoting", "header", "encoding", "nulls"))
"""The options that are about CSV alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportOptions:
    """How rows are exported.

    Attributes:
        rows_per_shard: source rows in a shard, of a target with ``{shard}``.
        bytes_per_shard: bytes of JSON in a shard, at least; 512 MiB, unless rows are given.
        keep_ids: whether rows keep their ids.
        id_column: the column of the ids; None is `_i`.
        schema: the columns of Parquet, Arrow and CSV: ``{column: type name}`` or a pyarrow schema; or the path of a
            Parquet or Arrow file, of which columns of the same names have the types; None: as the rows have them.
        schema_rows: how many rows are looked at to find them; None: all, which is one more pass.
        mixed: what becomes of a column with values of types that do not go together: "fail": rows that do not fit the
            type found first are failed rows; "json": it holds JSON text.
        long_ints: how whole numbers of more than 63 bits are written: "fail": as uint64 where these are enough;
            "text"; "decimal": with 38 digits.
        separator, quote: of CSV, what stands between cells, and around them: a sign of ASCII each.
        quoting: which cells of CSV are quoted: "needed": those that hold a separator, a quote or a newline; "text": all
            text, so that an empty one differs from null; "all".
        header: whether a file of CSV begins with the names of its columns.
        encoding: of CSV, such as "cp1252", or "utf-8-sig" for spreadsheets. A row with a sign that it lacks fails.
        nulls: of CSV, what stands for null. A row with text that would be taken for it fails.
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
    separator: str = ","
    quote: str = '"'
    quoting: Quoting = "needed"
    header: bool = True
    encoding: str = "utf-8"
    nulls: str = ""
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
        self._check_csv()

    def _check_csv(self) -> None:
        check_sign("separator", self.separator)
        check_sign("quote", self.quote)
        if self.separator == self.quote:
            raise ConfigError(f"separator and quote are both {self.quote!r}; give two different signs")
        check_choice("quoting", self.quoting, Quoting)
        check_flag("header", self.header)
        object.__setattr__(self, "encoding", check_text_encoding("encoding", self.encoding))
        if not isinstance(self.nulls, str) or {*self.nulls} & {self.separator, self.quote, "\n", "\r"}:
            raise ConfigError(f"nulls must be text without separators, quotes and newlines, not {self.nulls!r}")

    @property
    def ids(self) -> str | None:
        """The column of the ids; None when there is none."""
        return (self.id_column or ID_FIELD) if self.keep_ids else None

    def as_plain(self) -> dict[str, Any]:
        """Return the options as plain data, without the schema."""
        names = [name for name in self.__dataclass_fields__ if name != "schema"]
        return {name: getattr(self, name) for name in names}

    def changed(self) -> set[str]:
        """Return the names of the options that are not as they are by default."""
        defaults = type(self)().as_plain()
        return {name for name, value in self.as_plain().items() if value != defaults[name]}

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> ExportOptions:
        """Return the options that are named.

        Raises:
            ConfigError: when one is not known.
        """
        unknown = [name for name in given if name not in cls.__dataclass_fields__]
        if unknown:
            raise ConfigError(
                f"{unknown[0]!r} is no option of an export; {did_you_mean(str(unknown[0]), cls.__dataclass_fields__)}"
            )
        return cls(**given)
