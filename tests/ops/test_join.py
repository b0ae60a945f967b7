"""A table beside the stream: whatever its format, small or not, with one row per key or several."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llm_datagen import ConfigError, NodeFailedError, RowDataError, ops
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.ops.side_table import SideTable

from ..kit.support import Bench, lines, write_jsonl
from .calls import bare, outcome

TABLE = [
    {"id": 1, "name": "one", "size": 1.5},
    {"id": 2, "name": "two"},
    {"id": 2, "name": "deux", "extra": [1]},
    {"id": None, "name": "nothing"},
]


def joined(operator: Any, rows: list[Any]) -> list[Any]:
    operator.setup()
    try:
        return bare(outcome(operator, rows))
    finally:
        operator.teardown()


@pytest.fixture
def table(tmp_path: Path) -> str:
    write_jsonl(tmp_path / "table.jsonl", TABLE)
    return f"jsonl://{tmp_path}/table.jsonl"


def test_each_row_gets_the_columns_of_its_row_of_the_table(table: str) -> None:
    rows = [{"id": 1}, {"id": 2}, {"id": 3}, {"id": None}, {"id": 1.0}]
    none = {"name": None, "size": None, "extra": None}
    one = {"name": "one", "size": 1.5, "extra": None}
    two = [{"id": 2, **none, "name": "two"}, {"id": 2, **none, "name": "deux", "extra": [1]}]
    inner = [{"id": 1, **one}, *two]
    left = [*inner, {"id": 3, **none}, {"id": None, **none}]
    assert joined(ops.Join(table, by="id", how="inner"), rows[:4]) == inner
    assert joined(ops.Join(table, by="id"), rows[:4]) == left
    assert joined(ops.Join(table, by={"key": "id"}, columns=["name"], prefix="t_", how="inner"), [{"key": 1}]) == [
        {"key": 1, "t_name": "one"}
    ]


def test_a_number_is_a_number(table: str) -> None:
    assert joined(ops.Join(table, by="id", columns=["name"]), [{"id": 1.0}]) == [{"id": 1.0, "name": "one"}]


def test_what_can_never_match_is_refused(table: str) -> None:
    with pytest.raises(RowDataError, match=r"column 'id' holds a str, and the key of .*jsonl number"):
        joined(ops.Join(table, by="id"), [{"id": "1"}])
    with pytest.raises(RowDataError, match="a column 'name' already"):
        joined(ops.Join(table, by="id"), [{"id": 1, "name": "x"}])
    with pytest.raises(RowDataError, match="no column 'id'"):
        joined(ops.Join(table, by="id"), [{"name": "x"}])
    with pytest.raises(ConfigError, match="row 0 has no column 'key', by which it is joined"):
        joined(ops.Join(table, by="key"), [])
    with pytest.raises(ConfigError, match="has no column 'nam'"):
        joined(ops.Join(table, by="id", columns=["nam"]), [])
    with pytest.raises(ConfigError, match="how must be one of"):
        ops.Join(table, by="id", how="outer")  # type: ignore[arg-type]


@pytest.mark.parametrize("ending", ["csv", pytest.param("parquet", marks=pytest.mark.slow), "jsonl.gz"])
def test_a_table_may_have_any_format(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"table.{ending}"
    if ending == "csv":
        path.write_text("id,name\na,one\nb,two\n")
    elif ending == "parquet":
        pytest.importorskip("pyarrow")
        import pyarrow.parquet

        pyarrow.parquet.write_table(pyarrow.table({"id": ["a", "b"], "name": ["one", "two"]}), path)
    else:
        import gzip

        path.write_bytes(gzip.compress(b'{"id": "a", "name": "one"}\n{"id": "b", "name": "two"}\n'))
    assert joined(ops.Join(str(path), by="id"), [{"id": "b"}]) == [{"id": "b", "name": "two"}]


def test_a_large_table_is_not_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_datagen.ops.side_table.CACHE_KIB", 64)
    write_jsonl(tmp_path / "table.jsonl", [{"id": n, "text": str(n) * 50} for n in range(5000)])
    side = SideTable(f"{tmp_path}/table.jsonl", ["id"])
    assert [side.find([n]) for n in (0, 4999, 5000)] == [[{"text": "0" * 50}], [{"text": "4999" * 50}], []]
    side.close()


def test_a_table_that_was_edited_is_another_one(table: str) -> None:
    before = fingerprint_of(ops.Join(table, by="id"))
    assert fingerprint_of(ops.Join(table, by="id")) == before
    path = Path(table.removeprefix("jsonl://"))
    path.write_text(json.dumps({"id": 1, "name": "uno"}) + "\n")
    after = fingerprint_of(ops.Join(table, by="id"))
    assert [part for part in before if before[part] != after[part]] == ["content of the table"]


def test_a_join_is_a_step_like_any_other(bench: Bench, table: str) -> None:
    bench.give([{"id": n % 4} for n in range(40)])
    join = ops.Join(table, by="id", how="inner", columns=["name"])
    report = bench.pipeline([join], parallel_size=4, executor="thread").run()
    made = sorted(lines(bench.output), key=lambda row: str(row["_i"]))
    assert (report.filtered, len(made)) == (20, 30)
    assert {row["_i"]: row["name"] for row in made if row["id"] == 2}["2_1"] == "deux"
    with pytest.raises(NodeFailedError, match=r"table\.jsonl"):
        bench.pipeline([ops.Join(f"{table}.gone", by="id")], output_uri=f"jsonl://{bench.folder}/b.jsonl").run()
