"""Parts of a report: charts over time, and what the calls of models cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from llm_datagen.runs.report.chart import MOST_LINES, draw_cost, draw_rates
from llm_datagen.runs.report.fragments import definitions, paragraph, table
from llm_datagen.runs.report.model import Report
from llm_datagen.runs.usage import dollars
from llm_datagen.runs.words import number


def timeline_section(report: Report) -> str:
    """Return the charts of a run; nothing when it has no points."""
    nodes = [node.node_id for node in report.nodes]
    rates, cost = draw_rates(report.timeline, nodes), draw_cost(report.timeline)
    if not rates:
        return ""
    more = f"The first {MOST_LINES} of {len(nodes)} nodes are drawn." if len(nodes) > MOST_LINES else ""
    return f"<h3>Rows per second</h3>{rates}{paragraph(more, 'soft')}" + (f"<h3>Cost</h3>{cost}" if cost else "")


def cost_section(report: Report) -> str:
    """Return what the calls of models used and cost, and the budget; nothing of a run with neither."""
    if not report.models:
        return _budget(report)
    rows = [
        [
            (each.model or "?", each.provider),
            each.node_id,
            number(each.calls),
            number(each.tokens_in),
            number(each.tokens_out),
            _cost(each.cost),
        ]
        for each in report.models
    ]
    sums = (sum(getattr(each, name) for each in report.models) for name in ("calls", "tokens_in", "tokens_out"))
    total = ["all", "", *map(number, sums), _cost(report.totals["cost"])]
    heads = ["model", "node", "calls", "tokens in", "tokens out", "cost"]
    return table(heads, rows, numbers=range(2, 6), total=total if len(rows) > 1 else ()) + _budget(report)


def _budget(report: Report) -> str:
    """Return the budget, and how jobs at batch APIs stand."""
    found = {"jobs": report.jobs} if report.jobs else {}
    if report.budget is not None:
        caps = "; ".join(map(_cap, report.budget.caps))
        spent = report.budget.spent
        found |= {"budget": caps or spent, "of it": spent if caps else ""}
    return definitions(found) if found else ""


def _cap(cap: Mapping[str, Any]) -> str:
    money = "" if cap["usd"] is None else dollars(cap["usd"])
    tokens = "" if cap["tokens"] is None else f"{number(cap['tokens'])} tokens"
    return f"{cap['node_id']}: at most {' and '.join(filter(None, (money, tokens)))}"


def _cost(value: float | None) -> str:
    return "not known" if value is None else dollars(value)
