"""Odd data: it comes out as it went in, or is refused by name. Numbers, text, nesting, CSV that is none."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import decimal
import enum
import json
import math
import sys
from typing import Any

import numpy
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.config import DataConfig
from llm_datagen.errors import RowFormatError, RowValueError
from llm_datagen.streams import Stream
from llm_datagen.streams.formats.csv import CsvCodec, CsvDecoder, CsvEncoder
from llm_datagen.streams.formats.jsonl import JsonlCodec, JsonlEncoder

from .storages import blocks_of, contents, drain, grow, stream_of, values_now

many = settings(max_examples=100, deadline=None)
NULLS = DataConfig(nan="null")
STRICT = DataConfig(strict=True)


def of(data: bytes, config: DataConfig, kind: str = "jsonl") -> Stream:
    """Return a stream of a file that another program has written, read by `config`."""
    stream = stream_of(data, kind)
    stream.codec = JsonlCodec(config) if kind == "jsonl" else CsvCodec(config)
    return stream


def outcomes(stream: Stream) -> list[Any]:
    """Return what each record gives: a row, or the text of its error."""
    found: list[Any] = []
    cursor = stream.cursor(follow=False)
    while (block := cursor.read(3)) is not None:
        for record in block.records:
            try:
                found.append(block.decode(record))
            except ValueError as error:
                found.append(str(error))
    return found


def refusal(data: bytes, config: DataConfig | None = None, kind: str = "jsonl") -> str:
    """Return how the stream refuses its first record."""
    with pytest.raises(RowFormatError) as caught:
        list(of(data, config or DataConfig(), kind).get_reader(follow=False).read(1))
    return str(caught.value)


def through(row: dict[str, Any], config: DataConfig | None = None) -> Any:
    """Return what is read when `row` is written."""
    encoder = JsonlEncoder(config)
    try:
        line = encoder.encode(row)
    except TypeError:
        line = encoder.encode_other(row)
    assert encoder.encode_other(row) == line
    return values_now(of(line + b"\n", config or DataConfig()))[0]


# Numbers.


@pytest.mark.parametrize(
    "number",
    [2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1, 12345678901234567890123, -(10**40), 10**400, 0.1, 5e-324, 1e308],
)
@pytest.mark.parametrize("wrap", [lambda n: n, lambda n: [1, {"deep": [n, None, "x"]}]])
def test_numbers_come_out_as_they_went_in(number: Any, wrap: Any) -> None:
    """12.2.6: integers of any length are exact, in JSON lines, and as text in CSV."""
    row = {"_i": 1, "n": wrap(number), "text": "é漢"}
    found = through(row)
    assert found == row
    assert [type(value) for value in found.values()] == [type(value) for value in row.values()]
    encoder = CsvEncoder()
    record = encoder.encode({"n": number})
    assert type(number)(values_now(stream_of(encoder.preamble() + record, "csv"))[0]["n"]) == number


@many
@given(st.lists(st.integers(-(2**80), 2**80), min_size=1, max_size=6), st.integers(1, 90), st.integers(0, 7))
def test_long_integers_are_exact_wherever_they_stand(numbers: list[int], size: int, shift: int) -> None:
    """12.2.6: the quick look for them misses none, in any block."""
    lines = [b" " * shift + JsonlEncoder().encode_other({"n": n}) for n in numbers]
    with blocks_of(size):
        assert [row["n"] for row in values_now(stream_of(b"\n".join(lines)))] == numbers


def test_blocks_of_plain_and_of_long_numbers_are_joined() -> None:
    """12.2.6: a batch may begin in one and end in the other; a long record, too."""
    big = 2**70
    data = b"1\n2\n%d\n3\n" % big
    with blocks_of(4):
        assert [rows for rows, _ in stream_of(data).get_reader(follow=False).read(4)] == [[1, 2, big, 3]]


def test_an_integer_of_too_many_digits_for_python_is_refused_by_name() -> None:
    """12.2.6: what Python refuses to convert is one row's error."""
    digits = sys.get_int_max_str_digits() + 1
    text = refusal(b'{"n":' + b"7" * digits + b"}\n")
    assert f"line 1: this is not a row: it holds a whole number of {digits} digits" in text
    with pytest.raises(RowValueError, match=r"row 4 cannot be written: .*digits"):
        JsonlEncoder().encode_other({"_i": 4, "n": 10 ** (digits + 1)})


