"""A folder with a pipeline in YAML, as users have it, whose model is a fake endpoint; and its runs as processes."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import yaml

from llm_datagen.runs import RunFolder
from llm_datagen.testing import FakeLLMServer

from ...kit.chromium import Watched, watched
from ...kit.programs import Program
from ...kit.support import eventually, write_jsonl
from ...kit.web import TOKEN, cmdline, page_of, serving

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator, Page

OPERATORS = '''
from pathlib import Path


def grade(row):
    """Fails for two reasons, until a file is made; keeps every other row."""
    if not Path("mended").exists():
        if row["n"] % 10 == 3:
            raise ValueError(f"no grade for {row['topic']}")
        if row["n"] == 5:
            raise KeyError("five")
    return {**row, "grade": len(row["question"])} if row["n"] % 2 else None
'''


def topics(count: int) -> list[dict[str, Any]]:
    """Return rows, each with a number and a topic."""
    return [{"n": n, "topic": f"topic {n}"} for n in range(count)]


def question(messages: Sequence[Mapping[str, Any]]) -> str:
    """Answer a prompt."""
    return f"Why {messages[-1]['content'].split()[-1]}?"


class Ground:
    """A folder in which runs are started; use it in a ``with`` block.

    Args:
        folder: an empty folder.

    Attributes:
        answer: what the model says to some messages.
        endpoint: the fake endpoint that answers the prompts.
        results: the folder of the runs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.results = folder / "results"
        self.answer: Callable[[Sequence[Mapping[str, Any]]], str] = question
        self.endpoint = FakeLLMServer(answer=lambda messages: self.answer(messages))  # noqa: PLW0108 - a test may give another one
        self._programs: list[Program] = []

    def __enter__(self) -> Self:
        self.endpoint.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        for program in self._programs:
            program.kill()
            program.wait()
        for path in self.results.glob("*/lock"):  # what the page has started
            with contextlib.suppress(OSError, ValueError):
                self._end(RunFolder(self.results, path.parent.name))
        self.endpoint.__exit__(None, None, None)

    def _end(self, folder: RunFolder) -> None:
        if folder.lock.is_held() and (owner := folder.lock.owner()) is not None and owner.pid != os.getpid():
            os.kill(owner.pid, signal.SIGKILL)
            eventually(lambda: not folder.lock.is_held())

    def give(self, rows: Iterable[Any], *, slow: float = 0.0, **settings: Any) -> None:
        """Write the input and the pipeline.

        Args:
            rows: the input.
            slow: rows per second that the first node begins, at most; 0 for as many as it can.
            settings: of the pipeline.
        """
        write_jsonl(self.folder / "topics.jsonl", rows)
        (self.folder / "grades.py").write_text(OPERATORS)
        ask = {
            "prompt": "Ask about {{ topic }}",
            "system": "You are an examiner.",
            "model": "fake-1",
            "base_url": self.endpoint.base_url,
            "output": "question",
            "prices": {"input": 1.0, "output": 2.0},
            "cache": "answers.sqlite",
            "name": "ask",
        }
        pipeline = {
            "input_uri": "topics.jsonl",
            "output_uri": "questions.jsonl",
            "on_error": "dead_letter",
            "streaming": True,
            "log_file": "platform.log",
            "nodes": {
                "asker": {"use": "llm.LLMOperator", "with": ask, "from": "input", **({"rate": slow} if slow else {})},
                "grader": {"use": "grades:grade", "from": "asker", "to": "output"},
            },
            **settings,
        }
        (self.folder / "exam.yaml").write_text(yaml.safe_dump(pipeline))

    def start(self, *arguments: str) -> Program:
        """Start `llm-datagen` with these arguments in the folder."""
        program = Program(
            ["-m", "llm_datagen.cli", *arguments, "--results-dir", self.results],
            cwd=self.folder,
            stdout=subprocess.PIPE if "--ui" in arguments else subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._programs.append(program)
        return program

    @contextlib.contextmanager
    def page_beside(self, program: Program, browser: Browser) -> Iterator[Watched]:
        """Open the page whose address a command with ``--ui`` prints."""
        assert program.stdout is not None
        with program.stdout as lines:
            url = next(line for line in lines if line.startswith("page: ")).split()[1]
            server = page_of(program.pid)
            try:
                with watched(browser, url) as web:
                    yield web
            finally:
                os.kill(server, signal.SIGTERM)
                eventually(lambda: b"beside_run" not in cmdline(server))

    def run(self, pipeline_id: str) -> Program:
        """Start a run of the pipeline; it is there when this returns."""
        program = self.start("run", "exam.yaml", "--id", pipeline_id)
        eventually((self.results / pipeline_id / "runtime.json").exists)
        return program

    def rows_done(self, pipeline_id: str) -> int:
        """Return how many rows the first node has done, as the run state says."""
        state = json.loads((self.results / pipeline_id / "runtime.json").read_bytes())
        done = state["nodes"][0]["rows_in"]
        assert isinstance(done, int)
        return done

    @contextlib.contextmanager
    def page(self, browser: Browser, address: str = "", **options: Any) -> Iterator[Watched]:
        """Serve the runs, and open the page at an address, such as ``#/run/0.a``."""
        with serving(self.results) as client:
            url = f"http://127.0.0.1:{client.port}/"
            with watched(browser, f"{url}#token={TOKEN}", **options) as web:
                web.page.get_by_role("heading", level=1).wait_for()
                if address:
                    web.page.goto(f"{url}{address}")
                yield web


def tab(page: Page, name: str) -> Locator:
    """Return the link to a view of the run."""
    return page.get_by_role("navigation", name="Views of the run").get_by_role("link", name=name)
