r"""Whether records may carry ids: told without decoding them, and never wrongly denied."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_datagen.config import DataConfig
from llm_datagen.streams import Block, Stream, StreamFactory
from llm_datagen.streams.id_search import may_have_ids

KEYS = st.text(st.sampled_from('_i"\\u05f9 é'), max_size=4)
VALUES = st.one_of(KEYS, st.integers(), st.dictionaries(KEYS, KEYS, max_size=2), st.none())


def blocks(stream: Stream) -> list[Block]:
    cursor = stream.open_cursor(follow=False)
    try:
        return [block for block in iter(lambda: cursor.read(4096), None) if block is not None]
    finally:
        cursor.close()


def is_searched(stream: Stream) -> list[bool]:
    return [may_have_ids(block.records, block.decode) for block in blocks(stream)]


def escaped(text: str, which: list[bool], upper: bool) -> str:
    r"""Return a JSON string in which some signs are written as ``\uXXXX``."""
    signs = (f"\\u{ord(sign):04{'X' if upper else 'x'}}" if at else sign for sign, at in zip(text, which, strict=True))
    return '"' + "".join(signs) + '"'


@given(rows=st.lists(st.dictionaries(KEYS, VALUES, max_size=3), min_size=1, max_size=5), is_ascii=st.booleans())
def test_a_row_that_has_the_column_is_never_passed_over(rows: list[dict[str, Any]], is_ascii: bool) -> None:
    stream = StreamFactory.create("memory://ids.jsonl")
    stream.storage.replace(
        stream.path, "".join(json.dumps(row, ensure_ascii=is_ascii) + "\n" for row in rows).encode(), sync=False
    )
    if any("_i" in row for row in rows):
        assert True in is_searched(stream)


@pytest.mark.parametrize("data", [None, DataConfig(strict=True), DataConfig(nan="null")])
def test_a_name_that_is_written_with_escapes_is_seen(tmp_path: Path, data: DataConfig | None) -> None:
    ways = itertools.product([True, False], [True, False], [True, False], ["jsonl", "json"])
    for first, second, upper, extension in ways:
        file = tmp_path / f"in.{extension}"
        row = f'{{"n": 1, {escaped("_i", [first, second], upper)}: 3}}\n'
        file.write_text(row if extension == "jsonl" else f"[{row}]")
        stream = StreamFactory.create(str(file))
        assert is_searched(stream if data is None else stream.with_data(data)) == [True], row


@pytest.mark.parametrize(
    ("name", "text", "is_seen"),
    [
        ("in.jsonl", '{"n": 1, "t": "an _i, \\n and \\u00e9", "x_i": 2, "_id": 3}\n', False),
        ("in.json", '[{"n": 1}, {"n": 2}]', False),
        ("in.csv", "n,_id\n1,_i\n", False),
        ("in.csv", "n,_i\n1,2\n", True),
        ("in.csv", 'n,"_i"\n1,2\n', True),
        ("in.txt", '{"_i": 1}\n', False),
    ],
)
def test_only_what_can_have_the_column_is_decoded(tmp_path: Path, name: str, text: str, is_seen: bool) -> None:
    (tmp_path / name).write_text(text)
    assert is_searched(StreamFactory.create(str(tmp_path / name))) == [is_seen]


def test_another_encoding_is_always_decoded(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"n": 1}\n')
    stream = StreamFactory.create(str(tmp_path / "in.jsonl")).with_data(DataConfig(encoding="cp1252"))
    assert is_searched(stream) == [True]


def test_the_columns_of_a_table_are_looked_at(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    file = tmp_path / "in.parquet"
    for column, value in itertools.product(["_i", "n"], [1, b"\x00"]):  # bytes are read as lines of JSON
        parquet.write_table(arrow.table({column: [1, 2], "other": [value, value]}), file)
        assert is_searched(StreamFactory.create(str(file))) == [column == "_i"]