@dataclasses.dataclass
class Point:
    x: float


class Kind(enum.Enum):
    NOTHING = math.nan


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("wrap", "place"),
    [
        (lambda v: v, "column 'a' holds"),
        (lambda v: [None, [v]], r"column 'a'\[1\]\[0\] holds"),
        (lambda v: ["t", 1, v], r"column 'a'\[2\] holds"),  # few values, and
        (lambda v: [*["t"] * 9, v], r"column 'a'\[9\] holds"),  # many: these are looked for elsewhere
        (lambda v: {"b": {"c": v}}, r"column 'a'\['b'\]\['c'\] holds"),
        (Point, "column 'a' holds NaN or an infinity within a Point"),
    ],
)
def test_nan_is_never_written_as_null_without_a_word(value: float, wrap: Any, place: str) -> None:
    """12.2.6: refused, with the row, the place and the setting; or null, by that setting."""
    row = {"_i": "7_1", "a": wrap(value), "none": None}
    for size in (0, 2000):  # short records are searched for what NaN becomes; of long ones, the values are looked at
        for encoder in (JsonlEncoder(), CsvEncoder()):
            for encode in (encoder.encode, encoder.encode_other):
                with pytest.raises(RowValueError, match=f"row '7_1' cannot be written: {place}"):
                    encode({**row, "none": "x" * size})
    assert b"null" in JsonlEncoder(NULLS).encode(row)
    big = {**row, "big": 2**70} if wrap is not Point else row
    assert JsonlEncoder(NULLS).encode_other(big).count(b"null") >= 2
    CsvEncoder(data=NULLS).encode(row)


def test_lists_without_nan_are_written_as_they_are() -> None:
    for values in ([], ["null", 1], [None, True, 1.5], ["null"] * 9, [1] * 9, [[None], {"n": None}]):
        for text in (None, "null", "x" * 2000):
            row = {"_i": 1, "a": values, "b": None, "text": text}
            assert json.loads(JsonlEncoder().encode(row)) == row


def test_nan_in_enums_and_numpy_values_is_found() -> None:
    """12.2.6: siblings: whatever orjson would write as null."""
    with pytest.raises(RowValueError, match="within a Kind"):
        JsonlEncoder().encode({"a": Kind.NOTHING})
    numpy = pytest.importorskip("numpy")
    for value in (numpy.float64("nan"), numpy.float32("inf"), numpy.array([1.0, math.nan])):
        with pytest.raises(TypeError, match="row None cannot be written: column 'a' holds"):
            JsonlEncoder().encode_other({"a": value})
    assert JsonlEncoder().encode_other({"a": numpy.array([1.5, 2.0]), "b": numpy.int64(3)}) == b'{"a":[1.5,2.0],"b":3}'


def test_nan_in_the_input_is_refused_or_null() -> None:
    """12.2.6: as pandas and json.dumps write it."""
    data = b'{"a":NaN,"b":[-Infinity,"NaN"]}\n{"a":1}\n'
    told = "line 1: this is not a row: it holds NaN or Infinity, which is no JSON; to read it as null, set data_config "
    told += "nan='null' and create the run anew (a resume keeps that of the run)"
    assert told in refusal(data)
    assert values_now(of(data, NULLS)) == [{"a": None, "b": [None, "NaN"]}, {"a": 1}]
    assert "NaN" not in refusal(b'{"a":"NaN"x}')
    for bad in (b'{"a":NaN,}', b'{"a":NaN,"b":"\\ud83d"}', b'{"a":1', b"\xff"):
        refusal(bad, NULLS)


def test_what_strict_refuses_is_passed_over_otherwise() -> None:
    """13.20: names said twice, digits beyond a double, a blank line in a CSV of one column."""
    twice, digits = b'{"a":1,"b":{"c":1,"c":1}}', b'{"a":0.1234567890123456789012}'
    assert values_now(stream_of(twice)) == [{"a": 1, "b": {"c": 1}}]
    assert values_now(stream_of(digits)) == [{"a": 0.12345678901234568}]
    assert "line 1: this is not a row: an object in it says the name 'c' twice" in refusal(twice, STRICT)
    assert "more digits than a double has: 0.1234567890123456789012" in refusal(digits, STRICT)
    fine = b'{"a":[0.1,0.10,1e2,-2.50E-3,12345678901234567890123],"b":{"a":null}}'
    assert values_now(of(fine, STRICT)) == values_now(stream_of(fine))
    one = b"a\n1\n\n\r\n3\n"
    assert values_now(stream_of(one, "csv")) == [{"a": "1"}, {"a": "3"}]
    blank = "it is blank: no row, or one empty cell?"
    assert outcomes(of(one, STRICT, "csv")) == [{"a": "1"}, blank, blank, {"a": "3"}]
    assert outcomes(of(b'\na\n"1\n\n2"\n\n', STRICT, "csv")) == [{"a": "1\n\n2"}, blank]


