# ruff: noqa: PLW0108 - pyarrow is not there yet when the table of values is made
"""Types of Parquet and Arrow in rows: each value is told exactly, or its row, or its column, is refused by name."""

from __future__ import annotations

import base64
import datetime as dt
import importlib
import json
import re
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from llm_datagen import StreamFactory
from llm_datagen.errors import StreamError
from llm_datagen.streams import Stream
from llm_datagen.streams.formats.unreadable import explained

from ..kit.lazy import pa, pq
from ..kit.support import Bench, Stopping, lines
from ..streams.storages import read_now


def write(path: Path, column: Any, **options: Any) -> Path:
    """Write a table of one column, `v`."""
    table = pa.table({"v": column, "n": range(len(column))})
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
    else:
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table)
    return path


def values_in(path: Path) -> list[Any]:
    """Return the values of the column `v`; for a row that cannot be read, the error."""
    stream = StreamFactory.create(str(path))
    found: list[Any] = []
    cursor = stream.cursor(follow=False)
    while block := cursor.read(100):
        for record in block.records:
            try:
                found.append(block.decode(record)["v"])
            except ValueError as error:
                found.append(explained(error, record))
    cursor.close()
    return found


DAY = 86_400
TOLD: dict[str, tuple[Any, Any]] = {
    "moment": (lambda: pa.array([1704164645123456789], pa.timestamp("ns")), "2024-01-02T03:04:05.123456789"),
    "moment in UTC": (lambda: pa.array([0], pa.timestamp("ms", "UTC")), "1970-01-01T00:00:00.000Z"),
    "moment in a zone": (lambda: pa.array([0], pa.timestamp("ms", "Europe/Berlin")), "1970-01-01T01:00:00.000+01:00"),
    "moment west": (lambda: pa.array([0], pa.timestamp("us", "-03:30")), "1969-12-31T20:30:00.000000-03:30"),
    "local mean time": (
        lambda: pa.array([-4 * 10**12], pa.timestamp("ms", "Europe/Berlin")),
        "1843-03-31T16:53:20.000Z",
    ),
    "year 0": (lambda: pa.array([-62_135_596_800_000 - DAY * 1000], pa.timestamp("ms")), "0000-12-31T00:00:00.000"),
    "year -1": (lambda: pa.array([-719_528 - 365], pa.int32()).cast(pa.date32()), "-0001-01-01"),
    "year 10000": (lambda: pa.array([253_402_300_800_000], pa.timestamp("ms")), "+10000-01-01T00:00:00.000"),
    "time": (lambda: pa.array([dt.time(23, 59, 59, 1)], pa.time64("ns")), "23:59:59.000001000"),
    "duration": (lambda: pa.array([-90_500], pa.duration("ms")), "-PT90.500S"),
    "longest duration": (lambda: pa.array([2**63 - 1], pa.duration("ns")), "PT9223372036.854775807S"),
    "durations in lists": (lambda: pa.array([[dt.timedelta(1), None]]), ["PT86400.000000S", None]),
    "small decimal": (lambda: pa.array([Decimal("1E-10")], pa.decimal128(38, 10)), "0.0000000001"),
    "decimal zero": (lambda: pa.array([Decimal(0)], pa.decimal128(38, 10)), "0.0000000000"),
    "longest decimal": (lambda: pa.array([Decimal("-" + "9" * 76)], pa.decimal256(76, 0)), "-" + "9" * 76),
    "decimals inside": (
        lambda: pa.array(
            [{"a": [Decimal("1E-9")], "m": [("k", None)]}],
            pa.struct([("a", pa.list_(pa.decimal128(20, 9))), ("m", pa.map_(pa.string(), pa.date32()))]),
        ),
        {"a": ["0.000000001"], "m": {"k": None}},
    ),
    "UUID": (lambda: pa.array([uuid.UUID(int=1).bytes], pa.uuid()), "00000000-0000-0000-0000-000000000001"),
    "JSON": (lambda: pa.array(['{"a": [1, 123456789012345678901]}'], pa.json_()), {"a": [1, 123456789012345678901]}),
    "image": (
        lambda: pa.array(
            [{"bytes": b"\x89PNG", "path": None}], pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        ),
        {"bytes": base64.b64encode(b"\x89PNG").decode(), "path": None},
    ),
    "most of uint64": (lambda: pa.array([2**64 - 1], pa.uint64()), 2**64 - 1),
    "float of 32 bits": (lambda: pa.array([0.1], pa.float32()), 0.10000000149011612),
    "minus zero": (lambda: pa.array([-0.0], pa.float64()), -0.0),
    "map of pairs": (lambda: pa.array([[(1, "a"), (1, "b")]], pa.map_(pa.int64(), pa.string())), [[1, "a"], [1, "b"]]),
    "large": (lambda: pa.array(["é" * 1_000_000], pa.large_string()), "é" * 1_000_000),
    "dictionary of dates": (lambda: pa.array([dt.date(2024, 1, 1)]).dictionary_encode(), "2024-01-01"),
    "empty struct": (lambda: pa.array([{"a": None}], pa.struct([("a", pa.struct([("b", pa.date32())]))])), {"a": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", TOLD)
def test_a_value_is_told_exactly(tmp_path: Path, name: str) -> None:
    make, told = TOLD[name]
    for ending in ("parquet", "arrow"):
        column = pa.concat_arrays([make(), pa.nulls(1, make().type), make()])
        found = values_in(write(tmp_path / f"a.{ending}", column))
        assert json.dumps(found) == json.dumps([told, None, told])  # which tells -0.0 from 0.0, and 1 from 1.0


def test_types_that_only_arrow_files_have_are_told_too(tmp_path: Path) -> None:
    tensors = pa.FixedShapeTensorArray.from_storage(
        pa.fixed_shape_tensor(pa.int8(), (2, 3)), pa.array([[1, 2, 3, 4, 5, 6]], pa.list_(pa.int8(), 6))
    )
    assert values_in(write(tmp_path / "a.arrow", tensors)) == [[[1, 2, 3], [4, 5, 6]]]
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array([dt.date(2024, 1, 1), None]))
    assert values_in(write(tmp_path / "b.arrow", runs)) == ["2024-01-01", "2024-01-01", None]
    assert values_in(write(tmp_path / "c.arrow", pa.array([2, 0, None], pa.bool8()))) == [True, False, None]
    views = pa.array([[dt.date(2024, 1, 1)], None, []], pa.list_view(pa.date32()))
    assert values_in(write(tmp_path / "d.arrow", views)) == [["2024-01-01"], None, []]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pa.array([(1, 2, 3)], pa.month_day_nano_interval()), "the type month_day_nano_interval has no place"),
        (
            lambda: pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])]),
            "the type sparse_union<.*> has no place in a row; leave the column out",
        ),
        (lambda: pa.array([1], pa.opaque(pa.int64(), "a", "b")), "the type extension<arrow.opaque.* has no place"),
        (
            lambda: pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"]),
            "it has two fields 'a', and an object has one",
        ),
    ],
    ids=["interval", "union", "opaque", "two fields of one name"],
)
def test_a_type_that_rows_cannot_hold_is_refused_with_its_column(tmp_path: Path, make: Any, says: str) -> None:
    with pytest.raises(StreamError, match=f"a.arrow, column 'v.*: {says}"):
        values_in(write(tmp_path / "a.arrow", make()))


