"""Make live-table.svg, the picture of the README: a run at a terminal, stopped with Ctrl+C and resumed.

It is a recording: the command line runs in a pseudo-terminal, with a fake endpoint that takes its time, and
rich turns what the terminal shows in the end into SVG. It takes half a minute: ``python docs/assets/live_table.py``.
"""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import random
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from llm_datagen.testing import FakeLLMServer, Latency

PICTURE = Path(__file__).with_name("live-table.svg")
COLUMNS, LINES = 110, 40
ROWS = 3_000
ROWS_TO_CTRL_C = 1_100
"""Ctrl+C comes when so many questions are written."""
PIPELINE = """
input_uri: jsonl://documents.jsonl
output_uri: jsonl://questions.jsonl
streaming: true
parallel_size: 50
operators:
  - steps:long_enough
  - use: llm_datagen.llm:LLMOperator
    with:
      name: WriteQuestion
      prompt: "Write one question that this text answers: {{ text }}"
      model: small
      output: question
      params: {max_tokens: 60}
      prices: {input: 0.15, output: 0.6}
      budget: {usd: 5.0}
      cache: answers.sqlite
  - use: llm_datagen.llm:LLMOperator
    with:
      name: JudgeQuestion
      prompt: "Does the text answer the question? {{ question }} {{ text }}"
      model: small
      output: {type: object, properties: {verdict: {enum: ["yes", "no"]}}, required: [verdict]}
      params: {max_tokens: 60}
      prices: {input: 0.15, output: 0.6}
  - steps:good
"""
STEPS = """
def long_enough(row):
    return row if len(row["text"]) > 80 else None


def good(row):
    return row if row["verdict"] == "yes" else None
"""


def answer(messages: Sequence[Mapping[str, Any]]) -> object:
    """Answer as a model would: a question, or a verdict."""
    text = messages[-1]["content"]
    if text.startswith("Does"):
        return {"verdict": "no" if sum(map(ord, text)) % 7 == 0 else "yes"}
    return f"What is said of {text.split()[-1]}?"


def screen(output: str) -> list[str]:
    """Return the lines that a terminal shows after `output`: as much of one as rich and the command line need."""
    lines, at = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", output):
        if part == "\n":
            at += 1
            lines += [""] * (at + 1 - len(lines))
        elif part.endswith("A") and part.startswith("\x1b"):
            at = max(0, at - int(part[2:-1] or 1))
        elif part.endswith("K") and part.startswith("\x1b"):
            lines[at] = ""
        elif part != "\r" and (part.endswith("m") or not part.startswith("\x1b")):
            lines[at] += part
    return lines


def at_terminal(*arguments: str, folder: Path, url: str, ctrl_c_after: int | None = None) -> list[str]:
    """Run the command line in a pseudo-terminal; return what that shows in the end."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, COLUMNS, 0, 0))
    environment = {"OPENAI_BASE_URL": url, "OPENAI_API_KEY": "k", "TERM": "xterm-256color", "COLORTERM": "truecolor"}
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_datagen.cli", *arguments],
        cwd=folder, env={**os.environ, **environment}, stdin=theirs, stdout=theirs, stderr=theirs,
    )  # fmt: skip
    os.close(theirs)
    output = b""
    with contextlib.suppress(OSError):  # Linux says by an error that nobody has the other end any more
        while data := os.read(ours, 65536):
            output += data
            done = re.findall(r"WriteQuest[^\n]*?([\d,]+)/", output.decode(errors="ignore"))
            if ctrl_c_after is not None and done and int(done[-1].replace(",", "")) >= ctrl_c_after:
                process.send_signal(signal.SIGINT)
                ctrl_c_after = None
    process.wait()
    os.close(ours)
    return [f"\x1b[1m$ llm-datagen {' '.join(arguments)}\x1b[0m", *screen(output.decode())]


def main() -> None:
    """Run, stop, resume, and make the picture."""
    words = ["river", "glacier", "basin", "sediment", "delta", "estuary", "current", "valley", "erosion", "plateau"]
    choose = random.Random(7)
    with tempfile.TemporaryDirectory() as name, FakeLLMServer(answer=answer, latency=Latency(seconds=0.15)) as server:
        folder = Path(name)
        texts = (" ".join(choose.choices(words, k=choose.randint(8, 40))) for _ in range(ROWS))
        (folder / "documents.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
        (folder / "questions.yaml").write_text(PIPELINE)
        (folder / "steps.py").write_text(STEPS)
        begun = at_terminal(
            "run", "questions.yaml", "--id", "questions",
            folder=folder, url=server.base_url, ctrl_c_after=ROWS_TO_CTRL_C,
        )  # fmt: skip
        ended = at_terminal("resume", "questions", folder=folder, url=server.base_url)
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True)
    for line in [*begun, *ended]:
        if line.strip():
            console.print(Text.from_ansi(line.replace(str(folder), "/data")))
    picture = console.export_svg(title="llm-datagen", clear=False)
    # No fonts from the network.
    PICTURE.write_text(re.sub(r"@font-face \{.*?\}\s*", "", picture, flags=re.DOTALL), encoding="utf-8")
    sys.stdout.write(console.export_text())


if __name__ == "__main__":
    main()
