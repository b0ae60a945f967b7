"""A run that works is seen counting, is paused and goes on; one whose process is killed is said to be, and so on."""

from __future__ import annotations

import re
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from ...kit.chromium import watched
from ...kit.support import eventually
from ...kit.web import TOKEN, serving
from .ground import Ground, topics

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

pytestmark = pytest.mark.slow


def rows_shown(page: Page) -> int:
    """Return how many rows are done, as the page says."""
    found = re.match(r"[\d,]+", page.locator(".numbers .progress span").inner_text())
    assert found is not None
    return int(found[0].replace(",", ""))


def counts(page: Page, more_than: int) -> int:
    """Wait until the page shows more rows than so many."""
    page.wait_for_function(
        "more => parseInt(document.querySelector('.numbers .progress span')?.textContent.replaceAll(',', '')) > more",
        arg=more_than,
    )
    return rows_shown(page)


def confirm(page: Page, verb: str) -> str:
    """Say yes to what a dialog asks; return what the server says then."""
    page.get_by_role("dialog").get_by_role("button", name=verb, exact=True).click()
    said = page.locator("dialog .said").inner_text()
    page.get_by_role("dialog").get_by_role("button", name="Close").click()
    return said


def test_a_run_counts_stops_when_it_is_paused_and_goes_on(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(2000), slow=50)
    ground.run("exam")
    with ground.page(browser, "#/run/0.exam") as web:
        page = web.page
        seen = counts(page, more_than=0)
        page.get_by_text("Settings of the run").click()
        page.get_by_role("button", name="Pause").focus()
        counts(page, more_than=seen)
        expect(page.get_by_role("button", name="Pause")).to_be_focused()  # what changes is changed in place
        expect(page.get_by_role("row", name="streaming")).to_be_visible()

        page.get_by_role("button", name="Pause").click()
        assert "paused" in confirm(page, "Pause")
        expect(page.locator(".head .pill").first).to_have_text("paused")
        expect(page.locator("#live")).to_contain_text("paused")
        eventually(lambda: page.locator(".graph .node text", has_text="0 in flight").count() == 2)
        page.wait_for_timeout(1500)  # what was in flight is committed and shown
        seen = rows_shown(page)
        page.wait_for_timeout(1500)  # 75 rows of a run that is not paused
        assert rows_shown(page) == seen == ground.rows_done("exam")

        page.get_by_role("button", name="Unpause").click()
        confirm(page, "Unpause")
        counts(page, more_than=seen)
        expect(page.locator(".head .pill").first).to_have_text("running")

        page.get_by_role("link", name=re.compile("^Node asker")).click()
        page.get_by_role("button", name="Change speed…").click()
        page.get_by_role("spinbutton", name="Rows per second").fill("40")
        confirm(page, "Change it")
        expect(page.locator(".node-details .fact", has_text="40/s")).to_have_text("rate40/s")

        page.get_by_role("button", name="Cancel…").click()
        confirm(page, "Cancel the run")
        expect(page.locator(".head .pill").first).to_have_text("canceled")
        expect(page.get_by_role("button", name="Resume")).to_be_visible()


def test_a_run_is_watched_from_its_beginning_to_its_end(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(150), slow=50)
    with ground.page_beside(ground.start("run", "exam.yaml", "--id", "exam", "--ui"), browser) as web:
        page = web.page
        page.get_by_role("link", name="exam").click()
        seen = counts(page, more_than=0)
        counts(page, more_than=seen)
        expect(page.locator(".head .pill").first).to_have_text("completed")
        expect(page.locator("#live")).to_contain_text("completed")
        expect(page.locator(".numbers .progress")).to_contain_text("150 of 150 rows")
        expect(page.locator(".chart svg").first).to_be_visible()


def test_a_command_that_is_not_wanted_is_not_sent(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(2000), slow=50)
    ground.run("exam")
    with ground.page(browser, "#/run/0.exam") as web:
        page = web.page
        sent: list[str] = []
        page.on("request", lambda request: sent.append(request.method))
        page.get_by_role("button", name="Cancel…").click()
        page.get_by_role("button", name="Not now").click()
        page.get_by_role("button", name="Cancel…").click()
        page.keyboard.press("Escape")
        expect(page.locator("dialog")).to_have_count(0)
        expect(page.get_by_role("button", name="Cancel…")).to_be_focused()
        assert "POST" not in sent


def test_the_page_says_that_a_run_was_killed_and_shows_the_resumed_one_by_itself(
    browser: Browser, ground: Ground
) -> None:
    from playwright.sync_api import expect

    ground.give(topics(2000), slow=50)
    program = ground.run("exam")
    with ground.page(browser, "#/run/0.exam") as web:
        page = web.page
        seen = counts(page, more_than=10)
        program.kill()
        expect(page.get_by_role("alert").filter(has_text="The process of this run is gone")).to_be_visible()
        expect(page.locator(".head .pill").first).to_have_text("interrupted")
        expect(page.locator("#live")).to_contain_text("interrupted")

        ground.start("resume", "exam")
        counts(page, more_than=seen)
        expect(page.locator(".head .pill").first).to_have_text("running")
        expect(page.get_by_role("alert").filter(has_text="gone")).to_have_count(0)


