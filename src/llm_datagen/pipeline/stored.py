"""The life of a run on the disk: created, and made ready to go on. A part of both kinds of pipelines."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from llm_datagen.config import IfExists, OnChange, OnError, Verify, check_choice
from llm_datagen.errors import (
    ConfigError,
    InputWarning,
    OperatorWarning,
    PipelineExistsError,
    ResumeWarning,
    RunStateError,
)
from llm_datagen.errors.warned import warn
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.operators.import_path import refuse_lookup
from llm_datagen.operators.references import CALLS_AT_ONCE, KEEPS_STATE, ref_of, state_note
from llm_datagen.pipeline.blueprint import Blueprint, nodes_of
from llm_datagen.pipeline.early_ends import are_over
from llm_datagen.pipeline.feedback import feedback_of
from llm_datagen.pipeline.input_warnings import clash_of_ids, missing_inputs, other_separators, replaced_inputs
from llm_datagen.pipeline.lost_usage import note_lost_usage
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.node_checks import check_possible
from llm_datagen.pipeline.node_entries import new_pipeline_id
from llm_datagen.pipeline.overwrite import delete_outputs, why_refused, why_taken
from llm_datagen.pipeline.path_checks import check_claims, check_layout
from llm_datagen.pipeline.rerun import finish
from llm_datagen.pipeline.resume_checks import (
    change_limits,
    change_policy,
    count_again,
    edited_since,
    files_since,
    is_untouched,
)
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.pipeline.run_files import side_files, uses_of
from llm_datagen.pipeline.target_changes import change_target, kept_dead_letters
from llm_datagen.pipeline.topology import check_topology
from llm_datagen.runs import RunFolder
from llm_datagen.runs.exports import are_made, check_exports, forget_made, remove_exports
from llm_datagen.runs.logs.writer import LogTarget
from llm_datagen.runs.sharded import is_sharded, refuse_sharded
from llm_datagen.runs.status import LIVE, Status
from llm_datagen.runs.versions import begin_version, find_run, of_new_run, refuse_earlier, split_id
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.dead_letters import check_dead_letters, has_dead_letters, release_dead_letters
from llm_datagen.streams.storage.looked_at import each_looked_at_once, look_again


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run in its folder, ready to begin or to go on.

    Attributes:
        folder: where it lies.
        state: the run state, which the run changes.
        nodes: its nodes.
        notes: what is told when it begins.
    """

    folder: RunFolder
    state: dict[str, Any]
    nodes: list[UnifiedNode]
    notes: Sequence[StartNotice] = ()

    def save(self, *, is_complete: bool = True) -> None:
        """Save what the streams say, so that whatever happens next, the run state says no more than they hold (R1)."""
        count_again(self.state, self.nodes)
        is_complete = is_complete and are_over(self.nodes) and are_made(self.state)
        if not is_complete:
            forget_made(self.state)
        self.state["status"] = str(Status.COMPLETED if is_complete else Status.RESUMING)
        self.folder.save(self.state)


