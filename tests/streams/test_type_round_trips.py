# ruff: noqa: PLW0108 - pyarrow is not there yet when the table of types is made
"""Values of Arrow types, read as rows and exported again: equal values of equal types, or refused by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Context, Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_datagen import StreamFactory
from llm_datagen.errors import ConfigError
from llm_datagen.streams import JsonlStream
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.outputs import Exported, ExportOptions, Target, export_rows

from ..kit.lazy import pa, pq
from .storages import read_now

YEAR = 31_556_952
IN_CALENDAR = st.integers(-1900 * YEAR, 8000 * YEAR)
WHOLE = st.integers(-(2**63), 2**63 - 1)
DATES = st.integers(-10_000_000, 10_000_000)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)


def scaled(digits: int, scale: int) -> st.SearchStrategy[Decimal]:
    return st.integers(-(10**digits) + 1, 10**digits - 1).map(lambda n: Decimal(n).scaleb(-scale, Context(prec=80)))


TYPES: dict[str, tuple[Callable[[], Any], st.SearchStrategy[Any]]] = {
    "int8": (lambda: pa.int8(), st.integers(-128, 127)),
    "uint64": (lambda: pa.uint64(), st.integers(0, 2**64 - 1)),
    "float32": (lambda: pa.float32(), st.floats(width=32, allow_nan=False, allow_infinity=False)),
    "float64": (lambda: pa.float64(), st.floats(allow_nan=False, allow_infinity=False)),
    "bool": (lambda: pa.bool_(), st.booleans()),
    "string": (lambda: pa.string(), TEXTS),
    "date32": (lambda: pa.date32(), DATES),
    "time32": (lambda: pa.time32("ms"), st.integers(0, 86_399_999)),
    "time64": (lambda: pa.time64("ns"), st.integers(0, 86_399_999_999_999)),
    "timestamp ms": (lambda: pa.timestamp("ms"), st.integers(-30_000 * YEAR * 1000, 30_000 * YEAR * 1000)),
    "timestamp us": (lambda: pa.timestamp("us"), st.integers(-30_000 * YEAR * 10**6, 30_000 * YEAR * 10**6)),
    "timestamp ns": (lambda: pa.timestamp("ns"), WHOLE),
    "timestamp UTC": (lambda: pa.timestamp("ms", "UTC"), IN_CALENDAR.map(lambda n: n * 1000)),
    "timestamp +05:30": (lambda: pa.timestamp("us", "+05:30"), IN_CALENDAR.map(lambda n: n * 10**6)),
    "timestamp New York": (lambda: pa.timestamp("ms", "America/New_York"), IN_CALENDAR.map(lambda n: n * 1000)),
    "timestamp Berlin": (lambda: pa.timestamp("us", "Europe/Berlin"), st.integers(-(2**56), 2**56)),
    "duration": (lambda: pa.duration("us"), WHOLE),
    "decimal": (lambda: pa.decimal128(38, 10), scaled(38, 10)),
    "decimal256": (lambda: pa.decimal256(76, 40), scaled(76, 40)),
    "binary": (lambda: pa.binary(), st.binary(max_size=5)),
    "fixed": (lambda: pa.binary(3), st.binary(min_size=3, max_size=3)),
    "list": (lambda: pa.list_(pa.timestamp("us")), st.lists(st.none() | st.integers(-(2**50), 2**50), max_size=3)),
    "struct": (
        lambda: pa.struct([("d", pa.date32()), ("l", pa.list_(pa.decimal128(5, 2)))]),
        st.fixed_dictionaries({"d": st.none() | DATES, "l": st.lists(scaled(5, 2), max_size=2)}),
    ),
    "map": (
        lambda: pa.map_(pa.string(), pa.date32()),
        st.dictionaries(TEXTS, DATES, max_size=2).map(lambda found: list(found.items())),
    ),
    "map of numbers": (
        lambda: pa.map_(pa.int32(), pa.binary()),
        st.lists(st.tuples(st.integers(0, 3), st.binary()), max_size=2),
    ),
}  # fmt: skip


def through(folder: Path, table: Any, kind: str = "parquet", **options: Any) -> Any:
    """Return a table that was written, read as rows, and exported with the types of the first file."""
    for path in (folder / "out.parquet", folder / "out.parquet.manifest", folder / "out.parquet.errors.jsonl"):
        path.unlink(missing_ok=True)
    pq.write_table(table, folder / "in.parquet")
    rows = [row for _, row in read_now(StreamFactory.create(str(folder / "in.parquet")))]
    (folder / "rows.jsonl").write_bytes(b"".join(dumps(row) + b"\n" for row in rows))
    made = export(folder, keep_ids=False, **({"schema": str(folder / "in.parquet")} | options))
    assert made.failed == 0, Path(str(made.errors_path)).read_text()
    return pq.read_table(folder / "out.parquet")


def export(folder: Path, **options: Any) -> Exported:
    target = Target.of(str(folder / "out.parquet"))
    return export_rows(JsonlStream(f"jsonl://{folder}/rows.jsonl"), target, ExportOptions.of(options))


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries({name: st.none() | values for name, (_, values) in TYPES.items()}), min_size=1, max_size=4
    )
)
def test_values_of_all_types_come_back_with_the_types_of_the_input(tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    table = pa.table({name: pa.array([row[name] for row in rows], make()) for name, (make, _) in TYPES.items()})
    assert through(tmp_path, table).equals(table)


def test_types_that_json_knows_another_way_come_back_as_plain_ones(tmp_path: Path) -> None:
    table = pa.table(
        {
            "u": pa.array([bytes(16), None], pa.uuid()),
            "d": pa.array(["a", "a"]).dictionary_encode(),
            "l": pa.array(["a", None], pa.large_string()),
            "n": pa.array([[1], []], pa.large_list(pa.int8())),
        }
    )
    found = through(tmp_path, table)
    assert found.schema.types == [pa.uuid(), pa.string(), pa.string(), pa.list_(pa.int8())]
    assert found.to_pylist() == table.to_pylist()


def test_json_text_within_lists_objects_and_maps_comes_back_as_the_values_that_it_says(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {"l": [{}, [1], "a"], "s": {"j": {}}, "m": {"k": [1, "b"]}},
        {"l": None, "s": None, "m": None},
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"".join(dumps(row) + b"\n" for row in rows))
    made = export(
        tmp_path, schema={"l": {"list": "json"}, "s": {"struct": {"j": "json"}}, "m": {"map": ["string", "json"]}}
    )
    assert made.failed == 0
    again = [row for _, row in read_now(StreamFactory.create(str(tmp_path / "out.parquet")))]
    assert [{name: row[name] for name in rows[0]} for row in again] == rows
    (tmp_path / "rows.jsonl").write_bytes(b"".join(dumps({n: r[n] for n in rows[0]}) + b"\n" for r in again))
    (tmp_path / "out.parquet").rename(tmp_path / "first.parquet")
    (tmp_path / "out.parquet.manifest").unlink()
    export(tmp_path, schema=str(tmp_path / "first.parquet"))
    first, second = (pq.read_table(tmp_path / name) for name in ("first.parquet", "out.parquet"))
    assert second.equals(first)
    assert second.schema.equals(first.schema, check_metadata=True)


def test_columns_that_the_file_lacks_have_the_types_of_their_values(tmp_path: Path) -> None:
    pq.write_table(pa.table({"t": pa.array([1], pa.timestamp("us")), "gone": [1]}), tmp_path / "in.parquet")
    (tmp_path / "rows.jsonl").write_text('{"t": "2024-01-31T00:00:00", "new": 1}\n{"t": "soon", "new": 2}\n')
    made = export(tmp_path, schema=str(tmp_path / "in.parquet"))
    schema = pq.read_schema(tmp_path / "out.parquet")
    assert {field.name: str(field.type) for field in schema} == {"_i": "string", "t": "timestamp[us]", "new": "int64"}
    (line,) = Path(str(made.errors_path)).read_text().splitlines()
    error = json.loads(line)
    assert (error["_i"], error["column"], error["type"]) == (1, "t", "timestamp[us]")
    assert error["reason"] == "'soon' is no moment such as 2024-01-31T23:59:59.5"


@pytest.mark.parametrize(
    ("type", "good", "bad"),
    [
        ("date", ["2024-02-29", "-0001-01-01", "+10000-01-01"], ["2023-02-29", "2024-1-1", 5, "٢٠٢٤-01-01"]),
        ("time32[s]", ["00:00:00", "23:59:59.000"], ["24:00:00", "23:59:60", "23:59:59.5", "1:00:00"]),
        (
            "timestamp[ms]",
            ["2024-01-31T00:00:00", "2024-01-31 00:00:00.120000"],
            ["2024-01-31T00:00:00.0001", "2024-01-31T00:00:00Z", "2024-01-31"],
        ),
        (
            "timestamp[us, UTC]",
            ["2024-01-31T00:00:00Z", "2024-01-31T00:00:00+00:00"],
            ["2024-01-31T00:00:00+01:00", "2024-01-31T00:00:00"],
        ),
        (
            "timestamp[us, Europe/Berlin]",
            ["2024-01-31T00:00:00+01:00", "2024-07-31T00:00:00+0200"],
            ["2024-07-31T00:00:00+01:00", "2024-01-31T00:00:00Z"],
        ),
        ("timestamp[ns]", ["2262-04-11T23:47:16.854775807"], ["2262-04-11T23:47:16.854775808"]),
        ("duration[ms]", ["PT1S", "-PT90.500S"], ["P1D", "PT0.0001S", "1", "PT9223372036854776S"]),
        ("decimal(5, 2)", ["1.20", "-999.99", "5", 5, "0.100"], ["1.234", "1000", 1.5, "1e2", "NaN", True]),
        ("decimal(2, 2)", ["0.99", "0"], ["1", "0.999"]),
        ("binary", ["", "YQ=="], ["YQ", "YR==", "*", 1]),
        ("fixed_size_binary[1]", ["YQ=="], ["", "YWI="]),
        ("uuid", ["00000000-0000-0000-0000-00000000000a"], ["00000000-0000-0000-0000-00000000000A", "a"]),
        ("list<date>", [["2024-01-01", None]], [["x"], "2024-01-01"]),
        ({"map": ["string", "int8"]}, [{"a": 1}], [[["a", 1]], {"a": 300}]),
        ({"map": ["int8", "date"]}, [[[1, "2024-01-01"], [1, None]]], [{"1": "2024-01-01"}, [[None, None]], [[1]]]),
        ({"struct": {"a": "date"}}, [{"a": "2024-01-01"}, {}], [{"b": 1}]),
    ],
)  # fmt: skip
def test_a_text_becomes_a_value_only_where_it_says_it_exactly(
    tmp_path: Path, type: Any, good: list[Any], bad: list[Any]
) -> None:
    lines = [json.dumps({"v": value}) for value in [*good, *bad]]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    made = export(tmp_path, schema={"v": type})
    failed = [json.loads(line)["_i"] for line in Path(str(made.errors_path)).read_text().splitlines()]
    assert failed == list(range(len(good), len(good) + len(bad)))
    found = [row["v"] for _, row in read_now(StreamFactory.create(str(tmp_path / "out.parquet")))]
    assert len(found) == len(good)
    if type == "uuid":
        assert found == good


@pytest.mark.parametrize(
    "type", ["timestamp[us, Nowhere/City]", "decimal(90, 2)", "decimal(2, 3)", "tensor", "list<tensor>"]
)
def test_a_type_that_there_is_not_is_refused(tmp_path: Path, type: str) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"schema: column 'v': .*(no type|no zone|digits)"):
        export(tmp_path, schema={"v": type})


def test_a_schema_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError, match=r"schema: .*rows\.jsonl cannot be read as Parquet or Arrow"):
        export(tmp_path, schema=str(tmp_path / "rows.jsonl"))
    with pytest.raises(ConfigError, match=r"schema: .*none does not exist"):
        export(tmp_path, schema=str(tmp_path / "none"))
