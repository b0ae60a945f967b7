"""A pipeline as it lies on disk: from the blueprint to the run state, and from the run state back."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any, Self

from llm_datagen.config import IfExists, OnChange, OnError, Verify, check_choice
from llm_datagen.errors import (
    ConfigError,
    InputWarning,
    PipelineBusyError,
    PipelineExistsError,
    ResumeWarning,
    RunStateError,
)
from llm_datagen.operators.fingerprint import fingerprint_of
from llm_datagen.operators.import_path import refuse_lookup
from llm_datagen.operators.references import edits_unread, ref_of
from llm_datagen.pipeline.blueprint import new_pipeline_id
from llm_datagen.pipeline.id_column import other_separators
from llm_datagen.pipeline.node import UnifiedNode
from llm_datagen.pipeline.operator_changes import Entry, Reset, compare
from llm_datagen.pipeline.overwrite import delete_outputs, why_refused, why_taken
from llm_datagen.pipeline.path_checks import check_claims, check_layout
from llm_datagen.pipeline.rerun import check_reset, finish
from llm_datagen.pipeline.resume_checks import (
    change_pace,
    change_policy,
    check_nodes,
    count_again,
    edited_since,
    is_untouched,
)
from llm_datagen.pipeline.run import Note, Run
from llm_datagen.pipeline.run_files import kept_paths
from llm_datagen.pipeline.topology import check_topology
from llm_datagen.pipeline.warnings import warn
from llm_datagen.runs import RunFolder
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import LogTarget
from llm_datagen.runs.status import LIVE, Status
from llm_datagen.streams import StreamFactory
from llm_datagen.streams.dead_letters import check_dead_letters, has_dead_letters, release_dead_letters


class StoredPipeline:
    """A pipeline as it lies in its results folder: made, found again, and made ready to go on."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.streaming: bool = settings["streaming"]
        self.results_dir: str = settings["results_dir"]
        self.hooks: IPipelineHooks | None = settings["hooks"]
        self.log_file: LogTarget = settings["log_file"]
        self._is_default = False  # whether the run was created by run() or start() itself
        self.nodes: list[UnifiedNode] = []
        self._folder: RunFolder | None = None
        self._run_state: dict[str, Any] = {}
        self._run: Run | None = None
        self._notes: list[Note] = []  # to be told when the run begins

    # What the kinds differ in.

    def _has_operators(self) -> bool:
        """Return whether the code gives operators; else, they are made again as the run state says."""
        raise TypeError

    def _operators(self, run_state: dict[str, Any]) -> list[Any]:
        """Return the operators in the code, in the order of the run state's nodes."""
        raise TypeError

    def _steps(self, run_state: dict[str, Any]) -> tuple[list[Entry], list[Any]]:
        """Return the nodes as the code has them, drawn for the run of a run state, and their operators.

        The nodes are ``run_state["nodes"]`` itself when the code has the same steps.
        """
        raise TypeError

    def _nodes_of(self, run_state: dict[str, Any]) -> list[UnifiedNode]:
        """Return the nodes that a run state describes, with the operators in the code."""
        raise TypeError

    def _blueprint(self) -> dict[str, Any]:
        """Return the run state as `create()` would make it now, of an id that is not known yet."""
        raise TypeError

    def _ignored(self, run_state: dict[str, Any]) -> list[Note]:
        """Return what the code gives, and a resume does not use."""
        raise TypeError

    # Blueprint.

    @property
    def pipeline_id(self) -> str:
        """The id; empty before `create()` or `resume()`."""
        return self._folder.pipeline_id if self._folder else ""

    def _create(
        self, pipeline_id: str | None, run_state: dict[str, Any], if_exists: IfExists, on_change: OnChange = "refuse"
    ) -> Self:
        refuse_lookup("create()", in_functions=False)
        check_choice("if_exists", if_exists, IfExists)
        check_choice("on_change", on_change, OnChange)
        self._refuse_running()
        folder = RunFolder(self.results_dir, pipeline_id or new_pipeline_id())
        run_state["pipeline_id"] = folder.pipeline_id
        nodes = self._nodes_of(run_state)
        check_topology(nodes)
        for entry, node in zip(run_state["nodes"], nodes, strict=True):
            entry["fingerprint"] = fingerprint_of(node.operator)
        joints = [node.joint for node in nodes]
        check_layout(joints, self.log_file, folder)
        folder.lock.acquire()
        try:
            old = self._old_run_state(folder, if_exists)
            if if_exists == "overwrite":
                delete_outputs([*old["nodes"], *run_state["nodes"]] if old else run_state["nodes"], nodes, folder)
                folder.remove_files()
            elif old and not is_untouched(old, nodes):
                if if_exists == "resume":
                    folder.lock.release()
                    return self.resume(folder.pipeline_id, on_change=on_change)
                # We hold its lock, so what its run state says to be running is not.
                how = "interrupted" if old["status"] in LIVE else old["status"]
                raise PipelineExistsError(why_taken(folder, self.results_dir, how))
            for node in nodes:
                if node.output.exists():
                    raise PipelineExistsError(why_refused(node, folder))
            if if_exists != "overwrite":
                check_claims(joints, self.log_file, folder)
            run_state["files"] = kept_paths(joints, self.log_file)
            folder.save(run_state)
        finally:
            folder.lock.release()
            folder.remove_if_unused()
        self._folder, self._run_state, self.nodes, self._run = folder, run_state, nodes, None
        self._is_default = False
        self._notes = [Note(nodes[0].node_id, text) for text in other_separators(run_state)]
        for note in self._notes:
            warn(note.text, InputWarning)
        return self

    def _old_run_state(self, folder: RunFolder, if_exists: IfExists) -> dict[str, Any] | None:
        """Return the run state that is there already, if one is. To be overwritten, it need not be readable."""
        try:
            return finish(folder, folder.load()) if folder.exists() else None
        except RunStateError:
            if if_exists == "overwrite":
                return None
            raise

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
    ) -> Self:
        """Load the run state and make it ready to go on where it stopped, whatever stopped it (M6).

        Paths, settings and ids come from the run state; only the operators come from the code. When the code gives
        other paths, or other settings, those of the run state are used, and a `ResumeWarning`, the hooks' `on_log` and
        the platform log say so. Nothing is said of a setting that the code does not give.

        Args:
            pipeline_id: the run's id, in `results_dir`.
            on_error: what becomes of rows that fail from now on, in all nodes; None leaves it as it is. A run that a
                bad row has ended goes on with "dead_letter".
            max_errors: how many rows may fail, in each node, with those that have; None, together with `on_error`: any
                number. Alone, it changes the nodes that go on after a row that failed.
            verify: "tail" compares what the last flush of each stream added with its checksum (and the whole of streams
                up to 64 MiB); "full" compares every byte that the run has written.
            on_change: what becomes of rows of operators that were edited since (their code, their prompt, their
                settings; see `BaseOperator.fingerprint`), and when steps were added, removed or moved: "refuse";
                "accept", what is done stays and the rest is done by the operators as they are now; "rerun", the nodes
                that differ, or keep rows of an edit that was accepted before, and all behind them are done again: their
                outputs are deleted, what is before them stays.
            parallel_size: batches in the operator of each node at once, from now on; None leaves it as it is.
            rate: rows that each node may hand to its operator in a second, from now on; 0 takes the limit off.

        Returns:
            The pipeline itself: call `run()` next.

        Raises:
            ConfigError: on a wrong value; on `max_errors` alone, when any row that fails ends the run, in all nodes; on
                "accept" or "rerun", when the code gives no operators: those of the run state know of no edit.
            PipelineNotFoundError: when there is no such run.
            RunStateError: when its run state cannot be read.
            OperatorChangedError: when operators, or the steps, are not those of the run state, and `on_change` does
                not say what is meant; it names what changed. An OperatorMismatchError.
            PipelineBusyError: when it is running, or this object is.
            StreamError: when its files were changed meanwhile; nothing is changed then.

        Warns:
            OperatorWarning: when the run state does not say whether operators were edited.
        """
        with self._locked(pipeline_id) as (folder, run_state):
            change_policy(run_state, on_error, max_errors)
            change_pace(run_state, parallel_size, rate)
            self._resume(folder, run_state, verify=verify, on_change=on_change)
        return self

    def replay(self, pipeline_id: str, *, on_change: OnChange = "refuse") -> Self:
        """Like `resume`, and every dead-lettered row is done again, by the same nodes, with the same id.

        Args:
            pipeline_id: the run's id, in `results_dir`.
            on_change: what becomes of rows of operators that were edited since; see `resume`.

        Returns:
            The pipeline itself: call `run()` next. Rows that fail again are dead-lettered again.

        Raises:
            StreamCorruptError: when dead letters cannot be read; nothing is changed then.
            DatagenError: as `resume`.
        """
        with self._locked(pipeline_id) as (folder, run_state):
            for entry in run_state["nodes"]:
                check_dead_letters(StreamFactory.create(entry["output_uri"]))
            self._resume(folder, run_state, on_change=on_change, is_replay=True)
        return self

    @contextlib.contextmanager
    def _locked(self, pipeline_id: str) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
        """Hold the lock of a run, with its run state as it is once nobody else can change it."""
        refuse_lookup("resume() or replay()", in_functions=False)
        self._refuse_running()
        folder = RunFolder(self.results_dir, pipeline_id)
        folder.load()  # when there is no such run, no folder is made for its lock
        folder.lock.acquire()
        try:
            yield folder, finish(folder, folder.load())
        finally:
            folder.lock.release()

    def _resume(
        self,
        folder: RunFolder,
        run_state: dict[str, Any],
        *,
        verify: Verify = "tail",
        is_replay: bool = False,
        on_change: OnChange = "refuse",
    ) -> None:
        """Check everything, then change what is on the disk: a refusal changes nothing (M22)."""
        if run_state["status"] in {
            Status.RUNNING,
            Status.CANCELING,
        }:  # killed: what was used since its last save is lost
            run_state["usage_is_partial"] = True
        check_choice("verify", verify, Verify)
        check_choice("on_change", on_change, OnChange)
        if on_change != "refuse" and not self._has_operators():
            raise ConfigError(edits_unread(folder.pipeline_id, on_change, "replay" if is_replay else "resume"))
        edit = compare(run_state, *self._steps(run_state), is_replay=is_replay)
        reset = edit.settle(on_change)
        nodes = self._nodes_of(run_state)
        if edit.is_redrawn:
            check_topology(nodes)
        kept = nodes if reset is None else self._as_they_lie(run_state, reset)
        joints = [node.joint for node in nodes]
        check_layout(joints, self.log_file, folder)
        if verify == "full":
            for node in kept:
                node.output.verify()
        check_nodes(kept, run_state)
        if reset is not None:
            check_reset(reset, nodes, folder)
        run_state["files"] = kept_paths(joints, self.log_file)
        edit.warn()
        ignored, edited = self._ignored(run_state), edited_since(kept, run_state)
        for note in ignored:
            warn(note.text, ResumeWarning)
        for entry, node in zip(run_state["nodes"], nodes, strict=True):
            entry["operator_ref"] = ref_of(node.operator)
        if reset is not None:
            run_state["status"], run_state["reset"] = str(Status.RESUMING), reset.mark()
            folder.save(run_state)
            finish(folder, run_state)
        dead_letters = [node.output for node in nodes if is_replay and has_dead_letters(node.output)]
        self._save_state(
            folder, run_state, nodes, is_complete=not dead_letters
        )  # before a stream is less than the run state says
        for node in nodes:
            node.reopen()
        for output in dead_letters:
            release_dead_letters(output)
        if dead_letters:
            self._save_state(folder, run_state, nodes)
        self._folder, self._run_state, self.nodes, self._run = folder, run_state, nodes, None
        self._is_default = False
        self._notes = edit.notes(on_change) + ignored + edited
        self.streaming = bool(run_state["config"]["streaming"])

    def _save_state(
        self, folder: RunFolder, run_state: dict[str, Any], nodes: list[UnifiedNode], *, is_complete: bool = True
    ) -> None:
        """Save what the streams say, so that whatever happens next, the run state says no more than they hold (R1)."""
        count_again(run_state, nodes)
        is_complete = is_complete and all(node.is_finished() for node in nodes)
        run_state["status"] = str(Status.COMPLETED if is_complete else Status.RESUMING)
        folder.save(run_state)

    def _as_they_lie(self, run_state: dict[str, Any], reset: Reset) -> list[UnifiedNode]:
        """Return the nodes that are kept, as they lie on the disk before `reset`."""
        places = {node_id: old.uri for node_id, old, _ in reset.moves}
        entries = [
            {**entry, "output_uri": places.get(entry["node_id"], entry["output_uri"])} for entry in run_state["nodes"]
        ]
        nodes = self._nodes_of({**run_state, "nodes": entries})
        return [node for node in nodes if node.node_id not in reset.again]

    def _refuse_running(self) -> None:
        if self._run is not None and not self._run.is_over():
            raise PipelineBusyError(
                f"this object is still running {self.pipeline_id!r}; wait() for it, or cancel() it and wait(), or use "
                "another object"
            )
