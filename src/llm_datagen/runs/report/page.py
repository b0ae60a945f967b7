"""A report as one HTML page: no script, and nothing that is fetched."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from llm_datagen.runs.output_node import RowsOut
from llm_datagen.runs.report.counts import account_section, rejected_section, time_section
from llm_datagen.runs.report.drawing import draw_graph
from llm_datagen.runs.report.fragments import badge, box, paragraph, section
from llm_datagen.runs.report.model import MARK, Report
from llm_datagen.runs.report.money import cost_section, timeline_section
from llm_datagen.runs.report.origins import failures_section, samples_section
from llm_datagen.runs.report.text import html_text, moment
from llm_datagen.runs.report.what_ran import settings_section, streams_section, what_ran_section
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import duration, number

_SLACK_SECONDS = 2.0
"""So much longer than its last execution a run may have gone on without a resume: it was being prepared."""

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page_of(report: Report) -> str:
    """Return a report as an HTML page."""
    return "\n".join([*_head(report), "<main>", *_sections(report), "</main>", *_foot(report), ""])


def figures(report: Report) -> list[tuple[str, str]]:
    """Return the figures that come first, each with what it is."""
    totals, run = report.totals, report.run
    found = [(number(totals[name]), name.replace("_", " ")) for name in ("rows_in", "rows_out", "filtered", "failed")]
    found[1] = (found[1][0], found[1][1] + RowsOut(totals["outputs"], list(totals["outputs"])).which)
    if totals["cost"] is not None:
        found.append((dollars(totals["cost"]), "cost"))
    if totals["tokens"]:
        found.append((number(totals["tokens"]), "tokens"))
    if run.seconds is not None:
        is_resumed = bool(report.timeline) and report.timeline[-1][0] > run.seconds + _SLACK_SECONDS
        found.append((duration(run.seconds), "time of the last execution" if is_resumed else "time"))
    return found


def _head(report: Report) -> Iterator[str]:
    run = report.run
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    yield "<!doctype html>"
    yield f'<html lang="en"><head><meta charset="utf-8"><!-- {MARK}, format {report.format} -->'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">'
    yield f"<title>Run {html_text(run.id)}: {html_text(run.status)}</title><style>\n{style}</style></head><body>"
    yield f"<header><div><h1><small>llm-datagen run</small>{html_text(run.id)} {badge(run.status)}</h1>"
    yield paragraph(_when(report), "soft")
    shown = ((html_text(value), html_text(name)) for value, name in figures(report))
    tiles = (f'<div class="tile"><b>{value}</b><span>{name}</span></div>' for value, name in shown)
    yield f'<div class="tiles">{"".join(tiles)}</div></div></header>'


def _when(report: Report) -> str:
    run = report.run
    if run.started_at is None:
        return f"created {moment(run.created_at)}, never started"
    began = f"started {moment(run.started_at)}"
    if run.is_live:
        return f"{began}, {'paused' if run.is_paused else 'still running'} when this report was made"
    if run.ended_at is None:
        return f"{began}, last heard of {moment(run.updated_at)}"
    return f"{began}, ended {moment(run.ended_at)}"


def _sections(report: Report) -> Iterator[str]:
    yield from _attention(report)
    graph = draw_graph(report.nodes, report.streams)
    yield section("How it is wired", f'<div class="scroll graph" tabindex="0">{graph}</div>')
    yield section("What became of each row", account_section(report))
    yield section("Over time", timeline_section(report))
    yield section("What it cost", cost_section(report))
    yield section("Where the time went", time_section(report))
    yield section("Rows that failed", failures_section(report))
    yield section("Rows that were rejected", rejected_section(report))
    yield section("Some rows, and where they come from", samples_section(report))
    yield section("What ran", what_ran_section(report), streams_section(report), settings_section(report))
    yield section("Not in this report", *map(paragraph, report.left_out))


def _attention(report: Report) -> Iterator[str]:
    run = report.run
    if run.error:
        yield box("It failed:", [run.error, *([f"at {run.failed_row}"] if run.failed_row else [])], "failed")
    if run.reason:
        yield box(f"It was {run.status}:", [run.reason])
    if run.note:
        yield box("To know:", [run.note])
    yield box("To look at:", report.warnings)


def _foot(report: Report) -> Iterator[str]:
    yield f"<footer>Made {html_text(moment(report.made_at))} by {html_text(report.made_by)}. "
    yield "This page is complete in itself: it loads nothing, and runs no script.</footer></body></html>"
