"""Verify a run in shards as one run: each shard, that together they are the input, and that the outputs are theirs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from llm_datagen.errors import StreamError
from llm_datagen.runs.account import FINDINGS_SHOWN, NodeAccount
from llm_datagen.runs.output_node import output_of
from llm_datagen.runs.status import Status
from llm_datagen.runs.verify import verify
from llm_datagen.shards.gathered import gathered_outputs
from llm_datagen.shards.shard_seen import Shard
from llm_datagen.shards.spec import SPEC, ShardSpec, shards_folder
from llm_datagen.shards.whole import Whole, readers_of_input
from llm_datagen.streams import MergedStream, Stream, StreamFactory
from llm_datagen.streams.ids import Id, root_names
from llm_datagen.streams.inputs.part import PartStream
from llm_datagen.streams.inputs.planned_input import changed_since
from llm_datagen.streams.recovery import last_position
from llm_datagen.streams.scan import rows_of

_SUMS = ("covered", "filtered", "rejected", "skipped", "dead", "rows_out", "beyond_target", "cut_rows")


@dataclass(slots=True)
class WholeAccount:
    """What became of the source rows of all shards.

    Attributes:
        nodes: the account of each node over all shards; what is wrong in one of them is said with its number.
        findings: what is wrong with the whole: its plan, its outputs and exports.
    """

    nodes: list[NodeAccount]
    findings: list[str] = field(default_factory=list)


def verify_whole(whole: Whole) -> WholeAccount:
    """Recount a run in shards from its files, checksums and all. Memory: about 250 bytes per row of one shard.

    Of rows that brought their own ids, about 100 bytes per row of the whole.

    Args:
        whole: the run.
    """
    entries = whole.saved["nodes"]
    found = WholeAccount([NodeAccount(node_id=entry["node_id"], rows_in=0, kept=0, complete=True) for entry in entries])
    readers = readers_of_input(entries)
    for shard in whole.shards:
        _add(found.nodes, readers, shard)
    if not whole.shards:
        for account in found.nodes:
            account.rows_in, account.complete = None, False
    try:
        found.findings += _of_plan(whole)
        if whole.is_done:
            found.findings += _ids_twice(whole)
        if whole.is_done and whole.saved["status"] == Status.COMPLETED:
            found.findings += whole.gathered(dict(whole.saved)).findings()
    except StreamError as error:
        found.findings.append(str(error))
    return found


def _add(accounts: list[NodeAccount], readers: set[str], shard: Shard) -> None:
    """Add what became of the rows of a shard."""
    of_shard = {account.node_id: account for account in verify(shard.state)} if shard.state else {}
    for account in accounts:
        one = of_shard.get(account.node_id)
        if one is None:  # it has not begun
            rows = shard.range.rows if account.node_id in readers else 0
            account.rows_in = None if account.rows_in is None else account.rows_in + rows
            account.complete = False
            continue
        for name in _SUMS:
            setattr(account, name, getattr(account, name) + getattr(one, name))
        account.rows_in = None if account.rows_in is None or one.rows_in is None else account.rows_in + one.rows_in
        account.kept = None if account.kept is None or one.kept is None else account.kept + one.kept
        account.complete = account.complete and one.complete
        account.unneeded = account.unneeded or one.unneeded
        account.unsettled = account.unsettled or one.unsettled
        texts = [*one.findings, *(_beyond(shard, one) if account.node_id in readers else ())]
        for text in texts:
            account.find(f"shard {shard.number}: {text}")


def _beyond(shard: Shard, account: NodeAccount) -> Iterator[str]:
    """Yield what is wrong with which rows of the input a shard has done: those of its range, and no others."""
    entry = next(entry for entry in shard.state["nodes"] if entry["node_id"] == account.node_id)
    output, source = StreamFactory.output_of(entry), StreamFactory.input_of(entry)
    covered = last_position(output).coverage
    parts = source.parts(covered) if isinstance(source, MergedStream) else [(source, covered)]
    first, last = shard.range.first.row, shard.range.last.row
    for done in [done for stream, done in parts if isinstance(stream, PartStream)]:
        outside = [span for span in done if span.start < first or span.end > last]
        for span in outside:
            yield (
                f"{output.path} covers rows {span.start} to {span.end} of the input, and its range is {first} to {last}"
            )
        if account.complete and not outside and done.rows != last - first:
            yield f"{output.path} is sealed, and covers {done.rows} of the {last - first} rows of its range"


def _of_plan(whole: Whole) -> Iterator[str]:
    """Yield what is wrong with the input of the plan. A plan whose ranges have a gap or overlap cannot be read."""
    if whole.plan is None:
        return
    shards = shards_folder(whole.folder)
    if ShardSpec.load(shards) is None and any(shard.state for shard in whole.shards):
        yield f"{shards.place_of(SPEC)} is gone, which says what shards do; restore the file"
    entry = next(entry for entry in whole.saved["nodes"] if entry["node_id"] in readers_of_input(whole.saved["nodes"]))
    source = StreamFactory.input_of({**entry, "input_uri": whole.plan.input_uri, "input_fingerprint": None})
    if isinstance(source, Stream) and (what := changed_since(source, whole.plan.fingerprint)) is not None:
        yield f"{source.uri} {what}: it was changed since its shards were planned"


def _ids_twice(whole: Whole) -> Iterator[str]:
    """Yield ids of outputs that are in two shards; ids that come of the numbers of rows cannot be."""
    state = whole.saved
    readers = readers_of_input(state["nodes"])
    if all(root_names(entry) is not None for entry in state["nodes"] if entry["node_id"] in readers):
        return
    gathered = whole.gathered(dict(state))
    entries = [entry for entry in gathered_outputs(state) or [dict(output_of(state))] if "id_column" not in entry]
    for entry in entries:
        seen: dict[Id, int] = {}
        shown = 0
        for part in gathered.parts(entry):
            for row_id, _, _ in rows_of(part.stream, strict=False):
                other = seen.setdefault(row_id, part.number)
                if other != part.number and shown < FINDINGS_SHOWN:
                    shown += 1
                    yield f"{entry['node_id']}: the id {row_id!r} is in shard {other} and in shard {part.number}"
