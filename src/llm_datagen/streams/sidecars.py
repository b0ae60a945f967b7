"""The files beside a stream are its own: no other stream may lie where one of them does, whoever runs it.

``a.jsonl.errors.jsonl`` holds the dead letters of ``a.jsonl``. A run that wrote its output there would have it cut or
removed by the run of ``a.jsonl``. What tells that a file is a stream of a run is the commit log or the seal beside it.
"""

from __future__ import annotations

from typing import Protocol

from llm_datagen.errors import StreamExistsError
from llm_datagen.streams.location import ERRORS_ENDING, REJECTED_ENDING, StreamFiles

WHAT_LIES_BESIDE = {
    ".done": "seal",
    ".commits": "commit log",
    ".dispatched": "dispatch log",
    ERRORS_ENDING: "dead letters",
    REJECTED_ENDING: "rejected rows",
    ".state": "state log",
    ".state.sqlite": "state",
}
"""What the files are, by what is added to the stream's path."""


class Sized(Protocol):
    """What knows the sizes of files."""

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes; None when there is none."""


def stream_at(storage: Sized, path: str) -> tuple[str, str] | None:
    """Return the stream that a file is, or belongs to, and what it is; None when it is of none."""
    if _is_stream(storage, path):
        return path, "output"
    for ending, what in WHAT_LIES_BESIDE.items():
        owner = path.removesuffix(ending)
        if owner != path and _is_stream(storage, owner):
            return owner, what
    return None


def check_neighbours(stream: StreamFiles) -> None:
    """Check that a stream to be written is no file of another stream, and that none of its files is a stream.

    Raises:
        StreamExistsError: when it is so.
    """
    for ending, what in WHAT_LIES_BESIDE.items():
        owner = stream.path.removesuffix(ending)
        if owner != stream.path and _is_stream(stream.storage, owner):
            raise StreamExistsError(
                f"{stream.path} is where the {what} of {owner} lie, a stream of another run; choose another path"
            )
        beside = f"{stream.path}{ending}"
        if beside in stream.files:
            check_beside(stream, beside, what)


def check_beside(stream: StreamFiles, path: str, what: str) -> None:
    """Check that the file at `path`, beside a stream, is no stream of another run.

    Raises:
        StreamExistsError: when it is one.
    """
    if _is_stream(stream.storage, path):
        raise StreamExistsError(
            f"{path}, where the {what} of {stream.path} would lie, is a stream of another run; choose another output"
        )


def _is_stream(storage: Sized, path: str) -> bool:
    return any(storage.size(f"{path}{ending}") is not None for ending in (".commits", ".done"))
