"""Rows as uncut lines: cut where rows that are cut one by one are, and the same rows."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.config import DataConfig
from llm_datagen.errors import StreamChangedError
from llm_datagen.streams import JsonlStream
from llm_datagen.streams.outputs import ExportOptions, Target, export_rows
from llm_datagen.streams.outputs.lines import Lines, are_lines, read_lines

from .test_outputs import parquet


def _lines(sizes: list[int]) -> Lines:
    return Lines(b"".join(b"1" * size + b"\n" for size in sizes), 5, 70)


def _ends(sizes: list[int]) -> list[int]:
    return [70 + sum(sizes[:n]) + n for n in range(1, len(sizes) + 1)]


@settings(max_examples=50)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 8), st.integers(60, 110))
def test_lines_are_cut_at_a_number_of_rows_and_before_a_byte(sizes: list[int], rows: int, byte: int) -> None:
    lines, begins = _lines(sizes), [70, *_ends(sizes)[:-1]]

    assert lines.first(rows).view == _lines(sizes[:rows]).view
    assert lines.first(rows).end == 5 + min(rows, len(sizes))
    assert lines.until(byte).count == sum(begin < byte for begin in begins)


def test_what_follows_the_lines_in_a_piece_is_not_theirs_and_nothing_is_copied() -> None:
    piece = b"11\n2\n333\n44"
    lines = Lines(piece, 5, 70, len(piece) - 2)

    assert (lines.count, lines.end, lines.offset_end) == (3, 8, 79)
    assert lines.first_line == b"11\n"
    assert all(each.view.obj is piece for each in (lines, lines.first(2), lines.until(75)))
    assert bytes(lines.view) == piece[:-2]
    assert bytes(lines.first(2).view) == bytes(lines.until(75).view) == b"11\n2\n"
    assert bytes(lines.first(3).view) == bytes(lines.until(76).view) == piece[:-2]


def test_lines_are_read_in_pieces_that_end_with_a_row_however_long_it_is(tmp_path: Path) -> None:
    stream = JsonlStream(f"jsonl://{tmp_path}/rows.jsonl")
    with stream.get_writer() as writer:
        writer.write([{"text": "x" * size} for size in [700_000, 700_000, 5_000_000, 3, 4]])

    pieces = list(read_lines(stream, 0, 0))

    assert are_lines(stream)
    assert [(piece.start, piece.count) for piece in pieces] == [(0, 1), (1, 1), (2, 3)]
    assert b"".join(piece.view for piece in pieces) == Path(stream.path).read_bytes()
    second = [piece.view for piece in read_lines(stream, 2, pieces[2].offset)]
    assert second == [piece.view for piece in pieces[2:]]


def test_a_blank_line_that_was_put_in_is_refused_by_name(tmp_path: Path) -> None:
    stream = JsonlStream(f"jsonl://{tmp_path}/rows.jsonl")
    with stream.get_writer() as writer:
        writer.write([{"n": 1}, {"n": 222}, {"n": 3}])
    path = Path(stream.path)
    path.write_bytes(path.read_bytes().replace(b'{"n":222,"_i":1}\n', b'{"n":222"_i":1}\n\n'))

    with pytest.raises(StreamChangedError, match="blank line"):
        export_rows(stream, Target.of(str(tmp_path / "out.parquet")), ExportOptions(schema={"n": "int64"}))


def test_text_of_a_stream_in_latin_1_is_the_same_in_parquet(tmp_path: Path) -> None:
    stream = JsonlStream(f"jsonl://{tmp_path}/rows.jsonl").with_data(DataConfig(encoding="latin-1"))
    with stream.get_writer() as writer:
        writer.write([{"t": "Ã©"}, {"t": "a"}])  # the bytes of the first are those of another text in UTF-8

    for target in ("out.parquet", "out-{shard}.jsonl"):
        export_rows(stream, Target.of(str(tmp_path / target)), ExportOptions())

    assert b"\xc3\xa9" in Path(stream.path).read_bytes()
    assert not are_lines(stream)
    assert parquet(tmp_path / "out.parquet") == [{"_i": "0", "t": "Ã©"}, {"_i": "1", "t": "a"}]
    assert '{"_i":0,"t":"Ã©"}\n'.encode() in (tmp_path / "out-0.jsonl").read_bytes()
