"""Dead letters, for people: which rows failed, in which node, of what."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from llm_datagen.cli.output import shown_row, write, write_json, write_json_line
from llm_datagen.cli.run_view import open_run
from llm_datagen.errors import StreamError, StreamMissingError
from llm_datagen.runs.display.tables import line_width, one_line, rows_in_words
from llm_datagen.runs.status import Status
from llm_datagen.shards.run_view import RunView, chosen_nodes
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.ids import Id
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import position_of

_SHAPE_CHARS = 400
_VARYING = re.compile(r"""'[^'\n]*'|"[^"\n]*"|`[^`\n]*`|\d[\w.,]*""")
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]*)", line (?P<line>\d+), in .*\n(?:    (?P<code>.*)\n)?', re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class DeadLetterGroup:
    """Rows that failed in the same node of the same cause: an error of the same kind, with the same message.

    Messages are the same that differ only in numbers, ids, and what is quoted.

    Attributes:
        node_id: the node.
        operator: its operator's identity.
        kind: the kind of error.
        count: how many rows.
        text: the message of the first one; for an error without a message, where it was raised.
        row_id: its id.
        input: what the operator was given; the record as text, when it could not be parsed.
        file: where the dead letters are.
    """

    node_id: str
    operator: str
    kind: str
    count: int = 0
    text: str
    row_id: Id
    input: Any
    file: str


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
        for row in _rows(entries):
            if as_json:
                write_json_line(dumps(row))
            else:
                write(_row_line(row))
        return
    groups = sorted(_grouped(entry for _, entry in entries), key=lambda group: -group.count)
    if as_json:
        rows = sum(group.count for group in groups)
        data = {"pipeline_id": pipeline_id, "rows": rows, "groups": [asdict(group) for group in groups]}
        write_json(data)
        return
    for line in _lines(run, groups) if groups else _lines_of_none(run, [entry for _, entry in entries]):
        write(line)


def _grouped(entries: Iterable[dict[str, Any]]) -> Iterator[DeadLetterGroup]:
    by_node: dict[str, dict[tuple[str, str], DeadLetterGroup]] = {}
    for entry in entries:
        stream = StreamFactory.output_of(entry)
        groups = by_node.setdefault(entry["node_id"], {})
        for dead_letter in read_dead_letters(stream, position=committed(stream, entry) or Position()):
            kind, text = dead_letter["error"]["kind"], _reason_of(dead_letter["error"])
            cause = (kind, _shape_of(text))
            if cause not in groups and len(groups) >= _GROUPS:
                text = f"{_OTHERS} {text}"
                cause = (kind, _OTHERS)
            if cause not in groups:
                groups[cause] = DeadLetterGroup(
                    node_id=entry["node_id"],
                    operator=entry["operator"],
                    kind=kind,
                    text=text,
                    row_id=dead_letter["_i"],
                    input=dead_letter.get("raw", dead_letter.get("input")),
                    file=str(Path(stream.errors_path).absolute()),
                )
            groups[cause].count += 1
    for groups in by_node.values():
        yield from groups.values()


def _shape_of(text: str) -> str:
    """Return a message without what varies from row to row: numbers, ids, and what is quoted.

    A message that is nothing else, such as that of a KeyError, is itself.
    """
    begin = text[:_SHAPE_CHARS]
    shape = _VARYING.sub("…", begin)
    return shape if any(sign.isalpha() for sign in shape) else begin


def _reason_of(error: dict[str, Any]) -> str:
    """Return the message of an error; of one without a message, where it was raised."""
    text = str(error["text"])
    if text.strip():
        return text
    frames = list(_FRAME.finditer(str(error.get("trace", ""))))
    if not frames:
        return "(no message)"
    last = frames[-1]
    code = f": {last['code'].strip()}" if last["code"] else ""
    return f"(no message) at {last['file']}, line {last['line']}{code}"


def _rows(entries: Iterable[tuple[int | None, dict[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield each dead letter as data, one at a time: no more than one is in memory."""
    for shard, entry in entries:
        stream = StreamFactory.output_of(entry)
        source = StreamFactory.input_of(entry)
        for dead_letter in read_dead_letters(stream, position=committed(stream, entry) or Position()):
            where = ""
            with contextlib.suppress(OSError, StreamError):  # missing or unreadable; the row is known all the same
                where = source.line_place(dead_letter["source"][1])
            yield {
                **({} if shard is None else {"shard": shard}),
                "node_id": entry["node_id"],
                "row_id": dead_letter["_i"],
                "where": where,
                "kind": dead_letter["error"]["kind"],
                "text": _reason_of(dead_letter["error"]),
                "input": dead_letter.get("raw", dead_letter.get("input")),
            }


def _row_line(row: dict[str, Any]) -> str:
    where = f" ({row['where']})" if row["where"] else ""
    reason = one_line(f"{row['kind']}: {row['text']}", _REASON_CHARS)
    shard = f"shard {row['shard']}: " if "shard" in row else ""
    return f"{shard}{row['node_id']} row {row['row_id']}{where}: {reason}"


_REASON_CHARS = 2000
_GROUPS = 200
"""Causes per node that are listed one by one."""

_OTHERS = "(and other messages)"


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


def committed(stream: Stream, entry: dict[str, Any]) -> Position | None:
    """Return the position of the stream that a node of a run state writes; None when it has not begun.

    Raises:
        StreamMissingError: when it has begun, and nothing of it is to be found.
    """
    found = position_of(stream) or position_of(stream)  # a stream that is sealed between two looks has both
    if found is None and entry.get("rows_in") and not stream.exists() and not stream.is_in_memory:
        raise StreamMissingError(
            f"{stream.path}, which {entry['node_id']} has written, is not there; relative paths count from the "
            "directory in which the run was started: go there, or restore the file"
        )
    return found[1] if found else None


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
