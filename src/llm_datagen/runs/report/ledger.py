"""What became of the rows of each node, by the commits and the seals of its streams; no row is read.

So it is quick, however long the streams are: `runs.verify` reads every row, and compares checksums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.errors import DatagenError
from llm_datagen.runs.report.model import Ledger
from llm_datagen.runs.status import SETTLED
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.streams import Place, Stream, StreamFactory
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.source import streams_of
from llm_datagen.streams.target_mark import TargetMark


def ledgers_of(run_states: Iterable[Mapping[str, Any]], *, is_live: bool) -> dict[str, Ledger]:
    """Return the ledger of each node, over all shards of a run.

    Args:
        run_states: its run state; or those of its shards that have begun.
        is_live: whether rows are still being written: then files that are read one after the other may differ.
    """
    found: dict[str, list[Ledger]] = {}
    for run_state in run_states:
        left_out = unsettled(run_state)
        entries = [entry for entry in run_state["nodes"] if entry["node_id"] not in left_out]
        positions = {stream.place: position for stream, position in map(_looked_at, entries)}
        for entry in entries:
            found.setdefault(entry["node_id"], []).append(_of_node(entry, positions, is_live=is_live))
    return {node_id: each[0] if len(each) == 1 else _added_up(each) for node_id, each in found.items()}


def counts_of_state(entry: Mapping[str, Any]) -> Ledger:
    """Return what the run state says of a node, of which no file can say more."""
    done, filtered = entry.get("rows_in", 0), entry.get("filtered", 0)
    skipped, dead = entry.get("skipped", 0), entry.get("dead_letters", 0)
    total = entry.get("total") if entry.get("total_is_exact") else None
    return Ledger(
        source_rows=total,
        done=done,
        kept=done - filtered - skipped - dead,
        filtered=filtered,
        rejected=entry.get("rejected", 0),
        skipped=skipped,
        dead_letters=dead,
        pending=None if total is None else total - done,
        rows_out=entry.get("rows_out", 0),
        is_sealed=False,
        is_known=False,
        findings=(),
    )


def _looked_at(entry: Mapping[str, Any]) -> tuple[Stream, Position | DatagenError | None]:
    stream = StreamFactory.output_of(entry)
    try:
        found = position_of(stream) or position_of(stream)  # a stream that is sealed between two looks has both
    except DatagenError as error:
        return stream, error
    return stream, None if found is None else found[1]


def _of_node(
    entry: Mapping[str, Any], positions: Mapping[Place, Position | DatagenError | None], *, is_live: bool
) -> Ledger:
    stream = StreamFactory.output_of(entry)
    position = positions[stream.place]
    if not isinstance(position, Position):
        state = counts_of_state(entry)
        findings = [str(position)] if position is not None else _why_nothing(stream, entry)
        return _with(state, findings)
    source_rows = _source_rows(entry, positions)
    done = position.coverage.rows
    ledger = Ledger(
        source_rows=source_rows,
        done=done,
        kept=done - position.filtered - position.skipped - position.dead,
        filtered=position.filtered,
        rejected=position.rejected,
        skipped=position.skipped,
        dead_letters=position.dead,
        pending=None if source_rows is None else source_rows - done,
        rows_out=position.rows,
        is_sealed=stream.is_sealed(),
        is_known=True,
        findings=(),
    )
    return ledger if is_live else _with(ledger, _findings(ledger, entry, stream, position))


def _source_rows(entry: Mapping[str, Any], positions: Mapping[Place, Position | DatagenError | None]) -> int | None:
    """Return how many rows the source of a node has now: those that nodes have written, or those that were counted."""
    found = [positions.get(stream.place) for stream in streams_of(StreamFactory.input_of(entry))]
    if found and all(isinstance(position, Position) for position in found):
        return sum(position.rows for position in found if isinstance(position, Position))
    return entry.get("total") if entry.get("total_is_exact") else None


def _findings(ledger: Ledger, entry: Mapping[str, Any], stream: Stream, position: Position) -> list[str]:
    """Return what does not fit together."""
    found = []
    if ledger.kept < 0:
        found.append(f"{ledger.done} source rows are done, and more than these were filtered, or failed")
    size = stream.size()
    if size is None and position.bytes and not stream.is_in_memory:
        found.append(f"{stream.shown} is gone, though rows of it were committed")
    elif size is not None and size < position.bytes:
        found.append(f"{stream.shown} has {size} bytes, and {position.bytes} were committed")
    is_met = TargetMark.of(position.marks).rows is not None
    if ledger.pending is not None and (ledger.pending < 0 or (ledger.is_sealed and ledger.pending and not is_met)):
        found.append(
            f"{stream.shown} is {'sealed' if ledger.is_sealed else 'open'}, its source has {ledger.source_rows} "
            f"rows, and {ledger.done} of them are done"
        )
    if entry.get("status") in SETTLED:
        pairs = {"rows_in": ledger.done, "rows_out": ledger.rows_out, "filtered": ledger.filtered}
        pairs |= {"skipped": ledger.skipped, "dead_letters": ledger.dead_letters}
        found += [
            f"the run state says {name} {entry.get(name)}, and {stream.shown} says {here}"
            for name, here in pairs.items()
            if entry.get(name) != here
        ]
    elif entry.get("rows_in", 0) > ledger.done:
        found.append(f"the run state says rows_in {entry['rows_in']}, and {stream.shown} only {ledger.done}")
    return found


def _why_nothing(stream: Stream, entry: Mapping[str, Any]) -> list[str]:
    has_begun = bool(entry.get("rows_in"))
    if not has_begun or stream.is_in_memory:
        return []
    if stream.is_sealed():
        return [f"{stream.done_path} is not the seal of a node: nothing accounts for the rows"]
    return [f"{stream.shown} is gone, with its commits and its seal, and {entry['rows_in']} source rows were done"]


def _with(ledger: Ledger, findings: Sequence[str]) -> Ledger:
    return replace(ledger, findings=tuple(findings))


def _added_up(each: Sequence[Ledger]) -> Ledger:
    sources = [ledger.source_rows for ledger in each]
    pending = [ledger.pending for ledger in each]
    return Ledger(
        source_rows=None if None in sources else sum(rows or 0 for rows in sources),
        done=sum(ledger.done for ledger in each),
        kept=sum(ledger.kept for ledger in each),
        filtered=sum(ledger.filtered for ledger in each),
        rejected=sum(ledger.rejected for ledger in each),
        skipped=sum(ledger.skipped for ledger in each),
        dead_letters=sum(ledger.dead_letters for ledger in each),
        pending=None if None in pending else sum(rows or 0 for rows in pending),
        rows_out=sum(ledger.rows_out for ledger in each),
        is_sealed=all(ledger.is_sealed for ledger in each),
        is_known=all(ledger.is_known for ledger in each),
        findings=tuple(text for ledger in each for text in ledger.findings),
    )
