"""The error budget of a node: how many rows failed, whether the node goes on, and the result of such rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from llm_datagen.config import FailurePolicy
from llm_datagen.errors import FailureRecord, TooManyErrorsError
from llm_datagen.executors.error_allowance import ErrorAllowance
from llm_datagen.messages.block_result import BlockResult, OperatorFailure
from llm_datagen.streams import Block


class ErrorBudget:
    """Counts the rows that failed in a node, and does with them what its policy says.

    Args:
        policy: the node's.
        done: rows that are done, from earlier runs; with those that failed.
        failed: rows that failed, in earlier runs.
    """

    def __init__(self, policy: FailurePolicy, *, done: int, failed: int) -> None:
        self._policy = policy
        self._failed = failed
        self.allowance = ErrorAllowance(policy, done=done, failed=failed)
        """What workers ask before they go on after a failure."""

    def count_done(self, rows: int) -> None:
        """Count rows that are done."""
        self.allowance.done += rows

    def count_survived(self, failures: Sequence[OperatorFailure]) -> None:
        """Count the rows of failures that a worker went on after, among rows that are counted as done."""
        self._failed += sum(failure.rows for failure in failures)

    def end_by(self, failure: OperatorFailure) -> OperatorFailure | None:
        """Count the rows of a failure; return what ends the node because of it, None when the node goes on."""
        policy = self._policy
        if policy.on_error == "fail" or failure.is_fatal:
            return failure
        self._failed += failure.rows
        self.allowance.done += failure.rows
        with_others = self.allowance.count(failure.rows)  # whose tasks are not back: a number of rows allows no more
        failed = self._failed if isinstance(policy.max_errors, float) else with_others
        if not policy.is_exceeded(failed, self.allowance.done):
            return None
        error = TooManyErrorsError(
            f"{failed} rows failed, more than max_errors={policy.max_errors} allows; the last one: {failure.record}"
        )
        error.__cause__ = failure.error
        return replace(failure, record=FailureRecord.of(error), error=error)

    @property
    def is_dead_lettered(self) -> bool:
        """Whether they are dead-lettered; else they are skipped."""
        return self._policy.on_error == "dead_letter"

    def outcome(self, block: Block, failure: OperatorFailure) -> BlockResult:
        """Return the outcome of rows that failed, and are done with all the same."""
        return BlockResult(
            block.span,
            skipped=0 if self.is_dead_lettered else failure.rows,
            dead=failure.rows if self.is_dead_lettered else 0,
            dead_letters=failure.dead_letters,
        )
