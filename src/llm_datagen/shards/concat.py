"""merge="concat": the outputs of all shards in one stream, with its ordinary seal, in the order of the input.

The stream is written as every stream is: a commit for each shard, after its bytes. So whatever kills the process, each
shard is in it exactly once. A mark in each commit and in the seal says which run it is of, and what it is made of::

    "gathered": {"run": id, "of": a hash of the seals of the shards, "next": the number of the next part}

What a gather has made before of shards that have run again since (a replay) is emptied first, in one step, and made
again. A stream without the mark is somebody else's, and is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from llm_datagen.errors import StreamError, StreamExistsError, StreamMissingError
from llm_datagen.shards.sealed_parts import SealedPart, bodies_of
from llm_datagen.streams import Stream, StreamFactory
from llm_datagen.streams.commit_log import CommitLog
from llm_datagen.streams.dead_letters import read_dead_letters
from llm_datagen.streams.formats.json_text import dumps
from llm_datagen.streams.position import Position
from llm_datagen.streams.recovery import check_recoverable, position_of
from llm_datagen.streams.rejected import read_rejected
from llm_datagen.streams.sidecars import check_neighbours

GATHERED = "gathered"
"""A mark: which sharded run a stream is of, which parts it is made of, and which of them is the next one."""


def concatenate(entry: Mapping[str, Any], parts: Sequence[SealedPart], owner: str) -> bool:
    """Make the output of a node from what the shards have made of it; when cut short, call it again.

    Args:
        entry: the node, in the run state of the whole.
        parts: what the shards have made, in the order of the input.
        owner: the id of the sharded run.

    Returns:
        Whether anything was done; False when it was there.

    Raises:
        StreamExistsError: when somebody else's rows are there.
        StreamChangedError: when what was made has another size. One that is gone is made again.
        StreamCorruptError, StreamChangedError: when a shard's file is not what it was.
        StreamError: when the parts cannot be one file.
        StreamBusyError: when somebody else writes it.
        DiskError: when the disk, or the store, refuses.
    """
    output = StreamFactory.output_of(entry)
    source = entry["input_uri"]
    identity = _hash_of(parts)
    check_neighbours(output)
    made = _made_by(output, owner)
    has_gone = made is not None and _has_gone(output)
    if made is not None and made["of"] == identity and output.is_sealed() and not has_gone:
        output.remove_leftovers()
        return False
    if made is None:
        check_recoverable(output, source)  # refuses what no log accounts for
        _start(output, source, _mark(owner, identity, 0))
    elif made["of"] != identity or has_gone:
        _start(output, source, _mark(owner, identity, 0))
        output.storage.remove(output.done_path)
    bodies = {body.part.number: body for body in bodies_of(parts)}
    sink = output.sink(source=source)
    try:
        for number in range(sink.position.marks[GATHERED]["next"], len(parts)):
            part = parts[number]
            seal = part.seal
            sink.append(
                bodies.get(part.number, b""),
                rows=seal.rows or 0,
                spans=part.cover(),
                filtered=seal.filtered,
                rejected=part.rejected,
                rejections=part.rejections(),
                skipped=seal.failed[0],
                dead=seal.failed[1],
                dead_letters=part.dead_letters(),
                ids=seal.ids,
                marks=_mark(owner, identity, number + 1),
            )
        sizes = [part.seal.source_size for part in parts]
        # Shards that read streams of their own have read one part each; of the input, each knows the size of all.
        total = sum if any(part.moved for part in parts) else max
        sink.seal(source_size=None if None in sizes else total(size for size in sizes if size is not None))
    finally:
        sink.close()
    return True


def check_concatenated(entry: Mapping[str, Any], parts: Sequence[SealedPart], owner: str) -> list[str]:
    """Return what is wrong with an output that `concatenate` has made: nothing, if it is what the shards have.

    Args:
        entry: the node, in the run state of the whole.
        parts: what the shards have made, in the order of the input.
        owner: the id of the sharded run.
    """
    output = StreamFactory.output_of(entry)
    seal = output.read_seal()
    mark = ((seal.marks if seal else None) or {}).get(GATHERED, {})
    if seal is None or mark.get("run") != owner:
        return [f"{output.path} is not sealed as an output of this run; gather the shards again"]
    if mark["of"] != _hash_of(parts):
        return [f"{output.path} was made of the shards as they were before; gather them again"]
    try:
        output.check_seal()
        output.verify()
        dead = sum(1 for _ in read_dead_letters(output, checked=True))
        rejected = sum(1 for _ in read_rejected(output, checked=True))
    except StreamError as error:
        return [str(error)]
    size = output.storage.size(output.errors_path) or 0
    if dead != seal.failed[1] or size != seal.failed[2]:
        return [
            f"{output.errors_path} has {dead} dead letters in {size} bytes, not {seal.failed[1]} in {seal.failed[2]}"
        ]
    if rejected > seal.position().rejected or rejected != sum(part.rejections().count(b"\n") for part in parts):
        return [f"{output.rejected_path} has {rejected} rows, not those of the shards; gather them again"]
    expected = sum(body.part.seal.size - body.skip for body in bodies_of(parts))
    rows = sum(part.seal.rows or 0 for part in parts)
    if (expected and seal.size != expected) or seal.rows != rows:
        return [f"{output.path} has {seal.rows} rows in {seal.size} bytes, and the shards have {rows} in {expected}"]
    return []


def remove_concatenated(entry: Mapping[str, Any], owner: str) -> None:
    """Remove an output that `concatenate` has made, or begun; nothing of anybody else. When cut short, do it again.

    Raises:
        StreamBusyError: when somebody writes it.
        DiskError: when the disk, or the store, refuses.
    """
    output = StreamFactory.output_of(entry)
    found = position_of(output)
    if found is None or found[1].marks.get(GATHERED, {}).get("run") != owner:
        return
    output.check_free()
    _start(output, found[0], _mark(owner, "", 0))  # goes last: until then, what is left is known by it
    for path in (output.done_path, output.errors_path, output.rejected_path, output.path, output.commits_path):
        output.storage.remove(path)


def check_free(entry: Mapping[str, Any], owner: str) -> None:
    """Check that an output may be made. Nothing is touched.

    Raises:
        StreamExistsError: when somebody else's rows are there.
    """
    output = StreamFactory.output_of(entry)
    output.check_path()
    check_neighbours(output)
    if _made_by(output, owner) is None:
        check_recoverable(output, entry["input_uri"])


def _made_by(output: Stream, owner: str) -> dict[str, Any] | None:
    """Return the mark of a stream that a gather has made; None when there is no stream.

    Raises:
        StreamExistsError: when somebody else has made it.
    """
    found = position_of(output)
    if found is None:
        if output.is_sealed():
            raise _taken(output, "another program has sealed it")
        return None
    mark: dict[str, Any] | None = found[1].marks.get(GATHERED)
    if mark is None or mark["run"] != owner:
        raise _taken(output, "no gather made it" if mark is None else f"the run {mark['run']!r} made it")
    return mark


def _has_gone(output: Stream) -> bool:
    """Return whether what was made is not there any more.

    Raises:
        StreamChangedError: when it has another size.
    """
    try:
        output.readable(follow=False)
    except StreamMissingError:
        return True
    return False


def _taken(output: Stream, why: str) -> StreamExistsError:
    return StreamExistsError(
        f"{output.path} is there already, and {why}; move or remove it, then gather again, or "
        "start the run afresh with another output"
    )


def _start(output: Stream, source: str, marks: dict[str, Any]) -> None:
    """Note that the stream is made from its first byte on. What lies there is cut off by the sink."""
    log = CommitLog(output.storage, output.commits_path, source, sync=True)
    try:
        log.start(Position(marks=marks))
    finally:
        log.close()


def _hash_of(parts: Sequence[SealedPart]) -> str:
    return hashlib.sha256(dumps([part.identity() for part in parts])).hexdigest()


def _mark(owner: str, identity: str, number: int) -> dict[str, Any]:
    return {GATHERED: {"run": owner, "of": identity, "next": number}}
