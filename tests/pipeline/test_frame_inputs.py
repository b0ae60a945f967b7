"""DataFrames as inputs: a value is what a Parquet file of the same table gives, or is refused with its column."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from llm_datagen import ConfigError
from llm_datagen.errors import RowValueError, StreamError
from llm_datagen.pipeline import frame_rows, memory_rows
from llm_datagen.pipeline.memory_rows import rows_in

from ..kit.lazy import np, pa, pd, pl
from ..kit.support import Bench, lines

BERLIN = "Europe/Berlin"
Columns = dict[str, tuple[Any, list[Any]]]
"""Columns of two rows: what they are made of, and what becomes of it."""

HOUR_EAST = dt.timezone(dt.timedelta(hours=1))


def typed() -> Columns:
    return {
        "moments": (
            pd.to_datetime(["2024-01-02 03:04:05.123456", None]).as_unit("us"),
            ["2024-01-02T03:04:05.123456", None],
        ),
        "nanoseconds": (
            pd.to_datetime(["2024-01-02 03:04:05.123456789", None]).as_unit("ns"),
            ["2024-01-02T03:04:05.123456789", None],
        ),
        "seconds": (pd.to_datetime(["2024-01-02", None]).as_unit("s"), ["2024-01-02T00:00:00.000", None]),
        "zone": (
            pd.to_datetime(["2024-07-02", None]).as_unit("ms").tz_localize(BERLIN),
            ["2024-07-02T00:00:00.000+02:00", None],
        ),
        "utc": (
            pd.to_datetime(["2024-07-02", None]).as_unit("s").tz_localize("UTC"),
            ["2024-07-02T00:00:00.000Z", None],
        ),
        "spans": (pd.to_timedelta([90.5, None], unit="s").as_unit("ms"), ["PT90.500S", None]),
        "text categories": (pd.Categorical(["a", None]), ["a", None]),
        "number categories": (pd.Categorical([7, None]), [7, None]),
        "moment categories": (
            pd.Categorical(pd.to_datetime(["2024-01-02", None]).as_unit("s")),
            ["2024-01-02T00:00:00.000", None],
        ),
        "nullable": (pd.array([1, None], dtype="Int64"), [1, None]),
        "nullable floats": (pd.array([1.5, None], dtype="Float64"), [1.5, None]),
        "nullable booleans": (pd.array([True, None], dtype="boolean"), [True, None]),
        "strings": (pd.array(["é", None], dtype="string"), ["é", None]),
        "floats": ([0.5, float("nan")], [0.5, None]),
        "short floats": (pd.array([0.1, float("nan")], dtype="float32"), [0.10000000149011612, None]),
        "large": (np.array([2**64 - 1, 0], dtype="uint64"), [2**64 - 1, 0]),
    }


def objects() -> Columns:
    """Columns of objects that a file of Parquet can hold, too."""
    return {
        "datetime": ([dt.datetime(2024, 1, 2, 3), None], ["2024-01-02T03:00:00.000000", None]),
        "datetime and NaT": ([dt.datetime(2024, 1, 2, 3), pd.NaT], ["2024-01-02T03:00:00.000000", None]),
        "in UTC": ([dt.datetime(2024, 1, 2, tzinfo=dt.UTC), None], ["2024-01-02T00:00:00.000000Z", None]),
        "offset": ([dt.datetime(2024, 1, 2, tzinfo=HOUR_EAST), None], ["2024-01-02T00:00:00.000000+01:00", None]),
        "date": ([dt.date(2024, 1, 2), pd.NA], ["2024-01-02", None]),
        "time": ([dt.time(1, 2, 3), None], ["01:02:03.000000", None]),
        "span": ([dt.timedelta(seconds=1.5), None], ["PT1.500000S", None]),
        "decimals": ([Decimal("1.50"), Decimal("-2.125")], ["1.500", "-2.125"]),
        "small decimals": ([Decimal("1E-10"), Decimal("NaN")], ["0.0000000001", None]),
        "bytes": ([b"\0", None], ["AA==", None]),
        "bytearray": ([bytearray(b"\0"), b"\1"], ["AA==", "AQ=="]),
        "uuid": ([UUID(int=1), None], ["00000000-0000-0000-0000-000000000001", None]),
        "text and NaN": (["a", float("nan")], ["a", None]),
        "numbers and NA": ([1, pd.NA], [1, None]),
        "lists": ([[1, 2], None], [[1, 2], None]),
        "flags": ([True, None], [True, None]),
    }


def only_here() -> Columns:
    """Columns of objects that pyarrow does not write, or not exactly."""
    return {
        "mixed": ([1, "a"], [1, "a"]),
        "objects": ([{"a": 1}, {"b": [2.5, None]}], [{"a": 1}, {"b": [2.5, None]}]),
        "long": ([10**30, 1], [10**30, 1]),
        "moments of pandas": (
            [pd.Timestamp("2024-01-02 00:00:00.000000001"), None],
            ["2024-01-02T00:00:00.000000001", None],
        ),
        "spans of pandas": ([pd.Timedelta("1ns"), pd.NaT], ["PT0.000000001S", None]),
    }


def frame_of(columns: Columns) -> Any:
    return pd.DataFrame({name: values for name, (values, _) in columns.items()})


def objects_of(columns: Columns) -> Any:
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, (values, _) in columns.items()})


def told(columns: Columns) -> list[dict[str, Any]]:
    return [{name: rows[number] for name, (_, rows) in columns.items()} for number in range(2)]


@pytest.fixture(scope="module", autouse=True)
def threads_of_polars() -> None:
    """Polars starts what it has for moments before a test looks which files are left open."""
    pl.DataFrame({"c": [dt.datetime(2024, 1, 1)]})


@pytest.mark.parametrize(("make", "of"), [(frame_of, typed), (objects_of, objects)])
def test_a_frame_gives_the_rows_that_a_parquet_file_of_it_gives(
    bench: Bench, make: Callable[[Any], Any], of: Callable[[], Columns]
) -> None:
    columns = of()
    frame = make(columns)
    frame.to_parquet(bench.folder / "in.parquet", index=False)
    bench.pipeline([same], input_uri=f"{bench.folder}/in.parquet").create("a").run()
    of_file = [{**row} for row in lines(bench.output)]
    bench.pipeline([same], input_uri=None).create("a", input=frame, if_exists="overwrite").run()
    assert lines(bench.output) == of_file
    assert [{name: row[name] for name in columns} for row in of_file] == told(columns)


def same(row: Any) -> Any:
    return row


def test_objects_without_one_type_are_what_they_are(bench: Bench) -> None:
    bench.pipeline([same], input_uri=None).create("a", input=objects_of(only_here())).run()
    assert lines(bench.output) == [{**row, "_i": number} for number, row in enumerate(told(only_here()))]


@pytest.mark.parametrize(
    "values",
    [
        ["a", 1],
        [b"a", b"b"],
        ["a", "b"],
        [dt.date(2024, 1, 2)] * 2,
        [Decimal("1.5"), Decimal(2)],
        [1.5, 2],
        [10**30, 1],
    ],
)
def test_categories_of_objects_are_told_as_a_column_of_these_is(values: list[Any]) -> None:
    frame = pd.DataFrame({"c": of_categories(*values), "o": pd.Series(values, dtype=object)})
    rows = list(rows_in(frame))
    assert [(type(row["c"]), row["c"]) for row in rows] == [(type(row["o"]), row["o"]) for row in rows]


def test_a_long_frame_is_read_in_pieces_of_one_type() -> None:
    """The type of a column is that of all of its rows, also where the first thousands say another one."""
    count = 9000
    decimals = [Decimal(1)] * (count - 1) + [Decimal("0.25")]
    frame = pd.DataFrame({"d": pd.Series(decimals, dtype=object), "c": pd.Categorical(["x"] * (count - 1) + ["y"])})
    rows = list(rows_in(frame.iloc[1:]))
    assert len(rows) == count - 1
    assert rows[0] == {"d": "1.00", "c": "x"}
    assert rows[-1] == {"d": "0.25", "c": "y"}


def test_categories_of_polars_are_their_values(bench: Bench) -> None:
    """Polars gives text as views, of which pyarrow takes no values by number."""
    words = ["a", None, "a word that is long enough not to lie within a view"]
    frame = pl.DataFrame(
        {
            "c": pl.Series(words, dtype=pl.Categorical),
            "e": pl.Series(words, dtype=pl.Enum([word for word in words if word])),
            "l": pl.Series([[word] for word in words], dtype=pl.List(pl.Categorical)),
        }
    )
    rows = [{"c": word, "e": word, "l": [word]} for word in words]
    assert list(rows_in(frame)) == rows
    frame.write_ipc(bench.folder / "in.arrow")
    bench.pipeline([same], input_uri=f"{bench.folder}/in.arrow").create("a").run()
    assert lines(bench.output) == [{**row, "_i": number} for number, row in enumerate(rows)]


def refused(values: Any) -> Any:
    return pd.DataFrame({"n": [1, 2], "c": values})


def of_objects(*values: Any) -> Any:
    return refused(pd.Series(values, dtype=object))


def of_categories(*values: Any) -> Any:
    return pd.Categorical(values, categories=pd.Index(list(dict.fromkeys(values)), dtype=object))


AS_TEXT = "table['c'].astype(str)"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: refused(pd.period_range("2024-01", periods=2, freq="M")), f"'c' (period[M]) has a type.*{AS_TEXT}"),
        (
            lambda: refused(pd.interval_range(0, 2)),
            "'c' (interval[int64, right]) has a type that has no place",
        ),
        (lambda: refused(pd.cut([1, 2], 2)), "'c' (category) has a type that has no place in a row"),
        (lambda: refused([1j, 2j]), "'c' (complex128) has a type that has no place in a row"),
        (
            lambda: refused(pd.arrays.SparseArray([1, 0])),
            "'c' (Sparse[int64, 0]) has a type that has no place in a",
        ),
        (
            lambda: of_objects(dt.date(2024, 1, 1), dt.datetime(2024, 1, 1, 5)),
            "several types or zones (date, datetime)",
        ),
        (lambda: of_objects(b"x", "x"), "'c' (object) holds values of several types or zones (bytes, str)"),
        (lambda: of_objects(dt.datetime(2024, 1, 1), 5), "several types or zones (datetime, int)"),
        (lambda: of_objects(Decimal(1), 1.5), "several types or zones (Decimal, float)"),
        (
            lambda: of_objects(dt.datetime(2024, 1, 1), dt.datetime(2024, 1, 1, tzinfo=dt.UTC)),
            "several types or zones (datetime)",
        ),
        (
            lambda: refused(of_categories(dt.date(2024, 1, 2), dt.datetime(2024, 1, 3, 4, 5, 6))),
            "several types or zones (date, datetime)",
        ),
        (lambda: refused(of_categories(b"a", "b")), "several types or zones (bytes, str)"),
        (lambda: of_objects(dt.time(1, tzinfo=dt.UTC), None), "zones (time), or times with one; give it one type"),
        (lambda: of_objects(pd.Timestamp("2024-01-01"), "x"), "several types or zones (Timestamp, str)"),
        (lambda: of_objects(Decimal("1E80"), Decimal(1)), "'c' (Decimal) has a type that has no place in a row"),
        (lambda: refused([1, 2]).set_index("n"), "the index of the table (n) is no column, and would be lost; make it"),
        (
            lambda: pd.DataFrame({"c": [1, 2, 3]}).set_axis(["u", "v", "w"]),
            "the index of the table (without a name: 'u', 'v', …) is no column, and would be lost; make it one by "
            "reset_index()",
        ),
        (
            lambda: pd.DataFrame({"c": [1]}).set_axis(pd.to_datetime(["2024-01-31"])),
            "(without a name: '2024-01-31 00:00:00') is no",
        ),
        (
            lambda: pd.DataFrame({"c": [1]}).set_axis(pd.MultiIndex.from_tuples([(1, 2)])),
            "(without a name: '(1, 2)') is no column",
        ),
        (lambda: pd.DataFrame({5: [1]}), "the column 5 (int), and names of columns are text; rename it"),
        (lambda: pd.DataFrame([[1, 2]], columns=["a", "a"]), "more than one column 'a'; rename one"),
        (lambda: pl.DataFrame({"c": pl.Series([object()], dtype=pl.Object)}), "'c' (Object) holds objects of Python"),
        (lambda: pl.DataFrame({"c": pl.Series([1], dtype=pl.Int128)}), "this DataFrame cannot be read through Arrow"),
        (lambda: pl.Series([1, 2]), "this Series cannot be read through Arrow"),
    ],
)
def test_what_a_row_cannot_hold_is_refused_with_its_column_and_type(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(says).replace(r"\.\*", ".*")):
        list(rows_in(make()))


def test_an_index_that_counts_rows_is_left_out() -> None:
    frame = pd.DataFrame({"n": [3, 1, 2]})
    for table in (frame, frame.sort_values("n"), frame[frame.n > 1], pd.concat([frame, frame])):
        assert list(rows_in(table)) == [{"n": n} for n in table.n]
    assert list(rows_in(pd.DataFrame({"n": []}, index=pd.Index([], dtype=object)))) == []


def test_a_value_that_json_has_not_is_refused_with_its_row(bench: Bench) -> None:
    for frame, why in (
        (pd.DataFrame({"c": [1.0, float("inf")]}), "input: row 1: column 'c' holds inf"),
        (of_objects(1, {2}), "input: row 1: column 'c' holds a set"),
        (of_objects(1, {"a": [Decimal(1)]}), r"input: row 1: column 'c'\['a'\]\[0\] holds a Decimal"),
    ):
        with pytest.raises(RowValueError, match=why):
            bench.pipeline([same], input_uri=None).create("a", input=frame)
    assert not (bench.folder / "results/a").exists()


def test_a_type_of_arrow_without_a_place_is_refused_for_a_table_in_memory_too() -> None:
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(StreamError, match=r"input, column 'u'.*leave the column out \(of a file, with \?columns=…\)"):
        list(rows_in(pa.table({"u": union})))


def test_without_pyarrow_only_columns_are_taken_that_mean_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (frame_rows, memory_rows):
        monkeypatch.setattr(module, "find_spec", lambda name: None)
    plain = {"n": [1, 2], "f": [0.5, float("nan")], "b": [True, False], "t": ["a", None]}
    frame = pd.DataFrame({**plain, "i": pd.array([1, None], dtype="Int64"), "o": pd.Series(["x", 1], dtype=object)})
    first, second = rows_in(frame)
    assert first == {"n": 1, "f": 0.5, "b": True, "t": "a", "i": 1, "o": "x"}
    assert second == {"n": 2, "f": None, "b": False, "t": None, "i": None, "o": 1}
    for name in ("moments", "spans", "text categories"):
        with pytest.raises(ConfigError, match=r"'c' \(.*\) is read exactly with pyarrow: pip install"):
            list(rows_in(refused(typed()[name][0])))
    for name in ("datetime", "time", "decimals", "bytes"):
        with pytest.raises(ConfigError, match=r"'c' \(.*\) is read exactly with pyarrow: pip install"):
            list(rows_in(of_objects(*objects()[name][0])))
    rows: dict[str, list[Any]] = {"n": [1], "t": ["a"], "d": [dt.date(2024, 1, 2)], "l": [[0.5]], "s": [{"x": None}]}
    assert list(rows_in(pl.DataFrame(rows))) == [{name: values[0] for name, values in rows.items()}]
    for value in (
        dt.datetime(2024, 1, 2),
        Decimal("1.5"),
        b"x",
        dt.timedelta(1),
        dt.time(1),
        [dt.datetime(2024, 1, 2)],
    ):
        with pytest.raises(ConfigError, match=r"column 'c' \(.*\) is read exactly with pyarrow"):
            list(rows_in(pl.DataFrame({"c": [value]})))
