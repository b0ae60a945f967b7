"""What the commands print: escaped for people, and never the reason that a command fails."""

from __future__ import annotations

import errno
import io
import json
import sys
from typing import Any, TextIO

import orjson

from llm_datagen.errors.escape import escape, escape_json
from llm_datagen.runs.display import terminal

_to_stderr = False


def leave_stdout_to_rows(is_so: bool) -> None:
    """Write messages to standard error from now on, or to standard output again."""
    global _to_stderr  # noqa: PLW0603 - a process has one standard output
    _to_stderr = is_so


def is_terminal() -> bool:
    """Return whether standard output is a terminal that can be drawn on."""
    return not _to_stderr and terminal.is_terminal(sys.stdout)


def write(text: str = "") -> None:
    """Write a line to standard output, at once, with control characters escaped."""
    print(escape(text), flush=True, file=sys.stderr if _to_stderr else sys.stdout)


def write_beside(text: str) -> None:
    """Write a line to standard error, at once, with control characters escaped."""
    print(escape(text), flush=True, file=sys.stderr)


def write_json(data: Any) -> None:
    """Write data as indented JSON to standard output; control characters in its strings are escaped."""
    try:
        text = orjson.dumps(data, default=str, option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS).decode()
    except TypeError:  # an integer of more than 64 bits, a lone surrogate
        text = json.dumps(data, default=str, indent=2, ensure_ascii=False)
    print(escape_json(text), flush=True)


def write_json_line(line: bytes) -> None:
    """Write a line that is JSON already to standard output, in the same way."""
    print(escape_json(line.decode(errors="backslashreplace")), flush=True)


def keep_output_from_failing() -> None:
    """Let standard output and standard error take every text, and survive a closed pipe or a full disk.

    What the encoding of the terminal lacks is written as an escape. When nobody reads any more (``| head``), or the
    disk is full, the rest goes nowhere: the run that is shown goes on, and the exit code is its own.
    """
    sys.stdout = _unfailing(sys.stdout)
    sys.stderr = _unfailing(sys.stderr)


def _unfailing(stream: TextIO) -> TextIO:
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # closed before we began, or of somebody's own making
        return stream
    return io.TextIOWrapper(
        io.BufferedWriter(_Sink(number)),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering if isinstance(stream, io.TextIOWrapper) else False,
    )


class _Sink(io.FileIO):
    """A file that drops what is written to it."""

    def __init__(self, number: int) -> None:
        super().__init__(number, "w", closefd=False)
        self._is_lost = False

    def write(self, data: Any, /) -> int:
        if not self._is_lost:
            try:
                return super().write(data)
            except OSError as error:
                self._is_lost = True
                if error.errno != errno.EPIPE and self.fileno() != 2:
                    print(f"llm-datagen: standard output cannot be written: {error.strerror}", file=sys.stderr)
        return memoryview(data).nbytes


def shown_row(row: Any) -> str:
    """Return a row as JSON in one line, with its `_meta` abbreviated, which grows with each node."""
    from llm_datagen.streams.formats.json_values import shown

    return shown({**row, "_meta": "…"} if isinstance(row, dict) and row.get("_meta") else row)
