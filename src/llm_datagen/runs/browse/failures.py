"""Rows that failed, in groups: which node, of what, how many, and one of them each. `llm-datagen errors` shows them."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llm_datagen.errors import StreamError, StreamMissingError
from llm_datagen.runs.browse.examples import example_of
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.ids import Id
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import position_of

_SHAPE_CHARS = 400
_VARYING = re.compile(r"""'[^'\n]*'|"[^"\n]*"|`[^`\n]*`|\d[\w.,]*""")
_FRAME = re.compile(r'^  File "(?P<file>[^"\n]*)", line (?P<line>\d+), in .*\n(?:    (?P<code>.*)\n)?', re.MULTILINE)


@dataclass(slots=True, kw_only=True)
class DeadLetterGroup:
    """Rows that failed in the same node of the same cause: an error of the same kind, with the same message.

    Messages are the same that differ only in numbers, ids, and what is quoted.

    Attributes:
        node_id: the node.
        operator: its operator's identity.
        kind: the kind of error.
        count: how many rows.
        text: the message of the first one; for an error without a message, where it was raised.
        row_id: its id.
        input: what the operator was given; the record as text, when it could not be parsed. Long ones are shortened.
        is_cut: whether it was: all of it is in `file`, and where the row came from.
        file: where the dead letters are.
        trace: the traceback of the first one, of a bug in an operator; else "".
    """

    node_id: str
    operator: str
    kind: str
    count: int = 0
    text: str
    row_id: Id
    input: Any = field(repr=False)
    is_cut: bool = False
    file: str
    trace: str = field(default="", repr=False)


_GROUPS = 200
"""Causes per node that are listed one by one."""

_OTHERS = "(and other messages)"


def failure_groups(entries: Iterable[Mapping[str, Any]]) -> list[DeadLetterGroup]:
    """Return the dead letters of some nodes in groups, the largest first.

    All are read, one at a time: memory is for the groups.

    Args:
        entries: the nodes, in run states; of a run in shards, those of all shards.

    Raises:
        StreamError: when dead letters cannot be read.
    """
    by_node: dict[str, dict[tuple[str, str], DeadLetterGroup]] = {}
    for entry in entries:
        stream = StreamFactory.output_of(entry)
        groups = by_node.setdefault(entry["node_id"], {})
        for dead_letter in read_dead_letters(stream, position=committed(stream, entry) or Position()):
            kind, text = dead_letter["error"]["kind"], _reason_of(dead_letter["error"])
            cause = (kind, _shape_of(text))
            if cause not in groups and len(groups) >= _GROUPS:
                text = f"{_OTHERS} {text}"
                cause = (kind, _OTHERS)
            if cause not in groups:
                example, is_cut = example_of(dead_letter.get("raw", dead_letter.get("input")))
                groups[cause] = DeadLetterGroup(
                    node_id=entry["node_id"],
                    operator=entry["operator"],
                    kind=kind,
                    text=text,
                    row_id=dead_letter["_i"],
                    input=example,
                    is_cut=is_cut,
                    file=str(Path(stream.errors_path).absolute()),
                    trace=str(dead_letter["error"].get("trace", "")),
                )
            groups[cause].count += 1
    found = [group for groups in by_node.values() for group in groups.values()]
    return sorted(found, key=lambda group: -group.count)


def _shape_of(text: str) -> str:
    """Return a message without what varies from row to row: numbers, ids, and what is quoted.

    A message that is nothing else, such as that of a KeyError, is itself.
    """
    begin = text[:_SHAPE_CHARS]
    shape = _VARYING.sub("…", begin)
    return shape if any(sign.isalpha() for sign in shape) else begin


def _reason_of(error: dict[str, Any]) -> str:
    """Return the message of an error; of one without a message, where it was raised."""
    text = str(error["text"])
    if text.strip():
        return text
    frames = list(_FRAME.finditer(str(error.get("trace", ""))))
    if not frames:
        return "(no message)"
    last = frames[-1]
    code = f": {last['code'].strip()}" if last["code"] else ""
    return f"(no message) at {last['file']}, line {last['line']}{code}"


def each_failure(entries: Iterable[tuple[int | None, Mapping[str, Any]]]) -> Iterator[dict[str, Any]]:
    """Yield each dead letter as data, one at a time: no more than one is in memory.

    Args:
        entries: the nodes, each with the number of the shard, or None.

    Raises:
        StreamError: when dead letters cannot be read.
    """
    for shard, entry in entries:
        stream = StreamFactory.output_of(entry)
        source = StreamFactory.input_of(entry)
        for dead_letter in read_dead_letters(stream, position=committed(stream, entry) or Position()):
            where = ""
            with contextlib.suppress(OSError, StreamError):  # missing or unreadable; the row is known all the same
                where = source.line_place(dead_letter["source"][1])
            yield {
                **({} if shard is None else {"shard": shard}),
                "node_id": entry["node_id"],
                "row_id": dead_letter["_i"],
                "where": where,
                "kind": dead_letter["error"]["kind"],
                "text": _reason_of(dead_letter["error"]),
                "input": dead_letter.get("raw", dead_letter.get("input")),
            }


def committed(stream: Stream, entry: Mapping[str, Any]) -> Position | None:
    """Return the position of the stream that a node of a run state writes; None when it has not begun.

    Raises:
        StreamMissingError: when it has begun, and nothing of it is to be found.
    """
    found = position_of(stream) or position_of(stream)  # a stream that is sealed between two looks has both
    if found is None and entry.get("rows_in") and not stream.exists() and not stream.is_in_memory:
        raise StreamMissingError(
            f"{stream.path}, which {entry['node_id']} has written, is not there; relative paths count from the "
            "directory in which the run was started: go there, or restore the file"
        )
    return found[1] if found else None
