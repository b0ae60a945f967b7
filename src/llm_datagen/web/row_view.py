"""The JSON of rows: of pages, and of failures."""

from __future__ import annotations

from typing import Any

from llm_datagen.runs.browse.failures import DeadLetterGroup
from llm_datagen.runs.browse.pages import Page
from llm_datagen.runs.browse.reasons import ReasonCount
from llm_datagen.runs.words import cut
from llm_datagen.streams.ids import ID_FIELD, Id

_EXACT = 2**53
"""From here on, a number of JavaScript is not exact."""

_MESSAGE_CHARS, _TRACE_CHARS = 2000, 10_000
"""Of a group of failures: there are hundreds, and what is kept of each is long. All of it is in the dead letters."""


def page_json(page: Page) -> dict[str, Any]:
    """Return the JSON of a page of rows."""
    return {
        "rows": [{"number": row.number, "id": shown_id(row.id), "item": item_json(row.item)} for row in page.rows],
        "total": page.total,
        "is_total_exact": page.is_total_exact,
        "next": page.next,
        "searched_to": page.searched_to,
    }


def rejected_json(page: Page) -> dict[str, Any]:
    """Return the JSON of a page of rejected rows, each with its reason."""
    rows = [{**row, **_unpacked(row["item"])} for row in page_json(page)["rows"]]
    return {**page_json(page), "rows": rows}


def _unpacked(kept: Any) -> dict[str, Any]:
    if not isinstance(kept, dict):  # a line that cannot be read
        return {"item": kept, "reason": ""}
    return {"item": item_json(kept.get("item")), "reason": kept.get("reason", "")}


def group_json(group: DeadLetterGroup) -> dict[str, Any]:
    """Return the JSON of rows that failed of the same cause."""
    return {
        "node_id": group.node_id,
        "operator": group.operator,
        "kind": group.kind,
        "message": cut(group.text, _MESSAGE_CHARS),
        "count": group.count,
        "example": {
            "id": shown_id(group.row_id),
            "item": item_json(group.input),
            "is_cut": group.is_cut,
            "traceback": cut(group.trace, _TRACE_CHARS),
        },
    }


def reason_json(each: ReasonCount) -> dict[str, Any]:
    """Return the JSON of how many rows were rejected for a reason."""
    first = None if each.row_id is None else shown_id(each.row_id)
    return {"node_id": each.node_id, "reason": each.reason, "count": each.count, "id": first}


def shown_id(row_id: Id) -> Id:
    """Return an id as JavaScript can hold it."""
    return str(row_id) if isinstance(row_id, int) and abs(row_id) >= _EXACT else row_id


def item_json(item: Any) -> Any:
    """Return what a row holds, without its id."""
    return {name: value for name, value in item.items() if name != ID_FIELD} if isinstance(item, dict) else item
