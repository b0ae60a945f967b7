"""A preview: some rows go through the nodes of a pipeline, by the engine, in a folder of its own.

Nothing of the pipeline is touched: its outputs, its results folder and its ids are not looked at; its inputs are read.
The nodes run one after the other, each with at most so many rows, so that a preview of nodes that make many rows out of
one stays as small as one of nodes that do not. What operators do outside their rows, they do for real.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_datagen.errors import ConfigError, NodeFailedError, OperatorWarning
from llm_datagen.pipeline.fan_out import Selector
from llm_datagen.pipeline.node_entries import node_of_entry
from llm_datagen.runs.id_stripper import IdStripper
from llm_datagen.runs.node_kinds import is_id_stripper
from llm_datagen.runs.status import NodeReport, Status
from llm_datagen.streams import MergedStream, Place, Stream, StreamFactory
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.formats.csv import CsvCodec
from llm_datagen.streams.formats.jsonl import JsonlCodec
from llm_datagen.streams.formats.unreadable import explained
from llm_datagen.streams.ids import ID_FIELD, NUMERIC_WIDTH, Id, RootNames, parent_of, root_names
from llm_datagen.streams.rows import as_row, named
from llm_datagen.streams.scan import blocks_of, rows_of
from llm_datagen.streams.source import streams_of

_BLOCK_ROWS = 4096

ENDLESS_COUNT = 1000
"""So many rows are taken for all of an input that has no end."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Some rows of an input.

    Attributes:
        rows: id and item of each, in the order of the input.
        unreadable: the chosen records that are no rows: why not, by their numbers.
        count: how many rows the input has; None when they were not counted.
    """

    rows: Sequence[tuple[Id, Any]]
    unreadable: Mapping[int, str] = field(default_factory=dict)
    count: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePreview:
    """A node, and what it did with some rows.

    Attributes:
        entry: the node, as the run state has it.
        operator: its operator.
        given: id and item of each row that it got.
        made: id and item of each row that came out.
        failed: the dead letters of the rows that failed.
        waiting: rows that were there for it and that it did not get, because they are too many for a preview.
        report: counts and times.
        state: what of the operator changed between calls: names of its data, such as "attribute seen".
    """

    entry: Mapping[str, Any]
    operator: Any
    given: Sequence[tuple[Id, Any]]
    made: Sequence[tuple[Id, Any]]
    failed: Sequence[Mapping[str, Any]]
    waiting: int
    report: NodeReport
    state: Sequence[str] = ()

    @property
    def node_id(self) -> str:
        """The node's id."""
        return str(self.entry["node_id"])

    def made_of(self) -> dict[Id, list[Any]] | None:
        """Return the items that came of each given row, by its id; None when they are made of batches as a whole."""
        found: dict[Id, list[Any]] = {row_id: [] for row_id, _ in self.given}
        for row_id, item in self.made:
            numeric = row_id // NUMERIC_WIDTH if isinstance(row_id, int) else None
            source = next((one for one in (row_id, parent_of(row_id), numeric) if one in found), None)
            if source is None:
                return None
            found[source].append(item)
        return found


@dataclass(frozen=True, slots=True)
class _Known:
    """The rows of a stream that are known.

    Attributes:
        rows: id and item of each.
        each: for how many rows of the run each of them stands.
    """

    rows: Sequence[tuple[Id, Any]]
    each: float

    @property
    def count(self) -> float:
        """How many rows the run will have there."""
        return len(self.rows) * self.each


def sources_of(entry: Mapping[str, Any]) -> list[Stream]:
    """Return the streams that a node of a run state reads: its input, or all that it merges."""
    return streams_of(StreamFactory.input_of(entry))


def external_inputs(run_state: Mapping[str, Any]) -> list[tuple[Stream, RootNames | None]]:
    """Return the streams that no node of a run state writes, each with how its rows are named, if they are."""
    written = {_place(entry["output_uri"]) for entry in run_state["nodes"]}
    read = ((stream, entry) for entry in run_state["nodes"] for stream in sources_of(entry))
    found = {stream.place: (stream, root_names(entry)) for stream, entry in read if stream.place not in written}
    return list(found.values())


