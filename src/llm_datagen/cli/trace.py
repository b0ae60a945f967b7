"""What became of a row, and what it came from, through all streams of a run."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from llm_datagen.cli.call_lines import call_lines
from llm_datagen.cli.exit_codes import FAILED
from llm_datagen.cli.output import is_terminal, shown_row, write, write_json
from llm_datagen.cli.run_view import open_run
from llm_datagen.runs import RunFolder
from llm_datagen.runs.browse.family import Member, with_calls
from llm_datagen.runs.display.console import FREE_WIDTH, SafeConsole
from llm_datagen.runs.display.tables import line_width, one_line
from llm_datagen.runs.trace import Trace, trace
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.shards.run_view import RunView
from llm_datagen.streams import inputs_of
from llm_datagen.streams.ids import Id, parent_of, parse_id, root_names
from llm_datagen.streams.inputs.part import input_of_part

_WHY_NO_CALLS = ": no model was asked, or they were not kept (keep_calls; runs that an older llm-datagen made)"
_DEAD = "dead letter"
_NAME_WIDTH = 30

_ENDS = {
    "filtered": "FILTERED: nothing comes of it",
    "skipped": "SKIPPED: it failed, and was left out",
    "filtered or skipped": "FILTERED OR SKIPPED: nothing comes of it; which it was is not kept",
    "pending": "PENDING: not done yet",
    "beyond the target": "BEYOND THE TARGET: not done, as the target of the node is met",
    "cut": "CUT: what came of it was beyond the target",
    "missing": "MISSING: it is done, and should be here; verify the run",
}
"""What to show for a row without results."""


def trace_row(results_dir: str, pipeline_id: str, text: str, *, as_json: bool, calls: bool = False) -> int:
    """Show a row's ancestors, itself and its descendants, stream by stream, and return the exit code.

    Args:
        results_dir: the folder of the runs.
        pipeline_id: the run's id.
        text: the row's id, as text.
        as_json: whether to print JSON.
        calls: whether to show the model calls behind each, too.

    Raises:
        PipelineNotFoundError: when there is no such run.
        StreamError: when a stream cannot be read.
    """
    run = open_run(results_dir, pipeline_id)
    row_id = parse_id(text)
    found = [
        (number, run_state, with_calls(run_state, files, traces) if calls else [Member(each) for each in traces])
        for number, run_state, files, traces in found_in(run, row_id)
    ]
    if as_json:
        rows = [_as_dict(number, member, calls=calls) for number, _, members in found for member in members]
        data = {"pipeline_id": pipeline_id, "row_id": row_id, "found": rows, "unsettled": sorted(unsettled(run.state))}
        write_json(data)
    elif not found:
        write(f"run {pipeline_id}: there is no row {row_id!r} in any of its streams{_nearest(run, row_id)}")
    else:
        for number, run_state, members in found:
            where = f"run {pipeline_id}" if number is None else f"run {pipeline_id}, shard {number}"
            for line in (Text(f"{where}: row {row_id}"), *_lines(run_state, members)):
                if is_terminal():
                    SafeConsole().print(line, soft_wrap=True)
                else:
                    write(line.plain)
        if calls and not any(member.calls for _, _, members in found for member in members):
            write(f"  no model calls of it are kept{_WHY_NO_CALLS}")
    if run.rerun_note and not as_json:
        write(f"  {run.rerun_note}")
    return 0 if found else FAILED


def found_in(run: RunView, row_id: Id) -> Iterator[tuple[int | None, dict[str, Any], Path, list[Trace]]]:
    """Yield what is found of a row: in a run state, that of the run or of a shard, with its number and its files."""
    if run.whole is not None:
        from llm_datagen.shards.trace_whole import files_of, trace_whole

        for shard, traces in trace_whole(run.whole, row_id):
            yield shard.number, shard.state, files_of(run.whole, shard), traces
    elif traces := list(trace(run.state, row_id)):
        yield None, run.state, RunFolder(run.results_dir, run.pipeline_id).files_path, traces


def _as_dict(number: int | None, member: Member, *, calls: bool) -> dict[str, Any]:
    shard = {} if number is None else {"shard": number}
    of_row = {name: getattr(member.trace, name) for name in Trace.__slots__}
    return {**shard, **of_row, **({"calls": member.calls} if calls else {})}


def _is_known(run: RunView, row_id: Id) -> bool:
    return any(next(trace(run_state, row_id), None) is not None for _, run_state in run.parts)


def _nearest(run: RunView, row_id: Id) -> str:
    """Return a hint at the row that may be meant, or at the parent that the id names."""
    if run.whole is not None:
        from llm_datagen.shards.trace_whole import shard_to_come

        if (shard := shard_to_come(run.whole, row_id)) is not None:
            return f" yet: it belongs to shard {shard.number}, which has not begun"
    for entry in run.state["nodes"]:
        root = root_names(entry)
        if root is not None and str(root.name(0)) != "0" and str(row_id).partition("_")[0].isdecimal():
            like = f"; ids of this run begin like {root.name(0)!r}"
            meant = f"{root.name(int(str(row_id).partition('_')[0]))}{str(row_id).lstrip('0123456789')}"
            found = _is_known(run, parse_id(meant))
            return like + (f": {run.command('trace', arguments=[meant])}" if found else "")
    parent = parent_of(row_id)
    while parent is not None:
        if _is_known(run, parent):
            return f"; of row {parent!r}, whose child it would be: {run.command('trace', arguments=[str(parent)])}"
        parent = parent_of(parent)
    return ""


def _lines(run_state: dict[str, Any], members: list[Member]) -> Iterator[Text]:
    found = [member.trace for member in members]
    widths = (max(len(row.relation) for row in found), max(cell_len(_name(row)) for row in found))
    inputs = {row.uri: None for row in found if row.where == "input"}
    inputs = inputs or dict.fromkeys(map(input_of_part, inputs_of(run_state["nodes"][0]["input_uri"]).values()))
    for uri in inputs:
        rows = [each for each in members if each.trace.where == "input" and each.trace.uri == uri]
        yield from _stream("input", uri, rows, widths)
    for entry in run_state["nodes"]:
        made = [each for each in members if each.trace.where == entry["node_id"]]
        if made:
            yield from _stream(f"{entry['node_id']} {entry['operator']}", entry["output_uri"], made, widths)


def _stream(name: str, uri: str, members: list[Member], widths: tuple[int, int]) -> Iterator[Text]:
    yield Text.assemble((name, "bold"), f"  {uri}")
    for member in members:
        row = member.trace
        if row.state == _DEAD:
            error = row.item["error"]
            yield _row(row, f"DEAD LETTER: {error['kind']}: {error['text']}", widths, style="bold red", is_whole=True)
            yield _row(row, f"it was given {_text(row.item['input'])}", widths)
        elif row.state == "rejected":
            yield _row(row, f"REJECTED: {row.item['reason']}", widths, style="yellow", is_whole=True)
            yield _row(row, f"it was given {_text(row.item['input'])}", widths)
        elif row.state == "unreadable":
            yield _row(row, f"UNREADABLE: {row.item['reason']}", widths, style="yellow", is_whole=True)
        elif row.state in _ENDS:
            yield _row(row, _ENDS[row.state], widths, style="yellow")
        else:
            yield _row(row, _text(row.item), widths)
        for call in member.calls:
            yield from map(Text, call_lines(call, line_width()))


def _row(row: Trace, text: str, widths: tuple[int, int], style: str = "", *, is_whole: bool = False) -> Text:
    head = f"  {row.relation:<{widths[0]}}  {set_cell_size(_name(row), widths[1])}  "
    width = FREE_WIDTH if is_whole else line_width() - cell_len(head)  # the end of a reason says what to do
    return Text.assemble(head, (one_line(text, width), style))


def _name(row: Trace) -> str:
    return one_line(str(row.row_id), _NAME_WIDTH)


def _text(item: Any) -> str:
    return item if isinstance(item, str) else shown_row(item)
