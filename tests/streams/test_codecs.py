"""Formats: what is written comes back, wherever the blocks are cut."""

from __future__ import annotations

import csv
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm_datagen.config import DataConfig
from llm_datagen.errors import ColumnError, RowFormatError
from llm_datagen.streams.cursor import READ_BYTES
from llm_datagen.streams.formats.csv import CsvCodec, CsvDecoder, CsvEncoder
from llm_datagen.streams.formats.jsonl import JsonlCodec, JsonlEncoder

from .storages import blocks_of, drain, grow, stream_of, stream_on, values_now

BOM = b"\xef\xbb\xbf"
many = settings(max_examples=60, deadline=None)

nasty = st.text(
    st.one_of(st.sampled_from('",\n\r\\ \t\x00\u2028\x85é漢😀ab'), st.characters(codec="utf-8")), max_size=12
)
leaves = st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
values = st.recursive(
    leaves | nasty, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(nasty, inner), max_leaves=6
)
json_rows = st.lists(st.dictionaries(nasty, values, max_size=4), max_size=6)
sizes = st.integers(1, 80)


@st.composite
def csv_tables(draw: st.DrawFn) -> tuple[list[str], list[dict[str, str]]]:
    columns = draw(st.lists(nasty.filter(lambda name: name not in ("", "_i")), min_size=1, max_size=4, unique=True))
    rows = draw(st.lists(st.fixed_dictionaries(dict.fromkeys(columns, nasty)), max_size=6))
    return columns, rows


def csv_bytes(columns: list[str], rows: list[dict[str, str]]) -> list[bytes]:
    encoder = CsvEncoder(columns)
    return [encoder.preamble()[:-1], *map(encoder.encode, rows)]


@pytest.mark.slow
@many
@given(
    json_rows, sizes, st.sampled_from([b"", BOM]), st.sampled_from([b"", b"\n", b"\r\n", b"\n\n\r\n"]), st.booleans()
)
@example([{"a": 1}], 1, BOM, b"\n\n\n\n", True)
def test_json_lines_come_back_through_any_blocks(
    rows: list[dict[str, Any]], size: int, bom: bytes, blank: bytes, is_cut: bool
) -> None:
    """M18, S3: marks, CRLF, blank lines and a missing last newline change nothing."""
    data = bom + blank + b"".join(JsonlEncoder().encode(row) + b"\n" + blank for row in rows)
    if is_cut and rows:
        data = data.rstrip(b"\r\n")
    with blocks_of(size):
        assert values_now(stream_of(data)) == rows


@many
@given(
    csv_tables(),
    sizes,
    st.sampled_from([b"", BOM]),
    st.sampled_from([b"", b"\n", b"\r\n\n"]),
    st.booleans(),
    st.booleans(),
)
def test_csv_comes_back_through_any_blocks(
    table: tuple[list[str], list[dict[str, str]]], size: int, bom: bytes, blank: bytes, is_crlf: bool, is_cut: bool
) -> None:
    """M19: quotes, commas and newlines inside cells survive, whatever ends the lines."""
    columns, rows = table
    end = b"\r\n" if is_crlf else b"\n"
    data = bom + blank + b"".join(record + end + blank for record in csv_bytes(columns, rows))
    if is_cut:
        data = data.rstrip(b"\r\n")
    with blocks_of(size):
        assert values_now(stream_of(data, "csv")) == rows


@many
@given(csv_tables())
def test_csv_is_what_the_csv_module_reads(table: tuple[list[str], list[dict[str, str]]]) -> None:
    """M19: other programs read our files as we meant them."""
    columns, rows = table
    text = b"".join(record + b"\n" for record in csv_bytes(columns, rows)).decode()
    read = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    assert read == [columns, *([row[name] for name in columns] for row in rows)]


