"""Blocks: cutting and joining them never moves a record."""

from __future__ import annotations

from hypothesis import assume, given, settings
from hypothesis import strategies as st

from llm_datagen.streams import Block

from .storages import blocks_of, stream_of

many = settings(max_examples=75, deadline=None)

files = st.tuples(
    st.lists(st.tuples(st.integers(0, 999), st.sampled_from(["\n", "\r\n", "\n\n", "\n\r\n\n"])), max_size=8),
    st.sampled_from(["", "\n", "\ufeff", "\ufeff\n"]),
    st.sampled_from(["", "7"]),
)


def text_of(file: tuple[list[tuple[int, str]], str, str]) -> bytes:
    lines, head, tail = file
    return (head + "".join(f"{number}{end}" for number, end in lines) + tail).encode()


def blocks_in(data: bytes, size: int) -> list[Block]:
    found: list[Block] = []
    with blocks_of(size):
        reader = stream_of(data).cursor(follow=False)
        while (block := reader.read(1 << 30)) is not None:
            found.append(block)
    return found


def check(block: Block, data: bytes) -> None:
    """Compare a block with the bytes it stands for: every boundary it names lies right behind a record."""
    assert block.end == block.start + len(block.records)
    assert block.size == block.offset_end - block.offset
    places = [block.offset_after(count) for count in range(len(block.records) + 1)]
    assert places == sorted(places)
    assert places[0] == block.offset
    assert places[-1] == block.offset_end == block.offset_after(len(block.records) + 5)
    for record, begin, end in zip(block.records, places, places[1:], strict=False):
        assert data[begin:end].strip() == record.strip()
        assert end == len(data) or data[end - 1 : end] == b"\n"


@many
@given(files, st.integers(1, 60), st.lists(st.integers(0, 9), max_size=6))
def test_a_block_cut_anywhere_is_still_the_same_bytes(
    file: tuple[list[tuple[int, str]], str, str], size: int, cuts: list[int]
) -> None:
    """S1: spans are made of these offsets; each lies between two records."""
    data = text_of(file)
    for block in blocks_in(data, size):
        check(block, data)
        pieces, rest = [], block
        for cut in cuts:
            head, rest = rest.split_at(min(cut, len(rest.records)))
            assert (head.end, head.offset_end) == (rest.start, rest.offset)
            pieces.append(head)
        pieces.append(rest)
        for piece in pieces:
            check(piece, data)
        assert [record for piece in pieces for record in piece.records] == block.records
        assert (pieces[0].offset, pieces[-1].offset_end) == (block.offset, block.offset_end)
        whole = pieces[0]
        for piece in pieces[1:]:
            whole = whole.joined(piece)
        check(whole, data)
        assert whole.records == block.records


@many
@given(files, st.integers(1, 9))
def test_blocks_that_follow_each_other_join_whatever_blank_lines_lie_between(
    file: tuple[list[tuple[int, str]], str, str], size: int
) -> None:
    """S1: the joined block names the same places as the blocks did."""
    data = text_of(file)
    blocks = blocks_in(data, size)
    assume(blocks)
    whole = blocks[0]
    for block in blocks[1:]:
        assert block.start == whole.end
        whole = whole.joined(block)
    check(whole, data)
    assert whole.records == [record for block in blocks for record in block.records]


def test_the_name_of_a_block_shows_no_rows() -> None:
    """M28: rows never get into a log."""
    (block,) = blocks_in(b'"secret"\n', 100)
    assert repr(block) == "<Block rows 0..1 bytes 0..9>"
