"""A folder with operators, an input and a pipeline in YAML; and the program, as a process of its own."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import subprocess
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import yaml

from llm_datagen.runs import RunFolder

from ..kit import programs
from ..kit.programs import Program
from ..kit.support import PATIENCE_SECONDS, eventually, lines, numbered, write_jsonl

PROGRAM = ["-m", "llm_datagen.cli"]

OPERATORS = '''
import os
import time
from pathlib import Path

from llm_datagen import BaseOperator, UnifiedPipeline


class Gate(BaseOperator):
    """Lets rows through up to one, and waits there until a file is made; a cancel ends the wait, if it may."""

    def __init__(self, at=20, *, minds_cancel=True):
        self.at, self.minds_cancel = at, minds_cancel

    def process_item(self, item, ctx):
        with open("calls", "a") as calls:
            calls.write(f"{item['n']}\\n")
        time.sleep(0.003)  # slower than what is grouped, so that rows before the gate are committed
        if item["n"] == self.at:
            Path("reached").touch()
            while not Path("go").exists() and not (self.minds_cancel and ctx.is_cancelled()):
                time.sleep(0.005)
        ctx.report_usage({"provider": "p", "model": "m", "prompt_tokens": 1, "completion_tokens": 2})
        return {**item, "passed": True}


class Needy:
    def __init__(self, model, *, size=1):
        self.size = size

    def process_item(self, item, ctx):
        return {**item, "size": self.size}


class Broken(BaseOperator):
    def __init__(self):
        raise OSError("no such model")

    def process_item(self, item, ctx):
        return item


def odd(item):
    return item if item["n"] % 2 else None


def add(item, much, key="n"):
    return {**item, key: item[key] + much}


def all_at_once(items):
    return [{**item, "of": len(items)} for item in items]


def no_seven(item):
    return check(item)


def check(item):
    if item["n"] == 7:
        raise ValueError("seven is [not] wanted")
    return item


def twice(item):
    return [{"n": item["n"], "k": k} for k in range(2)]


def picky(item):
    """Fails for two reasons, until a file is made."""
    if not Path("mended").exists():
        if item["n"] % 7 == 0:
            raise ValueError(f"{item['n']} is\\n[not] wanted\\x1b[31m")
        if item["n"] == 11:
            raise KeyError("missing")
    return item


def make_pipeline():
    return UnifiedPipeline([odd], "jsonl://in.jsonl", "jsonl://out.jsonl")


def make_created():
    return make_pipeline().create("mine")


def make_none():
    return None


def make_with(argument):
    return make_pipeline()


def make_badly():
    raise LookupError("no key")


pipeline = UnifiedPipeline([odd, Gate(21)], "jsonl://in.jsonl", "jsonl://out.jsonl", streaming=True)
needy = Needy("tiny")
'''


class Shell:
    """A working directory, with `ops.py`, `in.jsonl`, and YAML files.

    Args:
        folder: an empty folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = folder / "out.jsonl"
        (folder / "ops.py").write_text(OPERATORS)
        write_jsonl(folder / "in.jsonl", numbered(50))

    def yaml(self, operators: list[Any], name: str = "p.yaml", **settings: Any) -> str:
        """Write a pipeline, and return the file's name."""
        content = {"input_uri": "jsonl://in.jsonl", "output_uri": "jsonl://out.jsonl", "operators": operators}
        (self.folder / name).write_text(yaml.safe_dump({**content, **settings}))
        return name

    def text(self, text: str, name: str = "p.yaml") -> str:
        """Write a file, and return its name."""
        (self.folder / name).write_text(textwrap.dedent(text))
        return name

    def environment(self, **variables: str) -> dict[str, str]:
        """Return the environment of the program."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LLM_DATAGEN")}
        return {**kept, "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "120", **variables}

    def run(self, *arguments: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the program to its end."""
        environment = self.environment(**variables)
        return programs.run([*PROGRAM, *arguments], cwd=cwd or self.folder, env=environment, timeout=PATIENCE_SECONDS)

    @contextlib.contextmanager
    def started(self, *arguments: str) -> Iterator[Program]:
        """Start the program; kill it, if it still runs in the end."""
        with Program(
            [*PROGRAM, *arguments],
            cwd=self.folder,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def reach(self) -> None:
        """Wait until the gate is reached."""
        eventually((self.folder / "reached").exists, "the gate is reached")

    def open_gate(self) -> None:
        """Let all rows through."""
        (self.folder / "go").touch()

    def mend(self) -> None:
        """Let `picky` take all rows."""
        (self.folder / "mended").touch()

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the output, in the order of the input."""
        return sorted(lines(self.output), key=lambda row: row["n"])

    def calls(self) -> list[int]:
        """Return which rows the gate saw, in order of their numbers, once for each call."""
        return sorted(map(int, (self.folder / "calls").read_text().split()))


class Terminal:
    """The program at a terminal.

    Args:
        shell: where it runs.
        arguments: what is typed.

    Attributes:
        process: the program.
        shown: what was drawn so far.
    """

    def __init__(self, shell: Shell, *arguments: str) -> None:
        self._screen, terminal = pty.openpty()
        self.process = Program(
            [*PROGRAM, *arguments],
            cwd=shell.folder,
            env=shell.environment(TERM="xterm-256color"),
            stdin=terminal,
            stdout=terminal,
            stderr=terminal,
        )
        os.close(terminal)
        self.shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._screen)

    def read_until(self, pattern: str) -> None:
        """Read what is drawn until there is something like `pattern`."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not re.search(pattern, self.shown):
            is_going_on = self._read() and time.monotonic() < deadline
            assert is_going_on, f"{pattern!r} was never drawn:\n{self.shown}"

    def read_to_end(self) -> int:
        """Read what is drawn until the program ends, and return its exit code."""
        while self._read():
            pass
        return self.process.wait(PATIENCE_SECONDS)

    def _read(self) -> bool:
        ready, _, _ = select.select([self._screen], [], [], PATIENCE_SECONDS)
        assert ready, f"nothing is drawn any more:\n{self.shown}"
        try:
            drawn = os.read(self._screen, 65536)
        except OSError:  # nobody has the terminal open any more
            return False
        self.shown += drawn.decode(errors="replace")
        return bool(drawn)


def forget_operators(folder: Path) -> None:
    """Make of a run state one of an earlier version, which does not say how its operators are made."""
    run = RunFolder(folder.parent, folder.name)
    run_state = run.load()
    for entry in run_state["nodes"]:
        del entry["operator_ref"]
    run.save(run_state)