@many
@given(
    st.lists(st.lists(nasty, min_size=2, max_size=2), min_size=1, max_size=5),
    st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL]),
    sizes,
)
def test_csv_reads_what_the_csv_module_writes(cells: list[list[str]], quoting: Any, size: int) -> None:
    """M19: files of other programs are read as they were meant."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, quoting=quoting)
    writer.writerow(["a", "b"])
    writer.writerows(cells)
    with blocks_of(size):
        found = values_now(stream_of(out.getvalue().encode(), "csv"))
    assert [list(row.values()) for row in found] == cells


@many
@given(st.sampled_from(["jsonl", "csv"]), st.text('"ab,\n\r', max_size=30), st.integers(0, 30))
def test_splitting_in_two_steps_is_splitting_in_one(kind: str, text: str, at: int) -> None:
    """S1: a reader that gets a file in pieces sees the same records, and takes none too early."""
    codec: Any = JsonlCodec() if kind == "jsonl" else CsvCodec()
    data = text.encode()
    whole = codec.split(data, final=True)
    first = codec.split(data[:at], final=False)
    rest = codec.split(data[first.consumed :], final=True)
    assert first.consumed <= len(data[:at])
    assert first.records + rest.records == whole.records
    assert whole.consumed == len(data)
    assert first.consumed + rest.consumed == len(data)


SAMPLES: dict[str, tuple[bytes, list[Any]]] = {
    "jsonl": (BOM + b'\n\r\n{"a":1}\r\n\n\n[2,"x"]\n"three"\n\r\n4', [{"a": 1}, [2, "x"], "three", 4]),
    "csv": (
        BOM + b'\na,"b\n""c"\r\n1,"2\n\n3"\r\n\n"",\n\n"4,"",","\r\n"\n5,6',
        [
            {"a": "1", 'b\n"c': "2\n\n3"},
            {"a": "", 'b\n"c': ""},
            {"a": '4,",', 'b\n"c': "\r\n"},
            {"a": "5", 'b\n"c': "6"},
        ],
    ),
}


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_record_may_be_cut_by_a_block_at_every_byte(kind: str) -> None:
    """M18, M19: every block size gives the same rows."""
    data, rows = SAMPLES[kind]
    for size in range(1, len(data) + 2):
        with blocks_of(size):
            assert values_now(stream_of(data, kind)) == rows


@pytest.mark.parametrize("kind", SAMPLES)
def test_a_file_that_grows_byte_by_byte_gives_each_row_once(kind: str) -> None:
    """M18: a half-written line is not a row until its newline comes, or the stream is sealed."""
    data, rows = SAMPLES[kind]
    stream = stream_of(b"", kind)
    reader = stream.cursor()
    found: list[Any] = []
    for byte in data:
        grow(stream, bytes([byte]))
        found += drain(reader)
        assert not reader.ended()
    assert [value for _, value in found] == rows[:-1]
    stream.seal()
    found += drain(reader)
    assert reader.ended()
    assert found == list(enumerate(rows))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_record_may_be_larger_than_a_block(kind: str) -> None:
    """M19, S3: also with blank lines before it, which fill no block of their own."""
    big = 'x",\n' * (READ_BYTES // 2)
    stream = stream_on(stream_of(b"").storage, kind)
    stream.codec = type(stream.codec)(DataConfig(max_record_bytes=4 * READ_BYTES))  # type: ignore[call-arg]
    with stream.get_writer() as writer:
        writer.write([{"a": "first"}, {"a": big}, {"a": "last"}])
    assert [row["a"] for row in values_now(stream)] == ["first", big, "last"]


def test_blank_lines_before_a_record_larger_than_a_block_do_not_end_the_file() -> None:
    """S3: nothing is left out silently."""
    big = orjson.dumps("y" * (READ_BYTES + 5))
    assert len(values_now(stream_of(b"1\n" + b"\n" * 3 * READ_BYTES + big + b"\n2\n"))) == 3
    with blocks_of(16):
        assert values_now(stream_of(b"\n" + b'"' + b"z" * 100 + b'"\n' + b"\n" * 100 + b"2\n")) == ["z" * 100, 2]


def test_a_cell_may_be_larger_than_the_limit_of_the_csv_module() -> None:
    """M19: the module's 128 KiB are no limit of the format."""
    before = csv.field_size_limit(131_072)
    try:
        decode = CsvDecoder(["a", "b"])
        assert decode(b"1," + b"x" * 1_000_000) == {"a": "1", "b": "x" * 1_000_000}
        head = b'"' + b"h" * 200_000 + b'",b\n1,2\n'
        csv.field_size_limit(131_072)
        assert values_now(stream_of(head, "csv")) == [{"h" * 200_000: "1", "b": "2"}]
    finally:
        csv.field_size_limit(before)


