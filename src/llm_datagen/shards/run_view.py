"""The runs that there are, with their true status: a run state may still name a process that is dead."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llm_datagen.errors import DatagenError, DiskError, PipelineNotFoundError, RunStateError
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchJob, in_words, jobs_of
from llm_datagen.runs.export_entries import exports_of
from llm_datagen.runs.run_progress import RunProgress
from llm_datagen.runs.seen import see
from llm_datagen.runs.sharded import is_sharded
from llm_datagen.runs.status import INTERRUPTED
from llm_datagen.runs.store import run_ids
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.unsettled import unsettled
from llm_datagen.runs.words import time_in_words
from llm_datagen.shards.spending import RunSpending, spending_of

if TYPE_CHECKING:
    from llm_datagen.shards.whole import Whole

UNREADABLE = "unreadable"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """A run, as it is shown.

    Attributes:
        pipeline_id: its id.
        results_dir: the folder of the runs, absolute, or its URI.
        status: its true status.
        state: its run state; empty when it cannot be read.
        is_live: whether a process runs it.
        note: what else to show.
        whole: its shards; None of a run that is not in shards.
    """

    pipeline_id: str
    results_dir: str
    status: str
    state: dict[str, Any] = field(default_factory=dict)
    is_live: bool = False
    note: str = ""
    whole: Whole | None = field(default=None, repr=False)

    @property
    def parts(self) -> list[tuple[int | None, dict[str, Any]]]:
        """The run states that say where its streams lie: its own; or those of its shards, each with its number."""
        if self.whole is None:
            return [(None, self.state)]
        return [(shard.number, shard.state) for shard in self.whole.shards if shard.state]

    @property
    def folders(self) -> list[RunFolder]:
        """The folders in which its operators keep what is theirs: its own; or those of its shards."""
        return [RunFolder(self.results_dir, self.pipeline_id)] if self.whole is None else self.whole.folders

    @property
    def spending(self) -> RunSpending | None:
        """What it has spent of its budget, read now; None of a run without an account."""
        return spending_of(self.folders)

    @property
    def jobs(self) -> list[BatchJob]:
        """Its jobs at batch APIs, read now, the oldest first; none where a job log cannot be read."""
        try:
            return jobs_of(*(folder.files_path for folder in self.folders))
        except DatagenError:
            return []

    @property
    def jobs_in_words(self) -> str:
        """How they stand; empty when there are none."""
        return in_words(self.jobs)

    @property
    def rerun_note(self) -> str:
        """A note about a `rerun` that was interrupted; empty when there is none."""
        names = sorted(unsettled(self.state))
        if not names:
            return ""
        return (
            f"a rerun was cut short: what {', '.join(names)} read or made is still to be taken away or moved, and was "
            f"not looked at; resume finishes that first: {self.command('resume')}"
        )

    @property
    def counts_as_of(self) -> str | None:
        """When the counts of a run that was killed were saved: rows may have been committed since. None of others."""
        return self.state.get("updated_at") if self.status == INTERRUPTED else None

    @property
    def counts_note(self) -> str:
        """A note on the counts of a run that was killed; empty of others."""
        if self.counts_as_of is None:
            return ""
        counts = f"{self.command('verify')} counts what is committed"
        return f"counts are those of the last save, {time_in_words(self.counts_as_of)}: there may be more; {counts}"

    def command(self, verb: str, *, arguments: Sequence[str] = (), options: Sequence[str] = ()) -> str:
        """Return the command to type for it; see `command_line`."""
        return command_line(verb, self.pipeline_id, self.results_dir, arguments=arguments, options=options)

    @property
    def progress(self) -> RunProgress:
        """How far it is."""
        return RunProgress.of(self.state, self.status, is_live=self.is_live)

    def as_dict(self) -> dict[str, Any]:
        """Return it as plain data: the run state, with the status that is true, and the one that was saved."""
        state, progress, spending = self.state, self.progress, self.spending
        if self.whole is not None:
            from llm_datagen.shards.shown_streams import as_shown

            state = as_shown(state, self.whole.folder)
        return {
            **state,
            "pipeline_id": self.pipeline_id,
            "status": self.status,
            "saved_status": self.state.get("status"),
            "note": self.note,
            "counts_as_of": self.counts_as_of,
            "jobs": [job.as_dict() for job in self.jobs],
            "bottleneck": progress.limit,
            "eta_s": progress.seconds_left,
            "spending": None if spending is None else spending.as_dict(),
        }

    def brief(self) -> dict[str, Any]:
        """Return it as plain data, in short."""
        progress = self.progress
        return {
            "pipeline_id": self.pipeline_id,
            "status": self.status,
            "rows_in": progress.rows_done,
            "total": progress.rows_total,
            "total_is_exact": progress.total_is_exact,
            "rows_out": progress.out.total,
            "outputs": list(progress.out.outputs),
            "rows_per_second": progress.rows_per_second,
            "eta_s": progress.seconds_left,
            "failed": progress.failed,
            "exports": exports_of(self.state),
            "stalled": [node.node_id for node in progress.nodes if node.stalled],
            "outages": [node.node_id for node in progress.nodes if node.outage],
            "updated_at": self.state.get("updated_at"),
            "counts_as_of": self.counts_as_of,
            "note": self.note,
        }


def read_run(folder: RunFolder) -> RunView:
    """Return a run with its true status.

    Raises:
        PipelineNotFoundError: when there is none.
        RunStateError: when its run state cannot be read.
    """
    seen, whole = see(folder), None
    if is_sharded(seen.state):
        from llm_datagen.shards.whole import Whole

        whole = Whole.of(folder, seen)
        seen = whole.see()
    return RunView(
        pipeline_id=folder.pipeline_id,
        results_dir=folder.results_dir,
        status=seen.status,
        state=seen.state,
        is_live=seen.is_live,
        note=seen.note,
        whole=whole,
    )


def folders_of(folder: RunFolder, run_state: Mapping[str, Any]) -> Sequence[RunFolder]:
    """Return the folders in which the operators of a run keep what is theirs: its own; or those of its shards.

    Args:
        folder: of the run.
        run_state: of the run.
    """
    if not is_sharded(run_state):
        return [folder]
    from llm_datagen.shards.whole import Whole

    return Whole.of(folder, see(folder)).folders


def all_runs(results_dir: str) -> list[RunView]:
    """Return all runs in a folder, the one with the latest change at the end."""
    runs = []
    for pipeline_id in run_ids(results_dir):
        try:
            runs.append(read_or_unreadable(RunFolder(results_dir, pipeline_id)))
        except PipelineNotFoundError:
            continue  # it was removed meanwhile
    return sorted(runs, key=lambda run: (run.state.get("updated_at") or "", run.pipeline_id))


def read_or_unreadable(folder: RunFolder) -> RunView:
    """Return a run with its true status: "unreadable", with the reason, when its run state cannot be read.

    Raises:
        PipelineNotFoundError: when there is none.
        DiskError: when it is on a store that is out of reach, with all others there.
    """
    try:
        return read_run(folder)
    except (RunStateError, DiskError) as error:
        if isinstance(error, DiskError) and folder.is_on_store:
            raise
        return RunView(
            pipeline_id=folder.pipeline_id, results_dir=folder.results_dir, status=UNREADABLE, note=str(error)
        )
