"""Places where an input may be cut, at about even distances; one file after the other, each looked through once."""

from __future__ import annotations

import math
from typing import NamedTuple

from llm_datagen.shards.pieces import length_of, pieces_of
from llm_datagen.streams import Stream
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.inputs.file_set_cursor import FILE_STRIDE


class Mark(NamedTuple):
    """A place where an input may be cut.

    Attributes:
        row: the number of the row that begins there.
        at: its address.
        weight: how much lies before it, of any unit.
        seek: what helps to find it; see `Part`.
    """

    row: int
    at: int
    weight: float
    seek: tuple[int, ...] = ()


def marks_in(source: Stream, count: int) -> list[Mark]:
    """Return where an input begins, about `count` - 1 places, and where it ends.

    A file that is smaller than their distance is not cut. Rows of tables count as much as the bytes of their files.

    Args:
        source: the input.
        count: into how many pieces it may be cut, about.

    Raises:
        StreamError: when it cannot be read.
    """
    is_set = isinstance(source, FileSet)
    sizes = source.sizes if isinstance(source, FileSet) else [source.size() or 0]
    step = max(1.0, sum(sizes) / count)
    found = [Mark(0, 0, 0.0)]
    first, weight = 0, 0.0
    end = found[0]
    for number, size in enumerate(sizes):
        file = source.streams.made(number) if isinstance(source, FileSet) else source
        if first > found[-1].row and weight - found[-1].weight >= step / 2:
            found.append(Mark(first, number * FILE_STRIDE, weight))
        *inner, last = _marks_of(file, math.ceil(size / step) - 1)
        for mark in inner:
            seek = (first, *mark.seek) if is_set else mark.seek
            share = mark.at / max(1, last.at) * size
            found.append(Mark(first + mark.row, number * FILE_STRIDE + mark.at, weight + share, seek))
        first, weight = first + last.row, weight + size
        end = Mark(first, number * FILE_STRIDE + last.at, weight)
    return [*(mark for mark in found if mark.row < first or not mark.row), end]


def _marks_of(file: Stream, count: int) -> list[Mark]:
    """Return about `count` places within a file, and where it ends. Of a compressed one, there may be twice as many."""
    found: list[Mark] = []
    stride = following = row = 0
    end = (0, 0)
    for piece in pieces_of(file, count):
        length = length_of(file, piece)
        if not stride:
            stride = following = max(1, (length or file.size() or 0) // (count + 1))
        end = piece.end
        while count > 0 and following <= end[1]:
            before, (row, at) = row, piece.place(following)
            following = (max(at, following) // stride + 1) * stride
            if row > before:
                found.append(Mark(row, at, 0.0, tuple(file.seek_mark(at) or ())))
            if length is None and len(found) > 2 * count:  # what is compressed is longer than its file
                found, stride = found[1::2], stride * 2
    return [*(mark for mark in found if mark.row < end[0]), Mark(*end, 0.0)]