def run_preview(
    run_state: Mapping[str, Any], operators: Sequence[Any], samples: Mapping[Place, Sample], *, rows: int, folder: Path
) -> Iterator[NodePreview]:
    """Run the nodes one after the other, and yield each when it has ended.

    A row that fails is left out, whatever the node's policy is, and no call is made again by the engine.

    Args:
        run_state: the nodes.
        operators: theirs.
        samples: the rows to begin with, by the place of the stream that `external_inputs` returns.
        rows: how many rows a node gets at most; those that only pass rows on from one stream get all.
        folder: where the streams of the preview go, an empty folder.

    Raises:
        NodeFailedError: when something else than a row fails, such as `setup`; or an operator stops the run.
        KeyboardInterrupt: after Ctrl+C.
    """
    known = {
        place: _Known(sample.rows, 1.0 if not (sample.count and sample.rows) else sample.count / len(sample.rows))
        for place, sample in samples.items()
    }
    for number, (entry, operator) in enumerate(zip(run_state["nodes"], operators, strict=True)):
        there = [known[stream.place] for stream in sources_of(entry)]
        given = _given(entry, there, rows, is_passed_on=isinstance(operator, Selector | IdStripper))
        waiting = sum(len(one.rows) for one in there) - len(given)
        stage = _run_node(entry, operator, given, waiting, folder / str(number))
        each = sum(one.count for one in there) / len(given) if given else 1.0
        known[_place(entry["output_uri"])] = _Known(stage.made, each)
        yield stage


def _given(entry: Mapping[str, Any], there: Sequence[_Known], most: int, *, is_passed_on: bool) -> list[tuple[Id, Any]]:
    """Return the rows that a node gets, under the ids that they have there."""
    stream = StreamFactory.input_of(entry)
    if not isinstance(stream, MergedStream):
        return list(there[0].rows if is_passed_on else _spread(there[0].rows, most))
    # Of each input as large a share as it has of the rows of the run; of none nothing.
    scale = min(most / max(sum(one.count for one in there), 1.0), 1 / max(one.each for one in there))
    return [
        (merge_input.named(row_id), item)
        for merge_input, one in zip(stream.inputs, there, strict=True)
        for row_id, item in _spread(one.rows, max(1, math.floor(one.count * scale + 1e-9)))
    ]


def _run_node(
    entry: Mapping[str, Any], operator: Any, given: Sequence[tuple[Id, Any]], waiting: int, base: Path
) -> NodePreview:
    source = base.with_suffix(".in.jsonl")
    encode = JsonlCodec().encoder(b"").encode_other
    source.write_bytes(b"".join(encode(as_row(item, row_id)) + b"\n" for row_id, item in given))
    # What goes through CSV comes back as text: the next node must see it as in the run.
    is_csv = isinstance(getattr(StreamFactory.output_of(entry), "codec", None), CsvCodec)
    previewed = {
        **entry,
        "input_uri": f"jsonl://{source}",
        "output_uri": f"csv://{base}.csv" if is_csv else f"jsonl://{base}.jsonl",
        "is_root": False,  # the rows carry the ids that they have in the run
        "source_column": None,  # and where they come from, if they do
        "follow_input": False,
        "idle_timeout": None,
        "ordered": True,
        "on_error": "dead_letter",
        "max_errors": None,
        "retries": 0,
        "delivery": "exactly_once",
        "target": None,
    }
    node = node_of_entry(previewed, operator, log_file=None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OperatorWarning)  # whoever looks at the preview is told by it
        report = node.run()
    if report.status is not Status.COMPLETED:
        raise NodeFailedError(f"{entry['node_id']} ended before its rows were done: {report.reason}", entry["node_id"])
    made = [(row_id, item) for row_id, item, _ in rows_of(node.output)]
    failed = list(read_dead_letters(node.output))
    if is_id_stripper(entry):  # these have no ids
        lost = {dead_letter["_i"] for dead_letter in failed}
        ids = (row_id for row_id, _ in given if row_id not in lost)
        made = [(row_id, _without_id(item)) for row_id, (_, item) in zip(ids, made, strict=True)]
    return NodePreview(
        entry=entry,
        operator=operator,
        given=given,
        made=made,
        failed=failed,
        waiting=waiting,
        report=node.progress,
        state=report.own_state.get(node.node_id, ()),
    )