@dataclass(frozen=True, slots=True)
class RunLifecycle:
    """Makes runs of a pipeline, and makes them ready to go on.

    Attributes:
        blueprint: what the code says of the pipeline.
        results_dir: where run states lie.
        log_file: the platform log.
    """

    blueprint: Blueprint
    results_dir: str
    log_file: LogTarget

    @each_looked_at_once()
    def create(self, pipeline_id: str | None, if_exists: IfExists, on_change: OnChange) -> StoredRun:
        """Write the run state of a new run; see `UnifiedPipeline.create`."""
        if pipeline_id and self._names_version(pipeline_id, if_exists):
            return self.resume(pipeline_id, on_change=on_change)
        return self._create(pipeline_id or new_pipeline_id(), if_exists, on_change)

    def _create(self, pipeline_id: str, if_exists: IfExists, on_change: OnChange) -> StoredRun:
        run_state = self.blueprint.run_state(pipeline_id)
        clash = clash_of_ids(run_state)
        refuse_lookup("create()", in_functions=False)
        check_choice("if_exists", if_exists, IfExists)
        check_choice("on_change", on_change, OnChange)
        folder = RunFolder(self.results_dir, run_state["pipeline_id"])
        nodes = nodes_of(self.blueprint, run_state)
        check_topology(nodes)
        check_possible(nodes)
        feedback_of(nodes, streaming=run_state["config"]["streaming"])
        for entry, node in zip(run_state["nodes"], nodes, strict=True):
            entry["fingerprint"] = fingerprint_of(node.operator)
        node_files = [node.node_files for node in nodes]
        check_layout(node_files, self.log_file, folder)
        _lock(folder)
        try:
            old = _old_run_state(folder, if_exists, run_state)
            if if_exists == "overwrite" or not old:
                uses = {use.address: use.what for use in uses_of(node_files, self.log_file, folder)}
                check_exports(run_state, uses, overwrite=if_exists == "overwrite", old=old)
            if if_exists == "overwrite":
                remove_exports(old)
                remove_exports(run_state)
                delete_outputs([*old["nodes"], *run_state["nodes"]] if old else run_state["nodes"], nodes, folder)
                folder.remove_files()
            elif old and not is_untouched(old, nodes):
                if if_exists == "resume":
                    folder.lock.release()
                    return self.resume(folder.pipeline_id, on_change=on_change)
                # We have its lock, so what its run state says to be running is not.
                how = "interrupted" if old["status"] in LIVE else old["status"]
                raise PipelineExistsError(why_taken(folder, self.results_dir, how))
            for node in nodes:
                if node.output.exists():
                    raise PipelineExistsError(why_refused(node, folder))
            if if_exists != "overwrite":
                check_claims(node_files, self.log_file, folder, run_state)
            run_state.update(
                files=side_files(node_files, self.log_file), **of_new_run(self.results_dir, folder.pipeline_id)
            )
            if self.blueprint.copy_input(run_state):
                clash = clash_of_ids(run_state)
            folder.save(run_state)
        finally:
            folder.lock.release()
            folder.remove_if_unused()
        for text in missing_inputs(nodes):  # no notice: when the run begins, it is there, or the run fails of it
            warn(text, InputWarning)
        replaced = replaced_inputs(old, run_state) if old and if_exists != "overwrite" else None
        odd = [*other_separators(run_state), *([replaced] if replaced else [])]
        notes = [StartNotice(nodes[0].node_id, text) for text in odd]
        for note in notes:
            warn(note.text, InputWarning)
        if clash is not None:
            warn(clash, OperatorWarning)
            notes.append(StartNotice(nodes[-1].node_id, clash))
        return StoredRun(folder=folder, state=run_state, nodes=nodes, notes=notes)

    def _names_version(self, pipeline_id: str, if_exists: IfExists) -> bool:
        """Return whether an id is that of a version of a run, which is there and is to be resumed.

        Raises:
            ConfigError: when it is one, and a new run is to have it.
        """
        if split_id(pipeline_id) is None:
            return False
        if if_exists != "resume" or not find_run(self.results_dir, pipeline_id).exists():
            raise ConfigError(f"pipeline_id={pipeline_id!r}: @ and a number name a version of a run; choose another id")
        return True

    def resume(
        self,
        pipeline_id: str,
        *,
        on_error: OnError | None = None,
        max_errors: int | float | None = None,
        verify: Verify = "tail",
        on_change: OnChange = "refuse",
        parallel_size: int | None = None,
        rate: float | None = None,
        target: Any = None,
    ) -> StoredRun:
        """Make a run ready to go on where it stopped; see `BasePipeline.resume`."""
        with self._locked(pipeline_id) as (folder, run_state):
            before = deepcopy(run_state)
            if target is not None:
                change_target(run_state, target)
            change_policy(run_state, on_error, max_errors)
            change_limits(run_state, parallel_size, rate)
            return self._resume(folder, run_state, before, verify=verify, on_change=on_change)

    def replay(self, pipeline_id: str, *, on_change: OnChange) -> StoredRun:
        """Make a run ready to do its dead letters again; see `BasePipeline.replay`."""
        with self._locked(pipeline_id) as (folder, run_state):
            for entry in run_state["nodes"]:
                check_dead_letters(StreamFactory.create(entry["output_uri"]))
            return self._resume(folder, run_state, deepcopy(run_state), on_change=on_change, is_replay=True)

    @contextlib.contextmanager
    def _locked(self, pipeline_id: str) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
        """Keep the lock of a run, with its run state as it is once nobody else can change it."""
        refuse_lookup("resume() or replay()", in_functions=False)
        folder = find_run(self.results_dir, pipeline_id)
        run_state = folder.load()  # when there is no such run, no folder is made for its lock
        refuse_earlier(run_state, "resume")
        refuse_sharded(run_state, "resume")
        _lock(folder)
        try:
            yield folder, finish(folder, folder.load())
        finally:
            folder.lock.release()

    @each_looked_at_once()
    def _resume(
        self,
        folder: RunFolder,
        run_state: dict[str, Any],
        before: dict[str, Any],
        *,
        verify: Verify = "tail",
        is_replay: bool = False,
        on_change: OnChange,
    ) -> StoredRun:
        """Check everything, then change what is on the disk: a refusal changes nothing (M22).

        `before` is the run state as it was, without the settings that this resume gives.
        """
        from llm_datagen.pipeline.checked_resume import check_resume  # here: a new run begins without
        from llm_datagen.pipeline.kept_version import keep_version, mark_of

        checked = check_resume(
            self.blueprint, folder, run_state, self.log_file, verify=verify, on_change=on_change, is_replay=is_replay
        )
        edit, reset, nodes, remaining = checked.edit, checked.reset, checked.nodes, checked.remaining
        note_lost_usage(before, run_state, {each: edit.rows[each] + edit.dead_letters[each] for each in edit.rows})
        kept = keep_version(before, reset, folder) if on_change == "rerun" and reset is not None else None
        run_state["files"] = side_files([node.node_files for node in nodes], self.log_file)
        edit.warn()
        ignored = self.blueprint.ignored(run_state)
        changed = edited_since(remaining, run_state) + files_since(checked.read_on)
        for note in ignored:
            warn(note.text, ResumeWarning)
        for entry, node in zip(run_state["nodes"], nodes, strict=True):
            entry["operator_ref"] = ref_of(node.operator)
            entry.pop(KEEPS_STATE, None)
            entry.pop(CALLS_AT_ONCE, None)
            entry.update(state_note(node.operator))
        if reset is not None:
            run_state["status"], run_state["reset"] = str(Status.RESUMING), mark_of(reset, kept)
            if kept is not None:
                begin_version(run_state)
            folder.save(run_state)
            finish(folder, run_state)
        failed = [node for node in nodes if is_replay and has_dead_letters(node.output)]
        left_dead = kept_dead_letters(failed, nodes)
        for note in left_dead:
            warn(note.text, ResumeWarning)
        of_left = {note.node_id for note in left_dead}
        dead_letters = [node.output for node in failed if node.node_id not in of_left]
        kept_as = "" if kept is None else kept.run_state["pipeline_id"]
        notes = edit.notes(on_change, kept_as) + ignored + changed + checked.notes + left_dead
        stored = StoredRun(folder=folder, state=run_state, nodes=nodes, notes=notes)
        stored.save(is_complete=not dead_letters)  # before a stream is less than the run state says
        for node in nodes:
            node.reopen()
        for output in dead_letters:
            release_dead_letters(output)
        if dead_letters:
            stored.save()
        return stored


def _lock(folder: RunFolder) -> None:
    """Take the lock of a run. What was found before that, another process may have changed meanwhile."""
    folder.lock.acquire()
    look_again()


def _old_run_state(folder: RunFolder, if_exists: IfExists, new: dict[str, Any]) -> dict[str, Any] | None:
    """Return the run state that is there already, if one is. To be overwritten, it need not be readable."""
    try:
        old = finish(folder, folder.load()) if folder.exists() else None
    except RunStateError:
        if if_exists == "overwrite":
            return None
        raise
    if old is not None and not is_sharded(new):
        refuse_sharded(old, "create")
    return old
