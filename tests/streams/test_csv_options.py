"""CSV with other separators, quotes, encodings, without a header, and with types of cells."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen import StreamFactory
from llm_datagen.config import DataConfig
from llm_datagen.errors import ConfigError, InputWarning, NodeFailedError, RowFormatError, RowValueError

from ..kit.support import Bench, lines
from .test_json_arrays import rows_of

CELLS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8) | st.sampled_from(
    [";", "\t", "'", '"', "|", ",", "\n", "\r", "\r\n", "'';", "é", "a'b", ""]
)
TYPED: dict[str, Any] = {
    "i": st.none() | st.integers(),
    "f": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "b": st.none() | st.booleans(),
    "s": st.none() | st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
    "j": st.none()
    | st.recursive(st.integers() | st.text(max_size=4) | st.booleans(), lambda each: st.lists(each, max_size=2)),
}
DTYPES: Any = {"i": "int", "f": "float", "b": "bool", "s": "str", "j": "json"}


def same(item: Any) -> Any:
    return item


def write(path: Path, rows: list[dict[str, Any]], data: DataConfig) -> bytes:
    encoder = StreamFactory.create(str(path)).with_data(data).codec.encoder(b"")
    body = b"".join(encoder.encode_other(row) + b"\n" for row in rows)
    path.write_bytes(encoder.preamble() + body)
    return path.read_bytes()


@settings(max_examples=60)
@given(
    rows=st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=4),
    separator=st.sampled_from(",;\t|~ "),
    quote=st.sampled_from("\"'`"),
    block=st.integers(2, 30),
)
def test_any_cells_come_back_with_any_separator_and_quote_and_other_readers_agree(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, ...]], separator: str, quote: str, block: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.csv"
    given_rows = [dict(zip("abc", row, strict=True)) for row in rows]
    data = write(path, given_rows, DataConfig(separator=separator, quote=quote))
    reader = csv.DictReader(io.StringIO(data.decode(), newline=""), delimiter=separator, quotechar=quote)
    assert list(reader) == given_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("llm_datagen.streams.cursor.READ_BYTES", block)
        assert rows_of(path, separator=separator, quote=quote) == given_rows


@given(row=st.fixed_dictionaries(TYPED))
def test_values_of_columns_with_types_come_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "typed.csv"
    write(path, [row], DataConfig(dtypes=DTYPES))
    (found,) = rows_of(path, dtypes=DTYPES)
    assert found == row
    assert [type(value) for value in found.values()] == [type(value) for value in row.values()]


@pytest.mark.parametrize(
    ("kind", "cell"),
    [
        ("int", "1.0"),
        ("int", " 1"),
        ("int", "1_000"),
        ("int", "\u0661"),
        ("float", "1,5"),
        ("float", "nan"),
        ("float", "1e999"),
        ("bool", "1"),
        ("bool", "yes"),
        ("json", "{a}"),
    ],
)
def test_a_cell_that_does_not_fit_is_a_failed_row_that_names_column_and_type(
    bench: Bench, kind: Any, cell: str
) -> None:
    path = bench.folder / "in.csv"
    path.write_text(f'x;n\na;"{cell}"\nb;\n')
    data = {"separator": ";", "dtypes": {"n": kind}}
    report = bench.pipeline([same], input_uri=str(path), data_config=data, on_error="dead_letter").run()
    assert (report.rows_out, report.nodes[0].dead_letters) == (1, 1)
    (letter,) = lines(Path(f"{bench.output}.errors.jsonl"))
    assert "column 'n' holds " in str(letter)
    assert f"which is no {kind}, as dtypes says" in str(letter)
    assert lines(bench.output) == [{"x": "b", "n": None, "_i": 1}]


def test_what_would_not_come_back_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for kind, value in (("int", "x"), ("int", True), ("float", "1,0"), ("bool", 1)):
        with pytest.raises((RowValueError, ValueError), match=r"column 'n' holds .* which is no"):
            write(path, [{"n": value}], DataConfig(dtypes={"n": kind}))  # type: ignore[dict-item]
    for encoding, value in (("latin-1", "€"), ("euc-jp", "¥"), ("ascii", "é")):
        for row in ({"n": value}, {value: "n"}):
            with pytest.raises(RowValueError, match=r"sign that .* lacks"):
                write(path, [row], DataConfig(encoding=encoding))


def test_a_file_without_a_header_is_read_with_the_one_that_is_given_and_written_with_one(bench: Bench) -> None:
    path = bench.folder / "in.csv"
    path.write_bytes(b"1|caf\xe9\n2|'a|b'\n")
    data: dict[str, Any] = {
        "separator": "|",
        "quote": "'",
        "encoding": "cp1252",
        "header": ["n", "name"],
        "dtypes": {"n": "int"},
    }
    bench.pipeline(
        [same, same],
        input_uri=str(path),
        output_uri=f"{bench.folder}/out.csv",
        default_protocol="csv://",
        data_config=data,
    ).run()
    assert (bench.folder / "out.csv").read_bytes() == b"n|name|_i\n1|caf\xe9|0\n2|'a|b'|1\n"
    assert rows_of(bench.folder / "out.csv", **data)[0] == {"n": 1, "name": "café", "_i": 0}
    path.write_bytes(b"1\n")
    with pytest.raises(RowFormatError, match=r"line 1: .*1 cells where the header has 2 columns"):
        list(StreamFactory.create(str(path)).with_data(DataConfig(**data)).get_reader(follow=False).read())


def test_a_column_that_is_not_there_is_told(bench: Bench) -> None:
    path = bench.folder / "in.csv"
    path.write_text("a,b\n1,2\n")
    pipeline = bench.pipeline([same], input_uri=str(path), data_config={"dtypes": {"c": "int"}})
    with pytest.raises(NodeFailedError, match="dtypes names the column 'c', and there are only: a, b"):
        pipeline.run()


def test_another_separator_is_told_with_the_setting_that_reads_it(bench: Bench) -> None:
    path = bench.folder / "in.csv"
    path.write_text("a;b\n1;2\n")
    with pytest.warns(InputWarning, match=r"separated by semicolons.* set data_config separator=';'"):
        bench.pipeline([same], input_uri=str(path)).create("a")
    bench.pipeline([same], input_uri=str(path), data_config={"separator": ";"}).create("a", if_exists="overwrite").run()
    assert lines(bench.output) == [{"a": "1", "b": "2", "_i": 0}]


@pytest.mark.parametrize(
    ("given_settings", "why"),
    [
        ({"separator": ""}, "separator must be one sign"),
        ({"separator": "ab"}, "separator must be one sign"),
        ({"separator": "\n"}, "separator must be one sign"),
        ({"quote": "é"}, "quote must be one sign"),
        ({"separator": ";", "quote": ";"}, "both ';'"),
        ({"header": "ab"}, "header must be a list"),
        ({"header": []}, "header must be a list"),
        ({"header": ["a", "a"]}, "names the column 'a' more than once"),
        ({"dtypes": {"a": "integer"}}, r"dtypes\['a'\] must be one of 'int', 'float', 'bool', 'str', 'json'"),
        ({"dtypes": ["a"]}, "dtypes must be columns with their types"),
        ({"dtypes": {"_i": "int"}}, "cannot say what '_i' is"),
    ],
)
def test_settings_that_cannot_be_are_refused_by_name(given_settings: dict[str, Any], why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        DataConfig(**given_settings)