# Values that are no JSON.


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("cut \ud83d", "column 'a' holds half a surrogate pair"),
        ({"cut \ud83d": 1}, "the key .* holds half a surrogate pair"),
        ([{1: 2}], r"column 'a'\[0\] has the key 1 \(int\), and keys must be str"),
        ({1, 2}, "column 'a' holds a set, which is no JSON"),
        (b"x", "column 'a' holds a bytes"),
        (decimal.Decimal("1.1"), "column 'a' holds a Decimal"),
        ([2**70, {1: 2}], "keys must be str"),
        ([2**70, "\ud83d"], "half a surrogate pair"),
        pytest.param(10**5000, "column 'a' holds an integer of more than 4,300 digits", id="long"),
        pytest.param({"b": [10**5000]}, r"column 'a'\['b'\]\[0\] holds an integer of more than 4,300", id="inner"),
    ],
)
def test_a_value_that_is_no_json_is_refused_with_its_place(value: Any, says: str) -> None:
    """12.2.6: in JSON lines, and within cells."""
    for encoder in (JsonlEncoder(), CsvEncoder()):
        with pytest.raises(RowValueError, match="row 3 cannot be written"):
            encoder.encode_other({"_i": 3, "a": value})
    with pytest.raises(RowValueError, match=says):
        JsonlEncoder().encode_other({"_i": 3, "a": value})


def test_values_with_a_form_in_json_are_written_so() -> None:
    """12.2.6: beside long integers, too."""

    class Text(str):
        __slots__ = ()

    row = {"t": (1, 2), "s": Text("x"), "d": datetime.date(2024, 5, 6), "p": Point(1.5), "n": True}
    plain = {"t": [1, 2], "s": "x", "d": "2024-05-06", "p": {"x": 1.5}, "n": True}
    assert through(row) == plain
    assert through({**row, "big": 2**70}) == {**plain, "big": 2**70}


