"""Exports as JSON lines, and as lists of chat messages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_datagen.streams.outputs.arrow import Failed
from llm_datagen.streams.outputs.column_types import MisfitError, json_text
from llm_datagen.streams.outputs.options import ExportOptions
from llm_datagen.streams.outputs.part_file import PartFile


class JsonLinesWriter:
    """Writes rows as JSON lines."""

    def __init__(self, part: PartFile) -> None:
        self._part = part

    def write(self, rows: Sequence[dict[str, Any]], failed: Failed) -> int:
        """Write the rows that can be; `failed` is told of the others. Returns how many were written."""
        lines = []
        for number, row in enumerate(rows):
            try:
                lines.append(json_text(row, "").encode())
            except MisfitError as misfit:
                failed(number, misfit)
        if lines:
            self._part.write(b"\n".join(lines) + b"\n")
        return len(lines)

    def close(self) -> None:
        """Do nothing: a file of lines has no end of its own."""


def as_messages(row: dict[str, Any], options: ExportOptions) -> dict[str, Any]:
    """Return a row as a list of chat messages.

    Raises:
        MisfitError: when it has none, and no prompt and answer either.
    """
    messages = row.get("messages")
    if messages is None:
        messages = [
            {"role": role, "content": _text(row, column)}
            for role, column in (("system", options.system), ("user", options.prompt), ("assistant", options.answer))
            if column is not None
        ]
    if not isinstance(messages, list) or not messages or not all(map(_is_message, messages)):
        raise MisfitError("messages", "messages", "it is no list of objects with a role and content")
    ids = {options.ids: row[options.ids]} if options.ids in row else {}
    return {**ids, "messages": messages}


def _text(row: dict[str, Any], column: str) -> Any:
    value = row.get(column)
    if not isinstance(value, str):
        raise MisfitError(
            column, "string", "the text of a message is missing; choose other columns as prompt, answer and system"
        )
    return value


def _is_message(message: Any) -> bool:
    return (
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and (isinstance(message.get("content"), str | list) or bool(message.get("tool_calls")))
    )
