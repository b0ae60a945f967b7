"""Settings that are given together: how a node writes, and what of its data it refuses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from llm_datagen.config.checks import check_count, check_flag, check_seconds, choice_of, optional
from llm_datagen.config.choices import CellType, Fsync, Nan
from llm_datagen.config.constructor import refuses_unknown
from llm_datagen.config.encoding_names import check_encoding_name
from llm_datagen.config.setting import SettingsGroup, setting
from llm_datagen.config.table_checks import check_cell_types, check_columns, check_sign
from llm_datagen.errors import ConfigError


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class WriterConfig(SettingsGroup):
    """How results get to the disk (M20). The fields say what each setting means."""

    setting_name: ClassVar[str] = "writer_config"

    async_mode: bool = setting(
        True,
        check_flag,
        "`True`: a worker hands its rows over and goes on; `False`: it goes on when they are on disk",
    )
    queue_size: int = setting(
        10_000,
        check_count,
        "how many rows are handed over and not on disk, at most; when it is full, workers wait. Smaller: "
        "less memory, and less to do again after `kill -9`",
        "rows",
    )
    flush_batch_size: int = setting(1_000, check_count, "how many rows wait for a flush, at most", "rows")
    flush_interval: float = setting(
        1.0,
        check_seconds,
        "how long a row waits for a flush, at most; a writer with nothing else to do flushes at once, but not to an "
        "object store",
        "seconds",
    )
    retry_interval: float = setting(
        0.1,
        check_seconds,
        "the pause between two looks at a source that has nothing new, after the first five",
        "seconds",
    )
    fsync: Fsync = setting(
        "close",
        choice_of(Fsync),
        'when data is put on the medium: `"never"`, at `"close"` (before the seal), or at every `"flush"`. The death '
        "of the process loses nothing in any of the three",
    )


@refuses_unknown
@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig(SettingsGroup):
    """How data is read and written, and what of it is refused. The fields say what each setting means."""

    setting_name: ClassVar[str] = "data_config"

    nan: Nan = setting(
        "error",
        choice_of(Nan),
        '`"error"`: a row that holds `NaN` or an infinity is refused; `"null"`: it is read and written as null (in CSV '
        "an empty cell)",
    )
    max_record_bytes: int | None = setting(
        None,
        optional(check_count),
        "the longest record that is read; of a longer one, the first line is refused, and the next one goes on. "
        "`None`: 1 MiB of CSV, 64 MiB of JSON lines",
        "bytes",
    )
    strict: bool = setting(
        False,
        check_flag,
        "whether to refuse, when read, what is passed over otherwise: a name that an object says twice (else the last "
        "value counts), a number with more digits than a double holds (else the nearest double), a blank line in CSV "
        "(else no row). Reading JSON then takes several times as long",
    )
    encoding: str = setting(
        "utf-8",
        check_encoding_name,
        'the encoding of what is read and written, such as `"latin-1"` or `"cp1252"`: one in which newlines, commas '
        "and quotes are the bytes that they are in ASCII. Others (UTF-16, Shift-JIS) are refused: convert the file. "
        "JSON lines hold signs that it lacks as `\\uXXXX`; a row with such a sign in CSV fails",
    )
    separator: str = setting(",", check_sign, 'what stands between the cells of CSV, such as `";"` or a tab (`"\\t"`)')
    quote: str = setting('"', check_sign, "what stands around a cell of CSV that holds a separator or a newline")
    header: list[str] | None = setting(
        None,
        optional(check_columns),
        "the columns of an input in CSV that has no header; `None`: its first record names them. What is "
        "written has one",
    )
    dtypes: dict[str, CellType] | None = setting(
        None,
        optional(check_cell_types),
        'what columns of CSV hold, such as `{"age": "int", "tags": "json"}`: `"int"`, `"float"`, `"bool"`, `"str"` or '
        '`"json"`. A row with a cell that is something else fails; an empty cell is null. Other columns are text',
    )

    def __post_init__(self) -> None:
        super(DataConfig, self).__post_init__()
        if self.separator == self.quote:
            raise ConfigError(f"data_config: separator and quote are both {self.quote!r}; give two different signs")


def set_data_config(setting: str) -> str:
    """Return the advice to set a setting of `DataConfig`, such as ``nan='null'``; a resume would take no other one."""
    return f"set data_config {setting} and create the run anew (a resume keeps that of the run)"


UNBOUNDED = 1 << 62
"""Bytes that no record has."""

OLDER = DataConfig(max_record_bytes=UNBOUNDED)
"""The settings of runs of versions that had none: no record was too long."""