def test_csv_values_that_are_not_text_are_written_so_that_nothing_is_lost() -> None:
    """M19: values are text; nested ones are JSON, None is an empty cell."""
    row = {"_i": "3_1", "n": None, "t": True, "f": 1.5, "z": -7, "l": [1, "é", {"a": None}], "d": {"k": [False]}}
    encoder = CsvEncoder()
    record = encoder.encode(row)
    back = values_now(stream_of(encoder.preamble() + record, "csv"))[0]
    assert back == {
        "_i": "3_1", "n": "", "t": "true", "f": "1.5", "z": "-7", "l": '[1,"é",{"a":null}]', "d": '{"k":[false]}',
    }  # fmt: skip
    assert orjson.loads(back["l"]) == row["l"]


@pytest.mark.parametrize(
    "row_id", [0, 7, 10**18, -3, "0_1", "10_0_2", "3~9_0", "007", "+5", "1e3", "²", "12345678901234567890123"]
)
def test_an_id_comes_back_from_csv_as_the_id_it_was(row_id: int | str) -> None:
    """M19, M14: numbers as numbers, text as text."""
    encoder = CsvEncoder()
    record = encoder.encode({"_i": row_id, "a": "x"})
    back = values_now(stream_of(encoder.preamble() + record, "csv"))[0]["_i"]
    assert back == row_id
    assert type(back) is type(row_id)


def test_an_empty_id_in_csv_is_no_id() -> None:
    """M14: a row without an id gets its number in the stream."""
    reader = stream_of(b"_i,a\n,x\n5,y\n,z\n", "csv").get_reader(follow=False)
    assert list(reader.read(3)) == [([{"_i": 0, "a": "x"}, {"_i": 5, "a": "y"}, {"_i": 2, "a": "z"}], [0, 5, 2])]


def test_a_column_that_the_header_lacks_is_an_error_that_names_it() -> None:
    """M19: no cell is dropped silently."""
    encoder = CsvEncoder()
    encoder.encode({"_i": 1, "a": 2})
    with pytest.raises(ColumnError, match=r"row 7 has the column 'surprise'.*\(_i, a\)"):
        encoder.encode({"_i": 7, "surprise": 1})
    with pytest.raises(ColumnError, match="'b'"):
        encoder.encode({"_i": 7, "a": 1, "b": 2})
    assert encoder.encode({"a": 3}) == b",3"


@pytest.mark.parametrize("record", [b"1", b"1,2,3", b"1,2,"])
def test_a_record_with_the_wrong_number_of_cells_is_an_error(record: bytes) -> None:
    """M19, M24: the error names the file and the line."""
    stream = stream_of(b'a,b\n"1\n2",3\n\n' + record + b"\n", "csv")
    with pytest.raises(RowFormatError, match=r"out.csv, line 5: .* (1|3) cells where the header has 2 columns"):
        list(stream.get_reader(follow=False).read(5))


@pytest.mark.parametrize("bad", [b'1,"2\n', b'1,"2"x\n', b"1,\xff\n", b"1,2\r3\n"])
def test_a_record_that_is_not_csv_is_an_error_not_a_guess(bad: bytes) -> None:
    """M24: quotes that are not closed, text after them, bytes that are no text."""
    with pytest.raises(RowFormatError, match=r"out.csv, line 2: this is not a row"):
        list(stream_of(b"a,b\n" + bad, "csv").get_reader(follow=False).read(5))


@pytest.mark.parametrize(
    ("header", "says"),
    [(b"a,b,a\n1,2,3\n", "'a' more than once"), (b"a,\xff\n", "is not UTF-8"), (b'a,"b', "unexpected end")],
)
def test_a_header_that_is_none_is_an_error(header: bytes, says: str) -> None:
    """M19: a column that is named twice would lose one of its cells."""
    with pytest.raises(RowFormatError, match=f"out.csv, line 1: .*{says}"):
        values_now(stream_of(header, "csv"))


@pytest.mark.parametrize("data", [b"", BOM, b"\n\n", b"a,b", b"a,b\n", BOM + b"a,b\r\n\n"])
def test_csv_without_records_has_no_rows(data: bytes) -> None:
    """M19: an empty file, and a header alone."""
    stream = stream_of(data, "csv")
    assert values_now(stream) == []
    stream.seal()
    assert list(stream.get_reader().read()) == []


@pytest.mark.parametrize("data", [b"", BOM, b"\n", b"\r\n\n"])
def test_json_lines_without_records_have_no_rows(data: bytes) -> None:
    """M18: an empty file ends at once when it is not followed."""
    assert values_now(stream_of(data)) == []


@pytest.mark.parametrize("head", [b"", BOM[:1], BOM[:2], b"a,b", b'"a\n'])
def test_a_beginning_that_is_not_whole_is_waited_for(head: bytes) -> None:
    """M18: neither half a header nor half a byte order mark is taken for a row."""
    stream = stream_of(head, "csv")
    reader = stream.cursor()
    assert reader.read(1) is None
    assert not reader.ended()


