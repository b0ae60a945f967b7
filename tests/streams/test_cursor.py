"""The reading end: exactly the rows asked for, never past the last commit, and no changed file unnoticed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.errors import StreamChangedError, StreamMissingError
from llm_datagen.streams import Block, Coverage, Segment, Span, Stream
from llm_datagen.streams.storage.memory import MemoryStorage

from .storages import blocks_of, contents, drain, grow, put, read_now, stream_of, stream_on, values_now

many = settings(max_examples=75, deadline=None)
texts = st.text('ab",\n\ré漢', max_size=8)


def written(kind: str, state: str, cells: list[str], tail: bytes = b"") -> Stream:
    """Return a stream with a row a cell, that is plain, committed or sealed; a committed one has a torn tail."""
    stream = stream_on(MemoryStorage(), kind)
    writer = stream.get_writer()
    for cell in cells:
        writer.write([{"a": cell, "b": "x"}])
    if state == "sealed":
        writer.close()
        return stream
    writer._sink.close()
    if state == "plain":
        stream.storage.remove(stream.commits_path)
        put(stream, contents(stream) + tail)
    else:
        put(stream, contents(stream) + b'{"a":"uncommitted, but whole","b":""}\n"torn')
    return stream


def spans_in(blocks: list[Block]) -> list[Span]:
    """Return one span a row."""
    spans = []
    for block in blocks:
        rest = block
        while rest.records:
            head, rest = rest.split_at(1)
            spans.append(Span(head.start, head.end, head.offset, head.offset_end))
    return spans


@many
@given(
    st.sampled_from(["jsonl", "csv"]),
    st.sampled_from(["plain", "committed", "sealed"]),
    st.lists(texts, max_size=8),
    st.data(),
)
def test_a_cursor_over_the_gaps_gives_exactly_the_rows_that_are_not_covered(
    kind: str, state: str, cells: list[str], data: st.DataObject
) -> None:
    """S1: any holes, any block size, any number of rows a read; each row with its own number and place."""
    stream = written(kind, state, cells)
    blocks: list[Block] = []
    with blocks_of(data.draw(st.integers(1, 60))):
        reader = stream.cursor(follow=False)
        while (block := reader.read(data.draw(st.integers(1, 4)))) is not None:
            blocks.append(block)
    spans = spans_in(blocks)
    assert [span.start for span in spans] == list(range(len(cells)))

    covered = data.draw(st.sets(st.integers(0, max(len(cells) - 1, 0)), max_size=len(cells)))
    coverage = Coverage(spans[number] for number in covered)
    with blocks_of(data.draw(st.integers(1, 60))):
        reader = stream.cursor(coverage.gaps(), follow=False)
        again: list[Block] = []
        while (block := reader.read(data.draw(st.integers(1, 4)))) is not None:
            assert block.start not in covered
            again.append(block)
    assert reader.ended()
    found = [(b.start + k, b.decode(record)["a"]) for b in again for k, record in enumerate(b.records)]
    assert found == [(number, cell) for number, cell in enumerate(cells) if number not in covered]
    for block in again:
        coverage.add(Span(block.start, block.end, block.offset, block.offset_end))
    assert coverage.rows == len(cells)
    assert coverage.holes == 0
    segment = Segment(0, 0, len(cells), coverage.end()[1])
    if cells:
        assert [value["a"] for _, value in read_now(stream, [segment])] == cells


def test_blank_lines_around_a_hole_belong_to_no_row() -> None:
    """S1: a hole that was cut out of other blocks is still read whole."""
    data = b"0\n\n\n1\n\r\n\n2\n\n\n\n3"
    for size in range(1, len(data) + 1):
        with blocks_of(size):
            reader = stream_of(data).cursor(follow=False)
            blocks = []
            while (block := reader.read(1)) is not None:
                blocks.append(block)
        spans = spans_in(blocks)
        for hole in range(4):
            gaps = Coverage(span for span in spans if span.start != hole).gaps()
            for again in range(1, len(data) + 1):
                with blocks_of(again):
                    assert read_now(stream_of(data), gaps) == [(hole, hole)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_nobody_reads_past_the_last_commit(kind: str) -> None:
    """S1: rows behind it may be cut off; without following, this is all there is."""
    stream = written(kind, "committed", ["x", "y"])
    reader = stream.cursor(follow=False)
    assert [row["a"] for _, row in drain(reader)] == ["x", "y"]
    assert reader.ended()
    reader = stream.cursor()
    assert [row["a"] for _, row in drain(reader)] == ["x", "y"]
    assert not reader.ended()
    assert not reader.knows_end
    with stream.get_writer() as writer:
        assert reader.read(1) is None
        writer.write([{"a": "z", "b": ""}])
        assert [row["a"] for _, row in drain(reader)] == ["z"]
        assert not reader.ended()
    assert reader.read(1) is None
    assert reader.ended()


def test_a_reader_takes_its_writers_word_for_what_is_committed() -> None:
    """S1: told how far it may read, it need not look."""
    stream = stream_on(MemoryStorage())
    sink = stream.sink()
    reader = stream.cursor()
    assert reader.read(1) is None
    sink.append(b"1\n2\n", rows=2)
    reader.extend(sink.position.bytes)
    assert reader.limit == 4
    stream.storage.remove(stream.commits_path)  # to be seen: it was not looked at
    assert drain(reader, 1) == [(0, 1), (1, 2)]
    assert (reader.start, reader.offset) == (2, 4)
    sink.close()


def test_the_place_of_a_cursor_is_that_of_the_next_row_it_gives() -> None:
    """S1: rows that were read ahead do not count."""
    reader = stream_of(b"11\n22\n\n33\n").cursor(follow=False)
    assert (reader.start, reader.offset) == (0, 0)
    reader.read(1)
    assert (reader.start, reader.offset) == (1, 3)
    assert not reader.ended()
    reader.read(1)
    assert (reader.start, reader.offset) == (2, 7)
    reader.read(5)
    assert (reader.start, reader.offset, reader.limit) == (3, 10, 10)
    assert reader.read(5) is None
    assert reader.ended()
    assert reader.knows_end


def test_a_half_written_last_line_is_not_a_row() -> None:
    """M18: until its newline comes; a row can look whole before it is."""
    stream = stream_of(b"1\n23")
    reader = stream.cursor()
    assert drain(reader) == [(0, 1)]
    grow(stream, b"4\n")
    assert drain(reader) == [(1, 234)]
    assert not reader.ended()


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_without_following_a_last_line_without_newline_is_a_row(kind: str) -> None:
    """M17: the pipeline's own input file is taken as ended."""
    assert len(values_now(stream_of(b"1\n2\n3", kind))) == (3 if kind == "jsonl" else 2)