def nested(moments: Any) -> list[Any]:
    """Return the moments as a column, and within others."""
    offsets = pa.array(range(len(moments) + 1), pa.int32())
    return [
        moments,
        pa.StructArray.from_arrays([moments], ["t"]),
        pa.ListArray.from_arrays(offsets, moments),
        pa.MapArray.from_arrays(offsets, pa.array(["k"] * len(moments)), moments),
    ]


def test_moments_of_old_writers_are_exact_at_any_depth_and_refused_where_64_bits_do_not_hold_them(
    tmp_path: Path,
) -> None:
    told = "2024-01-02T03:04:05.123456"
    text = f"{told}000"
    near, far = pa.array([1704164645123456, None], pa.timestamp("us")), 32_503_680_000_000_000  # the year 3000
    expected = [text, {"t": text}, [text], {"k": text}]
    empty = [None, {"t": None}, [None], {"k": None}]
    both = pa.array([1704164645123456, far, 1], pa.timestamp("us"))
    for column, first, second, mixed in zip(nested(near), expected, empty, nested(both), strict=True):
        options = {"use_deprecated_int96_timestamps": True}
        assert values_in(write(tmp_path / "a.parquet", column, **options)) == [first, second]
        found = values_in(write(tmp_path / "b.parquet", mixed, **options))
        assert found[0] == first
        assert "column 'v' (INT96) holds a moment before 1677 or after 2262" in str(found[1])
        assert "1970-01-01T00:00:00.000001000" in str(found[2])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: pa.array([0, 2**31 - 1, 0], pa.int32()).cast(pa.date32()), "a date32.* out of the range of the cal"),
        (lambda: pa.array([[0], [2**62], [0]], pa.list_(pa.timestamp("s"))), "a timestamp.* is out of the range"),
        (
            lambda: pa.array([[("k", 1)], [("k", 1), ("k", 2)], []], pa.map_(pa.string(), pa.int64())),
            "a map has a key twice",
        ),
        (lambda: pa.array(["1", "{,", "1"], pa.json_()), "it is said to be JSON, and is not"),
        (
            lambda: pa.Array.from_buffers(
                pa.string(),
                3,
                [None, pa.py_buffer(b"\0\0\0\0\2\0\0\0\5\0\0\0\7\0\0\0"), pa.py_buffer(b"ok\xed\xa0\x80ok")],
            ),
            "holds text that is not UTF-8",
        ),
    ],
    ids=["date", "moment in a list", "a key twice", "no JSON", "no UTF-8"],
)  # fmt: skip
def test_a_value_that_a_row_cannot_hold_refuses_its_row_and_no_other(bench: Bench, make: Any, says: str) -> None:
    path = write(bench.folder / "a.arrow", make())
    pipeline = bench.pipeline([Stopping()], input_uri=str(path), on_error="dead_letter")
    report = pipeline.create("a").run()
    assert (report.rows_out, report.failed) == (2, 1)
    assert sorted(row["_i"] for row in lines(bench.output)) == [0, 2]
    (letter,) = Path(f"{bench.output}.errors.jsonl").read_text().splitlines()
    assert re.search(f"a.arrow, row 2: .*column 'v':? ?{says}", str(json.loads(letter)["error"]))


