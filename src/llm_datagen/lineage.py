"""Lineage: which rows of a run are kin to a row: what `llm-datagen trace` says.

Ids say most of it (see `ids`). What they do not say is in the streams: under the scheme "numeric", which ids a node
has made and which it has kept; and which rows were in a batch whose results are named ``first~last_k``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from llm_datagen.ids import NUMERIC_WIDTH, Id
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.letters import position_of, read_letters
from llm_datagen.streams.rows import item_of


@dataclass(frozen=True, slots=True)
class Trace:
    """A row that has to do with the one that was asked for.

    Attributes:
        where: "input", or a node's id.
        uri: the stream that it is in.
        row_id: its id.
        relation: "ancestor", "itself" or "descendant".
        state: "row", or "dead letter".
        item: its content.
    """

    where: str
    uri: str
    row_id: Id
    relation: str
    state: str
    item: Any = field(repr=False)


def trace(image: dict[str, Any], row_id: Id) -> Iterator[Trace]:
    """Yield a row's ancestors, itself and its descendants, through every stream of a run in order.

    Under the scheme "numeric", rows of different streams can have the same id; then the kin of all of them come.

    Args:
        image: the run's image.
        row_id: an id from any of its streams.
    """
    steps = _steps(image)
    is_numeric = image["nodes"][0]["id_scheme"] == "numeric"
    kin = _NumericKin(steps, row_id) if is_numeric else _PathKin(steps, row_id)
    for number, step in enumerate(steps):
        for found_id, item, _ in step.rows():
            relation = kin.relation(number, found_id)
            if relation:
                yield Trace(step.where, step.stream.uri, found_id, relation, "row", item)
        if step.source is None:
            continue
        for letter in read_letters(step.stream):
            relation = kin.relation(step.source, letter["_i"])
            if relation:
                item = {"input": letter.get("input", letter.get("raw")), "error": letter["error"]}
                yield Trace(step.where, step.stream.errors_path, letter["_i"], relation, "dead letter", item)


@dataclass(frozen=True, slots=True)
class _Step:
    """A stream of a run.

    Attributes:
        where: "input", or the id of the node that writes it.
        stream: the stream.
        source: the number of the step that it is made from; None for an input.
        is_root: whether its rows are named by their number.
    """

    where: str
    stream: Stream
    source: int | None
    is_root: bool

    def rows(self, containing: bytes = b"") -> Iterator[tuple[Id, Any, int]]:
        """Yield id, item and number of the rows whose record contains some bytes."""
        if self.stream.disk.size(self.stream.path) is None:
            return
        for row_id, item, number in rows_of(self.stream, strict=False, containing=containing):
            yield (number if self.is_root else row_id), item, number


def _steps(image: dict[str, Any]) -> list[_Step]:
    """Return the streams of a run, each behind the one that it is made from."""
    steps: list[_Step] = []
    numbers: dict[tuple[str, str], int] = {}
    written = {StreamFactory.create(entry["output_uri"]).place for entry in image["nodes"]}
    for entry in image["nodes"]:
        source, output = StreamFactory.create(entry["input_uri"]), StreamFactory.create(entry["output_uri"])
        if source.place not in written and source.place not in numbers:
            numbers[source.place] = len(steps)
            steps.append(_Step("input", source, None, entry["is_root"]))
        numbers[output.place] = len(steps)
        steps.append(_Step(entry["node_id"], output, numbers[source.place], is_root=False))
    return steps


class _PathKin:
    """Who is kin to a row under the scheme "path": names say it; of rows made of a whole batch, the batch does."""

    def __init__(self, steps: list[_Step], asked: Id) -> None:
        self._batches: dict[str, frozenset[Id]] = {}
        for step in steps:
            if step.source is not None:
                self._learn_batches(step, steps[step.source])
        self._asked = asked
        self._ancestors = set(self._lineage(asked))

    def _learn_batches(self, step: _Step, source: _Step) -> None:
        """Find out of which rows of the source ``first~last`` were made."""
        made = {str(parent_of(row_id)) for row_id, _, _ in step.rows(containing=b"~")} - self._batches.keys()
        made = {name for name in made if "~" in name}
        if not made:
            return
        ids = [row_id for row_id, _, _ in source.rows()]
        number = {row_id: at for at, row_id in enumerate(ids)}
        for name in made:
            parts = name.split("~")
            for middle in range(1, len(parts)):  # the batch's rows may be of batches themselves
                first, last = _id_of("~".join(parts[:middle])), _id_of("~".join(parts[middle:]))
                if first in number and last in number:
                    members = ids[number[first] : number[last] + 1]
                    above = [ancestor for member in members for ancestor in self._lineage(member)]
                    self._batches[name] = frozenset(members).union(above)

    def _lineage(self, row_id: Id) -> Iterator[Id]:
        parent = parent_of(row_id)
        while parent is not None:
            if isinstance(parent, str) and parent in self._batches:
                yield from self._batches[parent]
                return
            yield parent
            parent = parent_of(parent)

    def relation(self, step: int, found: Id) -> str:
        """Return what `found` is to the row: "ancestor", "itself", "descendant", or nothing."""
        if found == self._asked:
            return "itself"
        if found in self._ancestors:
            return "ancestor"
        return "descendant" if self._asked in self._lineage(found) else ""


class _NumericKin:
    """Who is kin to a row under the scheme "numeric": which ids a node has made, its commit log or seal says."""

    def __init__(self, steps: list[_Step], asked: Id) -> None:
        self._sources = [step.source for step in steps]
        self._made: list[list[int] | None] = []
        self._asked = asked
        self._ancestors: set[tuple[int, Id]] = set()
        self._holders: set[int] = set()
        for number, step in enumerate(steps):
            found = position_of(step.stream) if step.source is not None else None
            self._made.append(found[1].marks.get("made") if found else None)
            wanted = b"" if step.is_root else str(asked).encode()
            if any(row_id == asked for row_id, _, _ in step.rows(containing=wanted)):
                self._holders.add(number)
                self._ancestors.update(self._lineage(number, asked))

    def _lineage(self, step: int, row_id: Id) -> Iterator[tuple[int, Id]]:
        while (source := self._sources[step]) is not None and isinstance(row_id, int):
            row_id = numeric_source(row_id, self._made[step])
            step = source
            yield step, row_id

    def relation(self, step: int, found: Id) -> str:
        """Return what `found`, of a step, is to the row: "ancestor", "itself", "descendant", or nothing."""
        if found == self._asked:
            return "itself"
        if (step, found) in self._ancestors:
            return "ancestor"
        lineage = self._lineage(step, found)
        return "descendant" if any(i == self._asked and s in self._holders for s, i in lineage) else ""


def related(found: Id, asked: Id, *, numeric: bool = False) -> str:
    """Return what `found` is to `asked`: "ancestor", "itself", "descendant", or nothing."""
    if found == asked:
        return "itself"
    if asked in _lineage(found, numeric=numeric) or _is_in_batch(asked, found):
        return "descendant"
    if found in _lineage(asked, numeric=numeric) or _is_in_batch(found, asked):
        return "ancestor"
    return ""


def _lineage(row_id: Id, *, numeric: bool) -> Iterator[Id]:
    """Yield the ids that `row_id` may come from, by its form."""
    parent = parent_of(row_id, numeric=numeric)
    while parent is not None and parent != row_id:
        yield parent
        row_id, parent = parent, parent_of(parent, numeric=numeric)


def _is_in_batch(member: Id, made: Id) -> bool:
    """Return whether `made` (``first~last_k…``) was made of a batch of root rows that `member` is of."""
    if not isinstance(member, int) or not isinstance(made, str) or "~" not in made:
        return False
    first, _, rest = made.partition("~")
    last = rest.partition("_")[0]
    return first.isdigit() and last.isdigit() and int(first) <= member <= int(last)


def parent_of(row_id: Id, *, numeric: bool = False) -> Id | None:
    """Return the id of the row that `row_id` is a child of, if it is one, by its form; see `ids`."""
    if numeric and isinstance(row_id, int):
        return row_id // NUMERIC_WIDTH
    if not isinstance(row_id, str) or "_" not in row_id:
        return None
    return _id_of(row_id.rpartition("_")[0])


def _id_of(text: str) -> Id:
    return int(text) if text.isdigit() else text


def numeric_source(row_id: int, made: list[int] | None) -> int:
    """Return the source row of a row under the scheme "numeric", given the range of ids that its node has made."""
    return row_id // NUMERIC_WIDTH if made is not None and made[0] <= row_id <= made[1] else row_id


def rows_of(
    stream: Stream, *, decode: bool = True, strict: bool = True, containing: bytes = b""
) -> Iterator[tuple[Id, Any, int]]:
    """Yield id, item and number of each row that may be read now.

    Args:
        stream: the stream.
        decode: False yields numbers only.
        strict: False takes what is no row as text.
        containing: records without these bytes are passed over.
    """
    cursor = stream.cursor(follow=False)
    try:
        while (block := cursor.read(4096)) is not None:
            for number, record in enumerate(block.records, start=block.start):
                if not decode:
                    yield number, None, number
                    continue
                if containing not in record:
                    continue
                try:
                    row_id, item = item_of(block.decode(record), number)
                except ValueError as error:
                    if strict:
                        raise stream.row_error(error, block.offset_after(number - block.start)) from error
                    row_id, item = number, record.decode("utf-8", "backslashreplace")
                yield row_id, item, number
    finally:
        cursor.close()
