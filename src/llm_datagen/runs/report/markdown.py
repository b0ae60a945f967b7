"""A report as a few lines of Markdown, for a pull request or a chat."""

from __future__ import annotations

from collections.abc import Iterator

from llm_datagen.errors.escape import escape_line
from llm_datagen.runs.report.model import MARK, Report
from llm_datagen.runs.report.page import figures
from llm_datagen.runs.report.text import moment
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import cut, number

_FAILURES = 5
_CHARS = 200


def markdown_of(report: Report) -> str:
    """Return a report as Markdown."""
    return "\n".join(_lines(report)) + "\n"


def _lines(report: Report) -> Iterator[str]:
    run = report.run
    yield f"<!-- {MARK}, format {report.format} -->"
    yield f"### Run {_cell(run.id)}: {_cell(run.status)}"
    yield ""
    counted = ", ".join(f"**{value}** {_cell(name)}" for value, name in figures(report))
    yield f"{counted}; started {moment(run.started_at)}"
    said = [*([f"failed: {run.error}"] if run.error else []), *([run.reason] if run.reason else []), *report.warnings]
    if said:
        yield ""
        yield from (f"- {_cell(text)}" for text in said)
    yield ""
    yield "| node | in | kept | filtered | failed | pending | out | cost |"
    yield "|---|--:|--:|--:|--:|--:|--:|--:|"
    for node in report.nodes:
        account = node.account
        cells = [
            f"{_cell(node.node_id)} {_cell(node.operator)}",
            *map(
                number,
                (account.done, account.kept, account.filtered, account.skipped + account.dead_letters),
            ),
            "?" if account.pending is None else number(account.pending),
            number(account.rows_out),
            "" if node.cost is None else dollars(node.cost),
        ]
        yield f"| {' | '.join(cells)} |"
    if report.failures:
        yield ""
        yield "| failed rows | node | of what |"
        yield "|--:|---|---|"
        for failure in report.failures[:_FAILURES]:
            what = _cell(f"{failure.kind}: {failure.message}")
            yield f"| {number(failure.count)} | {_cell(failure.node_id)} | {what} |"
        if len(report.failures) > _FAILURES:
            yield f"| … | | {len(report.failures) - _FAILURES} more causes |"
    if report.rejected:
        yield ""
        yield "| rejected rows | node | why |"
        yield "|--:|---|---|"
        for each in report.rejected[:_FAILURES]:
            yield f"| {number(each.count)} | {_cell(each.node_id)} | {_cell(each.reason)} |"
        if len(report.rejected) > _FAILURES:
            yield f"| … | | {len(report.rejected) - _FAILURES} more reasons |"
    yield ""
    yield f"<sub>{report.made_by}, {moment(report.made_at)}</sub>"


def _cell(text: str) -> str:
    """Return foreign text for a cell: one line, and none of it is markup."""
    line = escape_line(cut(str(text), _CHARS))
    return "".join(f"\\{sign}" if sign in "\\`*_{}[]<>#|~!@&" else sign for sign in line)
