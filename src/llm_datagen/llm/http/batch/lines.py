"""The rows of a job as they are sent: made when they are needed, not kept."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence

from llm_datagen.llm.http.batch.base import BatchItem


class Lines:
    """The pieces of a body, one a row. They may be gone through more than once.

    Args:
        line: makes a line of a row.
        items: the rows.
        between: what stands between two lines.
        head: what stands before the first.
        tail: what stands behind the last.
    """

    def __init__(
        self,
        line: Callable[[BatchItem], bytes],
        items: Sequence[BatchItem],
        *,
        between: bytes = b"\n",
        head: bytes = b"",
        tail: bytes = b"\n",
    ) -> None:
        self._line = line
        self._items = items
        self._between = between
        self._head = head
        self._tail = tail

    async def length(self) -> int:
        """Return the bytes of all pieces. They are made in a thread for that: it may take a second."""
        return await asyncio.to_thread(lambda: sum(map(len, self)))

    def __iter__(self) -> Iterator[bytes]:
        before = self._head
        for item in self._items:
            yield before + self._line(item)
            before = self._between
        yield self._tail


def form(
    line: Callable[[BatchItem], bytes], items: Sequence[BatchItem], name: str, fields: Mapping[str, str]
) -> tuple[Lines, str]:
    """Return a form (multipart) with the file of the rows in it, and its content type.

    Args:
        line: makes a line of a row.
        items: the rows.
        name: of the file.
        fields: the other fields of the form.
    """
    boundary = secrets.token_hex(16)
    parts = [('name="' + field + '"', "", value + "\r\n") for field, value in fields.items()]
    parts.append((f'name="file"; filename="{name}"', "Content-Type: application/jsonl\r\n", ""))
    head = "".join(
        f"--{boundary}\r\nContent-Disposition: form-data; {told}\r\n{kind}\r\n{value}" for told, kind, value in parts
    )
    lines = Lines(line, items, head=head.encode(), tail=f"\n\r\n--{boundary}--\r\n".encode())
    return lines, f"multipart/form-data; boundary={boundary}"
