"""Streams that are taken away because their nodes are done again: no crash leaves a mixture.

The mark ``reset`` in the run state says what is kept as an earlier version of the run, what is to be deleted, and what
gets another place. It is written together with the nodes as they are to be. Who next takes the run, whenever that is,
finishes what the mark says before anything else: each step may be done twice. While the mark is there, nothing of
these streams is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from llm_datagen.errors import PipelineExistsError, StreamMissingError
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.overwrite import check_deletable, why_refused
from llm_datagen.pipeline.stream_reset import Reset
from llm_datagen.runs import RunFolder
from llm_datagen.runs.file_names import ORIGIN
from llm_datagen.runs.kept_calls import forget_calls, share_calls
from llm_datagen.runs.state_file import KEEP, OPTIONS
from llm_datagen.streams import FileStream, Stream, StreamFactory


def check_reset(reset: Reset, nodes: Sequence[UnifiedNode], folder: RunFolder) -> None:
    """Check that streams can be taken away, before anything is changed.

    Args:
        reset: what is to be done.
        nodes: the nodes as they will be.
        folder: the run's, locked.

    Raises:
        PipelineExistsError: when one is an input, or another run's, or something else lies where a node will write.
        StreamBusyError: when one is being written.
        StreamMissingError: when a node that is to be done again has nothing to read.
    """
    check_deletable(reset.delete, nodes, folder)
    by_id = {node.node_id: node for node in nodes}
    for node_id, stream in reset.new:
        if stream.exists():
            raise PipelineExistsError(why_refused(by_id[node_id], folder))
    for _, old, _ in reset.moves:
        old.check_free()
    written = {node.output.place for node in nodes}
    for node in nodes:
        if node.node_id in reset.again:
            for source in node.input.read_as_is(follow=node.follow_input):
                if source.place not in written and not source.is_there():
                    raise StreamMissingError(
                        f"{source.path} is not there, so {node.node_id} cannot be done again; nothing was changed"
                    )


def finish(folder: RunFolder, run_state: dict[str, Any]) -> dict[str, Any]:
    """Do what the mark of a run state says, and take the mark away; without one, do nothing. The run is locked.

    Returns:
        The run state.

    Raises:
        StreamBusyError: when a stream is being written; DiskError: when the system refuses. The mark stays then.
    """
    mark = run_state.get("reset")
    if mark is None:
        return run_state
    if KEEP in mark:
        _keep(mark[KEEP], folder)
    for uri in mark["delete"]:
        StreamFactory.create(uri).delete()
    forget_calls(folder, mark.get("forget", ()))
    if KEEP in mark or mark["delete"]:
        mark["delete"] = []
        mark.pop(KEEP, None)
        folder.save(run_state)  # what is moved next may lie where something was deleted, or taken away
    for old, new in _pairs(mark["move"]):
        old.move_to(new)
    del run_state["reset"]
    folder.save(run_state)
    return run_state


def _keep(mark: Mapping[str, Any], folder: RunFolder) -> None:
    """Make an earlier version of the run: streams, calls, and then the run state. Each step may be done twice."""
    for old, new in _pairs(mark["share"]):
        old.share_with(new)
    for old, new in _pairs(mark["move"]):
        old.move_to(new)
    run_state = dict(mark["state"])
    version = RunFolder(folder.results_dir, run_state["pipeline_id"])
    version.lock.acquire()
    try:
        share_calls(folder, version)
        origin = folder.read(ORIGIN)
        if origin is not None:
            version.write(ORIGIN, _in_folder(origin, version))
        version.save(run_state)
    finally:
        version.lock.release()


def _in_folder(origin: bytes, folder: RunFolder) -> bytes:
    """Return what a run was started with, which says in which folder the run lies."""
    try:
        return orjson.dumps({**orjson.loads(origin), "folder": folder.location}, option=OPTIONS)
    except (ValueError, TypeError):  # whoever reads it is told
        return origin


def _pairs(uris: Sequence[Sequence[str]]) -> Iterator[tuple[FileStream, Stream]]:
    for old_uri, new_uri in uris:
        old = StreamFactory.create(old_uri)
        assert isinstance(old, FileStream)
        yield old, StreamFactory.create(new_uri)
