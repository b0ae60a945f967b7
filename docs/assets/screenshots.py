"""Make ui-run.png and ui-rows.png, the pictures of the page of runs: ``python docs/assets/screenshots.py [FOLDER]``.

A run with a fake endpoint is served by ``llm-datagen ui`` and looked at in Chromium, which must be installed. It takes
half a minute. The pictures are written beside this file, or to the folder that is given.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from playwright.sync_api import sync_playwright

from llm_datagen.testing import FakeLLMServer, Latency

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent
LARGEST_BYTES = 150_000
ROWS = 4_000
ROWS_TO_LOOK_AT = 1_600
"""The first picture is made when so many topics are done."""

PIPELINE = """
input_uri: topics.jsonl
output_uri: questions.jsonl
streaming: true
on_error: dead_letter
log_file: platform.log
nodes:
  write:
    use: llm.LLMOperator
    from: input
    parallel_size: 24
    with:
      name: WriteQuestion
      system: You write exam questions for adults. One sentence, no preamble.
      prompt: "Topic: {{ topic }}. Level {{ level }} of 5."
      model: gpt-4o-mini
      output: question
      params: {max_tokens: 80}
      prices: {input: 0.15, output: 0.6}
      budget: {usd: 0.5}
      cache: answers.sqlite
      cache_by: row
  judge:
    use: llm.LLMOperator
    from: write
    parallel_size: 12
    with:
      name: JudgeQuestion
      prompt: "Rate this question from 1 to 5.\\n\\n{{ question }}"
      model: gpt-4o-mini
      output: {type: object, properties: {score: {type: integer}}, required: [score]}
      params: {max_tokens: 60}
      prices: {input: 0.15, output: 0.6}
      cache: answers.sqlite
      cache_by: row
  good:
    use: ops.Keep
    from: judge
    to: output
    with: {condition: score >= 3}
"""

TOPICS = ["tides", "glaciers", "monsoons", "coral reefs", "volcanoes", "river deltas", "permafrost", "salt marshes"]
QUESTIONS = [
    "What makes {} change within a single day, and how would you measure it?",
    "Which two forces shape {} most, and which of them can people alter?",
    "How would {} look in a hundred years if the sea rose by one metre?",
    "Why do maps of {} from 1900 differ from those of today?",
]


CHOOSE = random.Random(7)


def answer(messages: Sequence[Mapping[str, Any]]) -> object:
    """Answer as a model would: a question, or a score; now and then, of the wrong form."""
    text = messages[-1]["content"]
    if text.startswith("Rate"):
        return "It is good." if CHOOSE.random() < 0.005 else {"score": CHOOSE.randint(1, 5)}
    return CHOOSE.choice(QUESTIONS).format(text.partition(": ")[2].partition(".")[0])


def command(*arguments: str, folder: Path, **options: Any) -> subprocess.Popen[str]:
    """Start the command line in a folder."""
    return subprocess.Popen([sys.executable, "-m", "llm_datagen.cli", *arguments], cwd=folder, text=True, **options)


def rows_done(folder: Path) -> int:
    """Return how many topics are done."""
    path = folder / "results" / "exam-questions" / "runtime.json"
    return json.loads(path.read_bytes())["nodes"][0]["rows_in"] if path.exists() else 0


def opened(browser: Browser, url: str, colours: Any, height: int) -> Page:
    """Open the page in a window of its own."""
    page = browser.new_context(
        viewport={"width": 1280, "height": height}, color_scheme=colours, reduced_motion="reduce"
    ).new_page()
    page.goto(url)
    page.get_by_role("link", name="exam-questions").click()
    page.locator(".graph .node").first.wait_for()
    return page


def kept(page: Page, path: Path) -> None:
    """Write a picture of the window."""
    page.mouse.move(0, 0)
    page.screenshot(path=path)
    assert path.stat().st_size < LARGEST_BYTES, f"{path} has {path.stat().st_size} bytes"


def main() -> None:
    """Run, look, and make the pictures."""
    pictures = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    with (
        tempfile.TemporaryDirectory() as name,
        FakeLLMServer(answer=answer, latency=Latency(seconds=0.2)) as endpoint,
        sync_playwright() as playwright,
    ):
        folder = Path(name)
        topics = ({"topic": CHOOSE.choice(TOPICS), "level": CHOOSE.randint(1, 5), "n": n} for n in range(ROWS))
        (folder / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in topics))
        (folder / "exam.yaml").write_text(PIPELINE)
        environment = {**os.environ, "OPENAI_BASE_URL": endpoint.base_url, "OPENAI_API_KEY": "k"}
        results = ["--results-dir", "results"]
        run = command("run", "exam.yaml", "--id", "exam-questions", *results, folder=folder, env=environment,
                      stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        while rows_done(folder) < ROWS_TO_LOOK_AT and run.poll() is None:
            time.sleep(0.2)
        ui = command("ui", "results", folder=folder, stdout=subprocess.PIPE)
        assert ui.stdout is not None
        url = ui.stdout.readline().split()[-1]
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"),
            args=["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"],
        )
        try:
            page = opened(browser, url, "light", 1060)
            page.locator(".chart svg").first.wait_for()
            time.sleep(1)
            kept(page, pictures / "ui-run.png")
            page = opened(browser, url, "dark", 860)
            page.get_by_role("link", name="Rows", exact=True).click()
            page.locator(".rows a").nth(4).click()
            page.locator(".member").nth(2).wait_for()
            kept(page, pictures / "ui-rows.png")
        finally:
            browser.close()
            for process in (ui, run):
                process.terminate()
                process.wait()
            ui.stdout.close()


if __name__ == "__main__":
    main()
