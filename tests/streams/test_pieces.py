"""Pieces of bytes: read at offsets as if they were one."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_datagen.streams.storage.pieces import Pieces


@settings(max_examples=100)
@given(st.lists(st.binary(max_size=5), max_size=8), st.integers(0, 3), st.integers(0, 45), st.integers(0, 45))
def test_what_was_added_is_read_at_any_offset_that_was_not_forgotten(
    parts: list[bytes], start: int, offset: int, length: int
) -> None:
    whole, pieces = b"".join(parts), Pieces(start)
    for part in parts:
        pieces.add(part)
    assert (pieces.base, pieces.end, pieces.is_empty) == (start, start + len(whole), not whole)
    pieces.forget(offset)
    assert start <= pieces.base <= max(offset, start)
    assert pieces.end == start + len(whole)
    assert pieces.end - pieces.base <= max(pieces.end - offset, 0) + 4  # of the piece that offset is in
    at = max(offset, pieces.base)
    assert pieces.read_at(at, length) == whole[at - start : at - start + length]
