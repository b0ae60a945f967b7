"""The rows of two runs, or of two versions of a run, side by side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from llm_datagen.cli.options import OnlyOption
from llm_datagen.cli.output import write_json
from llm_datagen.cli.run_view import open_run
from llm_datagen.errors import ConfigError
from llm_datagen.errors.escape import escape_line
from llm_datagen.runs.comparison import KINDS, Comparison, Kind, Pair, columns_of
from llm_datagen.runs.display.console import SafeConsole
from llm_datagen.runs.node_kinds import Entry
from llm_datagen.runs.output_node import output_of
from llm_datagen.runs.results_dir import absolute
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.runs.words import number, rows_in_words
from llm_datagen.shards.run_view import RunView
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.formats.json_values import shown

_DIFFERENT: tuple[Kind, ...] = ("changed", "a", "b")
_VALUE_LENGTH = 300
"""Characters of a value that are shown, unless all of it is asked for."""


@dataclass(frozen=True, slots=True)
class _Side:
    """A stream to be compared: the run, the node that wrote it, and the stream, with an absolute path."""

    run: str
    node: str
    stream: Stream


def compare_runs(
    results_dir: str,
    first: str,
    second: str,
    *,
    node: str | None,
    only: Sequence[OnlyOption],
    limit: int,
    offset: int,
    full: bool,
    as_json: bool,
) -> None:
    """Show the rows of two runs side by side, and how many are the same.

    Args:
        results_dir: the folder of the runs.
        first: a run, or a version: ``id@1``.
        second: another one.
        node: the node whose rows are compared, by its id, its number, or its operator's name; None: the one
            that writes the output.
        only: which rows are shown; none: those that are not the same.
        limit: how many rows are shown, at most.
        offset: how many of them are passed over.
        full: whether long values are shown in full.
        as_json: whether to print JSON.

    Raises:
        PipelineNotFoundError: when there is no such run.
        ConfigError: when there is no such node; when a run has several outputs, and no node was named; when a rerun of
            one of the runs was cut short.
        StreamError: when a stream cannot be read.
    """
    results_dir = absolute(results_dir)  # a run may be looked at from another directory
    sides = [_side(results_dir, pipeline_id, node) for pipeline_id in (first, second)]
    kinds: Sequence[Kind] = [kind for kind in KINDS if kind in only] or _DIFFERENT
    with Comparison(*(side.stream for side in sides)) as comparison:
        counts = comparison.counts()
        page = comparison.page(kinds, limit=limit, offset=offset)
        if as_json:
            runs = [
                {
                    "run": side.run,
                    "node": side.node,
                    "rows": comparison.rows[name],
                    "repeated": comparison.repeated[name],
                }
                for name, side in zip("ab", sides, strict=True)
            ]
            rows = [pair.as_dict() for pair in page]
            write_json({"a": runs[0], "b": runs[1], "counts": counts, "offset": offset, "rows": rows})
            return
        console = SafeConsole()
        for line in _head(sides, comparison, counts):
            console.print(Text(line), soft_wrap=True)
        if page:
            console.print(_table(sides, page, None if full else _VALUE_LENGTH))
        left = sum(counts[kind] for kind in kinds) - offset - len(page)
        if left > 0 and page:
            console.print(Text(f"{rows_in_words(left)} more: --offset {offset + len(page)}"), soft_wrap=True)


def _side(results_dir: str, pipeline_id: str, node: str | None) -> _Side:
    run = open_run(results_dir, pipeline_id)
    entry = output_of(run.state, node)
    if entry["node_id"] in unsettled(run.state):
        raise ConfigError(run.rerun_note)
    stream = _rows(run, entry)
    stream.anchor()
    return _Side(run.pipeline_id, entry["node_id"], stream)


def _rows(run: RunView, entry: Entry) -> Stream:
    """Return the rows that a node has written, in all shards of a run."""
    if run.whole is None:
        return StreamFactory.output_of(entry)
    run.whole.refuse_unfinished()
    return run.whole.gathered(run.state).joined(entry)


def _head(sides: Sequence[_Side], comparison: Comparison, counts: dict[Kind, int]) -> Iterator[str]:
    a, b = sides
    yield escape_line(
        f"{a.run} ({rows_in_words(comparison.rows['a'])} of {a.node}) and "
        f"{b.run} ({rows_in_words(comparison.rows['b'])} of {b.node}): "
        f"{number(counts['same'])} the same, {number(counts['changed'])} changed, "
        f"{number(counts['a'])} only in {a.run}, {number(counts['b'])} only in {b.run}"
    )
    for name, side in zip("ab", sides, strict=True):
        if comparison.repeated[name]:
            rows = rows_in_words(comparison.repeated[name])
            yield escape_line(f"* {rows} of {side.run} have an id that another one has, and were not compared")
    if any(comparison.of_ends.values()) and counts["a"] + counts["b"]:
        yield (
            "* rows that an operator gave at the end of its input (end_0, …) are numbered, not named: those that stand "
            "for the same rows (_sources), or are equal, are the same row; all others are only in one of the two"
        )
        return
    if all(comparison.rows.values()) and not counts["same"] + counts["changed"]:
        yield "* no id is in both: their steps make other rows, or name them otherwise; --node compares another node"


def _table(sides: Sequence[_Side], page: Sequence[Pair], length: int | None) -> Table:
    table = Table(box=None, pad_edge=False, show_lines=False)
    for heading in ("row", "", "column", *(side.run for side in sides)):
        table.add_column(Text(escape_line(heading)), overflow="fold")
    for pair in page:
        row_id = Text(escape_line(str(pair.id)))
        for mark, column, a, b in _lines_of(pair, length):
            style = {"≠": "yellow", "<": "red", ">": "green"}.get(mark, "dim")
            table.add_row(row_id, Text(mark, style=style), Text(column), Text(a), Text(b))
            row_id = Text("")
    return table


def _lines_of(pair: Pair, length: int | None) -> Iterator[tuple[str, str, str, str]]:
    """Yield the columns of a row: those that differ with both values, the others by their names alone."""
    a, b = (columns_of(item) if kind != pair.kind else {} for item, kind in ((pair.a, "b"), (pair.b, "a")))
    mark = {"changed": "≠", "same": "=", "a": "<", "b": ">"}[pair.kind]
    names = pair.columns if pair.kind == "changed" else tuple(dict.fromkeys([*a, *b]))
    for name in names:
        left, right = _value(a, name, length), _value(b, name, length)
        if pair.kind == "changed" and name in a and name in b and left == right:  # a text looks like what it is not
            left, right = _value(a, name, length, quoted=True), _value(b, name, length, quoted=True)
        yield mark, name, left, right if pair.kind != "same" else ""
    equal = [name for name in a if name in b and name not in names]
    if equal:
        yield "=", ", ".join(equal), "", ""


def _value(columns: dict[str, Any], name: str, length: int | None, *, quoted: bool = False) -> str:
    if name not in columns:
        return ""
    value = columns[name]
    text = value if isinstance(value, str) and not quoted else shown(value)
    return text if length is None or len(text) <= length else f"{text[:length]}… ({number(len(text))} characters)"
