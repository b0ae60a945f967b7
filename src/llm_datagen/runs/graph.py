"""The graph of a run's streams: each stream with its source, by the run state; and the rows in them."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from llm_datagen.errors import StreamError
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.streams import Block, MergedStream, MergeInput, Place, Source, Stream, StreamFactory
from llm_datagen.streams.ids import Id, RootNames, numeric_source, root_names
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import done_of, position_of
from llm_datagen.streams.scan import rows_of
from llm_datagen.streams.source import size_of, streams_of

_NEEDLES = 50
"""Up to so many ids are searched in undecoded records; with more, all records are decoded."""


@dataclass(frozen=True, slots=True, eq=False)
class StreamNode:
    """A stream of a run.

    Attributes:
        where: "input", or the id of the node that writes it.
        stream: the stream.
        source: the node that it is made from; None for an input, and for several streams that are read as one.
        inputs: the inputs of such, each with its node. It is no stream on disk, and has no rows but theirs.
        root: how its rows are named, of a pipeline's input; None when they have ids.
        is_numeric: whether the node that writes it names children by the scheme "numeric".
        is_id_stripper: whether its rows are copies of those of the source, without their ids.
        batch_size: rows per batch of that node has, at most.
        position: how far it was written; None when not known.
        until: the number of the row behind the last one that was read, of an input that has no end.
    """

    where: str
    stream: Source
    source: StreamNode | None = None
    inputs: tuple[tuple[MergeInput, StreamNode], ...] = ()
    root: RootNames | None = None
    is_numeric: bool = False
    is_id_stripper: bool = False
    batch_size: int = 1
    position: Position | None = None
    until: int | None = None

    @property
    def is_there(self) -> bool:
        """Whether there is any data."""
        return size_of(self.stream) is not None

    @property
    def has_gone(self) -> bool:
        """Whether there is no data, and it may have gone with its process."""
        return not self.is_there and any(stream.is_in_memory for stream in streams_of(self.stream))

    @property
    def lost(self) -> str:
        """What became of files of an input whose rows cannot be looked up any more, for people; empty when all can."""
        files = self.stream.data if self.source is None and isinstance(self.stream, Stream) else None
        return files.lost() if isinstance(files, FileSet) else ""

    def rows(
        self,
        wanted: Callable[[int, bytes], object] | None = None,
        may_have: Callable[[Block], bool] | None = None,
    ) -> Iterator[tuple[Id, Any, int]]:
        """Yield id, item and number of rows; those that are not `wanted` are passed over undecoded; see `rows_of`.

        Of an input of files of which one is `lost`, those before it.
        """
        if not self.is_there:
            return
        found = rows_of(self.stream, strict=False, wanted=wanted, may_have=may_have, until=self.until)
        try:
            for row_id, item, number in found:
                yield (self.root.name(number) if self.root else row_id), item, number
        except StreamError:
            if not self.lost:
                raise

    def rows_named(self, names: set[Id], *, pattern: bytes = b"") -> Iterator[tuple[Id, Any, int]]:
        """Yield rows among which are all that have one of some ids, or are named after it, or match a pattern."""
        texts = [str(name) for name in names]
        if self.root:
            numbers = {number for name in names if (number := self.root.number(name)) is not None}
            return self.rows(lambda number, _: number in numbers, lambda block: _has_number(block, numbers))
        is_hidden = self.is_numeric and 0 in names  # child 7 of row 0 is 7
        if is_hidden or len(texts) > _NEEDLES or not all(re.fullmatch(r"[\w~-]+", text, re.ASCII) for text in texts):
            return self.rows()
        needles = [*(text.encode() for text in texts), *filter(None, [pattern])]
        found = re.compile(b"|".join(map(re.escape, needles))).search
        if self.source is None:  # of an input, rows that carry no id are named by their number, too
            given = [name for name in names if isinstance(name, int)]
            return self.rows(
                lambda number, record: number in names or found(bytes(record)),
                lambda block: _has_number(block, given) or _has_any(block, needles),
            )
        return self.rows(lambda _, record: found(bytes(record)), lambda block: _has_any(block, needles))

    def has_read(self, node: StreamNode, number: int) -> bool:
        """Return whether it has done a row, by its number in another node, which it reads, alone or among others."""
        if self.source is None or self.position is None:
            return False
        bases = [merge_input.base for merge_input, source in self.source.inputs if source is node]
        bases += [0] if self.source is node else []
        return any(base + number in self.position.coverage for base in bases)

    def made(self, row_id: Id) -> Id:
        """Return the source row of a row, under the scheme "numeric"."""
        marks = self.position.marks if self.position else {}
        return numeric_source(row_id, marks.get("made")) if isinstance(row_id, int) else row_id


def _has_number(block: Block, numbers: Collection[int]) -> bool:
    return any(block.start <= number < block.end for number in numbers)


def _has_any(block: Block, needles: Sequence[bytes]) -> bool:
    """Return whether a needle is in a block: to look into it as a whole takes a third of what it takes row by row."""
    try:
        data = b"\n".join(block.records)
    except TypeError:  # rows of tables
        return True
    return any(needle in data for needle in needles)


def stream_nodes_of(run_state: dict[str, Any]) -> list[StreamNode]:
    """Return the streams of a run, each behind the one that it is made from; of nodes that are settled."""
    nodes: dict[Place, StreamNode] = {}
    left_out = unsettled(run_state)
    waiting = [entry for entry in run_state["nodes"] if entry["node_id"] not in left_out]
    written = {StreamFactory.create(entry["output_uri"]).place for entry in waiting}
    until = _read_until(waiting)
    while waiting:
        entry = waiting.pop(0)
        source, output = StreamFactory.input_of(entry), StreamFactory.output_of(entry)
        if any(place in written and place not in nodes for place in source.places) and waiting:
            waiting.append(entry)  # nodes may be wired in any order
            continue
        for stream in streams_of(source):
            nodes.setdefault(
                stream.place, StreamNode("input", stream, root=root_names(entry), until=until.get(stream.place))
            )
        if isinstance(source, MergedStream) and source.place not in nodes:  # two nodes may merge the same streams
            nodes[source.place] = _merged(source, nodes)
        found = position_of(output)
        nodes[output.place] = StreamNode(
            entry["node_id"],
            output,
            nodes[source.place],
            is_numeric=entry["id_scheme"] == "numeric" or _is_numbered(source),
            is_id_stripper=is_id_stripper(entry),
            batch_size=entry["batch_size"],
            position=found[1] if found else None,
        )
    return list(nodes.values())


def _read_until(entries: Iterable[Mapping[str, Any]]) -> dict[Place, int]:
    """Return the number of the row behind the last one that was read of each input that has no end."""
    until: dict[Place, int] = {}
    for entry in entries:
        for stream in streams_of(StreamFactory.input_of(entry)):
            if stream.is_there() and stream.is_endless:
                until[stream.place] = max(until.get(stream.place, 0), done_of(StreamFactory.output_of(entry)))
    return until


def _merged(source: MergedStream, nodes: Mapping[Place, StreamNode]) -> StreamNode:
    return StreamNode(
        "", source, inputs=tuple((merge_input, nodes[merge_input.stream.place]) for merge_input in source.inputs)
    )


def _is_numbered(source: Source) -> bool:
    return isinstance(source, MergedStream) and source.naming == "numbered"
