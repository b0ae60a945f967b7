"""One execution of a run in shards: a `Run` whose supervisor has shards run in place of nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import pykka

from llm_datagen.actors.stage import Recipient
from llm_datagen.pipeline.run import Run, StartNotice
from llm_datagen.runs import RunFolder
from llm_datagen.runs.hooks import IPipelineHooks
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.runs.status import PipelineStatus, Status
from llm_datagen.shards.allowance import Allowance
from llm_datagen.shards.executor import ShardExecutor, ShardJob
from llm_datagen.shards.gather import gather_locked
from llm_datagen.shards.limits import Limits
from llm_datagen.shards.passed_events import KINDS
from llm_datagen.shards.plan_file import PlanFile
from llm_datagen.shards.spec import ShardSpec, shards_folder
from llm_datagen.shards.splitter import Splitter
from llm_datagen.shards.standing import Standing
from llm_datagen.shards.supervisor import ShardSupervisor
from llm_datagen.shards.whole_ids import check_numeric_ids

if TYPE_CHECKING:
    from llm_datagen.runs.output_rows import RunOutput


class WholeRun(Run):
    """One execution of a run in shards.

    Args:
        standing: where its shards stand.
        spec: what they do.
        packed: the operators.
        executor: who runs the shards; closed at the end.
        batched: the ids of nodes whose operators take batches.
        folder, run_state, hooks, log, notes: as of `Run`.
        allowance: what shards may use of limits and budgets; stopped at the end.
    """

    def __init__(
        self,
        standing: Standing,
        *,
        spec: ShardSpec,
        packed: bytes,
        executor: ShardExecutor,
        batched: set[str],
        folder: RunFolder,
        run_state: dict[str, Any],
        hooks: IPipelineHooks | None,
        log: PlatformLog,
        notes: Sequence[StartNotice],
        allowance: Allowance,
    ) -> None:
        super().__init__(
            [],
            pipeline_id=folder.pipeline_id,
            streaming=bool(run_state["config"]["streaming"]),
            folder=folder,
            run_state=run_state,
            hooks=hooks,
            log=log,
            notes=notes,
        )
        self._standing, self._spec, self._packed, self._executor = standing, spec, packed, executor
        self._batched, self._whole, self._allowance = batched, folder, allowance
        self._status = PipelineStatus(pipeline_id=folder.pipeline_id, status=Status.PENDING, nodes=standing.reports())

    def _start_supervisor(self, pipeline: Recipient) -> pykka.ActorRef[Any]:
        shards = shards_folder(self._whole)
        supervisor = ShardSupervisor.start(
            self._standing,
            job_of=self._job_of,
            executor=self._executor,
            limits=Limits(self._spec, shards, self._run_state, self._batched, self._log),
            splitter=Splitter(
                self._standing,
                PlanFile(shards.location),
                at_once=self._spec.at_once,
                may_split=not self._spec.is_done_again,
                log=self._log,
            ),
            folder=self._whole,
            saved_state=self._run_state,
            pipeline=pipeline,
            log=self._log,
            at_end=self._end_work,
            is_watched=self._is_watched,
        )
        self._refs.append(supervisor)
        return supervisor

    def _job_of(self, number: int) -> ShardJob:
        location = shards_folder(self._whole).location
        return ShardJob(location, number, self._packed, self._allowance.environment(), self._is_watched())

    def _output(self) -> RunOutput:
        from llm_datagen.runs.output_rows import RunOutput

        states = self._standing.states
        shards = [states[number] for number in self._standing.numbers if number in states]
        return RunOutput(self._run_state, self._whole, self._home, shards)

    def _is_watched(self) -> bool:
        return self._subscribers.want(*KINDS)

    def _clean_up(self) -> None:
        try:
            super()._clean_up()
        finally:
            self._allowance.stop()

    def _finish(self, stopped: Callable[[], bool]) -> Sequence[str]:
        """Do what only the whole can: compare the ids of all shards, and make the outputs and exports of theirs."""
        check_numeric_ids(self._standing.states.values())
        return gather_locked(self._whole, self._run_state, stopped)
