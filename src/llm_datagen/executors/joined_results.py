"""The results of several blocks as one."""

from __future__ import annotations

from collections.abc import Sequence

from llm_datagen.executors.id_ranges import joined_ranges
from llm_datagen.messages.block_result import BlockResult
from llm_datagen.streams import Span
from llm_datagen.streams.state.changes import joined_changes


def joined(results: Sequence[BlockResult]) -> BlockResult:
    """Return the results of blocks, in their order, as one, without rows that were not processed and their failure.

    The span is from the first row to the last. Output rows in a spill file stand alone.
    """
    if len(results) == 1:
        return results[0]
    first, last = results[0].span, results[-1].span
    with_rows = [result.ids for result in results if result.rows]
    return BlockResult(
        span=Span(first.start, last.end, first.offset, last.offset_end),
        rows=sum(result.rows for result in results),
        data=b"".join(result.data for result in results if isinstance(result.data, bytes)),
        filtered=sum(result.filtered for result in results),
        rejected=sum(result.rejected for result in results),
        rejections=b"".join(result.rejections for result in results),
        ids=(with_rows[0][0], with_rows[-1][1]) if with_rows else (None, None),
        marks=joined_ranges([result.marks for result in results if result.marks is not None]),
        skipped=sum(result.skipped for result in results),
        dead=sum(result.dead for result in results),
        dead_letters=b"".join(result.dead_letters for result in results),
        survived=tuple(failure for result in results for failure in result.survived),
        calls=sum(result.calls for result in results),
        seconds=sum(result.seconds for result in results),
        cpu_seconds=sum(result.cpu_seconds for result in results),
        state=joined_changes([result.state for result in results if result.state is not None]),
    )
