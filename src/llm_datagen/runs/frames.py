"""Rows as tables of pandas, Polars and Arrow. These libraries are imported when they are used, and not before."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import Any

from llm_datagen.errors import ConfigError, RowValueError
from llm_datagen.streams.arrow_library import arrow

Table = Callable[[], Iterator[list[dict[str, Any]]]]
"""Reads the rows, from the first one on, some thousand at a time."""


def pandas_frame(read: Table) -> Any:
    """Return rows as a DataFrame of pandas: each value as it is, in the types that pandas finds for a column.

    Raises:
        ConfigError: when pandas is not installed.
    """
    pandas = _library("pandas", "to_pandas()")
    return pandas.DataFrame([row for some in read() for row in some])


def polars_frame(read: Table) -> Any:
    """Return rows as a DataFrame of Polars, with the types of `arrow_table`.

    Raises:
        ConfigError: when Polars or pyarrow is not installed.
        RowValueError: as `arrow_table`.
    """
    polars = _library("polars", "to_polars()")
    return polars.from_arrow(arrow_table(read))


def arrow_table(read: Table) -> Any:
    """Return rows as a table of pyarrow, with the types that an export to Parquet has. They are read more than once.

    Raises:
        ConfigError: when pyarrow is not installed.
        RowValueError: when a column holds values of types that do not go together.
    """
    pa = arrow()
    from llm_datagen.streams.outputs.arrow import Batches, types_of_all
    from llm_datagen.streams.outputs.column_types import MisfitError
    from llm_datagen.streams.outputs.found_types import settled

    columns = types_of_all(read, "fail")
    batches = Batches({name: settled(type, "fail") for name, type in columns.items()})

    def refuse(_number: int, why: MisfitError) -> None:
        raise RowValueError(f"{why}; rows() and to_pandas() take columns of mixed types as they are")

    return pa.Table.from_batches([batches.of(rows, refuse) for rows in read()], schema=batches.schema)


def _library(name: str, who: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigError(f"{who} needs {name}: pip install {name}") from None
