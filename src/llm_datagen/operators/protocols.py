"""The types of operators: what one is, what goes in and out, and what it may ask of its node."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn, Protocol, runtime_checkable

Key = str | int | tuple[str | int, ...]
"""A key of an operator's state."""

Row = dict[str, Any]
"""A row: a JSON object. Rows of another shape are given to operators as the bare value."""

Result = Row | list[Row] | None
"""What a call returns for a row: a row (1:1), a list of rows (1:N, flattened), or None (the row is filtered)."""


class IState(Protocol):
    """The state of a node: keys (text, whole numbers, or tuples of these) and values (anything that JSON has).

    A change counts if and only if the row of its call is committed: what a call changes that fails, or whose row a
    crash takes back, was never there. Memory is bounded, however many keys there are. Used within a call only.
    """

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of a key; `default` when there is none. It is a copy: set it again to change it."""

    def __getitem__(self, key: Key) -> Any:
        """Return the value of a key, or raise KeyError."""

    def __setitem__(self, key: Key, value: Any) -> None:
        """Set the value of a key."""

    def __delitem__(self, key: Key) -> None:
        """Delete a key, or raise KeyError."""

    def __contains__(self, key: Key) -> bool:
        """Return whether a key has a value."""

    def items(self, *first: str | int) -> Iterator[tuple[Key, Any]]:
        """Yield keys and values in the order of the keys (numbers before text); of those that begin with `first`."""


@runtime_checkable
class INodeContext(Protocol):
    """What an operator may ask of, and tell, the node that runs it. Safe to use from any thread."""

    @property
    def node_id(self) -> str:
        """The id of the node that is running the operator, such as ``node_0``."""

    @property
    def pipeline_id(self) -> str:
        """The id of the pipeline, or an empty string for a node that runs by itself."""

    @property
    def folder(self) -> Path | None:
        """A folder of the run's for files of the operator's own, the same in every resume; None where no run is kept.

        The operator makes it if it needs it. All operators of the run share it. ``if_exists="overwrite"`` deletes it.
        """

    @property
    def state(self) -> IState:
        """What the operator keeps from row to row, committed with the rows; it says so by ``keeps_state = True``.

        Raises:
            FatalError: when it does not.
        """

    def report_usage(self, usage: Mapping[str, Any]) -> None:
        """Report what a call used.

        Args:
            usage: numbers are summed per ``provider`` and ``model`` (two optional keys with text), such as
                ``{"model": "m", "prompt_tokens": 12, "completion_tokens": 40}``.
        """

    def reject(self, reason: str) -> NoReturn:
        """Leave out the row of the call that is running, which ends here: the row is filtered, and counted as rejected.

        Not in `process_batch`, which returns `Rejected(reason)` in the place of the row.

        Args:
            reason: why, for people, such as ``"too short"``.

        Raises:
            Rejected: always.
        """

    def is_cancelled(self) -> bool:
        """Return whether the run is being cancelled, so that a long call can give up."""

    def is_paused(self) -> bool:
        """Return whether the run is paused, so that a call which consists of several steps can wait before the next."""

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to platform.log and to the hooks' `on_log`. Never log rows or secrets.

        With ``level="warning"`` the command line shows it, too.
        """


class IFeedback(Protocol):
    """The rows that a node has committed so far, by their numbers."""

    def __len__(self) -> int:
        """Return how many there are now. There are never fewer later."""

    def __getitem__(self, number: int) -> Any:
        """Return a row, with its id."""


class IFeedbackContext(INodeContext, Protocol):
    """The context of an operator that draws from the rows of another node; see `llm_datagen.ops.Feedback`."""

    @property
    def feedback(self) -> IFeedback:
        """The rows that this node has committed."""


@runtime_checkable
class IJobContext(INodeContext, Protocol):
    """The context of an operator whose calls may take very long, as they wait for jobs that others do."""

    @property
    def results_dir(self) -> str:
        """The folder of the runs, or its URI; empty for a node that runs without a folder."""

    def expects_rows(self) -> bool:
        """Return whether a further row may be given to the operator before one of those in flight has ended.

        No: as many are in flight as may be, or the source has ended.
        """

    def has_all_rows(self) -> bool:
        """Return whether every row of the source that is not done is in flight."""

    def report_usage_total(self, usage: Mapping[str, Any]) -> None:
        """Report what calls of a provider and a model have used in all, over all runs: it takes the place of their sum.

        For what is counted elsewhere, on the disk, so that it may be told again.
        """

    def wait_for_jobs(self, jobs: int) -> None:
        """Say for how many jobs calls in flight wait, so that nobody takes the node for stalled; 0: for none."""

    def keeps_jobs(self) -> bool:
        """Return whether jobs go on; no: the run was cancelled in a way that leaves none behind, so cancel them."""


@runtime_checkable
class ISettlesJobs(Protocol):
    """An operator that can end jobs that its calls have left at a provider, of a node that nobody runs now."""

    has_jobs: bool

    async def cancel_jobs(self, files: Path, node_id: str, tell: Callable[[str], None]) -> int:
        """Ask for open jobs to be cancelled; return of how many that was done.

        Args:
            files: where the operators of the run keep their files.
            node_id: the node.
            tell: is told of jobs that were not cancelled, and why.
        """

    async def settle_jobs(
        self,
        files: Path,
        node_id: str,
        *,
        pipeline_id: str,
        results_dir: str,
        seconds: float,
        log: Callable[..., None],
        stopped: Callable[[], bool],
    ) -> None:
        """Cancel open jobs, and wait for their end, to count what they have answered.

        Args:
            files: where the operators of the run keep their files.
            node_id: the node.
            pipeline_id: the run's id.
            results_dir: the folder of the runs.
            seconds: how long to wait. What has not ended by then goes on, and may be settled later.
            log: takes what is to be said of jobs, as `INodeContext.log` does.
            stopped: returns whether to wait no longer.
        """


@runtime_checkable
class IOutageContext(INodeContext, Protocol):
    """The context of an operator whose calls wait while no endpoint answers them."""

    def note_outage(self, pool: str, outage: Mapping[str, Any] | None) -> None:
        """Say for which endpoints calls wait, so that the run state does; again, whenever that has changed.

        Args:
            pool: what stands for these endpoints.
            outage: an `OutageReport`; None: one of them answers again.
        """


@runtime_checkable
class IOperator(Protocol):
    """Anything with a `name` and one of `process_item` and `process_batch`."""

    @property
    def name(self) -> str:
        """The operator's identity: a resume is refused when it differs from the run state's."""


Operator = IOperator | Callable[..., Any]
"""What a pipeline takes as a step: an object with `process_item` or `process_batch`, or a function."""
