"""What is noted of an input when it is split into parts, and whether it is still so."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from llm_datagen.streams.inputs.file_set_cursor import FILE_STRIDE
from llm_datagen.streams.inputs.whole_file import difference, fingerprint_of
from llm_datagen.streams.stream import Stream


@runtime_checkable
class Recognised(Protocol):
    """An input that knows by itself what it was: files of a set, and objects in a store."""

    def fingerprint(self, *, follow: bool) -> Any:
        """Return what tells later whether it was changed, as plain data."""

    def changed_since(self, known: Any) -> str | None:
        """Return what it is that is not what it was, for people; None when it is."""


def noted_of(stream: Stream) -> Any:
    """Return what tells later whether an input was changed, as plain data. Of a file, all must stay, as it was."""
    if isinstance(stream, Recognised):
        return stream.fingerprint(follow=False)
    return fingerprint_of(stream)


def files_of_part(first: int, last: int) -> tuple[int, int]:
    """Return the numbers of the first of many files in which rows of a part lie, and of the one behind the last.

    A part has at least one, so that there is something to look at: that without rows, which may be in front of a file.

    Args:
        first: the address of the first row.
        last: the address behind the last one.
    """
    begin = first // FILE_STRIDE
    return begin, max(begin + 1, -(-last // FILE_STRIDE))


def noted_of_part(known: Any, first: int, last: int) -> Any:
    """Return what `noted_of` would of a part of the input: of many files, those in which its rows lie.

    Args:
        known: what it has returned of the input.
        first: the address of the first row.
        last: the address behind the last one.
    """
    if not isinstance(known, dict) or "files" not in known:
        return known
    begin, end = files_of_part(first, last)
    return {**known, "files": known["files"][begin:end]}


def changed_since(stream: Stream, known: Any) -> str | None:
    """Return what an input is that is not what it was, for people; None when it is. It may grow at its end.

    Args:
        stream: the input, or the files of it that are wanted.
        known: what was noted of it.
    """
    if isinstance(stream, Recognised):
        return stream.changed_since(known)
    return difference(stream.storage, stream.path, known)
