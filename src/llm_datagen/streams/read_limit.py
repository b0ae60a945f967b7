"""How far a stream may be read.

* sealed: to its end;
* with a commit log: to the last valid commit, and no further;
* neither (another program writes it): to its last whole line.
"""

from __future__ import annotations

from typing import NamedTuple

from llm_datagen.errors import StreamChangedError, StreamMissingError
from llm_datagen.streams.commit_log import read_log
from llm_datagen.streams.location import StreamFiles
from llm_datagen.streams.seal import Seal


class ReadLimit(NamedTuple):
    """How far a stream may be read now.

    Attributes:
        limit: bytes that may be read.
        ended: whether there will never be more.
    """

    limit: int
    ended: bool


def readable(stream: StreamFiles, *, follow: bool) -> ReadLimit | None:
    """Return how far a stream may be read now, as `Stream.readable`."""
    # The seal is looked for before the size is taken: after it, the size cannot change.
    done = stream.storage.read_all(stream.done_path)
    seal = None if done is None else Seal.parse(done)
    logged = None if seal is not None else read_log(stream.storage, stream.commits_path)
    size = stream.storage.size(stream.path)
    if size is None:
        if done is None and logged is None:
            return None
        raise StreamMissingError(
            f"{stream.path} is gone, though {stream.commits_path if done is None else stream.done_path} is there; "
            "restore it, or start afresh with if_exists='overwrite'"
        )
    if seal is not None:
        if seal.size != size:
            raise StreamChangedError(
                f"{stream.path} has {size} bytes, but {seal.size} when it was sealed: it was changed since; "
                f"restore it, or unseal() it (remove {stream.done_path}) if the change is meant"
            )
        return ReadLimit(size, ended=True)
    if logged is not None:  # also under a seal that another program made
        return ReadLimit(logged[1].bytes, ended=done is not None or not follow)
    if done is None and stream.is_sealed():  # sealed between the two looks
        return readable(stream, follow=follow)
    return ReadLimit(size, ended=done is not None or not follow)
