"""Any JSON rows, exported in each format and read back: equal, or named as rows that do not fit. And partitions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_datagen import DataConfig, StreamFactory
from llm_datagen.errors import StreamError
from llm_datagen.streams import JsonlStream
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.outputs import Exported, ExportOptions, Target, export_rows

from .storages import read_now

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(st.dictionaries(st.sampled_from(["a", "b.c", "", "ü\n"]), VALUES, max_size=3), min_size=1, max_size=6)


def export(folder: Path, rows: list[Any], target: str, **options: Any) -> Exported:
    folder.mkdir(exist_ok=True)
    (folder / "rows.jsonl").write_bytes(b"".join(dumps(row) + b"\n" for row in rows))
    kind, colon, path = target.partition("!")
    text = f"{kind}:{folder / path}" if colon else str(folder / target)
    stream = JsonlStream(f"jsonl://{folder}/rows.jsonl")
    return export_rows(stream, Target.of(text), ExportOptions.of({"keep_ids": False, **options}))


def failed_rows(made: Exported) -> set[int]:
    if made.errors_path is None:
        return set()
    return {json.loads(line)["row"] for line in Path(made.errors_path).read_text().splitlines()}


def exact(row: Any, *, nulls: bool) -> str:
    """Return a row as text that tells 1 from 1.0, and 0.0 from -0.0; nulls may be left out, as missing keys are."""
    return json.dumps(row if nulls else _without_nulls(row), sort_keys=True)


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        kept = {key: _without_nulls(each) for key, each in value.items() if each is not None}
        return kept or None
    return [_without_nulls(each) for each in value] if isinstance(value, list) else value


@pytest.mark.sampled(2)
@pytest.mark.parametrize("target", ["out.jsonl", "out.jsonl.gz", "out.jsonl.zst", "out.jsonl.xz"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_lines_come_back_as_they_were(tmp_path_factory: Any, target: str, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("lines")
    made = export(folder, rows, target)
    assert made.failed == 0
    found = [row for _, row in read_now(StreamFactory.create(str(folder / target)))]
    assert [exact(row, nulls=True) for row in found] == [exact(row, nulls=True) for row in rows]


@pytest.mark.parametrize("target", ["out.parquet", "hf-folder!set"])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=ROWS)
def test_tables_of_json_columns_come_back_as_they_were(tmp_path_factory: Any, target: str, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("tables")
    names = {name for row in rows for name in row}
    made = export(folder, rows, target, schema=dict.fromkeys(sorted(names), "json"))
    assert made.failed == (0 if names else len(rows))  # a table without columns holds no rows
    if not names:
        return
    found = [row for path in made.paths for _, row in read_now(StreamFactory.create(path))]
    for row, back in zip(rows, found, strict=True):
        assert exact({name: row.get(name) for name in names}, nulls=True) == exact(back, nulls=True)


def test_rows_are_parted_by_any_text(tmp_path: Path) -> None:
    values = ["a/b", "..", ".", "", None, "_x", ".hidden", "ü 😀", "a=b", "%2F", "\0", "x" * 100, 1, True, "True", "1"]
    rows = [{"n": n, "v": value} for n, value in enumerate([*values, "y" * 300, ["list"], 0.5])]
    made = export(tmp_path / "x", rows, "v={v}/{shard}.jsonl")
    assert failed_rows(made) == {len(values), len(values) + 1, len(values) + 2}
    root = (tmp_path / "x").resolve()
    assert all(Path(path).resolve().is_relative_to(root) and Path(path).parent.parent == root for path in made.paths)
    found = [row for path in made.paths for _, row in read_now(StreamFactory.create(path))]
    assert sorted(found, key=lambda row: row["n"]) == rows[: len(values)]


@pytest.mark.slow
def test_too_many_partitions_are_refused_with_what_to_do(tmp_path: Path) -> None:
    rows = [{"v": n} for n in range(501)]
    with pytest.raises(
        StreamError, match="more than 500 partitions in one shard; part the rows by a column with fewer"
    ):
        export(tmp_path / "x", rows, "v={v}/{shard}.jsonl")
    made = export(tmp_path / "y", rows, "v={v}/{shard}.jsonl", rows_per_shard=250)
    assert (made.rows, len(made.parts)) == (501, 501)


def test_a_table_has_its_own_encoding(tmp_path: Path) -> None:
    export(tmp_path / "x", [{"t": "ü"}], "out.parquet")
    stream = StreamFactory.create(f"{tmp_path}/x/out.parquet").with_data(DataConfig(encoding="latin-1"))
    assert [row for _, row in read_now(stream)] == [{"t": "ü"}]
