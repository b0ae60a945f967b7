# ruff: noqa: PLW0108 - pyarrow is not there yet when the table of values is made
"""Parquet and Arrow files as inputs: every value comes out as it went in, or is refused by name."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_datagen import StreamFactory
from llm_datagen.errors import DatagenError, StreamChangedError, StreamError
from llm_datagen.runs.verify import verify
from llm_datagen.streams import Coverage, Span

from ..kit.lazy import pa, pq
from ..kit.support import Bench, Stopping, lines
from ..streams.storages import read_now


def write(path: Path, table: Any, kind: str = "parquet", rows: int = 7) -> Path:
    """Write a table in groups of so many rows."""
    if kind == "parquet":
        pq.write_table(table, path, row_group_size=rows)
        return path
    new = pa.ipc.new_file if kind == "file" else pa.ipc.new_stream
    with new(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return path


def rows_of(path: Path, query: str = "") -> list[Any]:
    return [row for _, row in read_now(StreamFactory.create(f"{path}{query}"))]


KINDS = {"parquet": "parquet", "file": "arrow", "stream": "arrow"}
kinds = pytest.mark.parametrize("kind", KINDS)


@kinds
def test_rows_have_the_same_numbers_wherever_reading_begins(tmp_path: Path, kind: str) -> None:
    table = pa.table({"n": list(range(50)), "t": [f"text {n}" for n in range(50)]})
    stream = StreamFactory.create(str(write(tmp_path / f"a.{KINDS[kind]}", table, kind)))
    whole = [(n, {"n": n, "t": f"text {n}"}) for n in range(50)]
    assert read_now(stream) == whole
    done = Coverage([Span(0, 3, 0, 3), Span(5, 21, 5, 21), Span(22, 40, 22, 40)])
    assert read_now(stream, done.gaps()) == [*whole[3:5], *whole[21:22], *whole[40:]]


VALUES: dict[str, tuple[Any, Any, Any]] = {
    "int64": (lambda: pa.int64(), -(2**63), -(2**63)),
    "uint64": (lambda: pa.uint64(), 2**64 - 1, 2**64 - 1),
    "float16": (lambda: pa.float32(), 1.5, 1.5),
    "float32": (lambda: pa.float32(), 0.5, 0.5),
    "bool": (lambda: pa.bool_(), True, True),
    "text": (lambda: pa.string(), "ü 😀 \n", "ü 😀 \n"),
    "text view": (lambda: pa.string_view(), "long enough to be no inline text", "long enough to be no inline text"),
    "null": (lambda: pa.null(), None, None),
    "bytes": (lambda: pa.binary(), b"\0\xff", base64.b64encode(b"\0\xff").decode()),
    "fixed bytes": (lambda: pa.binary(2), b"ab", "YWI="),
    "date": (lambda: pa.date32(), dt.date(2024, 2, 29), "2024-02-29"),
    "time": (lambda: pa.time64("us"), dt.time(1, 2, 3, 4), "01:02:03.000004"),
    "timestamp s": (lambda: pa.timestamp("s"), dt.datetime(2024, 1, 2, 3, 4, 5), "2024-01-02T03:04:05"),
    "timestamp ns": (lambda: pa.timestamp("ns"), 1704164645123456789, "2024-01-02T03:04:05.123456789"),
    "timestamp UTC": (lambda: pa.timestamp("ms", "UTC"), 1704164645123, "2024-01-02T03:04:05.123Z"),
    "timestamp zone": (lambda: pa.timestamp("s", "+02:00"), 1704164645, "2024-01-02T05:04:05+02:00"),
    "decimal": (
        lambda: pa.decimal128(38, 10),
        Decimal("-1234567890123456789.0123456789"),
        "-1234567890123456789.0123456789",
    ),
    "decimal256": (lambda: pa.decimal256(60, 2), Decimal("1.10"), "1.10"),
    "list": (lambda: pa.list_(pa.date32()), [dt.date(2024, 1, 1), None], ["2024-01-01", None]),
    "large list of bytes": (lambda: pa.large_list(pa.binary()), [b"a", None], ["YQ==", None]),
    "fixed list": (lambda: pa.list_(pa.float64(), 2), [1.0, 2.0], [1.0, 2.0]),
    "struct": (
        lambda: pa.struct([("a", pa.decimal128(5, 2)), ("b", pa.struct([("c", pa.binary())]))]),
        {"a": Decimal("1.20"), "b": {"c": b"x"}},
        {"a": "1.20", "b": {"c": "eA=="}},
    ),
    "map of text": (lambda: pa.map_(pa.string(), pa.date32()), [("k", dt.date(2024, 1, 1))], {"k": "2024-01-01"}),
    "map of numbers": (lambda: pa.map_(pa.int32(), pa.string()), [(1, "a"), (1, "b")], [[1, "a"], [1, "b"]]),
    "dictionary": (lambda: pa.dictionary(pa.int8(), pa.string()), "a", "a"),
}


@pytest.mark.slow
@pytest.mark.sampled(1)
@kinds
def test_long_rows_are_made_few_at_a_time(tmp_path: Path, kind: str) -> None:
    images = [random.Random(n).randbytes(1_000_000) for n in range(40)]
    table = pa.table({"n": list(range(40)), "image": images})
    stream: Any = StreamFactory.create(str(write(tmp_path / f"a.{KINDS[kind]}", table, kind, rows=40)))
    opened = stream.open_table()
    sizes = [len(batch) for batch in opened.batches(0)]
    opened.close()
    assert (sum(sizes), max(sizes)) == (40, 4)


@kinds
def test_each_type_is_told_without_loss(tmp_path: Path, kind: str) -> None:
    is_old = int(pa.__version__.partition(".")[0]) < 26  # and writes views, or reads fixed lists with nulls, not yet
    values = {name: value for name, value in VALUES.items() if not is_old or name not in {"text view", "fixed list"}}
    columns = {name: pa.array([value, None, value], make()) for name, (make, value, _) in values.items()}
    columns["float16"] = pa.array([1.5, None, 1.5], pa.float32()).cast(pa.float16())  # older ones make no other
    path = write(tmp_path / f"a.{KINDS[kind]}", pa.table(columns), kind, rows=2)
    one = {name: told for name, (_, _, told) in values.items()}
    if kind == "parquet":  # it has no seconds
        one |= {"timestamp s": "2024-01-02T03:04:05.000", "timestamp zone": "2024-01-02T05:04:05.000+02:00"}
    assert rows_of(path) == [one, dict.fromkeys(columns), one]


def test_dictionaries_within_lists_and_objects_are_read_over_row_groups(tmp_path: Path) -> None:
    """No batch is put together of two row groups: pyarrow does not."""
    words = pa.dictionary(pa.int32(), pa.string())
    kind = pa.struct([("l", pa.list_(words)), ("m", pa.map_(pa.string(), words))])
    values = [{"l": [f"word {n % 3}", None], "m": [("k", f"word {n}")]} for n in range(20)]
    stream = StreamFactory.create(str(write(tmp_path / "a.parquet", pa.table({"v": pa.array(values, kind)}))))
    rows = [(n, {"v": {"l": [f"word {n % 3}", None], "m": {"k": f"word {n}"}}}) for n in range(20)]
    assert read_now(stream) == rows
    assert read_now(stream, Coverage([Span(0, 9, 0, 9)]).gaps()) == rows[9:]


@pytest.mark.parametrize("nan", ["error", "null"])
def test_nan_is_dealt_with_as_in_json_lines(bench: Bench, nan: str) -> None:
    table = pa.table({"n": [0, 1, 2, 3], "x": [1.0, math.nan, None, math.inf], "l": [[1.0], [2.0], [math.nan], []]})
    path = write(bench.folder / "a.parquet", table)
    data = {"nan": nan}
    report = (
        bench.pipeline([Stopping()], input_uri=str(path), on_error="dead_letter", data_config=data).create("a").run()
    )
    rows = [{key: value for key, value in row.items() if key != "_i"} for row in lines(bench.output)]
    assert (report.rows_out, report.failed) == ((4, 0) if nan == "null" else (1, 3))
    if nan == "null":
        assert sorted(rows, key=lambda row: row["n"]) == [
            {"n": 0, "x": 1.0, "l": [1.0]},
            {"n": 1, "x": None, "l": [2.0]},
            {"n": 2, "x": None, "l": [None]},
            {"n": 3, "x": None, "l": []},
        ]
    else:
        dead_letters = [json.loads(line) for line in Path(f"{bench.output}.errors.jsonl").read_text().splitlines()]
        assert all("holds NaN or Infinity" in str(one["error"]) for one in dead_letters)
        assert any("a.parquet, row 2" in str(one["error"]) for one in dead_letters)


whole = st.none() | st.integers(-(2**63), 2**63 - 1)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.fixed_dictionaries({"i": whole, "t": texts, "l": st.lists(texts, max_size=3)}),
        min_size=1,
        max_size=20,
    ),
    st.integers(1, 5),
)
def test_rows_come_back_from_parquet(tmp_path: Path, rows: list[dict[str, Any]], size: int) -> None:
    table = pa.Table.from_pylist(
        rows, schema=pa.schema([("i", pa.int64()), ("t", pa.string()), ("l", pa.list_(pa.string()))])
    )
    for kind, ending in KINDS.items():
        assert rows_of(write(tmp_path / f"a.{ending}", table, kind, size)) == rows


@pytest.mark.parametrize("kind", ["parquet", "stream"])
def test_columns_are_chosen_by_the_uri(tmp_path: Path, kind: str) -> None:
    table = (
        pa.table({"a": [1], "b, c": [2], "x": pa.array([(1, 2, 3)], pa.month_day_nano_interval())})
        if kind == "stream"
        else pa.table({"a": [1], "b, c": [2], "x": [1]})
    )
    path = write(tmp_path / f"a.{KINDS[kind]}", table, kind)
    assert rows_of(path, "?columns=b%2C c,a") == [{"a": 1, "b, c": 2}]
    with pytest.raises(StreamError, match=r"has no column 'z'; it has 'a', 'b, c', 'x'"):
        rows_of(path, "?columns=z")


@pytest.mark.parametrize("uri", ["parquet://{}/in/*.parquet?columns=n", "{}/in/*?columns=n", "{}/in/?columns=n"])
def test_many_files_and_a_resume_in_the_middle(bench: Bench, uri: str) -> None:
    (bench.folder / "in").mkdir()
    for k in range(4):
        values = list(range(k * 10, k * 10 + 10))
        write(bench.folder / "in" / f"{k}.parquet", pa.table({"n": values, "x": values}), rows=3)
    uri = uri.format(bench.folder)
    bench.pipeline([Stopping(25)], input_uri=uri, parallel_size=3).create("a").run()
    report = bench.pipeline([Stopping()], input_uri=uri).resume("a").run()
    assert report.status == "completed"
    assert sorted((row["n"], row["_i"]) for row in lines(bench.output)) == [(n, n) for n in range(40)]
    assert all(row.keys() == {"n", "_i"} for row in lines(bench.output))
    assert [finding for account in verify(bench.run_state("a")) for finding in account.findings] == []


def save(folder: Path, counts: list[int]) -> None:
    """Save a dataset as `datasets` does."""
    folder.mkdir(parents=True)
    begin, names = 0, []
    for number, count in enumerate(counts):
        names.append(f"data-{number:05}-of-{len(counts):05}.arrow")
        write(folder / names[-1], pa.table({"n": list(range(begin, begin + count))}), "stream", 3)
        begin += count
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text('{\n  "features": {}\n}')


def test_a_dataset_that_was_saved_to_disk_is_one_input(bench: Bench) -> None:
    save(bench.folder / "both" / "train", [10, 0, 7])
    bench.pipeline([Stopping(12)], input_uri=f"{bench.folder}/both/train").create("a").run()
    bench.pipeline([Stopping()], input_uri=f"{bench.folder}/both/train").resume("a").run()
    assert sorted((row["n"], row["_i"]) for row in lines(bench.output)) == [(n, n) for n in range(17)]
    (bench.folder / "both" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    with pytest.raises(
        StreamError, match=r"a dataset with the splits train, test; give the folder of one, such as .*train"
    ):
        bench.pipeline([Stopping()], input_uri=f"{bench.folder}/both/").create("b").run()


@kinds
@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        (lambda data: data[: len(data) // 2], DatagenError, "cannot be read as (Parquet|Arrow)|has .* bytes"),
        (lambda data: b"", DatagenError, "cannot be read as (Parquet|Arrow)|has .* bytes"),
        (lambda data: b'{"n": 1}\n' * 9, DatagenError, "cannot be read as (Parquet|Arrow)|has .* bytes|edited"),
    ],
    ids=["cut", "empty", "another format"],
)
def test_a_file_that_is_no_table_or_was_changed_is_refused(
    bench: Bench, kind: str, change: Any, error: type[Exception], says: str
) -> None:
    path = write(bench.folder / f"a.{KINDS[kind]}", pa.table({"n": list(range(100))}), kind)
    whole = path.read_bytes()
    bench.pipeline([Stopping(50)], input_uri=str(path)).create("a").run()
    before = bench.output.read_bytes()
    path.write_bytes(change(whole))
    with pytest.raises(error, match=says):
        bench.pipeline([Stopping()], input_uri=str(path)).resume("a").run()
    with pytest.raises(error, match=r"cannot be read as (Parquet|Arrow)"):
        bench.pipeline([Stopping()], input_uri=str(path), output_uri=f"{bench.folder}/b.jsonl").create("b").run()
    assert bench.output.read_bytes() == before
    path.write_bytes(whole)
    assert bench.pipeline([Stopping()], input_uri=str(path)).resume("a").run().status == "completed"
    assert sorted(row["n"] for row in lines(bench.output)) == list(range(100))


def test_a_table_that_was_edited_is_refused(bench: Bench) -> None:
    path = write(bench.folder / "a.parquet", pa.table({"n": list(range(100))}))
    bench.pipeline([Stopping(50)], input_uri=str(path)).create("a").run()
    write(path, pa.table({"n": list(range(99, -1, -1))}))
    with pytest.raises(StreamChangedError, match=r"a\.parquet (was edited|has)"):
        bench.pipeline([Stopping()], input_uri=str(path)).resume("a").run()


def test_a_table_is_no_output_that_a_node_appends_to(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="rows are not appended to a table"):
        StreamFactory.create(f"parquet://{tmp_path}/a.parquet").get_writer()