def test_the_page_says_that_its_server_is_gone_and_goes_on_when_it_is_back(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(2000), slow=50)
    ground.run("exam")
    with ExitStack() as first:
        port = first.enter_context(serving(ground.results)).port
        with watched(browser, f"http://127.0.0.1:{port}/#token={TOKEN}") as web:
            web.expected.append("ERR_CONNECTION_|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_EMPTY_RESPONSE")
            page = web.page
            page.get_by_role("link", name="exam").click()
            seen = counts(page, more_than=0)
            first.close()
            expect(page.locator("#connection")).to_contain_text("does not answer")
            with serving(ground.results, port=port):
                expect(page.locator("#connection")).to_be_hidden()
                counts(page, more_than=seen)


def test_the_log_is_followed_and_filtered(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(2000), slow=50)
    ground.run("exam")
    with ground.page(browser, "#/run/0.exam/log") as web:
        page = web.page
        lines = page.locator(".log-line")
        expect(lines.filter(has_text="[Run Started]")).to_have_count(1)
        page.get_by_role("button", name="Pause").click()
        confirm(page, "Pause")
        expect(lines.filter(has_text="[Paused]")).to_have_count(1)  # by itself
        box = page.locator(".log")
        assert box.evaluate("box => box.scrollTop + box.clientHeight >= box.scrollHeight - 2")

        page.get_by_label("Event").select_option("[Node Started]")
        expect(lines).to_have_count(2)
        page.get_by_label("Node").select_option("grader")
        expect(lines).to_have_count(1)
        expect(lines).to_contain_text("grader")
        page.get_by_label("Level").select_option("error")
        expect(page.get_by_text("No lines.")).to_be_visible()


def test_dead_letters_are_shown_by_their_reasons_and_replayed(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(20))
    assert ground.run("exam").wait() == 0
    with ground.page(browser, "#/run/0.exam/failures") as web:
        page = web.page
        groups = page.locator("section.failure")
        expect(groups).to_have_count(2)
        expect(groups.filter(has_text="ValueError")).to_contain_text("2 ValueError in grader")
        expect(groups.filter(has_text="KeyError")).to_contain_text("1 KeyError in grader")
        group = groups.filter(has_text="KeyError")
        group.locator("summary").click()
        expect(group).to_contain_text("topic 5")
        expect(group.locator(".traceback")).to_contain_text("grades.py")

        (ground.folder / "mended").touch()
        page.locator(".tools").get_by_role("button", name="Replay failed rows").click()
        said = confirm(page, "Replay")
        assert "exam" in said
        expect(page.get_by_text("No row has failed.")).to_be_visible()
        expect(page.locator(".numbers .fact", has_text="Failed")).to_contain_text("0")
        expect(page.locator(".head .pill").first).to_have_text("completed")
    assert ground.rows_done("exam") == 20


def test_runs_are_listed_filtered_and_compared(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(20))
    assert ground.run("first").wait() == 0
    ground.give(topics(20), parallel_size=3)
    (ground.folder / "mended").touch()
    program = ground.start("run", "exam.yaml", "--id", "second", "--output", "second.jsonl")
    assert program.wait() == 0
    with ground.page(browser) as web:
        page = web.page
        expect(page.locator(".run")).to_have_count(2)
        expect(page.locator(".run").first).to_contain_text("second")  # the newest first
        page.get_by_label("Filter the runs").fill("first")
        expect(page.locator(".run")).to_have_count(1)
        page.get_by_label("Filter the runs").fill("")
        page.get_by_label("Compare first").check()
        page.get_by_label("Compare second").check()
        page.get_by_role("button", name="Compare").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Two runs")
        differing = page.locator("section", has=page.get_by_role("heading", name="Settings that differ"))
        expect(differing.get_by_role("row", name="grader.parallel_size")).to_contain_text("3")


def test_a_run_in_shards_is_one_run_with_its_shards(browser: Browser, ground: Ground) -> None:
    from playwright.sync_api import expect

    ground.give(topics(40))
    (ground.folder / "mended").touch()
    assert ground.start("run", "exam.yaml", "--id", "exam", "--shards", "2").wait() == 0
    with ground.page(browser) as web:
        page = web.page
        expect(page.locator(".run")).to_have_count(1)
        expect(page.locator(".run")).to_contain_text("2 of 2 shards")
        page.get_by_role("link", name="exam").click()
        expect(page.locator(".numbers")).to_contain_text("40 of 40 rows")
        shards = page.get_by_role("region", name="The shards").locator("tbody tr")
        expect(shards).to_have_count(2)
        expect(shards.filter(has_text="completed")).to_have_count(2)
        expect(shards.first).to_contain_text("0 to ")
        expect(shards.last).to_contain_text(" to 39")
        page.get_by_role("link", name="Rows", exact=True).click()
        expect(page.locator(".rows li")).to_have_count(20)  # of both
        page.locator(".rows a").last.click()
        expect(page.locator(".member .call")).to_have_count(1)
