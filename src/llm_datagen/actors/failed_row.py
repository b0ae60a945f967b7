"""Which row failed a run: as people are shown it."""

from __future__ import annotations

import contextlib

from llm_datagen.errors import StreamError
from llm_datagen.errors.escape import shortened
from llm_datagen.messages.block_result import OperatorFailure
from llm_datagen.streams import Source

_ID_CHARS = 100


def failed_row(source: Source, failure: OperatorFailure) -> str | None:
    """Return the row that failed, such as ``row 17 (in.jsonl, line 18): {"n": 17}``; None when it was none's fault.

    Of a batch, the first row is shown. The file is read up to the row, to count its lines.

    Args:
        source: what the node reads.
        failure: what ended the node.
    """
    if failure.is_fatal or not failure.ids:
        return None
    more = f" and {len(failure.ids) - 1} more with it" if len(failure.ids) > 1 else ""
    where = ""
    with contextlib.suppress(OSError, StreamError):  # it is gone, or cannot be read: the row is known all the same
        where = f" ({source.line_place(failure.offset)})"
    return f"row {shortened(str(failure.ids[0]), _ID_CHARS)}{more}{where}: {failure.excerpt}"
