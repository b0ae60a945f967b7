"""Rows of a DataFrame of pandas, which is not imported: what a Parquet file of the same table gives.

Columns with a type of pandas go by Arrow. A column of Python's objects has no type, nor have categories that are
objects: it goes by Arrow where all of its values are of one kind that JSON has not, such as decimals; else its values
are given as they are. Arrow is not asked to guess: it cuts dates and times off where a column begins with a date, and
takes text for bytes.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from decimal import Decimal
from importlib.util import find_spec
from typing import Any

from llm_datagen.errors import ConfigError
from llm_datagen.streams.arrow_library import arrow
from llm_datagen.streams.inputs.arrow_plain import is_extension
from llm_datagen.streams.inputs.arrow_rows import RowMaker

_AT_ONCE = 4096
_LABELS_SHOWN = 2
_BYTES = (bytes, bytearray, memoryview)
_FAMILIES: tuple[tuple[type, ...], ...] = ((dt.datetime,), (dt.time,), (dt.timedelta,), (Decimal,), _BYTES)
"""Kinds of Python's values that JSON has not. A date, a UUID: their text is the same everywhere."""

_SPECIAL = tuple(kind for family in _FAMILIES for kind in family)


def is_frame(value: Any) -> bool:
    """Return whether a value is a table as pandas has them."""
    return hasattr(value, "iloc") and hasattr(value, "columns")


def frame_rows(frame: Any, make: Callable[[RowMaker, Any, int], Iterator[Any]]) -> Iterator[Any]:
    """Yield the rows of a DataFrame; some thousand are in memory as dicts. A value that is missing is None.

    Args:
        frame: the table.
        make: makes the rows of a record batch, and says of one that is refused which it is.

    Raises:
        ConfigError: when a column cannot be told, naming it, its type, and what to do.
        StreamError, RowValueError: when a type, or a value, has no place in a row.
    """
    _check_shape(frame)
    if not hasattr(frame, "dtypes"):  # a table that is only like one of pandas
        for start in range(0, len(frame), _AT_ONCE):
            yield from frame.iloc[start : start + _AT_ONCE].to_dict("records")
        return
    names, typed = list(frame.columns), list[str]()
    if find_spec("pyarrow") is None:
        _check_without_arrow(frame)
    else:
        frame = frame.copy(deep=False)
        for name in names:
            frame[name] = _settled(_unpacked(frame[name]))
        typed = [name for name in names if not _is_object(frame[name]) or _goes_by_arrow(frame[name])]
    schema = arrow().schema([(name, _arrow_type(frame[name])) for name in typed]) if typed else None
    maker = RowMaker(schema, "input") if typed else None
    for start in range(0, len(frame), _AT_ONCE):
        part = frame.iloc[start : start + _AT_ONCE]
        columns = {name: _as_they_are(part[name]) for name in set(names).difference(typed)}
        if maker is not None:
            made = list(make(maker, _batch(part[typed], schema), start))
            columns |= {name: [row[name] for row in made] for name in typed}
        for number in range(len(part)):
            yield {name: columns[name][number] for name in names}


def _check_shape(frame: Any) -> None:
    names = list(frame.columns)
    for name in names:
        if not isinstance(name, str):
            raise ConfigError(
                f"input: the table has the column {name!r} ({type(name).__name__}), and names of columns are text; "
                "rename it"
            )
    if twice := [name for name in names if names.count(name) > 1]:
        raise ConfigError(f"input: the table has more than one column {twice[0]!r}; rename one")
    if lost := _index_with_data(frame):
        raise ConfigError(
            f"input: the index of the table ({lost}) is no column, and would be lost; make it one by reset_index(), or "
            "leave it out by reset_index(drop=True)"
        )


def _index_with_data(frame: Any) -> str:
    """Return what the index of a table has that is data, for people; "" when it only counts rows.

    One without a name counts rows if it holds whole numbers: after rows were sorted or filtered, these have gaps.
    """
    index: Any = getattr(frame, "index", None)
    if names := [name for name in getattr(index, "names", ()) if name is not None]:
        return ", ".join(map(str, names))
    if len(frame) == 0 or getattr(getattr(index, "dtype", None), "kind", "i") in "iu":
        return ""
    more = ", …" if len(frame) > _LABELS_SHOWN else ""
    return f"without a name: {', '.join(repr(str(label)) for label in index[:_LABELS_SHOWN])}{more}"


def _check_without_arrow(frame: Any) -> None:
    """Refuse columns whose values only Arrow tells exactly."""
    for name in frame.columns:
        column = frame[name]
        is_plain = _kind(column) in "biuf" or str(column.dtype).startswith(("str", "string"))
        if not (is_plain or (_is_object(column) and not _special(column))):
            raise ConfigError(
                f"input: column {name!r} ({_told(column)}) is read exactly with pyarrow: pip install "
                f"'llm-datagen[parquet]'; or make it text: {_as_text(name)}"
            )


