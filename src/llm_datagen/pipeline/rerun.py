"""Streams that are taken away because their nodes are done again: no crash leaves a mixture.

The mark ``reset`` in the run state says what is to be deleted, and what gets another place. It is written together
with the nodes as they are to be. Who next takes the run, whenever that is, finishes what the mark says before anything
else: each step may be done twice. While the mark is there, nothing of these streams is read.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llm_datagen.errors import PipelineExistsError, StreamMissingError
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.operator_changes import Reset
from llm_datagen.pipeline.overwrite import check_deletable, why_refused
from llm_datagen.runs import RunFolder
from llm_datagen.streams import FileStream, StreamFactory


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
    for uri in mark["delete"]:
        StreamFactory.create(uri).delete()
    if mark["delete"]:
        mark["delete"] = []
        folder.save(run_state)  # what is moved next may lie where something was deleted
    for old_uri, new_uri in mark["move"]:
        old = StreamFactory.create(old_uri)
        assert isinstance(old, FileStream)
        old.move_to(StreamFactory.create(new_uri))
    del run_state["reset"]
    folder.save(run_state)
    return run_state
