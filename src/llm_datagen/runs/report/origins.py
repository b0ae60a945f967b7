"""Parts of a report: a sample row with all that it came from, and rows that failed."""

from __future__ import annotations

from llm_datagen.runs.report.fragments import block, details, paragraph
from llm_datagen.runs.report.model import Call, Failure, Relative, Report, Sample
from llm_datagen.runs.words import rows_in_words

_RELATIONS = {"ancestor": "from", "itself": "the row", "descendant": "became"}
_NOTE_CHARS = 160


def failures_section(report: Report) -> str:
    """Return the rows that failed, by their causes, with one of each; that of the most frequent cause is open."""
    return "".join(_failure(each, is_open=at == 0) for at, each in enumerate(report.failures))


def samples_section(report: Report) -> str:
    """Return the sample rows, each with what it came from; the first one is open."""
    has_several = bool(report.totals["outputs"])
    return "".join(_sample(each, is_open=at == 0, is_of_several=has_several) for at, each in enumerate(report.rows))


def _failure(group: Failure, *, is_open: bool) -> str:
    inner = paragraph(f"For example row {group.row_id}:") + block(group.input)
    inner += block(group.traceback) if group.traceback else ""
    where = f"{rows_in_words(group.count)} in {group.node_id}"
    return details(f"{group.kind}: {group.message}", inner, note=where, is_open=is_open)


def _sample(row: Sample, *, is_open: bool, is_of_several: bool) -> str:
    inner = "".join(map(_relative, row.family)) or block(row.item)
    head = f"row {row.row_id} of {row.node_id}" if is_of_several else f"row {row.row_id}"
    return details(head, inner, note=row.item[:_NOTE_CHARS], is_open=is_open)


def _relative(relative: Relative) -> str:
    state = "" if relative.state == "row" else f" ({relative.state})"
    head = f"{relative.where}: {_RELATIONS.get(relative.relation, relative.relation)} {relative.row_id}{state}"
    item = block(relative.item) if relative.item else ""
    return f'<div class="step">{paragraph(head)}{item}{"".join(map(_call, relative.calls))}</div>'


def _call(call: Call) -> str:
    parts = [paragraph(f"call of {call.model}: {call.details}" if call.details else f"call of {call.model}", "soft")]
    for name, text in (("prompt", call.prompt), ("answer", call.answer)):
        if text:
            parts.append(paragraph(name, "soft") + block(text))
    return "".join(parts)