def nested(levels: int) -> Any:
    """Return lists within lists."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


def test_what_is_nested_too_deeply_is_refused_on_both_sides() -> None:
    """12.2.6: with the levels that are possible."""
    assert through({"a": nested(253)}) == {"a": nested(253)}
    for value in (nested(254), [2**70, nested(300)]):
        with pytest.raises(RowValueError, match=r"row 1 cannot be written: column 'a'.* nested deeper than 254 levels"):
            JsonlEncoder().encode_other({"_i": 1, "a": value})
    assert "nested too deeply: 1024 levels can be read, and 254 be written" in refusal(b"[" * 2000 + b"]" * 2000)


# Text.


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_another_encoding_is_named(kind: str) -> None:
    """12.2.6: UTF-16 at the beginning, Latin-1 at its line; a mark of UTF-8 is no matter."""
    text = '{"a":"é"}\n' if kind == "jsonl" else "a,b\né,1\n"
    for name in ("utf-16", "utf-16-be"):
        mark = b"\xfe\xff" if name == "utf-16-be" else b""
        assert "the file is UTF-16, and must be UTF-8: convert it" in refusal(mark + text.encode(name), kind=kind)
    told = refusal(text.encode("latin-1"), kind=kind)
    assert f"line {1 if kind == 'jsonl' else 2}: this is not a row: byte 0xe9 at position" in told
    assert "Latin-1 or Windows-1252: set data_config encoding='cp1252' and create the run anew (a resume" in told
    assert "of the run), or convert it, such as with: iconv" in told
    assert len(values_now(stream_of(text.encode("utf-8-sig"), kind))) == 1


def test_half_a_pair_and_nul_characters_are_named() -> None:
    """12.2.6: the error says what is wrong with the line."""
    assert "line 1: this is not a row: it holds half a surrogate pair" in refusal(b'{"a":"cut \\ud83d"}\n')
    assert "NUL characters: the file was damaged" in refusal(b"\0" * 5000 + b"\n")
    assert values_now(stream_of(b'{"a":"\\ud83d\\ude00"}\n')) == [{"a": "😀"}]


# Records that are too long.


@pytest.mark.parametrize("size", [7, 50, 1000])
def test_a_line_that_is_too_long_is_an_error_and_the_next_one_goes_on(size: int) -> None:
    """12.2.6: wherever blocks are cut; only its beginning is kept."""
    data = b'{"a":1}\n\r\n\n"' + b"x" * 99 + b'"\n{"a":2}\n"' + b"y" * 98 + b'"\n"' + b"z" * 5000
    config = DataConfig(max_record_bytes=100)
    with blocks_of(size):
        found = outcomes(of(data, config))
        assert [type(value) for value in found] == [dict, str, dict, str, str]
        assert found[3] == "y" * 98
        whole = of(data, config)
        told = []
        for number in (2, 5):
            cursor = whole.cursor(follow=False)
            blocks = [block for _ in range(5) if (block := cursor.read(1)) is not None]
            assert [block.start for block in blocks] == [0, 1, 2, 3, 4]
            told.append(blocks[number - 1])
        assert contents(whole)[told[0].offset : told[0].offset_end].strip() == b'"' + b"x" * 99 + b'"'
        assert told[1].offset_end == len(data)
        assert 0 < len(told[1].records[0]) <= 1024
    assert "longer than a record may be" in refusal(data[8:], config)


def test_a_line_that_grows_is_waited_for_however_long_it_is() -> None:
    """12.2.6: it is one row when its newline comes."""
    stream = of(b"1\n", DataConfig(max_record_bytes=100))
    reader = stream.cursor()
    assert drain(reader) == [(0, 1)]
    grow(stream, b'"' + b"x" * 3000)
    assert reader.read(1) is None
    grow(stream, b'"\n2\n')
    block = reader.read(1)
    assert block is not None
    assert block.start == 1
    with pytest.raises(ValueError, match="must be bytes"):
        block.decode(block.records[0])
    assert drain(reader) == [(2, 2)]


# CSV.


def test_a_quote_opens_a_cell_only_at_its_beginning() -> None:
    """12.2.6: elsewhere it is a quote."""
    data = b'n,what\n5,TV 55" wide\n6,6" nails\n7,"a ""b"",\n c"\n8,"x",\n'
    assert outcomes(stream_of(data, "csv"))[:3] == [
        {"n": "5", "what": 'TV 55" wide'},
        {"n": "6", "what": '6" nails'},
        {"n": "7", "what": 'a "b",\n c'},
    ]
    for size in (1, 9, 30):
        with blocks_of(size):
            assert outcomes(stream_of(data, "csv")) == outcomes(stream_of(data, "csv"))
            assert len(outcomes(stream_of(data, "csv"))) == 4


@pytest.mark.parametrize("rows", [50, 10_000])
def test_a_quote_that_is_not_closed_costs_its_own_line(rows: int) -> None:
    """12.2.6: the rows behind it survive, and the error is that of its line."""
    data = b"a,b\n1,x\n2," + b'"unclosed\n' + b"".join(b"%d,y\n" % n for n in range(rows))
    for size in (64, 1 << 20) if rows < 100 else (1 << 20,):
        with blocks_of(size):
            found = outcomes(stream_of(data, "csv"))
        assert found[0] == {"a": "1", "b": "x"}
        assert "unexpected end of data" in found[1]
        assert found[2:] == [{"a": str(n), "b": "y"} for n in range(rows)]


@many
@given(st.text('"ab,\n\r', max_size=40), st.integers(1, 12), st.sampled_from([3, 10, 1000]), st.booleans())
def test_odd_csv_gives_the_same_records_in_any_blocks(text: str, size: int, most: int, is_strict: bool) -> None:
    """S1, 12.2.6: whether a record is too long is said by the file and the setting alone."""
    config = DataConfig(max_record_bytes=most, strict=is_strict)
    data = b"h\n" + text.encode()
    whole = outcomes(of(data, config, "csv"))
    with blocks_of(size):
        assert outcomes(of(data, config, "csv")) == whole


@many
@given(st.lists(st.text('"ab,\n\r', max_size=6), min_size=2, max_size=3))
def test_long_cells_are_read_as_short_ones(cells: list[str]) -> None:
    """13.20: without touching the limit of the csv module, which is the host's."""
    record = CsvEncoder(list("abc"[: len(cells)])).encode(dict(zip("abc", cells, strict=False)))
    expected = CsvDecoder(list("abc"[: len(cells)]))(record)
    before = csv.field_size_limit(0)
    try:
        assert CsvDecoder(list("abc"[: len(cells)]))(record) == expected
        assert csv.field_size_limit() == 0
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("bad", [b'1,"2', b'1,"2"x', b"1,2\r3"])
def test_long_cells_that_are_no_csv_are_refused(bad: bytes) -> None:
    """M24: as short ones are."""
    before = csv.field_size_limit(0)
    try:
        with pytest.raises(ValueError, match=r"unexpected end|expected after|new-line"):
            CsvDecoder(["a", "b"])(bad)
    finally:
        csv.field_size_limit(before)