def test_a_byte_order_mark_that_comes_in_pieces_is_no_row() -> None:
    """M18: in JSON lines, too."""
    stream = stream_of(BOM[:2])
    reader = stream.cursor()
    assert reader.read(1) is None
    grow(stream, BOM[2:] + b"1\n")
    assert drain(reader) == [(0, 1)]


@pytest.mark.parametrize("bad", [b"{", b"\xff", b"nan", b"{} {}", b" ", b"\t"])
def test_a_line_that_is_not_json_is_an_error_with_its_number(bad: bytes) -> None:
    """M24: blank lines are counted, also those right before it."""
    for blank in (b"", b"\n\n", b"\r\n"):
        data = blank + b"1\n" + blank + bad + b"\n2\n"
        line = 2 + 2 * blank.count(b"\n")
        for size in (1, 1000):
            with blocks_of(size), pytest.raises(RowFormatError, match=rf"out.jsonl, line {line}: this is not a row"):
                list(stream_of(data).get_reader(follow=False).read(5))


def test_rows_before_a_bad_line_are_given_out() -> None:
    """M24: only the batch that holds the bad line is lost to the reader."""
    found: list[Any] = []
    reading = stream_of(b"1\n2\n{\n").get_reader(follow=False).read(1)
    with pytest.raises(RowFormatError, match="line 3"):
        found.extend(row for rows, _ in reading for row in rows)
    assert found == [1, 2]


def test_a_csv_encoder_goes_on_with_the_header_of_the_file() -> None:
    """M19: what is appended after a crash has the columns of the file, in its order."""
    for bom in (b"", BOM):
        encoder = CsvCodec().encoder(bom + b'"b\n1",a\nx,y\n')
        assert encoder.encode({"a": 1, "b\n1": 2}) == b"2,1"
    with pytest.raises(ValueError, match="header does not end"):
        CsvCodec().encoder(b'"endless')


@pytest.mark.integration
def test_one_of_many_first_rows_decides_the_columns() -> None:
    """M19: workers encode at the same time; one header comes out, and all records have its order."""
    names = [f"c{k}" for k in range(8)]
    for _ in range(20):
        encoder = CsvEncoder()
        barrier = threading.Barrier(4)

        def encode(turn: int, encoder: CsvEncoder = encoder, barrier: threading.Barrier = barrier) -> bytes:
            barrier.wait()
            order = names[turn:] + names[:turn]
            return encoder.encode({name: name.upper() for name in order})

        with ThreadPoolExecutor(4) as pool:
            records = list(pool.map(encode, range(4)))
        assert {record.lower() + b"\n" for record in records} == {encoder.preamble()}


@pytest.mark.parametrize("encoder", [JsonlEncoder(), CsvEncoder()])
@pytest.mark.parametrize("value", ["\ud800", [object()], {1, 2}])
def test_a_value_that_cannot_be_written_is_an_error(encoder: Any, value: Any) -> None:
    """S3: no row is written that cannot be read."""
    for encode in (encoder.encode, encoder.encode_other):
        with pytest.raises((TypeError, ValueError)):
            encode({"a": value})


def test_what_json_cannot_hold_is_said_with_a_type_error() -> None:
    """M15: then, and only then, `encode_other` is asked."""
    encoder = JsonlCodec().encoder(b"")
    for value in (object(), {1, 2}, "a lone \ud800"):
        with pytest.raises(TypeError):
            encoder.encode({"x": value})
        with pytest.raises(TypeError):
            encoder.encode_other({"x": value})


def test_values_of_numpy_are_rows_like_others() -> None:
    """M15: scalars and arrays, deep inside; only by the second way, which is tried when the first refuses."""
    numpy = pytest.importorskip("numpy")
    encoder = JsonlCodec().encoder(b"")
    row = {"a": numpy.float64(0.5), "b": [numpy.int32(7)], "c": {"d": numpy.arange(4).reshape(2, 2)}, "_i": 3}
    with pytest.raises(TypeError):
        encoder.encode(row)
    assert orjson.loads(encoder.encode_other(row)) == {"a": 0.5, "b": [7], "c": {"d": [[0, 1], [2, 3]]}, "_i": 3}
    with pytest.raises(TypeError):
        encoder.encode_other({"x": numpy.array([object()])})