def _is_object(column: Any) -> bool:
    return _kind(column) == "O" and str(column.dtype) == "object"


def _kind(column: Any) -> str:
    return str(getattr(column.dtype, "kind", "O"))


def _types(column: Any) -> set[type]:
    """Return the types of the values that are not missing."""
    return set(map(type, column.dropna().array))


def _special(column: Any) -> set[type]:
    """Return the types among the values that JSON has not, and Arrow has."""
    return {kind for kind in _types(column) if issubclass(kind, _SPECIAL) or _is_numpy_time(kind)}


def _is_numpy_time(kind: type) -> bool:
    return kind.__module__ == "numpy" and kind.__name__ in {"datetime64", "timedelta64"}


def _is_of_pandas(kind: type) -> bool:
    return _is_numpy_time(kind) or kind.__module__.partition(".")[0] == "pandas"


def _unpacked(column: Any) -> Any:
    """Return a column; one whose categories are objects as a column of these, but for text, which most are."""
    categories = getattr(column.dtype, "categories", None)
    if categories is None or not _is_object(categories) or all(isinstance(value, str) for value in categories):
        return column
    return column.astype(object)


def _settled(column: Any) -> Any:
    """Return a column; one of objects with a type of pandas, where all are moments or spans of pandas or NumPy.

    Raises:
        ConfigError: when only some of them are, or they have several zones.
    """
    if not _is_object(column) or not any(map(_is_of_pandas, _special(column))):
        return column
    settled = column.infer_objects()
    if _is_object(settled):
        raise _mixed(column)
    return settled


def _goes_by_arrow(column: Any) -> bool:
    """Return whether the values of a column of objects become others; if not, they stay as they are.

    Raises:
        ConfigError: when only some of them do, or moments have several zones, or a time has one.
    """
    special = _special(column)
    if not special:
        return False
    family = next(family for family in _FAMILIES if issubclass(next(iter(special)), family))
    if not all(issubclass(kind, family) for kind in _types(column)):
        raise _mixed(column)
    if family in {(dt.datetime,), (dt.time,)}:
        zones = {value.tzinfo for value in column.dropna()}
        if len(zones) > 1 or (family == (dt.time,) and zones != {None}):
            raise _mixed(column)
    return True


def _arrow_type(column: Any) -> Any:
    """Return the type that Arrow has for a column.

    Raises:
        ConfigError: when it has none, or one whose meaning would be lost.
    """
    pa = arrow()
    try:
        if _is_object(column):
            kind = pa.infer_type(column.array, from_pandas=True)
        else:
            kind = pa.Schema.from_pandas(column.iloc[:0].to_frame(), preserve_index=False).field(0).type
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise _no_place(column) from error
    values = kind.value_type if pa.types.is_dictionary(kind) else kind
    if is_extension(values) and values.extension_name.startswith("pandas."):
        raise _no_place(column)
    if pa.types.is_timestamp(values) and values.unit == "s":  # which Parquet keeps as milliseconds
        values = pa.timestamp("ms", values.tz)
    return pa.dictionary(kind.index_type, values, kind.ordered) if pa.types.is_dictionary(kind) else values


def _batch(part: Any, schema: Any) -> Any:
    pa = arrow()
    try:
        table = pa.Table.from_pandas(part, schema=schema, preserve_index=False, nthreads=1)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        why = "; ".join(map(str, error.args))
        raise ConfigError(f"input: {why}; give the column one type, or make it text") from error
    return table.combine_chunks().to_batches()[0]


def _as_they_are(column: Any) -> list[Any]:
    """Return values as Python has them; None for one that is missing."""
    return [None if gone else value for value, gone in zip(column.tolist(), column.isna(), strict=True)]


def _mixed(column: Any) -> ConfigError:
    kinds = sorted(kind.__name__ for kind in _types(column))
    return ConfigError(
        f"input: column {column.name!r} ({column.dtype}) holds values of several types or zones "
        f"({', '.join(kinds)}), or times with one; give it one type without, or make it text: {_as_text(column.name)}"
    )


def _no_place(column: Any) -> ConfigError:
    return ConfigError(
        f"input: column {column.name!r} ({_told(column)}) has a type that has no place in a row; leave it out, or make "
        f"it text: {_as_text(column.name)}"
    )


def _told(column: Any) -> str:
    if not _is_object(column):
        return str(column.dtype)
    return ", ".join(sorted(kind.__name__ for kind in _special(column))) or "object"


def _as_text(name: str) -> str:
    return f"table[{name!r}].astype(str)"