def test_rows_without_columns_and_columns_without_rows(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": pa.array([], pa.date32())}), tmp_path / "a.parquet")
    assert values_in(tmp_path / "a.parquet") == []
    groups = pq.ParquetWriter(tmp_path / "b.parquet", pa.schema([("v", pa.date32())]))
    for days in ([1], [], [2]):
        groups.write_table(pa.table({"v": pa.array(days, pa.date32())}))
    groups.close()
    assert values_in(tmp_path / "b.parquet") == ["1970-01-02", "1970-01-03"]


def test_columns_have_any_names(tmp_path: Path) -> None:
    names = ["a.b", "a", "", " ", "ü\n", "a b", "?columns=", '"']
    table = pa.table([[1], [{"b": dt.date(2024, 1, 1)}], *([n] for n in range(2, len(names)))], names)
    pq.write_table(table, tmp_path / "a.parquet", write_page_index=True)
    (row,) = [row for _, row in read_now(StreamFactory.create(str(tmp_path / "a.parquet")))]
    assert list(row.items()) == [
        ("a.b", 1),
        ("a", {"b": "2024-01-01"}),
        *((name, n) for n, name in enumerate(names) if n > 1),
    ]
    (row,) = [row for _, row in read_now(StreamFactory.create(f"{tmp_path}/a.parquet?columns=a,a.b"))]
    assert row == {"a.b": 1, "a": {"b": "2024-01-01"}}


def test_each_file_of_a_pattern_is_read_by_its_own_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"v": [1], "x": ["a"]}), tmp_path / "0.parquet")
    pq.write_table(pa.table({"v": ["one"], "y": [dt.date(2024, 1, 1)]}), tmp_path / "1.parquet")
    found = [row for _, row in read_now(cast(Stream, StreamFactory.source(f"{tmp_path}/*.parquet")))]
    assert found == [{"v": 1, "x": "a"}, {"v": "one", "y": "2024-01-01"}]


@pytest.mark.parametrize("plaintext_footer", [False, True])
def test_an_encrypted_file_is_refused_by_name(tmp_path: Path, plaintext_footer: bool) -> None:
    encryption = importlib.import_module("pyarrow.parquet.encryption")

    class Keys(encryption.KmsClient):  # type: ignore[name-defined, misc]
        def __init__(self, *_: Any) -> None:
            super().__init__()

        def wrap_key(self, key: bytes, _: str) -> bytes:
            return base64.b64encode(key)

    factory = encryption.CryptoFactory(lambda settings: Keys(settings))
    settings = encryption.EncryptionConfiguration("f", column_keys={"c": ["v"]}, plaintext_footer=plaintext_footer)
    properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), settings)
    table = pa.table({"v": [1, 2]})
    with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, encryption_properties=properties) as writer:
        writer.write_table(table)
    with pytest.raises(StreamError, match=r"a\.parquet.* encrypted"):
        values_in(tmp_path / "a.parquet")
