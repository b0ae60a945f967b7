"""Ancestry: which rows of its source the rows of a node come from, and the other way.

Ids tell most of it (see `streams.ids`). The streams tell the rest: under the scheme "numeric", which ids a node has
made and which it has kept; and which rows were in a batch whose results are named ``first~last_k``.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Any

from llm_datagen.runs.graph import StreamNode
from llm_datagen.streams.ids import SOURCES_FIELD, Id, batch_ends, parent_of


def parents_of(node: StreamNode, source: StreamNode, names: set[Id]) -> set[Id]:
    """Return ids among which are all rows of the source that some rows of a node come from."""
    if node.is_numeric:
        return {node.made(name) for name in names}
    parents = {parent for name in names if (parent := parent_of(name)) is not None}
    batches = {ends for parent in parents for ends in batch_ends(parent)}
    found = names | parents
    if (root := source.root) is not None:
        for first, last in batches:
            begin, end = root.number(first), root.number(last)
            if begin is not None and end is not None and end - begin < node.batch_size:
                found.update(map(root.name, range(begin, end + 1)))
    elif batches:
        found.update(_between(source, batches, node.batch_size))
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


def _sources_in(item: Any) -> set[Id]:
    """Return the ids of the rows that a row says it stands for; see `Derived`."""
    named = item.get(SOURCES_FIELD) if isinstance(item, dict) else None
    return {name for name in named if isinstance(name, int | str)} if isinstance(named, list) else set()


def named_sources(node: StreamNode, names: set[Id]) -> set[Id]:
    """Return the rows of the source that some rows of a node say they stand for."""
    if node.is_id_stripper:
        return set()
    return set().union(*(_sources_in(item) for row_id, item, _ in node.rows_named(names) if row_id in names))


class Origin:
    """Which of some source rows the rows of a node come from.

    Args:
        node: the node; it has a source.
        descendants: the rows of the source, with their numbers.
    """

    def __init__(self, node: StreamNode, descendants: dict[Id, int | None]) -> None:
        self._node = node
        self.descendants = descendants
        self.with_results: set[Id] = set()
        """The source rows with results."""
        self._near: dict[Id, int] | None = None
        self._numbers: list[tuple[int, Id]] = []

    def owners(self, row_id: Id, item: Any) -> set[Id]:
        """Return the rows that a row comes from."""
        owners: set[Id] = set()
        if not self.descendants:
            return owners
        if named := _sources_in(item) & self.descendants.keys():
            owners = named
        elif self._node.is_numeric:
            owners = {self._node.made(row_id)} & self.descendants.keys()
        elif row_id in self.descendants:
            owners = {row_id}
        else:
            parent = parent_of(row_id)
            owners = {parent} & self.descendants.keys() or self._members(parent)  # type: ignore[assignment]
            while not owners and parent is not None and not self._is_source_there():
                parent = parent_of(parent)
                owners = {parent} & self.descendants.keys()  # type: ignore[assignment]
        self.with_results |= owners
        return owners

    def _is_source_there(self) -> bool:
        return self._node.source is not None and self._node.source.is_there

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
        """Return the numbers of all rows that can share a batch with the rows. No batch is longer than `size`."""
        if self._near is None:
            size, source = self._node.batch_size, self._node.source
            self._numbers = sorted(
                (number, row_id) for row_id, number in self.descendants.items() if number is not None
            )
            cells = {number // size + near for number, _ in self._numbers for near in (-1, 0, 1)}
            assert source is not None
            if source.root is not None:  # the numbers say it
                numbers = (number for cell in cells for number in range(cell * size, (cell + 1) * size))
                self._near = {source.root.name(number): number for number in numbers}
            else:
                rows = source.rows(lambda number, _: number // size in cells)
                self._near = {row_id: number for row_id, _, number in rows}
        return self._near
