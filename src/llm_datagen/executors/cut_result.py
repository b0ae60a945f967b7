"""A result that is cut: only its first output rows are wanted."""

from __future__ import annotations

from dataclasses import replace

from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Sink
from llm_datagen.streams.formats.base import lines_of
from llm_datagen.streams.ids import Id
from llm_datagen.streams.rows import item_of
from llm_datagen.streams.spill import Spill


def cut(result: BlockResult, rows: int, sink: Sink) -> BlockResult:
    """Return a result with the first `rows` of its output rows; what it says of source rows stays.

    Args:
        result: the result of one call; it has more rows.
        rows: how many are kept, at least one.
        sink: where it goes, which knows the format.
    """
    data = result.data
    if isinstance(data, Spill):
        data.truncate(rows)
        last = data.last()
    else:
        kept = sink.stream.codec_to_read().split(data, final=True).records[:rows]
        data, last = lines_of(kept), kept[-1]
    return replace(result, rows=rows, data=data, ids=(result.ids[0], _id_of(last, sink)))


def _id_of(record: bytes, sink: Sink) -> Id:
    found = sink.stream.codec_to_read().read_preamble(sink.encoder.preamble(), final=True)
    assert found is not None
    return item_of(found[0](record), 0)[0]
