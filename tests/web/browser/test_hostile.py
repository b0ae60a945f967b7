"""Whatever rows, ids, names, errors and answers hold is shown as text, and does nothing."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import yaml

from ...kit.support import write_jsonl
from .ground import Ground, tab

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

ATTACKS = [
    "<img src=x onerror=window.hit=1>",
    "<script>window.hit=2</script>",
    "</textarea></title></style></script><svg onload=window.hit=3>",
    "javascript:window.hit=4",
    "{{constructor.constructor('window.hit=5')()}}",
    "\u202egnirts desrever a\u202c \u200b\ufeff",
    "bell \x07 escape \x1b[31m null \x00 end",
    '"><iframe src="//evil.example/"></iframe>',
]

OPERATORS = '''
def grade(row):
    """Fails in the words of the row."""
    if row["n"] % 2:
        raise ValueError(row["text"])
    return row
'''


def test_hostile_rows_names_ids_answers_and_errors_do_nothing_and_are_seen(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.answer = lambda messages: messages[-1]["content"]
    ground.give([])
    rows = [{"_i": f"{n}{text}", "n": n, "text": text, f"<b>{text}": [text]} for n, text in enumerate(ATTACKS)]
    write_jsonl(ground.folder / "topics.jsonl", rows)
    (ground.folder / "grades.py").write_text(OPERATORS)
    pipeline = yaml.safe_load((ground.folder / "exam.yaml").read_text())
    pipeline["nodes"]["asker"]["with"].update({"prompt": "{{ text }}", "name": ATTACKS[0]})
    (ground.folder / "exam.yaml").write_text(yaml.safe_dump(pipeline))
    assert ground.run("hostile").wait() == 0
    with ground.page(browser, "#/run/0.hostile") as web:
        page = web.page
        expect(page.get_by_text(ATTACKS[0]).first).to_be_attached()
        page.get_by_role("link", name=re.compile("^Node asker")).click()
        tab(page, "Failures").click()
        for text in ATTACKS[1:6:2]:
            group = page.locator("section.failure", has_text=seen(text))
            expect(group.first).to_be_visible()
            group.first.locator("summary").first.click()
        tab(page, "Rows").click()
        page.get_by_label("Stream").select_option(f"asker.jsonl (between nodes, {len(ATTACKS)})")
        shown = page.locator(".rows li")
        expect(shown).to_have_count(len(ATTACKS))
        for number, text in enumerate(ATTACKS):
            row = page.get_by_role("link", name=f"n: {number} ")
            expect(row).to_contain_text(seen(text))
            row.click()
            itself = page.locator(".itself")
            expect(itself.locator(".fields")).to_contain_text(seen(text))
            expect(itself.locator(".spoken.answer .text")).to_have_text(seen(text))
            itself.get_by_role("button", name="JSON").click()
            expect(itself.locator(".item .text")).to_contain_text("{")
        tab(page, "Log").click()
        expect(page.locator(".log-line").first).to_be_visible()
        tab(page, "Cost").click()
        expect(page.locator(".big")).to_be_visible()
        assert page.evaluate("window.hit") is None
        assert page.locator("main script, main img, main iframe, main [onload], main [onerror]").count() == 0


def seen(text: str) -> str:
    """Return how the page shows a text: what cannot be seen is written out."""
    return re.sub(
        "[\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\ufeff]", lambda found: f"\\u{ord(found[0]):04x}", text
    )


def test_a_text_of_a_megabyte_is_cut_until_it_is_asked_for(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    long = "<i>x</i>" * 131_072
    ground.give([{"n": 1, "topic": "a", "text": long}])
    (ground.folder / "mended").touch()
    assert ground.run("long").wait() == 0
    with ground.page(browser, "#/run/0.long/rows") as web:
        page = web.page
        page.locator(".rows a").first.click()
        page.locator(".itself").get_by_role("button", name="Show all 1,048,576 characters").click()
        expect(page.locator(".itself .fields dd").nth(2).locator("i")).to_have_count(0)
        assert len(page.locator(".itself .fields dd").nth(2).inner_text()) == len(long)


def test_a_wrong_token_is_refused_and_a_right_one_opens_the_page(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    from ...kit.chromium import watched
    from ...kit.web import TOKEN, serving

    ground.results.mkdir()
    with serving(ground.results) as client:
        url = f"http://127.0.0.1:{client.port}/"
        with watched(browser, f"{url}#token=another-token-of-this") as web:
            web.expected.append("401")
            page = web.page
            expect(page.get_by_role("alert").filter(has_text="another token")).to_be_visible()
            assert "another" not in page.url
            page.get_by_label("Token").fill("one more wrong token")
            page.keyboard.press("Enter")
            expect(page.get_by_role("alert").filter(has_text="another token")).to_be_visible()
            page.get_by_label("Token").fill(f"{url}#token={TOKEN}")  # the whole address will do
            page.keyboard.press("Enter")
            expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
            page.reload()  # it has a cookie now
            expect(page.get_by_role("heading", level=1)).to_have_text("Runs")
        with watched(browser, url) as web:
            web.expected.append("401")
            expect(web.page.get_by_role("heading", level=1)).to_have_text("Which token?")


def test_a_page_that_is_read_only_has_no_commands(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    from ...kit.chromium import watched
    from ...kit.web import TOKEN, serving

    ground.give([{"n": 5, "topic": "five"}])
    assert ground.run("exam").wait() == 0
    with serving(ground.results, read_only=True) as client:
        url = f"http://127.0.0.1:{client.port}/"
        with watched(browser, f"{url}#token={TOKEN}") as web:
            web.page.get_by_role("link", name="exam").click()
            expect(web.page.get_by_text("read only", exact=True)).to_be_visible()
            tab(web.page, "Failures").click()
            expect(web.page.locator("section.failure")).to_have_count(1)
            expect(web.page.get_by_role("button", name="Replay failed rows")).to_have_count(0)
