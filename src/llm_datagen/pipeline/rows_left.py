"""Whether a node has rows of its source to do, as its streams are now. Only reads."""

from __future__ import annotations

from collections.abc import Collection

from llm_datagen.pipeline.binding import Binding
from llm_datagen.streams import Place, Stream
from llm_datagen.streams.coverage import Coverage
from llm_datagen.streams.recovery import last_position


def has_rows_left(node: Binding, written: Collection[Place] = ()) -> bool:
    """Return whether there are rows that a node has not done, or may be.

    A source that is followed until somebody seals it may always get more.

    Args:
        node: the node.
        written: what nodes of its run write: this gets more rows only when they do.
    """
    if node.is_finished():
        return False
    as_is = {stream.place for stream in node.input.read_as_is(follow=node.follow_input)}
    for stream, done in node.input.parts(last_position(node.output).coverage):
        is_open = stream.place not in as_is and stream.place not in written and not stream.is_sealed()
        if is_open or _has_more(stream, done):
            return True
    return False


def _has_more(stream: Stream, done: Coverage) -> bool:
    if not stream.is_there():
        return False
    if stream.is_endless:
        return True
    cursor = stream.cursor(done.gaps(), follow=False)
    try:
        return cursor.read(1) is not None
    finally:
        cursor.close()
