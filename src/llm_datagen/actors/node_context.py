"""What an operator sees of the node that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, cast

from llm_datagen.actors.stage import Recipient, tell
from llm_datagen.actors.usage_reports import UsageReports
from llm_datagen.errors import FatalError
from llm_datagen.messages import OperatorLogged, OutageNoted, UsageTotal
from llm_datagen.operators.protocols import IFeedback, IState
from llm_datagen.runs.logs import events
from llm_datagen.runs.logs.writer import PlatformLog
from llm_datagen.streams.rows import Rejected

if TYPE_CHECKING:
    from llm_datagen.runs.outage import OutageReport

_LEVELS = ("info", "warning")
_TAKEN = frozenset({"event", "level", "timestamp", "message", "node_id", "pipeline_id", "run", "self"})
"""Fields of a log line that are not an operator's to set: its own ones of these names get a ``_`` at the end."""


class _NoState:
    """The state of an operator that does not say that it keeps one.

    Args:
        node_id: the node's id.
    """

    def __init__(self, node_id: str) -> None:
        self._node_id = node_id

    def _refuse(self, *_: Any) -> Any:
        """Refuse to be used.

        Raises:
            FatalError: always.
        """
        raise FatalError(
            f"the operator of {self._node_id} uses ctx.state; say so, that it is committed with the rows: "
            "keeps_state = True, as an attribute of its class or function"
        )

    get = items = __getitem__ = __setitem__ = __delitem__ = __contains__ = _refuse


class NodeContext:
    """The `ctx` of an operator. Any thread may use it.

    Args:
        pipeline_id: the pipeline's id.
        node_id: the node's id.
        supervisor: gets usage and what the operator logs.
        log: the platform log.
        folder: where the operator may keep files of its own.
        results_dir: the folder of the runs, or its URI; empty for a node that runs without a folder.
        state: what the operator keeps from row to row; None unless it says that it does.
        feedback: the rows of the node that the operator draws from; None: none.

    Attributes:
        jobs: for how many jobs calls in flight wait.
    """

    def __init__(
        self,
        pipeline_id: str,
        node_id: str,
        supervisor: Recipient,
        log: PlatformLog,
        *,
        folder: Path | None = None,
        results_dir: str = "",
        state: IState | None = None,
        feedback: IFeedback | None = None,
    ) -> None:
        self._feedback: IFeedback = () if feedback is None else feedback
        self._pipeline_id = pipeline_id
        self._node_id = node_id
        self._supervisor = supervisor
        self._log = log
        self._folder = folder
        self._results_dir = results_dir
        self._state = state or _NoState(node_id)
        self._is_cancelled = False
        self._is_paused = False
        self._expects_rows = True
        self._has_all_rows = False
        self._keeps_jobs = True
        self.jobs = 0
        self.usage = UsageReports(pipeline_id, node_id, supervisor)
        """What the operator has reported, on its way to the supervisor."""

    @property
    def node_id(self) -> str:
        """The node's id."""
        return self._node_id

    @property
    def pipeline_id(self) -> str:
        """The pipeline's id."""
        return self._pipeline_id

    @property
    def folder(self) -> Path | None:
        """Where the operator may keep files of its own."""
        return self._folder

    @property
    def results_dir(self) -> str:
        """The folder of the runs, or its URI; empty for a node that runs without a folder."""
        return self._results_dir

    @property
    def state(self) -> IState:
        """What the operator keeps from row to row; to use it, it says that it does: ``keeps_state = True``."""
        return self._state

    @property
    def feedback(self) -> IFeedback:
        """The rows of the node that the operator draws from."""
        return self._feedback

    def report_usage(self, usage: Mapping[str, Any]) -> None:
        """Report what a call used: numbers are summed per `provider` and `model`."""
        self.usage.add(str(usage.get("provider", "")), str(usage.get("model", "")), _numbers(usage))

    def report_usage_total(self, usage: Mapping[str, Any]) -> None:
        """Report a usage total: it takes the place of the sum of its `provider` and `model`."""
        provider, model = str(usage.get("provider", "")), str(usage.get("model", ""))
        tell(self._supervisor, UsageTotal(self._node_id, provider, model, _numbers(usage)))

    def reject(self, reason: str) -> NoReturn:
        """Leave out the row of the call that is running, for a reason."""
        raise Rejected(reason)

    def is_cancelled(self) -> bool:
        """Return whether the run is being cancelled."""
        return self._is_cancelled

    def cancel(self, *, keep_jobs: bool) -> None:
        """Let `is_cancelled` be true from now on, and `keeps_jobs` be false, unless they are to be kept."""
        self._keeps_jobs &= keep_jobs
        self._is_cancelled = True

    def expects_rows(self) -> bool:
        """Return whether a further row may come before one of those in flight has ended."""
        return self._expects_rows

    def has_all_rows(self) -> bool:
        """Return whether every row of the source that is not done is in flight."""
        return self._has_all_rows

    def note_rows(self, *, expects: bool, has_all: bool) -> None:
        """Let `expects_rows` and `has_all_rows` say so from now on."""
        self._expects_rows, self._has_all_rows = expects, has_all

    def wait_for_jobs(self, jobs: int) -> None:
        """Say for how many jobs calls in flight wait."""
        self.jobs = jobs

    def note_outage(self, pool: str, outage: Mapping[str, Any] | None) -> None:
        """Say for which endpoints calls wait, and why; None: one of them answers again."""
        noted = None if outage is None else cast("OutageReport", dict(outage))
        tell(self._supervisor, OutageNoted(self._node_id, pool, noted))

    def keeps_jobs(self) -> bool:
        """Return whether the jobs of the operator go on when the run is cancelled."""
        return self._keeps_jobs

    def is_paused(self) -> bool:
        """Return whether the run is paused."""
        return self._is_paused

    def pause(self, is_paused: bool) -> None:
        """Let `is_paused` say so from now on."""
        self._is_paused = is_paused

    def log(self, message: str, **fields: Any) -> None:
        """Write a line to platform.log and tell the hooks."""
        given = fields.get("level")
        level = fields.pop("level") if isinstance(given, str) and given in _LEVELS else "info"
        own = {f"{name}_" if name in _TAKEN else name: value for name, value in fields.items()}
        write = self._log.warning if level == "warning" else self._log.info
        write(events.OPERATOR_LOG, message=message, node_id=self._node_id, **own)
        state = tuple(map(str, fields.get("own_state") or ()))
        tell(self._supervisor, OperatorLogged(self._pipeline_id, self._node_id, level, message, state))


def _numbers(usage: Mapping[str, Any]) -> dict[str, int | float]:
    # Plain numbers only: they end up in the run state, and float64 of NumPy is a float that JSON does not know.
    return {
        str(key): int(value) if isinstance(value, int) else float(value)
        for key, value in usage.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }
