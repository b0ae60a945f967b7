"""Each view has names, labels, headings and contrast, light and dark, and fits a phone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from ...kit.chromium import PHONE, WIDE
from .ground import Ground, topics

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.slow

CHECKS = Path(__file__).with_name("checks.js").read_text(encoding="utf-8")

VIEWS = {
    "#/": ".run",
    "#/run/0.exam": ".graph .node",
    "#/run/0.exam?node=grader": ".node-details",
    "#/run/0.exam/rows": ".rows li",
    "#/run/0.exam/rows?id=7": ".member",
    "#/run/0.exam/failures": "section.failure",
    "#/run/0.exam/log": ".log-line",
    "#/run/0.exam/cost": ".big",
    "#/compare?a=0.exam&b=0.exam": "table",
}


@pytest.mark.parametrize(("colours", "size"), [("light", WIDE), ("dark", WIDE), ("light", PHONE), ("dark", PHONE)])
def test_every_view_can_be_read_reached_and_heard(
    browser: Browser, ground: Ground, colours: Literal["light", "dark"], size: dict[str, int]
) -> None:
    ground.give(topics(20))
    assert ground.run("exam").wait() == 0
    found = {}
    with ground.page(browser, color_scheme=colours, viewport=size) as web:
        page = web.page
        for address, what in VIEWS.items():
            page.evaluate("address => { location.hash = address }", address)
            page.locator(what).first.wait_for()
            page.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true })")
            found[address] = page.evaluate(CHECKS)
        page.evaluate("location.hash = '#/run/0.exam'")
        page.get_by_role("button", name="Replay failed rows").click()
        page.get_by_role("dialog").wait_for()
        found["dialog"] = page.evaluate(CHECKS)
    assert found == {address: [] for address in [*VIEWS, "dialog"]}


def test_the_colours_are_those_of_the_switch(browser: Browser, ground: Ground) -> None:
    ground.give(topics(2))
    assert ground.run("exam").wait() == 0
    with ground.page(browser, color_scheme="light") as web:
        page = web.page

        def background() -> str:
            return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

        light = background()
        page.get_by_role("button", name="Theme: auto").click()
        assert background() == light
        page.get_by_role("button", name="Theme: light").click()
        dark = background()
        assert dark != light
        page.reload()
        page.get_by_role("button", name="Theme: dark").wait_for()
        assert background() == dark
