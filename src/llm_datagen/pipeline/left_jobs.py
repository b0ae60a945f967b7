"""Jobs at batch APIs that are open when all nodes of a run are completed: nobody needs them, and they cost money.

A target was met, or the rows of an edited prompt were asked anew. They are cancelled, and waited for, so that what they
have answered, which is billed, is counted before the run is completed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from llm_datagen.actors.opened_node import OpenedNode
from llm_datagen.errors import DatagenError, StopRun
from llm_datagen.operators.call import has_jobs, that_settle_jobs
from llm_datagen.runs import RunFolder
from llm_datagen.runs.batch_jobs import BatchJob, BatchState, jobs_of
from llm_datagen.runs.typed_commands import command_line
from llm_datagen.runs.usage import JOBS_UNCOUNTED
from llm_datagen.runs.words import jobs_in_words

SETTLE_SECONDS = 600.0
"""How long jobs that were cancelled are waited for: OpenAI says that it may take ten minutes."""


class LeftJobs:
    """The jobs that are left at the end of a run. Used on the thread of the end's work.

    Args:
        opened: the nodes.
        folder: of the run.
        run_state: the run state.
        log: takes a node's id, a message and fields, for the log of the run and those who watch it.
    """

    def __init__(
        self, opened: Sequence[OpenedNode], folder: RunFolder, run_state: dict[str, Any], log: Callable[..., None]
    ) -> None:
        self._opened = [node for node in opened if that_settle_jobs(node.operator)]
        self._folder = folder
        self._run_state = run_state
        self._log = log

    def may_be(self) -> bool:
        """Return whether there may be some at the end: a node sends jobs, or has sent some that have not ended."""
        return any(has_jobs(node.operator) for node in self._opened) or any(map(_is_left, self._jobs()))

    def settle(self, stopped: Callable[[], bool]) -> None:
        """Cancel them, and wait for their end; tell, and note in the run state, that some have not ended.

        Raises:
            StopRun: when it was stopped.
        """
        notes: list[str] = []
        for node in self._opened:
            left = [job for job in self._jobs() if job.node_id == node.node_id and _is_left(job)]
            if not left:
                continue
            if any(job.is_open for job in left):
                told = f"the run waits for the end of {_counted(left)} that are cancelled, as nobody needs them"
                self._log(node.node_id, told)
            error = self._settle(node, stopped)
            if stopped():
                raise StopRun("jobs were cancelled, and have not ended")
            for note in self._uncounted(node, error):
                self._log(node.node_id, note)
                notes.append(note)
        if notes:
            self._run_state[JOBS_UNCOUNTED] = "; ".join(notes)

    def _settle(self, node: OpenedNode, stopped: Callable[[], bool]) -> Exception | None:
        """Settle the jobs of a node; return why that failed."""
        for operator in that_settle_jobs(node.operator):
            try:
                asyncio.run(
                    operator.settle_jobs(
                        self._folder.files_path,
                        node.node_id,
                        pipeline_id=self._folder.pipeline_id,
                        results_dir=self._folder.results_dir,
                        seconds=SETTLE_SECONDS,
                        log=lambda message, **fields: self._log(node.node_id, message, **fields),
                        stopped=stopped,
                    )
                )
            except Exception as error:  # noqa: BLE001 - the rows are there: the run is completed all the same
                return error
        return None

    def _uncounted(self, node: OpenedNode, error: Exception | None) -> Iterator[str]:
        open_jobs = [job for job in self._jobs() if job.node_id == node.node_id and job.is_open]
        typed = command_line("resume", self._folder.pipeline_id, self._folder.results_dir)
        if not open_jobs and error is not None:
            yield f"jobs of {node.node_id} could not be settled ({error}); try again: {typed}"
        elif open_jobs:
            because = "" if error is None else f" ({error})"
            yield (
                f"what {_counted(open_jobs)} of {node.node_id} at {open_jobs[0].endpoint} answered is billed, and not "
                f"in the cost yet, as they were cancelled and have not ended{because}; count it later: {typed}"
            )

    def _jobs(self) -> list[BatchJob]:
        try:
            return jobs_of(self._folder.files_path)
        except DatagenError:  # a resume that needs them says what is wrong
            return []


def _is_left(job: BatchJob) -> bool:
    """Return whether something is still to be done with a job: it is open, or its files are at the provider."""
    return job.is_open or job.state is BatchState.COLLECTED


def _counted(jobs: Sequence[BatchJob]) -> str:
    return jobs_in_words(len(jobs), sum(job.rows for job in jobs))
