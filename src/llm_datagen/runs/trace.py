"""Trace: what a row comes from, and what became of it: what `llm-datagen trace` says.

Ids say most of it (see `ids`). What they do not say is in the streams: under the scheme "numeric", which ids a node
has made and which it has kept; which rows were in a batch whose results are named ``first~last_k``; and which rows are
done though nothing came of them.

Streams are read from their beginning to their end, some of them twice or three times. Memory is for the rows that are
found, and their batches, not for the streams.
"""

from __future__ import annotations

import contextlib
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.errors import IdError
from llm_datagen.runs.graph import StreamNode, stream_nodes_of
from llm_datagen.streams import Stream
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.ids import Id, batch_ends, parent_of
from llm_datagen.streams.position import Position


@dataclass(frozen=True, slots=True)
class Trace:
    """A row that has to do with the one that was asked for, at one place.

    Attributes:
        where: "input", or a node's id.
        uri: the stream that it is in, or that its results were to go to.
        row_id: its id.
        relation: "ancestor", "itself" or "descendant".
        state: "row": it is in the stream of `where`. Else it is in the source of that node, and nothing came of it:
            "dead letter", "filtered", "skipped", "filtered or skipped" (the node did both, and which it was is not
            written down), "pending" (not done yet), or "missing" (it should have been kept: see `audit`).
        item: its content; None when nothing came of it, but for dead letters: what was given, and the error.
    """

    where: str
    uri: str
    row_id: Id
    relation: str
    state: str
    item: Any = field(repr=False)


def trace(run_state: dict[str, Any], row_id: Id) -> Iterator[Trace]:
    """Yield a row's ancestors, itself and its descendants, through every stream of a run in order, and where they end.

    Nothing comes when the row is in no stream of the run. Under the scheme "numeric", rows of different streams can
    have the same id; then the kin of all of them come.

    Args:
        run_state: the run state.
        row_id: an id from any of its streams.

    Raises:
        StreamError: when a stream cannot be read.
    """
    family = _Family(stream_nodes_of(run_state), row_id)
    if family.is_known():
        yield from family.members()


class _Family:
    """The kin of a row.

    Args:
        steps: the streams of the run.
        asked: the row's id.
    """

    def __init__(self, steps: list[StreamNode], asked: Id) -> None:
        self._steps = steps
        self._asked = asked
        self._holders = [step for step in steps if self._holds(step)]
        self._ancestors: dict[StreamNode, set[Id]] = {step: set() for step in steps}
        self._heirs: dict[StreamNode, dict[Id, int | None]] = {step: {} for step in steps}
        """Of each step, the row itself and its descendants, with their numbers."""
        for holder in self._holders:
            self._climb(holder, {asked})
        self._buriers = [step for step in steps if step.source and self._is_buried(step)]
        for step in self._buriers:
            if step.source is not None and step.source.inputs:  # only there has it this name
                self._climb(step.source, {asked})

    def is_known(self) -> bool:
        """Return whether any stream, or dead letter, has the row."""
        return bool(self._holders or self._buriers)

    def _is_buried(self, step: StreamNode) -> bool:
        return isinstance(step.stream, Stream) and any(
            dead_letter["_i"] == self._asked for dead_letter in read_dead_letters(step.stream)
        )

    def _holds(self, step: StreamNode) -> bool:
        may_hold = not step.inputs and not step.is_export
        return may_hold and any(row_id == self._asked for row_id, _, _ in step.rows_named({self._asked}))

    # Up.

    def _climb(self, step: StreamNode, names: set[Id]) -> None:
        above: list[tuple[StreamNode, set[Id]]] = []
        if step.source is not None:
            above = [(step.source, _parents(step, step.source, names))]
        for merge_input, source in step.inputs:
            originals = (merge_input.original(name) for name in names)
            above.append((source, {name for name in originals if name is not None}))
        for source, found in above:
            if found:
                self._ancestors[source] |= found
                self._climb(source, found)

    # Down.

    def members(self) -> Iterator[Trace]:
        """Yield all kin, and where they end."""
        for step in self._steps:
            if step.inputs:
                self._heirs[step] = _named_heirs(step, self._heirs)
                continue
            origin = _Origin(step, self._heirs[step.source]) if step.source else None
            if step.is_export and step.source and origin:
                yield from self._copies(step, step.source, origin)
                continue
            if step.source and not step.is_there:
                # Who is not there any more (memory://), or yet, has handed on its names.
                self._heirs[step] = dict.fromkeys(self._heirs[step.source])
            names = {self._asked, *self._ancestors[step]}
            # Descendants have the name of the row in their own, or that of a batch.
            for row_id, item, number in step.rows_named(names, pattern=b"~"):
                owners = origin.owners(row_id) if origin else set()
                relation = self._relation(step, row_id, is_heir=bool(owners))
                if relation in {"itself", "descendant"}:
                    self._heirs[step][row_id] = number
                if relation:
                    yield Trace(step.where, step.stream.uri, row_id, relation, "row", item)
            if origin is not None and step.source is not None:
                yield from self._dead_letters(step, step.source, origin)
                yield from self._ends(step, origin)

    def _relation(self, step: StreamNode, row_id: Id, *, is_heir: bool) -> str:
        if row_id == self._asked:
            return "itself"
        if row_id in self._ancestors[step]:
            return "ancestor"
        return "descendant" if is_heir else ""

    def _dead_letters(self, step: StreamNode, source: StreamNode, origin: _Origin) -> Iterator[Trace]:
        output = step.stream
        assert isinstance(output, Stream)
        for dead_letter in read_dead_letters(output):
            row_id = dead_letter["_i"]
            relation = self._relation(source, row_id, is_heir=row_id in self._heirs[source])
            if relation:
                origin.fruitful.add(row_id)
                item = {"input": dead_letter.get("input", dead_letter.get("raw")), "error": dead_letter["error"]}
                yield Trace(step.where, output.errors_path, row_id, relation, "dead letter", item)

    def _copies(self, step: StreamNode, source: StreamNode, origin: _Origin) -> Iterator[Trace]:
        """Say what became of rows that are copied without their ids: what is done and no dead letter is there."""
        yield from self._dead_letters(step, source, origin)
        if step.has_gone:
            return
        for row_id, item, number in source.rows_named(set(origin.heirs)):
            if row_id in origin.heirs and row_id not in origin.fruitful:
                relation = self._relation(step, row_id, is_heir=True)
                state = _end(step.position, number).replace("missing", "row").replace("skipped", "row or skipped")
                yield Trace(step.where, step.stream.uri, row_id, relation, state, item if state == "row" else None)

    def _ends(self, step: StreamNode, origin: _Origin) -> Iterator[Trace]:
        """Say of which rows nothing came, and why."""
        if step.has_gone:
            return
        for row_id, number in origin.heirs.items():
            if number is not None and row_id not in origin.fruitful:
                relation = "itself" if row_id == self._asked else "descendant"
                yield Trace(step.where, step.stream.uri, row_id, relation, _end(step.position, number), None)


