"""What becomes of tasks that have ended: rows that failed are done with by the policy, the rest is handed out again."""

from __future__ import annotations

from llm_datagen.actors.dispatcher import Dispatcher
from llm_datagen.actors.error_budget import ErrorBudget
from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.actors.wind_down import WindDown
from llm_datagen.errors import FailureRecord
from llm_datagen.messages import OperatorFailed, OperatorFailure, RowsFailed, StopRequested, TaskDone
from llm_datagen.streams import Block


class EndedTasks:
    """Takes the tasks of a node that have ended. Used by the node's own thread.

    Args:
        node_id: the node's id.
        supervisor: is told of failures.
        dispatcher: has handed them out.
        error_budget: counts failures, and knows the policy.
        wind_down: ends the node when the policy says so.
    """

    def __init__(
        self,
        node_id: str,
        supervisor: Recipient,
        dispatcher: Dispatcher,
        error_budget: ErrorBudget,
        wind_down: WindDown,
    ) -> None:
        self._node_id = node_id
        self._supervisor = supervisor
        self._dispatcher = dispatcher
        self._error_budget = error_budget
        self._wind_down = wind_down

    def take(self, ended: TaskDone) -> None:
        """Count what failed in a task, and do with its rows that are not processed what is to be done."""
        result = ended.result
        if result.survived:
            self._error_budget.count_survived(result.survived)
            self._tell_failed(*result.survived)
        if result.calls or result.survived:  # else these are rows that failed, and were counted then
            self._error_budget.count_done(result.source_rows)
        rest, failure = result.rest, result.failure
        if ended.lost:  # the writer has failed, and says why itself
            self._wind_down.begin(keep_jobs=True)
        elif failure is not None and not self._wind_down.is_on:
            if failure.is_stop:
                self.stop_run(failure.record)
            elif rest is None:  # of the end of the source: no row's
                self._give_up(failure)
            else:
                rest = self._without_failed(rest, failure)
        if rest is not None and rest.records:
            self._dispatcher.put_back(rest, is_unknown=failure is not None and failure.is_unknown)

    def stop_run(self, reason: FailureRecord) -> None:
        """End the whole run in good order, as the operator asks."""
        tell(self._supervisor, StopRequested(self._node_id, reason.text))
        self._wind_down.begin(keep_jobs=True)

    def _without_failed(self, rest: Block, failure: OperatorFailure) -> Block:
        """Do with the rows that failed, the first of `rest`, what the policy says; return the others."""
        fatal = self._error_budget.end_by(failure)
        if fatal is not None:
            self._give_up(fatal)
            return rest
        self._tell_failed(failure)
        failed, rest = rest.split_at(failure.rows)
        self._dispatcher.in_flight.deliver(failed, self._error_budget.outcome(failed, failure))
        return rest

    def _tell_failed(self, *failures: OperatorFailure) -> None:
        tell(self._supervisor, RowsFailed(self._node_id, failures, self._error_budget.is_dead_lettered))

    def _give_up(self, failure: OperatorFailure) -> None:
        tell(self._supervisor, OperatorFailed(self._node_id, failure))
        self._wind_down.begin(keep_jobs=True)
