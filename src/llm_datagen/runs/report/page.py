"""A report as one HTML page: no script, and nothing that is fetched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from llm_datagen.runs.report.chart import MOST_LINES, draw_cost, draw_rates, legend
from llm_datagen.runs.report.drawing import draw_graph
from llm_datagen.runs.report.fragments import badge, block, box, definitions, details, paragraph, section, table
from llm_datagen.runs.report.model import MARK, Call, Failure, NodeFacts, Relative, Report, Sample
from llm_datagen.runs.report.text import html_text, moment
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import duration, number, rows_in_words

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

_RELATIONS = {"ancestor": "came from", "itself": "the row", "descendant": "became"}


def page_of(report: Report) -> str:
    """Return a report as an HTML page."""
    style = Path(__file__).with_name("style.css").read_text(encoding="utf-8")
    run = report.run
    return "\n".join([
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><!-- {MARK}, format {report.format} -->',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        '<meta name="referrer" content="no-referrer"><meta name="robots" content="noindex">',
        f"<title>Run {html_text(run.id)}: {html_text(run.status)}</title><style>\n{style}</style></head><body>",
        f"<header><div><h1><small>llm-datagen run</small>{html_text(run.id)} {badge(run.status)}</h1>",
        paragraph(_when(report), "soft"),
        _tiles(report),
        "</div></header><main>",
        *_attention(report),
        section("How it is wired", f'<div class="scroll graph" tabindex="0">{draw_graph(report.nodes, report.streams)}</div>'),
        section("What became of each row", _ledger(report)),
        section("Over time", _timeline(report)),
        section("What it cost", _cost(report)),
        section("Where the time went", _time(report)),
        section("Rows that failed", *map(_failure, report.failures)),
        section("Some rows, and where they come from", *map(_sample, report.rows)),
        section("What ran", _what_ran(report), _streams(report), _settings(report)),
        section("Not in this report", *(paragraph(text) for text in report.left_out)),
        f"</main><footer>Made {html_text(moment(report.made_at))} by {html_text(report.made_by)}. "
        "This page is complete in itself: it loads nothing, and runs no script.</footer></body></html>",
        "",
    ])  # fmt: skip


def figures(report: Report) -> list[tuple[str, str]]:
    """Return the figures that come first, each with what it is."""
    totals, run = report.totals, report.run
    found = [
        (number(totals["rows_in"]), "rows in"),
        (number(totals["rows_out"]), "rows out"),
        (number(totals["filtered"]), "filtered"),
        (number(totals["failed"]), "failed"),
    ]
    if totals["cost"] is not None:
        found.append((dollars(totals["cost"]), "cost"))
    if totals["tokens"]:
        found.append((number(totals["tokens"]), "tokens"))
    if run.seconds is not None:
        found.append((duration(run.seconds), "time"))
    return found


def _tiles(report: Report) -> str:
    inner = "".join(
        f'<div class="tile"><b>{html_text(value)}</b><span>{name}</span></div>' for value, name in figures(report)
    )
    return f'<div class="tiles">{inner}</div>'


def _when(report: Report) -> str:
    run = report.run
    began = (
        f"started {moment(run.started_at)}" if run.started_at else f"created {moment(run.created_at)}, never started"
    )
    if run.is_live:
        return f"{began}, {'paused' if run.is_paused else 'still running'} when this report was made"
    return (
        f"{began}, ended {moment(run.ended_at)}" if run.ended_at else f"{began}, last heard of {moment(run.updated_at)}"
    )


def _attention(report: Report) -> Iterator[str]:
    run = report.run
    if run.error:
        lines = [run.error, *([f"at {run.failed_row}"] if run.failed_row else [])]
        yield box("It failed:", lines, "failed")
    if run.reason:
        yield box(f"It was {run.status}:", [run.reason])
    if run.note:
        yield box("To know:", [run.note])
    yield box("To look at:", report.warnings)


def _ledger(report: Report) -> str:
    """Return the table of counts, and whether they add up."""
    has_rejected = any(node.ledger.rejected for node in report.nodes)
    names = ["kept", "filtered", *(["rejected"] if has_rejected else []), "skipped", "dead_letters"]
    heads = ["node", "rows in", *(name.replace("_", " ") for name in names), "pending", "rows out", "adds up"]
    rows = []
    for node in report.nodes:
        ledger = node.ledger
        counts = [number(getattr(ledger, name)) for name in names]
        pending = "?" if ledger.pending is None else number(ledger.pending)
        rows.append(
            [
                (node.node_id, node.operator),
                number(ledger.done),
                *counts,
                pending,
                number(ledger.rows_out),
                _adds_up(node),
            ]
        )
    findings = [f"{node.node_id}: {text}" for node in report.nodes for text in node.ledger.findings]
    how = (
        "Each row that a node has read is exactly one of kept, filtered, failed, or still pending. These counts are those "
        "of the commits and seals of the streams, compared with each other and with the run state; llm-datagen verify "
        "also reads every row."
    )
    return (
        table(heads, rows, numbers=range(1, len(heads) - 1))
        + paragraph(how, "soft")
        + box("It does not add up:", findings, "failed")
    )


def _adds_up(node: NodeFacts) -> str:
    ledger = node.ledger
    if ledger.findings:
        return "no"
    if not ledger.is_known:
        return "not known" if ledger.done else "not begun"
    return "yes, complete" if ledger.is_sealed else "yes, so far"


def _timeline(report: Report) -> str:
    nodes = [node.node_id for node in report.nodes]
    rates = draw_rates(report.timeline, nodes)
    if not rates:
        return ""
    names = "".join(f"<li>{drawn} {html_text(name)}</li>" for drawn, name in legend(nodes))
    more = f"The first {MOST_LINES} of {len(nodes)} nodes are drawn." if len(nodes) > MOST_LINES else ""
    cost = draw_cost(report.timeline)
    return f'<h3>Rows per second</h3><ul class="legend">{names}</ul>{rates}{paragraph(more, "soft")}' + (
        f"<h3>Cost</h3>{cost}" if cost else ""
    )


def _cost(report: Report) -> str:
    if not report.models:
        return ""
    rows = [
        [(each.model or "?", each.provider), each.node_id, number(each.calls), number(each.tokens_in), number(each.tokens_out),
         "not known" if each.cost is None else dollars(each.cost)]
        for each in report.models
    ]  # fmt: skip
    sums = [sum(getattr(each, name) for each in report.models) for name in ("calls", "tokens_in", "tokens_out")]
    cost = report.totals["cost"]
    total = ["all", "", *map(number, sums), "not known" if cost is None else dollars(cost)]
    heads = ["model", "node", "calls", "tokens in", "tokens out", "cost"]
    said = table(heads, rows, numbers=range(2, 6), total=total if len(rows) > 1 else ())
    if report.budget is not None:
        caps = [
            f"{cap['node_id']}: at most "
            + " and ".join(
                filter(None, (
                    "" if cap["usd"] is None else dollars(cap["usd"]),
                    "" if cap["tokens"] is None else f"{number(cap['tokens'])} tokens",
                ))
            )
            for cap in report.budget.caps
        ]  # fmt: skip
        said += definitions({"budget": "; ".join(caps), "spent of it": report.budget.spent})
    return said


def _time(report: Report) -> str:
    if not any(node.shares for node in report.nodes):
        return ""
    heads = [
        "node",
        "status",
        "ran for",
        "calls at once",
        "rows per call",
        "busy",
        "held back",
        "rate limited",
        "starved",
    ]
    rows = [
        [(node.node_id, node.operator), node.status, duration(node.seconds), node.parallel_size, node.batch_size,
         *(f"{node.shares[name]:.0%}" if name in node.shares else "" for name in ("busy", "held_back", "rate_limited", "starved"))]
        for node in report.nodes
    ]  # fmt: skip
    note = "Of the last execution. Held back: workers waited for the disk. Starved: there was no row to do yet."
    limit = paragraph(f"What limits it: {report.limit}." if report.limit else "")
    return limit + table(heads, rows, numbers=range(2, 9)) + paragraph(note, "soft")


def _failure(failure: Failure) -> str:
    inner = paragraph(f"For example row {failure.row_id}:") + block(failure.input)
    inner += block(failure.traceback) if failure.traceback else ""
    return details(
        f"{failure.kind}: {failure.message}", inner, note=f"{rows_in_words(failure.count)} in {failure.node_id}"
    )


def _sample(sample: Sample) -> str:
    return details(
        f"row {sample.row_id}", "".join(map(_relative, sample.family)) or block(sample.item), note=sample.item[:160]
    )


def _relative(relative: Relative) -> str:
    state = "" if relative.state == "row" else f" ({relative.state})"
    head = f"{relative.where}: {_RELATIONS.get(relative.relation, relative.relation)} {relative.row_id}{state}"
    calls = "".join(map(_call, relative.calls))
    return f'<div class="step">{paragraph(head)}{block(relative.item) if relative.item else ""}{calls}</div>'


def _call(call: Call) -> str:
    parts = [paragraph(f"call of {call.model}: {call.details}" if call.details else f"call of {call.model}", "soft")]
    if call.prompt:
        parts.append(paragraph("prompt", "soft") + block(call.prompt))
    if call.answer:
        parts.append(paragraph("answer", "soft") + block(call.answer))
    return "".join(parts)


def _what_ran(report: Report) -> str:
    run = report.run
    shards = run.shards or {}
    versions = {
        name: version for name, version in run.software.items() if name not in {"llm-datagen", "python", "system"}
    }
    return definitions({
        "run": run.id,
        "version": f"version {run.version} of {run.version_of}" if run.version_of else run.version if run.version > 1 else "",
        "earlier versions": ", ".join(run.earlier_versions),
        "shards": f"{shards['count']}, merged by {shards.get('merge')}" if shards else "",
        "started with": run.started_with,
        "where": f"process {run.pid} on {run.host}" if run.host else "",
        "results": run.results_dir,
        "created": moment(run.created_at),
        "last started": moment(run.started_at),
        "ended": moment(run.ended_at) if run.ended_at else "",
        "llm-datagen": run.software.get("llm-datagen", "not noted: the run was made by a version before 0.2"),
        "Python": run.software.get("python"),
        "system": run.software.get("system"),
        "libraries": ", ".join(f"{name} {version}" for name, version in versions.items()),
    })  # fmt: skip


def _streams(report: Report) -> str:
    rows = [
        [(stream.key, stream.uri), stream.kind, "?" if stream.rows is None else number(stream.rows)]
        for stream in report.streams
    ]
    made = [
        [
            (entry["kind"], entry["path"]),
            "export",
            number(entry["rows"]) if entry.get("rows") is not None else "not made",
        ]
        for entry in report.exports
    ]
    return "<h3>Streams and exports</h3>" + table(["stream", "kind", "rows"], [*rows, *made], numbers=[2])


def _settings(report: Report) -> str:
    own = [
        details(f"{node.node_id}: {node.operator}", block(_shown(node.settings)), note="its own settings")
        for node in report.nodes
        if node.settings
    ]
    return "<h3>Settings</h3>" + details("the pipeline", block(_shown(report.settings))) + "".join(own)


def _shown(settings: object) -> str:
    return json.dumps(settings, indent=2, ensure_ascii=False, default=str)