def _named_heirs(step: StreamNode, heirs: Mapping[StreamNode, Mapping[Id, int | None]]) -> dict[Id, int | None]:
    """Return the heirs in several streams under the names and numbers that they have where these are read as one."""
    named: dict[Id, int | None] = {}
    for merge_input, source in step.inputs:
        for row_id, number in heirs[source].items():
            with contextlib.suppress(IdError):
                named[merge_input.named(row_id)] = None if number is None else number + merge_input.base
    return named


def _end(position: Position | None, number: int) -> str:
    if position is None or number not in position.coverage:
        return "pending"
    ends = [name for name, count in (("filtered", position.filtered), ("skipped", position.skipped)) if count]
    return " or ".join(ends) or "missing"


def _parents(step: StreamNode, source: StreamNode, names: set[Id]) -> set[Id]:
    """Return ids among which are all rows of the source that some rows of a step come from."""
    if step.is_numeric:
        return {step.made(name) for name in names}
    parents = {parent for name in names if (parent := parent_of(name)) is not None}
    batches = {ends for parent in parents for ends in batch_ends(parent)}
    found = names | parents
    if (root := source.root) is not None:
        for first, last in batches:
            begin, end = root.number(first), root.number(last)
            if begin is not None and end is not None and end - begin < step.batch_size:
                found.update(map(root.name, range(begin, end + 1)))
    elif batches:
        found.update(_between(source, batches, step.batch_size))
    return found


def _between(source: StreamNode, batches: set[tuple[Id, Id]], batch_size: int) -> Iterator[Id]:
    """Yield the rows from the first to the last of some batches."""
    begun: dict[tuple[Id, Id], list[Id]] = {}
    for row_id, _, _ in source.rows():
        begun.update({ends: [] for ends in batches if ends[0] == row_id})
        for ends, rows in list(begun.items()):
            rows.append(row_id)
            if ends[1] == row_id:
                yield from rows
            if ends[1] == row_id or len(rows) >= batch_size:
                del begun[ends]


class _Origin:
    """Which of some source rows the rows of a step come from.

    Args:
        step: the step; it has a source.
        heirs: the rows of the source, with their numbers.
    """

    def __init__(self, step: StreamNode, heirs: dict[Id, int | None]) -> None:
        self._step = step
        self.heirs = heirs
        self.fruitful: set[Id] = set()
        """Those of which something came."""
        self._near: dict[Id, int] | None = None
        self._numbers: list[tuple[int, Id]] = []

    def owners(self, row_id: Id) -> set[Id]:
        """Return the rows that a row comes from."""
        owners: set[Id] = set()
        if not self.heirs:
            return owners
        if self._step.is_numeric:
            owners = {self._step.made(row_id)} & self.heirs.keys()
        elif row_id in self.heirs:
            owners = {row_id}
        else:
            parent = parent_of(row_id)
            owners = {parent} & self.heirs.keys() or self._members(parent)  # type: ignore[assignment]
            while not owners and parent is not None and not self._is_source_there():
                parent = parent_of(parent)
                owners = {parent} & self.heirs.keys()  # type: ignore[assignment]
        self.fruitful |= owners
        return owners

    def _is_source_there(self) -> bool:
        return self._step.source is not None and self._step.source.is_there

    def _members(self, name: Id | None) -> set[Id]:
        """Return the rows that are of a batch."""
        for first, last in batch_ends(name):
            near = self._neighbours()
            if first in near and last in near:
                begin = bisect_left(self._numbers, near[first], key=lambda pair: pair[0])
                end = bisect_left(self._numbers, near[last] + 1, key=lambda pair: pair[0])
                return {row_id for _, row_id in self._numbers[begin:end]}
        return set()

    def _neighbours(self) -> dict[Id, int]:
        """Return the numbers of all rows that a batch can have in common with the rows. None is longer than `size`."""
        if self._near is None:
            size, source = self._step.batch_size, self._step.source
            self._numbers = sorted((number, row_id) for row_id, number in self.heirs.items() if number is not None)
            cells = {number // size + near for number, _ in self._numbers for near in (-1, 0, 1)}
            assert source is not None
            rows = source.rows(lambda number, _: number // size in cells)
            self._near = {row_id: number for row_id, _, number in rows}
        return self._near
