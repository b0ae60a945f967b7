"""A real Chromium for tests: Debian's package, driven by Playwright. Tests are skipped, with the reason, without it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from .support import PATIENCE_SECONDS

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, Dialog, Page, Request

OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)

WIDE = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}


def missing() -> str:
    """Return why there is no browser to test with; empty when there is one."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "the package playwright is not installed"
    return "" if _executable() else "there is no Chromium here: apt-get install chromium"


def _executable() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser with an empty profile; skip the test when there is none."""
    if why := missing():
        pytest.skip(why)
    from playwright.sync_api import expect, sync_playwright

    expect.set_options(timeout=PATIENCE_SECONDS * 500)  # half of it, in milliseconds
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=_executable(), args=OPTIONS)
        try:
            yield browser
        finally:
            browser.close()


class Watched:
    """A page of the browser, and what it must not do: report an error, or ask anybody but its own server.

    Args:
        page: the page.
        url: the address of the server that it may ask.

    Attributes:
        page: the page.
        expected: patterns of what it may report, such as an answer that is refused on purpose.
    """

    def __init__(self, page: Page, url: str) -> None:
        self.page = page
        self.expected: list[str] = []
        self._origin = re.match(r"\w+://[^/]+", url)[0]  # type: ignore[index]
        self._errors: list[str] = []
        self._elsewhere: list[str] = []
        page.on("console", self._said)
        page.on("pageerror", lambda error: self._errors.append(str(error)))
        page.on("request", self._asked)
        page.on("dialog", self._opened)
        page.on("popup", lambda popup: self._errors.append(f"a window: {popup.url}"))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._errors.append(f"{message.text} ({message.location.get('url', '')})")

    def _opened(self, dialog: Dialog) -> None:
        self._errors.append(f"a dialog: {dialog.message}")
        dialog.dismiss()

    def _asked(self, request: Request) -> None:
        if not request.url.startswith((f"{self._origin}/", "data:", "about:")):
            self._elsewhere.append(request.url)

    def check(self) -> None:
        """Check that it has done nothing that it must not do."""
        errors = [error for error in self._errors if not any(re.search(pattern, error) for pattern in self.expected)]
        assert not errors, f"the page reports: {errors}"
        assert not self._elsewhere, f"the page asks others: {self._elsewhere}"


@contextmanager
def watched(browser: Browser, url: str, **options: Any) -> Iterator[Watched]:
    """Open an address in a new, empty context; check at the end that the page has done nothing that it must not do.

    Args:
        browser: the browser.
        url: the address.
        options: of the context, such as `viewport`.
    """
    context = browser.new_context(**{"viewport": WIDE, "reduced_motion": "reduce", **options})
    try:
        context.set_default_timeout(PATIENCE_SECONDS * 500)
        found = Watched(context.new_page(), url)
        found.page.goto(url)
        yield found
        found.check()
    finally:
        context.close()
