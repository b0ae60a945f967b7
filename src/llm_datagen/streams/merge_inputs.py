"""An input: one of several streams that are read as one (see `merged`), and what its rows are called there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_datagen.errors import IdError
from llm_datagen.streams.block import Block
from llm_datagen.streams.coverage import INPUT_STRIDE, Coverage, Segment, Span
from llm_datagen.streams.formats.base import Decoder
from llm_datagen.streams.ids import ID_FIELD, NUMERIC_WIDTH, Id, numeric_child, parse_id
from llm_datagen.streams.rows import NamedLater, item_of
from llm_datagen.streams.stream import Stream

Naming = Literal["kept", "named", "numbered"]
"""How the rows of inputs are told apart: they are already; or ``7`` of the input `left` is ``7_left``; or ``7`` of
input k is ``70000 + k``, as children are under the scheme "numeric"."""


@dataclass(frozen=True, slots=True)
class MergeInput:
    """One of several streams that are read as one.

    Attributes:
        name: its name: letters, digits and dashes.
        number: its place among them, from 0.
        stream: the stream.
        is_static: whether it is read as it is; else it goes on until it is sealed.
        naming: how its rows are named.
    """

    name: str
    number: int
    stream: Stream
    is_static: bool
    naming: Naming

    @property
    def base(self) -> int:
        """The number of its first row, and of its first byte."""
        return self.number * INPUT_STRIDE

    def named(self, row_id: Id) -> Id:
        """Return the id that a row of the input has among those of all inputs.

        Raises:
            IdError: when it cannot have one, under the naming "numbered".
        """
        if self.naming == "kept":
            return row_id
        return f"{row_id}_{self.name}" if self.naming == "named" else numeric_child(row_id, self.number)

    def original(self, row_id: Id) -> Id | None:
        """Return the id that a row has in the input; None when it comes from another one."""
        if self.naming == "kept":
            return row_id
        if self.naming == "named":
            end = f"_{self.name}"
            return parse_id(row_id.removesuffix(end)) if isinstance(row_id, str) and row_id.endswith(end) else None
        is_here = isinstance(row_id, int) and row_id % NUMERIC_WIDTH == self.number
        return row_id // NUMERIC_WIDTH if is_here and isinstance(row_id, int) else None

    def rows_of(self, coverage: Coverage) -> Coverage:
        """Return what is covered of the input."""
        base, end = self.base, self.base + INPUT_STRIDE
        spans = [span for span in coverage if base <= span.start < end]
        return Coverage(Span(*(at - base for at in span)) for span in spans)

    def segments_of(self, segments: Sequence[Segment]) -> list[Segment]:
        """Return what of the segments lies in the input; the last goes on to its end."""
        base, end = self.base, self.base + INPUT_STRIDE
        found = []
        for segment in segments:
            is_open = segment.end is None or segment.end >= end
            if segment.start < end and (segment.end is None or segment.end > base):
                first = (0, 0) if segment.start < base else (segment.start - base, segment.offset - base)
                last = (None, None) if is_open else (_less(segment.end, base), _less(segment.offset_end, base))
                found.append(Segment(*first, *last))
        return found

    def shifted(self, block: Block) -> Block:
        """Return a block of the input as one of all inputs."""
        base = self.base
        ends = block.ends if block.ends is None else [end + base for end in block.ends]
        decode = block.decode if self.naming == "kept" else _InputDecoder(self.named, block.decode)
        return Block(block.records, block.start + base, block.offset + base, block.offset_end + base, ends, decode)


def _less(number: int | None, base: int) -> int | None:
    return None if number is None else number - base


@dataclass(frozen=True, slots=True)
class _InputDecoder:
    """Decodes a record; its name is given when its number is known."""

    name: Callable[[Id], Id]
    decode: Decoder

    def __call__(self, record: bytes) -> NamedLater:
        return _InputRow(self.name, self.decode(record))


@dataclass(frozen=True, slots=True)
class _InputRow(NamedLater):
    """A row of an input, decoded and not yet named."""

    name: Callable[[Id], Id]
    value: Any

    def item_of(self, ordinal: int) -> tuple[Id, Any]:
        """Return the id and the item of the row, by its number among the rows of all inputs."""
        row_id, item = item_of(self.value, ordinal % INPUT_STRIDE)
        try:
            named = self.name(row_id)
        except IdError as error:
            raise ValueError(str(error)) from error
        if item is self.value and isinstance(item, dict):
            item[ID_FIELD] = named
        return named, item
