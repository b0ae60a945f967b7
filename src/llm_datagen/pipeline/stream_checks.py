"""What a node looks at before it begins, or goes on where it was. Nothing is changed; what does not fit is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from llm_datagen.errors import StreamBusyError, StreamChangedError, StreamMissingError
from llm_datagen.runs.status import Status
from llm_datagen.streams import Stream
from llm_datagen.streams.dead_letters import check_dead_letters
from llm_datagen.streams.inputs.file_set import FileSet
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import CHECK_WHOLE_BYTES, position_of
from llm_datagen.streams.storage.local import LocalStorage


def check_input(source: Stream) -> None:
    """Check that an input which is to be read as it is can be."""
    if not source.is_there():
        if isinstance(source.data, FileSet):
            raise source.data.missing()
        raise StreamMissingError(
            f"{source.path} does not exist; check the path of the input{where_paths_begin(source)}"
        )
    if not source.is_sealed() and source.storage.size(source.commits_path) is not None:
        raise StreamBusyError(
            f"{source.path} is the unfinished output of another run ({source.commits_path} is there), so it is not "
            "the whole input yet; finish that run first, or say follow_input=True to wait for its end"
        )


def where_paths_begin(source: Stream) -> str:
    """Return what an error says of relative paths; nothing of a stream that is no file of this machine."""
    if not isinstance(source.storage, LocalStorage):
        return ""
    return f" (relative paths count from the working directory, {Path.cwd()})"


def check_finished(output: Stream, size: int, made_from: str, source_uri: str) -> None:
    """Check that a sealed output is what its seal says, and was made from this input."""
    found = output.storage.size(output.path)
    if found != size:
        what = "is gone" if found is None else f"has {found} bytes"
        raise StreamChangedError(
            f"{output.path} {what}, but it had {size} bytes when it was sealed; restore it, or start afresh with "
            "if_exists='overwrite'"
        )
    output.verify(whole=False)
    if made_from != source_uri:
        raise StreamChangedError(
            f"{output.path} is finished and was made from {made_from!r}, not from {source_uri!r}; choose another "
            "output, or delete it"
        )


def check_dead_letters_of(output: Stream, position: Position) -> None:
    """Check that the dead letters can be read; as with rows, only those of a file that is not too long.

    A stream that goes on may have more than were committed, which are cut off; one that is sealed may not. A seal that
    another program made says nothing of dead letters, so it does not count.
    """
    size = output.storage.size(output.errors_path) or 0
    if output.read_seal() is not None and size > position.errors_bytes:
        raise StreamChangedError(
            f"{output.errors_path} has {size} bytes, but {position.errors_bytes} when the output was sealed: "
            "something was added since; restore it, or start afresh with if_exists='overwrite'"
        )
    if position.errors_bytes <= CHECK_WHOLE_BYTES:
        check_dead_letters(output)
    rejected = output.storage.size(output.rejected_path) or 0
    if output.read_seal() is not None and rejected != position.rejected_bytes:
        raise StreamChangedError(
            f"{output.rejected_path} has {rejected} bytes, but {position.rejected_bytes} when the output was sealed: "
            "it was changed since; restore it, or start afresh with if_exists='overwrite'"
        )


def counts_of(output: Stream, *, is_finished: bool) -> dict[str, Any]:
    """Return what the streams of a node say of it, by the names of a `NodeReport`."""
    found = position_of(output)
    position = found[1] if found else Position()
    return {
        "rows_in": position.coverage.rows,
        "rows_out": position.rows,
        "filtered": position.filtered,
        "rejected": position.rejected,
        "skipped": position.skipped,
        "dead_letters": position.dead,
        "failed": position.skipped + position.dead,
        "status": Status.COMPLETED if is_finished else Status.PENDING,
    }
