"""What the fake batch APIs send back, and what they are asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, TypeVar

import orjson

from llm_datagen.testing.fake_llm.batch.desk import Desk
from llm_datagen.testing.fake_llm.shapes import Shape

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read: `path` without its query, `query` by name, `origin` such as ``http://127.0.0.1:80``."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes = field(repr=False)
    origin: str

    def json(self) -> Any:
        """Return the body as JSON data."""
        return orjson.loads(self.body)


@dataclass(frozen=True, slots=True)
class Reply:
    """What is sent back. `breaks`: the connection is reset in its place, or closed after half of it."""

    status: int = 200
    body: bytes = field(default=b"{}", repr=False)
    headers: str = ""
    breaks: Literal["", "reset", "half"] = ""


class BatchApi(Protocol):
    """One batch API."""

    @property
    def shape(self) -> Shape:
        """How it puts errors."""

    def answer(self, asked: Asked) -> Reply | None:
        """Carry out a request; None when it is not one of this API.

        Raises:
            RefusedError: when it cannot be carried out.
        """


RESET = Reply(breaks="reset")


def json_reply(data: Any, headers: str = "") -> Reply:
    """Return a reply of JSON."""
    return Reply(200, orjson.dumps(data), headers)


def lines_of(records: Iterable[Any]) -> bytes:
    """Return a file of JSON lines; empty for none."""
    return b"".join(orjson.dumps(each) + b"\n" for each in records)


def download(desk: Desk, body: bytes) -> Reply:
    """Return a file, or what a fault leaves of it."""
    fault = desk.options.faults.of_download(desk.draw("download"))
    if fault == "truncated":
        return Reply(200, body, breaks="half")
    if fault == "short":
        lines = body.splitlines(keepends=True)
        return Reply(200, b"".join(lines[: len(lines) // 2]))
    return Reply(200, body)


def submitted(fault: str | None, reply: Reply, failed: bytes) -> Reply:
    """Return the reply to a submit: the acknowledgement, or what a fault leaves of it."""
    if fault in ("drop_before", "drop_after", "register_late"):
        return RESET
    return Reply(500, failed) if fault == "error_after" else reply


def rfc3339(time: float | None) -> str | None:
    """Return a time as RFC 3339 has it."""
    return None if time is None else datetime.fromtimestamp(time, UTC).isoformat().replace("+00:00", "Z")


def page_size(asked: Asked, name: str, default: int, most: int, desk: Desk) -> int:
    """Return how many entries a page has: as asked, and no more than the API and the server allow."""
    return min(int(asked.query.get(name, default)), most, desk.options.per_page)


def after(entries: Sequence[T], ids: Sequence[str], cursor: str | None) -> Sequence[T]:
    """Return the entries behind the one with an id; all when there is no cursor."""
    return entries if cursor is None or cursor not in ids else entries[ids.index(cursor) + 1 :]
