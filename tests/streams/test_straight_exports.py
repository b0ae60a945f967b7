"""Exports of lines that Arrow reads itself: the same batches as of rows that are looked at, or none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.streams.outputs.arrow import Batches, WrongGuessError
from llm_datagen.streams.outputs.column_types import ColumnType, MisfitError
from llm_datagen.streams.outputs.lines import Lines
from llm_datagen.streams.outputs.straight import StraightBatches

COLUMNS: dict[str, ColumnType] = {
    "n": "int64",
    "x": "float64",
    "is": "bool",
    "text": "string",
    "none": "null",
    "list": {"list": "string"},
    "deep": {"list": {"struct": {"a": "int64", "b": {"list": "float64"}}}},
    "part": {"struct": {"c": "string", "d": "float64"}},
}
IDS = {"_i": "string"}

numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(["1", "true", "2020-01-01"])
scalars = st.none() | st.booleans() | numbers | texts
values = st.recursive(scalars, lambda of: st.lists(of, max_size=2) | st.dictionaries(texts, of, max_size=2))
small = st.integers(-1000, 1000)
floats = st.floats(allow_nan=False, allow_infinity=False) | small
FITTING = {
    "n": st.integers(-(1 << 63), (1 << 63) - 1),
    "x": floats,
    "is": st.booleans(),
    "text": texts,
    "none": st.none(),
    "list": st.lists(texts | st.none(), max_size=3),
    "deep": st.lists(
        st.none() | st.fixed_dictionaries({}, optional={"b": st.lists(floats, max_size=2), "a": small}), max_size=2
    ),
    "part": st.fixed_dictionaries({}, optional={"d": floats, "c": texts}),
}
fitting = st.fixed_dictionaries({}, optional={name: of | st.none() for name, of in FITTING.items()})
odd = st.fixed_dictionaries({}, optional=dict.fromkeys([*COLUMNS, "other"], values))


def _slow(rows: list[dict[str, Any]], guess: dict[str, ColumnType] | None = None) -> tuple[Any, list[int]]:
    failed: list[int] = []

    def fail(at: int, misfit: MisfitError) -> None:
        failed.append(at)

    shaped = [{**row, "_i": str(row["_i"])} for row in rows]
    return Batches({**IDS, **COLUMNS}, guess).of(shaped, fail), failed


def _lines(*lines: bytes) -> Lines:
    return Lines(b"".join(line + b"\n" for line in lines), 0, 0)


def _straight(rows: list[dict[str, Any]]) -> Any:
    return StraightBatches({**IDS, **COLUMNS}, "_i").of(_lines(*map(orjson.dumps, rows)))


@settings(max_examples=30, deadline=None)
@given(st.lists(fitting, min_size=1, max_size=4), st.booleans())
def test_rows_that_fit_are_read_by_arrow_and_are_the_same(rows: list[dict[str, Any]], is_named: bool) -> None:
    named = [{"_i": f"r{n}" if is_named else n, **row} for n, row in enumerate(rows)]
    made, (batch, failed) = _straight(named), _slow(named)
    is_small = all(abs(each) < 1 << 53 for row in rows for each in _floats(row))
    assert not failed
    assert made is not None or not is_small
    assert made is None or (made.schema == batch.schema and _plain(made) == _plain(batch))


@settings(max_examples=30, deadline=None)
@given(st.lists(fitting | odd, min_size=1, max_size=3))
def test_rows_that_do_not_fit_are_not_read_by_arrow(rows: list[dict[str, Any]]) -> None:
    named = [{"_i": n, **row} for n, row in enumerate(rows)]
    made = _straight(named)
    if made is not None:  # then all of them are in it, as they were, and the guess was right
        batch, failed = _slow(named)
        assert not failed
        assert _plain(made) == _plain(batch)
        try:
            _slow(named, {**IDS, **COLUMNS})
        except WrongGuessError:
            pytest.fail("a wrong guess was not seen")


@pytest.mark.parametrize(
    "line",
    [
        b'{"_i":0,"n":1.0}',
        b'{"_i":0,"n":"1"}',
        b'{"_i":0,"n":true}',
        b'{"_i":0,"n":9223372036854775808}',
        b'{"_i":0,"x":9007199254740993}',
        b'{"_i":0,"x":123456789012345678901234567890}',
        b'{"_i":0,"x":1e999}',
        b'{"_i":0,"x":"1.5"}',
        b'{"_i":0,"is":0}',
        b'{"_i":0,"text":1}',
        b'{"_i":0,"none":0}',
        b'{"_i":0,"list":["a",1]}',
        b'{"_i":0,"part":{"e":1}}',
        b'{"_i":0,"part":{"d":9007199254740993}}',
        b'{"_i":0,"deep":[{"b":[-9007199254740993]}]}',
        b'{"_i":0,"n":1,"n":2}',
        b'{"_i":0,"other":null}',
        b'{"_i":true,"n":1}',
        b'{"_i":null,"n":1}',
        b'{"n":1}',
        b'{"_i":0,"text":"\xff"}',
        b'{"_i":0,"text":"\\ud800"}',
        b'{"_i":0}{"_i":1}',
        b"",
        b"1",
    ],
)
def test_what_is_not_plain_is_looked_at(line: bytes) -> None:
    good = b'{"_i":1,"n":1}'
    straight = StraightBatches({**IDS, **COLUMNS}, "_i")
    assert straight.of(_lines(good)) is not None
    assert straight.of(_lines(good, line)) is None


def test_ids_are_left_out_or_have_another_name() -> None:
    lines = _lines(b'{"_i":7,"n":1}')
    assert StraightBatches({"n": "int64"}, None).of(lines).to_pylist() == [{"n": 1}]
    assert StraightBatches({"id": "string", "n": "int64"}, "id").of(lines).to_pylist() == [{"id": "7", "n": 1}]


@pytest.mark.parametrize("type", ["json", "decimal", "digits", "float32", "date32[day]", {"map": ["string", "int64"]}])
def test_types_that_json_has_not_are_looked_at(type: ColumnType) -> None:
    assert StraightBatches.fits({"_i": "string", "a": {"list": "int64"}}, "_i")
    assert not StraightBatches.fits({"_i": "string", "a": {"list": type}}, "_i")
    assert not StraightBatches.fits({"_i": "string", "data": {"struct": {"a": "int64"}}}, "_i")


def _floats(row: dict[str, Any]) -> list[float]:
    of_deep = [each for part in row.get("deep") or () if part for each in part.get("b") or ()]
    of_part = [(row.get("part") or {}).get("d", 0)]
    return [row.get("x") or 0, *of_deep, *of_part]


def _plain(batch: Any) -> list[str]:
    return [repr(row) for row in batch.to_pylist()]  # -0.0 is not 0.0