def test_what_is_appended_after_the_end_was_seen_is_left_alone() -> None:
    """M17: an input that is not followed is what it was when it was opened."""
    stream = stream_of(b"1\n2")
    reader = stream.cursor(follow=False)
    assert reader.read(1) is not None
    grow(stream, b"\n3\n")
    assert drain(reader) == [(1, 2)]
    assert reader.ended()


def test_a_missing_file_is_waited_for_only_by_who_follows() -> None:
    """M18, M22: else the error names the file."""
    stream = stream_on(MemoryStorage())
    with pytest.raises(StreamMissingError, match=r"^out.jsonl does not exist"):
        stream.cursor(follow=False).read(1)
    reader = stream.cursor()
    assert reader.read(1) is None
    assert not reader.ended()
    put(stream, b"1\n")
    assert drain(reader) == [(0, 1)]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_seal_made_with_touch_ends_a_stream(kind: str) -> None:
    """M17: what another program says counts, and makes its last line whole."""
    stream = stream_of(b"a\n1\n2".replace(b"a", b"0"), kind)
    reader = stream.cursor()
    before = drain(reader)
    assert not reader.ended()
    stream.storage.replace(stream.done_path, b"", sync=False)
    assert len(before + drain(reader)) == (3 if kind == "jsonl" else 2)
    assert reader.ended()


def test_a_seal_made_with_touch_does_not_make_rows_of_what_was_never_committed() -> None:
    """M17, S1: a stream of ours that was cut short ends with its last commit."""
    stream = written("jsonl", "committed", ["x", "y"])
    stream.storage.replace(stream.done_path, b"", sync=False)
    assert [row["a"] for row in values_now(stream)] == ["x", "y"]


@pytest.mark.parametrize("change", [b"", b'{"_i":0}', b'{"_i":0}\n{"_i":1}\n'])
def test_a_sealed_stream_of_another_size_is_an_error(change: bytes) -> None:
    """M22: shortened or continued after its seal; the error names the file and both sizes."""
    stream = stream_on(MemoryStorage())
    with stream.get_writer() as writer:
        writer.write([{}])
    put(stream, change)
    with pytest.raises(StreamChangedError, match=rf"out.jsonl has {len(change)} bytes, but 9 when it was sealed"):
        stream.cursor().read(1)


@pytest.mark.parametrize("beside", ["done", "touched", "commits"])
def test_a_file_that_is_gone_is_not_waited_for(beside: str) -> None:
    """M22: its seal or its commit log says that it was there."""
    stream = stream_on(MemoryStorage())
    writer = stream.get_writer()
    writer.write([1])
    if beside == "commits":
        writer._sink.close()
    else:
        writer.close()
    if beside == "touched":
        stream.storage.replace(stream.done_path, b"", sync=False)
    stream.storage.remove(stream.path)
    with pytest.raises(StreamMissingError, match=r"out.jsonl is gone, though out.jsonl.(done|commits) is there"):
        stream.cursor().read(1)


FILE = b"10\n11\n12\n13\n14\n"
HOLES = [Segment(1, 3, 2, 6), Segment(3, 9, 4, 12), Segment(5, 15)]


