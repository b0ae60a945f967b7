"""Rows that a program holds: any iterable of dicts, or a table of pandas, Polars or Arrow, none imported here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from llm_datagen.errors import ConfigError

_AT_ONCE = 4096


def check_rows(name: str, value: Any) -> Any:
    """Return `value` if it can be rows.

    Raises:
        ConfigError: when it cannot, saying what it should be.
    """
    is_one = isinstance(value, Mapping | str | bytes)
    if is_one or not (_is_table(value) or hasattr(value, "__iter__")):
        raise ConfigError(
            f"{name} must be rows: a list or an iterator of dicts, or a table (pandas, Polars, Arrow), not "
            f"{type(value).__name__}; a file is given as input_uri"
        )
    return value


def rows_in(value: Any) -> Iterator[Any]:
    """Yield the rows of anything that `check_rows` takes; of a table, some thousand are in memory as dicts.

    Raises:
        ConfigError: when a table names a column twice, or needs pyarrow to be read.
    """
    if hasattr(value, "to_batches"):  # Arrow
        _check_names(value.schema.names)
        for batch in value.to_batches():
            yield from _of_batch(batch)
    elif hasattr(value, "iter_rows"):  # Polars
        yield from value.iter_rows(named=True)
    elif hasattr(value, "iloc") and hasattr(value, "columns"):  # pandas
        _check_names(list(value.columns))
        for start in range(0, len(value), _AT_ONCE):
            yield from value.iloc[start : start + _AT_ONCE].to_dict("records")
    elif hasattr(value, "__arrow_c_stream__"):
        yield from _of_arrow_stream(value)
    else:
        yield from value


def _is_table(value: Any) -> bool:
    return any(hasattr(value, name) for name in ("to_batches", "iter_rows", "iloc", "__arrow_c_stream__"))


def _check_names(names: list[Any]) -> None:
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"input: the table has more than one column {twice[0]!r}; rename one")


def _of_batch(batch: Any) -> Iterator[Any]:
    for start in range(0, batch.num_rows, _AT_ONCE):
        yield from batch.slice(start, _AT_ONCE).to_pylist()


def _of_arrow_stream(value: Any) -> Iterator[Any]:
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            f"input: a {type(value).__name__} is read through Arrow, which needs pyarrow: pip install "
            "'llm-datagen[parquet]'; or give its rows as dicts"
        ) from None
    reader = pyarrow.RecordBatchReader.from_stream(value)
    _check_names(reader.schema.names)
    for batch in reader:
        yield from _of_batch(batch)
