"""Rows that a program holds: any iterable of dicts, or a table of pandas, Polars or Arrow, none imported here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from llm_datagen.errors import ConfigError, RowValueError
from llm_datagen.pipeline.frame_rows import frame_rows, is_frame
from llm_datagen.streams.inputs.arrow_rows import RowMaker

_AT_ONCE = 4096
_NEEDS_ARROW = re.compile(r"Datetime|Duration|Time|Decimal|Binary|Object|Int128")


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
        StreamError: when a column of Arrow has a type that rows cannot hold.
        RowValueError: when a row of Arrow holds a value that JSON cannot.
    """
    if hasattr(value, "to_batches"):  # Arrow
        yield from _of_batches(value.schema, value.to_batches())
    elif hasattr(value, "iter_rows") and (find_spec("pyarrow") is None or not hasattr(value, "__arrow_c_stream__")):
        _check_without_arrow(value)
        yield from value.iter_rows(named=True)  # Polars
    elif is_frame(value):  # pandas
        yield from frame_rows(value, _of_part)
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


def _check_objects(frame: Any) -> None:
    """Refuse columns of Polars with Python's objects, of which Arrow is given addresses in memory."""
    for name, kind in getattr(frame, "schema", {}).items():
        if "Object" in str(kind):
            raise ConfigError(f"input: column {name!r} ({kind}) holds objects of Python; cast it, or leave it out")


def _check_without_arrow(frame: Any) -> None:
    """Refuse columns of Polars whose values only Arrow tells exactly."""
    for name, kind in getattr(frame, "schema", {}).items():
        if found := _NEEDS_ARROW.search(str(kind)):
            raise ConfigError(
                f"input: column {name!r} ({kind}) is read exactly with pyarrow: pip install 'llm-datagen[parquet]'; or "
                f"cast its {found[0]} to text"
            )


def _of_batches(schema: Any, batches: Iterable[Any]) -> Iterator[Any]:
    """Yield the rows of Arrow, told as those of a Parquet file are."""
    _check_names(schema.names)
    maker = RowMaker(schema, "input")
    before = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _AT_ONCE):
            part = batch.slice(start, _AT_ONCE)
            yield from _of_part(maker, part, before)
            before += part.num_rows


def _of_part(maker: RowMaker, part: Any, before: int) -> Iterator[Any]:
    try:
        rows = maker.rows(part)
    except ValueError as error:
        if part.num_rows == 1:
            raise RowValueError(f"input: row {before}: {error}") from error
    else:
        yield from rows
        return
    for number in range(part.num_rows):
        yield from _of_part(maker, part.slice(number, 1), before + number)


def _of_arrow_stream(value: Any) -> Iterator[Any]:
    try:
        import pyarrow
    except ImportError:
        raise ConfigError(
            f"input: a {type(value).__name__} is read through Arrow, which needs pyarrow: pip install "
            "'llm-datagen[parquet]'; or give its rows as dicts"
        ) from None
    _check_objects(value)
    try:
        reader = pyarrow.RecordBatchReader.from_stream(value)
    except (pyarrow.ArrowException, TypeError, ValueError) as error:
        raise ConfigError(
            f"input: this {type(value).__name__} cannot be read through Arrow: {error}; cast the column, or give rows "
            "as dicts"
        ) from error
    yield from _of_batches(reader.schema, reader)
