"""The life of a run in shards on the disk: created, and made ready to go on. Nothing of a shard is touched here."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from llm_datagen.config import IfExists, OnChange, OnError, Verify, check_choice
from llm_datagen.errors import ConfigError, DiskError, PipelineBusyError, ResumeWarning, RunStateError
from llm_datagen.errors.warned import warn
from llm_datagen.operators import operator_name
from llm_datagen.operators.fingerprint import changed_parts, fingerprint_of
from llm_datagen.operators.references import ref_of
from llm_datagen.pipeline.blueprint import nodes_of
from llm_datagen.pipeline.node_entries import new_pipeline_id
from llm_datagen.pipeline.operator_changes import compare
from llm_datagen.pipeline.overwrite import check_deletable
from llm_datagen.pipeline.resume_checks import change_limits, change_policy
from llm_datagen.pipeline.run import StartNotice
from llm_datagen.pipeline.stored import RunLifecycle, StoredRun
from llm_datagen.pipeline.unique_ids import check_ids
from llm_datagen.runs import RunFolder
from llm_datagen.runs.logs.writer import LogTarget
from llm_datagen.runs.sharded import SHARDS, refuse_unsharded
from llm_datagen.runs.status import Status
from llm_datagen.shards.array_task import check_same
from llm_datagen.shards.blueprint import WholeBlueprint
from llm_datagen.shards.claim import nobody_in
from llm_datagen.shards.gather import remove_gathered
from llm_datagen.shards.gathered import check_outputs
from llm_datagen.shards.plan import plan_shards
from llm_datagen.shards.plan_file import PlanFile
from llm_datagen.shards.spec import ShardSpec, shards_folder
from llm_datagen.shards.splittable import input_of
from llm_datagen.shards.standing import Standing
from llm_datagen.shards.whole import readers_of_input
from llm_datagen.streams import StreamFactory

PREPARE_SECONDS = 600.0
"""How long to wait for another process that plans the shards: it reads the whole input once."""

LOOK_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class WholeLifecycle:
    """Makes runs in shards, and makes them ready to go on.

    Attributes:
        blueprint: what the code says.
        results_dir: where runs are kept.
        log_file: the platform log.
        at_once: how many shards are run at once.
        given: what the code says of `shards` and `merge`, as far as it says it.
    """

    blueprint: WholeBlueprint
    results_dir: str
    log_file: LogTarget
    at_once: int
    given: dict[str, Any]

    def create(self, pipeline_id: str | None, if_exists: IfExists, on_change: OnChange) -> StoredRun:
        """Write the run state of a new run; see `UnifiedPipeline.create`."""
        check_choice("if_exists", if_exists, IfExists)
        folder = RunFolder(self.results_dir, pipeline_id or new_pipeline_id())
        if folder.exists():
            if if_exists == "resume" and folder.load()["status"] != Status.PENDING:
                return self.resume(folder.pipeline_id, on_change=on_change)
            if if_exists == "overwrite":
                self._check_outputs(folder.pipeline_id)  # what cannot be done is refused first
                self._check_deletable(folder)
                self._remove_shards(folder)
        else:
            self._check_outputs(folder.pipeline_id)
        lifecycle = RunLifecycle(self.blueprint, self.results_dir, self.log_file)
        return lifecycle.create(folder.pipeline_id, if_exists, on_change)

    def _check_outputs(self, pipeline_id: str) -> None:
        """Check that the outputs of a new run can be made of those of its shards, when these are done."""
        run_state = self.blueprint.run_state(pipeline_id)
        check_outputs(run_state, self.blueprint.merge, self.blueprint.shards)

    def _check_deletable(self, folder: RunFolder) -> None:
        """Check that what lies where the new run is to write may be deleted, as far as it is known."""
        run_state = self.blueprint.run_state(folder.pipeline_id)
        entries = list(run_state["nodes"])
        with contextlib.suppress(RunStateError):  # one that is to be overwritten need not be readable
            entries += folder.load()["nodes"]
        outputs = {stream.place: stream for stream in (StreamFactory.create(each["output_uri"]) for each in entries)}
        check_deletable(list(outputs.values()), nodes_of(self.blueprint, run_state), folder)

    def _remove_shards(self, folder: RunFolder) -> None:
        """Remove the shards of a run that is to be done afresh, and what was made of them."""
        folder.lock.acquire()
        try:
            remove_gathered(folder)
            remove_shards(folder)
        finally:
            folder.lock.release()

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
        check_choice("verify", verify, Verify)
        if target is not None:
            raise ConfigError("target= counts the rows of a whole run, and shards are done by themselves")
        with self._locked(pipeline_id) as (folder, run_state):
            spec = prepared(folder, run_state, self.log_file, self.at_once)
            spec = replace(spec, verify=verify, at_once=min(self.at_once, run_state[SHARDS]["count"]))
            for state in (run_state, spec.run_state):
                change_policy(state, on_error, max_errors)
                change_limits(state, parallel_size, rate)
            return self._resume(folder, run_state, spec, on_change, is_replay=False)

    def replay(self, pipeline_id: str, *, on_change: OnChange) -> StoredRun:
        """Make a run ready to do its dead letters again; see `BasePipeline.replay`."""
        with self._locked(pipeline_id) as (folder, run_state):
            spec = prepared(folder, run_state, self.log_file, self.at_once)
            at_once = min(self.at_once, run_state[SHARDS]["count"])
            spec = replace(spec, replays=spec.replays + 1, at_once=at_once)
            return self._resume(folder, run_state, spec, on_change, is_replay=True)

    def shared(self, pipeline_id: str, on_change: OnChange) -> RunFolder:
        """Return a run whose shards are run one by one, each by who wants to; who comes first makes it, and its plan.

        Args:
            pipeline_id: the run's id.
            on_change: what becomes of rows of operators that were edited since.

        Raises:
            PipelineBusyError: when another process has been making it for `PREPARE_SECONDS`.
            DatagenError: as `create` and `resume`.
        """
        check_choice("on_change", on_change, OnChange)
        folder = RunFolder(self.results_dir, pipeline_id)
        deadline = time.monotonic() + PREPARE_SECONDS
        while True:
            try:
                spec = ShardSpec.load(shards_folder(folder))
                if folder.exists():
                    check_same(self.given, folder.load())
                if spec is None:
                    self._make(folder, on_change)
                elif self._is_edited(spec):
                    self.resume(pipeline_id, on_change=on_change)
                else:
                    break
            except PipelineBusyError:  # another one makes it just now
                if time.monotonic() > deadline:
                    raise
                time.sleep(LOOK_SECONDS)
        for note in self.blueprint.ignored(folder.load()):
            warn(note.text, ResumeWarning)
        return folder

    def _make(self, folder: RunFolder, on_change: OnChange) -> None:
        """Make a run, unless it is there, and its plan."""
        if not folder.exists():
            self.create(folder.pipeline_id, "error", on_change)
        with self._locked(folder.pipeline_id) as (_, run_state):
            prepared(folder, run_state, self.log_file, self.at_once)

    def _is_edited(self, spec: ShardSpec) -> bool:
        """Return whether operators are not those that the shards of a run are done with, or the steps are others."""
        entries, operators = spec.run_state["nodes"], self.blueprint.operators(spec.run_state)
        if [entry["operator"] for entry in entries] != [operator_name(operator) for operator in operators]:
            return True
        known = zip(entries, operators, strict=True)
        return any(changed_parts(entry["fingerprint"], fingerprint_of(operator)) for entry, operator in known)

    @contextlib.contextmanager
    def _locked(self, pipeline_id: str) -> Iterator[tuple[RunFolder, dict[str, Any]]]:
        folder = RunFolder(self.results_dir, pipeline_id)
        refuse_unsharded(folder.load())
        folder.lock.acquire()
        try:
            yield folder, folder.load()
        finally:
            folder.lock.release()

    def _resume(
        self, folder: RunFolder, run_state: dict[str, Any], spec: ShardSpec, on_change: OnChange, *, is_replay: bool
    ) -> StoredRun:
        """Check everything, then change what is on the disk: a refusal changes nothing (M22)."""
        check_choice("on_change", on_change, OnChange)
        if on_change == "rerun":
            raise ConfigError(
                "on_change='rerun' keeps what was there as an earlier version, which runs in shards do not have; give "
                "'replace' (--replace), and it is deleted, or 'accept' (--accept-changes)"
            )
        standing = standing_of(folder, spec)
        run_state["nodes"] = [
            {**entry, **report.as_dict()} for entry, report in zip(run_state["nodes"], standing.reports(), strict=True)
        ]
        operators = self.blueprint.operators(run_state)
        edit = compare(run_state, *self.blueprint.steps(run_state), is_replay=is_replay, rows_done=_rows_done)
        edit.settle(on_change)
        nodes = nodes_of(self.blueprint, run_state)
        ignored = [*self.blueprint.ignored(run_state), *self._ignored(run_state)]
        edit.warn()
        for note in ignored:
            warn(note.text, ResumeWarning)
        for entry, operator in zip(run_state["nodes"], operators, strict=True):
            entry["operator_ref"] = ref_of(operator)
        goes_on = spec.on_change if on_change == "refuse" and standing.left else on_change
        spec.with_run_state(run_state, on_change=goes_on).save(shards_folder(folder))
        run_state["status"] = str(Status.RESUMING)
        folder.save(run_state)
        return StoredRun(folder=folder, state=run_state, nodes=nodes, notes=edit.notes(on_change) + ignored)

    def _ignored(self, run_state: dict[str, Any]) -> list[StartNotice]:
        """Return what the code says of the shards, and the run has otherwise."""
        known, node_id = run_state[SHARDS], run_state["nodes"][0]["node_id"]
        names = {"shards": "count", "merge": "merge"}
        return [
            StartNotice(
                node_id,
                f"{name}={value!r} is not used: run {run_state['pipeline_id']!r} was made with {known[names[name]]!r}, "
                "which stays as it is",
            )
            for name, value in self.given.items()
            if value != known[names[name]]
        ]


def prepared(folder: RunFolder, run_state: dict[str, Any], log_file: LogTarget, at_once: int) -> ShardSpec:
    """Return what the shards of a run do; of a new one, that is written first, and so is the plan. The run is locked.

    Args:
        folder: that of the run.
        run_state: its run state.
        log_file: the platform log of the whole.
        at_once: how many shards are run at once.

    Raises:
        StreamError: when the input cannot be split: it is not there, or cannot be read.
        IdError: when two of its rows have one id.
        RunStateError: when plan or spec cannot be read, or the run was moved.
        DiskError: when they cannot be written.
    """
    shards = shards_folder(folder)
    spec = ShardSpec.load(shards)
    if spec is not None:
        spec.refuse_moved(shards)
        return spec
    source, readers = input_of(run_state["nodes"]), readers_of_input(run_state["nodes"])
    if any(entry["node_id"] in readers and not entry["is_root"] for entry in run_state["nodes"]):
        check_ids(source, follow=False)  # two shards could have one id, and neither would see it
    PlanFile(shards.location).create(plan_shards(source, run_state[SHARDS]["count"]))
    spec = ShardSpec.of(run_state, shards, has_log=log_file is not None, at_once=at_once)
    spec.save(shards)
    return spec


def standing_of(folder: RunFolder, spec: ShardSpec) -> Standing:
    """Return where the shards of a run stand."""
    shards = shards_folder(folder)
    return Standing(shards, PlanFile(shards.location).load(), spec)


def remove_shards(folder: RunFolder) -> None:
    """Remove the shards of a run that is locked, with their plan.

    Raises:
        DiskError: when they cannot be removed.
        ConfigError: when they lie on a store.
        PipelineBusyError: when a process still has one of them.
    """
    if folder.is_on_store:
        if ShardSpec.load(shards_folder(folder)) is not None:
            raise ConfigError(
                f"run {folder.pipeline_id!r} has shards on a store, which are not deleted from here; choose another id"
            )
        return
    path = folder.path / SHARDS
    try:
        if path.exists():
            with nobody_in(path):
                shutil.rmtree(path)
    except OSError as error:
        raise DiskError(error.errno, error.strerror or str(error), error.filename) from error


def _rows_done(entry: dict[str, Any]) -> tuple[int, int]:
    """Return how many source rows a node has done over all shards, and how many are dead letters."""
    return entry["rows_in"] - entry["dead_letters"], entry["dead_letters"]
