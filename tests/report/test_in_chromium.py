"""The page of a report in a real browser without a network: nothing is asked for, nothing runs, all of it fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llm_datagen import INodeContext
from llm_datagen.cli.report import read_report
from llm_datagen.runs.report.page import page_of

from ..kit.chromium import PHONE, WIDE, chromium
from ..kit.support import Bench, write_jsonl
from .test_forms import HOSTILE

STYLED = '<style>*{display:none}</style><body onload="alert(1)"><a href="javascript:alert(2)">x</a>'


def picky(row: dict[str, Any], ctx: INodeContext) -> dict[str, Any]:
    """Refuse some rows, with their own text."""
    ctx.report_usage({"provider": "p", "model": HOSTILE, "requests": 1, "prompt_tokens": 3, "cost": 0.01})
    if row["n"] % 3 == 0:
        raise ValueError(row["text"])
    return row


@pytest.mark.slow
def test_the_page_asks_for_nothing_and_fits(bench: Bench) -> None:
    write_jsonl(bench.input, [{"n": n, "text": HOSTILE + STYLED, "long": "word" * 500} for n in range(30)])
    bench.pipeline([picky, lambda row: row], on_error="dead_letter", streaming=True).create("a").run()
    (bench.results / "a" / "timeline.jsonl").write_text(
        "".join(
            f'{{"t":"2026-01-01T00:00:{second:02}+00:00","cost":{second / 100},'
            f'"nodes":{{"node_0":[{second},{second},0],"node_1":[{second // 2},{second // 2},0]}}}}\n'
            for second in range(30)
        )
    )
    path = Path(bench.folder, "report.html")
    path.write_text(page_of(read_report(str(bench.results), "a", rows=5)), encoding="utf-8")
    with chromium() as browser:
        for options in (
            {"viewport": WIDE},
            {"viewport": PHONE},
            {"viewport": WIDE, "color_scheme": "dark"},
        ):
            look_at(browser, path, options)


def look_at(browser: Any, path: Path, options: dict[str, Any]) -> None:
    """Open a page without a network; check what it does, and how it looks."""
    context = browser.new_context(offline=True, **options)
    page = context.new_page()
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("dialog", lambda dialog: told.append(dialog.message))
    page.on("request", lambda request: told.append(request.url))
    page.goto(f"file://{path}")
    page.evaluate("for (const each of document.querySelectorAll('details')) each.open = true")
    assert told == [f"file://{path}"], "the page itself, and nothing else"
    assert page.evaluate("document.documentElement.scrollWidth") == options["viewport"]["width"], "nothing sticks out"
    assert page.locator("script, img, iframe, link").count() == 0
    assert page.locator("h2").all_inner_texts() == [
        "How it is wired",
        "What became of each row",
        "Over time",
        "What it cost",
        "Where the time went",
        "Rows that failed",
        "Some rows, and where they come from",
        "What ran",
    ]
    assert page.locator("svg[role=img]").count() == 3
    assert "<script>alert(" in page.locator("pre").first.inner_text()
    context.close()