@pytest.mark.parametrize("size", [1, 100])
def test_every_row_of_the_holes_is_read(size: int) -> None:
    """S1: what the following tests change."""
    with blocks_of(size):
        assert read_now(stream_of(FILE), HOLES) == [(1, 11), (3, 13)]
        assert read_now(stream_of(FILE + b"15\n"), HOLES) == [(1, 11), (3, 13), (5, 15)]
        assert read_now(stream_of(FILE[:-1]), [*HOLES[:2], Segment(5, 14)]) == [(1, 11), (3, 13)]


@pytest.mark.parametrize("follow", [True, False])
@pytest.mark.parametrize("length", range(len(FILE)))
def test_an_input_that_was_shortened_is_an_error_before_any_row_is_given(length: int, follow: bool) -> None:
    """M22: whichever of the places that were read before is gone."""
    reader = stream_of(FILE[:length]).cursor(HOLES, follow=follow)
    with pytest.raises(StreamChangedError, match=rf"out.jsonl ends at byte {length}, but it was read up to byte 15"):
        reader.read(1)


def test_an_input_that_shrinks_while_it_is_read_is_an_error() -> None:
    """M22: it ends neither early nor never."""
    stream = stream_of(b"1\n2\n3\n")
    with blocks_of(2):
        reader = stream.cursor()
        assert reader.read(1) is not None
        put(stream, b"1\n")
        reader.close()
        with pytest.raises(StreamChangedError, match="ends at byte 2, but it was read up to byte 6"):
            reader.read(1)
        reader = stream.cursor()
        drain(reader)
        put(stream, b"1")
        with pytest.raises(StreamChangedError, match="ends at byte 1, but it was read up to byte 2"):
            reader.read(1)


def test_a_header_that_shrinks_while_it_is_read_is_an_error() -> None:
    """M22: and no endless loop."""
    stream = stream_of(b"a,b", "csv")
    reader = stream.cursor()
    assert reader.read(1) is None
    put(stream, b"a")
    reader.close()
    with pytest.raises(StreamChangedError, match="ends at byte 1, but it was read up to byte 3"):
        reader.read(1)


@pytest.mark.parametrize(
    ("now", "says"),
    [
        (b"10\n1\n312\n13\n14\n", "byte 6 was between two rows"),
        (b"10\n1,11\n2\n13\n14", "byte 6 was between two rows"),
        (b"101\n1\n12\n13\n14\n", "byte 3 was between two rows"),
        (b"10\n1\n\n12\n1\n\n14\n", None),
        (b"10\n\n\n\n12\n13\n14\n", "bytes 3 to 6 held the rows 1 to 2, and now end with row 1"),
        (b"10\n11\n12\n1\n2\n1\n", "byte 12 was between two rows"),
        (b"10\n11\n12\n1\n\n14\n", None),
        (b"10\n11\n12\n\n\n\n14\n", "bytes 9 to 12 held the rows 3 to 4, and now end with row 3"),
        (b"10\n11\n12\n13\n1422\n", "byte 15 was between two rows"),
    ],
)
def test_an_input_that_was_edited_is_not_read_from_the_middle_of_a_row(now: bytes, says: str | None) -> None:
    """M22: an edit that moves the rows is seen where reading goes on; one that keeps their places is no such edit."""
    for size in (1, 2, 100):
        with blocks_of(size):
            if says is None:
                assert len(read_now(stream_of(now), HOLES)) == 2
            else:
                with pytest.raises(StreamChangedError, match=rf"^out.jsonl: ({says})"):
                    read_now(stream_of(now), HOLES)


def test_a_hole_that_holds_more_rows_than_it_did_is_an_error() -> None:
    """M22: no row gets the number of another one."""
    with pytest.raises(StreamChangedError, match="byte 9 was the end of row 2 at the latest"):
        read_now(stream_of(b"10\n1\n2\n3\n14\n"), [Segment(1, 3, 2, 9), Segment(4, 12)])


def test_an_input_that_has_grown_behind_its_last_row_goes_on_there() -> None:
    """M17: a last line that had no newline may get one, and rows after it."""
    for now in (b"1\n2", b"1\n2\n", b"1\n2\r\n", b"1\n2\n3\n", b"1\n2\r\n3"):
        rows = read_now(stream_of(now), [Segment(2, 3)])
        assert rows == ([(2, 3)] if b"3" in now else [])


def test_a_cursor_over_nothing_has_ended() -> None:
    """S1: no segments, no rows, and no look at the stream."""
    reader = stream_on(MemoryStorage()).cursor([])
    assert reader.read(1) is None
    assert reader.ended()


def test_a_last_segment_that_has_an_end_ends_the_cursor_there() -> None:
    """S1: also on a stream that goes on."""
    reader = stream_of(FILE).cursor([Segment(1, 3, 3, 9)])
    assert drain(reader, 1) == [(1, 11), (2, 12)]
    assert reader.ended()


def test_segments_of_csv_know_its_header() -> None:
    """M19: reading may begin anywhere."""
    stream: Any = stream_of(b'a,b\n"1\n",2\n3,4\n5,6\n', "csv")
    assert read_now(stream, [Segment(1, 11, 2, 15)]) == [(1, {"a": "3", "b": "4"})]
