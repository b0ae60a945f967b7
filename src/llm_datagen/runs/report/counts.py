"""Tables of a report: what became of the rows of each node, and where its time went."""

from __future__ import annotations

from llm_datagen.runs.report.fragments import box, paragraph, table
from llm_datagen.runs.report.model import SHARES, NodeFacts, Report
from llm_datagen.runs.words import duration, number

_HOW = (
    "Each row that a node has read is exactly one of kept, filtered, failed (skipped, or a dead letter), or "
    "pending. "
    "The commits and seals of the streams say so; they are compared with each other and with the run state. "
    "llm-datagen verify reads every row, too."
)


def account_section(report: Report) -> str:
    """Return the counts of each node, and whether they add up."""
    names = ["kept", "filtered", "rejected", "skipped", "dead_letters"]
    if not any(node.account.rejected for node in report.nodes):
        names.remove("rejected")
    words = {"rejected": "of it rejected", "dead_letters": "dead letters"}
    heads = ["node", "done", *(words.get(name, name) for name in names), "pending", "rows out", "adds up"]
    rows = []
    for node in report.nodes:
        account = node.account
        pending = "?" if account.pending is None else number(account.pending)
        counts = [number(getattr(account, name)) for name in names]
        cells = [number(account.done), *counts, pending, number(account.rows_out), adds_up(node)]
        rows.append([(node.node_id, node.operator), *cells])
    findings = [f"{node.node_id}: {text}" for node in report.nodes for text in node.account.findings]
    wrong = box("It does not add up:", findings, "failed")
    return table(heads, rows, numbers=range(1, len(heads) - 1)) + wrong + paragraph(_HOW, "soft")


def rejected_section(report: Report) -> str:
    """Return how many rows were rejected for which reason; nothing when none were."""
    if not report.rejected:
        return ""
    rows = [[each.reason, each.node_id, number(each.count)] for each in report.rejected]
    return table(["reason", "node", "rows"], rows, numbers=range(2, 3))


def adds_up(node: NodeFacts) -> str:
    """Return in words whether the counts of a node fit together."""
    account = node.account
    if account.findings:
        return "no"
    if not account.is_known:
        return "not known" if account.done else "not begun"
    return "yes, complete" if account.is_sealed else "yes, so far"


def time_section(report: Report) -> str:
    """Return where the time of each node went, in the last execution, and what limits the run."""
    if not any(node.shares for node in report.nodes):
        return ""
    is_led = any(node.shares.get("lead_limited") for node in report.nodes)
    shares = [name for name in SHARES if name != "lead_limited" or is_led]
    heads = [
        "node",
        "status",
        "ran for",
        "calls at once",
        "rows per call",
        *(name.replace("_", " ") for name in shares),
    ]
    rows = [
        [
            (node.node_id, node.operator),
            node.status,
            duration(node.seconds),
            node.parallel_size,
            node.batch_size,
            *(f"{node.shares[name]:.0%}" if name in node.shares else "" for name in shares),
        ]
        for node in report.nodes
    ]
    limit = paragraph(f"What limits it: {report.limit}." if report.limit else "")
    note = "Of the last execution. Held back: workers waited for the disk, or the next node. Starved: no row was there."
    return limit + table(heads, rows, numbers=range(2, len(heads))) + paragraph(note, "soft")
