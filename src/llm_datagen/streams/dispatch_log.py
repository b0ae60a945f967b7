"""The dispatch log: which source rows were handed to an operator, for ``delivery="at_most_once"``.

Beside ``out.jsonl`` lies ``out.jsonl.dispatched`` while it is unfinished, a `ChecksumChain`: ``+ start end offset
offset_end``, written *before* rows are handed out, and the same with ``-`` for rows that came back without having been
processed. After a crash, what was handed out, did not come back and is not covered by a commit is *abandoned*: nobody
knows whether the operator has seen it, so it is not handed out again. A last line without its newline was written for
rows that were never handed out. Logs of older versions, whose lines have no checksums, are read, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable

from llm_datagen.errors import StreamCorruptError
from llm_datagen.streams.checksum_chain import ChecksumChain
from llm_datagen.streams.coverage import Coverage, Span
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.position import Position
from llm_datagen.streams.storage.base import AppendFile


class DispatchLog:
    """A new dispatch log of a stream, open for writing. One thread at a time may use it.

    Args:
        stream: the stream that the rows' results go to.
        sync: whether every line is put on the medium before rows are handed out.
    """

    def __init__(self, stream: StreamFiles, *, sync: bool) -> None:
        self._file: AppendFile = stream.storage.open_append(stream.dispatched_path)
        self._sync = sync
        self._chain = ChecksumChain()

    def handed_out(self, span: Span) -> None:
        """Record, durably, that rows are about to be handed out."""
        self._write("+", span)
        if self._sync:
            self._file.sync()

    def came_back(self, span: Span) -> None:
        """Record that rows were not processed after all."""
        self._write("-", span)

    def close(self) -> None:
        """Close the file. May be called more than once."""
        self._file.close()

    def _write(self, sign: str, span: Span) -> None:
        self._file.append(self._chain.line(_text(sign, span)))


def abandoned(stream: StreamFiles, position: Position) -> list[Span]:
    """Return the rows that were handed out, did not come back, and are not covered. Only reads.

    Raises:
        StreamCorruptError: when the dispatch log cannot be read.
    """
    return [gap for span in _handed_out(stream) for gap in _not_covered(span, position.coverage)]


def forget(stream: StreamFiles, spans: Iterable[Span]) -> None:
    """Record that rows may be handed out again."""
    if stream.dispatched_path not in stream.files or stream.storage.size(stream.dispatched_path) is None:
        return
    out = _handed_out(stream)
    for span in spans:
        with contextlib.suppress(LookupError):
            out.remove(span)
    chain = ChecksumChain()
    lines = b"".join(chain.line(_text("+", span)) for span in out)
    stream.storage.replace(stream.dispatched_path, lines, sync=True)


def _text(sign: str, span: Span) -> bytes:
    return f"{sign} {' '.join(map(str, span))}".encode()


def _handed_out(stream: StreamFiles) -> Coverage:
    """Return the rows that were handed out, and did not come back."""
    if stream.dispatched_path not in stream.files:
        return Coverage()
    lines = (stream.storage.read_all(stream.dispatched_path) or b"").split(b"\n")[:-1]
    is_chained = not lines or lines[0][:1] not in {b"+", b"-"}
    chain, out = ChecksumChain(), Coverage()
    for number, line in enumerate(lines, start=1):
        try:
            sign, *numbers = (chain.read(line) if is_chained else line).decode("ascii").split(" ")
            span = Span(*map(int, numbers))
            if sign not in {"+", "-"}:
                raise ValueError(f"{sign!r} is neither + nor -")
        except (ValueError, TypeError) as error:
            raise StreamCorruptError(
                f"{stream.dispatched_path}, line {number}: this does not say which rows were handed out ({error}); "
                "restore the file, or start afresh with if_exists='overwrite'"
            ) from error
        if sign == "+":
            out.add(span)
        else:
            with contextlib.suppress(LookupError):
                out.remove(span)
    return out


def _not_covered(span: Span, coverage: Coverage) -> list[Span]:
    left: list[Span] = []
    start, offset = span.start, span.offset
    for done in coverage:
        if done.end <= start or done.start >= span.end:
            continue
        if done.start > start:
            left.append(Span(start, done.start, offset, done.offset))
        start, offset = done.end, done.offset_end
    if start < span.end:
        left.append(Span(start, span.end, offset, span.offset_end))
    return left
