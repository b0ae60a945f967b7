"""The nodes of a run are checked and opened, before any actor is started."""

from __future__ import annotations

from contextlib import ExitStack

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.operators import Call
from llm_datagen.pipeline.early_ends import are_over, unneeded_ids
from llm_datagen.pipeline.feedback import feedback_of
from llm_datagen.pipeline.open_jobs import check_asked_by_jobs, rows_in_jobs
from llm_datagen.pipeline.operator_changes import compare
from llm_datagen.pipeline.path_checks import check_layout
from llm_datagen.pipeline.resume_checks import check_nodes
from llm_datagen.pipeline.run_files import side_files
from llm_datagen.pipeline.stored import StoredRun
from llm_datagen.runs.logs.writer import LogTarget
from llm_datagen.runs.status import Status
from llm_datagen.streams.committed_rows import CommittedRows
from llm_datagen.streams.ids import END_NAME
from llm_datagen.streams.storage.looked_at import each_looked_at_once


@each_looked_at_once()
def open_nodes(stored: StoredRun, log_file: LogTarget, undo: ExitStack) -> list[OpenedNode]:
    """Return the nodes of a run that is locked, opened. What is opened is closed by `undo`.

    Raises:
        DatagenError: when the run cannot go on; see `UnifiedPipeline.run`.
    """
    run_state, nodes = stored.state, stored.nodes
    in_jobs = rows_in_jobs(stored.folder.files_path)
    edit = compare(run_state, run_state["nodes"], [node.operator for node in nodes], in_jobs=in_jobs)
    edit.settle("refuse")  # an operator may be edited between `resume()` and `run()`, too
    node_files = [node.node_files for node in nodes]
    check_layout(node_files, log_file, stored.folder)
    check_nodes(nodes, run_state, stored.folder.results_dir)
    run_state["files"] = side_files(node_files, log_file)
    left_out = unneeded_ids(nodes)
    if run_state["status"] == Status.COMPLETED and not are_over(nodes):
        stored.save()  # its input has grown since: seals are taken off now
    opened = []
    ends = 0
    for node, entry in zip(nodes, run_state["nodes"], strict=True):
        if Call(node.operator).finish is not None:
            ends += 1
            node.end_name = END_NAME if ends == 1 else f"{END_NAME}{ends}"  # so that no two nodes give one id
        is_needed = node.node_id not in left_out
        if is_needed and node.input.read_as_is(follow=node.follow_input) and not node.is_finished():
            entry["input_fingerprint"] = node.input.fingerprint(follow=node.follow_input)
        if is_needed and not node.is_finished():
            check_asked_by_jobs(node.node_id, node.operator, stored.folder)
        opened.append(node.plan(folder=stored.folder.files_path, is_needed=is_needed))
        opened[-1].results_dir = stored.folder.results_dir
        undo.callback(opened[-1].close)
    drawn = feedback_of(nodes, streaming=run_state["config"]["streaming"])
    for each in opened:
        if each.node_id in drawn:  # all of them are recovered now
            each.feedback = CommittedRows(drawn[each.node_id].output)
            each.feedback.look()
    return opened