@pytest.mark.parametrize("row_id", ["12", "0", "-3", "", True, 1.5, 10**30])
def test_an_id_that_csv_would_change_is_refused(row_id: Any) -> None:
    """13.19: nothing comes back as another id."""
    with pytest.raises(RowValueError, match=r"cannot be written: (the id|_i must be)"):
        CsvEncoder().encode({"_i": row_id, "a": 1})


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_an_id_that_is_none_is_refused_when_it_is_written(kind: str) -> None:
    """13.19: not when it is read."""
    with stream_of(b"", kind).get_writer() as writer, pytest.raises(ValueError, match="_i must be"):
        writer.write([{"_i": True, "a": 1}])


def test_a_first_column_that_would_lose_a_sign_is_refused() -> None:
    """12.2.6: it would be read as the file's byte order mark."""
    with pytest.raises(RowValueError, match="byte order mark"):
        CsvEncoder().encode({"\ufeffa": 1})


def test_columns_must_be_text() -> None:
    """12.2.6: a key that is a number does not become text."""
    with pytest.raises(RowValueError, match="the column 1 must be a str"):
        CsvEncoder().encode({1: "x"})  # type: ignore[dict-item]


@dataclasses.dataclass
class Hiding:
    shown: int
    _hidden: Any


@pytest.mark.parametrize("config", [None, NULLS])
def test_a_dataclass_is_written_with_all_its_fields(config: DataConfig | None) -> None:
    """12.2.6: orjson alone leaves out those that begin with an underscore."""
    row = {"a": [Hiding(1, Hiding(2, 3))], "b": 2**70}
    meant = [{"shown": 1, "_hidden": {"shown": 2, "_hidden": 3}}]
    encoder = JsonlEncoder(config)
    assert orjson.loads(encoder.encode({"a": row["a"]})) == {"a": meant}
    assert orjson.loads(encoder.encode_other({"a": row["a"], "n": numpy.float32(0.5)})) == {"a": meant, "n": 0.5}
    assert json.loads(encoder.encode_other(row)) == {"a": meant, "b": 2**70}
    assert CsvEncoder().encode({"a": Hiding(1, "x")}) == b'"{""shown"":1,""_hidden"":""x""}"'
    if config is None:
        with pytest.raises(RowValueError, match="NaN"):
            encoder.encode({"a": Hiding(1, math.nan)})


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_utf_16_without_a_mark_is_named_too(kind: str, encoding: str) -> None:
    """12.2.6: in CSV, its NULs would be text."""
    text = {"jsonl": '{"a":1}\n', "csv": "a,b\n1,2\n"}[kind]
    assert f"the file is {encoding.upper().replace('16-', '16')}, and must be UTF-8" in refusal(
        text.encode(encoding), kind=kind
    )


@pytest.mark.parametrize("size", [7, 1 << 20])
def test_a_quote_that_is_not_closed_costs_its_own_line_when_quotes_follow(size: int) -> None:
    """12.2.6: the quotes of rows behind it close nothing: text follows them."""
    data = b'n,t\n1,"open\n2,b\n3,"q, r"\n4,"two\nlines"\n5,"x" y\n6,"z"\r\n7,\n'
    with blocks_of(size):
        found = outcomes(of(data, DataConfig(), "csv"))
    assert [one["n"] for one in found if isinstance(one, dict)] == ["2", "3", "4", "6", "7"]
    assert found[3]["t"] == "two\nlines"
    assert isinstance(found[0], str)
    assert isinstance(found[4], str)