def _without_id(item: Any) -> Any:
    return {name: value for name, value in item.items() if name != ID_FIELD} if isinstance(item, dict) else item


def _spread(rows: Sequence[tuple[Id, Any]], most: int) -> Sequence[tuple[Id, Any]]:
    """Return at most so many rows, evenly spaced: the children of one row stand together."""
    if len(rows) <= most:
        return rows
    return [rows[at * len(rows) // most] for at in range(most)]


def first_rows(stream: Stream, count: int, *, root: RootNames | None) -> Sample:
    """Return the first rows of a stream."""
    first, _ = stream.begins_at
    return _taken(_chosen(stream, range(first, first + count)), root=root)


def rows_at(stream: Stream, numbers: Sequence[int], *, root: RootNames | None) -> Sample:
    """Return the rows of some numbers, from 0.

    Raises:
        ConfigError: when the stream has no such row.
    """
    chosen = dict(_chosen(stream, sorted(set(numbers))))
    missing = [number for number in numbers if number not in chosen]
    if missing:
        raise ConfigError(f"{stream.path} has no row {missing[0]}; its rows are numbered from {stream.begins_at[0]}")
    return _taken(iter(chosen.items()), root=root)


def random_rows(stream: Stream, count: int, *, seed: int, root: RootNames | None) -> Sample:
    """Return rows that are drawn from the whole stream, each with the same chance, and count the stream.

    The stream is read once, as a whole; only rows that are drawn are decoded. One without an end counts as if it had
    `ENDLESS_COUNT` rows.
    """
    dice = random.Random(seed)
    kept: list[tuple[int, tuple[bytes, Any]]] = []
    total = 0
    cursor = stream.cursor(follow=False)
    try:
        for block in blocks_of(cursor, ENDLESS_COUNT if stream.is_endless else None):
            for number, record in enumerate(block.records, start=block.start):
                total += 1
                if len(kept) < count:
                    kept.append((number, (record, block.decode)))
                elif (place := int(dice.random() * total)) < count:
                    kept[place] = (number, (record, block.decode))
    finally:
        cursor.close()
    return _taken(iter(sorted(kept, key=lambda entry: entry[0])), root=root, count=total)


def _chosen(stream: Stream, numbers: Sequence[int]) -> Iterator[tuple[int, tuple[bytes, Any]]]:
    """Yield the records of some numbers, which are in order, undecoded, each with its decoder."""
    wanted = iter(numbers)
    following = next(wanted, None)
    cursor = stream.cursor(follow=False)
    try:
        while following is not None and (block := cursor.read(_BLOCK_ROWS)) is not None:
            while following is not None and following < block.end:
                if following >= block.start:  # a part of an input does not begin at 0
                    yield following, (block.records[following - block.start], block.decode)
                following = next(wanted, None)
    finally:
        cursor.close()


def _taken(
    records: Iterator[tuple[int, tuple[bytes, Any]]], *, root: RootNames | None, count: int | None = None
) -> Sample:
    rows: list[tuple[Id, Any]] = []
    unreadable: dict[int, str] = {}
    for number, (record, decode) in records:
        try:
            rows.append(named(decode(record), number, root))
        except ValueError as error:
            unreadable[number] = str(explained(error, record))
    return Sample(rows, unreadable, count)


def _place(uri: str) -> Place:
    return StreamFactory.create(uri).place
