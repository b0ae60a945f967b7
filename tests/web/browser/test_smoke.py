"""The page opens in a real browser, and shows a run."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from .ground import Ground, tab, topics

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.mark.process
def test_the_page_opens_with_the_token_of_its_address_and_shows_a_run(browser: Browser, ground: Ground) -> None:
    """The default run has this one test of the page in a browser; the others are slow."""
    from playwright.sync_api import expect

    ground.give(topics(20))
    assert ground.run("exam").wait() == 0
    with ground.page(browser) as web:
        page = web.page
        assert "token" not in page.url
        page.get_by_role("link", name="exam").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("exam")
        expect(page.locator(".head .pill").first).to_have_text("completed")
        expect(page.locator(".numbers .progress")).to_contain_text("20 of 20 rows")
        expect(page.get_by_role("link", name=re.compile("^Node asker, completed, 20 rows done"))).to_be_visible()
        tab(page, "Failures").click()
        expect(page.locator(".numbers")).to_contain_text("Failed3")
