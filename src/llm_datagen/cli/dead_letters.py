"""Dead letters, for people: which rows failed, in which node, of what."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from llm_datagen.cli.output import shown_row, write, write_json, write_json_line
from llm_datagen.cli.run_view import open_run
from llm_datagen.errors import ConfigError
from llm_datagen.runs.browse.failures import DeadLetterGroup, committed, each_failure, failure_groups
from llm_datagen.runs.browse.reasons import reasons_of
from llm_datagen.runs.chosen_nodes import chosen_nodes
from llm_datagen.runs.display.tables import line_width, one_line
from llm_datagen.runs.status import Status
from llm_datagen.runs.words import rows_in_words
from llm_datagen.shards.run_view import RunView
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.formats.json_text import dumps


def show_errors(results_dir: str, pipeline_id: str, *, node: str | None, as_json: bool, as_rows: bool = False) -> None:
    """Show the dead letters of a run, grouped or each by itself.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: the run's id.
        node: a node, as `chosen_nodes` takes it; None for all.
        as_json: whether to print JSON; of rows, an object per line.
        as_rows: whether to show each row, one after the other.

    Raises:
        ConfigError: when there is no such node.
        PipelineNotFoundError: when there is no such run.
        StreamError: when its dead letters cannot be read.
    """
    run = open_run(results_dir, pipeline_id)
    chosen = {entry["node_id"] for entry in chosen_nodes(run.state, node)}
    entries = [(shard, entry) for shard, state in run.parts for entry in state["nodes"] if entry["node_id"] in chosen]
    if as_rows:
        for row in each_failure(entries):
            if as_json:
                write_json_line(dumps(row))
            else:
                write(_row_line(row))
        return
    groups = failure_groups(entry for _, entry in entries)
    if as_json:
        rows = sum(group.count for group in groups)
        data = {"pipeline_id": pipeline_id, "rows": rows, "groups": [_as_dict(group) for group in groups]}
        write_json(data)
        return
    for line in _lines(run, groups) if groups else _lines_of_none(run, [entry for _, entry in entries]):
        write(line)


def show_rejected(
    results_dir: str, pipeline_id: str, *, node: str | None, as_json: bool, as_rows: bool = False
) -> None:
    """Show how many rows of a run were rejected, and for which reason. See `show_errors`.

    Raises:
        ConfigError: also when each row is asked for: they are in files.
    """
    if as_rows:
        raise ConfigError("--each is for rows that failed; rejected rows are lines of OUTPUT.rejected.jsonl")
    run = open_run(results_dir, pipeline_id)
    chosen = {entry["node_id"] for entry in chosen_nodes(run.state, node)}
    reasons = reasons_of(entry for _, state in run.parts for entry in state["nodes"] if entry["node_id"] in chosen)
    rows = sum(each.count for each in reasons)
    if as_json:
        write_json({"pipeline_id": pipeline_id, "rows": rows, "reasons": [asdict(each) for each in reasons]})
        return
    write(f"run {pipeline_id}: {rows_in_words(rows)} rejected")
    for each in reasons:
        first = "" if each.row_id is None else f" (the first: row {each.row_id})"
        write(one_line(f"{each.node_id}: {rows_in_words(each.count)}: {each.reason}{first}", _REASON_CHARS))


def _as_dict(group: DeadLetterGroup) -> dict[str, Any]:
    """Return a group as plain data, without its traceback: that is in the file."""
    return {name: value for name, value in asdict(group).items() if name != "trace"}


def _row_line(row: dict[str, Any]) -> str:
    where = f" ({row['where']})" if row["where"] else ""
    reason = one_line(f"{row['kind']}: {row['text']}", _REASON_CHARS)
    shard = f"shard {row['shard']}: " if "shard" in row else ""
    return f"{shard}{row['node_id']} row {row['row_id']}{where}: {reason}"


_REASON_CHARS = 2000


def _lines(run: RunView, groups: list[DeadLetterGroup]) -> Iterator[str]:
    yield f"run {run.pipeline_id}: {rows_in_words(sum(group.count for group in groups))} dead-lettered"
    for group in groups:
        given = group.input if isinstance(group.input, str) else shown_row(group.input)
        yield f"{group.node_id} {group.operator}: {one_line(group.kind, 60)}, {rows_in_words(group.count)}"
        yield "  first    " + one_line(group.text, _REASON_CHARS)  # its end says what to do
        yield _foreign("  example  ", f"row {group.row_id}: {given}")
        yield f"  file     {group.file}"
    yield f"each row: {run.command('errors', options=['--each'])}"
    yield f"when the cause is mended, try them again: {run.command('replay')}"
    accepting = run.command("replay", options=["--accept-changes"])
    yield f"when an operator was edited for that: {accepting} (rows that are done stay)"


def _foreign(head: str, text: str) -> str:
    return head + one_line(text, line_width() - len(head))


def _lines_of_none(run: RunView, entries: list[dict[str, Any]]) -> Iterator[str]:
    yield f"run {run.pipeline_id}: no dead letters"
    skipped = sum(entry.get("skipped", 0) for entry in entries)
    if skipped:
        yield f"  {rows_in_words(skipped)} skipped (on_error: skip); of these, nothing is kept"
    if run.status == Status.FAILED:
        yield _foreign("  it failed: ", str(run.state.get("error")))
        if run.state.get("failed_row"):
            yield _foreign("  at ", run.state["failed_row"])
        may_fail = any(entry.get("kept") or entry.get("filtered") for entry in entries)  # else perhaps all rows do
        leave_out = run.command("resume", options=["--on-error", "dead_letter"])
        yield (
            f"  to continue, and dead-letter rows that fail: {leave_out}"
            if may_fail
            else f"  to continue, once the cause is fixed: {run.command('resume')}"
        )


def dead_rows(run: RunView) -> dict[str, int]:
    """Return how many rows are dead-lettered now, for each node of a run that has any, by its label."""
    counts: dict[str, int] = {}
    for _, run_state in run.parts:
        for entry in run_state["nodes"]:
            position = committed(StreamFactory.output_of(entry), entry)
            if position is not None and position.dead:
                label = f"{entry['node_id']} {entry['operator']}"
                counts[label] = counts.get(label, 0) + position.dead
    return counts
