"""Trace: where a row comes from, and what became of it. `llm-datagen trace` shows it.

`ancestry` says of one node which rows a row comes from. Here a row is followed through all nodes of a run, and to
where it ended without results.

Streams are read from beginning to end, some of them twice or three times: rows may be in any order. Blocks in which no
id stands that matters are passed over as a whole. Memory is for the rows that are found and their batches.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import IdError, StreamChangedError
from llm_datagen.runs.ancestry import Origin, named_sources, parents_of
from llm_datagen.runs.graph import StreamNode, stream_nodes_of
from llm_datagen.runs.sharded import refuse_whole
from llm_datagen.streams import Stream
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.ids import Id
from llm_datagen.streams.position import Position
from llm_datagen.streams.rejected import read_rejected
from llm_datagen.streams.target_mark import TargetMark


@dataclass(frozen=True, slots=True)
class Trace:
    """A row that is related to the one that was asked for, at one place.

    Attributes:
        where: "input", or a node's id.
        uri: the stream that it is in, or that its results were to go to.
        row_id: its id.
        relation: "ancestor", "itself" or "descendant".
        state: "row": it is in the stream of `where`. Else it is in the source of that node, and has no results there:
            "dead letter", "rejected" (filtered, and kept with the reason), "filtered", "skipped", "filtered or skipped"
            (the node did both, and which it was is not written down), "pending" (not done yet), "beyond the target"
            (not done, as the target of the node was met), "cut" (its results were beyond the target: those of
            batches), or "missing" (it should be in the output: see `verify`). Or it was a row of the input, and is
            "unreadable" now: a file of a folder or pattern is gone, or was changed.
        item: its content; None if it has no results; for a dead letter, its input and the error; for a rejected row,
            its input and the reason; for an unreadable one, the reason.
    """

    where: str
    uri: str
    row_id: Id
    relation: str
    state: str
    item: Any = field(repr=False)


def trace(run_state: dict[str, Any], row_id: Id) -> Iterator[Trace]:
    """Yield a row's ancestors, itself and its descendants, through every stream of a run in order, and where they end.

    Yields nothing when the row is in no stream of the run. Under the scheme "numeric", rows of different streams can
    have the same id; then the relatives of all of them are yielded.

    Args:
        run_state: the run state.
        row_id: an id from any of its streams.

    Raises:
        StreamError: when a stream cannot be read; of a lost file of an input, only if nothing else has the row.
        ConfigError: when the run is in shards.
    """
    refuse_whole(run_state, "llm_datagen.shards.trace_whole.trace_whole")
    nodes = stream_nodes_of(run_state)
    relatives = _Relatives(nodes, row_id)
    if relatives.is_known():
        yield from relatives.members()
    else:
        _check_inputs(nodes)


def _check_inputs(nodes: list[StreamNode]) -> None:
    """Refuse to say that there is no row when rows of an input cannot be looked up."""
    for node in nodes:
        if lost := node.lost:
            raise StreamChangedError(f"{node.stream.path}: {lost}, so rows cannot be looked up; restore what was there")


class _Relatives:
    """The ancestors and descendants of a row.

    Args:
        nodes: the streams of the run.
        asked: the row's id.
    """

    def __init__(self, nodes: list[StreamNode], asked: Id) -> None:
        self._nodes = nodes
        self._asked = asked
        self._holders = [node for node in nodes if self._holds(node)]
        self._ancestors: dict[StreamNode, set[Id]] = {node: set() for node in nodes}
        self._descendants: dict[StreamNode, dict[Id, int | None]] = {node: {} for node in nodes}
        """Of each node, the row itself and its descendants, with their numbers."""
        for holder in self._holders:
            self._climb(holder, {asked})
        self._with_dead_letter = [node for node in nodes if node.source and self._has_dead_letter(node)]
        for node in self._with_dead_letter:
            if node.source is not None and node.source.inputs:  # only there has it this name
                self._climb(node.source, {asked})

    def is_known(self) -> bool:
        """Return whether any stream, or dead letter, has the row."""
        return bool(self._holders or self._with_dead_letter)

    def _has_dead_letter(self, node: StreamNode) -> bool:
        return isinstance(node.stream, Stream) and any(
            dead_letter["_i"] == self._asked for dead_letter in read_dead_letters(node.stream)
        )

    def _holds(self, node: StreamNode) -> bool:
        may_hold = not node.inputs and not node.is_id_stripper
        if not may_hold:
            return False
        is_there = any(row_id == self._asked for row_id, _, _ in node.rows_named({self._asked}))
        return is_there or bool(self._unreadable(node, {self._asked}))

    def _unreadable(self, node: StreamNode, names: set[Id]) -> dict[Id, int]:
        """Return which of some rows of an input, that were not found in it, were read before; with their numbers."""
        numbers = {name: number for name in names if node.root and (number := node.root.number(name)) is not None}
        read = {name: at for name, at in numbers.items() if any(each.has_read(node, at) for each in self._nodes)}
        return read if read and node.lost else {}

    # Up.

    def _climb(self, node: StreamNode, names: set[Id]) -> None:
        above: list[tuple[StreamNode, set[Id]]] = []
        if node.source is not None:
            above = [(node.source, parents_of(node, node.source, names) | named_sources(node, names))]
        for merge_input, source in node.inputs:
            originals = (merge_input.original(name) for name in names)
            above.append((source, {name for name in originals if name is not None}))
        for source, found in above:
            if found:
                self._ancestors[source] |= found
                self._climb(source, found)

    # Down.

    def members(self) -> Iterator[Trace]:
        """Yield all relatives, and where they end."""
        for node in self._nodes:
            if node.inputs:
                self._descendants[node] = _renamed_descendants(node, self._descendants)
                continue
            origin = Origin(node, self._descendants[node.source]) if node.source else None
            if node.is_id_stripper and node.source and origin:
                yield from self._copies(node, node.source, origin)
                continue
            if node.source and not node.is_there:
                # A stream that is gone (memory://), or not there yet, has passed on its names.
                self._descendants[node] = dict.fromkeys(self._descendants[node.source])
            names = {self._asked, *self._ancestors[node]}
            found: set[Id] = set()
            # Descendants have the name of the row in their own, or that of a batch.
            for row_id, item, number in node.rows_named(names, pattern=b"~"):
                owners = origin.owners(row_id, item) if origin else set()
                relation = self._relation(node, row_id, is_descendant=bool(owners))
                if relation in {"itself", "descendant"}:
                    self._descendants[node][row_id] = number
                if relation:
                    found.add(row_id)
                    yield Trace(node.where, node.stream.uri, row_id, relation, "row", item)
            if node.source is None:
                yield from self._lost(node, names - found)
            if origin is not None and node.source is not None:
                yield from self._dead_letters(node, node.source, origin)
                yield from self._rejected(node, node.source, origin)
                yield from self._ends(node, origin)

    def _lost(self, node: StreamNode, names: set[Id]) -> Iterator[Trace]:
        """Yield rows of an input that cannot be looked up."""
        for row_id, number in sorted(self._unreadable(node, names).items(), key=lambda pair: pair[1]):
            relation = self._relation(node, row_id, is_descendant=False)
            if relation == "itself":
                self._descendants[node][row_id] = number
            yield Trace(node.where, node.stream.uri, row_id, relation, "unreadable", {"reason": node.lost})

    def _relation(self, node: StreamNode, row_id: Id, *, is_descendant: bool) -> str:
        if row_id == self._asked:
            return "itself"
        if row_id in self._ancestors[node]:
            return "ancestor"
        return "descendant" if is_descendant else ""

    def _dead_letters(self, node: StreamNode, source: StreamNode, origin: Origin) -> Iterator[Trace]:
        output = node.stream
        assert isinstance(output, Stream)
        for dead_letter in read_dead_letters(output):
            row_id = dead_letter["_i"]
            relation = self._relation(source, row_id, is_descendant=row_id in self._descendants[source])
            if relation:
                origin.with_results.add(row_id)
                item = {"input": dead_letter.get("input", dead_letter.get("raw")), "error": dead_letter["error"]}
                yield Trace(node.where, output.errors_path, row_id, relation, "dead letter", item)

    def _rejected(self, node: StreamNode, source: StreamNode, origin: Origin) -> Iterator[Trace]:
        output = node.stream
        assert isinstance(output, Stream)
        for rejected in read_rejected(output):
            row_id = rejected["_i"]
            relation = self._relation(source, row_id, is_descendant=row_id in self._descendants[source])
            if relation:
                origin.with_results.add(row_id)
                item = {"input": rejected["item"], "reason": rejected["reason"]}
                yield Trace(node.where, output.rejected_path, row_id, relation, "rejected", item)

    def _copies(self, node: StreamNode, source: StreamNode, origin: Origin) -> Iterator[Trace]:
        """Yield the fates of rows that are copied without ids: done, unless dead-lettered."""
        yield from self._dead_letters(node, source, origin)
        if node.has_gone:
            return
        for row_id, item, number in source.rows_named(set(origin.descendants)):
            if row_id in origin.descendants and row_id not in origin.with_results:
                relation = self._relation(node, row_id, is_descendant=True)
                state = _end(node.position, number).replace("missing", "row").replace("skipped", "row or skipped")
                yield Trace(node.where, node.stream.uri, row_id, relation, state, item if state == "row" else None)

    def _ends(self, node: StreamNode, origin: Origin) -> Iterator[Trace]:
        """Yield the rows without results, and why."""
        if node.has_gone:
            return
        for row_id, number in origin.descendants.items():
            if number is not None and row_id not in origin.with_results:
                relation = "itself" if row_id == self._asked else "descendant"
                yield Trace(
                    node.where,
                    node.stream.uri,
                    row_id,
                    relation,
                    _end(node.position, number),
                    None,
                )


def _renamed_descendants(
    node: StreamNode, descendants: Mapping[StreamNode, Mapping[Id, int | None]]
) -> dict[Id, int | None]:
    """Return descendants in several streams by their names and numbers in the merged stream."""
    named: dict[Id, int | None] = {}
    for merge_input, source in node.inputs:
        for row_id, number in descendants[source].items():
            with contextlib.suppress(IdError):
                named[merge_input.named(row_id)] = None if number is None else number + merge_input.base
    return named


def _end(position: Position | None, number: int) -> str:
    target = TargetMark.of(position.marks if position else None)
    if position is None or number not in position.coverage:
        return "pending" if target.rows is None else "beyond the target"
    counts = (("filtered", position.filtered), ("skipped", position.skipped), ("cut", target.cut))
    ends = [name for name, count in counts if count]
    return " or ".join(ends) or "missing"
