"""What became of the rows of each node, by the commits and the seals of its streams; no row is read.

So it is quick, however long the streams are: `runs.verify` reads every row, and compares checksums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from llm_datagen.errors import DatagenError
from llm_datagen.runs.report.model import RowAccount
from llm_datagen.runs.status import SETTLED
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.streams import Place, Stream, StreamFactory
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import position_of
from llm_datagen.streams.source import streams_of
from llm_datagen.streams.target_mark import TargetMark


def accounts_of(run_states: Iterable[Mapping[str, Any]], *, is_live: bool) -> dict[str, RowAccount]:
    """Return the account of each node, over all shards of a run.

    Args:
        run_states: its run state; or those of its shards that have begun.
        is_live: whether rows are still being written: then files that are read one after the other may differ.
    """
    found: dict[str, list[RowAccount]] = {}
    for run_state in run_states:
        left_out = unsettled(run_state)
        entries = [entry for entry in run_state["nodes"] if entry["node_id"] not in left_out]
        positions = {stream.place: position for stream, position in map(_looked_at, entries)}
        for entry in entries:
            found.setdefault(entry["node_id"], []).append(_of_node(entry, positions, is_live=is_live))
    return {node_id: each[0] if len(each) == 1 else _added_up(each) for node_id, each in found.items()}


def counts_of_state(entry: Mapping[str, Any]) -> RowAccount:
    """Return what the run state says of a node, of which no file can say more."""
    done, filtered = entry.get("rows_in", 0), entry.get("filtered", 0)
    skipped, dead = entry.get("skipped", 0), entry.get("dead_letters", 0)
    total = entry.get("total") if entry.get("total_is_exact") else None
    return RowAccount(
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
) -> RowAccount:
    stream = StreamFactory.output_of(entry)
    position = positions[stream.place]
    if not isinstance(position, Position):
        state = counts_of_state(entry)
        findings = [str(position)] if position is not None else _why_nothing(stream, entry)
        return _with(state, findings)
    source_rows = _source_rows(entry, positions)
    done = position.coverage.rows
    account = RowAccount(
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
    return account if is_live else _with(account, _findings(account, entry, stream, position))


def _source_rows(entry: Mapping[str, Any], positions: Mapping[Place, Position | DatagenError | None]) -> int | None:
    """Return how many rows the source of a node has now: those that nodes have written, or those that were counted."""
    found = [positions.get(stream.place) for stream in streams_of(StreamFactory.input_of(entry))]
    if found and all(isinstance(position, Position) for position in found):
        return sum(position.rows for position in found if isinstance(position, Position))
    return entry.get("total") if entry.get("total_is_exact") else None


def _findings(account: RowAccount, entry: Mapping[str, Any], stream: Stream, position: Position) -> list[str]:
    """Return what does not fit together."""
    found = []
    if account.kept < 0:
        found.append(f"{account.done} source rows are done, and more than these were filtered, or failed")
    size = stream.size()
    if size is None and position.bytes and not stream.is_in_memory:
        found.append(f"{stream.shown} is gone, though rows of it were committed")
    elif size is not None and size < position.bytes:
        found.append(f"{stream.shown} has {size} bytes, and {position.bytes} were committed")
    is_met = TargetMark.of(position.marks).rows is not None
    if account.pending is not None and (account.pending < 0 or (account.is_sealed and account.pending and not is_met)):
        found.append(
            f"{stream.shown} is {'sealed' if account.is_sealed else 'open'}, its source has {account.source_rows} "
            f"rows, and {account.done} of them are done"
        )
    if entry.get("status") in SETTLED:
        pairs = {"rows_in": account.done, "rows_out": account.rows_out, "filtered": account.filtered}
        pairs |= {"skipped": account.skipped, "dead_letters": account.dead_letters}
        found += [
            f"the run state says {name} {entry.get(name)}, and {stream.shown} says {here}"
            for name, here in pairs.items()
            if entry.get(name) != here
        ]
    elif entry.get("rows_in", 0) > account.done:
        found.append(f"the run state says rows_in {entry['rows_in']}, and {stream.shown} only {account.done}")
    return found


def _why_nothing(stream: Stream, entry: Mapping[str, Any]) -> list[str]:
    has_begun = bool(entry.get("rows_in"))
    if not has_begun or stream.is_in_memory:
        return []
    if stream.is_sealed():
        return [f"{stream.done_path} is not the seal of a node: nothing accounts for the rows"]
    return [f"{stream.shown} is gone, with its commits and its seal, and {entry['rows_in']} source rows were done"]


def _with(account: RowAccount, findings: Sequence[str]) -> RowAccount:
    return replace(account, findings=tuple(findings))


def _added_up(each: Sequence[RowAccount]) -> RowAccount:
    sources = [account.source_rows for account in each]
    pending = [account.pending for account in each]
    return RowAccount(
        source_rows=None if None in sources else sum(rows or 0 for rows in sources),
        done=sum(account.done for account in each),
        kept=sum(account.kept for account in each),
        filtered=sum(account.filtered for account in each),
        rejected=sum(account.rejected for account in each),
        skipped=sum(account.skipped for account in each),
        dead_letters=sum(account.dead_letters for account in each),
        pending=None if None in pending else sum(rows or 0 for rows in pending),
        rows_out=sum(account.rows_out for account in each),
        is_sealed=all(account.is_sealed for account in each),
        is_known=all(account.is_known for account in each),
        findings=tuple(text for account in each for text in account.findings),
    )
