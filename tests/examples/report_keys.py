"""The page of the JSON of a report, from the docstrings of its parts.

``python -m tests.examples.report_keys`` writes it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from dataclasses import fields

from llm_datagen.runs.browse.reasons import ReasonCount
from llm_datagen.runs.report import model

from .pages import DOCS

PAGE = DOCS / "reference" / "report-json.md"

INTRODUCTION = """# The JSON of a report

[`llm-datagen report ID --format json`](../how-to/send-a-report.md) writes one object, with `report`, which is always
`"llm-datagen report"`, and the keys of these tables. `format` grows when a key changes its meaning or goes. Keys may be
added without that: pass over those that you do not know. Long texts are cut, and say how much is left out. Times are in
UTC, ISO 8601.
"""

PARTS = {
    "The report": model.Report,
    "run": model.RunFacts,
    "nodes": model.NodeFacts,
    "account, of a node": model.RowAccount,
    "streams": model.StreamFacts,
    "models": model.ModelCost,
    "budget": model.Budget,
    "failures": model.Failure,
    "rejected": ReasonCount,
    "rows": model.Sample,
    "family, of a row": model.Relative,
    "calls, of a relative": model.Call,
}


def page() -> str:
    """Return the page."""
    return INTRODUCTION + "".join(f"\n## {title}\n\n{_table(part)}" for title, part in PARTS.items())


def _table(part: type) -> str:
    rows = "".join(f"| `{name}` | {said} |\n" for name, said in _said(part))
    return f"| key | meaning |\n|---|---|\n{rows}"


def _said(part: type) -> Iterator[tuple[str, str]]:
    """Yield each field with what its docstring says of it."""
    text = inspect.cleandoc(part.__doc__ or "").partition("Attributes:\n")[2]
    found: dict[str, str] = {}
    for names, said in re.findall(r"^    ([\w, ]+): ((?:.|\n(?!    \w[\w, ]*: ))*)", text, re.MULTILINE):
        for name in names.split(", "):
            found[name] = _shown(said)
    for field in fields(part):
        yield field.name, found[field.name]


def _shown(said: str) -> str:
    text = re.sub(r"\s+", " ", said).strip().removesuffix(".").replace("``", "`").replace("`FORMAT`", "1")
    return re.sub(r"\bNone\b", "`null`", text)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
