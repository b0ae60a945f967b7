"""Parts of HTML. What is given to them is text, and stays text."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from llm_datagen.runs.report.text import html_block, html_text


def section(title: str, *parts: str) -> str:
    """Return a section with a heading; nothing when it would be empty."""
    inner = "".join(parts)
    return f"<section><h2>{html_text(title)}</h2>{inner}</section>" if inner else ""


def paragraph(text: str, kind: str = "") -> str:
    """Return a paragraph; nothing for no text."""
    said = f' class="{kind}"' if kind else ""
    return f"<p{said}>{html_text(text)}</p>" if text else ""


def box(title: str, lines: Sequence[str], kind: str = "") -> str:
    """Return a box that somebody should see; nothing without lines."""
    if not lines:
        return ""
    said = "".join(f"<li>{html_text(line)}</li>" for line in lines) if len(lines) > 1 else ""
    inner = f"<ul>{said}</ul>" if said else f" {html_text(lines[0])}"
    return f'<div class="box {kind}" role="note"><b>{html_text(title)}</b>{inner}</div>'


def badge(status: str) -> str:
    """Return a status."""
    name = status if status.isalpha() else ""
    return f'<span class="badge {name}">{html_text(status)}</span>'


def block(text: Any) -> str:
    """Return foreign text as it is, with its line breaks."""
    return f"<pre>{html_block(text)}</pre>"


def definitions(pairs: Mapping[str, Any] | Iterable[tuple[str, Any]]) -> str:
    """Return names with what is said of them; those of which nothing is said are left out."""
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    inner = "".join(
        f"<dt>{html_text(name)}</dt><dd>{html_text(value)}</dd>" for name, value in items if value not in (None, "")
    )
    return f"<dl>{inner}</dl>" if inner else ""


def details(title: str, inner: str, *, note: str = "", is_open: bool = False) -> str:
    """Return what is shown when somebody asks for it, or from the beginning. Needs no script."""
    more = f' <span class="soft">{html_text(note)}</span>' if note else ""
    return f"<details{' open' if is_open else ''}><summary>{html_text(title)}{more}</summary>{inner}</details>"


def table(
    headings: Sequence[str], rows: Iterable[Sequence[Any]], *, numbers: Iterable[int] = (), total: Sequence[Any] = ()
) -> str:
    """Return a table.

    Args:
        headings: of its columns.
        rows: its cells. A pair of texts is a name and what is said of it.
        numbers: which columns hold numbers.
        total: a last row.
    """
    right = set(numbers)

    def cell(at: int, value: Any) -> str:
        if isinstance(value, tuple):
            name, more = value
            return f'<td class="name">{html_text(name)}<span class="soft">{html_text(more)}</span></td>'
        return f"<td{_right(at)}>{html_text('' if value is None else value)}</td>"

    def _right(at: int) -> str:
        return ' class="n"' if at in right else ""

    head = "".join(f'<th scope="col"{_right(at)}>{html_text(text)}</th>' for at, text in enumerate(headings))
    body = "".join(f"<tr>{''.join(cell(at, value) for at, value in enumerate(row))}</tr>" for row in rows)
    if total:
        body += f'<tr class="sum">{"".join(cell(at, value) for at, value in enumerate(total))}</tr>'
    inner = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    return f'<div class="scroll" tabindex="0" role="region" aria-label="{html_text(headings[0])}">{inner}</div>'
