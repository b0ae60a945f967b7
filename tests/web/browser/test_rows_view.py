"""Rows of any stream, a page at a time; and one row followed through the run, down to the prompt and the answer."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .ground import Ground, topics

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow


def test_a_row_is_followed_to_the_prompt_and_the_answer_of_the_model(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(20))
    assert ground.run("exam").wait() == 0
    with ground.page(browser, "#/run/0.exam") as web:
        page = web.page
        page.get_by_role("link", name=re.compile("^Node asker")).click()
        details = page.get_by_role("region", name="Node asker")
        expect(details.locator(".fact", has_text="Rows in")).to_contain_text("20")
        details.get_by_role("link", name=re.compile("^between nodes")).click()
        rows = page.locator(".rows li")
        expect(rows).to_have_count(20)
        page.get_by_role("link", name=re.compile("topic 7")).click()
        members = page.locator(".member")
        expect(members).to_have_count(3)
        expect(members.nth(0)).to_contain_text("input")
        expect(members.nth(1)).to_contain_text("asker")
        expect(members.nth(1)).to_contain_text("this row")
        expect(members.nth(2)).to_contain_text("grader")
        call = members.nth(1).locator(".call")
        expect(call).to_contain_text("fake-1")
        expect(call).to_contain_text("tokens")
        expect(call.locator(".spoken").nth(0)).to_have_text("systemYou are an examiner.")
        expect(call.locator(".spoken").nth(1)).to_have_text("userAsk about topic 7")
        expect(call.locator(".spoken").nth(2)).to_have_text("answerWhy 7?")

        # A row that was filtered, and one that failed.
        page.get_by_role("link", name=re.compile("topic 8")).click()
        expect(members.last).to_contain_text("filtered")
        page.get_by_role("link", name=re.compile("topic 5")).click()
        expect(members.last).to_contain_text("failed")
        page.keyboard.press("Escape")
        expect(page.locator(".detail")).to_have_count(0)


def test_numbers_in_rows_keep_all_their_digits(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give([{**row, "serial": 1234567890123456789} for row in topics(3)])
    assert ground.run("exam").wait() == 0
    with ground.page(browser, "#/run/0.exam/rows?stream=input%3A0") as web:
        rows = web.page.locator(".rows li")
        expect(rows).to_have_count(3)
        expect(rows.first).to_contain_text("1234567890123456789")
        web.page.get_by_role("link", name=re.compile("topic 1")).click()
        expect(web.page.locator(".detail")).to_contain_text("1234567890123456789")


def test_rejected_rows_are_shown_with_the_reason(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(20), keep_rejected=True)
    (ground.folder / "grades.py").write_text(
        "from llm_datagen import Rejected\n\n\n"
        "def grade(row):\n    return row if row['n'] % 2 else Rejected(f'<b>even</b>: {row[\"n\"]}')\n"
    )
    assert ground.run("exam").wait() == 0
    with ground.page(browser, "#/run/0.exam?node=grader") as web:
        page = web.page
        details = page.get_by_role("region", name="Node grader")
        expect(details.locator(".fact", has_text="Rejected")).to_have_text("Rejected10")
        details.get_by_role("link", name=re.compile("^rejected rows")).click()
        rows = page.locator(".rows li")
        expect(rows).to_have_count(10)
        expect(rows.first).to_contain_text("<b>even</b>: 0")
        rows.first.locator("a").click()
        expect(page.locator(".detail")).to_contain_text("<b>even</b>: 0")
        expect(page.locator(".member").last).to_contain_text("rejected")
        expect(page.locator(".member").last).to_contain_text("<b>even</b>: 0")


def test_rows_are_paged_jumped_to_and_searched(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(400))
    (ground.folder / "mended").touch()
    assert ground.run("exam").wait() == 0
    with ground.page(browser, "#/run/0.exam/rows") as web:
        page = web.page
        rows = page.locator(".rows li")
        expect(rows).to_have_count(50)
        page.get_by_label("Stream").select_option("topics.jsonl (input, 400)")
        expect(page.locator(".pager")).to_contain_text("0 to 49 of 400")
        page.get_by_role("button", name="Next").click()
        expect(page.locator(".pager")).to_contain_text("50 to 99 of 400")
        page.get_by_role("button", name="Previous").click()
        expect(page.locator(".pager")).to_contain_text("0 to 49 of 400")
        page.get_by_label("Row number").fill("390")
        page.keyboard.press("Enter")
        expect(rows).to_have_count(10)
        expect(rows.first).to_contain_text("topic 390")
        page.get_by_label("Row number").fill("0")
        page.keyboard.press("Enter")
        page.get_by_label("Search in the rows").fill("topic")
        page.keyboard.press("Enter")
        expect(page.locator(".pager")).to_contain_text("50 found on this page")
        page.go_back()
        page.go_back()
        expect(rows.first).to_contain_text("topic 390")
        page.get_by_label("Search in the rows").fill("topic 21")
        page.keyboard.press("Enter")
        expect(page.locator(".pager")).to_contain_text("11 found")  # 21, 210 to 219
        expect(rows.first).to_contain_text("topic 21")
        page.go_back()
        expect(rows.first).to_contain_text("topic 390")


def test_rows_are_walked_through_with_the_keyboard_alone(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(120))
    (ground.folder / "mended").touch()
    assert ground.run("exam").wait() == 0
    with ground.page(browser) as web:
        page = web.page

        def tab_to(text: str) -> None:
            for _ in range(40):
                page.keyboard.press("Tab")
                if text in page.evaluate("document.activeElement.closest('a, button')?.textContent ?? ''"):
                    return
            raise AssertionError(f"{text} is not reached")

        page.get_by_role("link", name="exam").wait_for()
        page.locator("body").press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        tab_to("exam")
        page.keyboard.press("Enter")
        expect(page.get_by_role("heading", level=1)).to_have_text("exam")
        page.locator("h1").wait_for()
        tab_to("Rows")
        page.keyboard.press("Enter")
        page.get_by_label("Stream").select_option("topics.jsonl (input, 120)")
        expect(page.locator(".rows li")).to_have_count(50)
        tab_to("topic 0")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.locator(".detail h2")).to_have_text("Row 2")
        page.keyboard.press("ArrowUp")
        page.keyboard.press("Enter")
        expect(page.locator(".detail h2")).to_have_text("Row 1")
        page.keyboard.press("PageDown")
        expect(page.locator(".pager")).to_contain_text("50 to 99")
