"""Rows of tables in the place of lines of JSON: each that is decoded is the caller's own."""

from __future__ import annotations

import importlib
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import StreamFactory
from llm_datagen.streams import Block
from llm_datagen.streams.inputs.table_rows import TableRow, is_same

from ..kit.support import Bench, lines


def _table(path: Path, **columns: Any) -> Path:
    pa, pq = importlib.import_module("pyarrow"), importlib.import_module("pyarrow.parquet")
    pq.write_table(pa.table(columns), path)
    return path


def _block(path: Path) -> Block:
    cursor = StreamFactory.create(str(path)).cursor()
    block = cursor.read(1000)
    cursor.close()
    assert block is not None
    return block


def test_a_row_is_made_afresh_each_time(tmp_path: Path) -> None:
    block = _block(_table(tmp_path / "a.parquet", n=list(range(300)), tags=[["a", str(n)] for n in range(300)]))
    assert {record.__class__.__name__ for record in block.records} == {TableRow.__name__}
    for number in (5, 299, 5, 130, 299):
        row = block.decode(block.records[number])
        assert row == {"n": number, "tags": ["a", str(number)]}
        row["tags"].append("changed")
        row["n"] = "changed"


def test_a_row_is_a_line_of_json_as_bytes_and_in_another_process(tmp_path: Path) -> None:
    block = _block(_table(tmp_path / "a.parquet", n=[2**63 - 1, None], x=[0.1, -0.0], t=["é\n", ""]))
    given = [block.decode(record) for record in block.records]
    records, decode = pickle.loads(pickle.dumps((block.records, block.decode)))
    assert [type(record) for record in records] == [bytes, bytes]
    assert [json.loads(record) for record in records] == given
    assert list(map(repr, map(decode, records))) == list(map(repr, given))
    assert list(map(bytes, block.records)) == records


def test_a_batch_with_text_that_is_not_utf_8_or_an_odd_float_is_lines(tmp_path: Path) -> None:
    pa = importlib.import_module("pyarrow")
    bad = pa.Array.from_buffers(pa.string(), 2, [*pa.array(["ab", "cd"]).buffers()[:2], pa.py_buffer(b"ab\xffd")])
    assert not any(isinstance(each, TableRow) for each in _block(_table(tmp_path / "a.parquet", t=bad)).records)
    odd = _block(_table(tmp_path / "b.parquet", x=[1.0, float("nan")])).records
    assert not any(isinstance(each, TableRow) for each in odd)


def test_types_that_json_has_not_are_lines() -> None:
    pa = importlib.import_module("pyarrow")
    assert is_same(pa.struct([("a", pa.list_(pa.large_string())), ("b", pa.uint64())]))
    assert not any(map(is_same, [pa.binary(), pa.map_(pa.string(), pa.int8()), pa.date32(), pa.decimal128(5)]))
    deep = pa.int64()
    for _ in range(100):
        deep = pa.list_(deep)
    assert not is_same(deep)


class FailsOnce:
    """Changes a row, and fails when it first sees it."""

    name, version = "fails once", "1"

    def __init__(self) -> None:
        self.seen: set[int] = set()

    def process_item(self, row: dict[str, Any], ctx: Any) -> dict[str, Any]:
        """Return the row, with what it was given."""
        number, tags = row["n"], list(row["tags"])
        row["tags"].append("changed")
        if number not in self.seen:
            self.seen.add(number)
            raise OSError("try again")
        return {"n": number, "tags": tags}


def test_a_call_that_is_made_again_sees_the_row_as_it_was(bench: Bench) -> None:
    path = _table(bench.folder / "a.parquet", n=[0, 1, 2], tags=[["a"], ["b"], []])
    bench.pipeline([FailsOnce()], input_uri=str(path), retries=2).create("a").run()
    assert [row["tags"] for row in lines(bench.output)] == [["a"], ["b"], []]


@pytest.mark.parametrize("source_column", [None, "_source"])
def test_a_dead_letter_has_the_row_as_it_was(bench: Bench, source_column: str | None) -> None:
    path = _table(bench.folder / "a.parquet", n=[0, 1], tags=[["a"], ["b"]])
    settings: dict[str, Any] = {} if source_column is None else {"source_column": source_column}
    bench.pipeline([FailsOnce()], input_uri=str(path), on_error="dead_letter", **settings).create("a").run()
    dead = [json.loads(line) for line in Path(f"{bench.output}.errors.jsonl").read_text().splitlines()]
    expected: list[dict[str, Any]] = [{"n": 0, "tags": ["a"]}, {"n": 1, "tags": ["b"]}]
    for number, row in enumerate(expected if source_column else []):
        row["_source"] = {"file": "a.parquet", "row": number}
    found = [{name: value for name, value in one["input"].items() if name != "_i"} for one in dead]
    assert sorted(found, key=lambda row: row["n"]) == expected
